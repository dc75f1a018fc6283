/* SPDX-License-Identifier: Apache-2.0 */
/* The log of stories: put in the place of sidecar/base/log.c at link time. Lines are kept, so that a story can be held against them. Thread: any. */
#ifndef SCENARIO_FAKE_LOG_H
#define SCENARIO_FAKE_LOG_H

#include "cachepolicy/bytes.h"
#include "sidecar/base/log.h"

/* Also print what comes, as text on stdout. */
void fake_log_print(bool wanted);
/* Nothing is kept (for long races). */
void fake_log_mute(void);
size_t fake_log_count(void);
/* A line's event and one of its fields as text (absent when it has none). Borrowed until fake_log_done. */
struct span fake_log_event(size_t line);
struct span fake_log_field(size_t line, struct span key);
void fake_log_done(void);

#endif
