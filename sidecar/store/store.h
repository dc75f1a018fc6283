/* SPDX-License-Identifier: Apache-2.0 */
/* The store: entries in LMDB that survive a restart and may be lost at any time without breaking anything.
 * Always: one writer thread owns every write transaction; a read transaction lasts one copy and ends before anything is sent;
 * the environment never wedges, because it is capped by pages and bodies lie in chunks of one page, so that no run of free pages is needed;
 * whatever does not verify (schema, second digest, size, checksum) is a miss.
 * Layout: index digest -> entry record (msgpack) | body seq,chunk (big-endian, appended) -> bytes | expiry second,seq -> digest | meta. Beside LMDB: what was
 * purged, by subject; an entry is looked at together with it (store_validity_of). */
#ifndef MCPCACHED_STORE_STORE_H
#define MCPCACHED_STORE_STORE_H

#include "cachepolicy/cachepolicy.h"

struct store;        /* one per process; any thread may put, purge and read counters */
struct store_reader; /* one per loop */

struct store_options {
    const char *path;    /* directory; created 0700 when missing, files 0600 */
    uint64_t size_bytes; /* map size; at least 8 MiB. Eviction starts at 80 % of its pages, hard limit 85 % */
    uint64_t
        queue_bytes; /* puts waiting for the writer at most (bodies counted); default 64 MiB when 0. A put over it is dropped and counted */
    uint32_t readers; /* store_reader_new calls at most; default 64 when 0 */
    /* What one owner may hold of the pages, 1 to 99: he may fill the whole store while nobody needs it, but when room must be made his oldest entries go
     * until he holds no more than this; only then the oldest of all go. 0 or 100: the oldest go, whoever owns them. */
    unsigned share_percent;
};

struct store_counters {
    uint64_t puts, put_drops, overwrites, commits, evicted_live, evicted_dead, purged, swept, map_full, verify_failures, errors;
    uint64_t reclaimed;     /* deleted after they were purged by a raise */
    uint64_t evicted_share; /* of those evicted: their owner held more than his share */
    uint64_t wiped;         /* times everything was thrown away: at open (see store_open), or because LMDB could not delete */
    uint64_t entries, pages_used, pages_cap, body_bytes; /* now; the others since store_open */
};

/* Who or what a purge is about: a keyed digest (cp_subject_of, cp_subject_of_principal), or everything. */
#define STORE_SUBJECT_ALL  ((uint64_t)1)
#define STORE_SUBJECTS_MAX 40 /* of one entry */

enum store_raise {
    STORE_RAISE_HARD, /* what is older is never served again */
    STORE_RAISE_SOFT, /* what is older is stale: good for grace and for errors only */
};

/* Worse is greater. */
enum store_validity { STORE_VALID, STORE_SOFT_PURGED, STORE_PURGED };

/* An entry as the runtime sees it. */
struct store_entry {
    struct span body;     /* the stored result bytes; on get a copy in memory from `alloc`, on put borrowed (copied by store_put) */
    uint64_t owner;       /* digest of whoever filled it: on his share it lies. 0: nobody in particular, never limited */
    int64_t began_ms;     /* store clock when the fetch began; at most stored_at_ms, or the put is refused */
    int64_t stored_at_ms; /* store clock (store_now_ms) */
    int64_t expires_at_ms; /* when the sweeper may delete it (policy changes can only make it unusable earlier) */
    bool has_hint;
    int64_t hint_ttl_ms;
    uint32_t ttl_start, ttl_end; /* where the ttlMs value stands in body; equal: none */
    uint8_t scope;               /* enum cp_scope */
    uint8_t method;              /* enum cp_method */
    uint32_t cost_ms;            /* what the fetch took */
    struct span name;            /* tool name or URI, for listing; at most 511 bytes kept; on get from `alloc` too */
    uint64_t generation;         /* store_generation when the fetch began; not above what it is now, or the put is refused */
    const uint64_t *subjects;    /* whose raise purges it, besides STORE_SUBJECT_ALL's; put: borrowed; get: from `alloc` */
    size_t subject_count;        /* more than STORE_SUBJECTS_MAX: the put is refused */
    bool is_negative;            /* the body is an error that is kept for a moment */
};

enum store_lookup {
    STORE_HIT, /* *ret is filled; fresh or not is the policy's to say */
    STORE_MISS,
    STORE_BAD, /* something is there but does not verify, or LMDB failed: counted, and to be treated as a miss */
};

