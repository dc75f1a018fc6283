/* SPDX-License-Identifier: Apache-2.0 */
/* Event-stream reader (WHATWG HTML 9.2, as MCP uses it): bytes in any portions -> events. CR, LF and CRLF end lines; comments, retry and unknown fields are
 * passed over; data lines are joined by LF; an event without its closing blank line is incomplete and never reported.
 * It only listens: the bytes themselves travel on untouched. Thread: any; zero-initialise. */
#ifndef MCPCACHED_WIRE_EVENTS_H
#define MCPCACHED_WIRE_EVENTS_H

#include "cachepolicy/bytes.h"

struct events {
    struct buf line;
    struct buf data;
    size_t data_max;  /* bytes of one event's data at most; 0 = 2 MiB */
    bool has_data;
    bool too_large;   /* of the current event: it is dropped when it ends */
    bool after_cr;
    bool saw_bom_check;
    bool has_ids;     /* an id field with a value was seen on this stream: the client may resume it */
    bool dropped;     /* an event was too large to be read */
};

/* data: the event's data, borrowed until the callback returns. */
typedef void (*events_fn)(void *ctx, struct span data);

/* 0 or -ENOMEM. */
int events_feed(struct events *e, struct span bytes, events_fn fn, void *ctx);
void events_done(struct events *e);

#endif
