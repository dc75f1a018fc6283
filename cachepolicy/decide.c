/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions: may this call be answered from the store, may this reply go into it, is this entry fresh now.
 * Not here: which rule speaks (rule.c), what the key is made of (key.c), generations and hit-for-miss marks (the runtime).
 * Always: whether a call is a write depends on the policy, the server's annotation and the body alone, never on a header that a stranger may leave out;
 * an annotation takes caching away and never grants it; what is not plainly allowed is forwarded; hints and replies narrow who may share, only the policy widens. Thread: any. */
#include "decide.h"

#include "mutant.h"

/* Methods that may be answered from the store; everything else is forwarded (2026-07-28 server/utilities/caching names the first six). */
enum family {
    FAMILY_NONE,
    FAMILY_LIST, /* server/discover and the four lists */
    FAMILY_READ,
    FAMILY_CALL,
};

static enum family family_of(enum cp_method method)
{
    switch (method) {
    case CP_METHOD_DISCOVER:
    case CP_METHOD_TOOLS_LIST:
    case CP_METHOD_RESOURCES_LIST:
    case CP_METHOD_RESOURCE_TEMPLATES_LIST:
    case CP_METHOD_PROMPTS_LIST:
        return FAMILY_LIST;
    case CP_METHOD_RESOURCES_READ:
        return FAMILY_READ;
    case CP_METHOD_TOOLS_CALL:
        return FAMILY_CALL;
    case CP_METHOD_OTHER:
    case CP_METHOD_INITIALIZE:
    case CP_METHOD_RESOURCES_SUBSCRIBE:
    case CP_METHOD_RESOURCES_UNSUBSCRIBE:
    case CP_METHOD_PROMPTS_GET:
    case CP_METHOD_COMPLETE:
    case CP_METHOD_PING:
    case CP_METHOD_LISTEN:
    case CP_METHOD_CANCELLED:
    case CP_METHOD_INITIALIZED:
        return FAMILY_NONE;
    }
    return FAMILY_NONE;
}

bool cp_version_is_known(enum cp_era era, struct span version)
{
    if (era == CP_ERA_MODERN)
        return span_eq(version, SPAN("2026-07-28"));
    return span_eq(version, SPAN("2025-03-26")) || span_eq(version, SPAN("2025-06-18")) || span_eq(version, SPAN("2025-11-25"));
}

static void bypass(struct cp_decision *ret, enum cp_reason reason)
{
    ret->action = CP_ACTION_BYPASS;
    ret->reason = reason;
}

static bool is_write(struct cp_decision *ret, enum cp_reason reason)
{
    ret->action = CP_ACTION_WRITE;
    ret->reason = reason;
    return false;
}

/* The same for a tool. */
static bool choose_tool(const struct cp_policy *policy, const struct cp_message *message, enum cp_annotation annotation,
                        struct cp_decision *ret)
{
    bool is_vetoed = annotation == CP_ANNOTATION_VETO && !MUTANT("veto-ignored");

    if (message->name.p == NULL) {
        bypass(ret, CP_REASON_MALFORMED);
        return false;
    }
    ret->rule = cp_policy_tool(policy, message->name);
    if (ret->rule == NULL) {
        if (!policy->unlisted_neutral && annotation != CP_ANNOTATION_READ_ONLY)
            return is_write(ret, CP_REASON_UNLISTED);
        /* the operator's word for all that he did not name is weaker than the server's for this one */
        if (is_vetoed)
            return is_write(ret, CP_REASON_ANNOTATION);
        bypass(ret, CP_REASON_NO_RULE);
        return false;
    }
    switch (ret->rule->kind) {
    case CP_TOOL_WRITE:
        return is_write(ret, CP_REASON_WRITE);
    case CP_TOOL_NEUTRAL:
        bypass(ret, CP_REASON_OFF);
        return false;
    case CP_TOOL_CACHE:
        break;
    }
    if (is_vetoed && !ret->rule->despite_annotations)
        return is_write(ret, CP_REASON_ANNOTATION);
    ret->ttl_mode = ret->rule->ttl_mode;
    ret->lifetime = ret->rule->lifetime;
    return true;
}

/* A malformed call: nothing of it is kept, but whether it may write, and what that would purge, is still of interest. */
static void doubt(const struct cp_policy *policy, const struct cp_message *message, enum cp_annotation annotation,
                  struct cp_decision *ret)
{
    struct cp_decision tool = {.action = CP_ACTION_BYPASS};

    choose_tool(policy, message, annotation, &tool);
    ret->rule = tool.rule;
    ret->is_doubtful = message->name.p == NULL || tool.action == CP_ACTION_WRITE;
}

