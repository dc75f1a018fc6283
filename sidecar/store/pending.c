/* SPDX-License-Identifier: Apache-2.0 */
/* What is queued and not yet committed. Not here: the queue itself (writer.c). Always: a shard's count is the length of its list; items of one key stand
 * newest first. Thread: any. */
#include "pending.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SHARDS = 256 };

struct shard {
    _Atomic uint32_t count;
    pthread_mutex_t lock;
    struct pending_item *first;
};

struct pending {
    struct shard shards[SHARDS];
};

struct pending *pending_new(void)
{
    struct pending *pending = calloc(1, sizeof(*pending));

    if (pending == NULL)
        return NULL;
    for (size_t i = 0; i != SHARDS; ++i)
        pthread_mutex_init(&pending->shards[i].lock, NULL);
    return pending;
}

void pending_free(struct pending *pending)
{
    if (pending == NULL)
        return;
    for (size_t i = 0; i != SHARDS; ++i)
        pthread_mutex_destroy(&pending->shards[i].lock);
    free(pending);
}

static struct shard *shard_of(struct pending *pending, const struct cp_key *key)
{
    return &pending->shards[key->digest[0]];
}

void pending_add(struct pending *pending, struct pending_item *item)
{
    struct shard *shard = shard_of(pending, item->key);

    pthread_mutex_lock(&shard->lock);
    item->next = shard->first;
    shard->first = item;
    atomic_fetch_add_explicit(&shard->count, 1, memory_order_release);
    pthread_mutex_unlock(&shard->lock);
}

void pending_remove(struct pending *pending, struct pending_item *item)
{
    struct shard *shard = shard_of(pending, item->key);

    pthread_mutex_lock(&shard->lock);
    for (struct pending_item **at = &shard->first; *at != NULL; at = &(*at)->next)
        if (*at == item) {
            *at = item->next;
            atomic_fetch_sub_explicit(&shard->count, 1, memory_order_release);
            break;
        }
    pthread_mutex_unlock(&shard->lock);
}

enum pending_found pending_find(struct pending *pending, const struct cp_key *key, void *(*alloc)(void *ctx, size_t bytes),
                                void *ctx, struct store_entry *ret)
{
    struct shard *shard = shard_of(pending, key);
    enum pending_found found = PENDING_NOTHING;

    if (atomic_load_explicit(&shard->count, memory_order_acquire) == 0)
        return PENDING_NOTHING;
    pthread_mutex_lock(&shard->lock);
    for (const struct pending_item *item = shard->first; item != NULL; item = item->next) {
        char *body, *more;
        size_t subjects_bytes;

        if (memcmp(item->key->digest, key->digest, sizeof(key->digest)) != 0)
            continue;
        found = PENDING_DELETE;
        if (item->entry == NULL || memcmp(item->key->check, key->check, sizeof(key->check)) != 0)
            break;
        subjects_bytes = item->entry->subject_count * sizeof(item->entry->subjects[0]);
        body = alloc(ctx, item->entry->body.n + 1);
        more = alloc(ctx, subjects_bytes + item->entry->name.n + 1);
        if (body == NULL || more == NULL)
            break;
        *ret = *item->entry;
        if (ret->body.n != 0)
            memcpy(body, item->entry->body.p, ret->body.n);
        if (subjects_bytes != 0)
            memcpy(more, item->entry->subjects, subjects_bytes);
        if (ret->name.n != 0)
            memcpy(more + subjects_bytes, item->entry->name.p, ret->name.n);
        ret->body.p = body;
        ret->subjects = subjects_bytes != 0 ? (const uint64_t *)(void *)more : NULL;
        ret->name.p = more + subjects_bytes;
        found = PENDING_PUT;
        break;
    }
    pthread_mutex_unlock(&shard->lock);
    return found;
}
