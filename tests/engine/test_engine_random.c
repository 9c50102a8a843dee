/* tests/engine/test_engine_random.c
 *
 * Goal: whatever comes together - shared prefixes, forks, cancels, deadlines, stop tokens, failing
 * batches, too few pages, any policy - every request gets the tokens that it would get alone, every
 * admitted request ends, nothing is left, and the same seed gives the same run.
 * Method: random traffic from a printed seed on the real engine, cache and scheduler; the rig has
 * the oracle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tests/engine/rig.h"

enum { REQUESTS = 150 };

typedef struct traffic {
    uint64_t gap_us; /* mean time between arrivals */
    uint32_t prompt_max;
    uint32_t answer_max;
    uint32_t cancels; /* of 100 requests */
    uint32_t forks;
    uint32_t deadlines;
    uint32_t stops;
} traffic;

/* A prompt begins like one of four others up to a random length: often a whole number of pages. */
static void share_prefix(sl_rng *rng, rig_request *q)
{
    const uint32_t family = (uint32_t)sl_rng_below(rng, 4);
    uint32_t shared = (uint32_t)sl_rng_below(rng, q->prompt_count + 1);

    if (sl_rng_below(rng, 2) == 0)
        shared = shared / SL_PAGE_TOKENS * SL_PAGE_TOKENS;
    if (sl_rng_below(rng, 6) == 0)
        shared = q->prompt_count; /* the same prompt, or its beginning */
    for (uint32_t i = 0; i < shared; i++)
        q->prompt[i] = (uint32_t)(sl_mix64_pair(1000 + family, i) % RIG_VOCAB);
}

static rig_request random_request(sl_rng *rng, const traffic *t, uint32_t index, uint64_t at_us)
{
    const uint32_t prompt = 1 + (uint32_t)sl_rng_below(rng, t->prompt_max);
    const uint32_t answer =
        sl_rng_below(rng, 8) == 0 ? 1 : 1 + (uint32_t)sl_rng_below(rng, t->answer_max);
    rig_request q = rig_ask(prompt, answer, 100000 + index);

    share_prefix(rng, &q);
    q.arrive_us = at_us;
    q.seed = sl_rng_below(rng, 3) == 0 ? 0 : index + 1;
    q.salt = sl_rng_below(rng, 10) == 0 ? 1 : 0;
    q.logprobs = sl_rng_below(rng, 4) == 0;
    if (sl_rng_below(rng, 100) < t->cancels)
        q.cancel_us = at_us + 1 + sl_rng_below(rng, 60000);
    if (sl_rng_below(rng, 100) < t->deadlines)
        q.deadline_us = at_us + 1 + sl_rng_below(rng, 60000);
    if (sl_rng_below(rng, 100) < t->stops) {
        uint32_t tokens[512];
        bool stopped;
        const uint32_t n = rig_oracle(&q, tokens, &stopped);

        q.stop_token = tokens[sl_rng_below(rng, n)];
    }
    return q;
}

/* `q` becomes a fork of request `parent`: the same prompt, submitted at the same time. */
static void make_fork(rig_request *q, const rig_request *parent, int index)
{
    rig_free(q, 1);
    q->prompt_count = parent->prompt_count;
    q->prompt = rig_ask(parent->prompt_count, 1, 0).prompt;
    for (uint32_t i = 0; i < q->prompt_count; i++)
        q->prompt[i] = parent->prompt[i];
    q->arrive_us = parent->arrive_us;
    q->salt = parent->salt;
    q->stop_token = UINT32_MAX;
    q->fork_of = index;
    if (q->max_tokens > 512 - q->prompt_count)
        q->max_tokens = 512 - q->prompt_count;
}

static void make_traffic(sl_rng *rng, const traffic *t, rig_request *q, uint32_t count)
{
    uint64_t at_us = 1;
    int parent = -1;

    for (uint32_t i = 0; i < count; i++) {
        at_us += sl_rng_below(rng, 2 * t->gap_us);
        q[i] = random_request(rng, t, i, at_us);
        if (q[i].max_tokens > 512 - q[i].prompt_count)
            q[i].max_tokens = 512 - q[i].prompt_count;
        if (parent >= 0 && sl_rng_below(rng, 100) < t->forks)
            make_fork(&q[i], &q[parent], parent);
        else
            parent = (int)i;
    }
}

/* One run; returns the hash of all events. */
static uint64_t run(const rig_options *o, const traffic *t, uint64_t seed, uint32_t count)
{
    rig_request q[REQUESTS];
    sl_rng rng = {.seed = seed};
    uint64_t trace;
    rig r;

    make_traffic(&rng, t, q, count);
    rig_open(&r, o);
    rig_set(&r, q, count);
    rig_run(&r);
    for (uint32_t i = 0; i < count; i++) {
        const bool may_fail = q[i].cancelled || q[i].deadline_us != 0 || o->exec.fail_every != 0;

        if (!may_fail)
            rig_expect_done(&q[i]);
        if (q[i].kind == SL_EVENT_FAILED)
            assert_true(q[i].status == SL_ECANCELLED || q[i].status == SL_ETIMEOUT ||
                        q[i].status == SL_EINTERNAL);
    }
    trace = sl_mix64_pair(r.trace, rig_now(&r));
    rig_close(&r);
    rig_free(q, count);
    return trace;
}

static rig_options with(sl_sched_policy policy, uint32_t pages)
{
    rig_options o = rig_defaults();

    o.engine.policy = policy;
    o.engine.queue_max = REQUESTS;
    o.exec.plane_count = 16 * pages;
    return o;
}

