/* SPDX-License-Identifier: Apache-2.0 */
/* A stream's upstream: asked, heard, lost and sought again. Thread: the flow's loop. */
#include "sidecar/flow/stream_inside.h"

#include "sidecar/flow/announce.h"
#include "sidecar/wire/reply.h"

#include <stdatomic.h>

/* A refusal that is read before it is relayed. */
#define REFUSAL_MAX (64 * 1024)
/* Between two tries to find another upstream stream, doubling. */
#define RETRY_FIRST_MS 250
#define RETRY_MAX_MS   (30 * 1000)

/* ---- the upstream's side -------------------------------------------------------------------------------------------------------- */

void stream_on_retry(struct alarm *alarm)
{
    struct stream *st = H2O_STRUCT_FROM_MEMBER(struct stream, retry, alarm);

    stream_ask(st);
}

/* A while, and another one: longer each time, and not the same for all. */
static void retry_later(struct stream *st)
{
    int64_t spread_ms, wait_ms = st->retry_ms != 0 ? st->retry_ms : RETRY_FIRST_MS;

    if (wait_ms < (int64_t)st->retry_after_s * 1000)
        wait_ms = (int64_t)st->retry_after_s * 1000;
    st->retry_after_s = 0;
    st->phase = PHASE_RETRY;
    buf_done(&st->refusal);
    st->retry_ms = wait_ms * 2 < RETRY_MAX_MS ? wait_ms * 2 : RETRY_MAX_MS;
    frames_done(&st->frames);
    st->frames = (struct frames){0};
    /* thousands may have been lost together */
    spread_ms = wait_ms / 2 + (int64_t)atomic_load_explicit(st->flow->shared->open_streams, memory_order_relaxed);
    alarm_set(&st->flow->alarms, &st->retry, (uint64_t)(wait_ms + h2o_rand() % (spread_ms + 1)));
}

/* The upstream's stream is lost. True: the client's goes on without it. */
static bool survive(struct stream *st)
{
    if (!st->is_listen || !st->is_ours || !st->has_opened || st->client == NULL || !st->is_registered ||
        !frames_is_between(&st->frames) || MUTANT("listen-cut-by-loss"))
        return false;
    /* one that ends all its streams early is not asked for another one, and all that is subscribed to is not told, again and again at once */
    if (st->phase == PHASE_OPEN && stream_now(st) - st->acked_ms >= RETRY_MAX_MS)
        st->retry_ms = 0;
    st->is_again = true;
    retry_later(st);
    stream_flush(st);
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
                    stream_now(st));
    announce_ends(st->flow, &st->identity, st->status, false);
}

/* Another stream instead of the one that was lost; its head is not relayed. */
static void on_head_again(struct stream *st, const struct wire_reply_facts *facts)
{
    if (st->status == 401 || st->status == 403) {
        stream_kill(st, false);
    } else if (st->status == 200 && facts->reply.is_events && !facts->reply.is_encoded) {
        st->phase = PHASE_ACK;
    } else if (st->status == 404) {
        st->status = 200;
        if (!stream_listen_here(st))
            stream_kill(st, false);
    } else if (facts->reply.is_json && !facts->reply.is_encoded) {
        st->status = 200;
        st->phase = PHASE_HELD;
    } else {
        st->status = 200;
        stream_cancel(st);
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
    stream_raise_stamps(st);
    if (st->client == NULL)
        return;
    if (st->is_again) {
        if (head->status == 429 || head->status == 503)
            st->retry_after_s = exchange_retry_after(head);
        on_head_again(st, &facts);
        return;
    }
    is_events = head->status == 200 && head->has_body && facts.reply.is_events && !facts.reply.is_encoded;
    if (head->status == 405 && !st->is_listen && stream_get_here(st))
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
        stream_unregister(st);
    /* what is told in between makes it longer */
    downstream_start(st->client, is_events && st->is_ours ? SIZE_MAX : head->content_bytes);
    st->last_ms = stream_now(st);
    if (st->phase != PHASE_OPEN)
        return;
    st->has_opened = true;
    if (st->is_ours && st->identity.epochs[1] != 0 && stream_register(st))
        stream_watch_lists(st);
}

/* What was held goes out as it came. */
static void release(struct stream *st, size_t content_bytes)
{
    stream_unregister(st);
    st->phase = PHASE_RELAY;
    downstream_start(st->client, content_bytes);
    stream_write(st, buf_span(&st->refusal));
    buf_done(&st->refusal);
}

static void on_body(void *data, struct span bytes)
{
    struct stream *st = data;

    stream_raise_stamps(st);
    switch (st->phase) {
    case PHASE_RELAY:
        stream_write(st, bytes);
        break;
    case PHASE_HELD:
        if (buf_add_span(&st->refusal, bytes) != 0)
            h2o_fatal("no memory");
        if (st->refusal.n <= REFUSAL_MAX)
            break;
        if (st->is_again) {
            stream_cancel(st);
            retry_later(st);
        } else {
            release(st, st->content_bytes);
        }
        break;
    case PHASE_ACK:
    case PHASE_OPEN:
        if (frames_feed(&st->frames, bytes, stream_on_frame, st) != 0)
            h2o_fatal("no memory");
        if (st->phase == PHASE_LOCAL) {
            stream_cancel(st);
            frames_done(&st->frames);
            stream_flush(st);
        }
        /* a large event that ended is over only now */
        stream_flush(st);
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
    stream_raise_stamps(st);
    if (!st->has_head && !st->is_again) {
        answer_error(st, how);
        stream_finish(st);
        return;
    }
    if (st->phase == PHASE_HELD && is_whole && do_without(st) && stream_listen_here(st))
        return;
    if (st->phase == PHASE_HELD && st->is_again) {
        if (!is_whole || !do_without(st)) {
            retry_later(st);
            return;
        }
        stream_kill(st, false);
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
        stream_release_early(st);
        stream_write(st, frames_rest(&st->frames));
    }
    stream_end_client(st, is_whole && !(st->is_again && !st->saw_end));
    stream_finish(st);
}

static const struct upstream_callbacks callbacks = {on_head, on_body, on_end};

/* The upstream asked, with the head that the client's request has. */
void stream_ask(struct stream *st)
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
