/* SPDX-License-Identifier: Apache-2.0 */
/* What of a result counts when two are compared. */
#include "unit.h"

#include <errno.h>

#include "cachepolicy/content.h"

static struct cp_json_doc doc;

static void assert_content(enum cp_method method, const char *result, int expected, const char *content)
{
    struct span exact = heap_span(span_of(result));
    struct buf out = {0};

    assert_int_equal(buf_add(&out, "kept", 4), 0);
    assert_int_equal(cp_content_of(method, exact, &doc, &out), expected);
    if (!span_eq((struct span){out.p + 4, out.n - 4}, span_of(content)) || memcmp(out.p, "kept", 4) != 0)
        fail_msg("%s: %.*s, not %s", result, (int)out.n, out.p, content);
    /* no mark is left behind */
    for (uint32_t i = 0; i < doc.count; i++)
        assert_false(doc.nodes[i].skip);
    buf_done(&out);
    free((char *)exact.p);
}

static void only_what_counts_is_compared(void **state)
{
    (void)state;
    assert_content(
        CP_METHOD_RESOURCES_READ,
        "{\"ttlMs\":1,\"_meta\":{\"a\":1},\"contents\":[{\"uri\":\"a\",\"text\":\"t\"}],\"cacheScope\":\"public\",\"resultType\":"
        "\"complete\",\"nextCursor\":\"c\",\"tools\":[]}",
        0, "{\"contents\":[{\"text\":\"t\",\"uri\":\"a\"}]}");
    /* a _meta further in is content */
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":[{\"uri\":\"a\",\"_meta\":{\"b\":1,\"a\":1}}]}", 0,
                   "{\"contents\":[{\"_meta\":{\"a\":1,\"b\":1},\"uri\":\"a\"}]}");
    assert_content(CP_METHOD_TOOLS_LIST, "{\"tools\":[],\"nextCursor\":\"c\",\"ttlMs\":1,\"prompts\":[]}", 0,
                   "{\"nextCursor\":\"c\",\"tools\":[]}");
    assert_content(CP_METHOD_PROMPTS_LIST, "{\"tools\":[],\"prompts\":[{}]}", 0, "{\"prompts\":[{}]}");
    assert_content(CP_METHOD_RESOURCES_LIST, "{\"resources\":[1],\"resourceTemplates\":[2]}", 0, "{\"resources\":[1]}");
    assert_content(CP_METHOD_RESOURCE_TEMPLATES_LIST, "{\"resources\":[1],\"resourceTemplates\":[2]}", 0,
                   "{\"resourceTemplates\":[2]}");
    assert_content(CP_METHOD_TOOLS_CALL, "{\"structuredContent\":{\"b\":1,\"a\":2},\"_meta\":{},\"isError\":true,\"content\":[]}",
                   0, "{\"content\":[],\"isError\":true,\"structuredContent\":{\"a\":2,\"b\":1}}");
}

static void an_error_that_is_none_is_absent(void **state)
{
    (void)state;
    assert_content(CP_METHOD_TOOLS_CALL, "{\"content\":[],\"isError\":false}", 0, "{\"content\":[]}");
    assert_content(CP_METHOD_TOOLS_CALL, "{\"content\":[],\"isErr\\u006fr\":false}", 0, "{\"content\":[]}");
    assert_content(CP_METHOD_TOOLS_CALL, "{\"content\":[]}", 0, "{\"content\":[]}");
    assert_content(CP_METHOD_TOOLS_CALL, "{\"content\":[],\"isError\":null}", 0, "{\"content\":[],\"isError\":null}");
    assert_content(CP_METHOD_TOOLS_CALL, "{\"content\":false,\"structuredContent\":false}", 0,
                   "{\"content\":false,\"structuredContent\":false}");
    assert_content(CP_METHOD_TOOLS_CALL, "{\"isError\":false}", -ENOENT, "");
    assert_content(CP_METHOD_TOOLS_CALL, "{\"isError\":true}", 0, "{\"isError\":true}");
}

static void spelling_does_not_count(void **state)
{
    (void)state;
    assert_content(CP_METHOD_RESOURCES_READ, " { \"c\\u006fntents\" : [ { \"uri\" : \"\\u00e9\\/\" , \"a\" : 1.0 } ] } \n", 0,
                   "{\"contents\":[{\"a\":1.0,\"uri\":\"\xc3\xa9/\"}]}");
    /* types and lexemes do */
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":{\"a\":1}}", 0, "{\"contents\":{\"a\":1}}");
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":null}", 0, "{\"contents\":null}");
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":12345678901234567890123}", 0, "{\"contents\":12345678901234567890123}");
}

static void what_cannot_be_compared_has_no_content(void **state)
{
    (void)state;
    assert_content(CP_METHOD_RESOURCES_READ, "{}", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "{\"Contents\":[]}", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "[{\"contents\":[]}]", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "null", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":[]", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":[],\"content\\u0073\":[]}", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":[{\"a\":1,\"a\":1}]}", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":[\"\\ud800\"]}", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":[\"\\u0000\"]}", -ENOENT, "");
    assert_content(CP_METHOD_RESOURCES_READ, "{\"contents\":[],\"_meta\":{\"a\":1,\"a\":1}}", -ENOENT, "");
    assert_content(CP_METHOD_PROMPTS_GET, "{\"contents\":[],\"messages\":[],\"nextCursor\":1}", -ENOENT, "");
    assert_content(CP_METHOD_OTHER, "{\"contents\":[],\"\":1}", -ENOENT, "");
    assert_content(CP_METHOD_INITIALIZED, "{\"contents\":[]}", -ENOENT, "");
}

/* A result as deep as the reply that it came in may be, and one deeper. */
static void replies_may_be_deep(void **state)
{
    const size_t depth = 511; /* the reply around it is the 512th */
    struct buf text = {0}, out = {0};

    (void)state;
    for (size_t more = 0; more < 3; more++) {
        text.n = out.n = 0;
        assert_int_equal(buf_add_span(&text, SPAN("{\"contents\":")), 0);
        for (size_t i = 1; i < depth + more; i++)
            assert_int_equal(buf_add(&text, "[", 1), 0);
        for (size_t i = 1; i < depth + more; i++)
            assert_int_equal(buf_add(&text, "]", 1), 0);
        assert_int_equal(buf_add(&text, "}", 1), 0);
        assert_int_equal(cp_content_of(CP_METHOD_RESOURCES_READ, buf_span(&text), &doc, &out), more < 2 ? 0 : -ENOENT);
        assert_true(more < 2 ? span_eq(buf_span(&out), buf_span(&text)) : out.n == 0);
    }
    buf_done(&text);
    buf_done(&out);
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
        cmocka_unit_test(only_what_counts_is_compared), cmocka_unit_test(an_error_that_is_none_is_absent),
        cmocka_unit_test(spelling_does_not_count),      cmocka_unit_test(what_cannot_be_compared_has_no_content),
        cmocka_unit_test(replies_may_be_deep),
    };

    return cmocka_run_group_tests(tests, NULL, done);
}
