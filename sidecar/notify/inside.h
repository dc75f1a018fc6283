/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of subscribers share. All of it under the mutex.
 *
 *      subscriber --- streams                      in the order in which they were opened
 *          |
 *        link ------- subject -- text              one for all links to one URI
 *        |  |
 *      end  end ----- watch -- tags, timer         own name, shared name; of a tool's result instead one end, at the subject
 *
 * Always: a watch has an end, a subject a link, a listen a stream, a session a stream or a link; an end is among its watch's drivers exactly when its link may be
 * polled for there (end_may_drive); a watch's timer is set exactly when a poll is out, or when it has a driver and a time. subscribers_check says whether it is so.
 * *_of finds; *_get finds or makes; *_settle puts right what follows from a change. */
#ifndef MCPCACHED_NOTIFY_INSIDE_H
#define MCPCACHED_NOTIFY_INSIDE_H

#include "subscribers.h"
#include "table.h"
#include "tags.h"
#include "timers.h"

#include <pthread.h>
#include <stdatomic.h>

#define NEVER INT64_MAX

enum arm {
    ARM_OWN,
    ARM_SHARED,
    ARM_NONE, /* no content was seen yet */
};

/* Where a link hangs at a watch, or at its subject. */
struct end {
    struct watch *watch;     /* NULL: at none */
    struct end *next, *prev; /* a ring */
    uint8_t arm;             /* which of its link's ends it is */
    bool is_driver;
};

struct link {
    struct node node;  /* by subscriber and subject */
    struct timer hold; /* set: it is to be told when the upstream does not, or to be tried again */
    struct subscriber *subscriber;
    struct link *next, *prev; /* of the subscriber: a ring; lists before resources */
    struct subject *subject;
    struct end ends[2];
    struct watch_content content; /* content and began_ms: unless ARM_NONE */
    int64_t began_ms;
    int64_t
        told_ms; /* is_told: he was told, not by us or because of a purge, and nothing was seen since. Of a result: when that was */
    uint8_t topic, method, arm;
    uint8_t unheard; /* how often in a row he was not seen to be let in when he was to be told */
    bool is_covered, is_result, is_told;
    bool is_pending;         /* to be told as soon as there is a stream */
    struct topic_text *tool; /* is_result: whose result it was that changed */
};

struct subject {
    struct node node;
    uint64_t subject;
    struct topic_text *text; /* NULL: of a list */
    struct end *results;     /* of links to results */
    size_t links;
};

struct watch {
    struct node node; /* by name */
    struct timer timer;
    struct watch_name name;
    struct end *drivers; /* the first is next */
    struct end *others;
    struct tagged *tagged;
    int64_t began_ms;      /* of the last sighting; INT64_MIN: none */
    int64_t due_ms;        /* of the next poll; NEVER */
    int64_t good_until_ms; /* what was seen last is served until then, unless it was purged: then 0 */
    int64_t doubt_ms;      /* what was asked for before does not say how it is */
    uint32_t backoff_ms;
    uint8_t gones; /* streams that were not there, in a row */
    bool is_out;   /* a poll */
    bool is_moved; /* due_ms, by a sighting since the poll went out */
    bool is_left;  /* by a driver who is served something else now, since then */
};

struct stream {
    struct node node;              /* by loop and id */
    struct subscriber *subscriber; /* NULL: ended, and not closed yet */
    struct stream *next;
    struct stream_ref ref;
    bool may_tell;
};

struct subscriber {
    struct node by_name, by_credential;
    struct timer idle; /* set: a session without a stream */
    uint8_t name[16], credential[32], principal[32];
    struct stream *streams;
    struct link *links; /* the first */
    uint32_t link_count;
    uint32_t tellers; /* streams that may tell */
    bool is_session, is_anonymous;
};

struct result {
    struct node node;           /* by name */
    struct result *next, *prev; /* a ring, by age */
    struct tagged *tagged;
    struct watch_name name;
    struct watch_content content;
    int64_t began_ms;
    uint64_t subject;
    struct topic_text *tool;
    uint8_t principal[32], session[16];
    enum cp_scope scope;
};

struct subscribers {
    pthread_mutex_t mutex;
    struct subscribers_options options;
    struct table by_name, by_credential, streams, links, subjects, watches, results;
    struct tags tags;
    struct timers timers;
    struct result *oldest;
    size_t sessions, listens;
    /* any thread */
    _Atomic int64_t next_due_ms;
    atomic_bool is_any;
    size_t filter_mask;
    atomic_uint *filter; /* watches, by a few bytes of their names */
};

