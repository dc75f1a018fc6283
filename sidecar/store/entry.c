/* SPDX-License-Identifier: Apache-2.0 */
/* Index records <-> msgpack bytes. Not here: where they lie (rows.c), what their numbers mean to a request (the policy).
 * Always: nothing read from a record is used before its sum, its type and its range were looked at; no byte of it chooses a size to allocate,
 * because nothing is allocated.
 * Thread: pure, any. */
#include "entry.h"

#include <stdalign.h>

#include <msgpack.h>
#include <xxhash.h>

#define METHOD_ROW(name, text) METHOD_ROW_##name,
enum { CP_METHODS(METHOD_ROW) METHODS };
enum { SUM_BYTES = 8 };

/* ---- writing ---- */

struct sink {
    char *p;
    size_t n;
};

static int sink_write(void *data, const char *bytes, size_t n)
{
    struct sink *sink = data;
    if (n > (size_t)(ENTRY_RECORD_MAX - SUM_BYTES) - sink->n)
        return -1; /* cannot be: the longest record is some 980 bytes */
    memcpy(sink->p + sink->n, bytes, n);
    sink->n += n;
    return 0;
}

uint64_t entry_sum(struct span bytes)
{
    return XXH3_64bits(bytes.p, bytes.n);
}

static void store_be64(char *p, uint64_t value)
{
    for (int i = 7; i >= 0; --i, value >>= 8)
        p[i] = (char)(value & 0xff);
}

static uint64_t load_be64(const char *p)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i)
        value = value << 8 | (uint8_t)p[i];
    return value;
}

size_t entry_format(const struct entry_record *record, char ret[ENTRY_RECORD_MAX])
{
    struct sink sink = {ret, 0};
    size_t name_bytes = record->name.n < ENTRY_NAME_MAX ? record->name.n : (size_t)ENTRY_NAME_MAX;
    size_t subject_count = record->subject_count < ENTRY_SUBJECTS_MAX ? record->subject_count : (size_t)ENTRY_SUBJECTS_MAX;
    char subjects[8 * ENTRY_SUBJECTS_MAX];
    msgpack_packer packer;

    for (size_t i = 0; i < subject_count; ++i)
        store_be64(subjects + 8 * i, record->subjects[i]);
    msgpack_packer_init(&packer, &sink, sink_write);
    msgpack_pack_array(&packer, ENTRY_FIELDS);
    msgpack_pack_uint32(&packer, ENTRY_VERSION);
    msgpack_pack_uint64(&packer, record->seq);
    msgpack_pack_uint64(&packer, record->body_bytes);
    msgpack_pack_uint64(&packer, entry_chunks(record->body_bytes));
    msgpack_pack_uint64(&packer, record->body_sum);
    msgpack_pack_bin(&packer, sizeof(record->check));
    msgpack_pack_bin_body(&packer, record->check, sizeof(record->check));
    msgpack_pack_uint64(&packer, record->owner);
    msgpack_pack_int64(&packer, record->began_ms);
    msgpack_pack_int64(&packer, record->stored_at_ms);
    msgpack_pack_int64(&packer, record->expires_at_ms);
    if (record->has_hint)
        msgpack_pack_int64(&packer, record->hint_ttl_ms);
    else
        msgpack_pack_nil(&packer);
    msgpack_pack_uint32(&packer, record->ttl_start);
    msgpack_pack_uint32(&packer, record->ttl_end);
    msgpack_pack_uint8(&packer, record->scope);
    msgpack_pack_uint8(&packer, record->method);
    msgpack_pack_uint32(&packer, record->cost_ms);
    msgpack_pack_uint8(&packer, record->is_negative);
    msgpack_pack_uint64(&packer, record->generation);
    msgpack_pack_bin(&packer, 8 * subject_count);
    if (subject_count > 0)
        msgpack_pack_bin_body(&packer, subjects, 8 * subject_count);
    msgpack_pack_bin(&packer, name_bytes);
    if (name_bytes > 0)
        msgpack_pack_bin_body(&packer, record->name.p, name_bytes);

    store_be64(ret + sink.n, entry_sum((struct span){ret, sink.n}));
    return sink.n + SUM_BYTES;
}

/* ---- reading ---- */

/* Length of the scalar that begins p, or 0 when it is none of those that entry_format writes (or would write for other values) or does not end
 * within n. Containers and extensions are refused here, before msgpack-c sees them: it allocates by the count that they claim. */
static size_t scalar_bytes(const char *p, size_t n)
{
    uint8_t first = (uint8_t)p[0];
    size_t bytes = 0;

    if (first <= 0x7f || first >= 0xe0 || first == 0xc0) /* small number, nil */
        bytes = 1;
    else if (first >= 0xcc && first <= 0xcf) /* uint8 to uint64 */
        bytes = 1 + ((size_t)1 << (first - 0xcc));
    else if (first >= 0xd0 && first <= 0xd3) /* int8 to int64 */
        bytes = 1 + ((size_t)1 << (first - 0xd0));
    else if (first == 0xc4 && n >= 2) /* bin */
        bytes = 2 + (size_t)(uint8_t)p[1];
    else if (first == 0xc5 && n >= 3)
        bytes = 3 + ((size_t)(uint8_t)p[1] << 8 | (uint8_t)p[2]);
    return bytes <= n ? bytes : 0;
}

/* The first field of any version is a small number; it stands behind the array's head of one byte or three. -1: no array. */
static int version_of(struct span bytes)
{
    if (bytes.n > 1 && ((uint8_t)bytes.p[0] & 0xf0) == 0x90)
        return (uint8_t)bytes.p[1];
    return bytes.n > 3 && (uint8_t)bytes.p[0] == 0xdc ? (uint8_t)bytes.p[3] : -1;
}

