/* SPDX-License-Identifier: Apache-2.0 */
/* A look at the whole store for tests: does every row have its place, do the counters agree. Nothing is repaired.
 * Thread: any, with a read transaction of its own. */
#include "check.h"

#include <stdlib.h>

#include <xxhash.h>

#include "inside.h"

struct findings {
    uint64_t count;
    struct cp_error *reterr;
};

static void found(struct findings *findings, const char *what, uint64_t seq)
{
    if (findings->count++ == 0)
        cp_error_set(findings->reterr, "", 0, 0, "%s (seq %llu)", what, (unsigned long long)seq);
}

/* Chunks and expiry row of one record. */
static void check_record(struct findings *findings, const struct rows *rows, MDB_txn *txn, const MDB_val *digest,
                         const struct entry_record *record)
{
    uint64_t chunks = entry_chunks(record->body_bytes);
    uint8_t key[16];
    MDB_val k = {16, key}, v;
    XXH3_state_t *sum = XXH3_createState();

    rows_expiry_key(record->expires_at_ms, record->seq, key);
    if (mdb_get(txn, rows->expiry, &k, &v) != 0 || v.mv_size != digest->mv_size ||
        memcmp(v.mv_data, digest->mv_data, v.mv_size) != 0)
        found(findings, "an entry without its expiry row", record->seq);
    XXH3_64bits_reset(sum);
    for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
        size_t head = chunk == 0 ? ENTRY_HEAD_BYTES : 0;
        k.mv_size = 12;
        rows_body_key(record->seq, (uint32_t)chunk, key);
        if (mdb_get(txn, rows->body, &k, &v) != 0 || v.mv_size != entry_chunk_bytes(record->body_bytes, chunk) ||
            (head > 0 && (memcmp(v.mv_data, digest->mv_data, ENTRY_DIGEST_BYTES) != 0 || rows_owner_of(&v) != record->owner))) {
            found(findings, "an entry without one of its chunks", record->seq);
            break;
        }
        XXH3_64bits_update(sum, (const char *)v.mv_data + head, v.mv_size - head);
    }
    if (XXH3_64bits_digest(sum) != record->body_sum)
        found(findings, "a body that is not the one that was put", record->seq);
    XXH3_freeState(sum);
}

/* What an owner's entries weigh, for the comparison with his account. */
struct holding {
    uint64_t owner, bytes;
};

static int compare_holdings(const void *a, const void *b)
{
    const struct holding *one = a, *other = b;
    return one->owner < other->owner ? -1 : one->owner > other->owner;
}

/* holdings: one for each owned entry; are put in order. */
static void check_owners(struct findings *findings, const struct owners *owners, struct holding *holdings, size_t n)
{
    size_t accounts = 0;

    qsort(holdings, n, sizeof(*holdings), compare_holdings);
    for (size_t i = 0; i < n; ++accounts) {
        uint64_t owner = holdings[i].owner, bytes = 0;
        for (; i < n && holdings[i].owner == owner; ++i)
            bytes += holdings[i].bytes;
        if (owners_bytes(owners, owner) != bytes)
            found(findings, "an owner's account that is wrong", owner);
    }
    if (owners_accounts(owners) != accounts)
        found(findings, "accounts of owners who have nothing", accounts);
}

static void check_index(struct findings *findings, struct local *local, MDB_txn *txn)
{
    uint64_t entries = 0, chunks = 0, body_bytes = 0;
    struct holding *holdings = calloc(atomic_load(&local->entries) + 1, sizeof(*holdings));
    size_t owned = 0;
    MDB_cursor *cursor;
    MDB_stat stat;
    MDB_val k, v;

    if (mdb_cursor_open(txn, local->rows.index, &cursor) != 0) {
        found(findings, "an index that cannot be read", 0);
        free(holdings);
        return;
    }
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        struct entry_record record;
        ++entries;
        if (k.mv_size != ENTRY_DIGEST_BYTES || entry_parse((struct span){v.mv_data, v.mv_size}, &record) != ENTRY_OK) {
            found(findings, "an index row that cannot be read", 0);
            continue;
        }
        chunks += entry_chunks(record.body_bytes);
        body_bytes += record.body_bytes;
        check_record(findings, &local->rows, txn, &k, &record);
        if (record.owner != 0 && owned < atomic_load(&local->entries))
            holdings[owned++] = (struct holding){record.owner, rows_weight(&record, local->page_bytes)};
    }
    mdb_cursor_close(cursor);
    if (local->owners != NULL)
        check_owners(findings, local->owners, holdings, owned);
    free(holdings);

    /* Each entry has its own rows, so more rows than these belong to nobody. */
    if (mdb_stat(txn, local->rows.body, &stat) != 0 || stat.ms_entries != chunks)
        found(findings, "body rows of no entry", stat.ms_entries);
    if (mdb_stat(txn, local->rows.expiry, &stat) != 0 || stat.ms_entries != entries)
        found(findings, "expiry rows of no entry", stat.ms_entries);
    if (atomic_load(&local->entries) != entries)
        found(findings, "a wrong count of entries", entries);
    if (atomic_load(&local->body_bytes) != body_bytes)
        found(findings, "a wrong count of body bytes", body_bytes);
}

uint64_t store_check(struct store *store, struct cp_error *reterr)
{
    struct findings findings = {.reterr = reterr};
    MDB_txn *txn;

    /* Takes what the writer would take at any moment, so that it does not do so now; and waits until the owners are counted. */
    store_sweep_at(store, store_now_ms(store));
    if (mdb_txn_begin(store->local.env, NULL, MDB_RDONLY, &txn) != 0) {
        found(&findings, "an environment that cannot be read", 0);
        return findings.count;
    }
    check_index(&findings, &store->local, txn);
    mdb_txn_abort(txn);
    return findings.count;
}
