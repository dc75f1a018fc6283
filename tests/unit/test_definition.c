/* SPDX-License-Identifier: Apache-2.0 */
/* What a tools/list says of its tools. */
#include "unit.h"

#include <stdio.h>

#include "cachepolicy/definition.h"

static struct cp_json_doc doc, scratch_doc;
static struct buf scratch, seen;

static void add(const char *text)
{
    assert_int_equal(buf_add_span(&seen, span_of(text)), 0);
}

static void on_definition(void *ctx, const struct cp_definition *definition)
{
    static const char *const words[] = {"none", "read-only", "veto"};

    assert_ptr_equal(ctx, &seen);
    assert_int_equal(buf_add_span(&seen, definition->name), 0);
    add("=");
    add(words[definition->annotation]);
    add(" ");
    assert_int_equal(buf_add_span(&seen, definition->canonical), 0);
    add("\n");
}

/* One line for each tool: name=annotation canonical. */
static const char *read_list(const char *result)
{
    struct cp_answer answer;
    struct buf text = {0};

    seen.n = 0;
    assert_int_equal(buf_add_span(&text, SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":")), 0);
    assert_int_equal(buf_add_span(&text, span_of(result)), 0);
    assert_int_equal(buf_add_span(&text, SPAN("}")), 0);
    cp_answer_parse(&answer, &doc, buf_span(&text));
    assert_int_equal(cp_definitions_read(&answer, &scratch_doc, &scratch, on_definition, &seen), 0);
    buf_done(&text);
    assert_int_equal(buf_add(&seen, "", 1), 0);
    return seen.p;
}

static void assert_annotation(const char *members, const char *word)
{
    char list[500], expected[40];

    snprintf(list, sizeof(list), "{\"tools\":[{\"name\":\"t\"%s%s}]}", members[0] != '\0' ? "," : "", members);
    snprintf(expected, sizeof(expected), "t=%s ", word);
    if (strncmp(read_list(list), expected, strlen(expected)) != 0)
        fail_msg("%s: %s, not %s", members, seen.p, word);
}

static void annotations_are_read(void **state)
{
    (void)state;
    assert_annotation("", "none");
    assert_annotation("\"annotations\":{}", "none");
    assert_annotation("\"annotations\":null", "none");
    assert_annotation("\"annotations\":{\"title\":\"T\",\"openWorldHint\":false,\"idempotentHint\":true}", "none");
    assert_annotation("\"annotations\":{\"readOnlyHint\":true}", "read-only");
    assert_annotation("\"annotations\":{\"readOnlyHint\":true,\"destructiveHint\":true}", "read-only");
    assert_annotation("\"annotations\":{\"destructiveHint\":false,\"readOnlyHint\":true}", "read-only");
    assert_annotation("\"annotations\":{\"readOnlyHint\":false}", "veto");
    assert_annotation("\"annotations\":{\"readOnlyHint\":false,\"destructiveHint\":false,\"idempotentHint\":true}", "veto");
    assert_annotation("\"annotations\":{\"destructiveHint\":true}", "veto");
    assert_annotation("\"annotations\":{\"destructiveHint\":false}", "none");
    /* written out though not set */
    assert_annotation("\"annotations\":{\"readOnlyHint\":null,\"destructiveHint\":null}", "none");
    assert_annotation("\"annotations\":{\"readOnlyHint\":null,\"destructiveHint\":true}", "veto");
    /* what is not understood */
    assert_annotation("\"annotations\":{\"readOnlyHint\":\"true\"}", "veto");
    assert_annotation("\"annotations\":{\"readOnlyHint\":1}", "veto");
    assert_annotation("\"annotations\":{\"destructiveHint\":0}", "veto");
    assert_annotation("\"annotations\":[]", "veto");
    assert_annotation("\"annotations\":true", "veto");
    /* elsewhere they are no annotations */
    assert_annotation("\"readOnlyHint\":true", "none");
    assert_annotation("\"inputSchema\":{\"annotations\":{\"readOnlyHint\":false}}", "none");
}

static void all_tools_are_told_in_their_order(void **state)
{
    (void)state;
    assert_string_equal(
        read_list(
            "{\"nextCursor\":\"c\",\"tools\":[ {\"name\":\"b\",\"a\":1} , {\"\\u0061\":[1.0,\"\\u00e9\"],\"name\":\"\\u0061\"} ]}"),
        "b=none {\"a\":1,\"name\":\"b\"}\na=none {\"a\":[1.0,\"\xc3\xa9\"],\"name\":\"a\"}\n");
    /* the same tool, however it is spelled, is the same fingerprint; anything else is another */
    assert_string_equal(
        read_list("{\"tools\":[{\"name\":\"b\",\"a\":1},{ \"a\" : 1, \"\\u006eame\":\"b\" },{\"name\":\"b\",\"a\":1.0}]}"),
        "b=none {\"a\":1,\"name\":\"b\"}\nb=none {\"a\":1,\"name\":\"b\"}\nb=none {\"a\":1.0,\"name\":\"b\"}\n");
    assert_string_equal(read_list("{\"tools\":[]}"), "");
    assert_string_equal(read_list("{\"tools\":{}}"), "");
    assert_string_equal(read_list("{\"tools\":null}"), "");
    assert_string_equal(read_list("{}"), "");
    assert_string_equal(read_list("[]"), "");
    assert_string_equal(read_list("{\"prompts\":[{\"name\":\"p\"}]}"), "");
    assert_string_equal(read_list("{\"tools\":[1,null,\"name\",[],{},{\"name\":7},{\"name\":null},{\"name\":\"\"}]}"),
                        "=none {\"name\":\"\"}\n");
}

