/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: their life, and the client's side. Not here: what events mean (stream_events.c), the upstream's side (stream_upstream.c), what a listen asks for and is granted
 * (listening.c), who is told what (notify/subscribers.h).
 * Always: a stream ends in stream_finish exactly once; `client` is NULL as soon as its answer ended or it is gone, `call` as soon as the upstream's part is over; what is written to
 * the client is whole events, but for one too large to be held, which nothing comes between. Thread: the flow's loop. */
#include "sidecar/flow/stream_inside.h"

#include "sidecar/counts.h"
#include "sidecar/flow/announce.h"
#include "sidecar/flow/subscribe.h"
#include "sidecar/flow/watch.h"

#include <stdatomic.h>
#include <stdlib.h>

/* One round of looking after takes in this many ticks every stream. */
#define LOOK_EACH_TICKS 20

static h2o_linklist_t *bucket_of(struct flow *flow, uint64_t id)
{
    return &flow->stream_buckets[id % FLOW_STREAM_BUCKETS];
}

static struct stream *find(struct flow *flow, uint64_t id)
{
    h2o_linklist_t *bucket = bucket_of(flow, id);

    for (h2o_linklist_t *l = bucket->next; l != bucket; l = l->next) {
        struct stream *st = H2O_STRUCT_FROM_MEMBER(struct stream, by_id, l);

        if (st->ref.id == id)
            return st;
    }
    return NULL;
}

/* ---- the end -------------------------------------------------------------------------------------------------------------------- */

void stream_unregister(struct stream *st)
{
    if (!st->is_registered)
        return;
    st->is_registered = false;
    subscribers_close(st->flow->shared->subscribers, st->ref, stream_now(st));
}

static void log_stream(struct stream *st)
{
    exchange_log(&(struct exchange_note){
        .method = st->is_listen ? span_of(cp_method_text(CP_METHOD_LISTEN)) : SPAN_ABSENT,
        .name = SPAN_ABSENT,
        .http_method = SPAN("GET"),
        .path = st->flow->shared->upstream.url->path,
        .outcome = st->outcome,
        .reason = st->reason,
        .status = st->status,
        .ms = stream_now(st) - st->began_ms,
        .bytes = st->relayed_bytes,
    });
}

void stream_raise_stamps(struct stream *st)
{
    if (st->stamps == NULL)
        return;
    if (st->has_head ? st->status != 401 && st->status != 403 : st->stamps->is_known)
        stamps_raise(st->flow, st->stamps);
}

/* Both sides are through. */
void stream_finish(struct stream *st)
{
    stream_unregister(st);
    stream_raise_stamps(st);
    if (st->stamps != NULL)
        stamps_end(st->flow, st->stamps);
    alarm_clear(&st->flow->alarms, &st->retry);
    h2o_linklist_unlink(&st->link);
    h2o_linklist_unlink(&st->by_id);
    --st->flow->exchange_count;
    atomic_fetch_sub_explicit(st->flow->shared->open_streams, 1, memory_order_relaxed);
    if (!st->is_told)
        log_stream(st);
    listening_done(&st->listening);
    coverage_done(&st->coverage);
    frames_done(&st->frames);
    buf_done(&st->held);
    buf_done(&st->refusal);
    actions_done(&st->early);
    cp_policy_unref(st->policy);
    free(st->stamps);
    free(st->body);
    free(st);
}

/* The client's answer ends here; whole: as it should. */
void stream_end_client(struct stream *st, bool whole)
{
    struct downstream *client = st->client;

    st->client = NULL;
    if (client != NULL && whole)
        downstream_end(client);
    else if (client != NULL)
        downstream_abort(client);
}

void stream_cancel(struct stream *st)
{
    struct upstream_call *call = st->call;

    st->call = NULL;
    if (call != NULL)
        upstream_call_cancel(call);
}

void stream_kill(struct stream *st, bool whole)
{
    stream_cancel(st);
    stream_end_client(st, whole);
    stream_finish(st);
}

/* ---- to the client -------------------------------------------------------------------------------------------------------------- */

