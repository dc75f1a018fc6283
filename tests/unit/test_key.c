/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#include "cachepolicy/key.h"

static const uint8_t secret[32] = "0123456789abcdef0123456789abcdef";
static struct cp_keyer *keyer;

static struct cp_principal principal(struct span authorization)
{
    struct cp_credential credential = {SPAN("authorization"), authorization};
    struct cp_principal p;

    cp_principal_of(keyer, &credential, 1, &p);
    return p;
}

static struct cp_question question(void)
{
    return (struct cp_question){
        .upstream = SPAN("http://up:1/mcp"),
        .authority = SPAN("host"),
        .path = SPAN("/mcp?a"),
        .era = CP_ERA_MODERN,
        .version = SPAN("2026-07-28"),
        .method = CP_METHOD_TOOLS_CALL,
        .params = SPAN("{\"name\":\"a\"}"),
        .mcp_params = SPAN("mp"),
        .vary = SPAN("de"),
        .client = SPAN("client"),
        .definition = SPAN("definition"),
    };
}

static bool equal_keys(const struct cp_key *a, const struct cp_key *b)
{
    bool digests = memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;

    /* Two independent digests of one material: both are equal or none. */
    assert_int_equal(digests, memcmp(a->check, b->check, sizeof(a->check)) == 0);
    return digests;
}

static bool same(const struct cp_question *qa, const struct cp_share *sa, const struct cp_question *qb, const struct cp_share *sb)
{
    struct cp_key a, b;

    cp_key_of(keyer, qa, sa, &a);
    cp_key_of(keyer, qb, sb, &b);
    return equal_keys(&a, &b);
}

