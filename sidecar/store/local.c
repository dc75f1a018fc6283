/* SPDX-License-Identifier: Apache-2.0 */
/* The LMDB environment: open and judge it, get an entry, commit. Not here: what the rows mean (rows.c), when to write (writer.c).
 * Always: a reader holds its transaction for one copy; what does not verify is never returned. MDB_NOSYNC, because a killed process loses nothing
 * (measured: 700 kills, no bad value) and a lost kernel wipes; no MDB_WRITEMAP, because a full disk would then be a SIGBUS; MDB_NOTLS, because
 * a read transaction belongs to a store_reader and not to a thread; MDB_NORDAHEAD, because entries are read one by one.
 * Threads: as in the header. */
#include "local.h"

#include "sidecar/base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/rand.h>
#include <xxhash.h>

#include "state.h"

static const char META_SCHEMA[] = "schema";
static const char META_SECRET[] = "secret";
static const char META_CLOCK[] = "clock";
static const char META_TALLY[] = "tally";             /* bytes of all bodies, the highest generation of an entry */
static const char META_GENERATIONS[] = "generations"; /* id of the file that the entries' generations are numbers of */

/* ---- meta rows: all of fixed length ---- */

static int meta_get(struct local *local, MDB_txn *txn, const char *name, void *ret, size_t bytes)
{
    MDB_val k = {strlen(name), (void *)name}, v;
    int r = mdb_get(txn, local->rows.meta, &k, &v);
    if (r != 0)
        return r;
    if (v.mv_size != bytes)
        return LOCAL_FOREIGN;
    memcpy(ret, v.mv_data, bytes);
    return 0;
}

static int meta_put(struct local *local, MDB_txn *txn, const char *name, const void *bytes, size_t n)
{
    MDB_val k = {strlen(name), (void *)name}, v = {n, (void *)bytes};
    return mdb_put(txn, local->rows.meta, &k, &v, 0);
}

static int tally_put(struct local *local, MDB_txn *txn, uint64_t body_bytes, uint64_t generation)
{
    uint8_t bytes[16];
    rows_store_be64(bytes, body_bytes);
    rows_store_be64(bytes + 8, generation);
    return meta_put(local, txn, META_TALLY, bytes, sizeof(bytes));
}

/* ---- clock ---- */

int64_t local_now_ms(const struct local *local)
{
    return clock_boot_ms() + local->clock_base_ms;
}

int64_t local_clock_base(const struct local_clock *kept, bool same_boot, int64_t boottime_ms, int64_t realtime_ms)
{
    /* Where the clock must stand at least. In the same boot the kept moment is a floor only: boottime went on by itself, but a container may have
     * been given a boottime of its own. */
    int64_t floor_ms = kept->store_ms;
    if (!same_boot && realtime_ms > kept->realtime_ms)
        floor_ms += realtime_ms - kept->realtime_ms;
    int64_t base_ms = floor_ms - boottime_ms;
    return same_boot && kept->base_ms > base_ms ? kept->base_ms : base_ms;
}

static int clock_put(struct local *local, MDB_txn *txn)
{
    uint8_t bytes[24];
    rows_store_be64(bytes, (uint64_t)local->clock_base_ms);
    rows_store_be64(bytes + 8, (uint64_t)local_now_ms(local));
    rows_store_be64(bytes + 16, (uint64_t)clock_real_ms());
    return meta_put(local, txn, META_CLOCK, bytes, sizeof(bytes));
}

static int clock_get(struct local *local, MDB_txn *txn, bool same_boot)
{
    const int64_t bound_ms = INT64_MAX / 4; /* anything beyond is not a time */
    uint8_t bytes[24];
    int r = meta_get(local, txn, META_CLOCK, bytes, sizeof(bytes));
    if (r != 0)
        return r;
    struct local_clock kept = {(int64_t)rows_load_be64(bytes), (int64_t)rows_load_be64(bytes + 8),
                               (int64_t)rows_load_be64(bytes + 16)};
    if (kept.base_ms > bound_ms || kept.base_ms < -bound_ms || kept.store_ms > bound_ms || kept.store_ms < -bound_ms ||
        kept.realtime_ms > bound_ms || kept.realtime_ms < -bound_ms)
        return LOCAL_FOREIGN;
    local->clock_base_ms = local_clock_base(&kept, same_boot, clock_boot_ms(), clock_real_ms());
    return 0;
}

