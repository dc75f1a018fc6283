/* SPDX-License-Identifier: Apache-2.0 */
/* The clients of the streams benchmark, in two kinds. Eight @ in a row, anywhere in a request, become the connection's number plus 10000000.
 *
 * streams_load streams PORT COUNT READ_FILE LISTEN_FILE: COUNT connections to 127.0.0.1:PORT, BATCH at a time; on each the first request and its answer, then the second one, whose
 * answer is a stream. It prints "open" when each stream has brought its first event, and then "all K" as soon as each has brought K notifications. When stdin says "report" it prints,
 * for each connection, a line `NUMBER READS BYTES`, READS lines `AT US` (how many bytes there were before that read, and when it was, CLOCK_MONOTONIC) and the bytes of its stream. It judges
 * nothing. Ends with stdin.
 *
 * streams_load hits PORT CONNECTIONS RATE FILE: RATE requests a second, at even distances, whether or not the last one was answered, on whichever connection is free. At the end of
 * stdin it prints, for each, a line `DUE_US US HIT`: when it was due, how long after that its answer was complete, and whether its head has "; hit".
 *
 * Whoever closes, or takes more than PATIENCE_MS to open, ends the process with a word on stderr. */
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
#include <sys/timerfd.h>
#include <unistd.h>
#include "ends.h"

#define TEXT_MAX    4096
#define READS_MAX   64
#define EVENTS      512
#define BATCH       64
#define PATIENCE_MS 60000
#define HITS_MAX    1000000
#define PLACE       "@@@@@@@@"
#define NOTICE      "notifications/resources/updated"
#define FIRST       "notifications/subscriptions/acknowledged"

struct member {
    int fd;
    int is_busy; /* waits for an answer that ends */
    int is_open; /* has its stream's first event */
    unsigned notices;
    size_t counted; /* bytes that were searched for notices */
    uint64_t due_us;
    size_t have;
    int reads;
    struct {
        uint32_t at;
        uint64_t us;
    } read_at[READS_MAX];
    char text[TEXT_MAX + 1];
};

struct text {
    char bytes[TEXT_MAX];
    size_t n;
};

static int epoll_fd;
static struct member *members;
static int count;
static struct text requests[2];

static struct text read_file(const char *path)
{
    struct text text;
    FILE *f = fopen(path, "r");

    must(f != NULL);
    text.n = fread(text.bytes, 1, TEXT_MAX - 1, f);
    text.bytes[text.n] = '\0';
    must(feof(f) && !ferror(f));
    fclose(f);
    return text;
}

static void watch(int fd, void *ptr)
{
    must(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = ptr}) == 0);
}

