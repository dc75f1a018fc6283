/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream's events mean: which are relayed, which are not, what an acknowledgement becomes, and what is told where the upstream tells nothing. Thread: the flow's loop. */
#include "sidecar/flow/stream_inside.h"

#include "cachepolicy/telling.h"
#include "sidecar/base/slots.h"
#include "sidecar/flow/announce.h"
#include "sidecar/flow/probe.h"
#include "sidecar/flow/request.h"
#include "sidecar/flow/subscribe.h"
#include "sidecar/flow/watch.h"
#include "sidecar/wire/reply.h"

/* ---- registered ----------------------------------------------------------------------------------------------------------------- */

/* Kept for this stream from now on. False: it cannot be. */
bool stream_register(struct stream *st)
{
    struct actions actions = {0};

    if (!st->is_listen)
        subscribe_recall(st->flow, downstream_req(st->client), &st->identity, stream_now(st));
    st->is_registered =
        subscribers_open(st->flow->shared->subscribers, &st->id, st->ref, st->may_tell || st->is_listen, stream_now(st), &actions);
    announce(st->flow, &actions);
    return st->is_registered;
}

/* The lists that a session was promised to hear of. Its client asks for them himself at first, mostly; the first look is as late as can be. */
void stream_watch_lists(struct stream *st)
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
    int64_t now_ms = stream_now(st);

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
    words[0] = (uint64_t)stream_now(st);
    slots_unlock(ids, slot, name, words);
}

bool stream_is_own_id(struct stream *st, struct span id)
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
void stream_release_early(struct stream *st)
{
    if (st->phase != PHASE_ACK || st->is_again)
        return;
    stream_write(st, buf_span(&st->held));
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

void stream_on_frame(void *ctx, const struct frame *frame)
{
    struct stream *st = ctx;
    struct flow *flow = st->flow;
    struct cp_answer answer;

    if (st->client == NULL || st->phase == PHASE_LOCAL)
        return;
    st->has_ids |= frame->id.n != 0;
    if (frame->is_piece || !frame->has_data || !frame->is_message || frame->data.n == 0) {
        if (!st->is_again || st->phase == PHASE_OPEN)
            stream_write(st, frame->raw);
        if (frame->id.p != NULL && !frame->is_piece)
            remember_id(st, frame->id);
        stream_flush(st);
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
        stream_release_early(st);
        stream_unregister(st);
    } else if (is_cancelled(st, &answer)) {
        if (goes_on_alone(st))
            return;
        st->saw_end = true;
        stream_unregister(st);
    } else if (st->is_listen && st->phase == PHASE_ACK) {
        if (!st->is_again && !keep_early(st, frame))
            stream_write(st, frame->raw);
        return;
    }
    if (frame->id.p != NULL)
        remember_id(st, frame->id);
    stream_write(st, frame->raw);
    stream_flush(st);
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
void stream_watch_early(struct stream *st, h2o_req_t *req, const struct cp_message *message)
{
    struct beginning b = {.st = st, .req = req, .message = message, .now_ms = stream_now(st), .is_early = true};

    if (stream_register(st))
        listening_begin(&st->listening, st->flow, message, NULL, watch_one, &b);
}

/* While there was no upstream stream nobody told of what it covered. */
static void tell_missed(struct stream *st)
{
    struct actions actions = {0};

    /* also what was fetched meanwhile: it may have changed again */
    coverage_missed(st->flow, &st->coverage);
    subscribers_missed(st->flow->shared->subscribers, st->id.name, stream_now(st), &actions);
    announce(st->flow, &actions);
}

/* What was asked for is watched, as far as the upstream (ack; NULL: it tells of nothing) does not tell of it itself. False: nothing of it can be told. */
static bool begin_listening(struct stream *st, const struct cp_answer *ack)
{
    struct cp_message message;
    struct beginning b = {
        .st = st, .req = downstream_req(st->client), .message = stream_message(st, &message), .now_ms = stream_now(st)};

    if (!st->is_registered && !stream_register(st))
        return false;
    return listening_begin(&st->listening, st->flow, &message, ack, watch_one, &b);
}

/* The upstream acknowledges: the client hears it with what we add. */
static void acknowledge(struct stream *st, const struct frame *frame, const struct cp_answer *ack)
{
    struct buf *text = &st->flow->text, out = {0};
    bool is_good;

    st->phase = PHASE_OPEN;
    st->acked_ms = stream_now(st);
    if (!st->is_ours) {
        stream_write(st, frame->raw);
        stream_open(st);
        return;
    }
    if (st->is_again)
        tell_missed(st);
    /* what was only asked for makes nothing old when the stream is lost */
    coverage_narrow(st->flow, ack, &st->coverage);
    is_good = begin_listening(st, ack);
    st->goes_on_alone = is_good && listening_adds(&st->listening) && !st->listening.they_tell;
    if (st->is_again) {
        stream_flush(st);
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
            stream_write(st, buf_span(&out));
        else
            stream_write(st, frame->raw);
    } else {
        stream_write(st, frame->raw);
    }
    buf_done(&out);
    listening_done(&st->listening);
    stream_open(st);
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
    st->last_ms = stream_now(st);
}

/* Whether the upstream, which serves no such stream, was seen to let this caller in. A probe may be sent to find out: then true is told by *ret_gone, and the stream is over. */
static bool is_let_in(struct stream *st, bool *ret_gone)
{
    struct flow *flow = st->flow;
    int64_t now_ms = stream_now(st);
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
    stream_message(st, &message);
    req = downstream_take(st->client);
    req->res.headers = (h2o_headers_t){NULL, 0, 0};
    wire_request_read(req, &wire);
    caller = (struct caller){.id = st->identity};
    stream_cancel(st);
    if (probe_join(flow, req, &wire, &message, &caller, now_ms)) {
        st->client = NULL;
        st->is_told = true;
        *ret_gone = true;
        stream_finish(st);
        return false;
    }
    /* no room for a probe: as if there was no answer to it */
    st->client = NULL;
    st->is_told = true;
    *ret_gone = true;
    stream_finish(st);
    request_resume(flow, req, &(struct telling){.how = TELLING_PROBED_BADLY});
    return false;
}

/* The upstream knows no listening. True: the stream is served here, or is over. */
bool stream_listen_here(struct stream *st)
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
        stream_unregister(st);
        return false;
    }
    stream_cancel(st);
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
        stream_flush(st);
    else
        stream_open(st);
    return true;
}

/* An error in the place of an acknowledgement. True: the event was dealt with. */
static bool refuse_events(struct stream *st, const struct cp_answer *answer)
{
    if (answer->has_error && answer->error_code == -32601)
        return stream_listen_here(st);
    return false;
}

/* Its client was told at initialize that it can subscribe here, or has subscribed to what only the policy knows. */
static bool is_promised(struct stream *st)
{
    return st->session.offers != 0 || subscribers_knows(st->flow->shared->subscribers, st->id.name);
}

/* A session that waits for what is told here, and its server has no stream for it. */
bool stream_get_here(struct stream *st)
{
    bool is_gone;

    if (!st->is_ours || !st->may_tell || !is_promised(st) || !st->origin_allowed || !st->accepts_events ||
        st->identity.epochs[1] == 0)
        return false;
    if (!is_let_in(st, &is_gone))
        return is_gone;
    if (!stream_register(st))
        return false;
    stream_cancel(st);
    start_local(st);
    st->has_opened = true;
    stream_watch_lists(st);
    return true;
}
