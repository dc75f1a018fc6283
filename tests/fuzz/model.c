/* SPDX-License-Identifier: Apache-2.0 */
/* Models of JSON texts by jansson. Not here: what is checked with them. */
#include "model.h"

struct dice dice_of(struct span input)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < input.n; i++)
        hash = (hash ^ (unsigned char)input.p[i]) * 0x100000001b3;
    return (struct dice){hash};
}

uint32_t dice_throw(struct dice *dice, uint32_t sides)
{
    dice->state = dice->state * 6364136223846793005 + 1442695040888963407;
    return (uint32_t)((dice->state >> 33) % sides);
}

/* --- reading --- */

static json_t *load(struct span text, json_error_t *error)
{
    return json_loadb(text.n == 0 ? "" : text.p, text.n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, error);
}

/* What jansson accepts, or would but for its own numbers: the value, or NULL. */
static json_t *load_or_too_big(struct span text)
{
    json_error_t error;
    json_t *value = load(text, &error);

    if (value == NULL && json_error_code(&error) != json_error_numeric_overflow)
        fprintf(stderr, "%s\n", error.text);
    must(value != NULL || json_error_code(&error) == json_error_numeric_overflow);
    return value;
}

/* The text with each number 1 as "n1" and each string value "x" as "sx"; names stay. Owned. */
static struct buf twin_of(const struct cp_json_doc *doc)
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

static bool same_bytes(struct span bytes, const json_t *string)
{
    return span_eq(bytes, (struct span){json_string_value(string) + 1, json_string_length(string) - 1});
}

/* Whether the doc's node, the model and, unless NULL, jansson's reading of the text itself are the same. */
static bool same_value(struct cp_json_doc *doc, const struct cp_json_node *node, const json_t *model, const json_t *plain)
{
    if (model == NULL)
        return false;
    switch ((enum cp_json_type)node->type) {
    case CP_JSON_NULL:
        return json_is_null(model) && (plain == NULL || json_is_null(plain));
    case CP_JSON_FALSE:
        return json_is_false(model) && (plain == NULL || json_is_false(plain));
    case CP_JSON_TRUE:
        return json_is_true(model) && (plain == NULL || json_is_true(plain));
    case CP_JSON_NUMBER: {
        struct span raw = cp_json_raw(doc, node);

        if (plain == NULL) {
            json_t *alone = load_or_too_big(raw);

            must(alone == NULL || json_is_number(alone));
            json_decref(alone);
        }
        return json_is_string(model) && same_bytes(raw, model) && (plain == NULL || json_is_number(plain));
    }
    case CP_JSON_STRING: {
        struct span text = cp_json_text(doc, node);

        if (plain != NULL &&
            (!json_is_string(plain) || !span_eq(text, (struct span){json_string_value(plain), json_string_length(plain)})))
            return false;
        return json_is_string(model) && same_bytes(text, model);
    }
    case CP_JSON_ARRAY: {
        const struct cp_json_node *element = cp_json_first(doc, node);

        if (!json_is_array(model) || json_array_size(model) != node->count)
            return false;
        if (plain != NULL && (!json_is_array(plain) || json_array_size(plain) != node->count))
            return false;
        for (size_t i = 0; i < node->count; i++, element = cp_json_next(doc, element)) {
            if (!same_value(doc, element, json_array_get(model, i), json_array_get(plain, i)))
                return false;
        }
        return element == NULL;
    }
    case CP_JSON_OBJECT: {
        const struct cp_json_node *member = cp_json_first(doc, node);

        if (!json_is_object(model) || json_object_size(model) != node->count)
            return false;
        if (plain != NULL && (!json_is_object(plain) || json_object_size(plain) != node->count))
            return false;
        for (; member != NULL; member = cp_json_next(doc, member)) {
            struct span name = cp_json_name(doc, member);
            char *key = strndup(name.p, name.n);
            bool same = same_value(doc, member, json_object_get(model, key), json_object_get(plain, key)) &&
                        (plain == NULL || json_object_get(plain, key) != NULL) && cp_json_member(doc, node, name) == member;

            free(key);
            if (!same)
                return false;
        }
        return true;
    }
    }
    return false;
}

json_t *model_of(struct cp_json_doc *doc)
{
    struct buf twin = twin_of(doc);
    json_t *plain = load_or_too_big(doc->text), *model;
    json_error_t error;

    model = load(buf_span(&twin), &error);
    if (model == NULL)
        fprintf(stderr, "%s\n", error.text);
    must(model != NULL);
    must(same_value(doc, cp_json_root(doc), model, plain));
    json_decref(plain);
    buf_done(&twin);
    return model;
}

/* --- writing --- */

static void add(struct buf *out, const char *text)
{
    must(buf_add_span(out, span_of(text)) == 0);
}

static void add_blanks(struct buf *out, struct dice *dice)
{
    static const char *const blanks[] = {"", "", "", "", " ", "\n", "\t", "\r\n  "};

    add(out, blanks[dice_throw(dice, 8)]);
}

