/* bench/report_text.c - results for people. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/report.h"

static void add_dist(sl_buf *out, const char *name, const sl_load_dist *d)
{
    if (d->n == 0) {
        sl_buf_addf(out, "  %-22s no samples\n", name);
        return;
    }
    sl_buf_addf(out, "  %-22s %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f %8zu\n", name, d->mean, d->p50,
                d->p90, d->p95, d->p99, d->p999, d->n);
}

static void add_load(sl_buf *out, const sl_report *r)
{
    static const char *const process[] = {"poisson", "constant", "gamma"};
    const sl_load_options *o = r->options;

    if (!r->plan->open_loop)
        sl_buf_addf(out, "closed loop, %u users", o->users);
    else if (o->rate > 0.0)
        sl_buf_addf(out, "open loop, %.4g requests/s, %s", o->rate, process[o->arrivals.process]);
    else
        sl_buf_addf(out, "open loop, times of the data set at %.4g times its speed", o->rate_scale);
    if (r->plan->open_loop && o->rate > 0.0 && o->arrivals.process == SL_LOAD_GAMMA)
        sl_buf_addf(out, " (burstiness %.3g)", o->arrivals.burstiness);
    if (o->arrivals.shape == SL_LOAD_ON_OFF)
        sl_buf_addf(out, ", %.4g s on and %.4g s off", o->arrivals.on_s, o->arrivals.off_s);
    if (o->arrivals.shape == SL_LOAD_RAMP)
        sl_buf_addf(out, ", ramp to %.4g requests/s", o->arrivals.rate_end);
    if (r->plan->open_loop && o->users > 0)
        sl_buf_addf(out, ", at most %u in flight", o->users);
    if (o->turns > 1)
        sl_buf_addf(out, ", sessions of %u turns", o->turns);
    if (r->plan->trace_format != NULL)
        sl_buf_addf(out, ", lengths of a %s data set", r->plan->trace_format);
}

static void add_failures(sl_buf *out, const sl_load_summary *s)
{
    for (int i = 0; i < SL_LOAD_OUTCOME_COUNT; i++)
        if (i != SL_LOAD_OK && s->outcome[i] > 0)
            sl_buf_addf(out, "  %-22s %9u\n", sl_load_outcome_text((sl_load_outcome)i),
                        s->outcome[i]);
    for (uint32_t i = 0; i < s->http_count; i++)
        if (s->http[i].status != 200)
            sl_buf_addf(out, "    of them HTTP %-3d     %9u\n", s->http[i].status,
                        s->http[i].count);
}

static void add_first_error(sl_buf *out, const sl_load_result *result)
{
    for (uint32_t i = 0; i < result->count; i++) {
        const sl_load_record *record = &result->record[i];

        if (record->error[0] == '\0' || record->outcome == SL_LOAD_OK)
            continue;
        sl_buf_addf(out, "  the first failure: request %u, %s: %s\n", i,
                    sl_load_outcome_text(record->outcome), record->error);
        return;
    }
}

static void add_slo(sl_buf *out, const sl_report *r)
{
    const sl_load_slo *slo = &r->options->slo;
    const sl_load_summary *s = r->summary;

    if (!s->has_slo)
        return;
    sl_buf_add_str(out, "\ntargets              ");
    if (slo->ttft_ms > 0.0)
        sl_buf_addf(out, " ttft %g ms", slo->ttft_ms);
    if (slo->tbt_ms > 0.0)
        sl_buf_addf(out, " tbt %g ms (p99 of a request)", slo->tbt_ms);
    if (slo->tpot_ms > 0.0)
        sl_buf_addf(out, " tpot %g ms", slo->tpot_ms);
    if (slo->e2e_ms > 0.0)
        sl_buf_addf(out, " e2e %g ms", slo->e2e_ms);
    sl_buf_addf(out,
                "\n  requests that met all %9u of %u judged (%.1f %%)\n"
                "  goodput               %9.3f requests/s\n",
                s->good, s->judged, 100.0 * s->attainment, s->goodput);
}

static void add_server(sl_buf *out, const sl_report *r)
{
    const sl_load_scrape *a = &r->result->before, *b = &r->result->after;
    const sl_load_summary *s = r->summary;
    double total = 0.0;

    if (s->server_prompt_tokens >= 0.0 || s->server_output_tokens >= 0.0)
        sl_buf_addf(out, "\nthe server's own count %9.0f prompt tokens, %.0f generated: %s\n",
                    s->server_prompt_tokens, s->server_output_tokens,
                    s->tokens_differ       ? "NOT what the client counted"
                    : s->tokens_comparable ? "as the client counted"
                                           : "not comparable, as not every request ended well");
    for (uint32_t i = 0; i < b->state_count && a->state_count == b->state_count; i++)
        total += b->state_s[i] - a->state_s[i];
    if (!(total > 0.0))
        return;
    sl_buf_add_str(out, "time in each state    ");
    for (uint32_t i = 0; i < b->state_count; i++)
        sl_buf_addf(out, " %s %.1f %%", b->state_name[i],
                    100.0 * (b->state_s[i] - a->state_s[i]) / total);
    sl_buf_add_char(out, '\n');
}

static void add_head(sl_buf *out, const sl_report *r)
{
    const sl_load_summary *s = r->summary;

    sl_buf_addf(out, "%s, model %s, %s\n", r->site->url, r->site->model,
                r->options->completions ? "completions" : "chat");
    add_load(out, r);
    sl_buf_addf(out,
                "\nprompt lengths: %s\n\n"
                "  requests               %8u planned, %u sent, %u judged, %u of them well\n",
                r->site->lengths, s->planned, s->sent, s->judged, s->ok);
    add_failures(out, s);
    add_first_error(out, r->result);
}

void sl_report_text(const sl_report *r, sl_buf *out)
{
    const sl_load_summary *s = r->summary;

    add_head(out, r);
    sl_buf_addf(out,
                "  measured              %9.2f s, at most %u requests in flight\n"
                "  requests              %9.3f /s  (offered %.3f /s)\n"
                "  output tokens         %9.1f /s\n"
                "  input tokens          %9.1f /s",
                s->span_s, r->result->in_flight_max, s->request_rate, s->offered_rate,
                s->output_rate, s->input_rate);
    if (s->cached_tokens > 0.0 && s->prompt_tokens > 0.0)
        sl_buf_addf(out, "  (%.1f %% of the prompts came from the server's cache)",
                    100.0 * s->cached_tokens / s->prompt_tokens);
    sl_buf_addf(out, "\n\n  %-22s %9s %9s %9s %9s %9s %9s %8s\n", "ms", "mean", "p50", "p90", "p95",
                "p99", "p99.9", "n");
    add_dist(out, "TTFT from intended", &s->ttft);
    add_dist(out, "TTFT from sent", &s->ttft_sent);
    add_dist(out, "TBT between events", &s->tbt);
    add_dist(out, "TPOT", &s->tpot);
    add_dist(out, "E2E from intended", &s->e2e);
    add_dist(out, "lag of this client", &s->lag);
    sl_buf_addf(out, "  %-22s\n", "tokens");
    add_dist(out, "input", &s->input);
    add_dist(out, "output", &s->output);
    if (s->without_usage > 0)
        sl_buf_addf(out, "  %u answers came without usage: their tokens are counted as events\n",
                    s->without_usage);
    add_slo(out, r);
    add_server(out, r);
    if (!s->valid)
        sl_buf_addf(out, "\nINVALID: %s\n", s->invalid_why);
}

/* --- sweep and compare --------------------------------------------------------------------- */

