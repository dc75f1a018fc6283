/* SPDX-License-Identifier: Apache-2.0 */
/* Making room: expired entries first, then the oldest of whoever holds more than his share, then the oldest. Bounded transactions of its own, so that even a nearly full map can afford them: a
 * deletion copies pages before it frees any (measured: in a full map 100 deletions fit, 1000 do not).
 * Thread: the writer's. Results are LMDB's. */
#ifndef MCPCACHED_STORE_SWEEPER_H
#define MCPCACHED_STORE_SWEEPER_H

#include "local.h"

enum { SWEEPER_EVICT_MAX = 100 };

/* Deletes a bounded number of entries whose expiry lies before now_ms. *ret_more: there may be others. change is added to. */
int sweeper_expire(struct local *local, int64_t now_ms, struct rows_change *change, bool *ret_more);
/* Deletes at most `max` entries, fewer where that would be too much at once, none when it takes long to find any: the oldest of the owner who holds most, if that
 * is more than his share, and no more of him than is over it; else the oldest of all. *ret_more: there may be others. change is added to. */
int sweeper_evict(struct local *local, unsigned max, int64_t now_ms, struct rows_change *change, bool *ret_more);
/* Evicts until need_pages more fit below the hard limit and the pages in use are no more than the soft one, or nothing is left. */
int sweeper_make_room(struct local *local, uint64_t need_pages, int64_t now_ms, struct rows_change *change);
/* Deletes what is purged in a bounded part of the index, from *place on, and moves *place behind it. *ret_more: the end was not reached. change is added to. */
int sweeper_reclaim(struct local *local, struct rows_place *place, struct rows_change *change, bool *ret_more);
/* Deletes everything. Not with mdb_drop, which lists all freed pages in one value: too long a run of pages for a full map. */
int sweeper_clear(struct local *local, struct rows_change *change);

#endif
