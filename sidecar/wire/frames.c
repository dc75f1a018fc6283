/* SPDX-License-Identifier: Apache-2.0 */
/* Event-stream frames.
 *
 *      raw     [ whole lines of the open event | the current line, so far ]
 *              0                               line_start                 n
 *
 * An event is open when line_start is not 0: what ends with its own line (a comment, a blank line) is reported there and leaves nothing behind.
 * Not here: what an event means, and who may be sent what.
 * Always: what is reported, one after the other, with the rest, is the input; which events are whole does not depend on how the bytes were cut; raw, data and id are each
 * within the limit. */
#include "sidecar/wire/frames.h"

#include <assert.h>
#include <errno.h>

#define EVENT_MAX_DEFAULT (2 * 1024 * 1024)
/* what is needed to know what an event begins with */
#define EVENT_MAX_MIN 4

static const char byte_order_mark[] = "\xef\xbb\xbf";

static size_t event_max(const struct frames *f)
{
    if (f->event_max == 0)
        return EVENT_MAX_DEFAULT;
    return f->event_max < EVENT_MAX_MIN ? EVENT_MAX_MIN : f->event_max;
}

/* The field's name and value of a line that is not blank. */
static void split_line(struct span line, struct span *ret_name, struct span *ret_value)
{
    const char *colon = memchr(line.p, ':', line.n);

    *ret_name = line;
    *ret_value = SPAN("");
    if (colon == NULL)
        return;
    ret_name->n = (size_t)(colon - line.p);
    *ret_value = (struct span){colon + 1, line.n - ret_name->n - 1};
    if (ret_value->n != 0 && *ret_value->p == ' ')
        *ret_value = (struct span){ret_value->p + 1, ret_value->n - 1};
}

/* Bytes of s before its first CR or LF. */
static size_t line_bytes(struct span s)
{
    size_t n = 0;

    while (n != s.n && s.p[n] != '\r' && s.p[n] != '\n')
        ++n;
    return n;
}

/* The current line is over, but for its end. True in *ret_is_over when the event is, too. */
static int end_line(struct frames *f, struct span line, bool *ret_is_over)
{
    struct span name, value;
    int r;

    *ret_is_over = line.n == 0 || (f->line_start == 0 && *line.p == ':');
    if (*ret_is_over)
        return 0;
    split_line(line, &name, &value);
    if (span_eq(name, SPAN("data"))) {
        if (f->has_data && (r = buf_add(&f->data, "\n", 1)) != 0)
            return r;
        f->has_data = true;
        return buf_add_span(&f->data, value);
    }
    if (span_eq(name, SPAN("event"))) {
        f->is_other = value.n != 0 && !span_eq(value, SPAN("message"));
    } else if (span_eq(name, SPAN("id")) && (value.n == 0 || memchr(value.p, '\0', value.n) == NULL)) {
        f->has_id = true;
        f->id.n = 0;
        return buf_add_span(&f->id, value);
    }
    return 0;
}

static void forget_event(struct frames *f)
{
    f->raw.n = f->data.n = f->id.n = f->line_start = 0;
    f->has_data = f->has_id = f->is_other = f->is_passing = false;
}

static struct span never_null(struct span s)
{
    return s.p != NULL ? s : SPAN("");
}

static void end_event(struct frames *f, frames_fn fn, void *ctx)
{
    fn(ctx, &(struct frame){
                .raw = buf_span(&f->raw),
                .has_data = f->has_data,
                .is_message = !f->is_other,
                .data = f->has_data ? never_null(buf_span(&f->data)) : SPAN_ABSENT,
                .id = f->has_id ? never_null(buf_span(&f->id)) : SPAN_ABSENT,
            });
    forget_event(f);
}

/* The open event is above the limit: from here on its bytes go on as they come. */
static void begin_passing(struct frames *f, char next, frames_fn fn, void *ctx)
{
    f->is_passing = true;
    f->is_comment = f->line_start == 0 && (f->raw.n != 0 ? *f->raw.p : next) == ':';
    f->is_line_empty = f->line_start == f->raw.n;
    if (f->raw.n != 0)
        fn(ctx, &(struct frame){.raw = buf_span(&f->raw), .is_piece = true});
    f->raw.n = f->data.n = f->id.n = f->line_start = 0;
}

/* Hands on what of bytes belongs to the event above the limit. Returns its bytes. */
static size_t pass(struct frames *f, struct span bytes, frames_fn fn, void *ctx)
{
    bool is_over = false;
    size_t n = 0;

    while (n != bytes.n && !is_over) {
        char c = bytes.p[n++];

        if (f->after_cr && c == '\n') {
            f->after_cr = false;
            continue;
        }
        f->after_cr = c == '\r';
        if (c == '\r' || c == '\n') {
            is_over = f->is_line_empty || f->is_comment;
            f->is_line_empty = true;
        } else {
            f->is_line_empty = false;
        }
    }
    if (is_over && f->after_cr && n != bytes.n && bytes.p[n] == '\n') {
        f->after_cr = false;
        ++n;
    }
    fn(ctx, &(struct frame){.raw = {bytes.p, n}, .is_piece = true, .is_last = is_over});
    if (is_over)
        forget_event(f);
    return n;
}

