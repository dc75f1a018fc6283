/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks: principal, session, and the header facts that a decision needs. Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_CALLER_H
#define MCPCACHED_FLOW_CALLER_H

#include "sidecar/flow/flow.h"
#include "sidecar/wire/headers.h"

struct caller {
    struct cp_caller facts;
    struct cp_principal principal;
    struct span session_id;      /* legacy Mcp-Session-Id; absent in the modern era and when there is none */
    uint8_t session_name[16];    /* what sessions are found by; only with a session_id */
    struct session session;      /* valid when facts.session_known */
};

void caller_read(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message, struct caller *ret);

/* The name under which a session of this principal is learned and found. */
void caller_session_name(struct flow *flow, const struct cp_principal *principal, struct span session_id, uint8_t ret[16]);

#endif
