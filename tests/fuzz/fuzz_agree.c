/* SPDX-License-Identifier: Apache-2.0 */
/* Mirrored headers. Input: fields parted by newlines: version, method, name, then name and value of each Mcp-Param-*, and
 * the body behind an empty line.
 * Always: a value decodes to what OpenSSL's Base64 says, encodings come back whole, the form of a set does not depend on
 * its order, and a header that agrees is the body's own text. */
#include "fuzz.h"

#include <openssl/evp.h>

#include "cachepolicy/agree.h"

static struct cp_json_doc doc;

static void check_decode(struct span value)
{
    struct buf out = {0}, wrapped = {0}, back = {0};
    int r = cp_mirror_decode(value, &out);
    struct span trimmed = span_trim(value);

    if (r != 0) {
        must(out.n == 0 && trimmed.n >= 11);
        must(memcmp(trimmed.p, "=?base64?", 9) == 0);
    } else {
        /* Whatever came out can be wrapped and comes out again, unless it was literal bytes that are not UTF-8. */
        must(buf_reserve(&wrapped, out.n * 2 + 64) == 0);
        must(buf_add(&wrapped, "=?base64?", 9) == 0);
        wrapped.n +=
            (size_t)EVP_EncodeBlock((unsigned char *)wrapped.p + 9, (const unsigned char *)(out.n == 0 ? "" : out.p), (int)out.n);
        must(buf_add(&wrapped, "?=", 2) == 0);
        if (cp_mirror_decode(buf_span(&wrapped), &back) == 0)
            must(span_eq(buf_span(&back), buf_span(&out)));
        else
            must(span_eq(buf_span(&out), trimmed));
    }
    buf_done(&out);
    buf_done(&wrapped);
    buf_done(&back);
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
    mirror.repeated = true;
    must(cp_agree(&message, &mirror, &header) == CP_AGREE_MISMATCH);
    buf_done(&form);
    buf_done(&other_form);
    free((char *)input.p);
    return 0;
}
