/* SPDX-License-Identifier: Apache-2.0 */
#include "store_room.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const uint64_t TOOL = 0x1111111111111111, TAG = 0x2222222222222222, OTHER = 0x3333333333333333;

/* ---- the numbers ---- */

static void open_file(const struct room *room, const uint64_t *sum, struct generations *ret)
{
    char path[128];
    file_path(room, "generations", path);
    assert_int_equal(generations_open(path, sum, ret), 0);
}

static enum store_validity of_one(const struct generations *generations, uint64_t generation, uint64_t subject)
{
    return generations_validity(generations, generation, &subject, 1);
}

static void what_began_before_a_raise_is_purged_and_what_began_after_it_is_not(void **state)
{
    struct generations generations;

    open_file(*state, NULL, &generations);
    uint64_t before = generations_now(&generations);
    assert_int_equal(of_one(&generations, before, TOOL), STORE_VALID);
    uint64_t number = generations_raise(&generations, TOOL, STORE_RAISE_HARD);
    assert_true(number > before);
    uint64_t after = generations_now(&generations);
    assert_true(after >= number);
    assert_int_equal(of_one(&generations, before, TOOL), STORE_PURGED);
    assert_int_equal(of_one(&generations, number - 1, TOOL), STORE_PURGED);
    assert_int_equal(of_one(&generations, after, TOOL), STORE_VALID);
    assert_int_equal(of_one(&generations, before, TAG), STORE_VALID);
    /* In the same instant again: still an order. */
    assert_true(generations_raise(&generations, TOOL, STORE_RAISE_HARD) > after);
    assert_int_equal(of_one(&generations, after, TOOL), STORE_PURGED);
    assert_int_equal(generations_close(&generations, NULL), 0);
}

static void what_was_under_way_when_the_process_ended_is_raised_at_the_next_start(void **state)
{
    struct generations generations;
    unsigned places[GENERATIONS_UNDER_WAY + 1];

    open_file(*state, NULL, &generations);
    unsigned done = generations_begin(&generations, OTHER);
    generations_begin(&generations, TOOL);
    /* the same one twice is two */
    unsigned twice = generations_begin(&generations, TOOL);
    generations_end(&generations, done);
    generations_end(&generations, twice);
    uint64_t before = generations_now(&generations);
    assert_int_equal(of_one(&generations, before, TOOL), STORE_VALID);
    assert_int_equal(generations_close(&generations, NULL), 0);

    open_file(*state, NULL, &generations);
    assert_int_equal(of_one(&generations, before, TOOL), STORE_PURGED);
    assert_int_equal(of_one(&generations, before, OTHER), STORE_VALID);
    before = generations_now(&generations);
    assert_int_equal(generations_close(&generations, NULL), 0);

    /* Once. */
    open_file(*state, NULL, &generations);
    assert_int_equal(generations_now(&generations), before);
    /* More than there are places for: everything. */
    for (size_t i = 0; i <= GENERATIONS_UNDER_WAY; ++i)
        places[i] = generations_begin(&generations, TAG);
    for (size_t i = 0; i < GENERATIONS_UNDER_WAY; ++i)
        generations_end(&generations, places[i]);
    assert_int_equal(generations_close(&generations, NULL), 0);
    open_file(*state, NULL, &generations);
    assert_int_equal(of_one(&generations, before, OTHER), STORE_PURGED);
    before = generations_now(&generations);
    for (size_t i = 0; i <= GENERATIONS_UNDER_WAY; ++i)
        places[i] = generations_begin(&generations, TAG);
    for (size_t i = 0; i <= GENERATIONS_UNDER_WAY; ++i)
        generations_end(&generations, places[i]);
    assert_int_equal(generations_close(&generations, NULL), 0);
    open_file(*state, NULL, &generations);
    assert_int_equal(generations_now(&generations), before);
    generations_close(&generations, NULL);
}

static void a_soft_raise_makes_stale_and_a_hard_one_wins(void **state)
{
    uint64_t subjects[] = {OTHER, TAG, TOOL};
    struct generations generations;

    open_file(*state, NULL, &generations);
    uint64_t first = generations_now(&generations);
    generations_raise(&generations, TAG, STORE_RAISE_SOFT);
    assert_int_equal(generations_validity(&generations, first, subjects, 3), STORE_SOFT_PURGED);
    assert_int_equal(generations_validity(&generations, first, subjects, 1), STORE_VALID);
    uint64_t second = generations_now(&generations);
    generations_raise(&generations, TOOL, STORE_RAISE_HARD);
    assert_int_equal(generations_validity(&generations, first, subjects, 3), STORE_PURGED);
    assert_int_equal(generations_validity(&generations, first, subjects, 2), STORE_SOFT_PURGED);
    assert_int_equal(generations_validity(&generations, second, subjects, 2), STORE_VALID);
    /* Softly afterwards: takes nothing back. */
    generations_raise(&generations, TOOL, STORE_RAISE_SOFT);
    assert_int_equal(of_one(&generations, second, TOOL), STORE_PURGED);
    /* And a hard one in the past does not purge what is only stale since. */
    uint64_t third = generations_now(&generations);
    generations_raise(&generations, TOOL, STORE_RAISE_SOFT);
    assert_int_equal(of_one(&generations, third, TOOL), STORE_SOFT_PURGED);
    generations_close(&generations, NULL);
}

static void everything_can_be_purged(void **state)
{
    struct generations generations;

    open_file(*state, NULL, &generations);
    generations_raise(&generations, STORE_SUBJECT_ALL, STORE_RAISE_SOFT);
    assert_int_equal(of_one(&generations, 0, TOOL), STORE_SOFT_PURGED);
    assert_int_equal(generations_validity(&generations, 0, NULL, 0), STORE_SOFT_PURGED);
    uint64_t before = generations_now(&generations);
    generations_raise(&generations, STORE_SUBJECT_ALL, STORE_RAISE_HARD);
    assert_int_equal(of_one(&generations, before, TOOL), STORE_PURGED);
    assert_int_equal(generations_validity(&generations, before, NULL, 0), STORE_PURGED);
    assert_int_equal(generations_validity(&generations, generations_now(&generations), NULL, 0), STORE_VALID);
    generations_close(&generations, NULL);
}

