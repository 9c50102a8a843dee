/* engine/engine.c - see engine.h: create, the loop, messages.  The map is in engine_internal.h. */
#include "engine/engine_internal.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

/* --- create ------------------------------------------------------------------------------ */

static uint32_t pages_of(uint32_t tokens)
{
    return (tokens + SL_PAGE_TOKENS - 1) / SL_PAGE_TOKENS;
}

static sl_status check_options(const sl_engine_options *o, const sl_exec_caps *caps, sl_err *err)
{
    if (o->seqs_max == 0 || o->seqs_max > SL_SCHED_RUNNING_MAX)
        return sl_fail(err, SL_EINVAL, "sequences at once must be 1 to %d, not %u",
                       SL_SCHED_RUNNING_MAX, o->seqs_max);
    if (o->queue_max == 0 || o->queue_max > SL_SCHED_WAITING_MAX)
        return sl_fail(err, SL_EINVAL, "waiting requests must be 1 to %d, not %u",
                       SL_SCHED_WAITING_MAX, o->queue_max);
    if (o->context_max < 2 || o->context_max > SL_CONTEXT_MAX)
        return sl_fail(err, SL_EINVAL, "the context must be 2 to %d tokens, not %u", SL_CONTEXT_MAX,
                       o->context_max);
    if (o->vocab_used == 0 || o->vocab_used > o->config->vocab)
        return sl_fail(err, SL_EINVAL, "%u tokens are used of a vocabulary of %u", o->vocab_used,
                       o->config->vocab);
    if (o->policy >= SL_POLICY_COUNT)
        return sl_fail(err, SL_EINVAL, "there is no such scheduling policy");
    if (o->slice_target_us == 0 || o->chunk_tokens == 0)
        return sl_fail(err, SL_EINVAL, "the slice target and the chunk must not be 0");
    if (caps->rows_max < o->seqs_max || caps->logit_rows_max < o->seqs_max)
        return sl_fail(err, SL_EINVAL,
                       "a step of %u sequences does not fit into batches of %u rows, %u sampled",
                       o->seqs_max, caps->rows_max, caps->logit_rows_max);
    return SL_OK;
}

static sl_status create_cache(sl_engine *engine, sl_err *err)
{
    const sl_engine_options *o = &engine->options;
    sl_kvcache_options options = {.plane_count = engine->caps->plane_count,
                                  .chunk_count = o->config->chunk_count,
                                  .seq_max = o->seqs_max,
                                  .pages_per_seq_max = pages_of(o->context_max),
                                  .name_space = o->name_space,
                                  .prefix_caching = o->prefix_caching};
    sl_status status;
    uint64_t needed;

    memcpy(options.chunk_window, o->config->chunk_window, sizeof(options.chunk_window));
    status = sl_kvcache_create(&options, &engine->cache);
    if (status != SL_OK)
        return sl_fail(err, status, "cannot make a KV cache of %u planes for %u sequences",
                       options.plane_count, options.seq_max);
    needed = (uint64_t)options.pages_per_seq_max * sl_kvcache_planes_per_page(engine->cache);
    if (needed > options.plane_count)
        return sl_fail(err, SL_EINVAL,
                       "a context of %u tokens needs %llu planes of the KV cache, which has %u",
                       o->context_max, (unsigned long long)needed, options.plane_count);
    return SL_OK;
}

/* Zeroed array of `count`; notes a failure in *failed. */
static void *array(size_t count, size_t size, bool *failed)
{
    void *p = sl_alloc(count, size);

    *failed |= p == NULL;
    return p;
}

static void create_batch(sl_engine *engine, sl_engine_batch *batch, bool *failed)
{
    const uint32_t seqs = engine->options.seqs_max;

    batch->token = array(engine->caps->rows_max, sizeof(*batch->token), failed);
    batch->seq = array(seqs, sizeof(*batch->seq), failed);
    batch->item = array(2 * (size_t)seqs, sizeof(*batch->item), failed);
    batch->logit_row = array(seqs, sizeof(*batch->logit_row), failed);
    batch->logit_item = array(seqs, sizeof(*batch->logit_item), failed);
    batch->sampler = array(seqs, sizeof(sl_sampler *), failed);
    batch->sample = array(seqs, sizeof(*batch->sample), failed);
}

