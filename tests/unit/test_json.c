/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdio.h>

#include "cachepolicy/json.h"

static struct cp_json_doc doc;

static enum cp_json_status scan(struct span text, const struct cp_json_limits *limits)
{
    struct span copy = heap_span(text);
    enum cp_json_status status = cp_json_scan(&doc, copy, limits);

    if (status != CP_JSON_OK)
        assert_null(cp_json_root(&doc));
    else
        assert_int_equal(cp_json_root(&doc)->start <= cp_json_root(&doc)->end, 1);
    free((char *)copy.p);
    return status;
}

struct row {
    struct span text;
    enum cp_json_status status;
};

#define ROW(text, status)                                                                                                          \
    {                                                                                                                              \
        {text, sizeof(text) - 1}, CP_JSON_##status                                                                                 \
    }

static const struct row rows[] = {
    /* whole values of every type */
    ROW("0", OK),
    ROW("-0", OK),
    ROW("-0.0e-00", OK),
    ROW("123456789012345678901234567890", OK),
    ROW("1E+2", OK),
    ROW("1e999999", OK),
    ROW(" \t\r\n true \t\r\n ", OK),
    ROW("false", OK),
    ROW("null", OK),
    ROW("\"\"", OK),
    ROW("[]", OK),
    ROW("[ ]", OK),
    ROW("{}", OK),
    ROW("{ }", OK),
    ROW("[1,[2,{\"a\":[]}],{}]", OK),
    ROW("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"", OK),
    ROW("\"\x7f\"", OK),
    ROW("\"01234567890123456789\"", OK),
    /* grammar */
    ROW("", SYNTAX),
    ROW(" ", SYNTAX),
    ROW("\xef\xbb\xbf{}", SYNTAX),
    ROW("{}x", SYNTAX),
    ROW("{}{}", SYNTAX),
    ROW("1 2", SYNTAX),
    ROW("{}\0", SYNTAX),
    ROW("[", SYNTAX),
    ROW("{", SYNTAX),
    ROW("[1", SYNTAX),
    ROW("[1,", SYNTAX),
    ROW("[1,]", SYNTAX),
    ROW("[,1]", SYNTAX),
    ROW("[1 2]", SYNTAX),
    ROW("[1}", SYNTAX),
    ROW("{\"a\":1]", SYNTAX),
    ROW("{\"a\"}", SYNTAX),
    ROW("{\"a\":}", SYNTAX),
    ROW("{\"a\":1,}", SYNTAX),
    ROW("{\"a\" 1}", SYNTAX),
    ROW("{a:1}", SYNTAX),
    ROW("{1:1}", SYNTAX),
    ROW("{'a':1}", SYNTAX),
    ROW("{,}", SYNTAX),
    ROW("{\"a\":1 \"b\":2}", SYNTAX),
    ROW("]", SYNTAX),
    ROW("}", SYNTAX),
    ROW("[]]", SYNTAX),
    ROW("// no\n1", SYNTAX),
    ROW("[1]\v", SYNTAX),
    ROW("[\xa0]", SYNTAX),
    /* words */
    ROW("tru", SYNTAX),
    ROW("True", SYNTAX),
    ROW("truex", SYNTAX),
    ROW("nul", SYNTAX),
    ROW("NaN", SYNTAX),
    ROW("Infinity", SYNTAX),
    /* numbers */
    ROW("-", SYNTAX),
    ROW("+1", SYNTAX),
    ROW("01", SYNTAX),
    ROW("-01", SYNTAX),
    ROW("00", SYNTAX),
    ROW(".5", SYNTAX),
    ROW("1.", SYNTAX),
    ROW("1.e1", SYNTAX),
    ROW("1e", SYNTAX),
    ROW("1e+", SYNTAX),
    ROW("1e1.5", SYNTAX),
    ROW("0x10", SYNTAX),
    ROW("1_000", SYNTAX),
    /* strings */
    ROW("\"", SYNTAX),
    ROW("\"abc", SYNTAX),
    ROW("\"abcdefghijklmnop", SYNTAX),
    ROW("\"\\\"", SYNTAX),
    ROW("\"\\", SYNTAX),
    ROW("\"\\x41\"", SYNTAX),
    ROW("\"\\u12\"", SYNTAX),
    ROW("\"\\u12", SYNTAX),
    ROW("\"\\u12g4\"", SYNTAX),
    ROW("\"\\U0041\"", SYNTAX),
    ROW("\"\n\"", SYNTAX),
    ROW("\"\t\"", SYNTAX),
    ROW("\"\0\"", SYNTAX),
    ROW("\"\x1f\"", SYNTAX),
    ROW("\"12345678\x1f\"", SYNTAX),
    ROW("{\"a\nb\":1}", SYNTAX),
    /* escapes that mean what no string may hold */
    ROW("\"\\u0000\"", NUL),
    ROW("{\"\\u0000\":1}", NUL),
    ROW("\"\\ud800\"", SURROGATE),
    ROW("\"\\udc00\"", SURROGATE),
    ROW("\"\\udc00\\ud800\"", SURROGATE),
    ROW("\"\\ud800\\ud800\"", SURROGATE),
    ROW("\"\\ud800x\"", SURROGATE),
    ROW("\"\\ud800\\n\"", SURROGATE),
    ROW("\"\\ud800\\u0041\"", SURROGATE),
    ROW("{\"\\udfff\":1}", SURROGATE),
    ROW("\"\\ud83d\\ude00\"", OK),
    ROW("\"\\uD83D\\uDE00\"", OK),
    ROW("\"\\uffff\\ufffe\"", OK),
    /* UTF-8 */
    ROW("\"\xc3\xa9\"", OK),
    ROW("\"\xe2\x82\xac\"", OK),
    ROW("\"\xf0\x9f\x98\x80\"", OK),
    ROW("\"\xf4\x8f\xbf\xbf\"", OK),
    ROW("\"\xed\x9f\xbf\xee\x80\x80\"", OK),
    ROW("\"\xef\xbf\xbf\"", OK),
    ROW("\"\xc3\"", UTF8),
    ROW("\"\xc3", UTF8),
    ROW("\"\xa9\"", UTF8),
    ROW("\"\xc0\x80\"", UTF8),
    ROW("\"\xc1\xbf\"", UTF8),
    ROW("\"\xe0\x9f\xbf\"", UTF8),
    ROW("\"\xed\xa0\x80\"", UTF8),
    ROW("\"\xed\xbf\xbf\"", UTF8),
    ROW("\"\xf0\x8f\xbf\xbf\"", UTF8),
    ROW("\"\xf4\x90\x80\x80\"", UTF8),
    ROW("\"\xf5\x80\x80\x80\"", UTF8),
    ROW("\"\xff\"", UTF8),
    ROW("\"\xe2\x82\"", UTF8),
    ROW("\"\xf0\x9f\x98\"", UTF8),
    ROW("\"\xe2\x28\xa1\"", UTF8),
    ROW("{\"\xff\":1}", UTF8),
    /* duplicate names */
    ROW("{\"a\":1,\"a\":1}", DUPLICATE),
    ROW("{\"a\":1,\"b\":2,\"\\u0061\":3}", DUPLICATE),
    ROW("{\"\\u00e9\":1,\"\xc3\xa9\":3}", DUPLICATE),
    ROW("{\"\\/\":1,\"/\":3}", DUPLICATE),
    ROW("{\"\":1,\"\":3}", DUPLICATE),
    ROW("[[{\"x\":{\"a\":{},\"a\":{}}}]]", DUPLICATE),
    ROW("{\"longer than eight\":1,\"longer than eight\":2}", DUPLICATE),
    ROW("{\"longer than eight\":1,\"longer than eighs\":2}", OK),
    ROW("{\"a\":{\"a\":{\"a\":1}}}", OK),
    ROW("{\"e\xcc\x81\":1,\"\xc3\xa9\":2}", OK),
    ROW("{\"a\":1,\"A\":2}", OK),
    ROW("{\"a\":1,\"a \":2,\"\":3,\" \":4}", OK),
};

static void every_text_gets_its_status(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum cp_json_status status = scan(rows[i].text, &cp_json_strict);

        if (status != rows[i].status)
            fail_msg("'%.*s' is %d, not %d", (int)rows[i].text.n, rows[i].text.p, status, rows[i].status);
    }
}

