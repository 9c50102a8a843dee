/* tests/engine/test_engine.c
 *
 * Goal: what happens to one request, or a few, in every situation of a slot's life.
 * Method: the real engine, cache and scheduler on the virtual device; the rig compares every token
 * with the oracle's.  Where a test needs a certain plan, it brings its own decide function. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "tests/engine/rig.h"

#define COUNT(r, name) ((unsigned)atomic_load(&rig_stats(r)->name))

/* --- how a request ends ------------------------------------------------------------------ */

static void one_request_gives_the_tokens_of_the_oracle(void **state)
{
    rig_options o = rig_defaults();
    rig_request q = rig_ask(150, 20, 1);
    rig r;
    (void)state;

    q.logprobs = true;
    rig_open(&r, &o);
    rig_set(&r, &q, 1);
    rig_run(&r);
    rig_expect_done(&q);
    assert_int_equal(q.token_end, 20);
    assert_int_equal(q.finish, SL_FINISH_LENGTH);
    assert_true(q.messages >= 10); /* it streamed */
    assert_true(q.times.admitted_us >= q.times.submitted_us);
    assert_true(q.times.first_token_us > q.times.admitted_us);
    assert_true(q.times.last_token_us > q.times.first_token_us);
    assert_true(q.times.done_us >= q.times.last_token_us);
    assert_int_equal(q.times.cached_tokens, 0);
    assert_int_equal(COUNT(&r, requests_admitted), 1);
    assert_int_equal(COUNT(&r, requests_done), 1);
    assert_int_equal(COUNT(&r, prompt_tokens), 150);
    assert_int_equal(COUNT(&r, prompt_tokens_computed), 150);
    assert_int_equal(COUNT(&r, generation_tokens), 20);
    assert_int_equal(COUNT(&r, steps), 19); /* the first token comes from the prompt */
    rig_close(&r);
    rig_free(&q, 1);
}

static void prompts_and_answers_at_the_limits(void **state)
{
    static const uint32_t sizes[][2] = {{1, 1},   {1, 2},    {63, 1},   {64, 1},  {65, 1},
                                        {64, 64}, {127, 2},  {128, 2},  {129, 2}, {511, 1},
                                        {1, 511}, {448, 64}, {256, 256}};
    enum { N = sizeof(sizes) / sizeof(sizes[0]) };
    (void)state;

    for (size_t i = 0; i < N; i++) {
        rig_options o = rig_defaults();
        rig_request q = rig_ask(sizes[i][0], sizes[i][1], 2);
        rig r;

        o.exec.plane_count = 16 * 8; /* exactly one context */
        rig_open(&r, &o);
        rig_set(&r, &q, 1);
        rig_run(&r);
        rig_expect_done(&q);
        assert_int_equal(q.token_end, sizes[i][1]);
        rig_close(&r);
        rig_free(&q, 1);
    }
}

static void a_stop_token_ends_and_is_not_delivered(void **state)
{
    (void)state;

    for (uint32_t at = 0; at < 6; at++) {
        rig_options o = rig_defaults();
        rig_request q[2] = {rig_ask(100, 10, 3), rig_ask(100, 10, 3)};
        uint32_t tokens[10];
        bool stopped;
        rig r;

        rig_oracle(&q[0], tokens, &stopped);
        q[0].stop_token = tokens[at];
        q[1].stop_token = tokens[at];
        q[1].ignore_eos = true;
        rig_open(&r, &o);
        rig_set(&r, q, 2);
        rig_run(&r);
        rig_expect_done(&q[0]);
        assert_int_equal(q[0].finish, SL_FINISH_STOP);
        assert_int_equal(q[0].token_end, at);
        assert_int_equal(q[0].stop_seen, tokens[at]);
        rig_expect_done(&q[1]);
        assert_int_equal(q[1].finish, SL_FINISH_LENGTH);
        assert_int_equal(q[1].stop_seen, UINT32_MAX);
        rig_close(&r);
        rig_free(q, 2);
    }
}

static void bad_requests_fail_alone(void **state)
{
    rig_options o = rig_defaults();
    rig_request q[5] = {rig_ask(1, 5, 1), rig_ask(500, 13, 1), rig_ask(40, 5, 1), rig_ask(40, 5, 2),
                        rig_ask(513, 1, 1)};
    rig r;
    (void)state;

    q[0].prompt_count = 0;
    q[2].prompt[39] = RIG_VOCAB;
    rig_open(&r, &o);
    rig_set(&r, q, 5);
    rig_run(&r);
    rig_expect_failed(&q[0], SL_EINVAL);
    rig_expect_failed(&q[1], SL_ETOOLONG);
    rig_expect_failed(&q[2], SL_EINVAL);
    rig_expect_done(&q[3]);
    rig_expect_failed(&q[4], SL_ETOOLONG);
    assert_int_equal(COUNT(&r, requests_failed), 4);
    rig_close(&r);
    rig_free(q, 5);
}

