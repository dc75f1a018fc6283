/* SPDX-License-Identifier: Apache-2.0 */
/* What tests may do with a store beyond store.h. Nothing in the runtime includes this. */
#ifndef MCPCACHED_STORE_CHECK_H
#define MCPCACHED_STORE_CHECK_H

#include "store.h"

/* Sweeps, then reads the whole store and counts what contradicts itself: an index row without its chunks or its expiry row, a row that belongs to nobody, counters
 * or owners' accounts that disagree. The first finding as a sentence in reterr. 0: nothing. Thread: any; queue flushed, nobody putting. */
uint64_t store_check(struct store *store, struct cp_error *reterr);

/* Sweeps as if it were now_ms, and waits for it, and until all owners are counted. */
void store_sweep_at(struct store *store, int64_t now_ms);
/* Deletes whatever is purged, and waits for it. */
void store_reclaim_now(struct store *store);
/* Stops the writer before its next batch, and lets it go on. */
void store_hold(struct store *store, bool is_held);

#endif
