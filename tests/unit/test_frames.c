/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/wire/frames.c: every stream is read whole, byte by byte, and cut at every place. The frames must be the same, but for an LF that comes after its CR,
 * and what was handed on, with the rest, must be the stream. */
#include "unit.h"

#include "sidecar/wire/frames.h"

/* Frames seen: "<data>" of a message, "(data)" of another type, "-" of an event without data, comment or blank line, "^" of a byte order mark, "#" of an event above the
 * limit; an id goes before as "id=". */
struct transcript {
    struct buf text, raw;
    bool is_within; /* an event above the limit */
};

static void put(struct transcript *t, const char *text)
{
    assert_int_equal(buf_add(&t->text, text, strlen(text)), 0);
}

static void note(void *ctx, const struct frame *frame)
{
    struct transcript *t = ctx;

    assert_true(frame->raw.n != 0);
    assert_int_equal(buf_add_span(&t->raw, frame->raw), 0);
    if (t->is_within)
        assert_true(frame->is_piece);
    if (frame->is_piece) {
        assert_false(frame->has_data || frame->is_mark);
        assert_null(frame->data.p);
        assert_null(frame->id.p);
        t->is_within = !frame->is_last;
        if (frame->is_last)
            put(t, "#");
        return;
    }
    assert_false(frame->is_last);
    assert_int_equal(frame->has_data, frame->data.p != NULL);
    if (frame->is_mark) {
        put(t, "^");
        return;
    }
    /* the LF of a CR that was there before */
    if (span_eq(frame->raw, SPAN("\n")) && t->raw.n >= 2 && t->raw.p[t->raw.n - 2] == '\r')
        return;
    if (frame->id.p != NULL) {
        assert_int_equal(buf_add_span(&t->text, frame->id), 0);
        put(t, "=");
    }
    if (!frame->has_data) {
        put(t, "-");
        return;
    }
    put(t, frame->is_message ? "<" : "(");
    assert_int_equal(buf_add_span(&t->text, frame->data), 0);
    put(t, frame->is_message ? ">" : ")");
}

static void feed(struct frames *f, struct transcript *t, const char *p, size_t n)
{
    struct span portion = heap_span((struct span){p, n});

    assert_int_equal(frames_feed(f, portion, note, t), 0);
    assert_int_equal(frames_is_between(f), !t->is_within);
    free((char *)portion.p);
}

static void judge(struct frames *f, struct transcript *t, struct span wanted, struct span bytes, size_t cut)
{
    if (!span_eq(buf_span(&t->text), wanted))
        fail_msg("'%.*s' cut at %zu: '%.*s'", (int)bytes.n, bytes.p, cut, (int)t->text.n, t->text.p);
    assert_int_equal(buf_add_span(&t->raw, frames_rest(f)), 0);
    if (!span_eq(buf_span(&t->raw), bytes))
        fail_msg("'%.*s' cut at %zu comes out as '%.*s'", (int)bytes.n, bytes.p, cut, (int)t->raw.n, t->raw.p);
    frames_done(f);
    buf_done(&t->text);
    buf_done(&t->raw);
}

static void expect_frames(struct span bytes, size_t max, struct span wanted)
{
    for (size_t cut = 0; cut <= bytes.n; cut++)
        for (size_t second = cut; second <= bytes.n; second++) {
            struct frames f = {.event_max = max};
            struct transcript t = {0};

            feed(&f, &t, bytes.p, cut);
            feed(&f, &t, bytes.p + cut, second - cut);
            feed(&f, &t, bytes.p + second, bytes.n - second);
            judge(&f, &t, wanted, bytes, cut);
        }
    for (size_t portion = 1; portion <= 7; portion++) {
        struct frames f = {.event_max = max};
        struct transcript t = {0};

        for (size_t at = 0; at < bytes.n; at += portion)
            feed(&f, &t, bytes.p + at, bytes.n - at < portion ? bytes.n - at : portion);
        judge(&f, &t, wanted, bytes, portion);
    }
}

