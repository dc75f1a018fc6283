/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked: questions by number, drawn by Zipf's law or one after the other, or the lines of a trace; and the JSON of each. Drawers are their threads' own, all else is only read. */
#ifndef BENCH_QUESTION_H
#define BENCH_QUESTION_H

#include <stddef.h>
#include <stdint.h>
#include "content.h"

enum kind { KIND_CALL, KIND_LIST, KIND_INITIALIZE, KIND_INITIALIZED };

/* What somebody is waiting for. */
struct question {
    enum kind kind;
    size_t tool_bytes, argument_bytes, size;
    char tool[64], token[64], arguments[4096];
    struct content expected; /* of a call its text, of a list its tools */
};

/* Draws questions for one thread; threads that share `order=each` or a trace take turns. */
struct drawer {
    int number;
    uint64_t random, drawn, asked;
};

/* Reads the trace, when there is one. */
void questions_init(void);

double drawer_chance(struct drawer *d);
void drawer_seed(struct drawer *d, int number);

/* The number of the next question; 0 when nothing is left to ask. */
int drawer_next(struct drawer *d, uint64_t *ret);

/* What question n asks for. */
void question_make(struct drawer *d, struct question *q, uint64_t n);

/* Its JSON-RPC message under that id; the bytes written. Dies when they do not fit. */
size_t question_body(const struct question *q, uint64_t id, char *body, size_t size);

int trace_is_on(void);

/* When the drawer's next line of the trace is due, counted from its beginning; UINT64_MAX behind its end. */
uint64_t trace_due_ns(const struct drawer *d);

#endif
