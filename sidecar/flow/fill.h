/* SPDX-License-Identifier: Apache-2.0 */
/* A fill: what is made of a reply that passes. Judges it when it is the final answer to the request, stores a result that the policy lets be
 * kept, learns what a session negotiated. It never holds anything back and knows nothing of sockets.
 * Thread: the flow's loop. Embedded in its exchange. */
#ifndef MCPCACHED_FLOW_FILL_H
#define MCPCACHED_FLOW_FILL_H

#include "sidecar/flow/flow.h"
#include "sidecar/trust/admission.h"

/* The names under which an answer may lie; the private one still to be bound to the epochs of whoever asks (fill_bind). */
struct fill_keys {
    struct cp_key private_key, public_key;
    struct cp_key first_page; /* of a list that this request asks a later page of, in the public arm */
    bool has_private, has_public, has_first_page;
    uint8_t grant[16]; /* of who asks, for what is asked */
};

enum fill_kind {
    FILL_NOTHING, /* the reply is none of the cache's business */
    FILL_STORE,   /* a lookup that missed */
    FILL_WATCH,   /* a bypass of what could have been looked up: nothing is stored, but a refusal is heard */
    FILL_SESSION, /* an initialize of the session-based versions */
    FILL_PROBE,   /* a request of our own: whether it was answered by a result */
};

/* The private key, bound. False: who asks has no standing, so nothing is kept for him. */
bool fill_bind(const struct fill_keys *keys, const struct identity *id, enum cp_scope scope, struct cp_key *ret);

struct fill {
    enum fill_kind kind;
    struct flow *flow;
    struct span body, id; /* of the request; borrowed from the exchange */
    int64_t began_ms;
    struct cp_decision decision; /* its rule is borrowed from the policy that the exchange holds */
    struct fill_keys keys;
    uint64_t owner;
    struct identity *id_of_caller; /* borrowed from the exchange, which keeps it up to date */
    struct cp_reply reply;
    char *session_id; /* owned; FILL_SESSION */
    size_t session_id_bytes;
    bool is_judged, is_stored;
    bool is_accepted;      /* FILL_PROBE: by a result */
    bool is_doubtful;      /* something came before the final reply that could not be read */
    enum cp_reason reason; /* why nothing is stored; NONE while nothing speaks against it */
};

/* facts: of the reply's head. */
void fill_head(struct fill *fill, const struct wire_reply_facts *facts);
/* text: a whole JSON reply. */
void fill_reply(struct fill *fill, struct span text);
/* data: of one event, in order. lost: an event before it was too large to be read. */
void fill_event(struct fill *fill, struct span data, bool lost);
/* The reply came whole but could not be judged: it was too large to be read. */
void fill_unread(struct fill *fill);
/* What was stored shall not stand: after the judged reply came something that belongs to none. */
void fill_withdraw(struct fill *fill);
void fill_done(struct fill *fill);

#endif
