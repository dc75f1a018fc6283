/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks. Not here: whether he is let in (admission.c). Always: every header that commonly carries a credential is part of the principal, whether the policy names it or not, because it
 * reaches the upstream and an answer may depend on it; the policy can only add to them. A header that is not in this list and not inert is part of every key
 * (request.c), so an unknown credential costs hits, never secrets. Thread: the loop that trust belongs to. */
#include "sidecar/trust/caller.h"

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

void identity_session_name(const struct identity *id, uint8_t ret[16])
{
    for (int i = 0; i != 16; ++i)
        ret[i] = id->session[i] ^ id->principal.bytes[i];
}

void identity_client_name(const struct identity *id, uint8_t ret[16])
{
    for (int i = 0; i != 16; ++i)
        ret[i] = id->session[i] ^ id->credential.bytes[i];
}

uint64_t identity_owner(const struct identity *id)
{
    uint64_t owner;

    memcpy(&owner, id->principal.bytes, sizeof(owner));
    return owner;
}

/* Every credential header, Authorization first, then what the policy adds. */
static size_t gather(struct trust *trust, h2o_req_t *req, struct cp_credential credentials[CREDENTIALS_MAX])
{
    const struct cp_policy *policy = trust->shared->policy;
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
    return count;
}

/* Who the token says he is, in the place of the token. Unverified: his entries are found by it, and served only to a credential that the upstream accepts. */
static bool read_claims(struct trust *trust, struct cp_credential *credentials, size_t count, struct identity *ret)
{
    static const struct span claims_name = SPAN_OF("authorization claims");
    const struct cp_policy *policy = trust->shared->policy;

    trust->claims.n = 0;
    if (cp_token_claims(&trust->doc, &trust->text, credentials[0].value, policy->identity_claims, policy->identity_claim_count,
                        &trust->claims) != 0)
        return false;
    credentials[0] = (struct cp_credential){claims_name, buf_span(&trust->claims)};
    cp_principal_of(trust->keyer, credentials, count, &ret->principal);
    return true;
}

uint64_t caller_owner(struct trust *trust, h2o_req_t *req, const struct identity *id)
{
    struct span authorization = wire_header(req, SPAN("authorization"));
    uint8_t digest[16];
    uint64_t owner;

    if (authorization.p == NULL)
        return identity_owner(id);
    cp_digest_of(trust->keyer, "owner", authorization, digest);
    memcpy(&owner, digest, sizeof(owner));
    return owner;
}

/* A length as eight bytes; SIZE_MAX for what is absent. */
static int add_length(struct buf *out, size_t n)
{
    unsigned char bytes[8];

    for (int i = 0; i != 8; ++i)
        bytes[i] = (unsigned char)((uint64_t)n >> (8 * i));
    return buf_add(out, bytes, sizeof(bytes));
}

int caller_add_header(struct buf *out, struct span name, struct span value)
{
    int r;

    if ((r = add_length(out, name.n)) == 0 && (r = buf_add_span(out, name)) == 0 &&
        (r = add_length(out, value.p != NULL ? value.n : SIZE_MAX)) == 0)
        r = buf_add_span(out, value);
    return r;
}

/* Headers that say what is asked or in which language, not where. */
static bool is_of_the_question(struct span name)
{
    return span_eq(name, SPAN("accept-language")) || span_eq(name, SPAN("mcp-method")) || span_eq(name, SPAN("mcp-name")) ||
           span_eq(name, SPAN("last-event-id")) || (name.n > 10 && memcmp(name.p, "mcp-param-", 10) == 0);
}

static void read_place(struct trust *trust, h2o_req_t *req, const struct wire_request *wire, uint8_t ret[16])
{
    struct buf *text = &trust->text;
    int r;

    text->n = 0;
    if ((r = caller_add_header(text, SPAN("host"), wire->authority)) == 0)
        r = caller_add_header(text, SPAN("path"), wire->path);
    for (size_t i = 0; r == 0 && i != req->headers.size; ++i) {
        const h2o_header_t *h = &req->headers.entries[i];
        struct span name = {h->name->base, h->name->len};

        if (!wire_is_inert(name) && !is_of_the_question(name) && !caller_is_credential(trust->shared->policy, name))
            r = caller_add_header(text, name, (struct span){h->value.base != NULL ? h->value.base : "", h->value.len});
    }
    if (r != 0)
        h2o_fatal("no memory");
    cp_digest_of(trust->keyer, "place", buf_span(text), ret);
}

