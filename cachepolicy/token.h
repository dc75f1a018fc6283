/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens: what the JWT of an Authorization header says of itself (RFC 6750, RFC 7519), read WITHOUT verifying it. Nobody here knows the
 * issuer's key, so whoever wrote the token may have written anything. What it says may therefore only shorten (its exp), or, where the operator
 * asks for it, name a principal whose admission the upstream proves for the exact token.
 * Pure; thread: any. */
#ifndef CP_TOKEN_H
#define CP_TOKEN_H

#include "json.h"

/* Longer tokens are not looked into. */
#define CP_TOKEN_MAX_BYTES ((size_t)16 * 1024)
/* The latest exp_s: in milliseconds it still fits int64_t. */
#define CP_TOKEN_EXP_MAX_S (INT64_MAX / 1000)

struct cp_token {
    bool is_jwt;
    bool has_exp;
    int64_t exp_s; /* seconds since 1970, 0..CP_TOKEN_EXP_MAX_S, fractions cut off; 0 unless has_exp */
};

/* authorization: the header's value, absent when there is none. A JWT is "Bearer" (any case), blanks and three parts of base64url without padding
 * (RFC 7515; the signature may be empty), the second one a JSON object that the strict scan accepts. exp may be any JSON number (RFC 7519
 * NumericDate); a negative one is 0, a huge one CP_TOKEN_EXP_MAX_S. An exp of another type counts as 0, long past, and so does every token when
 * memory runs out. scratch: overwritten; doc: scanned into, borrows from scratch. */
void cp_token_read(struct cp_json_doc *doc, struct buf *scratch, struct span authorization, struct cp_token *ret);

/* Appends the named top-level claims, in the order of names, in a form that no other list of names and values can produce (how many; of each its
 * name, its type, its value, with their lengths). Values are strings (decoded, not empty), numbers (by lexeme) or booleans. -ENOENT when it is no
 * JWT, names is empty, or a claim is missing or of another kind. 0, -ENOENT, -ENOMEM; out is unchanged unless 0. scratch, doc: as above; out is
 * not scratch. */
int cp_token_claims(struct cp_json_doc *doc, struct buf *scratch, struct span authorization, char *const *names, size_t count,
                    struct buf *out);

#endif
