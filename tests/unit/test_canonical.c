/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdio.h>

#include "cachepolicy/canonical.h"

static struct cp_json_doc doc;

/* Canonical form of a text under up to two ignored pointers; owned by the caller. */
static struct buf canonical(struct span text, const char *first, const char *second)
{
    struct cp_pointer pointers[2] = {0};
    struct span copy = heap_span(text);
    struct buf out = {0};
    size_t count = 0;

    assert_int_equal(cp_json_scan(&doc, copy, &cp_json_strict), CP_JSON_OK);
    if (first != NULL)
        assert_int_equal(cp_pointer_parse(span_of(first), &pointers[count++], NULL), 0);
    if (second != NULL)
        assert_int_equal(cp_pointer_parse(span_of(second), &pointers[count++], NULL), 0);
    assert_int_equal(cp_canonical(&doc, cp_json_root(&doc), pointers, count, &out), 0);
    /* The marks are gone and so is what the sorting needed. */
    for (uint32_t i = 0; i < doc.count; i++)
        assert_false(doc.nodes[i].skip);
    assert_int_equal(doc.scratch.n, 0);
    for (size_t i = 0; i < count; i++)
        cp_pointer_done(&pointers[i]);
    free((char *)copy.p);
    return out;
}

static void the_form_is_sorted_minimal_and_keeps_lexemes(void **state)
{
    static const struct {
        const char *text, *form;
    } rows[] = {
        {" { \"b\" : 1 , \"a\" : [ 1 , 2 ] } ", "{\"a\":[1,2],\"b\":1}"},
        {"{\"b\":{\"d\":1,\"c\":2},\"a\":{}}", "{\"a\":{},\"b\":{\"c\":2,\"d\":1}}"},
        {"[3,1,2]", "[3,1,2]"},
        {"{\"ab\":1,\"a\":2,\"\":3}", "{\"\":3,\"a\":2,\"ab\":1}"},
        {"{\"same beginning b\":1,\"same beginning a\":2,\"same beginning\":3}",
         "{\"same beginning\":3,\"same beginning a\":2,\"same beginning b\":1}"},
        {"[1,1.0,1e0,1E0,-0,0,1e+0]", "[1,1.0,1e0,1E0,-0,0,1e+0]"},
        {"[1152921504606846976,123456789012345678901234567890]", "[1152921504606846976,123456789012345678901234567890]"},
        {"\"\\u0041\\/\\u00e9\\u20ac\\ud83d\\ude00\"", "\"A/\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\"\\u0022\\u005c\\u0008\\u000c\\u000a\\u000D\\u0009\\u0001\\u001F\\u007f\"",
         "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\""},
        {"\"\\b\\f\\n\\r\\t\\\"\\\\ plain\"", "\"\\b\\f\\n\\r\\t\\\"\\\\ plain\""},
        /* by decoded name, in code point order: U+FF5E before U+1F600, unlike UTF-16 */
        {"{\"\\ud83d\\ude00\":1,\"\\uff5e\":2,\"\\u0061\":3}", "{\"a\":3,\"\xef\xbd\x9e\":2,\"\xf0\x9f\x98\x80\":1}"},
        {"{\"\\n\":1,\"!\":2}", "{\"\\n\":1,\"!\":2}"},
        {"null", "null"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf once = canonical(span_of(rows[i].text), NULL, NULL), twice;

        assert_span(buf_span(&once), rows[i].form);
        twice = canonical(buf_span(&once), NULL, NULL);
        assert_span(buf_span(&twice), rows[i].form);
        buf_done(&once);
        buf_done(&twice);
    }
}

static void different_meanings_differ(void **state)
{
    static const char *const texts[] = {
        "{\"a\":1}",
        "{\"a\":1.0}",
        "{\"a\":\"1\"}",
        "{\"a\":null}",
        "{}",
        "[]",
        "null",
        "\"null\"",
        "[null]",
        "[[],[]]",
        "[[[]]]",
        "{\"a\":{}}",
        "{\"a\":[]}",
        "{\"A\":1}",
        "\"\\u00e9\"",
        "\"e\\u0301\"",
        "{\"a\":\"b\",\"c\":\"d\"}",
        "{\"a\":\"b\\\",\\\"c\\\":\\\"d\"}",
        "[\"a\",\"b\"]",
        "[\"a,b\"]",
        "[\"b\",\"a\"]",
        "\"\\\\n\"",
        "\"\\n\"",
        "true",
        "false",
        "0",
        "-0",
        "\"~\"",
    };
    const size_t count = sizeof(texts) / sizeof(texts[0]);

    (void)state;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < count; k++) {
            struct buf a = canonical(span_of(texts[i]), NULL, NULL), b = canonical(span_of(texts[k]), NULL, NULL);

            if (span_eq(buf_span(&a), buf_span(&b)) != (i == k))
                fail_msg("'%s' and '%s'", texts[i], texts[k]);
            buf_done(&a);
            buf_done(&b);
        }
    }
}

