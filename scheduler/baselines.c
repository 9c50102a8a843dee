/* scheduler/baselines.c - the policies that others use, in the same binary for honest comparison.
 *
 * mixed: every running sequence gets its token in every step, prompts fill the step up (chunked
 * prefill, Sarathi-Serve, arXiv 2403.02310).  exclusive: prompts first, alone; decodes when there
 * is no prompt to compute.  Both use one lane at a time, all units, and order of admission. */
#include "scheduler/scheduler_internal.h"

static bool any_lane_busy(const sl_sched_view *view)
{
    return view->lane_busy[LANE_PREFILL] || view->lane_busy[LANE_DECODE];
}

void sl_sched_mixed(planner *p)
{
    const sl_sched_view *view = p->view;
    sl_sched_plan *plan = p->plan;
    uint32_t steps, tokens;

    if (any_lane_busy(view))
        return;
    sl_sched_fill_step(p, &plan->decode);
    steps = plan->decode.item_count;
    tokens = steps > 0 ? view->chunk_tokens : sl_sched_slice_tokens(view, 0);
    sl_sched_fill_prompts(p, &plan->decode,
                          sl_sched_min(tokens, sl_sched_less(view->step_tokens_max, steps)));
    plan->state = plan->decode.item_count > steps ? SL_STATE_MIXED : SL_STATE_EXCLUSIVE;
    plan->rung = view->rung_count - 1;
    plan->reason = "mixed: decodes first, prompts fill the step";
}

void sl_sched_exclusive(planner *p)
{
    const sl_sched_view *view = p->view;
    sl_sched_plan *plan = p->plan;

    if (any_lane_busy(view))
        return;
    plan->state = SL_STATE_EXCLUSIVE;
    plan->rung = 0;
    plan->reason = "exclusive: prompts first";
    sl_sched_fill_slice(p, 0);
    if (plan->prefill.item_count > 0)
        return;
    plan->rung = view->rung_count - 1;
    plan->reason = "exclusive: no prompt, decodes";
    sl_sched_fill_step(p, &plan->decode);
}
