/* SPDX-License-Identifier: Apache-2.0 */
/* The LMDB environment: open it, judge it, read an entry from it, begin and commit the writer's transactions.
 * Always: LMDB pages never leave this file and rows.c; the map never grows, so the file does not either.
 * Results of the functions that return int are LMDB's (0, errno, MDB_ code) unless they say -errno. */
#ifndef MCPCACHED_STORE_LOCAL_H
#define MCPCACHED_STORE_LOCAL_H

#include <stdatomic.h>
#include <sys/types.h>

#include "rows.h"
#include "store.h"

struct local {
    /* set by local_open, then read by any thread */
    MDB_env *env;
    struct rows rows;
    uint8_t secret[32];
    int64_t clock_base_ms; /* store clock = boottime + base */
    uint32_t page_bytes;
    uint64_t pages_cap, pages_soft, pages_hard; /* all; eviction starts above; puts wait above */
    uint64_t entry_bytes_max;                   /* a quarter of the map: a larger entry would drive out too much */
    uint64_t next_seq;                          /* as found at open; then the writer's own */
    struct owners *owners;                      /* owned; NULL: no share is set. The writer's */
    struct generations *generations;            /* borrowed */
    uint64_t generation;                        /* the highest that an entry was ever put with. The writer's */

    /* written by the writer after each commit, read by any thread */
    _Atomic uint64_t pages_used, entries, body_bytes;
    /* Something that had to be deleted could not be, or LMDB refuses every transaction: gets miss and puts drop until all was cleared. */
    atomic_bool is_broken;
};

/* What the store remembers about time; see local_clock_base. */
struct local_clock {
    int64_t base_ms;     /* of the boot in which it was written */
    int64_t store_ms;    /* the store clock when it was written */
    int64_t realtime_ms; /* the wall clock at that moment */
};

/* Why an environment that could be opened must not be used. */
enum { LOCAL_FOREIGN = -40000 }; /* outside LMDB's and errno's numbers */

struct local_options {
    const char *path; /* one file; path-lock beside it */
    uint64_t size_bytes;
    uint32_t readers;
    unsigned share_percent;          /* 0 or 100: nobody is limited */
    struct generations *generations; /* borrowed until local_close */
    bool same_boot;                  /* the clock kept in the file belongs to this boot */
};

/* Foreign, of other generations, damaged or larger than size_bytes: LOCAL_FOREIGN, or the code that LMDB gave. Thread: the opening one. */
int local_open(const struct local_options *options, struct local *ret);
/* Syncs when is_clean, then closes. 0 or what the sync said. No transaction may be open. */
int local_close(struct local *local, bool is_clean);

/* The base that keeps the store clock from ever going back: the same within a boot, else moved on by the wall clock's difference. Pure. */
int64_t local_clock_base(const struct local_clock *kept, bool same_boot, int64_t boottime_ms, int64_t realtime_ms);
int64_t local_now_ms(const struct local *local);

/* ---- the writer ---- */

int local_begin(struct local *local, MDB_txn **ret);
/* Commits and brings the gauges up to date. The transaction is gone either way. */
int local_commit(struct local *local, MDB_txn *txn, const struct rows_change *change);
/* Deletes what index and expiry rows are left when all bodies are gone: none, unless something was damaged. */
int local_forget(struct local *local);
/* Counts who owns what lay in the store when it was opened, a bounded number of entries at a time. *ret_more: there are others. */
int local_count_owners(struct local *local, bool *ret_more);
/* Writes down what time it is, for the next open. */
int local_keep_clock(struct local *local);

/* ---- readers ---- */

struct store_reader {
    struct local *local; /* borrowed */
    MDB_txn *txn;        /* owned; reset except during a get */
    MDB_cursor *cursor;  /* owned; over body, renewed with txn: opening one takes memory, renewing does not */
    struct store *store; /* borrowed */
    struct store_reader *next;
    _Atomic uint64_t verify_failures, errors; /* written by the reader's thread, read by any */
};

/* 0 or -errno (-EUSERS: more readers than options said). */
int local_reader_init(struct local *local, struct store_reader *reader);
void local_reader_done(struct store_reader *reader);
/* store_get. */
enum store_lookup local_get(struct store_reader *reader, const struct cp_key *key, void *(*alloc)(void *ctx, size_t bytes),
                            void *ctx, struct store_entry *ret);

#endif
