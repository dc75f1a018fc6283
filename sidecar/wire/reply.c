/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of our own. Not here: relaying the upstream's (flow/exchange.c). Thread: the request's loop. */
#include "sidecar/wire/reply.h"

#include <stdio.h>

static void add_header(h2o_req_t *req, const char *name, size_t name_bytes, h2o_iovec_t value)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, name_bytes, 0, NULL, value.base, value.len);
}

static void add_cache_status(h2o_req_t *req, h2o_iovec_t value)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("cache-status"), 0, "Cache-Status", value.base, value.len);
}

/* A number between two texts: printf's way to it would be a fiftieth of a hit. */
static h2o_iovec_t number_text(h2o_mem_pool_t *pool, struct span before, int64_t number, struct span after)
{
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    char digits[20], *text = h2o_mem_alloc_pool(pool, before.n + 1 + sizeof(digits) + after.n), *p = text + before.n;
    size_t n = 0;

    do {
        digits[n++] = (char)('0' + rest % 10);
    } while ((rest /= 10) != 0);
    memcpy(text, before.p, before.n);
    if (number < 0)
        *p++ = '-';
    while (n != 0)
        *p++ = digits[--n];
    memcpy(p, after.p, after.n);
    return h2o_iovec_init(text, (size_t)(p - text) + after.n);
}

/* Rounds towards the more honest side: an answer is never said to be younger, nor to live longer, than it is. */
static int64_t seconds_down(int64_t ms)
{
    return ms >= 0 ? ms / 1000 : -((-ms + 999) / 1000);
}

static h2o_iovec_t status_of(h2o_mem_pool_t *pool, const struct reply_hit *hit)
{
    switch (hit->how) {
    case REPLY_FOUND:
        return number_text(pool, SPAN("mcpcached; hit; ttl="), seconds_down(hit->age.remaining_ms),
                           hit->age.freshness == CP_FRESH ? SPAN("") : SPAN("; detail=stale"));
    case REPLY_STANDS_IN:
        return number_text(pool, SPAN("mcpcached; fwd=stale; fwd-status="), hit->failed_status, SPAN("; detail=stale-if-error"));
    case REPLY_COLLAPSED:
        return h2o_iovec_init(H2O_STRLIT("mcpcached; fwd=miss; collapsed"));
    }
    return h2o_iovec_init(H2O_STRLIT("mcpcached"));
}

