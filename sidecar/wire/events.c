/* SPDX-License-Identifier: Apache-2.0 */
/* Event-stream reader. Not here: what an event means (flow/exchange.c). Always: memory is bounded by the limit, once for the data and once for a line, and what
 * is reported does not depend on how the bytes were cut. */
#include "sidecar/wire/events.h"

#include <errno.h>

#define DATA_MAX_DEFAULT (2 * 1024 * 1024)
/* what a line may have besides its data: byte order mark, field name, colon, space */
#define LINE_EXTRA_BYTES 16

static size_t data_max(const struct events *e)
{
    return e->data_max != 0 ? e->data_max : DATA_MAX_DEFAULT;
}

static int add_data(struct events *e, struct span value)
{
    size_t separator_bytes = e->has_data ? 1 : 0;
    int r;

    e->has_data = true;
    if (e->is_too_large || e->line_is_cut || separator_bytes + value.n > data_max(e) - e->data.n) {
        e->is_too_large = true;
        return 0;
    }
    if ((r = buf_add(&e->data, "\n", separator_bytes)) != 0)
        return r;
    return buf_add_span(&e->data, value);
}

static void end_event(struct events *e, events_fn fn, void *ctx)
{
    if (e->has_data && !e->is_other) {
        if (e->is_too_large)
            e->dropped = true;
        else
            fn(ctx, (struct span){e->data.p != NULL ? e->data.p : "", e->data.n});
    }
    e->data.n = 0;
    e->has_data = e->is_too_large = e->is_other = false;
}

static int end_line(struct events *e, events_fn fn, void *ctx)
{
    struct span name = buf_span(&e->line), value = SPAN("");
    const char *colon;

    if (!e->saw_first_line) {
        e->saw_first_line = true;
        if (name.n >= 3 && memcmp(name.p, "\xef\xbb\xbf", 3) == 0)
            name = (struct span){name.p + 3, name.n - 3};
    }
    if (name.n == 0) {
        end_event(e, fn, ctx);
        return 0;
    }
    colon = memchr(name.p, ':', name.n);
    if (colon != NULL) {
        value = (struct span){colon + 1, name.n - (size_t)(colon + 1 - name.p)};
        name.n = (size_t)(colon - name.p);
        if (value.n != 0 && *value.p == ' ')
            value = (struct span){value.p + 1, value.n - 1};
    }
    if (span_eq(name, SPAN("data")))
        return add_data(e, value);
    if (span_eq(name, SPAN("event")))
        e->is_other = value.n != 0 && !span_eq(value, SPAN("message"));
    else if (span_eq(name, SPAN("id")))
        e->has_ids |= value.n != 0 && memchr(value.p, '\0', value.n) == NULL;
    return 0;
}

int events_feed(struct events *e, struct span bytes, events_fn fn, void *ctx)
{
    const char *p = bytes.p, *end = bytes.p + bytes.n;
    int r;

    while (p != end) {
        const char *stop = p;
        size_t n, room;

        if (e->after_cr) {
            e->after_cr = false;
            if (*p == '\n') {
                ++p;
                continue;
            }
        }
        while (stop != end && *stop != '\n' && *stop != '\r')
            ++stop;
        n = (size_t)(stop - p);
        room = data_max(e) + LINE_EXTRA_BYTES - e->line.n;
        /* the start of an over-long line tells which field it is; the rest is of no use */
        e->line_is_cut |= n > room;
        if ((r = buf_add(&e->line, p, n < room ? n : room)) != 0)
            return r;
        if (stop == end)
            break;
        e->after_cr = *stop == '\r';
        p = stop + 1;
        r = end_line(e, fn, ctx);
        e->line.n = 0;
        e->line_is_cut = false;
        if (r != 0)
            return r;
    }
    return 0;
}

void events_done(struct events *e)
{
    buf_done(&e->line);
    buf_done(&e->data);
}
