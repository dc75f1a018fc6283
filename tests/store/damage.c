/* SPDX-License-Identifier: Apache-2.0 */
/* Damage: the files of a closed store are flipped, overwritten and cut at random; whoever opens it then must get right bytes or none, and none that were purged. The file's
 * length, its two meta pages and the generations are covered by sums of our own (state.h), records and bodies by theirs. The pages of LMDB's trees are covered by nothing:
 * LMDB believes them, and may end its process over them, by an assertion or by a fault, or turn in a circle. That is counted here, in children of our own, and bounded;
 * wrong bytes are not bounded but forbidden. And it must not go on for ever: whoever opens the store after such an end finds it empty, and lives.
 * Usage: damage [ROUNDS [SEED]]; with the address sanitizer, which would turn such an end into another, ASAN_OPTIONS=handle_segv=0:handle_sigbus=0:handle_abort=0 */
#include "load.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { NUMBERS = 800, PURGED = 7, WRONG = 3, CLOSED = 4 };
static const double MEDIAN_BYTES = 1500;

struct tally {
    uint64_t hits, misses, bad, wiped, opened;
};

static struct store_options options_of(const char *path)
{
    return (struct store_options){.path = path, .size_bytes = 16 << 20, .share_percent = 25};
}

static void fill(const char *path)
{
    struct store_options options = options_of(path);
    struct cp_error error;
    struct store *store;

    REQUIRE(store_open(&options, &store, &error) == 0);
    for (uint64_t i = 0; i < NUMBERS; ++i)
        REQUIRE(load_put(store, i, i + 1, MEDIAN_BYTES, INT64_MAX));
    store_flush(store);
    uint64_t subjects[LOAD_SUBJECTS];
    load_subjects(PURGED, subjects);
    store_raise(store, subjects[0], STORE_RAISE_HARD); /* one of a hundred */
    store_close(store);
}

static bool is_purged_and_valid(const struct store *store, uint64_t number, uint64_t generation)
{
    uint64_t subjects[LOAD_SUBJECTS];

    load_subjects(number, subjects);
    return number % 100 == PURGED && store_validity_of(store, generation, subjects, LOAD_SUBJECTS) != STORE_PURGED;
}

/* Opens, gets everything, puts something over it. Ends the process: 0, WRONG after a wrong byte, CLOSED when it did not open. */
static void look(const char *path, struct tally *tally)
{
    struct load_memory *memory = malloc(sizeof(*memory));
    struct store_options options = options_of(path);
    struct store_counters counters;
    struct store_reader *reader;
    struct cp_error error;
    struct store *store;

    /* LMDB says on stderr what it ends over; the count below says it better. */
    REQUIRE(freopen("/dev/null", "w", stderr) != NULL);
    if (store_open(&options, &store, &error) != 0 || store_reader_new(store, &reader) != 0)
        _exit(CLOSED);
    ++tally->opened;
    for (int pass = 0; pass < 2; ++pass) {
        for (uint64_t number = 0; number < NUMBERS; ++number) {
            uint64_t version;
            bool right = false;
            switch (load_get(reader, number, MEDIAN_BYTES, memory, &version, &right)) {
            case STORE_HIT:
                ++tally->hits;
                if (!right || (pass == 0 && is_purged_and_valid(store, number, memory->generation)))
                    _exit(WRONG);
                break;
            case STORE_MISS:
                ++tally->misses;
                break;
            case STORE_BAD:
                ++tally->bad;
                break;
            }
        }
        for (uint64_t number = 0; pass == 0 && number < NUMBERS; number += 3)
            load_put(store, number, 10000 + number, MEDIAN_BYTES, INT64_MAX);
        store_flush(store);
    }
    store_counters_get(store, &counters);
    tally->wiped += counters.wiped > 0;
    store_reader_free(reader);
    store_close(store);
    _exit(0);
}

