/* SPDX-License-Identifier: Apache-2.0 */
/* What the pure library costs on the hit path: nanoseconds of one core per scan, message, canonical form and key, for
 * tools/call bodies of three sizes; and per scan and reading of a 1 MB reply. Every loop's result is compared with the
 * first one's, and a wrong one ends the program.
 * Usage: bench_scan [milliseconds per cell, default 200] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cachepolicy/answer.h"
#include "cachepolicy/canonical.h"
#include "cachepolicy/key.h"
#include "cachepolicy/message.h"

#define must(condition)                                                                                                            \
    do {                                                                                                                           \
        if (!(condition)) {                                                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                        \
            exit(1);                                                                                                               \
        }                                                                                                                          \
    } while (0)

static struct cp_json_doc doc;
static struct cp_keyer *keyer;
static struct cp_principal principal;
static struct buf form;
static double cell_ns;

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* A tools/call of about `bytes`: half objects with short members, half text, as calls are. */
static struct buf make_body(size_t bytes)
{
    struct buf b = {0};
    char piece[200];
    int n;

    must(buf_add_span(
             &b, SPAN("{\"jsonrpc\":\"2.0\",\"id\":42,\"method\":\"tools/call\",\"params\":{\"name\":\"search_items\",\"_meta\":{"
                      "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"progressToken\":7},\"arguments\":{"
                      "\"query\":\"cache invalidation\"")) == 0);
    for (int i = 0; b.n + 150 < bytes; i++) {
        n = snprintf(piece, sizeof(piece), ",\"filter_%d\":{\"field\":\"created_at\",\"limit\":%d,\"any\":[1,2.5,true,null]}", i,
                     i * 17);
        must(buf_add(&b, piece, (size_t)n) == 0);
        n = snprintf(piece, sizeof(piece), ",\"note_%d\":\"a line of plain text, \\\"quoted\\\" here and there, caf\xc3\xa9 too\"",
                     i);
        must(buf_add(&b, piece, (size_t)n) == 0);
    }
    must(buf_add_span(&b, SPAN("}}}")) == 0);
    return b;
}

static struct buf make_reply(size_t bytes)
{
    struct buf b = {0};

    must(buf_add_span(
             &b, SPAN("{\"jsonrpc\":\"2.0\",\"id\":42,\"result\":{\"resultType\":\"complete\",\"ttlMs\":60000,\"content\":[")) ==
         0);
    while (b.n < bytes)
        must(buf_add_span(&b, SPAN("{\"type\":\"text\",\"text\":\"some words of an answer, and some more of "
                                   "them\",\"n\":[1,2,3.5,{\"a\":null}]},")) == 0);
    must(buf_add_span(&b, SPAN("0],\"_meta\":{\"traceparent\":\"00-1-2-3\"}}}")) == 0);
    return b;
}

enum work { SCAN, MESSAGE, CANONICAL, KEY, ALL, WORKS };
static const char *const work_names[WORKS] = {"scan", "message", "canonical", "key", "all"};

static void make_key(struct cp_key *ret)
{
    const struct cp_question question = {
        .upstream = SPAN("http://127.0.0.1:3000/mcp"),
        .authority = SPAN("mcp.example.com"),
        .path = SPAN("/mcp"),
        .era = CP_ERA_MODERN,
        .version = SPAN("2026-07-28"),
        .method = CP_METHOD_TOOLS_CALL,
        .params = buf_span(&form),
        .vary = SPAN(""),
    };
    const struct cp_share share = {CP_SCOPE_PRINCIPAL, &principal, SPAN_ABSENT};

    cp_key_of(keyer, &question, &share, ret);
}

static void run(enum work work, struct span body, struct cp_message *message, struct cp_key *key)
{
    switch (work) {
    case SCAN:
        must(cp_json_scan(&doc, body, &cp_json_strict) == CP_JSON_OK);
        break;
    case MESSAGE:
        cp_message_parse(message, &doc, body);
        break;
    case CANONICAL:
        form.n = 0;
        must(cp_message_canonical(message, NULL, 0, &form) == 0);
        break;
    case KEY:
        make_key(key);
        break;
    case ALL:
        cp_message_parse(message, &doc, body);
        form.n = 0;
        must(cp_message_canonical(message, NULL, 0, &form) == 0);
        make_key(key);
        break;
    case WORKS:
        break;
    }
}

/* The best of many short rounds: the least disturbed one. */
static double measure(enum work work, struct span body)
{
    struct cp_message message;
    struct cp_key first, key;
    double begin = now_ns(), best = 1e18;
    unsigned times = (unsigned)(200000 / (body.n + 1000)) + 1;
    uint32_t nodes;

    run(ALL, body, &message, &first);
    nodes = doc.count;
    do {
        double from = now_ns(), each;

        key = first;
        for (unsigned i = 0; i < times; i++)
            run(work, body, &message, &key);
        each = (now_ns() - from) / times;
        best = each < best ? each : best;
        must(memcmp(&key, &first, sizeof(key)) == 0);
        must(doc.count == nodes);
        if (work != SCAN)
            must(message.kind == CP_KIND_REQUEST && !message.is_malformed);
    } while (now_ns() - begin < cell_ns);
    return best;
}

int main(int argc, char **argv)
{
    const size_t sizes[] = {250, 2048, 16384};
    const uint8_t secret[32] = {1};
    struct cp_credential credential = {SPAN("authorization"), SPAN("Bearer 0123456789abcdef")};

    cell_ns = (argc > 1 ? atof(argv[1]) : 200) * 1e6;
    must(cp_keyer_new(secret, &keyer) == 0);
    cp_principal_of(keyer, &credential, 1, &principal);
    printf("%-10s", "bytes");
    for (int w = 0; w < WORKS; w++)
        printf("%12s", work_names[w]);
    printf("   (ns, best round)\n");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buf body = make_body(sizes[i]);

        printf("%-10zu", body.n);
        for (int w = 0; w < WORKS; w++)
            printf("%12.0f", measure((enum work)w, buf_span(&body)));
        printf("\n");
        buf_done(&body);
    }
    {
        struct buf reply = make_reply(1 << 20), out = {0};
        double begin = now_ns(), best = 1e18;
        struct cp_answer answer;
        uint32_t start, end;

        do {
            double from = now_ns();

            cp_answer_parse(&answer, &doc, buf_span(&reply));
            out.n = 0;
            must(cp_answer_strip(&answer, false, &doc, &out, &start, &end) == 0);
            best = now_ns() - from < best ? now_ns() - from : best;
            must(answer.ttl_ms == 60000 && out.n < answer.result.n && memcmp(out.p + start, "60000", end - start) == 0);
        } while (now_ns() - begin < cell_ns);
        printf("reply of %zu bytes: read and stripped in %.2f ms, %u nodes\n", reply.n, best / 1e6, doc.count);
        buf_done(&reply);
        buf_done(&out);
    }
    buf_done(&form);
    cp_json_done(&doc);
    cp_keyer_free(keyer);
    return 0;
}
