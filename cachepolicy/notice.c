/* SPDX-License-Identifier: Apache-2.0 */
/* Reading notices. Not here: what they purge (the runtime), finding the messages in a stream (sidecar/wire/events.c).
 * Always: in doubt it is a notice. Thread: any. */
#include "notice.h"

#include <errno.h>

#include "loose.h"

static const struct span methods[] = {
    [CP_NOTICE_TOOLS_LIST_CHANGED] = SPAN_OF("notifications/tools/list_changed"),
    [CP_NOTICE_PROMPTS_LIST_CHANGED] = SPAN_OF("notifications/prompts/list_changed"),
    [CP_NOTICE_RESOURCES_LIST_CHANGED] = SPAN_OF("notifications/resources/list_changed"),
    [CP_NOTICE_RESOURCE_UPDATED] = SPAN_OF("notifications/resources/updated"),
};

struct span cp_notice_method(enum cp_notice_kind kind)
{
    return methods[kind];
}

static bool kind_of(struct span raw_method, enum cp_notice_kind *ret)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (loose_is(raw_method, methods[i])) {
            *ret = (enum cp_notice_kind)i;
            return true;
        }
    }
    return false;
}

/* One notice for every member of params that is, or should be, a URI. */
static int read_uris(struct buf *scratch, struct span params, bool *found, cp_notice_fn fn, void *ctx)
{
    struct loose inside;
    struct span name, value, raw;

    if (!loose_open(params, '{', &inside))
        return 0;
    while (loose_member(&inside, &name, &value)) {
        struct cp_notice notice = {.kind = CP_NOTICE_RESOURCE_UPDATED};

        if (!loose_is(name, SPAN("uri")) || !loose_string(value, &raw))
            continue;
        if (loose_text(raw, scratch, &notice.uri) != 0)
            return -ENOMEM;
        *found = true;
        fn(ctx, &notice);
    }
    return 0;
}

static int read_updated(struct buf *scratch, struct span message, cp_notice_fn fn, void *ctx)
{
    struct loose inside;
    struct span name, value;
    bool found = false;

    loose_open(message, '{', &inside);
    while (loose_member(&inside, &name, &value)) {
        if (loose_is(name, SPAN("params")) && read_uris(scratch, value, &found, fn, ctx) != 0)
            return -ENOMEM;
    }
    if (!found)
        fn(ctx, &(struct cp_notice){.kind = CP_NOTICE_RESOURCE_UPDATED});
    return 0;
}

static int read_message(struct buf *scratch, struct span message, cp_notice_fn fn, void *ctx)
{
    bool has_id = false, has_no_id = false, found[CP_NOTICE_RESOURCE_UPDATED + 1] = {false};
    struct loose inside;
    struct span name, value, raw;
    enum cp_notice_kind kind;

    if (!loose_open(message, '{', &inside))
        return 0;
    while (loose_member(&inside, &name, &value)) {
        if (loose_is(name, SPAN("method")) && loose_string(value, &raw) && kind_of(raw, &kind)) {
            found[kind] = true;
        } else if (loose_is(name, SPAN("id"))) {
            has_id = true;
            has_no_id |= span_eq(value, SPAN("null"));
        }
    }
    if (has_id && !has_no_id)
        return 0;
    for (unsigned i = 0; i < CP_NOTICE_RESOURCE_UPDATED; i++) {
        if (found[i])
            fn(ctx, &(struct cp_notice){.kind = (enum cp_notice_kind)i});
    }
    return found[CP_NOTICE_RESOURCE_UPDATED] ? read_updated(scratch, message, fn, ctx) : 0;
}

int cp_notices_read(struct buf *scratch, struct span text, cp_notice_fn fn, void *ctx)
{
    struct span value = loose_value(text), message;
    struct loose inside;

    if (!loose_open(value, '[', &inside))
        return read_message(scratch, value, fn, ctx);
    while (loose_element(&inside, &message)) {
        int r = read_message(scratch, message, fn, ctx);

        if (r != 0)
            return r;
    }
    return 0;
}
