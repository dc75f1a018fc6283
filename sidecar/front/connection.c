/* SPDX-License-Identifier: Apache-2.0 */
/* The clients' connections of one loop. Not here: accepting them (listener.c), the rules of framing (wire/framing.c), what a refusal says (refusal.c).
 * Always: a connection that was refused is acted upon no more, though it ends a little later; silent connections and silent streams are left alone.
 * Thread: the loop. */
#include "sidecar/front/connection.h"

#include "cachepolicy/cachepolicy.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"
#include "sidecar/counts.h"
#include "sidecar/front/refusal.h"
#include "sidecar/wire/framing.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* How long a client that was told the end may take to see it, before it is cut off. */
#define LINGER_MS 2000

/* What a client has taken of its answer: any change is progress. */
struct progress {
    size_t given_bytes;   /* to the socket */
    uint64_t taken_bytes; /* acknowledged by the client's kernel */
    int queued_bytes;     /* in ours */
};

struct connection {
    struct wire_connection wire; /* first: the socket's on_close data */
    h2o_linklist_t link;
    struct connections *all;
    h2o_socket_t *sock;
    enum phase {
        PHASE_QUIET,     /* nothing to watch: no byte of a request yet, or libh2o has handed it over */
        PHASE_HEAD,      /* a part of a request's head */
        PHASE_BODY,      /* its head is clear, its body not complete */
        PHASE_WRITING,   /* bytes wait to be sent */
        PHASE_REFUSED,   /* answered past libh2o */
        PHASE_LINGERING, /* connection_linger */
    } phase;
    int64_t since_ms; /* steady; of the phase, WRITING: of the last progress */
    struct progress progress;
    void (*on_lingered)(void *arg);
    void *linger_arg;
};

static void on_tick(h2o_timeout_entry_t *entry);

void connections_init(struct connections *all, h2o_context_t *ctx, const struct connection_limits *limits,
                      void (*on_close)(struct connections *all))
{
    *all = (struct connections){.ctx = ctx, .limits = *limits, .tick = {.cb = on_tick}, .on_close = on_close};
    h2o_linklist_init_anchor(&all->list);
}

static void on_close(void *data)
{
    struct connection *c = data;
    struct connections *all = c->all;

    h2o_linklist_unlink(&c->link);
    if (--all->count == 0)
        h2o_timeout_unlink(&all->tick);
    free(c);
    all->on_close(all);
}

void connection_new(struct connections *all, h2o_socket_t *sock)
{
    struct connection *c = h2o_mem_alloc(sizeof(*c));

    *c = (struct connection){.all = all, .sock = sock};
    sock->on_close.cb = on_close;
    sock->on_close.data = &c->wire;
    h2o_linklist_insert(&all->list, &c->link);
    if (all->count++ == 0)
        h2o_timeout_link(all->ctx->loop, &all->ctx->one_sec_timeout, &all->tick);
}

static void shut(struct connection *c, int how)
{
    shutdown(h2o_socket_get_fd(c->sock), how);
}

/* Bytes that wait to be sent are dropped, and the client's end is a reset: it must not take what it has for the whole. */
static void reset(struct connection *c)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};

    if (connect(h2o_socket_get_fd(c->sock), &nobody, sizeof(nobody)) != 0)
        shut(c, SHUT_RDWR);
}

static void enter(struct connection *c, enum phase phase, int64_t now_ms)
{
    c->phase = phase;
    c->since_ms = now_ms;
}

static bool is_over(const struct connection *c, int64_t timeout_ms, int64_t now_ms)
{
    return timeout_ms != 0 && now_ms - c->since_ms >= timeout_ms;
}

static struct connection *connection_of(h2o_req_t *req)
{
    return req->conn->callbacks->get_socket(req->conn)->on_close.data;
}

static struct span input_of(const struct connection *c)
{
    return (struct span){c->sock->input->bytes, c->sock->input->size};
}

bool connection_admit(h2o_req_t *req)
{
    struct connection *c = connection_of(req);
    struct framing_head head = {.bytes = 0};
    enum framing framing;

    if (c->phase == PHASE_REFUSED) {
        /* became complete too late; nothing can be said any more */
        req->http1_is_persistent = 0;
        req->res.status = 408;
        h2o_send_inline(req, "", 0);
        return false;
    }
    c->phase = PHASE_QUIET;
    framing = framing_scan(input_of(c), &head);
    if (framing != FRAMING_CLEAR && !MUTANT("framing-unchecked")) {
        refusal_send(req, REFUSAL_FRAMING, framing_word(framing));
        return false;
    }
    if (head.bytes > c->all->limits.max_header_bytes) {
        refusal_send(req, REFUSAL_HEADER_SIZE, "complete");
        return false;
    }
    /* libh2o reads chunks leniently too (bare LF, anything behind a size), and their bytes are gone by now: whoever stands before us may have seen the body end
     * elsewhere, so nothing behind it is taken for a request */
    if (head.is_chunked && !MUTANT("chunked-kept-alive"))
        req->http1_is_persistent = 0;
    return true;
}

/* Answers, and lets the client see it; libh2o reads on meanwhile, but connection_admit lets nothing pass. */
static void refuse(struct connection *c, enum refusal refusal, const char *why, int64_t now_ms)
{
    refusal_write(c->all->ctx, c->sock, refusal, why);
    shut(c, SHUT_WR);
    enter(c, PHASE_REFUSED, now_ms);
}

