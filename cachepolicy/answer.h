/* SPDX-License-Identifier: Apache-2.0 */
/* One message from upstream: what the cache must know of a reply before it may keep or replay its result.
 * Thread: any; everything borrows from the text and the doc. */
#ifndef CP_ANSWER_H
#define CP_ANSWER_H

#include "tag.h"

/* Member of a result's _meta by which the server gives it tags: an array of strings. Relayed with the answer that it came with, never replayed. */
#define CP_ANSWER_TAGS "io.mcpcached/tags"

enum cp_result_type {
    CP_RESULT_ABSENT,   /* no resultType member */
    CP_RESULT_COMPLETE, /* "complete" */
    CP_RESULT_OTHER,    /* "input_required", "task", unknown, or not a string: never stored */
};

/* cacheScope as it stands: anything but exactly "public" is private; absent is told apart only for display. */
enum cp_hint_scope {
    CP_HINT_ABSENT,
    CP_HINT_PRIVATE,
    CP_HINT_PUBLIC,
};

struct cp_answer {
    bool is_readable;   /* one complete JSON object, "jsonrpc":"2.0", no name twice in it, in its result or in the result's
                           _meta; what is not tells nothing else but is_batch */
    bool is_batch;      /* an array (2025-03-26 replies); not readable */
    bool has_method;    /* a notification or a request of the server's */
    struct span method; /* decoded; absent unless has_method, and when it is no string */
    struct span id;     /* raw token, "null" included; absent when none */
    bool has_result, has_error;
    struct span result; /* raw bytes of the result value, exactly as sent */
    int64_t error_code; /* 0 when none or not an integer */

    /* of an object result: */
    bool is_object;
    enum cp_result_type type;
    bool is_error;            /* isError is present and not false */
    bool is_exchange_private; /* inputRequests, requestState, taskId, a `task` object, or _meta related-task /
                                 model-immediate-response / subscriptionId */
    bool refuses_cache;       /* _meta.cache_hint is "no-cache" */
    bool has_ttl;             /* a ttlMs member exists, whatever its value */
    int64_t ttl_ms;           /* 0 .. CP_TTL_MAX_MS (24 h), larger is clamped; not a number, negative, with a fraction -> 0;
                                 with an exponent: its value when that is an integer (6e4, 1e30), else 0 */
    struct span ttl_token;    /* raw ttlMs value inside `result`, for the splice; absent when none */
    enum cp_hint_scope scope;
    struct span version; /* result.protocolVersion decoded (InitializeResult); absent when none */
};

/* Reads text (a whole JSON reply, or the data of one event). Never fails: unreadable says so in ret. */
void cp_answer_parse(struct cp_answer *ret, struct cp_json_doc *doc, struct span text);

/* True when the answer is the final response to the request with this raw id: no method, either result or error, id of the
 * same type and value (the texts may differ in escapes: "\u0061" answers "a"; 1 never answers "1"; 1.0 never answers 1). */
bool cp_answer_is_to(const struct cp_answer *answer, struct span id);

/* Appends answer->result to out without traceparent, tracestate, baggage and CP_ANSWER_TAGS of its top-level _meta (they describe the
 * fill, not the caller, or are said to the cache), and with strip_vendor (shared with everybody by the operator's word, not the server's) without all its members but io.modelcontextprotocol/...;
 * every other byte stays. ret_ttl: where the ttlMs value stands in what was appended (offset from its
 * first byte), 0,0 when none. 0 or -ENOMEM. The doc must still hold the answer's scan. out is unchanged unless 0. */
int cp_answer_strip(const struct cp_answer *answer, bool strip_vendor, struct cp_json_doc *doc, struct buf *out,
                    uint32_t *ret_ttl_start, uint32_t *ret_ttl_end);

/* Calls fn for each tag that the result's _meta gives it; what is no tag (cp_tag_is_valid) is passed over. The doc must still hold the answer's scan. 0, or
 * -ENOMEM: fn was perhaps not called for all. */
int cp_answer_tags(const struct cp_answer *answer, struct cp_json_doc *doc, cp_tag_fn fn, void *ctx);

/* Calls fn for each URI of a resource that the result contains or links to, decoded: contents[].uri (resources/read), content[].resource.uri and
 * content[].uri (tools/call: embedded resources and links). In doubt it is one. uri lives until fn returns. 0, or -ENOMEM: fn was perhaps not called for all. */
typedef void (*cp_uri_fn)(void *ctx, struct span uri);
int cp_answer_uris(const struct cp_answer *answer, struct buf *scratch, cp_uri_fn fn, void *ctx);

#endif
