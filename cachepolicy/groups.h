/* SPDX-License-Identifier: Apache-2.0 */
/* Cache-Groups (RFC 9875): tags from a response header. Pure; thread: any. */
#ifndef CP_GROUPS_H
#define CP_GROUPS_H

#include "tag.h"

/* Calls fn for each member of the field value, a structured field (RFC 9651): a list of strings, whose parameters say nothing. A value that is not exactly
 * that says nothing at all. Members that are no tags (cp_tag_is_valid) are passed over. Several lines of one field are joined with a comma by the caller; one by
 * one, a malformed line is passed over alone. No allocation. */
void cp_groups_parse(struct span value, cp_tag_fn fn, void *ctx);

#endif
