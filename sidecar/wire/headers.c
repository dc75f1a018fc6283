/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP headers in both directions. Not here: whether headers and body agree (cachepolicy/agree.c), who the caller is (flow).
 * Always: what is not hop-by-hop passes as it came; framing is never copied, because libh2o reads it leniently and our own is right.
 * Thread: the request's loop. */
#include "sidecar/wire/headers.h"

#include <stdlib.h>

static struct span span_iov(h2o_iovec_t v)
{
    return (struct span){v.base, v.len};
}

/* Calls fn for each comma-separated element, trimmed. Stops when fn says true. */
static bool any_element(struct span list, bool (*fn)(struct span element, void *ctx), void *ctx)
{
    while (list.n != 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma != NULL ? (size_t)(comma - list.p) : list.n;
        struct span element = span_trim((struct span){list.p, n});

        if (element.n != 0 && fn(element, ctx))
            return true;
        if (comma == NULL)
            break;
        list = (struct span){comma + 1, list.n - n - 1};
    }
    return false;
}

/* The part before the first ';' */
static struct span without_parameters(struct span element)
{
    const char *semicolon = memchr(element.p, ';', element.n);

    return semicolon != NULL ? span_trim((struct span){element.p, (size_t)(semicolon - element.p)}) : element;
}

/* ";q=0" with any number of zeros after the point refuses what it stands behind */
static bool is_refused(struct span element)
{
    const char *p = element.p, *end = element.p + element.n;

    while (p < end && (p = memchr(p, ';', (size_t)(end - p))) != NULL) {
        struct span parameter = span_trim((struct span){p + 1, (size_t)(end - p - 1)});

        if (parameter.n >= 3 && (parameter.p[0] == 'q' || parameter.p[0] == 'Q') && parameter.p[1] == '=' &&
            parameter.p[2] == '0') {
            size_t i = 3;

            if (i < parameter.n && parameter.p[i] == '.')
                for (++i; i < parameter.n && parameter.p[i] == '0'; ++i)
                    ;
            if (i == parameter.n || parameter.p[i] == ';' || parameter.p[i] == ' ' || parameter.p[i] == '\t')
                return true;
        }
        ++p;
    }
    return false;
}

/* What the Accept fields say of JSON: the most specific range decides (RFC 9110 12.5.1), wherever it stands. */
struct accept {
    int specificity; /* of the range that decides so far; 0: none */
    bool admits;
};

static bool read_range(struct span element, void *ctx)
{
    struct accept *accept = ctx;
    struct span type = without_parameters(element);
    int specificity = span_ieq(type, SPAN("application/json")) ? 3
                      : span_ieq(type, SPAN("application/*"))  ? 2
                      : span_ieq(type, SPAN("*/*"))            ? 1
                                                               : 0;

    if (specificity == 0 || specificity < accept->specificity)
        return false;
    accept->admits = (specificity > accept->specificity || accept->admits) && !is_refused(element);
    accept->specificity = specificity;
    return false;
}

static bool is_events(struct span element, void *ctx)
{
    (void)ctx;
    return span_ieq(without_parameters(element), SPAN("text/event-stream")) && !is_refused(element);
}

/* A cache directive's name: the part before its '=' */
static struct span directive_of(struct span element)
{
    const char *equals = memchr(element.p, '=', element.n);

    return equals != NULL ? (struct span){element.p, (size_t)(equals - element.p)} : element;
}

static bool is_directive(struct span element, void *ctx)
{
    return span_ieq(span_trim(directive_of(element)), *(const struct span *)ctx);
}

static bool has_directive(struct span value, struct span directive)
{
    return any_element(value, is_directive, &directive);
}

static void set_once(struct span *field, struct span value, bool *repeated)
{
    if (field->p != NULL)
        *repeated = true;
    else
        *field = value;
}

/* A present but empty value still has a place in memory, so that absent and empty stay apart. */
static struct span present(h2o_iovec_t v)
{
    return v.base != NULL ? span_iov(v) : SPAN("");
}

/* This type, with no parameter but charset=utf-8: JSON and event streams have no other encoding, but whoever reads them decodes by what stands here */
static bool is_plain(struct span value, struct span wanted)
{
    struct span type = without_parameters(span_trim(value)), rest;
    const char *semicolon = memchr(value.p, ';', value.n);

    if (!span_ieq(type, wanted))
        return false;
    if (semicolon == NULL)
        return true;
    rest = span_trim((struct span){semicolon + 1, (size_t)(value.p + value.n - semicolon - 1)});
    return rest.n == 0 || span_ieq(rest, SPAN("charset=utf-8")) || span_ieq(rest, SPAN("charset=\"utf-8\""));
}

