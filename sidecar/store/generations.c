/* SPDX-License-Identifier: Apache-2.0 */
/* The counter, the table of what was raised, and the file that both lie in. Not here: what is raised when (the flow), which subjects an entry has (the policy), what
 * a file that is not believed means for the entries (store.c).
 * Always: a number is in the counter before it is in the table; the subjects of whatever is under way are in the file.
 * Thread: as in the header. */
#include "generations.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/rand.h>
#include <xxhash.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && sizeof(_Atomic uint64_t) == 8, "a lock in the file would outlive its holder");

static const char MAGIC[16] = "mcpcached gener";

struct slot {
    _Atomic uint64_t hard, soft; /* of the latest raise; 0: none yet */
};

struct generations_map {
    char magic[sizeof(MAGIC)]; /* written last */
    uint32_t schema, slot_count;
    uint8_t id[GENERATIONS_ID_BYTES];
    _Atomic uint64_t counter;
    struct slot all;                 /* of STORE_SUBJECT_ALL: shared with nobody, or some tag could purge everything */
    _Atomic uint64_t under_way_more; /* for which there was no place */
    _Atomic uint64_t under_way[GENERATIONS_UNDER_WAY]; /* subjects; 0: free */
    char rest[4096 - sizeof(MAGIC) - 8 - GENERATIONS_ID_BYTES - 8 - 16 - 8 - 8 * GENERATIONS_UNDER_WAY];
    struct slot slots[GENERATIONS_SLOTS];
};

_Static_assert(sizeof(struct generations_map) == GENERATIONS_FILE_BYTES, "the file is what it is said to be");

/* ---- the file ---- */

/* Its blocks and its place in memory; NULL and errno. */
static struct generations_map *map_file(int fd)
{
    void *map;

    if ((errno = posix_fallocate(fd, 0, GENERATIONS_FILE_BYTES)) != 0)
        return NULL;
    map = mmap(NULL, GENERATIONS_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    return map == MAP_FAILED ? NULL : map;
}

static bool slot_is_sound(const struct slot *slot, uint64_t counter)
{
    return atomic_load_explicit(&slot->hard, memory_order_relaxed) <= counter &&
           atomic_load_explicit(&slot->soft, memory_order_relaxed) <= counter;
}

static bool is_sound(const struct generations_map *map, const uint64_t *sum)
{
    uint64_t counter = atomic_load(&map->counter);

    if (memcmp(map->magic, MAGIC, sizeof(MAGIC)) != 0 || map->schema != GENERATIONS_SCHEMA ||
        map->slot_count != GENERATIONS_SLOTS || counter > INT64_MAX || !slot_is_sound(&map->all, counter) ||
        (sum != NULL && XXH3_64bits(map, GENERATIONS_FILE_BYTES) != *sum))
        return false;
    for (size_t i = 0; i < GENERATIONS_SLOTS; ++i)
        if (!slot_is_sound(&map->slots[i], counter))
            return false;
    return true;
}

/* *ret NULL: there is no file, or none to be believed. */
static int open_old(const char *path, const uint64_t *sum, struct generations_map **ret)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), r = 0;
    struct generations_map *map = NULL;
    struct stat stat;

    if (fd < 0 && errno != ENOENT && errno != ELOOP && errno != ENXIO && errno != EISDIR)
        return -errno;
    if (fd >= 0 && fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size == GENERATIONS_FILE_BYTES &&
        (map = map_file(fd)) == NULL)
        r = -errno;
    if (fd >= 0)
        close(fd);
    if (map != NULL && !is_sound(map, sum)) {
        munmap(map, GENERATIONS_FILE_BYTES);
        map = NULL;
    }
    if (r == 0)
        *ret = map;
    return r;
}

