/* SPDX-License-Identifier: Apache-2.0 */
/* Places. Not here: who may come there (gate.c). Always: a file that is no socket is never removed. */
#include "sidecar/admin/place.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* More than are let in at once: over it, who comes to a Unix socket is sent away instead of waiting. */
#define BACKLOG 256

static bool is_loopback(const struct sockaddr *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    switch (address->sa_family) {
    case AF_INET:
        memcpy(&v4, address, sizeof(v4));
        return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    case AF_INET6:
        memcpy(&v6, address, sizeof(v6));
        return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
    default:
        return false;
    }
}

static int parse_unix(const char *path, const char *text, const char *setting, struct place *ret, struct cp_error *reterr)
{
    struct sockaddr_un *address = &ret->address.unix_path;

    if (*path != '/' || strlen(path) >= sizeof(address->sun_path)) {
        cp_error_set(reterr, "", 0, 0, "%s '%.80s': the path of a Unix socket begins with / and has at most %zu bytes", setting,
                     text, sizeof(address->sun_path) - 1);
        return -EINVAL;
    }
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, strlen(path) + 1);
    ret->address_bytes = sizeof(*address);
    ret->is_unix = ret->is_loopback = true;
    return 0;
}

static bool is_port(const char *text)
{
    size_t n = strspn(text, "0123456789");

    return n != 0 && n <= 5 && text[n] == '\0' && atol(text) <= 65535;
}

int place_parse(const char *text, const char *setting, struct place *ret, struct cp_error *reterr)
{
    const char *colon = strrchr(text, ':');
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    char host[256];
    size_t host_bytes;
    int r;

    memset(ret, 0, sizeof(*ret));
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, text, setting, ret, reterr);
    if (colon == NULL || colon == text || !is_port(colon + 1) || (host_bytes = (size_t)(colon - text)) >= sizeof(host)) {
        cp_error_set(reterr, "", 0, 0,
                     "%s '%.80s' is no ADDR:PORT and no unix:/PATH; write it like 127.0.0.1:8081 or unix:/run/mcpcached/admin.sock",
                     setting, text);
        return -EINVAL;
    }
    memcpy(host, text, host_bytes);
    host[host_bytes] = '\0';
    if (host_bytes >= 2 && host[0] == '[' && host[host_bytes - 1] == ']') {
        memmove(host, host + 1, host_bytes - 2);
        host[host_bytes - 2] = '\0';
    }
    if ((r = getaddrinfo(host, colon + 1, &hints, &found)) != 0) {
        cp_error_set(reterr, "", 0, 0, "%s '%.80s': %s; write it like 127.0.0.1:8081", setting, text, gai_strerror(r));
        return -EINVAL;
    }
    memcpy(&ret->address, found->ai_addr, found->ai_addrlen);
    ret->address_bytes = found->ai_addrlen;
    ret->is_loopback = is_loopback(&ret->address.any);
    freeaddrinfo(found);
    return 0;
}

/* Makes room for a Unix socket. 0 or -errno. */
static int remove_stale(const struct place *place)
{
    const char *path = place->address.unix_path.sun_path;
    struct stat stat;
    int fd, r;

    if (lstat(path, &stat) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(stat.st_mode))
        return -EEXIST;
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        return -errno;
    r = connect(fd, &place->address.any, place->address_bytes) == 0 ? -EADDRINUSE : -errno;
    close(fd);
    if (r == -ECONNREFUSED)
        return unlink(path) == 0 ? 0 : -errno;
    return r == -EAGAIN ? -EADDRINUSE : r;
}

int place_listen(const struct place *place, const char *text, struct cp_error *reterr)
{
    int on = 1, r = place->is_unix ? remove_stale(place) : 0, fd = -1;

    if (r == 0 && (fd = socket(place->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        r = -errno;
    /* the file is made with the mode that the socket has: it is never there with another one */
    if (r == 0 && place->is_unix && fchmod(fd, 0600) != 0)
        r = -errno;
    if (r == 0 && !place->is_unix && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
        r = -errno;
    if (r == 0 && (bind(fd, &place->address.any, place->address_bytes) != 0 || listen(fd, BACKLOG) != 0))
        r = -errno;
    if (r == 0)
        return fd;
    if (r == -EEXIST)
        cp_error_set(reterr, "", 0, 0, "--admin '%.120s': a file that is no socket lies there; remove it, or choose another path",
                     text);
    else if (r == -EADDRINUSE)
        cp_error_set(reterr, "", 0, 0, "--admin '%.120s': somebody listens there already; choose another address", text);
    else
        cp_error_set(reterr, "", 0, 0, "--admin '%.120s': %s; choose another address", text, strerror(-r));
    if (fd >= 0)
        close(fd);
    return r;
}

void place_format(int fd, char *ret, size_t cap)
{
    struct place place = {.address_bytes = sizeof(place.address)};
    char host[64], port[8];

    *ret = '\0';
    if (getsockname(fd, &place.address.any, &place.address_bytes) != 0)
        return;
    if (place.address.any.sa_family == AF_UNIX)
        snprintf(ret, cap, "unix:%.*s", (int)sizeof(place.address.unix_path.sun_path), place.address.unix_path.sun_path);
    else if (getnameinfo(&place.address.any, place.address_bytes, host, sizeof(host), port, sizeof(port),
                         NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(ret, cap, place.address.any.sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

void place_remove(const struct place *place, const struct stat *made)
{
    struct stat there;

    if (place->is_unix && lstat(place->address.unix_path.sun_path, &there) == 0 && there.st_ino == made->st_ino &&
        there.st_dev == made->st_dev)
        unlink(place->address.unix_path.sun_path);
}

int place_connect(const struct place *place, int timeout_s)
{
    struct timeval timeout = {.tv_sec = timeout_s};
    int fd = socket(place->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0 &&
        connect(fd, &place->address.any, place->address_bytes) == 0)
        return fd;
    r = errno == EINPROGRESS ? -ETIMEDOUT : -errno;
    close(fd);
    return r;
}
