/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/wire/framing.c: which request heads can be read in one way only. Each rule is shown from both sides. */
#include "unit.h"

#include <stdio.h>

#include "sidecar/wire/framing.h"

static struct framing_head head;

/* Scans from memory that ends where the bytes end. */
static enum framing scan(struct span bytes)
{
    struct span s = heap_span(bytes);
    enum framing r;

    head = (struct framing_head){.bytes = 4711};
    r = framing_scan(s, &head);
    free((char *)s.p);
    if (r != FRAMING_CLEAR)
        assert_int_equal(head.bytes, 4711);
    return r;
}

static void expect(struct span bytes, enum framing wanted, const char *file, int line)
{
    enum framing seen = scan(bytes);

    if (seen == wanted)
        return;
    print_error("%s, not %s: %.*s\n", framing_word(seen), framing_word(wanted), (int)bytes.n, bytes.p);
    _fail(file, line);
}

#define assert_scan(literal, wanted) expect(SPAN(literal), (wanted), __FILE__, __LINE__)
/* A request with these fields besides its Host */
#define assert_fields(fields, wanted) assert_scan("POST /mcp HTTP/1.1\r\nHost: a\r\n" fields "\r\n", wanted)
#define assert_line(line, wanted)     assert_scan(line "\r\nHost: a\r\n\r\n", wanted)

static void a_usual_request_is_clear_and_its_body_begins_behind_its_head(void **state)
{
    static const char text[] = "POST /mcp?a=b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: keep-alive\r\n"
                               "content-type: application/json\r\nAccept: application/json, text/event-stream\r\n"
                               "MCP-Protocol-Version: 2026-07-28\r\nX-Empty:\r\nX-Blank: \t a\tb\t \r\nX-Text: \xc3\xa4\xff\r\n"
                               "Content-Length: 2\r\n\r\n";

    (void)state;
    assert_int_equal(scan(SPAN(text)), FRAMING_CLEAR);
    assert_int_equal(head.bytes, sizeof(text) - 1);
    assert_false(head.is_chunked);
    /* whatever follows, be it half a line */
    assert_scan("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\nHost : b\r\n\n", FRAMING_CLEAR);
    assert_int_equal(head.bytes, sizeof("GET / HTTP/1.1\r\nHost: a\r\n\r\n") - 1);
    assert_fields("Transfer-Encoding: chunked\r\n", FRAMING_CLEAR);
    assert_true(head.is_chunked);
}

static void a_cut_head_is_never_clear_and_never_refused_when_the_whole_is_clear(void **state)
{
    static const char text[] = "\r\nDELETE /mcp HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: 1\r\nContent-Length: 0\r\n\r\n";

    (void)state;
    assert_int_equal(framing_scan(SPAN_ABSENT, &head), FRAMING_INCOMPLETE);
    for (size_t n = 0; n < sizeof(text) - 1; n++)
        assert_int_equal(scan((struct span){text, n}), FRAMING_INCOMPLETE);
    assert_int_equal(scan(SPAN(text)), FRAMING_CLEAR);
    assert_int_equal(head.bytes, sizeof(text) - 1);
}

static void what_is_wrong_is_wrong_before_the_head_has_ended(void **state)
{
    (void)state;
    assert_scan("POST /mcp HTTP/1.1\n", FRAMING_LINE_END);
    assert_scan("POST /mcp HTTP/1.1\r\nHost: a\r\nHost: a\r\nX", FRAMING_HOSTS);
    assert_scan("hello\r\n", FRAMING_REQUEST_LINE);
    /* while a line that has not ended says nothing yet */
    assert_scan("POST /mcp HTTP/1.1\r\nHost: a\r\nHost: a\r", FRAMING_INCOMPLETE);
    assert_scan("hello", FRAMING_INCOMPLETE);
}

static void lines_end_with_crlf(void **state)
{
    (void)state;
    assert_scan("GET / HTTP/1.1\nHost: a\r\n\r\n", FRAMING_LINE_END);
    assert_scan("GET / HTTP/1.1\r\nHost: a\n\r\n", FRAMING_LINE_END);
    assert_scan("GET / HTTP/1.1\r\nHost: a\r\n\n", FRAMING_LINE_END);
    assert_scan("GET / HTTP/1.1\nHost: a\n\n", FRAMING_LINE_END);
    assert_scan("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", FRAMING_LINE_END);
    assert_fields("A: b\nTransfer-Encoding: chunked\r\n", FRAMING_LINE_END);
    assert_fields("A: b\r\r\n", FRAMING_CONTROL);
    assert_fields("A: b\rTransfer-Encoding: chunked\r\n", FRAMING_CONTROL);
    assert_scan("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", FRAMING_REQUEST_LINE);
}

static void one_empty_line_may_come_first(void **state)
{
    (void)state;
    assert_scan("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", FRAMING_CLEAR);
    assert_int_equal(head.bytes, sizeof("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n") - 1);
    assert_scan("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", FRAMING_REQUEST_LINE);
}

