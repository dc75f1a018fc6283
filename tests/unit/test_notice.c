/* SPDX-License-Identifier: Apache-2.0 */
/* Notices of the upstream's, as forgivingly as any client reads them. */
#include "unit.h"

#include <stdio.h>

#include "cachepolicy/notice.h"

static struct buf scratch;
static char seen[4000];

static void on_notice(void *ctx, const struct cp_notice *notice)
{
    static const char *const words[] = {"tools", "prompts", "resources", "updated"};
    size_t n = strlen(seen);

    (void)ctx;
    n += (size_t)snprintf(seen + n, sizeof(seen) - n, "%s%s", n > 0 ? " " : "", words[notice->kind]);
    if (notice->kind != CP_NOTICE_RESOURCE_UPDATED)
        assert_null(notice->uri.p);
    else if (notice->uri.p != NULL)
        snprintf(seen + n, sizeof(seen) - n, "=%.*s", (int)notice->uri.n, notice->uri.p);
    else
        snprintf(seen + n, sizeof(seen) - n, "=?");
}

static const char *read_notices(const char *text)
{
    struct span exact = heap_span(span_of(text));

    seen[0] = '\0';
    assert_int_equal(cp_notices_read(&scratch, exact, on_notice, NULL), 0);
    free((char *)exact.p);
    return seen;
}

#define NOTE(method)    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/" method "\"}"
#define UPDATED(params) "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":" params "}"
#define METHOD_UPDATED  "\"method\":\"notifications/resources/updated\""
#define METHOD_TOOLS    "\"method\":\"notifications/tools/list_changed\""

static void notices_are_told_from_all_else(void **state)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {NOTE("tools/list_changed"), "tools"},
        {NOTE("prompts/list_changed"), "prompts"},
        {NOTE("resources/list_changed"), "resources"},
        {UPDATED("{\"uri\":\"x://y\"}"), "updated=x://y"},
        {"  " NOTE("tools/list_changed") "  ", "tools"},
        {"\xef\xbb\xbf" NOTE("tools/list_changed"), "tools"},
        {"{\n\t" METHOD_TOOLS " ,\r\n \"params\" : { \"_meta\" : {} } }", "tools"},
        {UPDATED("{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":\"1\"},\"uri\":\"x://y\",\"title\":\"t\"}"),
         "updated=x://y"},
        /* in arrays (34) */
        {"[" NOTE("tools/list_changed") "," UPDATED("{\"uri\":\"a\"}") ",{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}]",
         "tools updated=a"},
        {"[]", ""},
        {"[ 1, \"x\", null, " NOTE("prompts/list_changed") " ]", "prompts"},
        /* nothing of ours */
        {NOTE("progress"), ""},
        {NOTE("message"), ""},
        {NOTE("cancelled"), ""},
        {NOTE("subscriptions/acknowledged"), ""},
        {NOTE("tools/list_change"), ""},
        {NOTE("tools/list_changed2"), ""},
        {NOTE(""), ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{" METHOD_TOOLS "}}", ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"text\":\"{\\\"method\\\":\\\"notifications/tools/list_changed\\\"}\"}}", ""},
        {"{\"jsonrpc\":\"2.0\",\"params\":{" METHOD_TOOLS "},\"method\":\"x\"}", ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":[\"notifications/tools/list_changed\"]}", ""},
        {"", ""},
        {"{", ""},
        {"\"notifications/tools/list_changed\"", ""},
        {"null", ""},
        {"[[" NOTE("tools/list_changed") "]]", ""},
        /* requests of that name */
        {"{\"jsonrpc\":\"2.0\",\"id\":1," METHOD_TOOLS "}", ""},
        {"{\"jsonrpc\":\"2.0\"," METHOD_TOOLS ",\"id\":\"null\"}", ""},
        {"{\"jsonrpc\":\"2.0\"," METHOD_UPDATED ",\"id\":0,\"params\":{\"uri\":\"a\"}}", ""},
        {"{\"jsonrpc\":\"2.0\"," METHOD_TOOLS ",\"id\":null}", "tools"},
        {"{\"jsonrpc\":\"2.0\"," METHOD_TOOLS ",\"id\": null }", "tools"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(read_notices(rows[i].text), rows[i].expected) != 0)
            fail_msg("'%s': '%s', not '%s'", rows[i].text, seen, rows[i].expected);
    }
}

