/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <errno.h>

#include "cachepolicy/error.h"

static void comparison_is_by_bytes_and_then_by_length(void **state)
{
    (void)state;
    assert_true(span_cmp(SPAN("a"), SPAN("b")) < 0);
    assert_true(span_cmp(SPAN("a"), SPAN("ab")) < 0);
    assert_true(span_cmp(SPAN("b"), SPAN("ab")) > 0);
    assert_true(span_cmp(SPAN("\xc3\xa9"), SPAN("z")) > 0);
    assert_int_equal(span_cmp(SPAN("a\0b"), SPAN("a\0b")), 0);
    assert_true(span_cmp(SPAN("a\0b"), SPAN("a\0c")) < 0);
    assert_int_equal(span_cmp(SPAN_ABSENT, SPAN("")), 0);
    assert_true(span_eq(SPAN_ABSENT, SPAN("")));
    assert_false(span_eq(SPAN("a\0b"), SPAN("a\0c")));
}

static void header_comparison_folds_ascii_letters_only(void **state)
{
    (void)state;
    assert_true(span_ieq(SPAN("Mcp-Name"), SPAN("mCP-nAME")));
    assert_false(span_ieq(SPAN("@"), SPAN("`")));
    assert_false(span_ieq(SPAN("["), SPAN("{")));
    assert_false(span_ieq(SPAN("\xc3\x89"), SPAN("\xc3\xa9")));
    assert_false(span_ieq(SPAN("a"), SPAN("ab")));
}

static void trimming_takes_only_the_ends(void **state)
{
    (void)state;
    assert_span(span_trim(SPAN(" \t a b\r\n")), "a b");
    assert_span(span_trim(SPAN(" \t")), "");
    assert_span(span_trim(SPAN("")), "");
    assert_span(span_trim(SPAN("\va")), "\va");
    assert_null(span_trim(SPAN_ABSENT).p);
}

static void a_buf_grows_and_keeps_what_it_has(void **state)
{
    struct buf b = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buf_add(&b, "0123456789", 10), 0);
    assert_int_equal(b.n, 10000);
    for (size_t i = 0; i < b.n; i++)
        assert_int_equal(b.p[i], '0' + (int)(i % 10));
    assert_int_equal(buf_add(&b, NULL, 0), 0);
    buf_done(&b);
    assert_null(b.p);
    assert_int_equal(b.cap, 0);
    buf_done(&b);
}

static void a_size_that_overflows_leaves_the_buf_alone(void **state)
{
    struct buf b = {0};
    const char *p;

    (void)state;
    assert_int_equal(buf_add(&b, "abc", 3), 0);
    p = b.p;
    assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOMEM);
    assert_int_equal(buf_reserve(&b, SIZE_MAX - 2), -ENOMEM);
    assert_int_equal(buf_reserve(&b, (size_t)PTRDIFF_MAX), -ENOMEM);
    assert_ptr_equal(b.p, p);
    assert_span(buf_span(&b), "abc");
    buf_done(&b);
}

static void errors_are_cut_and_counted(void **state)
{
    static struct cp_errors errors;
    char longer[1000];

    (void)state;
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    for (int i = 0; i < 64; i++)
        cp_errors_add(&errors, longer, (unsigned)i, 2, "%s", longer);
    assert_int_equal(errors.count, 64);
    assert_false(errors.more);
    cp_errors_add(&errors, NULL, 1, 1, "one too many");
    assert_int_equal(errors.count, 64);
    assert_true(errors.more);
    assert_int_equal(strlen(errors.items[63].file), sizeof(errors.items[63].file) - 1);
    assert_int_equal(strlen(errors.items[63].text), sizeof(errors.items[63].text) - 1);
    assert_int_equal(errors.items[63].line, 63);
    cp_error_set(&errors.items[0], errors.items[0].file, 7, 8, "other");
    assert_int_equal(errors.items[0].file[0], 'x');
    assert_string_equal(errors.items[0].text, "other");
    cp_error_set(NULL, "a", 1, 1, "nobody asked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparison_is_by_bytes_and_then_by_length),
        cmocka_unit_test(header_comparison_folds_ascii_letters_only),
        cmocka_unit_test(trimming_takes_only_the_ends),
        cmocka_unit_test(a_buf_grows_and_keeps_what_it_has),
        cmocka_unit_test(a_size_that_overflows_leaves_the_buf_alone),
        cmocka_unit_test(errors_are_cut_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
