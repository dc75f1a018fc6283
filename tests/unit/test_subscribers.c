/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/notify: stories on plain numbers for time, a naive model beside many random steps, a crowd on one URI, and two threads (build with -Db_sanitize=thread to
 * see races). After each story everything inside is as it always should be. */
#include "unit.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>

#include "sidecar/notify/inside.h"

enum { T0 = 1000000, MIN_POLL = 1000, UNFRESH = 30000, HOLD = 500, IDLE = 60000, MINUTE = 60000 };

static struct subscribers *s;
static struct actions out;

static const struct subscribers_options usual = {
    .max_links = 100,
    .max_links_of_one = 10,
    .max_results = 3,
    .min_poll_ms = MIN_POLL,
    .unfresh_poll_ms = UNFRESH,
    .hold_ms = HOLD,
    .idle_ms = IDLE,
};

static int open_subscribers(void **state)
{
    (void)state;
    s = subscribers_new(&usual);
    return s == NULL;
}

static int close_subscribers(void **state)
{
    const char *wrong = subscribers_check(s);

    (void)state;
    if (wrong != NULL)
        print_error("%s\n", wrong);
    actions_done(&out);
    subscribers_free(s);
    return wrong != NULL;
}

static void with(const struct subscribers_options *options)
{
    subscribers_free(s);
    s = subscribers_new(options);
    assert_non_null(s);
}

/* ---- words ----------------------------------------------------------------------------------------------------------------------- */

/* Capital letters are sessions. Whoever has the same letter has the same principal and credential. */
static struct subscriber_id who(const char *name)
{
    struct subscriber_id id = {.is_session = name[0] >= 'A' && name[0] <= 'Z'};

    memcpy(id.name, name, strlen(name));
    id.name[15] = 1;
    memset(id.credential, name[0] | 0x20, sizeof(id.credential));
    memset(id.principal, name[0] | 0x20, sizeof(id.principal));
    return id;
}

static struct watch_name name_of(const char *text)
{
    struct watch_name name = {{0}};
    uint64_t hash = 1469598103934665603u;

    for (const char *p = text; *p != '\0'; ++p)
        hash = (hash ^ (uint8_t)*p) * 1099511628211u;
    memcpy(name.bytes, &hash, 8);
    hash *= 1099511628211u;
    memcpy(name.bytes + 8, &hash, 8);
    return name;
}

static uint64_t subject_named(const char *text)
{
    struct watch_name name = name_of(text);
    uint64_t subject;

    memcpy(&subject, name.bytes + 4, sizeof(subject));
    return subject;
}

static struct watch_content content_of(int number)
{
    return (struct watch_content){{(uint8_t)number, (uint8_t)(number >> 8)}};
}

static struct stream_ref on(uint64_t id)
{
    return (struct stream_ref){.loop = 0, .id = id};
}

static void enter(const char *name, uint64_t stream, bool may_tell, int64_t now_ms)
{
    struct subscriber_id id = who(name);

    assert_true(subscribers_open(s, &id, on(stream), may_tell, now_ms, &out));
}

/* Own name: the subscriber and the URI; the shared one: the URI. */
static struct subscription to(const char *name, const char *uri)
{
    char own[128];

    snprintf(own, sizeof(own), "%s %s", name, uri);
    return (struct subscription){
        .topic = TOPIC_RESOURCE,
        .method = CP_METHOD_RESOURCES_READ,
        .subject = subject_named(uri),
        .uri = span_of(uri),
        .own = name_of(own),
        .shared = name_of(uri),
        .has_shared = true,
    };
}

static enum subscribe take(const char *name, const struct subscription *what, int64_t now_ms)
{
    struct subscriber_id id = who(name);
    struct subscriber *subscriber = NULL;

    if (!id.is_session) {
        for (size_t i = 0; i != s->by_name.size; ++i)
            for (struct node *node = s->by_name.buckets[i]; node != NULL; node = node->next)
                if (memcmp(OF_NODE(struct subscriber, by_name, node)->name, id.name, 16) == 0)
                    subscriber = OF_NODE(struct subscriber, by_name, node);
        assert_non_null(subscriber);
        return subscribers_subscribe(s, &id, subscriber->streams->ref, what, now_ms);
    }
    return subscribers_subscribe(s, &id, on(0), what, now_ms);
}

static void subscribe(const char *name, const char *uri, int64_t now_ms)
{
    struct subscription what = to(name, uri);

    assert_int_equal(take(name, &what, now_ms), SUBSCRIBE_DONE);
}

/* He has this content under the shared name. */
static void subscribe_knowing(const char *name, const char *uri, int content, int64_t began_ms, int64_t fresh_until_ms)
{
    struct subscription what = to(name, uri);

    what.has_content = what.is_shared = true;
    what.content = content_of(content);
    what.began_ms = began_ms;
    what.fresh_until_ms = fresh_until_ms;
    assert_int_equal(take(name, &what, began_ms), SUBSCRIBE_DONE);
}

static void subscribe_covered(const char *name, const char *uri, int64_t now_ms)
{
    struct subscription what = to(name, uri);

    what.is_covered = true;
    assert_int_equal(take(name, &what, now_ms), SUBSCRIBE_DONE);
}

static void saw_fresh(const char *text, bool is_shared, int content, int64_t began_ms, int64_t fresh_until_ms)
{
    const uint64_t subjects[] = {subject_named(text), subject_named("everything")};

    subscribers_saw(s,
                    &(struct sighting){
                        .name = name_of(text),
                        .is_shared = is_shared,
                        .content = content_of(content),
                        .began_ms = began_ms,
                        .fresh_until_ms = fresh_until_ms,
                        .subjects = subjects,
                        .subject_count = 2,
                    },
                    began_ms + 5, &out);
}

static void saw(const char *uri, int content, int64_t began_ms)
{
    saw_fresh(uri, true, content, began_ms, began_ms + 10 * MINUTE);
}

static void saw_own(const char *name, const char *uri, int content, int64_t began_ms)
{
    char own[128];

    snprintf(own, sizeof(own), "%s %s", name, uri);
    saw_fresh(own, false, content, began_ms, began_ms + 10 * MINUTE);
}

static void told(const char *name, const char *uri, int64_t now_ms)
{
    struct subscriber_id id = who(name);

    subscribers_told(s, id.name, TOPIC_RESOURCE, subject_named(uri), now_ms);
}

static void purge(const char *text, int64_t now_ms)
{
    const uint64_t subject = subject_named(text);

    subscribers_purged(s, &subject, 1, now_ms, &out);
}

static void polled(const char *text, enum poll_end how, int64_t now_ms)
{
    struct watch_name name = name_of(text);

    subscribers_polled(s, &name, how, now_ms);
}

static void due(int64_t now_ms)
{
    subscribers_due(s, 1000, now_ms, &out);
}

/* What came of the calls since it was asked last, as "tell 1 uri, poll 2 uri, end 3", in order. */
static void expect_done(const char *wanted, const char *file, int line)
{
    static char text[4096];
    size_t n = 0;

    text[0] = '\0';
    for (size_t i = 0; i != out.count; ++i) {
        static const char *const kinds[] = {"tell", "poll", "end"}, *const topics[] = {"", "tools", "prompts", "resources"};
        const struct action *a = &out.items[i];
        struct span uri = topic_text_span(a->uri);

        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s %d", i == 0 ? "" : ", ", kinds[a->kind], (int)a->stream.id);
        if (a->kind != ACTION_END)
            n += (size_t)snprintf(text + n, sizeof(text) - n, " %s%.*s", topics[a->topic], (int)uri.n, uri.p == NULL ? "" : uri.p);
        assert_true(n < sizeof(text));
    }
    actions_done(&out);
    if (strcmp(text, wanted) != 0) {
        print_error("it was '%s', not '%s'\n", text, wanted);
        _fail(file, line);
    }
}
#define assert_done(wanted) expect_done((wanted), __FILE__, __LINE__)

static struct subscribers_numbers numbers(void)
{
    struct subscribers_numbers n;

    subscribers_numbers_get(s, &n);
    return n;
}

static bool may_want(const char *text)
{
    struct watch_name name = name_of(text);

    return subscribers_may_want(s, &name);
}

/* A listen on stream 1 that knows content 1 since T0. */
static void begin(void)
{
    enter("a", 1, true, T0);
    subscribe_knowing("a", "x", 1, T0, T0 + 10 * MINUTE);
    assert_done("");
}

/* ---- what a link knows ----------------------------------------------------------------------------------------------------------- */

static void the_first_content_is_silent(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    subscribe("a", "x", T0);
    saw("x", 1, T0 + 10);
    assert_done("");
}

static void a_change_is_told_once(void **state)
{
    (void)state;
    begin();
    saw("x", 2, T0 + 10);
    assert_done("tell 1 x");
    saw("x", 2, T0 + 20);
    saw("x", 2, T0 + 30);
    assert_done("");
    saw("x", 1, T0 + 40);
    assert_done("tell 1 x");
}

static void what_was_asked_for_no_later_is_of_no_interest(void **state)
{
    (void)state;
    begin();
    saw("x", 2, T0);
    saw("x", 3, T0 - 10);
    assert_done("");
    saw("x", 1, T0 + 20);
    saw("x", 2, T0 + 10);
    assert_done("");
    saw("x", 2, T0 + 21);
    assert_done("tell 1 x");
}

static void nobody_hears_of_what_he_would_not_be_served(void **state)
{
    (void)state;
    begin();
    enter("b", 2, true, T0);
    subscribe_knowing("b", "x", 1, T0, T0 + 10 * MINUTE);
    saw_own("a", "x", 2, T0 + 10);
    assert_done("tell 1 x");
    saw_own("b", "x", 2, T0 + 20);
    assert_done("tell 2 x");
    saw_own("c", "x", 3, T0 + 30);
    assert_done("");
}

static void the_same_under_another_name_is_no_change(void **state)
{
    (void)state;
    begin();
    saw_own("a", "x", 1, T0 + 10);
    saw("x", 1, T0 + 20);
    assert_done("");
    saw_own("a", "x", 2, T0 + 30);
    assert_done("tell 1 x");
    saw("x", 2, T0 + 40);
    assert_done("");
}

static void without_a_shared_name_shared_answers_are_not_heard_of(void **state)
{
    struct subscription what = to("a", "x");

    (void)state;
    enter("a", 1, true, T0);
    what.has_shared = false;
    take("a", &what, T0);
    saw_own("a", "x", 1, T0 + 1);
    saw("x", 2, T0 + 10);
    assert_done("");
    assert_false(may_want("x"));
    assert_true(may_want("a x"));
}

static void what_is_gone_is_told_once_and_so_is_that_it_is_back(void **state)
{
    (void)state;
    begin();
    saw("x", 0, T0 + 10);
    assert_done("tell 1 x");
    saw("x", 0, T0 + 20);
    assert_done("");
    saw("x", 1, T0 + 30);
    assert_done("tell 1 x");
}

