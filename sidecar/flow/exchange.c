/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges. Not here: whether to look up at all and the lookup (request.c), what is made of a reply (fill.c), HTTP towards the client (wire/downstream.c) and the
 * upstream (upstream/upstream.c).
 *
 *      begin -> on_head -> on_body* -> on_end -> finish
 *                                   \-> client gone: detached (legacy) or cancelled
 *
 * Always: an exchange ends in finish exactly once; `client` is NULL as soon as the client has its answer or is gone, `call` as soon as the upstream's part is over. Thread: the flow's loop. */
#include "sidecar/flow/exchange.h"

#include "sidecar/base/log.h"
#include "sidecar/counts.h"
#include "sidecar/flow/announce.h"
#include "sidecar/flow/notices.h"
#include "sidecar/flow/offer.h"
#include "sidecar/flow/request.h"
#include "sidecar/flow/subscribe.h"
#include "sidecar/wire/downstream.h"
#include "sidecar/wire/events.h"
#include "sidecar/wire/frames.h"
#include "sidecar/wire/reply.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Above this much unsent the upstream is asked to wait. */
#define BACKLOG_MAX (256 * 1024)
/* What an envelope may add around a result of the largest size. */
#define ENVELOPE_BYTES 4096
/* What is read along for what it tells, whether it can be kept or not: lists of tools, replies to batches, events. */
#define TOLD_BYTES (2 * 1024 * 1024)

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
    char *body; /* the request's, owned */
    size_t body_bytes;
    struct span id; /* in body */
    int64_t began_ms;
    uint64_t generation; /* noted before anything was sent */
    struct fill fill;
    struct flight *flight; /* that waits for this; NULL: none, or it has landed */
    struct stamps stamps;  /* what it makes old */
    struct breaker_pass pass;
    bool has_pass;
    int64_t stale_if_error_ms;
    struct identity identity; /* whoever asked */
    bool has_identity, proves, ends_session, has_origin, is_hidden;
    void (*on_done)(void *ctx, bool is_accepted); /* of a request of our own */
    void *ctx;

    /* for the log */
    char http_method[16], path[128], method[64], name[160];
    size_t method_bytes, name_bytes;

    /* what the request is */
    bool is_rpc, is_request, is_batch, is_legacy_post, is_mcp_path, is_head, is_stream, is_own;
    bool is_detached; /* its client left, and it runs on */
    bool has_left;    /* the client, before its answer ended */
    bool is_told;     /* its client was answered otherwise, and the log knows */
    enum cp_outcome outcome;
    enum cp_reason reason; /* why it was not kept, in the end */
    enum cp_reason bypass_reason;
    enum cp_reason find_reason; /* why an entry that was found was not the answer; NONE: none was found */

    /* the reply */
    enum tap tap;
    bool completes;       /* what it says that the server can tell of */
    struct frames frames; /* with completes, of an event stream */
    struct buf completed;
    bool is_subscribed;   /* what it accepted is noted */
    size_t tap_max;       /* of the body, or of one event */
    struct buf collected; /* TAP_JSON */
    struct events events; /* TAP_EVENTS */
    bool is_holding;      /* the head waits for the end of the body */
    bool has_head;
    int status;
    size_t content_bytes, relayed_bytes;
};

static int64_t now_of(const struct exchange *x)
{
    return store_now_ms(x->flow->shared->trust.store);
}

/* It fetches what was looked up and missed. */
static bool is_miss(const struct exchange *x)
{
    return x->fill.kind == FILL_STORE && x->outcome != CP_OUTCOME_BYPASS;
}

struct exchange *exchange_of_link(h2o_linklist_t *link)
{
    return H2O_STRUCT_FROM_MEMBER(struct exchange, link, link);
}

void exchange_log(const struct exchange_note *n)
{
    bool is_rpc = n->method.p != NULL;

    counts_request(n->outcome, n->reason);
    if (!log_wants(LOG_INFO))
        return;
    LOG(LOG_INFO, "request",
        is_rpc ? LOG_TEXT_FIELD("method", n->method.p, n->method.n) : LOG_TEXT_FIELD("http", n->http_method.p, n->http_method.n),
        is_rpc ? LOG_TEXT_FIELD(n->name.p != NULL ? "name" : NULL, n->name.p, n->name.n)
               : LOG_TEXT_FIELD("path", n->path.p, n->path.n),
        LOG_TEXT_FIELD("outcome", cp_outcome_word(n->outcome), strlen(cp_outcome_word(n->outcome))),
        LOG_TEXT_FIELD(n->reason != CP_REASON_NONE ? "reason" : NULL, cp_reason_word(n->reason), strlen(cp_reason_word(n->reason))),
        LOG_TEXT_FIELD(n->rule != NULL ? "rule" : NULL, n->rule, n->rule != NULL ? strlen(n->rule) : 0),
        LOG_INT_FIELD("status", n->status), LOG_INT_FIELD("ms", n->ms), LOG_INT_FIELD("bytes", (int64_t)n->bytes));
}

