/* SPDX-License-Identifier: Apache-2.0 */
/* Links: what each knows, and when its subscriber is told. Not here: when watches are polled (watches.c), what results were (results.c).
 * Always: what is freed is in no table, ring or heap any more; of a link, the hold is promised room before it may be covered. */
#include "inside.h"

#include <stdlib.h>

static uint64_t link_hash(const struct subscriber *subscriber, uint64_t subject)
{
    return table_mix(subject ^ table_mix((uintptr_t)subscriber));
}

uint64_t link_hash_of(const struct node *node)
{
    const struct link *link = OF_NODE(const struct link, node, node);

    return link_hash(link->subscriber, link->subject->subject);
}

uint64_t subject_hash_of(const struct node *node)
{
    return table_mix(OF_NODE(const struct subject, node, node)->subject);
}

/* ---- subjects -------------------------------------------------------------------------------------------------------------------- */

static struct subject *find_subject(const struct subscribers *s, uint64_t number, bool has_uri, const struct span *uri)
{
    for (struct node *node = table_first(&s->subjects, table_mix(number)); node != NULL; node = node->next) {
        struct subject *subject = OF_NODE(struct subject, node, node);

        if (subject->subject == number && has_uri == (subject->text != NULL) &&
            (uri == NULL || span_eq(*uri, topic_text_span(subject->text))))
            return subject;
    }
    return NULL;
}

struct subject *subject_of(const struct subscribers *s, uint64_t subject)
{
    return find_subject(s, subject, true, NULL);
}

static struct subject *subject_get(struct subscribers *s, const struct subscription *what)
{
    const bool has_uri = what->topic == TOPIC_RESOURCE;
    struct subject *subject = find_subject(s, what->subject, has_uri, has_uri ? &what->uri : NULL);

    if (subject != NULL || (subject = malloc(sizeof(*subject))) == NULL)
        return subject;
    *subject = (struct subject){.subject = what->subject};
    if (has_uri && (subject->text = topic_text_new(what->uri)) == NULL) {
        free(subject);
        return NULL;
    }
    table_add(&s->subjects, &subject->node);
    return subject;
}

static void subject_settle(struct subscribers *s, struct subject *subject)
{
    if (subject->links != 0)
        return;
    table_remove(&s->subjects, &subject->node);
    topic_text_unref(subject->text);
    free(subject);
}

/* ---- links ----------------------------------------------------------------------------------------------------------------------- */

static struct link *next_such(struct node *node, const struct subscriber *subscriber, uint64_t subject)
{
    for (; node != NULL; node = node->next) {
        struct link *link = OF_NODE(struct link, node, node);

        if (link->subscriber == subscriber && link->subject->subject == subject)
            return link;
    }
    return NULL;
}

/* The first of his with this subject: there may be one for each method. */
struct link *link_first(const struct subscribers *s, const struct subscriber *subscriber, uint64_t subject)
{
    return next_such(table_first(&s->links, link_hash(subscriber, subject)), subscriber, subject);
}

struct link *link_next(const struct link *link)
{
    return next_such(link->node.next, link->subscriber, link->subject->subject);
}

void link_drop(struct subscribers *s, struct link *link)
{
    struct subscriber *subscriber = link->subscriber;

    table_remove(&s->links, &link->node);
    timers_release(&s->timers, &link->hold);
    if (link->is_result)
        end_leave(&link->subject->results, &link->ends[ARM_OWN]);
    else
        link_leave(s, link);
    --link->subject->links;
    subject_settle(s, link->subject);
    if (subscriber->links == link)
        subscriber->links = link->next == link ? NULL : link->next;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    --subscriber->link_count;
    topic_text_unref(link->tool);
    free(link);
}

static void join_subscriber(struct subscriber *subscriber, struct link *link)
{
    ++subscriber->link_count;
    if (subscriber->links == NULL) {
        subscriber->links = link->next = link->prev = link;
        return;
    }
    link->next = subscriber->links;
    link->prev = subscriber->links->prev;
    link->prev->next = link->next->prev = link;
    if (link->topic != TOPIC_RESOURCE)
        subscriber->links = link;
}

static bool join_watch(struct subscribers *s, struct link *link, enum arm arm, const struct watch_name *name)
{
    struct end *end = &link->ends[arm];

    if ((end->watch = watch_get(s, name)) == NULL)
        return false;
    end_join(&end->watch->others, end);
    return true;
}

