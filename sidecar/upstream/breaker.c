/* SPDX-License-Identifier: Apache-2.0 */
/* Circuit breaker. The rules are on struct record alone (is_tripped, record_*); around them, asking and noting move records in and out of base/slots.
 * Not here: who asks, and what he does when the answer is no (flow/).
 * Always: what opened or failed of late is not forgotten for what did less, so that a herd of names cannot close a breaker; a probe is out only while half-open.
 * Thread: any; rules run under the table's mutex, the answer for what is closed is read without. */
#include "sidecar/upstream/breaker.h"

#include "cachepolicy/mutant.h"
#include "sidecar/base/slots.h"

#include <stdlib.h>
#include <string.h>

#define PARTS     5 /* of the window */
#define PART_MS   (BREAKER_WINDOW_MS / PARTS)
#define COUNT_MAX 0xfffff

/* A probe under way will know soon. */
#define PROBE_WAIT_MS 1000

/* How long after it was written a record holds its slot against those of a lower class: open, and as long again half-open without anybody who asks. */
#define KEPT_MS (2 * BREAKER_OPEN_MAX_MS)

enum word {
    WORD_RANK,
    WORD_UNTIL, /* open until; 0: closed */
    WORD_RUN,   /* low half: failures in a row; high half: for how long it was opened last, ms */
    WORD_PROBE, /* a probe is out until; 0: none */
    WORD_PART,  /* PARTS of them: number of the part (24 bits), results (20), failures (20) */
    WORDS = WORD_PART + PARTS,
};

/* The rank: class above the time of writing, so that what matters more outlives what is newer. */
#define CLASS_SHIFT 56
#define TIME_MASK   (UINT64_MAX >> 8)

enum class {
    CLASS_GOOD,
    CLASS_FAILING,
    CLASS_OPEN,
};

struct part {
    uint32_t number; /* of its stretch of time, modulo 2^24 */
    uint32_t results, failures;
};

struct record {
    int64_t until_ms, opened_for_ms, probe_until_ms;
    uint32_t failures_in_a_row;
    struct part parts[PARTS];
};

struct breaker {
    struct slots *slots;
};

static struct record unpack(const uint64_t words[WORDS])
{
    struct record r = {
        .until_ms = (int64_t)words[WORD_UNTIL],
        .opened_for_ms = (int64_t)(words[WORD_RUN] >> 32),
        .probe_until_ms = (int64_t)words[WORD_PROBE],
        .failures_in_a_row = (uint32_t)words[WORD_RUN],
    };

    for (unsigned i = 0; i != PARTS; ++i)
        r.parts[i] = (struct part){
            .number = (uint32_t)(words[WORD_PART + i] >> 40),
            .results = (uint32_t)(words[WORD_PART + i] >> 20) & COUNT_MAX,
            .failures = (uint32_t)words[WORD_PART + i] & COUNT_MAX,
        };
    return r;
}

static enum class class_of(const struct record *r) {
    return r->until_ms != 0            ? CLASS_OPEN
           : r->failures_in_a_row != 0 ? CLASS_FAILING
                                       : CLASS_GOOD;
}

static void pack(const struct record *r, int64_t now_ms, uint64_t ret[WORDS])
{
    ret[WORD_RANK] = (uint64_t)class_of(r) << CLASS_SHIFT | ((uint64_t)now_ms & TIME_MASK);
    ret[WORD_UNTIL] = (uint64_t)r->until_ms;
    ret[WORD_RUN] = (uint64_t)r->opened_for_ms << 32 | r->failures_in_a_row;
    ret[WORD_PROBE] = (uint64_t)r->probe_until_ms;
    for (unsigned i = 0; i != PARTS; ++i)
        ret[WORD_PART + i] = (uint64_t)r->parts[i].number << 40 | (uint64_t)r->parts[i].results << 20 | r->parts[i].failures;
}

/* Does what lies in a slot stay there, rather than make room for r? */
static bool is_worth_more(const uint64_t words[WORDS], const struct record *r, int64_t now_ms)
{
    return words[WORD_RANK] >> CLASS_SHIFT > (uint64_t)class_of(r) && now_ms < (int64_t)(words[WORD_RANK] & TIME_MASK) + KEPT_MS;
}

static uint32_t part_number(int64_t now_ms)
{
    return (uint32_t)(now_ms / PART_MS) & 0xffffff;
}

static void record_count(struct record *r, bool is_failure, int64_t now_ms)
{
    uint32_t number = part_number(now_ms);
    struct part *part = &r->parts[number % PARTS];

    if (part->number != number)
        *part = (struct part){.number = number};
    if (part->results == COUNT_MAX) {
        part->results /= 2;
        part->failures /= 2;
    }
    ++part->results;
    part->failures += is_failure;
    if (!is_failure)
        r->failures_in_a_row = 0;
    else if (r->failures_in_a_row != UINT32_MAX)
        ++r->failures_in_a_row;
}

static bool is_tripped(const struct record *r, int64_t now_ms)
{
    uint32_t results = 0, failures = 0, number = part_number(now_ms);

    if (MUTANT("breaker-never-opens"))
        return false;
    if (r->failures_in_a_row >= BREAKER_FAILURES_IN_A_ROW)
        return true;
    for (unsigned i = 0; i != PARTS; ++i)
        if (((number - r->parts[i].number) & 0xffffff) < PARTS) {
            results += r->parts[i].results;
            failures += r->parts[i].failures;
        }
    return results >= BREAKER_RESULTS_MIN && failures >= results - failures;
}

/* Nothing from before counts once it closes again. */
static void record_open(struct record *r, int64_t for_ms, int64_t now_ms)
{
    *r = (struct record){.until_ms = now_ms + for_ms, .opened_for_ms = for_ms};
}

