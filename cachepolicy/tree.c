/* SPDX-License-Identifier: Apache-2.0 */
/* Trees: YAML events (or the nodes of a JSON text) turned into mappings, lists and words with their places.
 * Not here: what any key means (policy.c and its neighbours).
 * Always: no anchors and no aliases, so a tree is never larger than its text; bounded depth; one document; a mapping never has a name twice unnoticed.
 * JSON goes through our own scanner first: libyaml reads most JSON, but not surrogate pairs, long keys or a ':' on the next line. Thread: the caller's. */
#include "tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "inside.h"
#include "policy.h"

#define DEPTH_MAX   16
#define NODES_MAX   65536
#define BLOCK_BYTES ((size_t)16 * 1024)

/* ---- memory: many small pieces, freed together ------------------------------------------------------------------------- */

struct cp_tree_block {
    struct cp_tree_block *next;
    size_t used, size;
    _Alignas(max_align_t) char bytes[];
};

static void *tree_alloc(struct cp_tree *tree, size_t n)
{
    struct cp_tree_block *block = tree->blocks;

    n = (n + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
    if (block == NULL || block->size - block->used < n) {
        size_t size = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        block = malloc(sizeof(*block) + size);
        if (block == NULL)
            return NULL;
        block->next = tree->blocks;
        block->used = 0;
        block->size = size;
        tree->blocks = block;
    }
    void *p = block->bytes + block->used;
    block->used += n;
    memset(p, 0, n);
    return p;
}

static int tree_copy(struct cp_tree *tree, struct span from, struct span *ret)
{
    char *p = tree_alloc(tree, from.n + 1);

    if (p == NULL)
        return -ENOMEM;
    if (from.n > 0)
        memcpy(p, from.p, from.n);
    *ret = (struct span){p, from.n};
    return 0;
}

void cp_tree_done(struct cp_tree *tree)
{
    if (tree == NULL)
        return;
    for (struct cp_tree_block *block = tree->blocks; block != NULL;) {
        struct cp_tree_block *next = block->next;
        free(block);
        block = next;
    }
    *tree = (struct cp_tree){0};
}

/* ---- places ------------------------------------------------------------------------------------------------------------ */

/* Line and column of an offset; asked for in rising order, the text is walked once. */
struct cursor {
    struct span text;
    size_t at;
    unsigned line, column;
};

static void cursor_to(struct cursor *c, size_t offset)
{
    for (; c->at < offset && c->at < c->text.n; c->at++) {
        unsigned char byte = (unsigned char)c->text.p[c->at];
        if (byte == '\n') {
            c->line++;
            c->column = 1;
        } else if ((byte & 0xc0) != 0x80) {
            c->column++;
        }
    }
}

/* Does the indentation of this line (from 0) hold a tab? */
static bool is_tab_indented(struct span text, size_t line)
{
    size_t at = 0;

    for (; line > 0; line--) {
        const char *end = at < text.n ? memchr(text.p + at, '\n', text.n - at) : NULL;
        if (end == NULL)
            return false;
        at = (size_t)(end - text.p) + 1;
    }
    while (at < text.n && text.p[at] == ' ')
        at++;
    return at < text.n && text.p[at] == '\t';
}

const char *cp_quote(struct span word, struct cp_quoted *buffer)
{
    size_t room = sizeof(buffer->text) - 4, n = word.n < room ? word.n : room;

    /* Not in the middle of a character. */
    while (n < word.n && n > 0 && ((unsigned char)word.p[n] & 0xc0) == 0x80)
        n--;
    for (size_t i = 0; i < n; i++) {
        char c = word.p[i];
        if ((unsigned char)c < 0x20 || c == 0x7f)
            c = '?';
        buffer->text[i] = c;
    }
    snprintf(buffer->text + n, sizeof(buffer->text) - n, "%s", n < word.n ? "..." : "");
    return buffer->text;
}

/* ---- building ---------------------------------------------------------------------------------------------------------- */

struct builder {
    const char *file;
    struct span text;
    struct cp_tree tree;
    struct cp_errors *errors;
    size_t nodes;
    bool is_bad; /* an error was added; the tree is still worth reading for others */
};

static int fatal(struct builder *b, unsigned line, unsigned column, const char *sentence)
{
    cp_errors_add(b->errors, b->file, line, column, "%s", sentence);
    return -EINVAL;
}

static struct cp_tree_node *node_new(struct builder *b, enum cp_tree_type type, unsigned line, unsigned column)
{
    struct cp_tree_node *node = tree_alloc(&b->tree, sizeof(*node));

    if (node != NULL) {
        node->type = type;
        node->line = line;
        node->column = column;
    }
    return node;
}

static bool is_null_word(struct span s)
{
    return s.n == 0 || span_eq(s, SPAN("~")) || span_eq(s, SPAN("null")) || span_eq(s, SPAN("Null")) || span_eq(s, SPAN("NULL"));
}

struct named {
    const struct cp_tree_node *member;
};

static int by_name(const void *pa, const void *pb)
{
    const struct cp_tree_node *a = ((const struct named *)pa)->member, *b = ((const struct named *)pb)->member;
    int order = span_cmp(a->name, b->name);

    if (order != 0)
        return order;
    if (a->name_line != b->name_line)
        return a->name_line < b->name_line ? -1 : 1;
    return a->name_column < b->name_column ? -1 : a->name_column > b->name_column;
}

/* Names that a mapping gives twice: the later one would silently win, or lose. */
static int check_names(struct builder *b, const struct cp_tree_node *map)
{
    if (map == NULL || map->count < 2)
        return 0;
    struct named *sorted = calloc(map->count, sizeof(*sorted));
    if (sorted == NULL)
        return -ENOMEM;
    size_t n = 0;
    for (const struct cp_tree_node *member = map->child; member != NULL; member = member->next)
        sorted[n++].member = member;
    qsort(sorted, n, sizeof(*sorted), by_name);
    for (size_t i = 1; i < n; i++) {
        const struct cp_tree_node *first = sorted[i - 1].member, *again = sorted[i].member;
        struct cp_quoted q;
        if (!span_eq(first->name, again->name))
            continue;
        b->is_bad = true;
        cp_errors_add(b->errors, b->file, again->name_line, again->name_column, "'%s' is given twice; the first stands at %u:%u",
                      cp_quote(again->name, &q), first->name_line, first->name_column);
    }
    free(sorted);
    return 0;
}

/* ---- YAML -------------------------------------------------------------------------------------------------------------- */

/* A container that is still open. */
struct frame {
    struct cp_tree_node *node;
    struct cp_tree_node **link; /* where the next child is hung */
    struct span name;           /* a mapping whose key has come and whose value has not */
    unsigned name_line, name_column;
    bool is_map, has_name;
};

struct yaml_builder {
    struct builder *b;
    struct frame frames[DEPTH_MAX];
    size_t depth;
};

static unsigned mark_line(yaml_mark_t mark)
{
    return (unsigned)mark.line + 1;
}

static unsigned mark_column(yaml_mark_t mark)
{
    return (unsigned)mark.column + 1;
}

static int on_key(struct yaml_builder *y, struct frame *frame, const yaml_event_t *event)
{
    unsigned line = mark_line(event->start_mark), column = mark_column(event->start_mark);

    if (event->type != YAML_SCALAR_EVENT)
        return fatal(y->b, line, column, "a key must be a word, not a list or a mapping");
    struct span name = {(const char *)event->data.scalar.value, event->data.scalar.length};
    if (name.n > 0 && memchr(name.p, '\0', name.n) != NULL)
        return fatal(y->b, line, column, "a key must not hold the character NUL");
    frame->name_line = line;
    frame->name_column = column;
    frame->has_name = true;
    return tree_copy(&y->b->tree, name, &frame->name);
}

/* Hangs a value where the text has it: into the open container, or as the root. */
static void hang(struct yaml_builder *y, struct cp_tree_node *node)
{
    struct frame *frame = y->depth > 0 ? &y->frames[y->depth - 1] : NULL;
    if (frame == NULL || frame->node == NULL) {
        y->b->tree.root = node;
        return;
    }
    if (frame->is_map) {
        node->name = frame->name;
        node->name_line = frame->name_line;
        node->name_column = frame->name_column;
        frame->has_name = false;
    }
    *frame->link = node;
    frame->link = &node->next;
    frame->node->count++;
}

static int on_value(struct yaml_builder *y, const yaml_event_t *event)
{
    struct builder *b = y->b;
    unsigned line = mark_line(event->start_mark), column = mark_column(event->start_mark);
    enum cp_tree_type type = CP_TREE_WORD;
    const yaml_char_t *anchor = NULL, *tag = NULL;

    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        type = CP_TREE_LIST;
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else {
        type = CP_TREE_MAP;
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor != NULL)
        return fatal(b, line, column, "anchors (&name) and aliases (*name) are not read here: write the value out");
    if (tag != NULL) {
        struct cp_quoted q;
        b->is_bad = true;
        cp_errors_add(b->errors, b->file, line, column, "tags such as '%s' are not read here: leave it out",
                      cp_quote(span_of((const char *)tag), &q));
    }
    if (++b->nodes > NODES_MAX)
        return fatal(b, line, column, "the text holds more than 65536 values");

    struct frame *frame = y->depth > 0 ? &y->frames[y->depth - 1] : NULL;
    if (frame != NULL && frame->is_map && !frame->has_name)
        return on_key(y, frame, event);

    struct cp_tree_node *node = node_new(b, type, line, column);
    if (node == NULL)
        return -ENOMEM;
    if (type == CP_TREE_WORD) {
        struct span text = {(const char *)event->data.scalar.value, event->data.scalar.length};
        if (text.n > 0 && memchr(text.p, '\0', text.n) != NULL)
            return fatal(b, line, column, "a value must not hold the character NUL");
        if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && is_null_word(text))
            node->type = CP_TREE_NULL;
        int r = tree_copy(&b->tree, text, &node->text);
        if (r < 0)
            return r;
    }
    hang(y, node);
    if (type == CP_TREE_WORD)
        return 0;
    if (y->depth == DEPTH_MAX)
        return fatal(b, line, column, "lists and mappings are nested too deep");
    y->frames[y->depth++] = (struct frame){.node = node, .link = &node->child, .is_map = type == CP_TREE_MAP};
    return 0;
}