/* The first that applies. */
static enum cp_reason reason_of(const struct exchange *x)
{
    if (x->outcome == CP_OUTCOME_BYPASS || x->outcome == CP_OUTCOME_WRITE)
        return x->bypass_reason;
    return x->find_reason != CP_REASON_NONE ? x->find_reason : x->reason;
}

static void log_exchange(struct exchange *x)
{
    const struct cp_rule *rule = x->fill.decision.rule;

    exchange_log(&(struct exchange_note){
        .method = x->method_bytes != 0 ? (struct span){x->method, x->method_bytes} : SPAN_ABSENT,
        .name = x->name_bytes != 0 ? (struct span){x->name, x->name_bytes} : SPAN_ABSENT,
        .http_method = span_of(x->http_method),
        .path = span_of(x->path),
        .outcome = x->outcome,
        .reason = reason_of(x),
        .rule = rule != NULL ? rule->pattern : NULL,
        .status = x->status,
        .ms = now_of(x) - x->began_ms,
        .bytes = x->relayed_bytes,
    });
}

/* Who waits for this hears what came of it. Taken: outcome. */
static void land(struct exchange *x, struct flight_outcome *outcome)
{
    struct flight *flight = x->flight;
    struct fill *fill = &x->fill;

    x->flight = NULL;
    if (fill->has_flight && outcome->reason != CP_REASON_ABANDONED) {
        if (outcome->how == FLIGHT_APART) {
            counts_add(COUNT_HIT_FOR_MISS);
            flight_mark_until(x->flow, &fill->flight_name, now_of(x) + FLIGHT_HIT_FOR_MISS_MS);
        } else if (fill->is_stored) {
            flight_unmark(x->flow, &fill->flight_name, now_of(x));
        }
        fill->has_flight = false;
    }
    if (flight != NULL && flight_close(flight))
        flight_land(flight, outcome);
    else
        flight_outcome_unref(outcome);
}

/* A write that the upstream refuses to this caller as such has changed nothing; of any other nobody knows. */
static bool raise_stamps(struct exchange *x)
{
    /* nor has who is known to nobody, and did not wait to be: anybody could purge by calling and leaving */
    bool counts = x->has_head ? x->status != 401 && x->status != 403 : x->stamps.is_known || !x->has_left;

    if (counts)
        stamps_raise(x->flow, &x->stamps);
    return counts;
}

/* What the head or the end showed of the upstream. */
static void settle_breaker(struct exchange *x, enum upstream_end how)
{
    enum breaker_result upstream, call;

    if (!x->has_pass)
        return;
    x->has_pass = false;
    upstream_results(how, x->has_head ? x->status : 0, &upstream, &call);
    breaker_settle(x->flow->shared->breaker, &x->pass, upstream, call, now_of(x));
}

/* Both sides are through. */
static void finish(struct exchange *x)
{
    /* however it ended: what it was to change may have changed */
    if (raise_stamps(x))
        stamps_announce(x->flow, &x->stamps);
    stamps_end(x->flow, &x->stamps);
    land(x, fill_outcome_of(&x->fill, CP_REASON_ABANDONED, 0, NULL, 0));
    if (x->has_pass)
        breaker_settle(x->flow->shared->breaker, &x->pass, BREAKER_UNKNOWN, BREAKER_UNKNOWN, now_of(x));
    h2o_linklist_unlink(&x->link);
    if (!x->is_own)
        --x->flow->exchange_count;
    if (x->is_detached)
        --x->flow->detached_count;
    if (x->is_stream)
        atomic_fetch_sub_explicit(x->flow->shared->open_streams, 1, memory_order_relaxed);
    if (x->is_own)
        x->on_done(x->ctx, x->fill.is_accepted);
    else if (!x->is_told)
        log_exchange(x);
    cp_policy_unref(x->policy);
    buf_done(&x->collected);
    events_done(&x->events);
    fill_done(&x->fill);
    frames_done(&x->frames);
    buf_done(&x->completed);
    free(x->body);
    free(x);
}

/* Under which name the client that this is relayed to may be subscribed. */
static const uint8_t *subscriber_of(const struct exchange *x, uint8_t name[16])
{
    if (x->client == NULL || !x->has_identity || !x->identity.has_session || x->flow->shared->subscribers == NULL)
        return NULL;
    identity_session_name(&x->identity, name);
    return name;
}

static void on_event(void *ctx, struct span data)
{
    struct exchange *x = ctx;
    uint8_t name[16];

    notices_hear(x->flow, data, subscriber_of(x, name));
    fill_event(&x->fill, data, x->events.dropped);
}

