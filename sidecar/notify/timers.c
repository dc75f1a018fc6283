/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap. Always: no timer is due before the one above it; there is room for all that were promised. */
#include "timers.h"

#include <stdlib.h>

void timers_done(struct timers *t)
{
    free(t->items);
    *t = (struct timers){.items = NULL};
}

bool timers_promise(struct timers *t, struct timer *timer, enum timer_kind kind)
{
    if (timer->is_promised)
        return true;
    if (t->promised == t->cap) {
        size_t cap = t->cap == 0 ? 64 : 2 * t->cap;
        struct timer **items = cap > UINT32_MAX ? NULL : realloc(t->items, cap * sizeof(*items));

        if (items == NULL)
            return false;
        t->items = items;
        t->cap = cap;
    }
    ++t->promised;
    *timer = (struct timer){.kind = (uint8_t)kind, .is_promised = true};
    return true;
}

void timers_release(struct timers *t, struct timer *timer)
{
    timers_unset(t, timer);
    t->promised -= timer->is_promised;
    timer->is_promised = false;
}

static void put(struct timers *t, size_t i, struct timer *timer)
{
    t->items[i] = timer;
    timer->at = (uint32_t)i + 1;
}

/* There is a gap at i: it wanders until timer fits. */
static void sift(struct timers *t, size_t i, struct timer *timer)
{
    for (; i != 0 && timer->due_ms < t->items[(i - 1) / 2]->due_ms; i = (i - 1) / 2)
        put(t, i, t->items[(i - 1) / 2]);
    for (size_t child; (child = 2 * i + 1) < t->count; i = child) {
        if (child + 1 < t->count && t->items[child + 1]->due_ms < t->items[child]->due_ms)
            ++child;
        if (timer->due_ms <= t->items[child]->due_ms)
            break;
        put(t, i, t->items[child]);
    }
    put(t, i, timer);
}

void timers_set(struct timers *t, struct timer *timer, int64_t due_ms)
{
    if (timer->at != 0 && timer->due_ms == due_ms)
        return;
    timer->due_ms = due_ms;
    if (timer->at == 0)
        sift(t, t->count++, timer);
    else
        sift(t, timer->at - 1, timer);
}

void timers_unset(struct timers *t, struct timer *timer)
{
    size_t i = timer->at;
    struct timer *last;

    if (i == 0)
        return;
    timer->at = 0;
    last = t->items[--t->count];
    if (last != timer)
        sift(t, i - 1, last);
}

struct timer *timers_first(const struct timers *t)
{
    return t->count == 0 ? NULL : t->items[0];
}

bool timers_check(const struct timers *t)
{
    for (size_t i = 0; i != t->count; ++i)
        if (t->items[i]->at != i + 1 || !t->items[i]->is_promised ||
            t->items[i]->due_ms < t->items[i == 0 ? 0 : (i - 1) / 2]->due_ms)
            return false;
    return t->count <= t->promised && t->promised <= t->cap;
}