void stream_write(struct stream *st, struct span bytes)
{
    if (st->client == NULL || bytes.n == 0)
        return;
    st->relayed_bytes += bytes.n;
    st->last_ms = stream_now(st);
    if ((st->backlog = downstream_write(st->client, bytes)) > BACKLOG_MAX && st->call != NULL)
        upstream_call_pause(st->call);
}

/* Something of ours may be written now. */
static bool may_speak(const struct stream *st)
{
    /* behind its end there is nothing */
    if (st->saw_end)
        return false;
    switch (st->phase) {
    case PHASE_OPEN:
        return frames_is_between(&st->frames);
    case PHASE_ACK:
        return st->is_again;
    case PHASE_LOCAL:
    case PHASE_RETRY:
        return true;
    case PHASE_HEAD:
        return st->is_again;
    case PHASE_HELD:
        return st->is_again;
    case PHASE_RELAY:
        return false;
    }
    return false;
}

void stream_flush(struct stream *st)
{
    if (st->held.n == 0 || !may_speak(st) || st->backlog > BACKLOG_MAX)
        return;
    stream_write(st, buf_span(&st->held));
    st->held.n = 0;
}

/* One event of ours. */
static void say(struct stream *st, struct span message)
{
    if (frame_add(&st->held, message) != 0)
        h2o_fatal("no memory");
    stream_flush(st);
    if (st->held.n == 0)
        buf_done(&st->held);
}

static enum cp_notice_kind notice_of(enum topic topic)
{
    switch (topic) {
    case TOPIC_RESOURCE:
        return CP_NOTICE_RESOURCE_UPDATED;
    case TOPIC_TOOLS_LIST:
        return CP_NOTICE_TOOLS_LIST_CHANGED;
    case TOPIC_PROMPTS_LIST:
        return CP_NOTICE_PROMPTS_LIST_CHANGED;
    case TOPIC_RESOURCES_LIST:
        return CP_NOTICE_RESOURCES_LIST_CHANGED;
    }
    return CP_NOTICE_RESOURCES_LIST_CHANGED;
}

static void untold(struct flow *flow, const struct action *action)
{
    struct actions actions = {0};

    subscribers_untold(flow->shared->subscribers, action->stream, action->subscriber, action->subject,
                       store_now_ms(flow->shared->trust.store), &actions);
    announce(flow, &actions);
}

void stream_tell(struct flow *flow, const struct action *action)
{
    struct stream *st = find(flow, action->stream.id);
    struct span id = st != NULL && st->is_listen ? st->request_id : SPAN_ABSENT;
    struct buf *text = &flow->content;

    if (st == NULL || st->client == NULL || !st->is_registered) {
        untold(flow, action);
        return;
    }
    if (st->held.n > BACKLOG_MAX || st->backlog > BACKLOG_MAX) {
        /* he does not read: of a session there is a mark, which he gets when he has read; a listen's client is shown that it missed something */
        st->has_untold = true;
        untold(flow, action);
        st->is_given_up = st->is_listen;
        return;
    }
    if (MUTANT("subscription-id-foreign") && st->is_listen)
        id = SPAN("\"mcpcached\"");
    if (MUTANT("told-with-event-id") && buf_add_span(&st->held, SPAN("id: 1\n")) != 0)
        h2o_fatal("no memory");
    text->n = 0;
    if (cp_tell_notice(notice_of(action->topic), topic_text_span(action->uri), id, text) != 0)
        h2o_fatal("no memory");
    counts_add(COUNT_TOLD);
    say(st, buf_span(text));
}

/* ---- carrying out --------------------------------------------------------------------------------------------------------------- */

/* The open request as a listen; legacy: NULL. */
const struct cp_message *stream_message(struct stream *st, struct cp_message *ret)
{
    h2o_req_t *req = downstream_req(st->client);

    if (!st->is_listen)
        return NULL;
    cp_message_parse(ret, &st->flow->request_doc, (struct span){req->entity.base, req->entity.len});
    return ret;
}

