/* SPDX-License-Identifier: Apache-2.0 */
/* The only readers of time. Everything else gets `now` as an argument. Thread: any. */
#ifndef MCPCACHED_BASE_CLOCK_H
#define MCPCACHED_BASE_CLOCK_H

#include <stdint.h>

/* Milliseconds since boot, suspend included; never goes back while the kernel lives. */
int64_t clock_boot_ms(void);
/* Milliseconds of CLOCK_MONOTONIC, for waits: suspend is not counted. */
int64_t clock_steady_ms(void);
/* Milliseconds since 1970; may jump. */
int64_t clock_real_ms(void);

#endif
