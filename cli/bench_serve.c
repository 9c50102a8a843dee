/* cli/bench_serve.c - `sluice bench serve`, `sweep` and `compare`: load servers, and judge. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/load_many.h"
#include "cli/bench_load.h"

enum {
    EXIT_GOOD = 0,
    EXIT_FAILED = 1,
    EXIT_TARGETS = 3,
    EXIT_INVALID = 4,
    REPORT_BYTES_MAX = 1 << 30,
    LOG_EVERY_US = 10000000
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* --- progress ------------------------------------------------------------------------------ */

typedef struct progress_line {
    bool terminal, shown;
    uint64_t logged_us;
} progress_line;

static void show_progress(const sl_load_progress *p, void *user)
{
    progress_line *line = user;

    if (!line->terminal && p->elapsed_us < line->logged_us + LOG_EVERY_US)
        return;
    line->logged_us = p->elapsed_us;
    fprintf(stderr, "%s%7.1f s  %u of %u sent, %u done, %u failed, %llu events%s",
            line->terminal ? "\r" : "", (double)p->elapsed_us * 1e-6, p->sent, p->planned,
            p->finished, p->failed, (unsigned long long)p->events, line->terminal ? "   " : "\n");
    line->shown = true;
}

static void end_progress(progress_line *line)
{
    if (line->terminal && line->shown)
        fputs("\r\033[K", stderr);
    line->shown = false;
    line->logged_us = 0;
}

static void watch(sl_bench_load_args *a, progress_line *line)
{
    *line = (progress_line){.terminal = isatty(STDERR_FILENO) == 1};
    a->load.stop = &stopped;
    a->load.user = line;
    if (!a->quiet)
        a->load.on_progress = show_progress;
    catch_signals();
}

/* --- output -------------------------------------------------------------------------------- */

static sl_status write_file(const char *path, sl_buf *bytes, sl_err *err)
{
    FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    bool good;

    if (bytes->failed)
        return sl_fail(err, SL_ENOMEM, "no memory for '%.200s'", path);
    if (f == NULL)
        return sl_fail(err, SL_EIO, "cannot write '%.200s': %s", path, strerror(errno));
    good = bytes->len == 0 || fwrite(bytes->data, 1, bytes->len, f) == bytes->len;
    good = (f == stdout ? fflush(f) : fclose(f)) == 0 && good;
    return good ? SL_OK : sl_fail(err, SL_EIO, "cannot write '%.200s'", path);
}

static void print(sl_buf *text, bool json_on_stdout)
{
    const char *t = sl_buf_text(text);

    fputs(t != NULL ? t : "", json_on_stdout ? stderr : stdout);
}

static const char *json_path(const sl_bench_load_args *a, char *room, size_t n)
{
    if (a->json_path != NULL || !a->save_result)
        return a->json_path;
    snprintf(room, n, "sluice-bench-%lld.json", (long long)sl_clock_unix_s());
    return room;
}

