/* SPDX-License-Identifier: Apache-2.0 */
/* What the right answer to a question is, so that whoever counts answers can tell a right one from a wrong one, to the byte. A text of `size` bytes is
 *   TOOL#HASH/SIZE/WHO PATTERN...
 * HASH is of the tool, the bytes of its arguments and WHO; the pattern is one long fixed text that is read from a place that HASH gives. WHO is the caller's token for tools
 * that are called my_*, whose answers are nobody else's; "-" for all others. bench/lib/content.mjs and bench/peers/fastmcp/server.py say the same in their languages. */
#ifndef BENCH_CONTENT_H
#define BENCH_CONTENT_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define CONTENT_MAX   (4 << 20)
#define CONTENT_SHIFT 4096
#define MARK_MAX      256
#define LIST_TOOLS    40

static char content_pattern[CONTENT_MAX + CONTENT_SHIFT];

static inline void content_init(void)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t x = 2463534242u;

    for (size_t i = 0; i < sizeof(content_pattern); i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        content_pattern[i] = alphabet[x & 63];
    }
}

static inline uint32_t content_hash(uint32_t hash, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)bytes[i]) * 16777619u;
    return hash;
}

struct content {
    char mark[MARK_MAX];
    size_t mark_bytes;
    const char *rest;
    size_t rest_bytes;
};

static inline int content_is_private(const char *tool, size_t tool_bytes)
{
    return tool_bytes > 3 && memcmp(tool, "my_", 3) == 0;
}

static inline void content_of(struct content *c, const char *tool, size_t tool_bytes, const char *arguments, size_t argument_bytes,
                              const char *who, size_t who_bytes, size_t size)
{
    uint32_t hash = content_hash(2166136261u, tool, tool_bytes);
    int n;

    if (!content_is_private(tool, tool_bytes)) {
        who = "-";
        who_bytes = 1;
    }
    hash = content_hash(hash, " ", 1);
    hash = content_hash(hash, arguments, argument_bytes);
    hash = content_hash(hash, " ", 1);
    hash = content_hash(hash, who, who_bytes);
    n = snprintf(c->mark, MARK_MAX, "%.*s#%08x/%zu/%.*s ", (int)tool_bytes, tool, hash, size, (int)who_bytes, who);
    c->mark_bytes = n < MARK_MAX ? (size_t)n : MARK_MAX - 1;
    c->rest = content_pattern + hash % CONTENT_SHIFT;
    c->rest_bytes = size > c->mark_bytes ? size - c->mark_bytes : 0;
}

/* The "tools" of tools/list. */
static inline size_t content_tools(char *ret, size_t size)
{
    size_t n = 1;

    ret[0] = '[';
    for (int i = 0; i < LIST_TOOLS; i++)
        n += (size_t)snprintf(
            ret + n, size - n,
            "%s{\"name\":\"get_%d\",\"description\":\"%.300s\",\"inputSchema\":{\"type\":\"object\",\"properties\":"
            "{\"key\":{\"type\":\"string\"},\"size\":{\"type\":\"integer\"}}},\"annotations\":{\"readOnlyHint\":true}}",
            i == 0 ? "" : ",", i, content_pattern + i * 300);
    ret[n++] = ']';
    return n;
}

#endif
