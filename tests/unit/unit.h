/* SPDX-License-Identifier: Apache-2.0 */
/* What every unit test of the pure library includes: cmocka, and spans from literals with embedded NULs. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cachepolicy/bytes.h"

/* A span on the heap of exactly n bytes, so that the sanitizer sees a read beyond it. Free with free((char *)s.p). */
static inline struct span heap_span(struct span s)
{
    char *p = malloc(s.n == 0 ? 1 : s.n);

    assert_non_null(p);
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return (struct span){p, s.n};
}

static inline void expect_span(struct span seen, const char *wanted, const char *what, const char *file, int line)
{
    if (span_eq(seen, span_of(wanted)))
        return;
    print_error("%s is '%.*s', not '%s'\n", what, (int)seen.n, seen.p == NULL ? "" : seen.p, wanted);
    _fail(file, line);
}

#define assert_span(seen, wanted) expect_span((seen), (wanted), #seen, __FILE__, __LINE__)

#endif
