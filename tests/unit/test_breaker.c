/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/upstream/breaker.c: every state and every edge on plain numbers for time, then many threads (build with -Db_sanitize=thread to see races). */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "sidecar/upstream/breaker.h"

enum { T0 = 1000000 };

static struct breaker *b;
static const uint8_t tool[16] = "tool", other[16] = "other", upstream[16] = "upstream";

static int open_breaker(void **state)
{
    (void)state;
    b = breaker_new(64);
    return b == NULL;
}

static int close_breaker(void **state)
{
    (void)state;
    breaker_free(b);
    return 0;
}

static enum breaker_state ask(int64_t now_ms)
{
    int64_t wait_ms = -1;
    enum breaker_state s = breaker_ask(b, tool, now_ms, &wait_ms);

    if (s == BREAKER_OPEN ? wait_ms < 1 : wait_ms != 0)
        fail_msg("state %d says to wait for %d ms", (int)s, (int)wait_ms);
    return s;
}

static int64_t wait_of(int64_t now_ms)
{
    int64_t wait_ms = -1;

    assert_int_equal(breaker_ask(b, tool, now_ms, &wait_ms), BREAKER_OPEN);
    return wait_ms;
}

static void note(enum breaker_result result, int64_t now_ms)
{
    breaker_note(b, tool, result, false, now_ms);
}

static void note_probe(enum breaker_result result, int64_t now_ms)
{
    breaker_note(b, tool, result, true, now_ms);
}

static void trip(int64_t now_ms)
{
    for (int i = 0; i != BREAKER_FAILURES_IN_A_ROW; ++i)
        note(BREAKER_FAILED, now_ms);
    assert_int_equal(ask(now_ms), BREAKER_OPEN);
}

static void what_is_not_known_is_closed(void **state)
{
    (void)state;
    assert_int_equal(ask(0), BREAKER_PASS);
    assert_int_equal(ask(T0), BREAKER_PASS);
    note(BREAKER_GOOD, T0);
    assert_int_equal(ask(T0), BREAKER_PASS);
}

static void the_fifth_failure_in_a_row_opens(void **state)
{
    (void)state;
    for (int i = 0; i != 4; ++i) {
        note(BREAKER_FAILED, T0 + i);
        assert_int_equal(ask(T0 + i), BREAKER_PASS);
    }
    note(BREAKER_FAILED, T0 + 4);
    assert_int_equal(ask(T0 + 4), BREAKER_OPEN);
}

static void also_when_hours_lie_between(void **state)
{
    (void)state;
    for (int i = 0; i != 5; ++i)
        note(BREAKER_FAILED, T0 + i * INT64_C(3600000));
    assert_int_equal(ask(T0 + 4 * INT64_C(3600000)), BREAKER_OPEN);
}

static void a_success_between_begins_the_row_anew(void **state)
{
    (void)state;
    for (int i = 0; i != 4; ++i)
        note(BREAKER_FAILED, T0);
    note(BREAKER_GOOD, T0);
    for (int i = 0; i != 4; ++i)
        note(BREAKER_FAILED, T0);
    assert_int_equal(ask(T0), BREAKER_PASS);
    note(BREAKER_FAILED, T0);
    assert_int_equal(ask(T0), BREAKER_OPEN);
}

static void what_nobody_waited_for_counts_for_nothing(void **state)
{
    (void)state;
    for (int i = 0; i != 100; ++i)
        note(BREAKER_UNKNOWN, T0);
    for (int i = 0; i != 4; ++i) {
        note(BREAKER_FAILED, T0);
        note(BREAKER_UNKNOWN, T0);
    }
    assert_int_equal(ask(T0), BREAKER_PASS);
    /* nor does it begin the row anew */
    note(BREAKER_FAILED, T0);
    assert_int_equal(ask(T0), BREAKER_OPEN);
}

static void half_of_ten_open(void **state)
{
    (void)state;
    for (int i = 0; i != 9; ++i)
        note(i % 2 == 0 ? BREAKER_GOOD : BREAKER_FAILED, T0 + i);
    assert_int_equal(ask(T0 + 9), BREAKER_PASS);
    note(BREAKER_FAILED, T0 + 9);
    assert_int_equal(ask(T0 + 9), BREAKER_OPEN);
}

static void half_of_nine_do_not(void **state)
{
    (void)state;
    for (int i = 0; i != 9; ++i)
        note(i % 2 != 0 ? BREAKER_GOOD : BREAKER_FAILED, T0 + i);
    assert_int_equal(ask(T0 + 9), BREAKER_PASS);
}

