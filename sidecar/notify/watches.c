/* SPDX-License-Identifier: Apache-2.0 */
/* Watches: which links hang on a name, who of them asks, and when. Not here: what a link makes of an answer (subscribers.c).
 * Always: as in inside.h; a watch is counted in the filter as long as it is in the table. */
#include "inside.h"

#include <stdlib.h>

/* A poll that never reports is given up. */
#define OUT_MAX_MS     60000
#define BACKOFF_MAX_MS (5 * 60000)
#define JITTER_MAX_MS  1000
#define BUSY_MIN_MS    250
#define BUSY_MAX_MS    1250
/* So many streams in a row may be gone before it looks as if that were not known here. */
#define GONES_MAX 8

static atomic_uint *filter_at(const struct subscribers *s, const struct watch_name *name)
{
    return &s->filter[bytes_hash(name->bytes + 4) & s->filter_mask];
}

bool subscribers_may_want(const struct subscribers *s, const struct watch_name *name)
{
    return atomic_load_explicit(filter_at(s, name), memory_order_acquire) != 0;
}

struct watch *watch_of(const struct subscribers *s, const struct watch_name *name)
{
    for (struct node *node = table_first(&s->watches, bytes_hash(name->bytes)); node != NULL; node = node->next) {
        struct watch *watch = OF_NODE(struct watch, node, node);

        if (memcmp(watch->name.bytes, name->bytes, sizeof(name->bytes)) == 0)
            return watch;
    }
    return NULL;
}

struct watch *watch_get(struct subscribers *s, const struct watch_name *name)
{
    struct watch *watch = watch_of(s, name);

    if (watch != NULL || (watch = malloc(sizeof(*watch))) == NULL)
        return watch;
    *watch = (struct watch){.name = *name, .began_ms = INT64_MIN, .due_ms = NEVER, .doubt_ms = INT64_MIN};
    if (!timers_promise(&s->timers, &watch->timer, TIMER_WATCH)) {
        free(watch);
        return NULL;
    }
    table_add(&s->watches, &watch->node);
    atomic_fetch_add(filter_at(s, name), 1);
    return watch;
}

/* ---- who hangs there ------------------------------------------------------------------------------------------------------------- */

/* At the end of the ring. */
void end_join(struct end **ring, struct end *end)
{
    if (*ring == NULL) {
        *ring = end->next = end->prev = end;
        return;
    }
    end->next = *ring;
    end->prev = (*ring)->prev;
    end->prev->next = end->next->prev = end;
}

void end_leave(struct end **ring, struct end *end)
{
    if (end->next == end) {
        *ring = NULL;
        return;
    }
    if (*ring == end)
        *ring = end->next;
    end->prev->next = end->next;
    end->next->prev = end->prev;
}

static struct end **ring_of(struct end *end)
{
    return end->is_driver ? &end->watch->drivers : &end->watch->others;
}

bool end_may_drive(const struct end *end)
{
    const struct link *link = link_of_end((struct end *)end);

    return !link->is_covered && !link->is_result && link->subscriber->tellers != 0 &&
           (link->arm == end->arm || (link->arm == ARM_NONE && end->arm == ARM_OWN));
}

static void set_timer(struct subscribers *s, struct watch *watch)
{
    if (watch->is_out)
        return;
    if (watch->drivers != NULL && watch->due_ms != NEVER)
        timers_set(&s->timers, &watch->timer, watch->due_ms);
    else
        timers_unset(&s->timers, &watch->timer);
}

void watch_settle(struct subscribers *s, struct watch *watch)
{
    if (watch->drivers != NULL || watch->others != NULL) {
        set_timer(s, watch);
        return;
    }
    atomic_fetch_sub(filter_at(s, &watch->name), 1);
    table_remove(&s->watches, &watch->node);
    timers_release(&s->timers, &watch->timer);
    tags_drop(&s->tags, &watch->tagged);
    free(watch);
}