static void add_best(sl_buf *out, const sl_report_sweep *sweep, int percent, double rate)
{
    if (rate > 0.0)
        sl_buf_addf(out, "highest rate with %d %% of the requests within the targets: %.3f /s\n",
                    percent, rate);
    else
        sl_buf_addf(out,
                    "no rate tried had %d %% of the requests within the targets (lowest %.3f)\n",
                    percent, sweep->count > 0 ? sweep->point[0].rate : 0.0);
}

void sl_report_sweep_text(const sl_report_sweep *sweep, sl_buf *out)
{
    sl_buf_addf(out, "%s, model %s\n\n", sweep->site->url, sweep->site->model);
    sl_buf_addf(out, "  %9s %10s  %-20s %9s %10s %10s %10s\n", "rate /s", "attained", "", "goodput",
                "TTFT p50", "TTFT p99", "TBT p99");
    for (size_t i = 0; i < sweep->count; i++) {
        const sl_load_point *p = &sweep->point[i];
        char bar[24] = "";
        const int n = (int)lround(20.0 * p->attainment);

        for (int k = 0; k < n && k < 20; k++)
            bar[k] = '#';
        bar[n < 20 ? n : 20] = '\0';
        sl_buf_addf(out, "  %9.3f %8.1f %%  %-20s %9.3f %10.1f %10.1f %10.1f%s\n", p->rate,
                    100.0 * p->attainment, bar, p->goodput, p->ttft_p50_ms, p->ttft_p99_ms,
                    p->tbt_p99_ms, p->valid ? "" : "  INVALID");
    }
    sl_buf_add_char(out, '\n');
    add_best(out, sweep, 90, sweep->best_90);
    add_best(out, sweep, 99, sweep->best_99);
    if (sweep->unfinished)
        sl_buf_add_str(out, "the search ended before it was precise: allow more --points\n");
}

void sl_report_compare_text(const sl_report_compare *c, sl_buf *out)
{
    sl_buf_addf(out, "A: %s, model %s\nB: %s, model %s\n", c->site[0]->url, c->site[0]->model,
                c->site[1]->url, c->site[1]->model);
    sl_buf_addf(out,
                "%u blocks, interleaved; A %u requests (%u failed), B %u requests (%u failed)\n\n"
                "  %-24s %12s %12s %8s   %s\n",
                c->blocks, c->requests[0], c->failed[0], c->requests[1], c->failed[1], "", "A", "B",
                "B / A", "95 % interval");
    for (size_t i = 0; i < c->count; i++) {
        const sl_report_figure *f = &c->figure[i];
        const bool apart = f->ratio.low > 1.0 || f->ratio.high < 1.0;
        const bool better = (f->ratio.ratio > 1.0) == f->more_is_better;

        sl_buf_addf(out, "  %-19s %-4s %12.2f %12.2f %8.3f   %.3f to %.3f   %s\n", f->name, f->unit,
                    f->ratio.value[0], f->ratio.value[1], f->ratio.ratio, f->ratio.low,
                    f->ratio.high,
                    !apart   ? "no difference shown"
                    : better ? "B is better"
                             : "A is better");
    }
    if (!c->valid)
        sl_buf_addf(out, "\nINVALID: %s\n", c->invalid_why);
}
