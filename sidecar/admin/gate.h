/* SPDX-License-Identifier: Apache-2.0 */
/* Who may speak to the admin listener: whoever knows the token, and nobody whom a browser sent. Thread: any. */
#ifndef MCPCACHED_ADMIN_GATE_H
#define MCPCACHED_ADMIN_GATE_H

#include "cachepolicy/bytes.h"
#include "cachepolicy/error.h"

#define GATE_TOKEN_MIN 16
#define GATE_TOKEN_MAX 512

struct gate {
    bool has_token;
    uint8_t token_digest[32];
    bool is_local; /* whoever is sent here must think that this is his own machine */
};

enum gate_pass {
    GATE_OPEN,
    GATE_HOST,   /* Host is no name of this machine: a page whose name was bound to our address */
    GATE_ORIGIN, /* a page's script */
    GATE_TOKEN,
};

struct gate_headers {
    struct span host;
    bool has_origin;
    struct span authorization; /* absent: none */
};

/* The first line of a file, without blanks around it: 16 to 512 printable characters, no blanks. ret has room for GATE_TOKEN_MAX and a NUL. 0 or -errno with one sentence;
 * setting: for that, e.g. "--admin-token-file". */
int gate_read_token(const char *path, const char *setting, char *ret, struct cp_error *reterr);
/* From here on the gate asks for this token. */
void gate_set_token(struct gate *gate, const char *token);
/* Takes the same time for every wrong token. */
enum gate_pass gate_check(const struct gate *gate, const struct gate_headers *headers);
/* localhost, 127.0.0.0/8 or [::1], with or without a port. */
bool gate_is_loopback_host(struct span host);

#endif
