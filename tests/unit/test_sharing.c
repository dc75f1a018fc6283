/* SPDX-License-Identifier: Apache-2.0 */
/* What those get who waited for another's fetch: for every reason why an answer is not kept, and for every thing that makes it the leader's alone. */
#include "unit.h"

#include <stdio.h>

#include "cachepolicy/sharing.h"

#define RESULT(members) "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"complete\"" members "}}"
#define ERROR           "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602,\"message\":\"no\"}}"

static const char *sharing_word(enum cp_sharing sharing)
{
    switch (sharing) {
    case CP_SHARE_RESULT:
        return "result";
    case CP_SHARE_ERROR:
        return "error";
    case CP_SHARE_FAILURE:
        return "failure";
    case CP_SHARE_ALONE:
        return "alone";
    }
    return "?";
}

/* What differs from 200, a modern tool's result of one caller with credentials. */
enum {
    COOKIE = 1 << 0,
    NO_STORE = 1 << 1,
    ENCODED = 1 << 2,
    VARY = 1 << 3,
    ASKED = 1 << 4,
    OTHER_ID = 1 << 5,
    ANONYMOUS = 1 << 6,
    PUBLIC = 1 << 7, /* by the rule */
    HINTED = 1 << 8, /* a list: hints count, and every caller may look for a public entry */
    LEGACY = 1 << 9,
    PRIVATE = 1 << 10, /* Cache-Control: private */
};

static enum cp_sharing share(enum cp_reason reason, unsigned flags, int status, const char *text)
{
    static const struct cp_rule public_rule = {.scope = CP_SCOPE_PUBLIC, .has_scope = true};
    static struct cp_json_doc doc;
    struct cp_decision decision = {
        .action = CP_ACTION_LOOKUP,
        .rule = (flags & PUBLIC) != 0 ? &public_rule : NULL,
        .ttl_mode = CP_TTL_POLICY,
        .lifetime = {.ttl_ms = 1000},
        .hint_counts = (flags & HINTED) != 0,
        .may_public = (flags & (PUBLIC | HINTED)) != 0,
        .may_private = (flags & ANONYMOUS) == 0,
    };
    struct cp_reply reply = {
        .status = status,
        .is_json = true,
        .is_encoded = (flags & ENCODED) != 0,
        .sets_cookie = (flags & COOKIE) != 0,
        .no_store = (flags & NO_STORE) != 0,
        .is_private = (flags & PRIVATE) != 0,
        .vary_unkeyed = (flags & VARY) != 0,
        .server_asked = (flags & ASKED) != 0,
    };
    struct cp_answer answer;
    enum cp_sharing sharing;

    cp_answer_parse(&answer, &doc, span_of(text));
    reply.id_matches = cp_answer_is_to(&answer, (flags & OTHER_ID) != 0 ? SPAN("2") : SPAN("1"));
    sharing = cp_sharing_of(reason, &decision, (flags & LEGACY) != 0 ? CP_ERA_LEGACY : CP_ERA_MODERN, &reply, &answer);
    cp_json_done(&doc);
    return sharing;
}

/* Which reasons share a whole result, and which are failures whatever came; every other one is the leader's alone. */
static enum cp_sharing expected_of(enum cp_reason reason)
{
    static const enum cp_reason results[] = {CP_REASON_NONE,  CP_REASON_PURGED,    CP_REASON_IS_ERROR, CP_REASON_NO_TTL,
                                             CP_REASON_QUEUE, CP_REASON_OVERTAKEN, CP_REASON_RATE};
    static const enum cp_reason failures[] = {CP_REASON_TRUNCATED, CP_REASON_CONNECT, CP_REASON_TIMEOUT, CP_REASON_RESET,
                                              CP_REASON_BREAKER};

    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        if (results[i] == reason)
            return CP_SHARE_RESULT;
    }
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        if (failures[i] == reason)
            return CP_SHARE_FAILURE;
    }
    return CP_SHARE_ALONE;
}

