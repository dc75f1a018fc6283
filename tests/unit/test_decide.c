/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions, before and after, and ages. Numbers in comments are those of the protocol notes' tricky cases. */
#include "unit.h"

#include <stdio.h>

#include "cachepolicy/decide.h"

static const char rules[] = "version: 1\n"
                            "tools:\n"
                            "  - { name: read, ttl: 10s, grace: 5s }\n"
                            "  - { name: mine, ttl: 10s, scope: principal }\n"
                            "  - { name: all, ttl: 10s, scope: public }\n"
                            "  - { name: stubborn, ttl: 10s, client_control: false }\n"
                            "  - { name: watched, ttl: 10s, mode: observe }\n"
                            "  - { name: off, ttl: off }\n"
                            "  - { name: 'set*', class: write }\n"
                            "  - { name: sure, ttl: 10s, despite_annotations: true }\n"
                            "  - { name: sorry, ttl: 10s, grace: 5s, stale_if_error: 9s, negative_ttl: 2s }\n"
                            "  - { name: sorryall, ttl: 10s, scope: public, negative_ttl: 2s }\n"
                            "resources:\n"
                            "  - { uri: 'off://**', ttl: off }\n"
                            "  - { uri: 'cap://**', ttl: 10s }\n"
                            "  - { uri: 'all://**', ttl: 10s, scope: public }\n"
                            "  - { uri: 'mine://**', ttl: 10s, scope: principal }\n"
                            "  - { uri: 'session://**', scope: session }\n"
                            "  - { uri: 'own://**', ttl: 10s, despite_hints: true }\n"
                            "  - { uri: 'ownall://**', ttl: 10s, despite_hints: true, scope: public }\n";

#define META           "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"}"
#define CALL(name)     "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"" name "\"," META "}}"
#define READ(uri)      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/read\",\"params\":{\"uri\":\"" uri "\"," META "}}"
#define LIST           "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{" META "}}"
#define DISCOVER       "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server/discover\",\"params\":{" META "}}"
#define OLD_CALL(name) "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"" name "\"}}"
#define OLD_READ(uri)  "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/read\",\"params\":{\"uri\":\"" uri "\"}}"
#define OLD_LIST       "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}"

/* What differs from a caller with credentials, a live session and perfect headers. */
enum {
    ANONYMOUS = 1 << 0,
    NO_JSON = 1 << 1,
    BAD_ORIGIN = 1 << 2,
    WANTS_UPSTREAM = 1 << 3,
    PROOF = 1 << 4,
    NO_SESSION = 1 << 5,
    UNKNOWN_SESSION = 1 << 6,
    HIDES = 1 << 7,
    STRANGE_BODY = 1 << 8,
    ASKS_NO_STORE = 1 << 9,
    ONLY_CACHED = 1 << 10,
    EVERYTHING = (1 << 11) - 1,
    READ_ONLY = 1 << 11,
    VETO = 1 << 12,
};

/* One decision and all that it borrows from. */
struct situation {
    struct cp_policy *policy;
    struct cp_json_doc doc, answer_doc;
    struct cp_message message;
    struct cp_caller caller;
    struct cp_decision decision;
};

static void decide(struct situation *s, const char *policy, const char *body, unsigned flags, const char *version)
{
    struct cp_errors errors = {0};
    struct cp_policy_text text = {"test.yaml", span_of(policy)};

    *s = (struct situation){0};
    if (cp_policy_parse(&text, 1, &s->policy, &errors) != 0)
        fail_msg("test.yaml:%u:%u: %s", errors.items[0].line, errors.items[0].column, errors.items[0].text);
    cp_message_parse(&s->message, &s->doc, span_of(body));
    s->caller = (struct cp_caller){
        .is_anonymous = (flags & ANONYMOUS) != 0,
        .accepts_json = (flags & NO_JSON) == 0,
        .origin_allowed = (flags & BAD_ORIGIN) == 0,
        .no_cache = (flags & WANTS_UPSTREAM) != 0,
        .no_store = (flags & ASKS_NO_STORE) != 0,
        .only_if_cached = (flags & ONLY_CACHED) != 0,
        .annotation = (flags & VETO) != 0        ? CP_ANNOTATION_VETO
                      : (flags & READ_ONLY) != 0 ? CP_ANNOTATION_READ_ONLY
                                                 : CP_ANNOTATION_NONE,
        .has_proof = (flags & PROOF) != 0,
        .body_is_plain = (flags & STRANGE_BODY) == 0,
        .hides_headers = (flags & HIDES) != 0,
        .has_session = (flags & NO_SESSION) == 0,
        .session_known = (flags & (UNKNOWN_SESSION | NO_SESSION)) == 0,
        .version = span_of(version),
    };
    cp_decide(s->policy, &s->message, &s->caller, &s->decision);
}

static void situation_done(struct situation *s)
{
    cp_json_done(&s->doc);
    cp_json_done(&s->answer_doc);
    cp_policy_unref(s->policy);
}

static const char *action_word(enum cp_action action)
{
    switch (action) {
    case CP_ACTION_BYPASS:
        return "bypass";
    case CP_ACTION_WRITE:
        return "write";
    case CP_ACTION_LOOKUP:
        return "lookup";
    }
    return "?";
}

static void assert_decision(const char *policy, const char *body, unsigned flags, const char *version, enum cp_action action,
                            enum cp_reason reason)
{
    struct situation s;

    decide(&s, policy, body, flags, version);
    if (s.decision.action != action || s.decision.reason != reason)
        fail_msg("%s (flags %#x, %s): got %s %s, expected %s %s", body, flags, version, action_word(s.decision.action),
                 cp_reason_word(s.decision.reason), action_word(action), cp_reason_word(reason));
    situation_done(&s);
}

#define LOOKUP         CP_ACTION_LOOKUP, CP_REASON_NONE
#define WRITE          CP_ACTION_WRITE, CP_REASON_WRITE
#define BYPASS(reason) CP_ACTION_BYPASS, CP_REASON_##reason

