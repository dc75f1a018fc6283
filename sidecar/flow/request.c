/* SPDX-License-Identifier: Apache-2.0 */
/* The story of a request, top to bottom in tell. Not here: what happens after it was forwarded (exchange.c), what a decision is made
 * of (cachepolicy/decide.c). Always: nothing on the way to a hit blocks or allocates outside the request's pool and the loop's scratch, and it locks (shortly) only while a put to
 * a neighbouring key waits for its commit; a store that fails is a miss. Thread: the flow's loop. */
#include "sidecar/flow/request.h"

#include "sidecar/flow/exchange.h"
#include "sidecar/flow/probe.h"
#include "sidecar/wire/reply.h"

#include <stdatomic.h>
#include <stdio.h>

/* The path without its query is the one the upstream serves MCP on. */
static bool is_mcp_path(const struct flow *flow, struct span path)
{
    const char *query = memchr(path.p, '?', path.n);

    if (query != NULL)
        path.n = (size_t)(query - path.p);
    return span_eq(path, flow->shared->upstream.url->path);
}

/* In the modern era these are compared with the body (cp_agree), so they say nothing that the key does not; where nothing compares them they are headers like any
 * other. */
static bool is_mirror(struct span name, const struct cp_message *message)
{
    return message->era == CP_ERA_MODERN &&
           (span_eq(name, SPAN("mcp-method")) || (span_eq(name, SPAN("mcp-name")) && cp_mirrors_name(message)));
}

/* Request headers that join every key, each with its name and length: those that the policy names, absent or not, and, as they came, all others that travel upstream and are
 * neither inert nor part of the principal. What reaches the upstream is keyed, or it is known to change nothing. */
static int add_vary(struct flow *flow, h2o_req_t *req, const struct cp_message *message, struct buf *out)
{
    const struct cp_policy *policy = flow->shared->trust.policy;
    int r = 0;

    out->n = 0;
    for (size_t i = 0; r == 0 && i != policy->vary_header_count; ++i) {
        struct span name = span_of(policy->vary_headers[i]);

        r = caller_add_header(out, name, wire_header(req, name));
    }
    for (size_t i = 0; r == 0 && i != req->headers.size; ++i) {
        const h2o_header_t *h = &req->headers.entries[i];
        struct span name = {h->name->base, h->name->len};

        if (!wire_is_inert(name) && !caller_is_credential(policy, name) && !is_mirror(name, message))
            r = caller_add_header(out, name, (struct span){h->value.base != NULL ? h->value.base : "", h->value.len});
    }
    return r;
}

/* Always present, also when nothing was ever written to the buf: a key must not depend on what a loop has seen before. */
static struct span present(const struct buf *b)
{
    return b->n != 0 ? buf_span(b) : SPAN("");
}

static bool is_later_page(const struct cp_message *message)
{
    return cp_json_member(message->doc, message->params, SPAN("cursor")) != NULL && message->method != CP_METHOD_TOOLS_CALL &&
           message->method != CP_METHOD_RESOURCES_READ;
}

