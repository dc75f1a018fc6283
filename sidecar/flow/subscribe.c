/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribing. Not here: what is told, and when (notify/subscribers.h). Always: what is subscribed to here was asked for by a caller whom the upstream was lately seen to let in,
 * in a session that is his. Thread: the flow's loop. */
#include "sidecar/flow/subscribe.h"

#include "sidecar/flow/announce.h"
#include "sidecar/flow/probe.h"
#include "sidecar/flow/watch.h"
#include "sidecar/trust/admission.h"

static void id_of(const struct identity *id, struct subscriber_id *ret)
{
    *ret = (struct subscriber_id){.is_session = true, .is_anonymous = id->credential.is_anonymous};
    identity_session_name(id, ret->name);
    memcpy(ret->credential, id->credential.bytes, sizeof(ret->credential));
    memcpy(ret->principal, id->principal.bytes, sizeof(ret->principal));
}

static enum watch begin(struct flow *flow, h2o_req_t *req, const struct identity *id, struct span uri, bool is_covered,
                        int64_t now_ms)
{
    struct subscriber_id subscriber;

    id_of(id, &subscriber);
    return watch_begin(
        flow, &(struct watcher){.id = &subscriber, .req = req},
        &(struct watched){.topic = TOPIC_RESOURCE, .method = CP_METHOD_RESOURCES_READ, .uri = uri, .is_covered = is_covered},
        now_ms);
}

/* ---- over a restart ------------------------------------------------------------------------------------------------------------- */

/* All that is kept of sessions' subscriptions counts as one owner's in the store. */
#define SUBSCRIPTIONS_OWNER 3
/* A session with more is not remembered. */
#define REMEMBERED_MAX (256 * 1024)

/* False: the session has no standing. Under another standing it is another session. */
static bool key_of(struct flow *flow, const struct identity *id, struct cp_key *ret)
{
    uint8_t name[16];

    identity_session_name(id, name);
    trust_key_of(&flow->trust, "subscriptions entry", "subscriptions check", name, ret);
    if (id->epochs[1] != 0)
        cp_key_bind(ret, id->epochs[1]);
    return id->epochs[1] != 0;
}

/* For each URI: whether it is covered, its length, its bytes. */
static void add_remembered(void *ctx, struct span uri, bool is_covered)
{
    struct buf *text = ctx;
    uint32_t head[2] = {is_covered, (uint32_t)uri.n};

    if (buf_add(text, head, sizeof(head)) != 0 || buf_add_span(text, uri) != 0)
        h2o_fatal("no memory");
}

void subscribe_remember(struct flow *flow, const struct identity *id, int64_t now_ms)
{
    struct store *store = flow->shared->trust.store;
    struct buf *text = &flow->content;
    struct cp_key key;
    uint8_t name[16];

    if (!key_of(flow, id, &key))
        return;
    identity_session_name(id, name);
    text->n = 0;
    subscribers_list(flow->shared->subscribers, name, add_remembered, text);
    if (text->n == 0 || text->n > REMEMBERED_MAX) {
        store_delete(store, &key);
        return;
    }
    store_put(store, &key,
              &(struct store_entry){
                  .body = buf_span(text),
                  .generation = store_generation(store),
                  .stored_at_ms = now_ms,
                  .began_ms = now_ms,
                  .expires_at_ms = now_ms + CP_TTL_MAX_MS,
                  .scope = CP_SCOPE_SESSION,
                  .method = CP_METHOD_INITIALIZE,
                  .owner = SUBSCRIPTIONS_OWNER,
              });
}

void subscribe_recall(struct flow *flow, h2o_req_t *req, const struct identity *id, int64_t now_ms)
{
    struct store_entry entry;
    struct cp_key key;
    const char *at, *end;
    uint8_t name[16];

    identity_session_name(id, name);
    if (subscribers_knows(flow->shared->subscribers, name) || !key_of(flow, id, &key) ||
        trust_get(&flow->trust, &key, &req->pool, &entry) != STORE_HIT || entry.method != CP_METHOD_INITIALIZE ||
        now_ms - entry.stored_at_ms >= SUBSCRIBE_IDLE_MS)
        return;
    for (at = entry.body.p, end = at + entry.body.n; (size_t)(end - at) >= 2 * sizeof(uint32_t);) {
        uint32_t head[2];

        memcpy(head, at, sizeof(head));
        at += sizeof(head);
        if (head[1] > (size_t)(end - at))
            break;
        begin(flow, req, id, (struct span){at, head[1]}, head[0] != 0, now_ms);
        at += head[1];
    }
}

