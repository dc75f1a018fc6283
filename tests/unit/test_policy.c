/* SPDX-License-Identifier: Apache-2.0 */
/* Policies: what a text becomes, and what is said, where, about a text that must be mended. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#include "cachepolicy/json.h"
#include "cachepolicy/policy.h"

static int parse(const char *text, struct cp_policy **ret, struct cp_errors *errors)
{
    struct cp_policy_text one = {"p.yaml", span_of(text)};

    return cp_policy_parse(&one, 1, ret, errors);
}

static struct cp_policy *parse_good(const char *text)
{
    struct cp_errors errors = {0};
    struct cp_policy *policy = NULL;

    if (parse(text, &policy, &errors) != 0 || errors.count != 0)
        fail_msg("%u:%u: %s\n%s", errors.items[0].line, errors.items[0].column, errors.items[0].text, text);
    return policy;
}

static void nothing_at_all_is_the_default_policy(void **state)
{
    (void)state;
    static const char *const texts[] = {NULL,
                                        "",
                                        "\n\n",
                                        "# only a comment\n",
                                        "---\n",
                                        "null\n",
                                        "version: 1\n",
                                        "{}\n",
                                        "\xef\xbb\xbfversion: 1\n",
                                        "version: '1'\nidentity:\nkey:\ndefaults:\nclasses:\ntools:\nresources:\n"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct cp_policy *policy = NULL;
        if (texts[i] == NULL) {
            assert_int_equal(cp_policy_parse(NULL, 0, &policy, NULL), 0);
        } else if (strcmp(texts[i], "{}\n") == 0) {
            struct cp_errors errors = {0};
            assert_int_equal(parse(texts[i], &policy, &errors), -EINVAL); /* not empty: a version must stand in it */
            continue;
        } else {
            policy = parse_good(texts[i]);
        }
        assert_int_equal(policy->identity_header_count, 1);
        assert_string_equal(policy->identity_headers[0], "authorization");
        assert_int_equal(policy->identity_claim_count, 0);
        assert_int_equal(policy->proof_header_count, 1);
        assert_string_equal(policy->proof_headers[0], "dpop");
        assert_int_equal(policy->vary_header_count, 1);
        assert_string_equal(policy->vary_headers[0], "accept-language");
        assert_false(policy->anonymous_shared);
        assert_true(policy->probe);
        assert_int_equal(policy->lease_ms, 60000);
        assert_int_equal(policy->grant_ms, 3600000);
        assert_int_equal(policy->lists_mode, CP_TTL_HINT);
        assert_int_equal(policy->resources_mode, CP_TTL_HINT);
        assert_false(policy->unlisted_neutral);
        assert_false(policy->observe);
        assert_int_equal(policy->tool_count, 0);
        assert_int_equal(policy->resource_count, 0);
        cp_policy_unref(policy);
    }
}

static void settings_are_read(void **state)
{
    (void)state;
    struct cp_policy *p = parse_good("version: 1\n"
                                     "identity:\n"
                                     "  headers: [X-Api-Key, Authorization]\n"
                                     "  claims: [iss, sub]\n"
                                     "  proof_headers: [DPoP, X-Signature]\n"
                                     "  lease: 90s\n"
                                     "  grant: 2h\n"
                                     "  probe: off\n"
                                     "  anonymous: shared\n"
                                     "key: { headers: [X-Region] }\n"
                                     "defaults: { lists: 1m, resources: off, unlisted_tools: neutral }\n"
                                     "mode: observe\n");

    assert_int_equal(p->identity_header_count, 2);
    assert_string_equal(p->identity_headers[0], "x-api-key");
    assert_string_equal(p->identity_headers[1], "authorization");
    assert_int_equal(p->identity_claim_count, 2);
    assert_string_equal(p->identity_claims[1], "sub");
    assert_int_equal(p->proof_header_count, 2);
    assert_string_equal(p->proof_headers[0], "dpop");
    assert_string_equal(p->proof_headers[1], "x-signature");
    assert_int_equal(p->lease_ms, 90000);
    assert_int_equal(p->grant_ms, 7200000);
    assert_false(p->probe);
    assert_true(p->anonymous_shared);
    assert_int_equal(p->vary_header_count, 1);
    assert_string_equal(p->vary_headers[0], "x-region");
    assert_int_equal(p->lists_mode, CP_TTL_CAP);
    assert_int_equal(p->lists.ttl_ms, 60000);
    assert_int_equal(p->resources_mode, CP_TTL_OFF);
    assert_true(p->unlisted_neutral);
    assert_true(p->observe);
    cp_policy_unref(p);

    /* A list without authorization would let two tokens share: it counts anyway. Empty lists are lists. */
    p = parse_good("version: 1\nidentity: { headers: [x-a, x-b], proof_headers: [] }\nkey: { headers: [] }\n");
    assert_int_equal(p->identity_header_count, 3);
    assert_string_equal(p->identity_headers[0], "authorization");
    assert_string_equal(p->identity_headers[1], "x-a");
    assert_string_equal(p->identity_headers[2], "x-b");
    assert_int_equal(p->proof_header_count, 0);
    assert_int_equal(p->vary_header_count, 0);
    cp_policy_unref(p);

    p = parse_good(
        "version: 1\nidentity: { headers: [], probe: false }\ndefaults: { lists: false, resources: 0 }\nmode: enforce\n");
    assert_int_equal(p->identity_header_count, 1);
    assert_false(p->probe);
    assert_int_equal(p->lists_mode, CP_TTL_OFF);
    assert_int_equal(p->resources_mode, CP_TTL_OFF);
    cp_policy_unref(p);
}

