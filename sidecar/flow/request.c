/* SPDX-License-Identifier: Apache-2.0 */
/* The story. Not here: keys (keys.c), lookups (lookup.c), who is let in (trust/), what a fetch brings (exchange.c, fill.c), who waits for whom (flight.c), what a
 * write makes old (stamps.c). Thread: the flow's loop. */
#include "sidecar/flow/request.h"

#include "sidecar/flow/exchange.h"
#include "sidecar/flow/lookup.h"
#include "sidecar/flow/offer.h"
#include "sidecar/flow/probe.h"
#include "sidecar/flow/refresh.h"
#include "sidecar/flow/stamps.h"
#include "sidecar/flow/stream.h"
#include "sidecar/flow/subscribe.h"
#include "sidecar/upstream/breaker.h"
#include "sidecar/wire/reply.h"

#include <stdatomic.h>
#include <stdio.h>

/* What is known of a request while its story is told. */
struct story {
    struct flow *flow;
    h2o_req_t *req;
    const struct telling *telling;
    struct wire_request wire;
    struct cp_message message;
    struct caller caller;
    struct definition definition;
    struct cp_decision decision;
    struct keys keys;
    struct found found;
    struct stamps stamps;
    struct exchange_plan plan;
};

/* The path without its query is the one the upstream serves MCP on. */
static bool is_mcp_path(const struct flow *flow, struct span path)
{
    const char *query = memchr(path.p, '?', path.n);

    if (query != NULL)
        path.n = (size_t)(query - path.p);
    return span_eq(path, flow->shared->upstream.url->path);
}

/* ---- answers of our own -------------------------------------------------------------------------------------------------------- */

static void note(const struct story *s, enum cp_outcome outcome, enum cp_reason reason, int status, size_t bytes)
{
    bool is_request = s->plan.message != NULL && s->message.kind == CP_KIND_REQUEST;

    exchange_log(&(struct exchange_note){
        .method = is_request ? s->message.method_text : SPAN_ABSENT,
        .name = is_request ? s->message.name : SPAN_ABSENT,
        .http_method = s->wire.method,
        .path = s->wire.path,
        .outcome = outcome,
        .reason = reason,
        .rule = s->decision.rule != NULL ? s->decision.rule->pattern : NULL,
        .status = status,
        .ms = store_now_ms(s->flow->shared->trust.store) - (s->telling->began_ms != 0 ? s->telling->began_ms : s->plan.now_ms),
        .bytes = bytes,
    });
}

/* From the store. status: what the failed fetch said, when the entry stands in for its answer. */
static void answer_found(struct story *s, int failed_status)
{
    const struct store_entry *entry = &s->found.entry;
    bool is_fresh = s->found.age.freshness == CP_FRESH && failed_status == 0;
    struct reply_hit hit = {
        .how = failed_status != 0 ? REPLY_STANDS_IN : REPLY_FOUND,
        .failed_status = failed_status,
        /* the body lies in the connection's buffer, which stays as it is until the answer is out */
        .id = s->message.id,
        .result = entry->body,
        /* only results of the methods that carry the hint have one to be counted down */
        .ttl_start = s->decision.hint_counts ? entry->ttl_start : 0,
        .ttl_end = s->decision.hint_counts ? entry->ttl_end : 0,
        .age = s->found.age,
        .session = s->caller.session_id,
        .origin = s->wire.origin,
    };

    if (failed_status != 0)
        hit.age.hint_remaining_ms = 0;
    /* others' lists, and other tokens' of the same principal: of his own he heard when it came */
    if (s->message.method == CP_METHOD_TOOLS_LIST && (entry->scope == CP_SCOPE_PUBLIC || s->caller.id.has_claims))
        definition_show(&s->flow->trust, &s->caller.id, entry->generation, entry->began_ms, s->plan.now_ms);
    note(s, is_fresh ? CP_OUTCOME_HIT : CP_OUTCOME_STALE, failed_status != 0 ? CP_REASON_STALE_IF_ERROR : CP_REASON_NONE, 200,
         entry->body.n);
    reply_hit_send(s->req, &hit);
}

