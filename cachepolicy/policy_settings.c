/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of a policy: version, identity, key, defaults, classes, mode. Rules are in policy_rules.c.
 * Always: what may stand once stands once in all texts together, so that the order of files never decides who sees what.
 * Thread: one parse, one reader. */
#include <stdio.h>
#include <stdlib.h>

#include "reader.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LIST_MAX     64

static const char *const top_keys[] = {"version", "identity", "key", "defaults", "classes", "tools", "resources", "mode"};
enum {
    TOP_VERSION,
    TOP_IDENTITY,
    TOP_KEY,
    TOP_DEFAULTS,
    TOP_CLASSES,
    TOP_TOOLS,
    TOP_RESOURCES,
    TOP_MODE,
};

/* False (and an error that names both places) when another text said it before. node NULL: nothing is said here. */
static bool is_first(struct cp_reader *reader, enum cp_setting setting, const struct cp_tree_node *node, const char *what)
{
    struct cp_place *place = &reader->settings[setting];

    if (node == NULL)
        return false;
    if (place->file != NULL) {
        cp_reader_error(reader, node->name_line, node->name_column, "'%s' is given twice; the first stands in %s:%u", what,
                        place->file, place->line);
        return false;
    }
    *place = (struct cp_place){reader->file, node->name_line};
    return true;
}

/* ---- lists of names ------------------------------------------------------------------------------------------------------ */

static bool is_token(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool is_alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_alnum && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return s.n > 0;
}

/* Puts one more name at the end of a list of at most LIST_MAX. name is taken. */
static void push_name(struct cp_reader *reader, char ***names, size_t *count, char *name)
{
    char **grown = name != NULL ? realloc(*names, (*count + 1) * sizeof(**names)) : NULL;

    if (grown == NULL) {
        free(name);
        reader->no_memory = true;
        return;
    }
    grown[*count] = name;
    *names = grown;
    ++*count;
}

static bool has_name(char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

static void drop_names(char ***names, size_t *count)
{
    for (size_t i = 0; i < *count; i++)
        free((*names)[i]);
    free(*names);
    *names = NULL;
    *count = 0;
}

/* Replaces the list by what the node holds. as_headers: names are header names and are kept in lower case. */
static void read_names(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, bool as_headers, char ***names,
                       size_t *count)
{
    const struct cp_tree_node *item;
    size_t n;

    if (!cp_read_list(reader, node, what, &item, &n))
        return;
    if (n > LIST_MAX) {
        READER_ERROR(reader, node, "'%s' has more than %d names", what, LIST_MAX);
        return;
    }
    drop_names(names, count);
    for (; item != NULL && !reader->no_memory; item = item->next) {
        struct cp_quoted q;
        struct span text = {0};
        if (!cp_read_text(reader, item, what, &text))
            continue;
        if (as_headers && !is_token(text)) {
            READER_ERROR(reader, item, "'%s' in '%s' is no header name", cp_quote(text, &q), what);
            continue;
        }
        char *name = cp_reader_copy(reader, text);
        for (char *c = name; as_headers && c != NULL && *c != '\0'; c++) {
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c | 0x20);
        }
        if (name != NULL && has_name(*names, *count, name)) {
            READER_ERROR(reader, item, "'%s' stands twice in '%s'", cp_quote(text, &q), what);
            free(name);
            continue;
        }
        push_name(reader, names, count, name);
    }
}

/* Credentials in Authorization always tell callers apart, whatever else the operator lists: a list without it would let two tokens share. */
static void put_authorization_first(struct cp_reader *reader)
{
    struct cp_policy *policy = reader->policy;

    for (size_t i = 0; i < policy->identity_header_count; i++) {
        if (strcmp(policy->identity_headers[i], "authorization") == 0)
            return;
    }
    push_name(reader, &policy->identity_headers, &policy->identity_header_count, cp_reader_copy(reader, SPAN("authorization")));
    size_t last = policy->identity_header_count - 1;
    if (reader->no_memory)
        return;
    char *name = policy->identity_headers[last];
    memmove(policy->identity_headers + 1, policy->identity_headers, last * sizeof(char *));
    policy->identity_headers[0] = name;
}

/* ---- sections ------------------------------------------------------------------------------------------------------------ */

static void read_version(struct cp_reader *reader, const struct cp_tree_node *root, const struct cp_tree_node *node,
                         bool is_required)
{
    struct cp_quoted q;

    if (node == NULL) {
        if (is_required)
            READER_ERROR(reader, root, "'version: 1' is missing");
        return;
    }
    if (node->type != CP_TREE_WORD || !span_eq(node->text, SPAN("1")))
        READER_ERROR(reader, node, "'version: %s' is not known: this program reads version 1",
                     cp_quote(node->type == CP_TREE_WORD ? node->text : SPAN(""), &q));
}

