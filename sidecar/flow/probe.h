/* SPDX-License-Identifier: Apache-2.0 */
/* Probes: whether the upstream still accepts a caller, asked by the cheapest request of his era with his own credential and session (server/discover; ping), so that
 * a hit which only lacks a recent sign of life need not repeat the call that it saves. One at a time per caller in the whole process: who comes while
 * one is under way, on whatever loop, waits for its answer.
 * Thread: the flow's loop; the registry, any. */
#ifndef MCPCACHED_FLOW_PROBE_H
#define MCPCACHED_FLOW_PROBE_H

#include "sidecar/flow/flow.h"
#include "sidecar/trust/caller.h"

/* What came of asking about a caller for a request of his. */
enum probed {
    PROBED_NOT,
    PROBED_WELL,
    PROBED_BADLY, /* refused, or not answered, or there was no room */
};

/* Which probes are under way, and which loops want to hear of them. */
struct probe_registry;
struct probe_registry *probe_registry_new(void);
void probe_registry_free(struct probe_registry *registry);

/* Takes the request, and tells its story again (request_resume) when the probe is answered. False, and nothing was taken, when there is no room for one more. */
bool probe_join(struct flow *flow, h2o_req_t *req, const struct wire_request *wire, const struct cp_message *message,
                const struct caller *caller, int64_t now_ms);

/* Once per flow, on its loop. */
void probes_open(struct flow *flow);
void probes_close(struct flow *flow);
/* Cuts all who wait. */
void probes_stop(struct flow *flow);

#endif