/* Every span field of a question, in the order of the material. */
static const size_t fields[] = {
    offsetof(struct cp_question, upstream), offsetof(struct cp_question, authority), offsetof(struct cp_question, path),
    offsetof(struct cp_question, version),  offsetof(struct cp_question, params),    offsetof(struct cp_question, mcp_params),
    offsetof(struct cp_question, vary),     offsetof(struct cp_question, client),    offsetof(struct cp_question, definition),
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

static struct span *field(struct cp_question *q, size_t i)
{
    return (struct span *)((char *)q + fields[i]);
}

static void every_field_is_part_of_the_key(void **state)
{
    struct cp_principal p = principal(SPAN("Bearer a"));
    struct cp_share share = {CP_SCOPE_SESSION, &p, SPAN("s")};
    struct cp_question base = question(), q;
    struct cp_question other = question();
    struct cp_share other_share = share;

    (void)state;
    assert_true(same(&base, &share, &other, &share));
    for (size_t i = 0; i < FIELDS; i++) {
        const struct span values[] = {SPAN_ABSENT, SPAN(""),   SPAN("x"),
                                      SPAN("x\0"), SPAN("xx"), SPAN("\xff\xff\xff\xff\xff\xff\xff\xff")};

        q = base;
        field(&q, i)->n--;
        assert_false(same(&base, &share, &q, &share));
        for (size_t a = 0; a < sizeof(values) / sizeof(values[0]); a++) {
            for (size_t b = 0; b < sizeof(values) / sizeof(values[0]); b++) {
                struct cp_question one = base, two = base;

                *field(&one, i) = values[a];
                *field(&two, i) = values[b];
                assert_int_equal(same(&one, &share, &two, &share), a == b);
            }
        }
    }
    q = base;
    q.era = CP_ERA_LEGACY;
    assert_false(same(&base, &share, &q, &share));
    for (int a = 1; a <= CP_METHOD_INITIALIZED; a++) {
        q = base;
        q.method = (enum cp_method)a;
        assert_int_equal(same(&base, &share, &q, &share), a == CP_METHOD_TOOLS_CALL);
    }
    other_share.session = SPAN("t");
    assert_false(same(&base, &share, &base, &other_share));
    other_share.session = SPAN_ABSENT;
    assert_false(same(&base, &share, &base, &other_share));
    {
        struct cp_share empty = share;

        empty.session = SPAN("");
        assert_false(same(&base, &empty, &base, &other_share));
    }
}

static void a_byte_that_moves_to_the_next_field_makes_another_key(void **state)
{
    struct cp_principal p = principal(SPAN("Bearer a"));
    struct cp_share share = {CP_SCOPE_SESSION, &p, SPAN("s")};

    (void)state;
    for (size_t i = 0; i + 1 < FIELDS; i++) {
        struct cp_question a = question(), b = question();

        *field(&a, i) = SPAN("ab");
        *field(&a, i + 1) = SPAN("c");
        *field(&b, i) = SPAN("a");
        *field(&b, i + 1) = SPAN("bc");
        assert_false(same(&a, &share, &b, &share));
        *field(&a, i) = SPAN("abc");
        *field(&a, i + 1) = SPAN("");
        *field(&b, i) = SPAN("");
        *field(&b, i + 1) = SPAN("abc");
        assert_false(same(&a, &share, &b, &share));
        *field(&a, i + 1) = SPAN_ABSENT;
        *field(&b, i) = SPAN_ABSENT;
        assert_false(same(&a, &share, &b, &share));
    }
    {
        struct cp_question a = question(), b = question();
        struct cp_share sa = {CP_SCOPE_SESSION, &p, SPAN("ab")}, sb = {CP_SCOPE_SESSION, &p, SPAN("a")};

        a.upstream = SPAN("c");
        b.upstream = SPAN("bc");
        assert_false(same(&a, &sa, &b, &sb));
    }
}

static void scope_says_who_shares(void **state)
{
    struct cp_principal a = principal(SPAN("Bearer a")), b = principal(SPAN("Bearer b"));
    const struct cp_share session_a = {CP_SCOPE_SESSION, &a, SPAN("s")}, session_a2 = {CP_SCOPE_SESSION, &a, SPAN("t")},
                          session_b = {CP_SCOPE_SESSION, &b, SPAN("s")}, session_none = {CP_SCOPE_SESSION, &a, SPAN_ABSENT},
                          principal_a = {CP_SCOPE_PRINCIPAL, &a, SPAN("s")}, principal_a2 = {CP_SCOPE_PRINCIPAL, &a, SPAN("t")},
                          principal_none = {CP_SCOPE_PRINCIPAL, &a, SPAN_ABSENT}, principal_b = {CP_SCOPE_PRINCIPAL, &b, SPAN("s")},
                          public_a = {CP_SCOPE_PUBLIC, &a, SPAN("s")}, public_b = {CP_SCOPE_PUBLIC, &b, SPAN_ABSENT};
    struct cp_question q = question();

    (void)state;
    assert_false(same(&q, &session_a, &q, &session_a2));
    assert_false(same(&q, &session_a, &q, &session_b));
    assert_true(same(&q, &principal_a, &q, &principal_a2));
    assert_true(same(&q, &principal_a, &q, &principal_none));
    assert_false(same(&q, &principal_a, &q, &principal_b));
    assert_true(same(&q, &public_a, &q, &public_b));
    assert_false(same(&q, &session_none, &q, &principal_a));
    assert_false(same(&q, &principal_a, &q, &public_a));
    assert_false(same(&q, &session_a, &q, &public_a));
}

static void a_large_field_is_one_field_too(void **state)
{
    struct cp_principal p = principal(SPAN("Bearer a"));
    struct cp_share share = {CP_SCOPE_PUBLIC, &p, SPAN_ABSENT};
    static char big[70000], twin[70000];
    struct cp_question a = question(), b = question();

    (void)state;
    for (size_t n = 900; n < sizeof(big); n = n < 1200 ? n + 1 : n * 3 / 2) {
        memset(big, 'x', n);
        memset(twin, 'x', n);
        a.params = (struct span){big, n};
        b.params = (struct span){twin, n};
        assert_true(same(&a, &share, &b, &share));
        twin[n - 1] = 'y';
        assert_false(same(&a, &share, &b, &share));
        b.params = (struct span){big, n - 1};
        assert_false(same(&a, &share, &b, &share));
    }
}

static bool same_principal(const struct cp_credential *a, size_t na, const struct cp_credential *b, size_t nb)
{
    struct cp_principal one, two;

    cp_principal_of(keyer, a, na, &one);
    cp_principal_of(keyer, b, nb, &two);
    return memcmp(one.bytes, two.bytes, sizeof(one.bytes)) == 0;
}

static void a_principal_is_all_of_his_credentials(void **state)
{
    const struct cp_credential ab[] = {{SPAN("authorization"), SPAN("a")}, {SPAN("x"), SPAN("b")}};
    const struct cp_credential ba[] = {{SPAN("authorization"), SPAN("b")}, {SPAN("x"), SPAN("a")}};
    const struct cp_credential a_empty[] = {{SPAN("authorization"), SPAN("a")}, {SPAN("x"), SPAN("")}};
    const struct cp_credential a_absent[] = {{SPAN("authorization"), SPAN("a")}, {SPAN("x"), SPAN_ABSENT}};
    const struct cp_credential moved[] = {{SPAN("authorization"), SPAN("ab")}, {SPAN("x"), SPAN("")}};
    const struct cp_credential renamed[] = {{SPAN("authorization"), SPAN("a")}, {SPAN("y"), SPAN("b")}};
    const struct cp_credential split[] = {{SPAN("authorizationa"), SPAN("")}, {SPAN("x"), SPAN("b")}};

    (void)state;
    assert_true(same_principal(ab, 2, ab, 2));
    assert_false(same_principal(ab, 2, ba, 2));
    assert_false(same_principal(ab, 2, ab, 1));
    assert_false(same_principal(a_empty, 2, a_absent, 2));
    assert_false(same_principal(ab, 2, moved, 2));
    assert_false(same_principal(ab, 2, renamed, 2));
    assert_false(same_principal(ab, 2, split, 2));
    assert_false(same_principal(a_absent, 2, ab, 1));
}

static void only_a_value_makes_somebody_of_nobody(void **state)
{
    const struct cp_credential absent[] = {{SPAN("authorization"), SPAN_ABSENT}, {SPAN("x"), SPAN_ABSENT}};
    const struct cp_credential empty[] = {{SPAN("authorization"), SPAN("")}, {SPAN("x"), SPAN_ABSENT}};
    const struct cp_credential second[] = {{SPAN("authorization"), SPAN_ABSENT}, {SPAN("x"), SPAN("k")}};
    struct cp_principal p;

    (void)state;
    cp_principal_of(keyer, absent, 2, &p);
    assert_true(p.is_anonymous);
    cp_principal_of(keyer, empty, 2, &p);
    assert_true(p.is_anonymous);
    cp_principal_of(keyer, second, 2, &p);
    assert_false(p.is_anonymous);
    cp_principal_of(keyer, NULL, 0, &p);
    assert_true(p.is_anonymous);
}

/* Against OpenSSL's own HMAC, with the material written out. */
static void a_principal_is_an_hmac(void **state)
{
    const char material[] = "l\x09\0\0\0\0\0\0\0principal"
                            "n\x0d\0\0\0\0\0\0\0authorization"
                            "v\x08\0\0\0\0\0\0\0Bearer a";
    struct cp_principal p = principal(SPAN("Bearer a"));
    unsigned char wanted[32];
    unsigned n = 0;

    (void)state;
    assert_non_null(HMAC(EVP_sha256(), secret, 32, (const unsigned char *)material, sizeof(material) - 1, wanted, &n));
    assert_memory_equal(p.bytes, wanted, 32);
}

static void assert_hex(const uint8_t *bytes, size_t n, const char *wanted)
{
    char hex[65];

    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    assert_string_equal(hex, wanted);
}

static void another_secret_makes_other_keys(void **state)
{
    uint8_t changed[32];
    struct cp_keyer *other = NULL, *twin = NULL;
    struct cp_principal p = principal(SPAN("Bearer a")), q;
    struct cp_credential credential = {SPAN("authorization"), SPAN("Bearer a")};
    struct cp_share share = {CP_SCOPE_PUBLIC, &p, SPAN_ABSENT};
    struct cp_question ask = question();
    struct cp_key mine, his, same_secret;
    uint8_t a[16], b[16], c[16], d[16];

    (void)state;
    memcpy(changed, secret, sizeof(changed));
    changed[31] ^= 1;
    assert_int_equal(cp_keyer_new(changed, &other), 0);
    assert_int_equal(cp_keyer_new(secret, &twin), 0);
    cp_key_of(keyer, &ask, &share, &mine);
    cp_key_of(other, &ask, &share, &his);
    cp_key_of(twin, &ask, &share, &same_secret);
    assert_false(equal_keys(&mine, &his));
    assert_true(equal_keys(&mine, &same_secret));
    cp_principal_of(other, &credential, 1, &q);
    assert_memory_not_equal(p.bytes, q.bytes, 32);
    cp_digest_of(keyer, "session", SPAN("x"), a);
    cp_digest_of(keyer, "token", SPAN("x"), b);
    cp_digest_of(keyer, "session", SPAN("y"), c);
    cp_digest_of(other, "session", SPAN("x"), d);
    assert_memory_not_equal(a, b, 16);
    assert_memory_not_equal(a, c, 16);
    assert_memory_not_equal(a, d, 16);
    cp_digest_of(twin, "session", SPAN("x"), d);
    assert_memory_equal(a, d, 16);
    cp_keyer_free(other);
    cp_keyer_free(twin);
    cp_keyer_free(NULL);
}

static int start(void **state)
{
    (void)state;
    return cp_keyer_new(secret, &keyer);
}

static int finish(void **state)
{
    (void)state;
    cp_keyer_free(keyer);
    return 0;
}

/* What is stored outlives the program. Who means to change these changes FORM in key.c, too. */
static void keys_stay_what_they_were(void **state)
{
    static char large[5000];
    struct cp_principal p = principal(SPAN("Bearer a"));
    struct cp_question q = question();
    struct cp_key key;
    uint8_t digest[16];

    (void)state;
    cp_key_of(keyer, &q, &(struct cp_share){CP_SCOPE_PRINCIPAL, &p, SPAN_ABSENT}, &key);
    assert_hex(key.digest, sizeof(key.digest), "8aaceff5c6a4adb3fe35e52409102ce77e89fec6f7c396ae1087d924767813e3");
    assert_hex(key.check, sizeof(key.check), "b944b6e4ec7ef325c178e28df4364752");
    memset(large, 'x', sizeof(large));
    q.params = (struct span){large, sizeof(large)};
    q.client = SPAN_ABSENT;
    cp_key_of(keyer, &q, &(struct cp_share){CP_SCOPE_SESSION, &p, SPAN("s")}, &key);
    assert_hex(key.digest, sizeof(key.digest), "361d08477107b715b3f03c2aaaa8cee838ed07411197603af9f63d1c5ab56149");
    assert_hex(key.check, sizeof(key.check), "420f4169111d3b6ff636add2643dbdcc");
    cp_digest_of(keyer, "label", SPAN("text"), digest);
    assert_hex(digest, sizeof(digest), "dc8b9bffb8e1d81589606105f97c3f55");
    assert_int_equal(cp_subject_of(keyer, CP_SUBJECT_TAG, SPAN("a")), 0x1949505e7fd545e0);
}

/* ---- subjects ------------------------------------------------------------------------------------------------------------------------ */

static void a_subject_is_its_kind_and_its_text(void **state)
{
    static const enum cp_subject kinds[] = {CP_SUBJECT_TOOL, CP_SUBJECT_LIST, CP_SUBJECT_URI, CP_SUBJECT_TAG};
    static const struct span texts[] = {SPAN_OF(""),    SPAN_OF("a"),          SPAN_OF("A"),
                                        SPAN_OF("a\0"), SPAN_OF("tools/list"), SPAN_OF("\xc3\xa9")};
    uint64_t seen[32];
    size_t n = 0;

    (void)state;
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]); t++) {
            seen[n] = cp_subject_of(keyer, kinds[k], texts[t]);
            assert_true(seen[n] > 1);
            assert_true(seen[n] == cp_subject_of(keyer, kinds[k], texts[t]));
            for (size_t i = 0; i < n; i++)
                assert_true(seen[i] != seen[n]);
            n++;
        }
    }
    seen[n] = cp_subject_of(keyer, CP_SUBJECT_READS, SPAN_ABSENT);
    assert_true(seen[n] == cp_subject_of(keyer, CP_SUBJECT_READS, SPAN("whatever")));
    for (size_t i = 0; i < n; i++)
        assert_true(seen[i] != seen[n]);
}

