/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks: identity, session, and the header facts that a decision needs. Thread: the loop that trust belongs to. */
#ifndef MCPCACHED_TRUST_CALLER_H
#define MCPCACHED_TRUST_CALLER_H

#include "sidecar/trust/trust.h"
#include "sidecar/wire/headers.h"

/* What a legacy session negotiated: the payload of its standing. */
struct session {
    char version[15];   /* protocol version, NUL-terminated; empty: not seen to be negotiated here */
    uint8_t offers;     /* enum session_offer */
    uint8_t client[16]; /* digest of what the client said of itself (capabilities) */
};
_Static_assert(sizeof(struct session) == STANDING_PAYLOAD_BYTES, "a session is its standing's payload");

/* What its server said at initialize that it cannot tell of, and we said that we can: bits. */
enum session_offer {
    SESSION_OFFER_SUBSCRIBE = 1, /* resources/subscribe */
    SESSION_OFFER_TOOLS = 2,     /* list_changed of each kind */
    SESSION_OFFER_PROMPTS = 4,
    SESSION_OFFER_RESOURCES = 8,
};

/* Somebody, as keyed digests. Nothing in it is borrowed. A session is bound to the principal that uses it (sessions are no authentication). */
struct identity {
    struct cp_principal credential; /* every credential header, exactly as sent: whom the upstream accepts */
    struct cp_principal
        principal;       /* whose entries are his: the same, or with identity.claims what stays when a token is refreshed */
    uint8_t session[16]; /* of the legacy session's id; zeros: none */
    uint8_t place
        [16]; /* of Host, path with query and headers that are neither inert nor credentials: by those, too, servers tell whom they let in */
    bool has_session, has_claims, has_expired;
    uint64_t epochs[2];       /* standing of the credential and of the session; 0: none */
    uint64_t principal_epoch; /* of the principal */
    int64_t exp_s;            /* Unix time of the token's expiry as it says itself, -1: it does not */
};

/* Under which the session's standing is kept. */
void identity_session_name(const struct identity *id, uint8_t ret[16]);
/* Who sends requests in one session under one credential: within it, ids name requests. */
void identity_client_name(const struct identity *id, uint8_t ret[16]);
/* The owner of what was fetched by whoever has no credentials. */
uint64_t identity_owner(const struct identity *id);

struct caller {
    struct cp_caller facts;
    struct identity id;
    struct span session_id;  /* legacy Mcp-Session-Id; absent in the modern era and when there is none */
    struct session session;  /* valid when facts.session_known */
    bool agrees;             /* headers and body say the same */
    const char *disagreeing; /* the header that does not; NULL: none by name */
};

/* A message on the MCP path. */
void caller_read(struct trust *trust, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                 int64_t now_ms, struct caller *ret);
/* Any other request on it (GET, DELETE). ret_session: what its session negotiated; NULL: of no interest. */
void caller_identify(struct trust *trust, h2o_req_t *req, const struct wire_request *wire, int64_t now_ms, struct identity *ret,
                     struct session *ret_session);

/* Whose entries a request would find that has exactly these credential headers. Names in lower case; one that comes several times stands there several times. */
void caller_principal_of(struct trust *trust, const struct cp_credential *headers, size_t count, struct cp_principal *ret);

/* Whose results count together in the store: everybody's who comes with the same Authorization, whatever else he varies. */
uint64_t caller_owner(struct trust *trust, h2o_req_t *req, const struct identity *id);

/* Appends a header so that no other list of headers looks the same; value absent: there is none of this name. 0 or -ENOMEM. */
int caller_add_header(struct buf *out, struct span name, struct span value);

bool caller_is_allowed_origin(const struct trust_shared *shared, const struct wire_request *wire);

/* True for header names (lower case) that are part of the principal. */
bool caller_is_credential(const struct cp_policy *policy, struct span name);

/* Under which a request of this caller's session may be cancelled; id: raw token. */
void caller_asked_name(struct trust *trust, const struct identity *id, struct span request_id, uint8_t ret[16]);

/* Remembers what a session of this caller negotiated, in an exchange that began at began_ms. */
void caller_learn_session(struct trust *trust, struct identity *id, struct span session_id, const struct session *session,
                          int64_t began_ms, int64_t now_ms);

#endif
