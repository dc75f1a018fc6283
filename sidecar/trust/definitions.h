/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions: what the newest tools/list said of each tool, to each caller and to anybody. A tool's definition is part of the names of its entries, so that one
 * that changed leads to none of the old ones; and its annotations can take a tool's caching away.
 * Bounded; what is forgotten leads to other names, which costs misses; vetoes are forgotten last. What was said to anybody is kept in the store too, so that a veto outlives a restart.
 * Thread: the loop that trust belongs to; the table, any. */
#ifndef MCPCACHED_TRUST_DEFINITIONS_H
#define MCPCACHED_TRUST_DEFINITIONS_H

#include "sidecar/trust/caller.h"

struct definitions;
struct definitions *definitions_new(size_t capacity);
void definitions_free(struct definitions *definitions);

struct definition {
    enum cp_annotation annotation;
    bool is_known;
    bool is_everybodys; /* nothing else was last said to anybody */
    uint8_t digest[16]; /* of the definition, or of the fact that it changed and the new one was not seen */
};

/* What holds for a call of this tool by this caller; name absent: of no tool. */
void definition_of(struct trust *trust, const struct identity *id, struct span name, struct definition *ret);
/* For the key: absent when nothing is known. Borrowed. */
struct span definition_text(const struct definition *definition);

/* A list that was asked for in this generation, at began_ms, said this of a tool. canonical: its whole definition. */
void definition_learn(struct trust *trust, const struct identity *id, struct span name, enum cp_annotation annotation,
                      struct span canonical, uint64_t generation, int64_t began_ms, int64_t now_ms);
/* This caller is shown, from the store, a list that was asked for then, perhaps by somebody else: what he was told before counts no more where something newer is known. */
void definition_show(struct trust *trust, const struct identity *id, uint64_t generation, int64_t began_ms, int64_t now_ms);

#endif
