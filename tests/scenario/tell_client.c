/* SPDX-License-Identifier: Apache-2.0 */
/* What clients do and what they see. Not here: bytes on the connection (client.c). Thread: the story's. */
#include "telling.h"

#include "sidecar/wire/frames.h"

#include <stdio.h>
#include <stdlib.h>

#define MODERN "2026-07-28"
#define LEGACY "2025-11-25"

/* ---- names ----------------------------------------------------------------------------------------------------------------------- */

static struct person *person_of(struct telling *t, struct span name)
{
    struct person *p;

    for (size_t i = 0; i != t->people_count; ++i)
        if (span_eq(span_of(t->people[i]->name), name))
            return t->people[i];
    if (t->people_count == CLIENTS_MAX || name.n == 0 || name.n >= sizeof(p->name))
        fail(t, "no room for a client named '%.*s'", (int)name.n, name.p);
    p = t->people[t->people_count++] = h2o_mem_alloc(sizeof(*p));
    *p = (struct person){.loop = 0};
    memcpy(p->name, name.p, name.n);
    client_init(&p->client);
    return p;
}

/* a,b,c or a1..a9; at most CLIENTS_MAX. */
static size_t people_of(struct telling *t, struct span names, struct person **ret)
{
    size_t n = 0;

    while (names.n != 0) {
        const char *comma = memchr(names.p, ',', names.n), *dots = NULL;
        struct span one = {names.p, comma != NULL ? (size_t)(comma - names.p) : names.n};

        names = comma != NULL ? (struct span){comma + 1, names.n - one.n - 1} : SPAN_ABSENT;
        for (size_t i = 0; i + 1 < one.n && dots == NULL; ++i)
            if (one.p[i] == '.' && one.p[i + 1] == '.')
                dots = one.p + i;
        if (dots != NULL) {
            size_t letters = 0, last_digits;
            unsigned long first, last;

            while (letters < one.n && (one.p[letters] < '0' || one.p[letters] > '9') && one.p + letters != dots)
                ++letters;
            first = strtoul(one.p + letters, NULL, 10);
            last_digits = (size_t)(dots + 2 - one.p) + letters;
            if (last_digits >= one.n || memcmp(dots + 2, one.p, letters) != 0)
                fail(t, "'%.*s' is no range of clients; write it like a1..a9", (int)one.n, one.p);
            last = strtoul(one.p + last_digits, NULL, 10);
            for (unsigned long number = first; number <= last; ++number) {
                char name[32];
                int bytes = snprintf(name, sizeof(name), "%.*s%lu", (int)letters, one.p, number);

                if (n == CLIENTS_MAX)
                    fail(t, "too many clients");
                ret[n++] = person_of(t, (struct span){name, (size_t)bytes});
            }
        } else {
            if (n == CLIENTS_MAX)
                fail(t, "too many clients");
            ret[n++] = person_of(t, one);
        }
    }
    return n;
}

/* ---- asking ---------------------------------------------------------------------------------------------------------------------- */

static void set(struct buf *b, struct span s)
{
    b->n = 0;
    if (buf_add_span(b, s) != 0)
        h2o_fatal("no memory");
}

static void add(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct buf *b, const char *format, ...)
{
    char *text;
    va_list args;
    int n;

    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0 || buf_add(b, text, (size_t)n) != 0)
        h2o_fatal("no memory");
    free(text);
}

/* What one line says that is asked; the same for all its clients, but for what stands for their names. */
struct question {
    struct span verb;   /* of HTTP */
    struct span method; /* JSON-RPC; absent: body is sent as it is */
    struct span name;   /* for Mcp-Name; absent: none */
    struct span params; /* JSON object without _meta; absent: none */
    struct span meta;   /* JSON object with further members of _meta; absent: none */
    struct span id;     /* raw token; absent: one of its own */
    struct span path, body;
    struct fake_header headers[HEADERS_MAX];
    size_t header_count;
    bool is_notification;
};

static bool has_header(const struct question *q, const char *name)
{
    for (size_t i = 0; i != q->header_count; ++i)
        if (span_ieq(q->headers[i].name, span_of(name)))
            return true;
    return false;
}

/* {a} and {b} as {a,b}, without the closing brace of the whole. */
static void add_members(struct buf *b, struct span object, bool *is_first)
{
    struct span inside;

    if (object.p == NULL)
        return;
    inside = span_trim((struct span){object.p + 1, object.n - 2});
    if (inside.n == 0)
        return;
    add(b, "%s%.*s", *is_first ? "" : ",", (int)inside.n, inside.p);
    *is_first = false;
}

