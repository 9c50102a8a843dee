/* bench/load_scrape.c - the counters of /metrics that a run is checked against. */
#include <stdlib.h>
#include <string.h>

#include "bench/load_internal.h"

enum { METRICS_BYTES_MAX = 16 << 20 };

/* Servers' own names; the first of a list that is there counts, as some serve aliases too. */
static const char *const prompt_name[] = {"sluice_prompt_tokens_total", "vllm:prompt_tokens_total",
                                          "llamacpp:prompt_tokens_total",
                                          "sglang:prompt_tokens_total"};
static const char *const output_name[] = {
    "sluice_generation_tokens_total", "vllm:generation_tokens_total",
    "llamacpp:tokens_predicted_total", "sglang:generation_tokens_total"};
enum { NAMES = sizeof(prompt_name) / sizeof(*prompt_name) };

/* Sum of a counter over its labels; -1: not there. */
static double sum_of(const char *text, const char *name)
{
    const size_t n = strlen(name);
    double sum = -1.0;

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        const char *value;

        line += *line == '\n';
        if (strncmp(line, name, n) != 0 || (line[n] != ' ' && line[n] != '{'))
            continue;
        value = line + n;
        if (*value == '{') {
            const char *end = line + strcspn(line, "\n");

            while (end > value && *end != '}')
                end--;
            value = end + 1;
        }
        sum = (sum < 0.0 ? 0.0 : sum) + strtod(value, NULL);
    }
    return sum;
}

static double first_of(const char *text, const char *const *names)
{
    for (int i = 0; i < NAMES; i++) {
        const double sum = sum_of(text, names[i]);

        if (sum >= 0.0)
            return sum;
    }
    return -1.0;
}

static void read_states(const char *text, sl_load_scrape *out)
{
    static const char name[] = "sluice_scheduler_state_seconds_total{state=\"";
    const char *at = text;

    while ((at = strstr(at, name)) != NULL && out->state_count < 8) {
        const char *label = at + sizeof(name) - 1;
        const size_t n = strcspn(label, "\"\n");

        if (label[n] == '"' && n < sizeof(out->state_name[0]) && label[n + 1] == '}') {
            memcpy(out->state_name[out->state_count], label, n);
            out->state_name[out->state_count][n] = '\0';
            out->state_s[out->state_count++] = strtod(label + n + 2, NULL);
        }
        at = label;
    }
}

void sl_load_scrape_read(const char *text, sl_load_scrape *out)
{
    *out = (sl_load_scrape){.prompt_tokens = first_of(text, prompt_name),
                            .output_tokens = first_of(text, output_name)};
    out->found = out->prompt_tokens >= 0.0 || out->output_tokens >= 0.0;
    read_states(text, out);
}

void sl_load_scrape_take(const sl_load_target *target, const char *key, sl_load_scrape *out)
{
    const sl_load_call call = {.path = "/metrics", .key = key, .timeout_ms = 2000};
    int http_status = 0;
    sl_buf body;

    *out = (sl_load_scrape){.prompt_tokens = -1.0, .output_tokens = -1.0};
    sl_buf_init(&body, METRICS_BYTES_MAX);
    if (sl_load_call_run(target, &call, &http_status, &body, NULL) == SL_OK && http_status == 200 &&
        sl_buf_text(&body) != NULL)
        sl_load_scrape_read(sl_buf_text(&body), out);
    sl_buf_done(&body);
}
