/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribers: who there is, who comes and goes, and what is passed on to links. Not here: what a link knows (links.c), when watches are polled (watches.c), what results
 * were (results.c). Always: as in inside.h. */
#include "inside.h"

#include <stdlib.h>

/* Timers that go off in one call of subscribers_due, beside the actions. */
#define WORK_MIN 256

static uint64_t hash_of_name(const struct node *node)
{
    return bytes_hash(OF_NODE(const struct subscriber, by_name, node)->name);
}

static uint64_t hash_of_credential(const struct node *node)
{
    return bytes_hash(OF_NODE(const struct subscriber, by_credential, node)->credential);
}

static uint64_t stream_hash(const struct stream_ref *ref)
{
    return table_mix(ref->id ^ table_mix(ref->loop));
}

static uint64_t hash_of_stream(const struct node *node)
{
    return stream_hash(&OF_NODE(const struct stream, node, node)->ref);
}

static uint64_t hash_of_watch(const struct node *node)
{
    return bytes_hash(OF_NODE(const struct watch, node, node)->name.bytes);
}

static uint64_t hash_of_result(const struct node *node)
{
    return bytes_hash(OF_NODE(const struct result, node, node)->name.bytes);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------------- */

static size_t filter_size(size_t max_links)
{
    size_t size = 1024;

    /* two names each, and as many again so that few alarms are false */
    while (size < 4 * 1024 * 1024 && size / 4 < max_links)
        size *= 2;
    return size;
}

struct subscribers *subscribers_new(const struct subscribers_options *options)
{
    struct subscribers *s = calloc(1, sizeof(*s));
    size_t size = filter_size(options->max_links);

    if (s == NULL)
        return NULL;
    pthread_mutex_init(&s->mutex, NULL);
    s->options = *options;
    s->filter_mask = size - 1;
    atomic_init(&s->next_due_ms, NEVER);
    atomic_init(&s->is_any, false);
    if ((s->filter = calloc(size, sizeof(*s->filter))) == NULL || !table_init(&s->by_name, hash_of_name) ||
        !table_init(&s->by_credential, hash_of_credential) || !table_init(&s->streams, hash_of_stream) ||
        !table_init(&s->links, link_hash_of) || !table_init(&s->subjects, subject_hash_of) ||
        !table_init(&s->watches, hash_of_watch) || !table_init(&s->results, hash_of_result) || !tags_init(&s->tags)) {
        subscribers_free(s);
        return NULL;
    }
    return s;
}

void subscribers_lock(struct subscribers *s)
{
    pthread_mutex_lock(&s->mutex);
}

void subscribers_unlock(struct subscribers *s)
{
    struct timer *first = timers_first(&s->timers);

    atomic_store_explicit(&s->next_due_ms, first == NULL ? NEVER : first->due_ms, memory_order_release);
    atomic_store_explicit(&s->is_any, s->links.count + s->results.count != 0, memory_order_release);
    pthread_mutex_unlock(&s->mutex);
}

bool subscribers_is_any(const struct subscribers *s)
{
    return atomic_load_explicit(&s->is_any, memory_order_acquire);
}

int64_t subscribers_next_due(const struct subscribers *s)
{
    return atomic_load_explicit(&s->next_due_ms, memory_order_acquire);
}

void subscribers_numbers_get(struct subscribers *s, struct subscribers_numbers *ret)
{
    subscribers_lock(s);
    *ret = (struct subscribers_numbers){
        .sessions = s->sessions,
        .listens = s->listens,
        .links = s->links.count,
        .watches = s->watches.count,
        .results = s->results.count,
    };
    subscribers_unlock(s);
}

/* ---- who ------------------------------------------------------------------------------------------------------------------------- */

static struct subscriber *subscriber_of(const struct subscribers *s, const uint8_t name[16])
{
    for (struct node *node = table_first(&s->by_name, bytes_hash(name)); node != NULL; node = node->next) {
        struct subscriber *subscriber = OF_NODE(struct subscriber, by_name, node);

        if (memcmp(subscriber->name, name, sizeof(subscriber->name)) == 0)
            return subscriber;
    }
    return NULL;
}

static struct subscriber *subscriber_get(struct subscribers *s, const struct subscriber_id *id)
{
    struct subscriber *subscriber = subscriber_of(s, id->name);

    if (subscriber != NULL || (subscriber = malloc(sizeof(*subscriber))) == NULL)
        return subscriber;
    *subscriber = (struct subscriber){.is_session = id->is_session, .is_anonymous = id->is_anonymous};
    memcpy(subscriber->name, id->name, sizeof(subscriber->name));
    memcpy(subscriber->credential, id->credential, sizeof(subscriber->credential));
    memcpy(subscriber->principal, id->principal, sizeof(subscriber->principal));
    if (id->is_session && !timers_promise(&s->timers, &subscriber->idle, TIMER_IDLE)) {
        free(subscriber);
        return NULL;
    }
    table_add(&s->by_name, &subscriber->by_name);
    table_add(&s->by_credential, &subscriber->by_credential);
    ++*(id->is_session ? &s->sessions : &s->listens);
    return subscriber;
}

static void subscriber_drop(struct subscribers *s, struct subscriber *subscriber)
{
    while (subscriber->links != NULL)
        link_drop(s, subscriber->links);
    table_remove(&s->by_name, &subscriber->by_name);
    table_remove(&s->by_credential, &subscriber->by_credential);
    timers_release(&s->timers, &subscriber->idle);
    --*(subscriber->is_session ? &s->sessions : &s->listens);
    free(subscriber);
}

/* After a call of his: whoever has nothing here any more is gone, and of a session without a stream the time runs. */
static void subscriber_settle(struct subscribers *s, struct subscriber *subscriber, int64_t now_ms)
{
    if (subscriber->streams == NULL && (!subscriber->is_session || subscriber->links == NULL)) {
        subscriber_drop(s, subscriber);
        return;
    }
    if (subscriber->streams != NULL)
        timers_unset(&s->timers, &subscriber->idle);
    else
        timers_set(&s->timers, &subscriber->idle, now_ms < NEVER - s->options.idle_ms ? now_ms + s->options.idle_ms : NEVER);
}

/* Links may be polled, or may no more. */
static void tellers_changed(struct subscribers *s, struct subscriber *subscriber)
{
    struct link *link = subscriber->links;

    if (link == NULL)
        return;
    do
        link_settle(s, link);
    while ((link = link->next) != subscriber->links);
}

static bool is_same_stream(const struct stream_ref *a, const struct stream_ref *b)
{
    return a->loop == b->loop && a->id == b->id;
}

static struct stream *stream_of(const struct subscribers *s, const struct stream_ref *ref)
{
    for (struct node *node = table_first(&s->streams, stream_hash(ref)); node != NULL; node = node->next) {
        struct stream *stream = OF_NODE(struct stream, node, node);

        if (is_same_stream(&stream->ref, ref))
            return stream;
    }
    return NULL;
}

const struct stream *subscriber_teller(const struct subscriber *subscriber, const struct stream_ref *but)
{
    for (const struct stream *stream = subscriber->streams; stream != NULL; stream = stream->next)
        if (stream->may_tell && (but == NULL || !is_same_stream(&stream->ref, but)))
            return stream;
    return NULL;
}

static void close_stream(struct subscribers *s, struct stream *stream, int64_t now_ms)
{
    struct subscriber *subscriber = stream->subscriber;
    struct stream **at;

    table_remove(&s->streams, &stream->node);
    if (subscriber != NULL) {
        for (at = &subscriber->streams; *at != stream; at = &(*at)->next)
            ;
        *at = stream->next;
        subscriber->tellers -= stream->may_tell;
        if (stream->may_tell && subscriber->tellers == 0 && subscriber->is_session)
            tellers_changed(s, subscriber);
        subscriber_settle(s, subscriber, now_ms);
    }
    free(stream);
}

static void end_subscriber(struct subscribers *s, struct subscriber *subscriber, struct actions *out)
{
    for (struct stream *stream; (stream = subscriber->streams) != NULL;) {
        subscriber->streams = stream->next;
        stream->subscriber = NULL;
        actions_add(out, &(struct action){.kind = ACTION_END, .stream = stream->ref});
    }
    subscriber_drop(s, subscriber);
}

void subscribers_free(struct subscribers *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i != s->by_name.size; ++i)
        while (s->by_name.buckets[i] != NULL)
            subscriber_drop(s, OF_NODE(struct subscriber, by_name, s->by_name.buckets[i]));
    for (size_t i = 0; i != s->streams.size; ++i)
        for (struct node *node = s->streams.buckets[i], *next; node != NULL; node = next) {
            next = node->next;
            free(OF_NODE(struct stream, node, node));
        }
    while (s->oldest != NULL)
        result_drop(s, s->oldest);
    table_done(&s->by_name);
    table_done(&s->by_credential);
    table_done(&s->streams);
    table_done(&s->links);
    table_done(&s->subjects);
    table_done(&s->watches);
    table_done(&s->results);
    tags_done(&s->tags);
    timers_done(&s->timers);
    free(s->filter);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

/* ---- telling --------------------------------------------------------------------------------------------------------------------- */

/* In a ring that nobody joins meanwhile, and that only the end at hand leaves. */
static void ring_saw(struct subscribers *s, struct end *first, const struct sighting *sighting, int64_t now_ms, struct actions *out)
{
    struct end *last = first == NULL ? NULL : first->prev;

    for (struct end *end = first, *next; end != NULL; end = end == last ? NULL : next) {
        next = end->next;
        link_saw(s, end, sighting, now_ms, out);
    }
}

struct sameness {
    struct subscribers *subscribers;
    const struct sighting *sighting;
    const struct watch *but;
    int64_t now_ms;
    struct actions *out;
};

/* MUTANT told-to-all. */
static void on_same_subject(void *ctx, const struct tagged *tagged)
{
    struct sameness *same = ctx;
    const struct watch *watch = tagged->owner;

    if (tagged->is_result || watch == same->but)
        return;
    ring_saw(same->subscribers, watch->drivers, same->sighting, same->now_ms, same->out);
    ring_saw(same->subscribers, watch->others, same->sighting, same->now_ms, same->out);
}

void subscribers_saw(struct subscribers *s, const struct sighting *sighting, int64_t now_ms, struct actions *out)
{
    struct watch *watch;

    subscribers_lock(s);
    if ((watch = watch_of(s, &sighting->name)) != NULL) {
        watch_note(s, watch, sighting, now_ms);
        /* drivers first: what leaves the others joins them */
        ring_saw(s, watch->drivers, sighting, now_ms, out);
        ring_saw(s, watch->others, sighting, now_ms, out);
    }
    if (MUTANT("told-to-all") && sighting->subject_count != 0) {
        struct sameness same = {s, sighting, watch, now_ms, out};

        tags_visit(&s->tags, sighting->subjects, 1, on_same_subject, &same);
    }
    subscribers_unlock(s);
}

void subscribers_gave_way(struct subscribers *s, const struct watch_name *own)
{
    struct watch *watch;

    subscribers_lock(s);
    if ((watch = watch_of(s, own)) != NULL)
        watch->good_until_ms = 0;
    subscribers_unlock(s);
}

void subscribers_told(struct subscribers *s, const uint8_t name[16], enum topic topic, uint64_t subject, int64_t now_ms)
{
    struct subscriber *subscriber;
    struct link *link;

    subscribers_lock(s);
    if ((subscriber = subscriber_of(s, name)) != NULL) {
        if (topic == TOPIC_RESOURCE) {
            for (link = link_first(s, subscriber, subject); link != NULL; link = link_next(link))
                if (link->topic == TOPIC_RESOURCE)
                    link_told(s, link, now_ms);
        } else if ((link = subscriber->links) != NULL) {
            do
                if (link->topic == topic)
                    link_told(s, link, now_ms);
            while ((link = link->next) != subscriber->links && link->topic != TOPIC_RESOURCE);
        }
    }
    subscribers_unlock(s);
}

void subscribers_missed(struct subscribers *s, const uint8_t name[16], int64_t now_ms, struct actions *out)
{
    struct subscriber *subscriber;
    struct link *link;

    subscribers_lock(s);
    if ((subscriber = subscriber_of(s, name)) != NULL && (link = subscriber->links) != NULL)
        do {
            const bool is_twin = link->is_covered && link_is_twin_told(link, now_ms);

            if (!link->is_covered)
                continue;
            link_told(s, link, now_ms);
            if (!is_twin) {
                size_t before = out->count;

                link_tell_on(link, subscriber_teller(subscriber, NULL), out);
                if (out->count != before)
                    out->items[before].is_missed = true;
            }
        } while ((link = link->next) != subscriber->links);
    subscribers_unlock(s);
}

void subscribers_untold(struct subscribers *s, struct stream_ref stream, const uint8_t name[16], uint64_t subject, int64_t now_ms,
                        struct actions *out)
{
    struct subscriber *subscriber;

    (void)now_ms;
    subscribers_lock(s);
    if ((subscriber = subscriber_of(s, name)) != NULL && subscriber->is_session)
        for (struct link *link = link_first(s, subscriber, subject); link != NULL; link = link_next(link))
            link_tell_on(link, subscriber_teller(subscriber, &stream), out);
    subscribers_unlock(s);
}

/* ---- purges and doubts ----------------------------------------------------------------------------------------------------------- */

struct visit {
    struct subscribers *subscribers;
    int64_t now_ms;
    struct actions *out;
};

static void ring_purged(struct visit *visit, struct end *first)
{
    struct end *end = first;

    if (end == NULL)
        return;
    do {
        struct link *link = link_of_end(end);

        if (link->arm == end->arm)
            link_purged(visit->subscribers, link, visit->now_ms, visit->out);
    } while ((end = end->next) != first);
}

static void on_purged(void *ctx, const struct tagged *tagged)
{
    struct visit *visit = ctx;

    if (tagged->is_result) {
        results_purged(visit->subscribers, tagged->owner, visit->now_ms, visit->out);
    } else {
        struct watch *watch = tagged->owner;

        watch->good_until_ms = 0;
        ring_purged(visit, watch->drivers);
        ring_purged(visit, watch->others);
    }
}

void subscribers_purged(struct subscribers *s, const uint64_t *subjects, size_t count, int64_t now_ms, struct actions *out)
{
    struct visit visit = {.subscribers = s, .now_ms = now_ms, .out = out};

    subscribers_lock(s);
    tags_visit(&s->tags, subjects, count, on_purged, &visit);
    subscribers_unlock(s);
}

static void on_doubt(void *ctx, const struct tagged *tagged)
{
    struct visit *visit = ctx;

    if (!tagged->is_result)
        watch_doubt(visit->subscribers, tagged->owner, visit->now_ms);
}

void subscribers_doubt(struct subscribers *s, uint64_t subject, int64_t now_ms)
{
    struct visit visit = {.subscribers = s, .now_ms = now_ms};

    subscribers_lock(s);
    tags_visit(&s->tags, &subject, 1, on_doubt, &visit);
    subscribers_unlock(s);
}

/* ---- coming and going ------------------------------------------------------------------------------------------------------------ */

/* What waited for a stream is told on this one, of each list once. */
static void flush(struct subscriber *subscriber, const struct stream *stream, struct actions *out)
{
    struct link *link = subscriber->links;
    unsigned topics = 0;

    if (link == NULL)
        return;
    do {
        if (!link->is_pending)
            continue;
        if (link->topic != TOPIC_RESOURCE && (topics & 1u << link->topic) != 0)
            link->is_pending = false;
        else
            link_tell_on(link, stream, out);
        topics |= 1u << link->topic;
    } while ((link = link->next) != subscriber->links);
}

bool subscribers_open(struct subscribers *s, const struct subscriber_id *id, struct stream_ref ref, bool may_tell, int64_t now_ms,
                      struct actions *out)
{
    struct subscriber *subscriber;
    struct stream *stream, **at;

    subscribers_lock(s);
    if ((stream = stream_of(s, &ref)) != NULL)
        close_stream(s, stream, now_ms);
    if ((stream = malloc(sizeof(*stream))) == NULL || (subscriber = subscriber_get(s, id)) == NULL) {
        free(stream);
        subscribers_unlock(s);
        return false;
    }
    *stream = (struct stream){.subscriber = subscriber, .ref = ref, .may_tell = may_tell || !subscriber->is_session};
    table_add(&s->streams, &stream->node);
    for (at = &subscriber->streams; *at != NULL; at = &(*at)->next)
        ;
    *at = stream;
    if (stream->may_tell) {
        if (++subscriber->tellers == 1)
            tellers_changed(s, subscriber);
        flush(subscriber, stream, out);
    }
    subscriber_settle(s, subscriber, now_ms);
    subscribers_unlock(s);
    return true;
}

void subscribers_close(struct subscribers *s, struct stream_ref ref, int64_t now_ms)
{
    struct stream *stream;

    subscribers_lock(s);
    if ((stream = stream_of(s, &ref)) != NULL)
        close_stream(s, stream, now_ms);
    subscribers_unlock(s);
}

void subscribers_end_session(struct subscribers *s, const uint8_t name[16], struct actions *out)
{
    struct subscriber *subscriber;

    subscribers_lock(s);
    if ((subscriber = subscriber_of(s, name)) != NULL)
        end_subscriber(s, subscriber, out);
    subscribers_unlock(s);
}

void subscribers_end_credential(struct subscribers *s, const uint8_t credential[32], struct actions *out)
{
    subscribers_lock(s);
    for (struct node *node = table_first(&s->by_credential, bytes_hash(credential)), *next; node != NULL; node = next) {
        struct subscriber *subscriber = OF_NODE(struct subscriber, by_credential, node);

        next = node->next;
        if (memcmp(subscriber->credential, credential, sizeof(subscriber->credential)) == 0)
            end_subscriber(s, subscriber, out);
    }
    subscribers_unlock(s);
}

/* Whether all that have his credential have as many links as one credential may. */
static bool has_his_share(const struct subscribers *s, const struct subscriber *subscriber)
{
    size_t max = s->options.max_links / 100 * s->options.share_percent, count = 0;

    /* one subscriber may have as many as he may */
    if (max < s->options.max_links_of_one)
        max = s->options.max_links_of_one;

    if (s->options.share_percent == 0 || subscriber->is_anonymous || s->links.count < max)
        return false;
    for (struct node *node = table_first(&s->by_credential, bytes_hash(subscriber->credential)); node != NULL; node = node->next) {
        const struct subscriber *other = OF_NODE(struct subscriber, by_credential, node);

        if (memcmp(other->credential, subscriber->credential, sizeof(other->credential)) == 0)
            count += other->link_count;
    }
    return count >= max;
}

static enum subscribe subscribe(struct subscribers *s, struct subscriber *subscriber, const struct subscription *what,
                                int64_t now_ms)
{
    struct link *link;

    for (link = link_first(s, subscriber, what->subject); link != NULL; link = link_next(link))
        if (link->method == what->method)
            return link_take(s, link, what, now_ms) ? SUBSCRIBE_DONE : SUBSCRIBE_FULL;
    if (s->links.count >= s->options.max_links || has_his_share(s, subscriber) ||
        subscriber->link_count >= s->options.max_links_of_one || (link = link_new(s, subscriber, what)) == NULL)
        return SUBSCRIBE_FULL;
    if (!link_take(s, link, what, now_ms)) {
        link_drop(s, link);
        return SUBSCRIBE_FULL;
    }
    return SUBSCRIBE_DONE;
}

enum subscribe subscribers_subscribe(struct subscribers *s, const struct subscriber_id *id, struct stream_ref ref,
                                     const struct subscription *what, int64_t now_ms)
{
    enum subscribe result = SUBSCRIBE_FULL;
    struct subscriber *subscriber = NULL;
    struct stream *stream;

    subscribers_lock(s);
    if (ref.id != 0)
        subscriber = (stream = stream_of(s, &ref)) == NULL ? NULL : stream->subscriber;
    else if (id->is_session)
        subscriber = subscriber_get(s, id);
    if (subscriber != NULL) {
        result = subscribe(s, subscriber, what, now_ms);
        subscriber_settle(s, subscriber, now_ms);
    }
    subscribers_unlock(s);
    return result;
}

void subscribers_unsubscribe(struct subscribers *s, const uint8_t name[16], uint64_t subject, int64_t now_ms)
{
    struct subscriber *subscriber;

    subscribers_lock(s);
    if ((subscriber = subscriber_of(s, name)) != NULL && !MUTANT("unsubscribe-ignored")) {
        for (struct link *link = link_first(s, subscriber, subject), *next; link != NULL; link = next) {
            next = link_next(link);
            link_drop(s, link);
        }
        subscriber_settle(s, subscriber, now_ms);
    }
    subscribers_unlock(s);
}

bool subscribers_has(struct subscribers *s, const uint8_t name[16], uint64_t subject)
{
    struct subscriber *subscriber;
    bool has;

    subscribers_lock(s);
    has = (subscriber = subscriber_of(s, name)) != NULL && link_first(s, subscriber, subject) != NULL;
    subscribers_unlock(s);
    return has;
}

bool subscribers_knows(struct subscribers *s, const uint8_t name[16])
{
    bool is_known;

    subscribers_lock(s);
    is_known = subscriber_of(s, name) != NULL;
    subscribers_unlock(s);
    return is_known;
}

void subscribers_list(struct subscribers *s, const uint8_t name[16], void (*fn)(void *ctx, struct span uri, bool is_covered),
                      void *ctx)
{
    struct subscriber *subscriber;
    struct link *link;

    subscribers_lock(s);
    if ((subscriber = subscriber_of(s, name)) != NULL && (link = subscriber->links) != NULL)
        do {
            if (link->topic == TOPIC_RESOURCE)
                fn(ctx, topic_text_span(link->subject->text), link->is_covered);
        } while ((link = link->next) != subscriber->links);
    subscribers_unlock(s);
}

/* ---- time ------------------------------------------------------------------------------------------------------------------------ */

void subscribers_polled(struct subscribers *s, const struct watch_name *name, enum poll_end how, int64_t now_ms)
{
    struct watch *watch;

    subscribers_lock(s);
    if ((watch = watch_of(s, name)) != NULL)
        watch_polled(s, watch, how, now_ms);
    subscribers_unlock(s);
}

void subscribers_unheard(struct subscribers *s, const uint8_t name[16], uint64_t subject, enum cp_method method, enum poll_end how,
                         int64_t now_ms)
{
    struct subscriber *subscriber;

    subscribers_lock(s);
    if ((subscriber = subscriber_of(s, name)) != NULL)
        for (struct link *link = link_first(s, subscriber, subject); link != NULL; link = link_next(link))
            if (link->method == method)
                link_unheard(s, link, how, now_ms);
    subscribers_unlock(s);
}

void subscribers_due(struct subscribers *s, size_t most, int64_t now_ms, struct actions *out)
{
    const size_t before = out->count;
    struct timer *timer;

    subscribers_lock(s);
    for (size_t work = 0; out->count - before < most && (work < WORK_MIN || work / 4 < most); ++work) {
        if ((timer = timers_first(&s->timers)) == NULL || timer->due_ms > now_ms)
            break;
        switch ((enum timer_kind)timer->kind) {
        case TIMER_WATCH:
            watch_due(s, OF_NODE(struct watch, timer, timer), now_ms, out);
            break;
        case TIMER_HOLD: {
            struct link *link = OF_NODE(struct link, hold, timer);

            timers_unset(&s->timers, timer);
            link_tell_on(link, subscriber_teller(link->subscriber, NULL), out);
            break;
        }
        case TIMER_IDLE: {
            struct subscriber *subscriber = OF_NODE(struct subscriber, idle, timer);

            work += subscriber->link_count;
            subscriber_drop(s, subscriber);
            break;
        }
        }
    }
    subscribers_unlock(s);
}
