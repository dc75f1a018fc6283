/* SPDX-License-Identifier: Apache-2.0 */
/* Proofs: when the upstream was last seen to accept something. Each counts only under the epochs (standing.h) in which it was seen, so that an end takes all proofs with it.
 * Names are keyed digests; what a full table forgets has to be proven again. Thread: any. */
#ifndef MCPCACHED_TRUST_PROOFS_H
#define MCPCACHED_TRUST_PROOFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proofs;

/* capacity: proofs at most. NULL when memory is short. */
struct proofs *proofs_new(size_t capacity);
void proofs_free(struct proofs *p);

/* epochs: of the credential, and of the session or 0. */
void proofs_learn(struct proofs *p, const uint8_t name[16], const uint64_t epochs[2], int64_t at_ms);
/* When it was proven; -1: it was not, or under other epochs. */
int64_t proofs_at(struct proofs *p, const uint8_t name[16], const uint64_t epochs[2]);
/* It holds no more, and what was proven until now does not bring it back. */
void proofs_drop(struct proofs *p, const uint8_t name[16], int64_t now_ms);

#endif
