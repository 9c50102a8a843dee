/* Goal: the schedule is a function of the seed, with the statistics that its options promise.
 * Method: long sequences from fixed seeds against the known mean and variance of each process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load_arrivals.h"

enum { N = 20000 };
static uint64_t at[N], again[N];

static void gap_statistics(const uint64_t *t, size_t n, double *mean, double *cv)
{
    double sum = 0.0, squares = 0.0;

    for (size_t i = 1; i < n; i++)
        sum += (double)(t[i] - t[i - 1]);
    *mean = sum / (double)(n - 1);
    for (size_t i = 1; i < n; i++) {
        const double d = (double)(t[i] - t[i - 1]) - *mean;

        squares += d * d;
    }
    *cv = sqrt(squares / (double)(n - 2)) / *mean;
}

static void poisson_gaps_are_exponential(void **state)
{
    const sl_load_arrivals a = {.process = SL_LOAD_POISSON, .rate = 20.0, .seed = 7};
    size_t below_mean = 0;
    double mean, cv;

    (void)state;
    sl_load_arrivals_fill(&a, at, N);
    gap_statistics(at, N, &mean, &cv);
    assert_true(fabs(mean - 50000.0) < 1500.0);
    assert_true(fabs(cv - 1.0) < 0.03);
    for (size_t i = 1; i < N; i++)
        below_mean += at[i] - at[i - 1] < 50000;
    /* An exponential lies below its mean with probability 1 - 1/e. */
    assert_true(fabs((double)below_mean / N - 0.632) < 0.015);
    assert_true(at[0] == 0);
}

static void constant_gaps_are_equal(void **state)
{
    const sl_load_arrivals a = {.process = SL_LOAD_CONSTANT, .rate = 8.0, .seed = 1};

    (void)state;
    sl_load_arrivals_fill(&a, at, 1000);
    for (size_t i = 0; i < 1000; i++)
        assert_true(at[i] == i * 125000);
}

static void gamma_gaps_have_the_burstiness_asked_for(void **state)
{
    static const double shape[] = {0.25, 0.5, 1.0, 4.0, 25.0};

    (void)state;
    for (size_t i = 0; i < sizeof(shape) / sizeof(*shape); i++) {
        const sl_load_arrivals a = {
            .process = SL_LOAD_GAMMA, .rate = 10.0, .burstiness = shape[i], .seed = 11 + i};
        double mean, cv;

        sl_load_arrivals_fill(&a, at, N);
        gap_statistics(at, N, &mean, &cv);
        assert_true(fabs(mean / 100000.0 - 1.0) < 0.05);
        assert_true(fabs(cv * sqrt(shape[i]) - 1.0) < 0.05);
    }
}

static void the_same_seed_gives_the_same_times_and_another_seed_others(void **state)
{
    sl_load_arrivals a = {.process = SL_LOAD_GAMMA, .rate = 3.0, .burstiness = 0.7, .seed = 5};

    (void)state;
    sl_load_arrivals_fill(&a, at, N);
    sl_load_arrivals_fill(&a, again, N);
    assert_memory_equal(at, again, sizeof(at));
    a.seed = 6;
    sl_load_arrivals_fill(&a, again, N);
    assert_memory_not_equal(at, again, sizeof(at));
    for (size_t i = 1; i < N; i++)
        assert_true(at[i] >= at[i - 1]);
}

static void on_and_off_sends_only_while_on(void **state)
{
    const sl_load_arrivals a = {.process = SL_LOAD_POISSON,
                                .shape = SL_LOAD_ON_OFF,
                                .rate = 50.0,
                                .on_s = 2.0,
                                .off_s = 3.0,
                                .seed = 3};

    (void)state;
    sl_load_arrivals_fill(&a, at, N);
    for (size_t i = 0; i < N; i++)
        assert_true(fmod((double)at[i] * 1e-6, 5.0) < 2.0 + 1e-5 ||
                    fmod((double)at[i] * 1e-6, 5.0) > 5.0 - 1e-5);
    /* 100 requests in 5 seconds. */
    assert_true(fabs((double)at[N - 1] * 1e-6 / (N / 20.0) - 1.0) < 0.03);
}

static void a_ramp_grows_evenly_and_then_stays(void **state)
{
    const sl_load_arrivals a = {.process = SL_LOAD_CONSTANT,
                                .shape = SL_LOAD_RAMP,
                                .rate = 10.0,
                                .rate_end = 30.0,
                                .ramp_s = 100.0,
                                .seed = 3};
    size_t first_half = 0, second_half = 0, after = 0;

    (void)state;
    sl_load_arrivals_fill(&a, at, 5000);
    for (size_t i = 0; i < 5000; i++) {
        first_half += at[i] < 50000000;
        second_half += at[i] >= 50000000 && at[i] < 100000000;
        after += at[i] >= 100000000 && at[i] < 110000000;
    }
    /* 10 to 20 per second: 750; 20 to 30: 1,250; then 30. */
    assert_in_range(first_half, 749, 752);
    assert_in_range(second_half, 1248, 1252);
    assert_in_range(after, 299, 301);
}

