/* tests/scheduler/test_policy.c
 *
 * Goal: what each policy plans in each situation: one phase, both, lanes busy, no planes, one unit.
 * Method: the policy is pure, so a case is a view and the plan it must give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/policy.h"

/* Eight units, seven split rungs.  1/7 is rung 7, 7/1 is rung 1; the middle one is 4: 4/4. */
static const sl_rung eight[] = {{8, 0}, {7, 1}, {6, 2}, {5, 3}, {4, 4},
                                {3, 5}, {2, 6}, {1, 7}, {0, 8}};
static const sl_rung one_unit[] = {{1, 0}, {0, 1}};

static sl_sched_view view_of(sl_sched_policy policy)
{
    return (sl_sched_view){.policy = policy,
                           .now_us = 1000000,
                           .planes_free = 800,
                           .planes_total = 1600,
                           .planes_per_page = 8,
                           .seqs_max = 32,
                           .rung = eight,
                           .rung_count = 9,
                           .layers = 24,
                           .state = SL_STATE_IDLE,
                           .slice_tokens_max = 2048,
                           .step_tokens_max = 512,
                           .slice_target_us = 20000,
                           .chunk_tokens = 256};
}

/* Count of static arrays. */
#define WAITING(view, array)                                                                       \
    ((view).waiting = (array), (view).waiting_count = sizeof(array) / sizeof((array)[0]))
#define PREFILLING(view, array)                                                                    \
    ((view).prefilling = (array), (view).prefilling_count = sizeof(array) / sizeof((array)[0]))
#define DECODING(view, array)                                                                      \
    ((view).decoding = (array), (view).decoding_count = sizeof(array) / sizeof((array)[0]))

static void assert_item(const sl_sched_launch *launch, uint32_t i, uint32_t slot, uint32_t tokens,
                        bool prefill)
{
    assert_true(i < launch->item_count);
    assert_int_equal(launch->item[i].slot, slot);
    assert_int_equal(launch->item[i].tokens, tokens);
    assert_int_equal(launch->item[i].prefill, prefill);
}

static void assert_launches(const sl_sched_plan *plan, sl_sched_state state, uint32_t rung,
                            uint32_t prefill_items, uint32_t decode_items)
{
    assert_int_equal(plan->preempt_slot, SL_SLOT_NONE);
    assert_int_equal(plan->state, state);
    assert_int_equal(plan->rung, rung);
    assert_int_equal(plan->prefill.item_count, prefill_items);
    assert_int_equal(plan->decode.item_count, decode_items);
    assert_true(plan->reason != NULL && plan->reason[0] != '\0');
}

static void names_are_read_and_written(void **state)
{
    sl_sched_policy policy = SL_POLICY_COUNT;
    (void)state;

    for (uint32_t i = 0; i < SL_POLICY_COUNT; i++) {
        assert_true(sl_sched_parse_policy(sl_sched_policy_name((sl_sched_policy)i), &policy));
        assert_int_equal(policy, i);
    }
    assert_false(sl_sched_parse_policy("Sluice", &policy));
    assert_false(sl_sched_parse_policy("", &policy));
    assert_int_equal(policy, SL_POLICY_COUNT - 1);
    assert_string_equal(sl_sched_state_name(SL_STATE_IDLE), "idle");
    assert_string_equal(sl_sched_state_name(SL_STATE_MIXED), "mixed");
    assert_string_equal(sl_sched_state_name(SL_STATE_SPLIT), "split");
    assert_string_equal(sl_sched_state_name(SL_STATE_EXCLUSIVE), "exclusive");
}

static void without_work_every_policy_is_idle(void **state)
{
    sl_sched_plan plan;
    (void)state;

    for (uint32_t i = 0; i < SL_POLICY_COUNT; i++) {
        const sl_sched_view view = view_of((sl_sched_policy)i);

        sl_sched_decide(&view, &plan);
        assert_launches(&plan, SL_STATE_IDLE, 0, 0, 0);
        assert_int_equal(plan.admit_count, 0);
    }
}

static void only_decodes_get_all_units(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 4}, {.slot = 2, .planes_short = 8}, {.slot = 9}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 8, 0, 3);
    assert_item(&plan.decode, 0, 4, 1, false);
    assert_item(&plan.decode, 1, 2, 1, false);
    assert_item(&plan.decode, 2, 9, 1, false);
    assert_int_equal(plan.decode.layer_first, 0);
    assert_int_equal(plan.decode.layer_end, 24);
}

