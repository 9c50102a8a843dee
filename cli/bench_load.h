/* cli/bench_load.h - the options that `sluice bench serve`, `sweep` and `compare` share. */
#ifndef SL_CLI_BENCH_LOAD_H
#define SL_CLI_BENCH_LOAD_H

#include <stdio.h>

#include "bench/load.h"

typedef enum sl_bench_kind {
    SL_BENCH_SERVE = 1, /* bits: an option names the commands that know it */
    SL_BENCH_SWEEP = 2,
    SL_BENCH_COMPARE = 4,
    SL_BENCH_ALL = 7
} sl_bench_kind;

enum { SL_BENCH_KEY_MAX = 4096 };

typedef struct sl_bench_load_args {
    sl_load_options load;
    const char *url[2];
    uint32_t url_count;
    const char *key_file;
    const char *json_path, *jsonl_path, *html_path;
    bool save_result, quiet;
    double slo_fail_percent; /* < 0: not asked for */
    double errors_max;       /* share of requests that may fail */
    double rate_min, rate_max, precision;
    uint32_t points;
    uint32_t blocks;
    bool requests_given;
    char key[SL_BENCH_KEY_MAX];
} sl_bench_load_args;

/* Read the command line (argv[0] is the command's name).  True: go on.  False: *exit_status. */
bool sl_bench_load_parse(sl_bench_kind kind, int argc, char **argv, sl_bench_load_args *out,
                         int *exit_status);

int sl_cli_bench_serve(int argc, char **argv);
int sl_cli_bench_sweep(int argc, char **argv);
int sl_cli_bench_compare(int argc, char **argv);

#endif
