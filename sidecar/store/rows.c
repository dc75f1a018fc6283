/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of one entry inside a transaction of the caller's: put, delete, delete the oldest, the expired, the purged; count.
 * Not here: transactions, pages to keep free (sweeper.c, writer.c), reading for a request (local.c).
 * Always: a row that does not read as what it should be is deleted or stepped over, never believed; deletions start again from the first
 * row of a dbi instead of walking a cursor over rows that are going. */
#include "rows.h"

#include <xxhash.h>

enum { NODE_OVERHEAD = 8 + 12 }; /* a node's own bytes and a body's key */

/* A node with its value lies in the leaf page only while two such fit into one; a larger value has pages of its own. */
static uint64_t inline_max(uint32_t page_bytes)
{
    enum { PAGE_HEAD_BYTES = 16, POINTER_BYTES = 2 };
    return ((page_bytes - PAGE_HEAD_BYTES) / 2 & ~(uint64_t)1) - POINTER_BYTES;
}

void rows_body_key(uint64_t seq, uint32_t chunk, uint8_t ret[12])
{
    rows_store_be64(ret, seq);
    for (int i = 11; i >= 8; --i, chunk >>= 8)
        ret[i] = (uint8_t)chunk;
}

static uint64_t second_of(int64_t ms)
{
    return ms > 0 ? (uint64_t)ms / 1000 : 0;
}

void rows_expiry_key(int64_t expires_at_ms, uint64_t seq, uint8_t ret[16])
{
    rows_store_be64(ret, second_of(expires_at_ms));
    rows_store_be64(ret + 8, seq);
}

static MDB_val val_of(const void *bytes, size_t n)
{
    return (MDB_val){.mv_size = n, .mv_data = (void *)bytes};
}

int rows_open(MDB_txn *txn, struct rows *rows)
{
    int r;

    if ((r = mdb_dbi_open(txn, "index", MDB_CREATE, &rows->index)) != 0 ||
        (r = mdb_dbi_open(txn, "body", MDB_CREATE, &rows->body)) != 0 ||
        (r = mdb_dbi_open(txn, "expiry", MDB_CREATE, &rows->expiry)) != 0 ||
        (r = mdb_dbi_open(txn, "meta", MDB_CREATE, &rows->meta)) != 0)
        return r;
    return 0;
}

/* ---- owners ---- */

uint64_t rows_owner_of(const MDB_val *chunk)
{
    return chunk->mv_size >= ENTRY_HEAD_BYTES ? rows_load_be64((const uint8_t *)chunk->mv_data + ENTRY_DIGEST_BYTES) : 0;
}

uint64_t rows_weight(const struct entry_record *record, uint32_t page_bytes)
{
    /* What LMDB writes beside a body, a name and the subjects: some 130 bytes of an index record, two keys, one digest, three nodes. How full its pages are depends on what
     * else happened to them. Measured, bodies of 20 bytes to 300 kB: this is at most a quarter too much in a store that was only filled, and at most a
     * fifth too little in one that has been churned for long; for large bodies it is right. */
    enum { ROWS_BYTES = 250 };
    uint64_t name_bytes = record->name.n < ENTRY_NAME_MAX ? record->name.n : (uint64_t)ENTRY_NAME_MAX;
    uint64_t body_bytes = record->body_bytes, chunks = entry_chunks(body_bytes), limit = inline_max(page_bytes);
    uint64_t full = ENTRY_CHUNK_BYTES + NODE_OVERHEAD, last = entry_chunk_bytes(body_bytes, chunks - 1) + NODE_OVERHEAD;

    return (ROWS_BYTES + name_bytes + 8 * (uint64_t)record->subject_count) * 5 / 4 +
           (chunks - 1) * (full > limit ? page_bytes : full) + (last > limit ? page_bytes : last * 9 / 8);
}

static uint64_t weight_of(const struct rows *rows, const struct entry_record *record)
{
    return rows_weight(record, rows->page_bytes);
}

