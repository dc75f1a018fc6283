/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 replies read strictly. Not here: sockets (upstream/upstream.c), what a header means to the cache (headers.c). */
#include "sidecar/wire/http_reply.h"

#include <errno.h>

#define LINE_MAX_BYTES 4096

static bool is_token_byte(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Free of control bytes, HTAB excepted */
static bool is_text(struct span s)
{
    for (size_t i = 0; i != s.n; ++i)
        if (((unsigned char)s.p[i] < ' ' && s.p[i] != '\t') || s.p[i] == 0x7f)
            return false;
    return true;
}

/* The line at p without its LF or CRLF; next: where the following one begins. False: no whole line yet. */
static bool take_line(const char *p, const char *end, struct span *ret, const char **next)
{
    const char *lf = p != end ? memchr(p, '\n', (size_t)(end - p)) : NULL;

    if (lf == NULL)
        return false;
    *next = lf + 1;
    *ret = (struct span){p, (size_t)(lf - p)};
    if (ret->n != 0 && ret->p[ret->n - 1] == '\r')
        --ret->n;
    return true;
}

static bool parse_status_line(struct http_head *ret, struct span line)
{
    const char *p = line.p;

    /* HTTP/1.x SP 3DIGIT [SP reason] */
    if (line.n < 12 || memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') || p[8] != ' ')
        return false;
    for (int i = 9; i != 12; ++i)
        if (p[i] < '0' || p[i] > '9')
            return false;
    if (line.n > 12 && p[12] != ' ')
        return false;
    ret->minor_version = p[7] - '0';
    ret->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    ret->reason = line.n > 13 ? (struct span){p + 13, line.n - 13} : SPAN("");
    if (!is_text(ret->reason))
        return false;
    return ret->status >= 100;
}

static bool parse_length(struct span value, uint64_t *ret)
{
    uint64_t n = 0;

    if (value.n == 0 || value.n > 18)
        return false;
    for (size_t i = 0; i != value.n; ++i) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(value.p[i] - '0');
    }
    *ret = n;
    return true;
}

/* The length of "5" or of "5, 5" */
static bool parse_lengths(struct span value, bool *seen, uint64_t *ret)
{
    for (;;) {
        const char *comma = memchr(value.p, ',', value.n);
        uint64_t n;

        if (!parse_length(span_trim((struct span){value.p, comma != NULL ? (size_t)(comma - value.p) : value.n}), &n) ||
            (*seen && n != *ret))
            return false;
        *seen = true;
        *ret = n;
        if (comma == NULL)
            return true;
        value = (struct span){comma + 1, value.n - (size_t)(comma + 1 - value.p)};
    }
}

static bool has_element(struct span list, struct span word)
{
    while (list.n != 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma != NULL ? (size_t)(comma - list.p) : list.n;

        if (span_ieq(span_trim((struct span){list.p, n}), word))
            return true;
        if (comma == NULL)
            break;
        list = (struct span){comma + 1, list.n - n - 1};
    }
    return false;
}

/* RFC 9112 6.3 */
static bool decide_framing(struct http_head *ret, bool answers_head)
{
    bool has_length = false, is_chunked = false, says_close = false, says_keep_alive = false;

    for (size_t i = 0; i != ret->field_count; ++i) {
        struct span name = ret->fields[i].name, value = ret->fields[i].value;

        if (span_ieq(name, SPAN("transfer-encoding"))) {
            if (is_chunked || !span_ieq(value, SPAN("chunked")))
                return false;
            is_chunked = true;
        } else if (span_ieq(name, SPAN("content-length"))) {
            if (!parse_lengths(value, &has_length, &ret->content_bytes))
                return false;
        } else if (span_ieq(name, SPAN("connection"))) {
            says_close |= has_element(value, SPAN("close"));
            says_keep_alive |= has_element(value, SPAN("keep-alive"));
        }
    }
    if (is_chunked && (has_length || ret->minor_version == 0))
        return false;
    ret->keeps_alive = !says_close && (ret->minor_version == 1 || says_keep_alive);
    if (answers_head || ret->status < 200 || ret->status == 204 || ret->status == 304) {
        ret->framing = HTTP_NO_BODY;
        /* whoever announces a body with 204 may send it too, and the next caller would read it */
        if (ret->status == 204 && !answers_head && (is_chunked || ret->content_bytes != 0))
            ret->keeps_alive = false;
        if (!has_length)
            ret->content_bytes = UINT64_MAX;
    } else if (is_chunked) {
        ret->framing = HTTP_CHUNKED;
    } else if (has_length) {
        ret->framing = HTTP_LENGTH;
    } else {
        ret->framing = HTTP_UNTIL_CLOSE;
        ret->keeps_alive = false;
    }
    return true;
}

long http_head_parse(struct http_head *ret, struct span bytes, bool answers_head)
{
    const char *p = bytes.p, *end = bytes.p + bytes.n, *next;
    struct span line;
    bool is_whole = false;

    ret->field_count = 0;
    ret->content_bytes = 0;
    /* nothing yet, perhaps without a place in memory */
    if (bytes.n == 0)
        return 0;
    if (!take_line(p, end, &line, &next))
        return bytes.n > HTTP_HEAD_MAX ? -EBADMSG : 0;
    if (!parse_status_line(ret, line))
        return -EBADMSG;
    for (p = next; take_line(p, end, &line, &next); p = next) {
        const char *colon;
        struct http_field field;

        if (line.n == 0) {
            is_whole = true;
            break;
        }
        colon = memchr(line.p, ':', line.n);
        if (colon == NULL || colon == line.p || ret->field_count == HTTP_FIELDS_MAX)
            return -EBADMSG;
        field.name = (struct span){line.p, (size_t)(colon - line.p)};
        field.value = span_trim((struct span){colon + 1, line.n - field.name.n - 1});
        for (size_t i = 0; i != field.name.n; ++i)
            if (!is_token_byte((unsigned char)field.name.p[i]))
                return -EBADMSG;
        if (!is_text(field.value))
            return -EBADMSG;
        ret->fields[ret->field_count++] = field;
    }
    if (!is_whole)
        return bytes.n > HTTP_HEAD_MAX ? -EBADMSG : 0;
    if (next - bytes.p > HTTP_HEAD_MAX || !decide_framing(ret, answers_head))
        return -EBADMSG;
    return next - bytes.p;
}

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_BLANK,     /* after a size: only an extension or the line's end may follow */
    CHUNK_EXTENSION, /* to the end of the size line */
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER_START, /* first byte of a trailer line, or the end */
    CHUNK_TRAILER,
    CHUNK_END_LF,
};

