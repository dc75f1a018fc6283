/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/base/slots.c, alone and under many threads (build with -Db_sanitize=thread to see races). */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "sidecar/base/slots.h"

enum { WORDS = 4 };

/* One bucket for all: the first eight bytes choose it. */
static void name_of(uint64_t number, uint8_t ret[16])
{
    memset(ret, 0, 8);
    memcpy(ret + 8, &number, 8);
}

static void put(struct slots *s, uint64_t number, uint64_t rank, uint64_t value)
{
    uint64_t words[SLOTS_WORDS_MAX];
    struct slot *slot;
    uint8_t name[16];
    bool found;

    name_of(number, name);
    slot = slots_lock(s, name, words, &found);
    words[0] = rank;
    for (int i = 1; i != WORDS; ++i)
        words[i] = value;
    slots_unlock(s, slot, name, words);
}

static bool get(struct slots *s, uint64_t number, uint64_t *ret)
{
    uint64_t words[SLOTS_WORDS_MAX];
    uint8_t name[16];

    name_of(number, name);
    if (!slots_read(s, name, words))
        return false;
    *ret = words[1];
    return true;
}

static void what_is_put_is_read(void **state)
{
    struct slots *s = slots_new(4, WORDS);
    uint64_t value;

    (void)state;
    assert_false(get(s, 1, &value));
    put(s, 1, 10, 100);
    put(s, 2, 10, 200);
    assert_true(get(s, 1, &value));
    assert_int_equal(value, 100);
    assert_true(get(s, 2, &value));
    assert_int_equal(value, 200);
    assert_false(get(s, 3, &value));
    put(s, 1, 11, 101);
    assert_true(get(s, 1, &value));
    assert_int_equal(value, 101);
    slots_free(s);
}

static void a_full_bucket_forgets_the_lowest_rank(void **state)
{
    struct slots *s = slots_new(1, WORDS);
    uint64_t value;

    (void)state;
    for (uint64_t i = 1; i <= 4; ++i)
        put(s, i, i == 3 ? 5 : 10 + i, i);
    put(s, 9, 50, 9);
    assert_false(get(s, 3, &value));
    for (uint64_t i = 1; i <= 4; ++i)
        assert_int_equal(get(s, i, &value), i != 3);
    assert_true(get(s, 9, &value));
    slots_free(s);
}

static void whoever_takes_a_slot_sees_what_has_to_go(void **state)
{
    struct slots *s = slots_new(1, WORDS);
    uint64_t words[SLOTS_WORDS_MAX];
    struct slot *slot;
    uint8_t name[16];
    bool found;

    (void)state;
    for (uint64_t i = 1; i <= 4; ++i)
        put(s, i, 10 + i, 1000 + i);
    name_of(7, name);
    slot = slots_lock(s, name, words, &found);
    assert_false(found);
    assert_int_equal(words[0], 11);
    assert_int_equal(words[1], 1001);
    /* a change of mind changes nothing */
    slots_unlock(s, slot, name, NULL);
    assert_true(get(s, 1, &words[0]));
    assert_false(get(s, 7, &words[0]));
    slots_free(s);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    assert_null(slots_new(4, 0));
    assert_null(slots_new(4, SLOTS_WORDS_MAX + 1));
    assert_null(slots_new(SIZE_MAX, 4));
    struct slots *s = slots_new(0, 1);
    assert_non_null(s);
    assert_int_equal(slots_bucket_count(s), 1);
    slots_free(s);
}

struct race {
    struct slots *s;
    atomic_bool is_over;
    atomic_int torn;
};

static void *write_all_the_time(void *arg)
{
    struct race *race = arg;

    for (uint64_t i = 1; i != 30000; ++i)
        put(race->s, i % 6, i, i);
    atomic_store(&race->is_over, true);
    return NULL;
}

static void *read_all_the_time(void *arg)
{
    struct race *race = arg;
    uint64_t words[SLOTS_WORDS_MAX];
    uint8_t name[16];

    for (uint64_t i = 0; !atomic_load(&race->is_over); ++i) {
        name_of(i % 6, name);
        if (slots_read(race->s, name, words) && (words[1] != words[2] || words[2] != words[3] || words[1] % 6 != i % 6))
            atomic_fetch_add(&race->torn, 1);
    }
    return NULL;
}

static void no_reader_sees_half_a_record_or_anothers(void **state)
{
    struct race race = {.s = slots_new(4, WORDS)};
    pthread_t writer, readers[2];

    (void)state;
    pthread_create(&writer, NULL, write_all_the_time, &race);
    for (int i = 0; i != 2; ++i)
        pthread_create(&readers[i], NULL, read_all_the_time, &race);
    pthread_join(writer, NULL);
    for (int i = 0; i != 2; ++i)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&race.torn), 0);
    slots_free(race.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_read),
        cmocka_unit_test(a_full_bucket_forgets_the_lowest_rank),
        cmocka_unit_test(whoever_takes_a_slot_sees_what_has_to_go),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(no_reader_sees_half_a_record_or_anothers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
