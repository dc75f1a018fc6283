/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a policy's trees: what all parts of it share. Private to cachepolicy/. Thread: one parse, one reader. */
#ifndef CP_READER_H
#define CP_READER_H

#include "policy.h"
#include "tree.h"

/* Settings that may stand once in all texts together. */
enum cp_setting {
    CP_SETTING_IDENTITY_HEADERS,
    CP_SETTING_IDENTITY_CLAIMS,
    CP_SETTING_IDENTITY_PROOF_HEADERS,
    CP_SETTING_IDENTITY_LEASE,
    CP_SETTING_IDENTITY_GRANT,
    CP_SETTING_IDENTITY_PROBE,
    CP_SETTING_IDENTITY_ANONYMOUS,
    CP_SETTING_KEY_HEADERS,
    CP_SETTING_DEFAULTS_LISTS,
    CP_SETTING_DEFAULTS_RESOURCES,
    CP_SETTING_DEFAULTS_UNLISTED_TOOLS,
    CP_SETTING_MODE,
    CP_SETTING_COUNT,
};

/* Where something was said first; file NULL: nowhere. */
struct cp_place {
    const char *file;
    unsigned line;
};

struct cp_class {
    struct span name; /* borrowed from a tree, or static */
    struct cp_lifetime lifetime;
    enum cp_scope scope;
    bool has_scope;
    bool is_write;
    struct cp_place place; /* file NULL: built in */
};

struct cp_reader {
    struct cp_policy *policy; /* being filled */
    struct cp_errors *errors;
    const char *file; /* of the text being read: policy->files[...] */
    bool is_bad;      /* an error was said */
    bool no_memory;   /* everything after it is of no interest */
    struct cp_place settings[CP_SETTING_COUNT];
    struct cp_class *classes;
    size_t class_count;
};

/* Adds an error at a node's own place. */
void cp_reader_error(struct cp_reader *reader, unsigned line, unsigned column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define READER_ERROR(reader, node, ...) cp_reader_error(reader, (node)->line, (node)->column, __VA_ARGS__)

/* The candidate that was probably meant, or NULL. */
const char *cp_suggest(struct span word, const char *const *candidates, size_t count);

/* Sorts a mapping's members to found[i] by keys[i]; unknown names are errors with a suggestion. False (and an error) when node is no mapping;
 * nothing at all counts as an empty one. `what` names the mapping in messages: "identity". */
bool cp_read_map(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, const char *const *keys, size_t count,
                 const struct cp_tree_node **found);

/* Each reads one value; node NULL leaves *ret as it is and is fine. On an error *ret stays and false is returned. `what` is the key. */
bool cp_read_text(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, struct span *ret);
bool cp_read_duration(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, int64_t *ret_ms);
bool cp_read_bool(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, bool *ret);
/* One of the words; *ret is its place among them. */
bool cp_read_word(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, const char *const *words,
                  size_t count, unsigned *ret);
bool cp_read_list(struct cp_reader *reader, const struct cp_tree_node *node, const char *what,
                  const struct cp_tree_node **ret_first, size_t *ret_count);
bool cp_read_scope(struct cp_reader *reader, const struct cp_tree_node *node, enum cp_scope *ret, bool *ret_has);
bool cp_read_observe(struct cp_reader *reader, const struct cp_tree_node *node, bool *ret);
/* The words "off", "false" and "0" (YAML writers turn an unquoted off into false). */
bool cp_is_off(const struct cp_tree_node *node);

/* NUL-terminated copy, or NULL with reader->no_memory. */
char *cp_reader_copy(struct cp_reader *reader, struct span text);

/* All top-level keys but tools and resources of one text. */
void cp_read_settings(struct cp_reader *reader, const struct cp_tree_node *root, bool is_first_with_content);
/* tools and resources of one text; all classes are known by then. */
void cp_read_rules(struct cp_reader *reader, const struct cp_tree_node *root);
void cp_rule_done(struct cp_rule *rule);

#endif