/* Whether the upstream was seen to let him have this very thing. Of what it would have told him itself it was heard. */
static bool may_hear(struct stream *st, const struct action *action, int64_t now_ms)
{
    struct cp_message asked = {.kind = CP_KIND_REQUEST, .method = action->method, .name = topic_text_span(action->uri)};
    struct trust *trust = &st->flow->trust;
    uint8_t grant[16];

    if (action->is_missed)
        return true;
    /* also of what is his own: another credential of the same principal may call what this one may not */
    if (action->tool != NULL) {
        asked.method = CP_METHOD_TOOLS_CALL;
        asked.name = topic_text_span(action->tool);
    }
    admission_grant_name(trust, &st->identity, &asked, grant);
    return admission_may_hear(trust, &st->identity, grant, now_ms);
}

static void poll(struct stream *st, const struct action *action, bool tells, int64_t now_ms)
{
    struct cp_message message;

    if (!watch_may_poll(st->flow, &st->identity, action, tells, now_ms))
        return;
    watch_poll(st->flow,
               &(struct watcher){
                   .id = &st->id, .stream = st->ref, .req = downstream_req(st->client), .message = stream_message(st, &message)},
               action, tells, now_ms);
}

/* He is told once a question in his own name was answered well; that its answer is another one than he knew is the same piece of news. */
static void tell_if_let_in(struct stream *st, const struct action *action, int64_t now_ms)
{
    subscribers_told(st->flow->shared->subscribers, action->subscriber, action->topic,
                     action->topic == TOPIC_RESOURCE ? action->subject : 0, now_ms);
    poll(st, action, true, now_ms);
}

/* Whoever had this credential or session is not told anything more. What the upstream goes on to say is its own business. */
static void withdraw(struct stream *st)
{
    stream_unregister(st);
    if (st->call != NULL && !st->is_again)
        return;
    stream_kill(st, !st->is_listen);
}

/* A change between a listen and its acknowledgement. Whether he may hear of it is asked when he is known to be let in. */
static void wait_early(struct stream *st, const struct action *action)
{
    for (size_t i = 0; i != st->early.count; ++i)
        if (st->early.items[i].topic == action->topic && st->early.items[i].subject == action->subject)
            return;
    actions_add(&st->early, action);
}

/* The stream is open: its acknowledgement is out. */
void stream_open(struct stream *st)
{
    struct actions early = st->early;

    st->has_opened = true;
    stream_flush(st);
    st->early = (struct actions){0};
    for (size_t i = 0; i != early.count; ++i) {

        stream_carry_out(st->flow, &early.items[i]);
    }
    actions_done(&early);
}

void stream_carry_out(struct flow *flow, const struct action *action)
{
    struct stream *st = find(flow, action->stream.id);
    int64_t now_ms = store_now_ms(flow->shared->trust.store);
    bool is_there = st != NULL && st->client != NULL && st->is_registered;

    /* another credential of the same principal may have begun what he is subscribed to: that it holds says nothing of his */
    if (is_there && action->kind != ACTION_END && !st->identity.credential.is_anonymous &&
        !admission_holds(&flow->trust, &st->identity, st->began_ms)) {
        /* not at once: events may be under way */
        stream_unregister(st);
        st->is_given_up = st->call == NULL || st->is_again;
        is_there = false;
    }
    switch (action->kind) {
    case ACTION_TELL:
        /* taken back since */
        if (is_there && !st->is_listen && !subscribers_has(flow->shared->subscribers, action->subscriber, action->subject))
            break;
        if (is_there && !st->has_opened)
            wait_early(st, action);
        else if (is_there && !may_hear(st, action, now_ms)) {
            /* of a tool there is no harmless question */
            if (!action->is_result)
                tell_if_let_in(st, action, now_ms);
        } else {
            stream_tell(flow, action);
        }
        break;
    case ACTION_POLL:
        if (is_there)
            poll(st, action, false, now_ms);
        else
            subscribers_polled(flow->shared->subscribers, &action->name, POLL_GONE, now_ms);
        break;
    case ACTION_END:
        if (st != NULL && st->client != NULL)
            withdraw(st);
        break;
    }
}

