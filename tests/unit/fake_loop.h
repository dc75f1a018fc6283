/* SPDX-License-Identifier: Apache-2.0 */
/* An event loop of libh2o whose time is the test's: timers ring when the test says that time passes, and nothing is polled. */
#ifndef FAKE_LOOP_H
#define FAKE_LOOP_H

#include <h2o.h>

static inline h2o_loop_t *fake_loop_new(uint64_t now_ms)
{
    h2o_loop_t *loop = h2o_evloop_create();

    loop->_now = now_ms;
    return loop;
}

/* Does anything wait for time to pass? */
static inline bool fake_loop_is_idle(h2o_loop_t *loop)
{
    return h2o_timeout_get_wake_at(&loop->_timeouts) == UINT64_MAX;
}

/* Lets time pass up to until_ms, as a loop without other work would: it wakes when the next timer is due, not before. Returns how often it woke. */
static inline unsigned fake_loop_run(h2o_loop_t *loop, uint64_t until_ms)
{
    unsigned woke = 0;
    uint64_t wake_at;

    while ((wake_at = h2o_timeout_get_wake_at(&loop->_timeouts)) <= until_ms) {
        if (loop->_now < wake_at)
            loop->_now = wake_at;
        ++woke;
        for (h2o_linklist_t *node = loop->_timeouts.next; node != &loop->_timeouts; node = node->next)
            h2o_timeout_run(loop, H2O_STRUCT_FROM_MEMBER(h2o_timeout_t, _link, node), loop->_now);
    }
    loop->_now = until_ms;
    return woke;
}

#endif