static int64_t real_s(h2o_req_t *req)
{
    return (int64_t)h2o_get_timestamp(req->conn->ctx, NULL, NULL)->tv_sec;
}

static int64_t expiry_of(struct trust *trust, struct span authorization)
{
    struct cp_token token;

    if (authorization.p == NULL)
        return -1;
    cp_token_read(&trust->doc, &trust->text, authorization, &token);
    return token.has_exp ? token.exp_s : -1;
}

static void read_standing(struct trust *trust, struct span authorization, int64_t now_ms, struct identity *ret)
{
    struct standings *standings = trust->shared->standings;
    struct standing standing;

    standings_get(standings, ret->credential.bytes, &standing);
    /* read once, then remembered with the standing */
    ret->exp_s = standing.epoch != 0 ? standing.exp_s : expiry_of(trust, authorization);
    if (standing.epoch == 0 && !ret->has_claims)
        standing_recall(trust, ret->credential.bytes, ret->exp_s, now_ms, &standing);
    ret->epochs[0] = ret->principal_epoch = standing.epoch;
    if (ret->has_claims) {
        standing_recall(trust, ret->principal.bytes, ret->exp_s, now_ms, &standing);
        ret->principal_epoch = standing.epoch;
    }
}

static void read_session(struct trust *trust, struct span session_id, int64_t now_ms, struct identity *id, struct session *ret)
{
    struct standing standing, by_id;
    uint8_t name[16];
    bool is_over;

    *ret = (struct session){.version = ""};
    if (session_id.p == NULL)
        return;
    id->has_session = true;
    cp_digest_of(trust->keyer, "session", session_id, id->session);
    identity_session_name(id, name);
    standing_recall(trust, name, -1, now_ms, &standing);
    standings_get(trust->shared->ended_sessions, id->session, &by_id);
    is_over = standing.since_ms <= by_id.ended_ms && !MUTANT("session-end-ignored");
    if (standing.epoch != 0 && !is_over)
        id->epochs[1] = standing.epoch;
    /* what was negotiated stays true of a session that has to be seen accepted again */
    memcpy(ret, standing.payload, sizeof(*ret));
    ret->version[sizeof(ret->version) - 1] = '\0';
}

/* Who asks, by his headers alone; returns his Authorization. */
static struct span read_principal(struct trust *trust, h2o_req_t *req, struct identity *ret)
{
    struct cp_credential credentials[CREDENTIALS_MAX];
    size_t count = gather(trust, req, credentials);
    struct span authorization = credentials[0].value;

    cp_principal_of(trust->keyer, credentials, count, &ret->credential);
    if (MUTANT("key-without-caller"))
        ret->credential = (struct cp_principal){.is_anonymous = ret->credential.is_anonymous};
    ret->principal = ret->credential;
    if (trust->shared->policy->identity_claim_count != 0 && authorization.p != NULL)
        ret->has_claims = read_claims(trust, credentials, count, ret);
    return authorization;
}

void caller_principal_of(struct trust *trust, const struct cp_credential *headers, size_t count, struct cp_principal *ret)
{
    /* read as any other, though nobody sent it */
    h2o_req_t *req = h2o_mem_alloc(sizeof(*req));
    h2o_iovec_t *names;
    struct identity id = {.exp_s = -1};

    memset(req, 0, sizeof(*req));
    h2o_mem_init_pool(&req->pool);
    names = h2o_mem_alloc_pool(&req->pool, sizeof(*names) * (count + 1));
    h2o_vector_reserve(&req->pool, &req->headers, count + 1);
    for (size_t i = 0; i != count; ++i) {
        names[i] = h2o_iovec_init(headers[i].name.p, headers[i].name.n);
        req->headers.entries[i] =
            (h2o_header_t){.name = &names[i], .value = h2o_iovec_init(headers[i].value.p, headers[i].value.n)};
    }
    req->headers.size = count;
    read_principal(trust, req, &id);
    *ret = id.principal;
    h2o_mem_clear_pool(&req->pool);
    free(req);
}

static void identify(struct trust *trust, h2o_req_t *req, const struct wire_request *wire, struct span session_id, int64_t now_ms,
                     struct identity *ret, struct session *ret_session)
{
    struct span authorization;