/* ---- the client's side ---------------------------------------------------------------------------------------------------------- */

static void on_client_gone(void *owner)
{
    struct stream *st = owner;

    st->client = NULL;
    stream_cancel(st);
    stream_finish(st);
}

static void on_client_drained(void *owner)
{
    struct stream *st = owner;

    st->backlog = 0;
    stream_flush(st);
    if (st->held.n == 0)
        buf_done(&st->held);
    if (st->call != NULL && st->backlog <= BACKLOG_MAX)
        upstream_call_resume(st->call);
    if (st->has_untold && st->is_registered && st->held.n == 0) {
        struct actions actions = {0};

        /* as if it was opened now: what is marked is told */
        st->has_untold = false;
        st->is_registered =
            subscribers_open(st->flow->shared->subscribers, &st->id, st->ref, st->may_tell, stream_now(st), &actions);
        announce(st->flow, &actions);
    }
}

static void begin_listen(struct stream *st, h2o_req_t *req, const struct exchange_plan *plan)
{
    const struct cp_message *m = plan->message;
    struct buf body = {0};

    st->request_id = (struct span){req->entity.base + (m->id.p - req->entity.base), m->id.n};
    coverage_of_listen(st->flow, m, &st->coverage);
    if (st->is_ours && listening_rewrites(st->flow, m, &body)) {
        st->body = body.p;
        st->body_bytes = body.n;
    } else {
        buf_done(&body);
    }
    /* it has no name but this one */
    memcpy(st->id.name, &st->ref.id, sizeof(st->ref.id));
    memcpy(st->id.name + sizeof(st->ref.id), &st->ref.loop, sizeof(st->ref.loop));
}

static void begin_get(struct stream *st, h2o_req_t *req, const struct exchange_plan *plan)
{
    struct span resumed = wire_header(req, SPAN("last-event-id"));

    coverage_of_get(&st->coverage);
    st->id.is_session = true;
    identity_session_name(plan->id, st->id.name);
    /* what is resumed may be the stream of a call, on which nothing else is to be said */
    st->may_tell = plan->id->has_session && (resumed.n == 0 || stream_is_own_id(st, resumed));
    if (plan->session != NULL)
        st->session = *plan->session;
}

void stream_begin(struct flow *flow, h2o_req_t *req, const struct exchange_plan *plan)
{
    struct stream *st = h2o_mem_alloc(sizeof(*st));

    memset(st, 0, sizeof(*st));
    st->flow = flow;
    st->policy = cp_policy_ref(flow->shared->trust.policy);
    st->ref = (struct stream_ref){flow->index, ++flow->last_stream_id};
    st->began_ms = st->last_ms = plan->now_ms;
    st->outcome = plan->outcome;
    st->reason = plan->reason;
    st->is_listen = plan->message != NULL;
    st->probed = plan->probed;
    st->identity = *plan->id;
    st->has_origin = plan->wire->origin.p != NULL;
    st->origin_allowed = caller_is_allowed_origin(&flow->shared->trust, plan->wire);
    st->is_hidden = plan->wire->hides_headers || plan->wire->mirror.repeated;
    st->accepts_events = plan->wire->accepts_events;
    st->retry.on_due = stream_on_retry;
    memcpy(st->id.credential, plan->id->credential.bytes, sizeof(st->id.credential));
    memcpy(st->id.principal, plan->id->principal.bytes, sizeof(st->id.principal));
    st->id.is_anonymous = plan->id->credential.is_anonymous;
    /* of what the upstream does not see as it came, nothing is kept; nor for a token that says itself that it is over: an upstream that lets it in tells it what it likes */
    st->is_ours = flow->shared->subscribers != NULL && flow->index != FLOWS_MAX && !st->is_hidden && !plan->id->has_expired &&
                  (!st->is_listen || plan->caller->agrees) && (st->is_listen || plan->id->has_session) &&
                  !flow->shared->trust.policy->observe;
    if (st->is_listen)
        begin_listen(st, req, plan);
    else
        begin_get(st, req, plan);
    h2o_linklist_insert(&flow->streams, &st->link);
    h2o_linklist_insert(bucket_of(flow, st->ref.id), &st->by_id);
    ++flow->exchange_count;
    atomic_fetch_add_explicit(flow->shared->open_streams, 1, memory_order_relaxed);
    if (plan->stamps != NULL && plan->stamps->count != 0) {
        st->stamps = h2o_mem_alloc(sizeof(*st->stamps));
        *st->stamps = *plan->stamps;
        stamps_begin(flow, st->stamps);
        if (st->stamps->is_known)
            stamps_raise(flow, st->stamps);
    }
    st->client = downstream_new(req, st, on_client_gone, on_client_drained);
    downstream_watch(st->client);
    announce_wake(flow);
    /* of a stranger nothing is known that could change meanwhile, and he takes no room before he is let in */
    if (st->is_listen && st->is_ours && admission_of_life(&flow->trust, &st->identity, false, plan->now_ms) == ADMISSION_PROVEN)
        stream_watch_early(st, req, plan->message);
    stream_ask(st);
}

