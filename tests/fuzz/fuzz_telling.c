/* SPDX-License-Identifier: Apache-2.0 */
/* Telling, of any upstream message or request. Always, by jansson's reading: a message with capabilities added, an acknowledgement with more granted and a listen with fewer
 * URIs are what they were but for that, and what was done needs not be done again; what cannot be done has a reason; content is the members that count, the same in every
 * spelling (model.h) and for nothing else; what we write ourselves is read as it was meant, in one line. */
#include "fuzz.h"

#include <errno.h>

#include "cachepolicy/capabilities.h"
#include "cachepolicy/content.h"
#include "cachepolicy/rewrite.h"
#include "cachepolicy/telling.h"
#include "model.h"

static const struct cp_json_limits limits = {.depth = 512, .record_depth = 0, .nodes = 1 << 20};
static struct cp_json_doc doc = {.request_depth = 512}, again = {.request_depth = 512};

/* NULL, too, for numbers that are too big for jansson. Of names that come twice the last counts, before and after. */
static json_t *load(struct span text)
{
    json_error_t error;

    return json_loadb(text.p == NULL ? "" : text.p, text.n, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
}

/* Whether all that the scan would check everywhere is as it should be. */
static bool is_clean(struct span text)
{
    json_error_t error;
    json_t *root = json_loadb(text.p == NULL ? "" : text.p, text.n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);

    json_decref(root);
    return root != NULL;
}

static bool is_granted(const json_t *value)
{
    return value != NULL && !json_is_false(value) && !json_is_null(value);
}

static struct span text_of(const json_t *string)
{
    return (struct span){json_string_value(string), json_string_length(string)};
}

/* --- capabilities --- */

static const struct {
    const char *capability, *member;
} additions[] = {{"tools", "listChanged"}, {"prompts", "listChanged"}, {"resources", "listChanged"}, {"resources", "subscribe"}};

static void check_capabilities(struct span text, struct dice *dice)
{
    const unsigned bits = dice_throw(dice, 16);
    const struct cp_capabilities add = {
        .tools_change = bits & 1, .prompts_change = bits & 2, .resources_change = bits & 4, .subscribe = bits & 8};
    struct cp_capabilities had, has;
    struct cp_answer answer;
    struct buf out = {0};
    json_t *root = load(text), *all, *after;
    bool expected = false;
    int r;

    cp_answer_parse(&answer, &doc, text);
    must(cp_capabilities_read(&answer, &doc, &had) == 0);
    r = cp_capabilities_add(text, &answer, &doc, &add, &out);
    must(r == 0 || (out.n == 0 && (r == -ENOENT || (r == -EINVAL && !is_clean(text)))));
    all = json_object_get(json_object_get(root, "result"), "capabilities");
    for (size_t i = 0; i < 4; i++) {
        json_t *one = json_object_get(all, additions[i].capability);

        if ((bits >> i & 1) == 0 || !json_is_object(one) || json_is_true(json_object_get(one, additions[i].member)))
            continue;
        json_object_set_new(one, additions[i].member, json_true());
        expected = true;
    }
    if (root != NULL && answer.is_readable && !answer.has_method && !answer.has_error && r != -EINVAL)
        must((r == 0) == expected);
    if (r == 0) {
        struct span added = exactly(buf_span(&out));

        after = load(added);
        must(root == NULL || json_equal(root, after));
        json_decref(after);
        cp_answer_parse(&answer, &again, added);
        must(answer.is_readable && cp_capabilities_read(&answer, &again, &has) == 0);
        must(has.tools == had.tools && has.prompts == had.prompts && has.resources == had.resources);
        must(has.tools_change == (had.tools_change || (had.tools && add.tools_change)));
        must(has.prompts_change == (had.prompts_change || (had.prompts && add.prompts_change)));
        must(has.resources_change == (had.resources_change || (had.resources && add.resources_change)));
        must(has.subscribe == (had.subscribe || (had.resources && add.subscribe)));
        must(cp_capabilities_add(added, &answer, &again, &add, &out) == -ENOENT && out.n == added.n);
        free((char *)added.p);
    }
    json_decref(root);
    buf_done(&out);
}

/* --- filters --- */

static const char *const list_names[] = {CP_LISTEN_TOOLS, CP_LISTEN_PROMPTS, CP_LISTEN_RESOURCES};

/* Each with its length. */
static void on_uri(void *ctx, struct span uri)
{
    must(buf_add(ctx, &uri.n, sizeof(uri.n)) == 0);
    must(buf_add_span(ctx, uri) == 0);
}

/* What was read of a filter is what jansson sees of it. */
static void check_filter(const struct cp_listen *listen, const struct buf *uris, const json_t *filter)
{
    const json_t *uri;
    const char *name;
    json_t *value;
    struct buf expected = {0};
    bool others = false;
    size_t i;

    must(listen->tools == is_granted(json_object_get(filter, CP_LISTEN_TOOLS)));
    must(listen->prompts == is_granted(json_object_get(filter, CP_LISTEN_PROMPTS)));
    must(listen->resources == is_granted(json_object_get(filter, CP_LISTEN_RESOURCES)));
    json_object_foreach((json_t *)filter, name, value)
    {
        bool known = strcmp(name, CP_LISTEN_URIS) == 0;

        for (size_t k = 0; k < 3; k++)
            known |= strcmp(name, list_names[k]) == 0;
        others |= !known && is_granted(value);
    }
    must(listen->has_others == others);
    json_array_foreach(json_object_get(filter, CP_LISTEN_URIS), i, uri)
    {
        if (json_is_string(uri))
            on_uri(&expected, text_of(uri));
    }
    must(span_eq(buf_span(uris), buf_span(&expected)));
    buf_done(&expected);
}

static void check_ack(struct span text, struct span uri, struct dice *dice)
{
    const unsigned bits = dice_throw(dice, 8);
    const struct cp_listen lists = {.tools = bits & 1, .prompts = bits & 2, .resources = bits & 4};
    const struct span uris[] = {uri, SPAN("b\"")};
    const size_t count = dice_throw(dice, 3);
    struct cp_listen listen;
    struct cp_answer answer;
    struct buf out = {0}, seen = {0};
    bool is_ack, is_whole = is_clean(text);
    json_t *root = load(text), *filter = json_object_get(json_object_get(root, "params"), "notifications"), *there, *after;
    int r;

    cp_answer_parse(&answer, &doc, text);
    is_ack = cp_listen_is_ack(&answer);
    must(cp_listen_read_ack(&answer, &doc, &listen, on_uri, &seen) == (is_ack ? 0 : -ENOENT));
    if (is_ack && is_whole)
        check_filter(&listen, &seen, filter);
    r = cp_tell_ack_more(text, &answer, &doc, &lists, uris, count, &out);
    must(r == 0 || (r == -EINVAL && out.n == 0));
    must(r == 0 ? is_ack : true);
    there = json_object_get(filter, CP_LISTEN_URIS);
    if (is_ack && is_whole)
        must((r == 0) == (json_is_object(filter) && (count == 0 || !is_granted(there) || json_is_array(there))));
    if (r == 0) {
        struct span more = exactly(buf_span(&out));

        for (size_t i = 0; i < 3; i++) {
            if ((bits >> i & 1) != 0 && !is_granted(json_object_get(filter, list_names[i])))
                json_object_set_new(filter, list_names[i], json_true());
        }
        if (count > 0 && !json_is_array(there)) {
            there = json_array();
            json_object_set_new(filter, CP_LISTEN_URIS, there);
        }
        for (size_t i = count; i > 0; i--)
            json_array_insert_new(there, 0, json_stringn(uris[i - 1].p, uris[i - 1].n));
        after = load(more);
        must(root == NULL || json_equal(root, after));
        json_decref(after);
        seen.n = 0;
        cp_answer_parse(&answer, &again, more);
        must(cp_listen_read_ack(&answer, &again, &listen, on_uri, &seen) == 0);
        must((listen.tools || !lists.tools) && (listen.prompts || !lists.prompts) && (listen.resources || !lists.resources));
        if (is_whole)
            check_filter(&listen, &seen, filter);
        out.n = 0;
        must(cp_tell_ack_more(more, &answer, &again, &lists, NULL, 0, &out) == 0 && span_eq(buf_span(&out), more));
        free((char *)more.p);
    }
    json_decref(root);
    buf_done(&out);
    buf_done(&seen);
}

/* About every other URI, always the same. */
static bool goes(void *ctx, struct span uri)
{
    struct dice dice = dice_of(uri);

    dice.state ^= *(const uint64_t *)ctx;
    return dice_throw(&dice, 2) == 0;
}

static void check_listen(struct span text, struct dice *dice)
{
    uint64_t salt = dice_throw(dice, 1u << 16);
    struct cp_message message;
    struct cp_listen listen;
    struct buf out = {0}, seen = {0};
    json_t *root = load(text), *uris, *after;
    bool is_listen, some_go = false;
    int r;

    cp_message_parse(&message, &doc, text);
    is_listen = message.kind == CP_KIND_REQUEST && message.method == CP_METHOD_LISTEN;
    must(cp_listen_read(&message, &listen, on_uri, &seen) == (is_listen ? 0 : -ENOENT));
    if (is_listen && root != NULL)
        check_filter(&listen, &seen, json_object_get(json_object_get(root, "params"), "notifications"));
    r = cp_listen_without(&message, goes, &salt, &out);
    must(is_listen ? r == 0 || r == -ENOENT : r == -EINVAL);
    must(r == 0 || out.n == 0);
    if (is_listen && root != NULL) {
        uris = json_object_get(json_object_get(json_object_get(root, "params"), "notifications"), CP_LISTEN_URIS);
        for (size_t i = json_array_size(uris); i > 0; i--) {
            const json_t *uri = json_array_get(uris, i - 1);

            if (!json_is_string(uri) || !goes(&salt, text_of(uri)))
                continue;
            json_array_remove(uris, i - 1);
            some_go = true;
        }
        must(some_go == (r == 0));
        after = load(buf_span(&out));
        must(r != 0 || json_equal(root, after));
        json_decref(after);
    }
    if (r == 0) {
        struct span fewer = exactly(buf_span(&out));

        cp_message_parse(&message, &again, fewer);
        must(cp_listen_without(&message, goes, &salt, &out) == -ENOENT && out.n == fewer.n);
        free((char *)fewer.p);
    }
    json_decref(root);
    buf_done(&out);
    buf_done(&seen);
}

/* --- content --- */

static const struct {
    enum cp_method method;
    const char *names[3];
} contents[] = {
    {CP_METHOD_RESOURCES_READ, {"contents"}},
    {CP_METHOD_TOOLS_LIST, {"tools", "nextCursor"}},
    {CP_METHOD_PROMPTS_LIST, {"prompts", "nextCursor"}},
    {CP_METHOD_RESOURCES_LIST, {"resources", "nextCursor"}},
    {CP_METHOD_RESOURCE_TEMPLATES_LIST, {"resourceTemplates", "nextCursor"}},
    {CP_METHOD_TOOLS_CALL, {"content", "structuredContent", "isError"}},
    {CP_METHOD_PROMPTS_GET, {NULL}},
};

/* By the words of content.h, of a model. Owned. */
static json_t *content_by(const json_t *result, size_t which)
{
    json_t *content = json_object();

    for (size_t i = 0; i < 3 && contents[which].names[i] != NULL; i++) {
        json_t *value = json_object_get(result, contents[which].names[i]);

        if (value != NULL && !(json_is_false(value) && strcmp(contents[which].names[i], "isError") == 0))
            json_object_set(content, contents[which].names[i], value);
    }
    return content;
}

/* Owned; empty: there is none. */
static struct buf content_of(struct span result, size_t which)
{
    struct span text = exactly(result);
    struct buf out = {0};
    int r = cp_content_of(contents[which].method, text, &again, &out);

    must(r == 0 ? out.n > 0 : r == -ENOENT && out.n == 0);
    free((char *)text.p);
    return out;
}

static void check_content(struct span result, struct dice *dice)
{
    size_t which = dice_throw(dice, sizeof(contents) / sizeof(contents[0]));
    struct buf form = content_of(result, which), other, text;
    json_t *model, *changed, *content, *other_content;

    if (cp_json_scan(&doc, result, &limits) != CP_JSON_OK) {
        must(form.n == 0);
        return;
    }
    model = model_of(&doc);
    content = content_by(model, which);
    must((json_object_size(content) > 0) == (form.n > 0));
    if (form.n > 0) {
        must(cp_json_scan(&doc, buf_span(&form), &limits) == CP_JSON_OK);
        changed = model_of(&doc);
        must(json_equal(content, changed));
        json_decref(changed);
    }

    text = model_write(model, dice);
    other = content_of(buf_span(&text), which);
    must(span_eq(buf_span(&form), buf_span(&other)));
    buf_done(&text);
    buf_done(&other);

    changed = model_change(model, dice);
    text = model_write(changed, dice);
    if (cp_json_scan(&doc, buf_span(&text), &limits) == CP_JSON_OK) {
        other = content_of(buf_span(&text), which);
        other_content = content_by(changed, which);
        must(span_eq(buf_span(&form), buf_span(&other)) == (json_equal(content, other_content) != 0));
        json_decref(other_content);
        buf_done(&other);
    }
    buf_done(&text);
    json_decref(changed);
    json_decref(content);
    json_decref(model);
    buf_done(&form);
}

/* --- in our own name --- */

/* In one line, and JSON for everybody. Empties out. Owned. */
static json_t *told(struct buf *out)
{
    json_t *root;

    must(memchr(out->p, '\n', out->n) == NULL && memchr(out->p, '\r', out->n) == NULL);
    root = load(buf_span(out));
    out->n = 0;
    return root;
}

static void check_own(struct span text, struct span uri, bool uri_is_text, struct dice *dice)
{
    const struct cp_listen lists = {.tools = dice_throw(dice, 2), .resources = dice_throw(dice, 2)};
    struct cp_answer answer, own;
    struct span id;
    struct buf out = {0};
    json_t *root, *seen;

    cp_answer_parse(&answer, &doc, text);
    id = cp_listen_id_of(&answer, &doc);
    must(cp_tell_notice(CP_NOTICE_RESOURCE_UPDATED, uri, id, &out) == 0);
    cp_answer_parse(&own, &again, buf_span(&out));
    must(own.is_readable && own.has_method && span_eq(cp_listen_id_of(&own, &again), id));
    root = told(&out);
    /* a number may be too big */
    must(root != NULL || id.p != NULL);
    seen = json_object_get(json_object_get(root, "params"), "uri");
    must(root == NULL || (json_is_string(seen) && (!uri_is_text || span_eq(text_of(seen), uri))));
    json_decref(root);
    if (id.p == NULL)
        id = SPAN("1");
    must(cp_tell_ack(&lists, &uri, dice_throw(dice, 2), id, &out) == 0);
    cp_answer_parse(&own, &again, buf_span(&out));
    must(cp_listen_is_ack(&own) && span_eq(cp_listen_id_of(&own, &again), id));
    json_decref(told(&out));
    must(cp_tell_listen_end(id, &out) == 0);
    cp_answer_parse(&own, &again, buf_span(&out));
    must(own.is_readable && own.type == CP_RESULT_COMPLETE && own.is_exchange_private && span_eq(own.id, id));
    json_decref(told(&out));
    buf_done(&out);
}

static void check_question(struct span text, struct span uri, bool uri_is_text)
{
    struct cp_message message, own;
    struct buf out = {0}, meta = {0};
    json_t *root, *expected;

    cp_message_parse(&message, &doc, text);
    if (message.kind != CP_KIND_REQUEST)
        return;
    must(cp_tell_question(CP_METHOD_RESOURCES_READ, uri, SPAN("\"own\""), &message, &out) == 0);
    cp_message_parse(&own, &again, buf_span(&out));
    must(own.kind == CP_KIND_REQUEST && own.method == CP_METHOD_RESOURCES_READ && (!uri_is_text || span_eq(own.name, uri)));
    must(own.era == message.era && own.is_malformed == (own.era == CP_ERA_MODERN && own.version.p == NULL));
    must(span_eq(own.version, message.version));
    root = told(&out);
    must(buf_add(&meta, "{", 1) == 0 && cp_message_add_meta(&message, &meta) == 0 && buf_add(&meta, "}", 1) == 0);
    expected = message.era == CP_ERA_MODERN ? load(buf_span(&meta)) : NULL;
    must((root == NULL) == (message.era == CP_ERA_MODERN && expected == NULL));
    must(root == NULL || expected == NULL || json_equal(json_object_get(json_object_get(root, "params"), "_meta"), expected));
    must(message.era == CP_ERA_MODERN || json_object_get(json_object_get(root, "params"), "_meta") == NULL);
    json_decref(expected);
    json_decref(root);
    must(cp_tell_question(CP_METHOD_TOOLS_LIST, SPAN_ABSENT, SPAN("7"), &message, &out) == 0);
    cp_message_parse(&own, &again, buf_span(&out));
    must(own.kind == CP_KIND_REQUEST && own.method == CP_METHOD_TOOLS_LIST && own.era == message.era);
    must((own.params != NULL) == (own.era == CP_ERA_MODERN));
    buf_done(&out);
    buf_done(&meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = exactly((struct span){(const char *)data, size});
    struct span uri = exactly((struct span){text.p + size / 2, size - size / 2 < 16 ? size - size / 2 : 16});
    struct dice dice = dice_of(text);
    struct cp_answer answer;
    json_t *string = memchr(uri.p, '\0', uri.n) == NULL ? json_stringn(uri.p, uri.n) : NULL;

    check_capabilities(text, &dice);
    check_ack(text, string != NULL ? uri : SPAN("a"), &dice);
    check_listen(text, &dice);
    cp_answer_parse(&answer, &doc, text);
    check_content(answer.is_object ? answer.result : text, &dice);
    check_own(text, uri, string != NULL, &dice);
    check_question(text, uri, string != NULL);
    json_decref(string);
    free((char *)uri.p);
    free((char *)text.p);
    return 0;
}