static void beyond_the_queue_is_refused_at_once(void **state)
{
    enum { N = 24 };
    rig_options o = rig_defaults();
    rig_request q[N];
    uint32_t refused = 0;
    rig r;
    (void)state;

    o.engine.queue_max = 10;
    o.engine.seqs_max = 2;
    for (uint32_t i = 0; i < N; i++)
        q[i] = rig_ask(50 + i, 5, i);
    rig_open(&r, &o);
    rig_set(&r, q, N);
    rig_turn(&r);
    for (uint32_t i = 0; i < N; i++)
        if (q[i].ended) {
            rig_expect_failed(&q[i], SL_EFULL);
            assert_true(i >= 10); /* first come, first served */
            refused++;
        }
    assert_int_equal(refused, N - 10);
    rig_run(&r);
    for (uint32_t i = 0; i < 10; i++)
        rig_expect_done(&q[i]);
    rig_close(&r);
    rig_free(q, N);
}

static void more_submissions_than_one_boundary_takes_all_come_through(void **state)
{
    enum { N = 100 };
    rig_options o = rig_defaults();
    rig_request q[N];
    rig r;
    (void)state;

    o.engine.queue_max = N;
    for (uint32_t i = 0; i < N; i++)
        q[i] = rig_ask(10 + i, 3, i);
    rig_open(&r, &o);
    rig_set(&r, q, N);
    rig_run(&r);
    for (uint32_t i = 0; i < N; i++)
        rig_expect_done(&q[i]);
    rig_close(&r);
    rig_free(q, N);
}

/* --- cancel, deadline, shutdown ---------------------------------------------------------- */

/* Run until `q` has at least `tokens` tokens announced. */
static void run_until_tokens(rig *r, const rig_request *q, uint32_t tokens)
{
    while (rig_turn(r) && q->token_end < tokens)
        assert_true(rig_advance(r));
    assert_false(q->ended);
}

static void a_cancelled_decode_frees_its_pages_at_the_next_boundary(void **state)
{
    rig_options o = rig_defaults();
    rig_request q = rig_ask(300, 200, 1);
    uint64_t cancelled_us;
    rig r;
    (void)state;

    o.engine.prefix_caching = false;
    rig_open(&r, &o);
    rig_set(&r, &q, 1);
    run_until_tokens(&r, &q, 5);
    assert_true(rig_planes_held(&r) > 0);
    cancelled_us = rig_now(&r);
    atomic_store(&q.slot->cancelled, true);
    rig_turn(&r); /* its step runs */
    assert_false(q.ended);
    assert_true(rig_advance(&r));
    rig_turn(&r);
    rig_expect_failed(&q, SL_ECANCELLED);
    assert_int_equal(rig_planes_held(&r), 0);
    assert_true(rig_now(&r) - cancelled_us < 2000); /* one step */
    assert_int_equal(COUNT(&r, requests_cancelled), 1);
    rig_close(&r);
    rig_free(&q, 1);
}

static void a_cancelled_prompt_ends_after_its_slice(void **state)
{
    rig_options o = rig_defaults();
    rig_request q = rig_ask(500, 5, 1);
    rig r;
    (void)state;

    o.engine.prefix_caching = false;
    rig_open(&r, &o);
    rig_set(&r, &q, 1);
    rig_turn(&r);
    assert_true(rig_planes_held(&r) > 0);
    atomic_store(&q.slot->cancelled, true);
    assert_true(rig_advance(&r));
    rig_turn(&r);
    rig_expect_failed(&q, SL_ECANCELLED);
    assert_int_equal(q.token_end, 0);
    assert_int_equal(rig_planes_held(&r), 0);
    assert_true(COUNT(&r, prompt_tokens_computed) < 500);
    rig_close(&r);
    rig_free(&q, 1);
}

static void a_cancelled_waiting_request_never_runs(void **state)
{
    rig_options o = rig_defaults();
    rig_request q[2] = {rig_ask(100, 50, 1), rig_ask(100, 50, 2)};
    rig r;
    (void)state;

    o.engine.seqs_max = 1;
    rig_open(&r, &o);
    rig_set(&r, q, 2);
    run_until_tokens(&r, &q[0], 3);
    atomic_store(&q[1].slot->cancelled, true);
    rig_turn(&r);
    rig_expect_failed(&q[1], SL_ECANCELLED);
    assert_int_equal(q[1].times.admitted_us, 0);
    rig_run(&r);
    rig_expect_done(&q[0]);
    rig_close(&r);
    rig_free(q, 2);
}