static void what_was_never_there_is_silent_until_it_is(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    subscribe("a", "x", T0);
    saw("x", 0, T0 + 10);
    assert_done("");
    saw("x", 1, T0 + 20);
    assert_done("tell 1 x");
}

/* ---- told already ---------------------------------------------------------------------------------------------------------------- */

static void what_the_upstream_told_is_not_told_again(void **state)
{
    (void)state;
    begin();
    told("a", "x", T0 + 10);
    saw("x", 2, T0 + 20);
    assert_done("");
    saw("x", 3, T0 + 30);
    assert_done("tell 1 x");
}

static void what_was_asked_for_before_he_was_told_is_no_baseline(void **state)
{
    (void)state;
    begin();
    told("a", "x", T0 + 10);
    saw("x", 1, T0 + 5);
    saw("x", 2, T0 + 20);
    assert_done("");
    told("a", "x", T0 + 30);
    saw("x", 3, T0 + 25);
    saw("x", 4, T0 + 40);
    assert_done("");
    saw("x", 5, T0 + 50);
    assert_done("tell 1 x");
}

static void a_false_alarm_hides_nothing(void **state)
{
    (void)state;
    begin();
    told("a", "x", T0 + 10);
    saw("x", 1, T0 + 20);
    saw("x", 2, T0 + 30);
    assert_done("tell 1 x");
}

static void what_began_in_the_moment_of_the_telling_is_the_change_or_says_nothing(void **state)
{
    (void)state;
    begin();
    told("a", "x", T0 + 10);
    saw("x", 1, T0 + 10);
    saw("x", 2, T0 + 20);
    assert_done("");
    told("a", "x", T0 + 30);
    saw("x", 3, T0 + 30);
    assert_done("");
    saw("x", 4, T0 + 40);
    assert_done("tell 1 x");
}

static void being_told_of_what_is_known_by_now_hides_nothing(void **state)
{
    (void)state;
    begin();
    saw("x", 2, T0 + 50);
    assert_done("tell 1 x");
    told("a", "x", T0 + 40);
    saw("x", 3, T0 + 60);
    assert_done("tell 1 x");
}

static void whoever_was_told_before_any_content_hears_of_the_next_change(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    subscribe("a", "x", T0);
    told("a", "x", T0 + 10);
    saw("x", 1, T0 + 5);
    saw("x", 2, T0 + 20);
    assert_done("");
    saw("x", 3, T0 + 30);
    assert_done("tell 1 x");
}

static void one_is_told_and_another_is_not(void **state)
{
    (void)state;
    begin();
    enter("b", 2, true, T0);
    subscribe_knowing("b", "x", 1, T0, T0 + 10 * MINUTE);
    told("a", "x", T0 + 10);
    told("z", "x", T0 + 10);
    told("a", "y", T0 + 10);
    saw("x", 2, T0 + 20);
    assert_done("tell 2 x");
}

/* ---- covered --------------------------------------------------------------------------------------------------------------------- */

static void begin_covered(void)
{
    enter("a", 1, true, T0);
    subscribe_covered("a", "x", T0);
    saw("x", 1, T0 + 1);
    assert_done("");
}

static void whom_the_upstream_tells_we_tell_when_it_does_not(void **state)
{
    (void)state;
    begin_covered();
    saw("x", 2, T0 + 10);
    assert_done("");
    assert_int_equal(subscribers_next_due(s), T0 + 15 + HOLD);
    due(T0 + 14 + HOLD);
    assert_done("");
    due(T0 + 15 + HOLD);
    assert_done("tell 1 x");
    due(T0 + MINUTE);
    assert_done("");
    assert_int_equal(subscribers_next_due(s), INT64_MAX);
}

static void when_the_upstream_tells_in_time_we_do_not(void **state)
{
    (void)state;
    begin_covered();
    saw("x", 2, T0 + 10);
    told("a", "x", T0 + 10 + HOLD / 2);
    assert_int_equal(subscribers_next_due(s), INT64_MAX);
    due(T0 + MINUTE);
    saw("x", 2, T0 + MINUTE);
    due(T0 + 2 * MINUTE);
    assert_done("");
}

static void what_is_held_stays_held_whatever_else_is_seen(void **state)
{
    (void)state;
    begin_covered();
    saw("x", 2, T0 + 10);
    saw("x", 3, T0 + 20);
    saw("x", 1, T0 + 30);
    due(T0 + 15 + HOLD);
    assert_done("tell 1 x");
}

static void covered_links_are_never_polled(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    subscribe_covered("a", "x", T0);
    due(T0 + 100 * MINUTE);
    assert_done("");
    assert_int_equal(subscribers_next_due(s), INT64_MAX);
}

static void whoever_is_covered_no_more_is_polled(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    subscribe_covered("a", "x", T0);
    subscribe("a", "x", T0 + 10);
    due(T0 + 10);
    assert_done("poll 1 x");
    subscribe_covered("a", "x", T0 + 20);
    polled("a x", POLL_FAILED, T0 + 30);
    due(T0 + 100 * MINUTE);
    assert_done("");
    assert_int_equal(numbers().links, 1);
}

static void a_held_purge_is_one_telling_with_the_notice(void **state)
{
    (void)state;
    begin_covered();
    purge("x", T0 + 10);
    told("a", "x", T0 + 20);
    saw("x", 2, T0 + 30);
    due(T0 + MINUTE);
    assert_done("");
    /* and when the notice is quicker than the write that it is about */
    told("a", "x", T0 + MINUTE);
    purge("x", T0 + MINUTE + 10);
    due(T0 + 2 * MINUTE);
    assert_done("");
    purge("x", T0 + 3 * MINUTE);
    due(T0 + 3 * MINUTE + HOLD);
    assert_done("tell 1 x");
}

static void without_time_to_hold_covered_links_are_told_at_once(void **state)
{
    struct subscribers_options options = usual;

    (void)state;
    options.hold_ms = 0;
    with(&options);
    begin_covered();
    saw("x", 2, T0 + 10);
    assert_done("tell 1 x");
}

static void whoever_missed_something_is_told_of_what_was_covered(void **state)
{
    struct subscriber_id id = who("a"), nobody = who("z");

    (void)state;
    begin_covered();
    subscribe_knowing("a", "y", 1, T0, T0 + 10 * MINUTE);
    saw("x", 2, T0 + 10);
    subscribers_missed(s, id.name, T0 + 20, &out);
    subscribers_missed(s, nobody.name, T0 + 20, &out);
    assert_done("tell 1 x");
    saw("x", 3, T0 + 30);
    due(T0 + MINUTE);
    assert_done("");
}

/* ---- streams --------------------------------------------------------------------------------------------------------------------- */

static void of_a_sessions_streams_one_is_told(void **state)
{
    (void)state;
    enter("A", 1, false, T0);
    enter("A", 2, true, T0);
    enter("A", 3, true, T0);
    subscribe_knowing("A", "x", 1, T0, 0);
    saw("x", 2, T0 + 10);
    assert_done("tell 2 x");
    subscribers_close(s, on(2), T0 + 20);
    saw("x", 3, T0 + 30);
    assert_done("tell 3 x");
    subscribers_close(s, on(3), T0 + 40);
    saw("x", 4, T0 + 50);
    assert_done("");
    enter("A", 4, false, T0 + 60);
    assert_done("");
    enter("A", 5, true, T0 + 70);
    assert_done("tell 5 x");
}

static void of_several_listens_each_is_told(void **state)
{
    (void)state;
    enter("a1", 1, true, T0);
    enter("a2", 2, true, T0);
    subscribe_knowing("a1", "x", 1, T0, 0);
    subscribe_knowing("a2", "x", 1, T0, 0);
    saw("x", 2, T0 + 10);
    assert_done("tell 1 x, tell 2 x");
}

static void without_a_stream_one_mark_waits_for_each_link(void **state)
{
    (void)state;
    subscribe_knowing("A", "x", 1, T0, 0);
    subscribe_knowing("A", "y", 1, T0, 0);
    subscribe_knowing("A", "z", 1, T0, 0);
    saw("x", 2, T0 + 10);
    saw("x", 3, T0 + 20);
    saw("y", 2, T0 + 30);
    assert_done("");
    enter("A", 1, true, T0 + 40);
    assert_done("tell 1 x, tell 1 y");
    enter("A", 2, true, T0 + 50);
    assert_done("");
}

static void what_the_upstream_told_meanwhile_does_not_wait(void **state)
{
    (void)state;
    subscribe_knowing("A", "x", 1, T0, 0);
    saw("x", 2, T0 + 10);
    told("A", "x", T0 + 20);
    enter("A", 1, true, T0 + 40);
    assert_done("");
}

static void a_held_telling_without_a_stream_waits_for_one(void **state)
{
    (void)state;
    subscribe_covered("A", "x", T0);
    saw("x", 1, T0 + 1);
    saw("x", 2, T0 + 10);
    due(T0 + MINUTE / 2);
    assert_done("");
    enter("A", 1, true, T0 + MINUTE / 2 + 1);
    assert_done("tell 1 x");
}

static void what_could_not_be_told_is_told_on_another_stream_or_waits(void **state)
{
    struct subscriber_id id = who("A"), listen = who("a");

    (void)state;
    enter("A", 1, true, T0);
    enter("A", 2, true, T0);
    subscribe_knowing("A", "x", 1, T0, 0);
    saw("x", 2, T0 + 10);
    assert_done("tell 1 x");
    subscribers_untold(s, on(1), id.name, subject_named("x"), T0 + 20, &out);
    assert_done("tell 2 x");
    subscribers_close(s, on(1), T0 + 30);
    subscribers_untold(s, on(2), id.name, subject_named("x"), T0 + 30, &out);
    assert_done("");
    enter("A", 3, true, T0 + 40);
    assert_done("tell 3 x");
    subscribers_untold(s, on(3), id.name, subject_named("nothing he has"), T0 + 50, &out);
    subscribers_untold(s, on(3), listen.name, subject_named("x"), T0 + 50, &out);
    assert_done("");
}

static void a_listen_whose_stream_was_gone_is_owed_nothing(void **state)
{
    struct subscriber_id id = who("a");

    (void)state;
    begin();
    subscribers_untold(s, on(1), id.name, subject_named("x"), T0 + 20, &out);
    assert_done("");
    subscribers_close(s, on(1), T0 + 30);
    subscribers_untold(s, on(1), id.name, subject_named("x"), T0 + 40, &out);
    assert_done("");
}

static void a_listen_ends_with_its_stream(void **state)
{
    (void)state;
    begin();
    subscribers_close(s, on(1), T0 + 10);
    assert_int_equal(numbers().listens, 0);
    assert_int_equal(numbers().links, 0);
    assert_int_equal(numbers().watches, 0);
    assert_false(subscribers_is_any(s));
    assert_false(may_want("x"));
    saw("x", 2, T0 + 20);
    assert_done("");
}

static void a_sessions_links_outlive_its_streams(void **state)
{
    (void)state;
    enter("A", 1, true, T0);
    subscribe_knowing("A", "x", 1, T0, 0);
    subscribers_close(s, on(1), T0 + 10);
    assert_int_equal(numbers().links, 1);
    assert_int_equal(numbers().sessions, 1);
}