/* Whatever is one whole text is none when its end is cut off, and a long text is read no further than its end (the sanitizer watches). */
static void no_beginning_of_a_text_is_a_text(void **state)
{
    const struct span text = SPAN("{\"jsonrpc\":\"2.0\",\"id\":\"\\u00e9\xc3\xa9\",\"params\":{\"a\":[true,false,null,-1.5e+3,{}],"
                                  "\"b\":\"\\ud83d\\ude00\"}}");

    (void)state;
    assert_int_equal(scan(text, &cp_json_strict), CP_JSON_OK);
    for (size_t n = 0; n < text.n; n++)
        assert_int_not_equal(scan((struct span){text.p, n}, &cp_json_strict), CP_JSON_OK);
}

static char *repeat(const char *head, const char *middle, const char *tail, size_t times)
{
    size_t h = strlen(head), m = strlen(middle), t = strlen(tail);
    char *text = malloc(times * (h + t) + m + 1), *to = text;

    assert_non_null(text);
    for (size_t i = 0; i < times; i++, to += h)
        memcpy(to, head, h);
    memcpy(to, middle, m);
    to += m;
    for (size_t i = 0; i < times; i++, to += t)
        memcpy(to, tail, t);
    *to = '\0';
    return text;
}

static void depth_is_limited_without_recursion(void **state)
{
    static const struct {
        const struct cp_json_limits *limits;
        size_t depth;
    } limits[] = {{&cp_json_strict, 64}, {&cp_json_reply, 512}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char *text = repeat("[", "", "]", limits[i].depth);

        assert_int_equal(scan(span_of(text), limits[i].limits), CP_JSON_OK);
        free(text);
        text = repeat("[", "", "]", limits[i].depth + 1);
        assert_int_equal(scan(span_of(text), limits[i].limits), CP_JSON_DEEP);
        free(text);
        text = repeat("{\"a\":", "1", "}", limits[i].depth);
        assert_int_equal(scan(span_of(text), limits[i].limits), CP_JSON_OK);
        free(text);
        text = repeat("{\"a\":", "1", "}", 1000000);
        assert_int_equal(scan(span_of(text), limits[i].limits), CP_JSON_DEEP);
        free(text);
    }
    /* A caller that asks for more gets what the stack has. */
    {
        const struct cp_json_limits greedy = {.depth = UINT32_MAX, .nodes = UINT32_MAX};
        char *text = repeat("[", "", "]", 513);

        assert_int_equal(scan(span_of(text), &greedy), CP_JSON_DEEP);
        assert_int_equal(scan((struct span){text + 1, 1024}, &greedy), CP_JSON_OK);
        free(text);
    }
}

