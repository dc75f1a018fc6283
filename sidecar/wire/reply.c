/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of our own. Not here: relaying the upstream's (flow/exchange.c). Thread: the request's loop. */
#include "sidecar/wire/reply.h"

#include <inttypes.h>
#include <stdio.h>

static void add_header(h2o_req_t *req, const char *name, size_t name_bytes, h2o_iovec_t value)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, name_bytes, 0, NULL, value.base, value.len);
}

static void add_cache_status(h2o_req_t *req, h2o_iovec_t value)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("cache-status"), 0, "Cache-Status", value.base, value.len);
}

static h2o_iovec_t format(h2o_mem_pool_t *pool, const char *text, int64_t number)
{
    char *p = h2o_mem_alloc_pool(pool, strlen(text) + 24);

    return h2o_iovec_init(p, (size_t)sprintf(p, text, number));
}

/* Rounds towards the more honest side: an answer is never said to be younger, nor to live longer, than it is. */
static int64_t seconds_down(int64_t ms)
{
    return ms >= 0 ? ms / 1000 : -((-ms + 999) / 1000);
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
    add_header(req, H2O_STRLIT("age"), format(pool, "%" PRId64, hit->age.age_ms / 1000));
    add_cache_status(req, hit->age.freshness == CP_FRESH
                              ? format(pool, "mcpcached; hit; ttl=%" PRId64, seconds_down(hit->age.remaining_ms))
                              : format(pool, "mcpcached; hit; ttl=%" PRId64 "; detail=stale", seconds_down(hit->age.remaining_ms)));
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
#ifdef MUTANT_WRONG_ID
    bufs[count++] = h2o_iovec_init(H2O_STRLIT("1"));
#else
    bufs[count++] = h2o_iovec_init(hit->id.p, hit->id.n);
#endif
    bufs[count++] = h2o_iovec_init(H2O_STRLIT(",\"result\":"));
    if (hit->ttl_start != hit->ttl_end) {
        ttl = format(pool, "%" PRId64, hit->age.hint_remaining_ms);
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
    if (stored) {
        add_cache_status(req, h2o_iovec_init(H2O_STRLIT("mcpcached; fwd=miss; stored")));
    } else if (reason != CP_REASON_NONE) {
        char *p = h2o_mem_alloc_pool(&req->pool, 64);

        add_cache_status(req, h2o_iovec_init(p, (size_t)snprintf(p, 64, "mcpcached; fwd=miss; detail=%s", cp_reason_word(reason))));
    } else {
        add_cache_status(req, h2o_iovec_init(H2O_STRLIT("mcpcached; fwd=miss")));
    }
}

void reply_note_bypass(h2o_req_t *req, enum cp_reason reason)
{
    char *p = h2o_mem_alloc_pool(&req->pool, 64);

    add_cache_status(req, h2o_iovec_init(p, (size_t)snprintf(p, 64, "mcpcached; fwd=bypass; detail=%s", cp_reason_word(reason))));
}

struct span reply_error_body(h2o_mem_pool_t *pool, struct span id, int code, const char *text)
{
    size_t cap = id.n + strlen(text) + 96;
    char *p = h2o_mem_alloc_pool(pool, cap);
    int n = snprintf(p, cap, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":%d,\"message\":\"%s\"}}",
                     id.p != NULL ? (int)id.n : 4, id.p != NULL ? id.p : "null", code, text);

    return (struct span){p, (size_t)n};
}

void reply_error_send(h2o_req_t *req, int status, bool is_rpc, struct span id, const char *text)
{
    static h2o_generator_t generator = {NULL, NULL};
    struct span body = is_rpc ? reply_error_body(&req->pool, id, -32603, text) : span_of(text);
    h2o_iovec_t buf = h2o_iovec_init(body.p, body.n);
    bool is_head = h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));

    req->res.status = status;
    req->res.reason = status == 502   ? "Bad Gateway"
                      : status == 504 ? "Gateway Timeout"
                      : status == 501 ? "Not Implemented"
                                      : "Error";
    req->res.content_length = body.n;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, is_rpc ? "application/json" : "text/plain",
                   is_rpc ? sizeof("application/json") - 1 : sizeof("text/plain") - 1);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    h2o_start_response(req, &generator);
    h2o_send(req, &buf, is_head ? 0 : 1, H2O_SEND_STATE_FINAL);
}
