/* cli/bench_load.c - see bench_load.h */
#include "cli/bench_load.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum option_kind {
    KIND_TEXT,
    KIND_COUNT, /* uint32_t */
    KIND_SEED,  /* uint64_t */
    KIND_REAL,  /* double, "inf" allowed */
    KIND_FLAG,
    KIND_LENGTH,
    KIND_MARGIN,
    KIND_SPECIAL /* by name, in take_special */
} option_kind;

typedef struct load_option {
    const char *name;
    option_kind kind;
    uint8_t commands; /* sl_bench_kind bits */
    size_t offset;
    const char *argument; /* NULL with `help`: none */
    const char *help;     /* NULL: an alias, not shown */
    bool optional;        /* the argument is */
} load_option;

#define AT(member) offsetof(sl_bench_load_args, member)

static const load_option option[] = {
    {NULL, KIND_FLAG, SL_BENCH_ALL, 0, NULL, "Where"},
    {"base-url", KIND_SPECIAL, SL_BENCH_ALL, 0, "URL",
     "http://host:port[/prefix] or unix:/path.sock (http://127.0.0.1:8000)"},
    {"model", KIND_TEXT, SL_BENCH_ALL, AT(load.model), "NAME", "default: the server's first"},
    {"endpoint", KIND_SPECIAL, SL_BENCH_ALL, 0, "chat|completions", "default: chat"},
    {"api-key-file", KIND_TEXT, SL_BENCH_ALL, AT(key_file), "FILE",
     "its first line is the key (or OPENAI_API_KEY)"},
    {"timeout", KIND_REAL, SL_BENCH_ALL, AT(load.timeout_s), "S", "of one request (600)"},
    {"extra", KIND_TEXT, SL_BENCH_ALL, AT(load.extra_json), "JSON",
     "members added to every request, as {\"top_k\":20}"},
    {"temperature", KIND_REAL, SL_BENCH_ALL, AT(load.temperature), "X",
     "0: always the likeliest token (default); below 0: the server's own"},
    {"keep-eos", KIND_FLAG, SL_BENCH_ALL, AT(load.keep_eos), NULL,
     "let the model end its answers (no ignore_eos)"},
    {"no-usage", KIND_FLAG, SL_BENCH_ALL, AT(load.no_usage), NULL, "do not ask for usage"},

    {NULL, KIND_FLAG, SL_BENCH_ALL, 0, NULL,
     "When (one of --rate, --users, or a data set with times)"},
    {"rate", KIND_REAL, SL_BENCH_ALL, AT(load.rate), "R",
     "open loop: requests (or sessions) a second; sweep: where to begin"},
    {"request-rate", KIND_REAL, SL_BENCH_ALL, AT(load.rate), "R", NULL},
    {"users", KIND_COUNT, SL_BENCH_ALL, AT(load.users), "N",
     "closed loop: N users; with --rate: at most N requests in flight"},
    {"max-concurrency", KIND_COUNT, SL_BENCH_ALL, AT(load.users), "N", NULL},
    {"think-time", KIND_LENGTH, SL_BENCH_ALL, AT(load.think_ms), "MS",
     "a user's pause before the next request; any LENGTH"},
    {"arrival", KIND_SPECIAL, SL_BENCH_ALL, 0, "poisson|constant|gamma", "default: poisson"},
    {"burstiness", KIND_SPECIAL, SL_BENCH_ALL, 0, "B",
     "gamma arrivals: below 1 bursty, above 1 regular"},
    {"on", KIND_SPECIAL, SL_BENCH_ALL, 0, "S", "send for S seconds, rest for --off, and again"},
    {"off", KIND_SPECIAL, SL_BENCH_ALL, 0, "S", "default 10, as --on"},
    {"ramp-to", KIND_SPECIAL, SL_BENCH_ALL, 0, "R", "let the rate grow from --rate to R"},
    {"ramp-time", KIND_REAL, SL_BENCH_ALL, AT(load.arrivals.ramp_s), "S",
     "within S seconds (default: the whole run)"},
    {"requests", KIND_SPECIAL, SL_BENCH_ALL, 0, "N", "how many (100; with --duration: no limit)"},
    {"num-prompts", KIND_SPECIAL, SL_BENCH_ALL, 0, "N", NULL},
    {"duration", KIND_REAL, SL_BENCH_ALL, AT(load.duration_s), "S", "send nothing later"},
    {"seed", KIND_SEED, SL_BENCH_ALL, AT(load.seed), "N",
     "of times, lengths and texts (0): the same seed, the same requests"},

    {NULL, KIND_FLAG, SL_BENCH_ALL, 0, NULL,
     "What (LENGTH: 128, or 64-512, or lognormal:MEDIAN:SIGMA[:MAX])"},
    {"input-len", KIND_LENGTH, SL_BENCH_ALL, AT(load.input), "LENGTH",
     "tokens of a whole prompt (256); after a shared beginning: of the rest"},
    {"random-input-len", KIND_LENGTH, SL_BENCH_ALL, AT(load.input), "LENGTH", NULL},
    {"output-len", KIND_LENGTH, SL_BENCH_ALL, AT(load.output), "LENGTH",
     "tokens of an answer (64)"},
    {"random-output-len", KIND_LENGTH, SL_BENCH_ALL, AT(load.output), "LENGTH", NULL},
    {"prefix-len", KIND_COUNT, SL_BENCH_ALL, AT(load.prefix_tokens), "N",
     "tokens at the beginning that prompts share"},
    {"prefix-count", KIND_COUNT, SL_BENCH_ALL, AT(load.prefix_count), "N",
     "how many such beginnings there are (1)"},
    {"turns", KIND_COUNT, SL_BENCH_ALL, AT(load.turns), "N",
     "turns of a session; the server's answers are part of the next turn"},
    {"dataset", KIND_TEXT, SL_BENCH_ALL, AT(load.trace_path), "FILE",
     "CSV of lengths, Azure CSV, or Mooncake JSON lines"},
    {"rate-scale", KIND_REAL, SL_BENCH_ALL, AT(load.rate_scale), "X",
     "play a data set's times X times as fast"},
    {"max-input", KIND_COUNT, SL_BENCH_ALL, AT(load.input_max), "N", "cut longer prompts"},
    {"max-output", KIND_COUNT, SL_BENCH_ALL, AT(load.output_max), "N", "cut longer answers"},
    {"tokenizer", KIND_TEXT, SL_BENCH_ALL, AT(load.tokenizer_path), "FILE",
     "a GGUF file that counts tokens (default: ask the server)"},

    {NULL, KIND_FLAG, SL_BENCH_SERVE, 0, NULL, "Trouble (such requests are not judged)"},
    {"cancel-rate", KIND_REAL, SL_BENCH_SERVE, AT(load.cancel_share), "P",
     "share of requests, 0 to 1, that hang up"},
    {"cancel-after", KIND_REAL, SL_BENCH_SERVE, AT(load.cancel_after_ms), "MS",
     "when they do (500)"},
    {"slow-readers", KIND_REAL, SL_BENCH_SERVE, AT(load.slow_share), "P",
     "share of requests, 0 to 1, that read slowly"},
    {"read-bytes-per-s", KIND_REAL, SL_BENCH_SERVE, AT(load.slow_bytes_per_s), "N",
     "how slowly (200)"},

    {NULL, KIND_FLAG, SL_BENCH_ALL, 0, NULL, "Judgement"},
    {"goodput", KIND_SPECIAL, SL_BENCH_ALL, 0, "ttft:MS,tbt:MS,tpot:MS,e2e:MS",
     "targets; tbt: by the 99th percentile of a request's own gaps"},
    {"slo-fail", KIND_SPECIAL, SL_BENCH_SERVE, 0, "PERCENT",
     "exit with 3 if fewer requests meet them (99)", true},
    {"max-errors", KIND_REAL, SL_BENCH_SERVE | SL_BENCH_COMPARE, AT(errors_max), "P",
     "share of requests, 0 to 1, that may fail without exit 1 (0)"},
    {"warmup", KIND_MARGIN, SL_BENCH_ALL, AT(load.warmup), "N|Ns",
     "leave out the first N requests, or those of the first N seconds"},
    {"num-warmups", KIND_MARGIN, SL_BENCH_ALL, AT(load.warmup), "N", NULL},
    {"cooldown", KIND_MARGIN, SL_BENCH_ALL, AT(load.cooldown), "N|Ns", "the same at the end"},
    {"max-lag", KIND_REAL, SL_BENCH_ALL, AT(load.lag_max_ms), "MS",
     "the client's own lateness (p99) above which a run is invalid (5)"},
    {"rate-min", KIND_REAL, SL_BENCH_SWEEP, AT(rate_min), "R", "lowest rate to try (0.01)"},
    {"rate-max", KIND_REAL, SL_BENCH_SWEEP, AT(rate_max), "R", "highest rate to try (10000)"},
    {"precision", KIND_REAL, SL_BENCH_SWEEP, AT(precision), "X",
     "end when the rates that meet and miss are within this factor (1.1)"},
    {"points", KIND_COUNT, SL_BENCH_SWEEP, AT(points), "N", "runs at most (16)"},
    {"blocks", KIND_COUNT, SL_BENCH_COMPARE, AT(blocks), "N",
     "pairs of runs; each has --requests requests (6)"},

    {NULL, KIND_FLAG, SL_BENCH_ALL, 0, NULL, "Output"},
    {"json", KIND_TEXT, SL_BENCH_ALL, AT(json_path), "FILE", "all figures (- is standard output)"},
    {"jsonl", KIND_TEXT, SL_BENCH_SERVE, AT(jsonl_path), "FILE", "one line a request"},
    {"html", KIND_TEXT, SL_BENCH_SERVE, AT(html_path), "FILE", "a page with drawings"},
    {"save-result", KIND_FLAG, SL_BENCH_ALL, AT(save_result), NULL,
     "as --json sluice-bench-TIME.json"},
    {"quiet", KIND_FLAG, SL_BENCH_ALL, AT(quiet), NULL, "no progress"},
    {"help", KIND_SPECIAL, SL_BENCH_ALL, 0, NULL, "this page"},
};

