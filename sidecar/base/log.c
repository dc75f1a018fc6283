/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines. Not here: which events are worth a line (their places), request outcome words (cachepolicy/words.def.h).
 * Always: one event is one line and one write, whatever bytes strangers put into it. Thread: any. */
#include "sidecar/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX 512
#define LINE_MAX_BYTES 8192

static enum log_format line_format = LOG_TEXT;
static enum log_level highest_level = LOG_INFO;

struct line {
    char bytes[LINE_MAX_BYTES];
    size_t n;
};

void log_setup(enum log_format format, enum log_level level)
{
    line_format = format;
    highest_level = level;
}

bool log_wants(enum log_level level)
{
    return level <= highest_level;
}

static void add(struct line *l, const char *p, size_t n)
{
    /* room for the newline is always kept */
    if (n > sizeof(l->bytes) - 1 - l->n)
        n = sizeof(l->bytes) - 1 - l->n;
    memcpy(l->bytes + l->n, p, n);
    l->n += n;
}

static void add_quoted(struct line *l, const char *p, size_t n)
{
    if (n > TEXT_MAX)
        n = TEXT_MAX;
    add(l, "\"", 1);
    for (size_t i = 0; i != n; ++i) {
        unsigned char c = (unsigned char)p[i];
        char escape[8];

        if (c == '"' || c == '\\') {
            escape[0] = '\\';
            escape[1] = (char)c;
            add(l, escape, 2);
        } else if (c < 0x20 || c == 0x7f) {
            add(l, escape, (size_t)snprintf(escape, sizeof(escape), "\\u%04x", c));
        } else {
            add(l, p + i, 1);
        }
    }
    add(l, "\"", 1);
}

static bool is_plain(const char *p, size_t n)
{
    if (n == 0 || n > TEXT_MAX)
        return false;
    for (size_t i = 0; i != n; ++i)
        if ((unsigned char)p[i] <= ' ' || p[i] == '"' || p[i] == '\\' || p[i] == '=' || (unsigned char)p[i] >= 0x7f)
            return false;
    return true;
}

void log_event(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
    static const char *const level_words[] = {"error", "warn", "info", "debug"};
    int saved_errno = errno;
    struct line l = {.n = 0};
    struct timespec now;
    struct tm tm;
    char stamp[64], number[32];
    size_t stamp_bytes;
    ssize_t written;

    if (!log_wants(level))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    stamp_bytes = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    stamp_bytes += (size_t)snprintf(stamp + stamp_bytes, sizeof(stamp) - stamp_bytes, ".%03ldZ", now.tv_nsec / 1000000);

    if (line_format == LOG_JSON) {
        add(&l, "{\"time\":", 8);
        add_quoted(&l, stamp, stamp_bytes);
        add(&l, ",\"level\":", 9);
        add_quoted(&l, level_words[level], strlen(level_words[level]));
        add(&l, ",\"event\":", 9);
        add_quoted(&l, event, strlen(event));
    } else {
        add(&l, stamp, stamp_bytes);
        add(&l, " ", 1);
        add(&l, level_words[level], strlen(level_words[level]));
        add(&l, " ", 1);
        add(&l, event, strlen(event));
    }
    for (size_t i = 0; i != count; ++i) {
        const struct log_field *f = &fields[i];

        if (f->key == NULL)
            continue;
        if (line_format == LOG_JSON) {
            add(&l, ",", 1);
            add_quoted(&l, f->key, strlen(f->key));
            add(&l, ":", 1);
        } else {
            add(&l, " ", 1);
            add(&l, f->key, strlen(f->key));
            add(&l, "=", 1);
        }
        if (f->text == NULL)
            add(&l, number, (size_t)snprintf(number, sizeof(number), "%" PRId64, f->number));
        else if (line_format == LOG_TEXT && is_plain(f->text, f->text_bytes))
            add(&l, f->text, f->text_bytes);
        else
            add_quoted(&l, f->text, f->text_bytes);
    }
    if (line_format == LOG_JSON)
        add(&l, "}", 1);
    l.bytes[l.n++] = '\n';
    /* a full or closed stderr loses lines, never requests */
    written = write(STDERR_FILENO, l.bytes, l.n);
    (void)written;
    errno = saved_errno;
}
