/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges. Not here: whether to look up at all and the lookup (request.c), HTTP towards the client (wire/downstream.c) and the upstream (upstream/upstream.c).
 *
 *      begin -> on_head -> on_body* -> on_end -> finish
 *                                   \-> client gone: detached (legacy) or cancelled
 *
 * Always: an exchange ends in finish exactly once; `client` is NULL as soon as the client has its answer or is gone, `call` as soon as the upstream's part is over;
 * only a reply that came whole is judged, and only under the policy and the keys with which its request was asked. Thread: the flow's loop. */
#include "sidecar/flow/exchange.h"

#include "sidecar/base/log.h"
#include "sidecar/wire/downstream.h"
#include "sidecar/wire/events.h"
#include "sidecar/wire/reply.h"

#include <stdlib.h>

/* Above this much unsent the upstream is asked to wait. */
#define BACKLOG_MAX (256 * 1024)
/* What an envelope may add around a result of the largest size. */
#define ENVELOPE_BYTES 4096

enum tap {
    TAP_NONE,
    TAP_JSON,   /* the whole body is collected */
    TAP_EVENTS, /* read along */
};

struct exchange {
    h2o_linklist_t link;
    struct flow *flow;
    struct downstream *client;
    struct upstream_call *call;
    struct cp_policy *policy;
    char *body;            /* the request's, owned; what message and key spans would borrow from */
    size_t body_bytes;
    struct span id;        /* in body */
    char path[128];        /* for the log */
    char http_method[16];
    int64_t began_ms;

    /* what the request is */
    bool is_rpc, is_request, is_legacy_post, is_mcp_path, is_initialize, is_head;
    enum cp_outcome outcome;
    enum cp_reason reason;

    /* a fill */
    struct cp_decision decision;
    struct cp_caller facts;
    struct cp_principal principal; /* initialize */
    struct cp_key private_key, public_key;
    bool has_private_key, has_public_key;

    /* the reply */
    enum tap tap;
    struct wire_reply_facts reply;
    struct buf collected;     /* TAP_JSON */
    struct events events;     /* TAP_EVENTS */
    char *session_id;         /* of an initialize reply, owned */
    size_t session_id_bytes;
    bool is_holding;          /* the head waits for the end of the body */
    bool has_head, is_judged, is_stored;
    int status;
    size_t content_bytes, relayed_bytes;
};

struct exchange *exchange_of_link(h2o_linklist_t *link)
{
    return H2O_STRUCT_FROM_MEMBER(struct exchange, link, link);
}

void exchange_log(const struct exchange_note *n)
{
    const struct cp_message *m = n->message;
    bool is_rpc = m != NULL && m->method_text.p != NULL;

    if (!log_wants(LOG_INFO))
        return;
    LOG(LOG_INFO, "request",
        is_rpc ? LOG_TEXT_FIELD("method", m->method_text.p, m->method_text.n) : LOG_TEXT_FIELD("http", n->http_method.p, n->http_method.n),
        is_rpc ? LOG_TEXT_FIELD(m->name.p != NULL ? "name" : NULL, m->name.p, m->name.n) : LOG_TEXT_FIELD("path", n->path.p, n->path.n),
        LOG_TEXT_FIELD("outcome", cp_outcome_word(n->outcome), strlen(cp_outcome_word(n->outcome))),
        LOG_TEXT_FIELD(n->reason != CP_REASON_NONE ? "reason" : NULL, cp_reason_word(n->reason), strlen(cp_reason_word(n->reason))),
        LOG_TEXT_FIELD(n->rule != NULL ? "rule" : NULL, n->rule, n->rule != NULL ? strlen(n->rule) : 0), LOG_INT_FIELD("status", n->status),
        LOG_INT_FIELD("ms", n->ms), LOG_INT_FIELD("bytes", (int64_t)n->bytes));
}

