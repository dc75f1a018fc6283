/* SPDX-License-Identifier: Apache-2.0 */
/* Content: what of a result counts when two results of one question are compared to see whether anything changed (protocol notes 12): `contents` of resources/read;
 * the list itself (tools, prompts, resources, resourceTemplates) and nextCursor; content, structuredContent and isError of tools/call. Not: _meta of the result, ttlMs,
 * cacheScope, resultType. Pure; thread: whoever owns the doc. */
#ifndef CP_CONTENT_H
#define CP_CONTENT_H

#include "message.h"

/* Appends the canonical form of what counts in this result (raw bytes; scanned into doc, strictly, to the depth of replies). 0; -ENOENT: none of the members is there
 * (an isError that is false is not), or the text has no canonical form; -ENOMEM. out is unchanged unless 0. */
int cp_content_of(enum cp_method method, struct span result, struct cp_json_doc *doc, struct buf *out);

#endif
