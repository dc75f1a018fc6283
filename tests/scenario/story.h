/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a story: lines of words. A line may continue as text between <<WORD and a line that is WORD. Comments begin with '#' and
 * take the rest of a line; a story's first lines are one: the story in plain words. Thread: any; everything borrows from the text. */
#ifndef SCENARIO_STORY_H
#define SCENARIO_STORY_H

#include "cachepolicy/bytes.h"

#include <stdbool.h>

enum word_kind {
    WORD_PLAIN,
    WORD_TEXT, /* "in quotes" (with \" and \\), or lines between <<WORD and WORD */
    WORD_JSON, /* { } or [ ] with all that is inside */
};

struct word {
    enum word_kind kind;
    struct span text; /* without quotes */
};

#define LINE_WORDS_MAX 64

struct line {
    unsigned number;   /* of its first line in the file */
    struct span whole; /* without the lines of a <<WORD */
    struct word words[LINE_WORDS_MAX];
    size_t count;
};

struct story {
    char *text;     /* owned; changed where quoted texts are unescaped */
    char *original; /* owned; as it was, for messages */
    size_t bytes;
    struct line *lines;
    size_t count;
};

/* text: taken. False with a sentence in ret_why (of 256 bytes) and the line it is about. */
bool story_read(struct story *ret, char *text, size_t bytes, unsigned *ret_line, char *ret_why);
void story_done(struct story *s);

#endif