static int on_event(struct yaml_builder *y, const yaml_event_t *event, bool *had_document)
{
    unsigned line = mark_line(event->start_mark), column = mark_column(event->start_mark);

    switch (event->type) {
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return 0;
    case YAML_DOCUMENT_START_EVENT:
        if (*had_document)
            return fatal(y->b, line, column, "a second document begins here: give it a file of its own");
        *had_document = true;
        return 0;
    case YAML_ALIAS_EVENT:
        return fatal(y->b, line, column,
                     "'*' at the start of a word makes it an alias, and aliases are not read here: write the value out, or quote "
                     "it, as in \"*\"");
    case YAML_SCALAR_EVENT:
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return on_value(y, event);
    case YAML_SEQUENCE_END_EVENT:
        y->depth--;
        return 0;
    case YAML_MAPPING_END_EVENT:
        y->depth--;
        return check_names(y->b, y->frames[y->depth].node);
    }
    return 0;
}

/* libyaml's own words, in words that say what to do. */
static const char *readable(const char *problem)
{
    static const struct {
        const char *theirs, *ours;
    } table[] = {
        {"mapping values are not allowed",
         "a second ':' on this line, or a line that is indented too far: check the indentation, or quote the text"},
        {"could not find expected ':'", "this line has no ': ' after its key, or is indented too little"},
        {"did not find expected key", "the indentation does not match the lines above, or a quote, comma or bracket is missing"},
        {"did not find expected '-'", "this line does not continue the list above: check its indentation"},
        {"did not find expected ',' or '}'", "a ',' or the closing '}' is missing"},
        {"did not find expected ',' or ']'", "a ',' or the closing ']' is missing"},
        {"block sequence entries are not allowed",
         "a '- ' cannot stand here: a list begins on a line of its own, indented like its key or more"},
        {"found unexpected end of stream", "the text ends inside a quoted word: a closing quote is missing"},
        {"found unexpected document indicator", "a '---' or '...' stands inside a quoted word: a closing quote is missing"},
        {"found unknown escape character",
         "a backslash escape that YAML does not know: double the backslash, or use single quotes"},
        {"did not find expected alphabetic", "'*' and '&' have a meaning at the start of a word: quote it, as in \"*\""},
        {"control characters are not allowed", "a control character: remove it"},
        {"did not find expected <document start>", "this line does not belong to what stands above: check its indentation"},
        {"found character that cannot start any token", "a word cannot begin with this character: quote the word"},
    };

    for (size_t i = 0; problem != NULL && i < sizeof(table) / sizeof(table[0]); i++) {
        if (strncmp(problem, table[i].theirs, strlen(table[i].theirs)) == 0)
            return table[i].ours;
    }
    return NULL;
}

