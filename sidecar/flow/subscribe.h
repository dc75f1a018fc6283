/* SPDX-License-Identifier: Apache-2.0 */
/* resources/subscribe and resources/unsubscribe of the session-based versions: kept here where the upstream does not, and noted where it does. Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_SUBSCRIBE_H
#define MCPCACHED_FLOW_SUBSCRIBE_H

#include "sidecar/flow/probe.h"
#include "sidecar/trust/caller.h"

enum subscribed {
    SUBSCRIBED_UPSTREAM, /* it is for the upstream to answer; subscribe_noted, when that was well */
    SUBSCRIBED_HERE,     /* done: an empty result */
    SUBSCRIBED_FULL,     /* a limit */
    SUBSCRIBED_LATER,    /* the request was taken: its story is told again when it is known whether its caller is let in */
};
enum subscribed subscribe_here(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                               const struct caller *caller, enum probed probed, int64_t now_ms);

/* What the session is subscribed to lies in the store, too: it outlives a restart, as the session does. Called before anything is kept for it in this process; req: any of
 * its requests, open. */
void subscribe_recall(struct flow *flow, h2o_req_t *req, const struct identity *id, int64_t now_ms);

/* Once more, while one of its streams is open: what is remembered of a session is forgotten when it was idle for so long. */
#define SUBSCRIBE_IDLE_MS (60LL * 60 * 1000)
void subscribe_remember(struct flow *flow, const struct identity *id, int64_t now_ms);

/* What a batch (2025-03-26), which is forwarded whole, takes back. */
void subscribe_heed_batch(struct flow *flow, h2o_req_t *req, const struct cp_message *batch, const struct identity *id,
                          int64_t now_ms);

/* The upstream accepted it. req: still open. */
void subscribe_noted(struct flow *flow, h2o_req_t *req, const struct identity *id, struct span uri, int64_t now_ms);

/* Another session begins, by a request whose headers still name this one (caller_identify). */
void subscribe_over(struct flow *flow, const struct identity *id);

#endif
