/* SPDX-License-Identifier: Apache-2.0 */
/* What is due when: a heap of timers that lie in what they are for. Room is promised to a timer first, where it can be refused; setting one cannot fail.
 * Thread: whoever holds the owner's mutex. */
#ifndef MCPCACHED_NOTIFY_TIMERS_H
#define MCPCACHED_NOTIFY_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum timer_kind {
    TIMER_WATCH, /* to be polled; or its poll is given up */
    TIMER_HOLD,  /* of a link */
    TIMER_IDLE,  /* of a session */
};

struct timer {
    int64_t due_ms;
    uint32_t at; /* its place, counted from 1; 0: not set */
    uint8_t kind;
    bool is_promised;
};

struct timers {
    struct timer **items; /* owned */
    size_t count, cap, promised;
};

void timers_done(struct timers *t);
bool timers_promise(struct timers *t, struct timer *timer, enum timer_kind kind); /* also twice; false: no memory */
void timers_release(struct timers *t, struct timer *timer);                       /* also what was never promised or set */
void timers_set(struct timers *t, struct timer *timer, int64_t due_ms);
void timers_unset(struct timers *t, struct timer *timer);
struct timer *timers_first(const struct timers *t); /* NULL: none is set */
bool timers_check(const struct timers *t);

#endif
