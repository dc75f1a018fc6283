/* SPDX-License-Identifier: Apache-2.0 */
/* Cache-Groups. An input is taken twice: as a field value, and, cut at its line feeds, as the members of one. Always:
 * - every group that is told is a tag, and they all, written as a list of strings, are told again in their order;
 * - a list of strings, with whatever blanks and parameters between them, tells those of them that are tags, and no other;
 * - a byte too many behind it, and nothing is told. */
#include "fuzz.h"

#include "cachepolicy/groups.h"

struct told {
    struct buf bytes; /* each with its length */
    size_t count;
};

static void add(struct told *told, struct span tag)
{
    must(buf_add(&told->bytes, &tag.n, sizeof(tag.n)) == 0);
    must(buf_add_span(&told->bytes, tag) == 0);
    told->count++;
}

static void on_tag(void *ctx, struct span tag)
{
    must(cp_tag_is_valid(tag));
    add(ctx, tag);
}

static struct told read_groups(struct span value)
{
    struct span exact = exactly(value);
    struct told told = {0};

    cp_groups_parse(exact, on_tag, &told);
    free((char *)exact.p);
    return told;
}

static bool is_sf_text(struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < 0x20 || text.p[i] > 0x7e)
            return false;
    }
    return true;
}

/* A member as RFC 9651 writes it, with blanks and parameters that its own bytes choose. */
static void write_member(struct buf *out, struct span text, bool is_first)
{
    static const char *const separators[] = {",", ", ", " ,\t ", "\t,"};
    static const char *const parameters[] = {"", ";a", ";a=1;b=\"x\\\"\"", "; *c=?0", ";d=:YQ==:;e=t/k", ";f=-1.5;g=@12"};
    unsigned choice = text.n > 0 ? (unsigned char)text.p[text.n - 1] : 0;

    if (!is_first)
        must(buf_add_span(out, span_of(separators[choice % 4])) == 0);
    must(buf_add(out, "\"", 1) == 0);
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '"' || text.p[i] == '\\')
            must(buf_add(out, "\\", 1) == 0);
        must(buf_add(out, &text.p[i], 1) == 0);
    }
    must(buf_add(out, "\"", 1) == 0);
    must(buf_add_span(out, span_of(parameters[choice / 4 % 6])) == 0);
}

static void must_be_same(struct told *a, struct told *b)
{
    must(a->count == b->count && span_eq(buf_span(&a->bytes), buf_span(&b->bytes)));
    buf_done(&b->bytes);
}

/* What was told, written again. */
static void check_told(struct told *told)
{
    struct buf list = {0};
    size_t at = 0;

    for (size_t i = 0; i < told->count; i++) {
        struct span tag;

        memcpy(&tag.n, told->bytes.p + at, sizeof(tag.n));
        tag.p = told->bytes.p + at + sizeof(tag.n);
        at += sizeof(tag.n) + tag.n;
        write_member(&list, tag, i == 0);
    }
    struct told again = read_groups(buf_span(&list));
    must_be_same(told, &again);
    buf_done(&list);
}

static void check_members(struct span input)
{
    struct told expected = {0}, told;
    struct buf list = {0};
    bool is_first = true;

    while (input.n > 0) {
        const char *end = memchr(input.p, '\n', input.n);
        struct span text = {input.p, end != NULL ? (size_t)(end - input.p) : input.n};

        input = end != NULL ? (struct span){end + 1, input.n - text.n - 1} : (struct span){NULL, 0};
        if (!is_sf_text(text))
            continue;
        write_member(&list, text, is_first);
        is_first = false;
        if (cp_tag_is_valid(text))
            add(&expected, text);
    }
    told = read_groups(buf_span(&list));
    must_be_same(&expected, &told);
    must(buf_add(&list, ",", 1) == 0);
    told = read_groups(buf_span(&list));
    must(told.count == 0);
    buf_done(&told.bytes);
    buf_done(&expected.bytes);
    buf_done(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span input = {(const char *)data, size};
    struct told told = read_groups(input);

    check_told(&told);
    check_members(input);
    buf_done(&told.bytes);
    return 0;
}
