/* SPDX-License-Identifier: Apache-2.0 */
/* What a client listens to (2026-07-28 basic/patterns/subscriptions): params.notifications of subscriptions/listen. Pure; thread: whoever owns the message's doc. */
#ifndef CP_LISTEN_H
#define CP_LISTEN_H

#include "answer.h"

/* Members of a filter. */
#define CP_LISTEN_TOOLS     "toolsListChanged"
#define CP_LISTEN_PROMPTS   "promptsListChanged"
#define CP_LISTEN_RESOURCES "resourcesListChanged"
#define CP_LISTEN_URIS      "resourceSubscriptions"
/* Method of what acknowledges a listen, and the member of _meta by which a message says which listen it is of. */
#define CP_LISTEN_ACK "notifications/subscriptions/acknowledged"
#define CP_LISTEN_ID  "io.modelcontextprotocol/subscriptionId"

struct cp_listen {
    bool tools;      /* toolsListChanged */
    bool prompts;    /* promptsListChanged */
    bool resources;  /* resourcesListChanged */
    bool has_others; /* members of the filter that nobody here knows: some other kind of notification */
};

/* Reads which lists the request asks for, and calls fn (or, NULL, nothing) for each URI of resourceSubscriptions, decoded. What is neither false nor null counts as
 * asked for. 0; -ENOENT when message is no request of that method (ret says nothing is asked for then); -ENOMEM: fn was perhaps not called for all. */
int cp_listen_read(const struct cp_message *message, struct cp_listen *ret, cp_uri_fn fn, void *ctx);

/* True for notifications/subscriptions/acknowledged: without an id, or with null. */
bool cp_listen_is_ack(const struct cp_answer *answer);
/* The same as cp_listen_read of what an acknowledgement grants (params.notifications). The doc must still hold the answer's scan. A filter that
 * is not readable (a name twice) grants nothing. -ENOENT: it is none. */
int cp_listen_read_ack(const struct cp_answer *ack, struct cp_json_doc *doc, struct cp_listen *ret, cp_uri_fn fn, void *ctx);

/* Appends the request (no element of a batch, its scan still in its doc) without those URIs of resourceSubscriptions for which goes, asked once for each, decoded, says
 * true; every other byte stays. 0; -ENOENT: none goes (out unchanged); -EINVAL: no such
 * request; -ENOMEM. */
int cp_listen_without(const struct cp_message *message, bool (*goes)(void *ctx, struct span uri), void *ctx, struct buf *out);

/* The raw id (a string or a number) of params._meta["io.modelcontextprotocol/subscriptionId"] in a notification; absent when there is none. The doc must still hold the
 * answer's scan. */
struct span cp_listen_id_of(const struct cp_answer *answer, struct cp_json_doc *doc);

#endif
