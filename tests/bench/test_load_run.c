/* tests/bench/test_load_run.c - goal: what a run reports is what happened on the wire: delays,
 * stalls, failures, reuse of connections, closed loops, conversations, planned trouble.
 *
 * Method: runs against a server whose every delay is scripted (toy_server.h).  Medians are
 * compared, as one late wake-up of a busy machine says nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/threads.h"
#include "bench/load_many.h"
#include "tests/bench/toy_server.h"

typedef struct bench_run {
    toy_server toy;
    sl_load_options options;
    sl_load_site *site;
    sl_load_plan plan;
    sl_load_result result;
    sl_load_summary sum;
} bench_run;

static bench_run run;

/* A toy that answers after 20 ms and then every 5 ms; constant arrivals. */
static int set_up(void **state)
{
    (void)state;
    memset(&run, 0, sizeof(run));
    run.toy.first_us = 20000;
    run.toy.gap_us = 5000;
    sl_load_options_init(&run.options);
    run.options.rate = 50.0;
    run.options.arrivals.process = SL_LOAD_CONSTANT;
    run.options.requests = 20;
    run.options.input = (sl_load_length){.kind = SL_LOAD_FIXED, .min = 30, .max = 30};
    run.options.output = (sl_load_length){.kind = SL_LOAD_FIXED, .min = 6, .max = 6};
    run.options.timeout_s = 20.0;
    /* The machine may be busy: lateness is looked at in the tests that are about it. */
    run.options.lag_max_ms = 1e6;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_load_result_done(&run.result);
    sl_load_plan_done(&run.plan);
    sl_load_site_close(run.site);
    if (run.toy.acceptor != NULL)
        toy_stop(&run.toy);
    return 0;
}

