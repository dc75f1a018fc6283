/* SPDX-License-Identifier: Apache-2.0 */
/* Refreshes. Not here: when an entry is stale (lookup.c), what becomes of the reply (fill.c). Thread: the flow's loop. */
#include "sidecar/flow/refresh.h"

#include "cachepolicy/rewrite.h"
#include "sidecar/counts.h"
#include "sidecar/flow/exchange.h"
#include "sidecar/upstream/breaker.h"
#include "sidecar/upstream/budget.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

/* A pause is marked like hit-for-miss, under a name beside the flight's. */
static struct flight_name pause_of(const struct flight_name *name)
{
    struct flight_name pause = *name;

    pause.bytes[0] ^= 1;
    return pause;
}

struct refresh {
    struct flow *flow;
    struct flight_name name;
};

static void on_done(void *ctx, bool is_good)
{
    struct refresh *refresh = ctx;
    struct flow *flow = refresh->flow;
    struct flight_name pause = pause_of(&refresh->name);

    budget_leave(flow->shared->refreshes);
    counts_add(is_good ? COUNT_REFRESHED : COUNT_REFRESH_FAILED);
    if (!is_good)
        flight_mark_until(flow, &pause, store_now_ms(flow->shared->trust.store) + REFRESH_PAUSE_MS);
    free(refresh);
}

/* The same question with an id that no client uses. */
static int make_body(const struct cp_message *message, struct buf *out, struct span *ret_id)
{
    char id[64];
    uint64_t random[2];
    const char *at;
    int r, n;

    if (RAND_bytes((unsigned char *)random, sizeof(random)) != 1)
        return -EIO;
    n = snprintf(id, sizeof(id), "\"mcpcached-%016llx%016llx\"", (unsigned long long)random[0], (unsigned long long)random[1]);
    if ((r = cp_message_rewrite(message, (struct span){id, (size_t)n}, out)) != 0)
        return r;
    at = memmem(out->p, out->n, id, (size_t)n);
    *ret_id = (struct span){at, (size_t)n};
    return at != NULL ? 0 : -EINVAL;
}

void refresh_begin(struct flow *flow, h2o_req_t *req, struct wire_request *wire, const struct cp_message *message,
                   const struct caller *caller, const struct definition *definition, const struct cp_decision *decision,
                   struct keys *keys, const struct flight_name *name, int64_t now_ms)
{
    struct flight_name pause = pause_of(name);
    struct flight_ask ask = {.name = *name};
    struct exchange_plan plan = {
        .wire = wire,
        .message = message,
        .caller = caller,
        .id = &caller->id,
        .outcome = CP_OUTCOME_MISS,
        .decision = decision,
        .keys = keys,
        .is_mcp_path = true,
        .flight_name = *name,
        .now_ms = now_ms,
    };
    struct exchange_own own = {.plan = &plan, .identity = caller->id, .now_ms = now_ms, .on_done = on_done};
    uint64_t subjects[STORE_SUBJECTS_MAX + 1];
    struct flight *flight;
    struct refresh *refresh;
    struct buf body = {0};
    int64_t wait_ms;

    if (flight_is_marked(flow, &pause, now_ms) || flight_is_marked(flow, name, now_ms) || !budget_enter(flow->shared->refreshes))
        return;
    keys_add_subjects(flow, message, decision, definition, keys);
    memcpy(subjects, keys->subjects, keys->subject_count * sizeof(subjects[0]));
    subjects[keys->subject_count] = keys->own_subject;
    ask.subjects = subjects;
    ask.subject_count = keys->subject_count + 1;
    if (flight_join(flow, NULL, &ask, &flight) != FLIGHT_LED) {
        budget_leave(flow->shared->refreshes);
        return;
    }
    if (make_body(message, &body, &own.id) != 0 || flow_ask_breaker(flow, message, now_ms, &plan.pass, &wait_ms) == BREAKER_OPEN) {
        buf_done(&body);
        if (flight_close(flight))
            flight_land(flight, flight_outcome_new(FLIGHT_APART));
        budget_leave(flow->shared->refreshes);
        return;
    }
    plan.has_pass = true;
    plan.flight = flight;
    plan.owner = caller_owner(&flow->trust, req, &caller->id);
    own.head = wire_request_head(
        req,
        &(struct wire_head){.host = flow_host(flow, wire), .identity_encoding = true, .body_bytes = body.n, .has_own_body = true},
        &own.head_bytes);
    if (own.head == NULL)
        h2o_fatal("no memory");
    own.body = body.p;
    own.body_bytes = body.n;
    refresh = h2o_mem_alloc(sizeof(*refresh));
    *refresh = (struct refresh){.flow = flow, .name = *name};
    own.ctx = refresh;
    exchange_begin_own(flow, &own);
}
