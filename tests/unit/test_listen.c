/* SPDX-License-Identifier: Apache-2.0 */
/* What a client listens to, what is granted of it, and asking for less. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#include "cachepolicy/listen.h"

static struct cp_json_doc doc;

static char uris[200];

static void on_uri(void *ctx, struct span uri)
{
    size_t n = strlen(uris);

    (void)ctx;
    snprintf(uris + n, sizeof(uris) - n, "<%.*s>", (int)uri.n, uri.p);
}

static void assert_listen(const char *params, bool tools, bool prompts, bool resources, const char *expected)
{
    struct cp_message message;
    struct cp_listen listen;
    char body[600];

    snprintf(body, sizeof(body), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscriptions/listen\"%s%s}",
             params[0] != '\0' ? ",\"params\":" : "", params);
    cp_message_parse(&message, &doc, span_of(body));
    uris[0] = '\0';
    assert_int_equal(cp_listen_read(&message, &listen, on_uri, NULL), 0);
    if (listen.tools != tools || listen.prompts != prompts || listen.resources != resources || strcmp(uris, expected) != 0)
        fail_msg("%s: %d %d %d %s", params, listen.tools, listen.prompts, listen.resources, uris);
    assert_int_equal(cp_listen_read(&message, &listen, NULL, NULL), 0);
}

static void a_listen_says_what_it_wants(void **state)
{
    struct cp_message message;
    struct cp_listen listen = {true, true, true, true};

    (void)state;
    assert_listen("", false, false, false, "");
    assert_listen("{}", false, false, false, "");
    assert_listen("{\"notifications\":{}}", false, false, false, "");
    assert_listen("{\"notifications\":[]}", false, false, false, "");
    assert_listen("{\"notifications\":{\"toolsListChanged\":true}}", true, false, false, "");
    assert_listen("{\"notifications\":{\"promptsListChanged\":true,\"toolsListChanged\":false}}", false, true, false, "");
    assert_listen("{\"notifications\":{\"resourcesListChanged\":true,\"x\":true}}", false, false, true, "");
    assert_listen("{\"notifications\":{\"toolsListChanged\":null,\"promptsListChanged\":1,\"resourcesListChanged\":{}}}", false,
                  true, true, "");
    assert_listen("{\"notifications\":{\"resourceSubscriptions\":[\"a://b\",7,\"\\u0063\",null]}}", false, false, false,
                  "<a://b><c>");
    assert_listen("{\"notifications\":{\"resourceSubscriptions\":\"a://b\"}}", false, false, false, "");
    assert_listen("{\"toolsListChanged\":true,\"resourceSubscriptions\":[\"a\"]}", false, false, false, "");
    cp_message_parse(
        &message, &doc,
        SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"notifications\":{\"toolsListChanged\":true}}}"));
    assert_int_equal(cp_listen_read(&message, &listen, on_uri, NULL), -ENOENT);
    assert_false(listen.tools || listen.prompts || listen.resources || listen.has_others);
    cp_message_parse(&message, &doc, SPAN("{\"jsonrpc\":\"2.0\",\"method\":\"subscriptions/listen\"}"));
    assert_int_equal(cp_listen_read(&message, &listen, on_uri, NULL), -ENOENT);
}

#define LISTEN(filter)                                                                                                             \
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscriptions/listen\",\"params\":{\"notifications\":" filter "}}"
#define ACK(filter)                                                                                                                \
    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"notifications\":" filter "}}"

static bool has_others(const char *body)
{
    struct cp_message message;
    struct cp_listen listen;

    cp_message_parse(&message, &doc, span_of(body));
    assert_int_equal(cp_listen_read(&message, &listen, NULL, NULL), 0);
    return listen.has_others;
}

static void what_nobody_knows_is_told_of(void **state)
{
    (void)state;
    assert_false(has_others(LISTEN("{\"toolsListChanged\":true,\"promptsListChanged\":1,\"resourcesListChanged\":{}}")));
    assert_false(has_others(LISTEN("{\"resourceSubscriptions\":[\"a\"]}")));
    assert_false(has_others(LISTEN("{\"resourceSubscriptions\":\"a\",\"\\u0074oolsListChanged\":true}")));
    assert_false(has_others(LISTEN("{\"taskIds\":null,\"x\":false}")));
    assert_false(has_others(LISTEN("[\"taskIds\"]")));
    assert_true(has_others(LISTEN("{\"taskIds\":[\"1\"]}")));
    assert_true(has_others(LISTEN("{\"taskIds\":[]}")));
    assert_true(has_others(LISTEN("{\"x\":true,\"y\":null}")));
    assert_true(has_others(LISTEN("{\"ToolsListChanged\":true}")));
    assert_true(has_others(LISTEN("{\"\":0}")));
}

/* ---- acknowledgements --------------------------------------------------------------------------------------------------------------- */

