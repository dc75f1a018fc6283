/* SPDX-License-Identifier: Apache-2.0 */
/* Index records, as a rotten or hostile store file may hold them. The first byte of an input chooses: even, the rest is a record as it stands; odd, the rest
 * is the fields of one and gets a right sum, because no fuzzer would find that by itself. Always:
 * - what is read keeps its ranges, its name lies within the bytes, and its subjects are no more than there is room for;
 * - what is read and written again reads as the same. */
#include "fuzz.h"

#include "sidecar/store/entry.h"

static void check(struct span bytes)
{
    struct entry_record record, again;
    char written[ENTRY_RECORD_MAX];

    if (entry_parse(bytes, &record) != ENTRY_OK)
        return;
    must(record.ttl_start <= record.ttl_end && record.ttl_end <= record.body_bytes);
    must(record.scope <= CP_SCOPE_PUBLIC && record.began_ms <= record.stored_at_ms);
    must(record.name.n <= ENTRY_NAME_MAX && record.subject_count <= ENTRY_SUBJECTS_MAX && record.generation <= INT64_MAX);
    must(8 * (size_t)record.subject_count <= bytes.n);
    must(record.name.n == 0 || (record.name.p >= bytes.p && record.name.p + record.name.n <= bytes.p + bytes.n));
    size_t n = entry_format(&record, written);
    must(n <= ENTRY_RECORD_MAX && entry_parse((struct span){written, n}, &again) == ENTRY_OK);
    must(again.seq == record.seq && again.body_bytes == record.body_bytes && again.body_sum == record.body_sum);
    must(memcmp(again.check, record.check, sizeof(record.check)) == 0);
    must(again.owner == record.owner && again.began_ms == record.began_ms);
    must(again.stored_at_ms == record.stored_at_ms && again.expires_at_ms == record.expires_at_ms);
    must(again.has_hint == record.has_hint && again.hint_ttl_ms == record.hint_ttl_ms);
    must(again.ttl_start == record.ttl_start && again.ttl_end == record.ttl_end);
    must(again.scope == record.scope && again.method == record.method && again.cost_ms == record.cost_ms);
    must(again.is_negative == record.is_negative && again.generation == record.generation);
    must(again.subject_count == record.subject_count);
    must(memcmp(again.subjects, record.subjects, record.subject_count * sizeof(record.subjects[0])) == 0);
    must(span_eq(again.name, record.name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 4096)
        return 0;
    /* Of exactly that length on the heap, so that the sanitizer sees a read beyond it. */
    size_t n = size - 1, total = data[0] % 2 == 0 ? n : n + 8;
    char *p = malloc(total == 0 ? 1 : total);
    must(p != NULL);
    memcpy(p, data + 1, n);
    if (total > n) {
        uint64_t sum = entry_sum((struct span){p, n});
        for (int i = 7; i >= 0; --i, sum >>= 8)
            p[n + (size_t)i] = (char)sum;
    }
    check((struct span){p, total});
    free(p);
    return 0;
}
