/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: the fields, their order and their encoding stand here and nowhere else.
 * Material: FORM, then every field as tag (1 byte), length (8 bytes, little-endian; all ones: absent), bytes. All fields
 * are always written, in one order, so no material is the beginning of another's and no byte can move from one field to the
 * next.
 * Whatever is an enum is written as a word: entries outlive the program, and an enum's numbers do not.
 * Always: no allocation after cp_keyer_new. Thread: one keyer per loop. */
/* SHA-256 as OpenSSL's plain functions, which it would rather have replaced by EVP: a state is a struct there, so that one which has read a key
 * already is copied instead of made anew, and nothing is fetched, allocated or able to fail. docs/decisions/0013. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "key.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <xxhash.h>

/* To be changed with the meaning of any field, the canonical form included: what is stored then stays unfound. */
#define FORM "mcpcached key 1"

#define BLOCK 64 /* of SHA-256 */

struct cp_keyer {
    XXH3_state_t *check;
    SHA256_CTX key;            /* has read the block that begins every key's digest */
    SHA256_CTX inner, outer;   /* have read the blocks that begin the halves of an HMAC, of principals and texts */
    uint8_t check_secret[192]; /* of XXH3: at least 136, as random as possible */
};

/* --- digests --- */

/* Small fields are gathered, so that the digests are called seldom. */
struct material {
    SHA256_CTX sha256;
    XXH3_state_t *check; /* runs along; NULL: does not */
    size_t n;
    uint8_t bytes[1024];
};

static void feed(struct material *m, const void *bytes, size_t n)
{
    SHA256_Update(&m->sha256, bytes, n);
    if (m->check != NULL)
        XXH3_128bits_update(m->check, bytes, n);
}

static void flush(struct material *m)
{
    feed(m, m->bytes, m->n);
    m->n = 0;
}

static void add(struct material *m, const void *bytes, size_t n)
{
    if (n > sizeof(m->bytes) - m->n)
        flush(m);
    if (n > sizeof(m->bytes)) {
        feed(m, bytes, n);
        return;
    }
    if (n > 0)
        memcpy(m->bytes + m->n, bytes, n);
    m->n += n;
}

static void add_field(struct material *m, char tag, struct span value)
{
    uint64_t n = value.p == NULL ? UINT64_MAX : value.n;
    uint8_t *head;

    if (sizeof(m->bytes) - m->n < 9)
        flush(m);
    /* where it belongs at once: read back as a whole from where it was put together, it costs a stall per field */
    head = m->bytes + m->n;
    head[0] = (uint8_t)tag;
    for (int i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)(n >> (8 * i));
    m->n += 9;
    add(m, value.p, value.n);
}

static void begin(struct material *m, const SHA256_CTX *from)
{
    m->sha256 = *from;
    m->check = NULL;
    m->n = 0;
}

static void end(struct material *m, uint8_t ret[32])
{
    flush(m);
    SHA256_Final(ret, &m->sha256);
}

/* Ends the inner half of an HMAC and computes the outer one. */
static void end_hmac(struct material *m, const struct cp_keyer *keyer, uint8_t ret[32])
{
    SHA256_CTX outer = keyer->outer;
    uint8_t inner[32];

    end(m, inner);
    SHA256_Update(&outer, inner, sizeof(inner));
    SHA256_Final(ret, &outer);
}

/* --- the keyer --- */

static void read_block(SHA256_CTX *sha256, const uint8_t block[BLOCK])
{
    SHA256_Init(sha256);
    SHA256_Update(sha256, block, BLOCK);
}

static void derive(const struct cp_keyer *keyer, const char *label, uint8_t number, uint8_t ret[32])
{
    struct material m;

    begin(&m, &keyer->inner);
    add_field(&m, 'l', span_of(label));
    add(&m, &number, 1);
    end_hmac(&m, keyer, ret);
}

int cp_keyer_new(const uint8_t secret[32], struct cp_keyer **ret)
{
    struct cp_keyer *keyer = calloc(1, sizeof(*keyer));
    uint8_t block[BLOCK];

    if (keyer == NULL)
        return -ENOMEM;
    if ((keyer->check = XXH3_createState()) == NULL) {
        free(keyer);
        return -ENOMEM;
    }
    memset(block, 0x36, BLOCK);
    for (int i = 0; i < 32; i++)
        block[i] ^= secret[i];
    read_block(&keyer->inner, block);
    for (int i = 0; i < BLOCK; i++)
        block[i] ^= 0x36 ^ 0x5c;
    read_block(&keyer->outer, block);
    derive(keyer, "key", 0, block);
    derive(keyer, "key", 1, block + 32);
    read_block(&keyer->key, block);
    OPENSSL_cleanse(block, sizeof(block));
    for (uint8_t i = 0; i < sizeof(keyer->check_secret) / 32; i++)
        derive(keyer, "check", i, keyer->check_secret + 32 * i);
    *ret = keyer;
    return 0;
}

void cp_keyer_free(struct cp_keyer *keyer)
{
    if (keyer == NULL)
        return;
    XXH3_freeState(keyer->check);
    OPENSSL_cleanse(keyer, sizeof(*keyer));
    free(keyer);
}

/* --- who --- */