static void nodes_are_limited(void **state)
{
    const struct cp_json_limits limits = {.depth = 10, .nodes = 100};
    char *text = repeat("1,", "1", "", 98); /* 99 numbers and the array */
    char whole[1000];

    (void)state;
    snprintf(whole, sizeof(whole), "[%s]", text);
    assert_int_equal(scan(span_of(whole), &limits), CP_JSON_OK);
    snprintf(whole, sizeof(whole), "[1,%s]", text);
    assert_int_equal(scan(span_of(whole), &limits), CP_JSON_MANY);
    /* A doc that has room from before obeys the smaller limit too. */
    assert_int_equal(scan(span_of(whole), &cp_json_strict), CP_JSON_OK);
    assert_int_equal(scan(span_of(whole), &limits), CP_JSON_MANY);
    free(text);
}

/* 100 000 members, one name twice, wherever it stands; the time is bounded by n log n, else this test does not end. */
static void a_big_object_is_checked_for_twins(void **state)
{
    const unsigned count = 100000;
    char *text = malloc(count * 48);

    (void)state;
    assert_non_null(text);
    for (int twin = 0; twin < 4; twin++) {
        char *to = text;

        *to++ = '{';
        for (unsigned i = 0; i < count; i++) {
            unsigned name = i * 2654435761u;

            if (twin == 1 && i == count - 1)
                name = 0; /* the first one's */
            if (twin == 2 && i == count / 2)
                to += sprintf(to, "\"the same beginnin\\u0067 %u\":0,", (i - 1) * 2654435761u);
            else if (twin == 3 && i == 7)
                to += sprintf(to, "\"\":0,\"\":0,");
            else
                to += sprintf(to, "\"the same beginning %u\":0,", name);
        }
        to[-1] = '}';
        assert_int_equal(scan((struct span){text, (size_t)(to - text)}, &cp_json_strict),
                         twin == 0 ? CP_JSON_OK : CP_JSON_DUPLICATE);
    }
    free(text);
    /* What strangers made grow does not stay. */
    assert_true(doc.cap >= count);
    assert_int_equal(scan(SPAN("{}"), &cp_json_strict), CP_JSON_OK);
    assert_true(doc.cap < count);
}

/* Every count of members around the change from pairs to sorting, the twin at every place. */
static void twins_are_found_at_every_place(void **state)
{
    (void)state;
    for (unsigned count = 2; count < 40; count++) {
        for (unsigned twin = 1; twin <= count; twin++) {
            char text[2000], *to = text;

            *to++ = '{';
            for (unsigned i = 0; i < count; i++)
                to += sprintf(to, "\"%u\":[{}],", i == twin ? twin / 2 : i);
            to[-1] = '}';
            assert_int_equal(scan((struct span){text, (size_t)(to - text)}, &cp_json_strict),
                             twin == count ? CP_JSON_OK : CP_JSON_DUPLICATE);
        }
    }
}

