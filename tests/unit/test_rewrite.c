/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in our own name. */
#include "unit.h"

#include <errno.h>

#include "cachepolicy/rewrite.h"

static struct cp_json_doc doc, again;

static void assert_rewritten(const char *body, const char *expected)
{
    struct buf out = {0}, before = {0}, after = {0};
    struct cp_message message, rewritten;

    cp_message_parse(&message, &doc, span_of(body));
    assert_int_equal(message.kind, CP_KIND_REQUEST);
    assert_int_equal(buf_add_span(&out, SPAN("kept")), 0);
    assert_int_equal(cp_message_rewrite(&message, SPAN("\"own-1\""), &out), 0);
    if (!span_eq((struct span){out.p + 4, out.n - 4}, span_of(expected)) || memcmp(out.p, "kept", 4) != 0)
        fail_msg("%s: %.*s, not %s", body, (int)out.n, out.p, expected);
    /* the same question */
    cp_message_parse(&rewritten, &again, (struct span){out.p + 4, out.n - 4});
    assert_span(rewritten.id, "\"own-1\"");
    assert_int_equal(rewritten.method, message.method);
    assert_int_equal(rewritten.era, message.era);
    assert_int_equal(cp_message_canonical(&message, NULL, 0, &before), 0);
    assert_int_equal(cp_message_canonical(&rewritten, NULL, 0, &after), 0);
    assert_true(span_eq(buf_span(&before), buf_span(&after)));
    buf_done(&out);
    buf_done(&before);
    buf_done(&after);
}

static void a_request_gets_another_id_and_loses_what_is_bound_to_its_exchange(void **state)
{
    (void)state;
    assert_rewritten("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
                     "{\"jsonrpc\":\"2.0\",\"id\":\"own-1\",\"method\":\"ping\"}");
    assert_rewritten("{ \"method\":\"ping\" , \"id\" : \"\\u0061\\\"\" ,\"jsonrpc\":\"2.0\" }\n",
                     "{ \"method\":\"ping\" , \"id\" : \"own-1\" ,\"jsonrpc\":\"2.0\" }\n");
    /* id before params, and behind them */
    assert_rewritten("{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"tools/"
                     "call\",\"params\":{\"_meta\":{\"progressToken\":1},\"name\":\"t\",\"arguments\":{\"n\":1.0}}}",
                     "{\"id\":\"own-1\",\"jsonrpc\":\"2.0\",\"method\":\"tools/"
                     "call\",\"params\":{\"_meta\":{},\"name\":\"t\",\"arguments\":{\"n\":1.0}}}");
    assert_rewritten(
        "{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"params\":{\"name\":\"t\",\"_meta\":{\"progressToken\":1}},\"id\":-7}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"params\":{\"name\":\"t\",\"_meta\":{}},\"id\":\"own-1\"}");
#define WITH(meta) "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"_meta\":{" meta "}}}"
#define OWN(meta)  "{\"jsonrpc\":\"2.0\",\"id\":\"own-1\",\"method\":\"x\",\"params\":{\"_meta\":{" meta "}}}"
    /* first, last, in the middle, in runs, alone */
    assert_rewritten(WITH("\"traceparent\":\"t\",\"a\":1"), OWN("\"a\":1"));
    assert_rewritten(WITH("\"a\":1 , \"tracestate\":\"t\" "), OWN("\"a\":1 "));
    assert_rewritten(WITH("\"a\":1,\"baggage\":{},\"b\":[2]"), OWN("\"a\":1,\"b\":[2]"));
    assert_rewritten(WITH("\"baggage\":1,\"traceparent\":2,\"a\":1,\"tracestate\":3,\"progressToken\":\"p\",\"b\":2,\"io."
                          "modelcontextprotocol/logLevel\":\"debug\""),
                     OWN("\"a\":1,\"b\":2"));
    assert_rewritten(WITH("\"baggage\":1,\"traceparent\":2"), OWN(""));
    assert_rewritten(WITH("\"progress\\u0054oken\":2,\"a\\u0062\":\"\\u0063\""), OWN("\"a\\u0062\":\"\\u0063\""));
    /* who asks and with what stays, and what nobody here knows */
    assert_rewritten(
        WITH("\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientInfo\":{\"name\":\"c\"},"
             "\"io.modelcontextprotocol/clientCapabilities\":{},\"com.example/tenant\":\"t\",\"TraceParent\":1"),
        OWN("\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientInfo\":{\"name\":\"c\"},"
            "\"io.modelcontextprotocol/clientCapabilities\":{},\"com.example/tenant\":\"t\",\"TraceParent\":1"));
    /* only of params._meta */
    assert_rewritten(
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
        "call\",\"params\":{\"name\":\"t\",\"progressToken\":1,\"arguments\":{\"_meta\":{\"traceparent\":1},\"id\":1}}}",
        "{\"jsonrpc\":\"2.0\",\"id\":\"own-1\",\"method\":\"tools/"
        "call\",\"params\":{\"name\":\"t\",\"progressToken\":1,\"arguments\":{\"_meta\":{\"traceparent\":1},\"id\":1}}}");
    assert_rewritten("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"_meta\":[\"traceparent\"]}}",
                     "{\"jsonrpc\":\"2.0\",\"id\":\"own-1\",\"method\":\"x\",\"params\":{\"_meta\":[\"traceparent\"]}}");
}

