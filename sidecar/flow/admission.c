/* SPDX-License-Identifier: Apache-2.0 */
/* Admission. Not here: who somebody is (caller.c), how a probe is made (probe.c), where proofs and standings lie (proofs.c, standing.c).
 * Always: what is not proven is not admitted; an end takes effect before the reply that brought it reaches the client. Thread: the flow's loop. */
#include "sidecar/flow/admission.h"

#include "sidecar/flow/counts.h"

#include <stdatomic.h>

/* How long a caller whose probe brought no acceptance is spared the next one. */
#define MUTE_MS (60 * 1000)

static void mix(uint8_t a[16], const uint8_t b[16])
{
    for (int i = 0; i != 16; ++i)
        a[i] ^= b[i];
}

void admission_alive_name(const struct identity *id, uint8_t ret[16])
{
    memcpy(ret, id->credential.bytes + 16, 16);
    mix(ret, id->session);
    mix(ret, id->place);
}

static void mute_name(const struct identity *id, uint8_t ret[16])
{
    admission_alive_name(id, ret);
    ret[0] ^= 1;
}

void admission_grant_name(struct flow *flow, const struct identity *id, const struct cp_message *message, uint8_t ret[16])
{
    const uint64_t method = message->method;
    struct buf *text = &flow->text;

    text->n = 0;
    if (buf_add(text, id->credential.bytes, sizeof(id->credential.bytes)) != 0 ||
        buf_add(text, id->place, sizeof(id->place)) != 0 || buf_add(text, &method, sizeof(method)) != 0 ||
        buf_add_span(text, message->name.p != NULL ? message->name : SPAN("")) != 0)
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
    return atomic_load_explicit(flow->shared->challenged_ms, memory_order_acquire) == 0 && entry->owner == identity_owner(id);
}

enum admission admission_of(struct flow *flow, const struct identity *id, const uint8_t grant[16], const struct store_entry *entry,
                            bool was_probed, int64_t now_ms)
{
    const struct flow_shared *shared = flow->shared;
    uint8_t name[16];
    int64_t at_ms;

    if (MUTANT("admission-off") || needs_no_proof(flow, id, entry))
        return ADMISSION_PROVEN;
    if (id->has_expired && !MUTANT("exp-ignored"))
        return ADMISSION_EXPIRED;
    if (id->epochs[0] == 0 || (id->has_session && id->epochs[1] == 0))
        return ADMISSION_UNPROVEN;
    if (!admission_is_granted(flow, id, grant, now_ms) && !MUTANT("grant-ignored"))
        return ADMISSION_UNPROVEN;
    admission_alive_name(id, name);
    at_ms = proofs_at(shared->proofs, name, id->epochs);
    if ((at_ms >= 0 && now_ms - at_ms < shared->policy->lease_ms) || MUTANT("lease-ignored"))
        return ADMISSION_PROVEN;
    /* a probe may have taken longer than the lease lasts; but it proves nothing of a session or credential that ended meanwhile */
    if (was_probed &&
        ((at_ms >= 0 && now_ms - at_ms < shared->policy->lease_ms + ADMISSION_PROBE_MS) || MUTANT("probe-always-true")))
        return ADMISSION_PROVEN;
    mute_name(id, name);
    at_ms = proofs_at(shared->proofs, name, id->epochs);
    return at_ms >= 0 && now_ms - at_ms < MUTE_MS ? ADMISSION_UNPROVEN : ADMISSION_LAPSED;
}

void admission_mute(struct flow *flow, const struct identity *id, int64_t now_ms)
{
    uint8_t name[16];

    mute_name(id, name);
    proofs_learn(flow->shared->proofs, name, id->epochs, now_ms);
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
        standings_get(flow->shared->ended_sessions, id->session, &by_id);
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
    bool was_accepted = id->epochs[0] != 0;

    counts_add(COUNT_REFUSED);
    if (MUTANT("revocation-ignored"))
        return;
    if (id->has_claims)
        standings_end(flow->shared->standings, id->credential.bytes, now_ms);
    /* a token that is over says nothing against the next one of the same principal; a refusal of him does, unless anybody could have written his claims */
    if (!id->has_claims || (status == 403 && was_accepted))
        standing_end(flow, id->principal.bytes, now_ms);
    id->epochs[0] = id->epochs[1] = id->principal_epoch = 0;
}

static void end_session(struct flow *flow, struct identity *id, bool for_everybody, int64_t now_ms)
{
    uint8_t name[16];

    counts_add(COUNT_SESSION_ENDED);
    if (MUTANT("session-end-ignored"))
        return;
    if (for_everybody)
        standings_mark_end(flow->shared->ended_sessions, id->session, now_ms);
    identity_session_name(id, name);
    standing_end(flow, name, now_ms);
    id->epochs[1] = 0;
}

void admission_learn(struct flow *flow, struct identity *id, const struct admission_facts *facts, int64_t now_ms)
{
    bool is_refusal = facts->status == 401 || facts->status == 403, is_good = facts->status >= 200 && facts->status < 300;
    /* all who come without credentials look alike: what one of them is refused for his Origin is no word on the others */
    bool is_about_origin = facts->status == 403 && facts->has_origin && id->credential.is_anonymous;

    if (is_refusal || facts->challenges)
        flow_note_challenge(flow, now_ms);
    if (is_refusal && !is_about_origin && !(facts->is_probe && facts->status == 403))
        refuse(flow, id, facts->status, now_ms);
    if (facts->is_hidden)
        return;
    if (is_good && facts->proves)
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

void admission_withdraw(struct flow *flow, const uint8_t grant[16], int64_t now_ms)
{
    proofs_drop(flow->shared->proofs, grant, now_ms);
}

bool admission_is_known(struct flow *flow, const struct identity *id)
{
    struct standing standing;

    standings_get(flow->shared->standings, id->credential.bytes, &standing);
    return standing.epoch != 0;
}

bool admission_is_granted(struct flow *flow, const struct identity *id, const uint8_t grant[16], int64_t now_ms)
{
    const uint64_t credential_only[2] = {id->epochs[0], 0};
    int64_t at_ms = proofs_at(flow->shared->proofs, grant, credential_only);

    return id->epochs[0] != 0 && at_ms >= 0 && now_ms - at_ms < flow->shared->policy->grant_ms;
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
    standings_get(flow->shared->ended_sessions, id->session, &standing);
    return standing.ended_ms < began_ms;
}
