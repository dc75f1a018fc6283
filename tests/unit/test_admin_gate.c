/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/admin/gate.c and place.c: who is let in, and where. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sidecar/admin/gate.h"
#include "sidecar/admin/json_text.h"
#include "sidecar/admin/place.h"

#define TOKEN "0123456789abcdef-token"

static enum gate_pass check(const struct gate *gate, const char *host, bool has_origin, const char *authorization)
{
    struct gate_headers headers = {
        .host = host != NULL ? span_of(host) : SPAN_ABSENT,
        .has_origin = has_origin,
        .authorization = authorization != NULL ? span_of(authorization) : SPAN_ABSENT,
    };

    return gate_check(gate, &headers);
}

static void names_of_this_machine(void **state)
{
    static const char *const local[] = {"localhost", "LocalHost:80", "127.0.0.1",   "127.0.0.1:8081",
                                        "127.9.9.9", "[::1]",        "[::1]:65535", "localhost:"};
    static const char *const others[] = {"",
                                         ":80",
                                         "example.com",
                                         "localhost.example.com",
                                         "localhos",
                                         "128.0.0.1",
                                         "127.0.0",
                                         "127.1",
                                         "127.0.0.1.example.com",
                                         "0x7f.0.0.1",
                                         "[::2]",
                                         "[::1",
                                         "::1",
                                         "[::1]x",
                                         "[127.0.0.1]",
                                         "10.0.0.1",
                                         "0.0.0.0",
                                         "[::]:8081",
                                         "localhost.",
                                         "[]",
                                         "[",
                                         "2130706433",
                                         "[::ffff:7f00:1]",
                                         "127.0.0.1 ",
                                         "127.000000000000000000000000000000000000000000000000000000000000000000000000000.0.1"};

    (void)state;
    for (size_t i = 0; i != sizeof(local) / sizeof(local[0]); i++)
        if (!gate_is_loopback_host(span_of(local[i])))
            fail_msg("'%s' is this machine", local[i]);
    for (size_t i = 0; i != sizeof(others) / sizeof(others[0]); i++)
        if (gate_is_loopback_host(span_of(others[i])))
            fail_msg("'%s' is not this machine", others[i]);
    assert_false(gate_is_loopback_host(SPAN_ABSENT));
}

static void only_the_token_opens(void **state)
{
    static const char *const wrong[] = {
        NULL,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        "Basic " TOKEN,
        "Bearer " TOKEN "x",
        "Bearer x" TOKEN,
        "Bearer 0123456789abcdef-toke",
        "Bearer" TOKEN,
        "Bearer 0123456789ABCDEF-TOKEN",
        "Bearer " TOKEN "," TOKEN,
        "Bearer " TOKEN " " TOKEN,
    };
    struct gate gate = {.is_local = true};

    (void)state;
    assert_int_equal(check(&gate, "localhost", false, NULL), GATE_OPEN);
    assert_int_equal(check(&gate, "localhost", false, "Bearer whatever"), GATE_OPEN);
    gate_set_token(&gate, TOKEN);
    assert_int_equal(check(&gate, "localhost", false, "Bearer " TOKEN), GATE_OPEN);
    assert_int_equal(check(&gate, "localhost", false, "bearer   " TOKEN " "), GATE_OPEN);
    for (size_t i = 0; i != sizeof(wrong) / sizeof(wrong[0]); i++)
        if (check(&gate, "localhost", false, wrong[i]) != GATE_TOKEN)
            fail_msg("'%s' opens", wrong[i]);
}

static void browsers_and_other_names_stay_outside_whatever_token_they_bring(void **state)
{
    struct gate gate = {.is_local = true};

    (void)state;
    gate_set_token(&gate, TOKEN);
    assert_int_equal(check(&gate, "example.com", false, "Bearer " TOKEN), GATE_HOST);
    assert_int_equal(check(&gate, NULL, false, "Bearer " TOKEN), GATE_HOST);
    assert_int_equal(check(&gate, "localhost", true, "Bearer " TOKEN), GATE_ORIGIN);
    /* where others are to come to, they know it by any name */
    gate.is_local = false;
    assert_int_equal(check(&gate, "example.com", false, "Bearer " TOKEN), GATE_OPEN);
    assert_int_equal(check(&gate, "example.com", true, "Bearer " TOKEN), GATE_ORIGIN);
    assert_int_equal(check(&gate, "example.com", false, NULL), GATE_TOKEN);
}

