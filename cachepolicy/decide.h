/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions: before the lookup (may this call be answered from the store, and under which scopes), after the reply (may it be stored, for how long,
 * for whom), and at every lookup (is the entry fresh under the policy in force now, and what may it stand in for). The first reason that fails is the one
 * reported. Pure, no allocation; thread: any. */
#ifndef CP_DECIDE_H
#define CP_DECIDE_H

#include "agree.h"
#include "answer.h"
#include "definition.h"
#include "policy.h"

enum cp_outcome {
#define CP_OUTCOME(name, word, text) CP_OUTCOME_##name,
#include "words.def.h"
#undef CP_OUTCOME
    CP_OUTCOME_COUNT
};

enum cp_reason {
#define CP_REASON(name, word, text) CP_REASON_##name,
#include "words.def.h"
#undef CP_REASON
    CP_REASON_COUNT
};

const char *cp_outcome_word(enum cp_outcome outcome);
const char *cp_outcome_text(enum cp_outcome outcome);
const char *cp_reason_word(enum cp_reason reason);
const char *cp_reason_text(enum cp_reason reason);

/* What the runtime gathered about who asks and how. */
struct cp_caller {
    bool is_anonymous;
    bool accepts_json;
    bool origin_allowed; /* no Origin header, or one on the allow list */
    bool no_cache;       /* Cache-Control or Pragma: no-cache */
    bool no_store;       /* Cache-Control: no-store */
    bool only_if_cached; /* Cache-Control: only-if-cached */
    bool has_proof;      /* a header that the policy lists as per-request proof */
    bool
        body_is_plain; /* one Content-Type, application/json in UTF-8, no Content-Encoding: the upstream reads the bytes that were read here */
    bool hides_headers;            /* Connection names headers that do not travel on, although the key and the checks see them */
    bool has_session;              /* a legacy Mcp-Session-Id is present (ignored in the modern era) */
    bool session_known;            /* what that session negotiated is known here */
    struct span version;           /* legacy: of the session, else of the header, else "2025-03-26"; modern: message->version */
    enum cp_annotation annotation; /* of the tool that is called; else not looked at */
};

enum cp_action {
    CP_ACTION_BYPASS, /* forward, do not look */
    CP_ACTION_WRITE,  /* forward, it may change something */
    CP_ACTION_LOOKUP,
};

struct cp_decision {
    enum cp_action action;
    enum cp_reason reason; /* why not LOOKUP; NONE otherwise */
    bool may_store;        /* the answer may be kept: always with LOOKUP, and with BYPASS for the client's no-cache */
    bool
        only_if_cached; /* the client forbids to ask the upstream: what is not answered from the store is refused, also with BYPASS */
    bool is_doubtful;   /* a malformed call whose tool may change something, or cannot be told */
    const struct cp_rule *rule; /* the rule that spoke; NULL: a default. Also named where a call is too malformed to be decided */
    enum cp_ttl_mode ttl_mode;
    struct cp_lifetime lifetime;
    bool hint_counts;            /* the method carries ttlMs/cacheScope and the era is modern */
    bool may_public;             /* an entry may be public: look in the public arm too */
    enum cp_scope private_scope; /* scope of the private arm: SESSION or PRINCIPAL */
    bool may_private;            /* private results may be stored for this caller, so look in the private arm */
};

/* Versions of the protocol that the cache understands. */
bool cp_version_is_known(enum cp_era era, struct span version);

void cp_decide(const struct cp_policy *policy, const struct cp_message *message, const struct cp_caller *caller,
               struct cp_decision *ret);

/* Whether this POST may change something upstream, so that what this caller saw before must not be shown to him after it: writes, methods that nobody here
 * knows, and whatever cannot be read without doubt. Not: what only reads (the lists, resources/read and tools that no rule and no annotation calls writes), notifications,
 * responses, and what only concerns the session. A batch is judged by its elements (cp_message_each, cp_decide for each); as a whole it may. decision: cp_decide's. */
