/* SPDX-License-Identifier: Apache-2.0 */
/* What admission rests on: standings (sidecar/trust/standing.c, in memory), proofs (proofs.c), rates (rate.c). */
#include "unit.h"

#include "sidecar/trust/proofs.h"
#include "sidecar/trust/rate.h"
#include "sidecar/trust/standing.h"

static void name_of(uint64_t number, uint8_t ret[16])
{
    memset(ret, 0, 8);
    memcpy(ret + 8, &number, 8);
}

static bool accept_one(struct standings *s, uint64_t number, int64_t began_ms, int64_t now_ms, struct standing *ret)
{
    uint8_t name[16];

    name_of(number, name);
    return standings_accept(s, name, NULL, -1, began_ms, now_ms, ret);
}

static void end_one(struct standings *s, uint64_t number, int64_t now_ms)
{
    uint8_t name[16];

    name_of(number, name);
    standings_end(s, name, now_ms);
}

static struct standing look(struct standings *s, uint64_t number)
{
    struct standing standing;
    uint8_t name[16];

    name_of(number, name);
    standings_get(s, name, &standing);
    return standing;
}

static void nobody_has_a_standing_before_he_was_accepted(void **state)
{
    struct standings *s = standings_new(64);
    struct standing first, again, other;

    (void)state;
    assert_int_equal(look(s, 1).epoch, 0);
    assert_true(accept_one(s, 1, 10, 20, &first));
    assert_int_not_equal(first.epoch, 0);
    assert_int_equal(first.since_ms, 20);
    assert_true(accept_one(s, 1, 30, 40, &again));
    assert_int_equal(again.epoch, first.epoch);
    assert_int_equal(again.since_ms, 20);
    assert_true(accept_one(s, 2, 10, 20, &other));
    assert_int_not_equal(other.epoch, first.epoch);
    standings_free(s);
}

static void an_end_ends_what_began_before_it(void **state)
{
    struct standings *s = standings_new(64);
    struct standing before, after;

    (void)state;
    assert_true(accept_one(s, 1, 10, 20, &before));
    end_one(s, 1, 100);
    assert_int_equal(look(s, 1).epoch, 0);
    /* an exchange that was under way, and one that began in the same moment */
    assert_false(accept_one(s, 1, 90, 110, &after));
    assert_false(accept_one(s, 1, 100, 110, &after));
    assert_int_equal(look(s, 1).epoch, 0);
    assert_true(accept_one(s, 1, 101, 120, &after));
    assert_int_not_equal(after.epoch, before.epoch);
    /* whose end does not touch others */
    assert_true(accept_one(s, 2, 90, 110, &after));
    standings_free(s);
}

static void an_end_counts_for_who_was_never_accepted(void **state)
{
    struct standings *s = standings_new(64);
    struct standing standing;

    (void)state;
    end_one(s, 1, 100);
    assert_false(accept_one(s, 1, 50, 110, &standing));
    assert_true(accept_one(s, 1, 101, 110, &standing));
    standings_free(s);
}

static void payload_and_expiry_are_kept(void **state)
{
    struct standings *s = standings_new(64);
    char payload[STANDING_PAYLOAD_BYTES] = "2025-11-25";
    struct standing standing;
    uint8_t name[16];

    (void)state;
    name_of(1, name);
    assert_true(standings_accept(s, name, payload, 1234, 10, 20, &standing));
    assert_true(standings_accept(s, name, NULL, 1234, 30, 40, &standing));
    assert_memory_equal(standing.payload, payload, sizeof(payload));
    assert_int_equal(look(s, 1).exp_s, 1234);
    /* it stays true of the next life */
    standings_end(s, name, 50);
    assert_true(standings_accept(s, name, NULL, -1, 60, 70, &standing));
    assert_memory_equal(standing.payload, payload, sizeof(payload));
    standings_free(s);
}

static void what_had_to_be_forgotten_never_revives(void **state)
{
    /* one bucket of four */
    struct standings *s = standings_new(4);
    struct standing standing;

    (void)state;
    assert_true(accept_one(s, 1, 10, 20, &standing));
    end_one(s, 1, 100);
    for (uint64_t i = 2; i <= 9; ++i)
        assert_true(accept_one(s, i, 200 + (int64_t)i, 200 + (int64_t)i, &standing));
    assert_int_equal(look(s, 1).epoch, 0);
    assert_int_equal(look(s, 1).ended_ms, 100);
    assert_false(accept_one(s, 1, 90, 300, &standing));
    assert_true(accept_one(s, 1, 101, 300, &standing));
    standings_free(s);
}