enum { OPTIONS = sizeof(option) / sizeof(*option), OPTION_BASE = 1000 };

static const char *command_of(sl_bench_kind kind)
{
    return kind == SL_BENCH_SERVE ? "serve" : kind == SL_BENCH_SWEEP ? "sweep" : "compare";
}

static void usage(FILE *f, sl_bench_kind kind)
{
    static const char *const about[] = {
        [SL_BENCH_SERVE] = "Load a server that speaks the OpenAI API, and say how it felt.",
        [SL_BENCH_SWEEP] = "Find the highest rate at which 90 % and 99 % of the requests meet the "
                           "targets.",
        [SL_BENCH_COMPARE] = "Load two servers with the same requests in turns, and compare them."};

    fprintf(f, "usage: sluice bench %s [options]%s\n\n%s\n", command_of(kind),
            kind == SL_BENCH_COMPARE ? " --base-url A --base-url B" : "", about[kind]);
    for (int i = 0; i < OPTIONS; i++) {
        const load_option *o = &option[i];
        char left[64];

        if ((o->commands & kind) == 0 || o->help == NULL)
            continue;
        if (o->name == NULL) {
            fprintf(f, "\n%s\n", o->help);
            continue;
        }
        snprintf(left, sizeof(left), o->optional ? "--%s[=%s]" : "--%s %s", o->name,
                 o->argument != NULL ? o->argument : "");
        if (strlen(left) > 24)
            fprintf(f, "  %s\n  %-24s %s\n", left, "", o->help);
        else
            fprintf(f, "  %-24s %s\n", left, o->help);
    }
    fprintf(f, "\nExit: 0 good, 1 failed, 2 wrong usage, 3 targets missed, 4 the run is invalid.\n"
               "vllm bench's names --request-rate, --max-concurrency, --num-prompts,\n"
               "--num-warmups, --random-input-len and --random-output-len are known as well.\n");
}