static void make_body(struct telling *t, struct person *p, const struct question *q, struct buf *out)
{
    struct span name = span_of(p->name), params = q->params;
    bool is_first = true;

    if (q->method.p == NULL) {
        set(out, with_replaced(t, q->body, "$name", name));
        return;
    }
    add(out, "{\"jsonrpc\":\"2.0\"");
    if (!q->is_notification)
        add(out, ",\"id\":%.*s", (int)p->id.n, p->id.p);
    add(out, ",\"method\":\"%.*s\"", (int)q->method.n, q->method.p);
    if (params.p != NULL || q->meta.p != NULL || !p->is_legacy) {
        add(out, ",\"params\":{");
        if (params.p != NULL)
            add_members(out, with_replaced(t, params, "$name", name), &is_first);
        if (q->meta.p != NULL || !p->is_legacy) {
            bool is_first_meta = true;

            add(out, "%s\"_meta\":{", is_first ? "" : ",");
            if (!p->is_legacy)
                add_members(out,
                            SPAN("{\"io.modelcontextprotocol/protocolVersion\":\"" MODERN "\","
                                 "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"story\",\"version\":\"1\"},"
                                 "\"io.modelcontextprotocol/clientCapabilities\":{}}"),
                            &is_first_meta);
            add_members(out, q->meta, &is_first_meta);
            add(out, "}");
        }
        add(out, "}");
    }
    add(out, "}");
}

static void ask(struct telling *t, struct person *p, const struct question *q)
{
    struct buf body = {0}, request = {0};
    struct span path = with_replaced(t, q->path, "$name", span_of(p->name));
    struct span name = q->name.p != NULL ? with_replaced(t, q->name, "$name", span_of(p->name)) : SPAN_ABSENT;
    int fd = -1;

    if (p->client.is_waiting)
        fail(t, "client %s still waits for its last answer; let another one ask", p->name);
    ++p->asked_count;
    p->id.n = 0;
    p->is_rpc = q->method.p != NULL && !q->is_notification;
    if (q->id.p != NULL)
        set(&p->id, q->id);
    else
        add(&p->id, "\"%s-%zu\"", p->name, p->asked_count);
    make_body(t, p, q, &body);
    add(&request, "%.*s %.*s HTTP/1.1\r\n", (int)q->verb.n, q->verb.p, (int)path.n, path.p);
    if (!has_header(q, "host"))
        add(&request, "Host: sidecar\r\n");
    if (!has_header(q, "accept"))
        add(&request, "Accept: application/json, text/event-stream\r\n");
    if (p->as.n != 0 && !has_header(q, "authorization"))
        add(&request, "Authorization: %.*s\r\n", (int)p->as.n, p->as.p);
    if (p->is_legacy) {
        if (!span_eq(q->method, SPAN("initialize")))
            add(&request, "MCP-Protocol-Version: " LEGACY "\r\n");
        if (p->session.n != 0 && !has_header(q, "mcp-session-id"))
            add(&request, "Mcp-Session-Id: %.*s\r\n", (int)p->session.n, p->session.p);
    } else if (q->method.p != NULL) {
        add(&request, "MCP-Protocol-Version: " MODERN "\r\nMcp-Method: %.*s\r\n", (int)q->method.n, q->method.p);
        if (name.p != NULL)
            add(&request, "Mcp-Name: %.*s\r\n", (int)name.n, name.p);
    }
    for (size_t i = 0; i != q->header_count; ++i)
        add(&request, "%.*s: %.*s\r\n", (int)q->headers[i].name.n, q->headers[i].name.p, (int)q->headers[i].value.n,
            q->headers[i].value.p);
    if (body.n != 0) {
        if (!has_header(q, "content-type"))
            add(&request, "Content-Type: application/json\r\n");
        add(&request, "Content-Length: %zu\r\n", body.n);
    }
    add(&request, "\r\n");
    if (body.n != 0 && buf_add_span(&request, buf_span(&body)) != 0)
        h2o_fatal("no memory");
    if (!client_is_reusable(&p->client) && (fd = house_connect(t->house, p->loop)) < 0)
        fail(t, "client %s cannot connect: %s", p->name, strerror(-fd));
    client_ask(&p->client, fd, buf_span(&request), buf_span(&body));
    buf_done(&body);
    buf_done(&request);
}

