/* SPDX-License-Identifier: Apache-2.0 */
/* mcpcached purge: its flags as one order to a sidecar that runs, and the answer as one line. Not here: what an order may say (purge_order.c, on the other side).
 * Always: nothing of a credential is printed; what the other side says is printed without its control characters. */
#include "sidecar/admin/purge_verb.h"

#include "cachepolicy/json.h"
#include "sidecar/admin/client.h"
#include "sidecar/admin/gate.h"
#include "sidecar/admin/json_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define EXIT_USAGE  2
#define HEADERS_MAX 64

static const char help[] =
    "usage: mcpcached purge [--all] [--tool NAME]... [--list METHOD]... [--uri URI]... [--tag TAG]...\n"
    "                       [--principal 'HEADER: VALUE' | --principal @FILE]... [--soft] [--dry-run]\n"
    "                       [--admin ADDR] [--admin-token-file FILE]\n"
    "\n"
    "Takes answers out of the store of a mcpcached that runs. When it returns, nobody is answered by what was fetched\n"
    "before, and what is being fetched at that moment is not kept. Several names: each of them is purged.\n"
    "\n"
    "  --all              everything\n"
    "  --tool NAME        results of this tool\n"
    "  --list METHOD      answers to tools/list, resources/list, resources/templates/list, prompts/list or server/discover\n"
    "  --uri URI          what was read from this resource, and tool results that a rule or the server ties to it\n"
    "  --tag TAG          what has this tag, by a rule's template or by the server\n"
    "  --principal HEADER what is kept for one caller alone: all his credential headers, as he sends them; @FILE reads\n"
    "                     them from a file, one in each line (@- from standard input), so that they are in no process list\n"
    "  --soft             make it stale instead: good for the rule's grace and stale_if_error, and fetched again when asked for\n"
    "  --dry-run          only say how much it would be\n"
    "  --admin ADDR       where it listens for this, as its own --admin says: 127.0.0.1:8081 or unix:/PATH [env: MCPCACHED_ADMIN]\n"
    "  --admin-token-file FILE\n"
    "                     the token that it asks for, in the first line [env: MCPCACHED_ADMIN_TOKEN_FILE]\n"
    "\n"
    "Exit status: 0 done, also when there was nothing to purge; 1 not done; 2 wrong usage.\n";

/* The names of one kind, as they go into the order and into the line that is printed. */
struct kind {
    const char *flag, *member;
    const char *one, *several;
    struct buf json; /* strings, with commas between */
    size_t count;
    const char *only; /* the name, when it is one */
};

struct header {
    char *name, *value; /* owned */
};

struct verb {
    struct kind kinds[4];
    bool all, is_soft, is_dry_run, has_principal;
    struct header headers[HEADERS_MAX];
    size_t header_count;
    const char *address, *token_file;
    struct cp_error error; /* why not */
};

/* For a terminal: no byte of it is a command. */
static void print_plain(FILE *out, struct span text)
{
    for (size_t i = 0; i != text.n; ++i) {
        unsigned char c = (unsigned char)text.p[i];

        fputc(c < 0x20 || c == 0x7f || (c == 0xc2 && i + 1 != text.n && (unsigned char)text.p[i + 1] < 0xa0) ? '?' : c, out);
    }
}

/* ---- flags ---- */

static int add_name(struct kind *kind, const char *name)
{
    int r = kind->count != 0 ? buf_add_span(&kind->json, SPAN(",")) : 0;

    kind->only = kind->count++ == 0 ? name : NULL;
    return r != 0 ? r : json_text_add(&kind->json, span_of(name));
}