static void nodes_tell_where_everything_stands(void **state)
{
    const struct span text = SPAN(" {\"a\" : [1, \"x\\n\" ,{}], \"\\u0062\":{\"c\":-1e5}, \"d\" :null} ");
    const struct cp_json_node *root, *a, *b, *d, *node;

    (void)state;
    assert_int_equal(cp_json_scan(&doc, text, &cp_json_strict), CP_JSON_OK);
    root = cp_json_root(&doc);
    assert_int_equal(root->type, CP_JSON_OBJECT);
    assert_int_equal(root->count, 3);
    assert_int_equal(root->start, 1);
    assert_int_equal(root->end, text.n - 1);
    a = cp_json_member(&doc, root, SPAN("a"));
    b = cp_json_member(&doc, root, SPAN("b"));
    d = cp_json_member(&doc, root, SPAN("d"));
    assert_ptr_equal(cp_json_first(&doc, root), a);
    assert_ptr_equal(cp_json_next(&doc, a), b);
    assert_ptr_equal(cp_json_next(&doc, b), d);
    assert_null(cp_json_next(&doc, d));
    assert_span(cp_json_name(&doc, b), "b");
    assert_true(b->name_escaped);
    assert_span(cp_json_raw(&doc, a), "[1, \"x\\n\" ,{}]");
    assert_int_equal(a->count, 3);
    node = cp_json_first(&doc, a);
    assert_span(cp_json_raw(&doc, node), "1");
    assert_null(cp_json_name(&doc, node).p);
    assert_null(cp_json_text(&doc, node).p);
    node = cp_json_next(&doc, node);
    assert_span(cp_json_text(&doc, node), "x\n");
    assert_true(cp_json_is_text(&doc, node, SPAN("x\n")));
    assert_false(cp_json_is_text(&doc, node, SPAN("x")));
    assert_false(cp_json_is_text(&doc, node, SPAN("x\nx")));
    node = cp_json_next(&doc, node);
    assert_int_equal(node->type, CP_JSON_OBJECT);
    assert_null(cp_json_first(&doc, node));
    assert_null(cp_json_next(&doc, node));
    assert_span(cp_json_raw(&doc, cp_json_member(&doc, b, SPAN("c"))), "-1e5");
    assert_span(cp_json_raw(&doc, d), "null");
    assert_null(cp_json_member(&doc, root, SPAN("c")));
    assert_null(cp_json_member(&doc, a, SPAN("c")));
    assert_null(cp_json_member(&doc, NULL, SPAN("c")));
    assert_null(cp_json_text(&doc, NULL).p);
    assert_null(cp_json_raw(&doc, NULL).p);
}

static void decoded_strings_stay_where_they_are(void **state)
{
    const struct span text = SPAN("[\"\\u0061\",\"\\u20ac\\ud83d\\ude00\\/\",\"\\\"\\\\\\b\\f\\n\\r\\t\",\"\"]");
    const struct cp_json_node *one, *two, *three;
    struct span first, second;

    (void)state;
    assert_int_equal(cp_json_scan(&doc, text, &cp_json_strict), CP_JSON_OK);
    one = cp_json_first(&doc, cp_json_root(&doc));
    two = cp_json_next(&doc, one);
    three = cp_json_next(&doc, two);
    first = cp_json_text(&doc, one);
    second = cp_json_text(&doc, two);
    for (int i = 0; i < 1000; i++)
        assert_span(cp_json_text(&doc, three), "\"\\\b\f\n\r\t");
    assert_span(first, "a");
    assert_span(second, "\xe2\x82\xac\xf0\x9f\x98\x80/");
    assert_ptr_equal(cp_json_text(&doc, one).p, first.p);
    assert_span(cp_json_text(&doc, cp_json_next(&doc, three)), "");
    assert_non_null(cp_json_text(&doc, cp_json_next(&doc, three)).p);
}