static void log_exchange(struct exchange *x)
{
    struct cp_message message = {.kind = CP_KIND_OPAQUE};

    if (!log_wants(LOG_INFO))
        return;
    if (x->is_rpc)
        cp_message_parse(&message, &x->flow->request_doc, (struct span){x->body, x->body_bytes});
    exchange_log(&(struct exchange_note){
        .message = x->is_rpc ? &message : NULL,
        .http_method = span_of(x->http_method),
        .path = span_of(x->path),
        .outcome = x->outcome,
        .reason = x->reason,
        .rule = x->decision.rule != NULL ? x->decision.rule->pattern : NULL,
        .status = x->status,
        .ms = store_now_ms(x->flow->shared->store) - x->began_ms,
        .bytes = x->relayed_bytes,
    });
}

/* Both sides are through. */
static void finish(struct exchange *x)
{
    log_exchange(x);
    h2o_linklist_unlink(&x->link);
    --x->flow->exchange_count;
    cp_policy_unref(x->policy);
    buf_done(&x->collected);
    events_done(&x->events);
    free(x->session_id);
    free(x->body);
    free(x);
}

/* ---- judging a reply -------------------------------------------------------------------------------------------------------- */

/* The session that an initialize opened, learned before its client can use it. */
static void learn_session(struct exchange *x, const struct cp_answer *answer, const struct cp_message *message)
{
    struct flow *flow = x->flow;
    struct session session = {.version = ""};
    uint8_t name[16];

    if (x->session_id == NULL || !answer->has_result || answer->version.n == 0 || answer->version.n >= sizeof(session.version))
        return;
    memcpy(session.version, answer->version.p, answer->version.n);
    cp_digest_of(flow->keyer, "client", message->client_info.p != NULL ? message->client_info : SPAN(""), session.client);
    caller_session_name(flow, &x->principal, (struct span){x->session_id, x->session_id_bytes}, name);
    sessions_learn(flow->shared->sessions, name, &session, store_now_ms(flow->shared->store));
}

static void store_answer(struct exchange *x, const struct cp_answer *answer, const struct cp_message *message, const struct cp_storing *storing)
{
    struct flow *flow = x->flow;
    struct buf *text = &flow->text;
    int64_t now_ms = store_now_ms(flow->shared->store);
    bool is_public = storing->scope == CP_SCOPE_PUBLIC;
    struct store_entry entry = {
        .stored_at_ms = now_ms,
        .has_hint = storing->has_hint,
        .hint_ttl_ms = storing->hint_ttl_ms,
        .scope = (uint8_t)storing->scope,
        .method = (uint8_t)message->method,
        .cost_ms = (uint32_t)(now_ms - x->began_ms),
        .name = message->name.p != NULL ? message->name : SPAN(""),
    };

    if (is_public ? !x->has_public_key : !x->has_private_key) {
        x->reason = CP_REASON_ANONYMOUS;
        return;
    }
    entry.expires_at_ms = now_ms + cp_lifetime_of(&x->decision, storing->has_hint, storing->hint_ttl_ms) +
                          (x->decision.lifetime.grace_ms > x->decision.lifetime.stale_if_error_ms ? x->decision.lifetime.grace_ms
                                                                                                   : x->decision.lifetime.stale_if_error_ms);
    text->n = 0;
    if (cp_answer_strip(answer, &flow->reply_doc, text, &entry.ttl_start, &entry.ttl_end) != 0)
        return;
    if (text->n > flow->shared->max_entry_bytes) {
        x->reason = CP_REASON_LARGE;
        return;
    }
    entry.body = buf_span(text);
    if (!store_put(flow->shared->store, is_public ? &x->public_key : &x->private_key, &entry)) {
        x->reason = CP_REASON_QUEUE;
        return;
    }
    /* the answer changed sides: what was public must not be served to others any more */
    if (!is_public && x->has_public_key)
        store_delete(flow->shared->store, &x->public_key);
    x->is_stored = true;
    x->reason = CP_REASON_NONE;
}

