/* SPDX-License-Identifier: Apache-2.0 */
/* What the load generator was told, and what all its files need. Set before the first thread, then read by all. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "../ends.h"

#define SECOND 1000000000ull

struct options {
    double port, connections, threads, rate, poisson, seconds, warmup, questions, first, tools, zipf, size_min, size_max, tokens,
        private, write, list, burst, seed, series_ms, timeout_ms, speed;
    const char *path, *era, *ids, *order, *trace, *prefix;
};

extern struct options options;

/* Takes NAME=VALUE arguments; a word that it does not know, or a value out of range, ends the program with a sentence. */
void options_take(int argc, char **argv);

int options_is_legacy(void);
int options_is_fixed_id(void);
int options_is_each(void);

/* Always the same question from the same caller: then a connection can ask again with what it has. */
int options_is_one_question(void);

#endif
