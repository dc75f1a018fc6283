/* SPDX-License-Identifier: Apache-2.0 */
/* An answer as it comes in: where its HTTP ends, and whether it is right. One for each connection, used again for each request. */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include <stddef.h>
#include <stdint.h>
#include "question.h"

enum failure {
    FAIL_NONE,
    FAIL_CONNECT,
    FAIL_CLOSED,
    FAIL_TIMEOUT,
    FAIL_HTTP,
    FAIL_STATUS,
    FAIL_ERROR,
    FAIL_ID,
    FAIL_CONTENT,
    FAILURES
};

extern const char *const failure_names[FAILURES];

struct answer {
    /* Its head is from 0 to head, its body behind it; chunks are joined as they come. */
    size_t have, size, head, chunk_at, body_end;
    long length; /* -1: chunks */
    int status, is_event_stream, is_hit, must_close;
    char *bytes;       /* one more than `size`, for an end of text */
    char session[128]; /* outlives the answer that brought it */
};

/* Before the first request, and before each. */
void answer_new(struct answer *a);
void answer_begin(struct answer *a);

/* Makes room for more; a.size - a.have bytes behind a.have may be written. */
void answer_grow(struct answer *a);

/* 1: the answer is whole; 0: more is to come; -1: it is no HTTP. */
int answer_step(struct answer *a);

/* Is this whole answer the right one to the question that was asked under this id? */
enum failure answer_check(const struct answer *a, const struct question *q, uint64_t id);

#endif
