/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <stdio.h>

#include "cachepolicy/message.h"
#include "cachepolicy/pointer.h"

static struct cp_json_doc doc;

static struct cp_message parse(const char *body)
{
    struct cp_message message;

    cp_message_parse(&message, &doc, span_of(body));
    return message;
}

/* --- the envelope -------------------------------------------------------------------------------------------------------------- */

static void every_envelope_has_its_kind(void **state)
{
    static const struct {
        const char *body;
        enum cp_kind kind;
        const char *id; /* NULL: absent */
    } rows[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}", CP_KIND_REQUEST, "7"},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"7\",\"method\":\"ping\"}", CP_KIND_REQUEST, "\"7\""},
        {"{\"jsonrpc\":\"2.0\",\"id\":9007199254740993,\"method\":\"ping\"}", CP_KIND_REQUEST, "9007199254740993"},
        {"{\"jsonrpc\":\"2.0\",\"id\":-5,\"method\":\"ping\"}", CP_KIND_REQUEST, "-5"},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"\\u0061\",\"method\":\"ping\"}", CP_KIND_REQUEST, "\"\\u0061\""},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"ping\"}", CP_KIND_REQUEST, "\"\""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", CP_KIND_NOTIFICATION, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", CP_KIND_RESPONSE, "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}", CP_KIND_RESPONSE, "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1}}", CP_KIND_RESPONSE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1}}", CP_KIND_RESPONSE, NULL},
        {"{\"\\u006asonrpc\":\"\\u0032.0\",\"\\u0069d\":1,\"meth\\u006fd\":\"pin\\u0067\"}", CP_KIND_REQUEST, "1"},
        {"[]", CP_KIND_BATCH, NULL},
        {"[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}]", CP_KIND_BATCH, NULL},
        /* nothing that is plainly JSON-RPC */
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.0,\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1e3,\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":[1],\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":2.0,\"id\":1,\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"id\":1,\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"result\":{}}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"error\":{}}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"error\":{}}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"params\":{}}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}", CP_KIND_OPAQUE, NULL},
        {"{\"jsonrpc\":\"2.0\",\"result\":{}}", CP_KIND_OPAQUE, NULL},
        {"{\"JSONRPC\":\"2.0\",\"id\":1,\"method\":\"ping\"}", CP_KIND_OPAQUE, NULL},
        {"{}", CP_KIND_OPAQUE, NULL},
        {"7", CP_KIND_OPAQUE, NULL},
        {"\"ping\"", CP_KIND_OPAQUE, NULL},
        {"null", CP_KIND_OPAQUE, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_message m = parse(rows[i].body);

        if (m.kind != rows[i].kind || (m.id.p == NULL) != (rows[i].id == NULL) ||
            (rows[i].id != NULL && !span_eq(m.id, span_of(rows[i].id))))
            fail_msg("%s: kind %d, id '%.*s'", rows[i].body, m.kind, (int)m.id.n, m.id.p);
        assert_int_equal(m.json, CP_JSON_OK);
        assert_ptr_equal(m.doc, &doc);
        if (m.kind == CP_KIND_REQUEST)
            assert_int_equal(m.method, CP_METHOD_PING);
    }
}

static void json_that_makes_no_key_is_opaque_and_says_why(void **state)
{
    static const struct {
        const char *body;
        enum cp_json_status status;
    } rows[] = {
        {"", CP_JSON_SYNTAX},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} x", CP_JSON_SYNTAX},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}", CP_JSON_DUPLICATE},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
         "call\",\"params\":{\"name\":\"a\",\"arguments\":{\"a\":1,\"\\u0061\":2}}}",
         CP_JSON_DUPLICATE},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"\\ud800\",\"method\":\"ping\"}", CP_JSON_SURROGATE},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"\\u0000\",\"method\":\"ping\"}", CP_JSON_NUL},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"ping\"}", CP_JSON_UTF8},
        {"[{\"a\":1,\"a\":2}]", CP_JSON_DUPLICATE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_message m = parse(rows[i].body);

        assert_int_equal(m.kind, CP_KIND_OPAQUE);
        assert_int_equal(m.json, rows[i].status);
        assert_null(m.params);
        assert_null(m.id.p);
    }
}

/* A call whose arguments are so many containers deep that the whole body has that depth. */
static struct buf call_of_depth(unsigned depth)
{
    struct buf body = {0};

