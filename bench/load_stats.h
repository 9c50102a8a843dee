/* bench/load_stats.h - records to figures: exact percentiles, goodput, validity, intervals.
 *
 * Percentiles come from all samples, sorted: the p-th of n samples lies at (n - 1) * p, between two
 * samples by linear interpolation (as numpy does).  They are never averaged over runs.
 *
 * Which requests count.  Judged: sent, intended inside the measured window (warm-up and cool-down
 * are left out), and not part of the planned trouble (cancelled or slow on purpose).  Latencies are
 * of judged requests that succeeded; a judged request that failed met no target.
 *
 * Thread: any; no state. */
#ifndef SL_BENCH_LOAD_STATS_H
#define SL_BENCH_LOAD_STATS_H

#include "bench/load.h"

typedef struct sl_load_dist {
    size_t n;
    double mean, std, min, p50, p90, p95, p99, p999, max;
} sl_load_dist;

/* Of ascending samples, n > 0, 0 <= p <= 1. */
double sl_load_percentile(const double *sorted, size_t n, double p);

/* Sorts the samples. n == 0: all zero. */
sl_load_dist sl_load_dist_of(double *sample, size_t n);

enum { SL_LOAD_STATUSES_MAX = 16 };

typedef struct sl_load_summary {
    uint32_t planned, sent, judged, ok;      /* ok: of the judged */
    uint32_t outcome[SL_LOAD_OUTCOME_COUNT]; /* of all planned */
    struct {
        int status; /* HTTP */
        uint32_t count;
    } http[SL_LOAD_STATUSES_MAX]; /* of all that were sent and got a status */
    uint32_t http_count;
    uint32_t failed; /* of all: neither ok, nor cancelled by us, nor not sent */
    uint32_t retried, reused;
    uint32_t without_usage; /* of the judged and ok: tokens are events */

    double span_s;       /* from the first judged request's intended time to the last one's end */
    double offered_rate; /* judged requests per second of intended times; 0: one request */
    double request_rate, output_rate, input_rate; /* per second of the span: requests, tokens */

    sl_load_dist ttft, ttft_sent, tbt, tpot, e2e; /* ms */
    sl_load_dist lag;                             /* ms, of all that were sent in the window */
    sl_load_dist input, output;                   /* tokens */

    bool has_slo;
    uint32_t good;     /* judged requests that met every target */
    double attainment; /* good / judged */
    double goodput;    /* good per second of the span */

    /* Tokens of all answers that ended well, for the check against /metrics. */
    double prompt_tokens, output_tokens, cached_tokens;
    double server_prompt_tokens, server_output_tokens; /* -1: the server does not say */
    bool tokens_comparable; /* every request ended well, and said its usage */
    bool tokens_differ;     /* comparable, and by more than 1 % */

    bool valid;
    char invalid_why[200];
} sl_load_summary;

/* Errors: SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_load_summarise(const sl_load_options *options, const sl_load_plan *plan,
                                          const sl_load_result *result, sl_load_summary *out,
                                          sl_err *err);

/* Is request i judged?  (Margins are counted in the order of intended times: plan->item's order
 * for open loops; `order` is that of sl_load_window_of.) */
typedef struct sl_load_window {
    uint64_t from_us, to_us; /* of intended times, both included */
} sl_load_window;
SL_MUST_CHECK sl_status sl_load_window_of(const sl_load_options *options,
                                          const sl_load_result *result, sl_load_window *out,
                                          sl_err *err);
bool sl_load_is_judged(const sl_load_plan *plan, const sl_load_result *result,
                       const sl_load_window *window, uint32_t i);

/* Figures of one request that succeeded, in ms; false: it has no such figure. */
bool sl_load_ttft_of(const sl_load_record *record, double *ms);
bool sl_load_tpot_of(const sl_load_record *record, double *ms);
double sl_load_e2e_of(const sl_load_record *record);
/* The record's own gaps between events: the p-th; `scratch` has room for `events` values. */
bool sl_load_gap_of(const sl_load_record *record, double p, double *scratch, double *ms);

/* Did it meet every target that is set?  Errors: SL_ENOMEM only. */
SL_MUST_CHECK sl_status sl_load_is_good(const sl_load_slo *slo, const sl_load_record *record,
                                        bool *out);
bool sl_load_slo_is_set(const sl_load_slo *slo);

/* --- ratios -------------------------------------------------------------------------------- */

/* Samples of one figure on two sides, in blocks that were measured next to each other. */
typedef struct sl_load_block {
    const double *sample[2]; /* borrowed */
    size_t count[2];
} sl_load_block;

typedef enum sl_load_statistic { SL_LOAD_MEAN, SL_LOAD_MEDIAN, SL_LOAD_P99 } sl_load_statistic;

typedef struct sl_load_ratio {
    double value[2];     /* of each side, all blocks together */
    double ratio;        /* value[1] / value[0] */
    double low, high;    /* 95 % of the resampled ratios lie between */
    uint32_t replicates; /* that had samples on both sides */
} sl_load_ratio;

/* Resample blocks, then requests within them (a bootstrap that keeps what neighbours share), 1,000
 * times from the seed.  Errors: SL_EINVAL (a side without samples), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_load_ratio_of(const sl_load_block *block, size_t block_count,
                                         sl_load_statistic statistic, uint64_t seed,
                                         sl_load_ratio *out, sl_err *err);

/* --- the search of a sweep ----------------------------------------------------------------- */

typedef struct sl_load_point {
    double rate, attainment, goodput, ttft_p50_ms, ttft_p99_ms, tbt_p99_ms, output_rate;
    bool valid;
} sl_load_point;

/* The next rate to try for a target attainment, from the points so far (any order): doubling or
 * halving until the target lies between two rates, then their geometric mean until they are within
 * `precision` (1.1: 10 %) of each other.  0: found, or out of [rate_min, rate_max]. */
double sl_load_search_next(const sl_load_point *point, size_t count, double target,
                           double rate_first, double rate_min, double rate_max, double precision);

/* The highest rate that met the target with every lower rate tried meeting it too; 0: none. */
double sl_load_search_best(const sl_load_point *point, size_t count, double target);

#endif
