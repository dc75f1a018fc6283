/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <errno.h>

#include "cachepolicy/agree.h"

static struct cp_json_doc doc;

static void values_are_decoded_as_the_specification_says(void **state)
{
    static const struct {
        const char *value, *text; /* NULL: -EINVAL */
    } rows[] = {
        {"plain", "plain"},
        {" \t plain text \t", "plain text"},
        {"", ""},
        {"  ", ""},
        {"=?base64?SGVsbG8sIOS4lueVjA==?=", "Hello, \xe4\xb8\x96\xe7\x95\x8c"},
        {"  =?base64?SGVsbG8sIOS4lueVjA==?=\t", "Hello, \xe4\xb8\x96\xe7\x95\x8c"},
        {"=?base64?IHBhZGRlZCA=?=", " padded "},
        {"=?base64?YWJj?=", "abc"},
        {"=?base64?"
         "?=",
         ""},
        {"=?base64?+/8=?=", NULL}, /* fb ff: not UTF-8 */
        {"=?base64?7aCA?=", NULL}, /* a surrogate in UTF-8 */
        {"=?base64?wIA=?=", NULL}, /* overlong */
        {"=?base64?YWJj", "=?base64?YWJj"},
        {"=?base64?=", "=?base64?="},
        {"=?BASE64?YWJj?=", "=?BASE64?YWJj?="},
        {"=?base64?YWJj?= x", "=?base64?YWJj?= x"},
        {"x=?base64?YWJj?=", "x=?base64?YWJj?="},
        {"=?base64?YWJ?=", NULL},
        {"=?base64?YW?=", NULL},
        {"=?base64?YQ=?=", NULL},
        {"=?base64?YQ==?=", "a"},
        {"=?base64?YR==?=", NULL}, /* unused bits set */
        {"=?base64?YWK=?=", NULL},
        {"=?base64?Y===?=", NULL},
        {"=?base64?====?=", NULL},
        {"=?base64?YQ==YQ==?=", NULL},
        {"=?base64?YW J?=", NULL},
        {"=?base64?YWJj?YWJj?=", NULL},
        {"=?base64?YW-_?=", NULL},
        {"=?base64?\xc3\xa9YW?=", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span value = heap_span(span_of(rows[i].value));
        struct buf out = {0};
        int r;

        assert_int_equal(buf_add(&out, ">", 1), 0);
        r = cp_mirror_decode(value, &out);
        if (r != (rows[i].text == NULL ? -EINVAL : 0))
            fail_msg("'%s': %d", rows[i].value, r);
        assert_span(((struct span){out.p + 1, out.n - 1}), rows[i].text == NULL ? "" : rows[i].text);
        buf_done(&out);
        free((char *)value.p);
    }
}

static void values_are_encoded_where_they_must_be(void **state)
{
    static const struct {
        struct span text;
        const char *value;
    } rows[] = {
        {SPAN_OF(""), ""},
        {SPAN_OF("docs://a?b=c#d"), "docs://a?b=c#d"},
        {SPAN_OF("a b"), "a b"},
        {SPAN_OF(" "), "=?base64?IA==?="},
        {SPAN_OF(" padded "), "=?base64?IHBhZGRlZCA=?="},
        {SPAN_OF("a "), "=?base64?YSA=?="},
        {SPAN_OF("abc\t"), "=?base64?YWJjCQ==?="},
        {SPAN_OF("\x7f"), "=?base64?fw==?="},
        {SPAN_OF("a\r\nb"), "=?base64?YQ0KYg==?="},
        {SPAN_OF("a\0b"), "=?base64?YQBi?="},
        {SPAN_OF("Hello, \xe4\xb8\x96\xe7\x95\x8c"), "=?base64?SGVsbG8sIOS4lueVjA==?="},
        {SPAN_OF("=?base64?YWJj?="), "=?base64?PT9iYXNlNjQ/WVdKaj89?="},
        {SPAN_OF("=?base64?x"), "=?base64?PT9iYXNlNjQ/eA==?="},
        {SPAN_OF("=?BASE64?YWJj?="), "=?BASE64?YWJj?="},
        {SPAN_OF("x=?base64?YWJj?="), "x=?base64?YWJj?="},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span text = heap_span(rows[i].text);
        struct buf out = {0}, back = {0};

        assert_int_equal(buf_add(&out, ">", 1), 0);
        assert_int_equal(cp_mirror_encode(text, &out), 0);
        assert_span(((struct span){out.p + 1, out.n - 1}), rows[i].value);
        assert_int_equal(cp_mirror_decode((struct span){out.p + 1, out.n - 1}, &back), 0);
        assert_true(span_eq(buf_span(&back), text));
        buf_done(&out);
        buf_done(&back);
        free((char *)text.p);
    }
}

#define META   "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"}"
#define CALL   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"h\\u00e9llo\"," META "}}"
#define READ   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/read\",\"params\":{\"uri\":\"a://b\"," META "}}"
#define PROMPT "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"prompts/get\",\"params\":{\"name\":\"p\"," META "}}"
#define LIST   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{" META "}}"
#define TASK   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tasks/get\",\"params\":{\"taskId\":\"t\"," META "}}"
#define NOTE   "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":{" META "}}"
#define OLD    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\"}}"
#define OK     CP_AGREES, NULL

static void headers_and_body_agree_or_the_header_is_named(void **state)
{
    static const struct {
        const char *body, *version, *method, *name;
        enum cp_agreement agreement;
        const char *header;
    } rows[] = {
        {CALL, "2026-07-28", "tools/call", "=?base64?aMOpbGxv?=", OK},
        {CALL, "2026-07-28", "tools/call", "h\xc3\xa9llo", OK},
        {CALL, " 2026-07-28\t", " tools/call ", " =?base64?aMOpbGxv?= ", OK},
        {CALL, "2026-07-28", "tools/call", "other", CP_AGREE_MISMATCH, "Mcp-Name"},
        {CALL, "2026-07-28", "tools/call", "=?BASE64?aMOpbGxv?=", CP_AGREE_MISMATCH, "Mcp-Name"},
        {CALL, "2026-07-28", "tools/call", "=?base64?aMOpbGx?=", CP_AGREE_MISMATCH, "Mcp-Name"},
        {CALL, "2026-07-28", "tools/call", "", CP_AGREE_MISMATCH, "Mcp-Name"},
        {CALL, "2026-07-28", "tools/call", NULL, CP_AGREE_MISSING, "Mcp-Name"},
        {CALL, "2026-07-28", "TOOLS/CALL", "h\xc3\xa9llo", CP_AGREE_MISMATCH, "Mcp-Method"},
        {CALL, "2026-07-28", "=?base64?dG9vbHMvY2FsbA==?=", "h\xc3\xa9llo", CP_AGREE_MISMATCH, "Mcp-Method"},
        {CALL, "2026-07-28", NULL, "h\xc3\xa9llo", CP_AGREE_MISSING, "Mcp-Method"},
        {CALL, "2025-11-25", "tools/call", "h\xc3\xa9llo", CP_AGREE_MISMATCH, "MCP-Protocol-Version"},
        {CALL, NULL, "tools/call", "h\xc3\xa9llo", CP_AGREE_MISSING, "MCP-Protocol-Version"},
        {READ, "2026-07-28", "resources/read", "a://b", OK},
        {READ, "2026-07-28", "resources/read", "a://B", CP_AGREE_MISMATCH, "Mcp-Name"},
        {READ, "2026-07-28", "resources/read", NULL, CP_AGREE_MISSING, "Mcp-Name"},
        {PROMPT, "2026-07-28", "prompts/get", "p", OK},
        {PROMPT, "2026-07-28", "prompts/get", "q", CP_AGREE_MISMATCH, "Mcp-Name"},
        {TASK, "2026-07-28", "tasks/get", "t", OK},
        {TASK, "2026-07-28", "tasks/get", NULL, CP_AGREE_MISSING, "Mcp-Name"},
        {LIST, "2026-07-28", "tools/list", NULL, OK},
        {LIST, "2026-07-28", "tools/list", "anything", OK},
        {LIST, "2026-07-28", "prompts/list", NULL, CP_AGREE_MISMATCH, "Mcp-Method"},
        {NOTE, NULL, NULL, NULL, OK},
        {OLD, NULL, NULL, NULL, OK},
        {OLD, "2025-11-25", "nonsense", "other", OK},
        /* a version or name that the body does not say agrees with nothing */
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/"
         "protocolVersion\":7}}}",
         "", "tools/list", NULL, CP_AGREE_MISMATCH, "MCP-Protocol-Version"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{" META "}}", "2026-07-28", "tools/call", "",
         CP_AGREE_MISMATCH, "Mcp-Name"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_mirror mirror = {0};
        const char *header = "untouched";
        struct cp_message message;
        enum cp_agreement agreement;

        if (rows[i].version != NULL)
            mirror.version = span_of(rows[i].version);
        if (rows[i].method != NULL)
            mirror.method = span_of(rows[i].method);
        if (rows[i].name != NULL)
            mirror.name = span_of(rows[i].name);
        cp_message_parse(&message, &doc, span_of(rows[i].body));
        agreement = cp_agree(&message, &mirror, &header);
        if (agreement != rows[i].agreement)
            fail_msg("row %zu: %d (%s)", i, agreement, header);
        assert_string_equal(header, rows[i].header == NULL ? "untouched" : rows[i].header);
        mirror.repeated = true;
        assert_int_equal(cp_agree(&message, &mirror, &header), CP_AGREE_MISMATCH);
        assert_string_equal(header, "Mcp-*");
    }
}