static bool is_other_header(struct span element, void *ctx)
{
    (void)ctx;
    return !span_ieq(element, SPAN("close")) && !span_ieq(element, SPAN("keep-alive")) && !span_ieq(element, SPAN("te")) &&
           !span_ieq(element, SPAN("upgrade"));
}

/* What libh2o puts in the place of a missing Host is no word of the client's. */
static struct span authority_of(h2o_req_t *req)
{
    if (req->hostconf != NULL && req->input.authority.base == req->hostconf->authority.hostport.base)
        return SPAN_ABSENT;
    return span_iov(req->input.authority);
}

void wire_request_read(h2o_req_t *req, struct wire_request *ret)
{
    struct accept accept = {.specificity = 0};
    bool saw_accept = false, is_encoded = false;
    size_t content_types = 0;

    memset(ret, 0, offsetof(struct wire_request, params));
    ret->param_count = 0;
    ret->too_many_params = false;
    ret->origin = SPAN_ABSENT;
    ret->origin_repeated = ret->body_is_plain = ret->hides_headers = false;
    ret->no_cache = ret->no_store = ret->only_if_cached = ret->accepts_events = false;
    ret->method = span_iov(req->input.method);
    ret->path = span_iov(req->input.path);
    ret->authority = authority_of(req);

    for (size_t i = 0; i != req->headers.size; ++i) {
        const h2o_header_t *h = &req->headers.entries[i];
        struct span name = span_iov(*h->name), value = present(h->value);

        switch (name.n) {
        case 6:
            if (h->name == &H2O_TOKEN_ACCEPT->buf) {
                saw_accept = true;
                any_element(value, read_range, &accept);
                ret->accepts_events |= any_element(value, is_events, NULL);
            } else if (span_eq(name, SPAN("origin"))) {
                set_once(&ret->origin, value, &ret->origin_repeated);
            } else if (span_eq(name, SPAN("pragma"))) {
                ret->no_cache |= has_directive(value, SPAN("no-cache"));
            }
            break;
        case 8:
            if (span_eq(name, SPAN("mcp-name")))
                set_once(&ret->mirror.name, value, &ret->mirror.repeated);
            break;
        case 10:
            if (h->name == &H2O_TOKEN_CONNECTION->buf)
                ret->hides_headers |= any_element(value, is_other_header, NULL);
            else if (span_eq(name, SPAN("mcp-method")))
                set_once(&ret->mirror.method, value, &ret->mirror.repeated);
            break;
        case 12:
            if (h->name == &H2O_TOKEN_CONTENT_TYPE->buf)
                ret->body_is_plain = ++content_types == 1 && is_plain(value, SPAN("application/json"));
            break;
        case 13:
            if (span_eq(name, SPAN("cache-control"))) {
                ret->no_cache |= has_directive(value, SPAN("no-cache"));
                ret->no_store |= has_directive(value, SPAN("no-store"));
                ret->only_if_cached |= has_directive(value, SPAN("only-if-cached"));
            }
            break;
        case 14:
            if (span_eq(name, SPAN("mcp-session-id")))
                set_once(&ret->session, value, &ret->mirror.repeated);
            break;
        case 16:
            is_encoded |= h->name == &H2O_TOKEN_CONTENT_ENCODING->buf;
            break;
        case 20:
            if (span_eq(name, SPAN("mcp-protocol-version")))
                set_once(&ret->mirror.version, value, &ret->mirror.repeated);
            break;
        default:
            break;
        }
        if (name.n > 10 && memcmp(name.p, "mcp-param-", 10) == 0) {
            struct cp_mirror_param param = {{name.p + 10, name.n - 10}, value};

            for (size_t k = 0; k != ret->param_count; ++k)
                if (span_eq(ret->params[k].name, param.name))
                    ret->mirror.repeated = true;
            if (ret->param_count == WIRE_PARAMS_MAX)
                ret->too_many_params = true;
            else
                ret->params[ret->param_count++] = param;
        }
    }
    ret->body_is_plain &= !is_encoded;
    ret->accepts_json = !saw_accept || accept.admits;
}

bool wire_has_header(h2o_req_t *req, struct span name)
{
    for (size_t i = 0; i != req->headers.size; ++i)
        if (span_eq(span_iov(*req->headers.entries[i].name), name))
            return true;
    return false;
}

