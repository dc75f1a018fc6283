/* SPDX-License-Identifier: Apache-2.0 */
/* Offers. Not here: how a message is changed (cachepolicy/capabilities.c), when (exchange.c). Thread: the flow's loop. */
#include "sidecar/flow/offer.h"

#include "cachepolicy/capabilities.h"

#include <errno.h>

bool offer_is_made(const struct flow *flow, const struct cp_message *message, const struct caller *caller)
{
    if (flow->shared->subscribers == NULL || flow->shared->trust.policy->observe || message->kind != CP_KIND_REQUEST ||
        !caller->facts.body_is_plain || caller->facts.hides_headers || message->is_malformed)
        return false;
    return message->era == CP_ERA_LEGACY
               ? message->method == CP_METHOD_INITIALIZE
               : message->method == CP_METHOD_DISCOVER && cp_version_is_known(CP_ERA_MODERN, message->version);
}

/* Whether lists have a lifetime here at all, so that two of them can be compared when it ends. */
static bool may_tell_of_lists(const struct flow *flow, enum cp_era era)
{
    const struct cp_policy *policy = flow->shared->trust.policy;

    switch (policy->lists_mode) {
    case CP_TTL_OFF:
        return false;
    case CP_TTL_HINT:
        return era == CP_ERA_MODERN;
    case CP_TTL_CAP:
    case CP_TTL_POLICY:
        return policy->lists.ttl_ms > 0;
    }
    return false;
}

bool offer_complete(struct flow *flow, enum cp_era era, struct span text, struct span id, bool has_session, struct buf *out,
                    uint8_t *ret)
{
    struct cp_capabilities has, add = {.tools = false};
    bool with_lists = may_tell_of_lists(flow, era);
    struct cp_answer answer;
    int r;

    *ret = 0;
    cp_answer_parse(&answer, &flow->reply_doc, text);
    if (!answer.is_readable || !cp_answer_is_to(&answer, id) || !answer.has_result)
        return false;
    /* of a version that nobody here knows, nothing is changed; without a session there is nobody to be told */
    if (era == CP_ERA_LEGACY && (!has_session || !cp_version_is_known(CP_ERA_LEGACY, answer.version)))
        return false;
    if (cp_capabilities_read(&answer, &flow->reply_doc, &has) != 0)
        return false;
    add.subscribe = has.resources && !has.subscribe;
    add.tools_change = with_lists && has.tools && !has.tools_change;
    add.prompts_change = with_lists && has.prompts && !has.prompts_change;
    add.resources_change = with_lists && has.resources && !has.resources_change;
    if ((r = cp_capabilities_add(text, &answer, &flow->reply_doc, &add, out)) == -ENOMEM)
        h2o_fatal("no memory");
    if (r != 0)
        return false;
    *ret = (uint8_t)((add.subscribe ? SESSION_OFFER_SUBSCRIBE : 0) | (add.tools_change ? SESSION_OFFER_TOOLS : 0) |
                     (add.prompts_change ? SESSION_OFFER_PROMPTS : 0) | (add.resources_change ? SESSION_OFFER_RESOURCES : 0));
    return true;
}

void offers_forget(struct store *store, struct cp_keyer *keyer)
{
    store_raise(store, cp_subject_of(keyer, CP_SUBJECT_LIST, span_of(cp_method_text(CP_METHOD_DISCOVER))), STORE_RAISE_HARD);
}
