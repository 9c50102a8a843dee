/* Goal: figures are right: percentiles, windows, goodput, validity, ratios, the search of a sweep.
 * Method: records made by hand, and a second, slower definition of what is computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "bench/load_stats.h"

/* --- percentiles --------------------------------------------------------------------------- */

/* The k-th smallest by counting, without sorting. */
static double kth(const double *x, size_t n, size_t k)
{
    for (size_t i = 0; i < n; i++) {
        size_t below = 0, equal = 0;

        for (size_t j = 0; j < n; j++) {
            below += x[j] < x[i];
            equal += x[j] == x[i];
        }
        if (below <= k && k < below + equal)
            return x[i];
    }
    return NAN;
}

static double percentile_by_counting(const double *x, size_t n, double p)
{
    const double at = (double)(n - 1) * p;
    const size_t low = (size_t)floor(at), high = (size_t)ceil(at);

    return kth(x, n, low) + (at - floor(at)) * (kth(x, n, high) - kth(x, n, low));
}

static void percentiles_agree_with_a_count(void **state)
{
    sl_rng rng = {.seed = 21};

    (void)state;
    for (int round = 0; round < 60; round++) {
        const size_t n = 1 + sl_rng_below(&rng, 120);
        double x[120], sorted[120], sum = 0.0;
        sl_load_dist d;

        for (size_t i = 0; i < n; i++) {
            x[i] = (double)sl_rng_below(&rng, round % 2 == 0 ? 1000000 : 10);
            sum += x[i];
        }
        memcpy(sorted, x, sizeof(x));
        d = sl_load_dist_of(sorted, n);
        assert_int_equal(d.n, n);
        assert_true(fabs(d.mean - sum / (double)n) < 1e-6);
        assert_true(d.p50 == percentile_by_counting(x, n, 0.5));
        assert_true(fabs(d.p90 - percentile_by_counting(x, n, 0.9)) < 1e-6);
        assert_true(fabs(d.p95 - percentile_by_counting(x, n, 0.95)) < 1e-6);
        assert_true(fabs(d.p99 - percentile_by_counting(x, n, 0.99)) < 1e-6);
        assert_true(fabs(d.p999 - percentile_by_counting(x, n, 0.999)) < 1e-6);
        assert_true(d.min == kth(x, n, 0) && d.max == kth(x, n, n - 1));
    }
}

static void known_percentiles(void **state)
{
    double x[] = {4.0, 1.0, 3.0, 2.0};
    const sl_load_dist d = sl_load_dist_of(x, 4), none = sl_load_dist_of(NULL, 0);

    (void)state;
    assert_true(d.p50 == 2.5 && fabs(d.p90 - 3.7) < 1e-12 && d.max == 4.0);
    assert_true(fabs(d.std - sqrt(5.0 / 3.0)) < 1e-12);
    assert_true(none.n == 0 && none.mean == 0.0);
}

/* --- summaries ----------------------------------------------------------------------------- */

enum { COUNT = 10 };

typedef struct scene {
    sl_load_options options;
    sl_load_item item[COUNT];
    sl_load_record record[COUNT];
    uint32_t event[COUNT][5];
    sl_load_plan plan;
    sl_load_result result;
} scene;

/* Ten good requests, one each second: first text after 100 ms, four gaps of 20 ms, done at 190 ms.
 */
static void make_scene(scene *s)
{
    *s = (scene){.plan = {.item = s->item, .count = COUNT, .open_loop = true},
                 .result = {.record = s->record, .count = COUNT}};
    sl_load_options_init(&s->options);
    s->options.rate = 1.0;
    s->result.before = s->result.after =
        (sl_load_scrape){.prompt_tokens = -1.0, .output_tokens = -1.0};
    for (uint32_t i = 0; i < COUNT; i++) {
        const uint64_t at = i * 1000000u;

        for (uint32_t k = 0; k < 5; k++)
            s->event[i][k] = 100000 + 20000 * k - 10;
        s->record[i] = (sl_load_record){.outcome = SL_LOAD_OK,
                                        .http_status = 200,
                                        .intended_us = at,
                                        .due_us = at,
                                        .begun_us = at + 10,
                                        .sent_us = at + 50,
                                        .first_us = at + 100000,
                                        .last_us = at + 180000,
                                        .done_us = at + 190000,
                                        .prompt_tokens = 40,
                                        .output_tokens = 9,
                                        .cached_tokens = -1,
                                        .event_us = s->event[i],
                                        .events = 5};
    }
}

