/* SPDX-License-Identifier: Apache-2.0 */
/* What the ends of the benchmarks, upstreams and loads, begin with. None of it is mcpcached's: what measures shares no code with what is measured. */
#ifndef BENCH_ENDS_H
#define BENCH_ENDS_H

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

/* Whatever is not so ends the program: a benchmark that goes on with half of its connections would tell tales. */
#define must(condition)                                                                                                            \
    do {                                                                                                                           \
        if (!(condition)) {                                                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno));                                   \
            exit(1);                                                                                                               \
        }                                                                                                                          \
    } while (0)

static inline uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* As many descriptors as may be. */
static inline void raise_descriptors(void)
{
    struct rlimit limit;

    must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* Listens on loopback, without blocking; port 0: a free one. *ret_port: which. */
static inline int listen_on_loopback(uint16_t port, int backlog, uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (port != 0)
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    must(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, backlog) == 0);
    must(getsockname(listener, (struct sockaddr *)&address, &(socklen_t){sizeof(address)}) == 0);
    *ret_port = ntohs(address.sin_port);
    return listener;
}

#endif