/* False: nothing changed. */
static bool record_note(struct record *r, enum breaker_result result, bool was_probe, int64_t now_ms)
{
    if (r->until_ms == 0) {
        if (result == BREAKER_UNKNOWN)
            return false;
        record_count(r, result == BREAKER_FAILED, now_ms);
        /* only a failure opens, however the window shifts */
        if (result == BREAKER_FAILED && is_tripped(r, now_ms))
            record_open(r, BREAKER_OPEN_MS, now_ms);
        return true;
    }
    if (!was_probe)
        return false;
    switch (result) {
    case BREAKER_GOOD:
        *r = (struct record){0};
        record_count(r, false, now_ms);
        return true;
    case BREAKER_FAILED:
        /* one that was given up speaks late: the next one's failure was noted already */
        if (now_ms < r->until_ms)
            return false;
        record_open(r, r->opened_for_ms * 2 < BREAKER_OPEN_MAX_MS ? r->opened_for_ms * 2 : BREAKER_OPEN_MAX_MS, now_ms);
        return true;
    case BREAKER_UNKNOWN:
        r->probe_until_ms = 0;
        return true;
    }
    return false;
}

static enum breaker_state record_ask(const struct record *r, int64_t now_ms, int64_t *ret_wait_ms)
{
    *ret_wait_ms = 0;
    if (r->until_ms == 0)
        return BREAKER_PASS;
    if (now_ms < r->until_ms) {
        *ret_wait_ms = r->until_ms - now_ms;
        return BREAKER_OPEN;
    }
    if (now_ms < r->probe_until_ms) {
        *ret_wait_ms = r->probe_until_ms - now_ms < PROBE_WAIT_MS ? r->probe_until_ms - now_ms : PROBE_WAIT_MS;
        return BREAKER_OPEN;
    }
    return BREAKER_PROBE;
}

struct breaker *breaker_new(size_t capacity)
{
    struct breaker *b = calloc(1, sizeof(*b));

    if (b == NULL || (b->slots = slots_new(capacity, WORDS)) == NULL) {
        free(b);
        return NULL;
    }
    return b;
}

void breaker_free(struct breaker *b)
{
    if (b == NULL)
        return;
    slots_free(b->slots);
    free(b);
}

enum breaker_state breaker_ask(struct breaker *b, const uint8_t name[16], int64_t now_ms, int64_t *ret_wait_ms)
{
    uint64_t words[SLOTS_WORDS_MAX];
    enum breaker_state state;
    struct record r;
    struct slot *slot;
    bool found;

    *ret_wait_ms = 0;
    if (!slots_read(b->slots, name, words))
        return BREAKER_PASS;
    r = unpack(words);
    if ((state = record_ask(&r, now_ms, ret_wait_ms)) != BREAKER_PROBE)
        return state;
    /* another loop may have seen the same: of those, one gets it */
    slot = slots_lock(b->slots, name, words, &found);
    if (!found) {
        slots_unlock(b->slots, slot, name, NULL);
        return BREAKER_PASS;
    }
    r = unpack(words);
    state = record_ask(&r, now_ms, ret_wait_ms);
    if (state == BREAKER_PROBE) {
        r.probe_until_ms = now_ms + BREAKER_PROBE_MS;
        pack(&r, now_ms, words);
    }
    slots_unlock(b->slots, slot, name, state == BREAKER_PROBE ? words : NULL);
    return state;
}

void breaker_note(struct breaker *b, const uint8_t name[16], enum breaker_result result, bool was_probe, int64_t now_ms)
{
    uint64_t words[SLOTS_WORDS_MAX];
    struct record r = {0};
    struct slot *slot;
    bool found, is_kept;

    if (result == BREAKER_UNKNOWN && !was_probe)
        return;
    slot = slots_lock(b->slots, name, words, &found);
    if (found)
        r = unpack(words);
    is_kept = record_note(&r, result, was_probe, now_ms) && (found || !is_worth_more(words, &r, now_ms));
    if (is_kept)
        pack(&r, now_ms, words);
    slots_unlock(b->slots, slot, name, is_kept ? words : NULL);
}

enum breaker_result breaker_of_status(int status)
{
    return status >= 500 && status != 501 && status != 505 ? BREAKER_FAILED : BREAKER_GOOD;
}

enum breaker_state breaker_enter(struct breaker *b, const uint8_t upstream[16], const uint8_t call[16], int64_t now_ms,
                                 struct breaker_pass *ret, int64_t *ret_wait_ms)
{
    struct breaker_pass pass = {.probes_upstream = false};
    enum breaker_state of_upstream, of_call;

    if ((of_call = breaker_ask(b, call, now_ms, ret_wait_ms)) == BREAKER_OPEN)
        return BREAKER_OPEN;
    if ((of_upstream = breaker_ask(b, upstream, now_ms, ret_wait_ms)) == BREAKER_OPEN) {
        breaker_note(b, call, BREAKER_UNKNOWN, of_call == BREAKER_PROBE, now_ms);
        return BREAKER_OPEN;
    }
    memcpy(pass.upstream, upstream, sizeof(pass.upstream));
    memcpy(pass.call, call, sizeof(pass.call));
    pass.probes_upstream = of_upstream == BREAKER_PROBE;
    pass.probes_call = of_call == BREAKER_PROBE;
    *ret = pass;
    return pass.probes_upstream || pass.probes_call ? BREAKER_PROBE : BREAKER_PASS;
}

void breaker_settle(struct breaker *b, const struct breaker_pass *pass, enum breaker_result upstream, enum breaker_result call,
                    int64_t now_ms)
{
    breaker_note(b, pass->upstream, upstream, pass->probes_upstream, now_ms);
    breaker_note(b, pass->call, call, pass->probes_call, now_ms);
}
