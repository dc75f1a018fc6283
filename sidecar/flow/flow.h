/* SPDX-License-Identifier: Apache-2.0 */
/* What every request's story needs: the process-wide things (shared) and one loop's own (flow).
 * Thread: shared is immutable after start but for what says otherwise; a flow belongs to its loop. */
#ifndef MCPCACHED_FLOW_FLOW_H
#define MCPCACHED_FLOW_FLOW_H

#include "sidecar/trust/trust.h"
#include "sidecar/upstream/alarm.h"
#include "sidecar/upstream/breaker.h"
#include "sidecar/upstream/upstream.h"

#include <h2o.h>
#include <stdatomic.h>

/* Loops that can tell each other of probes. */
#define FLOWS_MAX 64

/* Lists that a loop keeps its flights in. */
#define FLOW_FLIGHT_BUCKETS 64
/* And its streams. */
#define FLOW_STREAM_BUCKETS 1024

struct board;
struct budget_places;
struct flight_registry;
struct flow;
struct probe_registry;
struct slots;
struct subscribers;
struct wire_request;

struct flow_shared {
    struct trust_shared trust;
    /* any thread */
    struct probe_registry *probe_registry;
    struct flight_registry *flight_registry;
    struct breaker *breaker;
    struct budget_places *refreshes; /* in the background, at once */
    struct flow **flows;             /* FLOWS_MAX; under the registry's lock */
    atomic_size_t *open_streams;
    struct board *board;             /* where loops find each other's streams */
    struct subscribers *subscribers; /* NULL: subscriptions are off */
    struct slots *event_ids;         /* which were seen on streams that may be written to */
    struct budget_places *polls;     /* of what is subscribed to, at once */
    int64_t stream_keepalive_ms;     /* 0: idle streams are left alone */
    struct upstream_options upstream;
    struct span host; /* Host sent upstream; absent: the client's own */
    size_t max_entry_bytes, max_key_bytes, max_streams;
    uint32_t max_depth; /* of a request body */
};

struct flow {
    const struct flow_shared *shared;
    struct trust trust;
    h2o_context_t *ctx;
    struct upstream *upstream;
    uint8_t upstream_name[16];           /* for the breaker */
    h2o_linklist_t exchanges;            /* under way, for shutdown */
    size_t exchange_count;               /* that a client waits for, and clients that wait for another's */
    size_t detached_count, detached_max; /* exchanges that run on without their client */
    unsigned index;                      /* in shared->flows; FLOWS_MAX: not there */
    h2o_linklist_t probes;               /* that somebody here waits for */
    h2o_timeout_t probe_timeout;
    h2o_multithread_receiver_t probe_receiver;
    h2o_linklist_t flights[FLOW_FLIGHT_BUCKETS]; /* that this loop has to do with */
    h2o_multithread_receiver_t flight_receiver;
    h2o_linklist_t streams, stream_buckets[FLOW_STREAM_BUCKETS];
    h2o_linklist_t posted; /* what is to be done for them, by the order in which it came */
    h2o_timeout_t carry_timeout;
    h2o_timeout_entry_t carry_on;
    uint64_t last_stream_id;
    h2o_multithread_receiver_t action_receiver;
    h2o_timeout_t tick_timeout;
    h2o_timeout_entry_t tick;
    unsigned ticks;
    struct alarms alarms;
    /* scratch, valid within one callback */
    struct cp_json_doc request_doc, reply_doc;
    struct cp_json_doc own_doc; /* of what we ask or compare ourselves, while a request and a reply are in the others */
    struct buf params, mcp_params, vary, text, content;
};

/* 0 or -errno. */
int flow_new(const struct flow_shared *shared, h2o_context_t *ctx, size_t detached_max, struct flow **ret);
/* What Host says upstream. */
struct span flow_host(const struct flow *flow, const struct wire_request *wire);
/* store_get for a request: what is found lives in its pool. */
enum store_lookup flow_get(struct flow *flow, h2o_req_t *req, const struct cp_key *key, struct store_entry *ret);
/* Whether what answers this message may be asked at all; what is let through is settled later (breaker.h). */
enum breaker_state flow_ask_breaker(struct flow *flow, const struct cp_message *message, int64_t now_ms, struct breaker_pass *ret,
                                    int64_t *ret_wait_ms);
/* After flow_stop and the end of every request. */
void flow_free(struct flow *flow);
/* The end is near: streams, which would not end by themselves, are ended as they should be. */
void flow_drain(struct flow *flow);
/* Ends every exchange that is under way: upstream cancelled, clients cut. */
void flow_stop(struct flow *flow);

#endif
