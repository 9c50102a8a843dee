/* bench/report.h - results of the load client as text, JSON, JSON lines and a page of HTML.
 *
 * All of them append to a buffer (check `failed` at the end).  The JSON carries a version: a member
 * may be added within a version, none is removed or changes its meaning.
 *
 * Thread: any. */
#ifndef SL_BENCH_REPORT_H
#define SL_BENCH_REPORT_H

#include "base/buf.h"
#include "bench/load_stats.h"

enum { SL_REPORT_VERSION = 1 };

typedef struct sl_report {
    const sl_load_options *options;
    const sl_load_site_info *site;
    const sl_load_plan *plan;
    const sl_load_result *result;
    const sl_load_summary *summary;
} sl_report;

void sl_report_text(const sl_report *report, sl_buf *out);
void sl_report_json(const sl_report *report, sl_buf *out);
/* One line a request: times from the start of the run in ms, gaps, tokens, outcome. */
void sl_report_jsonl(const sl_report *report, sl_buf *out);
/* A page of its own: figures, the distributions of TTFT and TBT, every request as a line of time.
 */
void sl_report_html(const sl_report *report, sl_buf *out);

/* --- sweep and compare --------------------------------------------------------------------- */

typedef struct sl_report_sweep {
    const sl_load_options *options;
    const sl_load_site_info *site;
    const sl_load_point *point; /* by rate */
    size_t count;
    double best_90, best_99; /* 0: no rate tried met it */
    bool unfinished;         /* it ran out of points: the rates are lower bounds */
} sl_report_sweep;

void sl_report_sweep_text(const sl_report_sweep *sweep, sl_buf *out);
void sl_report_sweep_json(const sl_report_sweep *sweep, sl_buf *out);

typedef struct sl_report_figure {
    const char *name; /* static */
    const char *unit; /* static */
    bool more_is_better;
    sl_load_ratio ratio;
} sl_report_figure;

typedef struct sl_report_compare {
    const sl_load_options *options;
    const sl_load_site_info *site[2];
    const sl_report_figure *figure;
    size_t count;
    uint32_t blocks;
    uint32_t requests[2], failed[2]; /* of each side */
    bool valid;
    char invalid_why[200];
} sl_report_compare;

void sl_report_compare_text(const sl_report_compare *compare, sl_buf *out);
void sl_report_compare_json(const sl_report_compare *compare, sl_buf *out);

#endif
