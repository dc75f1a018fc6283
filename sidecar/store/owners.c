/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts per owner: an open-addressed table, the few accounts over the limit beside it, and what the transaction at work changes.
 * Not here: what an entry weighs (rows.c), whose entries go (sweeper.c).
 * Always: an account of 0 is no account, so that the table holds only owners who have something in the store; every account over the limit stands in
 * `over`, as far as that reaches; an entry is taken off an account only if it was put on one.
 * Thread: as in the header. */
#include "owners.h"

#include <stdlib.h>

enum {
    SLOTS = 64 * 1024, /* a power of two, a third above OWNERS_MAX */
    /* A share is at least 1 % of the pages: no more than a hundred can hold more, give or take what weights are off. */
    OVER_MAX = 256,
    /* More than any one transaction tells: 256 puts, each over an older entry. */
    TOLD_MAX = 1024,
};

struct account {
    uint64_t owner; /* 0: the slot is free */
    uint64_t bytes; /* never 0 */
    uint64_t hand;  /* no entry of his has a seq below */
};

struct told {
    uint64_t owner;
    int64_t bytes;
    uint64_t seq; /* lowest that was put */
};

struct owners {
    uint64_t limit_bytes, first_seq;
    enum { COUNTED_NOTHING, COUNTED_UP_TO, COUNTED_ALL } counted;
    uint8_t counted_digest[ENTRY_DIGEST_BYTES];
    size_t accounts, over_count, told_count;
    uint64_t over[OVER_MAX];
    struct told told[TOLD_MAX];
    struct account slots[SLOTS];
};

struct owners *owners_new(uint64_t limit_bytes, uint64_t first_seq)
{
    /* calloc: the pages of slots that were never used are not there. */
    struct owners *owners = calloc(1, sizeof(*owners));

    if (owners == NULL)
        return NULL;
    owners->limit_bytes = limit_bytes;
    owners->first_seq = first_seq;
    return owners;
}

void owners_free(struct owners *owners)
{
    free(owners);
}

/* ---- the table ---- */

/* Owners are keyed digests, which nobody can choose; the multiplication is for those of tests. */
static size_t home_of(uint64_t owner)
{
    return (size_t)(owner * 0x9e3779b97f4a7c15 >> 48) % SLOTS;
}

/* Where owner stands, or the free slot where he would: there is one, because OWNERS_MAX is below SLOTS. */
static size_t slot_of(const struct owners *owners, uint64_t owner)
{
    size_t slot = home_of(owner);

    while (owners->slots[slot].owner != 0 && owners->slots[slot].owner != owner)
        slot = (slot + 1) % SLOTS;
    return slot;
}

/* Frees slot and moves up those behind it that would no longer be found. */
static void slot_free(struct owners *owners, size_t slot)
{
    for (size_t next = (slot + 1) % SLOTS; owners->slots[next].owner != 0; next = (next + 1) % SLOTS) {
        size_t from_home = (next - home_of(owners->slots[next].owner)) % SLOTS, from_gap = (next - slot) % SLOTS;
        if (from_home >= from_gap) {
            owners->slots[slot] = owners->slots[next];
            slot = next;
        }
    }
    owners->slots[slot] = (struct account){0};
    --owners->accounts;
}

static void over_set(struct owners *owners, uint64_t owner, bool is_over)
{
    size_t i = 0;

    while (i < owners->over_count && owners->over[i] != owner)
        ++i;
    if (is_over && i == owners->over_count && i < OVER_MAX)
        owners->over[owners->over_count++] = owner;
    else if (!is_over && i < owners->over_count)
        owners->over[i] = owners->over[--owners->over_count];
}

static void account_set(struct owners *owners, struct account *account, uint64_t bytes)
{
    bool was_over = account->bytes > owners->limit_bytes, is_over = bytes > owners->limit_bytes;

    if (was_over != is_over)
        over_set(owners, account->owner, is_over);
    account->bytes = bytes;
    if (bytes == 0)
        slot_free(owners, (size_t)(account - owners->slots));
}

static void account_add(struct owners *owners, uint64_t owner, uint64_t bytes, uint64_t seq)
{
    struct account *account = &owners->slots[slot_of(owners, owner)];

    if (account->owner == 0) {
        if (owners->accounts == OWNERS_MAX)
            return;
        *account = (struct account){.owner = owner, .hand = seq};
        ++owners->accounts;
    }
    if (account->hand > seq)
        account->hand = seq;
    account_set(owners, account, account->bytes + bytes);
}

