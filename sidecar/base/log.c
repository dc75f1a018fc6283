/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines. Not here: which events are worth a line (their places), request outcome words (cachepolicy/words.def.h).
 * Always: one event is one line and one write, whatever bytes strangers put into it. Thread: any. */
#include "sidecar/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX 512
/* what a pipe takes as one, unmixed with other threads' lines */
#define LINE_MAX_BYTES PIPE_BUF

static enum log_format line_format = LOG_TEXT;
static enum log_level highest_level = LOG_INFO;

struct line {
    char bytes[LINE_MAX_BYTES];
    size_t n;
    bool is_full; /* something did not fit */
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
    /* room for the closing brace and the newline is always kept */
    if (n > sizeof(l->bytes) - 2 - l->n) {
        l->is_full = true;
        return;
    }
    memcpy(l->bytes + l->n, p, n);
    l->n += n;
}

/* Bytes of the UTF-8 character at p, 0 when there is none (RFC 3629). */
static size_t character_bytes(const unsigned char *p, size_t n)
{
    unsigned char low = 0x80, high = 0xbf; /* of the second byte */
    size_t bytes = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (bytes > n || (bytes > 1 && (p[1] < low || p[1] > high)))
        return 0;
    for (size_t i = 2; i < bytes; ++i)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return bytes;
}

/* Puts the character at p as it may stand in quotes into ret; *used: its bytes in p. Controls and line ends of any kind are escaped, and so is what is no
 * UTF-8: JSON may not have it, and terminals take some of it for commands. */
static size_t quote_character(const char *p, size_t n, char ret[8], size_t *used)
{
    const unsigned char *u = (const unsigned char *)p;
    unsigned escaped = 0;

    *used = character_bytes(u, n);
    if (*used == 0) {
        *used = 1;
        escaped = 0xfffd;
    } else if (*used == 1) {
        if (*p == '"' || *p == '\\') {
            ret[0] = '\\';
            ret[1] = *p;
            return 2;
        }
        if (u[0] >= 0x20 && u[0] != 0x7f) {
            ret[0] = *p;
            return 1;
        }
        escaped = u[0];
    } else if (u[0] == 0xc2 && u[1] < 0xa0) {
        escaped = u[1];
    } else if (u[0] == 0xe2 && u[1] == 0x80 && (u[2] == 0xa8 || u[2] == 0xa9)) {
        escaped = 0x2000 + (u[2] & 0x3f);
    } else {
        memcpy(ret, p, *used);
        return *used;
    }
    return (size_t)snprintf(ret, 8, "\\u%04x", escaped);
}

static void add_quoted(struct line *l, const char *p, size_t n)
{
    char quoted[8];
    size_t quoted_bytes, used;

    add(l, "\"", 1);
    for (size_t i = 0, total = 0; i < n; i += used, total += quoted_bytes) {
        quoted_bytes = quote_character(p + i, n - i, quoted, &used);
        if (total + quoted_bytes > TEXT_MAX)
            break;
        add(l, quoted, quoted_bytes);
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
        size_t before = l.n;

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
        if (l.is_full) {
            /* a field is whole or not there */
            l.n = before;
            l.is_full = false;
        }
    }
    if (line_format == LOG_JSON)
        l.bytes[l.n++] = '}';
    l.bytes[l.n++] = '\n';
    /* a full or closed stderr loses lines, never requests */
    written = write(STDERR_FILENO, l.bytes, l.n);
    (void)written;
    errno = saved_errno;
}
