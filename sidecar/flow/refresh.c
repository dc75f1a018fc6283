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
    struct budget_places *budget;
    void (*on_polled)(void *ctx, bool is_good); /* of a poll */
    void *ctx;
};

static void on_done(void *ctx, bool is_good)
{
    struct refresh *refresh = ctx;
    struct flow *flow = refresh->flow;
    struct flight_name pause = pause_of(&refresh->name);

    budget_leave(refresh->budget);
    if (refresh->on_polled != NULL) {
        refresh->on_polled(refresh->ctx, is_good);
    } else {
        counts_add(is_good ? COUNT_REFRESHED : COUNT_REFRESH_FAILED);
        if (!is_good)
            flight_mark_until(flow, &pause, store_now_ms(flow->shared->trust.store) + REFRESH_PAUSE_MS);
    }
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

/* True: led by us, or, of what turned out to be nobody else's, by nobody. */
static bool lead(struct flow *flow, const struct refresh_order *order, struct flight **ret)
{
    struct flight_ask ask = {.name = order->name};
    uint64_t subjects[STORE_SUBJECTS_MAX + 1];
    struct keys *keys = order->keys;

    *ret = NULL;
    keys_add_subjects(flow, order->message, order->decision, order->definition, keys);
    if (order->own != NULL && flight_is_marked(flow, &order->name, order->now_ms))
        return true;
    memcpy(subjects, keys->subjects, keys->subject_count * sizeof(subjects[0]));
    subjects[keys->subject_count] = keys->own_subject;
    ask.subjects = subjects;
    ask.subject_count = keys->subject_count + 1;
    return flight_join(flow, NULL, &ask, ret) == FLIGHT_LED;
}

enum refresh_begun refresh_begin(struct flow *flow, const struct refresh_order *order)
{
    bool is_poll = order->own != NULL;
    struct budget_places *budget = is_poll ? flow->shared->polls : flow->shared->refreshes;
    struct flight_name pause = pause_of(&order->name);
    struct exchange_plan plan = {
        .wire = order->wire,
        .message = order->message,
        .caller = order->caller,
        .id = &order->caller->id,
        .outcome = CP_OUTCOME_MISS,
        .decision = order->decision,
        .keys = order->keys,
        .is_mcp_path = true,
        .flight_name = order->name,
        .polled = order->own,
        .now_ms = order->now_ms,
    };
    struct exchange_own own = {.plan = &plan, .identity = order->caller->id, .now_ms = order->now_ms, .on_done = on_done};
    struct refresh *refresh;
    struct buf body = {0};
    int64_t wait_ms;

    if (!is_poll && (flight_is_marked(flow, &pause, order->now_ms) || flight_is_marked(flow, &order->name, order->now_ms)))
        return REFRESH_NOT;
    if (!budget_enter(budget))
        return REFRESH_FULL;
    if (!lead(flow, order, &plan.flight)) {
        budget_leave(budget);
        return REFRESH_NOT;
    }
    if (make_body(order->message, &body, &own.id) != 0 ||
        flow_ask_breaker(flow, order->message, order->now_ms, &plan.pass, &wait_ms) == BREAKER_OPEN) {
        buf_done(&body);
        if (plan.flight != NULL && flight_close(plan.flight))
            flight_land(plan.flight, flight_outcome_new(FLIGHT_APART));
        budget_leave(budget);
        return REFRESH_NOT;
    }
    plan.has_pass = true;
    plan.owner = caller_owner(&flow->trust, order->req, &order->caller->id);
    own.head = wire_request_head(
        order->req,
        &(struct wire_head){
            .host = flow_host(flow, order->wire), .identity_encoding = true, .body_bytes = body.n, .has_own_body = true},
        &own.head_bytes);
    if (own.head == NULL)
        h2o_fatal("no memory");
    own.body = body.p;
    own.body_bytes = body.n;
    refresh = h2o_mem_alloc(sizeof(*refresh));
    *refresh =
        (struct refresh){.flow = flow, .name = order->name, .budget = budget, .on_polled = order->on_polled, .ctx = order->ctx};
    own.ctx = refresh;
    exchange_begin_own(flow, &own);
    return REFRESH_DONE;
}
