/* SPDX-License-Identifier: Apache-2.0 */
#include "store_room.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- entries whose content follows from their number ---- */

/* Whose entries are, where a test does not say. */
static uint64_t owner_of(unsigned number)
{
    return number % 5;
}

static bool put_owned(struct room *room, unsigned number, size_t n, uint64_t owner, int64_t expires_at_ms)
{
    char *body = body_of(number, n);
    struct cp_key key = key_of(number);
    uint64_t subjects[2] = {number + 2, ~(uint64_t)number};
    struct store_entry entry = {
        .body = {body, n},
        .owner = owner,
        .began_ms = 900 + number,
        .stored_at_ms = 1000 + number,
        .expires_at_ms = expires_at_ms,
        .has_hint = number % 2 == 0,
        .hint_ttl_ms = number * 10,
        .ttl_end = n > 5 ? 5 : 0,
        .scope = number % 3,
        .method = 2,
        .cost_ms = number + 1,
        .name = SPAN("tool/name"),
        .subjects = subjects,
        .subject_count = number % 3,
        .is_negative = number % 7 == 0,
    };
    bool queued = store_put(room->store, &key, &entry);
    free(body);
    return queued;
}

static bool put_expiring(struct room *room, unsigned number, size_t n, int64_t expires_at_ms)
{
    return put_owned(room, number, n, owner_of(number), expires_at_ms);
}

static void put(struct room *room, unsigned number, size_t n)
{
    assert_true(put_expiring(room, number, n, INT64_MAX));
}

static void put_done(struct room *room, unsigned number, size_t n)
{
    put(room, number, n);
    store_flush(room->store);
}

/* Looks up; on a hit everything must be as put_owned made it for n bytes. */
static enum store_lookup look_owned(struct room *room, unsigned number, size_t n, uint64_t owner)
{
    struct allocations allocations = {0};
    struct cp_key key = key_of(number);
    struct store_entry entry;
    enum store_lookup found = store_get(room->reader, &key, alloc, &allocations, &entry);

    if (found == STORE_HIT) {
        char *body = body_of(number, n);
        assert_int_equal(entry.body.n, n);
        assert_memory_equal(entry.body.p, body, n);
        assert_true(entry.owner == owner && entry.began_ms == 900 + number);
        assert_true(entry.stored_at_ms == 1000 + number && entry.cost_ms == number + 1 && entry.scope == number % 3 &&
                    entry.method == 2);
        assert_true(entry.has_hint == (number % 2 == 0));
        if (entry.has_hint)
            assert_int_equal(entry.hint_ttl_ms, number * 10);
        assert_true(entry.ttl_start == 0 && entry.ttl_end == (n > 5 ? 5 : 0));
        assert_true(span_eq(entry.name, SPAN("tool/name")));
        assert_true(entry.is_negative == (number % 7 == 0) && entry.generation == 0 && entry.subject_count == number % 3);
        assert_true(number % 3 < 1 || entry.subjects[0] == number + 2);
        assert_true(number % 3 < 2 || entry.subjects[1] == ~(uint64_t)number);
        free(body);
    } else if (found == STORE_MISS) {
        assert_int_equal(allocations.count, 0);
    }
    free(allocations.p[0]);
    free(allocations.p[1]);
    return found;
}

static enum store_lookup look(struct room *room, unsigned number, size_t n)
{
    return look_owned(room, number, n, owner_of(number));
}

/* ---- put, get, delete ---- */

static void what_is_put_is_got(void **state)
{
    static const size_t sizes[] = {0, 1, 200, 1978, 1979, 4039, 4040, 4041, 8120, 8121, 131009, 1000000};
    struct room *room = *state;

    room_open(room);
    for (unsigned i = 0; i < 12; ++i)
        put(room, i, sizes[i]);
    store_flush(room->store);
    for (unsigned i = 0; i < 12; ++i)
        assert_int_equal(look(room, i, sizes[i]), STORE_HIT);
    assert_int_equal(look(room, 99, 0), STORE_MISS);
    assert_sound(room);
    struct store_counters counters = counters_of(room);
    assert_true(counters.puts == 12 && counters.entries == 12 && counters.errors == 0 && counters.verify_failures == 0);
    assert_int_equal(counters.body_bytes, 200 + 1 + 1978 + 1979 + 4039 + 4040 + 4041 + 8120 + 8121 + 131009 + 1000000);
}

static void overwriting_leaves_nothing_of_the_old(void **state)
{
    static const size_t sizes[] = {300000, 10, 0, 70000, 4040, 4041, 1};
    struct room *room = *state;

    room_open(room);
    for (unsigned round = 0; round < 7; ++round) {
        put_done(room, 1, sizes[round]);
        assert_int_equal(look(room, 1, sizes[round]), STORE_HIT);
        assert_sound(room);
    }
    assert_true(counters_of(room).entries == 1 && counters_of(room).overwrites == 6 && counters_of(room).body_bytes == 1);
}

static void the_last_word_on_a_key_wins_within_a_batch(void **state)
{
    struct room *room = *state;
    struct cp_key one = key_of(1), two = key_of(2);

    room_open(room);
    store_hold(room->store, true);
    put(room, 1, 100);
    store_delete(room->store, &one);
    store_delete(room->store, &two);
    put(room, 2, 100);
    put(room, 3, 100);
    put(room, 3, 200);
    store_hold(room->store, false);
    store_flush(room->store);
    assert_int_equal(look(room, 1, 100), STORE_MISS);
    assert_int_equal(look(room, 2, 100), STORE_HIT);
    assert_int_equal(look(room, 3, 200), STORE_HIT);
    assert_int_equal(counters_of(room).purged, 1);
    assert_sound(room);
}

static void what_is_queued_counts_before_it_is_committed(void **state)
{
    struct room *room = *state;
    struct cp_key one = key_of(1), stranger = one;

    room_open(room);
    put(room, 1, 100);
    store_flush(room->store);
    store_hold(room->store, true);
    put(room, 2, 300);
    assert_int_equal(look(room, 2, 300), STORE_HIT);
    put(room, 2, 70000);
    assert_int_equal(look(room, 2, 70000), STORE_HIT);
    store_delete(room->store, &one);
    assert_int_equal(look(room, 1, 100), STORE_MISS);
    put(room, 1, 200);
    assert_int_equal(look(room, 1, 200), STORE_HIT);
    store_hold(room->store, false);
    store_flush(room->store);
    assert_int_equal(look(room, 1, 200), STORE_HIT);
    assert_int_equal(look(room, 2, 70000), STORE_HIT);
    /* a colliding digest finds nothing, neither queued nor committed */
    stranger.check[0] ^= 1;
    store_hold(room->store, true);
    put(room, 1, 250);
    assert_int_equal(look_key(room, &stranger), STORE_MISS);
    store_hold(room->store, false);
    store_flush(room->store);
    assert_int_not_equal(look_key(room, &stranger), STORE_HIT);
    assert_sound(room);
}

