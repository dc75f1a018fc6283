/* SPDX-License-Identifier: Apache-2.0 */
/* Proofs. Not here: of what, and how long each is good for (admission.c). Thread: any. */
#include "sidecar/trust/proofs.h"

#include "sidecar/base/slots.h"

/* A newer proof within this time changes nothing worth a lock. */
#define SAME_MS 100

enum word {
    WORD_AT, /* the rank, and one more than the time, so that 0 is never a proof */
    WORD_EPOCH,
    WORD_SESSION_EPOCH,
    WORDS
};

struct proofs *proofs_new(size_t capacity)
{
    return (struct proofs *)slots_new(capacity, WORDS);
}

void proofs_free(struct proofs *p)
{
    slots_free((struct slots *)p);
}

int64_t proofs_at(struct proofs *p, const uint8_t name[16], const uint64_t epochs[2])
{
    uint64_t words[SLOTS_WORDS_MAX];

    if (!slots_read((struct slots *)p, name, words) || words[WORD_EPOCH] != epochs[0] || words[WORD_SESSION_EPOCH] != epochs[1])
        return -1;
    return (int64_t)words[WORD_AT] - 1;
}

void proofs_learn(struct proofs *p, const uint8_t name[16], const uint64_t epochs[2], int64_t at_ms)
{
    uint64_t words[SLOTS_WORDS_MAX];
    int64_t known_ms = proofs_at(p, name, epochs);
    struct slot *slot;
    bool found;

    if (at_ms < 0 || (known_ms >= 0 && at_ms - known_ms < SAME_MS))
        return;
    slot = slots_lock((struct slots *)p, name, words, &found);
    /* taken back (epoch 0) in the meantime */
    if (found && words[WORD_EPOCH] == 0 && (int64_t)words[WORD_AT] - 1 >= at_ms) {
        slots_unlock((struct slots *)p, slot, name, NULL);
        return;
    }
    words[WORD_AT] = (uint64_t)at_ms + 1;
    words[WORD_EPOCH] = epochs[0];
    words[WORD_SESSION_EPOCH] = epochs[1];
    slots_unlock((struct slots *)p, slot, name, words);
}

void proofs_drop(struct proofs *p, const uint8_t name[16], int64_t now_ms)
{
    uint64_t words[SLOTS_WORDS_MAX];
    struct slot *slot;
    bool found;

    slot = slots_lock((struct slots *)p, name, words, &found);
    words[WORD_AT] = (uint64_t)now_ms + 1;
    words[WORD_EPOCH] = words[WORD_SESSION_EPOCH] = 0;
    slots_unlock((struct slots *)p, slot, name, words);
}
