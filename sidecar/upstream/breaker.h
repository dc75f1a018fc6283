/* SPDX-License-Identifier: Apache-2.0 */
/* Circuit breaker: what failed again and again is left alone for a while, then tried by one request at a time. Passive: it learns from requests alone. One for all loops.
 *
 *                  5 failures in a row, or half of 10 and more in 20 s
 *      [closed] ------------------------------------------------------> [open] 5 s, doubled by each failed probe up to 60 s
 *         ^                                                              |  ^
 *         |  the probe was good                                time over |  | the probe failed
 *         +----------------------------------------------- [half-open] <-+--+     one probe at a time; one that says nothing for 30 s is given up
 *
 * A name stands for one thing that can fail: the upstream, or one tool of it. Names must be keyed digests (base/slots.h says why). What the bounded table has no
 * room for is closed: a breaker may let too much through, and never shuts what did not fail.
 * Thread: any. Time: milliseconds of a clock that does not jump, the same one on all loops; that they read it some ms apart does no harm. */
#ifndef MCPCACHED_UPSTREAM_BREAKER_H
#define MCPCACHED_UPSTREAM_BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BREAKER_FAILURES_IN_A_ROW 5
#define BREAKER_RESULTS_MIN       10 /* within the window, before half of them failing opens */
#define BREAKER_WINDOW_MS         20000
#define BREAKER_OPEN_MS           5000
#define BREAKER_OPEN_MAX_MS       60000
#define BREAKER_PROBE_MS          30000

struct breaker;

enum breaker_state {
    BREAKER_PASS,  /* closed, or not known */
    BREAKER_PROBE, /* half-open: this request is the probe, and shall say what became of it */
    BREAKER_OPEN,  /* not now */
};

enum breaker_result {
    BREAKER_GOOD,
    BREAKER_FAILED,
    BREAKER_UNKNOWN, /* nobody waited for the end (a client left, we stopped): says nothing, but frees the place of a probe */
};

/* capacity: names known at once. NULL when memory is short. */
struct breaker *breaker_new(size_t capacity);
void breaker_free(struct breaker *b);

/* May a request go to what name stands for? *ret_wait_ms: with BREAKER_OPEN, how long until it is worth asking again, at least 1; else 0. Takes no lock while closed. */
enum breaker_state breaker_ask(struct breaker *b, const uint8_t name[16], int64_t now_ms, int64_t *ret_wait_ms);

/* What became of a request that was let through. While not closed, only a probe's result counts: others began before. */
void breaker_note(struct breaker *b, const uint8_t name[16], enum breaker_result result, bool was_probe, int64_t now_ms);

/* A reply's status as a result: 5xx failed, but for 501 and 505, which are about the request. 4xx is the caller's affair. */
enum breaker_result breaker_of_status(int status);

/* What one request asked and may have to answer for: a call through an upstream. */
struct breaker_pass {
    uint8_t upstream[16], call[16];
    bool probes_upstream, probes_call;
};

/* Asks for both names at once: BREAKER_OPEN when either is, and then nothing is held. Else *ret is for breaker_settle. */
enum breaker_state breaker_enter(struct breaker *b, const uint8_t upstream[16], const uint8_t call[16], int64_t now_ms,
                                 struct breaker_pass *ret, int64_t *ret_wait_ms);
/* Once for each breaker_enter that was not BREAKER_OPEN; a second time does nothing harmful. See upstream_results for which end means what. */
void breaker_settle(struct breaker *b, const struct breaker_pass *pass, enum breaker_result upstream, enum breaker_result call,
                    int64_t now_ms);

#endif
