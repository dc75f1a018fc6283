/* SPDX-License-Identifier: Apache-2.0 */
/* Puts and deletions on their way to the disk, findable by key: what is queued counts at once, for every loop.
 * Order that makes it gapless: post adds before it queues, the writer removes after the commit; a reader asks here first and in the file
 * afterwards. Thread: any. */
#ifndef MCPCACHED_STORE_PENDING_H
#define MCPCACHED_STORE_PENDING_H

#include "store.h"

struct pending;

/* One queued item's place in the table; part of the item. entry NULL: a deletion. Borrowed until it is removed. */
struct pending_item {
    struct pending_item *next;
    const struct cp_key *key;
    const struct store_entry *entry;
};

/* NULL when memory is short. */
struct pending *pending_new(void);
void pending_free(struct pending *pending);

/* The latest item of a key is the one that is found. */
void pending_add(struct pending *pending, struct pending_item *item);
void pending_remove(struct pending *pending, struct pending_item *item);

enum pending_found {
    PENDING_NOTHING,
    PENDING_PUT,    /* *ret is filled, its bytes copied by alloc (as store_get) */
    PENDING_DELETE, /* whatever the file holds is deleted */
};

/* One load when nothing is queued near the key; else a short lock. A put whose check differs from key's counts as a deletion: it will overwrite. */
enum pending_found pending_find(struct pending *pending, const struct cp_key *key, void *(*alloc)(void *ctx, size_t bytes),
                                void *ctx, struct store_entry *ret);

#endif
