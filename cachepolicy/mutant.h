/* SPDX-License-Identifier: Apache-2.0 */
/* Deliberate faults, to show that the tests notice when a protection is missing. In every build but -Dmutants=true, MUTANT is the constant false and no
 * fault exists in the binary. There, the environment's MCPCACHED_MUTANT names the one that is switched on; names are listed in tests/e2e/mutants.mjs.
 * Thread: any. */
#ifndef CP_MUTANT_H
#define CP_MUTANT_H

#include <stdbool.h>

#ifdef MUTANTS
#include <stdlib.h>
#include <string.h>

static inline bool cp_mutant(const char *name)
{
    const char *chosen = getenv("MCPCACHED_MUTANT");

    return chosen != NULL && strcmp(chosen, name) == 0;
}
#define MUTANT(name) cp_mutant(name)
#else
#define MUTANT(name) false
#endif

#endif