static void subjects_that_share_a_slot_are_purged_together_and_no_others(void **state)
{
    struct generations generations;
    unsigned purged = 0;

    open_file(*state, NULL, &generations);
    uint64_t before = generations_now(&generations);
    generations_raise(&generations, TOOL, STORE_RAISE_HARD);
    assert_int_equal(of_one(&generations, before, TOOL + GENERATIONS_SLOTS), STORE_PURGED);
    for (uint64_t i = 0; i < GENERATIONS_SLOTS; ++i)
        purged += of_one(&generations, before, TOOL + i) != STORE_VALID;
    assert_int_equal(purged, 1);
    /* Nobody shares a slot with everything: such a one would purge it. */
    before = generations_now(&generations);
    generations_raise(&generations, STORE_SUBJECT_ALL + GENERATIONS_SLOTS, STORE_RAISE_HARD);
    assert_int_equal(generations_validity(&generations, before, NULL, 0), STORE_VALID);
    assert_int_equal(of_one(&generations, before, TAG), STORE_VALID);
    generations_close(&generations, NULL);
}

/* ---- threads ---- */

enum { RAISERS = 3, RAISES = 4000, WATCHED = 7 };

struct race {
    struct generations generations;
    _Atomic uint64_t acknowledged[WATCHED];
    _Atomic unsigned running;
    _Atomic uint64_t sum; /* of all numbers */
};

static void acknowledge(_Atomic uint64_t *at, uint64_t number)
{
    uint64_t there = atomic_load(at);
    while (there < number && !atomic_compare_exchange_weak(at, &there, number))
        ;
}

static void *raise_on(void *data)
{
    struct race *race = data;

    for (uint64_t i = 0; i < RAISES; ++i) {
        uint64_t before = generations_now(&race->generations);
        uint64_t number = generations_raise(&race->generations, TOOL + i % WATCHED, STORE_RAISE_HARD);
        assert_true(number > before && generations_now(&race->generations) >= number);
        assert_int_equal(of_one(&race->generations, number - 1, TOOL + i % WATCHED), STORE_PURGED);
        acknowledge(&race->acknowledged[i % WATCHED], number);
        atomic_fetch_add(&race->sum, number);
    }
    atomic_fetch_sub(&race->running, 1);
    return NULL;
}

static void *watch_on(void *data)
{
    struct race *race = data;

    for (uint64_t i = 0; atomic_load(&race->running) > 0; ++i) {
        uint64_t number = atomic_load(&race->acknowledged[i % WATCHED]);
        if (number == 0)
            continue;
        /* Acknowledged to somebody: everybody knows, and who begins now is behind it. */
        assert_true(generations_now(&race->generations) >= number);
        assert_int_equal(of_one(&race->generations, number - 1, TOOL + i % WATCHED), STORE_PURGED);
    }
    return NULL;
}

static void a_raise_that_was_acknowledged_holds_for_every_thread(void **state)
{
    struct race race = {.running = RAISERS};
    pthread_t threads[RAISERS + 2];
    uint64_t total = RAISERS * RAISES;

    open_file(*state, NULL, &race.generations);
    for (int i = 0; i < RAISERS + 2; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, i < RAISERS ? raise_on : watch_on, &race), 0);
    for (int i = 0; i < RAISERS + 2; ++i)
        pthread_join(threads[i], NULL);
    /* Each number was given once. */
    assert_int_equal(generations_now(&race.generations), total);
    assert_int_equal(race.sum, total * (total + 1) / 2);
    for (uint64_t i = 0; i < WATCHED; ++i) {
        assert_int_equal(of_one(&race.generations, race.acknowledged[i] - 1, TOOL + i), STORE_PURGED);
        assert_int_equal(of_one(&race.generations, race.acknowledged[i], TOOL + i), STORE_VALID);
    }
    generations_close(&race.generations, NULL);
}

/* ---- the file ---- */

static void what_was_raised_is_there_when_the_file_is_opened_again(void **state)
{
    uint8_t id[GENERATIONS_ID_BYTES];
    struct generations generations;

    for (uint64_t round = 0; round < 3; ++round) {
        open_file(*state, NULL, &generations);
        assert_int_equal(generations_now(&generations), 3 * round);
        assert_true(generations.has_raised_hard == (round > 0)); /* what was purged may lie there still */
        if (round == 0)
            memcpy(id, generations_id(&generations), sizeof(id));
        assert_memory_equal(id, generations_id(&generations), sizeof(id));
        generations_raise(&generations, STORE_SUBJECT_ALL, STORE_RAISE_SOFT);
        generations_raise(&generations, TOOL, STORE_RAISE_HARD);
        generations_raise(&generations, TAG, STORE_RAISE_SOFT);
        generations_close(&generations, NULL); /* nothing is waited for */
    }
    open_file(*state, NULL, &generations);
    assert_int_equal(of_one(&generations, 7, TOOL), STORE_PURGED);
    assert_int_equal(of_one(&generations, 8, TAG), STORE_SOFT_PURGED);
    assert_int_equal(of_one(&generations, 6, OTHER), STORE_SOFT_PURGED);
    assert_int_equal(of_one(&generations, 9, TOOL), STORE_VALID);
    generations_close(&generations, NULL);
}

/* Writes 8 bytes into the file. */
static void poke(const struct room *room, const char *name, off_t at, uint64_t value)
{
    char path[128];
    file_path(room, name, path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &value, sizeof(value), at), sizeof(value));
    close(fd);
}