/* ---- opening ---- */

static int create_meta(struct local *local, MDB_txn *txn)
{
    uint8_t schema[8];
    int r;

    if (RAND_bytes(local->secret, sizeof(local->secret)) != 1)
        return EIO;
    /* A new store begins at the wall clock: its times can then be read by people. */
    local->clock_base_ms = clock_real_ms() - clock_boot_ms();
    rows_store_be64(schema, STATE_SCHEMA);
    if ((r = meta_put(local, txn, META_SCHEMA, schema, sizeof(schema))) != 0 ||
        (r = meta_put(local, txn, META_SECRET, local->secret, sizeof(local->secret))) != 0 ||
        (r = meta_put(local, txn, META_GENERATIONS, generations_id(local->generations), GENERATIONS_ID_BYTES)) != 0 ||
        (r = tally_put(local, txn, 0, 0)) != 0)
        return r;
    return clock_put(local, txn);
}

static int read_meta(struct local *local, MDB_txn *txn, bool same_boot)
{
    uint8_t schema[8], tally[16], id[GENERATIONS_ID_BYTES];
    int r = meta_get(local, txn, META_SCHEMA, schema, sizeof(schema));

    if (r == MDB_NOTFOUND) {
        MDB_stat stat;
        if ((r = mdb_stat(txn, local->rows.index, &stat)) != 0)
            return r;
        return stat.ms_entries == 0 ? create_meta(local, txn) : LOCAL_FOREIGN;
    }
    if (r == 0 && rows_load_be64(schema) != STATE_SCHEMA)
        return LOCAL_FOREIGN;
    if (r != 0 || (r = meta_get(local, txn, META_SECRET, local->secret, sizeof(local->secret))) != 0 ||
        (r = meta_get(local, txn, META_TALLY, tally, sizeof(tally))) != 0 ||
        (r = meta_get(local, txn, META_GENERATIONS, id, sizeof(id))) != 0 || (r = clock_get(local, txn, same_boot)) != 0)
        return r == MDB_NOTFOUND ? LOCAL_FOREIGN : r;
    local->generation = rows_load_be64(tally + 8);
    /* Numbers of another file say nothing of these entries; nor does an old copy of the right one, which forgot what was purged. */
    if (memcmp(id, generations_id(local->generations), sizeof(id)) != 0 || local->generation > generations_now(local->generations))
        return LOCAL_FOREIGN;
    atomic_store_explicit(&local->body_bytes, rows_load_be64(tally), memory_order_relaxed);
    return clock_put(local, txn);
}

static int gauges_update(struct local *local, MDB_txn *txn)
{
    uint64_t pages, entries;
    int r = rows_pages(&local->rows, txn, &pages, &entries);
    if (r != 0)
        return r;
    atomic_store_explicit(&local->pages_used, pages, memory_order_relaxed);
    atomic_store_explicit(&local->entries, entries, memory_order_relaxed);
    return 0;
}

/* The file must reach to the last page that LMDB speaks of: reading behind its end would be a SIGBUS. LMDB itself leaves it shorter when the last
 * pages were given up before they were ever written. */
static int cover_last_page(struct local *local, uint64_t size_bytes)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat file;
    int fd, r;

    if ((r = mdb_env_info(local->env, &info)) != 0 || (r = mdb_env_stat(local->env, &stat)) != 0 ||
        (r = mdb_env_get_fd(local->env, &fd)) != 0)
        return r;
    /* A smaller --store-size than the file needs, or nonsense: LMDB enlarged the map on its own. */
    if (info.me_mapsize > size_bytes || stat.ms_psize == 0 || info.me_last_pgno >= size_bytes / stat.ms_psize)
        return LOCAL_FOREIGN;
    if (fstat(fd, &file) != 0)
        return errno;
    off_t needed = (off_t)((info.me_last_pgno + 1) * stat.ms_psize);
    if (file.st_size < needed && ftruncate(fd, needed) != 0)
        return errno;
    local->page_bytes = stat.ms_psize;
    local->pages_cap = size_bytes / stat.ms_psize;
    local->pages_soft = local->pages_cap * 80 / 100;
    local->pages_hard = local->pages_cap * 85 / 100;
    return 0;
}

