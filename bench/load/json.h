/* SPDX-License-Identifier: Apache-2.0 */
/* Finding one's way in JSON text that is known to be well made: spans into it, nothing decoded. For both ends of the benchmark; shares no code with what is measured.
 * A text that ends early gives an empty span, never a read behind its end. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <string.h>

struct json {
    const char *at; /* NULL: not there */
    const char *end;
};

static inline int json_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline const char *json_space(const char *p, const char *end)
{
    while (p < end && json_is_space(*p))
        p++;
    return p;
}

/* p is behind the opening quote; gives what is behind the closing one, or NULL. */
static inline const char *json_string_end(const char *p, const char *end)
{
    for (;;) {
        const char *quote = memchr(p, '"', (size_t)(end - p)), *back = quote;
        if (quote == NULL)
            return NULL;
        while (back > p && back[-1] == '\\')
            back--;
        if ((quote - back) % 2 == 0)
            return quote + 1;
        p = quote + 1;
    }
}

/* The end of the value that begins at p, or NULL. */
static inline const char *json_value_end(const char *p, const char *end)
{
    int depth = 0;

    while (p < end) {
        char c = *p++;
        if (c == '"') {
            p = json_string_end(p, end);
            if (p == NULL)
                return NULL;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        } else if (depth == 0) {
            while (p < end && *p != ',' && *p != '}' && *p != ']' && !json_is_space(*p))
                p++;
        }
        if (depth == 0)
            return p;
    }
    return NULL;
}

/* Steps through an object's members: *at is its first byte before the first call. 0: no more of them, or not JSON. */
static inline int json_next(const char **at, const char *end, struct json *ret_name, struct json *ret_value)
{
    const char *p = json_space(*at, end), *name_end, *value_end;

    if (p == end || (*p != '{' && *p != ','))
        return 0;
    p = json_space(p + 1, end);
    if (p == end || *p != '"')
        return 0;
    name_end = json_string_end(p + 1, end);
    if (name_end == NULL)
        return 0;
    *ret_name = (struct json){p + 1, name_end - 1};
    p = json_space(name_end, end);
    if (p == end || *p != ':')
        return 0;
    p = json_space(p + 1, end);
    value_end = json_value_end(p, end);
    if (value_end == NULL)
        return 0;
    *ret_value = (struct json){p, value_end};
    *at = value_end;
    return 1;
}

static inline int json_is(struct json value, const char *text)
{
    size_t n = strlen(text);
    return value.at != NULL && (size_t)(value.end - value.at) == n && memcmp(value.at, text, n) == 0;
}

static inline struct json json_member(struct json object, const char *name)
{
    struct json member, value;
    const char *at = object.at;

    if (at != NULL)
        while (json_next(&at, object.end, &member, &value))
            if (json_is(member, name))
                return value;
    return (struct json){NULL, NULL};
}

/* What a list begins with; nothing when it is empty or no list. */
static inline struct json json_first(struct json list)
{
    const char *p, *end;

    if (list.at == NULL || list.end - list.at < 2 || *list.at != '[')
        return (struct json){NULL, NULL};
    p = json_space(list.at + 1, list.end);
    end = p == list.end || *p == ']' ? NULL : json_value_end(p, list.end);
    return end == NULL ? (struct json){NULL, NULL} : (struct json){p, end};
}

/* The bytes between the quotes, as they lie there. */
static inline struct json json_text(struct json value)
{
    if (value.at == NULL || value.end - value.at < 2 || *value.at != '"')
        return (struct json){NULL, NULL};
    return (struct json){value.at + 1, value.end - 1};
}

#endif