static void a_new_prompt_is_admitted_and_gets_all_units(void **state)
{
    const sl_sched_seq waiting[] = {{.slot = 5, .prompt_left = 1000, .planes_short = 16 * 8}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    WAITING(view, waiting);
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 0, 1, 0);
    assert_int_equal(plan.admit_count, 1);
    assert_int_equal(plan.admit[0], 5);
    assert_item(&plan.prefill, 0, 5, 256, true); /* nothing measured: chunk_tokens */
    assert_int_equal(plan.prefill.layer_end, 24);
}

static void slices_take_about_the_target_and_end_at_a_page(void **state)
{
    sl_sched_seq prefilling[] = {{.slot = 5, .prompt_left = 1000, .context = 64}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    PREFILLING(view, prefilling);
    view.costs.prefill_token_ns[0] = 30000; /* 20 ms: 666 tokens; page's end: 640 */
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 0, 1, 0);
    assert_item(&plan.prefill, 0, 5, 640, true);
    prefilling[0].context = 100; /* 100 + 666 = 766; page's end 704 */
    sl_sched_decide(&view, &plan);
    assert_item(&plan.prefill, 0, 5, 604, true);
    view.slice_tokens_max = 500; /* room for less: 576 is a page's end */
    sl_sched_decide(&view, &plan);
    assert_item(&plan.prefill, 0, 5, 476, true);
    view.slice_tokens_max = 2048;
    view.costs.prefill_token_ns[0] = 10000000; /* slow: but no fewer than 32, and 132 > 128 */
    sl_sched_decide(&view, &plan);
    assert_item(&plan.prefill, 0, 5, 28, true);
    view.costs.prefill_token_ns[0] = 20000; /* fast enough for all of it */
    sl_sched_decide(&view, &plan);
    assert_item(&plan.prefill, 0, 5, 1000, true);
}

static void several_prompts_share_a_slice(void **state)
{
    const sl_sched_seq prefilling[] = {{.slot = 1, .prompt_left = 100, .in_flight = true},
                                       {.slot = 2, .prompt_left = 50},
                                       {.slot = 3, .prompt_left = 70},
                                       {.slot = 4, .prompt_left = 900}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    PREFILLING(view, prefilling);
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 0, 3, 0);
    assert_item(&plan.prefill, 0, 2, 50, true);
    assert_item(&plan.prefill, 1, 3, 70, true);
    assert_item(&plan.prefill, 2, 4, 128, true); /* 136 left; a page's end */
}

/* The long one would take 9 s, the short one 0.1 s and came 1 s later: it goes first.  One that
 * came 10 s later does not. */
static void a_short_prompt_overtakes_a_long_one_but_not_for_ever(void **state)
{
    sl_sched_seq prefilling[] = {{.slot = 1, .prompt_left = 9000, .arrival_us = 1000000},
                                 {.slot = 2, .prompt_left = 100, .arrival_us = 2000000}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    PREFILLING(view, prefilling);
    view.costs.prefill_token_ns[0] = 1000000;
    view.slice_target_us = 200000;
    sl_sched_decide(&view, &plan);
    assert_item(&plan.prefill, 0, 2, 100, true);
    assert_item(&plan.prefill, 1, 1, 64, true);
    prefilling[1].arrival_us = 11000000;
    sl_sched_decide(&view, &plan);
    assert_item(&plan.prefill, 0, 1, 192, true);
}

static void both_phases_split_on_the_middle_rung_when_nothing_is_measured(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1}, {.slot = 2}};
    const sl_sched_seq prefilling[] = {{.slot = 3, .prompt_left = 9000}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 4, 1, 2);
    assert_item(&plan.prefill, 0, 3, 256, true);
}

static sl_sched_view both_phases(void)
{
    static const sl_sched_seq decoding[] = {{.slot = 1}, {.slot = 2}};
    static const sl_sched_seq prefilling[] = {{.slot = 3, .prompt_left = 9000}};
    static const uint32_t step_us[9] = {0, 9000, 5000, 3900, 3000, 2500, 2200, 2100, 2000};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);

    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    memcpy(view.costs.step_us, step_us, sizeof(step_us));
    return view;
}

