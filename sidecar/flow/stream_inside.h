/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a stream share: its life and its client (stream.c), what its upstream's events mean and what is told without one (stream_events.c), the upstream's side
 * itself (stream_upstream.c). Not for use elsewhere. Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_STREAM_INSIDE_H
#define MCPCACHED_FLOW_STREAM_INSIDE_H

#include "sidecar/flow/listening.h"
#include "sidecar/flow/notices.h"
#include "sidecar/flow/stream.h"
#include "sidecar/wire/downstream.h"
#include "sidecar/wire/frames.h"

/* Above this much unsent the upstream is asked to wait, and nothing of ours is added. */
#define BACKLOG_MAX (256 * 1024)

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
    int retry_after_s;          /* as the upstream said */
    int64_t retry_ms, acked_ms; /* acked_ms: when the upstream acknowledged */
    int64_t began_ms, last_ms;  /* last_ms: when something was written */
    int64_t remembered_ms;      /* a session's subscriptions, in the store */
    enum cp_outcome outcome;
    enum cp_reason reason;
    int status;
    size_t content_bytes, relayed_bytes;
    size_t backlog;  /* bytes that wait to be read, as of the last write */
    bool has_untold; /* it was too much */
};

static inline int64_t stream_now(const struct stream *st)
{
    return store_now_ms(st->flow->shared->trust.store);
}

/* ---- stream.c ---- */
/* Both sides are through: it is gone. */
void stream_finish(struct stream *st);
/* The client's answer ends here; whole: as it should. */
void stream_end_client(struct stream *st, bool whole);
void stream_cancel(struct stream *st);
/* Upstream cancelled, client's answer ended, stream gone. */
void stream_kill(struct stream *st, bool whole);
void stream_raise_stamps(struct stream *st);
/* Nothing is kept for it at the subscribers any more. */
void stream_unregister(struct stream *st);
void stream_write(struct stream *st, struct span bytes);
/* What we have to say goes out, if it may now. */
void stream_flush(struct stream *st);
/* The open request as a listen, its scan in flow->request_doc; legacy: NULL. */
const struct cp_message *stream_message(struct stream *st, struct cp_message *ret);
/* Its acknowledgement is out: what changed before that is told now. */
void stream_open(struct stream *st);

/* ---- stream_events.c ---- */
/* Kept for this stream from now on. False: it cannot be. */
bool stream_register(struct stream *st);
void stream_watch_lists(struct stream *st);
bool stream_is_own_id(struct stream *st, struct span id);
void stream_on_frame(void *ctx, const struct frame *frame);
/* There will be no acknowledgement: what was kept for after it goes out. */
void stream_release_early(struct stream *st);
void stream_watch_early(struct stream *st, h2o_req_t *req, const struct cp_message *message);
/* The upstream knows no listening, or has no stream for a GET. True: the stream is served here, or is over. */
bool stream_listen_here(struct stream *st);
bool stream_get_here(struct stream *st);

/* ---- stream_upstream.c ---- */
/* The upstream is asked, with the head that the client's request has. */
void stream_ask(struct stream *st);
/* Of st->retry. */
void stream_on_retry(struct alarm *alarm);

#endif
