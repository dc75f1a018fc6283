/* SPDX-License-Identifier: Apache-2.0 */
/* Which subjects purge which watches and results. Of one, TAGS_MAX subjects are remembered; what has more is found whatever is purged.
 * Thread: whoever holds the owner's mutex. */
#ifndef MCPCACHED_NOTIFY_TAGS_H
#define MCPCACHED_NOTIFY_TAGS_H

#include "table.h"

#define TAGS_MAX 8

struct tag {
    struct node node; /* by subject */
    uint64_t subject;
    struct tagged *of;
};

struct tagged {
    struct node node; /* among those with more subjects than are remembered */
    void *owner;      /* the watch, or the result */
    bool is_result, is_overfull;
    uint8_t count;
    uint64_t visited; /* the round in which it was found last */
    struct tag tags[];
};

struct tags {
    struct table table;
    struct table overfull;
    uint64_t round;
};

bool tags_init(struct tags *t);
void tags_done(struct tags *t);
/* From now on these purge it; *at is changed, and NULL when there are none. When memory is short nothing is remembered. */
void tags_set(struct tags *t, struct tagged **at, void *owner, bool is_result, const uint64_t *subjects, size_t count);
void tags_drop(struct tags *t, struct tagged **at);
/* Calls visit once for each that has one of these. It may not set or drop tags. */
void tags_visit(struct tags *t, const uint64_t *subjects, size_t count, void (*visit)(void *ctx, const struct tagged *tagged),
                void *ctx);

#endif
