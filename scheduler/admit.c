/* scheduler/admit.c - who joins the running set, and who has to leave it.
 *
 * Admission is first come first served.  A request that does not fit is skipped, so that a long
 * prompt does not hold up short ones while the cache is full; but it is passed by at most
 * SL_SCHED_PASSED_MAX later ones: then nobody is admitted before it, the running ones end, and it
 * fits.  No more prompts are admitted than the next slices need: who is admitted later may find a
 * longer prefix, computed by those before it. */
#include <stddef.h>

#include "scheduler/scheduler_internal.h"

enum {
    PREFILLING_MAX = 8, /* prompts begun at once, if they are more than two slices of work */
    HEADROOM_SHARE = 16 /* of all planes: kept free for the growth of running answers, at most */
};

typedef struct admission {
    const sl_sched_view *view;
    uint32_t planes;  /* free, after all that the running ones are known to need */
    bool overdrawn;   /* they need more than is free */
    uint32_t running; /* with those just admitted */
    uint32_t prefilling;
    uint64_t tokens;  /* prompt tokens left of the prefilling ones */
    bool skipped_any; /* someone was skipped; from then on: */
    uint32_t passes;  /* how many may still be admitted */
} admission;

static uint32_t later_running(const sl_sched_view *view, uint64_t arrival_us)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < view->prefilling_count; i++)
        count += view->prefilling[i].arrival_us > arrival_us;
    for (uint32_t i = 0; i < view->decoding_count; i++)
        count += view->decoding[i].arrival_us > arrival_us;
    return count;
}

/* Everything fits beside the known needs, and every running answer can grow by a page (bounded, or
 * a small cache would serve nobody).  Who would run alone needs no headroom. */
static bool fits(const admission *a, const sl_sched_seq *seq)
{
    const sl_sched_view *view = a->view;
    uint32_t headroom = sl_sched_min(a->running, SL_SCHED_RUNNING_MAX) * view->planes_per_page;

    headroom = sl_sched_min(headroom, view->planes_total / HEADROOM_SHARE);
    if (a->running == 0)
        headroom = 0;
    return !a->overdrawn && seq->planes_short <= a->planes &&
           headroom <= a->planes - seq->planes_short;
}

static void skip(admission *a, const sl_sched_seq *seq)
{
    uint32_t passed = seq->passed;

    /* A preempted request comes back before those that overtook it: they count. */
    if (!a->skipped_any) {
        const uint32_t later = later_running(a->view, seq->arrival_us);

        passed = passed > later ? passed : later;
        a->passes = SL_SCHED_PASSED_MAX;
    }
    a->skipped_any = true;
    a->passes = sl_sched_min(a->passes, sl_sched_less(SL_SCHED_PASSED_MAX, passed));
}

static bool enough(const admission *a, const planner *p, uint32_t slice_tokens)
{
    return a->running >= a->view->seqs_max || p->plan->admit_count == SL_SCHED_ADMIT_MAX ||
           p->prompt_count == PROMPTS_MAX || (a->skipped_any && a->passes == 0) ||
           (a->prefilling >= PREFILLING_MAX && a->tokens >= 2 * (uint64_t)slice_tokens);
}

static void begin(admission *a, const sl_sched_view *view)
{
    uint64_t needs = 0;

    *a = (admission){.view = view,
                     .running = view->prefilling_count + view->decoding_count,
                     .prefilling = view->prefilling_count};
    for (uint32_t i = 0; i < view->decoding_count; i++)
        needs += view->decoding[i].planes_short;
    for (uint32_t i = 0; i < view->prefilling_count; i++) {
        needs += view->prefilling[i].planes_short;
        a->tokens += view->prefilling[i].prompt_left;
    }
    a->overdrawn = needs > view->planes_free;
    a->planes = a->overdrawn ? 0 : view->planes_free - (uint32_t)needs;
}

void sl_sched_admit(planner *p, uint32_t slice_tokens)
{
    const sl_sched_view *view = p->view;
    admission a;

    begin(&a, view);
    for (uint32_t i = 0; i < view->waiting_count && !enough(&a, p, slice_tokens); i++) {
        const sl_sched_seq *seq = &view->waiting[i];

        if (seq->planes_short > view->planes_total)
            continue; /* never fits: not to be waited for */
        if (!fits(&a, seq)) {
            skip(&a, seq);
            continue;
        }
        p->plan->admit[p->plan->admit_count++] = seq->slot;
        p->prompt[p->prompt_count++] = seq;
        a.planes -= seq->planes_short;
        a.tokens += seq->prompt_left;
        a.running++;
        a.prefilling++;
        a.passes -= a.skipped_any;
    }
}

/* Is `a` younger than `b`?  Of equal arrivals, the one that comes later in the walk. */
static const sl_sched_seq *younger(const sl_sched_seq *a, const sl_sched_seq *b)
{
    return a == NULL || b->arrival_us >= a->arrival_us ? b : a;
}

const sl_sched_seq *sl_sched_victim(const sl_sched_view *view)
{
    const sl_sched_seq *youngest = NULL;

    if (view->decoding_count + view->prefilling_count < 2)
        return NULL;
    for (uint32_t i = 0; i < view->decoding_count; i++)
        youngest = younger(youngest, &view->decoding[i]);
    for (uint32_t i = 0; i < view->prefilling_count; i++)
        youngest = younger(youngest, &view->prefilling[i]);
    return youngest->in_flight ? NULL : youngest;
}
