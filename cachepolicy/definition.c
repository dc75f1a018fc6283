/* SPDX-License-Identifier: Apache-2.0 */
/* Reading definitions: the list loosely, so that no tool is missed, and each tool strictly, so that none is misread.
 * Not here: what follows from an annotation (decide.c), which list is the newest (the runtime). Thread: whoever owns the docs. */
#include "definition.h"

#include <errno.h>

#include "canonical.h"
#include "loose.h"

/* Absent and null say nothing; some writers spell out what is not set. */
static bool is_said(const struct cp_json_node *node)
{
    return node != NULL && node->type != CP_JSON_NULL;
}

static enum cp_annotation annotation_of(const struct cp_json_doc *doc, const struct cp_json_node *tool)
{
    const struct cp_json_node *annotations = cp_json_member(doc, tool, SPAN("annotations"));
    const struct cp_json_node *read_only = cp_json_member(doc, annotations, SPAN("readOnlyHint"));
    const struct cp_json_node *destructive = cp_json_member(doc, annotations, SPAN("destructiveHint"));

    if (!is_said(annotations))
        return CP_ANNOTATION_NONE;
    if (annotations->type != CP_JSON_OBJECT)
        return CP_ANNOTATION_VETO;
    if (is_said(read_only))
        return read_only->type == CP_JSON_TRUE ? CP_ANNOTATION_READ_ONLY : CP_ANNOTATION_VETO;
    return is_said(destructive) && destructive->type != CP_JSON_FALSE ? CP_ANNOTATION_VETO : CP_ANNOTATION_NONE;
}

struct telling {
    struct cp_json_doc *doc;
    struct buf *scratch;
    cp_definition_fn fn;
    void *ctx;
    bool vetoes_only;
    bool saw_veto, saw_other;
};

static void tell_one(struct telling *telling, const struct cp_definition *definition)
{
    bool is_veto = definition->annotation == CP_ANNOTATION_VETO;

    telling->saw_veto |= is_veto;
    telling->saw_other |= !is_veto;
    if (is_veto || !telling->vetoes_only)
        telling->fn(telling->ctx, definition);
}

/* What cannot be read, under every name that it might have. */
static int tell_unreadable(struct telling *telling, struct span tool)
{
    struct cp_definition definition = {.annotation = CP_ANNOTATION_VETO, .canonical = tool};
    struct span name, value, raw;
    struct loose inside;

    if (!loose_open(tool, '{', &inside))
        return 0;
    while (loose_member(&inside, &name, &value)) {
        if (!loose_is(name, SPAN("name")) || !loose_string(value, &raw))
            continue;
        if (loose_text(raw, telling->scratch, &definition.name) != 0)
            return -ENOMEM;
        tell_one(telling, &definition);
    }
    return 0;
}

static int tell(struct telling *telling, struct span tool)
{
    struct cp_json_doc *doc = telling->doc;
    struct cp_json_limits limits = cp_json_strict;
    const struct cp_json_node *name;
    struct cp_definition definition;
    enum cp_json_status status;

    limits.depth = cp_json_reply.depth;
    status = cp_json_scan(doc, tool, &limits);
    if (status == CP_JSON_NOMEM)
        return -ENOMEM;
    if (status != CP_JSON_OK)
        return tell_unreadable(telling, tool);
    name = cp_json_member(doc, cp_json_root(doc), SPAN("name"));
    if (name == NULL || name->type != CP_JSON_STRING)
        return 0;
    definition.name = cp_json_text(doc, name);
    if (definition.name.p == NULL)
        return -ENOMEM;
    definition.annotation = annotation_of(doc, cp_json_root(doc));
    telling->scratch->n = 0;
    if (cp_canonical(doc, cp_json_root(doc), NULL, 0, telling->scratch) != 0)
        return -ENOMEM;
    definition.canonical = buf_span(telling->scratch);
    tell_one(telling, &definition);
    return 0;
}

static int tell_all(struct telling *telling, const struct cp_answer *answer)
{
    struct span name, value, tool;
    struct loose result, tools;
    int r = 0;

    if (!answer->is_readable || !answer->is_object || !loose_open(answer->result, '{', &result))
        return 0;
    while (r == 0 && loose_member(&result, &name, &value)) {
        if (!loose_is(name, SPAN("tools")) || !loose_open(value, '[', &tools))
            continue;
        while (r == 0 && loose_element(&tools, &tool))
            r = tell(telling, tool);
    }
    return r;
}

int cp_definitions_read(const struct cp_answer *answer, struct cp_json_doc *scratch_doc, struct buf *scratch, cp_definition_fn fn,
                        void *ctx)
{
    struct telling telling = {.doc = scratch_doc, .scratch = scratch, .fn = fn, .ctx = ctx};
    int r = tell_all(&telling, answer);

    if (r != 0 || !telling.saw_veto || !telling.saw_other)
        return r;
    telling.vetoes_only = true;
    return tell_all(&telling, answer);
}
