/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused at the door: requests that nobody behind it ever sees. Each is answered with a JSON-RPC error (a bare 4xx reads as "older server" to clients
 * that speak both eras), logged in one line without a byte of the request, and ends its connection. Thread: the connection's loop. */
#ifndef MCPCACHED_FRONT_REFUSAL_H
#define MCPCACHED_FRONT_REFUSAL_H

#include <h2o.h>

enum refusal {
    REFUSAL_FRAMING,
    REFUSAL_HEADER_SIZE,
    REFUSAL_BODY_SIZE,
    REFUSAL_EXPECTATION,
    REFUSAL_SLOW_HEADER,
    REFUSAL_SLOW_BODY,
};

/* Answers a request that libh2o has read; bytes behind it on the connection are never looked at. why: for the log, borrowed. */
void refusal_send(h2o_req_t *req, enum refusal refusal, const char *why);
/* Answers a connection whose request libh2o is still reading, past libh2o: as far as the socket takes it at once. The caller ends the connection. */
void refusal_write(h2o_context_t *ctx, h2o_socket_t *sock, enum refusal refusal, const char *why);
/* Gives libh2o's own errors (body too large, broken chunks, unknown expectation) the same form. It binds them to a path of its own: `path`, on which no request
 * may be handled. Not reached: heads that libh2o cannot parse at all, or with more than 100 fields; it answers those "Bad Request" in plain text.
 * Main thread, before the loops. */
void refusal_adopt_errors(h2o_pathconf_t *path);

#endif