static void what_may_be_looked_up(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        unsigned flags;
        enum cp_action action;
        enum cp_reason reason;
    } rows[] = {
        {LIST, 0, LOOKUP},
        {DISCOVER, 0, LOOKUP},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"prompts/list\",\"params\":{" META "}}", 0, LOOKUP},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/list\",\"params\":{" META "}}", 0, LOOKUP},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/templates/list\",\"params\":{" META "}}", 0, LOOKUP},
        {READ("x://y"), 0, LOOKUP},
        {READ("cap://y"), 0, LOOKUP},
        {CALL("read"), 0, LOOKUP},
        {CALL("all"), 0, LOOKUP},
        /* not one request */
        {"nonsense", 0, BYPASS(OPAQUE)},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"set\",\"name\":\"read\"," META "}}", 0,
         BYPASS(OPAQUE)}, /* 19 */
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"tools/call\",\"params\":{\"name\":\"read\"," META "}}", 0,
         BYPASS(OPAQUE)}, /* 3 */
        {"[" LIST "]", 0, BYPASS(BATCH)},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"params\":{\"name\":\"read\"," META "}}", 0, BYPASS(METHOD)}, /* 3 */
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", 0, BYPASS(METHOD)},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":7," META "}}", 0, BYPASS(MALFORMED)},
        /* methods */
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"prompts/get\",\"params\":{\"name\":\"read\"," META "}}", 0, BYPASS(METHOD)},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tasks/get\",\"params\":{\"taskId\":\"t\"," META "}}", 0,
         BYPASS(METHOD)}, /* 5 */
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"TOOLS/LIST\",\"params\":{" META "}}", 0, BYPASS(METHOD)},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscriptions/listen\",\"params\":{" META "}}", 0, BYPASS(METHOD)},
        /* writes */
        {CALL("set_x"), 0, WRITE},
        {CALL("unheard_of"), 0, CP_ACTION_WRITE, CP_REASON_UNLISTED},
        {CALL("Read"), 0, CP_ACTION_WRITE, CP_REASON_UNLISTED},
        {CALL("off"), 0, BYPASS(OFF)},
        /* legs and tasks */
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/read\",\"params\":{\"uri\":\"x://y\",\"inputResponses\":{}," META
         "}}",
         0, BYPASS(CONTINUATION)}, /* 7 */
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"read\",\"requestState\":\"s\"," META "}}",
         0, BYPASS(CONTINUATION)},
        /* lifetime */
        {READ("off://y"), 0, BYPASS(OFF)},
        {CALL("watched"), 0, BYPASS(OBSERVE)},
        /* headers, in their order */
        {CALL("read"), EVERYTHING, BYPASS(MEDIA_TYPE)},
        {LIST, STRANGE_BODY, BYPASS(MEDIA_TYPE)},
        {CALL("read"), EVERYTHING & ~STRANGE_BODY, BYPASS(CONNECTION)},
        {CALL("read"), EVERYTHING & ~STRANGE_BODY & ~HIDES, BYPASS(ACCEPT)}, /* 73 */
        {CALL("read"), BAD_ORIGIN | WANTS_UPSTREAM | PROOF | ANONYMOUS, BYPASS(ORIGIN)},
        {CALL("read"), WANTS_UPSTREAM | PROOF | ANONYMOUS, BYPASS(PROOF)},
        {CALL("read"), PROOF | ANONYMOUS, BYPASS(PROOF)}, /* 59 */
        {CALL("read"), ANONYMOUS, BYPASS(ANONYMOUS)},
        {CALL("stubborn"), WANTS_UPSTREAM, LOOKUP},
        {LIST, WANTS_UPSTREAM, BYPASS(CLIENT_CONTROL)},
        /* a session means nothing in the modern era (24) */
        {CALL("all"), UNKNOWN_SESSION, LOOKUP},
        {CALL("mine"), UNKNOWN_SESSION, LOOKUP},
        /* nobody may share what is public, and what may turn out to be */
        {CALL("all"), ANONYMOUS, LOOKUP},
        {LIST, ANONYMOUS, LOOKUP},
        {READ("mine://y"), ANONYMOUS, BYPASS(ANONYMOUS)},
        {CALL("mine"), ANONYMOUS, BYPASS(ANONYMOUS)},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_decision(rules, rows[i].body, rows[i].flags, "2025-11-25", rows[i].action, rows[i].reason);
}

/* A write with the wrong Accept, without its mirror headers, of an unknown version or in an observing policy is still a write. */
static void a_write_is_a_write_whatever_the_headers_say(void **state)
{
    (void)state;
    char observing[sizeof(rules) + 32];

    snprintf(observing, sizeof(observing), "%smode: observe\n", rules);
    for (unsigned flags = 0; flags <= EVERYTHING; flags++) {
        assert_decision(rules, CALL("set_x"), flags, "2025-11-25", WRITE);
        assert_decision(rules, CALL("unheard_of"), flags, "2025-11-25", CP_ACTION_WRITE, CP_REASON_UNLISTED);
        assert_decision(rules, OLD_CALL("set_x"), flags, "1999-01-01", WRITE);
    }
    assert_decision(observing, CALL("set_x"), 0, "2025-11-25", WRITE);
    assert_decision(
        rules,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"set\",\"requestState\":\"s\",\"_meta\":"
        "{\"io.modelcontextprotocol/protocolVersion\":\"2099-01-01\"}}}",
        0, "2025-11-25", WRITE);
    /* Neutral tools are no writes, by their rule or by default. */
    assert_decision("version: 1\ndefaults: { unlisted_tools: neutral }\n", CALL("unheard_of"), EVERYTHING, "2025-11-25",
                    BYPASS(NO_RULE));
    assert_decision("version: 1\ndefaults: { unlisted_tools: neutral }\ntools: [{ name: unheard_of, class: write }]\n",
                    CALL("unheard_of"), EVERYTHING, "2025-11-25", WRITE);
}

static void annotations_only_take_away(void **state)
{
    (void)state;
    static const struct {
        const char *policy, *body;
        unsigned flags;
        enum cp_action action;
        enum cp_reason reason;
    } rows[] = {
        {rules, CALL("read"), VETO, CP_ACTION_WRITE, CP_REASON_ANNOTATION}, /* 63 */
        {rules, OLD_CALL("read"), VETO, CP_ACTION_WRITE, CP_REASON_ANNOTATION},
        {rules, CALL("all"), VETO | ANONYMOUS, CP_ACTION_WRITE, CP_REASON_ANNOTATION},
        {rules, CALL("watched"), VETO, CP_ACTION_WRITE, CP_REASON_ANNOTATION},
        {rules, CALL("read"), VETO | EVERYTHING, CP_ACTION_WRITE, CP_REASON_ANNOTATION},
        {rules, CALL("sure"), VETO, LOOKUP},
        {rules, CALL("sure"), READ_ONLY, LOOKUP},
        {rules, CALL("read"), READ_ONLY, LOOKUP},
        /* the operator's word for a tool that he names */
        {rules, CALL("set"), READ_ONLY, WRITE},
        {rules, CALL("set"), VETO, WRITE},
        {rules, CALL("off"), VETO, BYPASS(OFF)},
        {rules, CALL("off"), READ_ONLY, BYPASS(OFF)},
        /* and for all that he does not name */
        {rules, CALL("other"), 0, CP_ACTION_WRITE, CP_REASON_UNLISTED},
        {rules, CALL("other"), READ_ONLY, BYPASS(NO_RULE)},
        {rules, OLD_CALL("other"), READ_ONLY, BYPASS(NO_RULE)},
        {rules, CALL("other"), VETO, CP_ACTION_WRITE, CP_REASON_UNLISTED},
        {"version: 1\ndefaults: { unlisted_tools: neutral }\n", CALL("other"), 0, BYPASS(NO_RULE)},
        {"version: 1\ndefaults: { unlisted_tools: neutral }\n", CALL("other"), READ_ONLY, BYPASS(NO_RULE)},
        {"version: 1\ndefaults: { unlisted_tools: neutral }\n", CALL("other"), VETO, CP_ACTION_WRITE, CP_REASON_ANNOTATION},
        /* nothing else has annotations */
        {rules, LIST, VETO, LOOKUP},
        {rules, READ("x://y"), VETO, LOOKUP},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_decision(rows[i].policy, rows[i].body, rows[i].flags, "2025-11-25", rows[i].action, rows[i].reason);
}

static void the_client_may_ask_past_the_store(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        unsigned flags;
        enum cp_action action;
        enum cp_reason reason;
        bool may_store, only_if_cached;
    } rows[] = {
        {CALL("read"), 0, LOOKUP, true, false},
        {CALL("read"), WANTS_UPSTREAM, BYPASS(CLIENT_CONTROL), true, false},
        {LIST, WANTS_UPSTREAM, BYPASS(CLIENT_CONTROL), true, false},
        {CALL("read"), ASKS_NO_STORE, BYPASS(CLIENT_CONTROL), false, false},
        {CALL("read"), ASKS_NO_STORE | WANTS_UPSTREAM, BYPASS(CLIENT_CONTROL), false, false},
        {CALL("read"), ONLY_CACHED, LOOKUP, true, true},
        {LIST, ONLY_CACHED, LOOKUP, true, true},
        /* nothing kept will do, and nothing else is allowed */
        {CALL("read"), ONLY_CACHED | WANTS_UPSTREAM, BYPASS(CLIENT_CONTROL), true, true},
        {CALL("read"), ONLY_CACHED | ASKS_NO_STORE, BYPASS(CLIENT_CONTROL), false, true},
        {CALL("read"), ONLY_CACHED | PROOF, BYPASS(PROOF), false, true},
        {CALL("mine"), ONLY_CACHED | ANONYMOUS, BYPASS(ANONYMOUS), false, true},
        /* a renewal is still a fetch that only this caller's credentials allow */
        {CALL("read"), WANTS_UPSTREAM | PROOF, BYPASS(PROOF), false, false},
        {CALL("mine"), WANTS_UPSTREAM | ANONYMOUS, BYPASS(ANONYMOUS), false, false},
        {CALL("all"), WANTS_UPSTREAM | ANONYMOUS, BYPASS(CLIENT_CONTROL), true, false},
        {OLD_CALL("all"), WANTS_UPSTREAM | UNKNOWN_SESSION, BYPASS(SESSION), false, false},
        {CALL("read"), WANTS_UPSTREAM | NO_JSON, BYPASS(ACCEPT), false, false},
        /* where the policy does not hear the client */
        {CALL("stubborn"), WANTS_UPSTREAM | ASKS_NO_STORE | ONLY_CACHED, LOOKUP, true, false},
        /* where nothing is ever kept, nobody is promised anything */
        {CALL("set"), ONLY_CACHED, WRITE, false, false},
        {CALL("other"), ONLY_CACHED, CP_ACTION_WRITE, CP_REASON_UNLISTED, false, false},
        {CALL("off"), ONLY_CACHED, BYPASS(OFF), false, false},
        {CALL("watched"), ONLY_CACHED, BYPASS(OBSERVE), false, false},
        {CALL("watched"), WANTS_UPSTREAM, BYPASS(OBSERVE), false, false},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", ONLY_CACHED, BYPASS(METHOD), false, false},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", ONLY_CACHED, BYPASS(METHOD), false, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct situation s;

        assert_decision(rules, rows[i].body, rows[i].flags, "2025-11-25", rows[i].action, rows[i].reason);
        decide(&s, rules, rows[i].body, rows[i].flags, "2025-11-25");
        if (s.decision.may_store != rows[i].may_store || s.decision.only_if_cached != rows[i].only_if_cached)
            fail_msg("%s (flags %#x): may store %d, only if cached %d", rows[i].body, rows[i].flags, s.decision.may_store,
                     s.decision.only_if_cached);
        situation_done(&s);
    }
}

