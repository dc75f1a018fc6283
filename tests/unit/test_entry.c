/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "sidecar/store/entry.h"
#include "sidecar/store/rows.h"

static struct entry_record example(void)
{
    return (struct entry_record){
        .seq = 7,
        .body_bytes = 100,
        .body_sum = 0xfedcba9876543210,
        .check = {1, 2, 3, 255},
        .owner = 0x0123456789abcdef,
        .began_ms = 1699999999958,
        .stored_at_ms = 1700000000000,
        .expires_at_ms = 1700000060000,
        .has_hint = true,
        .hint_ttl_ms = 60000,
        .ttl_start = 20,
        .ttl_end = 25,
        .scope = CP_SCOPE_PUBLIC,
        .method = 3,
        .cost_ms = 42,
        .is_negative = true,
        .generation = 0x123456,
        .subject_count = 3,
        .subjects = {0xf00000000000000d, 2, 0x0102030405060708},
        .name = SPAN("get_balance"),
    };
}

static void assert_same(const struct entry_record *a, const struct entry_record *b)
{
    assert_true(a->seq == b->seq && a->body_bytes == b->body_bytes && a->body_sum == b->body_sum);
    assert_memory_equal(a->check, b->check, sizeof(a->check));
    assert_true(a->owner == b->owner && a->began_ms == b->began_ms);
    assert_true(a->stored_at_ms == b->stored_at_ms && a->expires_at_ms == b->expires_at_ms);
    assert_true(a->has_hint == b->has_hint && (!a->has_hint || a->hint_ttl_ms == b->hint_ttl_ms));
    assert_true(a->ttl_start == b->ttl_start && a->ttl_end == b->ttl_end);
    assert_true(a->scope == b->scope && a->method == b->method && a->cost_ms == b->cost_ms);
    assert_true(a->is_negative == b->is_negative && a->generation == b->generation && a->subject_count == b->subject_count);
    assert_memory_equal(a->subjects, b->subjects, a->subject_count * sizeof(a->subjects[0]));
    assert_true(span_eq(a->name, b->name));
}

/* Parses a copy that ends where the bytes end, so that the sanitizer sees a read beyond them. */
static enum entry_parsed parse(const char *p, size_t n, struct entry_record *ret)
{
    static struct span kept;
    free((char *)kept.p);
    kept = heap_span((struct span){p, n});
    return entry_parse(kept, ret);
}

/* Makes the sum right again behind n bytes of fields. */
static size_t resum(char *p, size_t n)
{
    rows_store_be64((uint8_t *)p + n, entry_sum((struct span){p, n}));
    return n + 8;
}

static void what_is_written_is_read(void **state)
{
    struct entry_record record = example(), seen;
    char bytes[ENTRY_RECORD_MAX];

    (void)state;
    assert_int_equal(parse(bytes, entry_format(&record, bytes), &seen), ENTRY_OK);
    assert_same(&record, &seen);

    record.has_hint = false;
    record.owner = 0;
    record.began_ms = record.stored_at_ms;
    record.name = SPAN("");
    record.body_bytes = 0;
    record.ttl_start = record.ttl_end = 0;
    record.is_negative = false;
    record.generation = 0;
    record.subject_count = 0;
    assert_int_equal(parse(bytes, entry_format(&record, bytes), &seen), ENTRY_OK);
    assert_same(&record, &seen);
}

static void extremes_survive_and_fit(void **state)
{
    static const char name[600] = {'n', '\0', '\xff'};
    struct entry_record record = example(), seen;
    char bytes[ENTRY_RECORD_MAX];

    (void)state;
    record.seq = UINT64_MAX - 1;
    record.body_bytes = UINT32_MAX;
    record.body_sum = UINT64_MAX;
    record.owner = UINT64_MAX;
    record.began_ms = record.stored_at_ms = INT64_MIN;
    record.expires_at_ms = INT64_MAX;
    record.hint_ttl_ms = INT64_MIN;
    record.ttl_start = record.ttl_end = UINT32_MAX;
    record.cost_ms = UINT32_MAX;
    record.generation = INT64_MAX;
    record.subject_count = ENTRY_SUBJECTS_MAX;
    for (size_t i = 0; i < ENTRY_SUBJECTS_MAX; ++i)
        record.subjects[i] = UINT64_MAX - i;
    record.name = (struct span){name, sizeof(name)};
    size_t n = entry_format(&record, bytes);
    assert_true(n <= ENTRY_RECORD_MAX);
    assert_int_equal(parse(bytes, n, &seen), ENTRY_OK);
    record.name.n = ENTRY_NAME_MAX;
    assert_same(&record, &seen);
}

