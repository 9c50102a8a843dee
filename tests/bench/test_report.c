/* tests/bench/test_report.c - goal: reports are well formed whatever the run was, and carry its
 * figures.
 *
 * Method: JSON is parsed by jansson; a page is checked for tags that open and close and for text
 * that could be taken for a tag. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report.h"

enum { COUNT = 700 };

static sl_load_options options;
static sl_load_item item[COUNT];
static sl_load_record record[COUNT];
static uint32_t event[COUNT][3];
static sl_load_plan plan;
static sl_load_result result;
static sl_load_summary sum;
static sl_load_site_info site;
static sl_report report;

static void make(uint32_t count)
{
    sl_load_options_init(&options);
    options.rate = 10.0;
    options.slo = (sl_load_slo){.ttft_ms = 120.0, .tbt_ms = 50.0};
    options.trace_path = "a \"b\" <c>\n";
    memset(&site, 0, sizeof(site));
    snprintf(site.url, sizeof(site.url), "http://x/?a=<b>&c=\"d\"");
    snprintf(site.model, sizeof(site.model), "m\xff<script>");
    plan = (sl_load_plan){.item = item, .count = count, .open_loop = true};
    result = (sl_load_result){.record = record, .count = count, .wall_us = 123456};
    result.before = (sl_load_scrape){.found = true,
                                     .prompt_tokens = 1.0,
                                     .output_tokens = 2.0,
                                     .state_name = {"idle", "mixed"},
                                     .state_count = 2};
    result.after = result.before;
    result.after.state_s[0] = 3.0;
    result.after.state_s[1] = 1.0;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t at = i * 10000u;

        memcpy(event[i], (uint32_t[]){100000 + i, 110000 + i, 130000 + 2 * i}, sizeof(event[i]));
        record[i] = (sl_load_record){.outcome = i % 50 == 7 ? SL_LOAD_CUT : SL_LOAD_OK,
                                     .http_status = 200,
                                     .intended_us = at,
                                     .due_us = at,
                                     .begun_us = at + 1,
                                     .sent_us = at + 2,
                                     .first_us = at + 100000 + i,
                                     .last_us = at + 130000 + 2 * i,
                                     .done_us = at + 140000 + 2 * i,
                                     .prompt_tokens = 5,
                                     .output_tokens = -1,
                                     .cached_tokens = -1,
                                     .event_us = event[i],
                                     .events = 3,
                                     .error = "a <b> & \"c\"\t"};
        item[i] = (sl_load_item){.session = i, .input_tokens = 5, .output_tokens = 3};
    }
    assert_int_equal(sl_load_summarise(&options, &plan, &result, &sum, NULL), SL_OK);
    report = (sl_report){
        .options = &options, .site = &site, .plan = &plan, .result = &result, .summary = &sum};
}

static json_t *parsed(sl_buf *text)
{
    json_error_t error;
    json_t *root;

    assert_false(text->failed);
    root = json_loadb(text->data, text->len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        fail_msg("%s at %d", error.text, error.position);
    return root;
}

static double number(const json_t *root, const char *a, const char *b, const char *c)
{
    const json_t *value = json_object_get(root, a);

    if (b != NULL)
        value = json_object_get(value, b);
    if (c != NULL)
        value = json_object_get(value, c);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void json_parses_and_holds_the_figures(void **state)
{
    json_t *root;
    sl_buf out;

    (void)state;
    make(200);
    sl_buf_init(&out, 1 << 20);
    sl_report_json(&report, &out);
    root = parsed(&out);
    assert_string_equal(json_string_value(json_object_get(root, "kind")), "sluice.bench.serve");
    assert_true(number(root, "version", NULL, NULL) == SL_REPORT_VERSION);
    assert_true(number(root, "requests", "planned", NULL) == 200);
    assert_true(number(root, "requests", "failed", NULL) == 4);
    assert_true(number(root, "requests", "by_outcome", "CUT") == 4);
    assert_true(number(root, "requests", "by_status", "200") == 200);
    assert_true(fabs(number(root, "latency_ms", "ttft", "p50") - sum.ttft.p50) < 1e-6);
    assert_true(fabs(number(root, "latency_ms", "tbt", "p99.9") - sum.tbt.p999) < 1e-6);
    assert_true(number(root, "latency_ms", "tbt", "n") == 392);
    assert_true(fabs(number(root, "goodput", "attainment", NULL) - sum.attainment) < 1e-6);
    assert_true(number(root, "cross_check", "server_state_s", "idle") == 3.0);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(root, "options"), "dataset")),
        options.trace_path);
    json_decref(root);
    sl_buf_done(&out);
}

static void json_of_nothing_parses_too(void **state)
{
    sl_buf out;

    (void)state;
    make(1);
    record[0] = (sl_load_record){.outcome = SL_LOAD_SKIPPED};
    assert_int_equal(sl_load_summarise(&options, &plan, &result, &sum, NULL), SL_OK);
    assert_false(sum.valid);
    sl_buf_init(&out, 1 << 20);
    sl_report_json(&report, &out);
    json_decref(parsed(&out));
    sl_buf_reset(&out);
    sl_report_text(&report, &out);
    assert_non_null(strstr(sl_buf_text(&out), "INVALID: no request was judged"));
    sl_buf_reset(&out);
    sl_report_html(&report, &out);
    assert_false(out.failed);
    sl_buf_done(&out);
}

static void json_lines_are_one_object_a_request(void **state)
{
    const char *at;
    sl_buf out;

    (void)state;
    make(30);
    sl_buf_init(&out, 1 << 20);
    sl_report_jsonl(&report, &out);
    at = sl_buf_text(&out);
    for (uint32_t i = 0; i < 30; i++) {
        const char *end = strchr(at, '\n');
        json_error_t error;
        json_t *root = json_loadb(at, (size_t)(end - at), 0, &error);

        assert_non_null(root);
        assert_true(number(root, "request", NULL, NULL) == i);
        assert_true(fabs(number(root, "first_ms", NULL, NULL) - (double)record[i].first_us * 1e-3) <
                    1e-9);
        assert_int_equal(json_array_size(json_object_get(root, "gaps_ms")), 2);
        assert_true(json_is_null(json_object_get(root, "output_tokens")));
        json_decref(root);
        at = end + 1;
    }
    assert_true(*at == '\0');
    sl_buf_done(&out);
}

static size_t count_of(const char *text, const char *what)
{
    size_t n = 0;

    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

static void a_page_is_whole_and_holds_no_foreign_tags(void **state)
{
    const char *text;
    sl_buf out;

    (void)state;
    make(COUNT);
    sl_buf_init(&out, 8 << 20);
    sl_report_html(&report, &out);
    text = sl_buf_text(&out);
    assert_non_null(text);
    assert_int_equal(count_of(text, "<svg"), 3);
    assert_int_equal(count_of(text, "</svg>"), 3);
    assert_int_equal(count_of(text, "<pre>"), 1);
    assert_null(strstr(text, "<script"));
    assert_null(strstr(text, "<b>"));
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "http://www"));
    assert_non_null(strstr(text, "class=bad"));
    assert_non_null(strstr(text, "</html>"));
    sl_buf_done(&out);
}

static void the_table_names_what_failed(void **state)
{
    const char *text;
    sl_buf out;

    (void)state;
    make(200);
    sl_buf_init(&out, 1 << 20);
    sl_report_text(&report, &out);
    text = sl_buf_text(&out);
    assert_non_null(strstr(text, "answer cut off"));
    assert_non_null(strstr(text, "the first failure: request 7"));
    assert_non_null(strstr(text, "targets"));
    assert_non_null(strstr(text, "idle 75.0 %"));
    sl_buf_done(&out);
}

static void sweeps_and_comparisons_parse(void **state)
{
    static const sl_load_point point[] = {{.rate = 1.0, .attainment = 1.0, .valid = true},
                                          {.rate = 2.0, .attainment = 0.25, .valid = false}};
    static const sl_report_figure figure[] = {
        {.name = "ttft_p50", .unit = "ms", .ratio = {{10.0, 20.0}, 2.0, 1.9, 2.1, 1000}},
        {.name = "output_tokens",
         .unit = "/s",
         .more_is_better = true,
         .ratio = {{10.0, 20.0}, 2.0, 1.9, 2.1, 1000}},
        {.name = "e2e_mean", .unit = "ms", .ratio = {{10.0, 10.0}, 1.0, 0.9, 1.1, 1000}}};
    sl_report_sweep sweep;
    sl_report_compare compare;
    json_t *root;
    sl_buf out;

    (void)state;
    make(2);
    sl_buf_init(&out, 1 << 20);
    sweep = (sl_report_sweep){
        .options = &options, .site = &site, .point = point, .count = 2, .best_90 = 1.0};
    sl_report_sweep_json(&sweep, &out);
    root = parsed(&out);
    assert_int_equal(json_array_size(json_object_get(root, "points")), 2);
    assert_true(json_is_null(json_object_get(root, "rate_at_99")));
    json_decref(root);
    sl_buf_reset(&out);
    sl_report_sweep_text(&sweep, &out);
    assert_non_null(strstr(sl_buf_text(&out), "INVALID"));
    assert_non_null(strstr(sl_buf_text(&out), "no rate tried had 99 %"));
    sl_buf_reset(&out);
    compare = (sl_report_compare){.options = &options,
                                  .site = {&site, &site},
                                  .figure = figure,
                                  .count = 3,
                                  .blocks = 2,
                                  .valid = true};
    sl_report_compare_json(&compare, &out);
    root = parsed(&out);
    assert_true(number(root, "figures", "ttft_p50", "b_over_a") == 2.0);
    json_decref(root);
    sl_buf_reset(&out);
    sl_report_compare_text(&compare, &out);
    assert_int_equal(count_of(sl_buf_text(&out), "A is better"), 1);
    assert_int_equal(count_of(sl_buf_text(&out), "B is better"), 1);
    assert_int_equal(count_of(sl_buf_text(&out), "no difference shown"), 1);
    sl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_parses_and_holds_the_figures),
        cmocka_unit_test(json_of_nothing_parses_too),
        cmocka_unit_test(json_lines_are_one_object_a_request),
        cmocka_unit_test(a_page_is_whole_and_holds_no_foreign_tags),
        cmocka_unit_test(the_table_names_what_failed),
        cmocka_unit_test(sweeps_and_comparisons_parse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