static void rules_are_read(void **state)
{
    (void)state;
    struct cp_policy *p =
        parse_good("version: 1\n"
                   "classes:\n"
                   "  prices: { ttl: 5s, grace: 20s, stale_if_error: 5m, scope: principal }\n"
                   "  realtime: { ttl: 2s }\n"
                   "tools:\n"
                   "  - name: get_balance\n"
                   "    class: prices\n"
                   "    scope: public\n"
                   "    key: { ignore: [/request_id, /a~1b/0] }\n"
                   "    tags: ['account:{/address}', all]\n"
                   "    resource: 'balance://{/address}'\n"
                   "    despite_annotations: true\n"
                   "    client_control: false\n"
                   "    shared_tier: all\n"
                   "    timeout: 20s\n"
                   "    negative_ttl: 2s\n"
                   "    mode: observe\n"
                   "  - { name: 'transfer*', class: write, invalidates: ['account:{/from}', 'account:{/to}'] }\n"
                   "  - { name: own_class, class: prices }\n"
                   "  - { name: own_ttl, class: prices, ttl: 1s, grace: 0 }\n"
                   "  - { name: redefined, class: realtime }\n"
                   "  - { name: built_in, class: static }\n"
                   "  - { name: built_in_2, class: semi-dynamic }\n"
                   "  - { name: ttl_only, ttl: 24h, grace: 24h, stale_if_error: 24h, negative_ttl: 5s }\n"
                   "  - { name: never, ttl: off }\n"
                   "  - { name: never_either, ttl: 0 }\n"
                   "resources:\n"
                   "  - { uri: 'docs://**', ttl: 10m, scope: public, grace: 1m, stale_if_error: 2m, tags: [docs] }\n"
                   "  - { uri: 'hint://**' }\n"
                   "  - { uri: 'off://x', ttl: off }\n"
                   "  - { uri: 'own://x', class: prices, despite_hints: true, mode: observe }\n");

    assert_int_equal(p->tool_count, 10);
    const struct cp_rule *r = &p->tools[0];
    assert_string_equal(r->pattern, "get_balance");
    assert_false(r->is_glob);
    assert_int_equal(r->kind, CP_TOOL_CACHE);
    assert_int_equal(r->ttl_mode, CP_TTL_POLICY);
    assert_int_equal(r->lifetime.ttl_ms, 5000);
    assert_int_equal(r->lifetime.grace_ms, 20000);
    assert_int_equal(r->lifetime.stale_if_error_ms, 300000);
    assert_true(r->has_scope);
    assert_int_equal(r->scope, CP_SCOPE_PUBLIC);
    assert_int_equal(r->ignore_count, 2);
    assert_string_equal(r->ignore[0].text, "/request_id");
    assert_int_equal(r->ignore[1].count, 2);
    assert_int_equal(r->tag_count, 2);
    assert_string_equal(r->tags[1].text, "all");
    assert_string_equal(r->resource.text, "balance://{/address}");
    assert_string_equal(r->class_name, "prices");
    assert_true(r->despite_annotations);
    assert_false(r->client_control);
    assert_int_equal(r->shared_tier, CP_SHARED_ALL);
    assert_int_equal(r->timeout_ms, 20000);
    assert_int_equal(r->negative_ttl_ms, 2000);
    assert_true(r->observe);
    assert_string_equal(r->file, "p.yaml");
    assert_int_equal(r->line, 6);

    r = &p->tools[1];
    assert_true(r->is_glob);
    assert_int_equal(r->kind, CP_TOOL_WRITE);
    assert_int_equal(r->ttl_mode, CP_TTL_OFF);
    assert_int_equal(r->invalidate_count, 2);
    assert_int_equal(r->timeout_ms, 0);
    assert_false(r->observe);
    assert_true(r->client_control);
    assert_int_equal(r->shared_tier, CP_SHARED_PUBLIC);
    assert_null(r->resource.text);

    assert_int_equal(p->tools[2].scope, CP_SCOPE_PRINCIPAL);
    assert_true(p->tools[2].has_scope);
    assert_int_equal(p->tools[3].lifetime.ttl_ms, 1000);
    assert_int_equal(p->tools[3].lifetime.grace_ms, 0);
    assert_int_equal(p->tools[3].lifetime.stale_if_error_ms, 300000);
    assert_int_equal(p->tools[4].lifetime.ttl_ms, 2000);
    assert_int_equal(p->tools[5].lifetime.ttl_ms, 600000);
    assert_int_equal(p->tools[6].lifetime.ttl_ms, 15000);
    assert_int_equal(p->tools[7].lifetime.ttl_ms, CP_TTL_MAX_MS);
    assert_null(p->tools[7].class_name);
    assert_false(p->tools[7].has_scope);
    for (int i = 8; i < 10; i++) {
        assert_int_equal(p->tools[i].kind, CP_TOOL_NEUTRAL);
        assert_int_equal(p->tools[i].ttl_mode, CP_TTL_OFF);
    }

    assert_int_equal(p->resource_count, 4);
    r = &p->resource_rules[0];
    assert_int_equal(r->ttl_mode, CP_TTL_CAP);
    assert_int_equal(r->kind, CP_TOOL_CACHE);
    assert_int_equal(r->lifetime.ttl_ms, 600000);
    assert_int_equal(r->lifetime.grace_ms, 60000);
    assert_int_equal(r->lifetime.stale_if_error_ms, 120000);
    assert_int_equal(r->tag_count, 1);
    assert_int_equal(p->resource_rules[1].ttl_mode, CP_TTL_HINT);
    assert_false(p->resource_rules[1].has_scope);
    assert_int_equal(p->resource_rules[2].ttl_mode, CP_TTL_OFF);
    assert_int_equal(p->resource_rules[2].kind, CP_TOOL_NEUTRAL);
    assert_int_equal(p->resource_rules[3].ttl_mode, CP_TTL_POLICY);
    assert_true(p->resource_rules[3].despite_hints);
    assert_true(p->resource_rules[3].observe);
    assert_int_equal(p->resource_rules[3].lifetime.ttl_ms, 5000);
    cp_policy_unref(p);
}