int rows_count_owners(const struct rows *rows, MDB_txn *txn, unsigned max)
{
    bool is_whole;
    const uint8_t *last = owners_counted(rows->owners, &is_whole);
    uint8_t digest[ENTRY_DIGEST_BYTES];
    MDB_cursor *cursor;
    MDB_val k = val_of(digest, sizeof(digest)), v;
    int r = is_whole ? 0 : mdb_cursor_open(txn, rows->index, &cursor);

    if (is_whole || r != 0)
        return r;
    if (last != NULL)
        memcpy(digest, last, sizeof(digest));
    r = mdb_cursor_get(cursor, &k, &v, last != NULL ? MDB_SET_RANGE : MDB_FIRST);
    if (r == 0 && last != NULL && k.mv_size == sizeof(digest) && memcmp(k.mv_data, digest, sizeof(digest)) == 0)
        r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    for (; r == 0 && max > 0; --max) {
        struct entry_record record;
        if (k.mv_size == sizeof(digest) && entry_parse((struct span){v.mv_data, v.mv_size}, &record) == ENTRY_OK)
            owners_count(rows->owners, k.mv_data, record.owner, record.seq, weight_of(rows, &record));
        r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (r == MDB_NOTFOUND)
        owners_counted_all(rows->owners);
    return r == MDB_NOTFOUND ? 0 : r;
}

/* ---- deleting ---- */

static int delete_quietly(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_bytes)
{
    MDB_val k = val_of(key, key_bytes);
    int r = mdb_del(txn, dbi, &k, NULL);
    return r == MDB_NOTFOUND ? 0 : r;
}

/* Deletes the chunk at the cursor. LMDB frees as many pages as the head of a value's own page claims, and would list thousands of millions of them where that is
 * damaged; ours have one. The head (number, two bytes, flags, count of pages) stands right before such a value. */
static int delete_chunk(const struct rows *rows, MDB_cursor *cursor, const MDB_val *chunk)
{
    enum { HEAD_BYTES = sizeof(size_t) + 8, OVERFLOW = 4 };
    const uint8_t *head = (const uint8_t *)chunk->mv_data - HEAD_BYTES;

    if (chunk->mv_size + NODE_OVERHEAD > inline_max(rows->page_bytes)) {
        uint16_t flags;
        uint32_t pages;
        memcpy(&flags, head + sizeof(size_t) + 2, sizeof(flags));
        memcpy(&pages, head + sizeof(size_t) + 4, sizeof(pages));
        if ((flags & OVERFLOW) == 0 || pages != 1)
            return MDB_CORRUPTED;
    }
    return mdb_cursor_del(cursor, 0);
}

/* The chunks of seq, in order and up to the first that is not there, at most max. */
static int delete_chunks(const struct rows *rows, MDB_txn *txn, uint64_t seq, uint64_t max)
{
    MDB_cursor *cursor;
    int r = mdb_cursor_open(txn, rows->body, &cursor);

    if (r != 0)
        return r;
    for (uint64_t chunk = 0; r == 0 && chunk < max; ++chunk) {
        uint8_t key[12];
        MDB_val k = val_of(key, sizeof(key)), v;
        rows_body_key(seq, (uint32_t)chunk, key);
        if ((r = mdb_cursor_get(cursor, &k, &v, MDB_SET_KEY)) == 0)
            r = delete_chunk(rows, cursor, &v);
    }
    mdb_cursor_close(cursor);
    return r == MDB_NOTFOUND ? 0 : r;
}

/* Every row of a record that was read under digest. */
static int delete_record(const struct rows *rows, MDB_txn *txn, const uint8_t digest[32], const struct entry_record *record,
                         struct rows_change *change)
{
    uint8_t expiry_key[16];
    int r;

    rows_expiry_key(record->expires_at_ms, record->seq, expiry_key);
    if ((r = delete_quietly(txn, rows->expiry, expiry_key, sizeof(expiry_key))) != 0)
        return r;
    /* Pieces behind a gap go when they are the oldest. */
    if ((r = delete_chunks(rows, txn, record->seq, entry_chunks(record->body_bytes))) != 0)
        return r;
    if ((r = delete_quietly(txn, rows->index, digest, ENTRY_DIGEST_BYTES)) != 0)
        return r;
    change->body_bytes -= (int64_t)record->body_bytes;
    change->weight_gone += weight_of(rows, record);
    if (rows->owners != NULL)
        owners_tell_gone(rows->owners, record->owner, digest, record->seq, weight_of(rows, record));
    return 0;
}

/* The record under digest. MDB_NOTFOUND: none; MDB_CORRUPTED: one that cannot be read. name borrows from the page: gone with the next change. */
static int find_record(const struct rows *rows, MDB_txn *txn, const uint8_t digest[32], struct entry_record *ret)
{
    MDB_val k = val_of(digest, ENTRY_DIGEST_BYTES), v;
    int r = mdb_get(txn, rows->index, &k, &v);
    if (r != 0)
        return r;
    return entry_parse((struct span){v.mv_data, v.mv_size}, ret) == ENTRY_OK ? 0 : MDB_CORRUPTED;
}

int rows_delete(const struct rows *rows, MDB_txn *txn, const uint8_t digest[32], struct rows_change *change, bool *ret_found)
{
    struct entry_record record;
    int r = find_record(rows, txn, digest, &record);

    *ret_found = r != MDB_NOTFOUND;
    if (r == MDB_NOTFOUND)
        return 0;
    if (r == MDB_CORRUPTED) /* its chunks go when they are the oldest */
        return delete_quietly(txn, rows->index, digest, ENTRY_DIGEST_BYTES);
    if (r != 0)
        return r;
    return delete_record(rows, txn, digest, &record, change);
}

/* Deletes the entry whose chunk 0, under seq, is `chunk`. *ret_found: there was one, and it is gone. */
static int evict(const struct rows *rows, MDB_txn *txn, uint64_t seq, const MDB_val *chunk, int64_t now_ms,
                 struct rows_change *change, bool *ret_found)
{
    uint8_t digest[ENTRY_DIGEST_BYTES];
    struct entry_record record;
    int r;

    *ret_found = false;
    if (chunk->mv_size < sizeof(digest))
        return 0;
    memcpy(digest, chunk->mv_data, sizeof(digest));
    r = find_record(rows, txn, digest, &record);
    if (r == MDB_NOTFOUND || r == MDB_CORRUPTED || (r == 0 && record.seq != seq))
        return 0;
    if (r != 0 || (r = delete_record(rows, txn, digest, &record, change)) != 0)
        return r;
    if (record.expires_at_ms <= now_ms)
        ++change->evicted_dead;
    else
        ++change->evicted_live;
    *ret_found = true;
    return 0;
}

/* Every body row of seq, whether or not a record speaks of it. */
static int delete_chunks_at_front(const struct rows *rows, MDB_cursor *cursor, uint64_t seq)
{
    MDB_val k, v;
    int r;

    while ((r = mdb_cursor_get(cursor, &k, &v, MDB_FIRST)) == 0) {
        if (k.mv_size >= 8 && rows_load_be64(k.mv_data) != seq)
            return 0;
        if ((r = delete_chunk(rows, cursor, &v)) != 0)
            return r;
    }
    return r == MDB_NOTFOUND ? 0 : r;
}

int rows_delete_oldest(const struct rows *rows, MDB_txn *txn, int64_t now_ms, struct rows_change *change)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int r = mdb_cursor_open(txn, rows->body, &cursor);

    if (r != 0)
        return r;
    if ((r = mdb_cursor_get(cursor, &k, &v, MDB_FIRST)) != 0)
        goto out;
    if (k.mv_size != 12) {
        r = delete_chunk(rows, cursor, &v);
        goto out;
    }
    uint64_t seq = rows_load_be64(k.mv_data);
    bool found;
    if (memcmp((const char *)k.mv_data + 8, "\0\0\0\0", 4) == 0 && (r = evict(rows, txn, seq, &v, now_ms, change, &found)) != 0)
        goto out;
    r = delete_chunks_at_front(rows, cursor, seq);
out:
    mdb_cursor_close(cursor);
    return r;
}