void cp_principal_of(struct cp_keyer *keyer, const struct cp_credential *credentials, size_t count, struct cp_principal *ret)
{
    struct material m;

    ret->is_anonymous = true;
    begin(&m, &keyer->inner);
    add_field(&m, 'l', SPAN("principal"));
    for (size_t i = 0; i < count; i++) {
        add_field(&m, 'n', credentials[i].name);
        add_field(&m, 'v', credentials[i].value);
        if (credentials[i].value.n > 0)
            ret->is_anonymous = false;
    }
    end_hmac(&m, keyer, ret->bytes);
}

void cp_digest_of(struct cp_keyer *keyer, const char *label, struct span text, uint8_t ret[16])
{
    uint8_t digest[32];
    struct material m;

    begin(&m, &keyer->inner);
    add_field(&m, 'l', SPAN("text"));
    add_field(&m, 'n', span_of(label));
    add_field(&m, 'v', text);
    end_hmac(&m, keyer, digest);
    memcpy(ret, digest, 16);
}

/* 0 and 1 have meanings of their own in the store. */
static uint64_t subject_of(const uint8_t bytes[8])
{
    uint64_t number = 0;

    for (int i = 0; i < 8; i++)
        number |= (uint64_t)bytes[i] << (8 * i);
    return number < 2 ? number + 2 : number;
}

static struct span subject_word(enum cp_subject kind)
{
    switch (kind) {
    case CP_SUBJECT_TOOL:
        return SPAN("tool");
    case CP_SUBJECT_LIST:
        return SPAN("list");
    case CP_SUBJECT_URI:
        return SPAN("uri");
    case CP_SUBJECT_TAG:
        return SPAN("tag");
    case CP_SUBJECT_READS:
        return SPAN("reads");
    }
    return SPAN_ABSENT;
}

uint64_t cp_subject_of(struct cp_keyer *keyer, enum cp_subject kind, struct span text)
{
    uint8_t digest[32];
    struct material m;

    begin(&m, &keyer->inner);
    add_field(&m, 'l', SPAN("subject"));
    add_field(&m, 'n', subject_word(kind));
    add_field(&m, 'v', kind == CP_SUBJECT_READS ? SPAN_ABSENT : text);
    end_hmac(&m, keyer, digest);
    return subject_of(digest);
}

uint64_t cp_subject_of_principal(const struct cp_principal *principal)
{
    /* the digest is keyed and uniform already */
    return subject_of(principal->bytes + sizeof(principal->bytes) - 8);
}

/* --- what --- */

static struct span era_word(enum cp_era era)
{
    switch (era) {
    case CP_ERA_LEGACY:
        return SPAN("legacy");
    case CP_ERA_MODERN:
        return SPAN("modern");
    }
    return SPAN_ABSENT;
}

static void add_share(struct material *m, const struct cp_share *share)
{
    const struct span principal = {(const char *)share->principal->bytes, sizeof(share->principal->bytes)};

    switch (share->scope) {
    case CP_SCOPE_SESSION:
        add_field(m, 'S', SPAN("session"));
        add_field(m, 'P', principal);
        add_field(m, 'I', share->session);
        return;
    case CP_SCOPE_PRINCIPAL:
        add_field(m, 'S', SPAN("principal"));
        add_field(m, 'P', principal);
        add_field(m, 'I', SPAN_ABSENT);
        return;
    case CP_SCOPE_PUBLIC:
        add_field(m, 'S', SPAN("public"));
        add_field(m, 'P', SPAN_ABSENT);
        add_field(m, 'I', SPAN_ABSENT);
        return;
    }
}

void cp_key_of(struct cp_keyer *keyer, const struct cp_question *question, const struct cp_share *share, struct cp_key *ret)
{
    struct material m;
    XXH128_canonical_t check;

    begin(&m, &keyer->key);
    m.check = keyer->check;
    XXH3_128bits_reset_withSecret(m.check, keyer->check_secret, sizeof(keyer->check_secret));
    add(&m, FORM, sizeof(FORM));
    add_share(&m, share);
    add_field(&m, 'u', question->upstream);
    add_field(&m, 'a', question->authority);
    add_field(&m, 'p', question->path);
    add_field(&m, 'e', era_word(question->era));
    add_field(&m, 'v', question->version);
    add_field(&m, 'm', span_of(cp_method_text(question->method)));
    add_field(&m, 'q', question->params);
    add_field(&m, 'h', question->mcp_params);
    add_field(&m, 'y', question->vary);
    add_field(&m, 'c', question->client);
    add_field(&m, 'd', question->definition);
    end(&m, ret->digest);
    XXH128_canonicalFromHash(&check, XXH3_128bits_digest(keyer->check));
    _Static_assert(sizeof(check.digest) == sizeof(ret->check), "a check is one XXH128");
    memcpy(ret->check, check.digest, sizeof(ret->check));
#ifdef CP_KEY_TEST_COLLIDE
    memset(ret->digest, 0, sizeof(ret->digest));
#endif
}

void cp_key_bind(struct cp_key *key, uint64_t epoch)
{
    /* the digest is uniform: two keys can only meet so if all but eight bytes of it are the same already */
    for (int i = 0; i != 8; ++i) {
        key->digest[i] ^= (uint8_t)(epoch >> (8 * i));
        key->check[i] ^= (uint8_t)(epoch >> (8 * i));
    }
}