/* Each of these is a notice to some client, whatever a strict reader says. */
static void what_any_client_may_act_on_is_a_notice(void **state)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"{\"method\":\"notifications/tools/list_changed\"}", "tools"},
        {"{\"jsonrpc\":\"1.0\"," METHOD_TOOLS "}", "tools"},
        {"{\"m\\u0065thod\":\"notifications\\/tools\\/list_change\\u0064\"}", "tools"},
        {"{\"Method\":\"notifications/tools/list_changed\"}", "tools"},
        {"{\"METHOD\":\"Notifications/Tools/List_Changed\"}", "tools"},
        {"{\"method\":\"x\"," METHOD_TOOLS "}", "tools"},
        {"{" METHOD_TOOLS ",\"method\":\"x\"}", "tools"},
        {"{" METHOD_TOOLS ",\"method\":\"notifications/prompts/list_changed\"}", "tools prompts"},
        {"{" METHOD_TOOLS ",\"id\":1,\"id\":null}", "tools"},
        {"{" METHOD_TOOLS ",\"result\":{}}", "tools"},
        {"{" METHOD_TOOLS ",\"x\":\"\\ud800\"}", "tools"},
        {"{" METHOD_TOOLS ",\"x\":\"\xff\"}", "tools"},
        {"{" METHOD_TOOLS ",\"x\":NaN}", "tools"},
        {"{" METHOD_TOOLS ",}", "tools"},
        {"{" METHOD_TOOLS "} trailing", "tools"},
        {"{" METHOD_TOOLS, "tools"},
        {"{\"x\":[{\"a\":[1,\"]}\"]}]," METHOD_TOOLS "}", "tools"},
        {"{\"x\":\"a\\\"b\\\\\"," METHOD_TOOLS "}", "tools"},
        {"[" NOTE("tools/list_changed"), "tools"},
        /* URIs */
        {UPDATED("{\"uri\":\"a\",\"uri\":\"b\"}"), "updated=a updated=b"},
        {UPDATED("{\"URI\":\"a\"}"), "updated=a"},
        {UPDATED("{\"u\\u0072i\":\"\\u0061\\/\\n\\u00e9\\ud83d\\ude00\"}"), "updated=a/\n\xc3\xa9\xf0\x9f\x98\x80"},
        {UPDATED("{\"uri\":\"\"}"), "updated="},
        {UPDATED("{\"uri\":\"\\"), "updated=?"},
        {"{\"params\":{\"uri\":\"a\"}," METHOD_UPDATED "}", "updated=a"},
        {"{\"params\":{\"uri\":\"a\"}," METHOD_UPDATED ",\"params\":{\"uri\":\"b\"}}", "updated=a updated=b"},
        /* of which it cannot be told */
        {"{" METHOD_UPDATED "}", "updated=?"},
        {UPDATED("{}"), "updated=?"},
        {UPDATED("{\"uri\":7}"), "updated=?"},
        {UPDATED("[\"a\"]"), "updated=?"},
        {UPDATED("null"), "updated=?"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(read_notices(rows[i].text), rows[i].expected) != 0)
            fail_msg("'%s': '%s', not '%s'", rows[i].text, seen, rows[i].expected);
    }
}

/* A message cut anywhere is read within its bytes, and from its method's end on it is a notice. */
static void a_message_cut_anywhere_is_read_within_its_bytes(void **state)
{
    static const char text[] = "[{\"x\":{\"y\":[\"\\u00e9\\\"\",-1.5e3]},\"params\":{\"uri\":\"a\\u0062\"},\"method\":"
                               "\"notifications/resources/updated\",\"z\":null}]";
    const char *method_end = strstr(text, "updated\"") + strlen("updated\"");

    (void)state;
    for (size_t n = 0; n < sizeof(text); n++) {
        struct span exact = heap_span((struct span){text, n});

        seen[0] = '\0';
        assert_int_equal(cp_notices_read(&scratch, exact, on_notice, NULL), 0);
        free((char *)exact.p);
        assert_string_equal(seen, text + n >= method_end ? "updated=ab" : "");
    }
}

static void many_brackets_are_no_depth(void **state)
{
    size_t n = 1 << 20;
    struct buf text = {0};

    (void)state;
    assert_int_equal(buf_reserve(&text, 2 * n + 200), 0);
    buf_add_span(&text, SPAN("{\"x\":"));
    memset(text.p + text.n, '[', n);
    text.n += n;
    memset(text.p + text.n, ']', n);
    text.n += n;
    buf_add_span(&text, SPAN("," METHOD_TOOLS "}"));
    buf_add(&text, "", 1);
    assert_string_equal(read_notices(text.p), "tools");
    buf_done(&text);
}

static int done(void **state)
{
    (void)state;
    buf_done(&scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notices_are_told_from_all_else),
        cmocka_unit_test(what_any_client_may_act_on_is_a_notice),
        cmocka_unit_test(a_message_cut_anywhere_is_read_within_its_bytes),
        cmocka_unit_test(many_brackets_are_no_depth),
    };

    return cmocka_run_group_tests(tests, NULL, done);
}