void link_settle(struct subscribers *s, struct link *link)
{
    for (int arm = ARM_OWN; arm != ARM_NONE; ++arm) {
        struct end *end = &link->ends[arm];

        if (end->watch == NULL || end->is_driver == end_may_drive(end))
            continue;
        end->watch->is_left |= end->is_driver && link->arm != end->arm;
        end_leave(ring_of(end), end);
        end->is_driver = !end->is_driver;
        end_join(ring_of(end), end);
        set_timer(s, end->watch);
    }
}

void link_leave(struct subscribers *s, struct link *link)
{
    for (int arm = ARM_OWN; arm != ARM_NONE; ++arm) {
        struct end *end = &link->ends[arm];
        struct watch *watch = end->watch;

        if (watch == NULL)
            continue;
        end_leave(ring_of(end), end);
        end->watch = NULL;
        watch_settle(s, watch);
    }
}

/* ---- when ------------------------------------------------------------------------------------------------------------------------ */

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Never overflows: times that strangers' numbers reach are bounded far below, but nobody here has to know that. */
static int64_t plus(int64_t time_ms, int64_t more_ms)
{
    int64_t sum;

    return __builtin_add_overflow(time_ms, more_ms, &sum) ? NEVER : sum;
}

/* At most a tenth, and never below 0: nothing is asked earlier than it may be. */
static int64_t jitter(const struct subscribers *s, int64_t of_ms, int64_t max_ms)
{
    int64_t most_ms = of_ms / 10 < max_ms ? of_ms / 10 : max_ms;

    if (s->options.random == NULL || most_ms <= 0)
        return 0;
    return (int64_t)(s->options.random(s->options.ctx) % (uint64_t)(most_ms + 1));
}

static int64_t soonest(const struct subscribers *s, const struct watch *watch, int64_t now_ms)
{
    return watch->began_ms == INT64_MIN ? now_ms : later(now_ms, plus(watch->began_ms, s->options.min_poll_ms));
}

/* Not at once: a doubt is many watches'. */
static void heed_doubt(const struct subscribers *s, struct watch *watch, int64_t now_ms)
{
    int64_t due_ms = plus(soonest(s, watch, now_ms), jitter(s, s->options.min_poll_ms, JITTER_MAX_MS));

    /* what is never polled is not polled now; whom a pause protects, it protects from doubts too */
    if (watch->due_ms != NEVER && watch->backoff_ms == 0 && due_ms < watch->due_ms)
        watch->due_ms = due_ms;
}

void watch_note(struct subscribers *s, struct watch *watch, const struct sighting *sighting, int64_t now_ms)
{
    const int64_t began_ms = sighting->began_ms, fresh_until_ms = sighting->fresh_until_ms;

    if (began_ms < watch->began_ms)
        return;
    watch->began_ms = began_ms;
    watch->backoff_ms = 0;
    watch->gones = 0;
    watch->is_moved = true;
    watch->good_until_ms = fresh_until_ms;
    if (MUTANT("polled-in-a-hurry"))
        watch->due_ms = plus(now_ms, 100);
    else if (fresh_until_ms != 0)
        watch->due_ms = plus(later(fresh_until_ms, plus(began_ms, s->options.min_poll_ms)),
                             jitter(s, fresh_until_ms > began_ms ? fresh_until_ms - began_ms : 0, JITTER_MAX_MS));
    else if (s->options.unfresh_poll_ms != 0)
        watch->due_ms = plus(later(plus(now_ms, s->options.unfresh_poll_ms), plus(began_ms, s->options.min_poll_ms)),
                             jitter(s, s->options.unfresh_poll_ms, JITTER_MAX_MS));
    else
        watch->due_ms = NEVER;
    tags_set(&s->tags, &watch->tagged, watch, false, sighting->subjects, sighting->subject_count);
    /* the doubt arose while this was under way */
    if (began_ms < watch->doubt_ms)
        heed_doubt(s, watch, now_ms);
    set_timer(s, watch);
}