static void less_than_half_of_many_do_not(void **state)
{
    (void)state;
    for (int i = 0; i != 300; ++i)
        note(i % 5 < 3 ? BREAKER_GOOD : BREAKER_FAILED, T0 + i);
    assert_int_equal(ask(T0 + 300), BREAKER_PASS);
}

static void a_success_never_opens(void **state)
{
    (void)state;
    /* 4 failures, 4 successes, one of each, all of them half; the tenth is a success */
    for (int i = 0; i != 4; ++i)
        note(BREAKER_FAILED, T0);
    for (int i = 0; i != 4; ++i)
        note(BREAKER_GOOD, T0);
    note(BREAKER_FAILED, T0);
    note(BREAKER_GOOD, T0);
    assert_int_equal(ask(T0), BREAKER_PASS);
    note(BREAKER_FAILED, T0);
    assert_int_equal(ask(T0), BREAKER_OPEN);
}

static void what_is_older_than_the_window_is_not_counted(void **state)
{
    (void)state;
    /* 8 results, 4 of them failures, that are out of it when the next come */
    for (int i = 0; i != 8; ++i)
        note(i % 2 == 0 ? BREAKER_GOOD : BREAKER_FAILED, T0);
    for (int i = 0; i != 9; ++i)
        note(i % 2 == 0 ? BREAKER_GOOD : BREAKER_FAILED, T0 + BREAKER_WINDOW_MS + i);
    assert_int_equal(ask(T0 + BREAKER_WINDOW_MS + 9), BREAKER_PASS);
    note(BREAKER_FAILED, T0 + BREAKER_WINDOW_MS + 9);
    assert_int_equal(ask(T0 + BREAKER_WINDOW_MS + 9), BREAKER_OPEN);
}

static void good_ones_of_long_ago_do_not_hide_failures(void **state)
{
    (void)state;
    for (int i = 0; i != 1000; ++i)
        note(BREAKER_GOOD, T0);
    for (int i = 0; i != 10; ++i)
        note(i % 2 == 0 ? BREAKER_GOOD : BREAKER_FAILED, T0 + BREAKER_WINDOW_MS);
    assert_int_equal(ask(T0 + BREAKER_WINDOW_MS), BREAKER_OPEN);
}

static void results_spread_over_the_window_add_up(void **state)
{
    (void)state;
    for (int i = 0; i != 10; ++i)
        note(i % 2 == 0 ? BREAKER_GOOD : BREAKER_FAILED, T0 + i * 1500);
    assert_int_equal(ask(T0 + 15000), BREAKER_OPEN);
}

static void more_results_than_fit_keep_their_share(void **state)
{
    (void)state;
    for (int i = 0; i != 1200000; ++i)
        note(BREAKER_GOOD, T0);
    for (int i = 0; i != 400000; ++i) {
        note(BREAKER_FAILED, T0);
        note(BREAKER_GOOD, T0);
    }
    assert_int_equal(ask(T0), BREAKER_PASS);
}

static void it_is_open_for_five_seconds(void **state)
{
    (void)state;
    trip(T0);
    assert_int_equal(wait_of(T0), 5000);
    assert_int_equal(wait_of(T0 + 1234), 3766);
    assert_int_equal(wait_of(T0 + 4999), 1);
    assert_int_equal(ask(T0 + 5000), BREAKER_PROBE);
}

static void while_open_nobody_elses_result_counts(void **state)
{
    (void)state;
    trip(T0);
    note(BREAKER_GOOD, T0 + 1);
    assert_int_equal(ask(T0 + 2), BREAKER_OPEN);
    for (int i = 0; i != 20; ++i)
        note(BREAKER_FAILED, T0 + 4000);
    assert_int_equal(wait_of(T0 + 4000), 1000);
    assert_int_equal(ask(T0 + 5000), BREAKER_PROBE);
    /* nor while the probe is out */
    note(BREAKER_GOOD, T0 + 5001);
    note(BREAKER_FAILED, T0 + 5001);
    assert_int_equal(ask(T0 + 5001), BREAKER_OPEN);
}

static void one_probe_at_a_time(void **state)
{
    (void)state;
    trip(T0);
    assert_int_equal(ask(T0 + 6000), BREAKER_PROBE);
    for (int i = 0; i != 10; ++i)
        assert_int_equal(ask(T0 + 6000 + i), BREAKER_OPEN);
    /* the probe will know soon */
    assert_int_equal(wait_of(T0 + 6000), 1000);
}

