/* SPDX-License-Identifier: Apache-2.0 */
/* Whether subscribers are as inside.h says that they always are. For tests: it walks through everything. */
#include "inside.h"

/* The walk's findings; the first one stays. */
struct walk {
    const struct subscribers *s;
    const char *wrong;
    size_t links, streams, sessions, listens, tags, timers;
};

static void expect(struct walk *walk, bool is_good, const char *otherwise)
{
    if (!is_good && walk->wrong == NULL)
        walk->wrong = otherwise;
}

static size_t count_in_ring(const struct end *first, const struct end *wanted)
{
    const struct end *end = first;
    size_t count = 0;

    if (end == NULL)
        return 0;
    do
        count += wanted == NULL || end == wanted;
    while ((end = end->next) != first);
    return count;
}

static void check_timer(struct walk *walk, const struct timer *timer, bool should_be_set, const char *otherwise)
{
    expect(walk, (timer->at != 0) == should_be_set, otherwise);
    expect(walk, timer->at == 0 || walk->s->timers.items[timer->at - 1] == timer, "a timer lies elsewhere");
    walk->timers += timer->at != 0;
}

static void check_link(struct walk *walk, struct link *link)
{
    expect(walk, link->node.at != NULL && link->subject->node.at != NULL, "a link or its subject is in no table");
    expect(walk, link->arm == ARM_NONE || link->ends[link->arm].watch != NULL, "a link's arm is none of its");
    expect(walk, !link->is_pending || link->subscriber->is_session, "a listen has a pending mark");
    expect(walk, link->hold.at == 0 || link->hold.is_promised, "a hold without a promise");
    walk->timers += link->hold.at != 0;
    if (link->is_result) {
        expect(walk, count_in_ring(link->subject->results, &link->ends[ARM_OWN]) == 1, "a link to results is not at its subject");
        return;
    }
    expect(walk, link->ends[ARM_OWN].watch != NULL, "a link without its own watch");
    for (int arm = ARM_OWN; arm != ARM_NONE; ++arm) {
        struct end *end = &link->ends[arm];

        if (end->watch == NULL)
            continue;
        expect(walk, watch_of(walk->s, &end->watch->name) == end->watch, "a watch is not found under its name");
        expect(walk, end->is_driver == end_may_drive(end), "an end is in the wrong ring");
        /* long ones are walked once, from the watch */
        if (walk->s->links.count < 100)
            expect(walk, count_in_ring(end->is_driver ? end->watch->drivers : end->watch->others, end) == 1,
                   "an end is in no ring");
    }
}

static void check_subscriber(struct walk *walk, struct subscriber *subscriber)
{
    struct link *link = subscriber->links;
    size_t links = 0, tellers = 0;
    bool is_past_lists = false;

    ++*(subscriber->is_session ? &walk->sessions : &walk->listens);
    expect(walk, subscriber->by_credential.at != NULL, "a subscriber is not among those of its credential");
    expect(walk, subscriber->streams != NULL || (subscriber->is_session && link != NULL), "a subscriber has nothing here");
    for (const struct stream *stream = subscriber->streams; stream != NULL; stream = stream->next) {
        ++walk->streams;
        tellers += stream->may_tell;
        expect(walk, stream->node.at != NULL && stream->subscriber == subscriber, "a stream is another's, or unknown");
    }
    expect(walk, tellers == subscriber->tellers, "tellers are miscounted");
    check_timer(walk, &subscriber->idle, subscriber->is_session && subscriber->streams == NULL,
                "a session is forgotten in spite of its stream, or never");
    if (link != NULL)
        do {
            ++links;
            expect(walk, link->subscriber == subscriber, "a link is another's");
            expect(walk, link->topic == TOPIC_RESOURCE || !is_past_lists, "a list comes after a resource");
            is_past_lists |= link->topic == TOPIC_RESOURCE;
            check_link(walk, link);
        } while ((link = link->next) != subscriber->links);
    expect(walk, links == subscriber->link_count && links <= walk->s->options.max_links_of_one, "his links are miscounted");
    walk->links += links;
}

static void check_watch(struct walk *walk, const struct watch *watch)
{
    const bool is_due = watch->drivers != NULL && watch->due_ms != NEVER;

    expect(walk, watch->drivers != NULL || watch->others != NULL, "a watch without a link");
    check_timer(walk, &watch->timer, watch->is_out || is_due, "a watch's timer is set for nothing, or is not");
    expect(walk, watch->is_out || !is_due || watch->timer.due_ms == watch->due_ms, "a watch's timer goes off at another time");
    expect(walk, subscribers_may_want(walk->s, &watch->name), "the filter misses a watch");
    walk->tags += watch->tagged == NULL ? 0 : watch->tagged->count;
}

static const char *check(struct subscribers *s)
{
    struct walk walk = {.s = s};
    size_t results = 0, in_filter = 0, subject_links = 0;
    const struct result *result = s->oldest;

    for (size_t i = 0; i != s->by_name.size; ++i)
        for (struct node *node = s->by_name.buckets[i]; node != NULL; node = node->next)
            check_subscriber(&walk, OF_NODE(struct subscriber, by_name, node));
    for (size_t i = 0; i != s->watches.size; ++i)
        for (struct node *node = s->watches.buckets[i]; node != NULL; node = node->next)
            check_watch(&walk, OF_NODE(const struct watch, node, node));
    for (size_t i = 0; i != s->subjects.size; ++i)
        for (struct node *node = s->subjects.buckets[i]; node != NULL; node = node->next) {
            subject_links += OF_NODE(const struct subject, node, node)->links;
            expect(&walk, OF_NODE(const struct subject, node, node)->links != 0, "a subject without a link");
        }
    for (size_t i = 0; i != s->streams.size; ++i)
        for (struct node *node = s->streams.buckets[i]; node != NULL; node = node->next)
            walk.streams += OF_NODE(const struct stream, node, node)->subscriber == NULL;
    if (result != NULL)
        do {
            ++results;
            walk.tags += result->tagged == NULL ? 0 : result->tagged->count;
        } while ((result = result->next) != s->oldest);
    for (size_t i = 0; i != s->filter_mask + 1; ++i)
        in_filter += atomic_load(&s->filter[i]);
    expect(&walk, walk.links == s->links.count && walk.links == subject_links && walk.links <= s->options.max_links,
           "links are miscounted");
    expect(&walk, walk.streams == s->streams.count, "streams are miscounted");
    expect(&walk, walk.sessions == s->sessions && walk.listens == s->listens, "subscribers are miscounted");
    expect(&walk, results == s->results.count && results <= s->options.max_results, "results are miscounted");
    expect(&walk, in_filter == s->watches.count, "the filter is miscounted");
    expect(&walk, walk.tags == s->tags.table.count, "tags are miscounted");
    expect(&walk, walk.timers == s->timers.count && timers_check(&s->timers), "timers are out of order");
    return walk.wrong;
}

const char *subscribers_check(struct subscribers *s)
{
    const char *wrong;

    subscribers_lock(s);
    wrong = check(s);
    subscribers_unlock(s);
    return wrong;
}
