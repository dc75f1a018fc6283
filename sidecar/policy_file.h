/* SPDX-License-Identifier: Apache-2.0 */
/* Where a policy's texts come from: one file, or a directory of them. Blocks on the file system: call it from the main thread, never from a loop. */
#ifndef POLICY_FILE_H
#define POLICY_FILE_H

#include "cachepolicy/policy.h"

#include <stdio.h>

/* path: a file, or a directory whose *.yaml, *.yml and *.json are read in the byte order of their names. Names that begin with '.' are passed
 * over (a mounted ConfigMap keeps its generations in ..data and beside it), symbolic links are followed, other names and subdirectories are left alone.
 * A directory without any such file is an error: a forgotten mount must not look like an empty policy.
 * 0 and *ret (shared, one reference), or -errno (-EINVAL: a text must be mended) with errors filled; *ret is untouched then. */
int policy_load(const char *path, struct cp_policy **ret, struct cp_errors *errors);

/* One line per mistake, as file:line:column: sentence. */
void policy_print_errors(FILE *out, const struct cp_errors *errors);

#endif
