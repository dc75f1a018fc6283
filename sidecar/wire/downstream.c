/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of one exchange. Not here: what is sent (reply.c, flow), how connections are accepted (front/listener.c).
 * Always: one h2o_send is in flight at most; owner is NULL as soon as the answer is ended, aborted or the client gone; a cut
 * answer ends in a closed connection without the terminating chunk, in a reset one where the connection's end would stand for the body's.
 * libh2o's chunked filter is not used (front/listener.c removes it): it cannot flush a head before the first body byte and closes the
 * connection for every status but 200, so chunks are framed here. Thread: the request's loop. */
#include "sidecar/wire/downstream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

struct downstream {
    h2o_generator_t generator; /* first: h2o hands it back */
    h2o_req_t *req;
    void *owner; /* NULL: nobody wants to hear anything any more */
    downstream_fn on_gone, on_drained;
    struct buf pending;                     /* not yet handed to h2o */
    struct buf flying;                      /* being written */
    char frame[24];                         /* head of the chunk in flight */
    char date[H2O_TIMESTR_RFC1123_LEN + 1]; /* the upstream's; empty: h2o's own */
    h2o_timeout_entry_t check;              /* linked while bytes of the next request hide the connection's end */
    bool started, is_chunked, is_until_close, writing, ending, aborting, watching;
};

static h2o_socket_t *socket_of(struct downstream *d)
{
    return d->req->conn->callbacks->get_socket(d->req->conn);
}

static void unwatch(struct downstream *d)
{
    h2o_socket_t *sock;

    h2o_timeout_unlink(&d->check);
    if (!d->watching)
        return;
    d->watching = false;
    sock = socket_of(d);
    ((struct wire_connection *)sock->on_close.data)->watched = NULL;
    h2o_socket_read_stop(sock);
    h2o_socket_dont_read(sock, 0);
}

static void tell_gone(struct downstream *d)
{
    void *owner = d->owner;

    d->owner = NULL;
    if (owner != NULL)
        d->on_gone(owner);
}

/* h2o drops the request: its connection died or was closed. The socket may be gone already. */
static void on_dispose(void *arg)
{
    struct downstream *d = arg;

    h2o_timeout_unlink(&d->check);
    tell_gone(d);
    buf_done(&d->pending);
    buf_done(&d->flying);
}

static void on_stop(h2o_generator_t *generator, h2o_req_t *req)
{
    struct downstream *d = (struct downstream *)generator;

    (void)req;
    unwatch(d);
    tell_gone(d);
}

/* Cuts the connection: an h2o error state without any byte that would make the answer look whole. d may be freed on return. */
static void send_error(struct downstream *d)
{
    h2o_req_t *req = d->req;

    if (!d->started) {
        d->started = true;
        req->res.status = 502;
        req->res.reason = "Bad Gateway";
        h2o_start_response(req, &d->generator);
    }
    h2o_send(req, NULL, 0, H2O_SEND_STATE_ERROR);
}

/* Hands what is pending to h2o, and the end with it when the answer is ending. d may be freed on return when ending. */
static void flush(struct downstream *d)
{
    h2o_iovec_t bufs[3];
    size_t count = 0;
    struct buf swap = d->flying;

    d->flying = d->pending;
    d->pending = swap;
    d->pending.n = 0;
    if (d->flying.n != 0) {
        if (d->is_chunked)
            bufs[count++] = h2o_iovec_init(d->frame, (size_t)sprintf(d->frame, "%zx\r\n", d->flying.n));
        bufs[count++] = h2o_iovec_init(d->flying.p, d->flying.n);
    }
    if (d->is_chunked) {
        if (d->ending)
            bufs[count++] =
                d->flying.n != 0 ? h2o_iovec_init(H2O_STRLIT("\r\n0\r\n\r\n")) : h2o_iovec_init(H2O_STRLIT("0\r\n\r\n"));
        else if (d->flying.n != 0)
            bufs[count++] = h2o_iovec_init(H2O_STRLIT("\r\n"));
    }
    if (d->ending)
        unwatch(d);
    else
        d->writing = true;
    h2o_send(d->req, bufs, count, d->ending ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct downstream *d = (struct downstream *)generator;

    (void)req;
    d->writing = false;
    d->flying.n = 0;
    if (d->aborting) {
        send_error(d);
    } else if (d->pending.n != 0 || d->ending) {
        flush(d);
    } else {
        /* it may be silent for hours */
        buf_done(&d->pending);
        buf_done(&d->flying);
        if (d->owner != NULL)
            d->on_drained(d->owner);
    }
}

static void on_check(h2o_timeout_entry_t *entry);

struct downstream *downstream_new(h2o_req_t *req, void *owner, downstream_fn on_gone, downstream_fn on_drained)
{
    struct downstream *d = h2o_mem_alloc_shared(&req->pool, sizeof(*d), on_dispose);

    *d = (struct downstream){
        .generator = {on_proceed, on_stop},
        .req = req,
        .owner = owner,
        .on_gone = on_gone,
        .on_drained = on_drained,
        .check = {.cb = on_check},
    };
    return d;
}

h2o_req_t *downstream_req(struct downstream *d)
{
    return d->req;
}

h2o_req_t *downstream_take(struct downstream *d)
{
    unwatch(d);
    d->owner = NULL;
    return d->req;
}

/* The answer ends here, unfinished. d may be freed on return. */
static void cut(struct downstream *d)
{
    int fd = h2o_socket_get_fd(socket_of(d));
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};

    unwatch(d);
    d->req->http1_is_persistent = 0;
    /* where the connection's end is the body's end, only a reset (what disconnecting from the peer sends) says that there should have been more */
    if (!d->is_until_close || connect(fd, &nobody, sizeof(nobody)) != 0)
        shutdown(fd, SHUT_RDWR);
    /* while a write is in flight h2o still reads our buffers; its completion, certain after that, goes on with the end */
    if (d->writing)
        d->aborting = true;
    else
        send_error(d);
}

