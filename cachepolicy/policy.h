/* SPDX-License-Identifier: Apache-2.0 */
/* Policy: the operator's text, read once into one immutable whole. First matching rule speaks. Unknown keys are errors.
 * Thread: immutable after parse, any; shared by ref/unref (atomic). */
#ifndef CP_POLICY_H
#define CP_POLICY_H

#include "error.h"
#include "key.h"
#include "pointer.h"
#include "template.h"

/* Ceiling of every duration that keeps an answer: 24 h, as the SDKs clamp ttlMs. Written larger: an error that says so. */
#define CP_TTL_MAX_MS (24LL * 60 * 60 * 1000)
/* Ceiling of negative_ttl: an error is kept to spare an upstream in trouble, not to be believed. Written larger: an error that says so. */
#define CP_NEGATIVE_TTL_MAX_MS 5000
/* Largest text of a policy; a larger one is an error. */
#define CP_POLICY_TEXT_MAX_BYTES ((size_t)1024 * 1024)

/* How the server's hint (ttlMs, cacheScope) and the policy's ttl meet. */
enum cp_ttl_mode {
    CP_TTL_OFF,    /* never cached */
    CP_TTL_HINT,   /* the hint alone; no hint (legacy era): not cached */
    CP_TTL_CAP,    /* modern: min(hint, ttl), without a hint nothing; legacy: ttl */
    CP_TTL_POLICY, /* ttl, whatever the hint says (tools; resource rules with despite_hints: true) */
};

/* tools: cache = a ttl of its own or of its class; write and neutral are never cached; neutral does not count as a write. */
enum cp_tool_kind {
    CP_TOOL_WRITE,
    CP_TOOL_NEUTRAL,
    CP_TOOL_CACHE,
};

/* Which entries of a rule may leave this process for a tier that other sidecars share. */
enum cp_shared_tier {
    CP_SHARED_NONE,
    CP_SHARED_PUBLIC, /* entries of public scope (the default) */
    CP_SHARED_ALL,
};

struct cp_lifetime {
    int64_t ttl_ms; /* 0 .. CP_TTL_MAX_MS */
    int64_t grace_ms;
    int64_t stale_if_error_ms;
};

struct cp_rule {
    char *pattern; /* name of a tool or URI of a resource: exact, or with *, ?, ** (globs) */
    bool is_glob;
    enum cp_tool_kind kind; /* tools; `ttl: off` makes any rule CP_TOOL_NEUTRAL, every other resource rule is CP_TOOL_CACHE */
    enum cp_ttl_mode ttl_mode;
    struct cp_lifetime lifetime;
    enum cp_scope scope;
    bool has_scope; /* the rule (or its class) names a scope; without it: resources take the hint's, tools CP_SCOPE_SESSION */
    bool despite_annotations;
    bool despite_hints;
    bool observe;        /* mode: observe, for this rule alone */
    bool client_control; /* the client's own Cache-Control may send the call upstream; default true */
    enum cp_shared_tier shared_tier;
    int64_t timeout_ms;        /* of one fetch; 0: none of its own */
    int64_t negative_ttl_ms;   /* of isError results, 0 .. CP_NEGATIVE_TTL_MAX_MS; 0: they are not kept */
    struct cp_pointer *ignore; /* key.ignore, into arguments */
    size_t ignore_count;
    struct cp_template *tags;
    size_t tag_count;
    struct cp_template *invalidates;
    size_t invalidate_count;
    struct cp_template resource; /* text NULL: none */
    char *class_name;            /* NULL: none */
    const char *file;            /* borrowed from the policy: where the rule stands, for messages and explain */
    unsigned line;
};

struct cp_policy {
    /* identity */
    char **identity_headers; /* lower case; "authorization" always, then the others as listed */
    size_t identity_header_count;
    char **identity_claims; /* identity.claims, default none */
    size_t identity_claim_count;
    char **proof_headers; /* identity.proof_headers, lower case; default {"dpop"}: such a request is never looked up */
    size_t proof_header_count;
    bool anonymous_shared; /* identity.anonymous: shared (default nobody) */
    bool probe;
    int64_t lease_ms, grant_ms;
    /* defaults */
    enum cp_ttl_mode lists_mode, resources_mode; /* OFF, HINT or CAP */
    struct cp_lifetime lists, resources;
    bool unlisted_neutral; /* defaults.unlisted_tools: neutral (default write) */
    bool observe;          /* mode: observe */
    char *
        *vary_headers; /* key.headers at top level: request headers that join every key; lower case; default {"accept-language"} */
    size_t vary_header_count;
    struct cp_rule *tools;
    size_t tool_count;
    struct cp_rule *resource_rules;
    size_t resource_count;
    char **files; /* names of the texts, for cp_rule.file */
    size_t file_count;
    int refs; /* atomic */
};

/* One text of a policy. Both borrowed. name is what messages say. */
struct cp_policy_text {
    const char *name;
    struct span text;
};

/* Reads the texts, in order, as one policy (rules of later files follow those of earlier ones; a scalar setting or class given in two files is an error
 * that names both places). No text at all is the empty policy: defaults only. Every mistake that can be found is appended to errors, not only the first.
 * 0 and *ret (shared, one reference), or -EINVAL with errors filled, or -ENOMEM. */
int cp_policy_parse(const struct cp_policy_text *texts, size_t count, struct cp_policy **ret, struct cp_errors *errors);
struct cp_policy *cp_policy_ref(struct cp_policy *policy);
void cp_policy_unref(struct cp_policy *policy);

/* First rule whose pattern matches the decoded tool name or URI (byte-exact, case-sensitive), or NULL. */
const struct cp_rule *cp_policy_tool(const struct cp_policy *policy, struct span name);
const struct cp_rule *cp_policy_resource(const struct cp_policy *policy, struct span uri);
/* First tool rule whose `resource` template can make this URI, or NULL: its subscribers hear of that tool's results. */
const struct cp_rule *cp_policy_result(const struct cp_policy *policy, struct span uri);

#endif