static void the_token_is_the_first_line_of_its_file(void **state)
{
    static const struct {
        const char *text, *token;
    } cases[] = {
        {TOKEN, TOKEN},
        {TOKEN "\n", TOKEN},
        {" " TOKEN " \r\n"
         "second line\n",
         TOKEN},
        {"0123456789abcdef", "0123456789abcdef"},
        {"0123456789abcde", NULL},
        {"", NULL},
        {"\n" TOKEN "\n", NULL},
        {"0123456789 abcdef", NULL},
        {"0123456789\xc3\xa4"
         "bcdef",
         NULL},
        {"0123456789\tabcdef", NULL},
    };
    char path[] = "/tmp/mcpcached-token-XXXXXX", token[GATE_TOKEN_MAX + 1], large[GATE_TOKEN_MAX + 2];
    struct cp_error error = {.text = ""};
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = strlen(cases[i].text);

        assert_true(ftruncate(fd, 0) == 0 && pwrite(fd, cases[i].text, n, 0) == (ssize_t)n);
        if (cases[i].token != NULL) {
            assert_int_equal(gate_read_token(path, "--x", token, &error), 0);
            assert_string_equal(token, cases[i].token);
        } else {
            assert_int_equal(gate_read_token(path, "--x", token, &error), -EINVAL);
            assert_non_null(strstr(error.text, "--x"));
            assert_null(strstr(error.text, "456789"));
        }
    }
    memset(large, 'a', sizeof(large));
    assert_true(pwrite(fd, large, GATE_TOKEN_MAX, 0) == GATE_TOKEN_MAX);
    assert_int_equal(gate_read_token(path, "--x", token, &error), 0);
    assert_int_equal(strlen(token), GATE_TOKEN_MAX);
    assert_true(pwrite(fd, large, GATE_TOKEN_MAX + 1, 0) == GATE_TOKEN_MAX + 1);
    assert_int_equal(gate_read_token(path, "--x", token, &error), -EINVAL);
    close(fd);
    unlink(path);
    assert_int_equal(gate_read_token(path, "--x", token, &error), -ENOENT);
    assert_int_equal(gate_read_token("/", "--x", token, &error), -EISDIR);
}

static void places(void **state)
{
    static const struct {
        const char *text;
        int family; /* 0: none */
        bool is_loopback;
    } cases[] = {
        {"127.0.0.1:8081", AF_INET, true},
        {"127.1.2.3:0", AF_INET, true},
        {"[::1]:8081", AF_INET6, true},
        {"0.0.0.0:8081", AF_INET, false},
        {"[::]:8081", AF_INET6, false},
        {"10.1.2.3:8081", AF_INET, false},
        {"unix:/run/a.sock", AF_UNIX, true},
        {"unix:run/a.sock", 0, false},
        {"unix:", 0, false},
        {"8081", 0, false},
        {":8081", 0, false},
        {"127.0.0.1", 0, false},
        {"127.0.0.1:", 0, false},
        {"127.0.0.1:65536", 0, false},
        {"127.0.0.1:80a", 0, false},
        {"", 0, false},
    };

    (void)state;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); i++) {
        struct cp_error error = {.text = ""};
        struct place place;
        int r = place_parse(cases[i].text, "--admin", &place, &error);

        if (r != (cases[i].family != 0 ? 0 : -EINVAL))
            fail_msg("'%s': %d %s", cases[i].text, r, error.text);
        if (r == 0) {
            assert_int_equal(place.address.any.sa_family, cases[i].family);
            assert_int_equal(place.is_loopback, cases[i].is_loopback);
            assert_int_equal(place.is_unix, cases[i].family == AF_UNIX);
        } else {
            assert_non_null(strstr(error.text, "--admin"));
        }
    }
}

static void the_path_of_a_socket_has_a_limit(void **state)
{
    char text[128] = "unix:/";
    struct cp_error error;
    struct place place;

    (void)state;
    memset(text + 6, 'a', 106);
    text[112] = '\0';
    assert_int_equal(place_parse(text, "--admin", &place, &error), 0);
    text[112] = 'a';
    text[113] = '\0';
    assert_int_equal(place_parse(text, "--admin", &place, &error), -EINVAL);
    assert_non_null(strstr(error.text, "107 bytes"));
}

static void text_as_a_json_string(void **state)
{
    struct buf out = {0};

    (void)state;
    assert_int_equal(json_text_add(&out, (struct span){"a\"\\\n\0\x7f\xc3\xa4", 8}), 0);
    assert_int_equal(json_text_add(&out, SPAN("")), 0);
    assert_int_equal(buf_add(&out, "", 1), 0);
    assert_string_equal(out.p, "\"a\\\"\\\\\\u000a\\u0000\\u007f\xc3\xa4\"\"\"");
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_this_machine),
        cmocka_unit_test(only_the_token_opens),
        cmocka_unit_test(browsers_and_other_names_stay_outside_whatever_token_they_bring),
        cmocka_unit_test(the_token_is_the_first_line_of_its_file),
        cmocka_unit_test(places),
        cmocka_unit_test(the_path_of_a_socket_has_a_limit),
        cmocka_unit_test(text_as_a_json_string),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
