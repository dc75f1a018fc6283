/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: what an upstream message says about itself, and its result as it may be stored.
 * Always: bytes of the result are copied or left out, never written anew.
 * Not here: whether it is stored (decide.c), event streams (the runtime). Thread: whoever owns the doc. */
#include "answer.h"

#include <errno.h>

#include "inside.h"
#include "loose.h"
#include "policy.h"

/* --- numbers --- */

/* Value of a plain integer lexeme; 0 when it is none or does not fit. */
static int64_t integer(struct span lexeme)
{
    bool negative = lexeme.n > 0 && lexeme.p[0] == '-';
    int64_t value = 0;

    for (size_t i = negative; i < lexeme.n; i++) {
        int digit = lexeme.p[i] - '0';

        if (digit < 0 || digit > 9 || __builtin_mul_overflow(value, 10, &value) || __builtin_sub_overflow(value, digit, &value))
            return 0;
    }
    /* Collected below zero, where there is one more. */
    return negative ? value : value == INT64_MIN ? 0 : -value;
}

/* The ttlMs that a number lexeme means, 0 .. CP_TTL_MAX_MS; exact, without floating point: value = digits x 10^scale. */
static int64_t ttl_of(struct span lexeme)
{
    int64_t exponent = 0, scale = 0, value = 0;
    size_t digits = 0, zeros = 0; /* significant digits seen; zeros seen since the last other one */
    bool fraction = false, negative_exponent = false;
    size_t i = 0;

    if (lexeme.n == 0 || lexeme.p[0] == '-')
        return 0;
    for (; i < lexeme.n && lexeme.p[i] != 'e' && lexeme.p[i] != 'E'; i++) {
        if (lexeme.p[i] == '.') {
            fraction = true;
            continue;
        }
        scale -= fraction;
        if (lexeme.p[i] == '0') {
            zeros += digits > 0;
            continue;
        }
        for (; zeros > 0; zeros--, digits++)
            value = value > CP_TTL_MAX_MS ? value : value * 10;
        value = value > CP_TTL_MAX_MS ? value : value * 10 + (lexeme.p[i] - '0');
        digits++;
    }
    if (i == lexeme.n && fraction)
        return 0;
    if (digits == 0)
        return 0;
    for (i++; i < lexeme.n; i++) {
        if (lexeme.p[i] == '-')
            negative_exponent = true;
        else if (lexeme.p[i] != '+' && exponent < INT32_MAX)
            exponent = exponent * 10 + (lexeme.p[i] - '0');
    }
    scale += (int64_t)zeros + (negative_exponent ? -exponent : exponent);
    if (scale < 0)
        return 0;
    for (; scale > 0 && value <= CP_TTL_MAX_MS; scale--)
        value *= 10;
    return value < CP_TTL_MAX_MS ? value : CP_TTL_MAX_MS;
}

/* --- reading --- */

static bool read_meta(struct cp_answer *answer, struct cp_json_doc *doc, uint32_t index)
{
    const struct cp_json_node *meta = &doc->nodes[index];

    if (meta->type != CP_JSON_OBJECT)
        return true;
    if (cp_json_open(doc, meta, &meta) != CP_JSON_OK)
        return false;
    for (const struct cp_json_node *member = cp_json_first(doc, meta); member != NULL; member = cp_json_next(doc, member)) {
        struct span name = cp_json_name(doc, member);

        if (name.p == NULL)
            return false;
        if (span_eq(name, SPAN("io.modelcontextprotocol/related-task")) ||
            span_eq(name, SPAN("io.modelcontextprotocol/model-immediate-response")) ||
            span_eq(name, SPAN("io.modelcontextprotocol/subscriptionId")))
            answer->is_exchange_private = true;
        else if (span_eq(name, SPAN("cache_hint")))
            answer->refuses_cache = cp_json_is_text(doc, member, SPAN("no-cache"));
    }
    return true;
}

