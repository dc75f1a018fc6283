/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of `serve`: flags first, then the environment, then defaults. Read once; immutable afterwards. */
#ifndef MCPCACHED_SETTINGS_H
#define MCPCACHED_SETTINGS_H

#include "cachepolicy/cachepolicy.h"

#include <stdio.h>

struct settings_list {
    char **items; /* owned */
    size_t count;
};

#define SETTINGS_TYPE_TEXT     char *
#define SETTINGS_TYPE_DURATION int64_t
#define SETTINGS_TYPE_SIZE     uint64_t
#define SETTINGS_TYPE_COUNT    uint64_t
#define SETTINGS_TYPE_NUMBER   uint64_t
#define SETTINGS_TYPE_LIST     struct settings_list

struct settings {
#define SETTING(field, flag, type, default_, argument, text) SETTINGS_TYPE_##type field;
#include "sidecar/settings.def.h"
#undef SETTING
};

/* argv without the verb. 0; 1 when --help was asked for; -EINVAL with one sentence in reterr that names the flag and the cure. Free with settings_done also after a failure. */
int settings_parse(struct settings *ret, int argc, char **argv, struct cp_error *reterr);
void settings_done(struct settings *s);
/* One paragraph per flag. */
void settings_help(FILE *out);

#endif
