/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/wire/events.c: every text is read whole, byte by byte, and cut at every place; the events must be the same. */
#include "unit.h"

#include "sidecar/wire/events.h"

/* Events seen, each as <data>. */
struct transcript {
    struct buf text;
};

static void note(void *ctx, struct span data)
{
    struct transcript *t = ctx;

    assert_non_null(data.p);
    assert_int_equal(buf_add(&t->text, "<", 1), 0);
    assert_int_equal(buf_add_span(&t->text, data), 0);
    assert_int_equal(buf_add(&t->text, ">", 1), 0);
}

static void feed(struct events *e, struct transcript *t, const char *p, size_t n)
{
    struct span portion = heap_span((struct span){p, n});

    assert_int_equal(events_feed(e, portion, note, t), 0);
    free((char *)portion.p);
}

struct wanted {
    struct span text; /* transcript */
    bool has_ids, dropped;
};

static void judge(struct events *e, struct transcript *t, const struct wanted *wanted, struct span bytes, size_t cut)
{
    if (!span_eq(buf_span(&t->text), wanted->text) || e->has_ids != wanted->has_ids || e->dropped != wanted->dropped)
        fail_msg("'%.*s' cut at %zu: '%.*s', has_ids %d, dropped %d", (int)bytes.n, bytes.p, cut, (int)t->text.n, t->text.p,
                 e->has_ids, e->dropped);
    events_done(e);
    buf_done(&t->text);
}

static void expect_events(struct span bytes, size_t data_max, struct wanted wanted)
{
    for (size_t cut = 0; cut <= bytes.n; cut++) {
        struct events e = {.data_max = data_max};
        struct transcript t = {0};

        feed(&e, &t, bytes.p, cut);
        feed(&e, &t, bytes.p + cut, bytes.n - cut);
        judge(&e, &t, &wanted, bytes, cut);
    }
    for (size_t portion = 1; portion <= 7; portion++) {
        struct events e = {.data_max = data_max};
        struct transcript t = {0};

        for (size_t at = 0; at < bytes.n; at += portion)
            feed(&e, &t, bytes.p + at, bytes.n - at < portion ? bytes.n - at : portion);
        judge(&e, &t, &wanted, bytes, portion);
    }
}

#define EVENTS(bytes, wanted_)          expect_events(SPAN(bytes), 0, (struct wanted){SPAN(wanted_), false, false})
#define EVENTS_WITH_IDS(bytes, wanted_) expect_events(SPAN(bytes), 0, (struct wanted){SPAN(wanted_), true, false})

static void any_line_end_ends_a_line(void **state)
{
    (void)state;
    EVENTS("data: a\n\ndata: b\n\n", "<a><b>");
    EVENTS("data: a\r\rdata: b\r\r", "<a><b>");
    EVENTS("data: a\r\n\r\ndata: b\r\n\r\n", "<a><b>");
    EVENTS("data: a\r\n\rdata: b\n\r", "<a><b>");
    EVENTS("data: a\n\r\ndata: b\r\n\n", "<a><b>");
    EVENTS("data: a\r\r\ndata: b\r\n\r", "<a><b>");
    /* CR LF is one end: this event has two data lines and ends once */
    EVENTS("data: a\r\ndata: b\r\n\r\n", "<a\nb>");
}

static void data_lines_are_joined_by_line_feeds(void **state)
{
    (void)state;
    EVENTS("data: a\ndata: b\ndata: c\n\n", "<a\nb\nc>");
    EVENTS("data: a\rdata:\rdata: c\r\r", "<a\n\nc>");
    EVENTS("data\ndata\n\n", "<\n>");
    EVENTS("data: {\ndata: \"a\":1\ndata: }\n\n", "<{\n\"a\":1\n}>");
}

static void one_space_after_the_colon_is_no_data(void **state)
{
    (void)state;
    EVENTS("data:a\n\n", "<a>");
    EVENTS("data: a\n\n", "<a>");
    EVENTS("data:  a \n\n", "< a >");
    EVENTS("data:\ta\n\n", "<\ta>");
    EVENTS("data::a:b\n\n", "<:a:b>");
}