/* From another's fetch. */
static void answer_collapsed(struct story *s, const struct flight_outcome *outcome)
{
    struct reply_hit hit = {
        .how = REPLY_COLLAPSED,
        .id = s->message.id,
        .ttl_start = s->decision.hint_counts ? outcome->ttl_start : 0,
        .ttl_end = s->decision.hint_counts ? outcome->ttl_end : 0,
        .session = s->caller.session_id,
        .origin = s->wire.origin,
    };
    struct span bytes = {s->telling->bytes, outcome->bytes.n};
    int64_t age_ms = s->plan.now_ms - outcome->stored_at_ms;

    h2o_mem_link_shared(&s->req->pool, s->telling->bytes);
    if (outcome->how == FLIGHT_ERROR) {
        note(s, CP_OUTCOME_COLLAPSED, outcome->reason, outcome->status, bytes.n);
        reply_shared_error_send(s->req, outcome->status, s->message.id, bytes);
        return;
    }
    hit.result = bytes;
    hit.age.age_ms = age_ms > 0 ? age_ms : 0;
    if (outcome->has_hint && outcome->hint_ttl_ms > hit.age.age_ms)
        hit.age.hint_remaining_ms = outcome->hint_ttl_ms - hit.age.age_ms;
    note(s, CP_OUTCOME_COLLAPSED, outcome->reason, 200, bytes.n);
    reply_hit_send(s->req, &hit);
}

/* A refusal of our own. */
static void refuse(struct story *s, struct reply_error *error)
{
    error->is_rpc = s->plan.is_mcp_path;
    error->id = s->plan.message != NULL && s->message.kind == CP_KIND_REQUEST ? s->message.id : SPAN_ABSENT;
    note(s, CP_OUTCOME_ERROR, error->reason, error->status, 0);
    reply_error_send(s->req, error);
}

/* 2026-07-28 basic/transports/streamable-http, "Server Validation": whoever answers from the body owes this check, and its error. */
static void refuse_disagreement(struct story *s)
{
    const char *header = s->caller.disagreeing;
    size_t cap = strlen(header) + 64;
    char *text = h2o_mem_alloc_pool(&s->req->pool, cap);

    snprintf(text, cap, "%s and the body of the request do not say the same", header);
    refuse(s, &(struct reply_error){.status = 400, .code = -32020, .text = text, .reason = CP_REASON_HEADER});
}

/* An Origin that the operator's list does not have (2025-11-25 and 2026-07-28 basic/transports: such a request gets 403). Without a list the upstream judges
 * alone. A preflight asks for no data. */
static bool is_foreign(const struct story *s)
{
    const struct trust_shared *shared = &s->flow->shared->trust;

    return shared->allowed_origin_count != 0 && !caller_is_allowed_origin(shared, &s->wire) &&
           !span_eq(s->wire.method, SPAN("OPTIONS"));
}

static void refuse_origin(struct story *s)
{
    refuse(s, &(struct reply_error){
                  .status = 403, .code = -32600, .text = "this Origin is not allowed here", .reason = CP_REASON_ORIGIN});
}

/* RFC 9111 5.2.1.7. */
static void refuse_unless_cached(struct story *s)
{
    refuse(s, &(struct reply_error){.status = 504,
                                    .text = "the client wants only what is cached, and this is not",
                                    .reason = CP_REASON_ONLY_IF_CACHED});
}

static enum probed probed_of(const struct story *s)
{
    switch (s->telling->how) {
    case TELLING_PROBED_WELL:
        return PROBED_WELL;
    case TELLING_PROBED_BADLY:
        return PROBED_BADLY;
    case TELLING_FIRST:
    case TELLING_LANDED:
        break;
    }
    return PROBED_NOT;
}

/* ---- ways upstream ------------------------------------------------------------------------------------------------------------- */

