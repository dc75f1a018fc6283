/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/settings.c: flags before environment before defaults, and a sentence for whoever mistypes. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#include "sidecar/settings.h"

#define FLAGS(...) ((char *[]){__VA_ARGS__, NULL})

extern char **environ;

static struct settings settings;
static struct cp_error error;

static int clean(void **state)
{
    (void)state;
    error = (struct cp_error){.text = ""};
    /* nothing of the machine's own environment */
    for (bool again = true; again;) {
        again = false;
        for (char **e = environ; *e != NULL; e++)
            if (strncmp(*e, "MCPCACHED_", 10) == 0) {
                char name[128];

                snprintf(name, sizeof(name), "%.*s", (int)strcspn(*e, "="), *e);
                unsetenv(name);
                again = true;
                break;
            }
    }
    return 0;
}

static int done(void **state)
{
    settings_done(&settings);
    return clean(state);
}

static int parse(char **flags)
{
    int argc = 0;

    while (flags[argc] != NULL)
        argc++;
    return settings_parse(&settings, argc, flags, &error);
}

static void without_flags_the_defaults_stand(void **state)
{
    (void)state;
    assert_int_equal(settings_parse(&settings, 0, NULL, &error), 0);
    assert_string_equal(settings.listen, "127.0.0.1:8080");
    assert_string_equal(settings.upstream, "");
    assert_string_equal(settings.policy, "");
    assert_int_equal(settings.store_size_bytes, 256 * 1024 * 1024);
    assert_int_equal(settings.threads, 0);
    assert_int_equal(settings.allow_origin.count, 0);
    assert_int_equal(settings.connect_timeout_ms, 5000);
    assert_int_equal(settings.drain_ms, 5000);
    assert_int_equal(settings.max_flights, 4096);
    assert_int_equal(settings.max_waiters, 1024);
    assert_int_equal(settings.max_refreshes, 16);
    assert_string_equal(settings.log_format, "text");
    assert_string_equal(error.text, "");
}

static void a_value_follows_its_flag_or_its_equals_sign(void **state)
{
    (void)state;
    assert_int_equal(parse(FLAGS("--upstream", "http://a/?b=c", "--listen=[::1]:0", "--policy=a=b", "--store-size", "64MiB",
                                 "--threads=3", "--drain", "250ms", "--log=")),
                     0);
    assert_string_equal(settings.upstream, "http://a/?b=c");
    assert_string_equal(settings.listen, "[::1]:0");
    assert_string_equal(settings.policy, "a=b");
    assert_int_equal(settings.store_size_bytes, 64 * 1024 * 1024);
    assert_int_equal(settings.threads, 3);
    assert_int_equal(settings.drain_ms, 250);
    assert_string_equal(settings.log_format, "");
}

static void limits_of_what_is_shared_are_numbers(void **state)
{
    (void)state;
    setenv("MCPCACHED_MAX_REFRESHES", "0", 1);
    assert_int_equal(parse(FLAGS("--max-flights", "16777216", "--max-waiters=0")), 0);
    assert_int_equal(settings.max_flights, 16777216);
    assert_int_equal(settings.max_waiters, 0);
    assert_int_equal(settings.max_refreshes, 0);
}

static void the_last_of_a_repeated_flag_counts(void **state)
{
    (void)state;
    assert_int_equal(parse(FLAGS("--listen", "a:1", "--listen", "b:2", "--threads", "1", "--threads", "2")), 0);
    assert_string_equal(settings.listen, "b:2");
    assert_int_equal(settings.threads, 2);
}

static void the_environment_fills_what_no_flag_said(void **state)
{
    (void)state;
    setenv("MCPCACHED_LISTEN", "env:1", 1);
    setenv("MCPCACHED_UPSTREAM", "http://env/", 1);
    setenv("MCPCACHED_STORE_SIZE", "8MiB", 1);
    setenv("MCPCACHED_FIRST_BYTE_TIMEOUT", "1h30m", 1);
    setenv("MCPCACHED_LOG", "", 1);
    setenv("MCPCACHED_UNHEARD_OF", "x", 1);
    setenv("MCPCACHED_STORE_SIZE_BYTES", "1", 1);
    assert_int_equal(parse(FLAGS("--listen", "flag:1", "--threads", "0")), 0);
    assert_string_equal(settings.listen, "flag:1");
    assert_string_equal(settings.upstream, "http://env/");
    assert_int_equal(settings.store_size_bytes, 8 * 1024 * 1024);
    assert_int_equal(settings.first_byte_timeout_ms, 90 * 60 * 1000);
    /* an empty variable is one that is not set */
    assert_string_equal(settings.log_format, "text");
}

