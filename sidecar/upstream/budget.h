/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets, shared by all loops: how many retries the requests of late have paid for, and how many of something may be under way at once.
 * Thread: any, without locks. Embedded; no destructor. */
#ifndef MCPCACHED_UPSTREAM_BUDGET_H
#define MCPCACHED_UPSTREAM_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Retries: each request pays a tenth of one, ten are saved up at most, so that an upstream that is down is asked at most a tenth more often than it would be. */
struct budget_retries {
    atomic_uint tenths;
};

#define BUDGET_RETRIES_MAX   10
#define BUDGET_RETRIES_START 3

void budget_retries_init(struct budget_retries *b);
/* A request goes upstream. */
void budget_retries_earn(struct budget_retries *b);
/* False: none is left. */
bool budget_retries_take(struct budget_retries *b);

/* Places: at most max are taken at once. */
struct budget_places {
    atomic_size_t taken;
    size_t max; /* 0: there are none */
};

void budget_places_init(struct budget_places *b, size_t max);
/* True: a place is taken, and given back by budget_leave. */
bool budget_enter(struct budget_places *b);
void budget_leave(struct budget_places *b);
/* Whether it is worth while to try; another thread may be quicker. */
bool budget_is_full(const struct budget_places *b);

#endif
