/* SPDX-License-Identifier: Apache-2.0 */
/* The writer: the one thread that changes the store, and the queue in front of it.
 * Always: first in, first out, so that the last word on a key wins; a put may be dropped, a deletion never is. */
#ifndef MCPCACHED_STORE_WRITER_H
#define MCPCACHED_STORE_WRITER_H

#include "fault.h"
#include "local.h"
#include "pending.h"

struct writer;

struct writer_counters {
    _Atomic uint64_t puts, put_drops, overwrites, commits, evicted_live, evicted_dead, evicted_share, purged, swept, map_full,
        errors, wiped, reclaimed;
};

/* Starts the thread. local, state and mark are borrowed until writer_free. 0 or -errno. */
int writer_new(struct local *local, struct state *state, const struct fault_mark *mark, uint64_t queue_bytes, struct writer **ret);
/* Writes what is queued, ends the thread. Accepts NULL. */
void writer_free(struct writer *writer);

/* As store_put, store_delete, store_flush. Thread: any. */
bool writer_put(struct writer *writer, const struct cp_key *key, const struct store_entry *entry);
void writer_delete(struct writer *writer, const struct cp_key *key);
void writer_flush(struct writer *writer);

/* Queues a sweep that takes now_ms for the time: for tests, which do not wait for expiry. */
void writer_sweep(struct writer *writer, int64_t now_ms);
/* As store_reclaim. Thread: any. */
void writer_reclaim(struct writer *writer);
/* Queues a whole one: for tests, which wait for it. */
void writer_reclaim_all(struct writer *writer);
/* Holds the writer before its next batch, or lets it go on: for tests of the queue's bound. */
void writer_hold(struct writer *writer, bool is_held);

/* What is queued; borrowed. Ask it before the file. */
struct pending *writer_pending(struct writer *writer);

struct writer_counters *writer_counters(struct writer *writer); /* borrowed */

#endif
