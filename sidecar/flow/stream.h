/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: a client's GET (2025-xx-xx) or subscriptions/listen (2026-07-28), open for hours: what the upstream says on it, and what we have to say, on one stream.
 *
 *      HEAD -> RELAY                                     what is no event stream: relayed as it is
 *           -> OPEN                                      GET: the upstream's events, ours in between
 *           -> ACK -> OPEN                               listen: nothing goes out before the acknowledgement, which says what the upstream tells of and what we do
 *           -> HELD -> RELAY, or LOCAL                   the upstream knows no such thing: we may tell of changes alone (GET: 405; listen: 404, -32601)
 *      OPEN -> RETRY -> ACK ... (listen)                 the upstream's stream was lost: the client's stays, another one is sought, and what it would have told is told
 *
 * Events are never cut: ours stand between whole ones, without an id, so that the client's place in the upstream's stream is not moved. A listen that we end is ended by a result; one
 * whose upstream was lost for good is cut, so that the client knows.
 * With subscriptions off a stream is relayed and heard, and nothing is added.
 * Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_STREAM_H
#define MCPCACHED_FLOW_STREAM_H

#include "sidecar/flow/exchange.h"
#include "sidecar/notify/subscribers.h"

struct stream;

/* plan->wire is of a GET on the MCP path, or plan->message a listen that was understood. */
void stream_begin(struct flow *flow, h2o_req_t *req, const struct exchange_plan *plan);

/* What notify/subscribers.h wants done with one of this loop's streams; one that is gone is reported. What finds no place among the polls waits for one. */
void stream_carry_out(struct flow *flow, const struct action *action);
/* Writes the action's notification on its stream, whoever its caller is. */
void stream_tell(struct flow *flow, const struct action *action);

/* What found no place among the polls is tried again: at once with the next turn of the loop, or now, so many at most. */
void streams_go_on_soon(struct flow *flow);
void streams_go_on(struct flow *flow, unsigned most);

/* Idle streams get a comment, those whose credential is over end. Once a tick. */
void streams_look_after(struct flow *flow, int64_t now_ms);
/* The sidecar is about to stop: listens get their result. */
void streams_drain(struct flow *flow);
/* Upstream cancelled, clients cut. */
void streams_stop(struct flow *flow);

#endif
