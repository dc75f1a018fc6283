/* SPDX-License-Identifier: Apache-2.0 */
/* Listening. Always: what is acknowledged was asked for, and is told of by the upstream or by us. Thread: the flow's loop. */
#include "sidecar/flow/listening.h"

#include <errno.h>
#include <stdlib.h>

void listening_done(struct listening *l)
{
    for (size_t i = 0; i != l->uri_count; ++i)
        free((char *)l->uris[i].p);
    free(l->uris);
    *l = (struct listening){.uris = NULL};
}

static bool is_results(void *ctx, struct span uri)
{
    const struct cp_policy *policy = ctx;

    return cp_policy_result(policy, uri) != NULL;
}

bool listening_rewrites(struct flow *flow, const struct cp_message *message, struct buf *out)
{
    int r = cp_listen_without(message, is_results, flow->shared->trust.policy, out);

    if (r == -ENOMEM)
        h2o_fatal("no memory");
    return r == 0;
}

struct reading {
    struct flow *flow;
    struct listening *l;
    listening_fn fn;
    void *ctx;
    uint64_t *granted; /* URIs that the upstream tells of */
    size_t granted_count, asked_count;
    bool is_any;
};

static uint64_t subject_of(struct reading *r, struct span uri)
{
    return cp_subject_of(r->flow->trust.keyer, CP_SUBJECT_URI, uri);
}

static void on_granted(void *ctx, struct span uri)
{
    struct reading *r = ctx;

    if (r->granted_count == LISTENING_URIS_MAX)
        return;
    if (r->granted == NULL)
        r->granted = h2o_mem_alloc(LISTENING_URIS_MAX * sizeof(r->granted[0]));
    r->granted[r->granted_count++] = subject_of(r, uri);
}

static bool is_granted(struct reading *r, struct span uri)
{
    uint64_t subject = subject_of(r, uri);

    for (size_t i = 0; i != r->granted_count; ++i)
        if (r->granted[i] == subject)
            return true;
    return false;
}

static void add_uri(struct listening *l, struct span uri)
{
    if ((l->uri_count & (l->uri_count - 1)) == 0)
        l->uris = h2o_mem_realloc(l->uris, (l->uri_count != 0 ? l->uri_count * 2 : 1) * sizeof(l->uris[0]));
    l->uris[l->uri_count++] = (struct span){h2o_strdup(NULL, uri.p, uri.n).base, uri.n};
}

static void on_asked(void *ctx, struct span uri)
{
    struct reading *r = ctx;
    bool is_covered;

    if (r->asked_count++ >= LISTENING_URIS_MAX)
        return;
    is_covered = is_granted(r, uri);
    r->is_any |= is_covered;
    if (r->fn(r->ctx, TOPIC_RESOURCE, CP_METHOD_RESOURCES_READ, uri, is_covered) && !is_covered)
        add_uri(r->l, uri);
}

/* True: we tell of it, and nobody else. */
static bool ask_list(struct reading *r, enum topic topic, enum cp_method method, bool is_asked, bool is_covered)
{
    return is_asked && r->fn(r->ctx, topic, method, SPAN_ABSENT, is_covered) && !is_covered;
}

bool listening_begin(struct listening *l, struct flow *flow, const struct cp_message *message, const struct cp_answer *ack,
                     listening_fn fn, void *ctx)
{
    struct reading r = {.flow = flow, .l = l, .fn = fn, .ctx = ctx};
    struct cp_listen asked, granted = {.tools = false};

    listening_done(l);
    if (ack != NULL && cp_listen_read_ack(ack, &flow->reply_doc, &granted, on_granted, &r) == -ENOMEM)
        h2o_fatal("no memory");
    if (cp_listen_read(message, &asked, on_asked, &r) == -ENOMEM)
        h2o_fatal("no memory");
    l->lists.tools = ask_list(&r, TOPIC_TOOLS_LIST, CP_METHOD_TOOLS_LIST, asked.tools, granted.tools);
    l->lists.prompts = ask_list(&r, TOPIC_PROMPTS_LIST, CP_METHOD_PROMPTS_LIST, asked.prompts, granted.prompts);
    l->lists.resources = ask_list(&r, TOPIC_RESOURCES_LIST, CP_METHOD_RESOURCES_LIST, asked.resources, granted.resources);
    l->lists.resources |= ask_list(&r, TOPIC_RESOURCES_LIST, CP_METHOD_RESOURCE_TEMPLATES_LIST, asked.resources, granted.resources);
    free(r.granted);
    l->they_tell = (granted.tools && asked.tools) || (granted.prompts && asked.prompts) || (granted.resources && asked.resources) ||
                   granted.has_others || r.is_any;
    return ack != NULL || listening_adds(l);
}

bool listening_adds(const struct listening *l)
{
    return l->uri_count != 0 || l->lists.tools || l->lists.prompts || l->lists.resources;
}
