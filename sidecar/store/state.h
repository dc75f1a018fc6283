/* SPDX-License-Identifier: Apache-2.0 */
/* The state file: who holds the store, and whether what lies beside it may be believed.
 * It stands outside LMDB because the question must be answered before LMDB touches a page: after a power loss under MDB_NOSYNC any page may be
 * torn, and LMDB trusts its pages. It is also the lock: held with flock from state_open to state_close.
 * Thread: the one that opens and closes the store; the writer for state_distrust. */
#ifndef MCPCACHED_STORE_STATE_H
#define MCPCACHED_STORE_STATE_H

#include "cachepolicy/cachepolicy.h"

enum {
    STATE_SCHEMA = 3, /* of the whole layout: dbis, their keys and chunks, the index record, the generations */
    STATE_LINE_MAX = 256,
};

struct state {
    int fd;                   /* owned; -1 when not open */
    bool is_read;             /* the fields below come from the file; false: it was empty, torn or of another schema */
    char boot[40];            /* boot id under which it was written; "" when that could not be read */
    bool is_clean;            /* store_close came to its end */
    bool is_distrusted;       /* something that had to be deleted could not be: the next open wipes */
    uint64_t file_bytes;      /* when clean: at least that long is the data file */
    uint64_t head_sum;        /* when clean: XXH3-64 of its two meta pages; LMDB itself keeps no sum of them */
    uint64_t generations_sum; /* when clean: as generations_close gave it */
};

/* Opens the file, making it when missing, and takes the lock. -EBUSY when another process (or store) holds it. */
int state_open(const char *path, struct state *ret);
/* The fields as the file holds them; returns the length. */
size_t state_format(const struct state *state, char ret[STATE_LINE_MAX]);
/* Writes the fields and waits until they are on the disk. 0 or -errno. */
int state_write(const struct state *state);
void state_close(struct state *state);

/* Whether the data file may be opened at all: the last end was clean, or the kernel that held its pages still runs under boot. */
bool state_is_trusted(const struct state *state, const char *boot);

/* This kernel's boot id, "" when it cannot be read. "" never equals another one. */
void state_boot_id(char ret[40]);

#endif
