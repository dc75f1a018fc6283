/* SPDX-License-Identifier: Apache-2.0 */
/* Counters that only go up. Each thread counts in memory of its own, so that counting costs an addition; whoever reads adds them up.
 * What the numbers stand for is the caller's to say (flow/counts.h). Thread: any. */
#ifndef MCPCACHED_BASE_STATS_H
#define MCPCACHED_BASE_STATS_H

#include <stdint.h>

#define STATS_MAX 128

/* id: below STATS_MAX; others are not counted. */
void stats_count(unsigned id);
/* The sum over all threads, those that ended included. */
uint64_t stats_sum(unsigned id);

#endif
