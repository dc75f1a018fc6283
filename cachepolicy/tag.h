/* SPDX-License-Identifier: Apache-2.0 */
/* Tags: labels that entries carry and purges name. They come from the policy's templates, from the reply's Cache-Groups header (RFC 9875) and from the result's
 * _meta["io.mcpcached/tags"]. Pure; thread: any. */
#ifndef CP_TAG_H
#define CP_TAG_H

#include "message.h"
#include "template.h"

/* Of a tag that the server or an operator writes. What a template expands to has no limit but the request's own. */
#define CP_TAG_MAX_BYTES 128
/* Tags that the server may give one entry; further ones are not there. */
#define CP_TAGS_MAX 32

/* 1 .. CP_TAG_MAX_BYTES bytes of printable ASCII, 0x20 to 0x7e. */
bool cp_tag_is_valid(struct span tag);

/* tag: borrowed until fn returns. */
typedef void (*cp_tag_fn)(void *ctx, struct span tag);

/* Calls fn with what each template is for this call's arguments. What cannot be expanded (cp_template_expand) does not exist. The text may be any bytes: a
 * read and a write that name one thing alike meet, whatever it is called. message's strict scan is still in its doc; scratch's bytes before are gone.
 * 0, or -ENOMEM: fn was perhaps not called for all. */
int cp_tags_expand(const struct cp_template *templates, size_t count, const struct cp_message *message, struct buf *scratch,
                   cp_tag_fn fn, void *ctx);

#endif
