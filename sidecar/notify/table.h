/* SPDX-License-Identifier: Apache-2.0 */
/* Hash tables of what has a node in it. They grow with what is put in; when memory is short they only get slower.
 * Hashes are of keyed digests or of our own numbers, so strangers cannot choose who shares a bucket. Thread: whoever holds the owner's mutex. */
#ifndef MCPCACHED_NOTIFY_TABLE_H
#define MCPCACHED_NOTIFY_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct node {
    struct node *next, **at; /* at NULL: in no table */
};

struct table {
    struct node **buckets;
    size_t count, size;
    uint64_t (*hash_of)(const struct node *node);
};

#define OF_NODE(type, member, pointer) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

bool table_init(struct table *t, uint64_t (*hash_of)(const struct node *node)); /* false: no memory */
void table_done(struct table *t); /* accepts a zeroed one; what is in it is not freed */
void table_add(struct table *t, struct node *node);
void table_remove(struct table *t, struct node *node); /* in none: nothing */

/* The first of those among which all with this hash are. */
static inline struct node *table_first(const struct table *t, uint64_t hash)
{
    return t->buckets[hash & (t->size - 1)];
}

static inline uint64_t table_mix(uint64_t number)
{
    number *= UINT64_C(0x9e3779b97f4a7c15);
    return number ^ number >> 32;
}

#endif
