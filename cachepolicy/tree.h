/* SPDX-License-Identifier: Apache-2.0 */
/* Trees: a policy text (YAML, or JSON) as mappings, lists and words, each with its place. Private to cachepolicy/.
 * Thread: a tree belongs to whoever parses. */
#ifndef CP_TREE_H
#define CP_TREE_H

#include "bytes.h"
#include "error.h"

enum cp_tree_type {
    CP_TREE_NULL, /* nothing, ~ or null, unquoted */
    CP_TREE_WORD,
    CP_TREE_LIST,
    CP_TREE_MAP,
};

struct cp_tree_node {
    enum cp_tree_type type;
    unsigned line, column; /* from 1; column in characters */
    struct span text;      /* WORD: decoded, without NUL; NULL: as written, perhaps empty */
    struct span name;      /* of a member of a mapping */
    unsigned name_line, name_column;
    struct cp_tree_node *child, *next; /* in the order of the text */
    size_t count;
};

struct cp_tree_block;

struct cp_tree {
    struct cp_tree_node *root;    /* NULL: the text holds nothing but blanks and comments */
    bool is_bad;                  /* errors were added, but the tree is whole enough to look for more of them */
    struct cp_tree_block *blocks; /* owned: everything above lives here */
};

/* text is borrowed during the call only. 0, -EINVAL with errors filled (file is what they name), -ENOMEM. ret is to be freed with cp_tree_done
 * after success only. */
int cp_tree_parse(const char *file, struct span text, struct cp_tree *ret, struct cp_errors *errors);
void cp_tree_done(struct cp_tree *tree);

/* A word as messages quote it: without control characters, and not longer than a line. One buffer per word in a sentence. */
struct cp_quoted {
    char text[64];
};
const char *cp_quote(struct span word, struct cp_quoted *buffer);

#endif
