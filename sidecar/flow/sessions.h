/* SPDX-License-Identifier: Apache-2.0 */
/* What legacy sessions negotiated at initialize: a bounded table shared by all loops, read without locks.
 * A session is bound to the principal that opened it (sessions are no authentication): another principal with the same id does not find it.
 * Thread: any. */
#ifndef MCPCACHED_FLOW_SESSIONS_H
#define MCPCACHED_FLOW_SESSIONS_H

#include <stdbool.h>
#include <stdint.h>

struct sessions;

struct session {
    char version[16];   /* negotiated protocol version, NUL-terminated */
    uint8_t client[16]; /* digest of what the client said of itself (capabilities) */
};

/* Room for 8192 sessions; the oldest of a bucket makes room. NULL when memory is short. */
struct sessions *sessions_new(void);
void sessions_free(struct sessions *s);
/* name: digest of principal and session id. */
void sessions_learn(struct sessions *s, const uint8_t name[16], const struct session *session, int64_t now_ms);
bool sessions_find(struct sessions *s, const uint8_t name[16], struct session *ret);

#endif