static void deleting_takes_every_row(void **state)
{
    struct room *room = *state;

    room_open(room);
    for (unsigned i = 0; i < 50; ++i)
        put(room, i, i * 1000);
    for (unsigned i = 0; i < 60; ++i) {
        struct cp_key key = key_of(i);
        if (i != 7)
            store_delete(room->store, &key);
    }
    store_flush(room->store);
    for (unsigned i = 0; i < 50; ++i)
        assert_int_equal(look(room, i, i * 1000), i == 7 ? STORE_HIT : STORE_MISS);
    assert_true(counters_of(room).purged == 49 && counters_of(room).entries == 1 && counters_of(room).body_bytes == 7000);
    assert_sound(room);
}

static void a_long_name_is_cut_and_no_name_is_empty(void **state)
{
    char name[600];
    struct room *room = *state;
    struct cp_key key = key_of(1);
    struct store_entry entry = {.body = SPAN("body"), .name = {name, sizeof(name)}}, seen;

    memset(name, 'n', sizeof(name));
    room_open(room);
    for (int round = 0; round < 2; ++round) {
        struct allocations allocations = {0};
        assert_true(store_put(room->store, &key, &entry));
        store_flush(room->store);
        assert_int_equal(store_get(room->reader, &key, alloc, &allocations, &seen), STORE_HIT);
        assert_int_equal(seen.name.n, round == 0 ? 511 : 0);
        assert_memory_equal(seen.name.p, name, seen.name.n);
        free(allocations.p[0]);
        free(allocations.p[1]);
        entry.name = SPAN_ABSENT;
    }
}

/* ---- what is refused ---- */

static void an_entry_larger_than_a_quarter_is_refused(void **state)
{
    struct room *room = *state;

    room_open(room);
    assert_false(put_expiring(room, 1, 2 * MIB + 1, INT64_MAX));
    assert_true(put_expiring(room, 2, 2 * MIB, INT64_MAX));
    store_flush(room->store);
    assert_int_equal(look(room, 2, 2 * MIB), STORE_HIT);
    assert_int_equal(counters_of(room).put_drops, 1);
    assert_sound(room);
}

static void an_entry_that_contradicts_itself_is_refused(void **state)
{
    struct room *room = *state;
    struct cp_key key = key_of(1);
    struct store_entry entry = {.body = SPAN("body"), .ttl_start = 2, .ttl_end = 5};

    room_open(room);
    assert_false(store_put(room->store, &key, &entry));
    entry.ttl_end = 1;
    assert_false(store_put(room->store, &key, &entry));
    entry = (struct store_entry){.body = SPAN("body"), .stored_at_ms = 5, .began_ms = 6};
    assert_false(store_put(room->store, &key, &entry));
}

static void the_queue_is_bounded_and_deletions_pass(void **state)
{
    struct room *room = *state;
    unsigned queued = 0;

    room_open_sized(room, 8 * MIB, 100000);
    put_done(room, 1000, 10);
    store_hold(room->store, true);
    while (queued < 100 && put_expiring(room, queued, 10000, INT64_MAX))
        ++queued;
    assert_true(queued >= 8 && queued <= 10);
    for (unsigned i = 0; i < 2000; ++i) {
        struct cp_key key = key_of(1000);
        store_delete(room->store, &key);
    }
    assert_false(put_expiring(room, 50, 10000, INT64_MAX));
    assert_int_equal(counters_of(room).put_drops, 2);
    store_hold(room->store, false);
    store_flush(room->store);
    for (unsigned i = 0; i < queued; ++i)
        assert_int_equal(look(room, i, 10000), STORE_HIT);
    assert_int_equal(look(room, 1000, 10), STORE_MISS);
    /* What was written no longer counts. */
    assert_true(put_expiring(room, 51, 80000, INT64_MAX));
    store_flush(room->store);
    assert_int_equal(look(room, 51, 80000), STORE_HIT);
}

/* ---- expiry and eviction ---- */

static void the_sweep_takes_what_has_expired_and_nothing_else(void **state)
{
    struct room *room = *state;
    int64_t far_ms = INT64_C(1) << 50; /* beyond the store clock: the writer's own sweeps must not interfere */

    room_open(room);
    for (unsigned i = 0; i < 700; ++i)
        put_expiring(room, i, 100, far_ms + i);
    put_expiring(room, 700, 70000, far_ms + 5000);
    put_expiring(room, 701, 100, INT64_MAX);
    store_flush(room->store);
    far_ms = (far_ms / 1000 + 1) * 1000; /* the second in which the first 700 expire, or most of them, is over */
    store_sweep_at(room->store, far_ms - 1);
    assert_int_equal(counters_of(room).swept, 0);
    store_sweep_at(room->store, far_ms + 1000);
    assert_int_equal(counters_of(room).swept, 700);
    assert_int_equal(look(room, 0, 100), STORE_MISS);
    assert_int_equal(look(room, 700, 70000), STORE_HIT);
    assert_sound(room);
    store_sweep_at(room->store, far_ms + 10000);
    assert_int_equal(counters_of(room).swept, 701);
    assert_int_equal(look(room, 700, 70000), STORE_MISS);
    assert_int_equal(look(room, 701, 100), STORE_HIT);
    assert_sound(room);
}

static void an_overwritten_entry_is_not_swept_by_its_old_expiry(void **state)
{
    struct room *room = *state;
    int64_t far_ms = INT64_C(1) << 50;

    room_open(room);
    put_expiring(room, 1, 100, far_ms);
    put_expiring(room, 1, 100, far_ms + 60000);
    store_sweep_at(room->store, far_ms + 5000);
    assert_int_equal(look(room, 1, 100), STORE_HIT);
    assert_sound(room);
}

static void eviction_takes_the_oldest_and_stays_under_the_limit(void **state)
{
    struct room *room = *state;
    unsigned first_kept = 0;

    room_open(room);
    for (unsigned i = 0; i < 1500; ++i) {
        put(room, i, i % 10 == 0 ? 100000 : 5000);
        if (i % 100 == 0)
            store_flush(room->store);
    }
    store_flush(room->store);
    while (first_kept < 1500 && look(room, first_kept, first_kept % 10 == 0 ? 100000 : 5000) == STORE_MISS)
        ++first_kept;
    assert_true(first_kept > 0 && first_kept < 1400);
    for (unsigned i = first_kept; i < 1500; ++i)
        assert_int_equal(look(room, i, i % 10 == 0 ? 100000 : 5000), STORE_HIT);
    struct store_counters counters = counters_of(room);
    assert_int_equal(counters.evicted_live, first_kept);
    assert_true(counters.map_full == 0 && counters.errors == 0 && counters.put_drops == 0);
    assert_true(counters.pages_cap == 2048 && counters.pages_used <= counters.pages_cap * 85 / 100);
    assert_true(counters.body_bytes > 4 * MIB);
    assert_sound(room);
}

