/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <errno.h>

#include <openssl/evp.h>

#include "cachepolicy/token.h"

static struct cp_json_doc doc;
static struct buf scratch;

#define HEADER "eyJhbGciOiJIUzI1NiJ9"

/* "Bearer HEADER.<payload>.c2ln" on the heap, exactly. */
static struct span bearer(const char *payload)
{
    size_t n = strlen(payload);
    unsigned char *encoded = malloc(4 * (n / 3 + 2));
    struct buf text = {0};
    struct span ret;

    assert_non_null(encoded);
    for (int i = EVP_EncodeBlock(encoded, (const unsigned char *)payload, (int)n) - 1; i >= 0; i--) {
        if (encoded[i] == '=')
            encoded[i] = '\0';
        if (encoded[i] == '+')
            encoded[i] = '-';
        if (encoded[i] == '/')
            encoded[i] = '_';
    }
    assert_int_equal(buf_add_span(&text, SPAN("Bearer " HEADER ".")), 0);
    assert_int_equal(buf_add_span(&text, span_of((char *)encoded)), 0);
    assert_int_equal(buf_add_span(&text, SPAN(".c2ln")), 0);
    ret = heap_span(buf_span(&text));
    buf_done(&text);
    free(encoded);
    return ret;
}

static struct cp_token token_of(struct span authorization)
{
    struct cp_token token = {.is_jwt = true, .has_exp = true, .exp_s = 77};

    cp_token_read(&doc, &scratch, authorization, &token);
    return token;
}

