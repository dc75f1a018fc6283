/* SPDX-License-Identifier: Apache-2.0 */
/* A flood: twenty owners ask for what they asked before, now and then, and what the store has lost they fetch and put again; one owner puts keys that
 * nobody ever asked for, many for each question of the others. With a share their hit ratio must not fall by more than five points, and memory must not grow. The
 * same without a share must show that it would fall, or the flood was none.
 * Usage: flood [KEYS [MIB [SECONDS]]] */
#include "load.h"

enum { OWNERS = 20, SET = 250, FLOOD_PER_LOOK = 40, FLOOD_OWNER = 1000003 };
static const double MEDIAN_BYTES = 600;

struct ratio {
    uint64_t looks, hits;
};

struct run {
    struct store *store;
    struct store_reader *reader;
    struct load_memory memory;
    uint64_t looks; /* so far: the next one's turn */
};

static double percent(struct ratio ratio)
{
    return 100.0 * (double)ratio.hits / (double)ratio.looks;
}

/* What the process has of its own, without the pages of the store's file. */
static double anonymous_mib(void)
{
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "r");

    REQUIRE(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "RssAnon: %lf kB", &kib) == 1)
            break;
    fclose(file);
    REQUIRE(kib > 0);
    return kib / 1024;
}

static void put(struct run *run, uint64_t number, uint64_t owner, struct span body)
{
    struct cp_key key = load_key(number);
    struct store_entry entry = {.body = body, .owner = owner, .expires_at_ms = INT64_MAX, .name = SPAN("load")};

    while (!store_put(run->store, &key, &entry))
        store_flush(run->store);
}

/* One question of the twenty, each in turn, each through his set in turn. Before the first round there is nothing to find. */
static void look(struct run *run, struct ratio *ratio)
{
    uint64_t turn = run->looks++, owner = turn % OWNERS, number = owner * SET + turn / OWNERS % SET;
    struct cp_key key = load_key(number);
    struct span body = load_body(number, 1, MEDIAN_BYTES);
    struct store_entry entry;
    enum store_lookup found = store_get(run->reader, &key, load_alloc, &run->memory, &entry);

    REQUIRE(found != STORE_BAD && (found != STORE_HIT || (span_eq(entry.body, body) && entry.owner == owner + 1)));
    ++ratio->looks;
    ratio->hits += found == STORE_HIT;
    if (found != STORE_HIT)
        put(run, number, owner + 1, body);
}

/* Returns how far the hit ratio fell. */
static double flood(uint64_t size_bytes, unsigned share_percent, uint64_t keys, double seconds)
{
    struct store_options options = {.size_bytes = size_bytes, .queue_bytes = 4 << 20, .share_percent = share_percent};
    struct run *run = calloc(1, sizeof(*run));
    struct ratio before = {0}, during = {0};
    struct store_counters counters;
    struct cp_error error;
    uint64_t key = 0;
    double early_mib = 0;
    char path[64];

    load_room_make(path);
    options.path = path;
    REQUIRE(run != NULL && store_open(&options, &run->store, &error) == 0 && store_reader_new(run->store, &run->reader) == 0);
    for (int i = 0; i < OWNERS * SET; ++i) /* the first round fills */
        look(run, &before);
    before = (struct ratio){0};
    for (int i = 0; i < OWNERS * SET; ++i)
        look(run, &before);
    store_flush(run->store);

    double began = load_seconds();
    while (key < keys && load_seconds() - began < seconds) {
        for (int i = 0; i < FLOOD_PER_LOOK; ++i, ++key)
            put(run, (UINT64_C(1) << 32) + key, FLOOD_OWNER, (struct span){load_block + key % 1000, 40 + key % 200});
        look(run, &during);
        if (key >= keys / 10 && early_mib == 0) {
            store_flush(run->store);
            early_mib = anonymous_mib();
        }
    }
    store_flush(run->store);
    double took = load_seconds() - began, late_mib = anonymous_mib();
    store_counters_get(run->store, &counters);
    printf("share %3u %%: %llu keys in %.1f s; the others' hits %.1f %% before, %.1f %% during the flood (%llu looks); memory %.1f "
           "MiB, "
           "then %.1f\n",
           share_percent, (unsigned long long)key, took, percent(before), percent(during), (unsigned long long)during.looks,
           early_mib, late_mib);
    printf("  evicted %llu, of these %llu over their share; pages %llu of %llu, map full %llu, errors %llu\n",
           (unsigned long long)counters.evicted_live, (unsigned long long)counters.evicted_share,
           (unsigned long long)counters.pages_used, (unsigned long long)counters.pages_cap, (unsigned long long)counters.map_full,
           (unsigned long long)counters.errors);
    /* Everybody was asked again at least once, and the store was turned over more than once. */
    REQUIRE(during.looks >= OWNERS * SET && counters.evicted_live > 2 * counters.entries);
    REQUIRE(counters.errors == 0 && counters.wiped == 0 && counters.verify_failures == 0);
    REQUIRE(counters.pages_used <= counters.pages_cap * 85 / 100);
    REQUIRE(early_mib > 0 && late_mib < early_mib + 2);
    if (store_check(run->store, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    store_reader_free(run->reader);
    store_close(run->store);
    load_room_remove(path);
    free(run);
    return percent(before) - percent(during);
}

int main(int argc, char **argv)
{
    uint64_t keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    uint64_t size_bytes = (argc > 2 ? strtoull(argv[2], NULL, 10) : 32) << 20;
    double seconds = argc > 3 ? atof(argv[3]) : 60;

    load_init();
    double with = flood(size_bytes, 25, keys, seconds), without = flood(size_bytes, 0, keys / 4, seconds);
    printf("the others' hit ratio fell by %.1f points, without a share by %.1f\n", with, without);
    REQUIRE(with <= 5);
    REQUIRE(without > 20);
    return 0;
}
