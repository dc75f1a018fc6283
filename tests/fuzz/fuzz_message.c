/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: nothing is read outside of the body, what is understood is consistent, and the canonical form of params is
 * blind to what is inert, to blanks, to the order of members and to the way strings are written. */
#include "fuzz.h"

#include <jansson.h>

#include "cachepolicy/canonical.h"
#include "cachepolicy/message.h"
#include "cachepolicy/pointer.h"

static struct cp_json_doc doc, again;

static bool lies_in(struct span piece, struct span whole)
{
    return piece.p == NULL || (piece.p >= whole.p && piece.p + piece.n <= whole.p + whole.n);
}

/* The body in canonical order means the same message. */
static void check_rewritten(const struct cp_message *message, const struct cp_pointer *ignore)
{
    struct buf body = {0}, form = {0}, other_form = {0};
    struct cp_message other;
    struct span name, method, version;

    must(cp_canonical(&doc, cp_json_root(&doc), NULL, 0, &body) == 0);
    cp_message_parse(&other, &again, buf_span(&body));
    must(other.kind == message->kind && other.method == message->method && other.era == message->era);
    must(other.is_malformed == message->is_malformed && other.is_task == message->is_task);
    must(other.is_continuation == message->is_continuation);
    name = message->name;
    method = message->method_text;
    version = message->version;
    must(span_eq(other.name, name) && (other.name.p == NULL) == (name.p == NULL));
    must(span_eq(other.method_text, method) && span_eq(other.version, version));
    must(cp_message_canonical(message, ignore, 2, &form) == 0);
    must(cp_message_canonical(&other, ignore, 2, &other_form) == 0);
    must(span_eq(buf_span(&form), buf_span(&other_form)));
    buf_done(&body);
    buf_done(&form);
    buf_done(&other_form);
}

/* Inert members come and go without a trace; any other one leaves one. */
static void check_inert(const struct cp_message *message)
{
    static const char *const members[] = {"\"progressToken\":1", "\"trace\\u0070arent\":{}",
                                          "\"io.modelcontextprotocol/clientInfo\":null", "\"com.example/x\":0"};
    struct span body = doc.text, meta = cp_json_raw(&doc, message->meta);
    size_t head = (size_t)(meta.p - body.p) + 1;
    struct buf form = {0};

    must(cp_message_canonical(message, NULL, 0, &form) == 0);
    for (int i = 0; i < 4; i++) {
        struct buf changed = {0}, other_form = {0};
        struct cp_message other;

        must(buf_add(&changed, body.p, head) == 0);
        must(buf_add_span(&changed, span_of(members[i])) == 0);
        if (message->meta->count > 0)
            must(buf_add(&changed, ",", 1) == 0);
        must(buf_add(&changed, body.p + head, body.n - head) == 0);
        cp_message_parse(&other, &again, buf_span(&changed));
        if (other.kind != CP_KIND_OPAQUE) { /* else the member was there already */
            must(cp_message_canonical(&other, NULL, 0, &other_form) == 0);
            must(span_eq(buf_span(&form), buf_span(&other_form)) == (i < 3));
        }
        buf_done(&changed);
        buf_done(&other_form);
    }
    buf_done(&form);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cp_pointer ignore[2];
    struct span body = exactly((struct span){(const char *)data, size});
    struct cp_message message;

    if (ignore[0].text == NULL) {
        must(cp_pointer_parse(SPAN("/a"), &ignore[0], NULL) == 0);
        must(cp_pointer_parse(SPAN("/b/0"), &ignore[1], NULL) == 0);
    }
    cp_message_parse(&message, &doc, body);
    must(lies_in(message.id, body) && lies_in(message.client_info, body));
    switch (message.kind) {
    case CP_KIND_OPAQUE:
        must(message.id.p == NULL && message.params == NULL);
        break;
    case CP_KIND_BATCH:
        must(cp_json_root(&doc)->type == CP_JSON_ARRAY);
        break;
    case CP_KIND_REQUEST:
        must(message.id.n > 0);
        __attribute__((fallthrough));
    case CP_KIND_NOTIFICATION:
        must(message.method_text.p != NULL);
        must((message.era == CP_ERA_MODERN) == (message.version.p != NULL) || message.is_malformed);
        check_rewritten(&message, ignore);
        if (message.meta != NULL && !message.is_malformed)
            check_inert(&message);
        break;
    case CP_KIND_RESPONSE:
        must(message.method_text.p == NULL && message.params == NULL);
        break;
    }
    free((char *)body.p);
    return 0;
}
