/* SPDX-License-Identifier: Apache-2.0 */
/* One loop's means. Not here: what is done with them (caller.c, admission.c). */
#include "sidecar/trust/trust.h"

#include <string.h>

int trust_init(struct trust *trust, const struct trust_shared *shared)
{
    int r;

    memset(trust, 0, sizeof(*trust));
    trust->shared = shared;
    if ((r = store_reader_new(shared->store, &trust->reader)) != 0)
        return r;
    if ((r = cp_keyer_new(store_secret(shared->store), &trust->keyer)) != 0)
        store_reader_free(trust->reader);
    else
        trust->tools_list_subject = cp_subject_of(trust->keyer, CP_SUBJECT_LIST, span_of(cp_method_text(CP_METHOD_TOOLS_LIST)));
    return r;
}

void trust_done(struct trust *trust)
{
    store_reader_free(trust->reader);
    cp_keyer_free(trust->keyer);
    cp_json_done(&trust->doc);
    buf_done(&trust->text);
    buf_done(&trust->claims);
}
