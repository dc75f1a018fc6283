/* SPDX-License-Identifier: Apache-2.0 */
/* The store as others see it: opens its parts in one order (state file, generations, environment, writer) and closes them in the reverse, decides when to wipe,
 * adds up the counters. Not here: LMDB (local.c), writing (writer.c), what is fresh (the policy).
 * Always: files are created for their owner alone; a store that cannot be trusted is emptied, never mended.
 * Threads: as in store.h; the list of readers is under lock. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "sidecar/base/log.h"

#include "check.h"
#include "inside.h"

static const uint64_t SIZE_BYTES_MIN = 8u << 20;
static const uint64_t QUEUE_BYTES_DEFAULT = 64u << 20;
static const uint32_t READERS_DEFAULT = 64;
enum { HEAD_BYTES = 2 * 4096 }; /* LMDB's two meta pages */

/* ---- opening and closing ---- */

/* Length of the data file and the sum of its head; false when it is not there or cannot be read. */
static bool file_facts(const char *path, uint64_t *ret_bytes, uint64_t *ret_head_sum)
{
    char head[HEAD_BYTES];
    struct stat stat;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fstat(fd, &stat) == 0 && pread(fd, head, sizeof(head), 0) == (ssize_t)sizeof(head);

    if (ok) {
        *ret_bytes = (uint64_t)stat.st_size;
        *ret_head_sum = XXH3_64bits(head, sizeof(head));
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Whether the data file may be shown to LMDB, which believes what it reads. */
static bool is_openable(const struct store *store, const char *boot)
{
    uint64_t bytes, head_sum;

    if (!state_is_trusted(&store->state, boot))
        return false;
    if (!store->state.is_clean)
        return true;
    return file_facts(store->data_path, &bytes, &head_sum) && bytes >= store->state.file_bytes && head_sum == store->state.head_sum;
}

/* Removes the data file, LMDB's lock file and the generations. 0, also when there were none, or -errno. */
static int remove_files(struct store *store)
{
    char lock_path[PATH_MAX + 8];

    snprintf(lock_path, sizeof(lock_path), "%s-lock", store->data_path);
    if (unlink(store->data_path) == 0)
        store->wiped_at_open = true;
    else if (errno != ENOENT)
        return -errno;
    if ((unlink(lock_path) != 0 && errno != ENOENT) || (unlink(store->generations_path) != 0 && errno != ENOENT))
        return -errno;
    return 0;
}

static int failed(int r, struct cp_error *reterr, const char *path, const char *what, const char *why, const char *cure)
{
    cp_error_set(reterr, "", 0, 0, "cannot %s '%s': %s; %s", what, path, why, cure);
    return r;
}

static int path_make(char ret[PATH_MAX], const char *directory, const char *name)
{
    return snprintf(ret, PATH_MAX, "%s/%s", directory, name) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static void warn_of_bits(const char *event, const char *path, mode_t bits)
{
    char text[8];

    snprintf(text, sizeof(text), "%04o", (unsigned)bits & 07777);
    LOG(LOG_WARN, event, LOG_TEXT_FIELD("path", path, strlen(path)), LOG_TEXT_FIELD("mode", text, strlen(text)));
}

/* A file of the store, where it exists, is its owner's alone. Where that cannot be had the store is used all the same, and the operator hears of it. */
static void make_private(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat stat;

    if (fd < 0)
        return;
    if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && (stat.st_mode & 07777) != 0600 && fchmod(fd, 0600) != 0)
        warn_of_bits("store-file-shared", path, stat.st_mode);
    close(fd);
}

/* Of LMDB's two files, which it makes 0600 where they are missing. */
static void make_data_private(const struct store *store)
{
    char lock_path[PATH_MAX + 8];

    snprintf(lock_path, sizeof(lock_path), "%s-lock", store->data_path);
    make_private(store->data_path);
    make_private(lock_path);
}

/* Directory, state file and lock. */
static int hold_directory(struct store *store, const char *path, struct cp_error *reterr)
{
    char state_path[PATH_MAX];
    struct stat stat_;
    int r;

    if (mkdir(path, 0700) == 0) {
        chmod(path, 0700); /* whatever the umask took */
    } else if (errno == EEXIST) {
        /* Somebody else's to change: it may hold more than the store. */
        if (stat(path, &stat_) == 0 && S_ISDIR(stat_.st_mode) && (stat_.st_mode & 077) != 0)
            warn_of_bits("store-directory-shared", path, stat_.st_mode);
    } else {
        r = -errno;
        return failed(r, reterr, path, "create store directory", strerror(-r),
                      "create it and let this process write there, or name another with --store");
    }
    if ((r = path_make(state_path, path, "store.state")) < 0 || (r = path_make(store->data_path, path, "store.mdb")) < 0 ||
        (r = path_make(store->generations_path, path, "store.generations")) < 0)
        return failed(r, reterr, path, "use store directory", strerror(-r), "name a shorter one with --store");
    r = state_open(state_path, &store->state);
    if (r == -EBUSY)
        return failed(r, reterr, path, "use store directory", "another process holds it",
                      "end that process, or give each mcpcached its own directory with --store");
    if (r < 0)
        return failed(r, reterr, path, "use store directory", strerror(-r),
                      "let this process write there, or name another with --store");
    make_private(state_path);
    make_private(store->generations_path);
    make_data_private(store);
    return 0;
}

/* Generations and environment, after a wipe where what lies there cannot be used: entries are believed only together with the generations that purge them. */
static int open_local(struct store *store, const struct store_options *options, uint32_t readers, struct cp_error *reterr)
{
    char boot[40];
    int r = 0;

    state_boot_id(boot);
    bool same_boot = boot[0] != '\0' && strcmp(store->state.boot, boot) == 0;
    bool wipe = !is_openable(store, boot);
    bool was_clean = store->state.is_clean;
    uint64_t sum = store->state.generations_sum;
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (wipe && (r = remove_files(store)) < 0)
            return failed(r, reterr, store->data_path, "remove", strerror(-r), "remove it by hand");
        /* From here on an end without store_close is an unclean one; that must be on the disk before the first page is. */
        memcpy(store->state.boot, boot, sizeof(boot));
        store->state.is_clean = store->state.is_distrusted = false;
        store->state.file_bytes = store->state.head_sum = store->state.generations_sum = 0;
        fault_watch(&store->state, &store->mark);
        if ((r = state_write(&store->state)) < 0)
            return failed(r, reterr, options->path, "write to store directory", strerror(-r),
                          "make room there, or name another with --store");
        fault_enter(&store->mark);
        generations_close(&store->generations, NULL);
        r = generations_open(store->generations_path, was_clean && !wipe ? &sum : NULL, &store->generations);
        fault_leave();
        if (r < 0)
            return failed(r, reterr, store->generations_path, "make room for", strerror(-r),
                          "make room in its directory, or name another with --store");
        fault_enter(&store->mark);
        r = local_open(&(struct local_options){.path = store->data_path,
                                               .size_bytes = options->size_bytes,
                                               .readers = readers,
                                               .share_percent = options->share_percent,
                                               .generations = &store->generations,
                                               .same_boot = same_boot},
                       &store->local);
        fault_leave();
        if (r == 0)
            return 0;
        /* A plain errno is the world's; EINVAL is LMDB's word for a file too short to be its own. */
        if (r > 0 && r != EINVAL)
            break;
        wipe = true;
    }
    return failed(r > 0 ? -r : -EIO, reterr, store->data_path, "open", r == LOCAL_FOREIGN ? "not usable" : mdb_strerror(r),
                  "remove it, or name another directory with --store");
}

int store_open(const struct store_options *options, struct store **ret, struct cp_error *reterr)
{
    struct store *store;
    int r;

    if (options->size_bytes < SIZE_BYTES_MIN || options->size_bytes > SIZE_MAX / 2) {
        cp_error_set(reterr, "", 0, 0,
                     "store size %llu bytes for '%s' is outside 8 MiB and what can be mapped; change --store-size",
                     (unsigned long long)options->size_bytes, options->path);
        return -EINVAL;
    }
    if ((store = calloc(1, sizeof(*store))) == NULL)
        return failed(-ENOMEM, reterr, options->path, "open store", "out of memory", "give this process more");
    store->state.fd = -1;
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->counting, NULL);
    if ((r = hold_directory(store, options->path, reterr)) < 0 ||
        (r = open_local(store, options, options->readers > 0 ? options->readers : READERS_DEFAULT, reterr)) < 0)
        goto out;
    r = writer_new(&store->local, &store->state, &store->mark,
                   options->queue_bytes > 0 ? options->queue_bytes : QUEUE_BYTES_DEFAULT, &store->writer);
    if (r < 0) {
        failed(r, reterr, options->path, "start the writer of", strerror(-r), "allow this process more threads and memory");
        goto out;
    }
    *ret = store;
    return 0;
out:
    local_close(&store->local, false);
    generations_close(&store->generations, NULL);
    state_close(&store->state);
    pthread_mutex_destroy(&store->counting);
    pthread_mutex_destroy(&store->lock);
    free(store);
    return r;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    writer_free(store->writer);
    bool is_clean = !atomic_load_explicit(&store->local.is_broken, memory_order_acquire);
    fault_enter(&store->mark);
    if (local_close(&store->local, is_clean) != 0)
        is_clean = false;
    if (generations_close(&store->generations, is_clean ? &store->state.generations_sum : NULL) != 0)
        is_clean = false;
    fault_leave();
    /* Where this fails the next open finds an unclean end, and wipes only if the kernel is another. */
    if (is_clean && file_facts(store->data_path, &store->state.file_bytes, &store->state.head_sum)) {
        store->state.is_clean = true;
        state_write(&store->state);
    }
    state_close(&store->state);
    pthread_mutex_destroy(&store->counting);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

const uint8_t *store_secret(const struct store *store)
{
    return store->local.secret;
}

int64_t store_now_ms(const struct store *store)
{
    return local_now_ms(&store->local);
}

/* ---- readers ---- */

int store_reader_new(struct store *store, struct store_reader **ret)
{
    struct store_reader *reader = calloc(1, sizeof(*reader));
    int r;

    if (reader == NULL)
        return -ENOMEM;
    reader->store = store;
    pthread_mutex_lock(&store->lock);
    fault_enter(&store->mark);
    r = local_reader_init(&store->local, reader);
    fault_leave();
    if (r == 0) {
        reader->next = store->readers;
        store->readers = reader;
    }
    pthread_mutex_unlock(&store->lock);
    if (r < 0) {
        free(reader);
        return r;
    }
    *ret = reader;
    return 0;
}

void store_reader_free(struct store_reader *reader)
{
    if (reader == NULL)
        return;
    struct store *store = reader->store;
    pthread_mutex_lock(&store->lock);
    for (struct store_reader **at = &store->readers; *at != NULL; at = &(*at)->next)
        if (*at == reader) {
            *at = reader->next;
            break;
        }
    store->gone_verify_failures += atomic_load_explicit(&reader->verify_failures, memory_order_relaxed);
    store->gone_errors += atomic_load_explicit(&reader->errors, memory_order_relaxed);
    local_reader_done(reader);
    pthread_mutex_unlock(&store->lock);
    free(reader);
}

enum store_lookup store_get(struct store_reader *reader, const struct cp_key *key, void *(*alloc)(void *ctx, size_t bytes),
                            void *ctx, struct store_entry *ret)
{
    if (atomic_load_explicit(&reader->local->is_broken, memory_order_acquire))
        return STORE_MISS;
    /* what is queued is newer than the file */
    switch (pending_find(writer_pending(reader->store->writer), key, alloc, ctx, ret)) {
    case PENDING_PUT:
        return STORE_HIT;
    case PENDING_DELETE:
        return STORE_MISS;
    case PENDING_NOTHING:
        break;
    }
    fault_enter(&reader->store->mark);
    enum store_lookup found = local_get(reader, key, alloc, ctx, ret);
    fault_leave();
    return found;
}

/* ---- writing ---- */

bool store_put(struct store *store, const struct cp_key *key, const struct store_entry *entry)
{
    return writer_put(store->writer, key, entry);
}

void store_delete(struct store *store, const struct cp_key *key)
{
    writer_delete(store->writer, key);
}

void store_flush(struct store *store)
{
    writer_flush(store->writer);
}

void store_sweep_at(struct store *store, int64_t now_ms)
{
    writer_sweep(store->writer, now_ms);
    writer_flush(store->writer);
}

void store_reclaim_now(struct store *store)
{
    writer_reclaim_all(store->writer);
    writer_flush(store->writer);
}

void store_hold(struct store *store, bool is_held)
{
    writer_hold(store->writer, is_held);
}

/* ---- purging ---- */

uint64_t store_generation(const struct store *store)
{
    return generations_now(&store->generations);
}

uint64_t store_raise(struct store *store, uint64_t subject, enum store_raise how)
{
    /* A page of the file that cannot be read is a SIGBUS: the next start must not meet it too. */
    fault_enter(&store->mark);
    uint64_t number = generations_raise(&store->generations, subject, how);
    fault_leave();
    return number;
}

unsigned store_begin(struct store *store, uint64_t subject)
{
    fault_enter(&store->mark);
    unsigned place = generations_begin(&store->generations, subject);
    fault_leave();
    return place;
}

void store_end(struct store *store, unsigned place)
{
    fault_enter(&store->mark);
    generations_end(&store->generations, place);
    fault_leave();
}

enum store_validity store_validity_of(const struct store *store, uint64_t generation, const uint64_t *subjects, size_t count)
{
    fault_enter(&store->mark);
    enum store_validity validity = generations_validity(&store->generations, generation, subjects, count);
    fault_leave();
    return validity;
}

/* Adds up what is wanted, in read transactions of bounded length. */
static uint64_t count(struct store *store, const struct rows_wanted *wanted, uint64_t *bytes)
{
    enum { STEPS_MAX = 2048 }; /* some hundred microseconds: a read transaction pins the pages that are freed meanwhile */
    struct rows_place place = {0};
    uint64_t entries = 0;
    int r = 0;

    pthread_mutex_lock(&store->counting);
    fault_enter(&store->mark);
    while (r == 0 && !atomic_load_explicit(&store->local.is_broken, memory_order_acquire)) {
        MDB_txn *txn;
        if ((r = mdb_txn_begin(store->local.env, NULL, MDB_RDONLY, &txn)) == 0) {
            r = rows_count(&store->local.rows, txn, &place, STEPS_MAX, wanted, &entries, bytes);
            mdb_txn_abort(txn);
        }
    }
    fault_leave();
    pthread_mutex_unlock(&store->counting);
    return entries;
}

/* The seq above all that is committed; 1 when that cannot be told. */
static uint64_t next_seq(struct store *store)
{
    uint64_t seq = 1;
    MDB_txn *txn;

    pthread_mutex_lock(&store->counting);
    fault_enter(&store->mark);
    if (!atomic_load_explicit(&store->local.is_broken, memory_order_acquire) &&
        mdb_txn_begin(store->local.env, NULL, MDB_RDONLY, &txn) == 0) {
        rows_next_seq(&store->local.rows, txn, &seq);
        mdb_txn_abort(txn);
    }
    fault_leave();
    pthread_mutex_unlock(&store->counting);
    return seq;
}

/* What is queued counts, too. */
static uint64_t count_all(struct store *store, const struct rows_wanted *wanted, uint64_t *ret_bytes)
{
    uint64_t entries, bytes = 0;

    writer_flush(store->writer);
    entries = count(store, wanted, &bytes);
    *ret_bytes = bytes;
    return entries;
}

uint64_t store_count(struct store *store, const uint64_t *subjects, size_t n, uint64_t *ret_bytes)
{
    struct rows_wanted wanted = {
        .subjects = subjects,
        .subject_count = n,
        .validity_max = STORE_SOFT_PURGED,
        .seq_max = UINT64_MAX,
        .generation_max = UINT64_MAX,
    };

    return count_all(store, &wanted, ret_bytes);
}

/* What a raise would change. */
static struct rows_wanted wanted_by_raise(const uint64_t *subjects, size_t n, enum store_raise how)
{
    return (struct rows_wanted){
        .subjects = subjects,
        .subject_count = n,
        .is_any = true,
        .validity_max = how == STORE_RAISE_HARD ? STORE_SOFT_PURGED : STORE_VALID,
        .seq_max = UINT64_MAX,
        .generation_max = UINT64_MAX,
    };
}

uint64_t store_count_any(struct store *store, const uint64_t *subjects, size_t n, enum store_raise how, uint64_t *ret_bytes)
{
    struct rows_wanted wanted = wanted_by_raise(subjects, n, how);

    return count_all(store, &wanted, ret_bytes);
}

uint64_t store_purge(struct store *store, const uint64_t *subjects, size_t n, enum store_raise how, uint64_t *ret_bytes)
{
    struct rows_wanted wanted = wanted_by_raise(subjects, n, how);
    uint64_t seq, entries, bytes = 0;

    writer_flush(store->writer);
    seq = next_seq(store);
    wanted.seq_max = seq - 1;
    entries = count(store, &wanted, &bytes);
    /* what is still queued when a raise comes is never written */
    writer_flush(store->writer);
    for (size_t i = 0; i < n; ++i)
        wanted.generation_max = store_raise(store, subjects[i], how) - 1;
    if (n > 0 && next_seq(store) != seq) {
        wanted.seq_min = seq;
        wanted.seq_max = UINT64_MAX;
        wanted.validity_max = STORE_PURGED;
        entries += count(store, &wanted, &bytes);
    }
    *ret_bytes = bytes;
    return entries;
}

void store_reclaim(struct store *store)
{
    writer_reclaim(store->writer);
}

/* ---- counters ---- */

static uint64_t value_of(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void store_counters_get(struct store *store, struct store_counters *ret)
{
    const struct writer_counters *w = writer_counters(store->writer);
    struct store_counters counters = {
        .puts = value_of(&w->puts),
        .put_drops = value_of(&w->put_drops),
        .overwrites = value_of(&w->overwrites),
        .commits = value_of(&w->commits),
        .evicted_live = value_of(&w->evicted_live),
        .evicted_dead = value_of(&w->evicted_dead),
        .evicted_share = value_of(&w->evicted_share),
        .purged = value_of(&w->purged),
        .swept = value_of(&w->swept),
        .reclaimed = value_of(&w->reclaimed),
        .map_full = value_of(&w->map_full),
        .errors = value_of(&w->errors),
        .wiped = value_of(&w->wiped) + store->wiped_at_open,
        .entries = value_of(&store->local.entries),
        .pages_used = value_of(&store->local.pages_used),
        .pages_cap = store->local.pages_cap,
        .body_bytes = value_of(&store->local.body_bytes),
    };

    pthread_mutex_lock(&store->lock);
    counters.verify_failures = store->gone_verify_failures;
    counters.errors += store->gone_errors;
    for (const struct store_reader *reader = store->readers; reader != NULL; reader = reader->next) {
        counters.verify_failures += value_of(&reader->verify_failures);
        counters.errors += value_of(&reader->errors);
    }
    pthread_mutex_unlock(&store->lock);
    *ret = counters;
}
