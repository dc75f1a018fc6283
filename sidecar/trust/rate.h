/* SPDX-License-Identifier: Apache-2.0 */
/* How fast each principal may store: a fixed number of leaky buckets, one for every name that falls into it. Thread: any; no locks. */
#ifndef MCPCACHED_TRUST_RATE_H
#define MCPCACHED_TRUST_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct rate;

/* per_second: 0 is no limit. What was not used for RATE_BURST_S seconds may come at once. NULL when memory is short. */
#define RATE_BURST_S 10
struct rate *rate_new(uint64_t per_second);
void rate_free(struct rate *rate);
/* True, and counted, when this name (a keyed digest) may do one more. */
bool rate_take(struct rate *rate, uint64_t name, int64_t now_ms);

#endif
