/* scheduler/fill.c - what goes into a step and into a slice. */
#include <stddef.h>

#include "scheduler/scheduler_internal.h"

enum {
    SLICE_TOKENS_LEAST = 32, /* fewer would read all weights for almost no work */
    SLICE_TOKENS_CUT = 256   /* of a slice that is cut by layers instead */
};

static uint32_t pages_of(uint32_t tokens)
{
    return tokens / SL_SCHED_PAGE_TOKENS + (tokens % SL_SCHED_PAGE_TOKENS != 0);
}

/* Planes that `seq` needs for its next `tokens` prompt tokens.  What it lacks for all of them is
 * known; what it lacks beyond whole new pages (a shared page to copy) is needed first. */
static uint32_t planes_for(const sl_sched_view *view, const sl_sched_seq *seq, uint32_t tokens)
{
    const uint32_t now = pages_of(seq->context);
    const uint32_t all = pages_of(seq->context + seq->prompt_left + 1) - now;
    const uint32_t part = pages_of(seq->context + tokens) - now;
    const uint32_t first = sl_sched_less(seq->planes_short, all * view->planes_per_page);

    return sl_sched_min(seq->planes_short, first + part * view->planes_per_page);
}

/* The most tokens, at most `tokens`, whose planes are there. */
static uint32_t affordable(const planner *p, const sl_sched_seq *seq, uint32_t tokens)
{
    const sl_sched_view *view = p->view;
    uint32_t lacking, pages, end;

    if (planes_for(view, seq, tokens) <= p->prompt_planes)
        return tokens;
    if (planes_for(view, seq, 1) > p->prompt_planes || view->planes_per_page == 0)
        return 0;
    /* Give pages up until the rest fits: by as many as are lacking, exactly. */
    lacking = planes_for(view, seq, tokens) - p->prompt_planes;
    pages = (lacking + view->planes_per_page - 1) / view->planes_per_page;
    end = sl_sched_less(pages_of(seq->context + tokens), pages) * SL_SCHED_PAGE_TOKENS;
    if (end <= seq->context)
        return 1;
    return end - seq->context;
}

/* Cut at a page's end, if there is one ahead. */
static uint32_t cut(const sl_sched_seq *seq, uint32_t tokens)
{
    const uint32_t end = seq->context + tokens;
    const uint32_t page_end = end / SL_SCHED_PAGE_TOKENS * SL_SCHED_PAGE_TOKENS;

    if (tokens == seq->prompt_left || page_end <= seq->context)
        return tokens;
    return page_end - seq->context;
}

static void push(sl_sched_launch *launch, const sl_sched_view *view, const sl_sched_item *item)
{
    launch->layer_first = 0;
    launch->layer_end = view->layers;
    launch->item[launch->item_count++] = *item;
}

void sl_sched_fill_step(planner *p, sl_sched_launch *launch)
{
    uint32_t planes = p->view->planes_free;

    for (uint32_t i = 0; i < p->view->decoding_count; i++) {
        const sl_sched_seq *seq = &p->view->decoding[i];

        if (seq->in_flight || seq->planes_short > planes)
            continue;
        planes -= seq->planes_short;
        push(launch, p->view, &(sl_sched_item){.slot = seq->slot, .tokens = 1});
    }
}

void sl_sched_fill_prompts(planner *p, sl_sched_launch *launch, uint32_t tokens)
{
    for (uint32_t i = 0; i < p->prompt_count && tokens > 0; i++) {
        const sl_sched_seq *seq = p->prompt[i];
        uint32_t n = affordable(p, seq, sl_sched_min(seq->prompt_left, tokens));

        if (launch->item_count == SL_SCHED_ITEMS_MAX)
            return;
        if (n == 0)
            continue;
        n = cut(seq, n);
        p->prompt_planes -= planes_for(p->view, seq, n);
        tokens -= n;
        push(launch, p->view, &(sl_sched_item){.slot = seq->slot, .tokens = n, .prefill = true});
        /* A page's end was chosen: the few tokens left are no reason to begin another prompt. */
        if (n < seq->prompt_left)
            return;
    }
}

/* What a prompt token takes on a rung: measured, or guessed from all units by the share of units.
 */
