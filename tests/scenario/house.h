/* SPDX-License-Identifier: Apache-2.0 */
/* A sidecar in this process: the real flow, trust, wire, store and policy between clients that are ends of socket pairs and an upstream that is fake. It is put together as
 * sidecar/serve.c and sidecar/front/listener.c do it, but loops have no threads of their own: whoever owns them turns them.
 * Thread: one opens, closes and calls the rest, but for what says otherwise. */
#ifndef SCENARIO_HOUSE_H
#define SCENARIO_HOUSE_H

#include "sidecar/store/store.h"

struct house;

struct house_options {
    const char *store; /* directory */
    struct span policy;
    size_t loops;
    bool has_threads; /* loops are opened and closed by the threads that turn them, because libh2o keeps things per thread */
    char **flags;     /* of `mcpcached serve`, but for those that say where things are */
    size_t flag_count;
};

/* NULL with a sentence in ret_why (of 512 bytes). */
struct house *house_open(const struct house_options *options, char *ret_why);
/* With has_threads, on each loop's own thread, before and after all that happens on it. */
bool house_loop_open(struct house *house, size_t loop);
void house_loop_close(struct house *house, size_t loop);
/* A stop begins: listens get their result. */
void house_drain(struct house *house);
/* Cuts what is under way, as a stop does when the time to drain is over. */
void house_close(struct house *house);

/* The client's end of a new connection to that loop, non-blocking; the caller's to close. -errno. */
int house_connect(struct house *house, size_t loop);
/* Requests that were handed to the flow so far. */
size_t house_requests(const struct house *house);
/* One turn of a loop; wait_ms: for something to happen. Thread: the one that turns this loop. */
void house_turn(struct house *house, size_t loop, int wait_ms);
/* When the next timer of any loop is due, in the loops' own time (clock_real_ms); INT64_MAX: none. */
int64_t house_wake_at(const struct house *house);

struct store *house_store(struct house *house);

/* What can be purged. text: what it is about; absent for all and reads. */
enum house_subject {
    HOUSE_ALL,
    HOUSE_TOOL,
    HOUSE_LIST, /* text: the method */
    HOUSE_URI,
    HOUSE_TAG,
    HOUSE_READS,
    HOUSE_PRINCIPAL, /* text: his Authorization */
};
struct house_name {
    enum house_subject subject;
    struct span text;
};
/* Purges all that has any of these names, or, is_dry, only says how many entries that would be now. Waits for the store's writer. Thread: any. */
uint64_t house_purge(struct house *house, const struct house_name *names, size_t count, bool is_soft, bool is_dry);
/* The same without counting, which is what a purge from within the sidecar does: at once. */
void house_raise(struct house *house, const struct house_name *name, bool is_soft);

#endif
