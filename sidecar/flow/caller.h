/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks: principal, session, and the header facts that a decision needs. Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_CALLER_H
#define MCPCACHED_FLOW_CALLER_H

#include "sidecar/flow/flow.h"
#include "sidecar/wire/headers.h"

struct caller {
    struct cp_caller facts;
    struct cp_principal principal;
    struct span session_id; /* legacy Mcp-Session-Id; absent in the modern era and when there is none */
    struct session session; /* valid when facts.session_known */
};

void caller_read(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                 int64_t now_ms, struct caller *ret);

/* True for header names (lower case) that are part of the principal. */
bool caller_is_credential(const struct cp_policy *policy, struct span name);

/* Remembers what a session of this principal negotiated: at once for every loop, and in the store for after a restart. */
void caller_learn_session(struct flow *flow, const struct cp_principal *principal, struct span session_id,
                          const struct session *session);

#endif
