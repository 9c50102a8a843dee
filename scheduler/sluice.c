/* scheduler/sluice.c - the product's policy: both phases at once, on disjoint units.
 *
 * One phase alone gets all units.  With both, the rung that gives decode the fewest units on which
 * its step is still acceptable; the rest goes to prefill, in slices short enough that the gate can
 * move soon.  Lanes are launched independently, each at its own boundary.
 *
 * A rung is changed without a stall: if the other lane still works on the old rung, a lane whose
 * share grows keeps the old rung once more, and the other shrinks first. */
#include <stddef.h>

#include "scheduler/scheduler_internal.h"

enum {
    STEP_STRETCH = 2, /* a step may take so many times the step on all units, without a target */
    GAIN_PERCENT = 5  /* a rung better for prefill by less is not worth a change */
};

static bool is_split(const sl_rung *rung)
{
    return rung->prefill_units > 0 && rung->decode_units > 0;
}

bool sl_sched_is_divisible(const sl_sched_view *view)
{
    for (uint32_t r = 0; r < view->rung_count; r++)
        if (is_split(&view->rung[r]))
            return true;
    return false;
}

static uint32_t acceptable_step_us(const sl_sched_view *view)
{
    const uint32_t *step_us = view->costs.step_us;
    uint32_t best = 0;

    if (view->step_target_us > 0)
        return view->step_target_us;
    for (uint32_t r = 0; r < view->rung_count; r++)
        if (view->rung[r].decode_units > 0 && step_us[r] > 0 && (best == 0 || step_us[r] < best))
            best = step_us[r];
    return best <= UINT32_MAX / STEP_STRETCH ? best * STEP_STRETCH : UINT32_MAX;
}

/* The middle one of the split rungs whose step was never measured; rung_count: there is none. */
static uint32_t middle_unmeasured(const sl_sched_view *view)
{
    uint32_t index[SL_RUNGS_MAX], count = 0;

    for (uint32_t r = 0; r < view->rung_count; r++)
        if (is_split(&view->rung[r]) && view->costs.step_us[r] == 0)
            index[count++] = r;
    return count > 0 ? index[count / 2] : view->rung_count;
}

/* Rungs go from all/0 to 0/all: the first acceptable one gives decode the fewest units.
 * rung_count: no rung is split. */
static uint32_t choose_rung(const sl_sched_view *view)
{
    const uint32_t limit_us = acceptable_step_us(view);
    const uint32_t unmeasured = middle_unmeasured(view);
    uint32_t most_decode = view->rung_count, first = view->rung_count;

    for (uint32_t r = 0; r < view->rung_count; r++) {
        const uint32_t step_us = view->costs.step_us[r];

        if (!is_split(&view->rung[r]))
            continue;
        most_decode = r;
        if (step_us > 0 && step_us <= limit_us && first == view->rung_count)
            first = r;
    }
    if (first < view->rung_count)
        return first;
    return unmeasured < view->rung_count ? unmeasured : most_decode;
}

/* Towards decode at once; towards prefill only for a gain that is known and worth it. */
static uint32_t with_hysteresis(const sl_sched_view *view, uint32_t chosen)
{
    const uint32_t now = view->rung_now;
    const uint64_t now_ns = view->costs.prefill_token_ns[now];
    const uint64_t chosen_ns = view->costs.prefill_token_ns[chosen];
    const uint32_t step_us = view->costs.step_us[now];

    if (view->state != SL_STATE_SPLIT || !is_split(&view->rung[now]) || chosen >= now)
        return chosen;
    if (step_us == 0 || step_us > acceptable_step_us(view))
        return chosen;
    if (now_ns == 0 || chosen_ns == 0)
        return chosen;
    return chosen_ns * (100 + GAIN_PERCENT) <= now_ns * 100 ? chosen : now;
}

/* The other lane works on rung_now: do not wait for units that it holds. */
static uint32_t without_stall(const sl_sched_view *view, uint32_t rung)
{
    const sl_rung *now = &view->rung[view->rung_now], *next = &view->rung[rung];

    if (view->state != SL_STATE_SPLIT || !is_split(now))
        return rung;
    if (view->lane_busy[LANE_PREFILL] && next->decode_units > now->decode_units)
        return view->rung_now;
    if (view->lane_busy[LANE_DECODE] && next->prefill_units > now->prefill_units)
        return view->rung_now;
    return rung;
}

static void alone(planner *p, bool prefill, const char *reason)
{
    sl_sched_plan *plan = p->plan;

    plan->state = SL_STATE_EXCLUSIVE;
    plan->rung = prefill ? 0 : p->view->rung_count - 1;
    plan->reason = reason;
}

/* One unit, or no split rung: one lane at a time. */
static void undivided(planner *p, bool decodes, bool prompts)
{
    const sl_sched_view *view = p->view;
    sl_sched_plan *plan = p->plan;
    uint32_t steps;

    if (view->lane_busy[LANE_PREFILL] || view->lane_busy[LANE_DECODE])
        return;
    if (!decodes || view->open_slice != NULL) {
        alone(p, true, "only prompts: all units prefill");
        sl_sched_fill_slice(p, 0);
        return;
    }
    sl_sched_fill_step(p, &plan->decode);
    steps = plan->decode.item_count;
    if (prompts)
        sl_sched_fill_prompts(
            p, &plan->decode,
            sl_sched_min(view->chunk_tokens, sl_sched_less(view->step_tokens_max, steps)));
    if (plan->decode.item_count == steps) {
        alone(p, false, "only decodes: all units decode");
        return;
    }
    plan->state = SL_STATE_MIXED;
    plan->rung = view->rung_count - 1;
    plan->reason = "both phases, units cannot be divided: one batch";
}

static void divided(planner *p, uint32_t rung)
{
    const sl_sched_view *view = p->view;
    sl_sched_plan *plan = p->plan;

    plan->state = SL_STATE_SPLIT;
    plan->rung = without_stall(view, with_hysteresis(view, rung));
    plan->reason = "both phases: fewest units for decode that keep its step acceptable";
    if (!view->lane_busy[LANE_DECODE])
        sl_sched_fill_step(p, &plan->decode);
    if (!view->lane_busy[LANE_PREFILL])
        sl_sched_fill_slice(p, plan->rung);

    /* A phase that is there but cannot go on (no planes) needs no units. */
    if (!view->lane_busy[LANE_PREFILL] && plan->prefill.item_count == 0) {
        alone(p, false, "prompts wait for planes: all units decode");
    } else if (!view->lane_busy[LANE_DECODE] && plan->decode.item_count == 0) {
        alone(p, true, "decodes wait for planes: all units prefill");
    }
}

void sl_sched_sluice(planner *p)
{
    const sl_sched_view *view = p->view;
    const bool decodes = view->decoding_count > 0 || view->lane_busy[LANE_DECODE];
    const bool prompts = view->prefilling_count > 0 || p->prompt_count > 0 ||
                         view->open_slice != NULL || view->lane_busy[LANE_PREFILL];
    const uint32_t rung = choose_rung(view);

    sl_sched_sort_prompts(p);
    if (rung == view->rung_count) {
        undivided(p, decodes, prompts);
    } else if (decodes && prompts) {
        divided(p, rung);
    } else if (prompts && !view->lane_busy[LANE_PREFILL]) {
        alone(p, true, "only prompts: all units prefill");
        sl_sched_fill_slice(p, 0);
    } else if (decodes && !view->lane_busy[LANE_DECODE]) {
        alone(p, false, "only decodes: all units decode");
        sl_sched_fill_step(p, &p->plan->decode);
    }
}
