/* SPDX-License-Identifier: Apache-2.0 */
/* The story of a request.
 *
 * A hit: the body is read as a message; the policy decides that it may be looked up; who asks and what is asked make a key; the store has a fresh entry under it; its
 * bytes go out with the caller's own id and the lifetime that is left, when there is proof that the upstream would answer this caller (admission.h). Nothing is sent upstream, or, when
 * only the recent sign of life is missing, a probe (probe.h) first.
 *
 * A miss: no usable entry. The request is forwarded as it is, the reply relayed as it comes, and read along; when it is a complete result that the
 * policy lets be kept, it is stored under the key for whom it may be shared with.
 *
 * In between: an entry past its lifetime that the policy grants grace is served at once while a refresh (refresh.h) fetches another; of several who miss the same
 * only one asks (flight.h); what cannot be fetched may be stood in for by what is left.
 *
 * Everything else (another method, a write, a body that is not fully understood, a caller whose headers contradict it) is forwarded byte for byte.
 * Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_REQUEST_H
#define MCPCACHED_FLOW_REQUEST_H

#include "sidecar/flow/flight.h"

/* How often a story is told: again, when something was waited for. */
struct telling {
    enum {
        TELLING_FIRST,
        TELLING_PROBED_WELL, /* a probe (probe.h) was accepted */
        TELLING_PROBED_BADLY,
        TELLING_LANDED, /* a flight (flight.h) has landed, or the request's own fetch failed */
    } how;
    int64_t began_ms;               /* store clock: when the story was first told; 0: now */
    struct flight_outcome *outcome; /* LANDED; borrowed */
    char *bytes;                    /* its bytes in h2o's counted memory; NULL: there are none */
};

/* Takes the request: it is answered now or later. */
void request_handle(struct flow *flow, h2o_req_t *req);
/* The same for one that waited. */
void request_resume(struct flow *flow, h2o_req_t *req, const struct telling *telling);
/* Whether something lies there that may stand in for an answer that could not be fetched. The request is left as it is. */
bool request_can_stand_in(struct flow *flow, h2o_req_t *req);

#endif