/* text is one whole message of the upstream's. Judges it when it is the final reply to this exchange's request. */
static void judge(struct exchange *x, struct span text)
{
    struct flow *flow = x->flow;
    struct cp_message message;
    struct cp_answer answer;
    struct cp_storing storing;

    cp_answer_parse(&answer, &flow->reply_doc, text);
    if (x->tap == TAP_EVENTS) {
        if (answer.is_readable && answer.has_method) {
            /* a request of the server's own: the result is this caller's alone */
            if (answer.id.p != NULL)
                x->reply.reply.server_asked = true;
            return;
        }
        if (x->is_judged || !answer.is_readable || !cp_answer_is_to(&answer, x->id))
            return;
    }
    x->is_judged = true;
    cp_message_parse(&message, &flow->request_doc, (struct span){x->body, x->body_bytes});
    x->reply.reply.id_matches = cp_answer_is_to(&answer, x->id);
    if (x->is_initialize) {
        if (x->reply.reply.id_matches)
            learn_session(x, &answer, &message);
        return;
    }
    cp_decide_store(&x->decision, &message, &x->facts, x->policy, &x->reply.reply, &answer, &storing);
    if (storing.store)
        store_answer(x, &answer, &message, &storing);
    else
        x->reason = storing.reason;
}

static void on_event(void *ctx, struct span data)
{
    struct exchange *x = ctx;

    /* priming events have no data */
    if (data.n != 0 && (x->outcome == CP_OUTCOME_MISS || x->is_initialize))
        judge(x, data);
}

/* ---- the upstream's side ------------------------------------------------------------------------------------------------------ */

static void choose_tap(struct exchange *x, const struct upstream_head *head)
{
    const struct cp_reply *reply = &x->reply.reply;
    size_t limit = x->flow->shared->max_entry_bytes + ENVELOPE_BYTES;
    bool wants = x->outcome == CP_OUTCOME_MISS || x->is_initialize;

    x->tap = TAP_NONE;
    if (!head->has_body)
        return;
    if (reply->is_events && !reply->is_encoded) {
        /* also when nothing will be stored: a legacy stream with event ids is left in another way */
        if (wants || x->is_legacy_post) {
            x->tap = TAP_EVENTS;
            x->events.data_max = limit;
        }
    } else if (wants && reply->status == 200 && reply->is_json && !reply->is_encoded &&
               (head->content_bytes == SIZE_MAX || head->content_bytes <= limit)) {
        x->tap = TAP_JSON;
        x->is_holding = true;
    }
    if (x->outcome != CP_OUTCOME_MISS)
        return;
    /* what is already certain, for the head that goes out now */
    if (reply->status != 200)
        x->reason = CP_REASON_STATUS;
    else if (reply->is_encoded)
        x->reason = CP_REASON_ENCODING;
    else if (!reply->is_json && !reply->is_events)
        x->reason = CP_REASON_TYPE;
    else if (x->tap == TAP_NONE)
        x->reason = CP_REASON_LARGE;
}

static void note_outcome(struct exchange *x, h2o_req_t *req)
{
    if (x->outcome == CP_OUTCOME_MISS)
        reply_note_miss(req, x->is_stored, x->reason);
    else if (x->is_rpc)
        reply_note_bypass(req, x->reason);
}

static void relay(struct exchange *x, struct span bytes)
{
    x->relayed_bytes += bytes.n;
    if (x->client != NULL && downstream_write(x->client, bytes) > BACKLOG_MAX && x->call != NULL)
        upstream_call_pause(x->call);
}

/* The held head and what was collected go out; the rest follows as it comes. */
static void release_hold(struct exchange *x, size_t content_bytes)
{
    x->is_holding = false;
    if (x->client == NULL)
        return;
    note_outcome(x, downstream_req(x->client));
    downstream_start(x->client, content_bytes);
    if (x->collected.n != 0)
        relay(x, buf_span(&x->collected));
}

static void on_head(void *data, const struct upstream_head *head)
{
    struct exchange *x = data;
    h2o_req_t *req;

    x->has_head = true;
    x->status = head->status;
    x->content_bytes = head->content_bytes;
    wire_reply_read(head->status, head->headers, head->header_count, x->policy->vary_headers, x->policy->vary_header_count, &x->reply);
    if (x->is_initialize && x->reply.session.n != 0) {
        x->session_id_bytes = x->reply.session.n;
        x->session_id = h2o_strdup(NULL, x->reply.session.p, x->reply.session.n).base;
    }
    choose_tap(x, head);
#ifdef MUTANT_BUFFERED_SSE
    if (x->reply.reply.is_events && head->has_body)
        x->is_holding = true;
#endif
    if (x->client == NULL)
        return;
    req = downstream_req(x->client);
    req->res.status = head->status;
    req->res.reason = h2o_strdup(&req->pool, head->reason.p, head->reason.n).base;
    wire_reply_copy(req, head->headers, head->header_count);
    downstream_set_date(x->client, x->reply.date);
    if (x->is_holding)
        return;
    note_outcome(x, req);
    if (!head->has_body) {
        struct downstream *client = x->client;

        x->client = NULL;
        downstream_start_bodyless(client, head->content_bytes);
        return;
    }
    downstream_start(x->client, head->content_bytes);
}

