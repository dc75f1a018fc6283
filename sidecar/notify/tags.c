/* SPDX-License-Identifier: Apache-2.0 */
/* Tags: an index from subjects to what they purge. */
#include "tags.h"

#include <stdlib.h>

static uint64_t hash_of_tag(const struct node *node)
{
    return table_mix(OF_NODE(const struct tag, node, node)->subject);
}

static uint64_t hash_of_overfull(const struct node *node)
{
    return table_mix((uintptr_t)node);
}

bool tags_init(struct tags *t)
{
    *t = (struct tags){.round = 0};
    return table_init(&t->table, hash_of_tag) && table_init(&t->overfull, hash_of_overfull);
}

void tags_done(struct tags *t)
{
    table_done(&t->table);
    table_done(&t->overfull);
}

static bool is_the_same(const struct tagged *tagged, const uint64_t *subjects, size_t count)
{
    if (tagged == NULL)
        return count == 0;
    if (tagged->is_overfull || tagged->count != count)
        return false;
    for (size_t i = 0; i != count; ++i)
        if (tagged->tags[i].subject != subjects[i])
            return false;
    return true;
}

void tags_set(struct tags *t, struct tagged **at, void *owner, bool is_result, const uint64_t *subjects, size_t count)
{
    const size_t kept = count < TAGS_MAX ? count : TAGS_MAX;
    struct tagged *tagged;

    if (is_the_same(*at, subjects, count))
        return;
    tags_drop(t, at);
    if (count == 0 || (tagged = malloc(sizeof(*tagged) + kept * sizeof(tagged->tags[0]))) == NULL)
        return;
    *tagged = (struct tagged){
        .owner = owner, .is_result = is_result, .is_overfull = kept != count, .count = (uint8_t)kept, .visited = t->round};
    if (tagged->is_overfull)
        table_add(&t->overfull, &tagged->node);
    for (size_t i = 0; i != kept; ++i) {
        tagged->tags[i] = (struct tag){.subject = subjects[i], .of = tagged};
        table_add(&t->table, &tagged->tags[i].node);
    }
    *at = tagged;
}

void tags_drop(struct tags *t, struct tagged **at)
{
    struct tagged *tagged = *at;

    if (tagged == NULL)
        return;
    *at = NULL;
    table_remove(&t->overfull, &tagged->node);
    for (size_t i = 0; i != tagged->count; ++i)
        table_remove(&t->table, &tagged->tags[i].node);
    free(tagged);
}

void tags_visit(struct tags *t, const uint64_t *subjects, size_t count, void (*visit)(void *ctx, const struct tagged *tagged),
                void *ctx)
{
    ++t->round;
    for (size_t i = 0; i != count; ++i)
        for (struct node *node = table_first(&t->table, table_mix(subjects[i])); node != NULL; node = node->next) {
            struct tag *tag = OF_NODE(struct tag, node, node);

            if (tag->subject != subjects[i] || tag->of->visited == t->round)
                continue;
            tag->of->visited = t->round;
            visit(ctx, tag->of);
        }
    if (t->overfull.count == 0)
        return;
    for (size_t i = 0; i != t->overfull.size; ++i)
        for (struct node *node = t->overfull.buckets[i]; node != NULL; node = node->next) {
            struct tagged *tagged = OF_NODE(struct tagged, node, node);

            if (tagged->visited == t->round)
                continue;
            tagged->visited = t->round;
            visit(ctx, tagged);
        }
}
