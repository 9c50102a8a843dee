/* server/metrics.c - see metrics.h */
#include "server/metrics.h"

#include <stdatomic.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"

typedef struct hist_info {
    const char *name, *vllm, *text;
    const double *bound;
} hist_info;

/* 0 ends a list of bounds. */
static const double latency_bound[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                       0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                       20,    40,    80,   160,  640,  2560, 0};
static const double gap_bound[] = {0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025,
                                   0.03,  0.04,   0.05,  0.075,  0.1,  0.15,  0.2,  0.3,
                                   0.5,   0.75,   1,     2.5,    5,    0};
static const double token_bound[] = {1,    2,    4,    8,    16,    32,    64,    128,    256, 512,
                                     1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 0};

static const hist_info hist_table[SL_HIST_COUNT] = {
    [SL_HIST_TTFT] = {"sluice_time_to_first_token_seconds", "time_to_first_token_seconds",
                      "From the last byte of a request to its first token.", latency_bound},
    [SL_HIST_TBT] = {"sluice_time_between_tokens_seconds", "inter_token_latency_seconds",
                     "Between two tokens of one answer.", gap_bound},
    [SL_HIST_QUEUE] = {"sluice_request_queue_seconds", "request_queue_time_seconds",
                       "From submission to admission.", latency_bound},
    [SL_HIST_PREFILL] = {"sluice_request_prefill_seconds", "request_prefill_time_seconds",
                         "From admission to the first token.", latency_bound},
    [SL_HIST_DECODE] = {"sluice_request_decode_seconds", "request_decode_time_seconds",
                        "From the first token to the last.", latency_bound},
    [SL_HIST_E2E] = {"sluice_request_e2e_seconds", "e2e_request_latency_seconds",
                     "From the last byte of a request to its last token.", latency_bound},
    [SL_HIST_PROMPT_TOKENS] = {"sluice_request_prompt_tokens", "request_prompt_tokens",
                               "Prompt tokens of a request.", token_bound},
    [SL_HIST_GENERATION_TOKENS] = {"sluice_request_generation_tokens", "request_generation_tokens",
                                   "Generated tokens of a request.", token_bound},
};

/* Statuses that have a counter of their own; anything else is counted as index 0. */
static const int status_table[SL_METRICS_STATUS_MAX] = {0,   200, 400, 401, 403, 404, 405, 408, 413,
                                                        414, 415, 429, 431, 499, 500, 501, 503};

void sl_metrics_observe(sl_metrics *metrics, sl_metric_hist which, double value)
{
    sl_histogram *h = &metrics->hist[which];
    const double *bound = hist_table[which].bound;
    size_t i = 0;

    while (bound[i] > 0 && value > bound[i])
        i++;
    SL_ASSERT(i <= SL_METRICS_BUCKETS_MAX);
    h->bucket[i]++;
    h->sum += value;
    h->count++;
}

void sl_metrics_count_http(sl_metrics *metrics, sl_route_id route, int status)
{
    size_t i = 1;

    while (i < SL_METRICS_STATUS_MAX && status_table[i] != status)
        i++;
    metrics->http[route][i < SL_METRICS_STATUS_MAX ? i : 0]++;
}

/* --- writing ------------------------------------------------------------------------------- */

static void add_head(sl_buf *out, const char *name, const char *type, const char *text)
{
    sl_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, text, name, type);
}

static void add_gauge(sl_buf *out, const char *name, const char *text, double value)
{
    add_head(out, name, "gauge", text);
    sl_buf_addf(out, "%s %.10g\n", name, value);
}

static void add_counter(sl_buf *out, const char *name, const char *text, uint64_t value)
{
    add_head(out, name, "counter", text);
    sl_buf_addf(out, "%s %llu\n", name, (unsigned long long)value);
}

/* A label's value: \, " and newline escaped. */
static void add_label(sl_buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\\' || *p == '"')
            sl_buf_add_char(out, '\\');
        if (*p == '\n')
            sl_buf_add_str(out, "\\n");
        else
            sl_buf_add_char(out, *p);
    }
}

