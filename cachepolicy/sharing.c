/* SPDX-License-Identifier: Apache-2.0 */
/* Who shares what. Not here: when that is known, and who waits (the runtime).
 * Always: callers without credentials look alike here and may be told apart upstream, so they share only what is everybody's; what a caller gets
 * without asking the upstream himself was asked for with his credentials, accepted, and bound to no exchange. Thread: any. */
#include "sharing.h"

/* The callers who wait are one, as far as the upstream tells them apart; or it does not matter. */
static bool may_share(const struct cp_decision *decision, enum cp_era era, const struct cp_reply *reply,
                      const struct cp_answer *answer)
{
    /* an error is never everybody's: it may be a refusal of what this caller alone is seen to be */
    bool is_good = answer->has_result && !answer->has_error && !answer->is_error;

    return decision->may_private || (is_good && cp_is_everybodys(decision, era, reply, answer));
}

static bool is_plain(const struct cp_reply *reply)
{
    return reply->status == 200 && !reply->sets_cookie && !reply->no_store && !reply->is_encoded && !reply->vary_unkeyed &&
           !reply->server_asked && reply->id_matches;
}

static enum cp_sharing share_result(const struct cp_decision *decision, enum cp_era era, const struct cp_reply *reply,
                                    const struct cp_answer *answer)
{
    if (!is_plain(reply) || !answer->is_readable || !answer->has_result || answer->has_error || !answer->is_object ||
        answer->type == CP_RESULT_OTHER || (answer->type == CP_RESULT_ABSENT && era == CP_ERA_MODERN) ||
        answer->is_exchange_private || answer->refuses_cache)
        return CP_SHARE_ALONE;
    return may_share(decision, era, reply, answer) ? CP_SHARE_RESULT : CP_SHARE_ALONE;
}

static enum cp_sharing share_error(const struct cp_decision *decision, enum cp_era era, const struct cp_reply *reply,
                                   const struct cp_answer *answer)
{
    if (!is_plain(reply) || !answer->is_readable || !answer->has_error || answer->has_result || answer->has_method)
        return CP_SHARE_ALONE;
    return may_share(decision, era, reply, answer) ? CP_SHARE_ERROR : CP_SHARE_ALONE;
}

/* 401, 403 and 404 speak to one caller or one session, other 4xx to one request; 429 and 5xx are the same for all who ask now, and asking again makes it worse. */
static enum cp_sharing share_status(const struct cp_reply *reply)
{
    return reply->status == 429 || (reply->status >= 500 && reply->status <= 599) ? CP_SHARE_FAILURE : CP_SHARE_ALONE;
}

enum cp_sharing cp_sharing_of(enum cp_reason reason, const struct cp_decision *decision, enum cp_era era,
                              const struct cp_reply *reply, const struct cp_answer *answer)
{
    switch (reason) {
    case CP_REASON_NONE:
    case CP_REASON_PURGED:
    case CP_REASON_IS_ERROR:
    case CP_REASON_NO_TTL:
    case CP_REASON_QUEUE:
    case CP_REASON_OVERTAKEN:
    case CP_REASON_RATE:
        return share_result(decision, era, reply, answer);
    case CP_REASON_RPC_ERROR:
        return share_error(decision, era, reply, answer);
    case CP_REASON_STATUS:
        return share_status(reply);
    case CP_REASON_TRUNCATED:
    case CP_REASON_CONNECT:
    case CP_REASON_TIMEOUT:
    case CP_REASON_RESET:
    case CP_REASON_BREAKER:
        return CP_SHARE_FAILURE;
    /* the leader's own exchange */
    case CP_REASON_UNREADABLE:
    case CP_REASON_WRONG_ID:
    case CP_REASON_RESULT_TYPE:
    case CP_REASON_EXCHANGE:
    case CP_REASON_SERVER_REQUEST:
    case CP_REASON_SET_COOKIE:
    case CP_REASON_NO_STORE:
    case CP_REASON_VARY:
    case CP_REASON_ENCODING:
    case CP_REASON_TYPE:
    case CP_REASON_LARGE:
    /* callers without credentials; a caller who was refused meanwhile */
    case CP_REASON_ANONYMOUS:
    case CP_REASON_UNPROVEN:
    /* nothing that a flight ends with, or not an answer */
    case CP_REASON_ABANDONED:
    case CP_REASON_METHOD:
    case CP_REASON_OPAQUE:
    case CP_REASON_BATCH:
    case CP_REASON_MEDIA_TYPE:
    case CP_REASON_CONNECTION:
    case CP_REASON_MALFORMED:
    case CP_REASON_VERSION:
    case CP_REASON_NO_RULE:
    case CP_REASON_OFF:
    case CP_REASON_WRITE:
    case CP_REASON_UNLISTED:
    case CP_REASON_ANNOTATION:
    case CP_REASON_CONTINUATION:
    case CP_REASON_TASK:
    case CP_REASON_HEADER:
    case CP_REASON_ACCEPT:
    case CP_REASON_ORIGIN:
    case CP_REASON_CLIENT_CONTROL:
    case CP_REASON_PROOF:
    case CP_REASON_SESSION:
    case CP_REASON_KEY_SIZE:
    case CP_REASON_EXPIRED:
    case CP_REASON_OBSERVE:
    case CP_REASON_SUBSCRIPTION:
    case CP_REASON_HIT_FOR_MISS:
    case CP_REASON_FLIGHTS:
    case CP_REASON_STALE_IF_ERROR:
    case CP_REASON_FRAMING:
    case CP_REASON_HEADER_SIZE:
    case CP_REASON_BODY_SIZE:
    case CP_REASON_SLOW:
    case CP_REASON_STREAMS:
    case CP_REASON_ONLY_IF_CACHED:
    case CP_REASON_COUNT:
        return CP_SHARE_ALONE;
    }
    return CP_SHARE_ALONE;
}
