/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/wire/http_reply.c: what is a reply, where it ends, and that neither depends on how the bytes were cut. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#include "sidecar/wire/http_reply.h"

static struct http_head head; /* large; every test begins with a parse */

/* Parses from memory that ends where the bytes end. The spans of `head` are dead afterwards. */
static long parse(struct span bytes, bool answers_head)
{
    struct span s = heap_span(bytes);
    long r = http_head_parse(&head, s, answers_head);

    free((char *)s.p);
    return r;
}

#define PARSE(text) parse(SPAN(text), false)

static void a_head_is_taken_apart(void **state)
{
    const struct span bytes = SPAN("HTTP/1.1 200 All is well\r\nContent-Type: application/json\r\nX-Empty:\r\n"
                                   "x-blank: \t a b\t \r\nContent-Length: 2\r\n\r\n{}");

    (void)state;
    assert_int_equal(http_head_parse(&head, bytes, false), bytes.n - 2);
    assert_int_equal(head.status, 200);
    assert_int_equal(head.minor_version, 1);
    assert_span(head.reason, "All is well");
    assert_int_equal(head.field_count, 4);
    assert_span(head.fields[0].name, "Content-Type");
    assert_span(head.fields[0].value, "application/json");
    assert_span(head.fields[1].name, "X-Empty");
    assert_span(head.fields[1].value, "");
    assert_span(head.fields[2].value, "a b");
    assert_int_equal(head.framing, HTTP_LENGTH);
    assert_int_equal(head.content_bytes, 2);
    assert_true(head.keeps_alive);
}

static void an_unfinished_head_is_never_a_head(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 3\r\n\r\n";

    (void)state;
    for (size_t n = 0; n < sizeof(text) - 1; n++)
        assert_int_equal(parse((struct span){text, n}, false), 0);
    assert_int_equal(parse(SPAN(text), false), sizeof(text) - 1);
}

