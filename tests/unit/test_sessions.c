/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/flow/sessions.c, alone and under many threads (build with -Db_sanitize=thread to see races). */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "sidecar/flow/sessions.h"

static int new_sessions(void **state)
{
    *state = sessions_new();
    return *state != NULL ? 0 : -1;
}

static int free_sessions(void **state)
{
    sessions_free(*state);
    return 0;
}

/* Names with the same first two bytes share a bucket. */
static void name_of(unsigned bucket, unsigned number, uint8_t ret[16])
{
    memset(ret, 0, 16);
    ret[0] = (uint8_t)bucket;
    ret[1] = (uint8_t)(bucket >> 8);
    ret[12] = (uint8_t)(number >> 24);
    ret[13] = (uint8_t)(number >> 16);
    ret[14] = (uint8_t)(number >> 8);
    ret[15] = (uint8_t)number;
}

static void learn(struct sessions *s, unsigned bucket, unsigned number, const char *version, int64_t now_ms)
{
    struct session session = {.version = ""};
    uint8_t name[16];

    name_of(bucket, number, name);
    strncpy(session.version, version, sizeof(session.version) - 1);
    memset(session.client, (int)number, sizeof(session.client));
    sessions_learn(s, name, &session, now_ms);
}

static bool find(struct sessions *s, unsigned bucket, unsigned number, struct session *ret)
{
    uint8_t name[16];

    name_of(bucket, number, name);
    return sessions_find(s, name, ret);
}

static void what_was_learned_is_found(void **state)
{
    struct session seen;
    uint8_t client[16];

    memset(client, 7, sizeof(client));
    learn(*state, 1, 7, "2025-06-18", 1000);
    assert_true(find(*state, 1, 7, &seen));
    assert_string_equal(seen.version, "2025-06-18");
    assert_memory_equal(seen.client, client, sizeof(client));
}

static void an_empty_table_finds_nothing(void **state)
{
    struct session seen;

    memset(&seen, 0xa5, sizeof(seen));
    /* the name of zeros is what an unused slot holds */
    assert_false(find(*state, 0, 0, &seen));
    assert_int_equal((unsigned char)seen.version[0], 0xa5);
    learn(*state, 0, 0, "2025-03-26", 1);
    assert_true(find(*state, 0, 0, &seen));
    assert_string_equal(seen.version, "2025-03-26");
}

static void another_name_is_another_session(void **state)
{
    struct session seen;
    uint8_t name[16], other[16];

    name_of(5, 1, name);
    learn(*state, 5, 1, "2025-06-18", 1);
    for (int bit = 0; bit < 128; bit++) {
        memcpy(other, name, 16);
        other[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(sessions_find(*state, other, &seen));
    }
}

static void learning_again_replaces(void **state)
{
    struct session seen;

    for (unsigned i = 0; i < 4; i++)
        learn(*state, 9, i, "2025-03-26", 10 + i);
    learn(*state, 9, 2, "2025-11-25", 20);
    assert_true(find(*state, 9, 2, &seen));
    assert_string_equal(seen.version, "2025-11-25");
    for (unsigned i = 0; i < 4; i++)
        assert_true(find(*state, 9, i, &seen));
}

static void the_oldest_of_a_full_bucket_makes_room(void **state)
{
    struct session seen;

    learn(*state, 9, 0, "v", 40);
    learn(*state, 9, 1, "v", 10);
    learn(*state, 9, 2, "v", 30);
    learn(*state, 9, 3, "v", 20);
    /* learned again: no longer the oldest */
    learn(*state, 9, 1, "v", 50);
    learn(*state, 9, 4, "v", 60);
    assert_false(find(*state, 9, 3, &seen));
    learn(*state, 9, 5, "v", 70);
    assert_false(find(*state, 9, 2, &seen));
    assert_true(find(*state, 9, 0, &seen));
    assert_true(find(*state, 9, 1, &seen));
    assert_true(find(*state, 9, 4, &seen));
    assert_true(find(*state, 9, 5, &seen));
    /* a neighbour's bucket is his own */
    learn(*state, 10, 0, "v", 1);
    assert_true(find(*state, 9, 0, &seen));
}

static void an_empty_slot_is_taken_before_a_used_one(void **state)
{
    struct session seen;

    for (unsigned i = 0; i < 4; i++)
        learn(*state, 9, i, "v", 1);
    for (unsigned i = 0; i < 4; i++)
        assert_true(find(*state, 9, i, &seen));
}

static void every_bucket_can_be_used(void **state)
{
    struct session seen;
    unsigned found = 0;

    for (unsigned bucket = 0; bucket < 2048; bucket++)
        for (unsigned i = 0; i < 4; i++)
            learn(*state, bucket, i, "v", 1);
    for (unsigned bucket = 0; bucket < 2048; bucket++)
        for (unsigned i = 0; i < 4; i++)
            found += find(*state, bucket, i, &seen);
    assert_int_equal(found, 8192);
}

static void a_version_of_full_length_stays_terminated(void **state)
{
    struct session session, seen;
    uint8_t name[16] = {1};

    memset(&session, 'v', sizeof(session));
    sessions_learn(*state, name, &session, 1);
    assert_true(sessions_find(*state, name, &seen));
    assert_int_equal(strlen(seen.version), 15);
}

static void nothing_is_freed(void **state)
{
    (void)state;
    sessions_free(NULL);
}

/* ---- many threads --------------------------------------------------------------------------------------------------------------- */

#define LEARNERS 3
#define FINDERS  3
#define ROUNDS   40000
#define NAMES    6 /* more than a bucket holds, so slots change their owner all the time */

struct crowd {
    struct sessions *sessions;
    pthread_barrier_t start;
    atomic_uint found, torn, learning;
};

struct member {
    struct crowd *crowd;
    unsigned number;
};

/* Version and client both tell who wrote the session and for whom: any mixture shows. */
static void *keep_learning(void *arg)
{
    struct member *m = arg;

    pthread_barrier_wait(&m->crowd->start);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned number = round % NAMES;
        struct session session = {.version = ""};
        uint8_t name[16];

        name_of(3, number, name);
        memset(session.version, (int)('a' + m->number), sizeof(session.version) - 1);
        memset(session.client, (int)('a' + m->number), sizeof(session.client));
        session.version[0] = session.client[0] = (char)number;
        sessions_learn(m->crowd->sessions, name, &session, round);
    }
    atomic_fetch_sub(&m->crowd->learning, 1);
    return NULL;
}

