/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: the fields, their order and their encoding stand here and nowhere else.
 * Material: FORM, then every field as tag (1 byte), length (8 bytes, little-endian; all ones: absent), bytes. All fields
 * are always written, in one order, so no material is the beginning of another's and no byte can move from one field to the
 * next.
 * Whatever is an enum is written as a word: entries outlive the program, and an enum's numbers do not.
 * Always: no allocation after cp_keyer_new. Thread: one keyer per loop. */
#include "key.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <xxhash.h>

/* To be changed with the meaning of any field, the canonical form included: what is stored then stays unfound. */
#define FORM "mcpcached key 1"

#define BLOCK 64 /* of SHA-256 */

struct cp_keyer {
    EVP_MD *sha256;
    EVP_MD_CTX *context;
    XXH3_state_t *check;
    uint8_t key_block[BLOCK];   /* begins every key's digest */
    uint8_t inner_block[BLOCK]; /* HMAC of principals and texts */
    uint8_t outer_block[BLOCK];
    uint8_t check_secret[192]; /* of XXH3: at least 136, as random as possible */
    uint64_t failures;
};

/* --- digests --- */

/* Small fields are gathered, so that the digests are called seldom. */
struct material {
    struct cp_keyer *keyer;
    bool checked; /* the check digest runs along */
    bool failed;
    size_t n;
    uint8_t bytes[1024];
};

static void feed(struct material *m, const void *bytes, size_t n)
{
    m->failed |= EVP_DigestUpdate(m->keyer->context, bytes, n) != 1;
    if (m->checked)
        m->failed |= XXH3_128bits_update(m->keyer->check, bytes, n) == XXH_ERROR;
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
    uint8_t head[9] = {(uint8_t)tag};

    for (int i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)(n >> (8 * i));
    add(m, head, sizeof(head));
    add(m, value.p, value.n);
}

static void begin(struct material *m, struct cp_keyer *keyer, const uint8_t block[BLOCK], bool checked)
{
    m->keyer = keyer;
    m->n = 0;
    m->checked = false;
    m->failed = EVP_DigestInit_ex2(keyer->context, keyer->sha256, NULL) != 1;
    feed(m, block, BLOCK);
    m->checked = checked;
    if (checked)
        m->failed |= XXH3_128bits_reset_withSecret(keyer->check, keyer->check_secret, sizeof(keyer->check_secret)) == XXH_ERROR;
}

static bool end(struct material *m, uint8_t ret[32])
{
    flush(m);
    m->failed |= EVP_DigestFinal_ex(m->keyer->context, ret, NULL) != 1;
    return !m->failed;
}

/* A digest that could not be computed must name nobody and nothing: this one is never given twice by a keyer. It does not
 * happen after cp_keyer_new has computed the first ones, because nothing is allocated or fetched any more. */
static void spoil(struct cp_keyer *keyer, uint8_t ret[32])
{
    const uintptr_t own = (uintptr_t)keyer;

    memset(ret, 0xff, 32);
    keyer->failures++;
    memcpy(ret, &keyer->failures, sizeof(keyer->failures));
    memcpy(ret + 8, &own, sizeof(own));
}

/* Ends the inner half of an HMAC and computes the outer one. */
static bool end_hmac(struct material *m, uint8_t ret[32])
{
    struct cp_keyer *keyer = m->keyer;
    uint8_t inner[32];

    if (!end(m, inner))
        return false;
    begin(m, keyer, keyer->outer_block, false);
    add(m, inner, sizeof(inner));
    return end(m, ret);
}

/* --- the keyer --- */

static bool derive(struct cp_keyer *keyer, const char *label, uint8_t number, uint8_t ret[32])
{
    struct material m;

    begin(&m, keyer, keyer->inner_block, false);
    add_field(&m, 'l', span_of(label));
    add(&m, &number, 1);
    return end_hmac(&m, ret);
}

int cp_keyer_new(const uint8_t secret[32], struct cp_keyer **ret)
{
    struct cp_keyer *keyer = calloc(1, sizeof(*keyer));
    bool good;

    if (keyer == NULL)
        return -ENOMEM;
    keyer->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    keyer->context = EVP_MD_CTX_new();
    keyer->check = XXH3_createState();
    good = keyer->sha256 != NULL && keyer->context != NULL && keyer->check != NULL;
    memset(keyer->inner_block, 0x36, BLOCK);
    memset(keyer->outer_block, 0x5c, BLOCK);
    for (int i = 0; i < 32; i++) {
        keyer->inner_block[i] ^= secret[i];
        keyer->outer_block[i] ^= secret[i];
    }
    good = good && derive(keyer, "key", 0, keyer->key_block) && derive(keyer, "key", 1, keyer->key_block + 32);
    for (uint8_t i = 0; i < sizeof(keyer->check_secret) / 32 && good; i++)
        good = derive(keyer, "check", i, keyer->check_secret + 32 * i);
    if (!good) {
        cp_keyer_free(keyer);
        return -ENOMEM;
    }
    *ret = keyer;
    return 0;
}

void cp_keyer_free(struct cp_keyer *keyer)
{
    if (keyer == NULL)
        return;
    EVP_MD_CTX_free(keyer->context);
    EVP_MD_free(keyer->sha256);
    XXH3_freeState(keyer->check);
    OPENSSL_cleanse(keyer, sizeof(*keyer));
    free(keyer);
}

/* --- who
 * ------------------------------------------------------------------------------------------------------------------------
 * */

void cp_principal_of(struct cp_keyer *keyer, const struct cp_credential *credentials, size_t count, struct cp_principal *ret)
{
    struct material m;

    ret->is_anonymous = true;
    begin(&m, keyer, keyer->inner_block, false);
    add_field(&m, 'l', SPAN("principal"));
    for (size_t i = 0; i < count; i++) {
        add_field(&m, 'n', credentials[i].name);
        add_field(&m, 'v', credentials[i].value);
        if (credentials[i].value.n > 0)
            ret->is_anonymous = false;
    }
    if (!end_hmac(&m, ret->bytes))
        spoil(keyer, ret->bytes);
}

void cp_digest_of(struct cp_keyer *keyer, const char *label, struct span text, uint8_t ret[16])
{
    uint8_t digest[32];
    struct material m;

    begin(&m, keyer, keyer->inner_block, false);
    add_field(&m, 'l', SPAN("text"));
    add_field(&m, 'n', span_of(label));
    add_field(&m, 'v', text);
    if (!end_hmac(&m, digest))
        spoil(keyer, digest);
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

    begin(&m, keyer, keyer->inner_block, false);
    add_field(&m, 'l', SPAN("subject"));
    add_field(&m, 'n', subject_word(kind));
    add_field(&m, 'v', kind == CP_SUBJECT_READS ? SPAN_ABSENT : text);
    if (!end_hmac(&m, digest))
        spoil(keyer, digest);
    return subject_of(digest);
}

uint64_t cp_subject_of_principal(const struct cp_principal *principal)
{
    /* the digest is keyed and uniform already */
    return subject_of(principal->bytes + sizeof(principal->bytes) - 8);
}

/* --- what
 * -----------------------------------------------------------------------------------------------------------------------
 * */

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

    begin(&m, keyer, keyer->key_block, true);
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
    if (!end(&m, ret->digest))
        spoil(keyer, ret->digest);
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
