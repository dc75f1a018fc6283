/* SPDX-License-Identifier: Apache-2.0 */
/* Durations and sizes as people write them. Not here: limits on what a duration may be used for (policy), clocks.
 * Always: only ASCII digits and the listed units are read, so that no two readers of one text disagree. Thread: any. */
#include "duration.h"

#include <errno.h>

#define MS_MAX (10LL * 365 * 24 * 3600 * 1000)

/* Digits at text[*at]; leaves *at after them. False: no digit, or more than fits. */
static bool read_number(struct span text, size_t *at, uint64_t *ret)
{
    size_t begin = *at;
    uint64_t value = 0;

    for (; *at < text.n && text.p[*at] >= '0' && text.p[*at] <= '9'; ++*at) {
        uint64_t digit = (uint64_t)(text.p[*at] - '0');
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value))
            return false;
    }
    if (*at == begin)
        return false;
    *ret = value;
    return true;
}

/* The letters at text[*at], up to the next digit or the end. */
static struct span read_unit(struct span text, size_t *at)
{
    size_t begin = *at;

    while (*at < text.n && !(text.p[*at] >= '0' && text.p[*at] <= '9'))
        ++*at;
    return (struct span){text.p + begin, *at - begin};
}

int cp_duration_parse(struct span text, int64_t *ret_ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    const size_t unit_count = sizeof(units) / sizeof(units[0]);
    uint64_t total = 0;
    size_t next_unit = 0; /* 1h30m, never 30m1h: each unit at most once, larger ones first */

    if (span_eq(text, SPAN("0"))) {
        *ret_ms = 0;
        return 0;
    }
    if (text.n == 0)
        return -EINVAL;
    for (size_t at = 0; at < text.n;) {
        uint64_t number;
        if (!read_number(text, &at, &number))
            return -EINVAL;
        struct span unit = read_unit(text, &at);
        size_t u = next_unit;
        while (u < unit_count && !span_eq(unit, span_of(units[u].name)))
            u++;
        if (u == unit_count)
            return -EINVAL;
        if (__builtin_mul_overflow(number, units[u].ms, &number) || __builtin_add_overflow(total, number, &total) || total > MS_MAX)
            return -EINVAL;
        next_unit = u + 1;
    }
    *ret_ms = (int64_t)total;
    return 0;
}

int cp_size_parse(struct span text, uint64_t *ret_bytes)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {
        {"", 1},      {"B", 1},     {"KiB", 1ULL << 10}, {"MiB", 1ULL << 20}, {"GiB", 1ULL << 30},   {"TiB", 1ULL << 40},
        {"kB", 1000}, {"KB", 1000}, {"MB", 1000000},     {"GB", 1000000000},  {"TB", 1000000000000},
    };
    size_t at = 0;
    uint64_t number;

    if (!read_number(text, &at, &number))
        return -EINVAL;
    struct span unit = {text.p + at, text.n - at};
    for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
        if (!span_eq(unit, span_of(units[u].name)))
            continue;
        if (__builtin_mul_overflow(number, units[u].bytes, &number))
            return -EINVAL;
        *ret_bytes = number;
        return 0;
    }
    return -EINVAL;
}
