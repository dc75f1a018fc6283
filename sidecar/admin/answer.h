/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of the admin listener. Thread: its loop. */
#ifndef MCPCACHED_ADMIN_ANSWER_H
#define MCPCACHED_ADMIN_ANSWER_H

#include "cachepolicy/bytes.h"

#include <h2o.h>

/* body is copied. type: static. */
void answer_send(h2o_req_t *req, int status, const char *type, struct span body);
/* {"error": sentence} */
void answer_error(h2o_req_t *req, int status, const char *sentence);

#endif
