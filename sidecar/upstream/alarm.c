/* SPDX-License-Identifier: Apache-2.0 */
/* Alarms: a binary heap, and one timer of libh2o whose length is changed while it is not linked.
 * Always: heap[a->place - 1] == a for each that is set; the timer is linked when the heap is not empty, but while it rings.
 * Thread: the loop. */
#include "sidecar/upstream/alarm.h"

#include <assert.h>
#include <stdlib.h>

static void put(struct alarms *alarms, struct alarm *a, size_t at)
{
    alarms->heap[at] = a;
    a->place = at + 1;
}

static void sift_up(struct alarms *alarms, struct alarm *a, size_t at)
{
    for (size_t above; at != 0 && alarms->heap[above = (at - 1) / 2]->due_ms > a->due_ms; at = above)
        put(alarms, alarms->heap[above], at);
    put(alarms, a, at);
}

static void sift_down(struct alarms *alarms, struct alarm *a, size_t at)
{
    for (size_t below; (below = at * 2 + 1) < alarms->count; at = below) {
        if (below + 1 != alarms->count && alarms->heap[below + 1]->due_ms < alarms->heap[below]->due_ms)
            ++below;
        if (alarms->heap[below]->due_ms >= a->due_ms)
            break;
        put(alarms, alarms->heap[below], at);
    }
    put(alarms, a, at);
}

static void take_out(struct alarms *alarms, struct alarm *a)
{
    size_t at = a->place - 1;
    struct alarm *last = alarms->heap[--alarms->count];

    a->place = 0;
    if (last == a)
        return;
    if (at != 0 && alarms->heap[(at - 1) / 2]->due_ms > last->due_ms)
        sift_up(alarms, last, at);
    else
        sift_down(alarms, last, at);
}

/* libh2o asks timers of no length again at once: theirs is never shorter than 1 ms. */
static void wind(struct alarms *alarms)
{
    uint64_t now_ms = h2o_now(alarms->loop);

    if (alarms->is_ringing)
        return;
    h2o_timeout_unlink(&alarms->entry);
    if (alarms->count == 0)
        return;
    alarms->timeout.timeout = alarms->heap[0]->due_ms > now_ms ? alarms->heap[0]->due_ms - now_ms : 1;
    h2o_timeout_link(alarms->loop, &alarms->timeout, &alarms->entry);
}

/* Whatever they set meanwhile is due later than now, so this ends. */
static void on_timeout(h2o_timeout_entry_t *entry)
{
    struct alarms *alarms = H2O_STRUCT_FROM_MEMBER(struct alarms, entry, entry);
    uint64_t now_ms = h2o_now(alarms->loop);

    alarms->is_ringing = true;
    while (alarms->count != 0 && alarms->heap[0]->due_ms <= now_ms) {
        struct alarm *a = alarms->heap[0];

        take_out(alarms, a);
        a->on_due(a);
    }
    alarms->is_ringing = false;
    wind(alarms);
}

void alarms_init(struct alarms *alarms, h2o_loop_t *loop)
{
    *alarms = (struct alarms){.loop = loop, .entry = {.cb = on_timeout}};
    h2o_timeout_init(loop, &alarms->timeout, 1);
}

void alarms_done(struct alarms *alarms)
{
    assert(alarms->count == 0);
    h2o_timeout_unlink(&alarms->entry);
    h2o_timeout_dispose(alarms->loop, &alarms->timeout);
    free(alarms->heap);
}

void alarm_set(struct alarms *alarms, struct alarm *a, uint64_t after_ms)
{
    assert(after_ms != 0);
    if (a->place != 0)
        take_out(alarms, a);
    if (alarms->count == alarms->capacity) {
        alarms->capacity = alarms->capacity != 0 ? alarms->capacity * 2 : 16;
        alarms->heap = h2o_mem_realloc(alarms->heap, alarms->capacity * sizeof(*alarms->heap));
    }
    a->due_ms = h2o_now(alarms->loop) + after_ms;
    ++alarms->count;
    sift_up(alarms, a, alarms->count - 1);
    if (alarms->heap[0] == a)
        wind(alarms);
}

void alarm_clear(struct alarms *alarms, struct alarm *a)
{
    bool was_next = a->place == 1;

    if (a->place == 0)
        return;
    take_out(alarms, a);
    if (was_next)
        wind(alarms);
}
