/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: nothing is read outside of the text; what is stored is the result less the fill's own trace context, by
 * jansson's reading, and the place of its ttlMs is where it is said to be. */
#include "fuzz.h"

#include <jansson.h>

#include "cachepolicy/answer.h"
#include "cachepolicy/policy.h"

static struct cp_json_doc doc;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = exactly((struct span){(const char *)data, size});
    struct cp_answer answer, stored;
    struct buf out = {0}, message = {0};
    uint32_t start = 1, end = 2;
    json_error_t error;
    json_t *before, *after;

    cp_answer_parse(&answer, &doc, text);
    must(!answer.is_readable || !answer.is_batch);
    must(answer.ttl_ms >= 0 && answer.ttl_ms <= CP_TTL_MAX_MS);
    must(answer.is_readable || (answer.id.p == NULL && !answer.has_result && !cp_answer_is_to(&answer, SPAN("1"))));
    if (answer.is_readable && answer.has_result != answer.has_error && !answer.has_method && answer.id.n > 0)
        must(cp_answer_is_to(&answer, answer.id) ==
             (answer.id.p[0] == '"' || answer.id.p[0] == '-' || (answer.id.p[0] >= '0' && answer.id.p[0] <= '9')));
    if (!answer.is_readable || !answer.has_result) {
        free((char *)text.p);
        return 0;
    }
    must(cp_answer_strip(&answer, false, &doc, &out, &start, &end) == 0);
    must(out.n <= answer.result.n);
    must(span_eq((struct span){out.p + start, end - start}, answer.ttl_token));

    /* Jansson refuses numbers that are too big for it, and what lies too deep for us to look at. */
    before = json_loadb(answer.result.p, answer.result.n, JSON_DECODE_ANY, &error);
    if (before != NULL) {
        json_t *meta = json_object_get(before, "_meta");

        json_object_del(meta, "traceparent");
        json_object_del(meta, "tracestate");
        json_object_del(meta, "baggage");
        after = json_loadb(out.p, out.n, JSON_DECODE_ANY, &error);
        must(after != NULL);
        must(json_equal(before, after));
        json_decref(after);
        json_decref(before);
    }

    /* What was stored, in a new envelope, says the same and has nothing left to strip. */
    must(buf_add_span(&message, SPAN("{\"jsonrpc\":\"2.0\",\"result\":")) == 0);
    must(buf_add_span(&message, buf_span(&out)) == 0);
    must(buf_add_span(&message, SPAN("}")) == 0);
    {
        struct span again = exactly(buf_span(&message));
        struct cp_answer first = answer;

        cp_answer_parse(&stored, &doc, again);
        must(stored.is_readable && stored.is_object == first.is_object && stored.type == first.type);
        must(stored.ttl_ms == first.ttl_ms && stored.has_ttl == first.has_ttl && stored.scope == first.scope);
        must(stored.is_error == first.is_error && stored.is_exchange_private == first.is_exchange_private);
        must(stored.refuses_cache == first.refuses_cache);
        message.n = 0;
        must(cp_answer_strip(&stored, false, &doc, &message, &start, &end) == 0);
        must(span_eq(buf_span(&message), buf_span(&out)));
        free((char *)again.p);
    }
    buf_done(&out);
    buf_done(&message);
    free((char *)text.p);
    return 0;
}
