/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <errno.h>

#include "cachepolicy/pointer.h"

static struct cp_json_doc doc;

/* The examples of RFC 6901 §5, and what it leaves without a value. */
static void pointers_name_what_the_rfc_says(void **state)
{
    const struct span text =
        SPAN("{\"foo\":[\"bar\",\"baz\"],\"\":0,\"a/b\":1,\"c%d\":2,\"e^f\":3,\"g|h\":4,\"i\\\\j\":5,\"k\\\"l\":6,"
             "\" \":7,\"m~n\":8,\"deep\":[[{\"\\u00e9\":9}]],\"0\":10,\"~1\":11}");
    static const struct {
        const char *pointer, *value; /* NULL: nothing */
    } rows[] = {
        {"/foo", "[\"bar\",\"baz\"]"},
        {"/foo/0", "\"bar\""},
        {"/foo/1", "\"baz\""},
        {"/", "0"},
        {"/a~1b", "1"},
        {"/c%d", "2"},
        {"/e^f", "3"},
        {"/g|h", "4"},
        {"/i\\j", "5"},
        {"/k\"l", "6"},
        {"/ ", "7"},
        {"/m~0n", "8"},
        {"/deep/0/0/\xc3\xa9", "9"},
        {"/0", "10"},
        {"/~01", "11"},
        {"/foo/2", NULL},
        {"/foo/00", NULL},
        {"/foo/01", NULL},
        {"/foo/-", NULL},
        {"/foo/-1", NULL},
        {"/foo/", NULL},
        {"/foo/1e0", NULL},
        {"/foo/4294967296", NULL},
        {"/foo/99999999999999999999", NULL},
        {"/foo/0/x", NULL},
        {"/nothing", NULL},
        {"/deep/0/0/e\xcc\x81", NULL},
        {"//", NULL},
    };

    (void)state;
    assert_int_equal(cp_json_scan(&doc, text, &cp_json_strict), CP_JSON_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_pointer pointer = {0};
        const struct cp_json_node *node;

        assert_int_equal(cp_pointer_parse(span_of(rows[i].pointer), &pointer, NULL), 0);
        assert_string_equal(pointer.text, rows[i].pointer);
        node = cp_pointer_get(&doc, cp_json_root(&doc), &pointer);
        if (rows[i].value == NULL && node != NULL)
            fail_msg("'%s' names something", rows[i].pointer);
        if (rows[i].value != NULL)
            assert_span(cp_json_raw(&doc, node), rows[i].value);
        assert_null(cp_pointer_get(&doc, NULL, &pointer));
        cp_pointer_done(&pointer);
        cp_pointer_done(&pointer);
    }
}

static void the_empty_pointer_names_the_root(void **state)
{
    struct cp_pointer pointer = {0};

    (void)state;
    assert_int_equal(cp_pointer_parse(SPAN(""), &pointer, NULL), 0);
    assert_int_equal(pointer.count, 0);
    assert_int_equal(cp_json_scan(&doc, SPAN("[1]"), &cp_json_strict), CP_JSON_OK);
    assert_ptr_equal(cp_pointer_get(&doc, cp_json_root(&doc), &pointer), cp_json_root(&doc));
    cp_pointer_done(&pointer);
}

static void a_wrong_pointer_is_refused_with_a_sentence(void **state)
{
    static const struct span wrong[] = {{"a", 1}, {"a/b", 3}, {"/~", 2}, {"/~2", 3}, {"/a~", 3}, {"/a\0b", 4}, {"#/a", 3}};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct cp_pointer pointer = {.count = 77};
        struct cp_error error = {0};

        assert_int_equal(cp_pointer_parse(wrong[i], &pointer, &error), -EINVAL);
        assert_non_null(strstr(error.text, "JSON Pointer"));
        assert_int_equal(pointer.count, 77);
    }
}

static int finish(void **state)
{
    (void)state;
    cp_json_done(&doc);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pointers_name_what_the_rfc_says),
        cmocka_unit_test(the_empty_pointer_names_the_root),
        cmocka_unit_test(a_wrong_pointer_is_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
