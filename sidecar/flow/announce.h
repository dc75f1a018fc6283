/* SPDX-License-Identifier: Apache-2.0 */
/* Announcing: what subscribers are to be told, asked or ended by is carried to the loops that have their streams. Each loop has a receiver, and a clock that ticks while it
 * has streams: it finds out what is due (notify/subscribers.h), keeps idle streams alive and looks whether their credentials are over.
 * Thread: the flow's loop; the board, any. */
#ifndef MCPCACHED_FLOW_ANNOUNCE_H
#define MCPCACHED_FLOW_ANNOUNCE_H

#include "sidecar/flow/flow.h"
#include "sidecar/notify/subscribers.h"
#include "sidecar/trust/caller.h"

/* max_links: things that all subscribers together may be subscribed to. unfresh_ms: how often what has no lifetime is asked for again; 0: never. NULL: no memory. */
struct subscribers *announce_subscribers_new(size_t max_links, int64_t unfresh_ms);

/* Where loops find each other. */
struct board;
struct board *board_new(void);
void board_free(struct board *board);

/* Taken: what the actions hold; they are empty after it. Carried out in later turns of their loops, in order, so many at once that requests do not wait for long. */
void announce(struct flow *flow, struct actions *actions);

/* What was announced to this loop and came is carried out, all of it. */
void announce_now(struct flow *flow);

/* An upstream's reply to this caller, learned already, ended his credential or session: what he is subscribed to ends with it. is_delete: the request was a DELETE. */
void announce_ends(struct flow *flow, const struct identity *id, int status, bool is_delete);
/* A write is over, and purged these for everybody. */
void announce_purged(struct flow *flow, const uint64_t *subjects, size_t count);

/* Begins to tick; a loop without streams stops by itself. */
void announce_wake(struct flow *flow);

/* Once per flow, on its loop: after probes_open, before probes_close. */
void announce_open(struct flow *flow);
void announce_close(struct flow *flow);

#endif