static void a_good_probe_closes(void **state)
{
    (void)state;
    trip(T0);
    assert_int_equal(ask(T0 + 5000), BREAKER_PROBE);
    note_probe(BREAKER_GOOD, T0 + 5100);
    assert_int_equal(ask(T0 + 5100), BREAKER_PASS);
    assert_int_equal(ask(T0 + 5100), BREAKER_PASS);
    /* and what was before is forgotten */
    for (int i = 0; i != 4; ++i)
        note(BREAKER_FAILED, T0 + 5200);
    assert_int_equal(ask(T0 + 5200), BREAKER_PASS);
    note(BREAKER_FAILED, T0 + 5200);
    assert_int_equal(wait_of(T0 + 5200), 5000);
}

static void each_failed_probe_doubles_the_time_up_to_a_minute(void **state)
{
    static const int64_t times_ms[] = {5000, 10000, 20000, 40000, 60000, 60000, 60000};
    int64_t now_ms = T0;

    (void)state;
    trip(now_ms);
    for (size_t i = 0; i != sizeof(times_ms) / sizeof(times_ms[0]); ++i) {
        assert_int_equal(wait_of(now_ms), times_ms[i]);
        assert_int_equal(ask(now_ms + times_ms[i] - 1), BREAKER_OPEN);
        now_ms += times_ms[i];
        assert_int_equal(ask(now_ms), BREAKER_PROBE);
        now_ms += 17;
        note_probe(BREAKER_FAILED, now_ms);
    }
    now_ms += 60000;
    assert_int_equal(ask(now_ms), BREAKER_PROBE);
    note_probe(BREAKER_GOOD, now_ms);
    trip(now_ms);
    assert_int_equal(wait_of(now_ms), 5000);
}

static void a_probe_that_was_not_waited_for_makes_room_for_the_next(void **state)
{
    (void)state;
    trip(T0);
    assert_int_equal(ask(T0 + 5000), BREAKER_PROBE);
    note_probe(BREAKER_UNKNOWN, T0 + 5100);
    assert_int_equal(ask(T0 + 5100), BREAKER_PROBE);
    note_probe(BREAKER_FAILED, T0 + 5200);
    assert_int_equal(wait_of(T0 + 5200), 10000);
}

static void a_probe_that_never_reports_is_given_up(void **state)
{
    (void)state;
    trip(T0);
    assert_int_equal(ask(T0 + 5000), BREAKER_PROBE);
    assert_int_equal(ask(T0 + 5000 + BREAKER_PROBE_MS - 1), BREAKER_OPEN);
    assert_int_equal(wait_of(T0 + 5000 + BREAKER_PROBE_MS - 1), 1);
    assert_int_equal(ask(T0 + 5000 + BREAKER_PROBE_MS), BREAKER_PROBE);
    assert_int_equal(ask(T0 + 5000 + BREAKER_PROBE_MS), BREAKER_OPEN);
}

static void two_probes_that_fail_double_once(void **state)
{
    (void)state;
    trip(T0);
    assert_int_equal(ask(T0 + 5000), BREAKER_PROBE);
    assert_int_equal(ask(T0 + 40000), BREAKER_PROBE);
    note_probe(BREAKER_FAILED, T0 + 40100);
    note_probe(BREAKER_FAILED, T0 + 40200);
    assert_int_equal(wait_of(T0 + 40200), 9900);
}

static void a_late_good_probe_closes_all_the_same(void **state)
{
    (void)state;
    trip(T0);
    assert_int_equal(ask(T0 + 5000), BREAKER_PROBE);
    assert_int_equal(ask(T0 + 40000), BREAKER_PROBE);
    note_probe(BREAKER_FAILED, T0 + 40100);
    note_probe(BREAKER_GOOD, T0 + 40200);
    assert_int_equal(ask(T0 + 40200), BREAKER_PASS);
    /* a probe's late failure is then one failure like any other */
    note_probe(BREAKER_FAILED, T0 + 40300);
    assert_int_equal(ask(T0 + 40300), BREAKER_PASS);
}

static void loops_may_read_the_clock_apart(void **state)
{
    (void)state;
    /* from one part of the window to the next and back */
    for (int i = 0; i != 10; ++i)
        note(i % 2 == 0 ? BREAKER_GOOD : BREAKER_FAILED, T0 + (i % 4 < 2 ? 0 : -7));
    assert_int_equal(ask(T0), BREAKER_OPEN);
    assert_int_equal(ask(T0 - 100), BREAKER_OPEN);
}