/* `label` is the inside of the braces, or "". */
static void add_histogram(sl_buf *out, const char *name, const char *text, const char *label,
                          const sl_histogram *h, const double *bound)
{
    const char *comma = label[0] != '\0' ? "," : "";
    uint64_t sum = 0;
    size_t i = 0;

    add_head(out, name, "histogram", text);
    for (; bound[i] > 0; i++) {
        sum += h->bucket[i];
        sl_buf_addf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, label, comma, bound[i],
                    (unsigned long long)sum);
    }
    sl_buf_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, label, comma,
                (unsigned long long)h->count);
    if (label[0] != '\0') {
        sl_buf_addf(out, "%s_sum{%s} %.10g\n%s_count{%s} %llu\n", name, label, h->sum, name, label,
                    (unsigned long long)h->count);
        return;
    }
    sl_buf_addf(out, "%s_sum %.10g\n%s_count %llu\n", name, h->sum, name,
                (unsigned long long)h->count);
}

static unsigned load(const atomic_uint *gauge)
{
    return atomic_load_explicit(gauge, memory_order_relaxed);
}

static unsigned long long load_count(const atomic_ullong *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Share of the KV cache that requests hold; cached pages that may be evicted count as free. */
static double cache_usage(const sl_engine_stats *s)
{
    const unsigned total = load(&s->planes_total);
    const unsigned unused = load(&s->planes_free) + load(&s->planes_evictable);

    return total == 0 || unused >= total ? 0.0 : (double)(total - unused) / total;
}

/* An idle engine sleeps and accounts for nothing: what has gone by since counts as idle.  (A second
 * at least, so that the moment between two states never makes a counter go back.) */
static uint64_t residency_us(const sl_engine_stats *s, sl_sched_state state)
{
    const uint64_t mark_us = load_count(&s->state_mark_us), now_us = sl_clock_us();
    const bool sleeps = state == SL_STATE_IDLE && load(&s->state) == SL_STATE_IDLE;

    return load_count(&s->state_us[state]) +
           (sleeps && mark_us != 0 && now_us > mark_us + 1000000u ? now_us - mark_us : 0);
}

static void add_engine_gauges(sl_buf *out, const sl_metrics_now *now)
{
    const sl_engine_stats *s = now->stats;

    add_gauge(out, "sluice_requests_queued", "Requests that wait for admission.",
              (s != NULL ? load(&s->queued) : 0) + now->preparing);
    add_gauge(out, "sluice_requests_running", "Requests that hold pages of the KV cache.",
              s != NULL ? load(&s->prefilling) + load(&s->decoding) : 0);
    add_gauge(out, "sluice_kv_cache_usage_ratio",
              "Share of the KV cache that requests hold (0 to 1).", s != NULL ? cache_usage(s) : 0);
    if (s == NULL)
        return;
    add_gauge(out, "sluice_requests_prefilling", "Running requests whose prompt is being read.",
              load(&s->prefilling));
    add_gauge(out, "sluice_requests_decoding", "Running requests that are being answered.",
              load(&s->decoding));
    add_head(out, "sluice_kv_planes", "gauge", "Planes of the KV cache.");
    sl_buf_addf(out,
                "sluice_kv_planes{state=\"total\"} %u\nsluice_kv_planes{state=\"free\"} %u\n"
                "sluice_kv_planes{state=\"evictable\"} %u\n",
                load(&s->planes_total), load(&s->planes_free), load(&s->planes_evictable));
    add_gauge(out, "sluice_scheduler_rung", "Rung of the ladder: division of the units.",
              load(&s->rung));
    add_head(out, "sluice_scheduler_state", "gauge", "1 for the scheduler's present state.");
    for (int i = 0; i < SL_STATE_COUNT; i++)
        sl_buf_addf(out, "sluice_scheduler_state{state=\"%s\"} %d\n",
                    sl_sched_state_name((sl_sched_state)i), (int)load(&s->state) == i);
    add_head(out, "sluice_scheduler_state_seconds_total", "counter", "Time spent in each state.");
    for (int i = 0; i < SL_STATE_COUNT; i++)
        sl_buf_addf(out, "sluice_scheduler_state_seconds_total{state=\"%s\"} %.6f\n",
                    sl_sched_state_name((sl_sched_state)i),
                    (double)residency_us(s, (sl_sched_state)i) * 1e-6);
}

static void add_engine_counters(sl_buf *out, const sl_engine_stats *s)
{
#define ADD_COUNTER(name, text)                                                                    \
    add_counter(out, "sluice_" #name "_total", text, load_count(&s->name));
    SL_ENGINE_COUNTERS(ADD_COUNTER)
#undef ADD_COUNTER
}

static void add_front(sl_buf *out, const sl_metrics *m, const sl_metrics_now *now)
{
    add_gauge(out, "sluice_ready", "1 if new requests are served.", now->ready);
    add_gauge(out, "sluice_connections_open", "Open connections.", now->connections_open);
    add_gauge(out, "sluice_slots_total", "Sequences in flight at most, queue included.",
              now->slots_total);
    add_gauge(out, "sluice_slots_free", "Sequences that could be taken now.", now->slots_free);
    add_counter(out, "sluice_connections_accepted_total", "Connections accepted.",
                m->connections_accepted);
    add_counter(out, "sluice_connections_refused_total", "Connections over the limit.",
                m->connections_refused);
    add_counter(out, "sluice_clients_gone_total",
                "Clients that went away before the end of their answer.", m->clients_gone);
    add_counter(out, "sluice_stop_strings_total", "Answers that a stop string ended.",
                m->stop_strings);
    add_head(out, "sluice_http_requests_total", "counter", "Requests by route and status.");
    for (int r = 0; r < SL_ROUTE_COUNT; r++)
        for (int i = 0; i < SL_METRICS_STATUS_MAX; i++)
            if (m->http[r][i] > 0)
                sl_buf_addf(out, "sluice_http_requests_total{route=\"%s\",status=\"%d\"} %llu\n",
                            sl_route_label((sl_route_id)r), status_table[i],
                            (unsigned long long)m->http[r][i]);
}

static void add_process(sl_buf *out, const sl_metrics_now *now)
{
    add_gauge(out, "sluice_uptime_seconds", "Since the start.", (double)now->uptime_us * 1e-6);
    add_gauge(out, "sluice_resident_memory_bytes", "Resident memory of the process.",
              (double)now->resident_bytes);
    add_head(out, "sluice_build_info", "gauge", "Version, device and model; always 1.");
    sl_buf_addf(out, "sluice_build_info{version=\"%s\",device=\"", SL_VERSION);
    add_label(out, now->device);
    sl_buf_add_str(out, "\",model=\"");
    add_label(out, now->model);
    sl_buf_add_str(out, "\"} 1\n");
}

/* --- vLLM's names -------------------------------------------------------------------------- */

static void add_alias(sl_buf *out, const char *name, const char *type, const char *label,
                      double value)
{
    sl_buf_addf(out, "# TYPE vllm:%s %s\nvllm:%s{%s} %.10g\n", name, type, name, label, value);
}

static void add_aliases(sl_buf *out, const sl_metrics *m, const sl_metrics_now *now)
{
    const sl_engine_stats *s = now->stats;
    const char *text;
    sl_buf label;

    sl_buf_init(&label, 4096);
    sl_buf_add_str(&label, "model_name=\"");
    add_label(&label, now->model);
    sl_buf_add_str(&label, "\",engine=\"0\"");
    text = sl_buf_text(&label);
    if (text == NULL || s == NULL)
        goto out;
    add_alias(out, "num_requests_running", "gauge", text,
              load(&s->prefilling) + load(&s->decoding));
    add_alias(out, "num_requests_waiting", "gauge", text, load(&s->queued) + now->preparing);
    add_alias(out, "kv_cache_usage_perc", "gauge", text, cache_usage(s));
    add_alias(out, "prompt_tokens_total", "counter", text, (double)load_count(&s->prompt_tokens));
    add_alias(out, "generation_tokens_total", "counter", text,
              (double)load_count(&s->generation_tokens));
    add_alias(out, "num_preemptions_total", "counter", text, (double)load_count(&s->preemptions));
    add_alias(out, "prefix_cache_queries_total", "counter", text,
              (double)load_count(&s->prompt_tokens));
    add_alias(out, "prefix_cache_hits_total", "counter", text,
              (double)load_count(&s->prompt_tokens_cached));
    for (int i = 0; i < SL_HIST_COUNT; i++) {
        char name[64] = "vllm:";

        strncat(name, hist_table[i].vllm, sizeof(name) - 6);
        add_histogram(out, name, hist_table[i].text, text, &m->hist[i], hist_table[i].bound);
    }
out:
    sl_buf_done(&label);
}

void sl_metrics_write(const sl_metrics *metrics, const sl_metrics_now *now, sl_buf *out)
{
    add_engine_gauges(out, now);
    if (now->stats != NULL)
        add_engine_counters(out, now->stats);
    add_front(out, metrics, now);
    for (int i = 0; i < SL_HIST_COUNT; i++)
        add_histogram(out, hist_table[i].name, hist_table[i].text, "", &metrics->hist[i],
                      hist_table[i].bound);
    add_process(out, now);
    if (now->vllm_aliases)
        add_aliases(out, metrics, now);
}