static void status_lines_are_read_strictly(void **state)
{
    static const char *const bad[] = {
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1\t200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1 2 0 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/1.1 200\tOK\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.10 200 OK\r\n\r\n",
        "POST / HTTP/1.1\r\n\r\n",
        "220 smtp.example ESMTP\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "{\"jsonrpc\":\"2.0\"}\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "HTTP/1.1 200 O\x1bK\r\n\r\n",
        "HTTP/1.1 200 O\x7fK\r\n\r\n",
        "\n",
        "HTTP/1.1 2\xd9\xa0 OK\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parse(span_of(bad[i]), false) != -EBADMSG)
            fail_msg("taken for a reply: %s", bad[i]);
    assert_int_equal(PARSE("HTTP/1.1 200 O\0K\r\n\r\n"), -EBADMSG);
    assert_true(PARSE("HTTP/1.1 200\r\n\r\n") > 0);
    assert_int_equal(head.reason.n, 0);
    assert_true(PARSE("HTTP/1.1 200 \r\n\r\n") > 0);
    assert_int_equal(head.reason.n, 0);
    assert_true(PARSE("HTTP/1.1 999 \xc3\xa9t\xc3\xa9\tvoil\xe0\r\n\r\n") > 0);
    assert_int_equal(head.status, 999);
    assert_true(PARSE("HTTP/1.0 100 x\n\n") > 0);
    assert_int_equal(head.minor_version, 0);
}

static void malformed_fields_are_refused(void **state)
{
    static const struct span bad[] = {
        {"no colon", 8}, {": empty name", 12}, {"a b: c", 6},      {"a : c", 5},   {"a\t: c", 5},  {" folded: x", 10},
        {"\tfolded", 7}, {"na\0me: x", 8},     {"n\x80: x", 5},    {"a\"b: c", 6}, {"a: b\0c", 6}, {"a: b\rc", 6},
        {"a: b\x01", 5}, {"a: \x7f", 4},       {"a: \x1b[31m", 8}, {"a\r: b", 5},  {"(a): b", 6},  {"{\"a\": 1}", 8},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf b = {0};

        assert_int_equal(buf_add(&b, "HTTP/1.1 200 OK\r\nx: y\r\n", 23), 0);
        assert_int_equal(buf_add_span(&b, bad[i]), 0);
        assert_int_equal(buf_add(&b, "\r\nContent-Length: 0\r\n\r\n", 23), 0);
        if (parse(buf_span(&b), false) != -EBADMSG)
            fail_msg("field %zu was accepted: %s", i, bad[i].p);
        buf_done(&b);
    }
    assert_true(PARSE("HTTP/1.1 200 OK\r\n!#$%&'*+-.^_`|~09azAZ: \xff\tx\r\n\r\n") > 0);
}

static void bare_line_feeds_end_lines_of_a_head(void **state)
{
    (void)state;
    assert_int_equal(PARSE("HTTP/1.1 200 OK\nContent-Length: 1\n\nx"), 35);
    assert_int_equal(head.framing, HTTP_LENGTH);
}

static void limits_hold_at_their_edges(void **state)
{
    struct buf b = {0};
    size_t fields = 0;

    (void)state;
    assert_int_equal(buf_add(&b, "HTTP/1.1 200 OK\r\n", 17), 0);
    for (; fields < HTTP_FIELDS_MAX; fields++)
        assert_int_equal(buf_add(&b, "a: b\r\n", 6), 0);
    assert_int_equal(buf_add(&b, "\r\n", 2), 0);
    assert_int_equal(parse(buf_span(&b), false), b.n);
    assert_int_equal(head.field_count, HTTP_FIELDS_MAX);
    b.n -= 2;
    assert_int_equal(buf_add(&b, "a: b\r\n\r\n", 8), 0);
    assert_int_equal(parse(buf_span(&b), false), -EBADMSG);

    /* a head of exactly the limit, one byte more, and one that never ends */
    for (size_t more = 0; more < 2; more++) {
        b.n = 0;
        assert_int_equal(buf_add(&b, "HTTP/1.1 200 OK\r\nx: ", 20), 0);
        while (b.n < HTTP_HEAD_MAX - 4 + more)
            assert_int_equal(buf_add(&b, "x", 1), 0);
        assert_int_equal(parse(buf_span(&b), false), 0);
        assert_int_equal(buf_add(&b, "\r\n\r\n", 4), 0);
        assert_int_equal(parse(buf_span(&b), false), more == 0 ? HTTP_HEAD_MAX : -EBADMSG);
    }
    b.n -= 4;
    while (b.n <= HTTP_HEAD_MAX)
        assert_int_equal(buf_add(&b, "x", 1), 0);
    assert_int_equal(parse(buf_span(&b), false), -EBADMSG);
    memset(b.p, 'H', b.n);
    assert_int_equal(parse((struct span){b.p, HTTP_HEAD_MAX}, false), 0);
    assert_int_equal(parse(buf_span(&b), false), -EBADMSG);
    buf_done(&b);
}

static void framing_follows_rfc_9112(void **state)
{
    static const struct {
        const char *text;
        bool answers_head;
        enum http_framing framing;
        uint64_t content_bytes; /* of HTTP_LENGTH and HTTP_NO_BODY */
        bool keeps_alive;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, HTTP_LENGTH, 5, true},
        {"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", false, HTTP_LENGTH, 0, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, HTTP_CHUNKED, 0, true},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding:CHUNKED\r\nConnection: close\r\n\r\n", false, HTTP_CHUNKED, 0, false},
        {"HTTP/1.1 200 OK\r\n\r\n", false, HTTP_UNTIL_CLOSE, 0, false},
        {"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", false, HTTP_UNTIL_CLOSE, 0, false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, HTTP_LENGTH, 5, false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n", false, HTTP_LENGTH, 5, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, CLOSE ,y\r\n\r\n", false, HTTP_LENGTH, 5, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, close\r\n\r\n", false, HTTP_LENGTH, 5, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false, HTTP_LENGTH, 5,
         false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: closed\r\n\r\n", false, HTTP_LENGTH, 5, true},
        /* without a body, whatever the fields say */
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, HTTP_NO_BODY, 5, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, HTTP_NO_BODY, UINT64_MAX, true},
        {"HTTP/1.1 200 OK\r\n\r\n", true, HTTP_NO_BODY, UINT64_MAX, true},
        {"HTTP/1.1 204 No Content\r\n\r\n", false, HTTP_NO_BODY, UINT64_MAX, true},
        {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false, HTTP_NO_BODY, 0, true},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\n\r\n", false, HTTP_NO_BODY, 70, true},
        {"HTTP/1.1 100 Continue\r\n\r\n", false, HTTP_NO_BODY, UINT64_MAX, true},
        {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", false, HTTP_NO_BODY, UINT64_MAX, true},
        /* a sender who announces a body for 204 may well send it: the connection's next bytes cannot be trusted */
        {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false, HTTP_NO_BODY, 5, false},
        {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false, HTTP_NO_BODY, UINT64_MAX, false},
        /* ... and 205 is a reply like any other */
        {"HTTP/1.1 205 Reset Content\r\nContent-Length: 1\r\n\r\n", false, HTTP_LENGTH, 1, true},
        {"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", false, HTTP_LENGTH, 0, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (parse(span_of(cases[i].text), cases[i].answers_head) != (long)strlen(cases[i].text))
            fail_msg("not read: %s", cases[i].text);
        if (head.framing != cases[i].framing || head.keeps_alive != cases[i].keeps_alive)
            fail_msg("framing %d, keeps_alive %d: %s", (int)head.framing, head.keeps_alive, cases[i].text);
        if ((head.framing == HTTP_LENGTH || head.framing == HTTP_NO_BODY) && head.content_bytes != cases[i].content_bytes)
            fail_msg("content_bytes %llu: %s", (unsigned long long)head.content_bytes, cases[i].text);
    }
}

static void content_lengths_must_agree_and_fit(void **state)
{
    static const struct {
        const char *fields;
        int64_t content_bytes; /* -1: refused */
    } cases[] = {
        {"Content-Length: 5, 5\r\n", 5},
        {"Content-Length: 5,5 ,\t5\r\n", 5},
        {"Content-Length: 5\r\nContent-Length: 5\r\n", 5},
        {"Content-Length: 05\r\nContent-Length: 5\r\n", 5},
        {"Content-Length: 999999999999999999\r\n", 999999999999999999},
        {"Content-Length: 5, 6\r\n", -1},
        {"Content-Length: 5\r\nContent-Length: 6\r\n", -1},
        {"Content-Length: 5\r\nX: y\r\ncontent-length: 0\r\n", -1},
        {"Content-Length: 0\r\nContent-Length: 5\r\n", -1},
        {"Content-Length:\r\n", -1},
        {"Content-Length: ,\r\n", -1},
        {"Content-Length: 5,\r\n", -1},
        {"Content-Length: ,5\r\n", -1},
        {"Content-Length: 5,,5\r\n", -1},
        {"Content-Length: +5\r\n", -1},
        {"Content-Length: -5\r\n", -1},
        {"Content-Length: -1\r\n", -1},
        {"Content-Length: 0x5\r\n", -1},
        {"Content-Length: 5.0\r\n", -1},
        {"Content-Length: 5e3\r\n", -1},
        {"Content-Length: 5 5\r\n", -1},
        {"Content-Length: \"5\"\r\n", -1},
        {"Content-Length: five\r\n", -1},
        {"Content-Length: \xd9\xa5\r\n", -1},
        {"Content-Length: 9223372036854775808\r\n", -1},
        {"Content-Length: 18446744073709551616\r\n", -1},
        {"Content-Length: 18446744073709551621\r\n", -1},
        {"Content-Length: 99999999999999999999999999999999999999\r\n", -1},
        /* beside a transfer coding */
        {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", -1},
        {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        /* nobody sends a body with HEAD, yet a length that is no length stays a broken head */
        for (int answers_head = 0; answers_head < 2; answers_head++) {
            char text[256];
            long r;

            snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n%s\r\n", cases[i].fields);
            r = parse(span_of(text), answers_head);
            if (cases[i].content_bytes < 0 ? r != -EBADMSG : r <= 0 || head.content_bytes != (uint64_t)cases[i].content_bytes)
                fail_msg("%ld for %s", r, cases[i].fields);
        }
    }
}

static void transfer_codings_other_than_chunked_are_refused(void **state)
{
    static const char *const bad[] = {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: gzip\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parse(span_of(bad[i]), false) != -EBADMSG)
            fail_msg("accepted: %s", bad[i]);
}

/* ---- bodies ------------------------------------------------------------------------------------------------------------------- */

struct reading {
    struct buf data;
    size_t used;
    bool is_complete, is_broken;
};

static void collect(void *ctx, struct span bytes)
{
    struct reading *r = ctx;

    assert_int_not_equal(bytes.n, 0);
    assert_int_equal(buf_add_span(&r->data, bytes), 0);
}

/* One portion, from memory that ends where it ends. False: no more is wanted. */
static bool feed(struct http_body *body, struct reading *r, const char *p, size_t n)
{
    struct span portion = heap_span((struct span){p, n});
    long used = http_body_feed(body, portion, collect, r);

    free((char *)portion.p);
    if (used < 0) {
        assert_int_equal(used, -EBADMSG);
        r->is_broken = true;
        return false;
    }
    r->used += (size_t)used;
    r->is_complete = body->is_complete;
    if ((size_t)used != n)
        assert_true(body->is_complete);
    return (size_t)used == n && !body->is_complete;
}

static void expect_reading(struct reading *r, const struct reading *wanted, const char *text)
{
    if (r->is_broken != wanted->is_broken || r->is_complete != wanted->is_complete || (!r->is_broken && r->used != wanted->used) ||
        !span_eq(buf_span(&r->data), buf_span(&wanted->data)))
        fail_msg("%s: broken %d, complete %d, used %zu, data '%.*s'", text, r->is_broken, r->is_complete, r->used, (int)r->data.n,
                 r->data.p);
    buf_done(&r->data);
}

/* The bytes after a head, whole, in portions of every size, and cut once at every place: always the same reading. */
static void expect_body(const char *head_text, struct span bytes, const char *data, bool is_complete, size_t used, bool is_broken)
{
    struct reading wanted = {
        .data = {(char *)data, strlen(data), 0}, .is_complete = is_complete, .used = used, .is_broken = is_broken};
    struct http_body body;

    assert_true(parse(span_of(head_text), false) > 0);
    for (size_t portion = 1; portion <= (bytes.n == 0 ? 1 : bytes.n); portion++) {
        struct reading r = {.used = 0};

        http_body_init(&body, &head);
        r.is_complete = body.is_complete;
        for (size_t at = 0; at < bytes.n && !r.is_complete; at += portion)
            if (!feed(&body, &r, bytes.p + at, bytes.n - at < portion ? bytes.n - at : portion))
                break;
        expect_reading(&r, &wanted, bytes.p);
    }
    for (size_t cut = 0; cut <= bytes.n; cut++) {
        struct reading r = {.used = 0};

        http_body_init(&body, &head);
        r.is_complete = body.is_complete;
        if (feed(&body, &r, bytes.p, cut))
            feed(&body, &r, bytes.p + cut, bytes.n - cut);
        expect_reading(&r, &wanted, bytes.p);
    }
}

#define CHUNKED                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define WHOLE(head_, text, data)          expect_body(head_, SPAN(text), data, true, sizeof(text) - 1, false)
#define FOLLOWED(head_, text, rest, data) expect_body(head_, SPAN(text rest), data, true, sizeof(text) - 1, false)
#define PART(head_, text, data)           expect_body(head_, SPAN(text), data, false, sizeof(text) - 1, false)
#define BROKEN(text, data)                expect_body(CHUNKED, SPAN(text), data, false, 0, true)

static void chunks_are_joined(void **state)
{
    (void)state;
    WHOLE(CHUNKED, "0\r\n\r\n", "");
    WHOLE(CHUNKED, "5\r\nhello\r\n0\r\n\r\n", "hello");
    WHOLE(CHUNKED, "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello");
    WHOLE(CHUNKED, "a\r\n0123456789\r\nA\r\nabcdefghij\r\n0\r\n\r\n", "0123456789abcdefghij");
    WHOLE(CHUNKED, "010\r\n0123456789abcdef\r\n000\r\n\r\n", "0123456789abcdef");
    /* data that looks like framing */
    WHOLE(CHUNKED, "9\r\n0\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n\r\n\r\n");
}

static void extensions_and_trailers_are_passed_over(void **state)
{
    (void)state;
    WHOLE(CHUNKED, "2;a=b;c=\"d\"\r\nhi\r\n0;last\r\n\r\n", "hi");
    WHOLE(CHUNKED, "2 ;a\r\nhi\r\n0 \t \r\n\r\n", "hi");
    WHOLE(CHUNKED, "2\r\nhi\r\n0\r\nA: b\r\nContent-Length: 77\r\n\r\n", "hi");
    WHOLE(CHUNKED, "0\r\nA: b\n\r\n", "");
}

static void what_follows_a_reply_is_not_part_of_it(void **state)
{
    (void)state;
    FOLLOWED(CHUNKED, "2\r\nhi\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "hi");
    FOLLOWED(CHUNKED, "0\r\n\r\n", "\r\n", "");
    FOLLOWED("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "hi", "HTTP/1.1 200 OK\r\n", "hi");
    FOLLOWED("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", "x", "");
    FOLLOWED("HTTP/1.1 204 No Content\r\n\r\n", "", "x", "");
    FOLLOWED("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", "hello", "");
}

static void a_reply_cut_short_is_never_complete(void **state)
{
    static const char text[] = "5;x\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n";

    (void)state;
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        /* data seen so far: 5 bytes from offset 5, one from offset 15 */
        char data[8] = "";
        size_t first = n < 5 ? 0 : n - 5 < 5 ? n - 5 : 5;

        memcpy(data, "hello", first);
        data[first] = '\0';
        if (n >= 16)
            strcat(data, "!");
        expect_body(CHUNKED, (struct span){text, n}, data, false, n, false);
    }
    PART("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "hello", "hello");
    PART("HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\n", "hello", "hello");
    PART("HTTP/1.1 200 OK\r\n\r\n", "hello", "hello");
    PART(CHUNKED, "fffffffffffffff\r\nhello", "hello");
}

static void broken_chunks_are_refused_whatever_came_before(void **state)
{
    (void)state;
    BROKEN("\r\n", "");
    BROKEN("x\r\n", "");
    BROKEN(" 5\r\nhello\r\n", "");
    BROKEN(";a\r\n", "");
    BROKEN("-5\r\nhello\r\n", "");
    BROKEN("+5\r\nhello\r\n", "");
    BROKEN("0x5\r\nhello\r\n", "");
    BROKEN("5g\r\nhello\r\n", "");
    BROKEN("5\nhello\r\n", "");
    BROKEN("5\rhello\r\n", "");
    BROKEN("5\r\r\nhello\r\n", "");
    BROKEN("5;a\nhello\r\n", "");
    BROKEN("5;a\rb\r\nhello\r\n", "");
    BROKEN("5 5\r\nhello\r\n", "");
    BROKEN("5 \t5;a\r\nhello\r\n", "");
    BROKEN("5\r\nhelloX\r\n", "hello");
    BROKEN("5\r\nhello\n0\r\n\r\n", "hello");
    BROKEN("5\r\nhello\r0\r\n\r\n", "hello");
    BROKEN("5\r\nhello0\r\n\r\n", "hello");
    BROKEN("5\r\nhello\r\n\r\n", "hello");
    BROKEN("2\r\nhello\r\n0\r\n\r\n", "he");
    BROKEN("0\r\n\rX", "");
    BROKEN("0\r\n\n", "");
    BROKEN("0\r\nA: b\r\n\n", "");
    BROKEN("0000000000000000\r\n\r\n", "");
    BROKEN("1000000000000000\r\nx", "");
    BROKEN("ffffffffffffffff\r\nx", "");
    BROKEN("10000000000000005\r\nhello\r\n", "");
    expect_body(CHUNKED, SPAN("5\0\r\nhello\r\n"), "", false, 0, true);
}

static void extensions_and_trailers_are_bounded(void **state)
{
    (void)state;
    for (int trailer = 0; trailer < 2; trailer++) {
        struct http_body body;
        struct reading r = {.used = 0};
        size_t n = 0;

        assert_true(PARSE(CHUNKED) > 0);
        http_body_init(&body, &head);
        assert_true(trailer ? feed(&body, &r, "0\r\n", 3) : feed(&body, &r, "5;", 2));
        while (n < 100000 && (trailer ? feed(&body, &r, "a:b\n", 4) : feed(&body, &r, "a=b;", 4)))
            n += 4;
        assert_true(r.is_broken);
        assert_in_range(n, 4000, 8192);
        buf_done(&r.data);
    }
    /* the bound is for one chunk, not for all of them */
    {
        struct http_body body;
        struct reading r = {.used = 0};

        http_body_init(&body, &head);
        for (int i = 0; i < 10000; i++)
            assert_true(feed(&body, &r, "1;aaaa\r\nx\r\n", 11));
        assert_false(feed(&body, &r, "0\r\n\r\n", 5));
        assert_true(r.is_complete);
        assert_int_equal(r.data.n, 10000);
        buf_done(&r.data);
    }
}

static void nothing_is_fed_to_nobody(void **state)
{
    struct http_body body;
    struct reading r = {.used = 0};

    (void)state;
    assert_true(PARSE(CHUNKED) > 0);
    http_body_init(&body, &head);
    assert_int_equal(http_body_feed(&body, SPAN_ABSENT, collect, &r), 0);
    assert_false(body.is_complete);
    assert_int_equal(http_body_feed(&body, SPAN("0\r\n\r\nx"), collect, &r), 5);
    assert_true(body.is_complete);
    assert_int_equal(http_body_feed(&body, SPAN("x"), collect, &r), 0);
    assert_int_equal(r.data.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_taken_apart),
        cmocka_unit_test(an_unfinished_head_is_never_a_head),
        cmocka_unit_test(status_lines_are_read_strictly),
        cmocka_unit_test(malformed_fields_are_refused),
        cmocka_unit_test(bare_line_feeds_end_lines_of_a_head),
        cmocka_unit_test(limits_hold_at_their_edges),
        cmocka_unit_test(framing_follows_rfc_9112),
        cmocka_unit_test(content_lengths_must_agree_and_fit),
        cmocka_unit_test(transfer_codings_other_than_chunked_are_refused),
        cmocka_unit_test(chunks_are_joined),
        cmocka_unit_test(extensions_and_trailers_are_passed_over),
        cmocka_unit_test(what_follows_a_reply_is_not_part_of_it),
        cmocka_unit_test(a_reply_cut_short_is_never_complete),
        cmocka_unit_test(broken_chunks_are_refused_whatever_came_before),
        cmocka_unit_test(extensions_and_trailers_are_bounded),
        cmocka_unit_test(nothing_is_fed_to_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