    assert_int_equal(
        buf_add_span(&body,
                     SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\",\"arguments\":")),
        0);
    for (unsigned i = 2; i < depth; i++)
        assert_int_equal(buf_add_span(&body, i % 2 == 0 ? SPAN("{\"b\":0,\"a\":") : SPAN("[")), 0);
    assert_int_equal(buf_add_span(&body, SPAN("1")), 0);
    for (unsigned i = depth - 1; i >= 2; i--)
        assert_int_equal(buf_add_span(&body, i % 2 == 0 ? SPAN("}") : SPAN("]")), 0);
    assert_int_equal(buf_add_span(&body, SPAN("}}")), 0);
    return body;
}

static void the_doc_says_how_deep_a_body_may_be(void **state)
{
    static const struct {
        uint32_t request_depth;
        unsigned deepest;
    } rows[] = {{0, 64}, {3, 3}, {64, 64}, {65, 65}, {512, 512}, {100000, 512}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf body = call_of_depth(rows[i].deepest), deeper = call_of_depth(rows[i].deepest + 1), form = {0};
        struct cp_message message;

        doc.request_depth = rows[i].request_depth;
        cp_message_parse(&message, &doc, buf_span(&body));
        assert_int_equal(message.kind, CP_KIND_REQUEST);
        assert_int_equal(cp_message_canonical(&message, NULL, 0, &form), 0);
        assert_true(form.n > rows[i].deepest);
        cp_message_parse(&message, &doc, buf_span(&deeper));
        assert_int_equal(message.kind, CP_KIND_OPAQUE);
        assert_int_equal(message.json, CP_JSON_DEEP);
        buf_done(&body);
        buf_done(&deeper);
        buf_done(&form);
    }
    doc.request_depth = 0;
}

static void an_envelope_member_that_nobody_keys_is_malformed(void **state)
{
    struct cp_message m = parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"tenant\":\"x\"}");

    (void)state;
    assert_int_equal(m.kind, CP_KIND_REQUEST);
    assert_int_equal(m.method, CP_METHOD_TOOLS_LIST);
    assert_true(m.is_malformed);
    assert_false(parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}").is_malformed);
}

/* --- params -------------------------------------------------------------------------------------------------------------------- */

#define VERSION                 "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\""
#define REQUEST(method, params) "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"" method "\",\"params\":" params "}"

static void the_body_decides_the_era(void **state)
{
    struct cp_message m;

    (void)state;
    m = parse(REQUEST("tools/list", "{\"_meta\":{" VERSION "}}"));
    assert_int_equal(m.era, CP_ERA_MODERN);
    assert_span(m.version, "2026-07-28");
    assert_non_null(m.meta);
    assert_false(m.is_malformed);
    m = parse(REQUEST("tools/list", "{\"_m\\u0065ta\":{\"io.modelcontextprotocol\\/protocolVersion\":\"\\u0032027\"}}"));
    assert_int_equal(m.era, CP_ERA_MODERN);
    assert_span(m.version, "2027");
    m = parse(REQUEST("tools/list", "{\"_meta\":{"
                                    "\"io.modelcontextprotocol/protocolVersion\":\"\"}}"));
    assert_int_equal(m.era, CP_ERA_MODERN);
    assert_non_null(m.version.p);
    assert_int_equal(m.version.n, 0);
    m = parse(REQUEST("tools/list", "{\"_meta\":{\"progressToken\":1}}"));
    assert_int_equal(m.era, CP_ERA_LEGACY);
    assert_null(m.version.p);
    assert_false(m.is_malformed);
    m = parse(REQUEST("tools/list", "{\"_meta\":{\"protocolVersion\":\"2026-07-28\"}}"));
    assert_int_equal(m.era, CP_ERA_LEGACY);
    m = parse(REQUEST("tools/list", "{" VERSION "}"));
    assert_int_equal(m.era, CP_ERA_LEGACY);
    m = parse("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}");
    assert_int_equal(m.era, CP_ERA_LEGACY);
    assert_null(m.params);
    /* present and no string: modern, and nothing that a hit may be made of */
    m = parse(REQUEST("tools/list", "{\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":20260728}}"));
    assert_int_equal(m.era, CP_ERA_MODERN);
    assert_null(m.version.p);
    assert_true(m.is_malformed);
}