/* Who speaks, and for how long. False: ret says why the story ends here. Reads nothing but policy, annotation and body. */
static bool choose_rule(const struct cp_policy *policy, const struct cp_message *message, enum family family,
                        enum cp_annotation annotation, struct cp_decision *ret)
{
    switch (family) {
    case FAMILY_NONE:
        bypass(ret, CP_REASON_METHOD);
        return false;
    case FAMILY_LIST:
        /* Born in the modern era: a legacy request of this name is nothing that any version describes. */
        if (message->method == CP_METHOD_DISCOVER && message->era == CP_ERA_LEGACY) {
            bypass(ret, CP_REASON_METHOD);
            return false;
        }
        ret->ttl_mode = policy->lists_mode;
        ret->lifetime = policy->lists;
        return true;
    case FAMILY_READ:
        if (message->name.p == NULL) {
            bypass(ret, CP_REASON_MALFORMED);
            return false;
        }
        ret->rule = cp_policy_resource(policy, message->name);
        ret->ttl_mode = ret->rule != NULL ? ret->rule->ttl_mode : policy->resources_mode;
        ret->lifetime = ret->rule != NULL ? ret->rule->lifetime : policy->resources;
        return true;
    case FAMILY_CALL:
        return choose_tool(policy, message, annotation, ret);
    }
    return false;
}

/* Why the policy can give this call no lifetime, or NONE. */
static enum cp_reason why_no_lifetime(const struct cp_decision *decision)
{
    switch (decision->ttl_mode) {
    case CP_TTL_OFF:
        return CP_REASON_OFF;
    case CP_TTL_HINT:
        return decision->hint_counts ? CP_REASON_NONE : CP_REASON_NO_TTL;
    case CP_TTL_CAP:
    case CP_TTL_POLICY:
        return decision->lifetime.ttl_ms > 0 ? CP_REASON_NONE : CP_REASON_NO_TTL;
    }
    return CP_REASON_OFF;
}

static bool is_controlled(const struct cp_rule *rule)
{
    return rule == NULL || rule->client_control;
}

static enum cp_reason why_caller_goes_upstream(const struct cp_caller *caller, const struct cp_rule *rule)
{
    if (caller->hides_headers)
        return CP_REASON_CONNECTION;
    if (!caller->accepts_json)
        return CP_REASON_ACCEPT;
    if (!caller->origin_allowed)
        return CP_REASON_ORIGIN;
    if (caller->no_store && is_controlled(rule))
        return CP_REASON_CLIENT_CONTROL;
    if (caller->has_proof)
        return CP_REASON_PROOF;
    return CP_REASON_NONE;
}

/* The scope that the policy itself grants; session where it says nothing. */
static enum cp_scope granted_scope(const struct cp_rule *rule)
{
    return rule != NULL && rule->has_scope ? rule->scope : CP_SCOPE_SESSION;
}

/* Fills the arms. Modern: no session exists, so a session scope is the credentials alone, and both words make one key.
 * Legacy: a public rule whose reply turns out private falls back to the session, the narrowest there is. */
static void choose_scopes(const struct cp_policy *policy, const struct cp_message *message, const struct cp_caller *caller,
                          enum family family, struct cp_decision *ret)
{
    enum cp_scope granted = granted_scope(ret->rule);

    if (message->era == CP_ERA_MODERN) {
        bool is_narrowed = ret->rule != NULL && ret->rule->has_scope && ret->rule->scope != CP_SCOPE_PUBLIC;
        ret->may_public = family == FAMILY_CALL ? granted == CP_SCOPE_PUBLIC : !is_narrowed;
        ret->private_scope = CP_SCOPE_PRINCIPAL;
    } else {
        ret->may_public = granted == CP_SCOPE_PUBLIC;
        ret->private_scope = granted == CP_SCOPE_PRINCIPAL ? CP_SCOPE_PRINCIPAL : CP_SCOPE_SESSION;
    }
    /* Everyone without credentials looks alike here, though the upstream may tell them apart by what this process does not see; a
     * session id is no credential. */
    ret->may_private = !caller->is_anonymous || policy->anonymous_shared;
}

void cp_decide(const struct cp_policy *policy, const struct cp_message *message, const struct cp_caller *caller,
               struct cp_decision *ret)
{
    *ret = (struct cp_decision){.action = CP_ACTION_BYPASS, .ttl_mode = CP_TTL_OFF, .private_scope = CP_SCOPE_SESSION};

