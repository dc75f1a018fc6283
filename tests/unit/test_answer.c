/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdio.h>

#include "cachepolicy/answer.h"

static struct cp_json_doc doc;

static struct cp_answer parse(const char *text)
{
    struct cp_answer answer;

    cp_answer_parse(&answer, &doc, span_of(text));
    return answer;
}

#define RESULT(members) "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{" members "}}"

static struct cp_answer result(const char *members)
{
    static char text[2000];

    snprintf(text, sizeof(text), RESULT("%s"), members);
    return parse(text);
}

static void an_envelope_is_readable_or_says_nothing(void **state)
{
    static const char *const unreadable[] = {
        "",
        "{",
        "7",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}{}",
        "{\"jsonrpc\":\"2.1\",\"id\":1,\"result\":{}}",
        "{\"id\":1,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":1,\"result\":{}}",
        RESULT("\"ttlMs\":1,\"ttlMs\":2"),
        RESULT("\"ttlMs\":1,\"ttl\\u004ds\":2"),
        RESULT("\"_meta\":{\"a\":1,\"\\u0061\":2}"),
        RESULT("\"content\":[{\"text\":\"\xff\"}]"),
        RESULT("\"content\":[{\"text\":}]"),
    };
    struct cp_answer a;

    (void)state;
    for (size_t i = 0; i < sizeof(unreadable) / sizeof(unreadable[0]); i++) {
        a = parse(unreadable[i]);
        if (a.is_readable || a.has_result || a.id.p != NULL || a.result.p != NULL || a.is_batch)
            fail_msg("'%s' was read", unreadable[i]);
        assert_false(cp_answer_is_to(&a, SPAN("1")));
    }
    a = parse("[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}]");
    assert_true(a.is_batch);
    assert_false(a.is_readable);
    /* deeper than the result's own members nothing is judged but grammar */
    a = result("\"content\":[{\"a\":1,\"a\":\"\\ud800\"}]");
    assert_true(a.is_readable);
}

static void responses_notifications_and_errors_are_told_apart(void **state)
{
    struct cp_answer a;

    (void)state;
    a = parse("{\"jsonrpc\":\"2.0\",\"id\": 1 ,\"result\": {\"a\": 1.0} }");
    assert_true(a.is_readable && a.has_result && !a.has_error && !a.has_method && a.is_object);
    assert_span(a.id, "1");
    assert_span(a.result, "{\"a\": 1.0}");
    a = parse("{\"jsonrpc\":\"2.0\",\"method\":\"notifications\\/progress\",\"params\":{}}");
    assert_true(a.is_readable && a.has_method);
    assert_span(a.method, "notifications/progress");
    assert_null(a.id.p);
    a = parse("{\"jsonrpc\":\"2.0\",\"id\":\"s1\",\"method\":7}");
    assert_true(a.has_method);
    assert_null(a.method.p);
    a = parse("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32602,\"message\":\"m\"}}");
    assert_true(a.is_readable && a.has_error && !a.has_result);
    assert_int_equal(a.error_code, -32602);
    assert_span(a.id, "null");
    assert_int_equal(parse("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1.5}}").error_code, 0);
    assert_int_equal(parse("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":\"1\"}}").error_code, 0);
    assert_int_equal(parse("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":99999999999999999999}}").error_code, 0);
    assert_true(parse("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-9223372036854775808}}").error_code == INT64_MIN);
    assert_true(parse("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":9223372036854775807}}").error_code == INT64_MAX);
    assert_int_equal(parse("{\"jsonrpc\":\"2.0\",\"error\":\"bad\"}").error_code, 0);
    a = parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}");
    assert_true(a.has_result && !a.is_object);
    assert_span(a.result, "null");
}

