/* bench/load_many.c - see load_many.h */
#include "bench/load_many.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* --- sweep --------------------------------------------------------------------------------- */

static sl_status run_point(const sl_load_sweep *sweep, sl_load_site *site, double rate,
                           uint64_t text_seed, sl_load_point *out, sl_err *err)
{
    sl_load_options o = sweep->load;
    sl_load_plan plan = {0};
    sl_load_result result = {0};
    sl_load_summary sum;
    sl_status status;

    o.rate = rate;
    o.text_seed += text_seed;
    status = sl_load_plan_make(&o, &plan, err);
    if (status == SL_OK)
        status = sl_load_run(&o, site, &plan, &result, err);
    if (status == SL_OK)
        status = sl_load_summarise(&o, &plan, &result, &sum, err);
    if (status == SL_OK && result.stopped)
        status = sl_fail(err, SL_ECANCELLED, "stopped");
    if (status == SL_OK)
        *out = (sl_load_point){.rate = rate,
                               .attainment = sum.attainment,
                               .goodput = sum.goodput,
                               .ttft_p50_ms = sum.ttft.p50,
                               .ttft_p99_ms = sum.ttft.p99,
                               .tbt_p99_ms = sum.tbt.p99,
                               .output_rate = sum.output_rate,
                               .valid = sum.valid};
    sl_load_result_done(&result);
    sl_load_plan_done(&plan);
    return status;
}

static int by_rate(const void *a, const void *b)
{
    const sl_load_point *x = a, *y = b;

    return x->rate < y->rate ? -1 : x->rate > y->rate;
}

sl_status sl_load_sweep_run(const sl_load_sweep *sweep, sl_load_site *site,
                            sl_load_point point[SL_LOAD_POINTS_MAX], size_t *count, sl_err *err)
{
    static const double target[] = {0.9, 0.99};
    const uint32_t max =
        sweep->points_max < SL_LOAD_POINTS_MAX ? sweep->points_max : SL_LOAD_POINTS_MAX;
    size_t n = 0;

    if (!sl_load_slo_is_set(&sweep->load.slo))
        return sl_fail(err, SL_EINVAL, "a sweep needs targets: --goodput ttft:MS,tbt:MS");
    if (!(sweep->load.rate > 0.0) || !(sweep->rate_min > 0.0) ||
        sweep->rate_max < sweep->rate_min || !(sweep->precision > 1.0))
        return sl_fail(err, SL_EINVAL,
                       "--rate, --rate-min, --rate-max or --precision is out of range");
    for (size_t i = 0; i < sizeof(target) / sizeof(*target); i++) {
        double rate;

        while (n < max &&
               (rate = sl_load_search_next(point, n, target[i], sweep->load.rate, sweep->rate_min,
                                           sweep->rate_max, sweep->precision)) > 0.0) {
            const sl_status status = run_point(sweep, site, rate, n, &point[n], err);

            if (status != SL_OK)
                return status;
            n++;
            if (sweep->on_point != NULL)
                sweep->on_point(&point[n - 1], sweep->user);
        }
    }
    qsort(point, n, sizeof(*point), by_rate);
    *count = n;
    return SL_OK;
}

/* --- compare ------------------------------------------------------------------------------- */

/* What is compared: a figure of each request, and a statistic of it. */
enum { F_TTFT, F_TPOT, F_GAP, F_E2E, F_RATE, FIGURES };

static const struct {
    const char *name, *unit;
    int figure;
    sl_load_statistic statistic;
    bool more_is_better;
} compared[] = {
    {"ttft_mean", "ms", F_TTFT, SL_LOAD_MEAN, false},
    {"ttft_p50", "ms", F_TTFT, SL_LOAD_MEDIAN, false},
    {"ttft_p99", "ms", F_TTFT, SL_LOAD_P99, false},
    {"tpot_mean", "ms", F_TPOT, SL_LOAD_MEAN, false},
    {"tbt_p99_of_request", "ms", F_GAP, SL_LOAD_MEDIAN, false},
    {"e2e_mean", "ms", F_E2E, SL_LOAD_MEAN, false},
    {"e2e_p99", "ms", F_E2E, SL_LOAD_P99, false},
    {"output_tokens", "/s", F_RATE, SL_LOAD_MEAN, true},
};
enum { COMPARED = sizeof(compared) / sizeof(*compared) };
_Static_assert((int)COMPARED <= (int)SL_LOAD_FIGURES_MAX, "all figures must fit");

typedef struct comparison {
    const sl_load_compare *c;
    sl_report_compare *report;
    double *sample[SL_LOAD_BLOCKS_MAX][2][FIGURES];
    size_t count[SL_LOAD_BLOCKS_MAX][2][FIGURES];
} comparison;