#define FRAMES(bytes, wanted_)      expect_frames(SPAN(bytes), 0, SPAN(wanted_))
#define SMALL(bytes, max_, wanted_) expect_frames(SPAN(bytes), max_, SPAN(wanted_))

static void any_line_end_ends_a_line(void **state)
{
    (void)state;
    FRAMES("data: a\n\ndata: b\n\n", "<a><b>");
    FRAMES("data: a\r\rdata: b\r\r", "<a><b>");
    FRAMES("data: a\r\n\r\ndata: b\r\n\r\n", "<a><b>");
    FRAMES("data: a\r\n\rdata: b\n\r", "<a><b>");
    FRAMES("data: a\n\r\ndata: b\r\n\n", "<a><b>");
    FRAMES("data: a\r\r\ndata: b\r\n\r", "<a><b>");
    FRAMES("data: a\r\ndata: b\r\n\r\n", "<a\nb>");
    /* a blank line of its own is a frame, and harms no one */
    FRAMES("data: a\n\n\n\n\ndata: b\n\n", "<a>---<b>");
    FRAMES("\n\rdata: b\n\n", "--<b>");
}

static void data_lines_are_joined(void **state)
{
    (void)state;
    FRAMES("data: a\ndata:b\ndata:  c\n\n", "<a\nb\n c>");
    FRAMES("data\ndata\n\n", "<\n>");
    FRAMES("data:\n\n", "<>");
    FRAMES("data\n\n", "<>");
    FRAMES("data: {\r\ndata: \"a\":1\r\ndata: }\r\n\r\n", "<{\n\"a\":1\n}>");
    FRAMES("Data: a\ndatax: b\n data: c\ndata : d\n\n", "-");
    FRAMES("data: a\0b\n\n", "<a\0b>");
}

static void what_has_no_data_is_a_frame_too(void **state)
{
    (void)state;
    FRAMES("retry: 1000\n\ndata: a\n\n", "-<a>");
    FRAMES("event: message\n\n", "-");
    FRAMES("id: 1\n\ndata: a\n\n", "1=-<a>");
    FRAMES("foo\n\n", "-");
    FRAMES("id: 7\nretry: 3000\ndata:\n\nevent: message\nid: 8\ndata: {}\n\n", "7=<>8=<{}>");
}

static void a_comment_between_events_is_complete_with_its_line(void **state)
{
    (void)state;
    FRAMES(": a\n: b\ndata: c\n\n", "--<c>");
    FRAMES(":\n\n:keep-alive\r\n\r\n: x\r\r", "------");
    FRAMES("data: a\n\n: ping", "<a>");
    FRAMES("data: a\n\n: ping\n", "<a>-");
    /* and within one it is a part of it */
    FRAMES("data: a\n: data: no\ndata: b\n\n", "<a\nb>");
    FRAMES("retry: 1\n: x\n\n", "-");
}

static void types_and_ids_are_told(void **state)
{
    (void)state;
    FRAMES("event: message\ndata: a\n\n", "<a>");
    FRAMES("event: ping\ndata: a\n\ndata: b\n\n", "(a)<b>");
    FRAMES("data: a\nevent: Message\n\n", "(a)");
    FRAMES("event: ping\nevent\ndata: a\n\n", "<a>");
    FRAMES("id: 1\ndata: a\n\ndata: b\n\n", "1=<a><b>");
    FRAMES("id: 1\nid: 2\ndata: a\n\n", "2=<a>");
    FRAMES("id\ndata: a\n\n", "=<a>");
    FRAMES("id:\ndata: a\n\n", "=<a>");
    FRAMES("id: a\0b\ndata: a\n\n", "<a>");
    FRAMES("id: 1\nid: a\0b\ndata: a\n\n", "1=<a>");
}

