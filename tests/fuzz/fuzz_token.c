/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens. An input is taken twice: as an Authorization value, and as the payload of a token that is made around it. Always:
 * - a token is a JWT exactly when its payload is an object by the strict scan, and neither its header nor its signature matter;
 * - another spelling of the Base64 (padding, unused bits, the other alphabet) is none;
 * - its end is the one that strtold and jansson find, within what they can hold;
 * - the form of claims can be taken apart again and then says what the payload said, so no two sets share one; it is blind to the order of members, to
 *   blanks and to how strings are written. */
#include "fuzz.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>

#include "cachepolicy/canonical.h"
#include "cachepolicy/token.h"

#define NAMES_MAX 3

static struct cp_json_doc doc, reference;
static struct buf scratch;

static struct cp_token read_token(struct span authorization)
{
    struct span exact = exactly(authorization);
    struct cp_token token;

    cp_token_read(&doc, &scratch, exact, &token);
    free((char *)exact.p);
    must(token.exp_s >= 0 && token.exp_s <= CP_TOKEN_EXP_MAX_S);
    must(token.has_exp || token.exp_s == 0);
    must(token.is_jwt || !token.has_exp);
    return token;
}

static int claims(struct span authorization, char *const *names, size_t count, struct buf *out)
{
    struct span exact = exactly(authorization);
    int r = cp_token_claims(&doc, &scratch, exact, names, count, out);

    free((char *)exact.p);
    return r;
}

/* The token around a payload; *ret_end is where the payload's Base64 ends. Owned. */
static struct buf token_around(struct span payload, size_t *ret_end)
{
    struct buf out = {0};

    must(buf_add_span(&out, SPAN("Bearer eyJhbGciOiJub25lIn0.")) == 0);
    must(buf_reserve(&out, 4 * (payload.n / 3 + 2)) == 0);
    *ret_end = out.n + (size_t)EVP_EncodeBlock((unsigned char *)out.p + out.n, (const unsigned char *)payload.p, (int)payload.n);
    for (; out.n < *ret_end && out.p[out.n] != '='; out.n++) {
        if (out.p[out.n] == '+')
            out.p[out.n] = '-';
        if (out.p[out.n] == '/')
            out.p[out.n] = '_';
    }
    *ret_end = out.n;
    must(buf_add_span(&out, SPAN(".c2ln")) == 0);
    return out;
}

static void check_spellings(const struct buf *token, size_t end, bool is_jwt, bool has_spare_bits)
{
    struct buf other = {0};

    must(buf_add(&other, token->p, end) == 0 && buf_add_span(&other, SPAN(".")) == 0);
    must(read_token(buf_span(&other)).is_jwt == is_jwt); /* not signed */
    must(buf_add_span(&other, SPAN("c2ln=")) == 0);
    must(!read_token(buf_span(&other)).is_jwt);
    other.n = end;
    must(buf_add_span(&other, SPAN("=.c2ln")) == 0);
    must(!read_token(buf_span(&other)).is_jwt);
    if (!has_spare_bits || end == 0)
        goto done;
    /* the last letter's neighbour in the alphabet differs in the lowest of the bits that nobody reads */
    other.n = end;
    other.p[end - 1]++;
    must(buf_add_span(&other, SPAN(".c2ln")) == 0);
    must(!read_token(buf_span(&other)).is_jwt);
done:
    buf_done(&other);
}