/* Whether bytes are an array of exactly ENTRY_FIELDS scalars. */
static bool is_flat(struct span bytes)
{
    size_t at = 3;

    if (bytes.n < 3 || memcmp(bytes.p, (char[]){'\xdc', ENTRY_FIELDS >> 8, ENTRY_FIELDS & 0xff}, 3) != 0)
        return false;
    for (int i = 0; i < ENTRY_FIELDS; ++i) {
        size_t n = at < bytes.n ? scalar_bytes(bytes.p + at, bytes.n - at) : 0;
        if (n == 0)
            return false;
        at += n;
    }
    return at == bytes.n;
}

/* The fields one after the other. Once not ok it stays so, and every field after it reads as 0. */
struct walk {
    const msgpack_object *field;
    bool ok;
};

static uint64_t next_unsigned(struct walk *walk, uint64_t max)
{
    const msgpack_object *field = walk->field++;
    if (field->type != MSGPACK_OBJECT_POSITIVE_INTEGER || field->via.u64 > max) {
        walk->ok = false;
        return 0;
    }
    return field->via.u64;
}

/* Any int64. With ret_nil, nil is allowed too: *ret_nil says so. */
static int64_t next_signed(struct walk *walk, bool *ret_nil)
{
    const msgpack_object *field = walk->field++;
    if (field->type == MSGPACK_OBJECT_POSITIVE_INTEGER && field->via.u64 <= INT64_MAX)
        return (int64_t)field->via.u64;
    if (field->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        return field->via.i64;
    if (field->type == MSGPACK_OBJECT_NIL && ret_nil != NULL) {
        *ret_nil = true;
        return 0;
    }
    walk->ok = false;
    return 0;
}

static struct span next_bytes(struct walk *walk, size_t max)
{
    const msgpack_object *field = walk->field++;
    if (field->type != MSGPACK_OBJECT_BIN || field->via.bin.size > max) {
        walk->ok = false;
        return SPAN_ABSENT;
    }
    return (struct span){field->via.bin.ptr, field->via.bin.size};
}

enum entry_parsed entry_parse(struct span bytes, struct entry_record *ret)
{
    if (bytes.n < 2 + SUM_BYTES || bytes.n > ENTRY_RECORD_MAX)
        return ENTRY_DAMAGED;
    struct span fields = {bytes.p, bytes.n - SUM_BYTES};
    if (entry_sum(fields) != load_be64(fields.p + fields.n))
        return ENTRY_DAMAGED;
    int version = version_of(fields);
    if (version >= 0 && version != ENTRY_VERSION)
        return ENTRY_UNKNOWN;
    if (!is_flat(fields))
        return ENTRY_DAMAGED;

    /* msgpack-c takes memory for the array from the zone and nothing else, since there is only this one array: so the zone needs no heap. */
    alignas(max_align_t) char memory[(ENTRY_FIELDS + 1) * sizeof(msgpack_object)];
    msgpack_zone zone = {.chunk_list = {.free = sizeof(memory), .ptr = memory}};
    msgpack_object object;
    size_t at = 0;
    if (msgpack_unpack(fields.p, fields.n, &at, &zone, &object) != MSGPACK_UNPACK_SUCCESS || object.type != MSGPACK_OBJECT_ARRAY ||
        object.via.array.size != ENTRY_FIELDS)
        return ENTRY_DAMAGED;

    struct walk walk = {.field = object.via.array.ptr + 1, .ok = true};
    struct entry_record record = {0};
    bool no_hint = false;
    record.seq = next_unsigned(&walk, UINT64_MAX - 1);
    record.body_bytes = next_unsigned(&walk, INT64_MAX);
    uint64_t chunks = next_unsigned(&walk, UINT32_MAX);
    record.body_sum = next_unsigned(&walk, UINT64_MAX);
    struct span check = next_bytes(&walk, sizeof(record.check));
    record.owner = next_unsigned(&walk, UINT64_MAX);
    record.began_ms = next_signed(&walk, NULL);
    record.stored_at_ms = next_signed(&walk, NULL);
    record.expires_at_ms = next_signed(&walk, NULL);
    record.hint_ttl_ms = next_signed(&walk, &no_hint);
    record.has_hint = !no_hint;
    record.ttl_start = (uint32_t)next_unsigned(&walk, UINT32_MAX);
    record.ttl_end = (uint32_t)next_unsigned(&walk, UINT32_MAX);
    record.scope = (uint8_t)next_unsigned(&walk, CP_SCOPE_PUBLIC);
    record.method = (uint8_t)next_unsigned(&walk, METHODS - 1);
    record.cost_ms = (uint32_t)next_unsigned(&walk, UINT32_MAX);
    record.is_negative = next_unsigned(&walk, 1) == 1;
    record.generation = next_unsigned(&walk, INT64_MAX);
    struct span subjects = next_bytes(&walk, 8 * ENTRY_SUBJECTS_MAX);
    record.name = next_bytes(&walk, ENTRY_NAME_MAX);
    if (!walk.ok || check.n != sizeof(record.check) || chunks != entry_chunks(record.body_bytes) ||
        record.began_ms > record.stored_at_ms || record.ttl_start > record.ttl_end || record.ttl_end > record.body_bytes ||
        subjects.n % 8 != 0)
        return ENTRY_DAMAGED;
    memcpy(record.check, check.p, sizeof(record.check));
    record.subject_count = (uint8_t)(subjects.n / 8);
    for (size_t i = 0; i < record.subject_count; ++i)
        record.subjects[i] = load_be64(subjects.p + 8 * i);
    *ret = record;
    return ENTRY_OK;
}
