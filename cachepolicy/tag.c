/* SPDX-License-Identifier: Apache-2.0 */
/* Tags: which text is one, and what a call's templates make. Not here: Cache-Groups (groups.c), a result's own (answer.c), subjects (key.c). Thread: any. */
#include "tag.h"

#include <errno.h>

bool cp_tag_is_valid(struct span tag)
{
    if (tag.n == 0 || tag.n > CP_TAG_MAX_BYTES)
        return false;
    for (size_t i = 0; i < tag.n; i++) {
        if (tag.p[i] < 0x20 || tag.p[i] > 0x7e)
            return false;
    }
    return true;
}

int cp_tags_expand(const struct cp_template *templates, size_t count, const struct cp_message *message, struct buf *scratch,
                   cp_tag_fn fn, void *ctx)
{
    for (size_t i = 0; i < count; i++) {
        scratch->n = 0;
        switch (cp_template_expand(&templates[i], message->doc, message->arguments, scratch)) {
        case 0:
            if (scratch->n > 0)
                fn(ctx, buf_span(scratch));
            break;
        case -ENOMEM:
            return -ENOMEM;
        default:
            break;
        }
    }
    return 0;
}
