/* SPDX-License-Identifier: Apache-2.0 */
/* Event-stream reader (WHATWG HTML 9.2, as MCP uses it): bytes in any portions -> events. CR, LF and CRLF end lines; comments, retry and unknown fields are
 * passed over; data lines are joined by LF; an event without its closing blank line is incomplete and never reported. Neither is one whose type is
 * other than "message": clients do not take it for one.
 * It only listens: the bytes themselves travel on untouched. Thread: any; zero-initialise. */
#ifndef MCPCACHED_WIRE_EVENTS_H
#define MCPCACHED_WIRE_EVENTS_H

#include "cachepolicy/bytes.h"

struct events {
    size_t data_max; /* bytes of one event's data at most, joining LFs included; 0 = 2 MiB */
    bool has_ids;    /* an id field with a value was seen on this stream: the client may resume it */
    bool dropped;    /* an event was too large to be read */
    /* private */
    struct buf line; /* the current line, or as much of it as can matter */
    struct buf data; /* of the current event */
    bool line_is_cut;
    bool has_data, is_too_large, is_other; /* of the current event */
    bool after_cr;
    bool saw_first_line;
};

/* data: the event's data, borrowed until the callback returns. */
typedef void (*events_fn)(void *ctx, struct span data);

/* 0 or -ENOMEM. */
int events_feed(struct events *e, struct span bytes, events_fn fn, void *ctx);
void events_done(struct events *e);

#endif
