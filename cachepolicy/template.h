/* SPDX-License-Identifier: Apache-2.0 */
/* Templates of tags and resource URIs: literal text with {/json/pointer} into a call's arguments. */
#ifndef CP_TEMPLATE_H
#define CP_TEMPLATE_H

#include "pointer.h"

struct cp_template_piece {
    struct span literal; /* borrowed from text; used when pointer.text is NULL */
    struct cp_pointer pointer;
};

struct cp_template {
    char *text; /* owned; NULL: no template */
    struct cp_template_piece *pieces;
    size_t count;
};

/* 0, -EINVAL with one sentence in reterr->text, -ENOMEM. */
int cp_template_parse(struct span text, struct cp_template *ret, struct cp_error *reterr);
void cp_template_done(struct cp_template *t);

/* Appends the expansion: strings by their decoded text, numbers and booleans by lexeme. -ENOENT when a pointer names nothing, null, an object or an
 * array (the tag then does not exist for this call); out is unchanged then. 0, -ENOENT, -ENOMEM. */
int cp_template_expand(const struct cp_template *t, struct cp_json_doc *doc, const struct cp_json_node *arguments, struct buf *out);

/* True when some arguments expand it to this text: each pointer stands for one byte or more. In doubt it is true: a pointer that comes twice may stand for different
 * bytes, and one that leads into another's value is taken like any other. No template: false. Time: text.n times the pieces. */
bool cp_template_matches(const struct cp_template *t, struct span text);

#endif
