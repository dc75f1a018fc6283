/* SPDX-License-Identifier: Apache-2.0 */
/* The clients' connections of one loop. Not here: accepting them (listener.c), what is asked on them (flow/). Thread: the loop. */
#include "sidecar/front/connection.h"

#include <stdlib.h>
#include <sys/socket.h>

struct connection {
    struct wire_connection wire; /* first: the socket's on_close data */
    h2o_linklist_t link;
    struct connections *all;
    h2o_socket_t *sock;
};

void connections_init(struct connections *all, void (*on_close)(struct connections *all))
{
    *all = (struct connections){.on_close = on_close};
    h2o_linklist_init_anchor(&all->list);
}

static void on_close(void *data)
{
    struct connection *c = data;
    struct connections *all = c->all;

    h2o_linklist_unlink(&c->link);
    --all->count;
    free(c);
    all->on_close(all);
}

void connection_new(struct connections *all, h2o_socket_t *sock)
{
    struct connection *c = h2o_mem_alloc(sizeof(*c));

    *c = (struct connection){.all = all, .sock = sock};
    sock->on_close.cb = on_close;
    sock->on_close.data = &c->wire;
    h2o_linklist_insert(&all->list, &c->link);
    ++all->count;
}

void connections_shut(struct connections *all)
{
    for (h2o_linklist_t *l = all->list.next; l != &all->list; l = l->next)
        shutdown(h2o_socket_get_fd(H2O_STRUCT_FROM_MEMBER(struct connection, link, l)->sock), SHUT_RDWR);
}

bool connections_is_any_writing(const struct connections *all)
{
    for (h2o_linklist_t *l = all->list.next; l != &all->list; l = l->next)
        if (h2o_socket_is_writing(H2O_STRUCT_FROM_MEMBER(struct connection, link, l)->sock))
            return true;
    return false;
}
