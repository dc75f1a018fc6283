/* SPDX-License-Identifier: Apache-2.0 */
/* Policy files: finds and reads the texts of a policy, and says what to do where that is not possible.
 * Not here: what the texts mean (cachepolicy/), when they are read again (serve.c).
 * Always: all texts or none; nothing that is not a regular file is opened for longer than it takes to see that; every text has the library's size limit.
 * Thread: main. */
#include "policy_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 1000

struct texts {
    struct cp_policy_text *items;
    size_t count;
};

static void texts_done(struct texts *texts)
{
    for (size_t i = 0; i < texts->count; i++) {
        free((char *)texts->items[i].name);
        free((char *)texts->items[i].text.p);
    }
    free(texts->items);
    *texts = (struct texts){0};
}

/* Name and text are taken. */
static int texts_add(struct texts *texts, char *name, char *text, size_t n)
{
    struct cp_policy_text *grown = realloc(texts->items, (texts->count + 1) * sizeof(*grown));

    if (grown == NULL || name == NULL) {
        if (grown != NULL)
            texts->items = grown;
        free(name);
        free(text);
        return -ENOMEM;
    }
    grown[texts->count++] = (struct cp_policy_text){name, {text, n}};
    texts->items = grown;
    return 0;
}

/* What the operator can do about it. */
static const char *cure(int error)
{
    switch (error) {
    case ENOENT:
        return "check the path of --policy";
    case EACCES:
    case EPERM:
        return "let the user that runs this process read it";
    case ELOOP:
        return "the symbolic links lead in a circle";
    case ENOTDIR:
        return "a part of the path is a file";
    case EMFILE:
    case ENFILE:
        return "raise the limit of open files";
    default:
        return "check the file and its disk";
    }
}

static int say_unreadable(struct cp_errors *errors, const char *path, int error)
{
    cp_errors_add(errors, path, 0, 0, "cannot be read: %s; %s", strerror(error), cure(error));
    return -error;
}

/* All bytes of an open regular file, at most limit + 1 of them: whoever reads on sees that it is too large. */
static int read_all(int fd, size_t limit, char **ret, size_t *ret_n)
{
    size_t n = 0, cap = limit + 1;
    char *text = malloc(cap);

    if (text == NULL)
        return -ENOMEM;
    while (n < cap) {
        ssize_t got = read(fd, text + n, cap - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int error = errno;
            free(text);
            return -error;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    char *fitted = realloc(text, n > 0 ? n : 1);
    *ret = fitted != NULL ? fitted : text;
    *ret_n = n;
    return 0;
}

/* path is what messages say. The name `path` is copied. */
static int add_file(struct texts *texts, int fd, const char *path, struct cp_errors *errors)
{
    char *text = NULL;
    size_t n = 0;

    int r = read_all(fd, CP_POLICY_TEXT_MAX_BYTES, &text, &n);
    if (r == -ENOMEM)
        return r;
    if (r < 0)
        return say_unreadable(errors, path, -r);
    return texts_add(texts, strdup(path), text, n);
}

/* ---- directories --------------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n > m && strcmp(name + n - m, end) == 0;
}

static int is_policy_name(const struct dirent *entry)
{
    return entry->d_name[0] != '.' &&
           (ends_with(entry->d_name, ".yaml") || ends_with(entry->d_name, ".yml") || ends_with(entry->d_name, ".json"));
}

/* By byte, whatever the locale: the order of rules must not depend on who starts the process. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_entry(struct texts *texts, const char *directory, const char *name, struct cp_errors *errors)
{
    char path[PATH_MAX];
    struct stat st;

    if (snprintf(path, sizeof(path), "%s%s%s", directory, ends_with(directory, "/") ? "" : "/", name) >= (int)sizeof(path))
        return say_unreadable(errors, name, ENAMETOOLONG);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold the start */
    if (fd < 0)
        return say_unreadable(errors, path, errno);
    int r = 0;
    if (fstat(fd, &st) < 0) {
        r = say_unreadable(errors, path, errno);
    } else if (S_ISREG(st.st_mode)) {
        r = add_file(texts, fd, path, errors);
    } else if (!S_ISDIR(st.st_mode)) {
        cp_errors_add(errors, path, 0, 0, "is neither a file nor a directory: remove it, or give it another ending");
        r = -EINVAL;
    }
    close(fd);
    return r;
}

static int add_directory(struct texts *texts, const char *path, struct cp_errors *errors)
{
    struct dirent **entries = NULL;
    int r = 0, first_error = 0;

    int n = scandir(path, &entries, is_policy_name, by_bytes);
    if (n < 0)
        return say_unreadable(errors, path, errno);
    if (n > FILES_MAX) {
        cp_errors_add(errors, path, 0, 0, "holds more than %d policy files", FILES_MAX);
        first_error = -EINVAL;
    }
    for (int i = 0; i < n; i++) {
        if (n <= FILES_MAX) {
            r = add_entry(texts, path, entries[i]->d_name, errors);
            if (r < 0 && first_error == 0)
                first_error = r;
        }
        free(entries[i]);
    }
    free(entries);
    if (first_error == 0 && texts->count == 0) {
        cp_errors_add(errors, path, 0, 0,
                      "holds no policy: put a file into it whose name ends in .yaml, .yml or .json, or leave --policy out");
        first_error = -EINVAL;
    }
    return first_error;
}

int policy_load(const char *path, struct cp_policy **ret, struct cp_errors *errors)
{
    struct texts texts = {0};
    struct stat st;
    int r;

    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return say_unreadable(errors, path, errno);
    if (fstat(fd, &st) < 0) {
        r = say_unreadable(errors, path, errno);
    } else if (S_ISDIR(st.st_mode)) {
        r = add_directory(&texts, path, errors);
    } else if (S_ISREG(st.st_mode)) {
        r = add_file(&texts, fd, path, errors);
    } else {
        cp_errors_add(errors, path, 0, 0, "is neither a file nor a directory: check the path of --policy");
        r = -EINVAL;
    }
    close(fd);
    if (r == 0)
        r = cp_policy_parse(texts.items, texts.count, ret, errors);
    texts_done(&texts);
    return r;
}

void policy_print_errors(FILE *out, const struct cp_errors *errors)
{
    for (size_t i = 0; i != errors->count; ++i) {
        const struct cp_error *e = &errors->items[i];

        if (e->line != 0)
            fprintf(out, "%s:%u:%u: %s\n", e->file, e->line, e->column, e->text);
        else
            fprintf(out, "%s%s%s\n", e->file, *e->file != '\0' ? ": " : "", e->text);
    }
    if (errors->more)
        fprintf(out, "(further mistakes are not listed)\n");
}