static void names_have_nothing_to_do_with_each_other(void **state)
{
    int64_t wait_ms;

    (void)state;
    trip(T0);
    assert_int_equal(breaker_ask(b, other, T0, &wait_ms), BREAKER_PASS);
    breaker_note(b, other, BREAKER_GOOD, false, T0);
    assert_int_equal(ask(T0), BREAKER_OPEN);
}

static void name_of(uint64_t number, uint8_t ret[16])
{
    number *= UINT64_C(0x9e3779b97f4a7c15);
    memcpy(ret, &number, 8);
    memset(ret + 8, 1, 8);
}

static void a_flood_of_names_pushes_out_nothing_that_is_open(void **state)
{
    uint8_t name[16];
    int64_t wait_ms;

    (void)state;
    trip(T0);
    for (uint64_t i = 0; i != 10000; ++i) {
        name_of(i, name);
        breaker_note(b, name, i % 2 == 0 ? BREAKER_GOOD : BREAKER_FAILED, false, T0 + 1 + (int64_t)i / 10);
    }
    assert_int_equal(ask(T0 + 1100), BREAKER_OPEN);
    /* its time over, it is still known as half-open */
    for (uint64_t i = 0; i != 10000; ++i) {
        name_of(i, name);
        breaker_note(b, name, BREAKER_FAILED, false, T0 + 30000);
    }
    assert_int_equal(ask(T0 + 30000), BREAKER_PROBE);
    /* who had no room was let through */
    for (uint64_t i = 0, open = 0; i != 10000; ++i) {
        name_of(i, name);
        open += breaker_ask(b, name, T0 + 30000, &wait_ms) == BREAKER_OPEN;
        assert_true(open <= 64);
    }
}

static void nor_what_is_about_to_open(void **state)
{
    uint8_t name[16];

    (void)state;
    for (int i = 0; i != 4; ++i)
        note(BREAKER_FAILED, T0);
    for (uint64_t i = 0; i != 10000; ++i) {
        name_of(i, name);
        breaker_note(b, name, BREAKER_GOOD, false, T0 + 1);
    }
    note(BREAKER_FAILED, T0 + 2);
    assert_int_equal(ask(T0 + 2), BREAKER_OPEN);
}

static void what_nobody_asked_for_in_minutes_makes_room(void **state)
{
    struct breaker *small = breaker_new(1);
    const int64_t later_ms = T0 + 4 * BREAKER_OPEN_MAX_MS;
    uint8_t name[16];
    int64_t wait_ms;

    (void)state;
    memset(name, 0, sizeof(name));
    for (int n = 0; n != 4; ++n) {
        name[8] = (uint8_t)n;
        for (int i = 0; i != 5; ++i)
            breaker_note(small, name, BREAKER_FAILED, false, T0);
        assert_int_equal(breaker_ask(small, name, T0, &wait_ms), BREAKER_OPEN);
    }
    name[8] = 9;
    for (int i = 0; i != 5; ++i)
        breaker_note(small, name, BREAKER_FAILED, false, T0 + 1);
    assert_int_equal(breaker_ask(small, name, T0 + 1, &wait_ms), BREAKER_PASS);
    for (int i = 0; i != 5; ++i)
        breaker_note(small, name, BREAKER_FAILED, false, later_ms);
    assert_int_equal(breaker_ask(small, name, later_ms, &wait_ms), BREAKER_OPEN);
    breaker_free(small);
}

static void a_forgotten_probe_harms_nobody(void **state)
{
    (void)state;
    note_probe(BREAKER_UNKNOWN, T0);
    assert_int_equal(ask(T0), BREAKER_PASS);
    note_probe(BREAKER_FAILED, T0);
    assert_int_equal(ask(T0), BREAKER_PASS);
    note_probe(BREAKER_GOOD, T0);
    assert_int_equal(ask(T0), BREAKER_PASS);
}

static void statuses_are_failures_when_the_server_failed(void **state)
{
    static const struct {
        int status;
        enum breaker_result result;
    } cases[] = {
        {200, BREAKER_GOOD},   {202, BREAKER_GOOD},   {204, BREAKER_GOOD},   {301, BREAKER_GOOD},   {304, BREAKER_GOOD},
        {400, BREAKER_GOOD},   {401, BREAKER_GOOD},   {404, BREAKER_GOOD},   {408, BREAKER_GOOD},   {429, BREAKER_GOOD},
        {499, BREAKER_GOOD},   {500, BREAKER_FAILED}, {501, BREAKER_GOOD},   {505, BREAKER_GOOD},   {502, BREAKER_FAILED},
        {503, BREAKER_FAILED}, {504, BREAKER_FAILED}, {506, BREAKER_FAILED}, {599, BREAKER_FAILED},
    };

    (void)state;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i)
        if (breaker_of_status(cases[i].status) != cases[i].result)
            fail_msg("%d", cases[i].status);
}

