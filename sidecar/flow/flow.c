/* SPDX-License-Identifier: Apache-2.0 */
/* One loop's means. Not here: what is done with them (request.c, exchange.c). */
#include "sidecar/flow/flow.h"

#include "sidecar/flow/announce.h"
#include "sidecar/flow/exchange.h"
#include "sidecar/flow/flight.h"
#include "sidecar/flow/probe.h"
#include "sidecar/flow/stream.h"
#include "sidecar/trust/admission.h"
#include "sidecar/wire/headers.h"

#include <errno.h>
#include <stdlib.h>

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
    if ((r = trust_init(&flow->trust, &shared->trust)) != 0) {
        free(flow);
        return r;
    }
    flow->upstream = upstream_new(&shared->upstream, ctx);
    cp_digest_of(flow->trust.keyer, "breaker upstream", span_of(shared->upstream.url->text), flow->upstream_name);
    alarms_init(&flow->alarms, ctx->loop);
    for (size_t i = 0; i != FLOW_STREAM_BUCKETS; ++i)
        h2o_linklist_init_anchor(&flow->stream_buckets[i]);
    flights_open(flow);
    probes_open(flow);
    announce_open(flow);
    admission_recall_challenge(&flow->trust);
    *ret = flow;
    return 0;
}

enum store_lookup flow_get(struct flow *flow, h2o_req_t *req, const struct cp_key *key, struct store_entry *ret)
{
    return trust_get(&flow->trust, key, &req->pool, ret);
}

enum breaker_state flow_ask_breaker(struct flow *flow, const struct cp_message *message, int64_t now_ms, struct breaker_pass *ret,
                                    int64_t *ret_wait_ms)
{
    struct buf *text = &flow->text;
    const uint8_t method = (uint8_t)message->method;
    uint8_t call[16];

    text->n = 0;
    if (buf_add(text, &method, 1) != 0 || buf_add_span(text, message->name.p != NULL ? message->name : SPAN("")) != 0)
        h2o_fatal("no memory");
    cp_digest_of(flow->trust.keyer, "breaker", buf_span(text), call);
    return breaker_enter(flow->shared->breaker, flow->upstream_name, call, now_ms, ret, ret_wait_ms);
}

void flow_drain(struct flow *flow)
{
    announce_now(flow);
    streams_drain(flow);
}

void flow_stop(struct flow *flow)
{
    streams_stop(flow);
    probes_stop(flow);
    flights_stop(flow);
    while (!h2o_linklist_is_empty(&flow->exchanges))
        exchange_kill(exchange_of_link(flow->exchanges.next));
}

void flow_free(struct flow *flow)
{
    if (flow == NULL)
        return;
    announce_close(flow);
    flights_close(flow);
    probes_close(flow);
    alarms_done(&flow->alarms);
    upstream_free(flow->upstream);
    trust_done(&flow->trust);
    cp_json_done(&flow->request_doc);
    cp_json_done(&flow->reply_doc);
    cp_json_done(&flow->own_doc);
    buf_done(&flow->params);
    buf_done(&flow->mcp_params);
    buf_done(&flow->vary);
    buf_done(&flow->text);
    buf_done(&flow->content);
    free(flow);
}
