/* SPDX-License-Identifier: Apache-2.0 */
/* The purge API. Not here: who may ask (gate.c), the order's text (purge_order.c), what is purged (flow/purge.c).
 * Always: an order that was taken is done, also when whoever sent it has left. */
#include "sidecar/admin/purge_api.h"

#include "sidecar/admin/answer.h"
#include "sidecar/admin/json_text.h"
#include "sidecar/admin/purge_order.h"
#include "sidecar/base/log.h"
#include "sidecar/counts.h"
#include "sidecar/flow/purge.h"
#include "sidecar/trust/caller.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* One more gets 503. Below the connections that admin.c lets in. */
#define PENDING_MAX 32

struct asker;

struct job {
    h2o_multithread_message_t super;
    struct job *next;
    /* loop */
    struct asker *asker; /* NULL: gone */
    unsigned kinds;
    /* whoever has it: the loop, then the worker, then the loop */
    struct purge purge;
    enum store_raise how;
    bool is_dry_run;
    uint64_t entries, bytes;
};

/* In the request's pool: ends with it. */
struct asker {
    h2o_req_t *req;
    struct job *job; /* NULL: answered */
};

struct purge_api {
    struct store *store;
    /* loop */
    struct trust trust;
    h2o_context_t *ctx;
    h2o_multithread_receiver_t done_receiver;
    size_t pending;
    pthread_t worker;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job *first, **last;
    bool is_ending;
};

/* ---- the worker ---- */

static struct job *next_job(struct purge_api *api)
{
    struct job *job;

    pthread_mutex_lock(&api->lock);
    while (api->first == NULL && !api->is_ending)
        pthread_cond_wait(&api->changed, &api->lock);
    if ((job = api->first) != NULL && (api->first = job->next) == NULL)
        api->last = &api->first;
    pthread_mutex_unlock(&api->lock);
    return job;
}

static void *work(void *arg)
{
    struct purge_api *api = arg;
    struct job *job;

    while ((job = next_job(api)) != NULL) {
        if (job->is_dry_run)
            job->entries = purge_count(api->store, &job->purge, job->how, &job->bytes);
        else
            job->entries = purge_run(api->store, &job->purge, job->how, &job->bytes);
        h2o_multithread_send_message(&api->done_receiver, &job->super);
    }
    return NULL;
}

/* ---- the answer ---- */

static const struct {
    enum purge_order_kind bit;
    const char *word;
    /* a purge that takes nothing may be one that was meant otherwise */
    const char *nothing, *why;
} kinds[] = {
    {PURGE_ORDER_ALL, "all", "nothing is stored", ""},
    {PURGE_ORDER_TOOL, "tool", "no result of this tool is stored", "; names are compared byte for byte with those of tools/call"},
    {PURGE_ORDER_LIST, "list", "no answer to this method is stored", ""},
    {PURGE_ORDER_URI, "uri", "nothing stored has this URI", "; URIs are compared byte for byte with those of requests and results"},
    {PURGE_ORDER_TAG, "tag", "nothing stored has this tag",
     "; tags are compared byte for byte, a rule's when its template is filled in"},
    {PURGE_ORDER_PRINCIPAL, "principal", "nothing is stored for whoever sends these headers and no other credentials", ""},
};

#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static void format_hint(const struct job *job, char *ret, size_t cap)
{
    const char *nothing = "nothing stored has any of these names", *why = "";

    for (size_t i = 0; i != KIND_COUNT; ++i)
        if (job->kinds == (unsigned)kinds[i].bit) {
            nothing = kinds[i].nothing;
            why = kinds[i].why;
        }
    snprintf(ret, cap, "%s, or %s%s", nothing,
             job->how == STORE_RAISE_SOFT ? "it is stale or purged already" : "it is purged already", why);
}