/* ---- all of them ---------------------------------------------------------------------------------------------------------------- */

static bool is_over(const struct stream *st, int64_t real_s)
{
    return st->identity.exp_s >= 0 && real_s >= st->identity.exp_s;
}

void streams_look_after(struct flow *flow, int64_t now_ms)
{
    int64_t keepalive_ms = flow->shared->stream_keepalive_ms, real_s;
    h2o_linklist_t *l = flow->streams.next;

    if (++flow->ticks % LOOK_EACH_TICKS != 0 || l == &flow->streams)
        return;
    real_s = (int64_t)h2o_get_timestamp(flow->ctx, NULL, NULL)->tv_sec;
    while (l != &flow->streams) {
        struct stream *st = H2O_STRUCT_FROM_MEMBER(struct stream, link, l);

        l = l->next;
        if (st->client == NULL || !st->has_opened)
            continue;
        if (st->is_given_up) {
            stream_kill(st, false);
            continue;
        }
        if (st->is_registered && !st->is_listen && now_ms - st->remembered_ms >= SUBSCRIBE_IDLE_MS / 3) {
            st->remembered_ms = now_ms;
            subscribe_remember(flow, &st->identity, now_ms);
        }
        if (st->is_registered && is_over(st, real_s)) {
            withdraw(st);
            continue;
        }
        if (keepalive_ms != 0 && now_ms - st->last_ms >= keepalive_ms && may_speak(st) && st->backlog <= BACKLOG_MAX)
            stream_write(st, SPAN(":\n\n"));
    }
}

void streams_drain(struct flow *flow)
{
    struct buf *text = &flow->text;

    for (h2o_linklist_t *l = flow->streams.next; l != &flow->streams;) {
        struct stream *st = H2O_STRUCT_FROM_MEMBER(struct stream, link, l);

        l = l->next;
        if (st->client == NULL || !st->has_opened || !st->is_ours || !may_speak(st))
            continue;
        stream_flush(st);
        if (st->is_listen) {
            text->n = 0;
            if (cp_tell_listen_end(st->request_id, text) != 0)
                h2o_fatal("no memory");
            say(st, buf_span(text));
        }
        /* nobody hears what the upstream says until the next start */
        if (st->call != NULL && st->phase == PHASE_OPEN)
            coverage_lost(flow, &st->coverage);
        /* what he did not read may hold his result up */
        stream_kill(st, st->held.n == 0 && !st->is_given_up);
    }
}

void streams_stop(struct flow *flow)
{
    while (!h2o_linklist_is_empty(&flow->streams)) {
        struct stream *st = H2O_STRUCT_FROM_MEMBER(struct stream, link, flow->streams.next);

        if (st->call != NULL && (st->phase == PHASE_OPEN || st->phase == PHASE_ACK))
            coverage_lost(flow, &st->coverage);
        stream_kill(st, false);
    }
}