void reply_hit_send(h2o_req_t *req, const struct reply_hit *hit)
{
    static h2o_generator_t generator = {NULL, NULL};
    h2o_mem_pool_t *pool = &req->pool;
    h2o_iovec_t bufs[7], ttl;
    size_t count = 0, total = 0;

    req->res.status = 200;
    req->res.reason = "OK";
    h2o_add_header(pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT("application/json"));
    h2o_add_header(pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    add_header(req, H2O_STRLIT("age"), number_text(pool, SPAN(""), hit->age.age_ms / 1000, SPAN("")));
    add_cache_status(req, status_of(pool, hit));
    if (hit->session.p != NULL)
        h2o_add_header_by_str(pool, &req->res.headers, H2O_STRLIT("mcp-session-id"), 0, "Mcp-Session-Id", hit->session.p,
                              hit->session.n);

    if (hit->origin.p != NULL) {
        /* made for this caller: what the upstream said to another origin is never replayed */
        h2o_add_header_by_str(pool, &req->res.headers, H2O_STRLIT("access-control-allow-origin"), 0, "Access-Control-Allow-Origin",
                              hit->origin.p, hit->origin.n);
        h2o_add_header_by_str(pool, &req->res.headers, H2O_STRLIT("access-control-expose-headers"), 0,
                              "Access-Control-Expose-Headers", H2O_STRLIT("Mcp-Session-Id"));
        h2o_add_header_by_str(pool, &req->res.headers, H2O_STRLIT("vary"), 0, "Vary", H2O_STRLIT("Origin"));
    }
    bufs[count++] = h2o_iovec_init(H2O_STRLIT("{\"jsonrpc\":\"2.0\",\"id\":"));
    bufs[count++] = MUTANT("wrong-id") ? h2o_iovec_init(H2O_STRLIT("1")) : h2o_iovec_init(hit->id.p, hit->id.n);
    bufs[count++] = h2o_iovec_init(H2O_STRLIT(",\"result\":"));
    if (hit->ttl_start != hit->ttl_end) {
        ttl = number_text(pool, SPAN(""), hit->age.hint_remaining_ms, SPAN(""));
        bufs[count++] = h2o_iovec_init(hit->result.p, hit->ttl_start);
        bufs[count++] = ttl;
        bufs[count++] = h2o_iovec_init(hit->result.p + hit->ttl_end, hit->result.n - hit->ttl_end);
    } else {
        bufs[count++] = h2o_iovec_init(hit->result.p, hit->result.n);
    }
    bufs[count++] = h2o_iovec_init(H2O_STRLIT("}"));
    for (size_t i = 0; i != count; ++i)
        total += bufs[i].len;
    req->res.content_length = total;
    h2o_start_response(req, &generator);
    h2o_send(req, bufs, count, H2O_SEND_STATE_FINAL);
}

void reply_note_miss(h2o_req_t *req, bool stored, enum cp_reason reason)
{
    /* just fetched, unless the upstream is a cache itself and says otherwise */
    if (h2o_find_header_by_str(&req->res.headers, H2O_STRLIT("age"), -1) == -1)
        add_header(req, H2O_STRLIT("age"), h2o_iovec_init(H2O_STRLIT("0")));
    if (reason != CP_REASON_NONE) {
        char *p = h2o_mem_alloc_pool(&req->pool, 64);

        add_cache_status(req, h2o_iovec_init(p, (size_t)snprintf(p, 64, "mcpcached; fwd=miss%s; detail=%s",
                                                                 stored ? "; stored" : "", cp_reason_word(reason))));
    } else if (stored) {
        add_cache_status(req, h2o_iovec_init(H2O_STRLIT("mcpcached; fwd=miss; stored")));
    } else {
        add_cache_status(req, h2o_iovec_init(H2O_STRLIT("mcpcached; fwd=miss")));
    }
}

void reply_note_bypass(h2o_req_t *req, bool stored, enum cp_reason reason)
{
    char *p = h2o_mem_alloc_pool(&req->pool, 64);

    add_cache_status(req, h2o_iovec_init(p, (size_t)snprintf(p, 64, "mcpcached; fwd=bypass%s; detail=%s", stored ? "; stored" : "",
                                                             cp_reason_word(reason))));
}

void reply_result_send(h2o_req_t *req, struct span id, struct span result, struct span session, enum cp_reason reason)
{
    static h2o_generator_t generator = {NULL, NULL};
    h2o_mem_pool_t *pool = &req->pool;
    h2o_iovec_t bufs[5];
    char *status = h2o_mem_alloc_pool(pool, 64);
    size_t count = 0, total = 0;

    req->res.status = 200;
    req->res.reason = "OK";
    h2o_add_header(pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT("application/json"));
    h2o_add_header(pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    add_cache_status(req, h2o_iovec_init(status, (size_t)snprintf(status, 64, "mcpcached; detail=%s", cp_reason_word(reason))));
    if (session.p != NULL)
        h2o_add_header_by_str(pool, &req->res.headers, H2O_STRLIT("mcp-session-id"), 0, "Mcp-Session-Id", session.p, session.n);
    bufs[count++] = h2o_iovec_init(H2O_STRLIT("{\"jsonrpc\":\"2.0\",\"id\":"));
    bufs[count++] = h2o_iovec_init(id.p, id.n);
    bufs[count++] = h2o_iovec_init(H2O_STRLIT(",\"result\":"));
    bufs[count++] = h2o_iovec_init(result.p, result.n);
    bufs[count++] = h2o_iovec_init(H2O_STRLIT("}"));
    for (size_t i = 0; i != count; ++i)
        total += bufs[i].len;
    req->res.content_length = total;
    h2o_start_response(req, &generator);
    h2o_send(req, bufs, count, H2O_SEND_STATE_FINAL);
}

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {400, "Bad Request"},
        {403, "Forbidden"},
        {408, "Request Timeout"},
        {404, "Not Found"},
        {413, "Content Too Large"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };

    for (size_t i = 0; i != sizeof(texts) / sizeof(texts[0]); ++i)
        if (texts[i].status == status)
            return texts[i].text;
    return "Error";
}

void reply_shared_error_send(h2o_req_t *req, int status, struct span id, struct span error)
{
    static h2o_generator_t generator = {NULL, NULL};
    h2o_mem_pool_t *pool = &req->pool;
    h2o_iovec_t bufs[5] = {
        h2o_iovec_init(H2O_STRLIT("{\"jsonrpc\":\"2.0\",\"id\":")),
        h2o_iovec_init(id.p, id.n),
        h2o_iovec_init(H2O_STRLIT(",\"error\":")),
        h2o_iovec_init(error.p, error.n),
        h2o_iovec_init(H2O_STRLIT("}")),
    };
    size_t total = 0;

    for (size_t i = 0; i != 5; ++i)
        total += bufs[i].len;
    req->res.status = status;
    req->res.reason = status == 200 ? "OK" : status_text(status);
    h2o_add_header(pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT("application/json"));
    h2o_add_header(pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    add_cache_status(req, h2o_iovec_init(H2O_STRLIT("mcpcached; fwd=miss; collapsed")));
    req->res.content_length = total;
    h2o_start_response(req, &generator);
    h2o_send(req, bufs, 5, H2O_SEND_STATE_FINAL);
}

static void send_empty(h2o_req_t *req, int status, const char *reason)
{
    static h2o_generator_t generator = {NULL, NULL};

    req->res.status = status;
    req->res.reason = reason;
    req->res.content_length = 0;
    h2o_start_response(req, &generator);
    h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
}

void reply_accepted_send(h2o_req_t *req)
{
    send_empty(req, 202, "Accepted");
}

void reply_nothing_send(h2o_req_t *req)
{
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT("text/event-stream"));
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    send_empty(req, 200, "OK");
}

static struct span error_body(h2o_mem_pool_t *pool, const struct reply_error *error)
{
    size_t cap = error->id.n + strlen(error->text) + 96;
    char *p = h2o_mem_alloc_pool(pool, cap);
    int n = snprintf(p, cap, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":%d,\"message\":\"%s\"}}",
                     error->id.p != NULL ? (int)error->id.n : 4, error->id.p != NULL ? error->id.p : "null",
                     error->code != 0 ? error->code : -32603, error->text);

    return (struct span){p, (size_t)n};
}

struct span reply_error_prepare(h2o_req_t *req, const struct reply_error *error)
{
    struct span body = error->is_rpc ? error_body(&req->pool, error) : span_of(error->text);

    req->res.status = error->status;
    req->res.reason = status_text(error->status);
    req->res.content_length = body.n;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, error->is_rpc ? "application/json" : "text/plain",
                   error->is_rpc ? sizeof("application/json") - 1 : sizeof("text/plain") - 1);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    if (error->retry_after_s != 0)
        add_header(req, H2O_STRLIT("retry-after"), number_text(&req->pool, SPAN(""), error->retry_after_s, SPAN("")));
    if (error->reason != CP_REASON_NONE) {
        char *p = h2o_mem_alloc_pool(&req->pool, 64);

        add_cache_status(req,
                         h2o_iovec_init(p, (size_t)snprintf(p, 64, "mcpcached%s; detail=%s", error->was_asked ? "; fwd=miss" : "",
                                                            cp_reason_word(error->reason))));
    }
    return body;
}

void reply_error_send(h2o_req_t *req, const struct reply_error *error)
{
    static h2o_generator_t generator = {NULL, NULL};
    struct span body = reply_error_prepare(req, error);
    h2o_iovec_t buf = h2o_iovec_init(body.p, body.n);
    bool is_head = h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));

    h2o_start_response(req, &generator);
    h2o_send(req, &buf, is_head ? 0 : 1, H2O_SEND_STATE_FINAL);
}

struct span reply_error_format(h2o_mem_pool_t *pool, const struct reply_error *error, const char *date)
{
    struct span body = error_body(pool, error);
    size_t cap = body.n + 512;
    char *p = h2o_mem_alloc_pool(pool, cap);
    int n = snprintf(p, cap,
                     "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\nContent-Length: %zu\r\nContent-Type: application/json\r\n"
                     "Cache-Control: no-store\r\nCache-Status: mcpcached; detail=%s\r\n\r\n%.*s",
                     error->status, status_text(error->status), date, body.n, cp_reason_word(error->reason), (int)body.n, body.p);

    return (struct span){p, (size_t)n};
}
