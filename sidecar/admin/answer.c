/* SPDX-License-Identifier: Apache-2.0 */
/* Answers. Not here: what they say. */
#include "sidecar/admin/answer.h"

#include "sidecar/admin/json_text.h"

void answer_send(h2o_req_t *req, int status, const char *type, struct span body)
{
    req->res.status = status;
    req->res.reason = status == 200 ? "OK" : "Refused";
    req->res.content_length = body.n;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, type, strlen(type));
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    h2o_send_inline(req, body.p, body.n);
}

void answer_error(h2o_req_t *req, int status, const char *sentence)
{
    struct buf body = {0};

    if (buf_add_span(&body, SPAN("{\"error\":")) != 0 || json_text_add(&body, span_of(sentence)) != 0 ||
        buf_add_span(&body, SPAN("}\n")) != 0)
        h2o_fatal("no memory");
    answer_send(req, status, "application/json", buf_span(&body));
    buf_done(&body);
}
