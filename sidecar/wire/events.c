/* SPDX-License-Identifier: Apache-2.0 */
/* Event-stream reader. Not here: what an event means (flow/exchange.c). Always: memory is bounded by data_max plus one line of the same bound. */
#include "sidecar/wire/events.h"

#include <errno.h>

#define DATA_MAX_DEFAULT (2 * 1024 * 1024)

static size_t data_max(const struct events *e)
{
    return e->data_max != 0 ? e->data_max : DATA_MAX_DEFAULT;
}

static int end_line(struct events *e, events_fn fn, void *ctx)
{
    struct span line = buf_span(&e->line), name = line, value = SPAN("");
    const char *colon;
    int r = 0;

    if (!e->saw_bom_check) {
        e->saw_bom_check = true;
        if (line.n >= 3 && memcmp(line.p, "\xef\xbb\xbf", 3) == 0)
            line = name = (struct span){line.p + 3, line.n - 3};
    }
    if (line.n == 0) {
        if (e->too_large)
            e->dropped = true;
        else if (e->has_data)
            fn(ctx, (struct span){e->data.p != NULL ? e->data.p : "", e->data.n});
        e->data.n = 0;
        e->has_data = e->too_large = false;
        return 0;
    }
    colon = memchr(line.p, ':', line.n);
    if (colon != NULL) {
        name.n = (size_t)(colon - line.p);
        value = (struct span){colon + 1, line.n - name.n - 1};
        if (value.n != 0 && *value.p == ' ')
            value = (struct span){value.p + 1, value.n - 1};
    }
    if (span_eq(name, SPAN("data"))) {
        if (e->too_large || e->data.n + value.n + 1 > data_max(e)) {
            e->too_large = true;
        } else {
            if (e->has_data)
                r = buf_add(&e->data, "\n", 1);
            if (r == 0)
                r = buf_add_span(&e->data, value);
            e->has_data = true;
        }
    } else if (span_eq(name, SPAN("id")) && value.n != 0) {
        e->has_ids = true;
    }
    e->line.n = 0;
    return r;
}

int events_feed(struct events *e, struct span bytes, events_fn fn, void *ctx)
{
    const char *p = bytes.p, *end = bytes.p + bytes.n;
    int r;

    while (p != end) {
        const char *stop = p;

        if (e->after_cr) {
            e->after_cr = false;
            if (*p == '\n') {
                ++p;
                continue;
            }
        }
        while (stop != end && *stop != '\n' && *stop != '\r')
            ++stop;
        if (e->line.n + (size_t)(stop - p) > data_max(e) + 16) {
            /* a line beyond every bound: remember its field name, drop the rest */
            e->too_large = true;
            if (e->line.n == 0 && (r = buf_add(&e->line, p, 16)) != 0)
                return r;
        } else if ((r = buf_add(&e->line, p, (size_t)(stop - p))) != 0) {
            return r;
        }
        if (stop == end)
            break;
        e->after_cr = *stop == '\r';
        p = stop + 1;
        if ((r = end_line(e, fn, ctx)) != 0)
            return r;
        e->line.n = 0;
    }
    return 0;
}

void events_done(struct events *e)
{
    buf_done(&e->line);
    buf_done(&e->data);
}