static void a_byte_order_mark_is_a_frame_of_its_own(void **state)
{
    (void)state;
    FRAMES("\xef\xbb\xbf"
           "data: a\n\n",
           "^<a>");
    FRAMES("\xef\xbb\xbf: x\n\xef\xbb\xbf: x\n\n", "^--");
    FRAMES("\xef\xbb\xbf\n", "^-");
    FRAMES("\xef\xbb", "");
    FRAMES("\xef\xbb"
           "data: a\n\n",
           "-");
    FRAMES("\xef\xbb\n\n", "-");
    FRAMES("\n\xef\xbb\xbf"
           "data: a\n\n",
           "--");
}

static void what_has_no_end_is_the_rest(void **state)
{
    (void)state;
    FRAMES("", "");
    FRAMES("data: a\n\ndata: b", "<a>");
    FRAMES("data: a\n\ndata: b\n", "<a>");
    FRAMES("data: a\r\n\r\ndata: b\r\n", "<a>");
}

static void an_event_above_the_limit_passes_in_pieces(void **state)
{
    (void)state;
    SMALL("data: a\n\n", 9, "<a>");
    SMALL("data: a\n\n", 8, "#");
    SMALL("data: ab\n\ndata: c\n\n", 9, "#<c>");
    SMALL("data: a\n\ndata: 0123456789\ndata: b\n\ndata: c\n\n", 9, "<a>#<c>");
    SMALL("data: a\r\rdata: 0123456789\rdata: b\r\rdata: c\r\r", 9, "<a>#<c>");
    SMALL("data: a\r\n\r\ndata: 0123456789\r\ndata: b\r\n\r\ndata: c\r\n\r\n", 11, "<a>#<c>");
    /* the LF of the end is not counted: it may come later */
    SMALL("data: a\r\n\r\n", 10, "<a>");
    SMALL("data: a\r\n\r\n", 9, "#");
    SMALL("data: a\r\n\n", 9, "#");
    SMALL(": 0123456789\ndata: a\n\n", 9, "#<a>");
    SMALL(": 0123456789\r\ndata: a\n\n", 9, "#<a>");
    SMALL("\xef\xbb\xbf: 0123456789\ndata: a\n\n", 9, "^#<a>");
    /* one within an event ends nothing */
    SMALL("retry: 1\n: 0123456789\ndata: a\n\ndata: b\n\n", 9, "#<b>");
    SMALL("data: 0123456789", 9, "");
    SMALL("data: 0123456789\n", 9, "");
    SMALL("data: 0123456789\n: x\n\n: y\n", 9, "#-");
    /* a limit that is none */
    SMALL("\xef\xbb\xbf:\n\ndata: a\n\n", 1, "^--#");
}

