/* SPDX-License-Identifier: Apache-2.0 */
/* Entries whose content follows from their number and version, for the long tests of the store: whoever gets one can tell whether it is right. The version
 * travels in stored_at_ms. */
#ifndef STORE_LOAD_H
#define STORE_LOAD_H

#include <fcntl.h>
#include <math.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "sidecar/store/check.h"

enum { LOAD_BODY_MAX = 1 << 20, LOAD_BLOCK_BYTES = 2 * LOAD_BODY_MAX };

/* A block of noise that every body is a window of; load_init fills it, always in the same way. */
static char load_block[LOAD_BLOCK_BYTES];

static inline uint64_t load_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15;
    uint64_t x = *state;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static inline void load_init(void)
{
    uint64_t seed = 42;
    for (size_t i = 0; i < sizeof(load_block); i += 8) {
        uint64_t x = load_random(&seed);
        memcpy(load_block + i, &x, 8);
    }
}

static inline struct cp_key load_key(uint64_t number)
{
    struct cp_key key;
    XXH128_hash_t a = XXH3_128bits_withSeed(&number, sizeof(number), 1), b = XXH3_128bits_withSeed(&number, sizeof(number), 2);
    XXH128_hash_t c = XXH3_128bits_withSeed(&number, sizeof(number), 3);
    memcpy(key.digest, &a, 16);
    memcpy(key.digest + 16, &b, 16);
    memcpy(key.check, &c, 16);
    return key;
}

/* Most bodies are small: log-normal around median_bytes, from 200 bytes to 1 MB, and one of a thousand is 1 MB. */
static inline struct span load_body(uint64_t number, uint64_t version, double median_bytes)
{
    uint64_t seed = number * 0x100000001b3 ^ version;
    double a = (double)(load_random(&seed) >> 11) / 0x1p53, b = (double)(load_random(&seed) >> 11) / 0x1p53;
    double bytes = median_bytes * exp(1.6 * sqrt(-2 * log(a + 1e-12)) * cos(2 * M_PI * b));
    if (load_random(&seed) % 1000 == 0)
        bytes = 1000000;
    bytes = bytes < 200 ? 200 : bytes > 1000000 ? 1000000 : bytes;
    return (struct span){load_block + load_random(&seed) % (LOAD_BLOCK_BYTES - LOAD_BODY_MAX), (size_t)bytes};
}

/* Whose an entry is: one of so many owners, or (of one in a hundred entries, or when there are none) nobody's. */
static uint64_t load_owners = 1000;

static inline uint64_t load_owner(uint64_t number)
{
    uint64_t seed = load_owners == 0 || number % 100 == 0 ? 0 : number % load_owners + 1;
    return seed == 0 ? 0 : load_random(&seed);
}

/* What purges an entry: one subject for a hundred numbers, and one of its own. */
enum { LOAD_SUBJECTS = 2 };

static inline void load_subjects(uint64_t number, uint64_t ret[LOAD_SUBJECTS])
{
    uint64_t of_many = number % 100, of_one = number + 1000;
    ret[0] = load_random(&of_many);
    ret[1] = load_random(&of_one);
}

static inline bool load_put(struct store *store, uint64_t number, uint64_t version, double median_bytes, int64_t expires_at_ms)
{
    struct cp_key key = load_key(number);
    uint64_t subjects[LOAD_SUBJECTS];
    struct store_entry entry = {
        .body = load_body(number, version, median_bytes),
        .owner = load_owner(number),
        .began_ms = (int64_t)(version / 2),
        .stored_at_ms = (int64_t)version,
        .expires_at_ms = expires_at_ms,
        .cost_ms = (uint32_t)number,
        .name = SPAN("load"),
        .generation = store_generation(store),
        .subjects = subjects,
        .subject_count = LOAD_SUBJECTS,
    };
    load_subjects(number, subjects);
    return store_put(store, &key, &entry);
}

struct load_memory {
    char body[LOAD_BODY_MAX];
    alignas(uint64_t) char more[LOAD_SUBJECTS * 8 + 8]; /* subjects and name: less than any body */
    uint64_t generation;                                /* of the last hit */
};

static inline void *load_alloc(void *ctx, size_t bytes)
{
    struct load_memory *memory = ctx;
    return bytes <= sizeof(memory->more) ? memory->more : bytes <= sizeof(memory->body) ? memory->body : NULL;
}

/* Looks up; *ret_right says of a hit whether it is, bit by bit, what was put under number with the version that it bears. */
static inline enum store_lookup load_get(struct store_reader *reader, uint64_t number, double median_bytes,
                                         struct load_memory *memory, uint64_t *ret_version, bool *ret_right)
{
    struct cp_key key = load_key(number);
    struct store_entry entry;
    enum store_lookup found = store_get(reader, &key, load_alloc, memory, &entry);

    if (found == STORE_HIT) {
        uint64_t subjects[LOAD_SUBJECTS];
        load_subjects(number, subjects);
        memory->generation = entry.generation;
        *ret_version = (uint64_t)entry.stored_at_ms;
        *ret_right = span_eq(entry.body, load_body(number, *ret_version, median_bytes)) && span_eq(entry.name, SPAN("load")) &&
                     entry.cost_ms == (uint32_t)number && entry.owner == load_owner(number) &&
                     entry.began_ms == (int64_t)(*ret_version / 2) && entry.subject_count == LOAD_SUBJECTS &&
                     memcmp(entry.subjects, subjects, sizeof(subjects)) == 0;
    }
    return found;
}

static inline double load_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A fresh directory below the working one; load_room_remove takes the store's files with it. */
static inline void load_room_make(char path[64])
{
    strcpy(path, "store-XXXXXX");
    if (mkdtemp(path) == NULL) {
        perror("mkdtemp");
        exit(2);
    }
}

static inline void load_room_remove(const char *path)
{
    static const char *const names[] = {"store.mdb", "store.mdb-lock", "store.state", "store.generations"};
    char name[128];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); ++i) {
        snprintf(name, sizeof(name), "%s/%s", path, names[i]);
        unlink(name);
    }
    rmdir(path);
}

#define REQUIRE(condition)                                                                                                         \
    do {                                                                                                                           \
        if (!(condition)) {                                                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                                \
            exit(1);                                                                                                               \
        }                                                                                                                          \
    } while (0)

#endif
