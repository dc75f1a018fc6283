/* SPDX-License-Identifier: Apache-2.0 */
/* Races: on real threads, some change what lies upstream and purge, or fetch and store, as it comes, and others look. A writer raises a version and then a subject, hard or
 * softly, and says so once the raise has returned; a filler notes the generation, reads the version, dawdles and stores it; a reader notes what was said before he
 * looks, and must never be served, as valid, a version from before it (as stale: from before a hard purge that was said). Beside them somebody reclaims, counts and
 * deletes. At the end, a hundred entries that were purged at the beginning must have been reclaimed without a word. Then the same with a filler who notes the
 * generation too late: that must be noticed, or this test could not fail.
 * Usage: races [INTERLEAVINGS [SEED]], fills and purges together */
#include "load.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { KEYS = 48, TAGS = 6, WORKERS = 5, READERS = 3, BYSTANDERS = 100, BODY_MAX = 6000 };

struct key {
    _Atomic uint64_t version;   /* what lies upstream */
    _Atomic uint64_t said_hard; /* no older one may be served, once it was said */
    _Atomic uint64_t said;      /* no older one as valid */
};

static struct key keys[KEYS];
static struct store *store;
static _Atomic int64_t left;   /* interleavings */
static atomic_bool is_over;    /* for those who only look */
static atomic_bool notes_late; /* the fault that must be noticed */
static _Atomic uint64_t fills, refused, purges, served, stale, purged, missed, wrong;

static uint64_t subject_of(const char *kind, uint64_t number)
{
    return XXH3_64bits_withSeed(kind, strlen(kind), number) | 2;
}

/* Those of a key: its own, its tag's, and the owner's. */
static size_t subjects_of(unsigned i, uint64_t ret[3])
{
    ret[0] = subject_of("tag", i % TAGS);
    ret[1] = subject_of("key", i);
    ret[2] = subject_of("owner", i % 2);
    return i % 3 == 0 ? 2 : 3;
}

static void at_least(_Atomic uint64_t *at, uint64_t value)
{
    uint64_t there = atomic_load(at);
    while (there < value && !atomic_compare_exchange_weak(at, &there, value))
        ;
}

/* Nothing, a little or the whole turn. */
static void dawdle(uint64_t *seed)
{
    switch (load_random(seed) % 8) {
    case 0:
    case 1:
        sched_yield();
        break;
    case 2:
        for (uint64_t i = load_random(seed) % 2000; i > 0; --i)
            atomic_signal_fence(memory_order_seq_cst);
        break;
    default:
        break;
    }
}

/* ---- who writes ---- */

static bool is_of(unsigned i, uint64_t subject)
{
    uint64_t subjects[3];
    size_t n = subjects_of(i, subjects);

    for (size_t k = 0; k < n; ++k)
        if (subjects[k] == subject)
            return true;
    return subject == STORE_SUBJECT_ALL;
}

static void change_and_purge(uint64_t *seed)
{
    uint64_t x = load_random(seed), subjects[3], versions[KEYS] = {0};
    size_t n = subjects_of((unsigned)(x >> 32) % KEYS, subjects);
    uint64_t subject = x % 64 == 0 ? STORE_SUBJECT_ALL : subjects[x / 64 % 8 == 0 ? 0 : x / 64 % 8 == 1 && n == 3 ? 2 : 1];
    enum store_raise how = x / 1024 % 4 == 0 ? STORE_RAISE_SOFT : STORE_RAISE_HARD;

    for (unsigned i = 0; i < KEYS; ++i)
        if (is_of(i, subject))
            versions[i] = atomic_fetch_add(&keys[i].version, 1) + 1;
    dawdle(seed);
    store_raise(store, subject, how);
    for (unsigned i = 0; i < KEYS; ++i) {
        if (versions[i] == 0)
            continue;
        at_least(&keys[i].said, versions[i]);
        if (how == STORE_RAISE_HARD)
            at_least(&keys[i].said_hard, versions[i]);
    }
    atomic_fetch_add(&purges, 1);
}

/* ---- who fills ---- */

