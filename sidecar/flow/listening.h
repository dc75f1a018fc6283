/* SPDX-License-Identifier: Apache-2.0 */
/* Listening: what a subscriptions/listen asks for, what of it the upstream grants, and what we add (2026-07-28 basic/patterns/subscriptions). Not here: the stream itself.
 * Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_LISTENING_H
#define MCPCACHED_FLOW_LISTENING_H

#include "cachepolicy/telling.h"
#include "sidecar/flow/flow.h"
#include "sidecar/notify/subscribers.h"

/* URIs of one listen; of more, the first ones are honoured. */
#define LISTENING_URIS_MAX 1024

/* What we tell of and the upstream does not. Zero-initialise. */
struct listening {
    struct cp_listen lists;
    struct span *uris; /* owned, and so are their bytes */
    size_t uri_count;
    bool they_tell; /* the upstream grants something of what was asked, or of what nobody here knows */
};
void listening_done(struct listening *l);

/* The request as it is sent upstream: without what only the policy knows (URIs of tools' results). Appends nothing and returns false when it goes as it came. */
bool listening_rewrites(struct flow *flow, const struct cp_message *message, struct buf *out);

/* Called for each thing that is asked for. True: it is told of from now on. */
typedef bool (*listening_fn)(void *ctx, enum topic topic, enum cp_method method, struct span uri, bool is_covered);
/* message: the request, its scan in flow->request_doc. ack: the upstream's, its scan in flow->reply_doc; NULL: it grants nothing. False: nothing that was asked for is told of by
 * anybody. */
bool listening_begin(struct listening *l, struct flow *flow, const struct cp_message *message, const struct cp_answer *ack,
                     listening_fn fn, void *ctx);
/* Whether we tell of anything that the upstream does not. */
bool listening_adds(const struct listening *l);

#endif
