/* SPDX-License-Identifier: Apache-2.0 */
/* Admission. Not here: who somebody is (caller.c), how a probe is made (probe.c), where proofs and standings lie (proofs.c, standing.c).
 * Always: what is not proven is not admitted; an end takes effect before the reply that brought it reaches the client. Thread: the loop that trust belongs to. */
#include "sidecar/trust/admission.h"

#include "sidecar/counts.h"

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

void admission_grant_name(struct trust *trust, const struct identity *id, const struct cp_message *message, uint8_t ret[16])
{
    const uint64_t method = message->method;
    struct buf *text = &trust->text;

    text->n = 0;
    if (buf_add(text, id->credential.bytes, sizeof(id->credential.bytes)) != 0 ||
        buf_add(text, id->place, sizeof(id->place)) != 0 || buf_add(text, &method, sizeof(method)) != 0 ||
        buf_add_span(text, message->name.p != NULL ? message->name : SPAN("")) != 0)
        h2o_fatal("no memory");
    cp_digest_of(trust->keyer, "granted", buf_span(text), ret);
}

/* A caller of whom there is nothing to prove. */
static bool is_nobody(const struct trust *trust, const struct identity *id)
{
    return id->credential.is_anonymous && !id->has_session &&
           (atomic_load_explicit(trust->shared->challenged_ms, memory_order_acquire) == 0 || MUTANT("anonymous-unproven"));
}

/* What he may have was fetched by somebody like him. */
static bool needs_no_proof(const struct trust *trust, const struct identity *id, const struct store_entry *entry)
{
    return is_nobody(trust, id) && (entry->owner == identity_owner(id) || MUTANT("anonymous-unproven"));
}

/* A probe for him brought no acceptance lately. */
static bool is_muted(struct trust *trust, const struct identity *id, int64_t now_ms)
{
    uint8_t name[16];
    int64_t at_ms;

    mute_name(id, name);
    at_ms = proofs_at(trust->shared->proofs, name, id->epochs);
    return at_ms >= 0 && now_ms - at_ms < MUTE_MS;
}

/* Whether he was lately seen to be let in. */
static enum admission life_of(struct trust *trust, const struct identity *id, bool was_probed, int64_t more_ms, int64_t now_ms)
{
    const struct trust_shared *shared = trust->shared;
    int64_t lease_ms = shared->policy->lease_ms + more_ms;
    uint8_t name[16];
    int64_t at_ms;

    admission_alive_name(id, name);
    at_ms = proofs_at(shared->proofs, name, id->epochs);
    if ((at_ms >= 0 && now_ms - at_ms < lease_ms) || MUTANT("lease-ignored"))
        return ADMISSION_PROVEN;
    /* a probe may have taken longer than the lease lasts; but it proves nothing of a session or credential that ended meanwhile */
    if (was_probed && ((at_ms >= 0 && now_ms - at_ms < lease_ms + ADMISSION_PROBE_MS) || MUTANT("probe-always-true")))
        return ADMISSION_PROVEN;
    return is_muted(trust, id, now_ms) ? ADMISSION_UNPROVEN : ADMISSION_LAPSED;
}

enum admission admission_of(struct trust *trust, const struct identity *id, const uint8_t grant[16],
                            const struct store_entry *entry, bool was_probed, int64_t more_ms, int64_t now_ms)
{
    if (MUTANT("admission-off") || needs_no_proof(trust, id, entry))
        return ADMISSION_PROVEN;
    if (id->has_expired && !MUTANT("exp-ignored"))
        return ADMISSION_EXPIRED;
    if (id->epochs[0] == 0 || (id->has_session && id->epochs[1] == 0))
        return ADMISSION_UNPROVEN;
    if (!entry->is_negative && !admission_is_granted(trust, id, grant, now_ms) && !MUTANT("grant-ignored"))
        return ADMISSION_UNPROVEN;
    return life_of(trust, id, was_probed, more_ms, now_ms);
}

