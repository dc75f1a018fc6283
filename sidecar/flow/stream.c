/* SPDX-License-Identifier: Apache-2.0 */
/* Streams. Not here: what a listen asks for and is granted (listening.c), who is told what (notify/subscribers.h), what the upstream's notices purge (notices.c).
 * Always: a stream ends in finish exactly once; `client` is NULL as soon as its answer ended or it is gone, `call` as soon as the upstream's part is over; what is written to
 * the client is whole events, but for one too large to be held, which nothing comes between. Thread: the flow's loop. */
#include "sidecar/flow/stream.h"

#include "cachepolicy/telling.h"
#include "sidecar/base/log.h"
#include "sidecar/base/slots.h"
#include "sidecar/counts.h"
#include "sidecar/flow/announce.h"
#include "sidecar/flow/listening.h"
#include "sidecar/flow/notices.h"
#include "sidecar/flow/probe.h"
#include "sidecar/flow/request.h"
#include "sidecar/flow/subscribe.h"
#include "sidecar/flow/watch.h"
#include "sidecar/wire/downstream.h"
#include "sidecar/wire/frames.h"
#include "sidecar/wire/reply.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Above this much unsent the upstream is asked to wait, and nothing of ours is added. */
#define BACKLOG_MAX (256 * 1024)
/* A refusal that is read before it is relayed. */
#define REFUSAL_MAX (64 * 1024)
/* Between two tries to find another upstream stream, doubling. */
#define RETRY_FIRST_MS 250
#define RETRY_MAX_MS   (30 * 1000)
/* One round of looking after takes in this many ticks every stream. */
#define LOOK_EACH_TICKS 20
/* What was to be asked, and found no place for so long, is not asked any more. */

enum phase {
    PHASE_HEAD,  /* asked */
    PHASE_RELAY, /* no event stream */
    PHASE_HELD,  /* collecting a refusal */
    PHASE_ACK,   /* the upstream's events, but not yet its acknowledgement */
    PHASE_OPEN,
    PHASE_LOCAL, /* without an upstream */
    PHASE_RETRY, /* without one at the moment */
};

struct stream {
    h2o_linklist_t link;
    h2o_linklist_t by_id; /* in a bucket of flow->stream_buckets */
    struct flow *flow;
    struct stream_ref ref;
    struct downstream *client;
    struct upstream_call *call;
    struct cp_policy *policy;
    enum phase phase;
    bool is_listen;
    bool is_ours;    /* subscriptions are kept for it */
    bool has_opened; /* its client has a head and, a listen, its acknowledgement */
    bool is_again;   /* the upstream's stream is another one than the client's answer began with */
    enum probed probed;
    bool is_told; /* its client was answered otherwise, and the log knows */
    bool may_tell;
    bool has_head, has_ids, saw_end;
    bool goes_on_alone; /* it tells of something, and its upstream of nothing: that one may end */
    bool is_registered; /* at the subscribers */
    bool is_given_up;   /* it is cut with the next look after all of them: events may be under way now */
    struct subscriber_id id;
    struct identity identity;
    struct session session; /* GET: what it negotiated */
    bool has_origin, is_hidden, origin_allowed, accepts_events;
    struct span request_id; /* of a listen: raw, in the request's own body */
    char *body;             /* of a listen: what goes upstream when it is not the request's own; owned */
    size_t body_bytes;
    struct listening listening;
    struct coverage coverage;
    struct stamps *stamps; /* of one that may change something; owned */
    struct frames frames;
    struct buf refusal;   /* HELD */
    struct buf held;      /* what is said when it may be: ours, and what came before the acknowledgement */
    struct actions early; /* a listen's: what is to be told once its acknowledgement is out */
    struct alarm retry;
    int64_t retry_ms, acked_ms; /* acked_ms: when the upstream acknowledged */
    int64_t began_ms, last_ms;  /* last_ms: when something was written */
    enum cp_outcome outcome;
    enum cp_reason reason;
    int status;
    size_t content_bytes, relayed_bytes;
    size_t backlog;  /* bytes that wait to be read, as of the last write */
    bool has_untold; /* it was too much */
};

static int64_t now_of(const struct stream *st)
{
    return store_now_ms(st->flow->shared->trust.store);
}

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

static void unregister(struct stream *st)
{
    if (!st->is_registered)
        return;
    st->is_registered = false;
    subscribers_close(st->flow->shared->subscribers, st->ref, now_of(st));
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
        .ms = now_of(st) - st->began_ms,
        .bytes = st->relayed_bytes,
    });
}

