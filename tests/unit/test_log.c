/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/base/log.c as it arrives at the other end of stderr: one event, one write, one line, whatever strangers send. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "sidecar/base/log.h"

/* Packets: each read gets exactly one write. */
static int saved_stderr, ends[2];

static int open_pipe(void **state)
{
    (void)state;
    if (pipe2(ends, O_DIRECT | O_NONBLOCK | O_CLOEXEC) != 0)
        return -1;
    saved_stderr = dup(STDERR_FILENO);
    return saved_stderr < 0;
}

static int close_pipe(void **state)
{
    (void)state;
    close(saved_stderr);
    close(ends[0]);
    close(ends[1]);
    log_setup(LOG_TEXT, LOG_INFO);
    return 0;
}

static char line[65536];

/* The one write of an event; its length without the newline, 0 when there was none. The asserts run with stderr back in place. */
static size_t write_of(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
    ssize_t n, more;

    dup2(ends[1], STDERR_FILENO);
    log_event(level, event, fields, count);
    dup2(saved_stderr, STDERR_FILENO);
    n = read(ends[0], line, sizeof(line) - 1);
    more = n > 0 ? read(ends[0], line + n, 1) : -1;
    if (n <= 0)
        return 0;
    assert_int_equal(more, -1);
    assert_int_equal(line[n - 1], '\n');
    assert_ptr_equal(memchr(line, '\n', (size_t)n), line + n - 1);
    line[n - 1] = '\0';
    return (size_t)n - 1;
}

#define WRITE(level, event, ...)                                                                                                   \
    write_of(level, event, (const struct log_field[]){__VA_ARGS__},                                                                \
             sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))
#define TEXT(key, literal) LOG_TEXT_FIELD(key, literal, sizeof(literal) - 1)

/* "2026-01-31T12:34:56.789Z" */
static size_t stamp_at(const char *p)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";

    for (size_t i = 0; i < sizeof(form) - 1; i++)
        if (form[i] == 'd' ? p[i] < '0' || p[i] > '9' : p[i] != form[i])
            fail_msg("no time at the start of: %s", p);
    return sizeof(form) - 1;
}

/* A text line without its time. */
static const char *text_line(void)
{
    return line + stamp_at(line) + 1;
}

/* A JSON line after its time: what follows {"time":"…", */
static const char *json_line(void)
{
    assert_int_equal(strncmp(line, "{\"time\":\"", 9), 0);
    return line + 9 + stamp_at(line + 9) + 2;
}

static void a_text_line_has_time_level_event_and_fields(void **state)
{
    (void)state;
    log_setup(LOG_TEXT, LOG_DEBUG);
    assert_int_not_equal(
        WRITE(LOG_WARN, "request", TEXT("method", "tools/call"), LOG_INT_FIELD("ms", -12), TEXT("name", "get weather")), 0);
    assert_string_equal(text_line(), "warn request method=tools/call ms=-12 name=\"get weather\"");
    assert_int_equal(line[24], ' ');
    assert_int_not_equal(write_of(LOG_DEBUG, "bare", NULL, 0), 0);
    assert_string_equal(text_line(), "debug bare");
}

static void a_json_line_has_the_same(void **state)
{
    (void)state;
    log_setup(LOG_JSON, LOG_INFO);
    WRITE(LOG_ERROR, "request", TEXT("method", "tools/call"), LOG_INT_FIELD("ms", INT64_MIN), TEXT("name", "a \"b\" \\c"));
    assert_string_equal(json_line(),
                        "\"level\":\"error\",\"event\":\"request\",\"method\":\"tools/call\",\"ms\":-9223372036854775808,"
                        "\"name\":\"a \\\"b\\\" \\\\c\"}");
    write_of(LOG_INFO, "bare", NULL, 0);
    assert_string_equal(json_line(), "\"level\":\"info\",\"event\":\"bare\"}");
}

static void lower_levels_are_not_written(void **state)
{
    (void)state;
    for (int highest = LOG_ERROR; highest <= LOG_DEBUG; highest++) {
        log_setup(LOG_TEXT, (enum log_level)highest);
        for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
            assert_int_equal(log_wants((enum log_level)level), level <= highest);
            assert_int_equal(write_of((enum log_level)level, "x", NULL, 0) != 0, level <= highest);
        }
    }
}

static void fields_without_a_key_are_left_out(void **state)
{
    (void)state;
    WRITE(LOG_INFO, "x", TEXT(NULL, "no"), TEXT("a", ""), LOG_INT_FIELD(NULL, 7), LOG_TEXT_FIELD("b", (char *)NULL, 0));
    assert_string_equal(text_line(), "info x a=\"\" b=\"\"");
    log_setup(LOG_JSON, LOG_INFO);
    WRITE(LOG_INFO, "x", TEXT(NULL, "no"), TEXT("a", ""), LOG_INT_FIELD(NULL, 7), LOG_TEXT_FIELD("b", (char *)NULL, 0));
    assert_string_equal(json_line(), "\"level\":\"info\",\"event\":\"x\",\"a\":\"\",\"b\":\"\"}");
}

