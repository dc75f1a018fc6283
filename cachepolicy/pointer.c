/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Pointers: parsing and resolving.
 * Not here: what is left out of a key (canonical.c), templates (template.c). Thread: any. */
#include "pointer.h"

#include <errno.h>
#include <stdlib.h>

int cp_pointer_parse(struct span text, struct cp_pointer *ret, struct cp_error *reterr)
{
    struct cp_pointer pointer = {0};
    size_t count = 0;
    char *to;

    if (text.n > 0 && text.p[0] != '/') {
        cp_error_set(reterr, "", 0, 0, "JSON Pointer '%.*s' must be empty or begin with '/'", (int)(text.n < 100 ? text.n : 100),
                     text.p);
        return -EINVAL;
    }
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '/')
            count++;
        if (text.p[i] == '\0') {
            cp_error_set(reterr, "", 0, 0, "JSON Pointer '%.*s' contains a NUL", (int)(i < 100 ? i : 100), text.p);
            return -EINVAL;
        }
        if (text.p[i] == '~' && (i + 1 == text.n || (text.p[i + 1] != '0' && text.p[i + 1] != '1'))) {
            cp_error_set(reterr, "", 0, 0, "JSON Pointer '%.*s' has a '~' that is neither '~0' (for '~') nor '~1' (for '/')",
                         (int)(text.n < 100 ? text.n : 100), text.p);
            return -EINVAL;
        }
    }
    pointer.text = malloc(text.n + 1);
    pointer.decoded = malloc(text.n + 1);
    pointer.tokens = calloc(count + 1, sizeof(*pointer.tokens));
    if (pointer.text == NULL || pointer.decoded == NULL || pointer.tokens == NULL) {
        cp_pointer_done(&pointer);
        return -ENOMEM;
    }
    if (text.n > 0)
        memcpy(pointer.text, text.p, text.n);
    pointer.text[text.n] = '\0';
    to = pointer.decoded;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '/') {
            pointer.tokens[pointer.count++].p = to;
            continue;
        }
        if (text.p[i] == '~')
            *to++ = text.p[++i] == '0' ? '~' : '/';
        else
            *to++ = text.p[i];
        pointer.tokens[pointer.count - 1].n++;
    }
    *ret = pointer;
    return 0;
}

void cp_pointer_done(struct cp_pointer *pointer)
{
    free(pointer->text);
    free(pointer->tokens);
    free(pointer->decoded);
    *pointer = (struct cp_pointer){0};
}

static const struct cp_json_node *element(struct cp_json_doc *doc, const struct cp_json_node *array, struct span token)
{
    const struct cp_json_node *node;
    uint64_t index = 0;

    if (token.n == 0 || token.n > 10 || (token.p[0] == '0' && token.n > 1))
        return NULL;
    for (size_t i = 0; i < token.n; i++) {
        if (token.p[i] < '0' || token.p[i] > '9')
            return NULL;
        index = index * 10 + (uint64_t)(token.p[i] - '0');
    }
    if (index >= array->count)
        return NULL;
    node = cp_json_first(doc, array);
    while (index-- > 0 && node != NULL)
        node = cp_json_next(doc, node);
    return node;
}

const struct cp_json_node *cp_pointer_get(struct cp_json_doc *doc, const struct cp_json_node *root,
                                          const struct cp_pointer *pointer)
{
    const struct cp_json_node *node = root;

    for (size_t i = 0; i < pointer->count && node != NULL; i++) {
        if (node->type == CP_JSON_ARRAY)
            node = element(doc, node, pointer->tokens[i]);
        else
            node = cp_json_member(doc, node, pointer->tokens[i]);
    }
    return node;
}
