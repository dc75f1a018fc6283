/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities: reading them where the answer's scan has not looked, and adding to them by copying.
 * Always: what is not understood is neither read nor changed. Not here: whether we can deliver (the runtime). Thread: whoever owns the doc. */
#include "capabilities.h"

#include <errno.h>

#include "inside.h"

enum capability { TOOLS, PROMPTS, RESOURCES, CAPABILITY_COUNT };

static const struct span names[] = {[TOOLS] = SPAN_OF("tools"), [PROMPTS] = SPAN_OF("prompts"), [RESOURCES] = SPAN_OF("resources")};

#define LIST_CHANGED SPAN("listChanged")
#define SUBSCRIBE    SPAN("subscribe")

/* Where they stand in the doc: opening one moves the others' nodes. 0: not there as an object. */
struct places {
    uint32_t all, of[CAPABILITY_COUNT];
};

static enum cp_json_status open_at(struct cp_json_doc *doc, uint32_t index)
{
    const struct cp_json_node *opened;

    return cp_json_open(doc, &doc->nodes[index], &opened);
}

static uint32_t place_of(const struct cp_json_doc *doc, const struct cp_json_node *node)
{
    return node != NULL && node->type == CP_JSON_OBJECT ? (uint32_t)(node - doc->nodes) : 0;
}

/* OK and nothing found, too, when there are no capabilities. */
static enum cp_json_status find(const struct cp_answer *answer, struct cp_json_doc *doc, struct places *ret)
{
    enum cp_json_status status;

    *ret = (struct places){0};
    if (!answer->is_readable || !answer->is_object || answer->has_method || answer->has_error)
        return CP_JSON_OK;
    ret->all = place_of(doc, cp_json_member(doc, cp_json_member(doc, cp_json_root(doc), SPAN("result")), SPAN("capabilities")));
    if (ret->all == 0)
        return CP_JSON_OK;
    status = open_at(doc, ret->all);
    for (size_t i = 0; status == CP_JSON_OK && i < CAPABILITY_COUNT; i++)
        ret->of[i] = place_of(doc, cp_json_member(doc, &doc->nodes[ret->all], names[i]));
    return status;
}

static bool is_true(const struct cp_json_doc *doc, uint32_t place, struct span name)
{
    const struct cp_json_node *member = place != 0 ? cp_json_member(doc, &doc->nodes[place], name) : NULL;

    return member != NULL && member->type == CP_JSON_TRUE;
}

int cp_capabilities_read(const struct cp_answer *answer, struct cp_json_doc *doc, struct cp_capabilities *ret)
{
    struct places places;
    enum cp_json_status status = find(answer, doc, &places);

    for (size_t i = 0; status != CP_JSON_NOMEM && i < CAPABILITY_COUNT; i++) {
        if (places.of[i] == 0)
            continue;
        status = open_at(doc, places.of[i]);
        if (status != CP_JSON_OK)
            places.of[i] = 0;
    }
    if (status == CP_JSON_NOMEM)
        return -ENOMEM;
    *ret = (struct cp_capabilities){
        .tools = places.of[TOOLS] != 0,
        .prompts = places.of[PROMPTS] != 0,
        .resources = places.of[RESOURCES] != 0,
        .tools_change = is_true(doc, places.of[TOOLS], LIST_CHANGED),
        .prompts_change = is_true(doc, places.of[PROMPTS], LIST_CHANGED),
        .resources_change = is_true(doc, places.of[RESOURCES], LIST_CHANGED),
        .subscribe = is_true(doc, places.of[RESOURCES], SUBSCRIBE),
    };
    return 0;
}

struct addition {
    struct json_set sets[2];
    size_t count;
};

static void add_true(const struct cp_json_doc *doc, uint32_t place, struct span name, struct addition *addition)
{
    const struct cp_json_node *member = cp_json_member(doc, &doc->nodes[place], name);

    if (member != NULL && member->type == CP_JSON_TRUE)
        return;
    addition->sets[addition->count++] = (struct json_set){
        .name = name,
        .value = SPAN("true"),
        .start = member != NULL ? member->start : 0,
        .end = member != NULL ? member->end : 0,
    };
}

int cp_capabilities_add(struct span text, const struct cp_answer *answer, struct cp_json_doc *doc,
                        const struct cp_capabilities *add, struct buf *out)
{
    const bool changes[] = {[TOOLS] = add->tools_change, [PROMPTS] = add->prompts_change, [RESOURCES] = add->resources_change};
    struct addition additions[CAPABILITY_COUNT] = {0};
    const char *at = text.p, *end = text.p + text.n;
    struct places places;
    size_t room = 0;
    enum cp_json_status status;
    int r;

    if (!add->tools_change && !add->prompts_change && !add->resources_change && !add->subscribe)
        return -ENOENT;
    status = find(answer, doc, &places);
    for (size_t i = 0; status == CP_JSON_OK && i < CAPABILITY_COUNT; i++) {
        bool subscribes = i == RESOURCES && add->subscribe;

        if (places.of[i] == 0 || (!changes[i] && !subscribes))
            continue;
        status = open_at(doc, places.of[i]);
        if (status == CP_JSON_OK && subscribes)
            add_true(doc, places.of[i], SUBSCRIBE, &additions[i]);
        if (status == CP_JSON_OK && changes[i])
            add_true(doc, places.of[i], LIST_CHANGED, &additions[i]);
        room += json_set_room(additions[i].sets, additions[i].count);
    }
    if (status != CP_JSON_OK)
        return status == CP_JSON_NOMEM ? -ENOMEM : -EINVAL;
    if (room == 0)
        return -ENOENT;
    /* The one reservation, so that what follows cannot fail. */
    r = buf_reserve(out, text.n + room);
    if (r < 0)
        return r;
    for (uint32_t member = doc->nodes[places.all].child; member != 0; member = doc->nodes[member].next) {
        for (size_t i = 0; i < CAPABILITY_COUNT; i++) {
            if (places.of[i] == member)
                json_copy_set(doc, &doc->nodes[member], additions[i].sets, additions[i].count, &at, out);
        }
    }
    buf_add(out, at, (size_t)(end - at));
    return 0;
}
