/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP headers: what the cache reads of a request's, and which of them travel on in either direction.
 * Thread: the request's loop. Everything read borrows from the h2o request. */
#ifndef MCPCACHED_WIRE_HEADERS_H
#define MCPCACHED_WIRE_HEADERS_H

#include "cachepolicy/cachepolicy.h"

#include <h2o.h>

/* Mcp-Param-* headers that one request may carry and still be looked up. */
#define WIRE_PARAMS_MAX 32

struct wire_request {
    struct span method, path;
    struct span authority; /* Host; absent when the request has none */
    struct span session;   /* Mcp-Session-Id; absent when none */
    struct cp_mirror mirror;
    struct cp_mirror_param params[WIRE_PARAMS_MAX];
    size_t param_count;
    bool too_many_params;
    struct span origin; /* absent when none */
    bool origin_repeated;
    bool body_is_plain;  /* one Content-Type: application/json, charset utf-8 or none; no Content-Encoding */
    bool hides_headers;  /* Connection names other headers than those of the connection itself */
    bool accepts_json;   /* Accept is absent, or admits application/json */
    bool accepts_events; /* Accept names text/event-stream */
    bool no_cache;       /* Cache-Control: no-cache, or Pragma: no-cache */
    bool no_store;       /* Cache-Control: no-store */
    bool only_if_cached; /* Cache-Control: only-if-cached */
};

void wire_request_read(h2o_req_t *req, struct wire_request *ret);

/* The request header's value; several of one name are joined so that no single value can look like them (each with its length). Absent when there
 * is none. name is lower case. Memory from the request's pool when joined. */
struct span wire_header(h2o_req_t *req, struct span name);
/* True when the request has at least one header of this lower-case name. */
bool wire_has_header(h2o_req_t *req, struct span name);

/* True for request headers that travel upstream without making another question of it: what negotiates the connection or the form of the answer (which the
 * cache fixes or checks), describes the client's software, or follows a request through a system. Every other header is part of the key or of the principal,
 * because an upstream may answer by it. name is lower case. */
bool wire_is_inert(struct span name);

/* The head of a request to be sent upstream in this one's name. */
struct wire_head {
    struct span host;       /* what Host says */
    bool identity_encoding; /* ask for a reply that is not encoded, so that it can be read */
    bool is_own; /* a POST of JSON of our own with the same credentials: without the headers that are about this one alone */
    struct span own_method; /* Mcp-Method of our own; absent: none (legacy) */
    bool has_own_body;      /* the same question with an id of our own: another length */
    size_t body_bytes;      /* of our own; with is_own or has_own_body */
};
/* Request line and path as they came, our own framing, hop-by-hop headers (RFC 9110 7.6.1, also those that Connection names) and headers with an empty name dropped, all
 * others as they are. With is_own: method, Accept, Content-Type and mirror headers are our own. Owned by the caller (free). NULL when memory is short. */
char *wire_request_head(h2o_req_t *req, const struct wire_head *head, size_t *ret_bytes);

/* What the cache must know of an upstream reply's headers. */
struct wire_reply_facts {
    struct cp_reply reply; /* server_asked and id_matches are left alone */
    struct span session;   /* Mcp-Session-Id, borrowed from the headers */
    struct span date;      /* borrowed from the headers */
    bool challenges;       /* WWW-Authenticate */
};
/* keyed_headers: lower-case names of the request headers that are in the key, for Vary. */
void wire_reply_read(int status, const h2o_header_t *headers, size_t count, char *const *keyed_headers, size_t keyed_count,
                     struct wire_reply_facts *ret);

/* Copies an upstream reply's end-to-end headers into the request's response, but for Date, which h2o writes itself (downstream_set_date). */
void wire_reply_copy(h2o_req_t *req, const h2o_header_t *headers, size_t count);

#endif
