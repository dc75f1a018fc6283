/* SPDX-License-Identifier: Apache-2.0 */
/* Index records: what the store knows of an entry besides its body, as msgpack bytes.
 * A record is a fixed array of ENTRY_FIELDS scalars followed by eight bytes of XXH3-64 over them, so that a rotten bit is noticed before any field
 * is believed. The first field is ENTRY_VERSION; whoever changes a field, its meaning or the order of enum cp_method changes the version.
 * Also here: how a body is cut into chunks, because the record states their number.
 * Thread: pure, any. No allocation. */
#ifndef MCPCACHED_STORE_ENTRY_H
#define MCPCACHED_STORE_ENTRY_H

#include "cachepolicy/cachepolicy.h"

enum {
    ENTRY_VERSION = 3,
    ENTRY_FIELDS = 20,
    ENTRY_NAME_MAX = 511,    /* longer names are cut */
    ENTRY_SUBJECTS_MAX = 40, /* as STORE_SUBJECTS_MAX */
    ENTRY_RECORD_MAX = 1152, /* no record is longer */
    ENTRY_DIGEST_BYTES = 32,
    /* Chunk 0 begins with the entry's digest, the way back from a body to its index row, and with its owner (big-endian), so that his entries are found
     * without a look at everybody's index rows. */
    ENTRY_HEAD_BYTES = ENTRY_DIGEST_BYTES + 8,

    /* One page: a value that leaves the leaf page takes whole pages with one 16-byte header. So nothing in a store ever needs two neighbouring
     * free pages, and a full map can be fragmented as it likes. (Measured, 64 MiB map, mixed sizes, 80 % used: with chunks of 16 pages a quarter of
     * the map was free but in runs too short, and 1600 of 1800 commits failed; with one page none did.) */
    ENTRY_CHUNK_BYTES = 4096 - 16,
};

struct entry_record {
    uint64_t seq; /* names the body's chunks and the expiry row */
    uint64_t body_bytes;
    uint64_t body_sum; /* XXH3-64 of the body */
    uint8_t check[16]; /* cp_key.check of the key it was stored under */
    uint64_t owner;    /* on whose account it lies; 0: nobody's */
    int64_t began_ms;  /* at most stored_at_ms */
    int64_t stored_at_ms;
    int64_t expires_at_ms;
    bool has_hint;
    int64_t hint_ttl_ms;
    uint32_t ttl_start, ttl_end; /* ttl_start <= ttl_end <= body_bytes */
    uint8_t scope;               /* enum cp_scope */
    uint8_t method;              /* enum cp_method */
    uint32_t cost_ms;
    bool is_negative;
    uint64_t generation;   /* at most INT64_MAX */
    uint8_t subject_count; /* at most ENTRY_SUBJECTS_MAX */
    uint64_t subjects[ENTRY_SUBJECTS_MAX];
    struct span name; /* at most ENTRY_NAME_MAX; after entry_parse borrowed from the record's bytes */
};

enum entry_parsed {
    ENTRY_OK,
    ENTRY_UNKNOWN, /* whole, but of a version that this code does not know: a miss */
    ENTRY_DAMAGED, /* not a record, or no longer the one that was written */
};

/* Chunks of a body: the stream head||body cut every ENTRY_CHUNK_BYTES; at least one. */
static inline uint64_t entry_chunks(uint64_t body_bytes)
{
    return (ENTRY_HEAD_BYTES + body_bytes + ENTRY_CHUNK_BYTES - 1) / ENTRY_CHUNK_BYTES;
}

/* Bytes of chunk number `chunk`, which is below entry_chunks(body_bytes). */
static inline size_t entry_chunk_bytes(uint64_t body_bytes, uint64_t chunk)
{
    uint64_t left = ENTRY_HEAD_BYTES + body_bytes - chunk * ENTRY_CHUNK_BYTES;
    return left < ENTRY_CHUNK_BYTES ? (size_t)left : (size_t)ENTRY_CHUNK_BYTES;
}

/* Writes record into ret and returns its length, at most ENTRY_RECORD_MAX. A name over ENTRY_NAME_MAX is cut. Ranges are the caller's to keep. */
size_t entry_format(const struct entry_record *record, char ret[ENTRY_RECORD_MAX]);

/* Reads bytes that may be anybody's. *ret is filled only by ENTRY_OK. */
enum entry_parsed entry_parse(struct span bytes, struct entry_record *ret);

/* The eight bytes that stand behind the fields of a record. */
uint64_t entry_sum(struct span bytes);

#endif
