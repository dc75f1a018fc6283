/* SPDX-License-Identifier: Apache-2.0 */
/* Admission. Not here: who somebody is (caller.c), how a probe is made (probe.c), where proofs and standings lie (proofs.c, standing.c).
 * Always: what is not proven is not admitted; an end takes effect before the reply that brought it reaches the client. Thread: the flow's loop. */
#include "sidecar/flow/admission.h"

#include "sidecar/flow/counts.h"

#include <stdatomic.h>

static void mix(const uint8_t a[16], const uint8_t b[16], uint8_t ret[16])
{
    for (int i = 0; i != 16; ++i)
        ret[i] = a[i] ^ b[i];
}

void admission_alive_name(const struct identity *id, uint8_t ret[16])
{
    mix(id->credential.bytes + 16, id->session, ret);
}

void admission_grant_name(struct flow *flow, const struct identity *id, const struct cp_message *message, struct span where,
                          uint8_t ret[16])
{
    struct span name = message->name.p != NULL ? message->name : SPAN("");
    const uint64_t parts[2] = {message->method, name.n};
    struct buf *text = &flow->text;

    text->n = 0;
    if (buf_add(text, id->credential.bytes, sizeof(id->credential.bytes)) != 0 || buf_add(text, parts, sizeof(parts)) != 0 ||
        buf_add_span(text, name) != 0 || buf_add_span(text, where) != 0)
        h2o_fatal("no memory");
    cp_digest_of(flow->keyer, "granted", buf_span(text), ret);
}

/* A caller of whom there is nothing to prove. What he may have was fetched by somebody like him. */
static bool needs_no_proof(const struct flow *flow, const struct identity *id, const struct store_entry *entry)
{
    if (!id->credential.is_anonymous || id->has_session)
        return false;
    if (MUTANT("anonymous-unproven"))
        return true;
    return !atomic_load_explicit(flow->shared->challenged, memory_order_acquire) && entry->owner == identity_owner(id);
}

enum admission admission_of(struct flow *flow, const struct identity *id, const uint8_t grant[16], const struct store_entry *entry,
                            bool was_probed, int64_t now_ms)
{
    const struct flow_shared *shared = flow->shared;
    const uint64_t credential_only[2] = {id->epochs[0], 0};
    uint8_t name[16];
    int64_t at_ms;

    if (MUTANT("admission-off") || needs_no_proof(flow, id, entry))
        return ADMISSION_PROVEN;
    if (id->has_expired && !MUTANT("exp-ignored"))
        return ADMISSION_EXPIRED;
    if (id->epochs[0] == 0 || (id->has_session && id->epochs[1] == 0))
        return ADMISSION_UNPROVEN;
    at_ms = proofs_at(shared->proofs, grant, credential_only);
    if ((at_ms < 0 || now_ms - at_ms >= shared->policy->grant_ms) && !MUTANT("grant-ignored"))
        return ADMISSION_UNPROVEN;
    if (was_probed)
        return ADMISSION_PROVEN;
    admission_alive_name(id, name);
    at_ms = proofs_at(shared->proofs, name, id->epochs);
    if ((at_ms >= 0 && now_ms - at_ms < shared->policy->lease_ms) || MUTANT("lease-ignored"))
        return ADMISSION_PROVEN;
    return ADMISSION_LAPSED;
}

