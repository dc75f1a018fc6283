/* SPDX-License-Identifier: Apache-2.0 */
/* Tags: which text is one, those of Cache-Groups, and those that templates make. */
#include "unit.h"

#include <stdio.h>

#include "cachepolicy/groups.h"

static struct buf seen;

static void on_tag(void *ctx, struct span tag)
{
    (void)ctx;
    assert_int_equal(buf_add_span(&seen, SPAN("<")), 0);
    assert_int_equal(buf_add_span(&seen, tag), 0);
    assert_int_equal(buf_add_span(&seen, SPAN(">")), 0);
}

static void assert_groups(struct span value, const char *expected)
{
    struct span exact = heap_span(value);

    seen.n = 0;
    cp_groups_parse(exact, on_tag, NULL);
    free((char *)exact.p);
    if (!span_eq(buf_span(&seen), span_of(expected)))
        fail_msg("'%.*s': '%.*s', not '%s'", (int)value.n, value.p, (int)seen.n, seen.p == NULL ? "" : seen.p, expected);
}

static void a_list_of_strings_is_tags(void **state)
{
    static const struct {
        const char *value, *expected;
    } rows[] = {
        {"\"a\"", "<a>"},
        {"\"scripts\", \"banner images\"", "<scripts><banner images>"},
        {"  \"a\" ,\t\"b\"  ", "<a><b>"},
        {"\"a\",\"b\"", "<a><b>"},
        {"\"a\"\t", "<a>"},
        {"\"a\", \"a\"", "<a><a>"},
        {"\"q\\\"\\\\\"", "<q\"\\>"},
        {"\"a,b\", \"c;d\"", "<a,b><c;d>"},
        {"\"\", \"b\"", "<b>"}, /* a group's name may be empty, a tag's not */
        /* parameters say nothing */
        {"\"a\";x, \"b\";y=1;z=\"q\\\"\";*k=tok/en:", "<a><b>"},
        {"\"a\";  x=?1; d=-12.345; e=@1659578233; f=:aGk=:; g=%\"f%c3%bc\"", "<a>"},
        {"\"a\";x=*t", "<a>"},
        {"\"a\";x=123456789012.123", "<a>"},
        /* not exactly that: nothing at all */
        {"", ""},
        {"   ", ""},
        {"a", ""},
        {"\"a\", b", ""},
        {"b, \"a\"", ""},
        {"\"a\" \"b\"", ""},
        {"\"a\",", ""},
        {"\"a\", ", ""},
        {",\"a\"", ""},
        {"\"a\",,\"b\"", ""},
        {"\"a", ""},
        {"\"a\\\"", ""},
        {"\"a\\n\"", ""},
        {"\"\x7f\"", ""},
        {"\"a\tb\"", ""},
        {"\"\xc3\xa9\"", ""},
        {"'a'", ""},
        {"(\"a\" \"b\")", ""},
        {"\"a\", (\"b\")", ""},
        {"1", ""},
        {"\"a\";", ""},
        {"\"a\";X=1", ""},
        {"\"a\";x=", ""},
        {"\"a\";x=1.", ""},
        {"\"a\";x=1.2345", ""},
        {"\"a\";x=1234567890123.1", ""},
        {"\"a\";x=1234567890123456", ""},
        {"\"a\";x=-", ""},
        {"\"a\";x=?2", ""},
        {"\"a\";x=@1.5", ""},
        {"\"a\";x=:a", ""},
        {"\"a\";x=:a!:", ""},
        {"\"a\";x=%\"%C3\"", ""},
        {"\"a\";x=%\"%c\"", ""},
        {"\"a\";x=(1)", ""},
        {"\t\"a\"", ""}, /* before the list only spaces */
        {"\"a\"x", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_groups(span_of(rows[i].value), rows[i].expected);
    assert_groups(SPAN("\"a\0b\""), "");
    assert_groups(SPAN("\"a\";x\0"), "");
    assert_groups(SPAN("\"a\";x=:\0:"), "");
    assert_groups(SPAN("\"a\";x=t\0"), "");
    assert_groups(SPAN_ABSENT, "");
}

static void a_tag_has_1_to_128_printable_bytes(void **state)
{
    char text[CP_TAG_MAX_BYTES + 1], value[CP_TAG_MAX_BYTES + 3], expected[CP_TAG_MAX_BYTES + 3];

    (void)state;
    memset(text, 'x', sizeof(text));
    assert_false(cp_tag_is_valid((struct span){text, 0}));
    assert_true(cp_tag_is_valid((struct span){text, 1}));
    assert_true(cp_tag_is_valid((struct span){text, CP_TAG_MAX_BYTES}));
    assert_false(cp_tag_is_valid((struct span){text, CP_TAG_MAX_BYTES + 1}));
    assert_false(cp_tag_is_valid(SPAN_ABSENT));
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;

        assert_int_equal(cp_tag_is_valid((struct span){&byte, 1}), c >= 0x20 && c <= 0x7e);
    }
    /* the same for a group: what is too long is passed over, what stands beside it is not */
    snprintf(value, sizeof(value), "\"%.*s\"", CP_TAG_MAX_BYTES, text);
    snprintf(expected, sizeof(expected), "<%.*s>", CP_TAG_MAX_BYTES, text);
    assert_groups(span_of(value), expected);
    char two[CP_TAG_MAX_BYTES + 20];
    snprintf(two, sizeof(two), "\"%.*s\", \"b\"", CP_TAG_MAX_BYTES + 1, text);
    assert_groups(span_of(two), "<b>");
}

/* ---- templates -------------------------------------------------------------------------------------------------------------------- */

static struct cp_json_doc doc;

static void assert_expansion(const char *const *templates, const char *arguments, const char *expected)
{
    struct cp_template parsed[8] = {{.text = NULL}};
    struct cp_message message;
    struct buf scratch = {0};
    char body[1000];
    size_t count = 0;

    for (; templates[count] != NULL; count++)
        assert_int_equal(cp_template_parse(span_of(templates[count]), &parsed[count], NULL), 0);
    snprintf(body, sizeof(body), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"t\"%s%s}}",
             arguments != NULL ? ",\"arguments\":" : "", arguments != NULL ? arguments : "");
    cp_message_parse(&message, &doc, span_of(body));
    assert_int_equal(message.kind, CP_KIND_REQUEST);
    seen.n = 0;
    assert_int_equal(cp_tags_expand(parsed, count, &message, &scratch, on_tag, NULL), 0);
    if (!span_eq(buf_span(&seen), span_of(expected)))
        fail_msg("%s: '%.*s', not '%s'", arguments, (int)seen.n, seen.p == NULL ? "" : seen.p, expected);
    buf_done(&scratch);
    for (size_t i = 0; i < count; i++)
        cp_template_done(&parsed[i]);
}

static void what_cannot_be_expanded_does_not_exist(void **state)
{
    static const char *const templates[] = {"users", "user:{/id}", "{/a}:{/b}", "{/name}", NULL};

    (void)state;
    assert_expansion(templates, NULL, "<users>");
    assert_expansion(templates, "{}", "<users>");
    assert_expansion(templates, "null", "<users>");
    assert_expansion(templates, "[7]", "<users>");
    assert_expansion(templates, "{\"id\":7}", "<users><user:7>");
    assert_expansion(templates, "{\"id\":\"7\"}", "<users><user:7>");
    assert_expansion(templates, "{\"id\":1.0,\"a\":true}", "<users><user:1.0>");
    assert_expansion(templates, "{\"id\":null,\"a\":\"x\",\"b\":false}", "<users><x:false>");
    assert_expansion(templates, "{\"id\":{},\"a\":[],\"b\":1}", "<users>");
    /* as written, whatever bytes: a write and a read that name the same thing meet */
    assert_expansion(templates, "{\"name\":\"\\u00e9\\n\"}", "<users><\xc3\xa9\n>");
    assert_expansion(templates, "{\"name\":\"\"}", "<users>");
}

static void a_long_expansion_is_one_too(void **state)
{
    static const char *const templates[] = {"{/name}", NULL};
    char arguments[600], expected[600], name[401];

    (void)state;
    memset(name, 'n', 400);
    name[400] = '\0';
    snprintf(arguments, sizeof(arguments), "{\"name\":\"%s\"}", name);
    snprintf(expected, sizeof(expected), "<%s>", name);
    assert_expansion(templates, arguments, expected);
}

static int done(void **state)
{
    (void)state;
    buf_done(&seen);
    cp_json_done(&doc);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_strings_is_tags),
        cmocka_unit_test(a_tag_has_1_to_128_printable_bytes),
        cmocka_unit_test(what_cannot_be_expanded_does_not_exist),
        cmocka_unit_test(a_long_expansion_is_one_too),
    };

    return cmocka_run_group_tests(tests, NULL, done);
}