static void fill(uint64_t *seed)
{
    char body[BODY_MAX];
    unsigned i = (unsigned)(load_random(seed) % KEYS);
    bool is_late = atomic_load(&notes_late);
    uint64_t subjects[3], version = 0, generation;
    struct cp_key key = load_key(i);

    if (is_late) {
        version = atomic_load(&keys[i].version);
        dawdle(seed);
    }
    generation = store_generation(store);
    if (!is_late) {
        dawdle(seed);
        version = atomic_load(&keys[i].version);
    }
    dawdle(seed);
    struct store_entry entry = {
        .body = {body, 16 + (load_random(seed) % 50 == 0 ? load_random(seed) % (BODY_MAX - 16) : 0)},
        .owner = i % 5,
        .expires_at_ms = INT64_MAX,
        .method = CP_METHOD_TOOLS_CALL,
        .name = SPAN("race"),
        .generation = generation,
        .subjects = subjects,
        .subject_count = subjects_of(i, subjects),
    };
    memset(body, 'b', entry.body.n);
    memcpy(body, &version, 8);
    memcpy(body + 8, &i, 4);
    if (store_put(store, &key, &entry))
        atomic_fetch_add(&fills, 1);
    else
        atomic_fetch_add(&refused, 1); /* purged by now, or the queue is full */
    if (load_random(seed) % 200 == 0)
        store_delete(store, &key);
}

static void *work_on(void *data)
{
    uint64_t seed = (uint64_t)(uintptr_t)data;

    while (atomic_fetch_sub(&left, 1) > 0) {
        if (load_random(&seed) % 8 == 0)
            change_and_purge(&seed);
        else
            fill(&seed);
        dawdle(&seed);
    }
    return NULL;
}

/* ---- who looks ---- */

struct memory {
    char body[BODY_MAX + 1];
    alignas(uint64_t) char more[64];
    bool has_body;
};

static void *alloc(void *ctx, size_t bytes)
{
    struct memory *memory = ctx;
    bool is_body = !memory->has_body;

    memory->has_body = true;
    REQUIRE(bytes <= (is_body ? sizeof(memory->body) : sizeof(memory->more)));
    return is_body ? memory->body : memory->more;
}

static void look(struct store_reader *reader, uint64_t *seed)
{
    unsigned i = (unsigned)(load_random(seed) % KEYS), number;
    uint64_t said = atomic_load(&keys[i].said), said_hard = atomic_load(&keys[i].said_hard), version;
    struct memory memory = {0};
    struct cp_key key = load_key(i);
    struct store_entry entry;

    enum store_lookup found = store_get(reader, &key, alloc, &memory, &entry);
    REQUIRE(found != STORE_BAD);
    if (found == STORE_MISS) {
        atomic_fetch_add(&missed, 1);
        return;
    }
    memcpy(&version, entry.body.p, 8);
    memcpy(&number, entry.body.p + 8, 4);
    REQUIRE(number == i && span_eq(entry.name, SPAN("race")));
    if (load_random(seed) % 4 == 0)
        dawdle(seed);
    switch (store_validity_of(store, entry.generation, entry.subjects, entry.subject_count)) {
    case STORE_VALID:
        atomic_fetch_add(&served, 1);
        if (version < said)
            atomic_fetch_add(&wrong, 1);
        break;
    case STORE_SOFT_PURGED:
        atomic_fetch_add(&stale, 1);
        if (version < said_hard)
            atomic_fetch_add(&wrong, 1);
        break;
    case STORE_PURGED:
        atomic_fetch_add(&purged, 1);
        break;
    }
}

static void *look_on(void *data)
{
    uint64_t seed = (uint64_t)(uintptr_t)data;
    struct store_reader *reader;

    REQUIRE(store_reader_new(store, &reader) == 0);
    while (!atomic_load(&is_over))
        look(reader, &seed);
    store_reader_free(reader);
    return NULL;
}