static void an_answer_answers_one_id(void **state)
{
    static const struct {
        const char *sent, *came;
        bool is;
    } rows[] = {
        {"1", "1", true},
        {"1", "\"1\"", false},
        {"\"1\"", "1", false},
        {"\"7\"", "\"7\"", true},
        {"1", "1.0", false},
        {"1", "1e0", false},
        {"1", "10", false},
        {"9007199254740993", "9007199254740992", false},
        {"9007199254740993", "9007199254740993", true},
        {"-5", "-5", true},
        {"\"\\u0061\"", "\"a\"", true},
        {"\"a\"", "\"\\u0061\"", true},
        {"\"\"", "\"\"", true},
        {"\"\"", "\"a\"", false},
        {"1", "null", false},
        {"\"null\"", "null", false},
        {"1", "[1]", false},
        {"1", "true", false},
    };
    char text[200];
    struct cp_answer a;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}", rows[i].came);
        a = parse(text);
        assert_true(a.is_readable);
        if (cp_answer_is_to(&a, span_of(rows[i].sent)) != rows[i].is)
            fail_msg("%s to %s", rows[i].came, rows[i].sent);
    }
    a = parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}");
    assert_true(cp_answer_is_to(&a, SPAN("1")));
    assert_false(cp_answer_is_to(&a, SPAN_ABSENT));
    a = parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}");
    assert_false(cp_answer_is_to(&a, SPAN("1")));
    a = parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"result\":{}}");
    assert_false(cp_answer_is_to(&a, SPAN("1")));
    a = parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"error\":{}}");
    assert_false(cp_answer_is_to(&a, SPAN("1")));
    a = parse("{\"jsonrpc\":\"2.0\",\"id\":1}");
    assert_false(cp_answer_is_to(&a, SPAN("1")));
    a = parse("{\"jsonrpc\":\"2.0\",\"result\":{}}");
    assert_false(cp_answer_is_to(&a, SPAN("1")));
    a = parse("{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}");
    assert_false(cp_answer_is_to(&a, SPAN("null")));
}

static void ttl_is_read_from_the_lexeme(void **state)
{
    const int64_t day = 86400000;
    const struct {
        const char *lexeme;
        int64_t ttl_ms;
    } rows[] = {
        {"0", 0},
        {"1", 1},
        {"60000", 60000},
        {"86399999", 86399999},
        {"86400000", day},
        {"86400001", day},
        {"-1", 0},
        {"-0", 0},
        {"-1e9", 0},
        {"1.5", 0},
        {"60000.0", 0},
        {"0.5", 0},
        {"\"60000\"", 0},
        {"null", 0},
        {"true", 0},
        {"[60000]", 0},
        {"{}", 0},
        {"1e30", day},
        {"1E+30", day},
        {"6e4", 60000},
        {"6.0e4", 60000},
        {"6.05e4", 60500},
        {"1.5e1", 15},
        {"1.5e0", 0},
        {"150e-1", 15},
        {"155e-1", 0},
        {"100e-2", 1},
        {"100e-3", 0},
        {"0e99", 0},
        {"0.00001e5", 1},
        {"0.00001e4", 0},
        {"1e-1", 0},
        {"1e0", 1},
        {"1e99999999999999999999999", day},
        {"1e-99999999999999999999999", 0},
        {"999999999999999999999999999999999999", day},
        {"1000000000000000000000000e-20", 10000},
        {"10000000", 10000000},
        {"102030", 102030},
        {"864e5", day},
        {"863e5", 86300000},
        {"86400000.5", 0},
        {"100000000000.5e0", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[200];
        struct cp_answer a;

        snprintf(text, sizeof(text), "\"ttlMs\": %s ,\"x\":1", rows[i].lexeme);
        a = result(text);
        assert_true(a.has_ttl);
        assert_span(a.ttl_token, rows[i].lexeme);
        if (a.ttl_ms != rows[i].ttl_ms)
            fail_msg("%s is %lld", rows[i].lexeme, (long long)a.ttl_ms);
    }
    assert_false(result("\"tools\":[]").has_ttl);
    assert_null(result("\"tools\":[]").ttl_token.p);
    assert_false(result("\"tools\":{\"ttlMs\":5}").has_ttl);
    assert_int_equal(result("\"t\\u0074lMs\":5").ttl_ms, 5);
}

static void only_public_is_public(void **state)
{
    (void)state;
    assert_int_equal(result("\"cacheScope\":\"public\"").scope, CP_HINT_PUBLIC);
    assert_int_equal(result("\"cacheScope\":\"p\\u0075blic\"").scope, CP_HINT_PUBLIC);
    assert_int_equal(result("\"cacheScope\":\"private\"").scope, CP_HINT_PRIVATE);
    assert_int_equal(result("\"cacheScope\":\"Public\"").scope, CP_HINT_PRIVATE);
    assert_int_equal(result("\"cacheScope\":\"public \"").scope, CP_HINT_PRIVATE);
    assert_int_equal(result("\"cacheScope\":7").scope, CP_HINT_PRIVATE);
    assert_int_equal(result("\"cacheScope\":null").scope, CP_HINT_PRIVATE);
    assert_int_equal(result("\"cachescope\":\"public\"").scope, CP_HINT_ABSENT);
}

static void what_belongs_to_one_exchange_is_noticed(void **state)
{
    static const char *const private[] = {
        "\"resultType\":\"task\",\"taskId\":\"t\",\"ttlMs\":60000",
        "\"task\":{\"taskId\":\"t\",\"ttl\":null}",
        "\"inputRequests\":{}",
        "\"requestState\":\"x\"",
        "\"requestState\":null",
        "\"request\\u0053tate\":\"x\"",
        "\"_meta\":{\"io.modelcontextprotocol/related-task\":{\"taskId\":\"t\"}}",
        "\"_meta\":{\"io.modelcontextprotocol\\/related-task\":1}",
        "\"_meta\":{\"io.modelcontextprotocol/model-immediate-response\":\"x\"}",
        "\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":1}",
    };
    static const char *const shared[] = {
        "\"content\":[]",
        "\"task\":\"a word\"",
        "\"structuredContent\":{\"taskId\":\"t\",\"task\":{},\"requestState\":1}",
        "\"_meta\":{\"io.modelcontextprotocol/serverInfo\":{\"io.modelcontextprotocol/related-task\":1}}",
        "\"_meta\":{\"related-task\":1}",
        "\"_meta\":\"io.modelcontextprotocol/related-task\"",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(private) / sizeof(private[0]); i++) {
        struct cp_answer a = result(private[i]);

        if (!a.is_readable || !a.is_exchange_private)
            fail_msg("%s", private[i]);
    }
    for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
        struct cp_answer a = result(shared[i]);

        if (!a.is_readable || a.is_exchange_private)
            fail_msg("%s", shared[i]);
    }
}