/* Whoever remembers by name remembers the veto. */
static void of_one_name_twice_the_veto_is_the_last_word(void **state)
{
#define A "{\"name\":\"a\"}"
#define V "{\"annotations\":{\"readOnlyHint\":false},\"name\":\"a\"}"
    (void)state;
    assert_string_equal(read_list("{\"tools\":[" V "," A "]}"), "a=veto " V "\na=none " A "\na=veto " V "\n");
    assert_string_equal(read_list("{\"tools\":[" A "," V "]}"), "a=none " A "\na=veto " V "\na=veto " V "\n");
    assert_string_equal(read_list("{\"tools\":[" V "]}"), "a=veto " V "\n");
}

static void what_cannot_be_read_without_doubt_is_vetoed(void **state)
{
    (void)state;
    assert_string_equal(
        read_list("{\"tools\":[{\"name\":\"a\",\"name\":\"\\u0062\",\"annotations\":{\"readOnlyHint\":true}},{\"name\":\"c\"}]}"),
        "a=veto {\"name\":\"a\",\"name\":\"\\u0062\",\"annotations\":{\"readOnlyHint\":true}}\n"
        "b=veto {\"name\":\"a\",\"name\":\"\\u0062\",\"annotations\":{\"readOnlyHint\":true}}\n"
        "c=none {\"name\":\"c\"}\n"
        "a=veto {\"name\":\"a\",\"name\":\"\\u0062\",\"annotations\":{\"readOnlyHint\":true}}\n"
        "b=veto {\"name\":\"a\",\"name\":\"\\u0062\",\"annotations\":{\"readOnlyHint\":true}}\n");
    assert_string_equal(read_list("{\"tools\":[{\"name\":\"a\",\"annotations\":{\"readOnlyHint\":false,\"readOnlyHint\":true}}]}"),
                        "a=veto {\"name\":\"a\",\"annotations\":{\"readOnlyHint\":false,\"readOnlyHint\":true}}\n");
    assert_string_equal(read_list("{\"tools\":[{\"name\":\"a\",\"x\":\"\\ud800\"},{\"x\":\"\\ud800\"}]}"),
                        "a=veto {\"name\":\"a\",\"x\":\"\\ud800\"}\n");
}

/* Schemas nest deeper than requests may. */
static void a_deep_schema_is_a_schema(void **state)
{
    struct buf list = {0};

    (void)state;
    assert_int_equal(buf_add_span(&list, SPAN("{\"tools\":[{\"name\":\"a\",\"x\":")), 0);
    for (int i = 0; i < 400; i++)
        assert_int_equal(buf_add(&list, "[", 1), 0);
    for (int i = 0; i < 400; i++)
        assert_int_equal(buf_add(&list, "]", 1), 0);
    assert_int_equal(buf_add(&list, "}]}", 4), 0);
    assert_int_equal(strncmp(read_list(list.p), "a=none ", 7), 0);
    buf_done(&list);
}

static void an_error_or_what_is_no_answer_defines_nothing(void **state)
{
    static const char *const texts[] = {
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"tools\":[{\"name\":\"a\"}]}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[{\"name\":\"a\"}]",
        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[{\"name\":\"a\"}]}}]",
        "{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{\"tools\":[{\"name\":\"a\"}]}}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct cp_answer answer;

        seen.n = 0;
        cp_answer_parse(&answer, &doc, span_of(texts[i]));
        assert_int_equal(cp_definitions_read(&answer, &scratch_doc, &scratch, on_definition, &seen), 0);
        assert_int_equal(seen.n, 0);
    }
}

static int done(void **state)
{
    (void)state;
    buf_done(&scratch);
    buf_done(&seen);
    cp_json_done(&doc);
    cp_json_done(&scratch_doc);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(annotations_are_read),
        cmocka_unit_test(all_tools_are_told_in_their_order),
        cmocka_unit_test(of_one_name_twice_the_veto_is_the_last_word),
        cmocka_unit_test(what_cannot_be_read_without_doubt_is_vetoed),
        cmocka_unit_test(a_deep_schema_is_a_schema),
        cmocka_unit_test(an_error_or_what_is_no_answer_defines_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, done);
}
