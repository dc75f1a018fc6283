/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of a policy: tools and resources, read into struct cp_rule, and refused where they say nothing or contradict themselves.
 * Not here: which rule speaks for a call (rule.c).
 * Always: rules keep the order of the texts; a rule that cannot speak because an earlier one matches all that it matches is an error, as far as
 * the two patterns alone can show it. Thread: one parse, one reader. */
#include <errno.h>
#include <stdlib.h>

#include "reader.h"
#include "rule.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define RULES_MAX    1000
#define ITEMS_MAX    64

/* Keys of a rule: those that tools and resources share, then those of one kind. */
enum {
    PATTERN,
    CLASS,
    TTL,
    GRACE,
    STALE_IF_ERROR,
    SCOPE,
    TAGS,
    MODE,
    SHARED_KEYS,
    DESPITE_HINTS = SHARED_KEYS, /* resources */
    RESOURCE_KEYS,
    KEY = SHARED_KEYS, /* tools */
    INVALIDATES,
    RESOURCE,
    DESPITE_ANNOTATIONS,
    TIMEOUT,
    NEGATIVE_TTL,
    CLIENT_CONTROL,
    SHARED_TIER,
    TOOL_KEYS,
};

static const char *const tool_keys[TOOL_KEYS] = {
    [PATTERN] = "name",
    [CLASS] = "class",
    [TTL] = "ttl",
    [GRACE] = "grace",
    [STALE_IF_ERROR] = "stale_if_error",
    [SCOPE] = "scope",
    [TAGS] = "tags",
    [MODE] = "mode",
    [KEY] = "key",
    [INVALIDATES] = "invalidates",
    [RESOURCE] = "resource",
    [DESPITE_ANNOTATIONS] = "despite_annotations",
    [TIMEOUT] = "timeout",
    [NEGATIVE_TTL] = "negative_ttl",
    [CLIENT_CONTROL] = "client_control",
    [SHARED_TIER] = "shared_tier",
};

static const char *const resource_keys[RESOURCE_KEYS] = {
    [PATTERN] = "uri",
    [CLASS] = "class",
    [TTL] = "ttl",
    [GRACE] = "grace",
    [STALE_IF_ERROR] = "stale_if_error",
    [SCOPE] = "scope",
    [TAGS] = "tags",
    [MODE] = "mode",
    [DESPITE_HINTS] = "despite_hints",
};

/* One rule while it is read. */
struct draft {
    enum cp_pattern_kind kind;
    const struct cp_tree_node *node;
    const struct cp_tree_node *found[TOOL_KEYS];
    struct cp_quoted name; /* of the rule, for sentences */
    struct cp_rule rule;
};

void cp_rule_done(struct cp_rule *rule)
{
    if (rule == NULL)
        return;
    for (size_t i = 0; i < rule->ignore_count; i++)
        cp_pointer_done(&rule->ignore[i]);
    for (size_t i = 0; i < rule->tag_count; i++)
        cp_template_done(&rule->tags[i]);
    for (size_t i = 0; i < rule->invalidate_count; i++)
        cp_template_done(&rule->invalidates[i]);
    cp_template_done(&rule->resource);
    free(rule->ignore);
    free(rule->tags);
    free(rule->invalidates);
    free(rule->class_name);
    free(rule->pattern);
    *rule = (struct cp_rule){0};
}

/* ---- parts --------------------------------------------------------------------------------------------------------------- */

/* At most ITEMS_MAX items of `size` bytes. NULL with *ret_first NULL: none, or an error was said. */
static void *read_items(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, size_t size,
                        const struct cp_tree_node **ret_first)
{
    size_t n;

    *ret_first = NULL;
    if (!cp_read_list(reader, node, what, ret_first, &n) || n == 0)
        return NULL;
    if (n > ITEMS_MAX) {
        READER_ERROR(reader, node, "'%s' has more than %d items", what, ITEMS_MAX);
        *ret_first = NULL;
        return NULL;
    }
    void *items = calloc(n, size);
    if (items == NULL) {
        reader->no_memory = true;
        *ret_first = NULL;
    }
    return items;
}

