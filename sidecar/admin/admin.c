/* SPDX-License-Identifier: Apache-2.0 */
/* The admin listener: its socket, its loop, and the table of what it answers. Not here: who is let in (gate.c), what a path does.
 * Always: nothing is done for a request that did not pass the gate; connections are few, and one that sends no request ends (libh2o's request timeout).
 * HTTP/1.1 only, as in front/. */
#include "sidecar/admin/admin.h"

#include "sidecar/admin/answer.h"
#include "sidecar/admin/gate.h"
#include "sidecar/admin/place.h"
#include "sidecar/admin/purge_api.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"
#include "sidecar/wire/framing.h"
#include "sidecar/wire/headers.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define CONNECTIONS_MAX    64
#define BODY_BYTES_MAX     (64 * 1024)
#define REQUEST_TIMEOUT_MS 10000

/* libh2o answers what is larger than this by itself, in plain text, and may cut the answer off; up to here a body is read and then refused in our words. */
#define BODY_BYTES_READ (1024 * 1024)

struct connection {
    h2o_linklist_t link;
    struct admin *admin;
    h2o_socket_t *sock;
};

struct admin {
    struct place place;
    struct gate gate;
    struct stat made; /* of a Unix socket's file */
    char address[160];
    const struct trust_shared *trust;
    h2o_globalconf_t config;
    pthread_t thread;
    bool is_started;
    atomic_bool is_ready;
    /* loop */
    int fd; /* -1: the loop's socket has it */
    h2o_context_t ctx;
    h2o_accept_ctx_t accept_ctx;
    h2o_socket_t *socket;
    h2o_linklist_t connections;
    size_t connection_count;
    h2o_timeout_entry_t accept_pause;
    h2o_multithread_receiver_t stop_receiver;
    h2o_multithread_message_t stop_message;
    bool is_accepting, is_stopping;
    struct purge_api *purge_api;
    int64_t refusal_logged_ms;
    int64_t refusals_unlogged;
};

/* ---- what it answers ---- */

static void on_purge(struct admin *admin, h2o_req_t *req)
{
    purge_api_handle(admin->purge_api, req);
}

static void on_livez(struct admin *admin, h2o_req_t *req)
{
    (void)admin;
    answer_send(req, 200, "text/plain; charset=utf-8", SPAN("ok\n"));
}

static const struct route {
    const char *path;
    const char *method; /* GET: HEAD, too */
    void (*handle)(struct admin *admin, h2o_req_t *req);
} routes[] = {
    {"/purge", "POST", on_purge},
    {"/livez", "GET", on_livez},
};

#define ROUTE_COUNT (sizeof(routes) / sizeof(routes[0]))

static struct span span_iov(h2o_iovec_t v)
{
    return (struct span){v.base, v.len};
}

static bool is_method(const struct route *route, struct span method)
{
    return span_eq(method, span_of(route->method)) || (strcmp(route->method, "GET") == 0 && span_eq(method, SPAN("HEAD")));
}

static const struct route *find_route(h2o_req_t *req)
{
    struct span path = {req->input.path.base, req->input.query_at != SIZE_MAX ? req->input.query_at : req->input.path.len};

    for (size_t i = 0; i != ROUTE_COUNT; ++i)
        if (span_eq(path, span_of(routes[i].path)))
            return &routes[i];
    return NULL;
}

/* ---- who is sent away ---- */

static void refuse(struct admin *admin, h2o_req_t *req, int status, const char *why, const char *sentence)
{
    int64_t now_ms = clock_steady_ms();

    /* whoever knocks without end must not fill the log */
    if (admin->refusal_logged_ms == 0 || now_ms - admin->refusal_logged_ms >= 1000) {
        LOG(LOG_WARN, "admin-refused", LOG_TEXT_FIELD("why", why, strlen(why)), LOG_INT_FIELD("status", status),
            (struct log_field){.key = admin->refusals_unlogged != 0 ? "unlogged" : NULL, .number = admin->refusals_unlogged});
        admin->refusal_logged_ms = now_ms;
        admin->refusals_unlogged = 0;
    } else {
        ++admin->refusals_unlogged;
    }
    answer_error(req, status, sentence);
}