static void a_falling_ramp_works_too(void **state)
{
    const sl_load_arrivals a = {.process = SL_LOAD_CONSTANT,
                                .shape = SL_LOAD_RAMP,
                                .rate = 30.0,
                                .rate_end = 10.0,
                                .ramp_s = 10.0,
                                .seed = 3};
    size_t within = 0;

    (void)state;
    sl_load_arrivals_fill(&a, at, 1000);
    for (size_t i = 0; i < 1000; i++)
        within += at[i] < 10000000;
    assert_in_range(within, 199, 202);
}

static void an_infinite_rate_is_all_at_once(void **state)
{
    const sl_load_arrivals a = {.process = SL_LOAD_POISSON, .rate = INFINITY, .seed = 3};

    (void)state;
    sl_load_arrivals_fill(&a, at, 100);
    for (size_t i = 0; i < 100; i++)
        assert_true(at[i] == 0);
}

static void the_count_within_a_duration_fits_the_times(void **state)
{
    const sl_load_arrivals a = {.process = SL_LOAD_POISSON, .rate = 20.0, .seed = 9};
    const size_t n = sl_load_arrivals_count(&a, 10.0, N);

    (void)state;
    sl_load_arrivals_fill(&a, at, N);
    assert_true(at[n - 1] < 10000000 && at[n] >= 9999999);
    assert_true(sl_load_arrivals_count(&a, 10.0, 5) == 5);
}

static void lengths_are_read_and_others_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        "x",
                                        "-5",
                                        "5-",
                                        "9-5",
                                        "5x",
                                        "lognormal:",
                                        "lognormal:5",
                                        "lognormal:0:1",
                                        "lognormal:5:x",
                                        "lognormal:5:1:",
                                        "1e9999",
                                        "lognormal:5:1:9x",
                                        "99999999"};
    sl_load_length l;
    sl_err err;

    (void)state;
    assert_int_equal(sl_load_length_parse("128", &l, &err), SL_OK);
    assert_true(l.kind == SL_LOAD_FIXED && l.min == 128 && l.max == 128);
    assert_int_equal(sl_load_length_parse("64-512", &l, &err), SL_OK);
    assert_true(l.kind == SL_LOAD_RANGE && l.min == 64 && l.max == 512);
    assert_int_equal(sl_load_length_parse("lognormal:256:0.8:4000", &l, &err), SL_OK);
    assert_true(l.kind == SL_LOAD_LOGNORMAL && l.median == 256.0 && l.sigma == 0.8 &&
                l.max == 4000);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        const sl_load_length before = l;

        assert_int_equal(sl_load_length_parse(wrong[i], &l, &err), SL_EINVAL);
        assert_memory_equal(&l, &before, sizeof(l));
    }
}

static void drawn_lengths_have_their_distribution(void **state)
{
    const sl_load_length range = {.kind = SL_LOAD_RANGE, .min = 10, .max = 13};
    const sl_load_length lognormal = {
        .kind = SL_LOAD_LOGNORMAL, .min = 1, .max = 1000, .median = 100.0, .sigma = 0.5};
    uint32_t seen[4] = {0}, below = 0, within = 0;

    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        const uint32_t a = sl_load_length_draw(&range, 4, i);
        const uint32_t b = sl_load_length_draw(&lognormal, 4, i);

        assert_in_range(a, 10, 13);
        assert_in_range(b, 1, 1000);
        seen[a - 10]++;
        below += b < 100;
        /* One sigma: exp(0.5) on either side. */
        within += b >= 61 && b <= 164;
    }
    for (int i = 0; i < 4; i++)
        assert_true(fabs(seen[i] / (double)N - 0.25) < 0.02);
    assert_true(fabs(below / (double)N - 0.5) < 0.02);
    assert_true(fabs(within / (double)N - 0.683) < 0.02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poisson_gaps_are_exponential),
        cmocka_unit_test(constant_gaps_are_equal),
        cmocka_unit_test(gamma_gaps_have_the_burstiness_asked_for),
        cmocka_unit_test(the_same_seed_gives_the_same_times_and_another_seed_others),
        cmocka_unit_test(on_and_off_sends_only_while_on),
        cmocka_unit_test(a_ramp_grows_evenly_and_then_stays),
        cmocka_unit_test(a_falling_ramp_works_too),
        cmocka_unit_test(an_infinite_rate_is_all_at_once),
        cmocka_unit_test(the_count_within_a_duration_fits_the_times),
        cmocka_unit_test(lengths_are_read_and_others_refused),
        cmocka_unit_test(drawn_lengths_have_their_distribution),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
