/* bench/load_stats.c - see load_stats.h */
#include "bench/load_stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double sl_load_percentile(const double *sorted, size_t n, double p)
{
    const double at = (double)(n - 1) * p;
    const size_t i = (size_t)at;

    if (i + 1 >= n)
        return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

sl_load_dist sl_load_dist_of(double *sample, size_t n)
{
    sl_load_dist d = {.n = n};
    double sum = 0.0, squares = 0.0;

    if (n == 0)
        return d;
    qsort(sample, n, sizeof(*sample), ascending);
    for (size_t i = 0; i < n; i++)
        sum += sample[i];
    d.mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (sample[i] - d.mean) * (sample[i] - d.mean);
    d.std = n > 1 ? sqrt(squares / (double)(n - 1)) : 0.0;
    d.min = sample[0];
    d.max = sample[n - 1];
    d.p50 = sl_load_percentile(sample, n, 0.50);
    d.p90 = sl_load_percentile(sample, n, 0.90);
    d.p95 = sl_load_percentile(sample, n, 0.95);
    d.p99 = sl_load_percentile(sample, n, 0.99);
    d.p999 = sl_load_percentile(sample, n, 0.999);
    return d;
}

/* --- one request --------------------------------------------------------------------------- */

static double ms_between(uint64_t from_us, uint64_t to_us)
{
    return to_us > from_us ? (double)(to_us - from_us) * 1e-3 : 0.0;
}

bool sl_load_ttft_of(const sl_load_record *record, double *ms)
{
    if (record->first_us == 0)
        return false;
    *ms = ms_between(record->intended_us, record->first_us);
    return true;
}

static double tokens_of(const sl_load_record *record)
{
    return record->output_tokens >= 0 ? (double)record->output_tokens : (double)record->events;
}

bool sl_load_tpot_of(const sl_load_record *record, double *ms)
{
    const double tokens = tokens_of(record);

    if (record->first_us == 0 || tokens < 2.0)
        return false;
    *ms = ms_between(record->first_us, record->last_us) / (tokens - 1.0);
    return true;
}

double sl_load_e2e_of(const sl_load_record *record)
{
    return ms_between(record->intended_us, record->done_us);
}

bool sl_load_gap_of(const sl_load_record *record, double p, double *scratch, double *ms)
{
    if (record->events < 2)
        return false;
    for (uint32_t i = 1; i < record->events; i++)
        scratch[i - 1] = (double)(record->event_us[i] - record->event_us[i - 1]) * 1e-3;
    qsort(scratch, record->events - 1, sizeof(*scratch), ascending);
    *ms = sl_load_percentile(scratch, record->events - 1, p);
    return true;
}

bool sl_load_slo_is_set(const sl_load_slo *slo)
{
    return slo->ttft_ms > 0.0 || slo->tbt_ms > 0.0 || slo->tpot_ms > 0.0 || slo->e2e_ms > 0.0;
}

sl_status sl_load_is_good(const sl_load_slo *slo, const sl_load_record *record, bool *out)
{
    bool good = record->outcome == SL_LOAD_OK;
    double ms;

    if (good && slo->ttft_ms > 0.0)
        good = sl_load_ttft_of(record, &ms) && ms <= slo->ttft_ms;
    if (good && slo->tpot_ms > 0.0 && sl_load_tpot_of(record, &ms))
        good = ms <= slo->tpot_ms;
    if (good && slo->e2e_ms > 0.0)
        good = sl_load_e2e_of(record) <= slo->e2e_ms;
    if (good && slo->tbt_ms > 0.0 && record->events >= 2) {
        double *scratch = sl_alloc(record->events, sizeof(*scratch));

        if (scratch == NULL)
            return SL_ENOMEM;
        if (sl_load_gap_of(record, 0.99, scratch, &ms))
            good = ms <= slo->tbt_ms;
        sl_free(scratch);
    }
    *out = good;
    return SL_OK;
}

/* --- the window ---------------------------------------------------------------------------- */

static int ascending_us(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

sl_status sl_load_window_of(const sl_load_options *options, const sl_load_result *result,
                            sl_load_window *out, sl_err *err)
{
    const sl_load_margin *warm = &options->warmup, *cool = &options->cooldown;
    uint64_t *at_us = sl_alloc(result->count, sizeof(*at_us));
    sl_load_window w = {.to_us = UINT64_MAX};
    uint32_t n = 0;

    if (at_us == NULL)
        return sl_fail(err, SL_ENOMEM, "no memory for the summary");
    for (uint32_t i = 0; i < result->count; i++)
        if (result->record[i].outcome != SL_LOAD_SKIPPED)
            at_us[n++] = result->record[i].intended_us;
    qsort(at_us, n, sizeof(*at_us), ascending_us);
    if (warm->seconds > 0.0)
        w.from_us = (uint64_t)(warm->seconds * 1e6);
    else if (warm->requests > 0)
        w.from_us = warm->requests < n ? at_us[warm->requests] : UINT64_MAX;
    if (n > 0 && cool->seconds > 0.0)
        w.to_us = at_us[n - 1] > (uint64_t)(cool->seconds * 1e6)
                      ? at_us[n - 1] - (uint64_t)(cool->seconds * 1e6)
                      : 0;
    else if (cool->requests > 0)
        w.to_us = cool->requests < n ? at_us[n - 1 - cool->requests] : 0;
    sl_free(at_us);
    *out = w;
    return SL_OK;
}

bool sl_load_is_judged(const sl_load_plan *plan, const sl_load_result *result,
                       const sl_load_window *window, uint32_t i)
{
    const sl_load_record *record = &result->record[i];

    return record->outcome != SL_LOAD_SKIPPED && record->outcome != SL_LOAD_CANCELLED &&
           !plan->item[i].cancel && !plan->item[i].slow && record->intended_us >= window->from_us &&
           record->intended_us <= window->to_us;
}

/* --- the summary --------------------------------------------------------------------------- */

typedef struct samples {
    double *value[8];
    size_t count[8];
} samples;
enum { TTFT, TTFT_SENT, TBT, TPOT, E2E, LAG, INPUT, OUTPUT };

static void add(samples *s, int which, double value)
{
    s->value[which][s->count[which]++] = value;
}

static sl_status make_room(const sl_load_result *result, samples *s, sl_err *err)
{
    size_t gaps = 0;

    for (uint32_t i = 0; i < result->count; i++)
        gaps += result->record[i].events;
    for (int i = 0; i < 8; i++) {
        s->value[i] = sl_alloc(i == TBT ? gaps : result->count, sizeof(double));
        if (s->value[i] == NULL)
            return sl_fail(err, SL_ENOMEM, "no memory for the summary");
    }
    return SL_OK;
}

static void add_request(samples *s, const sl_load_record *record)
{
    double ms;

    if (sl_load_ttft_of(record, &ms)) {
        add(s, TTFT, ms);
        add(s, TTFT_SENT, ms_between(record->sent_us, record->first_us));
    }
    if (sl_load_tpot_of(record, &ms))
        add(s, TPOT, ms);
    add(s, E2E, sl_load_e2e_of(record));
    for (uint32_t i = 1; i < record->events; i++)
        add(s, TBT, (double)(record->event_us[i] - record->event_us[i - 1]) * 1e-3);
    if (record->prompt_tokens >= 0)
        add(s, INPUT, (double)record->prompt_tokens);
    add(s, OUTPUT, tokens_of(record));
}

static void count_status(sl_load_summary *out, int status)
{
    uint32_t i = 0;

    if (status == 0)
        return;
    while (i < out->http_count && out->http[i].status != status)
        i++;
    if (i == SL_LOAD_STATUSES_MAX)
        return;
    if (i == out->http_count)
        out->http[out->http_count++].status = status;
    out->http[i].count++;
}

/* Counts over everything, warm-up included. */
static void count_all(const sl_load_result *result, sl_load_summary *out)
{
    bool all_known = true;

    out->planned = result->count;
    for (uint32_t i = 0; i < result->count; i++) {
        const sl_load_record *record = &result->record[i];

        out->outcome[record->outcome]++;
        if (record->outcome == SL_LOAD_SKIPPED)
            continue;
        out->sent++;
        out->reused += record->reused;
        out->retried += record->retried;
        count_status(out, record->http_status);
        out->failed += record->outcome != SL_LOAD_OK && record->outcome != SL_LOAD_CANCELLED;
        if (record->outcome == SL_LOAD_OK && record->prompt_tokens >= 0)
            out->prompt_tokens += (double)record->prompt_tokens;
        if (record->outcome == SL_LOAD_OK && record->cached_tokens > 0)
            out->cached_tokens += (double)record->cached_tokens;
        if (record->outcome == SL_LOAD_OK)
            out->output_tokens += tokens_of(record);
        all_known = all_known && record->outcome == SL_LOAD_OK && record->prompt_tokens >= 0 &&
                    record->output_tokens >= 0;
    }
    out->tokens_comparable = all_known && out->sent > 0;
}

static sl_status judge_all(const sl_load_options *options, const sl_load_plan *plan,
                           const sl_load_result *result, samples *s, sl_load_summary *out)
{
    uint64_t first_us = UINT64_MAX, last_us = 0, last_intended_us = 0;
    sl_load_window window;
    double output = 0.0, input = 0.0;

    if (sl_load_window_of(options, result, &window, NULL) != SL_OK)
        return SL_ENOMEM;
    for (uint32_t i = 0; i < result->count; i++) {
        const sl_load_record *record = &result->record[i];
        bool good = false;

        if (record->outcome != SL_LOAD_SKIPPED && record->intended_us >= window.from_us &&
            record->intended_us <= window.to_us)
            add(s, LAG, ms_between(record->due_us, record->begun_us));
        if (!sl_load_is_judged(plan, result, &window, i))
            continue;
        out->judged++;
        first_us = record->intended_us < first_us ? record->intended_us : first_us;
        last_intended_us =
            record->intended_us > last_intended_us ? record->intended_us : last_intended_us;
        last_us = record->done_us > last_us ? record->done_us : last_us;
        if (sl_load_is_good(&options->slo, record, &good) != SL_OK)
            return SL_ENOMEM;
        out->good += good;
        if (record->outcome != SL_LOAD_OK)
            continue;
        out->ok++;
        out->without_usage += record->output_tokens < 0;
        output += tokens_of(record);
        input += record->prompt_tokens > 0 ? (double)record->prompt_tokens : 0.0;
        add_request(s, record);
    }
    if (out->judged == 0 || last_us <= first_us)
        return SL_OK;
    out->span_s = (double)(last_us - first_us) * 1e-6;
    if (last_intended_us > first_us)
        out->offered_rate = (out->judged - 1) / ((double)(last_intended_us - first_us) * 1e-6);
    out->request_rate = out->ok / out->span_s;
    out->output_rate = output / out->span_s;
    out->input_rate = input / out->span_s;
    out->attainment = (double)out->good / out->judged;
    out->goodput = out->good / out->span_s;
    return SL_OK;
}

static double delta(double before, double after)
{
    return before >= 0.0 && after >= before ? after - before : -1.0;
}

static bool differs(double ours, double theirs)
{
    return theirs >= 0.0 && fabs(ours - theirs) > 0.01 * fmax(ours, theirs);
}

static void check_tokens(const sl_load_result *result, sl_load_summary *out)
{
    out->server_prompt_tokens = delta(result->before.prompt_tokens, result->after.prompt_tokens);
    out->server_output_tokens = delta(result->before.output_tokens, result->after.output_tokens);
    /* Some servers count only the prompt tokens that their cache did not have. */
    const bool prompts_differ =
        differs(out->prompt_tokens, out->server_prompt_tokens) &&
        differs(out->prompt_tokens - out->cached_tokens, out->server_prompt_tokens);

    out->tokens_differ = out->tokens_comparable &&
                         (prompts_differ || differs(out->output_tokens, out->server_output_tokens));
}

static void check_valid(const sl_load_options *options, const sl_load_result *result,
                        sl_load_summary *out)
{
    out->valid = false;
    if (out->sent == 0 || out->judged == 0)
        snprintf(out->invalid_why, sizeof(out->invalid_why), "no request was judged");
    else if (result->stopped)
        snprintf(out->invalid_why, sizeof(out->invalid_why), "the run was stopped");
    else if (out->lag.p99 > options->lag_max_ms)
        snprintf(out->invalid_why, sizeof(out->invalid_why),
                 "the client was late: 99 %% of the requests were sent within %.1f ms of their "
                 "time, more than the %.1f ms allowed",
                 out->lag.p99, options->lag_max_ms);
    else
        out->valid = true;
}

sl_status sl_load_summarise(const sl_load_options *options, const sl_load_plan *plan,
                            const sl_load_result *result, sl_load_summary *out, sl_err *err)
{
    sl_load_summary sum = {0};
    samples s = {0};
    sl_status status = make_room(result, &s, err);

    if (status == SL_OK) {
        count_all(result, &sum);
        sum.has_slo = sl_load_slo_is_set(&options->slo);
        if (judge_all(options, plan, result, &s, &sum) != SL_OK)
            status = sl_fail(err, SL_ENOMEM, "no memory for the summary");
    }
    if (status == SL_OK) {
        sum.ttft = sl_load_dist_of(s.value[TTFT], s.count[TTFT]);
        sum.ttft_sent = sl_load_dist_of(s.value[TTFT_SENT], s.count[TTFT_SENT]);
        sum.tbt = sl_load_dist_of(s.value[TBT], s.count[TBT]);
        sum.tpot = sl_load_dist_of(s.value[TPOT], s.count[TPOT]);
        sum.e2e = sl_load_dist_of(s.value[E2E], s.count[E2E]);
        sum.lag = sl_load_dist_of(s.value[LAG], s.count[LAG]);
        sum.input = sl_load_dist_of(s.value[INPUT], s.count[INPUT]);
        sum.output = sl_load_dist_of(s.value[OUTPUT], s.count[OUTPUT]);
        check_tokens(result, &sum);
        check_valid(options, result, &sum);
        *out = sum;
    }
    for (int i = 0; i < 8; i++)
        sl_free(s.value[i]);
    return status;
}