/* params of one member: {"name": text}, or with a second one that is JSON. */
static struct span params_of(struct telling *t, const char *member, struct span text, const char *second, struct span json)
{
    struct buf b = {0};
    struct span ret;

    add(&b, "{\"%s\":\"%.*s\"", member, (int)text.n, text.p);
    if (json.p != NULL)
        add(&b, ",\"%s\":%.*s", second, (int)json.n, json.p);
    add(&b, "}");
    ret = (struct span){h2o_strdup(&t->pool, b.p, b.n).base, b.n};
    buf_done(&b);
    return ret;
}

/* What follows the clients' names and properties, when it is a question. */
static bool read_question(struct telling *t, struct question *q)
{
    *q = (struct question){.verb = SPAN("POST"), .path = SPAN("/mcp")};
    if (take_word(t, "call")) {
        q->method = SPAN("tools/call");
        q->name = need_text(t, "the tool's name");
        q->params = params_of(t, "name", q->name, "arguments", is_json_next(t) ? need_json(t, "arguments") : SPAN_ABSENT);
    } else if (take_word(t, "read")) {
        q->method = SPAN("resources/read");
        q->name = need_text(t, "the URI");
        q->params = params_of(t, "uri", q->name, NULL, SPAN_ABSENT);
    } else if (take_word(t, "get")) {
        q->method = SPAN("prompts/get");
        q->name = need_text(t, "the prompt's name");
        q->params = params_of(t, "name", q->name, "arguments", is_json_next(t) ? need_json(t, "arguments") : SPAN_ABSENT);
    } else if (take_word(t, "list")) {
        static const char *const kinds[][2] = {{"tools", "tools/list"},
                                               {"prompts", "prompts/list"},
                                               {"resources", "resources/list"},
                                               {"templates", "resources/templates/list"}};
        for (size_t i = 0; q->method.p == NULL && i != sizeof(kinds) / sizeof(kinds[0]); ++i)
            if (take_word(t, kinds[i][0]))
                q->method = span_of(kinds[i][1]);
        if (q->method.p == NULL)
            fail(t, "list what? tools, prompts, resources or templates");
        if (take_word(t, "cursor"))
            q->params = params_of(t, "cursor", need_text(t, "the cursor"), NULL, SPAN_ABSENT);
    } else if (take_word(t, "discovers")) {
        q->method = SPAN("server/discover");
    } else if (take_word(t, "pings")) {
        q->method = SPAN("ping");
    } else if (take_word(t, "initializes")) {
        q->method = SPAN("initialize");
        q->params =
            SPAN("{\"protocolVersion\":\"" LEGACY "\",\"capabilities\":{},\"clientInfo\":{\"name\":\"story\",\"version\":\"1\"}}");
    } else if (take_word(t, "listens")) {
        q->method = SPAN("subscriptions/listen");
        if (is_json_next(t))
            q->params = need_json(t, "params");
    } else if (take_word(t, "subscribes") || take_word(t, "unsubscribes")) {
        q->method = span_eq(t->line->words[t->at - 1].text, SPAN("subscribes")) ? SPAN("resources/subscribe")
                                                                                : SPAN("resources/unsubscribe");
        q->params = params_of(t, "uri", need_text(t, "the URI"), NULL, SPAN_ABSENT);
    } else if (take_word(t, "sends") || take_word(t, "notifies")) {
        q->is_notification = span_eq(t->line->words[t->at - 1].text, SPAN("notifies"));
        q->method = need_plain(t, "the method");
        if (is_json_next(t))
            q->params = need_json(t, "params");
    } else if (take_word(t, "posts")) {
        q->body = need_text(t, "the body");
    } else if (take_words(t, "opens", "stream")) {
        q->verb = SPAN("GET");
    } else if (take_words(t, "ends", "session")) {
        q->verb = SPAN("DELETE");
    } else {
        return false;
    }
    for (;;) {
        if (take_word(t, "id"))
            q->id = need_text(t, "the id"); /* quoted: a number as it stands */
        else if (take_word(t, "meta"))
            q->meta = need_json(t, "members of _meta");
        else if (take_word(t, "to"))
            q->path = need_text(t, "a path");
        else
            break;
    }
    q->header_count = take_headers(t, q->headers);
    return true;
}

