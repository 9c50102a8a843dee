/* engine/engine_collect.c - batches that ended: tokens out, pages advanced. */
#include "engine/engine_internal.h"

#include "base/assert.h"

static sl_engine_rec *item_rec(sl_engine *engine, const sl_engine_batch *batch, uint32_t item)
{
    return &engine->rec[batch->item[item]];
}

static void release_items(sl_engine *engine, const sl_engine_batch *batch)
{
    for (uint32_t i = 0; i < batch->item_count; i++)
        item_rec(engine, batch, i)->in_flight = false;
}

static bool is_stop(const sl_slot *slot, uint32_t token)
{
    if (slot->ignore_eos)
        return false;
    for (uint32_t i = 0; i < slot->params.stop_token_count; i++)
        if (slot->params.stop_token[i] == token)
            return true;
    return false;
}

/* The next token of a sequence: it joins the answer, or ends it. */
static void take_token(sl_engine *engine, sl_engine_rec *rec, const sl_sample *sample,
                       uint64_t now_us)
{
    sl_slot *slot = rec->slot;

    if (sample->token == SL_TOKEN_NONE) {
        sl_engine_end(engine, rec, SL_FINISH_NONE, SL_EINTERNAL);
        return;
    }
    sl_engine_count(&engine->stats.generation_tokens, 1);
    if (slot->times.first_token_us == 0)
        slot->times.first_token_us = now_us;
    slot->times.last_token_us = now_us;
    if (is_stop(slot, sample->token)) {
        slot->stop_token = sample->token;
        sl_engine_end(engine, rec, SL_FINISH_STOP, SL_OK);
        return;
    }
    slot->out_token[rec->generated] = sample->token;
    slot->out_us[rec->generated] = now_us;
    if (slot->out_sample != NULL)
        slot->out_sample[rec->generated] = *sample;
    sl_sampler_accept(&slot->sampler, sample->token);
    rec->generated++;
    rec->state = SL_REC_DECODE;
    sl_engine_mark_dirty(engine, rec);
    if (rec->generated == slot->max_tokens)
        sl_engine_end(engine, rec, SL_FINISH_LENGTH, SL_OK);
}

/* All layers of the rows are computed: the pages hold them. */
static void advance_items(sl_engine *engine, const sl_engine_batch *batch)
{
    for (uint32_t i = 0; i < batch->exec.seq_count; i++) {
        const sl_forward_seq *seq = &batch->seq[i];

        sl_kvcache_advance(engine->cache, item_rec(engine, batch, i)->seq,
                           batch->token + seq->row_first, seq->row_count);
    }
}

static void take_samples(sl_engine *engine, const sl_engine_batch *batch, uint64_t now_us)
{
    for (uint32_t i = 0; i < batch->exec.logit_row_count; i++) {
        sl_engine_rec *rec = item_rec(engine, batch, batch->logit_item[i]);

        if (atomic_load_explicit(&rec->slot->cancelled, memory_order_relaxed))
            sl_engine_end(engine, rec, SL_FINISH_NONE, SL_ECANCELLED);
        else
            take_token(engine, rec, &batch->sample[i], now_us);
    }
}

void sl_engine_fail_batch(sl_engine *engine, sl_engine_batch *batch)
{
    /* A failed copy harms those it was for, not those it was taken from. */
    const uint32_t count = batch->copies_only ? batch->child_count : batch->item_count;

    release_items(engine, batch);
    for (uint32_t i = 0; i < count; i++)
        sl_engine_end(engine, item_rec(engine, batch, i), SL_FINISH_NONE, SL_EINTERNAL);
}

/* Is nobody left who wants the rest of the layers? */
static bool abandoned(sl_engine *engine, const sl_engine_batch *batch)
{
    if (engine->ending)
        return true;
    for (uint32_t i = 0; i < batch->item_count; i++)
        if (!atomic_load_explicit(&item_rec(engine, batch, i)->slot->cancelled,
                                  memory_order_relaxed))
            return false;
    return true;
}

/* The rest of the layers is to be planned. */
static void open_slice(sl_engine *engine, sl_engine_batch *batch)
{
    sl_sched_launch *open = &engine->open_slice;

    batch->partial = true;
    open->item_count = batch->item_count;
    open->layer_first = batch->exec.layer_end;
    open->layer_end = engine->layers;
    for (uint32_t i = 0; i < batch->item_count; i++)
        open->item[i] = (sl_sched_item){
            .slot = batch->item[i], .tokens = batch->seq[i].row_count, .prefill = true};
}

void sl_engine_close_slice(sl_engine *engine)
{
    sl_engine_batch *batch = &engine->batch[SL_LANE_PREFILL];

    if (!batch->partial)
        return;
    batch->partial = false;
    release_items(engine, batch);
}

static void collect_batch(sl_engine *engine, sl_engine_batch *batch, sl_status status,
                          uint64_t now_us)
{
    if (status != SL_OK) {
        sl_engine_fail_batch(engine, batch);
        return;
    }
    if (batch->copies_only) {
        release_items(engine, batch);
        return;
    }
    if (batch->exec.layer_end < engine->layers) {
        open_slice(engine, batch);
        return;
    }
    release_items(engine, batch);
    advance_items(engine, batch);
    sl_engine_count(&engine->stats.prompt_tokens_computed, batch->prefill_tokens);
    take_samples(engine, batch, now_us);
}

void sl_engine_collect(sl_engine *engine, uint64_t now_us)
{
    for (int lane = 0; lane < SL_LANE_COUNT; lane++) {
        sl_engine_batch *batch = &engine->batch[lane];
        uint32_t busy_us;
        sl_status status;

        if (!batch->busy || !sl_exec_poll(engine->exec, batch->fence, &status, &busy_us))
            continue;
        batch->busy = false;
        sl_engine_count(&engine->stats.progress, 1);
        if (status == SL_OK)
            sl_engine_learn(engine, batch, busy_us);
        collect_batch(engine, batch, status, now_us);
    }
    if (engine->batch[SL_LANE_PREFILL].partial &&
        abandoned(engine, &engine->batch[SL_LANE_PREFILL]))
        sl_engine_close_slice(engine);
}