    switch (message->kind) {
    case CP_KIND_OPAQUE:
        bypass(ret, CP_REASON_OPAQUE);
        return;
    case CP_KIND_BATCH:
        bypass(ret, CP_REASON_BATCH);
        return;
    case CP_KIND_NOTIFICATION:
    case CP_KIND_RESPONSE:
        bypass(ret, CP_REASON_METHOD);
        return;
    case CP_KIND_REQUEST:
        break;
    }
    enum family family = family_of(message->method);
    if (message->is_malformed) {
        if (family == FAMILY_CALL)
            doubt(policy, message, caller->annotation, ret);
        bypass(ret, CP_REASON_MALFORMED);
        return;
    }
    if (!choose_rule(policy, message, family, caller->annotation, ret))
        return;

    bool is_legacy = message->era == CP_ERA_LEGACY;
    ret->hint_counts = !is_legacy && family != FAMILY_CALL;

    enum cp_reason reason = CP_REASON_NONE;
    if (!caller->body_is_plain)
        reason = CP_REASON_MEDIA_TYPE;
    else if (!cp_version_is_known(message->era, is_legacy ? caller->version : message->version))
        reason = CP_REASON_VERSION;
    else if (message->is_continuation)
        reason = CP_REASON_CONTINUATION;
    else if (message->is_task)
        reason = CP_REASON_TASK;
    else
        reason = why_no_lifetime(ret);
    if (reason == CP_REASON_NONE && (policy->observe || (ret->rule != NULL && ret->rule->observe)))
        reason = CP_REASON_OBSERVE;
    ret->only_if_cached = reason == CP_REASON_NONE && caller->only_if_cached && is_controlled(ret->rule);
    if (reason == CP_REASON_NONE)
        reason = why_caller_goes_upstream(caller, ret->rule);

    choose_scopes(policy, message, caller, family, ret);
    /* A wider share is keyed by what the session negotiated; unknown here, it would be keyed by nothing. */
    bool is_wide = ret->may_public || ret->private_scope != CP_SCOPE_SESSION;
    if (reason == CP_REASON_NONE && is_legacy && is_wide && caller->has_session && !caller->session_known)
        reason = CP_REASON_SESSION;
    if (reason == CP_REASON_NONE && !ret->may_public && !ret->may_private)
        reason = CP_REASON_ANONYMOUS;

    /* The one who asks past the store renews what lies there, for all who may look there. */
    ret->may_store = reason == CP_REASON_NONE;
    if (reason == CP_REASON_NONE && caller->no_cache && is_controlled(ret->rule))
        reason = CP_REASON_CLIENT_CONTROL;
    ret->action = reason == CP_REASON_NONE ? CP_ACTION_LOOKUP : CP_ACTION_BYPASS;
    ret->reason = reason;
}

/* Poll results (tasks/...) count as writes on purpose: what a task did is seen by whoever polled for its end. */
static bool unknown_may_write(struct span method)
{
    return !span_eq(method, SPAN("logging/setLevel"));
}

bool cp_may_write(const struct cp_message *message, const struct cp_caller *caller, const struct cp_decision *decision)
{
    /* The upstream may read another message than this one. */
    if (!caller->body_is_plain)
        return true;
    switch (message->kind) {
    case CP_KIND_OPAQUE:
    case CP_KIND_BATCH:
        return true;
    case CP_KIND_NOTIFICATION:
    case CP_KIND_RESPONSE:
        return false;
    case CP_KIND_REQUEST:
        break;
    }
    switch (message->method) {
    case CP_METHOD_TOOLS_CALL:
        return decision->action == CP_ACTION_WRITE || decision->is_doubtful;
    case CP_METHOD_OTHER:
        return unknown_may_write(message->method_text);
    case CP_METHOD_CANCELLED:
    case CP_METHOD_INITIALIZED:
        return true; /* with an id they are nothing that any version describes */
    case CP_METHOD_INITIALIZE:
    case CP_METHOD_DISCOVER:
    case CP_METHOD_TOOLS_LIST:
    case CP_METHOD_RESOURCES_LIST:
    case CP_METHOD_RESOURCE_TEMPLATES_LIST:
    case CP_METHOD_RESOURCES_READ:
    case CP_METHOD_RESOURCES_SUBSCRIBE:
    case CP_METHOD_RESOURCES_UNSUBSCRIBE:
    case CP_METHOD_PROMPTS_LIST:
    case CP_METHOD_PROMPTS_GET:
    case CP_METHOD_COMPLETE:
    case CP_METHOD_PING:
    case CP_METHOD_LISTEN:
        return false;
    }
    return true;
}