/* The byte order mark, or as much of it as there is. Returns the bytes that belong to it, or to a line that only begins like it. */
static int take_mark(struct frames *f, struct span *bytes, frames_fn fn, void *ctx)
{
    int r;

    while (!f->saw_first_line && bytes->n != 0) {
        if (*bytes->p != byte_order_mark[f->raw.n]) {
            f->saw_first_line = true;
            break;
        }
        if ((r = buf_add(&f->raw, bytes->p, 1)) != 0)
            return r;
        *bytes = (struct span){bytes->p + 1, bytes->n - 1};
        if (f->raw.n == sizeof(byte_order_mark) - 1) {
            f->saw_first_line = true;
            fn(ctx, &(struct frame){.raw = buf_span(&f->raw), .is_mark = true, .is_message = true});
            f->raw.n = 0;
        }
    }
    return 0;
}

int frames_feed(struct frames *f, struct span bytes, frames_fn fn, void *ctx)
{
    int r;

    if ((r = take_mark(f, &bytes, fn, ctx)) != 0)
        return r;
    while (bytes.n != 0) {
        bool is_lf_of_crlf = f->after_cr && *bytes.p == '\n', has_end, is_over;
        size_t n;

        if (f->is_passing) {
            n = pass(f, bytes, fn, ctx);
            bytes = (struct span){bytes.p + n, bytes.n - n};
            continue;
        }
        if (is_lf_of_crlf && f->raw.n == 0) {
            /* what it ends was reported when its CR came */
            f->after_cr = false;
            fn(ctx, &(struct frame){.raw = {bytes.p, 1}, .is_message = true});
            bytes = (struct span){bytes.p + 1, bytes.n - 1};
            continue;
        }
        n = is_lf_of_crlf ? 0 : line_bytes(bytes);
        has_end = n != bytes.n;
        if (n + has_end > event_max(f) - f->raw.n) {
            begin_passing(f, *bytes.p, fn, ctx);
            continue;
        }
        if ((r = buf_add(&f->raw, bytes.p, n + has_end)) != 0)
            return r;
        if (!has_end) {
            f->after_cr = false;
            break;
        }
        f->after_cr = bytes.p[n] == '\r';
        bytes = (struct span){bytes.p + n + 1, bytes.n - n - 1};
        if (!is_lf_of_crlf) {
            struct span line = {f->raw.p + f->line_start, f->raw.n - 1 - f->line_start};

            if ((r = end_line(f, line, &is_over)) != 0)
                return r;
            if (is_over) {
                if (f->after_cr && bytes.n != 0 && *bytes.p == '\n') {
                    if ((r = buf_add(&f->raw, "\n", 1)) != 0)
                        return r;
                    f->after_cr = false;
                    bytes = (struct span){bytes.p + 1, bytes.n - 1};
                }
                end_event(f, fn, ctx);
            }
        }
        f->line_start = f->raw.n;
    }
    return 0;
}

struct span frames_rest(const struct frames *f)
{
    return never_null(buf_span(&f->raw));
}

bool frames_is_between(const struct frames *f)
{
    return !f->is_passing;
}

void frames_done(struct frames *f)
{
    buf_done(&f->raw);
    buf_done(&f->data);
    buf_done(&f->id);
}

/* Moves on to the next line, if there is one. ret_with_end: with its CR, LF or CRLF. */
static bool next_line(struct span *rest, struct span *ret_line, struct span *ret_with_end)
{
    size_t n = line_bytes(*rest), end = n;

    if (rest->n == 0)
        return false;
    if (end != rest->n)
        end += rest->p[end] == '\r' && end + 1 != rest->n && rest->p[end + 1] == '\n' ? 2 : 1;
    *ret_line = (struct span){rest->p, n};
    *ret_with_end = (struct span){rest->p, end};
    *rest = (struct span){rest->p + end, rest->n - end};
    return true;
}

/* Data in lines of its own. */
static int add_data(struct buf *out, struct span data)
{
    bool ends_with_end = data.n == 0;
    struct span line, with_end;
    int r;

    while (next_line(&data, &line, &with_end)) {
        if ((r = buf_add(out, "data: ", 6)) != 0 || (r = buf_add_span(out, line)) != 0 || (r = buf_add(out, "\n", 1)) != 0)
            return r;
        ends_with_end = with_end.n != line.n;
    }
    /* what is behind the last line's end is an empty line of data */
    return ends_with_end ? buf_add(out, "data: \n", 7) : 0;
}

int frame_with_data(const struct frame *frame, struct span data, struct buf *out)
{
    struct span rest = frame->raw, line, with_end;
    size_t before = out->n;
    bool has_data = false;
    int r = 0;

    assert(!frame->is_piece);
    while (r == 0 && next_line(&rest, &line, &with_end) && line.n != 0) {
        struct span name, value;

        split_line(line, &name, &value);
        if (!span_eq(name, SPAN("data"))) {
            r = buf_add_span(out, with_end);
        } else if (!has_data) {
            has_data = true;
            r = add_data(out, data);
        }
    }
    if (r == 0 && !has_data)
        r = add_data(out, data);
    /* behind a CR an LF alone would be no line's end */
    if (r == 0)
        r = out->p[out->n - 1] == '\r' ? buf_add(out, "\r\n", 2) : buf_add(out, "\n", 1);
    if (r != 0)
        out->n = before;
    return r;
}

int frame_add(struct buf *out, struct span data)
{
    size_t before = out->n;
    int r = add_data(out, data);

    if (r == 0)
        r = buf_add(out, "\n", 1);
    if (r != 0)
        out->n = before;
    return r;
}
