/* SPDX-License-Identifier: Apache-2.0 */
/* The pure library's one door for the runtime. */
#ifndef CP_CACHEPOLICY_H
#define CP_CACHEPOLICY_H

#include "agree.h"
#include "answer.h"
#include "bytes.h"
#include "canonical.h"
#include "decide.h"
#include "duration.h"
#include "error.h"
#include "json.h"
#include "key.h"
#include "message.h"
#include "mutant.h"
#include "policy.h"
#include "token.h"

#endif
