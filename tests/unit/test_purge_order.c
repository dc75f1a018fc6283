/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/admin/purge_order.c: what is understood, and a sentence for everything else. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#include "sidecar/admin/purge_order.h"

static struct purge_order order;
static struct cp_json_doc doc;
static struct cp_error error;

static int done(void **state)
{
    (void)state;
    purge_order_done(&order);
    cp_json_done(&doc);
    memset(&order, 0, sizeof(order));
    memset(&doc, 0, sizeof(doc));
    error = (struct cp_error){.text = ""};
    return 0;
}

static int parse(struct span body)
{
    done(NULL);
    return purge_order_parse(&order, &doc, body, &error);
}

/* "soft dry all tool:x uri:y authorization=z", in the order of the body. */
static const char *told(void)
{
    static const char *const words[] = {
        [CP_SUBJECT_TOOL] = "tool", [CP_SUBJECT_LIST] = "list", [CP_SUBJECT_URI] = "uri", [CP_SUBJECT_TAG] = "tag"};
    static char text[512];
    size_t n = 0;

    text[0] = '\0';
    n += (size_t)sprintf(text + n, "%s%s%s%s", order.is_soft ? "soft " : "", order.is_dry_run ? "dry " : "",
                         (order.kinds & PURGE_ORDER_ALL) != 0 ? "all " : "",
                         (order.kinds & PURGE_ORDER_PRINCIPAL) != 0 ? "principal " : "");
    for (size_t i = 0; i != order.name_count; i++)
        n += (size_t)sprintf(text + n, "%s:%.*s ", words[order.names[i].kind], (int)order.names[i].text.n, order.names[i].text.p);
    for (size_t i = 0; i != order.header_count; i++)
        n += (size_t)sprintf(text + n, "%.*s=%.*s ", (int)order.headers[i].name.n, order.headers[i].name.p,
                             (int)order.headers[i].value.n, order.headers[i].value.p);
    if (n > 0)
        text[n - 1] = '\0';
    return text;
}

static void what_is_understood(void **state)
{
    static const struct {
        const char *body, *told;
        unsigned kinds;
    } cases[] = {
        {"{\"all\":true}", "all", PURGE_ORDER_ALL},
        {" { \"all\" : true , \"soft\" : true } ", "soft all", PURGE_ORDER_ALL},
        {"{\"dry_run\":true,\"all\":true}", "dry all", PURGE_ORDER_ALL},
        {"{\"dry_run\":false,\"soft\":false,\"tool\":\"a\"}", "tool:a", PURGE_ORDER_TOOL},
        {"{\"tool\":[\"a\",\"b\",\"a\"]}", "tool:a tool:b tool:a", PURGE_ORDER_TOOL},
        {"{\"list\":\"tools/list\"}", "list:tools/list", PURGE_ORDER_LIST},
        {"{\"list\":[\"resources/list\",\"resources/templates/list\",\"prompts/list\",\"server/discover\"]}",
         "list:resources/list list:resources/templates/list list:prompts/list list:server/discover", PURGE_ORDER_LIST},
        {"{\"uri\":\"docs://a b\",\"tag\":[\"x\"]}", "uri:docs://a b tag:x", PURGE_ORDER_URI | PURGE_ORDER_TAG},
        {"{\"\\u0074ag\":\"\\u00e4\\u0022\"}", "tag:\xc3\xa4\"", PURGE_ORDER_TAG},
        {"{\"tag\":\" \"}", "tag: ", PURGE_ORDER_TAG},
        {"{\"principal\":{\"Authorization\":\" Bearer x \",\"cookie\":\"\"}}",
         "principal authorization=Bearer x cookie=", PURGE_ORDER_PRINCIPAL},
        {"{\"principal\":{\"X-API-\\u004bey\":[\"1\",\"2\"]}}", "principal x-api-key=1 x-api-key=2", PURGE_ORDER_PRINCIPAL},
        {"{\"principal\":{},\"tool\":\"t\"}", "principal tool:t", PURGE_ORDER_PRINCIPAL | PURGE_ORDER_TOOL},
    };

    (void)state;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); i++) {
        if (parse(span_of(cases[i].body)) != 0)
            fail_msg("%s: %s", cases[i].body, error.text);
        assert_string_equal(told(), cases[i].told);
        assert_int_equal(order.kinds, cases[i].kinds);
    }
}

