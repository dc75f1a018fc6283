/* SPDX-License-Identifier: Apache-2.0 */
/* How a sidecar is put together for stories: the one file here that knows what sidecar/serve.c knows. Not here: fakes, clients, what a story says.
 * Always: closed in the reverse order of opening; a loop's flow is stopped before its connections are ended. Thread: as in house.h. */
#include "house.h"

#include "sidecar/base/clock.h"
#include "sidecar/base/slots.h"
#include "sidecar/flow/announce.h"
#include "sidecar/flow/flight.h"
#include "sidecar/flow/flow.h"
#include "sidecar/flow/probe.h"
#include "sidecar/flow/purge.h"
#include "sidecar/flow/request.h"
#include "sidecar/settings.h"
#include "sidecar/trust/caller.h"
#include "sidecar/trust/definitions.h"
#include "sidecar/upstream/breaker.h"
#include "sidecar/upstream/budget.h"
#include "sidecar/wire/downstream.h"

#include "fake_clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENT_IDS 1024

struct loop {
    struct house *house;
    bool is_open;
    h2o_context_t ctx;
    h2o_accept_ctx_t accept_ctx;
    struct flow *flow;
    h2o_linklist_t connections;
};

struct connection {
    struct wire_connection watched; /* first: downstream.c looks for it behind the socket */
    h2o_linklist_t link;
    h2o_socket_t *sock;
};

struct house {
    struct settings settings;
    struct upstream_url url;
    struct cp_policy *policy;
    struct store *store;
    struct flow_shared shared;
    struct flow *flows[FLOWS_MAX];
    _Atomic int64_t challenged_ms;
    atomic_size_t open_streams, requests;
    struct budget_retries retries;
    struct budget_places refreshes, polls;
    h2o_globalconf_t config;
    h2o_pathconf_t *path;
    size_t filters_size;
    bool has_config;
    struct loop *loops;
    size_t loop_count;
    bool has_threads;
};

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, ctx, req->conn->ctx);

    (void)self;
    atomic_fetch_add(&loop->house->requests, 1);
    request_handle(loop->flow, req);
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------- */

static bool read_settings(struct house *h, const struct house_options *options, struct cp_error *error)
{
    static const char *const always[] = {"--upstream", "http://server/mcp", "--store-size", "16MiB", "--insert-rate", "0"};
    size_t always_count = sizeof(always) / sizeof(always[0]), argc = 0;
    char **argv = h2o_mem_alloc(sizeof(*argv) * (always_count + options->flag_count + 1));
    int r;

    for (size_t i = 0; i != always_count; ++i)
        argv[argc++] = (char *)always[i];
    for (size_t i = 0; i != options->flag_count; ++i)
        argv[argc++] = options->flags[i];
    argv[argc] = NULL;
    r = settings_parse(&h->settings, (int)argc, argv, error);
    free(argv);
    return r == 0;
}

static bool read_policy(struct house *h, struct span text, struct cp_error *error)
{
    const struct cp_policy_text texts[] = {{"policy", text}};
    struct cp_errors errors = {.count = 0};

    if (cp_policy_parse(texts, 1, &h->policy, &errors) == 0)
        return true;
    if (errors.count != 0)
        *error = errors.items[0];
    return false;
}

static bool open_store(struct house *h, const char *path, struct cp_error *error)
{
    struct store_options options = {
        .path = path,
        .size_bytes = h->settings.store_size_bytes,
        .readers = 256,
        .share_percent = (unsigned)h->settings.principal_share_percent,
    };
    int r;

    /* the writer waits by the machine's clock, from the beginning */
    fake_clock_follow(false);
    r = store_open(&options, &h->store, error);
    fake_clock_follow(true);
    return r == 0;
}

static void make_shared(struct house *h)
{
    budget_places_init(&h->refreshes, h->settings.max_refreshes);
    budget_places_init(&h->polls, h->settings.max_refreshes);
    budget_retries_init(&h->retries);
    h->shared = (struct flow_shared){
        .trust =
            {
                .store = h->store,
                .policy = h->policy,
                .upstream = span_of(h->url.text),
                .standings = standings_new(h->settings.max_sessions * 2),
                .ended_sessions = standings_new(h->settings.max_sessions),
                .proofs = proofs_new(h->settings.max_proofs),
                .definitions = definitions_new(4096),
                .rate = rate_new(h->settings.insert_rate),
                .challenged_ms = &h->challenged_ms,
                .allowed_origins = h->settings.allow_origin.items,
                .allowed_origin_count = h->settings.allow_origin.count,
            },
        .probe_registry = probe_registry_new(),
        .flight_registry = flight_registry_new(h->settings.max_flights, h->settings.max_waiters),
        .breaker = breaker_new(4096),
        .refreshes = &h->refreshes,
        .flows = h->flows,
        .open_streams = &h->open_streams,
        .board = board_new(),
        .subscribers = strcmp(h->settings.subscriptions, "on") == 0
                           ? announce_subscribers_new(h->settings.max_subscriptions, h->settings.watch_interval_ms)
                           : NULL,
        .event_ids = slots_new(EVENT_IDS, 1),
        .polls = &h->polls,
        .poll_rate = rate_new(h->settings.poll_rate),
        .stream_keepalive_ms = h->settings.stream_keepalive_ms,
        .upstream =
            {
                .url = &h->url,
                .connect_timeout_ms = h->settings.connect_timeout_ms,
                .first_byte_timeout_ms = h->settings.first_byte_timeout_ms,
                .keepalive_ms = h->settings.upstream_keepalive_ms,
                .retries = &h->retries,
            },
        .host = strcmp(h->settings.upstream_host, "upstream") == 0 ? h->url.authority : SPAN_ABSENT,
        .max_entry_bytes = h->settings.max_entry_bytes,
        .max_key_bytes = h->settings.max_key_bytes,
        .max_streams = h->settings.max_streams,
        .max_depth = (uint32_t)h->settings.max_depth,
    };
}