/* Makes the keys under which the answer may lie. CP_REASON_NONE, or why the request cannot have one. */
static enum cp_reason make_keys(struct flow *flow, h2o_req_t *req, struct wire_request *wire, const struct cp_message *message,
                                const struct caller *caller, const struct cp_decision *decision, struct fill_keys *ret)
{
    const struct cp_rule *rule = decision->rule;
    struct span client = caller->facts.session_known
                             ? (struct span){(const char *)caller->session.client, sizeof(caller->session.client)}
                             : SPAN_ABSENT;
    struct cp_question question = {
        .upstream = span_of(flow->shared->upstream.url->text),
        .authority = wire->authority,
        .path = wire->path,
        .era = message->era,
        .version = caller->facts.version,
        .method = message->method,
        .definition = SPAN_ABSENT,
    };
    struct cp_share share = {.principal = &caller->id.principal, .session = caller->session_id};

    flow->params.n = flow->mcp_params.n = 0;
    if (cp_message_canonical(message, rule != NULL ? rule->ignore : NULL, rule != NULL ? rule->ignore_count : 0, &flow->params) !=
            0 ||
        cp_mirror_params(wire->params, wire->param_count, &flow->mcp_params) != 0 || add_vary(flow, req, message, &flow->vary) != 0)
        return CP_REASON_KEY_SIZE;
    if (flow->params.n > flow->shared->max_key_bytes)
        return CP_REASON_KEY_SIZE;
    admission_grant_name(&flow->trust, &caller->id, message, ret->grant);
    question.params = present(&flow->params);
    question.mcp_params = present(&flow->mcp_params);
    question.vary = present(&flow->vary);
    if ((ret->has_private = decision->may_private)) {
        share.scope = decision->private_scope;
        question.client = share.scope != CP_SCOPE_SESSION ? client : SPAN_ABSENT;
        cp_key_of(flow->trust.keyer, &question, &share, &ret->private_key);
    }
    if ((ret->has_public = decision->may_public)) {
        share.scope = CP_SCOPE_PUBLIC;
        question.client = client;
        cp_key_of(flow->trust.keyer, &question, &share, &ret->public_key);
        if (is_later_page(message)) {
            flow->params.n = 0;
            if (cp_message_canonical_first_page(message, &flow->params) != 0)
                return CP_REASON_KEY_SIZE;
            question.params = present(&flow->params);
            cp_key_of(flow->trust.keyer, &question, &share, &ret->first_page);
            ret->has_first_page = true;
        }
    }
    return CP_REASON_NONE;
}

static bool is_fresh(struct flow *flow, h2o_req_t *req, const struct cp_key *key, const struct cp_decision *decision,
                     int64_t now_ms, struct store_entry *ret, struct cp_age *ret_age)
{
    if (flow_get(flow, req, key, ret) != STORE_HIT)
        return false;
    cp_age_of(decision, key,
              &(struct cp_stored){.has_hint = ret->has_hint, .hint_ttl_ms = ret->hint_ttl_ms, .stored_at_ms = ret->stored_at_ms}, now_ms,
              ret_age);
    return ret_age->freshness == CP_FRESH;
}

/* A later page is everybody's only beside a first page that is, and that is not newer: a page that turned out private took the first page away, and pages of two
 * versions of a list do not fit together. */
static bool is_beside_first_page(struct flow *flow, h2o_req_t *req, const struct fill_keys *keys, const struct store_entry *page)
{
    struct store_entry first;

    return !keys->has_first_page ||
           (flow_get(flow, req, &keys->first_page, &first) == STORE_HIT && first.stored_at_ms <= page->stored_at_ms);
}

/* The private arm first: what is kept for this caller is closer to him than what is kept for everybody. */
static bool find(struct flow *flow, h2o_req_t *req, const struct cp_decision *decision, const struct fill_keys *keys,
                 const struct identity *id, int64_t now_ms, struct store_entry *ret, struct cp_age *ret_age)
{
    struct cp_key key;

    if (fill_bind(keys, id, decision->private_scope, &key) && is_fresh(flow, req, &key, decision, now_ms, ret, ret_age))
        return true;
    return keys->has_public && is_fresh(flow, req, &keys->public_key, decision, now_ms, ret, ret_age) &&
           cp_is_public_granted(decision, ret->has_hint, ret->hint_ttl_ms) && is_beside_first_page(flow, req, keys, ret);
}

