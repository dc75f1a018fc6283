/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in our own name. Always: a request becomes a request with the id that was asked for, of the same method and era and with the same canonical
 * params; by jansson's reading it is the request, less the id and what is bound to one exchange; doing it twice changes nothing; the _meta that stays, put between
 * braces, is what the rewritten request has there. */
#include "fuzz.h"

#include <errno.h>
#include <jansson.h>

#include "cachepolicy/rewrite.h"

static struct cp_json_doc doc = {.request_depth = 512}, again = {.request_depth = 512};

static struct span rewritten(const struct cp_message *message, struct span id)
{
    struct buf out = {0};
    struct span exact;

    must(cp_message_rewrite(message, id, &out) == 0);
    exact = exactly(buf_span(&out));
    buf_done(&out);
    return exact;
}

static void check_canonical(const struct cp_message *a, const struct cp_message *b)
{
    struct buf one = {0}, other = {0};

    must(cp_message_canonical(a, NULL, 0, &one) == 0);
    must(cp_message_canonical(b, NULL, 0, &other) == 0);
    must(span_eq(buf_span(&one), buf_span(&other)));
    buf_done(&one);
    buf_done(&other);
}

static void check_by_jansson(struct span before, struct span after)
{
    static const char *const names[] = {"progressToken", "io.modelcontextprotocol/logLevel", "traceparent", "tracestate",
                                        "baggage"};
    json_error_t error;
    json_t *one = json_loadb(before.p, before.n, JSON_ALLOW_NUL, &error),
           *other = json_loadb(after.p, after.n, JSON_ALLOW_NUL, &error);
    json_t *meta = json_object_get(json_object_get(one, "params"), "_meta");

    /* what went may have held the number that was too big for jansson */
    must(one == NULL || other != NULL);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        json_object_del(meta, names[i]);
    if (one != NULL) {
        json_object_set_new(one, "id", json_string("own"));
        must(json_equal(one, other));
    }
    json_decref(one);
    json_decref(other);
}

static void check_meta(const struct cp_message *message, const struct cp_message *other)
{
    struct buf members = {0};

    must(cp_message_add_meta(message, &members) == 0);
    must((message->meta == NULL) == (other->meta == NULL));
    if (other->meta != NULL) {
        struct span raw = cp_json_raw(other->doc, other->meta);

        must(span_eq(buf_span(&members), (struct span){raw.p + 1, raw.n - 2}));
    } else {
        must(members.n == 0);
    }
    buf_done(&members);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span body = exactly((struct span){(const char *)data, size}), own, twice;
    struct cp_message message, other;
    struct buf out = {0};

    cp_message_parse(&message, &doc, body);
    if (message.kind != CP_KIND_REQUEST) {
        must(cp_message_rewrite(&message, SPAN("\"own\""), &out) == -EINVAL && out.n == 0);
        free((char *)body.p);
        return 0;
    }
    own = rewritten(&message, SPAN("\"own\""));
    cp_message_parse(&other, &again, own);
    must(other.kind == CP_KIND_REQUEST && span_eq(other.id, SPAN("\"own\"")));
    must(other.method == message.method && other.era == message.era && other.is_malformed == message.is_malformed);
    must(span_eq(other.name, message.name) && span_eq(other.method_text, message.method_text));
    check_canonical(&message, &other);
    check_by_jansson(body, own);
    check_meta(&message, &other);
    twice = rewritten(&other, SPAN("\"own\""));
    must(span_eq(own, twice));
    free((char *)twice.p);
    free((char *)own.p);
    free((char *)body.p);
    return 0;
}
