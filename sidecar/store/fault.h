/* SPDX-License-Identifier: Apache-2.0 */
/* What is left behind when the process dies inside the store. LMDB believes its pages: a damaged one makes it end the process, by an assertion or by a fault. The
 * next start under the same boot would open the same pages and could end in the same way, for ever. So whoever enters LMDB says so, and a fatal signal in his thread
 * marks the state file: the next open wipes. A signal anywhere else leaves the store as it is, and so does a kill.
 * Thread: each says it for itself. */
#ifndef MCPCACHED_STORE_FAULT_H
#define MCPCACHED_STORE_FAULT_H

#include "state.h"

struct fault_mark {
    int fd; /* borrowed: the state file's */
    size_t bytes;
    char line[STATE_LINE_MAX]; /* the state, distrusted */
};

/* Whose pages this thread is at; NULL: nobody's. Borrowed. */
extern _Thread_local const struct fault_mark *volatile fault_inside;

static inline void fault_enter(const struct fault_mark *mark)
{
    fault_inside = mark;
}

static inline void fault_leave(void)
{
    fault_inside = NULL;
}

/* Makes the mark of a state whose boot is known, and catches fatal signals from here on; whoever caught them before gets them afterwards. */
void fault_watch(const struct state *state, struct fault_mark *ret);

#endif