static void answer_hit(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                       const struct caller *caller, const struct cp_decision *decision, const struct store_entry *entry,
                       const struct cp_age *age, int64_t now_ms)
{
    struct reply_hit hit = {
        /* the body lies in the connection's buffer, which stays as it is until the answer is out */
        .id = message->id,
        .result = entry->body,
        /* only results of the methods that carry the hint have one to be counted down */
        .ttl_start = decision->hint_counts ? entry->ttl_start : 0,
        .ttl_end = decision->hint_counts ? entry->ttl_end : 0,
        .age = *age,
        .session = caller->session_id,
        .origin = wire->origin,
    };

    exchange_log(&(struct exchange_note){
        .method = message->method_text,
        .name = message->name,
        .outcome = CP_OUTCOME_HIT,
        .rule = decision->rule != NULL ? decision->rule->pattern : NULL,
        .status = 200,
        .ms = store_now_ms(flow->shared->trust.store) - now_ms,
        .bytes = entry->body.n,
    });
    reply_hit_send(req, &hit);
}

/* A refusal of our own. message: NULL when there is none to answer. */
static void refuse(h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message, struct reply_error *error)
{
    bool is_request = message != NULL && message->kind == CP_KIND_REQUEST;

    error->is_rpc = true;
    error->id = is_request ? message->id : SPAN_ABSENT;
    exchange_log(&(struct exchange_note){
        .method = is_request ? message->method_text : SPAN_ABSENT,
        .name = is_request ? message->name : SPAN_ABSENT,
        .http_method = wire->method,
        .path = wire->path,
        .outcome = CP_OUTCOME_ERROR,
        .reason = error->reason,
        .status = error->status,
    });
    reply_error_send(req, error);
}

/* 2026-07-28 basic/transports/streamable-http, "Server Validation": whoever answers from the body owes this check, and its error. */
static void refuse_disagreement(h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                                const char *header)
{
    size_t cap = strlen(header) + 64;
    char *text = h2o_mem_alloc_pool(&req->pool, cap);

    snprintf(text, cap, "%s and the body of the request do not say the same", header);
    refuse(req, wire, message, &(struct reply_error){.status = 400, .code = -32020, .text = text, .reason = CP_REASON_HEADER});
}

/* An Origin that the operator's list does not have (2025-11-25 and 2026-07-28 basic/transports: such a request gets 403). Without a list the upstream judges
 * alone. A preflight asks for no data. */
static bool is_foreign(const struct flow *flow, const struct wire_request *wire)
{
    return flow->shared->trust.allowed_origin_count != 0 && !caller_is_allowed_origin(&flow->shared->trust, wire) &&
           !span_eq(wire->method, SPAN("OPTIONS"));
}

static void refuse_origin(h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message)
{
    refuse(req, wire, message,
           &(struct reply_error){
               .status = 403, .code = -32600, .text = "this Origin is not allowed here", .reason = CP_REASON_ORIGIN});
}

/* Forwards, unless it would be one stream too many. */
static void forward(struct flow *flow, h2o_req_t *req, struct exchange_plan *plan)
{
    const struct cp_message *m = plan->message;

    plan->is_stream = plan->is_mcp_path && (span_eq(plan->wire->method, SPAN("GET")) ||
                                            (m != NULL && m->kind == CP_KIND_REQUEST && m->method == CP_METHOD_LISTEN));
    if (plan->is_stream && !MUTANT("streams-unlimited") &&
        atomic_load_explicit(flow->shared->open_streams, memory_order_relaxed) >= flow->shared->max_streams) {
        refuse(req, plan->wire, m,
               &(struct reply_error){
                   .status = 503, .text = "too many streams are open", .retry_after_s = 5, .reason = CP_REASON_STREAMS});
        return;
    }
    exchange_begin(flow, req, plan);
}

/* How often the story is told: again, when a probe was waited for. */
enum telling { FIRST, PROBED_WELL, PROBED_BADLY };

/* What is no JSON-RPC POST on the MCP path. */
static void pass(struct flow *flow, h2o_req_t *req, struct exchange_plan *plan)
{
    struct identity id;

    if (plan->is_mcp_path) {
        if (is_foreign(flow, plan->wire)) {
            refuse_origin(req, plan->wire, NULL);
            return;
        }
        caller_identify(&flow->trust, req, plan->wire, plan->now_ms, &id);
        plan->id = &id;
    }
    forward(flow, req, plan);
}

