/* SPDX-License-Identifier: Apache-2.0 */
/* Watching. Not here: the question itself (question.c), how it is sent (refresh.c), what an answer is worth (fill.c). Thread: the flow's loop. */
#include "sidecar/flow/watch.h"

#include "cachepolicy/content.h"
#include "sidecar/counts.h"
#include "sidecar/flow/announce.h"
#include "sidecar/flow/lookup.h"
#include "sidecar/flow/refresh.h"
#include "sidecar/flow/stream.h"
#include "sidecar/upstream/budget.h"

#include <errno.h>
#include <stdlib.h>

uint64_t watch_subject(struct flow *flow, enum cp_method method, struct span uri)
{
    return uri.p != NULL ? cp_subject_of(flow->trust.keyer, CP_SUBJECT_URI, uri)
                         : cp_subject_of(flow->trust.keyer, CP_SUBJECT_LIST, span_of(cp_method_text(method)));
}

/* False: nothing that could be compared with another answer. */
static bool content_of(struct flow *flow, enum cp_method method, struct span result, struct watch_content *ret)
{
    struct buf *text = &flow->content;
    int r;

    text->n = 0;
    if ((r = cp_content_of(method, result, &flow->own_doc, text)) == -ENOMEM)
        h2o_fatal("no memory");
    if (r != 0)
        return false;
    cp_digest_of(flow->trust.keyer, "content", buf_span(text), ret->bytes);
    return true;
}

/* What lies there for him now. Its content is read last: it takes the place of the question in flow->own_doc. */
static void take_baseline(struct flow *flow, struct question *q, struct subscription *what, int64_t now_ms)
{
    struct found found;

    if (q->decision.action != CP_ACTION_LOOKUP ||
        !lookup_find(flow, q->req, &q->decision, &q->keys, &q->caller.id, now_ms, &found) || found.entry.is_negative ||
        admission_of(&flow->trust, &q->caller.id, q->keys.grant, &found.entry, false, 0, now_ms) == ADMISSION_UNPROVEN ||
        !content_of(flow, what->method, found.entry.body, &what->content))
        return;
    what->has_content = true;
    what->is_shared = found.entry.scope == CP_SCOPE_PUBLIC;
    what->began_ms = found.entry.began_ms;
    /* the whole lifetime: an entry may end up to a tenth sooner, so that not all end at once, but nobody is asked more often than he said */
    what->fresh_until_ms =
        found.age.remaining_ms > 0
            ? found.entry.stored_at_ms + cp_lifetime_of(&q->decision, found.entry.has_hint, found.entry.hint_ttl_ms)
            : now_ms;
    what->subjects = found.entry.subjects;
    what->subject_count = found.entry.subject_count;
}

enum watch watch_begin(struct flow *flow, const struct watcher *who, const struct watched *what, int64_t now_ms)
{
    const struct flow_shared *shared = flow->shared;
    struct subscription s = {
        .topic = what->topic,
        .method = what->method,
        .subject = watch_subject(flow, what->method, what->uri),
        .uri = what->uri,
        .is_covered = what->is_covered,
        .is_result = what->uri.p != NULL && cp_policy_result(shared->trust.policy, what->uri) != NULL,
        .first_poll_ms = what->from_ms,
    };
    struct question q = {.req = NULL};
    enum subscribe how;

    if (question_make(flow, who->req, who->message, what->method, what->uri, who->id->name, now_ms, &q)) {
        s.own = q.own;
        s.shared = q.shared;
        s.has_shared = q.has_shared;
        take_baseline(flow, &q, &s, now_ms);
    } else if (s.is_covered || s.is_result) {
        /* told by the upstream, or by what its tool says */
        cp_digest_of(flow->trust.keyer, "watch", (struct span){(const char *)who->id->name, sizeof(who->id->name)}, s.own.bytes);
        memcpy(s.own.bytes, &s.subject, sizeof(s.subject));
    } else {
        return WATCH_CANNOT;
    }
    how = subscribers_subscribe(shared->subscribers, who->id, who->stream, &s, now_ms);
    question_done(&q);
    switch (how) {
    case SUBSCRIBE_DONE:
        return WATCH_DONE;
    case SUBSCRIBE_FULL:
        break;
    }
    return WATCH_FULL;
}

/* ---- polls ---------------------------------------------------------------------------------------------------------------------- */

struct poll {
    h2o_linklist_t link; /* of the flow's, while it is under way */
    struct flow *flow;
    uint64_t who;
    struct action action; /* with one reference to its URI */
    bool tells;
};