#define MEMBERS(members) "{\"jsonrpc\":\"2.0\"," members "}"
#define ASK(method)      MEMBERS("\"id\":1,\"method\":\"" method "\",\"params\":{\"name\":\"n\",\"uri\":\"x://y\"," META "}")

static void what_may_write_is_stamped(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        unsigned flags;
        bool may_write;
    } rows[] = {
        {CALL("set"), 0, true},
        {CALL("other"), 0, true},
        {CALL("other"), READ_ONLY, false},
        {CALL("read"), 0, false},
        {CALL("read"), VETO, true},
        {CALL("sure"), VETO, false},
        {CALL("off"), 0, false},
        {CALL("watched"), 0, false},
        {OLD_CALL("set"), 0, true},
        {OLD_CALL("read"), 0, false},
        /* however it is asked */
        {CALL("set"), EVERYTHING, true},
        {CALL("read"), WANTS_UPSTREAM | ASKS_NO_STORE | PROOF | ANONYMOUS | NO_JSON | BAD_ORIGIN | HIDES, false},
        /* what the upstream may read differently */
        {CALL("read"), STRANGE_BODY, true},
        {LIST, STRANGE_BODY, true},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", STRANGE_BODY, true},
        /* malformed, but of a tool that is known */
        {MEMBERS("\"id\":1,\"x\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"read\"}"), 0, false},
        {MEMBERS("\"id\":1,\"x\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"off\"}"), 0, false},
        {MEMBERS("\"id\":1,\"x\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"set\"}"), 0, true},
        {MEMBERS("\"id\":1,\"x\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"other\"}"), 0, true},
        {MEMBERS("\"id\":1,\"x\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"other\"}"), READ_ONLY, false},
        {MEMBERS("\"id\":1,\"x\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"read\"}"), VETO, true},
        {MEMBERS("\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"read\",\"_meta\":7}"), 0, false},
        {MEMBERS("\"id\":1,\"x\":1,\"method\":\"tools/list\""), 0, false},
        {MEMBERS("\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":7}"), 0, true},
        {MEMBERS("\"id\":1,\"method\":\"tools/call\",\"params\":[\"read\"]"), 0, true},
        {MEMBERS("\"id\":1,\"method\":\"tools/call\""), 0, true},
        {MEMBERS("\"id\":null,\"method\":\"ping\""), 0, true},
        {"nonsense", 0, true},
        {"", 0, true},
        {"[]", 0, true},
        {"[" CALL("read") "]", 0, true},
        /* legs of a call that only reads */
        {MEMBERS("\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"read\",\"requestState\":\"s\"," META "}"), 0, false},
        {MEMBERS("\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"set\",\"requestState\":\"s\"," META "}"), 0, true},
        {MEMBERS("\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"set\",\"task\":{}}"), 0, true},
        /* methods */
        {ASK("tools/list"), 0, false},
        {ASK("prompts/list"), 0, false},
        {ASK("resources/list"), 0, false},
        {ASK("resources/templates/list"), 0, false},
        {ASK("resources/read"), 0, false},
        {ASK("resources/subscribe"), 0, false},
        {ASK("resources/unsubscribe"), 0, false},
        {ASK("prompts/get"), 0, false},
        {ASK("completion/complete"), 0, false},
        {ASK("ping"), 0, false},
        {ASK("initialize"), 0, false},
        {ASK("server/discover"), 0, false},
        {ASK("subscriptions/listen"), 0, false},
        {ASK("logging/setLevel"), 0, false},
        {ASK("tasks/get"), 0, true},
        {ASK("tasks/result"), 0, true},
        {ASK("tasks/update"), 0, true},
        {ASK("x/y"), 0, true},
        {ASK("Ping"), 0, true},
        {ASK("tools/call "), 0, true},
        {ASK("notifications/cancelled"), 0, true},
        {ASK("notifications/initialized"), 0, true},
        {MEMBERS("\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":1}"), 0, false},
        {MEMBERS("\"method\":\"notifications/x\""), 0, false},
        {MEMBERS("\"method\":\"tools/call\",\"params\":{\"name\":\"set\"}"), 0, false},
        {MEMBERS("\"id\":1,\"result\":{}"), 0, false},
        {MEMBERS("\"id\":1,\"error\":{\"code\":1}"), 0, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct situation s;

        decide(&s, rules, rows[i].body, rows[i].flags, "2025-11-25");
        if (cp_may_write(&s.message, &s.caller, &s.decision) != rows[i].may_write)
            fail_msg("%s (flags %#x): may write is not %d", rows[i].body, rows[i].flags, rows[i].may_write);
        situation_done(&s);
    }
}

/* Who purges what such a call names must know its rule, though nobody decides about the call. */
static void a_malformed_call_still_has_its_rule(void **state)
{
    struct situation s;

    (void)state;
    decide(&s, rules, MEMBERS("\"id\":1,\"x\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"set_x\"}"), 0, "2025-11-25");
    assert_int_equal(s.decision.reason, CP_REASON_MALFORMED);
    assert_non_null(s.decision.rule);
    assert_int_equal(s.decision.rule->kind, CP_TOOL_WRITE);
    situation_done(&s);
    decide(&s, rules, MEMBERS("\"id\":1,\"x\":1,\"method\":\"prompts/get\",\"params\":{\"name\":\"set_x\"}"), 0, "2025-11-25");
    assert_null(s.decision.rule);
    situation_done(&s);
}

static void only_known_versions_are_looked_up(void **state)
{
    (void)state;
#define OF_VERSION(v)                                                                                                              \
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/"                    \
    "protocolVersion\":\"" v "\"}}}"
    assert_decision(rules, OF_VERSION("2026-07-28"), 0, "", LOOKUP);
    assert_decision(rules, OF_VERSION("2027-01-01"), 0, "", BYPASS(VERSION)); /* 71 */
    assert_decision(rules, OF_VERSION("2025-11-25"), 0, "", BYPASS(VERSION));
    assert_decision(rules, OF_VERSION("2026-07-28 "), 0, "", BYPASS(VERSION));
    assert_decision(rules, OF_VERSION(""), 0, "", BYPASS(VERSION));

    static const struct {
        const char *version;
        bool is_known;
    } rows[] = {
        {"2025-03-26", true}, {"2025-06-18", true},  {"2025-11-25", true}, {"2024-11-05", false},
        {"", false},          {"2026-07-28", false}, {"DRAFT", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_decision(rules, OLD_CALL("read"), 0, rows[i].version, rows[i].is_known ? CP_ACTION_LOOKUP : CP_ACTION_BYPASS,
                        rows[i].is_known ? CP_REASON_NONE : CP_REASON_VERSION);
}

static void the_legacy_era_has_no_hints_and_has_sessions(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        unsigned flags;
        enum cp_action action;
        enum cp_reason reason;
    } rows[] = {
        {OLD_LIST, 0, BYPASS(NO_TTL)},
        {OLD_READ("x://y"), 0, BYPASS(NO_TTL)},
        {OLD_READ("session://y"), 0, BYPASS(NO_TTL)},
        {OLD_READ("cap://y"), 0, LOOKUP},
        {OLD_READ("own://y"), 0, LOOKUP},
        {OLD_CALL("read"), 0, LOOKUP},
        {OLD_CALL("read"), UNKNOWN_SESSION, LOOKUP},
        {OLD_CALL("read"), NO_SESSION, LOOKUP},
        {OLD_CALL("mine"), 0, LOOKUP},
        {OLD_CALL("mine"), UNKNOWN_SESSION, BYPASS(SESSION)},
        {OLD_CALL("all"), UNKNOWN_SESSION, BYPASS(SESSION)},
        {OLD_READ("all://y"), UNKNOWN_SESSION, BYPASS(SESSION)},
        {OLD_CALL("all"), NO_SESSION, LOOKUP},
        {OLD_CALL("all"), ANONYMOUS, LOOKUP},
        {OLD_CALL("read"), ANONYMOUS, BYPASS(ANONYMOUS)}, /* a session id is no credential */
        {OLD_CALL("set"), UNKNOWN_SESSION, WRITE},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"read\",\"task\":{}}}", 0,
         BYPASS(TASK)}, /* 6 */
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server/discover\"}", 0, BYPASS(METHOD)},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{}}", 0, BYPASS(METHOD)},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", 0, BYPASS(METHOD)},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_decision(rules, rows[i].body, rows[i].flags, "2025-11-25", rows[i].action, rows[i].reason);
    assert_decision("version: 1\ndefaults: { lists: 5s }\n", OLD_LIST, 0, "2025-03-26", LOOKUP);
    assert_decision("version: 1\ndefaults: { lists: off, resources: 5s }\n", OLD_LIST, 0, "2025-03-26", BYPASS(OFF));
    assert_decision("version: 1\ndefaults: { lists: off, resources: 5s }\n", OLD_READ("x://y"), 0, "2025-03-26", LOOKUP);
    assert_decision("version: 1\nmode: observe\n", LIST, 0, "", BYPASS(OBSERVE));
    assert_decision("version: 1\nmode: observe\ndefaults: { lists: off }\n", LIST, 0, "", BYPASS(OFF));
    assert_decision("version: 1\nidentity: { anonymous: shared }\ntools: [{ name: read, ttl: 1s }]\n", CALL("read"), ANONYMOUS, "",
                    LOOKUP);
}

