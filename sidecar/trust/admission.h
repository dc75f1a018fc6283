/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: whether the upstream would still talk to this very caller. A hit is an answer that the server never saw, so it needs proof:
 *
 *   alive    (credential, session)        the last 2xx to a POST, or stream to a GET, good for identity.lease
 *   granted  (credential, method + name)  a result, good for identity.grant
 *
 * both for the place of the request (Host, path, unlisted headers: servers tell tenants apart by those), both learned from the upstream's answers to the caller's own requests, both gone at once when the upstream refuses him (401, 403; 404 to a session; a DELETE that ends
 * it). Callers without credentials and session need none until the upstream was seen to challenge anybody. A token's own expiry can only shorten.
 * Thread: the loop that trust belongs to. */
#ifndef MCPCACHED_TRUST_ADMISSION_H
#define MCPCACHED_TRUST_ADMISSION_H

#include "sidecar/trust/caller.h"

/* How long a probe may take; after that the call itself is forwarded, and for a while no other probe delays this caller's. */
#define ADMISSION_PROBE_MS 2000

enum admission {
    ADMISSION_PROVEN,
    ADMISSION_LAPSED,   /* all but the recent sign of life: a probe can renew it */
    ADMISSION_UNPROVEN, /* only the request itself can tell */
    ADMISSION_EXPIRED,  /* the token says of itself that it is over */
};

/* Under which a grant is kept. */
void admission_grant_name(struct trust *trust, const struct identity *id, const struct cp_message *message, uint8_t ret[16]);

/* For an entry that was found. grant: its name. was_probed: the upstream has just accepted a probe of this caller's. more_ms: how much longer than the lease a sign of life
 * is good, because the upstream fails. An error that is kept for the caller himself needs no grant, which it took away. */
enum admission admission_of(struct trust *trust, const struct identity *id, const uint8_t grant[16],
                            const struct store_entry *entry, bool was_probed, int64_t more_ms, int64_t now_ms);
/* The same without an entry: whether the upstream would still talk to this caller at all. */
enum admission admission_of_life(struct trust *trust, const struct identity *id, bool was_probed, int64_t now_ms);
/* Whether any entry would be admitted: the caller is alive and granted. */
bool admission_is_proven(struct trust *trust, const struct identity *id, const uint8_t grant[16], int64_t now_ms);

/* What the head of an upstream reply to this caller says. id: updated to what holds now. */
struct admission_facts {
    int status;
    bool challenges;   /* WWW-Authenticate */
    bool has_origin;   /* the request has an Origin, which may be what was refused */
    bool proves;       /* the request was a POST or GET: a 2xx shows that the caller was let in */
    bool ends_session; /* the request was a DELETE */
    bool is_hidden;    /* the request did not travel as it came: the upstream did not judge this caller */
    bool is_probe;     /* of our own: what it may not do says nothing of what the caller may */
    int64_t began_ms;  /* of the exchange: nothing is proven that an end since then took away */
};
void admission_learn(struct trust *trust, struct identity *id, const struct admission_facts *facts, int64_t now_ms);

/* The upstream gave this caller a result, or refused inside its answer. */
void admission_grant(struct trust *trust, const struct identity *id, const uint8_t grant[16], int64_t began_ms);
void admission_withdraw(struct trust *trust, const uint8_t grant[16], int64_t now_ms);
/* Granted, or nothing needs to be: a caller without credential and session, of an upstream that never challenged anybody. */
bool admission_may_hear(struct trust *trust, const struct identity *id, const uint8_t grant[16], int64_t now_ms);
bool admission_is_granted(struct trust *trust, const struct identity *id, const uint8_t grant[16], int64_t now_ms);

/* Whether the upstream is known to accept this credential now, whatever held when the exchange began. */
bool admission_is_known(struct trust *trust, const struct identity *id);

/* A probe brought no acceptance: for a while this caller's calls are forwarded at once. */
void admission_mute(struct trust *trust, const struct identity *id, int64_t now_ms);

/* Whether the caller's standing is still the one of when the exchange began: what was fetched may be kept. */
bool admission_holds(struct trust *trust, const struct identity *id, int64_t began_ms);

/* Whether the upstream was seen to challenge before this process began. Once per loop. */
void admission_recall_challenge(struct trust *trust);

/* Under which a proof of life is kept, and under which one probe at a time runs. */
void admission_alive_name(const struct identity *id, uint8_t ret[16]);

#endif