static void tell(struct flow *flow, h2o_req_t *req, enum telling telling)
{
    struct wire_request wire;
    struct cp_message message;
    struct caller caller;
    struct cp_decision decision;
    struct fill_keys keys = {.has_private = false};
    struct store_entry entry;
    struct cp_age age;
    struct exchange_plan plan = {
        .wire = &wire,
        .outcome = CP_OUTCOME_BYPASS,
        .reason = CP_REASON_METHOD,
        .now_ms = store_now_ms(flow->shared->trust.store),
    };
    bool is_found;

    wire_request_read(req, &wire);
    plan.is_mcp_path = is_mcp_path(flow, wire.path);
    if (!plan.is_mcp_path || !span_eq(wire.method, SPAN("POST"))) {
        pass(flow, req, &plan);
        return;
    }

    cp_message_parse(&message, &flow->request_doc, (struct span){req->entity.base, req->entity.len});
    if (is_foreign(flow, &wire)) {
        refuse_origin(req, &wire, &message);
        return;
    }
    caller_read(&flow->trust, req, &wire, &message, plan.now_ms, &caller);
    plan.message = &message;
    plan.caller = &caller;
    plan.id = &caller.id;

    cp_decide(flow->shared->trust.policy, &message, &caller.facts, &decision);
    plan.reason = decision.reason;
    if (decision.action == CP_ACTION_WRITE)
        plan.outcome = CP_OUTCOME_WRITE;
    if (decision.action == CP_ACTION_LOOKUP)
        plan.reason = make_keys(flow, req, &wire, &message, &caller, &decision, &keys);
    if (decision.action != CP_ACTION_LOOKUP || plan.reason != CP_REASON_NONE) {
        /* the client asks past the cache for what may lie in it: a refusal of that counts, too */
        if (plan.reason == CP_REASON_CLIENT_CONTROL && caller.agrees &&
            make_keys(flow, req, &wire, &message, &caller, &decision, &keys) == CP_REASON_NONE) {
            plan.decision = &decision;
            plan.keys = &keys;
        }
        forward(flow, req, &plan);
        return;
    }

    is_found = find(flow, req, &decision, &keys, &caller.id, plan.now_ms, &entry, &age);
    if (is_found) {
        switch (admission_of(&flow->trust, &caller.id, keys.grant, &entry, telling == PROBED_WELL, plan.now_ms)) {
        case ADMISSION_PROVEN:
            if (caller.agrees)
                answer_hit(flow, req, &wire, &message, &caller, &decision, &entry, &age, plan.now_ms);
            else if (message.era == CP_ERA_MODERN && caller.disagreeing != NULL)
                refuse_disagreement(req, &wire, &message, caller.disagreeing);
            else
                break;
            return;
        case ADMISSION_LAPSED:
            if (telling == FIRST && caller.agrees && flow->shared->trust.policy->probe &&
                probe_join(flow, req, &wire, &message, &caller, plan.now_ms))
                return;
            plan.reason = CP_REASON_UNPROVEN;
            break;
        case ADMISSION_UNPROVEN:
            plan.reason = CP_REASON_UNPROVEN;
            break;
        case ADMISSION_EXPIRED:
            plan.reason = CP_REASON_EXPIRED;
            break;
        }
    }
    if (!caller.agrees) {
        /* the upstream refuses it, and nothing is learned from what it says */
        plan.reason = CP_REASON_HEADER;
        forward(flow, req, &plan);
        return;
    }
    plan.outcome = CP_OUTCOME_MISS;
    plan.decision = &decision;
    plan.keys = &keys;
    plan.owner = caller_owner(&flow->trust, req, &caller.id);
    forward(flow, req, &plan);
}

void request_handle(struct flow *flow, h2o_req_t *req)
{
    tell(flow, req, FIRST);
}

void request_resume(struct flow *flow, h2o_req_t *req, bool is_accepted)
{
    tell(flow, req, is_accepted ? PROBED_WELL : PROBED_BADLY);
}