void watch_hurry(struct subscribers *s, struct watch *watch, int64_t now_ms)
{
    if (!watch->is_out && watch->backoff_ms == 0 && soonest(s, watch, now_ms) < watch->due_ms)
        watch->due_ms = soonest(s, watch, now_ms);
    set_timer(s, watch);
}

void watch_doubt(struct subscribers *s, struct watch *watch, int64_t now_ms)
{
    if (now_ms > watch->doubt_ms)
        watch->doubt_ms = now_ms;
    watch->good_until_ms = 0;
    heed_doubt(s, watch, now_ms);
    set_timer(s, watch);
}

int64_t busy_pause(const struct subscribers *s)
{
    return s->options.random == NULL ? BUSY_MIN_MS
                                     : BUSY_MIN_MS + (int64_t)(s->options.random(s->options.ctx) % (BUSY_MAX_MS - BUSY_MIN_MS + 1));
}

int64_t failure_pause(const struct subscribers *s, unsigned failures)
{
    int64_t pause_ms = later(s->options.min_poll_ms, 1);

    while (failures-- != 0 && pause_ms < BACKOFF_MAX_MS)
        pause_ms *= 2;
    pause_ms = pause_ms < BACKOFF_MAX_MS ? pause_ms : BACKOFF_MAX_MS;
    return pause_ms + jitter(s, pause_ms, BACKOFF_MAX_MS);
}

void watch_polled(struct subscribers *s, struct watch *watch, enum poll_end how, int64_t now_ms)
{
    if (!watch->is_out)
        return;
    watch->is_out = false;
    if (watch->is_moved) {
        /* whoever asked */
        set_timer(s, watch);
        return;
    }
    if (how == POLL_GONE) {
        watch->due_ms = watch->gones < GONES_MAX ? now_ms : plus(now_ms, later(s->options.min_poll_ms, 1));
        watch->gones += watch->gones < GONES_MAX;
    } else if (how == POLL_BUSY) {
        /* that others ask much says nothing of this */
        watch->due_ms = plus(now_ms, busy_pause(s));
    } else if (how == POLL_SEEN && watch->is_left) {
        /* his answer lies under another name: whether there still is one under this, another will know */
        watch->due_ms = plus(now_ms, s->options.min_poll_ms);
    } else {
        int64_t pause_ms = watch->backoff_ms == 0 ? later(s->options.min_poll_ms, 1) : 2 * (int64_t)watch->backoff_ms;

        watch->gones = 0;
        watch->backoff_ms = (uint32_t)(pause_ms < BACKOFF_MAX_MS ? pause_ms : BACKOFF_MAX_MS);
        watch->due_ms = plus(now_ms, watch->backoff_ms + jitter(s, watch->backoff_ms, BACKOFF_MAX_MS));
    }
    set_timer(s, watch);
}

/* Its timer went off. */
void watch_due(struct subscribers *s, struct watch *watch, int64_t now_ms, struct actions *out)
{
    struct action action;
    struct link *link;
    bool is_shared;

    if (watch->is_out) {
        watch_polled(s, watch, POLL_FAILED, now_ms);
        return;
    }
    link = link_of_end(watch->drivers);
    is_shared = watch->drivers->arm == ARM_SHARED;
    watch->drivers = watch->drivers->next;
    watch->is_out = true;
    watch->is_moved = watch->is_left = false;
    timers_set(&s->timers, &watch->timer, plus(now_ms, OUT_MAX_MS));
    action = (struct action){
        .kind = ACTION_POLL,
        .stream = subscriber_teller(link->subscriber, NULL)->ref,
        .topic = link->topic,
        .method = link->method,
        .subject = link->subject->subject,
        .uri = link->subject->text,
        .name = watch->name,
        .is_shared = is_shared,
    };
    memcpy(action.subscriber, link->subscriber->name, sizeof(action.subscriber));
    if (!actions_add(out, &action))
        watch_polled(s, watch, POLL_FAILED, now_ms);
}