/* libyaml alone refuses some of this. */
static void json_is_read(void **state)
{
    (void)state;
    struct cp_policy *p = parse_good(
        "\r\n\t{\n\t\t\"version\":1,\n\t\t\"identity\"\n:\t{\"probe\":false},\"key\":null,\"defaults\":{\"resources\":\"5s\"},\n"
        "\t\t\"tools\":[{\"name\":\"\\ud83d\\ude00\\u0061\",\"ttl\":\"5s\",\"key\":{\"ignore\":[\"\\/a\"]},"
        "\"despite_annotations\":true}]}\n");

    assert_string_equal(p->tools[0].pattern, "\xf0\x9f\x98\x80"
                                             "a");
    assert_true(p->tools[0].despite_annotations);
    assert_string_equal(p->tools[0].ignore[0].text, "/a");
    assert_int_equal(p->tools[0].line, 6);
    assert_int_equal(p->resources_mode, CP_TTL_CAP);
    assert_int_equal(p->lists_mode, CP_TTL_HINT);
    cp_policy_unref(p);
}

#define TOOLS     "version: 1\ntools:\n  - { name: x, "
#define RESOURCES "version: 1\nresources:\n  - { uri: x, "

/* One mistake, its place, and the sentence about it. */
static void mistakes_are_named_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned line, column;
        const char *sentence;
    } rows[] = {
        /* the text */
        {"version: 1\ntools:\n\t- name: a\n", 3, 1, "indented with a tab"},
        {"version: 1\ntools:\n  - name: a\n\t  ttl: 1s\n", 4, 1, "indented with a tab"},
        {"\tversion: 1\n", 1, 1, "indented with a tab"},
        {"version: 1\ntools: [\n  {name: a, ttl: 1s\n", 4, 1, "a ',' or the closing '}' is missing"},
        {"version: 1\ntools:\n  - name: a\n   ttl: 1s\n", 4, 4, "check its indentation"},
        {"version: 1\nmode enforce\ntools: []\n", 3, 1, "no ': ' after its key"},
        {"version: 1\nmode: a: b\n", 2, 8, "a second ':' on this line"},
        {"version: 1\nmode: \"abc\n", 3, 1, "a closing quote is missing"},
        {"version: 1\nmode: \"a\\qb\"\n", 2, 9, "backslash"},
        {"version: 1\nmode: @x\n", 2, 7, "cannot begin with this character"},
        {"version: 1\ntools: &a []\n", 2, 8, "anchors"},
        {"version: 1\ntools: []\nresources: *a\n", 3, 12, "alias"},
        {"version: 1\ntools:\n  - name: *\n    ttl: 1s\n", 3, 12, "quote it, as in \"*\""},
        {"version: !!int 1\n", 1, 10, "tags such as"},
        {"version: 1\n---\nversion: 1\n", 2, 1, "a second document"},
        {"version: 1\n\n# \xff\n", 3, 3, "byte 0xff is not UTF-8"},
        {"version: 1\n# \xc3\xa9\xed\xa0\x80\n", 2, 4, "not UTF-8"},
        {"version: 1\nmode: \"a\\0b\"\n", 2, 7, "NUL"},
        {"version: 1\nmode: \x01\n", 2, 7, "control character"},
        {"version: 1\n[a]: b\n", 2, 1, "a key must be a word"},
        {"version: 1\ntools: [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]\n", 2, 23, "nested too deep"},
        {"version: 1\nversion: 1\n", 2, 1, "'version' is given twice; the first stands at 1:1"},
        {"{\"version\":1,\n \"version\":1}", 2, 2, "'version' is given twice; the first stands at 1:2"},
        {"{\"version\":1,\n \"a\\nb\":1}", 2, 2, "'a?b'"},
        {"{\"version\":1,\n \"mode\":\"observ\"}", 2, 9, "'mode: observ' must be enforce or observe"},
        {"{\"version\":1,\n \"mod\":\"observe\"}", 2, 2, "did you mean 'mode'?"},
        {"[]\n", 1, 1, "a policy must be a mapping"},
        {"tools\n", 1, 1, "a policy must be a mapping"},
        /* top level */
        {"\nmode: enforce\n", 2, 1, "'version: 1' is missing"},
        {"version: 2\n", 1, 10, "'version: 2' is not known"},
        {"version: [1]\n", 1, 10, "is not known"},
        {"version: 1\ntoolz: []\n", 2, 1, "unknown key in a policy: 'toolz'; did you mean 'tools'?"},
        {"version: 1\nfrobnicate: []\n", 2, 1, "there is version, identity, key, defaults, classes, tools, resources or mode"},
        {"version: 1\nmode: on\n", 2, 7, "'mode: on' must be enforce or observe"},
        {"version: 1\ntools: { name: x }\n", 2, 8, "'tools' must be a list of rules, each beginning with '- name: ...'"},
        {"version: 1\nresources: x\n", 2, 12, "'resources' must be a list"},
        /* identity, key, defaults */
        {"version: 1\nidentity: on\n", 2, 11, "identity must be a mapping"},
        {"version: 1\nidentity: { header: [a] }\n", 2, 13, "unknown key in identity: 'header'; did you mean 'headers'?"},
        {"version: 1\nidentity: { headers: x-api-key }\n", 2, 22, "must be a list: write headers: [\"x-api-key\"]"},
        {"version: 1\nidentity: { headers: [a, 'b c'] }\n", 2, 26, "'b c' in 'headers' is no header name"},
        {"version: 1\nidentity: { headers: ['a:'] }\n", 2, 23, "no header name"},
        {"version: 1\nidentity: { headers: [a, A] }\n", 2, 26, "'A' stands twice"},
        {"version: 1\nidentity: { claims: [''] }\n", 2, 22, "must be a word, and not empty"},
        {"version: 1\nidentity: { probe: maybe }\n", 2, 20, "'probe: maybe' must be true or false"},
        {"version: 1\nidentity: { anonymous: everybody }\n", 2, 24, "must be nobody or shared"},
        {"version: 1\nidentity: { lease: 60 }\n", 2, 20, "'lease: 60' has no unit: write 60s"},
        {"version: 1\nidentity: { lease: 1.5 }\n", 2, 20, "has no unit"},
        {"version: 1\nidentity: { lease: 1d }\n", 2, 20, "'lease: 1d' is no duration"},
        {"version: 1\nidentity: { lease: [60s] }\n", 2, 20, "must be a duration"},
        {"version: 1\nidentity: { grant: 25h }\n", 2, 20, "24h is the most"},
        {"version: 1\nkey: { header: [] }\n", 2, 8, "unknown key in key: 'header'"},
        {"version: 1\ndefaults: { lists: hints }\n", 2, 20, "'lists: hints' must be hint, off or a duration"},
        {"version: 1\ndefaults: { lists: ~ }\n", 2, 20, "must be hint, off or a duration"},
        {"version: 1\ndefaults: { resources: 5 }\n", 2, 24, "has no unit"},
        {"version: 1\ndefaults: { resources: 24h1ms }\n", 2, 24, "24h is the most"},
        {"version: 1\ndefaults: { unlisted_tools: read }\n", 2, 29, "must be write or neutral"},
        /* classes */
        {"version: 1\nclasses: [a]\n", 2, 10, "'classes' must be a mapping"},
        {"version: 1\nclasses: { write: { ttl: 1s } }\n", 2, 12, "class 'write' is built in"},
        {"version: 1\nclasses: { a: { grace: 1s } }\n", 2, 12, "class 'a' needs a ttl"},
        {"version: 1\nclasses: { a: }\n", 2, 12, "class 'a' needs a ttl"},
        {"version: 1\nclasses: { a: { ttl: 0 } }\n", 2, 22, "keeps nothing"},
        {"version: 1\nclasses: { a: { ttl: 1s, gracee: 1s } }\n", 2, 26,
         "unknown key in class 'a': 'gracee'; did you mean 'grace'?"},
        {"version: 1\nclasses: { a: { ttl: 1s, scope: global } }\n", 2, 33, "must be session, principal or public"},
        /* tools */
        {"version: 1\ntools:\n  - x\n", 3, 5, "a tool's rule must be a mapping"},
        {"version: 1\ntools:\n  - ttl: 1s\n", 3, 5, "a tool's rule needs a name"},
        {"version: 1\ntools:\n  - name: ''\n    ttl: 1s\n", 3, 11, "'name' must be a word"},
        {"version: 1\ntools:\n  - name: x\n", 3, 11, "'x' has neither class nor ttl: give it a ttl or a class"},
        {TOOLS "ttl: 60 }\n", 3, 21, "'ttl: 60' has no unit: write 60s"},
        {TOOLS "ttl: 25h }\n", 3, 21, "'ttl: 25h' is too long"},
        {TOOLS "ttl: hint }\n", 3, 21, "'ttl: hint' is no duration"},
        {TOOLS "tll: 1s, class: static }\n", 3, 16, "unknown key in a tool's rule: 'tll'; did you mean 'ttl'?"},
        {TOOLS "class: statik }\n", 3, 23, "there is no class 'statik'; did you mean 'static'?"},
        {TOOLS "class: eventually }\n", 3, 23, "define it under 'classes'"},
        {TOOLS "class: write, ttl: 1s }\n", 3, 30, "'ttl' has no meaning in 'x'"},
        {TOOLS "class: write, grace: 1s }\n", 3, 30, "'grace' has no meaning"},
        {TOOLS "class: write, stale_if_error: 1s }\n", 3, 30, "'stale_if_error' has no meaning"},
        {TOOLS "class: write, scope: public }\n", 3, 30, "'scope' has no meaning"},
        {TOOLS "class: write, key: { ignore: [/a] } }\n", 3, 30, "'key' has no meaning"},
        {TOOLS "class: write, tags: [a] }\n", 3, 30, "names what it changes with 'invalidates'"},
        {TOOLS "class: write, resource: a }\n", 3, 30, "names what it changes with 'invalidates'"},
        {TOOLS "ttl: 1s, invalidates: [a] }\n", 3, 25, "'invalidates' is for writes"},
        {TOOLS "class: static, invalidates: [a] }\n", 3, 31, "'invalidates' is for writes"},
        {TOOLS "ttl: off, invalidates: [a] }\n", 3, 26, "'invalidates' is for writes"},
        {TOOLS "ttl: off, grace: 1s }\n", 3, 26, "its ttl is off"},
        {TOOLS "ttl: 1s, scope: everybody }\n", 3, 32, "must be session, principal or public"},
        {TOOLS "ttl: 1s, tags: a }\n", 3, 31, "'tags' must be a list: write tags: [\"a\"]"},
        {TOOLS "ttl: 1s, tags: ['a:{id}'] }\n", 3, 32, "followed by '/', as in {/id}"},
        {TOOLS "ttl: 1s, tags: ['a:{/id'] }\n", 3, 32, "not closed"},
        {TOOLS "ttl: 1s, resource: 'a}' }\n", 3, 35, "no '{' before"},
        {TOOLS "ttl: 1s, key: { ignore: [a] } }\n", 3, 41, "begin with '/'"},
        {TOOLS "ttl: 1s, key: { ignore: [''] } }\n", 3, 41, "JSON Pointers into the arguments"},
        {TOOLS "ttl: 1s, key: { ignored: [/a] } }\n", 3, 32, "did you mean 'ignore'?"},
        {TOOLS "ttl: 1s, despite_annotations: yes }\n", 3, 46, "must be true or false"},
        {TOOLS "ttl: 1s, shared_tier: some }\n", 3, 38, "must be none, public or all"},
        {TOOLS "ttl: 1s, mode: off }\n", 3, 31, "must be enforce or observe"},
        {TOOLS "ttl: 1s, grace: 24h1ms }\n", 3, 32, "24h is the most"},
        {TOOLS "ttl: 1s, stale_if_error: 25h }\n", 3, 41, "24h is the most"},
        {TOOLS "ttl: 1s, timeout: 25h }\n", 3, 34, "24h is the most"},
        {TOOLS "ttl: 1s, negative_ttl: 5001ms }\n", 3, 39, "'negative_ttl' of 'x' is more than 5s"},
        {TOOLS "ttl: 1s, negative_ttl: 5 }\n", 3, 39, "has no unit"},
        {TOOLS "ttl: off, negative_ttl: 1s }\n", 3, 26, "'negative_ttl' has no meaning in 'x': its ttl is off"},
        {TOOLS "class: write, timeout: 1s }\n", 3, 30, "'timeout' has no meaning"},
        {TOOLS "ttl: off, timeout: 1s }\n", 3, 26, "'timeout' has no meaning in 'x': its ttl is off"},
        {TOOLS "class: write, negative_ttl: 1s }\n", 3, 30, "'negative_ttl' has no meaning"},
        {TOOLS "class: write, despite_annotations: true }\n", 3, 30, "'despite_annotations' has no meaning"},
        {TOOLS "ttl: 1s }\n  - { name: x, ttl: 2s }\n", 4, 13, "unreachable: 'x' on line 3 matches first"},
        {"version: 1\ntools:\n  - { name: 'get_*', ttl: 1s }\n  - { name: get_a, class: write }\n", 4, 13,
         "unreachable: 'get_*' on line 3 matches first"},
        {"version: 1\ntools:\n  - { name: '*', ttl: 1s }\n  - { name: 'a*b', class: write }\n", 4, 13,
         "unreachable: '*' on line 3 matches first"},
        /* resources */
        {"version: 1\nresources:\n  - { ttl: 1s }\n", 3, 5, "a resource's rule needs a uri"},
        {RESOURCES "class: write }\n", 3, 22, "class write is for tools"},
        {RESOURCES "despite_hints: true }\n", 3, 15, "'x' has no ttl"},
        {RESOURCES "ttl: off, despite_hints: true }\n", 3, 25, "'x' has no ttl"},
        {RESOURCES "ttl: off, tags: [a] }\n", 3, 25, "its ttl is off"},
        {RESOURCES "tags: ['a{/b}'] }\n", 3, 22, "must be plain text here"},
        {RESOURCES "negative_ttl: 1s }\n", 3, 15, "unknown key in a resource's rule: 'negative_ttl'"},
        {"version: 1\nclasses: { a: { ttl: 1s, negative_ttl: 1s } }\n", 2, 26, "unknown key in class 'a': 'negative_ttl'"},
        {RESOURCES "invalidates: [a] }\n", 3, 15, "unknown key in a resource's rule: 'invalidates'"},
        {"version: 1\nresources:\n  - { uri: 'a://**' }\n  - { uri: 'a://b/*' }\n", 4, 12, "unreachable: 'a://**' on line 3"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cp_errors errors = {0};
        struct cp_policy *policy = NULL;
        int r = parse(rows[i].text, &policy, &errors);
        const struct cp_error *e = &errors.items[0];
        if (r != -EINVAL || policy != NULL || errors.count != 1 || e->line != rows[i].line || e->column != rows[i].column ||
            strstr(e->text, rows[i].sentence) == NULL || strcmp(e->file, "p.yaml") != 0)
            fail_msg("%s\ngave %d and %zu errors, first %u:%u: %s\nexpected %u:%u: ...%s...", rows[i].text, r, errors.count,
                     e->line, e->column, e->text, rows[i].line, rows[i].column, rows[i].sentence);
    }
}