/* Whether a damaged page, rather than the world, is behind r: LMDB allocates by the counts that it reads. */
static bool is_damage(int r)
{
    return r != 0 && r != ENOSPC && r != EIO && r != EFBIG && r != EDQUOT;
}

/* Everything that the first use of an open environment needs. */
static int open_rows(struct local *local, const struct local_options *options)
{
    struct store_reader trial = {0};
    MDB_txn *txn;
    int r = mdb_txn_begin(local->env, NULL, 0, &txn);

    if (r != 0)
        return r;
    /* The handles are only good when the transaction that opened them is committed. */
    if ((r = rows_open(txn, &local->rows)) != 0 || (r = read_meta(local, txn, options->same_boot)) != 0 ||
        (r = rows_next_seq(&local->rows, txn, &local->next_seq)) != 0 || (r = gauges_update(local, txn)) != 0) {
        mdb_txn_abort(txn);
        return r;
    }
    if ((r = mdb_txn_commit(txn)) != 0)
        return r;
    r = local_reader_init(local, &trial);
    local_reader_done(&trial);
    if (r < 0)
        return LOCAL_FOREIGN;
    if (options->share_percent > 0 && options->share_percent < 100) {
        local->owners = owners_new(local->pages_cap * local->page_bytes / 100 * options->share_percent, local->next_seq);
        local->rows.owners = local->owners;
    }
    return 0;
}

int local_open(const struct local_options *options, struct local *ret)
{
    uint64_t size_bytes = options->size_bytes;
    struct local local = {.entry_bytes_max = size_bytes / 4 < UINT32_MAX / 4 ? size_bytes / 4 : UINT32_MAX / 4,
                          .rows.generations = options->generations,
                          .generations = options->generations};
    int dead, r = mdb_env_create(&local.env);

    if (r != 0)
        return r;
    /* One reader more for store_check, one for store_count, and one to spare. */
    if ((r = mdb_env_set_mapsize(local.env, size_bytes)) != 0 || (r = mdb_env_set_maxdbs(local.env, 4)) != 0 ||
        (r = mdb_env_set_maxreaders(local.env, options->readers + 3)) != 0 ||
        (r = mdb_env_open(local.env, options->path, MDB_NOSUBDIR | MDB_NOSYNC | MDB_NORDAHEAD | MDB_NOTLS, 0600)) != 0 ||
        (r = cover_last_page(&local, size_bytes)) != 0 || (r = mdb_reader_check(local.env, &dead)) != 0)
        goto out;
    local.rows.page_bytes = local.page_bytes;
    if (is_damage(r = open_rows(&local, options)))
        r = LOCAL_FOREIGN;
out:
    if (r != 0) {
        mdb_env_close(local.env);
        return r;
    }
    *ret = local;
    return 0;
}

int local_close(struct local *local, bool is_clean)
{
    int r = 0;

    if (local->env == NULL)
        return 0;
    if (is_clean && (r = local_keep_clock(local)) == 0)
        r = mdb_env_sync(local->env, 1);
    mdb_env_close(local->env);
    local->env = NULL;
    owners_free(local->owners);
    local->owners = local->rows.owners = NULL;
    return r;
}

/* ---- the writer ---- */

int local_begin(struct local *local, MDB_txn **ret)
{
    if (local->owners != NULL)
        owners_begin(local->owners);
    return mdb_txn_begin(local->env, NULL, 0, ret);
}

