/* SPDX-License-Identifier: Apache-2.0 */
/* Notices: the upstream's notifications that something changed (2025-03-26 to 2026-07-28, `notifications/...`), which purge before they are relayed.
 * Thread: any; everything in a notice borrows from the text or the scratch and lives until fn returns. */
#ifndef CP_NOTICE_H
#define CP_NOTICE_H

#include "bytes.h"

enum cp_notice_kind {
    CP_NOTICE_TOOLS_LIST_CHANGED,
    CP_NOTICE_PROMPTS_LIST_CHANGED,
    CP_NOTICE_RESOURCES_LIST_CHANGED, /* of resources and of resource templates */
    CP_NOTICE_RESOURCE_UPDATED,
};

struct cp_notice {
    enum cp_notice_kind kind;
    struct span uri; /* RESOURCE_UPDATED: decoded; absent when it cannot be told, which may mean any resource */
};

/* "notifications/..."; static. */
struct span cp_notice_method(enum cp_notice_kind kind);

typedef void (*cp_notice_fn)(void *ctx, const struct cp_notice *notice);

/* Calls fn for each notice in text: one JSON-RPC message, or an array of them. Whatever some client might take for a notice is one, though others would not
 * read the text at all: a notice too many costs a fetch, one missed a wrong answer. Requests (with an id that is not null) and responses are none; other
 * notifications are passed over. 0, or -ENOMEM: fn was perhaps not called for all, and the caller takes it that everything changed. */
int cp_notices_read(struct buf *scratch, struct span text, cp_notice_fn fn, void *ctx);

#endif
