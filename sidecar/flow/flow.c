/* SPDX-License-Identifier: Apache-2.0 */
/* One loop's means. Not here: what is done with them (request.c, exchange.c). */
#include "sidecar/flow/flow.h"

#include "sidecar/flow/exchange.h"
#include "sidecar/flow/probe.h"
#include "sidecar/wire/headers.h"

#include <errno.h>
#include <stdlib.h>

static void challenge_name(struct flow *flow, uint8_t ret[16])
{
    cp_digest_of(flow->keyer, "challenged", span_of(flow->shared->upstream.url->text), ret);
}

/* How often the memory of it is renewed, and how long it lasts. */
#define CHALLENGE_NOTE_MS (60LL * 60 * 1000)
#define CHALLENGE_KEEP_MS (365LL * 24 * 60 * 60 * 1000)

void flow_note_challenge(struct flow *flow, int64_t now_ms)
{
    int64_t last_ms = atomic_load_explicit(flow->shared->challenged_ms, memory_order_relaxed);
    struct standing standing;
    uint8_t name[16];

    if (last_ms != 0 && now_ms - last_ms < CHALLENGE_NOTE_MS)
        return;
    atomic_store_explicit(flow->shared->challenged_ms, now_ms > 0 ? now_ms : 1, memory_order_release);
    challenge_name(flow, name);
    if (!standings_accept(flow->shared->standings, name, NULL, -1, now_ms, now_ms, &standing))
        return;
    standing.since_ms = now_ms;
    standing_remember(flow, name, &standing, CHALLENGE_KEEP_MS);
}

static void recall_challenge(struct flow *flow)
{
    int64_t now_ms = store_now_ms(flow->shared->store), never = 0;
    struct standing standing;
    uint8_t name[16];

    challenge_name(flow, name);
    standing_recall(flow, name, -1, now_ms, &standing);
    /* an hour ago: the next one is noted again */
    if (standing.epoch != 0)
        atomic_compare_exchange_strong(flow->shared->challenged_ms, &never,
                                       now_ms > CHALLENGE_NOTE_MS ? now_ms - CHALLENGE_NOTE_MS : 1);
}

struct span flow_host(const struct flow *flow, const struct wire_request *wire)
{
    if (flow->shared->host.p != NULL)
        return flow->shared->host;
    return wire->authority.p != NULL ? wire->authority : flow->shared->upstream.url->authority;
}

int flow_new(const struct flow_shared *shared, h2o_context_t *ctx, size_t detached_max, struct flow **ret)
{
    struct flow *flow = calloc(1, sizeof(*flow));
    int r;

    if (flow == NULL)
        return -ENOMEM;
    flow->shared = shared;
    flow->request_doc.request_depth = shared->max_depth;
    flow->ctx = ctx;
    flow->detached_max = detached_max;
    h2o_linklist_init_anchor(&flow->exchanges);
    if ((r = store_reader_new(shared->store, &flow->reader)) != 0 ||
        (r = cp_keyer_new(store_secret(shared->store), &flow->keyer)) != 0) {
        store_reader_free(flow->reader);
        free(flow);
        return r;
    }
    flow->upstream = upstream_new(&shared->upstream, ctx);
    probes_open(flow);
    recall_challenge(flow);
    *ret = flow;
    return 0;
}

static void *alloc_from_pool(void *pool, size_t bytes)
{
    return h2o_mem_alloc_pool(pool, bytes);
}

enum store_lookup flow_get(struct flow *flow, h2o_req_t *req, const struct cp_key *key, struct store_entry *ret)
{
    return store_get(flow->reader, key, alloc_from_pool, &req->pool, ret);
}

void flow_stop(struct flow *flow)
{
    probes_stop(flow);
    while (!h2o_linklist_is_empty(&flow->exchanges))
        exchange_kill(exchange_of_link(flow->exchanges.next));
}

void flow_free(struct flow *flow)
{
    if (flow == NULL)
        return;
    probes_close(flow);
    upstream_free(flow->upstream);
    store_reader_free(flow->reader);
    cp_keyer_free(flow->keyer);
    cp_json_done(&flow->request_doc);
    cp_json_done(&flow->reply_doc);
    buf_done(&flow->params);
    buf_done(&flow->mcp_params);
    buf_done(&flow->vary);
    buf_done(&flow->text);
    buf_done(&flow->claims);
    free(flow);
}