static void a_request_past_its_deadline_ends_wherever_it_is(void **state)
{
    rig_options o = rig_defaults();
    rig_request q[3] = {rig_ask(100, 60, 1), rig_ask(100, 400, 2), rig_ask(100, 60, 3)};
    rig r;
    (void)state;

    o.engine.seqs_max = 2;
    q[1].deadline_us = 30000; /* while it decodes */
    q[2].deadline_us = 20000; /* while it waits */
    rig_open(&r, &o);
    rig_set(&r, q, 3);
    rig_run(&r);
    rig_expect_done(&q[0]);
    rig_expect_failed(&q[1], SL_ETIMEOUT);
    rig_expect_failed(&q[2], SL_ETIMEOUT);
    assert_true(q[1].token_end > 0);
    assert_in_range(q[1].times.done_us, 30001, 34000);
    assert_int_equal(q[2].times.admitted_us, 0);
    rig_close(&r);
    rig_free(q, 3);
}

static void shutdown_fails_what_is_left_and_ends_the_loop(void **state)
{
    enum { N = 10 };
    rig_options o = rig_defaults();
    rig_request q[N];
    rig r;
    (void)state;

    o.engine.seqs_max = 4;
    for (uint32_t i = 0; i < N; i++)
        q[i] = rig_ask(100, 100, i);
    rig_open(&r, &o);
    rig_set(&r, q, N);
    run_until_tokens(&r, &q[0], 2);
    sl_mailbox_shutdown(&r.box);
    sl_engine_run(r.engine); /* returns: virtual time runs by itself here */
    rig_drain(&r);
    for (uint32_t i = 0; i < N; i++)
        rig_expect_failed(&q[i], SL_EUNAVAILABLE);
    rig_close(&r);
    rig_free(q, N);
}

static void failed_batches_end_their_requests_and_nobody_else(void **state)
{
    enum { N = 60 };
    rig_options o = rig_defaults();
    rig_request q[N];
    uint32_t done = 0, failed = 0;
    rig r;
    (void)state;

    o.exec.fail_every = 23;
    for (uint32_t i = 0; i < N; i++) {
        q[i] = rig_ask(30 + 5 * i, 8, i);
        q[i].arrive_us = 4000 * i;
    }
    rig_open(&r, &o);
    rig_set(&r, q, N);
    rig_run(&r);
    for (uint32_t i = 0; i < N; i++) {
        if (q[i].kind == SL_EVENT_DONE)
            done++;
        else
            failed++;
        if (q[i].kind != SL_EVENT_DONE)
            rig_expect_failed(&q[i], SL_EINTERNAL);
    }
    assert_true(done > 10);
    assert_true(failed > 3);
    rig_close(&r);
    rig_free(q, N);
}

static void a_lazy_loop_loses_nothing(void **state)
{
    enum { N = 4 };
    rig_options o = rig_defaults();
    rig_request q[N];
    rig r;
    (void)state;

    o.slots = N; /* a small ring: most TOKENS are refused */
    for (uint32_t i = 0; i < N; i++)
        q[i] = rig_ask(20, 100, i);
    rig_open(&r, &o);
    rig_set(&r, q, N);
    r.lazy = true;
    while (rig_turn(&r))
        (void)rig_advance(&r);
    rig_drain(&r);
    for (uint32_t i = 0; i < N; i++) {
        rig_expect_done(&q[i]);
        assert_true(q[i].messages < 20);
    }
    rig_close(&r);
    rig_free(q, N);
}

static void refused_tokens_are_announced_when_there_is_room(void **state)
{
    rig_options o = rig_defaults();
    rig_request q = rig_ask(20, 400, 1);
    rig r;
    (void)state;

    o.slots = 1; /* three TOKENS fit */
    rig_open(&r, &o);
    rig_set(&r, &q, 1);
    r.lazy = true;
    for (int i = 0; i < 30; i++) {
        rig_turn(&r);
        assert_true(rig_advance(&r));
    }
    rig_drain(&r);
    assert_int_equal(q.messages, 3);
    rig_turn(&r);
    rig_drain(&r);
    assert_int_equal(q.messages, 4);
    assert_true(q.token_end > 25); /* one message for all that came meanwhile */
    r.lazy = false;
    rig_run(&r);
    rig_expect_done(&q);
    rig_close(&r);
    rig_free(&q, 1);
}

/* --- sharing ----------------------------------------------------------------------------- */