static int add_header(struct verb *v, struct span line)
{
    const char *colon = memchr(line.p, ':', line.n);
    struct header *header = &v->headers[v->header_count];
    struct span name, value;

    if (colon == NULL || colon == line.p) {
        cp_error_set(&v->error, "", 0, 0, "--principal takes a header as the caller sends it, like 'Authorization: Bearer ...'");
        return EXIT_USAGE;
    }
    if (v->header_count == HEADERS_MAX) {
        cp_error_set(&v->error, "", 0, 0, "too many headers of one principal");
        return EXIT_USAGE;
    }
    name = span_trim((struct span){line.p, (size_t)(colon - line.p)});
    value = span_trim((struct span){colon + 1, line.n - (size_t)(colon + 1 - line.p)});
    *header = (struct header){strndup(name.p, name.n), strndup(value.p, value.n)};
    ++v->header_count;
    if (header->name == NULL || header->value == NULL)
        abort();
    for (char *p = header->name; *p != '\0'; ++p)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 32);
    v->has_principal = true;
    return 0;
}

static int add_header_file(struct verb *v, const char *path)
{
    FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int r = 0;

    if (in == NULL) {
        cp_error_set(&v->error, "", 0, 0, "--principal @%.120s: %s; name a file with one 'HEADER: VALUE' in each line", path,
                     strerror(errno));
        return EXIT_USAGE;
    }
    while (r == 0 && (n = getline(&line, &cap, in)) >= 0) {
        struct span text = span_trim((struct span){line, (size_t)n});

        if (text.n != 0)
            r = add_header(v, text);
    }
    if (r == 0 && !v->has_principal) {
        cp_error_set(&v->error, "", 0, 0, "--principal @%.120s has no header in it", path);
        r = EXIT_USAGE;
    }
    free(line);
    if (in != stdin)
        fclose(in);
    return r;
}

/* What a flag that takes a value says. 0, or the exit status. */
static int read_value(struct verb *v, const char *flag, const char *value)
{
    for (size_t i = 0; i != sizeof(v->kinds) / sizeof(v->kinds[0]); ++i)
        if (strcmp(flag, v->kinds[i].flag) == 0) {
            if (add_name(&v->kinds[i], value) != 0)
                abort();
            return 0;
        }
    if (strcmp(flag, "--principal") == 0)
        return *value == '@' ? add_header_file(v, value + 1) : add_header(v, span_of(value));
    if (strcmp(flag, "--admin") == 0)
        v->address = value;
    else
        v->token_file = value;
    return 0;
}

static bool takes_value(const struct verb *v, const char *flag)
{
    for (size_t i = 0; i != sizeof(v->kinds) / sizeof(v->kinds[0]); ++i)
        if (strcmp(flag, v->kinds[i].flag) == 0)
            return true;
    return strcmp(flag, "--principal") == 0 || strcmp(flag, "--admin") == 0 || strcmp(flag, "--admin-token-file") == 0;
}

static int read_flags(struct verb *v, int argc, char **argv)
{
    for (int i = 0; i < argc; ++i) {
        const char *equals = strchr(argv[i], '=');
        char flag[32];
        int r;

        if (strcmp(argv[i], "--all") == 0) {
            v->all = true;
            continue;
        }
        if (strcmp(argv[i], "--soft") == 0) {
            v->is_soft = true;
            continue;
        }
        if (strcmp(argv[i], "--dry-run") == 0) {
            v->is_dry_run = true;
            continue;
        }
        snprintf(flag, sizeof(flag), "%.*s", (int)(equals != NULL ? equals - argv[i] : (ptrdiff_t)strlen(argv[i])), argv[i]);
        if (!takes_value(v, flag)) {
            cp_error_set(&v->error, "", 0, 0, "'%.80s' is no flag of purge; mcpcached purge --help lists them", argv[i]);
            return EXIT_USAGE;
        }
        if (equals == NULL && i + 1 == argc) {
            cp_error_set(&v->error, "", 0, 0, "%s needs a value", flag);
            return EXIT_USAGE;
        }
        if ((r = read_value(v, flag, equals != NULL ? equals + 1 : argv[++i])) != 0)
            return r;
    }
    return 0;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0' ? value : NULL;
}

/* ---- the order ---- */

static int add_text(struct buf *out, const char *text)
{
    return buf_add_span(out, span_of(text));
}

