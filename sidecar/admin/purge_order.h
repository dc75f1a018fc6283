/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator asks to purge: the JSON body of POST /purge, read. Not here: what it means to the store (flow/purge.h). Thread: any; pure. */
#ifndef MCPCACHED_ADMIN_PURGE_ORDER_H
#define MCPCACHED_ADMIN_PURGE_ORDER_H

#include "cachepolicy/cachepolicy.h"

#define PURGE_ORDER_NAMES_MAX   250
#define PURGE_ORDER_HEADERS_MAX 32

/* The kinds of names, as bits, for what is said of an order. */
enum purge_order_kind {
    PURGE_ORDER_ALL = 1,
    PURGE_ORDER_TOOL = 2,
    PURGE_ORDER_LIST = 4,
    PURGE_ORDER_URI = 8,
    PURGE_ORDER_TAG = 16,
    PURGE_ORDER_PRINCIPAL = 32,
};

struct purge_order_name {
    enum cp_subject kind; /* TOOL, LIST, URI or TAG */
    struct span text;     /* as of cp_subject_of */
};

/* Zero-initialise. Spans borrow from the body, from doc and from the order itself. */
struct purge_order {
    unsigned kinds; /* of enum purge_order_kind; never 0 */
    bool is_soft, is_dry_run;
    size_t name_count, header_count;
    struct purge_order_name names[PURGE_ORDER_NAMES_MAX];
    struct cp_credential headers[PURGE_ORDER_HEADERS_MAX]; /* of the principal; none: whoever sends no credential */
    struct buf lower;                                      /* header names */
};

/* 0; -EINVAL with one sentence; -ENOMEM. Free with purge_order_done also after a failure. */
int purge_order_parse(struct purge_order *ret, struct cp_json_doc *doc, struct span body, struct cp_error *reterr);
void purge_order_done(struct purge_order *order);

#endif
