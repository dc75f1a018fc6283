/* SPDX-License-Identifier: Apache-2.0 */
/* Templates: cut once, filled all or not at all. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#include "cachepolicy/template.h"

static void templates_are_filled_from_the_arguments(void **state)
{
    (void)state;
    static const struct {
        const char *text, *arguments, *expected; /* expected NULL: the tag does not exist for this call */
    } rows[] = {
        {"plain", "{}", "plain"},
        {"account:{/address}", "{\"address\":\"0xAb\"}", "account:0xAb"},
        {"{/a}", "{\"a\":\"\"}", ""},
        {"{/a}{/b}", "{\"a\":\"x\",\"b\":\"y\"}", "xy"},
        {"<{/a}|{/b}>", "{\"b\":2,\"a\":1}", "<1|2>"},
        {"{/a}", "{\"a\":1.0}", "1.0"},
        {"{/a}", "{\"a\":9007199254740993}", "9007199254740993"},
        {"{/a}", "{\"a\":true}", "true"},
        {"{/a}", "{\"a\":false}", "false"},
        {"{/a}", "{\"a\":\"\\u0061\\n\\u00e9\"}", "a\n\xc3\xa9"},
        {"{/a/b/1}", "{\"a\":{\"b\":[1,\"two\"]}}", "two"},
        {"{/a~1b}", "{\"a/b\":\"x\"}", "x"},
        {"{/a}", "{\"a\":\"{/b}\",\"b\":\"no\"}", "{/b}"}, /* a value is never a template */
        {"{/a}", "{}", NULL},
        {"x{/a}", "{\"a\":null}", NULL},
        {"x{/a}", "{\"a\":{}}", NULL},
        {"x{/a}", "{\"a\":[1]}", NULL},
        {"{/b}{/a}", "{\"b\":\"kept?\"}", NULL},
        {"{/a/b}", "{\"a\":\"text\"}", NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_template t = {0};
        struct cp_error error = {0};
        struct cp_json_doc doc = {0};
        struct buf out = {0};
        assert_int_equal(cp_template_parse(span_of(rows[i].text), &t, &error), 0);
        assert_int_equal(cp_json_scan(&doc, span_of(rows[i].arguments), &cp_json_strict), CP_JSON_OK);
        assert_int_equal(buf_add(&out, "before ", 7), 0);
        int r = cp_template_expand(&t, &doc, &doc.nodes[0], &out);
        struct span got = {out.p + 7, out.n - 7};
        if (rows[i].expected == NULL) {
            if (r != -ENOENT || got.n != 0)
                fail_msg("'%s' in %s gave %d '%.*s'", rows[i].text, rows[i].arguments, r, (int)got.n, got.p);
        } else if (r != 0 || !span_eq(got, span_of(rows[i].expected))) {
            fail_msg("'%s' in %s gave %d '%.*s'", rows[i].text, rows[i].arguments, r, (int)got.n, got.p);
        }
        buf_done(&out);
        cp_json_done(&doc);
        cp_template_done(&t);
    }
}

static void without_arguments_only_plain_text_expands(void **state)
{
    (void)state;
    struct cp_template t = {0}, none = {0};
    struct cp_json_doc doc = {0};
    struct buf out = {0};

    assert_int_equal(cp_template_parse(SPAN("a{/b}"), &t, NULL), 0);
    assert_int_equal(cp_template_expand(&t, &doc, NULL, &out), -ENOENT);
    assert_int_equal(out.n, 0);
    cp_template_done(&t);
    assert_int_equal(cp_template_parse(SPAN("a"), &t, NULL), 0);
    assert_int_equal(cp_template_expand(&t, &doc, NULL, &out), 0);
    assert_int_equal(out.n, 1);
    assert_int_equal(cp_template_expand(&none, &doc, NULL, &out), -ENOENT);
    assert_int_equal(out.n, 1);
    cp_template_done(&t);
    cp_template_done(&none);
    cp_template_done(NULL);
    buf_done(&out);
}

static void mistakes_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } rows[] = {
        {"", "must not be empty"},
        {"a{", "not closed"},
        {"a{/b", "not closed"},
        {"a}", "no '{' before"},
        {"a}{/b}", "no '{' before"},
        {"{}", "followed by '/'"},
        {"{id}", "followed by '/', as in {/id}"},
        {"{/a{/b}", "inside another"},
        {"{{/a}}", "followed by '/'"},
        {"{/a~2}", "'~'"},
        {"{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/a}{/"
         "a}{/a}{/a}x",
         "too many pointers"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_template t = {0};
        struct cp_error error = {0};
        if (cp_template_parse(span_of(rows[i].text), &t, &error) != -EINVAL || strstr(error.text, rows[i].sentence) == NULL)
            fail_msg("'%s': '%s'", rows[i].text, error.text);
        assert_null(t.text);
    }
}