static void assert_sharing(enum cp_reason reason, const char *text, int status, enum cp_sharing expected)
{
    enum cp_sharing got = share(reason, 0, status, text);

    if (got != expected)
        fail_msg("%s with '%s': %s, not %s", cp_reason_word(reason), text, sharing_word(got), sharing_word(expected));
}

static void every_reason_has_its_sharing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CP_REASON_COUNT; i++) {
        enum cp_reason reason = (enum cp_reason)i;
        enum cp_sharing expected = expected_of(reason), without = expected == CP_SHARE_FAILURE ? expected : CP_SHARE_ALONE;

        assert_sharing(reason, RESULT(""), 200, expected);
        /* an error is shared as one, or not at all */
        assert_sharing(reason, ERROR, 200, reason == CP_REASON_RPC_ERROR ? CP_SHARE_ERROR : without);
        /* and without any bytes there is nothing to share but a failure */
        assert_sharing(reason, "", 0, without);
    }
    assert_sharing(CP_REASON_COUNT, RESULT(""), 200, CP_SHARE_ALONE);
    assert_sharing((enum cp_reason)4711, RESULT(""), 200, CP_SHARE_ALONE);
}

static void a_status_says_whether_asking_again_helps(void **state)
{
    (void)state;
    for (int status = 0; status < 1000; status++) {
        enum cp_sharing expected = status == 429 || (status >= 500 && status < 600) ? CP_SHARE_FAILURE : CP_SHARE_ALONE;

        assert_int_equal(share(CP_REASON_STATUS, 0, status, ""), expected);
        assert_int_equal(share(CP_REASON_STATUS, 0, status, ERROR), expected);
        assert_int_equal(share(CP_REASON_STATUS, ANONYMOUS, status, RESULT("")), expected);
    }
}

