/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a directory of its own, for the unit tests of the store. */
#ifndef STORE_ROOM_H
#define STORE_ROOM_H

#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <xxhash.h>

#include "sidecar/store/check.h"
#include "sidecar/store/inside.h"

static const uint64_t MIB = 1 << 20;

struct room {
    char path[64];
    struct store *store;
    struct store_reader *reader;
};

static inline void file_path(const struct room *room, const char *name, char ret[128])
{
    snprintf(ret, 128, "%s/%s", room->path, name);
}

static inline void room_open_with(struct room *room, uint64_t size_bytes, uint64_t queue_bytes, unsigned share_percent)
{
    struct store_options options = {
        .path = room->path, .size_bytes = size_bytes, .queue_bytes = queue_bytes, .readers = 4, .share_percent = share_percent};
    struct cp_error error;

    if (store_open(&options, &room->store, &error) != 0)
        fail_msg("%s", error.text);
    assert_int_equal(store_reader_new(room->store, &room->reader), 0);
}

static inline void room_open_sized(struct room *room, uint64_t size_bytes, uint64_t queue_bytes)
{
    room_open_with(room, size_bytes, queue_bytes, 25);
}

static inline void room_open(struct room *room)
{
    room_open_sized(room, 8 * MIB, 0);
}

static inline void room_close(struct room *room)
{
    store_reader_free(room->reader);
    store_close(room->store);
    room->reader = NULL;
    room->store = NULL;
}

static inline void directory_remove(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *item;
    char name[400];

    while (directory != NULL && (item = readdir(directory)) != NULL) {
        snprintf(name, sizeof(name), "%s/%s", path, item->d_name);
        unlink(name);
    }
    if (directory != NULL)
        closedir(directory);
    rmdir(path);
}

static inline int setup(void **state)
{
    struct room *room = calloc(1, sizeof(*room));
    strcpy(room->path, "store-XXXXXX");
    if (mkdtemp(room->path) == NULL)
        return -1;
    *state = room;
    return 0;
}

static inline int teardown(void **state)
{
    struct room *room = *state;
    if (room->store != NULL)
        room_close(room);
    directory_remove(room->path);
    free(room);
    return 0;
}

/* The files of room as a killed process would leave them, in a directory of their own. */
static inline void room_snapshot(const struct room *room, struct room *ret)
{
    static const char *const names[] = {"store.mdb", "store.state", "store.generations"};

    *ret = (struct room){0};
    strcpy(ret->path, "store-XXXXXX");
    assert_non_null(mkdtemp(ret->path));
    for (size_t i = 0; i < 3; ++i) {
        char from[128], to[128];
        static char bytes[65536];
        ssize_t n;
        file_path(room, names[i], from);
        file_path(ret, names[i], to);
        int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
        assert_true(in >= 0 && out >= 0);
        while ((n = read(in, bytes, sizeof(bytes))) > 0)
            assert_int_equal(write(out, bytes, (size_t)n), n);
        close(in);
        close(out);
    }
}

/* ---- keys and bodies follow from a number ---- */

static inline struct cp_key key_of(unsigned number)
{
    struct cp_key key = {.check = {'c'}};
    XXH128_hash_t hash = XXH3_128bits(&number, sizeof(number));
    memcpy(key.digest, &hash, sizeof(hash));
    memcpy(key.digest + 16, &number, sizeof(number));
    memcpy(key.check + 1, &number, sizeof(number));
    return key;
}

static inline char *body_of(unsigned number, size_t n)
{
    char *body = malloc(n + 1);
    uint64_t x = number + 1;
    for (size_t i = 0; i < n; ++i) {
        x = x * 6364136223846793005 + 1442695040888963407;
        body[i] = (char)(x >> 56);
    }
    return body;
}

/* ---- what a get takes ---- */

struct allocations {
    void *p[2];
    int count;
};

static inline void *alloc(void *ctx, size_t n)
{
    struct allocations *allocations = ctx;
    assert_true(allocations->count < 2);
    return allocations->p[allocations->count++] = malloc(n);
}

/* Any key, whatever lies there. */
static inline enum store_lookup look_key(struct room *room, const struct cp_key *key)
{
    struct allocations allocations = {0};
    struct store_entry entry;
    enum store_lookup found = store_get(room->reader, key, alloc, &allocations, &entry);

    free(allocations.p[0]);
    free(allocations.p[1]);
    return found;
}

static inline struct store_counters counters_of(struct room *room)
{
    struct store_counters counters;
    store_counters_get(room->store, &counters);
    return counters;
}

static inline void assert_sound(struct room *room)
{
    struct cp_error error;
    if (store_check(room->store, &error) != 0)
        fail_msg("%s", error.text);
}

#endif
