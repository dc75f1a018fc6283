/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Pointers (RFC 6901), parsed once when a policy is read, resolved against the arguments of each call.
 * Thread: immutable after parse, any. */
#ifndef CP_POINTER_H
#define CP_POINTER_H

#include "error.h"
#include "json.h"

struct cp_pointer {
    char *text;          /* owned, NUL-terminated; as written */
    struct span *tokens; /* owned array of spans into `decoded`; ~1 is / and ~0 is ~ there */
    size_t count;        /* 0: the whole document */
    char *decoded;       /* owned */
};

/* Parses "" or "/a/b". On error the reason is one sentence in reterr->text (place is the caller's to fill; reterr may be
 * NULL). *ret is owned: free with cp_pointer_done, which accepts a zeroed one. 0, -EINVAL, -ENOMEM; *ret is untouched
 * unless 0. */
int cp_pointer_parse(struct span text, struct cp_pointer *ret, struct cp_error *reterr);
void cp_pointer_done(struct cp_pointer *pointer);
/* The value that the pointer names at or below root, or NULL. Names compare decoded; an array index is "0" or has no
 * leading zero ("-" names nothing). root may be NULL. */
const struct cp_json_node *cp_pointer_get(struct cp_json_doc *doc, const struct cp_json_node *root,
                                          const struct cp_pointer *pointer);

#endif
