/* SPDX-License-Identifier: Apache-2.0 */
/* A log that is kept. Always: a line is event, NUL, then key, NUL, value, NUL for each field. Thread: any, under one lock. */
#include "fake_log.h"

#include <h2o.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct buf *lines;
static size_t line_count, line_cap;
static bool prints, is_muted;

void fake_log_print(bool wanted)
{
    prints = wanted;
}

void fake_log_mute(void)
{
    is_muted = true;
}

void log_setup(enum log_format format, enum log_level level)
{
    (void)format;
    (void)level;
}

bool log_wants(enum log_level level)
{
    return !is_muted && level <= LOG_INFO;
}

static void add_text(struct buf *b, const char *p, size_t n)
{
    if (buf_add(b, p, n) != 0 || buf_add(b, "", 1) != 0)
        h2o_fatal("no memory");
}

void log_event(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
    struct buf line = {0};

    if (!log_wants(level))
        return;
    add_text(&line, event, strlen(event));
    for (size_t i = 0; i != count; ++i) {
        char number[24];

        if (fields[i].key == NULL)
            continue;
        add_text(&line, fields[i].key, strlen(fields[i].key));
        if (fields[i].text != NULL)
            add_text(&line, fields[i].text, fields[i].text_bytes);
        else
            add_text(&line, number, (size_t)snprintf(number, sizeof(number), "%" PRId64, fields[i].number));
    }
    pthread_mutex_lock(&mutex);
    if (line_count == line_cap) {
        line_cap = line_cap != 0 ? line_cap * 2 : 64;
        lines = h2o_mem_realloc(lines, line_cap * sizeof(*lines));
    }
    lines[line_count++] = line;
    if (prints) {
        bool is_value = false;

        printf("    log: ");
        for (const char *p = line.p; p != line.p + line.n; p += strlen(p) + 1) {
            printf("%s%s", p, p == line.p || is_value ? " " : "=");
            is_value = p != line.p && !is_value;
        }
        printf("\n");
    }
    pthread_mutex_unlock(&mutex);
}

size_t fake_log_count(void)
{
    size_t n;

    pthread_mutex_lock(&mutex);
    n = line_count;
    pthread_mutex_unlock(&mutex);
    return n;
}

static struct span line_of(size_t number)
{
    struct span s;

    pthread_mutex_lock(&mutex);
    s = buf_span(&lines[number]);
    pthread_mutex_unlock(&mutex);
    return s;
}

struct span fake_log_event(size_t line)
{
    return span_of(line_of(line).p);
}

struct span fake_log_field(size_t line, struct span key)
{
    struct span s = line_of(line);
    const char *p = s.p + strlen(s.p) + 1;

    while (p < s.p + s.n) {
        const char *value = p + strlen(p) + 1;

        if (span_eq(span_of(p), key))
            return span_of(value);
        p = value + strlen(value) + 1;
    }
    return SPAN_ABSENT;
}

void fake_log_done(void)
{
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i != line_count; ++i)
        buf_done(&lines[i]);
    free(lines);
    lines = NULL;
    line_count = line_cap = 0;
    pthread_mutex_unlock(&mutex);
}
