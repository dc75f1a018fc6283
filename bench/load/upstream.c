/* SPDX-License-Identifier: Apache-2.0 */
/* The MCP server behind whatever is measured: HTTP/1.1, both eras, as light as can be. What it answers follows from the question (content.h). How it answers is set by
 * `NAME=VALUE` arguments, and while it runs by `GET /set?NAME=VALUE&...`:
 *   latency_us=N   before each answer to a call, read or list; a member cost_us of the arguments takes its place
 *   mode=ok|hang|500|reset|corrupt|stranger    corrupt: one byte of each text is another one. stranger: the answer is right, but for another caller
 *   sse=0|1        answers are event streams
 *   ttl_ms=N       the hint of lists and reads
 *   port=N         0: a free one; the first line of output says which
 * `GET /stats` tells what was counted, `GET /reset` counts from nothing. One thread. Its own peers only: what is not HTTP ends the connection. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "../ends.h"
#include "content.h"
#include "json.h"

#define REQUEST_MAX 65536
#define EVENTS      256
#define BACKLOG     4096

enum mode { MODE_OK, MODE_HANG, MODE_500, MODE_RESET, MODE_CORRUPT, MODE_STRANGER, MODES };
static const char *const mode_names[MODES] = {"ok", "hang", "500", "reset", "corrupt", "stranger"};

/* One connection, one request at a time. While its answer waits it is in the heap; who leaves meanwhile is freed when his turn comes. */
struct peer {
    int fd; /* -1: has left */
    int is_waiting, is_writing;
    uint64_t due_us;
    size_t have;
    char *answer;
    size_t answer_bytes, answer_size, sent;
    char request[REQUEST_MAX + 1];
};

static int epoll_fd;
static enum mode mode;
static uint64_t latency_us, ttl_ms = 3600000;
static int is_sse;
static struct {
    unsigned long posts, calls, writes, lists, reads, initializes, others, failures, bytes;
    uint64_t busy_us;
} stats;
static unsigned sessions;
static char tools_text[LIST_TOOLS * 600];
static size_t tools_bytes;

/* The soonest is heap[0]. */
static struct peer **heap;
static size_t heap_n, heap_size;

