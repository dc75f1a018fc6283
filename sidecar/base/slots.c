/* SPDX-License-Identifier: Apache-2.0 */
/* Slots. Buckets of four; each slot is guarded by a sequence number that is odd while it is written: a reader that meets one looks again.
 * Not here: what a record means (trust/standing.c, trust/proofs.c). Thread: any. */
#include "sidecar/base/slots.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define WAYS 4

struct slot {
    atomic_uint seq; /* 0: never used */
    _Atomic uint64_t name[2];
    _Atomic uint64_t words[];
};

struct slots {
    pthread_mutex_t mutex;
    unsigned words;
    size_t slot_bytes, bucket_count;
    char bytes[];
};

struct slots *slots_new(size_t capacity, unsigned words)
{
    size_t slot_bytes = sizeof(struct slot) + words * sizeof(uint64_t);
    size_t buckets = capacity / WAYS + (capacity % WAYS != 0);
    struct slots *s;

    if (buckets == 0)
        buckets = 1;
    if (words == 0 || words > SLOTS_WORDS_MAX || buckets > (SIZE_MAX / 2 - sizeof(*s)) / WAYS / slot_bytes ||
        (s = calloc(1, sizeof(*s) + buckets * WAYS * slot_bytes)) == NULL)
        return NULL;
    pthread_mutex_init(&s->mutex, NULL);
    s->words = words;
    s->slot_bytes = slot_bytes;
    s->bucket_count = buckets;
    return s;
}

void slots_free(struct slots *s)
{
    if (s == NULL)
        return;
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

size_t slots_bucket(const struct slots *s, const uint8_t name[16])
{
    uint64_t n;

    memcpy(&n, name, sizeof(n));
    return (size_t)(n % s->bucket_count);
}

size_t slots_bucket_count(const struct slots *s)
{
    return s->bucket_count;
}

static struct slot *slot_at(struct slots *s, size_t bucket, size_t way)
{
    return (struct slot *)(s->bytes + (bucket * WAYS + way) * s->slot_bytes);
}

/* Acquire on each word: none of them is read after the last look at seq. A writer is at work for some ten stores; one that lost its processor meanwhile is given
 * ours: to take what it writes for absent would be to miss an end. */
static bool copy(const struct slots *s, struct slot *slot, const uint64_t name[2], uint64_t *ret)
{
    for (unsigned tries = 0;; ++tries) {
        unsigned seq = atomic_load_explicit(&slot->seq, memory_order_acquire);
        bool is_it;

        if (seq == 0)
            return false;
        if ((seq & 1) != 0) {
            if (tries % 1000 == 999)
                sched_yield();
            continue;
        }
        is_it = atomic_load_explicit(&slot->name[0], memory_order_acquire) == name[0] &&
                atomic_load_explicit(&slot->name[1], memory_order_acquire) == name[1];
        for (unsigned i = 0; is_it && i != s->words; ++i)
            ret[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
        if (atomic_load_explicit(&slot->seq, memory_order_acquire) == seq)
            return is_it;
    }
}

bool slots_read(struct slots *s, const uint8_t name[16], uint64_t *ret)
{
    size_t bucket = slots_bucket(s, name);
    uint64_t parts[2];

    memcpy(parts, name, sizeof(parts));
    for (size_t way = 0; way != WAYS; ++way)
        if (copy(s, slot_at(s, bucket, way), parts, ret))
            return true;
    return false;
}

struct slot *slots_lock(struct slots *s, const uint8_t name[16], uint64_t *words, bool *ret_found)
{
    size_t bucket = slots_bucket(s, name);
    struct slot *chosen = NULL;
    uint64_t parts[2], lowest = UINT64_MAX;

    memcpy(parts, name, sizeof(parts));
    pthread_mutex_lock(&s->mutex);
    for (size_t way = 0; way != WAYS; ++way) {
        struct slot *slot = slot_at(s, bucket, way);
        uint64_t rank = atomic_load_explicit(&slot->words[0], memory_order_relaxed);
        bool is_used = atomic_load_explicit(&slot->seq, memory_order_relaxed) != 0;

        if (is_used && slot->name[0] == parts[0] && slot->name[1] == parts[1]) {
            *ret_found = true;
            chosen = slot;
            break;
        }
        /* a slot never used has rank 0 */
        if (chosen == NULL || rank < lowest) {
            *ret_found = false;
            chosen = slot;
            lowest = rank;
        }
    }
    for (unsigned i = 0; i != s->words; ++i)
        words[i] = atomic_load_explicit(&chosen->words[i], memory_order_relaxed);
    return chosen;
}

void slots_unlock(struct slots *s, struct slot *slot, const uint8_t name[16], const uint64_t *words)
{
    if (words != NULL) {
        uint64_t parts[2];

        memcpy(parts, name, sizeof(parts));
        atomic_fetch_add_explicit(&slot->seq, 1, memory_order_acq_rel);
        for (unsigned i = 0; i != 2; ++i)
            atomic_store_explicit(&slot->name[i], parts[i], memory_order_release);
        for (unsigned i = 0; i != s->words; ++i)
            atomic_store_explicit(&slot->words[i], words[i], memory_order_release);
        atomic_fetch_add_explicit(&slot->seq, 1, memory_order_release);
    }
    pthread_mutex_unlock(&s->mutex);
}