static void a_text_may_come_of_a_template(void **state)
{
    (void)state;
    static const struct {
        const char *text, *subject;
        bool expected;
    } rows[] = {
        {"plain", "plain", true},
        {"plain", "plai", false},
        {"plain", "plain ", false},
        {"plain", "", false},
        {"{/a}", "", false}, /* a pointer stands for one byte or more */
        {"{/a}", "x", true},
        {"{/a}", "\n{/a}/?*", true},
        {"{/a}{/b}", "x", false},
        {"{/a}{/b}", "xy", true},
        {"a{/a}", "a", false},
        {"a{/a}", "ab", true},
        {"a{/a}", "bb", false},
        {"{/a}a", "a", false},
        {"{/a}a", "aa", true},
        {"{/a}a", "ab", false},
        {"balance://{/address}", "balance://0x1", true},
        {"balance://{/address}", "balance://", false},
        {"balance://{/address}", "Balance://0x1", false},
        {"user://{/id}/posts/{/post}", "user://1/posts/2", true},
        {"user://{/id}/posts/{/post}", "user:///posts/2", false},
        {"user://{/id}/posts/{/post}", "user://1/posts/", false},
        {"user://{/id}/posts/{/post}", "user:///posts//posts/2", true},
        /* where a literal is found first is not always where it ends */
        {"{/a}-{/b}", "--", false},
        {"{/a}-{/b}", "---", true},
        {"{/a}-{/b}-", "a-b-c-", true},
        {"{/a}-{/b}-", "a-b-c", false},
        {"{/a}-x", "a-x-x", true},
        {"x{/a}x", "x", false},
        {"x{/a}x", "xx", false},
        {"x{/a}x", "xxx", true},
        {"{/a}ab{/b}{/c}ab", "xabababab", true},
        {"{/a}ab{/b}{/c}ab", "xabxab", false},
        {"{/a}\xc3\xa9{/b}",
         "1\xc3\xa9"
         "2",
         true},
        {"{/a}:{/a}", "x:y", true}, /* in doubt */
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_template t = {0};
        struct span subject = heap_span(span_of(rows[i].subject));

        assert_int_equal(cp_template_parse(span_of(rows[i].text), &t, NULL), 0);
        if (cp_template_matches(&t, subject) != rows[i].expected)
            fail_msg("'%s' and '%s'", rows[i].text, rows[i].subject);
        free((char *)subject.p);
        cp_template_done(&t);
    }
    assert_false(cp_template_matches(&(struct cp_template){0}, SPAN("")));
    assert_false(cp_template_matches(&(struct cp_template){0}, SPAN_ABSENT));
    assert_false(cp_template_matches(&(struct cp_template){0}, SPAN("x")));
}

/* What expands matches, whatever the values are; and a text of a template's own pieces, over and over, is told in good time. */
static void what_expands_matches(void **state)
{
    (void)state;
    static const char *const values[] = {"a", "b", "ab", "ba", "aab", "abab", "\xc3\xa9"};
    static const char *const texts[] = {"{/x}",       "a{/x}",     "{/x}b",        "{/x}a{/y}",
                                        "{/x}ab{/y}", "{/x}{/y}b", "a{/x}ab{/y}b", "{/x}b{/y}a{/x}"};
    struct cp_json_doc doc = {0};
    struct cp_template t = {0};
    struct buf out = {0};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(cp_template_parse(span_of(texts[i]), &t, NULL), 0);
        for (size_t j = 0; j < 49; j++) {
            char arguments[64];

            snprintf(arguments, sizeof(arguments), "{\"x\":\"%s\",\"y\":\"%s\"}", values[j / 7], values[j % 7]);
            assert_int_equal(cp_json_scan(&doc, span_of(arguments), &cp_json_strict), CP_JSON_OK);
            out.n = 0;
            assert_int_equal(cp_template_expand(&t, &doc, cp_json_root(&doc), &out), 0);
            if (!cp_template_matches(&t, buf_span(&out)))
                fail_msg("'%s' of %s", texts[i], arguments);
        }
        cp_template_done(&t);
    }
    assert_int_equal(cp_template_parse(SPAN("{/a}aab{/a}aab{/a}aab{/a}aab{/a}aab{/a}aab{/a}aac"), &t, NULL), 0);
    out.n = 0;
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(buf_add(&out, "aab", 3), 0);
    assert_false(cp_template_matches(&t, buf_span(&out)));
    cp_template_done(&t);
    cp_json_done(&doc);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_are_filled_from_the_arguments),
        cmocka_unit_test(without_arguments_only_plain_text_expands),
        cmocka_unit_test(mistakes_are_explained),
        cmocka_unit_test(a_text_may_come_of_a_template),
        cmocka_unit_test(what_expands_matches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
