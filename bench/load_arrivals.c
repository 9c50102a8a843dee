/* bench/load_arrivals.c - see load_arrivals.h */
#include "bench/load_arrivals.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static double unit(sl_rng *rng)
{
    return (double)(sl_rng_next(rng) >> 11) * 0x1.0p-53;
}

static double normal_of(double u, double v)
{
    return sqrt(-2.0 * log(1.0 - u)) * cos(6.283185307179586 * v);
}

static double normal(sl_rng *rng)
{
    const double u = unit(rng);

    return normal_of(u, unit(rng));
}

/* Mean `shape`.  Source: Marsaglia and Tsang, "A simple method for generating gamma variables",
 * 2000; shapes below one by the power of a uniform draw, as they say. */
static double gamma_draw(sl_rng *rng, double shape)
{
    const double boost = shape < 1.0 ? pow(1.0 - unit(rng), 1.0 / shape) : 1.0;
    const double d = (shape < 1.0 ? shape + 1.0 : shape) - 1.0 / 3.0;
    const double c = 1.0 / sqrt(9.0 * d);

    for (;;) {
        const double x = normal(rng);
        const double v = pow(1.0 + c * x, 3.0);

        if (1.0 + c * x <= 0.0)
            continue;
        if (log(1.0 - unit(rng)) < 0.5 * x * x + d - d * v + d * log(v))
            return boost * d * v;
    }
}

/* A gap of mean one. */
static double gap(const sl_load_arrivals *a, sl_rng *rng)
{
    switch (a->process) {
    case SL_LOAD_CONSTANT:
        return 1.0;
    case SL_LOAD_GAMMA:
        return gamma_draw(rng, a->burstiness) / a->burstiness;
    default:
        return -log(1.0 - unit(rng));
    }
}

/* Seconds at which the cumulative rate reaches x. */
static double seconds_at(const sl_load_arrivals *a, double x)
{
    if (isinf(a->rate))
        return 0.0;
    if (a->shape == SL_LOAD_ON_OFF) {
        const double period = floor(x / (a->rate * a->on_s));

        return period * (a->on_s + a->off_s) + (x - period * a->rate * a->on_s) / a->rate;
    }
    if (a->shape == SL_LOAD_RAMP) {
        const double slope = (a->rate_end - a->rate) / a->ramp_s;
        const double end = 0.5 * (a->rate + a->rate_end) * a->ramp_s;

        if (x > end)
            return a->ramp_s + (x - end) / a->rate_end;
        return 2.0 * x / (a->rate + sqrt(fmax(0.0, a->rate * a->rate + 2.0 * slope * x)));
    }
    return x / a->rate;
}

void sl_load_arrivals_fill(const sl_load_arrivals *a, uint64_t *at_us, size_t n)
{
    sl_rng rng = {.seed = a->seed};
    double x = 0.0;

    for (size_t i = 0; i < n; i++) {
        at_us[i] = (uint64_t)llround(seconds_at(a, x) * 1e6);
        x += gap(a, &rng);
    }
}

size_t sl_load_arrivals_count(const sl_load_arrivals *a, double duration_s, size_t max)
{
    sl_rng rng = {.seed = a->seed};
    double x = 0.0;
    size_t n = 0;

    while (n < max && seconds_at(a, x) < duration_s) {
        x += gap(a, &rng);
        n++;
    }
    return n;
}

/* --- lengths ------------------------------------------------------------------------------- */

static bool take_number(const char **text, double *out)
{
    char *end;
    const double v = strtod(*text, &end);

    if (end == *text || !isfinite(v) || v < 0.0 || v > (double)SL_LOAD_LENGTH_MAX)
        return false;
    *text = end;
    *out = v;
    return true;
}

static bool parse_lognormal(const char *text, sl_load_length *out)
{
    double max = SL_LOAD_LENGTH_MAX;

    if (!take_number(&text, &out->median) || *text++ != ':' || !take_number(&text, &out->sigma))
        return false;
    if (*text == ':' && (text++, !take_number(&text, &max)))
        return false;
    *out = (sl_load_length){.kind = SL_LOAD_LOGNORMAL,
                            .min = 1,
                            .max = (uint32_t)max,
                            .median = out->median,
                            .sigma = out->sigma};
    return *text == '\0' && out->median >= 1.0 && out->sigma <= 10.0 && max >= 1.0;
}

static bool parse_range(const char *text, sl_load_length *out)
{
    char *end;
    unsigned long min, max;

    if (*text < '0' || *text > '9')
        return false;
    min = max = strtoul(text, &end, 10);
    if (*end == '-' || *end == ':') {
        text = end + 1;
        if (*text < '0' || *text > '9')
            return false;
        max = strtoul(text, &end, 10);
    }
    if (*end != '\0' || max < min || max > SL_LOAD_LENGTH_MAX)
        return false;
    *out = (sl_load_length){.kind = min == max ? SL_LOAD_FIXED : SL_LOAD_RANGE,
                            .min = (uint32_t)min,
                            .max = (uint32_t)max};
    return true;
}

sl_status sl_load_length_parse(const char *text, sl_load_length *out, sl_err *err)
{
    static const char prefix[] = "lognormal:";
    sl_load_length length = {0};
    const bool good = strncmp(text, prefix, sizeof(prefix) - 1) == 0
                          ? parse_lognormal(text + sizeof(prefix) - 1, &length)
                          : parse_range(text, &length);

    if (!good)
        return sl_fail(err, SL_EINVAL,
                       "'%.64s' is no length: write 128, 64-512 or lognormal:MEDIAN:SIGMA[:MAX]",
                       text);
    *out = length;
    return SL_OK;
}

uint32_t sl_load_length_draw(const sl_load_length *length, uint64_t seed, uint64_t n)
{
    double x;

    if (length->kind == SL_LOAD_RANGE)
        return length->min +
               (uint32_t)(sl_rng_unit(seed, n) * ((double)(length->max - length->min) + 1.0));
    if (length->kind == SL_LOAD_FIXED)
        return length->min;
    x = exp(log(length->median) +
            length->sigma * normal_of(sl_rng_unit(seed, 2 * n), sl_rng_unit(seed, 2 * n + 1)));
    x = round(x);
    if (x < 1.0)
        return 1;
    return x > (double)length->max ? length->max : (uint32_t)x;
}