/* Forwards, unless it would be one stream too many. */
static void forward(struct story *s)
{
    struct exchange_plan *plan = &s->plan;
    const struct cp_message *m = plan->message;

    if (s->decision.only_if_cached) {
        refuse_unless_cached(s);
        return;
    }
    plan->is_stream = plan->is_mcp_path && (span_eq(plan->wire->method, SPAN("GET")) ||
                                            (m != NULL && m->kind == CP_KIND_REQUEST && m->method == CP_METHOD_LISTEN));
    if (plan->is_stream && !MUTANT("streams-unlimited") &&
        atomic_load_explicit(s->flow->shared->open_streams, memory_order_relaxed) >= s->flow->shared->max_streams) {
        refuse(s, &(struct reply_error){
                      .status = 503, .text = "too many streams are open", .retry_after_s = 5, .reason = CP_REASON_STREAMS});
        return;
    }
    plan->completes = m != NULL && offer_is_made(s->flow, m, &s->caller);
    if (plan->completes && m->method == CP_METHOD_INITIALIZE && s->wire.session.p != NULL) {
        struct caller of_old_session;

        caller_identify(&s->flow->trust, s->req, &s->wire, plan->now_ms, &of_old_session.id, &of_old_session.session);
        subscribe_over(s->flow, &of_old_session.id);
    }
    plan->stamps = &s->stamps;
    plan->probed = probed_of(s);
    /* what is not understood may be anything, and is relayed as anything */
    if (plan->is_stream && (m == NULL || (s->caller.facts.body_is_plain && !m->is_malformed)))
        stream_begin(s->flow, s->req, plan);
    else
        exchange_begin(s->flow, s->req, plan);
}

/* What is no JSON-RPC POST on the MCP path. */
static void pass(struct story *s)
{
    struct exchange_plan *plan = &s->plan;
    bool may_write = stamps_is_unsafe(s->wire.method) && !(plan->is_mcp_path && span_eq(s->wire.method, SPAN("DELETE")));

    if (plan->is_mcp_path && is_foreign(s)) {
        refuse_origin(s);
        return;
    }
    s->caller = (struct caller){.agrees = false};
    if (plan->is_mcp_path || may_write)
        caller_identify(&s->flow->trust, s->req, &s->wire, plan->now_ms, &s->caller.id, &s->caller.session);
    if (plan->is_mcp_path)
        plan->id = &s->caller.id;
    plan->session = &s->caller.session;
    if (may_write) {
        /* an upstream may well serve MCP under this path, too */
        cp_message_parse(&s->message, &s->flow->request_doc, (struct span){s->req->entity.base, s->req->entity.len});
        s->caller.facts.body_is_plain = s->wire.body_is_plain;
        stamps_of(s->flow, &s->message, &s->caller, &s->stamps);
    }
    forward(s);
}

/* The client asks past the cache, or for something that never lies in it. */
static void bypass(struct story *s)
{
    if (s->decision.action == CP_ACTION_WRITE)
        s->plan.outcome = CP_OUTCOME_WRITE;
    stamps_of(s->flow, &s->message, &s->caller, &s->stamps);
    /* what he asks past may lie in the cache: a refusal of that counts, too, and the answer may be kept */
    if (s->plan.reason == CP_REASON_CLIENT_CONTROL && s->caller.agrees &&
        keys_make(s->flow, s->req, &s->wire, &s->message, &s->caller, &s->definition, &s->decision, &s->keys) == CP_REASON_NONE) {
        keys_add_subjects(s->flow, &s->message, &s->decision, &s->definition, &s->keys);
        s->plan.decision = &s->decision;
        s->plan.keys = &s->keys;
        s->plan.owner = caller_owner(&s->flow->trust, s->req, &s->caller.id);
    }
    forward(s);
}