static bool read_template(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, struct cp_template *ret)
{
    struct cp_error error = {0};
    struct cp_quoted q;
    struct span text = {0};

    if (node == NULL || !cp_read_text(reader, node, what, &text))
        return false;
    int r = cp_template_parse(text, ret, &error);
    if (r == 0)
        return true;
    if (r == -ENOMEM)
        reader->no_memory = true;
    else
        READER_ERROR(reader, node, "'%s' in '%s': %s", cp_quote(text, &q), what, error.text);
    return false;
}

static void read_templates(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, bool has_arguments,
                           struct cp_template **ret, size_t *ret_count)
{
    const struct cp_tree_node *item;

    *ret = read_items(reader, node, what, sizeof(**ret), &item);
    for (; *ret != NULL && item != NULL; item = item->next) {
        struct cp_template *t = &(*ret)[*ret_count];
        if (!read_template(reader, item, what, t))
            continue;
        ++*ret_count;
        for (size_t i = 0; !has_arguments && i < t->count; i++) {
            if (t->pieces[i].pointer.text != NULL) {
                READER_ERROR(reader, item, "reading a resource has no arguments: '%s' must be plain text here", what);
                break;
            }
        }
    }
}

static void read_key(struct cp_reader *reader, const struct cp_tree_node *node, struct cp_rule *rule)
{
    static const char *const keys[] = {"ignore"};
    const struct cp_tree_node *found[COUNT(keys)], *item;

    if (node == NULL || !cp_read_map(reader, node, "a rule's key", keys, COUNT(keys), found))
        return;
    rule->ignore = read_items(reader, found[0], "ignore", sizeof(*rule->ignore), &item);
    for (; rule->ignore != NULL && item != NULL; item = item->next) {
        struct cp_error error = {0};
        if (item->type != CP_TREE_WORD || item->text.n == 0) {
            READER_ERROR(reader, item, "'ignore' wants JSON Pointers into the arguments, as in [/request_id]");
            continue;
        }
        int r = cp_pointer_parse(item->text, &rule->ignore[rule->ignore_count], &error);
        if (r == 0)
            rule->ignore_count++;
        else if (r == -ENOMEM)
            reader->no_memory = true;
        else
            READER_ERROR(reader, item, "'ignore': %s", error.text);
    }
}

static void read_shared_tier(struct cp_reader *reader, const struct cp_tree_node *node, struct cp_rule *rule)
{
    static const char *const words[] = {[CP_SHARED_NONE] = "none", [CP_SHARED_PUBLIC] = "public", [CP_SHARED_ALL] = "all"};
    unsigned at = rule->shared_tier;

    if (cp_read_word(reader, node, "shared_tier", words, COUNT(words), &at))
        rule->shared_tier = (enum cp_shared_tier)at;
}

static const struct cp_class *find_class(struct cp_reader *reader, const struct cp_tree_node *node)
{
    struct cp_quoted q;
    struct span name = {0};

    if (!cp_read_text(reader, node, "class", &name))
        return NULL;
    for (size_t i = 0; i < reader->class_count; i++) {
        if (span_eq(reader->classes[i].name, name))
            return &reader->classes[i];
    }
    const char **names = calloc(reader->class_count + 1, sizeof(*names));
    if (names == NULL) {
        reader->no_memory = true;
        return NULL;
    }
    size_t count = 0;
    for (size_t i = 0; i < reader->class_count; i++)
        names[count++] = reader->classes[i].name.p; /* of a tree or static: both end with NUL */
    const char *meant = cp_suggest(name, names, count);
    if (meant != NULL)
        READER_ERROR(reader, node, "there is no class '%s'; did you mean '%s'?", cp_quote(name, &q), meant);
    else
        READER_ERROR(reader, node,
                     "there is no class '%s': define it under 'classes', or use static, semi-dynamic, realtime or write",
                     cp_quote(name, &q));
    free(names);
    return NULL;
}

/* ---- sense --------------------------------------------------------------------------------------------------------------- */