static void decode_gets_the_fewest_units_that_keep_its_step_acceptable(void **state)
{
    sl_sched_view view = both_phases();
    sl_sched_plan plan;
    (void)state;

    sl_sched_decide(&view, &plan); /* within twice 2000: rung 3 */
    assert_launches(&plan, SL_STATE_SPLIT, 3, 1, 2);
    view.step_target_us = 2300;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 6, 1, 2);
    view.step_target_us = 100; /* none is: as many as a split can give */
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 7, 1, 2);
    view.step_target_us = 10000;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 1, 1, 2);
    view.step_target_us = 2300; /* the acceptable ones were never measured: try their middle */
    view.costs.step_us[5] = view.costs.step_us[6] = view.costs.step_us[7] = 0;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 6, 1, 2);
}

static void the_gate_moves_toward_prefill_only_for_a_gain(void **state)
{
    sl_sched_view view = both_phases();
    sl_sched_plan plan;
    (void)state;

    view.state = SL_STATE_SPLIT;
    view.rung_now = 5;
    view.costs.prefill_token_ns[5] = 10000;
    view.costs.prefill_token_ns[3] = 9600; /* 4 %: stay */
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.rung, 5);
    view.costs.prefill_token_ns[3] = 9500; /* 5 % */
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.rung, 3);
    view.rung_now = 2; /* toward decode at once */
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.rung, 3);
}

/* While the other lane works on rung 3, the lane that would grow keeps to rung 3. */
static void a_rung_changes_without_waiting_for_units(void **state)
{
    sl_sched_view view = both_phases();
    sl_sched_plan plan;
    (void)state;

    view.state = SL_STATE_SPLIT;
    view.rung_now = 3;
    view.step_target_us = 2300; /* rung 6 is wanted: decode grows */
    view.lane_busy[0] = true;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 3, 0, 2);
    view.lane_busy[0] = false;
    view.lane_busy[1] = true;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 6, 1, 0);
    view.lane_busy[1] = false;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 6, 1, 2);
}

static void a_prompt_that_comes_during_a_step_starts_beside_it(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1, .in_flight = true}};
    const sl_sched_seq waiting[] = {{.slot = 3, .prompt_left = 70, .planes_short = 16}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    WAITING(view, waiting);
    view.state = SL_STATE_EXCLUSIVE;
    view.rung_now = 8;
    view.lane_busy[1] = true;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 4, 1, 0);
    assert_int_equal(plan.admit_count, 1);
    assert_item(&plan.prefill, 0, 3, 70, true);
}

static void a_finished_prompt_decodes_beside_the_slice_that_runs(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1}};
    const sl_sched_seq prefilling[] = {{.slot = 2, .prompt_left = 500, .in_flight = true}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    view.state = SL_STATE_EXCLUSIVE;
    view.lane_busy[0] = true;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 4, 0, 1);
}

static void with_both_lanes_busy_nothing_changes(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1, .in_flight = true}, {.slot = 7}};
    const sl_sched_seq prefilling[] = {{.slot = 2, .prompt_left = 500, .in_flight = true}};
    const sl_sched_seq waiting[] = {{.slot = 3, .prompt_left = 70, .planes_short = 16}};
    sl_sched_plan plan;
    (void)state;

    for (uint32_t i = 0; i < SL_POLICY_COUNT; i++) {
        sl_sched_view view = view_of((sl_sched_policy)i);

        DECODING(view, decoding);
        PREFILLING(view, prefilling);
        WAITING(view, waiting);
        view.state = SL_STATE_SPLIT;
        view.rung_now = 5;
        view.lane_busy[0] = view.lane_busy[1] = true;
        sl_sched_decide(&view, &plan);
        assert_launches(&plan, SL_STATE_SPLIT, 5, 0, 0);
        assert_int_equal(plan.admit_count, 0); /* later, it may find a longer prefix */
    }
}

static void one_unit_is_shared_by_one_batch(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1}, {.slot = 2}};
    const sl_sched_seq prefilling[] = {{.slot = 3, .prompt_left = 9000}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    view.rung = one_unit;
    view.rung_count = 2;
    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_MIXED, 1, 0, 3);
    assert_item(&plan.decode, 0, 1, 1, false);
    assert_item(&plan.decode, 1, 2, 1, false);
    assert_item(&plan.decode, 2, 3, 256, true);
    view.lane_busy[0] = true; /* one lane at a time */
    view.state = SL_STATE_EXCLUSIVE;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 0, 0, 0);
    view.lane_busy[0] = false;
    view.prefilling_count = 0;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 1, 0, 2);
    PREFILLING(view, prefilling);
    view.decoding_count = 0;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 0, 1, 0);
}

