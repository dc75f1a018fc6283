/* SPDX-License-Identifier: Apache-2.0 */
/* Durations and sizes as people write them. */
#ifndef CP_DURATION_H
#define CP_DURATION_H

#include "bytes.h"

/* "250ms", "5s", "10m", "1h", "1h30m"; "0" needs no unit, any other number does. 0 or -EINVAL (also when over 10 years). */
int cp_duration_parse(struct span text, int64_t *ret_ms);
/* "64KiB", "256MiB", "2GiB", "1000", "1MB" (10^6). 0 or -EINVAL. */
int cp_size_parse(struct span text, uint64_t *ret_bytes);

#endif
