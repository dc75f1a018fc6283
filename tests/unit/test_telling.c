/* SPDX-License-Identifier: Apache-2.0 */
/* The messages that we write in our own name. */
#include "unit.h"

#include <errno.h>

#include "cachepolicy/telling.h"

#define ID(id) "\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":" id "}"

static struct cp_json_doc doc;
static struct buf out;

/* out is "kept" and the expected text, which is JSON in one line; out is as before then. */
static void expect_told(int r, const char *expected, const char *file, int line)
{
    static struct cp_json_doc told;
    struct span text = {out.p + 4, out.n - 4};

    if (r != 0)
        print_error("%d\n", r);
    if (r != 0 || memcmp(out.p, "kept", 4) != 0)
        _fail(file, line);
    expect_span(text, expected, "told", file, line);
    assert_int_equal(cp_json_scan(&told, text, &cp_json_strict), CP_JSON_OK);
    out.n = 4;
    cp_json_done(&told);
}
#define assert_told(r, expected) expect_told((r), (expected), __FILE__, __LINE__)

static void changes_are_told(void **state)
{
    (void)state;
    assert_told(cp_tell_notice(CP_NOTICE_TOOLS_LIST_CHANGED, SPAN_ABSENT, SPAN_ABSENT, &out),
                "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}");
    assert_told(cp_tell_notice(CP_NOTICE_PROMPTS_LIST_CHANGED, SPAN("not told"), SPAN_ABSENT, &out),
                "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/prompts/list_changed\"}");
    assert_told(cp_tell_notice(CP_NOTICE_RESOURCES_LIST_CHANGED, SPAN_ABSENT, SPAN("7"), &out),
                "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/list_changed\",\"params\":{" ID("7") "}}");
    assert_told(cp_tell_notice(CP_NOTICE_RESOURCE_UPDATED, SPAN("a://b"), SPAN_ABSENT, &out),
                "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\"a://b\"}}");
    assert_told(cp_tell_notice(CP_NOTICE_RESOURCE_UPDATED, SPAN("a://b"), SPAN("\"\\u0061\\\"\""), &out),
                "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\"a://b\"," ID(
                    "\"\\u0061\\\"\"") "}}");
}

static void uris_are_told_as_json(void **state)
{
#define URI(uri) "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\"" uri "\"}}"
    static const struct {
        const char *uri, *expected;
    } rows[] = {
        {"", URI("")},
        {"a\"b\\c/d", URI("a\\\"b\\\\c/d")},
        {"\n\r\t\b\f\x01\x1f\x7f", URI("\\n\\r\\t\\b\\f\\u0001\\u001f\x7f")},
        {"\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80", URI("\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80")},
        /* what is no UTF-8 */
        {"a\xffz", URI("a\xef\xbf\xbdz")},
        {"\xed\xa0\x80", URI("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")},
        {"\xc0\xaf", URI("\xef\xbf\xbd\xef\xbf\xbd")},
        {"a\xe2\x98", URI("a\xef\xbf\xbd\xef\xbf\xbd")},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span uri = heap_span(span_of(rows[i].uri));

        assert_told(cp_tell_notice(CP_NOTICE_RESOURCE_UPDATED, uri, SPAN_ABSENT, &out), rows[i].expected);
        free((char *)uri.p);
    }
    assert_told(cp_tell_notice(CP_NOTICE_RESOURCE_UPDATED, SPAN("a\0z"), SPAN_ABSENT, &out), URI("a\xef\xbf\xbdz"));
}

static void the_end_of_a_listen_is_its_result(void **state)
{
    (void)state;
    assert_told(cp_tell_listen_end(SPAN("1"), &out),
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"complete\"," ID("1") "}}");
    assert_told(
        cp_tell_listen_end(SPAN("\"\\ud83d\\ude00\""), &out),
        "{\"jsonrpc\":\"2.0\",\"id\":\"\\ud83d\\ude00\",\"result\":{\"resultType\":\"complete\"," ID("\"\\ud83d\\ude00\"") "}}");
    assert_told(cp_tell_listen_end(SPAN("-123456789012345678901234567890"), &out),
                "{\"jsonrpc\":\"2.0\",\"id\":-123456789012345678901234567890,\"result\":{\"resultType\":\"complete\"," ID(
                    "-123456789012345678901234567890") "}}");
}

static const struct cp_listen none, all = {true, true, true, true}, tools = {.tools = true}, prompts = {.prompts = true};
static const struct span uris[] = {SPAN_OF("a://\"\xc3\xa9"), SPAN_OF("b")};