static void check_exp(const struct cp_token *token, struct span payload)
{
    const struct cp_json_node *exp = cp_json_member(&reference, cp_json_root(&reference), SPAN("exp"));
    char lexeme[20000];
    struct span raw;
    long double value;
    json_error_t error;
    json_t *root, *other;

    must(token->has_exp == (exp != NULL));
    if (exp == NULL || exp->type != CP_JSON_NUMBER) {
        must(token->exp_s == 0);
        return;
    }
    raw = cp_json_raw(&reference, exp);
    must(raw.n < sizeof(lexeme));
    memcpy(lexeme, raw.p, raw.n);
    lexeme[raw.n] = '\0';
    value = strtold(lexeme, NULL);
    if (value < 0)
        must(token->exp_s == 0);
    else if (value >= (long double)CP_TOKEN_EXP_MAX_S)
        must(token->exp_s >= CP_TOKEN_EXP_MAX_S - 1);
    else
        must((long double)token->exp_s <= value && value <= (long double)token->exp_s + 1);
    root = json_loadb(payload.p, payload.n, 0, &error);
    other = json_object_get(root, "exp");
    if (json_is_integer(other)) {
        json_int_t whole = json_integer_value(other);

        must(token->exp_s == (whole < 0 ? 0 : whole > CP_TOKEN_EXP_MAX_S ? CP_TOKEN_EXP_MAX_S : whole));
    }
    json_decref(root);
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

/* Takes a form apart and compares each piece with the payload's own. */
static void check_form(struct span form, char *const *names, size_t count)
{
    must(take_size(&form) == count);
    for (size_t i = 0; i < count; i++) {
        const struct cp_json_node *member = cp_json_member(&reference, cp_json_root(&reference), span_of(names[i]));
        struct span name = take(&form, take_size(&form)), type = take(&form, 1), value = take(&form, take_size(&form));

        must(span_eq(name, span_of(names[i])));
        must(type.p[0] == (member->type == CP_JSON_STRING ? 's' : member->type == CP_JSON_NUMBER ? 'n' : 'b'));
        must(span_eq(value, member->type == CP_JSON_STRING ? cp_json_text(&reference, member) : cp_json_raw(&reference, member)));
    }
    must(form.n == 0);
}

static void check_claims(struct span authorization)
{
    const struct cp_json_node *root = cp_json_root(&reference), *member = cp_json_first(&reference, root);
    char *names[NAMES_MAX + 1];
    struct buf form = {0}, other_form = {0}, canonical = {0}, other;
    size_t count = 0, end;
    bool named = true;

    for (; member != NULL && count < NAMES_MAX; member = cp_json_next(&reference, member)) {
        struct span name = cp_json_name(&reference, member);

        named = named && member->type != CP_JSON_NULL && member->type != CP_JSON_ARRAY && member->type != CP_JSON_OBJECT;
        named = named && (member->type != CP_JSON_STRING || cp_json_text(&reference, member).n > 0);
        names[count++] = strndup(name.p, name.n);
    }
    must(claims(authorization, names, count, &form) == (count > 0 && named ? 0 : -ENOENT));
    if (form.n > 0) {
        check_form(buf_span(&form), names, count);
        must(cp_canonical(&reference, root, NULL, 0, &canonical) == 0);
        other = token_around(buf_span(&canonical), &end);
        must(claims(buf_span(&other), names, count, &other_form) == 0);
        must(span_eq(buf_span(&form), buf_span(&other_form)));
        buf_done(&other);
        /* one name more, which the payload does not have: nothing is added */
        names[count] = strdup("\x01 nobody \x02");
        must(claims(authorization, names, count + 1, &form) == -ENOENT && span_eq(buf_span(&form), buf_span(&other_form)));
        free(names[count]);
    } else {
        must(count == 0 || !named);
    }
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    buf_done(&form);
    buf_done(&other_form);
    buf_done(&canonical);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span payload = {(const char *)data, size};
    struct cp_token token;
    struct buf authorization, out = {0};
    char *sub = (char *)"sub";
    size_t end;
    bool is_jwt;

    if (size == 0 || size > CP_TOKEN_MAX_BYTES)
        return 0;
    payload = exactly(payload);
    token = read_token(payload);
    if (!token.is_jwt)
        must(claims(payload, &sub, 1, &out) == -ENOENT);

    authorization = token_around(payload, &end);
    token = read_token(buf_span(&authorization));
    is_jwt = cp_json_scan(&reference, payload, &cp_json_strict) == CP_JSON_OK && cp_json_root(&reference)->type == CP_JSON_OBJECT &&
             authorization.n - strlen("Bearer ") <= CP_TOKEN_MAX_BYTES;
    must(token.is_jwt == is_jwt);
    if (is_jwt) {
        check_exp(&token, payload);
        check_claims(buf_span(&authorization));
    } else {
        must(claims(buf_span(&authorization), &sub, 1, &out) == -ENOENT);
    }
    check_spellings(&authorization, end, is_jwt, size % 3 != 0);
    must(out.n == 0);
    buf_done(&out);
    buf_done(&authorization);
    free((char *)payload.p);
    return 0;
}
