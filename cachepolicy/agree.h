/* SPDX-License-Identifier: Apache-2.0 */
/* Headers against body (2026-07-28 basic/transports/streamable-http, "Server Validation"): before a hit is answered from
 * the body, the headers that mirror it must say the same, because the upstream would have refused the request otherwise.
 * Pure; thread: any. */
#ifndef CP_AGREE_H
#define CP_AGREE_H

#include "message.h"

enum cp_agreement {
    CP_AGREES,
    CP_AGREE_MISSING,  /* a required header is absent */
    CP_AGREE_MISMATCH, /* a header says something else, is repeated, or cannot be decoded */
};

/* Mirror headers as they came, values untrimmed. A header that came twice sets `repeated`. */
struct cp_mirror {
    struct span version; /* MCP-Protocol-Version; absent when missing */
    struct span method;  /* Mcp-Method */
    struct span name;    /* Mcp-Name */
    bool repeated;       /* one of these, Mcp-Session-Id or an Mcp-Param-* came more than once */
};

/* Modern requests: version, method, and (tools/call, prompts/get, resources/read, tasks/get|update|cancel) name must be
 * present and equal after trimming OWS; name is decoded too (the specification encodes only Mcp-Name and Mcp-Param-*).
 * Values are case-sensitive. Legacy, and messages that are no requests: only `repeated` counts. *ret_header names the
 * offending header (static string; "Mcp-*" for a repeated one) and is untouched when CP_AGREES. Memory that runs out is a
 * mismatch: the upstream then decides. */
enum cp_agreement cp_agree(const struct cp_message *message, const struct cp_mirror *mirror, const char **ret_header);

/* Whether Mcp-Name mirrors something of this message; elsewhere nothing compares the header. */
bool cp_mirrors_name(const struct cp_message *message);

/* Decodes a mirrored value: trims OWS; "=?base64?…?=" (exact, lowercase) is standard padded Base64 of UTF-8 (canonical:
 * unused bits are 0), anything else is literal. Appends to out. 0, -EINVAL (bad Base64, or not UTF-8 after decoding),
 * -ENOMEM; out is unchanged unless 0. */
int cp_mirror_decode(struct span value, struct buf *out);

/* The value that cp_mirror_decode reads as text: printable ASCII that is not encoded, has no blank at either end and does not look encoded, as it is; all else in Base64.
 * Appends to out. 0 or -ENOMEM; out is unchanged unless 0. */
int cp_mirror_encode(struct span text, struct buf *out);

/* One Mcp-Param-* header. */
struct cp_mirror_param {
    struct span name;  /* after "Mcp-Param-"; compared case-insensitively */
    struct span value; /* as it came */
};

/* Appends the sorted, decoded set in a form that no other set can produce (lower-cased name and value, each with its
 * length). Sorts params in place. A value that does not decode is taken literally and marked so (the upstream will refuse
 * it; it must only differ). 0 or -ENOMEM; out is unchanged unless 0. */
int cp_mirror_params(struct cp_mirror_param *params, size_t count, struct buf *out);

#endif