struct span wire_header(h2o_req_t *req, struct span name)
{
    struct span found = SPAN_ABSENT;
    size_t count = 0, bytes = 0;
    char *joined, *p;

    for (size_t i = 0; i != req->headers.size; ++i) {
        const h2o_header_t *h = &req->headers.entries[i];

        if (span_eq(span_iov(*h->name), name)) {
            found = present(h->value);
            bytes += found.n + sizeof(size_t);
            ++count;
        }
    }
    if (count <= 1)
        return found;
    /* a NUL cannot come over the wire, so a joined value equals no single one */
    p = joined = h2o_mem_alloc_pool(&req->pool, bytes + 1);
    *p++ = '\0';
    for (size_t i = 0; i != req->headers.size; ++i) {
        const h2o_header_t *h = &req->headers.entries[i];

        if (span_eq(span_iov(*h->name), name)) {
            memcpy(p, &h->value.len, sizeof(size_t));
            p += sizeof(size_t);
            h2o_memcpy(p, h->value.base, h->value.len);
            p += h->value.len;
        }
    }
    return (struct span){joined, bytes + 1};
}

static bool is_hop_by_hop(struct span name)
{
    static const struct span names[] = {
        SPAN_OF("connection"), SPAN_OF("keep-alive"),        SPAN_OF("proxy-connection"), SPAN_OF("te"),
        SPAN_OF("trailer"),    SPAN_OF("transfer-encoding"), SPAN_OF("upgrade"),          SPAN_OF("content-length"),
    };

    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i)
        if (span_eq(name, names[i]))
            return true;
    return false;
}

bool wire_is_inert(struct span name)
{
    /* families whose every member is known to be harmless; anything wider would let an upstream's own header in */
    static const struct span prefixes[] = {
        SPAN_OF("mcp-param-"), SPAN_OF("sec-fetch-"), SPAN_OF("sec-ch-"), SPAN_OF("x-b3-"), SPAN_OF("x-datadog-"),
    };
    static const struct span names[] = {
        /* negotiated or checked here */
        SPAN_OF("accept"),
        SPAN_OF("accept-charset"),
        SPAN_OF("accept-encoding"),
        SPAN_OF("accept-language"),
        SPAN_OF("cache-control"),
        SPAN_OF("content-encoding"),
        SPAN_OF("content-type"),
        SPAN_OF("last-event-id"),
        SPAN_OF("mcp-protocol-version"),
        SPAN_OF("mcp-session-id"),
        SPAN_OF("origin"),
        SPAN_OF("pragma"),
        /* of the client's software */
        SPAN_OF("access-control-request-headers"),
        SPAN_OF("access-control-request-method"),
        SPAN_OF("date"),
        SPAN_OF("dnt"),
        SPAN_OF("priority"),
        SPAN_OF("referer"),
        SPAN_OF("sec-gpc"),
        SPAN_OF("user-agent"),
        /* of the way that the request took */
        SPAN_OF("b3"),
        SPAN_OF("baggage"),
        SPAN_OF("cf-connecting-ip"),
        SPAN_OF("cf-ray"),
        SPAN_OF("correlation-id"),
        SPAN_OF("elastic-apm-traceparent"),
        SPAN_OF("request-id"),
        SPAN_OF("sentry-trace"),
        SPAN_OF("traceparent"),
        SPAN_OF("tracestate"),
        SPAN_OF("true-client-ip"),
        SPAN_OF("uber-trace-id"),
        SPAN_OF("via"),
        SPAN_OF("x-amzn-trace-id"),
        SPAN_OF("x-cloud-trace-context"),
        SPAN_OF("x-correlation-id"),
        SPAN_OF("x-forwarded-for"),
        SPAN_OF("x-real-ip"),
        SPAN_OF("x-request-id"),
        SPAN_OF("x-request-start"),
    };

    /* what does not travel on, no upstream can answer by */
    if (name.n == 0 || is_hop_by_hop(name))
        return true;
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i)
        if (span_eq(name, names[i]))
            return true;
    for (size_t i = 0; i != sizeof(prefixes) / sizeof(prefixes[0]); ++i)
        if (name.n >= prefixes[i].n && memcmp(name.p, prefixes[i].p, prefixes[i].n) == 0)
            return true;
    return false;
}

static bool is_named(struct span element, void *ctx)
{
    return span_ieq(element, *(struct span *)ctx);
}