/* A write is never cached, so most of what a rule can say is a misunderstanding in one. */
static void check_write(struct cp_reader *reader, const struct draft *draft)
{
    static const int senseless[] = {TTL,     GRACE,        STALE_IF_ERROR, SCOPE,      KEY, DESPITE_ANNOTATIONS,
                                    TIMEOUT, NEGATIVE_TTL, CLIENT_CONTROL, SHARED_TIER};

    for (size_t i = 0; i < COUNT(senseless); i++) {
        const struct cp_tree_node *node = draft->found[senseless[i]];
        if (node != NULL)
            cp_reader_error(reader, node->name_line, node->name_column,
                            "'%s' has no meaning in '%s': it is of class write, and a write is never cached",
                            tool_keys[senseless[i]], draft->name.text);
    }
    const struct cp_tree_node *tags = draft->found[TAGS], *resource = draft->found[RESOURCE];
    if (tags != NULL)
        cp_reader_error(reader, tags->name_line, tags->name_column,
                        "'tags' mark answers that are kept; '%s' is a write and names what it changes with 'invalidates'",
                        draft->name.text);
    if (resource != NULL)
        cp_reader_error(
            reader, resource->name_line, resource->name_column,
            "'resource' announces a changed answer of a cached tool; '%s' is a write and names what it changes with 'invalidates'",
            draft->name.text);
}

static void check_not_off(struct cp_reader *reader, const struct draft *draft)
{
    static const int senseless[] = {GRACE, STALE_IF_ERROR, SCOPE, TAGS, TIMEOUT, NEGATIVE_TTL};
    const char *const *keys = draft->kind == CP_PATTERN_TOOL ? tool_keys : resource_keys;

    for (size_t i = 0; i < COUNT(senseless); i++) {
        if (draft->kind != CP_PATTERN_TOOL && senseless[i] >= (int)SHARED_KEYS)
            continue;
        const struct cp_tree_node *node = draft->found[senseless[i]];
        if (node != NULL)
            cp_reader_error(reader, node->name_line, node->name_column,
                            "'%s' has no meaning in '%s': its ttl is off, so nothing is kept", keys[senseless[i]],
                            draft->name.text);
    }
}

static void check_reachable(struct cp_reader *reader, const struct draft *draft, const struct cp_rule *earlier, size_t count)
{
    struct span pattern = span_of(draft->rule.pattern);
    struct cp_quoted q;

    for (size_t i = 0; i < count; i++) {
        struct span other = span_of(earlier[i].pattern);
        if (!(earlier[i].is_glob ? cp_pattern_covers(draft->kind, other, pattern) : span_eq(other, pattern)))
            continue;
        const struct cp_tree_node *node = draft->found[PATTERN];
        if (earlier[i].file == reader->file)
            READER_ERROR(reader, node, "unreachable: '%s' on line %u matches first", cp_quote(other, &q), earlier[i].line);
        else
            READER_ERROR(reader, node, "unreachable: '%s' in %s:%u matches first", cp_quote(other, &q), earlier[i].file,
                         earlier[i].line);
        return;
    }
}

/* ---- rules --------------------------------------------------------------------------------------------------------------- */

/* Name or URI. False: without it, nothing else of the rule can be said. */
static bool read_pattern(struct cp_reader *reader, struct draft *draft)
{
    const char *what = draft->kind == CP_PATTERN_TOOL ? "name" : "uri";
    struct span text = {0};

    if (draft->found[PATTERN] == NULL) {
        if (draft->kind == CP_PATTERN_TOOL)
            READER_ERROR(reader, draft->node, "a tool's rule needs a name, as in - name: get_balance");
        else
            READER_ERROR(reader, draft->node, "a resource's rule needs a uri, as in - uri: \"docs://**\"");
        return false;
    }
    if (!cp_read_text(reader, draft->found[PATTERN], what, &text))
        return false;
    if (text.n > CP_PATTERN_MAX_BYTES) {
        READER_ERROR(reader, draft->found[PATTERN], "'%s' is longer than %d bytes", what, CP_PATTERN_MAX_BYTES);
        return false;
    }
    cp_quote(text, &draft->name);
    draft->rule.pattern = cp_reader_copy(reader, text);
    draft->rule.is_glob = cp_pattern_is_glob(text);
    draft->rule.line = draft->node->line;
    return draft->rule.pattern != NULL;
}