static sl_load_summary summary_of(scene *s)
{
    sl_load_summary sum;

    assert_int_equal(sl_load_summarise(&s->options, &s->plan, &s->result, &sum, NULL), SL_OK);
    return sum;
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-6 * fmax(1.0, fabs(b));
}

static void every_figure_of_a_plain_run(void **state)
{
    scene s;
    sl_load_summary sum;

    (void)state;
    make_scene(&s);
    sum = summary_of(&s);
    assert_true(sum.valid && sum.judged == 10 && sum.ok == 10 && sum.sent == 10 && sum.failed == 0);
    assert_true(near(sum.span_s, 9.19));
    assert_true(near(sum.offered_rate, 1.0));
    assert_true(near(sum.request_rate, 10 / 9.19));
    assert_true(near(sum.output_rate, 90 / 9.19));
    assert_true(near(sum.input_rate, 400 / 9.19));
    assert_true(near(sum.ttft.p50, 100.0) && near(sum.ttft_sent.p50, 99.95));
    assert_true(near(sum.tbt.mean, 20.0) && sum.tbt.n == 40);
    assert_true(near(sum.tpot.mean, 10.0)); /* 80 ms for 8 further tokens of usage, not 4 events */
    assert_true(near(sum.e2e.p99, 190.0));
    assert_true(near(sum.lag.max, 0.01));
    assert_false(sum.has_slo);
}

static void tokens_without_usage_are_events(void **state)
{
    scene s;
    sl_load_summary sum;

    (void)state;
    make_scene(&s);
    for (uint32_t i = 0; i < COUNT; i++)
        s.record[i].output_tokens = -1;
    sum = summary_of(&s);
    assert_int_equal(sum.without_usage, 10);
    assert_true(near(sum.tpot.mean, 20.0));
    assert_true(near(sum.output.mean, 5.0));
}

static void goodput_needs_every_target(void **state)
{
    scene s;
    sl_load_summary sum;

    (void)state;
    make_scene(&s);
    s.options.slo =
        (sl_load_slo){.ttft_ms = 100.0, .tbt_ms = 20.0, .e2e_ms = 190.0, .tpot_ms = 10.0};
    sum = summary_of(&s);
    assert_true(sum.has_slo && sum.good == 10 && sum.attainment == 1.0);
    assert_true(near(sum.goodput, 10 / 9.19));
    s.record[1].first_us += 1;          /* TTFT, by a microsecond */
    s.event[2][4] += 500;               /* one gap: the p99 of four gaps is near the largest */
    s.record[3].done_us += 1;           /* E2E */
    s.record[4].outcome = SL_LOAD_HTTP; /* failed: met nothing */
    s.record[5].last_us += 100;         /* TPOT */
    sum = summary_of(&s);
    assert_int_equal(sum.good, 5);
    assert_int_equal(sum.judged, 10);
    assert_int_equal(sum.ok, 9);
    assert_true(near(sum.attainment, 0.5));
    s.options.slo = (sl_load_slo){.ttft_ms = 100.0};
    sum = summary_of(&s);
    assert_int_equal(sum.good, 8);
}