/* Frames that the reader reports without waiting for more. */
static void a_frame_does_not_wait_for_what_follows(void **state)
{
    static const struct {
        const char *bytes, *text;
    } rows[] = {
        {"data: a\n\n", "<a>"}, {"data: a\r\r", "<a>"}, {"data: a\r\n\r", "<a>"}, {": x\r", "-"}, {"\r", "-"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct frames f = {0};
        struct transcript t = {0};

        feed(&f, &t, rows[i].bytes, strlen(rows[i].bytes));
        assert_span(buf_span(&t.text), rows[i].text);
        assert_span(buf_span(&t.raw), rows[i].bytes);
        assert_span(frames_rest(&f), "");
        frames_done(&f);
        buf_done(&t.text);
        buf_done(&t.raw);
    }
}

struct last {
    struct buf raw;
    size_t count;
};

static void keep(void *ctx, const struct frame *frame)
{
    struct last *last = ctx;

    last->raw.n = 0;
    assert_int_equal(buf_add_span(&last->raw, frame->raw), 0);
    last->count++;
}

static void the_lf_of_a_cr_that_was_reported_is_a_frame_without_data(void **state)
{
    struct frames f = {0};
    struct last last = {0};

    (void)state;
    assert_int_equal(frames_feed(&f, SPAN("data: a\r\n\r"), keep, &last), 0);
    assert_int_equal(last.count, 1);
    assert_int_equal(frames_feed(&f, SPAN("\ndata: b\n\n"), keep, &last), 0);
    assert_int_equal(last.count, 3);
    assert_span(buf_span(&last.raw), "data: b\n\n");
    assert_int_equal(frames_feed(&f, SPAN("data: a\r\r"), keep, &last), 0);
    assert_int_equal(frames_feed(&f, SPAN("\n"), keep, &last), 0);
    assert_int_equal(last.count, 5);
    assert_span(buf_span(&last.raw), "\n");
    /* one portion: it belongs to the frame */
    assert_int_equal(frames_feed(&f, SPAN("data: a\r\n\r\n"), keep, &last), 0);
    assert_int_equal(last.count, 6);
    assert_span(buf_span(&last.raw), "data: a\r\n\r\n");
    frames_done(&f);
    buf_done(&last.raw);
}

static void memory_stays_bounded(void **state)
{
    static const char *const starts[] = {"", "data: ", ":", "id: ", "x", "data: x\ndata: "};
    char block[1024];
    size_t bound = 2 * (1000 + 64);

    (void)state;
    memset(block, 'x', sizeof(block));
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct frames f = {.event_max = 1000};
        struct transcript t = {0};

        feed(&f, &t, starts[i], strlen(starts[i]));
        for (int k = 0; k < 1000; k++) {
            feed(&f, &t, block, k % 2 == 0 ? sizeof(block) : 7);
            assert_in_range(f.raw.cap, 0, bound);
            assert_in_range(f.data.cap, 0, bound);
            assert_in_range(f.id.cap, 0, bound);
        }
        feed(&f, &t, "\n\n\ndata: a\n\n", 12);
        assert_span(((struct span){t.text.p + t.text.n - 3, 3}), "<a>");
        frames_done(&f);
        buf_done(&t.text);
        buf_done(&t.raw);
    }
}

static void without_a_limit_two_mebibytes_are_read(void **state)
{
    size_t two_mib = 2 * 1024 * 1024;
    char *big = malloc(two_mib);

    (void)state;
    assert_non_null(big);
    memset(big, 'x', two_mib);
    for (size_t more = 0; more < 2; more++) {
        struct frames f = {0};
        struct transcript t = {0};

        feed(&f, &t, "data: ", 6);
        feed(&f, &t, big, two_mib - 8 + more);
        feed(&f, &t, "\n\n", 2);
        assert_int_equal(t.text.n, more == 0 ? two_mib - 6 : 1);
        frames_done(&f);
        buf_done(&t.text);
        buf_done(&t.raw);
    }
    free(big);
}

/* ---- events of our own ---------------------------------------------------------------------------------------------------------- */

static struct buf changed;

static void change(void *ctx, const struct frame *frame)
{
    if (frame->raw.n > 1)
        assert_int_equal(frame_with_data(frame, *(struct span *)ctx, &changed), 0);
}