static int on_yaml_error(struct builder *b, const yaml_parser_t *parser)
{
    if (parser->error == YAML_MEMORY_ERROR)
        return -ENOMEM;
    unsigned line = mark_line(parser->problem_mark), column = mark_column(parser->problem_mark);
    if (parser->error == YAML_READER_ERROR) {
        struct cursor c = {b->text, 0, 1, 1};
        cursor_to(&c, parser->problem_offset);
        line = c.line;
        column = c.column;
    } else if (is_tab_indented(b->text, parser->problem_mark.line)) {
        return fatal(b, line, column, "this line is indented with a tab: YAML wants spaces");
    } else if (parser->problem_mark.index < b->text.n && parser->problem_mark.line > 0 &&
               is_tab_indented(b->text, parser->problem_mark.line - 1)) {
        return fatal(b, line - 1, 1, "this line is indented with a tab: YAML wants spaces");
    }
    const char *sentence = readable(parser->problem);
    if (sentence != NULL)
        return fatal(b, line, column, sentence);
    cp_errors_add(b->errors, b->file, line, column, "not YAML: %.200s", parser->problem != NULL ? parser->problem : "unreadable");
    return -EINVAL;
}

static int build_from_yaml(struct builder *b)
{
    struct yaml_builder y = {.b = b};
    yaml_parser_t parser;
    bool had_document = false, is_end = false;
    int r = 0;

    if (!yaml_parser_initialize(&parser))
        return -ENOMEM;
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)b->text.p, b->text.n);
    while (r == 0 && !is_end) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            r = on_yaml_error(b, &parser);
            break;
        }
        is_end = event.type == YAML_STREAM_END_EVENT;
        r = on_event(&y, &event, &had_document);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return r;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------------- */

