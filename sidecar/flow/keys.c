/* SPDX-License-Identifier: Apache-2.0 */
/* Keys. Not here: what a key is made of (cachepolicy/key.c), what lies there (lookup.c).
 * Always: what reaches the upstream is in the key, or it is known to change nothing. Thread: the flow's loop. */
#include "sidecar/flow/keys.h"

#include "sidecar/flow/purge.h"

/* In the modern era these are compared with the body (cp_agree), so they say nothing that the key does not; where nothing compares them they are headers like any
 * other. */
static bool is_mirror(struct span name, const struct cp_message *message)
{
    return message->era == CP_ERA_MODERN &&
           (span_eq(name, SPAN("mcp-method")) || (span_eq(name, SPAN("mcp-name")) && cp_mirrors_name(message)));
}

/* Request headers that join every key, each with its name and length: those that the policy names, absent or not, and, as they came, all others that travel upstream and are
 * neither inert nor part of the principal. What reaches the upstream is keyed, or it is known to change nothing. */
static int add_vary(struct flow *flow, h2o_req_t *req, const struct cp_message *message, struct buf *out)
{
    const struct cp_policy *policy = flow->shared->trust.policy;
    int r = 0;

    out->n = 0;
    for (size_t i = 0; r == 0 && i != policy->vary_header_count; ++i) {
        struct span name = span_of(policy->vary_headers[i]);

        r = caller_add_header(out, name, wire_header(req, name));
    }
    for (size_t i = 0; r == 0 && i != req->headers.size; ++i) {
        const h2o_header_t *h = &req->headers.entries[i];
        struct span name = {h->name->base, h->name->len};

        if (!wire_is_inert(name) && !caller_is_credential(policy, name) && !is_mirror(name, message))
            r = caller_add_header(out, name, (struct span){h->value.base != NULL ? h->value.base : "", h->value.len});
    }
    return r;
}

/* Always present, also when nothing was ever written to the buf: a key must not depend on what a loop has seen before. */
static struct span present(const struct buf *b)
{
    return b->n != 0 ? buf_span(b) : SPAN("");
}

bool keys_is_later_page(const struct cp_message *message)
{
    return cp_json_member(message->doc, message->params, SPAN("cursor")) != NULL && message->method != CP_METHOD_TOOLS_CALL &&
           message->method != CP_METHOD_RESOURCES_READ;
}

enum cp_reason keys_make(struct flow *flow, h2o_req_t *req, struct wire_request *wire, const struct cp_message *message,
                         const struct caller *caller, const struct definition *definition, const struct cp_decision *decision,
                         struct keys *ret)
{
    const struct cp_rule *rule = decision->rule;
    struct span client = caller->facts.session_known
                             ? (struct span){(const char *)caller->session.client, sizeof(caller->session.client)}
                             : SPAN_ABSENT;
    struct cp_question question = {
        .upstream = span_of(flow->shared->upstream.url->text),
        .authority = wire->authority,
        .path = wire->path,
        .era = message->era,
        .version = caller->facts.version,
        .method = message->method,
        .definition = definition_text(definition),
    };
    struct cp_share share = {.principal = &caller->id.principal, .session = caller->session_id};