/* What HTTP alone says against keeping the reply. */
static enum cp_reason why_reply_is_not_kept(const struct cp_reply *reply)
{
    if (reply->status != 200)
        return CP_REASON_STATUS;
    if (!reply->is_json && !reply->is_events)
        return CP_REASON_TYPE;
    if (reply->is_encoded)
        return CP_REASON_ENCODING;
    if (reply->sets_cookie && !MUTANT("set-cookie-stored"))
        return CP_REASON_SET_COOKIE;
    if (reply->no_store)
        return CP_REASON_NO_STORE;
    if (reply->vary_unkeyed && !MUTANT("vary-ignored"))
        return CP_REASON_VARY;
    return CP_REASON_NONE;
}

/* What the JSON-RPC message says against it. */
static enum cp_reason why_answer_is_not_kept(enum cp_era era, const struct cp_reply *reply, const struct cp_answer *answer,
                                             int64_t negative_ttl_ms)
{
    if (!answer->is_readable || answer->is_batch || answer->has_method || (!answer->has_result && !answer->has_error))
        return CP_REASON_UNREADABLE;
    if (answer->has_error)
        return CP_REASON_RPC_ERROR;
    if (!reply->id_matches)
        return CP_REASON_WRONG_ID;
    if (!answer->is_object)
        return CP_REASON_RESULT_TYPE;
    /* Absent means complete only where no version of the era writes it. */
    if (answer->type != CP_RESULT_COMPLETE && !(era == CP_ERA_LEGACY && answer->type == CP_RESULT_ABSENT))
        return CP_REASON_RESULT_TYPE;
    if (answer->is_exchange_private)
        return CP_REASON_EXCHANGE;
    if (reply->server_asked)
        return CP_REASON_SERVER_REQUEST;
    if (answer->refuses_cache)
        return CP_REASON_NO_STORE;
    if (answer->is_error && negative_ttl_ms <= 0 && !MUTANT("is-error-stored"))
        return CP_REASON_IS_ERROR;
    return CP_REASON_NONE;
}

bool cp_is_public_granted(const struct cp_decision *decision, bool has_hint, int64_t hint_ttl_ms)
{
    if (!decision->hint_counts)
        return decision->may_public;
    return decision->may_public && ((has_hint && hint_ttl_ms > 0) || granted_scope(decision->rule) == CP_SCOPE_PUBLIC);
}

/* The server's hint can only be as wide as it was meant: "public" beside ttlMs 0 is what some implementations stamp on everything, so a lifetime of
 * the policy's own does not inherit it; the operator's explicit public does. */
bool cp_is_everybodys(const struct cp_decision *decision, enum cp_era era, const struct cp_reply *reply,
                      const struct cp_answer *answer)
{
    if (!decision->may_public || reply->is_private)
        return false;
    if (!decision
             ->hint_counts) /* tools and the legacy era: may_public is the rule's explicit word, which a server's own can only narrow */
        return era != CP_ERA_MODERN || answer->scope != CP_HINT_PRIVATE;
    return answer->scope == CP_HINT_PUBLIC && cp_is_public_granted(decision, answer->has_ttl, answer->ttl_ms);
}

void cp_decide_store(const struct cp_decision *decision, const struct cp_message *message, const struct cp_reply *reply,
                     const struct cp_answer *answer, struct cp_storing *ret)
{
    *ret = (struct cp_storing){.store = false, .reason = decision->reason, .scope = decision->private_scope};
    if (decision->action != CP_ACTION_LOOKUP && !decision->may_store)
        return;

    ret->reason = why_reply_is_not_kept(reply);
    if (ret->reason == CP_REASON_NONE)
        ret->reason = why_answer_is_not_kept(message->era, reply, answer, cp_negative_lifetime_of(decision));
    if (ret->reason != CP_REASON_NONE)
        return;

    ret->is_negative = answer->is_error && !MUTANT("is-error-stored");
    ret->has_hint = decision->hint_counts && answer->has_ttl;
    ret->hint_ttl_ms = ret->has_hint ? answer->ttl_ms : 0;
    if (!ret->is_negative && cp_lifetime_of(decision, ret->has_hint, ret->hint_ttl_ms) <= 0) {
        ret->reason = CP_REASON_NO_TTL;
        return;
    }
    if ((!ret->is_negative || MUTANT("negative-public")) && cp_is_everybodys(decision, message->era, reply, answer)) {
        ret->scope = CP_SCOPE_PUBLIC;
    } else if (!decision->may_private) {
        ret->reason = CP_REASON_ANONYMOUS;
        return;
    }
    ret->store = true;
}

