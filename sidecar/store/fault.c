/* SPDX-License-Identifier: Apache-2.0 */
/* The handler of fatal signals. Always: it calls nothing but what a signal handler may call, and the signal ends the process as it would have without it.
 * Thread: as in the header; the handler runs in the one that failed. */
#include "fault.h"

#include <signal.h>
#include <unistd.h>

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
enum { SIGNALS = sizeof(signals) / sizeof(signals[0]) };

_Thread_local const struct fault_mark *volatile fault_inside;
static struct sigaction before[SIGNALS];

static void on_fatal(int number, siginfo_t *info, void *context)
{
    const struct fault_mark *mark = fault_inside;

    (void)context;
    /* No wait for the disk: a kernel that is lost too makes the next open wipe anyway. A line that is cut short does so as well. */
    if (mark != NULL && pwrite(mark->fd, mark->line, mark->bytes, 0) >= 0 && ftruncate(mark->fd, (off_t)mark->bytes) != 0)
        fault_inside = NULL;
    for (int i = 0; i < SIGNALS; ++i)
        if (signals[i] == number)
            sigaction(number, &before[i], NULL);
    /* A fault comes again by itself when the instruction is tried again; what was sent has to be sent again. */
    if (info->si_code <= 0)
        raise(number);
}

void fault_watch(const struct state *state, struct fault_mark *ret)
{
    struct sigaction mine = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO}, now;
    struct state distrusted = *state;

    distrusted.is_distrusted = true;
    ret->fd = state->fd;
    ret->bytes = state_format(&distrusted, ret->line);
    sigemptyset(&mine.sa_mask);
    for (int i = 0; i < SIGNALS; ++i)
        if (sigaction(signals[i], NULL, &now) == 0 && now.sa_sigaction != on_fatal && sigaction(signals[i], &mine, NULL) == 0)
            before[i] = now;
}
