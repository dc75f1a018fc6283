/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks. Always: every header that commonly carries a credential is part of the principal, whether the policy names it or not, because it
 * reaches the upstream and an answer may depend on it; the policy can only add to them. Thread: the flow's loop. */
#include "sidecar/flow/caller.h"

/* Named in no policy and still part of everybody's principal. */
static const struct span credential_headers[] = {
    {"authorization", 13}, {"cookie", 6}, {"x-api-key", 9}, {"api-key", 7}, {"x-auth-token", 12},
};

#define CREDENTIAL_COUNT (sizeof(credential_headers) / sizeof(credential_headers[0]))
#define CREDENTIALS_MAX 64

static void read_principal(struct flow *flow, h2o_req_t *req, struct cp_principal *ret)
{
    const struct cp_policy *policy = flow->shared->policy;
    struct cp_credential credentials[CREDENTIALS_MAX];
    size_t count = 0;

    for (size_t i = 0; i != CREDENTIAL_COUNT; ++i)
        credentials[count++] = (struct cp_credential){credential_headers[i], wire_header(req, credential_headers[i])};
    for (size_t i = 0; i != policy->identity_header_count && count != CREDENTIALS_MAX; ++i) {
        struct span name = span_of(policy->identity_headers[i]);
        bool is_known = false;

        for (size_t k = 0; k != CREDENTIAL_COUNT; ++k)
            is_known |= span_eq(name, credential_headers[k]);
        if (!is_known)
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

void caller_session_name(struct flow *flow, const struct cp_principal *principal, struct span session_id, uint8_t ret[16])
{
    flow->text.n = 0;
    if (buf_add(&flow->text, principal->bytes, sizeof(principal->bytes)) != 0 || buf_add_span(&flow->text, session_id) != 0)
        h2o_fatal("no memory");
    cp_digest_of(flow->keyer, "session", buf_span(&flow->text), ret);
}

static void read_session(struct flow *flow, const struct wire_request *wire, const struct cp_message *message, struct caller *ret)
{
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
    caller_session_name(flow, &ret->principal, ret->session_id, ret->session_name);
    if (sessions_find(flow->shared->sessions, ret->session_name, &ret->session)) {
        ret->facts.session_known = true;
        /* a header that contradicts what was negotiated: no version that the cache knows */
        if (wire->mirror.version.p != NULL && !span_eq(ret->facts.version, span_of(ret->session.version)))
            ret->facts.version = SPAN("");
        else
            ret->facts.version = span_of(ret->session.version);
    }
}

void caller_read(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message, struct caller *ret)
{
    const struct cp_policy *policy = flow->shared->policy;
    const char *header;

    *ret = (struct caller){.session_id = SPAN_ABSENT};
    read_principal(flow, req, &ret->principal);
#ifdef MUTANT_KEY_WITHOUT_CALLER
    ret->principal = (struct cp_principal){.is_anonymous = ret->principal.is_anonymous};
#endif
    ret->facts.is_anonymous = ret->principal.is_anonymous;
    ret->facts.accepts_json = wire->accepts_json;
    ret->facts.origin_allowed = wire->origin.p == NULL || is_allowed_origin(flow->shared, wire->origin);
    ret->facts.wants_upstream = wire->wants_upstream;
    for (size_t i = 0; i != policy->proof_header_count; ++i)
        ret->facts.has_proof |= wire_has_header(req, span_of(policy->proof_headers[i]));
#ifdef MUTANT_HIT_WITHOUT_HEADER_CHECK
    (void)header;
    ret->facts.agrees = true;
#else
    ret->facts.agrees = !wire->too_many_params && cp_agree(message, &wire->mirror, &header) == CP_AGREES;
#endif
    read_session(flow, wire, message, ret);
}
