/* SPDX-License-Identifier: Apache-2.0 */
/* Writing our own messages. Not here: to whom and when (the runtime). Thread: whoever owns the doc. */
#include "telling.h"

#include <errno.h>

#include "inside.h"
#include "rewrite.h"

/* Writes until memory runs out, and then has written nothing. */
struct writer {
    struct buf *out;
    size_t before;
    int r;
};

static struct writer begin(struct buf *out)
{
    return (struct writer){.out = out, .before = out->n};
}

static void put(struct writer *w, struct span bytes)
{
    if (w->r == 0)
        w->r = buf_add_span(w->out, bytes);
}

static void put_text(struct writer *w, struct span text)
{
    if (w->r == 0)
        w->r = json_add_text(w->out, text);
}

static void put_texts(struct writer *w, const struct span *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        put(w, i > 0 ? SPAN(",") : SPAN(""));
        put_text(w, texts[i]);
    }
}

static int end(struct writer *w)
{
    if (w->r < 0)
        w->out->n = w->before;
    return w->r;
}

static void put_meta(struct writer *w, struct span subscription_id)
{
    put(w, SPAN("\"_meta\":{\"" CP_LISTEN_ID "\":"));
    put(w, subscription_id);
    put(w, SPAN("}"));
}

int cp_tell_notice(enum cp_notice_kind kind, struct span uri, struct span subscription_id, struct buf *out)
{
    bool has_uri = kind == CP_NOTICE_RESOURCE_UPDATED, has_meta = subscription_id.p != NULL;
    struct writer w = begin(out);

    put(&w, SPAN("{\"jsonrpc\":\"2.0\",\"method\":\""));
    put(&w, cp_notice_method(kind));
    put(&w, SPAN("\""));
    if (has_uri || has_meta)
        put(&w, SPAN(",\"params\":{"));
    if (has_uri) {
        put(&w, SPAN("\"uri\":"));
        put_text(&w, uri);
    }
    if (has_uri && has_meta)
        put(&w, SPAN(","));
    if (has_meta)
        put_meta(&w, subscription_id);
    put(&w, has_uri || has_meta ? SPAN("}}") : SPAN("}"));
    return end(&w);
}

int cp_tell_listen_end(struct span id, struct buf *out)
{
    struct writer w = begin(out);

    put(&w, SPAN("{\"jsonrpc\":\"2.0\",\"id\":"));
    put(&w, id);
    put(&w, SPAN(",\"result\":{\"resultType\":\"complete\","));
    put_meta(&w, id);
    put(&w, SPAN("}}"));
    return end(&w);
}

#define LIST_COUNT 3

static const struct span list_names[LIST_COUNT] = {SPAN_OF(CP_LISTEN_TOOLS), SPAN_OF(CP_LISTEN_PROMPTS),
                                                   SPAN_OF(CP_LISTEN_RESOURCES)};

static bool has_list(const struct cp_listen *lists, size_t i)
{
    return i == 0 ? lists->tools : i == 1 ? lists->prompts : lists->resources;
}

int cp_tell_ack(const struct cp_listen *lists, const struct span *uris, size_t uri_count, struct span id, struct buf *out)
{
    struct writer w = begin(out);
    bool is_first = true;

    put(&w, SPAN("{\"jsonrpc\":\"2.0\",\"method\":\"" CP_LISTEN_ACK "\",\"params\":{"));
    put_meta(&w, id);
    put(&w, SPAN(",\"notifications\":{"));
    for (size_t i = 0; i < LIST_COUNT; i++) {
        if (!has_list(lists, i))
            continue;
        put(&w, is_first ? SPAN("\"") : SPAN(",\""));
        put(&w, list_names[i]);
        put(&w, SPAN("\":true"));
        is_first = false;
    }
    if (uri_count > 0) {
        put(&w, is_first ? SPAN("\"" CP_LISTEN_URIS "\":[") : SPAN(",\"" CP_LISTEN_URIS "\":["));
        put_texts(&w, uris, uri_count);
        put(&w, SPAN("]"));
    }
    put(&w, SPAN("}}}"));
    return end(&w);
}

/* ---- more than the upstream grants -------------------------------------------------------------------------------------------------- */

/* What says that nothing of the kind is granted. */
static bool is_nothing(const struct cp_json_node *member)
{
    return member->type == CP_JSON_FALSE || member->type == CP_JSON_NULL;
}