static struct buf set(struct cp_mirror_param *params, size_t count)
{
    struct buf out = {0};

    assert_int_equal(buf_add(&out, "", 0), 0);
    assert_int_equal(cp_mirror_params(params, count, &out), 0);
    return out;
}

static bool same_sets(struct cp_mirror_param *a, size_t na, struct cp_mirror_param *b, size_t nb)
{
    struct buf one = set(a, na), two = set(b, nb);
    bool same = span_eq(buf_span(&one), buf_span(&two));

    buf_done(&one);
    buf_done(&two);
    return same;
}

#define PARAM(name, value)                                                                                                         \
    {                                                                                                                              \
        {name, sizeof(name) - 1},                                                                                                  \
        {                                                                                                                          \
            value, sizeof(value) - 1                                                                                               \
        }                                                                                                                          \
    }
#define SETS_SAME(a, b)                                                                                                            \
    same_sets((struct cp_mirror_param[])a, sizeof((struct cp_mirror_param[])a) / sizeof(struct cp_mirror_param),                   \
              (struct cp_mirror_param[])b, sizeof((struct cp_mirror_param[])b) / sizeof(struct cp_mirror_param))
#define LIST_OF(...)                                                                                                               \
    {                                                                                                                              \
        __VA_ARGS__                                                                                                                \
    }