/* initialize, answered at once, and the session that it gave. */
static void open_session(struct telling *t, struct person *p, struct span session, struct span capabilities)
{
    struct question q = {.verb = SPAN("POST"), .path = SPAN("/mcp"), .method = SPAN("initialize")};
    struct fake_header header = {SPAN("Mcp-Session-Id"), session};
    struct asked *asked;
    struct buf body = {0};

    q.params =
        SPAN("{\"protocolVersion\":\"" LEGACY "\",\"capabilities\":{},\"clientInfo\":{\"name\":\"story\",\"version\":\"1\"}}");
    p->is_legacy = true;
    p->session.n = 0;
    ask(t, p, &q);
    settle(t);
    asked = newest_call(t, SPAN("initialize"));
    if (asked == NULL || asked->call->stage != FAKE_ASKED)
        fail(t, "initialize did not reach the upstream");
    add(&body,
        "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"protocolVersion\":\"" LEGACY
        "\",\"capabilities\":%.*s,\"serverInfo\":{\"name\":\"server\",\"version\":\"1\"}}}",
        (int)asked->message.id.n, asked->message.id.p, (int)capabilities.n, capabilities.p);
    answer_json(asked, buf_span(&body), &header, 1);
    buf_done(&body);
    settle(t);
    if (!p->client.is_whole || p->client.head.status != 200)
        fail(t, "initialize was not answered");
    set(&p->session, session);
}

/* ---- seeing ---------------------------------------------------------------------------------------------------------------------- */

/* What Cache-Status says (RFC 9211). */
struct cache_status {
    bool is_there, is_hit, is_stored, is_collapsed, has_ttl;
    struct span fwd, detail;
    int64_t ttl, fwd_status;
};

static void read_cache_status(struct span text, struct cache_status *ret)
{
    *ret = (struct cache_status){.is_there = text.p != NULL};
    while (text.n != 0) {
        const char *semicolon = memchr(text.p, ';', text.n);
        struct span part = {text.p, semicolon != NULL ? (size_t)(semicolon - text.p) : text.n};
        const char *equals;
        struct span value = SPAN_ABSENT;

        text = semicolon != NULL ? (struct span){semicolon + 1, text.n - part.n - 1} : SPAN_ABSENT;
        part = span_trim(part);
        if ((equals = memchr(part.p, '=', part.n)) != NULL) {
            value = (struct span){equals + 1, part.n - (size_t)(equals + 1 - part.p)};
            part.n = (size_t)(equals - part.p);
        }
        if (span_eq(part, SPAN("hit")))
            ret->is_hit = true;
        else if (span_eq(part, SPAN("stored")))
            ret->is_stored = true;
        else if (span_eq(part, SPAN("collapsed")))
            ret->is_collapsed = true;
        else if (span_eq(part, SPAN("fwd")))
            ret->fwd = value;
        else if (span_eq(part, SPAN("detail")))
            ret->detail = value;
        else if (span_eq(part, SPAN("ttl"))) {
            ret->has_ttl = true;
            ret->ttl = strtoll(value.p, NULL, 10);
        } else if (span_eq(part, SPAN("fwd-status")))
            ret->fwd_status = strtoll(value.p, NULL, 10);
    }
}

/* An error of the sidecar's own: nobody else's text has its name. Refusals that never got as far as the upstream say no fwd. */
static bool is_own_error(const struct client *c, const struct cache_status *cs)
{
    static const char name[] = "mcpcached";

    return c->head.status >= 400 &&
           ((cs->fwd.p == NULL && !cs->is_hit) || (c->body.n != 0 && memmem(c->body.p, c->body.n, name, sizeof(name) - 1) != NULL));
}

/* The outcome that it stands for. False: the header says none (not one of MCP's answers). */
static bool outcome_of(const struct client *c, const struct cache_status *cs, enum cp_outcome *ret)
{
    if (!cs->is_there)
        return false;
    if (is_own_error(c, cs))
        *ret = CP_OUTCOME_ERROR;
    else if (span_eq(cs->fwd, SPAN("stale")) || (cs->is_hit && (cs->ttl < 0 || span_eq(cs->detail, SPAN("stale")))))
        *ret = CP_OUTCOME_STALE;
    else if (cs->is_hit)
        *ret = CP_OUTCOME_HIT;
    else if (span_eq(cs->fwd, SPAN("miss")))
        *ret = cs->is_collapsed ? CP_OUTCOME_COLLAPSED : CP_OUTCOME_MISS;
    else if (cs->fwd.p == NULL && c->head.status < 400)
        *ret = CP_OUTCOME_BYPASS; /* answered here, and not from the store */
    else if (span_eq(cs->detail, SPAN("write")) || span_eq(cs->detail, SPAN("unlisted")) || span_eq(cs->detail, SPAN("annotation")))
        *ret = CP_OUTCOME_WRITE;
    else
        *ret = span_eq(cs->fwd, SPAN("bypass")) ? CP_OUTCOME_BYPASS : CP_OUTCOME_ERROR;
    return true;
}

