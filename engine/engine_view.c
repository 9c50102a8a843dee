/* engine/engine_view.c - what the scheduler sees, and what finished batches teach. */
#include "engine/engine_internal.h"

#include <string.h>

#include "base/assert.h"

/* Weight of the newest measurement. */
static const double LEARN_RATE = 0.2;

/* --- learned costs ----------------------------------------------------------------------- */

static uint32_t bucket_of(uint32_t sequences)
{
    uint32_t bucket = 0;

    while (bucket < SL_ENGINE_COST_BUCKETS - 1 && (1u << bucket) < sequences)
        bucket++;
    return bucket;
}

static void blend(double *value, double measured)
{
    *value = *value > 0 ? *value + LEARN_RATE * (measured - *value) : measured;
}

/* A step's time at this batch size: of the nearest size that was measured; 0: none was. */
static double step_us(const sl_engine *engine, uint32_t rung, uint32_t sequences)
{
    const double *known = engine->costs.step_us[rung];
    const uint32_t bucket = bucket_of(sequences);

    for (uint32_t away = 0; away < SL_ENGINE_COST_BUCKETS; away++) {
        if (bucket + away < SL_ENGINE_COST_BUCKETS && known[bucket + away] > 0)
            return known[bucket + away];
        if (bucket >= away && known[bucket - away] > 0)
            return known[bucket - away];
    }
    return 0;
}

void sl_engine_learn(sl_engine *engine, const sl_engine_batch *batch, uint32_t busy_us)
{
    const uint32_t layers = batch->exec.layer_end - batch->exec.layer_first;
    double left_us = busy_us;

    if (batch->prefill_tokens == 0) {
        if (batch->decode_count > 0)
            blend(&engine->costs.step_us[batch->rung][bucket_of(batch->decode_count)], busy_us);
        return;
    }
    if (batch->fence.lane == SL_LANE_DECODE &&
        engine->caps->rung[batch->rung].decode_units < engine->caps->units)
        return;
    if (batch->decode_count > 0) {
        /* A mixed step: what the decodes would have taken alone is not the prompt's. */
        const double decode_us = step_us(engine, batch->rung, batch->decode_count);

        if (decode_us == 0 || decode_us >= left_us)
            return;
        left_us -= decode_us;
    }
    /* Prompts in a step on all units teach the same as slices on all units. */
    blend(&engine->costs.token_ns[batch->fence.lane == SL_LANE_DECODE ? 0 : batch->rung],
          left_us * 1000.0 * engine->layers / layers / batch->prefill_tokens);
}

