/* SPDX-License-Identifier: Apache-2.0 */
/* The verb `purge`. Thread: main. */
#ifndef MCPCACHED_ADMIN_PURGE_VERB_H
#define MCPCACHED_ADMIN_PURGE_VERB_H

/* argv without the verb. Exit status: 0 the purge is in force, 1 it is not (nobody answered, or he said no), 2 it was not asked for in a way that can be understood. */
int purge_main(int argc, char **argv);

#endif