/* Whether the request may be acted upon; answered otherwise. */
static bool admit(struct admin *admin, h2o_req_t *req)
{
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    struct framing_head head = {.bytes = 0};
    struct wire_request wire;
    struct gate_headers headers;

    /* at this moment the socket's input still begins with the request's own head (front/connection.h) */
    if (framing_scan((struct span){sock->input->bytes, sock->input->size}, &head) != FRAMING_CLEAR) {
        req->http1_is_persistent = 0;
        refuse(admin, req, 400, "framing", "this HTTP request can be read in more than one way");
        return false;
    }
    if (head.is_chunked)
        req->http1_is_persistent = 0;
    wire_request_read(req, &wire);
    headers = (struct gate_headers){
        .host = wire.authority, .has_origin = wire.origin.p != NULL, .authorization = wire_header(req, SPAN("authorization"))};
    switch (gate_check(&admin->gate, &headers)) {
    case GATE_OPEN:
        break;
    case GATE_HOST:
        refuse(admin, req, 403, "host", "the Host of this request is not this machine; use localhost or a loopback address");
        return false;
    case GATE_ORIGIN:
        refuse(admin, req, 403, "origin", "requests of web pages (with an Origin header) are not answered here");
        return false;
    case GATE_TOKEN:
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_WWW_AUTHENTICATE, NULL, H2O_STRLIT("Bearer"));
        refuse(admin, req, 401, "token", "this needs Authorization: Bearer with the token of --admin-token-file");
        return false;
    }
    if (req->entity.len > BODY_BYTES_MAX) {
        refuse(admin, req, 413, "body-size", "the body is larger than 64 KiB");
        return false;
    }
    return true;
}

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct admin *admin = H2O_STRUCT_FROM_MEMBER(struct admin, ctx, req->conn->ctx);
    const struct route *route;

    (void)self;
    if (!admit(admin, req))
        return 0;
    if ((route = find_route(req)) == NULL) {
        answer_error(req, 404, "there is nothing at this path; POST /purge purges, GET /livez answers while the process runs");
    } else if (!is_method(route, span_iov(req->input.method))) {
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("allow"), 0, NULL, route->method, strlen(route->method));
        answer_error(req, 405, strcmp(route->method, "POST") == 0 ? "this path takes POST" : "this path takes GET");
    } else {
        route->handle(admin, req);
    }
    return 0;
}

/* ---- connections ---- */

static void on_accept(h2o_socket_t *listening, const char *err);

static void set_accepting(struct admin *admin, bool wanted)
{
    if (admin->socket == NULL || admin->is_accepting == wanted)
        return;
    admin->is_accepting = wanted;
    if (wanted)
        h2o_socket_read_start(admin->socket, on_accept);
    else
        h2o_socket_read_stop(admin->socket);
}

static void on_connection_close(void *data)
{
    struct connection *c = data;
    struct admin *admin = c->admin;

    h2o_linklist_unlink(&c->link);
    --admin->connection_count;
    free(c);
    if (!admin->is_stopping)
        set_accepting(admin, true);
}

static void on_accept_pause_over(h2o_timeout_entry_t *entry)
{
    struct admin *admin = H2O_STRUCT_FROM_MEMBER(struct admin, accept_pause, entry);

    if (!admin->is_stopping && admin->connection_count < CONNECTIONS_MAX)
        set_accepting(admin, true);
}