static void refresh(struct story *s)
{
    struct refresh_order order = {
        .req = s->req,
        .wire = &s->wire,
        .message = &s->message,
        .caller = &s->caller,
        .definition = &s->definition,
        .decision = &s->decision,
        .keys = &s->keys,
        .now_ms = s->plan.now_ms,
    };

    flight_name_of(s->flow, &s->keys, &s->decision, &s->caller.id, s->plan.now_ms, &order.name);
    /* what is everybody's is renewed for everybody, also when only the server says so and it may turn out otherwise */
    if (s->found.entry.scope == CP_SCOPE_PUBLIC && s->keys.has_public)
        flight_name_for_everybody(&s->keys, &order.name);
    refresh_begin(s->flow, &order);
}

/* ---- found ---------------------------------------------------------------------------------------------------------------------- */

/* Whether what was found may be given to this caller; answered, or a probe is waited for, when true. */
static bool answer_if_admitted(struct story *s)
{
    struct flow *flow = s->flow;
    bool was_probed = s->telling->how == TELLING_PROBED_WELL;

    switch (admission_of(&flow->trust, &s->caller.id, s->keys.grant, &s->found.entry, was_probed, 0, s->plan.now_ms)) {
    case ADMISSION_PROVEN:
        if (s->caller.agrees) {
            if (s->found.age.freshness == CP_STALE && !s->decision.only_if_cached)
                refresh(s);
            answer_found(s, 0);
        } else if (s->message.era == CP_ERA_MODERN && s->caller.disagreeing != NULL) {
            refuse_disagreement(s);
        } else {
            return false;
        }
        return true;
    case ADMISSION_LAPSED:
        s->plan.reason = CP_REASON_UNPROVEN;
        return s->telling->how == TELLING_FIRST && s->caller.agrees && flow->shared->trust.policy->probe &&
               !s->decision.only_if_cached && probe_join(flow, s->req, &s->wire, &s->message, &s->caller, s->plan.now_ms);
    case ADMISSION_UNPROVEN:
        s->plan.reason = CP_REASON_UNPROVEN;
        return false;
    case ADMISSION_EXPIRED:
        s->plan.reason = CP_REASON_EXPIRED;
        return false;
    }
    return false;
}

/* While the upstream fails nobody can renew his proof of life: it lasts as much longer as the policy lets an answer stand in. */
static bool may_stand_in(struct story *s, bool is_found)
{
    return is_found && s->found.age.may_stand_in && s->caller.agrees &&
           admission_of(&s->flow->trust, &s->caller.id, s->keys.grant, &s->found.entry, false,
                        s->decision.lifetime.stale_if_error_ms, s->plan.now_ms) == ADMISSION_PROVEN;
}

static void answer_failure(struct story *s, bool is_found, const struct flight_outcome *outcome)
{
    /* 429 is no failure of the upstream's */
    if (outcome->status >= 500 && may_stand_in(s, is_found)) {
        answer_found(s, outcome->status);
        return;
    }
    refuse(s, &(struct reply_error){
                  .status = outcome->status,
                  .text = outcome->text,
                  .retry_after_s = outcome->retry_after_s,
                  .was_asked = outcome->reason != CP_REASON_BREAKER,
                  .reason = outcome->reason,
              });
}

/* ---- missed --------------------------------------------------------------------------------------------------------------------- */

/* The breaker's word on this request; true: it was answered. */
static bool answer_if_broken(struct story *s, bool is_found)
{
    struct flow *flow = s->flow;
    int64_t wait_ms = 0;
    struct flight_outcome outcome = {
        .how = FLIGHT_FAILURE,
        .reason = CP_REASON_BREAKER,
        .status = 503,
        .text = "the MCP server behind mcpcached fails; it is asked again in a while",
    };

    switch (flow_ask_breaker(flow, &s->message, s->plan.now_ms, &s->plan.pass, &wait_ms)) {
    case BREAKER_PASS:
    case BREAKER_PROBE:
        s->plan.has_pass = true;
        return false;
    case BREAKER_OPEN:
        outcome.retry_after_s = (int)((wait_ms + 999) / 1000);
        answer_failure(s, is_found, &outcome);
        return true;
    }
    return false;
}