static void names_are_exact(void **state)
{
    (void)state;
    EVENTS("Data: a\ndatax: b\n data: c\ndata : d\nxdata: e\ndat: f\n\n", "");
    EVENTS("foo: a\ndata: b\nbar\n\n", "<b>");
    EVENTS("data\t: a\n\n", "");
}

static void comments_are_passed_over(void **state)
{
    (void)state;
    EVENTS(":\n\n:keep-alive\n\n: data: no\n\n", "");
    EVENTS(": x\ndata: a\n:data: no\ndata: b\n: y\n\n", "<a\nb>");
}

static void an_event_without_data_is_none(void **state)
{
    (void)state;
    EVENTS("", "");
    EVENTS("\n", "");
    EVENTS("\n\n\r\r\n\n", "");
    EVENTS("retry: 1000\n\n", "");
    EVENTS("event: message\n\n", "");
    EVENTS_WITH_IDS("id: 1\n\ndata: a\n\n", "<a>");
}

static void empty_data_is_an_event_without_bytes(void **state)
{
    (void)state;
    EVENTS("data:\n\n", "<>");
    EVENTS("data\n\n", "<>");
    EVENTS("data: \n\n", "<>");
    /* the priming event of 2025-11-25 */
    EVENTS_WITH_IDS("id: 17_0\nretry: 3000\ndata:\n\nevent: message\nid: 17_1\ndata: {}\n\n", "<><{}>");
}

static void an_event_without_its_blank_line_is_incomplete(void **state)
{
    (void)state;
    EVENTS("data: a", "");
    EVENTS("data: a\n", "");
    EVENTS("data: a\r\n", "");
    EVENTS("data: a\n\ndata: b\n", "<a>");
    EVENTS("data: a\n\ndata: b\r\n", "<a>");
    EVENTS("data: a\n\ndata", "<a>");
}

static void a_byte_order_mark_is_passed_over_once(void **state)
{
    (void)state;
    EVENTS("\xef\xbb\xbf"
           "data: a\n\n",
           "<a>");
    EVENTS("\xef\xbb\xbf\ndata: a\n\n", "<a>");
    EVENTS("\xef\xbb\xbf"
           ": comment\rdata: a\r\r",
           "<a>");
    EVENTS("\xef\xbb\xbf\xef\xbb\xbf"
           "data: a\n\n",
           "");
    EVENTS("\xef\xbb"
           "data: a\n\n",
           "");
    EVENTS("data: a\n\n\xef\xbb\xbf"
           "data: b\n\n",
           "<a>");
    EVENTS("\n\xef\xbb\xbf"
           "data: b\n\n",
           "");
    EVENTS("data: \xef\xbb\xbf"
           "a\n\n",
           "<\xef\xbb\xbf"
           "a>");
}

static void ids_are_noticed(void **state)
{
    (void)state;
    EVENTS_WITH_IDS("id: 1\ndata: a\n\n", "<a>");
    EVENTS_WITH_IDS("id:1\ndata: a\n\n", "<a>");
    EVENTS_WITH_IDS("data: a\nid: x\n\ndata: b\n\n", "<a><b>");
    EVENTS("id\ndata: a\n\n", "<a>");
    EVENTS("id:\ndata: a\n\n", "<a>");
    EVENTS("id: \ndata: a\n\n", "<a>");
    EVENTS("ids: 1\ndata: a\n\n", "<a>");
    EVENTS("ID: 1\ndata: a\n\n", "<a>");
    /* a client that follows the standard ignores an id with a NUL, so it cannot resume by it */
    EVENTS("id: a\0b\ndata: a\n\n", "<a>");
}