static int64_t clamp_ttl(int64_t ttl_ms)
{
    if (ttl_ms < 0)
        return 0;
    return ttl_ms > CP_TTL_MAX_MS ? CP_TTL_MAX_MS : ttl_ms;
}

int64_t cp_lifetime_of(const struct cp_decision *decision, bool has_hint, int64_t hint_ttl_ms)
{
    int64_t hint = has_hint ? clamp_ttl(hint_ttl_ms) : 0;
    int64_t ttl = clamp_ttl(decision->lifetime.ttl_ms);

    switch (decision->ttl_mode) {
    case CP_TTL_OFF:
        return 0;
    case CP_TTL_HINT:
        return decision->hint_counts ? hint : 0;
    case CP_TTL_CAP:
        /* Modern: a missing ttlMs means 0 (2026-07-28 server/utilities/caching). Legacy: there is no hint to wait for. */
        if (!decision->hint_counts)
            return ttl;
        return hint < ttl ? hint : ttl;
    case CP_TTL_POLICY:
        return ttl;
    }
    return 0;
}

int64_t cp_negative_lifetime_of(const struct cp_decision *decision)
{
    if (decision->rule == NULL || decision->ttl_mode == CP_TTL_OFF || decision->rule->negative_ttl_ms <= 0)
        return 0;
    return decision->rule->negative_ttl_ms < CP_NEGATIVE_TTL_MAX_MS ? decision->rule->negative_ttl_ms : CP_NEGATIVE_TTL_MAX_MS;
}

int64_t cp_retention_of(const struct cp_decision *decision, const struct cp_storing *storing)
{
    int64_t grace = clamp_ttl(decision->lifetime.grace_ms), stale_if_error = clamp_ttl(decision->lifetime.stale_if_error_ms);

    if (storing->is_negative)
        return cp_negative_lifetime_of(decision);
    return cp_lifetime_of(decision, storing->has_hint, storing->hint_ttl_ms) + (grace > stale_if_error ? grace : stale_if_error);
}

/* 0 to 10 % of the lifetime. The first eight bytes of the digest are cp_key_bind's. */
static int64_t jitter_of(const struct cp_key *key, int64_t lifetime_ms)
{
    int64_t share = key->digest[8] << 8 | key->digest[9];
    int64_t jitter_ms = lifetime_ms * share / (UINT16_MAX * 10);

    return MUTANT("jitter-added") ? -jitter_ms : jitter_ms;
}

/* stored_at comes from disk and may be rotten: beyond the range means dead, never a wrapped, young age. */
static int64_t age_of(int64_t stored_at_ms, int64_t now_ms)
{
    int64_t age;

    if (__builtin_sub_overflow(now_ms, stored_at_ms, &age))
        age = now_ms > stored_at_ms ? INT64_MAX : 0;
    return age < 0 ? 0 : age;
}

void cp_age_of(const struct cp_decision *decision, const struct cp_key *key, const struct cp_stored *entry, int64_t now_ms,
               struct cp_age *ret)
{
    int64_t lifetime =
        entry->is_negative ? cp_negative_lifetime_of(decision) : cp_lifetime_of(decision, entry->has_hint, entry->hint_ttl_ms);
    int64_t grace = entry->is_negative ? 0 : clamp_ttl(decision->lifetime.grace_ms);
    int64_t stale_if_error = entry->is_negative ? 0 : clamp_ttl(decision->lifetime.stale_if_error_ms);
    int64_t age = age_of(entry->stored_at_ms, now_ms), hint = entry->has_hint ? clamp_ttl(entry->hint_ttl_ms) : 0;
    int64_t end = lifetime - jitter_of(key, lifetime), over;

    *ret = (struct cp_age){.freshness = CP_DEAD, .age_ms = age, .remaining_ms = end - age};
    /* how far into grace and stale_if_error it is; their first moment, when only a soft purge ended it */
    over = age > end ? age - end : 0;
    if (entry->is_soft_purged && ret->remaining_ms > 0)
        ret->remaining_ms = 0;
    if (lifetime <= 0)
        return;
    if (age < end && !entry->is_soft_purged) {
        ret->freshness = CP_FRESH;
        if (hint > age)
            ret->hint_remaining_ms = hint - age;
    } else if (over < grace) {
        ret->freshness = CP_STALE;
    } else if (over < stale_if_error) {
        ret->freshness = CP_STALE_IF_ERROR;
    }
    ret->may_stand_in = ret->freshness != CP_DEAD && !entry->is_negative;
}
