/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of stories: put in the place of sidecar/base/clock.c, and of the gettimeofday that libh2o takes its timers from, at link time. It
 * stands still until somebody moves it. Thread: any may read; one moves. */
#ifndef SCENARIO_FAKE_CLOCK_H
#define SCENARIO_FAKE_CLOCK_H

#include "sidecar/base/clock.h"

#include <stdbool.h>

/* Milliseconds since the story began. */
int64_t fake_clock_ms(void);
void fake_clock_advance(int64_t ms);
/* clock_steady_ms follows the story on threads that said so; on all others (the store's writer, which waits by it) it is the machine's. */
void fake_clock_follow(bool follows);

#endif