/* Who keeps house. */
static void *tidy_on(void *data)
{
    uint64_t seed = (uint64_t)(uintptr_t)data;

    while (!atomic_load(&is_over)) {
        uint64_t bytes, all = STORE_SUBJECT_ALL;
        if (load_random(&seed) % 3 == 0)
            store_reclaim(store);
        REQUIRE(store_count(store, &all, 1, &bytes) <= KEYS);
        struct timespec pause = {0, (long)(load_random(&seed) % 20) * 1000000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* ---- a round ---- */

static void race(int64_t interleavings, uint64_t seed, bool is_late, bool has_tidy)
{
    pthread_t threads[WORKERS + READERS + 1];
    int n = 0;

    fills = refused = purges = served = stale = purged = missed = wrong = 0;
    left = interleavings;
    is_over = false;
    notes_late = is_late;
    double began = load_seconds();
    for (int i = 0; i < WORKERS; ++i, ++n)
        REQUIRE(pthread_create(&threads[n], NULL, work_on, (void *)(uintptr_t)load_random(&seed)) == 0);
    for (int i = 0; i < READERS; ++i, ++n)
        REQUIRE(pthread_create(&threads[n], NULL, look_on, (void *)(uintptr_t)load_random(&seed)) == 0);
    if (has_tidy)
        REQUIRE(pthread_create(&threads[n++], NULL, tidy_on, (void *)(uintptr_t)load_random(&seed)) == 0);
    for (int i = 0; i < n; ++i) {
        if (i == WORKERS)
            is_over = true;
        pthread_join(threads[i], NULL);
    }
    printf(
        "%llu fills (%llu not stored), %llu purges, %llu looks valid, %llu stale, %llu purged, %llu missed; wrong: %llu; %.1f s\n",
        (unsigned long long)fills, (unsigned long long)refused, (unsigned long long)purges, (unsigned long long)served,
        (unsigned long long)stale, (unsigned long long)purged, (unsigned long long)missed, (unsigned long long)wrong,
        load_seconds() - began);
    fflush(stdout);
}

/* What nobody touches, and one purge takes. */
static void put_bystanders(void)
{
    uint64_t subject = subject_of("bystander", 0);

    for (unsigned i = 0; i < BYSTANDERS; ++i) {
        struct cp_key key = load_key(1000000 + i);
        struct store_entry entry = {.body = SPAN("bystander"),
                                    .expires_at_ms = INT64_MAX,
                                    .method = CP_METHOD_TOOLS_CALL,
                                    .generation = store_generation(store),
                                    .subjects = &subject,
                                    .subject_count = 1};
        REQUIRE(store_put(store, &key, &entry));
    }
    store_flush(store);
    store_raise(store, subject, STORE_RAISE_HARD);
}

/* How many of them are there still, purged or not. */
static unsigned count_bystanders(void)
{
    struct store_reader *reader;
    unsigned there = 0;

    REQUIRE(store_reader_new(store, &reader) == 0);
    for (unsigned i = 0; i < BYSTANDERS; ++i) {
        struct cp_key key = load_key(1000000 + i);
        struct memory memory = {0};
        struct store_entry entry;
        there += store_get(reader, &key, alloc, &memory, &entry) == STORE_HIT;
    }
    store_reader_free(reader);
    return there;
}

int main(int argc, char **argv)
{
    int64_t interleavings = argc > 1 ? strtoll(argv[1], NULL, 10) : 100000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL), late = 0;
    struct store_counters counters;
    struct cp_error error;
    char path[64];

    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    load_init();
    load_room_make(path);
    struct store_options options = {.path = path, .size_bytes = 32 << 20, .share_percent = 25};
    REQUIRE(store_open(&options, &store, &error) == 0);
    double opened = load_seconds();
    put_bystanders();
    REQUIRE(count_bystanders() == BYSTANDERS);

    race(interleavings, seed, false, false);
    REQUIRE(wrong == 0);
    REQUIRE(fills > 0 && purges > 0 && served > 0 && stale > 0 && purged > 0 && missed > 0);

    do { /* some ten seconds after the store was opened */
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
    } while (count_bystanders() > 0 && load_seconds() < opened + 60);
    printf("reclaimed by itself %.1f s after it was opened\n", load_seconds() - opened);
    REQUIRE(count_bystanders() == 0);

    race(interleavings / 4, seed + 1, false, true);
    REQUIRE(wrong == 0);
    if (store_check(store, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    store_counters_get(store, &counters);
    REQUIRE(counters.wiped == 0 && counters.verify_failures == 0 && counters.errors == 0 && counters.map_full == 0);

    for (int round = 0; round < 20 && late == 0; ++round) {
        race(10000, seed + 2 + (uint64_t)round, true, false);
        late = wrong;
    }
    REQUIRE(late > 0);
    store_close(store);
    load_room_remove(path);
    return 0;
}
