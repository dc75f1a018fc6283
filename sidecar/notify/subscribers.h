/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribers: who wants to hear that which entry changed, what each of them knows of it, and what is to be done next. Bookkeeping alone: no sockets, no clock; time is
 * passed in, and what follows from a call comes out as actions, which the caller carries out after it.
 *
 *      subscriber  a legacy session, which may have open streams or none; or one subscriptions/listen stream
 *      link        one thing that a subscriber asked to hear of: a resource's URI, or a kind of list
 *      watch       one name of an entry: the links whose subscribers would be served that very entry, and when it is asked for again
 *      result      a tool's stored answer that its rule calls a resource: what it was, and what purges it
 *
 * A link has two names: its own (the entry under which the answer to this caller alone lies) and, where one may be, the shared one (the public entry). It hears of a change of
 * an entry only under one of its names, so nobody hears of what he would not be served. What a link knows (its baseline) is the content that was last seen under either.
 *
 * Always: a link's first content is silent; one change is told once to each subscriber, whoever noticed it, the upstream or we; of several streams of a session one is
 * told; without a stream a session has one pending mark for each link. A link is its subscriber's, method's and subject's: two with the same three are one.
 * Thread: any; a mutex, held for a search. subscribers_may_want takes none. */
#ifndef MCPCACHED_NOTIFY_SUBSCRIBERS_H
#define MCPCACHED_NOTIFY_SUBSCRIBERS_H

#include "cachepolicy/cachepolicy.h"

struct subscribers;

/* Name of an entry: the beginning of its key's digest. */
struct watch_name {
    uint8_t bytes[16];
};
/* Content: a digest of what counts when two answers are compared. */
struct watch_content {
    uint8_t bytes[16];
};
/* The upstream says that there is none any more. No digest is all zeros. */
#define WATCH_GONE ((struct watch_content){{0}})

/* A stream that can be written to: which loop has it, and under which number there (never 0). */
struct stream_ref {
    unsigned loop;
    uint64_t id;
};

enum topic {
    TOPIC_RESOURCE,   /* one URI: notifications/resources/updated */
    TOPIC_TOOLS_LIST, /* notifications/.../list_changed */
    TOPIC_PROMPTS_LIST,
    TOPIC_RESOURCES_LIST, /* resources/list and resources/templates/list: two links of one topic */
};

struct subscribers_options {
    size_t max_links;        /* of all subscribers */
    size_t max_links_of_one; /* of one subscriber */
    unsigned share_percent;  /* of max_links: what subscribers of one credential may have, unless nobody has one; 0: all */
    size_t max_results;      /* remembered tool results; the oldest makes room */
    int64_t
        min_poll_ms; /* between two polls of one watch, whatever its lifetime; also the first step of the back-off, which doubles up to 5 minutes */
    int64_t unfresh_poll_ms; /* between two polls of what has no lifetime; 0: such are never polled */
    int64_t hold_ms;         /* how long the upstream, where it said that it tells of a link itself, is waited for before we tell */
    int64_t
        idle_ms; /* a session without an open stream that opened, closed, subscribed and unsubscribed nothing for so long is forgotten */
    uint64_t (*random)(void *ctx); /* for jitter; NULL: none */
    void *ctx;
};
struct subscribers *subscribers_new(const struct subscribers_options *options); /* NULL: no memory */
void subscribers_free(struct subscribers *s);

/* ---- what is to be done ---------------------------------------------------------------------------------------------------------- */