static void a_reply_is_recorded_no_deeper_than_its_results_members(void **state)
{
    const struct span text =
        SPAN("{\"id\":1,\"result\":{\"list\":[{\"a\":1,\"a\":2},\"\\ud800\"],\"_meta\":{\"x\":{\"y\":1},\"z\":2}}}");
    const struct cp_json_node *result, *list, *meta;

    (void)state;
    assert_int_equal(cp_json_scan(&doc, text, &cp_json_reply), CP_JSON_OK);
    assert_int_equal(doc.count, 5);
    result = cp_json_member(&doc, cp_json_root(&doc), SPAN("result"));
    list = cp_json_member(&doc, result, SPAN("list"));
    assert_int_equal(list->count, 2);
    assert_null(cp_json_first(&doc, list));
    meta = cp_json_member(&doc, result, SPAN("_meta"));
    assert_null(cp_json_first(&doc, meta));
    assert_int_equal(cp_json_open(&doc, meta, &meta), CP_JSON_OK);
    assert_span(cp_json_raw(&doc, cp_json_member(&doc, meta, SPAN("z"))), "2");
    assert_span(cp_json_raw(&doc, cp_json_member(&doc, meta, SPAN("x"))), "{\"y\":1}");
    assert_null(cp_json_first(&doc, cp_json_member(&doc, meta, SPAN("x"))));
    assert_int_equal(doc.count, 8);
    /* Opening twice changes nothing, and neither does opening what is no container. */
    assert_int_equal(cp_json_open(&doc, meta, &meta), CP_JSON_OK);
    assert_int_equal(cp_json_open(&doc, cp_json_member(&doc, cp_json_root(&doc), SPAN("id")), &meta), CP_JSON_OK);
    assert_int_equal(meta->type, CP_JSON_NUMBER);
    assert_int_equal(doc.count, 8);
    /* What is opened is checked. */
    result = cp_json_member(&doc, cp_json_root(&doc), SPAN("result"));
    list = cp_json_member(&doc, result, SPAN("list"));
    meta = NULL;
    assert_int_equal(cp_json_open(&doc, list, &meta), CP_JSON_SURROGATE);
    assert_null(meta);
    assert_int_equal(doc.count, 8);
    assert_null(cp_json_first(&doc, cp_json_member(&doc, result, SPAN("list"))));
}

static void a_reply_is_still_wholly_valid(void **state)
{
    (void)state;
    assert_int_equal(scan(SPAN("{\"result\":{\"a\":{\"b\":[1,2,}]}}}"), &cp_json_reply), CP_JSON_SYNTAX);
    assert_int_equal(scan(SPAN("{\"result\":{\"a\":{\"b\":[\"\xff\"]}}}"), &cp_json_reply), CP_JSON_UTF8);
    assert_int_equal(scan(SPAN("{\"result\":{\"a\":{\"b\":[\"\\q\"]}}}"), &cp_json_reply), CP_JSON_SYNTAX);
    assert_int_equal(scan(SPAN("{\"result\":{\"a\":{\"b\":[\"\\u00"), &cp_json_reply), CP_JSON_SYNTAX);
    assert_int_equal(scan(SPAN("{\"result\":{\"a\":1,\"a\":2}}"), &cp_json_reply), CP_JSON_DUPLICATE);
    assert_int_equal(scan(SPAN("{\"result\":{\"a\":{\"b\":1,\"b\":2}}}"), &cp_json_reply), CP_JSON_OK);
}

static void same_text_compares_decoded(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } pairs[] = {
        {"\"a\"", "\"\\u0061\"", true},
        {"\"\\u0061b\"", "\"a\\u0062\"", true},
        {"\"\xc3\xa9\"", "\"\\u00e9\"", true},
        {"\"\\u00e9\"", "\"\xc3\xa9\"", true},
        {"\"\xc3\xa9\"", "\"\\u00c3\\u00a9\"", false},
        {"\"\xf0\x9f\x98\x80x\"", "\"\\ud83d\\ude00x\"", true},
        {"\"a\"", "\"a\\u0062\"", false},
        {"\"\\u0061\"", "\"ab\"", false},
        {"\"\\/\"", "\"/\"", true},
        {"\"\"", "\"\"", true},
        {"\"\"", "\"a\"", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_int_equal(cp_json_same_text(span_of(pairs[i].a), span_of(pairs[i].b)), pairs[i].same);
        assert_int_equal(cp_json_same_text(span_of(pairs[i].b), span_of(pairs[i].a)), pairs[i].same);
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
        cmocka_unit_test(every_text_gets_its_status),
        cmocka_unit_test(no_beginning_of_a_text_is_a_text),
        cmocka_unit_test(depth_is_limited_without_recursion),
        cmocka_unit_test(nodes_are_limited),
        cmocka_unit_test(a_big_object_is_checked_for_twins),
        cmocka_unit_test(twins_are_found_at_every_place),
        cmocka_unit_test(nodes_tell_where_everything_stands),
        cmocka_unit_test(decoded_strings_stay_where_they_are),
        cmocka_unit_test(a_reply_is_recorded_no_deeper_than_its_results_members),
        cmocka_unit_test(a_reply_is_still_wholly_valid),
        cmocka_unit_test(same_text_compares_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
