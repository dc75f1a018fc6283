/* SPDX-License-Identifier: Apache-2.0 */
/* The list of strings, read as RFC 9651 section 4.2 does: first the whole value, then, when nothing is wrong in it, once more to tell.
 * Always: a value that any other reader might see differently tells nothing. Thread: any. */
#include "groups.h"

struct input {
    const char *p, *end;
};

static bool is_at(const struct input *in, char c)
{
    return in->p < in->end && *in->p == c;
}

static bool take(struct input *in, char c)
{
    if (!is_at(in, c))
        return false;
    in->p++;
    return true;
}

static void skip_spaces(struct input *in)
{
    while (take(in, ' '))
        ;
}

static void skip_ows(struct input *in)
{
    while (is_at(in, ' ') || is_at(in, '\t'))
        in->p++;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_alpha(char c)
{
    return is_lower((char)(c | 0x20));
}

/* A string's characters go to text as far as they fit; *ret_n counts them all. */
static bool read_string(struct input *in, char text[CP_TAG_MAX_BYTES], size_t *ret_n)
{
    *ret_n = 0;
    if (!take(in, '"'))
        return false;
    while (in->p < in->end) {
        char c = *in->p++;

        if (c == '"')
            return true;
        if (c == '\\') {
            if (!is_at(in, '"') && !is_at(in, '\\'))
                return false;
            c = *in->p++;
        } else if (c < 0x20 || c > 0x7e) {
            return false;
        }
        if (*ret_n < CP_TAG_MAX_BYTES)
            text[*ret_n] = c;
        ++*ret_n;
    }
    return false;
}

static bool skip_number(struct input *in, bool is_date)
{
    size_t whole = 0, fraction = 0;

    take(in, '-');
    for (; in->p < in->end && is_digit(*in->p); in->p++)
        whole++;
    if (whole == 0 || whole > 15)
        return false;
    if (!is_at(in, '.'))
        return true;
    in->p++;
    for (; in->p < in->end && is_digit(*in->p); in->p++)
        fraction++;
    return !is_date && whole <= 12 && fraction >= 1 && fraction <= 3;
}

static bool is_token_char(char c)
{
    return is_alpha(c) || is_digit(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~:/", c) != NULL);
}

static bool skip_bytes(struct input *in)
{
    for (in->p++; in->p < in->end && (is_alpha(*in->p) || is_digit(*in->p) || strchr("+/=", *in->p) != NULL); in->p++) {
        if (*in->p == '\0')
            return false;
    }
    return take(in, ':');
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f');
}

/* %"..." of RFC 9651; that what it decodes to is UTF-8 is not looked at, because nothing here reads it. */
static bool skip_display_string(struct input *in)
{
    in->p++;
    if (!take(in, '"'))
        return false;
    while (in->p < in->end) {
        char c = *in->p++;

        if (c == '"')
            return true;
        if (c < 0x20 || c > 0x7e)
            return false;
        if (c != '%')
            continue;
        if (in->end - in->p < 2 || !is_hex(in->p[0]) || !is_hex(in->p[1]))
            return false;
        in->p += 2;
    }
    return false;
}

/* The value of a parameter: any bare item. */
static bool skip_item(struct input *in)
{
    char text[CP_TAG_MAX_BYTES];
    size_t n;

    if (in->p == in->end)
        return false;
    switch (*in->p) {
    case '"':
        return read_string(in, text, &n);
    case ':':
        return skip_bytes(in);
    case '%':
        return skip_display_string(in);
    case '@':
        in->p++;
        return skip_number(in, true);
    case '?':
        in->p++;
        return take(in, '0') || take(in, '1');
    default:
        break;
    }
    if (*in->p == '-' || is_digit(*in->p))
        return skip_number(in, false);
    if (*in->p != '*' && !is_alpha(*in->p))
        return false;
    while (in->p < in->end && is_token_char(*in->p))
        in->p++;
    return true;
}

static bool skip_parameters(struct input *in)
{
    while (take(in, ';')) {
        skip_spaces(in);
        if (in->p == in->end || !(is_lower(*in->p) || *in->p == '*'))
            return false;
        while (in->p < in->end && (is_lower(*in->p) || is_digit(*in->p) || (*in->p != '\0' && strchr("_-.*", *in->p) != NULL)))
            in->p++;
        if (take(in, '=') && !skip_item(in))
            return false;
    }
    return true;
}

/* Whether all of value is a list of strings. fn NULL: only looks. */
static bool read_list(struct span value, cp_tag_fn fn, void *ctx)
{
    struct input in = {value.p, value.p + value.n};
    char text[CP_TAG_MAX_BYTES];
    size_t n;

    for (;;) {
        if (!read_string(&in, text, &n) || !skip_parameters(&in))
            return false;
        if (fn != NULL && n <= sizeof(text) && cp_tag_is_valid((struct span){text, n}))
            fn(ctx, (struct span){text, n});
        skip_ows(&in);
        if (in.p == in.end)
            return true;
        if (!take(&in, ','))
            return false;
        skip_ows(&in);
    }
}

static struct span without_spaces(struct span value)
{
    while (value.n > 0 && value.p[0] == ' ') {
        value.p++;
        value.n--;
    }
    while (value.n > 0 && value.p[value.n - 1] == ' ')
        value.n--;
    return value;
}

void cp_groups_parse(struct span value, cp_tag_fn fn, void *ctx)
{
    struct span list = without_spaces(value);

    if (list.n > 0 && read_list(list, NULL, NULL))
        read_list(list, fn, ctx);
}