static void assert_granted(const char *text, bool tools, bool prompts, bool resources, bool others, const char *expected)
{
    struct span exact = heap_span(span_of(text));
    struct cp_answer answer;
    struct cp_listen listen;

    cp_answer_parse(&answer, &doc, exact);
    assert_true(cp_listen_is_ack(&answer));
    uris[0] = '\0';
    assert_int_equal(cp_listen_read_ack(&answer, &doc, &listen, on_uri, NULL), 0);
    if (listen.tools != tools || listen.prompts != prompts || listen.resources != resources || listen.has_others != others ||
        strcmp(uris, expected) != 0)
        fail_msg("%s: %d %d %d %d %s", text, listen.tools, listen.prompts, listen.resources, listen.has_others, uris);
    /* as often as one likes */
    uris[0] = '\0';
    assert_int_equal(cp_listen_read_ack(&answer, &doc, &listen, on_uri, NULL), 0);
    assert_string_equal(uris, expected);
    free((char *)exact.p);
}

static void an_acknowledgement_says_what_is_granted(void **state)
{
    (void)state;
    assert_granted("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\"}", false, false, false, false, "");
    assert_granted(ACK("{}"), false, false, false, false, "");
    assert_granted(ACK("[]"), false, false, false, false, "");
    assert_granted(ACK("null"), false, false, false, false, "");
    assert_granted(ACK("{\"toolsListChanged\":true,\"taskIds\":[\"t\"]}"), true, false, false, true, "");
    assert_granted(ACK("{\"prompt\\u0073ListChanged\":true,\"resourcesListChanged\":false}"), false, true, false, false, "");
    assert_granted(ACK("{\"resourceSubscriptions\":[\"a://\\u00e9\",{\"uri\":\"x\"},\"b://\xe2\x98\x83\",[]]}"), false, false,
                   false, false, "<a://\xc3\xa9><b://\xe2\x98\x83>");
    assert_granted(ACK("{\"resourceSubscriptions\":\"a\",\"toolsListChanged\":{\"deep\":[[[[1]]]]}}"), true, false, false, false,
                   "");
    /* not readable: nothing */
    assert_granted(ACK("{\"toolsListChanged\":true,\"tools\\u004cistChanged\":false}"), false, false, false, false, "");
    assert_granted(ACK("{\"toolsListChanged\":true,\"resourceSubscriptions\":[\"\\ud800\"]}"), true, false, false, false, "");
    assert_granted("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"notifications/subscriptions/ack\\u006eowledged\",\"params\":{}}",
                   false, false, false, false, "");
}

