/* engine/sampler_internal.h - the passes over a row that sampler.c is made of (draw.c).
 *
 * All sums have a fixed order that does not depend on the machine. */
#ifndef SL_ENGINE_SAMPLER_INTERNAL_H
#define SL_ENGINE_SAMPLER_INTERNAL_H

#include "engine/sampler.h"

/* How logits become weights: exp((x - max) / temperature); of NaN and -infinity 0; of the maximum
 * 1, even if it is infinite; below `least` 0. */
typedef struct sl_weighing {
    float max, temperature, least;
} sl_weighing;

typedef struct sl_candidate {
    float value;
    uint32_t token;
} sl_candidate;

/* The maximum of x[0..n); NaN counts as nothing: -infinity. */
float sl_sampler_max(const float *x, uint32_t n);

/* The first i with x[i] == value; n if there is none. */
uint32_t sl_sampler_find(const float *x, uint32_t n, float value);

/* The sum of the weights of x[0..n), which stays as it is. */
double sl_sampler_sum(float *x, uint32_t n, const sl_weighing *by);

/* The k best of x[0..n) that are above `floor`, best first (ties: lower id first), into out[k].
 * Returns how many there are. */
uint32_t sl_sampler_best(const float *x, uint32_t n, uint32_t k, float floor, sl_candidate *out);

/* Replace logits by weights and draw one, u in [0, 1). */
uint32_t sl_sampler_draw(const sl_sample_params *params, float *logits, uint32_t n, float max,
                         double u);

#endif
