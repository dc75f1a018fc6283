/* SPDX-License-Identifier: Apache-2.0 */
/* Lookups. Not here: keys (keys.c), freshness arithmetic (cachepolicy/decide.c), generations (store/).
 * Always: what was purged hard is never found, whatever its age. Thread: the flow's loop. */
#include "sidecar/flow/lookup.h"

bool lookup_is_valid(const struct flow *flow, uint64_t generation, const uint64_t *subjects, size_t count, uint64_t own_subject)
{
    const struct store *store = flow->shared->trust.store;

    return store_validity_of(store, generation, subjects, count) == STORE_VALID &&
           store_validity_of(store, generation, &own_subject, 1) == STORE_VALID;
}

/* The worse of what was purged for everybody and what this caller's own writes made old. */
static enum store_validity validity_of(const struct flow *flow, const struct store_entry *entry, uint64_t own_subject)
{
    const struct store *store = flow->shared->trust.store;
    enum store_validity of_all = store_validity_of(store, entry->generation, entry->subjects, entry->subject_count);
    enum store_validity of_own =
        MUTANT("own-writes-ignored") ? STORE_VALID : store_validity_of(store, entry->generation, &own_subject, 1);

    if (MUTANT("purge-ignored"))
        return STORE_VALID;
    return of_all > of_own ? of_all : of_own;
}

/* What lies under key. False: nothing, or nothing of use. */
static bool look(struct flow *flow, h2o_req_t *req, const struct cp_key *key, const struct cp_decision *decision,
                 const struct keys *keys, const struct identity *id, int64_t now_ms, struct found *ret)
{
    enum store_validity validity;

    if (flow_get(flow, req, key, &ret->entry) != STORE_HIT)
        return false;
    /* an error asks for no grant (admission.h), so it is no answer to another token of the same principal */
    if (ret->entry.is_negative && id->has_claims && ret->entry.owner != caller_owner(&flow->trust, req, id))
        return false;
    if ((validity = validity_of(flow, &ret->entry, keys->own_subject)) == STORE_PURGED) {
        ret->is_purged = true;
        return false;
    }
    cp_age_of(decision, key,
              &(struct cp_stored){
                  .has_hint = ret->entry.has_hint,
                  .hint_ttl_ms = ret->entry.hint_ttl_ms,
                  .stored_at_ms = ret->entry.stored_at_ms,
                  .is_negative = ret->entry.is_negative,
                  .is_soft_purged = validity == STORE_SOFT_PURGED,
              },
              now_ms, &ret->age);
    return ret->age.freshness != CP_DEAD;
}

/* A later page is everybody's only beside a first page that is, and that is not newer: a page that turned out private took the first page away, and pages of two
 * versions of a list do not fit together. */
static bool is_beside_first_page(struct flow *flow, h2o_req_t *req, const struct keys *keys, const struct store_entry *page)
{
    struct store_entry first;

    return !keys->has_first_page ||
           (flow_get(flow, req, &keys->first_page, &first) == STORE_HIT && first.stored_at_ms <= page->stored_at_ms &&
            validity_of(flow, &first, keys->own_subject) == STORE_VALID);
}

bool lookup_find(struct flow *flow, h2o_req_t *req, const struct cp_decision *decision, const struct keys *keys,
                 const struct identity *id, int64_t now_ms, struct found *ret)
{
    struct cp_key key;
    struct found everybodys = {.is_purged = false};
    bool is_found = false;

    *ret = (struct found){.is_purged = false};
    if (keys_bind(keys, id, decision->private_scope, &key))
        is_found = look(flow, req, &key, decision, keys, id, now_ms, ret);
    if (!keys->has_public || (is_found && ret->age.freshness == CP_FRESH))
        return is_found;
    if (look(flow, req, &keys->public_key, decision, keys, id, now_ms, &everybodys) && !everybodys.entry.is_negative &&
        cp_is_public_granted(decision, everybodys.entry.has_hint, everybodys.entry.hint_ttl_ms) &&
        is_beside_first_page(flow, req, keys, &everybodys.entry) && (!is_found || everybodys.age.freshness < ret->age.freshness)) {
        *ret = everybodys;
        return true;
    }
    ret->is_purged |= everybodys.is_purged;
    return is_found;
}
