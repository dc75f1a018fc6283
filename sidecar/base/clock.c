/* SPDX-License-Identifier: Apache-2.0 */
/* Reading time. Lives here so that tests can put another clock in its place at link time. */
#include "sidecar/base/clock.h"

#include <time.h>

static int64_t read_ms(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_boot_ms(void)
{
    return read_ms(CLOCK_BOOTTIME);
}

int64_t clock_steady_ms(void)
{
    return read_ms(CLOCK_MONOTONIC);
}

int64_t clock_real_ms(void)
{
    return read_ms(CLOCK_REALTIME);
}
