/* SPDX-License-Identifier: Apache-2.0 */
/* Kill -9: again and again a process that writes under load is killed at a random moment. Whoever opens the store next must do so within a second, must
 * find everything that was flushed before, must get no wrong byte, and must find purged what was purged before the kill, were it by the last instruction. Every other look ends without store_close as well.
 * Usage: kill9 [ROUNDS [SEED]] */
#include "load.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { NUMBERS = 1500, BATCH = 60, RAISES = 20 };
static const double MEDIAN_BYTES = 1500;

/* Shared with the children. */
struct ledger {
    uint64_t version;          /* last one handed out */
    uint64_t flushed[NUMBERS]; /* version that was surely committed; 0: none */
    uint64_t raised[NUMBERS];  /* the latest raise of the number's own subject that surely returned; 0: none */
    uint64_t raised_of_many[100];
    uint64_t hits, purged, open_max_us; /* of the looks */
};

static struct store *open_store(const char *path)
{
    struct store_options options = {.path = path, .size_bytes = 64 << 20};
    struct cp_error error;
    struct store *store;

    if (store_open(&options, &store, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    return store;
}

/* Writes until it is killed. */
static void write_on(const char *path, struct ledger *ledger, uint64_t seed)
{
    struct store *store = open_store(path);
    for (;;) {
        uint64_t numbers[BATCH], versions[BATCH];
        for (int i = 0; i < BATCH; ++i) {
            numbers[i] = load_random(&seed) % NUMBERS;
            versions[i] = ++ledger->version;
            while (!load_put(store, numbers[i], versions[i], MEDIAN_BYTES, INT64_MAX))
                store_flush(store);
        }
        store_flush(store);
        for (int i = 0; i < BATCH; ++i)
            ledger->flushed[numbers[i]] = versions[i];
        for (int i = 0; i < RAISES; ++i) {
            uint64_t number = load_random(&seed) % NUMBERS, subjects[LOAD_SUBJECTS];
            load_subjects(number, subjects);
            if (load_random(&seed) % 10 == 0)
                ledger->raised_of_many[number % 100] = store_raise(store, subjects[0], STORE_RAISE_HARD);
            else
                ledger->raised[number] = store_raise(store, subjects[1], STORE_RAISE_HARD);
        }
    }
}

/* Opens and looks at everything. */
static void look(const char *path, struct ledger *ledger, bool close_it)
{
    struct load_memory *memory = malloc(sizeof(*memory));
    struct store_counters counters;
    struct store_reader *reader;
    struct cp_error error;

    double began = load_seconds();
    struct store *store = open_store(path);
    uint64_t open_us = (uint64_t)((load_seconds() - began) * 1e6);
    if (open_us > ledger->open_max_us)
        ledger->open_max_us = open_us;
    REQUIRE(open_us < 1000000);
    REQUIRE(store_reader_new(store, &reader) == 0);
    for (uint64_t number = 0; number < NUMBERS; ++number) {
        uint64_t version = 0, subjects[LOAD_SUBJECTS];
        uint64_t raised = ledger->raised[number], raised_of_many = ledger->raised_of_many[number % 100];
        bool right = false;
        enum store_lookup found = load_get(reader, number, MEDIAN_BYTES, memory, &version, &right);
        REQUIRE(found != STORE_BAD);
        REQUIRE(found != STORE_HIT || right);
        REQUIRE(version >= ledger->flushed[number] && version <= ledger->version);
        ledger->hits += found == STORE_HIT;
        load_subjects(number, subjects);
        REQUIRE(raised <= store_generation(store) && raised_of_many <= store_generation(store));
        REQUIRE(raised == 0 || store_validity_of(store, raised - 1, subjects + 1, 1) == STORE_PURGED);
        REQUIRE(raised_of_many == 0 || store_validity_of(store, raised_of_many - 1, subjects, 1) == STORE_PURGED);
        if (found == STORE_HIT) {
            bool purged = store_validity_of(store, memory->generation, subjects, LOAD_SUBJECTS) == STORE_PURGED;
            REQUIRE(memory->generation <= store_generation(store));
            REQUIRE(purged || (memory->generation >= raised && memory->generation >= raised_of_many));
            ledger->purged += purged;
        }
    }
    if (store_check(store, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    store_counters_get(store, &counters);
    REQUIRE(counters.wiped == 0 && counters.verify_failures == 0 && counters.errors == 0 && counters.evicted_live == 0);
    store_reader_free(reader);
    free(memory);
    if (close_it)
        store_close(store);
    fflush(NULL);
    _exit(0);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 200;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL), hits_before = 0;
    struct ledger *ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int survived = 0;
    char path[64];

    REQUIRE(ledger != MAP_FAILED);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    load_init();
    load_room_make(path);
    for (int round = 0; round < rounds; ++round) {
        int status;
        pid_t writer = fork();
        REQUIRE(writer >= 0);
        if (writer == 0)
            write_on(path, ledger, seed + (uint64_t)round * 1000003);
        /* Some die while opening, most in the middle of a batch. */
        usleep((useconds_t)(load_random(&seed) % 250000));
        REQUIRE(kill(writer, SIGKILL) == 0 && waitpid(writer, &status, 0) == writer);
        REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

        pid_t looker = fork();
        REQUIRE(looker >= 0);
        if (looker == 0)
            look(path, ledger, round % 2 == 0);
        REQUIRE(waitpid(looker, &status, 0) == looker);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fprintf(stderr, "round %d: the look ended with status %d\n", round, status);
            return 1;
        }
        survived += ledger->hits > hits_before;
        hits_before = ledger->hits;
    }
    printf("%d kills, %llu versions written, %llu entries looked at and right (%llu of them purged), something survived %d times, "
           "slowest open %.1f ms\n",
           rounds, (unsigned long long)ledger->version, (unsigned long long)ledger->hits, (unsigned long long)ledger->purged,
           survived, (double)ledger->open_max_us / 1000);
    REQUIRE(survived >= rounds / 2 && ledger->hits > 0 && ledger->purged > 0 && ledger->purged < ledger->hits);
    load_room_remove(path);
    return 0;
}
