/* SPDX-License-Identifier: Apache-2.0 */
/* Lookups: the best that the store has for a request, under the policy in force now and after all that was purged until now. Whether the caller may have it is
 * admission's to say. Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_LOOKUP_H
#define MCPCACHED_FLOW_LOOKUP_H

#include "sidecar/flow/keys.h"

struct found {
    struct store_entry entry; /* in the request's pool */
    struct cp_age age;
    bool is_purged; /* nothing usable, but something was there that is purged */
};

/* Fresh before stale before what may only stand in for a failed fetch; at equals what is kept for this caller before what is kept for everybody. False: nothing that
 * is of any use. */
bool lookup_find(struct flow *flow, h2o_req_t *req, const struct cp_decision *decision, const struct keys *keys,
                 const struct identity *id, int64_t now_ms, struct found *ret);

/* Whether something of this generation may still be kept for this caller, and for anybody. */
bool lookup_is_valid(const struct flow *flow, uint64_t generation, const uint64_t *subjects, size_t count, uint64_t own_subject);

#endif