static void request_lines_are_read_strictly(void **state)
{
    (void)state;
    assert_line("GET / HTTP/1.1", FRAMING_CLEAR);
    assert_line("GET / HTTP/1.0", FRAMING_CLEAR);
    assert_line("OPTIONS * HTTP/1.1", FRAMING_CLEAR);
    assert_line("M-SEARCH /\xc3\xa4 HTTP/1.1", FRAMING_CLEAR);
    assert_line("GET http://a/b HTTP/1.1", FRAMING_CLEAR);
    assert_line("GET /", FRAMING_REQUEST_LINE);
    assert_line("GET HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line("GET  HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line(" / HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line(" GET / HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line("GET  / HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line("GET /  HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line("GET / x HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line("GET\t/ HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line("GET /\ta HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line("GET / HTTP/1.1 ", FRAMING_REQUEST_LINE);
    assert_line("GET / HTTP/1.2", FRAMING_REQUEST_LINE);
    assert_line("GET / HTTP/1.11", FRAMING_REQUEST_LINE);
    assert_line("GET / HTTP/2.0", FRAMING_REQUEST_LINE);
    assert_line("GET / http/1.1", FRAMING_REQUEST_LINE);
    assert_line("G(T / HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line("G\0T / HTTP/1.1", FRAMING_REQUEST_LINE);
    assert_line("GET /a\0b HTTP/1.1", FRAMING_CONTROL);
    assert_line("GET /ab\x7f HTTP/1.1", FRAMING_CONTROL);
    assert_line("GET /long-enough-for-words\x01 HTTP/1.1", FRAMING_CONTROL);
}

static void names_are_tokens_that_a_colon_follows(void **state)
{
    (void)state;
    assert_fields("a!#$%&'*+-.^_`|~09azAZ: b\r\n", FRAMING_CLEAR);
    assert_fields("Content-Length : 5\r\n", FRAMING_FIELD);
    assert_fields("Content-Length\t: 5\r\n", FRAMING_FIELD);
    assert_fields("Transfer-Encoding : chunked\r\n", FRAMING_FIELD);
    assert_fields("Content\0-Length: 5\r\n", FRAMING_FIELD);
    assert_fields("nonsense\r\n", FRAMING_FIELD);
    assert_fields(": b\r\n", FRAMING_FIELD);
    assert_fields("a\xc2\xa0: b\r\n", FRAMING_FIELD);
    assert_fields("\"a\": b\r\n", FRAMING_FIELD);
    assert_fields("a(: b\r\n", FRAMING_FIELD);
}

static void folded_lines_are_refused(void **state)
{
    (void)state;
    assert_fields("A: b\r\n c\r\n", FRAMING_FOLD);
    assert_fields("A: b\r\n\tContent-Length: 5\r\n", FRAMING_FOLD);
    assert_fields("A: b\r\n \r\n", FRAMING_FOLD);
    assert_scan("GET / HTTP/1.1\r\n Host: a\r\n\r\n", FRAMING_FOLD);
}

static void values_hold_no_control_bytes(void **state)
{
    (void)state;
    /* wherever it stands in whatever length: the scan takes eight bytes at a time */
    for (size_t n = 1; n < 40; n++)
        for (size_t at = 0; at < n; at++)
            for (unsigned c = 0; c < 256; c++) {
                char text[128] = "GET / HTTP/1.1\r\nHost: a\r\nA:";
                size_t begin = strlen(text);

                memset(text + begin, (int)(c | 0x80), n);
                text[begin + at] = (char)c;
                memcpy(text + begin + n, "\r\n\r\n", 4);
                expect((struct span){text, begin + n + 4},
                       c == '\n'                               ? FRAMING_LINE_END
                       : (c < ' ' && c != '\t') || c == '\x7f' ? FRAMING_CONTROL
                                                               : FRAMING_CLEAR,
                       __FILE__, __LINE__);
            }
}

static void one_length_of_digits(void **state)
{
    (void)state;
    assert_fields("Content-Length: 0\r\n", FRAMING_CLEAR);
    assert_fields("CONTENT-LENGTH:5\r\n", FRAMING_CLEAR);
    assert_fields("content-length: \t 5 \t\r\n", FRAMING_CLEAR);
    assert_fields("Content-Length: 0000000000000000005\r\n", FRAMING_CLEAR);
    assert_fields("Content-Length: 9999999999999999999\r\n", FRAMING_CLEAR);
    assert_fields("Content-Length: 00000000000000000005\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length:\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: \r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: +5\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: -5\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: 5,5\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: 5, 5\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: 5 5\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: 0x5\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: 5a\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: 5.0\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: \"5\"\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: \xd9\xa5\r\n", FRAMING_LENGTH);
    assert_fields("Content-Length: 5\r\nContent-Length: 6\r\n", FRAMING_LENGTHS);
    assert_fields("Content-Length: 5\r\ncontent-length: 5\r\n", FRAMING_LENGTHS);
    /* names that only look alike */
    assert_fields("Content_Length: 5\r\nContent-Length: 6\r\nXContent-Length: 7\r\nContent-Lengt: 8\r\nContent-Lengthy: 9\r\n",
                  FRAMING_CLEAR);
}

static void one_coding_and_that_is_chunked(void **state)
{
    (void)state;
    assert_fields("Transfer-Encoding: chunked\r\n", FRAMING_CLEAR);
    assert_fields("transfer-encoding:\tChunKed \r\n", FRAMING_CLEAR);
    assert_fields("Transfer-Encoding:\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: identity\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: xchunked\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: chunkedx\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: chunked, chunked\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: chunked, identity\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: gzip, chunked\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: chunked;q=1\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: \"chunked\"\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: ,chunked\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: chunked\xa0\r\n", FRAMING_CODING);
    assert_fields("Transfer-Encoding: \x0b"
                  "chunked\r\n",
                  FRAMING_CONTROL);
    assert_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", FRAMING_CODINGS);
    assert_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", FRAMING_CODINGS);
    assert_scan("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", FRAMING_CODING);
    assert_fields("TE: trailers\r\nTransfer_Encoding: x\r\nX-Transfer-Encoding: x\r\n", FRAMING_CLEAR);
}

static void never_both(void **state)
{
    (void)state;
    assert_fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", FRAMING_LENGTH_CODING);
    assert_fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", FRAMING_LENGTH_CODING);
    assert_fields("transfer-encoding: chunked\r\nA: b\r\ncontent-length: 0\r\n", FRAMING_LENGTH_CODING);
}

static void one_host(void **state)
{
    (void)state;
#define assert_host(value, wanted) assert_scan("GET / HTTP/1.1\r\nHost:" value "\r\n\r\n", wanted)
    assert_host(" a.example", FRAMING_CLEAR);
    assert_host("A-1_b.example.:8080 ", FRAMING_CLEAR);
    assert_host(" 127.0.0.1:41234", FRAMING_CLEAR);
    assert_host(" [::1]", FRAMING_CLEAR);
    assert_host(" [fe80::1%25eth0]:80", FRAMING_CLEAR);
    assert_host(" a:", FRAMING_CLEAR);
    assert_host("", FRAMING_CLEAR);
    assert_host(" a, b", FRAMING_HOST);
    assert_host(" a,b", FRAMING_HOST);
    assert_host(" a b", FRAMING_HOST);
    assert_host(" a/b", FRAMING_HOST);
    assert_host(" u@a", FRAMING_HOST);
    assert_host(" a?b", FRAMING_HOST);
    assert_host(" a#b", FRAMING_HOST);
    assert_host(" a\\b", FRAMING_HOST);
    assert_host(" a:b", FRAMING_HOST);
    assert_host(" a:80:80", FRAMING_HOST);
    assert_host(" ::1", FRAMING_HOST);
    assert_host(" [::1", FRAMING_HOST);
    assert_host(" [::1]x", FRAMING_HOST);
    assert_host(" \xc3\xa4", FRAMING_HOST);
    assert_host(" a\r\nHOST: a", FRAMING_HOSTS);
    assert_host(" a\r\nA: b\r\nhost: b", FRAMING_HOSTS);
    assert_scan("GET / HTTP/1.1\r\nA: b\r\n\r\n", FRAMING_HOST);
    assert_scan("GET / HTTP/1.1\r\nX-Host: b\r\n\r\n", FRAMING_HOST);
    assert_scan("GET / HTTP/1.0\r\nA: b\r\n\r\n", FRAMING_CLEAR);
    assert_scan("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", FRAMING_HOSTS);
}

static void every_answer_has_a_word_of_its_own(void **state)
{
    (void)state;
    for (enum framing a = FRAMING_CLEAR; a <= FRAMING_HOSTS; a++) {
        assert_true(strlen(framing_word(a)) > 3);
        for (enum framing b = FRAMING_CLEAR; b < a; b++)
            assert_string_not_equal(framing_word(a), framing_word(b));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_usual_request_is_clear_and_its_body_begins_behind_its_head),
        cmocka_unit_test(a_cut_head_is_never_clear_and_never_refused_when_the_whole_is_clear),
        cmocka_unit_test(what_is_wrong_is_wrong_before_the_head_has_ended),
        cmocka_unit_test(lines_end_with_crlf),
        cmocka_unit_test(one_empty_line_may_come_first),
        cmocka_unit_test(request_lines_are_read_strictly),
        cmocka_unit_test(names_are_tokens_that_a_colon_follows),
        cmocka_unit_test(folded_lines_are_refused),
        cmocka_unit_test(values_hold_no_control_bytes),
        cmocka_unit_test(one_length_of_digits),
        cmocka_unit_test(one_coding_and_that_is_chunked),
        cmocka_unit_test(never_both),
        cmocka_unit_test(one_host),
        cmocka_unit_test(every_answer_has_a_word_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
