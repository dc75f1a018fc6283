/* SPDX-License-Identifier: Apache-2.0 */
/* Stamps: what a request that may change something makes old. The writer's own reads ignore whatever is older (read-your-writes, for public entries too), and the
 * tags that its rule invalidates are purged for everybody. Raised before it is forwarded (for whom the upstream knows: anybody may claim to be a writer), before
 * anything of its reply is relayed, and when it is over, however that came (but by 401 or 403): what was read in between may or may not have seen the change. Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_STAMPS_H
#define MCPCACHED_FLOW_STAMPS_H

#include "sidecar/flow/keys.h"

struct stamps {
    uint64_t subjects[STORE_SUBJECTS_MAX];
    size_t count;  /* 0: it changes nothing */
    uint64_t own;  /* of them: the writer's; 0: there is none */
    bool is_known; /* the upstream has accepted this caller before */
    uint16_t places[STORE_SUBJECTS_MAX];
    size_t begun; /* of them: those of the first subjects */
};

/* Whether a request of this method may change something at all (RFC 9110 9.2.1). */
bool stamps_is_unsafe(struct span http_method);
/* caller: its facts say how the body is to be read; its identity whose writes they are. */
void stamps_of(struct flow *flow, const struct cp_message *message, const struct caller *caller, struct stamps *ret);
/* What the reply to a write itself says is invalid by it (Cache-Group-Invalidation, RFC 9875). */
void stamps_add_groups(struct flow *flow, struct span header, struct stamps *stamps);
void stamps_raise(struct flow *flow, const struct stamps *stamps);
/* It is over, and raised: whoever is subscribed to what its tags purged is told. */
void stamps_announce(struct flow *flow, const struct stamps *stamps);
/* Around all of it: should the process end in between, they are raised when the store is opened again. */
void stamps_begin(struct flow *flow, struct stamps *stamps);
void stamps_end(struct flow *flow, struct stamps *stamps);

#endif
