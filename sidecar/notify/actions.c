/* SPDX-License-Identifier: Apache-2.0 */
/* Actions, and the texts that they share with links. Not here: who has what to do. Thread: an actions is its caller's; texts, any. */
#include "inside.h"

#include <stdlib.h>

struct topic_text {
    atomic_uint refs;
    size_t n;
    char bytes[];
};

struct topic_text *topic_text_new(struct span text)
{
    struct topic_text *t = text.n > SIZE_MAX / 2 ? NULL : malloc(sizeof(*t) + text.n);

    if (t == NULL)
        return NULL;
    atomic_init(&t->refs, 1);
    t->n = text.n;
    if (text.n != 0)
        memcpy(t->bytes, text.p, text.n);
    return t;
}

struct topic_text *topic_text_ref(struct topic_text *text)
{
    if (text != NULL)
        atomic_fetch_add_explicit(&text->refs, 1, memory_order_relaxed);
    return text;
}

void topic_text_unref(struct topic_text *text)
{
    if (text != NULL && atomic_fetch_sub_explicit(&text->refs, 1, memory_order_acq_rel) == 1)
        free(text);
}

struct span topic_text_span(const struct topic_text *text)
{
    return text == NULL ? SPAN_ABSENT : (struct span){text->bytes, text->n};
}

bool actions_add(struct actions *a, const struct action *action)
{
    if (a->count == a->cap) {
        size_t cap = a->cap == 0 ? 8 : 2 * a->cap;
        struct action *items = realloc(a->items, cap * sizeof(*items));

        if (items == NULL)
            return false;
        a->items = items;
        a->cap = cap;
    }
    a->items[a->count] = *action;
    topic_text_ref(action->uri);
    topic_text_ref(action->tool);
    ++a->count;
    return true;
}

void actions_done(struct actions *a)
{
    for (size_t i = 0; i != a->count; ++i) {
        topic_text_unref(a->items[i].uri);
        topic_text_unref(a->items[i].tool);
    }
    free(a->items);
    *a = (struct actions){.items = NULL};
}