/* Nobody waits for it any more. */
static void abandon(struct exchange *x)
{
    struct upstream_call *call = x->call;

    if (x->is_legacy_post && !x->events.has_ids && x->flow->detached_count < x->flow->detached_max) {
        x->is_detached = true;
        ++x->flow->detached_count;
        upstream_call_resume(call);
        upstream_call_hurry(call);
        return;
    }
    x->call = NULL;
    if (x->fill.kind == FILL_STORE && !x->fill.is_stored)
        x->reason = CP_REASON_ABANDONED;
    upstream_call_cancel(call);
    finish(x);
}

/* ---- the upstream's side ------------------------------------------------------------------------------------------------------ */

/* How much of the reply is read. */
static size_t tap_max_of(const struct exchange *x, bool is_events)
{
    bool is_list_of_tools =
        x->is_request && span_eq((struct span){x->method, x->method_bytes}, span_of(cp_method_text(CP_METHOD_TOOLS_LIST)));
    size_t limit = x->flow->shared->max_entry_bytes;

    if ((is_list_of_tools || x->is_batch || (is_events && x->flight == NULL)) && limit < TOLD_BYTES)
        limit = TOLD_BYTES;
    return limit + ENVELOPE_BYTES;
}

static void choose_tap(struct exchange *x, const struct upstream_head *head)
{
    const struct cp_reply *reply = &x->fill.reply;
    size_t limit = x->tap_max = tap_max_of(x, reply->is_events);
    /* a lookup and a session's beginning say in their head what became of them */
    bool may_hold = x->fill.kind != FILL_WATCH || x->completes;
    bool wants = (x->fill.kind != FILL_NOTHING || x->is_batch || x->completes) && reply->status == 200 && !reply->is_encoded;

    x->tap = TAP_NONE;
    if (head->has_body && reply->is_events && !reply->is_encoded) {
        /* also when nothing will be stored, and on other paths: any stream may tell of changes, and a legacy one with event ids is left in another way */
        x->tap = TAP_EVENTS;
        x->events.data_max = limit;
    } else if (head->has_body && wants && reply->is_json && (head->content_bytes == SIZE_MAX || head->content_bytes <= limit)) {
        x->tap = TAP_JSON;
        x->is_holding = may_hold;
    }
}

/* What the head alone makes certain about a lookup's reply. */
static enum cp_reason why_not_kept(const struct exchange *x)
{
    const struct cp_reply *reply = &x->fill.reply;

    if (reply->status != 200)
        return CP_REASON_STATUS;
    if (reply->is_encoded)
        return CP_REASON_ENCODING;
    if (!reply->is_json && !reply->is_events)
        return CP_REASON_TYPE;
    return x->tap == TAP_NONE ? CP_REASON_LARGE : CP_REASON_NONE;
}

static void note_outcome(struct exchange *x, h2o_req_t *req)
{
    if (is_miss(x))
        /* what was found tells a stranger nothing: only who was let in after all hears that it was there */
        reply_note_miss(req, x->fill.is_stored, x->fill.is_stored ? x->find_reason : x->reason);
    else if (x->is_rpc)
        reply_note_bypass(req, x->fill.is_stored, x->bypass_reason);
}

/* Who waits with a client does not wait for how fast it reads: one that takes less than an answer of the largest size is left behind. */
static void leave_behind(struct exchange *x)
{
    struct flight_outcome *outcome = flight_outcome_new(FLIGHT_APART);

    /* that he is slow says nothing of the answer */
    outcome->reason = CP_REASON_ABANDONED;
    land(x, outcome);
}

