/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of rules. Private to cachepolicy/. Pure; thread: any. */
#ifndef CP_RULE_H
#define CP_RULE_H

#include "bytes.h"

/* Longest pattern that a policy may hold, in bytes: bounds the matcher's state. */
#define CP_PATTERN_MAX_BYTES 1024

/* What a pattern names. In a URI `*` and `?` stop at '/', and `**` does not; in a tool name '/' is a byte like any other. */
enum cp_pattern_kind {
    CP_PATTERN_TOOL,
    CP_PATTERN_URI,
};

bool cp_pattern_is_glob(struct span pattern);

/* pattern: at most CP_PATTERN_MAX_BYTES. Time: subject.n times the positions that are alive at once, never exponential: strangers choose names. */
bool cp_pattern_matches(enum cp_pattern_kind kind, struct span pattern, struct span subject);

/* True only if every subject of `later` is one of `earlier`. False may also mean: cannot tell. */
bool cp_pattern_covers(enum cp_pattern_kind kind, struct span earlier, struct span later);

#endif
