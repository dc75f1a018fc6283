/* SPDX-License-Identifier: Apache-2.0 */
/* Values of a policy: words, durations, lists, and the sentences for those that are none.
 * Not here: which keys there are (policy_settings.c, policy_rules.c), YAML (tree.c).
 * Always: an error quotes the offending word and says what would be right. Thread: one parse, one reader. */
#include "reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "duration.h"

#define SUGGEST_MAX_BYTES 32

void cp_reader_error(struct cp_reader *reader, unsigned line, unsigned column, const char *format, ...)
{
    struct cp_error error;
    va_list args;

    reader->is_bad = true;
    va_start(args, format);
    vsnprintf(error.text, sizeof(error.text), format, args);
    va_end(args);
    /* A sentence of the pointer's or the template's quotes the text as it stands: one error is one line all the same. */
    for (char *c = error.text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    cp_errors_add(reader->errors, reader->file, line, column, "%s", error.text);
}

/* How many letters must be put in, taken out or changed. Both at most SUGGEST_MAX_BYTES. */
static size_t distance(struct span a, struct span b)
{
    size_t row[SUGGEST_MAX_BYTES + 1];

    for (size_t j = 0; j <= b.n; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            size_t change = diagonal + (a.p[i - 1] != b.p[j - 1]);
            size_t shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < shorter ? change : shorter;
        }
    }
    return row[b.n];
}

const char *cp_suggest(struct span word, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;

    if (word.n == 0 || word.n > SUGGEST_MAX_BYTES)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct span candidate = span_of(candidates[i]);
        if (candidate.n > SUGGEST_MAX_BYTES)
            continue;
        size_t d = distance(word, candidate);
        if (d < best_distance) {
            best_distance = d;
            best = candidates[i];
        }
    }
    return best_distance <= (word.n < 4 ? 1 : word.n < 8 ? 2 : 3) ? best : NULL;
}

/* "a, b or c" */
static void join(const char *const *words, size_t count, char *buffer, size_t size)
{
    size_t at = 0;

    buffer[0] = '\0';
    for (size_t i = 0; i < count && at < size; i++)
        at += (size_t)snprintf(buffer + at, size - at, "%s%s", i == 0 ? "" : i + 1 == count ? " or " : ", ", words[i]);
}

/* "unknown <what> 'x'; did you mean 'y'?", or the list of what there is. */
static void say_unknown(struct cp_reader *reader, unsigned line, unsigned column, const char *what, struct span word,
                        const char *const *candidates, size_t count)
{
    struct cp_quoted q;
    char all[220];
    const char *meant = cp_suggest(word, candidates, count);

    if (meant != NULL) {
        cp_reader_error(reader, line, column, "%s '%s'; did you mean '%s'?", what, cp_quote(word, &q), meant);
    } else {
        join(candidates, count, all, sizeof(all));
        cp_reader_error(reader, line, column, "%s '%s'; there is %s", what, cp_quote(word, &q), all);
    }
}

bool cp_read_map(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, const char *const *keys, size_t count,
                 const struct cp_tree_node **found)
{
    for (size_t i = 0; i < count; i++)
        found[i] = NULL;
    if (node->type == CP_TREE_NULL)
        return true;
    if (node->type != CP_TREE_MAP) {
        READER_ERROR(reader, node, "%s must be a mapping with keys such as '%s: ...'", what, keys[0]);
        return false;
    }
    for (const struct cp_tree_node *member = node->child; member != NULL; member = member->next) {
        size_t i = 0;
        while (i < count && !span_eq(member->name, span_of(keys[i])))
            i++;
        if (i < count) {
            if (found[i] == NULL) /* a second one has its error already */
                found[i] = member;
            continue;
        }
        char label[96];
        snprintf(label, sizeof(label), "unknown key in %s:", what);
        say_unknown(reader, member->name_line, member->name_column, label, member->name, keys, count);
    }
    return true;
}

bool cp_read_text(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, struct span *ret)
{
    if (node == NULL)
        return true;
    if (node->type != CP_TREE_WORD || node->text.n == 0) {
        READER_ERROR(reader, node, "'%s' must be a word, and not empty", what);
        return false;
    }
    *ret = node->text;
    return true;
}

static bool is_number(struct span text)
{
    size_t i = 0;

    while (i < text.n && ((text.p[i] >= '0' && text.p[i] <= '9') || text.p[i] == '.'))
        i++;
    return text.n > 0 && i == text.n;
}

