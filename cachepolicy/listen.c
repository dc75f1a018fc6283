/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a listen's filter. Not here: what the upstream grants of it. Thread: whoever owns the doc. */
#include "listen.h"

#include <errno.h>

static bool is_asked(const struct cp_json_doc *doc, const struct cp_json_node *filter, struct span name)
{
    const struct cp_json_node *node = cp_json_member(doc, filter, name);

    return node != NULL && node->type != CP_JSON_FALSE && node->type != CP_JSON_NULL;
}

int cp_listen_read(const struct cp_message *message, struct cp_listen *ret, cp_uri_fn fn, void *ctx)
{
    struct cp_json_doc *doc = message->doc;
    const struct cp_json_node *filter, *uris, *uri;

    *ret = (struct cp_listen){false};
    if (message->kind != CP_KIND_REQUEST || message->method != CP_METHOD_LISTEN)
        return -ENOENT;
    filter = cp_json_member(doc, message->params, SPAN("notifications"));
    ret->tools = is_asked(doc, filter, SPAN("toolsListChanged"));
    ret->prompts = is_asked(doc, filter, SPAN("promptsListChanged"));
    ret->resources = is_asked(doc, filter, SPAN("resourcesListChanged"));
    uris = cp_json_member(doc, filter, SPAN("resourceSubscriptions"));
    if (fn == NULL || uris == NULL || uris->type != CP_JSON_ARRAY)
        return 0;
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