static void only_three_plain_parts_behind_bearer_are_a_jwt(void **state)
{
    static const struct {
        const char *authorization;
        bool is_jwt;
    } rows[] = {
        {"Bearer " HEADER ".e30.c2ln", true},
        {"bearer " HEADER ".e30.c2ln", true},
        {"BEARER   " HEADER ".e30.c2ln \t", true},
        {" Bearer " HEADER ".e30.c2ln", true},
        {"Bearer " HEADER ".e30.", true}, /* not signed */
        {"Bearer " HEADER ".eyAi4oKsIjogMSB9.c2ln", true},
        {"", false},
        {"Bearer", false},
        {"Bearer ", false},
        {"Bearer" HEADER ".e30.c2ln", false},
        {"Bearer\t" HEADER ".e30.c2ln", false},
        {"Bearerx " HEADER ".e30.c2ln", false},
        {"Basic " HEADER ".e30.c2ln", false},
        {"DPoP " HEADER ".e30.c2ln", false},
        {HEADER ".e30.c2ln", false},
        {"Bearer opaque", false},
        {"Bearer a.b", false},
        {"Bearer .e30.c2ln", false},
        {"Bearer " HEADER "..c2ln", false},
        {"Bearer " HEADER ".e30", false},
        {"Bearer " HEADER ".e30.c2ln.", false},
        {"Bearer " HEADER ".e30.c2ln.x.y", false}, /* encrypted: five parts */
        {"Bearer " HEADER ".e30.c2ln, Bearer x", false},
        {"Bearer " HEADER " .e30.c2ln", false},
        {"Bearer " HEADER ".e30=.c2ln", false},
        {"Bearer " HEADER ".e30.c2ln=", false},
        {"Bearer " HEADER ".e31.c2ln", false},   /* unused bits set */
        {"Bearer " HEADER ".e3.c2ln", false},    /* "{" and unused bits */
        {"Bearer " HEADER ".e30e3.c2ln", false}, /* no length that Base64 has */
        {"Bearer " HEADER ".e30.c2lnx", false},
        {"Bearer " HEADER "x.e30.c2ln", false},
        {"Bearer " HEADER ".IkE_Ig.c2ln", false}, /* a string */
        {"Bearer " HEADER ".W10.c2ln", false},
        {"Bearer " HEADER ".bnVsbA.c2ln", false},
        {"Bearer " HEADER ".eyB9e30.c2ln", false}, /* { }{} */
        {"Bearer " HEADER ".eyLCgCI6MX0.c2ln", true},
        {"Bearer " HEADER ".eyKAgCI6MX0.c2ln", false}, /* not UTF-8 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span authorization = heap_span(span_of(rows[i].authorization));
        struct cp_token token = token_of(authorization);

        if (token.is_jwt != rows[i].is_jwt)
            fail_msg("'%s': %d", rows[i].authorization, token.is_jwt);
        assert_false(token.has_exp);
        assert_int_equal(token.exp_s, 0);
        free((char *)authorization.p);
    }
    assert_false(token_of(SPAN_ABSENT).is_jwt);
}

static void a_token_ends_when_it_says_or_has_ended(void **state)
{
    static const struct {
        const char *payload;
        bool is_jwt, has_exp;
        int64_t exp_s;
    } rows[] = {
        {"{}", true, false, 0},
        {"{\"exp\":0}", true, true, 0},
        {"{\"exp\":1700000000}", true, true, 1700000000},
        {"{ \"sub\" : \"a\" , \"exp\" : 1700000000 }", true, true, 1700000000},
        {"{\"\\u0065xp\":1700000000}", true, true, 1700000000},
        {"{\"EXP\":1700000000}", true, false, 0},
        {"{\"a\":{\"exp\":1}}", true, false, 0},
        {"{\"exp\":1700000000.999}", true, true, 1700000000},
        {"{\"exp\":1.7e9}", true, true, 1700000000},
        {"{\"exp\":1.7E+9}", true, true, 1700000000},
        {"{\"exp\":17e8}", true, true, 1700000000},
        {"{\"exp\":17000000000000e-4}", true, true, 1700000000},
        {"{\"exp\":170000000012.345e-2}", true, true, 1700000000},
        {"{\"exp\":0.00017e13}", true, true, 1700000000},
        {"{\"exp\":0.9}", true, true, 0},
        {"{\"exp\":9e-1}", true, true, 0},
        {"{\"exp\":1e-99999999999999999999}", true, true, 0},
        {"{\"exp\":0e99999999999999999999}", true, true, 0},
        {"{\"exp\":0.0e5}", true, true, 0},
        {"{\"exp\":-0}", true, true, 0},
        {"{\"exp\":-1}", true, true, 0},
        {"{\"exp\":-1e300}", true, true, 0},
        {"{\"exp\":9223372036854775}", true, true, CP_TOKEN_EXP_MAX_S},
        {"{\"exp\":9223372036854774}", true, true, CP_TOKEN_EXP_MAX_S - 1},
        {"{\"exp\":9223372036854776}", true, true, CP_TOKEN_EXP_MAX_S},
        {"{\"exp\":9223372036854775807}", true, true, CP_TOKEN_EXP_MAX_S},
        {"{\"exp\":18446744073709551616}", true, true, CP_TOKEN_EXP_MAX_S},
        {"{\"exp\":1e99999999999999999999}", true, true, CP_TOKEN_EXP_MAX_S},
        /* of another kind: it has ended */
        {"{\"exp\":\"1700000000\"}", true, true, 0},
        {"{\"exp\":null}", true, true, 0},
        {"{\"exp\":true}", true, true, 0},
        {"{\"exp\":[1700000000]}", true, true, 0},
        {"{\"exp\":{}}", true, true, 0},
        /* what the strict scan does not accept */
        {"{\"exp\":1,\"exp\":2}", false, false, 0},
        {"{\"exp\":1,\"\\u0065xp\":2}", false, false, 0},
        {"{\"exp\":01}", false, false, 0},
        {"{\"exp\":+1}", false, false, 0},
        {"{\"exp\":NaN}", false, false, 0},
        {"{\"exp\":Infinity}", false, false, 0},
        {"{\"exp\":1}x", false, false, 0},
        {"{\"exp\":1,\"a\":\"\\ud800\"}", false, false, 0},
        {"{\"exp\":1,\"a\":\"\\u0000\"}", false, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span authorization = bearer(rows[i].payload);
        struct cp_token token = token_of(authorization);

        if (token.is_jwt != rows[i].is_jwt || token.has_exp != rows[i].has_exp || token.exp_s != rows[i].exp_s)
            fail_msg("%s: %d %d %lld", rows[i].payload, token.is_jwt, token.has_exp, (long long)token.exp_s);
        free((char *)authorization.p);
    }
}

static void long_tokens_are_not_looked_into(void **state)
{
    const struct span start = SPAN("{\"exp\":7");
    char *payload = malloc(CP_TOKEN_MAX_BYTES);
    struct span authorization;

    (void)state;
    assert_non_null(payload);
    memset(payload, ' ', CP_TOKEN_MAX_BYTES);
    memcpy(payload, start.p, start.n);
    /* three bytes make four; the rest of the token is 26 bytes */
    memcpy(payload + 12267, "}", 2);
    authorization = bearer(payload);
    assert_int_equal(authorization.n, strlen("Bearer ") + CP_TOKEN_MAX_BYTES);
    assert_true(token_of(authorization).is_jwt);
    assert_int_equal(token_of(authorization).exp_s, 7);
    free((char *)authorization.p);
    memcpy(payload + 12267, " }", 3);
    authorization = bearer(payload);
    assert_false(token_of(authorization).is_jwt);
    assert_false(token_of(authorization).has_exp);
    free((char *)authorization.p);
    free(payload);
}

/* The form of the named claims, behind something that was there; fails unless it is what was expected. */
static struct buf claims_of(const char *payload, char *const *names, size_t count, int wanted)
{
    struct span authorization = bearer(payload);
    struct buf out = {0};
    int r;

    assert_int_equal(buf_add_span(&out, SPAN("before")), 0);
    r = cp_token_claims(&doc, &scratch, authorization, names, count, &out);
    if (r != wanted)
        fail_msg("%s: %d", payload, r);
    if (r != 0)
        assert_span(buf_span(&out), "before");
    else
        assert_true(out.n > 6 && memcmp(out.p, "before", 6) == 0);
    free((char *)authorization.p);
    return out;
}

#define NAMES(...) ((char *[]){__VA_ARGS__}), sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)

static void claims_that_do_not_all_name_somebody_name_nobody(void **state)
{
    static const char *const payloads[] = {
        "{}",
        "{\"iss\":\"i\"}",
        "{\"sub\":\"s\"}",
        "{\"iss\":\"i\",\"sub\":\"\"}",
        "{\"iss\":\"i\",\"sub\":null}",
        "{\"iss\":\"i\",\"sub\":[\"s\"]}",
        "{\"iss\":\"i\",\"sub\":{}}",
        "{\"iss\":\"i\",\"SUB\":\"s\"}",
        "{\"iss\":\"i\",\"a\":{\"sub\":\"s\"}}",
        "{\"iss\":\"i\",\"sub\":\"s\",\"sub\":\"s\"}",
        "[\"iss\",\"sub\"]",
        "x",
    };
    struct buf out;

    (void)state;
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        out = claims_of(payloads[i], NAMES("iss", "sub"), -ENOENT);
        buf_done(&out);
    }
    out = claims_of("{\"iss\":\"i\"}", NULL, 0, -ENOENT);
    assert_int_equal(cp_token_claims(&doc, &scratch, SPAN("Bearer opaque"), NAMES("sub"), &out), -ENOENT);
    assert_int_equal(cp_token_claims(&doc, &scratch, SPAN_ABSENT, NAMES("sub"), &out), -ENOENT);
    buf_done(&out);
}