static void ids_of_streams_are_each_loops_own(void **state)
{
    struct subscriber_id a = who("a"), b = who("b");
    struct subscription what = to("b", "x");

    (void)state;
    begin();
    assert_true(subscribers_open(s, &b, (struct stream_ref){.loop = 1, .id = 1}, true, T0, &out));
    what.has_content = what.is_shared = true;
    what.content = content_of(1);
    what.began_ms = T0;
    assert_int_equal(subscribers_subscribe(s, &b, (struct stream_ref){.loop = 1, .id = 1}, &what, T0), SUBSCRIBE_DONE);
    subscribers_close(s, (struct stream_ref){.loop = 2, .id = 1}, T0);
    saw("x", 2, T0 + 10);
    assert_int_equal(out.count, 2);
    assert_int_equal(out.items[0].stream.loop + out.items[1].stream.loop, 1);
    actions_done(&out);
    subscribers_close(s, (struct stream_ref){.loop = 1, .id = 1}, T0);
    saw("x", 3, T0 + 20);
    assert_done("tell 1 x");
    /* used again, while the old one was not reported closed */
    assert_true(subscribers_open(s, &b, on(1), true, T0 + 30, &out));
    assert_int_equal(numbers().listens, 1);
    assert_int_equal(numbers().links, 0);
    assert_true(subscribers_open(s, &a, on(2), true, T0 + 30, &out));
    assert_done("");
}

static void what_is_unknown_does_no_harm(void **state)
{
    struct subscriber_id z = who("z");
    struct subscription what = to("z", "x");

    (void)state;
    subscribers_close(s, on(7), T0);
    subscribers_unsubscribe(s, z.name, 1, T0);
    subscribers_end_session(s, z.name, &out);
    subscribers_end_credential(s, z.credential, &out);
    subscribers_told(s, z.name, TOPIC_TOOLS_LIST, 0, T0);
    subscribers_untold(s, on(1), z.name, 1, T0, &out);
    subscribers_doubt(s, 1, T0);
    polled("x", POLL_FAILED, T0);
    purge("x", T0);
    saw("x", 1, T0);
    assert_int_equal(subscribers_subscribe(s, &z, on(7), &what, T0), SUBSCRIBE_FULL);
    assert_int_equal(subscribers_subscribe(s, &z, on(0), &what, T0), SUBSCRIBE_FULL);
    begin();
    z = who("a");
    subscribers_unsubscribe(s, z.name, subject_named("not this"), T0);
    assert_int_equal(numbers().links, 1);
    polled("x", POLL_SEEN, T0);
    due(T0);
    assert_done("");
    subscribers_free(NULL);
}

/* ---- lists ----------------------------------------------------------------------------------------------------------------------- */

static void subscribe_list(const char *name, const char *list, enum topic topic, enum cp_method method, bool is_covered)
{
    struct subscription what = to(name, list);

    what.topic = topic;
    what.method = method;
    what.uri = SPAN_ABSENT;
    what.is_covered = is_covered;
    assert_int_equal(take(name, &what, T0), SUBSCRIBE_DONE);
    saw(list, 1, T0 + 1);
    assert_done("");
}

static void a_list_has_no_uri(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    subscribe("a", "x", T0);
    subscribe_list("a", "tools", TOPIC_TOOLS_LIST, CP_METHOD_TOOLS_LIST, false);
    saw("tools", 2, T0 + 10);
    assert_done("tell 1 tools");
}

static void both_halves_of_the_resources_are_told_as_one_list(void **state)
{
    struct subscriber_id id = who("A");

    (void)state;
    subscribe("A", "x", T0);
    subscribe_list("A", "list", TOPIC_RESOURCES_LIST, CP_METHOD_RESOURCES_LIST, false);
    subscribe_list("A", "templates", TOPIC_RESOURCES_LIST, CP_METHOD_RESOURCE_TEMPLATES_LIST, false);
    saw("list", 2, T0 + 10);
    saw("templates", 2, T0 + 10);
    enter("A", 1, true, T0 + 20);
    assert_done("tell 1 resources");
    purge("everything", T0 + 30);
    assert_done("tell 1 resources");
    subscribers_told(s, id.name, TOPIC_RESOURCES_LIST, 0, T0 + 40);
    saw("list", 3, T0 + 50);
    saw("templates", 3, T0 + 60);
    assert_done("");
    saw("list", 4, T0 + 70);
    assert_done("tell 1 resources");
}

static void whoever_missed_lists_is_told_of_each_once(void **state)
{
    struct subscriber_id id = who("a");

    (void)state;
    enter("a", 1, true, T0);
    subscribe_covered("a", "x", T0);
    subscribe_list("a", "tools", TOPIC_TOOLS_LIST, CP_METHOD_TOOLS_LIST, false);
    subscribe_list("a", "list", TOPIC_RESOURCES_LIST, CP_METHOD_RESOURCES_LIST, true);
    subscribe_list("a", "templates", TOPIC_RESOURCES_LIST, CP_METHOD_RESOURCE_TEMPLATES_LIST, true);
    subscribers_missed(s, id.name, T0 + 10, &out);
    assert_done("tell 1 resources, tell 1 x");
}

/* ---- purges ---------------------------------------------------------------------------------------------------------------------- */

static void a_write_is_told_to_all_who_had_what_it_purged(void **state)
{
    (void)state;
    begin();
    enter("b", 2, true, T0);
    enter("c", 3, true, T0);
    subscribe_knowing("b", "x", 1, T0, 0);
    subscribe_knowing("c", "y", 1, T0, 0);
    saw("x", 1, T0 + 10);
    saw("y", 1, T0 + 10);
    purge("nothing of theirs", T0 + 15);
    assert_done("");
    purge("x", T0 + 20);
    assert_done("tell 1 x, tell 2 x");
    saw("x", 2, T0 + 30);
    assert_done("");
    saw("x", 3, T0 + 40);
    assert_done("tell 1 x, tell 2 x");
}

static void a_purge_is_heard_of_under_the_name_last_seen_alone(void **state)
{
    (void)state;
    begin();
    saw_own("a", "x", 1, T0 + 10);
    saw("x", 1, T0 + 5);
    purge("x", T0 + 20);
    assert_done("");
    purge("a x", T0 + 30);
    assert_done("tell 1 x");
}

static void what_has_several_of_the_subjects_is_told_once(void **state)
{
    const uint64_t subjects[] = {subject_named("x"), subject_named("everything"), subject_named("x")};

    (void)state;
    begin();
    saw("x", 1, T0 + 10);
    subscribers_purged(s, subjects, 3, T0 + 20, &out);
    assert_done("tell 1 x");
}

static void what_has_more_subjects_than_are_remembered_is_told_of_any(void **state)
{
    uint64_t subjects[TAGS_MAX + 1];

    (void)state;
    begin();
    for (size_t i = 0; i != TAGS_MAX + 1; ++i)
        subjects[i] = 100 + i;
    for (size_t count = TAGS_MAX; count <= TAGS_MAX + 1; ++count) {
        subscribers_saw(s,
                        &(struct sighting){.name = name_of("x"),
                                           .is_shared = true,
                                           .content = content_of(1),
                                           .began_ms = T0 + 10 * (int64_t)count,
                                           .subjects = subjects,
                                           .subject_count = count},
                        T0 + 100, &out);
        purge("something else", T0 + 200);
        assert_done(count == TAGS_MAX ? "" : "tell 1 x");
        subscribers_purged(s, subjects, TAGS_MAX, T0 + 200, &out);
        assert_done("tell 1 x");
    }
}

static void subscribing_brings_the_subjects_along(void **state)
{
    struct subscription what = to("a", "x");
    const uint64_t subjects[] = {17};

    (void)state;
    enter("a", 1, true, T0);
    what.has_content = true;
    what.content = content_of(1);
    what.began_ms = T0;
    what.subjects = subjects;
    what.subject_count = 1;
    take("a", &what, T0);
    subscribers_purged(s, subjects, 1, T0 + 10, &out);
    assert_done("tell 1 x");
}

static void whoever_knows_nothing_yet_is_not_told_of_purges(void **state)
{
    (void)state;
    begin();
    saw("x", 1, T0 + 10);
    enter("b", 2, true, T0);
    subscribe("b", "x", T0 + 15);
    purge("x", T0 + 20);
    assert_done("tell 1 x");
}

/* ---- tool results ---------------------------------------------------------------------------------------------------------------- */

static void subscribe_result(const char *name, const char *uri)
{
    struct subscription what = to(name, uri);

    what.is_result = true;
    assert_int_equal(take(name, &what, T0), SUBSCRIBE_DONE);
}

static void saw_result(const char *entry, const char *uri, enum cp_scope scope, const char *whose, bool has_session, int content,
                       int64_t began_ms)
{
    const uint64_t subjects[] = {subject_named(uri), subject_named(entry)};
    struct subscriber_id id = who(whose);
    struct result_sighting result = {
        .seen = {.name = name_of(entry),
                 .content = content_of(content),
                 .began_ms = began_ms,
                 .subjects = subjects,
                 .subject_count = 2},
        .subject = subject_named(uri),
        .tool = SPAN("tool"),
        .scope = scope,
    };

    memcpy(result.principal, id.principal, sizeof(result.principal));
    if (has_session)
        memcpy(result.session, id.name, sizeof(result.session));
    subscribers_saw_result(s, &result, began_ms + 5, &out);
}

static void results_changes_are_told_to_those_who_are_served_them(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    enter("A1", 2, true, T0);
    enter("A2", 3, true, T0);
    enter("b", 4, true, T0);
    for (const char *const *name = (const char *const[]){"a", "A1", "A2", "b", NULL}; *name != NULL; ++name)
        subscribe_result(*name, "x");
    subscribe_knowing("b", "y", 1, T0, 0);
    saw_result("public", "x", CP_SCOPE_PUBLIC, "z", false, 1, T0 + 10);
    saw_result("principal", "x", CP_SCOPE_PRINCIPAL, "a", false, 1, T0 + 10);
    saw_result("session", "x", CP_SCOPE_SESSION, "A1", true, 1, T0 + 10);
    assert_done("");
    saw_result("public", "x", CP_SCOPE_PUBLIC, "z", false, 2, T0 + 20);
    assert_done("tell 1 x, tell 2 x, tell 3 x, tell 4 x");
    saw_result("principal", "x", CP_SCOPE_PRINCIPAL, "a", false, 2, T0 + 30);
    assert_done("tell 1 x, tell 2 x, tell 3 x");
    /* a listen is in no session */
    saw_result("session", "x", CP_SCOPE_SESSION, "A1", true, 2, T0 + 40);
    assert_done("tell 2 x");
    saw_result("session", "x", CP_SCOPE_SESSION, "A1", true, 2, T0 + 50);
    saw_result("session", "x", CP_SCOPE_SESSION, "A1", true, 3, T0 + 45);
    assert_done("");
}