static void a_file_that_cannot_be_believed_is_replaced(void **state)
{
    enum {
        MISSING,
        EMPTY,
        SHORT,
        LONG,
        ZEROS,
        MAGIC,
        SCHEMA,
        BEHIND,
        TOO_HIGH,
        ABOVE_IN_ALL,
        ABOVE_IN_A_SLOT,
        OTHER_SUM,
        LINK,
        WAYS
    };
    const struct room *room = *state;
    char path[128], target[128];
    uint64_t sum;

    file_path(room, "generations", path);
    file_path(room, "target", target);
    for (int way = 0; way < WAYS; ++way) {
        uint8_t id[GENERATIONS_ID_BYTES];
        struct generations generations;
        struct stat stat_;

        unlink(path);
        open_file(room, NULL, &generations);
        for (int i = 0; i < 5; ++i)
            generations_raise(&generations, TOOL, STORE_RAISE_HARD);
        memcpy(id, generations_id(&generations), sizeof(id));
        assert_int_equal(generations_close(&generations, &sum), 0);
        open_file(room, &sum, &generations); /* as it is, it is believed */
        assert_int_equal(generations_now(&generations), 5);
        assert_memory_equal(id, generations_id(&generations), sizeof(id));
        generations_close(&generations, NULL);
        switch (way) {
        case MISSING:
            unlink(path);
            break;
        case EMPTY:
            assert_int_equal(truncate(path, 0), 0);
            break;
        case SHORT:
            assert_int_equal(truncate(path, GENERATIONS_FILE_BYTES - 1), 0);
            break;
        case LONG:
            assert_int_equal(truncate(path, GENERATIONS_FILE_BYTES + 1), 0);
            break;
        case ZEROS: /* what a full disk or a lost kernel may leave */
            assert_true(truncate(path, 0) == 0 && truncate(path, GENERATIONS_FILE_BYTES) == 0);
            break;
        case MAGIC:
            poke(room, "generations", 8, 0);
            break;
        case SCHEMA:
            poke(room, "generations", 16, GENERATIONS_SCHEMA + 1 + ((uint64_t)GENERATIONS_SLOTS << 32));
            break;
        case BEHIND: /* the counter went back */
            poke(room, "generations", 40, 4);
            break;
        case TOO_HIGH:
            poke(room, "generations", 40, (uint64_t)INT64_MAX + 1);
            break;
        case ABOVE_IN_ALL:
            poke(room, "generations", 56, 6);
            break;
        case ABOVE_IN_A_SLOT:
            poke(room, "generations", GENERATIONS_FILE_BYTES - 8, 6);
            break;
        case OTHER_SUM:
            poke(room, "generations", GENERATIONS_FILE_BYTES - 8, 1);
            break;
        case LINK:
            assert_true(rename(path, target) == 0 && symlink("target", path) == 0);
            break;
        }
        open_file(room, way == OTHER_SUM ? &sum : NULL, &generations);
        assert_int_equal(generations_now(&generations), 0);
        assert_int_equal(of_one(&generations, 0, TOOL), STORE_VALID);
        assert_memory_not_equal(id, generations_id(&generations), sizeof(id));
        generations_raise(&generations, TOOL + GENERATIONS_SLOTS - 1, STORE_RAISE_HARD);
        generations_close(&generations, NULL);
        assert_true(lstat(path, &stat_) == 0 && S_ISREG(stat_.st_mode) && (stat_.st_mode & 0777) == 0600);
        assert_true(stat_.st_size == GENERATIONS_FILE_BYTES && stat_.st_blocks * 512 >= GENERATIONS_FILE_BYTES);
    }
}

static void holes_are_filled_before_the_file_is_used(void **state)
{
    const struct room *room = *state;
    struct generations generations;
    char path[128], head[4096];
    struct stat stat_;

    open_file(room, NULL, &generations);
    generations_raise(&generations, STORE_SUBJECT_ALL, STORE_RAISE_HARD);
    generations_close(&generations, NULL);
    /* As a copy that saves space would be. */
    file_path(room, "generations", path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && read(fd, head, sizeof(head)) == sizeof(head));
    assert_true(ftruncate(fd, 0) == 0 && ftruncate(fd, GENERATIONS_FILE_BYTES) == 0);
    assert_int_equal(pwrite(fd, head, sizeof(head), 0), sizeof(head));
    assert_true(fstat(fd, &stat_) == 0 && stat_.st_blocks * 512 < GENERATIONS_FILE_BYTES / 2);
    open_file(room, NULL, &generations);
    assert_int_equal(generations_now(&generations), 1);
    assert_true(fstat(fd, &stat_) == 0 && stat_.st_blocks * 512 >= GENERATIONS_FILE_BYTES);
    generations_close(&generations, NULL);
    close(fd);
}

/* ---- entries ---- */

static const int64_t NEVER = INT64_MAX;

struct thing {
    unsigned number;
    size_t n;
    uint64_t generation;
    const uint64_t *subjects;
    size_t count;
    uint8_t method;
};

static bool put_thing(struct room *room, const struct thing *thing)
{
    char *body = body_of(thing->number, thing->n);
    struct cp_key key = key_of(thing->number);
    struct store_entry entry = {
        .body = {body, thing->n},
        .owner = thing->number % 3,
        .expires_at_ms = NEVER,
        .method = thing->method == 0 ? CP_METHOD_TOOLS_CALL : thing->method,
        .name = SPAN("a name"),
        .generation = thing->generation,
        .subjects = thing->subjects,
        .subject_count = thing->count,
        .is_negative = thing->number % 2 == 1,
    };
    bool is_queued = store_put(room->store, &key, &entry);
    free(body);
    return is_queued;
}

/* Puts under number, now, with one subject. */
static bool put_now(struct room *room, unsigned number, size_t n, uint64_t subject)
{
    return put_thing(room, &(struct thing){number, n, store_generation(room->store), &subject, 1, 0});
}

/* What a caller would be told: STORE_MISS also when it is purged. */
static enum store_lookup look_valid(struct room *room, unsigned number, enum store_validity *ret)
{
    struct allocations allocations = {0};
    struct cp_key key = key_of(number);
    struct store_entry entry;
    enum store_lookup found = store_get(room->reader, &key, alloc, &allocations, &entry);