/* --- values -------------------------------------------------------------------------------- */

static bool take_real(const char *text, double *out)
{
    char *end;
    const double v = strtod(text, &end);

    if (end == text || *end != '\0' || isnan(v))
        return false;
    *out = v;
    return true;
}

static bool take_count(const char *text, uint32_t *out)
{
    char *end;
    const unsigned long v = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || v > UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

static sl_status take_url(sl_bench_load_args *a, const char *text, sl_err *err)
{
    if (a->url_count == 2)
        return sl_fail(err, SL_EINVAL, "at most two --base-url");
    a->url[a->url_count++] = text;
    return SL_OK;
}

static bool take_name(const char *text, const char *const *name, int count, int *out)
{
    for (int i = 0; i < count; i++)
        if (strcmp(text, name[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static sl_status take_arrivals(sl_bench_load_args *a, const char *name, const char *text,
                               sl_err *err)
{
    static const char *const process[] = {"poisson", "constant", "gamma"};
    sl_load_arrivals *arrivals = &a->load.arrivals;
    bool good;
    int i = 0;

    if (strcmp(name, "arrival") == 0) {
        good = take_name(text, process, 3, &i);
        arrivals->process = (sl_load_process)i;
    } else if (strcmp(name, "burstiness") == 0) {
        good = take_real(text, &arrivals->burstiness);
        arrivals->process = SL_LOAD_GAMMA;
    } else if (strcmp(name, "ramp-to") == 0) {
        good = take_real(text, &arrivals->rate_end);
        arrivals->shape = SL_LOAD_RAMP;
    } else {
        good = take_real(text, strcmp(name, "on") == 0 ? &arrivals->on_s : &arrivals->off_s);
        arrivals->shape = SL_LOAD_ON_OFF;
    }
    return good ? SL_OK : sl_fail(err, SL_EINVAL, "--%s: '%.64s' does not fit there", name, text);
}

static sl_status take_special(sl_bench_load_args *a, const char *name, const char *text,
                              sl_err *err)
{
    static const char *const endpoint[] = {"chat", "completions", "/v1/chat/completions",
                                           "/v1/completions"};
    int i = 0;

    if (strcmp(name, "base-url") == 0)
        return take_url(a, text, err);
    if (strcmp(name, "goodput") == 0)
        return sl_load_slo_parse(text, &a->load.slo, err);
    if (strcmp(name, "endpoint") == 0) {
        if (!take_name(text, endpoint, 4, &i))
            return sl_fail(err, SL_EINVAL, "--endpoint: '%.64s' is neither chat nor completions",
                           text);
        a->load.completions = i % 2 == 1;
        return SL_OK;
    }
    if (strcmp(name, "requests") == 0 || strcmp(name, "num-prompts") == 0) {
        a->requests_given = true;
        return take_count(text, &a->load.requests)
                   ? SL_OK
                   : sl_fail(err, SL_EINVAL, "--%s: '%.64s' is no count", name, text);
    }
    if (strcmp(name, "slo-fail") == 0) {
        a->slo_fail_percent = 99.0;
        return text == NULL || take_real(text, &a->slo_fail_percent)
                   ? SL_OK
                   : sl_fail(err, SL_EINVAL, "--slo-fail: '%.64s' is no percentage", text);
    }
    return take_arrivals(a, name, text, err);
}

static sl_status take(sl_bench_load_args *a, const load_option *o, const char *text, sl_err *err)
{
    void *at = (char *)a + o->offset;
    char *end;

    switch (o->kind) {
    case KIND_TEXT:
        *(const char **)at = text;
        return SL_OK;
    case KIND_FLAG:
        *(bool *)at = true;
        return SL_OK;
    case KIND_COUNT:
        if (take_count(text, at))
            return SL_OK;
        break;
    case KIND_REAL:
        if (take_real(text, at))
            return SL_OK;
        break;
    case KIND_SEED:
        *(uint64_t *)at = strtoull(text, &end, 10);
        if (*text >= '0' && *text <= '9' && *end == '\0')
            return SL_OK;
        break;
    case KIND_LENGTH:
        return sl_load_length_parse(text, at, err);
    case KIND_MARGIN:
        return sl_load_margin_parse(text, at, err);
    default:
        return take_special(a, o->name, text, err);
    }
    return sl_fail(err, SL_EINVAL, "--%s: '%.64s' is no number that fits there", o->name, text);
}

/* --- after the options --------------------------------------------------------------------- */

static sl_status read_key(sl_bench_load_args *a, sl_err *err)
{
    const char *env = getenv("OPENAI_API_KEY");
    FILE *f;

    if (a->key_file == NULL) {
        a->load.key = env != NULL && env[0] != '\0' ? env : NULL;
        return SL_OK;
    }
    f = fopen(a->key_file, "re");
    if (f == NULL)
        return sl_fail(err, SL_EIO, "--api-key-file: cannot open '%.200s': %s", a->key_file,
                       strerror(errno));
    if (fgets(a->key, sizeof(a->key), f) == NULL)
        a->key[0] = '\0';
    fclose(f);
    a->key[strcspn(a->key, "\r\n")] = '\0';
    if (a->key[0] == '\0')
        return sl_fail(err, SL_EINVAL, "--api-key-file: '%.200s' holds no key", a->key_file);
    a->load.key = a->key;
    return SL_OK;
}

static sl_status complete(sl_bench_kind kind, sl_bench_load_args *a, sl_err *err)
{
    sl_load_options *o = &a->load;

    if (kind == SL_BENCH_COMPARE ? a->url_count != 2 : a->url_count > 1)
        return sl_fail(err, SL_EINVAL,
                       kind == SL_BENCH_COMPARE ? "compare needs two --base-url"
                                                : "one --base-url is enough");
    if (a->url_count > 0)
        o->base_url = a->url[0];
    /* "As fast as N places allow" is what a closed loop is. */
    if (isinf(o->rate) && o->users > 0)
        o->rate = 0.0;
    if (o->duration_s > 0.0 && !a->requests_given)
        o->requests = o->rate > 0.0 && !isinf(o->rate) ? SL_LOAD_REQUESTS_MAX : 10000;
    if (o->trace_path != NULL && !a->requests_given)
        o->requests = SL_LOAD_REQUESTS_MAX;
    if (!(a->errors_max >= 0.0 && a->errors_max <= 1.0))
        return sl_fail(err, SL_EINVAL, "--max-errors is a share from 0 to 1");
    if (a->slo_fail_percent >= 0.0 &&
        !(o->slo.ttft_ms + o->slo.tbt_ms + o->slo.tpot_ms + o->slo.e2e_ms > 0.0))
        return sl_fail(err, SL_EINVAL, "--slo-fail needs targets: --goodput");
    if (kind == SL_BENCH_SWEEP && o->rate == 0.0)
        o->rate = 1.0;
    return read_key(a, err);
}

static int fill_getopt(sl_bench_kind kind, struct option *list)
{
    int n = 0;

    for (int i = 0; i < OPTIONS; i++)
        if (option[i].name != NULL && (option[i].commands & kind) != 0)
            list[n++] = (struct option){option[i].name,
                                        option[i].optional           ? optional_argument
                                        : option[i].argument != NULL ? required_argument
                                                                     : no_argument,
                                        NULL, OPTION_BASE + i};
    list[n] = (struct option){0};
    return n;
}

bool sl_bench_load_parse(sl_bench_kind kind, int argc, char **argv, sl_bench_load_args *out,
                         int *exit_status)
{
    struct option list[OPTIONS + 1];
    sl_status status = SL_OK;
    sl_err err = {0};
    int c;

    *out = (sl_bench_load_args){.slo_fail_percent = -1.0,
                                .rate_min = 0.01,
                                .rate_max = 10000.0,
                                .precision = 1.1,
                                .points = 16,
                                .blocks = 6};
    sl_load_options_init(&out->load);
    fill_getopt(kind, list);
    *exit_status = 2;
    optind = 1;
    while (status == SL_OK && (c = getopt_long(argc, argv, "h", list, NULL)) != -1) {
        if (c == 'h' || (c >= OPTION_BASE && strcmp(option[c - OPTION_BASE].name, "help") == 0)) {
            usage(stdout, kind);
            *exit_status = 0;
            return false;
        }
        if (c < OPTION_BASE) {
            fprintf(stderr, "try: sluice bench %s --help\n", command_of(kind));
            return false;
        }
        status = take(out, &option[c - OPTION_BASE], optarg, &err);
    }
    /* vllm bench takes several targets after one --goodput. */
    for (; status == SL_OK && optind < argc; optind++)
        status = strchr(argv[optind], ':') != NULL &&
                         sl_load_slo_parse(argv[optind], &out->load.slo, NULL) == SL_OK
                     ? SL_OK
                     : sl_fail(&err, SL_EINVAL, "'%.64s' is no option", argv[optind]);
    if (status == SL_OK)
        status = complete(kind, out, &err);
    if (status == SL_OK)
        status = sl_load_options_check(&out->load, &err);
    if (status == SL_OK)
        return true;
    fprintf(stderr, "sluice bench %s: %s\n", command_of(kind), err.text);
    return false;
}