static void a_result_in_no_session_is_its_principals(void **state)
{
    (void)state;
    enter("a1", 1, true, T0);
    enter("a2", 2, true, T0);
    enter("b", 3, true, T0);
    subscribe_result("a1", "x");
    subscribe_result("a2", "x");
    subscribe_result("b", "x");
    saw_result("e", "x", CP_SCOPE_SESSION, "a", false, 1, T0 + 10);
    saw_result("e", "x", CP_SCOPE_SESSION, "a", false, 2, T0 + 20);
    assert_done("tell 1 x, tell 2 x");
}

static void results_are_remembered_before_anybody_asks(void **state)
{
    (void)state;
    saw_result("e", "x", CP_SCOPE_PUBLIC, "a", false, 1, T0 + 10);
    assert_true(subscribers_is_any(s));
    enter("a", 1, true, T0 + 20);
    subscribe_result("a", "x");
    saw_result("e", "x", CP_SCOPE_PUBLIC, "a", false, 2, T0 + 30);
    assert_done("tell 1 x");
}

static void links_to_results_are_not_heard_of_by_names_nor_polled(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    subscribe_result("a", "x");
    saw("x", 1, T0 + 10);
    saw("x", 2, T0 + 20);
    due(T0 + 100 * MINUTE);
    assert_done("");
    assert_false(may_want("x"));
    assert_int_equal(numbers().watches, 0);
}

static void a_purged_result_is_told_once(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    enter("b", 2, true, T0);
    subscribe_result("a", "x");
    subscribe_result("b", "x");
    saw_result("e", "x", CP_SCOPE_PRINCIPAL, "a", false, 1, T0 + 10);
    purge("e", T0 + 20);
    assert_done("tell 1 x");
    saw_result("e", "x", CP_SCOPE_PRINCIPAL, "a", false, 2, T0 + 30);
    assert_done("");
    saw_result("e", "x", CP_SCOPE_PRINCIPAL, "a", false, 3, T0 + 40);
    assert_done("tell 1 x");
}

static void of_a_result_too_nobody_is_told_twice(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    subscribe_result("a", "x");
    saw_result("e", "x", CP_SCOPE_PUBLIC, "a", false, 1, T0 + 10);
    told("a", "x", T0 + 20);
    saw_result("e", "x", CP_SCOPE_PUBLIC, "a", false, 2, T0 + 30);
    assert_done("");
    saw_result("e", "x", CP_SCOPE_PUBLIC, "a", false, 3, T0 + 40);
    assert_done("tell 1 x");
}

static void a_covered_result_is_held(void **state)
{
    struct subscription what = to("a", "x");

    (void)state;
    enter("a", 1, true, T0);
    what.is_result = what.is_covered = true;
    take("a", &what, T0);
    saw_result("e", "x", CP_SCOPE_PUBLIC, "a", false, 1, T0 + 10);
    saw_result("e", "x", CP_SCOPE_PUBLIC, "a", false, 2, T0 + 20);
    assert_done("");
    due(T0 + 25 + HOLD);
    assert_done("tell 1 x");
}

static void the_result_that_was_seen_longest_ago_makes_room(void **state)
{
    static const char *const entries[] = {"1", "2", "3", "1", "4"};
    struct subscribers_options options = usual;

    (void)state;
    enter("a", 1, true, T0);
    subscribe_result("a", "x");
    for (int i = 0; i != 5; ++i)
        saw_result(entries[i], "x", CP_SCOPE_PUBLIC, "a", false, 1, T0 + i);
    assert_int_equal(numbers().results, 3);
    saw_result("2", "x", CP_SCOPE_PUBLIC, "a", false, 2, T0 + 10);
    assert_done("");
    saw_result("1", "x", CP_SCOPE_PUBLIC, "a", false, 2, T0 + 10);
    assert_done("tell 1 x");
    options.max_results = 0;
    with(&options);
    saw_result("1", "x", CP_SCOPE_PUBLIC, "a", false, 2, T0 + 10);
    assert_false(subscribers_is_any(s));
}

/* ---- polls ----------------------------------------------------------------------------------------------------------------------- */

static void without_content_the_first_poll_is_due_at_once(void **state)
{
    struct watch_name own = to("a", "x").own;

    (void)state;
    enter("a", 1, true, T0);
    subscribe("a", "x", T0);
    assert_int_equal(subscribers_next_due(s), T0);
    due(T0);
    assert_int_equal(out.count, 1);
    assert_memory_equal(out.items[0].name.bytes, own.bytes, sizeof(own.bytes));
    assert_int_equal(out.items[0].method, CP_METHOD_RESOURCES_READ);
    assert_true(out.items[0].subject == subject_named("x"));
    assert_done("poll 1 x");
}

static void with_content_it_is_due_when_that_is_not_fresh_any_more(void **state)
{
    (void)state;
    begin();
    assert_int_equal(subscribers_next_due(s), T0 + 10 * MINUTE);
    due(T0 + 10 * MINUTE - 1);
    assert_done("");
    due(T0 + 10 * MINUTE);
    assert_done("poll 1 x");
}

static void one_poll_is_out_at_a_time(void **state)
{
    (void)state;
    begin();
    due(T0 + 10 * MINUTE);
    due(T0 + 10 * MINUTE + 1);
    due(T0 + 10 * MINUTE + 59999);
    assert_done("poll 1 x");
    saw("x", 1, T0 + 10 * MINUTE);
    polled("x", POLL_SEEN, T0 + 11 * MINUTE);
    assert_int_equal(subscribers_next_due(s), T0 + 20 * MINUTE);
}

static void a_poll_that_never_reports_counts_as_failed(void **state)
{
    (void)state;
    begin();
    due(T0 + 10 * MINUTE);
    assert_done("poll 1 x");
    due(T0 + 11 * MINUTE);
    assert_done("");
    assert_int_equal(subscribers_next_due(s), T0 + 11 * MINUTE + MIN_POLL);
    due(T0 + 11 * MINUTE + MIN_POLL);
    assert_done("poll 1 x");
}

static void polls_are_never_closer_than_the_least_pause(void **state)
{
    (void)state;
    begin();
    saw_fresh("x", true, 1, T0 + 10, T0 + 20);
    assert_int_equal(subscribers_next_due(s), T0 + 10 + MIN_POLL);
}

static void what_has_no_lifetime_has_a_pause_of_its_own(void **state)
{
    (void)state;
    begin();
    saw_fresh("x", true, 1, T0 + 10, 0);
    assert_int_equal(subscribers_next_due(s), T0 + 15 + UNFRESH);
}

static void or_is_never_polled(void **state)
{
    struct subscribers_options options = usual;

    (void)state;
    options.unfresh_poll_ms = 0;
    with(&options);
    begin();
    saw_fresh("x", true, 1, T0 + 10, 0);
    assert_int_equal(subscribers_next_due(s), INT64_MAX);
    subscribers_doubt(s, subject_named("x"), T0 + 20);
    assert_int_equal(subscribers_next_due(s), INT64_MAX);
}

static uint64_t most(void *ctx)
{
    return *(uint64_t *)ctx;
}

static void jitter_is_a_tenth_up_to_a_second_and_never_early(void **state)
{
    struct subscribers_options options = usual;
    uint64_t number = 0;

    (void)state;
    options.random = most;
    options.ctx = &number;
    with(&options);
    begin();
    for (int64_t i = 1; i != 5000; ++i) {
        number = (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15);
        saw_fresh("x", true, 1, T0 + i, T0 + i + 5000);
        assert_in_range(subscribers_next_due(s), T0 + i + 5000, T0 + i + 5500);
        saw_fresh("x", true, 1, T0 + i, T0 + i + MINUTE);
        assert_in_range(subscribers_next_due(s), T0 + i + MINUTE, T0 + i + MINUTE + 1000);
    }
    number = 500;
    saw_fresh("x", true, 1, T0 + 6000, T0 + 6000 + 5000);
    assert_int_equal(subscribers_next_due(s), T0 + 6000 + 5500);
}

static void each_failure_doubles_the_pause_up_to_five_minutes(void **state)
{
    int64_t now_ms = T0;

    (void)state;
    enter("a", 1, true, T0);
    subscribe("a", "x", T0);
    for (int64_t pause_ms = MIN_POLL, i = 0; i != 12; ++i, pause_ms *= 2) {
        due(now_ms);
        assert_done("poll 1 x");
        polled("a x", POLL_FAILED, now_ms + 7);
        now_ms += 7 + (pause_ms < 5 * MINUTE ? pause_ms : 5 * MINUTE);
        due(now_ms - 1);
        assert_done("");
    }
    due(now_ms);
    saw_own("a", "x", 1, now_ms);
    polled("a x", POLL_SEEN, now_ms + 10);
    assert_done("poll 1 x");
    now_ms += 10 * MINUTE;
    assert_int_equal(subscribers_next_due(s), now_ms);
    due(now_ms);
    polled("a x", POLL_FAILED, now_ms);
    assert_int_equal(subscribers_next_due(s), now_ms + MIN_POLL);
    assert_done("poll 1 x");
}

static void an_answer_that_moved_nothing_is_a_failure(void **state)
{
    (void)state;
    begin();
    due(T0 + 10 * MINUTE);
    assert_done("poll 1 x");
    polled("x", POLL_SEEN, T0 + 10 * MINUTE + 10);
    assert_int_equal(subscribers_next_due(s), T0 + 10 * MINUTE + 10 + MIN_POLL);
}

static void whoever_turns_out_to_be_served_the_shared_answer_is_polled_there(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    enter("b", 2, true, T0);
    subscribe("a", "x", T0);
    subscribe("b", "x", T0);
    due(T0);
    assert_int_equal(out.count, 2);
    actions_done(&out);
    saw("x", 1, T0 + 1);
    polled("a x", POLL_SEEN, T0 + 20);
    polled("b x", POLL_SEEN, T0 + 20);
    assert_int_equal(subscribers_next_due(s), T0 + 1 + 10 * MINUTE);
    due(T0 + 1 + 10 * MINUTE);
    assert_int_equal(out.count, 1);
    assert_memory_equal(out.items[0].name.bytes, name_of("x").bytes, 16);
}

