/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: under which names the answer to a request may lie, and what purges it. Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_KEYS_H
#define MCPCACHED_FLOW_KEYS_H

#include "sidecar/flow/flow.h"
#include "sidecar/trust/admission.h"
#include "sidecar/trust/definitions.h"
#include "sidecar/wire/headers.h"

/* The private one is still to be bound to the epochs of whoever asks (keys_bind). */
struct keys {
    struct cp_key private_key, public_key;
    struct cp_key first_page; /* of a list that this request asks a later page of, in the public arm */
    bool has_private, has_public, has_first_page;
    uint8_t grant[16];                     /* of who asks, for what is asked */
    uint64_t own_subject;                  /* of who asks: his writes make everything older no answer for him */
    uint64_t subjects[STORE_SUBJECTS_MAX]; /* what the question alone tells (keys_add_subjects) */
    size_t subject_count;
};

/* NONE, or why the request cannot have keys. */
enum cp_reason keys_make(struct flow *flow, h2o_req_t *req, struct wire_request *wire, const struct cp_message *message,
                         const struct caller *caller, const struct definition *definition, const struct cp_decision *decision,
                         struct keys *ret);
/* Whether a list is asked for from a cursor on. */
bool keys_is_later_page(const struct cp_message *message);
/* What purges the answer, as far as the question tells: the tool, list or resource, the policy's tags. A lookup does not need it: entries carry theirs. */
void keys_add_subjects(struct flow *flow, const struct cp_message *message, const struct cp_decision *decision,
                       const struct definition *definition, struct keys *keys);
/* many: takes the place of what there is no room for (purge.h). */
void keys_add_subject(uint64_t subjects[STORE_SUBJECTS_MAX], size_t *count, uint64_t subject, uint64_t many);

/* The private key, bound. False: who asks has no standing, so nothing is kept for him. */
bool keys_bind(const struct keys *keys, const struct identity *id, enum cp_scope scope, struct cp_key *ret);

#endif
