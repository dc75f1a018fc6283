/* SPDX-License-Identifier: Apache-2.0 */
/* The build in which every digest is the same still tells questions apart by the check. */
#include "unit.h"

#include "cachepolicy/key.h"

static void digests_collide_and_checks_do_not(void **state)
{
    const uint8_t secret[32] = {7};
    struct cp_keyer *keyer = NULL;
    struct cp_principal principal;
    struct cp_share share = {CP_SCOPE_PUBLIC, &principal, SPAN_ABSENT};
    struct cp_question a = {.params = SPAN("a")}, b = {.params = SPAN("b")};
    struct cp_key one, two;

    (void)state;
    assert_int_equal(cp_keyer_new(secret, &keyer), 0);
    cp_principal_of(keyer, NULL, 0, &principal);
    cp_key_of(keyer, &a, &share, &one);
    cp_key_of(keyer, &b, &share, &two);
    assert_memory_equal(one.digest, two.digest, sizeof(one.digest));
    assert_memory_not_equal(one.check, two.check, sizeof(one.check));
    cp_keyer_free(keyer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_collide_and_checks_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
