/* SPDX-License-Identifier: Apache-2.0 */
/* What the steps of a hit cost, one by one: scan, message, canonical form and key of a tools/call; its entry's copy out of a
 * store of many; and the answer, spliced, as far as the connection's output. Every step's result is compared with the first
 * one's, and a wrong one ends the program.
 * Usage: bench_hit [milliseconds per cell, default 200]
 *        bench_hit --count BYTES: each step COUNTED times for a body of that size, inside of count(), for whoever counts the
 *        instructions of hit_scan, hit_message and so on; prints COUNTED. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <h2o.h>

#include "cachepolicy/answer.h"
#include "cachepolicy/canonical.h"
#include "cachepolicy/key.h"
#include "cachepolicy/message.h"
#include "sidecar/store/store.h"
#include "sidecar/wire/reply.h"
#include "ends.h"

enum { COUNTED = 50, ENTRIES = 2000 };

static struct cp_json_doc doc;
static struct cp_keyer *keyer;
static struct cp_principal principal;
static struct buf form;
static struct store *store;
static struct store_reader *reader;
static char directory[] = "/tmp/bench-hit-XXXXXX";
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

/* ---- the steps -------------------------------------------------------------------------------------------------------------- */

/* One request on its way: what a step finds, and what it leaves to the next. */
struct hit {
    struct span body;
    struct cp_message message;
    struct cp_key key;
    h2o_req_t req;
    struct store_entry entry;
    size_t sent_bytes;
    struct span sent_id;
};

/* Stands at the place of the connection: takes the answer and adds up its pieces. */
struct sink {
    h2o_ostream_t super;
    struct hit *hit;
};

static void sink_take(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count, h2o_send_state_t state)
{
    struct hit *hit = ((struct sink *)self)->hit;

    (void)req;
    must(state == H2O_SEND_STATE_FINAL && count >= 5);
    hit->sent_bytes = 0;
    hit->sent_id = (struct span){bufs[1].base, bufs[1].len};
    for (size_t i = 0; i < count; i++)
        hit->sent_bytes += bufs[i].len;
}

static void *pool_alloc(void *pool, size_t bytes)
{
    return h2o_mem_alloc_pool(pool, bytes);
}

__attribute__((noinline)) static void hit_scan(struct hit *hit)
{
    must(cp_json_scan(&doc, hit->body, &cp_json_strict) == CP_JSON_OK);
}

__attribute__((noinline)) static void hit_message(struct hit *hit)
{
    cp_message_parse(&hit->message, &doc, hit->body);
}

__attribute__((noinline)) static void hit_canonical(struct hit *hit)
{
    form.n = 0;
    must(cp_message_canonical(&hit->message, NULL, 0, &form) == 0);
}

__attribute__((noinline)) static void hit_key(struct hit *hit)
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

    cp_key_of(keyer, &question, &share, &hit->key);
}

__attribute__((noinline)) static void hit_lookup(struct hit *hit)
{
    must(store_get(reader, &hit->key, pool_alloc, &hit->req.pool, &hit->entry) == STORE_HIT);
    must(store_validity_of(store, hit->entry.generation, hit->entry.subjects, hit->entry.subject_count) == STORE_VALID);
}

__attribute__((noinline)) static void hit_answer(struct hit *hit)
{
    const struct reply_hit reply = {
        .how = REPLY_FOUND,
        .id = SPAN("42"),
        .result = hit->entry.body,
        .ttl_start = hit->entry.ttl_start,
        .ttl_end = hit->entry.ttl_end,
        .age = {.age_ms = 1500, .remaining_ms = 58500, .hint_remaining_ms = 58500},
    };

    reply_hit_send(&hit->req, &reply);
}

static const struct {
    const char *name;
    void (*run)(struct hit *hit);
} steps[] = {
    {"scan", hit_scan}, {"message", hit_message}, {"canonical", hit_canonical},
    {"key", hit_key},   {"lookup", hit_lookup},   {"answer", hit_answer},
};
enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

/* ---- a request, and what its steps must have found ----------------------------------------------------------------------------- */

static void begin(struct hit *hit, struct sink *sink)
{
    static h2o_pathconf_t no_filters;

    hit->req = (h2o_req_t){.pathconf = &no_filters};
    h2o_mem_init_pool(&hit->req.pool);
    *sink = (struct sink){.super = {.do_send = sink_take}, .hit = hit};
    hit->req._ostr_top = &sink->super;
}

static void end(struct hit *hit, const struct buf *result)
{
    must(hit->message.kind == CP_KIND_REQUEST && !hit->message.is_malformed);
    must(hit->entry.body.n == result->n && memcmp(hit->entry.body.p, result->p, result->n) == 0);
    must(span_eq(hit->sent_id, SPAN("42")));
    /* 60000 became 58500 */
    must(hit->sent_bytes == result->n + strlen("{\"jsonrpc\":\"2.0\",\"id\":42,\"result\":}"));
    h2o_mem_clear_pool(&hit->req.pool);
}

