/* SPDX-License-Identifier: Apache-2.0 */
/* Stamps. Not here: which call is a write (cachepolicy/), when they are raised (exchange.c). Thread: the flow's loop. */
#include "sidecar/flow/stamps.h"

#include "sidecar/flow/announce.h"
#include "sidecar/flow/purge.h"

struct adding {
    struct flow *flow;
    struct stamps *stamps;
    const struct caller *caller;
};

bool stamps_is_unsafe(struct span http_method)
{
    return !span_eq(http_method, SPAN("GET")) && !span_eq(http_method, SPAN("HEAD")) && !span_eq(http_method, SPAN("OPTIONS")) &&
           !span_eq(http_method, SPAN("TRACE"));
}

static void add_tag(void *ctx, struct span tag)
{
    struct adding *adding = ctx;

    struct cp_keyer *keyer = adding->flow->trust.keyer;

    keys_add_subject(adding->stamps->subjects, &adding->stamps->count, purge_subject_of_many(keyer), STORE_SUBJECT_ALL);
    keys_add_subject(adding->stamps->subjects, &adding->stamps->count, cp_subject_of(keyer, CP_SUBJECT_TAG, tag),
                     /* more than can be named: rather everything */ STORE_SUBJECT_ALL);
}

static void add_message(void *ctx, const struct cp_message *message)
{
    struct adding *adding = ctx;
    const struct cp_policy *policy = adding->flow->shared->trust.policy;
    struct stamps *stamps = adding->stamps;
    struct cp_caller facts = adding->caller->facts;
    struct definition definition;
    struct cp_decision decision;

    definition_of(&adding->flow->trust, &adding->caller->id, message->method == CP_METHOD_TOOLS_CALL ? message->name : SPAN_ABSENT,
                  &definition);
    facts.annotation = definition.annotation;
    cp_decide(policy, message, &facts, &decision);
    if (!cp_may_write(message, &facts, &decision))
        return;
    stamps->own = cp_subject_of_principal(&adding->caller->id.principal);
    keys_add_subject(stamps->subjects, &stamps->count, stamps->own, STORE_SUBJECT_ALL);
    if (decision.rule != NULL && cp_tags_expand(decision.rule->invalidates, decision.rule->invalidate_count, message,
                                                &adding->flow->text, add_tag, adding) != 0)
        h2o_fatal("no memory");
}

void stamps_of(struct flow *flow, const struct cp_message *message, const struct caller *caller, struct stamps *ret)
{
    struct adding adding = {flow, ret, caller};

    ret->count = ret->begun = 0;
    ret->own = 0;
    ret->is_known = caller->id.epochs[0] != 0;
    if (message->kind == CP_KIND_BATCH && caller->facts.body_is_plain)
        cp_message_each(message->doc, add_message, &adding);
    else
        add_message(&adding, message);
}

void stamps_add_groups(struct flow *flow, struct span header, struct stamps *stamps)
{
    struct adding adding = {.flow = flow, .stamps = stamps};

    cp_groups_parse(header, add_tag, &adding);
}

void stamps_raise(struct flow *flow, const struct stamps *stamps)
{
    if (MUTANT("writes-unstamped"))
        return;
    for (size_t i = 0; i != stamps->count; ++i)
        store_raise(flow->shared->trust.store, stamps->subjects[i], STORE_RAISE_HARD);
}

void stamps_announce(struct flow *flow, const struct stamps *stamps)
{
    uint64_t tags[STORE_SUBJECTS_MAX];
    size_t count = 0;

    for (size_t i = 0; i != stamps->count; ++i)
        if (stamps->subjects[i] != stamps->own)
            tags[count++] = stamps->subjects[i];
    announce_purged(flow, tags, count);
}

void stamps_begin(struct flow *flow, struct stamps *stamps)
{
    if (MUTANT("told-when-begun"))
        stamps_announce(flow, stamps);
    for (stamps->begun = 0; stamps->begun != stamps->count; ++stamps->begun)
        stamps->places[stamps->begun] = (uint16_t)store_begin(flow->shared->trust.store, stamps->subjects[stamps->begun]);
}

void stamps_end(struct flow *flow, struct stamps *stamps)
{
    while (stamps->begun != 0)
        store_end(flow->shared->trust.store, stamps->places[--stamps->begun]);
}