static void mixed_fills_the_step_with_prompts(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1}, {.slot = 2}};
    const sl_sched_seq prefilling[] = {{.slot = 3, .prompt_left = 100},
                                       {.slot = 4, .prompt_left = 9000}};
    sl_sched_view view = view_of(SL_POLICY_MIXED);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_MIXED, 8, 0, 4);
    assert_item(&plan.decode, 2, 3, 100, true);
    assert_item(&plan.decode, 3, 4, 128, true); /* 156 left; a page's end */
    view.step_tokens_max = 80;                  /* room for 78 */
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_MIXED, 8, 0, 3);
    assert_item(&plan.decode, 2, 3, 64, true);
    view.prefilling_count = 0;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 8, 0, 2);
}

static void exclusive_computes_prompts_first(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1}};
    const sl_sched_seq prefilling[] = {{.slot = 3, .prompt_left = 100}};
    sl_sched_view view = view_of(SL_POLICY_EXCLUSIVE);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 0, 1, 0);
    view.prefilling_count = 0;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 8, 0, 1);
}

/* Free: 800.  Decodes need 16 next, the running prompt 84 more; headroom for three: 24. */
static void who_is_admitted_fits_beside_what_the_running_need(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1, .planes_short = 8},
                                     {.slot = 2, .planes_short = 8}};
    const sl_sched_seq prefilling[] = {{.slot = 3, .prompt_left = 700, .planes_short = 84}};
    sl_sched_seq waiting[] = {{.slot = 4, .prompt_left = 5000, .planes_short = 676}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    WAITING(view, waiting);
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 1);
    waiting[0].planes_short++;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 0);
    waiting[0].planes_short--;
    view.seqs_max = 3;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 0);
}

static void who_would_run_alone_needs_no_headroom(void **state)
{
    const sl_sched_seq waiting[] = {{.slot = 4, .prompt_left = 6000, .planes_short = 800},
                                    {.slot = 5, .prompt_left = 1, .planes_short = 8}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    WAITING(view, waiting);
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 1);
    assert_int_equal(plan.admit[0], 4);
}

static void a_misfit_is_skipped_but_passed_a_bounded_number_of_times(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 99}};
    sl_sched_seq waiting[20];
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    for (uint32_t i = 0; i < 20; i++)
        waiting[i] =
            (sl_sched_seq){.slot = i, .prompt_left = 10, .planes_short = 8, .arrival_us = 10 + i};
    waiting[1].planes_short = 800; /* does not fit beside the one that runs */
    DECODING(view, decoding);
    WAITING(view, waiting);
    view.slice_tokens_max = view.chunk_tokens = 1000;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 1 + SL_SCHED_PASSED_MAX);
    assert_int_equal(plan.admit[0], 0);
    assert_int_equal(plan.admit[1], 2);
    waiting[1].passed = SL_SCHED_PASSED_MAX - 2;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 3);
    waiting[1].passed = SL_SCHED_PASSED_MAX;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 1);
    waiting[1].passed = SL_SCHED_PASSED_MAX + 5;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 1);
    waiting[1].planes_short = view.planes_total + 1; /* can never fit: holds nobody up */
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 19);
}

/* No more than the next slices need: eight prompts, or two slices of tokens. */
static void prompts_are_not_admitted_long_before_their_turn(void **state)
{
    sl_sched_seq waiting[40];
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    for (uint32_t i = 0; i < 40; i++)
        waiting[i] = (sl_sched_seq){.slot = i, .prompt_left = 300, .planes_short = 8};
    WAITING(view, waiting);
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 8);
    for (uint32_t i = 0; i < 40; i++)
        waiting[i].prompt_left = 20;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.admit_count, 26); /* 26 * 20 >= 512 */
}

