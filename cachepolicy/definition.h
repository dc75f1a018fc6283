/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions: what a tools/list says of each tool, as far as calls of it depend on it: its annotations, and all of it as a fingerprint, because a changed
 * schema makes older results unfit. Thread: whoever owns the docs; everything borrows and lives until fn returns. */
#ifndef CP_DEFINITION_H
#define CP_DEFINITION_H

#include "answer.h"

/* Annotations are hints, not contracts (2025-03-26 to 2026-07-28 server/tools): here they only ever take caching away, or make an unlisted tool no write. */
enum cp_annotation {
    CP_ANNOTATION_NONE,      /* nothing, or no list was seen */
    CP_ANNOTATION_READ_ONLY, /* readOnlyHint: true */
    CP_ANNOTATION_VETO,      /* readOnlyHint: false, or destructiveHint: true without readOnlyHint: true; or what cannot be read */
};

struct cp_definition {
    struct span name; /* decoded */
    enum cp_annotation annotation;
    struct span canonical; /* the whole tool object in canonical form (canonical.h); as it stands where it has none */
};

typedef void (*cp_definition_fn)(void *ctx, const struct cp_definition *definition);

/* Calls fn for each tool of a tools/list result, in its order, and at the end once more for those with a VETO, so that of one name twice the veto is the last
 * word. A tool object that cannot be read without doubt (a name twice
 * in it, a lone surrogate, too deep) is told as VETO under each name it might have; without a name it is passed over. answer: readable, of any text that still
 * stands; scratch_doc is not the doc that it was read with. 0, or -ENOMEM: fn was perhaps not called for all. */
int cp_definitions_read(const struct cp_answer *answer, struct cp_json_doc *scratch_doc, struct buf *scratch, cp_definition_fn fn,
                        void *ctx);

#endif