static void raise_stamps(struct stream *st)
{
    if (st->stamps == NULL)
        return;
    if (st->has_head ? st->status != 401 && st->status != 403 : st->stamps->is_known)
        stamps_raise(st->flow, st->stamps);
}

/* Both sides are through. */
static void finish(struct stream *st)
{
    unregister(st);
    raise_stamps(st);
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
static void end_client(struct stream *st, bool whole)
{
    struct downstream *client = st->client;

    st->client = NULL;
    if (client != NULL && whole)
        downstream_end(client);
    else if (client != NULL)
        downstream_abort(client);
}

static void cancel(struct stream *st)
{
    struct upstream_call *call = st->call;

    st->call = NULL;
    if (call != NULL)
        upstream_call_cancel(call);
}

static void kill_stream(struct stream *st, bool whole)
{
    cancel(st);
    end_client(st, whole);
    finish(st);
}

/* ---- to the client -------------------------------------------------------------------------------------------------------------- */

static void write_out(struct stream *st, struct span bytes)
{
    if (st->client == NULL || bytes.n == 0)
        return;
    st->relayed_bytes += bytes.n;
    st->last_ms = now_of(st);
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

static void flush(struct stream *st)
{
    if (st->held.n == 0 || !may_speak(st) || st->backlog > BACKLOG_MAX)
        return;
    write_out(st, buf_span(&st->held));
    st->held.n = 0;
}

/* One event of ours. */
static void say(struct stream *st, struct span message)
{
    if (frame_add(&st->held, message) != 0)
        h2o_fatal("no memory");
    flush(st);
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
static const struct cp_message *message_of(struct stream *st, struct cp_message *ret)
{
    h2o_req_t *req = downstream_req(st->client);

    if (!st->is_listen)
        return NULL;
    cp_message_parse(ret, &st->flow->request_doc, (struct span){req->entity.base, req->entity.len});
    return ret;
}

/* Whether the upstream was seen to let him have this very thing. What it tells him of itself it lets him have. */
static bool may_hear(struct stream *st, const struct action *action, int64_t now_ms)
{
    struct cp_message asked = {.kind = CP_KIND_REQUEST, .method = action->method, .name = topic_text_span(action->uri)};
    struct trust *trust = &st->flow->trust;
    uint8_t grant[16];

    if (action->is_covered)
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

    if (!watch_may_poll(st->flow, action, tells))
        return;
    watch_poll(
        st->flow,
        &(struct watcher){.id = &st->id, .stream = st->ref, .req = downstream_req(st->client), .message = message_of(st, &message)},
        action, tells, now_ms);
}

/* Whoever had this credential or session is not told anything more. What the upstream goes on to say is its own business. */
static void withdraw(struct stream *st)
{
    unregister(st);
    if (st->call != NULL && !st->is_again)
        return;
    kill_stream(st, !st->is_listen);
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
static void open_stream(struct stream *st)
{
    struct actions early = st->early;

    st->has_opened = true;
    flush(st);
    st->early = (struct actions){0};
    for (size_t i = 0; i != early.count; ++i) {
        /* the upstream was not heard of yet when it was noted */
        early.items[i].is_covered = false;
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
        unregister(st);
        st->is_given_up = st->call == NULL || st->is_again;
        is_there = false;
    }
    switch (action->kind) {
    case ACTION_TELL:
        if (is_there && !st->has_opened)
            wait_early(st, action);
        else if (is_there && !may_hear(st, action, now_ms)) {
            /* of a tool there is no harmless question */
            if (!action->is_result)
                poll(st, action, true, now_ms);
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

/* ---- registered ----------------------------------------------------------------------------------------------------------------- */

/* Kept for this stream from now on. False: it cannot be. */
static bool register_stream(struct stream *st)
{
    struct actions actions = {0};

    if (!st->is_listen)
        subscribe_recall(st->flow, downstream_req(st->client), &st->identity, now_of(st));
    st->is_registered =
        subscribers_open(st->flow->shared->subscribers, &st->id, st->ref, st->may_tell || st->is_listen, now_of(st), &actions);
    announce(st->flow, &actions);
    return st->is_registered;
}

/* The lists that a session was promised to hear of. Its client asks for them himself at first, mostly; the first look is as late as can be. */
static void watch_lists(struct stream *st)
{
    static const struct {
        enum session_offer offer;
        enum topic topic;
        enum cp_method method;
    } lists[] = {
        {SESSION_OFFER_TOOLS, TOPIC_TOOLS_LIST, CP_METHOD_TOOLS_LIST},
        {SESSION_OFFER_PROMPTS, TOPIC_PROMPTS_LIST, CP_METHOD_PROMPTS_LIST},
        {SESSION_OFFER_RESOURCES, TOPIC_RESOURCES_LIST, CP_METHOD_RESOURCES_LIST},
        {SESSION_OFFER_RESOURCES, TOPIC_RESOURCES_LIST, CP_METHOD_RESOURCE_TEMPLATES_LIST},
    };
    struct watcher who = {.id = &st->id, .stream = st->ref, .req = downstream_req(st->client)};
    int64_t now_ms = now_of(st);

    for (size_t i = 0; i != sizeof(lists) / sizeof(lists[0]); ++i)
        if ((st->session.offers & lists[i].offer) != 0)
            watch_begin(st->flow, &who,
                        &(struct watched){
                            .topic = lists[i].topic,
                            .method = lists[i].method,
                            .from_ms = now_ms + st->policy->lists.ttl_ms,
                        },
                        now_ms);
}

/* ---- events --------------------------------------------------------------------------------------------------------------------- */

/* Which stream of its session an event id was seen on: ids are opaque, and one that resumes a POST's stream is not written to (2025-11-25 basic/transports). */
static void id_name(struct stream *st, struct span id, uint8_t ret[16])
{
    cp_digest_of(st->flow->trust.keyer, "event", id, ret);
    for (int i = 0; i != 16; ++i)
        ret[i] ^= st->id.name[i];
}

static void remember_id(struct stream *st, struct span id)
{
    struct slots *ids = st->flow->shared->event_ids;
    uint64_t words[1];
    uint8_t name[16];
    bool found;
    struct slot *slot;

    if (!st->may_tell || id.n == 0)
        return;
    id_name(st, id, name);
    slot = slots_lock(ids, name, words, &found);
    words[0] = (uint64_t)now_of(st);
    slots_unlock(ids, slot, name, words);
}

static bool is_own_id(struct stream *st, struct span id)
{
    uint64_t words[1];
    uint8_t name[16];

    id_name(st, id, name);
    return slots_read(st->flow->shared->event_ids, name, words);
}

/* A GET that is resumed may bring the end of a call that another request began, a write for one (2025-11-25 basic/transports, "Resumability and Redelivery"). What
 * the call was is not known here, so only its caller's own answers are over. */
static void hear_response(struct stream *st, const struct cp_answer *answer)
{
    if (!st->is_listen && (!answer->is_readable || !answer->has_method))
        store_raise(st->flow->shared->trust.store, cp_subject_of_principal(&st->identity.principal), STORE_RAISE_HARD);
}

/* Some servers end a listen so, as the session-based versions did (protocol notes 12, "Ending"). */
static bool is_cancelled(struct stream *st, const struct cp_answer *answer)
{
    struct cp_json_doc *doc = &st->flow->reply_doc;
    const struct cp_json_node *id;

    if (!st->is_listen || st->phase != PHASE_OPEN || !answer->is_readable || !answer->has_method ||
        !span_eq(answer->method, span_of(cp_method_text(CP_METHOD_CANCELLED))))
        return false;
    id = cp_json_member(doc, cp_json_member(doc, cp_json_root(doc), SPAN("params")), SPAN("requestId"));
    return id != NULL && span_eq(cp_json_raw(doc, id), st->request_id);
}

/* The acknowledgement is the first event (2026-07-28 basic/patterns/subscriptions): what comes before it is kept until then. False: it is too much. */
static bool keep_early(struct stream *st, const struct frame *frame)
{
    if (!st->is_ours || st->held.n + frame->raw.n > BACKLOG_MAX)
        return false;
    if (buf_add_span(&st->held, frame->raw) != 0)
        h2o_fatal("no memory");
    return true;
}

/* There will be no acknowledgement. */
static void release_early(struct stream *st)
{
    if (st->phase != PHASE_ACK || st->is_again)
        return;
    write_out(st, buf_span(&st->held));
    st->held.n = 0;
}

static void acknowledge(struct stream *st, const struct frame *frame, const struct cp_answer *ack);
static bool refuse_events(struct stream *st, const struct cp_answer *answer);

/* The upstream, which told of nothing, has ended; we tell on. */
static bool goes_on_alone(struct stream *st)
{
    if (st->phase != PHASE_OPEN || !st->goes_on_alone)
        return false;
    st->phase = PHASE_LOCAL;
    return true;
}

static void on_frame(void *ctx, const struct frame *frame)
{
    struct stream *st = ctx;
    struct flow *flow = st->flow;
    struct cp_answer answer;

    if (st->client == NULL || st->phase == PHASE_LOCAL)
        return;
    st->has_ids |= frame->id.n != 0;
    if (frame->is_piece || !frame->has_data || !frame->is_message || frame->data.n == 0) {
        if (!st->is_again || st->phase == PHASE_OPEN)
            write_out(st, frame->raw);
        if (frame->id.p != NULL && !frame->is_piece)
            remember_id(st, frame->id);
        flush(st);
        return;
    }
    /* heard before it is relayed: what the client does next may depend on what was learned */
    notices_hear(flow, frame->data, st->is_registered ? st->id.name : NULL);
    cp_answer_parse(&answer, &flow->reply_doc, frame->data);
    hear_response(st, &answer);
    if (st->is_listen && cp_listen_is_ack(&answer) && (st->phase == PHASE_ACK || st->is_ours)) {
        /* one is enough */
        if (st->phase == PHASE_ACK)
            acknowledge(st, frame, &answer);
        return;
    }
    if (st->is_listen && answer.is_readable && cp_answer_is_to(&answer, st->request_id)) {
        if (st->phase == PHASE_ACK && refuse_events(st, &answer))
            return;
        if (goes_on_alone(st))
            return;
        /* its graceful end */
        st->saw_end = true;
        release_early(st);
        unregister(st);
    } else if (is_cancelled(st, &answer)) {
        if (goes_on_alone(st))
            return;
        st->saw_end = true;
        unregister(st);
    } else if (st->is_listen && st->phase == PHASE_ACK) {
        if (!st->is_again && !keep_early(st, frame))
            write_out(st, frame->raw);
        return;
    }
    if (frame->id.p != NULL)
        remember_id(st, frame->id);
    write_out(st, frame->raw);
    flush(st);
}

/* ---- listening ------------------------------------------------------------------------------------------------------------------ */

struct beginning {
    struct stream *st;
    h2o_req_t *req;
    const struct cp_message *message;
    int64_t now_ms;
    bool is_early;
};

static bool watch_one(void *ctx, enum topic topic, enum cp_method method, struct span uri, bool is_covered)
{
    struct beginning *b = ctx;
    struct stream *st = b->st;

    if (watch_begin(st->flow, &(struct watcher){.id = &st->id, .stream = st->ref, .req = b->req, .message = b->message},
                    &(struct watched){.topic = topic, .method = method, .uri = uri, .is_covered = b->is_early || is_covered},
                    b->now_ms) == WATCH_DONE)
        return !b->is_early;
    subscribers_unsubscribe(st->flow->shared->subscribers, st->id.name, watch_subject(st->flow, method, uri), b->now_ms);
    return false;
}

/* What is asked for is known from the moment that it is asked for: what changes until the upstream has answered is not missed. Nothing is polled or told before that. */
static void watch_early(struct stream *st, h2o_req_t *req, const struct cp_message *message)
{
    struct beginning b = {.st = st, .req = req, .message = message, .now_ms = now_of(st), .is_early = true};

    if (register_stream(st))
        listening_begin(&st->listening, st->flow, message, NULL, watch_one, &b);
}

/* While there was no upstream stream nobody told of what it covered. */
static void tell_missed(struct stream *st)
{
    struct actions actions = {0};

    /* also what was fetched meanwhile: it may have changed again */
    coverage_missed(st->flow, &st->coverage);
    subscribers_missed(st->flow->shared->subscribers, st->id.name, now_of(st), &actions);
    announce(st->flow, &actions);
}

/* What was asked for is watched, as far as the upstream (ack; NULL: it tells of nothing) does not tell of it itself. False: nothing of it can be told. */
static bool begin_listening(struct stream *st, const struct cp_answer *ack)
{
    struct cp_message message;
    struct beginning b = {.st = st, .req = downstream_req(st->client), .message = message_of(st, &message), .now_ms = now_of(st)};

    if (!st->is_registered && !register_stream(st))
        return false;
    return listening_begin(&st->listening, st->flow, &message, ack, watch_one, &b);
}

/* The upstream acknowledges: the client hears it with what we add. */
static void acknowledge(struct stream *st, const struct frame *frame, const struct cp_answer *ack)
{
    struct buf *text = &st->flow->text, out = {0};
    bool is_good;

    st->phase = PHASE_OPEN;
    st->acked_ms = now_of(st);
    if (!st->is_ours) {
        write_out(st, frame->raw);
        open_stream(st);
        return;
    }
    if (st->is_again)
        tell_missed(st);
    /* what was only asked for makes nothing old when the stream is lost */
    coverage_narrow(st->flow, ack, &st->coverage);
    is_good = begin_listening(st, ack);
    st->goes_on_alone = is_good && listening_adds(&st->listening) && !st->listening.they_tell;
    if (st->is_again) {
        flush(st);
        return;
    }
    text->n = 0;
    /* the doc was used for the questions of what is watched: read once more */
    if (is_good && listening_adds(&st->listening)) {
        struct cp_answer again;

        cp_answer_parse(&again, &st->flow->reply_doc, frame->data);
        if (cp_tell_ack_more(frame->data, &again, &st->flow->reply_doc, &st->listening.lists, st->listening.uris,
                             st->listening.uri_count, text) == 0 &&
            frame_with_data(frame, buf_span(text), &out) == 0)
            write_out(st, buf_span(&out));
        else
            write_out(st, frame->raw);
    } else {
        write_out(st, frame->raw);
    }
    buf_done(&out);
    listening_done(&st->listening);
    open_stream(st);
}

/* ---- served here ---------------------------------------------------------------------------------------------------------------- */

static void add_header(h2o_req_t *req, const char *name, size_t name_bytes, const char *value, size_t value_bytes)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, name_bytes, 0, NULL, value, value_bytes);
}

/* The head of an event stream that has no upstream's. */
static void start_local(struct stream *st)
{
    h2o_req_t *req = downstream_req(st->client);

    req->res.status = st->status = 200;
    req->res.reason = "OK";
    req->res.headers = (h2o_headers_t){NULL, 0, 0};
    add_header(req, H2O_STRLIT("content-type"), H2O_STRLIT("text/event-stream"));
    add_header(req, H2O_STRLIT("cache-control"), H2O_STRLIT("no-cache, no-transform"));
    add_header(req, H2O_STRLIT("x-accel-buffering"), H2O_STRLIT("no"));
    if (st->is_listen)
        reply_note_bypass(req, false, st->reason);
    st->phase = PHASE_LOCAL;
    downstream_start(st->client, SIZE_MAX);
    st->last_ms = now_of(st);
}

/* Whether the upstream, which serves no such stream, was seen to let this caller in. A probe may be sent to find out: then true is told by *ret_gone, and the stream is over. */
static bool is_let_in(struct stream *st, bool *ret_gone)
{
    struct flow *flow = st->flow;
    int64_t now_ms = now_of(st);
    struct wire_request wire;
    struct cp_message message = {.kind = CP_KIND_REQUEST, .era = CP_ERA_LEGACY};
    struct caller caller;
    enum admission admission = admission_of_life(&flow->trust, &st->identity, st->probed == PROBED_WELL, now_ms);
    h2o_req_t *req;

    *ret_gone = false;
    if (admission == ADMISSION_PROVEN)
        return true;
    /* not when the client has a head already: the upstream's own, which let him in, or there is none to be taken back */
    if (admission != ADMISSION_LAPSED || st->probed != PROBED_NOT || !flow->shared->trust.policy->probe || st->phase == PHASE_ACK ||
        st->has_opened)
        return false;
    message_of(st, &message);
    req = downstream_take(st->client);
    req->res.headers = (h2o_headers_t){NULL, 0, 0};
    wire_request_read(req, &wire);
    caller = (struct caller){.id = st->identity};
    cancel(st);
    if (probe_join(flow, req, &wire, &message, &caller, now_ms)) {
        st->client = NULL;
        st->is_told = true;
        *ret_gone = true;
        finish(st);
        return false;
    }
    /* no room for a probe: as if there was no answer to it */
    st->client = NULL;
    st->is_told = true;
    *ret_gone = true;
    finish(st);
    request_resume(flow, req, &(struct telling){.how = TELLING_PROBED_BADLY});
    return false;
}

/* The upstream knows no listening. True: the stream is served here, or is over. */
static bool listen_locally(struct stream *st)
{
    struct buf *text = &st->flow->text;
    bool is_gone, was_open;

    if (!st->is_ours || !st->origin_allowed)
        return false;
    if (!is_let_in(st, &is_gone))
        return is_gone;
    if (st->is_again)
        tell_missed(st);
    if (!begin_listening(st, NULL) || !listening_adds(&st->listening)) {
        unregister(st);
        return false;
    }
    cancel(st);
    was_open = st->has_opened;
    if (!was_open) {
        if (st->phase != PHASE_ACK)
            start_local(st);
        text->n = st->held.n = 0;
        st->listening.lists.tools |= MUTANT("acknowledged-unasked");
        if (cp_tell_ack(&st->listening.lists, st->listening.uris, st->listening.uri_count, st->request_id, text) != 0 ||
            frame_add(&st->held, buf_span(text)) != 0)
            h2o_fatal("no memory");
    }
    st->phase = PHASE_LOCAL;
    listening_done(&st->listening);
    if (was_open)
        flush(st);
    else
        open_stream(st);
    return true;
}

/* An error in the place of an acknowledgement. True: the event was dealt with. */
static bool refuse_events(struct stream *st, const struct cp_answer *answer)
{
    if (answer->has_error && answer->error_code == -32601)
        return listen_locally(st);
    return false;
}

/* The session's client was told at initialize that it can subscribe here, and its server has no stream for it. */
static bool get_locally(struct stream *st)
{
    bool is_gone;

    if (!st->is_ours || !st->may_tell || st->session.offers == 0 || !st->origin_allowed || !st->accepts_events ||
        st->identity.epochs[1] == 0)
        return false;
    if (!is_let_in(st, &is_gone))
        return is_gone;
    if (!register_stream(st))
        return false;
    cancel(st);
    start_local(st);
    st->has_opened = true;
    watch_lists(st);
    return true;
}

/* ---- the upstream's side -------------------------------------------------------------------------------------------------------- */

static void start_upstream(struct stream *st);

static void on_retry(struct alarm *alarm)
{
    struct stream *st = H2O_STRUCT_FROM_MEMBER(struct stream, retry, alarm);

    start_upstream(st);
}

/* A while, and another one: longer each time, and not the same for all. */
static void retry_later(struct stream *st)
{
    int64_t wait_ms = st->retry_ms != 0 ? st->retry_ms : RETRY_FIRST_MS;

    st->phase = PHASE_RETRY;
    buf_done(&st->refusal);
    st->retry_ms = wait_ms * 2 < RETRY_MAX_MS ? wait_ms * 2 : RETRY_MAX_MS;
    frames_done(&st->frames);
    st->frames = (struct frames){0};
    alarm_set(&st->flow->alarms, &st->retry, (uint64_t)(wait_ms + h2o_rand() % (wait_ms / 2 + 1)));
}

/* The upstream's stream is lost. True: the client's goes on without it. */
static bool survive(struct stream *st)
{
    if (!st->is_listen || !st->is_ours || !st->has_opened || st->client == NULL || !st->is_registered ||
        !frames_is_between(&st->frames) || MUTANT("listen-cut-by-loss"))
        return false;
    /* one that ends all its streams early is not asked for another one, and all that is subscribed to is not told, again and again at once */
    if (st->phase == PHASE_OPEN && now_of(st) - st->acked_ms >= RETRY_MAX_MS)
        st->retry_ms = 0;
    st->is_again = true;
    retry_later(st);
    flush(st);
    return true;
}

static void learn(struct stream *st, const struct wire_reply_facts *facts)
{
    admission_learn(&st->flow->trust, &st->identity,
                    &(struct admission_facts){
                        .status = st->status,
                        .challenges = facts->challenges,
                        .has_origin = st->has_origin,
                        .is_hidden = st->is_hidden,
                        /* a page may answer anybody: a login, for one */
                        .proves = facts->reply.is_events || (st->is_listen && facts->reply.is_json),
                        .began_ms = st->began_ms,
                    },
                    now_of(st));
    announce_ends(st->flow, &st->identity, st->status, false);
}

/* Another stream instead of the one that was lost; its head is not relayed. */
static void on_head_again(struct stream *st, const struct wire_reply_facts *facts)
{
    if (st->status == 401 || st->status == 403) {
        kill_stream(st, false);
    } else if (st->status == 200 && facts->reply.is_events && !facts->reply.is_encoded) {
        st->phase = PHASE_ACK;
    } else if (st->status == 404) {
        st->status = 200;
        if (!listen_locally(st))
            kill_stream(st, false);
    } else if (facts->reply.is_json && !facts->reply.is_encoded) {
        st->status = 200;
        st->phase = PHASE_HELD;
    } else {
        st->status = 200;
        cancel(st);
        retry_later(st);
    }
}

static void on_head(void *data, const struct upstream_head *head)
{
    struct stream *st = data;
    struct wire_reply_facts facts;
    h2o_req_t *req;
    bool is_events;

    st->has_head = true;
    st->status = head->status;
    st->content_bytes = head->content_bytes;
    wire_reply_read(head->status, head->headers, head->header_count, st->policy->vary_headers, st->policy->vary_header_count,
                    &facts);
    learn(st, &facts);
    raise_stamps(st);
    if (st->client == NULL)
        return;
    if (st->is_again) {
        on_head_again(st, &facts);
        return;
    }
    is_events = head->status == 200 && head->has_body && facts.reply.is_events && !facts.reply.is_encoded;
    if (head->status == 405 && !st->is_listen && get_locally(st))
        return;
    req = downstream_req(st->client);
    req->res.status = head->status;
    req->res.reason = h2o_strdup(&req->pool, head->reason.p, head->reason.n).base;
    wire_reply_copy(req, head->headers, head->header_count);
    downstream_set_date(st->client, facts.date);
    if (st->is_listen)
        reply_note_bypass(req, false, st->reason);
    if (!head->has_body) {
        struct downstream *client = st->client;

        st->client = NULL;
        st->phase = PHASE_RELAY;
        downstream_start_bodyless(client, head->content_bytes);
        return;
    }
    if (st->is_listen && st->is_ours && !is_events && (facts.reply.is_json || head->status == 404) &&
        (head->content_bytes == SIZE_MAX || head->content_bytes <= REFUSAL_MAX)) {
        st->phase = PHASE_HELD;
        return;
    }
    st->phase = !is_events ? PHASE_RELAY : st->is_listen ? PHASE_ACK : PHASE_OPEN;
    if (!is_events)
        unregister(st);
    /* what is told in between makes it longer */
    downstream_start(st->client, is_events && st->is_ours ? SIZE_MAX : head->content_bytes);
    st->last_ms = now_of(st);
    if (st->phase != PHASE_OPEN)
        return;
    st->has_opened = true;
    if (st->is_ours && st->identity.epochs[1] != 0 && register_stream(st))
        watch_lists(st);
}

/* What was held goes out as it came. */
static void release(struct stream *st, size_t content_bytes)
{
    unregister(st);
    st->phase = PHASE_RELAY;
    downstream_start(st->client, content_bytes);
    write_out(st, buf_span(&st->refusal));
    buf_done(&st->refusal);
}

static void on_body(void *data, struct span bytes)
{
    struct stream *st = data;

    raise_stamps(st);
    switch (st->phase) {
    case PHASE_RELAY:
        write_out(st, bytes);
        break;
    case PHASE_HELD:
        if (buf_add_span(&st->refusal, bytes) != 0)
            h2o_fatal("no memory");
        if (st->refusal.n <= REFUSAL_MAX)
            break;
        if (st->is_again) {
            cancel(st);
            retry_later(st);
        } else {
            release(st, st->content_bytes);
        }
        break;
    case PHASE_ACK:
    case PHASE_OPEN:
        if (frames_feed(&st->frames, bytes, on_frame, st) != 0)
            h2o_fatal("no memory");
        if (st->phase == PHASE_LOCAL) {
            cancel(st);
            frames_done(&st->frames);
            flush(st);
        }
        /* a large event that ended is over only now */
        flush(st);
        break;
    case PHASE_HEAD:
    case PHASE_LOCAL:
    case PHASE_RETRY:
        break;
    }
}

/* A refusal came whole. True: we do it ourselves. */
static bool do_without(struct stream *st)
{
    struct cp_answer answer;

    cp_answer_parse(&answer, &st->flow->reply_doc, buf_span(&st->refusal));
    if (st->status != 404 && !(answer.is_readable && answer.has_error && answer.error_code == -32601))
        return false;
    return true;
}

static void answer_error(struct stream *st, enum upstream_end how)
{
    int status = how == UPSTREAM_TIMEOUT ? 504 : 502;
    h2o_req_t *req;

    st->outcome = CP_OUTCOME_ERROR;
    st->reason = how == UPSTREAM_CONNECT ? CP_REASON_CONNECT : how == UPSTREAM_TIMEOUT ? CP_REASON_TIMEOUT : CP_REASON_RESET;
    st->status = status;
    if (st->client == NULL)
        return;
    req = downstream_take(st->client);
    st->client = NULL;
    if (st->is_listen)
        reply_note_bypass(req, false, CP_REASON_METHOD);
    reply_error_send(req, &(struct reply_error){
                              .status = status,
                              .is_rpc = true,
                              .id = st->is_listen ? st->request_id : SPAN_ABSENT,
                              .text = exchange_failure_text(how),
                          });
}

static void on_end(void *data, enum upstream_end how)
{
    struct stream *st = data;
    bool is_whole = how == UPSTREAM_COMPLETE || how == UPSTREAM_SURPLUS;

    st->call = NULL;
    raise_stamps(st);
    if (!st->has_head && !st->is_again) {
        answer_error(st, how);
        finish(st);
        return;
    }
    if (st->phase == PHASE_HELD && is_whole && do_without(st) && listen_locally(st))
        return;
    if (st->phase == PHASE_HELD && st->is_again) {
        if (!is_whole || !do_without(st)) {
            retry_later(st);
            return;
        }
        kill_stream(st, false);
        return;
    }
    if (st->phase == PHASE_HELD && is_whole)
        release(st, st->refusal.n);
    if (st->phase == PHASE_OPEN || st->phase == PHASE_ACK || st->phase == PHASE_HEAD) {
        /* a server that ends a stream which may be resumed tells what is missed later */
        if (!st->saw_end && !(how == UPSTREAM_COMPLETE && st->has_ids && !st->is_listen) &&
            (!st->is_again || st->phase == PHASE_OPEN))
            coverage_lost(st->flow, &st->coverage);
        if (!st->saw_end && survive(st))
            return;
        release_early(st);
        write_out(st, frames_rest(&st->frames));
    }
    end_client(st, is_whole && !(st->is_again && !st->saw_end));
    finish(st);
}

static const struct upstream_callbacks callbacks = {on_head, on_body, on_end};

/* ---- the client's side ---------------------------------------------------------------------------------------------------------- */

static void on_client_gone(void *owner)
{
    struct stream *st = owner;

    st->client = NULL;
    cancel(st);
    finish(st);
}

static void on_client_drained(void *owner)
{
    struct stream *st = owner;

    st->backlog = 0;
    flush(st);
    if (st->held.n == 0)
        buf_done(&st->held);
    if (st->call != NULL && st->backlog <= BACKLOG_MAX)
        upstream_call_resume(st->call);
    if (st->has_untold && st->is_registered && st->held.n == 0) {
        struct actions actions = {0};

        /* as if it was opened now: what is marked is told */
        st->has_untold = false;
        st->is_registered = subscribers_open(st->flow->shared->subscribers, &st->id, st->ref, st->may_tell, now_of(st), &actions);
        announce(st->flow, &actions);
    }
}

/* The upstream asked, with the head that the client's request has. */
static void start_upstream(struct stream *st)
{
    struct flow *flow = st->flow;
    h2o_req_t *req = downstream_req(st->client);
    struct wire_request wire;
    struct upstream_request request = {.is_patient = !st->is_listen, .may_repeat = true};
    struct upstream_call *call;

    wire_request_read(req, &wire);
    request.head = wire_request_head(req,
                                     &(struct wire_head){
                                         .host = flow_host(flow, &wire),
                                         /* what cannot be read cannot tell of changes */
                                         .identity_encoding = true,
                                         .has_own_body = st->body != NULL,
                                         .body_bytes = st->body_bytes,
                                     },
                                     &request.head_bytes);
    if (request.head == NULL)
        h2o_fatal("no memory");
    request.body = st->body != NULL ? (struct span){st->body, st->body_bytes} : (struct span){req->entity.base, req->entity.len};
    st->phase = PHASE_HEAD;
    call = upstream_call_start(flow->upstream, &request, &callbacks, st);
    if (call != NULL)
        st->call = call;
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
    st->may_tell = plan->id->has_session && (resumed.n == 0 || is_own_id(st, resumed));
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
    st->retry.on_due = on_retry;
    memcpy(st->id.credential, plan->id->credential.bytes, sizeof(st->id.credential));
    memcpy(st->id.principal, plan->id->principal.bytes, sizeof(st->id.principal));
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
        watch_early(st, req, plan->message);
    start_upstream(st);
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
            kill_stream(st, false);
            continue;
        }
        if (st->is_registered && is_over(st, real_s)) {
            withdraw(st);
            continue;
        }
        if (keepalive_ms != 0 && now_ms - st->last_ms >= keepalive_ms && may_speak(st) && st->backlog <= BACKLOG_MAX)
            write_out(st, SPAN(":\n\n"));
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
        flush(st);
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
        kill_stream(st, st->held.n == 0 && !st->is_given_up);
    }
}

void streams_stop(struct flow *flow)
{
    while (!h2o_linklist_is_empty(&flow->streams)) {
        struct stream *st = H2O_STRUCT_FROM_MEMBER(struct stream, link, flow->streams.next);

        if (st->call != NULL && (st->phase == PHASE_OPEN || st->phase == PHASE_ACK))
            coverage_lost(flow, &st->coverage);
        kill_stream(st, false);
    }
}
