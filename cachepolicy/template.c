/* SPDX-License-Identifier: Apache-2.0 */
/* Templates: "account:{/address}" cut once into literal pieces and pointers, then filled from the arguments of each call.
 * Not here: pointers themselves (pointer.c), what a tag or a subscription is.
 * Always: an expansion is all or nothing, so a call without the argument has no half-made tag. Thread: a parsed template is immutable. */
#include "template.h"

#include <errno.h>
#include <stdlib.h>

#define POINTERS_MAX 16

static int say(struct cp_error *reterr, const char *sentence)
{
    cp_error_set(reterr, "", 0, 0, "%s", sentence);
    return -EINVAL;
}

/* Appends one piece; t->pieces has room for it. */
static int add_pointer(struct cp_template *t, struct span text, struct cp_error *reterr)
{
    if (text.n == 0 || text.p[0] != '/')
        return say(reterr, "'{' opens a JSON Pointer into the arguments and must be followed by '/', as in {/id}");
    if (memchr(text.p, '{', text.n) != NULL)
        return say(reterr, "a '{' stands inside another '{'");
    int r = cp_pointer_parse(text, &t->pieces[t->count].pointer, reterr);
    if (r == 0)
        t->count++;
    return r;
}

static int cut(struct cp_template *t, struct span text, struct cp_error *reterr)
{
    for (size_t at = 0; at < text.n;) {
        const char *rest = text.p + at;
        size_t rest_n = text.n - at;
        if (*rest == '{') {
            const char *end = memchr(rest, '}', rest_n);
            if (end == NULL)
                return say(reterr, "a '{' is not closed by '}'");
            int r = add_pointer(t, (struct span){rest + 1, (size_t)(end - rest) - 1}, reterr);
            if (r < 0)
                return r;
            at += (size_t)(end - rest) + 1;
            continue;
        }
        const char *brace = memchr(rest, '{', rest_n);
        size_t n = brace != NULL ? (size_t)(brace - rest) : rest_n;
        if (memchr(rest, '}', n) != NULL)
            return say(reterr, "a '}' has no '{' before it");
        t->pieces[t->count++].literal = (struct span){rest, n};
        at += n;
    }
    return 0;
}

int cp_template_parse(struct span text, struct cp_template *ret, struct cp_error *reterr)
{
    struct cp_template t = {0};
    size_t pointers = 0;
    int r;

    if (text.n == 0)
        return say(reterr, "a template must not be empty");
    for (size_t i = 0; i < text.n; i++)
        pointers += text.p[i] == '{';
    if (pointers > POINTERS_MAX)
        return say(reterr, "the template has too many pointers: 16 are the most");
    t.text = malloc(text.n + 1);
    t.pieces = calloc(2 * pointers + 1, sizeof(*t.pieces)); /* text before, between and behind them */
    if (t.text == NULL || t.pieces == NULL) {
        r = -ENOMEM;
        goto out;
    }
    memcpy(t.text, text.p, text.n);
    t.text[text.n] = '\0';
    r = cut(&t, (struct span){t.text, text.n}, reterr);
    if (r < 0)
        goto out;
    *ret = t;
    return 0;
out:
    cp_template_done(&t);
    return r;
}

void cp_template_done(struct cp_template *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; t->pieces != NULL && i < t->count; i++)
        cp_pointer_done(&t->pieces[i].pointer);
    free(t->pieces);
    free(t->text);
    *t = (struct cp_template){0};
}

static int expand_pointer(const struct cp_pointer *pointer, struct cp_json_doc *doc, const struct cp_json_node *arguments,
                          struct buf *out)
{
    const struct cp_json_node *node = arguments != NULL ? cp_pointer_get(doc, arguments, pointer) : NULL;

    if (node == NULL)
        return -ENOENT;
    switch ((enum cp_json_type)node->type) {
    case CP_JSON_STRING: {
        struct span text = cp_json_text(doc, node);
        return text.p != NULL ? buf_add_span(out, text) : -ENOMEM;
    }
    case CP_JSON_NUMBER:
    case CP_JSON_TRUE:
    case CP_JSON_FALSE:
        return buf_add_span(out, cp_json_raw(doc, node));
    case CP_JSON_NULL:
    case CP_JSON_ARRAY:
    case CP_JSON_OBJECT:
        return -ENOENT;
    }
    return -ENOENT;
}

int cp_template_expand(const struct cp_template *t, struct cp_json_doc *doc, const struct cp_json_node *arguments, struct buf *out)
{
    size_t before = out->n;

    for (size_t i = 0; i < t->count; i++) {
        const struct cp_template_piece *piece = &t->pieces[i];
        int r =
            piece->pointer.text == NULL ? buf_add_span(out, piece->literal) : expand_pointer(&piece->pointer, doc, arguments, out);
        if (r < 0) {
            out->n = before;
            return r;
        }
    }
    return t->count > 0 ? 0 : -ENOENT;
}

bool cp_template_matches(const struct cp_template *t, struct span text)
{
    size_t at = 0, gap = 0; /* text before at is made; gap: pointers between it and the next literal */

    for (size_t i = 0; i < t->count; i++) {
        struct span literal = t->pieces[i].literal, rest;
        const char *found;

        if (t->pieces[i].pointer.text != NULL) {
            gap++;
            continue;
        }
        if (text.n - at < gap || text.n - at - gap < literal.n)
            return false;
        rest = (struct span){text.p + at + gap, text.n - at - gap};
        /* What no pointer comes before stands here, what none comes behind stands at the end, all else where it is found first: the more is left for the others. */
        if (gap == 0)
            found = memcmp(rest.p, literal.p, literal.n) == 0 ? rest.p : NULL;
        else if (i + 1 == t->count)
            found = memcmp(rest.p + rest.n - literal.n, literal.p, literal.n) == 0 ? rest.p + rest.n - literal.n : NULL;
        else
            found = memmem(rest.p, rest.n, literal.p, literal.n);
        if (found == NULL)
            return false;
        at = (size_t)(found - text.p) + literal.n;
        gap = 0;
    }
    return t->count > 0 && (gap > 0 ? text.n - at >= gap : text.n == at);
}