int rows_delete_of_owner(const struct rows *rows, MDB_txn *txn, uint64_t owner, int64_t now_ms, uint64_t *hand, unsigned *steps,
                         struct rows_change *change, bool *ret_found)
{
    MDB_cursor *cursor;
    int r = mdb_cursor_open(txn, rows->body, &cursor);

    if (r != 0)
        return r;
    *ret_found = false;
    for (; *steps > 0 && !*ret_found; ++*hand, --*steps) {
        uint8_t key[12];
        MDB_val k = val_of(key, sizeof(key)), v;
        rows_body_key(*hand, 0, key);
        if ((r = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE)) != 0)
            break;
        if (k.mv_size != sizeof(key)) { /* goes when it is the oldest; it is stepped over by nobody */
            r = MDB_NOTFOUND;
            break;
        }
        *hand = rows_load_be64(k.mv_data);
        if (memcmp((const char *)k.mv_data + 8, "\0\0\0\0", 4) != 0 || rows_owner_of(&v) != owner)
            continue;
        if ((r = evict(rows, txn, *hand, &v, now_ms, change, ret_found)) == 0 && !*ret_found) {
            r = delete_chunks(rows, txn, *hand, UINT32_MAX);
            *ret_found = true;
        }
        if (r != 0)
            break;
    }
    mdb_cursor_close(cursor);
    return r;
}

