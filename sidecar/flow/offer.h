/* SPDX-License-Identifier: Apache-2.0 */
/* Offers: what a server says that it can tell of (initialize, server/discover), completed by what is told here, because clients use only what was offered to them. Nothing that is not
 * there is made up: a server without resources gets none. Thread: the flow's loop. */
#ifndef MCPCACHED_FLOW_OFFER_H
#define MCPCACHED_FLOW_OFFER_H

#include "sidecar/flow/flow.h"
#include "sidecar/trust/caller.h"

/* Whether replies to this request are completed. */
bool offer_is_made(const struct flow *flow, const struct cp_message *message, const struct caller *caller);

/* text: a whole message of the upstream's in reply to it; id: the request's. has_session: an initialize opened one. Appends the completed message to out, and says in *ret (enum
 * session_offer) what was added. False: it stays as it is. Its scan in flow->reply_doc. */
bool offer_complete(struct flow *flow, enum cp_era era, struct span text, struct span id, bool has_session, struct buf *out,
                    uint8_t *ret);

/* At the start: answers that were completed before are no answers when nothing is told any more. */
void offers_forget(struct store *store, struct cp_keyer *keyer);

#endif