static void a_requests_own_p99_gap_is_what_counts(void **state)
{
    static uint32_t event[1001];
    sl_load_record r = {.outcome = SL_LOAD_OK, .event_us = event, .events = 1001};
    const sl_load_slo slo = {.tbt_ms = 1.0};
    bool good = false;

    (void)state;
    /* 1,000 gaps of 1 ms; nine stalls are within the 1 % that p99 forgives, eleven are not. */
    for (uint32_t stalls = 9; stalls <= 11; stalls += 2) {
        for (uint32_t i = 1; i <= 1000; i++)
            event[i] = event[i - 1] + (i <= stalls ? 50000 : 1000);
        assert_int_equal(sl_load_is_good(&slo, &r, &good), SL_OK);
        assert_true(good == (stalls == 9));
    }
}

static void margins_leave_out_both_ends(void **state)
{
    scene s;
    sl_load_summary sum;

    (void)state;
    make_scene(&s);
    s.record[0].first_us += 5000000; /* a slow start that must not show */
    s.record[9].first_us += 5000000;
    s.options.warmup.requests = 2;
    s.options.cooldown.requests = 1;
    sum = summary_of(&s);
    assert_int_equal(sum.judged, 7);
    assert_true(near(sum.ttft.max, 100.0));
    s.options.warmup = (sl_load_margin){.seconds = 1.0};
    s.options.cooldown = (sl_load_margin){.seconds = 2.5};
    sum = summary_of(&s);
    assert_int_equal(sum.judged, 6); /* intended at 1 to 6 seconds; the end is 9 - 2.5 */
    s.options.warmup = (sl_load_margin){.seconds = 100.0};
    sum = summary_of(&s);
    assert_true(sum.judged == 0 && !sum.valid);
}

static void planned_trouble_is_not_judged(void **state)
{
    scene s;
    sl_load_summary sum;

    (void)state;
    make_scene(&s);
    s.item[0].slow = true;
    s.item[1].cancel = true;
    s.record[1].outcome = SL_LOAD_CANCELLED;
    s.item[2].cancel = true; /* ended before it was to hang up: only fast ones do */
    s.record[3].outcome = SL_LOAD_SKIPPED;
    sum = summary_of(&s);
    assert_int_equal(sum.judged, 6);
    assert_int_equal(sum.sent, 9);
    assert_int_equal(sum.failed, 0);
    assert_int_equal(sum.outcome[SL_LOAD_CANCELLED], 1);
}

static void failures_are_counted_by_kind_and_status(void **state)
{
    scene s;
    sl_load_summary sum;

    (void)state;
    make_scene(&s);
    s.record[0].outcome = SL_LOAD_HTTP;
    s.record[0].http_status = 429;
    s.record[1].outcome = SL_LOAD_HTTP;
    s.record[1].http_status = 429;
    s.record[2].outcome = SL_LOAD_CUT;
    sum = summary_of(&s);
    assert_int_equal(sum.failed, 3);
    assert_int_equal(sum.outcome[SL_LOAD_HTTP], 2);
    assert_int_equal(sum.http_count, 2);
    for (uint32_t i = 0; i < sum.http_count; i++)
        assert_int_equal(sum.http[i].count, sum.http[i].status == 429 ? 2 : 8);
    assert_false(sum.tokens_comparable);
}

static void a_late_client_makes_the_run_invalid(void **state)
{
    scene s;
    sl_load_summary sum;

    (void)state;
    make_scene(&s);
    s.record[4].begun_us = s.record[4].due_us + 6000;
    sum = summary_of(&s);
    assert_false(sum.valid);
    assert_non_null(strstr(sum.invalid_why, "late"));
    s.options.lag_max_ms = 7.0;
    sum = summary_of(&s);
    assert_true(sum.valid);
    /* Waiting for a place under a cap is not the client's fault. */
    s.options.lag_max_ms = 5.0;
    s.record[4].due_us = s.record[4].begun_us - 100;
    sum = summary_of(&s);
    assert_true(sum.valid);
    s.result.stopped = true;
    sum = summary_of(&s);
    assert_false(sum.valid);
}