int rows_delete_expired(const struct rows *rows, MDB_txn *txn, int64_t now_ms, struct rows_change *change)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int r = mdb_cursor_open(txn, rows->expiry, &cursor);

    if (r != 0)
        return r;
    if ((r = mdb_cursor_get(cursor, &k, &v, MDB_FIRST)) != 0)
        goto out;
    if (k.mv_size != 16 || v.mv_size != ENTRY_DIGEST_BYTES) {
        r = mdb_cursor_del(cursor, 0);
        goto out;
    }
    if (rows_load_be64(k.mv_data) >= second_of(now_ms)) {
        r = MDB_NOTFOUND;
        goto out;
    }
    uint64_t seq = rows_load_be64((const uint8_t *)k.mv_data + 8);
    uint8_t digest[ENTRY_DIGEST_BYTES];
    struct entry_record record;
    memcpy(digest, v.mv_data, sizeof(digest));
    if ((r = mdb_cursor_del(cursor, 0)) != 0)
        goto out;
    r = find_record(rows, txn, digest, &record);
    if (r == 0 && record.seq == seq) {
        if ((r = delete_record(rows, txn, digest, &record, change)) == 0)
            ++change->swept;
    } else if (r == MDB_NOTFOUND || r == MDB_CORRUPTED) {
        r = 0;
    }
out:
    mdb_cursor_close(cursor);
    return r;
}

/* ---- what was purged ---- */

/* Moves cursor to the row at place, or, is_first being false, to the row behind the one that it is at; and place to that row. */
static int place_move(MDB_cursor *cursor, bool is_first, struct rows_place *place, MDB_val *ret_v)
{
    MDB_val k = val_of(place->digest, sizeof(place->digest));
    int r = mdb_cursor_get(cursor, &k, ret_v, !is_first ? MDB_NEXT : place->is_begun ? MDB_SET_RANGE : MDB_FIRST);

    if (r == 0 && k.mv_size != sizeof(place->digest))
        r = MDB_NOTFOUND;
    if (r != 0)
        return r;
    memcpy(place->digest, k.mv_data, sizeof(place->digest));
    place->is_begun = true;
    return 0;
}

/* The result that a row of the index speaks of; false when it is none. */
static bool row_is_result(const MDB_val *v, struct entry_record *ret)
{
    return entry_parse((struct span){v->mv_data, v->mv_size}, ret) == ENTRY_OK && ret->method != CP_METHOD_INITIALIZE;
}

