/* SPDX-License-Identifier: Apache-2.0 */
/* Churn: half a million puts of mixed sizes, with overwrites, deletions and expiry, go through a store that holds a small part of them, while two
 * readers look at what they get. The store must neither wedge nor grow nor answer wrongly, and must hold what came last.
 * Usage: churn [PUTS [MIB [OWNERS [SHARE]]]] */
#include "load.h"

#include <pthread.h>
#include <stdatomic.h>

enum { NUMBERS = 200000, CERTAIN = 500 };
static const double MEDIAN_BYTES = 600;

struct reader {
    pthread_t thread;
    struct store *store;
    uint64_t seed, hits, misses, bad, wrong, from_the_future;
};

static _Atomic uint64_t version_now;
static atomic_bool is_over;
static _Atomic uint32_t recent[4096]; /* numbers put lately, for readers who want hits */

static void *read_on(void *data)
{
    struct reader *me = data;
    struct load_memory *memory = malloc(sizeof(*memory));
    struct store_reader *reader;

    REQUIRE(store_reader_new(me->store, &reader) == 0);
    while (!atomic_load(&is_over)) {
        uint64_t version = 0, x = load_random(&me->seed);
        uint64_t number = x % 4 == 0 ? (x >> 8) % NUMBERS : atomic_load_explicit(&recent[(x >> 8) % 4096], memory_order_relaxed);
        bool right = false;
        switch (load_get(reader, number, MEDIAN_BYTES, memory, &version, &right)) {
        case STORE_HIT:
            ++me->hits;
            me->wrong += !right;
            me->from_the_future += version > atomic_load(&version_now);
            break;
        case STORE_MISS:
            ++me->misses;
            break;
        case STORE_BAD:
            ++me->bad;
            break;
        }
    }
    store_reader_free(reader);
    free(memory);
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t puts = argc > 1 ? strtoull(argv[1], NULL, 10) : 500000, seed = 7, refused = 0, bytes = 0, pages_peak = 0;
    uint64_t size_bytes = (argc > 2 ? strtoull(argv[2], NULL, 10) : 64) << 20;
    struct reader readers[2] = {{.seed = 1}, {.seed = 2}};
    struct store_options options = {
        .size_bytes = size_bytes, .queue_bytes = 16 << 20, .share_percent = argc > 4 ? (unsigned)atoi(argv[4]) : 25};
    struct store_counters counters;
    struct store *store;
    struct cp_error error;
    struct stat file;
    char path[64], name[128];

    load_owners = argc > 3 ? strtoull(argv[3], NULL, 10) : 5000;
    load_init();
    load_room_make(path);
    options.path = path;
    if (store_open(&options, &store, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    for (int i = 0; i < 2; ++i) {
        readers[i].store = store;
        REQUIRE(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]) == 0);
    }

    double began = load_seconds();
    for (uint64_t i = 1; i <= puts; ++i) {
        uint64_t x = load_random(&seed), number = x % NUMBERS;
        /* A twentieth is past its time already, so that the sweeper has its share. */
        int64_t expires_at_ms = (x >> 40) % 20 == 0 ? store_now_ms(store) - 2000 : INT64_MAX;
        atomic_store(&version_now, i);
        while (!load_put(store, number, i, MEDIAN_BYTES, expires_at_ms)) {
            ++refused;
            store_flush(store);
        }
        bytes += load_body(number, i, MEDIAN_BYTES).n;
        atomic_store_explicit(&recent[i % 4096], (uint32_t)number, memory_order_relaxed);
        if ((x >> 32) % 20 == 0) {
            struct cp_key key = load_key((x >> 24) % NUMBERS);
            store_delete(store, &key);
        }
        if (i % 1000 == 0) {
            store_counters_get(store, &counters);
            pages_peak = counters.pages_used > pages_peak ? counters.pages_used : pages_peak;
        }
    }
    /* The last ones, each once and undying, must all be there. */
    for (uint64_t i = 0; i < CERTAIN; ++i) {
        atomic_store(&version_now, puts + i);
        while (!load_put(store, NUMBERS + i, puts + i, MEDIAN_BYTES, INT64_MAX)) {
            ++refused;
            store_flush(store);
        }
    }
    store_flush(store);
    double took = load_seconds() - began;
    atomic_store(&is_over, true);
    for (int i = 0; i < 2; ++i)
        pthread_join(readers[i].thread, NULL);

    store_counters_get(store, &counters);
    snprintf(name, sizeof(name), "%s/store.mdb", path);
    REQUIRE(stat(name, &file) == 0);
    printf("%llu puts, %.0f MB in %.1f s: %.0f puts/s, %.0f MB/s; %llu commits; the queue was full %llu times\n",
           (unsigned long long)puts, (double)bytes / 1e6, took, (double)puts / took, (double)bytes / 1e6 / took,
           (unsigned long long)counters.commits, (unsigned long long)refused);
    printf("pages %llu of %llu (peak %llu: %.1f %%), file %.1f MiB, bodies %.1f MiB (%.0f %% of the map) in %llu entries\n",
           (unsigned long long)counters.pages_used, (unsigned long long)counters.pages_cap, (unsigned long long)pages_peak,
           100.0 * (double)pages_peak / (double)counters.pages_cap, (double)file.st_size / 0x1p20,
           (double)counters.body_bytes / 0x1p20, 100.0 * (double)counters.body_bytes / (double)size_bytes,
           (unsigned long long)counters.entries);
    printf("written %llu, dropped %llu, overwritten %llu, purged %llu, swept %llu, evicted live %llu dead %llu, map full %llu, "
           "errors %llu\n",
           (unsigned long long)counters.puts, (unsigned long long)counters.put_drops, (unsigned long long)counters.overwrites,
           (unsigned long long)counters.purged, (unsigned long long)counters.swept, (unsigned long long)counters.evicted_live,
           (unsigned long long)counters.evicted_dead, (unsigned long long)counters.map_full, (unsigned long long)counters.errors);
    for (int i = 0; i < 2; ++i)
        printf("reader %d: hits %llu, misses %llu, bad %llu, wrong %llu\n", i, (unsigned long long)readers[i].hits,
               (unsigned long long)readers[i].misses, (unsigned long long)readers[i].bad, (unsigned long long)readers[i].wrong);

    for (int i = 0; i < 2; ++i)
        REQUIRE(readers[i].wrong == 0 && readers[i].bad == 0 && readers[i].from_the_future == 0 && readers[i].hits > 1000);
    REQUIRE(counters.errors == 0 && counters.verify_failures == 0 && counters.wiped == 0);
    REQUIRE(counters.puts == puts + CERTAIN && counters.put_drops == refused);
    REQUIRE(counters.evicted_live > 0 && counters.swept > 0 && counters.purged > 0 && counters.overwrites > 0);
    REQUIRE(pages_peak <= counters.pages_cap * 85 / 100);
    REQUIRE((uint64_t)file.st_size <= size_bytes);
    REQUIRE(counters.body_bytes > size_bytes / 3);
    if (store_check(store, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }

    struct load_memory *memory = malloc(sizeof(*memory));
    struct store_reader *reader;
    REQUIRE(store_reader_new(store, &reader) == 0);
    for (uint64_t i = 0; i < CERTAIN; ++i) {
        uint64_t version;
        bool right = false;
        REQUIRE(load_get(reader, NUMBERS + i, MEDIAN_BYTES, memory, &version, &right) == STORE_HIT && right);
    }
    free(memory);
    store_reader_free(reader);
    store_close(store);
    load_room_remove(path);
    return 0;
}