static bool same(const char *a, const char *b, char *const *names, size_t count)
{
    struct buf left = claims_of(a, names, count, 0), right = claims_of(b, names, count, 0);
    bool is_same = left.p != NULL && right.p != NULL && span_eq(buf_span(&left), buf_span(&right));

    buf_done(&left);
    buf_done(&right);
    return is_same;
}

static void claims_that_say_the_same_have_one_form(void **state)
{
    (void)state;
    assert_true(same("{\"iss\":\"i\",\"sub\":\"s\",\"exp\":1}", "{ \"exp\": 2, \"sub\": \"\\u0073\", \"\\u0069ss\": \"i\" }",
                     NAMES("iss", "sub")));
    assert_true(same("{\"n\":12,\"b\":true}", "{\"b\":true,\"n\":12,\"x\":[]}", NAMES("b", "n")));
    assert_true(same("{\"\":\"s\"}", "{\"\":\"s\"}", NAMES("")));
}

static void claims_that_differ_have_two_forms(void **state)
{
    (void)state;
    assert_false(same("{\"iss\":\"i\",\"sub\":\"s\"}", "{\"iss\":\"i\",\"sub\":\"t\"}", NAMES("iss", "sub")));
    assert_false(same("{\"iss\":\"i\",\"sub\":\"s\"}", "{\"iss\":\"s\",\"sub\":\"i\"}", NAMES("iss", "sub")));
    assert_false(same("{\"iss\":\"i\",\"sub\":\"s\"}", "{\"iss\":\"is\",\"sub\":\"s\"}", NAMES("iss", "sub")));
    assert_false(same("{\"sub\":\"1\"}", "{\"sub\":1}", NAMES("sub")));
    assert_false(same("{\"sub\":\"true\"}", "{\"sub\":true}", NAMES("sub")));
    assert_false(same("{\"sub\":false}", "{\"sub\":true}", NAMES("sub")));
    assert_false(same("{\"sub\":1}", "{\"sub\":1.0}", NAMES("sub")));
    assert_false(same("{\"sub\":\"a\"}", "{\"sub\":\"A\"}", NAMES("sub")));
    /* bytes that could move from one piece to its neighbour */
    assert_false(same("{\"a\":\"xbsy\",\"b\":\"z\"}", "{\"a\":\"x\",\"b\":\"ybsz\"}", NAMES("a", "b")));
}

static void names_and_their_order_belong_to_the_form(void **state)
{
    const char *payload = "{\"a\":\"1\",\"b\":\"1\",\"as\":\"s\"}";
    struct buf forms[] = {
        claims_of(payload, NAMES("a"), 0),      claims_of(payload, NAMES("b"), 0),      claims_of(payload, NAMES("a", "b"), 0),
        claims_of(payload, NAMES("b", "a"), 0), claims_of(payload, NAMES("a", "a"), 0), claims_of(payload, NAMES("as"), 0),
    };
    size_t count = sizeof(forms) / sizeof(forms[0]);

    (void)state;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            size_t n = forms[i].n < forms[j].n ? forms[i].n : forms[j].n;

            /* and none is where another begins, whatever follows it in a key */
            assert_memory_not_equal(forms[i].p, forms[j].p, n);
        }
    }
    for (size_t i = 0; i < count; i++)
        buf_done(&forms[i]);
}

static int finish(void **state)
{
    (void)state;
    cp_json_done(&doc);
    buf_done(&scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_three_plain_parts_behind_bearer_are_a_jwt),
        cmocka_unit_test(a_token_ends_when_it_says_or_has_ended),
        cmocka_unit_test(long_tokens_are_not_looked_into),
        cmocka_unit_test(claims_that_do_not_all_name_somebody_name_nobody),
        cmocka_unit_test(claims_that_say_the_same_have_one_form),
        cmocka_unit_test(claims_that_differ_have_two_forms),
        cmocka_unit_test(names_and_their_order_belong_to_the_form),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
