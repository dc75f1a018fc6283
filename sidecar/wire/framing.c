/* SPDX-License-Identifier: Apache-2.0 */
/* The strict scan of request heads. Not here: what is done about a refused one (front/), replies (http_reply.c).
 * Always: each byte is looked at once or twice, lines are found by memchr and values eight bytes at a time: every hit pays for this. */
#include "sidecar/wire/framing.h"

#define LENGTH_DIGITS_MAX 19

/* RFC 9110 5.6.2 */
static const bool token_bytes[256] = {
    ['0' ... '9'] = true, ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['!'] = true, ['#'] = true, ['$'] = true,
    ['%'] = true,         ['&'] = true,         ['\''] = true,        ['*'] = true, ['+'] = true, ['-'] = true,
    ['.'] = true,         ['^'] = true,         ['_'] = true,         ['`'] = true, ['|'] = true, ['~'] = true,
};

/* RFC 3986 3.2.2 reg-name, but for the comma: a list of hosts looks like one host with it. IPv6 literals: within their brackets, ':' joins. */
static const bool host_bytes[256] = {
    ['0' ... '9'] = true, ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['-'] = true, ['.'] = true, ['_'] = true,
    ['~'] = true,         ['%'] = true,         ['!'] = true,         ['$'] = true, ['&'] = true, ['('] = true,
    ['\''] = true,        [')'] = true,         ['*'] = true,         ['+'] = true, [';'] = true, ['='] = true,
};

struct seen {
    bool length, coding, host;
    bool is_version_1_0;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Whether one of eight bytes is below SP, or DEL */
static bool any_control(uint64_t x)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7, del = x ^ (ones * 0x7f);

    return (((x - ones * ' ') & ~x) | ((del - ones) & ~del)) & highs;
}

/* Free of control bytes, HTAB excepted */
static bool is_text(struct span s)
{
    bool is_suspect = false;
    uint64_t word;
    size_t i;

    for (i = 0; i + sizeof(word) <= s.n; i += sizeof(word)) {
        memcpy(&word, s.p + i, sizeof(word));
        is_suspect |= any_control(word);
    }
    if (i != s.n && s.n >= sizeof(word)) {
        /* the rest once more with what stands before it */
        memcpy(&word, s.p + s.n - sizeof(word), sizeof(word));
        is_suspect |= any_control(word);
    } else if (i != s.n) {
        is_suspect = true;
    }
    if (is_suspect)
        for (i = 0; i != s.n; ++i)
            if (((unsigned char)s.p[i] < ' ' && s.p[i] != '\t') || s.p[i] == 0x7f)
                return false;
    return true;
}

/* The line at *p without its CRLF; *p: behind it. */
static enum framing take_line(const char **p, const char *end, struct span *ret)
{
    const char *lf = *p != end ? memchr(*p, '\n', (size_t)(end - *p)) : NULL;

    if (lf == NULL)
        return FRAMING_INCOMPLETE;
    if (lf == *p || lf[-1] != '\r')
        return FRAMING_LINE_END;
    *ret = (struct span){*p, (size_t)(lf - 1 - *p)};
    *p = lf + 1;
    return FRAMING_CLEAR;
}

static enum framing scan_request_line(struct span line, struct seen *seen)
{
    struct span version;
    size_t method_bytes = 0;

    while (method_bytes != line.n && token_bytes[(unsigned char)line.p[method_bytes]])
        ++method_bytes;
    /* METHOD SP TARGET SP HTTP/1.x */
    if (method_bytes == 0 || line.n < method_bytes + 11 || line.p[method_bytes] != ' ')
        return FRAMING_REQUEST_LINE;
    version = (struct span){line.p + line.n - 9, 9};
    if (span_eq(version, SPAN(" HTTP/1.0")))
        seen->is_version_1_0 = true;
    else if (!span_eq(version, SPAN(" HTTP/1.1")))
        return FRAMING_REQUEST_LINE;
    line = (struct span){line.p + method_bytes + 1, line.n - method_bytes - 1 - version.n};
    if (memchr(line.p, ' ', line.n) != NULL || memchr(line.p, '\t', line.n) != NULL)
        return FRAMING_REQUEST_LINE;
    return is_text(line) ? FRAMING_CLEAR : FRAMING_CONTROL;
}