static void what_is_granted_is_acknowledged(void **state)
{
    (void)state;
#define ACK(filter)                                                                                                                \
    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{" ID(                                \
        "7") ",\"notifications\":" filter "}}"
    assert_told(cp_tell_ack(&none, NULL, 0, SPAN("7"), &out), ACK("{}"));
    assert_told(cp_tell_ack(&prompts, NULL, 0, SPAN("7"), &out), ACK("{\"promptsListChanged\":true}"));
    assert_told(cp_tell_ack(&none, uris, 1, SPAN("7"), &out), ACK("{\"resourceSubscriptions\":[\"a://\\\"\xc3\xa9\"]}"));
    assert_told(
        cp_tell_ack(&all, uris, 2, SPAN("7"), &out),
        ACK("{\"toolsListChanged\":true,\"promptsListChanged\":true,\"resourcesListChanged\":true,\"resourceSubscriptions\":"
            "[\"a://\\\"\xc3\xa9\",\"b\"]}"));
}

static void on_uri(void *ctx, struct span uri)
{
    size_t *left = ctx;

    for (size_t i = 0; i < 2; i++)
        *left -= *left > 0 && span_eq(uri, uris[i]);
}

static void an_acknowledgement_is_read_as_it_was_told(void **state)
{
    struct cp_answer answer;
    struct cp_listen listen;
    size_t left = 2;

    (void)state;
    assert_int_equal(cp_tell_ack(&all, uris, 2, SPAN("\"i\""), &out), 0);
    cp_answer_parse(&answer, &doc, (struct span){out.p + 4, out.n - 4});
    assert_int_equal(cp_listen_read_ack(&answer, &doc, &listen, on_uri, &left), 0);
    assert_true(listen.tools && listen.prompts && listen.resources && !listen.has_others);
    assert_int_equal(left, 0);
    assert_span(cp_listen_id_of(&answer, &doc), "\"i\"");
    out.n = 4;
}

static void expect_more(const struct cp_listen *lists, size_t uri_count, const char *text, int expected, const char *more, int line)
{
    struct span exact = heap_span(span_of(text));
    struct cp_answer answer;

    cp_answer_parse(&answer, &doc, exact);
    for (int times = 0; times < 2; times++) {
        int r = cp_tell_ack_more(exact, &answer, &doc, lists, uris, uri_count, &out);

        if (r != expected)
            fail_msg("line %d: %d", line, r);
        expect_span((struct span){out.p + 4, out.n - 4}, more, text, __FILE__, line);
        out.n = 4;
    }
    free((char *)exact.p);
}
#define assert_more(lists, uri_count, text, expected, more) expect_more((lists), (uri_count), (text), (expected), (more), __LINE__)

static void more_is_granted_than_upstream_does(void **state)
{
    (void)state;
    assert_more(&none, 0, ACK(" { \"taskIds\" : [] } "), 0, ACK(" { \"taskIds\" : [] } "));
    assert_more(&tools, 0, ACK("{}"), 0, ACK("{\"toolsListChanged\":true}"));
    assert_more(&tools, 0, ACK("{ \"taskIds\":[\"t\"] }"), 0, ACK("{\"toolsListChanged\":true, \"taskIds\":[\"t\"] }"));
    assert_more(&tools, 0, ACK("{\"tools\\u004cistChanged\" : false }"), 0, ACK("{\"tools\\u004cistChanged\" : true }"));
    assert_more(&tools, 0, ACK("{\"toolsListChanged\":null}"), 0, ACK("{\"toolsListChanged\":true}"));
    assert_more(&tools, 0, ACK("{\"toolsListChanged\":true}"), 0, ACK("{\"toolsListChanged\":true}"));
    /* granted in a way that nobody here knows */
    assert_more(&tools, 0, ACK("{\"toolsListChanged\":{\"a\":1}}"), 0, ACK("{\"toolsListChanged\":{\"a\":1}}"));
    assert_more(&none, 1, ACK("{}"), 0, ACK("{\"resourceSubscriptions\":[\"a://\\\"\xc3\xa9\"]}"));
    assert_more(&none, 2, ACK("{\"resourceSubscriptions\": [ ] }"), 0,
                ACK("{\"resourceSubscriptions\": [\"a://\\\"\xc3\xa9\",\"b\" ] }"));
    assert_more(&none, 2, ACK("{\"resourceSubscriptions\":[ \"c\" ,{\"u\":1}]}"), 0,
                ACK("{\"resourceSubscriptions\":[\"a://\\\"\xc3\xa9\",\"b\", \"c\" ,{\"u\":1}]}"));
    assert_more(&none, 1, ACK("{\"resourceSubscriptions\":null}"), 0, ACK("{\"resourceSubscriptions\":[\"a://\\\"\xc3\xa9\"]}"));
    assert_more(&none, 1, ACK("{\"resourceSubscriptions\":false,\"x\":1}"), 0,
                ACK("{\"resourceSubscriptions\":[\"a://\\\"\xc3\xa9\"],\"x\":1}"));
    /* a text of any order, its line breaks too */
    assert_more(
        &all, 1,
        "{\"params\":{\"notifications\":{\"resourceSubscriptions\":[\"c\"],\"x\":{\"y\":[[[]]]},\n\"promptsListChanged\":false},"
        "\"z\":1}, \"method\":\"notifications/subscriptions/acknowledged\",\"jsonrpc\":\"2.0\"}\n",
        0,
        "{\"params\":{\"notifications\":{\"toolsListChanged\":true,\"resourcesListChanged\":true,\"resourceSubscriptions\":["
        "\"a://\\\"\xc3\xa9\",\"c\"],\"x\":{\"y\":[[[]]]},\n\"promptsListChanged\":true},"
        "\"z\":1}, \"method\":\"notifications/subscriptions/acknowledged\",\"jsonrpc\":\"2.0\"}\n");
}

static void what_is_in_doubt_is_not_added_to(void **state)
{
    (void)state;
    assert_more(&none, 1, ACK("{\"resourceSubscriptions\":\"a\"}"), -EINVAL, "");
    assert_more(&none, 1, ACK("{\"resourceSubscriptions\":{\"a\":true}}"), -EINVAL, "");
    assert_more(&none, 1, ACK("{\"resourceSubscriptions\":true}"), -EINVAL, "");
    assert_more(&none, 0, ACK("{\"resourceSubscriptions\":\"a\"}"), 0, ACK("{\"resourceSubscriptions\":\"a\"}"));
    assert_more(&tools, 0, ACK("{\"a\":1,\"a\":1}"), -EINVAL, "");
    assert_more(&tools, 0, ACK("{\"toolsListChanged\":false,\"tools\\u004cistChanged\":true}"), -EINVAL, "");
    assert_more(&tools, 0, ACK("{\"a\":\"\\udc00\"}"), -EINVAL, "");
    assert_more(&tools, 0, ACK("[]"), -EINVAL, "");
    assert_more(&tools, 0, ACK("null"), -EINVAL, "");
    assert_more(&tools, 0, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{}}", -EINVAL,
                "");
    assert_more(&tools, 0, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\"}", -EINVAL, "");
    assert_more(&tools, 0, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":{\"notifications\":{}}}", -EINVAL, "");
    assert_more(&tools, 0, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"notifications\":{}}}", -EINVAL, "");
    assert_more(&tools, 0, "[" ACK("{}") "]", -EINVAL, "");
    assert_more(&tools, 0, "nonsense", -EINVAL, "");
}

