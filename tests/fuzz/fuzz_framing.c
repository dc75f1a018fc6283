/* SPDX-License-Identifier: Apache-2.0 */
/* Request heads. Input: what a client sends. Always: the answer is the same however the bytes were cut; and libh2o's own parser, which is the one that acts, reads
 * a clear head exactly as the scan does: same end, one length or coding or none, one host, no folded field. */
#include "fuzz.h"
#include "portions.h"

#include "sidecar/wire/framing.h"

/* of libh2o, which delivers no header for it */
struct phr_header {
    const char *name;
    size_t name_len;
    const char *value;
    size_t value_len;
};
int phr_parse_request(const char *bytes, size_t n, const char **method, size_t *method_bytes, const char **path, size_t *path_bytes,
                      int *minor_version, struct phr_header *headers, size_t *header_count, size_t last_n);

#define HEADERS_MAX 100 /* H2O_MAX_HEADERS */

static void check_beginnings(struct span bytes, enum framing whole, size_t head_bytes)
{
    struct portions portions = portions_begin(3, (uint8_t)bytes.n);

    for (size_t n = 0; n < bytes.n; n += portions_next(&portions, bytes.n - n)) {
        struct span begin = exactly((struct span){bytes.p, n});
        struct framing_head head = {0};
        enum framing r = framing_scan(begin, &head);

        free((char *)begin.p);
        if (whole == FRAMING_CLEAR)
            must(r == (n < head_bytes ? FRAMING_INCOMPLETE : FRAMING_CLEAR) && (n < head_bytes || head.bytes == head_bytes));
        else
            must(r == FRAMING_INCOMPLETE || r == whole);
    }
}

static unsigned count(const struct phr_header *headers, size_t n, const char *name)
{
    unsigned found = 0;

    for (size_t i = 0; i < n; i++)
        found += span_ieq((struct span){headers[i].name, headers[i].name_len}, span_of(name));
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes = exactly((struct span){(const char *)data, size});
    struct framing_head head = {0};
    enum framing r = framing_scan(bytes, &head);
    struct phr_header headers[HEADERS_MAX];
    size_t header_count = HEADERS_MAX, method_bytes, path_bytes;
    const char *method, *path;
    int minor_version;
    int used =
        phr_parse_request(bytes.p, bytes.n, &method, &method_bytes, &path, &path_bytes, &minor_version, headers, &header_count, 0);

    must(r <= FRAMING_HOSTS && framing_word(r) != NULL);
    check_beginnings(bytes, r, head.bytes);
    if (r == FRAMING_INCOMPLETE)
        must(used < 0);
    if (r == FRAMING_CLEAR) {
        unsigned lengths, codings, hosts;

        must(head.bytes >= sizeof("G * HTTP/1.0\r\n\r\n") - 1 && head.bytes <= bytes.n &&
             memcmp(bytes.p + head.bytes - 4, "\r\n\r\n", 4) == 0);
        must((used > 0 && (size_t)used == head.bytes) || (used == -1 && header_count == HEADERS_MAX));
        if (used > 0) {
            must(minor_version == 0 || minor_version == 1);
            must(method_bytes != 0 && path_bytes != 0);
            for (size_t i = 0; i < header_count; i++)
                must(headers[i].name != NULL && headers[i].name_len != 0);
            lengths = count(headers, header_count, "content-length");
            codings = count(headers, header_count, "transfer-encoding");
            hosts = count(headers, header_count, "host");
            must(lengths + codings <= 1 && head.is_chunked == (codings == 1));
            must(hosts == 1 || (hosts == 0 && minor_version == 0));
            must(codings == 0 || minor_version == 1);
        }
    }
    free((char *)bytes.p);
    return 0;
}
