/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes: comparison and trimming of spans, growth of bufs. Nothing here knows what the bytes mean.
 * Always: a buf that could not grow is as it was. Thread: any. */
#include "bytes.h"

#include <errno.h>
#include <stdlib.h>

static inline unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

bool span_ieq(struct span a, struct span b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        if (lower((unsigned char)a.p[i]) != lower((unsigned char)b.p[i]))
            return false;
    }
    return true;
}

int span_cmp(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n == 0 ? 0 : memcmp(a.p, b.p, n);

    if (order != 0)
        return order;
    return (a.n > b.n) - (a.n < b.n);
}

static inline bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span span_trim(struct span s)
{
    while (s.n > 0 && is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

int buf_reserve(struct buf *b, size_t more)
{
    size_t need, cap;
    char *p;

    if (__builtin_add_overflow(b->n, more, &need) || need > PTRDIFF_MAX)
        return -ENOMEM;
    if (need <= b->cap)
        return 0;
    cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need)
        cap = cap > PTRDIFF_MAX / 2 ? need : cap * 2;
    p = realloc(b->p, cap);
    if (p == NULL)
        return -ENOMEM;
    b->p = p;
    b->cap = cap;
    return 0;
}

int buf_add(struct buf *b, const void *bytes, size_t n)
{
    int r;

    if (n == 0)
        return 0;
    r = buf_reserve(b, n);
    if (r < 0)
        return r;
    memcpy(b->p + b->n, bytes, n);
    b->n += n;
    return 0;
}

void buf_done(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}