static bool read_result(struct cp_answer *answer, struct cp_json_doc *doc, const struct cp_json_node *result)
{
    uint32_t meta = 0;

    answer->has_result = true;
    answer->result = cp_json_raw(doc, result);
    if (result->type != CP_JSON_OBJECT)
        return true;
    answer->is_object = true;
    for (const struct cp_json_node *member = cp_json_first(doc, result); member != NULL; member = cp_json_next(doc, member)) {
        struct span name = cp_json_name(doc, member);

        if (name.p == NULL)
            return false;
        if (span_eq(name, SPAN("resultType"))) {
            answer->type = cp_json_is_text(doc, member, SPAN("complete")) ? CP_RESULT_COMPLETE : CP_RESULT_OTHER;
        } else if (span_eq(name, SPAN("isError"))) {
            answer->is_error = member->type != CP_JSON_FALSE;
        } else if (span_eq(name, SPAN("inputRequests")) || span_eq(name, SPAN("requestState")) || span_eq(name, SPAN("taskId"))) {
            answer->is_exchange_private = true;
        } else if (span_eq(name, SPAN("task"))) {
            answer->is_exchange_private |= member->type == CP_JSON_OBJECT;
        } else if (span_eq(name, SPAN("ttlMs"))) {
            answer->has_ttl = true;
            answer->ttl_token = cp_json_raw(doc, member);
            answer->ttl_ms = member->type == CP_JSON_NUMBER ? ttl_of(answer->ttl_token) : 0;
        } else if (span_eq(name, SPAN("cacheScope"))) {
            answer->scope = cp_json_is_text(doc, member, SPAN("public")) ? CP_HINT_PUBLIC : CP_HINT_PRIVATE;
        } else if (span_eq(name, SPAN("protocolVersion"))) {
            answer->version = cp_json_text(doc, member);
        } else if (span_eq(name, SPAN("_meta"))) {
            meta = (uint32_t)(member - doc->nodes);
        }
    }
    return meta == 0 || read_meta(answer, doc, meta);
}

static bool read_envelope(struct cp_answer *answer, struct cp_json_doc *doc)
{
    const struct cp_json_node *version = NULL, *result = NULL;

    for (const struct cp_json_node *member = cp_json_first(doc, cp_json_root(doc)); member != NULL;
         member = cp_json_next(doc, member)) {
        struct span name = cp_json_name(doc, member);

        if (name.p == NULL)
            return false;
        if (span_eq(name, SPAN("jsonrpc"))) {
            version = member;
        } else if (span_eq(name, SPAN("id"))) {
            answer->id = cp_json_raw(doc, member);
        } else if (span_eq(name, SPAN("method"))) {
            answer->has_method = true;
            answer->method = cp_json_text(doc, member);
        } else if (span_eq(name, SPAN("error"))) {
            const struct cp_json_node *code = cp_json_member(doc, member, SPAN("code"));

            answer->has_error = true;
            if (code != NULL && code->type == CP_JSON_NUMBER)
                answer->error_code = integer(cp_json_raw(doc, code));
        } else if (span_eq(name, SPAN("result"))) {
            result = member;
        }
    }
    if (!cp_json_is_text(doc, version, SPAN("2.0")))
        return false;
    return result == NULL || read_result(answer, doc, result);
}

void cp_answer_parse(struct cp_answer *ret, struct cp_json_doc *doc, struct span text)
{
    const struct cp_json_node *root;

    *ret = (struct cp_answer){0};
    cp_json_scan(doc, text, &cp_json_reply);
    root = cp_json_root(doc);
    if (root == NULL)
        return;
    if (root->type == CP_JSON_ARRAY)
        ret->is_batch = true;
    if (root->type != CP_JSON_OBJECT)
        return;
    ret->is_readable = read_envelope(ret, doc);
    if (!ret->is_readable)
        *ret = (struct cp_answer){0};
}

bool cp_answer_is_to(const struct cp_answer *answer, struct span id)
{
    char first;

    if (!answer->is_readable || answer->has_method || answer->has_result == answer->has_error)
        return false;
    if (id.n == 0 || answer->id.n == 0 || (id.p[0] == '"') != (answer->id.p[0] == '"'))
        return false;
    first = id.p[0];
    if (first == '"')
        return cp_json_same_text(id, answer->id);
    return (first == '-' || (first >= '0' && first <= '9')) && span_eq(id, answer->id);
}

/* --- what is stored --- */

/* Of the fill, not of the caller who gets it again; and what is said to the cache. */
static bool is_fills_own(struct span name)
{
    return span_eq(name, SPAN("traceparent")) || span_eq(name, SPAN("tracestate")) || span_eq(name, SPAN("baggage")) ||
           span_eq(name, SPAN(CP_ANSWER_TAGS));
}

/* What the protocol itself puts into a result's _meta speaks of the server; a vendor's member may speak of the caller. */
static bool goes(struct span name, void *ctx)
{
    static const char ours[] = "io.modelcontextprotocol/";
    bool strip_vendor = *(const bool *)ctx;

    if (is_fills_own(name))
        return true;
    return strip_vendor && !(name.n >= sizeof(ours) - 1 && memcmp(name.p, ours, sizeof(ours) - 1) == 0);
}