struct json_builder {
    struct builder *b;
    struct cp_json_doc *doc;
    struct cursor cursor;
};

/* A decoded string is absent only when memory ran out. */
static int copy_decoded(struct cp_tree *tree, struct span decoded, struct span *ret)
{
    return decoded.p != NULL ? tree_copy(tree, decoded, ret) : -ENOMEM;
}

/* Recursion ends at DEPTH_MAX: the scan had that limit. */
static int build_json_node(struct json_builder *j, const struct cp_json_node *from, struct cp_tree_node **ret)
{
    struct builder *b = j->b;
    struct cp_tree_node *node = node_new(b, CP_TREE_WORD, 0, 0);
    int r;

    if (node == NULL)
        return -ENOMEM;
    if (from->name_end != 0) {
        cursor_to(&j->cursor, from->name_start - 1); /* its quote */
        node->name_line = j->cursor.line;
        node->name_column = j->cursor.column;
        r = copy_decoded(&b->tree, cp_json_name(j->doc, from), &node->name);
        if (r < 0)
            return r;
    }
    cursor_to(&j->cursor, from->start);
    node->line = j->cursor.line;
    node->column = j->cursor.column;

    switch ((enum cp_json_type)from->type) {
    case CP_JSON_NULL:
    case CP_JSON_FALSE:
    case CP_JSON_TRUE:
    case CP_JSON_NUMBER:
        node->type = from->type == CP_JSON_NULL ? CP_TREE_NULL : CP_TREE_WORD;
        r = tree_copy(&b->tree, cp_json_raw(j->doc, from), &node->text);
        break;
    case CP_JSON_STRING:
        r = copy_decoded(&b->tree, cp_json_text(j->doc, from), &node->text);
        break;
    case CP_JSON_ARRAY:
    case CP_JSON_OBJECT:
        node->type = from->type == CP_JSON_OBJECT ? CP_TREE_MAP : CP_TREE_LIST;
        struct cp_tree_node **link = &node->child;
        r = 0;
        for (const struct cp_json_node *child = cp_json_first(j->doc, from); r == 0 && child != NULL;
             child = cp_json_next(j->doc, child)) {
            r = build_json_node(j, child, link);
            if (r == 0) {
                link = &(*link)->next;
                node->count++;
            }
        }
        break;
    default:
        r = -EINVAL;
    }
    if (r == 0)
        *ret = node;
    return r;
}