static void an_answer_under_another_name_is_no_failure(void **state)
{
    struct subscription what = to("a", "x");

    (void)state;
    /* what he asked for in his own name is everybody's, and the next who asks in that name finds no pause */
    enter("a", 1, true, T0);
    subscribe("a", "x", T0);
    due(T0);
    saw("x", 1, T0 + 1);
    polled("a x", POLL_SEEN, T0 + 20);
    enter("a2", 2, true, T0 + 30);
    what.uri = SPAN("x");
    assert_int_equal(take("a2", &what, T0 + 30 + MIN_POLL), SUBSCRIBE_DONE);
    due(T0 + 30 + MIN_POLL);
    assert_done("poll 1 x, poll 2 x");
    saw("x", 1, T0 + MINUTE);
    polled("a x", POLL_SEEN, T0 + MINUTE);
    /* what was everybody's is each one's own: they all ask, one after the other, in pauses that do not grow */
    for (int i = 0; i != 5; ++i) {
        char name[3] = {'m', (char)('0' + i), '\0'};

        enter(name, 10 + (uint64_t)i, true, T0 + MINUTE);
        subscribe_knowing(name, "x", 1, T0 + MINUTE, T0 + 20 * MINUTE);
    }
    for (int64_t i = 0, now_ms = T0 + 20 * MINUTE; i != 7; ++i, now_ms += MIN_POLL) {
        static const char *const names[] = {"a", "a", "m0", "m1", "m2", "m3", "m4"};

        due(now_ms - 1);
        assert_int_equal(out.count, 0);
        due(now_ms);
        assert_int_equal(out.count, 1);
        actions_done(&out);
        saw_own(names[i], "x", 1, now_ms);
        polled("x", POLL_SEEN, now_ms);
        i += i == 0; /* two of one principal: both have it */
    }
    due(T0 + 20 * MINUTE + 10 * MIN_POLL);
    assert_done("");
}

static void who_joins_during_a_pause_waits_too(void **state)
{
    struct subscription what = to("a", "x");

    (void)state;
    enter("a", 1, true, T0);
    enter("a2", 2, true, T0);
    enter("a3", 3, true, T0);
    assert_int_equal(take("a", &what, T0), SUBSCRIBE_DONE);
    due(T0);
    assert_done("poll 1 x");
    assert_int_equal(take("a2", &what, T0 + 10), SUBSCRIBE_DONE);
    due(T0 + 10);
    assert_done("");
    polled("a x", POLL_FAILED, T0 + 20);
    assert_int_equal(take("a3", &what, T0 + 30), SUBSCRIBE_DONE);
    assert_int_equal(subscribers_next_due(s), T0 + 20 + MIN_POLL);
}

static void who_joins_without_content_asks_again_but_not_too_soon(void **state)
{
    struct subscription what = to("a", "x");

    (void)state;
    enter("a", 1, true, T0);
    enter("a2", 2, true, T0);
    assert_int_equal(take("a", &what, T0), SUBSCRIBE_DONE);
    saw_own("a", "x", 1, T0);
    assert_int_equal(take("a2", &what, T0 + 10), SUBSCRIBE_DONE);
    assert_int_equal(subscribers_next_due(s), T0 + MIN_POLL);
}

static void drivers_take_turns(void **state)
{
    static const char *const turns[] = {"poll 1 x", "poll 2 x", "poll 3 x", "poll 1 x"};
    int64_t now_ms = T0 + 10 * MINUTE;

    (void)state;
    begin();
    enter("b", 2, true, T0);
    enter("c", 3, true, T0);
    subscribe_knowing("b", "x", 1, T0, T0 + 10 * MINUTE);
    subscribe_knowing("c", "x", 1, T0, T0 + 10 * MINUTE);
    for (int i = 0; i != 4; ++i) {
        due(now_ms);
        assert_done(turns[i]);
        polled("x", POLL_FAILED, now_ms);
        now_ms += 10 * MINUTE;
    }
}

static void a_stream_that_is_gone_costs_no_pause(void **state)
{
    int64_t now_ms = T0 + 10 * MINUTE;

    (void)state;
    begin();
    enter("b", 2, true, T0);
    subscribe_knowing("b", "x", 1, T0, T0 + 10 * MINUTE);
    due(now_ms);
    polled("x", POLL_GONE, now_ms);
    due(now_ms);
    assert_done("poll 1 x, poll 2 x");
    /* but when all say so all the time, something is wrong, and is not to become a loop */
    for (int i = 0; i != 20; ++i) {
        polled("x", POLL_GONE, now_ms);
        due(now_ms);
    }
    assert_in_range(out.count, 1, 10);
    assert_int_equal(subscribers_next_due(s), now_ms + MIN_POLL);
}

static void only_who_can_be_written_to_asks(void **state)
{
    (void)state;
    subscribe("A", "x", T0);
    enter("A", 1, false, T0);
    due(T0 + MINUTE);
    assert_done("");
    assert_int_equal(subscribers_next_due(s), INT64_MAX);
    enter("A", 2, true, T0 + MINUTE);
    assert_true(subscribers_next_due(s) <= T0 + MINUTE);
    due(T0 + MINUTE);
    assert_done("poll 2 x");
    subscribers_close(s, on(2), T0 + MINUTE);
    polled("A x", POLL_GONE, T0 + MINUTE);
    due(T0 + 2 * MINUTE);
    assert_done("");
}

static void a_stream_does_not_hasten_what_is_fresh(void **state)
{
    (void)state;
    subscribe_knowing("A", "x", 1, T0, T0 + 10 * MINUTE);
    enter("A", 1, true, T0 + 10);
    assert_int_equal(subscribers_next_due(s), T0 + 10 * MINUTE);
}

static void what_is_doubted_is_polled_soon(void **state)
{
    (void)state;
    begin();
    saw("x", 1, T0 + 10);
    subscribers_doubt(s, subject_named("other"), T0 + 15);
    assert_int_equal(subscribers_next_due(s), T0 + 10 + 10 * MINUTE);
    subscribers_doubt(s, subject_named("x"), T0 + 20);
    assert_int_equal(subscribers_next_due(s), T0 + 10 + MIN_POLL);
    due(T0 + 10 + MIN_POLL);
    assert_done("poll 1 x");
    /* an answer that was under way when the next doubt arose is doubtful too */
    subscribers_doubt(s, subject_named("x"), T0 + 100 + MIN_POLL);
    saw("x", 1, T0 + 10 + MIN_POLL);
    polled("x", POLL_SEEN, T0 + 200 + MIN_POLL);
    assert_int_equal(subscribers_next_due(s), T0 + 10 + 2 * MIN_POLL);
    due(T0 + 10 + 2 * MIN_POLL);
    saw("x", 1, T0 + 10 + 2 * MIN_POLL);
    polled("x", POLL_SEEN, T0 + 200 + 2 * MIN_POLL);
    assert_int_equal(subscribers_next_due(s), T0 + 10 + 2 * MIN_POLL + 10 * MINUTE);
    assert_done("poll 1 x");
}

static void a_doubt_shortens_no_pause_after_failures(void **state)
{
    (void)state;
    begin();
    saw("x", 1, T0 + 10);
    due(T0 + 11 * MINUTE);
    polled("x", POLL_FAILED, T0 + 11 * MINUTE);
    subscribers_doubt(s, subject_named("x"), T0 + 11 * MINUTE);
    assert_int_equal(subscribers_next_due(s), T0 + 11 * MINUTE + MIN_POLL);
    assert_done("poll 1 x");
}

static void no_more_is_handed_out_than_asked_for(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    for (const char *const *uri = (const char *const[]){"u", "v", "w", "x", "y", NULL}; *uri != NULL; ++uri)
        subscribe("a", *uri, T0);
    subscribers_due(s, 2, T0, &out);
    assert_int_equal(out.count, 2);
    subscribers_due(s, 2, T0, &out);
    assert_int_equal(out.count, 4);
    assert_int_equal(subscribers_next_due(s), T0);
    subscribers_due(s, 2, T0, &out);
    assert_int_equal(out.count, 5);
    assert_true(subscribers_next_due(s) > T0);
    subscribers_due(s, 0, T0 + 10 * MINUTE, &out);
    assert_int_equal(out.count, 5);
}

static void no_number_is_too_large(void **state)
{
    (void)state;
    begin();
    saw_fresh("x", true, 1, T0 + 10, INT64_MAX - 1);
    due(INT64_MAX - 10);
    saw_fresh("x", true, 1, INT64_MAX - 10, INT64_MAX);
    subscribers_saw(s, &(struct sighting){.name = name_of("x"), .content = content_of(1), .began_ms = INT64_MAX - 5}, INT64_MAX - 5,
                    &out);
    assert_done("");
}

/* ---- coming and going ------------------------------------------------------------------------------------------------------------ */

static void subscribing_twice_is_one_link(void **state)
{
    (void)state;
    enter("a", 1, true, T0);
    subscribe("a", "x", T0);
    subscribe_knowing("a", "x", 1, T0 + 10, T0 + 10 * MINUTE);
    assert_int_equal(numbers().links, 1);
    assert_int_equal(subscribers_next_due(s), T0 + 10 * MINUTE);
    /* what he knows is not changed by what others were served meanwhile */
    subscribe_knowing("a", "x", 2, T0 + 20, T0 + 10 * MINUTE);
    saw("x", 1, T0 + 30);
    assert_done("");
    saw("x", 2, T0 + 40);
    assert_done("tell 1 x");
}

static void whoever_unsubscribed_hears_nothing(void **state)
{
    struct subscriber_id id = who("a");

    (void)state;
    begin();
    subscribers_unsubscribe(s, id.name, subject_named("x"), T0 + 10);
    subscribers_unsubscribe(s, id.name, subject_named("x"), T0 + 10);
    saw("x", 2, T0 + 20);
    purge("x", T0 + 30);
    due(T0 + 100 * MINUTE);
    assert_done("");
    assert_int_equal(numbers().links, 0);
    assert_int_equal(numbers().watches, 0);
    assert_int_equal(numbers().listens, 1);
}

static void a_held_or_waiting_telling_goes_with_its_link(void **state)
{
    struct subscriber_id id = who("A");

    (void)state;
    subscribe_covered("A", "x", T0);
    saw("x", 1, T0 + 1);
    saw("x", 2, T0 + 10);
    subscribe_knowing("A", "y", 1, T0, 0);
    saw("y", 2, T0 + 10);
    subscribers_unsubscribe(s, id.name, subject_named("x"), T0 + 20);
    subscribers_unsubscribe(s, id.name, subject_named("y"), T0 + 20);
    assert_int_equal(numbers().sessions, 0);
    enter("A", 1, true, T0 + 30);
    due(T0 + MINUTE);
    assert_done("");
}

static void a_sessions_end_ends_its_streams_and_links(void **state)
{
    struct subscriber_id id = who("A"), listen = who("a");
    struct subscription what = to("A", "x");

    (void)state;
    begin();
    enter("A", 2, true, T0);
    enter("A", 3, false, T0);
    subscribe_knowing("A", "x", 1, T0, 0);
    subscribers_end_session(s, id.name, &out);
    assert_done("end 2, end 3");
    subscribers_end_session(s, id.name, &out);
    saw("x", 2, T0 + 10);
    assert_done("tell 1 x");
    assert_int_equal(numbers().sessions, 0);
    assert_int_equal(numbers().links, 1);
    /* an ended stream takes no more part */
    assert_int_equal(subscribers_subscribe(s, &id, on(2), &what, T0), SUBSCRIBE_FULL);
    assert_null(subscribers_check(s));
    subscribers_close(s, on(2), T0 + 20);
    subscribers_close(s, on(2), T0 + 20);
    subscribers_end_session(s, listen.name, &out);
    assert_done("end 1");
    /* 1 and 3 are never closed */
}

