/* SPDX-License-Identifier: Apache-2.0 */
/* Legacy sessions. Buckets of four slots; each slot is guarded by a sequence number that is odd while it is written, so readers never wait:
 * a slot that changes under a reader counts as not found. Writers share one mutex (initialize is rare). */
#include "sidecar/flow/sessions.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 2048
#define WAYS    4
#define WORDS   7 /* name 2, version 2, client 2, learned_ms 1 */

struct slot {
    atomic_uint seq; /* 0: never used */
    _Atomic uint64_t words[WORDS];
};

struct sessions {
    pthread_mutex_t mutex;
    struct slot slots[BUCKETS][WAYS];
};

struct sessions *sessions_new(void)
{
    struct sessions *s = calloc(1, sizeof(*s));

    if (s != NULL)
        pthread_mutex_init(&s->mutex, NULL);
    return s;
}

void sessions_free(struct sessions *s)
{
    if (s == NULL)
        return;
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

static struct slot *bucket_of(struct sessions *s, const uint8_t name[16])
{
    return s->slots[(name[0] | (unsigned)name[1] << 8) % BUCKETS];
}

/* False: empty, or being written. */
static bool read_slot(struct slot *slot, uint64_t words[WORDS])
{
    unsigned seq = atomic_load_explicit(&slot->seq, memory_order_acquire);

    if (seq == 0 || (seq & 1) != 0)
        return false;
    for (int i = 0; i != WORDS; ++i)
        words[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
    return atomic_load_explicit(&slot->seq, memory_order_acquire) == seq;
}

void sessions_learn(struct sessions *s, const uint8_t name[16], const struct session *session, int64_t now_ms)
{
    struct slot *bucket = bucket_of(s, name), *oldest = NULL;
    uint64_t words[WORDS], oldest_ms = UINT64_MAX;

    pthread_mutex_lock(&s->mutex);
    for (int i = 0; i != WAYS; ++i) {
        uint64_t seen[WORDS];
        uint64_t learned_ms = 0;

        if (read_slot(&bucket[i], seen)) {
            if (memcmp(seen, name, 16) == 0) {
                oldest = &bucket[i];
                break;
            }
            learned_ms = seen[6];
        }
        if (oldest == NULL || learned_ms < oldest_ms) {
            oldest = &bucket[i];
            oldest_ms = learned_ms;
        }
    }
    memcpy(words, name, 16);
    memcpy(words + 2, session->version, 16);
    memcpy(words + 4, session->client, 16);
    words[6] = (uint64_t)now_ms;
    atomic_fetch_add_explicit(&oldest->seq, 1, memory_order_acq_rel);
    for (int i = 0; i != WORDS; ++i)
        atomic_store_explicit(&oldest->words[i], words[i], memory_order_release);
    atomic_fetch_add_explicit(&oldest->seq, 1, memory_order_release);
    pthread_mutex_unlock(&s->mutex);
}

bool sessions_find(struct sessions *s, const uint8_t name[16], struct session *ret)
{
    struct slot *bucket = bucket_of(s, name);

    for (int i = 0; i != WAYS; ++i) {
        uint64_t words[WORDS];

        if (read_slot(&bucket[i], words) && memcmp(words, name, 16) == 0) {
            memcpy(ret->version, words + 2, 16);
            ret->version[15] = '\0';
            memcpy(ret->client, words + 4, 16);
            return true;
        }
    }
    return false;
}
