/* SPDX-License-Identifier: Apache-2.0 */
/* A client of stories: its end of a connection, one request at a time, and what came back. Thread: the story's. */
#ifndef SCENARIO_CLIENT_H
#define SCENARIO_CLIENT_H

#include "sidecar/wire/http_reply.h"

#include <stdbool.h>

struct client {
    int fd;            /* -1: no connection */
    struct buf asked;  /* body of the request */
    struct buf unread; /* not yet understood */
    struct buf head_bytes, body;
    struct http_head head; /* spans into head_bytes */
    struct http_body framing;
    bool is_waiting; /* a request was sent, and its answer is not whole */
    bool has_head;
    bool is_whole; /* the answer */
    bool is_cut;   /* the connection ended before the answer was whole */
    bool reads_nothing;
};

void client_init(struct client *c);
void client_done(struct client *c);
/* Sends a request on fd (taken), or, when fd is -1, on the connection that there is. */
void client_ask(struct client *c, int fd, struct span request, struct span body);
/* Whether the connection can take another request. */
bool client_is_reusable(const struct client *c);
/* Reads what there is. True when there was something. */
bool client_poll(struct client *c);
void client_leave(struct client *c);
/* A header of the answer, absent when it has none. */
struct span client_header(const struct client *c, struct span name);
/* The JSON-RPC reply to this id (a raw token) within the answer's body: the body, or one of its events' data. Absent when there is none. ret is scratch and owns it. */
struct span client_reply(const struct client *c, struct span id, struct buf *ret);

#endif