/* Without blanks at its ends; RFC 9110 5.6.3 */
static struct span trim(struct span s)
{
    while (s.n != 0 && (*s.p == ' ' || *s.p == '\t'))
        s = (struct span){s.p + 1, s.n - 1};
    while (s.n != 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        --s.n;
    return s;
}

static bool is_length(struct span value)
{
    if (value.n == 0 || value.n > LENGTH_DIGITS_MAX)
        return false;
    for (size_t i = 0; i != value.n; ++i)
        if (!is_digit(value.p[i]))
            return false;
    return true;
}

static bool is_host(struct span value)
{
    size_t i = 0;

    if (value.n != 0 && value.p[0] == '[') {
        for (i = 1; i != value.n && (host_bytes[(unsigned char)value.p[i]] || value.p[i] == ':'); ++i)
            ;
        if (i == value.n || value.p[i] != ']')
            return false;
        ++i;
    } else {
        while (i != value.n && host_bytes[(unsigned char)value.p[i]])
            ++i;
    }
    if (i != value.n && value.p[i++] != ':')
        return false;
    for (; i != value.n; ++i)
        if (!is_digit(value.p[i]))
            return false;
    return true;
}

static enum framing scan_field(struct span line, struct seen *seen)
{
    struct span name = {line.p, 0}, value;

    if (*line.p == ' ' || *line.p == '\t')
        return FRAMING_FOLD;
    /* the CR behind the line is no token */
    while (token_bytes[(unsigned char)name.p[name.n]])
        ++name.n;
    if (name.n == 0 || name.p[name.n] != ':')
        return FRAMING_FIELD;
    value = (struct span){line.p + name.n + 1, line.n - name.n - 1};
    if (!is_text(value))
        return FRAMING_CONTROL;
    if (name.n == sizeof("host") - 1 && span_ieq(name, SPAN("host"))) {
        if (seen->host)
            return FRAMING_HOSTS;
        seen->host = true;
        return is_host(trim(value)) ? FRAMING_CLEAR : FRAMING_HOST;
    }
    if (name.n == sizeof("content-length") - 1 && span_ieq(name, SPAN("content-length"))) {
        if (seen->length)
            return FRAMING_LENGTHS;
        if (seen->coding)
            return FRAMING_LENGTH_CODING;
        seen->length = true;
        return is_length(trim(value)) ? FRAMING_CLEAR : FRAMING_LENGTH;
    }
    if (name.n == sizeof("transfer-encoding") - 1 && span_ieq(name, SPAN("transfer-encoding"))) {
        if (seen->coding)
            return FRAMING_CODINGS;
        if (seen->length)
            return FRAMING_LENGTH_CODING;
        seen->coding = true;
        return !seen->is_version_1_0 && span_ieq(trim(value), SPAN("chunked")) ? FRAMING_CLEAR : FRAMING_CODING;
    }
    return FRAMING_CLEAR;
}

enum framing framing_scan(struct span bytes, struct framing_head *ret)
{
    const char *p = bytes.p, *end = bytes.p + bytes.n;
    struct seen seen = {false};
    struct span line;
    enum framing r;

    if (bytes.n == 0)
        return FRAMING_INCOMPLETE;
    if ((r = take_line(&p, end, &line)) != FRAMING_CLEAR)
        return r;
    /* one empty line before a request is ignored (RFC 9112 2.2) */
    if (line.n == 0 && (r = take_line(&p, end, &line)) != FRAMING_CLEAR)
        return r;
    if ((r = scan_request_line(line, &seen)) != FRAMING_CLEAR)
        return r;
    for (;;) {
        if ((r = take_line(&p, end, &line)) != FRAMING_CLEAR)
            return r;
        if (line.n == 0)
            break;
        if ((r = scan_field(line, &seen)) != FRAMING_CLEAR)
            return r;
    }
    if (!seen.host && !seen.is_version_1_0)
        return FRAMING_HOST;
    *ret = (struct framing_head){.bytes = (size_t)(p - bytes.p), .is_chunked = seen.coding};
    return FRAMING_CLEAR;
}

const char *framing_word(enum framing f)
{
    static const char *const words[] = {
#define X(name, word) [FRAMING_##name] = word,
        FRAMINGS(X)
#undef X
    };

    return words[f];
}
