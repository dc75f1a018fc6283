/* SPDX-License-Identifier: Apache-2.0 */
/* Notices. Always: nothing is read outside of the text; what jansson reads as a notification of ours (of two members of one name it takes the last, as most
 * readers do) is told, with the same URI; a text without the letters of one tells none. */
#include "fuzz.h"

#include <jansson.h>
#include <strings.h>

#include "cachepolicy/notice.h"

static const char *const methods[] = {
    [CP_NOTICE_TOOLS_LIST_CHANGED] = "notifications/tools/list_changed",
    [CP_NOTICE_PROMPTS_LIST_CHANGED] = "notifications/prompts/list_changed",
    [CP_NOTICE_RESOURCES_LIST_CHANGED] = "notifications/resources/list_changed",
    [CP_NOTICE_RESOURCE_UPDATED] = "notifications/resources/updated",
};

struct told {
    bool kinds[4];
    bool any, unknown;
    struct buf uris; /* each with its length */
};

static void on_notice(void *ctx, const struct cp_notice *notice)
{
    struct told *told = ctx;

    must((unsigned)notice->kind < 4);
    told->any = told->kinds[notice->kind] = true;
    must(notice->kind == CP_NOTICE_RESOURCE_UPDATED || notice->uri.p == NULL);
    if (notice->kind == CP_NOTICE_RESOURCE_UPDATED && notice->uri.p == NULL)
        told->unknown = true;
    if (notice->uri.p != NULL) {
        must(buf_add(&told->uris, &notice->uri.n, sizeof(notice->uri.n)) == 0);
        must(buf_add_span(&told->uris, notice->uri) == 0);
    }
}

static bool has_uri(const struct told *told, struct span uri)
{
    for (size_t at = 0; at < told->uris.n;) {
        struct span one;

        memcpy(&one.n, told->uris.p + at, sizeof(one.n));
        one.p = told->uris.p + at + sizeof(one.n);
        if (span_eq(one, uri))
            return true;
        at += sizeof(one.n) + one.n;
    }
    return false;
}

static void check_message(const struct told *told, const json_t *message)
{
    const char *method = json_string_value(json_object_get(message, "method"));
    const json_t *id = json_object_get(message, "id"), *uri = json_object_get(json_object_get(message, "params"), "uri");

    if (method == NULL || (id != NULL && !json_is_null(id)))
        return;
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(method, methods[i]) != 0 || json_string_length(json_object_get(message, "method")) != strlen(method))
            continue;
        must(told->kinds[i]);
        if (i == CP_NOTICE_RESOURCE_UPDATED && json_is_string(uri))
            must(has_uri(told, (struct span){json_string_value(uri), json_string_length(uri)}));
        else if (i == CP_NOTICE_RESOURCE_UPDATED)
            must(told->unknown || told->uris.n > 0);
    }
}

static bool may_be_one(struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\\' || (text.n - i >= 13 && strncasecmp(text.p + i, "notifications", 13) == 0))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = exactly((struct span){(const char *)data, size});
    struct buf scratch = {0};
    struct told told = {0};
    json_error_t error;
    json_t *root, *message;
    size_t i;

    must(cp_notices_read(&scratch, text, on_notice, &told) == 0);
    must(!told.any || may_be_one(text));
    root = json_loadb(text.p, text.n, JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK, &error);
    if (json_is_object(root))
        check_message(&told, root);
    json_array_foreach(root, i, message) check_message(&told, message);
    json_decref(root);
    buf_done(&told.uris);
    buf_done(&scratch);
    free((char *)text.p);
    return 0;
}
