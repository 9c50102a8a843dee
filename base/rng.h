/* base/rng.h - random numbers and hashes that depend on their arguments only.
 *
 * A request's n-th draw is sl_rng_unit(seed, n): no state, so that the answer does not depend on
 * what else is in the batch, on preemption, or on a retry.
 *
 * Source: SplitMix64 finaliser (Steele, Lea, Flood, OOPSLA 2014).  Not for secrets. */
#ifndef SL_BASE_RNG_H
#define SL_BASE_RNG_H

#include <stdint.h>

/* A well mixed 64-bit value of x. */
static inline uint64_t sl_mix64(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* Chain two values into one hash. */
static inline uint64_t sl_mix64_pair(uint64_t a, uint64_t b)
{
    return sl_mix64(sl_mix64(a) ^ (b + 0x9E3779B97F4A7C15u));
}

/* The n-th uniform draw of a seed, in [0, 1), 53 bits. */
static inline double sl_rng_unit(uint64_t seed, uint64_t n)
{
    return (double)(sl_mix64_pair(seed, n) >> 11) * 0x1.0p-53;
}

/* A sequential generator, for tests and virtual time. */
typedef struct sl_rng {
    uint64_t seed;
    uint64_t n;
} sl_rng;

static inline uint64_t sl_rng_next(sl_rng *rng)
{
    return sl_mix64_pair(rng->seed, rng->n++);
}

/* Uniform in [0, bound), bound > 0 (bias below 2^-32 for bounds below 2^32). */
static inline uint64_t sl_rng_below(sl_rng *rng, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)sl_rng_next(rng) * bound) >> 64);
}

#endif
