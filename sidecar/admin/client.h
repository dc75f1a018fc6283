/* SPDX-License-Identifier: Apache-2.0 */
/* One request to an admin listener, for verbs that ask a sidecar which runs. Blocks. Thread: main. */
#ifndef MCPCACHED_ADMIN_CLIENT_H
#define MCPCACHED_ADMIN_CLIENT_H

#include "cachepolicy/bytes.h"
#include "cachepolicy/error.h"

struct client_call {
    const char *address; /* as of place_parse */
    const char *token;   /* NULL: none */
    const char *method, *path;
    struct span body;
};

/* Sends it and waits for the whole answer, a minute at most for each piece. *ret_status, and *ret_body appended to. 0; -EINVAL: the address is none; another -errno: nobody
 * answered. Unless 0 one sentence in reterr. */
int client_ask(const struct client_call *call, int *ret_status, struct buf *ret_body, struct cp_error *reterr);

#endif