static void what_is_the_leaders_alone(void **state)
{
    static const struct {
        enum cp_reason reason;
        unsigned flags;
        int status;
        enum cp_sharing expected;
        const char *text;
    } rows[] = {
        {CP_REASON_NONE, 0, 200, CP_SHARE_RESULT, RESULT("")},
        {CP_REASON_IS_ERROR, 0, 200, CP_SHARE_RESULT, RESULT(",\"isError\":true")},
        {CP_REASON_NO_TTL, LEGACY, 200, CP_SHARE_RESULT, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"},
        {CP_REASON_RPC_ERROR, LEGACY, 200, CP_SHARE_ERROR, ERROR},
        /* bound to the exchange, whatever is said against keeping it: the first reason hides the others */
        {CP_REASON_IS_ERROR, 0, 200, CP_SHARE_ALONE, RESULT(",\"isError\":true,\"taskId\":\"t\"")},
        {CP_REASON_IS_ERROR, 0, 200, CP_SHARE_ALONE, RESULT(",\"isError\":true,\"requestState\":\"s\"")},
        {CP_REASON_IS_ERROR, 0, 200, CP_SHARE_ALONE, RESULT(",\"isError\":true,\"_meta\":{\"cache_hint\":\"no-cache\"}")},
        {CP_REASON_NO_TTL, 0, 200, CP_SHARE_ALONE, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"},
        {CP_REASON_NO_TTL, 0, 200, CP_SHARE_ALONE, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"input_required\"}}"},
        {CP_REASON_NO_TTL, LEGACY, 200, CP_SHARE_ALONE, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"task\"}}"},
        {CP_REASON_NO_TTL, LEGACY, 200, CP_SHARE_ALONE, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}"},
        {CP_REASON_NO_TTL, 0, 200, CP_SHARE_ALONE, "{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}"},
        {CP_REASON_NO_TTL, 0, 201, CP_SHARE_ALONE, RESULT("")},
        {CP_REASON_NO_TTL, COOKIE, 200, CP_SHARE_ALONE, RESULT("")},
        {CP_REASON_NO_TTL, NO_STORE, 200, CP_SHARE_ALONE, RESULT("")},
        {CP_REASON_NO_TTL, ENCODED, 200, CP_SHARE_ALONE, RESULT("")},
        {CP_REASON_NO_TTL, VARY, 200, CP_SHARE_ALONE, RESULT("")},
        {CP_REASON_NO_TTL, ASKED, 200, CP_SHARE_ALONE, RESULT("")},
        {CP_REASON_NO_TTL, OTHER_ID, 200, CP_SHARE_ALONE, RESULT("")},
        /* an error that is not plainly the answer to our question */
        {CP_REASON_RPC_ERROR, OTHER_ID, 200, CP_SHARE_ALONE, ERROR},
        {CP_REASON_RPC_ERROR, 0, 200, CP_SHARE_ALONE, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1}}"},
        {CP_REASON_RPC_ERROR, ASKED, 200, CP_SHARE_ALONE, ERROR},
        {CP_REASON_RPC_ERROR, COOKIE, 200, CP_SHARE_ALONE, ERROR},
        {CP_REASON_RPC_ERROR, 0, 400, CP_SHARE_ALONE, ERROR},
        {CP_REASON_RPC_ERROR, 0, 200, CP_SHARE_ALONE, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1},\"result\":{}}"},
        /* a private result is shared among the leader's own requests */
        {CP_REASON_NONE, PRIVATE, 200, CP_SHARE_RESULT, RESULT("")},
        {CP_REASON_NO_TTL, HINTED, 200, CP_SHARE_RESULT, RESULT(",\"cacheScope\":\"private\",\"ttlMs\":0")},
        /* but callers without credentials are not known to be one */
        {CP_REASON_NO_TTL, ANONYMOUS, 200, CP_SHARE_ALONE, RESULT("")},
        {CP_REASON_NO_TTL, ANONYMOUS | HINTED, 200, CP_SHARE_ALONE, RESULT(",\"cacheScope\":\"private\",\"ttlMs\":0")},
        {CP_REASON_NO_TTL, ANONYMOUS | HINTED, 200, CP_SHARE_ALONE, RESULT(",\"cacheScope\":\"public\",\"ttlMs\":0")},
        {CP_REASON_ANONYMOUS, ANONYMOUS | HINTED, 200, CP_SHARE_ALONE, RESULT(",\"cacheScope\":\"private\",\"ttlMs\":1")},
        {CP_REASON_RPC_ERROR, ANONYMOUS | HINTED, 200, CP_SHARE_ALONE, ERROR},
        {CP_REASON_NONE, ANONYMOUS | HINTED, 200, CP_SHARE_RESULT, RESULT(",\"cacheScope\":\"public\",\"ttlMs\":1")},
        {CP_REASON_PURGED, ANONYMOUS | HINTED, 200, CP_SHARE_RESULT, RESULT(",\"cacheScope\":\"public\",\"ttlMs\":1")},
        {CP_REASON_NONE, ANONYMOUS | PUBLIC, 200, CP_SHARE_RESULT, RESULT("")},
        {CP_REASON_IS_ERROR, ANONYMOUS | PUBLIC, 200, CP_SHARE_ALONE, RESULT(",\"isError\":true")},
        {CP_REASON_RPC_ERROR, ANONYMOUS | PUBLIC, 200, CP_SHARE_ALONE, ERROR},
        {CP_REASON_NO_TTL, ANONYMOUS | PUBLIC | PRIVATE, 200, CP_SHARE_ALONE, RESULT("")},
        {CP_REASON_NO_TTL, ANONYMOUS | PUBLIC, 200, CP_SHARE_ALONE, RESULT(",\"cacheScope\":\"private\"")},
        /* a failure is nobody's in particular */
        {CP_REASON_TIMEOUT, ANONYMOUS, 0, CP_SHARE_FAILURE, ""},
        {CP_REASON_TRUNCATED, ANONYMOUS | COOKIE, 200, CP_SHARE_FAILURE, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum cp_sharing got = share(rows[i].reason, rows[i].flags, rows[i].status, rows[i].text);

        if (got != rows[i].expected)
            fail_msg("row %zu: %s, %#x, %d, %s: %s, not %s", i, cp_reason_word(rows[i].reason), rows[i].flags, rows[i].status,
                     rows[i].text, sharing_word(got), sharing_word(rows[i].expected));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reason_has_its_sharing),
        cmocka_unit_test(a_status_says_whether_asking_again_helps),
        cmocka_unit_test(what_is_the_leaders_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