static void take_back(struct flow *flow, h2o_req_t *req, const struct identity *id, struct span uri, int64_t now_ms)
{
    uint8_t name[16];

    /* what is remembered is all that there is, or what comes next would bring the rest back */
    subscribe_recall(flow, req, id, now_ms);
    identity_session_name(id, name);
    subscribers_unsubscribe(flow->shared->subscribers, name, watch_subject(flow, CP_METHOD_RESOURCES_READ, uri), now_ms);
    subscribe_remember(flow, id, now_ms);
}

struct batch {
    struct flow *flow;
    h2o_req_t *req;
    const struct identity *id;
    int64_t now_ms;
};

static void on_element(void *ctx, const struct cp_message *message)
{
    struct batch *all = ctx;

    if (message->kind == CP_KIND_REQUEST && message->method == CP_METHOD_RESOURCES_UNSUBSCRIBE && message->name.p != NULL &&
        !message->is_malformed)
        take_back(all->flow, all->req, all->id, message->name, all->now_ms);
}

void subscribe_heed_batch(struct flow *flow, h2o_req_t *req, const struct cp_message *batch, const struct identity *id,
                          int64_t now_ms)
{
    struct batch all = {flow, req, id, now_ms};

    if (flow->shared->subscribers != NULL && id->has_session && id->epochs[0] != 0 && id->epochs[1] != 0)
        cp_message_each(batch->doc, on_element, &all);
}

/* ---- in a session --------------------------------------------------------------------------------------------------------------- */

enum subscribed subscribe_here(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                               const struct caller *caller, enum probed probed, int64_t now_ms)
{
    const struct trust_shared *trust = &flow->shared->trust;
    bool is_subscribe = message->method == CP_METHOD_RESOURCES_SUBSCRIBE, is_here;

    if (flow->shared->subscribers == NULL || message->kind != CP_KIND_REQUEST || message->era != CP_ERA_LEGACY ||
        (!is_subscribe && message->method != CP_METHOD_RESOURCES_UNSUBSCRIBE) || message->is_malformed || message->name.p == NULL ||
        !caller->id.has_session || !caller->facts.session_known || !caller->facts.body_is_plain || caller->facts.hides_headers ||
        !caller->agrees || !caller->facts.origin_allowed || trust->policy->observe)
        return SUBSCRIBED_UPSTREAM;
    is_here = (caller->session.offers & SESSION_OFFER_SUBSCRIBE) != 0 || cp_policy_result(trust->policy, message->name) != NULL;
    /* not by whoever has the session's id and claims to be its owner */
    if (!is_subscribe && caller->id.epochs[0] != 0 && caller->id.epochs[1] != 0)
        take_back(flow, req, &caller->id, message->name, now_ms);
    if (!is_here)
        return SUBSCRIBED_UPSTREAM;
    switch (admission_of_life(&flow->trust, &caller->id, probed == PROBED_WELL, now_ms)) {
    case ADMISSION_PROVEN:
        break;
    case ADMISSION_LAPSED:
        return probed == PROBED_NOT && trust->policy->probe && probe_join(flow, req, wire, message, caller, now_ms)
                   ? SUBSCRIBED_LATER
                   : SUBSCRIBED_UPSTREAM;
    case ADMISSION_UNPROVEN:
    case ADMISSION_EXPIRED:
        return SUBSCRIBED_UPSTREAM;
    }
    if (!is_subscribe)
        return SUBSCRIBED_HERE;
    subscribe_recall(flow, req, &caller->id, now_ms);
    switch (begin(flow, req, &caller->id, message->name, false, now_ms)) {
    case WATCH_DONE:
        subscribe_remember(flow, &caller->id, now_ms);
        return SUBSCRIBED_HERE;
    case WATCH_FULL:
        return SUBSCRIBED_FULL;
    case WATCH_CANNOT:
        break;
    }
    return SUBSCRIBED_UPSTREAM;
}

void subscribe_noted(struct flow *flow, h2o_req_t *req, const struct identity *id, struct span uri, int64_t now_ms)
{
    subscribe_recall(flow, req, id, now_ms);
    if (begin(flow, req, id, uri, true, now_ms) == WATCH_DONE)
        subscribe_remember(flow, id, now_ms);
}

void subscribe_over(struct flow *flow, const struct identity *id)
{
    struct actions actions = {0};
    struct cp_key key;
    uint8_t name[16];

    /* not by whoever has the session's id and claims to be its owner */
    if (flow->shared->subscribers == NULL || !id->has_session || id->epochs[0] == 0)
        return;
    if (key_of(flow, id, &key))
        store_delete(flow->shared->trust.store, &key);
    identity_session_name(id, name);
    subscribers_end_session(flow->shared->subscribers, name, &actions);
    announce(flow, &actions);
}