void http_body_init(struct http_body *body, const struct http_head *head)
{
    *body = (struct http_body){.framing = head->framing, .state = CHUNK_SIZE};
    if (head->framing == HTTP_LENGTH)
        body->left = head->content_bytes;
    body->is_complete = head->framing == HTTP_NO_BODY || (head->framing == HTTP_LENGTH && head->content_bytes == 0);
}

static int hex_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* After the size line: the data, or the trailer when the size was 0. */
static void begin_chunk(struct http_body *b)
{
    b->state = b->left != 0 ? CHUNK_DATA : CHUNK_TRAILER_START;
    b->digits = b->line_bytes = 0;
}

static long feed_chunked(struct http_body *b, struct span bytes, http_body_fn fn, void *ctx)
{
    const char *p = bytes.p, *end = bytes.p + bytes.n;

    while (p != end && !b->is_complete) {
        char c = *p;

        switch ((enum chunk_state)b->state) {
        case CHUNK_SIZE: {
            int digit = hex_of(c);

            if (digit >= 0) {
                if (++b->digits > 15)
                    return -EBADMSG;
                b->left = b->left * 16 + (uint64_t)digit;
                ++p;
            } else if (b->digits == 0) {
                return -EBADMSG;
            } else if (c == '\r') {
                b->state = CHUNK_SIZE_LF;
                ++p;
            } else if (c == ';' || c == ' ' || c == '\t') {
                b->state = c == ';' ? CHUNK_EXTENSION : CHUNK_BLANK;
                ++p;
            } else {
                return -EBADMSG;
            }
            break;
        }
        case CHUNK_BLANK:
            if (++b->line_bytes > LINE_MAX_BYTES || (c != ' ' && c != '\t' && c != ';' && c != '\r'))
                return -EBADMSG;
            if (c == '\r')
                b->state = CHUNK_SIZE_LF;
            else if (c == ';')
                b->state = CHUNK_EXTENSION;
            ++p;
            break;
        case CHUNK_EXTENSION:
            if (++b->line_bytes > LINE_MAX_BYTES || c == '\n')
                return -EBADMSG;
            if (c == '\r')
                b->state = CHUNK_SIZE_LF;
            ++p;
            break;
        case CHUNK_SIZE_LF:
            if (c != '\n')
                return -EBADMSG;
            begin_chunk(b);
            ++p;
            break;
        case CHUNK_DATA: {
            size_t n = (size_t)(end - p) < b->left ? (size_t)(end - p) : (size_t)b->left;

            fn(ctx, (struct span){p, n});
            p += n;
            if ((b->left -= n) == 0)
                b->state = CHUNK_DATA_CR;
            break;
        }
        case CHUNK_DATA_CR:
            if (c != '\r')
                return -EBADMSG;
            b->state = CHUNK_DATA_LF;
            ++p;
            break;
        case CHUNK_DATA_LF:
            if (c != '\n')
                return -EBADMSG;
            b->state = CHUNK_SIZE;
            ++p;
            break;
        case CHUNK_TRAILER_START:
            if (c == '\n')
                return -EBADMSG;
            b->state = c == '\r' ? CHUNK_END_LF : CHUNK_TRAILER;
            ++p;
            break;
        case CHUNK_TRAILER:
            if (++b->line_bytes > LINE_MAX_BYTES)
                return -EBADMSG;
            if (c == '\n')
                b->state = CHUNK_TRAILER_START;
            ++p;
            break;
        case CHUNK_END_LF:
            if (c != '\n')
                return -EBADMSG;
            b->is_complete = true;
            ++p;
            break;
        }
    }
    return p - bytes.p;
}

long http_body_feed(struct http_body *body, struct span bytes, http_body_fn fn, void *ctx)
{
    size_t n = bytes.n;

    if (bytes.n == 0 || body->is_complete)
        return 0;
    switch (body->framing) {
    case HTTP_NO_BODY:
        return 0;
    case HTTP_CHUNKED:
        return feed_chunked(body, bytes, fn, ctx);
    case HTTP_LENGTH:
        if (n > body->left)
            n = (size_t)body->left;
        fn(ctx, (struct span){bytes.p, n});
        body->is_complete = (body->left -= n) == 0;
        return (long)n;
    case HTTP_UNTIL_CLOSE:
        fn(ctx, bytes);
        return (long)n;
    }
    return -EBADMSG;
}
