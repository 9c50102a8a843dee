/* engine/engine_act.c - a plan carried out: admit, fork, preempt, launch. */
#include "engine/engine_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/clock.h"

static bool lane_free(const sl_engine *engine, sl_lane lane)
{
    return !engine->batch[lane].busy && !engine->batch[lane].partial;
}

static void reset_batch(sl_engine_batch *batch)
{
    batch->partial = false;
    batch->copies_only = false;
    batch->child_count = 0;
    batch->prefill_tokens = 0;
    batch->decode_count = 0;
    batch->item_count = 0;
    batch->copies.count = 0;
    batch->exec = (sl_exec_batch){
        .token = batch->token,
        .seq = batch->seq,
        .logit_row = batch->logit_row,
        .sampler = batch->sampler,
        .sample = batch->sample,
        .copy_dst = batch->copies.dst,
        .copy_src = batch->copies.src,
    };
}

/* Submit what the batch holds.  A refusal is a fault of ours: its requests end, the engine goes on.
 */
static bool submit(sl_engine *engine, sl_lane lane, uint32_t rung)
{
    sl_engine_batch *batch = &engine->batch[lane];

    batch->rung = rung;
    batch->exec.copy_count = batch->copies.count;
    if (sl_exec_submit(engine->exec, lane, rung, &batch->exec, &batch->fence) != SL_OK) {
        batch->partial = false;
        sl_engine_fail_batch(engine, batch);
        return false;
    }
    batch->busy = true;
    return true;
}

/* The rung nearest to `rung` that gives the lane units. */
static uint32_t usable_rung(const sl_engine *engine, sl_lane lane, uint32_t rung)
{
    if (sl_exec_lane_units(engine->caps, lane, rung) > 0)
        return rung;
    return lane == SL_LANE_PREFILL ? 0 : engine->caps->rung_count - 1;
}

/* --- admission --------------------------------------------------------------------------- */

/* The first admission of a slot: what the prefix cache saved is counted once. */
static void note_admission(sl_engine *engine, sl_engine_rec *rec, uint32_t cached, uint64_t now_us)
{
    sl_slot_times *times = &rec->slot->times;

    if (times->admitted_us != 0)
        return;
    times->admitted_us = now_us;
    times->cached_tokens = cached;
    sl_engine_count(&engine->stats.requests_admitted, 1);
    sl_engine_count(&engine->stats.prompt_tokens, rec->slot->prompt_count);
    sl_engine_count(&engine->stats.prompt_tokens_cached, cached);
}

static void begin_plain(sl_engine *engine, sl_engine_rec *rec, uint64_t now_us)
{
    const uint32_t total = sl_engine_total(rec);
    const uint32_t *history = rec->slot->prompt;
    uint32_t cached;

    if (rec->generated > 0) {
        sl_engine_copy_history(rec, 0, total, engine->history);
        history = engine->history;
    }
    sl_engine_start_running(engine, rec);
    cached = sl_kvcache_begin(engine->cache, rec->seq, history, total, rec->slot->salt);
    note_admission(engine, rec, cached, now_us);
}

static bool same_prompt(const sl_engine_rec *a, const sl_engine_rec *b)
{
    return memcmp(a->slot->prompt, b->slot->prompt,
                  a->slot->prompt_count * sizeof(*a->slot->prompt)) == 0;
}

/* Hold a record by the batch of copies. */
static void add_copy_item(sl_engine_batch *batch, sl_engine_rec *rec)
{
    rec->in_flight = true;
    batch->item[batch->item_count++] = rec->handle.index;
}

/* Share the parent's pages, as far as it still has them.  Its last, partial page is copied at
 * once, before either of them writes again; the copy goes into `batch` (NULL: no lane is free for
 * it).  False: not now. */
static bool begin_fork(sl_engine *engine, sl_engine_rec *rec, const sl_engine_rec *parent,
                       sl_engine_batch *batch, uint64_t now_us)
{
    uint32_t shared = rec->slot->prompt_count - 1;

    if (batch == NULL)
        return false;
    sl_engine_start_running(engine, rec);
    shared = sl_kvcache_fork(engine->cache, rec->seq, parent->seq, shared);
    if (shared % SL_PAGE_TOKENS != 0) {
        if (sl_kvcache_reserve(engine->cache, rec->seq, shared + 1, &batch->copies) != SL_OK) {
            sl_engine_stop_running(engine, rec);
            return false;
        }
        add_copy_item(batch, rec);
        batch->child_count++;
    }
    note_admission(engine, rec, shared, now_us);
    return true;
}