static void member_connect(struct member *m, int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    m->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(m->fd >= 0 && connect(m->fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    setsockopt(m->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    watch(m->fd, m);
}

static void member_send(struct member *m, const struct text *request)
{
    char bytes[TEXT_MAX], number[16], *place;

    memcpy(bytes, request->bytes, request->n + 1);
    snprintf(number, sizeof(number), "%08d", 10000000 + (int)(m - members));
    while ((place = strstr(bytes, PLACE)) != NULL)
        memcpy(place, number, strlen(PLACE));
    m->have = m->counted = 0;
    m->reads = 0;
    must(write(m->fd, bytes, request->n) == (ssize_t)request->n);
}

static void member_read(struct member *m)
{
    ssize_t got = read(m->fd, m->text + m->have, TEXT_MAX - m->have);

    if (got <= 0) {
        fprintf(stderr, "connection %d closed after %zu bytes: %.*s\n", (int)(m - members), m->have, (int)m->have, m->text);
        exit(1);
    }
    must(m->reads < READS_MAX);
    m->read_at[m->reads].at = (uint32_t)m->have;
    m->read_at[m->reads++].us = now_us();
    m->have += (size_t)got;
    m->text[m->have] = '\0';
}

/* Of an answer with a length. */
static int is_complete(const struct member *m)
{
    const char *end = strstr(m->text, "\r\n\r\n"), *field;
    size_t total;

    if (end == NULL)
        return 0;
    field = strcasestr(m->text, "\r\ncontent-length:");
    must(field != NULL && field < end);
    total = (size_t)(end - m->text) + 4 + strtoul(field + 17, NULL, 10);
    must(m->have <= total);
    return m->have == total;
}

/* ---- streams --------------------------------------------------------------------------------------------------------------------- */

static unsigned wanted;
static int open_count, reached;

/* True: the next one may begin. */
static int stream_read(struct member *m)
{
    const char *at;

    member_read(m);
    if (m->is_busy) {
        if (is_complete(m)) {
            m->is_busy = 0;
            must(strncmp(m->text, "HTTP/1.1 200 ", 13) == 0);
            member_send(m, &requests[1]);
        }
        return 0;
    }
    if (!m->is_open) {
        const char *first = strstr(m->text, FIRST);
        if (first == NULL || strstr(first, "\n\n") == NULL)
            return 0;
        m->is_open = 1;
        open_count++;
        return 1;
    }
    while ((at = strstr(m->text + m->counted, NOTICE)) != NULL) {
        m->counted = (size_t)(at - m->text) + strlen(NOTICE);
        reached += ++m->notices == wanted;
    }
    return 0;
}

static void report(void)
{
    for (int i = 0; i < count; i++) {
        struct member *m = &members[i];
        printf("%d %d %zu\n", i, m->reads, m->have);
        for (int k = 0; k < m->reads; k++)
            printf("%u %llu\n", m->read_at[k].at, (unsigned long long)m->read_at[k].us);
        fwrite(m->text, 1, m->have, stdout);
    }
    fflush(stdout);
}

static void run_streams(int port)
{
    struct epoll_event events[EVENTS];
    char order[64];
    int begun = 0;

    watch(STDIN_FILENO, NULL);
    for (;;) {
        int n;
        for (; begun < count && begun - open_count < BATCH; begun++) {
            member_connect(&members[begun], port);
            members[begun].is_busy = 1;
            member_send(&members[begun], &requests[0]);
        }
        n = epoll_wait(epoll_fd, events, EVENTS, wanted == 0 ? PATIENCE_MS : -1);
        if (n == 0) {
            fprintf(stderr, "%d of %d streams are open, and no more come\n", open_count, count);
            exit(1);
        }
        must(n > 0 || errno == EINTR);
        for (int i = 0; i < n; i++) {
            struct member *m = events[i].data.ptr;
            ssize_t got;
            if (m != NULL) {
                stream_read(m);
                continue;
            }
            if ((got = read(STDIN_FILENO, order, sizeof(order))) <= 0)
                return;
            report();
        }
        if (wanted == 0 && open_count == count) {
            wanted = 1;
            printf("open\n");
            fflush(stdout);
        }
        if (wanted != 0 && reached == count) {
            printf("all %u\n", wanted++);
            fflush(stdout);
            reached = 0;
            for (int i = 0; i < count; i++)
                reached += members[i].notices >= wanted;
        }
    }
}

/* ---- hits ------------------------------------------------------------------------------------------------------------------------ */

struct hit {
    uint64_t due_us, us;
    int is_hit;
};
static struct hit *hits;

static void run_hits(int port, int rate)
{
    const uint64_t apart_us = 1000000 / (uint64_t)rate;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), done = 0, turn = 0;
    struct itimerspec each = {{0, (long)apart_us * 1000}, {0, (long)apart_us * 1000}};
    struct epoll_event events[EVENTS];
    uint64_t next_us, expired;
    size_t hit_count = 0;
    char none[64];

    must((hits = calloc(HITS_MAX, sizeof(*hits))) != NULL);
    for (int i = 0; i < count; i++)
        member_connect(&members[i], port);
    watch(STDIN_FILENO, NULL);
    watch(timer, &timer);
    must(timerfd_settime(timer, 0, &each, NULL) == 0);
    next_us = now_us();
    while (!done) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);
        must(n > 0 || errno == EINTR);
        for (int i = 0; i < n; i++) {
            struct member *m = events[i].data.ptr;
            if (m == NULL) {
                done = read(STDIN_FILENO, none, sizeof(none)) <= 0;
                continue;
            }
            if ((void *)m == &timer) {
                must(read(timer, &expired, sizeof(expired)) == sizeof(expired) || errno == EAGAIN);
                continue;
            }
            member_read(m);
            if (!is_complete(m))
                continue;
            m->is_busy = 0;
            must(hit_count < HITS_MAX);
            hits[hit_count].is_hit = strstr(m->text, "; hit") != NULL;
            hits[hit_count].due_us = m->due_us;
            hits[hit_count++].us = now_us() - m->due_us;
        }
        /* what nobody is free for waits, and its time counts */
        for (int tried = 0; next_us <= now_us() && tried < count;) {
            struct member *m = &members[turn++ % count];
            if (m->is_busy) {
                tried++;
                continue;
            }
            m->is_busy = 1;
            m->due_us = next_us;
            next_us += apart_us;
            member_send(m, &requests[0]);
        }
    }
    for (size_t i = 0; i < hit_count; i++)
        printf("%llu %llu %d\n", (unsigned long long)hits[i].due_us, (unsigned long long)hits[i].us, hits[i].is_hit);
}

int main(int argc, char **argv)
{
    int is_hits = argc == 6 && strcmp(argv[1], "hits") == 0;

    if (argc != 6 || (!is_hits && strcmp(argv[1], "streams") != 0)) {
        fprintf(stderr, "usage: streams_load streams PORT COUNT READ_FILE LISTEN_FILE\n"
                        "       streams_load hits PORT CONNECTIONS RATE FILE\n");
        return 2;
    }
    count = atoi(argv[3]);
    members = calloc((size_t)count, sizeof(*members));
    must(count > 0 && members != NULL);
    raise_descriptors();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    must(epoll_fd >= 0);
    requests[0] = read_file(argv[is_hits ? 5 : 4]);
    if (is_hits) {
        run_hits(atoi(argv[2]), atoi(argv[4]));
        return 0;
    }
    requests[1] = read_file(argv[5]);
    run_streams(atoi(argv[2]));
    return 0;
}