enum admission admission_of_life(struct trust *trust, const struct identity *id, bool was_probed, int64_t now_ms)
{
    if (MUTANT("admission-off") || is_nobody(trust, id))
        return ADMISSION_PROVEN;
    if (id->has_expired)
        return ADMISSION_EXPIRED;
    /* whoever is not known yet may be asked about */
    if (id->epochs[0] == 0 || (id->has_session && id->epochs[1] == 0))
        return is_muted(trust, id, now_ms) ? ADMISSION_UNPROVEN : ADMISSION_LAPSED;
    return life_of(trust, id, was_probed, 0, now_ms);
}

bool admission_may_hear(struct trust *trust, const struct identity *id, const uint8_t grant[16], int64_t now_ms)
{
    struct identity as_of_now = *id;
    struct standing standing;

    /* a stream is open for hours: what ended since, and was accepted again by another request, is another standing */
    standings_get(trust->shared->standings, id->credential.bytes, &standing);
    as_of_now.epochs[0] = standing.epoch;
    return is_nobody(trust, id) || admission_is_granted(trust, &as_of_now, grant, now_ms) || MUTANT("told-ungranted");
}

bool admission_is_proven(struct trust *trust, const struct identity *id, const uint8_t grant[16], int64_t now_ms)
{
    uint8_t name[16];
    int64_t at_ms;

    if (id->has_expired || id->epochs[0] == 0 || (id->has_session && id->epochs[1] == 0) ||
        !admission_is_granted(trust, id, grant, now_ms))
        return false;
    admission_alive_name(id, name);
    at_ms = proofs_at(trust->shared->proofs, name, id->epochs);
    return at_ms >= 0 && now_ms - at_ms < trust->shared->policy->lease_ms;
}

void admission_mute(struct trust *trust, const struct identity *id, int64_t now_ms)
{
    uint8_t name[16];

    mute_name(id, name);
    proofs_learn(trust->shared->proofs, name, id->epochs, now_ms);
}

static void challenge_name(struct trust *trust, uint8_t ret[16])
{
    cp_digest_of(trust->keyer, "challenged", trust->shared->upstream, ret);
}

/* How often the memory of it is renewed, and how long it lasts. */
#define CHALLENGE_NOTE_MS (60LL * 60 * 1000)
#define CHALLENGE_KEEP_MS (365LL * 24 * 60 * 60 * 1000)

static void note_challenge(struct trust *trust, int64_t now_ms)
{
    int64_t last_ms = atomic_load_explicit(trust->shared->challenged_ms, memory_order_relaxed);
    struct standing standing;
    uint8_t name[16];

    if (last_ms != 0 && now_ms - last_ms < CHALLENGE_NOTE_MS)
        return;
    atomic_store_explicit(trust->shared->challenged_ms, now_ms > 0 ? now_ms : 1, memory_order_release);
    challenge_name(trust, name);
    if (!standings_accept(trust->shared->standings, name, NULL, -1, now_ms, now_ms, &standing))
        return;
    standing.since_ms = now_ms;
    standing_remember(trust, name, &standing, CHALLENGE_KEEP_MS);
}

void admission_recall_challenge(struct trust *trust)
{
    int64_t now_ms = store_now_ms(trust->shared->store), never = 0;
    struct standing standing;
    uint8_t name[16];

    challenge_name(trust, name);
    standing_recall(trust, name, -1, now_ms, &standing);
    /* an hour ago: the next one is noted again */
    if (standing.epoch != 0)
        atomic_compare_exchange_strong(trust->shared->challenged_ms, &never,
                                       now_ms > CHALLENGE_NOTE_MS ? now_ms - CHALLENGE_NOTE_MS : 1);
}

static void let_in(struct trust *trust, struct identity *id, int64_t began_ms, int64_t now_ms)
{
    struct standings *standings = trust->shared->standings;
    struct standing standing;
    uint8_t name[16];

    id->epochs[0] = id->epochs[1] = id->principal_epoch = 0;
    if (id->has_claims) {
        if (!standings_accept(standings, id->credential.bytes, NULL, id->exp_s, began_ms, now_ms, &standing))
            return;
        id->epochs[0] = standing.epoch;
    }
    if (!standing_accept(trust, id->principal.bytes, NULL, id->exp_s, began_ms, now_ms, &standing))
        return;
    id->principal_epoch = standing.epoch;
    if (!id->has_claims)
        id->epochs[0] = standing.epoch;
    if (id->has_session) {
        struct standing by_id;

        identity_session_name(id, name);
        standings_get(trust->shared->ended_sessions, id->session, &by_id);
        if (by_id.ended_ms >= began_ms)
            return;
        /* the server uses the id again, or the table forgot too much: another session, in either case */
        standing_recall(trust, name, -1, now_ms, &standing);
        if (standing.epoch != 0 && standing.since_ms <= by_id.ended_ms)
            standing_end(trust, name, by_id.ended_ms);
        if (!standing_accept(trust, name, NULL, -1, began_ms, now_ms, &standing))
            return;
        id->epochs[1] = standing.epoch;
    }
    admission_alive_name(id, name);
    proofs_learn(trust->shared->proofs, name, id->epochs, began_ms);
}

