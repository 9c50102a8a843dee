/* base/clock.h - the one clock.
 *
 * Policies never read it: they get `now_us` as an argument.  Thread: any. */
#ifndef SL_BASE_CLOCK_H
#define SL_BASE_CLOCK_H

#include <stdint.h>

/* Microseconds of CLOCK_MONOTONIC. */
uint64_t sl_clock_us(void);

/* Seconds since 1970, for `created` fields and log lines only. */
int64_t sl_clock_unix_s(void);

/* Microseconds since 1970, for log lines only. */
int64_t sl_clock_unix_us(void);

#endif