/* How long, and for whom: the class first, then what the rule itself says. *ret_off: ttl: off. False: no ttl, for an error that was said. */
static bool read_lifetime(struct cp_reader *reader, struct draft *draft, const struct cp_class *class, bool *ret_off)
{
    struct cp_rule *rule = &draft->rule;
    bool is_good = true;

    if (class != NULL) {
        rule->lifetime = class->lifetime;
        rule->scope = class->scope;
        rule->has_scope = class->has_scope;
    }
    *ret_off = false;
    if (draft->found[TTL] != NULL) {
        *ret_off = cp_is_off(draft->found[TTL]);
        if (!*ret_off)
            is_good = cp_read_duration(reader, draft->found[TTL], "ttl", &rule->lifetime.ttl_ms);
        if (is_good && !*ret_off && rule->lifetime.ttl_ms == 0)
            *ret_off = true;
    }
    cp_read_duration(reader, draft->found[GRACE], "grace", &rule->lifetime.grace_ms);
    cp_read_duration(reader, draft->found[STALE_IF_ERROR], "stale_if_error", &rule->lifetime.stale_if_error_ms);
    cp_read_scope(reader, draft->found[SCOPE], &rule->scope, &rule->has_scope);
    if (*ret_off) {
        rule->lifetime = (struct cp_lifetime){0};
        check_not_off(reader, draft);
    }
    return is_good;
}

static void read_tool(struct cp_reader *reader, struct draft *draft, const struct cp_class *class)
{
    struct cp_rule *rule = &draft->rule;
    const struct cp_tree_node *const *found = draft->found;
    bool is_off = false;

    cp_read_duration(reader, found[TIMEOUT], "timeout", &rule->timeout_ms);
    cp_read_bool(reader, found[DESPITE_ANNOTATIONS], "despite_annotations", &rule->despite_annotations);
    cp_read_bool(reader, found[CLIENT_CONTROL], "client_control", &rule->client_control);
    if (cp_read_duration(reader, found[NEGATIVE_TTL], "negative_ttl", &rule->negative_ttl_ms) &&
        rule->negative_ttl_ms > CP_NEGATIVE_TTL_MAX_MS)
        READER_ERROR(reader, found[NEGATIVE_TTL], "'negative_ttl' of '%s' is more than 5s: an error must not outlive its cause",
                     draft->name.text);
    read_shared_tier(reader, found[SHARED_TIER], rule);
    read_key(reader, found[KEY], rule);
    read_templates(reader, found[TAGS], "tags", true, &rule->tags, &rule->tag_count);
    read_templates(reader, found[INVALIDATES], "invalidates", true, &rule->invalidates, &rule->invalidate_count);
    read_template(reader, found[RESOURCE], "resource", &rule->resource);

    if (class != NULL && class->is_write) {
        rule->kind = CP_TOOL_WRITE;
        rule->ttl_mode = CP_TTL_OFF;
        check_write(reader, draft);
        return;
    }
    bool has_ttl = read_lifetime(reader, draft, class, &is_off);
    if (found[CLASS] == NULL && found[TTL] == NULL)
        READER_ERROR(reader, found[PATTERN],
                     "'%s' has neither class nor ttl: give it a ttl or a class (class: write if it changes something, ttl: off if "
                     "it is only "
                     "never to be cached)",
                     draft->name.text);
    rule->kind = is_off || !has_ttl ? CP_TOOL_NEUTRAL : CP_TOOL_CACHE;
    rule->ttl_mode = rule->kind == CP_TOOL_CACHE ? CP_TTL_POLICY : CP_TTL_OFF;
    if (found[INVALIDATES] != NULL && (found[CLASS] == NULL || class != NULL))
        cp_reader_error(reader, found[INVALIDATES]->name_line, found[INVALIDATES]->name_column,
                        "'invalidates' is for writes: '%s' is not of class write", draft->name.text);
}