#define BYTES(literal)                                                                                                             \
    {                                                                                                                              \
        (literal), sizeof(literal) - 1                                                                                             \
    }

static void strangers_cannot_forge_a_line_or_a_field(void **state)
{
    static const struct {
        struct span text;
        const char *wanted; /* both formats */
    } cases[] = {
        {BYTES("a\n2026-01-01T00:00:00.000Z info request outcome=hit"),
         "\"a\\u000a2026-01-01T00:00:00.000Z info request outcome=hit\""},
        {BYTES("a\r\nb"), "\"a\\u000d\\u000ab\""},
        {BYTES("a outcome=hit"), "\"a outcome=hit\""},
        {BYTES("a=b"), "\"a=b\""},
        {BYTES("a\" outcome=\"hit"), "\"a\\\" outcome=\\\"hit\""},
        {BYTES("a\\"), "\"a\\\\\""},
        {BYTES("\\\" x=y"), "\"\\\\\\\" x=y\""},
        {BYTES("a\0b"), "\"a\\u0000b\""},
        {BYTES("\x1b[2J\x1b]0;t\a"), "\"\\u001b[2J\\u001b]0;t\\u0007\""},
        {BYTES("a\tb\x7f"), "\"a\\u0009b\\u007f\""},
        {BYTES("\"},{\"outcome\":\"hit"), "\"\\\"},{\\\"outcome\\\":\\\"hit\""},
        /* letters of any script stay */
        {BYTES("na\xc3\xafve \xe4\xb8\xad \xf0\x9f\x98\x80"), "\"na\xc3\xafve \xe4\xb8\xad \xf0\x9f\x98\x80\""},
        /* line ends and controls beyond ASCII, for readers that honour them */
        {BYTES("a\xc2\x85"
               "b\xe2\x80\xa8"
               "c\xe2\x80\xa9"
               "d\xc2\x9b"
               "2J"),
         "\"a\\u0085b\\u2028c\\u2029d\\u009b2J\""},
        /* bytes that are no UTF-8: raw C1 controls, lone, overlong, surrogate, beyond U+10FFFF, cut short */
        {BYTES("\x9b"
               "2J"),
         "\"\\ufffd2J\""},
        {BYTES("a\xff\xfe"), "\"a\\ufffd\\ufffd\""},
        {BYTES("\xc0\xaf"), "\"\\ufffd\\ufffd\""},
        {BYTES("\xe0\x80\xaf"), "\"\\ufffd\\ufffd\\ufffd\""},
        {BYTES("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\""},
        {BYTES("\xf4\x90\x80\x80"), "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {BYTES("\xe4\xb8"), "\"\\ufffd\\ufffd\""},
        {BYTES("\xe4\xb8\""), "\"\\ufffd\\ufffd\\\"\""},
        {BYTES("\xc3\n"), "\"\\ufffd\\u000a\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct span text = heap_span(cases[i].text);
        char wanted[512];

        log_setup(LOG_TEXT, LOG_INFO);
        WRITE(LOG_INFO, "x", LOG_TEXT_FIELD("name", text.p, text.n), LOG_INT_FIELD("ms", 1));
        snprintf(wanted, sizeof(wanted), "info x name=%s ms=1", cases[i].wanted);
        assert_string_equal(text_line(), wanted);
        log_setup(LOG_JSON, LOG_INFO);
        WRITE(LOG_INFO, "x", LOG_TEXT_FIELD("name", text.p, text.n), LOG_INT_FIELD("ms", 1));
        snprintf(wanted, sizeof(wanted), "\"level\":\"info\",\"event\":\"x\",\"name\":%s,\"ms\":1}", cases[i].wanted);
        assert_string_equal(json_line(), wanted);
        free((char *)text.p);
    }
}

/* The value behind key= or "key":, up to its closing quote; fails when there is no such end. */
static struct span quoted_value(const char *key)
{
    const char *p = strstr(line, key);
    struct span value;

    assert_non_null(p);
    p += strlen(key);
    assert_int_equal(*p, '"');
    value.p = ++p;
    for (; *p != '"'; p += *p == '\\' ? 2 : 1)
        assert_int_not_equal(*p, '\0');
    value.n = (size_t)(p - value.p);
    return value;
}

static void long_texts_are_cut_between_characters(void **state)
{
    /* one byte, an escape of two, one of six, two and four bytes of UTF-8 */
    static const struct span units[] = {BYTES("x"),    BYTES("\""),       BYTES("\0"),
                                        BYTES("\xff"), BYTES("\xc3\xa9"), BYTES("\xf0\x9f\x98\x80")};

    (void)state;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        for (size_t shift = 0; shift < 6; shift++) {
            struct buf b = {0};
            struct span value;

            assert_int_equal(buf_add(&b, "aaaaaa", shift), 0);
            while (b.n < 3000)
                assert_int_equal(buf_add_span(&b, units[i]), 0);
            for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
                log_setup((enum log_format)format, LOG_INFO);
                WRITE(LOG_INFO, "x", LOG_TEXT_FIELD("name", b.p, b.n), LOG_INT_FIELD("ms", 1));
                value = quoted_value(format == LOG_TEXT ? "name=" : "\"name\":");
                assert_in_range(value.n, 512 - 5, 512);
                assert_string_equal(value.p + value.n, format == LOG_TEXT ? "\" ms=1" : "\",\"ms\":1}");
                /* no half escape and no half character at the end */
                if (units[i].n > 1)
                    assert_memory_equal(value.p + value.n - units[i].n, units[i].p, units[i].n);
                else if (units[i].p[0] == '\0')
                    assert_memory_equal(value.p + value.n - 6, "\\u0000", 6);
            }
            buf_done(&b);
        }
    }
}