static void the_expired_go_before_the_oldest(void **state)
{
    struct room *room = *state;

    room_open(room);
    for (unsigned i = 0; i < 50; ++i)
        put(room, i, 40000);
    for (unsigned i = 50; i < 100; ++i) /* some 2 MiB that died long ago */
        put_expiring(room, i, 40000, 1000);
    store_flush(room->store);
    for (unsigned i = 100; i < 190; ++i)
        put(room, i, 40000);
    store_flush(room->store);
    for (unsigned i = 0; i < 190; ++i)
        if (i < 50 || i >= 100)
            assert_int_equal(look(room, i, 40000), STORE_HIT);
    assert_int_equal(counters_of(room).evicted_live, 0);
    assert_true(counters_of(room).swept > 0);
    assert_sound(room);
}

/* ---- shares ---- */

/* So many entries of n bytes, numbered from first on. */
static void put_many(struct room *room, uint64_t owner, unsigned first, unsigned count, size_t n)
{
    for (unsigned i = 0; i < count; ++i) {
        assert_true(put_owned(room, first + i, n, owner, INT64_MAX));
        if (i % 100 == 99)
            store_flush(room->store);
    }
    store_flush(room->store);
}

static unsigned count_hits(struct room *room, uint64_t owner, unsigned first, unsigned count, size_t n)
{
    unsigned hits = 0;
    for (unsigned i = 0; i < count; ++i)
        hits += look_owned(room, first + i, n, owner) == STORE_HIT;
    return hits;
}

static uint64_t account_of(struct room *room, uint64_t owner)
{
    return owners_bytes(room->store->local.owners, owner);
}

enum { ANN = 101, BOB = 102, FLOOD = 999 }; /* owners */

static void a_flood_takes_room_from_itself(void **state)
{
    struct room *room = *state;

    room_open(room);
    put_many(room, ANN, 0, 300, 500); /* the oldest of all */
    put_many(room, BOB, 1000, 30, 30000);
    put_many(room, FLOOD, 10000, 20000, 300);
    put_many(room, FLOOD, 40000, 300, 50000);
    assert_int_equal(count_hits(room, ANN, 0, 300, 500), 300);
    assert_int_equal(count_hits(room, BOB, 1000, 30, 30000), 30);
    assert_int_equal(count_hits(room, FLOOD, 40290, 10, 50000), 10);
    struct store_counters counters = counters_of(room);
    assert_true(counters.evicted_live > 10000 && counters.evicted_share == counters.evicted_live);
    assert_true(counters.map_full == 0 && counters.errors == 0 && counters.pages_used <= counters.pages_cap * 85 / 100);
    assert_sound(room);
}

static void without_a_share_a_flood_takes_all(void **state)
{
    struct room *room = *state;

    for (unsigned share = 0; share <= 100; share += 100) {
        room_open_with(room, 8 * MIB, 0, share);
        put_many(room, ANN, 0, 300, 500);
        put_many(room, FLOOD, 10000 + share, 20000, 300);
        assert_int_equal(count_hits(room, ANN, 0, 300, 500), 0);
        assert_int_equal(counters_of(room).evicted_share, 0);
        assert_sound(room);
        room_close(room);
    }
}

static void who_is_alone_may_fill_the_store(void **state)
{
    struct room *room = *state;
    unsigned count = 0;

    room_open_with(room, 8 * MIB, 0, 5);
    while (counters_of(room).pages_used < counters_of(room).pages_cap * 75 / 100) {
        put_many(room, FLOOD, count, 100, 1000);
        count += 100;
    }
    assert_int_equal(count_hits(room, FLOOD, 0, count, 1000), count);
    assert_int_equal(counters_of(room).evicted_live, 0);
    /* And gives way when others come. */
    for (uint64_t owner = 1; owner <= 10; ++owner)
        put_many(room, owner, 100000 + (unsigned)owner * 1000, 100, 1000);
    for (uint64_t owner = 1; owner <= 10; ++owner)
        assert_int_equal(count_hits(room, owner, 100000 + (unsigned)owner * 1000, 100, 1000), 100);
    assert_int_equal(count_hits(room, FLOOD, count - 100, 100, 1000), 100);
    assert_true(counters_of(room).evicted_live > 0 && counters_of(room).evicted_share == counters_of(room).evicted_live);
    assert_sound(room);
}

static void while_nobody_holds_more_than_his_share_the_oldest_go(void **state)
{
    struct room *room = *state;
    unsigned first_kept = 0;

    room_open(room);
    for (unsigned i = 0; i < 8000; ++i) {
        put_owned(room, i, 1000, 1 + i % 8, INT64_MAX);
        if (i % 100 == 0)
            store_flush(room->store);
    }
    store_flush(room->store);
    while (look_owned(room, first_kept, 1000, 1 + first_kept % 8) == STORE_MISS)
        ++first_kept;
    for (unsigned i = first_kept; i < 8000; ++i)
        assert_int_equal(look_owned(room, i, 1000, 1 + i % 8), STORE_HIT);
    assert_int_equal(counters_of(room).evicted_live, first_kept);
    assert_int_equal(counters_of(room).evicted_share, 0);
    assert_sound(room);
}

static void who_holds_most_gives_first(void **state)
{
    struct room *room = *state;

    room_open(room);
    put_many(room, ANN, 0, 100, 26000);      /* some 31 % */
    put_many(room, FLOOD, 1000, 140, 26000); /* some 43 % */
    put_many(room, BOB, 2000, 50, 26000);
    assert_int_equal(count_hits(room, ANN, 0, 100, 26000), 100);
    assert_true(counters_of(room).evicted_share > 0 && account_of(room, FLOOD) >= 8 * MIB / 4 - 30000);
    put_many(room, BOB, 2050, 30, 26000); /* he comes to his share; the others have come down to theirs */
    assert_true(account_of(room, ANN) <= 8 * MIB * 30 / 100 && account_of(room, FLOOD) <= 8 * MIB * 30 / 100);
    assert_int_equal(count_hits(room, BOB, 2000, 80, 26000), 80);
    assert_sound(room);
}

static void nobody_s_entries_are_never_over_a_share(void **state)
{
    struct room *room = *state;

    room_open(room);
    put_many(room, 0, 0, 4000, 1000);
    put_many(room, FLOOD, 10000, 20000, 300);
    /* What nobody owns is more than a share, and older. */
    assert_true(counters_of(room).body_bytes > 3000000);
    assert_int_equal(count_hits(room, 0, 3000, 1000, 1000), 1000);
    assert_int_equal(owners_accounts(room->store->local.owners), 1);
    assert_sound(room);
}

static uint64_t next_random(uint64_t *x)
{
    *x = *x * 6364136223846793005 + 1442695040888963407;
    return *x >> 33;
}

/* Puts, overwrites (also by another owner), deletes, expires. */
static void change_at_random(struct room *room, unsigned changes, uint64_t seed)
{
    for (unsigned i = 0; i < changes; ++i) {
        unsigned number = (unsigned)(next_random(&seed) % 3000);
        struct cp_key key = key_of(number);
        if (next_random(&seed) % 4 == 0)
            store_delete(room->store, &key);
        else
            put_owned(room, number, next_random(&seed) % 5000, next_random(&seed) % 40,
                      next_random(&seed) % 8 == 0 ? 1000 : INT64_MAX);
        if (next_random(&seed) % 100 == 0)
            store_flush(room->store);
    }
}