/* How the filter comes to have the URIs; its value is in made. 0, -EINVAL or -ENOMEM. */
static int set_uris(const struct cp_json_node *there, const struct span *uris, size_t count, struct buf *made, struct json_set *ret)
{
    bool is_array = there != NULL && there->type == CP_JSON_ARRAY;
    struct writer w = begin(made);

    if (there != NULL && !is_array && !is_nothing(there))
        return -EINVAL;
    put(&w, is_array ? SPAN("") : SPAN("["));
    put_texts(&w, uris, count);
    put(&w, !is_array ? SPAN("]") : there->count > 0 ? SPAN(",") : SPAN(""));
    *ret = (struct json_set){.name = SPAN(CP_LISTEN_URIS), .value = buf_span(made)};
    if (is_array)
        ret->start = ret->end = there->start + 1;
    else if (there != NULL)
        *ret = (struct json_set){ret->name, ret->value, there->start, there->end};
    return end(&w);
}

int cp_tell_ack_more(struct span text, const struct cp_answer *ack, struct cp_json_doc *doc, const struct cp_listen *lists,
                     const struct span *uris, size_t uri_count, struct buf *out)
{
    const struct cp_json_node *filter, *there;
    const char *at = text.p;
    struct json_set sets[LIST_COUNT + 1];
    struct buf made = {0};
    enum cp_json_status status;
    size_t count = 0;
    int r = 0;

    filter = cp_json_member(doc, cp_json_member(doc, cp_json_root(doc), SPAN("params")), SPAN("notifications"));
    if (!cp_listen_is_ack(ack) || filter == NULL || filter->type != CP_JSON_OBJECT)
        return -EINVAL;
    status = cp_json_open(doc, filter, &filter);
    if (status != CP_JSON_OK)
        return status == CP_JSON_NOMEM ? -ENOMEM : -EINVAL;
    for (size_t i = 0; i < LIST_COUNT; i++) {
        there = cp_json_member(doc, filter, list_names[i]);
        if (!has_list(lists, i) || (there != NULL && !is_nothing(there)))
            continue;
        sets[count] = (struct json_set){.name = list_names[i], .value = SPAN("true")};
        if (there != NULL) {
            sets[count].start = there->start;
            sets[count].end = there->end;
        }
        count++;
    }
    if (uri_count > 0)
        r = set_uris(cp_json_member(doc, filter, SPAN(CP_LISTEN_URIS)), uris, uri_count, &made, &sets[count++]);
    /* The one reservation, so that what follows cannot fail. */
    if (r == 0)
        r = buf_reserve(out, text.n + json_set_room(sets, count));
    if (r == 0) {
        json_copy_set(doc, filter, sets, count, &at, out);
        buf_add(out, at, (size_t)(text.p + text.n - at));
    }
    buf_done(&made);
    return r;
}

/* ---- questions ---------------------------------------------------------------------------------------------------------------------- */

/* The caller's members as they stand, but for line breaks, which only stand between tokens. */
static void put_meta_of(struct writer *w, const struct cp_message *from)
{
    size_t start = w->out->n;

    if (w->r == 0)
        w->r = cp_message_add_meta(from, w->out);
    for (size_t i = start; w->r == 0 && i < w->out->n; i++) {
        if (w->out->p[i] == '\n' || w->out->p[i] == '\r')
            w->out->p[i] = ' ';
    }
}

int cp_tell_question(enum cp_method method, struct span uri, struct span id, const struct cp_message *from, struct buf *out)
{
    bool has_uri = uri.p != NULL, has_meta = from != NULL && from->era == CP_ERA_MODERN;
    struct writer w = begin(out);

    put(&w, SPAN("{\"jsonrpc\":\"2.0\",\"id\":"));
    put(&w, id);
    put(&w, SPAN(",\"method\":\""));
    put(&w, span_of(cp_method_text(method)));
    put(&w, SPAN("\""));
    if (has_uri || has_meta)
        put(&w, SPAN(",\"params\":{"));
    if (has_uri) {
        put(&w, SPAN("\"uri\":"));
        put_text(&w, uri);
    }
    if (has_uri && has_meta)
        put(&w, SPAN(","));
    if (has_meta) {
        put(&w, SPAN("\"_meta\":{"));
        put_meta_of(&w, from);
        put(&w, SPAN("}"));
    }
    put(&w, has_uri || has_meta ? SPAN("}}") : SPAN("}"));
    return end(&w);
}
