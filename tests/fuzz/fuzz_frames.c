/* SPDX-License-Identifier: Apache-2.0 */
/* Event-stream frames. Input: a byte (the limit of an event, 0 = the reader's own; also how to cut), then a stream.
 * Always: however the bytes were cut, what is handed on is the stream; the messages are those that events_feed finds; an event is handed on in pieces exactly when it is
 * above the limit; of each frame, one with other data is read as that data, and with the rest as it was. */
#include "fuzz.h"
#include "portions.h"

#include "sidecar/wire/events.h"
#include "sidecar/wire/frames.h"

struct found {
    struct buf messages; /* each message: its length and its data */
    struct buf raw;      /* of all frames */
    struct buf ends;     /* where in raw each frame ended, the LF of a CRLF not counted */
    bool is_within, is_any_piece;
    size_t event_max;
};

static void note_data(void *ctx, struct span data)
{
    struct found *f = ctx;

    must(data.p != NULL);
    must(buf_add(&f->messages, &data.n, sizeof(data.n)) == 0);
    must(buf_add_span(&f->messages, data) == 0);
}

struct changed {
    const struct frame *before;
    size_t count;
};

static void compare_changed(void *ctx, const struct frame *after)
{
    struct changed *c = ctx;

    if (c->count++ == 0)
        return;
    must(after->has_data && span_eq(after->data, SPAN("x\n\ny")));
    must(after->is_message == c->before->is_message);
    must((after->id.p == NULL) == (c->before->id.p == NULL) && span_eq(after->id, c->before->id));
}

static void change(const struct frame *frame)
{
    struct changed c = {frame, 0};
    struct frames again = {0};
    struct buf out = {0};

    /* it may begin with what is a byte order mark at a stream's beginning only */
    must(buf_add(&out, ":\n", 2) == 0);
    must(frame_with_data(frame, SPAN("x\r\n\ny"), &out) == 0);
    must(frames_feed(&again, buf_span(&out), compare_changed, &c) == 0);
    must(c.count == 2 && frames_rest(&again).n == 0);
    frames_done(&again);
    buf_done(&out);
}

static void note(void *ctx, const struct frame *frame)
{
    struct found *f = ctx;
    size_t start = f->raw.n, end, counted = frame->raw.n;

    must(frame->raw.n != 0 && (!f->is_within || frame->is_piece) && (frame->is_piece || !frame->is_last));
    must(buf_add_span(&f->raw, frame->raw) == 0);
    if (frame->is_piece) {
        f->is_any_piece = true;
        f->is_within = !frame->is_last;
    } else {
        if (counted >= 2 && memcmp(frame->raw.p + counted - 2, "\r\n", 2) == 0)
            counted--;
        must(counted <= f->event_max);
    }
    /* the late LF of a CR belongs to what it ended */
    if (span_eq(frame->raw, SPAN("\n")) && !frame->is_piece && start != 0 && f->raw.p[start - 1] == '\r')
        return;
    if (!f->is_within) {
        end = f->raw.n;
        if (end >= 2 && memcmp(f->raw.p + end - 2, "\r\n", 2) == 0)
            end--;
        must(buf_add(&f->ends, &end, sizeof(end)) == 0);
    }
    if (frame->has_data) {
        change(frame);
        if (frame->is_message)
            note_data(f, frame->data);
    }
}

static void read_in_portions(struct span bytes, size_t limit, unsigned way, uint8_t seed, struct found *found)
{
    struct portions portions = portions_begin(way, seed);
    struct frames f = {.event_max = limit};
    size_t bound = 2 * (limit + 64);

    found->event_max = limit == 0 ? 2 * 1024 * 1024 : limit < 4 ? 4 : limit;
    for (size_t at = 0, n; at < bytes.n; at += n) {
        struct span portion;

        n = portions_next(&portions, bytes.n - at);
        portion = exactly((struct span){bytes.p + at, n});
        must(frames_feed(&f, portion, note, found) == 0);
        free((char *)portion.p);
        must(frames_is_between(&f) == !found->is_within);
        must(!found->is_within || frames_rest(&f).n == 0);
        must(limit == 0 || (f.raw.cap <= bound && f.data.cap <= bound && f.id.cap <= bound));
        must(found->raw.n + frames_rest(&f).n == at + n);
    }
    must(buf_add_span(&found->raw, frames_rest(&f)) == 0);
    must(span_eq(buf_span(&found->raw), bytes));
    frames_done(&f);
}

static void found_done(struct found *f)
{
    buf_done(&f->messages);
    buf_done(&f->raw);
    buf_done(&f->ends);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct found plain = {.is_within = false};
    struct events events = {.data_max = 0};
    struct span bytes;

    if (size == 0)
        return 0;
    bytes = exactly((struct span){(const char *)data + 1, size - 1});
    must(events_feed(&events, bytes, note_data, &plain) == 0);
    for (unsigned way = 0; way < PORTION_WAYS; way++) {
        struct found whole = {.is_within = false}, limited = {.is_within = false};

        read_in_portions(bytes, 0, way, data[0], &whole);
        must(events.dropped || whole.is_any_piece || span_eq(buf_span(&whole.messages), buf_span(&plain.messages)));
        if (data[0] != 0) {
            size_t start = 0, max;
            bool is_any_above = false;

            read_in_portions(bytes, data[0], way, data[0], &limited);
            max = limited.event_max;
            must(span_eq(buf_span(&limited.ends), buf_span(&whole.ends)) || whole.is_any_piece || limited.is_within);
            for (size_t i = 0; i < whole.ends.n; i += sizeof(size_t)) {
                size_t end;

                memcpy(&end, whole.ends.p + i, sizeof(end));
                if (start != 0 && whole.raw.p[start] == '\n' && whole.raw.p[start - 1] == '\r')
                    start++;
                is_any_above |= end - start > max;
                start = end;
            }
            must(!is_any_above || limited.is_any_piece);
            must(is_any_above || limited.is_any_piece == limited.is_within ||
                 span_eq(buf_span(&limited.messages), buf_span(&whole.messages)));
        }
        found_done(&whole);
        found_done(&limited);
    }
    found_done(&plain);
    events_done(&events);
    free((char *)bytes.p);
    return 0;
}