static void every_flipped_bit_is_noticed(void **state)
{
    struct entry_record record = example(), seen;
    char bytes[ENTRY_RECORD_MAX];
    size_t n = entry_format(&record, bytes);

    (void)state;
    for (size_t bit = 0; bit < n * 8; ++bit) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(parse(bytes, n, &seen), ENTRY_DAMAGED);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t length = 0; length < n; ++length)
        assert_int_equal(parse(bytes, length, &seen), ENTRY_DAMAGED);
}

static void another_version_is_unknown(void **state)
{
    struct entry_record record = example(), seen;
    char bytes[ENTRY_RECORD_MAX];
    size_t n = entry_format(&record, bytes);

    (void)state;
    assert_int_equal(bytes[3], ENTRY_VERSION);
    bytes[3] = ENTRY_VERSION + 1;
    resum(bytes, n - 8);
    assert_int_equal(parse(bytes, n, &seen), ENTRY_UNKNOWN);
    bytes[1] = (char)0xff; /* a longer array than any of this version */
    resum(bytes, n - 8);
    assert_int_equal(parse(bytes, n, &seen), ENTRY_UNKNOWN);
    bytes[0] = (char)0x9f; /* the short head of the versions that had no more than 15 fields */
    bytes[1] = ENTRY_VERSION - 1;
    resum(bytes, n - 8);
    assert_int_equal(parse(bytes, n, &seen), ENTRY_UNKNOWN);
    bytes[1] = ENTRY_VERSION; /* and this version never has it */
    resum(bytes, n - 8);
    assert_int_equal(parse(bytes, n, &seen), ENTRY_DAMAGED);
}

/* With a right sum the bytes are somebody's who knows how to make it: each field must stand on its own. */
static void fields_of_another_type_are_refused(void **state)
{
    static const char *const strangers[] = {
        "\xdd\xff\xff\xff\xff", /* an array of 4 G */
        "\xdf\xff\xff\xff\xff", /* a map of 4 G */
        "\x91\x01",             /* an array of one */
        "\xc9\xff\xff\xff\xff\x01",
        "\xc6\xff\xff\xff\xff",
        "\xcb\x40\x09\x21\xfb\x54\x44\x2d\x18",
        "\xc1",
        "\xc2",
        "\xa1z",
        "\xff",
    };
    struct entry_record record = example(), seen;
    char whole[ENTRY_RECORD_MAX];
    size_t n = entry_format(&record, whole) - 8;

    (void)state;
    for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); ++i) {
        size_t stranger_bytes = strlen(strangers[i]);
        for (size_t at = 1; at < n; ++at) {
            char bytes[ENTRY_RECORD_MAX + 16];
            memcpy(bytes, whole, at);
            memcpy(bytes + at, strangers[i], stranger_bytes);
            memcpy(bytes + at + stranger_bytes, whole + at + 1, n - at - 1);
            /* Within a bin the bytes are anybody's; then it may be read, but as what it says. */
            if (parse(bytes, resum(bytes, n - 1 + stranger_bytes), &seen) == ENTRY_OK) {
                assert_true(seen.name.n <= ENTRY_NAME_MAX && seen.subject_count <= ENTRY_SUBJECTS_MAX);
                assert_true(seen.ttl_end <= seen.body_bytes && seen.ttl_start <= seen.ttl_end);
                assert_true(seen.scope <= CP_SCOPE_PUBLIC && seen.began_ms <= seen.stored_at_ms);
            }
        }
    }
}

