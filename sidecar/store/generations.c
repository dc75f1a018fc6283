/* SPDX-License-Identifier: Apache-2.0 */
/* The counter and the table of what was raised. Not here: what is raised when (the flow), which subjects an entry has (the policy).
 * Always: a number is in the counter before it is in the table.
 * Thread: as in the header. */
#include "generations.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct slot {
    _Atomic uint64_t hard, soft;
};

struct generations_map {
    _Atomic uint64_t counter;
    struct slot all; /* of STORE_SUBJECT_ALL: shared with nobody, or a tag could purge everything */
    struct slot slots[GENERATIONS_SLOTS];
};

int generations_open(struct generations *ret)
{
    if ((ret->map = calloc(1, sizeof(*ret->map))) == NULL)
        return -ENOMEM;
    return 0;
}

void generations_close(struct generations *generations)
{
    free(generations->map);
    generations->map = NULL;
}

static struct slot *slot_of(struct generations_map *map, uint64_t subject)
{
    return subject == STORE_SUBJECT_ALL ? &map->all : &map->slots[subject % GENERATIONS_SLOTS];
}

uint64_t generations_now(const struct generations *generations)
{
    return atomic_load(&generations->map->counter);
}

uint64_t generations_raise(struct generations *generations, uint64_t subject, enum store_raise how)
{
    struct slot *slot = slot_of(generations->map, subject);
    _Atomic uint64_t *number = how == STORE_RAISE_HARD ? &slot->hard : &slot->soft;
    uint64_t mine = atomic_fetch_add(&generations->map->counter, 1) + 1, there = atomic_load(number);

    while (there < mine && !atomic_compare_exchange_weak(number, &there, mine))
        ;
    return mine;
}

static enum store_validity validity_by(const struct slot *slot, uint64_t generation)
{
    if (atomic_load(&slot->hard) > generation)
        return STORE_PURGED;
    return atomic_load(&slot->soft) > generation ? STORE_SOFT_PURGED : STORE_VALID;
}

enum store_validity generations_validity(const struct generations *generations, uint64_t generation, const uint64_t *subjects,
                                         size_t count)
{
    enum store_validity validity = validity_by(&generations->map->all, generation);

    for (size_t i = 0; i < count && validity != STORE_PURGED; ++i) {
        enum store_validity one = validity_by(slot_of(generations->map, subjects[i]), generation);
        if (one > validity)
            validity = one;
    }
    return validity;
}
