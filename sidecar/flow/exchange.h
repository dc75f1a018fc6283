/* SPDX-License-Identifier: Apache-2.0 */
/* An exchange: one request forwarded upstream, its reply relayed as it comes, and, when the cache wants to know it, read along (fill.h).
 *
 * A pass is relayed byte for byte. A fill too; only when its reply is JSON does it wait for the end of the body (bounded by max-entry), so that
 * the head can say whether the answer was stored. Event streams are never held back.
 *
 * The client leaves: a modern exchange and whatever is no legacy request are cancelled upstream at once (closing the stream is how the modern era cancels; protocol notes 9). A
 * legacy request runs on to its end (2025-11-25 basic/transports: a disconnect is no cancel) unless its stream carries event ids: then the
 * upstream's stream is closed too, because the client may resume it, which servers refuse while the old one is open.
 * Only so many may run on without a client (flow.detached_max): the rest is cancelled, or clients that call and leave would take all descriptors.
 * Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_EXCHANGE_H
#define MCPCACHED_FLOW_EXCHANGE_H

#include "sidecar/flow/fill.h"
#include "sidecar/flow/probe.h"
#include "sidecar/flow/stamps.h"
#include "sidecar/upstream/breaker.h"

struct exchange;

/* What the story so far found out. Copied as needed; nothing here must outlive the call. */
struct exchange_plan {
    const struct wire_request *wire;
    const struct cp_message *message;   /* NULL: not a JSON-RPC POST on the MCP path */
    const struct caller *caller;        /* NULL with message */
    const struct identity *id;          /* whom the reply tells something of; NULL: not on the MCP path */
    enum cp_outcome outcome;            /* MISS: a fill; BYPASS, WRITE: a pass */
    enum cp_reason reason;              /* MISS: why an entry that was found was not the answer */
    const struct cp_decision *decision; /* with keys */
    const struct keys *
        keys; /* MISS; BYPASS of what could have been looked up: the entries that the answer may put in doubt, or renew when decision->may_store */
    struct flight *flight;          /* that this exchange leads; taken; NULL: none */
    struct flight_name flight_name; /* MISS: also of one that leads none */
    const struct stamps *stamps;    /* NULL: it changes nothing */
    struct breaker_pass pass;       /* with has_pass: to be settled */
    bool has_pass;
    uint64_t owner; /* MISS: on whose share the result lies */
    bool is_mcp_path;
    bool is_stream;                  /* counts against the open streams */
    enum probed probed;              /* a stream: what came of asking about its caller */
    const struct session *session;   /* of a GET: what its session negotiated */
    bool completes;                  /* the reply says what the server can tell of, and is completed (offer.h) */
    bool subscribes;                 /* resources/subscribe: when it is accepted, it is noted here */
    const struct watch_name *polled; /* a poll's (watch.h): whose own name its answer has; NULL: it is none */
    int64_t now_ms;
};

void exchange_begin(struct flow *flow, h2o_req_t *req, const struct exchange_plan *plan);

/* A request of our own in a caller's name: no client waits for its reply, only on_done, which comes exactly once. */
struct exchange_own {
    const struct exchange_plan *plan; /* of a refresh; NULL: a probe */
    char *head, *body;                /* taken */
    size_t head_bytes, body_bytes;
    struct span id; /* raw token, in body */
    struct identity identity;
    int64_t now_ms;
    void (*on_done)(
        void *ctx,
        bool
            is_accepted); /* accepted: answered by a result; of a refresh: by one that is stored; of a poll: by one that could be compared */
    void *ctx;
};
/* NULL: it is already done. */
struct exchange *exchange_begin_own(struct flow *flow, const struct exchange_own *own);

/* What is said of a fetch that ended like this, without a usable answer. */
const char *exchange_failure_text(enum upstream_end how);
/* Seconds that a reply's Retry-After asks for; 0: none, or a date. */
int exchange_retry_after(const struct upstream_head *head);

struct exchange *exchange_of_link(h2o_linklist_t *link);
/* Upstream cancelled, client cut, exchange gone. */
void exchange_kill(struct exchange *x);
/* Its client cancelled, while others wait for the same: he gets no answer, the fetch runs on. */
void exchange_dismiss(struct exchange *x);
/* Nobody waits any more for one that has no client. */
void exchange_abandon(struct exchange *x);

/* The line about one request, and its count. */
struct exchange_note {
    struct span method, name;      /* JSON-RPC; absent: none */
    struct span http_method, path; /* used when there is no JSON-RPC method */
    enum cp_outcome outcome;
    enum cp_reason reason;
    const char *rule;
    int status;
    int64_t ms;
    size_t bytes;
};
void exchange_log(const struct exchange_note *note);

#endif
