/* SPDX-License-Identifier: Apache-2.0 */
/* The server of stories: put in the place of sidecar/upstream/upstream.c at link time. It has no connections: a call is shown to a listener, which answers it when
 * it likes, piece by piece. Timeouts, deadlines and the second try at connecting are those of the real one, on the loop's timers.
 * Thread: a call belongs to the loop that began it; the listener is set before the first one. */
#ifndef SCENARIO_FAKE_UPSTREAM_H
#define SCENARIO_FAKE_UPSTREAM_H

#include "sidecar/upstream/alarm.h"
#include "sidecar/upstream/upstream.h"

enum fake_stage {
    FAKE_CONNECTING, /* not yet reached, or never */
    FAKE_ASKED,      /* the request arrived */
    FAKE_ANSWERING,  /* a head was sent */
    FAKE_OVER,
};

struct upstream_call {
    struct upstream *u;
    const struct upstream_callbacks *callbacks;
    void *data;
    struct buf head, body; /* of the request; owned, and there until fake_call_free */
    struct upstream_request request;
    enum fake_stage stage;
    bool is_cancelled;     /* FAKE_OVER: by its owner */
    enum upstream_end how; /* FAKE_OVER and not cancelled */
    void *note;            /* the listener's */
    /* private */
    h2o_timeout_entry_t timeout, later;
    struct alarm deadline, retry;
    bool has_retried;
    struct buf waiting; /* while paused */
    bool is_paused, is_hurried, in_callback, has_end;
    enum upstream_end end;
};

/* How the next calls find the upstream. */
enum fake_door {
    FAKE_OPEN,
    FAKE_REFUSING,         /* connecting fails, in a later turn of the loop */
    FAKE_REFUSING_AT_ONCE, /* connecting fails before upstream_call_start returns, and nothing is tried again */
    FAKE_SILENT,           /* connecting never ends */
};

struct fake_listener {
    /* A call begins, or arrives at the second try: only to be looked at. Answers are sent later, never from here. */
    void (*on_call)(struct upstream_call *call);
    /* It is over, and the listener's to free. */
    void (*on_over)(struct upstream_call *call);
};
void fake_upstream_listen(const struct fake_listener *listener);
void fake_upstream_door(enum fake_door door);
/* Calls of all loops that are not over. */
size_t fake_upstream_open_calls(void);

struct fake_header {
    struct span name, value;
};

/* The answer. No-ops on a call that is over. content_bytes: SIZE_MAX when the head does not say. */
void fake_call_head(struct upstream_call *call, int status, const struct fake_header *headers, size_t count, bool has_body,
                    size_t content_bytes);
void fake_call_body(struct upstream_call *call, struct span bytes);
void fake_call_end(struct upstream_call *call, enum upstream_end how);
void fake_call_free(struct upstream_call *call);

/* A header of the request, by its lower-case name; absent when it has none. */
struct span fake_call_header(const struct upstream_call *call, struct span name);

#endif