static void on_accept(h2o_socket_t *listening, const char *err)
{
    struct admin *admin = listening->data;
    h2o_socket_t *sock;
    struct connection *c;

    if (err != NULL)
        return;
    errno = 0;
    if ((sock = h2o_evloop_socket_accept(listening)) == NULL) {
        /* the listening socket stays readable while nothing can be accepted: a pause instead of a spin */
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            set_accepting(admin, false);
            if (!h2o_timeout_is_linked(&admin->accept_pause))
                h2o_timeout_link(admin->ctx.loop, &admin->ctx.hundred_ms_timeout, &admin->accept_pause);
        }
        return;
    }
    c = h2o_mem_alloc(sizeof(*c));
    *c = (struct connection){.admin = admin, .sock = sock};
    h2o_linklist_insert(&admin->connections, &c->link);
    sock->on_close.cb = on_connection_close;
    sock->on_close.data = c;
    if (++admin->connection_count >= CONNECTIONS_MAX)
        set_accepting(admin, false);
    h2o_accept(&admin->accept_ctx, sock);
}

static bool is_any_writing(const struct admin *admin)
{
    for (h2o_linklist_t *l = admin->connections.next; l != &admin->connections; l = l->next)
        if (h2o_socket_is_writing(H2O_STRUCT_FROM_MEMBER(struct connection, link, l)->sock))
            return true;
    return false;
}

/* ---- the loop ---- */

static void on_stop_message(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    struct admin *admin = H2O_STRUCT_FROM_MEMBER(struct admin, stop_receiver, receiver);

    if (h2o_linklist_is_empty(messages))
        return;
    h2o_linklist_unlink(messages->next);
    admin->is_stopping = true;
    h2o_timeout_unlink(&admin->accept_pause);
    set_accepting(admin, false);
    h2o_socket_close(admin->socket);
    admin->socket = NULL;
    admin->ctx.shutdown_requested = 1;
}

static void *run(void *arg)
{
    struct admin *admin = arg;
    int64_t deadline_ms;

    admin->socket = h2o_evloop_socket_create(admin->ctx.loop, admin->fd, H2O_SOCKET_FLAG_DONT_READ);
    admin->fd = -1;
    admin->socket->data = admin;
    set_accepting(admin, true);
    atomic_store(&admin->is_ready, true);
    while (!admin->is_stopping)
        h2o_evloop_run(admin->ctx.loop, INT32_MAX);
    while (purge_api_pending(admin->purge_api) != 0)
        h2o_evloop_run(admin->ctx.loop, 50);
    deadline_ms = clock_steady_ms() + 1000;
    while (is_any_writing(admin) && clock_steady_ms() < deadline_ms)
        h2o_evloop_run(admin->ctx.loop, 10);
    /* requests that had already arrived may be begun meanwhile: no connection ends before its purge is answered */
    for (int i = 0; i != 100 && admin->connection_count != 0; ++i) {
        if (purge_api_pending(admin->purge_api) == 0)
            for (h2o_linklist_t *l = admin->connections.next; l != &admin->connections; l = l->next)
                shutdown(h2o_socket_get_fd(H2O_STRUCT_FROM_MEMBER(struct connection, link, l)->sock), SHUT_RDWR);
        h2o_evloop_run(admin->ctx.loop, 10);
    }
    while (purge_api_pending(admin->purge_api) != 0)
        h2o_evloop_run(admin->ctx.loop, 50);
    return NULL;
}

/* ---- beginning and end ---- */

static int check_options(const struct admin_options *options, const struct place *place, struct cp_error *reterr)
{
    if (place->is_unix || *options->token_file != '\0')
        return 0;
    if (place->is_loopback)
        cp_error_set(
            reterr, "", 0, 0,
            "--admin '%.80s': every process of this machine, or of this pod, could purge there; add --admin-token-file FILE, or "
            "use a Unix socket (--admin unix:/PATH)",
            options->address);
    else
        cp_error_set(
            reterr, "", 0, 0,
            "--admin '%.80s' can be reached from other machines, and anybody there could purge; add --admin-token-file FILE",
            options->address);
    return -EINVAL;
}

static int read_gate(const struct admin_options *options, const struct place *place, struct gate *ret, struct cp_error *reterr)
{
    char token[GATE_TOKEN_MAX + 1];
    int r;

    *ret = (struct gate){.is_local = place->is_loopback};
    if (*options->token_file == '\0')
        return 0;
    if ((r = gate_read_token(options->token_file, "--admin-token-file", token, reterr)) != 0)
        return r;
    gate_set_token(ret, token);
    OPENSSL_cleanse(token, sizeof(token));
    return 0;
}