static void open_site(void)
{
    sl_err err = {0};

    toy_start(&run.toy);
    run.options.base_url = run.toy.url;
    if (sl_load_site_open(&run.options, &run.site, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static void go(void)
{
    sl_err err = {0};

    if (run.site == NULL)
        open_site();
    assert_int_equal(sl_load_options_check(&run.options, &err), SL_OK);
    if (sl_load_plan_make(&run.options, &run.plan, &err) != SL_OK ||
        sl_load_run(&run.options, run.site, &run.plan, &run.result, &err) != SL_OK ||
        sl_load_summarise(&run.options, &run.plan, &run.result, &run.sum, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static uint32_t outcomes(sl_load_outcome outcome)
{
    return run.sum.outcome[outcome];
}

/* How late the toy itself was with its first events, in ms: not the client's doing. */
static double toy_lateness_ms(void)
{
    static double late[TOY_ANSWERS_MAX];
    uint32_t n = atomic_load(&run.toy.answers);

    if (n > TOY_ANSWERS_MAX)
        n = TOY_ANSWERS_MAX;
    for (uint32_t i = 0; i < n; i++)
        late[i] = (double)(run.toy.answer[i].wrote_us - run.toy.answer[i].due_us) * 1e-3;
    return sl_load_dist_of(late, n).p50;
}

static void delays_are_reported_as_scripted(void **state)
{
    (void)state;
    go();
    assert_int_equal(run.sum.ok, 20);
    assert_int_equal(run.sum.tbt.n, 100);
    assert_true(run.sum.ttft_sent.p50 >= 20.0);
    assert_true(run.sum.ttft_sent.p50 < 21.0 + toy_lateness_ms());
    assert_true(fabs(run.sum.tbt.p50 - 5.0) < 1.0);
    assert_true(fabs(run.sum.tpot.p50 - 5.0) < 1.0);
    assert_true(run.sum.e2e.p50 >= 45.0);
    assert_true(run.sum.ttft.min >= 20.0);
    for (uint32_t i = 0; i < 20; i++) {
        const sl_load_record *r = &run.result.record[i];

        assert_true(r->intended_us == i * 20000u);
        assert_true(r->intended_us <= r->begun_us && r->begun_us <= r->sent_us);
        assert_true(r->sent_us < r->first_us && r->first_us < r->last_us);
        assert_true(r->last_us <= r->done_us);
        assert_int_equal(r->events, 6);
        assert_int_equal(r->output_tokens, 6);
        assert_int_equal(r->prompt_tokens, 30);
        assert_string_equal(r->finish, "length");
    }
    assert_false(run.sum.tokens_differ);
    assert_true(run.sum.tokens_comparable);
    assert_true(run.sum.server_prompt_tokens == 600.0 && run.sum.server_output_tokens == 120.0);
}

/* For 300 ms nothing begins: everybody who was to be served meanwhile waited, and the figures from
 * intended times say so; the schedule itself goes on. */
static void a_stall_is_charged_to_all_who_had_to_wait(void **state)
{
    uint32_t waited = 0, on_time = 0;

    (void)state;
    open_site();
    run.options.requests = 40; /* 800 ms */
    /* The run starts within some 10 ms of now: the stall lies well inside it. */
    run.toy.stall_from_us = sl_clock_us() + 250000;
    run.toy.stall_to_us = run.toy.stall_from_us + 300000;
    go();
    assert_int_equal(run.sum.ok, 40);
    for (uint32_t i = 0; i < 40; i++) {
        const sl_load_record *r = &run.result.record[i];

        assert_true(r->intended_us == i * 20000u);
        waited += r->first_us - r->intended_us > 60000;
        on_time += r->begun_us - r->intended_us < 40000;
    }
    /* 15 requests fall into the stall; the last two or three of them wait less than 60 ms. */
    assert_in_range(waited, 10, 22);
    assert_true(on_time >= 36);
    assert_true(run.sum.ttft.p90 > 150.0);
}

/* With a cap on requests in flight, waiting for a place counts from the intended time, not from the
 * send; and it is not the client's lateness. */
static void a_cap_does_not_flatter(void **state)
{
    (void)state;
    run.options.users = 1;
    run.options.requests = 10;
    go();
    /* An answer takes 45 ms, requests come every 20 ms: the last one waits for some 25 ms * 9. */
    assert_int_equal(run.result.in_flight_max, 1);
    assert_true(run.sum.ttft.max > 220.0);
    assert_true(run.sum.ttft_sent.p50 < 25.0 + toy_lateness_ms());
    assert_true(run.sum.lag.p50 < 5.0);
}

static void a_closed_loop_keeps_its_users_busy(void **state)
{
    (void)state;
    run.options.rate = 0.0;
    run.options.users = 3;
    run.options.requests = 15;
    run.options.think_ms = (sl_load_length){.kind = SL_LOAD_FIXED, .min = 10, .max = 10};
    go();
    assert_int_equal(run.sum.ok, 15);
    assert_int_equal(run.result.in_flight_max, 3);
    assert_int_equal(run.sum.reused, 12);
    for (uint32_t i = 3; i < 15; i++)
        assert_true(run.result.record[i].intended_us >= 10000 + 45000);
    assert_true(run.result.wall_us > 5 * 45000 + 4 * 10000);
}

static void connections_that_the_server_drops_are_replaced(void **state)
{
    (void)state;
    run.toy.mode = TOY_CLOSE_IDLE;
    run.options.rate = 0.0;
    run.options.users = 4;
    run.options.requests = 40;
    go();
    assert_int_equal(run.sum.ok, 40);
}

static void bytes_that_drip_are_put_together(void **state)
{
    (void)state;
    run.toy.one_byte_writes = true;
    run.options.requests = 5;
    go();
    assert_int_equal(run.sum.ok, 5);
    assert_int_equal(run.sum.tbt.n, 25);
}

static void other_shapes_of_answers_are_understood(void **state)
{
    (void)state;
    run.toy.mode = TOY_UNTIL_CLOSE;
    run.options.requests = 4;
    go();
    assert_int_equal(run.sum.ok, 4);
    assert_int_equal(run.sum.reused, 0);
    assert_int_equal(run.sum.tbt.n, 20);
    sl_load_result_done(&run.result);
    sl_load_plan_done(&run.plan);
    run.toy.mode = TOY_WHOLE;
    go();
    assert_int_equal(run.sum.ok, 4);
    assert_int_equal(run.sum.tbt.n, 0);
    assert_true(run.sum.output.p50 == 3.0);
}

static void usage_that_does_not_come_is_said(void **state)
{
    (void)state;
    run.toy.no_usage = true;
    run.options.requests = 4;
    go();
    assert_int_equal(run.sum.without_usage, 4);
    assert_true(run.sum.output.p50 == 6.0);
    assert_false(run.sum.tokens_comparable);
}

static void statuses_are_counted(void **state)
{
    static const int status[] = {429, 500, 503};

    (void)state;
    open_site();
    run.toy.mode = TOY_STATUS;
    run.options.requests = 4;
    run.options.slo.ttft_ms = 1000.0;
    for (size_t i = 0; i < 3; i++) {
        run.toy.status = status[i];
        go();
        assert_int_equal(outcomes(SL_LOAD_HTTP), 4);
        assert_int_equal(run.sum.failed, 4);
        assert_int_equal(run.sum.http_count, 1);
        assert_int_equal(run.sum.http[0].status, status[i]);
        assert_int_equal(run.sum.http[0].count, 4);
        assert_true(run.sum.judged == 4 && run.sum.good == 0 && run.sum.attainment == 0.0);
        assert_string_equal(run.result.record[0].error, "toy says no");
        sl_load_result_done(&run.result);
        sl_load_plan_done(&run.plan);
    }
}

static void a_mode_gives(toy_mode mode, sl_load_outcome outcome)
{
    if (run.site == NULL)
        open_site();
    run.toy.mode = mode;
    run.options.requests = 4;
    go();
    assert_int_equal(outcomes(outcome), 4);
    assert_int_equal(run.sum.failed, 4);
    assert_int_equal(run.sum.ok, 0);
    sl_load_result_done(&run.result);
    sl_load_plan_done(&run.plan);
}

static void every_way_to_break_an_answer_has_its_name(void **state)
{
    (void)state;
    a_mode_gives(TOY_CUT, SL_LOAD_CUT);
    a_mode_gives(TOY_NO_END, SL_LOAD_CUT);
    a_mode_gives(TOY_DIE, SL_LOAD_RESET);
    a_mode_gives(TOY_ERROR_EVENT, SL_LOAD_ERROR_EVENT);
    a_mode_gives(TOY_NONSENSE, SL_LOAD_MALFORMED);
    a_mode_gives(TOY_NO_HTTP, SL_LOAD_MALFORMED);
    run.options.timeout_s = 0.2;
    a_mode_gives(TOY_SILENT, SL_LOAD_TIMEOUT);
    /* And after all that, the same client is as good as new. */
    run.options.timeout_s = 20.0;
    run.toy.mode = TOY_STREAM;
    go();
    assert_int_equal(run.sum.ok, 4);
}

static void a_server_that_is_gone_refuses(void **state)
{
    (void)state;
    open_site();
    toy_stop(&run.toy);
    run.toy.acceptor = NULL;
    run.options.requests = 4;
    go();
    assert_int_equal(outcomes(SL_LOAD_CONNECT), 4);
    assert_non_null(strstr(run.result.record[0].error, "refused"));
    assert_false(run.result.before.found);
    sl_load_result_done(&run.result);
    sl_load_plan_done(&run.plan);
    /* Waiting under a cap for answers that never come must end, too. */
    run.options.users = 1;
    go();
    assert_int_equal(outcomes(SL_LOAD_CONNECT), 4);
}

static void a_server_that_dies_in_the_middle_leaves_no_request_behind(void **state)
{
    (void)state;
    open_site();
    run.toy.mode = TOY_CUT;
    run.options.rate = 0.0;
    run.options.users = 2;
    run.options.requests = 12;
    go();
    assert_int_equal(outcomes(SL_LOAD_CUT), 12);
    for (uint32_t i = 0; i < 12; i++)
        assert_int_equal(run.result.record[i].events, 3);
}

static void end_the_server(const sl_load_progress *progress, void *user)
{
    (void)user;
    if (progress->finished > 4 && run.toy.acceptor != NULL) {
        toy_stop(&run.toy);
        run.toy.acceptor = NULL;
    }
}

/* Open connections break, idle ones are found dead, new ones are refused: every request ends. */
static void a_server_that_goes_away_in_the_middle_of_a_run(void **state)
{
    (void)state;
    run.options.rate = 20.0;
    run.options.requests = 30;
    run.options.on_progress = end_the_server;
    go();
    assert_true(outcomes(SL_LOAD_OK) > 4 && outcomes(SL_LOAD_OK) < 30);
    assert_true(outcomes(SL_LOAD_CONNECT) > 4);
    assert_int_equal(outcomes(SL_LOAD_OK) + run.sum.failed, 30);
}

static void a_unix_socket_works(void **state)
{
    static char path[64];

    (void)state;
    snprintf(path, sizeof(path), "/tmp/sluice-toy-%d.sock", (int)getpid());
    run.toy.unix_path = path;
    run.options.requests = 4;
    go();
    assert_int_equal(run.sum.ok, 4);
    assert_true(run.sum.ttft_sent.min >= 20.0);
}

static void conversations_feed_real_answers_back(void **state)
{
    (void)state;
    run.options.turns = 3;
    run.options.requests = 6;
    run.options.rate = 20.0;
    go();
    assert_int_equal(run.sum.ok, 6);
    for (uint32_t s = 0; s < 6; s += 3)
        for (uint32_t turn = 1; turn < 3; turn++) {
            const sl_load_record *r = &run.result.record[s + turn];

            assert_true(r->intended_us >= run.result.record[s + turn - 1].done_us);
            /* The toy counts a turn's words, its own six words and a blank in front, and more. */
            assert_true(r->prompt_tokens > run.result.record[s + turn - 1].prompt_tokens + 30);
        }
    assert_non_null(
        strstr(run.toy.last_body, "{\"role\":\"assistant\",\"content\":\" t0 t1 t2 t3 t4 t5\"}"));
    assert_non_null(strstr(run.toy.last_body, "\"stream_options\":{\"include_usage\":true}"));
}

static void a_conversation_ends_with_its_first_failure(void **state)
{
    (void)state;
    open_site();
    run.toy.mode = TOY_CUT;
    run.options.turns = 3;
    run.options.requests = 6;
    go();
    assert_int_equal(outcomes(SL_LOAD_CUT), 2);
    assert_int_equal(outcomes(SL_LOAD_SKIPPED), 4);
}

static void completions_and_extra_members_are_sent_as_asked(void **state)
{
    (void)state;
    run.options.completions = true;
    run.options.requests = 1;
    run.options.temperature = 0.5;
    run.options.extra_json = "{\"top_k\": 20, \"ignore_eos\": false, \"stop\": [\"x\"]}";
    run.options.key = "secret";
    go();
    assert_int_equal(run.sum.outcome[SL_LOAD_OK], 1);
    assert_non_null(strstr(run.toy.last_body, "\"prompt\":\"the "));
    assert_non_null(strstr(run.toy.last_body, "\"top_k\":20"));
    assert_non_null(strstr(run.toy.last_body, "\"temperature\":0.5"));
    assert_non_null(strstr(run.toy.last_body, "\"ignore_eos\":false"));
    assert_null(strstr(run.toy.last_body, "\"ignore_eos\":true"));
}

static void extra_members_that_cannot_be_are_refused(void **state)
{
    static const char *const wrong[] = {
        "", "[1]", "{", "{\"stream\":false}", "{\"messages\":[]}", "{\"a\":1,\"a\":2}"};

    (void)state;
    toy_start(&run.toy);
    run.options.base_url = run.toy.url;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        sl_err err = {0};

        run.options.extra_json = wrong[i];
        assert_int_equal(sl_load_site_open(&run.options, &run.site, &err), SL_EINVAL);
        assert_non_null(strstr(err.text, "--extra"));
    }
}

static void prompts_have_their_length_in_every_way_to_count(void **state)
{
    (void)state;
    open_site();
    assert_true(sl_load_site_get_info(run.site)->lengths_exact);
    assert_non_null(strstr(sl_load_site_get_info(run.site)->lengths, "/tokenize"));
    sl_load_site_close(run.site);
    run.site = NULL;
    run.toy.no_tokenize = true;
    assert_int_equal(sl_load_site_open(&run.options, &run.site, NULL), SL_OK);
    assert_true(sl_load_site_get_info(run.site)->lengths_exact);
    assert_non_null(strstr(sl_load_site_get_info(run.site)->lengths, "usage"));
    run.options.requests = 3;
    go();
    assert_true(run.sum.input.min == 30.0 && run.sum.input.max == 30.0);
    sl_load_site_close(run.site);
    run.site = NULL;
    run.toy.no_usage = true;
    assert_int_equal(sl_load_site_open(&run.options, &run.site, NULL), SL_OK);
    assert_false(sl_load_site_get_info(run.site)->lengths_exact);
    assert_non_null(strstr(sl_load_site_get_info(run.site)->lengths, "approximate"));
}

static void planned_cancellations_hang_up(void **state)
{
    (void)state;
    run.options.cancel_share = 0.5;
    run.options.cancel_after_ms = 30.0; /* after the first event, before the last */
    run.options.requests = 30;
    go();
    assert_int_equal(outcomes(SL_LOAD_CANCELLED) + outcomes(SL_LOAD_OK), 30);
    assert_in_range(outcomes(SL_LOAD_CANCELLED), 5, 25);
    assert_int_equal(run.sum.failed, 0);
    for (uint32_t i = 0; i < 30; i++) {
        const sl_load_record *r = &run.result.record[i];

        if (!run.plan.item[i].cancel)
            assert_int_equal(r->outcome, SL_LOAD_OK);
        if (r->outcome == SL_LOAD_CANCELLED)
            assert_true(r->done_us - r->begun_us >= 30000);
    }
}

static void slow_readers_read_slowly_and_others_do_not_wait(void **state)
{
    double slow_ms = 1e9;
    uint32_t slow = 0;

    (void)state;
    run.options.slow_share = 0.3;
    run.options.slow_bytes_per_s = 2000.0;
    run.options.output = (sl_load_length){.kind = SL_LOAD_FIXED, .min = 12, .max = 12};
    run.options.requests = 16;
    go();
    for (uint32_t i = 0; i < 16; i++) {
        const sl_load_record *r = &run.result.record[i];

        assert_int_equal(r->outcome, SL_LOAD_OK);
        if (run.plan.item[i].slow) {
            slow++;
            slow_ms = fmin(slow_ms, sl_load_e2e_of(r));
        }
    }
    /* An answer has 1,100 bytes: half a second at this speed; 75 ms otherwise. */
    assert_in_range(slow, 1, 15);
    assert_int_equal(run.sum.judged, 16 - slow);
    assert_true(slow_ms >= 350.0);
    assert_true(run.sum.e2e.p50 < 250.0);
}

static volatile sig_atomic_t stop_flag;

static void stop_soon(const sl_load_progress *progress, void *user)
{
    (void)user;
    if (progress->sent > 3)
        stop_flag = 1;
}

static void a_run_can_be_stopped(void **state)
{
    (void)state;
    open_site();
    stop_flag = 0;
    run.options.stop = &stop_flag;
    run.options.on_progress = stop_soon;
    run.toy.first_us = 300000;
    run.options.requests = 2000; /* 40 s */
    go();
    assert_true(run.result.stopped);
    assert_false(run.sum.valid);
    assert_true(run.result.wall_us < 10000000);
    assert_true(outcomes(SL_LOAD_SKIPPED) > 1000);
    assert_true(outcomes(SL_LOAD_CANCELLED) > 0);
}

static void a_closed_loop_ends_at_its_duration(void **state)
{
    (void)state;
    run.options.rate = 0.0;
    run.options.users = 2;
    run.options.requests = 5000;
    run.options.duration_s = 0.3;
    go();
    assert_true(run.sum.ok > 2);
    assert_true(outcomes(SL_LOAD_SKIPPED) > 4000);
    for (uint32_t i = 0; i < run.result.count; i++)
        if (run.result.record[i].outcome == SL_LOAD_OK)
            assert_true(run.result.record[i].intended_us <= 300000);
}

static void many_requests_at_once(void **state)
{
    (void)state;
    run.options.rate = INFINITY;
    run.options.requests = 150;
    run.options.output = (sl_load_length){.kind = SL_LOAD_RANGE, .min = 1, .max = 4};
    go();
    assert_int_equal(run.sum.ok, 150);
    assert_int_equal(run.result.in_flight_max, 150);
    assert_int_equal(atomic_load(&run.toy.requests), 150);
}

static void a_comparison_finds_the_slower_server(void **state)
{
    static sl_report_figure figure[SL_LOAD_FIGURES_MAX];
    static toy_server slow;
    sl_load_options second;
    sl_load_site *second_site = NULL;
    sl_report_compare report;
    sl_err err = {0};

    (void)state;
    memset(&slow, 0, sizeof(slow));
    slow.first_us = 40000;
    slow.gap_us = 5000;
    toy_start(&slow);
    open_site();
    run.options.requests = 6;
    second = run.options;
    second.base_url = slow.url;
    assert_int_equal(sl_load_site_open(&second, &second_site, &err), SL_OK);
    const sl_load_compare compare = {
        .load = {&run.options, &second}, .site = {run.site, second_site}, .blocks = 3};
    assert_int_equal(sl_load_compare_run(&compare, figure, &report, &err), SL_OK);
    assert_true(report.valid);
    assert_int_equal(report.requests[0], 18);
    assert_int_equal(report.requests[1], 18);
    assert_string_equal(figure[1].name, "ttft_p50");
    assert_true(figure[1].ratio.low > 1.2);
    assert_true(figure[1].ratio.ratio > 1.5 && figure[1].ratio.ratio < 2.5);
    sl_load_site_close(second_site);
    toy_stop(&slow);
}

/* The toy has no limit; and no rate meets a target below its delay. */
static void a_sweep_without_limit_ends_at_the_highest_rate(void **state)
{
    sl_load_point point[SL_LOAD_POINTS_MAX];
    sl_load_sweep sweep;
    size_t n = 0;
    sl_err err = {0};

    (void)state;
    open_site();
    run.options.requests = 8;
    run.options.slo.ttft_ms = 2000.0;
    sweep = (sl_load_sweep){
        .load = run.options, .rate_min = 1.0, .rate_max = 200.0, .precision = 1.2, .points_max = 8};
    sweep.load.rate = 100.0;
    assert_int_equal(sl_load_sweep_run(&sweep, run.site, point, &n, &err), SL_OK);
    assert_int_equal(n, 2);
    assert_true(sl_load_search_best(point, n, 0.99) == 200.0);
    sweep.load.slo.ttft_ms = 1.0; /* not to be met at any rate */
    sweep.rate_min = 50.0;
    assert_int_equal(sl_load_sweep_run(&sweep, run.site, point, &n, &err), SL_OK);
    assert_true(sl_load_search_best(point, n, 0.9) == 0.0);
    assert_true(point[0].rate == 50.0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(delays_are_reported_as_scripted),
        TEST(a_stall_is_charged_to_all_who_had_to_wait),
        TEST(a_cap_does_not_flatter),
        TEST(a_closed_loop_keeps_its_users_busy),
        TEST(connections_that_the_server_drops_are_replaced),
        TEST(bytes_that_drip_are_put_together),
        TEST(other_shapes_of_answers_are_understood),
        TEST(usage_that_does_not_come_is_said),
        TEST(statuses_are_counted),
        TEST(every_way_to_break_an_answer_has_its_name),
        TEST(a_server_that_is_gone_refuses),
        TEST(a_server_that_dies_in_the_middle_leaves_no_request_behind),
        TEST(a_server_that_goes_away_in_the_middle_of_a_run),
        TEST(a_unix_socket_works),
        TEST(conversations_feed_real_answers_back),
        TEST(a_conversation_ends_with_its_first_failure),
        TEST(completions_and_extra_members_are_sent_as_asked),
        TEST(extra_members_that_cannot_be_are_refused),
        TEST(prompts_have_their_length_in_every_way_to_count),
        TEST(planned_cancellations_hang_up),
        TEST(slow_readers_read_slowly_and_others_do_not_wait),
        TEST(a_run_can_be_stopped),
        TEST(a_closed_loop_ends_at_its_duration),
        TEST(many_requests_at_once),
        TEST(a_comparison_finds_the_slower_server),
        TEST(a_sweep_without_limit_ends_at_the_highest_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
