/* scheduler/policy.c - see policy.h: what all policies do before and after they choose. */
#include "scheduler/policy.h"

#include <stddef.h>
#include <string.h>

#include "base/assert.h"
#include "scheduler/scheduler_internal.h"

static const char *const policy_name[SL_POLICY_COUNT] = {"sluice", "mixed", "exclusive"};
static const char *const state_name[SL_STATE_COUNT] = {"idle", "mixed", "split", "exclusive"};

static void assert_view(const sl_sched_view *view)
{
    SL_ASSERT(view->policy < SL_POLICY_COUNT);
    SL_ASSERT(view->waiting_count <= SL_SCHED_WAITING_MAX);
    SL_ASSERT(view->prefilling_count <= SL_SCHED_RUNNING_MAX);
    SL_ASSERT(view->decoding_count <= SL_SCHED_RUNNING_MAX - view->prefilling_count);
    SL_ASSERT(view->seqs_max <= SL_SCHED_RUNNING_MAX);
    SL_ASSERT(view->rung_count >= 2 && view->rung_count <= SL_RUNGS_MAX);
    SL_ASSERT(view->rung[0].prefill_units > 0 && view->rung[0].decode_units == 0);
    SL_ASSERT(view->rung[view->rung_count - 1].prefill_units == 0);
    SL_ASSERT(view->rung[view->rung_count - 1].decode_units > 0);
    SL_ASSERT(view->rung_now < view->rung_count);
    SL_ASSERT(view->layers > 0);
    SL_ASSERT(view->slice_tokens_max > 0);
    SL_ASSERT(view->chunk_tokens > 0);
    SL_ASSERT(view->step_tokens_max >= view->seqs_max);
}

static void preempt(sl_sched_plan *plan, const sl_sched_seq *victim)
{
    plan->preempt_slot = victim->slot;
    plan->reason = "out of planes: the youngest gives its pages back";
}

/* Planes for the decodes come first.  Returns true if someone is preempted for them.  (If the
 * youngest is in flight, those that have planes go on until it can be.) */
static bool reserve_for_decodes(planner *p)
{
    const sl_sched_view *view = p->view;
    const sl_sched_seq *victim;
    uint64_t planes = 0;

    for (uint32_t i = 0; i < view->decoding_count; i++)
        if (!view->decoding[i].in_flight)
            planes += view->decoding[i].planes_short;
    if (planes <= view->planes_free) {
        p->prompt_planes = view->planes_free - (uint32_t)planes;
        return false;
    }
    p->prompt_planes = 0;
    victim = sl_sched_victim(view);
    if (victim == NULL)
        return false;
    preempt(p->plan, victim);
    return true;
}

static void collect_prompts(planner *p)
{
    for (uint32_t i = 0; i < p->view->prefilling_count; i++)
        if (!p->view->prefilling[i].in_flight)
            p->prompt[p->prompt_count++] = &p->view->prefilling[i];
}

/* Could a new prompt be computed now?  If not, it is admitted later, and may find a longer prefix.
 */
static bool slice_can_start(const sl_sched_view *view)
{
    if (view->lane_busy[LANE_PREFILL] || view->open_slice != NULL)
        return false;
    return !view->lane_busy[LANE_DECODE] ||
           (view->policy == SL_POLICY_SLUICE && sl_sched_is_divisible(view));
}

static void choose(planner *p)
{
    switch (p->view->policy) {
    case SL_POLICY_SLUICE:
        sl_sched_sluice(p);
        break;
    case SL_POLICY_MIXED:
        sl_sched_mixed(p);
        break;
    case SL_POLICY_EXCLUSIVE:
        sl_sched_exclusive(p);
        break;
    case SL_POLICY_COUNT:
        break;
    }
}

/* Nothing can be launched: is that the end, or a knot that only a preemption unties? */
static void without_launch(planner *p)
{
    const sl_sched_view *view = p->view;
    sl_sched_plan *plan = p->plan;
    const sl_sched_seq *victim;

    plan->state = view->state;
    plan->rung = view->rung_now;
    if (view->lane_busy[LANE_PREFILL] || view->lane_busy[LANE_DECODE]) {
        plan->reason = "waiting for a lane";
        return;
    }
    plan->state = SL_STATE_IDLE;
    plan->reason = "nothing to do";
    victim = sl_sched_victim(view);
    if (victim != NULL && plan->admit_count == 0)
        preempt(plan, victim);
}

void sl_sched_decide(const sl_sched_view *view, sl_sched_plan *plan)
{
    planner p = {.view = view, .plan = plan};

    assert_view(view);
    plan->state = view->state;
    plan->rung = view->rung_now;
    plan->prefill.item_count = plan->prefill.layer_first = plan->prefill.layer_end = 0;
    plan->decode.item_count = plan->decode.layer_first = plan->decode.layer_end = 0;
    plan->admit_count = 0;
    plan->preempt_slot = SL_SLOT_NONE;
    plan->reason = "";

    if (reserve_for_decodes(&p))
        return;
    collect_prompts(&p);
    if (slice_can_start(view))
        sl_sched_admit(&p, sl_sched_slice_tokens(view, 0));
    choose(&p);
    if (plan->prefill.item_count == 0 && plan->decode.item_count == 0)
        without_launch(&p);
}

const char *sl_sched_policy_name(sl_sched_policy policy)
{
    SL_ASSERT(policy < SL_POLICY_COUNT);
    return policy_name[policy];
}

bool sl_sched_parse_policy(const char *text, sl_sched_policy *out)
{
    for (uint32_t i = 0; i < SL_POLICY_COUNT; i++)
        if (strcmp(text, policy_name[i]) == 0) {
            *out = (sl_sched_policy)i;
            return true;
        }
    return false;
}

const char *sl_sched_state_name(sl_sched_state state)
{
    SL_ASSERT(state < SL_STATE_COUNT);
    return state_name[state];
}
