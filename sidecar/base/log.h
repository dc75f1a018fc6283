/* SPDX-License-Identifier: Apache-2.0 */
/* One line per event on stderr, as text (key=value) or JSON. Never bodies, credentials or raw principals.
 * Levels: error = the operator acts, warn = we coped, info = happened, debug = for developers.
 * Thread: any; a line is one write(2). */
#ifndef MCPCACHED_BASE_LOG_H
#define MCPCACHED_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level {
    LOG_ERROR,
    LOG_WARN,
    LOG_INFO,
    LOG_DEBUG,
};

enum log_format {
    LOG_TEXT,
    LOG_JSON,
};

struct log_field {
    const char *key;  /* NULL: the field is left out */
    const char *text; /* NULL: number is the value */
    size_t text_bytes;
    int64_t number;
};

/* Fields; bytes in texts are escaped as needed (controls, line ends of any script; what is no UTF-8 becomes U+FFFD), so strangers cannot forge lines. */
#define LOG_TEXT_FIELD(key_, p_, n_)                                                                                               \
    (struct log_field)                                                                                                             \
    {                                                                                                                              \
        .key = (key_), .text = (p_) != NULL ? (p_) : "", .text_bytes = (n_)                                                        \
    }
#define LOG_INT_FIELD(key_, number_)                                                                                               \
    (struct log_field)                                                                                                             \
    {                                                                                                                              \
        .key = (key_), .number = (number_)                                                                                         \
    }

/* Before the first thread. */
void log_setup(enum log_format format, enum log_level level);
bool log_wants(enum log_level level);
/* Texts are cut at 512 bytes, escapes counted; a field that the line (4096 bytes, what a pipe takes as one) has no room for is left out. Keeps errno. */
void log_event(enum log_level level, const char *event, const struct log_field *fields, size_t count);

#define LOG(level, event, ...)                                                                                                     \
    do {                                                                                                                           \
        const struct log_field fields_[] = {__VA_ARGS__};                                                                          \
        log_event(level, event, fields_, sizeof(fields_) / sizeof(fields_[0]));                                                    \
    } while (0)

#endif