static bool is_named_by_connection(const h2o_header_t *headers, size_t count, struct span name)
{
    for (size_t i = 0; i != count; ++i)
        if (headers[i].name == &H2O_TOKEN_CONNECTION->buf && any_element(span_iov(headers[i].value), is_named, &name))
            return true;
    return false;
}

static bool has_connection_header(const h2o_header_t *headers, size_t count)
{
    for (size_t i = 0; i != count; ++i)
        if (headers[i].name == &H2O_TOKEN_CONNECTION->buf)
            return true;
    return false;
}

/* What only the request that carries it means: it mirrors or describes its body, resumes its stream, says under which conditions and in which form its answer is wanted,
 * or follows its trace. */
static bool is_of_one_request(struct span name)
{
    static const struct span prefixes[] = {SPAN_OF("mcp-param-"), SPAN_OF("if-")};
    static const struct span names[] = {
        SPAN_OF("accept"), SPAN_OF("cache-control"), SPAN_OF("content-encoding"), SPAN_OF("content-type"),
        SPAN_OF("expect"), SPAN_OF("last-event-id"), SPAN_OF("mcp-method"),       SPAN_OF("mcp-name"),
        SPAN_OF("pragma"), SPAN_OF("range"),         SPAN_OF("traceparent"),      SPAN_OF("tracestate"),
    };

    for (size_t i = 0; i != sizeof(prefixes) / sizeof(prefixes[0]); ++i)
        if (name.n > prefixes[i].n && memcmp(name.p, prefixes[i].p, prefixes[i].n) == 0)
            return true;
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i)
        if (span_eq(name, names[i]))
            return true;
    return false;
}

char *wire_request_head(h2o_req_t *req, const struct wire_head *options, size_t *ret_bytes)
{
    const h2o_header_t *headers = req->headers.entries;
    size_t count = req->headers.size;
    bool connection = has_connection_header(headers, count);
    struct span method = options->is_own ? SPAN("POST") : span_iov(req->input.method);
    size_t cap = method.n + req->input.path.len + options->host.n + options->own_method.n + 320;
    size_t body_bytes = options->is_own || options->has_own_body ? options->body_bytes : req->entity.len;
    char *head, *p;

    for (size_t i = 0; i != count; ++i)
        cap += headers[i].name->len + headers[i].value.len + 4;
    if ((p = head = malloc(cap)) == NULL)
        return NULL;
#define ADD(bytes_, n_)                                                                                                            \
    do {                                                                                                                           \
        h2o_memcpy(p, bytes_, n_);                                                                                                 \
        p += (n_);                                                                                                                 \
    } while (0)
#define ADD_LITERAL(text) ADD(text, sizeof(text) - 1)
    ADD(method.p, method.n);
    ADD_LITERAL(" ");
    ADD(req->input.path.base, req->input.path.len);
    ADD_LITERAL(" HTTP/1.1\r\nHost: ");
    ADD(options->host.p, options->host.n);
    ADD_LITERAL("\r\n");
    if (options->own_method.p != NULL) {
        ADD_LITERAL("Mcp-Method: ");
        ADD(options->own_method.p, options->own_method.n);
        ADD_LITERAL("\r\n");
    }
    for (size_t i = 0; i != count; ++i) {
        const h2o_header_t *h = &headers[i];
        struct span name = span_iov(*h->name);

        if (name.n == 0 || is_hop_by_hop(name) || (connection && is_named_by_connection(headers, count, name)))
            continue;
        if (options->identity_encoding && span_eq(name, SPAN("accept-encoding")))
            continue;
        if (options->is_own && is_of_one_request(name))
            continue;
        if (MUTANT("session-header-dropped") && span_eq(name, SPAN("mcp-session-id")))
            continue;
        ADD(h->orig_name != NULL ? h->orig_name : h->name->base, name.n);
        ADD_LITERAL(": ");
        ADD(h->value.base, h->value.len);
        ADD_LITERAL("\r\n");
    }
    if (options->is_own)
        ADD_LITERAL("Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n");
    if (options->identity_encoding)
        ADD_LITERAL("Accept-Encoding: identity\r\n");
    /* a method that usually has a body says that it has none, or the peer may wait for one */
    if (options->is_own || req->entity.base != NULL || span_eq(method, SPAN("POST")) || span_eq(method, SPAN("PUT")) ||
        span_eq(method, SPAN("PATCH")))
        p += sprintf(p, "Content-Length: %zu\r\n", body_bytes);
    ADD_LITERAL("\r\n");
#undef ADD_LITERAL
#undef ADD
    *ret_bytes = (size_t)(p - head);
    return head;
}

