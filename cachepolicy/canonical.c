/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical writer.
 * Always: what it writes of a value is never longer than the value's own bytes, so room is reserved once and the inner
 * writers only move a pointer; recursion goes as deep as the scan allowed,
 * which is never more than 512.
 * Not here: which members of a message are inert (message.c). Thread: whoever owns the doc. */
#include "canonical.h"

#include <errno.h>

#include "inside.h"

/* How control characters, quote and backslash are written. */
static char *write_escaped(char *to, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[256] = {
        ['"'] = '"', ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};

    *to++ = '\\';
    if (letters[c] != 0) {
        *to++ = letters[c];
        return to;
    }
    *to++ = 'u';
    *to++ = '0';
    *to++ = '0';
    *to++ = hex[c >> 4];
    *to++ = hex[c & 15];
    return to;
}

/* The inside of a string token. */
static char *write_string(char *to, const char *p, const char *end, bool escaped)
{
    while (escaped && p < end) {
        const char *escape = memchr(p, '\\', (size_t)(end - p));
        char bytes[4];
        unsigned n;

        if (escape == NULL)
            break;
        memcpy(to, p, (size_t)(escape - p));
        to += escape - p;
        p = escape;
        n = json_unescape(&p, end, bytes);
        if (n == 1 && ((unsigned char)bytes[0] < 0x20 || bytes[0] == '"' || bytes[0] == '\\')) {
            to = write_escaped(to, (unsigned char)bytes[0]);
        } else {
            memcpy(to, bytes, n);
            to += n;
        }
    }
    memcpy(to, p, (size_t)(end - p));
    return to + (end - p);
}

int json_add_text(struct buf *out, struct span text)
{
    const char *p = text.p, *end = text.p + text.n;
    size_t before = out->n;
    int r = buf_add(out, "\"", 1);

    while (r == 0 && p < end) {
        unsigned n = utf8_sequence(p, end);
        unsigned char c = (unsigned char)*p;
        char escaped[6];

        if (n == 0 || c == 0) {
            r = buf_add_span(out, SPAN("\xef\xbf\xbd"));
            n = 1;
        } else if (c < 0x20 || c == '"' || c == '\\') {
            r = buf_add(out, escaped, (size_t)(write_escaped(escaped, c) - escaped));
        } else {
            r = buf_add(out, p, n);
        }
        p += n;
    }
    if (r == 0)
        r = buf_add(out, "\"", 1);
    if (r < 0)
        out->n = before;
    return r;
}

/* NULL when memory for the sorting ran out. */
static char *write_value(struct cp_json_doc *doc, uint32_t index, char *to);

static char *write_member(struct cp_json_doc *doc, uint32_t index, char *to, const char *first)
{
    const struct cp_json_node *node = &doc->nodes[index];

    if (node->skip)
        return to;
    if (to != first)
        *to++ = ',';
    *to++ = '"';
    to = write_string(to, doc->text.p + node->name_start, doc->text.p + node->name_end, node->name_escaped);
    *to++ = '"';
    *to++ = ':';
    return write_value(doc, index, to);
}

static char *write_object(struct cp_json_doc *doc, uint32_t index, char *to)
{
    uint32_t count = doc->nodes[index].count;
    const char *first;
    size_t at;

    *to++ = '{';
    first = to;
    if (count == 1) {
        to = write_member(doc, doc->nodes[index].child, to, first);
        if (to == NULL)
            return NULL;
    } else if (count > 1) {
        if (members_sort(doc, index, &at) < 0)
            return NULL;
        for (uint32_t i = 0; i < count && to != NULL; i++)
            to = write_member(doc, members_at(doc, at)[i].node, to, first);
        doc->scratch.n = at;
        if (to == NULL)
            return NULL;
    }
    *to++ = '}';
    return to;
}

static char *write_array(struct cp_json_doc *doc, uint32_t index, char *to)
{
    *to++ = '[';
    for (uint32_t i = doc->nodes[index].child; i != 0; i = doc->nodes[i].next) {
        to = write_value(doc, i, to);
        if (to == NULL)
            return NULL;
        if (doc->nodes[i].next != 0)
            *to++ = ',';
    }
    *to++ = ']';
    return to;
}

static char *write_value(struct cp_json_doc *doc, uint32_t index, char *to)
{
    const struct cp_json_node *node = &doc->nodes[index];
    size_t n = node->end - node->start;

    if (node->skip) {
        *to++ = '~';
        return to;
    }
    switch ((enum cp_json_type)node->type) {
    case CP_JSON_OBJECT:
        return write_object(doc, index, to);
    case CP_JSON_ARRAY:
        return write_array(doc, index, to);
    case CP_JSON_STRING:
        if (node->escaped) {
            *to++ = '"';
            to = write_string(to, doc->text.p + node->start + 1, doc->text.p + node->end - 1, true);
            *to++ = '"';
            return to;
        }
        break;
    case CP_JSON_NULL:
    case CP_JSON_FALSE:
    case CP_JSON_TRUE:
    case CP_JSON_NUMBER:
        break;
    }
    memcpy(to, doc->text.p + node->start, n);
    return to + n;
}

int cp_canonical_marked(struct cp_json_doc *doc, const struct cp_json_node *node, struct buf *out)
{
    size_t scratch = doc->scratch.n;
    char *to;
    int r;

    r = buf_reserve(out, node->end - node->start);
    if (r < 0)
        return r;
    to = write_value(doc, (uint32_t)(node - doc->nodes), out->p + out->n);
    doc->scratch.n = scratch;
    if (to == NULL)
        return -ENOMEM;
    out->n = (size_t)(to - out->p);
    return 0;
}

void cp_canonical_mark(struct cp_json_doc *doc, const struct cp_json_node *root, const struct cp_pointer *pointers, size_t count,
                       bool skip)
{
    for (size_t i = 0; i < count; i++) {
        const struct cp_json_node *node = cp_pointer_get(doc, root, &pointers[i]);

        if (node != NULL)
            doc->nodes[node - doc->nodes].skip = skip;
    }
}

int cp_canonical(struct cp_json_doc *doc, const struct cp_json_node *node, const struct cp_pointer *ignore, size_t ignore_count,
                 struct buf *out)
{
    int r;

    cp_canonical_mark(doc, node, ignore, ignore_count, true);
    r = cp_canonical_marked(doc, node, out);
    cp_canonical_mark(doc, node, ignore, ignore_count, false);
    return r;
}
