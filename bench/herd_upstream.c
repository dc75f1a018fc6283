/* SPDX-License-Identifier: Apache-2.0 */
/* The upstream of the herd benchmark: an HTTP/1.1 server as light as can be, so that a thousand calls at once cost little beside the latency that they pretend to
 * have. It reads no JSON: the first "id" and the first "name" or "uri" of a body are what it answers by. How a name begins says what its answer is:
 *   warm   complete, at once                     keep   complete
 *   error  isError                               plain  a resource without a lifetime
 *   ask    input_required
 * all but the first after the latency. X-Accel-Expires tells nginx, who reads no bodies, what mcpcached reads in them.
 * `GET /count` answers how many POSTs came so far. One thread. Its own peers only: what is not HTTP ends the process.
 * Usage: herd_upstream LATENCY_MS; the first line it prints is its port. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ends.h"

#define REQUEST_MAX 16384
#define ANSWER_MAX  1024
#define EVENTS      256
#define BACKLOG     4096

/* One connection, one request at a time. It is in the queue while its answer waits; who leaves meanwhile is freed when his turn comes. */
struct peer {
    int fd; /* -1: has left */
    int is_waiting;
    uint64_t due_us;
    struct peer *next;
    size_t have;
    char request[REQUEST_MAX + 1];
    size_t answer_bytes;
    char answer[ANSWER_MAX];
};

static int epoll_fd;
static uint64_t latency_us;
static unsigned posts;
/* All wait equally long, so the order of arrival is the order of answers. */
static struct peer *first, **last = &first;

static void peer_leave(struct peer *p)
{
    close(p->fd);
    p->fd = -1;
    if (!p->is_waiting)
        free(p);
}

static void peer_answer(struct peer *p)
{
    /* An answer is far smaller than a socket's buffer. */
    if (write(p->fd, p->answer, p->answer_bytes) != (ssize_t)p->answer_bytes)
        peer_leave(p);
}

static void peer_say(struct peer *p, int is_kept, const char *body)
{
    int n = snprintf(p->answer, sizeof(p->answer),
                     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Accel-Expires: %d\r\nContent-Length: %zu\r\n\r\n%s",
                     is_kept ? 60 : 0, strlen(body), body);

    must(n > 0 && n < (int)sizeof(p->answer));
    p->answer_bytes = (size_t)n;
}

/* Copies what follows `label` in the text, up to one of the bytes of `ends`; gives "" where there is none. */
static const char *text_after(const char *text, const char *label, const char *ends, char *ret, size_t size)
{
    const char *at = strstr(text, label);
    size_t n;

    ret[0] = '\0';
    if (at == NULL)
        return ret;
    at += strlen(label);
    n = strcspn(at, ends);
    must(n < size);
    memcpy(ret, at, n);
    ret[n] = '\0';
    return ret;
}

static void peer_post(struct peer *p, const char *body)
{
    char id[64], name[128], message[ANSWER_MAX - 256];
    const char *params = strstr(body, "\"params\":{");
    const char *result;

    posts++;
    must(params != NULL);
    text_after(body, "\"id\":", ",}", id, sizeof(id));
    if (*text_after(params, "\"uri\":\"", "\"", name, sizeof(name)) == '\0')
        text_after(params, "\"name\":\"", "\"", name, sizeof(name));
    if (strncmp(name, "error", 5) == 0)
        result = "{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":\"no %s\"}],\"isError\":true}";
    else if (strncmp(name, "plain", 5) == 0)
        result = "{\"resultType\":\"complete\",\"contents\":[{\"uri\":\"%s\",\"text\":\"plain\"}],\"ttlMs\":0,\"cacheScope\":"
                 "\"private\"}";
    else if (strncmp(name, "ask", 3) == 0)
        result = "{\"resultType\":\"input_required\",\"inputRequests\":{\"name\":{\"method\":\"elicitation/"
                 "create\",\"params\":{\"message\":\"%s\"}}}}";
    else
        result = "{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":\"yes %s\"}]}";
    int n = snprintf(message, sizeof(message), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":", id);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    n += snprintf(message + n, sizeof(message) - (size_t)n, result, name);
#pragma GCC diagnostic pop
    must(n < (int)sizeof(message) - 1);
    strcpy(message + n, "}");
    peer_say(p, strncmp(name, "keep", 4) == 0, message);
    if (strncmp(name, "warm", 4) == 0) {
        peer_answer(p);
        return;
    }
    p->is_waiting = 1;
    p->due_us = now_us() + latency_us;
    p->next = NULL;
    *last = p;
    last = &p->next;
}

static void peer_request(struct peer *p, const char *body)
{
    char count[32];

    if (strncmp(p->request, "POST ", 5) == 0) {
        peer_post(p, body);
        return;
    }
    snprintf(count, sizeof(count), "%u", posts);
    peer_say(p, 0, count);
    peer_answer(p);
}

static void peer_read(struct peer *p)
{
    ssize_t got = read(p->fd, p->request + p->have, REQUEST_MAX - p->have);
    char *end, *field;
    size_t length = 0, head;

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        peer_leave(p);
        return;
    }
    p->have += (size_t)got;
    p->request[p->have] = '\0';
    end = strstr(p->request, "\r\n\r\n");
    if (end == NULL) {
        must(p->have < REQUEST_MAX);
        return;
    }
    head = (size_t)(end - p->request) + 4;
    field = strcasestr(p->request, "\r\ncontent-length:");
    if (field != NULL && field < end)
        length = strtoul(field + 17, NULL, 10);
    must(head + length <= REQUEST_MAX);
    if (p->have < head + length)
        return;
    must(p->have == head + length && !p->is_waiting);
    p->have = 0;
    peer_request(p, end + 4);
}

static void answer_due(void)
{
    uint64_t now = now_us();

    while (first != NULL && first->due_us <= now) {
        struct peer *p = first;
        first = p->next;
        if (first == NULL)
            last = &first;
        p->is_waiting = 0;
        if (p->fd < 0)
            free(p);
        else
            peer_answer(p);
    }
}

static void accept_all(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *p = calloc(1, sizeof(*p));
        must(p != NULL);
        p->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        must(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = p}) == 0);
    }
    must(errno == EAGAIN || errno == ECONNABORTED);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    uint16_t port = 0;
    int listener;

    if (argc != 2) {
        fprintf(stderr, "usage: herd_upstream LATENCY_MS\n");
        return 2;
    }
    latency_us = strtoull(argv[1], NULL, 10) * 1000;
    raise_descriptors();
    listener = listen_on_loopback(port, BACKLOG, &port);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    must(epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN}) == 0);
    printf("%d\n", port);
    fflush(stdout);
    for (;;) {
        int wait_ms = -1, n;
        if (first != NULL) {
            uint64_t now = now_us();
            wait_ms = first->due_us <= now ? 0 : (int)((first->due_us - now + 999) / 1000);
        }
        n = epoll_wait(epoll_fd, events, EVENTS, wait_ms);
        must(n >= 0 || errno == EINTR);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                accept_all(listener);
            else
                peer_read(events[i].data.ptr);
        }
        answer_due();
    }
}
