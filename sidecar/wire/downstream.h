/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of one exchange: an answer written piece by piece with back-pressure, and word of the client's leaving.
 *
 * libh2o stops reading a connection while its request runs, so a client that leaves is not noticed. downstream_watch sees
 * readiness without reading bytes (measured: 1-3 ms for close, reset and half-close); it works on plain TCP. Once bytes of a next
 * request lie there unread, it asks for the connection's state each second instead.
 *
 *      new -> [watch] -> start -> write* -> end      the client has the whole answer
 *                              \-> abort             the connection is cut, so that a broken answer never looks whole
 *      on_gone may come at any point before end or abort. After on_gone, end or abort nothing more is called in either direction.
 *
 * Thread: the request's loop. Owned by the h2o request: lives until h2o is done with it, whatever the exchange does. */
#ifndef MCPCACHED_WIRE_DOWNSTREAM_H
#define MCPCACHED_WIRE_DOWNSTREAM_H

#include "cachepolicy/bytes.h"

#include <h2o.h>

struct downstream;

/* One accepted connection; the data of its socket's on_close. */
struct wire_connection {
    struct downstream *watched; /* who wants to know when the client leaves, or NULL */
    bool is_tls;
};

typedef void (*downstream_fn)(void *owner);

/* on_gone: the client left, or h2o dropped the request. on_drained: everything written so far went out. */
struct downstream *downstream_new(h2o_req_t *req, void *owner, downstream_fn on_gone, downstream_fn on_drained);
h2o_req_t *downstream_req(struct downstream *d);
void downstream_watch(struct downstream *d);
/* Gives the request back to be answered directly, before anything was started; d is of no further use. */
h2o_req_t *downstream_take(struct downstream *d);

/* The upstream's Date, to be relayed instead of h2o's own; before the start. Ignored unless it has the length of an HTTP date. */
void downstream_set_date(struct downstream *d, struct span date);
/* Sends status and headers (already in req->res) at once. content_bytes: SIZE_MAX when unknown (chunked, or until close for HTTP/1.0). */
void downstream_start(struct downstream *d, size_t content_bytes);
/* Sends a head that has no body behind it (HEAD, 204, 304) and ends the answer. content_bytes: what Content-Length says; SIZE_MAX: no such header. */
void downstream_start_bodyless(struct downstream *d, size_t content_bytes);
/* Bytes are copied. Returns how many wait to be written, for back-pressure. */
size_t downstream_write(struct downstream *d, struct span bytes);
void downstream_end(struct downstream *d);
void downstream_abort(struct downstream *d);

#endif
