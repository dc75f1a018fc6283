/* SPDX-License-Identifier: Apache-2.0 */
/* Times in nanoseconds, counted in buckets whose width grows with the value: each power of two has STEPS of them, so that a quantile is at most 1/STEPS above the true one. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define STEP_BITS 7
#define STEPS     (1 << STEP_BITS)
#define BUCKETS   ((40 - STEP_BITS) * STEPS) /* to 2^39 ns, nine minutes */

struct histogram {
    uint64_t total, max;
    double sum;
    uint32_t buckets[BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t ns)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(ns | 1), shift, bucket;

    if (bits <= STEP_BITS + 1)
        return (unsigned)ns;
    shift = bits - STEP_BITS - 1;
    bucket = shift * STEPS + (unsigned)(ns >> shift);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The highest value that falls into the bucket. */
static inline uint64_t histogram_value(unsigned bucket)
{
    unsigned shift = bucket < 2 * STEPS ? 0 : bucket / STEPS - 1;

    return (((uint64_t)(bucket - shift * STEPS) + 1) << shift) - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
    h->buckets[histogram_bucket(ns)]++;
    h->total++;
    h->sum += (double)ns;
    if (ns > h->max)
        h->max = ns;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *h)
{
    for (unsigned i = 0; i < BUCKETS; i++)
        into->buckets[i] += h->buckets[i];
    into->total += h->total;
    into->sum += h->sum;
    if (h->max > into->max)
        into->max = h->max;
}

static inline uint64_t histogram_quantile(const struct histogram *h, double q)
{
    uint64_t wanted = (uint64_t)((double)h->total * q), seen = 0;

    if (h->total == 0)
        return 0;
    if (wanted >= h->total)
        wanted = h->total - 1;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > wanted)
            return histogram_value(i) < h->max ? histogram_value(i) : h->max;
    }
    return h->max;
}

#endif