static void type_error_and_refusal_are_read(void **state)
{
    (void)state;
    assert_int_equal(result("").type, CP_RESULT_ABSENT);
    assert_int_equal(result("\"resultType\":\"complete\"").type, CP_RESULT_COMPLETE);
    assert_int_equal(result("\"resultType\":\"Complete\"").type, CP_RESULT_OTHER);
    assert_int_equal(result("\"resultType\":\"input_required\"").type, CP_RESULT_OTHER);
    assert_int_equal(result("\"resultType\":\"x-foo\"").type, CP_RESULT_OTHER);
    assert_int_equal(result("\"resultType\":null").type, CP_RESULT_OTHER);
    assert_false(result("").is_error);
    assert_false(result("\"isError\":false").is_error);
    assert_true(result("\"isError\":true").is_error);
    assert_true(result("\"isError\":null").is_error);
    assert_true(result("\"isError\":\"false\"").is_error);
    assert_true(result("\"_meta\":{\"cache_hint\":\"no-cache\"}").refuses_cache);
    assert_false(result("\"_meta\":{\"cache_hint\":\"cache\"}").refuses_cache);
    assert_false(result("\"cache_hint\":\"no-cache\"").refuses_cache);
    assert_span(result("\"protocolVersion\":\"2025\\u002d06-18\"").version, "2025-06-18");
    assert_null(result("\"protocolVersion\":7").version.p);
}

