/* SPDX-License-Identifier: Apache-2.0 */
/* Orders to purge. Always: nothing is read outside of the text; what is refused has a sentence in UTF-8; and jansson, asked what the text says, comes to the same: an order
 * exactly when every member is one of ours and of its type, with the same names and flags. */
#include "fuzz.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "sidecar/admin/purge_order.h"

struct model {
    bool is_good;
    size_t names, headers;
    const struct purge_order *order; /* what was read, to be compared; NULL: nothing */
    struct cp_credential given[PURGE_ORDER_HEADERS_MAX];
};

static bool is_in(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    return false;
}

static void see_name(struct model *m, enum cp_subject kind, const json_t *value)
{
    static const char *const lists[] = {"tools/list", "resources/list", "resources/templates/list", "prompts/list",
                                        "server/discover"};
    struct span text = {json_string_value(value), json_string_length(value)};

    if (!json_is_string(value) || text.n == 0 || (kind == CP_SUBJECT_LIST && !is_in(text.p, lists, 5)) ||
        m->names == PURGE_ORDER_NAMES_MAX) {
        m->is_good = false;
        return;
    }
    if (m->order != NULL)
        must(m->names < m->order->name_count && m->order->names[m->names].kind == kind &&
             span_eq(m->order->names[m->names].text, text));
    m->names++;
}

static void see_names(struct model *m, enum cp_subject kind, const json_t *value)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(value)) {
        see_name(m, kind, value);
        return;
    }
    m->is_good &= json_array_size(value) > 0;
    json_array_foreach(value, i, item) see_name(m, kind, item);
}

static void see_value(struct model *m, const char *name, const json_t *value)
{
    struct span text = {json_string_value(value), json_string_length(value)}, trimmed;
    const struct cp_credential *header;

    if (!json_is_string(value) || m->headers == PURGE_ORDER_HEADERS_MAX) {
        m->is_good = false;
        return;
    }
    for (size_t i = 0; i < text.n; i++)
        m->is_good &= text.p[i] == '\t' || (text.p[i] != 0x7f && (unsigned char)text.p[i] >= ' ');
    if (m->order != NULL) {
        must(m->headers < m->order->header_count);
        header = &m->order->headers[m->headers];
        must(span_ieq(header->name, span_of(name)));
        for (size_t i = 0; i < header->name.n; i++)
            must(header->name.p[i] < 'A' || header->name.p[i] > 'Z');
        trimmed = span_trim(text);
        must(span_eq(header->value, trimmed));
    }
    m->headers++;
}

static void see_principal(struct model *m, json_t *value)
{
    const json_t *member, *item, *other;
    const char *name, *other_name;
    size_t i;

    m->is_good &= json_is_object(value) && json_object_size(value) <= PURGE_ORDER_HEADERS_MAX;
    json_object_foreach(value, name, member)
    {
        m->is_good &= *name != '\0' &&
                      strspn(name, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(name);
        json_object_foreach(value, other_name, other) m->is_good &=
            other == member || !span_ieq(span_of(name), span_of(other_name));
        if (!json_is_array(member)) {
            see_value(m, name, member);
            continue;
        }
        m->is_good &= json_array_size(member) > 0;
        json_array_foreach(member, i, item) see_value(m, name, item);
    }
}

/* In the order of the text, as jansson keeps it. */
static void see(struct model *m, json_t *root)
{
    unsigned kinds = 0;
    bool is_soft = false, is_dry_run = false;
    const char *name;
    json_t *value;

    m->is_good = json_is_object(root);
    json_object_foreach(root, name, value)
    {
        if (strcmp(name, "tool") == 0) {
            kinds |= PURGE_ORDER_TOOL;
            see_names(m, CP_SUBJECT_TOOL, value);
        } else if (strcmp(name, "list") == 0) {
            kinds |= PURGE_ORDER_LIST;
            see_names(m, CP_SUBJECT_LIST, value);
        } else if (strcmp(name, "uri") == 0) {
            kinds |= PURGE_ORDER_URI;
            see_names(m, CP_SUBJECT_URI, value);
        } else if (strcmp(name, "tag") == 0) {
            kinds |= PURGE_ORDER_TAG;
            see_names(m, CP_SUBJECT_TAG, value);
        } else if (strcmp(name, "all") == 0) {
            kinds |= PURGE_ORDER_ALL;
            m->is_good &= json_is_true(value);
        } else if (strcmp(name, "principal") == 0) {
            kinds |= PURGE_ORDER_PRINCIPAL;
            see_principal(m, value);
        } else if (strcmp(name, "soft") == 0) {
            is_soft = json_is_true(value);
            m->is_good &= json_is_boolean(value);
        } else if (strcmp(name, "dry_run") == 0) {
            is_dry_run = json_is_true(value);
            m->is_good &= json_is_boolean(value);
        } else {
            m->is_good = false;
        }
    }
    m->is_good &= kinds != 0;
    if (m->order != NULL)
        must(m->order->kinds == kinds && m->order->is_soft == is_soft && m->order->is_dry_run == is_dry_run &&
             m->order->name_count == m->names && m->order->header_count == m->headers);
}

static bool is_utf8(struct span text)
{
    json_t *value = json_stringn(text.p, text.n);

    json_decref(value);
    return value != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct purge_order order;
    struct span text = exactly((struct span){(const char *)data, size});
    struct cp_json_doc doc = {.count = 0};
    struct cp_error error = {.text = ""};
    struct model model = {.names = 0};
    json_error_t why;
    json_t *root = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    int r;

    memset(&order, 0, sizeof(order));
    r = purge_order_parse(&order, &doc, text, &error);
    must(r == 0 || r == -EINVAL);
    if (r == 0) {
        must(root != NULL);
        model.order = &order;
    } else {
        must(*error.text != '\0' && strlen(error.text) < sizeof(error.text) - 1 && is_utf8(span_of(error.text)));
    }
    if (root != NULL)
        see(&model, root);
    must(model.is_good == (r == 0));
    json_decref(root);
    purge_order_done(&order);
    cp_json_done(&doc);
    free((char *)text.p);
    return 0;
}
