/* SPDX-License-Identifier: Apache-2.0 */
/* Probes.
 *
 *      join -> [registry: mine]    ask the upstream -> answered -> tell the other loops that want to know -> wake who waits here
 *           -> [registry: other's] ......................................... message from that loop ------^
 *
 * Always: a probe of this loop is in the registry until its exchange is done, and an exchange is always done; a waiter is woken once, or its client is gone.
 * Thread: the flow's loop; the registry has a mutex, held for a search of a short list. */
#include "sidecar/flow/probe.h"

#include "sidecar/trust/admission.h"
#include "sidecar/counts.h"
#include "sidecar/flow/exchange.h"
#include "sidecar/flow/request.h"
#include "sidecar/wire/downstream.h"

#include <errno.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>

/* Probes under way in the process at most; over it the call itself is forwarded. */
#define REGISTRY_MAX 512

struct registered {
    uint8_t name[16];
    uint64_t loops; /* who wants to hear of it, by index */
};

struct probe_registry {
    pthread_mutex_t mutex;
    size_t count;
    struct registered probes[REGISTRY_MAX];
};

struct waiter {
    h2o_linklist_t link;
    struct flow *flow;
    struct downstream *client;
};

/* One that this loop waits for. */
struct probe {
    h2o_linklist_t link;
    struct flow *flow;
    uint8_t name[16];
    struct identity identity;
    h2o_linklist_t waiters;
    struct exchange *exchange; /* NULL: another loop's */
    h2o_timeout_entry_t timeout;
};

struct done_message {
    h2o_multithread_message_t super;
    uint8_t name[16];
    bool is_accepted;
};

struct probe_registry *probe_registry_new(void)
{
    struct probe_registry *registry = calloc(1, sizeof(*registry));

    if (registry != NULL)
        pthread_mutex_init(&registry->mutex, NULL);
    return registry;
}

void probe_registry_free(struct probe_registry *registry)
{
    if (registry == NULL)
        return;
    pthread_mutex_destroy(&registry->mutex);
    free(registry);
}

enum claim { CLAIM_MINE, CLAIM_ANOTHERS, CLAIM_FULL };

static enum claim claim(struct probe_registry *registry, const uint8_t name[16], unsigned loop)
{
    enum claim claimed = CLAIM_FULL;

    pthread_mutex_lock(&registry->mutex);
    for (size_t i = 0; i != registry->count; ++i)
        if (memcmp(registry->probes[i].name, name, 16) == 0) {
            registry->probes[i].loops |= UINT64_C(1) << loop;
            claimed = CLAIM_ANOTHERS;
            break;
        }
    if (claimed == CLAIM_FULL && registry->count != REGISTRY_MAX) {
        memcpy(registry->probes[registry->count].name, name, 16);
        registry->probes[registry->count++].loops = 0;
        claimed = CLAIM_MINE;
    }
    pthread_mutex_unlock(&registry->mutex);
    return claimed;
}

/* Tells the others while the registry is locked, so that no loop that wants to hear is on its way out (probes_close). */
static void release(struct probe_registry *registry, const struct flow_shared *shared, const uint8_t name[16], bool is_accepted)
{
    pthread_mutex_lock(&registry->mutex);
    for (size_t i = 0; i != registry->count; ++i) {
        uint64_t loops = registry->probes[i].loops;

        if (memcmp(registry->probes[i].name, name, 16) != 0)
            continue;
        registry->probes[i] = registry->probes[--registry->count];
        for (unsigned loop = 0; loops != 0; ++loop, loops >>= 1) {
            struct done_message *m;

            if ((loops & 1) == 0 || shared->flows[loop] == NULL)
                continue;
            m = h2o_mem_alloc(sizeof(*m));
            *m = (struct done_message){.is_accepted = is_accepted};
            memcpy(m->name, name, 16);
            h2o_multithread_send_message(&shared->flows[loop]->probe_receiver, &m->super);
        }
        break;
    }
    pthread_mutex_unlock(&registry->mutex);
}

static struct probe *find(struct flow *flow, const uint8_t name[16])
{
    for (h2o_linklist_t *l = flow->probes.next; l != &flow->probes; l = l->next) {
        struct probe *probe = H2O_STRUCT_FROM_MEMBER(struct probe, link, l);

        if (memcmp(probe->name, name, 16) == 0)
            return probe;
    }
    return NULL;
}

