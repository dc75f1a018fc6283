/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes: the words everybody speaks. A span is always borrowed, a buf is always owned.
 * Thread: plain data, any. */
#ifndef CP_BYTES_H
#define CP_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes; p may be NULL when n is 0. "Absent" and "empty" differ: absent has p == NULL. */
struct span {
    const char *p;
    size_t n;
};

#define SPAN(literal) ((struct span){(literal), sizeof(literal) - 1})
/* The same for initialisers of static storage. */
#define SPAN_OF(literal)                                                                                                           \
    {                                                                                                                              \
        (literal), sizeof(literal) - 1                                                                                             \
    }
#define SPAN_ABSENT ((struct span){NULL, 0})

static inline struct span span_of(const char *text)
{
    return (struct span){text, strlen(text)};
}

static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ASCII case-insensitive equality, for header names and values that HTTP compares so. */
bool span_ieq(struct span a, struct span b);
/* Byte order, shorter first on a common prefix: <0, 0, >0. */
int span_cmp(struct span a, struct span b);
/* Without leading and trailing SP, HTAB, CR and LF. */
struct span span_trim(struct span s);

/* Owned, growing bytes. Zero-initialise; free with buf_done. */
struct buf {
    char *p;
    size_t n;
    size_t cap;
};

/* Room for `more` further bytes. 0 or -ENOMEM (the buf is unchanged then). */
int buf_reserve(struct buf *b, size_t more);
int buf_add(struct buf *b, const void *bytes, size_t n);
static inline int buf_add_span(struct buf *b, struct span s)
{
    return buf_add(b, s.p, s.n);
}
static inline struct span buf_span(const struct buf *b)
{
    return (struct span){b->p, b->n};
}
/* Frees the bytes and zeroes the buf; accepts a zeroed one. */
void buf_done(struct buf *b);

#endif