static void on_body(void *data, struct span bytes)
{
    struct exchange *x = data;

    if (x->tap == TAP_EVENTS) {
        /* read before it is relayed: what the client does next may depend on what was learned */
        if (events_feed(&x->events, bytes, on_event, x) != 0)
            x->tap = TAP_NONE;
    } else if (x->tap == TAP_JSON) {
        if (x->collected.n + bytes.n > x->flow->shared->max_entry_bytes + ENVELOPE_BYTES) {
            x->reason = CP_REASON_LARGE;
            if (x->is_holding)
                release_hold(x, x->content_bytes);
            x->tap = TAP_NONE;
            buf_done(&x->collected);
        } else if (buf_add_span(&x->collected, bytes) != 0) {
            h2o_fatal("no memory");
        }
    }
#ifdef MUTANT_BUFFERED_SSE
    if (x->is_holding && x->tap != TAP_JSON && buf_add_span(&x->collected, bytes) != 0)
        h2o_fatal("no memory");
#endif
    if (!x->is_holding)
        relay(x, bytes);
}

static void answer_error(struct exchange *x, enum upstream_end how)
{
    static const struct {
        int status;
        enum cp_reason reason;
        const char *text;
    } answers[] = {
        [UPSTREAM_CONNECT] = {502, CP_REASON_CONNECT, "the MCP server behind mcpcached could not be reached"},
        [UPSTREAM_TIMEOUT] = {504, CP_REASON_TIMEOUT, "the MCP server behind mcpcached did not answer in time"},
        [UPSTREAM_RESET] = {502, CP_REASON_RESET, "the MCP server behind mcpcached closed the connection without a usable answer"},
    };
    struct downstream *client = x->client;

    x->outcome = CP_OUTCOME_ERROR;
    x->reason = answers[how].reason;
    x->status = answers[how].status;
    x->client = NULL;
    if (client != NULL)
        reply_error_send(downstream_take(client), answers[how].status, x->is_mcp_path, x->is_request ? x->id : SPAN_ABSENT,
                         answers[how].text);
}

static void on_end(void *data, enum upstream_end how)
{
    struct exchange *x = data;
    struct downstream *client;

    x->call = NULL;
    if (!x->has_head) {
        answer_error(x, how);
        finish(x);
        return;
    }
    if (how == UPSTREAM_COMPLETE) {
        if (x->tap == TAP_JSON)
            judge(x, buf_span(&x->collected));
        else if (x->tap == TAP_EVENTS && x->outcome == CP_OUTCOME_MISS && !x->is_judged)
            x->reason = x->events.dropped ? CP_REASON_LARGE : CP_REASON_UNREADABLE;
        if (x->is_holding)
            release_hold(x, x->collected.n);
        client = x->client;
        x->client = NULL;
        if (client != NULL)
            downstream_end(client);
    } else {
        if (x->outcome == CP_OUTCOME_MISS && !x->is_judged)
            x->reason = CP_REASON_TRUNCATED;
        if (x->is_holding)
            release_hold(x, x->content_bytes);
        client = x->client;
        x->client = NULL;
        if (client != NULL)
            downstream_abort(client);
    }
    finish(x);
}

static const struct upstream_callbacks callbacks = {on_head, on_body, on_end};

/* ---- the client's side -------------------------------------------------------------------------------------------------------- */