int local_commit(struct local *local, MDB_txn *txn, const struct rows_change *change)
{
    uint64_t pages, entries, body_bytes = atomic_load_explicit(&local->body_bytes, memory_order_relaxed);
    uint64_t generation = change->generation > local->generation ? change->generation : local->generation;
    int r;

    if (change->body_bytes < 0 && (uint64_t)-change->body_bytes > body_bytes)
        body_bytes = 0;
    else
        body_bytes += (uint64_t)change->body_bytes;
    if (((change->body_bytes != 0 || generation != local->generation) &&
         (r = tally_put(local, txn, body_bytes, generation)) != 0) ||
        (r = rows_pages(&local->rows, txn, &pages, &entries)) != 0) {
        mdb_txn_abort(txn);
        return r;
    }
    if ((r = mdb_txn_commit(txn)) != 0)
        return r;
    if (local->owners != NULL)
        owners_keep(local->owners);
    local->generation = generation;
    atomic_store_explicit(&local->body_bytes, body_bytes, memory_order_relaxed);
    atomic_store_explicit(&local->pages_used, pages, memory_order_relaxed);
    atomic_store_explicit(&local->entries, entries, memory_order_relaxed);
    return 0;
}

int local_forget(struct local *local)
{
    struct rows_change change = {.body_bytes = INT64_MIN + 1};
    MDB_txn *txn;
    int r = local_begin(local, &txn);

    if (r != 0)
        return r;
    if ((r = mdb_drop(txn, local->rows.index, 0)) != 0 || (r = mdb_drop(txn, local->rows.expiry, 0)) != 0) {
        mdb_txn_abort(txn);
        return r;
    }
    if ((r = local_commit(local, txn, &change)) == 0 && local->owners != NULL)
        owners_clear(local->owners);
    return r;
}

int local_count_owners(struct local *local, bool *ret_more)
{
    enum { COUNT_MAX = 2048 }; /* some hundred microseconds */
    bool is_whole = true;
    MDB_txn *txn;
    int r = 0;

    if (local->owners != NULL)
        owners_counted(local->owners, &is_whole);
    if (!is_whole && (r = local_begin(local, &txn)) == 0) {
        r = rows_count_owners(&local->rows, txn, COUNT_MAX);
        mdb_txn_abort(txn);
        owners_counted(local->owners, &is_whole);
    }
    *ret_more = r == 0 && !is_whole;
    return r;
}

int local_keep_clock(struct local *local)
{
    MDB_txn *txn;
    int r = local_begin(local, &txn);

    if (r != 0)
        return r;
    if ((r = clock_put(local, txn)) != 0) {
        mdb_txn_abort(txn);
        return r;
    }
    return mdb_txn_commit(txn);
}

/* ---- readers ---- */

int local_reader_init(struct local *local, struct store_reader *reader)
{
    int r = mdb_txn_begin(local->env, NULL, MDB_RDONLY, &reader->txn);
    if (r != 0)
        return r == MDB_READERS_FULL ? -EUSERS : r > 0 ? -r : -EIO;
    r = mdb_cursor_open(reader->txn, local->rows.body, &reader->cursor);
    mdb_txn_reset(reader->txn);
    if (r != 0) {
        local_reader_done(reader);
        return r > 0 ? -r : -EIO;
    }
    reader->local = local;
    return 0;
}

void local_reader_done(struct store_reader *reader)
{
    if (reader->cursor != NULL)
        mdb_cursor_close(reader->cursor);
    if (reader->txn != NULL)
        mdb_txn_abort(reader->txn);
    reader->cursor = NULL;
    reader->txn = NULL;
}

static void count_up(_Atomic uint64_t *counter)
{
    /* One thread writes it: no need for an atomic addition. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* Copies the body of record to p. 0, or MDB_CORRUPTED when a chunk is missing, is not as long as it must be, or is another entry's. */
static int copy_body(struct store_reader *reader, const struct entry_record *record, const uint8_t digest[32], char *p)
{
    uint64_t chunks = entry_chunks(record->body_bytes);
    int r = mdb_cursor_renew(reader->txn, reader->cursor);

    if (r != 0)
        return r;
    for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
        uint8_t key[12];
        MDB_val k = {sizeof(key), key}, v;
        size_t head = chunk == 0 ? ENTRY_HEAD_BYTES : 0;

        rows_body_key(record->seq, (uint32_t)chunk, key);
        r = mdb_cursor_get(reader->cursor, &k, &v, chunk == 0 ? MDB_SET_KEY : MDB_NEXT);
        if (r != 0)
            return r == MDB_NOTFOUND ? MDB_CORRUPTED : r;
        if (k.mv_size != sizeof(key) || memcmp(k.mv_data, key, sizeof(key)) != 0 ||
            v.mv_size != entry_chunk_bytes(record->body_bytes, chunk) ||
            (head > 0 && memcmp(v.mv_data, digest, ENTRY_DIGEST_BYTES) != 0))
            return MDB_CORRUPTED;
        if (v.mv_size == head) /* an empty body: p may be NULL */
            break;
        memcpy(p, (const char *)v.mv_data + head, v.mv_size - head);
        p += v.mv_size - head;
    }
    return 0;
}

