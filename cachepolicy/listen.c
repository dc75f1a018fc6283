/* SPDX-License-Identifier: Apache-2.0 */
/* Filters of listens: what is asked for, what is granted, and asking for less. Not here: granting (telling.c). Thread: whoever owns the doc. */
#include "listen.h"

#include <errno.h>

#include "inside.h"

/* 0 and the lists and URIs of a filter; what is not readable says nothing. -ENOMEM: ret and fn have perhaps not got all. */
static int read_filter(struct cp_json_doc *doc, const struct cp_json_node *filter, struct cp_listen *ret, cp_uri_fn fn, void *ctx)
{
    const struct cp_json_node *member, *uris = NULL, *uri;
    enum cp_json_status status;

    if (filter == NULL || filter->type != CP_JSON_OBJECT)
        return 0;
    status = cp_json_open(doc, filter, &filter);
    if (status != CP_JSON_OK)
        return status == CP_JSON_NOMEM ? -ENOMEM : 0;
    for (member = cp_json_first(doc, filter); member != NULL; member = cp_json_next(doc, member)) {
        struct span name = cp_json_name(doc, member);
        bool is_asked = member->type != CP_JSON_FALSE && member->type != CP_JSON_NULL;

        if (name.p == NULL)
            return -ENOMEM;
        if (span_eq(name, SPAN(CP_LISTEN_TOOLS)))
            ret->tools = is_asked;
        else if (span_eq(name, SPAN(CP_LISTEN_PROMPTS)))
            ret->prompts = is_asked;
        else if (span_eq(name, SPAN(CP_LISTEN_RESOURCES)))
            ret->resources = is_asked;
        else if (span_eq(name, SPAN(CP_LISTEN_URIS)))
            uris = member;
        else
            ret->has_others |= is_asked;
    }
    if (fn == NULL || uris == NULL || uris->type != CP_JSON_ARRAY)
        return 0;
    status = cp_json_open(doc, uris, &uris);
    if (status != CP_JSON_OK)
        return status == CP_JSON_NOMEM ? -ENOMEM : 0;
    for (uri = cp_json_first(doc, uris); uri != NULL; uri = cp_json_next(doc, uri)) {
        struct span text = cp_json_text(doc, uri);

        if (uri->type != CP_JSON_STRING)
            continue;
        if (text.p == NULL)
            return -ENOMEM;
        fn(ctx, text);
    }
    return 0;
}

static bool is_listen(const struct cp_message *message)
{
    return message->kind == CP_KIND_REQUEST && message->method == CP_METHOD_LISTEN;
}

int cp_listen_read(const struct cp_message *message, struct cp_listen *ret, cp_uri_fn fn, void *ctx)
{
    *ret = (struct cp_listen){false};
    if (!is_listen(message))
        return -ENOENT;
    return read_filter(message->doc, cp_json_member(message->doc, message->params, SPAN("notifications")), ret, fn, ctx);
}

static bool is_notification(const struct cp_answer *answer)
{
    return answer->is_readable && answer->has_method && !answer->has_result && !answer->has_error &&
           (answer->id.p == NULL || span_eq(answer->id, SPAN("null")));
}

static const struct cp_json_node *param(const struct cp_json_doc *doc, struct span name)
{
    return cp_json_member(doc, cp_json_member(doc, cp_json_root(doc), SPAN("params")), name);
}

bool cp_listen_is_ack(const struct cp_answer *answer)
{
    return is_notification(answer) && span_eq(answer->method, SPAN(CP_LISTEN_ACK));
}

int cp_listen_read_ack(const struct cp_answer *ack, struct cp_json_doc *doc, struct cp_listen *ret, cp_uri_fn fn, void *ctx)
{
    *ret = (struct cp_listen){false};
    if (!cp_listen_is_ack(ack))
        return -ENOENT;
    return read_filter(doc, param(doc, SPAN("notifications")), ret, fn, ctx);
}

struct choice {
    bool (*goes)(void *ctx, struct span uri);
    void *ctx;
};

static bool uri_goes(struct span uri, void *ctx)
{
    const struct choice *choice = ctx;

    return uri.p != NULL && choice->goes(choice->ctx, uri);
}

int cp_listen_without(const struct cp_message *message, bool (*goes)(void *ctx, struct span uri), void *ctx, struct buf *out)
{
    struct cp_json_doc *doc = message->doc;
    struct choice choice = {goes, ctx};
    const struct cp_json_node *uris, *uri;
    const char *at = doc->text.p, *end = doc->text.p + doc->text.n;
    int r;

    if (!is_listen(message) || cp_json_root(doc) == NULL || cp_json_root(doc)->type != CP_JSON_OBJECT)
        return -EINVAL;
    uris = cp_json_member(doc, cp_json_member(doc, message->params, SPAN("notifications")), SPAN(CP_LISTEN_URIS));
    if (uris == NULL || uris->type != CP_JSON_ARRAY)
        return -ENOENT;
    /* What can be decoded once can be again, and the copy cannot say that it could not. */
    for (uri = cp_json_first(doc, uris); uri != NULL; uri = cp_json_next(doc, uri)) {
        if (uri->type == CP_JSON_STRING && cp_json_text(doc, uri).p == NULL)
            return -ENOMEM;
    }
    r = buf_reserve(out, doc->text.n);
    if (r < 0)
        return r;
    json_copy_without(doc, uris, uri_goes, &choice, &at, out);
    if (at == doc->text.p)
        return -ENOENT;
    buf_add(out, at, (size_t)(end - at));
    return 0;
}

struct span cp_listen_id_of(const struct cp_answer *answer, struct cp_json_doc *doc)
{
    const struct cp_json_node *meta = param(doc, SPAN("_meta")), *id;

    if (!is_notification(answer) || meta == NULL || cp_json_open(doc, meta, &meta) != CP_JSON_OK)
        return SPAN_ABSENT;
    id = cp_json_member(doc, meta, SPAN(CP_LISTEN_ID));
    return id != NULL && (id->type == CP_JSON_STRING || id->type == CP_JSON_NUMBER) ? cp_json_raw(doc, id) : SPAN_ABSENT;
}
