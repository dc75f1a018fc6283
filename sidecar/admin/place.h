/* SPDX-License-Identifier: Apache-2.0 */
/* Where the admin listener is: an address and port, or the path of a Unix socket. For whoever listens there and whoever connects. Thread: any. */
#ifndef MCPCACHED_ADMIN_PLACE_H
#define MCPCACHED_ADMIN_PLACE_H

#include "cachepolicy/error.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct place {
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
        struct sockaddr_un unix_path;
    } address;
    socklen_t address_bytes;
    bool is_unix;
    bool is_loopback; /* nobody on another machine can reach it; true of a Unix socket, too */
};

/* "127.0.0.1:8081", "[::1]:8081", "localhost:8081", "unix:/run/mcpcached/admin.sock". setting: for sentences, e.g. "--admin". 0 or -EINVAL. */
int place_parse(const char *text, const char *setting, struct place *ret, struct cp_error *reterr);

/* A socket that listens at place. A Unix socket is its owner's alone (0600); one that somebody left behind is removed, one that somebody listens on is not. Neither blocking
 * nor inherited. The descriptor or -errno with one sentence. */
int place_listen(const struct place *place, const char *text, struct cp_error *reterr);
/* What a socket is bound to, as place_parse reads it; ret has room for a path of any socket. */
void place_format(int fd, char *ret, size_t cap);
/* Removes a Unix socket, unless another one lies there by now than made says. */
void place_remove(const struct place *place, const struct stat *made);

/* A connected, blocking socket whose reads and writes take no longer than timeout_s each. The descriptor or -errno. */
int place_connect(const struct place *place, int timeout_s);

#endif
