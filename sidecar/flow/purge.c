/* SPDX-License-Identifier: Apache-2.0 */
/* Purges. Not here: who asks for them (stamps.c, notices.c, admin/). Thread: the keyer's. */
#include "sidecar/flow/purge.h"

#include <errno.h>

uint64_t purge_subject_of_many(struct cp_keyer *keyer)
{
    /* no URI is empty */
    return cp_subject_of(keyer, CP_SUBJECT_URI, SPAN(""));
}

int purge_add(struct purge *purge, uint64_t subject)
{
    for (size_t i = 0; i != purge->count; ++i)
        if (purge->subjects[i] == subject)
            return 0;
    if (purge->count == PURGE_SUBJECTS_MAX)
        return -E2BIG;
    purge->subjects[purge->count++] = subject;
    return 0;
}

int purge_add_named(struct purge *purge, struct cp_keyer *keyer, enum cp_subject kind, struct span text)
{
    int r = purge_add(purge, cp_subject_of(keyer, kind, text));

    if (r == 0 && (kind == CP_SUBJECT_URI || kind == CP_SUBJECT_TAG))
        r = purge_add(purge, purge_subject_of_many(keyer));
    return r;
}

uint64_t purge_count(struct store *store, const struct purge *purge, enum store_raise how, uint64_t *ret_bytes)
{
    return store_count_any(store, purge->subjects, purge->count, how, ret_bytes);
}

uint64_t purge_run(struct store *store, const struct purge *purge, enum store_raise how, uint64_t *ret_bytes)
{
    uint64_t count;

    if (MUTANT("purge-only-counted"))
        return purge_count(store, purge, how, ret_bytes);
    count = store_purge(store, purge->subjects, purge->count, how, ret_bytes);

    if (how == STORE_RAISE_HARD)
        store_reclaim(store);
    return count;
}

static void raise_named(struct store *store, struct cp_keyer *keyer, enum cp_subject kind, struct span text, enum store_raise how)
{
    struct purge purge = {.count = 0};

    purge_add_named(&purge, keyer, kind, text);
    for (size_t i = 0; i != purge.count; ++i)
        store_raise(store, purge.subjects[i], how);
}

void purge_list(struct store *store, struct cp_keyer *keyer, enum cp_method method, enum store_raise how)
{
    raise_named(store, keyer, CP_SUBJECT_LIST, span_of(cp_method_text(method)), how);
}

void purge_uri(struct store *store, struct cp_keyer *keyer, struct span uri, enum store_raise how)
{
    raise_named(store, keyer, CP_SUBJECT_URI, uri, how);
}

void purge_reads(struct store *store, struct cp_keyer *keyer, enum store_raise how)
{
    raise_named(store, keyer, CP_SUBJECT_READS, SPAN(""), how);
}
