/* SPDX-License-Identifier: Apache-2.0 */
/* One message from downstream: the request body read once, as far as the cache must understand it.
 * Whatever it does not fully understand is CP_KIND_OPAQUE and travels untouched.
 * Thread: any; everything in a message borrows from the body and from the doc it was scanned into. */
#ifndef CP_MESSAGE_H
#define CP_MESSAGE_H

#include "json.h"

struct cp_pointer;

enum cp_kind {
    CP_KIND_OPAQUE,       /* not JSON that may make a key, not an object, or an envelope that is not plainly JSON-RPC 2.0:
                             another "jsonrpc", an id that is null, fractional or written with an exponent, a method that is
                             no string, method beside result or error, result beside error */
    CP_KIND_BATCH,        /* an array: passed whole (2025-03-26); its elements stand below cp_json_root(doc) */
    CP_KIND_REQUEST,      /* method and an id that is a string or an integer */
    CP_KIND_NOTIFICATION, /* method, no id */
    CP_KIND_RESPONSE,     /* result or error, no method; an error may have no id, or null (id is absent then) */
};

enum cp_era {
    CP_ERA_LEGACY, /* no _meta protocol version: 2025-03-26, 2025-06-18, 2025-11-25 */
    CP_ERA_MODERN, /* params._meta["io.modelcontextprotocol/protocolVersion"] is a string; the body decides, headers only
                      cross-check */
};

/* Methods that somebody here treats specially; all others are CP_METHOD_OTHER. Case-sensitive. */
#define CP_METHODS(X)                                                                                                              \
    X(OTHER, "")                                                                                                                   \
    X(INITIALIZE, "initialize")                                                                                                    \
    X(DISCOVER, "server/discover")                                                                                                 \
    X(TOOLS_LIST, "tools/list")                                                                                                    \
    X(TOOLS_CALL, "tools/call")                                                                                                    \
    X(RESOURCES_LIST, "resources/list")                                                                                            \
    X(RESOURCE_TEMPLATES_LIST, "resources/templates/list")                                                                         \
    X(RESOURCES_READ, "resources/read")                                                                                            \
    X(RESOURCES_SUBSCRIBE, "resources/subscribe")                                                                                  \
    X(RESOURCES_UNSUBSCRIBE, "resources/unsubscribe")                                                                              \
    X(PROMPTS_LIST, "prompts/list")                                                                                                \
    X(PROMPTS_GET, "prompts/get")                                                                                                  \
    X(COMPLETE, "completion/complete")                                                                                             \
    X(PING, "ping")                                                                                                                \
    X(LISTEN, "subscriptions/listen")                                                                                              \
    X(CANCELLED, "notifications/cancelled")                                                                                        \
    X(INITIALIZED, "notifications/initialized")

enum cp_method {
#define X(name, text) CP_METHOD_##name,
    CP_METHODS(X)
#undef X
};

struct cp_message {
    enum cp_kind kind;
    enum cp_json_status json; /* why it is opaque, when the JSON is the reason */
    enum cp_era era;
    enum cp_method method;
    struct span method_text; /* decoded */
    struct span id;          /* the raw token, quotes included; absent when there is none, and in whatever is opaque */
    struct span version;     /* modern: the decoded _meta version; legacy: absent (session or header says) */
    struct span name;        /* decoded params.name (tools/call, prompts/get), params.uri (resources/read, subscribe, unsubscribe)
                                or params.taskId (methods that begin with "tasks/"); else absent */
    struct span client_info; /* initialize: raw params.capabilities; absent elsewhere */
    const struct cp_json_node *params;    /* NULL when absent */
    const struct cp_json_node *arguments; /* params.arguments of tools/call and prompts/get; NULL when absent */
    const struct cp_json_node *meta;      /* params._meta when it is an object; NULL otherwise */
    bool is_continuation;                 /* params has inputResponses or requestState: a further leg of a multi-round-trip call */
    bool is_task;                         /* params.task is present (2025-11-25; no other meaning in any era) */
    bool is_malformed;                    /* forward only: a member that the cache needs is missing or has the wrong type (params or
                                             _meta no object, version no string [era is modern then, version absent], the method's name,
                                             uri or taskId no string), or the envelope has a member that JSON-RPC does not know: it would
                                             reach the upstream without being in the key */
    struct cp_json_doc *doc;              /* borrowed */
};

/* Scans body into doc and reads it. Never fails: what cannot be read is opaque, and so is what lies deeper than doc->request_depth. */
void cp_message_parse(struct cp_message *ret, struct cp_json_doc *doc, struct span body);

/* After a parse that found a batch: fn is called for each element, in order, with a message that borrows from the same doc and lives until fn returns. What is
 * no message is opaque, an array within the array too. */
typedef void (*cp_message_fn)(void *ctx, const struct cp_message *message);
void cp_message_each(struct cp_json_doc *doc, cp_message_fn fn, void *ctx);

/* Appends canonical(params) without the inert _meta members (progressToken, io.modelcontextprotocol/logLevel,
 * .../clientInfo, traceparent, tracestate, baggage) and without what `ignore` points at inside arguments. Absent params
 * (written "~") and {} differ, and so do absent arguments, {} and null. An _meta with nothing else in it is left out. The
 * ignored pointers themselves follow, so that an entry made under one list is not found under another. For one whose strict
 * scan is still in the doc. 0 or -ENOMEM (out is unchanged then). */
int cp_message_canonical(const struct cp_message *message, const struct cp_pointer *ignore, size_t ignore_count, struct buf *out);

/* The same question without its cursor: the first page of the list that message asks a later page of. Nothing is ignored. 0 or -ENOMEM. */
int cp_message_canonical_first_page(const struct cp_message *message, struct buf *out);

/* "" for CP_METHOD_OTHER; static string. */
const char *cp_method_text(enum cp_method method);
enum cp_method cp_method_of(struct span text);

#endif