static void what_the_cache_needs_must_have_its_type(void **state)
{
    static const struct {
        const char *body;
        bool malformed;
        const char *name; /* NULL: absent */
    } rows[] = {
        {REQUEST("tools/call", "{\"name\":\"a\\u0062\"}"), false, "ab"},
        {REQUEST("tools/call", "{\"name\":\"\"}"), false, ""},
        {REQUEST("tools/call", "{\"n\\u0061me\":\"a\"}"), false, "a"},
        {REQUEST("tools/call", "{\"name\":7}"), true, NULL},
        {REQUEST("tools/call", "{\"arguments\":{}}"), true, NULL},
        {REQUEST("tools/call", "[\"a\"]"), true, NULL},
        {REQUEST("tools/call", "null"), true, NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}", true, NULL},
        {REQUEST("prompts/get", "{\"name\":\"a\"}"), false, "a"},
        {REQUEST("prompts/get", "{}"), true, NULL},
        {REQUEST("resources/read", "{\"uri\":\"file:///a%20b\"}"), false, "file:///a%20b"},
        {REQUEST("resources/read", "{\"uri\":null}"), true, NULL},
        {REQUEST("resources/read", "{\"name\":\"a\"}"), true, NULL},
        {REQUEST("resources/subscribe", "{\"uri\":\"a\"}"), false, "a"},
        {REQUEST("resources/unsubscribe", "{\"uri\":\"a\"}"), false, "a"},
        {REQUEST("tasks/get", "{\"taskId\":\"t\"}"), false, "t"},
        {REQUEST("tasks/get", "{\"taskId\":3}"), true, NULL},
        {REQUEST("tasks/list", "{}"), false, NULL},
        {REQUEST("tools/list", "{\"name\":7,\"cursor\":7}"), false, NULL},
        {REQUEST("tools/list", "{\"_meta\":null}"), true, NULL},
        {REQUEST("tools/list", "{\"_meta\":[]}"), true, NULL},
        {REQUEST("tools/list", "[]"), true, NULL},
        {REQUEST("tools/list", "{}"), false, NULL},
        {REQUEST("unheard/of", "{}"), false, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_message m = parse(rows[i].body);

        if (m.kind != CP_KIND_REQUEST || m.is_malformed != rows[i].malformed || (m.name.p == NULL) != (rows[i].name == NULL))
            fail_msg("%s: kind %d malformed %d name '%.*s'", rows[i].body, m.kind, m.is_malformed, (int)m.name.n, m.name.p);
        if (rows[i].name != NULL && m.name.p != NULL)
            assert_span(m.name, rows[i].name);
    }
}

static void legs_and_tasks_are_noticed(void **state)
{
    (void)state;
    assert_true(parse(REQUEST("resources/read", "{\"uri\":\"a\",\"inputResponses\":{}}")).is_continuation);
    assert_true(parse(REQUEST("resources/read", "{\"uri\":\"a\",\"requestState\":null}")).is_continuation);
    assert_true(parse(REQUEST("resources/read", "{\"uri\":\"a\",\"request\\u0053tate\":\"x\"}")).is_continuation);
    assert_false(parse(REQUEST("tools/call", "{\"name\":\"a\",\"arguments\":{\"requestState\":1,\"task\":{}}}")).is_continuation);
    assert_false(parse(REQUEST("tools/call", "{\"name\":\"a\",\"arguments\":{\"requestState\":1,\"task\":{}}}")).is_task);
    assert_true(parse(REQUEST("tools/call", "{\"name\":\"a\",\"task\":{\"ttl\":1}}")).is_task);
    assert_false(parse(REQUEST("tools/call", "{\"name\":\"a\"}")).is_task);
}

static void arguments_and_capabilities_are_handed_out(void **state)
{
    struct cp_message m;

    (void)state;
    m = parse(REQUEST("tools/call", "{\"name\":\"a\",\"arguments\":[1, 2]}"));
    assert_span(cp_json_raw(&doc, m.arguments), "[1, 2]");
    m = parse(REQUEST("tools/call", "{\"name\":\"a\",\"arguments\":null}"));
    assert_span(cp_json_raw(&doc, m.arguments), "null");
    m = parse(REQUEST("tools/call", "{\"name\":\"a\"}"));
    assert_null(m.arguments);
    m = parse(REQUEST("resources/read", "{\"uri\":\"a\",\"arguments\":{}}"));
    assert_null(m.arguments);
    m = parse(REQUEST("initialize", "{\"protocolVersion\":\"x\",\"capabilities\":{ \"roots\":{}}}"));
    assert_span(m.client_info, "{ \"roots\":{}}");
    m = parse(REQUEST("tools/list", "{\"capabilities\":{}}"));
    assert_null(m.client_info.p);
}

static void every_method_has_one_text(void **state)
{
    (void)state;
#define X(NAME, text)                                                                                                              \
    assert_int_equal(cp_method_of(span_of(text)), CP_METHOD_##NAME);                                                               \
    assert_string_equal(cp_method_text(CP_METHOD_##NAME), text);
    CP_METHODS(X)
#undef X
    assert_int_equal(cp_method_of(SPAN("TOOLS/CALL")), CP_METHOD_OTHER);
    assert_int_equal(cp_method_of(SPAN("tools/cal")), CP_METHOD_OTHER);
    assert_int_equal(cp_method_of(SPAN("tools/calls")), CP_METHOD_OTHER);
    assert_int_equal(cp_method_of(SPAN("tools/call\0")), CP_METHOD_OTHER);
}

/* --- the canonical form of params ------------------------------------------------------------------------------------------------ */

static struct buf canonical(const char *body, const char *ignore)
{
    struct cp_message m = parse(body);
    struct cp_pointer pointer = {0};
    struct buf out = {0};

    assert_int_equal(m.kind, CP_KIND_REQUEST);
    if (ignore != NULL)
        assert_int_equal(cp_pointer_parse(span_of(ignore), &pointer, NULL), 0);
    assert_int_equal(cp_message_canonical(&m, &pointer, ignore != NULL, &out), 0);
    for (uint32_t i = 0; i < doc.count; i++)
        assert_false(doc.nodes[i].skip);
    cp_pointer_done(&pointer);
    return out;
}

static bool same_under(const char *a, const char *b, const char *ignore_a, const char *ignore_b)
{
    struct buf one = canonical(a, ignore_a), two = canonical(b, ignore_b);
    bool same = span_eq(buf_span(&one), buf_span(&two));

    buf_done(&one);
    buf_done(&two);
    return same;
}

static bool same(const char *a, const char *b)
{
    return same_under(a, b, NULL, NULL);
}

#define CALL(rest)    REQUEST("tools/call", "{\"name\":\"a\"" rest "}")
#define META(members) CALL(",\"_meta\":{" VERSION members "}")

static void inert_meta_does_not_change_the_form(void **state)
{
    (void)state;
    assert_true(same(META(""), META(",\"progressToken\":7")));
    assert_true(same(META(""), META(",\"progressToken\":\"x\"")));
    assert_true(same(META(""), META(",\"io.modelcontextprotocol/logLevel\":\"debug\"")));
    assert_true(same(META(""), META(",\"io.modelcontextprotocol/clientInfo\":{\"name\":\"n\",\"version\":\"1\"}")));
    assert_true(same(META(""), META(",\"traceparent\":\"00-1-2-3\",\"tracestate\":\"a=b\",\"baggage\":\"c=d\"")));
    assert_true(same(META(""), META(",\"trac\\u0065parent\":1")));
    assert_true(same(META(",\"progressToken\":1,\"traceparent\":\"x\""), META(",\"progressToken\":2,\"traceparent\":\"y\"")));
    /* nothing but inert members: as if there was no _meta */
    assert_true(same(CALL(",\"_meta\":{\"progressToken\":7}"), CALL("")));
    assert_true(same(CALL(",\"_meta\":{}"), CALL("")));
    assert_true(same(REQUEST("tools/list", "{\"_meta\":{\"progressToken\":1}}"), REQUEST("tools/list", "{}")));
}

static void every_other_meta_changes_the_form(void **state)
{
    (void)state;
    assert_false(same(META(",\"io.modelcontextprotocol/clientCapabilities\":{}"), META("")));
    assert_false(same(META(",\"io.modelcontextprotocol/clientCapabilities\":{\"extensions\":{\"ui\":{}}}"),
                      META(",\"io.modelcontextprotocol/clientCapabilities\":{\"extensions\":{\"tasks\":{}}}")));
    assert_false(same(META(",\"com.example/tenant\":\"a\""), META(",\"com.example/tenant\":\"b\"")));
    assert_false(same(META(",\"io.modelcontextprotocol/acceptLanguage\":\"de\""), META("")));
    assert_false(same(META(",\"ProgressToken\":7"), META("")));
    assert_false(same(META(",\"logLevel\":7"), META("")));
    assert_false(same(META(",\"io.modelcontextprotocol/progressToken\":7"), META("")));
    assert_false(same(CALL(",\"_meta\":{" VERSION "}"), CALL("")));
    /* inert names elsewhere are not inert */
    assert_false(same(CALL(",\"progressToken\":1"), CALL("")));
    assert_false(same(CALL(",\"arguments\":{\"progressToken\":1}"), CALL(",\"arguments\":{}")));
    assert_false(
        same(CALL(",\"arguments\":{\"_meta\":{\"progressToken\":1}}"), CALL(",\"arguments\":{\"_meta\":{\"progressToken\":2}}")));
    assert_false(same(META(",\"x\":{\"traceparent\":1}"), META(",\"x\":{\"traceparent\":2}")));
}

static void arguments_keep_their_meaning(void **state)
{
    (void)state;
    assert_true(same(CALL(",\"arguments\":{\"a\":1,\"b\":2}"), CALL(",\"arguments\":{\"b\":2,\"a\":1}")));
    assert_true(same(CALL(",\"arguments\":{\"a\":\"\\u00e9\"}"), CALL(",\"arguments\" : {\"a\": \"\xc3\xa9\"}")));
    assert_true(same(REQUEST("tools/call", "{\"arguments\":{},\"name\":\"a\"}"), CALL(",\"arguments\":{}")));
    assert_false(same(CALL(",\"arguments\":{\"a\":1}"), CALL(",\"arguments\":{\"a\":1.0}")));
    assert_false(same(CALL(",\"arguments\":{\"a\":null}"), CALL(",\"arguments\":{}")));
    assert_false(same(CALL(",\"arguments\":{\"a\":\"\xc3\xa9\"}"), CALL(",\"arguments\":{\"a\":\"e\xcc\x81\"}")));
    assert_false(same(CALL(",\"arguments\":{}"), CALL("")));
    assert_false(same(CALL(",\"arguments\":{}"), CALL(",\"arguments\":null")));
    assert_false(same(CALL(",\"arguments\":null"), CALL("")));
    assert_false(same(CALL(""), CALL(",\"unknown\":1")));
    assert_false(same(REQUEST("tools/list", "{}"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}"));
    assert_false(same(REQUEST("tools/list", "{\"cursor\":\"\"}"), REQUEST("tools/list", "{}")));
    assert_false(same(REQUEST("tools/list", "null"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}"));
    assert_false(same(REQUEST("resources/read", "{\"uri\":\"a%20b\"}"), REQUEST("resources/read", "{\"uri\":\"a b\"}")));
}

static void ignored_arguments_are_ignored_in_arguments_only(void **state)
{
    const char *one = CALL(",\"arguments\":{\"request_id\":1,\"q\":\"x\"}"),
               *two = CALL(",\"arguments\":{\"request_id\":2,\"q\":\"x\"}");
    const char *none = CALL(",\"arguments\":{\"q\":\"x\"}");

    (void)state;
    assert_false(same(one, two));
    assert_true(same_under(one, two, "/request_id", "/request_id"));
    assert_true(same_under(one, none, "/request_id", "/request_id"));
    assert_false(same_under(CALL(",\"request_id\":1"), CALL(",\"request_id\":2"), "/request_id", "/request_id"));
    assert_false(same_under(CALL(",\"arguments\":{\"request_id\":1}"), CALL(""), "/request_id", "/request_id"));
    assert_false(same_under(REQUEST("resources/read", "{\"uri\":\"a\",\"arguments\":{\"request_id\":1}}"),
                            REQUEST("resources/read", "{\"uri\":\"a\",\"arguments\":{\"request_id\":2}}"), "/request_id",
                            "/request_id"));
    /* What was filled while the policy ignored a member is not found once it counts. */
    assert_false(same_under(one, none, "/request_id", NULL));
    assert_false(same_under(none, none, "/request_id", NULL));
    assert_false(same_under(none, none, "/request_id", "/request_ids"));
    assert_true(same_under(CALL(",\"arguments\":{\"a\":1}"), CALL(""), "", ""));
}

static void ignore_lists_that_read_alike_differ(void **state)
{
    static const char *const texts[2][2] = {{"/a", "/b/c"}, {"/a/b", "/c"}};
    struct buf forms[2] = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct cp_message m = parse(CALL(",\"arguments\":{}"));
        struct cp_pointer pointers[2] = {0};

        for (int k = 0; k < 2; k++)
            assert_int_equal(cp_pointer_parse(span_of(texts[i][k]), &pointers[k], NULL), 0);
        assert_int_equal(cp_message_canonical(&m, pointers, 2, &forms[i]), 0);
        for (int k = 0; k < 2; k++)
            cp_pointer_done(&pointers[k]);
    }
    assert_false(span_eq(buf_span(&forms[0]), buf_span(&forms[1])));
    buf_done(&forms[0]);
    buf_done(&forms[1]);
}

static int finish(void **state)
{
    (void)state;
    cp_json_done(&doc);
    return 0;
}

/* --- batches ------------------------------------------------------------------------------------------------------------------------- */

static char seen[1000];

static void on_message(void *ctx, const struct cp_message *message)
{
    static const char *const kinds[] = {"opaque", "batch", "request", "notification", "response"};
    size_t n = strlen(seen);

    assert_ptr_equal(ctx, &doc);
    assert_ptr_equal(message->doc, &doc);
    snprintf(seen + n, sizeof(seen) - n, "%s%.*s:%.*s:%.*s%s ", kinds[message->kind], (int)message->id.n,
             message->id.n > 0 ? message->id.p : "", (int)message->method_text.n,
             message->method_text.n > 0 ? message->method_text.p : "", (int)message->name.n,
             message->name.n > 0 ? message->name.p : "", message->is_malformed ? "!" : "");
}

static void assert_batch(const char *body, const char *expected)
{
    struct cp_message message = parse(body);

    (void)message;
    seen[0] = '\0';
    cp_message_each(&doc, on_message, &doc);
    if (strcmp(seen, expected) != 0)
        fail_msg("%s: '%s', not '%s'", body, seen, expected);
}

static void a_batch_is_its_elements(void **state)
{
#define SET "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"set\",\"arguments\":{\"a\":1}}}"
    (void)state;
    assert_batch("[]", "");
    assert_batch("[" SET "]", "request1:tools/call:set ");
    assert_batch("[" SET
                 ",{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"},{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}," SET
                 "]",
                 "request1:tools/call:set notification:notifications/initialized: response2:: request1:tools/call:set ");
    /* what is no message, beside one that is */
    assert_batch("[1,null,\"x\",[" SET "],{},{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}," SET "]",
                 "opaque:: opaque:: opaque:: opaque:: opaque:: opaque:: request1:tools/call:set ");
    assert_batch("[{\"jsonrpc\":\"2.0\",\"id\":1,\"x\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"set\"}}]",
                 "request1:tools/call:set! ");
    /* no batch, or one that is not read */
    assert_batch(SET, "");
    assert_batch("[" SET ",]", "");
    assert_batch("[{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}]", "");
    assert_batch("", "");
}

/* An element keys and expands like a message of its own. */
static void on_canonical(void *ctx, const struct cp_message *message)
{
    assert_int_equal(cp_message_canonical(message, NULL, 0, ctx), 0);
}

static void an_element_is_a_message_like_any_other(void **state)
{
    struct buf one = {0}, element = {0};
    struct cp_message message = parse(SET);

    (void)state;
    assert_int_equal(cp_message_canonical(&message, NULL, 0, &one), 0);
    parse("[{}," SET "]");
    cp_message_each(&doc, on_canonical, &element);
    assert_true(element.n > one.n);
    assert_true(span_eq(buf_span(&one), (struct span){element.p + element.n - one.n, one.n}));
    buf_done(&one);
    buf_done(&element);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_its_elements),
        cmocka_unit_test(an_element_is_a_message_like_any_other),
        cmocka_unit_test(every_envelope_has_its_kind),
        cmocka_unit_test(json_that_makes_no_key_is_opaque_and_says_why),
        cmocka_unit_test(the_doc_says_how_deep_a_body_may_be),
        cmocka_unit_test(an_envelope_member_that_nobody_keys_is_malformed),
        cmocka_unit_test(the_body_decides_the_era),
        cmocka_unit_test(what_the_cache_needs_must_have_its_type),
        cmocka_unit_test(legs_and_tasks_are_noticed),
        cmocka_unit_test(arguments_and_capabilities_are_handed_out),
        cmocka_unit_test(every_method_has_one_text),
        cmocka_unit_test(inert_meta_does_not_change_the_form),
        cmocka_unit_test(every_other_meta_changes_the_form),
        cmocka_unit_test(arguments_keep_their_meaning),
        cmocka_unit_test(ignored_arguments_are_ignored_in_arguments_only),
        cmocka_unit_test(ignore_lists_that_read_alike_differ),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
