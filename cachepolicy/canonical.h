/* SPDX-License-Identifier: Apache-2.0 */
/* Canonical form: bytes that are equal exactly when the JSON meaning is equal (protocol notes: members sorted by code point
 * of the decoded name, arrays ordered, strings by decoded value in one minimal escape form without Unicode normalisation,
 * numbers by their lexeme: 1, 1.0 and 1e0 differ). Pure; thread: any. */
#ifndef CP_CANONICAL_H
#define CP_CANONICAL_H

#include "json.h"
#include "pointer.h"

/* The form is JSON itself: no blanks; strings as RFC 8785 writes them (\" \\ \b \f \n \r \t, \u00xx for other control
 * characters, all else plain). It is never longer than what it was made of. */

/* Appends the canonical form of node (fully recorded: cp_json_strict) to out. Members and elements at the ignored pointers,
 * which are relative to node, are left out as if absent; an ignored array element keeps its place as a slot "~", which no
 * JSON value can write, so [1] with /0 ignored differs from [], and so does an ignored node itself (pointer ""). Injective
 * for one ignore list, not across lists: who keys by it keys the list too (cp_message_canonical does). 0 or -ENOMEM (out is
 * unchanged then). */
int cp_canonical(struct cp_json_doc *doc, const struct cp_json_node *node, const struct cp_pointer *ignore, size_t ignore_count,
                 struct buf *out);

/* The same, leaving out every node whose `skip` is set. The caller clears the marks. */
int cp_canonical_marked(struct cp_json_doc *doc, const struct cp_json_node *node, struct buf *out);
/* Sets or clears the mark of what the pointers name at or below root (NULL: nothing). */
void cp_canonical_mark(struct cp_json_doc *doc, const struct cp_json_node *root, const struct cp_pointer *pointers, size_t count,
                       bool skip);

#endif