static void answer(struct job *job, h2o_req_t *req)
{
    struct buf body = {0};
    char text[240];
    bool is_soft = job->how == STORE_RAISE_SOFT;
    int n = snprintf(text, sizeof(text), "{\"purged\":%llu,\"bytes\":%llu,\"soft\":%s,\"dry_run\":%s",
                     (unsigned long long)job->entries, (unsigned long long)job->bytes, is_soft ? "true" : "false",
                     job->is_dry_run ? "true" : "false"),
        r = buf_add(&body, text, (size_t)n);

    if (r == 0 && !is_soft && !job->is_dry_run)
        r = buf_add_span(&body, SPAN(",\"reclaimed\":\"in the background\""));
    if (r == 0 && job->entries == 0) {
        format_hint(job, text, sizeof(text));
        if ((r = buf_add_span(&body, SPAN(",\"hint\":"))) == 0)
            r = json_text_add(&body, span_of(text));
    }
    if (r != 0 || buf_add_span(&body, SPAN("}\n")) != 0)
        h2o_fatal("no memory");
    answer_send(req, 200, "application/json", buf_span(&body));
    buf_done(&body);
}

/* Kinds and numbers only: a tag may hold what a caller asked, and a principal is a secret. */
static void log_job(const struct job *job)
{
    char words[64] = "";
    size_t n = 0;

    for (size_t i = 0; i != KIND_COUNT; ++i)
        if ((job->kinds & kinds[i].bit) != 0)
            n += (size_t)snprintf(words + n, sizeof(words) - n, "%s%s", n != 0 ? "," : "", kinds[i].word);
    LOG(LOG_INFO, "purge", LOG_TEXT_FIELD("by", words, n), LOG_INT_FIELD("subjects", (int64_t)job->purge.count),
        LOG_TEXT_FIELD("how", job->how == STORE_RAISE_SOFT ? "soft" : "hard", 4), LOG_INT_FIELD("dry-run", job->is_dry_run),
        LOG_INT_FIELD("purged", (int64_t)job->entries), LOG_INT_FIELD("bytes", (int64_t)job->bytes));
}

static void on_done(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    struct purge_api *api = H2O_STRUCT_FROM_MEMBER(struct purge_api, done_receiver, receiver);

    while (!h2o_linklist_is_empty(messages)) {
        struct job *job = H2O_STRUCT_FROM_MEMBER(struct job, super.link, messages->next);

        h2o_linklist_unlink(&job->super.link);
        --api->pending;
        log_job(job);
        if (!job->is_dry_run)
            counts_add(COUNT_PURGE);
        if (job->asker != NULL) {
            job->asker->job = NULL;
            answer(job, job->asker->req);
        }
        free(job);
    }
}

/* ---- the order ---- */

static void on_asker_gone(void *arg)
{
    struct asker *asker = arg;

    if (asker->job != NULL)
        asker->job->asker = NULL;
}

/* What no request can have as a credential would name a principal that nobody is. */
static int check_headers(const struct purge_api *api, const struct purge_order *order, struct cp_error *reterr)
{
    for (size_t i = 0; i != order->header_count; ++i) {
        struct span name = order->headers[i].name;

        if (caller_is_credential(api->trust.shared->policy, name))
            continue;
        cp_error_set(reterr, "", 0, 0,
                     "principal: '%.*s' is not taken for a credential here; name authorization, cookie and what the policy's "
                     "identity.headers adds",
                     (int)(name.n < 60 ? name.n : 60), name.p);
        return -EINVAL;
    }
    return 0;
}

static int add_subjects(struct purge_api *api, const struct purge_order *order, struct purge *purge)
{
    struct cp_principal principal;
    int r = 0;

    if ((order->kinds & PURGE_ORDER_ALL) != 0)
        r = purge_add(purge, STORE_SUBJECT_ALL);
    for (size_t i = 0; r == 0 && i != order->name_count; ++i)
        r = purge_add_named(purge, api->trust.keyer, order->names[i].kind, order->names[i].text);
    if (r == 0 && (order->kinds & PURGE_ORDER_PRINCIPAL) != 0) {
        caller_principal_of(&api->trust, order->headers, order->header_count, &principal);
        r = purge_add(purge, cp_subject_of_principal(&principal));
    }
    return r;
}