static void a_flag_hides_a_bad_environment(void **state)
{
    (void)state;
    setenv("MCPCACHED_THREADS", "many", 1);
    assert_int_equal(parse(FLAGS("--threads", "2")), 0);
    assert_int_equal(settings.threads, 2);
}

static void lists_grow_by_flag_and_by_comma(void **state)
{
    (void)state;
    setenv("MCPCACHED_ALLOW_ORIGIN", "https://env", 1);
    assert_int_equal(parse(FLAGS("--allow-origin", "https://a", "--allow-origin= https://b ,,https://c,")), 0);
    assert_int_equal(settings.allow_origin.count, 3);
    assert_string_equal(settings.allow_origin.items[0], "https://a");
    assert_string_equal(settings.allow_origin.items[1], "https://b");
    assert_string_equal(settings.allow_origin.items[2], "https://c");
    settings_done(&settings);
    assert_int_equal(parse(FLAGS("--threads", "1")), 0);
    assert_int_equal(settings.allow_origin.count, 1);
    assert_string_equal(settings.allow_origin.items[0], "https://env");
    settings_done(&settings);
    assert_int_equal(parse(FLAGS("--allow-origin", " , ")), 0);
    assert_int_equal(settings.allow_origin.count, 0);
}

static void help_is_asked_for(void **state)
{
    (void)state;
    assert_int_equal(parse(FLAGS("--help")), 1);
    settings_done(&settings);
    assert_int_equal(parse(FLAGS("--listen", "a:1", "-h", "--unheard-of")), 1);
}