    if (found == STORE_HIT) {
        *ret = store_validity_of(room->store, entry.generation, entry.subjects, entry.subject_count);
        if (*ret == STORE_PURGED)
            found = STORE_MISS;
    }
    free(allocations.p[0]);
    free(allocations.p[1]);
    return found;
}

static bool is_valid(struct room *room, unsigned number)
{
    enum store_validity validity;
    return look_valid(room, number, &validity) == STORE_HIT && validity == STORE_VALID;
}

static void subjects_come_back_from_the_queue_and_from_the_file(void **state)
{
    static const size_t counts[] = {0, 1, 7, STORE_SUBJECTS_MAX};
    struct room *room = *state;
    uint64_t subjects[STORE_SUBJECTS_MAX];

    room_open(room);
    for (uint64_t i = 0; i < STORE_SUBJECTS_MAX; ++i) {
        subjects[i] = TOOL * (i + 1);
        store_raise(room->store, OTHER, STORE_RAISE_SOFT);
    }
    for (int is_held = 1; is_held >= 0; --is_held) {
        store_hold(room->store, is_held == 1);
        for (unsigned i = 0; i < 4; ++i) {
            struct allocations allocations = {0};
            struct thing thing = {i + 10, i * 100, 17 + i, subjects, counts[i], 0};
            struct cp_key key = key_of(i + 10);
            struct store_entry entry;

            assert_true(is_held == 0 || put_thing(room, &thing));
            if (is_held == 0)
                store_flush(room->store);
            assert_int_equal(store_get(room->reader, &key, alloc, &allocations, &entry), STORE_HIT);
            assert_true(entry.generation == 17 + i && entry.subject_count == counts[i] && entry.is_negative == (i % 2 == 1));
            for (size_t k = 0; k < counts[i]; ++k)
                assert_true(entry.subjects[k] == subjects[k]);
            assert_true(entry.body.n == i * 100 && span_eq(entry.name, SPAN("a name")));
            free(allocations.p[0]);
            free(allocations.p[1]);
        }
    }
    assert_sound(room);
}

static void what_breaks_the_bounds_is_refused(void **state)
{
    struct room *room = *state;
    uint64_t subjects[STORE_SUBJECTS_MAX + 1] = {TOOL};

    room_open(room);
    assert_false(put_thing(room, &(struct thing){1, 10, 0, subjects, STORE_SUBJECTS_MAX + 1, 0}));
    assert_false(put_thing(room, &(struct thing){1, 10, 1, subjects, 1, 0})); /* a generation that was never noted */
    store_raise(room->store, TAG, STORE_RAISE_HARD);
    assert_true(put_thing(room, &(struct thing){1, 10, 1, subjects, STORE_SUBJECTS_MAX, 0}));
    store_flush(room->store);
    assert_int_equal(counters_of(room).put_drops, 2);
    assert_int_equal(counters_of(room).entries, 1);
}

static void a_fill_that_began_before_the_purge_is_not_stored(void **state)
{
    struct room *room = *state;
    uint64_t subjects[] = {TOOL, TAG};

    room_open(room);
    uint64_t before = store_generation(room->store);
    store_raise(room->store, TAG, STORE_RAISE_HARD);
    assert_false(put_thing(room, &(struct thing){1, 10, before, subjects, 2, 0}));
    assert_true(put_thing(room, &(struct thing){2, 10, before, subjects, 1, 0}));
    assert_true(put_now(room, 1, 10, TAG));
    /* A late one does not replace what is good. */
    assert_false(put_thing(room, &(struct thing){1, 20, before, subjects, 2, 0}));
    assert_true(is_valid(room, 1) && is_valid(room, 2));
    /* Softly purged is stored: it is stale. */
    uint64_t now = store_generation(room->store);
    store_raise(room->store, TAG, STORE_RAISE_SOFT);
    assert_true(put_thing(room, &(struct thing){3, 10, now, subjects, 2, 0}));
    store_flush(room->store);
    enum store_validity validity = STORE_VALID;
    assert_int_equal(look_valid(room, 3, &validity), STORE_HIT);
    assert_int_equal(validity, STORE_SOFT_PURGED);
    assert_int_equal(counters_of(room).entries, 3);
    assert_int_equal(counters_of(room).put_drops, 0);
}

static void what_is_purged_while_it_waits_is_never_written_and_brings_nothing_back(void **state)
{
    struct room *room = *state;
    uint64_t subjects[] = {TOOL, TAG};
    enum store_validity validity;

    room_open(room);
    assert_true(put_now(room, 1, 10, TOOL)); /* without the tag */
    store_flush(room->store);
    store_hold(room->store, true);
    assert_true(put_thing(room, &(struct thing){1, 20, store_generation(room->store), subjects, 2, 0}));
    assert_true(put_thing(room, &(struct thing){2, 20, store_generation(room->store), subjects, 2, CP_METHOD_INITIALIZE}));
    store_raise(room->store, TAG, STORE_RAISE_HARD);
    assert_int_equal(look_valid(room, 1, &validity), STORE_MISS);
    store_hold(room->store, false);
    store_flush(room->store);
    assert_int_equal(look_valid(room, 1, &validity), STORE_MISS);
    struct store_counters counters = counters_of(room);
    assert_true(counters.entries == 1 && counters.reclaimed == 1 && counters.put_drops == 0);
    assert_sound(room);
}

static void standings_are_never_purged(void **state)
{
    struct room *room = *state;
    uint64_t subject = TOOL, bytes;
    struct cp_key key = key_of(1);

    room_open(room);
    store_raise(room->store, STORE_SUBJECT_ALL, STORE_RAISE_HARD);
    assert_true(put_thing(room, &(struct thing){1, 10, 0, &subject, 1, CP_METHOD_INITIALIZE}));
    store_flush(room->store);
    store_raise(room->store, STORE_SUBJECT_ALL, STORE_RAISE_HARD);
    store_raise(room->store, TOOL, STORE_RAISE_HARD);
    store_reclaim_now(room->store);
    assert_int_equal(look_key(room, &key), STORE_HIT);
    assert_int_equal(store_count(room->store, &subject, 1, &bytes), 0);
}