static void questions_are_asked_in_the_callers_era(void **state)
{
    struct cp_message message;

    (void)state;
    cp_message_parse(&message, &doc, SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"_meta\":{\"a\":1}}}"));
    assert_told(cp_tell_question(CP_METHOD_PING, SPAN_ABSENT, SPAN("\"own\""), &message, &out),
                "{\"jsonrpc\":\"2.0\",\"id\":\"own\",\"method\":\"ping\"}");
    assert_told(cp_tell_question(CP_METHOD_TOOLS_LIST, SPAN_ABSENT, SPAN("2"), &message, &out),
                "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/list\"}");
    assert_told(cp_tell_question(CP_METHOD_RESOURCES_READ, SPAN("a\n\xc3\xa9\""), SPAN("2"), &message, &out),
                "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"resources/read\",\"params\":{\"uri\":\"a\\n\xc3\xa9\\\"\"}}");
#define VERSION "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\""
    cp_message_parse(&message, &doc,
                     SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"a\":1,\"_meta\":{" VERSION
                          ",\"progressToken\":1,\r\n\"k\": \"\\n\"}}}"));
    assert_told(cp_tell_question(CP_METHOD_DISCOVER, SPAN_ABSENT, SPAN("2"), &message, &out),
                "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"server/discover\",\"params\":{\"_meta\":{" VERSION
                ",\"k\": \"\\n\"}}}");
    assert_told(cp_tell_question(CP_METHOD_RESOURCES_READ, SPAN("a"), SPAN("\"\\\"\""), &message, &out),
                "{\"jsonrpc\":\"2.0\",\"id\":\"\\\"\",\"method\":\"resources/read\",\"params\":{\"uri\":\"a\",\"_meta\":{" VERSION
                ",\"k\": \"\\n\"}}}");
    cp_message_parse(&message, &doc,
                     SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"_meta\":{\n" VERSION "\r\n}}}"));
    assert_told(cp_tell_question(CP_METHOD_PROMPTS_LIST, SPAN_ABSENT, SPAN("2"), &message, &out),
                "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"prompts/list\",\"params\":{\"_meta\":{ " VERSION "  }}}");
}

static int begin(void **state)
{
    (void)state;
    return buf_add(&out, "kept", 4);
}

static int done(void **state)
{
    (void)state;
    cp_json_done(&doc);
    buf_done(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_told),
        cmocka_unit_test(uris_are_told_as_json),
        cmocka_unit_test(the_end_of_a_listen_is_its_result),
        cmocka_unit_test(what_is_granted_is_acknowledged),
        cmocka_unit_test(an_acknowledgement_is_read_as_it_was_told),
        cmocka_unit_test(more_is_granted_than_upstream_does),
        cmocka_unit_test(what_is_in_doubt_is_not_added_to),
        cmocka_unit_test(questions_are_asked_in_the_callers_era),
    };

    return cmocka_run_group_tests(tests, begin, done);
}