static void settle(struct flow *flow, const struct action *action, bool tells, enum poll_end how)
{
    struct subscribers *subscribers = flow->shared->subscribers;
    int64_t now_ms = store_now_ms(flow->shared->trust.store);

    if (!tells)
        subscribers_polled(subscribers, &action->name, how, now_ms);
    else if (how == POLL_SEEN)
        stream_tell(flow, action);
    else
        subscribers_unheard(subscribers, action->subscriber, action->subject, action->method, how, now_ms);
}

static uint64_t who_of(const struct identity *id)
{
    uint64_t who;

    memcpy(&who, id->credential.bytes, sizeof(who));
    return who;
}

/* One caller's subscriptions are not to keep those of all others waiting: he has a quarter of the places at most, of those that this loop has taken. */
static bool has_his_share(struct flow *flow, uint64_t who)
{
    size_t max = flow->shared->polls->max / 4, count = 0;

    for (h2o_linklist_t *l = flow->polls.next; l != &flow->polls; l = l->next)
        count += H2O_STRUCT_FROM_MEMBER(struct poll, link, l)->who == who;
    return count >= (max != 0 ? max : 1);
}

bool watch_may_poll(struct flow *flow, const struct identity *id, const struct action *action, bool tells, int64_t now_ms)
{
    const struct budget_places *polls = flow->shared->polls;
    uint64_t who = who_of(id);

    /* all who come without credentials look alike, and each of them waits for the others */
    if (!budget_is_full(polls) && !(has_his_share(flow, who) && !id->credential.is_anonymous) &&
        rate_take(flow->shared->poll_rate, who, now_ms))
        return true;
    /* before a question is made: thousands may wait for a place */
    settle(flow, action, tells, polls->max != 0 ? POLL_BUSY : POLL_FAILED);
    return false;
}

static void end_poll(struct poll *poll, enum poll_end how)
{
    struct flow *flow = poll->flow;

    if (h2o_linklist_is_linked(&poll->link))
        h2o_linklist_unlink(&poll->link);
    settle(flow, &poll->action, poll->tells, how);
    topic_text_unref(poll->action.uri);
    topic_text_unref(poll->action.tool);
    free(poll);
}

static void on_polled(void *ctx, bool is_good)
{
    counts_add(is_good ? COUNT_POLLED : COUNT_POLL_FAILED);
    end_poll(ctx, is_good ? POLL_SEEN : POLL_FAILED);
}

void watch_poll(struct flow *flow, const struct watcher *who, const struct action *action, bool tells, int64_t now_ms)
{
    struct poll *poll = h2o_mem_alloc(sizeof(*poll));
    struct question q = {.req = NULL};
    struct flight_name name;

    *poll = (struct poll){.flow = flow, .action = *action, .tells = tells};
    topic_text_ref(action->uri);
    topic_text_ref(action->tool);
    if (!question_make(flow, who->req, who->message, action->method, topic_text_span(action->uri), who->id->name, now_ms, &q)) {
        end_poll(poll, POLL_FAILED);
        return;
    }
    poll->who = who_of(&q.caller.id);
    h2o_linklist_insert(&flow->polls, &poll->link);
    flight_name_of(flow, &q.keys, &q.decision, &q.caller.id, now_ms, &name);
    /* what is everybody's is asked for once for everybody */
    if (q.has_shared && memcmp(action->name.bytes, q.shared.bytes, sizeof(q.shared.bytes)) == 0)
        flight_name_for_everybody(&q.keys, &name);
    else if (!tells && !action->is_shared)
        /* his stream may have other headers than the request that subscribed: what it is answered is still what he is to hear of */
        q.own = action->name;
    switch (refresh_begin(flow, &(struct refresh_order){
                                    .req = q.req,
                                    .wire = &q.wire,
                                    .message = &q.message,
                                    .caller = &q.caller,
                                    .definition = &q.definition,
                                    .decision = &q.decision,
                                    .keys = &q.keys,
                                    .name = name,
                                    .now_ms = now_ms,
                                    .own = &q.own,
                                    .on_polled = on_polled,
                                    .ctx = poll,
                                })) {
    case REFRESH_BEGUN:
        break;
    case REFRESH_BUSY:
        end_poll(poll, POLL_BUSY);
        break;
    case REFRESH_PAUSED:
        end_poll(poll, POLL_FAILED);
        break;
    }
    question_done(&q);
}

