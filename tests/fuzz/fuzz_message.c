/* SPDX-License-Identifier: Apache-2.0 */
/* Messages. Always: nothing is read outside of the body; what is understood is consistent; a body in another spelling (model.h) is the same message with
 * the same key, and one with something changed has another key exactly when, by jansson's reading, it asks something else: another method, or other
 * params, less what is inert and what is ignored. */
#include "fuzz.h"

#include "cachepolicy/canonical.h"
#include "cachepolicy/key.h"
#include "cachepolicy/message.h"
#include "cachepolicy/pointer.h"
#include "model.h"

static struct cp_json_doc doc = {.request_depth = 512}, again = {.request_depth = 512};
static struct cp_keyer *keyer;
static struct cp_pointer ignore[2]; /* of "/a" and "/b/0" */

static bool lies_in(struct span piece, struct span whole)
{
    return piece.p == NULL || (piece.p >= whole.p && piece.p + piece.n <= whole.p + whole.n);
}

static struct buf form_of(const struct cp_message *message)
{
    struct buf form = {0};

    must(cp_message_canonical(message, ignore, 2, &form) == 0);
    return form;
}

/* The key of what is asked, from one caller at one place. */
static struct cp_key key_of(const struct cp_message *message)
{
    static const struct cp_principal principal;
    const struct cp_share share = {.scope = CP_SCOPE_PRINCIPAL, .principal = &principal};
    struct buf form = form_of(message);
    struct cp_question question = {
        .era = message->era, .version = message->version, .method = message->method, .params = buf_span(&form)};
    struct cp_key key;

    cp_key_of(keyer, &question, &share, &key);
    buf_done(&form);
    return key;
}

static bool same_key(const struct cp_key *a, const struct cp_key *b)
{
    bool same = memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;

    must(same == (memcmp(a->check, b->check, sizeof(a->check)) == 0));
    return same;
}

/* What a message asks, by the words of message.h: [method, params]. Owned. */
static json_t *asked_by(const json_t *model)
{
    static const char *const inert[] = {
        "progressToken", "io.modelcontextprotocol/logLevel", "io.modelcontextprotocol/clientInfo", "traceparent", "tracestate",
        "baggage"};
    const char *method = json_string_value(json_object_get(model, "method"));
    json_t *params = json_deep_copy(json_object_get(model, "params")), *meta = json_object_get(params, "_meta");
    json_t *arguments = json_object_get(params, "arguments"), *b;

    if (json_is_object(meta)) {
        for (size_t i = 0; i < sizeof(inert) / sizeof(inert[0]); i++)
            json_object_del(meta, inert[i]);
        if (json_object_size(meta) == 0)
            json_object_del(params, "_meta");
    }
    if (strcmp(method, "stools/call") == 0 || strcmp(method, "sprompts/get") == 0) {
        json_object_del(arguments, "a");
        b = json_object_get(arguments, "b");
        json_object_del(b, "0");
        if (json_array_size(b) > 0)
            json_array_set_new(b, 0, json_string("ignored"));
    }
    return json_pack("[s, o]", method, params == NULL ? json_string("absent") : params);
}

static bool is_read(const struct cp_message *message)
{
    return message->kind == CP_KIND_REQUEST || message->kind == CP_KIND_NOTIFICATION;
}

static void check_spelling(const struct cp_message *message, const json_t *model, struct dice *dice)
{
    struct buf body = model_write(model, dice);
    struct span exact = exactly(buf_span(&body));
    struct cp_key key = key_of(message), other_key;
    struct cp_message other;

    cp_message_parse(&other, &again, exact);
    must(other.kind == message->kind && other.method == message->method && other.era == message->era);
    must(other.is_malformed == message->is_malformed && other.is_task == message->is_task);
    must(other.is_continuation == message->is_continuation);
    must(span_eq(other.name, message->name) && (other.name.p == NULL) == (message->name.p == NULL));
    must(span_eq(other.method_text, message->method_text) && span_eq(other.version, message->version));
    must((other.params == NULL) == (message->params == NULL) && (other.arguments == NULL) == (message->arguments == NULL));
    must((other.id.p == NULL) == (message->id.p == NULL));
    must(message->id.p == NULL ||
         (message->id.p[0] == '"' ? cp_json_same_text(other.id, message->id) : span_eq(other.id, message->id)));
    other_key = key_of(&other);
    must(same_key(&key, &other_key));
    free((char *)exact.p);
    buf_done(&body);
}

enum change {
    CHANGE_ANYTHING,
    CHANGE_METHOD, /* and nothing else */
    CHANGE_PARAMS,
};

