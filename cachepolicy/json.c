/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON scanner: grammar, UTF-8, limits, spans; and the reading of what it recorded.
 * Always: one pass, a stack of fixed depth instead of recursion, no allocation while the doc is warm; nothing is read
 * outside of the text; nodes stand in the order of the text (a container before its children).
 * Not here: order of members (members.c), canonical form (canonical.c). Thread: whoever owns the doc. */
#include "json.h"

#include <errno.h>
#include <stdlib.h>

#include "inside.h"

#define DEPTH_MAX 512
#define NONE      UINT32_MAX
/* What a doc may keep between scans: enough for every ordinary message, little enough to keep one per loop for ever. */
#define KEEP_NODES 16384
#define KEEP_BYTES ((size_t)1 << 20)
/* Up to this many members are compared pairwise, more are sorted: strangers choose the number. */
#define PAIRWISE 16

_Static_assert(sizeof(struct cp_json_node) == 32, "two nodes per cache line");

const struct cp_json_limits cp_json_strict = {.depth = 64, .record_depth = 0, .nodes = 1 << 20};
const struct cp_json_limits cp_json_reply = {.depth = 512, .record_depth = 3, .nodes = 1 << 16};

/* --- bytes --- */

#define ONES 0x0101010101010101ull

/* High bit set in the lowest byte that is a control character, quote, backslash or not ASCII; higher bytes may be flagged
 * wrongly. */
static inline uint64_t special_bytes(uint64_t w)
{
    return ((w - ONES * 0x20) | ((w ^ ONES * '"') - ONES) | ((w ^ ONES * '\\') - ONES) | w) & ONES * 0x80;
}

static inline const char *skip_plain(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t w, found;

        memcpy(&w, p, 8);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
        w = __builtin_bswap64(w);
#endif
        found = special_bytes(w);
        if (found != 0)
            return p + (__builtin_ctzll(found) >> 3);
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\')
        p++;
    return p;
}