static void a_credentials_end_ends_all_that_it_has(void **state)
{
    struct subscriber_id id = who("a");

    (void)state;
    enter("a1", 1, true, T0);
    enter("a2", 2, true, T0);
    enter("A", 3, true, T0);
    enter("b", 4, true, T0);
    for (const char *const *name = (const char *const[]){"a1", "a2", "A", "b", NULL}; *name != NULL; ++name)
        subscribe_knowing(*name, "x", 1, T0, 0);
    subscribers_end_credential(s, id.credential, &out);
    assert_int_equal(out.count, 3);
    for (size_t i = 0; i != 3; ++i)
        assert_int_equal(out.items[i].kind, ACTION_END);
    actions_done(&out);
    saw("x", 2, T0 + 10);
    assert_done("tell 4 x");
}

static void an_idle_session_is_forgotten(void **state)
{
    (void)state;
    subscribe_knowing("A", "x", 1, T0, T0 + 10 * MINUTE);
    enter("B", 1, true, T0);
    subscribe_knowing("B", "x", 1, T0, T0 + 10 * MINUTE);
    due(T0 + IDLE - 1);
    assert_int_equal(numbers().sessions, 2);
    due(T0 + IDLE);
    assert_int_equal(numbers().sessions, 1);
    subscribers_close(s, on(1), T0 + 10 * MINUTE - 1);
    subscribe("B", "y", T0 + 10 * MINUTE + 10);
    due(T0 + 10 * MINUTE + IDLE);
    assert_int_equal(numbers().sessions, 1);
    due(T0 + 10 * MINUTE + 10 + IDLE);
    assert_int_equal(numbers().sessions, 0);
    assert_int_equal(numbers().links, 0);
    assert_int_equal(subscribers_next_due(s), INT64_MAX);
    assert_done("");
}

static void limits_are_kept(void **state)
{
    struct subscribers_options options = usual;
    struct subscription what;

    (void)state;
    options.max_links = 3;
    options.max_links_of_one = 2;
    with(&options);
    enter("a", 1, true, T0);
    subscribe("a", "x", T0);
    subscribe("a", "y", T0);
    what = to("a", "z");
    assert_int_equal(take("a", &what, T0), SUBSCRIBE_FULL);
    subscribe("a", "x", T0);
    subscribe("B", "x", T0);
    what = to("C", "x");
    assert_int_equal(take("C", &what, T0), SUBSCRIBE_FULL);
    assert_int_equal(numbers().sessions, 1);
    assert_int_equal(numbers().links, 3);
    subscribers_close(s, on(1), T0);
    subscribe("C", "x", T0);
}

static void a_uri_outlives_its_link_in_an_action(void **state)
{
    (void)state;
    begin();
    saw("x", 2, T0 + 10);
    subscribers_close(s, on(1), T0 + 20);
    assert_done("tell 1 x");
}

/* ---- a naive model beside it ----------------------------------------------------------------------------------------------------- */

enum { SUBS = 6, SESSIONS = 3, URIS = 4, STREAMS = 12, STEPS = 60000 };

static const char *const sub_names[SUBS] = {"A", "B", "C", "a", "b", "c"}, *const uris[URIS] = {"u", "v", "w", "x"};

static struct model_link {
    bool is_there, is_covered, is_told, is_pending, is_held;
    enum arm arm;
    int content;
    int64_t began_ms, told_ms, held_until_ms;
} links[SUBS][URIS];
static struct {
    bool is_open, may_tell;
    int sub;
    uint64_t order;
} streams[STREAMS];
static struct {
    int64_t idle_at_ms;
    bool is_there;
} subs[SUBS];
/* of a watch: [URI][0]: shared; [URI][1 + sub]: own */
static struct {
    int64_t began_ms, fresh_until_ms, good_until_ms;
    bool is_out, is_hurried, has_tags;
} watches[URIS][SUBS + 1];
static uint64_t seed, orders;
static size_t tells, polls; /* so that a model in which nothing happens is noticed */
static char predicted[65536];

static uint64_t pick(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % below;
}

static int model_teller(int sub, int but)
{
    int found = -1;

    for (int i = 0; i != STREAMS; ++i)
        if (streams[i].is_open && streams[i].sub == sub && streams[i].may_tell && i != but &&
            (found == -1 || streams[i].order < streams[found].order))
            found = i;
    return found;
}

static void predict(int stream, int uri)
{
    snprintf(predicted + strlen(predicted), sizeof(predicted) - strlen(predicted), "%d %s\n", stream + 1, uris[uri]);
}

static void model_tell_on(int sub, int uri, int stream)
{
    links[sub][uri].is_pending = stream == -1;
    if (stream != -1)
        predict(stream, uri);
}

static void model_tell(int sub, int uri, int64_t now_ms)
{
    struct model_link *l = &links[sub][uri];

    if (!l->is_covered)
        model_tell_on(sub, uri, model_teller(sub, -1));
    else if (!l->is_held) {
        l->is_held = true;
        l->held_until_ms = now_ms + HOLD;
    }
}

static void model_set_told(struct model_link *l, int64_t now_ms)
{
    if (l->arm == ARM_NONE || l->began_ms <= now_ms) {
        l->is_told = true;
        l->told_ms = now_ms;
    }
}

static void model_settle(int sub, int64_t now_ms)
{
    bool has_stream = false, has_link = false;

    for (int i = 0; i != STREAMS; ++i)
        has_stream |= streams[i].is_open && streams[i].sub == sub;
    for (int u = 0; u != URIS; ++u)
        has_link |= links[sub][u].is_there;
    if (!has_stream && sub >= SESSIONS)
        for (int u = 0; u != URIS; ++u)
            links[sub][u].is_there = false;
    subs[sub].is_there = has_stream || (has_link && sub < SESSIONS);
    subs[sub].idle_at_ms = has_stream || !subs[sub].is_there ? INT64_MAX : now_ms + IDLE;
}

/* A watch without links forgets. */
static void model_forget(void)
{
    for (int u = 0; u != URIS; ++u) {
        bool is_any = false;

        for (int i = 0; i != SUBS; ++i) {
            is_any |= links[i][u].is_there;
            if (!links[i][u].is_there)
                memset(&watches[u][1 + i], 0, sizeof(watches[u][0]));
        }
        if (!is_any)
            memset(&watches[u][0], 0, sizeof(watches[u][0]));
    }
}

static bool model_may_drive(int sub, int uri, int watch)
{
    const struct model_link *l = &links[sub][uri];

    if (!l->is_there || l->is_covered || model_teller(sub, -1) == -1)
        return false;
    return watch == 0 ? l->arm == ARM_SHARED : watch == 1 + sub && (l->arm == ARM_OWN || l->arm == ARM_NONE);
}

