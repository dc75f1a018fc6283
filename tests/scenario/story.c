/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a story's text. Not here: what its words mean (replay.c). Thread: any. */
#include "story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    char *p, *end;
    ptrdiff_t to_original;
    unsigned number;
    char *why;
};

static bool fail(struct reader *r, const char *why)
{
    snprintf(r->why, 256, "%s", why);
    return false;
}

static char *line_end(const struct reader *r)
{
    char *nl = memchr(r->p, '\n', (size_t)(r->end - r->p));

    return nl != NULL ? nl : r->end;
}

static bool read_quoted(struct reader *r, char *end, struct word *ret)
{
    char *out = r->p + 1, *p = out;

    ret->kind = WORD_TEXT;
    ret->text.p = out;
    for (; p < end && *p != '"'; ++p) {
        if (*p == '\\' && p + 1 < end) {
            ++p;
            *out++ = (char)(*p == 'n' ? '\n' : *p == 'r' ? '\r' : *p == 't' ? '\t' : *p);
        } else {
            *out++ = *p;
        }
    }
    if (p == end)
        return fail(r, "a quoted text without its end");
    ret->text.n = (size_t)(out - ret->text.p);
    r->p = p + 1;
    return true;
}

static bool read_json(struct reader *r, char *end, struct word *ret)
{
    bool is_quoted = false;
    int depth = 0;
    char *p = r->p;

    for (; p < end; ++p) {
        if (is_quoted) {
            if (*p == '\\')
                ++p;
            else if (*p == '"')
                is_quoted = false;
        } else if (*p == '"') {
            is_quoted = true;
        } else if (*p == '{' || *p == '[') {
            ++depth;
        } else if ((*p == '}' || *p == ']') && --depth == 0) {
            break;
        }
    }
    if (p >= end)
        return fail(r, "JSON without its end on this line");
    *ret = (struct word){WORD_JSON, {r->p, (size_t)(p + 1 - r->p)}};
    r->p = p + 1;
    return true;
}

/* <<WORD: the text is what follows this line, up to a line that is WORD. */
static bool read_lines(struct reader *r, char *end, struct word *ret)
{
    struct span mark = {r->p + 2, (size_t)(end - r->p - 2)};

    ret->kind = WORD_TEXT;
    ret->text.p = end < r->end ? end + 1 : end;
    for (r->p = (char *)ret->text.p; r->p < r->end; r->p = line_end(r) + 1) {
        ++r->number;
        if (span_eq((struct span){r->p, (size_t)(line_end(r) - r->p)}, mark)) {
            ret->text.n = (size_t)(r->p - ret->text.p);
            r->p = line_end(r);
            return true;
        }
    }
    return fail(r, "text after << without the line that ends it");
}

static bool read_line(struct reader *r, struct line *ret)
{
    char *end = line_end(r);

    *ret = (struct line){.number = r->number, .whole = span_trim((struct span){r->p + r->to_original, (size_t)(end - r->p)})};
    for (;;) {
        struct word *w = &ret->words[ret->count];

        while (r->p < end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\r'))
            ++r->p;
        if (r->p == end || *r->p == '#') {
            r->p = end;
            return true;
        }
        if (ret->count == LINE_WORDS_MAX)
            return fail(r, "too many words on one line");
        ++ret->count;
        if (*r->p == '"') {
            if (!read_quoted(r, end, w))
                return false;
        } else if (*r->p == '{' || *r->p == '[') {
            if (!read_json(r, end, w))
                return false;
        } else if (r->p + 2 < end && r->p[0] == '<' && r->p[1] == '<') {
            return read_lines(r, end, w);
        } else {
            w->kind = WORD_PLAIN;
            w->text.p = r->p;
            while (r->p < end && *r->p != ' ' && *r->p != '\t' && *r->p != '\r')
                ++r->p;
            w->text.n = (size_t)(r->p - w->text.p);
        }
    }
}

bool story_read(struct story *ret, char *text, size_t bytes, unsigned *ret_line, char *ret_why)
{
    struct reader r = {text, text + bytes, 0, 0, ret_why};
    size_t cap = 0;

    *ret = (struct story){.text = text, .original = malloc(bytes + 1), .bytes = bytes};
    if (ret->original == NULL)
        abort();
    memcpy(ret->original, text, bytes);
    r.to_original = ret->original - text;
    if (bytes == 0 || *text != '#') {
        *ret_line = 1;
        return fail(&r, "a story begins with its telling in plain words, as a comment");
    }
    while (r.p < r.end) {
        if (ret->count == cap) {
            cap = cap != 0 ? cap * 2 : 64;
            ret->lines = realloc(ret->lines, cap * sizeof(*ret->lines));
            if (ret->lines == NULL)
                abort();
        }
        ++r.number;
        if (!read_line(&r, &ret->lines[ret->count])) {
            *ret_line = ret->lines[ret->count].number;
            return false;
        }
        if (ret->lines[ret->count].count != 0)
            ++ret->count;
        ++r.p;
    }
    return true;
}

void story_done(struct story *s)
{
    free(s->text);
    free(s->original);
    free(s->lines);
    *s = (struct story){0};
}