/* ---- two names at once --------------------------------------------------------------------------------------------------------- */

static void both_doors_must_be_open(void **state)
{
    struct breaker_pass pass;
    int64_t wait_ms;

    (void)state;
    assert_int_equal(breaker_enter(b, upstream, tool, T0, &pass, &wait_ms), BREAKER_PASS);
    breaker_settle(b, &pass, BREAKER_GOOD, BREAKER_GOOD, T0);
    for (int i = 0; i != 5; ++i) {
        assert_int_equal(breaker_enter(b, upstream, tool, T0, &pass, &wait_ms), BREAKER_PASS);
        breaker_settle(b, &pass, BREAKER_GOOD, BREAKER_FAILED, T0);
    }
    /* the tool is shut, its neighbour is not */
    assert_int_equal(breaker_enter(b, upstream, tool, T0 + 1, &pass, &wait_ms), BREAKER_OPEN);
    assert_int_equal(wait_ms, 4999);
    assert_int_equal(breaker_enter(b, upstream, other, T0 + 1, &pass, &wait_ms), BREAKER_PASS);
    for (int i = 0; i != 5; ++i)
        breaker_settle(b, &pass, BREAKER_FAILED, BREAKER_FAILED, T0 + 2);
    assert_int_equal(breaker_enter(b, upstream, (const uint8_t *)"a third, unheard", T0 + 2, &pass, &wait_ms), BREAKER_OPEN);
    assert_int_equal(wait_ms, 5000);
}

static void whoever_is_refused_holds_no_probe(void **state)
{
    struct breaker_pass pass;
    int64_t wait_ms;

    (void)state;
    trip(T0);
    for (int i = 0; i != 5; ++i)
        breaker_note(b, upstream, BREAKER_FAILED, false, T0 + 2000);
    /* the tool would be tried again, the upstream not yet */
    assert_int_equal(breaker_enter(b, upstream, tool, T0 + 6000, &pass, &wait_ms), BREAKER_OPEN);
    assert_int_equal(wait_ms, 1000);
    assert_int_equal(breaker_enter(b, upstream, tool, T0 + 7000, &pass, &wait_ms), BREAKER_PROBE);
    assert_true(pass.probes_upstream);
    assert_true(pass.probes_call);
    assert_int_equal(breaker_enter(b, upstream, other, T0 + 7000, &pass, &wait_ms), BREAKER_OPEN);
    pass = (struct breaker_pass){.probes_upstream = true, .probes_call = true};
    memcpy(pass.upstream, upstream, 16);
    memcpy(pass.call, tool, 16);
    breaker_settle(b, &pass, BREAKER_GOOD, BREAKER_FAILED, T0 + 7100);
    assert_int_equal(breaker_enter(b, upstream, other, T0 + 7100, &pass, &wait_ms), BREAKER_PASS);
    assert_int_equal(breaker_enter(b, upstream, tool, T0 + 7100, &pass, &wait_ms), BREAKER_OPEN);
    assert_int_equal(wait_ms, 10000);
}

/* ---- threads --------------------------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 2000 };

struct race {
    pthread_barrier_t barrier;
    atomic_int probes, opens;
};

/* All ask at once in each round: one gets the probe. */
static void *ask_at_once(void *arg)
{
    struct race *race = arg;

    for (int64_t round = 0; round != ROUNDS; ++round) {
        const int64_t now_ms = T0 + BREAKER_OPEN_MAX_MS * (round + 1);
        int64_t wait_ms;
        enum breaker_state s;

        pthread_barrier_wait(&race->barrier);
        s = breaker_ask(b, tool, now_ms, &wait_ms);
        atomic_fetch_add(s == BREAKER_PROBE ? &race->probes : &race->opens, 1);
        pthread_barrier_wait(&race->barrier);
        if (s == BREAKER_PROBE)
            note_probe(round % 2 == 0 ? BREAKER_UNKNOWN : BREAKER_FAILED, now_ms);
    }
    return NULL;
}

