/* SPDX-License-Identifier: Apache-2.0 */
/* Headers against body, and the codec of mirrored values.
 * Always: in doubt they disagree, and the upstream decides.
 * Not here: which arguments a tool mirrors (only its schema knows); the set of Mcp-Param-* joins the key instead.
 * Thread: any. */
#include "agree.h"

#include <errno.h>
#include <stdlib.h>

#include "inside.h"

static const signed char base64_values[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,  ['I'] = 9,  ['J'] = 10,
    ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16, ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20,
    ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24, ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30,
    ['e'] = 31, ['f'] = 32, ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48, ['w'] = 49, ['x'] = 50,
    ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56, ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60,
    ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};

/* Strict: padded, no blanks, unused bits 0. Appends to out, which has room. */
static bool base64_decode(struct span text, struct buf *out)
{
    if (text.n % 4 != 0)
        return false;
    for (size_t i = 0; i < text.n; i += 4) {
        unsigned pad = 0, bits = 0;

        if (i + 4 == text.n && text.p[i + 3] == '=')
            pad = text.p[i + 2] == '=' ? 2 : 1;
        for (unsigned k = 0; k < 4 - pad; k++) {
            int value = base64_values[(unsigned char)text.p[i + k]] - 1;

            if (value < 0)
                return false;
            bits |= (unsigned)value << (18 - 6 * k);
        }
        if (bits & ((1u << (8 * pad)) - 1))
            return false;
        for (unsigned k = 0; k < 3 - pad; k++)
            out->p[out->n++] = (char)(bits >> (16 - 8 * k));
    }
    return true;
}

/* Appends to out, which has room. */
static void base64_encode(struct span bytes, struct buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < bytes.n; i += 3) {
        size_t n = bytes.n - i < 3 ? bytes.n - i : 3;
        unsigned bits = 0;

        for (size_t k = 0; k < n; k++)
            bits |= (unsigned)(unsigned char)bytes.p[i + k] << (16 - 8 * k);
        for (size_t k = 0; k < 4; k++)
            out->p[out->n++] = '=';
        for (size_t k = 0; k <= n; k++)
            out->p[out->n - 4 + k] = digits[bits >> (18 - 6 * k) & 63];
    }
}

