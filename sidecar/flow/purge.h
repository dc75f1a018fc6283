/* SPDX-License-Identifier: Apache-2.0 */
/* Purges: everything of one name is over, for everybody, from now on; what is being fetched answers those who wait for it and is not kept (store.h has the numbers
 * behind it). Thread: whoever has the keyer; the store is anybody's. */
#ifndef MCPCACHED_FLOW_PURGE_H
#define MCPCACHED_FLOW_PURGE_H

#include "sidecar/store/store.h"

/* An entry can have only so many subjects; one that has more has this one for the others, and whoever purges a URI or a tag purges it, too. */
uint64_t purge_subject_of_many(struct cp_keyer *keyer);

void purge_tool(struct store *store, struct cp_keyer *keyer, struct span name, enum store_raise how);
void purge_list(struct store *store, struct cp_keyer *keyer, enum cp_method method, enum store_raise how);
void purge_uri(struct store *store, struct cp_keyer *keyer, struct span uri, enum store_raise how);
void purge_tag(struct store *store, struct cp_keyer *keyer, struct span tag, enum store_raise how);
void purge_reads(struct store *store, struct cp_keyer *keyer, enum store_raise how);

#endif
