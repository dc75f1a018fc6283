/* SPDX-License-Identifier: Apache-2.0 */
/* The loose reader. A container is skipped by counting brackets outside of strings, whatever they are.
 * Always: reads nothing outside of the span it was given, and every step moves on. Thread: any. */
#include "loose.h"

#include <errno.h>

#include "inside.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static const char *skip_blank(const char *p, const char *end)
{
    while (p < end && is_blank(*p))
        p++;
    return p;
}

/* Behind the string that begins at p, or end. Most of a large text is in strings, so they are not looked at byte by byte. */
static const char *skip_string(const char *p, const char *end)
{
    const char *start = p + 1, *quote;

    for (p = start; (quote = memchr(p, '"', (size_t)(end - p))) != NULL; p = quote + 1) {
        const char *escape = quote;

        while (escape > start && escape[-1] == '\\')
            escape--;
        if ((quote - escape) % 2 == 0)
            return quote + 1;
    }
    return end;
}

/* Behind the value that begins at p; p < end. */
static const char *skip_value(const char *p, const char *end)
{
    size_t depth = 0;

    while (p < end) {
        switch (*p) {
        case '"':
            p = skip_string(p, end);
            if (depth == 0)
                return p;
            continue;
        case '[':
        case '{':
            depth++;
            break;
        case ']':
        case '}':
            if (depth == 0)
                return p;
            if (--depth == 0)
                return p + 1;
            break;
        case ',':
        case ':':
            if (depth == 0)
                return p;
            break;
        default:
            break;
        }
        p++;
    }
    return end;
}

struct span loose_value(struct span text)
{
    const char *p = text.p, *end = text.p + text.n;

    if (text.n == 0)
        return SPAN("");
    if (text.n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        p += 3;
    p = skip_blank(p, end);
    return (struct span){p, (size_t)(end - p)};
}

bool loose_open(struct span value, char bracket, struct loose *ret)
{
    if (value.n == 0 || value.p[0] != bracket)
        return false;
    *ret = (struct loose){value.p + 1, value.p + value.n};
    return true;
}

bool loose_element(struct loose *inside, struct span *ret_value)
{
    const char *p = skip_blank(inside->p, inside->end), *next;

    while (p < inside->end && *p == ',')
        p = skip_blank(p + 1, inside->end);
    if (p == inside->end)
        return false;
    next = skip_value(p, inside->end);
    inside->p = next;
    *ret_value = span_trim((struct span){p, (size_t)(next - p)});
    return next > p;
}

bool loose_member(struct loose *inside, struct span *ret_name, struct span *ret_value)
{
    struct span name;
    const char *p;

    if (!loose_element(inside, &name) || !loose_string(name, ret_name))
        return false;
    p = skip_blank(inside->p, inside->end);
    if (p == inside->end || *p != ':')
        return false;
    inside->p = p + 1;
    return loose_element(inside, ret_value);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool loose_is(struct span raw, struct span text)
{
    const char *p = raw.p, *end = raw.p + raw.n;
    size_t at = 0;

    while (p < end) {
        char bytes[4];
        unsigned n = 1;

        if (*p == '\\')
            n = json_unescape(&p, end, bytes);
        else
            bytes[0] = *p++;
        for (unsigned i = 0; i < n; i++) {
            if (at == text.n || lower(bytes[i]) != text.p[at++])
                return false;
        }
    }
    return at == text.n;
}

bool loose_string(struct span value, struct span *ret_raw)
{
    if (value.n < 2 || value.p[0] != '"' || value.p[value.n - 1] != '"')
        return false;
    *ret_raw = (struct span){value.p + 1, value.n - 2};
    return true;
}

int loose_text(struct span raw, struct buf *scratch, struct span *ret)
{
    const char *p = raw.p, *end = raw.p + raw.n;

    if (raw.n == 0 || memchr(raw.p, '\\', raw.n) == NULL) {
        *ret = raw;
        return 0;
    }
    scratch->n = 0;
    /* decoding never lengthens, but what ends within an escape is anything */
    if (buf_reserve(scratch, raw.n + 4) < 0)
        return -ENOMEM;
    while (p < end) {
        if (*p == '\\')
            scratch->n += json_unescape(&p, end, scratch->p + scratch->n);
        else
            scratch->p[scratch->n++] = *p++;
    }
    *ret = buf_span(scratch);
    return 0;
}
