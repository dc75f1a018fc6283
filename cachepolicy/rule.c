/* SPDX-License-Identifier: Apache-2.0 */
/* Rules: which one speaks for a tool or a URI, and whether one leaves another nothing to say.
 * Not here: what a rule says (policy.h), how it is read (policy_rules.c).
 * Always: names are compared byte for byte, without case folding or %-decoding, because the upstream interprets them.
 * A glob is run as a set of positions moved over the subject, one step per byte; there is no backtracking. Thread: any. */
#include "policy.h"
#include "rule.h"

#define WORDS ((CP_PATTERN_MAX_BYTES + 1 + 63) / 64)

/* Positions in the pattern that the subject read so far may have reached; bit n = all of the pattern is used up. */
struct positions {
    uint64_t words[WORDS];
};

/* One step of the subject: a byte, or (when a pattern is compared with a pattern) everything that a wildcard stands for. */
enum step {
    STEP_BYTE,
    STEP_ONE,  /* any byte; in a URI any but '/' */
    STEP_RUN,  /* any run of those */
    STEP_DEEP, /* any run at all */
};

struct glob {
    enum cp_pattern_kind kind;
    struct span pattern;
};

/* What stands at `at`, and how many bytes it takes. A byte is STEP_BYTE. */
static enum step token_at(const struct glob *glob, size_t at, size_t *ret_n)
{
    const char *p = glob->pattern.p + at;

    *ret_n = 1;
    if (*p == '?')
        return STEP_ONE;
    if (*p != '*')
        return STEP_BYTE;
    if (at + 1 < glob->pattern.n && p[1] == '*') {
        *ret_n = 2;
        return STEP_DEEP;
    }
    return glob->kind == CP_PATTERN_URI ? STEP_RUN : STEP_DEEP;
}

/* Adds a position, and those behind wildcards that may stand for nothing. */
static void reach(const struct glob *glob, struct positions *set, size_t at)
{
    for (;;) {
        set->words[at / 64] |= 1ULL << (at % 64);
        if (at == glob->pattern.n)
            return;
        size_t n;
        enum step token = token_at(glob, at, &n);
        if (token != STEP_RUN && token != STEP_DEEP)
            return;
        at += n;
    }
}

/* May one token of the pattern take this step whole? */
static bool takes(const struct glob *glob, enum step token, char literal, enum step step, char byte)
{
    switch (token) {
    case STEP_BYTE:
        return step == STEP_BYTE && byte == literal;
    case STEP_ONE:
        return step == STEP_ONE || (step == STEP_BYTE && (glob->kind == CP_PATTERN_TOOL || byte != '/'));
    case STEP_RUN:
        return step != STEP_DEEP && !(step == STEP_BYTE && byte == '/');
    case STEP_DEEP:
        return true;
    }
    return false;
}

/* Moves every position over one step. False: none is left. */
static bool move(const struct glob *glob, struct positions *set, enum step step, char byte)
{
    size_t used = glob->pattern.n / 64 + 1;
    struct positions next;
    uint64_t any = 0;

    memset(next.words, 0, used * sizeof(next.words[0]));
    for (size_t w = 0; w < used; w++) {
        for (uint64_t bits = set->words[w]; bits != 0; bits &= bits - 1) {
            size_t at = w * 64 + (size_t)__builtin_ctzll(bits);
            if (at == glob->pattern.n)
                continue;
            size_t n;
            enum step token = token_at(glob, at, &n);
            if (!takes(glob, token, glob->pattern.p[at], step, byte))
                continue;
            reach(glob, &next, token == STEP_BYTE || token == STEP_ONE ? at + n : at);
        }
    }
    for (size_t w = 0; w < used; w++) {
        set->words[w] = next.words[w];
        any |= next.words[w];
    }
    return any != 0;
}

static bool is_at_end(const struct glob *glob, const struct positions *set)
{
    return (set->words[glob->pattern.n / 64] >> (glob->pattern.n % 64) & 1) != 0;
}

static void start(const struct glob *glob, struct positions *set)
{
    memset(set->words, 0, (glob->pattern.n / 64 + 1) * sizeof(set->words[0]));
    reach(glob, set, 0);
}

bool cp_pattern_is_glob(struct span pattern)
{
    return pattern.n > 0 && (memchr(pattern.p, '*', pattern.n) != NULL || memchr(pattern.p, '?', pattern.n) != NULL);
}

bool cp_pattern_matches(enum cp_pattern_kind kind, struct span pattern, struct span subject)
{
    struct glob glob = {kind, pattern};
    struct positions set;

    if (pattern.n > CP_PATTERN_MAX_BYTES)
        return false;
    start(&glob, &set);
    for (size_t i = 0; i < subject.n; i++) {
        if (!move(&glob, &set, STEP_BYTE, subject.p[i]))
            return false;
    }
    return is_at_end(&glob, &set);
}

bool cp_pattern_covers(enum cp_pattern_kind kind, struct span earlier, struct span later)
{
    struct glob glob = {kind, earlier}, other = {kind, later};
    struct positions set;

    if (earlier.n > CP_PATTERN_MAX_BYTES)
        return false;
    start(&glob, &set);
    for (size_t i = 0; i < later.n;) {
        size_t n;
        enum step step = token_at(&other, i, &n);
        if (!move(&glob, &set, step, later.p[i]))
            return false;
        i += n;
    }
    return is_at_end(&glob, &set);
}

static const struct cp_rule *first_match(enum cp_pattern_kind kind, const struct cp_rule *rules, size_t count, struct span subject)
{
    for (size_t i = 0; i < count; i++) {
        struct span pattern = span_of(rules[i].pattern);
        if (rules[i].is_glob ? cp_pattern_matches(kind, pattern, subject) : span_eq(pattern, subject))
            return &rules[i];
    }
    return NULL;
}

const struct cp_rule *cp_policy_tool(const struct cp_policy *policy, struct span name)
{
    return first_match(CP_PATTERN_TOOL, policy->tools, policy->tool_count, name);
}

const struct cp_rule *cp_policy_resource(const struct cp_policy *policy, struct span uri)
{
    return first_match(CP_PATTERN_URI, policy->resource_rules, policy->resource_count, uri);
}

const struct cp_rule *cp_policy_result(const struct cp_policy *policy, struct span uri)
{
    for (size_t i = 0; i < policy->tool_count; i++) {
        if (cp_template_matches(&policy->tools[i].resource, uri))
            return &policy->tools[i];
    }
    return NULL;
}