static void configure(h2o_globalconf_t *config)
{
    h2o_hostconf_t *host;

    h2o_config_init(config);
    config->server_name = h2o_iovec_init(H2O_STRLIT(""));
    config->max_request_entity_size = BODY_BYTES_READ;
    config->http1.req_timeout = REQUEST_TIMEOUT_MS;
    config->http1.upgrade_to_http2 = 0;
    host = h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_create_handler(h2o_config_register_path(host, "/", 0), sizeof(h2o_handler_t))->on_req = on_request;
    /* a path that libh2o cannot place, like "*" */
    h2o_create_handler(&host->fallback_path, sizeof(h2o_handler_t))->on_req = on_request;
}

int admin_new(const struct admin_options *options, struct admin **ret, struct cp_error *reterr)
{
    struct place place;
    struct gate gate;
    struct admin *admin;
    int r, fd;

    if ((r = place_parse(options->address, "--admin", &place, reterr)) != 0 || (r = check_options(options, &place, reterr)) != 0 ||
        (r = read_gate(options, &place, &gate, reterr)) != 0)
        return r;
    if ((fd = place_listen(&place, options->address, reterr)) < 0)
        return fd;
    admin = h2o_mem_alloc(sizeof(*admin));
    memset(admin, 0, sizeof(*admin));
    admin->place = place;
    admin->gate = gate;
    admin->fd = fd;
    admin->trust = options->trust;
    admin->accept_pause.cb = on_accept_pause_over;
    h2o_linklist_init_anchor(&admin->connections);
    if (place.is_unix)
        lstat(place.address.unix_path.sun_path, &admin->made);
    place_format(fd, admin->address, sizeof(admin->address));
    configure(&admin->config);
    *ret = admin;
    return 0;
}

const char *admin_address(const struct admin *admin)
{
    return admin->address;
}

int admin_start(struct admin *admin)
{
    int r;

    h2o_context_init(&admin->ctx, h2o_evloop_create(), &admin->config);
    admin->accept_ctx.ctx = &admin->ctx;
    admin->accept_ctx.hosts = admin->config.hosts;
    h2o_multithread_register_receiver(admin->ctx.queue, &admin->stop_receiver, on_stop_message);
    if ((r = purge_api_new(admin->trust, &admin->ctx, &admin->purge_api)) == 0 &&
        (r = -pthread_create(&admin->thread, NULL, run, admin)) == 0)
        admin->is_started = true;
    if (r != 0) {
        purge_api_free(admin->purge_api);
        h2o_multithread_unregister_receiver(admin->ctx.queue, &admin->stop_receiver);
        h2o_context_dispose(&admin->ctx);
        return r;
    }
    /* a stop sent now must find a loop that listens */
    while (!atomic_load(&admin->is_ready))
        usleep(200);
    return 0;
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL || !admin->is_started)
        return;
    h2o_multithread_send_message(&admin->stop_receiver, &admin->stop_message);
    pthread_join(admin->thread, NULL);
    place_remove(&admin->place, &admin->made);
}

void admin_free(struct admin *admin)
{
    if (admin == NULL)
        return;
    if (admin->is_started) {
        purge_api_free(admin->purge_api);
        h2o_multithread_unregister_receiver(admin->ctx.queue, &admin->stop_receiver);
        /* a loop whose connections would not end keeps its context: its memory is still referenced */
        if (admin->connection_count == 0) {
            h2o_loop_t *evloop = admin->ctx.loop;

            h2o_context_dispose(&admin->ctx);
            /* closed sockets are freed by the next turn */
            h2o_evloop_run(evloop, 0);
        }
    } else if (admin->fd >= 0) {
        close(admin->fd);
        place_remove(&admin->place, &admin->made);
    }
    h2o_config_dispose(&admin->config);
    free(admin);
}