static uint32_t clip_u32(double value)
{
    return value >= UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static void fill_costs(const sl_engine *engine, sl_sched_costs *costs)
{
    const uint32_t sequences = engine->view.decoding_count;

    for (uint32_t r = 0; r < engine->caps->rung_count; r++) {
        costs->step_us[r] = clip_u32(step_us(engine, r, sequences > 0 ? sequences : 1));
        costs->prefill_token_ns[r] = clip_u32(engine->costs.token_ns[r]);
    }
}

/* --- waiting ----------------------------------------------------------------------------- */

/* The slot that `rec` was forked of, if that can be: same prompt, same tenant, submitted before. */
static sl_engine_rec *fork_parent(sl_engine *engine, const sl_engine_rec *rec)
{
    const sl_slot *slot = rec->slot;
    sl_engine_rec *parent;

    if (slot->fork_of.index == SL_SLOT_NONE || rec->generated > 0)
        return NULL;
    parent = sl_engine_find(engine, slot->fork_of);
    if (parent == NULL || parent->order >= rec->order)
        return NULL;
    if (parent->slot->prompt_count != slot->prompt_count || parent->slot->salt != slot->salt)
        return NULL;
    return parent;
}

bool sl_engine_fork_held(sl_engine *engine, const sl_engine_rec *rec, sl_engine_rec **parent)
{
    sl_engine_rec *from = fork_parent(engine, rec);

    *parent = NULL;
    if (from == NULL)
        return false;
    if (from->state == SL_REC_DECODE) {
        *parent = from;
        /* Its last page may be copied only while nobody writes into it. */
        return from->in_flight;
    }
    /* A parent that was preempted after its prompt may wait for long: do not wait for it. */
    return from->generated == 0;
}

void sl_engine_probe(sl_engine *engine, sl_engine_rec *rec)
{
    const sl_slot *slot = rec->slot;

    rec->hit_tokens = sl_kvcache_probe(engine->cache, slot->prompt, slot->prompt_count, slot->salt);
    rec->need_planes = sl_kvcache_probe_planes(engine->cache, slot->prompt, slot->prompt_count,
                                               slot->salt, sl_engine_total(rec) + 1);
}

static void see_waiting(sl_engine *engine, const sl_engine_rec *rec, const sl_engine_rec *parent)
{
    const uint32_t total = sl_engine_total(rec);
    uint32_t hit = rec->hit_tokens, need = rec->need_planes;

    if (parent != NULL) {
        /* All but the last token is shared; the page it lies in is copied. */
        hit = total - 1;
        need = (total / SL_PAGE_TOKENS + 1 - hit / SL_PAGE_TOKENS) * engine->view.planes_per_page;
    }
    engine->view_waiting[engine->view.waiting_count++] = (sl_sched_seq){
        .slot = rec->handle.index,
        .context = hit,
        .prompt_left = total - hit,
        .planes_short = need,
        .arrival_us = rec->slot->times.submitted_us,
        .passed = rec->passed,
    };
}

/* What the prefix cache holds changes: look again at one of those the scheduler sees. */
static void probe_one(sl_engine *engine, uint32_t seen)
{
    if (engine->waiting_count == 0)
        return;
    if (engine->probe_look >= seen || engine->probe_look >= engine->waiting_count)
        engine->probe_look = 0;
    sl_engine_probe(engine, &engine->rec[engine->waiting[engine->probe_look++]]);
}

static void see_all_waiting(sl_engine *engine)
{
    uint32_t i = 0;

    engine->view.waiting_count = 0;
    for (; i < engine->waiting_count && engine->view.waiting_count < SL_ENGINE_VIEW_WAITING; i++) {
        const sl_engine_rec *rec = &engine->rec[engine->waiting[i]];
        sl_engine_rec *parent;

        if (rec->rested_turn != engine->turns && !sl_engine_fork_held(engine, rec, &parent))
            see_waiting(engine, rec, parent);
    }
    probe_one(engine, i);
}

/* --- running ----------------------------------------------------------------------------- */

static void see_running(sl_engine *engine, const sl_engine_rec *rec)
{
    const uint32_t total = sl_engine_total(rec);
    const uint32_t length = sl_kvcache_length(engine->cache, rec->seq);
    const bool decodes = rec->state == SL_REC_DECODE;
    const sl_sched_seq seen = {
        .slot = rec->handle.index,
        .context = length,
        .prompt_left = decodes ? 0 : total - length,
        .planes_short =
            sl_kvcache_planes_short(engine->cache, rec->seq, decodes ? total : total + 1),
        .arrival_us = rec->slot->times.submitted_us,
        .last_token_us = rec->slot->times.last_token_us,
        .in_flight = rec->in_flight,
    };

    if (decodes)
        engine->view_decoding[engine->view.decoding_count++] = seen;
    else
        engine->view_prefilling[engine->view.prefilling_count++] = seen;
}

void sl_engine_fill_view(sl_engine *engine, uint64_t now_us)
{
    sl_sched_view *view = &engine->view;
    sl_kvcache_stats cache;

    view->now_us = now_us;
    see_all_waiting(engine);
    view->prefilling_count = 0;
    view->decoding_count = 0;
    for (uint32_t i = 0; i < engine->running_count; i++)
        see_running(engine, &engine->rec[engine->running[i]]);

    sl_kvcache_get_stats(engine->cache, &cache);
    view->planes_free = cache.planes_free + cache.planes_evictable;
    for (int lane = 0; lane < SL_LANE_COUNT; lane++)
        view->lane_busy[lane] = engine->batch[lane].busy;
    view->open_slice = engine->batch[SL_LANE_PREFILL].partial ? &engine->open_slice : NULL;
    view->state = engine->state;
    view->rung_now = engine->rung;
    fill_costs(engine, &view->costs);
}