static void read_resource(struct cp_reader *reader, struct draft *draft, const struct cp_class *class)
{
    struct cp_rule *rule = &draft->rule;
    const struct cp_tree_node *const *found = draft->found;
    bool is_off = false;

    if (class != NULL && class->is_write) {
        READER_ERROR(reader, found[CLASS],
                     "class write is for tools: reading a resource changes nothing; write ttl: off to keep '%s' uncached",
                     draft->name.text);
        return;
    }
    cp_read_bool(reader, found[DESPITE_HINTS], "despite_hints", &rule->despite_hints);
    read_templates(reader, found[TAGS], "tags", false, &rule->tags, &rule->tag_count);
    read_lifetime(reader, draft, class, &is_off);
    bool has_ttl = found[CLASS] != NULL || found[TTL] != NULL;
    if (rule->despite_hints && (!has_ttl || is_off))
        cp_reader_error(reader, found[DESPITE_HINTS]->name_line, found[DESPITE_HINTS]->name_column,
                        "'despite_hints' puts this rule's ttl above the server's hint, but '%s' has no ttl", draft->name.text);
    rule->kind = is_off ? CP_TOOL_NEUTRAL : CP_TOOL_CACHE;
    if (is_off)
        rule->ttl_mode = CP_TTL_OFF;
    else if (!has_ttl)
        rule->ttl_mode = CP_TTL_HINT;
    else
        rule->ttl_mode = rule->despite_hints ? CP_TTL_POLICY : CP_TTL_CAP;
}

/* Reads one rule behind the earlier ones. */
static void read_rule(struct cp_reader *reader, const struct cp_tree_node *node, enum cp_pattern_kind kind, struct cp_rule **rules,
                      size_t *count)
{
    bool is_tool = kind == CP_PATTERN_TOOL;
    struct draft draft = {.kind = kind, .node = node};
    const struct cp_class *class = NULL;

    draft.rule = (struct cp_rule){.file = reader->file, .client_control = true, .shared_tier = CP_SHARED_PUBLIC};
    if (!cp_read_map(reader, node, is_tool ? "a tool's rule" : "a resource's rule", is_tool ? tool_keys : resource_keys,
                     is_tool ? (size_t)TOOL_KEYS : (size_t)RESOURCE_KEYS, draft.found) ||
        !read_pattern(reader, &draft)) {
        cp_rule_done(&draft.rule);
        return;
    }
    if (draft.found[CLASS] != NULL) {
        class = find_class(reader, draft.found[CLASS]);
        if (class != NULL) {
            draft.rule.class_name = cp_reader_copy(reader, class->name);
        }
    }
    cp_read_observe(reader, draft.found[MODE], &draft.rule.observe);
    if (is_tool)
        read_tool(reader, &draft, class);
    else
        read_resource(reader, &draft, class);
    check_reachable(reader, &draft, *rules, *count);

    /* With errors, too: later rules are still compared with it. */
    struct cp_rule *grown = realloc(*rules, (*count + 1) * sizeof(**rules));
    if (grown == NULL) {
        cp_rule_done(&draft.rule);
        reader->no_memory = true;
        return;
    }
    grown[(*count)++] = draft.rule;
    *rules = grown;
}

static void read_rules(struct cp_reader *reader, const struct cp_tree_node *node, enum cp_pattern_kind kind, struct cp_rule **rules,
                       size_t *count)
{
    const char *what = kind == CP_PATTERN_TOOL ? "tools" : "resources";
    const struct cp_tree_node *item;
    size_t n;

    if (node != NULL && node->type == CP_TREE_MAP) {
        READER_ERROR(reader, node, "'%s' must be a list of rules, each beginning with '- %s: ...'", what,
                     kind == CP_PATTERN_TOOL ? tool_keys[PATTERN] : resource_keys[PATTERN]);
        return;
    }
    if (!cp_read_list(reader, node, what, &item, &n))
        return;
    for (; item != NULL && !reader->no_memory; item = item->next) {
        if (*count == RULES_MAX) {
            READER_ERROR(reader, item, "there are more than %d rules under '%s'", RULES_MAX, what);
            return;
        }
        read_rule(reader, item, kind, rules, count);
    }
}

void cp_read_rules(struct cp_reader *reader, const struct cp_tree_node *root)
{
    struct cp_policy *policy = reader->policy;

    if (root->type != CP_TREE_MAP)
        return;
    bool had_tools = false, had_resources = false;
    for (const struct cp_tree_node *member = root->child; member != NULL; member = member->next) {
        if (span_eq(member->name, SPAN("tools")) && !had_tools) {
            had_tools = true;
            read_rules(reader, member, CP_PATTERN_TOOL, &policy->tools, &policy->tool_count);
        } else if (span_eq(member->name, SPAN("resources")) && !had_resources) {
            had_resources = true;
            read_rules(reader, member, CP_PATTERN_URI, &policy->resource_rules, &policy->resource_count);
        }
    }
}
