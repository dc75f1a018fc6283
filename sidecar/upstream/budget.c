/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets. Always: 0 <= tenths <= the most, 0 <= taken <= max, whatever the threads do. The numbers order nothing else, so relaxed is enough. Thread: any. */
#include "sidecar/upstream/budget.h"

#include <assert.h>

#define ONE     10
#define EARNED  1
#define MOST    (BUDGET_RETRIES_MAX * ONE)
#define RELAXED memory_order_relaxed

void budget_retries_init(struct budget_retries *b)
{
    atomic_init(&b->tenths, BUDGET_RETRIES_START * ONE);
}

void budget_retries_earn(struct budget_retries *b)
{
    unsigned have = atomic_load_explicit(&b->tenths, RELAXED);

    /* when all is well it is full, and nothing is written */
    while (have < MOST && !atomic_compare_exchange_weak_explicit(&b->tenths, &have, have + EARNED, RELAXED, RELAXED))
        ;
}

bool budget_retries_take(struct budget_retries *b)
{
    unsigned have = atomic_load_explicit(&b->tenths, RELAXED);

    do {
        if (have < ONE)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->tenths, &have, have - ONE, RELAXED, RELAXED));
    return true;
}

void budget_places_init(struct budget_places *b, size_t max)
{
    atomic_init(&b->taken, 0);
    b->max = max;
}

bool budget_enter(struct budget_places *b)
{
    size_t taken = atomic_load_explicit(&b->taken, RELAXED);

    do {
        if (taken >= b->max)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->taken, &taken, taken + 1, RELAXED, RELAXED));
    return true;
}

bool budget_is_full(const struct budget_places *b)
{
    return atomic_load_explicit(&b->taken, RELAXED) >= b->max;
}

void budget_leave(struct budget_places *b)
{
    size_t before = atomic_fetch_sub_explicit(&b->taken, 1, RELAXED);

    assert(before != 0);
    (void)before;
}
