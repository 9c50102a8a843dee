/* bench/load_ratio.c - ratios with intervals, and the search of a sweep: see load_stats.h. */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "bench/load_stats.h"

enum { REPLICATES = 1000 };

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Sorts, but for the mean. */
static double statistic_of(double *sample, size_t n, sl_load_statistic statistic)
{
    double sum = 0.0;

    if (statistic == SL_LOAD_MEAN) {
        for (size_t i = 0; i < n; i++)
            sum += sample[i];
        return sum / (double)n;
    }
    qsort(sample, n, sizeof(*sample), ascending);
    return sl_load_percentile(sample, n, statistic == SL_LOAD_P99 ? 0.99 : 0.5);
}

/* Blocks with replacement; the same blocks for both sides. */
static bool resample(const sl_load_block *block, size_t count, sl_rng *rng, double *sample[2],
                     size_t n[2])
{
    n[0] = n[1] = 0;
    for (size_t i = 0; i < count; i++) {
        const sl_load_block *b = &block[sl_rng_below(rng, count)];

        for (int side = 0; side < 2; side++)
            for (size_t k = 0; k < b->count[side]; k++)
                sample[side][n[side]++] = b->sample[side][sl_rng_below(rng, b->count[side])];
    }
    return n[0] > 0 && n[1] > 0;
}

static void bootstrap(const sl_load_block *block, size_t count, sl_load_statistic statistic,
                      double *sample[2], double *ratio, sl_rng *rng, sl_load_ratio *out)
{
    size_t n[2];

    for (int i = 0; i < REPLICATES; i++) {
        double value[2];

        if (!resample(block, count, rng, sample, n))
            continue;
        for (int side = 0; side < 2; side++)
            value[side] = statistic_of(sample[side], n[side], statistic);
        if (value[0] > 0.0)
            ratio[out->replicates++] = value[1] / value[0];
    }
    if (out->replicates == 0)
        return;
    qsort(ratio, out->replicates, sizeof(*ratio), ascending);
    out->low = sl_load_percentile(ratio, out->replicates, 0.025);
    out->high = sl_load_percentile(ratio, out->replicates, 0.975);
}

sl_status sl_load_ratio_of(const sl_load_block *block, size_t block_count,
                           sl_load_statistic statistic, uint64_t seed, sl_load_ratio *out,
                           sl_err *err)
{
    sl_load_ratio result = {0};
    sl_rng rng = {.seed = seed};
    double *sample[2] = {NULL, NULL}, *ratio = NULL;
    size_t total[2] = {0, 0}, largest[2] = {0, 0};
    sl_status status = SL_OK;

    for (size_t i = 0; i < block_count; i++)
        for (int side = 0; side < 2; side++) {
            total[side] += block[i].count[side];
            if (block[i].count[side] > largest[side])
                largest[side] = block[i].count[side];
        }
    if (total[0] == 0 || total[1] == 0)
        return sl_fail(err, SL_EINVAL, "one side has no samples");
    /* A resampling may take the largest block every time. */
    for (int side = 0; side < 2; side++)
        sample[side] = sl_alloc(largest[side] * block_count, sizeof(double));
    ratio = sl_alloc(REPLICATES, sizeof(*ratio));
    if (sample[0] == NULL || sample[1] == NULL || ratio == NULL) {
        status = sl_fail(err, SL_ENOMEM, "no memory for the comparison");
        goto out;
    }
    for (int side = 0; side < 2; side++) {
        size_t n = 0;

        for (size_t i = 0; i < block_count; i++)
            for (size_t k = 0; k < block[i].count[side]; k++)
                sample[side][n++] = block[i].sample[side][k];
        result.value[side] = statistic_of(sample[side], n, statistic);
    }
    result.ratio = result.value[0] > 0.0 ? result.value[1] / result.value[0] : 0.0;
    bootstrap(block, block_count, statistic, sample, ratio, &rng, &result);
    *out = result;
out:
    sl_free(sample[0]);
    sl_free(sample[1]);
    sl_free(ratio);
    return status;
}

/* --- the search of a sweep ----------------------------------------------------------------- */

/* The lowest rate that missed the target, or infinity; and the highest below it that met it, or 0.
 */
static void bracket(const sl_load_point *point, size_t count, double target, double *met,
                    double *missed)
{
    *missed = INFINITY;
    *met = 0.0;
    for (size_t i = 0; i < count; i++)
        if (point[i].attainment < target && point[i].rate < *missed)
            *missed = point[i].rate;
    for (size_t i = 0; i < count; i++)
        if (point[i].attainment >= target && point[i].rate < *missed && point[i].rate > *met)
            *met = point[i].rate;
}

double sl_load_search_next(const sl_load_point *point, size_t count, double target,
                           double rate_first, double rate_min, double rate_max, double precision)
{
    double met, missed;

    if (count == 0)
        return rate_first;
    bracket(point, count, target, &met, &missed);
    if (isinf(missed))
        return met >= rate_max ? 0.0 : fmin(2.0 * met, rate_max);
    if (met == 0.0)
        return missed <= rate_min ? 0.0 : fmax(missed / 2.0, rate_min);
    return missed / met <= precision ? 0.0 : sqrt(missed * met);
}

double sl_load_search_best(const sl_load_point *point, size_t count, double target)
{
    double met, missed;

    bracket(point, count, target, &met, &missed);
    return met;
}
