/* SPDX-License-Identifier: Apache-2.0 */
/* Notices. Not here: what a notice looks like (cachepolicy/notice.c), how streams come (exchange.c). Thread: the flow's loop. */
#include "sidecar/flow/notices.h"

#include "sidecar/counts.h"
#include "sidecar/flow/purge.h"
#include "sidecar/notify/subscribers.h"

#include <errno.h>
#include <stdlib.h>

/* URIs of one subscription that are remembered one by one; of more, all reads are covered. */
#define URIS_MAX 1024

struct hearing {
    struct flow *flow;
    const uint8_t *subscriber;
};

static uint64_t list_subject(struct flow *flow, enum cp_method method)
{
    return cp_subject_of(flow->trust.keyer, CP_SUBJECT_LIST, span_of(cp_method_text(method)));
}

/* Whoever it is relayed to need not hear of it from us; whoever it is not relayed to may have to. */
static void note_told(const struct hearing *hearing, const struct cp_notice *notice)
{
    struct flow *flow = hearing->flow;
    struct subscribers *s = flow->shared->subscribers;
    int64_t now_ms = store_now_ms(flow->shared->trust.store);
    uint64_t subjects[2] = {0, 0};
    enum topic topic = TOPIC_RESOURCE;

    if (s == NULL || !subscribers_is_any(s))
        return;
    switch (notice->kind) {
    case CP_NOTICE_TOOLS_LIST_CHANGED:
        topic = TOPIC_TOOLS_LIST;
        subjects[0] = list_subject(flow, CP_METHOD_TOOLS_LIST);
        break;
    case CP_NOTICE_PROMPTS_LIST_CHANGED:
        topic = TOPIC_PROMPTS_LIST;
        subjects[0] = list_subject(flow, CP_METHOD_PROMPTS_LIST);
        break;
    case CP_NOTICE_RESOURCES_LIST_CHANGED:
        topic = TOPIC_RESOURCES_LIST;
        subjects[0] = list_subject(flow, CP_METHOD_RESOURCES_LIST);
        subjects[1] = list_subject(flow, CP_METHOD_RESOURCE_TEMPLATES_LIST);
        break;
    case CP_NOTICE_RESOURCE_UPDATED:
        if (notice->uri.p == NULL)
            return;
        subjects[0] = cp_subject_of(flow->trust.keyer, CP_SUBJECT_URI, notice->uri);
        break;
    }
    if (hearing->subscriber != NULL)
        subscribers_told(s, hearing->subscriber, topic, topic == TOPIC_RESOURCE ? subjects[0] : 0, now_ms);
    for (size_t i = 0; i != 2; ++i)
        if (subjects[i] != 0)
            subscribers_doubt(s, subjects[i], now_ms);
}

static void on_notice(void *ctx, const struct cp_notice *notice)
{
    const struct hearing *hearing = ctx;
    struct flow *flow = hearing->flow;
    struct store *store = flow->shared->trust.store;
    struct cp_keyer *keyer = flow->trust.keyer;

    counts_add(COUNT_NOTICE);
    switch (notice->kind) {
    case CP_NOTICE_TOOLS_LIST_CHANGED:
        purge_list(store, keyer, CP_METHOD_TOOLS_LIST, STORE_RAISE_HARD);
        break;
    case CP_NOTICE_PROMPTS_LIST_CHANGED:
        purge_list(store, keyer, CP_METHOD_PROMPTS_LIST, STORE_RAISE_HARD);
        break;
    case CP_NOTICE_RESOURCES_LIST_CHANGED:
        purge_list(store, keyer, CP_METHOD_RESOURCES_LIST, STORE_RAISE_HARD);
        purge_list(store, keyer, CP_METHOD_RESOURCE_TEMPLATES_LIST, STORE_RAISE_HARD);
        purge_reads(store, keyer, STORE_RAISE_SOFT);
        break;
    case CP_NOTICE_RESOURCE_UPDATED:
        if (notice->uri.p != NULL)
            purge_uri(store, keyer, notice->uri, STORE_RAISE_HARD);
        else
            purge_reads(store, keyer, STORE_RAISE_HARD);
        break;
    }
    note_told(hearing, notice);
}

