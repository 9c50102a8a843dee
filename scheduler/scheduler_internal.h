/* scheduler/scheduler_internal.h - what the policies share: a plan in the making. */
#ifndef SL_SCHEDULER_SCHEDULER_INTERNAL_H
#define SL_SCHEDULER_SCHEDULER_INTERNAL_H

#include "scheduler/policy.h"

enum { PROMPTS_MAX = SL_SCHED_RUNNING_MAX, LANE_PREFILL = 0, LANE_DECODE = 1 };

typedef struct planner {
    const sl_sched_view *view;
    sl_sched_plan *plan;
    uint32_t prompt_planes; /* planes that prompts may take: free, and not for decodes */
    /* Prompts that a slice may hold: prefilling, not in flight; then those just admitted. */
    const sl_sched_seq *prompt[PROMPTS_MAX];
    uint32_t prompt_count;
} planner;

static inline uint32_t sl_sched_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t sl_sched_less(uint32_t a, uint32_t b)
{
    return a > b ? a - b : 0;
}

/* admit.c: admit what fits; append it to the prompts.  `slice_tokens` is a slice's usual size. */
void sl_sched_admit(planner *p, uint32_t slice_tokens);
/* admit.c: who gives its pages back, if someone must: the youngest.  NULL: the youngest is in
 * flight, or nobody is there but the oldest. */
const sl_sched_seq *sl_sched_victim(const sl_sched_view *view);

/* fill.c: every decode that is not in flight and has its planes, oldest first. */
void sl_sched_fill_step(planner *p, sl_sched_launch *launch);
/* fill.c: prompts in their order, up to `tokens` in all and `launch` full. */
void sl_sched_fill_prompts(planner *p, sl_sched_launch *launch, uint32_t tokens);
/* fill.c: a slice on the prefill lane for rung `rung`: the open one, or a new one. */
void sl_sched_fill_slice(planner *p, uint32_t rung);
/* fill.c: how many tokens a slice should hold on this rung. */
uint32_t sl_sched_slice_tokens(const sl_sched_view *view, uint32_t rung);
/* fill.c: prompts in order of arrival plus predicted work, instead of order of admission. */
void sl_sched_sort_prompts(planner *p);

/* sluice.c: is there a rung with units for both lanes? */
bool sl_sched_is_divisible(const sl_sched_view *view);

/* sluice.c, baselines.c */
void sl_sched_sluice(planner *p);
void sl_sched_mixed(planner *p);
void sl_sched_exclusive(planner *p);

#endif