static void let_in(struct flow *flow, struct identity *id, int64_t began_ms, int64_t now_ms)
{
    struct standings *standings = flow->shared->standings;
    struct standing standing;
    uint8_t name[16];

    id->epochs[0] = id->epochs[1] = id->principal_epoch = 0;
    if (id->has_claims) {
        if (!standings_accept(standings, id->credential.bytes, NULL, id->exp_s, began_ms, now_ms, &standing))
            return;
        id->epochs[0] = standing.epoch;
    }
    if (!standing_accept(flow, id->principal.bytes, NULL, id->exp_s, began_ms, now_ms, &standing))
        return;
    id->principal_epoch = standing.epoch;
    if (!id->has_claims)
        id->epochs[0] = standing.epoch;
    if (id->has_session) {
        struct standing by_id;

        identity_session_name(id, name);
        standings_get(standings, id->session, &by_id);
        if (by_id.ended_ms >= began_ms)
            return;
        /* the server uses the id again, or the table forgot too much: another session, in either case */
        standing_recall(flow, name, -1, now_ms, &standing);
        if (standing.epoch != 0 && standing.since_ms <= by_id.ended_ms)
            standing_end(flow, name, by_id.ended_ms);
        if (!standing_accept(flow, name, NULL, -1, began_ms, now_ms, &standing))
            return;
        id->epochs[1] = standing.epoch;
    }
    admission_alive_name(id, name);
    proofs_learn(flow->shared->proofs, name, id->epochs, began_ms);
}

static void refuse(struct flow *flow, struct identity *id, int status, int64_t now_ms)
{
    counts_add(COUNT_REFUSED);
    if (MUTANT("revocation-ignored"))
        return;
    if (id->has_claims)
        standings_end(flow->shared->standings, id->credential.bytes, now_ms);
    /* a token that is over says nothing against the next one of the same principal; a refusal of him does */
    if (!id->has_claims || status == 403)
        standing_end(flow, id->principal.bytes, now_ms);
    id->epochs[0] = id->epochs[1] = id->principal_epoch = 0;
}

static void end_session(struct flow *flow, struct identity *id, bool for_everybody, int64_t now_ms)
{
    uint8_t name[16];

    counts_add(COUNT_SESSION_ENDED);
    if (MUTANT("session-end-ignored"))
        return;
    identity_session_name(id, name);
    standing_end(flow, name, now_ms);
    if (for_everybody)
        standings_end(flow->shared->standings, id->session, now_ms);
    id->epochs[1] = 0;
}

void admission_learn(struct flow *flow, struct identity *id, const struct admission_facts *facts, int64_t now_ms)
{
    bool is_refusal = facts->status == 401 || facts->status == 403, is_good = facts->status >= 200 && facts->status < 300;

    if ((is_refusal || facts->challenges) && !atomic_load_explicit(flow->shared->challenged, memory_order_relaxed))
        flow_note_challenge(flow, now_ms);
    if (is_refusal)
        refuse(flow, id, facts->status, now_ms);
    else if (is_good && facts->proves)
        let_in(flow, id, facts->began_ms, now_ms);
    if (id->has_session && (facts->status == 404 || (facts->ends_session && is_good)))
        end_session(flow, id, facts->status != 404, now_ms);
}

void admission_grant(struct flow *flow, const struct identity *id, const uint8_t grant[16], int64_t began_ms)
{
    const uint64_t credential_only[2] = {id->epochs[0], 0};

    if (id->epochs[0] != 0)
        proofs_learn(flow->shared->proofs, grant, credential_only, began_ms);
}

void admission_withdraw(struct flow *flow, const uint8_t grant[16])
{
    proofs_drop(flow->shared->proofs, grant);
}

bool admission_holds(struct flow *flow, const struct identity *id, int64_t began_ms)
{
    struct standings *standings = flow->shared->standings;
    struct standing standing;
    uint8_t name[16];

    if (MUTANT("fill-survives-revocation"))
        return true;
    standings_get(standings, id->credential.bytes, &standing);
    if (standing.ended_ms >= began_ms)
        return false;
    standings_get(standings, id->principal.bytes, &standing);
    if (standing.ended_ms >= began_ms)
        return false;
    if (!id->has_session)
        return true;
    identity_session_name(id, name);
    standings_get(standings, name, &standing);
    if (standing.ended_ms >= began_ms)
        return false;
    standings_get(standings, id->session, &standing);
    return standing.ended_ms < began_ms;
}
