/* SPDX-License-Identifier: Apache-2.0 */
/* Flights: one fetch that several requests wait for, on whatever loops. A flight belongs to the sidecar: it outlives the client that led to it while anybody waits.
 * Its name says what is asked and by whom, so that only who would send the very same request waits for it; and nobody joins one that began before something of what
 * it fetches was purged.
 *
 *      join -> LED     the exchange is the caller's to begin; it ends in close and land
 *           -> JOINED  the request was taken; its story is told again when the flight lands (request_resume)
 *           -> ALONE   no room, or no use: the last one showed that its answers are nobody else's (hit-for-miss)
 *
 * Who waits is woken by an event, all at once. Thread: the flow's loop; the registry has a mutex, held for a few loads and stores. */
#ifndef MCPCACHED_FLOW_FLIGHT_H
#define MCPCACHED_FLOW_FLIGHT_H

#include "sidecar/flow/flow.h"

struct exchange;
struct flight;
struct flight_registry;

/* How long the answers of a question stay nobody else's before the next herd is held together again. */
#define FLIGHT_HIT_FOR_MISS_MS (10 * 1000)

struct flight_name {
    uint8_t bytes[32]; /* a keyed digest; its first half is remembered beyond one flight (marks) */
};

struct cp_decision;
struct identity;
struct keys;
/* Who is proven anyway waits for what may become everybody's; anybody else only for his own. */
void flight_name_of(struct flow *flow, const struct keys *keys, const struct cp_decision *decision, const struct identity *id,
                    int64_t now_ms, struct flight_name *ret);
/* keys with a public one. */
void flight_name_for_everybody(const struct keys *keys, struct flight_name *ret);

/* What a landed flight brought. Shared: counted. */
enum flight_end {
    FLIGHT_RESULT,  /* bytes is a result */
    FLIGHT_ERROR,   /* bytes is the error member of a JSON-RPC reply */
    FLIGHT_FAILURE, /* nothing came: text */
    FLIGHT_APART,   /* it was the leader's alone: each sends his own */
};
struct flight_outcome {
    int refs; /* atomic */
    enum flight_end how;
    enum cp_reason reason;
    int status;
    int retry_after_s;      /* 0: none is said */
    const char *text;       /* FAILURE; static */
    int64_t began_ms;       /* store clock: when it was asked; an end since then takes the right to it away */
    uint8_t credential[32]; /* whose answer it is, and in which session; others wait for what becomes everybody's */
    uint8_t session[16];
    uint64_t generation; /* noted before it was asked */
    uint64_t subjects
        [STORE_SUBJECTS_MAX]; /* RESULT: what purges it and only the answer told, so that nobody could know it when he joined */
    size_t subject_count;
    struct buf bytes;
    uint32_t ttl_start, ttl_end;
    bool has_hint;
    int64_t hint_ttl_ms, stored_at_ms;
};
struct flight_outcome *flight_outcome_new(enum flight_end how);
struct flight_outcome *flight_outcome_ref(struct flight_outcome *outcome);
void flight_outcome_unref(struct flight_outcome *outcome);
static inline void flight_outcome_unref_null(struct flight_outcome *outcome)
{
    if (outcome != NULL)
        flight_outcome_unref(outcome);
}

struct flight_ask {
    struct flight_name name;
    const uint64_t *subjects; /* borrowed: whatever purges the answer, as far as the question tells, and the caller's own writes */
    size_t subject_count;
    bool has_asked;
    uint8_t asked[16];  /* under which the client may cancel it */
    uint8_t client[16]; /* his session and credential; with has_asked */
    struct span id;     /* raw token; with has_asked */
};

enum flight_join {
    FLIGHT_LED,
    FLIGHT_JOINED,
    FLIGHT_ALONE,
};
/* req NULL: only to lead; JOINED says that somebody fetches it already. */
enum flight_join flight_join(struct flow *flow, h2o_req_t *req, const struct flight_ask *ask, struct flight **ret);
/* The leader's exchange; once, after LED. */
void flight_began(struct flight *flight, struct exchange *exchange);

/* Nobody joins any more. True when somebody waits: then land it. False: it is gone. */
bool flight_close(struct flight *flight);
/* After close said true. Taken: outcome. The flight is gone. */
void flight_land(struct flight *flight, struct flight_outcome *outcome);
/* True when others wait, so that the fetch runs on without its leader; false: it is gone. */
bool flight_leave(struct flight *flight);

/* Whether it is marked: its answers were lately nobody else's, or (refresh.h) it failed a moment ago. Marks are bounded; what is forgotten is not marked. */
bool flight_is_marked(struct flow *flow, const struct flight_name *name, int64_t now_ms);
void flight_mark_until(struct flow *flow, const struct flight_name *name, int64_t until_ms);
void flight_unmark(struct flow *flow, const struct flight_name *name, int64_t now_ms);

enum flight_cancel {
    FLIGHT_CANCEL_FORWARD, /* nobody else waits: the upstream shall hear of it, and nobody joins from now on */
    FLIGHT_CANCEL_RENAMED, /* the same, but the upstream knows the call under the id that the same client gave it when he led it */
    FLIGHT_CANCEL_DONE,    /* one of several: he waits no more, the others do, and the upstream need not hear of it */
};
/* The client of a session cancels its request. ret_id, when RENAMED: the raw token; in pool. */
enum flight_cancel flight_cancel(struct flow *flow, const uint8_t asked[16], const uint8_t client[16], h2o_mem_pool_t *pool,
                                 struct span *ret_id);

struct flight_registry *flight_registry_new(size_t max_flights, size_t max_waiters);
void flight_registry_free(struct flight_registry *registry);

/* Once per flow, on its loop; before probes_open and before probes_close: while flow->index is set, other loops may send. */
void flights_open(struct flow *flow);
void flights_close(struct flow *flow);
/* Cuts all who wait here; before the exchanges are killed. */
void flights_stop(struct flow *flow);

#endif
