/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: what a request body is, as far as the cache must know.
 * Always: whatever is in doubt ends as opaque or malformed, which both mean "forward"; nothing is rejected here.
 * Not here: headers (agree.c), whether a rule grants caching (decide.c). Thread: whoever owns the doc. */
#include "message.h"

#include <errno.h>

#include "canonical.h"
#include "mutant.h"

static const struct span method_texts[] = {
#define X(name, text) {text, sizeof(text) - 1},
    CP_METHODS(X)
#undef X
};

#define METHOD_COUNT (sizeof(method_texts) / sizeof(method_texts[0]))

const char *cp_method_text(enum cp_method method)
{
    return method_texts[method].p;
}

enum cp_method cp_method_of(struct span text)
{
    for (size_t i = 1; i < METHOD_COUNT; i++) {
        if (span_eq(text, method_texts[i]))
            return (enum cp_method)i;
    }
    return CP_METHOD_OTHER;
}

/* Members of params._meta that change nothing in the result (protocol notes §6): trace context, progress and log wishes,
 * the client's name. */
static const struct span inert_meta[] = {
    {"progressToken", 13},
    {"io.modelcontextprotocol/logLevel", 32},
    {"io.modelcontextprotocol/clientInfo", 34},
    {"traceparent", 11},
    {"tracestate", 10},
    {"baggage", 7},
};

static bool is_inert(struct span name)
{
    for (size_t i = 0; i < sizeof(inert_meta) / sizeof(inert_meta[0]); i++) {
        if (span_eq(name, inert_meta[i]))
            return true;
    }
    return false;
}

static bool is_id(const struct cp_json_doc *doc, const struct cp_json_node *node)
{
    struct span raw = cp_json_raw(doc, node);

    if (node->type == CP_JSON_STRING)
        return true;
    if (node->type != CP_JSON_NUMBER)
        return false;
    for (size_t i = 0; i < raw.n; i++) {
        if (raw.p[i] == '.' || raw.p[i] == 'e' || raw.p[i] == 'E')
            return false;
    }
    return true;
}

static bool starts_with(struct span text, struct span prefix)
{
    return text.n >= prefix.n && memcmp(text.p, prefix.p, prefix.n) == 0;
}

/* The member of params that names what the method is about; empty when it has none. ret_needed: the request means nothing
 * without it. */
static struct span naming_member(const struct cp_message *message, bool *ret_needed)
{
    *ret_needed = true;
    switch (message->method) {
    case CP_METHOD_TOOLS_CALL:
    case CP_METHOD_PROMPTS_GET:
        return SPAN("name");
    case CP_METHOD_RESOURCES_READ:
    case CP_METHOD_RESOURCES_SUBSCRIBE:
    case CP_METHOD_RESOURCES_UNSUBSCRIBE:
        return SPAN("uri");
    case CP_METHOD_OTHER:
        *ret_needed = false;
        return starts_with(message->method_text, SPAN("tasks/")) ? SPAN("taskId") : SPAN("");
    case CP_METHOD_INITIALIZE:
    case CP_METHOD_DISCOVER:
    case CP_METHOD_TOOLS_LIST:
    case CP_METHOD_RESOURCES_LIST:
    case CP_METHOD_RESOURCE_TEMPLATES_LIST:
    case CP_METHOD_PROMPTS_LIST:
    case CP_METHOD_COMPLETE:
    case CP_METHOD_PING:
    case CP_METHOD_LISTEN:
    case CP_METHOD_CANCELLED:
    case CP_METHOD_INITIALIZED:
        break;
    }
    *ret_needed = false;
    return SPAN("");
}

static void read_meta(struct cp_message *message, const struct cp_json_node *meta)
{
    const struct cp_json_node *version;

    if (meta->type != CP_JSON_OBJECT) {
        message->is_malformed = true;
        return;
    }
    message->meta = meta;
    version = cp_json_member(message->doc, meta, SPAN("io.modelcontextprotocol/protocolVersion"));
    if (version == NULL)
        return;
    message->era = CP_ERA_MODERN;
    message->version = cp_json_text(message->doc, version);
    if (message->version.p == NULL)
        message->is_malformed = true;
}

static void read_params(struct cp_message *message)
{
    struct cp_json_doc *doc = message->doc;
    const struct cp_json_node *params = message->params, *member, *found = NULL;
    bool has_arguments = message->method == CP_METHOD_TOOLS_CALL || message->method == CP_METHOD_PROMPTS_GET;
    bool needed;
    struct span naming = naming_member(message, &needed);

    if (params != NULL && params->type != CP_JSON_OBJECT)
        message->is_malformed = true;
    member = params != NULL && params->type == CP_JSON_OBJECT ? cp_json_first(doc, params) : NULL;
    for (; member != NULL; member = cp_json_next(doc, member)) {
        struct span name = cp_json_name(doc, member);

        if (name.p == NULL) {
            message->is_malformed = true; /* no memory to know it by */
            continue;
        }
        if (span_eq(name, SPAN("_meta")))
            read_meta(message, member);
        else if (span_eq(name, SPAN("inputResponses")) || span_eq(name, SPAN("requestState")))
            message->is_continuation = true;
        else if (span_eq(name, SPAN("task")))
            message->is_task = true;
        else if (has_arguments && span_eq(name, SPAN("arguments")))
            message->arguments = member;
        else if (message->method == CP_METHOD_INITIALIZE && span_eq(name, SPAN("capabilities")))
            message->client_info = cp_json_raw(doc, member);
        if (naming.n > 0 && span_eq(name, naming))
            found = member;
    }
    message->name = cp_json_text(doc, found);
    if (message->name.p == NULL && (needed || found != NULL))
        message->is_malformed = true;
}