static void a_cached_prompt_computes_only_what_is_left(void **state)
{
    static const uint32_t sizes[][2] = {{129, 128}, {128, 64}, {192, 128},
                                        {193, 192}, {64, 0},   {65, 64}};
    (void)state;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        rig_options o = rig_defaults();
        rig_request q[2] = {rig_ask(sizes[i][0], 5, 1), rig_ask(sizes[i][0], 9, 1)};
        rig r;

        q[1].arrive_us = 1000000;
        q[1].seed = 77;
        rig_open(&r, &o);
        rig_set(&r, q, 2);
        rig_run(&r);
        rig_expect_done(&q[0]);
        rig_expect_done(&q[1]);
        assert_int_equal(q[1].times.cached_tokens, sizes[i][1]);
        assert_int_equal(COUNT(&r, prompt_tokens_computed), 2 * sizes[i][0] - sizes[i][1]);
        assert_int_equal(COUNT(&r, prompt_tokens_cached), sizes[i][1]);
        rig_close(&r);
        rig_free(q, 2);
    }
}

static void tenants_do_not_share(void **state)
{
    rig_options o = rig_defaults();
    rig_request q[2] = {rig_ask(200, 5, 1), rig_ask(200, 5, 1)};
    rig r;
    (void)state;

    q[1].arrive_us = 1000000;
    q[1].salt = 5;
    rig_open(&r, &o);
    rig_set(&r, q, 2);
    rig_run(&r);
    rig_expect_done(&q[1]);
    assert_int_equal(q[1].times.cached_tokens, 0);
    rig_close(&r);
    rig_free(q, 2);
}

static void identical_prompts_at_once_are_all_right(void **state)
{
    enum { N = 12 };
    rig_options o = rig_defaults();
    rig_request q[N];
    rig r;
    (void)state;

    for (uint32_t i = 0; i < N; i++) {
        q[i] = rig_ask(200, 20, 1);
        q[i].seed = i;
    }
    rig_open(&r, &o);
    rig_set(&r, q, N);
    rig_run(&r);
    for (uint32_t i = 0; i < N; i++)
        rig_expect_done(&q[i]);
    rig_close(&r);
    rig_free(q, N);
}

/* A prompt and its forks, which go different ways by their seeds. */
static void ask_family(rig_request *q, uint32_t n, uint32_t prompt_count)
{
    for (uint32_t i = 0; i < n; i++) {
        q[i] = rig_ask(prompt_count, 30, 1);
        q[i].seed = i + 1;
        q[i].fork_of = i == 0 ? -1 : 0;
    }
}

static void forks_share_the_prompt_and_compute_its_last_token(void **state)
{
    static const uint32_t sizes[] = {1, 2, 63, 64, 65, 66, 100, 128, 129, 200, 300};
    enum { N = 5 };
    (void)state;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        rig_options o = rig_defaults();
        rig_request q[N];
        rig r;

        o.engine.prefix_caching = i % 2 == 0;
        ask_family(q, N, sizes[i]);
        rig_open(&r, &o);
        rig_set(&r, q, N);
        rig_run(&r);
        for (uint32_t k = 0; k < N; k++) {
            rig_expect_done(&q[k]);
            assert_int_equal(q[k].times.cached_tokens, k == 0 ? 0 : sizes[i] - 1);
        }
        assert_int_equal(COUNT(&r, prompt_tokens_computed), sizes[i] + (N - 1));
        rig_close(&r);
        rig_free(q, N);
    }
}

static void a_fork_whose_parent_is_gone_begins_like_any_other(void **state)
{
    enum { N = 4 };
    (void)state;

    for (int how = 0; how < 3; how++) {
        rig_options o = rig_defaults();
        rig_request q[N];
        rig r;

        ask_family(q, N, 150);
        if (how == 0)
            q[0].cancel_us = 1; /* before it began */
        else if (how == 1)
            q[0].max_tokens = 1; /* ends with its prompt */
        else
            q[0].cancel_us = 3000; /* in its prompt */
        rig_open(&r, &o);
        rig_set(&r, q, N);
        rig_run(&r);
        for (uint32_t k = 1; k < N; k++)
            rig_expect_done(&q[k]);
        rig_close(&r);
        rig_free(q, N);
    }
}

