/* SPDX-License-Identifier: Apache-2.0 */
/* Notices: what the upstream says of changes in any stream that passes, heard before it is relayed, so that whoever hears it and asks again gets the new answer
 * (protocol notes 10). Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_NOTICES_H
#define MCPCACHED_FLOW_NOTICES_H

#include "sidecar/flow/flow.h"

/* One message of the upstream's, or an array of them. subscriber: whom it is relayed to (notify/subscribers.h), 16 bytes; NULL: nobody that is subscribed here. */
void notices_hear(struct flow *flow, struct span text, const uint8_t *subscriber);

/* What an open stream would have told of. When it is lost, word of a change may be lost with it. */
struct coverage {
    bool tools, prompts, resources, reads;
    uint64_t *uris; /* owned; subjects */
    size_t uri_count;
};
void coverage_of_get(struct coverage *ret);
void coverage_of_listen(struct flow *flow, const struct cp_message *message, struct coverage *ret);
/* No more than what the upstream acknowledged (its scan in flow->reply_doc); what it does not say leaves it as it is. */
void coverage_narrow(struct flow *flow, const struct cp_answer *ack, struct coverage *coverage);
void coverage_done(struct coverage *coverage);
/* What it covered is stale from now on. */
void coverage_lost(struct flow *flow, const struct coverage *coverage);
/* The client is told now that it may have changed: whoever reads again gets nothing from before. */
void coverage_missed(struct flow *flow, const struct coverage *coverage);

#endif
