/* SPDX-License-Identifier: Apache-2.0 */
/* Standings in memory (base/slots.h) and in the store. Not here: whose they are and when they begin and end (admission.c).
 * Always: a name that the table had to forget counts as ended when the last such name of its bucket ended (floors), so forgetting never revives. */
#include "sidecar/trust/standing.h"

#include "sidecar/base/slots.h"
#include "sidecar/trust/trust.h"

#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The rank of who was never accepted: above a slot that was never used, below all others. */
#define SEEN_STRANGER 1

enum word {
    WORD_SEEN, /* the rank */
    WORD_EPOCH,
    WORD_SINCE,
    WORD_ENDED,
    WORD_EXP,
    WORD_PAYLOAD,
    WORDS = WORD_PAYLOAD + STANDING_PAYLOAD_BYTES / 8,
};

struct standings {
    struct slots *slots;
    _Atomic int64_t
        floors[]; /* of each bucket: the latest end that was forgotten, or -1; nothing that began before it proves anything */
};

struct standings *standings_new(size_t capacity)
{
    struct slots *slots = slots_new(capacity, WORDS);
    struct standings *s;

    if (slots == NULL)
        return NULL;
    if ((s = malloc(sizeof(*s) + slots_bucket_count(slots) * sizeof(s->floors[0]))) == NULL) {
        slots_free(slots);
        return NULL;
    }
    s->slots = slots;
    for (size_t i = 0; i != slots_bucket_count(slots); ++i) {
        atomic_init(&s->floors[i], -1);
    }
    return s;
}

void standings_free(struct standings *s)
{
    if (s == NULL)
        return;
    slots_free(s->slots);
    free(s);
}

static void unpack(const uint64_t *words, struct standing *ret)
{
    ret->epoch = words[WORD_EPOCH];
    ret->since_ms = (int64_t)words[WORD_SINCE];
    ret->ended_ms = (int64_t)words[WORD_ENDED];
    ret->exp_s = (int64_t)words[WORD_EXP];
    memcpy(ret->payload, &words[WORD_PAYLOAD], sizeof(ret->payload));
}

static void pack(const struct standing *standing, int64_t seen_ms, uint64_t *ret)
{
    ret[WORD_SEEN] = seen_ms > 0 ? (uint64_t)seen_ms + SEEN_STRANGER : SEEN_STRANGER;
    ret[WORD_EPOCH] = standing->epoch;
    ret[WORD_SINCE] = (uint64_t)standing->since_ms;
    ret[WORD_ENDED] = (uint64_t)standing->ended_ms;
    ret[WORD_EXP] = (uint64_t)standing->exp_s;
    memcpy(&ret[WORD_PAYLOAD], standing->payload, sizeof(standing->payload));
}

static _Atomic int64_t *floor_of(struct standings *s, const uint8_t name[16])
{
    return &s->floors[slots_bucket(s->slots, name)];
}

static struct standing unknown(struct standings *s, const uint8_t name[16])
{
    return (struct standing){
        .ended_ms = atomic_load_explicit(floor_of(s, name), memory_order_acquire),
        .exp_s = -1,
    };
}

void standings_get(struct standings *s, const uint8_t name[16], struct standing *ret)
{
    uint64_t words[SLOTS_WORDS_MAX];

    if (slots_read(s->slots, name, words))
        unpack(words, ret);
    else
        *ret = unknown(s, name);
}

/* Locks name's slot and says what holds; what may have to go for it is remembered in the floor. */
static struct slot *lock(struct standings *s, const uint8_t name[16], struct standing *ret, bool *ret_found)
{
    uint64_t words[SLOTS_WORDS_MAX];
    _Atomic int64_t *floor = floor_of(s, name);
    struct standing gone;
    struct slot *slot = slots_lock(s->slots, name, words, ret_found);

    if (*ret_found) {
        unpack(words, ret);
        return slot;
    }
    unpack(words, &gone);
    if (words[WORD_SEEN] != 0 && gone.ended_ms > atomic_load_explicit(floor, memory_order_relaxed))
        atomic_store_explicit(floor, gone.ended_ms, memory_order_release);
    *ret = unknown(s, name);
    return slot;
}

static void unlock(struct standings *s, struct slot *slot, const uint8_t name[16], const struct standing *standing, int64_t seen_ms)
{
    uint64_t words[SLOTS_WORDS_MAX];

    pack(standing, seen_ms, words);
    slots_unlock(s->slots, slot, name, words);
}

static uint64_t new_epoch(void)
{
    uint64_t epoch = 0;

    while (epoch == 0)
        if (RAND_bytes((unsigned char *)&epoch, sizeof(epoch)) != 1)
            h2o_fatal("no random numbers");
    return epoch;
}

bool standings_accept(struct standings *s, const uint8_t name[16], const char *payload, int64_t exp_s, int64_t began_ms,
                      int64_t now_ms, struct standing *ret)
{
    bool found;
    struct slot *slot = lock(s, name, ret, &found);

    if (ret->ended_ms >= began_ms && !MUTANT("fill-survives-revocation")) {
        slots_unlock(s->slots, slot, name, NULL);
        return false;
    }
    if (ret->epoch == 0) {
        ret->epoch = new_epoch();
        ret->since_ms = now_ms;
    }
    ret->exp_s = exp_s;
    if (payload != NULL)
        memcpy(ret->payload, payload, sizeof(ret->payload));
    unlock(s, slot, name, ret, now_ms);
    return true;
}

