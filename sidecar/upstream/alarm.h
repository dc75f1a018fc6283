/* SPDX-License-Identifier: Apache-2.0 */
/* Alarms: timers of any length on one loop. libh2o 2.2 has one length per list of timers; here one such timer waits for whoever is due next, and none runs while
 * nobody waits. Thread: the loop. */
#ifndef MCPCACHED_UPSTREAM_ALARM_H
#define MCPCACHED_UPSTREAM_ALARM_H

#include <h2o.h>
#include <stdbool.h>

/* Embedded in what waits; zeros but for on_due, which may set, clear and free any alarm, this one included. */
struct alarm {
    void (*on_due)(struct alarm *a);
    uint64_t due_ms; /* by h2o_now */
    size_t place;    /* in the heap, counted from 1; 0: not set */
};

struct alarms {
    h2o_loop_t *loop;
    h2o_timeout_t timeout;
    h2o_timeout_entry_t entry;
    struct alarm **heap; /* the next one first */
    size_t count, capacity;
    bool is_ringing;
};

void alarms_init(struct alarms *alarms, h2o_loop_t *loop);
/* None is set any more. */
void alarms_done(struct alarms *alarms);

/* Calls on_due once, after_ms from now, at least 1; set anew, the earlier time is forgotten. */
void alarm_set(struct alarms *alarms, struct alarm *a, uint64_t after_ms);
/* Does nothing to one that is not set. */
void alarm_clear(struct alarms *alarms, struct alarm *a);

static inline bool alarm_is_set(const struct alarm *a)
{
    return a->place != 0;
}

#endif