static void a_text_of_just_the_limit_is_whole(void **state)
{
    char text[513];

    (void)state;
    memset(text, 'x', sizeof(text));
    WRITE(LOG_INFO, "x", LOG_TEXT_FIELD("name", text, 512));
    assert_int_equal(strlen(strstr(line, "name=") + 5), 512);
    /* cut, and quoted to show it */
    WRITE(LOG_INFO, "x", LOG_TEXT_FIELD("name", text, 513));
    assert_int_equal(quoted_value("name=").n, 512);
}

static void many_long_fields_never_break_the_line(void **state)
{
    char text[600];
    struct log_field fields[64];
    const char *p;

    (void)state;
    memset(text, '\n', sizeof(text));
    for (size_t i = 0; i < 64; i++)
        fields[i] = i % 2 == 0 ? LOG_TEXT_FIELD("long", text, sizeof(text)) : LOG_INT_FIELD("ms", (int64_t)i);
    for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
        size_t n, whole = 0;

        log_setup((enum log_format)format, LOG_INFO);
        n = write_of(LOG_INFO, "x", fields, 64);
        /* a write that a pipe takes as one, among those of other threads */
        assert_in_range(n, 3000, PIPE_BUF - 1);
        for (p = line; (p = strstr(p, "long")) != NULL; p++)
            whole++;
        assert_in_range(whole, 5, 7);
        /* fields that still fit behind one that does not are there, the last one too */
        assert_non_null(strstr(line, format == LOG_TEXT ? " ms=63" : ",\"ms\":63}"));
        if (format == LOG_JSON)
            assert_int_equal(line[n - 1], '}');
        for (p = line, whole = 0; *p != '\0'; p++)
            whole += *p == '"';
        assert_int_equal(whole % 2, 0);
    }
    /* and full to the brim: no length breaks the end */
    for (size_t last = 0; last < 600; last++) {
        log_setup(LOG_JSON, LOG_INFO);
        memset(text, 'x', sizeof(text));
        for (size_t i = 0; i < 8; i++)
            fields[i] = LOG_TEXT_FIELD("k", text, i < 7 ? 512 : last);
        assert_int_equal(line[write_of(LOG_INFO, "x", fields, 8) - 1], '}');
    }
}

static void errno_is_kept(void **state)
{
    int seen;

    (void)state;
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    ends[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    errno = EXDEV;
    /* the write fails: nobody reads any more, and SIGPIPE is ignored as in serve */
    signal(SIGPIPE, SIG_IGN);
    log_event(LOG_INFO, "x", NULL, 0);
    seen = errno;
    dup2(saved_stderr, STDERR_FILENO);
    assert_int_equal(seen, EXDEV);
}

static void a_full_pipe_loses_lines_and_blocks_nobody(void **state)
{
    char text[500];
    size_t lines = 0;

    (void)state;
    memset(text, 'x', sizeof(text));
    dup2(ends[1], STDERR_FILENO);
    for (int i = 0; i < 1000; i++)
        LOG(LOG_INFO, "x", LOG_TEXT_FIELD("name", text, sizeof(text)));
    dup2(saved_stderr, STDERR_FILENO);
    for (ssize_t n; (n = read(ends[0], line, sizeof(line))) > 0; lines++)
        assert_int_equal(line[n - 1], '\n');
    assert_in_range(lines, 1, 999);
}

#define WITH_PIPE(test_) cmocka_unit_test_setup_teardown(test_, open_pipe, close_pipe)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PIPE(a_text_line_has_time_level_event_and_fields),
        WITH_PIPE(a_json_line_has_the_same),
        WITH_PIPE(lower_levels_are_not_written),
        WITH_PIPE(fields_without_a_key_are_left_out),
        WITH_PIPE(strangers_cannot_forge_a_line_or_a_field),
        WITH_PIPE(long_texts_are_cut_between_characters),
        WITH_PIPE(a_text_of_just_the_limit_is_whole),
        WITH_PIPE(many_long_fields_never_break_the_line),
        WITH_PIPE(errno_is_kept),
        WITH_PIPE(a_full_pipe_loses_lines_and_blocks_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
