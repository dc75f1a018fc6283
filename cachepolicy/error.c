/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: fills in place and sentence, always terminated, cut where the room ends.
 * Not here: what is wrong; that is for whoever reads the text. Thread: any. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __attribute__((format(printf, 5, 0))) void fill(struct cp_error *error, const char *file, unsigned line, unsigned column,
                                                       const char *format, va_list args)
{
    if (file == NULL)
        file = "";
    /* `file` may be this very error's own name, when a sentence is improved in place. */
    if (file != error->file)
        snprintf(error->file, sizeof(error->file), "%s", file);
    error->line = line;
    error->column = column;
    vsnprintf(error->text, sizeof(error->text), format, args);
}

void cp_error_set(struct cp_error *reterr, const char *file, unsigned line, unsigned column, const char *format, ...)
{
    va_list args;

    if (reterr == NULL)
        return;
    va_start(args, format);
    fill(reterr, file, line, column, format, args);
    va_end(args);
}

void cp_errors_add(struct cp_errors *errors, const char *file, unsigned line, unsigned column, const char *format, ...)
{
    va_list args;

    if (errors == NULL)
        return;
    if (errors->count == sizeof(errors->items) / sizeof(errors->items[0])) {
        errors->more = true;
        return;
    }
    va_start(args, format);
    fill(&errors->items[errors->count], file, line, column, format, args);
    va_end(args);
    errors->count++;
}