static void what_cannot_be_proved_unreachable_is_let_be(void **state)
{
    (void)state;
    cp_policy_unref(parse_good("version: 1\n"
                               "tools:\n"
                               "  - { name: get_a, ttl: 1s }\n"
                               "  - { name: 'get_*', ttl: 1s }\n"
                               "  - { name: '*_a', ttl: 1s }\n"
                               "  - { name: '*', ttl: off }\n"
                               "resources:\n"
                               "  - { uri: 'a://*' }\n"
                               "  - { uri: 'a://b/*' }\n"
                               "  - { uri: 'a://**' }\n"));
}

static void all_mistakes_are_said_in_the_order_of_the_text(void **state)
{
    (void)state;
    struct cp_errors errors = {0};
    struct cp_policy *policy = NULL;

    /* What the caller already had stays in front. */
    cp_errors_add(&errors, "z.yaml", 99, 1, "earlier");
    int r = parse("version: 1\n"
                  "tools:\n"
                  "  - { name: a }\n"
                  "  - { name: a, ttl: 5, scope: x }\n"
                  "moode: enforce\n"
                  "identity: { lease: x, lease: y }\n",
                  &policy, &errors);
    assert_int_equal(r, -EINVAL);
    static const struct {
        unsigned line, column;
    } places[] = {{99, 1}, {3, 13}, {4, 13}, {4, 21}, {4, 31}, {5, 1}, {6, 20}, {6, 23}};
    assert_int_equal(errors.count, sizeof(places) / sizeof(places[0]));
    for (size_t i = 0; i < errors.count; i++) {
        assert_int_equal(errors.items[i].line, places[i].line);
        assert_int_equal(errors.items[i].column, places[i].column);
    }
    assert_false(errors.more);

    /* More than there is room for. */
    struct buf text = {0};
    assert_int_equal(buf_add_span(&text, SPAN("version: 1\ntools:\n")), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(buf_add_span(&text, SPAN("  - { nam: a }\n")), 0);
    assert_int_equal(buf_add(&text, "", 1), 0);
    memset(&errors, 0, sizeof(errors));
    assert_int_equal(parse(text.p, &policy, &errors), -EINVAL);
    assert_int_equal(errors.count, sizeof(errors.items) / sizeof(errors.items[0]));
    assert_true(errors.more);
    assert_int_equal(parse(text.p, &policy, NULL), -EINVAL);
    buf_done(&text);
    assert_null(policy);
}

static void several_texts_are_one_policy(void **state)
{
    (void)state;
    static const struct cp_policy_text good[] = {
        {"0-empty.yaml", {"# nothing\n", 10}},
        {"a.yaml", SPAN("version: 1\ntools:\n  - { name: a, class: late }\n")},
        {"b.json", SPAN("{\"classes\": {\"late\": {\"ttl\": \"3s\"}},\n\"tools\": [{\"name\": \"*\", \"class\": \"write\"}]}")},
        {"c.yaml", SPAN("version: 1\nmode: observe\n")},
    };
    struct cp_errors errors = {0};
    struct cp_policy *p = NULL;

    assert_int_equal(cp_policy_parse(good, 4, &p, &errors), 0);
    assert_int_equal(p->tool_count, 2);
    assert_int_equal(p->tools[0].lifetime.ttl_ms, 3000);
    assert_string_equal(p->tools[0].file, "a.yaml");
    assert_string_equal(p->tools[1].file, "b.json");
    assert_int_equal(p->tools[1].line, 2);
    assert_true(p->observe);
    assert_int_equal(p->file_count, 4);
    cp_policy_unref(p);

    static const struct cp_policy_text bad[] = {
        {"a.yaml", SPAN("version: 1\n\nmode: enforce\nclasses: { c: { ttl: 1s }, static: { ttl: 1m } }\ntools:\n  - { name: 'x*', "
                        "ttl: 1s }\n")},
        {"b.yaml", SPAN("tools:\n  - { name: xy, ttl: 1s }\nmode: enforce\nclasses: { c: { ttl: 1s }, static: { ttl: 1m } }\n"
                        "identity: { lease: 5s }\n")},
        {"c.yaml", SPAN("version: 2\nidentity: { lease: 5s }\n")},
    };
    static const struct {
        const char *file;
        unsigned line, column;
        const char *sentence;
    } rows[] = {
        {"b.yaml", 2, 13, "unreachable: 'x*' in a.yaml:6 matches first"},
        {"b.yaml", 3, 1, "'mode' is given twice; the first stands in a.yaml:3"},
        {"b.yaml", 4, 12, "class 'c' is given twice; the first stands in a.yaml:4"},
        {"b.yaml", 4, 28, "class 'static' is given twice; the first stands in a.yaml:4"},
        {"c.yaml", 1, 10, "version 1"},
        {"c.yaml", 2, 13, "'identity.lease' is given twice; the first stands in b.yaml:5"},
    };
    p = NULL;
    assert_int_equal(cp_policy_parse(bad, 3, &p, &errors), -EINVAL);
    assert_null(p);
    assert_int_equal(errors.count, sizeof(rows) / sizeof(rows[0]));
    for (size_t i = 0; i < errors.count; i++) {
        const struct cp_error *e = &errors.items[i];
        if (strcmp(e->file, rows[i].file) != 0 || e->line != rows[i].line || e->column != rows[i].column ||
            strstr(e->text, rows[i].sentence) == NULL)
            fail_msg("%s:%u:%u: %s", e->file, e->line, e->column, e->text);
    }

    /* The first text cannot be read: that is the mistake, not a missing version in the second. */
    static const struct cp_policy_text broken[] = {{"a.yaml", SPAN("version: [1\n")}, {"b.yaml", SPAN("mode: enforce\n")}};
    memset(&errors, 0, sizeof(errors));
    assert_int_equal(cp_policy_parse(broken, 2, &p, &errors), -EINVAL);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0].file, "a.yaml");
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    struct cp_errors errors = {0};
    struct cp_policy *p = NULL;
    size_t n = CP_POLICY_TEXT_MAX_BYTES + 1;
    char *text = malloc(n);

    assert_non_null(text);
    memset(text, '\n', n);
    struct cp_policy_text one = {"p.yaml", {text, n}};
    assert_int_equal(cp_policy_parse(&one, 1, &p, &errors), -EINVAL);
    assert_string_equal(errors.items[0].text, "the text is larger than 1 MiB");
    one.text.n--;
    assert_int_equal(cp_policy_parse(&one, 1, &p, &errors), 0);
    cp_policy_unref(p);

    /* Openings without end, in both syntaxes, end at the depth limit. */
    static const char openings[] = "[{";
    for (size_t i = 0; i < 2; i++) {
        memset(text, openings[i], n);
        memset(&errors, 0, sizeof(errors));
        assert_int_equal(cp_policy_parse(&one, 1, &p, &errors), -EINVAL);
        assert_int_equal(errors.count, 1);
    }
    free(text);

    /* 1001 rules. */
    struct buf rules = {0};
    assert_int_equal(buf_add_span(&rules, SPAN("version: 1\ntools:\n")), 0);
    for (int i = 0; i < 1001; i++) {
        char line[64];
        int length = snprintf(line, sizeof(line), "- { name: tool_%d, ttl: 1s }\n", i);
        assert_int_equal(buf_add(&rules, line, (size_t)length), 0);
    }
    one.text = buf_span(&rules);
    memset(&errors, 0, sizeof(errors));
    assert_int_equal(cp_policy_parse(&one, 1, &p, &errors), -EINVAL);
    assert_int_equal(errors.items[0].line, 1003);
    assert_non_null(strstr(errors.items[0].text, "more than 1000 rules"));
    buf_done(&rules);
}