static void model_saw(int uri, int watch, int content, int64_t began_ms, int64_t fresh_until_ms, bool has_tags, int64_t now_ms)
{
    const int64_t good_until_ms = began_ms >= watches[uri][watch].began_ms ? fresh_until_ms : watches[uri][watch].good_until_ms;
    bool is_any = false;

    for (int i = 0; i != SUBS; ++i) {
        struct model_link *l = &links[i][uri];
        bool is_change, was_told = l->is_told, is_older = l->arm != ARM_NONE && began_ms <= l->began_ms;

        if (!l->is_there || (watch != 0 && watch != 1 + i))
            continue;
        is_any = true;
        /* an older one of his own is what he is served */
        if (is_older && (watch == 0 || l->arm != ARM_SHARED || good_until_ms <= now_ms))
            continue;
        if (l->is_told && began_ms < l->told_ms)
            continue;
        if (watch == 0 && l->arm == ARM_OWN && watches[uri][1 + i].good_until_ms > now_ms)
            continue;
        is_change = l->arm != ARM_NONE && content != l->content;
        if (l->arm == ARM_NONE || is_change || began_ms > l->told_ms)
            l->is_told = false;
        l->arm = watch == 0 ? ARM_SHARED : ARM_OWN;
        l->content = content;
        l->began_ms = began_ms;
        if (is_change && !is_older && !was_told)
            model_tell(i, uri, now_ms);
    }
    if (is_any && began_ms >= watches[uri][watch].began_ms) {
        watches[uri][watch].began_ms = began_ms;
        watches[uri][watch].fresh_until_ms = watches[uri][watch].good_until_ms = fresh_until_ms;
        watches[uri][watch].has_tags = has_tags;
        /* a doubt may be later than what was seen: then it may come sooner */
    }
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_lines(char *text)
{
    char *lines[1024], *copy = strdup(text), *at = text;
    size_t n = 0;

    for (char *line = strtok(copy, "\n"); line != NULL; line = strtok(NULL, "\n"))
        lines[n++] = line;
    qsort(lines, n, sizeof(lines[0]), compare_lines);
    for (size_t i = 0; i != n; ++i)
        at += sprintf(at, "%s\n", lines[i]);
    free(copy);
}

static void model_compare(int step, int64_t now_ms)
{
    static char seen[65536];

    seen[0] = '\0';
    for (size_t i = 0; i != out.count; ++i) {
        const struct action *a = &out.items[i];
        struct span uri = topic_text_span(a->uri);
        const int stream = (int)a->stream.id - 1;
        int u = 0, w = -1;

        if (a->kind == ACTION_TELL)
            snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%d %.*s\n", stream + 1, (int)uri.n, uri.p);
        tells += a->kind == ACTION_TELL;
        polls += a->kind == ACTION_POLL;
        if (a->kind != ACTION_POLL)
            continue;
        while (!span_eq(uri, span_of(uris[u])))
            ++u;
        for (int i2 = 0; i2 <= SUBS; ++i2) {
            struct watch_name name = i2 == 0 ? name_of(uris[u]) : to(sub_names[i2 - 1], uris[u]).own;

            if (memcmp(name.bytes, a->name.bytes, 16) == 0)
                w = i2;
        }
        if (w == -1 || !streams[stream].is_open || stream != model_teller(streams[stream].sub, -1) ||
            !model_may_drive(streams[stream].sub, u, w) || watches[u][w].is_out)
            fail_msg("step %d: a poll of %s by stream %d that nobody should make", step, uris[u], stream + 1);
        if (watches[u][w].began_ms != 0 && now_ms < watches[u][w].began_ms + MIN_POLL)
            fail_msg("step %d: polled too soon", step);
        if (!watches[u][w].is_hurried && now_ms < watches[u][w].fresh_until_ms)
            fail_msg("step %d: polled while fresh", step);
        watches[u][w].is_out = true;
        watches[u][w].is_hurried = false;
    }
    sort_lines(seen);
    sort_lines(predicted);
    if (strcmp(seen, predicted) != 0)
        fail_msg("step %d: told was\n%sand should have been\n%s", step, seen, predicted);
    predicted[0] = '\0';
    actions_done(&out);
}

static struct watch_name model_name(int uri, int watch)
{
    return watch == 0 ? name_of(uris[uri]) : to(sub_names[watch - 1], uris[uri]).own;
}

static void step_subscribe(int sub, int uri, int64_t now_ms)
{
    struct model_link *l = &links[sub][uri];
    struct subscription what = to(sub_names[sub], uris[uri]);
    const uint64_t subjects[] = {subject_named(uris[uri])};
    int w;

    if (sub >= SESSIONS && !subs[sub].is_there)
        return;
    what.is_covered = pick(4) == 0;
    what.has_content = pick(2) == 0;
    what.is_shared = pick(2) == 0;
    what.content = content_of((int)(1 + pick(3)));
    what.began_ms = now_ms - (int64_t)pick(100);
    what.fresh_until_ms = pick(3) == 0 ? 0 : now_ms + (int64_t)pick(5000);
    what.subjects = subjects;
    what.subject_count = pick(2);
    assert_int_equal(take(sub_names[sub], &what, now_ms), SUBSCRIBE_DONE);
    w = what.is_shared ? 0 : 1 + sub;
    if (!l->is_there)
        *l = (struct model_link){.is_there = true, .arm = ARM_NONE};
    l->is_covered = what.is_covered;
    if (l->is_held && !l->is_covered)
        l->held_until_ms = now_ms;
    if (l->arm == ARM_NONE && what.has_content) {
        l->arm = what.is_shared ? ARM_SHARED : ARM_OWN;
        l->content = what.content.bytes[0];
        l->began_ms = what.began_ms;
        if (l->began_ms >= watches[uri][w].began_ms) {
            watches[uri][w].began_ms = l->began_ms;
            watches[uri][w].fresh_until_ms = watches[uri][w].good_until_ms = what.fresh_until_ms;
            watches[uri][w].has_tags = what.subject_count != 0;
        }
    }
    if (l->arm == ARM_NONE && !l->is_covered)
        watches[uri][1 + sub].is_hurried = true;
    model_settle(sub, now_ms);
}

static void step_saw(int uri, int64_t now_ms)
{
    const uint64_t subjects[] = {subject_named(uris[uri])};
    const int watch = pick(2) == 0 ? 0 : (int)(1 + pick(SUBS)), content = (int)pick(4);
    struct sighting sighting = {
        .name = model_name(uri, watch),
        .is_shared = watch == 0,
        .content = content_of(content),
        .began_ms = now_ms - (int64_t)pick(60),
        .fresh_until_ms = pick(3) == 0 ? 0 : now_ms + (int64_t)pick(5000),
        .subjects = subjects,
        .subject_count = pick(2),
    };

    model_saw(uri, watch, content, sighting.began_ms, sighting.fresh_until_ms, sighting.subject_count != 0, now_ms);
    subscribers_saw(s, &sighting, now_ms, &out);
}

static void step_purge(int uri, int64_t now_ms)
{
    for (int i = 0; i != SUBS; ++i) {
        struct model_link *l = &links[i][uri];

        if (!l->is_there || l->arm == ARM_NONE || !watches[uri][l->arm == ARM_SHARED ? 0 : 1 + i].has_tags)
            continue;
        if (l->is_covered && !l->is_held && l->is_told && now_ms - l->told_ms < HOLD)
            continue;
        model_set_told(l, now_ms);
        model_tell(i, uri, now_ms);
    }
    for (int w = 0; w != SUBS + 1; ++w)
        if (watches[uri][w].has_tags)
            watches[uri][w].good_until_ms = 0;
    purge(uris[uri], now_ms);
}

static void step_stream(int i, int64_t now_ms)
{
    const int sub = (int)pick(SUBS);

    if (streams[i].is_open) {
        subscribers_close(s, on((uint64_t)i + 1), now_ms);
        streams[i].is_open = false;
        model_settle(streams[i].sub, now_ms);
        return;
    }
    if (sub >= SESSIONS && subs[sub].is_there)
        return;
    streams[i].is_open = true;
    streams[i].may_tell = pick(3) != 0 || sub >= SESSIONS;
    streams[i].sub = sub;
    streams[i].order = ++orders;
    enter(sub_names[sub], (uint64_t)i + 1, streams[i].may_tell, now_ms);
    for (int u = 0; u != URIS && streams[i].may_tell; ++u)
        if (links[sub][u].is_there && links[sub][u].is_pending)
            model_tell_on(sub, u, i);
    model_settle(sub, now_ms);
}

static void step_end(int sub, int64_t now_ms)
{
    struct subscriber_id id = who(sub_names[sub]);
    size_t ended = 0;

    for (int i = 0; i != STREAMS; ++i)
        if (streams[i].is_open && streams[i].sub == sub)
            ++ended, streams[i].is_open = false;
    for (int u = 0; u != URIS; ++u)
        links[sub][u].is_there = false;
    if (pick(2) == 0) {
        subscribers_end_session(s, id.name, &out);
    } else {
        const int twin = (sub + SESSIONS) % SUBS;

        for (int i = 0; i != STREAMS; ++i)
            if (streams[i].is_open && streams[i].sub == twin)
                ++ended, streams[i].is_open = false;
        for (int u = 0; u != URIS; ++u)
            links[twin][u].is_there = false;
        subscribers_end_credential(s, id.credential, &out);
        model_settle(twin, now_ms);
    }
    assert_int_equal(out.count, ended);
    model_settle(sub, now_ms);
}

static void step_due(int64_t now_ms)
{
    for (int i = 0; i != SUBS; ++i)
        for (int u = 0; u != URIS; ++u) {
            struct model_link *l = &links[i][u];

            if (l->is_there && l->is_held && l->held_until_ms <= now_ms) {
                l->is_held = false;
                model_tell_on(i, u, model_teller(i, -1));
            }
        }
    for (int i = 0; i != SUBS; ++i)
        if (subs[i].is_there && subs[i].idle_at_ms <= now_ms) {
            subs[i].is_there = false;
            for (int u = 0; u != URIS; ++u)
                links[i][u].is_there = false;
        }
    /* polls that are given up go out again later, never in the same call */
    for (int u = 0; u != URIS; ++u)
        for (int w = 0; w <= SUBS; ++w) {
            struct watch_name name = model_name(u, w);
            struct watch *watch = watch_of(s, &name);

            if (watch != NULL && watch->is_out && watch->timer.due_ms <= now_ms)
                watches[u][w].is_out = false;
        }
    due(now_ms);
    if (subscribers_next_due(s) <= now_ms)
        fail_msg("something is still due");
}

static void step_told(int sub, int uri, int64_t now_ms)
{
    struct model_link *l = &links[sub][uri];

    told(sub_names[sub], uris[uri], now_ms);
    l->is_held = l->is_pending = false;
    model_set_told(l, now_ms);
}

static void step_untold(int sub, int uri, int64_t now_ms)
{
    struct subscriber_id id = who(sub_names[sub]);
    const int stream = (int)pick(STREAMS);

    subscribers_untold(s, on((uint64_t)stream + 1), id.name, subject_named(uris[uri]), now_ms, &out);
    if (links[sub][uri].is_there && sub < SESSIONS)
        model_tell_on(sub, uri, model_teller(sub, stream));
}

static void step_missed(int sub, int64_t now_ms)
{
    struct subscriber_id id = who(sub_names[sub]);

    subscribers_missed(s, id.name, now_ms, &out);
    for (int u = 0; u != URIS; ++u) {
        struct model_link *l = &links[sub][u];

        if (!l->is_there || !l->is_covered)
            continue;
        l->is_held = false;
        model_set_told(l, now_ms);
        model_tell_on(sub, u, model_teller(sub, -1));
    }
}

static void many_random_steps_are_as_a_naive_model_says(void **state)
{
    int64_t now_ms = T0;

    (void)state;
    memset(links, 0, sizeof(links));
    memset(streams, 0, sizeof(streams));
    memset(subs, 0, sizeof(subs));
    memset(watches, 0, sizeof(watches));
    seed = 88172645463325252u;
    for (int step = 0; step != STEPS; ++step) {
        const int sub = (int)pick(SUBS), uri = (int)pick(URIS);

        now_ms += (int64_t)(pick(1000) == 0 ? pick(2 * IDLE) : pick(40));
        switch (pick(14)) {
        case 0:
        case 1:
            step_subscribe(sub, uri, now_ms);
            break;
        case 2:
            if (pick(3) == 0) {
                struct subscriber_id id = who(sub_names[sub]);

                subscribers_unsubscribe(s, id.name, subject_named(uris[uri]), now_ms);
                links[sub][uri].is_there = false;
                if (subs[sub].is_there)
                    model_settle(sub, now_ms);
            }
            break;
        case 3:
        case 4:
        case 5:
            step_saw(uri, now_ms);
            break;
        case 6:
            step_purge(uri, now_ms);
            break;
        case 7:
            step_told(sub, uri, now_ms);
            break;
        case 8:
            step_stream((int)pick(STREAMS), now_ms);
            break;
        case 9:
            if (pick(20) == 0)
                step_end(sub, now_ms);
            else
                step_untold(sub, uri, now_ms);
            break;
        case 10:
        case 11:
            step_due(now_ms);
            break;
        case 12: {
            const int w = (int)pick(SUBS + 1);
            struct watch_name name = model_name(uri, w);

            subscribers_polled(s, &name, (enum poll_end)pick(3), now_ms);
            watches[uri][w].is_out = false;
            watches[uri][w].is_hurried = true; /* a failure's pause may be shorter than what was fresh */
            break;
        }
        case 13:
            if (pick(3) == 0) {
                step_missed(sub, now_ms);
            } else {
                subscribers_doubt(s, subject_named(uris[uri]), now_ms);
                for (int w = 0; w != SUBS + 1; ++w)
                    if (watches[uri][w].has_tags)
                        watches[uri][w].good_until_ms = 0;
                for (int w = 0; w <= SUBS; ++w)
                    watches[uri][w].is_hurried = true;
            }
            break;
        }
        model_compare(step, now_ms);
        model_forget();
        if (subscribers_check(s) != NULL)
            fail_msg("step %d: %s", step, subscribers_check(s));
    }
    assert_true(tells > STEPS / 20);
    assert_true(polls > STEPS / 100);
    /* and whoever can be polled is, sooner or later */
    for (int minute = 0; minute != 8; ++minute) {
        bool is_missing = false;

        step_due(now_ms += MINUTE);
        predicted[0] = '\0';
        for (int u = 0; u != URIS; ++u)
            for (int i = 0; i != SUBS; ++i)
                for (int w = 0; w <= SUBS; ++w) {
                    struct watch_name name = model_name(u, w);

                    is_missing |= model_may_drive(i, u, w) && minute == 6 && watch_of(s, &name)->backoff_ms == 0 &&
                                  !watch_of(s, &name)->is_out;
                }
        assert_false(is_missing);
        actions_done(&out);
    }
}

/* ---- a crowd --------------------------------------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif

#ifdef IS_SANITIZED
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

static size_t bytes_in_use(void)
{
#ifdef IS_SANITIZED
    return __sanitizer_get_current_allocated_bytes();
#else
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
#endif
}

enum { CROWD = 10000 };

static void a_crowd_on_one_uri_is_cheap_and_all_of_it_is_told(void **state)
{
    struct subscribers_options options = usual;
    size_t before, per_listen;
    char name[16];

    (void)state;
    options.max_links = 2 * CROWD;
    with(&options);
    before = bytes_in_use();
    for (uint64_t i = 1; i <= CROWD; ++i) {
        struct subscription what;
        struct subscriber_id id;

        snprintf(name, sizeof(name), "a%d", (int)i);
        id = who(name);
        what = to(name, "file:///a/uri/of/some/length/that/is/written/once");
        assert_true(subscribers_open(s, &id, on(i), true, T0, &out));
        assert_int_equal(subscribers_subscribe(s, &id, on(i), &what, T0), SUBSCRIBE_DONE);
    }
    per_listen = (bytes_in_use() - before) / CROWD;
    print_message("%zu bytes for each listen\n", per_listen);
    assert_in_range(per_listen, 100, 700);
    assert_int_equal(numbers().watches, CROWD + 1);
    saw("file:///a/uri/of/some/length/that/is/written/once", 1, T0 + 10);
    assert_done("");
    /* the first public answer was enough */
    assert_int_equal(subscribers_next_due(s), T0 + 10 + 10 * MINUTE);
    for (int i = 2; i != 12; ++i) {
        saw("file:///a/uri/of/some/length/that/is/written/once", i, T0 + 10 * i);
        assert_int_equal(out.count, CROWD);
        actions_done(&out);
    }
    due(T0 + 20 * MINUTE);
    assert_int_equal(out.count, 1);
    actions_done(&out);
    purge("file:///a/uri/of/some/length/that/is/written/once", T0 + 21 * MINUTE);
    assert_int_equal(out.count, CROWD);
    for (uint64_t i = 1; i < CROWD; i += 2)
        subscribers_close(s, on(i), T0 + 22 * MINUTE);
    assert_int_equal(numbers().links, CROWD / 2);
    actions_done(&out);
    assert_null(subscribers_check(s));
    /* all have one credential */
    subscribers_end_credential(s, who("a").credential, &out);
    assert_int_equal(out.count, CROWD / 2);
    assert_int_equal(numbers().watches, 0);
}