static void accounts_follow_every_change(void **state)
{
    struct room *room = *state;
    struct cp_error error;

    room_open_with(room, 8 * MIB, 0, 1);
    for (uint64_t round = 0; round < 4; ++round) {
        change_at_random(room, 4000, round);
        store_flush(room->store);
        store_sweep_at(room->store, 10000);
        assert_sound(room);
    }
    struct store_counters counters = counters_of(room);
    assert_true(counters.overwrites > 0 && counters.purged > 0 && counters.swept > 0 && counters.evicted_share > 0);
    /* The check would notice. */
    owners_forget(room->store->local.owners, 7);
    assert_true(store_check(room->store, &error) > 0);
}

static void accounts_are_right_after_the_store_was_opened_again(void **state)
{
    struct room *room = *state;

    room_open(room);
    put_many(room, ANN, 0, 300, 500);
    put_many(room, FLOOD, 10000, 8000, 300);
    uint64_t ann = account_of(room, ANN), flood = account_of(room, FLOOD);
    assert_true(ann > 0 && flood > 0);
    room_close(room);
    room_open(room);
    assert_sound(room); /* waits until all are counted */
    assert_int_equal(account_of(room, ANN), ann);
    assert_int_equal(account_of(room, FLOOD), flood);
    put_many(room, FLOOD, 20000, 10000, 300);
    assert_int_equal(count_hits(room, ANN, 0, 300, 500), 300);
    assert_sound(room);
    /* Changes before all is counted. */
    for (uint64_t round = 0; round < 5; ++round) {
        room_close(room);
        room_open_with(room, 8 * MIB, 0, 3);
        change_at_random(room, 2000, 100 + round);
        store_flush(room->store);
        assert_sound(room);
    }
}

static void accounts_count_what_lay_there_once(void **state)
{
    enum { LIMIT = 1000, FIRST_SEQ = 100 };
    struct owners *owners = owners_new(LIMIT, FIRST_SEQ);
    uint8_t digests[4][32] = {{1}, {2}, {3}, {4}};
    uint64_t owner = 0, excess = 0, hand = 0;
    bool is_whole;

    (void)state;
    assert_null(owners_counted(owners, &is_whole));
    assert_false(is_whole);
    owners_begin(owners);
    owners_tell_gone(owners, ANN, digests[3], 9, 500); /* lay there, is not counted yet */
    owners_tell_put(owners, ANN, 100, 700);
    owners_keep(owners);
    assert_int_equal(owners_bytes(owners, ANN), 700);
    owners_count(owners, digests[0], ANN, 12, 600);
    owners_count(owners, digests[1], ANN, 11, 50);
    owners_count(owners, digests[2], ANN, 100, 700); /* put since */
    assert_memory_equal(owners_counted(owners, &is_whole), digests[2], 32);
    assert_int_equal(owners_bytes(owners, ANN), 1350);
    assert_true(owners_over(owners, &owner, &excess, &hand));
    assert_true(owner == ANN && excess == 350 && hand == 11);
    owners_begin(owners);
    owners_tell_gone(owners, ANN, digests[0], 12, 600);
    owners_begin(owners); /* it did not happen */
    owners_tell_gone(owners, ANN, digests[1], 11, 50);
    owners_keep(owners);
    assert_int_equal(owners_bytes(owners, ANN), 1300);
    owners_counted_all(owners);
    owners_tell_gone(owners, ANN, digests[3], 13, 400);
    owners_keep(owners);
    assert_false(owners_over(owners, &owner, &excess, &hand));
    owners_tell_gone(owners, ANN, digests[3], 14, 4000);
    owners_keep(owners);
    assert_true(owners_bytes(owners, ANN) == 0 && owners_accounts(owners) == 0);
    owners_free(owners);
}

static void the_table_of_accounts_is_bounded_and_keeps_its_order(void **state)
{
    enum { STRANGERS = OWNERS_MAX + 5000 };
    struct owners *owners = owners_new(1 << 20, 1);
    static uint32_t bytes[STRANGERS + 1];
    uint8_t digest[32] = {0};
    uint64_t seed = 11;

    (void)state;
    memset(bytes, 0, sizeof(bytes));
    for (unsigned i = 1; i <= STRANGERS; ++i) {
        owners_tell_put(owners, i, i, 10);
        owners_keep(owners);
        bytes[i] = i <= OWNERS_MAX ? 10 : 0; /* there is no room for the others: nobody's */
    }
    assert_int_equal(owners_accounts(owners), OWNERS_MAX);
    for (unsigned i = 0; i < 400000; ++i) {
        unsigned owner = (unsigned)(1 + next_random(&seed) % OWNERS_MAX);
        if (next_random(&seed) % 2 == 0) {
            owners_tell_put(owners, owner, i, 5);
            bytes[owner] += 5;
        } else {
            owners_tell_gone(owners, owner, digest, i + 1, 10);
            bytes[owner] -= bytes[owner] < 10 ? bytes[owner] : 10;
        }
        owners_keep(owners);
    }
    size_t accounts = 0;
    for (unsigned i = 1; i <= STRANGERS; ++i) {
        assert_int_equal(owners_bytes(owners, i), bytes[i]);
        accounts += bytes[i] > 0;
    }
    assert_int_equal(owners_accounts(owners), accounts);
    owners_free(owners);
}

/* ---- what does not verify ---- */

static void assert_wiped_with(struct room *room, const uint8_t *old_secret, uint64_t size_bytes);

static void another_key_with_the_same_digest_is_answered_nothing(void **state)
{
    struct room *room = *state;
    struct allocations allocations = {0};
    struct cp_key key = key_of(1);
    struct store_entry entry;

    room_open(room);
    put_done(room, 1, 100);
    key.check[15] ^= 1;
    assert_int_equal(store_get(room->reader, &key, alloc, &allocations, &entry), STORE_BAD);
    assert_int_equal(allocations.count, 0);
    assert_int_equal(counters_of(room).verify_failures, 1);
    assert_int_equal(look(room, 1, 100), STORE_HIT);
}

/* Flips one byte of the data file where needle stands. */
static void damage(struct room *room, const char *needle, size_t n)
{
    char path[128], *bytes;
    struct stat stat = {0};

    file_path(room, "store.mdb", path);
    int fd = open(path, O_RDWR), places = 0;
    assert_true(fd >= 0 && fstat(fd, &stat) == 0);
    bytes = malloc((size_t)stat.st_size + 1);
    assert_int_equal(pread(fd, bytes, (size_t)stat.st_size, 0), stat.st_size);
    for (char *at = bytes; (at = memmem(at, (size_t)(bytes + stat.st_size - at), needle, n)) != NULL; ++at, ++places) {
        char flipped = (char)(at[n / 2] ^ 4);
        assert_int_equal(pwrite(fd, &flipped, 1, at - bytes + (off_t)n / 2), 1);
    }
    assert_true(places > 0);
    free(bytes);
    close(fd);
}

