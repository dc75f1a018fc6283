/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 replies read strictly: head and body framing (RFC 9112 6.3, 7.1). libh2o's own client aborts the process on an unknown transfer coding, takes a
 * body cut at a chunk's edge for a whole one and accepts more than one length; a cache must not.
 * Bytes in any portions; nothing is ever trusted for a size. Thread: any; pure. */
#ifndef MCPCACHED_WIRE_HTTP_REPLY_H
#define MCPCACHED_WIRE_HTTP_REPLY_H

#include "cachepolicy/bytes.h"

#define HTTP_FIELDS_MAX 128
#define HTTP_HEAD_MAX   (64 * 1024)

struct http_field {
    struct span name;  /* as it came */
    struct span value; /* trimmed */
};

enum http_framing {
    HTTP_NO_BODY,
    HTTP_LENGTH,
    HTTP_CHUNKED,
    HTTP_UNTIL_CLOSE,
};

struct http_head {
    int status; /* 100 to 999 */
    int minor_version;
    struct span reason;
    struct http_field fields[HTTP_FIELDS_MAX];
    size_t field_count;
    enum http_framing framing;
    uint64_t content_bytes; /* HTTP_LENGTH; HTTP_NO_BODY: what was announced, UINT64_MAX when nothing was */
    bool keeps_alive;       /* the connection may serve another request after this reply */
};

/* Parses a head at the start of bytes; spans borrow from it. answers_head: the request's method was HEAD.
 * Bytes used; 0: incomplete; -EBADMSG: no HTTP/1 reply, folded or malformed fields, more fields or bytes than the limits, a transfer coding
 * other than chunked, lengths that disagree, or a length beside a transfer coding. */
long http_head_parse(struct http_head *ret, struct span bytes, bool answers_head);

struct http_body {
    enum http_framing framing;
    uint64_t left; /* of the length, or of the current chunk */
    int state;
    unsigned digits;     /* of a chunk size */
    unsigned line_bytes; /* of an extension or trailer: bounded */
    bool is_complete;
};

void http_body_init(struct http_body *body, const struct http_head *head);
typedef void (*http_body_fn)(void *ctx, struct span bytes);
/* Feeds bytes; fn gets the body's own, in order, never none. Returns how many of bytes belong to this reply (fewer than given: something follows it, and
 * is_complete); -EBADMSG: framing broken, and fn may have got what came before the break; feed no more then. */
long http_body_feed(struct http_body *body, struct span bytes, http_body_fn fn, void *ctx);

#endif
