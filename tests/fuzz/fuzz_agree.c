/* SPDX-License-Identifier: Apache-2.0 */
/* Mirrored headers. Input: fields parted by newlines: version, method, name, then name and value of each Mcp-Param-*, and
 * the body behind an empty line.
 * Always: a value decodes exactly when OpenSSL reads its Base64, writes it the same way again, and jansson finds it UTF-8, and then to the same
 * bytes; whatever came out comes out again; the form of a set does not depend on its order; headers made from the body agree with it, and none of
 * them may be missing or say anything else. */
#include "fuzz.h"

#include <jansson.h>
#include <openssl/evp.h>

#include "cachepolicy/agree.h"

static struct cp_json_doc doc;

/* "=?base64?...?=" around text. Owned. */
static struct buf wrap(struct span text)
{
    struct buf out = {0};

    must(buf_add_span(&out, SPAN("=?base64?")) == 0 && buf_reserve(&out, text.n * 2 + 64) == 0);
    out.n +=
        (size_t)EVP_EncodeBlock((unsigned char *)out.p + out.n, (const unsigned char *)(text.n == 0 ? "" : text.p), (int)text.n);
    must(buf_add_span(&out, SPAN("?=")) == 0);
    return out;
}

static bool is_wrapped(struct span value)
{
    return value.n >= 11 && memcmp(value.p, "=?base64?", 9) == 0 && memcmp(value.p + value.n - 2, "?=", 2) == 0;
}

/* What a wrapped value holds, by OpenSSL and jansson; false: nothing that a header may hold. */
static bool unwrap(struct span value, struct buf *ret)
{
    struct span inner = {value.p + 9, value.n - 11};
    struct buf again;
    json_t *utf8;
    bool good;
    int n;

    must(buf_reserve(ret, inner.n + 4) == 0);
    n = EVP_DecodeBlock((unsigned char *)ret->p, (const unsigned char *)inner.p, (int)inner.n);
    if (n < 0)
        return false;
    for (size_t i = inner.n; i > 0 && inner.p[i - 1] == '=' && n > 0 && inner.n - i < 2; i--)
        n--;
    ret->n = (size_t)n;
    again = wrap(buf_span(ret));
    good = span_eq(buf_span(&again), value);
    buf_done(&again);
    utf8 = json_stringn(ret->n == 0 ? "" : ret->p, ret->n);
    good = good && utf8 != NULL;
    json_decref(utf8);
    return good;
}

static void check_decode(struct span value)
{
    struct buf out = {0}, expected = {0}, wrapped, back = {0};
    int r = cp_mirror_decode(value, &out);
    struct span trimmed = span_trim(value);

    if (is_wrapped(trimmed) && !unwrap(trimmed, &expected)) {
        must(r != 0 && out.n == 0);
    } else {
        must(r == 0 && span_eq(buf_span(&out), is_wrapped(trimmed) ? buf_span(&expected) : trimmed));
        wrapped = wrap(buf_span(&out));
        if (cp_mirror_decode(buf_span(&wrapped), &back) == 0)
            must(span_eq(buf_span(&back), buf_span(&out)));
        else /* literal bytes that are not UTF-8 */
            must(!is_wrapped(trimmed));
        buf_done(&wrapped);
    }
    buf_done(&out);
    buf_done(&expected);
    buf_done(&back);
}

static uint64_t take_size(struct span *form)
{
    uint64_t size = 0;

    must(form->n >= 8);
    for (int i = 7; i >= 0; i--)
        size = size << 8 | (unsigned char)form->p[i];
    *form = (struct span){form->p + 8, form->n - 8};
    return size;
}

static struct span take(struct span *form, uint64_t n)
{
    struct span piece = {form->p, n};

    must(n <= form->n);
    *form = (struct span){form->p + n, form->n - n};
    return piece;
}

/* Takes the form of a set apart again: what can be read back is made of nothing else. The params stand in its order. */
static void check_form(struct span form, const struct cp_mirror_param *params, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct span name = take(&form, take_size(&form)), kind, value;
        uint64_t n = take_size(&form);
        struct buf decoded = {0};

        kind = take(&form, 1);
        value = take(&form, n);
        must(span_ieq(name, params[i].name));
        for (size_t k = 0; k < name.n; k++)
            must(name.p[k] < 'A' || name.p[k] > 'Z');
        if (cp_mirror_decode(params[i].value, &decoded) == 0)
            must(kind.p[0] == 'd' && span_eq(value, buf_span(&decoded)));
        else
            must(kind.p[0] == 'l' && span_eq(value, span_trim(params[i].value)));
        buf_done(&decoded);
    }
    must(form.n == 0);
}

static bool needs_name(struct span method)
{
    static const char *const named[] = {"tools/call", "prompts/get", "resources/read", "tasks/get", "tasks/update", "tasks/cancel"};

    for (size_t i = 0; i < 6; i++) {
        if (span_eq(method, span_of(named[i])))
            return true;
    }
    return false;
}