static void check_head(struct connection *c, int64_t now_ms)
{
    struct framing_head head = {.bytes = 0};
    enum framing framing = framing_scan(input_of(c), &head);

    if (framing == FRAMING_INCOMPLETE) {
        if (c->sock->input->size > c->all->limits.max_header_bytes)
            refuse(c, REFUSAL_HEADER_SIZE, "incomplete", now_ms);
        else if (is_over(c, c->all->limits.header_timeout_ms, now_ms))
            refuse(c, REFUSAL_SLOW_HEADER, "header", now_ms);
    } else if (framing != FRAMING_CLEAR && !MUTANT("framing-unchecked")) {
        refuse(c, REFUSAL_FRAMING, framing_word(framing), now_ms);
    } else if (head.bytes > c->all->limits.max_header_bytes) {
        refuse(c, REFUSAL_HEADER_SIZE, "body incomplete", now_ms);
    } else {
        enter(c, PHASE_BODY, now_ms);
    }
}

static void check_reading(struct connection *c, int64_t now_ms)
{
    /* while a request is handled, libh2o reads nothing, or downstream.c waits for the client's end; a socket without input waits for a request */
    if (!h2o_socket_is_reading(c->sock) || c->wire.watched != NULL || c->sock->input->size == 0) {
        c->phase = PHASE_QUIET;
        return;
    }
    if (c->phase != PHASE_HEAD && c->phase != PHASE_BODY)
        enter(c, PHASE_HEAD, now_ms);
    if (c->phase == PHASE_HEAD)
        check_head(c, now_ms);
    else if (is_over(c, c->all->limits.body_timeout_ms, now_ms))
        refuse(c, REFUSAL_SLOW_BODY, "body", now_ms);
}

static struct progress progress_of(struct connection *c)
{
    int fd = h2o_socket_get_fd(c->sock);
    struct progress p = {.given_bytes = c->sock->bytes_written};
    struct tcp_info info = {.tcpi_bytes_acked = 0};
    socklen_t bytes = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0)
        p.taken_bytes = info.tcpi_bytes_acked;
    ioctl(fd, SIOCOUTQ, &p.queued_bytes);
    return p;
}

static void check_writing(struct connection *c, int64_t now_ms)
{
    struct progress seen = progress_of(c);

    if (c->phase != PHASE_WRITING || seen.given_bytes != c->progress.given_bytes || seen.taken_bytes != c->progress.taken_bytes ||
        seen.queued_bytes != c->progress.queued_bytes) {
        enter(c, PHASE_WRITING, now_ms);
        c->progress = seen;
    } else if (is_over(c, c->all->limits.write_timeout_ms, now_ms)) {
        struct span reason = span_of(cp_reason_word(CP_REASON_SLOW));

        counts_request(CP_OUTCOME_ERROR, CP_REASON_SLOW);
        LOG(LOG_INFO, "cut", LOG_TEXT_FIELD("reason", reason.p, reason.n), LOG_INT_FIELD("unsent", seen.queued_bytes));
        reset(c);
        c->since_ms = now_ms;
    }
}

static void end_lingering(struct connection *c)
{
    c->phase = PHASE_QUIET;
    h2o_socket_read_stop(c->sock);
    c->on_lingered(c->linger_arg);
}

static void on_dropped(h2o_socket_t *sock, const char *err)
{
    if (err != NULL)
        end_lingering(sock->on_close.data);
    else
        h2o_buffer_consume(&sock->input, sock->input->size);
}

void connection_linger(h2o_req_t *req, void (*fn)(void *arg), void *arg)
{
    struct connection *c = connection_of(req);

    c->on_lingered = fn;
    c->linger_arg = arg;
    enter(c, PHASE_LINGERING, clock_steady_ms());
    if (c->sock->ssl == NULL)
        shut(c, SHUT_WR);
    h2o_socket_read_start(c->sock, on_dropped);
}

static void check(struct connection *c, int64_t now_ms)
{
    if (c->phase == PHASE_LINGERING) {
        if (is_over(c, LINGER_MS, now_ms))
            end_lingering(c);
    } else if (c->phase == PHASE_REFUSED) {
        if (is_over(c, LINGER_MS, now_ms))
            shut(c, SHUT_RDWR);
    } else if (h2o_socket_is_writing(c->sock)) {
        check_writing(c, now_ms);
    } else {
        check_reading(c, now_ms);
    }
}

static void on_tick(h2o_timeout_entry_t *entry)
{
    struct connections *all = H2O_STRUCT_FROM_MEMBER(struct connections, tick, entry);
    int64_t now_ms = clock_steady_ms();

    for (h2o_linklist_t *l = all->list.next, *next; l != &all->list && !MUTANT("slow-forever"); l = next) {
        next = l->next;
        check(H2O_STRUCT_FROM_MEMBER(struct connection, link, l), now_ms);
    }
    if (all->count != 0)
        h2o_timeout_link(all->ctx->loop, &all->ctx->one_sec_timeout, &all->tick);
}

void connections_shut(struct connections *all)
{
    for (h2o_linklist_t *l = all->list.next; l != &all->list; l = l->next)
        shut(H2O_STRUCT_FROM_MEMBER(struct connection, link, l), SHUT_RDWR);
}

bool connections_is_any_writing(const struct connections *all)
{
    for (h2o_linklist_t *l = all->list.next; l != &all->list; l = l->next)
        if (h2o_socket_is_writing(H2O_STRUCT_FROM_MEMBER(struct connection, link, l)->sock))
            return true;
    return false;
}
