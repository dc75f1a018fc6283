/* SPDX-License-Identifier: Apache-2.0 */
/* Models: what a second parser, jansson, understands of a JSON text; other spellings of the same, and texts that say something else. With them a fuzz
 * target checks both directions: what means the same has one form, and what has one form means the same.
 * Jansson rounds numbers and refuses those beyond its own, so it reads a twin of the text in which the number 1 stands as "n1" and the string "x" as
 * "sx": models compare numbers by lexeme, as the keys do, and json_equal is exact. The twin is cut at the scanner's spans; that they are right is
 * checked against jansson's reading of the text itself. */
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include <jansson.h>

#include "cachepolicy/json.h"
#include "fuzz.h"

/* Deterministic: the same input takes the same way. */
struct dice {
    uint64_t state;
};
struct dice dice_of(struct span input);
/* 0..sides-1 */
uint32_t dice_throw(struct dice *dice, uint32_t sides);

/* Of a doc whose strict scan was OK. Dies unless jansson sees the same shape, names, strings and lexemes. Owned: json_decref. */
json_t *model_of(struct cp_json_doc *doc);

/* The model in another spelling: members in any order, blanks anywhere, characters escaped or not. Owned. */
struct buf model_write(const json_t *model, struct dice *dice);

/* A copy in which one value, member or element, chosen by the dice, is another, is gone, is new or stands elsewhere; now and then it says the same
 * after all: ask json_equal. Owned: json_decref. */
json_t *model_change(const json_t *model, struct dice *dice);

#endif
