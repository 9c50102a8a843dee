/* bench/report_json.c - results for programs. */
#include <math.h>
#include <string.h>

#include "bench/report.h"

/* A member's name with the comma before it; `name` NULL: an element. */
static void key(sl_buf *out, const char *name)
{
    if (out->len > 0 && out->data[out->len - 1] != '{' && out->data[out->len - 1] != '[')
        sl_buf_add_char(out, ',');
    if (name != NULL)
        sl_buf_addf(out, "\"%s\":", name);
}

static void add_text(sl_buf *out, const char *name, const char *value)
{
    key(out, name);
    if (value == NULL)
        sl_buf_add_str(out, "null");
    else
        sl_buf_add_json(out, value, strlen(value));
}

static void add_number(sl_buf *out, const char *name, double value)
{
    key(out, name);
    if (!isfinite(value))
        sl_buf_add_str(out, "null");
    else if (value == floor(value) && fabs(value) < 1e15)
        sl_buf_addf(out, "%.0f", value);
    else
        sl_buf_addf(out, "%.9g", value);
}

static void add_bool(sl_buf *out, const char *name, bool value)
{
    key(out, name);
    sl_buf_add_str(out, value ? "true" : "false");
}

static void begin(sl_buf *out, const char *name)
{
    if (name != NULL || out->len > 0)
        key(out, name);
    sl_buf_add_char(out, '{');
}

static void end(sl_buf *out)
{
    sl_buf_add_char(out, '}');
}

static void add_dist(sl_buf *out, const char *name, const sl_load_dist *d)
{
    begin(out, name);
    add_number(out, "n", (double)d->n);
    if (d->n > 0) {
        add_number(out, "mean", d->mean);
        add_number(out, "std", d->std);
        add_number(out, "min", d->min);
        add_number(out, "p50", d->p50);
        add_number(out, "p90", d->p90);
        add_number(out, "p95", d->p95);
        add_number(out, "p99", d->p99);
        add_number(out, "p99.9", d->p999);
        add_number(out, "max", d->max);
    }
    end(out);
}

static void add_length(sl_buf *out, const char *name, const sl_load_length *length)
{
    begin(out, name);
    if (length->kind == SL_LOAD_LOGNORMAL) {
        add_number(out, "median", length->median);
        add_number(out, "sigma", length->sigma);
    }
    add_number(out, "min", length->min);
    add_number(out, "max", length->max);
    end(out);
}

static void add_site(sl_buf *out, const sl_load_site_info *site, const char *name)
{
    begin(out, name);
    add_text(out, "base_url", site->url);
    add_text(out, "model", site->model);
    add_text(out, "prompt_lengths", site->lengths);
    add_bool(out, "prompt_lengths_exact", site->lengths_exact);
    add_number(out, "prompt_overhead_tokens", site->overhead_tokens);
    end(out);
}

static void add_slo(sl_buf *out, const sl_load_slo *slo)
{
    begin(out, "targets_ms");
    if (slo->ttft_ms > 0.0)
        add_number(out, "ttft", slo->ttft_ms);
    if (slo->tbt_ms > 0.0)
        add_number(out, "tbt", slo->tbt_ms);
    if (slo->tpot_ms > 0.0)
        add_number(out, "tpot", slo->tpot_ms);
    if (slo->e2e_ms > 0.0)
        add_number(out, "e2e", slo->e2e_ms);
    end(out);
}

static void add_options(sl_buf *out, const sl_load_options *o)
{
    static const char *const process[] = {"poisson", "constant", "gamma"};
    static const char *const shape[] = {"flat", "on_off", "ramp"};

    begin(out, "options");
    add_text(out, "endpoint", o->completions ? "completions" : "chat");
    add_number(out, "seed", (double)o->seed);
    add_number(out, "rate", o->rate);
    add_number(out, "users", o->users);
    add_text(out, "process", process[o->arrivals.process]);
    add_number(out, "burstiness", o->arrivals.burstiness);
    add_text(out, "shape", shape[o->arrivals.shape]);
    add_number(out, "requests", o->requests);
    add_number(out, "duration_s", o->duration_s);
    add_length(out, "input_len", &o->input);
    add_length(out, "output_len", &o->output);
    add_length(out, "think_ms", &o->think_ms);
    add_number(out, "prefix_len", o->prefix_tokens);
    add_number(out, "prefix_count", o->prefix_count);
    add_number(out, "turns", o->turns);
    add_text(out, "dataset", o->trace_path);
    add_number(out, "rate_scale", o->rate_scale);
    add_number(out, "max_input", o->input_max);
    add_number(out, "max_output", o->output_max);
    add_number(out, "temperature", o->temperature);
    add_bool(out, "ignore_eos", !o->keep_eos);
    add_text(out, "extra", o->extra_json);
    add_number(out, "cancel_rate", o->cancel_share);
    add_number(out, "cancel_after_ms", o->cancel_after_ms);
    add_number(out, "slow_readers", o->slow_share);
    add_number(out, "warmup_s", o->warmup.seconds);
    add_number(out, "warmup_requests", o->warmup.requests);
    add_number(out, "cooldown_s", o->cooldown.seconds);
    add_number(out, "cooldown_requests", o->cooldown.requests);
    add_slo(out, &o->slo);
    end(out);
}