/* Opens or creates; 2 MiB beside the entries are for what was purged. An unclean end under another boot id wipes (MDB_NOSYNC is only safe while the
 * kernel lives); an unknown schema or a foreign, missing or torn file wipes too, never mixes, and so does a size_bytes below what the file needs. Two
 * processes on one directory: the second is refused (lock file). On failure one sentence in reterr that names the path and the cure. 0 or -errno. */
int store_open(const struct store_options *options, struct store **ret, struct cp_error *reterr);
/* Drains the queue, marks the end clean, closes. */
void store_close(struct store *store);

/* 32 secret bytes, made at creation, kept in the store (file mode 0600): keys and principals stay the same over a restart. */
const uint8_t *store_secret(const struct store *store);

/* The store clock: milliseconds that never go back, also over a restart and a clean reboot (boottime plus a base kept in the store).
 * Thread: any. */
int64_t store_now_ms(const struct store *store);

int store_reader_new(struct store *store, struct store_reader **ret);
void store_reader_free(struct store_reader *reader);

/* Finds key, purged or not: that is store_validity_of's to say. Memory of the result comes from alloc(ctx, bytes), called at most twice: for the body, and, aligned as
 * uint64_t must be, for subjects and name. Thread: the reader's. No log, and no
 * lock unless something near the key is queued and not yet committed (then a short one, held for the copy). */
enum store_lookup store_get(struct store_reader *reader, const struct cp_key *key, void *(*alloc)(void *ctx, size_t bytes),
                            void *ctx, struct store_entry *ret);

/* Queues a put; key and entry are copied. True when queued; false also when it is purged already. Thread: any; never blocks on the disk. A later put or
 * delete of the same key wins. */
bool store_put(struct store *store, const struct cp_key *key, const struct store_entry *entry);
/* Queues a deletion; is never dropped and never overtakes or is overtaken by a put of the same caller. */
void store_delete(struct store *store, const struct cp_key *key);
/* Waits until everything queued so far is committed. For tests and shutdown; not for loops. */
void store_flush(struct store *store);

/* ---- purging ---- */

/* The number of the latest raise. Noted when a fetch begins, it goes with what was fetched (store_entry.generation). Thread: any. */
uint64_t store_generation(const struct store *store);
/* Purges what has this subject and began before now; returns its number. Once it returned, every store_validity_of says so, in whatever thread, and a generation noted
 * from then on is not below it; and it outlives the process, however that ends. Thread: any, lock-free, one cache line. */
uint64_t store_raise(struct store *store, uint64_t subject, enum store_raise how);
/* Something is under way that will raise this subject (never 0): should the process end before store_end, however it ends, the next store_open raises it. Returns what
 * store_end wants. Thread: any, lock-free. */
unsigned store_begin(struct store *store, uint64_t subject);
void store_end(struct store *store, unsigned place);
/* The worst that was raised after generation for any of the subjects, or for all. Thread: any, lock-free. */
enum store_validity store_validity_of(const struct store *store, uint64_t generation, const uint64_t *subjects, size_t count);
/* How many entries have all n subjects (every entry has STORE_SUBJECT_ALL) and are not purged hard by now; *ret_bytes: their bodies. Waits for what is queued, then
 * reads in bounded steps: not for loops. Entries of method CP_METHOD_INITIALIZE are no results: never counted. Thread: any. */
uint64_t store_count(struct store *store, const uint64_t *subjects, size_t n, uint64_t *ret_bytes);
/* How many entries a raise of all n subjects would change: those that have any of them (or one that is only ever purged together with it) and are not purged that way
 * by now. The rest is as of store_count. */
uint64_t store_count_any(struct store *store, const uint64_t *subjects, size_t n, enum store_raise how, uint64_t *ret_bytes);
/* Raises all n subjects and tells how many entries that changed. They are counted before, because what is purged is soon stored anew, and what is stored while they are
 * counted is added: not fewer than were there, but one that was replaced meanwhile may count twice. Waits and reads as store_count. Thread: any. */
uint64_t store_purge(struct store *store, const uint64_t *subjects, size_t n, enum store_raise how, uint64_t *ret_bytes);
/* Asks the writer to delete, in bounded steps, what is purged hard; after a raise it does so by itself within some ten seconds. Never of method
 * CP_METHOD_INITIALIZE. Thread: any. */
void store_reclaim(struct store *store);

void store_counters_get(struct store *store, struct store_counters *ret);

#endif