static void read_identity(struct cp_reader *reader, const struct cp_tree_node *node)
{
    static const char *const keys[] = {"headers", "claims", "proof_headers", "lease", "grant", "probe", "anonymous"};
    enum { HEADERS, CLAIMS, PROOF_HEADERS, LEASE, GRANT, PROBE, ANONYMOUS };
    static const char *const anonymous_words[] = {"nobody", "shared"};
    const struct cp_tree_node *found[COUNT(keys)];
    struct cp_policy *policy = reader->policy;
    unsigned word = 0;

    if (node == NULL || !cp_read_map(reader, node, "identity", keys, COUNT(keys), found))
        return;
    if (is_first(reader, CP_SETTING_IDENTITY_HEADERS, found[HEADERS], "identity.headers")) {
        read_names(reader, found[HEADERS], "headers", true, &policy->identity_headers, &policy->identity_header_count);
        put_authorization_first(reader);
    }
    if (is_first(reader, CP_SETTING_IDENTITY_CLAIMS, found[CLAIMS], "identity.claims"))
        read_names(reader, found[CLAIMS], "claims", false, &policy->identity_claims, &policy->identity_claim_count);
    if (is_first(reader, CP_SETTING_IDENTITY_PROOF_HEADERS, found[PROOF_HEADERS], "identity.proof_headers"))
        read_names(reader, found[PROOF_HEADERS], "proof_headers", true, &policy->proof_headers, &policy->proof_header_count);
    if (is_first(reader, CP_SETTING_IDENTITY_LEASE, found[LEASE], "identity.lease"))
        cp_read_duration(reader, found[LEASE], "lease", &policy->lease_ms);
    if (is_first(reader, CP_SETTING_IDENTITY_GRANT, found[GRANT], "identity.grant"))
        cp_read_duration(reader, found[GRANT], "grant", &policy->grant_ms);
    if (is_first(reader, CP_SETTING_IDENTITY_PROBE, found[PROBE], "identity.probe"))
        cp_read_bool(reader, found[PROBE], "probe", &policy->probe);
    if (is_first(reader, CP_SETTING_IDENTITY_ANONYMOUS, found[ANONYMOUS], "identity.anonymous") &&
        cp_read_word(reader, found[ANONYMOUS], "anonymous", anonymous_words, COUNT(anonymous_words), &word))
        policy->anonymous_shared = word == 1;
}

static void read_key(struct cp_reader *reader, const struct cp_tree_node *node)
{
    static const char *const keys[] = {"headers"};
    const struct cp_tree_node *found[COUNT(keys)];
    struct cp_policy *policy = reader->policy;

    if (node == NULL || !cp_read_map(reader, node, "key", keys, COUNT(keys), found))
        return;
    if (is_first(reader, CP_SETTING_KEY_HEADERS, found[0], "key.headers"))
        read_names(reader, found[0], "headers", true, &policy->vary_headers, &policy->vary_header_count);
}

/* hint, off, or a duration. */
static void read_default(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, enum cp_ttl_mode *ret_mode,
                         struct cp_lifetime *ret)
{
    int64_t ttl_ms = 0;

    if (cp_is_off(node)) {
        *ret_mode = CP_TTL_OFF;
        return;
    }
    if (node->type == CP_TREE_WORD && span_eq(node->text, SPAN("hint"))) {
        *ret_mode = CP_TTL_HINT;
        return;
    }
    if (node->type != CP_TREE_WORD || node->text.n == 0 || node->text.p[0] < '0' || node->text.p[0] > '9') {
        struct cp_quoted q;
        READER_ERROR(reader, node, "'%s: %s' must be hint, off or a duration such as 30s", what,
                     cp_quote(node->type == CP_TREE_WORD ? node->text : SPAN(""), &q));
        return;
    }
    if (!cp_read_duration(reader, node, what, &ttl_ms))
        return;
    *ret_mode = ttl_ms > 0 ? CP_TTL_CAP : CP_TTL_OFF;
    ret->ttl_ms = ttl_ms;
}

static void read_defaults(struct cp_reader *reader, const struct cp_tree_node *node)
{
    static const char *const keys[] = {"lists", "resources", "unlisted_tools"};
    enum { LISTS, RESOURCES, UNLISTED_TOOLS };
    static const char *const unlisted_words[] = {"write", "neutral"};
    const struct cp_tree_node *found[COUNT(keys)];
    struct cp_policy *policy = reader->policy;
    unsigned word = 0;

    if (node == NULL || !cp_read_map(reader, node, "defaults", keys, COUNT(keys), found))
        return;
    if (is_first(reader, CP_SETTING_DEFAULTS_LISTS, found[LISTS], "defaults.lists"))
        read_default(reader, found[LISTS], "lists", &policy->lists_mode, &policy->lists);
    if (is_first(reader, CP_SETTING_DEFAULTS_RESOURCES, found[RESOURCES], "defaults.resources"))
        read_default(reader, found[RESOURCES], "resources", &policy->resources_mode, &policy->resources);
    if (is_first(reader, CP_SETTING_DEFAULTS_UNLISTED_TOOLS, found[UNLISTED_TOOLS], "defaults.unlisted_tools") &&
        cp_read_word(reader, found[UNLISTED_TOOLS], "unlisted_tools", unlisted_words, COUNT(unlisted_words), &word))
        policy->unlisted_neutral = word == 1;
}

