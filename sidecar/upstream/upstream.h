/* SPDX-License-Identifier: Apache-2.0 */
/* The server behind us: sends one request, tells of its reply piece by piece. Keep-alive pool, timeouts, TLS with verification. One upstream per loop. Thread: that loop.
 *
 * A call ends in exactly one of: on_end, or upstream_call_cancel by its owner (then nothing more is called and its connection is closed). */
#ifndef MCPCACHED_UPSTREAM_UPSTREAM_H
#define MCPCACHED_UPSTREAM_UPSTREAM_H

#include "cachepolicy/cachepolicy.h"
#include "sidecar/upstream/breaker.h"

#include <h2o.h>

/* http://host[:port][/path] taken apart; spans into text. */
struct upstream_url {
    char *text;                        /* owned */
    struct span host, authority, path; /* authority: host[:port] as a Host header says it; path: "/" when the URL has none */
    uint16_t port;
    bool is_tls;
};

/* 0 or -EINVAL with one sentence in reterr that quotes the URL and says what is missing. */
int upstream_url_parse(const char *text, struct upstream_url *ret, struct cp_error *reterr);
void upstream_url_done(struct upstream_url *url);

struct upstream_options {
    const struct upstream_url *url; /* borrowed for the upstream's life */
    SSL_CTX *tls;                   /* shared by all loops; NULL for http */
    int64_t connect_timeout_ms, first_byte_timeout_ms, keepalive_ms;
    struct budget_retries *retries; /* shared by all loops, borrowed for the upstream's life; NULL: nothing is retried */
};

/* A client context that verifies chain and host name of this upstream, against a PEM file or ("") the system's store. 0 or -EINVAL with a sentence. Free with SSL_CTX_free. */
int upstream_tls_new(const struct upstream_url *url, const char *ca_file, SSL_CTX **ret, struct cp_error *reterr);

struct budget_retries;
struct upstream;
struct upstream_call;

struct upstream *upstream_new(const struct upstream_options *options, h2o_context_t *ctx);
/* After the last call has ended. */
void upstream_free(struct upstream *u);

enum upstream_end {
    UPSTREAM_COMPLETE, /* the whole reply came */
    UPSTREAM_SURPLUS,  /* the whole reply came, and more: which of it answers what is not certain */
    UPSTREAM_CONNECT,  /* could not be reached (nothing was sent) */
    UPSTREAM_TIMEOUT, /* connecting or the head took too long, a hurried body paused too long, or the deadline came: the body, if there is a head, is not whole */
    UPSTREAM_RESET,   /* closed or broke before a head came */
    UPSTREAM_TRUNCATED, /* broke after the head: the body is not whole */
};

struct upstream_head {
    int status;
    struct span reason;
    const h2o_header_t *headers; /* valid until on_head returns */
    size_t header_count;
    bool has_body;        /* false: HEAD, 204, 304; on_end follows at once */
    size_t content_bytes; /* Content-Length, SIZE_MAX when the reply has none or is chunked */
};

struct upstream_callbacks {
    void (*on_head)(void *data, const struct upstream_head *head);
    void (*on_body)(void *data, struct span bytes);
    void (*on_end)(void *data, enum upstream_end end);
};

struct upstream_request {
    char *head; /* taken */
    size_t head_bytes;
    struct span body; /* borrowed until the end or the cancel; may be absent */
    bool is_head;     /* method HEAD */
    bool is_patient;  /* no limit for the first byte: GET streams, whose head may come with the first event */
    bool may_repeat;  /* a read: may be sent again when a kept connection turns out dead before the reply begins */
    /* A cacheable read: when connecting fails, and nothing was sent, it is tried once more after some 100 ms, if the retries' budget, the connect timeout (for
     * both together) and the deadline allow it. */
    bool may_retry_connect;
    int64_t deadline_ms; /* from the start to the last byte of the body, whatever else is patient or paused meanwhile; 0: none */
};

/* Begins. data must live until the end or the cancel. NULL: it has already ended (on_end was called). */
struct upstream_call *upstream_call_start(struct upstream *u, struct upstream_request *request,
                                          const struct upstream_callbacks *callbacks, void *data);
void upstream_call_cancel(struct upstream_call *call);
/* Another deadline, from now on; 0 takes it away. Not from on_end. */
void upstream_call_set_deadline(struct upstream_call *call, int64_t deadline_ms);
/* Nobody listens any more, but the call shall run to its end: pauses in its body are limited by the first-byte timeout. */
void upstream_call_hurry(struct upstream_call *call);
/* Back-pressure: no on_body between pause and resume. */
void upstream_call_pause(struct upstream_call *call);
void upstream_call_resume(struct upstream_call *call);

/* What an end says of the upstream as a whole, and of the call's own breaker. status: the head's, 0 without one.
 * The upstream is to blame when it cannot be reached, and has proven itself with any head; a call that gets no answer, a broken one or a 5xx says nothing of other
 * calls, so that one bad tool does not shut the others. */
void upstream_results(enum upstream_end how, int status, enum breaker_result *ret_upstream, enum breaker_result *ret_call);

#endif
