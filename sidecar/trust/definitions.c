/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions. Not here: how a list is read (cachepolicy/definition.c), what an annotation does (cachepolicy/decide.c).
 * Always: of two lists the one that was asked for later speaks; what a list said is not believed any more once the upstream said that its lists changed, but a veto
 * is. Thread: the loop that trust belongs to; the table, any. */
#include "sidecar/trust/definitions.h"

#include "sidecar/base/slots.h"

enum word {
    WORD_SEEN, /* the rank */
    WORD_ORDER,
    WORD_ANNOTATION,
    WORD_DIGEST, /* two */
    WORDS = WORD_DIGEST + 2,
};

/* The rank of the knowledge that nothing is known. */
#define SEEN_NOTHING 1

/* All that definitions hold of the store counts as one owner's. */
#define DEFINITIONS_OWNER 2

struct record {
    uint64_t order; /* one more than the generation of the list; 0: nothing is known */
    uint64_t annotation;
    uint8_t digest[16];
};

struct definitions *definitions_new(size_t capacity)
{
    return (struct definitions *)slots_new(capacity, WORDS);
}

void definitions_free(struct definitions *definitions)
{
    slots_free((struct slots *)definitions);
}

static void unpack(const uint64_t *words, struct record *ret)
{
    ret->order = words[WORD_ORDER];
    ret->annotation = words[WORD_ANNOTATION];
    memcpy(ret->digest, &words[WORD_DIGEST], sizeof(ret->digest));
}

/* False: something that was said later is known. ret_is_new: it says something else than what was known. */
static bool write_record(struct slots *slots, const uint8_t name[16], const struct record *record, uint64_t seen, bool *ret_is_new)
{
    uint64_t words[SLOTS_WORDS_MAX];
    struct record known = {.order = 0};
    bool found;
    struct slot *slot = slots_lock(slots, name, words, &found);

    if (found)
        unpack(words, &known);
    if (found && known.order > record->order) {
        slots_unlock(slots, slot, name, NULL);
        return false;
    }
    *ret_is_new = known.order == 0 || known.annotation != record->annotation ||
                  memcmp(known.digest, record->digest, sizeof(known.digest)) != 0;
    words[WORD_SEEN] = seen;
    words[WORD_ORDER] = record->order;
    words[WORD_ANNOTATION] = record->annotation;
    memcpy(&words[WORD_DIGEST], record->digest, sizeof(record->digest));
    slots_unlock(slots, slot, name, words);
    return true;
}

static void name_of(struct trust *trust, struct span tool, uint8_t ret[16])
{
    cp_digest_of(trust->keyer, "definition", tool, ret);
}

/* What was said to this very caller. */
static void narrow(uint8_t name[16], const struct identity *id)
{
    for (int i = 0; i != 16; ++i)
        name[i] ^= id->credential.bytes[i] ^ id->session[i] ^ id->place[i];
}

/* ---- in the store, under names that no question can have ----------------------------------------------------------------------- */

struct remembered {
    uint64_t annotation;
    uint8_t digest[16];
};

static void key_of(struct trust *trust, const uint8_t name[16], struct cp_key *ret)
{
    struct span text = {(const char *)name, 16};

    memcpy(ret->digest, name, 16);
    cp_digest_of(trust->keyer, "definition entry", text, ret->digest + 16);
    cp_digest_of(trust->keyer, "definition check", text, ret->check);
}

static void *alloc_from_pool(void *pool, size_t bytes)
{
    return h2o_mem_alloc_pool(pool, bytes);
}

static void recall(struct trust *trust, const uint8_t name[16], struct record *ret)
{
    struct store_entry entry;
    struct remembered body;
    struct cp_key key;
    h2o_mem_pool_t pool;
    bool is_new;

    *ret = (struct record){.order = 0};
    h2o_mem_init_pool(&pool);
    key_of(trust, name, &key);
    if (store_get(trust->reader, &key, alloc_from_pool, &pool, &entry) == STORE_HIT && entry.method == CP_METHOD_INITIALIZE &&
        entry.body.n == sizeof(body)) {
        memcpy(&body, entry.body.p, sizeof(body));
        ret->order = entry.generation + 1;
        ret->annotation = body.annotation;
        memcpy(ret->digest, body.digest, sizeof(ret->digest));
    }
    h2o_mem_clear_pool(&pool);
    /* also that nothing is known: asked once */
    write_record((struct slots *)trust->shared->definitions, name, ret, SEEN_NOTHING, &is_new);
}

