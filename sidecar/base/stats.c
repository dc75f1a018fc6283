/* SPDX-License-Identifier: Apache-2.0 */
/* Counters. Blocks are never freed: there are as many as there ever were threads that counted, and what they counted stays counted. Thread: any. */
#include "sidecar/base/stats.h"

#include <stdatomic.h>
#include <stdlib.h>

struct block {
    struct block *next;
    _Atomic uint64_t counts[STATS_MAX];
};

static _Atomic(struct block *) blocks;
static _Thread_local struct block *own;

static struct block *block_new(void)
{
    struct block *b = calloc(1, sizeof(*b));

    if (b == NULL)
        return NULL;
    b->next = atomic_load_explicit(&blocks, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&blocks, &b->next, b, memory_order_release, memory_order_relaxed))
        ;
    return b;
}

void stats_count(unsigned id)
{
    if (id >= STATS_MAX || (own == NULL && (own = block_new()) == NULL))
        return;
    /* nobody else writes here */
    atomic_store_explicit(&own->counts[id], atomic_load_explicit(&own->counts[id], memory_order_relaxed) + 1, memory_order_relaxed);
}

uint64_t stats_sum(unsigned id)
{
    uint64_t sum = 0;

    if (id >= STATS_MAX)
        return 0;
    for (struct block *b = atomic_load_explicit(&blocks, memory_order_acquire); b != NULL; b = b->next)
        sum += atomic_load_explicit(&b->counts[id], memory_order_relaxed);
    return sum;
}
