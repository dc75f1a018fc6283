/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded table of small records under 16-byte names, read without locks by every loop.
 * A full bucket makes room by forgetting its record of the lowest rank, so whoever keeps something here must be right when it is gone. Names must be
 * keyed digests: strangers who could choose them could choose what is forgotten.
 * Thread: any. Readers take no lock and meet a writer for the length of a copy; writers share one mutex. */
#ifndef MCPCACHED_BASE_SLOTS_H
#define MCPCACHED_BASE_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOTS_WORDS_MAX 10

struct slots;
struct slot;

/* capacity: records at most, rounded up. words: of one record, up to SLOTS_WORDS_MAX; word 0 is its rank. NULL when memory is short. */
struct slots *slots_new(size_t capacity, unsigned words);
void slots_free(struct slots *s);

/* Copies the record of this name. False: there is none. */
bool slots_read(struct slots *s, const uint8_t name[16], uint64_t *ret);

/* For writing: locks the table and gives the slot that name has, or shall get, with what it holds: the record of this name (*ret_found), or the one that would be
 * forgotten for it, or zeros. Ends with slots_unlock, which stores words; words NULL changes nothing. */
struct slot *slots_lock(struct slots *s, const uint8_t name[16], uint64_t *words, bool *ret_found);
void slots_unlock(struct slots *s, struct slot *slot, const uint8_t name[16], const uint64_t *words);

/* Which bucket a name is in, below slots_bucket_count. */
size_t slots_bucket(const struct slots *s, const uint8_t name[16]);
size_t slots_bucket_count(const struct slots *s);

#endif
