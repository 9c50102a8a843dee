/* Goal: the names of /metrics are frozen, and the numbers are right.
 * Method: "# TYPE" lines against metrics.golden; histograms by hand; every line parses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/metrics.h"

static sl_engine_stats stats;

static const char *write_text(const sl_metrics *m, bool aliases, sl_buf *out)
{
    const sl_metrics_now now = {.stats = &stats,
                                .model = "a \"b\"\\c\nd",
                                .device = "fake",
                                .preparing = 2,
                                .slots_total = 9,
                                .slots_free = 4,
                                .ready = true,
                                .vllm_aliases = aliases};

    sl_buf_init(out, 1 << 20);
    sl_metrics_write(m, &now, out);
    assert_false(out->failed);
    return sl_buf_text(out);
}

static void test_names_are_the_golden_ones(void **state)
{
    const char *root = getenv("SLUICE_SOURCE_ROOT");
    static const sl_metrics m;
    char path[512], line[512], *save = NULL;
    sl_buf text;
    char *got;
    FILE *f;

    (void)state;
    if (root == NULL)
        skip();
    snprintf(path, sizeof(path), "%s/tests/server/metrics.golden", root);
    f = fopen(path, "r");
    assert_non_null(f);
    got = strdup(write_text(&m, true, &text));
    for (char *l = strtok_r(got, "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save)) {
        if (strncmp(l, "# TYPE ", 7) != 0)
            continue;
        assert_non_null(fgets(line, sizeof(line), f));
        line[strcspn(line, "\n")] = '\0';
        assert_string_equal(l + 7, line);
    }
    assert_null(fgets(line, sizeof(line), f));
    fclose(f);
    free(got);
    sl_buf_done(&text);
}

static double value_of(const char *text, const char *name)
{
    char key[256];
    const char *at;

    snprintf(key, sizeof(key), "\n%s ", name);
    at = strstr(text, key);
    assert_non_null(at);
    return strtod(at + strlen(key), NULL);
}

static void test_histograms_are_cumulative(void **state)
{
    sl_metrics m = {0};
    const char *text;
    sl_buf out;

    (void)state;
    sl_metrics_observe(&m, SL_HIST_TTFT, 0.001); /* a bound belongs to its bucket */
    sl_metrics_observe(&m, SL_HIST_TTFT, 0.0011);
    sl_metrics_observe(&m, SL_HIST_TTFT, 0.3);
    sl_metrics_observe(&m, SL_HIST_TTFT, 1e9);
    sl_metrics_observe(&m, SL_HIST_PROMPT_TOKENS, 0);
    text = write_text(&m, false, &out);
    assert_true(value_of(text, "sluice_time_to_first_token_seconds_bucket{le=\"0.001\"}") == 1);
    assert_true(value_of(text, "sluice_time_to_first_token_seconds_bucket{le=\"0.005\"}") == 2);
    assert_true(value_of(text, "sluice_time_to_first_token_seconds_bucket{le=\"0.25\"}") == 2);
    assert_true(value_of(text, "sluice_time_to_first_token_seconds_bucket{le=\"0.5\"}") == 3);
    assert_true(value_of(text, "sluice_time_to_first_token_seconds_bucket{le=\"2560\"}") == 3);
    assert_true(value_of(text, "sluice_time_to_first_token_seconds_bucket{le=\"+Inf\"}") == 4);
    assert_true(value_of(text, "sluice_time_to_first_token_seconds_count") == 4);
    assert_true(value_of(text, "sluice_request_prompt_tokens_bucket{le=\"1\"}") == 1);
    sl_buf_done(&out);
}

static void test_gauges_and_counters(void **state)
{
    sl_metrics m = {.clients_gone = 3};
    const char *text;
    sl_buf out;

    (void)state;
    atomic_store(&stats.queued, 5);
    atomic_store(&stats.prefilling, 1);
    atomic_store(&stats.decoding, 6);
    atomic_store(&stats.planes_total, 80);
    atomic_store(&stats.planes_free, 30);
    atomic_store(&stats.planes_evictable, 10);
    atomic_store(&stats.generation_tokens, 1ull << 40);
    sl_metrics_count_http(&m, SL_ROUTE_CHAT, 200);
    sl_metrics_count_http(&m, SL_ROUTE_CHAT, 200);
    sl_metrics_count_http(&m, SL_ROUTE_NONE, 404);
    sl_metrics_count_http(&m, SL_ROUTE_NONE, 418);
    text = write_text(&m, true, &out);
    assert_true(value_of(text, "sluice_requests_queued") == 7);
    assert_true(value_of(text, "sluice_requests_running") == 7);
    assert_true(value_of(text, "sluice_kv_cache_usage_ratio") == 0.5);
    assert_true(value_of(text, "sluice_generation_tokens_total") == 1099511627776.0);
    assert_true(value_of(text, "sluice_clients_gone_total") == 3);
    assert_true(value_of(text, "sluice_http_requests_total{route=\"/v1/chat/completions\","
                               "status=\"200\"}") == 2);
    assert_true(value_of(text, "sluice_http_requests_total{route=\"other\",status=\"404\"}") == 1);
    assert_true(value_of(text, "sluice_http_requests_total{route=\"other\",status=\"0\"}") == 1);
    assert_non_null(strstr(text, "model=\"a \\\"b\\\"\\\\c\\nd\"} 1\n"));
    assert_non_null(strstr(text, "vllm:kv_cache_usage_perc{model_name=\"a \\\"b\\\"\\\\c\\nd\","
                                 "engine=\"0\"} 0.5\n"));
    sl_buf_done(&out);
}

/* name{labels} value: what a scraper reads. */
static void test_every_line_parses(void **state)
{
    static const sl_metrics m;
    char *save = NULL, *copy;
    sl_buf out;

    (void)state;
    copy = strdup(write_text(&m, true, &out));
    for (char *l = strtok_r(copy, "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save)) {
        const char *space = strrchr(l, ' ');
        char *end;

        if (l[0] == '#')
            continue;
        assert_non_null(space);
        (void)strtod(space + 1, &end);
        assert_true(end > space + 1 && *end == '\0');
        assert_int_equal(strchr(l, '{') != NULL, space[-1] == '}');
    }
    free(copy);
    sl_buf_done(&out);
}

/* Routers scrape twenty times a second. */
static void test_a_scrape_is_cheap(void **state)
{
    static const sl_metrics m;
    uint64_t best = UINT64_MAX;

    (void)state;
    for (int i = 0; i < 20; i++) {
        const uint64_t start_us = sl_clock_us();
        sl_buf out;

        write_text(&m, true, &out);
        sl_buf_done(&out);
        if (sl_clock_us() - start_us < best)
            best = sl_clock_us() - start_us;
    }
    print_message("a scrape takes %llu microseconds\n", (unsigned long long)best);
    assert_true(best < 20000); /* generous: sanitizers and busy machines */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_the_golden_ones),
        cmocka_unit_test(test_histograms_are_cumulative),
        cmocka_unit_test(test_gauges_and_counters),
        cmocka_unit_test(test_every_line_parses),
        cmocka_unit_test(test_a_scrape_is_cheap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
