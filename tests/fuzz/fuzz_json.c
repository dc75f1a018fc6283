/* SPDX-License-Identifier: Apache-2.0 */
/* The scanner and the canonical form against jansson.
 * One input is one text, or two that are parted by 0x1e. Always:
 * - of each text both say whether it is JSON (jansson has no numbers beyond its own, so it reads a twin of the text in
 * which numbers stand as strings);
 * - what both accept has the same shape, names and strings;
 * - the canonical form is valid, no longer than the text, means the same, and is its own canonical form;
 * - two texts have one canonical form exactly when jansson finds their twins equal. */
#include "fuzz.h"

#include <jansson.h>

#include "cachepolicy/canonical.h"

static struct cp_json_doc docs[2], again;

/* Whether the doc's node and jansson's value are the same, numbers aside. */
static bool same_value(struct cp_json_doc *doc, const struct cp_json_node *node, json_t *value)
{
    switch ((enum cp_json_type)node->type) {
    case CP_JSON_NULL:
        return json_is_null(value);
    case CP_JSON_FALSE:
        return json_is_false(value);
    case CP_JSON_TRUE:
        return json_is_true(value);
    case CP_JSON_NUMBER: {
        struct span raw = cp_json_raw(doc, node);

        return json_is_string(value) && span_eq(raw, (struct span){json_string_value(value) + 1, json_string_length(value) - 1});
    }
    case CP_JSON_STRING:
        return json_is_string(value) && json_string_length(value) > 0 &&
               span_eq(cp_json_text(doc, node), (struct span){json_string_value(value) + 1, json_string_length(value) - 1});
    case CP_JSON_ARRAY: {
        const struct cp_json_node *element = cp_json_first(doc, node);

        if (!json_is_array(value) || json_array_size(value) != node->count)
            return false;
        for (size_t i = 0; i < node->count; i++, element = cp_json_next(doc, element)) {
            if (!same_value(doc, element, json_array_get(value, i)))
                return false;
        }
        return element == NULL;
    }
    case CP_JSON_OBJECT: {
        const struct cp_json_node *member = cp_json_first(doc, node);

        if (!json_is_object(value) || json_object_size(value) != node->count)
            return false;
        for (; member != NULL; member = cp_json_next(doc, member)) {
            struct span name = cp_json_name(doc, member);
            char *key = strndup(name.p, name.n);
            json_t *other = json_object_get(value, key);

            free(key);
            if (other == NULL || !same_value(doc, member, other) || cp_json_member(doc, node, name) != member)
                return false;
        }
        return true;
    }
    }
    return false;
}

/* The text with each number 1 as "n1" and each string value "x" as "sx"; names stay. Owned. */
static struct buf twin(const struct cp_json_doc *doc)
{
    struct buf out = {0};
    uint32_t at = 0;

    for (uint32_t i = 0; i < doc->count; i++) {
        const struct cp_json_node *node = &doc->nodes[i];
        bool number = node->type == CP_JSON_NUMBER;

        if (!number && node->type != CP_JSON_STRING)
            continue;
        must(buf_add(&out, doc->text.p + at, node->start - at) == 0);
        must(buf_add_span(&out, number ? SPAN("\"n") : SPAN("\"s")) == 0);
        at = node->start + !number;
        must(buf_add(&out, doc->text.p + at, node->end - at) == 0);
        if (number)
            must(buf_add(&out, "\"", 1) == 0);
        at = node->end;
    }
    must(buf_add(&out, doc->text.p + at, doc->text.n - at) == 0);
    return out;
}

static json_t *load(struct span text, json_error_t *error)
{
    return json_loadb(text.n == 0 ? "" : text.p, text.n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, error);
}

/* Checks one text alone; its twin as jansson sees it and its canonical form when it is JSON, else NULL. */
static json_t *check(struct cp_json_doc *doc, struct span text, struct buf *ret_form)
{
    enum cp_json_status status = cp_json_scan(doc, text, &cp_json_strict);
    json_error_t error;
    json_t *value;
    struct buf other, form = {0}, form_again = {0};

    if (status != CP_JSON_OK) {
        must(cp_json_root(doc) == NULL);
        value = load(text, &error);
        if (value != NULL) {
            /* Jansson is more generous in depth only, and it loses a NUL that follows a number. */
            must(status == CP_JSON_DEEP || status == CP_JSON_MANY || memchr(text.p, '\0', text.n) != NULL);
            json_decref(value);
        }
        return NULL;
    }
    other = twin(doc);
    value = load(buf_span(&other), &error);
    if (value == NULL)
        fprintf(stderr, "%s\n", error.text);
    must(value != NULL);
    buf_done(&other);
    must(same_value(doc, cp_json_root(doc), value));

    must(cp_canonical(doc, cp_json_root(doc), NULL, 0, &form) == 0);
    must(form.n <= text.n);
    must(cp_json_scan(&again, buf_span(&form), &cp_json_strict) == CP_JSON_OK);
    must(same_value(&again, cp_json_root(&again), value));
    must(cp_canonical(&again, cp_json_root(&again), NULL, 0, &form_again) == 0);
    must(span_eq(buf_span(&form), buf_span(&form_again)));
    buf_done(&form_again);
    *ret_form = form;
    return value;
}

/* The reply's scan is the same grammar with less memory. */
static void check_reply(struct span text, enum cp_json_status strict)
{
    enum cp_json_status status = cp_json_scan(&again, text, &cp_json_reply);
    const struct cp_json_node *opened;

    if (strict == CP_JSON_OK)
        must(status == CP_JSON_OK);
    if (strict == CP_JSON_SYNTAX || strict == CP_JSON_UTF8)
        must(status != CP_JSON_OK);
    for (uint32_t i = 0, n = again.count; i < n; i++) {
        uint32_t count = again.nodes[i].count;

        if (cp_json_open(&again, &again.nodes[i], &opened) != CP_JSON_OK) {
            must(strict != CP_JSON_OK);
            continue;
        }
        for (opened = cp_json_first(&again, opened); opened != NULL; opened = cp_json_next(&again, opened))
            count--;
        must(count == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *parted = size == 0 ? NULL : memchr(data, 0x1e, size);
    struct span texts[2] = {{(const char *)data, size}, {0}};
    json_t *values[2] = {0};
    struct buf forms[2] = {0};
    int count = 1;

    if (parted != NULL) {
        texts[0].n = (size_t)(parted - data);
        texts[1] = (struct span){(const char *)parted + 1, size - texts[0].n - 1};
        count = 2;
    }
    for (int i = 0; i < count; i++) {
        texts[i] = exactly(texts[i]);
        values[i] = check(&docs[i], texts[i], &forms[i]);
        check_reply(texts[i], cp_json_scan(&docs[i], texts[i], &cp_json_strict));
    }
    if (values[0] != NULL && values[1] != NULL)
        must(json_equal(values[0], values[1]) == span_eq(buf_span(&forms[0]), buf_span(&forms[1])));
    for (int i = 0; i < count; i++) {
        json_decref(values[i]);
        buf_done(&forms[i]);
        free((char *)texts[i].p);
    }
    return 0;
}
