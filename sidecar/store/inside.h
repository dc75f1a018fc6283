/* SPDX-License-Identifier: Apache-2.0 */
/* What a store is made of, for the files of this room. */
#ifndef MCPCACHED_STORE_INSIDE_H
#define MCPCACHED_STORE_INSIDE_H

#include <limits.h>
#include <pthread.h>

#include "fault.h"
#include "generations.h"
#include "local.h"
#include "state.h"
#include "writer.h"

struct store {
    struct state state;
    struct fault_mark mark;
    struct generations generations;
    struct local local;
    struct writer *writer; /* owned */
    char data_path[PATH_MAX];
    char generations_path[PATH_MAX];
    bool wiped_at_open;

    pthread_mutex_t counting; /* one count at a time: each takes a reader's place in LMDB */

    /* under lock */
    pthread_mutex_t lock;
    struct store_reader *readers;               /* borrowed: each is its owner's */
    uint64_t gone_verify_failures, gone_errors; /* of readers that were freed */
};

#endif