static bool create_arrays(sl_engine *e)
{
    const uint32_t slots = e->box->slot_count;
    const uint32_t seqs = e->options.seqs_max;
    bool failed = false;

    e->waiting_max = e->options.queue_max + seqs + 1;
    e->rec = array(slots, sizeof(*e->rec), &failed);
    e->waiting = array(e->waiting_max, sizeof(*e->waiting), &failed);
    e->running = array(seqs, sizeof(*e->running), &failed);
    e->free_seq = array(seqs, sizeof(*e->free_seq), &failed);
    e->dirty = array(slots, sizeof(*e->dirty), &failed);
    e->ended = array(slots, sizeof(*e->ended), &failed);
    e->history = array(e->options.context_max, sizeof(*e->history), &failed);
    e->view_waiting = array(SL_ENGINE_VIEW_WAITING, sizeof(*e->view_waiting), &failed);
    e->view_prefilling = array(seqs, sizeof(*e->view_prefilling), &failed);
    e->view_decoding = array(seqs, sizeof(*e->view_decoding), &failed);
    for (int lane = 0; lane < SL_LANE_COUNT; lane++)
        create_batch(e, &e->batch[lane], &failed);
    return !failed;
}

static void wake(void *user)
{
    sl_exec_wake(user);
}

/* What no boundary changes. */
static void fill_constants(sl_engine *e)
{
    e->view = (sl_sched_view){
        .policy = e->options.policy,
        .waiting = e->view_waiting,
        .prefilling = e->view_prefilling,
        .decoding = e->view_decoding,
        .planes_total = e->caps->plane_count,
        .planes_per_page = sl_kvcache_planes_per_page(e->cache),
        .seqs_max = e->options.seqs_max,
        .rung = e->caps->rung,
        .rung_count = e->caps->rung_count,
        .layers = e->layers,
        .slice_tokens_max = e->caps->rows_max,
        .step_tokens_max = e->caps->rows_max,
        .slice_target_us = e->options.slice_target_us,
        .step_target_us = e->options.step_target_us,
        .chunk_tokens = e->options.chunk_tokens,
        .layer_cuts = true,
    };
    for (uint32_t i = 0; i < e->options.seqs_max; i++)
        e->free_seq[i] = e->options.seqs_max - 1 - i;
    e->free_seq_count = e->options.seqs_max;
    e->state = SL_STATE_IDLE;
    e->mark_us = sl_exec_now_us(e->exec);
    atomic_store(&e->stats.planes_total, e->caps->plane_count);
    atomic_store(&e->stats.planes_free, e->caps->plane_count);
    e->box->wake_engine = wake;
    e->box->engine_user = e->exec;
}

sl_status sl_engine_create(const sl_engine_options *options, sl_engine **out, sl_err *err)
{
    const sl_exec_caps *caps = sl_exec_get_caps(options->exec);
    sl_status status = check_options(options, caps, err);
    sl_engine *engine;

    if (status != SL_OK)
        return status;
    engine = sl_alloc(1, sizeof(*engine));
    if (engine == NULL)
        return sl_fail(err, SL_ENOMEM, "no memory for the engine");
    engine->options = *options;
    if (options->decide == NULL)
        engine->options.decide = sl_sched_decide;
    engine->caps = caps;
    engine->box = options->mailbox;
    engine->exec = options->exec;
    engine->layers = options->config->layer_count;
    status = create_cache(engine, err);
    if (status == SL_OK && !create_arrays(engine))
        status = sl_fail(err, SL_ENOMEM, "no memory for the engine's tables");
    if (status != SL_OK) {
        sl_engine_destroy(engine);
        return status;
    }
    fill_constants(engine);
    *out = engine;
    return SL_OK;
}

static void destroy_batch(sl_engine_batch *batch)
{
    SL_ASSERT(!batch->busy);
    sl_free(batch->token);
    sl_free(batch->seq);
    sl_free(batch->item);
    sl_free(batch->logit_row);
    sl_free(batch->logit_item);
    sl_free(batch->sampler);
    sl_free(batch->sample);
}