/* Nothing that can be served: fetched, by this request or by one that is on its way already. */
static void fetch(struct story *s, bool is_found)
{
    struct flow *flow = s->flow;
    struct flight_ask ask = {.has_asked = false};
    struct flight *flight = NULL;
    uint64_t subjects[STORE_SUBJECTS_MAX + 1];

    s->plan.outcome = CP_OUTCOME_MISS;
    s->plan.decision = &s->decision;
    s->plan.keys = &s->keys;
    s->plan.owner = caller_owner(&flow->trust, s->req, &s->caller.id);
    if (s->plan.reason == CP_REASON_NONE && s->found.is_purged)
        s->plan.reason = CP_REASON_PURGED;
    if (s->decision.only_if_cached) {
        refuse_unless_cached(s);
        return;
    }
    keys_add_subjects(flow, &s->message, &s->decision, &s->definition, &s->keys);
    memcpy(subjects, s->keys.subjects, s->keys.subject_count * sizeof(subjects[0]));
    subjects[s->keys.subject_count] = s->keys.own_subject;
    flight_name_of(flow, &s->keys, &s->decision, &s->caller.id, s->plan.now_ms, &ask.name);
    ask.subjects = subjects;
    ask.subject_count = s->keys.subject_count + 1;
    if (s->message.era == CP_ERA_LEGACY && s->caller.id.has_session) {
        ask.has_asked = true;
        ask.id = s->message.id;
        identity_client_name(&s->caller.id, ask.client);
        caller_asked_name(&flow->trust, &s->caller.id, s->message.id, ask.asked);
    }
    s->plan.flight_name = ask.name;
    if (s->telling->how != TELLING_LANDED) {
        if (flight_is_marked(flow, &ask.name, s->plan.now_ms)) {
            if (s->plan.reason == CP_REASON_NONE)
                s->plan.reason = CP_REASON_HIT_FOR_MISS;
        } else if (!MUTANT("no-flights")) {
            switch (flight_join(flow, s->req, &ask, &flight)) {
            case FLIGHT_LED:
            case FLIGHT_ALONE:
                break;
            case FLIGHT_JOINED:
                return;
            }
        }
    }
    s->plan.flight = flight;
    if (answer_if_broken(s, is_found)) {
        if (flight != NULL && flight_close(flight))
            flight_land(flight, flight_outcome_new(FLIGHT_APART));
        return;
    }
    forward(s);
}

/* What the flight that was waited for brought for this request; false: nothing, it goes on alone. */
static bool answer_landed(struct story *s)
{
    const struct flight_outcome *outcome = s->telling->outcome;
    const struct identity *id = &s->caller.id;

    if (s->telling->how != TELLING_LANDED || !s->caller.agrees ||
        memcmp(outcome->credential, id->credential.bytes, sizeof(outcome->credential)) != 0 ||
        memcmp(outcome->session, id->session, sizeof(outcome->session)) != 0)
        return false;
    switch (outcome->how) {
    case FLIGHT_RESULT:
    case FLIGHT_ERROR:
        /* perhaps he asked after it was purged; nobody can tell any more */
        if (outcome->how == FLIGHT_RESULT && store_validity_of(s->flow->shared->trust.store, outcome->generation, outcome->subjects,
                                                               outcome->subject_count) != STORE_VALID)
            return false;
        /* not, if something ended since then */
        if (id->epochs[0] == 0 || (id->has_session && id->epochs[1] == 0) ||
            !admission_holds(&s->flow->trust, id, outcome->began_ms))
            return false;
        answer_collapsed(s, outcome);
        return true;
    case FLIGHT_FAILURE:
    case FLIGHT_APART:
        return false;
    }
    return false;
}

/* ---- the story ------------------------------------------------------------------------------------------------------------------ */

