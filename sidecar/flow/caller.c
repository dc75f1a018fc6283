/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks. Always: every header that commonly carries a credential is part of the principal, whether the policy names it or not, because it
 * reaches the upstream and an answer may depend on it; the policy can only add to them. A header that is not in this list and not inert is part of every key
 * (request.c), so an unknown credential costs hits, never secrets. Thread: the flow's loop. */
#include "sidecar/flow/caller.h"

/* Named in no policy and still part of everybody's principal: what commonly carries a credential, or the name that a gateway in front gave to whoever it
 * authenticated. One more costs hits at most; one less could cost secrets. */
static const struct span credential_headers[] = {
    SPAN_OF("authorization"),
    SPAN_OF("cookie"),
    SPAN_OF("proxy-authorization"),
    SPAN_OF("x-api-key"),
    SPAN_OF("api-key"),
    SPAN_OF("x-auth-token"),
    SPAN_OF("remote-user"),
    SPAN_OF("x-remote-user"),
    SPAN_OF("x-forwarded-user"),
    SPAN_OF("x-forwarded-email"),
    SPAN_OF("x-forwarded-groups"),
    SPAN_OF("x-forwarded-access-token"),
    SPAN_OF("x-forwarded-client-cert"),
    SPAN_OF("x-auth-request-user"),
    SPAN_OF("x-auth-request-email"),
    SPAN_OF("x-auth-request-access-token"),
    SPAN_OF("x-goog-iap-jwt-assertion"),
    SPAN_OF("x-goog-authenticated-user-email"),
    SPAN_OF("x-amzn-oidc-data"),
    SPAN_OF("x-amzn-oidc-identity"),
    SPAN_OF("x-amzn-oidc-accesstoken"),
    SPAN_OF("cf-access-jwt-assertion"),
    SPAN_OF("cf-access-authenticated-user-email"),
    SPAN_OF("x-ms-client-principal"),
    SPAN_OF("x-ms-client-principal-id"),
    SPAN_OF("x-ms-token-aad-access-token"),
};

#define CREDENTIAL_COUNT (sizeof(credential_headers) / sizeof(credential_headers[0]))
#define CREDENTIALS_MAX  96

static int find_credential(struct span name)
{
    for (size_t i = 0; i != CREDENTIAL_COUNT; ++i)
        if (span_eq(name, credential_headers[i]))
            return (int)i;
    return -1;
}

bool caller_is_credential(const struct cp_policy *policy, struct span name)
{
    if (find_credential(name) >= 0)
        return true;
    for (size_t i = 0; i != policy->identity_header_count; ++i)
        if (span_eq(name, span_of(policy->identity_headers[i])))
            return true;
    return false;
}

static void read_principal(struct flow *flow, h2o_req_t *req, struct cp_principal *ret)
{
    const struct cp_policy *policy = flow->shared->policy;
    struct cp_credential credentials[CREDENTIALS_MAX];
    size_t count = CREDENTIAL_COUNT;

    for (size_t i = 0; i != CREDENTIAL_COUNT; ++i)
        credentials[i] = (struct cp_credential){credential_headers[i], SPAN_ABSENT};
    for (size_t i = 0; i != req->headers.size; ++i) {
        const h2o_iovec_t *name = req->headers.entries[i].name;
        int k = find_credential((struct span){name->base, name->len});

        if (k >= 0)
            credentials[k].value = wire_header(req, credential_headers[k]);
    }
    for (size_t i = 0; i != policy->identity_header_count && count != CREDENTIALS_MAX; ++i) {
        struct span name = span_of(policy->identity_headers[i]);

        if (find_credential(name) < 0)
            credentials[count++] = (struct cp_credential){name, wire_header(req, name)};
    }
    cp_principal_of(flow->keyer, credentials, count, ret);
}

static bool is_allowed_origin(const struct flow_shared *shared, struct span origin)
{
    for (size_t i = 0; i != shared->allowed_origin_count; ++i)
        if (span_ieq(origin, span_of(shared->allowed_origins[i])))
            return true;
    return false;
}

static void session_name(struct flow *flow, const struct cp_principal *principal, struct span session_id, uint8_t ret[16])
{
    flow->text.n = 0;
    if (buf_add(&flow->text, principal->bytes, sizeof(principal->bytes)) != 0 || buf_add_span(&flow->text, session_id) != 0)
        h2o_fatal("no memory");
    cp_digest_of(flow->keyer, "session", buf_span(&flow->text), ret);
}