/* is_known: as worth remembering as an acceptance. */
static void end_at(struct standings *s, const uint8_t name[16], int64_t now_ms, bool is_known)
{
    struct standing standing;
    bool found;
    struct slot *slot = lock(s, name, &standing, &found);
    bool was_accepted = standing.epoch != 0;

    standing.epoch = 0;
    if (standing.ended_ms < now_ms)
        standing.ended_ms = now_ms;
    /* strangers whom the upstream refuses make room for each other, not for themselves at others' cost */
    unlock(s, slot, name, &standing, was_accepted || is_known ? now_ms : 0);
}

void standings_end(struct standings *s, const uint8_t name[16], int64_t now_ms)
{
    end_at(s, name, now_ms, false);
}

void standings_mark_end(struct standings *s, const uint8_t name[16], int64_t now_ms)
{
    end_at(s, name, now_ms, true);
}

/* What the store remembers, unless something is known by now. */
static void restore(struct standings *s, const uint8_t name[16], const struct standing *remembered, int64_t now_ms,
                    struct standing *ret)
{
    bool found;
    struct slot *slot = lock(s, name, ret, &found);

    /* an end takes the memory in the store away itself, so a forgotten one says nothing here */
    if (ret->epoch != 0 || (found && ret->ended_ms >= remembered->since_ms)) {
        slots_unlock(s->slots, slot, name, NULL);
        return;
    }
    ret->epoch = remembered->epoch;
    ret->since_ms = remembered->since_ms;
    ret->exp_s = remembered->exp_s;
    memcpy(ret->payload, remembered->payload, sizeof(ret->payload));
    unlock(s, slot, name, ret, now_ms);
}

/* ---- in the store, under names that no question can have ----------------------------------------------------------------------- */

struct remembered {
    uint64_t epoch;
    char payload[STANDING_PAYLOAD_BYTES];
};

static void key_of(struct trust *trust, const uint8_t name[16], struct cp_key *ret)
{
    trust_key_of(trust, "standing entry", "standing check", name, ret);
}

/* What the store has of name. */
static bool fetch(struct trust *trust, const uint8_t name[16], int64_t now_ms, struct standing *ret)
{
    struct store_entry entry;
    struct remembered body;
    struct cp_key key;
    h2o_mem_pool_t pool;
    bool is_there;

    h2o_mem_init_pool(&pool);
    key_of(trust, name, &key);
    is_there = trust_get(trust, &key, &pool, &entry) == STORE_HIT && entry.method == CP_METHOD_INITIALIZE &&
               entry.body.n == sizeof(body) && now_ms < entry.expires_at_ms;
    if (is_there) {
        memcpy(&body, entry.body.p, sizeof(body));
        *ret = (struct standing){.epoch = body.epoch, .since_ms = entry.stored_at_ms};
        memcpy(ret->payload, body.payload, sizeof(ret->payload));
    }
    h2o_mem_clear_pool(&pool);
    return is_there && ret->epoch != 0;
}

void standing_recall(struct trust *trust, const uint8_t name[16], int64_t exp_s, int64_t now_ms, struct standing *ret)
{
    struct standings *s = trust->shared->standings;
    struct standing remembered;

    standings_get(s, name, ret);
    if (ret->epoch != 0 || !fetch(trust, name, now_ms, &remembered))
        return;
    remembered.exp_s = exp_s;
    restore(s, name, &remembered, now_ms, ret);
}

static void forget(struct trust *trust, const uint8_t name[16])
{
    struct cp_key key;

    key_of(trust, name, &key);
    store_delete(trust->shared->store, &key);
}

void standing_remember(struct trust *trust, const uint8_t name[16], const struct standing *standing, int64_t keep_ms)
{
    struct standing now;
    struct remembered body;
    struct cp_key key;

    /* strangers' standings shall not cost the disk more than strangers' results may; what is to be kept for longer is no stranger's */
    if (keep_ms <= CP_TTL_MAX_MS && !rate_take(trust->shared->rate, STANDINGS_OWNER, standing->since_ms))
        return;
    memset(&body, 0, sizeof(body));
    body.epoch = standing->epoch;
    memcpy(body.payload, standing->payload, sizeof(body.payload));
    key_of(trust, name, &key);
    store_put(trust->shared->store, &key,
              &(struct store_entry){
                  .body = {(const char *)&body, sizeof(body)},
                  .stored_at_ms = standing->since_ms,
                  .began_ms = standing->since_ms,
                  .expires_at_ms = standing->since_ms + keep_ms,
                  .scope = CP_SCOPE_SESSION,
                  .method = CP_METHOD_INITIALIZE,
                  .owner = STANDINGS_OWNER,
              });
    /* it may have ended on another loop meanwhile */
    standings_get(trust->shared->standings, name, &now);
    if (now.epoch != standing->epoch)
        forget(trust, name);
}

bool standing_accept(struct trust *trust, const uint8_t name[16], const char *payload, int64_t exp_s, int64_t began_ms,
                     int64_t now_ms, struct standing *ret)
{
    struct standing before;

    standing_recall(trust, name, exp_s, now_ms, &before);
    if (!standings_accept(trust->shared->standings, name, payload, exp_s, began_ms, now_ms, ret))
        return false;
    if (before.epoch != ret->epoch || memcmp(before.payload, ret->payload, sizeof(before.payload)) != 0)
        standing_remember(trust, name, ret, CP_TTL_MAX_MS);
    return true;
}

void standing_end(struct trust *trust, const uint8_t name[16], int64_t now_ms)
{
    struct standing remembered;

    standing_recall(trust, name, -1, now_ms, &remembered);
    standings_end(trust->shared->standings, name, now_ms);
    /* also what could not be recalled, because something forgotten stood against it */
    if (remembered.epoch != 0 || fetch(trust, name, now_ms, &remembered))
        forget(trust, name);
}