/* The envelope; false: opaque. */
static bool read_envelope(struct cp_message *message, const struct cp_json_node *root)
{
    struct cp_json_doc *doc = message->doc;
    const struct cp_json_node *version = NULL, *id = NULL, *method = NULL, *result = NULL, *error = NULL;

    for (const struct cp_json_node *member = cp_json_first(doc, root); member != NULL; member = cp_json_next(doc, member)) {
        struct span name = cp_json_name(doc, member);

        if (name.p == NULL)
            return false;
        if (span_eq(name, SPAN("jsonrpc")))
            version = member;
        else if (span_eq(name, SPAN("id")))
            id = member;
        else if (span_eq(name, SPAN("method")))
            method = member;
        else if (span_eq(name, SPAN("params")))
            message->params = member;
        else if (span_eq(name, SPAN("result")))
            result = member;
        else if (span_eq(name, SPAN("error")))
            error = member;
        else
            message->is_malformed = true;
    }
    if (!cp_json_is_text(doc, version, SPAN("2.0")))
        return false;
    if (method == NULL) {
        if ((result == NULL) == (error == NULL) || message->params != NULL)
            return false;
        if (id != NULL && is_id(doc, id))
            message->id = cp_json_raw(doc, id);
        else if (result != NULL || (id != NULL && id->type != CP_JSON_NULL))
            return false;
        message->kind = CP_KIND_RESPONSE;
        return true;
    }
    if (result != NULL || error != NULL || (id != NULL && !is_id(doc, id)))
        return false;
    message->method_text = cp_json_text(doc, method);
    if (message->method_text.p == NULL)
        return false;
    message->method = cp_method_of(message->method_text);
    message->id = cp_json_raw(doc, id);
    message->kind = id == NULL ? CP_KIND_NOTIFICATION : CP_KIND_REQUEST;
    return true;
}

/* Stays opaque unless node is an object that is a message. */
static void read_object(struct cp_message *message, const struct cp_json_node *node)
{
    if (node->type != CP_JSON_OBJECT)
        return;
    if (!read_envelope(message, node))
        *message = (struct cp_message){.doc = message->doc};
    else if (message->kind != CP_KIND_RESPONSE)
        read_params(message);
}

void cp_message_parse(struct cp_message *ret, struct cp_json_doc *doc, struct span body)
{
    struct cp_json_limits limits = cp_json_strict;
    const struct cp_json_node *root;

    if (doc->request_depth != 0)
        limits.depth = doc->request_depth;
    if (MUTANT("deep-bodies"))
        limits.depth = UINT32_MAX;
    *ret = (struct cp_message){.doc = doc, .json = cp_json_scan(doc, body, &limits)};
    root = cp_json_root(doc);
    if (root == NULL)
        return;
    if (root->type == CP_JSON_ARRAY)
        ret->kind = CP_KIND_BATCH;
    read_object(ret, root);
}

void cp_message_each(struct cp_json_doc *doc, cp_message_fn fn, void *ctx)
{
    const struct cp_json_node *root = cp_json_root(doc), *element;

    if (root == NULL || root->type != CP_JSON_ARRAY)
        return;
    for (element = cp_json_first(doc, root); element != NULL; element = cp_json_next(doc, element)) {
        struct cp_message message = {.doc = doc};

        read_object(&message, element);
        fn(ctx, &message);
    }
}

/* Sets or clears the marks of all that does not belong to the key. */
static void mark(const struct cp_message *message, const struct cp_pointer *ignore, size_t ignore_count, bool skip)
{
    struct cp_json_doc *doc = message->doc;
    bool empty = true;

    if (message->arguments != NULL)
        cp_canonical_mark(doc, message->arguments, ignore, ignore_count, skip);
    if (message->meta == NULL)
        return;
    for (const struct cp_json_node *member = cp_json_first(doc, message->meta); member != NULL;
         member = cp_json_next(doc, member)) {
        if (is_inert(cp_json_name(doc, member)))
            doc->nodes[member - doc->nodes].skip = skip;
        else
            empty = false;
    }
    if (empty)
        doc->nodes[message->meta - doc->nodes].skip = skip;
}

static int add_number(struct buf *out, uint64_t number)
{
    unsigned char bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(number >> (8 * i));
    return buf_add(out, bytes, sizeof(bytes));
}

int cp_message_canonical(const struct cp_message *message, const struct cp_pointer *ignore, size_t ignore_count, struct buf *out)
{
    size_t before = out->n;
    int r;

    if (message->params == NULL) {
        r = buf_add(out, "~", 1);
    } else {
        mark(message, ignore, ignore_count, true);
        r = cp_canonical_marked(message->doc, message->params, out);
        mark(message, ignore, ignore_count, false);
    }
    for (size_t i = 0; i < ignore_count && r == 0; i++) {
        struct span text = span_of(ignore[i].text);

        r = add_number(out, text.n);
        if (r == 0)
            r = buf_add_span(out, text);
    }
    if (r < 0)
        out->n = before;
    return r;
}

int cp_message_canonical_first_page(const struct cp_message *message, struct buf *out)
{
    struct cp_json_node *cursor = (struct cp_json_node *)cp_json_member(message->doc, message->params, SPAN("cursor"));
    int r;

    if (cursor != NULL)
        cursor->skip = true;
    r = cp_message_canonical(message, NULL, 0, out);
    if (cursor != NULL)
        cursor->skip = false;
    return r;
}
