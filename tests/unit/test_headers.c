/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/wire/headers.c on requests built by hand: no sockets, no loop. */
#include "unit.h"

#include <stdio.h>

#include "sidecar/wire/headers.h"

static h2o_req_t *req;
static struct wire_request seen;

static int new_request(void **state)
{
    (void)state;
    req = calloc(1, sizeof(*req));
    if (req == NULL)
        return -1;
    h2o_mem_init_pool(&req->pool);
    req->input.method = h2o_iovec_init(H2O_STRLIT("POST"));
    req->input.path = h2o_iovec_init(H2O_STRLIT("/mcp?x=y"));
    req->input.authority = h2o_iovec_init(H2O_STRLIT("client.example:80"));
    return 0;
}

static int free_request(void **state)
{
    (void)state;
    h2o_mem_clear_pool(&req->pool);
    free(req);
    return 0;
}

/* As a parser does it: the name in lower case, a token where the library has one. */
static void add_to(h2o_headers_t *headers, const char *name, struct span value)
{
    size_t n = strlen(name);
    h2o_iovec_t lower = h2o_strdup(&req->pool, name, n), copy = h2o_strdup(&req->pool, value.p, value.n);

    h2o_strtolower(lower.base, n);
    h2o_add_header_by_str(&req->pool, headers, lower.base, n, 1, name, copy.base, copy.len);
}

static void add(const char *name, const char *value)
{
    add_to(&req->headers, name, span_of(value));
}

/* ---- what is read of a request -------------------------------------------------------------------------------------------------- */

static void a_bare_request_says_nothing(void **state)
{
    (void)state;
    memset(&seen, 0xa5, sizeof(seen));
    wire_request_read(req, &seen);
    assert_span(seen.method, "POST");
    assert_span(seen.path, "/mcp?x=y");
    assert_span(seen.authority, "client.example:80");
    assert_null(seen.session.p);
    assert_false(seen.origin_repeated);
    assert_false(seen.body_is_plain);
    assert_false(seen.hides_headers);
    assert_null(seen.origin.p);
    assert_null(seen.mirror.version.p);
    assert_null(seen.mirror.method.p);
    assert_null(seen.mirror.name.p);
    assert_false(seen.mirror.repeated);
    assert_int_equal(seen.param_count, 0);
    assert_false(seen.too_many_params);
    assert_true(seen.accepts_json);
    assert_false(seen.no_cache || seen.no_store || seen.only_if_cached);
}

static void named_headers_are_found_in_any_case(void **state)
{
    (void)state;
    add("MCP-Protocol-Version", "2026-07-28");
    add("mcp-method", "tools/call");
    add("Mcp-Name", " get_weather ");
    add("Mcp-Session-Id", "s-1");
    add("Origin", "https://app.example");
    add("MCP-PARAM-City", "=?base64?UGFyaXM=?=");
    add("Mcp-Param-", "x");
    wire_request_read(req, &seen);
    assert_span(seen.mirror.version, "2026-07-28");
    assert_span(seen.mirror.method, "tools/call");
    assert_span(seen.mirror.name, " get_weather ");
    assert_false(seen.mirror.repeated);
    assert_span(seen.session, "s-1");
    assert_span(seen.origin, "https://app.example");
    assert_int_equal(seen.param_count, 1);
    assert_span(seen.params[0].name, "city");
    assert_span(seen.params[0].value, "=?base64?UGFyaXM=?=");
}

