/* bench/load_arrivals.h - when requests are sent, and how long they are: pure functions of a seed.
 *
 * A process (constant, Poisson, gamma) makes arrivals of rate one in "operational time"; a shape
 * (flat, on/off, ramp) maps that to seconds by the inverse of its cumulative rate.  So every
 * process goes with every shape, and the same seed always gives the same schedule.
 *
 * Thread: any; no state. */
#ifndef SL_BENCH_LOAD_ARRIVALS_H
#define SL_BENCH_LOAD_ARRIVALS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum sl_load_process {
    SL_LOAD_POISSON,
    SL_LOAD_CONSTANT,
    SL_LOAD_GAMMA, /* gaps of shape `burstiness`: below 1 bursty, above 1 regular, 1 is Poisson */
    SL_LOAD_PROCESS_COUNT
} sl_load_process;

typedef enum sl_load_shape {
    SL_LOAD_FLAT,
    SL_LOAD_ON_OFF, /* `rate` for on_s, nothing for off_s, and again */
    SL_LOAD_RAMP,   /* from `rate` to `rate_end` within ramp_s, then `rate_end` */
    SL_LOAD_SHAPE_COUNT
} sl_load_shape;

typedef struct sl_load_arrivals {
    sl_load_process process;
    sl_load_shape shape;
    double rate;       /* requests per second, > 0; infinity: all at once */
    double burstiness; /* gamma only, > 0 */
    double on_s, off_s;
    double rate_end, ramp_s;
    uint64_t seed;
} sl_load_arrivals;

/* The first n arrivals in microseconds from the start; at_us[0] is 0, never descending. */
void sl_load_arrivals_fill(const sl_load_arrivals *a, uint64_t *at_us, size_t n);

/* How many of them, at most `max`, come before `duration_s`. */
size_t sl_load_arrivals_count(const sl_load_arrivals *a, double duration_s, size_t max);

/* A distribution of lengths (tokens, or milliseconds). */
typedef enum sl_load_length_kind {
    SL_LOAD_FIXED,
    SL_LOAD_RANGE,     /* uniform, both ends included */
    SL_LOAD_LOGNORMAL, /* of median and sigma (of the logarithm), cut at max */
    SL_LOAD_LENGTH_COUNT
} sl_load_length_kind;

typedef struct sl_load_length {
    sl_load_length_kind kind;
    uint32_t min, max; /* fixed: both are the length */
    double median, sigma;
} sl_load_length;

enum { SL_LOAD_LENGTH_MAX = 4 << 20 };

/* "128", "64-512" or "lognormal:MEDIAN:SIGMA[:MAX]".  Errors: SL_EINVAL. */
SL_MUST_CHECK sl_status sl_load_length_parse(const char *text, sl_load_length *out, sl_err *err);

/* The n-th draw of a seed.  A lognormal length is at least 1. */
uint32_t sl_load_length_draw(const sl_load_length *length, uint64_t seed, uint64_t n);

#endif
