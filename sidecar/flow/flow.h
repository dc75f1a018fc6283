/* SPDX-License-Identifier: Apache-2.0 */
/* What every request's story needs: the process-wide things (shared) and one loop's own (flow).
 * Thread: shared is immutable after start but for what says otherwise; a flow belongs to its loop. */
#ifndef MCPCACHED_FLOW_FLOW_H
#define MCPCACHED_FLOW_FLOW_H

#include "sidecar/flow/sessions.h"
#include "sidecar/store/store.h"
#include "sidecar/upstream/upstream.h"

#include <h2o.h>

struct flow_shared {
    struct store *store;
    struct cp_policy *policy;
    struct sessions *sessions; /* any thread */
    struct upstream_options upstream;
    struct span host; /* Host sent upstream; absent: the client's own */
    char *const *allowed_origins;
    size_t allowed_origin_count;
    size_t max_entry_bytes, max_key_bytes;
};

struct flow {
    const struct flow_shared *shared;
    h2o_context_t *ctx;
    struct upstream *upstream;
    struct store_reader *reader;
    struct cp_keyer *keyer;
    h2o_linklist_t exchanges; /* under way, for shutdown */
    size_t exchange_count;
    size_t detached_count, detached_max; /* exchanges that run on without their client */
    /* scratch, valid within one callback */
    struct cp_json_doc request_doc, reply_doc;
    struct buf params, mcp_params, vary, text;
};

/* 0 or -errno. */
int flow_new(const struct flow_shared *shared, h2o_context_t *ctx, size_t detached_max, struct flow **ret);
/* store_get for a request: what is found lives in its pool. */
enum store_lookup flow_get(struct flow *flow, h2o_req_t *req, const struct cp_key *key, struct store_entry *ret);
/* After flow_stop and the end of every request. */
void flow_free(struct flow *flow);
/* Ends every exchange that is under way: upstream cancelled, clients cut. */
void flow_stop(struct flow *flow);

#endif