static unsigned common_factor(unsigned a, unsigned b)
{
    return b == 0 ? a : common_factor(b, a % b);
}

/* Many members, in orders that no run of the sort likes, against the sorted text. */
static void every_order_of_many_members_gives_one_form(void **state)
{
    (void)state;
    for (unsigned count = 1; count < 200; count += count < 40 ? 1 : 37) {
        char sorted[8000], *to = sorted;

        *to++ = '{';
        for (unsigned i = 0; i < count; i++)
            to += sprintf(to, "\"long member %04u\":{\"x\":[%u]},", i, i);
        to[-1] = '}';
        *to = '\0';
        for (unsigned step = 1; step < 2 * count; step += 1 + count / 7) {
            char text[10000];
            struct buf form;

            if (common_factor(count, step) != 1)
                continue;
            to = text;
            *to++ = '{';
            for (unsigned i = 0, at = count - 1; i < count; i++, at = (at + step) % count)
                to += sprintf(to, i % 3 == 0 ? "\"long\\u0020member %04u\":{\"x\":[%u]}," : "\"long member %04u\":{\"x\":[%u]},",
                              at, at);
            to[-1] = '}';
            form = canonical((struct span){text, (size_t)(to - text)}, NULL, NULL);
            assert_span(buf_span(&form), sorted);
            buf_done(&form);
        }
    }
}

static void ignored_values_leave_no_trace_or_a_slot(void **state)
{
    static const struct {
        const char *text, *first, *second, *form;
    } rows[] = {
        {"{\"a\":1,\"b\":2,\"c\":3}", "/a", NULL, "{\"b\":2,\"c\":3}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", "/c", NULL, "{\"a\":1,\"b\":2}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", "/a", "/c", "{\"b\":2}"},
        {"{\"a\":1}", "/a", NULL, "{}"},
        {"{\"b\":2}", "/a", NULL, "{\"b\":2}"},
        {"{\"\\u0061\":1,\"b\":2}", "/a", NULL, "{\"b\":2}"},
        {"{\"a\":{\"b\":1,\"c\":2}}", "/a/b", NULL, "{\"a\":{\"c\":2}}"},
        {"{\"a\":{\"b\":1}}", "/a/b", "/a", "{}"},
        {"[1]", "/0", NULL, "[~]"},
        {"[1,2,3]", "/0", "/2", "[~,2,~]"},
        {"[1,2,3]", "/5", NULL, "[1,2,3]"},
        {"[[1,2],[3]]", "/0/1", NULL, "[[1,~],[3]]"},
        {"{\"a\":1}", "", NULL, "~"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf form = canonical(span_of(rows[i].text), rows[i].first, rows[i].second);

        assert_span(buf_span(&form), rows[i].form);
        buf_done(&form);
    }
}

static void the_form_is_appended(void **state)
{
    struct buf out = {0};

    (void)state;
    assert_int_equal(buf_add(&out, "x", 1), 0);
    assert_int_equal(cp_json_scan(&doc, SPAN("{\"a\":[1, 2]}"), &cp_json_strict), CP_JSON_OK);
    assert_int_equal(cp_canonical(&doc, cp_json_member(&doc, cp_json_root(&doc), SPAN("a")), NULL, 0, &out), 0);
    assert_int_equal(cp_canonical(&doc, cp_json_root(&doc), NULL, 0, &out), 0);
    assert_span(buf_span(&out), "x[1,2]{\"a\":[1,2]}");
    buf_done(&out);
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
        cmocka_unit_test(the_form_is_sorted_minimal_and_keeps_lexemes),
        cmocka_unit_test(different_meanings_differ),
        cmocka_unit_test(every_order_of_many_members_gives_one_form),
        cmocka_unit_test(ignored_values_leave_no_trace_or_a_slot),
        cmocka_unit_test(the_form_is_appended),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