/* Most events are progress and results, and need no second look. A letter may be written as an escape. */
static bool may_be_notice(struct span text)
{
    return memmem(text.p, text.n, "notifications", 13) != NULL || memmem(text.p, text.n, "\\u", 2) != NULL;
}

void notices_hear(struct flow *flow, struct span text, const uint8_t *subscriber)
{
    struct hearing hearing = {flow, subscriber};

    if (text.p == NULL || text.n == 0 || MUTANT("notices-unheard") || !may_be_notice(text))
        return;
    if (cp_notices_read(&flow->text, text, on_notice, &hearing) != 0)
        h2o_fatal("no memory");
}

void coverage_of_get(struct coverage *ret)
{
    *ret = (struct coverage){.tools = true, .prompts = true, .resources = true, .reads = true};
}

struct covering {
    struct flow *flow;
    struct coverage *coverage;
};

static void add_uri(void *ctx, struct span uri)
{
    struct covering *covering = ctx;
    struct coverage *coverage = covering->coverage;

    if (coverage->uri_count == URIS_MAX) {
        coverage->reads = true;
        return;
    }
    if ((coverage->uri_count & (coverage->uri_count - 1)) == 0)
        coverage->uris =
            h2o_mem_realloc(coverage->uris, (coverage->uri_count != 0 ? coverage->uri_count * 2 : 1) * sizeof(coverage->uris[0]));
    coverage->uris[coverage->uri_count++] = cp_subject_of(covering->flow->trust.keyer, CP_SUBJECT_URI, uri);
}

void coverage_of_listen(struct flow *flow, const struct cp_message *message, struct coverage *ret)
{
    struct covering covering = {flow, ret};
    struct cp_listen listen;

    *ret = (struct coverage){.tools = false};
    if (cp_listen_read(message, &listen, add_uri, &covering) == -ENOMEM)
        h2o_fatal("no memory");
    ret->tools = listen.tools;
    ret->prompts = listen.prompts;
    ret->resources = listen.resources;
}

void coverage_narrow(struct flow *flow, const struct cp_answer *ack, struct coverage *coverage)
{
    struct cp_json_doc *doc = &flow->reply_doc;
    struct coverage granted = {.tools = false};
    struct covering covering = {flow, &granted};
    struct cp_listen listen;
    int r;

    if (cp_json_member(doc, cp_json_member(doc, cp_json_root(doc), SPAN("params")), SPAN("notifications")) == NULL)
        return;
    if ((r = cp_listen_read_ack(ack, doc, &listen, add_uri, &covering)) == -ENOMEM)
        h2o_fatal("no memory");
    if (r != 0)
        return;
    granted.tools = listen.tools;
    granted.prompts = listen.prompts;
    granted.resources = listen.resources;
    coverage_done(coverage);
    *coverage = granted;
}

void coverage_done(struct coverage *coverage)
{
    free(coverage->uris);
}

static void raise_coverage(struct flow *flow, const struct coverage *coverage, enum store_raise how)
{
    struct store *store = flow->shared->trust.store;
    struct cp_keyer *keyer = flow->trust.keyer;

    if (coverage->tools)
        purge_list(store, keyer, CP_METHOD_TOOLS_LIST, how);
    if (coverage->prompts)
        purge_list(store, keyer, CP_METHOD_PROMPTS_LIST, how);
    if (coverage->resources) {
        purge_list(store, keyer, CP_METHOD_RESOURCES_LIST, how);
        purge_list(store, keyer, CP_METHOD_RESOURCE_TEMPLATES_LIST, how);
    }
    if (coverage->reads)
        purge_reads(store, keyer, how);
    for (size_t i = 0; i != coverage->uri_count; ++i)
        store_raise(store, coverage->uris[i], how);
    if (coverage->uri_count != 0)
        store_raise(store, purge_subject_of_many(keyer), how);
}

void coverage_lost(struct flow *flow, const struct coverage *coverage)
{
    if (MUTANT("losses-ignored"))
        return;
    raise_coverage(flow, coverage, STORE_RAISE_SOFT);
    counts_add(COUNT_STREAM_LOST);
}

void coverage_missed(struct flow *flow, const struct coverage *coverage)
{
    raise_coverage(flow, coverage, STORE_RAISE_HARD);
}