/* NULL: no memory. */
struct link *link_new(struct subscribers *s, struct subscriber *subscriber, const struct subscription *what)
{
    struct link *link = malloc(sizeof(*link));
    bool has_shared;

    if (link == NULL)
        return NULL;
    *link = (struct link){
        .subscriber = subscriber,
        .ends = {{.arm = ARM_OWN}, {.arm = ARM_SHARED}},
        .topic = (uint8_t)what->topic,
        .method = (uint8_t)what->method,
        .arm = ARM_NONE,
        .is_result = what->is_result,
    };
    if ((link->subject = subject_get(s, what)) == NULL) {
        free(link);
        return NULL;
    }
    ++link->subject->links;
    join_subscriber(subscriber, link);
    table_add(&s->links, &link->node);
    if (link->is_result) {
        end_join(&link->subject->results, &link->ends[ARM_OWN]);
        return link;
    }
    has_shared = what->has_shared && memcmp(what->own.bytes, what->shared.bytes, sizeof(what->own.bytes)) != 0;
    if (!join_watch(s, link, ARM_OWN, &what->own) || (has_shared && !join_watch(s, link, ARM_SHARED, &what->shared))) {
        link_drop(s, link);
        return NULL;
    }
    return link;
}

/* What a subscription brings along: it may be there already. False: no memory. */
bool link_take(struct subscribers *s, struct link *link, const struct subscription *what, int64_t now_ms)
{
    const enum arm arm = what->is_shared ? ARM_SHARED : ARM_OWN;

    if (what->is_covered && !timers_promise(&s->timers, &link->hold, TIMER_HOLD))
        return false;
    link->is_covered = what->is_covered;
    /* nobody else will tell */
    if (!link->is_covered && link->hold.at != 0)
        timers_set(&s->timers, &link->hold, now_ms);
    if (link->is_result)
        return true;
    if (what->has_content && link->arm == ARM_NONE && link->ends[arm].watch != NULL) {
        link->arm = (uint8_t)arm;
        link->content = what->content;
        link->began_ms = what->began_ms;
        watch_note(s, link->ends[arm].watch,
                   &(struct sighting){
                       .began_ms = what->began_ms,
                       .fresh_until_ms = what->fresh_until_ms,
                       .subjects = what->subjects,
                       .subject_count = what->subject_count,
                   },
                   now_ms);
    }
    link_settle(s, link);
    if (link->arm == ARM_NONE && !link->is_covered)
        watch_hurry(s, link->ends[ARM_OWN].watch, what->first_poll_ms > now_ms ? what->first_poll_ms : now_ms);
    return true;
}

/* ---- telling --------------------------------------------------------------------------------------------------------------------- */

void link_tell_on(struct link *link, const struct stream *stream, struct actions *out)
{
    struct action action;

    /* without a stream, or memory, there is still the mark */
    if ((link->is_pending = stream == NULL))
        return;
    action = (struct action){
        .kind = ACTION_TELL,
        .stream = stream->ref,
        .topic = link->topic,
        .method = link->method,
        .subject = link->subject->subject,
        .uri = link->subject->text,
        .tool = link->tool,
        .is_result = link->is_result,
    };
    memcpy(action.subscriber, link->subscriber->name, sizeof(action.subscriber));
    link->is_pending = !actions_add(out, &action);
    if (!MUTANT("two-streams-told"))
        return;
    for (const struct stream *other = link->subscriber->streams; other != NULL; other = other->next) {
        action.stream = other->ref;
        if (other != stream && other->may_tell)
            actions_add(out, &action);
    }
}

/* Whose result it is that he hears of. */
void link_name_tool(struct link *link, const struct result *result)
{
    topic_text_unref(link->tool);
    link->tool = topic_text_ref(result->tool);
}

void link_tell(struct subscribers *s, struct link *link, int64_t now_ms, struct actions *out)
{
    if (link->unheard != 0) {
        /* another change, and another try */
        link->unheard = 0;
        timers_unset(&s->timers, &link->hold);
    }
    if (!link->is_covered || s->options.hold_ms <= 0)
        link_tell_on(link, subscriber_teller(link->subscriber, NULL), out);
    else if (link->hold.at == 0)
        timers_set(&s->timers, &link->hold, now_ms < NEVER - s->options.hold_ms ? now_ms + s->options.hold_ms : NEVER);
}