static void references_keep_a_policy(void **state)
{
    (void)state;
    struct cp_policy *p = parse_good("version: 1\ntools: [{ name: a, ttl: 1s }]\n");

    assert_ptr_equal(cp_policy_ref(p), p);
    cp_policy_unref(p);
    assert_string_equal(p->tools[0].pattern, "a");
    cp_policy_unref(p);
    cp_policy_unref(NULL);
}

/* ---- the pages beside the code -------------------------------------------------------------------------------------------- */

#define PAGE_BYTES (256UL * 1024)

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, PAGE_BYTES);

    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, PAGE_BYTES - 1, file) > 0);
    fclose(file);
    return text;
}

static void every_example_in_the_docs_is_accepted(void **state)
{
    (void)state;
    char *page = read_file(POLICY_MD);
    unsigned examples = 0;

    for (char *at = page; (at = strstr(at, "\n```yaml\n")) != NULL; examples++) {
        at += 9;
        char *end = strstr(at, "\n```\n");
        assert_non_null(end);
        end[1] = '\0';
        cp_policy_unref(parse_good(at));
        at = end + 2;
    }
    assert_true(examples >= 8);
    free(page);
}

/* The keys that the parser knows in a mapping, from what it says about one that it does not know. */
static void known_keys(const char *text, char *ret, size_t size)
{
    struct cp_errors errors = {0};
    struct cp_policy *policy = NULL;

    assert_int_equal(parse(text, &policy, &errors), -EINVAL);
    for (size_t i = 0; i < errors.count; i++) {
        const char *list = strstr(errors.items[i].text, "; there is ");
        if (list == NULL)
            continue;
        snprintf(ret, size, ", %s", list + strlen("; there is "));
        char *last = strstr(ret, " or ");
        if (last != NULL) { /* "a, b or c" -> "a, b, c" */
            memmove(last + 2, last + 4, strlen(last + 4) + 1);
            last[0] = ',';
            last[1] = ' ';
        }
        snprintf(ret + strlen(ret), size - strlen(ret), ", ");
        return;
    }
    fail_msg("no list of keys: %s", errors.items[0].text);
}

