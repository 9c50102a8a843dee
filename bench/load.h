/* bench/load.h - load a server that speaks the OpenAI API, and say how it felt: `sluice bench
 * serve`.
 *
 * The words.
 *   intended    when a request should have been sent: by the schedule (open loop), or when its user
 *               was ready for it (closed loop, later turns).  Latencies count from here, so a
 * server that stalls is charged for everybody who had to wait meanwhile. due         when the
 * client was allowed to send it: intended, or later if a cap on requests in flight (open loop with
 * `users`) held it back begun       when the client turned to it; begun - due is the client's own
 * lateness, the lag sent        when its first byte was given to the system first, last first and
 * last event that carries text done        the end of the answer TTFT        first - intended TBT
 * gaps between events that carry text E2E         done - intended           TPOT   (last - first) /
 * (output tokens - 1) Output tokens are what the server's usage says; events are counted only if it
 * says nothing.
 *
 * Steps: options -> site (address, model, words of known length) -> plan (fixed by the seed) -> run
 * (records) -> summary (bench/load_stats.h) -> reports (bench/report.h).
 *
 * Thread: the caller's; a run starts two threads (a pacer, a reader) and joins them. */
#ifndef SL_BENCH_LOAD_H
#define SL_BENCH_LOAD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "bench/load_arrivals.h"

#define SL_LOAD_NONE UINT32_MAX

enum {
    SL_LOAD_REQUESTS_MAX = 1 << 19,
    SL_LOAD_USERS_MAX = 1 << 16,
    SL_LOAD_EVENTS_MAX = 1 << 20, /* of one answer */
    SL_LOAD_NAME_MAX = 256
};

/* Targets in milliseconds; 0: none.  tbt is met if the 99th percentile of a request's own gaps is
 * within it. */
typedef struct sl_load_slo {
    double ttft_ms, tbt_ms, tpot_ms, e2e_ms;
} sl_load_slo;

/* What is left out at an end of the run: requests intended within so many seconds, or so many
 * requests. */
typedef struct sl_load_margin {
    double seconds;
    uint32_t requests;
} sl_load_margin;

typedef struct sl_load_progress {
    uint64_t elapsed_us;
    uint32_t planned, sent, finished, failed;
    uint64_t events;
} sl_load_progress;

typedef struct sl_load_options {
    /* where */
    const char *base_url;
    const char *model;          /* NULL: the server's first */
    const char *key;            /* NULL: none */
    bool completions;           /* /v1/completions instead of chat */
    const char *extra_json;     /* members added to every body; NULL: none */
    const char *tokenizer_path; /* a GGUF file; NULL: ask the server */
    double temperature;         /* < 0: leave it to the server */
    bool keep_eos;              /* let the model end its answers: no ignore_eos */
    bool no_usage;              /* do not ask for usage */
    double timeout_s;           /* of one request */

    /* when */
    double rate;    /* requests (sessions) per second; 0: closed loop of `users` */
    uint32_t users; /* closed loop: users; open loop: cap on requests in flight, 0 for none */
    sl_load_arrivals arrivals; /* process and shape; rate and seed are filled in */
    double duration_s;         /* 0: until all requests are done */
    uint32_t requests;
    sl_load_length think_ms;
    uint64_t seed;
    uint64_t text_seed; /* added to the seed of texts only: same lengths, other words */

    /* what */
    sl_load_length input, output;
    uint32_t prefix_tokens, prefix_count; /* beginnings that prompts share */
    uint32_t turns;                       /* of a session */
    const char *trace_path;               /* lengths (and times) from a file; NULL: none */
    double rate_scale;                    /* times of a trace are divided by this */
    uint32_t input_max, output_max;       /* 0: no clipping */

    /* trouble */
    double cancel_share; /* of requests that hang up cancel_after_ms after they were sent */
    double cancel_after_ms;
    double slow_share; /* of requests that read slow_bytes_per_s */
    double slow_bytes_per_s;

    /* judgement */
    sl_load_slo slo;
    sl_load_margin warmup, cooldown;
    double lag_max_ms; /* of p99, above which a run is invalid */

    const volatile sig_atomic_t *stop; /* set: send no more, hang up; NULL: never */
    void (*on_progress)(const sl_load_progress *progress, void *user);
    void *user;
} sl_load_options;

/* Defaults; rate and users stay 0: one of them is to be said, or a trace with times. */
void sl_load_options_init(sl_load_options *options);

/* Check ranges and combinations.  Errors: SL_EINVAL, the sentence names the option. */
SL_MUST_CHECK sl_status sl_load_options_check(const sl_load_options *options, sl_err *err);

/* "ttft:200,tbt:50,e2e:5000" (also tpot, itl, e2el; blanks or commas between), added to *slo. */
SL_MUST_CHECK sl_status sl_load_slo_parse(const char *text, sl_load_slo *slo, sl_err *err);

/* "5s": seconds; "20": requests. */
SL_MUST_CHECK sl_status sl_load_margin_parse(const char *text, sl_load_margin *out, sl_err *err);

/* --- the plan ------------------------------------------------------------------------------ */

