/* SPDX-License-Identifier: Apache-2.0 */
/* Generations: what was purged, and whether before or after a fetch began. One counter that only goes up; a raise takes its next number and writes it down for a
 * subject; who notes the counter when his fetch begins can tell later whether a raise came after it. No clock, so no ties.
 * Kept in a file of fixed size that is mapped shared: what a raise wrote there survives the end of the process, however it ends, as soon as the raise returns. An end of
 * the kernel it survives only after a clean end; then, as after any doubt, the store is wiped, and the file with it (store.c).
 * What is under way stands there, too, and is raised when the file is opened after an end that came in between.
 * Always: the counter is not below any number in the table, nor below what an entry carries; two subjects that share a slot only purge too much; the file's blocks
 * are allocated before it is used, since a full disk would show as SIGBUS.
 * Thread: any, lock-free, but for opening and closing. */
#ifndef MCPCACHED_STORE_GENERATIONS_H
#define MCPCACHED_STORE_GENERATIONS_H

#include <stdatomic.h>

#include "store.h"

enum {
    GENERATIONS_SCHEMA = 1,
    GENERATIONS_SLOTS = 131072, /* with 1000 subjects raised, one in 130 others is purged with them */
    GENERATIONS_ID_BYTES = 16,
    GENERATIONS_UNDER_WAY = 480,
    GENERATIONS_FILE_BYTES = 4096 + GENERATIONS_SLOTS * 16,
};

struct generations_map; /* the file */

struct generations {
    struct generations_map *map; /* owned; NULL: not open */
    atomic_bool has_raised_hard; /* since the writer last began to reclaim */
};

/* Opens the file, or makes a new one, of another id and with nothing raised, in the place of one that cannot be believed: missing, of another length or schema, with
 * a number above its counter, or, with sum, of another sum than *sum (generations_close gave it). 0 or -errno. */
int generations_open(const char *path, const uint64_t *sum, struct generations *ret);
/* With ret_sum, the end is a clean one: waits until the file is on the disk and gives its sum. 0 or -errno; closed either way. Nobody raises or looks any more. */
int generations_close(struct generations *generations, uint64_t *ret_sum);

/* Random, made with the file: whoever keeps it knows the file again. GENERATIONS_ID_BYTES, borrowed. */
const uint8_t *generations_id(const struct generations *generations);

/* Whether what has the one subject is always purged together with what has the other. */
bool generations_is_one(uint64_t a, uint64_t b);

/* As store_generation, store_raise, store_validity_of. */
uint64_t generations_now(const struct generations *generations);
uint64_t generations_raise(struct generations *generations, uint64_t subject, enum store_raise how);
/* As store_begin, store_end. */
unsigned generations_begin(struct generations *generations, uint64_t subject);
void generations_end(struct generations *generations, unsigned place);
enum store_validity generations_validity(const struct generations *generations, uint64_t generation, const uint64_t *subjects,
                                         size_t count);

#endif