static void sets_are_equal_exactly_when_they_say_the_same(void **state)
{
    (void)state;
    assert_true(SETS_SAME(LIST_OF(PARAM("Region", "eu"), PARAM("Tier", "1")), LIST_OF(PARAM("tier", "1"), PARAM("REGION", " eu"))));
    assert_true(SETS_SAME(LIST_OF(PARAM("Region", "abc")), LIST_OF(PARAM("region", "=?base64?YWJj?="))));
    assert_false(SETS_SAME(LIST_OF(PARAM("Region", "eu")), LIST_OF(PARAM("Region", "us"))));
    assert_false(SETS_SAME(LIST_OF(PARAM("Region", "eu")), LIST_OF(PARAM("Region", "EU"))));
    assert_false(SETS_SAME(LIST_OF(PARAM("Region", "eu")), LIST_OF(PARAM("Region", "eu"), PARAM("Tier", ""))));
    assert_false(SETS_SAME(LIST_OF(PARAM("a", "bc")), LIST_OF(PARAM("ab", "c"))));
    assert_false(SETS_SAME(LIST_OF(PARAM("a", "b"), PARAM("c", "d")), LIST_OF(PARAM("a", "d"), PARAM("c", "b"))));
    assert_false(SETS_SAME(LIST_OF(PARAM("a", "")), LIST_OF(PARAM("", "a"))));
    /* a broken encoding is not the text that reads like it */
    assert_false(SETS_SAME(LIST_OF(PARAM("a", "=?base64?!?=")), LIST_OF(PARAM("a", "=?base64?PT9iYXNlNjQ/IT89?="))));
    {
        struct buf none = set(NULL, 0), empty_value = set((struct cp_mirror_param[]){PARAM("a", "")}, 1);

        assert_int_equal(none.n, 0);
        assert_int_not_equal(empty_value.n, 0);
        buf_done(&none);
        buf_done(&empty_value);
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
        cmocka_unit_test(values_are_decoded_as_the_specification_says),
        cmocka_unit_test(values_are_encoded_where_they_must_be),
        cmocka_unit_test(headers_and_body_agree_or_the_header_is_named),
        cmocka_unit_test(sets_are_equal_exactly_when_they_say_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