/* ---- counting ---- */

static uint64_t count_of(struct room *room, const uint64_t *subjects, size_t n, uint64_t bytes)
{
    uint64_t seen_bytes = 99, count = store_count(room->store, subjects, n, &seen_bytes);
    assert_int_equal(seen_bytes, bytes);
    return count;
}

static void the_count_is_of_what_a_purge_would_take(void **state)
{
    struct room *room = *state;
    uint64_t both[] = {TOOL, TAG}, all = STORE_SUBJECT_ALL, tag_of_all[] = {STORE_SUBJECT_ALL, TAG}, other = OTHER;

    room_open(room);
    assert_int_equal(count_of(room, &all, 1, 0), 0);
    for (unsigned i = 0; i < 10; ++i)
        assert_true(put_thing(room, &(struct thing){i, 100 + i, 0, both, i % 3, 0})); /* nothing, the tool, both */
    assert_true(put_thing(room, &(struct thing){10, 1000, 0, both, 2, CP_METHOD_INITIALIZE}));
    /* What is queued counts. */
    assert_int_equal(count_of(room, &all, 1, 1045), 10);
    assert_int_equal(count_of(room, NULL, 0, 1045), 10);
    assert_int_equal(count_of(room, both, 1, 101 + 104 + 107 + 102 + 105 + 108), 6);
    assert_int_equal(count_of(room, both, 2, 102 + 105 + 108), 3);
    assert_int_equal(count_of(room, both + 1, 1, 102 + 105 + 108), 3);
    assert_int_equal(count_of(room, tag_of_all, 2, 102 + 105 + 108), 3);
    assert_int_equal(count_of(room, &other, 1, 0), 0);
    /* A dry run changed nothing; a soft purge leaves what a hard one can take; what that took is not taken twice. */
    assert_true(is_valid(room, 2));
    store_raise(room->store, TAG, STORE_RAISE_SOFT);
    assert_int_equal(count_of(room, both + 1, 1, 315), 3);
    store_raise(room->store, TAG, STORE_RAISE_HARD);
    assert_int_equal(count_of(room, both + 1, 1, 0), 0);
    assert_int_equal(count_of(room, both, 1, 101 + 104 + 107), 3);
    assert_int_equal(count_of(room, &all, 1, 730), 7);
    assert_true(put_now(room, 2, 50, TAG));
    assert_int_equal(count_of(room, both + 1, 1, 50), 1);
    store_raise(room->store, STORE_SUBJECT_ALL, STORE_RAISE_HARD);
    assert_int_equal(count_of(room, &all, 1, 0), 0);
}

static uint64_t count_any_of(struct room *room, const uint64_t *subjects, size_t n, enum store_raise how, uint64_t bytes)
{
    uint64_t seen_bytes = 99, count = store_count_any(room->store, subjects, n, how, &seen_bytes);
    assert_int_equal(seen_bytes, bytes);
    return count;
}

static uint64_t purge_of(struct room *room, const uint64_t *subjects, size_t n, enum store_raise how, uint64_t bytes)
{
    uint64_t seen_bytes = 99, count = store_purge(room->store, subjects, n, how, &seen_bytes);
    assert_int_equal(seen_bytes, bytes);
    return count;
}

/* Several names mean that each is purged: who has two of them counts once; the count of a dry run is that of the purge. */
static void a_purge_counts_what_has_any_of_its_subjects(void **state)
{
    struct room *room = *state;
    uint64_t both[] = {TOOL, TAG}, all = STORE_SUBJECT_ALL, other = OTHER, all_and_other[] = {STORE_SUBJECT_ALL, OTHER};

    room_open(room);
    assert_int_equal(count_any_of(room, &all, 1, STORE_RAISE_HARD, 0), 0);
    for (unsigned i = 0; i < 12; ++i) /* nothing; the tool; the tool and the tag; another one */
        assert_true(put_thing(room, &(struct thing){i, 100 + i, 0, i % 4 == 3 ? &other : both, i % 4 == 3 ? 1 : i % 4, 0}));
    assert_true(put_thing(room, &(struct thing){12, 1000, 0, both, 2, CP_METHOD_INITIALIZE}));
    assert_int_equal(count_any_of(room, both, 0, STORE_RAISE_HARD, 0), 0);
    assert_int_equal(count_any_of(room, both + 1, 1, STORE_RAISE_HARD, 102 + 106 + 110), 3);
    assert_int_equal(count_any_of(room, both, 2, STORE_RAISE_HARD, 101 + 102 + 105 + 106 + 109 + 110), 6);
    assert_int_equal(count_any_of(room, all_and_other, 2, STORE_RAISE_HARD, 1266), 12);
    assert_int_equal(count_any_of(room, both, 2, STORE_RAISE_SOFT, 633), 6);
    assert_true(is_valid(room, 2));
    /* what is stale is not made stale again, and a hard purge takes it nevertheless */
    assert_int_equal(purge_of(room, both + 1, 1, STORE_RAISE_SOFT, 318), 3);
    assert_int_equal(purge_of(room, both + 1, 1, STORE_RAISE_SOFT, 0), 0);
    assert_int_equal(count_any_of(room, both, 2, STORE_RAISE_SOFT, 101 + 105 + 109), 3);
    assert_int_equal(purge_of(room, both, 2, STORE_RAISE_HARD, 633), 6);
    assert_int_equal(purge_of(room, both, 2, STORE_RAISE_HARD, 0), 0);
    assert_int_equal(purge_of(room, both, 2, STORE_RAISE_SOFT, 0), 0);
    assert_false(is_valid(room, 2));
    assert_true(is_valid(room, 3));
    assert_int_equal(purge_of(room, NULL, 0, STORE_RAISE_HARD, 0), 0);
    assert_true(put_now(room, 2, 50, TAG));
    assert_int_equal(purge_of(room, all_and_other, 2, STORE_RAISE_HARD, 1266 - 633 + 50), 7);
    assert_int_equal(purge_of(room, &all, 1, STORE_RAISE_HARD, 0), 0);
}