static void write_file(const char *path, const char *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    REQUIRE(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
}

static char *read_file(const char *path, size_t *ret_n)
{
    struct stat stat;
    int fd = open(path, O_RDONLY);
    REQUIRE(fd >= 0 && fstat(fd, &stat) == 0);
    char *bytes = malloc((size_t)stat.st_size);
    REQUIRE(read(fd, bytes, (size_t)stat.st_size) == stat.st_size);
    close(fd);
    *ret_n = (size_t)stat.st_size;
    return bytes;
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"one bit", "64 bytes anywhere",     "a page of noise",           "a page of zeros",
                                        "cut",     "a byte of a meta page", "a byte of the generations", "no generations"};
    enum { KINDS = 8 };
    int rounds = argc > 1 ? atoi(argv[1]) : 200;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    int crashes[KINDS] = {0}, tried[KINDS] = {0}, all_crashes = 0, circles = 0;
    struct tally *tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char path[64], data_path[128], state_path[128], generations_path[128];
    size_t data_n, state_n, generations_n;

    REQUIRE(tally != MAP_FAILED);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    load_init();
    load_room_make(path);
    snprintf(data_path, sizeof(data_path), "%s/store.mdb", path);
    snprintf(state_path, sizeof(state_path), "%s/store.state", path);
    snprintf(generations_path, sizeof(generations_path), "%s/store.generations", path);
    fill(path);
    char *data = read_file(data_path, &data_n), *state = read_file(state_path, &state_n), *copy = malloc(data_n);
    char *generations = read_file(generations_path, &generations_n);

    for (int round = 0; round < rounds; ++round) {
        int kind = round % KINDS, status;
        uint64_t wiped_before = tally->wiped;
        size_t n = data_n, at = load_random(&seed) % generations_n, pages = data_n / 4096,
               page = 2 + load_random(&seed) % (pages - 2);
        memcpy(copy, data, data_n);
        write_file(generations_path, generations, generations_n);
        switch (kind) {
        case 0:
            copy[page * 4096 + load_random(&seed) % 4096] ^= (char)(1 << load_random(&seed) % 8);
            break;
        case 1:
            for (int i = 0; i < 64; ++i)
                copy[2 * 4096 + load_random(&seed) % (data_n - 2 * 4096)] = (char)load_random(&seed);
            break;
        case 2:
            for (int i = 0; i < 4096; ++i)
                copy[page * 4096 + (size_t)i] = (char)load_random(&seed);
            break;
        case 3:
            memset(copy + page * 4096, 0, 4096);
            break;
        case 4:
            n = load_random(&seed) % data_n;
            break;
        case 5:
            copy[load_random(&seed) % (2 * 4096)] ^= (char)(1 + load_random(&seed) % 255);
            break;
        case 6:
            generations[at] ^= 1;
            write_file(generations_path, generations, generations_n);
            generations[at] ^= 1;
            break;
        case 7:
            unlink(generations_path);
            break;
        }
        write_file(data_path, copy, n);
        write_file(state_path, state, state_n);
        pid_t looker = fork();
        REQUIRE(looker >= 0);
        if (looker == 0) {
            alarm(10); /* a loop over damaged pages counts as a crash */
            look(path, tally);
        }
        REQUIRE(waitpid(looker, &status, 0) == looker);
        ++tried[kind];
        if (WIFSIGNALED(status)) {
            ++crashes[kind];
            ++all_crashes;
            if (WTERMSIG(status) == SIGALRM) {
                ++circles;
            } else {
                uint64_t wiped = tally->wiped;
                if ((looker = fork()) == 0)
                    look(path, tally);
                REQUIRE(waitpid(looker, &status, 0) == looker);
                REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0 && tally->wiped == wiped + 1);
            }
        } else if (WEXITSTATUS(status) != 0) {
            fprintf(stderr, "round %d (%s): %s\n", round, kinds[kind],
                    WEXITSTATUS(status) == WRONG ? "a wrong byte was served" : "the store did not open");
            exit(1);
        }
        REQUIRE(kind < 6 || tally->wiped == wiped_before + 1);
    }
    printf("%d rounds: %llu opened, %llu wiped; lookups: %llu right, %llu missing, %llu did not verify, 0 wrong\n", rounds,
           (unsigned long long)tally->opened, (unsigned long long)tally->wiped, (unsigned long long)tally->hits,
           (unsigned long long)tally->misses, (unsigned long long)tally->bad);
    for (int kind = 0; kind < KINDS; ++kind)
        printf("  %-26s %3d times, LMDB ended the process %d times\n", kinds[kind], tried[kind], crashes[kind]);
    printf("  %d of these %d went in circles until they were killed; after all others the next start wiped and went on\n", circles,
           all_crashes);
    /* What we cover ourselves never reaches LMDB. */
    REQUIRE(crashes[4] == 0 && crashes[5] == 0 && crashes[6] == 0 && crashes[7] == 0);
    REQUIRE(all_crashes <= rounds / 10 && circles <= 1 + rounds / 100);
    REQUIRE(tally->hits > 0 && tally->bad > 0 && tally->wiped > 0);
    free(data);
    free(state);
    free(copy);
    free(generations);
    load_room_remove(path);
    return 0;
}