/* The header is gone, then says something else: each time it is the one that is named. */
static void check_header(const struct cp_message *message, struct cp_mirror *mirror, struct span *field, const char *name)
{
    struct span right = *field;
    struct buf wrong = {0};
    const char *header = NULL;

    *field = SPAN_ABSENT;
    must(cp_agree(message, mirror, &header) == CP_AGREE_MISSING && strcmp(header, name) == 0);
    for (int way = 0; way < 4; way++) {
        wrong.n = 0;
        must(buf_add_span(&wrong, right) == 0);
        if (way < 2) {
            must(buf_add(&wrong, way == 0 ? "x" : "?=", way == 0 ? 1 : 2) == 0);
        } else if (wrong.n > 0) {
            char *byte = &wrong.p[way == 2 ? 0 : wrong.n - 1];

            *byte = (char)(*byte == '!' ? '#' : '!');
        }
        *field = buf_span(&wrong);
        if (wrong.n != right.n || wrong.n > 0)
            must(cp_agree(message, mirror, &header) == CP_AGREE_MISMATCH && strcmp(header, name) == 0);
    }
    *field = right;
    buf_done(&wrong);
}

/* What a client that does as the specification says would send with this body. */
static void check_mirror_of(const struct cp_message *message)
{
    struct cp_mirror mirror = {.version = message->version, .method = message->method_text};
    const char *header = NULL;
    bool named = needs_name(message->method_text);
    struct buf name;

    if (message->version.p == NULL || (named && message->name.p == NULL))
        return;
    /* these two are not encoded: what begins or ends with a blank cannot be said in a header */
    if (!span_eq(span_trim(mirror.version), mirror.version) || !span_eq(span_trim(mirror.method), mirror.method))
        return;
    name = wrap(named ? message->name : SPAN("nothing"));
    if (named)
        mirror.name = buf_span(&name);
    must(cp_agree(message, &mirror, &header) == CP_AGREES && header == NULL);
    if (named && !is_wrapped(message->name) && span_eq(span_trim(message->name), message->name)) {
        mirror.name = message->name;
        must(cp_agree(message, &mirror, &header) == CP_AGREES && header == NULL);
        check_header(message, &mirror, &mirror.name, "Mcp-Name");
    }
    check_header(message, &mirror, &mirror.version, "MCP-Protocol-Version");
    check_header(message, &mirror, &mirror.method, "Mcp-Method");
    mirror.repeated = true;
    must(cp_agree(message, &mirror, &header) == CP_AGREE_MISMATCH);
    buf_done(&name);
}

static struct span next_line(struct span *rest)
{
    const char *end = rest->n == 0 ? NULL : memchr(rest->p, '\n', rest->n);
    struct span line = *rest;

    if (end == NULL) {
        *rest = (struct span){rest->p + rest->n, 0};
        return line;
    }
    line.n = (size_t)(end - line.p);
    *rest = (struct span){end + 1, rest->n - line.n - 1};
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span input = exactly((struct span){(const char *)data, size}), rest = input, line;
    struct cp_mirror mirror;
    struct cp_mirror_param params[16], reversed[16];
    struct buf form = {0}, other_form = {0};
    struct cp_message message;
    const char *header = NULL;
    size_t count = 0;

    mirror = (struct cp_mirror){.version = next_line(&rest)};
    mirror.method = next_line(&rest);
    mirror.name = next_line(&rest);
    check_decode(mirror.name);
    while (rest.n > 0 && count < 16) {
        line = next_line(&rest);
        if (line.n == 0)
            break;
        params[count].name = line;
        params[count++].value = next_line(&rest);
        check_decode(params[count - 1].value);
    }
    for (size_t i = 0; i < count; i++)
        reversed[i] = params[count - 1 - i];
    must(cp_mirror_params(params, count, &form) == 0);
    check_form(buf_span(&form), params, count);
    must(cp_mirror_params(reversed, count, &other_form) == 0);
    must(span_eq(buf_span(&form), buf_span(&other_form)));
    if (count > 0) {
        other_form.n = 0;
        must(cp_mirror_params(reversed, count - 1, &other_form) == 0);
        must(!span_eq(buf_span(&form), buf_span(&other_form)));
    }

    cp_message_parse(&message, &doc, rest);
    if (cp_agree(&message, &mirror, &header) == CP_AGREES) {
        must(header == NULL);
        if (message.kind == CP_KIND_REQUEST && message.era == CP_ERA_MODERN) {
            must(span_eq(span_trim(mirror.version), message.version) && span_eq(span_trim(mirror.method), message.method_text));
            if (message.method == CP_METHOD_TOOLS_CALL && memchr(mirror.name.p, '?', mirror.name.n) == NULL)
                must(span_eq(span_trim(mirror.name), message.name));
        }
    } else {
        must(header != NULL);
    }
    if (message.kind == CP_KIND_REQUEST && message.era == CP_ERA_MODERN)
        check_mirror_of(&message);
    mirror.repeated = true;
    must(cp_agree(&message, &mirror, &header) == CP_AGREE_MISMATCH);
    buf_done(&form);
    buf_done(&other_form);
    free((char *)input.p);
    return 0;
}