static void the_servers_count_is_compared(void **state)
{
    scene s;
    sl_load_summary sum;

    (void)state;
    make_scene(&s);
    s.result.before = (sl_load_scrape){.prompt_tokens = 1000.0, .output_tokens = 50.0};
    s.result.after = (sl_load_scrape){.prompt_tokens = 1400.0, .output_tokens = 140.0};
    sum = summary_of(&s);
    assert_true(sum.tokens_comparable && !sum.tokens_differ);
    assert_true(sum.server_prompt_tokens == 400.0 && sum.server_output_tokens == 90.0);
    s.result.after.output_tokens = 145.0;
    sum = summary_of(&s);
    assert_true(sum.tokens_differ);
    s.result.after.output_tokens = 140.0;
    s.result.after.prompt_tokens = 1370.0;
    sum = summary_of(&s);
    assert_true(sum.tokens_differ);
    s.record[2].cached_tokens = 30; /* a server that counts what it computed */
    sum = summary_of(&s);
    assert_false(sum.tokens_differ);
    s.result.after.prompt_tokens = 1300.0;
    s.record[0].outcome = SL_LOAD_CUT; /* what was lost was counted by the server */
    sum = summary_of(&s);
    assert_false(sum.tokens_differ);
}

/* --- ratios -------------------------------------------------------------------------------- */

static void a_known_ratio_lies_in_its_interval(void **state)
{
    double a[6][40], b[6][40];
    sl_load_block block[6];
    sl_rng rng = {.seed = 31};
    sl_load_ratio r, again;

    (void)state;
    for (int i = 0; i < 6; i++) {
        /* Drift of the machine: the same factor for both sides of a block. */
        const double drift = 1.0 + 0.5 * sl_rng_unit(99, (uint64_t)i);

        for (int k = 0; k < 40; k++) {
            a[i][k] = drift * (90.0 + 20.0 * sl_rng_unit(1, sl_rng_next(&rng)));
            b[i][k] = drift * (180.0 + 40.0 * sl_rng_unit(2, sl_rng_next(&rng)));
        }
        block[i] = (sl_load_block){.sample = {a[i], b[i]}, .count = {40, 40}};
    }
    for (int statistic = SL_LOAD_MEAN; statistic <= SL_LOAD_P99; statistic++) {
        assert_int_equal(sl_load_ratio_of(block, 6, (sl_load_statistic)statistic, 5, &r, NULL),
                         SL_OK);
        assert_true(fabs(r.ratio - 2.0) < 0.1);
        assert_true(r.low < r.ratio + 1e-9 && r.ratio < r.high + 1e-9);
        assert_true(r.low > 1.8 && r.high < 2.2 && r.high > r.low);
        assert_int_equal(r.replicates, 1000);
        assert_int_equal(sl_load_ratio_of(block, 6, (sl_load_statistic)statistic, 5, &again, NULL),
                         SL_OK);
        assert_memory_equal(&r, &again, sizeof(r));
    }
}

static void equal_sides_show_no_difference(void **state)
{
    double a[8][30], b[8][30];
    sl_load_block block[8];
    sl_rng rng = {.seed = 41};
    int apart = 0;

    (void)state;
    for (int round = 0; round < 40; round++) {
        sl_load_ratio r;

        for (int i = 0; i < 8; i++) {
            for (int k = 0; k < 30; k++) {
                a[i][k] = 50.0 + 100.0 * (double)sl_rng_below(&rng, 1000) / 1000.0;
                b[i][k] = 50.0 + 100.0 * (double)sl_rng_below(&rng, 1000) / 1000.0;
            }
            block[i] = (sl_load_block){.sample = {a[i], b[i]}, .count = {30, 30}};
        }
        assert_int_equal(sl_load_ratio_of(block, 8, SL_LOAD_MEAN, (uint64_t)round, &r, NULL),
                         SL_OK);
        apart += r.low > 1.0 || r.high < 1.0;
    }
    /* Two of forty are expected; the interval resamples twice and is, if anything, too wide. */
    assert_true(apart <= 5);
}

