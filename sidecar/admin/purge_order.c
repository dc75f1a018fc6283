/* SPDX-License-Identifier: Apache-2.0 */
/* Orders to purge. Always: a body that says more than what is understood is refused, since whoever wrote it expects more to be purged than would be. */
#include "sidecar/admin/purge_order.h"

#include <errno.h>

#define QUOTED_MAX 60

/* What a sentence quotes of a stranger's text: not cut within a character. */
static struct span quoted(struct span text)
{
    size_t n = text.n;

    if (n > QUOTED_MAX)
        for (n = QUOTED_MAX; n != 0 && ((unsigned char)text.p[n] & 0xc0) == 0x80;)
            --n;
    return (struct span){text.p != NULL ? text.p : "", n};
}

#define QUOTED(span_) (int)quoted(span_).n, quoted(span_).p

static int refuse(struct cp_error *reterr, const char *sentence)
{
    cp_error_set(reterr, "", 0, 0, "%s", sentence);
    return -EINVAL;
}

struct parse {
    struct purge_order *order;
    struct cp_json_doc *doc;
    struct cp_error *error;
};

static bool is_list(struct span text)
{
    static const enum cp_method lists[] = {CP_METHOD_TOOLS_LIST, CP_METHOD_RESOURCES_LIST, CP_METHOD_RESOURCE_TEMPLATES_LIST,
                                           CP_METHOD_PROMPTS_LIST, CP_METHOD_DISCOVER};

    for (size_t i = 0; i != sizeof(lists) / sizeof(lists[0]); ++i)
        if (span_eq(text, span_of(cp_method_text(lists[i]))))
            return true;
    return false;
}

static int add_name(struct parse *p, struct span member, enum cp_subject kind, const struct cp_json_node *value)
{
    struct purge_order *order = p->order;
    struct span text = cp_json_text(p->doc, value);

    if (value->type != CP_JSON_STRING) {
        cp_error_set(p->error, "", 0, 0, "'%.*s' must be a string, or an array of strings", QUOTED(member));
        return -EINVAL;
    }
    if (text.p == NULL)
        return -ENOMEM;
    if (text.n == 0) {
        cp_error_set(p->error, "", 0, 0, "'%.*s' is empty, which names nothing; everything is {\"all\": true}", QUOTED(member));
        return -EINVAL;
    }
    if (kind == CP_SUBJECT_LIST && !is_list(text)) {
        cp_error_set(
            p->error, "", 0, 0,
            "'%.*s' is no list; choose tools/list, resources/list, resources/templates/list, prompts/list or server/discover",
            QUOTED(text));
        return -EINVAL;
    }
    if (order->name_count == PURGE_ORDER_NAMES_MAX) {
        cp_error_set(p->error, "", 0, 0, "more than %d names in one purge; send several", PURGE_ORDER_NAMES_MAX);
        return -EINVAL;
    }
    order->names[order->name_count++] = (struct purge_order_name){kind, text};
    return 0;
}

static int add_names(struct parse *p, struct span member, enum cp_subject kind, const struct cp_json_node *value)
{
    int r = 0;

    if (value->type != CP_JSON_ARRAY)
        return add_name(p, member, kind, value);
    if (value->count == 0) {
        cp_error_set(p->error, "", 0, 0, "'%.*s' is empty, which names nothing; everything is {\"all\": true}", QUOTED(member));
        return -EINVAL;
    }
    for (const struct cp_json_node *item = cp_json_first(p->doc, value); r == 0 && item != NULL; item = cp_json_next(p->doc, item))
        r = add_name(p, member, kind, item);
    return r;
}

/* RFC 9110 5.6.2 */
static bool is_token(struct span text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i != text.n; ++i) {
        char c = text.p[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) &&
            (c == '\0' || strchr(others, c) == NULL))
            return false;
    }
    return text.n != 0;
}

static bool is_value(struct span text)
{
    for (size_t i = 0; i != text.n; ++i)
        if (((unsigned char)text.p[i] < ' ' && text.p[i] != '\t') || text.p[i] == 0x7f)
            return false;
    return true;
}

static int add_header(struct parse *p, struct span name, const struct cp_json_node *value)
{
    struct purge_order *order = p->order;
    struct span text = cp_json_text(p->doc, value);

    if (value->type == CP_JSON_STRING && text.p == NULL)
        return -ENOMEM;
    if (value->type != CP_JSON_STRING || !is_value(text)) {
        cp_error_set(p->error, "", 0, 0, "principal: '%.*s' must be what such a header says, or an array of that", QUOTED(name));
        return -EINVAL;
    }
    if (order->header_count == PURGE_ORDER_HEADERS_MAX) {
        cp_error_set(p->error, "", 0, 0, "principal: more than %d headers", PURGE_ORDER_HEADERS_MAX);
        return -EINVAL;
    }
    order->headers[order->header_count++] = (struct cp_credential){name, span_trim(text)};
    return 0;
}

/* A header's name as requests are read: in lower case. Room for it was made before. */
static struct span lower(struct purge_order *order, struct span name)
{
    char *p = order->lower.p + order->lower.n;

    for (size_t i = 0; i != name.n; ++i)
        p[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] + 32) : name.p[i];
    order->lower.n += name.n;
    return (struct span){p, name.n};
}

