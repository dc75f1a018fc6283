/* SPDX-License-Identifier: Apache-2.0 */
/* A story being told: its house, clients and upstream calls, the place in its text, and what every verb needs.
 * Whatever goes wrong ends the process with the place, what was expected and what was seen: each story has a process of its own.
 * Thread: the story's. */
#ifndef SCENARIO_TELLING_H
#define SCENARIO_TELLING_H

#include "cachepolicy/cachepolicy.h"

#include "client.h"
#include "fake_upstream.h"
#include "house.h"
#include "story.h"

#include <h2o.h>

#define CLIENTS_MAX 4096
#define CALLS_MAX   8192
#define HEADERS_MAX 32

/* A client of the story, and what it is known by. */
struct person {
    char name[32];
    struct client client;
    size_t loop;
    struct buf as;      /* Authorization; n 0: nobody */
    struct buf session; /* legacy; n 0: none */
    bool is_legacy;
    struct buf id;     /* raw token of the last request */
    struct buf answer; /* scratch: the JSON-RPC reply */
    size_t asked_count;
    bool is_rpc; /* the last request was a JSON-RPC request */
};

/* An upstream call, numbered from 1 as they came. */
struct asked {
    unsigned number;
    struct upstream_call *call; /* there until the story's end */
    struct cp_json_doc doc;
    struct cp_message message;
    bool has_event_ids;
    unsigned event_count;
    bool is_new; /* not yet offered to the standing answers */
};

/* `upstream by itself answers ...` */
struct habit {
    struct span method, name; /* name absent: any */
    const struct line *line;
    size_t at;
};

struct telling {
    const char *file;
    struct story story;
    const struct line *line;
    size_t at; /* the next word of line */
    bool is_loud;
    const char *directory; /* of the store */
    struct span policy;
    char *flags[64];
    size_t flag_count, loops;
    struct house *house;
    size_t past_requests; /* of houses closed since */
    struct person *people[CLIENTS_MAX];
    size_t people_count;
    struct asked *calls[CALLS_MAX];
    size_t call_count;
    struct habit habits[32];
    size_t habit_count;
    bool something_happened; /* since it was last set to false */
    bool is_meanwhile;       /* nothing happens yet between this line and the next */
    size_t expectations;
    size_t left;                       /* clients that left while they waited */
    size_t outcomes[CP_OUTCOME_COUNT]; /* that clients were told */
    h2o_mem_pool_t pool;               /* texts made while telling */
};

/* ---- the text ---- */

bool has_word(const struct telling *t);
/* The next word is this one, and is passed. */
bool take_word(struct telling *t, const char *word);
/* The next word is `first`, the one after it `second`. */
bool take_words(struct telling *t, const char *first, const char *second);
struct word need_any(struct telling *t, const char *what);
struct span need_plain(struct telling *t, const char *what);
struct span need_json(struct telling *t, const char *what);
/* Plain or quoted. */
struct span need_text(struct telling *t, const char *what);
bool is_json_next(const struct telling *t);
int64_t need_number(struct telling *t, const char *what);
/* 250ms 5s 2m 1h 3d */
int64_t need_duration(struct telling *t);
/* [with|and Name: value]... ; at most HEADERS_MAX */
size_t take_headers(struct telling *t, struct fake_header *ret);
/* text with each `$word` replaced; in the pool. */
struct span with_replaced(struct telling *t, struct span text, const char *word, struct span by);

/* The modern era's results name their type: one that does not is complete, so that stories need not say it. In the pool. */
struct span with_type(struct telling *t, struct span result, bool is_legacy);

_Noreturn void fail(const struct telling *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Ends the story unless holds. what: the claim; seen: what there is instead. */
void claim(struct telling *t, bool holds, const char *seen_format, ...) __attribute__((format(printf, 3, 4)));

/* ---- the world ---- */

void begin(struct telling *t); /* opens the house unless it is open */
/* Lets everything happen that can happen without time passing; but for `meanwhile`. */
void settle(struct telling *t);
void pass_time(struct telling *t, int64_t ms);

/* ---- who does what ---- */

void tell_client(struct telling *t);
void tell_upstream(struct telling *t);
/* Lets a habit answer a call, if one does. */
bool answer_by_habit(struct telling *t, struct asked *asked);
struct asked *newest_call(struct telling *t, struct span method);
/* 200 with a JSON body. */
void answer_json(struct asked *asked, struct span body, const struct fake_header *more, size_t more_count);

#endif
