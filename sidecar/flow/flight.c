/* SPDX-License-Identifier: Apache-2.0 */
/* Flights. Not here: the fetch itself (exchange.c), what its answer means for others (fill.c), what a woken request does (request.c).
 *
 * Two kinds of structure: a record in the registry for each fetch that may be joined or is waited for, under the registry's mutex; and on each loop that has to do
 * with it a flight with the clients that wait there. A record names the loops that have one.
 * Always: a record is gone before its flight lands, so nobody joins what is over, and every loop that it named hears of the end; a waiter is woken once, or its
 * client is gone. Thread: the flow's loop; the registry, any. */
#include "sidecar/flow/flight.h"

#include "sidecar/base/slots.h"
#include "sidecar/flow/exchange.h"
#include "sidecar/flow/keys.h"
#include "sidecar/flow/request.h"
#include "sidecar/wire/downstream.h"
#include "sidecar/wire/reply.h"

#include <pthread.h>
#include <stdlib.h>

#define BUCKETS       1024
#define LOCAL_BUCKETS FLOW_FLIGHT_BUCKETS
#define MARKS         8192
#define LEADER_ID_MAX 64

struct record {
    struct record *next;
    struct flight_name name;
    uint64_t serial;
    uint64_t generation;
    uint64_t loops; /* that have a flight for it, by index; the owner's own included */
    unsigned owner;
    size_t waiters;
    bool is_sealed;                /* nobody joins */
    bool is_leaderless;            /* it goes when the last who waits goes */
    uint8_t leader[16];            /* his session and credential */
    char leader_id[LEADER_ID_MAX]; /* the raw id under which the upstream knows it */
    size_t leader_id_bytes;        /* 0: none that fits */
};

/* Under which a client may cancel what it asked. */
struct asked {
    struct asked *next;
    uint8_t name[16];
    struct flight_name flight;
    uint64_t serial;
    unsigned loop;
    bool leads;
};

struct flight_registry {
    pthread_mutex_t mutex;
    struct slots *marks; /* until when answers are nobody else's; any thread */
    size_t count, max_flights, max_waiters;
    uint64_t last_serial;
    struct record *records[BUCKETS];
    struct asked *askeds[BUCKETS];
};

struct waiter {
    h2o_linklist_t link;
    struct flight *flight;
    struct downstream *client;
    int64_t began_ms; /* of its waiting */
    bool has_asked;
    uint8_t asked[16];
};

struct flight {
    h2o_linklist_t link; /* in the flow's buckets */
    struct flow *flow;
    struct flight_name name;
    uint64_t serial;
    h2o_linklist_t waiters;
    struct exchange *exchange; /* NULL: another loop's, or it has not begun */
    bool is_owner, has_asked;
    uint8_t asked[16]; /* the leader's */
};

enum message_kind {
    MESSAGE_LANDED,
    MESSAGE_ABANDONED, /* to the owner: nobody waits any more */
    MESSAGE_CANCELLED, /* the client that asked cancelled it */
};

struct flight_message {
    h2o_multithread_message_t super;
    enum message_kind kind;
    uint64_t serial;
    struct flight_outcome *outcome;
    uint8_t asked[16];
};

/* ---- outcomes ------------------------------------------------------------------------------------------------------------------- */

struct flight_outcome *flight_outcome_new(enum flight_end how)
{
    struct flight_outcome *outcome = h2o_mem_alloc(sizeof(*outcome));

    *outcome = (struct flight_outcome){.refs = 1, .how = how, .status = 200};
    return outcome;
}

struct flight_outcome *flight_outcome_ref(struct flight_outcome *outcome)
{
    __atomic_add_fetch(&outcome->refs, 1, __ATOMIC_RELAXED);
    return outcome;
}