bool cp_read_duration(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, int64_t *ret_ms)
{
    struct cp_quoted q;
    int64_t ms;

    if (node == NULL)
        return true;
    if (node->type != CP_TREE_WORD) {
        READER_ERROR(reader, node, "'%s' must be a duration such as 250ms, 10s, 5m or 1h30m", what);
        return false;
    }
    if (cp_duration_parse(node->text, &ms) < 0) {
        if (is_number(node->text))
            READER_ERROR(reader, node, "'%s: %s' has no unit: write %ss for seconds, or use ms, m or h", what,
                         cp_quote(node->text, &q), q.text);
        else
            READER_ERROR(reader, node, "'%s: %s' is no duration: write 250ms, 10s, 5m or 1h30m", what, cp_quote(node->text, &q));
        return false;
    }
    if (ms > CP_TTL_MAX_MS) {
        READER_ERROR(reader, node, "'%s: %s' is too long: 24h is the most that is allowed", what, cp_quote(node->text, &q));
        return false;
    }
    *ret_ms = ms;
    return true;
}

bool cp_is_off(const struct cp_tree_node *node)
{
    return node->type == CP_TREE_WORD &&
           (span_eq(node->text, SPAN("off")) || span_eq(node->text, SPAN("false")) || span_eq(node->text, SPAN("0")));
}

bool cp_read_bool(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, bool *ret)
{
    struct cp_quoted q;

    if (node == NULL)
        return true;
    if (node->type == CP_TREE_WORD) {
        if (span_eq(node->text, SPAN("true")) || span_eq(node->text, SPAN("on"))) {
            *ret = true;
            return true;
        }
        if (span_eq(node->text, SPAN("false")) || span_eq(node->text, SPAN("off"))) {
            *ret = false;
            return true;
        }
    }
    READER_ERROR(reader, node, "'%s: %s' must be true or false (or on, off)", what,
                 cp_quote(node->type == CP_TREE_WORD ? node->text : SPAN(""), &q));
    return false;
}

bool cp_read_word(struct cp_reader *reader, const struct cp_tree_node *node, const char *what, const char *const *words,
                  size_t count, unsigned *ret)
{
    if (node == NULL)
        return true;
    if (node->type == CP_TREE_WORD) {
        for (size_t i = 0; i < count; i++) {
            if (span_eq(node->text, span_of(words[i]))) {
                *ret = (unsigned)i;
                return true;
            }
        }
    }
    char all[128];
    struct cp_quoted q;
    join(words, count, all, sizeof(all));
    READER_ERROR(reader, node, "'%s: %s' must be %s", what, cp_quote(node->type == CP_TREE_WORD ? node->text : SPAN(""), &q), all);
    return false;
}

bool cp_read_list(struct cp_reader *reader, const struct cp_tree_node *node, const char *what,
                  const struct cp_tree_node **ret_first, size_t *ret_count)
{
    if (node == NULL || node->type == CP_TREE_NULL) {
        *ret_first = NULL;
        *ret_count = 0;
        return true;
    }
    if (node->type != CP_TREE_LIST) {
        struct cp_quoted q;
        if (node->type == CP_TREE_WORD)
            READER_ERROR(reader, node, "'%s' must be a list: write %s: [\"%s\"]", what, what, cp_quote(node->text, &q));
        else
            READER_ERROR(reader, node, "'%s' must be a list", what);
        return false;
    }
    *ret_first = node->child;
    *ret_count = node->count;
    return true;
}

bool cp_read_scope(struct cp_reader *reader, const struct cp_tree_node *node, enum cp_scope *ret, bool *ret_has)
{
    static const char *const words[] = {
        [CP_SCOPE_SESSION] = "session", [CP_SCOPE_PRINCIPAL] = "principal", [CP_SCOPE_PUBLIC] = "public"};
    unsigned at;

    if (node == NULL)
        return true;
    if (!cp_read_word(reader, node, "scope", words, sizeof(words) / sizeof(words[0]), &at))
        return false;
    *ret = (enum cp_scope)at;
    *ret_has = true;
    return true;
}

bool cp_read_observe(struct cp_reader *reader, const struct cp_tree_node *node, bool *ret)
{
    static const char *const words[] = {"enforce", "observe"};
    unsigned at;

    if (node == NULL)
        return true;
    if (!cp_read_word(reader, node, "mode", words, 2, &at))
        return false;
    *ret = at == 1;
    return true;
}

char *cp_reader_copy(struct cp_reader *reader, struct span text)
{
    char *p = malloc(text.n + 1);

    if (p == NULL) {
        reader->no_memory = true;
        return NULL;
    }
    if (text.n > 0)
        memcpy(p, text.p, text.n);
    p[text.n] = '\0';
    return p;
}
