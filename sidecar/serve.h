/* SPDX-License-Identifier: Apache-2.0 */
/* The verb `serve`. */
#ifndef MCPCACHED_SERVE_H
#define MCPCACHED_SERVE_H

/* argv without the verb. Exit status: 0 ended as asked, 1 failed while running, 2 a setting or policy that cannot be used (nothing was listening). */
int serve_main(int argc, char **argv);

#endif