static void print_answer(const struct person *p)
{
    const struct client *c = &p->client;

    printf("  client %s asked: %.*s\n", p->name, (int)(c->asked.n < 600 ? c->asked.n : 600), c->asked.p != NULL ? c->asked.p : "");
    if (c->has_head)
        printf("  and got%s: %.*s%.*s\n",
               c->is_whole ? ""
               : c->is_cut ? " (cut)"
                           : " (so far)",
               (int)c->head_bytes.n, c->head_bytes.p, (int)(c->body.n < 2000 ? c->body.n : 2000),
               c->body.p != NULL ? c->body.p : "");
    else
        printf("  and got nothing%s\n", c->is_cut ? " but the end of the connection" : "");
}

/* A claim about this person's answer. */
#define CLAIM(holds, ...)                                                                                                          \
    do {                                                                                                                           \
        bool holds_ = (holds);                                                                                                     \
        if (!holds_)                                                                                                               \
            print_answer(p);                                                                                                       \
        claim(t, holds_, __VA_ARGS__);                                                                                             \
    } while (0)

static bool contains(struct span text, struct span part)
{
    return part.n == 0 || (text.n != 0 && memmem(text.p, text.n, part.p, part.n) != NULL);
}

/* A member of the reply's result or error, raw; absent when there is none. */
static struct span reply_member(struct telling *t, struct person *p, const char *member, const char *inner)
{
    struct cp_json_doc doc = {0};
    struct span text = client_reply(&p->client, buf_span(&p->id), &p->answer), ret = SPAN_ABSENT;
    const struct cp_json_node *node;

    if (text.p != NULL && cp_json_scan(&doc, text, &cp_json_strict) == CP_JSON_OK) {
        node = cp_json_member(&doc, cp_json_root(&doc), span_of(member));
        if (node != NULL && inner != NULL)
            node = cp_json_member(&doc, node, span_of(inner));
        if (node != NULL) {
            ret = cp_json_raw(&doc, node);
            ret.p = h2o_strdup(&t->pool, ret.p, ret.n).base;
        }
    }
    cp_json_done(&doc);
    return ret;
}

static int64_t number_of(struct span s)
{
    char text[32] = "";

    if (s.n < sizeof(text) && s.p != NULL)
        memcpy(text, s.p, s.n);
    return strtoll(text, NULL, 10);
}

static bool take_outcome(struct telling *t, enum cp_outcome *ret)
{
    for (size_t i = 0; i != CP_OUTCOME_COUNT; ++i)
        if (take_word(t, cp_outcome_word((enum cp_outcome)i))) {
            *ret = (enum cp_outcome)i;
            return true;
        }
    return false;
}

/* `error -32603`, not the outcome of that name. */
static bool is_error_code_next(const struct telling *t)
{
    const struct word *w = &t->line->words[t->at];

    return t->at + 1 < t->line->count && w->kind == WORD_PLAIN && span_eq(w->text, SPAN("error")) && w[1].kind == WORD_PLAIN &&
           (w[1].text.p[0] == '-' || (w[1].text.p[0] >= '0' && w[1].text.p[0] <= '9'));
}

