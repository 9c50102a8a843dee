/* bench/load_many.h - several runs that answer one question: the highest rate a server bears
 * (sweep), or which of two servers is faster (compare).
 *
 * Every run has texts of its own, so that no server answers from what an earlier run left in its
 * cache; lengths and times are those of the seed.  Thread: the caller's. */
#ifndef SL_BENCH_LOAD_MANY_H
#define SL_BENCH_LOAD_MANY_H

#include "bench/load_stats.h"
#include "bench/report.h"

enum { SL_LOAD_POINTS_MAX = 64, SL_LOAD_BLOCKS_MAX = 100, SL_LOAD_FIGURES_MAX = 12 };

typedef struct sl_load_sweep {
    sl_load_options load; /* rate: where to begin */
    double rate_min, rate_max, precision;
    uint32_t points_max;                                      /* at most SL_LOAD_POINTS_MAX */
    void (*on_point)(const sl_load_point *point, void *user); /* NULL: none */
    void *user;
} sl_load_sweep;

/* Find the highest rates with 90 % and with 99 % attainment.  The points are left by rate.
 * Errors: those of a run; SL_EINVAL (no targets, no rate). */
SL_MUST_CHECK sl_status sl_load_sweep_run(const sl_load_sweep *sweep, sl_load_site *site,
                                          sl_load_point point[SL_LOAD_POINTS_MAX], size_t *count,
                                          sl_err *err);

typedef struct sl_load_compare {
    const sl_load_options *load[2]; /* the same but for where */
    sl_load_site *site[2];
    uint32_t blocks;                             /* A B, B A, A B ... */
    void (*on_block)(uint32_t done, void *user); /* NULL: none */
    void *user;
} sl_load_compare;

/* Run the blocks.  The report's figures are written to `figure`.  `report->site`, `options` and
 * `figure` are set as well.  Errors: those of a run; SL_EINVAL (a side without any success). */
SL_MUST_CHECK sl_status sl_load_compare_run(const sl_load_compare *compare,
                                            sl_report_figure figure[SL_LOAD_FIGURES_MAX],
                                            sl_report_compare *report, sl_err *err);

#endif