static enum store_validity validity_of(const struct rows *rows, const struct entry_record *record)
{
    return generations_validity(rows->generations, record->generation, record->subjects, record->subject_count);
}

int rows_delete_purged(const struct rows *rows, MDB_txn *txn, struct rows_place *place, unsigned *steps, struct rows_change *change)
{
    struct entry_record record;
    MDB_cursor *cursor;
    MDB_val v;
    bool found = false;
    int r = mdb_cursor_open(txn, rows->index, &cursor);

    if (r != 0)
        return r;
    for (r = place_move(cursor, true, place, &v); r == 0 && *steps > 0; r = place_move(cursor, false, place, &v)) {
        --*steps;
        if ((found = row_is_result(&v, &record) && validity_of(rows, &record) == STORE_PURGED))
            break;
    }
    mdb_cursor_close(cursor);
    if (r != 0 || !found)
        return r;
    if ((r = delete_record(rows, txn, place->digest, &record, change)) == 0)
        ++change->reclaimed;
    return r;
}

static bool has_subject(const struct entry_record *record, uint64_t subject)
{
    size_t i = 0;

    while (i < record->subject_count && record->subjects[i] != subject)
        ++i;
    return i < record->subject_count || subject == STORE_SUBJECT_ALL;
}

static bool is_raised_with(const struct entry_record *record, uint64_t subject)
{
    size_t i = 0;

    while (i < record->subject_count && !generations_is_one(record->subjects[i], subject))
        ++i;
    return i < record->subject_count || subject == STORE_SUBJECT_ALL;
}

static bool is_wanted(const struct rows *rows, const struct entry_record *record, const struct rows_wanted *wanted)
{
    size_t i = 0, n = wanted->subject_count;

    if (record->seq < wanted->seq_min || record->seq > wanted->seq_max || record->generation > wanted->generation_max)
        return false;
    if (wanted->is_any) {
        while (i < n && !is_raised_with(record, wanted->subjects[i]))
            ++i;
        if (i == n)
            return false;
    } else {
        while (i < n && has_subject(record, wanted->subjects[i]))
            ++i;
        if (i < n)
            return false;
    }
    return validity_of(rows, record) <= wanted->validity_max;
}

int rows_count(const struct rows *rows, MDB_txn *txn, struct rows_place *place, unsigned steps, const struct rows_wanted *wanted,
               uint64_t *entries, uint64_t *bytes)
{
    MDB_cursor *cursor;
    MDB_val v;
    int r = mdb_cursor_open(txn, rows->index, &cursor);

    if (r != 0)
        return r;
    for (r = place_move(cursor, true, place, &v); r == 0 && steps > 0; r = place_move(cursor, false, place, &v), --steps) {
        struct entry_record record;
        if (!row_is_result(&v, &record) || !is_wanted(rows, &record, wanted))
            continue;
        ++*entries;
        *bytes += record.body_bytes;
    }
    mdb_cursor_close(cursor);
    return r;
}

/* ---- putting ---- */