static int open_new(const char *path, struct generations_map **ret)
{
    struct generations_map *map;
    int fd, r = 0;

    if (unlink(path) != 0 && errno != ENOENT)
        return -errno;
    if ((fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        return -errno;
    if ((map = map_file(fd)) == NULL) {
        r = -errno;
    } else {
        map->schema = GENERATIONS_SCHEMA;
        map->slot_count = GENERATIONS_SLOTS;
        r = RAND_bytes(map->id, sizeof(map->id)) == 1 ? 0 : -EIO;
        atomic_thread_fence(memory_order_seq_cst);
        if (r == 0)
            memcpy(map->magic, MAGIC, sizeof(MAGIC));
        else
            munmap(map, GENERATIONS_FILE_BYTES);
    }
    close(fd);
    if (r != 0)
        unlink(path);
    else
        *ret = map;
    return r;
}

/* The process ended in the middle of it: nobody was told how it went, and it may have gone on without us. */
static void raise_under_way(struct generations *generations)
{
    struct generations_map *map = generations->map;

    for (size_t i = 0; i < GENERATIONS_UNDER_WAY; ++i) {
        uint64_t subject = atomic_load(&map->under_way[i]);
        if (subject != 0)
            generations_raise(generations, subject, STORE_RAISE_HARD);
        atomic_store(&map->under_way[i], 0);
    }
    if (atomic_load(&map->under_way_more) != 0)
        generations_raise(generations, STORE_SUBJECT_ALL, STORE_RAISE_HARD);
    atomic_store(&map->under_way_more, 0);
}

int generations_open(const char *path, const uint64_t *sum, struct generations *ret)
{
    struct generations_map *map = NULL;
    int r = open_old(path, sum, &map);

    if (r == 0 && map == NULL)
        r = open_new(path, &map);
    if (r != 0)
        return r;
    ret->map = map;
    raise_under_way(ret);
    /* What was purged before the last end may lie there still. */
    atomic_store(&ret->has_raised_hard, atomic_load(&map->counter) > 0);
    return 0;
}

int generations_close(struct generations *generations, uint64_t *ret_sum)
{
    int r = 0;

    if (generations->map == NULL)
        return 0;
    if (ret_sum != NULL) {
        if (msync(generations->map, GENERATIONS_FILE_BYTES, MS_SYNC) != 0)
            r = -errno;
        else
            *ret_sum = XXH3_64bits(generations->map, GENERATIONS_FILE_BYTES);
    }
    munmap(generations->map, GENERATIONS_FILE_BYTES);
    generations->map = NULL;
    return r;
}

const uint8_t *generations_id(const struct generations *generations)
{
    return generations->map->id;
}

/* ---- raising and looking ---- */

static struct slot *slot_of(struct generations_map *map, uint64_t subject)
{
    return subject == STORE_SUBJECT_ALL ? &map->all : &map->slots[subject % GENERATIONS_SLOTS];
}

bool generations_is_one(uint64_t a, uint64_t b)
{
    return a == b || (a != STORE_SUBJECT_ALL && b != STORE_SUBJECT_ALL && a % GENERATIONS_SLOTS == b % GENERATIONS_SLOTS);
}

uint64_t generations_now(const struct generations *generations)
{
    return atomic_load(&generations->map->counter);
}

uint64_t generations_raise(struct generations *generations, uint64_t subject, enum store_raise how)
{
    struct slot *slot = slot_of(generations->map, subject);
    _Atomic uint64_t *number = how == STORE_RAISE_HARD ? &slot->hard : &slot->soft;
    /* Who notes the counter between these two began after the raise did, so what he fetches needs no purge by it. */
    uint64_t mine = atomic_fetch_add(&generations->map->counter, 1) + 1, there = atomic_load(number);

    while (there < mine && !atomic_compare_exchange_weak(number, &there, mine))
        ;
    /* Looked at first: raises by many threads should not fight over one more cache line. */
    if (how == STORE_RAISE_HARD && !atomic_load(&generations->has_raised_hard))
        atomic_store(&generations->has_raised_hard, true);
    return mine;
}

unsigned generations_begin(struct generations *generations, uint64_t subject)
{
    struct generations_map *map = generations->map;

    for (unsigned i = 0; i < GENERATIONS_UNDER_WAY; ++i) {
        unsigned place = (unsigned)((subject + i) % GENERATIONS_UNDER_WAY);
        uint64_t nothing = 0;
        if (atomic_load_explicit(&map->under_way[place], memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&map->under_way[place], &nothing, subject))
            return place;
    }
    atomic_fetch_add(&map->under_way_more, 1);
    return GENERATIONS_UNDER_WAY;
}

void generations_end(struct generations *generations, unsigned place)
{
    if (place < GENERATIONS_UNDER_WAY)
        atomic_store(&generations->map->under_way[place], 0);
    else
        atomic_fetch_sub(&generations->map->under_way_more, 1);
}

static enum store_validity validity_by(const struct slot *slot, uint64_t generation)
{
    if (atomic_load(&slot->hard) > generation)
        return STORE_PURGED;
    return atomic_load(&slot->soft) > generation ? STORE_SOFT_PURGED : STORE_VALID;
}

enum store_validity generations_validity(const struct generations *generations, uint64_t generation, const uint64_t *subjects,
                                         size_t count)
{
    enum store_validity validity;

    if (generations_now(generations) <= generation) /* nothing was raised since */
        return STORE_VALID;
    validity = validity_by(&generations->map->all, generation);
    for (size_t i = 0; i < count && validity != STORE_PURGED; ++i) {
        enum store_validity one = validity_by(slot_of(generations->map, subjects[i]), generation);
        if (one > validity)
            validity = one;
    }
    return validity;
}
