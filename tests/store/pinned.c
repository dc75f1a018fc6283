/* SPDX-License-Identifier: Apache-2.0 */
/* A pinned reader: somebody keeps a read transaction open while the store churns, so that no page freed since can be used again. The store must cope with
 * a second of it without losing its content; with a pin that lasts it may lose everything, but must still not wedge: once the pin is gone it works
 * again within seconds, by itself. Other readers get right answers or none all the time. */
#include "load.h"

#include "sidecar/store/inside.h"

enum { NUMBERS = 20000 };
static const double MEDIAN_BYTES = 600;

static struct store *store;
static struct store_reader *reader;
static struct load_memory memory;
static uint64_t seed = 5, version;

/* Puts for some seconds, or until the store breaks, and reads along. */
static void load_for(double seconds)
{
    double until = load_seconds() + seconds;
    while (load_seconds() < until && !atomic_load(&store->local.is_broken)) {
        if (!load_put(store, load_random(&seed) % NUMBERS, ++version, MEDIAN_BYTES, INT64_MAX))
            usleep(1000);
        uint64_t seen;
        bool right = true;
        REQUIRE(load_get(reader, load_random(&seed) % NUMBERS, MEDIAN_BYTES, &memory, &seen, &right) != STORE_BAD && right);
    }
}

static MDB_txn *pin(void)
{
    MDB_txn *txn;
    REQUIRE(mdb_txn_begin(store->local.env, NULL, MDB_RDONLY, &txn) == 0);
    return txn;
}

static struct store_counters counters_of(void)
{
    struct store_counters counters;
    store_counters_get(store, &counters);
    return counters;
}

/* Puts one entry until it can be got. */
static double seconds_until_it_works(void)
{
    double began = load_seconds();
    for (;;) {
        uint64_t seen;
        bool right = false;
        load_put(store, NUMBERS, ++version, MEDIAN_BYTES, INT64_MAX);
        store_flush(store);
        if (load_get(reader, NUMBERS, MEDIAN_BYTES, &memory, &seen, &right) == STORE_HIT && right)
            return load_seconds() - began;
        REQUIRE(load_seconds() - began < 20);
        usleep(10000);
    }
}

int main(void)
{
    struct store_options options = {.size_bytes = 16 << 20, .queue_bytes = 4 << 20};
    struct cp_error error;
    char path[64];

    load_init();
    load_room_make(path);
    options.path = path;
    REQUIRE(store_open(&options, &store, &error) == 0);
    REQUIRE(store_reader_new(store, &reader) == 0);
    load_for(1);

    MDB_txn *txn = pin();
    load_for(1);
    struct store_counters pinned = counters_of();
    mdb_txn_abort(txn);
    double took = seconds_until_it_works();
    load_for(1);
    store_flush(store);
    struct store_counters after = counters_of();
    printf("pinned for a second: map full %llu times, wiped %llu; worked again after %.2f s with %llu entries\n",
           (unsigned long long)pinned.map_full, (unsigned long long)after.wiped, took, (unsigned long long)after.entries);
    REQUIRE(pinned.map_full > 0 && after.wiped == 0 && after.errors == 0 && after.entries > 100);
    REQUIRE(store_check(store, &error) == 0);

    txn = pin();
    load_for(15);
    printf("pinned for longer: %s\n", atomic_load(&store->local.is_broken) ? "broken, everything is a miss" : "not broken");
    mdb_txn_abort(txn);
    took = seconds_until_it_works();
    load_for(1);
    store_flush(store);
    after = counters_of();
    printf("worked again after %.2f s; wiped %llu, entries %llu, pages %llu of %llu\n", took, (unsigned long long)after.wiped,
           (unsigned long long)after.entries, (unsigned long long)after.pages_used, (unsigned long long)after.pages_cap);
    REQUIRE(took < 5 && after.errors == 0 && after.entries > 100);
    if (store_check(store, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    store_reader_free(reader);
    store_close(store);
    load_room_remove(path);
    return 0;
}