static void add_unit(struct buf *out, unsigned unit, struct dice *dice)
{
    char escape[8];

    snprintf(escape, sizeof(escape), dice_throw(dice, 2) == 0 ? "\\u%04x" : "\\u%04X", unit);
    add(out, escape);
}

static void write_text(struct buf *out, const char *p, size_t n, struct dice *dice)
{
    static const char shorts[] = "\"\\/\b\f\n\r\t", letters[] = "\"\\/bfnrt";
    const char *end = p + n;

    add(out, "\"");
    while (p < end) {
        unsigned char c = (unsigned char)*p;
        unsigned bytes = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        unsigned code = bytes == 1 ? c : c & (0x7fu >> bytes);
        const char *named = memchr(shorts, c, sizeof(shorts) - 1);
        bool must_escape = c < 0x20 || c == '"' || c == '\\';

        for (unsigned i = 1; i < bytes; i++)
            code = code << 6 | ((unsigned char)p[i] & 0x3f);
        if (named != NULL && dice_throw(dice, 2) == 0) {
            must(buf_add(out, (char[]){'\\', letters[named - shorts]}, 2) == 0);
        } else if (must_escape || dice_throw(dice, 4) == 0) {
            if (code >= 0x10000) {
                add_unit(out, 0xd800 + ((code - 0x10000) >> 10), dice);
                code = 0xdc00 + (code & 0x3ff);
            }
            add_unit(out, code, dice);
        } else {
            must(buf_add(out, p, bytes) == 0);
        }
        p += bytes;
    }
    add(out, "\"");
}

static void write_value(struct buf *out, const json_t *model, struct dice *dice);

static void write_object(struct buf *out, const json_t *model, struct dice *dice)
{
    size_t count = json_object_size(model), n = 0;
    const char **names = calloc(count + 1, sizeof(*names));

    must(names != NULL);
    for (void *i = json_object_iter((json_t *)model); i != NULL; i = json_object_iter_next((json_t *)model, i))
        names[n++] = json_object_iter_key(i);
    for (size_t i = count; i > 1; i--) {
        size_t j = dice_throw(dice, (uint32_t)i);
        const char *swap = names[j];

        names[j] = names[i - 1];
        names[i - 1] = swap;
    }
    for (size_t i = 0; i < count; i++) {
        add(out, i == 0 ? "{" : ",");
        add_blanks(out, dice);
        write_text(out, names[i], strlen(names[i]), dice);
        add_blanks(out, dice);
        add(out, ":");
        write_value(out, json_object_get(model, names[i]), dice);
    }
    add(out, count == 0 ? "{" : "");
    add_blanks(out, dice);
    add(out, "}");
    free(names);
}

static void write_value(struct buf *out, const json_t *model, struct dice *dice)
{
    add_blanks(out, dice);
    switch (json_typeof(model)) {
    case JSON_NULL:
        add(out, "null");
        break;
    case JSON_FALSE:
        add(out, "false");
        break;
    case JSON_TRUE:
        add(out, "true");
        break;
    case JSON_STRING:
        if (json_string_value(model)[0] == 'n')
            add(out, json_string_value(model) + 1);
        else
            write_text(out, json_string_value(model) + 1, json_string_length(model) - 1, dice);
        break;
    case JSON_ARRAY:
        add(out, "[");
        for (size_t i = 0; i < json_array_size(model); i++) {
            add(out, i == 0 ? "" : ",");
            write_value(out, json_array_get(model, i), dice);
        }
        add_blanks(out, dice);
        add(out, "]");
        break;
    case JSON_OBJECT:
        write_object(out, model, dice);
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        must(false);
    }
    add_blanks(out, dice);
}

struct buf model_write(const json_t *model, struct dice *dice)
{
    struct buf out = {0};

    write_value(&out, model, dice);
    return out;
}

/* --- changing --- */

static size_t count_values(const json_t *model)
{
    size_t count = 1;

    for (size_t i = 0; i < json_array_size(model); i++)
        count += count_values(json_array_get(model, i));
    for (void *i = json_object_iter((json_t *)model); i != NULL; i = json_object_iter_next((json_t *)model, i))
        count += count_values(json_object_iter_value(i));
    return count;
}

/* Scalars that lie close to each other: what rounding, folding or a forgotten type would take for the same. */
static json_t *other_scalar(struct dice *dice)
{
    static const char *const scalars[] = {"n0",
                                          "n-0",
                                          "n0.0",
                                          "n0e0",
                                          "n1",
                                          "n1.0",
                                          "n1e0",
                                          "n1E0",
                                          "n10",
                                          "n9007199254740992",
                                          "n9007199254740993",
                                          "n1e400",
                                          "n18446744073709551616",
                                          "s",
                                          "s0",
                                          "s1",
                                          "snull",
                                          "strue",
                                          "s ",
                                          "s~",
                                          "sA",
                                          "sa",
                                          "s\xc3\xa9",
                                          "se\xcc\x81",
                                          "s\x7f"};

    switch (dice_throw(dice, 8)) {
    case 0:
        return json_null();
    case 1:
        return json_true();
    case 2:
        return json_false();
    default:
        return json_string(scalars[dice_throw(dice, sizeof(scalars) / sizeof(scalars[0]))]);
    }
}