static void relay(struct exchange *x, struct span bytes)
{
    size_t backlog_max = x->flight != NULL ? x->flow->shared->max_entry_bytes + ENVELOPE_BYTES : BACKLOG_MAX;

    x->relayed_bytes += bytes.n;
    if (x->client == NULL || bytes.n == 0 || downstream_write(x->client, bytes) <= backlog_max || x->call == NULL)
        return;
    if (x->flight != NULL)
        leave_behind(x);
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

/* Before the client can see the reply. A probe proves by its body. */
static void learn(struct exchange *x, const struct wire_reply_facts *facts)
{
    if (x->has_identity)
        admission_learn(&x->flow->trust, &x->identity,
                        &(struct admission_facts){
                            .status = x->status,
                            .challenges = facts->challenges,
                            .has_origin = x->has_origin,
                            .is_hidden = x->is_hidden,
                            .is_probe = x->fill.kind == FILL_PROBE,
                            /* a page may answer anybody: a login, for one */
                            .proves = x->proves && (facts->reply.is_events || facts->reply.is_json || !x->is_request),
                            .ends_session = x->ends_session,
                            .began_ms = x->began_ms,
                        },
                        now_of(x));
    if (x->has_identity)
        announce_ends(x->flow, &x->identity, x->status, x->ends_session);
}

/* Tags from the reply's head, and, of a write, what it makes old (RFC 9875). */
static void read_groups(struct exchange *x, const struct upstream_head *head)
{
    for (size_t i = 0; i != head->header_count; ++i) {
        struct span name = {head->headers[i].name->base, head->headers[i].name->len};
        struct span value = {head->headers[i].value.base, head->headers[i].value.len};

        if (span_ieq(name, SPAN("cache-groups")))
            fill_groups(&x->fill, value);
        else if (x->stamps.count != 0 && span_ieq(name, SPAN("cache-group-invalidation")))
            stamps_add_groups(x->flow, value, &x->stamps);
    }
}

int exchange_retry_after(const struct upstream_head *head)
{
    for (size_t i = 0; i != head->header_count; ++i) {
        const h2o_header_t *h = &head->headers[i];
        int seconds = 0;

        if (!span_ieq((struct span){h->name->base, h->name->len}, SPAN("retry-after")) || h->value.len == 0 || h->value.len > 5)
            continue;
        for (size_t k = 0; k != h->value.len; ++k) {
            if (h->value.base[k] < '0' || h->value.base[k] > '9')
                return 0;
            seconds = seconds * 10 + (h->value.base[k] - '0');
        }
        return seconds;
    }
    return 0;
}

/* The head alone says that others get nothing of it. */
static bool is_apart(const struct exchange *x)
{
    const struct cp_reply *reply = &x->fill.reply;

    return x->reason != CP_REASON_NONE || reply->sets_cookie || reply->no_store || reply->vary_unkeyed;
}

/* Lands before the reply is over: what others get of it is known. True: its client is gone, too, and so is the exchange, or it runs on detached. Taken: outcome. */
static bool land_early(struct exchange *x, struct flight_outcome *outcome)
{
    settle_breaker(x, UPSTREAM_COMPLETE);
    land(x, outcome);
    if (x->client != NULL || x->is_own || x->is_detached || x->call == NULL)
        return false;
    abandon(x);
    return true;
}

#define ANSWERED_ERROR "the MCP server behind mcpcached answered with an error"

/* What is said of a fetch that brought nothing, or nothing whole. */
struct failure {
    int status;
    enum cp_reason reason;
    const char *text;
};

static struct failure failure_of(enum upstream_end how);

const char *exchange_failure_text(enum upstream_end how)
{
    return failure_of(how).text;
}

static struct failure failure_of(enum upstream_end how)
{
    switch (how) {
    case UPSTREAM_CONNECT:
        return (struct failure){502, CP_REASON_CONNECT, "the MCP server behind mcpcached could not be reached"};
    case UPSTREAM_TIMEOUT:
        return (struct failure){504, CP_REASON_TIMEOUT, "the MCP server behind mcpcached did not answer in time"};
    case UPSTREAM_RESET:
        return (struct failure){502, CP_REASON_RESET,
                                "the MCP server behind mcpcached closed the connection without a usable answer"};
    case UPSTREAM_COMPLETE:
    case UPSTREAM_SURPLUS:
    case UPSTREAM_TRUNCATED:
        break;
    }
    return (struct failure){502, CP_REASON_TRUNCATED, "the MCP server behind mcpcached broke off its answer"};
}

/* The request, without the head of an answer that was held back and is none. */
static h2o_req_t *take_bare(struct downstream *client)
{
    h2o_req_t *req = downstream_take(client);

    req->res.headers = (h2o_headers_t){NULL, 0, 0};
    return req;
}

/* The client is told of the failure, or, better, not. Its exchange goes on without it. */
static void hand_over(struct exchange *x, const struct failure *failure)
{
    struct flight_outcome outcome = {
        .refs = 1, .how = FLIGHT_FAILURE, .reason = failure->reason, .status = failure->status, .text = failure->text};
    h2o_req_t *req = take_bare(x->client);

    x->client = NULL;
    x->is_told = true;
    request_resume(x->flow, req, &(struct telling){.how = TELLING_LANDED, .began_ms = x->began_ms, .outcome = &outcome});
}

/* The fetch failed with this status; whether an older answer takes its place. The exchange is over then. */
static bool stand_in(struct exchange *x, int status)
{
    struct failure failure = {status, CP_REASON_STATUS, ANSWERED_ERROR};
    struct upstream_call *call = x->call;

    if (x->fill.kind != FILL_STORE || x->stale_if_error_ms == 0 || x->client == NULL ||
        !request_can_stand_in(x->flow, downstream_req(x->client)))
        return false;
    x->call = NULL;
    settle_breaker(x, UPSTREAM_COMPLETE);
    if (call != NULL)
        upstream_call_cancel(call);
    land(x, fill_outcome_of(&x->fill, CP_REASON_STATUS, status, failure.text, 0));
    hand_over(x, &failure);
    finish(x);
    return true;
}

static void on_head(void *data, const struct upstream_head *head)
{
    struct exchange *x = data;
    struct wire_reply_facts facts;
    h2o_req_t *req;

    x->has_head = true;
    x->status = head->status;
    x->content_bytes = head->content_bytes;
    wire_reply_read(head->status, head->headers, head->header_count, x->policy->vary_headers, x->policy->vary_header_count, &facts);
    learn(x, &facts);
    fill_head(&x->fill, &facts);
    read_groups(x, head);
    raise_stamps(x);
    choose_tap(x, head);
    if (x->fill.kind == FILL_STORE)
        x->reason = why_not_kept(x);
    if (head->status >= 500 && stand_in(x, head->status))
        return;
    if (x->flight != NULL && is_apart(x) &&
        land_early(x, fill_outcome_of(&x->fill, x->reason != CP_REASON_NONE ? x->reason : CP_REASON_EXCHANGE, head->status,
                                      ANSWERED_ERROR, exchange_retry_after(head))))
        return;
    if (MUTANT("buffered-sse") && x->fill.reply.is_events && head->has_body)
        x->is_holding = true;
    if (x->client == NULL)
        return;
    req = downstream_req(x->client);
    req->res.status = head->status;
    req->res.reason = h2o_strdup(&req->pool, head->reason.p, head->reason.n).base;
    wire_reply_copy(req, head->headers, head->header_count);
    downstream_set_date(x->client, facts.date);
    if (x->is_holding)
        return;
    note_outcome(x, req);
    if (!head->has_body) {
        struct downstream *client = x->client;

        x->client = NULL;
        downstream_start_bodyless(client, head->content_bytes);
        return;
    }
    /* what is completed gets longer */
    downstream_start(x->client, x->completes && x->tap == TAP_EVENTS ? SIZE_MAX : head->content_bytes);
}

/* The server's word on what it can tell of, with what is told here. */
static void complete_text(struct exchange *x, struct span text, struct buf *out)
{
    uint8_t offers = 0;

    if (!offer_complete(x->flow, x->is_legacy_post ? CP_ERA_LEGACY : CP_ERA_MODERN, text, x->id, x->fill.session_id != NULL, out,
                        &offers))
        return;
    x->fill.offers = offers;
}

static void on_frame(void *ctx, const struct frame *frame)
{
    struct exchange *x = ctx;
    struct buf text = {0};

    if (!frame->is_piece && frame->has_data && frame->is_message && frame->data.n != 0)
        complete_text(x, frame->data, &text);
    if ((text.n != 0 ? frame_with_data(frame, buf_span(&text), &x->completed) : buf_add_span(&x->completed, frame->raw)) != 0)
        h2o_fatal("no memory");
    buf_done(&text);
}

/* The events that became whole, completed: as if the upstream had sent them so. Until the next call. */
static struct span complete_events(struct exchange *x, struct span bytes)
{
    x->completed.n = 0;
    if (frames_feed(&x->frames, bytes, on_frame, x) != 0)
        h2o_fatal("no memory");
    return x->completed.n != 0 ? buf_span(&x->completed) : SPAN("");
}

/* Accepted by the upstream: noted before the client hears of it. */
static void settle_subscription(struct exchange *x)
{
    struct cp_message message;

    if (x->fill.kind != FILL_SUBSCRIBE || !x->fill.is_accepted || x->is_subscribed || x->client == NULL)
        return;
    x->is_subscribed = true;
    cp_message_parse(&message, &x->flow->request_doc, (struct span){x->body, x->body_bytes});
    if (message.name.p != NULL)
        subscribe_noted(x->flow, downstream_req(x->client), &x->identity, message.name, now_of(x));
}

static void on_body(void *data, struct span bytes)
{
    struct exchange *x = data;

    raise_stamps(x);
    if (x->tap == TAP_EVENTS) {
        if (x->completes)
            bytes = complete_events(x, bytes);
        /* read before it is relayed: what the client does next may depend on what was learned */
        if (events_feed(&x->events, bytes, on_event, x) != 0)
            x->tap = TAP_NONE;
        settle_subscription(x);
        if (x->flight != NULL && (x->fill.is_judged || x->fill.is_doubtful || x->fill.reply.server_asked || x->events.dropped) &&
            land_early(x, fill_outcome_of(&x->fill, x->events.dropped ? CP_REASON_LARGE : CP_REASON_EXCHANGE, 200, NULL, 0)))
            return;
        if (x->is_own && (x->fill.is_judged || x->fill.reply.server_asked)) {
            /* nobody waits for the end of the stream, which may never come, or answers what the server asks in it */
            settle_breaker(x, UPSTREAM_COMPLETE);
            upstream_call_cancel(x->call);
            x->call = NULL;
            finish(x);
            return;
        }
    } else if (x->tap == TAP_JSON) {
        if (x->collected.n + bytes.n > x->tap_max) {
            if (x->fill.kind == FILL_STORE)
                x->reason = CP_REASON_LARGE;
            if (x->flight != NULL && land_early(x, fill_outcome_of(&x->fill, CP_REASON_LARGE, 200, NULL, 0)))
                return;
            if (x->is_holding)
                release_hold(x, x->content_bytes);
            x->tap = TAP_NONE;
            buf_done(&x->collected);
        } else if (buf_add_span(&x->collected, bytes) != 0) {
            h2o_fatal("no memory");
        }
    }
    if (MUTANT("buffered-sse") && x->is_holding && x->tap != TAP_JSON && buf_add_span(&x->collected, bytes) != 0)
        h2o_fatal("no memory");
    if (!x->is_holding)
        relay(x, bytes);
}

static void answer_error(struct exchange *x, enum upstream_end how)
{
    struct failure failure = failure_of(how);
    bool was_looked_up = is_miss(x);

    x->reason = failure.reason;
    x->status = failure.status;
    land(x, fill_outcome_of(&x->fill, failure.reason, failure.status, failure.text, 0));
    if (x->client != NULL && was_looked_up) {
        hand_over(x, &failure);
    } else if (x->client != NULL) {
        h2o_req_t *req = downstream_take(x->client);

        x->client = NULL;
        note_outcome(x, req);
        reply_error_send(req, &(struct reply_error){
                                  .status = failure.status,
                                  .is_rpc = x->is_mcp_path,
                                  .id = x->is_request ? x->id : SPAN_ABSENT,
                                  .text = failure.text,
                              });
    }
    x->outcome = CP_OUTCOME_ERROR;
}

/* The reply is over: what became of the fill, for the head and the log. */
static void settle_fill(struct exchange *x, bool is_whole)
{
    struct fill *fill = &x->fill;
    uint8_t name[16];

    if (is_whole && x->tap == TAP_JSON && x->is_batch)
        notices_hear(x->flow, buf_span(&x->collected), subscriber_of(x, name));
    if (is_whole && x->tap == TAP_JSON && x->completes && x->collected.n != 0) {
        struct buf text = {0};

        complete_text(x, buf_span(&x->collected), &text);
        if (text.n != 0) {
            buf_done(&x->collected);
            x->collected = text;
        }
    }
    if (is_whole && x->tap == TAP_JSON && fill->kind != FILL_NOTHING)
        fill_reply(fill, buf_span(&x->collected));
    if (is_whole && (x->tap == TAP_NONE || x->events.dropped))
        fill_unread(fill);
    settle_subscription(x);
    if (fill->kind != FILL_STORE)
        return;
    if (fill->is_judged)
        x->reason = fill->reason;
    else if (!is_whole)
        x->reason = CP_REASON_TRUNCATED;
    else if (x->tap == TAP_EVENTS)
        x->reason = x->events.dropped ? CP_REASON_LARGE : CP_REASON_UNREADABLE;
}

static void on_end(void *data, enum upstream_end how)
{
    struct exchange *x = data;
    bool is_whole = how == UPSTREAM_COMPLETE || how == UPSTREAM_SURPLUS;
    struct downstream *client;
    struct failure failure;

    x->call = NULL;
    settle_breaker(x, how);
    raise_stamps(x);
    if (!x->has_head) {
        answer_error(x, how);
        finish(x);
        return;
    }
    if (x->completes && x->tap == TAP_EVENTS)
        relay(x, frames_rest(&x->frames));
    settle_fill(x, is_whole);
    if (how == UPSTREAM_SURPLUS && x->fill.is_stored) {
        fill_withdraw(&x->fill);
        x->reason = x->fill.reason;
    }
    failure = failure_of(how);
    if (x->flight != NULL)
        land(x, how == UPSTREAM_SURPLUS ? flight_outcome_new(FLIGHT_APART)
                                        : fill_outcome_of(&x->fill, is_whole ? x->reason : failure.reason,
                                                          is_whole ? x->status : failure.status, failure.text, 0));
    if (!is_whole && x->is_holding && x->client != NULL && is_miss(x)) {
        /* nothing of it went out yet */
        hand_over(x, &failure);
        finish(x);
        return;
    }
    if (x->is_holding)
        release_hold(x, is_whole ? x->collected.n : x->content_bytes);
    client = x->client;
    x->client = NULL;
    if (client != NULL && is_whole)
        downstream_end(client);
    else if (client != NULL)
        downstream_abort(client);
    finish(x);
}

static const struct upstream_callbacks callbacks = {on_head, on_body, on_end};

/* ---- the client's side -------------------------------------------------------------------------------------------------------- */

/* Whether others wait for it. */
static bool is_awaited(struct exchange *x)
{
    if (x->flight == NULL)
        return false;
    if (flight_leave(x->flight)) {
        if (x->call != NULL)
            upstream_call_resume(x->call);
        return true;
    }
    x->flight = NULL;
    return false;
}

static void on_client_gone(void *owner)
{
    struct exchange *x = owner;

    x->client = NULL;
    x->has_left = true;
    if (x->call == NULL || MUTANT("no-cancel") || is_awaited(x))
        return;
    abandon(x);
}

void exchange_dismiss(struct exchange *x)
{
    struct downstream *client = x->client;

    if (client == NULL)
        return;
    x->client = NULL;
    if (x->has_head && !x->is_holding && x->content_bytes != SIZE_MAX)
        downstream_abort(client);
    else if (x->has_head && !x->is_holding)
        downstream_end(client);
    else
        reply_nothing_send(take_bare(client));
    if (x->call != NULL && !is_awaited(x))
        abandon(x);
}

void exchange_abandon(struct exchange *x)
{
    if (x->client != NULL || x->is_own || x->is_detached || x->call == NULL || is_awaited(x))
        return;
    abandon(x);
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

static size_t copy_text(char *ret, size_t cap, struct span s)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;

    h2o_memcpy(ret, s.p, n);
    ret[n] = '\0';
    return n;
}

/* Queries carry codes and keys. */
static struct span without_query(struct span path)
{
    const char *query = memchr(path.p, '?', path.n);

    return query != NULL ? (struct span){path.p, (size_t)(query - path.p)} : path;
}

/* What the cache wants of the reply. */
static void begin_fill(struct exchange *x, const struct exchange_plan *plan)
{
    struct fill *fill = &x->fill;

    fill->flow = x->flow;
    fill->id_of_caller = &x->identity;
    fill->began_ms = x->began_ms;
    fill->body = (struct span){x->body, x->body_bytes};
    fill->id = x->id;
    fill->generation = x->generation;
    if (plan->keys != NULL) {
        fill->kind = plan->decision->may_store ? FILL_STORE : FILL_WATCH;
        fill->decision = *plan->decision;
        fill->keys = *plan->keys;
        fill->asked_count = plan->keys->subject_count;
        fill->owner = plan->owner;
        fill->has_flight = plan->outcome == CP_OUTCOME_MISS;
        fill->flight_name = plan->flight_name;
        x->stale_if_error_ms = plan->outcome == CP_OUTCOME_MISS ? plan->decision->lifetime.stale_if_error_ms : 0;
    } else if (x->is_request && plan->message->method == CP_METHOD_TOOLS_LIST && plan->caller->facts.body_is_plain &&
               !plan->caller->facts.hides_headers) {
        fill->kind = FILL_LEARN;
    } else if (x->is_request && plan->message->era == CP_ERA_LEGACY && plan->message->method == CP_METHOD_INITIALIZE &&
               plan->caller->facts.body_is_plain && !plan->caller->facts.hides_headers) {
        /* what the upstream reads is what was read here, or nothing is learned from it */
        fill->kind = FILL_SESSION;
    } else if (plan->subscribes) {
        fill->kind = FILL_SUBSCRIBE;
    }
    if (plan->polled != NULL) {
        fill->is_poll = true;
        fill->polled = *plan->polled;
    }
}

/* What a refresh has in common with what a client asks. */
static void take_plan(struct exchange *x, const struct exchange_plan *plan)
{
    x->flight = plan->flight;
    x->pass = plan->pass;
    x->has_pass = plan->has_pass;
    if (plan->stamps != NULL)
        x->stamps = *plan->stamps;
    if (x->flight != NULL)
        flight_began(x->flight, x);
}

void exchange_begin(struct flow *flow, h2o_req_t *req, const struct exchange_plan *plan)
{
    const struct cp_message *m = plan->message;
    struct exchange *x = h2o_mem_alloc(sizeof(*x));
    struct upstream_request request = {0};
    bool is_get = span_eq(plan->wire->method, SPAN("GET"));
    struct upstream_call *call;

    memset(x, 0, sizeof(*x));
    x->flow = flow;
    x->policy = cp_policy_ref(flow->shared->trust.policy);
    x->began_ms = plan->now_ms;
    x->generation = store_generation(flow->shared->trust.store);
    x->outcome = plan->outcome;
    if (plan->outcome == CP_OUTCOME_MISS)
        x->find_reason = plan->reason;
    else
        x->reason = x->bypass_reason = plan->reason;
    take_plan(x, plan);
    x->is_mcp_path = plan->is_mcp_path;
    x->is_head = span_eq(plan->wire->method, SPAN("HEAD"));
    copy_text(x->path, sizeof(x->path), without_query(plan->wire->path));
    copy_text(x->http_method, sizeof(x->http_method), plan->wire->method);
    if (req->entity.len != 0) {
        /* the entity lies in the connection's buffer */
        x->body = h2o_strdup(NULL, req->entity.base, req->entity.len).base;
        x->body_bytes = req->entity.len;
    }
    if (m != NULL) {
        x->is_rpc = true;
        x->is_request = m->kind == CP_KIND_REQUEST;
        x->is_batch = m->kind == CP_KIND_BATCH;
        x->is_legacy_post = m->kind == CP_KIND_BATCH || (m->kind != CP_KIND_OPAQUE && m->era == CP_ERA_LEGACY);
        if (x->is_request)
            x->id = (struct span){x->body + (m->id.p - req->entity.base), m->id.n};
        x->method_bytes = copy_text(x->method, sizeof(x->method), m->method_text);
        x->name_bytes = copy_text(x->name, sizeof(x->name), m->name);
    }
    if (plan->id != NULL) {
        x->has_identity = true;
        x->identity = *plan->id;
        x->proves = span_eq(plan->wire->method, SPAN("POST"));
        x->has_origin = plan->wire->origin.p != NULL;
        /* credentials that Connection names do not travel; of two sessions nobody knows which one was meant */
        x->is_hidden = plan->wire->hides_headers || plan->wire->mirror.repeated;
        x->ends_session = span_eq(plan->wire->method, SPAN("DELETE"));
    }
    if ((x->is_stream = plan->is_stream))
        atomic_fetch_add_explicit(flow->shared->open_streams, 1, memory_order_relaxed);
    begin_fill(x, plan);
    x->completes = plan->completes;
    h2o_linklist_insert(&flow->exchanges, &x->link);
    ++flow->exchange_count;

    request.head = wire_request_head(req,
                                     &(struct wire_head){
                                         .host = flow_host(flow, plan->wire),
                                         /* what cannot be read cannot tell of changes */
                                         .identity_encoding = x->is_mcp_path,
                                     },
                                     &request.head_bytes);
    if (request.head == NULL)
        h2o_fatal("no memory");
    request.body = (struct span){x->body, x->body_bytes};
    request.is_head = x->is_head;
    /* a read is what changes nothing: safe methods of HTTP, and calls that the policy calls cacheable */
    request.may_repeat = plan->outcome == CP_OUTCOME_MISS || x->is_head || is_get || span_eq(plan->wire->method, SPAN("OPTIONS"));

    request.may_retry_connect = plan->outcome == CP_OUTCOME_MISS;
    request.deadline_ms = plan->keys != NULL && plan->decision->rule != NULL ? plan->decision->rule->timeout_ms : 0;
    stamps_begin(flow, &x->stamps);
    /* strangers make nothing old before the upstream lets them */
    if (x->stamps.is_known)
        stamps_raise(flow, &x->stamps);
    x->client = downstream_new(req, x, on_client_gone, on_client_drained);
    downstream_watch(x->client);
    call = upstream_call_start(flow->upstream, &request, &callbacks, x);
    if (call != NULL)
        x->call = call;
}

struct exchange *exchange_begin_own(struct flow *flow, const struct exchange_own *own)
{
    struct exchange *x = h2o_mem_alloc(sizeof(*x));
    struct upstream_request request = {
        .head = own->head,
        .head_bytes = own->head_bytes,
        .body = {own->body, own->body_bytes},
        .may_repeat = true,
    };
    struct upstream_call *call;

    memset(x, 0, sizeof(*x));
    x->flow = flow;
    x->policy = cp_policy_ref(flow->shared->trust.policy);
    x->began_ms = own->now_ms;
    x->generation = store_generation(flow->shared->trust.store);
    x->is_mcp_path = true;
    x->body = own->body;
    x->body_bytes = own->body_bytes;
    x->id = own->id;
    x->has_identity = true;
    x->identity = own->identity;
    x->is_own = true;
    x->on_done = own->on_done;
    x->ctx = own->ctx;
    if (own->plan != NULL) {
        x->is_request = x->is_rpc = x->proves = true;
        x->outcome = own->plan->outcome;
        take_plan(x, own->plan);
        begin_fill(x, own->plan);
        x->fill.is_refresh = true;
        request.may_retry_connect = true;
        /* nobody else ends it */
        request.deadline_ms = own->plan->decision->rule != NULL && own->plan->decision->rule->timeout_ms != 0
                                  ? own->plan->decision->rule->timeout_ms
                                  : flow->shared->upstream.first_byte_timeout_ms;
    } else {
        x->fill.kind = FILL_PROBE;
        x->fill.flow = flow;
        x->fill.id_of_caller = &x->identity;
        x->fill.began_ms = x->began_ms;
        x->fill.body = request.body;
        x->fill.id = x->id;
    }
    h2o_linklist_insert(&flow->exchanges, &x->link);
    call = upstream_call_start(flow->upstream, &request, &callbacks, x);
    if (call == NULL)
        return NULL;
    x->call = call;
    return x;
}