static void a_rotten_body_is_not_served(void **state)
{
    static const size_t sizes[] = {300, 30000, 200000};
    struct room *room = *state;

    room_open(room);
    for (unsigned i = 0; i < 3; ++i)
        put(room, i, sizes[i]);
    put_done(room, 9, 1000);
    room_close(room);
    for (unsigned i = 0; i < 3; ++i) {
        char *body = body_of(i, sizes[i]);
        damage(room, body + sizes[i] - 105, 100); /* within one chunk */
        free(body);
    }
    room_open(room);
    for (unsigned i = 0; i < 3; ++i)
        assert_int_equal(look(room, i, sizes[i]), STORE_BAD);
    assert_int_equal(look(room, 9, 1000), STORE_HIT);
    assert_int_equal(counters_of(room).verify_failures, 3);
    /* A put heals it. */
    put_done(room, 1, 500);
    assert_int_equal(look(room, 1, 500), STORE_HIT);
}

static void index_row_set(struct room *room, const struct cp_key *key, const char *bytes, size_t n)
{
    struct local *local = &room->store->local;
    MDB_val k = {32, (void *)key->digest}, v = {n, (void *)bytes};
    MDB_txn *txn;

    assert_int_equal(mdb_txn_begin(local->env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, local->rows.index, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
}

static void a_record_that_is_none_is_not_served_and_can_be_replaced(void **state)
{
    struct room *room = *state;
    struct cp_key key = key_of(1), other = key_of(2);
    struct entry_record record = {.seq = 12345, .body_bytes = 1 << 20, .name = SPAN("x")};
    char bytes[ENTRY_RECORD_MAX];

    room_open(room);
    put_done(room, 1, 70000);
    put_done(room, 2, 70000);
    index_row_set(room, &key, "rubbish", 7);
    assert_int_equal(look(room, 1, 70000), STORE_BAD);
    memcpy(record.check, other.check, sizeof(record.check));
    index_row_set(room, &other, bytes, entry_format(&record, bytes)); /* whole, but its chunks do not exist */
    assert_int_equal(look(room, 2, 70000), STORE_BAD);
    assert_true(counters_of(room).verify_failures == 2);
    put_done(room, 1, 100);
    store_delete(room->store, &other);
    store_flush(room->store);
    assert_int_equal(look(room, 1, 100), STORE_HIT);
    assert_int_equal(look(room, 2, 70000), STORE_MISS);
    /* The chunks that nobody speaks of any more go by their age. */
    for (unsigned i = 10; i < 200; ++i)
        put(room, i, 60000);
    store_flush(room->store);
    assert_int_equal(look(room, 199, 60000), STORE_HIT);
    assert_int_equal(counters_of(room).errors, 0);
}

static void entries_that_cannot_be_read_leave_their_owner_s_account(void **state)
{
    struct room *room = *state;

    room_open_with(room, 8 * MIB, 0, 2);
    put_many(room, FLOOD, 0, 60, 4000);
    assert_true(account_of(room, FLOOD) > 8 * MIB * 2 / 100);
    for (unsigned i = 0; i < 60; ++i) {
        struct cp_key key = key_of(i);
        index_row_set(room, &key, "rubbish", 7);
    }
    put_many(room, 0, 1000, 3000, 4000);
    assert_int_equal(count_hits(room, 0, 3900, 100, 4000), 100);
    assert_int_equal(account_of(room, FLOOD), 0);
    assert_true(counters_of(room).errors == 0 && counters_of(room).map_full == 0);
}

/* Where the page of its own begins that holds the one chunk of an entry. */
static off_t chunk_page(struct room *room, unsigned number, size_t n)
{
    char path[128], *body = body_of(number, n), *at;
    struct stat stat_ = {0};

    file_path(room, "store.mdb", path);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &stat_) == 0);
    char *bytes = malloc((size_t)stat_.st_size + 1);
    assert_int_equal(pread(fd, bytes, (size_t)stat_.st_size, 0), stat_.st_size);
    assert_non_null(at = memmem(bytes, (size_t)stat_.st_size, body, n));
    off_t page = at - bytes - ENTRY_HEAD_BYTES - 16;
    assert_int_equal(page % 4096, 0);
    close(fd);
    free(bytes);
    free(body);
    return page;
}

static void a_damaged_head_of_a_page_breaks_the_store_and_nothing_else(void **state)
{
    const uint32_t claimed_pages = 0x7fffffff;
    struct room *room = *state;
    struct cp_key key = key_of(1);
    uint8_t secret[32];
    char path[128];

    room_open(room);
    memcpy(secret, store_secret(room->store), 32);
    put(room, 1, 3000);
    put_done(room, 2, 3000);
    room_close(room);
    file_path(room, "store.mdb", path);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, &claimed_pages, 4, chunk_page(room, 1, 3000) + 12), 4);
    close(fd);
    room_open(room);
    assert_int_equal(look(room, 1, 3000), STORE_HIT); /* its bytes are right */
    store_delete(room->store, &key);
    store_flush(room->store); /* LMDB would list two thousand million pages as free, one by one */
    assert_int_equal(look(room, 1, 3000), STORE_MISS);
    assert_int_equal(look(room, 2, 3000), STORE_MISS);
    assert_false(put_expiring(room, 3, 100, INT64_MAX));
    assert_true(counters_of(room).errors > 0);
    room_close(room);
    assert_wiped_with(room, secret, 8 * MIB);
}

/* In a process of its own: opens, puts, ends by abort(). */
static void open_and_abort(struct room *room, bool is_inside)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        room_open(room);
        put_done(room, 1, 100);
        if (is_inside)
            fault_enter(&room->store->mark);
        abort();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void an_end_inside_the_store_wipes_and_one_outside_does_not(void **state)
{
    struct room *room = *state;

    open_and_abort(room, false);
    room_open(room);
    assert_int_equal(look(room, 1, 100), STORE_HIT);
    assert_int_equal(counters_of(room).wiped, 0);
    room_close(room);

    open_and_abort(room, true);
    room_open(room);
    assert_int_equal(look(room, 1, 100), STORE_MISS);
    assert_int_equal(counters_of(room).wiped, 1);
    put_done(room, 1, 100);
    room_close(room);
    room_open(room);
    assert_int_equal(look(room, 1, 100), STORE_HIT);
    assert_int_equal(counters_of(room).wiped, 0);
}

static void a_row_of_another_entry_is_not_served(void **state)
{
    struct room *room = *state;
    struct cp_key one = key_of(1), two = key_of(2);
    struct entry_record record;
    MDB_val k = {32, one.digest}, v;
    char bytes[ENTRY_RECORD_MAX];
    MDB_txn *txn;

    room_open(room);
    put(room, 1, 100);
    put_done(room, 2, 100);
    assert_int_equal(mdb_txn_begin(room->store->local.env, NULL, MDB_RDONLY, &txn), 0);
    assert_int_equal(mdb_get(txn, room->store->local.rows.index, &k, &v), 0);
    assert_int_equal(entry_parse((struct span){v.mv_data, v.mv_size}, &record), ENTRY_OK);
    memcpy(record.check, two.check, sizeof(record.check)); /* the check is right, the body is not his */
    size_t n = entry_format(&record, bytes);
    mdb_txn_abort(txn);
    index_row_set(room, &two, bytes, n);
    assert_int_equal(look(room, 2, 100), STORE_BAD);
}