static void scopes_follow_era_and_rule(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum cp_scope private_scope;
        bool may_public, hint_counts;
    } rows[] = {
        {LIST, CP_SCOPE_PRINCIPAL, true, true},
        {DISCOVER, CP_SCOPE_PRINCIPAL, true, true},
        {READ("x://y"), CP_SCOPE_PRINCIPAL, true, true},
        {READ("all://y"), CP_SCOPE_PRINCIPAL, true, true},
        {READ("mine://y"), CP_SCOPE_PRINCIPAL, false, true},
        {READ("session://y"), CP_SCOPE_PRINCIPAL, false, true},
        {CALL("read"), CP_SCOPE_PRINCIPAL, false, false},
        {CALL("mine"), CP_SCOPE_PRINCIPAL, false, false},
        {CALL("all"), CP_SCOPE_PRINCIPAL, true, false},
        {OLD_READ("cap://y"), CP_SCOPE_SESSION, false, false},
        {OLD_READ("all://y"), CP_SCOPE_SESSION, true, false},
        {OLD_READ("mine://y"), CP_SCOPE_PRINCIPAL, false, false},
        {OLD_CALL("read"), CP_SCOPE_SESSION, false, false},
        {OLD_CALL("mine"), CP_SCOPE_PRINCIPAL, false, false},
        {OLD_CALL("all"), CP_SCOPE_SESSION, true, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned flags = 0; flags <= ANONYMOUS; flags += ANONYMOUS) {
            struct situation s;
            decide(&s, rules, rows[i].body, flags, "2025-06-18");
            if (s.decision.may_public != rows[i].may_public || s.decision.private_scope != rows[i].private_scope ||
                s.decision.hint_counts != rows[i].hint_counts || s.decision.may_private != (flags == 0))
                fail_msg("%s (flags %u): public %d, private %d in %d, hint %d", rows[i].body, flags, s.decision.may_public,
                         s.decision.may_private, s.decision.private_scope, s.decision.hint_counts);
            situation_done(&s);
        }
    }
    struct situation s;
    decide(&s, "version: 1\ndefaults: { lists: 5s }\n", OLD_LIST, 0, "2025-06-18");
    assert_false(s.decision.may_public);
    assert_int_equal(s.decision.private_scope, CP_SCOPE_SESSION);
    situation_done(&s);
}

/* ---- after the reply ------------------------------------------------------------------------------------------------------ */

/* What differs from 200, application/json, no header of interest. */
enum {
    EVENTS = 1 << 0,
    ENCODED = 1 << 1,
    COOKIE = 1 << 2,
    NO_STORE = 1 << 3,
    PRIVATE = 1 << 4,
    VARY = 1 << 5,
    ASKED = 1 << 6,
    OTHER_TYPE = 1 << 7,
    NOT_200 = 1 << 8,
};

static struct cp_storing store(struct situation *s, unsigned flags, const char *reply_text)
{
    struct cp_answer answer;
    struct cp_storing storing;

    cp_answer_parse(&answer, &s->answer_doc, span_of(reply_text));
    struct cp_reply reply = {
        .status = (flags & NOT_200) != 0 ? 202 : 200,
        .is_json = (flags & (EVENTS | OTHER_TYPE)) == 0,
        .is_events = (flags & EVENTS) != 0,
        .is_encoded = (flags & ENCODED) != 0,
        .sets_cookie = (flags & COOKIE) != 0,
        .no_store = (flags & NO_STORE) != 0,
        .is_private = (flags & PRIVATE) != 0,
        .vary_unkeyed = (flags & VARY) != 0,
        .server_asked = (flags & ASKED) != 0,
        .id_matches = cp_answer_is_to(&answer, s->message.id),
    };
    cp_decide_store(&s->decision, &s->message, &reply, &answer, &storing);
    return storing;
}