static void expect_one(struct telling *t, struct person *p, const struct cache_status *cs)
{
    struct client *c = &p->client;
    enum cp_outcome wanted, seen;

    if (is_error_code_next(t)) {
        struct span raw = reply_member(t, p, "error", "code");

        ++t->at;
        CLAIM(raw.p != NULL && number_of(raw) == need_number(t, "the error's code"), "error code %.*s", (int)raw.n,
              raw.p != NULL ? raw.p : "(none)");
    } else if (take_outcome(t, &wanted)) {
        bool has = outcome_of(c, cs, &seen);

        CLAIM(has && seen == wanted, "%s", has ? cp_outcome_word(seen) : "no Cache-Status");
    } else if (take_word(t, "unremarked")) {
        CLAIM(!cs->is_there, "there is a Cache-Status");
    } else if (take_words(t, "no", "detail")) {
        CLAIM(cs->detail.p == NULL, "detail %.*s", (int)cs->detail.n, cs->detail.p);
    } else if (take_word(t, "detail")) {
        struct span word = need_plain(t, "the reason");

        CLAIM(span_eq(cs->detail, word), "detail %.*s", (int)cs->detail.n, cs->detail.p != NULL ? cs->detail.p : "(none)");
    } else if (take_words(t, "not", "stored")) {
        CLAIM(!cs->is_stored, "stored");
    } else if (take_word(t, "stored")) {
        CLAIM(cs->is_stored, "not stored");
    } else if (take_words(t, "no", "ttlMs")) {
        CLAIM(reply_member(t, p, "result", "ttlMs").p == NULL, "the result has a ttlMs");
    } else if (take_word(t, "status")) {
        CLAIM(c->head.status == need_number(t, "an HTTP status"), "status %d", c->head.status);
    } else if (take_word(t, "fwd-status")) {
        CLAIM(cs->fwd_status == need_number(t, "an HTTP status"), "fwd-status %d", (int)cs->fwd_status);
    } else if (take_word(t, "ttl")) {
        int64_t least = need_number(t, "seconds"), most = take_word(t, "to") ? need_number(t, "seconds") : least;

        CLAIM(cs->has_ttl && cs->ttl >= least && cs->ttl <= most, "ttl %lld", (long long)cs->ttl);
    } else if (take_word(t, "ttlMs")) {
        int64_t least = need_number(t, "milliseconds"), most = take_word(t, "to") ? need_number(t, "milliseconds") : least;
        struct span raw = reply_member(t, p, "result", "ttlMs");

        CLAIM(raw.p != NULL && number_of(raw) >= least && number_of(raw) <= most, "ttlMs %.*s", (int)raw.n,
              raw.p != NULL ? raw.p : "(none)");
    } else if (take_word(t, "age")) {
        struct span age = client_header(c, SPAN("age"));

        CLAIM(age.p != NULL && number_of(age) == need_number(t, "seconds"), "Age %.*s", (int)age.n,
              age.p != NULL ? age.p : "(none)");
    } else if (take_word(t, "result")) {
        struct span wanted_text = with_replaced(t, need_json(t, "the result"), "$name", span_of(p->name));
        struct span raw = reply_member(t, p, "result", NULL);

        wanted_text = with_type(t, wanted_text, p->is_legacy);
        CLAIM(raw.p != NULL && span_eq(raw, wanted_text), "result %.*s", (int)raw.n, raw.p != NULL ? raw.p : "(none)");
    } else if (take_words(t, "body", "contains")) {
        CLAIM(contains(buf_span(&c->body), with_replaced(t, need_text(t, "a text"), "$name", span_of(p->name))),
              "the body lacks it");
    } else if (take_words(t, "body", "lacks")) {
        CLAIM(!contains(buf_span(&c->body), need_text(t, "a text")), "the body contains it");
    } else if (take_word(t, "body")) {
        CLAIM(span_eq(buf_span(&c->body), need_text(t, "the body")), "another body");
    } else if (take_words(t, "as", "json")) {
        CLAIM(span_eq(client_header(c, SPAN("content-type")), SPAN("application/json")), "another Content-Type");
    } else if (take_words(t, "as", "events")) {
        CLAIM(span_eq(client_header(c, SPAN("content-type")), SPAN("text/event-stream")), "another Content-Type");
    } else if (take_words(t, "no", "header")) {
        CLAIM(client_header(c, need_plain(t, "a header's name")).p == NULL, "it is there");
    } else if (take_word(t, "header")) {
        struct span name = need_plain(t, "a header's name");
        bool has_value = name.p[name.n - 1] == ':';
        struct span value = client_header(c, (struct span){name.p, name.n - has_value});

        CLAIM(value.p != NULL && (!has_value || span_eq(value, need_text(t, "its value"))), "%.*s", (int)value.n,
              value.p != NULL ? value.p : "(no such header)");
    } else {
        fail(t, "this cannot be expected: '%.*s'", (int)t->line->words[t->at].text.n, t->line->words[t->at].text.p);
    }
}

