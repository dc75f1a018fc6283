/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as the most forgiving reader takes it: for looking for what must not be missed in strangers' bytes, never for what is answered or keyed.
 * Nothing is validated; names twice are seen twice, and names compare without case, because some clients' readers do so. Private to cachepolicy/.
 * Pure, and nothing but loose_text allocates; thread: any. */
#ifndef CP_LOOSE_H
#define CP_LOOSE_H

#include "bytes.h"

/* The inside of an array or object, from where it was read to. */
struct loose {
    const char *p, *end;
};

/* The text's one value without what stands around it. */
struct span loose_value(struct span text);
/* False when value does not begin like that container ('[' or '{'): then it holds nothing. */
bool loose_open(struct span value, char bracket, struct loose *ret);
/* The next element or member; false at the end, and where nothing can be made of the bytes. ret_name: the raw inside of the string. */
bool loose_element(struct loose *inside, struct span *ret_value);
bool loose_member(struct loose *inside, struct span *ret_name, struct span *ret_value);

/* Whether the raw inside of a string, decoded, is `text` (lower case or without letters) but for ASCII case. */
bool loose_is(struct span raw, struct span text);
/* A string value's raw inside; false: no string. */
bool loose_string(struct span value, struct span *ret_raw);
/* Decodes the raw inside of a string: *ret is raw itself where nothing is escaped, else in scratch, whose bytes before are gone. 0 or -ENOMEM. */
int loose_text(struct span raw, struct buf *scratch, struct span *ret);

#endif
