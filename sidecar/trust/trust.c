/* SPDX-License-Identifier: Apache-2.0 */
/* One loop's means. Not here: what is done with them (caller.c, admission.c). */
#include "sidecar/trust/trust.h"

#include <string.h>

int trust_init(struct trust *trust, const struct trust_shared *shared)
{
    int r;

    memset(trust, 0, sizeof(*trust));
    trust->shared = shared;
    if ((r = store_reader_new(shared->store, &trust->reader)) != 0)
        return r;
    if ((r = cp_keyer_new(store_secret(shared->store), &trust->keyer)) != 0)
        store_reader_free(trust->reader);
    else
        trust->tools_list_subject = cp_subject_of(trust->keyer, CP_SUBJECT_LIST, span_of(cp_method_text(CP_METHOD_TOOLS_LIST)));
    return r;
}

void trust_done(struct trust *trust)
{
    store_reader_free(trust->reader);
    cp_keyer_free(trust->keyer);
    cp_json_done(&trust->doc);
    buf_done(&trust->text);
    buf_done(&trust->claims);
}

static void *alloc_from_pool(void *pool, size_t bytes)
{
    return h2o_mem_alloc_pool(pool, bytes);
}

enum store_lookup trust_get(struct trust *trust, const struct cp_key *key, h2o_mem_pool_t *pool, struct store_entry *ret)
{
    return store_get(trust->reader, key, alloc_from_pool, pool, ret);
}

void trust_key_of(struct trust *trust, const char *entry_label, const char *check_label, const uint8_t name[16], struct cp_key *ret)
{
    struct span text = {(const char *)name, 16};

    memcpy(ret->digest, name, 16);
    cp_digest_of(trust->keyer, entry_label, text, ret->digest + 16);
    cp_digest_of(trust->keyer, check_label, text, ret->check);
}
