/* SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"
#include <strings.h>
#include "json.h"
#include "options.h"

#define SIZE_FIRST 4096
#define HEAD_MAX   65536

const char *const failure_names[FAILURES] = {"", "connect", "closed", "timeout", "http", "status", "error", "id", "content"};

void answer_new(struct answer *a)
{
    *a = (struct answer){.size = SIZE_FIRST, .bytes = malloc(SIZE_FIRST + 1)};
    must(a->bytes != NULL);
    answer_begin(a);
}

void answer_begin(struct answer *a)
{
    a->have = a->head = 0;
    a->must_close = 0;
    a->bytes[0] = '\0';
}

void answer_grow(struct answer *a)
{
    a->size *= 2;
    a->bytes = realloc(a->bytes, a->size + 1);
    must(a->bytes != NULL);
}

static int is_named(const char *line, size_t n, const char *name)
{
    size_t bytes = strlen(name);
    return n > bytes && strncasecmp(line, name, bytes) == 0;
}

static int head_parse(struct answer *a)
{
    const char *line = a->bytes, *end = memmem(a->bytes, a->have, "\r\n\r\n", 4);

    if (end == NULL)
        return 0;
    a->head = (size_t)(end - a->bytes) + 4;
    a->length = -2;
    a->is_event_stream = a->is_hit = a->must_close = 0;
    a->status = a->head > 12 && memcmp(line, "HTTP/1.", 7) == 0 ? atoi(line + 9) : 0;
    while (line < end) {
        const char *eol = memchr(line, '\r', (size_t)(end + 1 - line));
        size_t n = (size_t)(eol - line);
        switch (*line | 32) {
        case 'c':
            if (is_named(line, n, "content-length:"))
                a->length = atol(line + 15);
            else if (is_named(line, n, "content-type:"))
                a->is_event_stream = memmem(line, n, "event-stream", 12) != NULL;
            else if (is_named(line, n, "cache-status:"))
                a->is_hit = memmem(line, n, "; hit", 5) != NULL;
            else if (is_named(line, n, "connection:"))
                a->must_close = memmem(line, n, "close", 5) != NULL;
            break;
        case 't':
            if (is_named(line, n, "transfer-encoding:"))
                a->length = -1;
            break;
        case 'x':
            if (is_named(line, n, "x-cache:"))
                a->is_hit = memmem(line, n, "HIT", 3) != NULL;
            break;
        case 'm':
            if (is_named(line, n, "mcp-session-id:") && n - 16 < sizeof(a->session)) {
                memcpy(a->session, line + 16, n - 16);
                a->session[n - 16] = '\0';
            }
            break;
        }
        line = eol + 2;
    }
    if (a->length == -2 && (a->status == 202 || a->status == 204))
        a->length = 0;
    a->chunk_at = a->body_end = a->head;
    return 1;
}

int answer_step(struct answer *a)
{
    if (a->head == 0 && !head_parse(a))
        return a->have < HEAD_MAX ? 0 : -1;
    if (a->length >= 0) {
        a->body_end = a->head + (size_t)a->length;
        return a->have < a->body_end ? 0 : a->have == a->body_end ? 1 : -1;
    }
    if (a->length == -2)
        return -1;
    for (;;) {
        const char *line = a->bytes + a->chunk_at, *eol = memchr(line, '\n', a->have - a->chunk_at);
        size_t bytes;
        if (eol == NULL)
            return 0;
        bytes = strtoul(line, NULL, 16);
        if (a->have < (size_t)(eol + 1 - a->bytes) + bytes + 2)
            return 0;
        memmove(a->bytes + a->body_end, eol + 1, bytes);
        a->body_end += bytes;
        a->chunk_at = (size_t)(eol + 1 - a->bytes) + bytes + 2;
        if (bytes == 0)
            return a->chunk_at == a->have ? 1 : -1;
    }
}

static int is_expected(const struct content *c, struct json text)
{
    return text.at != NULL && (size_t)(text.end - text.at) == c->mark_bytes + c->rest_bytes &&
           memcmp(text.at, c->mark, c->mark_bytes) == 0 && memcmp(text.at + c->mark_bytes, c->rest, c->rest_bytes) == 0;
}

/* The JSON of an answer that is an event stream: what the last event that has an id of a message says. */
static struct json event_data(const char *body, const char *end)
{
    struct json last = {NULL, NULL};

    while (body < end) {
        const char *eol = memchr(body, '\n', (size_t)(end - body));
        if (eol == NULL)
            eol = end;
        if (eol - body > 6 && memcmp(body, "data: ", 6) == 0 && body[6] == '{') {
            struct json data = {body + 6, eol};
            if (json_member(data, "result").at != NULL || json_member(data, "error").at != NULL)
                last = data;
        }
        body = eol + 1;
    }
    return last;
}

enum failure answer_check(const struct answer *a, const struct question *q, uint64_t id_asked)
{
    struct json message = {a->bytes + a->head, a->bytes + a->body_end}, name, value, id = {NULL, NULL}, result = {NULL, NULL},
                first;
    const char *at;
    char own[32];

    if (q->kind == KIND_INITIALIZED)
        return a->status == 202 || a->status == 200 || a->status == 204 ? FAIL_NONE : FAIL_STATUS;
    if (a->status != 200)
        return FAIL_STATUS;
    if (a->is_event_stream)
        message = event_data(message.at, message.end);
    at = message.at;
    while (at != NULL && json_next(&at, message.end, &name, &value)) {
        if (json_is(name, "id"))
            id = value;
        else if (json_is(name, "result"))
            result = value;
        else if (json_is(name, "error"))
            return FAIL_ERROR;
    }
    snprintf(own, sizeof(own), "%llu", (unsigned long long)id_asked);
    if (!json_is(id, own))
        return FAIL_ID;
    if (q->kind == KIND_INITIALIZE)
        return json_member(result, "protocolVersion").at != NULL ? FAIL_NONE : FAIL_CONTENT;
    if (q->kind == KIND_LIST) {
        return is_expected(&q->expected, json_member(result, "tools")) ? FAIL_NONE : FAIL_CONTENT;
    }
    if (json_is(json_member(result, "isError"), "true"))
        return FAIL_ERROR;
    first = json_first(json_member(result, "content"));
    return is_expected(&q->expected, json_text(json_member(first, "text"))) ? FAIL_NONE : FAIL_CONTENT;
}
