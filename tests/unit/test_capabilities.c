/* SPDX-License-Identifier: Apache-2.0 */
/* What a server says it can tell of, and saying that there is more. */
#include "unit.h"

#include <errno.h>

#include "cachepolicy/capabilities.h"

#define WITH(capabilities)                                                                                                         \
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":" capabilities "}}"

static struct cp_json_doc doc;

/* As letters: t, p, r for what is there, T, P, R for what also changes its list, s for subscribe. */
static void assert_read(const char *text, const char *expected)
{
    struct span exact = heap_span(span_of(text));
    struct cp_capabilities seen;
    struct cp_answer answer;
    char letters[8], *to = letters;

    memset(&seen, 0xff, sizeof(seen));
    cp_answer_parse(&answer, &doc, exact);
    assert_int_equal(cp_capabilities_read(&answer, &doc, &seen), 0);
    if (seen.tools)
        *to++ = seen.tools_change ? 'T' : 't';
    if (seen.prompts)
        *to++ = seen.prompts_change ? 'P' : 'p';
    if (seen.resources)
        *to++ = seen.resources_change ? 'R' : 'r';
    if (seen.subscribe)
        *to++ = 's';
    *to = '\0';
    if (strcmp(letters, expected) != 0)
        fail_msg("%s: %s, not %s", text, letters, expected);
    assert_true(seen.tools || !seen.tools_change);
    assert_true(seen.prompts || !seen.prompts_change);
    assert_true(seen.resources || (!seen.resources_change && !seen.subscribe));
    free((char *)exact.p);
}

static void capabilities_are_read(void **state)
{
    (void)state;
    assert_read(WITH("{}"), "");
    assert_read(WITH("{\"tools\":{},\"prompts\":{},\"resources\":{}}"), "tpr");
    assert_read(WITH("{\"tools\":{\"listChanged\":true},\"prompts\":{\"listChanged\":true},\"resources\":{\"listChanged\":true,"
                     "\"subscribe\":true}}"),
                "TPRs");
    assert_read(
        WITH("{\"tools\":{\"listChanged\":false,\"subscribe\":true},\"resources\":{\"subscribe\":1,\"listChanged\":\"true\"}}"),
        "tr");
    assert_read(WITH("{\"resourc\\u0065s\":{\"\\u0073ubscribe\":true}}"), "rs");
    assert_read(WITH("{\"experimental\":{\"resources\":{\"subscribe\":true}},\"resource\":{}}"), "");
    assert_read(WITH("{\"tools\":{\"x\":{\"y\":[{\"z\":{\"listChanged\":true}}]},\"listChanged\":true}}"), "T");
    /* of the wrong type */
    assert_read(WITH("{\"tools\":[],\"prompts\":true,\"resources\":null}"), "");
    assert_read(WITH("[{\"tools\":{}}]"), "");
    assert_read(WITH("null"), "");
    assert_read(WITH("\"resources\""), "");
    /* not readable */
    assert_read(WITH("{\"resources\":{},\"resourc\\u0065s\":{\"subscribe\":true}}"), "");
    assert_read(WITH("{\"tools\":{},\"resources\":{\"subscribe\":true,\"subscribe\":true}}"), "t");
    assert_read("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"capabilities\":{\"tools\":{}},\"capabilities\":{}}}", "");
    /* no answer */
    assert_read("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", "");
    assert_read("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}", "");
    assert_read("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"result\":{\"capabilities\":{\"tools\":{}}}}", "");
    assert_read("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{},\"result\":{\"capabilities\":{\"tools\":{}}}}", "");
    assert_read("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"capabilities\":{\"tools\":{}}}}", "");
    assert_read("[" WITH("{\"tools\":{}}") "]", "");
    assert_read("", "");
}

static const struct cp_capabilities all = {
    .tools_change = true, .prompts_change = true, .resources_change = true, .subscribe = true};
static const struct cp_capabilities subscribe = {.subscribe = true};

static void assert_added(const struct cp_capabilities *add, const char *text, int expected, const char *with)
{
    struct span exact = heap_span(span_of(text));
    struct cp_answer answer;
    struct buf out = {0};

    cp_answer_parse(&answer, &doc, exact);
    assert_int_equal(buf_add(&out, "kept", 4), 0);
    for (int times = 0; times < 2; times++) {
        out.n = 4;
        assert_int_equal(cp_capabilities_add(exact, &answer, &doc, add, &out), expected);
        if (!span_eq((struct span){out.p + 4, out.n - 4}, span_of(with)) || memcmp(out.p, "kept", 4) != 0)
            fail_msg("%s: %.*s, not %s", text, (int)out.n, out.p, with);
    }
    buf_done(&out);
    free((char *)exact.p);
}