static void heap_push(struct peer *p)
{
    size_t i = heap_n++;

    if (heap_n > heap_size) {
        heap_size = heap_size * 2 + 64;
        heap = realloc(heap, heap_size * sizeof(struct peer *));
        must(heap != NULL);
    }
    for (; i > 0 && heap[(i - 1) / 2]->due_us > p->due_us; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = p;
}

static struct peer *heap_pop(void)
{
    struct peer *top = heap[0], *last = heap[--heap_n];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < heap_n) {
        if (child + 1 < heap_n && heap[child + 1]->due_us < heap[child]->due_us)
            child++;
        if (heap[child]->due_us >= last->due_us)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static void peer_leave(struct peer *p, int is_reset)
{
    if (is_reset)
        setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    close(p->fd);
    p->fd = -1;
    if (!p->is_waiting) {
        free(p->answer);
        free(p);
    }
}

static void peer_write(struct peer *p)
{
    while (p->sent < p->answer_bytes) {
        ssize_t n = write(p->fd, p->answer + p->sent, p->answer_bytes - p->sent);
        if (n < 0 && errno == EAGAIN) {
            if (!p->is_writing)
                must(epoll_ctl(epoll_fd, EPOLL_CTL_MOD, p->fd,
                               &(struct epoll_event){.events = EPOLLIN | EPOLLOUT, .data.ptr = p}) == 0);
            p->is_writing = 1;
            return;
        }
        if (n <= 0) {
            peer_leave(p, 0);
            return;
        }
        p->sent += (size_t)n;
    }
    if (p->is_writing)
        must(epoll_ctl(epoll_fd, EPOLL_CTL_MOD, p->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = p}) == 0);
    p->is_writing = 0;
    p->answer_bytes = p->sent = 0;
    if (p->answer_size > 65536) {
        free(p->answer);
        p->answer = NULL;
        p->answer_size = 0;
    }
}

static void put(struct peer *p, const char *bytes, size_t n)
{
    if (p->answer_bytes + n > p->answer_size) {
        p->answer_size = (p->answer_bytes + n) * 2;
        p->answer = realloc(p->answer, p->answer_size);
        must(p->answer != NULL);
    }
    memcpy(p->answer + p->answer_bytes, bytes, n);
    p->answer_bytes += n;
}

static void put_text(struct peer *p, const char *text)
{
    put(p, text, strlen(text));
}

static void put_head(struct peer *p, const char *status, const char *type, const char *more, size_t length)
{
    char head[512];
    int n = snprintf(head, sizeof(head), "HTTP/1.1 %s\r\n%s%s%s%sContent-Length: %zu\r\n\r\n", status,
                     *type ? "Content-Type: " : "", type, *type ? "\r\n" : "", more, length);

    must(n > 0 && n < (int)sizeof(head));
    p->answer_bytes = p->sent = 0;
    put(p, head, (size_t)n);
}

static void peer_say(struct peer *p, const char *status, const char *type, const char *more, const char *body)
{
    put_head(p, status, type, more, strlen(body));
    put_text(p, body);
    peer_write(p);
}

/* An answer from parts: head, envelope, what stands in the middle. */
static void peer_result(struct peer *p, struct json id, const char *more, const char *const *parts, const size_t *bytes, int count)
{
    static const char event[] = "event: message\ndata: ";
    size_t length =
        strlen("{\"jsonrpc\":\"2.0\",\"id\":,\"result\":}") + (size_t)(id.end - id.at) + (is_sse ? strlen(event) + 2 : 0);

    for (int i = 0; i < count; i++)
        length += bytes[i];
    put_head(p, "200 OK", is_sse ? "text/event-stream" : "application/json", more, length);
    if (is_sse)
        put_text(p, event);
    put_text(p, "{\"jsonrpc\":\"2.0\",\"id\":");
    put(p, id.at, (size_t)(id.end - id.at));
    put_text(p, ",\"result\":");
    for (int i = 0; i < count; i++)
        put(p, parts[i], bytes[i]);
    put_text(p, is_sse ? "}\n\n" : "}");
    stats.bytes += length;
}

static void peer_result_text(struct peer *p, struct json id, const char *more, const char *result)
{
    peer_result(p, id, more, &result, &(size_t){strlen(result)}, 1);
}

static uint64_t number_in(struct json object, const char *name, uint64_t otherwise)
{
    struct json value = json_member(object, name);
    return value.at == NULL ? otherwise : strtoull(value.at, NULL, 10);
}

/* The answer is ready; it goes when its time has come. */
static void peer_later(struct peer *p, uint64_t after_us)
{
    stats.busy_us += after_us;
    if (mode == MODE_HANG)
        after_us = UINT64_MAX / 4;
    if (after_us == 0) {
        peer_write(p);
        return;
    }
    p->is_waiting = 1;
    p->due_us = now_us() + after_us;
    heap_push(p);
}

static void put_content(struct peer *p, struct json id, const char *before, const char *after, const struct content *c)
{
    const char *parts[] = {before, c->mark, c->rest, after};
    size_t bytes[] = {strlen(before), c->mark_bytes, c->rest_bytes, strlen(after)};

    peer_result(p, id, "", parts, bytes, 4);
    if (mode == MODE_CORRUPT) {
        /* The last byte of the text, which the closing quote follows. */
        char *byte = p->answer + p->answer_bytes - strlen(after) - (is_sse ? 3 : 1) - 1;
        *byte = *byte == 'x' ? 'y' : 'x';
    }
}

static void peer_call(struct peer *p, struct json id, struct json params, const char *who, int is_modern)
{
    struct json tool = json_text(json_member(params, "name")), arguments = json_member(params, "arguments");
    struct content c;

    if (tool.at == NULL || arguments.at == NULL) {
        peer_say(p, "400 Bad Request", "text/plain", "", "no name, or no arguments");
        return;
    }
    stats.calls++;
    if (memcmp(tool.at, "put", 3) == 0)
        stats.writes++;
    if (mode == MODE_STRANGER)
        who = "somebody-else";
    content_of(&c, tool.at, (size_t)(tool.end - tool.at), arguments.at, (size_t)(arguments.end - arguments.at), who, strlen(who),
               number_in(arguments, "size", 200));
    put_content(p, id,
                is_modern ? "{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":\""
                          : "{\"content\":[{\"type\":\"text\",\"text\":\"",
                "\"}]}", &c);
    peer_later(p, number_in(arguments, "cost_us", latency_us));
}

static void peer_list(struct peer *p, struct json id, int is_modern)
{
    char hint[96];

    stats.lists++;
    snprintf(hint, sizeof(hint), ",\"ttlMs\":%llu,\"cacheScope\":\"public\"}", (unsigned long long)ttl_ms);
    const char *parts[] = {is_modern ? "{\"resultType\":\"complete\",\"tools\":" : "{\"tools\":", tools_text,
                           is_modern ? hint : "}"};
    size_t bytes[] = {strlen(parts[0]), tools_bytes, strlen(parts[2])};
    peer_result(p, id, "", parts, bytes, 3);
    if (mode == MODE_CORRUPT)
        *strchr(strstr(p->answer, "\"description\":\"") + 15, '"') = 'x';
    peer_later(p, latency_us);
}

static void peer_initialize(struct peer *p, struct json id)
{
    char session[64];

    stats.initializes++;
    snprintf(session, sizeof(session), "Mcp-Session-Id: s-%u\r\n", ++sessions);
    peer_result_text(
        p, id, session,
        "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{\"listChanged\":true}},\"serverInfo\":{\"name\":"
        "\"bench\",\"version\":\"1\"}}");
    peer_write(p);
}

/* The token of `Authorization: Bearer TOKEN`, or "". */
static void token_of(const char *head, char *ret, size_t size)
{
    const char *at = strcasestr(head, "\r\nauthorization: bearer ");
    size_t n = 0;

    if (at != NULL) {
        at += 24;
        n = strcspn(at, "\r");
        must(n < size);
        memcpy(ret, at, n);
    }
    ret[n] = '\0';
}

static void peer_post(struct peer *p, const char *body, size_t bytes)
{
    struct json message = {body, body + bytes}, method = json_text(json_member(message, "method")), id = json_member(message, "id"),
                params = json_member(message, "params");
    char token[128];
    int is_modern = strcasestr(p->request, "\r\nmcp-protocol-version: 2026-") != NULL;

    stats.posts++;
    if (mode == MODE_500 || mode == MODE_RESET) {
        stats.failures++;
        if (mode == MODE_RESET)
            peer_leave(p, 1);
        else
            peer_say(p, "500 Internal Server Error", "text/plain", "", "told to fail");
        return;
    }
    if (id.at == NULL) {
        peer_say(p, "202 Accepted", "", "", "");
        return;
    }
    token_of(p->request, token, sizeof(token));
    if (json_is(method, "tools/call")) {
        peer_call(p, id, params, token, is_modern);
        return;
    }
    if (json_is(method, "tools/list")) {
        peer_list(p, id, is_modern);
        return;
    }
    if (json_is(method, "initialize")) {
        peer_initialize(p, id);
        return;
    }
    stats.others++;
    if (json_is(method, "server/discover"))
        peer_result_text(
            p, id, "",
            "{\"resultType\":\"complete\",\"supportedVersions\":[\"2026-07-28\",\"2025-11-25\"],\"capabilities\":{\"tools\":{}},"
            "\"serverInfo\":{\"name\":\"bench\",\"version\":\"1\"},\"ttlMs\":60000,\"cacheScope\":\"public\"}");
    else if (json_is(method, "resources/list"))
        peer_result_text(p, id, "", "{\"resources\":[]}");
    else if (json_is(method, "resources/templates/list"))
        peer_result_text(p, id, "", "{\"resourceTemplates\":[]}");
    else if (json_is(method, "prompts/list"))
        peer_result_text(p, id, "", "{\"prompts\":[]}");
    else
        peer_result_text(p, id, "", "{}");
    peer_write(p);
}

/* One NAME=VALUE; what it does not know is an error of the harness. */
static int set(const char *text)
{
    const char *value = strchr(text, '=');
    size_t n;

    if (value == NULL)
        return -1;
    n = (size_t)(value++ - text);
    if (n == 10 && strncmp(text, "latency_us", n) == 0)
        latency_us = strtoull(value, NULL, 10);
    else if (n == 6 && strncmp(text, "ttl_ms", n) == 0)
        ttl_ms = strtoull(value, NULL, 10);
    else if (n == 3 && strncmp(text, "sse", n) == 0)
        is_sse = *value == '1';
    else if (n == 4 && strncmp(text, "mode", n) == 0) {
        size_t bytes = strcspn(value, "& ");
        for (int i = 0; i < MODES; i++) {
            if (bytes != strlen(mode_names[i]) || strncmp(value, mode_names[i], bytes) != 0)
                continue;
            mode = (enum mode)i;
            return 0;
        }
        return -1;
    } else
        return -1;
    return 0;
}

static void peer_get(struct peer *p)
{
    char text[512];
    int is_known = 1;

    if (strncmp(p->request, "GET /set?", 9) == 0) {
        for (const char *at = p->request + 9; is_known; at++) {
            size_t n = strcspn(at, "& ");
            is_known = set(at) == 0;
            at += n;
            if (*at != '&')
                break;
        }
        peer_say(p, is_known ? "200 OK" : "400 Bad Request", "text/plain", "", is_known ? "ok" : "no such setting");
    } else if (strncmp(p->request, "GET /reset ", 11) == 0) {
        memset(&stats, 0, sizeof(stats));
        peer_say(p, "200 OK", "text/plain", "", "ok");
    } else if (strncmp(p->request, "GET /stats ", 11) == 0) {
        snprintf(text, sizeof(text),
                 "{\"posts\":%lu,\"calls\":%lu,\"writes\":%lu,\"lists\":%lu,\"initializes\":%lu,\"others\":%lu,\"failures\":%lu,"
                 "\"bytes\":%lu,\"busyMs\":%"
                 ".1f}",
                 stats.posts, stats.calls, stats.writes, stats.lists, stats.initializes, stats.others, stats.failures, stats.bytes,
                 (double)stats.busy_us / 1000);
        peer_say(p, "200 OK", "application/json", "", text);
    } else {
        /* No stream of our own: a server may say so. */
        peer_say(p, "405 Method Not Allowed", "", "Allow: POST\r\n", "");
    }
}

/* True when one whole request was taken and answered, or waits. */
static int peer_step(struct peer *p)
{
    char *end, *field;
    size_t length = 0, head;

    p->request[p->have] = '\0';
    end = strstr(p->request, "\r\n\r\n");
    if (end == NULL)
        return 0;
    head = (size_t)(end - p->request) + 4;
    field = strcasestr(p->request, "\r\ncontent-length:");
    if (field != NULL && field < end)
        length = strtoul(field + 17, NULL, 10);
    if (p->have < head + length)
        return 0;
    p->have = 0;
    if (strncmp(p->request, "POST ", 5) == 0)
        peer_post(p, end + 4, length);
    else
        peer_get(p);
    return 1;
}

static void peer_read(struct peer *p)
{
    ssize_t got = p->have < REQUEST_MAX ? read(p->fd, p->request + p->have, REQUEST_MAX - p->have) : 0;

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        peer_leave(p, 0);
        return;
    }
    p->have += (size_t)got;
    peer_step(p);
}

