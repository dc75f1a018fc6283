/* SPDX-License-Identifier: Apache-2.0 */
/* The face towards MCP clients: sockets, one event loop per thread, connections up to a cap, and every request handed to flow.
 * HTTP/1.1 only: Debian's libh2o carries no fix for CVE-2023-44487, so HTTP/2 must not be reachable.
 * Thread: listener_new, _stop and _free on the main thread; loops on their own. */
#ifndef MCPCACHED_FRONT_LISTENER_H
#define MCPCACHED_FRONT_LISTENER_H

#include "sidecar/flow/flow.h"
#include "sidecar/front/connection.h"

struct listener_options {
    const char *address;     /* "127.0.0.1:8080", "[::1]:8080"; port 0 takes a free one */
    size_t threads;          /* at least 1 */
    int64_t idle_timeout_ms; /* between requests, and for one to arrive */
    uint64_t max_body_bytes;
    struct connection_limits limits;
    const struct flow_shared *shared; /* borrowed for the listener's life */
};

struct listener;

/* Binds; nothing is served yet. On failure one sentence in reterr. 0 or -errno. */
int listener_new(const struct listener_options *options, struct listener **ret, struct cp_error *reterr);
/* "127.0.0.1:41234": the bound address. Valid for the listener's life. */
const char *listener_address(const struct listener *l);
/* Starts the loops. */
int listener_start(struct listener *l);
/* No new connections; answers under way may end within drain_ms, the rest is cut. Returns when all loops have ended. */
void listener_stop(struct listener *l, int64_t drain_ms);
void listener_free(struct listener *l);

#endif
