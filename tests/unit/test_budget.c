/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/upstream/budget.c, alone and under many threads (build with -Db_sanitize=thread to see races). */
#include "unit.h"

#include <pthread.h>

#include "sidecar/upstream/budget.h"

static unsigned take_all(struct budget_retries *b)
{
    unsigned n = 0;

    while (budget_retries_take(b))
        ++n;
    return n;
}

static void a_few_retries_are_there_from_the_start(void **state)
{
    struct budget_retries b;

    (void)state;
    budget_retries_init(&b);
    assert_int_equal(take_all(&b), BUDGET_RETRIES_START);
    assert_false(budget_retries_take(&b));
}

static void ten_requests_pay_for_one(void **state)
{
    struct budget_retries b;

    (void)state;
    budget_retries_init(&b);
    take_all(&b);
    for (int i = 0; i != 9; ++i) {
        budget_retries_earn(&b);
        assert_false(budget_retries_take(&b));
    }
    budget_retries_earn(&b);
    assert_true(budget_retries_take(&b));
    assert_false(budget_retries_take(&b));
}

static void no_more_than_ten_are_saved(void **state)
{
    struct budget_retries b;

    (void)state;
    budget_retries_init(&b);
    for (int i = 0; i != 100000; ++i)
        budget_retries_earn(&b);
    assert_int_equal(take_all(&b), BUDGET_RETRIES_MAX);
    /* a part of one is no whole one */
    for (int i = 0; i != 15; ++i)
        budget_retries_earn(&b);
    assert_int_equal(take_all(&b), 1);
    for (int i = 0; i != 5; ++i)
        budget_retries_earn(&b);
    assert_int_equal(take_all(&b), 1);
}

static void places_run_out_and_come_back(void **state)
{
    struct budget_places b;

    (void)state;
    budget_places_init(&b, 2);
    assert_true(budget_enter(&b));
    assert_true(budget_enter(&b));
    assert_false(budget_enter(&b));
    assert_false(budget_enter(&b));
    budget_leave(&b);
    assert_true(budget_enter(&b));
    assert_false(budget_enter(&b));
    budget_leave(&b);
    budget_leave(&b);
    assert_int_equal(atomic_load(&b.taken), 0);
    budget_places_init(&b, 0);
    assert_false(budget_enter(&b));
}

enum { THREADS = 4, ROUNDS = 20000, PLACES = 3 };

struct race {
    struct budget_retries retries;
    struct budget_places places;
    atomic_int inside, most_inside;
    atomic_uint taken;
};

static void *spend(void *arg)
{
    struct race *race = arg;

    for (int i = 0; i != ROUNDS; ++i) {
        budget_retries_earn(&race->retries);
        if (budget_retries_take(&race->retries))
            atomic_fetch_add(&race->taken, 1);
        if (budget_enter(&race->places)) {
            int inside = atomic_fetch_add(&race->inside, 1) + 1, most = atomic_load(&race->most_inside);

            while (inside > most && !atomic_compare_exchange_weak(&race->most_inside, &most, inside))
                ;
            atomic_fetch_sub(&race->inside, 1);
            budget_leave(&race->places);
        }
    }
    return NULL;
}

static void threads_do_not_spend_more_than_there_is(void **state)
{
    struct race race = {.taken = 0};
    pthread_t threads[THREADS];

    (void)state;
    budget_retries_init(&race.retries);
    budget_places_init(&race.places, PLACES);
    for (int i = 0; i != THREADS; ++i)
        pthread_create(&threads[i], NULL, spend, &race);
    for (int i = 0; i != THREADS; ++i)
        pthread_join(threads[i], NULL);
    /* never full while it is spent at once, so nothing that was earned is lost either */
    assert_int_equal(atomic_load(&race.taken) + take_all(&race.retries), BUDGET_RETRIES_START + THREADS * ROUNDS / 10);
    assert_in_range(atomic_load(&race.most_inside), 1, PLACES);
    assert_int_equal(atomic_load(&race.places.taken), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_retries_are_there_from_the_start),
        cmocka_unit_test(ten_requests_pay_for_one),
        cmocka_unit_test(no_more_than_ten_are_saved),
        cmocka_unit_test(places_run_out_and_come_back),
        cmocka_unit_test(threads_do_not_spend_more_than_there_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
