/* SPDX-License-Identifier: Apache-2.0 */
/* The clients' connections of one loop. A connection belongs to its socket: it is there from accept until libh2o closes the socket.
 * Thread: the loop. */
#ifndef MCPCACHED_FRONT_CONNECTION_H
#define MCPCACHED_FRONT_CONNECTION_H

#include "sidecar/wire/downstream.h"

struct connections {
    h2o_linklist_t list;
    size_t count;
    void (*on_close)(struct connections *all); /* one is gone; count says how many are left */
};

void connections_init(struct connections *all, void (*on_close)(struct connections *all));
/* Takes an accepted socket in; before h2o_accept. */
void connection_new(struct connections *all, h2o_socket_t *sock);
/* Ends all, whatever they do; they are gone after some turns of the loop. */
void connections_shut(struct connections *all);
/* An answer that left its exchange may still be on its way to the client. */
bool connections_is_any_writing(const struct connections *all);

#endif
