/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: the one place where isolation is made. An entry's name is a digest over everything that reaches the upstream and
 * may change its answer, and over who may share it. There is no way to make a key without saying who.
 * Digest: SHA-256 over length-prefixed fields (no separator to inject), keyed by the store's own secret. Check: a second,
 * independent digest (XXH3-128 seeded from the secret) of the same material, compared on every hit, so that a colliding,
 * swapped or rotten index answers nobody.
 * Thread: one cp_keyer per loop. */
#ifndef CP_KEY_H
#define CP_KEY_H

#include "bytes.h"
#include "message.h"

enum cp_scope {
    CP_SCOPE_SESSION,   /* the caller's credentials and, in the legacy era, his session */
    CP_SCOPE_PRINCIPAL, /* the caller's credentials */
    CP_SCOPE_PUBLIC,    /* everybody */
};

struct cp_principal {
    uint8_t bytes[32]; /* HMAC-SHA256 under the store's secret over every identity header, absent ones included */
    bool is_anonymous; /* no identity header has a value: all are absent or empty */
};

struct cp_key {
    uint8_t digest[32];
    uint8_t check[16];
};

/* Who may share the entry. session is used only by CP_SCOPE_SESSION (absent when the caller has none), principal by all but
 * CP_SCOPE_PUBLIC. */
struct cp_share {
    enum cp_scope scope;
    const struct cp_principal *principal; /* never NULL */
    struct span session;
};

/* What is asked. Absent and empty differ in every field. */
struct cp_question {
    struct span upstream;  /* the configured URL */
    struct span authority; /* Host as sent */
    struct span path;      /* with its query */
    enum cp_era era;
    struct span version; /* modern: from the body; legacy: of the session, else the header, else "2025-03-26" */
    enum cp_method method;
    struct span params;     /* cp_message_canonical */
    struct span mcp_params; /* cp_mirror_params */
    struct span vary;       /* Accept-Language and configured headers, in a form that no other set can produce */
    struct span client;     /* legacy, scopes wider than the session: digest of what the client said at initialize; absent
                               otherwise */
    struct span definition; /* digest of the tool's definition where known; absent otherwise */
};

struct cp_keyer; /* opaque: digests that have read the secret */

/* secret: 32 bytes; only digests of it are kept. Owned: cp_keyer_free. 0 or -ENOMEM. */
int cp_keyer_new(const uint8_t secret[32], struct cp_keyer **ret);
void cp_keyer_free(struct cp_keyer *keyer);

/* One identity header in policy order; value absent when the request has none. A header that came several times is given
 * joined by the caller in a way that keeps the values apart. */
struct cp_credential {
    struct span name; /* lower case */
    struct span value;
};
void cp_principal_of(struct cp_keyer *keyer, const struct cp_credential *credentials, size_t count, struct cp_principal *ret);

/* No allocation. -DCP_KEY_TEST_COLLIDE (cachepolicy_collide_dep) makes every digest the same and leaves the check alone. */
void cp_key_of(struct cp_keyer *keyer, const struct cp_question *question, const struct cp_share *share, struct cp_key *ret);

/* Moves the key to another place that only this number leads to: what was stored under another epoch (sidecar/trust/standing.h) is out of reach. 0 changes nothing. */
void cp_key_bind(struct cp_key *key, uint64_t epoch);

/* What a purge can name. A subject is a number, keyed by the store's secret; two things with one number are only ever purged together. */
enum cp_subject {
    CP_SUBJECT_TOOL,  /* text: the tool's decoded name */
    CP_SUBJECT_LIST,  /* the method text of a list or of server/discover */
    CP_SUBJECT_URI,   /* the resource's decoded URI, byte for byte */
    CP_SUBJECT_TAG,   /* any bytes: a tag of the server's, or what a template expands to */
    CP_SUBJECT_READS, /* every resources/read; text is not looked at */
};
/* Never 0 or 1. No allocation. */
uint64_t cp_subject_of(struct cp_keyer *keyer, enum cp_subject kind, struct span text);
/* All that this caller may see: raised by his writes, looked at by his lookups. Never 0 or 1. */
uint64_t cp_subject_of_principal(const struct cp_principal *principal);

/* A short name of a secret-bearing text for logs and tables: first 16 bytes of its keyed digest under a label. */
void cp_digest_of(struct cp_keyer *keyer, const char *label, struct span text, uint8_t ret[16]);

#endif