enum action_kind {
    ACTION_TELL, /* write the topic's notification on the stream; when that cannot be: subscribers_untold */
    ACTION_POLL, /* ask the upstream for the link's answer in the stream's own name; then subscribers_polled, whatever came of it */
    ACTION_END,  /* end the stream: its credential or session is over */
};
struct topic_text; /* counted, any thread: a URI that several actions and links share */
struct action {
    enum action_kind kind;
    struct stream_ref stream;
    enum topic topic;
    enum cp_method method;   /* of the link: RESOURCES_READ, or the list's */
    uint64_t subject;        /* of the link */
    struct topic_text *uri;  /* one reference; NULL: of a list */
    struct topic_text *tool; /* TELL of a tool's result: one reference to the tool's name; else NULL */
    bool is_missed;          /* the upstream was to tell it, and may have: nothing was seen here */
    bool is_result;          /* it is a tool's result */
    uint8_t subscriber[16];  /* whose link it is */
    struct watch_name name;  /* POLL: of the watch */
    bool is_shared;          /* POLL: that is a shared name */
};
/* Zero-initialise; actions are appended. In order, those of one loop are to be carried out. */
struct actions {
    struct action *items; /* owned */
    size_t count, cap;
};
void actions_done(struct actions *a);
/* A copy, with references of its own. False: no memory. */
bool actions_add(struct actions *a, const struct action *action);
struct topic_text *topic_text_ref(struct topic_text *text);
void topic_text_unref(struct topic_text *text);             /* NULL: nothing */
struct span topic_text_span(const struct topic_text *text); /* NULL: absent */

/* ---- who ------------------------------------------------------------------------------------------------------------------------- */

/* A subscriber's name: of a session with its credential, or of a listen stream. And whom he is: for results, and for ends. */
struct subscriber_id {
    uint8_t name[16];
    uint8_t credential[32], principal[32]; /* struct cp_principal's bytes */
    bool is_session;                       /* legacy */
    bool is_anonymous;                     /* all such have one credential, and share nothing but that */
};

/* Begins a listen, or opens one more stream of a session (which begins with its first stream or link). may_tell: this stream may be written to (not one that resumes a
 * POST's); several may. Pending marks are told to the first one that may. False: no memory. */
bool subscribers_open(struct subscribers *s, const struct subscriber_id *id, struct stream_ref stream, bool may_tell,
                      int64_t now_ms, struct actions *out);
/* The stream is over; a listen ends with it. */
void subscribers_close(struct subscribers *s, struct stream_ref stream, int64_t now_ms);
/* Ends a session: its links are gone and its streams are told to end. */
void subscribers_end_session(struct subscribers *s, const uint8_t name[16], struct actions *out);
/* Ends whatever this credential has. */
void subscribers_end_credential(struct subscribers *s, const uint8_t credential[32], struct actions *out);

struct subscription {
    enum topic topic;
    enum cp_method method;
    uint64_t subject;
    struct span uri; /* RESOURCE; copied */
    struct watch_name own, shared;
    bool has_shared;
    bool is_covered; /* the upstream said that it tells this subscriber itself: never polled, and given hold_ms to be first */
    bool is_result;  /* a tool's result: never polled; heard of by subject and caller (subscribers_saw_result), not by names */
    /* what the cache has for him now, if anything */
    int64_t first_poll_ms;       /* without content: not polled before that; 0: at once */
    bool has_content, is_shared; /* is_shared: under the shared name */
    struct watch_content content;
    int64_t began_ms, fresh_until_ms;
    const uint64_t *subjects; /* that purge it */
    size_t subject_count;
};
enum subscribe {
    SUBSCRIBE_DONE, /* also when it was there already: then is_covered, and a content where there was none, are taken over */
    SUBSCRIBE_FULL, /* a limit; or no memory, or the stream is over */
};
/* stream.id 0: of the session id, which needs no open stream. Without content, and neither covered nor a result, the first poll is due (first_poll_ms). */
enum subscribe subscribers_subscribe(struct subscribers *s, const struct subscriber_id *id, struct stream_ref stream,
                                     const struct subscription *what, int64_t now_ms);
/* Whether he is subscribed to anything of this subject. */
bool subscribers_has(struct subscribers *s, const uint8_t name[16], uint64_t subject);
/* Whether there is such a subscriber. */
bool subscribers_knows(struct subscribers *s, const uint8_t name[16]);
/* Calls fn, under the mutex, for each resource that he is subscribed to. */
void subscribers_list(struct subscribers *s, const uint8_t name[16], void (*fn)(void *ctx, struct span uri, bool is_covered),
                      void *ctx);
/* All of his with this subject. */
void subscribers_unsubscribe(struct subscribers *s, const uint8_t name[16], uint64_t subject, int64_t now_ms);

/* ---- what happens ---------------------------------------------------------------------------------------------------------------- */