static void *keep_finding(void *arg)
{
    struct member *m = arg;

    pthread_barrier_wait(&m->crowd->start);
    for (unsigned round = 0; atomic_load(&m->crowd->learning) != 0; round++) {
        unsigned number = round % NAMES;
        struct session seen;
        bool is_whole = true;

        if (!find(m->crowd->sessions, 3, number, &seen))
            continue;
        atomic_fetch_add(&m->crowd->found, 1);
        is_whole = seen.version[0] == (char)number && seen.client[0] == (uint8_t)number && seen.version[15] == '\0';
        for (int i = 1; i < 15; i++)
            is_whole = is_whole && seen.version[i] == seen.version[1] && seen.client[i] == (uint8_t)seen.version[1];
        if (!is_whole)
            atomic_fetch_add(&m->crowd->torn, 1);
    }
    return NULL;
}

static void no_reader_sees_half_a_session(void **state)
{
    static struct crowd crowd;
    struct member members[LEARNERS + FINDERS];
    pthread_t threads[LEARNERS + FINDERS];
    struct session seen;

    crowd.sessions = *state;
    atomic_store(&crowd.found, 0);
    atomic_store(&crowd.torn, 0);
    atomic_store(&crowd.learning, LEARNERS);
    assert_int_equal(pthread_barrier_init(&crowd.start, NULL, LEARNERS + FINDERS), 0);
    /* something to find from the beginning */
    for (unsigned i = 0; i < 4; i++) {
        struct session session = {.version = ""};
        uint8_t name[16];

        name_of(3, i, name);
        memset(session.version, 'x', sizeof(session.version) - 1);
        memset(session.client, 'x', sizeof(session.client));
        session.version[0] = session.client[0] = (char)i;
        sessions_learn(*state, name, &session, 0);
    }
    for (unsigned i = 0; i < LEARNERS + FINDERS; i++) {
        members[i] = (struct member){&crowd, i};
        assert_int_equal(pthread_create(&threads[i], NULL, i < LEARNERS ? keep_learning : keep_finding, &members[i]), 0);
    }
    for (unsigned i = 0; i < LEARNERS + FINDERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&crowd.start);
    assert_int_equal(atomic_load(&crowd.torn), 0);
    assert_int_not_equal(atomic_load(&crowd.found), 0);
    /* no slot is left as being written */
    for (unsigned i = 100; i < 104; i++)
        learn(*state, 3, i, "v", ROUNDS + i);
    for (unsigned i = 100; i < 104; i++)
        assert_true(find(*state, 3, i, &seen));
}

#define WITH_SESSIONS(test_) cmocka_unit_test_setup_teardown(test_, new_sessions, free_sessions)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSIONS(what_was_learned_is_found),
        WITH_SESSIONS(an_empty_table_finds_nothing),
        WITH_SESSIONS(another_name_is_another_session),
        WITH_SESSIONS(learning_again_replaces),
        WITH_SESSIONS(the_oldest_of_a_full_bucket_makes_room),
        WITH_SESSIONS(an_empty_slot_is_taken_before_a_used_one),
        WITH_SESSIONS(every_bucket_can_be_used),
        WITH_SESSIONS(a_version_of_full_length_stays_terminated),
        cmocka_unit_test(nothing_is_freed),
        WITH_SESSIONS(no_reader_sees_half_a_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