static void stripping_takes_the_trace_and_nothing_else(void **state)
{
    static const struct {
        const char *result, *stripped;
    } rows[] = {
        {"{}", "{}"},
        {"{\"structuredContent\":null,\"a\":[1152921504606846976, 1.0,1E2,\"\\u0061\"]}",
         "{\"structuredContent\":null,\"a\":[1152921504606846976, 1.0,1E2,\"\\u0061\"]}"},
        {"{ \"_meta\" : { \"x\" : 1 } , \"ttlMs\" : 5 }", "{ \"_meta\" : { \"x\" : 1 } , \"ttlMs\" : 5 }"},
        {"{\"_meta\":{\"traceparent\":\"t\"},\"ttlMs\":5}", "{\"_meta\":{},\"ttlMs\":5}"},
        {"{\"_meta\":{\"traceparent\":\"t\",\"x\":1},\"ttlMs\":5}", "{\"_meta\":{\"x\":1},\"ttlMs\":5}"},
        {"{\"_meta\":{\"x\":1,\"traceparent\":\"t\"},\"ttlMs\":5}", "{\"_meta\":{\"x\":1},\"ttlMs\":5}"},
        {"{\"_meta\":{\"x\":1 , \"traceparent\":\"t\" , \"y\":2 }}", "{\"_meta\":{\"x\":1 , \"y\":2 }}"},
        {"{\"ttlMs\":60000,\"_meta\":{\"baggage\":{\"a\":[1,2]},\"x\":1,\"tracestate\":\"b\",\"traceparent\":\"t\",\"y\":2,"
         "\"baggages\":3}}",
         "{\"ttlMs\":60000,\"_meta\":{\"x\":1,\"y\":2,\"baggages\":3}}"},
        {"{\"_meta\":{\"traceparent\":1,\"tracestate\":2,\"baggage\":3},\"ttlMs\":7}", "{\"_meta\":{},\"ttlMs\":7}"},
        {"{\"_meta\":{ \"traceparent\":1 , \"tracestate\":2 }}", "{\"_meta\":{  }}"},
        {"{\"_meta\":{\"x\":1,\"traceparent\":1,\"tracestate\":2}}", "{\"_meta\":{\"x\":1}}"},
        {"{\"_meta\":{\"trac\\u0065parent\":1,\"x\":1}}", "{\"_meta\":{\"x\":1}}"},
        {"{\"traceparent\":1,\"a\":{\"_meta\":{\"traceparent\":1}}}", "{\"traceparent\":1,\"a\":{\"_meta\":{\"traceparent\":1}}}"},
        {"{\"_meta\":{\"x\":{\"traceparent\":1}}}", "{\"_meta\":{\"x\":{\"traceparent\":1}}}"},
        {"[{\"_meta\":{\"traceparent\":1}}]", "[{\"_meta\":{\"traceparent\":1}}]"},
        {"\"text\"", "\"text\""},
        {"{\"_meta\":[\"traceparent\"]}", "{\"_meta\":[\"traceparent\"]}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out = {0};
        uint32_t start = 77, stop = 77;
        struct cp_answer a;
        char text[1000];

        snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"_meta\":{\"traceparent\":0},\"result\" : %s,\"id\":1}",
                 rows[i].result);
        a = parse(text);
        assert_true(a.is_readable);
        assert_int_equal(buf_add(&out, "before", 6), 0);
        assert_int_equal(cp_answer_strip(&a, false, &doc, &out, &start, &stop), 0);
        assert_span(((struct span){out.p + 6, out.n - 6}), rows[i].stripped);
        assert_int_equal(stop - start, a.has_ttl ? a.ttl_token.n : 0);
        assert_true(a.has_ttl || start == 0);
        if (a.has_ttl)
            assert_memory_equal(out.p + 6 + start, a.ttl_token.p, a.ttl_token.n);
        buf_done(&out);
    }
}