static inline const char *skip_blank(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

static inline bool is_digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

static const signed char hex_values[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

/* Four hex digits at p, or -1. */
static int hex4(const char *p, const char *end)
{
    int value = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_values[(unsigned char)p[i]] - 1;

        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static inline bool is_high(int unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static inline bool is_low(int unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* The code unit of a second \u escape at p, or -1. */
static int following_unit(const char *p, const char *end)
{
    return end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2, end) : -1;
}

unsigned json_unescape(const char **p, const char *end, char ret[4])
{
    const char *s = *p + 1;
    int unit;
    unsigned code;

    if (s >= end) {
        *p = end;
        ret[0] = '\\';
        return 1;
    }
    *p = s + 1;
    switch (*s) {
    case 'b':
        ret[0] = '\b';
        return 1;
    case 'f':
        ret[0] = '\f';
        return 1;
    case 'n':
        ret[0] = '\n';
        return 1;
    case 'r':
        ret[0] = '\r';
        return 1;
    case 't':
        ret[0] = '\t';
        return 1;
    case 'u':
        break;
    default:
        ret[0] = *s;
        return 1;
    }
    unit = hex4(s + 1, end);
    if (unit < 0) {
        ret[0] = 'u';
        return 1;
    }
    *p = s + 5;
    code = (unsigned)unit;
    if (is_high(unit)) {
        int low = following_unit(s + 5, end);

        if (is_low(low)) {
            *p = s + 11;
            code = 0x10000 + (((unsigned)unit - 0xd800) << 10) + ((unsigned)low - 0xdc00);
        }
    }
    if (code < 0x80) {
        ret[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        ret[0] = (char)(0xc0 | code >> 6);
        ret[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        ret[0] = (char)(0xe0 | code >> 12);
        ret[1] = (char)(0x80 | (code >> 6 & 0x3f));
        ret[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    ret[0] = (char)(0xf0 | code >> 18);
    ret[1] = (char)(0x80 | (code >> 12 & 0x3f));
    ret[2] = (char)(0x80 | (code >> 6 & 0x3f));
    ret[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* --- tokens: each returns where the token ends, or NULL with the reason in *ret_status --- */

/* p at the backslash. */
static const char *scan_escape(const char *p, const char *end, bool checked, enum cp_json_status *ret_status)
{
    int unit;

    *ret_status = CP_JSON_SYNTAX;
    if (end - p < 2)
        return NULL;
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 2;
    case 'u':
        break;
    default:
        return NULL;
    }
    unit = hex4(p + 2, end);
    if (unit < 0)
        return NULL;
    if (!checked)
        return p + 6;
    if (unit == 0) {
        *ret_status = CP_JSON_NUL;
        return NULL;
    }
    *ret_status = CP_JSON_SURROGATE;
    if (is_low(unit))
        return NULL;
    if (is_high(unit))
        return is_low(following_unit(p + 6, end)) ? p + 12 : NULL;
    return p + 6;
}

/* p behind the opening quote; returns behind the closing one. */
static inline const char *scan_string(const char *p, const char *end, bool checked, bool *ret_escaped,
                                      enum cp_json_status *ret_status)
{
    bool escaped = false;

    for (;;) {
        unsigned n;

        p = skip_plain(p, end);
        if (p == end || (unsigned char)*p < 0x20) {
            *ret_status = CP_JSON_SYNTAX;
            return NULL;
        }
        if (*p == '"') {
            *ret_escaped = escaped;
            return p + 1;
        }
        if (*p == '\\') {
            escaped = true;
            p = scan_escape(p, end, checked, ret_status);
            if (p == NULL)
                return NULL;
            continue;
        }
        do {
            n = utf8_sequence(p, end);
            if (n == 0) {
                *ret_status = CP_JSON_UTF8;
                return NULL;
            }
            p += n;
        } while (p < end && (unsigned char)*p >= 0x80);
    }
}

static inline const char *scan_number(const char *p, const char *end)
{
    if (*p == '-')
        p++;
    if (!is_digit(p, end))
        return NULL;
    if (*p == '0') {
        p++;
    } else {
        while (is_digit(p, end))
            p++;
    }
    if (p < end && *p == '.') {
        p++;
        if (!is_digit(p, end))
            return NULL;
        while (is_digit(p, end))
            p++;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        if (!is_digit(p, end))
            return NULL;
        while (is_digit(p, end))
            p++;
    }
    return p;
}

static inline const char *scan_word(const char *p, const char *end, const char *word, size_t n)
{
    return (size_t)(end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

/* --- the scan --- */

/* One open container. */
struct frame {
    uint32_t node;  /* NONE: not recorded */
    uint32_t last;  /* newest recorded child; 0 = none yet */
    uint32_t count; /* children so far */
    bool is_object;
    bool escaped_names;
};

static enum cp_json_status grow(struct cp_json_doc *doc, uint32_t limit)
{
    uint32_t cap;
    void *nodes;

    if (doc->count >= limit)
        return CP_JSON_MANY;
    cap = doc->cap < 64 ? 64 : doc->cap > limit / 2 ? limit : doc->cap * 2;
    if (cap <= doc->count)
        cap = doc->count + 1;
    nodes = realloc(doc->nodes, (size_t)cap * sizeof(*doc->nodes));
    if (nodes == NULL)
        return CP_JSON_NOMEM;
    doc->nodes = nodes;
    doc->cap = cap;
    return CP_JSON_OK;
}

static inline struct span name_span(const struct cp_json_doc *doc, const struct cp_json_node *node)
{
    return (struct span){doc->text.p + node->name_start, node->name_end - node->name_start};
}

/* Few members, no escapes: every pair, first by prefix and length. */
static bool has_twins_few(const struct cp_json_doc *doc, uint32_t object)
{
    uint64_t marks[PAIRWISE];
    uint32_t nodes[PAIRWISE];
    const char *limit = doc->text.p + doc->text.n;
    unsigned n = 0;

    for (uint32_t node = doc->nodes[object].child; node != 0; node = doc->nodes[node].next) {
        struct span name = name_span(doc, &doc->nodes[node]);
        uint64_t mark = name_prefix(name, limit) ^ name.n;

        for (unsigned i = 0; i < n; i++) {
            if (marks[i] == mark && span_eq(name, name_span(doc, &doc->nodes[nodes[i]])))
                return true;
        }
        marks[n] = mark;
        nodes[n++] = node;
    }
    return false;
}

static enum cp_json_status check_twins(struct cp_json_doc *doc, const struct frame *frame)
{
    enum cp_json_status status = CP_JSON_OK;
    const struct member *members;
    size_t at;

    if (frame->count <= PAIRWISE && !frame->escaped_names)
        return has_twins_few(doc, frame->node) ? CP_JSON_DUPLICATE : CP_JSON_OK;
    if (members_sort(doc, frame->node, &at) < 0)
        return CP_JSON_NOMEM;
    members = members_at(doc, at);
    for (uint32_t i = 1; i < frame->count && status == CP_JSON_OK; i++) {
        if (members[i - 1].prefix == members[i].prefix &&
            span_eq(cp_json_name(doc, &doc->nodes[members[i - 1].node]), cp_json_name(doc, &doc->nodes[members[i].node])))
            status = CP_JSON_DUPLICATE;
    }
    doc->scratch.n = at;
    return status;
}

/* Scans one whole value from `from` to `to`, appending its nodes behind those that are there. */
static enum cp_json_status scan(struct cp_json_doc *doc, uint32_t from, uint32_t to, const struct cp_json_limits *limits)
{
    struct frame stack[DEPTH_MAX];
    const char *base = doc->text.p, *p = base + from, *end = base + to;
    uint32_t depth_max = limits->depth < DEPTH_MAX ? limits->depth : DEPTH_MAX;
    uint32_t record_depth = limits->record_depth == 0 ? UINT32_MAX : limits->record_depth;
    uint32_t level = 0; /* open containers */
    uint32_t name_start = 0, name_end = 0;
    bool name_escaped = false;
    struct frame *top = NULL;
    enum cp_json_status status;
    struct cp_json_node *node;
    uint32_t index;
    bool recorded, escaped;

value:
    p = skip_blank(p, end);
    if (p == end)
        return CP_JSON_SYNTAX;
    recorded = level < record_depth;
    index = NONE;
    node = NULL;
    if (top != NULL)
        top->count++;
    if (recorded) {
        if (doc->count >= doc->cap || doc->count >= limits->nodes) {
            status = grow(doc, limits->nodes);
            if (status != CP_JSON_OK)
                return status;
        }
        index = doc->count++;
        node = &doc->nodes[index];
        *node = (struct cp_json_node){
            .start = (uint32_t)(p - base), .name_start = name_start, .name_end = name_end, .name_escaped = name_escaped};
        if (top != NULL) {
            if (top->last != 0)
                doc->nodes[top->last].next = index;
            else
                doc->nodes[top->node].child = index;
            top->last = index;
        }
    }
    switch (*p) {
    case '{':
    case '[':
        if (level == depth_max)
            return CP_JSON_DEEP;
        if (node != NULL)
            node->type = *p == '{' ? CP_JSON_OBJECT : CP_JSON_ARRAY;
        top = &stack[level++];
        *top = (struct frame){.node = index, .is_object = *p == '{'};
        p = skip_blank(p + 1, end);
        if (p == end)
            return CP_JSON_SYNTAX;
        if (top->is_object) {
            if (*p == '}')
                goto close;
            goto member;
        }
        if (*p == ']')
            goto close;
        name_start = name_end = 0;
        name_escaped = false;
        goto value;
    case '"':
        p = scan_string(p + 1, end, recorded, &escaped, &status);
        if (p == NULL)
            return status;
        if (node != NULL) {
            node->type = CP_JSON_STRING;
            node->escaped = escaped;
        }
        break;
    case 't':
        if (node != NULL)
            node->type = CP_JSON_TRUE;
        p = scan_word(p, end, "true", 4);
        break;
    case 'f':
        if (node != NULL)
            node->type = CP_JSON_FALSE;
        p = scan_word(p, end, "false", 5);
        break;
    case 'n':
        if (node != NULL)
            node->type = CP_JSON_NULL;
        p = scan_word(p, end, "null", 4);
        break;
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        if (node != NULL)
            node->type = CP_JSON_NUMBER;
        p = scan_number(p, end);
        break;
    default:
        return CP_JSON_SYNTAX;
    }
    if (p == NULL)
        return CP_JSON_SYNTAX;
    if (node != NULL)
        node->end = (uint32_t)(p - base);

after:
    p = skip_blank(p, end);
    if (top == NULL)
        return p == end ? CP_JSON_OK : CP_JSON_SYNTAX;
    if (p == end)
        return CP_JSON_SYNTAX;
    if (*p == ',') {
        p++;
        if (!top->is_object)
            goto value;
        p = skip_blank(p, end);
        goto member;
    }
    if (*p != (top->is_object ? '}' : ']'))
        return CP_JSON_SYNTAX;

close:
    p++;
    if (top->node != NONE) {
        node = &doc->nodes[top->node];
        node->end = (uint32_t)(p - base);
        node->count = top->count;
        if (top->is_object && top->last != 0 && top->count > 1) {
            status = check_twins(doc, top);
            if (status != CP_JSON_OK)
                return status;
        }
    }
    level--;
    top = level == 0 ? NULL : &stack[level - 1];
    if (top != NULL && !top->is_object) {
        name_start = name_end = 0;
        name_escaped = false;
    }
    goto after;

member:
    if (p == end || *p != '"')
        return CP_JSON_SYNTAX;
    name_start = (uint32_t)(p + 1 - base);
    p = scan_string(p + 1, end, level < record_depth, &name_escaped, &status);
    if (p == NULL)
        return status;
    name_end = (uint32_t)(p - 1 - base);
    top->escaped_names |= name_escaped;
    p = skip_blank(p, end);
    if (p == end || *p != ':')
        return CP_JSON_SYNTAX;
    p++;
    goto value;
}

static void cut_back(struct cp_json_doc *doc, size_t text_bytes)
{
    if (doc->cap > KEEP_NODES && text_bytes < KEEP_NODES) {
        free(doc->nodes);
        doc->nodes = NULL;
        doc->cap = 0;
    }
    if (doc->strings.cap > KEEP_BYTES && text_bytes < KEEP_BYTES)
        buf_done(&doc->strings);
    if (doc->scratch.cap > KEEP_BYTES && text_bytes < KEEP_BYTES)
        buf_done(&doc->scratch);
}

enum cp_json_status cp_json_scan(struct cp_json_doc *doc, struct span text, const struct cp_json_limits *limits)
{
    enum cp_json_status status;

    doc->text = text.n == 0 ? SPAN("") : text;
    doc->count = 0;
    doc->scratch.n = 0;
    cut_back(doc, text.n);
    if (text.n > UINT32_MAX - 1)
        return CP_JSON_LARGE;
    status = scan(doc, 0, (uint32_t)text.n, limits);
    if (status != CP_JSON_OK)
        doc->count = 0;
    return status;
}

void cp_json_done(struct cp_json_doc *doc)
{
    free(doc->nodes);
    buf_done(&doc->strings);
    buf_done(&doc->scratch);
    *doc = (struct cp_json_doc){0};
}

enum cp_json_status cp_json_open(struct cp_json_doc *doc, const struct cp_json_node *container, const struct cp_json_node **ret)
{
    /* The value stands where the scan found it well-formed within its own depth; this one counts from the container. */
    const struct cp_json_limits limits = {.depth = DEPTH_MAX, .record_depth = 2, .nodes = cp_json_reply.nodes * 2};
    uint32_t index = (uint32_t)(container - doc->nodes), copy = doc->count;
    enum cp_json_status status;

    if (container->count == 0 || container->child != 0) {
        *ret = container;
        return CP_JSON_OK;
    }
    status = scan(doc, container->start, container->end, &limits);
    if (status != CP_JSON_OK) {
        doc->count = copy;
        return status;
    }
    doc->nodes[index].child = doc->nodes[copy].child;
    *ret = &doc->nodes[index];
    return CP_JSON_OK;
}

/* --- reading what was recorded --- */

const struct cp_json_node *cp_json_root(const struct cp_json_doc *doc)
{
    return doc->count == 0 ? NULL : &doc->nodes[0];
}

/* Decoded equality of the inside of a string token with plain bytes. */
static bool inside_eq(const char *p, const char *end, struct span text)
{
    size_t at = 0;

    while (p < end) {
        char bytes[4];
        unsigned n = 1;

        if (*p == '\\')
            n = json_unescape(&p, end, bytes);
        else
            bytes[0] = *p++;
        if (text.n - at < n || memcmp(text.p + at, bytes, n) != 0)
            return false;
        at += n;
    }
    return at == text.n;
}

const struct cp_json_node *cp_json_member(const struct cp_json_doc *doc, const struct cp_json_node *object, struct span name)
{
    if (object == NULL || object->type != CP_JSON_OBJECT)
        return NULL;
    for (uint32_t i = object->child; i != 0; i = doc->nodes[i].next) {
        const struct cp_json_node *member = &doc->nodes[i];
        struct span written = name_span(doc, member);

        if (member->name_escaped ? inside_eq(written.p, written.p + written.n, name) : span_eq(written, name))
            return member;
    }
    return NULL;
}

const struct cp_json_node *cp_json_first(const struct cp_json_doc *doc, const struct cp_json_node *container)
{
    return container == NULL || container->child == 0 ? NULL : &doc->nodes[container->child];
}

const struct cp_json_node *cp_json_next(const struct cp_json_doc *doc, const struct cp_json_node *node)
{
    return node == NULL || node->next == 0 ? NULL : &doc->nodes[node->next];
}

struct span cp_json_raw(const struct cp_json_doc *doc, const struct cp_json_node *node)
{
    return node == NULL ? SPAN_ABSENT : (struct span){doc->text.p + node->start, node->end - node->start};
}

/* The decoded form of the text's bytes [start, end), which have at least one escape. */
static struct span decode(struct cp_json_doc *doc, uint32_t start, uint32_t end_offset)
{
    const char *p = doc->text.p + start, *end = doc->text.p + end_offset;
    char *to;

    if (doc->strings.cap < doc->text.n) {
        /* Nothing of this text is decoded yet, so nothing that anybody holds moves. */
        buf_done(&doc->strings);
        if (buf_reserve(&doc->strings, doc->text.n) < 0)
            return SPAN_ABSENT;
    }
    to = doc->strings.p + start;
    while (p < end) {
        const char *escape = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((escape == NULL ? end : escape) - p);
        char bytes[4];
        unsigned n;

        memcpy(to, p, plain);
        to += plain;
        p += plain;
        if (escape == NULL)
            break;
        n = json_unescape(&p, end, bytes);
        memcpy(to, bytes, n);
        to += n;
    }
    return (struct span){doc->strings.p + start, (size_t)(to - (doc->strings.p + start))};
}

struct span cp_json_text(struct cp_json_doc *doc, const struct cp_json_node *node)
{
    if (node == NULL || node->type != CP_JSON_STRING)
        return SPAN_ABSENT;
    if (node->escaped)
        return decode(doc, node->start + 1, node->end - 1);
    return (struct span){doc->text.p + node->start + 1, node->end - node->start - 2};
}

struct span cp_json_name(struct cp_json_doc *doc, const struct cp_json_node *member)
{
    if (member == NULL || member->name_start == 0)
        return SPAN_ABSENT;
    return member->name_escaped ? decode(doc, member->name_start, member->name_end) : name_span(doc, member);
}

bool cp_json_is_text(const struct cp_json_doc *doc, const struct cp_json_node *node, struct span text)
{
    const char *p, *end;

    if (node == NULL || node->type != CP_JSON_STRING)
        return false;
    p = doc->text.p + node->start + 1;
    end = doc->text.p + node->end - 1;
    if (node->escaped)
        return inside_eq(p, end, text);
    return span_eq((struct span){p, (size_t)(end - p)}, text);
}

bool cp_json_same_text(struct span a, struct span b)
{
    const char *p = a.p, *p_end = a.p + a.n, *q = b.p, *q_end = b.p + b.n;

    if (span_eq(a, b))
        return true;
    for (;;) {
        char left[4], right[4];
        unsigned n = 1, m = 1;

        if (p == p_end || q == q_end)
            return p == p_end && q == q_end;
        if (*p == '\\')
            n = json_unescape(&p, p_end, left);
        else
            left[0] = *p++;
        if (*q == '\\')
            m = json_unescape(&q, q_end, right);
        else
            right[0] = *q++;
        /* An escape stands for a whole character, plain bytes come one by one. */
        for (unsigned i = 1; n < m; i++, n++) {
            if (p == p_end || *p == '\\')
                return false;
            left[i] = *p++;
        }
        for (unsigned i = 1; m < n; i++, m++) {
            if (q == q_end || *q == '\\')
                return false;
            right[i] = *q++;
        }
        if (memcmp(left, right, n) != 0)
            return false;
    }
}