static void account_subtract(struct owners *owners, uint64_t owner, uint64_t bytes)
{
    struct account *account = &owners->slots[slot_of(owners, owner)];

    if (account->owner != 0)
        account_set(owners, account, account->bytes > bytes ? account->bytes - bytes : 0);
}

/* ---- telling ---- */

void owners_begin(struct owners *owners)
{
    owners->told_count = 0;
}

static void tell(struct owners *owners, uint64_t owner, int64_t bytes, uint64_t seq)
{
    struct told *last = owners->told_count > 0 ? &owners->told[owners->told_count - 1] : NULL;

    if (owner == 0)
        return;
    if (last != NULL && last->owner == owner) {
        last->bytes += bytes;
        last->seq = last->seq < seq ? last->seq : seq;
    } else if (owners->told_count < TOLD_MAX) {
        owners->told[owners->told_count++] = (struct told){owner, bytes, seq};
    }
}

void owners_tell_put(struct owners *owners, uint64_t owner, uint64_t seq, uint64_t bytes)
{
    tell(owners, owner, (int64_t)bytes, seq);
}

void owners_tell_gone(struct owners *owners, uint64_t owner, const uint8_t digest[32], uint64_t seq, uint64_t bytes)
{
    bool is_counted = seq >= owners->first_seq || owners->counted == COUNTED_ALL ||
                      (owners->counted == COUNTED_UP_TO && memcmp(digest, owners->counted_digest, ENTRY_DIGEST_BYTES) <= 0);

    if (is_counted)
        tell(owners, owner, -(int64_t)bytes, UINT64_MAX);
}

void owners_keep(struct owners *owners)
{
    for (size_t i = 0; i < owners->told_count; ++i) {
        const struct told *told = &owners->told[i];
        if (told->bytes > 0)
            account_add(owners, told->owner, (uint64_t)told->bytes, told->seq);
        else if (told->bytes < 0)
            account_subtract(owners, told->owner, (uint64_t)-told->bytes);
    }
    owners->told_count = 0;
}

/* ---- counting ---- */

const uint8_t *owners_counted(const struct owners *owners, bool *ret_is_whole)
{
    *ret_is_whole = owners->counted == COUNTED_ALL;
    return owners->counted == COUNTED_NOTHING ? NULL : owners->counted_digest;
}

void owners_count(struct owners *owners, const uint8_t digest[32], uint64_t owner, uint64_t seq, uint64_t bytes)
{
    /* What was put since has been told. */
    if (owner != 0 && seq < owners->first_seq)
        account_add(owners, owner, bytes, seq);
    memcpy(owners->counted_digest, digest, ENTRY_DIGEST_BYTES);
    owners->counted = COUNTED_UP_TO;
}

void owners_counted_all(struct owners *owners)
{
    owners->counted = COUNTED_ALL;
}

/* ---- asking ---- */

bool owners_over(const struct owners *owners, uint64_t *ret_owner, uint64_t *ret_excess_bytes, uint64_t *ret_hand)
{
    const struct account *most = NULL;

    for (size_t i = 0; i < owners->over_count; ++i) {
        const struct account *account = &owners->slots[slot_of(owners, owners->over[i])];
        if (most == NULL || account->bytes > most->bytes)
            most = account;
    }
    if (most == NULL)
        return false;
    *ret_owner = most->owner;
    *ret_excess_bytes = most->bytes - owners->limit_bytes;
    *ret_hand = most->hand;
    return true;
}

void owners_hand(struct owners *owners, uint64_t owner, uint64_t hand)
{
    struct account *account = &owners->slots[slot_of(owners, owner)];

    if (account->owner != 0)
        account->hand = hand;
}

void owners_forget(struct owners *owners, uint64_t owner)
{
    struct account *account = &owners->slots[slot_of(owners, owner)];

    if (account->owner != 0)
        account_set(owners, account, 0);
}

void owners_clear(struct owners *owners)
{
    memset(owners->slots, 0, sizeof(owners->slots));
    owners->accounts = owners->over_count = owners->told_count = 0;
    owners->counted = COUNTED_ALL;
}

uint64_t owners_bytes(const struct owners *owners, uint64_t owner)
{
    return owners->slots[slot_of(owners, owner)].bytes;
}

size_t owners_accounts(const struct owners *owners)
{
    return owners->accounts;
}