static void other_types_are_not_messages(void **state)
{
    (void)state;
    EVENTS("event: message\ndata: a\n\n", "<a>");
    EVENTS("event:message\ndata: a\n\n", "<a>");
    EVENTS("data: a\nevent: message\n\n", "<a>");
    EVENTS("event\ndata: a\n\n", "<a>");
    EVENTS("event:\ndata: a\n\n", "<a>");
    EVENTS("event: ping\ndata: a\n\n", "");
    EVENTS("data: a\nevent: ping\n\ndata: b\n\n", "<b>");
    EVENTS("event: Message\ndata: a\n\n", "");
    EVENTS("event:  message\ndata: a\n\n", "");
    /* the last one counts, and for its own event only */
    EVENTS("event: ping\nevent: message\ndata: a\n\n", "<a>");
    EVENTS("event: message\nevent: ping\ndata: a\n\n", "");
    EVENTS("event: ping\nevent:\ndata: a\n\n", "<a>");
    EVENTS("event: ping\n\ndata: a\n\n", "<a>");
}

static void nul_and_other_bytes_are_data(void **state)
{
    (void)state;
    EVENTS("data: a\0b\n\n", "<a\0b>");
    EVENTS("data: \0\n\n", "<\0>");
    EVENTS("data\0: a\n\n", "");
    EVENTS("\0data: a\n\n", "");
    EVENTS("data: \xff\xfe\v\f\x85\xe2\x80\xa8\n\n", "<\xff\xfe\v\f\x85\xe2\x80\xa8>");
}

#define SMALL(bytes, wanted_, dropped_) expect_events(SPAN(bytes), 8, (struct wanted){SPAN(wanted_), false, dropped_})

static void data_up_to_the_limit_is_read(void **state)
{
    (void)state;
    SMALL("data: 12345678\n\n", "<12345678>", false);
    SMALL("data: 123456789\n\n", "", true);
    SMALL("data: 123\ndata: 5678\n\n", "<123\n5678>", false);
    SMALL("data: 123\ndata: 56789\n\n", "", true);
    SMALL("data:\ndata:\ndata:\ndata:\ndata:\ndata:\ndata:\ndata:\ndata:\n\n", "<\n\n\n\n\n\n\n\n>", false);
    SMALL("data:\ndata:\ndata:\ndata:\ndata:\ndata:\ndata:\ndata:\ndata:\ndata:\n\n", "", true);
}

static void after_a_too_large_event_the_next_is_read(void **state)
{
    (void)state;
    SMALL("data: 123456789\n\ndata: b\n\n", "<b>", true);
    SMALL("data: a\n\ndata: 123456789\n\ndata: b\n\n", "<a><b>", true);
    SMALL("data: 123456789\rdata: x\r\rdata: b\r\r", "<b>", true);
    /* a line that fits none of the bounds, and one after it in the same event that would fit */
    SMALL("data: 0123456789012345678901234567890123456789\ndata: x\n\ndata: b\n\n", "<b>", true);
    SMALL("data: x\ndata: 0123456789012345678901234567890123456789\n\ndata: b\n\n", "<b>", true);
    /* an unfinished one has not been dropped, and neither has one that nobody would have heard */
    SMALL("data: 0123456789012345678901234567890123456789", "", false);
    SMALL("data: 0123456789012345678901234567890123456789\n", "", false);
    SMALL("event: ping\ndata: 0123456789012345678901234567890123456789\n\n", "", false);
}

