/* SPDX-License-Identifier: Apache-2.0 */
/* What the scanner and those who write from its spans share. Not for use outside of cachepolicy/. */
#ifndef CP_INSIDE_H
#define CP_INSIDE_H

#include "json.h"

/* Length of the well-formed UTF-8 sequence at p (1..4; RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF), 0
 * when there is none before end. p < end. */
static inline unsigned utf8_sequence(const char *p, const char *end)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t n = (size_t)(end - p);
    unsigned char low = 0x80, high = 0xbf;

    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xc2)
        return 0;
    if (s[0] < 0xe0)
        return n >= 2 && (s[1] & 0xc0) == 0x80 ? 2 : 0;
    if (s[0] < 0xf0) {
        if (s[0] == 0xe0)
            low = 0xa0;
        else if (s[0] == 0xed)
            high = 0x9f;
        return n >= 3 && s[1] >= low && s[1] <= high && (s[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    if (s[0] > 0xf4)
        return 0;
    if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    return n >= 4 && s[1] >= low && s[1] <= high && (s[2] & 0xc0) == 0x80 && (s[3] & 0xc0) == 0x80 ? 4 : 0;
}

/* Decodes the escape at *p (its backslash), moves *p past it (never past end) and writes its 1..4 bytes of UTF-8. The scan
 * has found the escape valid; what it has not seen decodes to something, within the same bounds. Returns how many bytes. */
unsigned json_unescape(const char **p, const char *end, char ret[4]);

/* Appends the text from *at to the end of the object's last member that is named `goes`, without these members and one comma each, and moves *at
 * behind it; without any, neither moves. An array's elements go by their own text (absent: no string). Each is asked for once, in order. *at stands before the
 * members, and out has room for the text from there. */
void json_copy_without(struct cp_json_doc *doc, const struct cp_json_node *container, bool (*goes)(struct span name, void *ctx),
                       void *ctx, const char **at, struct buf *out);

/* A member that an object shall have. */
struct json_set {
    struct span name, value; /* name: needs no escapes; value: JSON */
    uint32_t start, end;     /* what gives way to value within the member that is there; both 0: there is none */
};

/* Appends the text from *at to the last of these places within the object, with the sets made: a new member stands first, in the order of sets. Moves *at behind it;
 * without any, neither moves. *at stands before the object's members, and out has room (json_set_room beside the text). */
void json_copy_set(struct cp_json_doc *doc, const struct cp_json_node *object, const struct json_set *sets, size_t count,
                   const char **at, struct buf *out);
static inline size_t json_set_room(const struct json_set *sets, size_t count)
{
    size_t room = 0;

    for (size_t i = 0; i < count; i++)
        room += sets[i].name.n + sets[i].value.n + sizeof("\"\":,") - 1;
    return room;
}

/* Appends the string token of these decoded bytes, as the canonical form has it. What is no UTF-8, and NUL, becomes U+FFFD, so that it is a token that the
 * scanner reads, whatever the bytes. 0 or -ENOMEM; out is unchanged then. */
int json_add_text(struct buf *out, struct span text);

/* Bytes of a name, for order and equality: the first eight, big-endian, zero-padded. Equal prefixes decide nothing. */
struct member {
    uint64_t prefix;
    uint32_t node;
};

/* Lays the members of an object, sorted by the bytes of their decoded names, on top of doc->scratch: count items from
 * offset *ret_at. The caller takes them off by setting doc->scratch.n = *ret_at; scratch may move at every further call.
 * O(n log n) whatever the names are. 0 or -ENOMEM. */
int members_sort(struct cp_json_doc *doc, uint32_t object, size_t *ret_at);
static inline const struct member *members_at(const struct cp_json_doc *doc, size_t at)
{
    return (const struct member *)(doc->scratch.p + at);
}

/* The first eight bytes of s as in struct member; reads nothing beyond `limit`. */
static inline uint64_t name_prefix(struct span s, const char *limit)
{
    uint64_t word = 0;

    if (limit - s.p >= 8)
        memcpy(&word, s.p, 8);
    else
        memcpy(&word, s.p, s.n < 8 ? s.n : 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    if (s.n == 0)
        return 0;
    return s.n < 8 ? word & ~(UINT64_MAX >> (8 * s.n)) : word;
}

#endif