static sl_status gather(comparison *x, uint32_t block, int side, const sl_load_plan *plan,
                        const sl_load_result *result, const sl_load_summary *sum)
{
    size_t events_max = 1;
    sl_load_window window;
    double *scratch;

    if (sl_load_window_of(x->c->load[side], result, &window, NULL) != SL_OK)
        return SL_ENOMEM;
    for (uint32_t i = 0; i < result->count; i++)
        if (result->record[i].events > events_max)
            events_max = result->record[i].events;
    scratch = sl_alloc(events_max, sizeof(*scratch));
    for (int f = 0; f < FIGURES; f++) {
        x->sample[block][side][f] = sl_alloc(result->count, sizeof(double));
        if (x->sample[block][side][f] == NULL || scratch == NULL) {
            sl_free(scratch);
            return SL_ENOMEM;
        }
    }
    for (uint32_t i = 0; i < result->count; i++) {
        const sl_load_record *record = &result->record[i];
        double *const *sample = x->sample[block][side];
        size_t *n = x->count[block][side];

        if (record->outcome != SL_LOAD_OK || !sl_load_is_judged(plan, result, &window, i))
            continue;
        n[F_TTFT] += sl_load_ttft_of(record, &sample[F_TTFT][n[F_TTFT]]);
        n[F_TPOT] += sl_load_tpot_of(record, &sample[F_TPOT][n[F_TPOT]]);
        n[F_GAP] += sl_load_gap_of(record, 0.99, scratch, &sample[F_GAP][n[F_GAP]]);
        sample[F_E2E][n[F_E2E]++] = sl_load_e2e_of(record);
    }
    x->sample[block][side][F_RATE][x->count[block][side][F_RATE]++] = sum->output_rate;
    sl_free(scratch);
    return SL_OK;
}

static sl_status run_block(comparison *x, uint32_t block, int side, sl_err *err)
{
    sl_load_options o = *x->c->load[side];
    sl_load_plan plan = {0};
    sl_load_result result = {0};
    sl_load_summary sum;
    sl_status status;

    /* Both sides get the same requests, unless they are one and the same server: its cache would
     * know them the second time. */
    o.seed += block;
    o.text_seed += block * 2;
    if (side == 1 && strcmp(x->c->load[0]->base_url, o.base_url) == 0)
        o.text_seed++;
    status = sl_load_plan_make(&o, &plan, err);
    if (status == SL_OK)
        status = sl_load_run(&o, x->c->site[side], &plan, &result, err);
    if (status == SL_OK)
        status = sl_load_summarise(&o, &plan, &result, &sum, err);
    if (status == SL_OK && result.stopped)
        status = sl_fail(err, SL_ECANCELLED, "stopped");
    if (status == SL_OK) {
        x->report->requests[side] += sum.sent;
        x->report->failed[side] += sum.failed;
        if (!sum.valid && x->report->valid) {
            x->report->valid = false;
            snprintf(x->report->invalid_why, sizeof(x->report->invalid_why),
                     "block %u of %c: %.150s", block + 1, 'A' + side, sum.invalid_why);
        }
        if (gather(x, block, side, &plan, &result, &sum) != SL_OK)
            status = sl_fail(err, SL_ENOMEM, "no memory for the comparison");
    }
    sl_load_result_done(&result);
    sl_load_plan_done(&plan);
    return status;
}

static sl_status work_out(comparison *x, sl_report_figure *figure, size_t *count, sl_err *err)
{
    sl_load_block block[SL_LOAD_BLOCKS_MAX];

    *count = 0;
    for (int i = 0; i < COMPARED; i++) {
        const int f = compared[i].figure;
        size_t n[2] = {0, 0};
        sl_status status;

        for (uint32_t b = 0; b < x->c->blocks; b++)
            for (int side = 0; side < 2; side++) {
                block[b].sample[side] = x->sample[b][side][f];
                block[b].count[side] = x->count[b][side][f];
                n[side] += x->count[b][side][f];
            }
        if ((n[0] == 0 || n[1] == 0) && f != F_E2E)
            continue; /* answers of one token have no gaps */
        status = sl_load_ratio_of(block, x->c->blocks, compared[i].statistic, x->c->load[0]->seed,
                                  &figure[*count].ratio, err);
        if (status != SL_OK)
            return sl_fail(err, SL_EINVAL, "nothing to compare: no request of one side ended well");
        figure[*count].name = compared[i].name;
        figure[*count].unit = compared[i].unit;
        figure[*count].more_is_better = compared[i].more_is_better;
        (*count)++;
    }
    return SL_OK;
}

sl_status sl_load_compare_run(const sl_load_compare *compare,
                              sl_report_figure figure[SL_LOAD_FIGURES_MAX],
                              sl_report_compare *report, sl_err *err)
{
    comparison *x;
    sl_status status = SL_OK;

    if (compare->blocks == 0 || compare->blocks > SL_LOAD_BLOCKS_MAX)
        return sl_fail(err, SL_EINVAL, "--blocks must be 1 to %d", SL_LOAD_BLOCKS_MAX);
    x = sl_alloc(1, sizeof(*x));
    if (x == NULL)
        return sl_fail(err, SL_ENOMEM, "no memory for the comparison");
    *report = (sl_report_compare){
        .options = compare->load[0],
        .site = {sl_load_site_get_info(compare->site[0]), sl_load_site_get_info(compare->site[1])},
        .figure = figure,
        .blocks = compare->blocks,
        .valid = true};
    x->c = compare;
    x->report = report;
    for (uint32_t i = 0; i < 2 * compare->blocks && status == SL_OK; i++) {
        const uint32_t block = i / 2;

        status = run_block(x, block, (int)((i + block) % 2), err);
        if (status == SL_OK && compare->on_block != NULL)
            compare->on_block(i + 1, compare->user);
    }
    if (status == SL_OK)
        status = work_out(x, figure, &report->count, err);
    for (uint32_t b = 0; b < compare->blocks; b++)
        for (int side = 0; side < 2; side++)
            for (int f = 0; f < FIGURES; f++)
                sl_free(x->sample[b][side][f]);
    sl_free(x);
    return status;
}
