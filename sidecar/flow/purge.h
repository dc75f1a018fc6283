/* SPDX-License-Identifier: Apache-2.0 */
/* Purges: everything of one name is over, for everybody, from now on; what is being fetched answers those who wait for it and is not kept (store.h has the numbers
 * behind it). Thread: whoever has the keyer; the store is anybody's. */
#ifndef MCPCACHED_FLOW_PURGE_H
#define MCPCACHED_FLOW_PURGE_H

#include "sidecar/store/store.h"

/* An entry can have only so many subjects; one that has more has this one for the others, and whoever purges a URI or a tag purges it, too. */
uint64_t purge_subject_of_many(struct cp_keyer *keyer);

void purge_list(struct store *store, struct cp_keyer *keyer, enum cp_method method, enum store_raise how);
void purge_uri(struct store *store, struct cp_keyer *keyer, struct span uri, enum store_raise how);
void purge_reads(struct store *store, struct cp_keyer *keyer, enum store_raise how);

#define PURGE_SUBJECTS_MAX 256

/* Several names at once: what has any of them goes. Zero-initialise, add names, run. */
struct purge {
    uint64_t subjects[PURGE_SUBJECTS_MAX];
    size_t count;
};

/* Each is -E2BIG, and adds nothing, when there are too many; 0 also when it is there already. */
int purge_add(struct purge *purge, uint64_t subject);
/* Whatever goes with this name; text as of cp_subject_of. */
int purge_add_named(struct purge *purge, struct cp_keyer *keyer, enum cp_subject kind, struct span text);

/* How many entries purge_run would take at this moment, and their bytes. Blocks: not for loops; any thread. */
uint64_t purge_count(struct store *store, const struct purge *purge, enum store_raise how, uint64_t *ret_bytes);
/* Takes them, and gives their room back in the background; how many it took (store_purge). Once it returned, nobody is served what was fetched before, and what is being
 * fetched answers those who wait for it and is not kept; softly: it is stale. Blocks: not for loops; any thread. */
uint64_t purge_run(struct store *store, const struct purge *purge, enum store_raise how, uint64_t *ret_bytes);

#endif
