/* SPDX-License-Identifier: Apache-2.0 */
/* Text as a JSON string. Thread: any; pure. */
#ifndef MCPCACHED_ADMIN_JSON_TEXT_H
#define MCPCACHED_ADMIN_JSON_TEXT_H

#include "cachepolicy/bytes.h"

/* Appends text in quotes, escaped. What is no UTF-8 stays as it is. 0 or -ENOMEM. */
int json_text_add(struct buf *out, struct span text);

#endif