static void refused_strangers_push_out_only_each_other(void **state)
{
    struct standings *s = standings_new(4);
    struct standing standing;

    (void)state;
    for (uint64_t i = 1; i <= 3; ++i)
        assert_true(accept_one(s, i, 10, 20, &standing));
    for (uint64_t i = 100; i <= 1000; ++i)
        end_one(s, i, 30 + (int64_t)i);
    for (uint64_t i = 1; i <= 3; ++i)
        assert_int_not_equal(look(s, i).epoch, 0);
    standings_free(s);
}

static void proofs_count_under_their_epochs_only(void **state)
{
    const uint64_t epochs[2] = {7, 8}, others[2] = {7, 9}, another[2] = {6, 8};
    struct proofs *p = proofs_new(64);
    uint8_t name[16];

    (void)state;
    name_of(1, name);
    assert_int_equal(proofs_at(p, name, epochs), -1);
    proofs_learn(p, name, epochs, 0);
    assert_int_equal(proofs_at(p, name, epochs), 0);
    proofs_learn(p, name, epochs, 1000);
    assert_int_equal(proofs_at(p, name, epochs), 1000);
    /* an older one takes nothing back */
    proofs_learn(p, name, epochs, 500);
    assert_int_equal(proofs_at(p, name, epochs), 1000);
    assert_int_equal(proofs_at(p, name, others), -1);
    assert_int_equal(proofs_at(p, name, another), -1);
    proofs_learn(p, name, others, 600);
    assert_int_equal(proofs_at(p, name, others), 600);
    assert_int_equal(proofs_at(p, name, epochs), -1);
    proofs_drop(p, name, 2000);
    assert_int_equal(proofs_at(p, name, others), -1);
    /* what began before the refusal does not bring it back, also where nothing was known */
    proofs_learn(p, name, others, 1900);
    proofs_learn(p, name, others, 2000);
    assert_int_equal(proofs_at(p, name, others), -1);
    proofs_learn(p, name, others, 2001);
    assert_int_equal(proofs_at(p, name, others), 2001);
    name_of(2, name);
    proofs_drop(p, name, 2000);
    proofs_learn(p, name, others, 1900);
    assert_int_equal(proofs_at(p, name, others), -1);
    proofs_free(p);
}

static void a_full_table_forgets_the_oldest_proof(void **state)
{
    const uint64_t epochs[2] = {1, 0};
    struct proofs *p = proofs_new(4);
    uint8_t name[16];

    (void)state;
    for (uint64_t i = 1; i <= 5; ++i) {
        name_of(i, name);
        proofs_learn(p, name, epochs, 1000 * (int64_t)i);
    }
    name_of(1, name);
    assert_int_equal(proofs_at(p, name, epochs), -1);
    name_of(5, name);
    assert_int_equal(proofs_at(p, name, epochs), 5000);
    proofs_free(p);
}

static unsigned take_all(struct rate *rate, uint64_t name, int64_t now_ms, unsigned tries)
{
    unsigned taken = 0;

    for (unsigned i = 0; i != tries; ++i)
        taken += rate_take(rate, name, now_ms);
    return taken;
}

static void a_rate_gives_its_burst_and_then_its_rate(void **state)
{
    struct rate *rate = rate_new(5), *unlimited = rate_new(0);

    (void)state;
    assert_int_equal(take_all(rate, 1, 1000, 1000), 5 * RATE_BURST_S);
    assert_int_equal(take_all(rate, 1, 2000, 1000), 5);
    assert_int_equal(take_all(rate, 1, 2100, 1000), 0);
    assert_int_equal(take_all(rate, 2, 2100, 1000), 5 * RATE_BURST_S);
    assert_int_equal(take_all(rate, 1, 1000 * 1000, 1000), 5 * RATE_BURST_S);
    assert_int_equal(take_all(unlimited, 1, 1000, 1000), 1000);
    rate_free(rate);
    rate_free(unlimited);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_has_a_standing_before_he_was_accepted),
        cmocka_unit_test(an_end_ends_what_began_before_it),
        cmocka_unit_test(an_end_counts_for_who_was_never_accepted),
        cmocka_unit_test(payload_and_expiry_are_kept),
        cmocka_unit_test(what_had_to_be_forgotten_never_revives),
        cmocka_unit_test(refused_strangers_push_out_only_each_other),
        cmocka_unit_test(proofs_count_under_their_epochs_only),
        cmocka_unit_test(a_full_table_forgets_the_oldest_proof),
        cmocka_unit_test(a_rate_gives_its_burst_and_then_its_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