static uint64_t token_ns_on(const sl_sched_view *view, uint32_t rung)
{
    const uint32_t units = view->rung[rung].prefill_units;

    if (view->costs.prefill_token_ns[rung] > 0 || units == 0)
        return view->costs.prefill_token_ns[rung];
    return (uint64_t)view->costs.prefill_token_ns[0] * view->rung[0].prefill_units / units;
}

uint32_t sl_sched_slice_tokens(const sl_sched_view *view, uint32_t rung)
{
    const uint64_t token_ns = token_ns_on(view, rung);
    uint64_t tokens = view->chunk_tokens; /* nothing is measured yet */

    if (token_ns > 0 && view->slice_target_us > 0) {
        const uint64_t least = view->layer_cuts ? SLICE_TOKENS_CUT : SLICE_TOKENS_LEAST;

        tokens = (uint64_t)view->slice_target_us * 1000 / token_ns;
        tokens = tokens > least ? tokens : least;
    }
    return tokens < view->slice_tokens_max ? (uint32_t)tokens : view->slice_tokens_max;
}

/* How many layers of a slice fit into the target. */
static uint32_t layers_of_slice(const sl_sched_view *view, uint32_t rung, uint32_t tokens)
{
    const uint64_t slice_us = token_ns_on(view, rung) * tokens / 1000;
    uint64_t layers = view->layers;

    if (!view->layer_cuts || view->slice_target_us == 0 || slice_us <= view->slice_target_us)
        return view->layers;
    layers = layers * view->slice_target_us / slice_us;
    return layers > 0 ? (uint32_t)layers : 1;
}

void sl_sched_fill_slice(planner *p, uint32_t rung)
{
    const sl_sched_view *view = p->view;
    sl_sched_launch *launch = &p->plan->prefill;
    const sl_sched_launch *open = view->open_slice;
    uint32_t tokens = 0;

    if (open != NULL) {
        launch->layer_first = open->layer_first;
        launch->layer_end = view->layers;
        for (uint32_t i = 0; i < open->item_count; i++)
            launch->item[launch->item_count++] = open->item[i];
    } else {
        sl_sched_fill_prompts(p, launch, sl_sched_slice_tokens(view, rung));
    }
    for (uint32_t i = 0; i < launch->item_count; i++)
        tokens += launch->item[i].tokens;
    launch->layer_end =
        sl_sched_min(view->layers, launch->layer_first + layers_of_slice(view, rung, tokens));
}

/* When this prompt would be done if it had arrived at an idle device: a shorter one overtakes a
 * longer one only if it came soon enough after it, so that nobody waits for ever. */
static uint64_t key_of(const sl_sched_view *view, const sl_sched_seq *seq)
{
    return seq->arrival_us + (uint64_t)view->costs.prefill_token_ns[0] * seq->prompt_left / 1000;
}

static void sift_down(const sl_sched_seq **heap, uint64_t *key, uint32_t count, uint32_t i)
{
    const sl_sched_seq *seq = heap[i];
    const uint64_t k = key[i];

    for (uint32_t child = 2 * i + 1; child < count; child = 2 * i + 1) {
        child += child + 1 < count && key[child + 1] > key[child];
        if (key[child] <= k)
            break;
        heap[i] = heap[child];
        key[i] = key[child];
        i = child;
    }
    heap[i] = seq;
    key[i] = k;
}

void sl_sched_sort_prompts(planner *p)
{
    uint64_t key[PROMPTS_MAX];

    /* Heap sort; the position in the key's low bits keeps equal ones in order of admission. */
    for (uint32_t i = 0; i < p->prompt_count; i++)
        key[i] = key_of(p->view, p->prompt[i]) * PROMPTS_MAX + i;
    for (uint32_t i = p->prompt_count / 2; i-- > 0;)
        sift_down(p->prompt, key, p->prompt_count, i);
    for (uint32_t end = p->prompt_count; end-- > 1;) {
        const sl_sched_seq *last = p->prompt[0];
        const uint64_t last_key = key[0];

        p->prompt[0] = p->prompt[end];
        key[0] = key[end];
        sift_down(p->prompt, key, end, 0);
        p->prompt[end] = last;
        key[end] = last_key;
    }
}
