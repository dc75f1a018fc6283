/* SPDX-License-Identifier: Apache-2.0 */
/* Loops and their listening sockets. Not here: what a request means (flow/request.c), connections once they are accepted (connection.c).
 * Always: each loop owns its listening socket (SO_REUSEPORT), its connections and its flow; a loop hears of the end through its own receiver; the connection cap lies
 * below the descriptor limit, because libh2o spins when accept fails for want of descriptors. */
#include "sidecar/front/listener.h"

#include "sidecar/base/log.h"
#include "sidecar/flow/request.h"
#include "sidecar/front/refusal.h"
#include "sidecar/wire/reply.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* A method longer than any that exists is no method. */
#define METHOD_MAX 32

#define HEADER_BYTES_MIN 512

struct loop {
    struct listener *listener;
    pthread_t thread;
    bool is_started;
    h2o_context_t ctx;
    h2o_accept_ctx_t accept_ctx;
    h2o_socket_t *socket; /* NULL: closed */
    int fd;
    bool is_accepting;
    h2o_timeout_entry_t accept_pause;
    struct flow *flow;
    struct connections connections;
    h2o_multithread_receiver_t stop_receiver;
    bool is_stopping;
    int64_t stop_deadline_ms;
    atomic_bool is_ready;
};

struct stop_message {
    h2o_multithread_message_t super;
    int64_t drain_ms;
};

struct listener {
    struct listener_options options;
    char address[96];
    h2o_globalconf_t config;
    h2o_hostconf_t *host;
    h2o_pathconf_t *path;
    size_t filters_size;
    size_t connections_max, detached_max; /* per loop */
    struct loop *loops;
};

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, ctx, req->conn->ctx);

    (void)self;
    if (!connection_admit(req))
        return 0;
    if (req->input.method.len > METHOD_MAX) {
        req->http1_is_persistent = 0;
        reply_error_send(req, &(struct reply_error){.status = 501, .text = "this HTTP method is not known\n"});
        return 0;
    }
    request_handle(loop->flow, req);
    return 0;
}

/* A path that libh2o cannot place, like "*". It is handled as any other; what stays on the path where it came in are libh2o's own errors. */
static int on_unplaced_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, ctx, req->conn->ctx);

    h2o_req_bind_conf(req, loop->listener->host, loop->listener->path);
    return on_request(self, req);
}

static void on_accept(h2o_socket_t *listening, const char *err);

static void set_accepting(struct loop *loop, bool wanted)
{
    if (loop->socket == NULL || loop->is_accepting == wanted)
        return;
    loop->is_accepting = wanted;
    if (wanted)
        h2o_socket_read_start(loop->socket, on_accept);
    else
        h2o_socket_read_stop(loop->socket);
}

static void on_connection_close(struct connections *all)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, connections, all);

    if (!loop->is_stopping)
        set_accepting(loop, true);
}

static void on_accept_pause_over(h2o_timeout_entry_t *entry)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, accept_pause, entry);

    if (!loop->is_stopping && loop->connections.count < loop->listener->connections_max)
        set_accepting(loop, true);
}

static void on_accept(h2o_socket_t *listening, const char *err)
{
    struct loop *loop = listening->data;
    h2o_socket_t *sock;

    if (err != NULL)
        return;
    errno = 0;
    if ((sock = h2o_evloop_socket_accept(listening)) == NULL) {
        /* the listening socket stays readable while nothing can be accepted: a pause instead of a spin */
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            set_accepting(loop, false);
            if (!h2o_timeout_is_linked(&loop->accept_pause))
                h2o_timeout_link(loop->ctx.loop, &loop->ctx.hundred_ms_timeout, &loop->accept_pause);
        }
        return;
    }
    connection_new(&loop->connections, sock);
    if (loop->connections.count >= loop->listener->connections_max)
        set_accepting(loop, false);
    h2o_accept(&loop->accept_ctx, sock);
}

static void on_stop_message(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, stop_receiver, receiver);

    while (!h2o_linklist_is_empty(messages)) {
        struct stop_message *m = H2O_STRUCT_FROM_MEMBER(struct stop_message, super.link, messages->next);

        h2o_linklist_unlink(&m->super.link);
        loop->is_stopping = true;
        loop->stop_deadline_ms = (int64_t)h2o_now(loop->ctx.loop) + m->drain_ms;
        free(m);
    }
    h2o_timeout_unlink(&loop->accept_pause);
    if (loop->socket != NULL) {
        set_accepting(loop, false);
        h2o_socket_close(loop->socket);
        loop->socket = NULL;
    }
    /* keep-alive ends with the answers under way; h2o_context_request_shutdown would arm an HTTP/2 timer that nothing disarms */
    loop->ctx.shutdown_requested = 1;
}

