/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 replies. Input: a byte (lowest bit: the request was HEAD; all bits: how to cut), then what an upstream sends.
 * Always: head, body, end of the reply or its refusal are the same however the bytes were cut; fields lie inside the bytes and hold no line end; a reply
 * uses no byte that is not its own. */
#include "fuzz.h"
#include "portions.h"

#include <errno.h>

#include "sidecar/wire/http_reply.h"

static struct http_head head, other;

static bool lies_inside(struct span s, struct span bytes)
{
    return s.n == 0 || (s.p >= bytes.p && s.p + s.n <= bytes.p + bytes.n);
}

static void check_head(struct span bytes, long used)
{
    must((size_t)used <= bytes.n && used >= 4 && used <= HTTP_HEAD_MAX && bytes.p[used - 1] == '\n');
    bytes.n = (size_t)used;
    must(head.status >= 100 && head.status <= 999 && (head.minor_version == 0 || head.minor_version == 1));
    must(lies_inside(head.reason, bytes) && (head.reason.n == 0 || memchr(head.reason.p, '\r', head.reason.n) == NULL));
    must(head.field_count <= HTTP_FIELDS_MAX);
    for (size_t i = 0; i < head.field_count; i++) {
        struct span name = head.fields[i].name, value = head.fields[i].value;

        must(name.n > 0 && lies_inside(name, bytes) && lies_inside(value, bytes));
        for (size_t k = 0; k < name.n; k++)
            must(name.p[k] > ' ' && name.p[k] != ':' && name.p[k] != 0x7f);
        for (size_t k = 0; k < value.n; k++)
            must(value.p[k] != '\r' && value.p[k] != '\n' && value.p[k] != '\0');
        must(value.n == 0 || (value.p[0] != ' ' && value.p[value.n - 1] != ' '));
    }
    must(head.framing != HTTP_UNTIL_CLOSE || !head.keeps_alive);
    must(head.framing != HTTP_LENGTH || head.content_bytes < UINT64_C(1) << 62);
}

/* What the whole is, no beginning of it denies. */
static void check_beginnings(struct span bytes, bool answers_head, uint8_t seed, long whole)
{
    struct portions portions = portions_begin(3, seed);
    bool is_refused = false;

    for (size_t n = 0; n < bytes.n; n += portions_next(&portions, bytes.n - n)) {
        struct span begin = exactly((struct span){bytes.p, n});
        long r = http_head_parse(&other, begin, answers_head);

        free((char *)begin.p);
        must(r == 0 || r == -EBADMSG || r == whole);
        must(!is_refused || r < 0);
        is_refused = r < 0;
        if (whole >= 0)
            must(r == ((size_t)whole <= n ? whole : 0));
    }
}

struct reading {
    struct buf data;
    size_t used;
    bool is_complete, is_broken;
};

static void collect(void *ctx, struct span bytes)
{
    struct reading *r = ctx;

    must(bytes.n > 0);
    must(buf_add_span(&r->data, bytes) == 0);
}

static void read_body(struct span bytes, unsigned way, uint8_t seed, struct reading *r)
{
    struct portions portions = portions_begin(way, seed);
    struct http_body body;

    http_body_init(&body, &head);
    while (r->used < bytes.n && !body.is_complete) {
        size_t n = portions_next(&portions, bytes.n - r->used);
        struct span portion = exactly((struct span){bytes.p + r->used, n});
        long used = http_body_feed(&body, portion, collect, r);

        free((char *)portion.p);
        if (used < 0) {
            must(used == -EBADMSG && !body.is_complete);
            r->is_broken = true;
            break;
        }
        must((size_t)used <= n && ((size_t)used == n || body.is_complete));
        r->used += (size_t)used;
    }
    r->is_complete = body.is_complete;
    must(head.framing != HTTP_UNTIL_CLOSE || !r->is_complete);
    must(head.framing != HTTP_NO_BODY || (r->is_complete && r->used == 0));
    must(head.framing != HTTP_LENGTH || r->data.n == (head.content_bytes < bytes.n ? head.content_bytes : bytes.n));
    must(r->data.n <= bytes.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reading readings[PORTION_WAYS] = {0};
    struct span bytes, rest;
    uint8_t seed;
    long used;

    if (size == 0)
        return 0;
    seed = data[0];
    bytes = exactly((struct span){(const char *)data + 1, size - 1});
    used = http_head_parse(&head, bytes, seed & 1);
    must(used >= 0 || used == -EBADMSG);
    check_beginnings(bytes, seed & 1, seed, used);
    if (used > 0) {
        check_head(bytes, used);
        rest = (struct span){bytes.p + used, bytes.n - (size_t)used};
        for (unsigned way = 0; way < PORTION_WAYS; way++) {
            struct reading *r = &readings[way];

            read_body(rest, way, seed, r);
            must(r->is_complete == readings[0].is_complete && r->is_broken == readings[0].is_broken);
            must(r->is_broken || r->used == readings[0].used);
            must(span_eq(buf_span(&r->data), buf_span(&readings[0].data)));
        }
        for (unsigned way = 0; way < PORTION_WAYS; way++)
            buf_done(&readings[way].data);
    }
    free((char *)bytes.p);
    return 0;
}