/* 0: *ret is the job, owned. */
static int read_order(struct purge_api *api, struct span body, struct job **ret, struct cp_error *reterr)
{
    struct purge_order *order = h2o_mem_alloc(sizeof(*order));
    struct cp_json_doc doc = {.count = 0};
    struct job *job;
    int r;

    memset(order, 0, sizeof(*order));
    if ((r = purge_order_parse(order, &doc, body, reterr)) == 0 && (r = check_headers(api, order, reterr)) == 0) {
        job = h2o_mem_alloc(sizeof(*job));
        memset(job, 0, sizeof(*job));
        job->kinds = order->kinds;
        job->how = order->is_soft ? STORE_RAISE_SOFT : STORE_RAISE_HARD;
        job->is_dry_run = order->is_dry_run;
        if ((r = add_subjects(api, order, &job->purge)) == 0)
            *ret = job;
        else
            free(job);
    }
    cp_json_done(&doc);
    purge_order_done(order);
    free(order);
    return r;
}

static void hand_over(struct purge_api *api, struct job *job)
{
    ++api->pending;
    pthread_mutex_lock(&api->lock);
    *api->last = job;
    api->last = &job->next;
    pthread_cond_signal(&api->changed);
    pthread_mutex_unlock(&api->lock);
}

void purge_api_handle(struct purge_api *api, h2o_req_t *req)
{
    struct cp_error error = {.text = "no memory for this purge"};
    struct job *job;
    int r;

    if (api->pending >= PENDING_MAX) {
        answer_error(req, 503, "too many purges at once; send it again");
        return;
    }
    if ((r = read_order(api, (struct span){req->entity.base != NULL ? req->entity.base : "", req->entity.len}, &job, &error)) !=
        0) {
        answer_error(req, r == -EINVAL ? 400 : 500, error.text);
        return;
    }
    job->asker = h2o_mem_alloc_shared(&req->pool, sizeof(*job->asker), on_asker_gone);
    *job->asker = (struct asker){req, job};
    hand_over(api, job);
}

/* ---- beginning and end ---- */

size_t purge_api_pending(const struct purge_api *api)
{
    return api->pending;
}

int purge_api_new(const struct trust_shared *shared, h2o_context_t *ctx, struct purge_api **ret)
{
    struct purge_api *api = h2o_mem_alloc(sizeof(*api));
    int r;

    memset(api, 0, sizeof(*api));
    api->store = shared->store;
    api->ctx = ctx;
    api->last = &api->first;
    if ((r = trust_init(&api->trust, shared)) != 0) {
        free(api);
        return r;
    }
    pthread_mutex_init(&api->lock, NULL);
    pthread_cond_init(&api->changed, NULL);
    h2o_multithread_register_receiver(ctx->queue, &api->done_receiver, on_done);
    if ((r = pthread_create(&api->worker, NULL, work, api)) != 0) {
        h2o_multithread_unregister_receiver(ctx->queue, &api->done_receiver);
        trust_done(&api->trust);
        free(api);
        return -r;
    }
    *ret = api;
    return 0;
}

void purge_api_free(struct purge_api *api)
{
    if (api == NULL)
        return;
    pthread_mutex_lock(&api->lock);
    api->is_ending = true;
    pthread_cond_signal(&api->changed);
    pthread_mutex_unlock(&api->lock);
    pthread_join(api->worker, NULL);
    h2o_multithread_unregister_receiver(api->ctx->queue, &api->done_receiver);
    pthread_cond_destroy(&api->changed);
    pthread_mutex_destroy(&api->lock);
    trust_done(&api->trust);
    free(api);
}
