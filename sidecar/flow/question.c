/* SPDX-License-Identifier: Apache-2.0 */
/* Questions of our own. Not here: when they are asked (watch.c). Always: what is sent is what the client's next request of this kind would be, but for its id and for what
 * belongs to one request alone. Thread: the flow's loop. */
#include "sidecar/flow/question.h"

#include "cachepolicy/telling.h"

#include <stdlib.h>

/* Headers of the open request that say something of it alone, of its body, or of how fresh its answer shall be. */
static bool is_left_out(struct span name)
{
    static const struct span names[] = {
        SPAN_OF("accept"),         SPAN_OF("baggage"),       SPAN_OF("cache-control"), SPAN_OF("content-encoding"),
        SPAN_OF("content-length"), SPAN_OF("content-type"),  SPAN_OF("expect"),        SPAN_OF("if-match"),
        SPAN_OF("if-none-match"),  SPAN_OF("last-event-id"), SPAN_OF("mcp-method"),    SPAN_OF("mcp-name"),
        SPAN_OF("pragma"),         SPAN_OF("range"),         SPAN_OF("traceparent"),   SPAN_OF("tracestate"),
    };

    if (name.n > 10 && memcmp(name.p, "mcp-param-", 10) == 0)
        return true;
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i)
        if (span_eq(name, names[i]))
            return true;
    return false;
}

static void add_header(h2o_req_t *req, const char *name, size_t name_bytes, const char *as_written, h2o_iovec_t value)
{
    h2o_add_header_by_str(&req->pool, &req->headers, name, name_bytes, 1, as_written, value.base, value.len);
}

/* Borrows the open request's headers: both live on the same connection, and the question does not outlive the callback it is made in. */
static void take_headers(h2o_req_t *req, const h2o_req_t *from, const struct cp_message *message, enum cp_method method,
                         struct span uri, struct buf *scratch)
{
    const char *method_text = cp_method_text(method);

    req->headers = (h2o_headers_t){NULL, 0, 0};
    h2o_vector_reserve(&req->pool, &req->headers, from->headers.size + 4);
    for (size_t i = 0; i != from->headers.size; ++i) {
        const h2o_header_t *h = &from->headers.entries[i];

        if (!is_left_out((struct span){h->name->base, h->name->len}))
            req->headers.entries[req->headers.size++] = *h;
    }
    add_header(req, H2O_STRLIT("content-type"), "Content-Type", h2o_iovec_init(H2O_STRLIT("application/json")));
    add_header(req, H2O_STRLIT("accept"), "Accept", h2o_iovec_init(H2O_STRLIT("application/json, text/event-stream")));
    if (message == NULL)
        return;
    add_header(req, H2O_STRLIT("mcp-method"), "Mcp-Method", h2o_iovec_init(method_text, strlen(method_text)));
    if (uri.p == NULL)
        return;
    scratch->n = 0;
    if (cp_mirror_encode(uri, scratch) != 0)
        h2o_fatal("no memory");
    add_header(req, H2O_STRLIT("mcp-name"), "Mcp-Name", h2o_strdup(&req->pool, scratch->p, scratch->n));
}

void question_names(const struct keys *keys, struct watch_name *ret_own, bool *ret_has_own, struct watch_name *ret_shared)
{
    if ((*ret_has_own = keys->has_private))
        memcpy(ret_own->bytes, keys->private_key.digest, sizeof(ret_own->bytes));
    if (keys->has_public)
        memcpy(ret_shared->bytes, keys->public_key.digest, sizeof(ret_shared->bytes));
}

/* Of a decision that is none for the cache, still whether its answers may be compared. */
static bool is_comparable(const struct cp_decision *decision)
{
    return decision->reason == CP_REASON_NONE || decision->reason == CP_REASON_NO_TTL || decision->reason == CP_REASON_ANONYMOUS;
}

bool question_make(struct flow *flow, h2o_req_t *from, const struct cp_message *message, enum cp_method method, struct span uri,
                   const uint8_t salt[16], int64_t now_ms, struct question *ret)
{
    static const struct cp_message legacy = {.kind = CP_KIND_REQUEST, .era = CP_ERA_LEGACY};
    h2o_req_t *req = h2o_mem_alloc(sizeof(*req));
    bool has_own;

    /* what is not a header, body or memory of its own is the open request's: address, path, connection */
    *req = *from;
    h2o_mem_init_pool(&req->pool);
    *ret = (struct question){.req = req};
    take_headers(req, from, message, method, uri, &flow->content);
    req->input.method = req->method = h2o_iovec_init(H2O_STRLIT("POST"));
    if (cp_tell_question(method, uri, SPAN("0"), message != NULL ? message : &legacy, &ret->body) != 0)
        h2o_fatal("no memory");
    req->entity = h2o_iovec_init(ret->body.p, ret->body.n);
    wire_request_read(req, &ret->wire);
    cp_message_parse(&ret->message, &flow->own_doc, buf_span(&ret->body));
    caller_read(&flow->trust, req, &ret->wire, &ret->message, now_ms, &ret->caller);
    definition_of(&flow->trust, &ret->caller.id, SPAN_ABSENT, &ret->definition);
    cp_decide(flow->shared->trust.policy, &ret->message, &ret->caller.facts, &ret->decision);
    if (!is_comparable(&ret->decision) || !ret->caller.agrees ||
        keys_make(flow, req, &ret->wire, &ret->message, &ret->caller, &ret->definition, &ret->decision, &ret->keys) !=
            CP_REASON_NONE) {
        question_done(ret);
        return false;
    }
    question_names(&ret->keys, &ret->own, &has_own, &ret->shared);
    ret->has_shared = ret->keys.has_public;
    if (!has_own) {
        /* of those who look alike to the cache each is watched for himself */
        memcpy(ret->own.bytes, ret->keys.public_key.digest, sizeof(ret->own.bytes));
        for (size_t i = 0; i != sizeof(ret->own.bytes); ++i)
            ret->own.bytes[i] ^= salt[i];
    }
    return true;
}

void question_done(struct question *question)
{
    if (question->req == NULL)
        return;
    h2o_mem_clear_pool(&question->req->pool);
    free(question->req);
    question->req = NULL;
    buf_done(&question->body);
}
