/* SPDX-License-Identifier: Apache-2.0 */
/* Purges. Not here: who asks for them (stamps.c, notices.c, admin/). Thread: the keyer's. */
#include "sidecar/flow/purge.h"

uint64_t purge_subject_of_many(struct cp_keyer *keyer)
{
    /* no URI is empty */
    return cp_subject_of(keyer, CP_SUBJECT_URI, SPAN(""));
}

void purge_tool(struct store *store, struct cp_keyer *keyer, struct span name, enum store_raise how)
{
    store_raise(store, cp_subject_of(keyer, CP_SUBJECT_TOOL, name), how);
}

void purge_list(struct store *store, struct cp_keyer *keyer, enum cp_method method, enum store_raise how)
{
    store_raise(store, cp_subject_of(keyer, CP_SUBJECT_LIST, span_of(cp_method_text(method))), how);
}

void purge_uri(struct store *store, struct cp_keyer *keyer, struct span uri, enum store_raise how)
{
    store_raise(store, cp_subject_of(keyer, CP_SUBJECT_URI, uri), how);
    store_raise(store, purge_subject_of_many(keyer), how);
}

void purge_tag(struct store *store, struct cp_keyer *keyer, struct span tag, enum store_raise how)
{
    store_raise(store, cp_subject_of(keyer, CP_SUBJECT_TAG, tag), how);
    store_raise(store, purge_subject_of_many(keyer), how);
}

void purge_reads(struct store *store, struct cp_keyer *keyer, enum store_raise how)
{
    store_raise(store, cp_subject_of(keyer, CP_SUBJECT_READS, SPAN("")), how);
}