static int add_principal(const struct verb *v, struct buf *out)
{
    bool is_done[HEADERS_MAX] = {false};
    int r = add_text(out, ",\"principal\":{");

    for (size_t i = 0, names = 0; r == 0 && i != v->header_count; ++i) {
        size_t values = 0;

        if (is_done[i])
            continue;
        if ((r = names++ != 0 ? add_text(out, ",") : 0) == 0 && (r = json_text_add(out, span_of(v->headers[i].name))) == 0)
            r = add_text(out, ":[");
        for (size_t k = i; r == 0 && k != v->header_count; ++k) {
            if (strcmp(v->headers[k].name, v->headers[i].name) != 0)
                continue;
            is_done[k] = true;
            if ((r = values++ != 0 ? add_text(out, ",") : 0) == 0)
                r = json_text_add(out, span_of(v->headers[k].value));
        }
        if (r == 0)
            r = add_text(out, "]");
    }
    return r != 0 ? r : add_text(out, "}");
}

static void format_order(const struct verb *v, struct buf *out)
{
    int r = add_text(out, v->is_soft ? "{\"soft\":true" : "{\"soft\":false");

    if (r == 0 && v->is_dry_run)
        r = add_text(out, ",\"dry_run\":true");
    if (r == 0 && v->all)
        r = add_text(out, ",\"all\":true");
    for (size_t i = 0; r == 0 && i != sizeof(v->kinds) / sizeof(v->kinds[0]); ++i) {
        const struct kind *kind = &v->kinds[i];

        if (kind->count == 0)
            continue;
        if ((r = add_text(out, ",\"")) == 0 && (r = add_text(out, kind->member)) == 0 && (r = add_text(out, "\":[")) == 0 &&
            (r = buf_add_span(out, buf_span(&kind->json))) == 0)
            r = add_text(out, "]");
    }
    if (r == 0 && v->has_principal)
        r = add_principal(v, out);
    if (r != 0 || add_text(out, "}") != 0)
        abort();
}

/* ---- the answer ---- */

static void print_bytes(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double n = (double)bytes;
    size_t unit = 0;

    while (n >= 1024 && unit + 1 != sizeof(units) / sizeof(units[0])) {
        n /= 1024;
        ++unit;
    }
    printf("%.*f %s", unit != 0 && n < 10 ? 1 : 0, n, units[unit]);
}

static void print_names(const struct verb *v)
{
    const char *between = " ";

    if (v->all)
        return;
    for (size_t i = 0; i != sizeof(v->kinds) / sizeof(v->kinds[0]); ++i) {
        const struct kind *kind = &v->kinds[i];

        if (kind->count == 0)
            continue;
        fputs(between, stdout);
        if (kind->only != NULL) {
            printf("%s ", kind->one);
            print_plain(stdout, span_of(kind->only));
        } else {
            printf("%s %zu %ss", kind->several, kind->count, kind->member);
        }
        between = " or ";
    }
    if (v->has_principal)
        printf("%sof one principal", between);
}

static void print_done(const struct verb *v, uint64_t entries, uint64_t bytes, struct span hint)
{
    if (entries == 0) {
        fputs(v->is_dry_run ? "would purge nothing" : "purged nothing", stdout);
        print_names(v);
        if (hint.n != 0) {
            printf(": ");
            print_plain(stdout, hint);
        }
    } else {
        fputs(v->is_soft ? (v->is_dry_run ? "would make" : "made") : (v->is_dry_run ? "would purge" : "purged"), stdout);
        printf("%s %llu %s (", v->all ? " all" : "", (unsigned long long)entries, entries == 1 ? "entry" : "entries");
        print_bytes(bytes);
        fputs(v->is_soft ? ") stale" : ")", stdout);
        print_names(v);
    }
    printf("\n");
}