/* ---- beginning and end ---- */

static void a_clean_end_keeps_everything(void **state)
{
    struct room *room = *state;
    uint8_t secret[32], zero[32] = {0};

    room_open(room);
    memcpy(secret, store_secret(room->store), 32);
    assert_memory_not_equal(secret, zero, 32);
    for (unsigned i = 0; i < 20; ++i)
        put(room, i, i * 5000);
    int64_t now_ms = store_now_ms(room->store);
    room_close(room); /* drains the queue */
    room_open(room);
    assert_memory_equal(store_secret(room->store), secret, 32);
    assert_true(store_now_ms(room->store) >= now_ms && store_now_ms(room->store) < now_ms + 60000);
    for (unsigned i = 0; i < 20; ++i)
        assert_int_equal(look(room, i, i * 5000), STORE_HIT);
    assert_true(counters_of(room).wiped == 0 && counters_of(room).entries == 20 && counters_of(room).body_bytes == 950000);
    put_done(room, 20, 100);
    assert_sound(room);
}

static void files_are_their_owners_alone(void **state)
{
    static const char *const names[] = {".", "store.mdb", "store.mdb-lock", "store.state", "store.generations"};
    struct room *room = *state;
    mode_t mask = umask(0);

    rmdir(room->path);
    room_open(room);
    umask(mask);
    for (size_t i = 0; i < 5; ++i) {
        char path[128];
        struct stat stat_;
        file_path(room, names[i], path);
        assert_int_equal(stat(path, &stat_), 0);
        assert_int_equal(stat_.st_mode & 0777, i == 0 ? 0700 : 0600);
    }
}

/* What the store says on stderr while it opens, in ret; the store stays open. */
static void room_open_heard(struct room *room, char *ret, size_t n)
{
    FILE *file = tmpfile();
    int before = dup(STDERR_FILENO);

    assert_non_null(file);
    dup2(fileno(file), STDERR_FILENO);
    room_open(room);
    dup2(before, STDERR_FILENO);
    close(before);
    rewind(file);
    ret[fread(ret, 1, n - 1, file)] = '\0';
    fclose(file);
}

static void what_others_can_read_is_closed_or_named(void **state)
{
    static const char *const names[] = {"store.mdb", "store.mdb-lock", "store.state", "store.generations"};
    struct room *room = *state;
    char heard[2000], path[128];
    struct stat stat_;

    /* A directory that the store makes, and one that is private: nothing to say. */
    rmdir(room->path);
    for (int round = 0; round < 2; ++round) {
        room_open_heard(room, heard, sizeof(heard));
        assert_string_equal(heard, "");
        room_close(room);
    }
    /* Files that are not: made so. */
    for (size_t i = 0; i < 4; ++i) {
        file_path(room, names[i], path);
        assert_int_equal(chmod(path, i == 1 ? 0666 : 0644), 0);
    }
    room_open_heard(room, heard, sizeof(heard));
    assert_string_equal(heard, "");
    for (size_t i = 0; i < 4; ++i) {
        file_path(room, names[i], path);
        assert_int_equal(stat(path, &stat_), 0);
        assert_int_equal(stat_.st_mode & 07777, 0600);
    }
    room_close(room);
    /* A directory that is not: said once, and left alone. */
    assert_int_equal(chmod(room->path, 0750), 0);
    room_open_heard(room, heard, sizeof(heard));
    char *line = strstr(heard, "store-directory-shared");
    assert_non_null(line);
    assert_non_null(strstr(line, room->path));
    assert_non_null(strstr(line, "0750"));
    assert_null(strstr(line + strlen("store-directory-shared"), "shared"));
    assert_int_equal(stat(room->path, &stat_), 0);
    assert_int_equal(stat_.st_mode & 07777, 0750);
}

static void an_unclean_end_under_the_same_boot_keeps_everything(void **state)
{
    struct room *room = *state, copy;

    room_open(room);
    for (unsigned i = 0; i < 20; ++i)
        put(room, i, i * 5000);
    store_flush(room->store);
    room_snapshot(room, &copy);
    room_open(&copy);
    assert_memory_equal(store_secret(copy.store), store_secret(room->store), 32);
    for (unsigned i = 0; i < 20; ++i)
        assert_int_equal(look(&copy, i, i * 5000), STORE_HIT);
    assert_true(counters_of(&copy).wiped == 0 && counters_of(&copy).entries == 20);
    assert_sound(&copy);
    room_close(&copy);
    directory_remove(copy.path);
}

/* Opens room, whose files must be thrown away, and closes it again. */
static void assert_wiped_with(struct room *room, const uint8_t *old_secret, uint64_t size_bytes)
{
    room_open_sized(room, size_bytes, 0);
    assert_int_equal(counters_of(room).wiped, 1);
    assert_int_equal(counters_of(room).entries, 0);
    assert_int_equal(look(room, 1, 100), STORE_MISS);
    assert_memory_not_equal(store_secret(room->store), old_secret, 32);
    put_done(room, 1, 100);
    assert_int_equal(look(room, 1, 100), STORE_HIT);
    assert_sound(room);
    room_close(room);
    room_open_sized(room, size_bytes, 0);
    assert_int_equal(look(room, 1, 100), STORE_HIT);
    room_close(room);
}

static void state_change(struct room *room, const char *boot, bool is_clean, bool is_distrusted)
{
    char path[128];
    struct state state;

    file_path(room, "store.state", path);
    assert_int_equal(state_open(path, &state), 0);
    assert_true(state.is_read);
    if (boot != NULL)
        snprintf(state.boot, sizeof(state.boot), "%s", boot);
    state.is_clean = is_clean;
    state.is_distrusted = is_distrusted;
    assert_int_equal(state_write(&state), 0);
    state_close(&state);
}

static void an_unclean_end_under_another_boot_wipes(void **state)
{
    struct room *room = *state, copy;

    room_open(room);
    put_done(room, 1, 100);
    for (int round = 0; round < 3; ++round) {
        room_snapshot(room, &copy);
        /* Another boot, an unknown one, and this one after a deletion that could not be written. */
        state_change(&copy, round == 0 ? "0123-another" : round == 1 ? "" : NULL, false, round == 2);
        assert_wiped_with(&copy, store_secret(room->store), 8 * MIB);
        directory_remove(copy.path);
    }
}

