/* SPDX-License-Identifier: Apache-2.0 */
/* Making room. Not here: what a row is (rows.c), when there is time for it (writer.c).
 * Always: one call, at most one transaction per batch; a failed batch changes nothing and is reported.
 * Thread: the writer's. */
#include "sweeper.h"

enum {
    EXPIRE_MAX = 256,
    /* A small store affords fewer: the copied pages must fit into the 15 % above the hard limit. */
    PAGES_PER_DELETION = 128,
    DELETIONS_MIN = 16,
    /* Also bounded in bodies: a hundred large entries may be the whole store, and LMDB lists what a transaction freed in one value, which shall not
     * need more than one page (509 numbers). */
    BATCHES_PER_STORE = 64,
    FREED_PAGES_MAX = 384,
};

typedef int (*delete_fn)(const struct rows *rows, MDB_txn *txn, int64_t now_ms, struct rows_change *change);

static void change_add(struct rows_change *sum, const struct rows_change *more)
{
    sum->body_bytes += more->body_bytes;
    sum->put += more->put;
    sum->overwritten += more->overwritten;
    sum->purged += more->purged;
    sum->swept += more->swept;
    sum->evicted_live += more->evicted_live;
    sum->evicted_dead += more->evicted_dead;
}

static int delete_some(struct local *local, delete_fn delete_one, unsigned max, int64_t now_ms, struct rows_change *change,
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
    while (count < max && -done.body_bytes < bytes_max && (r = delete_one(&local->rows, txn, now_ms, &done)) == 0)
        ++count;
    if (r != 0 && r != MDB_NOTFOUND) {
        mdb_txn_abort(txn);
        return r;
    }
    if (count == 0) {
        mdb_txn_abort(txn);
    } else {
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
    return delete_some(local, rows_delete_expired, EXPIRE_MAX, now_ms, change, ret_more);
}

int sweeper_evict(struct local *local, unsigned max, int64_t now_ms, struct rows_change *change, bool *ret_more)
{
    return delete_some(local, rows_delete_oldest, max, now_ms, change, ret_more);
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

int sweeper_clear(struct local *local, struct rows_change *change)
{
    unsigned max = SWEEPER_EVICT_MAX;
    bool more = true;

    while (more) {
        int r = sweeper_evict(local, max, 0, change, &more);
        if (r != 0 && max == 1)
            return r;
        if (r != 0)
            max = max > 10 ? max / 10 : 1;
    }
    return local_forget(local);
}
