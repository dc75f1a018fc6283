/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions. An input is a result. Always: nothing is read outside of it; every tool with a name that jansson finds is told under that name, in no worse a
 * light than its annotations (of two members of one name jansson takes the last), and never as read-only where jansson does not see it so; the fingerprint of what
 * is read strictly is JSON that says the same. */
#include "fuzz.h"

#include <jansson.h>

#include "cachepolicy/definition.h"

static struct cp_json_doc doc, scratch_doc;

struct told {
    struct buf bytes;
    size_t count;
};

struct head {
    size_t name_bytes, canonical_bytes;
    enum cp_annotation annotation;
};

static void on_definition(void *ctx, const struct cp_definition *definition)
{
    struct told *told = ctx;
    struct head head = {definition->name.n, definition->canonical.n, definition->annotation};

    must((unsigned)head.annotation <= CP_ANNOTATION_VETO && head.canonical_bytes > 0);
    must(buf_add(&told->bytes, &head, sizeof(head)) == 0);
    must(buf_add_span(&told->bytes, definition->name) == 0);
    must(buf_add_span(&told->bytes, definition->canonical) == 0);
    told->count++;
}

/* What jansson makes of it. */
static enum cp_annotation annotation_of(const json_t *tool)
{
    const json_t *annotations = json_object_get(tool, "annotations"), *read_only = json_object_get(annotations, "readOnlyHint"),
                 *destructive = json_object_get(annotations, "destructiveHint");

    if (annotations == NULL || json_is_null(annotations))
        return CP_ANNOTATION_NONE;
    if (!json_is_object(annotations))
        return CP_ANNOTATION_VETO;
    if (read_only != NULL && !json_is_null(read_only))
        return json_is_true(read_only) ? CP_ANNOTATION_READ_ONLY : CP_ANNOTATION_VETO;
    return destructive != NULL && !json_is_null(destructive) && !json_is_false(destructive) ? CP_ANNOTATION_VETO
                                                                                            : CP_ANNOTATION_NONE;
}

static void check_tool(const struct told *told, const json_t *tool)
{
    const json_t *name = json_object_get(tool, "name");
    json_error_t error;
    bool found = false;

    if (!json_is_string(name))
        return;
    for (size_t at = 0; at < told->bytes.n;) {
        struct head head;
        const char *p;

        memcpy(&head, told->bytes.p + at, sizeof(head));
        p = told->bytes.p + at + sizeof(head);
        at += sizeof(head) + head.name_bytes + head.canonical_bytes;
        if (span_eq((struct span){p, head.name_bytes}, (struct span){json_string_value(name), json_string_length(name)})) {
            json_t *form = json_loadb(p + head.name_bytes, head.canonical_bytes, JSON_ALLOW_NUL, &error);

            if (json_equal(form, tool))
                found |= head.annotation == annotation_of(tool) || head.annotation == CP_ANNOTATION_VETO;
            json_decref(form);
        }
    }
    must(found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span input = {(const char *)data, size}, text;
    struct buf message = {0}, scratch = {0};
    struct told told = {0};
    struct cp_answer answer;
    json_error_t error;
    json_t *root, *tool;
    size_t i;

    must(buf_add_span(&message, SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":")) == 0);
    must(buf_add_span(&message, input) == 0);
    must(buf_add_span(&message, SPAN("}")) == 0);
    text = exactly(buf_span(&message));
    cp_answer_parse(&answer, &doc, text);
    must(cp_definitions_read(&answer, &scratch_doc, &scratch, on_definition, &told) == 0);
    must(told.count == 0 || (answer.is_readable && answer.is_object));
    root = answer.is_readable ? json_loadb(text.p, text.n, JSON_ALLOW_NUL, &error) : NULL;
    json_array_foreach(json_object_get(json_object_get(root, "result"), "tools"), i, tool) check_tool(&told, tool);
    json_decref(root);
    free((char *)text.p);
    buf_done(&told.bytes);
    buf_done(&scratch);
    buf_done(&message);
    return 0;
}
