/* SPDX-License-Identifier: Apache-2.0 */
/* Members: the members of one object in the order of their decoded names, for the duplicate check and for the canonical
 * form; and copies of a text in which some of them are gone, new or other.
 * Always: merge sort, so that no choice of names makes it slow; no allocation while the doc is warm; a copy takes its bytes over.
 * Not here: what the order and the copies are used for. Thread: whoever owns the doc. */
#include "inside.h"

#include <errno.h>

_Static_assert(sizeof(struct member) == 16, "items on scratch stay aligned");

static bool goes_after(struct cp_json_doc *doc, const struct member *a, const struct member *b)
{
    if (a->prefix != b->prefix)
        return a->prefix > b->prefix;
    return span_cmp(cp_json_name(doc, &doc->nodes[a->node]), cp_json_name(doc, &doc->nodes[b->node])) > 0;
}

static void insertion_sort(struct cp_json_doc *doc, struct member *items, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct member item = items[i];
        size_t j = i;

        while (j > 0 && goes_after(doc, &items[j - 1], &item)) {
            items[j] = items[j - 1];
            j--;
        }
        items[j] = item;
    }
}

/* Runs of this length are sorted by insertion, then merged pairwise. */
#define RUN 12

static void merge(struct cp_json_doc *doc, struct member *to, const struct member *a, size_t na, const struct member *b, size_t nb)
{
    while (na > 0 && nb > 0) {
        if (goes_after(doc, a, b)) {
            *to++ = *b++;
            nb--;
        } else {
            *to++ = *a++;
            na--;
        }
    }
    memcpy(to, a, na * sizeof(*a));
    memcpy(to + na, b, nb * sizeof(*b));
}

static void sort(struct cp_json_doc *doc, struct member *items, struct member *spare, size_t n)
{
    struct member *from = items, *to = spare;

    for (size_t i = 0; i < n; i += RUN)
        insertion_sort(doc, items + i, n - i < RUN ? n - i : RUN);
    for (size_t width = RUN; width < n; width *= 2) {
        struct member *swap = from;

        for (size_t i = 0; i < n; i += 2 * width) {
            size_t na = n - i < width ? n - i : width;
            size_t nb = n - i - na < width ? n - i - na : width;

            merge(doc, to + i, from + i, na, from + i + na, nb);
        }
        from = to;
        to = swap;
    }
    if (from != items)
        memcpy(items, from, n * sizeof(*items));
}

/* Where a member begins, with its name's quote, or an element. */
static uint32_t start_of(const struct cp_json_node *item)
{
    return item->name_start != 0 ? item->name_start - 1 : item->start;
}

static struct span text_of(struct cp_json_doc *doc, const struct cp_json_node *item)
{
    return item->name_start != 0 ? cp_json_name(doc, item) : cp_json_text(doc, item);
}

void json_copy_without(struct cp_json_doc *doc, const struct cp_json_node *container, bool (*goes)(struct span name, void *ctx),
                       void *ctx, const char **at, struct buf *out)
{
    const char *base = doc->text.p;
    const struct cp_json_node *item = cp_json_first(doc, container), *kept = NULL;

    while (item != NULL) {
        const struct cp_json_node *last = item, *next;
        const char *from = base + start_of(item), *to;

        if (!goes(text_of(doc, item), ctx)) {
            kept = item;
            item = cp_json_next(doc, item);
            continue;
        }
        /* A run of items that go, with the comma behind it, or, at the end, with the one before it. */
        for (next = cp_json_next(doc, item); next != NULL && goes(text_of(doc, next), ctx); next = cp_json_next(doc, next))
            last = next;
        to = base + last->end;
        if (next != NULL)
            to = base + start_of(next);
        else if (kept != NULL)
            from = base + kept->end;
        buf_add(out, *at, (size_t)(from - *at));
        *at = to;
        kept = next;
        item = cp_json_next(doc, next);
    }
}

static void add_new(const struct json_set *set, bool has_more, struct buf *out)
{
    buf_add_span(out, SPAN("\""));
    buf_add_span(out, set->name);
    buf_add_span(out, SPAN("\":"));
    buf_add_span(out, set->value);
    if (has_more)
        buf_add_span(out, SPAN(","));
}

void json_copy_set(struct cp_json_doc *doc, const struct cp_json_node *object, const struct json_set *sets, size_t count,
                   const char **at, struct buf *out)
{
    const char *base = doc->text.p, *inside = base + object->start + 1;
    const struct json_set *next;
    size_t new_left = 0;

    for (size_t i = 0; i < count; i++)
        new_left += sets[i].start == 0;
    if (new_left > 0) {
        buf_add(out, *at, (size_t)(inside - *at));
        *at = inside;
    }
    for (size_t i = 0; i < count; i++) {
        if (sets[i].start == 0)
            add_new(&sets[i], --new_left > 0 || object->count > 0, out);
    }
    /* the others by their place; nobody sets many */
    for (uint32_t done = 0;; done = next->start) {
        next = NULL;
        for (size_t i = 0; i < count; i++) {
            if (sets[i].start > done && (next == NULL || sets[i].start < next->start))
                next = &sets[i];
        }
        if (next == NULL)
            break;
        buf_add(out, *at, (size_t)(base + next->start - *at));
        buf_add_span(out, next->value);
        *at = base + next->end;
    }
}

int members_sort(struct cp_json_doc *doc, uint32_t object, size_t *ret_at)
{
    size_t n = doc->nodes[object].count, at = doc->scratch.n;
    struct member *items;
    size_t i = 0;
    int r;

    r = buf_reserve(&doc->scratch, (n > RUN ? 2 * n : n) * sizeof(*items));
    if (r < 0)
        return r;
    items = (struct member *)(doc->scratch.p + at);
    for (uint32_t node = doc->nodes[object].child; node != 0; node = doc->nodes[node].next) {
        struct span name = cp_json_name(doc, &doc->nodes[node]);
        const char *limit = doc->nodes[node].name_escaped ? doc->strings.p + doc->strings.cap : doc->text.p + doc->text.n;

        if (name.p == NULL)
            return -ENOMEM;
        items[i++] = (struct member){name_prefix(name, limit), node};
    }
    sort(doc, items, items + n, n);
    doc->scratch.n = at + n * sizeof(*items);
    *ret_at = at;
    return 0;
}