static void the_schema_knows_the_same_keys(void **state)
{
    (void)state;
    static const struct {
        const char *definition; /* NULL: the top */
        const char *text;
    } rows[] = {
        {NULL, "version: 1\nxxxxxxxxxxxxxxxxxx: 1\n"},
        {"identity", "version: 1\nidentity: { xxxxxxxxxxxxxxxxxx: 1 }\n"},
        {"key", "version: 1\nkey: { xxxxxxxxxxxxxxxxxx: 1 }\n"},
        {"defaults", "version: 1\ndefaults: { xxxxxxxxxxxxxxxxxx: 1 }\n"},
        {"class", "version: 1\nclasses: { c: { ttl: 1s, xxxxxxxxxxxxxxxxxx: 1 } }\n"},
        {"tool", "version: 1\ntools: [{ name: a, ttl: 1s, xxxxxxxxxxxxxxxxxx: 1 }]\n"},
        {"resource", "version: 1\nresources: [{ uri: a, xxxxxxxxxxxxxxxxxx: 1 }]\n"},
    };
    char *text = read_file(POLICY_SCHEMA), *page = read_file(POLICY_MD);
    static const struct cp_json_limits limits = {.depth = 64, .record_depth = 0, .nodes = 65536};
    struct cp_json_doc doc = {0};

    assert_int_equal(cp_json_scan(&doc, span_of(text), &limits), CP_JSON_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char known[512], name[128];
        unsigned count = 0, commas = 0;
        known_keys(rows[i].text, known, sizeof(known));
        const struct cp_json_node *at = &doc.nodes[0];
        if (rows[i].definition != NULL)
            at = cp_json_member(&doc, cp_json_member(&doc, at, SPAN("$defs")), span_of(rows[i].definition));
        at = cp_json_member(&doc, at, SPAN("properties"));
        for (const struct cp_json_node *key = cp_json_first(&doc, at); key != NULL; key = cp_json_next(&doc, key), count++) {
            struct span s = cp_json_name(&doc, key);
            snprintf(name, sizeof(name), ", %.*s, ", (int)s.n, s.p);
            if (strstr(known, name) == NULL)
                fail_msg("the schema's '%.*s' in %s is not read; there is%s", (int)s.n, s.p,
                         rows[i].definition != NULL ? rows[i].definition : "a policy", known);
            snprintf(name, sizeof(name), "%.*s", (int)s.n, s.p);
            if (strstr(page, name) == NULL)
                fail_msg("docs/policy.md does not mention '%s'", name);
            if (cp_json_member(&doc, key, SPAN("description")) == NULL && cp_json_member(&doc, key, SPAN("$ref")) == NULL)
                fail_msg("the schema does not describe '%s'", name);
        }
        for (const char *c = known; (c = strstr(c, ", ")) != NULL; c += 2)
            commas++;
        if (count + 1 != commas)
            fail_msg("the schema has %u keys in %s, the parser%s", count,
                     rows[i].definition != NULL ? rows[i].definition : "a policy", known);
    }
    cp_json_done(&doc);
    free(text);
    free(page);
}