static void remember(struct trust *trust, const uint8_t name[16], const struct record *record, int64_t now_ms)
{
    struct remembered body;
    struct cp_key key;

    memset(&body, 0, sizeof(body));
    body.annotation = record->annotation;
    memcpy(body.digest, record->digest, sizeof(body.digest));
    key_of(trust, name, &key);
    store_put(trust->shared->store, &key,
              &(struct store_entry){
                  .body = {(const char *)&body, sizeof(body)},
                  .generation = record->order - 1,
                  .stored_at_ms = now_ms,
                  .began_ms = now_ms,
                  .expires_at_ms = now_ms + CP_TTL_MAX_MS,
                  .scope = CP_SCOPE_SESSION,
                  .method = CP_METHOD_INITIALIZE,
                  .owner = DEFINITIONS_OWNER,
              });
}

/* ---- what holds ------------------------------------------------------------------------------------------------------------------ */

static bool read_record(struct trust *trust, const uint8_t name[16], struct record *ret)
{
    uint64_t words[SLOTS_WORDS_MAX];

    if (!slots_read((struct slots *)trust->shared->definitions, name, words))
        return false;
    unpack(words, ret);
    return true;
}

void definition_of(struct trust *trust, const struct identity *id, struct span tool, struct definition *ret)
{
    uint64_t lists = trust->tools_list_subject;
    struct record everybodys, own;
    uint8_t name[16];

    *ret = (struct definition){.annotation = CP_ANNOTATION_NONE, .is_everybodys = true};
    if (tool.p == NULL)
        return;
    name_of(trust, tool, name);
    if (!read_record(trust, name, &everybodys))
        recall(trust, name, &everybodys);
    narrow(name, id);
    if (!read_record(trust, name, &own) || own.order == 0)
        own = everybodys;
    if (own.order == 0)
        return;
    ret->annotation = (enum cp_annotation)own.annotation;
    if (store_validity_of(trust->shared->store, own.order - 1, &lists, 1) == STORE_PURGED) {
        /* what it says now was not seen: a promise is void, a veto stands */
        if (ret->annotation == CP_ANNOTATION_READ_ONLY)
            ret->annotation = CP_ANNOTATION_NONE;
        return;
    }
    ret->is_known = true;
    memcpy(ret->digest, own.digest, sizeof(ret->digest));
    ret->is_everybodys = memcmp(own.digest, everybodys.digest, sizeof(own.digest)) == 0;
}

struct span definition_text(const struct definition *definition)
{
    if (!definition->is_known || MUTANT("definition-ignored"))
        return SPAN_ABSENT;
    return (struct span){(const char *)definition->digest, sizeof(definition->digest)};
}

void definition_learn(struct trust *trust, const struct identity *id, struct span tool, enum cp_annotation annotation,
                      struct span canonical, uint64_t generation, int64_t now_ms)
{
    struct slots *slots = (struct slots *)trust->shared->definitions;
    struct record record = {.order = generation + 1, .annotation = annotation}, known;
    uint64_t seen = now_ms > 0 ? (uint64_t)now_ms + SEEN_NOTHING : SEEN_NOTHING + 1;
    uint8_t name[16];
    bool is_new;

    cp_digest_of(trust->keyer, "definition text", canonical, record.digest);
    name_of(trust, tool, name);
    if (!read_record(trust, name, &known))
        recall(trust, name, &known);
    if (write_record(slots, name, &record, seen, &is_new) && is_new)
        remember(trust, name, &record, now_ms);
    narrow(name, id);
    write_record(slots, name, &record, seen, &is_new);
}