static void over_long_lines_that_are_no_data_harm_nothing(void **state)
{
    (void)state;
    SMALL(":0123456789012345678901234567890123456789\ndata: a\n\n", "<a>", false);
    SMALL("data: a\n: 012345678901234567890123456789 data: x\n\n", "<a>", false);
    SMALL("foo: 0123456789012345678901234567890123456789\ndata: a\n\n", "<a>", false);
    SMALL("a-field-name-that-never-ends-a-field-name-that-never-ends\ndata: a\n\n", "<a>", false);
    SMALL("\xef\xbb\xbf:0123456789012345678901234567890123456789\ndata: a\n\n", "<a>", false);
    SMALL("\xef\xbb\xbf"
          "data: 0123456789012345678901234567890123456789\n\ndata: a\n\n",
          "<a>", true);
    SMALL("data-0123456789012345678901234567890123456789: x\ndata: a\n\n", "<a>", false);
    SMALL("event: 0123456789012345678901234567890123456789\ndata: a\n\ndata: b\n\n", "<b>", false);
    SMALL("retry: 0123456789012345678901234567890123456789\r\n\r\ndata: b\r\n\r\n", "<b>", false);
    expect_events(SPAN("id: 0123456789012345678901234567890123456789\ndata: a\n\n"), 8, (struct wanted){SPAN("<a>"), true, false});
}

/* Bytes that the reader holds on to. */
static size_t held(const struct events *e)
{
    return e->line.cap + e->data.cap;
}

static void memory_stays_bounded(void **state)
{
    static const char *const starts[] = {"", "data: ", ":", "id: ", "x", "data: x\ndata: "};
    char block[1024];
    size_t bound = 2 * 2 * (1000 + 64);

    (void)state;
    memset(block, 'x', sizeof(block));
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct events e = {.data_max = 1000};
        struct transcript t = {0};

        feed(&e, &t, starts[i], strlen(starts[i]));
        for (int k = 0; k < 1000; k++) {
            feed(&e, &t, block, sizeof(block));
            assert_in_range(held(&e), 0, bound);
        }
        feed(&e, &t, "\n\ndata: a\n\n", 11);
        assert_span(buf_span(&t.text), "<a>");
        events_done(&e);
        buf_done(&t.text);
    }
    /* data lines without an end */
    {
        struct events e = {.data_max = 1000};
        struct transcript t = {0};

        for (int k = 0; k < 10000; k++) {
            feed(&e, &t, "data: 0123456789\n", 17);
            assert_in_range(held(&e), 0, bound);
        }
        feed(&e, &t, "\ndata: a\n\n", 10);
        assert_span(buf_span(&t.text), "<a>");
        assert_true(e.dropped);
        events_done(&e);
        buf_done(&t.text);
    }
}

static void without_a_limit_two_mebibytes_are_read(void **state)
{
    size_t two_mib = 2 * 1024 * 1024;
    char *big = malloc(two_mib + 1);

    (void)state;
    assert_non_null(big);
    memset(big, 'x', two_mib + 1);
    for (size_t more = 0; more < 2; more++) {
        struct events e = {.data_max = 0};
        struct transcript t = {0};

        feed(&e, &t, "data: ", 6);
        feed(&e, &t, big, two_mib + more);
        feed(&e, &t, "\n\n", 2);
        assert_int_equal(t.text.n, more == 0 ? two_mib + 2 : 0);
        assert_int_equal(e.dropped, more);
        events_done(&e);
        buf_done(&t.text);
    }
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_line_end_ends_a_line),
        cmocka_unit_test(data_lines_are_joined_by_line_feeds),
        cmocka_unit_test(one_space_after_the_colon_is_no_data),
        cmocka_unit_test(names_are_exact),
        cmocka_unit_test(comments_are_passed_over),
        cmocka_unit_test(an_event_without_data_is_none),
        cmocka_unit_test(empty_data_is_an_event_without_bytes),
        cmocka_unit_test(an_event_without_its_blank_line_is_incomplete),
        cmocka_unit_test(a_byte_order_mark_is_passed_over_once),
        cmocka_unit_test(ids_are_noticed),
        cmocka_unit_test(other_types_are_not_messages),
        cmocka_unit_test(nul_and_other_bytes_are_data),
        cmocka_unit_test(data_up_to_the_limit_is_read),
        cmocka_unit_test(after_a_too_large_event_the_next_is_read),
        cmocka_unit_test(over_long_lines_that_are_no_data_harm_nothing),
        cmocka_unit_test(memory_stays_bounded),
        cmocka_unit_test(without_a_limit_two_mebibytes_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