/* What is shared by an operator's word alone loses the vendors' members, wherever they stand, and keeps the protocol's. */
static void stripping_vendors_keeps_the_protocols_own(void **state)
{
    static const struct {
        const char *result, *stripped;
    } rows[] = {
        {"{\"_meta\":{\"com.example/user\":\"evil\",\"io.modelcontextprotocol/serverInfo\":{\"a\":1},\"x\":2},\"ttlMs\":5}",
         "{\"_meta\":{\"io.modelcontextprotocol/serverInfo\":{\"a\":1}},\"ttlMs\":5}"},
        {"{\"_meta\":{\"x\":1}}", "{\"_meta\":{}}"},
        {"{\"content\":[{\"_meta\":{\"com.example/x\":1}}]}", "{\"content\":[{\"_meta\":{\"com.example/x\":1}}]}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out = {0};
        uint32_t start, stop;
        struct cp_answer a;
        char text[1000];

        snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s}", rows[i].result);
        a = parse(text);
        assert_int_equal(cp_answer_strip(&a, true, &doc, &out, &start, &stop), 0);
        assert_span(buf_span(&out), rows[i].stripped);
        if (a.has_ttl) {
            assert_int_equal(stop - start, a.ttl_token.n);
            assert_memory_equal(out.p + start, a.ttl_token.p, a.ttl_token.n);
        }
        buf_done(&out);
    }
}

static int finish(void **state)
{
    (void)state;
    cp_json_done(&doc);
    return 0;
}

/* ---- what purges it ---------------------------------------------------------------------------------------------------------------- */

static struct buf seen, scratch;

static void on_text(void *ctx, struct span text)
{
    (void)ctx;
    assert_int_equal(buf_add_span(&seen, SPAN("<")), 0);
    assert_int_equal(buf_add_span(&seen, text), 0);
    assert_int_equal(buf_add_span(&seen, SPAN(">")), 0);
}

static bool has_seen(const char *expected)
{
    return seen.n == strlen(expected) && (seen.n == 0 || (seen.p != NULL && memcmp(seen.p, expected, seen.n) == 0));
}

static void the_server_names_tags(void **state)
{
    static const struct {
        const char *members, *expected;
    } rows[] = {
        {"", ""},
        {"\"_meta\":{}", ""},
        {"\"_meta\":{\"io.mcpcached/tags\":[]}", ""},
        {"\"_meta\":{\"io.mcpcached/tags\":[\"a\",\"b c\"]}", "<a><b c>"},
        {"\"_meta\":{\"io.mcpcached\\/t\\u0061gs\":[\"\\u0061\\\"\"]}", "<a\">"},
        {"\"content\":[],\"_meta\":{\"x\":1,\"io.mcpcached/tags\":[ \"a\" ]}", "<a>"},
        /* what is no tag is passed over */
        {"\"_meta\":{\"io.mcpcached/tags\":[7,\"a\",null,[\"b\"],{\"c\":\"d\"},\"\",\"e\\n\",\"\\u00e9\",\"f\"]}", "<a><f>"},
        {"\"_meta\":{\"io.mcpcached/tags\":\"a\"}", ""},
        {"\"_meta\":{\"io.mcpcached/tags\":{\"a\":\"b\"}}", ""},
        {"\"_meta\":{\"io.mcpcached/tags\":null}", ""},
        {"\"_meta\":{\"io.mcpcached/tags\":[\"\\ud800\",\"a\"]}", ""},
        {"\"_meta\":{\"IO.mcpcached/tags\":[\"a\"]}", ""},
        {"\"_meta\":[\"io.mcpcached/tags\"]", ""},
        {"\"io.mcpcached/tags\":[\"a\"]", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_answer a = result(rows[i].members);

        seen.n = 0;
        assert_true(a.is_readable);
        assert_int_equal(cp_answer_tags(&a, &doc, on_text, NULL), 0);
        if (!has_seen(rows[i].expected))
            fail_msg("%s: %.*s, not %s", rows[i].members, (int)seen.n, seen.p == NULL ? "" : seen.p, rows[i].expected);
    }
    struct cp_answer a = parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}");
    seen.n = 0;
    assert_int_equal(cp_answer_tags(&a, &doc, on_text, NULL), 0);
    assert_int_equal(seen.n, 0);
    buf_done(&seen);
}

