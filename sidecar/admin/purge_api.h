/* SPDX-License-Identifier: Apache-2.0 */
/* POST /purge. An order is read on the admin loop; counting and raising, which block, are done by a worker thread, one order after the other; the answer goes out when the
 * purge is in force everywhere. Thread: the admin loop's. */
#ifndef MCPCACHED_ADMIN_PURGE_API_H
#define MCPCACHED_ADMIN_PURGE_API_H

#include "sidecar/trust/trust.h"

#include <h2o.h>

struct purge_api;

/* shared is borrowed until purge_api_free. 0 or -errno. */
int purge_api_new(const struct trust_shared *shared, h2o_context_t *ctx, struct purge_api **ret);
/* Answers, now or later. */
void purge_api_handle(struct purge_api *api, h2o_req_t *req);
/* Orders that are not answered yet. */
size_t purge_api_pending(const struct purge_api *api);
/* Nothing may be pending. Accepts NULL. */
void purge_api_free(struct purge_api *api);

#endif
