/* SPDX-License-Identifier: Apache-2.0 */
/* The writer thread and its queue: gathers puts and deletions into batches, commits them, sweeps and reclaims between them.
 * Not here: how an entry is laid out (rows.c), how room is made (sweeper.c).
 * Always: callers only take a short lock, and wake the thread only when it sleeps; the bytes in the queue stay below the bound, whatever
 * the disk does; a put that cannot be written becomes a deletion of its key, so that no older answer outlives it; a deletion that cannot be
 * written breaks the store (everything in it is a miss) until the whole of it could be cleared. No failure here reaches a request.
 * Threads: any for the functions of the header, the writer for the rest. */
#include "writer.h"

#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdlib.h>
#include <time.h>

#include "sweeper.h"

enum {
    BATCH_RECORDS = 256,
    GATHER_MS = 3, /* after the first record: a lone put is on its way soon, a stream of them shares commits */
    TICK_MS = 1000,
    READER_CHECK_MS = 60 * 1000,
    RECLAIM_PAUSE_MS = 10 * 1000, /* at least, between two walks over the index that nobody asked for */
    RECLAIM_PAUSE_PARTS = 20,     /* and so many times what the last one took */
    ATTEMPTS_AS_PUTS = 9,         /* of one batch, making room between them; then its puts are given up */
    ATTEMPTS = 12,                /* then everything is cleared */
    BATCHES_PER_STORE = 32,       /* in pages: what a batch frees can be used two commits later, so it must be little */
    BATCH_PAGES_MIN = 32,
    BATCH_PAGES_MAX = 512,
};

enum item_kind { ITEM_PUT, ITEM_DELETE, ITEM_SWEEP, ITEM_RECLAIM };

_Static_assert((int)ENTRY_SUBJECTS_MAX == (int)STORE_SUBJECTS_MAX, "a record holds what an entry may have");

struct item {
    struct item *next;
    enum item_kind kind;
    struct cp_key key;
    struct pending_item pending; /* puts and deletions: findable from before they are queued until after the commit */
    struct store_entry entry;    /* subjects, body and name point into bytes */
    int64_t now_ms;              /* of a sweep */
    size_t queued_bytes;         /* its weight against the bound; 0: none */
    alignas(uint64_t) char bytes[];
};

struct writer {
    struct local *local;
    struct state *state;
    const struct fault_mark *mark;
    struct pending *pending;
    pthread_t thread;
    struct writer_counters counters;
    uint64_t queue_bytes_max;

    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;    /* the thread waits here */
    pthread_cond_t written; /* writer_flush waits here */
    struct item *first, **last;
    uint64_t queue_records;
    uint64_t queue_bytes;  /* of everything not yet written, the batch at work included */
    uint64_t tickets;      /* items queued so far */
    uint64_t done_tickets; /* items written so far */
    unsigned flushers;
    enum { IS_BUSY, IS_IDLE, IS_GATHERING } posture;
    bool is_stopping, is_held;
    bool is_reclaim_asked;
    bool has_lost_delete; /* no memory to queue a deletion: all must go */

