/* SPDX-License-Identifier: Apache-2.0 */
/* Rewriting: the same question in our own name. What is bound to the client's exchange goes: its id, and of _meta progressToken,
 * io.modelcontextprotocol/logLevel, traceparent, tracestate and baggage; who asks and with which capabilities stays, because servers answer by it.
 * Pure; thread: whoever owns the message's doc. */
#ifndef CP_REWRITE_H
#define CP_REWRITE_H

#include "message.h"

/* Appends the request (kind CP_KIND_REQUEST, no element of a batch, its scan still in its doc) with this raw id token in the place of its own. Every other byte stays:
 * cp_message_canonical of what was appended is that of the message. 0, -EINVAL for any other kind, -ENOMEM; out is unchanged unless 0. */
int cp_message_rewrite(const struct cp_message *message, struct span id, struct buf *out);

/* Appends the members of _meta that stay, with commas between them, without braces; nothing where message has no _meta. 0 or -ENOMEM; out is unchanged then. */
int cp_message_add_meta(const struct cp_message *message, struct buf *out);

#endif