static void on_client_gone(void *owner)
{
    struct exchange *x = owner;
    struct upstream_call *call = x->call;

    x->client = NULL;
    if (call == NULL)
        return;
#ifdef MUTANT_NO_CANCEL
    return;
#endif
    if (x->is_legacy_post && !x->events.has_ids) {
        upstream_call_resume(call);
        upstream_call_hurry(call);
        return;
    }
    x->call = NULL;
    if (x->outcome == CP_OUTCOME_MISS && !x->is_stored)
        x->reason = CP_REASON_ABANDONED;
    upstream_call_cancel(call);
    finish(x);
}

static void on_client_drained(void *owner)
{
    struct exchange *x = owner;

    if (x->call != NULL)
        upstream_call_resume(x->call);
}

void exchange_kill(struct exchange *x)
{
    struct downstream *client = x->client;

    x->client = NULL;
    if (x->call != NULL)
        upstream_call_cancel(x->call);
    x->call = NULL;
    if (client != NULL)
        downstream_abort(client);
    finish(x);
}

static void copy_text(char *ret, size_t cap, struct span s)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;

    memcpy(ret, s.p, n);
    ret[n] = '\0';
}

void exchange_begin(struct flow *flow, h2o_req_t *req, const struct exchange_plan *plan)
{
    const struct cp_message *m = plan->message;
    struct exchange *x = h2o_mem_alloc(sizeof(*x));
    struct upstream_request request = {0};
    bool is_post = span_eq(plan->wire->method, SPAN("POST"));
    struct upstream_call *call;

    memset(x, 0, sizeof(*x));
    x->flow = flow;
    x->policy = cp_policy_ref(flow->shared->policy);
    x->began_ms = plan->now_ms;
    x->outcome = plan->outcome;
    x->reason = plan->reason;
    x->is_mcp_path = plan->is_mcp_path;
    x->is_head = span_eq(plan->wire->method, SPAN("HEAD"));
    copy_text(x->path, sizeof(x->path), plan->wire->path);
    copy_text(x->http_method, sizeof(x->http_method), plan->wire->method);
    if (req->entity.len != 0) {
        /* the entity lies in the connection's buffer */
        x->body = h2o_strdup(NULL, req->entity.base, req->entity.len).base;
        x->body_bytes = req->entity.len;
    }
    if (m != NULL) {
        x->is_rpc = true;
        x->is_request = m->kind == CP_KIND_REQUEST;
        x->is_legacy_post = is_post && (m->kind == CP_KIND_BATCH || (m->kind != CP_KIND_OPAQUE && m->era == CP_ERA_LEGACY));
        x->is_initialize = x->is_request && m->era == CP_ERA_LEGACY && m->method == CP_METHOD_INITIALIZE;
        if (x->is_request)
            x->id = (struct span){x->body + (m->id.p - req->entity.base), m->id.n};
        x->facts = plan->caller->facts;
        x->facts.version = SPAN_ABSENT; /* borrowed from the request; the version already did its work */
        x->principal = plan->caller->principal;
    }
    if (plan->decision != NULL) {
        x->decision = *plan->decision;
        if ((x->has_private_key = plan->private_key != NULL))
            x->private_key = *plan->private_key;
        if ((x->has_public_key = plan->public_key != NULL))
            x->public_key = *plan->public_key;
    }
    h2o_linklist_insert(&flow->exchanges, &x->link);
    ++flow->exchange_count;

    request.head = wire_request_head(req, flow->shared->host.p != NULL ? flow->shared->host : plan->wire->authority,
                                     plan->outcome == CP_OUTCOME_MISS, &request.head_bytes);
    if (request.head == NULL)
        h2o_fatal("no memory");
    request.body = (struct span){x->body, x->body_bytes};
    request.is_head = x->is_head;
    request.is_patient = span_eq(plan->wire->method, SPAN("GET"));
    /* a read is what changes nothing: safe methods of HTTP, and calls that the policy calls cacheable */
    request.may_repeat = plan->outcome == CP_OUTCOME_MISS || x->is_head || request.is_patient ||
                         span_eq(plan->wire->method, SPAN("OPTIONS"));

    x->client = downstream_new(req, x, on_client_gone, on_client_drained);
    downstream_watch(x->client);
    call = upstream_call_start(flow->upstream, &request, &callbacks, x);
    if (call != NULL)
        x->call = call;
}