/* What the upstream reads must be what was read here. */
static void only_plain_json_is_plain(void **state)
{
    static const struct {
        const char *type, *second, *encoding;
        bool plain;
    } rows[] = {
        {"application/json", NULL, NULL, true},
        {"Application/JSON ; charset=UTF-8", NULL, NULL, true},
        {"application/json;charset=\"utf-8\"", NULL, NULL, true},
        {"application/json;", NULL, NULL, true},
        {"application/json; charset=utf-7", NULL, NULL, false},
        {"application/json; charset=utf-16", NULL, NULL, false},
        {"application/json; charset=utf-8; charset=utf-7", NULL, NULL, false},
        {"application/json; boundary=x", NULL, NULL, false},
        {"application/json-rpc", NULL, NULL, false},
        {"text/plain", NULL, NULL, false},
        {"", NULL, NULL, false},
        {"application/json", "application/json", NULL, false},
        {"application/json", NULL, "gzip", false},
        {"application/json", NULL, "identity", false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        req->headers.size = 0;
        if (rows[i].encoding != NULL)
            add("Content-Encoding", rows[i].encoding);
        add("Content-Type", rows[i].type);
        if (rows[i].second != NULL)
            add("Content-Type", rows[i].second);
        wire_request_read(req, &seen);
        if (seen.body_is_plain != rows[i].plain)
            fail_msg("row %zu: %s", i, rows[i].type);
    }
    (void)state;
}

static void headers_that_connection_takes_away_are_noticed(void **state)
{
    (void)state;
    add("Connection", "keep-alive, TE");
    wire_request_read(req, &seen);
    assert_false(seen.hides_headers);
    add("Connection", "close, Accept-Language");
    wire_request_read(req, &seen);
    assert_true(seen.hides_headers);
}

static void two_origins_are_told(void **state)
{
    (void)state;
    add("Origin", "https://evil.example");
    add("Origin", "https://app.example");
    wire_request_read(req, &seen);
    assert_true(seen.origin_repeated);
}

static void empty_is_not_absent(void **state)
{
    (void)state;
    add("Mcp-Session-Id", "");
    add("Origin", "");
    h2o_add_header_by_str(&req->pool, &req->headers, H2O_STRLIT("mcp-name"), 0, NULL, NULL, 0);
    wire_request_read(req, &seen);
    assert_non_null(seen.session.p);
    assert_int_equal(seen.session.n, 0);
    assert_non_null(seen.origin.p);
    assert_non_null(seen.mirror.name.p);
    assert_int_equal(seen.mirror.name.n, 0);
}

static void a_header_that_came_twice_is_noticed(void **state)
{
    static const char *const names[] = {"MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "Mcp-Param-City"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        req->headers.size = 0;
        add(names[i], "");
        wire_request_read(req, &seen);
        assert_false(seen.mirror.repeated);
        add("Accept", "*/*");
        add(names[i], "");
        wire_request_read(req, &seen);
        if (!seen.mirror.repeated)
            fail_msg("twice, unnoticed: %s", names[i]);
    }
    req->headers.size = 0;
    add("Mcp-Param-City", "a");
    add("Mcp-Param-Country", "a");
    add("Accept", "*/*");
    add("Accept", "*/*");
    wire_request_read(req, &seen);
    assert_false(seen.mirror.repeated);
}

static void parameters_beyond_the_room_are_noticed(void **state)
{
    char name[32];

    (void)state;
    for (int i = 0; i < WIRE_PARAMS_MAX; i++) {
        snprintf(name, sizeof(name), "Mcp-Param-%d", i);
        add(name, "x");
    }
    wire_request_read(req, &seen);
    assert_int_equal(seen.param_count, WIRE_PARAMS_MAX);
    assert_false(seen.too_many_params);
    add("Mcp-Param-Last", "x");
    wire_request_read(req, &seen);
    assert_int_equal(seen.param_count, WIRE_PARAMS_MAX);
    assert_true(seen.too_many_params);
}

static void accept_decides_whether_json_may_be_answered(void **state)
{
    static const struct {
        const char *first, *second; /* second: another field, or NULL */
        bool accepts_json;
    } cases[] = {
        {"application/json, text/event-stream", NULL, true},
        {"text/event-stream,application/json", NULL, true},
        {"Application/JSON", NULL, true},
        {"application/json;q=0.1", NULL, true},
        {"application/json ; charset=utf-8", NULL, true},
        {"*/*", NULL, true},
        {"application/*;q=0.5", NULL, true},
        {"text/event-stream", "application/json", true},
        {"text/event-stream", NULL, false},
        {"text/*", NULL, false},
        {"", NULL, false},
        {" , ,", NULL, false},
        {"application/jsonx", NULL, false},
        {"application/json-seq, text/plain", NULL, false},
        {"application", NULL, false},
        {"*", NULL, false},
        /* refused */
        {"application/json;q=0", NULL, false},
        {"application/json; q=0", NULL, false},
        {"application/json;Q=0.000", NULL, false},
        {"application/json;q=0.", NULL, false},
        {"application/json;charset=utf-8;q=0, text/event-stream", NULL, false},
        {"application/json;q=0;x=y", NULL, false},
        {"application/json;q=0 ;x=y", NULL, false},
        {"*/*;q=0", NULL, false},
        {"application/json;q=0.001", NULL, true},
        {"application/json;q=0.0001", NULL, true},
        {"application/json;xq=0", NULL, true},
        {"application/json;q=1;q0=0", NULL, true},
        {"text/event-stream;q=0, application/json", NULL, true},
        /* the more specific range decides (RFC 9110 12.5.1), in any order and across fields */
        {"application/json;q=0, */*", NULL, false},
        {"*/*, application/json;q=0", NULL, false},
        {"application/*;q=0, */*", NULL, false},
        {"application/*;q=0, application/json", NULL, true},
        {"application/json, application/*;q=0, */*;q=0", NULL, true},
        {"*/*", "application/json;q=0", false},
        {"application/json;q=0", "*/*", false},
        {"*/*;q=0", "application/*", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        req->headers.size = 0;
        add("Accept", cases[i].first);
        if (cases[i].second != NULL)
            add("Accept", cases[i].second);
        wire_request_read(req, &seen);
        if (seen.accepts_json != cases[i].accepts_json)
            fail_msg("accepts_json %d for: %s | %s", seen.accepts_json, cases[i].first,
                     cases[i].second != NULL ? cases[i].second : "-");
    }
}

static void the_clients_directives_are_told_apart(void **state)
{
    static const struct {
        const char *name, *value;
        bool no_cache, no_store, only_if_cached;
    } cases[] = {
        {"Cache-Control", "no-cache", true, false, false},
        {"Cache-Control", "NO-STORE", false, true, false},
        {"Cache-Control", "Only-If-Cached", false, false, true},
        {"Cache-Control", "no-store,no-cache", true, true, false},
        {"Cache-Control", "no-store , only-if-cached", false, true, true},
        {"Cache-Control", "max-age=5, no-cache", true, false, false},
        {"Cache-Control", "no-cache=\"x\"", true, false, false},
        {"Cache-Control", "no-cache =x", true, false, false},
        {"Pragma", "no-cache", true, false, false},
        {"Pragma", "no-store, only-if-cached", false, false, false},
        {"Cache-Control", "max-age=5, max-stale, no-transform", false, false, false},
        {"Cache-Control", "", false, false, false},
        {"Cache-Control", "x-no-cache", false, false, false},
        {"Cache-Control", "no-cachex", false, false, false},
        {"Cache-Control", "no", false, false, false},
        {"Pragma", "x", false, false, false},
        {"X-Cache-Control", "no-cache, no-store, only-if-cached", false, false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        req->headers.size = 0;
        add(cases[i].name, cases[i].value);
        wire_request_read(req, &seen);
        if (seen.no_cache != cases[i].no_cache || seen.no_store != cases[i].no_store ||
            seen.only_if_cached != cases[i].only_if_cached)
            fail_msg("%s: %s", cases[i].name, cases[i].value);
    }
    req->headers.size = 0;
    add("Cache-Control", "no-cache");
    add("Cache-Control", "only-if-cached");
    wire_request_read(req, &seen);
    assert_true(seen.no_cache && seen.only_if_cached && !seen.no_store);
}

/* ---- one header's value ---------------------------------------------------------------------------------------------------------- */

static void a_single_value_is_lent_as_it_came(void **state)
{
    (void)state;
    add("Authorization", "Bearer  a b ");
    add("X-Empty", "");
    assert_span(wire_header(req, SPAN("authorization")), "Bearer  a b ");
    assert_ptr_equal(wire_header(req, SPAN("authorization")).p, req->headers.entries[0].value.base);
    assert_non_null(wire_header(req, SPAN("x-empty")).p);
    assert_int_equal(wire_header(req, SPAN("x-empty")).n, 0);
    assert_null(wire_header(req, SPAN("x-none")).p);
    assert_true(wire_has_header(req, SPAN("x-empty")));
    assert_true(wire_has_header(req, SPAN("authorization")));
    assert_false(wire_has_header(req, SPAN("x-none")));
    assert_false(wire_has_header(req, SPAN("x-empt")));
}

/* What wire_header says of these fields, from the request's pool. */
static struct span joined(const char *const *values)
{
    req->headers.size = 0;
    for (; *values != NULL; values++) {
        add("X-Key", *values);
        add("X-Other", "other");
    }
    return wire_header(req, SPAN("x-key"));
}

static void joined_values_are_like_no_other_list(void **state)
{
    static const char *const lists[][5] = {
        {NULL},
        {"", NULL},
        {"a", NULL},
        {"a, b", NULL},
        {"a,b", NULL},
        {"ab", NULL},
        {"a", "b", NULL},
        {"b", "a", NULL},
        {"ab", "", NULL},
        {"", "ab", NULL},
        {"a, b", "", NULL},
        {"", "", NULL},
        {"", "", "", NULL},
        {"a", "b", "", NULL},
        {"a", "", "b", NULL},
        {"", "a", "b", NULL},
        {"a", "bc", NULL},
        {"ab", "c", NULL},
        {"\1\2\3\4\5\6\7\10", "a", NULL},
        {"\1", "\1\1", NULL},
    };
    const size_t count = sizeof(lists) / sizeof(lists[0]);
    struct span values[sizeof(lists) / sizeof(lists[0])];

    (void)state;
    for (size_t i = 0; i < count; i++)
        values[i] = joined(lists[i]);
    assert_null(values[0].p);
    for (size_t i = 1; i < count; i++)
        for (size_t k = 1; k < count; k++)
            if (span_eq(values[i], values[k]) != (i == k))
                fail_msg("lists %zu and %zu", i, k);
    /* and the same list is the same value, wherever other headers stand */
    req->headers.size = 0;
    add("X-Other", "other");
    add("x-key", "a");
    add("X-Key", "b");
    assert_true(span_eq(wire_header(req, SPAN("x-key")), values[6]));
}

/* ---- what travels up ------------------------------------------------------------------------------------------------------------ */

static void expect_head(struct span host, bool identity_encoding, const char *wanted)
{
    size_t n = 0;
    char *text = wire_request_head(req, &(struct wire_head){.host = host, .identity_encoding = identity_encoding}, &n);

    assert_non_null(text);
    if (!span_eq((struct span){text, n}, span_of(wanted)))
        fail_msg("'%.*s' is not '%s'", (int)n, text, wanted);
    free(text);
}

static void end_to_end_headers_travel_as_they_came(void **state)
{
    (void)state;
    add("Content-Type", "application/json");
    add("MCP-Protocol-Version", "2026-07-28");
    add("x-MiXed", " \xc3\xa9 ");
    add("X-Twice", "1");
    add("X-Twice", "2");
    add("X-Empty", "");
    add("Accept-Encoding", "gzip");
    h2o_add_header_by_str(&req->pool, &req->headers, H2O_STRLIT("x-lower"), 0, NULL, H2O_STRLIT("l"));
    req->entity = h2o_iovec_init(H2O_STRLIT("{}"));
    expect_head(
        SPAN("up.example"), false,
        "POST /mcp?x=y HTTP/1.1\r\nHost: up.example\r\nContent-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\n"
        "x-MiXed:  \xc3\xa9 \r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty: \r\nAccept-Encoding: gzip\r\nx-lower: l\r\nContent-Length: "
        "2\r\n\r\n");
    expect_head(
        SPAN("up.example"), true,
        "POST /mcp?x=y HTTP/1.1\r\nHost: up.example\r\nContent-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\n"
        "x-MiXed:  \xc3\xa9 \r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty: \r\nx-lower: l\r\nAccept-Encoding: "
        "identity\r\nContent-Length: 2\r\n\r\n");
}

static void hop_by_hop_headers_end_here(void **state)
{
    (void)state;
    req->input.method = h2o_iovec_init(H2O_STRLIT("GET"));
    add("Connection", "close, X-Private ,x-gone");
    add("Keep-Alive", "timeout=5");
    add("Proxy-Connection", "keep-alive");
    add("TE", "trailers");
    add("Trailer", "x");
    add("Transfer-Encoding", "chunked");
    add("Upgrade", "h2c");
    add("Content-Length", "77");
    add("X-PRIVATE", "1");
    add("X-Gone", "1");
    add("", "nameless");
    add("X-Private-Not", "stays");
    expect_head(SPAN("h"), false, "GET /mcp?x=y HTTP/1.1\r\nHost: h\r\nX-Private-Not: stays\r\n\r\n");
    /* every Connection field counts, also one that comes last */
    add("Connection", "x-private-not");
    expect_head(SPAN("h"), false, "GET /mcp?x=y HTTP/1.1\r\nHost: h\r\n\r\n");
}

static void a_method_with_a_body_says_when_it_has_none(void **state)
{
    static const struct {
        const char *method, *entity, *wanted;
    } cases[] = {
        {"POST", NULL, "POST /mcp?x=y HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"},
        {"PUT", NULL, "PUT /mcp?x=y HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"},
        {"PATCH", NULL, "PATCH /mcp?x=y HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"},
        {"GET", NULL, "GET /mcp?x=y HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"DELETE", NULL, "DELETE /mcp?x=y HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"DELETE", "{}", "DELETE /mcp?x=y HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"},
        {"GET", "", "GET /mcp?x=y HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        req->input.method = h2o_iovec_init(cases[i].method, strlen(cases[i].method));
        req->entity = (h2o_iovec_t){NULL, 0};
        if (cases[i].entity != NULL)
            req->entity = h2o_iovec_init(cases[i].entity, strlen(cases[i].entity));
        expect_head(SPAN("h"), false, cases[i].wanted);
    }
}

static void a_request_of_our_own_has_the_callers_credentials_and_nothing_of_his_request(void **state)
{
    const char *wanted =
        "POST /mcp?x=y HTTP/1.1\r\nHost: h\r\nMcp-Method: server/discover\r\nAuthorization: Bearer t\r\nMCP-Protocol-Version: "
        "2026-07-28\r\nX-Tenant: a\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        "Accept-Encoding: identity\r\nContent-Length: 1234\r\n\r\n";
    struct wire_head head = {
        .host = SPAN("h"),
        .identity_encoding = true,
        .is_own = true,
        .own_method = SPAN("server/discover"),
        .body_bytes = 1234,
    };
    size_t n;
    char *text;

    (void)state;
    req->input.method = h2o_iovec_init(H2O_STRLIT("POST"));
    add("Authorization", "Bearer t");
    add("MCP-Protocol-Version", "2026-07-28");
    add("Mcp-Method", "tools/call");
    add("Mcp-Name", "x");
    add("Mcp-Param-Region", "north");
    add("Last-Event-ID", "7");
    add("traceparent", "00-1-2-03");
    add("Accept", "application/json");
    add("X-Tenant", "a");
    req->entity = h2o_iovec_init(H2O_STRLIT("{}"));
    text = wire_request_head(req, &head, &n);
    assert_non_null(text);
    if (!span_eq((struct span){text, n}, span_of(wanted)))
        fail_msg("'%.*s' is not '%s'", (int)n, text, wanted);
    free(text);
}

static void expect_own_head(const struct wire_head *head, const char *wanted)
{
    size_t n;
    char *text = wire_request_head(req, head, &n);

    assert_non_null(text);
    if (!span_eq((struct span){text, n}, span_of(wanted)))
        fail_msg("'%.*s' is not '%s'", (int)n, text, wanted);
    free(text);
}

static void a_request_of_our_own_can_be_made_of_any(void **state)
{
    (void)state;
    req->input.method = h2o_iovec_init(H2O_STRLIT("GET"));
    add("Accept", "text/event-stream");
    add("Mcp-Session-Id", "s-1");
    add("Authorization", "Bearer t");
    add("Last-Event-ID", "7");
    add("Range", "bytes=0-");
    add("If-None-Match", "*");
    add("If-Modified-Since", "x");
    add("Cache-Control", "no-cache");
    add("Pragma", "no-cache");
    add("Expect", "100-continue");
    add("If", "is no condition");
    add("X-Range", "is another's");
    expect_own_head(&(struct wire_head){.host = SPAN("h"), .is_own = true, .body_bytes = 2},
                    "POST /mcp?x=y HTTP/1.1\r\nHost: h\r\nMcp-Session-Id: s-1\r\nAuthorization: Bearer t\r\nIf: is no condition\r\n"
                    "X-Range: is another's\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
                    "Content-Length: 2\r\n\r\n");
    /* of a message whose body is of another kind */
    req->headers.size = 0;
    req->input.method = h2o_iovec_init(H2O_STRLIT("DELETE"));
    add("Content-Type", "text/plain");
    add("Content-Encoding", "gzip");
    expect_own_head(&(struct wire_head){.host = SPAN("h"), .is_own = true, .body_bytes = 2},
                    "POST /mcp?x=y HTTP/1.1\r\nHost: h\r\nAccept: application/json, text/event-stream\r\nContent-Type: "
                    "application/json\r\nContent-Length: 2\r\n\r\n");
}

static void a_head_of_any_size_fits(void **state)
{
    char name[64];

    (void)state;
    /* the sanitizer watches the room */
    for (int i = 0; i < 300; i++) {
        size_t n;

        snprintf(name, sizeof(name), "X-%d", i);
        add(name, i % 2 == 0 ? "" : "0123456789012345678901234567890123456789");
        free(wire_request_head(req, &(struct wire_head){.host = SPAN(""), .identity_encoding = true}, &n));
    }
    req->entity = (h2o_iovec_t){(char *)"x", SIZE_MAX};
    {
        size_t n;

        free(wire_request_head(req, &(struct wire_head){.host = SPAN("a-host.example:65535"), .identity_encoding = true}, &n));
        free(wire_request_head(req,
                               &(struct wire_head){
                                   .host = SPAN("a-host.example:65535"),
                                   .identity_encoding = true,
                                   .is_own = true,
                                   .own_method = SPAN("resources/templates/list"),
                                   .body_bytes = SIZE_MAX,
                               },
                               &n));
    }
}

/* ---- what comes down ------------------------------------------------------------------------------------------------------------ */

static h2o_headers_t reply_headers;
static struct wire_reply_facts facts;

static void read_reply(int status, char *const *keyed, size_t keyed_count)
{
    memset(&facts, 0xa5, sizeof(facts));
    wire_reply_read(status, reply_headers.entries, reply_headers.size, keyed, keyed_count, &facts);
}

static void reply(const char *name, const char *value)
{
    add_to(&reply_headers, name, span_of(value));
}

static int new_reply(void **state)
{
    reply_headers = (h2o_headers_t){NULL, 0, 0};
    return new_request(state);
}

static void a_bare_reply_says_nothing(void **state)
{
    (void)state;
    read_reply(202, NULL, 0);
    assert_int_equal(facts.reply.status, 202);
    assert_false(facts.reply.is_json);
    assert_false(facts.reply.is_events);
    assert_false(facts.reply.is_encoded);
    assert_false(facts.reply.sets_cookie);
    assert_false(facts.reply.no_store);
    assert_false(facts.reply.is_private);
    assert_false(facts.reply.vary_unkeyed);
    assert_false(facts.reply.server_asked);
    assert_false(facts.reply.id_matches);
    assert_null(facts.session.p);
}

static void media_types_are_read_as_utf8_only(void **state)
{
    static const struct {
        const char *type;
        bool is_json, is_events;
    } cases[] = {
        {"application/json", true, false},
        {"Application/JSON; charset=utf-8", true, false},
        {" application/json\t;", true, false},
        {"application/json;x", false, false},
        {"application/json; charset=utf-16", false, false},
        {"text/event-stream; charset=utf-16", false, false},
        {"text/event-stream", false, true},
        {"TEXT/event-stream;charset=utf-8", false, true},
        {"application/json-rpc", false, false},
        {"application/json, text/event-stream", false, false},
        {"text/plain; x=application/json", false, false},
        {"", false, false},
        {";application/json", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        reply_headers.size = 0;
        reply("Content-Type", cases[i].type);
        read_reply(200, NULL, 0);
        if (facts.reply.is_json != cases[i].is_json || facts.reply.is_events != cases[i].is_events)
            fail_msg("'%s': is_json %d, is_events %d", cases[i].type, facts.reply.is_json, facts.reply.is_events);
    }
    /* two types are none that we know: who knows which one the client believes */
    for (int i = 0; i < 2; i++) {
        reply_headers.size = 0;
        reply("Content-Type", i == 0 ? "text/event-stream" : "application/json");
        reply("Content-Type", i == 0 ? "application/json" : "text/event-stream");
        read_reply(200, NULL, 0);
        assert_false(facts.reply.is_json);
        assert_false(facts.reply.is_events);
    }
}

static void each_field_of_a_reply_tells_one_thing(void **state)
{
    enum fact { ENCODED = 1, COOKIE = 2, NO_STORE = 4, PRIVATE = 8, VARY = 16 };
    static const struct {
        const char *name, *value;
        int facts;
    } cases[] = {
        {"Content-Encoding", "gzip", ENCODED},
        {"Content-Encoding", "identity, gzip", ENCODED},
        {"Content-Encoding", " Identity ", 0},
        {"Set-Cookie", "a=b", COOKIE},
        {"Set-Cookie2", "a=b", 0},
        {"Cache-Control", "no-store", NO_STORE},
        {"Cache-Control", "max-age=5, NO-STORE", NO_STORE},
        {"Cache-Control", "private", PRIVATE},
        {"Cache-Control", "Private=\"x-y\"", PRIVATE},
        {"Cache-Control", "private, no-store", PRIVATE | NO_STORE},
        /* what the official SDKs put on every event stream */
        {"Cache-Control", "no-cache, no-transform", 0},
        {"Cache-Control", "x-private, no-stored", 0},
        {"X-Cache-Control", "no-store", 0},
        {"Vary", "*", VARY},
        {"Vary", "Accept-Language", VARY},
        {"Vary", "Origin, Accept-Language", VARY},
        {"Vary", "Accept, Accept-Encoding,origin", 0},
        {"Vary", "Mcp-Protocol-Version, MCP-Name, mcp-method", 0},
        {"Vary", "X-Tenant", 0},
        {"Vary", "x-tenant, X-Other", VARY},
        {"Vary", "", 0},
        {"X-Vary", "*", 0},
    };
    char tenant[] = "x-tenant";
    char *const keyed[] = {tenant};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int said;

        reply_headers.size = 0;
        reply("X-Before", "x");
        reply(cases[i].name, cases[i].value);
        reply("X-After", "x");
        read_reply(200, keyed, 1);
        said = (facts.reply.is_encoded ? ENCODED : 0) | (facts.reply.sets_cookie ? COOKIE : 0) |
               (facts.reply.no_store ? NO_STORE : 0) | (facts.reply.is_private ? PRIVATE : 0) |
               (facts.reply.vary_unkeyed ? VARY : 0);
        if (said != cases[i].facts)
            fail_msg("%s: %s says %d", cases[i].name, cases[i].value, said);
    }
}

static void a_later_field_takes_nothing_back(void **state)
{
    (void)state;
    reply("Content-Encoding", "gzip");
    reply("Content-Encoding", "identity");
    reply("Cache-Control", "no-store, private");
    reply("Cache-Control", "max-age=60");
    reply("Vary", "*");
    reply("Vary", "Accept");
    reply("Mcp-Session-Id", "s-1");
    read_reply(200, NULL, 0);
    assert_true(facts.reply.is_encoded);
    assert_true(facts.reply.no_store);
    assert_true(facts.reply.is_private);
    assert_true(facts.reply.vary_unkeyed);
    assert_span(facts.session, "s-1");
}

static void a_replys_end_to_end_headers_are_copied(void **state)
{
    static const char *const wanted[][2] = {
        {"content-type", "application/json"}, {"x-twice", "1"}, {"x-twice", "2"}, {"x-empty", ""}};

    (void)state;
    reply("Content-Type", "application/json");
    reply("Date", "Thu, 01 Jan 1970 00:00:00 GMT");
    reply("Connection", "keep-alive, X-Hop");
    reply("Keep-Alive", "timeout=5");
    reply("Transfer-Encoding", "chunked");
    reply("Content-Length", "5");
    reply("X-Hop", "x");
    reply("", "nameless");
    reply("X-Twice", "1");
    reply("X-Twice", "2");
    reply("X-Empty", "");
    wire_reply_copy(req, reply_headers.entries, reply_headers.size);
    /* copied, not lent */
    for (size_t i = 0; i < reply_headers.size; i++) {
        memset(reply_headers.entries[i].value.base, '?', reply_headers.entries[i].value.len);
        if (!h2o_iovec_is_token(reply_headers.entries[i].name))
            memset(reply_headers.entries[i].name->base, '?', reply_headers.entries[i].name->len);
    }
    assert_int_equal(req->res.headers.size, sizeof(wanted) / sizeof(wanted[0]));
    for (size_t i = 0; i < req->res.headers.size; i++) {
        const h2o_header_t *h = &req->res.headers.entries[i];

        assert_span(((struct span){h->name->base, h->name->len}), wanted[i][0]);
        assert_span(((struct span){h->value.base, h->value.len}), wanted[i][1]);
    }
}

#define WITH_REQUEST(test_) cmocka_unit_test_setup_teardown(test_, new_request, free_request)
#define WITH_REPLY(test_)   cmocka_unit_test_setup_teardown(test_, new_reply, free_request)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REQUEST(a_bare_request_says_nothing),
        WITH_REQUEST(named_headers_are_found_in_any_case),
        WITH_REQUEST(only_plain_json_is_plain),
        WITH_REQUEST(headers_that_connection_takes_away_are_noticed),
        WITH_REQUEST(two_origins_are_told),
        WITH_REQUEST(empty_is_not_absent),
        WITH_REQUEST(a_header_that_came_twice_is_noticed),
        WITH_REQUEST(parameters_beyond_the_room_are_noticed),
        WITH_REQUEST(accept_decides_whether_json_may_be_answered),
        WITH_REQUEST(the_clients_directives_are_told_apart),
        WITH_REQUEST(a_single_value_is_lent_as_it_came),
        WITH_REQUEST(joined_values_are_like_no_other_list),
        WITH_REQUEST(end_to_end_headers_travel_as_they_came),
        WITH_REQUEST(hop_by_hop_headers_end_here),
        WITH_REQUEST(a_method_with_a_body_says_when_it_has_none),
        WITH_REQUEST(a_request_of_our_own_has_the_callers_credentials_and_nothing_of_his_request),
        WITH_REQUEST(a_request_of_our_own_can_be_made_of_any),
        WITH_REQUEST(a_head_of_any_size_fits),
        WITH_REPLY(a_bare_reply_says_nothing),
        WITH_REPLY(media_types_are_read_as_utf8_only),
        WITH_REPLY(each_field_of_a_reply_tells_one_thing),
        WITH_REPLY(a_later_field_takes_nothing_back),
        WITH_REPLY(a_replys_end_to_end_headers_are_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