void sl_engine_destroy(sl_engine *engine)
{
    if (engine == NULL)
        return;
    SL_ASSERT(!engine->thread.running);
    for (int lane = 0; lane < SL_LANE_COUNT; lane++)
        destroy_batch(&engine->batch[lane]);
    sl_kvcache_destroy(engine->cache);
    sl_free(engine->rec);
    sl_free(engine->waiting);
    sl_free(engine->running);
    sl_free(engine->free_seq);
    sl_free(engine->dirty);
    sl_free(engine->ended);
    sl_free(engine->history);
    sl_free(engine->view_waiting);
    sl_free(engine->view_prefilling);
    sl_free(engine->view_decoding);
    sl_free(engine);
}

/* --- the loop ---------------------------------------------------------------------------- */

static void take_messages(sl_engine *engine)
{
    sl_submit_message message;
    uint32_t taken = 0;

    while (taken < SL_ENGINE_TAKE_MAX && sl_mailbox_next_submit(engine->box, &message)) {
        taken++;
        if (message.kind == SL_SUBMIT_SHUTDOWN)
            engine->ending = true;
        else
            sl_engine_accept(engine, message.slot);
    }
    if (taken == SL_ENGINE_TAKE_MAX)
        sl_exec_wake(engine->exec); /* there may be more: do not sleep on them */
}

static bool is_live(sl_engine *engine)
{
    return engine->running_count + engine->waiting_count > 0 ||
           engine->batch[SL_LANE_PREFILL].busy || engine->batch[SL_LANE_DECODE].busy ||
           !sl_ring_empty(&engine->box->submit);
}

static void account_residency(sl_engine *engine, uint64_t now_us)
{
    sl_engine_count(&engine->stats.state_us[engine->state], now_us - engine->mark_us);
    engine->mark_us = now_us;
    atomic_store_explicit(&engine->stats.state_mark_us, now_us, memory_order_relaxed);
}

static void write_gauges(sl_engine *engine)
{
    sl_engine_stats *stats = &engine->stats;
    sl_kvcache_stats cache;
    uint32_t decoding = 0;

    for (uint32_t i = 0; i < engine->running_count; i++)
        decoding += engine->rec[engine->running[i]].state == SL_REC_DECODE;
    sl_kvcache_get_stats(engine->cache, &cache);
    atomic_store_explicit(&stats->queued, engine->waiting_count, memory_order_relaxed);
    atomic_store_explicit(&stats->prefilling, engine->running_count - decoding,
                          memory_order_relaxed);
    atomic_store_explicit(&stats->decoding, decoding, memory_order_relaxed);
    atomic_store_explicit(&stats->planes_free, cache.planes_free, memory_order_relaxed);
    atomic_store_explicit(&stats->planes_evictable, cache.planes_evictable, memory_order_relaxed);
    atomic_store_explicit(&stats->state, engine->state, memory_order_relaxed);
    atomic_store_explicit(&stats->rung, engine->rung, memory_order_relaxed);
    atomic_store_explicit(&stats->evicted_pages, cache.evicted_pages, memory_order_relaxed);
}

bool sl_engine_turn(sl_engine *engine)
{
    const uint64_t now_us = sl_exec_now_us(engine->exec);
    bool live;

    sl_assert_note("turn", ++engine->turns);
    account_residency(engine, now_us);
    take_messages(engine);
    sl_engine_collect(engine, now_us);
    sl_engine_sweep(engine, now_us);
    sl_engine_plan(engine, now_us);
    /* The devices work again: now there is time for the rest. */
    sl_engine_announce(engine, sl_exec_now_us(engine->exec));
    live = is_live(engine);
    if (!live) {
        engine->state = SL_STATE_IDLE;
        if (SL_ENGINE_CHECKS)
            sl_kvcache_check(engine->cache);
    }
    write_gauges(engine);
    return live;
}

void sl_engine_run(sl_engine *engine)
{
    for (;;) {
        const bool live = sl_engine_turn(engine);

        if (!live && engine->ending)
            break;
        sl_exec_wait(engine->exec, engine->stalls > 0 ? SL_ENGINE_STALL_US : UINT64_MAX);
    }
    sl_assert_note("", 0);
}

static void thread_main(void *engine)
{
    sl_engine_run(engine);
}

sl_status sl_engine_start(sl_engine *engine)
{
    return sl_thread_start(&engine->thread, "engine", -1, thread_main, engine);
}

void sl_engine_join(sl_engine *engine)
{
    sl_thread_join(&engine->thread);
}

const sl_engine_stats *sl_engine_get_stats(const sl_engine *engine)
{
    return &engine->stats;
}
