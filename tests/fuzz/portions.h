/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting bytes in many ways, for readers that must not care. */
#ifndef FUZZ_PORTIONS_H
#define FUZZ_PORTIONS_H

#include "fuzz.h"

/* Ways: 0 whole, 1 byte by byte, others by a number that follows from `seed`. */
#define PORTION_WAYS 4

struct portions {
    unsigned way;
    uint32_t random;
};

static inline struct portions portions_begin(unsigned way, uint8_t seed)
{
    return (struct portions){way, (uint32_t)seed * 2654435761u + way};
}

/* Bytes of the next portion of what is left: 1 to left. */
static inline size_t portions_next(struct portions *p, size_t left)
{
    size_t n;

    if (p->way < 2)
        return p->way == 0 ? left : 1;
    p->random = p->random * 1664525u + 1013904223u;
    n = 1 + (p->random >> 16) % (p->way == 2 ? 5 : 64);
    return n < left ? n : left;
}

#endif
