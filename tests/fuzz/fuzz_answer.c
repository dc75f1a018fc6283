/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: nothing is read outside of the text; everything that is told of it is what jansson and strtold read; what is stored is the result less the
 * fill's own trace context and the tags, by jansson's reading; tags and URIs are those that jansson finds, and the place of its ttlMs is where it is said to be. */
#include "fuzz.h"

#include <jansson.h>

#include "cachepolicy/answer.h"
#include "cachepolicy/policy.h"

static struct cp_json_doc doc;

static bool is_text(const json_t *value, const char *text)
{
    return json_is_string(value) && json_string_length(value) == strlen(text) && strcmp(json_string_value(value), text) == 0;
}

/* answer.h: what a ttlMs means. Lexemes too long for a long double are not judged. */
static void check_ttl(const struct cp_answer *answer, const json_t *value)
{
    char lexeme[19];
    long double ttl;

    must(answer->has_ttl == (value != NULL));
    if (!json_is_number(value)) {
        must(answer->ttl_ms == 0);
        return;
    }
    if (answer->ttl_token.n >= sizeof(lexeme))
        return;
    memcpy(lexeme, answer->ttl_token.p, answer->ttl_token.n);
    lexeme[answer->ttl_token.n] = '\0';
    ttl = strtold(lexeme, NULL);
    if (ttl < 0 || (strchr(lexeme, '.') != NULL && strpbrk(lexeme, "eE") == NULL))
        must(answer->ttl_ms == 0);
    else if (ttl >= (long double)CP_TTL_MAX_MS)
        must(answer->ttl_ms == (ttl < 1e18L && ttl != (long double)(int64_t)ttl ? 0 : CP_TTL_MAX_MS));
    else
        must(answer->ttl_ms == (ttl == (long double)(int64_t)ttl ? (int64_t)ttl : 0));
}

static void check_result(const struct cp_answer *answer, const json_t *result)
{
    const json_t *type = json_object_get(result, "resultType"), *error = json_object_get(result, "isError");
    const json_t *scope = json_object_get(result, "cacheScope"), *version = json_object_get(result, "protocolVersion");
    const json_t *meta = json_object_get(result, "_meta");
    bool is_private = json_object_get(result, "inputRequests") != NULL || json_object_get(result, "requestState") != NULL ||
                      json_object_get(result, "taskId") != NULL || json_is_object(json_object_get(result, "task"));

    is_private |= json_object_get(meta, "io.modelcontextprotocol/related-task") != NULL ||
                  json_object_get(meta, "io.modelcontextprotocol/model-immediate-response") != NULL ||
                  json_object_get(meta, "io.modelcontextprotocol/subscriptionId") != NULL;
    must(answer->has_result == (result != NULL) && answer->is_object == json_is_object(result));
    must(answer->type == (type == NULL ? CP_RESULT_ABSENT : is_text(type, "complete") ? CP_RESULT_COMPLETE : CP_RESULT_OTHER));
    must(answer->is_error == (error != NULL && !json_is_false(error)));
    must(answer->is_exchange_private == is_private);
    must(answer->refuses_cache == is_text(json_object_get(meta, "cache_hint"), "no-cache"));
    must(answer->scope == (scope == NULL ? CP_HINT_ABSENT : is_text(scope, "public") ? CP_HINT_PUBLIC : CP_HINT_PRIVATE));
    must((answer->version.p != NULL) == json_is_string(version));
    if (answer->version.p != NULL)
        must(span_eq(answer->version, (struct span){json_string_value(version), json_string_length(version)}));
    check_ttl(answer, json_object_get(result, "ttlMs"));
}

/* By jansson, which does not judge numbers beyond its own nor, where the scan does not look, names that come twice. */
static void check_reading(const struct cp_answer *answer, struct span text)
{
    json_error_t error;
    json_t *root = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &error), *method, *code;

    /* a text this short is within all limits of the scan */
    if (root != NULL && text.n < 512 && memchr(text.p, '\0', text.n) == NULL)
        must(answer->is_readable == is_text(json_object_get(root, "jsonrpc"), "2.0") && answer->is_batch == json_is_array(root));
    if (root == NULL)
        root = json_loadb(text.p, text.n, 0, &error);
    if (root != NULL && answer->is_readable) {
        method = json_object_get(root, "method");
        code = json_object_get(json_object_get(root, "error"), "code");
        must(is_text(json_object_get(root, "jsonrpc"), "2.0"));
        must((answer->id.p != NULL) == (json_object_get(root, "id") != NULL) && answer->has_method == (method != NULL));
        must((answer->method.p != NULL) == json_is_string(method));
        must(answer->method.p == NULL ||
             span_eq(answer->method, (struct span){json_string_value(method), json_string_length(method)}));
        must(answer->has_error == (json_object_get(root, "error") != NULL));
        must(answer->error_code == (json_is_integer(code) ? json_integer_value(code) : 0));
        check_result(answer, json_object_get(root, "result"));
    }
    json_decref(root);
}

/* What was told, each with its length. */
static void on_text(void *ctx, struct span text)
{
    must(buf_add(ctx, &text.n, sizeof(text.n)) == 0);
    must(buf_add_span(ctx, text) == 0);
}

static bool has_text(const struct buf *told, const json_t *value)
{
    for (size_t at = 0; at < told->n;) {
        struct span one;

        memcpy(&one.n, told->p + at, sizeof(one.n));
        one.p = told->p + at + sizeof(one.n);
        if (span_eq(one, (struct span){json_string_value(value), json_string_length(value)}))
            return true;
        at += sizeof(one.n) + one.n;
    }
    return false;
}

static size_t count_of(const struct buf *told)
{
    size_t count = 0, n;

    for (size_t at = 0; at < told->n; at += sizeof(n) + n, count++)
        memcpy(&n, told->p + at, sizeof(n));
    return count;
}

/* Every tag and every URI that jansson finds is told; of tags, no other. */
static void check_tags_and_uris(const struct cp_answer *answer, const json_t *result)
{
    const json_t *list = json_object_get(json_object_get(result, "_meta"), CP_ANSWER_TAGS), *item;
    static const char *const lists[] = {"contents", "content"};
    struct buf tags = {0}, uris = {0}, scratch = {0};
    size_t i, expected = 0;

    must(cp_answer_tags(answer, &doc, on_text, &tags) == 0);
    must(cp_answer_uris(answer, &scratch, on_text, &uris) == 0);
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item) || !cp_tag_is_valid((struct span){json_string_value(item), json_string_length(item)}))
            continue;
        must(has_text(&tags, item));
        expected++;
    }
    must(count_of(&tags) == expected);
    for (size_t k = 0; k < 2; k++) {
        json_array_foreach(json_object_get(result, lists[k]), i, item)
        {
            const json_t *uri = json_object_get(item, "uri"), *inner = json_object_get(json_object_get(item, "resource"), "uri");

            must(!json_is_string(uri) || has_text(&uris, uri));
            must(!json_is_string(inner) || has_text(&uris, inner));
        }
    }
    buf_done(&tags);
    buf_done(&uris);
    buf_done(&scratch);
}

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
    check_reading(&answer, text);
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

        check_tags_and_uris(&answer, before);
        json_object_del(meta, "traceparent");
        json_object_del(meta, "tracestate");
        json_object_del(meta, "baggage");
        json_object_del(meta, CP_ANSWER_TAGS);
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