static void add_counts(sl_buf *out, const sl_load_summary *s)
{
    begin(out, "requests");
    add_number(out, "planned", s->planned);
    add_number(out, "sent", s->sent);
    add_number(out, "judged", s->judged);
    add_number(out, "ok", s->ok);
    add_number(out, "failed", s->failed);
    add_number(out, "over_reused_connections", s->reused);
    add_number(out, "retried", s->retried);
    begin(out, "by_outcome");
    for (int i = 0; i < SL_LOAD_OUTCOME_COUNT; i++)
        if (s->outcome[i] > 0)
            add_number(out, sl_load_outcome_name((sl_load_outcome)i), s->outcome[i]);
    end(out);
    begin(out, "by_status");
    for (uint32_t i = 0; i < s->http_count; i++) {
        key(out, NULL);
        sl_buf_addf(out, "\"%d\":%u", s->http[i].status, s->http[i].count);
    }
    end(out);
    end(out);
}

static void add_latencies(sl_buf *out, const sl_load_summary *s)
{
    begin(out, "latency_ms");
    add_dist(out, "ttft", &s->ttft);
    add_dist(out, "ttft_from_sent", &s->ttft_sent);
    add_dist(out, "tbt", &s->tbt);
    add_dist(out, "tpot", &s->tpot);
    add_dist(out, "e2e", &s->e2e);
    add_dist(out, "send_lag", &s->lag);
    end(out);
    begin(out, "tokens");
    add_dist(out, "input", &s->input);
    add_dist(out, "output", &s->output);
    add_number(out, "answers_without_usage", s->without_usage);
    end(out);
}

static void add_rates(sl_buf *out, const sl_report *r)
{
    const sl_load_summary *s = r->summary;

    add_number(out, "measured_s", s->span_s);
    add_number(out, "wall_s", (double)r->result->wall_us * 1e-6);
    add_number(out, "in_flight_max", r->result->in_flight_max);
    add_number(out, "offered_per_s", s->offered_rate);
    add_number(out, "requests_per_s", s->request_rate);
    add_number(out, "output_tokens_per_s", s->output_rate);
    add_number(out, "input_tokens_per_s", s->input_rate);
    if (s->has_slo) {
        begin(out, "goodput");
        add_number(out, "good", s->good);
        add_number(out, "attainment", s->attainment);
        add_number(out, "requests_per_s", s->goodput);
        end(out);
    }
}

static void add_server(sl_buf *out, const sl_report *r)
{
    const sl_load_scrape *a = &r->result->before, *b = &r->result->after;
    const sl_load_summary *s = r->summary;

    begin(out, "cross_check");
    add_number(out, "client_prompt_tokens", s->prompt_tokens);
    add_number(out, "client_output_tokens", s->output_tokens);
    add_number(out, "client_cached_tokens", s->cached_tokens);
    add_number(out, "server_prompt_tokens",
               s->server_prompt_tokens >= 0.0 ? s->server_prompt_tokens : NAN);
    add_number(out, "server_output_tokens",
               s->server_output_tokens >= 0.0 ? s->server_output_tokens : NAN);
    add_bool(out, "comparable", s->tokens_comparable);
    add_bool(out, "differ", s->tokens_differ);
    begin(out, "server_state_s");
    for (uint32_t i = 0; i < b->state_count && a->state_count == b->state_count; i++) {
        key(out, NULL);
        sl_buf_add_json(out, b->state_name[i], strlen(b->state_name[i]));
        sl_buf_addf(out, ":%.6f", b->state_s[i] - a->state_s[i]);
    }
    end(out);
    end(out);
}

static void add_head(sl_buf *out, const char *kind)
{
    sl_buf_add_char(out, '{');
    add_text(out, "kind", kind);
    add_number(out, "version", SL_REPORT_VERSION);
    add_text(out, "program", "sluice " SL_VERSION);
}

void sl_report_json(const sl_report *r, sl_buf *out)
{
    add_head(out, "sluice.bench.serve");
    add_number(out, "start_unix_s", (double)r->result->start_unix_s);
    add_bool(out, "valid", r->summary->valid);
    add_text(out, "invalid_why", r->summary->valid ? NULL : r->summary->invalid_why);
    add_site(out, r->site, "server");
    add_options(out, r->options);
    add_text(out, "loop", r->plan->open_loop ? "open" : "closed");
    add_counts(out, r->summary);
    add_rates(out, r);
    add_latencies(out, r->summary);
    add_server(out, r);
    sl_buf_add_str(out, "}\n");
}