static int put_chunks(const struct rows *rows, MDB_txn *txn, const uint8_t head_bytes[ENTRY_HEAD_BYTES], struct span body,
                      uint64_t seq)
{
    uint64_t chunks = entry_chunks(body.n);
    size_t at = 0;
    MDB_cursor *cursor = NULL;
    int r = mdb_cursor_open(txn, rows->body, &cursor);

    for (uint64_t chunk = 0; r == 0 && chunk < chunks; ++chunk) {
        uint8_t key[12];
        size_t head = chunk == 0 ? ENTRY_HEAD_BYTES : 0;
        MDB_val k = val_of(key, sizeof(key)), v = val_of(NULL, entry_chunk_bytes(body.n, chunk));
        size_t piece = v.mv_size - head;

        rows_body_key(seq, (uint32_t)chunk, key);
        /* MDB_RESERVE: the bytes go straight into the page. */
        if ((r = mdb_cursor_put(cursor, &k, &v, MDB_APPEND | MDB_RESERVE)) != 0)
            break;
        if (head > 0)
            memcpy(v.mv_data, head_bytes, head);
        if (piece > 0)
            memcpy((char *)v.mv_data + head, body.p + at, piece);
        at += piece;
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    return r;
}

int rows_put(const struct rows *rows, MDB_txn *txn, const struct cp_key *key, struct entry_record *record, struct span body,
             uint64_t seq, struct rows_change *change)
{
    uint8_t expiry_key[16], head[ENTRY_HEAD_BYTES];
    char bytes[ENTRY_RECORD_MAX];
    bool found;
    int r = rows_delete(rows, txn, key->digest, change, &found);

    if (r != 0)
        return r;
    record->seq = seq;
    record->body_bytes = body.n;
    record->body_sum = XXH3_64bits(body.p, body.n);
    memcpy(record->check, key->check, sizeof(record->check));
    memcpy(head, key->digest, ENTRY_DIGEST_BYTES);
    rows_store_be64(head + ENTRY_DIGEST_BYTES, record->owner);
    if ((r = put_chunks(rows, txn, head, body, seq)) != 0)
        return r;

    MDB_val k = val_of(key->digest, ENTRY_DIGEST_BYTES), v = val_of(bytes, entry_format(record, bytes));
    if ((r = mdb_put(txn, rows->index, &k, &v, 0)) != 0)
        return r;
    rows_expiry_key(record->expires_at_ms, seq, expiry_key);
    k = val_of(expiry_key, sizeof(expiry_key));
    v = val_of(key->digest, ENTRY_DIGEST_BYTES);
    if ((r = mdb_put(txn, rows->expiry, &k, &v, 0)) != 0)
        return r;

    if (rows->owners != NULL)
        owners_tell_put(rows->owners, record->owner, seq, weight_of(rows, record));
    if (record->generation > change->generation)
        change->generation = record->generation;
    ++change->put;
    change->overwritten += found;
    change->body_bytes += (int64_t)body.n;
    return 0;
}

/* ---- looking ---- */

int rows_pages(const struct rows *rows, MDB_txn *txn, uint64_t *ret_pages, uint64_t *ret_entries)
{
    const MDB_dbi free_list = 0; /* LMDB's own numbering: 0 is the free list, 1 the root of names */
    MDB_dbi dbis[] = {rows->index, rows->body, rows->expiry, rows->meta, free_list, 1};
    uint64_t pages = 2, entries = 0;

    for (size_t i = 0; i < sizeof(dbis) / sizeof(dbis[0]); ++i) {
        MDB_stat stat;
        int r = mdb_stat(txn, dbis[i], &stat);
        if (r != 0)
            return r;
        pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
        if (i == 0)
            entries = stat.ms_entries;
    }
    *ret_pages = pages;
    *ret_entries = entries;
    return 0;
}

int rows_next_seq(const struct rows *rows, MDB_txn *txn, uint64_t *ret)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int r = mdb_cursor_open(txn, rows->body, &cursor);

    if (r != 0)
        return r;
    r = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
    mdb_cursor_close(cursor);
    if (r == MDB_NOTFOUND) {
        *ret = 1;
        return 0;
    }
    if (r != 0)
        return r;
    if (k.mv_size != 12 || rows_load_be64(k.mv_data) >= UINT64_MAX / 2)
        return MDB_CORRUPTED;
    *ret = rows_load_be64(k.mv_data) + 1;
    return 0;
}

uint64_t rows_pages_of(uint64_t body_bytes, uint32_t page_bytes)
{
    uint64_t chunks = entry_chunks(body_bytes), limit = inline_max(page_bytes);
    size_t last = entry_chunk_bytes(body_bytes, chunks - 1);
    /* Index leaf, expiry leaf, body leaf, and what splits above them. */
    uint64_t pages = 4 + chunks / 64;

    if (ENTRY_CHUNK_BYTES + NODE_OVERHEAD > limit)
        pages += chunks - 1;
    else
        pages += (chunks - 1) * ENTRY_CHUNK_BYTES / page_bytes + 1;
    return pages + (last + NODE_OVERHEAD > limit);
}