static void mistakes_are_told_in_one_sentence(void **state)
{
    static const struct {
        const char *flags[3];
        const char *says, *cure;
    } cases[] = {
        {{"--unheard-of", "x"}, "'--unheard-of'", "--help"},
        {{"--unheard-of=x"}, "'--unheard-of=x'", "--help"},
        {{"--"}, "'--'", "--help"},
        {{"--=x"}, "'--=x'", "--help"},
        {{"--liste", "x"}, "'--liste'", "--help"},
        {{"--listens", "x"}, "'--listens'", "--help"},
        {{"--Listen", "x"}, "'--Listen'", "--help"},
        {{"--store_size", "8MiB"}, "'--store_size'", "--help"},
        {{"-l", "x"}, "'-l'", "--help"},
        {{"http://127.0.0.1/mcp"}, "'http://127.0.0.1/mcp'", "--help"},
        {{""}, "''", "--help"},
        {{"--listen"}, "--listen needs a value", "--listen ADDR:PORT"},
        {{"--threads"}, "--threads needs a value", "--threads N"},
        {{"--threads", "many"}, "--threads: 'many'", "0 to 1024"},
        {{"--threads", ""}, "--threads: ''", "0 to 1024"},
        {{"--threads", "-1"}, "--threads: '-1'", "0 to 1024"},
        {{"--threads", "1025"}, "--threads: '1025'", "0 to 1024"},
        {{"--threads", "4 "}, "--threads: '4 '", "0 to 1024"},
        {{"--threads", " 4"}, "--threads: ' 4'", "0 to 1024"},
        {{"--threads", "+4"}, "--threads: '+4'", "0 to 1024"},
        {{"--threads", " -18446744073709551612"}, "--threads", "0 to 1024"},
        {{"--threads", "0x4"}, "--threads: '0x4'", "0 to 1024"},
        {{"--threads", "99999999999999999999999"}, "--threads", "0 to 1024"},
        {{"--max-flights", "all"}, "--max-flights: 'all'", "0 to 16777216"},
        {{"--max-waiters", "16777217"}, "--max-waiters: '16777217'", "0 to 16777216"},
        {{"--max-refreshes", "-1"}, "--max-refreshes: '-1'", "0 to 16777216"},
        {{"--drain", "5"}, "--drain: '5'", "5s"},
        {{"--drain=5 s"}, "--drain: '5 s'", "5s"},
        {{"--drain", ""}, "--drain: ''", "5s"},
        {{"--drain", "-5s"}, "--drain: '-5s'", "5s"},
        {{"--drain", "9999999999h"}, "--drain", "5s"},
        {{"--store-size", "big"}, "--store-size: 'big'", "256MiB"},
        {{"--store-size", "-1"}, "--store-size: '-1'", "256MiB"},
        {{"--store-size", "1.5GiB"}, "--store-size: '1.5GiB'", "256MiB"},
        {{"--store-size", "99999999999TiB"}, "--store-size", "256MiB"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *flags[3] = {(char *)cases[i].flags[0], (char *)cases[i].flags[1], NULL};

        error.text[0] = '\0';
        if (parse(flags) != -EINVAL)
            fail_msg("accepted: %s %s", flags[0], flags[1] != NULL ? flags[1] : "");
        if (strstr(error.text, cases[i].says) == NULL || strstr(error.text, cases[i].cure) == NULL ||
            strchr(error.text, '\n') != NULL)
            fail_msg("%s %s: %s", flags[0], flags[1] != NULL ? flags[1] : "", error.text);
        settings_done(&settings);
    }
}

static void a_bad_environment_is_named_as_such(void **state)
{
    static const struct {
        const char *name, *value, *says;
    } cases[] = {
        {"MCPCACHED_THREADS", "many", "MCPCACHED_THREADS: 'many'"},
        {"MCPCACHED_STORE_SIZE", "big", "MCPCACHED_STORE_SIZE: 'big'"},
        {"MCPCACHED_CONNECT_TIMEOUT", "soon", "MCPCACHED_CONNECT_TIMEOUT: 'soon'"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        setenv(cases[i].name, cases[i].value, 1);
        assert_int_equal(settings_parse(&settings, 0, NULL, &error), -EINVAL);
        if (strstr(error.text, cases[i].says) == NULL)
            fail_msg("%s", error.text);
        unsetenv(cases[i].name);
        settings_done(&settings);
    }
}

static void a_long_value_does_not_push_the_cure_out(void **state)
{
    static const struct {
        const char *flag, *cure;
    } cases[] = {{"--threads", "0 to 1024"}, {"--drain", "5s"}, {"--store-size", "256MiB"}, {NULL, "--help"}};
    char longer[5000];

    (void)state;
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *flags[3] = {(char *)cases[i].flag, longer, NULL};

        if (parse(cases[i].flag != NULL ? flags : flags + 1) != -EINVAL || strstr(error.text, cases[i].cure) == NULL)
            fail_msg("%s: %s", cases[i].flag != NULL ? cases[i].flag : "-", error.text);
        settings_done(&settings);
    }
    memcpy(longer, "--", 2);
    assert_int_equal(parse(FLAGS(longer)), -EINVAL);
    assert_non_null(strstr(error.text, "--help"));
}

static void help_tells_of_every_setting(void **state)
{
    static const char *const flags[] = {
#define SETTING(field, flag_, type_, default_, argument_, text_) flag_,
#include "sidecar/settings.def.h"
#undef SETTING
    };
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    assert_non_null(out);
    settings_help(out);
    assert_int_equal(fclose(out), 0);
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        char words[64];

        snprintf(words, sizeof(words), "  --%s ", flags[i]);
        if (strstr(text, words) == NULL)
            fail_msg("not in the help: %s", flags[i]);
    }
    assert_non_null(strstr(text, "[default: 127.0.0.1:8080]"));
    assert_non_null(strstr(text, "[env: MCPCACHED_STORE_SIZE]"));
    free(text);
}

static void nothing_is_freed_twice(void **state)
{
    (void)state;
    assert_int_equal(parse(FLAGS("--allow-origin", "a,b", "--listen", "c:1")), 0);
    settings_done(&settings);
    assert_null(settings.listen);
    assert_null(settings.allow_origin.items);
    settings_done(&settings);
}

#define CLEAN(test_) cmocka_unit_test_setup_teardown(test_, clean, done)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLEAN(without_flags_the_defaults_stand),
        CLEAN(a_value_follows_its_flag_or_its_equals_sign),
        CLEAN(limits_of_what_is_shared_are_numbers),
        CLEAN(the_last_of_a_repeated_flag_counts),
        CLEAN(the_environment_fills_what_no_flag_said),
        CLEAN(a_flag_hides_a_bad_environment),
        CLEAN(lists_grow_by_flag_and_by_comma),
        CLEAN(help_is_asked_for),
        CLEAN(mistakes_are_told_in_one_sentence),
        CLEAN(a_bad_environment_is_named_as_such),
        CLEAN(a_long_value_does_not_push_the_cure_out),
        CLEAN(help_tells_of_every_setting),
        CLEAN(nothing_is_freed_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
