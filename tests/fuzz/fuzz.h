/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share: a check that stays in every build. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "cachepolicy/bytes.h"

#define must(condition)                                                                                                            \
    do {                                                                                                                           \
        if (!(condition)) {                                                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                        \
            abort();                                                                                                               \
        }                                                                                                                          \
    } while (0)

/* A copy of exactly n bytes on the heap, so that the sanitizer sees every read beyond it. */
static inline struct span exactly(struct span s)
{
    char *p = malloc(s.n == 0 ? 1 : s.n);

    must(p != NULL);
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return (struct span){p, s.n};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