/* so far: of an answer that need not be whole. */
static void expect(struct telling *t, struct person *p)
{
    struct client *c = &p->client;
    bool so_far = take_words(t, "so", "far"), any_id = take_words(t, "any", "id");
    struct cache_status cs;
    enum cp_outcome outcome;

    if (!has_word(t))
        fail(t, "expect what?");
    CLAIM(c->has_head && (c->is_whole || so_far), "%s", c->is_cut ? "the connection was cut" : "no answer");
    read_cache_status(client_header(c, SPAN("cache-status")), &cs);
    /* whatever is expected: an answer is to whoever asked */
    if (p->is_rpc && c->is_whole && c->head.status == 200 && c->body.n != 0 && !any_id)
        CLAIM(client_reply(c, buf_span(&p->id), &p->answer).p != NULL, "no reply with the id %.*s", (int)p->id.n, p->id.p);
    while (has_word(t))
        expect_one(t, p, &cs);
    if (!so_far && p->is_rpc && outcome_of(c, &cs, &outcome))
        ++t->outcomes[outcome];
}

/* ---- events ---------------------------------------------------------------------------------------------------------------------- */

/* Of an answer that is an event stream, those that say something; comments and what is not whole are none. */
struct looking {
    struct telling *t;
    size_t count, wanted;
    struct span data, id; /* of the one that is wanted; in the pool */
};

static void on_frame(void *ctx, const struct frame *frame)
{
    struct looking *l = ctx;

    if (!frame->has_data || ++l->count != l->wanted)
        return;
    l->data = (struct span){h2o_strdup(&l->t->pool, frame->data.p, frame->data.n).base, frame->data.n};
    if (frame->id.p != NULL)
        l->id = (struct span){h2o_strdup(&l->t->pool, frame->id.p, frame->id.n).base, frame->id.n};
}

static struct looking look_at_events(struct telling *t, struct person *p, size_t wanted)
{
    struct looking l = {.t = t, .wanted = wanted};
    struct frames frames = {.event_max = 16 * 1024 * 1024};

    if (frames_feed(&frames, buf_span(&p->client.body), on_frame, &l) != 0)
        h2o_fatal("no memory");
    frames_done(&frames);
    return l;
}

/* `event N|last is|contains ... [with id X|without id]` */
static void see_event(struct telling *t, struct person *p)
{
    size_t wanted =
        take_word(t, "last") ? look_at_events(t, p, SIZE_MAX).count : (size_t)need_number(t, "the number of an event, or `last`");
    struct looking l = look_at_events(t, p, wanted);

    CLAIM(l.data.p != NULL, "%zu events", l.count);
    while (has_word(t)) {
        if (take_word(t, "is")) {
            struct span text = with_replaced(t, need_text(t, "what it says"), "$id", buf_span(&p->id));

            CLAIM(span_eq(l.data, text), "it says %.*s", (int)l.data.n, l.data.p);
        } else if (take_word(t, "contains")) {
            CLAIM(contains(l.data, with_replaced(t, need_text(t, "a text"), "$id", buf_span(&p->id))), "it says %.*s",
                  (int)l.data.n, l.data.p);
        } else if (take_word(t, "lacks")) {
            CLAIM(!contains(l.data, need_text(t, "a text")), "it says %.*s", (int)l.data.n, l.data.p);
        } else if (take_words(t, "without", "id")) {
            CLAIM(l.id.p == NULL, "its id is %.*s", (int)l.id.n, l.id.p);
        } else if (take_words(t, "with", "id")) {
            CLAIM(span_eq(l.id, need_text(t, "its id")), "its id is %.*s", (int)l.id.n, l.id.p != NULL ? l.id.p : "(none)");
        } else {
            break;
        }
    }
}

static void see_text(struct telling *t, struct person *p)
{
    struct span body = buf_span(&p->client.body), text = need_text(t, "a text");
    size_t times = 0;

    if (!take_word(t, "once") && !has_word(t)) {
        CLAIM(contains(body, text), "it has not");
        return;
    }
    for (size_t i = 0; text.n != 0 && i + text.n <= body.n; ++i)
        times += memcmp(body.p + i, text.p, text.n) == 0;
    if (!has_word(t)) {
        CLAIM(times == 1, "%zu times", times);
        return;
    }
    CLAIM(times == (size_t)need_number(t, "how often"), "%zu times", times);
    if (!take_word(t, "times"))
        fail(t, "so many what?");
}

