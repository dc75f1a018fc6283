/* SPDX-License-Identifier: Apache-2.0 */
/* The clients' connections of one loop, and what keeps them from being abused: whether a request's framing can be trusted, how large its head may be, how long it may
 * take to arrive, how long its answer may wait to be read. A connection belongs to its socket: it is there from accept until libh2o closes the socket.
 *
 * libh2o hands a request over when it is complete, by its own lenient reading. At that moment the socket's input still begins with the very bytes of its head (names
 * in lower case; behind it the body, chunks decoded in place), also for a further request on the connection: connection_admit scans them there, before anything
 * is done. A request that never becomes complete is never handed over; once a second, all connections are looked at for those.
 * Thread: the loop. */
#ifndef MCPCACHED_FRONT_CONNECTION_H
#define MCPCACHED_FRONT_CONNECTION_H

#include "sidecar/wire/downstream.h"

struct connection_limits {
    size_t max_header_bytes;
    /* each is noticed up to two seconds late; 0: no limit */
    int64_t header_timeout_ms; /* from a request's first byte to the end of its head */
    int64_t body_timeout_ms;   /* from there to the end of its body */
    int64_t write_timeout_ms;  /* while bytes wait to be sent and the client takes none */
};

struct connections {
    h2o_context_t *ctx;
    struct connection_limits limits;
    h2o_linklist_t list;
    size_t count;
    h2o_timeout_entry_t tick;                  /* linked while there is a connection */
    void (*on_close)(struct connections *all); /* one is gone; count says how many are left */
};

void connections_init(struct connections *all, h2o_context_t *ctx, const struct connection_limits *limits,
                      void (*on_close)(struct connections *all));
/* Takes an accepted socket in; before h2o_accept. The loop's context must be ready. */
void connection_new(struct connections *all, h2o_socket_t *sock);
/* Whether this request, just handed over by libh2o, may be acted upon. False: it is answered, and its connection ends. */
bool connection_admit(h2o_req_t *req);
/* For the end of an answer to a request that libh2o stopped reading: says the end to the client, and drops what it goes on sending until it ends too, for two
 * seconds at most. Then fn(arg), once, which ends the answer. */
void connection_linger(h2o_req_t *req, void (*fn)(void *arg), void *arg);
/* Ends all, whatever they do; they are gone after some turns of the loop. */
void connections_shut(struct connections *all);
/* An answer that left its exchange may still be on its way to the client. */
bool connections_is_any_writing(const struct connections *all);

#endif