/* Whether some link may have this name. A false alarm is possible, a miss is not. */
bool subscribers_may_want(const struct subscribers *s, const struct watch_name *name);
/* Whether there is anything at all: links or results. */
bool subscribers_is_any(const struct subscribers *s);

/* An answer was seen, by whoever's request, that is served under this name from now on (its entry, if it is kept, is in place). */
struct sighting {
    struct watch_name name;
    bool is_shared;               /* the name is a shared one */
    struct watch_content content; /* or WATCH_GONE */
    int64_t began_ms;             /* when it was asked for; older than what a link knows: of no interest */
    int64_t fresh_until_ms;       /* 0: it has no lifetime */
    const uint64_t *subjects;     /* that purge it */
    size_t subject_count;
};
void subscribers_saw(struct subscribers *s, const struct sighting *sighting, int64_t now_ms, struct actions *out);

/* What lay under this own name was taken away, because he is served what everybody is. */
void subscribers_gave_way(struct subscribers *s, const struct watch_name *own);

/* The same of a tool's result that its rule calls a resource: it is remembered, whoever is subscribed by now. */
struct result_sighting {
    struct sighting seen;  /* name: of the entry */
    uint64_t subject;      /* of the URI */
    struct span tool;      /* its name; copied */
    enum cp_scope scope;   /* who is served it */
    uint8_t principal[32]; /* whose it is, unless PUBLIC */
    uint8_t session[16];   /* SESSION, in the legacy era: the subscriber's name; zeros: no session */
};
void subscribers_saw_result(struct subscribers *s, const struct result_sighting *result, int64_t now_ms, struct actions *out);

/* The upstream itself told this subscriber of the topic (subject: of the URI; 0 for a list), and it is being relayed. */
void subscribers_told(struct subscribers *s, const uint8_t name[16], enum topic topic, uint64_t subject, int64_t now_ms);
/* Something may have changed, who knows: what is polled, and had this subject when it was seen last, is polled soon: min_poll_ms after that, and not before a pause after
 * failures is over. */
void subscribers_doubt(struct subscribers *s, uint64_t subject, int64_t now_ms);
/* A write purged all that has one of these subjects, for everybody, and it is over: whoever is subscribed to any of it, and has
 * seen it, is told; of covered links the upstream is given hold_ms here too, and when it told less than hold_ms ago, that was this. */
void subscribers_purged(struct subscribers *s, const uint64_t *subjects, size_t count, int64_t now_ms, struct actions *out);
/* This subscriber may have missed something (the stream that covered him was lost, and is back): he is told of each covered link. */
void subscribers_missed(struct subscribers *s, const uint8_t name[16], int64_t now_ms, struct actions *out);

enum poll_end {
    POLL_SEEN, /* it brought an answer, which was reported (subscribers_saw); if not under this name or another of his, it failed */
    POLL_FAILED, /* nothing certain: asked again after a pause that doubles */
    POLL_GONE,   /* the stream was not there any more: another one's turn */
    POLL_BUSY,   /* it was not sent, because too many others are under way, or the very same: again soon */
};
/* Not within a minute: it counts as failed. */
void subscribers_polled(struct subscribers *s, const struct watch_name *name, enum poll_end how, int64_t now_ms);
/* A TELL whose stream was gone: a session's mark is pending again, and told to another stream of it if there is one. */
void subscribers_untold(struct subscribers *s, struct stream_ref stream, const uint8_t name[16], uint64_t subject, int64_t now_ms,
                        struct actions *out);

/* A TELL that waits: its subscriber must be seen to be let in first, and the question in his name was not answered well (how). It comes again, after a pause that doubles
 * unless it was busy. */
void subscribers_unheard(struct subscribers *s, const uint8_t name[16], uint64_t subject, enum cp_method method, enum poll_end how,
                         int64_t now_ms);

/* What is due by now: polls, and what was held. At most `most` actions; call again when there were that many. */
void subscribers_due(struct subscribers *s, size_t most, int64_t now_ms, struct actions *out);
/* When something is due next; INT64_MAX: nothing is. May be early. Lock-free. */
int64_t subscribers_next_due(const struct subscribers *s);

struct subscribers_numbers {
    size_t sessions, listens, links, watches, results;
};
void subscribers_numbers_get(struct subscribers *s, struct subscribers_numbers *ret);

#endif
