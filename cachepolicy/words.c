/* SPDX-License-Identifier: Apache-2.0 */
/* Words for outcomes and reasons, unrolled from words.def.h. Nothing is decided here.
 * Always: a value outside the enum has the word "unknown", so that a log line is never the thing that fails. Thread: any. */
#include "decide.h"

struct words {
    const char *word, *text;
};

static const struct words outcomes[] = {
#define CP_OUTCOME(name, word, text) [CP_OUTCOME_##name] = {word, text},
#include "words.def.h"
#undef CP_OUTCOME
};

static const struct words reasons[] = {
#define CP_REASON(name, word, text) [CP_REASON_##name] = {word, text},
#include "words.def.h"
#undef CP_REASON
};

static const struct words unknown = {"unknown", "not a word of this version"};

static const struct words *words_at(const struct words *table, size_t count, unsigned at)
{
    return at < count ? &table[at] : &unknown;
}

const char *cp_outcome_word(enum cp_outcome outcome)
{
    return words_at(outcomes, CP_OUTCOME_COUNT, (unsigned)outcome)->word;
}

const char *cp_outcome_text(enum cp_outcome outcome)
{
    return words_at(outcomes, CP_OUTCOME_COUNT, (unsigned)outcome)->text;
}

const char *cp_reason_word(enum cp_reason reason)
{
    return words_at(reasons, CP_REASON_COUNT, (unsigned)reason)->word;
}

const char *cp_reason_text(enum cp_reason reason)
{
    return words_at(reasons, CP_REASON_COUNT, (unsigned)reason)->text;
}