static void see(struct telling *t, struct person *p)
{
    struct client *c = &p->client;

    if (take_word(t, "expect")) {
        expect(t, p);
    } else if (take_word(t, "waits")) {
        CLAIM(c->is_waiting && !c->has_head, "%s", c->is_cut ? "it was cut" : "it has an answer");
    } else if (take_words(t, "is", "cut")) {
        CLAIM(c->is_cut, "%s", c->is_whole ? "it has a whole answer" : "it still waits");
    } else if (take_words(t, "is", "streaming")) {
        CLAIM(c->is_waiting && c->has_head, "%s",
              c->is_cut     ? "it was cut"
              : c->is_whole ? "its answer is whole"
                            : "it has nothing");
    } else if (take_words(t, "has", "seen")) {
        see_text(t, p);
    } else if (take_word(t, "event")) {
        see_event(t, p);
    } else if (take_word(t, "has")) {
        size_t count = look_at_events(t, p, 0).count;
        bool is_fewer = take_words(t, "fewer", "than");
        size_t wanted = take_word(t, "no") ? 0 : (size_t)need_number(t, "how many events");

        CLAIM(is_fewer ? count < wanted : count == wanted, "%zu events", count);
        if (!take_word(t, "events") && !take_word(t, "event"))
            fail(t, "so many what?");
    } else if (take_word(t, "lacks")) {
        CLAIM(!contains(buf_span(&c->body), need_text(t, "a text")), "it has seen it");
    } else if (take_word(t, "leaves")) {
        if (!c->is_waiting)
            fail(t, "client %s waits for nothing", p->name);
        client_leave(c);
        ++t->left;
    } else if (take_words(t, "stops", "reading")) {
        c->reads_nothing = true;
    } else if (take_words(t, "reads", "on")) {
        c->reads_nothing = false;
    } else {
        fail(t, "a client cannot do this: '%.*s'", (int)t->line->words[t->at].text.n, t->line->words[t->at].text.p);
    }
}

/* Who they are from now on. */
static void read_properties(struct telling *t, struct person **people, size_t count)
{
    for (;;) {
        struct span as = SPAN_ABSENT, session = SPAN_ABSENT;
        bool is_nobody = false, ends_session = false, is_legacy = false, is_modern = false;
        int64_t loop = -1;

        if (take_words(t, "as", "nobody"))
            is_nobody = true;
        else if (take_word(t, "as"))
            as = need_text(t, "who");
        else if (take_words(t, "on", "loop"))
            loop = need_number(t, "a loop") - 1;
        else if (take_word(t, "legacy"))
            is_legacy = true;
        else if (take_word(t, "modern"))
            is_modern = true;
        else if (take_words(t, "without", "session"))
            ends_session = true;
        else if (take_word(t, "session"))
            session = need_text(t, "the session's id");
        else
            return;
        if (loop != -1 && (loop < 0 || (size_t)loop >= t->loops))
            fail(t, "there is no such loop");
        for (size_t i = 0; i != count; ++i) {
            struct person *p = people[i];

            if (is_nobody)
                p->as.n = 0;
            if (as.p != NULL) {
                struct span who = with_replaced(t, as, "$name", span_of(p->name));

                p->as.n = 0;
                add(&p->as, "Bearer %.*s", (int)who.n, who.p);
            }
            if (session.p != NULL || is_legacy)
                p->is_legacy = true;
            if (session.p != NULL)
                set(&p->session, session);
            if (ends_session || is_modern)
                p->session.n = 0;
            if (is_modern)
                p->is_legacy = false;
            if (loop != -1 && p->loop != (size_t)loop) {
                if (p->client.fd >= 0)
                    client_leave(&p->client);
                p->loop = (size_t)loop;
            }
        }
    }
}

void tell_client(struct telling *t)
{
    static struct person *people[CLIENTS_MAX];
    size_t count = people_of(t, need_plain(t, "who"), people), at;
    struct question *question = h2o_mem_alloc(sizeof(*question));

    begin(t);
    read_properties(t, people, count);
    at = t->at;
    if (take_words(t, "opens", "session")) {
        struct span session = need_text(t, "the session's id");
        struct span capabilities = take_word(t, "with") ? need_json(t, "the server's capabilities") : SPAN("{\"tools\":{}}");

        for (size_t i = 0; i != count; ++i)
            open_session(t, people[i], with_replaced(t, session, "$name", span_of(people[i]->name)), capabilities);
    } else if (read_question(t, question)) {
        for (size_t i = 0; i != count; ++i) {
            ask(t, people[i], question);
            /* so that they arrive in this order */
            house_turn(t->house, people[i]->loop, 0);
            house_turn(t->house, people[i]->loop, 0);
        }
        settle(t);
    } else {
        for (size_t i = 0; at != t->line->count && i != count; ++i) {
            t->at = at;
            see(t, people[i]);
            if (has_word(t))
                break;
        }
        settle(t);
    }
    free(question);
}