static bool is_utf8(const char *p, const char *end)
{
    while (p < end) {
        unsigned n = utf8_sequence(p, end);

        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

static const struct span prefix = SPAN_OF("=?base64?"), suffix = SPAN_OF("?=");

static bool begins_with_prefix(struct span s)
{
    return s.n >= prefix.n && memcmp(s.p, prefix.p, prefix.n) == 0;
}

int cp_mirror_decode(struct span value, struct buf *out)
{
    size_t before = out->n;
    struct span s = span_trim(value);
    int r;

    if (s.n < prefix.n + suffix.n || !begins_with_prefix(s) || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) != 0)
        return buf_add_span(out, s);
    r = buf_reserve(out, s.n);
    if (r < 0)
        return r;
    s = (struct span){s.p + prefix.n, s.n - prefix.n - suffix.n};
    if (!base64_decode(s, out) || !is_utf8(out->p + before, out->p + out->n)) {
        out->n = before;
        return -EINVAL;
    }
    return 0;
}

int cp_mirror_encode(struct span text, struct buf *out)
{
    bool is_plain = !begins_with_prefix(text) && (text.n == 0 || (text.p[0] != ' ' && text.p[text.n - 1] != ' '));
    int r;

    for (size_t i = 0; i < text.n && is_plain; i++)
        is_plain = text.p[i] >= ' ' && text.p[i] <= '~';
    if (is_plain)
        return buf_add_span(out, text);
    if ((r = buf_reserve(out, prefix.n + (text.n + 2) / 3 * 4 + suffix.n)) != 0)
        return r;
    /* there is room */
    (void)buf_add_span(out, prefix);
    base64_encode(text, out);
    (void)buf_add_span(out, suffix);
    return 0;
}

bool cp_mirrors_name(const struct cp_message *message)
{
    switch (message->method) {
    case CP_METHOD_TOOLS_CALL:
    case CP_METHOD_PROMPTS_GET:
    case CP_METHOD_RESOURCES_READ:
        return true;
    case CP_METHOD_OTHER:
        return span_eq(message->method_text, SPAN("tasks/get")) || span_eq(message->method_text, SPAN("tasks/update")) ||
               span_eq(message->method_text, SPAN("tasks/cancel"));
    case CP_METHOD_INITIALIZE:
    case CP_METHOD_DISCOVER:
    case CP_METHOD_TOOLS_LIST:
    case CP_METHOD_RESOURCES_LIST:
    case CP_METHOD_RESOURCE_TEMPLATES_LIST:
    case CP_METHOD_RESOURCES_SUBSCRIBE:
    case CP_METHOD_RESOURCES_UNSUBSCRIBE:
    case CP_METHOD_PROMPTS_LIST:
    case CP_METHOD_COMPLETE:
    case CP_METHOD_PING:
    case CP_METHOD_LISTEN:
    case CP_METHOD_CANCELLED:
    case CP_METHOD_INITIALIZED:
        break;
    }
    return false;
}

/* Absent never equals: a body that has no version or name says nothing to agree with. */
static enum cp_agreement compare(struct span header, struct span body)
{
    if (header.p == NULL)
        return CP_AGREE_MISSING;
    return body.p != NULL && span_eq(span_trim(header), body) ? CP_AGREES : CP_AGREE_MISMATCH;
}

static enum cp_agreement compare_decoded(struct span header, struct span body)
{
    struct buf decoded = {0};
    enum cp_agreement agreement = CP_AGREE_MISMATCH;

    if (header.p == NULL)
        return CP_AGREE_MISSING;
    if (body.p != NULL && cp_mirror_decode(header, &decoded) == 0 && span_eq(buf_span(&decoded), body))
        agreement = CP_AGREES;
    buf_done(&decoded);
    return agreement;
}

enum cp_agreement cp_agree(const struct cp_message *message, const struct cp_mirror *mirror, const char **ret_header)
{
    enum cp_agreement agreement;

    if (mirror->repeated) {
        *ret_header = "Mcp-*";
        return CP_AGREE_MISMATCH;
    }
    if (message->era != CP_ERA_MODERN || message->kind != CP_KIND_REQUEST)
        return CP_AGREES;
    agreement = compare(mirror->version, message->version);
    if (agreement != CP_AGREES) {
        *ret_header = "MCP-Protocol-Version";
        return agreement;
    }
    agreement = compare(mirror->method, message->method_text);
    if (agreement != CP_AGREES) {
        *ret_header = "Mcp-Method";
        return agreement;
    }
    if (!cp_mirrors_name(message))
        return CP_AGREES;
    agreement = compare_decoded(mirror->name, message->name);
    if (agreement != CP_AGREES)
        *ret_header = "Mcp-Name";
    return agreement;
}

/* --- Mcp-Param-* --- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static int compare_params(const void *left, const void *right)
{
    const struct cp_mirror_param *a = left, *b = right;
    size_t n = a->name.n < b->name.n ? a->name.n : b->name.n;

    for (size_t i = 0; i < n; i++) {
        int order = (unsigned char)lower(a->name.p[i]) - (unsigned char)lower(b->name.p[i]);

        if (order != 0)
            return order;
    }
    if (a->name.n != b->name.n)
        return a->name.n < b->name.n ? -1 : 1;
    return span_cmp(a->value, b->value);
}

static int add_size(struct buf *out, uint64_t size)
{
    unsigned char bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(size >> (8 * i));
    return buf_add(out, bytes, sizeof(bytes));
}

/* The value with its form and its length, which are known only when it is written. */
static int add_value(struct buf *out, struct span value)
{
    size_t at = out->n;
    uint64_t n;
    int r;

    r = buf_add(out, "\0\0\0\0\0\0\0\0d", 9);
    if (r < 0)
        return r;
    r = cp_mirror_decode(value, out);
    if (r == -EINVAL) {
        out->p[at + 8] = 'l';
        r = buf_add_span(out, span_trim(value));
    }
    if (r < 0)
        return r;
    n = out->n - at - 9;
    for (int i = 0; i < 8; i++)
        out->p[at + (size_t)i] = (char)(n >> (8 * i));
    return 0;
}

int cp_mirror_params(struct cp_mirror_param *params, size_t count, struct buf *out)
{
    size_t before = out->n;
    int r = 0;

    if (count > 1)
        qsort(params, count, sizeof(*params), compare_params);
    for (size_t i = 0; i < count && r == 0; i++) {
        r = add_size(out, params[i].name.n);
        if (r == 0)
            r = buf_reserve(out, params[i].name.n);
        if (r < 0)
            break;
        for (size_t k = 0; k < params[i].name.n; k++)
            out->p[out->n++] = lower(params[i].name.p[k]);
        r = add_value(out, params[i].value);
    }
    if (r < 0)
        out->n = before;
    return r;
}
