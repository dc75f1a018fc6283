/* SPDX-License-Identifier: Apache-2.0 */
/* Rewriting by copying: bytes are left out or taken over, never written anew. Not here: which ids are ours (the runtime). Thread: whoever owns the doc. */
#include "rewrite.h"

#include <errno.h>

#include "inside.h"

static bool is_of_one_exchange(struct span name, void *ctx)
{
    static const struct span names[] = {
        SPAN_OF("progressToken"), SPAN_OF("io.modelcontextprotocol/logLevel"), SPAN_OF("traceparent"), SPAN_OF("tracestate"),
        SPAN_OF("baggage"),
    };

    (void)ctx;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (span_eq(name, names[i]))
            return true;
    }
    return false;
}

static void copy_to(struct buf *out, const char **at, const char *to)
{
    buf_add(out, *at, (size_t)(to - *at));
    *at = to;
}

int cp_message_rewrite(const struct cp_message *message, struct span id, struct buf *out)
{
    struct cp_json_doc *doc = message->doc;
    const char *at = doc->text.p, *end = doc->text.p + doc->text.n, *meta;
    bool id_comes_first;
    int r;

    if (message->kind != CP_KIND_REQUEST || cp_json_root(doc) == NULL || cp_json_root(doc)->type != CP_JSON_OBJECT)
        return -EINVAL;
    /* The one reservation, so that what follows cannot fail. */
    r = buf_reserve(out, doc->text.n + id.n);
    if (r < 0)
        return r;
    meta = message->meta != NULL ? cp_json_raw(doc, message->meta).p : end;
    id_comes_first = message->id.p < meta;
    for (int part = 0; part < 2; part++) {
        if (id_comes_first == (part == 0)) {
            copy_to(out, &at, message->id.p);
            buf_add_span(out, id);
            at += message->id.n;
        } else if (message->meta != NULL) {
            json_copy_without(doc, message->meta, is_of_one_exchange, NULL, &at, out);
        }
    }
    copy_to(out, &at, end);
    return 0;
}

int cp_message_add_meta(const struct cp_message *message, struct buf *out)
{
    struct cp_json_doc *doc = message->doc;
    struct span raw = cp_json_raw(doc, message->meta);
    const char *at;
    int r;

    if (message->meta == NULL)
        return 0;
    at = raw.p + 1;
    r = buf_reserve(out, raw.n);
    if (r < 0)
        return r;
    json_copy_without(doc, message->meta, is_of_one_exchange, NULL, &at, out);
    copy_to(out, &at, raw.p + raw.n - 1);
    return 0;
}
