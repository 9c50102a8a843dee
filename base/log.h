/* base/log.h - the one log call: one line an event, to standard error.
 *
 *   2026-01-31T12:00:00.123Z info  server listening address=127.0.0.1:8000
 *
 * Library folders never log: only server/, cli/ and the engine thread's top loop do.  Control
 * characters in values are escaped, lines are at most 8 KiB, and no prompt, answer or key is ever
 * put into one.
 *
 * Thread: any (one lock, held for one write). */
#ifndef SL_BASE_LOG_H
#define SL_BASE_LOG_H

#include <stdbool.h>

typedef enum sl_log_level {
    SL_LOG_DEBUG,
    SL_LOG_INFO,
    SL_LOG_WARN,
    SL_LOG_ERROR,
    SL_LOG_COUNT
} sl_log_level;

/* Lines below `level` are dropped.  Default: SL_LOG_INFO. */
void sl_log_set_level(sl_log_level level);
/* "debug", "info", "warn", "error"; false if it is none of them. */
bool sl_log_parse_level(const char *text, sl_log_level *out);

void sl_log(sl_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