static void out_of_planes_the_youngest_gives_way(void **state)
{
    sl_sched_seq decoding[] = {{.slot = 1, .planes_short = 8, .arrival_us = 10},
                               {.slot = 2, .arrival_us = 30},
                               {.slot = 3, .arrival_us = 20}};
    sl_sched_plan plan;
    (void)state;

    for (uint32_t i = 0; i < SL_POLICY_COUNT; i++) {
        sl_sched_view view = view_of((sl_sched_policy)i);

        DECODING(view, decoding);
        view.planes_free = 7;
        sl_sched_decide(&view, &plan);
        assert_int_equal(plan.preempt_slot, 2);
        assert_int_equal(plan.admit_count + plan.prefill.item_count + plan.decode.item_count, 0);
        view.planes_free = 8;
        sl_sched_decide(&view, &plan);
        assert_int_equal(plan.preempt_slot, SL_SLOT_NONE);
        assert_int_equal(plan.decode.item_count, 3);
    }
}

static void a_prompt_in_computation_can_be_the_youngest(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1, .planes_short = 8, .arrival_us = 10}};
    sl_sched_seq prefilling[] = {{.slot = 2, .prompt_left = 500, .arrival_us = 30}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    view.planes_free = 0;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.preempt_slot, 2);
    /* In flight it cannot be preempted: wait for its slice. */
    prefilling[0].in_flight = true;
    view.lane_busy[0] = true;
    view.state = SL_STATE_EXCLUSIVE;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 0, 0, 0);
}

static void decodes_that_have_planes_go_on_while_the_youngest_is_in_flight(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1, .planes_short = 8, .arrival_us = 10},
                                     {.slot = 2, .planes_short = 8, .arrival_us = 11},
                                     {.slot = 3, .arrival_us = 12}};
    const sl_sched_seq prefilling[] = {
        {.slot = 4, .prompt_left = 500, .arrival_us = 30, .in_flight = true}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    view.planes_free = 8;
    view.lane_busy[0] = true;
    view.state = SL_STATE_SPLIT;
    view.rung_now = 4;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 4, 0, 2);
    assert_item(&plan.decode, 0, 1, 1, false);
    assert_item(&plan.decode, 1, 3, 1, false);
}

static void a_prompt_without_planes_waits_while_decodes_have_all_units(void **state)
{
    const sl_sched_seq decoding[] = {{.slot = 1, .arrival_us = 10}};
    const sl_sched_seq prefilling[] = {
        {.slot = 2, .prompt_left = 500, .context = 64, .planes_short = 64, .arrival_us = 5}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    DECODING(view, decoding);
    PREFILLING(view, prefilling);
    view.planes_free = 0;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 8, 0, 1);
    view.planes_free = 25; /* three pages: 192 tokens */
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 4, 1, 1);
    assert_item(&plan.prefill, 0, 2, 192, true);
}

static void two_prompts_without_planes_do_not_wait_for_each_other(void **state)
{
    const sl_sched_seq prefilling[] = {
        {.slot = 1, .prompt_left = 500, .context = 64, .planes_short = 64, .arrival_us = 5},
        {.slot = 2, .prompt_left = 500, .context = 64, .planes_short = 64, .arrival_us = 6}};
    sl_sched_plan plan;
    (void)state;

    for (uint32_t i = 0; i < SL_POLICY_COUNT; i++) {
        sl_sched_view view = view_of((sl_sched_policy)i);

        PREFILLING(view, prefilling);
        view.planes_free = 7;
        sl_sched_decide(&view, &plan);
        assert_int_equal(plan.preempt_slot, 2);
    }
}

static void planes_of_a_shared_page_are_needed_first(void **state)
{
    /* 100 tokens held, 20 left: the rest of page 1 and none new; 8 planes short: a copy. */
    const sl_sched_seq prefilling[] = {
        {.slot = 1, .prompt_left = 20, .context = 100, .planes_short = 8}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_plan plan;
    (void)state;

    PREFILLING(view, prefilling);
    view.planes_free = 8;
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 0, 1, 0);
    view.planes_free = 7;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.prefill.item_count, 0);
}

