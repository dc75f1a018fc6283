/* SPDX-License-Identifier: Apache-2.0 */
/* How libFuzzer changes inputs that are JSON: every other time as a value, so that it stays JSON and the fuzzer gets past the grammar; else, and
 * whatever is no JSON, as bytes. Only in fuzzing builds. */
#include "model.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static const struct cp_json_limits limits = {.depth = 512, .record_depth = 0, .nodes = 1 << 20};
    static struct cp_json_doc doc;
    struct dice dice = {seed};
    json_t *model, *changed;
    struct buf text;

    if (dice_throw(&dice, 2) == 0 || cp_json_scan(&doc, (struct span){(const char *)data, size}, &limits) != CP_JSON_OK)
        return LLVMFuzzerMutate(data, size, max_size);
    model = model_of(&doc);
    changed = model_change(model, &dice);
    text = model_write(changed, &dice);
    if (text.n <= max_size) {
        memcpy(data, text.p, text.n);
        size = text.n;
    } else {
        size = LLVMFuzzerMutate(data, size, max_size);
    }
    buf_done(&text);
    json_decref(changed);
    json_decref(model);
    return size;
}