typedef struct sl_load_item {
    uint64_t at_us; /* intended, from the start: first turns of an open loop */
    uint32_t session, turn;
    uint32_t input_tokens; /* of the whole prompt; later turns: of the user's message */
    uint32_t output_tokens;
    uint32_t prefix_tokens, prefix; /* which of the shared beginnings */
    size_t block_first;             /* of plan->block */
    uint32_t block_count;           /* 512-token blocks whose id is the seed of their text */
    uint32_t next;                  /* the following turn, or SL_LOAD_NONE */
    uint32_t think_ms;              /* before this request, after what it follows */
    bool cancel, slow;
} sl_load_item;

typedef struct sl_load_plan {
    sl_load_item *item; /* sessions one after the other, first turns in the order of time; owned */
    uint32_t count;
    uint64_t *block; /* owned */
    size_t block_count;
    uint64_t text_seed;
    bool open_loop;           /* items have times; else users take them one after the other */
    double span_s;            /* from the first intended time to the last (open loop) */
    const char *trace_format; /* static, or NULL */
} sl_load_plan;

/* Everything that chance decides, decided.  Errors: those of the trace, SL_EINVAL, SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_load_plan_make(const sl_load_options *options, sl_load_plan *out,
                                          sl_err *err);
void sl_load_plan_done(sl_load_plan *plan);

/* --- the records --------------------------------------------------------------------------- */

#define SL_LOAD_OUTCOME_ROWS(X)                                                                    \
    X(OK, "ok")                                                                                    \
    X(SKIPPED, "not sent")          /* the run ended, or an earlier turn failed */                 \
    X(CANCELLED, "cancelled by us") /* as planned, or at the end of the run */                     \
    X(CONNECT, "no connection")                                                                    \
    X(HTTP, "refused by the server") /* a status other than 200 */                                 \
    X(RESET, "connection lost")                                                                    \
    X(CUT, "answer cut off")                                                                       \
    X(MALFORMED, "answer malformed")                                                               \
    X(ERROR_EVENT, "error inside the answer")                                                      \
    X(TIMEOUT, "timed out")

typedef enum sl_load_outcome {
#define SL_LOAD_OUTCOME_ENUM(name, text) SL_LOAD_##name,
    SL_LOAD_OUTCOME_ROWS(SL_LOAD_OUTCOME_ENUM)
#undef SL_LOAD_OUTCOME_ENUM
        SL_LOAD_OUTCOME_COUNT
} sl_load_outcome;

const char *sl_load_outcome_name(sl_load_outcome outcome); /* "CUT" */
const char *sl_load_outcome_text(sl_load_outcome outcome); /* "answer cut off" */

/* Times are microseconds from the start of the run; 0 where it did not happen (intended and due
 * may be 0 as a time). */
typedef struct sl_load_record {
    sl_load_outcome outcome;
    int http_status;
    uint64_t intended_us, due_us, begun_us, sent_us, first_us, last_us, done_us;
    int64_t prompt_tokens, output_tokens, cached_tokens; /* the server's usage; -1: not said */
    uint32_t *event_us;                                  /* after begun_us; owned */
    uint32_t events, event_capacity;
    bool reused;  /* went over a connection that had served before */
    bool retried; /* that connection was dead, and a new one was taken */
    char finish[24];
    char error[120];
} sl_load_record;

/* What /metrics said, summed over labels; -1 where there is no such counter. */
typedef struct sl_load_scrape {
    bool found;
    double prompt_tokens, output_tokens;
    double state_s[8]; /* seconds in each scheduler state, by label */
    char state_name[8][24];
    uint32_t state_count;
} sl_load_scrape;

typedef struct sl_load_result {
    sl_load_record *record; /* of each item; owned */
    uint32_t count;
    int64_t start_unix_s;
    uint64_t wall_us;
    uint32_t in_flight_max;
    bool stopped; /* by options->stop */
    sl_load_scrape before, after;
} sl_load_result;

void sl_load_result_done(sl_load_result *result);

/* --- the server ---------------------------------------------------------------------------- */

typedef struct sl_load_site sl_load_site;

/* Find the server, its model, and words of known length.
 * Errors: SL_EINVAL (the URL, https, extra_json), SL_EIO (no answer), SL_EAUTH, SL_EUNAVAILABLE. */
SL_MUST_CHECK sl_status sl_load_site_open(const sl_load_options *options, sl_load_site **out,
                                          sl_err *err);
void sl_load_site_close(sl_load_site *site);

/* What the site found out, for reports. */
typedef struct sl_load_site_info {
    char url[SL_LOAD_NAME_MAX];
    char model[SL_LOAD_NAME_MAX];
    char lengths[160]; /* how prompts get their length, a phrase */
    bool lengths_exact;
    uint32_t overhead_tokens; /* of chat template and the like, counted in every prompt */
} sl_load_site_info;
const sl_load_site_info *sl_load_site_get_info(const sl_load_site *site);

/* Run a plan.  Failed requests are records, not errors.
 * Errors: SL_ENOMEM, SL_EUNAVAILABLE (threads, descriptors). */
SL_MUST_CHECK sl_status sl_load_run(const sl_load_options *options, sl_load_site *site,
                                    const sl_load_plan *plan, sl_load_result *out, sl_err *err);

#endif
