/* SPDX-License-Identifier: Apache-2.0 */
/* The pure library's one door for the runtime. */
#ifndef CP_CACHEPOLICY_H
#define CP_CACHEPOLICY_H

#include "agree.h"
#include "answer.h"
#include "bytes.h"
#include "canonical.h"
#include "capabilities.h"
#include "content.h"
#include "decide.h"
#include "definition.h"
#include "duration.h"
#include "error.h"
#include "groups.h"
#include "json.h"
#include "key.h"
#include "listen.h"
#include "message.h"
#include "mutant.h"
#include "notice.h"
#include "policy.h"
#include "rewrite.h"
#include "sharing.h"
#include "tag.h"
#include "telling.h"
#include "token.h"

#endif
