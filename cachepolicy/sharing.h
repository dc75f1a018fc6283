/* SPDX-License-Identifier: Apache-2.0 */
/* Sharing: what those get who waited for another's fetch of the same question. Pure; thread: any. */
#ifndef CP_SHARING_H
#define CP_SHARING_H

#include "decide.h"

enum cp_sharing {
    CP_SHARE_RESULT, /* the result, each with his own id, whether it is stored or not */
    CP_SHARE_ERROR,  /* the upstream's JSON-RPC error, each with his own id */
    CP_SHARE_FAILURE, /* no answer came: a stale one that may stand in, or one error of our own with the same status; nobody asks again */
    CP_SHARE_ALONE, /* it is the leader's alone: everybody else asks for himself, all at once */
};

/* Among callers whose credentials are the same as the leader's; who else waits gets it only when it is stored for everybody, and he is let in. reason: why the
 * answer is not kept, in the end (CP_REASON_NONE: it is). reply and answer: what was read; answer may be all zero where there was nothing to read. In doubt ALONE. */
enum cp_sharing cp_sharing_of(enum cp_reason reason, const struct cp_decision *decision, enum cp_era era,
                              const struct cp_reply *reply, const struct cp_answer *answer);

#endif
