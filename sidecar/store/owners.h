/* SPDX-License-Identifier: Apache-2.0 */
/* Who holds how much of the store: one account per owner, so that room is made at the expense of whoever holds more than his share.
 * Kept in memory only. What lay in the store when it was opened is counted afterwards, little by little, in the order of the index; until then it is on nobody's
 * account. So is what the table cannot hold, and owner 0 is nobody. Always: memory is bounded, whatever strangers do; a mistake leads back to "the oldest
 * goes first" and to nobody's loss.
 * Changes are told one by one within a transaction and count once it is committed.
 * Thread: the opening one, then the writer's. */
#ifndef MCPCACHED_STORE_OWNERS_H
#define MCPCACHED_STORE_OWNERS_H

#include "entry.h"

struct owners;

enum { OWNERS_MAX = 48 * 1024 }; /* accounts at once; some 1.5 MiB when all are in use */

/* limit_bytes: what one owner may hold before others are spared at his expense; not 0. first_seq: above all that lies in the store. NULL when memory
 * is short. Owned. */
struct owners *owners_new(uint64_t limit_bytes, uint64_t first_seq);
/* Accepts NULL. */
void owners_free(struct owners *owners);

/* A transaction begins: what was told since the last owners_keep did not happen. */
void owners_begin(struct owners *owners);
/* An entry was put under seq, or is gone. bytes: what it weighs. */
void owners_tell_put(struct owners *owners, uint64_t owner, uint64_t seq, uint64_t bytes);
void owners_tell_gone(struct owners *owners, uint64_t owner, const uint8_t digest[32], uint64_t seq, uint64_t bytes);
/* The transaction is committed. */
void owners_keep(struct owners *owners);

/* Counting what lay there: the digest up to which (itself included) the index is counted; NULL at the beginning. *ret_is_whole: all of it. */
const uint8_t *owners_counted(const struct owners *owners, bool *ret_is_whole);
/* The next entry of the index, which none lies before that is not counted. It counts at once. */
void owners_count(struct owners *owners, const uint8_t digest[32], uint64_t owner, uint64_t seq, uint64_t bytes);
void owners_counted_all(struct owners *owners);

/* Who holds most of those over the limit, by how much, and the seq below which he has nothing (his hand). False: nobody is over it. */
bool owners_over(const struct owners *owners, uint64_t *ret_owner, uint64_t *ret_excess_bytes, uint64_t *ret_hand);
/* Owner has nothing below hand. */
void owners_hand(struct owners *owners, uint64_t owner, uint64_t hand);
/* Owner turned out to hold nothing. */
void owners_forget(struct owners *owners, uint64_t owner);
/* The store is empty. */
void owners_clear(struct owners *owners);

/* What is on owner's account; how many have one. */
uint64_t owners_bytes(const struct owners *owners, uint64_t owner);
size_t owners_accounts(const struct owners *owners);

#endif
