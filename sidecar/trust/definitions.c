/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions. Not here: how a list is read (cachepolicy/definition.c), what an annotation does (cachepolicy/decide.c).
 * Always: of two lists the one that was asked for later speaks, whichever was answered first; what a list said is not believed any more once the upstream said that its
 * lists changed, or once its caller was shown a newer one, but a veto is; and nobody's promise holds for other places. Thread: the loop that trust belongs to; the table, any. */
#include "sidecar/trust/definitions.h"

#include "sidecar/base/slots.h"

enum word {
    WORD_SEEN, /* the rank */
    WORD_ORDER,
    WORD_BEGAN,
    WORD_ANNOTATION,
    WORD_DIGEST, /* two */
    WORD_PLACE = WORD_DIGEST + 2,
    WORDS = WORD_PLACE + 2,
};

/* The rank of the knowledge that nothing is known. */
#define SEEN_NOTHING 1

/* All that definitions hold of the store counts as one owner's. */
#define DEFINITIONS_OWNER 2

struct record {
    uint64_t order;    /* one more than the generation of the list; 0: nothing is known */
    uint64_t began_ms; /* when it was asked for: tells apart what has one order */
    uint64_t annotation;
    uint8_t digest[16];
    uint8_t place[16]; /* where it was said */
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
    ret->began_ms = words[WORD_BEGAN];
    ret->annotation = words[WORD_ANNOTATION];
    memcpy(ret->digest, &words[WORD_DIGEST], sizeof(ret->digest));
    memcpy(ret->place, &words[WORD_PLACE], sizeof(ret->place));
}

static bool is_older(const struct record *a, const struct record *b)
{
    return a->order != b->order ? a->order < b->order : a->began_ms < b->began_ms;
}

/* What a full table forgets first. A promise that is forgotten costs misses, a veto wrong answers: a tool that writes would be taken for one that reads. */
static uint64_t rank_of(const struct record *record, uint64_t seen)
{
    return record->annotation == CP_ANNOTATION_VETO ? seen | UINT64_C(1) << 62 : seen;
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
    if (found && is_older(record, &known)) {
        slots_unlock(slots, slot, name, NULL);
        return false;
    }
    *ret_is_new = known.order == 0 || known.annotation != record->annotation ||
                  memcmp(known.digest, record->digest, sizeof(known.digest)) != 0;
    words[WORD_SEEN] = rank_of(record, seen);
    words[WORD_ORDER] = record->order;
    words[WORD_BEGAN] = record->began_ms;
    words[WORD_ANNOTATION] = record->annotation;
    memcpy(&words[WORD_DIGEST], record->digest, sizeof(record->digest));
    memcpy(&words[WORD_PLACE], record->place, sizeof(record->place));
    slots_unlock(slots, slot, name, words);
    return true;
}

static uint64_t seen_at(int64_t now_ms)
{
    return now_ms > 0 ? (uint64_t)now_ms + SEEN_NOTHING : SEEN_NOTHING + 1;
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

/* Under which stands what list a caller was shown last from the store. */
static void shown_name_of(const struct identity *id, uint8_t ret[16])
{
    memset(ret, 0x5a, 16);
    narrow(ret, id);
}

/* ---- in the store, under names that no question can have ----------------------------------------------------------------------- */

struct remembered {
    uint64_t annotation;
    uint8_t digest[16];
    uint8_t place[16];
};

static void key_of(struct trust *trust, const uint8_t name[16], struct cp_key *ret)
{
    trust_key_of(trust, "definition entry", "definition check", name, ret);
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
    if (trust_get(trust, &key, &pool, &entry) == STORE_HIT && entry.method == CP_METHOD_INITIALIZE &&
        entry.body.n == sizeof(body)) {
        memcpy(&body, entry.body.p, sizeof(body));
        ret->order = entry.generation + 1;
        ret->annotation = body.annotation;
        memcpy(ret->digest, body.digest, sizeof(ret->digest));
        memcpy(ret->place, body.place, sizeof(ret->place));
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
    memcpy(body.place, record->place, sizeof(body.place));
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

/* Whether the caller was shown a list from the store that is newer than what he was told of this tool before. */
static bool is_outdated(struct trust *trust, const struct identity *id, const struct record *own)
{
    struct record shown;
    uint8_t name[16];

    shown_name_of(id, name);
    return read_record(trust, name, &shown) && is_older(own, &shown);
}

void definition_of(struct trust *trust, const struct identity *id, struct span tool, struct definition *ret)
{
    uint64_t lists = trust->tools_list_subject;
    struct record everybodys, own;
    uint8_t name[16];
    bool is_own;

    *ret = (struct definition){.annotation = CP_ANNOTATION_NONE, .is_everybodys = true};
    if (tool.p == NULL)
        return;
    name_of(trust, tool, name);
    if (!read_record(trust, name, &everybodys))
        recall(trust, name, &everybodys);
    narrow(name, id);
    is_own = read_record(trust, name, &own) && own.order != 0;
    if (is_own && is_older(&own, &everybodys) && is_outdated(trust, id, &own)) {
        is_own = false;
        if (own.annotation == CP_ANNOTATION_VETO)
            everybodys.annotation = CP_ANNOTATION_VETO;
    }
    if (!is_own)
        own = everybodys;
    if (own.order == 0)
        return;
    ret->annotation = (enum cp_annotation)own.annotation;
    if (ret->annotation == CP_ANNOTATION_READ_ONLY && memcmp(own.place, id->place, sizeof(own.place)) != 0)
        ret->annotation = CP_ANNOTATION_NONE;
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

void definition_show(struct trust *trust, const struct identity *id, uint64_t generation, int64_t began_ms, int64_t now_ms)
{
    struct record record = {.order = generation + 1, .began_ms = began_ms > 0 ? (uint64_t)began_ms : 0}, known;
    uint8_t name[16];
    bool is_new;

    shown_name_of(id, name);
    if (!read_record(trust, name, &known) || is_older(&known, &record))
        write_record((struct slots *)trust->shared->definitions, name, &record, seen_at(now_ms), &is_new);
}

struct span definition_text(const struct definition *definition)
{
    if (!definition->is_known || MUTANT("definition-ignored"))
        return SPAN_ABSENT;
    return (struct span){(const char *)definition->digest, sizeof(definition->digest)};
}

void definition_learn(struct trust *trust, const struct identity *id, struct span tool, enum cp_annotation annotation,
                      struct span canonical, uint64_t generation, int64_t began_ms, int64_t now_ms)
{
    struct slots *slots = (struct slots *)trust->shared->definitions;
    struct record record = {.order = generation + 1, .began_ms = began_ms > 0 ? (uint64_t)began_ms : 0, .annotation = annotation};
    struct record known;
    uint64_t seen = seen_at(now_ms);
    uint8_t name[16];
    bool is_new;

    memcpy(record.place, id->place, sizeof(record.place));
    cp_digest_of(trust->keyer, "definition text", canonical, record.digest);
    name_of(trust, tool, name);
    if (!read_record(trust, name, &known))
        recall(trust, name, &known);
    if (write_record(slots, name, &record, seen, &is_new) && is_new)
        remember(trust, name, &record, now_ms);
    narrow(name, id);
    write_record(slots, name, &record, seen, &is_new);
}