static void a_side_without_samples_is_an_error(void **state)
{
    double a[] = {1.0};
    const sl_load_block block = {.sample = {a, a}, .count = {1, 0}};
    sl_load_ratio r;

    (void)state;
    assert_int_equal(sl_load_ratio_of(&block, 1, SL_LOAD_MEAN, 1, &r, NULL), SL_EINVAL);
    assert_int_equal(sl_load_ratio_of(&block, 0, SL_LOAD_MEAN, 1, &r, NULL), SL_EINVAL);
}

/* --- search -------------------------------------------------------------------------------- */

/* A server whose attainment falls from 1 at `knee` to 0 at twice that. */
static double attainment_at(double rate, double knee)
{
    return fmin(1.0, fmax(0.0, 2.0 - rate / knee));
}

static void the_search_finds_the_edge_from_above_and_below(void **state)
{
    static const double knees[] = {0.05, 0.9, 1.0, 7.3, 400.0};
    static const double targets[] = {0.9, 0.99};

    (void)state;
    for (size_t k = 0; k < 5; k++)
        for (size_t t = 0; t < 2; t++) {
            const double edge = knees[k] * (2.0 - targets[t]);
            sl_load_point point[64];
            size_t n = 0;
            double rate, best;

            while ((rate = sl_load_search_next(point, n, targets[t], 1.0, 0.01, 1000.0, 1.1)) >
                   0.0) {
                assert_true(n < 40);
                point[n++] =
                    (sl_load_point){.rate = rate, .attainment = attainment_at(rate, knees[k])};
            }
            best = sl_load_search_best(point, n, targets[t]);
            assert_true(best <= edge && best * 1.1 >= edge * 0.999);
        }
}

static void the_search_ends_at_its_bounds(void **state)
{
    sl_load_point point[64];
    size_t n = 0;
    double rate;

    (void)state;
    while ((rate = sl_load_search_next(point, n, 0.9, 1.0, 0.1, 50.0, 1.1)) > 0.0)
        point[n++] = (sl_load_point){.rate = rate, .attainment = 1.0};
    assert_true(sl_load_search_best(point, n, 0.9) == 50.0);
    n = 0;
    while ((rate = sl_load_search_next(point, n, 0.9, 1.0, 0.1, 50.0, 1.1)) > 0.0)
        point[n++] = (sl_load_point){.rate = rate, .attainment = 0.0};
    assert_true(n > 1 && n < 10);
    assert_true(sl_load_search_best(point, n, 0.9) == 0.0);
}

static void a_lucky_high_rate_does_not_count(void **state)
{
    const sl_load_point point[] = {{.rate = 1.0, .attainment = 1.0},
                                   {.rate = 2.0, .attainment = 0.5},
                                   {.rate = 4.0, .attainment = 1.0}};

    (void)state;
    assert_true(sl_load_search_best(point, 3, 0.9) == 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_agree_with_a_count),
        cmocka_unit_test(known_percentiles),
        cmocka_unit_test(every_figure_of_a_plain_run),
        cmocka_unit_test(tokens_without_usage_are_events),
        cmocka_unit_test(goodput_needs_every_target),
        cmocka_unit_test(a_requests_own_p99_gap_is_what_counts),
        cmocka_unit_test(margins_leave_out_both_ends),
        cmocka_unit_test(planned_trouble_is_not_judged),
        cmocka_unit_test(failures_are_counted_by_kind_and_status),
        cmocka_unit_test(a_late_client_makes_the_run_invalid),
        cmocka_unit_test(the_servers_count_is_compared),
        cmocka_unit_test(a_known_ratio_lies_in_its_interval),
        cmocka_unit_test(equal_sides_show_no_difference),
        cmocka_unit_test(a_side_without_samples_is_an_error),
        cmocka_unit_test(the_search_finds_the_edge_from_above_and_below),
        cmocka_unit_test(the_search_ends_at_its_bounds),
        cmocka_unit_test(a_lucky_high_rate_does_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