static void forks_that_are_not_alike_share_nothing_wrong(void **state)
{
    rig_options o = rig_defaults();
    rig_request q[5] = {rig_ask(150, 40, 1), rig_ask(150, 20, 2), rig_ask(149, 20, 1),
                        rig_ask(150, 20, 1), rig_ask(150, 20, 1)};
    rig r;
    (void)state;

    /* Another prompt, a shorter one, another tenant: none may take the parent's pages; the last
     * one may. */
    for (int i = 1; i < 5; i++)
        q[i].fork_of = 0;
    q[3].salt = 9;
    rig_open(&r, &o);
    rig_set(&r, q, 5);
    rig_run(&r);
    for (int i = 0; i < 5; i++)
        rig_expect_done(&q[i]);
    assert_int_equal(q[1].times.cached_tokens, 0);
    assert_true(q[2].times.cached_tokens <= 128);
    assert_int_equal(q[3].times.cached_tokens, 0);
    assert_int_equal(q[4].times.cached_tokens, 149);
    rig_close(&r);
    rig_free(q, 5);
}

static void cancelled_members_of_a_family_disturb_nobody(void **state)
{
    enum { N = 6 };
    (void)state;

    for (uint64_t us = 500; us < 12000; us += 250) {
        rig_options o = rig_defaults();
        rig_request q[N];
        rig r;

        ask_family(q, N, 100);
        q[(us / 250) % N].cancel_us = us;
        q[(us / 1000) % N].cancel_us = us;
        rig_open(&r, &o);
        rig_set(&r, q, N);
        rig_run(&r);
        for (uint32_t k = 0; k < N; k++) {
            if (!q[k].cancelled)
                rig_expect_done(&q[k]);
        }
        rig_close(&r);
        rig_free(q, N);
    }
}

/* --- shortage ---------------------------------------------------------------------------- */

static void sequences_that_outgrow_the_cache_are_preempted_and_come_back(void **state)
{
    enum { N = 6 };
    rig_options o = rig_defaults();
    rig_request q[N];
    rig r;
    (void)state;

    /* Ten pages; six sequences of up to four pages each. */
    o.exec.plane_count = 16 * 10;
    for (uint32_t i = 0; i < N; i++)
        q[i] = rig_ask(60, 190, i);
    rig_open(&r, &o);
    rig_set(&r, q, N);
    rig_run(&r);
    for (uint32_t i = 0; i < N; i++)
        rig_expect_done(&q[i]);
    rig_close(&r);
    rig_free(q, N);
}

/* The real policy, but the youngest decoding sequence is thrown out now and then. */
static unsigned hostile_calls;

static void decide_hostile(const sl_sched_view *view, sl_sched_plan *plan)
{
    sl_sched_decide(view, plan);
    if (++hostile_calls % 9 != 0 || view->decoding_count == 0)
        return;
    plan->preempt_slot = view->decoding[view->decoding_count - 1].slot;
}

static void preempted_answers_go_on_where_they_were(void **state)
{
    enum { N = 8 };
    rig_options o = rig_defaults();
    rig_request q[N];
    uint32_t preemptions = 0;
    rig r;
    (void)state;

    hostile_calls = 0;
    o.engine.decide = decide_hostile;
    for (uint32_t i = 0; i < N; i++)
        q[i] = rig_ask(40 + 10 * i, 50, i);
    rig_open(&r, &o);
    rig_set(&r, q, N);
    rig_run(&r);
    for (uint32_t i = 0; i < N; i++) {
        rig_expect_done(&q[i]);
        preemptions += q[i].times.preemptions;
    }
    assert_true(preemptions > 5);
    assert_int_equal(COUNT(&r, preemptions), preemptions);
    assert_int_equal(COUNT(&r, requests_admitted), N); /* counted once */
    rig_close(&r);
    rig_free(q, N);
}

/* The real policy, but while this is set every decoding sequence is thrown out. */
static bool throw_out;

static void decide_throwing(const sl_sched_view *view, sl_sched_plan *plan)
{
    sl_sched_decide(view, plan);
    if (throw_out && view->decoding_count > 0)
        plan->preempt_slot = view->decoding[0].slot;
}

static void refused_tokens_of_a_preempted_answer_do_not_wait_for_its_next_token(void **state)
{
    rig_options o = rig_defaults();
    rig_request q = rig_ask(300, 100, 1);
    unsigned generated;
    rig r;
    (void)state;

    o.slots = 1; /* three TOKENS fit */
    o.engine.prefix_caching = false;
    o.engine.decide = decide_throwing;
    throw_out = false;
    rig_open(&r, &o);
    rig_set(&r, &q, 1);
    r.lazy = true;
    while (COUNT(&r, generation_tokens) < 8) {
        rig_turn(&r);
        assert_true(rig_advance(&r));
    }
    throw_out = true;
    rig_turn(&r);
    throw_out = false;
    generated = COUNT(&r, generation_tokens);
    assert_int_equal(COUNT(&r, preemptions), 1);
    rig_drain(&r);
    assert_int_equal(q.token_end, 3);
    rig_turn(&r);
    rig_drain(&r);
    assert_int_equal(q.token_end, generated);
    assert_int_equal(COUNT(&r, generation_tokens), generated); /* no new one was needed */
    r.lazy = false;
    rig_run(&r);
    rig_expect_done(&q);
    rig_close(&r);
    rig_free(&q, 1);
}

