/* SPDX-License-Identifier: Apache-2.0 */
/* What it takes to tell who asks and whether he is let in: the process-wide tables (shared) and one loop's own means (trust).
 * Thread: shared is immutable after start but for what says otherwise; a trust belongs to its loop. */
#ifndef MCPCACHED_TRUST_TRUST_H
#define MCPCACHED_TRUST_TRUST_H

#include "sidecar/store/store.h"
#include "sidecar/trust/proofs.h"
#include "sidecar/trust/rate.h"
#include "sidecar/trust/standing.h"

#include <h2o.h>
#include <stdatomic.h>

struct definitions;

struct trust_shared {
    struct store *store;
    struct cp_policy *policy;
    struct span upstream; /* the configured URL */
    /* any thread */
    struct standings *standings;
    struct standings *ended_sessions; /* by the id alone: ended for every principal */
    struct proofs *proofs;
    struct definitions *definitions;
    struct rate *rate;
    /* when the upstream was last noted to ask somebody for credentials, or to refuse somebody; 0: never */
    _Atomic int64_t *challenged_ms;
    char *const *allowed_origins;
    size_t allowed_origin_count;
};

struct trust {
    const struct trust_shared *shared;
    struct store_reader *reader;
    struct cp_keyer *keyer;
    uint64_t tools_list_subject; /* raised when the upstream says that its tools changed */
    /* scratch, valid within one callback */
    struct cp_json_doc doc;
    struct buf text, claims;
};

/* 0 or -errno. */
int trust_init(struct trust *trust, const struct trust_shared *shared);
void trust_done(struct trust *trust);

/* store_get into a pool. */
enum store_lookup trust_get(struct trust *trust, const struct cp_key *key, h2o_mem_pool_t *pool, struct store_entry *ret);
/* Where something that is no result lies in the store, under a name that no question can have. Labels keep kinds apart. */
void trust_key_of(struct trust *trust, const char *entry_label, const char *check_label, const uint8_t name[16],
                  struct cp_key *ret);

#endif
