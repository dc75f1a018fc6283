/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of one entry, and how they hang together:
 *   index   digest[32]                      -> entry record
 *   body    seq (8, big-endian) chunk (4)   -> stretch of digest||owner||body, appended: a new entry's seq is above all others
 *   expiry  second (8, big-endian) seq (8)  -> digest[32]
 *   meta    short names                     -> what the store knows of itself (local.c)
 * Always, after each committed transaction: an index row has its expiry row and all its chunks under its seq, and nobody else has them.
 * Results are LMDB's: 0, a positive errno or a negative MDB_ code. Thread: whoever holds the transaction. */
#ifndef MCPCACHED_STORE_ROWS_H
#define MCPCACHED_STORE_ROWS_H

#include <lmdb.h>

#include "generations.h"
#include "owners.h"

struct rows {
    MDB_dbi index, body, expiry, meta;
    uint32_t page_bytes;
    struct owners *owners;                 /* borrowed; is told who has what; NULL: nobody is limited */
    const struct generations *generations; /* borrowed */
};

/* What a transaction changed, to be added to the counters once it is committed. */
struct rows_change {
    int64_t body_bytes; /* may be negative */
    uint64_t weight_gone;
    uint64_t put, overwritten, purged, swept, evicted_live, evicted_dead, evicted_share, reclaimed;
    uint64_t generation; /* the highest of those put */
};

/* A place in the index, between transactions. A row whose key is no digest ends a walk over it. */
struct rows_place {
    bool is_begun;                      /* false: before the first row */
    uint8_t digest[ENTRY_DIGEST_BYTES]; /* the next row is this or behind it */
};

/* Opens the dbis, making them when missing; the caller commits before they are used in another transaction. The other fields are the caller's. */
int rows_open(MDB_txn *txn, struct rows *rows);

/* Puts an entry under seq, which is above every seq before it; what stood under the key goes. record->seq, body_sum and check are filled in here. */
int rows_put(const struct rows *rows, MDB_txn *txn, const struct cp_key *key, struct entry_record *record, struct span body,
             uint64_t seq, struct rows_change *change);
/* Deletes what stands under digest; nothing there is no error. *ret_found says whether something was. */
int rows_delete(const struct rows *rows, MDB_txn *txn, const uint8_t digest[32], struct rows_change *change, bool *ret_found);
/* Deletes the entry with the lowest seq, also when only pieces of it are left. MDB_NOTFOUND when there is none. */
int rows_delete_oldest(const struct rows *rows, MDB_txn *txn, int64_t now_ms, struct rows_change *change);
/* Deletes the entry of owner with the lowest seq from *hand on, and moves *hand to the place behind it, or as far as *steps entries of others allow; these
 * are used up. *ret_found: one was deleted, or what was left of it. MDB_NOTFOUND when there is none up to the end. */
int rows_delete_of_owner(const struct rows *rows, MDB_txn *txn, uint64_t owner, int64_t now_ms, uint64_t *hand, unsigned *steps,
                         struct rows_change *change, bool *ret_found);
/* Deletes the entry whose expiry is first, when its whole second lies before now_ms. MDB_NOTFOUND when none is due. */
int rows_delete_expired(const struct rows *rows, MDB_txn *txn, int64_t now_ms, struct rows_change *change);
/* Deletes the next purged entry from *place on, and moves *place to it, or as far as *steps entries that are not purged allow; these are used up. MDB_NOTFOUND when
 * there is none up to the end. */
int rows_delete_purged(const struct rows *rows, MDB_txn *txn, struct rows_place *place, unsigned *steps,
                       struct rows_change *change);
/* Which entries a count is of. */
struct rows_wanted {
    const uint64_t *subjects;
    size_t subject_count;
    bool
        is_any; /* one of these subjects, or one that is only ever purged together with it, is enough; false: all of them are needed */
    enum store_validity validity_max;
    uint64_t seq_min, seq_max, generation_max;
};
/* Adds up the wanted entries, in at most `steps` rows from *place on, and moves *place behind them. MDB_NOTFOUND: to the end. */
int rows_count(const struct rows *rows, MDB_txn *txn, struct rows_place *place, unsigned steps, const struct rows_wanted *wanted,
               uint64_t *entries, uint64_t *bytes);
/* Pages in use by all dbis and LMDB's own two and free list. */
int rows_pages(const struct rows *rows, MDB_txn *txn, uint64_t *ret_pages, uint64_t *ret_entries);
/* Tells rows->owners, which is not NULL, of at most max entries that they have not counted yet. */
int rows_count_owners(const struct rows *rows, MDB_txn *txn, unsigned max);
/* Bytes of the map that an entry takes with all its rows: an estimate from nothing but its own sizes, so that what is added when it is put is what is taken
 * away when it goes. */
uint64_t rows_weight(const struct entry_record *record, uint32_t page_bytes);
/* The seq above all that are in use. */
int rows_next_seq(const struct rows *rows, MDB_txn *txn, uint64_t *ret);
/* Pages that putting such a body may add or replace, seen generously. */
uint64_t rows_pages_of(uint64_t body_bytes, uint32_t page_bytes);

void rows_body_key(uint64_t seq, uint32_t chunk, uint8_t ret[12]);
void rows_expiry_key(int64_t expires_at_ms, uint64_t seq, uint8_t ret[16]);

/* Owner by chunk 0; 0 when it is too short to tell. */
uint64_t rows_owner_of(const MDB_val *chunk);

static inline void rows_store_be64(uint8_t *p, uint64_t value)
{
    for (int i = 7; i >= 0; --i, value >>= 8)
        p[i] = (uint8_t)value;
}

static inline uint64_t rows_load_be64(const void *bytes)
{
    const uint8_t *p = bytes;
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i)
        value = value << 8 | p[i];
    return value;
}

#endif
