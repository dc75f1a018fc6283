/* SPDX-License-Identifier: Apache-2.0 */
/* Watching: what subscribers want to hear of is looked at when its lifetime ends, and whatever answer passes is compared with what they know (protocol notes 12, "Change
 * detection"). Not here: who is told what, and when something is due (notify/subscribers.h).
 * Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_WATCH_H
#define MCPCACHED_FLOW_WATCH_H

#include "sidecar/flow/question.h"

/* Who subscribes, and the request by which the upstream knows him. */
struct watcher {
    const struct subscriber_id *id;
    struct stream_ref stream;         /* id 0: a session, whatever streams it has */
    h2o_req_t *req;                   /* open, or the one that subscribes */
    const struct cp_message *message; /* of a listen; NULL: legacy */
};

struct watched {
    enum topic topic;
    enum cp_method method;
    struct span uri; /* of a resource */
    bool is_covered; /* the upstream tells of it itself */
    int64_t from_ms; /* without a baseline it is first looked at then; 0: now */
};
enum watch {
    WATCH_DONE,
    WATCH_FULL,   /* a limit */
    WATCH_CANNOT, /* its answers cannot be compared, and nobody else tells of it */
};
/* Takes what the cache has for him now as what he knows. */
enum watch watch_begin(struct flow *flow, const struct watcher *who, const struct watched *what, int64_t now_ms);
/* The name by which purges, and the upstream's own notices, know it. */
uint64_t watch_subject(struct flow *flow, enum cp_method method, struct span uri);

/* Whether there is room for another question now. False: it is settled as one that found none. */
bool watch_may_poll(struct flow *flow, const struct identity *id, const struct action *action, bool tells, int64_t now_ms);
/* Asks the upstream in the watcher's name; what the answer is, its fill reports (watch_saw). tells: once it is answered well, the stream is told (stream.h), whatever it
 * says: he had to be seen to be let in first. */
void watch_poll(struct flow *flow, const struct watcher *who, const struct action *action, bool tells, int64_t now_ms);

/* An answer that passed, judged. */
struct seen {
    const struct cp_message *message;
    const struct cp_decision *decision;
    const struct keys *keys;          /* its subjects are those that purge the answer */
    const struct identity *id;        /* who asked */
    const struct watch_name *own;     /* of a poll: whose own name it is; NULL: the keys tell */
    struct span result;               /* absent: there is none any more */
    bool is_everybodys;               /* it is served to all from now on, or would be */
    bool is_gone_for_all;             /* without a result: what everybody had is gone, too */
    int64_t began_ms, fresh_until_ms; /* 0: it has no lifetime */
};
/* Whoever may be served it and knows something else is told. What was stored is in place. True: it could be compared. */
bool watch_saw(struct flow *flow, const struct seen *seen, int64_t now_ms);

/* Whether an answer to this would interest anybody. Cheap: most do not. */
bool watch_may_want(struct flow *flow, const struct cp_message *message, const struct cp_decision *decision,
                    const struct keys *keys, const struct watch_name *own);

#endif