static void only_a_request_is_rewritten(void **state)
{
    static const char *const bodies[] = {
        "",
        "nonsense",
        "[]",
        "{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct cp_message message;
        struct buf out = {0};

        cp_message_parse(&message, &doc, span_of(bodies[i]));
        assert_int_equal(cp_message_rewrite(&message, SPAN("1"), &out), -EINVAL);
        assert_int_equal(out.n, 0);
        buf_done(&out);
    }
}

static void not_rewritten_within_a_batch(void *ctx, const struct cp_message *message)
{
    struct buf out = {0};

    assert_int_equal(message->kind, CP_KIND_REQUEST);
    assert_int_equal(cp_message_rewrite(message, SPAN("1"), &out), -EINVAL);
    ++*(int *)ctx;
}

static void an_element_of_a_batch_is_not_rewritten(void **state)
{
    struct cp_message message;
    int count = 0;

    (void)state;
    cp_message_parse(&message, &doc, SPAN("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]"));
    cp_message_each(&doc, not_rewritten_within_a_batch, &count);
    assert_int_equal(count, 1);
}

static void assert_meta(const char *body, const char *expected)
{
    struct cp_message message;
    struct buf out = {0};

    cp_message_parse(&message, &doc, span_of(body));
    assert_int_equal(cp_message_add_meta(&message, &out), 0);
    assert_true(out.n == strlen(expected) && (out.n == 0 || memcmp(out.p, expected, out.n) == 0));
    buf_done(&out);
}

static void the_meta_that_stays_can_be_put_elsewhere(void **state)
{
    (void)state;
    assert_meta(WITH("\"a\":1,\"traceparent\":2,\"\\u0062\": {\"x\":[1.0]}"), "\"a\":1,\"\\u0062\": {\"x\":[1.0]}");
    assert_meta(WITH("\"traceparent\":2"), "");
    assert_meta(WITH(""), "");
    assert_meta("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}", "");
    assert_meta("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"_meta\":7}}", "");
}

static int done(void **state)
{
    (void)state;
    cp_json_done(&doc);
    cp_json_done(&again);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_gets_another_id_and_loses_what_is_bound_to_its_exchange),
        cmocka_unit_test(only_a_request_is_rewritten),
        cmocka_unit_test(an_element_of_a_batch_is_not_rewritten),
        cmocka_unit_test(the_meta_that_stays_can_be_put_elsewhere),
    };

    return cmocka_run_group_tests(tests, NULL, done);
}
