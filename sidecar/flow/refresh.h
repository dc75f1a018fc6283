/* SPDX-License-Identifier: Apache-2.0 */
/* Refreshes: a fetch in the background for an entry that was served past its lifetime. It belongs to no client: it has an id of its own, no progress token, its own
 * share of the upstream, and what the upstream asks in it is answered by nobody, which ends it. One at a time for one question; others who miss join it.
 * What fails leaves the entry as it is, and the next one is tried after a pause. Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_REFRESH_H
#define MCPCACHED_FLOW_REFRESH_H

#include "sidecar/flow/flight.h"
#include "sidecar/flow/keys.h"
#include "sidecar/notify/subscribers.h"

/* After one that failed. */
#define REFRESH_PAUSE_MS 1000

struct refresh_order {
    h2o_req_t *req; /* only read */
    struct wire_request *wire;
    const struct cp_message *message;
    const struct caller *caller;
    const struct definition *definition;
    const struct cp_decision *decision;
    struct keys *keys;
    struct flight_name name;
    int64_t now_ms;
    /* of a poll (watch.h): nobody was given an old answer, somebody wants to know whether there is a new one. It has a budget of its own, and no pause. */
    const struct watch_name *own;
    void (*on_polled)(void *ctx, bool is_good); /* once, when it was begun; good: it brought an answer that could be compared */
    void *ctx;
};
enum refresh_begun {
    REFRESH_DONE, /* begun */
    REFRESH_FULL, /* the budget is used up */
    REFRESH_NOT,  /* one is under way, or the upstream is known to fail */
};
/* Nothing is done unless it was begun. */
enum refresh_begun refresh_begin(struct flow *flow, const struct refresh_order *order);

#endif
