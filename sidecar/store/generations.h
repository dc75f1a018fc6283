/* SPDX-License-Identifier: Apache-2.0 */
/* Generations: what was purged, and whether before or after a fetch began. One counter that only goes up; a raise takes its next number and writes it down for a
 * subject; who notes the counter when his fetch begins can tell later whether a raise came after it. No clock, so no ties.
 * Kept in a file that is mapped shared: what a raise wrote there survives the end of the process, however it ends, as soon as the raise returns.
 * Always: the counter is not below any number in the table, nor below what an entry carries; two subjects that share a slot only purge too much.
 * Thread: any, lock-free, but for opening and closing. */
#ifndef MCPCACHED_STORE_GENERATIONS_H
#define MCPCACHED_STORE_GENERATIONS_H

#include "store.h"

enum { GENERATIONS_SLOTS = 131072 };

struct generations_map;

struct generations {
    struct generations_map *map; /* owned; NULL: not open */
};

int generations_open(struct generations *ret);
void generations_close(struct generations *generations);

/* As store_generation, store_raise, store_validity_of. */
uint64_t generations_now(const struct generations *generations);
uint64_t generations_raise(struct generations *generations, uint64_t subject, enum store_raise how);
enum store_validity generations_validity(const struct generations *generations, uint64_t generation, const uint64_t *subjects,
                                         size_t count);

#endif