/* 1: built; 0: no JSON that this scanner takes, whatever YAML says of it; -ENOMEM. */
static int build_from_json(struct builder *b)
{
    static const struct cp_json_limits limits = {.depth = DEPTH_MAX, .record_depth = 0, .nodes = NODES_MAX};
    struct cp_json_doc doc = {0};
    struct json_builder j = {b, &doc, {b->text, 0, 1, 1}};
    int r = 0;

    enum cp_json_status status = cp_json_scan(&doc, b->text, &limits);
    if (status == CP_JSON_NOMEM)
        r = -ENOMEM;
    else if (status == CP_JSON_OK)
        r = build_json_node(&j, &doc.nodes[0], &b->tree.root);
    cp_json_done(&doc);
    if (r < 0)
        return r;
    return status == CP_JSON_OK;
}

/* ---- the door ---------------------------------------------------------------------------------------------------------- */

static int check_encoding(struct builder *b)
{
    const char *end = b->text.p + b->text.n;

    for (const char *p = b->text.p; p < end;) {
        unsigned n = utf8_sequence(p, end);
        if (n == 0) {
            struct cursor c = {b->text, 0, 1, 1};
            cursor_to(&c, (size_t)(p - b->text.p));
            cp_errors_add(b->errors, b->file, c.line, c.column, "byte 0x%02x is not UTF-8: save the text as UTF-8",
                          (unsigned char)*p);
            return -EINVAL;
        }
        p += n;
    }
    return 0;
}

int cp_tree_parse(const char *file, struct span text, struct cp_tree *ret, struct cp_errors *errors)
{
    struct builder b = {.file = file, .text = text, .errors = errors};
    int r;

    if (text.n > CP_POLICY_TEXT_MAX_BYTES)
        return fatal(&b, 0, 0, "the text is larger than 1 MiB");
    if (text.n >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
        b.text = (struct span){text.p + 3, text.n - 3};
    if (b.text.p == NULL)
        b.text = SPAN("");

    r = check_encoding(&b);
    if (r == 0) {
        struct span trimmed = span_trim(b.text);
        bool is_built = false;
        if (trimmed.n > 0 && trimmed.p[0] == '{') {
            r = build_from_json(&b);
            is_built = r == 1;
            r = r < 0 ? r : 0;
        }
        if (r == 0 && !is_built)
            r = build_from_yaml(&b);
    }
    if (r == 0 && b.is_bad)
        b.tree.is_bad = true;
    if (r < 0) {
        cp_tree_done(&b.tree);
        return r;
    }
    *ret = b.tree;
    return 0;
}