static void forget(struct waiter *waiter)
{
    h2o_linklist_unlink(&waiter->link);
    --waiter->flow->exchange_count;
    free(waiter);
}

static void on_client_gone(void *owner)
{
    forget(owner);
}

static void on_client_drained(void *owner)
{
    (void)owner;
}

static void add_waiter(struct probe *probe, h2o_req_t *req)
{
    struct waiter *waiter = h2o_mem_alloc(sizeof(*waiter));

    *waiter = (struct waiter){.flow = probe->flow};
    h2o_linklist_insert(&probe->waiters, &waiter->link);
    ++probe->flow->exchange_count;
    waiter->client = downstream_new(req, waiter, on_client_gone, on_client_drained);
    downstream_watch(waiter->client);
}

/* The probe is gone; who waited goes on. */
static void wake(struct probe *probe, bool is_accepted)
{
    struct flow *flow = probe->flow;
    h2o_linklist_t waiters;

    h2o_linklist_init_anchor(&waiters);
    h2o_linklist_insert_list(&waiters, &probe->waiters);
    h2o_linklist_unlink(&probe->link);
    h2o_timeout_unlink(&probe->timeout);
    free(probe);
    while (!h2o_linklist_is_empty(&waiters)) {
        struct waiter *waiter = H2O_STRUCT_FROM_MEMBER(struct waiter, link, waiters.next);
        h2o_req_t *req = downstream_take(waiter->client);

        forget(waiter);
        request_resume(flow, req, &(struct telling){.how = is_accepted ? TELLING_PROBED_WELL : TELLING_PROBED_BADLY});
    }
}

static void on_answered(void *ctx, bool is_accepted)
{
    struct probe *probe = ctx;
    struct flow *flow = probe->flow;

    counts_add(COUNT_PROBE);
    if (is_accepted)
        counts_add(COUNT_PROBE_ACCEPTED);
    else
        admission_mute(&flow->trust, &probe->identity, store_now_ms(flow->shared->trust.store));
    is_accepted |= MUTANT("probe-always-true");
    probe->exchange = NULL;
    release(flow->shared->probe_registry, flow->shared, probe->name, is_accepted);
    wake(probe, is_accepted);
}

static void on_timeout(h2o_timeout_entry_t *entry)
{
    struct probe *probe = H2O_STRUCT_FROM_MEMBER(struct probe, timeout, entry);

    if (probe->exchange != NULL)
        exchange_kill(probe->exchange);
    else
        wake(probe, false);
}

static void on_done_message(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    struct flow *flow = H2O_STRUCT_FROM_MEMBER(struct flow, probe_receiver, receiver);

    while (!h2o_linklist_is_empty(messages)) {
        struct done_message *m = H2O_STRUCT_FROM_MEMBER(struct done_message, super.link, messages->next);
        struct probe *probe = find(flow, m->name);

        h2o_linklist_unlink(&m->super.link);
        if (probe != NULL && probe->exchange == NULL)
            wake(probe, m->is_accepted);
        free(m);
    }
}

/* ---- the request ---------------------------------------------------------------------------------------------------------------- */

static int add_text(struct buf *out, const char *text)
{
    return buf_add(out, text, strlen(text));
}

/* The body of the probe, with an id that no client uses. */
static int make_body(const struct cp_message *message, struct buf *out, size_t *ret_id_start, size_t *ret_id_bytes)
{
    char id[64];
    uint64_t random[2];
    int r;

    if (RAND_bytes((unsigned char *)random, sizeof(random)) != 1)
        return -EIO;
    *ret_id_bytes = (size_t)snprintf(id, sizeof(id), "\"mcpcached-%016llx%016llx\"", (unsigned long long)random[0],
                                     (unsigned long long)random[1]);
    if ((r = add_text(out, "{\"jsonrpc\":\"2.0\",\"id\":")) != 0)
        return r;
    *ret_id_start = out->n;
    if ((r = add_text(out, id)) != 0)
        return r;
    if (message->era == CP_ERA_LEGACY)
        return add_text(out, ",\"method\":\"ping\"}");
    /* the caller's own _meta, because servers may answer by it */
    if ((r = add_text(out, ",\"method\":\"server/discover\",\"params\":{\"_meta\":{")) == 0 &&
        (r = cp_message_add_meta(message, out)) == 0)
        r = add_text(out, "}}}");
    return r;
}

