/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/upstream/alarm.c on a loop whose time is the test's. */
#include "unit.h"

#include "fake_loop.h"
#include "sidecar/upstream/alarm.h"

enum { T0 = 1000000, MANY = 300 };

struct bell {
    struct alarm alarm;
    unsigned times;
    uint64_t rang_ms, wanted_ms;
    unsigned again; /* sets itself so many times more */
    struct bell *clears, *sets;
};

static h2o_loop_t *loop;
static struct alarms alarms;
static uint64_t last_rang_ms;

static void on_due(struct alarm *a)
{
    struct bell *bell = H2O_STRUCT_FROM_MEMBER(struct bell, alarm, a);

    assert_false(alarm_is_set(a));
    ++bell->times;
    bell->rang_ms = last_rang_ms = h2o_now(loop);
    if (bell->clears != NULL)
        alarm_clear(&alarms, &bell->clears->alarm);
    if (bell->sets != NULL)
        alarm_set(&alarms, &bell->sets->alarm, 1);
    if (bell->again != 0) {
        --bell->again;
        alarm_set(&alarms, a, 10);
    }
}

static int open_loop(void **state)
{
    (void)state;
    loop = fake_loop_new(T0);
    alarms_init(&alarms, loop);
    return 0;
}

static int close_loop(void **state)
{
    (void)state;
    assert_true(fake_loop_is_idle(loop));
    alarms_done(&alarms);
    h2o_evloop_destroy(loop);
    return 0;
}

static struct bell bell_of(void)
{
    return (struct bell){.alarm = {.on_due = on_due}};
}

static void it_rings_once_and_not_before(void **state)
{
    struct bell b = bell_of();

    (void)state;
    assert_true(fake_loop_is_idle(loop));
    alarm_set(&alarms, &b.alarm, 100);
    assert_true(alarm_is_set(&b.alarm));
    fake_loop_run(loop, T0 + 99);
    assert_int_equal(b.times, 0);
    fake_loop_run(loop, T0 + 100);
    assert_int_equal(b.times, 1);
    fake_loop_run(loop, T0 + 1000);
    assert_int_equal(b.times, 1);
}

static void the_loop_wakes_for_nothing_else(void **state)
{
    struct bell a = bell_of(), b = bell_of(), c = bell_of();

    (void)state;
    assert_int_equal(fake_loop_run(loop, T0 + 100000), 0);
    alarm_set(&alarms, &a.alarm, 60000);
    alarm_set(&alarms, &b.alarm, 30000);
    alarm_set(&alarms, &c.alarm, 60000);
    assert_int_equal(fake_loop_run(loop, T0 + 200000), 2);
    assert_int_equal(a.times + b.times + c.times, 3);
    assert_int_equal(fake_loop_run(loop, T0 + 300000), 0);
}

static void one_that_is_cleared_is_silent(void **state)
{
    struct bell a = bell_of(), b = bell_of();

    (void)state;
    alarm_clear(&alarms, &a.alarm);
    alarm_set(&alarms, &a.alarm, 10);
    alarm_set(&alarms, &b.alarm, 20);
    alarm_clear(&alarms, &a.alarm);
    alarm_clear(&alarms, &a.alarm);
    assert_int_equal(fake_loop_run(loop, T0 + 100), 1);
    assert_int_equal(a.times, 0);
    assert_int_equal(b.times, 1);
    alarm_set(&alarms, &a.alarm, 10);
    alarm_clear(&alarms, &a.alarm);
    assert_true(fake_loop_is_idle(loop));
}

static void set_anew_it_forgets_the_earlier_time(void **state)
{
    struct bell b = bell_of();

    (void)state;
    alarm_set(&alarms, &b.alarm, 100);
    alarm_set(&alarms, &b.alarm, 50);
    fake_loop_run(loop, T0 + 50);
    assert_int_equal(b.times, 1);
    alarm_set(&alarms, &b.alarm, 50);
    alarm_set(&alarms, &b.alarm, 100);
    fake_loop_run(loop, T0 + 149);
    assert_int_equal(b.times, 1);
    fake_loop_run(loop, T0 + 500);
    assert_int_equal(b.times, 2);
    assert_int_equal(b.rang_ms, T0 + 150);
}

static void whoever_rings_may_do_what_he_likes(void **state)
{
    struct bell a = bell_of(), b = bell_of(), c = bell_of();

    (void)state;
    a.again = 3;
    a.clears = &b;
    a.sets = &c;
    alarm_set(&alarms, &a.alarm, 5);
    alarm_set(&alarms, &b.alarm, 5);
    fake_loop_run(loop, T0 + 1000);
    assert_int_equal(a.times, 4);
    assert_int_equal(a.rang_ms, T0 + 35);
    assert_int_equal(b.times, 0);
    assert_int_equal(c.times, 4);
    assert_int_equal(c.rang_ms, T0 + 36);
}

static void a_loop_that_slept_rings_all_that_is_overdue(void **state)
{
    struct bell a = bell_of(), b = bell_of();

    (void)state;
    alarm_set(&alarms, &a.alarm, 10);
    alarm_set(&alarms, &b.alarm, 20);
    loop->_now = T0 + 5000;
    assert_int_equal(fake_loop_run(loop, T0 + 5000), 1);
    assert_int_equal(a.times, 1);
    assert_int_equal(b.times, 1);
}

static void many_ring_each_in_its_time(void **state)
{
    static struct bell bells[MANY];
    uint32_t seed = 12345;

    (void)state;
    for (int i = 0; i != MANY; ++i)
        bells[i] = bell_of();
    for (int step = 0; step != 20000; ++step) {
        struct bell *b;

        seed = seed * 1664525 + 1013904223;
        b = &bells[(seed >> 8) % MANY];
        switch (seed >> 28) {
        case 0:
        case 1:
            alarm_clear(&alarms, &b->alarm);
            b->wanted_ms = 0;
            break;
        case 2:
        case 3: {
            unsigned before[MANY];
            uint64_t until_ms = h2o_now(loop) + (seed >> 20) % 64;

            for (int i = 0; i != MANY; ++i)
                before[i] = bells[i].times;
            last_rang_ms = 0;
            fake_loop_run(loop, until_ms);
            for (int i = 0; i != MANY; ++i) {
                bool is_due = bells[i].wanted_ms != 0 && bells[i].wanted_ms <= until_ms;

                assert_int_equal(bells[i].times - before[i], is_due);
                assert_int_equal(alarm_is_set(&bells[i].alarm), bells[i].wanted_ms != 0 && !is_due);
                if (is_due) {
                    assert_int_equal(bells[i].rang_ms, bells[i].wanted_ms);
                    bells[i].wanted_ms = 0;
                }
            }
            break;
        }
        default: {
            uint64_t after_ms = 1 + (seed >> 4) % 1000;

            alarm_set(&alarms, &b->alarm, after_ms);
            b->wanted_ms = h2o_now(loop) + after_ms;
            break;
        }
        }
    }
    fake_loop_run(loop, h2o_now(loop) + 2000);
}

#define FRESH(test_) cmocka_unit_test_setup_teardown(test_, open_loop, close_loop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(it_rings_once_and_not_before),       FRESH(the_loop_wakes_for_nothing_else),
        FRESH(one_that_is_cleared_is_silent),      FRESH(set_anew_it_forgets_the_earlier_time),
        FRESH(whoever_rings_may_do_what_he_likes), FRESH(a_loop_that_slept_rings_all_that_is_overdue),
        FRESH(many_ring_each_in_its_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