/* Subjects that share a place are purged together, so they are counted together. */
static void a_purge_counts_what_it_takes_too_much(void **state)
{
    struct room *room = *state;
    uint64_t same_place = TAG + GENERATIONS_SLOTS;

    room_open(room);
    assert_true(put_now(room, 1, 10, TAG));
    assert_true(put_now(room, 2, 20, OTHER));
    assert_int_equal(count_any_of(room, &same_place, 1, STORE_RAISE_HARD, 10), 1);
    assert_int_equal(purge_of(room, &same_place, 1, STORE_RAISE_HARD, 10), 1);
    assert_false(is_valid(room, 1));
    assert_true(is_valid(room, 2));
}

struct filler {
    struct room *room;
    atomic_bool is_done;
    unsigned put; /* its own until it has ended */
};

static void *fill(void *arg)
{
    struct filler *filler = arg;

    while (!atomic_load(&filler->is_done)) {
        put_now(filler->room, filler->put++, 1, TAG);
        store_flush(filler->room->store);
    }
    return NULL;
}

/* Purges in a row, while entries are stored: together they count every one of them. */
static void a_purge_counts_what_is_stored_meanwhile(void **state)
{
    enum { BEFORE = 8000, PURGES = 20 };
    struct room *room = *state;
    struct filler filler = {.room = room, .put = BEFORE};
    uint64_t all = STORE_SUBJECT_ALL, counted = 0, bytes;
    pthread_t thread;

    room_open_sized(room, 64 * MIB, 0);
    for (unsigned i = 0; i < BEFORE; ++i)
        assert_true(put_now(room, i, 1, TAG));
    assert_int_equal(pthread_create(&thread, NULL, fill, &filler), 0);
    for (unsigned i = 0; i < PURGES; ++i)
        counted += store_purge(room->store, &all, 1, STORE_RAISE_HARD, &bytes);
    atomic_store(&filler.is_done, true);
    pthread_join(thread, NULL);
    counted += store_purge(room->store, &all, 1, STORE_RAISE_HARD, &bytes);
    assert_true(counted <= filler.put);
    /* what is just being stored at the moment of a raise is never written */
    assert_true(counted + PURGES >= filler.put);
}

static void the_count_goes_on_over_many_steps(void **state)
{
    enum { ENTRIES = 5000 };
    struct room *room = *state;
    uint64_t all = STORE_SUBJECT_ALL, tag = TAG;

    room_open_sized(room, 32 * MIB, 0);
    for (unsigned i = 0; i < ENTRIES; ++i)
        assert_true(put_now(room, i, 3, i % 2 == 0 ? TAG : TOOL));
    assert_int_equal(count_of(room, &all, 1, 3 * ENTRIES), ENTRIES);
    assert_int_equal(count_of(room, &tag, 1, 3 * ENTRIES / 2), ENTRIES / 2);
    /* All places of readers taken: a count has its own. */
    struct store_reader *readers[8];
    int count = 0;
    while (count < 8 && store_reader_new(room->store, &readers[count]) == 0)
        ++count;
    assert_true(count >= 3);
    store_reader_free(readers[--count]); /* the one to spare */
    assert_int_equal(count_of(room, &tag, 1, 3 * ENTRIES / 2), ENTRIES / 2);
    while (count > 0)
        store_reader_free(readers[--count]);
}

/* ---- reclaiming ---- */

static void reclaiming_takes_what_is_purged_and_frees_its_pages(void **state)
{
    enum { ENTRIES = 3000 };
    struct room *room = *state;
    uint64_t all = STORE_SUBJECT_ALL;

    room_open_sized(room, 64 * MIB, 0);
    for (unsigned i = 0; i < ENTRIES; ++i)
        assert_true(put_now(room, i, 8000, i % 3 == 0 ? TOOL : TAG));
    store_flush(room->store);
    struct store_counters before = counters_of(room);
    assert_int_equal(before.entries, ENTRIES);
    store_reclaim_now(room->store); /* nothing is purged */
    assert_int_equal(counters_of(room).entries, ENTRIES);

    store_raise(room->store, TOOL, STORE_RAISE_SOFT);
    store_raise(room->store, TAG, STORE_RAISE_HARD);
    assert_true(put_now(room, ENTRIES + 1, 8000, TAG)); /* after it */
    store_reclaim_now(room->store);
    struct store_counters after = counters_of(room);
    assert_int_equal(after.reclaimed, 2 * ENTRIES / 3);
    assert_int_equal(after.entries, ENTRIES / 3 + 1);
    assert_int_equal(after.body_bytes, 8000 * (ENTRIES / 3 + 1));
    assert_true(after.pages_used < before.pages_used / 2);
    assert_true(after.evicted_live == 0 && after.evicted_dead == 0 && after.swept == 0 && after.purged == 0 && after.errors == 0);
    for (unsigned i = 0; i < ENTRIES; i += 3) {
        struct cp_key key = key_of(i);
        assert_int_equal(look_key(room, &key), STORE_HIT);
    }
    assert_true(is_valid(room, ENTRIES + 1));
    assert_sound(room);

    store_raise(room->store, STORE_SUBJECT_ALL, STORE_RAISE_HARD);
    store_reclaim_now(room->store);
    assert_int_equal(count_of(room, &all, 1, 0), 0);
    assert_true(counters_of(room).entries == 0 && counters_of(room).body_bytes == 0);
    assert_sound(room);
}