static bool ask(struct probe *probe, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                const struct caller *caller, int64_t now_ms)
{
    struct flow *flow = probe->flow;
    struct exchange_own own = {.identity = caller->id, .now_ms = now_ms, .on_done = on_answered, .ctx = probe};
    struct buf body = {0};
    struct exchange *x;
    size_t id_start = 0, id_bytes = 0;

    if (make_body(message, &body, &id_start, &id_bytes) == 0)
        own.head = wire_request_head(req,
                                     &(struct wire_head){
                                         .host = flow_host(flow, wire),
                                         .identity_encoding = true,
                                         .is_own = true,
                                         .own_method = message->era == CP_ERA_MODERN ? SPAN("server/discover") : SPAN_ABSENT,
                                         .body_bytes = body.n,
                                     },
                                     &own.head_bytes);
    if (own.head == NULL) {
        buf_done(&body);
        return false;
    }
    own.body = body.p;
    own.body_bytes = body.n;
    own.id = (struct span){body.p + id_start, id_bytes};
    h2o_timeout_link(flow->ctx->loop, &flow->probe_timeout, &probe->timeout);
    /* NULL: it is answered already, and the probe gone */
    if ((x = exchange_begin_own(flow, &own)) != NULL)
        probe->exchange = x;
    return true;
}

bool probe_join(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                const struct caller *caller, int64_t now_ms)
{
    uint8_t name[16];
    struct probe *probe;
    enum claim claimed;

    admission_alive_name(&caller->id, name);
    if ((probe = find(flow, name)) != NULL) {
        add_waiter(probe, req);
        return true;
    }
    if (flow->index == FLOWS_MAX || (claimed = claim(flow->shared->probe_registry, name, flow->index)) == CLAIM_FULL)
        return false;
    probe = h2o_mem_alloc(sizeof(*probe));
    *probe = (struct probe){.flow = flow, .identity = caller->id, .timeout = {.cb = on_timeout}};
    memcpy(probe->name, name, 16);
    h2o_linklist_init_anchor(&probe->waiters);
    h2o_linklist_insert(&flow->probes, &probe->link);
    add_waiter(probe, req);
    if (claimed == CLAIM_ANOTHERS)
        h2o_timeout_link(flow->ctx->loop, &flow->probe_timeout, &probe->timeout);
    else if (!ask(probe, req, wire, message, caller, now_ms))
        on_answered(probe, false);
    return true;
}

void probes_open(struct flow *flow)
{
    h2o_linklist_init_anchor(&flow->probes);
    h2o_timeout_init(flow->ctx->loop, &flow->probe_timeout, ADMISSION_PROBE_MS);
    h2o_multithread_register_receiver(flow->ctx->queue, &flow->probe_receiver, on_done_message);
    pthread_mutex_lock(&flow->shared->probe_registry->mutex);
    for (flow->index = 0; flow->index != FLOWS_MAX && flow->shared->flows[flow->index] != NULL; ++flow->index)
        ;
    if (flow->index != FLOWS_MAX)
        flow->shared->flows[flow->index] = flow;
    pthread_mutex_unlock(&flow->shared->probe_registry->mutex);
}

void probes_stop(struct flow *flow)
{
    while (!h2o_linklist_is_empty(&flow->probes)) {
        struct probe *probe = H2O_STRUCT_FROM_MEMBER(struct probe, link, flow->probes.next);

        while (!h2o_linklist_is_empty(&probe->waiters)) {
            struct waiter *waiter = H2O_STRUCT_FROM_MEMBER(struct waiter, link, probe->waiters.next);
            struct downstream *client = waiter->client;

            forget(waiter);
            downstream_abort(client);
        }
        if (probe->exchange != NULL)
            exchange_kill(probe->exchange);
        else
            wake(probe, false);
    }
}

void probes_close(struct flow *flow)
{
    pthread_mutex_lock(&flow->shared->probe_registry->mutex);
    if (flow->index != FLOWS_MAX)
        flow->shared->flows[flow->index] = NULL;
    pthread_mutex_unlock(&flow->shared->probe_registry->mutex);
    /* what was sent before that; libh2o asserts that nothing waits */
    while (!h2o_linklist_is_empty(&flow->probe_receiver._messages))
        h2o_evloop_run(flow->ctx->loop, 1);
    h2o_multithread_unregister_receiver(flow->ctx->queue, &flow->probe_receiver);
    h2o_timeout_dispose(flow->ctx->loop, &flow->probe_timeout);
}