void flight_outcome_unref(struct flight_outcome *outcome)
{
    if (__atomic_sub_fetch(&outcome->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    buf_done(&outcome->bytes);
    free(outcome);
}

/* ---- the registry ---------------------------------------------------------------------------------------------------------------- */

struct flight_registry *flight_registry_new(size_t max_flights, size_t max_waiters)
{
    struct flight_registry *registry = calloc(1, sizeof(*registry));

    if (registry == NULL)
        return NULL;
    if ((registry->marks = slots_new(MARKS, 1)) == NULL) {
        free(registry);
        return NULL;
    }
    pthread_mutex_init(&registry->mutex, NULL);
    registry->max_flights = max_flights;
    registry->max_waiters = max_waiters;
    return registry;
}

void flight_registry_free(struct flight_registry *registry)
{
    if (registry == NULL)
        return;
    pthread_mutex_destroy(&registry->mutex);
    slots_free(registry->marks);
    free(registry);
}

static struct flight_registry *registry_of(const struct flow *flow)
{
    return flow->shared->flight_registry;
}

/* Names are digests. */
static size_t bucket_of(const uint8_t *name)
{
    return (name[0] | (size_t)name[1] << 8) % BUCKETS;
}

/* Where the record of this flight hangs; *NULL when there is none. */
static struct record **record_at(struct flight_registry *registry, const struct flight_name *name, uint64_t serial)
{
    struct record **at = &registry->records[bucket_of(name->bytes)];

    while (*at != NULL && (*at)->serial != serial)
        at = &(*at)->next;
    return at;
}

/* The one that may be joined. */
static struct record *find_open(struct flight_registry *registry, const struct flight_name *name)
{
    for (struct record *record = registry->records[bucket_of(name->bytes)]; record != NULL; record = record->next)
        if (!record->is_sealed && memcmp(record->name.bytes, name->bytes, sizeof(name->bytes)) == 0)
            return record;
    return NULL;
}

void flight_name_for_everybody(const struct keys *keys, struct flight_name *ret)
{
    memcpy(ret->bytes, keys->public_key.digest, sizeof(ret->bytes));
}

void flight_name_of(struct flow *flow, const struct keys *keys, const struct cp_decision *decision, const struct identity *id,
                    int64_t now_ms, struct flight_name *ret)
{
    const struct cp_key *key = keys->has_private ? &keys->private_key : &keys->public_key;

    if (keys->has_public && cp_is_public_granted(decision, false, 0) &&
        admission_is_proven(&flow->trust, id, keys->grant, now_ms)) {
        flight_name_for_everybody(keys, ret);
        return;
    }
    /* standings are not in it: a caller's first answer begins them, and what ends one is looked at when the flight has landed (request.c) */
    for (size_t i = 0; i != sizeof(ret->bytes); ++i)
        ret->bytes[i] = key->digest[i] ^ id->credential.bytes[i];
}

static void drop_record(struct flight_registry *registry, struct record **at)
{
    struct record *record = *at;

    *at = record->next;
    --registry->count;
    free(record);
}

static struct asked **asked_at(struct flight_registry *registry, const uint8_t name[16])
{
    struct asked **at = &registry->askeds[bucket_of(name)];

    while (*at != NULL && memcmp((*at)->name, name, 16) != 0)
        at = &(*at)->next;
    return at;
}

/* Ids are a client's to choose: one that is used twice at a time cancels nothing here. */
static bool add_asked(struct flight_registry *registry, const struct flight_ask *ask, uint64_t serial, unsigned loop, bool leads)
{
    struct asked **at, *asked;

    if (!ask->has_asked || *(at = asked_at(registry, ask->asked)) != NULL)
        return false;
    asked = h2o_mem_alloc(sizeof(*asked));
    *asked = (struct asked){.next = *at, .flight = ask->name, .serial = serial, .loop = loop, .leads = leads};
    memcpy(asked->name, ask->asked, 16);
    *at = asked;
    return true;
}

static void drop_asked(struct flight_registry *registry, const uint8_t name[16])
{
    struct asked **at = asked_at(registry, name), *asked = *at;

    if (asked == NULL)
        return;
    *at = asked->next;
    free(asked);
}

/* Under the mutex: a loop that a record names is there. */
static void tell_loop(struct flow *flow, unsigned loop, const struct flight_message *message)
{
    struct flight_message *m;

    if (flow->shared->flows[loop] == NULL)
        return;
    m = h2o_mem_alloc(sizeof(*m));
    *m = *message;
    h2o_multithread_send_message(&flow->shared->flows[loop]->flight_receiver, &m->super);
}

/* ---- this loop's ----------------------------------------------------------------------------------------------------------------- */

static h2o_linklist_t *local_bucket(struct flow *flow, uint64_t serial)
{
    return &flow->flights[serial % LOCAL_BUCKETS];
}

static struct flight *find_local(struct flow *flow, uint64_t serial)
{
    h2o_linklist_t *bucket = local_bucket(flow, serial);

    for (h2o_linklist_t *l = bucket->next; l != bucket; l = l->next) {
        struct flight *flight = H2O_STRUCT_FROM_MEMBER(struct flight, link, l);

        if (flight->serial == serial)
            return flight;
    }
    return NULL;
}

static struct flight *new_local(struct flow *flow, const struct flight_name *name, uint64_t serial, bool is_owner)
{
    struct flight *flight = h2o_mem_alloc(sizeof(*flight));

    *flight = (struct flight){.flow = flow, .name = *name, .serial = serial, .is_owner = is_owner};
    h2o_linklist_init_anchor(&flight->waiters);
    h2o_linklist_insert(local_bucket(flow, serial), &flight->link);
    return flight;
}

static void free_local(struct flight *flight)
{
    h2o_linklist_unlink(&flight->link);
    free(flight);
}

static void free_waiter(struct waiter *waiter)
{
    h2o_linklist_unlink(&waiter->link);
    --waiter->flight->flow->exchange_count;
    free(waiter);
}

static void on_waiter_gone(void *owner)
{
    struct waiter *waiter = owner;
    struct flight *flight = waiter->flight;
    struct flow *flow = flight->flow;
    struct flight_registry *registry = registry_of(flow);
    struct record *record;

    pthread_mutex_lock(&registry->mutex);
    if (waiter->has_asked)
        drop_asked(registry, waiter->asked);
    /* none: it is landing */
    if ((record = *record_at(registry, &flight->name, flight->serial)) != NULL && --record->waiters == 0 && record->is_leaderless)
        tell_loop(flow, record->owner, &(struct flight_message){.kind = MESSAGE_ABANDONED, .serial = flight->serial});
    pthread_mutex_unlock(&registry->mutex);
    free_waiter(waiter);
}

static void on_waiter_drained(void *owner)
{
    (void)owner;
}

static void add_waiter(struct flight *flight, h2o_req_t *req, const struct flight_ask *ask, bool has_asked)
{
    struct waiter *waiter = h2o_mem_alloc(sizeof(*waiter));

    *waiter =
        (struct waiter){.flight = flight, .began_ms = store_now_ms(flight->flow->shared->trust.store), .has_asked = has_asked};
    memcpy(waiter->asked, ask->asked, 16);
    h2o_linklist_insert(&flight->waiters, &waiter->link);
    ++flight->flow->exchange_count;
    waiter->client = downstream_new(req, waiter, on_waiter_gone, on_waiter_drained);
    downstream_watch(waiter->client);
}

enum flight_join flight_join(struct flow *flow, h2o_req_t *req, const struct flight_ask *ask, struct flight **ret)
{
    struct flight_registry *registry = registry_of(flow);
    struct record *record;
    struct flight *flight;
    enum flight_join joined = FLIGHT_ALONE;
    bool has_asked = false;
    uint64_t serial = 0;

    if (flow->index == FLOWS_MAX)
        return FLIGHT_ALONE;
    pthread_mutex_lock(&registry->mutex);
    if ((record = find_open(registry, &ask->name)) != NULL && !MUTANT("join-past-purge") &&
        store_validity_of(flow->shared->trust.store, record->generation, ask->subjects, ask->subject_count) != STORE_VALID) {
        record->is_sealed = true;
        record = NULL;
    }
    if (record != NULL) {
        if (req == NULL) {
            joined = FLIGHT_JOINED;
        } else if (record->waiters < registry->max_waiters) {
            ++record->waiters;
            record->loops |= UINT64_C(1) << flow->index;
            serial = record->serial;
            has_asked = add_asked(registry, ask, serial, flow->index, false);
            joined = FLIGHT_JOINED;
        }
    } else if (registry->count < registry->max_flights) {
        struct record **bucket = &registry->records[bucket_of(ask->name.bytes)];

        ++registry->count;
        record = h2o_mem_alloc(sizeof(*record));
        *record = (struct record){
            .next = *bucket,
            .name = ask->name,
            .serial = serial = ++registry->last_serial,
            /* noted before anything is sent */
            .generation = store_generation(flow->shared->trust.store),
            .loops = UINT64_C(1) << flow->index,
            .owner = flow->index,
        };
        if (ask->has_asked && ask->id.n <= sizeof(record->leader_id)) {
            memcpy(record->leader_id, ask->id.p, ask->id.n);
            record->leader_id_bytes = ask->id.n;
            memcpy(record->leader, ask->client, sizeof(record->leader));
        }
        *bucket = record;
        has_asked = add_asked(registry, ask, serial, flow->index, true);
        joined = FLIGHT_LED;
    }
    pthread_mutex_unlock(&registry->mutex);
    if (serial == 0)
        return joined;
    if (joined == FLIGHT_LED) {
        flight = new_local(flow, &ask->name, serial, true);
        flight->has_asked = has_asked;
        memcpy(flight->asked, ask->asked, 16);
        *ret = flight;
        return FLIGHT_LED;
    }
    if ((flight = find_local(flow, serial)) == NULL)
        flight = new_local(flow, &ask->name, serial, false);
    add_waiter(flight, req, ask, has_asked);
    return FLIGHT_JOINED;
}

void flight_began(struct flight *flight, struct exchange *exchange)
{
    flight->exchange = exchange;
}

/* Under the mutex: nobody joins or leaves any more. Returns the loops that have to hear of it. */
static uint64_t end_record(struct flight_registry *registry, struct flight *flight, size_t *ret_waiters)
{
    struct record **at = record_at(registry, &flight->name, flight->serial);
    uint64_t loops = 0;

    *ret_waiters = 0;
    if (flight->has_asked)
        drop_asked(registry, flight->asked);
    flight->has_asked = false;
    if (*at != NULL) {
        loops = (*at)->loops;
        *ret_waiters = (*at)->waiters;
        drop_record(registry, at);
    }
    return loops;
}

bool flight_close(struct flight *flight)
{
    struct flight_registry *registry = registry_of(flight->flow);
    struct record *record;
    bool is_awaited;

    pthread_mutex_lock(&registry->mutex);
    record = *record_at(registry, &flight->name, flight->serial);
    is_awaited = record != NULL && record->loops != UINT64_C(1) << flight->flow->index;
    is_awaited |= !h2o_linklist_is_empty(&flight->waiters);
    if (record != NULL)
        record->is_sealed = true;
    if (!is_awaited) {
        size_t waiters;

        end_record(registry, flight, &waiters);
    }
    pthread_mutex_unlock(&registry->mutex);
    if (!is_awaited)
        free_local(flight);
    return is_awaited;
}

/* Who waits on this loop goes on; the flight is gone. Taken: outcome. */
static void wake(struct flight *flight, struct flight_outcome *outcome)
{
    struct flow *flow = flight->flow;
    struct telling telling = {.how = TELLING_LANDED, .outcome = outcome};
    h2o_linklist_t waiters;

    h2o_linklist_init_anchor(&waiters);
    h2o_linklist_insert_list(&waiters, &flight->waiters);
    /* one copy for all who wait here: libh2o's counts are no other loop's to touch */
    if (outcome->bytes.n != 0 && !h2o_linklist_is_empty(&waiters))
        telling.bytes = memcpy(h2o_mem_alloc_shared(NULL, outcome->bytes.n, NULL), outcome->bytes.p, outcome->bytes.n);
    while (!h2o_linklist_is_empty(&waiters)) {
        struct waiter *waiter = H2O_STRUCT_FROM_MEMBER(struct waiter, link, waiters.next);
        h2o_req_t *req = downstream_take(waiter->client);

        if (waiter->has_asked) {
            pthread_mutex_lock(&registry_of(flow)->mutex);
            drop_asked(registry_of(flow), waiter->asked);
            pthread_mutex_unlock(&registry_of(flow)->mutex);
        }
        telling.began_ms = waiter->began_ms;
        free_waiter(waiter);
        request_resume(flow, req, &telling);
    }
    if (telling.bytes != NULL)
        h2o_mem_release_shared(telling.bytes);
    free_local(flight);
    flight_outcome_unref(outcome);
}

void flight_land(struct flight *flight, struct flight_outcome *outcome)
{
    struct flow *flow = flight->flow;
    struct flight_registry *registry = registry_of(flow);
    size_t waiters;
    uint64_t loops;

    pthread_mutex_lock(&registry->mutex);
    loops = end_record(registry, flight, &waiters);
    for (unsigned loop = 0; loops != 0; ++loop, loops >>= 1)
        if ((loops & 1) != 0 && loop != flow->index)
            tell_loop(
                flow, loop,
                &(struct flight_message){.kind = MESSAGE_LANDED, .serial = flight->serial, .outcome = flight_outcome_ref(outcome)});
    pthread_mutex_unlock(&registry->mutex);
    wake(flight, outcome);
}

bool flight_leave(struct flight *flight)
{
    struct flight_registry *registry = registry_of(flight->flow);
    struct record *record;
    bool is_awaited;

    pthread_mutex_lock(&registry->mutex);
    record = *record_at(registry, &flight->name, flight->serial);
    /* what he asked stays known by its id: he may yet cancel it, and the upstream works for others under that id */
    is_awaited = record != NULL && record->waiters != 0;
    if (is_awaited)
        record->is_leaderless = true;
    pthread_mutex_unlock(&registry->mutex);
    if (is_awaited)
        return true;
    /* loops on which somebody waited for a while hear that it is over */
    if (flight_close(flight))
        flight_land(flight, flight_outcome_new(FLIGHT_APART));
    return false;
}

/* ---- hit-for-miss ---------------------------------------------------------------------------------------------------------------- */

bool flight_is_marked(struct flow *flow, const struct flight_name *name, int64_t now_ms)
{
    uint64_t words[SLOTS_WORDS_MAX];

    return slots_read(registry_of(flow)->marks, name->bytes, words) && (int64_t)words[0] > now_ms;
}

void flight_mark_until(struct flow *flow, const struct flight_name *name, int64_t until_ms)
{
    struct slots *marks = registry_of(flow)->marks;
    uint64_t words[SLOTS_WORDS_MAX];
    bool found;
    struct slot *slot = slots_lock(marks, name->bytes, words, &found);

    words[0] = until_ms > 0 ? (uint64_t)until_ms : 1;
    slots_unlock(marks, slot, name->bytes, words);
}

void flight_unmark(struct flow *flow, const struct flight_name *name, int64_t now_ms)
{
    if (flight_is_marked(flow, name, now_ms))
        flight_mark_until(flow, name, 0);
}

/* ---- cancellation ---------------------------------------------------------------------------------------------------------------- */

enum flight_cancel flight_cancel(struct flow *flow, const uint8_t name[16], const uint8_t client[16], h2o_mem_pool_t *pool,
                                 struct span *ret_id)
{
    struct flight_registry *registry = registry_of(flow);
    struct flight_message message = {.kind = MESSAGE_CANCELLED};
    enum flight_cancel cancel = FLIGHT_CANCEL_FORWARD;
    struct asked *asked;
    struct record *record;

    pthread_mutex_lock(&registry->mutex);
    if ((asked = *asked_at(registry, name)) != NULL && (record = *record_at(registry, &asked->flight, asked->serial)) != NULL) {
        bool is_last = asked->leads ? record->waiters == 0 : record->waiters == 1 && record->is_leaderless;

        message.serial = asked->serial;
        memcpy(message.asked, name, 16);
        if (!is_last) {
            cancel = FLIGHT_CANCEL_DONE;
        } else {
            /* the upstream may stop: nobody else may wait for it */
            record->is_sealed = true;
            if (!asked->leads) {
                /* in another session the id is another call's */
                cancel = record->leader_id_bytes != 0 && memcmp(record->leader, client, sizeof(record->leader)) == 0
                             ? FLIGHT_CANCEL_RENAMED
                             : FLIGHT_CANCEL_DONE;
                *ret_id = (struct span){h2o_strdup(pool, record->leader_id, record->leader_id_bytes).base, record->leader_id_bytes};
            }
        }
        if (cancel != FLIGHT_CANCEL_FORWARD)
            tell_loop(flow, asked->loop, &message);
    }
    pthread_mutex_unlock(&registry->mutex);
    return cancel;
}

/* ---- messages -------------------------------------------------------------------------------------------------------------------- */

static void on_cancelled(struct flight *flight, const uint8_t asked[16])
{
    if (flight->is_owner && flight->has_asked && memcmp(flight->asked, asked, 16) == 0) {
        if (flight->exchange != NULL)
            exchange_dismiss(flight->exchange);
        return;
    }
    for (h2o_linklist_t *l = flight->waiters.next; l != &flight->waiters; l = l->next) {
        struct waiter *waiter = H2O_STRUCT_FROM_MEMBER(struct waiter, link, l);
        h2o_req_t *req;

        if (!waiter->has_asked || memcmp(waiter->asked, asked, 16) != 0)
            continue;
        req = downstream_take(waiter->client);
        on_waiter_gone(waiter);
        reply_nothing_send(req);
        return;
    }
}

static void on_message(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    struct flow *flow = H2O_STRUCT_FROM_MEMBER(struct flow, flight_receiver, receiver);

    while (!h2o_linklist_is_empty(messages)) {
        struct flight_message *m = H2O_STRUCT_FROM_MEMBER(struct flight_message, super.link, messages->next);
        struct flight *flight = find_local(flow, m->serial);

        h2o_linklist_unlink(&m->super.link);
        switch (m->kind) {
        case MESSAGE_LANDED:
            if (flight != NULL && !flight->is_owner)
                wake(flight, m->outcome);
            else
                flight_outcome_unref(m->outcome);
            break;
        case MESSAGE_ABANDONED:
            if (flight != NULL && flight->is_owner && flight->exchange != NULL)
                exchange_abandon(flight->exchange);
            break;
        case MESSAGE_CANCELLED:
            if (flight != NULL)
                on_cancelled(flight, m->asked);
            break;
        }
        free(m);
    }
}

void flights_open(struct flow *flow)
{
    for (size_t i = 0; i != LOCAL_BUCKETS; ++i)
        h2o_linklist_init_anchor(&flow->flights[i]);
    h2o_multithread_register_receiver(flow->ctx->queue, &flow->flight_receiver, on_message);
}

void flights_close(struct flow *flow)
{
    /* libh2o asserts that nothing waits */
    while (!h2o_linklist_is_empty(&flow->flight_receiver._messages))
        h2o_evloop_run(flow->ctx->loop, 1);
    h2o_multithread_unregister_receiver(flow->ctx->queue, &flow->flight_receiver);
}

void flights_stop(struct flow *flow)
{
    struct flight_registry *registry = registry_of(flow);

    for (size_t i = 0; i != LOCAL_BUCKETS; ++i) {
        h2o_linklist_t *bucket = &flow->flights[i], *l = bucket->next;

        while (l != bucket) {
            struct flight *flight = H2O_STRUCT_FROM_MEMBER(struct flight, link, l);
            struct record *record;

            l = l->next;
            while (!h2o_linklist_is_empty(&flight->waiters)) {
                struct waiter *waiter = H2O_STRUCT_FROM_MEMBER(struct waiter, link, flight->waiters.next);
                struct downstream *client = waiter->client;

                on_waiter_gone(waiter);
                downstream_abort(client);
            }
            if (flight->is_owner)
                continue;
            pthread_mutex_lock(&registry->mutex);
            if ((record = *record_at(registry, &flight->name, flight->serial)) != NULL)
                record->loops &= ~(UINT64_C(1) << flow->index);
            pthread_mutex_unlock(&registry->mutex);
            free_local(flight);
        }
    }
}
