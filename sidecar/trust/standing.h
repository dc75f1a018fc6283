/* SPDX-License-Identifier: Apache-2.0 */
/* Standings: what the upstream's answers have shown of a credential, a principal or a session. Each has an epoch, a random number that is part of the names of all that
 * was stored on the strength of it: accepted again after an end it gets another one, so whatever lay under the old one is out of reach at once, fills
 * under way included. What is forgotten (the table is bounded, the process may restart) is as good as ended: nothing is ever within reach that should not be.
 * Names are keyed digests. Epochs are also kept in the store, so that what was stored before a restart stays within reach of its owners.
 * Thread: any, except for what takes a trust (its loop). */
#ifndef MCPCACHED_TRUST_STANDING_H
#define MCPCACHED_TRUST_STANDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trust;
struct standings;

#define STANDING_PAYLOAD_BYTES 32
/* All that standings hold of the store counts as one owner's. */
#define STANDINGS_OWNER 1

struct standing {
    uint64_t epoch;   /* 0: not accepted, not any more, or not known */
    int64_t since_ms; /* store clock: when this epoch began */
    int64_t ended_ms; /* when an acceptance last ended, -1: never; what began then or before proves nothing */
    int64_t exp_s;    /* when the token says that it expires (Unix time), -1: it does not say */
    char payload[STANDING_PAYLOAD_BYTES];
};

/* capacity: standings at most. NULL when memory is short. */
struct standings *standings_new(size_t capacity);
void standings_free(struct standings *s);

/* Never fails: what is not known has epoch 0. Memory only. */
void standings_get(struct standings *s, const uint8_t name[16], struct standing *ret);

/* The upstream accepted, in an exchange that began at began_ms. Keeps the epoch that there is, or begins one. payload NULL: what is known stays. False: it ended at or
 * after began_ms, and nothing changed. ret: what holds now. */
bool standings_accept(struct standings *s, const uint8_t name[16], const char *payload, int64_t exp_s, int64_t began_ms,
                      int64_t now_ms, struct standing *ret);
/* The upstream refused: the epoch is over. Strangers who were never accepted are forgotten before others. */
void standings_end(struct standings *s, const uint8_t name[16], int64_t now_ms);
/* The same for a name that is only ever ended: remembered like an acceptance. */
void standings_mark_end(struct standings *s, const uint8_t name[16], int64_t now_ms);

/* The same with what the store remembers from before this process. */
void standing_recall(struct trust *trust, const uint8_t name[16], int64_t exp_s, int64_t now_ms, struct standing *ret);
/* Keeps it in the store for this long. */
void standing_remember(struct trust *trust, const uint8_t name[16], const struct standing *standing, int64_t keep_ms);
bool standing_accept(struct trust *trust, const uint8_t name[16], const char *payload, int64_t exp_s, int64_t began_ms,
                     int64_t now_ms, struct standing *ret);
void standing_end(struct trust *trust, const uint8_t name[16], int64_t now_ms);

#endif
