/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of one entry inside a transaction of the caller's: put, delete, delete the oldest, delete the expired.
 * Not here: transactions, pages to keep free (sweeper.c, writer.c), reading for a request (local.c).
 * Always: a row that does not read as what it should be is deleted or stepped over, never believed; deletions start again from the first
 * row of a dbi instead of walking a cursor over rows that are going. */
#include "rows.h"

#include <xxhash.h>

/* A value lies in the leaf page only while two such nodes fit into one: (4096 - 16) / 2 less the node's own 8 and a key of 12. */
enum { NODE_OVERHEAD = 8 + 12, INLINE_MAX_OF_4096 = 2038 };

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

int rows_open(MDB_txn *txn, struct rows *ret)
{
    struct rows rows;
    int r;

    if ((r = mdb_dbi_open(txn, "index", MDB_CREATE, &rows.index)) != 0 ||
        (r = mdb_dbi_open(txn, "body", MDB_CREATE, &rows.body)) != 0 ||
        (r = mdb_dbi_open(txn, "expiry", MDB_CREATE, &rows.expiry)) != 0 ||
        (r = mdb_dbi_open(txn, "meta", MDB_CREATE, &rows.meta)) != 0)
        return r;
    *ret = rows;
    return 0;
}

/* ---- deleting ---- */

static int delete_quietly(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_bytes)
{
    MDB_val k = val_of(key, key_bytes);
    int r = mdb_del(txn, dbi, &k, NULL);
    return r == MDB_NOTFOUND ? 0 : r;
}

/* Index row, expiry row and chunks of a record that was read under digest. */
static int delete_record(const struct rows *rows, MDB_txn *txn, const uint8_t digest[32], const struct entry_record *record,
                         struct rows_change *change)
{
    uint8_t expiry_key[16], body_key[12];
    uint64_t chunks = entry_chunks(record->body_bytes);
    int r;

    rows_expiry_key(record->expires_at_ms, record->seq, expiry_key);
    if ((r = delete_quietly(txn, rows->expiry, expiry_key, sizeof(expiry_key))) != 0)
        return r;
    for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
        MDB_val k = val_of(body_key, sizeof(body_key));
        rows_body_key(record->seq, (uint32_t)chunk, body_key);
        r = mdb_del(txn, rows->body, &k, NULL);
        if (r == MDB_NOTFOUND)
            break; /* pieces behind a gap go when they are the oldest */
        if (r != 0)
            return r;
    }
    if ((r = delete_quietly(txn, rows->index, digest, ENTRY_DIGEST_BYTES)) != 0)
        return r;
    change->body_bytes -= (int64_t)record->body_bytes;
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

/* Every body row of seq, whether or not a record speaks of it. */
static int delete_chunks_at_front(MDB_cursor *cursor, uint64_t seq)
{
    MDB_val k, v;
    int r;

    while ((r = mdb_cursor_get(cursor, &k, &v, MDB_FIRST)) == 0) {
        if (k.mv_size >= 8 && rows_load_be64(k.mv_data) != seq)
            return 0;
        if ((r = mdb_cursor_del(cursor, 0)) != 0)
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
        r = mdb_cursor_del(cursor, 0);
        goto out;
    }
    uint64_t seq = rows_load_be64(k.mv_data);
    if (memcmp((const char *)k.mv_data + 8, "\0\0\0\0", 4) == 0 && v.mv_size >= ENTRY_DIGEST_BYTES) {
        uint8_t digest[ENTRY_DIGEST_BYTES];
        struct entry_record record;
        memcpy(digest, v.mv_data, sizeof(digest));
        r = find_record(rows, txn, digest, &record);
        if (r == 0 && record.seq == seq) {
            if ((r = delete_record(rows, txn, digest, &record, change)) != 0)
                goto out;
            if (record.expires_at_ms <= now_ms)
                ++change->evicted_dead;
            else
                ++change->evicted_live;
        } else if (r != 0 && r != MDB_NOTFOUND && r != MDB_CORRUPTED) {
            goto out;
        }
    }
    r = delete_chunks_at_front(cursor, seq);
out:
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

/* ---- putting ---- */

static int put_chunks(const struct rows *rows, MDB_txn *txn, const uint8_t digest[32], struct span body, uint64_t seq)
{
    uint64_t chunks = entry_chunks(body.n);
    size_t at = 0;
    MDB_cursor *cursor = NULL;
    int r = mdb_cursor_open(txn, rows->body, &cursor);

    for (uint64_t chunk = 0; r == 0 && chunk < chunks; ++chunk) {
        uint8_t key[12];
        size_t head = chunk == 0 ? ENTRY_DIGEST_BYTES : 0;
        MDB_val k = val_of(key, sizeof(key)), v = val_of(NULL, entry_chunk_bytes(body.n, chunk));
        size_t piece = v.mv_size - head;

        rows_body_key(seq, (uint32_t)chunk, key);
        /* MDB_RESERVE: the bytes go straight into the page. */
        if ((r = mdb_cursor_put(cursor, &k, &v, MDB_APPEND | MDB_RESERVE)) != 0)
            break;
        if (head > 0)
            memcpy(v.mv_data, digest, head);
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
    uint8_t expiry_key[16];
    char bytes[ENTRY_RECORD_MAX];
    bool found;
    int r = rows_delete(rows, txn, key->digest, change, &found);

    if (r != 0)
        return r;
    record->seq = seq;
    record->body_bytes = body.n;
    record->body_sum = XXH3_64bits(body.p, body.n);
    memcpy(record->check, key->check, sizeof(record->check));
    if ((r = put_chunks(rows, txn, key->digest, body, seq)) != 0)
        return r;

    MDB_val k = val_of(key->digest, ENTRY_DIGEST_BYTES), v = val_of(bytes, entry_format(record, bytes));
    if ((r = mdb_put(txn, rows->index, &k, &v, 0)) != 0)
        return r;
    rows_expiry_key(record->expires_at_ms, seq, expiry_key);
    k = val_of(expiry_key, sizeof(expiry_key));
    v = val_of(key->digest, ENTRY_DIGEST_BYTES);
    if ((r = mdb_put(txn, rows->expiry, &k, &v, 0)) != 0)
        return r;

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
    uint64_t chunks = entry_chunks(body_bytes), inline_max = (uint64_t)INLINE_MAX_OF_4096 * page_bytes / 4096;
    size_t last = entry_chunk_bytes(body_bytes, chunks - 1);
    /* Index leaf, expiry leaf, body leaf, and what splits above them. */
    uint64_t pages = 4 + chunks / 64;

    if (ENTRY_CHUNK_BYTES + NODE_OVERHEAD > inline_max)
        pages += chunks - 1;
    else
        pages += (chunks - 1) * ENTRY_CHUNK_BYTES / page_bytes + 1;
    return pages + (last + NODE_OVERHEAD > inline_max);
}