/* The lane that copies for forks: one that the plan leaves alone, if there is one. */
static sl_lane copy_lane(const sl_engine *engine)
{
    const sl_sched_plan *plan = &engine->plan;

    if (!lane_free(engine, SL_LANE_DECODE))
        return lane_free(engine, SL_LANE_PREFILL) ? SL_LANE_PREFILL : SL_LANE_COUNT;
    if (plan->decode.item_count > 0 && plan->prefill.item_count == 0 &&
        lane_free(engine, SL_LANE_PREFILL))
        return SL_LANE_PREFILL;
    return SL_LANE_DECODE;
}

/* Parents must not write while their pages are copied. */
static void hold_parents(sl_engine *engine, sl_engine_batch *batch)
{
    for (uint32_t i = 0; i < batch->child_count; i++) {
        const sl_engine_rec *child = &engine->rec[batch->item[i]];
        sl_engine_rec *parent = sl_engine_find(engine, child->slot->fork_of);

        if (!parent->in_flight)
            add_copy_item(batch, parent);
    }
}

static uint32_t admit_all(sl_engine *engine, uint64_t now_us)
{
    const sl_sched_plan *plan = &engine->plan;
    const sl_lane lane = copy_lane(engine);
    sl_engine_batch *batch = lane == SL_LANE_COUNT ? NULL : &engine->batch[lane];
    uint32_t admitted = 0;

    if (batch != NULL)
        reset_batch(batch);
    for (uint32_t i = 0; i < plan->admit_count; i++) {
        sl_engine_rec *rec = &engine->rec[plan->admit[i]];
        sl_engine_rec *parent;

        SL_ASSERT(rec->state == SL_REC_WAITING);
        if (engine->free_seq_count == 0 || sl_engine_fork_held(engine, rec, &parent))
            continue;
        if (parent == NULL || !same_prompt(rec, parent))
            begin_plain(engine, rec, now_us);
        else if (!begin_fork(engine, rec, parent, batch, now_us))
            continue;
        admitted++;
    }
    if (batch != NULL && batch->child_count > 0) {
        hold_parents(engine, batch);
        batch->exec.layer_end = engine->layers;
        (void)submit(engine, lane, usable_rung(engine, lane, plan->rung));
    }
    return admitted;
}

/* --- launching --------------------------------------------------------------------------- */

/* Put one item of the plan into the batch, as far as it is still right and its pages are there. */
static void add_item(sl_engine *engine, sl_engine_batch *batch, const sl_sched_item *item)
{
    sl_engine_rec *rec = &engine->rec[item->slot];
    const sl_engine_rec_state state = item->prefill ? SL_REC_PREFILL : SL_REC_DECODE;
    const uint32_t row = batch->exec.rows;
    const uint32_t room = engine->caps->rows_max - row;
    const uint32_t n = batch->exec.seq_count;
    uint32_t length, left, count;

    /* What was planned may have ended, not been admitted, or be held by a copy. */
    if (rec->state != state || rec->in_flight || n == engine->options.seqs_max)
        return;
    length = sl_kvcache_length(engine->cache, rec->seq);
    left = sl_engine_total(rec) - length;
    count = item->tokens < left ? item->tokens : left;
    if (count > room)
        count = room;
    if (count == 0 ||
        sl_kvcache_reserve(engine->cache, rec->seq, length + count, &batch->copies) != SL_OK)
        return;

    sl_engine_copy_history(rec, length, count, batch->token + row);
    batch->seq[n] = (sl_forward_seq){.row_first = row,
                                     .row_count = count,
                                     .position = length,
                                     .chunk_pages = sl_kvcache_pages(engine->cache, rec->seq)};
    batch->exec.rows += count;
    batch->exec.seq_count++;
    batch->item[batch->item_count++] = item->slot;
    if (item->prefill)
        batch->prefill_tokens += count;
    else
        batch->decode_count++;
    if (count == left) {
        const uint32_t i = batch->exec.logit_row_count++;

        batch->logit_row[i] = row + count - 1;
        batch->logit_item[i] = n;
        batch->sampler[i] = &rec->slot->sampler;
    }
    rec->in_flight = true;
}

static bool launch(sl_engine *engine, sl_lane lane, const sl_sched_launch *planned, uint32_t rung)
{
    sl_engine_batch *batch = &engine->batch[lane];
    uint32_t layer_end = engine->layers;

    if (planned->item_count == 0 || !lane_free(engine, lane))
        return false;
    reset_batch(batch);
    for (uint32_t i = 0; i < planned->item_count; i++)
        add_item(engine, batch, &planned->item[i]);
    if (batch->exec.seq_count == 0)
        return false;

    /* Only slices are cut by layers. */
    if (lane == SL_LANE_PREFILL && planned->layer_end > 0 && planned->layer_end < layer_end)
        layer_end = planned->layer_end;
    batch->exec.layer_first = 0;
    batch->exec.layer_end = layer_end;
    batch->exec.space = lane == SL_LANE_DECODE ? engine->caps->space_count - 1 : 0;
    /* Samples wait for the last layer. */
    if (layer_end < engine->layers) {
        batch->logits_later = batch->exec.logit_row_count;
        batch->exec.logit_row_count = 0;
    }
    sl_engine_count(&engine->stats.steps, batch->decode_count > 0);
    sl_engine_count(&engine->stats.slices, batch->prefill_tokens > 0);
    return submit(engine, lane, usable_rung(engine, lane, rung));
}