/* A result of 1 KB with a ttlMs, under the key of body, among many others. */
static void fill(struct span body, struct buf *ret_result)
{
    struct buf reply = make_reply(1024);
    struct hit hit = {.body = body};
    struct cp_answer answer;
    struct store_entry entry = {.owner = 7, .scope = CP_SCOPE_PRINCIPAL, .method = CP_METHOD_TOOLS_CALL, .cost_ms = 20};

    *ret_result = (struct buf){0};
    cp_answer_parse(&answer, &doc, buf_span(&reply));
    must(cp_answer_strip(&answer, false, &doc, ret_result, &entry.ttl_start, &entry.ttl_end) == 0);
    buf_done(&reply);
    hit_message(&hit);
    hit_canonical(&hit);
    hit_key(&hit);
    entry.body = buf_span(ret_result);
    entry.began_ms = entry.stored_at_ms = store_now_ms(store);
    entry.expires_at_ms = entry.stored_at_ms + 3600000;
    entry.has_hint = true;
    entry.hint_ttl_ms = 60000;
    entry.name = SPAN("search_items");
    entry.subjects = (const uint64_t[]){11, 12, 13};
    entry.subject_count = 3;
    entry.generation = store_generation(store);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        struct cp_key other = hit.key;

        memcpy(other.digest + 8, &i, sizeof(i));
        other.digest[0] = (uint8_t)(i * 167);
        must(store_put(store, &other, &entry));
    }
    must(store_put(store, &hit.key, &entry));
    store_flush(store);
}

/* Nanoseconds of each step: the best of many rounds, the least disturbed one. */
static void measure(struct span body, const struct buf *result, double ret[STEPS])
{
    double began = now_ns();

    for (int i = 0; i < STEPS; i++)
        ret[i] = 1e18;
    do {
        struct hit hit = {.body = body};
        struct sink sink;
        double from, to;

        begin(&hit, &sink);
        for (int i = 0; i < STEPS; i++) {
            from = now_ns();
            steps[i].run(&hit);
            to = now_ns();
            ret[i] = to - from < ret[i] ? to - from : ret[i];
        }
        end(&hit, result);
    } while (now_ns() - began < cell_ns);
}

static void measure_reply(void)
{
    struct buf reply = make_reply(1 << 20), out = {0};
    double began = now_ns(), best = 1e18;
    struct cp_answer answer;
    uint32_t start, end_;

    do {
        double from = now_ns();

        cp_answer_parse(&answer, &doc, buf_span(&reply));
        out.n = 0;
        must(cp_answer_strip(&answer, false, &doc, &out, &start, &end_) == 0);
        best = now_ns() - from < best ? now_ns() - from : best;
        must(answer.ttl_ms == 60000 && out.n < answer.result.n && memcmp(out.p + start, "60000", end_ - start) == 0);
    } while (now_ns() - began < cell_ns);
    printf("reply of %zu bytes: read and stripped in %.2f ms, %u nodes\n", reply.n, best / 1e6, doc.count);
    buf_done(&reply);
    buf_done(&out);
}

__attribute__((noinline)) static void count(struct span body, const struct buf *result)
{
    for (int n = 0; n < COUNTED; n++) {
        struct hit hit = {.body = body};
        struct sink sink;

        begin(&hit, &sink);
        for (int i = 0; i < STEPS; i++)
            steps[i].run(&hit);
        end(&hit, result);
    }
    printf("%d\n", COUNTED);
}

/* ---- the program ---------------------------------------------------------------------------------------------------------------- */

static void remove_directory(void)
{
    DIR *files = opendir(directory);
    struct dirent *file;

    while (files != NULL && (file = readdir(files)) != NULL)
        unlinkat(dirfd(files), file->d_name, 0);
    if (files != NULL)
        closedir(files);
    rmdir(directory);
}

int main(int argc, char **argv)
{
    size_t sizes[] = {250, 2048, 16384}, size_count = sizeof(sizes) / sizeof(sizes[0]);
    bool is_count = argc == 3 && strcmp(argv[1], "--count") == 0;
    struct cp_credential credential = {SPAN("authorization"), SPAN("Bearer 0123456789abcdef")};
    struct cp_error error;

    must(mkdtemp(directory) != NULL);
    atexit(remove_directory);
    if (store_open(&(struct store_options){.path = directory, .size_bytes = 64 << 20}, &store, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    must(store_reader_new(store, &reader) == 0);
    /* the same keys in every run: the same way through the tree */
    must(cp_keyer_new((const uint8_t[32]){1}, &keyer) == 0);
    cp_principal_of(keyer, &credential, 1, &principal);
    if (is_count) {
        sizes[0] = (size_t)atol(argv[2]);
        size_count = 1;
    } else {
        cell_ns = (argc > 1 ? atof(argv[1]) : 200) * 1e6;
        printf("%-10s", "bytes");
        for (int i = 0; i < STEPS; i++)
            printf("%12s", steps[i].name);
        printf("   (ns, best round)\n");
    }
    for (size_t i = 0; i < size_count; i++) {
        struct buf body = make_body(sizes[i]), result;
        double ns[STEPS];

        fill(buf_span(&body), &result);
        if (is_count) {
            count(buf_span(&body), &result);
        } else {
            measure(buf_span(&body), &result, ns);
            printf("%-10zu", body.n);
            for (int step = 0; step < STEPS; step++)
                printf("%12.0f", ns[step]);
            printf("\n");
        }
        buf_done(&body);
        buf_done(&result);
    }
    if (!is_count)
        measure_reply();
    buf_done(&form);
    cp_json_done(&doc);
    cp_keyer_free(keyer);
    store_reader_free(reader);
    store_close(store);
    return 0;
}
