/* SPDX-License-Identifier: Apache-2.0 */
/* Hash tables. Always: a node knows where it hangs, so that taking one out needs no search. */
#include "table.h"

#include <stdlib.h>

#define SIZE_MIN 64

static void hang(struct node **at, struct node *node)
{
    if ((node->next = *at) != NULL)
        node->next->at = &node->next;
    node->at = at;
    *at = node;
}

bool table_init(struct table *t, uint64_t (*hash_of)(const struct node *node))
{
    *t = (struct table){.buckets = calloc(SIZE_MIN, sizeof(*t->buckets)), .hash_of = hash_of};
    if (t->buckets == NULL)
        return false;
    t->size = SIZE_MIN;
    return true;
}

void table_done(struct table *t)
{
    free(t->buckets);
    *t = (struct table){.buckets = NULL};
}

static void grow(struct table *t)
{
    struct node **buckets = calloc(2 * t->size, sizeof(*buckets));

    if (buckets == NULL)
        return;
    for (size_t i = 0; i != t->size; ++i)
        for (struct node *node = t->buckets[i], *next; node != NULL; node = next) {
            next = node->next;
            hang(&buckets[t->hash_of(node) & (2 * t->size - 1)], node);
        }
    free(t->buckets);
    t->buckets = buckets;
    t->size *= 2;
}

void table_add(struct table *t, struct node *node)
{
    if (t->count >= t->size)
        grow(t);
    hang(&t->buckets[t->hash_of(node) & (t->size - 1)], node);
    ++t->count;
}

void table_remove(struct table *t, struct node *node)
{
    if (node->at == NULL)
        return;
    if ((*node->at = node->next) != NULL)
        node->next->at = node->at;
    node->at = NULL;
    --t->count;
}
