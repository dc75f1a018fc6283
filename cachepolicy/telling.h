/* SPDX-License-Identifier: Apache-2.0 */
/* Telling: the messages that we write on streams and send in our own name: notifications, acknowledgements, ends, reads. Pure; thread: whoever owns the doc.
 * Each appends one JSON-RPC message, without line breaks, to out: 0 or -ENOMEM, out unchanged then. id tokens are raw JSON. Bytes of a URI that are no UTF-8, and NUL, are
 * told as U+FFFD. */
#ifndef CP_TELLING_H
#define CP_TELLING_H

#include "listen.h"
#include "notice.h"

/* notifications/resources/updated or .../list_changed. subscription_id: raw id of the listen that it is tagged with (2026-07-28); absent: legacy, no _meta. */
int cp_tell_notice(enum cp_notice_kind kind, struct span uri, struct span subscription_id, struct buf *out);

/* The end of a listen that we end ourselves: a result with resultType "complete" and the subscriptionId. */
int cp_tell_listen_end(struct span id, struct buf *out);

/* notifications/subscriptions/acknowledged for what is granted: lists, and uris (decoded). */
int cp_tell_ack(const struct cp_listen *lists, const struct span *uris, size_t uri_count, struct span id, struct buf *out);
/* The upstream's own acknowledgement (text, as it came, its answer still in doc) with more granted: every other byte stays, members that nobody here knows too, and line
 * breaks. A list that is neither absent, false nor null is granted already; uris are those that are not (cp_listen_read_ack), and stand first. -EINVAL: it is none, has no
 * filter, or cannot be added to without doubt. */
int cp_tell_ack_more(struct span text, const struct cp_answer *ack, struct cp_json_doc *doc, const struct cp_listen *lists,
                     const struct span *uris, size_t uri_count, struct buf *out);

/* A request of our own for a list or a resource: {"jsonrpc":"2.0","id":..,"method":..,"params":{..}}. uri: of resources/read; else absent. from: a message of the caller's,
 * whose _meta (as of cp_message_add_meta) it takes over in the modern era; NULL or of the legacy era: there is no _meta, and no params without a uri. */
int cp_tell_question(enum cp_method method, struct span uri, struct span id, const struct cp_message *from, struct buf *out);
/* ping (legacy) or server/discover (modern) would be the same with no uri. */

#endif
