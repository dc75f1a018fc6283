/* SPDX-License-Identifier: Apache-2.0 */
/* Leaky buckets, as the time at which each will be empty (GCRA). Names that share a bucket share its rate: with CELLS buckets that is rare, and costs
 * misses only. Thread: any. */
#include "sidecar/trust/rate.h"

#include <stdatomic.h>
#include <stdlib.h>

#define CELLS 16384

struct rate {
    int64_t cost_us; /* of one */
    _Atomic int64_t empty_us[CELLS];
};

struct rate *rate_new(uint64_t per_second)
{
    struct rate *rate = calloc(1, sizeof(*rate));

    if (rate != NULL && per_second != 0)
        rate->cost_us = per_second < 1000000 ? (int64_t)(1000000 / per_second) : 1;
    return rate;
}

void rate_free(struct rate *rate)
{
    free(rate);
}

bool rate_take(struct rate *rate, uint64_t name, int64_t now_ms)
{
    _Atomic int64_t *cell = &rate->empty_us[name % CELLS];
    int64_t now_us = now_ms * 1000, empty_us = atomic_load_explicit(cell, memory_order_relaxed), next_us;

    if (rate->cost_us == 0)
        return true;
    do {
        next_us = (empty_us > now_us ? empty_us : now_us) + rate->cost_us;
        if (next_us - now_us > (int64_t)RATE_BURST_S * 1000000)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(cell, &empty_us, next_us, memory_order_relaxed, memory_order_relaxed));
    return true;
}