/* --- JSON lines ---------------------------------------------------------------------------- */

static void add_ms(sl_buf *out, const char *name, uint64_t us)
{
    key(out, name);
    sl_buf_addf(out, "%.3f", (double)us * 1e-3);
}

static void add_tokens(sl_buf *out, const char *name, int64_t count)
{
    key(out, name);
    if (count < 0)
        sl_buf_add_str(out, "null");
    else
        sl_buf_addf(out, "%lld", (long long)count);
}

static void add_record(sl_buf *out, const sl_load_item *item, const sl_load_record *record)
{
    add_number(out, "session", item->session);
    add_number(out, "turn", item->turn);
    add_text(out, "outcome", sl_load_outcome_name(record->outcome));
    add_number(out, "http_status", record->http_status);
    add_text(out, "error", record->error[0] != '\0' ? record->error : NULL);
    add_ms(out, "intended_ms", record->intended_us);
    add_ms(out, "due_ms", record->due_us);
    add_ms(out, "begun_ms", record->begun_us);
    add_ms(out, "sent_ms", record->sent_us);
    add_ms(out, "first_ms", record->first_us);
    add_ms(out, "last_ms", record->last_us);
    add_ms(out, "done_ms", record->done_us);
    add_number(out, "input_planned", item->input_tokens);
    add_number(out, "output_planned", item->output_tokens);
    add_tokens(out, "prompt_tokens", record->prompt_tokens);
    add_tokens(out, "output_tokens", record->output_tokens);
    add_tokens(out, "cached_tokens", record->cached_tokens);
    add_text(out, "finish", record->finish[0] != '\0' ? record->finish : NULL);
    add_number(out, "events", record->events);
    key(out, "gaps_ms");
    sl_buf_add_char(out, '[');
    for (uint32_t i = 1; i < record->events; i++)
        add_ms(out, NULL, record->event_us[i] - record->event_us[i - 1]);
    sl_buf_add_char(out, ']');
}

void sl_report_jsonl(const sl_report *r, sl_buf *out)
{
    for (uint32_t i = 0; i < r->result->count; i++) {
        sl_buf_add_char(out, '{');
        add_number(out, "request", i);
        add_record(out, &r->plan->item[i], &r->result->record[i]);
        sl_buf_add_str(out, "}\n");
    }
}

/* --- sweep and compare --------------------------------------------------------------------- */

void sl_report_sweep_json(const sl_report_sweep *sweep, sl_buf *out)
{
    add_head(out, "sluice.bench.sweep");
    add_site(out, sweep->site, "server");
    add_options(out, sweep->options);
    add_number(out, "rate_at_90", sweep->best_90 > 0.0 ? sweep->best_90 : NAN);
    add_number(out, "rate_at_99", sweep->best_99 > 0.0 ? sweep->best_99 : NAN);
    add_bool(out, "unfinished", sweep->unfinished);
    key(out, "points");
    sl_buf_add_char(out, '[');
    for (size_t i = 0; i < sweep->count; i++) {
        const sl_load_point *p = &sweep->point[i];

        begin(out, NULL);
        add_number(out, "rate", p->rate);
        add_number(out, "attainment", p->attainment);
        add_number(out, "goodput_per_s", p->goodput);
        add_number(out, "ttft_p50_ms", p->ttft_p50_ms);
        add_number(out, "ttft_p99_ms", p->ttft_p99_ms);
        add_number(out, "tbt_p99_ms", p->tbt_p99_ms);
        add_number(out, "output_tokens_per_s", p->output_rate);
        add_bool(out, "valid", p->valid);
        end(out);
    }
    sl_buf_add_str(out, "]}\n");
}

void sl_report_compare_json(const sl_report_compare *c, sl_buf *out)
{
    add_head(out, "sluice.bench.compare");
    add_bool(out, "valid", c->valid);
    add_text(out, "invalid_why", c->valid ? NULL : c->invalid_why);
    add_site(out, c->site[0], "a");
    add_site(out, c->site[1], "b");
    add_options(out, c->options);
    add_number(out, "blocks", c->blocks);
    add_number(out, "a_requests", c->requests[0]);
    add_number(out, "b_requests", c->requests[1]);
    add_number(out, "a_failed", c->failed[0]);
    add_number(out, "b_failed", c->failed[1]);
    begin(out, "figures");
    for (size_t i = 0; i < c->count; i++) {
        const sl_report_figure *f = &c->figure[i];

        begin(out, f->name);
        add_text(out, "unit", f->unit);
        add_number(out, "a", f->ratio.value[0]);
        add_number(out, "b", f->ratio.value[1]);
        add_number(out, "b_over_a", f->ratio.ratio);
        add_number(out, "low_95", f->ratio.low);
        add_number(out, "high_95", f->ratio.high);
        add_bool(out, "more_is_better", f->more_is_better);
        end(out);
    }
    sl_buf_add_str(out, "}}\n");
}
