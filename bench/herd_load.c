/* SPDX-License-Identifier: Apache-2.0 */
/* The herd itself: COUNT kept-alive connections to 127.0.0.1:PORT, each used once before (WARM_BATCH of them at a time), and then one request on each of them, written as fast as one
 * thread can. It judges nothing: when all answers are there it prints, for each connection, a line `SENT_US END_US BYTES` (from the beginning of the burst) and the answer's bytes.
 * Eight @ in a row, anywhere in a request, become the connection's number plus 10000000. Whoever closes, or takes more than PATIENCE_MS, ends the process with a word on stderr.
 * Usage: herd_load PORT COUNT WARM_REQUEST_FILE REQUEST_FILE */
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

#define TEXT_MAX    8192
#define EVENTS      256
#define WARM_BATCH  32
#define PATIENCE_MS 60000
#define PLACE       "@@@@@@@@"

struct member {
    int fd;
    uint64_t sent_us, end_us;
    size_t have;
    char answer[TEXT_MAX + 1];
};

struct text {
    char bytes[TEXT_MAX];
    size_t n;
};

static int epoll_fd;
static struct member *members;
static int count;

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

static void member_connect(struct member *m, int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    m->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(m->fd >= 0 && connect(m->fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    setsockopt(m->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    must(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, m->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = m}) == 0);
}

static void member_send(struct member *m, const struct text *request)
{
    char bytes[TEXT_MAX], number[16], *place;

    memcpy(bytes, request->bytes, request->n + 1);
    snprintf(number, sizeof(number), "%08d", 10000000 + (int)(m - members));
    while ((place = strstr(bytes, PLACE)) != NULL)
        memcpy(place, number, strlen(PLACE));
    m->have = 0;
    m->sent_us = now_us();
    must(write(m->fd, bytes, request->n) == (ssize_t)request->n);
}

/* True when the answer is complete. Its end is found as its head says, a length or chunks. */
static int member_read(struct member *m)
{
    ssize_t got = read(m->fd, m->answer + m->have, TEXT_MAX - m->have);
    char *end, *field;

    if (got <= 0) {
        fprintf(stderr, "connection %d closed after %zu bytes: %.*s\n", (int)(m - members), m->have, (int)m->have, m->answer);
        exit(1);
    }
    m->have += (size_t)got;
    m->answer[m->have] = '\0';
    end = strstr(m->answer, "\r\n\r\n");
    if (end != NULL) {
        field = strcasestr(m->answer, "\r\ncontent-length:");
        if (field != NULL && field < end) {
            size_t total = (size_t)(end - m->answer) + 4 + strtoul(field + 17, NULL, 10);
            must(m->have <= total);
            return m->have == total;
        }
        must(strcasestr(m->answer, "\r\ntransfer-encoding: chunked") != NULL);
        return m->have >= 5 && memcmp(m->answer + m->have - 5, "0\r\n\r\n", 5) == 0;
    }
    must(m->have < TEXT_MAX);
    return 0;
}

/* Waits until the answers of `waiting` members are complete. */
static void collect(int waiting)
{
    struct epoll_event events[EVENTS];

    while (waiting > 0) {
        int n = epoll_wait(epoll_fd, events, EVENTS, PATIENCE_MS);
        if (n == 0) {
            fprintf(stderr, "%d answers are missing\n", waiting);
            exit(1);
        }
        must(n > 0);
        for (int i = 0; i < n; i++) {
            struct member *m = events[i].data.ptr;
            if (member_read(m)) {
                m->end_us = now_us();
                waiting--;
            }
        }
    }
}

int main(int argc, char **argv)
{
    static struct text warm, request;
    uint64_t began_us;

    if (argc != 5) {
        fprintf(stderr, "usage: herd_load PORT COUNT WARM_REQUEST_FILE REQUEST_FILE\n");
        return 2;
    }
    count = atoi(argv[2]);
    members = calloc((size_t)count, sizeof(*members));
    must(count > 0 && members != NULL);
    warm = read_file(argv[3]);
    request = read_file(argv[4]);
    raise_descriptors();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    must(epoll_fd >= 0);
    for (int i = 0; i < count; i++)
        member_connect(&members[i], atoi(argv[1]));
    for (int i = 0; i < count; i += WARM_BATCH) {
        int batch = count - i < WARM_BATCH ? count - i : WARM_BATCH;
        for (int k = 0; k < batch; k++)
            member_send(&members[i + k], &warm);
        collect(batch);
    }
    began_us = now_us();
    for (int i = 0; i < count; i++)
        member_send(&members[i], &request);
    collect(count);
    for (int i = 0; i < count; i++) {
        printf("%llu %llu %zu\n", (unsigned long long)(members[i].sent_us - began_us),
               (unsigned long long)(members[i].end_us - began_us), members[i].have);
        fwrite(members[i].answer, 1, members[i].have, stdout);
    }
    return 0;
}