static json_t *changed_by(const json_t *model, enum change change, struct dice *dice)
{
    json_t *changed = json_copy((json_t *)model), *params = json_object_get(model, "params");
    char method[64];

    if (change == CHANGE_METHOD) {
        snprintf(method, sizeof(method), "s%s", cp_method_text((enum cp_method)dice_throw(dice, CP_METHOD_INITIALIZED + 1)));
        json_object_set_new(changed, "method", json_string(method));
    } else if (change == CHANGE_PARAMS && params != NULL) {
        json_object_set_new(changed, "params", model_change(params, dice));
    } else {
        json_decref(changed);
        changed = model_change(model, dice);
    }
    return changed;
}

static void check_change(const struct cp_message *message, const json_t *model, enum change change, struct dice *dice)
{
    json_t *changed = changed_by(model, change, dice), *asked = asked_by(model), *other_asked;
    struct cp_key key = key_of(message), other_key;
    struct cp_message other;
    struct buf body;
    bool same;

    body = model_write(changed, dice);
    cp_message_parse(&other, &again, buf_span(&body));
    if (is_read(&other)) {
        other_asked = asked_by(changed);
        other_key = key_of(&other);
        same = same_key(&key, &other_key);
        if (message->method != CP_METHOD_OTHER && other.method != CP_METHOD_OTHER)
            must(same == json_equal(asked, other_asked));
        else /* keys of these are never asked for: they tell other methods apart from those here, not from each other */
            must(json_equal(json_array_get(asked, 1), json_array_get(other_asked, 1)) || !same);
        json_decref(other_asked);
    }
    json_decref(asked);
    json_decref(changed);
    buf_done(&body);
}

/* Inert members come and go without a trace; any other one leaves one. */
static void check_inert(const struct cp_message *message)
{
    static const char *const members[] = {"\"progressToken\":1", "\"trace\\u0070arent\":{}",
                                          "\"io.modelcontextprotocol/clientInfo\":null", "\"com.example/x\":0"};
    struct span body = doc.text, meta = cp_json_raw(&doc, message->meta);
    size_t head = (size_t)(meta.p - body.p) + 1;
    struct buf form = {0};

    must(cp_message_canonical(message, NULL, 0, &form) == 0);
    for (int i = 0; i < 4; i++) {
        struct buf changed = {0}, other_form = {0};
        struct cp_message other;

        must(buf_add(&changed, body.p, head) == 0);
        must(buf_add_span(&changed, span_of(members[i])) == 0);
        if (message->meta->count > 0)
            must(buf_add(&changed, ",", 1) == 0);
        must(buf_add(&changed, body.p + head, body.n - head) == 0);
        cp_message_parse(&other, &again, buf_span(&changed));
        if (other.kind != CP_KIND_OPAQUE) { /* else the member was there already */
            must(cp_message_canonical(&other, NULL, 0, &other_form) == 0);
            must(span_eq(buf_span(&form), buf_span(&other_form)) == (i < 3));
        }
        buf_done(&changed);
        buf_done(&other_form);
    }
    buf_done(&form);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[32] = {7};
    struct span body = exactly((struct span){(const char *)data, size});
    struct dice dice = dice_of(body);
    struct cp_message message;
    json_t *model;

    if (keyer == NULL) {
        must(cp_keyer_new(secret, &keyer) == 0);
        must(cp_pointer_parse(SPAN("/a"), &ignore[0], NULL) == 0);
        must(cp_pointer_parse(SPAN("/b/0"), &ignore[1], NULL) == 0);
    }
    cp_message_parse(&message, &doc, body);
    must(lies_in(message.id, body) && lies_in(message.client_info, body));
    switch (message.kind) {
    case CP_KIND_OPAQUE:
        must(message.id.p == NULL && message.params == NULL);
        break;
    case CP_KIND_BATCH:
        must(cp_json_root(&doc)->type == CP_JSON_ARRAY);
        break;
    case CP_KIND_REQUEST:
        must(message.id.n > 0);
        __attribute__((fallthrough));
    case CP_KIND_NOTIFICATION:
        must(message.method_text.p != NULL);
        must((message.era == CP_ERA_MODERN) == (message.version.p != NULL) || message.is_malformed);
        model = model_of(&doc);
        check_spelling(&message, model, &dice);
        for (int i = 0; i < 4; i++)
            check_change(&message, model, i < CHANGE_PARAMS ? (enum change)i : CHANGE_PARAMS, &dice);
        json_decref(model);
        if (message.meta != NULL && !message.is_malformed)
            check_inert(&message);
        break;
    case CP_KIND_RESPONSE:
        must(message.method_text.p == NULL && message.params == NULL);
        break;
    }
    free((char *)body.p);
    return 0;
}
