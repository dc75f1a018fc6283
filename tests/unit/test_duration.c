/* SPDX-License-Identifier: Apache-2.0 */
/* Durations and sizes: what is read, and what is no duration because two people could read it differently. */
#include "unit.h"

#include <errno.h>

#include "cachepolicy/duration.h"

static void durations_are_read_in_descending_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {
        {"0", 0},
        {"0s", 0},
        {"250ms", 250},
        {"5s", 5000},
        {"10m", 600000},
        {"1h", 3600000},
        {"1h30m", 5400000},
        {"1m1s", 61000},
        {"1s500ms", 1500},
        {"2h1ms", 7200001},
        {"1h2m3s4ms", 3723004},
        {"90m", 5400000},
        {"87600h", 315360000000},
        {"007s", 7000},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t ms = -1;
        int r = cp_duration_parse(span_of(rows[i].text), &ms);
        if (r != 0 || ms != rows[i].ms)
            fail_msg("'%s': got %d, %lld ms; expected %lld ms", rows[i].text, r, (long long)ms, (long long)rows[i].ms);
    }
}

static void other_texts_are_no_durations(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "5",
        "10",
        "00",
        "s",
        "-5s",
        "+5s",
        "1.5s",
        "5 s",
        " 5s",
        "5s ",
        "5S",
        "5sec",
        "1d",
        "30m1h",
        "1s1s",
        "1ms1s",
        "1h30",
        "0x5s",
        "5s,",
        "1h-5m",
        "5\xc2\xb5s",
        "87601h",
        "99999999999999999999s",
        "18446744073709551615h",
        "1h87600h",
        "5m5",
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t ms = 4711;
        if (cp_duration_parse(span_of(rows[i]), &ms) != -EINVAL || ms != 4711)
            fail_msg("'%s' was read as %lld ms", rows[i], (long long)ms);
    }
    int64_t ms;
    assert_int_equal(cp_duration_parse((struct span){"5s\0", 3}, &ms), -EINVAL);
    /* Only what the span holds is looked at. */
    assert_int_equal(cp_duration_parse((struct span){"5s9", 2}, &ms), 0);
    assert_int_equal(ms, 5000);
}

static void sizes_are_read_with_binary_and_decimal_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } rows[] = {
        {"0", 0},
        {"1000", 1000},
        {"7B", 7},
        {"64KiB", 65536},
        {"256MiB", 268435456},
        {"2GiB", 2147483648},
        {"1TiB", 1099511627776},
        {"1kB", 1000},
        {"1KB", 1000},
        {"1MB", 1000000},
        {"3GB", 3000000000},
        {"1TB", 1000000000000},
        {"18446744073709551615", UINT64_MAX},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t bytes = 4711;
        int r = cp_size_parse(span_of(rows[i].text), &bytes);
        if (r != 0 || bytes != rows[i].bytes)
            fail_msg("'%s': got %d, %llu", rows[i].text, r, (unsigned long long)bytes);
    }
}

static void other_texts_are_no_sizes(void **state)
{
    (void)state;
    static const char *const rows[] = {"",
                                       "MiB",
                                       "-1",
                                       "1 MiB",
                                       "1mib",
                                       "1Mi",
                                       "1.5GiB",
                                       "1MiB1",
                                       "1MiB ",
                                       "0x10",
                                       "18446744073709551616",
                                       "18014398509481984KiB",
                                       "99999999TiB"};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t bytes = 4711;
        if (cp_size_parse(span_of(rows[i]), &bytes) != -EINVAL || bytes != 4711)
            fail_msg("'%s' was read as %llu bytes", rows[i], (unsigned long long)bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_read_in_descending_units),
        cmocka_unit_test(other_texts_are_no_durations),
        cmocka_unit_test(sizes_are_read_with_binary_and_decimal_units),
        cmocka_unit_test(other_texts_are_no_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