void link_unheard(struct subscribers *s, struct link *link, enum poll_end how, int64_t now_ms)
{
    /* a wait that is under way ends with another try, too */
    if (link->hold.at != 0 || !timers_promise(&s->timers, &link->hold, TIMER_HOLD))
        return;
    if (how == POLL_BUSY) {
        timers_set(&s->timers, &link->hold, now_ms + busy_pause(s));
        link->unheard += link->unheard == 0;
    } else {
        timers_set(&s->timers, &link->hold, now_ms + failure_pause(s, link->unheard));
        link->unheard += link->unheard != UINT8_MAX;
    }
}

/* He knows as of now that it is not what it was. What was asked for later than that may be. */
static void set_told(struct link *link, int64_t now_ms)
{
    if (link->arm != ARM_NONE && link->began_ms > now_ms)
        return;
    if (!link->is_told || link->told_ms < now_ms)
        link->told_ms = now_ms;
    link->is_told = true;
}

/* Was he told of a list just now because of its other half? */
bool link_is_twin_told(const struct link *link, int64_t now_ms)
{
    if (link->topic == TOPIC_RESOURCE)
        return false;
    /* lists come first, and this is one */
    for (const struct link *twin = link->subscriber->links; twin->topic != TOPIC_RESOURCE; twin = twin->next) {
        if (twin != link && twin->topic == link->topic && twin->is_told && twin->told_ms == now_ms)
            return true;
        if (twin->next == link->subscriber->links)
            break;
    }
    return false;
}

void link_purged(struct subscribers *s, struct link *link, int64_t now_ms, struct actions *out)
{
    /* several of a tool's results may have one name */
    const bool is_twin = link_is_twin_told(link, now_ms) || (link->is_result && link->is_told && link->told_ms == now_ms);

    /* the upstream was quicker: its notice came before the end of the write that it was about */
    if (link->is_covered && link->hold.at == 0 && link->is_told && now_ms - link->told_ms < s->options.hold_ms)
        return;
    set_told(link, now_ms);
    if (!is_twin)
        link_tell(s, link, now_ms, out);
}

/* He is served what is his own as long as it lasts, whatever everybody else is. */
static bool is_his_own_good(const struct link *link, int64_t now_ms)
{
    return link->arm == ARM_OWN && link->ends[ARM_OWN].watch->good_until_ms > now_ms;
}

void link_saw(struct subscribers *s, struct end *end, const struct sighting *sighting, int64_t now_ms, struct actions *out)
{
    struct link *link = link_of_end(end);
    const bool is_first = link->arm == ARM_NONE;
    const bool is_change = (!is_first || MUTANT("baseline-told")) &&
                           memcmp(link->content.bytes, sighting->content.bytes, sizeof(link->content.bytes)) != 0;
    const bool was_told = link->is_told;
    const bool is_older = !is_first && sighting->began_ms <= link->began_ms;

    /* an older one of his own is what he is served, too, as long as it lasts: everybody's news wait for its end */
    if (is_older && !(end->arm == ARM_OWN && link->arm == ARM_SHARED && end->watch->good_until_ms > now_ms))
        return;
    if (end->arm == ARM_SHARED && is_his_own_good(link, now_ms))
        return;
    /* it may be from before what he was told of, and would then make it look new */
    if (was_told && sighting->began_ms < link->told_ms)
        return;
    /* of what began in that very moment, the same content says nothing: it may be from before or after */
    if (is_first || is_change || sighting->began_ms > link->told_ms)
        link->is_told = false;
    link->content = sighting->content;
    link->began_ms = sighting->began_ms;
    if (link->arm != end->arm) {
        link->arm = end->arm;
        link_settle(s, link);
    }
    if (is_change && !is_older && !was_told && !MUTANT("changes-untold"))
        link_tell(s, link, now_ms, out);
}

void link_told(struct subscribers *s, struct link *link, int64_t now_ms)
{
    timers_unset(&s->timers, &link->hold);
    link->is_pending = false;
    link->unheard = 0;
    set_told(link, now_ms);
}