    /* writer */
    uint64_t next_seq;
    int64_t tick_at_ms, reader_check_at_ms; /* monotonic */
    bool has_more_expired, has_uncounted;
    bool is_reclaiming; /* a walk over the index has begun; place is where it goes on */
    struct rows_place place;
    int64_t reclaim_at_ms, reclaim_began_at_ms; /* monotonic: the next walk that nobody asks for; the one at work */
};

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    if (n > 0)
        atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void pause_ms(int64_t ms)
{
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static void change_count(struct writer *writer, const struct rows_change *change)
{
    struct writer_counters *c = &writer->counters;
    add(&c->puts, change->put);
    add(&c->overwrites, change->overwritten);
    add(&c->purged, change->purged);
    add(&c->swept, change->swept);
    add(&c->evicted_live, change->evicted_live);
    add(&c->evicted_dead, change->evicted_dead);
    add(&c->evicted_share, change->evicted_share);
    add(&c->reclaimed, change->reclaimed);
}

static void failure_count(struct writer *writer, int r)
{
    add(r == MDB_MAP_FULL || r == MDB_TXN_FULL ? &writer->counters.map_full : &writer->counters.errors, 1);
}

/* ---- the queue, any thread ---- */

/* Under lock. The thread is woken only when it sleeps: a signal costs a system call. */
static void wake_if_asleep(struct writer *writer)
{
    if (writer->posture == IS_IDLE || (writer->posture == IS_GATHERING &&
                                       (writer->queue_records >= BATCH_RECORDS || writer->flushers > 0 || writer->is_stopping)))
        pthread_cond_signal(&writer->wake);
}

static bool changes_a_key(const struct item *item)
{
    return item->kind == ITEM_PUT || item->kind == ITEM_DELETE;
}

static void item_free(struct writer *writer, struct item *item)
{
    if (item->pending.key != NULL)
        pending_remove(writer->pending, &item->pending);
    free(item);
}

/* Taken: item. False, and freed, when its weight does not fit. */
static bool item_post(struct writer *writer, struct item *item)
{
    bool fits;

    pthread_mutex_lock(&writer->lock);
    fits = item->queued_bytes == 0 || item->queued_bytes <= writer->queue_bytes_max - writer->queue_bytes;
    if (fits) {
        writer->queue_bytes += item->queued_bytes;
        ++writer->queue_records;
        ++writer->tickets;
        *writer->last = item;
        writer->last = &item->next;
        if (changes_a_key(item)) {
            /* under the queue's lock, so that the last word on a key is the same here as in the file */
            item->pending.key = &item->key;
            item->pending.entry = item->kind == ITEM_PUT ? &item->entry : NULL;
            pending_add(writer->pending, &item->pending);
        }
        wake_if_asleep(writer);
    }
    pthread_mutex_unlock(&writer->lock);
    if (!fits)
        item_free(writer, item);
    return fits;
}

static struct item *item_new(enum item_kind kind, const struct cp_key *key, size_t bytes)
{
    struct item *item = malloc(sizeof(*item) + bytes);
    if (item == NULL)
        return NULL;
    *item = (struct item){.kind = kind};
    if (key != NULL)
        item->key = *key;
    return item;
}

/* What is purged may be on its way to whoever waited for it, but nobody who asks from now on may have it. */
static bool is_purged(const struct writer *writer, const struct store_entry *entry)
{
    return entry->method != CP_METHOD_INITIALIZE && generations_validity(writer->local->generations, entry->generation,
                                                                         entry->subjects, entry->subject_count) == STORE_PURGED;
}

bool writer_put(struct writer *writer, const struct cp_key *key, const struct store_entry *entry)
{
    size_t name_bytes = entry->name.n < ENTRY_NAME_MAX ? entry->name.n : (size_t)ENTRY_NAME_MAX;
    size_t subjects_bytes, bytes;
    struct item *item = NULL;

    /* The limits first, then the allocation; times, generation and ttl_start, ttl_end are checked because a record that breaks its own rules would never verify. */
    if (entry->subject_count > STORE_SUBJECTS_MAX || entry->generation > generations_now(writer->local->generations))
        goto drop;
    if (is_purged(writer, entry))
        return false;
    subjects_bytes = entry->subject_count * sizeof(entry->subjects[0]);
    bytes = subjects_bytes + entry->body.n + name_bytes;
    if (entry->body.n <= writer->local->entry_bytes_max && entry->body.n + sizeof(*item) <= writer->queue_bytes_max &&
        entry->ttl_start <= entry->ttl_end && entry->ttl_end <= entry->body.n && entry->began_ms <= entry->stored_at_ms &&
        !atomic_load_explicit(&writer->local->is_broken, memory_order_relaxed))
        item = item_new(ITEM_PUT, key, bytes);
    if (item != NULL) {
        char *body = item->bytes + subjects_bytes, *name = body + entry->body.n;
        item->queued_bytes = sizeof(*item) + bytes;
        item->entry = *entry;
        if (subjects_bytes > 0)
            memcpy(item->bytes, entry->subjects, subjects_bytes);
        if (entry->body.n > 0)
            memcpy(body, entry->body.p, entry->body.n);
        if (name_bytes > 0)
            memcpy(name, entry->name.p, name_bytes);
        item->entry.subjects = (const uint64_t *)(const void *)item->bytes;
        item->entry.body = (struct span){body, entry->body.n};
        item->entry.name = (struct span){name, name_bytes};
        if (item_post(writer, item))
            return true;
    }
drop:
    add(&writer->counters.put_drops, 1);
    return false;
}

void writer_delete(struct writer *writer, const struct cp_key *key)
{
    struct item *item = item_new(ITEM_DELETE, key, 0);
    if (item != NULL) {
        item_post(writer, item);
        return;
    }
    /* A store may lose everything, but it must not keep what was to be deleted. */
    pthread_mutex_lock(&writer->lock);
    writer->has_lost_delete = true;
    wake_if_asleep(writer);
    pthread_mutex_unlock(&writer->lock);
}

void writer_sweep(struct writer *writer, int64_t now_ms)
{
    struct item *item = item_new(ITEM_SWEEP, NULL, 0);
    if (item == NULL)
        return;
    item->now_ms = now_ms;
    item_post(writer, item);
}

void writer_reclaim_all(struct writer *writer)
{
    struct item *item = item_new(ITEM_RECLAIM, NULL, 0);
    if (item != NULL)
        item_post(writer, item);
}

void writer_reclaim(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->is_reclaim_asked = true;
    wake_if_asleep(writer);
    pthread_mutex_unlock(&writer->lock);
}

void writer_flush(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    uint64_t mine = writer->tickets;
    ++writer->flushers;
    wake_if_asleep(writer);
    while (writer->done_tickets < mine)
        pthread_cond_wait(&writer->written, &writer->lock);
    --writer->flushers;
    pthread_mutex_unlock(&writer->lock);
}

void writer_hold(struct writer *writer, bool is_held)
{
    pthread_mutex_lock(&writer->lock);
    writer->is_held = is_held;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
}

struct pending *writer_pending(struct writer *writer)
{
    return writer->pending;
}

struct writer_counters *writer_counters(struct writer *writer)
{
    return &writer->counters;
}

/* ---- writing, the writer ---- */

/* Broken: gets miss, puts drop, and the next open wipes, should this process end before everything could be cleared. */
static void broken_set(struct writer *writer, bool is_broken, int why)
{
    if (atomic_load_explicit(&writer->local->is_broken, memory_order_relaxed) == is_broken)
        return;
    atomic_store_explicit(&writer->local->is_broken, is_broken, memory_order_release);
    writer->state->is_distrusted = is_broken;
    if (state_write(writer->state) != 0)
        add(&writer->counters.errors, 1);
    if (is_broken)
        LOG(LOG_WARN, "store-broken", LOG_TEXT_FIELD("why", mdb_strerror(why), strlen(mdb_strerror(why))));
    else
        LOG(LOG_INFO, "store-emptied", LOG_TEXT_FIELD("why", "it works again", 14));
}

/* Whether LMDB speaks of pages that are not what they were: nothing that needs them will ever work. */
static bool is_damage(int r)
{
    return r == MDB_CORRUPTED || r == MDB_PAGE_NOTFOUND || r == MDB_CURSOR_FULL || r == MDB_PAGE_FULL;
}

static void clear_or_break(struct writer *writer)
{
    struct rows_change change = {0};
    int r = sweeper_clear(writer->local, &change);

    if (r == 0)
        add(&writer->counters.wiped, 1);
    else
        failure_count(writer, r);
    broken_set(writer, r != 0, r);
}

/* What one transaction took from the list. */
struct batch {
    struct item *rest; /* first item that it did not take */
    uint64_t given_up; /* puts that were treated as deletions */
    struct rows_change change;
};

static int item_apply(struct writer *writer, MDB_txn *txn, const struct item *item, bool give_up_puts, struct batch *batch)
{
    const struct rows *rows = &writer->local->rows;
    /* Nor may what it was to replace come back in its place: it is older still, whatever its subjects are. And a walk that reclaims would have passed it. */
    bool is_late = item->kind == ITEM_PUT && is_purged(writer, &item->entry), found = false;
    int r;

    if (item->kind == ITEM_PUT && !give_up_puts && !is_late) {
        const struct store_entry *entry = &item->entry;
        struct entry_record record = {
            .owner = entry->owner,
            .began_ms = entry->began_ms,
            .stored_at_ms = entry->stored_at_ms,
            .expires_at_ms = entry->expires_at_ms,
            .has_hint = entry->has_hint,
            .hint_ttl_ms = entry->hint_ttl_ms,
            .ttl_start = entry->ttl_start,
            .ttl_end = entry->ttl_end,
            .scope = entry->scope,
            .method = entry->method,
            .cost_ms = entry->cost_ms,
            .name = entry->name,
            .is_negative = entry->is_negative,
            .generation = entry->generation,
            .subject_count = (uint8_t)entry->subject_count,
        };
        for (size_t i = 0; i < entry->subject_count; ++i)
            record.subjects[i] = entry->subjects[i];
        return rows_put(rows, txn, &item->key, &record, entry->body, writer->next_seq++, &batch->change);
    }
    r = rows_delete(rows, txn, item->key.digest, &batch->change, &found);
    if (r == 0 && is_late)
        ++batch->change.reclaimed;
    else if (r == 0 && item->kind == ITEM_PUT)
        ++batch->given_up;
    else if (r == 0)
        batch->change.purged += found;
    return r;
}

/* One transaction over at most `records` items from list on; it ends early before an item that changes no key, before the pages would pass the hard limit, and when it
 * would copy more pages than the free ones above that limit can bear. ret is filled on success only. */
static int batch_write(struct writer *writer, struct item *list, size_t records, bool give_up_puts, struct batch *ret)
{
    struct local *local = writer->local;
    struct batch batch = {.rest = list};
    uint64_t used = atomic_load_explicit(&local->pages_used, memory_order_relaxed);
    uint64_t pages = 0, pages_max = local->pages_cap / BATCHES_PER_STORE;
    MDB_txn *txn;
    int r;

    if (pages_max > BATCH_PAGES_MAX)
        pages_max = BATCH_PAGES_MAX;
    if (pages_max < BATCH_PAGES_MIN)
        pages_max = BATCH_PAGES_MIN;
    if ((r = local_begin(local, &txn)) != 0)
        return r;
    for (size_t i = 0; i < records && batch.rest != NULL && changes_a_key(batch.rest); ++i) {
        bool is_put = batch.rest->kind == ITEM_PUT && !give_up_puts;
        uint64_t more = is_put ? rows_pages_of(batch.rest->entry.body.n, local->page_bytes) : 3;
        if (i > 0 && (pages + more > pages_max || (is_put && used + pages + more > local->pages_hard)))
            break;
        pages += more;
        if ((r = item_apply(writer, txn, batch.rest, give_up_puts, &batch)) != 0) {
            mdb_txn_abort(txn);
            return r;
        }
        batch.rest = batch.rest->next;
    }
    if ((r = local_commit(local, txn, &batch.change)) != 0)
        return r;
    *ret = batch;
    return 0;
}

/* Writes a list of puts and deletions, whatever it takes, and stops before the first item that is neither, which it returns. */
static struct item *list_write(struct writer *writer, struct item *list)
{
    struct local *local = writer->local;
    unsigned failures = 0;
    size_t records = BATCH_RECORDS;
    bool was_cleared = false;

    while (list != NULL && changes_a_key(list)) {
        struct rows_change room = {0};
        struct batch batch;
        bool give_up_puts = failures >= ATTEMPTS_AS_PUTS;
        int r = 0;

        if (atomic_load_explicit(&local->is_broken, memory_order_relaxed)) {
            /* Everything in the store is to go: deletions are done, puts are lost. */
            add(&writer->counters.put_drops, list->kind == ITEM_PUT);
            list = list->next;
            continue;
        }
        if (list->kind == ITEM_PUT && !give_up_puts)
            r = sweeper_make_room(local, rows_pages_of(list->entry.body.n, local->page_bytes), local_now_ms(local), &room);
        change_count(writer, &room);
        if (r == 0 && (r = batch_write(writer, list, records, give_up_puts, &batch)) == 0) {
            change_count(writer, &batch.change);
            add(&writer->counters.put_drops, batch.given_up);
            add(&writer->counters.commits, 1);
            list = batch.rest;
            failures = 0;
            records = BATCH_RECORDS;
            continue;
        }
        failure_count(writer, r);
        ++failures;
        if (is_damage(r)) {
            broken_set(writer, true, r);
            continue;
        }
        if (r == MDB_MAP_FULL || r == MDB_TXN_FULL) {
            /* A reader that lost its processor in the middle of a copy pins every page that was freed since: nearly always the pages are there and only
             * have to be waited for: 1 ms at first, half a second before the puts are given up. Besides: fewer changes at once, and more room. */
            struct rows_change evicted = {0};
            bool more;
            pause_ms(INT64_C(1) << (failures - 1));
            if (sweeper_evict(local, SWEEPER_EVICT_MAX >> (failures / 2), local_now_ms(local), &evicted, &more) == 0)
                change_count(writer, &evicted);
            records = records > 8 ? records / 8 : 1;
        } else if (failures < ATTEMPTS_AS_PUTS) {
            failures = ATTEMPTS_AS_PUTS; /* the disk: trying the puts again would not help */
        }
        if (failures >= ATTEMPTS || r == MDB_PANIC) {
            if (was_cleared) {
                broken_set(writer, true, r);
                continue;
            }
            clear_or_break(writer);
            was_cleared = true;
            failures = 0;
        }
    }
    return list;
}

/* Deletes what has expired: all of it, or one bounded transaction's worth. A broken store is cleared instead, if that works by now. */
static void sweep(struct writer *writer, int64_t now_ms, bool is_whole)
{
    writer->has_more_expired = false;
    if (atomic_load_explicit(&writer->local->is_broken, memory_order_relaxed)) {
        clear_or_break(writer);
        return;
    }
    do {
        struct rows_change change = {0};
        int r = sweeper_expire(writer->local, now_ms, &change, &writer->has_more_expired);
        if (r != 0) {
            failure_count(writer, r);
            writer->has_more_expired = false;
        }
        if (is_damage(r))
            broken_set(writer, true, r);
        change_count(writer, &change);
    } while (is_whole && writer->has_more_expired);
}

static void reclaim_begin(struct writer *writer)
{
    /* Before the walk: what is raised from here on needs another. */
    atomic_store(&writer->local->generations->has_raised_hard, false);
    writer->is_reclaiming = true;
    writer->place = (struct rows_place){0};
    writer->reclaim_began_at_ms = clock_steady_ms();
}

/* Deletes what is purged in the next bounded part of the index. */
static void reclaim(struct writer *writer)
{
    struct rows_change change = {0};
    int r = 0;

    if (atomic_load_explicit(&writer->local->is_broken, memory_order_relaxed))
        writer->is_reclaiming = false;
    else
        r = sweeper_reclaim(writer->local, &writer->place, &change, &writer->is_reclaiming);
    change_count(writer, &change);
    if (r != 0) {
        failure_count(writer, r);
        writer->is_reclaiming = false;
        atomic_store(&writer->local->generations->has_raised_hard, true);
    }
    if (is_damage(r))
        broken_set(writer, true, r);
    if (!writer->is_reclaiming) {
        int64_t now_ms = clock_steady_ms(), pause_ms = (now_ms - writer->reclaim_began_at_ms) * RECLAIM_PAUSE_PARTS;
        writer->reclaim_at_ms = now_ms + (pause_ms > RECLAIM_PAUSE_MS ? pause_ms : RECLAIM_PAUSE_MS);
    }
}

/* Who owns what lay in the store when it was opened: a bounded part of it. */
static void count_owners(struct writer *writer)
{
    int r = local_count_owners(writer->local, &writer->has_uncounted);
    if (r != 0) /* what is not counted is on nobody's account */
        failure_count(writer, r);
}

/* Work that nobody asked for: at each tick, and one bounded transaction of each kind between two batches while dead or purged entries are left. */
static void tend(struct writer *writer)
{
    int64_t now_ms = clock_steady_ms();
    int dead;

    if (writer->has_uncounted)
        count_owners(writer);

    if (now_ms >= writer->tick_at_ms || writer->has_more_expired) {
        writer->tick_at_ms = now_ms + TICK_MS;
        sweep(writer, local_now_ms(writer->local), false);
    }
    if (!writer->is_reclaiming && now_ms >= writer->reclaim_at_ms && atomic_load(&writer->local->generations->has_raised_hard))
        reclaim_begin(writer);
    if (writer->is_reclaiming)
        reclaim(writer);
    if (now_ms >= writer->reader_check_at_ms) {
        writer->reader_check_at_ms = now_ms + READER_CHECK_MS;
        mdb_reader_check(writer->local->env, &dead);
        if (local_keep_clock(writer->local) != 0)
            add(&writer->counters.errors, 1);
    }
}

static void queue_write(struct writer *writer, struct item *list)
{
    struct item *next;

    for (next = list; next != NULL;) {
        next = list_write(writer, next);
        if (next == NULL)
            break;
        if (next->kind == ITEM_RECLAIM) {
            reclaim_begin(writer);
            while (writer->is_reclaiming)
                reclaim(writer);
        } else {
            while (writer->has_uncounted)
                count_owners(writer);
            sweep(writer, next->now_ms, true);
        }
        next = next->next;
    }
    while (list != NULL) {
        next = list->next;
        item_free(writer, list);
        list = next;
    }
}

/* Under lock: it was asked for, and not in the middle of a walk: that one may have passed what is to go. */
static bool reclaim_can_begin(const struct writer *writer)
{
    return writer->is_reclaim_asked && !writer->is_reclaiming;
}

/* Under lock: sleeps until there is something to write or something to tend, then gives others a moment to join in. */
static void wait_for_work(struct writer *writer)
{
    while (!writer->is_stopping &&
           (writer->is_held || (writer->first == NULL && !writer->has_lost_delete && !reclaim_can_begin(writer)))) {
        int64_t until_ms = writer->tick_at_ms;
        struct timespec until = {until_ms / 1000, until_ms % 1000 * 1000000};
        if ((writer->has_more_expired || writer->has_uncounted || writer->is_reclaiming) && !writer->is_held)
            return;
        writer->posture = IS_IDLE;
        int r = writer->is_held ? pthread_cond_wait(&writer->wake, &writer->lock)
                                : pthread_cond_timedwait(&writer->wake, &writer->lock, &until);
        writer->posture = IS_BUSY;
        if (r == ETIMEDOUT)
            return;
    }
    int64_t until_ms = clock_steady_ms() + GATHER_MS;
    struct timespec until = {until_ms / 1000, until_ms % 1000 * 1000000};
    while (!writer->is_stopping && writer->flushers == 0 && writer->queue_records < BATCH_RECORDS) {
        writer->posture = IS_GATHERING;
        int r = pthread_cond_timedwait(&writer->wake, &writer->lock, &until);
        writer->posture = IS_BUSY;
        if (r == ETIMEDOUT)
            return;
    }
}

static void *run(void *data)
{
    struct writer *writer = data;

    fault_enter(writer->mark); /* for good: it does nothing else */
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        wait_for_work(writer);
        struct item *list = writer->first;
        uint64_t bytes = writer->queue_bytes, tickets = writer->tickets;
        bool has_lost_delete = writer->has_lost_delete, is_last = writer->is_stopping;
        writer->first = NULL;
        writer->last = &writer->first;
        writer->queue_records = 0;
        writer->has_lost_delete = false;
        if (reclaim_can_begin(writer)) {
            writer->is_reclaim_asked = false;
            reclaim_begin(writer);
        }
        pthread_mutex_unlock(&writer->lock);

        queue_write(writer, list);
        /* Afterwards: a put that the lost deletion followed may be in this list. */
        if (has_lost_delete)
            clear_or_break(writer);
        if (!is_last)
            tend(writer);

        pthread_mutex_lock(&writer->lock);
        /* What was queued meanwhile has been added on top of `bytes`. */
        writer->queue_bytes -= bytes;
        writer->done_tickets = tickets;
        if (writer->flushers > 0)
            pthread_cond_broadcast(&writer->written);
        if (is_last && writer->first == NULL)
            break;
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

/* ---- beginning and end ---- */

int writer_new(struct local *local, struct state *state, const struct fault_mark *mark, uint64_t queue_bytes, struct writer **ret)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    pthread_condattr_t monotonic;
    int r;

    if (writer == NULL)
        return -ENOMEM;
    writer->local = local;
    writer->state = state;
    writer->mark = mark;
    if ((writer->pending = pending_new()) == NULL) {
        free(writer);
        return -ENOMEM;
    }
    writer->queue_bytes_max = queue_bytes;
    writer->last = &writer->first;
    writer->next_seq = local->next_seq;
    writer->has_uncounted = true;
    writer->tick_at_ms = clock_steady_ms() + TICK_MS;
    writer->reader_check_at_ms = clock_steady_ms() + READER_CHECK_MS;
    writer->reclaim_at_ms = clock_steady_ms() + RECLAIM_PAUSE_MS;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&writer->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&writer->written, NULL);
    r = pthread_create(&writer->thread, NULL, run, writer);
    if (r != 0) {
        pthread_cond_destroy(&writer->wake);
        pthread_cond_destroy(&writer->written);
        pthread_mutex_destroy(&writer->lock);
        pending_free(writer->pending);
        free(writer);
        return -r;
    }
    *ret = writer;
    return 0;
}

void writer_free(struct writer *writer)
{
    if (writer == NULL)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->is_stopping = true;
    writer->is_held = false;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    pthread_cond_destroy(&writer->wake);
    pthread_cond_destroy(&writer->written);
    pthread_mutex_destroy(&writer->lock);
    pending_free(writer->pending);
    free(writer);
}
