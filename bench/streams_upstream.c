/* SPDX-License-Identifier: Apache-2.0 */
/* The upstream of the streams benchmark: an HTTP/1.1 server as light as can be. It reads no JSON: a body's first "id", "method" and "uri" are what it answers by.
 *   resources/read         its version, fresh for TTL_MS and for everybody; of "still://..": always the same, for an hour
 *   subscriptions/listen   TELLS 0: 404 with -32601. TELLS 1: an acknowledgement, and a notification at each change
 *   anything else          an empty result
 * `GET /change`: everything but "still://.." has the next version. `GET /facts`: reads, listens, open listens, and when (CLOCK_MONOTONIC, us) an answer first had the
 * newest version, or the first notification of it went out. One thread. Its own peers only: what is not HTTP ends the process.
 * Usage: streams_upstream TELLS TTL_MS; the first line it prints is its port. */
#include <arpa/inet.h>
#include <errno.h>
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

#define REQUEST_MAX 4096
#define ANSWER_MAX  1024
#define EVENTS      256
#define BACKLOG     4096
#define EVENT_HEAD  "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/"
#define EVENT_META  "\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s}}}\n\n"

/* One connection, one request at a time; the last one when it listens, and then it is in the ring of those. */
struct peer {
    int fd;
    struct peer *next, *prev; /* NULL: does not listen */
    char id[64], uri[128];    /* of what it listens to */
    size_t have;
    char *request; /* NULL: listens */
};

static int epoll_fd, tells;
static long ttl_ms;
static unsigned reads, listens, open_listens, version = 1, shown = 1;
static uint64_t shown_us;
static struct peer all = {.next = &all, .prev = &all};

static void note_shown(void)
{
    if (shown == version)
        return;
    shown = version;
    shown_us = now_us();
}

static void peer_leave(struct peer *p)
{
    if (p->next != NULL) {
        p->next->prev = p->prev;
        p->prev->next = p->next;
        open_listens--;
    }
    close(p->fd);
    free(p->request);
    free(p);
}

/* What is written is far smaller than a socket's buffer. */
static void peer_write(struct peer *p, const char *bytes, int n)
{
    must(n > 0 && n < ANSWER_MAX);
    /* who has left is noticed where he is read from */
    must(send(p->fd, bytes, (size_t)n, MSG_NOSIGNAL) == n || errno == EPIPE || errno == ECONNRESET);
}

static void peer_say(struct peer *p, const char *status, const char *body)
{
    char answer[ANSWER_MAX];

    peer_write(p, answer,
               snprintf(answer, sizeof(answer), "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                        status, strlen(body), body));
}

/* One chunk, with the head before it. */
static void peer_event(struct peer *p, const char *head, const char *event)
{
    char bytes[ANSWER_MAX];

    peer_write(p, bytes, snprintf(bytes, sizeof(bytes), "%s%zx\r\n%s\r\n", head, strlen(event), event));
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

static void peer_listen(struct peer *p)
{
    char event[ANSWER_MAX];

    p->next = &all;
    p->prev = all.prev;
    p->prev->next = p->next->prev = p;
    open_listens++;
    free(p->request);
    p->request = NULL;
    snprintf(event, sizeof(event),
             EVENT_HEAD
             "subscriptions/acknowledged\",\"params\":{\"notifications\":{\"resourceSubscriptions\":[\"%s\"]}," EVENT_META,
             p->uri, p->id);
    peer_event(p, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", event);
}

static void peer_post(struct peer *p, const char *body)
{
    char id[64], uri[128], method[64], text[ANSWER_MAX / 2];

    text_after(body, "\"id\":", ",}", id, sizeof(id));
    text_after(body, "\"method\":\"", "\"", method, sizeof(method));
    if (strcmp(method, "resources/read") == 0) {
        text_after(body, "\"uri\":\"", "\"", uri, sizeof(uri));
        int is_still = strncmp(uri, "still:", 6) == 0;
        reads++;
        snprintf(text, sizeof(text),
                 "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"resultType\":\"complete\",\"contents\":[{\"uri\":\"%s\",\"text\":"
                 "\"version "
                 "%u\"}],\"ttlMs\":%ld,\"cacheScope\":\"public\"}}",
                 id, uri, is_still ? 1 : version, is_still ? 3600000 : ttl_ms);
        if (!is_still)
            note_shown();
        peer_say(p, "200 OK", text);
    } else if (strcmp(method, "subscriptions/listen") == 0) {
        listens++;
        if (tells) {
            text_after(body, "\"resourceSubscriptions\":[\"", "\"", p->uri, sizeof(p->uri));
            strcpy(p->id, id);
            peer_listen(p);
            return;
        }
        snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}",
                 id);
        peer_say(p, "404 Not Found", text);
    } else {
        snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"resultType\":\"complete\"}}", id);
        peer_say(p, "200 OK", text);
    }
}

static void change(void)
{
    char event[ANSWER_MAX];

    version++;
    for (struct peer *p = all.next; p != &all; p = p->next) {
        note_shown();
        snprintf(event, sizeof(event), EVENT_HEAD "resources/updated\",\"params\":{\"uri\":\"%s\"," EVENT_META, p->uri, p->id);
        peer_event(p, "", event);
    }
}

static void peer_request(struct peer *p, const char *body)
{
    char facts[128];

    if (strncmp(p->request, "POST ", 5) == 0) {
        peer_post(p, body);
        return;
    }
    if (strncmp(p->request, "GET /change ", 12) == 0)
        change();
    snprintf(facts, sizeof(facts), "{\"reads\":%u,\"listens\":%u,\"open\":%u,\"version\":%u,\"shown\":%u,\"shownUs\":%llu}", reads,
             listens, open_listens, version, shown, (unsigned long long)shown_us);
    peer_say(p, "200 OK", facts);
}

static void peer_read(struct peer *p)
{
    char none[64], *end, *field;
    size_t length = 0, head;
    ssize_t got;

    if (p->request == NULL) {
        got = read(p->fd, none, sizeof(none));
        must(got <= 0); /* who listens says nothing more */
    } else {
        got = read(p->fd, p->request + p->have, REQUEST_MAX - p->have);
    }
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
    must(p->have == head + length);
    p->have = 0;
    peer_request(p, end + 4);
}

static void accept_all(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *p = calloc(1, sizeof(*p));
        must(p != NULL && (p->request = malloc(REQUEST_MAX + 1)) != NULL);
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

    if (argc != 3) {
        fprintf(stderr, "usage: streams_upstream TELLS TTL_MS\n");
        return 2;
    }
    tells = atoi(argv[1]);
    ttl_ms = atol(argv[2]);
    raise_descriptors();
    listener = listen_on_loopback(port, BACKLOG, &port);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    must(epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN}) == 0);
    printf("%d\n", port);
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);
        must(n >= 0 || errno == EINTR);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                accept_all(listener);
            else
                peer_read(events[i].data.ptr);
        }
    }
}