static void nothing_else_is_one(void **state)
{
    static const char *const texts[] = {
        "",
        "[" ACK("{\"toolsListChanged\":true}") "]",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"Notifications/subscriptions/acknowledged\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"notifications/subscriptions/acknowledged\"}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"error\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"notifications\":{\"toolsListChanged\":true}}}",
        "{\"method\":\"notifications/subscriptions/acknowledged\"}",
        /* a name twice */
        ACK("{},\"notification\\u0073\":{\"toolsListChanged\":true}"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct cp_listen listen = {true, true, true, true};
        struct cp_answer answer;

        cp_answer_parse(&answer, &doc, span_of(texts[i]));
        assert_false(cp_listen_is_ack(&answer));
        assert_int_equal(cp_listen_read_ack(&answer, &doc, &listen, on_uri, NULL), -ENOENT);
        assert_false(listen.tools || listen.prompts || listen.resources || listen.has_others);
    }
}

/* ---- fewer URIs --------------------------------------------------------------------------------------------------------------------- */

/* Those that begin with "x"; each is asked for once, in order. */
static bool goes(void *ctx, struct span uri)
{
    on_uri(NULL, uri);
    assert_null(ctx);
    return uri.n > 0 && uri.p[0] == 'x';
}

static void assert_without(const char *body, int expected, const char *text, const char *asked)
{
    struct span exact = heap_span(span_of(body));
    struct cp_message message;
    struct buf out = {0};

    cp_message_parse(&message, &doc, exact);
    assert_int_equal(buf_add(&out, "kept", 4), 0);
    uris[0] = '\0';
    assert_int_equal(cp_listen_without(&message, goes, NULL, &out), expected);
    if (!span_eq((struct span){out.p + 4, out.n - 4}, span_of(text)) || memcmp(out.p, "kept", 4) != 0)
        fail_msg("%s: %.*s, not %s", body, (int)out.n, out.p, text);
    assert_string_equal(uris, asked);
    buf_done(&out);
    free((char *)exact.p);
}

static void a_listen_goes_on_without_some_uris(void **state)
{
    (void)state;
#define URIS(list) LISTEN("{ \"toolsListChanged\" : true,\"resourceSubscription\\u0073\":[" list "] , \"taskIds\":[\"x\"]}")
    assert_without(URIS("\"x\""), 0, URIS(""), "<x>");
    assert_without(URIS(" \"x\" "), 0, URIS("  "), "<x>");
    assert_without(URIS("\"x1\",\"x2\" ,\n\"x3\""), 0, URIS(""), "<x1><x2><x3>");
    assert_without(URIS("\"x\",\"a\""), 0, URIS("\"a\""), "<x><a>");
    assert_without(URIS("\"a\",\"x\""), 0, URIS("\"a\""), "<a><x>");
    assert_without(URIS("\"a\" , \"x\" , \"b\" "), 0, URIS("\"a\" , \"b\" "), "<a><x><b>");
    assert_without(URIS("\"x1\",\"a\",\"x2\",\"x3\",\"b\",\"x4\""), 0, URIS("\"a\",\"b\""), "<x1><a><x2><x3><b><x4>");
    assert_without(URIS("\"a\",\"x2\",\"x3\""), 0, URIS("\"a\""), "<a><x2><x3>");
    /* by what they say, not how; what is no URI stays */
    assert_without(URIS("\"\\u0078://\\\"\xc3\xa9\",\"\\\\x\",\"\""), 0, URIS("\"\\\\x\",\"\""), "<x://\"\xc3\xa9><\\x><>");
    assert_without(URIS("7,{\"a\":\"x\"},\"x\",[\"x\"],null"), 0, URIS("7,{\"a\":\"x\"},[\"x\"],null"), "<x>");
    /* none goes */
    assert_without(URIS("\"a\",\"b\""), -ENOENT, "", "<a><b>");
    assert_without(URIS(""), -ENOENT, "", "");
    assert_without(URIS("[\"x\"],{\"x\":\"x\"},true"), -ENOENT, "", "");
    assert_without(LISTEN("{\"resourceSubscriptions\":\"x\"}"), -ENOENT, "", "");
    assert_without(LISTEN("{\"resourceSubscriptions\":{\"x\":\"x\"}}"), -ENOENT, "", "");
    assert_without(LISTEN("[\"x\"]"), -ENOENT, "", "");
    assert_without("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscriptions/listen\"}", -ENOENT, "", "");
    assert_without(
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscriptions/listen\",\"params\":{\"resourceSubscriptions\":[\"x\"]}}",
        -ENOENT, "", "");
    /* no such request */
    assert_without(
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"notifications\":{\"resourceSubscriptions\":[\"x\"]}}}",
        -EINVAL, "", "");
    assert_without("{\"jsonrpc\":\"2.0\",\"method\":\"subscriptions/"
                   "listen\",\"params\":{\"notifications\":{\"resourceSubscriptions\":[\"x\"]}}}",
                   -EINVAL, "", "");
    assert_without("[" URIS("\"x\"") "]", -EINVAL, "", "");
    assert_without(LISTEN("{\"resourceSubscriptions\":[\"x\"],\"resourceSubscription\\u0073\":[]}"), -EINVAL, "", "");
    assert_without("", -EINVAL, "", "");
}

static void not_within_a_batch(void *ctx, const struct cp_message *message)
{
    struct buf out = {0};

    assert_int_equal(message->method, CP_METHOD_LISTEN);
    assert_int_equal(cp_listen_without(message, goes, NULL, &out), -EINVAL);
    assert_int_equal(out.n, 0);
    ++*(int *)ctx;
    buf_done(&out);
}

static void an_element_of_a_batch_stays_as_it_is(void **state)
{
    struct cp_message message;
    int count = 0;

    (void)state;
    cp_message_parse(&message, &doc, SPAN("[" URIS("\"x\"") "]"));
    cp_message_each(&doc, not_within_a_batch, &count);
    assert_int_equal(count, 1);
}

/* ---- whose a notification is -------------------------------------------------------------------------------------------------------- */

static void assert_id(const char *text, const char *expected)
{
    struct span exact = heap_span(span_of(text));
    struct cp_answer answer;
    struct span id;

    cp_answer_parse(&answer, &doc, exact);
    id = cp_listen_id_of(&answer, &doc);
    if ((id.p != NULL) != (expected != NULL) || (expected != NULL && !span_eq(id, span_of(expected))))
        fail_msg("%s: %.*s", text, (int)id.n, id.p == NULL ? "" : id.p);
    free((char *)exact.p);
}

static void a_notification_says_of_which_listen_it_is(void **state)
{
    (void)state;
#define OF(meta) "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":{\"uri\":\"a\",\"_meta\":" meta "}}"
#define ID       "\"io.modelcontextprotocol/subscriptionId\":"
    assert_id(OF("{" ID "7}"), "7");
    assert_id(OF("{\"a\":[{}], " ID " \"\\u0061\\\"\" }"), "\"\\u0061\\\"\"");
    assert_id(OF("{" ID "123456789012345678901234567890}"), "123456789012345678901234567890");
    assert_id(OF("{\"io.modelcontextprotocol\\/subscription\\u0049d\":-1}"), "-1");
    assert_id(OF("{" ID "\"\"}"), "\"\"");
    assert_id(OF("{" ID "null}"), NULL);
    assert_id(OF("{" ID "{\"a\":1}}"), NULL);
    assert_id(OF("{" ID "[1]}"), NULL);
    assert_id(OF("{" ID "1," ID "2}"), NULL);
    assert_id(OF("{}"), NULL);
    assert_id(OF("[7]"), NULL);
    assert_id(OF("null"), NULL);
    assert_id("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":[1]}", NULL);
    assert_id("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}", NULL);
    assert_id("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"_meta\":{" ID "7}}}", NULL);
    assert_id("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"_meta\":{" ID "7}}}", NULL);
    assert_id("", NULL);
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
        cmocka_unit_test(a_listen_says_what_it_wants),
        cmocka_unit_test(what_nobody_knows_is_told_of),
        cmocka_unit_test(an_acknowledgement_says_what_is_granted),
        cmocka_unit_test(nothing_else_is_one),
        cmocka_unit_test(a_listen_goes_on_without_some_uris),
        cmocka_unit_test(an_element_of_a_batch_stays_as_it_is),
        cmocka_unit_test(a_notification_says_of_which_listen_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, done);
}
