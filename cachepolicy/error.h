/* SPDX-License-Identifier: Apache-2.0 */
/* What a human must mend in a text: where it stands, and one sentence that quotes the offending word. */
#ifndef CP_ERROR_H
#define CP_ERROR_H

#include <stdbool.h>
#include <stddef.h>

struct cp_error {
    char file[256]; /* as the caller named it; "" where the text has no name */
    unsigned line;  /* from 1; 0 where the error has no place */
    unsigned column;
    char text[320];
};

/* Up to 64 mistakes of one policy, in the order of their places; `more` says that further ones were dropped. */
struct cp_errors {
    struct cp_error items[64];
    size_t count;
    bool more;
};

void cp_error_set(struct cp_error *reterr, const char *file, unsigned line, unsigned column, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void cp_errors_add(struct cp_errors *errors, const char *file, unsigned line, unsigned column, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
