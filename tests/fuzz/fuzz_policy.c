/* SPDX-License-Identifier: Apache-2.0 */
/* Policy texts. Input: one or two texts parted by a byte 0xff, then nothing; what follows a second 0xff is a name that the rules are asked about.
 * Always: a policy or an error with a place inside the text, never both; the same text is read the same way twice; whichever rule is said to speak
 * first, none before it matches, by a plain table of what matches what; and a pattern that is said to cover another matches whatever that one does. */
#include "fuzz.h"

#include <errno.h>

#include "cachepolicy/policy.h"
#include "cachepolicy/rule.h"

static struct cp_errors errors, again;

static void check_errors(const struct cp_policy_text *texts, size_t count)
{
    must(errors.count > 0);
    for (size_t i = 0; i < errors.count; i++) {
        const struct cp_error *e = &errors.items[i];
        size_t lines = 2;
        must(e->text[0] != '\0' && memchr(e->text, '\n', sizeof(e->text)) == NULL);
        for (size_t t = 0; t < count; t++) {
            if (strcmp(texts[t].name, e->file) != 0)
                continue;
            /* libyaml counts CR, NEL, LS and PS as line ends, too: three bytes hold at least one character. */
            lines += texts[t].text.n;
        }
        must(e->line <= lines);
    }
}

/* How many bytes of the pattern the wildcard at its start takes; *ret_deep: it does not stop at '/'. 0: none is there. */
static size_t run_at(enum cp_pattern_kind kind, struct span pattern, bool *ret_deep)
{
    bool twice = pattern.n > 1 && pattern.p[0] == '*' && pattern.p[1] == '*';

    *ret_deep = twice || kind == CP_PATTERN_TOOL;
    return pattern.n == 0 || pattern.p[0] != '*' ? 0 : twice ? 2 : 1;
}

/* The pattern's beginnings against the subject's beginnings, one by one. */
static bool matches_plainly(enum cp_pattern_kind kind, struct span pattern, struct span subject)
{
    bool *row = calloc(subject.n + 1, sizeof(*row)), answer;

    must(row != NULL);
    row[0] = true;
    for (size_t at = 0; at < pattern.n;) {
        bool deep;
        size_t n = run_at(kind, (struct span){pattern.p + at, pattern.n - at}, &deep);

        if (n > 0) {
            for (size_t i = 0; i < subject.n; i++)
                row[i + 1] |= row[i] && (deep || subject.p[i] != '/');
            at += n;
            continue;
        }
        for (size_t i = subject.n; i > 0; i--) {
            char c = subject.p[i - 1];
            bool takes = pattern.p[at] == '?' ? kind == CP_PATTERN_TOOL || c != '/' : pattern.p[at] == c;

            row[i] = row[i - 1] && takes;
        }
        row[0] = false;
        at++;
    }
    answer = row[subject.n];
    free(row);
    return answer;
}

/* Something that the pattern matches. Owned. */
static struct buf example_of(enum cp_pattern_kind kind, struct span pattern, uint32_t *random)
{
    static const char letters[] = "/ab?*:.";
    struct buf out = {0};
    bool deep;

    for (size_t at = 0; at < pattern.n;) {
        size_t n = run_at(kind, (struct span){pattern.p + at, pattern.n - at}, &deep);
        unsigned times = 1;

        *random = *random * 1664525u + 1013904223u;
        if (n > 0)
            times = *random >> 30;
        else if (pattern.p[at] == '?')
            deep = kind == CP_PATTERN_TOOL;
        for (unsigned i = 0; i < times; i++) {
            char c = letters[(*random >> (8 + 4 * i)) % 6 + !deep];

            must(buf_add(&out, n > 0 || pattern.p[at] == '?' ? &c : &pattern.p[at], 1) == 0);
        }
        at += n > 0 ? n : 1;
    }
    return out;
}

static void check_cover(enum cp_pattern_kind kind, struct span earlier, struct span later)
{
    uint32_t random = (uint32_t)(earlier.n * 31 + later.n);

    if (later.n > CP_PATTERN_MAX_BYTES || !cp_pattern_covers(kind, earlier, later))
        return;
    for (int i = 0; i < 4; i++) {
        struct buf example = example_of(kind, later, &random);

        must(matches_plainly(kind, later, buf_span(&example)) && matches_plainly(kind, earlier, buf_span(&example)));
        buf_done(&example);
    }
}

static void check_rules(enum cp_pattern_kind kind, const struct cp_rule *rules, size_t count, const struct cp_rule *speaks,
                        struct span name)
{
    for (size_t i = 0; i < count; i++) {
        struct span pattern = span_of(rules[i].pattern);
        bool matches = cp_pattern_matches(kind, pattern, name);
        must(matches == matches_plainly(kind, pattern, name));
        check_cover(kind, pattern, name);
        check_cover(kind, name, pattern);
        if (i > 0)
            check_cover(kind, pattern, span_of(rules[i - 1].pattern));
        must(pattern.n > 0 && rules[i].file != NULL && rules[i].line > 0);
        must(rules[i].lifetime.ttl_ms >= 0 && rules[i].lifetime.ttl_ms <= CP_TTL_MAX_MS);
        must(rules[i].kind == CP_TOOL_CACHE || rules[i].ttl_mode == CP_TTL_OFF);
        must(rules[i].invalidate_count == 0 || rules[i].kind == CP_TOOL_WRITE);
        if (&rules[i] == speaks) {
            must(rules[i].is_glob ? matches : span_eq(pattern, name));
            return;
        }
        if (rules[i].is_glob)
            must(!matches);
        /* Nothing else would ever be heard behind it. */
        for (size_t j = i + 1; j < count && j < i + 8; j++)
            must(!cp_pattern_covers(kind, pattern, span_of(rules[j].pattern)));
    }
    must(speaks == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span input = exactly((struct span){(const char *)data, size}), rest = input;
    struct cp_policy_text texts[2] = {{"a.yaml", {NULL, 0}}, {"b.yaml", {NULL, 0}}};
    struct cp_policy *policy = NULL, *same = NULL;
    size_t count = 0;

    while (count < 2) {
        const char *end = rest.n == 0 ? NULL : memchr(rest.p, 0xff, rest.n);
        texts[count].text = end == NULL ? rest : (struct span){rest.p, (size_t)(end - rest.p)};
        rest = end == NULL ? (struct span){rest.p + rest.n, 0} : (struct span){end + 1, rest.n - (size_t)(end - rest.p) - 1};
        count++;
        if (end == NULL)
            break;
    }

    errors.count = again.count = 0;
    errors.more = again.more = false;
    int r = cp_policy_parse(texts, count, &policy, &errors);
    must(cp_policy_parse(texts, count, &same, &again) == r && errors.count == again.count);
    if (r == 0) {
        must(policy != NULL && errors.count == 0 && policy->tool_count == same->tool_count);
        must(policy->identity_header_count > 0);
        check_rules(CP_PATTERN_TOOL, policy->tools, policy->tool_count, cp_policy_tool(policy, rest), rest);
        check_rules(CP_PATTERN_URI, policy->resource_rules, policy->resource_count, cp_policy_resource(policy, rest), rest);
    } else {
        must(r == -EINVAL && policy == NULL);
        check_errors(texts, count);
    }
    cp_policy_unref(policy);
    cp_policy_unref(same);
    free((char *)input.p);
    return 0;
}