bool cp_may_write(const struct cp_message *message, const struct cp_caller *caller, const struct cp_decision *decision);

/* HTTP facts of an upstream reply. */
struct cp_reply {
    int status;
    bool is_json, is_events; /* media type application/json or text/event-stream */
    bool is_encoded;         /* Content-Encoding other than identity */
    bool sets_cookie;
    bool no_store, is_private; /* Cache-Control */
    bool vary_unkeyed;         /* Vary: *, or a request header that is neither keyed nor without influence here */
    bool server_asked;         /* the server sent a request of its own on this exchange's stream */
    bool id_matches;           /* cp_answer_is_to */
};

struct cp_storing {
    bool store;
    bool is_negative;      /* an isError result, kept for the rule's negative_ttl; never public */
    enum cp_reason reason; /* why not */
    enum cp_scope scope;
    bool has_hint;
    int64_t hint_ttl_ms; /* to be stored with the entry: freshness is judged again at each lookup */
};

/* now is not needed: ages begin when the runtime stamps the entry. */
void cp_decide_store(const struct cp_decision *decision, const struct cp_message *message, const struct cp_reply *reply,
                     const struct cp_answer *answer, struct cp_storing *ret);

/* May everybody share this result, whether it is stored or not? */
bool cp_is_everybodys(const struct cp_decision *decision, enum cp_era era, const struct cp_reply *reply,
                      const struct cp_answer *answer);

/* Whether an entry found in the public arm may still be served to all: one whose hint gave it no life of its own ("public" beside ttlMs 0 or none) is public
 * only by a rule's explicit word, which may have been taken back since. */
bool cp_is_public_granted(const struct cp_decision *decision, bool has_hint, int64_t hint_ttl_ms);

/* What was stored with an entry and counts at lookup. */
struct cp_stored {
    bool has_hint;
    int64_t hint_ttl_ms;
    int64_t stored_at_ms;
    bool is_negative;
    bool is_soft_purged; /* counts as no longer fresh, whatever its age */
};

/* The lifetime that the policy in force gives an entry with this stored hint, in ms from stored_at; 0 = not usable. Without jitter. */
int64_t cp_lifetime_of(const struct cp_decision *decision, bool has_hint, int64_t hint_ttl_ms);
/* The same for an isError result: the rule's negative_ttl; 0 = not usable. */
int64_t cp_negative_lifetime_of(const struct cp_decision *decision);
/* How long what cp_decide_store lets be stored is of any use under this policy: its lifetime and the longer of grace and stale_if_error. */
int64_t cp_retention_of(const struct cp_decision *decision, const struct cp_storing *storing);

enum cp_freshness {
    CP_FRESH,
    CP_STALE,          /* past its lifetime or purged softly, and within grace: served at once, and refreshed */
    CP_STALE_IF_ERROR, /* past grace, within stale_if_error: for want of anything better only */
    CP_DEAD,
};

struct cp_age {
    enum cp_freshness freshness;
    bool
        may_stand_in; /* after a failed fetch (transport, timeout, 5xx; nothing else): fresh, in grace or within stale_if_error, and no error itself */
    int64_t age_ms;       /* >= 0: a clock that went back makes age 0 */
    int64_t remaining_ms; /* under the policy, jitter taken off; negative when stale, at most 0 when purged softly */
    int64_t
        hint_remaining_ms; /* what the spliced ttlMs may say: fresh: max(0, hint - age), never above what the upstream said; else 0 */
};

/* The lifetime is cut by 0 to 10 %, the same share for one key wherever it is bound (cp_key_bind), so that what was filled together does not end
 * together; it is never stretched. grace and stale_if_error both begin where the lifetime ends, each at most 24 h. What was purged hard is not asked about. */
void cp_age_of(const struct cp_decision *decision, const struct cp_key *key, const struct cp_stored *entry, int64_t now_ms,
               struct cp_age *ret);

#endif