/* Reads the request and decides. False: it is no lookup. */
static bool decide(struct story *s)
{
    struct flow *flow = s->flow;

    caller_read(&flow->trust, s->req, &s->wire, &s->message, s->plan.now_ms, &s->caller);
    s->plan.message = &s->message;
    s->plan.caller = &s->caller;
    s->plan.id = &s->caller.id;
    definition_of(&flow->trust, &s->caller.id, s->message.method == CP_METHOD_TOOLS_CALL ? s->message.name : SPAN_ABSENT,
                  &s->definition);
    s->caller.facts.annotation = s->definition.annotation;
    cp_decide(flow->shared->trust.policy, &s->message, &s->caller.facts, &s->decision);
    s->plan.reason = s->decision.reason;
    if (s->decision.action != CP_ACTION_LOOKUP)
        return false;
    s->plan.reason = keys_make(flow, s->req, &s->wire, &s->message, &s->caller, &s->definition, &s->decision, &s->keys);
    return s->plan.reason == CP_REASON_NONE;
}

/* The client of a session takes back what it asked, and others may wait for the same (2025-11-25 basic/utilities/cancellation). */
static bool is_cancelled_here(struct story *s)
{
    uint8_t asked[16], client[16];
    const struct cp_json_node *id;
    struct span leader_id = SPAN_ABSENT;
    h2o_mem_pool_t *pool = &s->req->pool;
    char *body;
    size_t cap;

    if (s->message.method != CP_METHOD_CANCELLED || s->message.kind != CP_KIND_NOTIFICATION || s->message.era != CP_ERA_LEGACY ||
        !s->caller.id.has_session || s->message.is_malformed ||
        (id = cp_json_member(s->message.doc, s->message.params, SPAN("requestId"))) == NULL)
        return false;
    caller_asked_name(&s->flow->trust, &s->caller.id, cp_json_raw(s->message.doc, id), asked);
    identity_client_name(&s->caller.id, client);
    switch (flight_cancel(s->flow, asked, client, pool, &leader_id)) {
    case FLIGHT_CANCEL_FORWARD:
        return false;
    case FLIGHT_CANCEL_RENAMED:
        cap = leader_id.n + 96;
        body = h2o_mem_alloc_pool(pool, cap);
        s->req->entity.len = (size_t)snprintf(
            body, cap, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":%.*s}}",
            (int)leader_id.n, leader_id.p);
        s->req->entity.base = body;
        return false;
    case FLIGHT_CANCEL_DONE:
        return true;
    }
    return false;
}

/* Subscribing and taking back, in a session. False: the upstream is to answer. */
static bool is_subscribed_here(struct story *s)
{
    switch (subscribe_here(s->flow, s->req, &s->wire, &s->message, &s->caller, probed_of(s), s->plan.now_ms)) {
    case SUBSCRIBED_UPSTREAM:
        s->plan.subscribes = s->flow->shared->subscribers != NULL && s->message.method == CP_METHOD_RESOURCES_SUBSCRIBE &&
                             s->message.kind == CP_KIND_REQUEST && s->message.era == CP_ERA_LEGACY && s->caller.id.has_session &&
                             s->caller.facts.body_is_plain && !s->caller.facts.hides_headers && !s->message.is_malformed;
        break;
    case SUBSCRIBED_HERE:
        note(s, CP_OUTCOME_BYPASS, CP_REASON_SUBSCRIPTION, 200, 2);
        reply_result_send(s->req, s->message.id, SPAN("{}"), s->caller.session_id, CP_REASON_SUBSCRIPTION);
        return true;
    case SUBSCRIBED_FULL:
        refuse(s, &(struct reply_error){.status = 200,
                                        .text = "too many subscriptions: unsubscribe from some first",
                                        .reason = CP_REASON_SUBSCRIPTION});
        return true;
    case SUBSCRIBED_LATER:
        return true;
    }
    return false;
}

/* Too many requests of one caller are no other's. */
static bool has_failed(const struct story *s)
{
    const struct flight_outcome *outcome = s->telling->outcome;

    return s->telling->how == TELLING_LANDED && outcome->how == FLIGHT_FAILURE &&
           (outcome->status >= 500 || memcmp(outcome->credential, s->caller.id.credential.bytes, sizeof(outcome->credential)) == 0);
}