/* Asked for by store_reclaim it is done beside the puts, in steps: each flush below waits for one put at most and one step. */
static void reclaiming_goes_on_beside_the_puts(void **state)
{
    enum { ENTRIES = 1000 };
    struct room *room = *state;
    unsigned rounds = 0;

    room_open(room);
    for (unsigned i = 0; i < ENTRIES; ++i)
        assert_true(put_now(room, i, 300, TOOL));
    store_flush(room->store);
    store_raise(room->store, TOOL, STORE_RAISE_HARD);
    store_reclaim(room->store);
    while (counters_of(room).reclaimed < ENTRIES && rounds < 100000) {
        assert_true(put_now(room, ENTRIES + rounds % 10, 300, TOOL));
        store_flush(room->store);
        ++rounds;
    }
    assert_int_equal(counters_of(room).reclaimed, ENTRIES);
    assert_true(rounds >= 3 && rounds < 1000);
    for (unsigned i = 0; i < 10 && i < rounds; ++i)
        assert_true(is_valid(room, ENTRIES + i));
    assert_sound(room);
}

static void who_reclaims_steps_over_what_cannot_be_read(void **state)
{
    struct room *room = *state;
    MDB_txn *txn;

    room_open(room);
    for (unsigned i = 0; i < 10; ++i)
        assert_true(put_now(room, i, 300, TOOL));
    store_flush(room->store);
    struct cp_key key = key_of(4);
    MDB_val k = {32, key.digest}, v = {5, "wrong"};
    assert_int_equal(mdb_txn_begin(room->store->local.env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, room->store->local.rows.index, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    store_raise(room->store, TOOL, STORE_RAISE_HARD);
    store_reclaim_now(room->store);
    assert_true(counters_of(room).reclaimed == 9 && counters_of(room).errors == 0);
}

/* ---- the store's file ---- */

static void a_purge_outlives_every_end_under_one_boot_and_a_clean_one_under_another(void **state)
{
    struct room *room = *state, copy;
    uint64_t subjects[] = {TOOL, TAG};

    room_open(room);
    for (unsigned i = 0; i < 4; ++i)
        assert_true(put_thing(room, &(struct thing){i, 100, 0, subjects, i % 3, 0}));
    store_flush(room->store);
    uint64_t number = store_raise(room->store, TAG, STORE_RAISE_HARD);
    /* Killed. */
    room_snapshot(room, &copy);
    room_open(&copy);
    assert_true(is_valid(&copy, 1) && !is_valid(&copy, 2) && counters_of(&copy).wiped == 0);
    assert_true(store_generation(copy.store) == number);
    assert_true(put_now(&copy, 2, 10, TAG) && is_valid(&copy, 2));
    room_close(&copy);
    directory_remove(copy.path);
    /* Ended. */
    room_close(room);
    room_open(room);
    assert_true(is_valid(room, 1) && !is_valid(room, 2) && counters_of(room).wiped == 0);
    assert_true(store_generation(room->store) == number);
    room_close(room);
    /* Ended, and the machine booted. */
    char path[128], line[STATE_LINE_MAX];
    struct state state_;
    file_path(room, "store.state", path);
    assert_int_equal(state_open(path, &state_), 0);
    assert_true(state_.is_read && state_.is_clean);
    strcpy(state_.boot, "another");
    assert_true(state_format(&state_, line) > 0 && state_write(&state_) == 0);
    state_close(&state_);
    room_open(room);
    assert_true(is_valid(room, 1) && !is_valid(room, 2) && counters_of(room).wiped == 0);
}

static void file_copy(const struct room *room, const char *from_name, const char *to_name)
{
    char from[128], to[128], *bytes = malloc(GENERATIONS_FILE_BYTES);

    file_path(room, from_name, from);
    file_path(room, to_name, to);
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(in >= 0 && out >= 0);
    assert_int_equal(read(in, bytes, GENERATIONS_FILE_BYTES), GENERATIONS_FILE_BYTES);
    assert_int_equal(write(out, bytes, GENERATIONS_FILE_BYTES), GENERATIONS_FILE_BYTES);
    close(in);
    close(out);
    free(bytes);
}

/* What stands in entries is believed together with the very file that may purge it, or not at all. */
static void without_its_generations_the_store_is_wiped(void **state)
{
    enum { GONE, EMPTY, FOREIGN, EARLIER, TORN, NEARLY_RIGHT, WAYS };
    struct room *room = *state, other = {0};
    enum store_validity validity;
    char path[128], mine[128];

    for (int way = 0; way < WAYS; ++way) {
        for (int is_clean = 0; is_clean < 2; ++is_clean) {
            struct room killed, *subject = room;

            if (!is_clean && (way == TORN || way == NEARLY_RIGHT)) /* the kernel lives: nothing can be torn */
                continue;
            room_open(room);
            store_raise(room->store, OTHER, STORE_RAISE_HARD);
            file_copy(room, "store.generations", "earlier");
            store_raise(room->store, OTHER, STORE_RAISE_HARD);
            assert_true(put_now(room, 1, 100, TAG));
            store_flush(room->store);
            assert_true(is_valid(room, 1));
            if (is_clean) {
                room_close(room);
            } else {
                room_snapshot(room, &killed);
                subject = &killed;
            }
            file_path(subject, "store.generations", path);
            switch (way) {
            case GONE:
                assert_int_equal(unlink(path), 0);
                break;
            case EMPTY:
                assert_int_equal(truncate(path, 0), 0);
                break;
            case FOREIGN:
                strcpy(other.path, "store-XXXXXX");
                assert_non_null(mkdtemp(other.path));
                room_open(&other);
                for (int i = 0; i < 100; ++i)
                    store_raise(other.store, OTHER, STORE_RAISE_SOFT);
                room_close(&other);
                file_path(&other, "store.generations", mine);
                assert_int_equal(rename(mine, path), 0);
                directory_remove(other.path);
                break;
            case EARLIER: /* a backup: it forgot what was purged since */
                file_path(room, "earlier", mine);
                assert_int_equal(rename(mine, path), 0);
                break;
            case TORN:
                poke(subject, "store.generations", 8192, 1);
                break;
            case NEARLY_RIGHT: /* a page that was never written */
                poke(subject, "store.generations", 4096 + (off_t)(OTHER % GENERATIONS_SLOTS) * 16, 0);
                break;
            }
            room_open(subject);
            assert_int_equal(counters_of(subject).wiped, 1);
            assert_int_equal(counters_of(subject).entries, 0);
            assert_int_equal(look_valid(subject, 1, &validity), STORE_MISS);
            assert_int_equal(store_generation(subject->store), 0);
            /* And all is well again. */
            assert_true(put_now(subject, 1, 100, TAG));
            room_close(subject);
            room_open(subject);
            assert_true(is_valid(subject, 1) && counters_of(subject).wiped == 0);
            room_close(subject);
            if (!is_clean) {
                directory_remove(killed.path);
                room_close(room);
            }
            file_path(room, "store.state", path);
            assert_int_equal(unlink(path), 0); /* the next way begins with a new store */
        }
    }
}

static void a_wiped_store_begins_with_new_generations(void **state)
{
    struct room *room = *state;
    char path[128];
    uint8_t id[GENERATIONS_ID_BYTES];

    room_open(room);
    memcpy(id, generations_id(&room->store->generations), sizeof(id));
    store_raise(room->store, TAG, STORE_RAISE_HARD);
    room_close(room);
    file_path(room, "store.state", path);
    assert_int_equal(truncate(path, 0), 0);
    room_open(room);
    assert_int_equal(counters_of(room).wiped, 1);
    assert_int_equal(store_generation(room->store), 0);
    assert_memory_not_equal(id, generations_id(&room->store->generations), sizeof(id));
    room_close(room);
    /* Without its entries a store is a new one, and the generations may go on. */
    room_open(room);
    uint64_t number = store_raise(room->store, TAG, STORE_RAISE_HARD);
    room_close(room);
    file_path(room, "store.mdb", path);
    assert_int_equal(unlink(path), 0);
    room_open(room);
    assert_true(store_generation(room->store) == 0 || store_generation(room->store) == number);
    assert_true(put_now(room, 1, 10, TAG) && is_valid(room, 1));
}

static struct rlimit size_limit(rlim_t bytes)
{
    struct rlimit before, now;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    now = before;
    now.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
    return before;
}

static void no_room_for_the_generations_is_said_in_a_sentence(void **state)
{
    struct room *room = *state;
    struct store_options options = {.path = room->path, .size_bytes = 8 * MIB};
    struct store *store = NULL;
    struct cp_error error;
    char path[128];

    struct rlimit before = size_limit(1 << 20);
    int r = store_open(&options, &store, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(r < 0);
    assert_null(store);
    file_path(room, "store.generations", path);
    assert_non_null(strstr(error.text, path));
    assert_non_null(strstr(error.text, "--store"));
    assert_int_equal(access(path, F_OK), -1); /* no half of it stays */
    room_open(room);
    assert_true(put_now(room, 1, 10, TAG) && is_valid(room, 1));
}

/* A store that lost its entries while it ran lost no purge. */
static void clearing_the_store_keeps_the_generations(void **state)
{
    struct room *room = *state;
    struct rlimit before;
    struct stat stat_;
    char path[128];
    uint64_t old = 0, subject = TAG;

    room_open(room);
    assert_true(put_now(room, 1, 100, TAG));
    store_flush(room->store);
    uint64_t number = store_raise(room->store, TAG, STORE_RAISE_HARD);
    file_path(room, "store.mdb", path);
    assert_int_equal(stat(path, &stat_), 0);
    before = size_limit((rlim_t)stat_.st_size);
    struct cp_key key = key_of(1);
    store_delete(room->store, &key); /* cannot be written: all must go */
    store_flush(room->store);
    store_raise(room->store, TAG, STORE_RAISE_HARD); /* needs no disk */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    store_sweep_at(room->store, 0);
    assert_int_equal(counters_of(room).wiped, 1);
    assert_true(store_generation(room->store) == number + 1);
    assert_false(put_thing(room, &(struct thing){1, 10, old, &subject, 1, 0}));
    assert_true(put_now(room, 1, 10, TAG) && is_valid(room, 1));
    assert_sound(room);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(what_began_before_a_raise_is_purged_and_what_began_after_it_is_not),
        STORE_TEST(what_was_under_way_when_the_process_ended_is_raised_at_the_next_start),
        STORE_TEST(a_soft_raise_makes_stale_and_a_hard_one_wins),
        STORE_TEST(everything_can_be_purged),
        STORE_TEST(subjects_that_share_a_slot_are_purged_together_and_no_others),
        STORE_TEST(a_raise_that_was_acknowledged_holds_for_every_thread),
        STORE_TEST(what_was_raised_is_there_when_the_file_is_opened_again),
        STORE_TEST(a_file_that_cannot_be_believed_is_replaced),
        STORE_TEST(holes_are_filled_before_the_file_is_used),
        STORE_TEST(subjects_come_back_from_the_queue_and_from_the_file),
        STORE_TEST(what_breaks_the_bounds_is_refused),
        STORE_TEST(a_fill_that_began_before_the_purge_is_not_stored),
        STORE_TEST(what_is_purged_while_it_waits_is_never_written_and_brings_nothing_back),
        STORE_TEST(standings_are_never_purged),
        STORE_TEST(the_count_is_of_what_a_purge_would_take),
        STORE_TEST(a_purge_counts_what_has_any_of_its_subjects),
        STORE_TEST(a_purge_counts_what_it_takes_too_much),
        STORE_TEST(a_purge_counts_what_is_stored_meanwhile),
        STORE_TEST(the_count_goes_on_over_many_steps),
        STORE_TEST(reclaiming_takes_what_is_purged_and_frees_its_pages),
        STORE_TEST(reclaiming_goes_on_beside_the_puts),
        STORE_TEST(who_reclaims_steps_over_what_cannot_be_read),
        STORE_TEST(a_purge_outlives_every_end_under_one_boot_and_a_clean_one_under_another),
        STORE_TEST(without_its_generations_the_store_is_wiped),
        STORE_TEST(a_wiped_store_begins_with_new_generations),
        STORE_TEST(no_room_for_the_generations_is_said_in_a_sentence),
        STORE_TEST(clearing_the_store_keeps_the_generations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