/* The client left. d may be freed on return. */
static void leave(struct downstream *d)
{
    downstream_fn on_gone = d->on_gone;
    void *owner = d->owner;

    d->owner = NULL;
    cut(d);
    if (owner != NULL)
        on_gone(owner);
}

static void check_later(struct downstream *d)
{
    h2o_context_t *ctx = d->req->conn->ctx;

    h2o_timeout_link(ctx->loop, &ctx->one_sec_timeout, &d->check);
}

static void on_check(h2o_timeout_entry_t *entry)
{
    struct downstream *d = H2O_STRUCT_FROM_MEMBER(struct downstream, check, entry);
    struct tcp_info info;
    socklen_t bytes = sizeof(info);

    if (getsockopt(h2o_socket_get_fd(socket_of(d)), IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0 ||
        info.tcpi_state == TCP_ESTABLISHED)
        check_later(d);
    else
        leave(d);
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    struct wire_connection *connection = sock->on_close.data;
    struct downstream *d = connection->watched;

    if (d == NULL) {
        h2o_socket_read_stop(sock);
        h2o_socket_dont_read(sock, 0);
        return;
    }
    if (err == NULL) {
        char byte;
        ssize_t n = recv(h2o_socket_get_fd(sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT);

        if (n > 0) {
            /* the next request is already there: readiness tells no more, but the client can still leave */
            unwatch(d);
            check_later(d);
            return;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
    }
    leave(d);
}

void downstream_watch(struct downstream *d)
{
    h2o_socket_t *sock = socket_of(d);
    struct wire_connection *connection = sock->on_close.data;

    if (connection->is_tls || d->watching)
        return;
    connection->watched = d;
    d->watching = true;
    h2o_socket_dont_read(sock, 1);
    h2o_socket_read_start(sock, on_readable);
}

void downstream_set_date(struct downstream *d, struct span date)
{
    if (date.n == H2O_TIMESTR_RFC1123_LEN)
        memcpy(d->date, date.p, date.n);
}

/* Starts the answer; its head goes out within. h2o writes Date from the context's cached clock text and from nowhere else, so the upstream's is
 * lent to that cache while the head is flattened. */
static void send_head(struct downstream *d)
{
    h2o_req_t *req = d->req;
    h2o_context_t *ctx = req->conn->ctx;
    char *text, own[sizeof(d->date)];
    h2o_timestamp_t now;

    h2o_start_response(req, &d->generator);
    if (d->date[0] == '\0') {
        flush(d);
        return;
    }
    /* refreshes the cache for this turn of the loop, and keeps its text alive: d may be gone after an ending flush */
    h2o_get_timestamp(ctx, &req->pool, &now);
    h2o_mem_addref_shared(now.str);
    text = now.str->rfc1123;
    memcpy(own, text, sizeof(own));
    memcpy(text, d->date, sizeof(own));
    flush(d);
    memcpy(text, own, sizeof(own));
    h2o_mem_release_shared(now.str);
}

void downstream_start(struct downstream *d, size_t content_bytes)
{
    h2o_req_t *req = d->req;

    d->started = true;
    req->res.content_length = content_bytes;
    if (content_bytes == SIZE_MAX) {
        if (req->version == 0x101) {
            d->is_chunked = true;
            h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_TRANSFER_ENCODING, NULL, H2O_STRLIT("chunked"));
        } else {
            d->is_until_close = true;
            req->http1_is_persistent = 0;
        }
    }
    send_head(d);
}

void downstream_start_bodyless(struct downstream *d, size_t content_bytes)
{
    d->started = true;
    d->ending = true;
    d->owner = NULL;
    d->req->res.content_length = content_bytes;
    send_head(d);
}

size_t downstream_write(struct downstream *d, struct span bytes)
{
    if (buf_add_span(&d->pending, bytes) != 0)
        h2o_fatal("no memory");
    if (!d->writing)
        flush(d);
    return d->pending.n + d->flying.n;
}

void downstream_end(struct downstream *d)
{
    d->owner = NULL;
    d->ending = true;
    if (!d->writing)
        flush(d);
}

void downstream_abort(struct downstream *d)
{
    d->owner = NULL;
    cut(d);
}
