/* SPDX-License-Identifier: Apache-2.0 */
/* Counts. Thread: any. */
#include "sidecar/counts.h"

#include "sidecar/base/log.h"
#include "sidecar/base/stats.h"

enum {
    FIRST_OUTCOME = 0,
    FIRST_REASON = FIRST_OUTCOME + CP_OUTCOME_COUNT,
    FIRST_OTHER = FIRST_REASON + CP_REASON_COUNT,
};
_Static_assert(FIRST_OTHER + COUNT_COUNT <= STATS_MAX, "base/stats.h has room for all");

void counts_request(enum cp_outcome outcome, enum cp_reason reason)
{
    stats_count(FIRST_OUTCOME + outcome);
    if (reason != CP_REASON_NONE)
        stats_count(FIRST_REASON + reason);
}

void counts_add(enum count what)
{
    stats_count(FIRST_OTHER + what);
}

static void log_one(const char *kind, const char *word, unsigned id)
{
    uint64_t n = stats_sum(id);

    if (n != 0)
        LOG(LOG_INFO, "count", LOG_TEXT_FIELD(kind, word, strlen(word)), LOG_INT_FIELD("n", (int64_t)n));
}

void counts_log(void)
{
    static const char *const others[COUNT_COUNT] = {
        [COUNT_PROBE] = "probe",
        [COUNT_PROBE_ACCEPTED] = "probe-accepted",
        [COUNT_REFUSED] = "refused",
        [COUNT_SESSION_ENDED] = "session-ended",
        [COUNT_REFRESHED] = "refreshed",
        [COUNT_REFRESH_FAILED] = "refresh-failed",
        [COUNT_NOTICE] = "notice",
        [COUNT_STREAM_LOST] = "stream-lost",
        [COUNT_HIT_FOR_MISS] = "hit-for-miss",
        [COUNT_PURGE] = "purge",
        [COUNT_TOLD] = "told",
        [COUNT_POLLED] = "polled",
        [COUNT_POLL_FAILED] = "poll-failed",
    };

    for (unsigned i = 0; i != CP_OUTCOME_COUNT; ++i)
        log_one("outcome", cp_outcome_word((enum cp_outcome)i), FIRST_OUTCOME + i);
    for (unsigned i = 1; i != CP_REASON_COUNT; ++i)
        log_one("reason", cp_reason_word((enum cp_reason)i), FIRST_REASON + i);
    for (unsigned i = 0; i != COUNT_COUNT; ++i)
        log_one("event", others[i], FIRST_OTHER + i);
}