static void fields_that_contradict_each_other_are_refused(void **state)
{
    struct entry_record record, seen;
    char bytes[ENTRY_RECORD_MAX];
    size_t n;

    (void)state;
    record = example();
    record.ttl_end = 101; /* behind the body */
    assert_int_equal(parse(bytes, entry_format(&record, bytes), &seen), ENTRY_DAMAGED);
    record = example();
    record.ttl_start = 26;
    assert_int_equal(parse(bytes, entry_format(&record, bytes), &seen), ENTRY_DAMAGED);
    record = example();
    record.began_ms = record.stored_at_ms + 1;
    assert_int_equal(parse(bytes, entry_format(&record, bytes), &seen), ENTRY_DAMAGED);
    record = example();
    record.scope = CP_SCOPE_PUBLIC + 1;
    assert_int_equal(parse(bytes, entry_format(&record, bytes), &seen), ENTRY_DAMAGED);
    record = example();
    record.method = 255;
    assert_int_equal(parse(bytes, entry_format(&record, bytes), &seen), ENTRY_DAMAGED);
    record = example();
    record.generation = (uint64_t)INT64_MAX + 1;
    assert_int_equal(parse(bytes, entry_format(&record, bytes), &seen), ENTRY_DAMAGED);

    record = example();
    n = entry_format(&record, bytes) - 8;
    bytes[n] = 1; /* one field more */
    assert_int_equal(parse(bytes, resum(bytes, n + 1), &seen), ENTRY_DAMAGED);
    n = entry_format(&record, bytes) - 8;
    assert_int_equal(bytes[6], 1); /* version, seq, bytes, then the count of chunks */
    bytes[6] = 2;
    assert_int_equal(parse(bytes, resum(bytes, n), &seen), ENTRY_DAMAGED);
}

/* Whoever wrote them: the count of subjects is the length of what is there, and that is bounded. */
static void subjects_are_whole_and_bounded(void **state)
{
    enum { TAIL_BYTES = 2 + 11 }; /* the name behind them */
    static const char name[TAIL_BYTES + 1] = "\xc4\x0bget_balance";
    struct entry_record record = example(), seen;
    char bytes[ENTRY_RECORD_MAX];

    (void)state;
    record.subject_count = 0;
    size_t at = entry_format(&record, bytes) - 8 - TAIL_BYTES - 2;
    assert_memory_equal(bytes + at, "\xc4\0", 2);
    for (size_t n = 0; n <= 8 * ENTRY_SUBJECTS_MAX + 8; ++n) {
        bytes[at] = '\xc5';
        bytes[at + 1] = (char)(n >> 8);
        bytes[at + 2] = (char)n;
        memset(bytes + at + 3, 's', n);
        memcpy(bytes + at + 3 + n, name, TAIL_BYTES);
        enum entry_parsed parsed = parse(bytes, resum(bytes, at + 3 + n + TAIL_BYTES), &seen);
        assert_int_equal(parsed, n % 8 == 0 && n <= 8 * ENTRY_SUBJECTS_MAX ? ENTRY_OK : ENTRY_DAMAGED);
        if (parsed == ENTRY_OK)
            assert_int_equal(seen.subject_count, n / 8);
    }
}

static void bodies_are_cut_into_chunks_that_fill_one_page(void **state)
{
    static const uint64_t sizes[] = {0, 1, 4039, 4040, 4041, 8120, 8121, 1 << 20};

    (void)state;
    assert_true(ENTRY_CHUNK_BYTES + 16 == 4096); /* one page: a full map needs no runs */
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); ++i) {
        uint64_t chunks = entry_chunks(sizes[i]), sum = 0;
        for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
            size_t n = entry_chunk_bytes(sizes[i], chunk);
            assert_true(n > 0 && n <= ENTRY_CHUNK_BYTES && (n == ENTRY_CHUNK_BYTES || chunk == chunks - 1));
            sum += n;
        }
        assert_true(sum == sizes[i] + ENTRY_HEAD_BYTES);
    }
    assert_int_equal(entry_chunks(0), 1);
    assert_int_equal(entry_chunks(4040), 1);
    assert_int_equal(entry_chunks(4041), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(extremes_survive_and_fit),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(another_version_is_unknown),
        cmocka_unit_test(fields_of_another_type_are_refused),
        cmocka_unit_test(fields_that_contradict_each_other_are_refused),
        cmocka_unit_test(subjects_are_whole_and_bounded),
        cmocka_unit_test(bodies_are_cut_into_chunks_that_fill_one_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
