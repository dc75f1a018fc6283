/* SPDX-License-Identifier: Apache-2.0 */
/* Rules: patterns against names, patterns against patterns, and which rule speaks first. */
#include "unit.h"

#include <stdlib.h>

#include "cachepolicy/policy.h"
#include "cachepolicy/rule.h"

static void patterns_match_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *subject;
        enum cp_pattern_kind kind;
        bool matches;
    } rows[] = {
        {"get", "get", CP_PATTERN_TOOL, true},
        {"get", "Get", CP_PATTERN_TOOL, false},
        {"get", "get ", CP_PATTERN_TOOL, false},
        {"get", "ge", CP_PATTERN_TOOL, false},
        {"", "", CP_PATTERN_TOOL, true},
        {"", "a", CP_PATTERN_TOOL, false},
        {"*", "", CP_PATTERN_TOOL, true},
        {"*", "a/b/c", CP_PATTERN_TOOL, true},
        {"get_*", "get_", CP_PATTERN_TOOL, true},
        {"get_*", "get_x", CP_PATTERN_TOOL, true},
        {"get_*", "xget_x", CP_PATTERN_TOOL, false},
        {"*_get", "x_get", CP_PATTERN_TOOL, true},
        {"*_get", "x_get_", CP_PATTERN_TOOL, false},
        {"*a*b*", "xxbxxaxxbxx", CP_PATTERN_TOOL, true},
        {"*a*b*", "xxbxxaxx", CP_PATTERN_TOOL, false},
        {"a?c", "abc", CP_PATTERN_TOOL, true},
        {"a?c", "a/c", CP_PATTERN_TOOL, true},
        {"a?c", "ac", CP_PATTERN_TOOL, false},
        {"a?c", "abbc", CP_PATTERN_TOOL, false},
        {"a**c", "a/b/c", CP_PATTERN_TOOL, true},
        {"[ab]", "a", CP_PATTERN_TOOL, false},
        {"[ab]", "[ab]", CP_PATTERN_TOOL, true},
        {"docs://*", "docs://a", CP_PATTERN_URI, true},
        {"docs://*", "docs://", CP_PATTERN_URI, true},
        {"docs://*", "docs://a/b", CP_PATTERN_URI, false},
        {"docs://**", "docs://a/b/c", CP_PATTERN_URI, true},
        {"docs://*/x", "docs://a/x", CP_PATTERN_URI, true},
        {"docs://*/x", "docs://a/b/x", CP_PATTERN_URI, false},
        {"docs://**/x", "docs://a/b/x", CP_PATTERN_URI, true},
        {"docs://**/x", "docs:///x", CP_PATTERN_URI, true},
        {"docs://**/x", "docs://x", CP_PATTERN_URI, false},
        {"**a*b", "x/ax/aab", CP_PATTERN_URI, true},
        {"**a*b", "xa/xb", CP_PATTERN_URI, false},
        {"***", "a/b", CP_PATTERN_URI, true},
        {"a?b", "a/b", CP_PATTERN_URI, false},
        {"https://x/?q=1", "https://x/?q=1", CP_PATTERN_URI, true},
        {"docs://a%2Fb", "docs://a/b", CP_PATTERN_URI, false},
        {"DOCS://a", "docs://a", CP_PATTERN_URI, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (cp_pattern_matches(rows[i].kind, span_of(rows[i].pattern), span_of(rows[i].subject)) != rows[i].matches)
            fail_msg("'%s' against '%s': expected %s", rows[i].pattern, rows[i].subject, rows[i].matches ? "a match" : "none");
    }
    assert_true(cp_pattern_is_glob(SPAN("a*")));
    assert_true(cp_pattern_is_glob(SPAN("a?")));
    assert_false(cp_pattern_is_glob(SPAN("a[b]")));
    assert_false(cp_pattern_is_glob(SPAN("")));
}

/* Slow and plain: the definition. */
static bool matches_plainly(enum cp_pattern_kind kind, const char *p, const char *s)
{
    if (*p == '\0')
        return *s == '\0';
    if (*p == '*') {
        bool is_deep = kind == CP_PATTERN_TOOL || p[1] == '*';
        const char *rest = p + (p[1] == '*' ? 2 : 1);
        for (;; s++) {
            if (matches_plainly(kind, rest, s))
                return true;
            if (*s == '\0' || (!is_deep && *s == '/'))
                return false;
        }
    }
    if (*s == '\0' || (*p == '?' ? kind == CP_PATTERN_URI && *s == '/' : *p != *s))
        return false;
    return matches_plainly(kind, p + 1, s + 1);
}

/* Word number n over the letters; false when there are no more of at most `most` letters. */
static bool word(const char *letters, unsigned n, unsigned most, char *ret)
{
    unsigned base = (unsigned)strlen(letters), at = 0;

    for (; n > 0; n = (n - 1) / base) {
        if (at == most)
            return false;
        ret[at++] = letters[(n - 1) % base];
    }
    ret[at] = '\0';
    return true;
}

