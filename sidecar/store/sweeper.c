/* SPDX-License-Identifier: Apache-2.0 */
/* Making room. Not here: what a row is (rows.c), when there is time for it (writer.c).
 * Always: one call, at most one transaction per batch; a failed batch changes nothing and is reported; while an account is over the limit, entries of others go
 * only when they are dead.
 * Thread: the writer's. */
#include "sweeper.h"

#include "cachepolicy/mutant.h"

enum {
    EXPIRE_MAX = 256,
    /* A small store affords fewer: the copied pages must fit into the 15 % above the hard limit. */
    PAGES_PER_DELETION = 128,
    DELETIONS_MIN = 16,
    /* Also bounded in bodies: a hundred large entries may be the whole store, and LMDB lists what a transaction freed in one value, which shall not
     * need more than one page (509 numbers). */
    BATCHES_PER_STORE = 64,
    FREED_PAGES_MAX = 384,
    STEPS_MAX = 16 * 1024, /* entries of others that one search passes: some milliseconds */
    RECLAIM_MAX = 100,
    RECLAIM_STEPS_MAX = 2048,
};

/* Whose entries go. */
struct victims {
    enum { VICTIMS_EXPIRED, VICTIMS_OLDEST, VICTIMS_OWNED, VICTIMS_PURGED } kind;
    /* OWNED */
    uint64_t owner, excess; /* his oldest, until so much is gone */
    uint64_t hand;          /* from here on; moves */
    /* PURGED */
    struct rows_place place; /* from here on; moves */
    /* OWNED and PURGED */
    unsigned steps; /* entries of others that may still be passed */
};

/* One entry, or what is left of one. MDB_NOTFOUND when there is none to delete. */
static int delete_one(const struct rows *rows, MDB_txn *txn, struct victims *victims, int64_t now_ms, struct rows_change *change)
{
    bool found;

    switch (victims->kind) {
    case VICTIMS_EXPIRED:
        return rows_delete_expired(rows, txn, now_ms, change);
    case VICTIMS_OLDEST:
        return rows_delete_oldest(rows, txn, now_ms, change);
    case VICTIMS_OWNED:
        return rows_delete_of_owner(rows, txn, victims->owner, now_ms, &victims->hand, &victims->steps, change, &found);
    case VICTIMS_PURGED:
        return rows_delete_purged(rows, txn, &victims->place, &victims->steps, change);
    }
    return MDB_NOTFOUND;
}

static bool is_enough(const struct victims *victims, const struct rows_change *done)
{
    if (victims->kind == VICTIMS_PURGED)
        return victims->steps == 0;
    return victims->kind == VICTIMS_OWNED && (victims->steps == 0 || done->weight_gone >= victims->excess);
}

static void change_add(struct rows_change *sum, const struct rows_change *more)
{
    sum->body_bytes += more->body_bytes;
    sum->weight_gone += more->weight_gone;
    sum->put += more->put;
    sum->overwritten += more->overwritten;
    sum->purged += more->purged;
    sum->swept += more->swept;
    sum->evicted_live += more->evicted_live;
    sum->evicted_dead += more->evicted_dead;
    sum->evicted_share += more->evicted_share;
    sum->reclaimed += more->reclaimed;
    if (more->generation > sum->generation)
        sum->generation = more->generation;
}

/* *ret_more: the end was not reached. */
static int delete_some(struct local *local, struct victims *victims, unsigned max, int64_t now_ms, struct rows_change *change,
                       bool *ret_more)
{
    struct rows_change done = {0};
    uint64_t afford = local->pages_cap / PAGES_PER_DELETION, freed_max = local->pages_cap / BATCHES_PER_STORE;
    unsigned count = 0;
    MDB_txn *txn;
    int r = local_begin(local, &txn);

    if (r != 0)
        return r;
    if (afford < DELETIONS_MIN)
        afford = DELETIONS_MIN;
    if (max > afford)
        max = (unsigned)afford;
    int64_t bytes_max = (int64_t)((freed_max < FREED_PAGES_MAX ? freed_max : FREED_PAGES_MAX) * local->page_bytes);
    while (count < max && -done.body_bytes < bytes_max && !is_enough(victims, &done) &&
           (r = delete_one(&local->rows, txn, victims, now_ms, &done)) == 0)
        ++count;
    if (r != 0 && r != MDB_NOTFOUND) {
        mdb_txn_abort(txn);
        return r;
    }
    if (count == 0) {
        mdb_txn_abort(txn);
    } else {
        if (victims->kind == VICTIMS_OWNED)
            done.evicted_share = done.evicted_live + done.evicted_dead;
        int committed = local_commit(local, txn, &done);
        if (committed != 0)
            return committed;
        change_add(change, &done);
    }
    *ret_more = r != MDB_NOTFOUND;
    return 0;
}

int sweeper_expire(struct local *local, int64_t now_ms, struct rows_change *change, bool *ret_more)
{
    struct victims victims = {.kind = VICTIMS_EXPIRED};
    return delete_some(local, &victims, EXPIRE_MAX, now_ms, change, ret_more);
}

int sweeper_evict(struct local *local, unsigned max, int64_t now_ms, struct rows_change *change, bool *ret_more)
{
    struct victims victims = {.kind = VICTIMS_OLDEST, .steps = STEPS_MAX};
    bool has_more_owned;
    int r;

    if (local->owners == NULL || !owners_over(local->owners, &victims.owner, &victims.excess, &victims.hand) || MUTANT("share-off"))
        return delete_some(local, &victims, max, now_ms, change, ret_more);
    victims.kind = VICTIMS_OWNED;
    if ((r = delete_some(local, &victims, max, now_ms, change, &has_more_owned)) != 0)
        return r;
    /* Only now: had it failed, what lies before the hand would still be there. At the end all of his must be gone, whatever his account says. */
    if (has_more_owned)
        owners_hand(local->owners, victims.owner, victims.hand);
    else
        owners_forget(local->owners, victims.owner);
    *ret_more = true;
    return 0;
}

int sweeper_make_room(struct local *local, uint64_t need_pages, int64_t now_ms, struct rows_change *change)
{
    bool more_expired = true, more = true;

    for (;;) {
        uint64_t used = atomic_load_explicit(&local->pages_used, memory_order_relaxed);
        if ((used <= local->pages_soft && used + need_pages <= local->pages_hard) || !more)
            return 0;
        int r = more_expired ? sweeper_expire(local, now_ms, change, &more_expired)
                             : sweeper_evict(local, SWEEPER_EVICT_MAX, now_ms, change, &more);
        if (r != 0)
            return r;
    }
}

int sweeper_reclaim(struct local *local, struct rows_place *place, struct rows_change *change, bool *ret_more)
{
    struct victims victims = {.kind = VICTIMS_PURGED, .place = *place, .steps = RECLAIM_STEPS_MAX};
    int r = delete_some(local, &victims, RECLAIM_MAX, 0, change, ret_more);

    if (r == 0)
        *place = victims.place;
    return r;
}

int sweeper_clear(struct local *local, struct rows_change *change)
{
    unsigned max = SWEEPER_EVICT_MAX;
    bool more = true;

    while (more) {
        struct victims victims = {.kind = VICTIMS_OLDEST};
        int r = delete_some(local, &victims, max, 0, change, &more);
        if (r != 0 && max == 1)
            return r;
        if (r != 0)
            max = max > 10 ? max / 10 : 1;
    }
    return local_forget(local);
}
