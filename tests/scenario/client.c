/* SPDX-License-Identifier: Apache-2.0 */
/* Clients. Not here: what they ask and what is expected of the answer (replay.c). Always: an answer is whole only by HTTP's own framing. Thread: the story's. */
#include "client.h"

#include "cachepolicy/cachepolicy.h"
#include "sidecar/wire/events.h"

#include <errno.h>
#include <h2o.h>
#include <unistd.h>

void client_init(struct client *c)
{
    *c = (struct client){.fd = -1};
}

static void forget_answer(struct client *c)
{
    c->unread.n = c->head_bytes.n = c->body.n = 0;
    c->has_head = c->is_whole = c->is_cut = false;
    c->head = (struct http_head){.status = 0};
    c->framing = (struct http_body){.is_complete = false};
}

void client_done(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    buf_done(&c->asked);
    buf_done(&c->unread);
    buf_done(&c->head_bytes);
    buf_done(&c->body);
    client_init(c);
}

bool client_is_reusable(const struct client *c)
{
    return c->fd >= 0 && !c->is_waiting && !c->is_cut && c->has_head && c->head.keeps_alive;
}

static void add(struct buf *b, struct span s)
{
    if (buf_add_span(b, s) != 0)
        h2o_fatal("no memory");
}

void client_ask(struct client *c, int fd, struct span request, struct span body)
{
    if (fd >= 0) {
        if (c->fd >= 0)
            close(c->fd);
        c->fd = fd;
    }
    forget_answer(c);
    c->asked.n = 0;
    add(&c->asked, body);
    c->is_waiting = true;
    c->reads_nothing = false;
    while (request.n != 0) {
        ssize_t n = write(c->fd, request.p, request.n);

        if (n < 0)
            h2o_fatal("a story's request does not fit into a socket's buffer");
        request = (struct span){request.p + n, request.n - (size_t)n};
    }
}

static void on_bytes(void *ctx, struct span bytes)
{
    add(ctx, bytes);
}

static void end(struct client *c)
{
    close(c->fd);
    c->fd = -1;
    c->is_whole |= c->is_waiting && c->has_head && c->head.framing == HTTP_UNTIL_CLOSE;
    c->is_cut |= c->is_waiting && !c->is_whole;
    c->is_waiting = false;
}

static void understand(struct client *c)
{
    long used;

    if (!c->has_head) {
        used = http_head_parse(&c->head, buf_span(&c->unread), false);
        if (used == 0)
            return;
        if (used < 0)
            h2o_fatal("the sidecar's answer is no HTTP");
        add(&c->head_bytes, (struct span){c->unread.p, (size_t)used});
        http_head_parse(&c->head, buf_span(&c->head_bytes), false);
        http_body_init(&c->framing, &c->head);
        c->has_head = true;
        memmove(c->unread.p, c->unread.p + used, c->unread.n - (size_t)used);
        c->unread.n -= (size_t)used;
    }
    if (!c->framing.is_complete) {
        used = http_body_feed(&c->framing, buf_span(&c->unread), on_bytes, &c->body);
        if (used < 0)
            h2o_fatal("the framing of the sidecar's answer is broken");
        memmove(c->unread.p, c->unread.p + used, c->unread.n - (size_t)used);
        c->unread.n -= (size_t)used;
    }
    if (c->framing.is_complete) {
        c->is_whole = true;
        c->is_waiting = false;
    }
}

bool client_poll(struct client *c)
{
    bool had_some = false;

    while (c->fd >= 0 && !c->reads_nothing) {
        char bytes[16384];
        ssize_t n = read(c->fd, bytes, sizeof(bytes));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        had_some = true;
        if (n <= 0) {
            end(c);
            break;
        }
        add(&c->unread, (struct span){bytes, (size_t)n});
        understand(c);
    }
    return had_some;
}

void client_leave(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->is_waiting = false;
}

struct span client_header(const struct client *c, struct span name)
{
    for (size_t i = 0; c->has_head && i != c->head.field_count; ++i)
        if (span_ieq(c->head.fields[i].name, name))
            return c->head.fields[i].value;
    return SPAN_ABSENT;
}

struct search {
    struct span id;
    struct buf *found;
};

/* Keeps the first that answers id. */
static void consider(void *ctx, struct span text)
{
    struct search *s = ctx;
    struct cp_json_doc doc = {0};
    const struct cp_json_node *id;

    if (s->found->n == 0 && cp_json_scan(&doc, text, &cp_json_strict) == CP_JSON_OK &&
        (id = cp_json_member(&doc, cp_json_root(&doc), SPAN("id"))) != NULL && span_eq(cp_json_raw(&doc, id), s->id) &&
        cp_json_member(&doc, cp_json_root(&doc), SPAN("method")) == NULL)
        add(s->found, text);
    cp_json_done(&doc);
}

struct span client_reply(const struct client *c, struct span id, struct buf *ret)
{
    struct search search = {id, ret};
    struct span type = client_header(c, SPAN("content-type"));

    ret->n = 0;
    if (type.n >= 17 && memcmp(type.p, "text/event-stream", 17) == 0) {
        struct events events = {0};

        if (events_feed(&events, buf_span(&c->body), consider, &search) != 0)
            h2o_fatal("no memory");
        events_done(&events);
    } else {
        consider(&search, buf_span(&c->body));
    }
    return ret->n != 0 ? buf_span(ret) : SPAN_ABSENT;
}
