/* SPDX-License-Identifier: Apache-2.0 */
/* Event-stream frames: bytes in any portions -> whole events with the bytes they came as, so that whoever relays a stream can put events of its own in between, leave
 * one out, or send another in its place, and never cuts one (WHATWG HTML 9.2). Comments between events are frames of their own, without data.
 * An event above the limit is not held: its bytes are handed on as they come, as pieces, until it ends; between its pieces nothing may be put.
 * An event whose closing line ends with a CR is complete there, though an LF may follow: when that comes with a later portion, it is a frame of its own, without data,
 * and harmless wherever it is put. A byte order mark at the very beginning is a frame of its own too.
 * Always: the raw bytes of all frames, one after the other, with frames_rest, are the input, whatever the portions.
 * Thread: any; zero-initialise. */
#ifndef MCPCACHED_WIRE_FRAMES_H
#define MCPCACHED_WIRE_FRAMES_H

#include "cachepolicy/bytes.h"

struct frame {
    struct span raw;  /* as it came, its closing blank line included; of a piece: the piece */
    bool is_piece;    /* of an event above the limit: nothing else is known of it */
    bool is_last;     /* with is_piece: it is over */
    bool is_mark;     /* the byte order mark: to be left out when anything was sent before it, where it is none */
    bool has_data;    /* it has data (which may be empty) and is no comment alone */
    bool is_message;  /* its type is absent or "message" */
    struct span data; /* its data lines joined by LF */
    struct span id;   /* its id field's value; absent: it has none (or one with NUL in it, which counts as none) */
};
typedef void (*frames_fn)(void *ctx, const struct frame *frame);

struct frames {
    size_t event_max; /* bytes of one raw event at most (the LF of a closing CRLF comes on top), not below 4; 0 = 2 MiB */
    /* private */
    struct buf raw, data, id; /* of the open event, and the current line */
    size_t line_start;
    bool has_data, has_id, is_other, after_cr, saw_first_line;
    bool is_passing, is_comment, is_line_empty; /* of an event above the limit */
};

/* Calls fn for each frame that becomes complete, in order; everything in it lives until fn returns. A comment, or a blank line where no event is open, is complete at once
 * with its line's end. fn may free nothing of the frames. 0 or -ENOMEM, after which they are of no use. */
int frames_feed(struct frames *f, struct span bytes, frames_fn fn, void *ctx);
/* Bytes of an event that is not complete: the rest, when the stream ends. Borrowed until the next call. */
struct span frames_rest(const struct frames *f);
/* Nothing of an event is open: something else may be sent. (Bytes that are held are not sent; so it is false only within an event above the limit.) */
bool frames_is_between(const struct frames *f);
void frames_done(struct frames *f);

/* The frame (no piece) with other data: its other lines as they came, and where its data began the new data; a CR or CRLF in that becomes an LF. 0 or -ENOMEM; out is
 * unchanged then. */
int frame_with_data(const struct frame *frame, struct span data, struct buf *out);
/* An event of our own: "data: ...\n\n"; no id, no type. */
int frame_add(struct buf *out, struct span data);

#endif