#define RESULT(members)     "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"complete\"" members "}}"
#define OLD_RESULT(members) "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[]" members "}}"

static void what_may_be_stored(void **state)
{
    (void)state;
    static const struct {
        const char *body, *reply;
        unsigned flags, caller_flags;
        enum cp_reason reason; /* NONE: stored */
        enum cp_scope scope;
    } rows[] = {
        /* tools */
        {CALL("read"), RESULT(""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {CALL("read"), RESULT(""), EVENTS, 0, CP_REASON_NONE,
         CP_SCOPE_PRINCIPAL}, /* 62: no-cache of an event stream is not no-store */
        {CALL("read"), RESULT(",\"isError\":false"), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {CALL("read"), RESULT(",\"cacheScope\":\"public\",\"ttlMs\":1"), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {CALL("all"), RESULT(""), 0, 0, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {CALL("all"), RESULT(""), 0, ANONYMOUS, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {CALL("all"), RESULT(""), PRIVATE, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {CALL("all"), RESULT(",\"cacheScope\":\"private\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {CALL("all"), RESULT(",\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {CALL("all"), RESULT(""), PRIVATE, ANONYMOUS, CP_REASON_ANONYMOUS, 0},
        /* HTTP */
        {CALL("read"), RESULT(""), NOT_200, 0, CP_REASON_STATUS, 0},
        {CALL("read"), RESULT(""), OTHER_TYPE, 0, CP_REASON_TYPE, 0},
        {CALL("read"), RESULT(""), ENCODED, 0, CP_REASON_ENCODING, 0},
        {CALL("read"), RESULT(""), COOKIE, 0, CP_REASON_SET_COOKIE, 0}, /* 61 */
        {CALL("read"), RESULT(""), NO_STORE, 0, CP_REASON_NO_STORE, 0}, /* 62 */
        {CALL("read"), RESULT(""), VARY, 0, CP_REASON_VARY, 0},
        {CALL("read"), RESULT(""), ASKED, 0, CP_REASON_SERVER_REQUEST, 0},
        /* the message */
        {CALL("read"), "", 0, 0, CP_REASON_UNREADABLE, 0},
        {CALL("read"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{", 0, 0, CP_REASON_UNREADABLE, 0},
        {CALL("read"), "[" RESULT("") "]", 0, 0, CP_REASON_UNREADABLE, 0},
        {CALL("read"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", 0, 0, CP_REASON_UNREADABLE, 0},
        {CALL("read"), "{\"jsonrpc\":\"2.0\",\"id\":1}", 0, 0, CP_REASON_UNREADABLE, 0},
        {CALL("read"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602,\"message\":\"no\"}}", 0, 0, CP_REASON_RPC_ERROR,
         0},
        {CALL("read"), "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"resultType\":\"complete\"}}", 0, 0, CP_REASON_WRONG_ID, 0},
        {CALL("read"), "{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{\"resultType\":\"complete\"}}", 0, 0, CP_REASON_WRONG_ID, 0},
        {CALL("read"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}", 0, 0, CP_REASON_RESULT_TYPE, 0},
        {CALL("read"), RESULT(",\"isError\":true"), 0, 0, CP_REASON_IS_ERROR, 0}, /* 9 */
        {CALL("read"), OLD_RESULT(""), 0, 0, CP_REASON_RESULT_TYPE, 0},           /* 10 */
        {CALL("read"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"x-foo\"}}", 0, 0, CP_REASON_RESULT_TYPE, 0},
        {CALL("read"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"task\",\"taskId\":\"t\",\"ttlMs\":60000}}", 0, 0,
         CP_REASON_RESULT_TYPE, 0}, /* 4 */
        {READ("x://y"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"input_required\",\"ttlMs\":60000}}", 0, 0,
         CP_REASON_RESULT_TYPE, 0},                                                                      /* 7 */
        {READ("x://y"), RESULT(",\"ttlMs\":60000,\"requestState\":\"s\""), 0, 0, CP_REASON_EXCHANGE, 0}, /* 8 */
        {CALL("read"), RESULT(",\"_meta\":{\"cache_hint\":\"no-cache\"}"), 0, 0, CP_REASON_NO_STORE, 0},
        /* hints */
        {LIST, RESULT(",\"ttlMs\":1000,\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {LIST, RESULT(",\"ttlMs\":1000,\"cacheScope\":\"public\""), 0, ANONYMOUS, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {LIST, RESULT(",\"ttlMs\":1000,\"cacheScope\":\"public\""), PRIVATE, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {LIST, RESULT(",\"ttlMs\":1000,\"cacheScope\":\"private\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {LIST, RESULT(",\"ttlMs\":1000,\"cacheScope\":\"private\""), 0, ANONYMOUS, CP_REASON_ANONYMOUS, 0},
        {LIST, RESULT(",\"ttlMs\":1000,\"cacheScope\":\"Public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL}, /* 13 */
        {LIST, RESULT(",\"ttlMs\":1000,\"cacheScope\":7"), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {LIST, RESULT(",\"ttlMs\":1000"), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {LIST, RESULT(",\"cacheScope\":\"public\""), 0, 0, CP_REASON_NO_TTL, 0},
        {LIST, RESULT(",\"ttlMs\":0,\"cacheScope\":\"public\""), 0, 0, CP_REASON_NO_TTL, 0},
        {LIST, RESULT(",\"ttlMs\":-1"), 0, 0, CP_REASON_NO_TTL, 0},
        {LIST, RESULT(",\"ttlMs\":\"60000\""), 0, 0, CP_REASON_NO_TTL, 0},
        {LIST, RESULT(",\"ttlMs\":1.5"), 0, 0, CP_REASON_NO_TTL, 0},
        {LIST, RESULT(",\"ttlMs\":null"), 0, 0, CP_REASON_NO_TTL, 0},
        {READ("cap://y"), RESULT(""), 0, 0, CP_REASON_NO_TTL, 0}, /* a cap is no lifetime where hints exist */
        {READ("cap://y"), RESULT(",\"ttlMs\":99999,\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {READ("all://y"), RESULT(",\"ttlMs\":5,\"cacheScope\":\"private\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {READ("all://y"), RESULT(",\"ttlMs\":5"), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {READ("mine://y"), RESULT(",\"ttlMs\":5,\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {READ("session://y"), RESULT(",\"ttlMs\":5,\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        /* 15: "public" beside ttlMs 0 is not meant, unless the operator means it */
        {READ("own://y"), RESULT(",\"ttlMs\":0,\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {READ("own://y"), RESULT(",\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {READ("own://y"), RESULT(",\"ttlMs\":1,\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {READ("ownall://y"), RESULT(",\"ttlMs\":0,\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {READ("ownall://y"), RESULT(",\"ttlMs\":0,\"cacheScope\":\"private\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        /* legacy: hints mean nothing (69) */
        {OLD_CALL("read"), OLD_RESULT(""), 0, 0, CP_REASON_NONE, CP_SCOPE_SESSION},
        {OLD_CALL("read"), RESULT(""), 0, 0, CP_REASON_NONE, CP_SCOPE_SESSION},
        {OLD_CALL("read"), OLD_RESULT(",\"resultType\":\"task\""), 0, 0, CP_REASON_RESULT_TYPE, 0},
        {OLD_CALL("read"), OLD_RESULT(",\"task\":{\"taskId\":\"t\"}"), 0, 0, CP_REASON_EXCHANGE, 0}, /* 6 */
        {OLD_CALL("mine"), OLD_RESULT(""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {OLD_CALL("all"), OLD_RESULT(""), 0, 0, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {OLD_CALL("all"), OLD_RESULT(""), PRIVATE, 0, CP_REASON_NONE, CP_SCOPE_SESSION},
        {OLD_READ("cap://y"), OLD_RESULT(",\"ttlMs\":0,\"cacheScope\":\"public\""), 0, 0, CP_REASON_NONE, CP_SCOPE_SESSION},
        {OLD_READ("all://y"), OLD_RESULT(",\"ttlMs\":0,\"cacheScope\":\"private\""), 0, 0, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {OLD_READ("mine://y"), OLD_RESULT(""), 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        /* what was not looked up is not stored, for the same reason */
        {CALL("set"), RESULT(""), 0, 0, CP_REASON_WRITE, CP_SCOPE_SESSION},
        {CALL("read"), RESULT(""), 0, PROOF, CP_REASON_PROOF, 0},
        {CALL("watched"), RESULT(""), 0, 0, CP_REASON_OBSERVE, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct situation s;
        decide(&s, rules, rows[i].body, rows[i].caller_flags, "2025-11-25");
        struct cp_storing storing = store(&s, rows[i].flags, rows[i].reply);
        bool expected = rows[i].reason == CP_REASON_NONE && s.decision.action == CP_ACTION_LOOKUP;
        if (storing.store != expected || storing.reason != rows[i].reason || (expected && storing.scope != rows[i].scope))
            fail_msg("%s -> %s: stored %d (%s) in scope %d; expected %d (%s) in %d", rows[i].body, rows[i].reply, storing.store,
                     cp_reason_word(storing.reason), storing.scope, expected, cp_reason_word(rows[i].reason), rows[i].scope);
        situation_done(&s);
    }
}

static void errors_are_kept_shortly_and_privately(void **state)
{
    (void)state;
#define SORRY     RESULT(",\"isError\":true")
#define OLD_SORRY OLD_RESULT(",\"isError\":true")
    static const struct {
        const char *body, *reply;
        unsigned flags, caller_flags;
        enum cp_reason reason;
        enum cp_scope scope;
    } rows[] = {
        {CALL("sorry"), SORRY, 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {CALL("sorryall"), SORRY, 0, 0, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {OLD_CALL("sorry"), OLD_SORRY, 0, 0, CP_REASON_NONE, CP_SCOPE_SESSION},
        {OLD_CALL("sorryall"), OLD_SORRY, 0, 0, CP_REASON_NONE, CP_SCOPE_SESSION},
        {CALL("sorryall"), SORRY, 0, ANONYMOUS, CP_REASON_ANONYMOUS, 0},
        {CALL("sorry"), SORRY, 0, WANTS_UPSTREAM, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {CALL("read"), SORRY, 0, 0, CP_REASON_IS_ERROR, 0},
        {READ("own://y"), SORRY, 0, 0, CP_REASON_IS_ERROR, 0},
        /* all else that is said against keeping it still counts */
        {CALL("sorry"), SORRY, ASKED, 0, CP_REASON_SERVER_REQUEST, 0},
        {CALL("sorry"), SORRY, COOKIE, 0, CP_REASON_SET_COOKIE, 0},
        {CALL("sorry"), OLD_SORRY, 0, 0, CP_REASON_RESULT_TYPE, 0},
        {CALL("sorry"), RESULT(",\"isError\":true,\"taskId\":\"t\""), 0, 0, CP_REASON_EXCHANGE, 0},
        {CALL("sorry"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602,\"message\":\"no\"}}", 0, 0, CP_REASON_RPC_ERROR,
         0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct situation s;
        decide(&s, rules, rows[i].body, rows[i].caller_flags, "2025-11-25");
        struct cp_storing storing = store(&s, rows[i].flags, rows[i].reply);
        bool expected = rows[i].reason == CP_REASON_NONE;
        if (storing.store != expected || storing.reason != rows[i].reason || (expected && storing.scope != rows[i].scope) ||
            (expected && (!storing.is_negative || cp_retention_of(&s.decision, &storing) != 2000)))
            fail_msg("%s -> %s: stored %d (%s) in scope %d, negative %d; expected (%s)", rows[i].body, rows[i].reply, storing.store,
                     cp_reason_word(storing.reason), storing.scope, storing.is_negative, cp_reason_word(rows[i].reason));
        situation_done(&s);
    }
    /* a good result of the same tool is a good result */
    struct situation s;
    decide(&s, rules, CALL("sorryall"), 0, "2025-11-25");
    struct cp_storing storing = store(&s, 0, RESULT(",\"isError\":false"));
    assert_true(storing.store && !storing.is_negative && storing.scope == CP_SCOPE_PUBLIC);
    assert_int_equal(cp_retention_of(&s.decision, &storing), 10000);
    situation_done(&s);
    decide(&s, rules, CALL("sorry"), 0, "2025-11-25");
    storing = store(&s, 0, RESULT(""));
    assert_int_equal(cp_retention_of(&s.decision, &storing), 19000);
    situation_done(&s);
}

/* no-cache renews what is kept, no-store keeps nothing. */
static void who_asks_past_the_store_renews_it(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        unsigned flags;
        enum cp_reason reason;
        enum cp_scope scope;
    } rows[] = {
        {CALL("read"), WANTS_UPSTREAM, CP_REASON_NONE, CP_SCOPE_PRINCIPAL},
        {CALL("all"), WANTS_UPSTREAM, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {CALL("all"), WANTS_UPSTREAM | ANONYMOUS, CP_REASON_NONE, CP_SCOPE_PUBLIC},
        {CALL("read"), ASKS_NO_STORE, CP_REASON_CLIENT_CONTROL, 0},
        {CALL("read"), ASKS_NO_STORE | WANTS_UPSTREAM, CP_REASON_CLIENT_CONTROL, 0},
        {CALL("read"), WANTS_UPSTREAM | PROOF, CP_REASON_PROOF, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct situation s;
        decide(&s, rules, rows[i].body, rows[i].flags, "2025-11-25");
        struct cp_storing storing = store(&s, 0, RESULT(""));
        bool expected = rows[i].reason == CP_REASON_NONE;
        if (storing.store != expected || storing.reason != rows[i].reason || (expected && storing.scope != rows[i].scope))
            fail_msg("%s (flags %#x): stored %d (%s) in scope %d", rows[i].body, rows[i].flags, storing.store,
                     cp_reason_word(storing.reason), storing.scope);
        situation_done(&s);
    }
}

static void hints_are_kept_only_where_they_count(void **state)
{
    (void)state;
    static const struct {
        const char *body, *reply;
        bool has_hint;
        int64_t hint_ttl_ms;
    } rows[] = {
        {LIST, RESULT(",\"ttlMs\":60000"), true, 60000},
        {LIST, RESULT(",\"ttlMs\":1e30"), true, CP_TTL_MAX_MS}, /* 13 */
        {READ("cap://y"), RESULT(",\"ttlMs\":60000"), true, 60000},
        {READ("own://y"), RESULT(",\"ttlMs\":0"), true, 0},
        {READ("own://y"), RESULT(""), false, 0},
        {CALL("read"), RESULT(",\"ttlMs\":60000"), false, 0},
        {OLD_CALL("read"), OLD_RESULT(",\"ttlMs\":60000"), false, 0},
        {OLD_READ("cap://y"), OLD_RESULT(",\"ttlMs\":60000"), false, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct situation s;
        decide(&s, rules, rows[i].body, 0, "2025-11-25");
        struct cp_storing storing = store(&s, 0, rows[i].reply);
        if (!storing.store || storing.has_hint != rows[i].has_hint || storing.hint_ttl_ms != rows[i].hint_ttl_ms)
            fail_msg("%s -> %s: stored %d, hint %d %lld", rows[i].body, rows[i].reply, storing.store, storing.has_hint,
                     (long long)storing.hint_ttl_ms);
        situation_done(&s);
    }
}

/* ---- time ----------------------------------------------------------------------------------------------------------------- */

static void lifetimes_follow_the_mode(void **state)
{
    (void)state;
    static const struct {
        enum cp_ttl_mode mode;
        bool hint_counts, has_hint;
        int64_t ttl_ms, hint_ms, expected;
    } rows[] = {
        {CP_TTL_OFF, true, true, 10, 20, 0},
        {CP_TTL_HINT, true, true, 10, 20, 20},
        {CP_TTL_HINT, true, false, 10, 20, 0},
        {CP_TTL_HINT, true, true, 10, -5, 0},
        {CP_TTL_HINT, true, true, 10, INT64_MAX, CP_TTL_MAX_MS},
        {CP_TTL_HINT, false, true, 10, 20, 0},
        {CP_TTL_CAP, true, true, 10, 20, 10},
        {CP_TTL_CAP, true, true, 10, 5, 5},
        {CP_TTL_CAP, true, false, 10, 20, 0},
        {CP_TTL_CAP, false, false, 10, 0, 10},
        {CP_TTL_POLICY, true, true, 10, 0, 10},
        {CP_TTL_POLICY, true, true, 10, 99, 10},
        {CP_TTL_POLICY, false, false, 10, 0, 10},
        {CP_TTL_POLICY, false, false, INT64_MAX, 0, CP_TTL_MAX_MS},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_decision d = {
            .ttl_mode = rows[i].mode, .hint_counts = rows[i].hint_counts, .lifetime = {.ttl_ms = rows[i].ttl_ms}};
        int64_t got = cp_lifetime_of(&d, rows[i].has_hint, rows[i].hint_ms);
        if (got != rows[i].expected)
            fail_msg("row %zu: %lld", i, (long long)got);
    }
}

static void ages_are_honest(void **state)
{
    (void)state;
    static const struct {
        int64_t ttl_ms, grace_ms, hint_ms, stored_at_ms, now_ms;
        enum cp_freshness freshness;
        int64_t age_ms, remaining_ms, hint_remaining_ms;
    } rows[] = {
        {60000, 0, 60000, 1000, 46000, CP_FRESH, 45000, 15000, 15000}, /* 14 */
        {60000, 0, 60000, 1000, 1000, CP_FRESH, 0, 60000, 60000},
        {60000, 0, 60000, 1000, 60999, CP_FRESH, 59999, 1, 1},
        {60000, 0, 60000, 1000, 61000, CP_DEAD, 60000, 0, 0},
        {60000, 5, 60000, 1000, 61000, CP_STALE, 60000, 0, 0},
        {60000, 5, 60000, 1000, 61004, CP_STALE, 60004, -4, 0},
        {60000, 5, 60000, 1000, 61005, CP_DEAD, 60005, -5, 0},
        /* the hint outlives the policy's ttl, and the other way round */
        {10000, 5000, 60000, 0, 9000, CP_FRESH, 9000, 1000, 51000},
        {10000, 5000, 60000, 0, 11000, CP_STALE, 11000, -1000, 0},
        {60000, 0, 10000, 0, 20000, CP_FRESH, 20000, 40000, 0},
        /* a clock that went back, and a rotten stamp */
        {60000, 0, 60000, 5000, 1000, CP_FRESH, 0, 60000, 60000},
        {60000, 60000, 60000, INT64_MIN, 1000, CP_DEAD, INT64_MAX, 60000 - INT64_MAX, 0},
        {0, 60000, 60000, 0, 0, CP_DEAD, 0, 0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_decision d = {
            .ttl_mode = CP_TTL_POLICY, .hint_counts = true, .lifetime = {.ttl_ms = rows[i].ttl_ms, .grace_ms = rows[i].grace_ms}};
        struct cp_age age;
        cp_age_of(&d, &(struct cp_key){.digest = {0}},
                  &(struct cp_stored){.has_hint = true, .hint_ttl_ms = rows[i].hint_ms, .stored_at_ms = rows[i].stored_at_ms},
                  rows[i].now_ms, &age);
        if (age.freshness != rows[i].freshness || age.age_ms != rows[i].age_ms || age.remaining_ms != rows[i].remaining_ms ||
            age.hint_remaining_ms != rows[i].hint_remaining_ms)
            fail_msg("row %zu: freshness %d, age %lld, remaining %lld, hint %lld", i, age.freshness, (long long)age.age_ms,
                     (long long)age.remaining_ms, (long long)age.hint_remaining_ms);
    }
    struct cp_decision d = {.ttl_mode = CP_TTL_POLICY, .lifetime = {.ttl_ms = 10}};
    struct cp_age age;
    cp_age_of(&d, &(struct cp_key){.digest = {0}}, &(struct cp_stored){.hint_ttl_ms = 99}, 0, &age);
    assert_int_equal(age.hint_remaining_ms, 0);
}

/* A key whose share of the jitter is this, of 65535. */
static struct cp_key jittering(unsigned share)
{
    struct cp_key key = {.digest = {0}};

    key.digest[8] = (uint8_t)(share >> 8);
    key.digest[9] = (uint8_t)share;
    return key;
}

static struct cp_age age_of(const struct cp_decision *d, const struct cp_key *key, const struct cp_stored *entry, int64_t now_ms)
{
    struct cp_age age;

    cp_age_of(d, key, entry, now_ms, &age);
    return age;
}

static void what_is_past_its_end_may_stand_in_for_a_while(void **state)
{
    (void)state;
    static const struct cp_rule sorry = {.negative_ttl_ms = 2000}, content = {.negative_ttl_ms = 0},
                                greedy = {.negative_ttl_ms = INT64_MAX};
    static const struct {
        int64_t ttl_ms, grace_ms, stale_if_error_ms;
        int is_negative, is_soft_purged;
        const struct cp_rule *rule;
        int64_t now_ms;
        enum cp_freshness freshness;
        int may_stand_in;
        int64_t remaining_ms;
    } rows[] = {
        {100, 0, 0, false, false, NULL, 99, CP_FRESH, true, 1},
        {100, 0, 0, false, false, NULL, 100, CP_DEAD, false, 0},
        {100, 0, 50, false, false, NULL, 100, CP_STALE_IF_ERROR, true, 0},
        {100, 0, 50, false, false, NULL, 149, CP_STALE_IF_ERROR, true, -49},
        {100, 0, 50, false, false, NULL, 150, CP_DEAD, false, -50},
        {100, 20, 50, false, false, NULL, 119, CP_STALE, true, -19},
        {100, 20, 50, false, false, NULL, 120, CP_STALE_IF_ERROR, true, -20},
        {100, 50, 20, false, false, NULL, 149, CP_STALE, true, -49},
        {100, 50, 20, false, false, NULL, 150, CP_DEAD, false, -50},
        {0, 50, 50, false, false, NULL, 0, CP_DEAD, false, 0}, /* the policy in force keeps nothing */
        {100, CP_TTL_MAX_MS, 0, false, false, NULL, 99 + CP_TTL_MAX_MS, CP_STALE, true, 1 - CP_TTL_MAX_MS},
        {100, INT64_MAX, INT64_MAX, false, false, NULL, 100 + CP_TTL_MAX_MS, CP_DEAD, false, -CP_TTL_MAX_MS},
        {100, INT64_MAX, INT64_MAX, false, false, NULL, INT64_MAX, CP_DEAD, false, 100 - INT64_MAX},
        /* a soft purge takes freshness away, and nothing more */
        {100, 0, 0, false, true, NULL, 0, CP_DEAD, false, 0},
        {100, 50, 0, false, true, NULL, 0, CP_STALE, true, 0},
        {100, 50, 0, false, true, NULL, 149, CP_STALE, true, -49},
        {100, 50, 0, false, true, NULL, 150, CP_DEAD, false, -50},
        {100, 0, 50, false, true, NULL, 10, CP_STALE_IF_ERROR, true, 0},
        {100, 0, 50, false, true, NULL, 149, CP_STALE_IF_ERROR, true, -49},
        {100, 0, 50, false, true, NULL, 150, CP_DEAD, false, -50},
        /* an error has its own end, under the policy in force, and never stands in */
        {60000, 50, 50, true, false, &sorry, 1999, CP_FRESH, false, 1},
        {60000, 50, 50, true, false, &sorry, 2000, CP_DEAD, false, 0},
        {60000, 50, 50, true, true, &sorry, 0, CP_DEAD, false, 0},
        {60000, 50, 50, true, false, &content, 0, CP_DEAD, false, 0},
        {60000, 50, 50, true, false, NULL, 0, CP_DEAD, false, 0},
        {60000, 50, 50, true, false, &greedy, 4999, CP_FRESH, false, 1},
        {60000, 50, 50, true, false, &greedy, 5000, CP_DEAD, false, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_decision d = {.rule = rows[i].rule,
                                .ttl_mode = CP_TTL_POLICY,
                                .lifetime = {rows[i].ttl_ms, rows[i].grace_ms, rows[i].stale_if_error_ms}};
        struct cp_stored entry = {.is_negative = rows[i].is_negative, .is_soft_purged = rows[i].is_soft_purged};
        struct cp_key key = jittering(0);
        struct cp_age age = age_of(&d, &key, &entry, rows[i].now_ms);

        if (age.freshness != rows[i].freshness || age.may_stand_in != rows[i].may_stand_in ||
            age.remaining_ms != rows[i].remaining_ms || age.age_ms != rows[i].now_ms)
            fail_msg("row %zu: freshness %d, may stand in %d, remaining %lld", i, age.freshness, age.may_stand_in,
                     (long long)age.remaining_ms);
    }
    /* an error of a tool that is off now */
    struct cp_decision off = {.rule = &sorry, .ttl_mode = CP_TTL_OFF};
    struct cp_key key = jittering(0);
    assert_int_equal(age_of(&off, &key, &(struct cp_stored){.is_negative = true}, 0).freshness, CP_DEAD);
}

static void a_stale_answer_promises_nothing(void **state)
{
    struct cp_decision d = {.ttl_mode = CP_TTL_POLICY, .hint_counts = true, .lifetime = {1000, 1000, 5000}};
    struct cp_stored entry = {.has_hint = true, .hint_ttl_ms = 60000};
    struct cp_key key = jittering(0);

    (void)state;
    assert_int_equal(age_of(&d, &key, &entry, 999).hint_remaining_ms, 59001);
    assert_int_equal(age_of(&d, &key, &entry, 1000).hint_remaining_ms, 0);
    assert_int_equal(age_of(&d, &key, &entry, 2000).hint_remaining_ms, 0);
    entry.is_soft_purged = true;
    assert_int_equal(age_of(&d, &key, &entry, 0).hint_remaining_ms, 0);
}

static void jitter_only_takes_away(void **state)
{
    (void)state;
    static const struct {
        unsigned share;
        int64_t ttl_ms, lifetime_ms;
    } rows[] = {
        {0, 60000, 60000}, {65535, 60000, 54000}, {32768, 60000, 57000}, /* half of 10 %, to the millisecond below */
        {65535, 1, 1},     {65535, 9, 9},         {65535, 10, 9},        {65535, CP_TTL_MAX_MS, CP_TTL_MAX_MS - CP_TTL_MAX_MS / 10},
        {1, 60000, 60000}, {65535, 0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_decision d = {.ttl_mode = CP_TTL_POLICY, .lifetime = {.ttl_ms = rows[i].ttl_ms}};
        struct cp_key key = jittering(rows[i].share);
        struct cp_age age = age_of(&d, &key, &(struct cp_stored){.stored_at_ms = 0}, 0);

        if (age.remaining_ms != rows[i].lifetime_ms)
            fail_msg("row %zu: %lld", i, (long long)age.remaining_ms);
    }
    /* every share, and both ends of the life that it makes; grace begins there, and moves with it */
    for (unsigned share = 0; share <= 65535; share++) {
        struct cp_decision d = {.ttl_mode = CP_TTL_POLICY, .lifetime = {10000, 100, 0}};
        struct cp_key key = jittering(share);
        struct cp_stored entry = {.stored_at_ms = 5};
        int64_t lifetime = age_of(&d, &key, &entry, 5).remaining_ms;

        if (lifetime < 9000 || lifetime > 10000 || age_of(&d, &key, &entry, 5 + lifetime - 1).freshness != CP_FRESH ||
            age_of(&d, &key, &entry, 5 + lifetime).freshness != CP_STALE ||
            age_of(&d, &key, &entry, 5 + lifetime + 99).freshness != CP_STALE ||
            age_of(&d, &key, &entry, 5 + lifetime + 100).freshness != CP_DEAD)
            fail_msg("share %u: %lld", share, (long long)lifetime);
    }
    /* the same wherever the key is bound, and nothing but the key makes it */
    struct cp_decision d = {.ttl_mode = CP_TTL_POLICY, .lifetime = {.ttl_ms = 60000}};
    struct cp_key key = jittering(40000), bound = key;
    cp_key_bind(&bound, UINT64_MAX);
    assert_int_equal(age_of(&d, &key, &(struct cp_stored){.hint_ttl_ms = 0}, 0).remaining_ms,
                     age_of(&d, &bound, &(struct cp_stored){.hint_ttl_ms = 0}, 0).remaining_ms);
    /* what the server promised is passed on as it is left of it: jitter is ours alone */
    struct cp_decision hint = {.ttl_mode = CP_TTL_HINT, .hint_counts = true};
    struct cp_age age = age_of(&hint, &key, &(struct cp_stored){.has_hint = true, .hint_ttl_ms = 60000}, 1000);
    assert_int_equal(age.hint_remaining_ms, 59000);
    assert_true(age.remaining_ms < 59000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(annotations_only_take_away),
        cmocka_unit_test(the_client_may_ask_past_the_store),
        cmocka_unit_test(what_may_write_is_stamped),
        cmocka_unit_test(a_malformed_call_still_has_its_rule),
        cmocka_unit_test(errors_are_kept_shortly_and_privately),
        cmocka_unit_test(who_asks_past_the_store_renews_it),
        cmocka_unit_test(what_is_past_its_end_may_stand_in_for_a_while),
        cmocka_unit_test(a_stale_answer_promises_nothing),
        cmocka_unit_test(jitter_only_takes_away),
        cmocka_unit_test(what_may_be_looked_up),
        cmocka_unit_test(a_write_is_a_write_whatever_the_headers_say),
        cmocka_unit_test(only_known_versions_are_looked_up),
        cmocka_unit_test(the_legacy_era_has_no_hints_and_has_sessions),
        cmocka_unit_test(scopes_follow_era_and_rule),
        cmocka_unit_test(what_may_be_stored),
        cmocka_unit_test(hints_are_kept_only_where_they_count),
        cmocka_unit_test(lifetimes_follow_the_mode),
        cmocka_unit_test(ages_are_honest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
