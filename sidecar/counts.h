/* SPDX-License-Identifier: Apache-2.0 */
/* How often each outcome and each reason came, and the sidecar's own doings that no request counts. One name for each, from the table of words
 * (cachepolicy/words.def.h). Thread: any. */
#ifndef MCPCACHED_COUNTS_H
#define MCPCACHED_COUNTS_H

#include "cachepolicy/cachepolicy.h"

enum count {
    COUNT_PROBE,          /* probes sent */
    COUNT_PROBE_ACCEPTED, /* of those: answered by a result */
    COUNT_REFUSED,        /* times that the upstream refused a credential (401, 403) */
    COUNT_SESSION_ENDED,
    COUNT_REFRESHED, /* background refreshes that were stored */
    COUNT_REFRESH_FAILED,
    COUNT_NOTICE,       /* the upstream said that something changed */
    COUNT_STREAM_LOST,  /* upstream streams that ended by themselves */
    COUNT_HIT_FOR_MISS, /* questions whose answers turned out to be nobody else's */
    COUNT_PURGE,        /* purges that an operator asked for */
    COUNT_TOLD,         /* notifications of our own */
    COUNT_POLLED,       /* answers that were asked for because somebody is subscribed */
    COUNT_POLL_FAILED,
    COUNT_COUNT
};

void counts_request(enum cp_outcome outcome, enum cp_reason reason);
void counts_add(enum count what);
/* One log line for each that is not zero. */
void counts_log(void);

#endif
