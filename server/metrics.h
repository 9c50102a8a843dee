/* server/metrics.h - what the front counts, and the Prometheus text of /metrics.
 *
 * Names are frozen: tests/server/metrics.golden lists them.  Counters of the engine are read from
 * sl_engine_stats at scrape time; everything else is plain numbers of the loop thread.  Times are
 * seconds; `route` and `status` labels come from tables, never from a request's bytes.
 *
 * Thread: loop. */
#ifndef SL_SERVER_METRICS_H
#define SL_SERVER_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "server/routes.h"

enum { SL_METRICS_BUCKETS_MAX = 24, SL_METRICS_STATUS_MAX = 24 };

typedef enum sl_metric_hist {
    SL_HIST_TTFT,    /* from the request's last byte to its first token */
    SL_HIST_TBT,     /* between two tokens of one stream */
    SL_HIST_QUEUE,   /* from submission to admission */
    SL_HIST_PREFILL, /* from admission to the first token */
    SL_HIST_DECODE,  /* from the first token to the last */
    SL_HIST_E2E,     /* from the request's last byte to the last token */
    SL_HIST_PROMPT_TOKENS,
    SL_HIST_GENERATION_TOKENS,
    SL_HIST_COUNT
} sl_metric_hist;

typedef struct sl_histogram {
    uint64_t bucket[SL_METRICS_BUCKETS_MAX + 1]; /* not cumulative; the last is +Inf */
    double sum;
    uint64_t count;
} sl_histogram;

typedef struct sl_metrics {
    sl_histogram hist[SL_HIST_COUNT];
    /* By route and by the index of a status in a table of its own; 0 is "other". */
    uint64_t http[SL_ROUTE_COUNT][SL_METRICS_STATUS_MAX];
    uint64_t connections_accepted, connections_refused;
    uint64_t clients_gone; /* went away before the end of their answer */
    uint64_t stop_strings; /* answers that a stop string ended */
} sl_metrics;

void sl_metrics_observe(sl_metrics *metrics, sl_metric_hist which, double value);
void sl_metrics_count_http(sl_metrics *metrics, sl_route_id route, int status);

/* What only the moment knows. */
typedef struct sl_metrics_now {
    const sl_engine_stats *stats; /* NULL: no model yet */
    const char *model;            /* served name */
    const char *device;
    uint32_t preparing; /* requests being read and tokenised */
    uint32_t connections_open;
    uint32_t slots_total, slots_free;
    bool ready;
    bool vllm_aliases;
    uint64_t uptime_us;
    uint64_t resident_bytes;
} sl_metrics_now;

/* Append the whole text. */
void sl_metrics_write(const sl_metrics *metrics, const sl_metrics_now *now, sl_buf *out);

#endif