static void one_preemption_too_many_ends_a_request(void **state)
{
    rig_options o = rig_defaults();
    rig_request q = rig_ask(40, 200, 1);
    rig r;
    (void)state;

    hostile_calls = 0;
    o.engine.decide = decide_hostile;
    o.engine.preemptions_max = 3;
    rig_open(&r, &o);
    rig_set(&r, &q, 1);
    rig_run(&r);
    rig_expect_failed(&q, SL_EFULL);
    assert_int_equal(q.times.preemptions, 3);
    rig_close(&r);
    rig_free(&q, 1);
}

static void decide_nothing(const sl_sched_view *view, sl_sched_plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    plan->preempt_slot = SL_SLOT_NONE;
    plan->rung = view->rung_now;
    plan->reason = "never";
}

static void a_scheduler_that_never_launches_cannot_hold_requests_for_ever(void **state)
{
    rig_options o = rig_defaults();
    rig_request q[3] = {rig_ask(40, 200, 1), rig_ask(40, 200, 2), rig_ask(40, 200, 3)};
    rig r;
    (void)state;

    o.engine.decide = decide_nothing;
    rig_open(&r, &o);
    rig_set(&r, q, 3);
    rig_run(&r);
    for (int i = 0; i < 3; i++)
        rig_expect_failed(&q[i], SL_EFULL);
    rig_close(&r);
    rig_free(q, 3);
}

/* --- lanes and layers -------------------------------------------------------------------- */

static uint32_t cut_layers; /* of one part of a slice */
static bool lanes_met;      /* a step was planned while a slice ran, or the other way round */

/* Prompts in slices on the prefill lane, cut by layers; steps on the other lane: always split. */
static void decide_split(const sl_sched_view *view, sl_sched_plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    plan->preempt_slot = SL_SLOT_NONE;
    plan->state = SL_STATE_SPLIT;
    plan->rung = view->rung_count / 2;
    plan->reason = "split for ever";
    for (uint32_t i = 0; i < view->waiting_count && plan->admit_count < SL_SCHED_ADMIT_MAX &&
                         view->prefilling_count + view->decoding_count + i < view->seqs_max;
         i++)
        plan->admit[plan->admit_count++] = view->waiting[i].slot;
    if (view->open_slice != NULL) {
        plan->prefill = *view->open_slice;
        if (plan->prefill.layer_first + cut_layers < view->layers)
            plan->prefill.layer_end = plan->prefill.layer_first + cut_layers;
    } else if (!view->lane_busy[SL_LANE_PREFILL]) {
        plan->prefill.layer_end = cut_layers;
        for (uint32_t i = 0; i < view->prefilling_count && i < 2; i++)
            if (!view->prefilling[i].in_flight)
                plan->prefill.item[plan->prefill.item_count++] = (sl_sched_item){
                    .slot = view->prefilling[i].slot,
                    .tokens =
                        view->prefilling[i].prompt_left < 50 ? view->prefilling[i].prompt_left : 50,
                    .prefill = true};
    }
    if (!view->lane_busy[SL_LANE_DECODE]) {
        plan->decode.layer_end = view->layers;
        for (uint32_t i = 0; i < view->decoding_count; i++)
            if (!view->decoding[i].in_flight)
                plan->decode.item[plan->decode.item_count++] =
                    (sl_sched_item){.slot = view->decoding[i].slot, .tokens = 1};
    }
    lanes_met |= (view->lane_busy[0] && plan->decode.item_count > 0) ||
                 (view->lane_busy[1] && plan->prefill.item_count > 0);
}

static void slices_cut_by_layers_give_the_same_tokens(void **state)
{
    enum { N = 10 };
    (void)state;

    for (cut_layers = 1; cut_layers <= RIG_LAYERS; cut_layers++) {
        rig_options o = rig_defaults();
        rig_request q[N];
        rig r;

        lanes_met = false;
        o.engine.decide = decide_split;
        for (uint32_t i = 0; i < N; i++) {
            q[i] = rig_ask(30 + 40 * i, 30, i);
            q[i].arrive_us = 1500 * i;
            q[i].cancel_us = i % 4 == 3 ? 1500 * i + 700 * cut_layers : 0;
        }
        rig_open(&r, &o);
        rig_set(&r, q, N);
        rig_run(&r);
        for (uint32_t i = 0; i < N; i++)
            if (!q[i].cancelled)
                rig_expect_done(&q[i]);
        assert_true(lanes_met);
        assert_true(atomic_load(&rig_stats(&r)->state_us[SL_STATE_SPLIT]) > 0);
        rig_close(&r);
        rig_free(q, N);
    }
}