static void run_until_stopped(struct loop *loop)
{
    while (!loop->is_stopping)
        h2o_evloop_run(loop->ctx.loop, INT32_MAX);
    flow_drain(loop->flow);
    while ((loop->flow->exchange_count != 0 || connections_is_any_writing(&loop->connections)) &&
           (int64_t)h2o_now(loop->ctx.loop) < loop->stop_deadline_ms)
        h2o_evloop_run(loop->ctx.loop, 50);
    flow_stop(loop->flow);
    /* a moment for last bytes to go out, then for closed connections to be noticed */
    h2o_evloop_run(loop->ctx.loop, 10);
    /* those without a request under way wait for one that shall not come any more */
    connections_shut(&loop->connections);
    for (int i = 0; i != 100 && loop->connections.count != 0; ++i) {
        h2o_evloop_run(loop->ctx.loop, 10);
        /* requests that had already arrived were begun meanwhile */
        flow_stop(loop->flow);
    }
    flow_stop(loop->flow);
}

static void *run(void *arg)
{
    struct loop *loop = arg;
    int r;

    h2o_context_init(&loop->ctx, h2o_evloop_create(), &loop->listener->config);
    loop->accept_ctx.ctx = &loop->ctx;
    loop->accept_ctx.hosts = loop->listener->config.hosts;
    h2o_multithread_register_receiver(loop->ctx.queue, &loop->stop_receiver, on_stop_message);
    if ((r = flow_new(loop->listener->options.shared, &loop->ctx, loop->listener->detached_max, &loop->flow)) != 0)
        h2o_fatal("an event loop could not be set up");
    loop->socket = h2o_evloop_socket_create(loop->ctx.loop, loop->fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->socket->data = loop;
    set_accepting(loop, true);
    atomic_store(&loop->is_ready, true);

    run_until_stopped(loop);

    flow_free(loop->flow);
    h2o_multithread_unregister_receiver(loop->ctx.queue, &loop->stop_receiver);
    /* here: buffers of libh2o's sockets point into the memory of the thread that made them, which goes with it. A loop whose connections would not end keeps its
     * context: its memory is still referenced */
    if (loop->connections.count == 0) {
        h2o_loop_t *evloop = loop->ctx.loop;

        h2o_context_dispose(&loop->ctx);
        /* closed sockets are freed by the next turn */
        h2o_evloop_run(evloop, 0);
    }
    return NULL;
}

static int bind_socket(const struct addrinfo *address, struct cp_error *reterr, const char *text)
{
    int on = 1, fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 || bind(fd, address->ai_addr, address->ai_addrlen) != 0) {
        int r = -errno;

        cp_error_set(reterr, "", 0, 0, "--listen '%s': %s; choose another address or port", text, strerror(-r));
        close(fd);
        return r;
    }
    return fd;
}

/* Whether somebody else already listens: SO_REUSEPORT would let us share his clients without a word. */
static int check_free(const struct addrinfo *address, struct cp_error *reterr, const char *text)
{
    int on = 1, fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), r = 0;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0) {
        r = -errno;
        cp_error_set(reterr, "", 0, 0, "--listen '%s': %s; choose another address or port", text, strerror(-r));
    }
    close(fd);
    return r;
}

static bool is_port(const char *text)
{
    size_t n = strspn(text, "0123456789");

    return n != 0 && n <= 5 && text[n] == '\0' && atol(text) <= 65535;
}