    flow->params.n = flow->mcp_params.n = 0;
    if (cp_message_canonical(message, rule != NULL ? rule->ignore : NULL, rule != NULL ? rule->ignore_count : 0, &flow->params) !=
            0 ||
        cp_mirror_params(wire->params, wire->param_count, &flow->mcp_params) != 0 || add_vary(flow, req, message, &flow->vary) != 0)
        return CP_REASON_KEY_SIZE;
    if (flow->params.n > flow->shared->max_key_bytes)
        return CP_REASON_KEY_SIZE;
    ret->own_subject = cp_subject_of_principal(&caller->id.principal);
    ret->subject_count = 0;
    ret->has_first_page = false;
    admission_grant_name(&flow->trust, &caller->id, message, ret->grant);
    question.params = present(&flow->params);
    question.mcp_params = present(&flow->mcp_params);
    question.vary = present(&flow->vary);
    if ((ret->has_private = decision->may_private)) {
        share.scope = decision->private_scope;
        question.client = share.scope != CP_SCOPE_SESSION ? client : SPAN_ABSENT;
        cp_key_of(flow->trust.keyer, &question, &share, &ret->private_key);
    }
    /* of two definitions of one tool, everybody's entries were made under the other one */
    ret->has_public = decision->may_public && definition->is_everybodys;
    /* with no place to keep the answer, still the name of the question: those who ask it together are known by it */
    if (ret->has_public || !ret->has_private) {
        share.scope = CP_SCOPE_PUBLIC;
        question.client = client;
        cp_key_of(flow->trust.keyer, &question, &share, &ret->public_key);
        if (ret->has_public && keys_is_later_page(message)) {
            flow->params.n = 0;
            if (cp_message_canonical_first_page(message, &flow->params) != 0)
                return CP_REASON_KEY_SIZE;
            question.params = present(&flow->params);
            cp_key_of(flow->trust.keyer, &question, &share, &ret->first_page);
            ret->has_first_page = true;
        }
    }
    return CP_REASON_NONE;
}

void keys_add_subject(uint64_t subjects[STORE_SUBJECTS_MAX], size_t *count, uint64_t subject, uint64_t many)
{
    for (size_t i = 0; i != *count; ++i)
        if (subjects[i] == subject)
            return;
    if (*count != STORE_SUBJECTS_MAX)
        subjects[(*count)++] = subject;
    else
        subjects[STORE_SUBJECTS_MAX - 1] = many;
}

struct adding {
    struct flow *flow;
    struct keys *keys;
};

static void add_of(struct adding *adding, enum cp_subject kind, struct span text)
{
    struct cp_keyer *keyer = adding->flow->trust.keyer;

    keys_add_subject(adding->keys->subjects, &adding->keys->subject_count, cp_subject_of(keyer, kind, text),
                     purge_subject_of_many(keyer));
}

static void add_tag(void *ctx, struct span tag)
{
    add_of(ctx, CP_SUBJECT_TAG, tag);
}

static void add_uri(void *ctx, struct span uri)
{
    add_of(ctx, CP_SUBJECT_URI, uri);
}

void keys_add_subjects(struct flow *flow, const struct cp_message *message, const struct cp_decision *decision,
                       const struct definition *definition, struct keys *keys)
{
    const struct cp_rule *rule = decision->rule;
    struct adding adding = {flow, keys};

    keys->subject_count = 0;
    switch (message->method) {
    case CP_METHOD_TOOLS_CALL:
        add_of(&adding, CP_SUBJECT_TOOL, message->name);
        /* what the tool is was not seen: if the tools change it may be another one */
        if (!definition->is_known)
            add_of(&adding, CP_SUBJECT_LIST, span_of(cp_method_text(CP_METHOD_TOOLS_LIST)));
        break;
    case CP_METHOD_RESOURCES_READ:
        add_uri(&adding, message->name);
        add_of(&adding, CP_SUBJECT_READS, SPAN(""));
        break;
    default:
        add_of(&adding, CP_SUBJECT_LIST, message->method_text);
        break;
    }
    if (rule == NULL)
        return;
    if (cp_tags_expand(rule->tags, rule->tag_count, message, &flow->text, add_tag, &adding) != 0 ||
        (rule->resource.text != NULL && cp_tags_expand(&rule->resource, 1, message, &flow->text, add_uri, &adding) != 0))
        h2o_fatal("no memory");
}

bool keys_bind(const struct keys *keys, const struct identity *id, enum cp_scope scope, struct cp_key *ret)
{
    if (!keys->has_private || id->principal_epoch == 0)
        return false;
    *ret = keys->private_key;
    cp_key_bind(ret, id->principal_epoch);
    if (scope != CP_SCOPE_SESSION || !id->has_session)
        return true;
    cp_key_bind(ret, id->epochs[1]);
    return id->epochs[1] != 0;
}