static void a_slice_that_nobody_wants_any_more_is_not_finished(void **state)
{
    rig_options o = rig_defaults();
    rig_request q = rig_ask(50, 5, 1);
    rig r;
    (void)state;

    cut_layers = 1;
    o.engine.decide = decide_split;
    rig_open(&r, &o);
    rig_set(&r, &q, 1);
    for (int i = 0; i < 3; i++) {
        rig_turn(&r);
        rig_advance(&r);
    }
    atomic_store(&q.slot->cancelled, true);
    rig_turn(&r);
    rig_expect_failed(&q, SL_ECANCELLED);
    assert_true(COUNT(&r, slices) < RIG_LAYERS);
    rig_close(&r);
    rig_free(&q, 1);
}

static void forks_work_while_both_lanes_run(void **state)
{
    enum { N = 9 };
    (void)state;

    for (uint32_t delay_us = 0; delay_us < 3000; delay_us += 300) {
        rig_options o = rig_defaults();
        rig_request q[N];
        rig r;

        cut_layers = 3;
        o.engine.decide = decide_split;
        for (uint32_t i = 0; i < 4; i++)
            q[i] = rig_ask(200, 60, 10 + i); /* keeps both lanes busy */
        for (uint32_t i = 4; i < N; i++) {
            q[i] = rig_ask(100, 30, 1);
            q[i].seed = i;
            q[i].fork_of = i == 4 ? -1 : 4;
            q[i].arrive_us = 2000 + delay_us;
        }
        rig_open(&r, &o);
        rig_set(&r, q, N);
        rig_run(&r);
        for (uint32_t i = 0; i < N; i++)
            rig_expect_done(&q[i]);
        assert_int_equal(q[N - 1].times.cached_tokens, 99);
        rig_close(&r);
        rig_free(q, N);
    }
}

/* --- the engine itself ------------------------------------------------------------------- */

static void the_steady_state_allocates_nothing(void **state)
{
    enum { N = 20 };
    rig_options o = rig_defaults();
    rig_request q[N];
    rig r;
    (void)state;

    o.engine.seqs_max = 8;
    for (uint32_t i = 0; i < N; i++)
        q[i] = rig_ask(100 + i, 50, i % 3);
    rig_open(&r, &o);
    rig_set(&r, q, N);
    rig_turn(&r);
    (void)sl_alloc_fail_at(0);
    r.lazy = true; /* the rig's own checks allocate */
    while (sl_engine_turn(r.engine))
        (void)rig_advance(&r);
    assert_int_equal(sl_alloc_fail_at(0), 0);
    rig_drain(&r);
    rig_run(&r);
    rig_close(&r);
    rig_free(q, N);
}

static void residency_adds_up_to_the_time_that_went_by(void **state)
{
    rig_options o = rig_defaults();
    rig_request q[2] = {rig_ask(300, 50, 1), rig_ask(300, 50, 2)};
    uint64_t sum_us = 0, start_us;
    rig r;
    (void)state;

    q[1].arrive_us = 500000;
    rig_open(&r, &o);
    rig_set(&r, q, 2);
    start_us = rig_now(&r);
    rig_run(&r);
    sl_engine_turn(r.engine);
    for (int i = 0; i < SL_STATE_COUNT; i++)
        sum_us += atomic_load(&rig_stats(&r)->state_us[i]);
    assert_int_equal(sum_us, rig_now(&r) - start_us);
    assert_true(atomic_load(&rig_stats(&r)->state_us[SL_STATE_IDLE]) > 300000);
    assert_int_equal(atomic_load(&rig_stats(&r)->state), SL_STATE_IDLE);
    rig_close(&r);
    rig_free(q, 2);
}

