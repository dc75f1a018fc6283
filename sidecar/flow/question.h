/* SPDX-License-Identifier: Apache-2.0 */
/* Questions of our own in the name of a client whose stream is open: the read or the list that he would send now, with his own credentials, session and other headers, so
 * that its answer lies where his own would, and so that the upstream tells him and nobody else apart. The credential is held by nobody but the open request itself.
 * Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_QUESTION_H
#define MCPCACHED_FLOW_QUESTION_H

#include "sidecar/flow/keys.h"
#include "sidecar/notify/subscribers.h"

struct question {
    h2o_req_t *req; /* owned, with a pool of its own; as if he had sent it */
    struct wire_request wire;
    struct cp_message message; /* in flow->own_doc: until the next question */
    struct caller caller;
    struct definition definition;
    struct cp_decision decision;
    struct keys keys;
    struct buf body;
    /* under which names its answers are seen (notify/subscribers.h) */
    struct watch_name own, shared;
    bool has_shared;
};

/* from: the open request. message: what it says (a listen), for its _meta; NULL: legacy. method: RESOURCES_READ with its uri, or a list's. salt: whose own name it is where the
 * cache keeps nothing for him (a caller without credentials). False: such an answer could not be compared with another (the policy turned it off, the version is not
 * known, the credential proves one request alone); nothing is to be freed then. */
bool question_make(struct flow *flow, h2o_req_t *from, const struct cp_message *message, enum cp_method method, struct span uri,
                   const uint8_t salt[16], int64_t now_ms, struct question *ret);
void question_done(struct question *question);

/* The names that answers to a request with these keys have. has_own false: the cache keeps nothing for this caller. */
void question_names(const struct keys *keys, struct watch_name *ret_own, bool *ret_has_own, struct watch_name *ret_shared);

#endif