static void a_resource_is_the_result_of_the_first_tool_that_can_make_it(void **state)
{
    (void)state;
    struct cp_policy *p = parse_good("version: 1\n"
                                     "tools:\n"
                                     "  - { name: none, ttl: 1s }\n"
                                     "  - { name: balance, ttl: 1s, resource: 'balance://{/address}' }\n"
                                     "  - { name: eth, ttl: 1s, resource: 'balance://eth/{/address}' }\n"
                                     "  - { name: block, ttl: 1s, resource: 'block://latest' }\n"
                                     "resources:\n"
                                     "  - { uri: 'docs://**' }\n");

    assert_ptr_equal(cp_policy_result(p, SPAN("balance://0x1")), &p->tools[1]);
    assert_ptr_equal(cp_policy_result(p, SPAN("balance://eth/0x1")), &p->tools[1]);
    assert_ptr_equal(cp_policy_result(p, SPAN("block://latest")), &p->tools[3]);
    assert_null(cp_policy_result(p, SPAN("block://latest/1")));
    assert_null(cp_policy_result(p, SPAN("balance://")));
    assert_null(cp_policy_result(p, SPAN("docs://a")));
    assert_null(cp_policy_result(p, SPAN("")));
    cp_policy_unref(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_at_all_is_the_default_policy),
        cmocka_unit_test(settings_are_read),
        cmocka_unit_test(rules_are_read),
        cmocka_unit_test(json_is_read),
        cmocka_unit_test(mistakes_are_named_with_their_place),
        cmocka_unit_test(what_cannot_be_proved_unreachable_is_let_be),
        cmocka_unit_test(all_mistakes_are_said_in_the_order_of_the_text),
        cmocka_unit_test(several_texts_are_one_policy),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(references_keep_a_policy),
        cmocka_unit_test(a_resource_is_the_result_of_the_first_tool_that_can_make_it),
        cmocka_unit_test(every_example_in_the_docs_is_accepted),
        cmocka_unit_test(the_schema_knows_the_same_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
