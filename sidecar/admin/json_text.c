/* SPDX-License-Identifier: Apache-2.0 */
/* JSON strings. Not here: reading them (cachepolicy/json.c). */
#include "sidecar/admin/json_text.h"

#include <stdio.h>

int json_text_add(struct buf *out, struct span text)
{
    int r = buf_add(out, "\"", 1);

    for (size_t i = 0; r == 0 && i != text.n; ++i) {
        unsigned char c = (unsigned char)text.p[i];
        char escaped[8];

        if (c == '"' || c == '\\') {
            escaped[0] = '\\';
            escaped[1] = (char)c;
            r = buf_add(out, escaped, 2);
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(escaped, sizeof(escaped), "\\u%04x", c);
            r = buf_add(out, escaped, 6);
        } else {
            r = buf_add(out, &c, 1);
        }
    }
    return r != 0 ? r : buf_add(out, "\"", 1);
}