static const struct cp_json_node *result_meta(const struct cp_answer *answer, const struct cp_json_doc *doc)
{
    if (!answer->is_object)
        return NULL;
    return cp_json_member(doc, cp_json_member(doc, cp_json_root(doc), SPAN("result")), SPAN("_meta"));
}

int cp_answer_strip(const struct cp_answer *answer, bool strip_vendor, struct cp_json_doc *doc, struct buf *out,
                    uint32_t *ret_ttl_start, uint32_t *ret_ttl_end)
{
    const char *at = answer->result.p, *end = answer->result.p + answer->result.n;
    size_t before = out->n, gone;
    int r;

    /* The one reservation, so that what follows cannot fail. */
    r = buf_reserve(out, answer->result.n);
    if (r < 0)
        return r;
    json_copy_without(doc, result_meta(answer, doc), goes, &strip_vendor, &at, out);
    /* all that goes stands in one member, so it is before the ttlMs value or behind it */
    gone = (size_t)(at - answer->result.p) - (out->n - before);
    if (answer->ttl_token.p != NULL && answer->ttl_token.p < at)
        gone = 0;
    buf_add(out, at, (size_t)(end - at));
    *ret_ttl_start = *ret_ttl_end = 0;
    if (answer->ttl_token.p != NULL) {
        *ret_ttl_start = (uint32_t)((size_t)(answer->ttl_token.p - answer->result.p) - gone);
        *ret_ttl_end = *ret_ttl_start + (uint32_t)answer->ttl_token.n;
    }
    return 0;
}

/* --- what purges it --- */

int cp_answer_tags(const struct cp_answer *answer, struct cp_json_doc *doc, cp_tag_fn fn, void *ctx)
{
    const struct cp_json_node *tags = cp_json_member(doc, result_meta(answer, doc), SPAN(CP_ANSWER_TAGS)), *tag;
    enum cp_json_status status;

    if (tags == NULL || tags->type != CP_JSON_ARRAY)
        return 0;
    status = cp_json_open(doc, tags, &tags);
    if (status != CP_JSON_OK)
        return status == CP_JSON_NOMEM ? -ENOMEM : 0;
    for (tag = cp_json_first(doc, tags); tag != NULL; tag = cp_json_next(doc, tag)) {
        struct span text = cp_json_text(doc, tag);

        if (tag->type == CP_JSON_STRING && text.p == NULL)
            return -ENOMEM;
        if (cp_tag_is_valid(text))
            fn(ctx, text);
    }
    return 0;
}

/* Members that are a URI, of one object. */
static int tell_uris(struct span object, struct buf *scratch, cp_uri_fn fn, void *ctx)
{
    struct span name, value, raw, uri;
    struct loose inside;

    if (!loose_open(object, '{', &inside))
        return 0;
    while (loose_member(&inside, &name, &value)) {
        if (!loose_is(name, SPAN("uri")) || !loose_string(value, &raw))
            continue;
        if (loose_text(raw, scratch, &uri) != 0)
            return -ENOMEM;
        fn(ctx, uri);
    }
    return 0;
}

/* One element of contents, or of content: its own URI, and that of what is embedded in it. */
static int tell_block(struct span block, struct buf *scratch, cp_uri_fn fn, void *ctx)
{
    struct span name, value;
    struct loose inside;
    int r = tell_uris(block, scratch, fn, ctx);

    if (r != 0 || !loose_open(block, '{', &inside))
        return r;
    while (r == 0 && loose_member(&inside, &name, &value)) {
        if (loose_is(name, SPAN("resource")))
            r = tell_uris(value, scratch, fn, ctx);
    }
    return r;
}

int cp_answer_uris(const struct cp_answer *answer, struct buf *scratch, cp_uri_fn fn, void *ctx)
{
    struct span name, value, block;
    struct loose result, blocks;
    int r = 0;

    if (!answer->is_readable || !loose_open(answer->result, '{', &result))
        return 0;
    while (r == 0 && loose_member(&result, &name, &value)) {
        if ((!loose_is(name, SPAN("contents")) && !loose_is(name, SPAN("content"))) || !loose_open(value, '[', &blocks))
            continue;
        while (r == 0 && loose_element(&blocks, &block))
            r = tell_block(block, scratch, fn, ctx);
    }
    return r;
}