static void another_secret_makes_other_subjects(void **state)
{
    static const uint8_t others[32] = {9};
    struct cp_keyer *other;

    (void)state;
    assert_int_equal(cp_keyer_new(others, &other), 0);
    assert_true(cp_subject_of(keyer, CP_SUBJECT_TAG, SPAN("a")) != cp_subject_of(other, CP_SUBJECT_TAG, SPAN("a")));
    cp_keyer_free(other);
}

static void a_principal_is_a_subject_and_never_a_reserved_number(void **state)
{
    struct cp_principal a = principal(SPAN("Bearer a")), b = principal(SPAN("Bearer b")), low = {.bytes = {0}};

    (void)state;
    assert_true(cp_subject_of_principal(&a) == cp_subject_of_principal(&a));
    assert_true(cp_subject_of_principal(&a) != cp_subject_of_principal(&b));
    for (unsigned i = 0; i < 5; i++) {
        low.bytes[24] = (uint8_t)i;
        assert_true(cp_subject_of_principal(&low) > 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_subject_is_its_kind_and_its_text),
        cmocka_unit_test(another_secret_makes_other_subjects),
        cmocka_unit_test(a_principal_is_a_subject_and_never_a_reserved_number),
        cmocka_unit_test(every_field_is_part_of_the_key),
        cmocka_unit_test(a_byte_that_moves_to_the_next_field_makes_another_key),
        cmocka_unit_test(scope_says_who_shares),
        cmocka_unit_test(a_large_field_is_one_field_too),
        cmocka_unit_test(a_principal_is_all_of_his_credentials),
        cmocka_unit_test(only_a_value_makes_somebody_of_nobody),
        cmocka_unit_test(a_principal_is_an_hmac),
        cmocka_unit_test(another_secret_makes_other_keys),
        cmocka_unit_test(keys_stay_what_they_were),
    };
    return cmocka_run_group_tests(tests, start, finish);
}