static void what_is_not_is_refused_with_the_word_and_the_cure(void **state)
{
    static const struct {
        const char *body, *word, *cure;
    } cases[] = {
        {"", "not JSON", "{\"tag\""},
        {"all=true", "not JSON", "{\"tag\""},
        {"{\"all\":true", "not JSON", "{\"tag\""},
        {"[\"all\"]", "object", "{\"tag\""},
        {"true", "object", "{\"tag\""},
        {"{\"tag\":\"\xff\"}", "Unicode", ""},
        {"{\"tag\":\"\\ud800\"}", "Unicode", ""},
        {"{\"tag\":\"a\\u0000\"}", "NUL", ""},
        {"{\"tag\":\"a\",\"tag\":\"b\"}", "twice", "array"},
        {"{\"tag\":\"a\",\"t\\u0061g\":\"b\"}", "twice", "array"},
        {"{}", "nothing is named", "tool, list, uri, tag"},
        {"{\"soft\":true,\"dry_run\":true}", "nothing is named", "principal"},
        {"{\"tag\":\"a\",\"colour\":1}", "'colour'", "dry_run"},
        {"{\"Tag\":\"a\"}", "'Tag'", "tag"},
        {"{\"tags\":[\"a\"]}", "'tags'", "tag,"},
        {"{\"all\":false}", "'all'", "left out"},
        {"{\"all\":\"yes\"}", "'all'", "left out"},
        {"{\"tag\":\"a\",\"soft\":\"true\"}", "'soft'", "true or false"},
        {"{\"tag\":\"a\",\"dry_run\":1}", "'dry_run'", "true or false"},
        {"{\"tag\":1}", "'tag'", "array of strings"},
        {"{\"tag\":null}", "'tag'", "array of strings"},
        {"{\"uri\":[\"a\",[\"b\"]]}", "'uri'", "array of strings"},
        {"{\"tool\":[]}", "'tool'", "names nothing"},
        {"{\"tool\":\"\"}", "'tool'", "names nothing"},
        {"{\"tool\":[\"a\",\"\"]}", "'tool'", "names nothing"},
        {"{\"list\":\"tools\"}", "'tools'", "tools/list"},
        {"{\"list\":[\"tools/list\",\"tools/call\"]}", "'tools/call'", "prompts/list"},
        {"{\"principal\":\"Bearer x\"}", "'principal'", "authorization"},
        {"{\"principal\":[]}", "'principal'", "authorization"},
        {"{\"principal\":{\"authorization\":1}}", "'authorization'", "header"},
        {"{\"principal\":{\"authorization\":[]}}", "'authorization'", "leave it out"},
        {"{\"principal\":{\"authorization\":[[]]}}", "'authorization'", "array"},
        {"{\"principal\":{\"authorization\":\"a\\r\\nb\"}}", "'authorization'", "header"},
        {"{\"principal\":{\"a b\":\"x\"}}", "'a b'", "no name of a header"},
        {"{\"principal\":{\"\":\"x\"}}", "''", "no name of a header"},
        {"{\"principal\":{\"\xc3\xa4\":\"x\"}}", "no name", "header"},
        {"{\"principal\":{\"Cookie\":\"x\",\"cookie\":\"y\"}}", "'cookie'", "array"},
    };

    (void)state;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); i++) {
        if (parse(span_of(cases[i].body)) != -EINVAL)
            fail_msg("%s was not refused", cases[i].body);
        if (strstr(error.text, cases[i].word) == NULL || strstr(error.text, cases[i].cure) == NULL)
            fail_msg("%s: '%s' does not say '%s' and '%s'", cases[i].body, error.text, cases[i].word, cases[i].cure);
    }
}

/* An array of n times "a", as the tag. */
static int parse_many(const char *before, const char *item, size_t n, const char *after)
{
    struct buf body = {0};
    int r;

    assert_int_equal(buf_add_span(&body, span_of(before)), 0);
    for (size_t i = 0; i != n; i++) {
        char text[32];

        snprintf(text, sizeof(text), item, i);
        assert_int_equal(buf_add_span(&body, span_of(i != 0 ? "," : "")), 0);
        assert_int_equal(buf_add_span(&body, span_of(text)), 0);
    }
    assert_int_equal(buf_add_span(&body, span_of(after)), 0);
    r = parse(buf_span(&body));
    buf_done(&body);
    return r;
}

static void there_is_a_limit_to_names_and_headers(void **state)
{
    (void)state;
    assert_int_equal(parse_many("{\"tag\":[", "\"%zu\"", PURGE_ORDER_NAMES_MAX, "]}"), 0);
    assert_int_equal(order.name_count, PURGE_ORDER_NAMES_MAX);
    assert_int_equal(parse_many("{\"tag\":[", "\"%zu\"", PURGE_ORDER_NAMES_MAX + 1, "]}"), -EINVAL);
    assert_non_null(strstr(error.text, "send several"));
    assert_int_equal(parse_many("{\"tool\":\"t\",\"tag\":[", "\"%zu\"", PURGE_ORDER_NAMES_MAX, "]}"), -EINVAL);
    assert_int_equal(parse_many("{\"principal\":{", "\"h%zu\":\"\"", PURGE_ORDER_HEADERS_MAX, "}}"), 0);
    assert_int_equal(parse_many("{\"principal\":{", "\"h%zu\":\"\"", PURGE_ORDER_HEADERS_MAX + 1, "}}"), -EINVAL);
    assert_int_equal(parse_many("{\"principal\":{\"h\":[", "\"%zu\"", PURGE_ORDER_HEADERS_MAX + 1, "]}}"), -EINVAL);
    assert_int_equal(parse_many("", "[", 100, ""), -EINVAL);
}

/* What a sentence quotes is cut between characters. */
static void a_long_word_is_quoted_in_part(void **state)
{
    (void)state;
    for (size_t pad = 0; pad != 4; pad++) {
        char body[600] = "{\"", *p = body + 2;

        memset(p, 'x', pad);
        p += pad;
        for (int i = 0; i != 100; i++, p += 4)
            memcpy(p, "\xf0\x9f\x98\x80", 4);
        memcpy(p, "\":1}", 5);
        assert_int_equal(parse(span_of(body)), -EINVAL);
        p = strchr(error.text + 1, '\'');
        assert_non_null(p);
        assert_int_equal((p - error.text - 1 - (ptrdiff_t)pad) % 4, 0);
        assert_in_range(p - error.text, 50, 62);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_is_understood, done),
        cmocka_unit_test_teardown(what_is_not_is_refused_with_the_word_and_the_cure, done),
        cmocka_unit_test_teardown(there_is_a_limit_to_names_and_headers, done),
        cmocka_unit_test_teardown(a_long_word_is_quoted_in_part, done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
