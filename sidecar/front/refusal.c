/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals and their three ways out. Not here: who is refused (connection.c). Thread: the connection's loop. */
#include "sidecar/front/refusal.h"

#include "sidecar/base/log.h"
#include "sidecar/counts.h"
#include "sidecar/front/connection.h"
#include "sidecar/wire/reply.h"

#include <sys/socket.h>

#define INVALID_REQUEST (-32600)

static const struct reply_error errors[] = {
    [REFUSAL_FRAMING] = {.status = 400,
                         .reason = CP_REASON_FRAMING,
                         .text = "this HTTP request can be read in more than one way; it needs one Host, one length, plain lines"},
    [REFUSAL_HEADER_SIZE] = {.status = 431, .reason = CP_REASON_HEADER_SIZE, .text = "the headers of this request are too large"},
    [REFUSAL_BODY_SIZE] = {.status = 413, .reason = CP_REASON_BODY_SIZE, .text = "the body of this request is too large"},
    [REFUSAL_EXPECTATION] = {.status = 417,
                             .reason = CP_REASON_NONE,
                             .text = "the only expectation that can be met is 100-continue"},
    [REFUSAL_SLOW_HEADER] = {.status = 408,
                             .reason = CP_REASON_SLOW,
                             .text = "the headers of this request took too long to arrive"},
    [REFUSAL_SLOW_BODY] = {.status = 408, .reason = CP_REASON_SLOW, .text = "the body of this request took too long to arrive"},
};

static struct reply_error error_of(enum refusal refusal)
{
    struct reply_error error = errors[refusal];

    error.code = INVALID_REQUEST;
    error.is_rpc = true;
    return error;
}

static void log_refusal(const struct reply_error *error, const char *why)
{
    struct span outcome = span_of(cp_outcome_word(CP_OUTCOME_ERROR)), reason = span_of(cp_reason_word(error->reason)),
                words = span_of(why);

    counts_request(CP_OUTCOME_ERROR, error->reason);
    LOG(LOG_INFO, "refused", LOG_TEXT_FIELD("outcome", outcome.p, outcome.n),
        LOG_TEXT_FIELD(error->reason != CP_REASON_NONE ? "reason" : NULL, reason.p, reason.n),
        LOG_INT_FIELD("status", error->status), LOG_TEXT_FIELD("why", words.p, words.n));
}

/* An answer behind which the connection lingers: libh2o closes behind the final piece, and what it has not read then turns into a reset that may destroy
 * the answer on its way. So the body is sent as if more came. */
struct last_answer {
    h2o_generator_t generator; /* of a refusal of ours */
    h2o_ostream_t stream;      /* between an error of libh2o and the connection */
    h2o_req_t *req;
    struct span body;
    bool is_sent;
};

static void on_own_lingered(void *arg)
{
    struct last_answer *a = arg;

    h2o_send(a->req, NULL, 0, H2O_SEND_STATE_FINAL);
}

static void on_own_sent(h2o_generator_t *generator, h2o_req_t *req)
{
    connection_linger(req, on_own_lingered, generator);
}

void refusal_send(h2o_req_t *req, enum refusal refusal, const char *why)
{
    struct reply_error error = error_of(refusal);
    struct last_answer *a = h2o_mem_alloc_pool(&req->pool, sizeof(*a));
    bool is_head = h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
    struct cp_json_doc doc = {.count = 0};
    struct cp_message message;
    h2o_iovec_t body;

    /* whoever asked something that can be read hears of it under his own id: clients drop errors that answer none */
    if (refusal == REFUSAL_HEADER_SIZE && req->entity.len != 0) {
        cp_message_parse(&message, &doc, (struct span){req->entity.base, req->entity.len});
        if (message.kind == CP_KIND_REQUEST)
            error.id = message.id;
    }
    log_refusal(&error, why);
    *a = (struct last_answer){.generator = {on_own_sent, NULL}, .req = req, .body = reply_error_prepare(req, &error)};
    cp_json_done(&doc);
    body = h2o_iovec_init(a->body.p, a->body.n);
    req->http1_is_persistent = 0;
    h2o_start_response(req, &a->generator);
    /* without a body the head goes out with the final piece only */
    h2o_send(req, &body, is_head ? 0 : 1, is_head ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

void refusal_write(h2o_context_t *ctx, h2o_socket_t *sock, enum refusal refusal, const char *why)
{
    struct reply_error error = error_of(refusal);
    h2o_mem_pool_t pool;
    h2o_timestamp_t now;
    struct span bytes;

    log_refusal(&error, why);
    if (sock->ssl != NULL)
        return;
    h2o_mem_init_pool(&pool);
    h2o_get_timestamp(ctx, &pool, &now);
    bytes = reply_error_format(&pool, &error, now.str->rfc1123);
    send(h2o_socket_get_fd(sock), bytes.p, bytes.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    h2o_mem_clear_pool(&pool);
}

static void on_adopted_lingered(void *arg)
{
    struct last_answer *a = arg;

    h2o_ostream_send_next(&a->stream, a->req, NULL, 0, H2O_SEND_STATE_FINAL);
}

/* Called with what libh2o wants to say, and again when that has been sent. */
static void send_adopted(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count, h2o_send_state_t state)
{
    struct last_answer *a = H2O_STRUCT_FROM_MEMBER(struct last_answer, stream, self);
    h2o_iovec_t body = h2o_iovec_init(a->body.p, a->body.n);

    (void)bufs;
    if (a->is_sent) {
        connection_linger(req, on_adopted_lingered, a);
    } else if (count != 0) {
        a->is_sent = true;
        h2o_ostream_send_next(self, req, &body, 1, H2O_SEND_STATE_IN_PROGRESS);
    } else {
        h2o_ostream_send_next(self, req, NULL, 0, state);
    }
}

static void on_setup_ostream(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct reply_error error = error_of(req->res.status == 413   ? REFUSAL_BODY_SIZE
                                        : req->res.status == 417 ? REFUSAL_EXPECTATION
                                                                 : REFUSAL_FRAMING);
    struct last_answer *a = h2o_mem_alloc_pool(&req->pool, sizeof(*a));

    (void)self;
    log_refusal(&error, "libh2o");
    req->res.headers = (h2o_headers_t){.size = 0};
    *a = (struct last_answer){
        .stream = {.next = *slot, .do_send = send_adopted}, .req = req, .body = reply_error_prepare(req, &error)};
    *slot = &a->stream;
    h2o_setup_next_ostream(req, &a->stream.next);
}

void refusal_adopt_errors(h2o_pathconf_t *path)
{
    h2o_create_filter(path, sizeof(h2o_filter_t))->on_setup_ostream = on_setup_ostream;
}