static void free_shared(struct house *h)
{
    subscribers_free(h->shared.subscribers);
    board_free(h->shared.board);
    rate_free(h->shared.poll_rate);
    slots_free(h->shared.event_ids);
    flight_registry_free(h->shared.flight_registry);
    breaker_free(h->shared.breaker);
    definitions_free(h->shared.trust.definitions);
    probe_registry_free(h->shared.probe_registry);
    rate_free(h->shared.trust.rate);
    proofs_free(h->shared.trust.proofs);
    standings_free(h->shared.trust.ended_sessions);
    standings_free(h->shared.trust.standings);
}

static void make_config(struct house *h)
{
    h2o_hostconf_t *host;

    h2o_config_init(&h->config);
    h->config.server_name = h2o_iovec_init(H2O_STRLIT(""));
    h->config.max_request_entity_size = h->settings.max_body_bytes;
    h->config.http1.req_timeout = (uint64_t)h->settings.idle_timeout_ms;
    h->config.http1.upgrade_to_http2 = 0;
    host = h2o_config_register_host(&h->config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h->path = h2o_config_register_path(host, "/", 0);
    /* chunks are framed in wire/downstream.c */
    h->filters_size = h->path->filters.size;
    h->path->filters.size = 0;
    h2o_create_handler(h->path, sizeof(h2o_handler_t))->on_req = on_request;
    h->has_config = true;
}

bool house_loop_open(struct house *h, size_t index)
{
    struct loop *loop = &h->loops[index];

    loop->house = h;
    h2o_linklist_init_anchor(&loop->connections);
    h2o_context_init(&loop->ctx, h2o_evloop_create(), &h->config);
    loop->accept_ctx.ctx = &loop->ctx;
    loop->accept_ctx.hosts = h->config.hosts;
    loop->is_open = true;
    return flow_new(&h->shared, &loop->ctx, 64, &loop->flow) == 0;
}

struct house *house_open(const struct house_options *options, char *ret_why)
{
    struct house *h = h2o_mem_alloc(sizeof(*h));
    struct cp_error error = {.text = "out of memory"};
    bool ok;

    memset(h, 0, sizeof(*h));
    h->loops = h2o_mem_alloc(sizeof(*h->loops) * options->loops);
    memset(h->loops, 0, sizeof(*h->loops) * options->loops);
    ok = read_settings(h, options, &error) && upstream_url_parse(h->settings.upstream, &h->url, &error) == 0 &&
         read_policy(h, options->policy, &error) && open_store(h, options->store, &error);
    if (ok) {
        make_shared(h);
        make_config(h);
    }
    h->loop_count = options->loops;
    h->has_threads = options->has_threads;
    for (size_t i = 0; ok && !h->has_threads && i != h->loop_count; ++i)
        ok = house_loop_open(h, i);
    if (ok)
        return h;
    if (error.line != 0)
        snprintf(ret_why, 512, "%s:%u:%u: %s", error.file, error.line, error.column, error.text);
    else
        snprintf(ret_why, 512, "%s", error.text);
    house_close(h);
    return NULL;
}

/* ---- closing ------------------------------------------------------------------------------------------------------------------- */

void house_loop_close(struct house *h, size_t index)
{
    struct loop *loop = &h->loops[index];
    h2o_evloop_t *evloop = loop->ctx.loop;
    h2o_multithread_queue_t *queue = loop->ctx.queue;

    if (loop->flow != NULL) {
        flow_stop(loop->flow);
        house_turn(h, index, 0);
    }
    for (h2o_linklist_t *l = loop->connections.next; l != &loop->connections; l = l->next)
        shutdown(h2o_socket_get_fd(H2O_STRUCT_FROM_MEMBER(struct connection, link, l)->sock), SHUT_RDWR);
    for (int i = 0; i != 100 && !h2o_linklist_is_empty(&loop->connections); ++i) {
        house_turn(h, index, 0);
        if (loop->flow != NULL)
            flow_stop(loop->flow);
    }
    if (!h2o_linklist_is_empty(&loop->connections))
        h2o_fatal("a connection did not end");
    flow_free(loop->flow);
    h2o_context_dispose(&loop->ctx);
    /* closed sockets are freed by the next turn */
    h2o_evloop_run(evloop, 0);
    h2o_evloop_destroy(evloop);
    /* libh2o takes it apart and leaves it */
    free(queue);
    loop->is_open = false;
}

void house_drain(struct house *h)
{
    for (size_t i = 0; i != h->loop_count; ++i)
        if (h->loops[i].is_open && h->loops[i].flow != NULL)
            flow_drain(h->loops[i].flow);
}

void house_close(struct house *h)
{
    for (size_t i = 0; i != h->loop_count; ++i)
        if (h->loops[i].is_open)
            house_loop_close(h, i);
    if (h->has_config) {
        h->path->filters.size = h->filters_size;
        h2o_config_dispose(&h->config);
    }
    free_shared(h);
    if (h->store != NULL)
        store_close(h->store);
    cp_policy_unref(h->policy);
    upstream_url_done(&h->url);
    settings_done(&h->settings);
    free(h->loops);
    free(h);
}

/* ---- at work ------------------------------------------------------------------------------------------------------------------- */

static void on_close(void *data)
{
    struct connection *c = data;

    h2o_linklist_unlink(&c->link);
    free(c);
}

int house_connect(struct house *h, size_t index)
{
    struct loop *loop = &h->loops[index];
    struct connection *c;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return -errno;
    c = h2o_mem_alloc(sizeof(*c));
    *c = (struct connection){.sock = h2o_evloop_socket_create(loop->ctx.loop, fds[0], H2O_SOCKET_FLAG_IS_ACCEPTED_CONNECTION)};
    c->sock->on_close.cb = on_close;
    c->sock->on_close.data = c;
    h2o_linklist_insert(&loop->connections, &c->link);
    h2o_accept(&loop->accept_ctx, c->sock);
    return fds[1];
}

size_t house_requests(const struct house *h)
{
    return atomic_load(&h->requests);
}

void house_turn(struct house *h, size_t loop, int wait_ms)
{
    h2o_evloop_run(h->loops[loop].ctx.loop, wait_ms);
}

int64_t house_wake_at(const struct house *h)
{
    uint64_t first = UINT64_MAX;

    for (size_t i = 0; i != h->loop_count; ++i) {
        uint64_t at = h2o_timeout_get_wake_at(&h->loops[i].ctx.loop->_timeouts);

        if (at < first)
            first = at;
    }
    return first < INT64_MAX ? (int64_t)first : INT64_MAX;
}

struct store *house_store(struct house *h)
{
    return h->store;
}

static void add_name(struct house *h, struct purge *purge, const struct house_name *name)
{
    static const enum cp_subject kinds[] = {
        [HOUSE_TOOL] = CP_SUBJECT_TOOL, [HOUSE_LIST] = CP_SUBJECT_LIST,   [HOUSE_URI] = CP_SUBJECT_URI,
        [HOUSE_TAG] = CP_SUBJECT_TAG,   [HOUSE_READS] = CP_SUBJECT_READS,
    };
    struct cp_principal principal;
    struct trust trust;

    if (trust_init(&trust, &h->shared.trust) != 0)
        h2o_fatal("no memory");
    if (name->subject == HOUSE_ALL) {
        purge_add(purge, STORE_SUBJECT_ALL);
    } else if (name->subject == HOUSE_PRINCIPAL) {
        caller_principal_of(&trust, &(struct cp_credential){SPAN("authorization"), name->text}, 1, &principal);
        purge_add(purge, cp_subject_of_principal(&principal));
    } else {
        purge_add_named(purge, trust.keyer, kinds[name->subject], name->text);
    }
    trust_done(&trust);
}

uint64_t house_purge(struct house *h, const struct house_name *names, size_t count, bool is_soft, bool is_dry)
{
    enum store_raise how = is_soft ? STORE_RAISE_SOFT : STORE_RAISE_HARD;
    struct purge purge = {.count = 0};
    uint64_t bytes;

    for (size_t i = 0; i != count; ++i)
        add_name(h, &purge, &names[i]);
    return is_dry ? purge_count(h->store, &purge, how, &bytes) : purge_run(h->store, &purge, how, &bytes);
}

void house_raise(struct house *h, const struct house_name *name, bool is_soft)
{
    struct purge purge = {.count = 0};

    add_name(h, &purge, name);
    for (size_t i = 0; i != purge.count; ++i)
        store_raise(h->store, purge.subjects[i], is_soft ? STORE_RAISE_SOFT : STORE_RAISE_HARD);
}
