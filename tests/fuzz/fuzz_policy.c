/* SPDX-License-Identifier: Apache-2.0 */
/* Policy texts. Input: one or two texts parted by a byte 0xff, then nothing; what follows a second 0xff is a name that the rules are asked about.
 * Always: a policy or an error with a place inside the text, never both; the same text is read the same way twice; whichever rule is said to speak
 * first, none before it matches. */
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

static void check_rules(enum cp_pattern_kind kind, const struct cp_rule *rules, size_t count, const struct cp_rule *speaks,
                        struct span name)
{
    for (size_t i = 0; i < count; i++) {
        struct span pattern = span_of(rules[i].pattern);
        bool matches = cp_pattern_matches(kind, pattern, name);
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