static void of_many_threads_one_gets_the_probe(void **state)
{
    struct race race = {.probes = 0};
    pthread_t threads[THREADS];

    (void)state;
    trip(T0);
    pthread_barrier_init(&race.barrier, NULL, THREADS);
    for (int i = 0; i != THREADS; ++i)
        pthread_create(&threads[i], NULL, ask_at_once, &race);
    for (int i = 0; i != THREADS; ++i)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&race.barrier);
    assert_int_equal(atomic_load(&race.probes), ROUNDS);
    assert_int_equal(atomic_load(&race.opens), ROUNDS * (THREADS - 1));
}

struct crowd {
    atomic_uint members, wrong;
};

static void *note_all_kinds(void *arg)
{
    struct crowd *crowd = arg;
    uint64_t seed = (atomic_fetch_add(&crowd->members, 1) + 1) * UINT64_C(0x9e3779b97f4a7c15);
    struct breaker_pass pass;
    uint8_t name[16];
    int64_t wait_ms;

    for (int64_t i = 0; i != 20000; ++i) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        name_of(seed % 100, name);
        if (breaker_enter(b, upstream, name, T0 + i * 10, &pass, &wait_ms) == BREAKER_OPEN) {
            /* the others' time may be far ahead */
            atomic_fetch_add(&crowd->wrong, wait_ms < 1);
            continue;
        }
        breaker_settle(b, &pass, seed % 7 == 0 ? BREAKER_FAILED : BREAKER_GOOD, (enum breaker_result)(seed >> 20) % 3, T0 + i * 10);
    }
    return NULL;
}

static void a_crowd_does_no_harm(void **state)
{
    struct crowd crowd = {.members = 0};
    pthread_t threads[THREADS];
    uint8_t name[16];

    (void)state;
    for (int i = 0; i != THREADS; ++i)
        pthread_create(&threads[i], NULL, note_all_kinds, &crowd);
    for (int i = 0; i != THREADS; ++i)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&crowd.wrong), 0);
    /* whatever came of it, after the longest time each lets somebody through */
    for (uint64_t i = 0; i != 100; ++i) {
        int64_t wait_ms;

        name_of(i, name);
        assert_int_not_equal(breaker_ask(b, name, T0 + 200000 + BREAKER_OPEN_MAX_MS, &wait_ms), BREAKER_OPEN);
    }
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    assert_null(breaker_new(SIZE_MAX));
    breaker_free(NULL);
}

#define FRESH(test_) cmocka_unit_test_setup_teardown(test_, open_breaker, close_breaker)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(what_is_not_known_is_closed),
        FRESH(the_fifth_failure_in_a_row_opens),
        FRESH(also_when_hours_lie_between),
        FRESH(a_success_between_begins_the_row_anew),
        FRESH(what_nobody_waited_for_counts_for_nothing),
        FRESH(half_of_ten_open),
        FRESH(half_of_nine_do_not),
        FRESH(less_than_half_of_many_do_not),
        FRESH(a_success_never_opens),
        FRESH(what_is_older_than_the_window_is_not_counted),
        FRESH(good_ones_of_long_ago_do_not_hide_failures),
        FRESH(results_spread_over_the_window_add_up),
        FRESH(more_results_than_fit_keep_their_share),
        FRESH(it_is_open_for_five_seconds),
        FRESH(while_open_nobody_elses_result_counts),
        FRESH(one_probe_at_a_time),
        FRESH(a_good_probe_closes),
        FRESH(each_failed_probe_doubles_the_time_up_to_a_minute),
        FRESH(a_probe_that_was_not_waited_for_makes_room_for_the_next),
        FRESH(a_probe_that_never_reports_is_given_up),
        FRESH(two_probes_that_fail_double_once),
        FRESH(a_late_good_probe_closes_all_the_same),
        FRESH(loops_may_read_the_clock_apart),
        FRESH(names_have_nothing_to_do_with_each_other),
        FRESH(a_flood_of_names_pushes_out_nothing_that_is_open),
        FRESH(nor_what_is_about_to_open),
        FRESH(what_nobody_asked_for_in_minutes_makes_room),
        FRESH(a_forgotten_probe_harms_nobody),
        FRESH(statuses_are_failures_when_the_server_failed),
        FRESH(both_doors_must_be_open),
        FRESH(whoever_is_refused_holds_no_probe),
        FRESH(of_many_threads_one_gets_the_probe),
        FRESH(a_crowd_does_no_harm),
        FRESH(impossible_sizes_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