static bool read_number(const struct cp_json_doc *doc, struct span name, uint64_t *ret)
{
    const struct cp_json_node *node = cp_json_member(doc, cp_json_root(doc), name);
    struct span raw;
    uint64_t n = 0;

    if (node == NULL || node->type != CP_JSON_NUMBER)
        return false;
    raw = cp_json_raw(doc, node);
    for (size_t i = 0; i != raw.n; ++i) {
        if (raw.p[i] < '0' || raw.p[i] > '9' || n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(raw.p[i] - '0');
    }
    *ret = n;
    return true;
}

/* The exit status. */
static int tell(const struct verb *v, int status, struct span body)
{
    struct cp_json_doc doc = {.count = 0};
    bool is_json = cp_json_scan(&doc, body, &cp_json_strict) == CP_JSON_OK;
    uint64_t entries, bytes;
    struct span error;
    int r = EXIT_FAILURE;

    if (is_json && status == 200 && read_number(&doc, SPAN("purged"), &entries) && read_number(&doc, SPAN("bytes"), &bytes)) {
        print_done(v, entries, bytes, cp_json_text(&doc, cp_json_member(&doc, cp_json_root(&doc), SPAN("hint"))));
        r = EXIT_SUCCESS;
    } else {
        error = is_json ? cp_json_text(&doc, cp_json_member(&doc, cp_json_root(&doc), SPAN("error"))) : SPAN_ABSENT;
        fprintf(stderr, "mcpcached: nothing was purged: '");
        print_plain(stderr, span_of(v->address));
        fprintf(stderr, "' answered %d", status);
        if (error.n != 0) {
            fprintf(stderr, ", ");
            print_plain(stderr, error);
        } else {
            fprintf(stderr, "; is it the admin listener of mcpcached?");
        }
        fprintf(stderr, "\n");
    }
    cp_json_done(&doc);
    return r;
}

static int ask(struct verb *v)
{
    struct buf order = {0}, body = {0};
    char token[GATE_TOKEN_MAX + 1];
    struct client_call call = {.address = v->address, .method = "POST", .path = "/purge"};
    int status, r;

    if (v->token_file != NULL) {
        if (gate_read_token(v->token_file, "--admin-token-file", token, &v->error) != 0)
            return EXIT_USAGE;
        call.token = token;
    }
    format_order(v, &order);
    call.body = buf_span(&order);
    if ((r = client_ask(&call, &status, &body, &v->error)) == 0)
        r = tell(v, status, body.p != NULL ? buf_span(&body) : SPAN(""));
    else
        r = r == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
    buf_done(&order);
    buf_done(&body);
    return r;
}

static int run(struct verb *v, int argc, char **argv)
{
    size_t names;
    int r;

    if ((r = read_flags(v, argc, argv)) != 0)
        return r;
    names = (size_t)v->all + (size_t)v->has_principal;
    for (size_t i = 0; i != sizeof(v->kinds) / sizeof(v->kinds[0]); ++i)
        names += v->kinds[i].count;
    if (names == 0) {
        cp_error_set(&v->error, "", 0, 0, "nothing is named to be purged; use --all, --tool, --list, --uri, --tag or --principal");
        return EXIT_USAGE;
    }
    if (v->address == NULL && (v->address = environment("MCPCACHED_ADMIN")) == NULL) {
        cp_error_set(&v->error, "", 0, 0,
                     "where is it? name the address that serve was given: --admin ADDR, or MCPCACHED_ADMIN in the environment");
        return EXIT_USAGE;
    }
    if (v->token_file == NULL)
        v->token_file = environment("MCPCACHED_ADMIN_TOKEN_FILE");
    return ask(v);
}

int purge_main(int argc, char **argv)
{
    struct verb v = {
        .kinds =
            {
                {.flag = "--tool", .member = "tool", .one = "of tool", .several = "of"},
                {.flag = "--list", .member = "list", .one = "of list", .several = "of"},
                {.flag = "--uri", .member = "uri", .one = "with URI", .several = "with any of"},
                {.flag = "--tag", .member = "tag", .one = "with tag", .several = "with any of"},
            },
    };
    int r;

    for (int i = 0; i < argc; ++i)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(help, stdout);
            return EXIT_SUCCESS;
        }
    r = run(&v, argc, argv);
    if (*v.error.text != '\0')
        fprintf(stderr, "mcpcached: %s\n", v.error.text);
    for (size_t i = 0; i != sizeof(v.kinds) / sizeof(v.kinds[0]); ++i)
        buf_done(&v.kinds[i].json);
    for (size_t i = 0; i != v.header_count; ++i) {
        free(v.headers[i].name);
        free(v.headers[i].value);
    }
    return r;
}