static void bad_options_are_refused_with_a_sentence(void **state)
{
    rig_options o = rig_defaults();
    sl_engine_options bad;
    sl_engine *engine = NULL;
    sl_err err;
    rig r;
    (void)state;

    rig_open(&r, &o);
#define REFUSE(change)                                                                             \
    do {                                                                                           \
        bad = r.options.engine;                                                                    \
        change;                                                                                    \
        err.text[0] = 0;                                                                           \
        assert_int_equal(sl_engine_create(&bad, &engine, &err), SL_EINVAL);                        \
        assert_true(strlen(err.text) > 10);                                                        \
        assert_null(engine);                                                                       \
    } while (0)
    REFUSE(bad.seqs_max = 0);
    REFUSE(bad.seqs_max = SL_SCHED_RUNNING_MAX + 1);
    REFUSE(bad.seqs_max = 33); /* more than sampled rows */
    REFUSE(bad.queue_max = 0);
    REFUSE(bad.queue_max = SL_SCHED_WAITING_MAX + 1);
    REFUSE(bad.context_max = 1);
    REFUSE(bad.context_max = 64 * 64 + 1); /* one page more than the cache has */
    REFUSE(bad.vocab_used = 0);
    REFUSE(bad.vocab_used = RIG_VOCAB + 1);
    REFUSE(bad.policy = SL_POLICY_COUNT);
    REFUSE(bad.slice_target_us = 0);
    REFUSE(bad.chunk_tokens = 0);
#undef REFUSE
    bad = r.options.engine;
    bad.context_max = 64 * 64; /* exactly the cache */
    assert_int_equal(sl_engine_create(&bad, &engine, &err), SL_OK);
    sl_engine_destroy(engine);
    rig_close(&r);
}

static void every_failed_allocation_of_create_is_reported(void **state)
{
    rig_options o = rig_defaults();
    sl_engine *engine = NULL;
    sl_status status = SL_ENOMEM;
    sl_err err;
    uint64_t n = 0;
    rig r;
    (void)state;

    rig_open(&r, &o);
    while (status != SL_OK) {
        sl_alloc_fail_at(++n);
        status = sl_engine_create(&r.options.engine, &engine, &err);
        sl_alloc_fail_at(0);
        if (status != SL_OK) {
            assert_int_equal(status, SL_ENOMEM);
            assert_null(engine);
        }
    }
    assert_true(n > 20);
    sl_engine_destroy(engine);
    sl_engine_destroy(NULL);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request_gives_the_tokens_of_the_oracle),
        cmocka_unit_test(prompts_and_answers_at_the_limits),
        cmocka_unit_test(a_stop_token_ends_and_is_not_delivered),
        cmocka_unit_test(bad_requests_fail_alone),
        cmocka_unit_test(beyond_the_queue_is_refused_at_once),
        cmocka_unit_test(more_submissions_than_one_boundary_takes_all_come_through),
        cmocka_unit_test(a_cancelled_decode_frees_its_pages_at_the_next_boundary),
        cmocka_unit_test(a_cancelled_prompt_ends_after_its_slice),
        cmocka_unit_test(a_cancelled_waiting_request_never_runs),
        cmocka_unit_test(a_request_past_its_deadline_ends_wherever_it_is),
        cmocka_unit_test(shutdown_fails_what_is_left_and_ends_the_loop),
        cmocka_unit_test(failed_batches_end_their_requests_and_nobody_else),
        cmocka_unit_test(a_lazy_loop_loses_nothing),
        cmocka_unit_test(refused_tokens_are_announced_when_there_is_room),
        cmocka_unit_test(a_cached_prompt_computes_only_what_is_left),
        cmocka_unit_test(tenants_do_not_share),
        cmocka_unit_test(identical_prompts_at_once_are_all_right),
        cmocka_unit_test(forks_share_the_prompt_and_compute_its_last_token),
        cmocka_unit_test(a_fork_whose_parent_is_gone_begins_like_any_other),
        cmocka_unit_test(forks_that_are_not_alike_share_nothing_wrong),
        cmocka_unit_test(cancelled_members_of_a_family_disturb_nobody),
        cmocka_unit_test(sequences_that_outgrow_the_cache_are_preempted_and_come_back),
        cmocka_unit_test(preempted_answers_go_on_where_they_were),
        cmocka_unit_test(refused_tokens_of_a_preempted_answer_do_not_wait_for_its_next_token),
        cmocka_unit_test(one_preemption_too_many_ends_a_request),
        cmocka_unit_test(a_scheduler_that_never_launches_cannot_hold_requests_for_ever),
        cmocka_unit_test(slices_cut_by_layers_give_the_same_tokens),
        cmocka_unit_test(a_slice_that_nobody_wants_any_more_is_not_finished),
        cmocka_unit_test(forks_work_while_both_lanes_run),
        cmocka_unit_test(the_steady_state_allocates_nothing),
        cmocka_unit_test(residency_adds_up_to_the_time_that_went_by),
        cmocka_unit_test(bad_options_are_refused_with_a_sentence),
        cmocka_unit_test(every_failed_allocation_of_create_is_reported),
    };
    return cmocka_run_group_tests_name("engine/engine", tests, NULL, NULL);
}