static void nobody_in_the_filter_is_missed_and_few_others_are_found(void **state)
{
    struct subscribers_options options = usual;
    unsigned false_alarms = 0;
    char uri[16];

    (void)state;
    options.max_links = options.max_links_of_one = 1000;
    with(&options);
    for (int i = 0; i != 1000; ++i) {
        snprintf(uri, sizeof(uri), "%d", i);
        subscribe("A", uri, T0);
    }
    for (int i = 0; i != 1000; ++i) {
        snprintf(uri, sizeof(uri), "%d", i);
        assert_true(may_want(uri));
        snprintf(uri, sizeof(uri), "A %d", i);
        assert_true(may_want(uri));
        snprintf(uri, sizeof(uri), "other %d", i);
        false_alarms += may_want(uri);
    }
    assert_true(false_alarms < 500);
    subscribers_end_session(s, who("A").name, &out);
    for (int i = 0; i != 1000; ++i) {
        snprintf(uri, sizeof(uri), "%d", i);
        assert_false(may_want(uri));
    }
}

/* ---- threads --------------------------------------------------------------------------------------------------------------------- */

struct racer {
    unsigned loop;
    uint64_t seed;
};

static void *race(void *arg)
{
    struct racer *racer = arg;
    struct actions mine = {.count = 0};

    for (int i = 0; i != 5000; ++i) {
        struct subscriber_id id = who(i % 2 == 0 ? "A" : racer->loop == 0 ? "b" : "c");
        struct subscription what = to("A", uris[(i >> 3) % URIS]);
        const struct stream_ref ref = {.loop = racer->loop, .id = (uint64_t)(i % 7 + 1)};
        const uint64_t subject = what.subject;

        subscribers_open(s, &id, ref, true, T0 + i, &mine);
        subscribers_subscribe(s, &id, ref, &what, T0 + i);
        if (subscribers_may_want(s, &what.shared) && subscribers_is_any(s))
            subscribers_saw(s,
                            &(struct sighting){.name = what.shared,
                                               .is_shared = true,
                                               .content = content_of(i),
                                               .began_ms = T0 + i,
                                               .subjects = &subject,
                                               .subject_count = 1},
                            T0 + i, &mine);
        subscribers_purged(s, &subject, 1, T0 + i, &mine);
        if (subscribers_next_due(s) <= T0 + i)
            subscribers_due(s, 10, T0 + i, &mine);
        for (size_t k = 0; k != mine.count; ++k)
            if (mine.items[k].kind == ACTION_POLL)
                subscribers_polled(s, &mine.items[k].name, POLL_FAILED, T0 + i);
        actions_done(&mine);
        if (i % 3 == 0)
            subscribers_close(s, ref, T0 + i);
        if (i % 101 == 0)
            subscribers_end_credential(s, id.credential, &mine);
    }
    actions_done(&mine);
    return NULL;
}

static void two_threads_do_no_harm(void **state)
{
    struct racer racers[2] = {{.loop = 0}, {.loop = 1}};
    pthread_t threads[2];

    (void)state;
    for (int i = 0; i != 2; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (int i = 0; i != 2; ++i)
        pthread_join(threads[i], NULL);
    assert_null(subscribers_check(s));
}

#define FRESH(test_) cmocka_unit_test_setup_teardown(test_, open_subscribers, close_subscribers)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(the_first_content_is_silent),
        FRESH(a_change_is_told_once),
        FRESH(what_was_asked_for_no_later_is_of_no_interest),
        FRESH(nobody_hears_of_what_he_would_not_be_served),
        FRESH(the_same_under_another_name_is_no_change),
        FRESH(without_a_shared_name_shared_answers_are_not_heard_of),
        FRESH(what_is_gone_is_told_once_and_so_is_that_it_is_back),
        FRESH(what_was_never_there_is_silent_until_it_is),
        FRESH(what_the_upstream_told_is_not_told_again),
        FRESH(what_was_asked_for_before_he_was_told_is_no_baseline),
        FRESH(a_false_alarm_hides_nothing),
        FRESH(what_began_in_the_moment_of_the_telling_is_the_change_or_says_nothing),
        FRESH(being_told_of_what_is_known_by_now_hides_nothing),
        FRESH(whoever_was_told_before_any_content_hears_of_the_next_change),
        FRESH(one_is_told_and_another_is_not),
        FRESH(whom_the_upstream_tells_we_tell_when_it_does_not),
        FRESH(when_the_upstream_tells_in_time_we_do_not),
        FRESH(what_is_held_stays_held_whatever_else_is_seen),
        FRESH(covered_links_are_never_polled),
        FRESH(whoever_is_covered_no_more_is_polled),
        FRESH(a_held_purge_is_one_telling_with_the_notice),
        FRESH(without_time_to_hold_covered_links_are_told_at_once),
        FRESH(whoever_missed_something_is_told_of_what_was_covered),
        FRESH(of_a_sessions_streams_one_is_told),
        FRESH(of_several_listens_each_is_told),
        FRESH(without_a_stream_one_mark_waits_for_each_link),
        FRESH(what_the_upstream_told_meanwhile_does_not_wait),
        FRESH(a_held_telling_without_a_stream_waits_for_one),
        FRESH(what_could_not_be_told_is_told_on_another_stream_or_waits),
        FRESH(a_listen_whose_stream_was_gone_is_owed_nothing),
        FRESH(a_listen_ends_with_its_stream),
        FRESH(a_sessions_links_outlive_its_streams),
        FRESH(ids_of_streams_are_each_loops_own),
        FRESH(what_is_unknown_does_no_harm),
        FRESH(a_list_has_no_uri),
        FRESH(both_halves_of_the_resources_are_told_as_one_list),
        FRESH(whoever_missed_lists_is_told_of_each_once),
        FRESH(a_write_is_told_to_all_who_had_what_it_purged),
        FRESH(a_purge_is_heard_of_under_the_name_last_seen_alone),
        FRESH(what_has_several_of_the_subjects_is_told_once),
        FRESH(what_has_more_subjects_than_are_remembered_is_told_of_any),
        FRESH(subscribing_brings_the_subjects_along),
        FRESH(whoever_knows_nothing_yet_is_not_told_of_purges),
        FRESH(results_changes_are_told_to_those_who_are_served_them),
        FRESH(a_result_in_no_session_is_its_principals),
        FRESH(results_are_remembered_before_anybody_asks),
        FRESH(links_to_results_are_not_heard_of_by_names_nor_polled),
        FRESH(a_purged_result_is_told_once),
        FRESH(of_a_result_too_nobody_is_told_twice),
        FRESH(a_covered_result_is_held),
        FRESH(the_result_that_was_seen_longest_ago_makes_room),
        FRESH(without_content_the_first_poll_is_due_at_once),
        FRESH(with_content_it_is_due_when_that_is_not_fresh_any_more),
        FRESH(one_poll_is_out_at_a_time),
        FRESH(a_poll_that_never_reports_counts_as_failed),
        FRESH(polls_are_never_closer_than_the_least_pause),
        FRESH(what_has_no_lifetime_has_a_pause_of_its_own),
        FRESH(or_is_never_polled),
        FRESH(jitter_is_a_tenth_up_to_a_second_and_never_early),
        FRESH(each_failure_doubles_the_pause_up_to_five_minutes),
        FRESH(an_answer_that_moved_nothing_is_a_failure),
        FRESH(whoever_turns_out_to_be_served_the_shared_answer_is_polled_there),
        FRESH(an_answer_under_another_name_is_no_failure),
        FRESH(who_joins_during_a_pause_waits_too),
        FRESH(who_joins_without_content_asks_again_but_not_too_soon),
        FRESH(drivers_take_turns),
        FRESH(a_stream_that_is_gone_costs_no_pause),
        FRESH(only_who_can_be_written_to_asks),
        FRESH(a_stream_does_not_hasten_what_is_fresh),
        FRESH(what_is_doubted_is_polled_soon),
        FRESH(a_doubt_shortens_no_pause_after_failures),
        FRESH(no_more_is_handed_out_than_asked_for),
        FRESH(no_number_is_too_large),
        FRESH(subscribing_twice_is_one_link),
        FRESH(whoever_unsubscribed_hears_nothing),
        FRESH(a_held_or_waiting_telling_goes_with_its_link),
        FRESH(a_sessions_end_ends_its_streams_and_links),
        FRESH(a_credentials_end_ends_all_that_it_has),
        FRESH(an_idle_session_is_forgotten),
        FRESH(limits_are_kept),
        FRESH(a_uri_outlives_its_link_in_an_action),
        FRESH(many_random_steps_are_as_a_naive_model_says),
        FRESH(a_crowd_on_one_uri_is_cheap_and_all_of_it_is_told),
        FRESH(nobody_in_the_filter_is_missed_and_few_others_are_found),
        FRESH(two_threads_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