/* Inside the read transaction. 0: *ret is filled, its memory from alloc. MDB_NOTFOUND: a miss. MDB_CORRUPTED: it does not verify. */
static int get_inside(struct store_reader *reader, const struct cp_key *key, void *(*alloc)(void *ctx, size_t bytes), void *ctx,
                      struct store_entry *ret, uint64_t *ret_body_sum)
{
    struct entry_record record;
    MDB_val k = {sizeof(key->digest), (void *)key->digest}, v;
    char *body = NULL, *more = NULL;
    size_t subjects_bytes;
    int r = mdb_get(reader->txn, reader->local->rows.index, &k, &v);

    if (r != 0)
        return r;
    if (entry_parse((struct span){v.mv_data, v.mv_size}, &record) != ENTRY_OK ||
        memcmp(record.check, key->check, sizeof(key->check)) != 0 || record.body_bytes > reader->local->entry_bytes_max)
        return MDB_CORRUPTED;
    subjects_bytes = record.subject_count * sizeof(record.subjects[0]);
    if ((record.body_bytes > 0 && (body = alloc(ctx, record.body_bytes)) == NULL) ||
        (subjects_bytes + record.name.n > 0 && (more = alloc(ctx, subjects_bytes + record.name.n)) == NULL))
        return ENOMEM;
    if (more != NULL) {
        memcpy(more, record.subjects, subjects_bytes);
        memcpy(more + subjects_bytes, record.name.p, record.name.n);
    }
    if ((r = copy_body(reader, &record, key->digest, body)) != 0)
        return r;
    *ret = (struct store_entry){
        .body = {body != NULL ? body : "", record.body_bytes},
        .owner = record.owner,
        .began_ms = record.began_ms,
        .stored_at_ms = record.stored_at_ms,
        .expires_at_ms = record.expires_at_ms,
        .has_hint = record.has_hint,
        .hint_ttl_ms = record.hint_ttl_ms,
        .ttl_start = record.ttl_start,
        .ttl_end = record.ttl_end,
        .scope = record.scope,
        .method = record.method,
        .cost_ms = record.cost_ms,
        .name = {more != NULL ? more + subjects_bytes : "", record.name.n},
        .generation = record.generation,
        .subjects = subjects_bytes > 0 ? (const uint64_t *)(void *)more : NULL,
        .subject_count = record.subject_count,
        .is_negative = record.is_negative,
    };
    *ret_body_sum = record.body_sum;
    return 0;
}

enum store_lookup local_get(struct store_reader *reader, const struct cp_key *key, void *(*alloc)(void *ctx, size_t bytes),
                            void *ctx, struct store_entry *ret)
{
    struct store_entry entry;
    uint64_t body_sum = 0;
    int r;

    /* Every failure below ends as a miss for the request: the cache fails open. */
    if (atomic_load_explicit(&reader->local->is_broken, memory_order_acquire))
        return STORE_MISS;
    if ((r = mdb_txn_renew(reader->txn)) == 0) {
        r = get_inside(reader, key, alloc, ctx, &entry, &body_sum);
        mdb_txn_reset(reader->txn);
    }
    if (r == MDB_NOTFOUND)
        return STORE_MISS;
    /* The copy is judged, not the page: nothing can change between the look and the use. */
    if (r == 0 && XXH3_64bits(entry.body.p, entry.body.n) != body_sum)
        r = MDB_CORRUPTED;
    if (r != 0) {
        count_up(r == MDB_CORRUPTED ? &reader->verify_failures : &reader->errors);
        return STORE_BAD;
    }
    *ret = entry;
    return STORE_HIT;
}
