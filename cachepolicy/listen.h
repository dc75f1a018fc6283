/* SPDX-License-Identifier: Apache-2.0 */
/* What a client listens to (2026-07-28 basic/patterns/subscriptions): params.notifications of subscriptions/listen. Pure; thread: whoever owns the message's doc. */
#ifndef CP_LISTEN_H
#define CP_LISTEN_H

#include "answer.h"

struct cp_listen {
    bool tools;     /* toolsListChanged */
    bool prompts;   /* promptsListChanged */
    bool resources; /* resourcesListChanged */
};

/* Reads which lists the request asks for, and calls fn (or, NULL, nothing) for each URI of resourceSubscriptions, decoded. What is neither false nor null counts as
 * asked for. 0; -ENOENT when message is no request of that method (ret says nothing is asked for then); -ENOMEM: fn was perhaps not called for all. */
int cp_listen_read(const struct cp_message *message, struct cp_listen *ret, cp_uri_fn fn, void *ctx);

#endif