/* ---- classes ------------------------------------------------------------------------------------------------------------- */

static struct cp_class *class_named(struct cp_reader *reader, struct span name)
{
    for (size_t i = 0; i < reader->class_count; i++) {
        if (span_eq(reader->classes[i].name, name))
            return &reader->classes[i];
    }
    return NULL;
}

static void read_class(struct cp_reader *reader, const struct cp_tree_node *node)
{
    static const char *const keys[] = {"ttl", "grace", "stale_if_error", "scope"};
    enum { TTL, GRACE, STALE_IF_ERROR, SCOPE };
    const struct cp_tree_node *found[COUNT(keys)];
    struct cp_class class = {.name = node->name, .place = {reader->file, node->name_line}};
    struct cp_quoted q;
    char what[96];

    struct cp_class *before = class_named(reader, node->name);
    if (before != NULL && before->is_write) {
        cp_reader_error(reader, node->name_line, node->name_column,
                        "class 'write' is built in and cannot be given another meaning");
        return;
    }
    if (before != NULL && before->place.file != NULL) {
        /* Twice in one text: the tree has said it. */
        if (before->place.file != reader->file)
            cp_reader_error(reader, node->name_line, node->name_column, "class '%s' is given twice; the first stands in %s:%u",
                            cp_quote(node->name, &q), before->place.file, before->place.line);
        return;
    }
    if (node->name.n == 0) {
        cp_reader_error(reader, node->name_line, node->name_column, "a class needs a name");
        return;
    }
    cp_quote(node->name, &q);
    snprintf(what, sizeof(what), "class '%s'", q.text);
    if (!cp_read_map(reader, node, what, keys, COUNT(keys), found))
        return;
    if (found[TTL] == NULL)
        cp_reader_error(reader, node->name_line, node->name_column, "class '%s' needs a ttl, as in %s: { ttl: 10s }", q.text,
                        q.text);
    if (cp_read_duration(reader, found[TTL], "ttl", &class.lifetime.ttl_ms) && found[TTL] != NULL && class.lifetime.ttl_ms == 0)
        READER_ERROR(reader, found[TTL],
                     "class '%s' keeps nothing with this ttl: give it a longer one, or write ttl: off in the rules", q.text);
    cp_read_duration(reader, found[GRACE], "grace", &class.lifetime.grace_ms);
    cp_read_duration(reader, found[STALE_IF_ERROR], "stale_if_error", &class.lifetime.stale_if_error_ms);
    cp_read_scope(reader, found[SCOPE], &class.scope, &class.has_scope);
    /* With an error, too: rules that name the class must not be told that it does not exist. */
    if (before != NULL) {
        *before = class;
        return;
    }
    struct cp_class *grown = realloc(reader->classes, (reader->class_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        reader->no_memory = true;
        return;
    }
    grown[reader->class_count++] = class;
    reader->classes = grown;
}

#define CLASSES_MAX 1000

static void read_classes(struct cp_reader *reader, const struct cp_tree_node *node)
{
    if (node == NULL || node->type == CP_TREE_NULL)
        return;
    if (node->type != CP_TREE_MAP) {
        READER_ERROR(reader, node, "'classes' must be a mapping of names, as in classes: { prices: { ttl: 5s } }");
        return;
    }
    for (const struct cp_tree_node *member = node->child; member != NULL && !reader->no_memory; member = member->next) {
        if (reader->class_count == CLASSES_MAX) {
            cp_reader_error(reader, member->name_line, member->name_column, "there are more than %d classes", CLASSES_MAX);
            return;
        }
        read_class(reader, member);
    }
}

void cp_read_settings(struct cp_reader *reader, const struct cp_tree_node *root, bool is_first_with_content)
{
    const struct cp_tree_node *found[COUNT(top_keys)];

    if (!cp_read_map(reader, root, "a policy", top_keys, COUNT(top_keys), found))
        return;
    read_version(reader, root, found[TOP_VERSION], is_first_with_content);
    read_identity(reader, found[TOP_IDENTITY]);
    read_key(reader, found[TOP_KEY]);
    read_defaults(reader, found[TOP_DEFAULTS]);
    read_classes(reader, found[TOP_CLASSES]);
    if (is_first(reader, CP_SETTING_MODE, found[TOP_MODE], "mode"))
        cp_read_observe(reader, found[TOP_MODE], &reader->policy->observe);
}