static void tell(struct story *s)
{
    struct flow *flow = s->flow;
    bool is_found, is_failed;

    wire_request_read(s->req, &s->wire);
    s->plan.is_mcp_path = is_mcp_path(flow, s->wire.path);
    if (!s->plan.is_mcp_path || !span_eq(s->wire.method, SPAN("POST"))) {
        pass(s);
        return;
    }
    cp_message_parse(&s->message, &flow->request_doc, (struct span){s->req->entity.base, s->req->entity.len});
    s->plan.message = &s->message;
    if (is_foreign(s)) {
        refuse_origin(s);
        return;
    }
    if (!decide(s)) {
        if (s->telling->how == TELLING_LANDED && s->telling->outcome->how == FLIGHT_FAILURE) {
            /* it was sent once: what became of its tool or session meanwhile is no reason to send it again */
            answer_failure(s, false, s->telling->outcome);
        } else if (is_cancelled_here(s)) {
            note(s, CP_OUTCOME_BYPASS, CP_REASON_METHOD, 202, 0);
            reply_accepted_send(s->req);
        } else if (!is_subscribed_here(s)) {
            if (s->message.kind == CP_KIND_BATCH && s->caller.facts.body_is_plain && !s->caller.facts.hides_headers)
                subscribe_heed_batch(flow, s->req, &s->message, &s->caller.id, s->plan.now_ms);
            bypass(s);
        }
        return;
    }
    if (answer_landed(s))
        return;
    is_found = lookup_find(flow, s->req, &s->decision, &s->keys, &s->caller.id, s->plan.now_ms, &s->found);
    is_failed = has_failed(s);
    /* another fetch may have brought what this one did not */
    if (is_found && s->found.age.freshness != CP_STALE_IF_ERROR && (!is_failed || s->found.age.freshness == CP_FRESH) &&
        answer_if_admitted(s))
        return;
    if (is_failed) {
        answer_failure(s, is_found, s->telling->outcome);
        return;
    }
    if (!s->caller.agrees) {
        /* the upstream refuses it, and nothing is learned from what it says */
        s->plan.reason = CP_REASON_HEADER;
        forward(s);
        return;
    }
    fetch(s, is_found);
}

static void begin(struct story *s, struct flow *flow, h2o_req_t *req, const struct telling *telling)
{
    /* the large parts are written before they are read */
    s->flow = flow;
    s->req = req;
    s->telling = telling;
    s->found.is_purged = false;
    s->stamps.count = 0;
    s->stamps.is_known = false;
    s->stamps.is_known = false;
    s->decision = (struct cp_decision){.action = CP_ACTION_BYPASS};
    s->plan = (struct exchange_plan){
        .wire = &s->wire,
        .outcome = CP_OUTCOME_BYPASS,
        .reason = CP_REASON_METHOD,
        .now_ms = store_now_ms(flow->shared->trust.store),
    };
}

void request_handle(struct flow *flow, h2o_req_t *req)
{
    static const struct telling first = {.how = TELLING_FIRST};
    struct story story;

    begin(&story, flow, req, &first);
    tell(&story);
}

void request_resume(struct flow *flow, h2o_req_t *req, const struct telling *telling)
{
    struct story story;

    begin(&story, flow, req, telling);
    tell(&story);
}

bool request_can_stand_in(struct flow *flow, h2o_req_t *req)
{
    static const struct telling first = {.how = TELLING_FIRST};
    struct story story;

    begin(&story, flow, req, &first);
    wire_request_read(req, &story.wire);
    cp_message_parse(&story.message, &flow->request_doc, (struct span){req->entity.base, req->entity.len});
    return decide(&story) && may_stand_in(&story, lookup_find(flow, req, &story.decision, &story.keys, &story.caller.id,
                                                              story.plan.now_ms, &story.found));
}