/* The next layers of the open slice. */
static bool go_on(sl_engine *engine, const sl_sched_launch *planned, uint32_t rung)
{
    sl_engine_batch *batch = &engine->batch[SL_LANE_PREFILL];
    const uint32_t first = batch->exec.layer_end;

    if (planned->item_count == 0)
        return false;
    SL_ASSERT(planned->layer_first == first);
    SL_ASSERT(planned->layer_end > first && planned->layer_end <= engine->layers);
    batch->partial = false;
    batch->copies.count = 0;
    batch->exec.layer_first = first;
    batch->exec.layer_end = planned->layer_end;
    if (planned->layer_end == engine->layers)
        batch->exec.logit_row_count = batch->logits_later;
    sl_engine_count(&engine->stats.slices, 1);
    return submit(engine, SL_LANE_PREFILL, usable_rung(engine, SL_LANE_PREFILL, rung));
}

/* --- the boundary ------------------------------------------------------------------------ */

static void decide(sl_engine *engine, uint64_t now_us)
{
    const uint64_t start_us = sl_clock_us();

    sl_engine_fill_view(engine, now_us);
    engine->options.decide(&engine->view, &engine->plan);
    sl_engine_count(&engine->stats.decide_us, sl_clock_us() - start_us);
    sl_engine_count(&engine->stats.decides, 1);
    SL_ASSERT(engine->plan.rung < engine->caps->rung_count);
}

/* Carry out the plan at hand.  False: ask again, for the view has changed. */
static bool act(sl_engine *engine, uint64_t now_us)
{
    const sl_sched_plan *plan = &engine->plan;
    uint32_t admitted;
    bool launched;

    if (plan->preempt_slot != SL_SLOT_NONE) {
        sl_engine_rec *rec = &engine->rec[plan->preempt_slot];

        SL_ASSERT(rec->state == SL_REC_PREFILL || rec->state == SL_REC_DECODE);
        if (rec->in_flight) {
            rec->give_way = true; /* once its batch has ended */
            return true;
        }
        sl_engine_preempt(engine, rec);
        return false;
    }
    engine->state = plan->state;
    engine->rung = plan->rung;
    admitted = admit_all(engine, now_us);
    launched = launch(engine, SL_LANE_DECODE, &plan->decode, plan->rung);
    if (engine->batch[SL_LANE_PREFILL].partial)
        launched |= go_on(engine, &plan->prefill, plan->rung);
    else
        launched |= launch(engine, SL_LANE_PREFILL, &plan->prefill, plan->rung);
    return launched || admitted == 0;
}

static bool any_busy(const sl_engine *engine)
{
    return engine->batch[SL_LANE_PREFILL].busy || engine->batch[SL_LANE_DECODE].busy;
}

/* The scheduler leaves idle lanes idle although there is work.  Time may change its mind; if it
 * does not, somebody gives way, so that what was admitted always ends. */
static void unstick(sl_engine *engine)
{
    sl_engine_rec *rec;

    if (any_busy(engine) || engine->running_count + engine->waiting_count == 0) {
        engine->stalls = 0;
        return;
    }
    if (++engine->stalls < SL_ENGINE_STALLS_MAX)
        return;
    engine->stalls = 1;
    sl_engine_close_slice(engine);
    if (engine->running_count > 1) {
        sl_engine_preempt(engine, &engine->rec[engine->running[engine->running_count - 1]]);
        return;
    }
    rec = &engine->rec[engine->running_count > 0 ? engine->running[0] : engine->waiting[0]];
    sl_engine_end(engine, rec, SL_FINISH_NONE, SL_EFULL);
}

void sl_engine_plan(sl_engine *engine, uint64_t now_us)
{
    /* Every round but the last preempts, or admits, one sequence at least. */
    const uint32_t rounds_max = 2 * engine->options.seqs_max + 1;
    const bool any_free =
        !engine->batch[SL_LANE_PREFILL].busy || !engine->batch[SL_LANE_DECODE].busy;
    const bool any_work = engine->running_count + engine->waiting_count > 0;

    for (uint32_t i = 0; i < rounds_max && any_free && any_work; i++) {
        decide(engine, now_us);
        if (act(engine, now_us))
            break;
    }
    unstick(engine);
}