static void a_clean_end_under_another_boot_keeps_everything(void **state)
{
    struct room *room = *state;
    int64_t now_ms;

    room_open(room);
    put_done(room, 1, 100);
    now_ms = store_now_ms(room->store);
    room_close(room);
    state_change(room, "0123-another", true, false);
    room_open(room);
    assert_int_equal(look(room, 1, 100), STORE_HIT);
    assert_true(store_now_ms(room->store) >= now_ms && store_now_ms(room->store) < now_ms + 60000);
    assert_int_equal(counters_of(room).wiped, 0);
}

static void file_write(struct room *room, const char *name, const char *bytes, size_t n)
{
    char path[128];
    file_path(room, name, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
}

static void an_unknown_schema_wipes(void **state)
{
    struct room *room = *state;
    uint8_t secret[32], schema[8];
    char line[256];
    MDB_val k = {6, "schema"}, v = {8, schema};
    MDB_txn *txn;

    room_open(room);
    memcpy(secret, store_secret(room->store), 32);
    put_done(room, 1, 100);
    room_close(room);
    int n = snprintf(line, sizeof(line), "mcpcached store schema=%d clean=1 distrusted=0 bytes=0 head=0 boot=x", STATE_SCHEMA + 1);
    n += snprintf(line + n, sizeof(line) - (size_t)n, " sum=%016llx\n", (unsigned long long)XXH3_64bits(line, (size_t)n));
    file_write(room, "store.state", line, (size_t)n);
    assert_wiped_with(room, secret, 8 * MIB);

    room_open(room);
    memcpy(secret, store_secret(room->store), 32);
    rows_store_be64(schema, STATE_SCHEMA + 1);
    assert_int_equal(mdb_txn_begin(room->store->local.env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_put(txn, room->store->local.rows.meta, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    room_close(room);
    assert_wiped_with(room, secret, 8 * MIB);
}

static void foreign_and_damaged_files_wipe(void **state)
{
    static char rubbish[20000];
    struct room *room = *state, copy;
    uint8_t secret[32];
    char path[128];

    memset(rubbish, 'r', sizeof(rubbish));
    room_open(room);
    memcpy(secret, store_secret(room->store), 32);
    put_done(room, 1, 100);

    /* After an unclean end only LMDB can tell. */
    room_snapshot(room, &copy);
    file_write(&copy, "store.mdb", rubbish, sizeof(rubbish));
    assert_wiped_with(&copy, secret, 8 * MIB);
    file_write(&copy, "store.mdb", rubbish, 100);
    assert_wiped_with(&copy, secret, 8 * MIB);
    directory_remove(copy.path);
    room_close(room);

    /* After a clean one: another file, a shorter file, no state, a torn state, state without data. */
    file_write(room, "store.mdb", rubbish, sizeof(rubbish));
    assert_wiped_with(room, secret, 8 * MIB);
    file_path(room, "store.mdb", path);
    assert_int_equal(truncate(path, 3 * 4096), 0);
    assert_wiped_with(room, secret, 8 * MIB);
    file_path(room, "store.state", path);
    assert_int_equal(unlink(path), 0);
    assert_wiped_with(room, secret, 8 * MIB);
    assert_int_equal(truncate(path, 50), 0);
    assert_wiped_with(room, secret, 8 * MIB);
    file_path(room, "store.mdb", path);
    assert_int_equal(unlink(path), 0);
    room_open(room);
    assert_int_equal(counters_of(room).wiped, 0);
    assert_int_equal(look(room, 1, 100), STORE_MISS);
}

static void another_size_keeps_what_fits(void **state)
{
    struct room *room = *state;
    uint8_t secret[32];

    room_open_sized(room, 16 * MIB, 0);
    memcpy(secret, store_secret(room->store), 32);
    put_done(room, 1, 100);
    room_close(room);
    room_open_sized(room, 32 * MIB, 0);
    assert_int_equal(look(room, 1, 100), STORE_HIT);
    for (unsigned i = 2; i < 400; ++i)
        put(room, i, 60000);
    store_flush(room->store);
    assert_int_equal(look(room, 399, 60000), STORE_HIT);
    room_close(room);
    /* The file is larger than it may be now, and LMDB never shrinks one. */
    assert_wiped_with(room, secret, 8 * MIB);
}

static void a_second_process_is_refused(void **state)
{
    struct room *room = *state;
    struct store_options options = {.path = room->path, .size_bytes = 8 * MIB};
    struct store *second = NULL;
    struct cp_error error;

    room_open(room);
    put_done(room, 1, 100);
    assert_int_equal(store_open(&options, &second, &error), -EBUSY);
    assert_null(second);
    assert_non_null(strstr(error.text, room->path));
    assert_non_null(strstr(error.text, "another process"));
    assert_non_null(strstr(error.text, "--store"));
    assert_int_equal(look(room, 1, 100), STORE_HIT);
}

static void what_cannot_be_opened_is_said_in_a_sentence(void **state)
{
    struct room *room = *state;
    struct store_options options = {.path = "/proc/no-store-here", .size_bytes = 8 * MIB};
    struct store *store = NULL;
    struct cp_error error;
    char path[128];

    assert_true(store_open(&options, &store, &error) < 0);
    assert_non_null(strstr(error.text, "/proc/no-store-here"));
    assert_non_null(strstr(error.text, "--store"));

    file_write(room, "plain", "x", 1);
    file_path(room, "plain", path);
    options.path = path;
    assert_int_equal(store_open(&options, &store, &error), -ENOTDIR);
    assert_non_null(strstr(error.text, path));

    options = (struct store_options){.path = room->path, .size_bytes = 8 * MIB - 1};
    assert_int_equal(store_open(&options, &store, &error), -EINVAL);
    assert_non_null(strstr(error.text, "--store-size"));

    file_path(room, "store.mdb", path);
    assert_int_equal(mkdir(path, 0700), 0);
    options.size_bytes = 8 * MIB;
    assert_true(store_open(&options, &store, &error) < 0);
    assert_non_null(strstr(error.text, path));
    assert_null(store);
    rmdir(path);
}

static void readers_are_bounded_and_leave_their_counts(void **state)
{
    struct room *room = *state;
    struct store_reader *readers[8];
    struct cp_key key = key_of(1);
    struct store_entry entry;
    int count = 0, r;

    room_open(room); /* of four readers it has one */
    while (count < 8 && (r = store_reader_new(room->store, &readers[count])) == 0)
        ++count;
    assert_true(count >= 3 && count < 8);
    assert_int_equal(r, -EUSERS);
    put_done(room, 1, 100);
    key.check[0] ^= 1;
    assert_int_equal(store_get(readers[0], &key, alloc, NULL, &entry), STORE_BAD);
    while (count > 0)
        store_reader_free(readers[--count]);
    assert_int_equal(counters_of(room).verify_failures, 1);
    assert_int_equal(store_reader_new(room->store, &readers[0]), 0);
    store_reader_free(readers[0]);
}

/* A disk that takes no more: the file size limit makes writes fail as a full disk does. Returns the limit before. */
static struct rlimit disk_fill(const struct room *room)
{
    struct rlimit before, full;
    struct stat stat_;
    char path[128];

    file_path(room, "store.mdb", path);
    assert_int_equal(stat(path, &stat_), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    full = before;
    full.rlim_cur = (rlim_t)stat_.st_size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    return before;
}

static void a_full_disk_costs_puts_and_nothing_else(void **state)
{
    struct room *room = *state;
    struct cp_key key = key_of(1);

    room_open(room);
    for (unsigned i = 0; i < 8; ++i) {
        put_done(room, i, 50000);
        struct cp_key gone = key_of(i);
        if (i > 3)
            store_delete(room->store, &gone);
    }
    store_flush(room->store);
    struct rlimit before = disk_fill(room);
    for (unsigned i = 10; i < 15; ++i)
        put_done(room, i, 500000);
    store_delete(room->store, &key);
    store_flush(room->store);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);

    struct store_counters counters = counters_of(room);
    assert_true(counters.errors >= 5 && counters.put_drops == 5 && counters.wiped == 0);
    for (unsigned i = 10; i < 15; ++i)
        assert_int_equal(look(room, i, 500000), STORE_MISS);
    for (unsigned i = 0; i < 4; ++i)
        assert_int_equal(look(room, i, 50000), i == 1 ? STORE_MISS : STORE_HIT);
    put_done(room, 20, 500000);
    assert_int_equal(look(room, 20, 500000), STORE_HIT);
    assert_sound(room);
}

static void a_deletion_that_cannot_be_written_closes_the_store_until_it_is_empty(void **state)
{
    struct room *room = *state, copy;
    struct cp_key key = key_of(0);
    uint8_t secret[32];

    room_open(room); /* a new file: no free pages to write a deletion to */
    memcpy(secret, store_secret(room->store), 32);
    put(room, 0, 100);
    put_done(room, 1, 100);
    struct rlimit before = disk_fill(room);
    store_delete(room->store, &key);
    store_flush(room->store);
    assert_int_equal(look(room, 0, 100), STORE_MISS);
    assert_int_equal(look(room, 1, 100), STORE_MISS);
    assert_false(put_expiring(room, 2, 100, INT64_MAX));
    store_sweep_at(room->store, 0); /* still full */
    assert_int_equal(look(room, 0, 100), STORE_MISS);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);

    /* Killed now, the deleted entry must not come back. */
    room_snapshot(room, &copy);
    assert_wiped_with(&copy, secret, 8 * MIB);
    directory_remove(copy.path);

    store_sweep_at(room->store, 0);
    assert_int_equal(look(room, 0, 100), STORE_MISS);
    assert_int_equal(look(room, 1, 100), STORE_MISS);
    assert_int_equal(counters_of(room).wiped, 1);
    put_done(room, 2, 100);
    assert_int_equal(look(room, 2, 100), STORE_HIT);
    assert_sound(room);
    room_close(room);
    room_open(room);
    assert_int_equal(look(room, 2, 100), STORE_HIT);
}

/* ---- clock ---- */

static void the_clock_never_goes_back(void **state)
{
    struct local_clock kept = {.base_ms = 1000, .store_ms = 51000, .realtime_ms = 900000};

    (void)state;
    /* Same boot: boottime went on by itself, whatever the wall clock says. */
    assert_int_equal(local_clock_base(&kept, true, 60000, 1), 1000);
    assert_int_equal(local_clock_base(&kept, true, 60000, 9999999), 1000);
    /* Same boot, but boottime is another's: at least where it stood. */
    assert_int_equal(local_clock_base(&kept, true, 10, 900000), 51000 - 10);
    /* Another boot: on by the wall clock's difference, never back. */
    assert_int_equal(local_clock_base(&kept, false, 30, 907000) + 30, 58000);
    assert_int_equal(local_clock_base(&kept, false, 30, 500), 51000 - 30);
    assert_int_equal(local_clock_base(&kept, false, 1 << 30, 900001) + (1 << 30), 51001);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(what_is_put_is_got),
        STORE_TEST(overwriting_leaves_nothing_of_the_old),
        STORE_TEST(the_last_word_on_a_key_wins_within_a_batch),
        STORE_TEST(what_is_queued_counts_before_it_is_committed),
        STORE_TEST(deleting_takes_every_row),
        STORE_TEST(a_long_name_is_cut_and_no_name_is_empty),
        STORE_TEST(an_entry_larger_than_a_quarter_is_refused),
        STORE_TEST(an_entry_that_contradicts_itself_is_refused),
        STORE_TEST(the_queue_is_bounded_and_deletions_pass),
        STORE_TEST(the_sweep_takes_what_has_expired_and_nothing_else),
        STORE_TEST(an_overwritten_entry_is_not_swept_by_its_old_expiry),
        STORE_TEST(eviction_takes_the_oldest_and_stays_under_the_limit),
        STORE_TEST(the_expired_go_before_the_oldest),
        STORE_TEST(a_flood_takes_room_from_itself),
        STORE_TEST(without_a_share_a_flood_takes_all),
        STORE_TEST(who_is_alone_may_fill_the_store),
        STORE_TEST(while_nobody_holds_more_than_his_share_the_oldest_go),
        STORE_TEST(who_holds_most_gives_first),
        STORE_TEST(nobody_s_entries_are_never_over_a_share),
        STORE_TEST(accounts_follow_every_change),
        STORE_TEST(accounts_are_right_after_the_store_was_opened_again),
        cmocka_unit_test(accounts_count_what_lay_there_once),
        cmocka_unit_test(the_table_of_accounts_is_bounded_and_keeps_its_order),
        STORE_TEST(another_key_with_the_same_digest_is_answered_nothing),
        STORE_TEST(a_rotten_body_is_not_served),
        STORE_TEST(a_record_that_is_none_is_not_served_and_can_be_replaced),
        STORE_TEST(a_row_of_another_entry_is_not_served),
        STORE_TEST(entries_that_cannot_be_read_leave_their_owner_s_account),
        STORE_TEST(a_damaged_head_of_a_page_breaks_the_store_and_nothing_else),
        STORE_TEST(an_end_inside_the_store_wipes_and_one_outside_does_not),
        STORE_TEST(a_clean_end_keeps_everything),
        STORE_TEST(files_are_their_owners_alone),
        STORE_TEST(what_others_can_read_is_closed_or_named),
        STORE_TEST(an_unclean_end_under_the_same_boot_keeps_everything),
        STORE_TEST(an_unclean_end_under_another_boot_wipes),
        STORE_TEST(a_clean_end_under_another_boot_keeps_everything),
        STORE_TEST(an_unknown_schema_wipes),
        STORE_TEST(foreign_and_damaged_files_wipe),
        STORE_TEST(another_size_keeps_what_fits),
        STORE_TEST(a_second_process_is_refused),
        STORE_TEST(what_cannot_be_opened_is_said_in_a_sentence),
        STORE_TEST(readers_are_bounded_and_leave_their_counts),
        STORE_TEST(a_full_disk_costs_puts_and_nothing_else),
        STORE_TEST(a_deletion_that_cannot_be_written_closes_the_store_until_it_is_empty),
        cmocka_unit_test(the_clock_never_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
