/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities: what a server says it can tell of (result.capabilities of initialize and of server/discover), and the same with what we add. Pure; thread: whoever owns the doc. */
#ifndef CP_CAPABILITIES_H
#define CP_CAPABILITIES_H

#include "answer.h"

struct cp_capabilities {
    bool tools, prompts, resources;                      /* the capability is there, as an object */
    bool tools_change, prompts_change, resources_change; /* its listChanged is true */
    bool subscribe;                                      /* resources.subscribe is true */
};

/* Nothing where the answer has no readable object there. The doc must still hold the answer's scan. 0 or -ENOMEM. */
int cp_capabilities_read(const struct cp_answer *answer, struct cp_json_doc *doc, struct cp_capabilities *ret);

/* Appends the whole message (text: what the answer was parsed from) with these members set to true where `add` says so and the capability is there as an object:
 * tools.listChanged, prompts.listChanged, resources.listChanged, resources.subscribe. A member that is there with another value is replaced; a new one stands first in its
 * object; every other byte stays. 0; -ENOENT: there is nothing to add (out unchanged); -EINVAL: what is there cannot be changed without doubt (a name twice); -ENOMEM. */
int cp_capabilities_add(struct span text, const struct cp_answer *answer, struct cp_json_doc *doc,
                        const struct cp_capabilities *add, struct buf *out);

#endif