/* Request headers that Vary may name without harm: the cache fixes or checks them itself, or the key contains them. */
struct vary_known {
    char *const *keyed;
    size_t keyed_count;
};

static bool is_unkeyed(struct span element, void *ctx)
{
    static const struct span harmless[] = {
        SPAN_OF("accept"),
        SPAN_OF("accept-encoding"),
        SPAN_OF("origin"),
        SPAN_OF("authorization"),
        SPAN_OF("cookie"),
        SPAN_OF("mcp-protocol-version"),
        SPAN_OF("mcp-name"),
        SPAN_OF("mcp-method"),
        SPAN_OF("access-control-request-method"),
        SPAN_OF("access-control-request-headers"),
    };
    const struct vary_known *known = ctx;

    for (size_t i = 0; i != sizeof(harmless) / sizeof(harmless[0]); ++i)
        if (span_ieq(element, harmless[i]))
            return false;
    for (size_t i = 0; i != known->keyed_count; ++i)
        if (span_ieq(element, span_of(known->keyed[i])))
            return false;
    return true;
}

/* Vary by who asks: the reply is his alone, and the principal tells callers apart */
static bool is_by_caller(struct span element, void *ctx)
{
    (void)ctx;
    return span_ieq(element, SPAN("authorization")) || span_ieq(element, SPAN("cookie"));
}

static bool is_no_store(struct span element, void *ctx)
{
    (void)ctx;
    return span_ieq(element, SPAN("no-store"));
}

static bool is_private(struct span element, void *ctx)
{
    (void)ctx;
    return span_ieq(directive_of(element), SPAN("private"));
}

void wire_reply_read(int status, const h2o_header_t *headers, size_t count, char *const *keyed_headers, size_t keyed_count,
                     struct wire_reply_facts *ret)
{
    struct vary_known known = {keyed_headers, keyed_count};
    struct cp_reply *reply = &ret->reply;
    bool saw_type = false;

    *ret = (struct wire_reply_facts){.reply = {.status = status}};
    for (size_t i = 0; i != count; ++i) {
        struct span name = span_iov(*headers[i].name), value = span_iov(headers[i].value);

        if (headers[i].name == &H2O_TOKEN_CONTENT_TYPE->buf) {
            /* of two types nobody knows which one the client believes, and of another charset not what it reads */
            reply->is_json = !saw_type && is_plain(value, SPAN("application/json"));
            reply->is_events = !saw_type && is_plain(value, SPAN("text/event-stream"));
            saw_type = true;
        } else if (headers[i].name == &H2O_TOKEN_CONTENT_ENCODING->buf) {
            reply->is_encoded |= !span_ieq(span_trim(value), SPAN("identity"));
        } else if (headers[i].name == &H2O_TOKEN_CACHE_CONTROL->buf) {
            reply->no_store |= any_element(value, is_no_store, NULL);
            reply->is_private |= any_element(value, is_private, NULL);
        } else if (span_eq(name, SPAN("set-cookie"))) {
            reply->sets_cookie = true;
        } else if (span_eq(name, SPAN("vary"))) {
            reply->vary_unkeyed |= any_element(value, is_unkeyed, &known);
            reply->is_private |= any_element(value, is_by_caller, NULL);
        } else if (span_eq(name, SPAN("mcp-session-id"))) {
            ret->session = value;
        } else if (span_eq(name, SPAN("date"))) {
            ret->date = value;
        } else if (span_eq(name, SPAN("www-authenticate"))) {
            ret->challenges = true;
        }
    }
}

void wire_reply_copy(h2o_req_t *req, const h2o_header_t *headers, size_t count)
{
    bool connection = has_connection_header(headers, count);

    for (size_t i = 0; i != count; ++i) {
        const h2o_header_t *h = &headers[i];
        struct span name = span_iov(*h->name);
        h2o_iovec_t name_copy, value_copy;

        if (name.n == 0 || is_hop_by_hop(name) || span_eq(name, SPAN("date")) ||
            (connection && is_named_by_connection(headers, count, name)))
            continue;
        name_copy = h2o_strdup(&req->pool, name.p, name.n);
        value_copy = h2o_strdup(&req->pool, h->value.base, h->value.len);
        /* never as a token: libh2o rewrites what it knows (Vary, for old browsers) */
        h2o_add_header_by_str(&req->pool, &req->res.headers, name_copy.base, name_copy.len, 0, h->orig_name, value_copy.base,
                              value_copy.len);
    }
}
