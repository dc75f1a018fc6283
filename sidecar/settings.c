/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: the table read from flags and environment. Not here: what a setting means to its room (each checks its own). */
#include "sidecar/settings.h"

#include <errno.h>
#include <stdlib.h>

enum type {
    TYPE_TEXT,
    TYPE_DURATION,
    TYPE_SIZE,
    TYPE_COUNT,
    TYPE_NUMBER,
    TYPE_LIST,
};

struct row {
    const char *flag;
    enum type type;
    size_t offset;
    const char *default_text;
    const char *argument;
    const char *text;
};

static const struct row rows[] = {
#define SETTING(field, flag_, type_, default_, argument_, text_)                                                                   \
    {flag_, TYPE_##type_, offsetof(struct settings, field), default_, argument_, text_},
#include "sidecar/settings.def.h"
#undef SETTING
};

#define COUNT_MAX  1024
#define NUMBER_MAX (16 * 1024 * 1024)
#define ROW_COUNT  (sizeof(rows) / sizeof(rows[0]))

static const struct row *find_row(const char *name, size_t n)
{
    for (size_t i = 0; i != ROW_COUNT; ++i)
        if (strlen(rows[i].flag) == n && memcmp(rows[i].flag, name, n) == 0)
            return &rows[i];
    return NULL;
}

/* "--store-size" is MCPCACHED_STORE_SIZE in the environment */
static void environment_name(const struct row *row, char *ret, size_t cap)
{
    size_t n = (size_t)snprintf(ret, cap, "MCPCACHED_%s", row->flag);

    for (size_t i = 0; i < n && i < cap; ++i)
        ret[i] = ret[i] == '-' ? '_' : ret[i] >= 'a' && ret[i] <= 'z' ? (char)(ret[i] - 32) : ret[i];
}

static int add_item(struct settings_list *list, struct span item)
{
    char **items = realloc(list->items, sizeof(*items) * (list->count + 1));

    if (items == NULL)
        return -ENOMEM;
    list->items = items;
    if ((items[list->count] = strndup(item.p, item.n)) == NULL)
        return -ENOMEM;
    ++list->count;
    return 0;
}

/* Sentences quote no more than 80 bytes of a value, so that the cure behind it is not cut off. */
static int set(struct settings *s, const struct row *row, const char *said_as, const char *value, struct cp_error *reterr)
{
    void *field = (char *)s + row->offset;

    switch (row->type) {
    case TYPE_TEXT: {
        char *copy = strdup(value);

        if (copy == NULL)
            return -ENOMEM;
        free(*(char **)field);
        *(char **)field = copy;
        return 0;
    }
    case TYPE_DURATION:
        if (cp_duration_parse(span_of(value), field) != 0) {
            cp_error_set(reterr, "", 0, 0, "%s: '%.80s' is no duration; write it like 500ms, 5s or 10m", said_as, value);
            return -EINVAL;
        }
        return 0;
    case TYPE_SIZE:
        if (cp_size_parse(span_of(value), field) != 0) {
            cp_error_set(reterr, "", 0, 0, "%s: '%.80s' is no size; write it like 64KiB or 256MiB", said_as, value);
            return -EINVAL;
        }
        return 0;
    case TYPE_COUNT:
    case TYPE_NUMBER: {
        unsigned max = row->type == TYPE_COUNT ? COUNT_MAX : NUMBER_MAX;
        unsigned long n;
        char *end;

        /* too large a number is ULONG_MAX; spaces and signs are no digits */
        n = strtoul(value, &end, 10);
        if (*value < '0' || *value > '9' || *end != '\0' || n > max) {
            cp_error_set(reterr, "", 0, 0, "%s: '%.80s' is no number from 0 to %u", said_as, value, max);
            return -EINVAL;
        }
        *(uint64_t *)field = n;
        return 0;
    }
    case TYPE_LIST: {
        struct span rest = span_of(value);

        while (rest.n != 0) {
            const char *comma = memchr(rest.p, ',', rest.n);
            struct span item = span_trim((struct span){rest.p, comma != NULL ? (size_t)(comma - rest.p) : rest.n});
            size_t used = comma != NULL ? (size_t)(comma - rest.p) + 1 : rest.n;

            if (item.n != 0 && add_item(field, item) != 0)
                return -ENOMEM;
            rest = (struct span){rest.p + used, rest.n - used};
        }
        return 0;
    }
    }
    return -EINVAL;
}

int settings_parse(struct settings *ret, int argc, char **argv, struct cp_error *reterr)
{
    bool said[ROW_COUNT] = {false};
    int r;

    *ret = (struct settings){0};
    for (int i = 0; i < argc; ++i) {
        const char *arg = argv[i], *name, *equals, *value;
        const struct row *row;
        char said_as[64];

        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
            return 1;
        if (strncmp(arg, "--", 2) != 0) {
            cp_error_set(reterr, "", 0, 0, "'%.80s' is not understood; every setting is a flag (see mcpcached serve --help)", arg);
            return -EINVAL;
        }
        name = arg + 2;
        equals = strchr(name, '=');
        row = find_row(name, equals != NULL ? (size_t)(equals - name) : strlen(name));
        if (row == NULL) {
            cp_error_set(reterr, "", 0, 0, "'%.80s' is no flag of serve; mcpcached serve --help lists them", arg);
            return -EINVAL;
        }
        snprintf(said_as, sizeof(said_as), "--%s", row->flag);
        if (equals != NULL) {
            value = equals + 1;
        } else if (i + 1 < argc) {
            value = argv[++i];
        } else {
            cp_error_set(reterr, "", 0, 0, "%s needs a value: %s %s", said_as, said_as, row->argument);
            return -EINVAL;
        }
        if ((r = set(ret, row, said_as, value, reterr)) != 0)
            return r;
        said[row - rows] = true;
    }
    for (size_t i = 0; i != ROW_COUNT; ++i) {
        char name[64];
        const char *value;

        if (said[i])
            continue;
        environment_name(&rows[i], name, sizeof(name));
        value = getenv(name);
        if (value != NULL && *value != '\0')
            r = set(ret, &rows[i], name, value, reterr);
        else if (*rows[i].default_text != '\0' || rows[i].type == TYPE_TEXT)
            r = set(ret, &rows[i], rows[i].flag, rows[i].default_text, reterr);
        else
            r = 0;
        if (r != 0)
            return r;
    }
    return 0;
}

void settings_done(struct settings *s)
{
    for (size_t i = 0; i != ROW_COUNT; ++i) {
        void *field = (char *)s + rows[i].offset;

        if (rows[i].type == TYPE_TEXT) {
            free(*(char **)field);
        } else if (rows[i].type == TYPE_LIST) {
            struct settings_list *list = field;

            for (size_t k = 0; k != list->count; ++k)
                free(list->items[k]);
            free(list->items);
        }
    }
    *s = (struct settings){0};
}

void settings_help(FILE *out)
{
    for (size_t i = 0; i != ROW_COUNT; ++i) {
        char name[64];

        environment_name(&rows[i], name, sizeof(name));
        fprintf(out, "  --%s %s\n      %s", rows[i].flag, rows[i].argument, rows[i].text);
        if (*rows[i].default_text != '\0')
            fprintf(out, " [default: %s]", rows[i].default_text);
        fprintf(out, " [env: %s]\n", name);
    }
}