static void every_small_pattern_agrees_with_the_definition(void **state)
{
    (void)state;
    char p[8], s[8], q[8];

    for (int kind = CP_PATTERN_TOOL; kind <= CP_PATTERN_URI; kind++) {
        for (unsigned i = 0; word("a/*?", i, 4, p); i++) {
            for (unsigned j = 0; word("ab/", j, 4, s); j++) {
                bool plain = matches_plainly((enum cp_pattern_kind)kind, p, s);
                if (cp_pattern_matches((enum cp_pattern_kind)kind, span_of(p), span_of(s)) != plain)
                    fail_msg("kind %d: '%s' against '%s': expected %d", kind, p, s, plain);
            }
        }
    }
    /* What is said to be covered is: no subject of the later one escapes the earlier. */
    unsigned covered = 0;
    for (int kind = CP_PATTERN_TOOL; kind <= CP_PATTERN_URI; kind++) {
        for (unsigned i = 0; word("a/*?", i, 3, p); i++) {
            for (unsigned k = 0; word("a/*?", k, 3, q); k++) {
                if (!cp_pattern_covers((enum cp_pattern_kind)kind, span_of(p), span_of(q)))
                    continue;
                covered++;
                for (unsigned j = 0; word("ab/", j, 3, s); j++) {
                    if (matches_plainly((enum cp_pattern_kind)kind, q, s) && !matches_plainly((enum cp_pattern_kind)kind, p, s))
                        fail_msg("kind %d: '%s' does not cover '%s': '%s'", kind, p, q, s);
                }
            }
        }
    }
    assert_true(covered > 500);
}

static void an_earlier_pattern_covers_a_later_one(void **state)
{
    (void)state;
    static const struct {
        const char *earlier, *later;
        enum cp_pattern_kind kind;
        bool covers;
    } rows[] = {
        {"a", "a", CP_PATTERN_TOOL, true},
        {"a", "b", CP_PATTERN_TOOL, false},
        {"*", "anything", CP_PATTERN_TOOL, true},
        {"*", "any*thing?", CP_PATTERN_TOOL, true},
        {"get_*", "get_a*", CP_PATTERN_TOOL, true},
        {"get_a*", "get_*", CP_PATTERN_TOOL, false},
        {"get_*", "get_*", CP_PATTERN_TOOL, true},
        {"*_x", "get_*_x", CP_PATTERN_TOOL, true},
        {"?", "a", CP_PATTERN_TOOL, true},
        {"?", "*", CP_PATTERN_TOOL, false},
        {"a?", "ab*", CP_PATTERN_TOOL, false},
        {"docs://**", "docs://*", CP_PATTERN_URI, true},
        {"docs://*", "docs://**", CP_PATTERN_URI, false},
        {"docs://*", "docs://a/b", CP_PATTERN_URI, false},
        {"docs://**", "docs://a/*/b?", CP_PATTERN_URI, true},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (cp_pattern_covers(rows[i].kind, span_of(rows[i].earlier), span_of(rows[i].later)) != rows[i].covers)
            fail_msg("'%s' over '%s': expected %d", rows[i].earlier, rows[i].later, rows[i].covers);
    }
}

/* A name made to send a backtracking matcher round in circles: it would not return within anyone's life. */
static void hostile_names_cost_no_more_than_their_length(void **state)
{
    (void)state;
    char pattern[CP_PATTERN_MAX_BYTES + 1];
    size_t n = 100000;
    char *name = malloc(n);

    assert_non_null(name);
    memset(name, 'a', n);
    for (size_t i = 0; i < 40; i++)
        memcpy(pattern + 2 * i, "*a", 2);
    memcpy(pattern + 80, "*b", 3);
    assert_false(cp_pattern_matches(CP_PATTERN_TOOL, span_of(pattern), (struct span){name, n}));
    name[n - 1] = 'b';
    assert_true(cp_pattern_matches(CP_PATTERN_TOOL, span_of(pattern), (struct span){name, n}));
    free(name);

    memset(pattern, '?', CP_PATTERN_MAX_BYTES);
    pattern[CP_PATTERN_MAX_BYTES] = '\0';
    char longest[CP_PATTERN_MAX_BYTES];
    memset(longest, 'x', sizeof(longest));
    assert_true(cp_pattern_matches(CP_PATTERN_URI, span_of(pattern), (struct span){longest, sizeof(longest)}));
    assert_false(cp_pattern_matches(CP_PATTERN_URI, span_of(pattern), (struct span){longest, sizeof(longest) - 1}));
}

static void the_first_matching_rule_speaks(void **state)
{
    (void)state;
    static const char text[] = "version: 1\n"
                               "tools:\n"
                               "  - { name: get_secret, class: write }\n"
                               "  - { name: 'get_*', ttl: 5s }\n"
                               "  - { name: '*', ttl: off }\n"
                               "resources:\n"
                               "  - { uri: 'docs://a/*', ttl: 1s }\n"
                               "  - { uri: 'docs://**', ttl: 2s }\n";
    struct cp_policy_text texts[] = {{"p.yaml", SPAN(text)}};
    struct cp_policy *policy = NULL;

    assert_int_equal(cp_policy_parse(texts, 1, &policy, NULL), 0);
    assert_int_equal(cp_policy_tool(policy, SPAN("get_secret"))->line, 3);
    assert_int_equal(cp_policy_tool(policy, SPAN("get_secrets"))->line, 4);
    assert_int_equal(cp_policy_tool(policy, SPAN("Get_secret"))->line, 5);
    assert_int_equal(cp_policy_tool(policy, SPAN(""))->line, 5);
    assert_int_equal(cp_policy_resource(policy, SPAN("docs://a/b"))->line, 7);
    assert_int_equal(cp_policy_resource(policy, SPAN("docs://a/b/c"))->line, 8);
    assert_null(cp_policy_resource(policy, SPAN("file:///x")));
    cp_policy_unref(policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_what_they_say),          cmocka_unit_test(every_small_pattern_agrees_with_the_definition),
        cmocka_unit_test(an_earlier_pattern_covers_a_later_one), cmocka_unit_test(hostile_names_cost_no_more_than_their_length),
        cmocka_unit_test(the_first_matching_rule_speaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
