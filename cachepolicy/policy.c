/* SPDX-License-Identifier: Apache-2.0 */
/* Policy: from the texts to one immutable whole, and its life by reference.
 * Not here: YAML (tree.c), single values (reader.c), settings and rules (policy_settings.c, policy_rules.c).
 * Always: a policy is either whole or not there; nobody changes one after cp_policy_parse returned it. Thread: parse in one, then any. */
#include "policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "reader.h"

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static void free_rules(struct cp_rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cp_rule_done(&rules[i]);
    free(rules);
}

static void policy_free(struct cp_policy *policy)
{
    if (policy == NULL)
        return;
    free_names(policy->identity_headers, policy->identity_header_count);
    free_names(policy->identity_claims, policy->identity_claim_count);
    free_names(policy->proof_headers, policy->proof_header_count);
    free_names(policy->vary_headers, policy->vary_header_count);
    free_rules(policy->tools, policy->tool_count);
    free_rules(policy->resource_rules, policy->resource_count);
    free_names(policy->files, policy->file_count);
    free(policy);
}

struct cp_policy *cp_policy_ref(struct cp_policy *policy)
{
    __atomic_add_fetch(&policy->refs, 1, __ATOMIC_RELAXED);
    return policy;
}

void cp_policy_unref(struct cp_policy *policy)
{
    if (policy != NULL && __atomic_sub_fetch(&policy->refs, 1, __ATOMIC_ACQ_REL) == 0)
        policy_free(policy);
}

static int one_name(const char *name, char ***ret, size_t *ret_count)
{
    *ret = calloc(1, sizeof(**ret));
    if (*ret == NULL)
        return -ENOMEM;
    (*ret)[0] = strdup(name);
    if ((*ret)[0] == NULL)
        return -ENOMEM;
    *ret_count = 1;
    return 0;
}

/* What holds where no text says anything. On failure the policy is half-built and is still for policy_free. */
static int set_defaults(struct cp_policy *policy)
{
    policy->refs = 1;
    policy->probe = true;
    policy->lease_ms = 60000;
    policy->grant_ms = 3600000;
    policy->lists_mode = CP_TTL_HINT;
    policy->resources_mode = CP_TTL_HINT;
    int r = one_name("authorization", &policy->identity_headers, &policy->identity_header_count);
    if (r == 0)
        r = one_name("dpop", &policy->proof_headers, &policy->proof_header_count);
    if (r == 0)
        r = one_name("accept-language", &policy->vary_headers, &policy->vary_header_count);
    return r;
}

static int set_built_in_classes(struct cp_reader *reader)
{
    static const struct {
        const char *name;
        int64_t ttl_ms;
    } built_in[] = {{"static", 600000}, {"semi-dynamic", 15000}, {"realtime", 1000}, {"write", 0}};
    const size_t count = sizeof(built_in) / sizeof(built_in[0]);

    reader->classes = calloc(count, sizeof(*reader->classes));
    if (reader->classes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        reader->classes[i].name = span_of(built_in[i].name);
        reader->classes[i].lifetime.ttl_ms = built_in[i].ttl_ms;
        reader->classes[i].is_write = built_in[i].ttl_ms == 0;
    }
    reader->class_count = count;
    return 0;
}

static int name_files(struct cp_policy *policy, const struct cp_policy_text *texts, size_t count)
{
    policy->files = calloc(count > 0 ? count : 1, sizeof(*policy->files));
    if (policy->files == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        policy->files[i] = strdup(texts[i].name != NULL ? texts[i].name : "");
        if (policy->files[i] == NULL)
            return -ENOMEM;
        policy->file_count++;
    }
    return 0;
}

static size_t file_order(const struct cp_policy *policy, const char *file)
{
    char cut[sizeof(((struct cp_error *)NULL)->file)]; /* as an error holds it */
    size_t i = 0;

    for (; i < policy->file_count; i++) {
        snprintf(cut, sizeof(cut), "%s", policy->files[i]);
        if (strcmp(cut, file) == 0)
            break;
    }
    return i;
}

static bool is_before(const struct cp_policy *policy, const struct cp_error *a, const struct cp_error *b)
{
    size_t order_a = file_order(policy, a->file), order_b = file_order(policy, b->file);

    if (order_a != order_b)
        return order_a < order_b;
    if (a->line != b->line)
        return a->line < b->line;
    return a->column < b->column;
}

/* Rules are read after all settings; whoever mends a text goes through it from top to bottom. Errors before `from` are not ours. */
static void sort_errors(const struct cp_policy *policy, struct cp_errors *errors, size_t from)
{
    for (size_t i = from + 1; i < errors->count; i++) {
        for (size_t j = i; j > from && is_before(policy, &errors->items[j], &errors->items[j - 1]); j--) {
            struct cp_error swapped = errors->items[j];
            errors->items[j] = errors->items[j - 1];
            errors->items[j - 1] = swapped;
        }
    }
}

/* Trees of all texts; those that cannot be read at all stay empty. 0 or -ENOMEM. */
static int parse_trees(struct cp_reader *reader, const struct cp_policy_text *texts, size_t count, struct cp_tree *trees)
{
    for (size_t i = 0; i < count; i++) {
        int r = cp_tree_parse(reader->policy->files[i], texts[i].text, &trees[i], reader->errors);
        if (r == -ENOMEM)
            return r;
        if (r < 0)
            trees[i].is_bad = true;
        if (trees[i].is_bad)
            reader->is_bad = true;
    }
    return 0;
}

static int read_all(struct cp_reader *reader, const struct cp_policy_text *texts, size_t count, struct cp_tree *trees)
{
    bool is_first = true;

    int r = set_defaults(reader->policy);
    if (r == 0)
        r = name_files(reader->policy, texts, count);
    if (r == 0)
        r = set_built_in_classes(reader);
    if (r == 0)
        r = parse_trees(reader, texts, count, trees);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count && !reader->no_memory; i++) {
        if (trees[i].root == NULL || trees[i].root->type == CP_TREE_NULL) {
            is_first = is_first && !trees[i].is_bad; /* the version may stand in what could not be read */
            continue;
        }
        reader->file = reader->policy->files[i];
        cp_read_settings(reader, trees[i].root, is_first);
        is_first = false;
    }
    for (size_t i = 0; i < count && !reader->no_memory; i++) {
        if (trees[i].root == NULL)
            continue;
        reader->file = reader->policy->files[i];
        cp_read_rules(reader, trees[i].root);
    }
    if (reader->no_memory)
        return -ENOMEM;
    return reader->is_bad ? -EINVAL : 0;
}

int cp_policy_parse(const struct cp_policy_text *texts, size_t count, struct cp_policy **ret, struct cp_errors *errors)
{
    struct cp_reader reader = {.errors = errors, .policy = calloc(1, sizeof(*reader.policy))};
    struct cp_tree *trees = calloc(count > 0 ? count : 1, sizeof(*trees));
    size_t errors_before = errors != NULL ? errors->count : 0;
    int r = -ENOMEM;

    if (reader.policy != NULL && trees != NULL)
        r = read_all(&reader, texts, count, trees);
    if (r == -EINVAL && errors != NULL)
        sort_errors(reader.policy, errors, errors_before);
    for (size_t i = 0; trees != NULL && i < count; i++)
        cp_tree_done(&trees[i]);
    free(trees);
    free(reader.classes);
    if (r == 0)
        *ret = reader.policy;
    else
        policy_free(reader.policy);
    return r;
}
