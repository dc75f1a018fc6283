/* SPDX-License-Identifier: Apache-2.0 */
/* The face towards operators: a listener of its own, away from the MCP port, with a loop and a thread of its own. What it answers is one table of paths (admin.c).
 * Over TCP every process of the machine, or of the pod, may knock, so a token is needed there; a Unix socket is its owner's alone.
 * Thread: admin_new, _start, _stop and _free on the main thread. */
#ifndef MCPCACHED_ADMIN_ADMIN_H
#define MCPCACHED_ADMIN_ADMIN_H

#include "sidecar/trust/trust.h"

struct admin_options {
    const char *address;              /* as of place_parse */
    const char *token_file;           /* "": none */
    const struct trust_shared *trust; /* borrowed for the admin's life */
};

struct admin;

/* Binds; connections wait. On failure one sentence in reterr. 0 or -errno. */
int admin_new(const struct admin_options *options, struct admin **ret, struct cp_error *reterr);
/* "127.0.0.1:41234" or "unix:/path": the bound address. Valid for the admin's life. */
const char *admin_address(const struct admin *admin);
/* 0 or -errno. */
int admin_start(struct admin *admin);
/* Purges under way are done and answered. Returns when the loop has ended. Accepts NULL. */
void admin_stop(struct admin *admin);
void admin_free(struct admin *admin);

#endif
