/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens, read and not verified.
 * Always: in doubt it is no JWT, so that the whole credential names the caller; in doubt about its end it has ended.
 * Not here: what the time is, whether the upstream accepts the token, which claims count. Thread: any. */
#include "token.h"

#include <errno.h>

#include "mutant.h"

/* Six bits, or -1. */
static int base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

static bool is_base64url(struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (base64url_value(text.p[i]) < 0)
            return false;
    }
    return text.n % 4 != 1;
}

/* Unused bits are 0: a payload has one spelling. 0, -EINVAL, -ENOMEM. */
static int base64url_decode(struct span text, struct buf *out)
{
    unsigned bits = 0, have = 0;
    int r;

    if (!is_base64url(text))
        return -EINVAL;
    r = buf_reserve(out, text.n);
    if (r < 0)
        return r;
    for (size_t i = 0; i < text.n; i++) {
        bits = (bits << 6 | (unsigned)base64url_value(text.p[i])) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out->p[out->n++] = (char)(bits >> have);
        }
    }
    return (bits & ((1u << have) - 1)) != 0 ? -EINVAL : 0;
}

/* What stands before the first dot; the rest moves behind it. Absent: no dot. */
static struct span part_before_dot(struct span *rest)
{
    const char *dot = rest->n == 0 ? NULL : memchr(rest->p, '.', rest->n);
    struct span part;

    if (dot == NULL)
        return SPAN_ABSENT;
    part = (struct span){rest->p, (size_t)(dot - rest->p)};
    *rest = (struct span){dot + 1, rest->n - part.n - 1};
    return part;
}

/* Scans the payload into doc. 0 with the claims, -ENOENT when it is no JWT, -ENOMEM. */
static int scan_claims(struct cp_json_doc *doc, struct buf *scratch, struct span authorization,
                       const struct cp_json_node **ret_claims)
{
    const struct span scheme = SPAN("Bearer");
    struct span token = span_trim(authorization), header, payload;
    enum cp_json_status status;
    int r;

    if (token.n <= scheme.n || !span_ieq((struct span){token.p, scheme.n}, scheme) || token.p[scheme.n] != ' ')
        return -ENOENT;
    token = span_trim((struct span){token.p + scheme.n, token.n - scheme.n});
    if (token.n > CP_TOKEN_MAX_BYTES)
        return -ENOENT;
    header = part_before_dot(&token);
    payload = part_before_dot(&token);
    if (header.n == 0 || !is_base64url(header) || payload.n == 0 || !is_base64url(token))
        return -ENOENT;
    scratch->n = 0;
    r = base64url_decode(payload, scratch);
    if (r < 0)
        return r == -EINVAL ? -ENOENT : r;
    status = cp_json_scan(doc, buf_span(scratch), &cp_json_strict);
    if (status == CP_JSON_NOMEM)
        return -ENOMEM;
    if (status != CP_JSON_OK || cp_json_root(doc)->type != CP_JSON_OBJECT)
        return -ENOENT;
    *ret_claims = cp_json_root(doc);
    return 0;
}

/* A JSON number's whole seconds. Exact, whatever the exponent: digits are never rounded. */
static int64_t whole_seconds(struct span number)
{
    const char *p = number.p, *end = number.p + number.n, *digits = p, *digits_end, *e;
    int64_t point = 0, exponent = 0, seconds = 0; /* the point stands behind that many digits */
    bool has_point = false, minus = false;

    if (*p == '-')
        return 0;
    for (digits_end = p; digits_end < end && *digits_end != 'e' && *digits_end != 'E'; digits_end++) {
        has_point |= *digits_end == '.';
        point += !has_point;
    }
    /* An exponent this large moves the point out of any token. */
    for (e = digits_end + 1; e < end; e++) {
        minus |= *e == '-';
        if (*e >= '0' && *e <= '9' && exponent < 1000000)
            exponent = exponent * 10 + (*e - '0');
    }
    point += minus ? -exponent : exponent;
    for (; point > 0; point--) {
        if (digits < digits_end && *digits == '.')
            digits++;
        if (digits == digits_end && seconds == 0)
            return 0;
        seconds = seconds * 10 + (digits < digits_end ? *digits++ - '0' : 0);
        if (seconds > CP_TOKEN_EXP_MAX_S)
            return CP_TOKEN_EXP_MAX_S;
    }
    return seconds;
}

void cp_token_read(struct cp_json_doc *doc, struct buf *scratch, struct span authorization, struct cp_token *ret)
{
    const struct cp_json_node *claims, *exp;
    int r = scan_claims(doc, scratch, authorization, &claims);

    *ret = (struct cp_token){.is_jwt = r == 0, .has_exp = r == -ENOMEM};
    if (r < 0 || MUTANT("token-never-ends"))
        return;
    exp = cp_json_member(doc, claims, SPAN("exp"));
    ret->has_exp = exp != NULL;
    if (exp != NULL && exp->type == CP_JSON_NUMBER)
        ret->exp_s = whole_seconds(cp_json_raw(doc, exp));
}

static int add_size(struct buf *out, uint64_t size)
{
    unsigned char bytes[8];

    if (MUTANT("claims-run-together"))
        return 0;
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(size >> (8 * i));
    return buf_add(out, bytes, sizeof(bytes));
}

static int add_sized(struct buf *out, struct span bytes)
{
    int r = add_size(out, bytes.n);

    return r < 0 ? r : buf_add_span(out, bytes);
}

/* The claim's value and a letter for its type. 0, -ENOENT, -ENOMEM. */
static int claim_value(struct cp_json_doc *doc, const struct cp_json_node *claim, char *ret_type, struct span *ret)
{
    if (claim == NULL)
        return -ENOENT;
    switch ((enum cp_json_type)claim->type) {
    case CP_JSON_STRING:
        *ret_type = 's';
        *ret = cp_json_text(doc, claim);
        if (ret->p == NULL)
            return -ENOMEM;
        /* An empty name is everybody's who has none. */
        return ret->n == 0 ? -ENOENT : 0;
    case CP_JSON_NUMBER:
        *ret_type = 'n';
        *ret = cp_json_raw(doc, claim);
        return 0;
    case CP_JSON_FALSE:
    case CP_JSON_TRUE:
        *ret_type = 'b';
        *ret = cp_json_raw(doc, claim);
        return 0;
    case CP_JSON_NULL:
    case CP_JSON_ARRAY:
    case CP_JSON_OBJECT:
        break;
    }
    return -ENOENT;
}

int cp_token_claims(struct cp_json_doc *doc, struct buf *scratch, struct span authorization, char *const *names, size_t count,
                    struct buf *out)
{
    const struct cp_json_node *claims;
    size_t before = out->n;
    int r = count == 0 ? -ENOENT : scan_claims(doc, scratch, authorization, &claims);

    if (r == 0)
        r = add_size(out, count);
    for (size_t i = 0; i < count && r == 0; i++) {
        struct span value, name = span_of(names[i]);
        char type;

        r = claim_value(doc, cp_json_member(doc, claims, name), &type, &value);
        if (r == 0)
            r = add_sized(out, name);
        if (r == 0)
            r = buf_add(out, &type, 1);
        if (r == 0)
            r = add_sized(out, value);
    }
    if (r < 0)
        out->n = before;
    return r;
}