/* Said to the cache, not to who gets it again; the reader of the tags may come before the strip or after it. */
static void tags_are_not_kept(void **state)
{
    struct cp_answer a = result("\"_meta\":{\"io.mcpcached/tags\":[\"a\"],\"x\":1},\"ttlMs\":7,\"cacheScope\":\"public\"");
    uint32_t ttl_start, ttl_end;
    struct buf out = {0};

    (void)state;
    seen.n = 0;
    assert_int_equal(cp_answer_tags(&a, &doc, on_text, NULL), 0);
    assert_int_equal(cp_answer_strip(&a, false, &doc, &out, &ttl_start, &ttl_end), 0);
    assert_non_null(out.p);
    assert_span(buf_span(&out), "{\"_meta\":{\"x\":1},\"ttlMs\":7,\"cacheScope\":\"public\"}");
    assert_int_equal(ttl_end - ttl_start, 1);
    assert_int_equal(out.p[ttl_start], '7');
    assert_int_equal(cp_answer_tags(&a, &doc, on_text, NULL), 0);
    assert_true(has_seen("<a><a>"));
    buf_done(&out);
    buf_done(&seen);
}

static void the_resources_of_a_result_are_found(void **state)
{
    static const struct {
        const char *members, *expected;
    } rows[] = {
        {"\"contents\":[{\"uri\":\"a://b\",\"text\":\"t\"}]", "<a://b>"},
        {"\"contents\":[{\"uri\":\"d/\"},{\"text\":\"t\",\"uri\":\"d\\/1\"},{}]", "<d/><d/1>"}, /* 38 */
        {"\"content\":[{\"type\":\"text\",\"text\":\"uri\"},{\"type\":\"resource\",\"resource\":{\"uri\":\"a\"}},"
         "{\"type\":\"resource_link\",\"uri\":\"b\",\"name\":\"n\"}]",
         "<a><b>"},
        {"\"content\":[{\"resource\":{\"blob\":\"AA==\",\"u\\u0072i\":\"\\u0061\"}}]", "<a>"},
        {"\"contents\":[{\"uri\":\"a\",\"uri\":\"b\"}]", "<a><b>"},
        {"\"contents\":[{\"uri\":\"\"}]", "<>"},
        /* none */
        {"", ""},
        {"\"contents\":{\"uri\":\"a\"}", ""},
        {"\"contents\":[\"a\",7,null,[{\"uri\":\"a\"}],{\"uri\":7},{\"uri\":null}]", ""},
        {"\"content\":[{\"resource\":\"a\"},{\"resource\":[{\"uri\":\"a\"}]}]", ""},
        {"\"structuredContent\":{\"contents\":[{\"uri\":\"a\"}]}", ""},
        {"\"uri\":\"a\",\"resources\":[{\"uri\":\"a\"}]", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_answer a = result(rows[i].members);

        seen.n = 0;
        assert_true(a.is_readable);
        assert_int_equal(cp_answer_uris(&a, &scratch, on_text, NULL), 0);
        if (!has_seen(rows[i].expected))
            fail_msg("%s: %.*s, not %s", rows[i].members, (int)seen.n, seen.p == NULL ? "" : seen.p, rows[i].expected);
    }
    struct cp_answer a = parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[{\"contents\":[{\"uri\":\"a\"}]}]}");
    seen.n = 0;
    assert_int_equal(cp_answer_uris(&a, &scratch, on_text, NULL), 0);
    a = parse("nonsense");
    assert_int_equal(cp_answer_uris(&a, &scratch, on_text, NULL), 0);
    assert_int_equal(seen.n, 0);
    buf_done(&seen);
    buf_done(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_server_names_tags),
        cmocka_unit_test(tags_are_not_kept),
        cmocka_unit_test(the_resources_of_a_result_are_found),
        cmocka_unit_test(an_envelope_is_readable_or_says_nothing),
        cmocka_unit_test(responses_notifications_and_errors_are_told_apart),
        cmocka_unit_test(an_answer_answers_one_id),
        cmocka_unit_test(ttl_is_read_from_the_lexeme),
        cmocka_unit_test(only_public_is_public),
        cmocka_unit_test(what_belongs_to_one_exchange_is_noticed),
        cmocka_unit_test(type_error_and_refusal_are_read),
        cmocka_unit_test(stripping_takes_the_trace_and_nothing_else),
        cmocka_unit_test(stripping_vendors_keeps_the_protocols_own),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