/* One byte of ASCII more, or one character less. */
static json_t *other_text(const char *text, size_t n, struct dice *dice)
{
    size_t at = 1 + dice_throw(dice, (uint32_t)n), left;
    struct buf out = {0};
    json_t *changed;

    while (at < n && ((unsigned char)text[at] & 0xc0) == 0x80)
        at++;
    left = at;
    if (dice_throw(dice, 2) == 0) {
        must(buf_add(&out, text, at) == 0);
        must(buf_add(&out, &"a\"\\/{}[],:0 \n"[dice_throw(dice, 13)], 1) == 0);
    } else {
        if (left > 1)
            do
                left--;
            while (left > 1 && ((unsigned char)text[left] & 0xc0) == 0x80);
        must(buf_add(&out, text, left) == 0);
    }
    must(buf_add(&out, text + at, n - at) == 0);
    changed = json_stringn(out.p, out.n);
    buf_done(&out);
    return changed;
}

static json_t *other_array(const json_t *model, struct dice *dice)
{
    json_t *changed = json_copy((json_t *)model);
    size_t n = json_array_size(model), at = n == 0 ? 0 : dice_throw(dice, (uint32_t)n);

    switch (n == 0 ? 0 : dice_throw(dice, 3)) {
    case 0:
        json_array_insert_new(changed, at, other_scalar(dice));
        break;
    case 1:
        json_array_remove(changed, at);
        break;
    case 2:
        json_array_append(changed, json_array_get(model, at));
        json_array_remove(changed, at);
        break;
    }
    return changed;
}

/* A short name that nobody thought of, or one that means something somewhere. */
static const char *other_name(struct dice *dice)
{
    static const char *const names[] = {"",
                                        "A",
                                        "\xc3\xa9",
                                        "~",
                                        "\"",
                                        "0",
                                        "_meta",
                                        "name",
                                        "uri",
                                        "taskId",
                                        "arguments",
                                        "cursor",
                                        "task",
                                        "progressToken",
                                        "io.modelcontextprotocol/protocolVersion",
                                        "io.modelcontextprotocol/logLevel",
                                        "io.modelcontextprotocol/clientInfo",
                                        "traceparent",
                                        "tracestate",
                                        "baggage"};
    static char letters[3];

    if (dice_throw(dice, 2) == 0)
        return names[dice_throw(dice, sizeof(names) / sizeof(names[0]))];
    letters[0] = (char)('a' + dice_throw(dice, 26));
    letters[1] = dice_throw(dice, 4) == 0 ? (char)('a' + dice_throw(dice, 26)) : '\0';
    return letters;
}

static json_t *other_object(const json_t *model, struct dice *dice)
{
    json_t *changed = json_copy((json_t *)model), *value;
    size_t n = json_object_size(model), at = n == 0 ? 0 : dice_throw(dice, (uint32_t)n);
    void *member = json_object_iter(changed);
    char *name;

    for (; at > 0; at--)
        member = json_object_iter_next(changed, member);
    switch (n == 0 ? 0 : dice_throw(dice, 3)) {
    case 0:
        json_object_set_new(changed, other_name(dice), other_scalar(dice));
        break;
    case 1:
        json_object_del(changed, json_object_iter_key(member));
        break;
    case 2:
        name = strdup(json_object_iter_key(member));
        value = json_incref(json_object_iter_value(member));
        json_object_del(changed, name);
        json_object_set_new(changed, other_name(dice), value);
        free(name);
        break;
    }
    return changed;
}

static json_t *other_value(const json_t *model, struct dice *dice)
{
    switch (dice_throw(dice, 4)) {
    case 0:
        return other_scalar(dice);
    case 1: {
        json_t *list = json_array();

        json_array_append(list, (json_t *)model);
        return list;
    }
    default:
        break;
    }
    if (json_is_array(model))
        return other_array(model, dice);
    if (json_is_object(model))
        return other_object(model, dice);
    if (json_is_string(model) && json_string_value(model)[0] == 's')
        return other_text(json_string_value(model), json_string_length(model), dice);
    return other_scalar(dice);
}

/* A copy; the value that *left counts down to is another one. */
static json_t *copy_changed(const json_t *model, size_t *left, struct dice *dice)
{
    json_t *copy;

    if ((*left)-- == 0)
        return other_value(model, dice);
    if (json_is_array(model)) {
        copy = json_array();
        for (size_t i = 0; i < json_array_size(model); i++)
            json_array_append_new(copy, copy_changed(json_array_get(model, i), left, dice));
        return copy;
    }
    if (json_is_object(model)) {
        copy = json_object();
        for (void *i = json_object_iter((json_t *)model); i != NULL; i = json_object_iter_next((json_t *)model, i))
            json_object_set_new(copy, json_object_iter_key(i), copy_changed(json_object_iter_value(i), left, dice));
        return copy;
    }
    return json_incref((json_t *)model);
}

json_t *model_change(const json_t *model, struct dice *dice)
{
    size_t left = dice_throw(dice, (uint32_t)count_values(model));

    return copy_changed(model, &left, dice);
}
