/* SPDX-License-Identifier: Apache-2.0 */
/* Event streams. Input: a byte (the limit of an event's data, 0 = the reader's own; also how to cut), then a stream.
 * Always: the same events however the bytes were cut, and those that a plain reading of the standard finds in the whole; memory within its bound. */
#include "fuzz.h"
#include "portions.h"

#include "sidecar/wire/events.h"

struct found {
    struct buf text; /* each event: its length and its data */
    bool has_ids, dropped;
};

static void note(void *ctx, struct span data)
{
    struct found *f = ctx;

    must(data.p != NULL);
    must(buf_add(&f->text, &data.n, sizeof(data.n)) == 0);
    must(buf_add_span(&f->text, data) == 0);
}

static void read_in_portions(struct span bytes, size_t data_max, unsigned way, uint8_t seed, struct found *f)
{
    struct portions portions = portions_begin(way, seed);
    struct events e = {.data_max = data_max};
    size_t bound = 2 * (data_max + 64);

    for (size_t at = 0, n; at < bytes.n; at += n) {
        struct span portion;

        n = portions_next(&portions, bytes.n - at);
        portion = exactly((struct span){bytes.p + at, n});
        must(events_feed(&e, portion, note, f) == 0);
        free((char *)portion.p);
        must(data_max == 0 || (e.line.cap <= bound && e.data.cap <= bound));
    }
    f->has_ids = e.has_ids;
    f->dropped = e.dropped;
    events_done(&e);
}

/* The standard's own words, on the whole text, with memory for everything. */
static void read_plainly(struct span bytes, size_t data_max, struct found *f)
{
    struct buf data = {0};
    bool is_message = true;

    if (bytes.n >= 3 && memcmp(bytes.p, "\xef\xbb\xbf", 3) == 0)
        bytes = (struct span){bytes.p + 3, bytes.n - 3};
    while (bytes.n > 0) {
        size_t n = 0, colon = 0, value;

        while (n < bytes.n && bytes.p[n] != '\r' && bytes.p[n] != '\n')
            n++;
        if (n == bytes.n)
            break;
        while (colon < n && bytes.p[colon] != ':')
            colon++;
        value = colon < n ? colon + 1 : n;
        if (value < n && bytes.p[value] == ' ')
            value++;
        if (n == 0) {
            /* every data line left an LF behind it; the last one is no data */
            if (data.n > 0 && is_message) {
                if (data.n - 1 > data_max)
                    f->dropped = true;
                else
                    note(f, (struct span){data.p, data.n - 1});
            }
            data.n = 0;
            is_message = true;
        } else if (span_eq((struct span){bytes.p, colon}, SPAN("data"))) {
            must(buf_add(&data, bytes.p + value, n - value) == 0 && buf_add(&data, "\n", 1) == 0);
        } else if (span_eq((struct span){bytes.p, colon}, SPAN("event"))) {
            is_message = value == n || span_eq((struct span){bytes.p + value, n - value}, SPAN("message"));
        } else if (span_eq((struct span){bytes.p, colon}, SPAN("id"))) {
            /* of an over-long id the reader sees only the start, so a NUL far behind does not count */
            f->has_ids |= n > value && (n > data_max || memchr(bytes.p + value, '\0', n - value) == NULL);
        }
        n += bytes.p[n] == '\r' && n + 1 < bytes.n && bytes.p[n + 1] == '\n' ? 2 : 1;
        bytes = (struct span){bytes.p + n, bytes.n - n};
    }
    buf_done(&data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct found plain = {.has_ids = false}, found[PORTION_WAYS] = {0};
    struct span bytes;
    size_t data_max;

    if (size == 0)
        return 0;
    data_max = data[0];
    bytes = exactly((struct span){(const char *)data + 1, size - 1});
    read_plainly(bytes, data_max != 0 ? data_max : 2 * 1024 * 1024, &plain);
    for (unsigned way = 0; way < PORTION_WAYS; way++) {
        read_in_portions(bytes, data_max, way, data[0], &found[way]);
        must(found[way].has_ids == found[0].has_ids && found[way].dropped == plain.dropped);
        must(span_eq(buf_span(&found[way].text), buf_span(&plain.text)));
    }
    /* ids longer than the limit are judged by their start */
    must(found[0].has_ids == plain.has_ids || bytes.n > data_max);
    for (unsigned way = 0; way < PORTION_WAYS; way++)
        buf_done(&found[way].text);
    buf_done(&plain.text);
    free((char *)bytes.p);
    return 0;
}
