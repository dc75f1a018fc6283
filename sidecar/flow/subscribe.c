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
    *ret = (struct subscriber_id){.is_session = true};
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

enum subscribed subscribe_here(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                               const struct caller *caller, bool was_probed, int64_t now_ms)
{
    const struct trust_shared *trust = &flow->shared->trust;
    bool is_subscribe = message->method == CP_METHOD_RESOURCES_SUBSCRIBE, is_here;
    struct subscriber_id subscriber;

    if (flow->shared->subscribers == NULL || message->kind != CP_KIND_REQUEST || message->era != CP_ERA_LEGACY ||
        (!is_subscribe && message->method != CP_METHOD_RESOURCES_UNSUBSCRIBE) || message->is_malformed || message->name.p == NULL ||
        !caller->id.has_session || !caller->facts.session_known || !caller->facts.body_is_plain || caller->facts.hides_headers ||
        !caller->agrees || !caller->facts.origin_allowed || trust->policy->observe)
        return SUBSCRIBED_UPSTREAM;
    is_here = (caller->session.offers & SESSION_OFFER_SUBSCRIBE) != 0 || cp_policy_result(trust->policy, message->name) != NULL;
    id_of(&caller->id, &subscriber);
    if (!is_subscribe)
        subscribers_unsubscribe(flow->shared->subscribers, subscriber.name,
                                watch_subject(flow, CP_METHOD_RESOURCES_READ, message->name), now_ms);
    if (!is_here)
        return SUBSCRIBED_UPSTREAM;
    switch (admission_of_life(&flow->trust, &caller->id, was_probed, now_ms)) {
    case ADMISSION_PROVEN:
        break;
    case ADMISSION_LAPSED:
    case ADMISSION_UNPROVEN:
        return !was_probed && trust->policy->probe && probe_join(flow, req, wire, message, caller, now_ms) ? SUBSCRIBED_LATER
                                                                                                           : SUBSCRIBED_UPSTREAM;
    case ADMISSION_EXPIRED:
        return SUBSCRIBED_UPSTREAM;
    }
    if (!is_subscribe)
        return SUBSCRIBED_HERE;
    switch (begin(flow, req, &caller->id, message->name, false, now_ms)) {
    case WATCH_DONE:
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
    begin(flow, req, id, uri, true, now_ms);
}

void subscribe_over(struct flow *flow, const struct identity *id, struct span session_id)
{
    struct identity of_session = *id;
    struct actions actions = {0};
    uint8_t name[16];

    if (flow->shared->subscribers == NULL || session_id.p == NULL)
        return;
    cp_digest_of(flow->trust.keyer, "session", session_id, of_session.session);
    of_session.has_session = true;
    identity_session_name(&of_session, name);
    subscribers_end_session(flow->shared->subscribers, name, &actions);
    announce(flow, &actions);
}