/* Sessions lie in the store too, under names that no question can have. */
static void session_key(struct flow *flow, const uint8_t name[16], struct cp_key *ret)
{
    struct span text = {(const char *)name, 16};

    memcpy(ret->digest, name, 16);
    cp_digest_of(flow->keyer, "session entry", text, ret->digest + 16);
    cp_digest_of(flow->keyer, "session check", text, ret->check);
}

void caller_learn_session(struct flow *flow, const struct cp_principal *principal, struct span session_id,
                          const struct session *session)
{
    int64_t now_ms = store_now_ms(flow->shared->store);
    struct store_entry entry = {
        .stored_at_ms = now_ms,
        .expires_at_ms = now_ms + CP_TTL_MAX_MS,
        .scope = CP_SCOPE_SESSION,
        .method = CP_METHOD_INITIALIZE,
    };
    char body[sizeof(session->version) + sizeof(session->client)];
    struct cp_key key;
    uint8_t name[16];

    session_name(flow, principal, session_id, name);
    sessions_learn(flow->shared->sessions, name, session, now_ms);
    memcpy(body, session->version, sizeof(session->version));
    memcpy(body + sizeof(session->version), session->client, sizeof(session->client));
    entry.body = (struct span){body, sizeof(body)};
    session_key(flow, name, &key);
    store_put(flow->shared->store, &key, &entry);
}

/* A session that was opened before this process was. */
static bool recall(struct flow *flow, h2o_req_t *req, const uint8_t name[16], int64_t now_ms, struct session *ret)
{
    struct store_entry entry;
    struct cp_key key;

    session_key(flow, name, &key);
    if (flow_get(flow, req, &key, &entry) != STORE_HIT || entry.method != CP_METHOD_INITIALIZE ||
        entry.body.n != sizeof(ret->version) + sizeof(ret->client) || now_ms - entry.stored_at_ms >= CP_TTL_MAX_MS)
        return false;
    memcpy(ret->version, entry.body.p, sizeof(ret->version));
    ret->version[sizeof(ret->version) - 1] = '\0';
    memcpy(ret->client, entry.body.p + sizeof(ret->version), sizeof(ret->client));
    sessions_learn(flow->shared->sessions, name, ret, now_ms);
    return true;
}

static void read_session(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                         int64_t now_ms, struct caller *ret)
{
    uint8_t name[16];

    ret->facts.version = wire->mirror.version.p != NULL ? span_trim(wire->mirror.version) : SPAN("2025-03-26");
    if (message->era == CP_ERA_MODERN) {
        /* a session header means nothing in the modern era */
        ret->facts.version = message->version;
        return;
    }
    if (wire->session.p == NULL)
        return;
    ret->session_id = wire->session;
    ret->facts.has_session = true;
    session_name(flow, &ret->principal, ret->session_id, name);
    if (sessions_find(flow->shared->sessions, name, &ret->session) || recall(flow, req, name, now_ms, &ret->session)) {
        ret->facts.session_known = true;
        /* a header that contradicts what was negotiated: no version that the cache knows */
        if (wire->mirror.version.p != NULL && !span_eq(ret->facts.version, span_of(ret->session.version)))
            ret->facts.version = SPAN("");
        else
            ret->facts.version = span_of(ret->session.version);
    }
}

void caller_read(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                 int64_t now_ms, struct caller *ret)
{
    const struct cp_policy *policy = flow->shared->policy;
    const char *header;

    *ret = (struct caller){.session_id = SPAN_ABSENT};
    read_principal(flow, req, &ret->principal);
    if (MUTANT("key-without-caller"))
        ret->principal = (struct cp_principal){.is_anonymous = ret->principal.is_anonymous};
    ret->facts.is_anonymous = ret->principal.is_anonymous;
    ret->facts.accepts_json = wire->accepts_json;
    ret->facts.origin_allowed = wire->origin.p == NULL || (!wire->origin_repeated && is_allowed_origin(flow->shared, wire->origin));
    ret->facts.body_is_plain = wire->body_is_plain;
    ret->facts.hides_headers = wire->hides_headers;
    ret->facts.wants_upstream = wire->wants_upstream;
    for (size_t i = 0; i != policy->proof_header_count; ++i)
        ret->facts.has_proof |= wire_has_header(req, span_of(policy->proof_headers[i]));
    ret->facts.agrees =
        (!wire->too_many_params && cp_agree(message, &wire->mirror, &header) == CP_AGREES) || MUTANT("hit-without-header-check");
    read_session(flow, req, wire, message, now_ms, ret);
}