static int add_principal(struct parse *p, const struct cp_json_node *value)
{
    struct purge_order *order = p->order;
    int r = 0;

    if (value->type != CP_JSON_OBJECT)
        return refuse(p->error, "'principal' must be an object of credential headers, like {\"authorization\": \"Bearer ...\"}");
    if (value->count > PURGE_ORDER_HEADERS_MAX) {
        cp_error_set(p->error, "", 0, 0, "principal: more than %d headers", PURGE_ORDER_HEADERS_MAX);
        return -EINVAL;
    }
    /* decoding never lengthens, so all names fit into what the object takes; none moves */
    if ((r = buf_reserve(&order->lower, value->end - value->start)) != 0)
        return r;
    for (const struct cp_json_node *member = cp_json_first(p->doc, value); r == 0 && member != NULL;
         member = cp_json_next(p->doc, member)) {
        struct span name = cp_json_name(p->doc, member);

        if (name.p == NULL)
            return -ENOMEM;
        if (!is_token(name)) {
            cp_error_set(p->error, "", 0, 0, "principal: '%.*s' is no name of a header", QUOTED(name));
            return -EINVAL;
        }
        name = lower(order, name);
        for (size_t i = 0; i != order->header_count; ++i)
            if (span_eq(order->headers[i].name, name)) {
                cp_error_set(p->error, "", 0, 0, "principal: '%.*s' stands there twice; one that comes twice is an array",
                             QUOTED(name));
                return -EINVAL;
            }
        if (member->type != CP_JSON_ARRAY) {
            r = add_header(p, name, member);
            continue;
        }
        if (member->count == 0) {
            cp_error_set(p->error, "", 0, 0, "principal: '%.*s' is empty; leave it out if it is not sent", QUOTED(name));
            return -EINVAL;
        }
        for (const struct cp_json_node *item = cp_json_first(p->doc, member); r == 0 && item != NULL;
             item = cp_json_next(p->doc, item))
            r = add_header(p, name, item);
    }
    return r;
}

static int read_flag(struct parse *p, struct span member, const struct cp_json_node *value, bool *ret)
{
    if (value->type != CP_JSON_TRUE && value->type != CP_JSON_FALSE) {
        cp_error_set(p->error, "", 0, 0, "'%.*s' must be true or false", QUOTED(member));
        return -EINVAL;
    }
    *ret = value->type == CP_JSON_TRUE;
    return 0;
}

static int read_member(struct parse *p, struct span name, const struct cp_json_node *value)
{
    static const struct {
        struct span member;
        enum purge_order_kind bit;
        enum cp_subject kind;
    } kinds[] = {
        {SPAN_OF("tool"), PURGE_ORDER_TOOL, CP_SUBJECT_TOOL},
        {SPAN_OF("list"), PURGE_ORDER_LIST, CP_SUBJECT_LIST},
        {SPAN_OF("uri"), PURGE_ORDER_URI, CP_SUBJECT_URI},
        {SPAN_OF("tag"), PURGE_ORDER_TAG, CP_SUBJECT_TAG},
    };

    for (size_t i = 0; i != sizeof(kinds) / sizeof(kinds[0]); ++i)
        if (span_eq(name, kinds[i].member)) {
            p->order->kinds |= kinds[i].bit;
            return add_names(p, name, kinds[i].kind, value);
        }
    if (span_eq(name, SPAN("all"))) {
        p->order->kinds |= PURGE_ORDER_ALL;
        return value->type == CP_JSON_TRUE ? 0 : refuse(p->error, "'all' is true, or it is left out");
    }
    if (span_eq(name, SPAN("principal"))) {
        p->order->kinds |= PURGE_ORDER_PRINCIPAL;
        return add_principal(p, value);
    }
    if (span_eq(name, SPAN("soft")))
        return read_flag(p, name, value, &p->order->is_soft);
    if (span_eq(name, SPAN("dry_run")))
        return read_flag(p, name, value, &p->order->is_dry_run);
    cp_error_set(p->error, "", 0, 0,
                 "'%.*s' is no member of a purge; there are all, tool, list, uri, tag, principal, soft and dry_run", QUOTED(name));
    return -EINVAL;
}

static int refuse_text(enum cp_json_status status, struct cp_error *reterr)
{
    switch (status) {
    case CP_JSON_OK:
        break;
    case CP_JSON_SYNTAX:
        return refuse(reterr, "the body is not JSON; write it like {\"tag\": \"account:1\"}");
    case CP_JSON_UTF8:
    case CP_JSON_SURROGATE:
    case CP_JSON_NUL:
        return refuse(reterr, "the body has text that is no Unicode, or a NUL");
    case CP_JSON_DUPLICATE:
        return refuse(reterr, "the body names a member twice; several names of one kind are an array");
    case CP_JSON_DEEP:
    case CP_JSON_MANY:
    case CP_JSON_LARGE:
        return refuse(reterr, "the body is no purge: it has far too many parts");
    case CP_JSON_NOMEM:
        return -ENOMEM;
    }
    return 0;
}

int purge_order_parse(struct purge_order *ret, struct cp_json_doc *doc, struct span body, struct cp_error *reterr)
{
    struct parse p = {ret, doc, reterr};
    const struct cp_json_node *root;
    int r = refuse_text(cp_json_scan(doc, body, &cp_json_strict), reterr);

    if (r != 0)
        return r;
    root = cp_json_root(doc);
    if (root->type != CP_JSON_OBJECT)
        return refuse(reterr, "the body must be a JSON object, like {\"tag\": \"account:1\"}");
    for (const struct cp_json_node *member = cp_json_first(doc, root); r == 0 && member != NULL;
         member = cp_json_next(doc, member)) {
        struct span name = cp_json_name(doc, member);

        r = name.p != NULL ? read_member(&p, name, member) : -ENOMEM;
    }
    if (r == 0 && ret->kinds == 0)
        return refuse(reterr, "nothing is named to be purged; name all, tool, list, uri, tag or principal");
    return r;
}

void purge_order_done(struct purge_order *order)
{
    buf_done(&order->lower);
}