static const traffic busy = {.gap_us = 3000,
                             .prompt_max = 300,
                             .answer_max = 60,
                             .cancels = 15,
                             .forks = 25,
                             .deadlines = 5,
                             .stops = 20};
static const traffic flood = {.gap_us = 100,
                              .prompt_max = 450,
                              .answer_max = 62,
                              .cancels = 20,
                              .forks = 20,
                              .deadlines = 3,
                              .stops = 10};
static const traffic calm = {.gap_us = 20000, .prompt_max = 200, .answer_max = 100, .stops = 30};

static void runs_twice_the_same(const rig_options *o, const traffic *t, uint64_t seed)
{
    uint64_t first;

    print_message("policy %s, seed %llu\n", sl_sched_policy_name(o->engine.policy),
                  (unsigned long long)seed);
    first = run(o, t, seed, REQUESTS);
    assert_int_equal(run(o, t, seed, REQUESTS), first);
}

static void every_policy_serves_busy_traffic(void **state)
{
    (void)state;
    for (int policy = 0; policy < SL_POLICY_COUNT; policy++) {
        const rig_options o = with((sl_sched_policy)policy, 64);

        for (uint64_t seed = 1; seed <= 3; seed++)
            runs_twice_the_same(&o, &busy, seed);
    }
}

static void every_policy_serves_a_flood(void **state)
{
    (void)state;
    for (int policy = 0; policy < SL_POLICY_COUNT; policy++) {
        const rig_options o = with((sl_sched_policy)policy, 48);

        for (uint64_t seed = 11; seed <= 12; seed++)
            runs_twice_the_same(&o, &flood, seed);
    }
}

static void calm_traffic_is_served(void **state)
{
    const rig_options o = with(SL_POLICY_SLUICE, 64);
    (void)state;

    runs_twice_the_same(&o, &calm, 21);
}

static void a_cache_of_exactly_one_context_is_enough(void **state)
{
    (void)state;
    for (int policy = 0; policy < SL_POLICY_COUNT; policy++) {
        rig_options o = with((sl_sched_policy)policy, 8);

        o.engine.preemptions_max = 1000;
        runs_twice_the_same(&o, &flood, 31);
        runs_twice_the_same(&o, &busy, 32);
    }
}

static void few_pages_mean_preemptions_and_no_wrong_token(void **state)
{
    (void)state;
    for (int policy = 0; policy < SL_POLICY_COUNT; policy++) {
        rig_options o = with((sl_sched_policy)policy, 12);
        const traffic t = {.gap_us = 500, .prompt_max = 60, .answer_max = 300, .cancels = 5};

        o.engine.preemptions_max = 1000;
        runs_twice_the_same(&o, &t, 41);
    }
}

static void without_prefix_caching_all_is_the_same(void **state)
{
    rig_options o = with(SL_POLICY_SLUICE, 32);
    (void)state;

    o.engine.prefix_caching = false;
    runs_twice_the_same(&o, &busy, 51);
}

static void failing_batches_harm_nobody_else(void **state)
{
    rig_options o = with(SL_POLICY_SLUICE, 32);
    (void)state;

    o.exec.fail_every = 17;
    runs_twice_the_same(&o, &busy, 61);
    o.engine.policy = SL_POLICY_MIXED;
    o.exec.fail_every = 5;
    runs_twice_the_same(&o, &flood, 62);
}

static void one_unit_one_sequence_one_slot_work(void **state)
{
    rig_options o = with(SL_POLICY_SLUICE, 8);
    (void)state;

    o.exec.units = 1;
    o.engine.seqs_max = 1;
    o.slots = 1;
    runs_twice_the_same(&o, &busy, 71);
}

static void only_windows_or_only_full_attention_work(void **state)
{
    rig_options o = with(SL_POLICY_SLUICE, 24);
    (void)state;

    o.exec.chunk_window[0] = 0;
    o.exec.chunk_window[1] = 0;
    runs_twice_the_same(&o, &busy, 81);
    o.exec.chunk_window[0] = 70;
    o.exec.chunk_window[1] = 64;
    runs_twice_the_same(&o, &busy, 82);
    o.exec.chunk_count = 1;
    o.exec.chunk_window[0] = 2;
    runs_twice_the_same(&o, &busy, 83);
}

static void a_large_device_with_many_rungs_works(void **state)
{
    rig_options o = with(SL_POLICY_SLUICE, 128);
    (void)state;

    o.exec.units = 132;
    o.exec.rows_max = 512;
    o.engine.seqs_max = 32;
    runs_twice_the_same(&o, &flood, 91);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_serves_busy_traffic),
        cmocka_unit_test(every_policy_serves_a_flood),
        cmocka_unit_test(calm_traffic_is_served),
        cmocka_unit_test(a_cache_of_exactly_one_context_is_enough),
        cmocka_unit_test(few_pages_mean_preemptions_and_no_wrong_token),
        cmocka_unit_test(without_prefix_caching_all_is_the_same),
        cmocka_unit_test(failing_batches_harm_nobody_else),
        cmocka_unit_test(one_unit_one_sequence_one_slot_work),
        cmocka_unit_test(only_windows_or_only_full_attention_work),
        cmocka_unit_test(a_large_device_with_many_rungs_works),
    };
    return cmocka_run_group_tests_name("engine/engine_random", tests, NULL, NULL);
}