static int bind_all(struct listener *l, struct cp_error *reterr)
{
    const char *text = l->options.address, *colon = strrchr(text, ':');
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    struct sockaddr_storage bound;
    socklen_t bound_bytes = sizeof(bound);
    char host[80], numeric[64], port[8];
    size_t host_bytes;
    int r;

    if (colon == NULL || !is_port(colon + 1) || (host_bytes = (size_t)(colon - text)) >= sizeof(host)) {
        cp_error_set(reterr, "", 0, 0, "--listen '%s' is no ADDR:PORT; write it like 127.0.0.1:8080 (ports go up to 65535)", text);
        return -EINVAL;
    }
    memcpy(host, text, host_bytes);
    host[host_bytes] = '\0';
    if (host_bytes >= 2 && host[0] == '[' && host[host_bytes - 1] == ']') {
        memmove(host, host + 1, host_bytes - 2);
        host[host_bytes - 2] = '\0';
    }
    if ((r = getaddrinfo(*host != '\0' ? host : NULL, colon + 1, &hints, &found)) != 0) {
        cp_error_set(reterr, "", 0, 0, "--listen '%s': %s; write it like 127.0.0.1:8080", text, gai_strerror(r));
        return -EINVAL;
    }
    r = strcmp(colon + 1, "0") != 0 ? check_free(found, reterr, text) : 0;
    for (size_t i = 0; r == 0 && i != l->options.threads; ++i) {
        int fd = bind_socket(found, reterr, text);

        if (fd < 0) {
            r = fd;
            break;
        }
        l->loops[i].fd = fd;
        if (i == 0) {
            /* the others follow to the port that the first one got */
            getsockname(fd, (struct sockaddr *)&bound, &bound_bytes);
            memcpy(found->ai_addr, &bound, bound_bytes < found->ai_addrlen ? bound_bytes : found->ai_addrlen);
        }
    }
    freeaddrinfo(found);
    if (r != 0)
        return r;
    getnameinfo((struct sockaddr *)&bound, bound_bytes, numeric, sizeof(numeric), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(l->address, sizeof(l->address), bound.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", numeric, port);
    return 0;
}

/* Descriptors for sockets, for each loop. */
static size_t descriptors_allowed(size_t threads)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 256;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return (limit.rlim_cur > 256 ? limit.rlim_cur - 128 : limit.rlim_cur / 2) / threads;
}

int listener_new(const struct listener_options *options, struct listener **ret, struct cp_error *reterr)
{
    struct listener *l;
    int r;

    if (options->limits.max_header_bytes < HEADER_BYTES_MIN) {
        cp_error_set(reterr, "", 0, 0, "--max-header: %zu bytes are too few for any request; choose %d or more",
                     options->limits.max_header_bytes, HEADER_BYTES_MIN);
        return -EINVAL;
    }
    l = h2o_mem_alloc(sizeof(*l));
    memset(l, 0, sizeof(*l));
    l->options = *options;
    l->loops = h2o_mem_alloc(sizeof(*l->loops) * options->threads);
    memset(l->loops, 0, sizeof(*l->loops) * options->threads);
    for (size_t i = 0; i != options->threads; ++i) {
        l->loops[i].listener = l;
        l->loops[i].accept_pause.cb = on_accept_pause_over;
        l->loops[i].fd = -1;
        connections_init(&l->loops[i].connections, &l->loops[i].ctx, &options->limits, on_connection_close);
    }
    if ((r = bind_all(l, reterr)) != 0) {
        for (size_t i = 0; i != options->threads; ++i)
            if (l->loops[i].fd >= 0)
                close(l->loops[i].fd);
        free(l->loops);
        free(l);
        return r;
    }
    /* each client's request may need a connection upstream, and so does each exchange that runs on without its client; a tenth is to spare */
    l->connections_max = descriptors_allowed(options->threads) * 4 / 10;
    if (l->connections_max == 0)
        l->connections_max = 1;
    l->detached_max = l->connections_max / 4;

    h2o_config_init(&l->config);
    l->config.server_name = h2o_iovec_init(H2O_STRLIT(""));
    l->config.max_request_entity_size = options->max_body_bytes;
    l->config.http1.req_timeout = (uint64_t)options->idle_timeout_ms;
    l->config.http1.upgrade_to_http2 = 0;
    l->host = h2o_config_register_host(&l->config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    l->path = h2o_config_register_path(l->host, "/", 0);
    /* chunks are framed in wire/downstream.c */
    l->filters_size = l->path->filters.size;
    l->path->filters.size = 0;
    h2o_create_handler(l->path, sizeof(h2o_handler_t))->on_req = on_request;
    h2o_create_handler(&l->host->fallback_path, sizeof(h2o_handler_t))->on_req = on_unplaced_request;
    refusal_adopt_errors(&l->host->fallback_path);
    *ret = l;
    return 0;
}

const char *listener_address(const struct listener *l)
{
    return l->address;
}

int listener_start(struct listener *l)
{
    for (size_t i = 0; i != l->options.threads; ++i)
        if (listen(l->loops[i].fd, 1024) != 0)
            return -errno;
    for (size_t i = 0; i != l->options.threads; ++i) {
        int r = pthread_create(&l->loops[i].thread, NULL, run, &l->loops[i]);

        if (r != 0)
            return -r;
        l->loops[i].is_started = true;
    }
    /* a connection made now waits in the backlog; a stop sent now must find its receiver */
    for (size_t i = 0; i != l->options.threads; ++i)
        while (!atomic_load(&l->loops[i].is_ready))
            usleep(200);
    return 0;
}

void listener_stop(struct listener *l, int64_t drain_ms)
{
    for (size_t i = 0; i != l->options.threads; ++i) {
        struct stop_message *m;

        if (!l->loops[i].is_started)
            continue;
        m = h2o_mem_alloc(sizeof(*m));
        *m = (struct stop_message){.drain_ms = drain_ms};
        h2o_multithread_send_message(&l->loops[i].stop_receiver, &m->super);
    }
    for (size_t i = 0; i != l->options.threads; ++i)
        if (l->loops[i].is_started)
            pthread_join(l->loops[i].thread, NULL);
}

void listener_free(struct listener *l)
{
    if (l == NULL)
        return;
    for (size_t i = 0; i != l->options.threads; ++i) {
        if (!l->loops[i].is_started && l->loops[i].fd >= 0)
            close(l->loops[i].fd);
    }
    l->path->filters.size = l->filters_size;
    h2o_config_dispose(&l->config);
    free(l->loops);
    free(l);
}
