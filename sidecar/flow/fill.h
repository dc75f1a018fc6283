/* SPDX-License-Identifier: Apache-2.0 */
/* A fill: what is made of a reply that passes. Judges it when it is the final answer to the request, stores a result that the policy lets be
 * kept, learns what a session negotiated. It never holds anything back and knows nothing of sockets.
 * Thread: the flow's loop. Embedded in its exchange. */
#ifndef MCPCACHED_FLOW_FILL_H
#define MCPCACHED_FLOW_FILL_H

#include "sidecar/flow/flight.h"
#include "sidecar/flow/keys.h"
#include "sidecar/notify/subscribers.h"
#include "sidecar/trust/admission.h"

enum fill_kind {
    FILL_NOTHING,   /* the reply is none of the cache's business */
    FILL_STORE,     /* a lookup that missed */
    FILL_WATCH,     /* a bypass of what could have been looked up: nothing is stored, but a refusal is heard */
    FILL_LEARN,     /* a list of tools that passes: what it says of them */
    FILL_SESSION,   /* an initialize of the session-based versions */
    FILL_PROBE,     /* a request of our own: whether it was answered by a result */
    FILL_SUBSCRIBE, /* a subscription that passes: the same */
};

struct fill {
    enum fill_kind kind;
    struct flow *flow;
    struct span body, id; /* of the request; borrowed from the exchange */
    int64_t began_ms;
    uint64_t generation; /* noted before it was asked */
    bool is_refresh;
    bool is_poll;                /* also a refresh */
    struct watch_name polled;    /* with is_poll: the answer's own name */
    uint8_t offers;              /* FILL_SESSION: enum session_offer, what was added to its answer */
    struct cp_decision decision; /* its rule is borrowed from the policy that the exchange holds */
    struct keys keys;            /* its subjects grow with the reply's tags and resources */
    size_t asked_count;          /* of them: those of the question */
    bool has_flight;
    struct flight_name flight_name;
    struct flight_outcome *outcome; /* owned; what it means for those who wait, once it is judged; NULL: nobody can wait */
    uint64_t owner;
    struct identity *id_of_caller; /* borrowed from the exchange, which keeps it up to date */
    struct cp_reply reply;
    char *session_id; /* owned; FILL_SESSION */
    size_t session_id_bytes;
    bool is_judged, is_stored;
    bool
        is_accepted; /* FILL_PROBE, FILL_SUBSCRIBE: by a result; a refresh: by one that is stored; a poll: by one that could be compared */
    bool is_doubtful;      /* something came before the final reply that could not be read */
    enum cp_reason reason; /* why nothing is stored; NONE while nothing speaks against it */
};

/* facts: of the reply's head. */
void fill_head(struct fill *fill, const struct wire_reply_facts *facts);
/* value: of a Cache-Groups header. */
void fill_groups(struct fill *fill, struct span value);
/* text: a whole JSON reply. */
void fill_reply(struct fill *fill, struct span text);
/* data: of one event, in order. lost: an event before it was too large to be read. */
void fill_event(struct fill *fill, struct span data, bool lost);
/* The reply came whole but could not be judged: it was too large to be read. */
void fill_unread(struct fill *fill);
/* What was stored shall not stand: after the judged reply came something that belongs to none. */
void fill_withdraw(struct fill *fill);
/* What the end without a judged reply means for those who wait. */
struct flight_outcome *fill_outcome_of(struct fill *fill, enum cp_reason reason, int status, const char *text, int retry_after_s);
void fill_done(struct fill *fill);

#endif