    *ret = (struct identity){.exp_s = -1};
    authorization = read_principal(trust, req, ret);
    read_standing(trust, authorization, now_ms, ret);
    if (MUTANT("claims-unadmitted") && ret->has_claims)
        ret->credential = ret->principal;
    read_place(trust, req, wire, ret->place);
    ret->has_expired = ret->exp_s >= 0 && real_s(req) >= ret->exp_s;
    read_session(trust, session_id, now_ms, ret, ret_session);
}

void caller_identify(struct trust *trust, h2o_req_t *req, const struct wire_request *wire, int64_t now_ms, struct identity *ret,
                     struct session *ret_session)
{
    struct session negotiated;

    identify(trust, req, wire, wire->session, now_ms, ret, ret_session != NULL ? ret_session : &negotiated);
}

bool caller_is_allowed_origin(const struct trust_shared *shared, const struct wire_request *wire)
{
    if (wire->origin.p == NULL)
        return true;
    if (wire->origin_repeated)
        return false;
    for (size_t i = 0; i != shared->allowed_origin_count; ++i)
        if (span_ieq(wire->origin, span_of(shared->allowed_origins[i])))
            return true;
    return MUTANT("origin-ignored");
}

void caller_learn_session(struct trust *trust, struct identity *id, struct span session_id, const struct session *session,
                          int64_t began_ms, int64_t now_ms)
{
    struct standing standing;
    uint8_t name[16];

    cp_digest_of(trust->keyer, "session", session_id, id->session);
    id->has_session = true;
    identity_session_name(id, name);
    if (standing_accept(trust, name, (const char *)session, -1, began_ms, now_ms, &standing))
        id->epochs[1] = standing.epoch;
}

void caller_asked_name(struct trust *trust, const struct identity *id, struct span request_id, uint8_t ret[16])
{
    uint8_t client[16];

    identity_client_name(id, client);
    cp_digest_of(trust->keyer, "asked", request_id, ret);
    for (int i = 0; i != 16; ++i)
        ret[i] ^= client[i];
}

static void read_version(const struct wire_request *wire, const struct cp_message *message, struct caller *ret)
{
    ret->facts.version = wire->mirror.version.p != NULL ? span_trim(wire->mirror.version) : SPAN("2025-03-26");
    if (message->era == CP_ERA_MODERN) {
        ret->facts.version = message->version;
    } else if (ret->session.version[0] != '\0') {
        ret->facts.session_known = true;
        /* a header that contradicts what was negotiated: no version that the cache knows */
        if (wire->mirror.version.p != NULL && !span_eq(ret->facts.version, span_of(ret->session.version)))
            ret->facts.version = SPAN("");
        else
            ret->facts.version = span_of(ret->session.version);
    }
}

/* The session that the message is part of: none in the modern era, where the header means nothing, none for an initialize, which opens another one, and none
 * that could be told for what is not understood. */
static struct span session_of(const struct wire_request *wire, const struct cp_message *message)
{
    if (message->kind == CP_KIND_OPAQUE || message->era == CP_ERA_MODERN || message->method == CP_METHOD_INITIALIZE)
        return SPAN_ABSENT;
    return wire->session;
}

void caller_read(struct trust *trust, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                 int64_t now_ms, struct caller *ret)
{
    const struct cp_policy *policy = trust->shared->policy;

    *ret = (struct caller){.session_id = session_of(wire, message)};
    identify(trust, req, wire, ret->session_id, now_ms, &ret->id, &ret->session);
    ret->facts.has_session = ret->id.has_session;
    ret->facts.is_anonymous = ret->id.principal.is_anonymous;
    ret->facts.accepts_json = wire->accepts_json;
    ret->facts.origin_allowed = caller_is_allowed_origin(trust->shared, wire);
    ret->facts.body_is_plain = wire->body_is_plain;
    ret->facts.hides_headers = wire->hides_headers;
    ret->facts.no_cache = wire->no_cache;
    ret->facts.no_store = wire->no_store;
    ret->facts.only_if_cached = wire->only_if_cached;
    for (size_t i = 0; i != policy->proof_header_count; ++i)
        ret->facts.has_proof |= wire_has_header(req, span_of(policy->proof_headers[i])) && !MUTANT("proof-ignored");
    ret->agrees = (!wire->too_many_params && cp_agree(message, &wire->mirror, &ret->disagreeing) == CP_AGREES) ||
                  MUTANT("hit-without-header-check");
    read_version(wire, message, ret);
}
