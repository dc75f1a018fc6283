/* SPDX-License-Identifier: Apache-2.0 */
/* JSON scanner: one pass over strangers' bytes, validating (RFC 8259) and recording spans, never values.
 * Numbers keep their lexeme and strings their escapes, because a cache key made of rounded numbers or merged names
 * would answer one question with another's answer.
 * Thread: a doc belongs to whoever scans; reuse it to avoid allocation. */
#ifndef CP_JSON_H
#define CP_JSON_H

#include "bytes.h"

enum cp_json_type {
    CP_JSON_NULL,
    CP_JSON_FALSE,
    CP_JSON_TRUE,
    CP_JSON_NUMBER,
    CP_JSON_STRING,
    CP_JSON_ARRAY,
    CP_JSON_OBJECT,
};

/* Why a text was not accepted. Everything but CP_JSON_OK means: forward the bytes, make no key of them. */
enum cp_json_status {
    CP_JSON_OK,
    CP_JSON_SYNTAX,    /* not JSON, or bytes after its end, or a byte order mark */
    CP_JSON_UTF8,      /* invalid UTF-8 (overlong, surrogate code point, beyond U+10FFFF included) */
    CP_JSON_SURROGATE, /* \u escape of a lone surrogate */
    CP_JSON_NUL,       /* \u0000 */
    CP_JSON_DUPLICATE, /* an object names a member twice (compared after decoding escapes) */
    CP_JSON_DEEP,
    CP_JSON_MANY,  /* more nodes than the limit */
    CP_JSON_LARGE, /* text longer than 2^32-2 bytes */
    CP_JSON_NOMEM,
};

/* One recorded value. Offsets are bytes into the text. Node 0 is the root. */
struct cp_json_node {
    uint32_t start, end;           /* the value's own bytes; a string's with its quotes */
    uint32_t name_start, name_end; /* the member name without its quotes; both 0 outside objects */
    uint32_t next;                 /* next sibling, 0 = last */
    uint32_t child;                /* first element or member, 0 = none (or deeper than recorded) */
    uint32_t count;                /* how many elements or members */
    uint8_t type;                  /* enum cp_json_type */
    bool escaped;                  /* a string value with at least one backslash */
    bool name_escaped;
    bool skip; /* set and cleared around cp_canonical_marked by who calls it; false otherwise */
};

struct cp_json_limits {
    uint32_t depth;        /* containers inside each other; the root container is 1. Over it, or over 512: CP_JSON_DEEP */
    uint32_t record_depth; /* the root value is 1, its members 2; values nested deeper are validated for grammar and UTF-8
                              but not recorded and not checked for duplicate names, lone surrogates or \u0000; 0 = record
                              and check everything */
    uint32_t nodes;        /* recorded nodes at most. Over it: CP_JSON_MANY */
};

/* The request side: depth 64 unless the doc says otherwise, everything recorded and checked. */
extern const struct cp_json_limits cp_json_strict;
/* The reply side: depth 512, only the envelope, its members and theirs recorded (record_depth 3; cp_json_open for a _meta):
 * replies are replayed verbatim, so what lies deeper only has to be complete, well-formed JSON. */
extern const struct cp_json_limits cp_json_reply;

/* Zero-initialise once, scan many texts, free with cp_json_done. */
struct cp_json_doc {
    /* Set by its owner: how deep a body may be that cp_message_parse reads; 1..512, 0 = cp_json_strict's depth. It belongs to the doc, so that no
     * two readings of one body differ in it; cp_json_scan does not look at it. */
    uint32_t request_depth;
    struct span text; /* borrowed: must outlive every use of the nodes */
    struct cp_json_node *nodes;
    uint32_t count, cap;
    struct buf strings; /* decoded strings of the current text, each at its own offset in the text (decoding never
                           lengthens), so that none moves while the text is current and decoding twice costs no room; only p
                           and cap are used */
    struct buf scratch; /* for the scanner and the canonical writer */
};

/* Unless OK the doc holds no nodes. A doc that grew large is cut back by the next scan of a small text. */
enum cp_json_status cp_json_scan(struct cp_json_doc *doc, struct span text, const struct cp_json_limits *limits);
void cp_json_done(struct cp_json_doc *doc);
/* Records one more level: the members or elements of a container whose children the scan did not record, checked like all
 * that is recorded. Nodes may move: every node pointer taken before is invalid, *ret is the container itself (untouched
 * unless OK). What is no container, or is open, is returned as it is. */
enum cp_json_status cp_json_open(struct cp_json_doc *doc, const struct cp_json_node *container, const struct cp_json_node **ret);

/* The root value, or NULL when the last scan was not OK. */
const struct cp_json_node *cp_json_root(const struct cp_json_doc *doc);

/* Member by decoded name, or NULL. object may be NULL or no object: NULL. */
const struct cp_json_node *cp_json_member(const struct cp_json_doc *doc, const struct cp_json_node *object, struct span name);
/* First element or member, and the one after; NULL at the end. */
const struct cp_json_node *cp_json_first(const struct cp_json_doc *doc, const struct cp_json_node *container);
const struct cp_json_node *cp_json_next(const struct cp_json_doc *doc, const struct cp_json_node *node);
/* The value's bytes as they stand. */
struct span cp_json_raw(const struct cp_json_doc *doc, const struct cp_json_node *node);
/* A string's decoded bytes: a piece of the text when it has no escapes, else decoded into doc->strings (lives until the
 * next scan). Absent span when node is NULL, not a string, or memory ran out. */
struct span cp_json_text(struct cp_json_doc *doc, const struct cp_json_node *node);
struct span cp_json_name(struct cp_json_doc *doc, const struct cp_json_node *member);
/* A string whose decoded bytes are `text`. */
bool cp_json_is_text(const struct cp_json_doc *doc, const struct cp_json_node *node, struct span text);
/* True when two raw string tokens, quotes included, say the same after decoding. */
bool cp_json_same_text(struct span a, struct span b);

#endif
