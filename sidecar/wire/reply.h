/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of our own: hits and errors, and the headers that say what the cache did (Cache-Status, RFC 9211; Age, RFC 9111).
 * Thread: the request's loop. */
#ifndef MCPCACHED_WIRE_REPLY_H
#define MCPCACHED_WIRE_REPLY_H

#include "cachepolicy/cachepolicy.h"

#include <h2o.h>

enum reply_how {
    REPLY_FOUND,     /* from the store; fresh or in grace, as age says */
    REPLY_STANDS_IN, /* from the store, for want of what could not be fetched */
    REPLY_COLLAPSED, /* from another request's fetch */
};

struct reply_hit {
    enum reply_how how;
    int failed_status;         /* STANDS_IN: of the failed fetch */
    struct span id;            /* raw token of the request */
    struct span result;        /* stored bytes; must live as long as the request */
    size_t ttl_start, ttl_end; /* the ttlMs value in result; equal: none */
    struct cp_age age;
    struct span session; /* the caller's own Mcp-Session-Id to be echoed (legacy); absent: none */
    struct span origin;  /* the caller's own Origin, which is allowed; absent: none */
};

/* Answers 200 with the stored result: only the id and the ttlMs value are spliced, every other byte is the upstream's. */
void reply_hit_send(h2o_req_t *req, const struct reply_hit *hit);

/* What the cache did, for answers that it looked at but did not give. stored: known to have been queued for the store. reason: why it did not answer
 * although it could have, or why the answer is not kept. */
void reply_note_miss(h2o_req_t *req, bool stored, enum cp_reason reason);
void reply_note_bypass(h2o_req_t *req, bool stored, enum cp_reason reason);

/* The JSON-RPC error that another request's fetch brought, under the caller's own id. error: the raw error member; must live as long as the request. */
void reply_shared_error_send(h2o_req_t *req, int status, struct span id, struct span error);
/* A result of our own. session: to be echoed; absent: none. */
void reply_result_send(h2o_req_t *req, struct span id, struct span result, struct span session, enum cp_reason reason);
/* 202 without a body: a notification was heard. */
void reply_accepted_send(h2o_req_t *req);
/* 200 and an event stream without events: a request that its client cancelled gets no answer. */
void reply_nothing_send(h2o_req_t *req);

/* An error of our own. */
struct reply_error {
    int status;
    int code;              /* JSON-RPC; 0: -32603 */
    bool is_rpc;           /* false: plain text, for paths that are not MCP's */
    struct span id;        /* raw token of the request; absent: null */
    const char *text;      /* one sentence, without characters that JSON escapes */
    int retry_after_s;     /* 0: none is said */
    bool was_asked;        /* a lookup's: the upstream was asked before it came to this, and Cache-Status says so */
    enum cp_reason reason; /* in Cache-Status; NONE: no such header */
};
/* Sends it. The answer's Connection is what req->http1_is_persistent says. */
void reply_error_send(h2o_req_t *req, const struct reply_error *error);
/* Makes req->res the head of that answer and returns its body, for whoever sends it himself. Headers that are there stay. */
struct span reply_error_prepare(h2o_req_t *req, const struct reply_error *error);
/* The whole answer as bytes in pool, for a connection on which libh2o has no request to answer. Needs is_rpc and a reason; says Connection: close.
 * date: an HTTP date. */
struct span reply_error_format(h2o_mem_pool_t *pool, const struct reply_error *error, const char *date);

#endif
