/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical form of a result's own members that count: an object that has these and no others, so that none is taken for another.
 * Not here: what the forms are compared for (the runtime). Thread: whoever owns the doc. */
#include "content.h"

#include <errno.h>

#include "canonical.h"

#define COUNT_MAX 3

/* Absent spans behind the last one. */
static void names_of(enum cp_method method, struct span ret[COUNT_MAX])
{
    static const struct span list_of[] = {
        [CP_METHOD_TOOLS_LIST] = SPAN_OF("tools"),
        [CP_METHOD_PROMPTS_LIST] = SPAN_OF("prompts"),
        [CP_METHOD_RESOURCES_LIST] = SPAN_OF("resources"),
        [CP_METHOD_RESOURCE_TEMPLATES_LIST] = SPAN_OF("resourceTemplates"),
    };

    memset(ret, 0, COUNT_MAX * sizeof(*ret));
    if (method == CP_METHOD_RESOURCES_READ) {
        ret[0] = SPAN("contents");
    } else if (method == CP_METHOD_TOOLS_CALL) {
        ret[0] = SPAN("content");
        ret[1] = SPAN("structuredContent");
        ret[2] = SPAN("isError");
    } else if ((size_t)method < sizeof(list_of) / sizeof(list_of[0]) && list_of[method].p != NULL) {
        ret[0] = list_of[method];
        ret[1] = SPAN("nextCursor");
    }
}

static bool counts(struct span name, const struct cp_json_node *member, const struct span names[COUNT_MAX])
{
    /* isError: false says what its absence says */
    if (member->type == CP_JSON_FALSE && span_eq(name, SPAN("isError")))
        return false;
    for (size_t i = 0; i < COUNT_MAX && names[i].p != NULL; i++) {
        if (span_eq(name, names[i]))
            return true;
    }
    return false;
}

int cp_content_of(enum cp_method method, struct span result, struct cp_json_doc *doc, struct buf *out)
{
    struct cp_json_limits limits = cp_json_strict;
    const struct cp_json_node *root;
    struct span names[COUNT_MAX];
    enum cp_json_status status;
    bool is_there = false;
    int r = -ENOENT;

    names_of(method, names);
    limits.depth = cp_json_reply.depth;
    status = cp_json_scan(doc, result, &limits);
    if (status != CP_JSON_OK)
        return status == CP_JSON_NOMEM ? -ENOMEM : -ENOENT;
    root = cp_json_root(doc);
    if (root->type != CP_JSON_OBJECT)
        return -ENOENT;
    for (uint32_t i = root->child; i != 0; i = doc->nodes[i].next) {
        struct span name = cp_json_name(doc, &doc->nodes[i]);

        if (name.p == NULL)
            return -ENOMEM;
        doc->nodes[i].skip = !counts(name, &doc->nodes[i], names);
        is_there |= !doc->nodes[i].skip;
    }
    if (is_there)
        r = cp_canonical_marked(doc, root, out);
    for (uint32_t i = root->child; i != 0; i = doc->nodes[i].next)
        doc->nodes[i].skip = false;
    return r;
}