static void a_slice_longer_than_the_target_is_cut_by_layers(void **state)
{
    const sl_sched_seq prefilling[] = {{.slot = 1, .prompt_left = 5000}};
    sl_sched_seq held[] = {{.slot = 1, .prompt_left = 5000, .in_flight = true}};
    const sl_sched_seq decoding[] = {{.slot = 2}};
    sl_sched_view view = view_of(SL_POLICY_SLUICE);
    sl_sched_launch open;
    sl_sched_plan plan;
    (void)state;

    PREFILLING(view, prefilling);
    view.layer_cuts = true;
    view.costs.prefill_token_ns[0] = 200000; /* 256 tokens: 51.2 ms; target 20 ms: 9 layers */
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_EXCLUSIVE, 0, 1, 0);
    assert_item(&plan.prefill, 0, 1, 256, true);
    assert_int_equal(plan.prefill.layer_first, 0);
    assert_int_equal(plan.prefill.layer_end, 9);

    /* Meanwhile a decode is ready: the slice goes on beside it, with as many layers as fit. */
    open = plan.prefill;
    open.layer_first = 9;
    view.open_slice = &open;
    PREFILLING(view, held);
    DECODING(view, decoding);
    sl_sched_decide(&view, &plan);
    assert_launches(&plan, SL_STATE_SPLIT, 4, 1, 1);
    assert_item(&plan.prefill, 0, 1, 256, true);
    assert_int_equal(plan.prefill.layer_first, 9);
    assert_int_equal(plan.prefill.layer_end, 13); /* half the units: 4 layers */
    open.layer_first = 22;
    sl_sched_decide(&view, &plan);
    assert_int_equal(plan.prefill.layer_first, 22);
    assert_int_equal(plan.prefill.layer_end, 24);
}

static void the_same_view_gives_the_same_plan(void **state)
{
    sl_sched_view view = both_phases();
    sl_sched_plan plan[2];
    (void)state;

    memset(&plan[0], 0x11, sizeof(plan[0]));
    memset(&plan[1], 0xEE, sizeof(plan[1]));
    sl_sched_decide(&view, &plan[0]);
    sl_sched_decide(&view, &plan[1]);
    assert_int_equal(plan[0].state, plan[1].state);
    assert_int_equal(plan[0].rung, plan[1].rung);
    assert_int_equal(plan[0].prefill.item_count, plan[1].prefill.item_count);
    assert_int_equal(plan[0].decode.item_count, plan[1].decode.item_count);
    assert_int_equal(plan[0].admit_count, plan[1].admit_count);
    assert_ptr_equal(plan[0].reason, plan[1].reason);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_and_written),
        cmocka_unit_test(without_work_every_policy_is_idle),
        cmocka_unit_test(only_decodes_get_all_units),
        cmocka_unit_test(a_new_prompt_is_admitted_and_gets_all_units),
        cmocka_unit_test(slices_take_about_the_target_and_end_at_a_page),
        cmocka_unit_test(several_prompts_share_a_slice),
        cmocka_unit_test(a_short_prompt_overtakes_a_long_one_but_not_for_ever),
        cmocka_unit_test(both_phases_split_on_the_middle_rung_when_nothing_is_measured),
        cmocka_unit_test(decode_gets_the_fewest_units_that_keep_its_step_acceptable),
        cmocka_unit_test(the_gate_moves_toward_prefill_only_for_a_gain),
        cmocka_unit_test(a_rung_changes_without_waiting_for_units),
        cmocka_unit_test(a_prompt_that_comes_during_a_step_starts_beside_it),
        cmocka_unit_test(a_finished_prompt_decodes_beside_the_slice_that_runs),
        cmocka_unit_test(with_both_lanes_busy_nothing_changes),
        cmocka_unit_test(one_unit_is_shared_by_one_batch),
        cmocka_unit_test(mixed_fills_the_step_with_prompts),
        cmocka_unit_test(exclusive_computes_prompts_first),
        cmocka_unit_test(who_is_admitted_fits_beside_what_the_running_need),
        cmocka_unit_test(who_would_run_alone_needs_no_headroom),
        cmocka_unit_test(a_misfit_is_skipped_but_passed_a_bounded_number_of_times),
        cmocka_unit_test(prompts_are_not_admitted_long_before_their_turn),
        cmocka_unit_test(out_of_planes_the_youngest_gives_way),
        cmocka_unit_test(a_prompt_in_computation_can_be_the_youngest),
        cmocka_unit_test(decodes_that_have_planes_go_on_while_the_youngest_is_in_flight),
        cmocka_unit_test(a_prompt_without_planes_waits_while_decodes_have_all_units),
        cmocka_unit_test(two_prompts_without_planes_do_not_wait_for_each_other),
        cmocka_unit_test(planes_of_a_shared_page_are_needed_first),
        cmocka_unit_test(a_slice_longer_than_the_target_is_cut_by_layers),
        cmocka_unit_test(the_same_view_gives_the_same_plan),
    };
    return cmocka_run_group_tests_name("scheduler/policy", tests, NULL, NULL);
}
