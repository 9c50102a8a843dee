/* cli/bench.c - `sluice bench KIND`: measurements. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "bench/engine.h"
#include "cli/bench_load.h"
#include "cli/cli.h"
#include "kernels/kernels.h"
#include "model/gguf.h"

static void usage(FILE *f)
{
    fprintf(f, "usage: sluice bench engine --model FILE [options]\n"
               "\n"
               "Measure the engine offline: prefill and decode tokens per second.\n"
               "\n"
               "  --model FILE, -m     a GGUF file\n"
               "  --threads N          CPU cores to use (default: all)\n"
               "  --prompt N           tokens of the prefill prompt (512)\n"
               "  --batches A,B,...    streams that decode at once (1,8,32)\n"
               "  --steps N            decode steps a measurement (64)\n"
               "  --repeats N          measurements; the median is shown (3)\n"
               "  --json               one JSON object instead of a table\n");
}

static bool parse_number(const char *text, uint32_t max, uint32_t *out)
{
    char *end;
    const unsigned long v = strtoul(text, &end, 10);

    if (end == text || *end != '\0' || v > max)
        return false;
    *out = (uint32_t)v;
    return true;
}

static bool parse_batches(const char *text, sl_bench_engine_options *o)
{
    o->batch_count = 0;
    while (*text != '\0') {
        char *end;
        const unsigned long v = strtoul(text, &end, 10);

        if (end == text || (*end != ',' && *end != '\0') || o->batch_count == SL_BENCH_BATCHES_MAX)
            return false;
        o->batch[o->batch_count++] = v > 100000 ? 100000 : (uint32_t)v;
        text = *end == ',' ? end + 1 : end;
    }
    return o->batch_count > 0;
}

static void print_rate(const char *name, const sl_bench_rate *r)
{
    printf("  %-12s %9.1f tok/s   (%.1f to %.1f)\n", name, r->median, r->min, r->max);
}

static void print_table(const sl_bench_engine_options *o, const sl_bench_engine_result *r,
                        double load_s)
{
    printf("%s, %s, %u cores, loaded in %.2f s\n", sl_model_get_config(o->model)->name,
           sl_model_get_ops(o->model)->name, r->units, load_s);
    char name[32];

    snprintf(name, sizeof(name), "prefill %u", o->prompt_tokens);
    print_rate(name, &r->prefill);
    for (uint32_t i = 0; i < o->batch_count; i++) {
        snprintf(name, sizeof(name), "decode x%u", o->batch[i]);
        print_rate(name, &r->decode[i]);
    }
}

static void add_rate(sl_buf *b, const sl_bench_rate *r)
{
    sl_buf_addf(b, "{\"tps\":%.2f,\"min\":%.2f,\"max\":%.2f}", r->median, r->min, r->max);
}

static void print_json(const sl_bench_engine_options *o, const sl_bench_engine_result *r,
                       double load_s)
{
    const char *name = sl_model_get_config(o->model)->name;
    sl_buf b;

    sl_buf_init(&b, 1 << 20);
    sl_buf_add_str(&b, "{\"version\":1,\"engine\":\"sluice\",\"model\":");
    sl_buf_add_json(&b, name, strlen(name));
    sl_buf_addf(&b, ",\"ops\":\"%s\",\"threads\":%u,\"load_s\":%.3f,\"prompt\":%u,\"prefill\":",
                sl_model_get_ops(o->model)->name, r->units, load_s, o->prompt_tokens);
    add_rate(&b, &r->prefill);
    sl_buf_add_str(&b, ",\"decode\":{");
    for (uint32_t i = 0; i < o->batch_count; i++) {
        sl_buf_addf(&b, "%s\"%u\":", i > 0 ? "," : "", o->batch[i]);
        add_rate(&b, &r->decode[i]);
    }
    sl_buf_add_str(&b, "}}");
    puts(sl_buf_text(&b));
    sl_buf_done(&b);
}

static sl_status load(const char *path, uint32_t threads, sl_model **out, sl_err *err)
{
    const sl_ops *ops = sl_ops_cpu(NULL);
    sl_model_load_args args = {.ops = ops != NULL ? ops : sl_ops_ref(), .threads = threads};
    sl_gguf *g = NULL;
    sl_status status = sl_gguf_open(path, &g, err);

    if (status != SL_OK)
        return status;
    args.file = g;
    status = sl_model_load(&args, out, err);
    sl_gguf_close(g);
    return status;
}

static int run_engine(const char *path, sl_bench_engine_options *o, bool json)
{
    const uint64_t start_us = sl_clock_us();
    static sl_bench_engine_result result;
    sl_model *model = NULL;
    sl_err err = {0};
    double load_s;
    int rc = 1;

    if (load(path, o->threads, &model, &err) != SL_OK)
        goto out;
    load_s = (double)(sl_clock_us() - start_us) * 1e-6;
    o->model = model;
    if (sl_bench_engine(o, &result, &err) != SL_OK)
        goto out;
    if (json)
        print_json(o, &result, load_s);
    else
        print_table(o, &result, load_s);
    rc = 0;
out:
    if (rc != 0)
        fprintf(stderr, "sluice bench: %s\n", err.text);
    sl_model_destroy(model);
    return rc;
}

static int bench_engine(int argc, char **argv)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},
        {"threads", required_argument, NULL, 't'},
        {"prompt", required_argument, NULL, 'p'},
        {"batches", required_argument, NULL, 'b'},
        {"steps", required_argument, NULL, 's'},
        {"repeats", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    sl_bench_engine_options o = {
        .prompt_tokens = 512, .steps = 64, .repeats = 3, .batch = {1, 8, 32}, .batch_count = 3};
    const char *model = NULL;
    bool json = false, good = true;
    int c;

    optind = 1;
    while ((c = getopt_long(argc, argv, "hm:", options, NULL)) != -1) {
        switch (c) {
        case 'm':
            model = optarg;
            break;
        case 't':
            good &= parse_number(optarg, 256, &o.threads);
            break;
        case 'p':
            good &= parse_number(optarg, 1 << 20, &o.prompt_tokens);
            break;
        case 'b':
            good &= parse_batches(optarg, &o);
            break;
        case 's':
            good &= parse_number(optarg, 1 << 20, &o.steps);
            break;
        case 'r':
            good &= parse_number(optarg, 100, &o.repeats);
            break;
        case 'j':
            json = true;
            break;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 2;
        }
        if (!good) {
            fprintf(stderr, "sluice bench: '%s' is not a number that fits there\n", optarg);
            return 2;
        }
    }
    if (optind != argc || model == NULL) {
        fprintf(stderr, "sluice bench engine: name a --model\n");
        usage(stderr);
        return 2;
    }
    return run_engine(model, &o, json);
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} kind[] = {
    {"engine", bench_engine, "the engine alone: prefill and decode tokens a second"},
    {"serve", sl_cli_bench_serve, "a running server under load: latencies, goodput"},
    {"sweep", sl_cli_bench_sweep, "the highest rate at which a server meets its targets"},
    {"compare", sl_cli_bench_compare, "two running servers, side by side"},
};

static void help(FILE *f)
{
    fputs("usage: sluice bench KIND [options]\n\n", f);
    for (size_t i = 0; i < sizeof(kind) / sizeof(*kind); i++)
        fprintf(f, "  sluice bench %-8s %s\n", kind[i].name, kind[i].help);
    fputs("\nEvery kind has --help.\n", f);
}

int sl_cli_bench(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    for (size_t i = 0; i < sizeof(kind) / sizeof(*kind); i++)
        if (strcmp(name, kind[i].name) == 0)
            return kind[i].run(argc - 1, argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        help(stdout);
        return 0;
    }
    if (name[0] != '\0')
        fprintf(stderr, "sluice bench: '%.64s' is nothing to measure\n", name);
    help(stderr);
    return 2;
}