static void the_data_of_a_frame_is_replaced(void **state)
{
    static const struct {
        struct span frame, data, wanted;
    } rows[] = {
        {SPAN_OF("data: a\n\n"), SPAN_OF("{}"), SPAN_OF("data: {}\n\n")},
        {SPAN_OF("data: a\ndata: b\n\n"), SPAN_OF("{}"), SPAN_OF("data: {}\n\n")},
        {SPAN_OF("event: message\nid: 1\ndata: a\n\n"), SPAN_OF("{}"), SPAN_OF("event: message\nid: 1\ndata: {}\n\n")},
        {SPAN_OF("data: a\r\nid: 1\r\n: x\r\ndata\r\nretry: 5\r\nfoo\r\n\r\n"), SPAN_OF("{}"),
         SPAN_OF("data: {}\nid: 1\r\n: x\r\nretry: 5\r\nfoo\r\n\n")},
        {SPAN_OF("id: 1\n\n"), SPAN_OF("{}"), SPAN_OF("id: 1\ndata: {}\n\n")},
        /* a CR before what goes must not become a CRLF with what stays */
        {SPAN_OF("data: a\nid: 1\rdata: b\n\n"), SPAN_OF("{}"), SPAN_OF("data: {}\nid: 1\r\r\n")},
        {SPAN_OF("id: 1\rdata: a\r\r"), SPAN_OF("{}"), SPAN_OF("id: 1\rdata: {}\n\n")},
        {SPAN_OF("id: 1\rdata: a\r\n\r"), SPAN_OF("{}"), SPAN_OF("id: 1\rdata: {}\n\n")},
        {SPAN_OF("datax: a\ndata: a\n\n"), SPAN_OF("{}"), SPAN_OF("datax: a\ndata: {}\n\n")},
        {SPAN_OF("data: a\n\n"), SPAN_OF(""), SPAN_OF("data: \n\n")},
        {SPAN_OF("data: a\n\n"), SPAN_OF("a\nb"), SPAN_OF("data: a\ndata: b\n\n")},
        {SPAN_OF("data: a\n\n"), SPAN_OF("a\n"), SPAN_OF("data: a\ndata: \n\n")},
        {SPAN_OF("data: a\n\n"), SPAN_OF("\n"), SPAN_OF("data: \ndata: \n\n")},
        {SPAN_OF("data: a\n\n"), SPAN_OF("a\rb\r\nc"), SPAN_OF("data: a\ndata: b\ndata: c\n\n")},
        {SPAN_OF("data: a\n\n"), SPAN_OF(" a"), SPAN_OF("data:  a\n\n")},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct frames f = {0};
        struct span data = rows[i].data;

        assert_int_equal(buf_add(&changed, ">", 1), 0);
        assert_int_equal(frames_feed(&f, rows[i].frame, change, &data), 0);
        assert_span(((struct span){changed.p + 1, changed.n - 1}), rows[i].wanted.p);
        frames_done(&f);
        buf_done(&changed);
    }
}

static void an_event_of_our_own_is_read_as_it_was_meant(void **state)
{
    static const char *const rows[] = {"{}", "", "a\nb", "\n\n", " a", "a\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct frames f = {0};
        struct transcript t = {0};
        struct buf out = {0};

        assert_int_equal(frame_add(&out, span_of(rows[i])), 0);
        feed(&f, &t, out.p, out.n);
        assert_int_equal(t.text.n, strlen(rows[i]) + 2);
        assert_memory_equal(t.text.p + 1, rows[i], strlen(rows[i]));
        assert_span(frames_rest(&f), "");
        frames_done(&f);
        buf_done(&out);
        buf_done(&t.text);
        buf_done(&t.raw);
    }
    {
        struct buf out = {0};

        assert_int_equal(frame_add(&out, SPAN("{\"a\":1}")), 0);
        assert_span(buf_span(&out), "data: {\"a\":1}\n\n");
        buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_line_end_ends_a_line),
        cmocka_unit_test(data_lines_are_joined),
        cmocka_unit_test(what_has_no_data_is_a_frame_too),
        cmocka_unit_test(a_comment_between_events_is_complete_with_its_line),
        cmocka_unit_test(types_and_ids_are_told),
        cmocka_unit_test(a_byte_order_mark_is_a_frame_of_its_own),
        cmocka_unit_test(what_has_no_end_is_the_rest),
        cmocka_unit_test(an_event_above_the_limit_passes_in_pieces),
        cmocka_unit_test(a_frame_does_not_wait_for_what_follows),
        cmocka_unit_test(the_lf_of_a_cr_that_was_reported_is_a_frame_without_data),
        cmocka_unit_test(memory_stays_bounded),
        cmocka_unit_test(without_a_limit_two_mebibytes_are_read),
        cmocka_unit_test(the_data_of_a_frame_is_replaced),
        cmocka_unit_test(an_event_of_our_own_is_read_as_it_was_meant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