static void peer_new(int fd)
{
    struct peer *p = calloc(1, sizeof(*p));

    must(p != NULL);
    p->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    /* From here on it is found through its events. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    must(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = p}) == 0);
}

static void accept_all(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        peer_new(fd);
    must(errno == EAGAIN || errno == ECONNABORTED);
}

static void answer_due(void)
{
    uint64_t now = heap_n > 0 ? now_us() : 0;

    while (heap_n > 0 && heap[0]->due_us <= now) {
        struct peer *p = heap_pop();
        p->is_waiting = 0;
        if (p->fd < 0) {
            free(p->answer);
            free(p);
        } else {
            peer_write(p);
        }
    }
}

static int wait_ms(void)
{
    uint64_t now, left;

    if (heap_n == 0)
        return -1;
    now = now_us();
    if (heap[0]->due_us <= now)
        return 0;
    left = (heap[0]->due_us - now + 999) / 1000;
    return left < 60000 ? (int)left : 60000;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    uint16_t port = 0;
    int listener;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "port=", 5) == 0) {
            port = (uint16_t)atoi(argv[i] + 5);
        } else if (set(argv[i]) != 0) {
            fprintf(stderr, "upstream: what is '%s'?\n", argv[i]);
            return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    content_init();
    tools_bytes = content_tools(tools_text, sizeof(tools_text));
    raise_descriptors();
    listener = listen_on_loopback(port, BACKLOG, &port);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    must(epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN}) == 0);
    printf("%d\n", port);
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, wait_ms());
        must(n >= 0 || errno == EINTR);
        for (int i = 0; i < n; i++) {
            struct peer *p = events[i].data.ptr;
            if (p == NULL)
                accept_all(listener);
            else if (p->is_writing && events[i].events & EPOLLOUT)
                peer_write(p);
            else
                peer_read(p);
        }
        answer_due();
    }
}
