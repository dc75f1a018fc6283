/* SPDX-License-Identifier: Apache-2.0 */
/* A clock that stands still. Always: all clocks move together, by the same amount, and only forward. Thread: any may read; one moves. */
#include "fake_clock.h"

#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

/* Saturday, 2026-08-01 00:00:00 UTC */
#define REAL_START_MS INT64_C(1785542400000)
#define BOOT_START_MS INT64_C(1000000)

static atomic_int_fast64_t elapsed_ms;
static _Thread_local bool follows_story;

int64_t fake_clock_ms(void)
{
    return atomic_load(&elapsed_ms);
}

void fake_clock_advance(int64_t ms)
{
    atomic_fetch_add(&elapsed_ms, ms);
}

void fake_clock_follow(bool follows)
{
    follows_story = follows;
}

int64_t clock_boot_ms(void)
{
    return BOOT_START_MS + fake_clock_ms();
}

int64_t clock_real_ms(void)
{
    return REAL_START_MS + fake_clock_ms();
}

int64_t clock_steady_ms(void)
{
    struct timespec t;

    if (follows_story)
        return BOOT_START_MS + fake_clock_ms();
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* libh2o's event loop asks nobody else. */
int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    int64_t now_ms = clock_real_ms();

    (void)zone;
    ret->tv_sec = now_ms / 1000;
    ret->tv_usec = now_ms % 1000 * 1000;
    return 0;
}