static void refuse(struct trust *trust, struct identity *id, int status, int64_t now_ms)
{
    bool was_accepted = id->epochs[0] != 0;

    counts_add(COUNT_REFUSED);
    if (MUTANT("revocation-ignored"))
        return;
    if (id->has_claims)
        standings_end(trust->shared->standings, id->credential.bytes, now_ms);
    /* a token that is over says nothing against the next one of the same principal; a refusal of him does, unless anybody could have written his claims */
    if (!id->has_claims || (status == 403 && was_accepted))
        standing_end(trust, id->principal.bytes, now_ms);
    id->epochs[0] = id->epochs[1] = id->principal_epoch = 0;
}

static void end_session(struct trust *trust, struct identity *id, bool for_everybody, int64_t now_ms)
{
    uint8_t name[16];

    counts_add(COUNT_SESSION_ENDED);
    if (MUTANT("session-end-ignored"))
        return;
    if (for_everybody)
        standings_mark_end(trust->shared->ended_sessions, id->session, now_ms);
    identity_session_name(id, name);
    standing_end(trust, name, now_ms);
    id->epochs[1] = 0;
}

void admission_learn(struct trust *trust, struct identity *id, const struct admission_facts *facts, int64_t now_ms)
{
    bool is_refusal = facts->status == 401 || facts->status == 403, is_good = facts->status >= 200 && facts->status < 300;
    /* all who come without credentials look alike: what one of them is refused for his Origin is no word on the others */
    bool is_about_origin = facts->status == 403 && facts->has_origin && id->credential.is_anonymous;

    if (is_refusal || facts->challenges)
        note_challenge(trust, now_ms);
    if (is_refusal && !is_about_origin && !(facts->is_probe && facts->status == 403))
        refuse(trust, id, facts->status, now_ms);
    if (facts->is_hidden)
        return;
    if (is_good && facts->proves)
        let_in(trust, id, facts->began_ms, now_ms);
    if (id->has_session && (facts->status == 404 || (facts->ends_session && is_good)))
        end_session(trust, id, facts->status != 404, now_ms);
}

void admission_grant(struct trust *trust, const struct identity *id, const uint8_t grant[16], int64_t began_ms)
{
    const uint64_t credential_only[2] = {id->epochs[0], 0};

    if (id->epochs[0] != 0)
        proofs_learn(trust->shared->proofs, grant, credential_only, began_ms);
}

void admission_withdraw(struct trust *trust, const uint8_t grant[16], int64_t now_ms)
{
    proofs_drop(trust->shared->proofs, grant, now_ms);
}

bool admission_is_known(struct trust *trust, const struct identity *id)
{
    struct standing standing;

    standings_get(trust->shared->standings, id->credential.bytes, &standing);
    return standing.epoch != 0;
}

bool admission_is_granted(struct trust *trust, const struct identity *id, const uint8_t grant[16], int64_t now_ms)
{
    const uint64_t credential_only[2] = {id->epochs[0], 0};
    int64_t at_ms = proofs_at(trust->shared->proofs, grant, credential_only);

    return id->epochs[0] != 0 && at_ms >= 0 && now_ms - at_ms < trust->shared->policy->grant_ms;
}

bool admission_holds(struct trust *trust, const struct identity *id, int64_t began_ms)
{
    struct standings *standings = trust->shared->standings;
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
    standings_get(trust->shared->ended_sessions, id->session, &standing);
    return standing.ended_ms < began_ms;
}
