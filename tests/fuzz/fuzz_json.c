/* SPDX-License-Identifier: Apache-2.0 */
/* The scanner and the canonical form against jansson (model.h says how it judges numbers that it cannot hold).
 * One input is one text, or two that are parted by 0x1e. Always:
 * - of each text both say whether it is JSON;
 * - what both accept has the same shape, names, strings and lexemes;
 * - the canonical form is valid, no longer than the text, means the same, and is its own canonical form;
 * - two texts have one canonical form exactly when they have one model: the two of the input, other spellings of each, and each with something
 *   changed. */
#include "fuzz.h"

#include "cachepolicy/canonical.h"
#include "model.h"

static struct cp_json_doc docs[2], again;

/* Deep enough that only the form's own limit counts. */
static const struct cp_json_limits limits = {.depth = 512, .record_depth = 0, .nodes = 1 << 20};

static struct buf form_of(struct cp_json_doc *doc)
{
    struct buf form = {0};

    must(cp_canonical(doc, cp_json_root(doc), NULL, 0, &form) == 0);
    return form;
}

/* Whether a spelling of the model has that form. */
static bool has_form(const json_t *model, struct span form, struct dice *dice)
{
    struct buf text = model_write(model, dice), other = {0};
    struct span exact = exactly(buf_span(&text));
    enum cp_json_status status = cp_json_scan(&again, exact, &limits);
    bool same = false;

    must(status == CP_JSON_OK || status == CP_JSON_DEEP);
    if (status == CP_JSON_OK) {
        other = form_of(&again);
        same = span_eq(buf_span(&other), form);
    }
    free((char *)exact.p);
    buf_done(&other);
    buf_done(&text);
    return same;
}

/* Checks one text alone; its model and its canonical form when it is JSON, else NULL. */
static json_t *check(struct cp_json_doc *doc, struct span text, struct buf *ret_form)
{
    enum cp_json_status status = cp_json_scan(doc, text, &limits);
    struct dice dice = dice_of(text);
    json_error_t error;
    json_t *model, *other;
    struct buf form, form_again;

    if (status != CP_JSON_OK) {
        must(cp_json_root(doc) == NULL);
        model = json_loadb(text.n == 0 ? "" : text.p, text.n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
        if (model != NULL) {
            /* Jansson is more generous in depth only, and it loses a NUL that follows a number. */
            must(status == CP_JSON_DEEP || status == CP_JSON_MANY || memchr(text.p, '\0', text.n) != NULL);
            json_decref(model);
        }
        return NULL;
    }
    model = model_of(doc);
    form = form_of(doc);
    must(form.n <= text.n);
    must(cp_json_scan(&again, buf_span(&form), &limits) == CP_JSON_OK);
    other = model_of(&again);
    must(json_equal(other, model));
    json_decref(other);
    form_again = form_of(&again);
    must(span_eq(buf_span(&form), buf_span(&form_again)));
    buf_done(&form_again);

    for (int i = 0; i < 2; i++)
        must(has_form(model, buf_span(&form), &dice));
    for (int i = 0; i < 3; i++) {
        other = model_change(model, &dice);
        must(has_form(other, buf_span(&form), &dice) == json_equal(other, model));
        json_decref(other);
    }
    *ret_form = form;
    return model;
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
    json_t *models[2] = {0};
    struct buf forms[2] = {0};
    int count = 1;

    if (parted != NULL) {
        texts[0].n = (size_t)(parted - data);
        texts[1] = (struct span){(const char *)parted + 1, size - texts[0].n - 1};
        count = 2;
    }
    for (int i = 0; i < count; i++) {
        texts[i] = exactly(texts[i]);
        models[i] = check(&docs[i], texts[i], &forms[i]);
        check_reply(texts[i], cp_json_scan(&docs[i], texts[i], &cp_json_strict));
    }
    if (models[0] != NULL && models[1] != NULL)
        must(json_equal(models[0], models[1]) == span_eq(buf_span(&forms[0]), buf_span(&forms[1])));
    for (int i = 0; i < count; i++) {
        json_decref(models[i]);
        buf_done(&forms[i]);
        free((char *)texts[i].p);
    }
    return 0;
}