static bool on_stdout(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

static int complain(const char *command, const sl_err *err)
{
    fprintf(stderr, "sluice bench %s: %s\n", command, err->text);
    return EXIT_FAILED;
}

/* --- serve --------------------------------------------------------------------------------- */

static sl_status write_serve(const sl_bench_load_args *a, const sl_report *report, sl_err *err)
{
    const struct {
        const char *path;
        void (*write)(const sl_report *, sl_buf *);
    } file[] = {{a->json_path, sl_report_json},
                {a->jsonl_path, sl_report_jsonl},
                {a->html_path, sl_report_html}};
    sl_status status = SL_OK;
    sl_buf bytes;

    sl_buf_init(&bytes, REPORT_BYTES_MAX);
    sl_report_text(report, &bytes);
    print(&bytes, on_stdout(a->json_path) || on_stdout(a->jsonl_path) || on_stdout(a->html_path));
    for (size_t i = 0; i < sizeof(file) / sizeof(*file) && status == SL_OK; i++) {
        if (file[i].path == NULL)
            continue;
        sl_buf_reset(&bytes);
        file[i].write(report, &bytes);
        status = write_file(file[i].path, &bytes, err);
    }
    sl_buf_done(&bytes);
    return status;
}

static int judge(const sl_bench_load_args *a, const sl_load_summary *s)
{
    if (s->sent == 0 || s->sent == s->failed || (double)s->failed > a->errors_max * (double)s->sent)
        return EXIT_FAILED;
    if (!s->valid)
        return EXIT_INVALID;
    if (a->slo_fail_percent >= 0.0 && 100.0 * s->attainment < a->slo_fail_percent)
        return EXIT_TARGETS;
    return EXIT_GOOD;
}

int sl_cli_bench_serve(int argc, char **argv)
{
    sl_bench_load_args a;
    sl_load_site *site = NULL;
    sl_load_plan plan = {0};
    sl_load_result result = {0};
    sl_load_summary summary;
    progress_line line;
    char room[64];
    sl_err err = {0};
    int rc;

    if (!sl_bench_load_parse(SL_BENCH_SERVE, argc, argv, &a, &rc))
        return rc;
    a.json_path = json_path(&a, room, sizeof(room));
    watch(&a, &line);
    rc = EXIT_FAILED;
    if (sl_load_plan_make(&a.load, &plan, &err) != SL_OK ||
        sl_load_site_open(&a.load, &site, &err) != SL_OK ||
        sl_load_run(&a.load, site, &plan, &result, &err) != SL_OK)
        goto out;
    end_progress(&line);
    if (sl_load_summarise(&a.load, &plan, &result, &summary, &err) != SL_OK ||
        write_serve(&a,
                    &(sl_report){.options = &a.load,
                                 .site = sl_load_site_get_info(site),
                                 .plan = &plan,
                                 .result = &result,
                                 .summary = &summary},
                    &err) != SL_OK)
        goto out;
    rc = judge(&a, &summary);
out:
    if (err.text[0] != '\0')
        rc = complain("serve", &err);
    sl_load_result_done(&result);
    sl_load_plan_done(&plan);
    sl_load_site_close(site);
    return rc;
}

/* --- sweep --------------------------------------------------------------------------------- */

static void show_point(const sl_load_point *p, void *user)
{
    end_progress(user);
    fprintf(stderr, "%10.3f /s  %5.1f %% attained%s\n", p->rate, 100.0 * p->attainment,
            p->valid ? "" : "  (invalid)");
}

static sl_status write_sweep(const sl_bench_load_args *a, const sl_report_sweep *report,
                             sl_err *err)
{
    sl_status status = SL_OK;
    sl_buf bytes;

    sl_buf_init(&bytes, REPORT_BYTES_MAX);
    sl_report_sweep_text(report, &bytes);
    print(&bytes, on_stdout(a->json_path));
    if (a->json_path != NULL) {
        sl_buf_reset(&bytes);
        sl_report_sweep_json(report, &bytes);
        status = write_file(a->json_path, &bytes, err);
    }
    sl_buf_done(&bytes);
    return status;
}

static bool is_unfinished(const sl_load_sweep *sweep, const sl_load_point *point, size_t count,
                          double target)
{
    return sl_load_search_next(point, count, target, sweep->load.rate, sweep->rate_min,
                               sweep->rate_max, sweep->precision) > 0.0;
}

int sl_cli_bench_sweep(int argc, char **argv)
{
    sl_bench_load_args a;
    sl_load_point point[SL_LOAD_POINTS_MAX];
    sl_report_sweep report = {.point = point};
    sl_load_site *site = NULL;
    progress_line line;
    char room[64];
    sl_err err = {0};
    bool valid = true;
    int rc;

    if (!sl_bench_load_parse(SL_BENCH_SWEEP, argc, argv, &a, &rc))
        return rc;
    a.json_path = json_path(&a, room, sizeof(room));
    watch(&a, &line);
    const sl_load_sweep sweep = {.load = a.load,
                                 .rate_min = a.rate_min,
                                 .rate_max = a.rate_max,
                                 .precision = a.precision,
                                 .points_max = a.points,
                                 .on_point = a.quiet ? NULL : show_point,
                                 .user = &line};

    if (sl_load_site_open(&a.load, &site, &err) == SL_OK &&
        sl_load_sweep_run(&sweep, site, point, &report.count, &err) == SL_OK) {
        report.options = &a.load;
        report.site = sl_load_site_get_info(site);
        report.best_90 = sl_load_search_best(point, report.count, 0.90);
        report.best_99 = sl_load_search_best(point, report.count, 0.99);
        report.unfinished = is_unfinished(&sweep, point, report.count, 0.90) ||
                            is_unfinished(&sweep, point, report.count, 0.99);
        (void)!write_sweep(&a, &report, &err);
    }
    for (size_t i = 0; i < report.count; i++)
        valid = valid && point[i].valid;
    rc = err.text[0] != '\0' ? complain("sweep", &err) : valid ? EXIT_GOOD : EXIT_INVALID;
    sl_load_site_close(site);
    return rc;
}

/* --- compare ------------------------------------------------------------------------------- */

static void show_block(uint32_t done, void *user)
{
    end_progress(user);
    fprintf(stderr, "%u runs done\n", done);
}

static sl_status write_compare(const sl_bench_load_args *a, const sl_report_compare *report,
                               sl_err *err)
{
    sl_status status = SL_OK;
    sl_buf bytes;

    sl_buf_init(&bytes, REPORT_BYTES_MAX);
    sl_report_compare_text(report, &bytes);
    print(&bytes, on_stdout(a->json_path));
    if (a->json_path != NULL) {
        sl_buf_reset(&bytes);
        sl_report_compare_json(report, &bytes);
        status = write_file(a->json_path, &bytes, err);
    }
    sl_buf_done(&bytes);
    return status;
}

static int judge_compare(const sl_bench_load_args *a, const sl_report_compare *report)
{
    for (int side = 0; side < 2; side++)
        if ((double)report->failed[side] > a->errors_max * (double)report->requests[side])
            return EXIT_FAILED;
    return report->valid ? EXIT_GOOD : EXIT_INVALID;
}

int sl_cli_bench_compare(int argc, char **argv)
{
    sl_report_figure figure[SL_LOAD_FIGURES_MAX];
    sl_report_compare report = {0};
    sl_bench_load_args a;
    sl_load_options second;
    sl_load_site *site[2] = {NULL, NULL};
    progress_line line;
    char room[64];
    sl_err err = {0};
    int rc;

    if (!sl_bench_load_parse(SL_BENCH_COMPARE, argc, argv, &a, &rc))
        return rc;
    a.json_path = json_path(&a, room, sizeof(room));
    watch(&a, &line);
    second = a.load;
    second.base_url = a.url[1];
    if (sl_load_site_open(&a.load, &site[0], &err) == SL_OK &&
        sl_load_site_open(&second, &site[1], &err) == SL_OK) {
        const sl_load_compare compare = {.load = {&a.load, &second},
                                         .site = {site[0], site[1]},
                                         .blocks = a.blocks,
                                         .on_block = a.quiet ? NULL : show_block,
                                         .user = &line};

        if (sl_load_compare_run(&compare, figure, &report, &err) == SL_OK)
            (void)!write_compare(&a, &report, &err);
    }
    rc = err.text[0] != '\0' ? complain("compare", &err) : judge_compare(&a, &report);
    sl_load_site_close(site[0]);
    sl_load_site_close(site[1]);
    return rc;
}