void subscribers_lock(struct subscribers *s);
void subscribers_unlock(struct subscribers *s); /* what is read without the mutex is put right first */

static inline uint64_t bytes_hash(const uint8_t *bytes)
{
    uint64_t hash;

    memcpy(&hash, bytes, sizeof(hash));
    return table_mix(hash);
}

static inline struct link *link_of_end(struct end *end)
{
    return OF_NODE(struct link, ends, end - end->arm);
}

/* ---- actions.c ---- */
struct topic_text *topic_text_new(struct span text); /* NULL: no memory */

/* ---- watches.c ---- */
struct watch *watch_of(const struct subscribers *s, const struct watch_name *name);
struct watch *watch_get(struct subscribers *s, const struct watch_name *name); /* NULL: no memory */
/* Without a link it is freed. */
void watch_settle(struct subscribers *s, struct watch *watch);
void end_join(struct end **ring, struct end *end);
void end_leave(struct end **ring, struct end *end);
bool end_may_drive(const struct end *end);
/* After anything that end_may_drive asks for. */
void link_settle(struct subscribers *s, struct link *link);
void link_leave(struct subscribers *s, struct link *link);
/* Something was seen: when to ask next, and what purges it. */
void watch_note(struct subscribers *s, struct watch *watch, const struct sighting *sighting, int64_t now_ms);
/* To be asked as soon as may be. */
void watch_hurry(struct subscribers *s, struct watch *watch, int64_t now_ms);
void watch_doubt(struct subscribers *s, struct watch *watch, int64_t now_ms);
void watch_polled(struct subscribers *s, struct watch *watch, enum poll_end how, int64_t now_ms);
/* Until what could not be done for others is tried again: not the same for all. */
int64_t busy_pause(const struct subscribers *s);
/* After so many failures before this one. */
int64_t failure_pause(const struct subscribers *s, unsigned failures);
void watch_due(struct subscribers *s, struct watch *watch, int64_t now_ms, struct actions *out);

/* ---- results.c ---- */
void results_purged(struct subscribers *s, const struct result *result, int64_t now_ms, struct actions *out);
void result_drop(struct subscribers *s, struct result *result);

/* ---- check.c ---- */
/* For tests: what is not as it always should be; NULL: nothing. */
const char *subscribers_check(struct subscribers *s);

/* ---- links.c ---- */
uint64_t link_hash_of(const struct node *node);
uint64_t subject_hash_of(const struct node *node);
struct subject *subject_of(const struct subscribers *s, uint64_t subject); /* of a URI */
/* The first of his with this subject, and the next: there may be one for each method. */
struct link *link_first(const struct subscribers *s, const struct subscriber *subscriber, uint64_t subject);
struct link *link_next(const struct link *link);
struct link *link_new(struct subscribers *s, struct subscriber *subscriber, const struct subscription *what); /* NULL: no memory */
void link_drop(struct subscribers *s, struct link *link);
/* What a subscription brings along: the link may be there already. False: no memory. */
bool link_take(struct subscribers *s, struct link *link, const struct subscription *what, int64_t now_ms);
void link_name_tool(struct link *link, const struct result *result);
/* Tells at once; stream NULL: as soon as there is one. */
void link_tell_on(struct link *link, const struct stream *stream, struct actions *out);
/* Tells, or holds it for a while where the upstream may tell itself. */
void link_tell(struct subscribers *s, struct link *link, int64_t now_ms, struct actions *out);
/* He was told: nothing waits any more. */
void link_told(struct subscribers *s, struct link *link, int64_t now_ms);
bool link_is_twin_told(const struct link *link, int64_t now_ms);
void link_unheard(struct subscribers *s, struct link *link, enum poll_end how, int64_t now_ms);
void link_purged(struct subscribers *s, struct link *link, int64_t now_ms, struct actions *out);
void link_saw(struct subscribers *s, struct end *end, const struct sighting *sighting, int64_t now_ms, struct actions *out);

/* ---- subscribers.c ---- */
/* The first stream of his that may be written to, but not this one; NULL: none. */
const struct stream *subscriber_teller(const struct subscriber *subscriber, const struct stream_ref *but);

#endif