/* ---- what passes ---------------------------------------------------------------------------------------------------------------- */

static bool is_compared(const struct cp_message *message, const struct cp_decision *decision)
{
    switch (message->method) {
    case CP_METHOD_TOOLS_LIST:
    case CP_METHOD_PROMPTS_LIST:
    case CP_METHOD_RESOURCES_LIST:
    case CP_METHOD_RESOURCE_TEMPLATES_LIST:
        return !keys_is_later_page(message);
    case CP_METHOD_RESOURCES_READ:
        return true;
    case CP_METHOD_TOOLS_CALL:
        return decision->rule != NULL && decision->rule->resource.text != NULL;
    default:
        return false;
    }
}

bool watch_may_want(struct flow *flow, const struct cp_message *message, const struct cp_decision *decision,
                    const struct keys *keys, const struct watch_name *own)
{
    const struct subscribers *subscribers = flow->shared->subscribers;
    struct watch_name own_name, shared_name;
    bool has_own;

    if (subscribers == NULL || !is_compared(message, decision))
        return false;
    /* a tool's results are remembered before anybody subscribes to what they are called */
    if (own != NULL || message->method == CP_METHOD_TOOLS_CALL)
        return true;
    question_names(keys, &own_name, &has_own, &shared_name);
    return (has_own && subscribers_may_want(subscribers, &own_name)) ||
           (keys->has_public && subscribers_may_want(subscribers, &shared_name));
}

struct naming {
    struct flow *flow;
    uint64_t subject;
    bool has_name;
};

static void on_uri(void *ctx, struct span uri)
{
    struct naming *naming = ctx;

    naming->subject = cp_subject_of(naming->flow->trust.keyer, CP_SUBJECT_URI, uri);
    naming->has_name = true;
}

/* A tool's result, by what its rule calls it. The message's scan must still be in its doc. */
static void saw_result(struct flow *flow, const struct seen *seen, const struct sighting *sighting, int64_t now_ms,
                       struct actions *actions)
{
    struct naming naming = {flow, 0, false};
    struct result_sighting result = {
        .seen = *sighting,
        .scope = seen->is_everybodys ? CP_SCOPE_PUBLIC : seen->decision->private_scope,
        .tool = seen->message->name,
    };

    if (cp_tags_expand(&seen->decision->rule->resource, 1, seen->message, &flow->content, on_uri, &naming) != 0)
        h2o_fatal("no memory");
    if (!naming.has_name)
        return;
    result.subject = naming.subject;
    memcpy(result.principal, seen->id->principal.bytes, sizeof(result.principal));
    if (seen->id->has_session)
        identity_session_name(seen->id, result.session);
    subscribers_saw_result(flow->shared->subscribers, &result, now_ms, actions);
}

bool watch_saw(struct flow *flow, const struct seen *seen, int64_t now_ms)
{
    const struct keys *keys = seen->keys;
    struct sighting sighting = {
        .content = WATCH_GONE,
        .began_ms = seen->began_ms,
        .fresh_until_ms = seen->fresh_until_ms,
        .subjects = keys->subjects,
        .subject_count = keys->subject_count,
    };
    struct watch_name own, shared;
    struct actions actions = {0};
    bool has_own;

    if (seen->result.p != NULL && !content_of(flow, seen->message->method, seen->result, &sighting.content))
        return false;
    question_names(keys, &own, &has_own, &shared);
    if (seen->own != NULL) {
        own = *seen->own;
        has_own = true;
    }
    if (keys->has_public && (seen->result.p != NULL ? seen->is_everybodys : seen->is_gone_for_all)) {
        sighting.name = shared;
        sighting.is_shared = true;
        if (has_own)
            subscribers_gave_way(flow->shared->subscribers, &own);
        subscribers_saw(flow->shared->subscribers, &sighting, now_ms, &actions);
    }
    if (has_own && !(seen->result.p != NULL && seen->is_everybodys && keys->has_public)) {
        sighting.name = own;
        sighting.is_shared = false;
        subscribers_saw(flow->shared->subscribers, &sighting, now_ms, &actions);
    }
    if (seen->message->method == CP_METHOD_TOOLS_CALL && seen->result.p != NULL && (has_own || keys->has_public)) {
        sighting.name = seen->is_everybodys ? shared : own;
        saw_result(flow, seen, &sighting, now_ms, &actions);
    }
    announce(flow, &actions);
    return true;
}