static void what_is_added_is_true_and_all_else_stays(void **state)
{
    (void)state;
    assert_added(&subscribe, WITH("{\"resources\":{}}"), 0, WITH("{\"resources\":{\"subscribe\":true}}"));
    assert_added(&subscribe, WITH("{\"resources\":{ }}"), 0, WITH("{\"resources\":{\"subscribe\":true }}"));
    assert_added(&subscribe, WITH("{\"resources\":{\"listChanged\":true}}"), 0,
                 WITH("{\"resources\":{\"subscribe\":true,\"listChanged\":true}}"));
    assert_added(&subscribe, WITH("{\"resources\":{\"subscribe\" : false , \"x\":1}}"), 0,
                 WITH("{\"resources\":{\"subscribe\" : true , \"x\":1}}"));
    assert_added(&subscribe, WITH("{\"resourc\\u0065s\":{\"\\u0073ubscribe\":[{}]}}"), 0,
                 WITH("{\"resourc\\u0065s\":{\"\\u0073ubscribe\":true}}"));
    assert_added(&subscribe, WITH("{\"resources\":{\"subscribe\":null},\"tools\":{}}"), 0,
                 WITH("{\"resources\":{\"subscribe\":true},\"tools\":{}}"));
    assert_added(&all, WITH("{\"resources\":{}}"), 0, WITH("{\"resources\":{\"subscribe\":true,\"listChanged\":true}}"));
    /* in any order, and with what nobody here knows */
    assert_added(
        &all,
        " " WITH("{ \"resources\":{\"listChanged\":false,\"é\":[1.0],\"subscribe\":0},\"x\":{\"tools\":{}}, \"prompts\" : {} ,"
                 "\"tools\":{\"a\":{\"a\":[[[[[]]]]]},\"listChanged\":true} }") "\n",
        0,
        " " WITH("{ \"resources\":{\"listChanged\":true,\"é\":[1.0],\"subscribe\":true},\"x\":{\"tools\":{}}, \"prompts\" : "
                 "{\"listChanged\":true} ,\"tools\":{\"a\":{\"a\":[[[[[]]]]]},\"listChanged\":true} }") "\n");
    assert_added(&all, WITH("{\"tools\":{\"subscribe\":false}}"), 0,
                 WITH("{\"tools\":{\"listChanged\":true,\"subscribe\":false}}"));
    /* what comes twice where nobody looks */
    assert_added(&subscribe, WITH("{\"tools\":{\"a\":1,\"a\":2},\"resources\":{\"x\":{\"y\":1,\"y\":2}}}"), 0,
                 WITH("{\"tools\":{\"a\":1,\"a\":2},\"resources\":{\"subscribe\":true,\"x\":{\"y\":1,\"y\":2}}}"));
}

static void nothing_is_added_where_nothing_is(void **state)
{
    static const struct cp_capabilities none = {.tools = true, .prompts = true, .resources = true};

    (void)state;
    assert_added(&none, WITH("{\"tools\":{},\"prompts\":{},\"resources\":{}}"), -ENOENT, "");
    assert_added(&subscribe, WITH("{\"tools\":{},\"prompts\":{}}"), -ENOENT, "");
    assert_added(&subscribe, WITH("{\"resources\":{\"subscribe\":true}}"), -ENOENT, "");
    assert_added(&all, WITH("{}"), -ENOENT, "");
    assert_added(&all, WITH("{\"resources\":null,\"tools\":true,\"prompts\":[]}"), -ENOENT, "");
    assert_added(&all, WITH("[{\"resources\":{}}]"), -ENOENT, "");
    assert_added(&all, WITH("null"), -ENOENT, "");
    assert_added(&all, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resources\":{}}}", -ENOENT, "");
    assert_added(&all, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}", -ENOENT, "");
    assert_added(&all, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}", -ENOENT, "");
    assert_added(&all, "{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"result\":{\"capabilities\":{\"resources\":{}}}}", -ENOENT, "");
    assert_added(&all, "[" WITH("{\"resources\":{}}") "]", -ENOENT, "");
    assert_added(&all, "", -ENOENT, "");
}

static void what_is_in_doubt_is_not_changed(void **state)
{
    (void)state;
    assert_added(&subscribe, WITH("{\"resources\":{},\"resources\":{}}"), -EINVAL, "");
    assert_added(&subscribe, WITH("{\"resources\":{},\"resourc\\u0065s\":{}}"), -EINVAL, "");
    assert_added(&subscribe, WITH("{\"x\":{},\"x\":{},\"resources\":{}}"), -EINVAL, "");
    assert_added(&subscribe, WITH("{\"resources\":{\"subscribe\":false,\"s\\u0075bscribe\":true}}"), -EINVAL, "");
    assert_added(&all, WITH("{\"tools\":{},\"resources\":{\"a\":\"\\ud800\"}}"), -EINVAL, "");
    assert_added(&all, WITH("{\"tools\":{\"a\\u0000\":1}}"), -EINVAL, "");
}

static int done(void **state)
{
    (void)state;
    cp_json_done(&doc);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capabilities_are_read),
        cmocka_unit_test(what_is_added_is_true_and_all_else_stays),
        cmocka_unit_test(nothing_is_added_where_nothing_is),
        cmocka_unit_test(what_is_in_doubt_is_not_changed),
    };

    return cmocka_run_group_tests(tests, NULL, done);
}
