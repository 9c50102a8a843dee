/* engine/engine_slots.c - records of slots: who waits, who runs, how a slot ends. */
#include "engine/engine_internal.h"

#include <string.h>

#include "base/assert.h"

/* --- lists ------------------------------------------------------------------------------- */

static void list_remove(uint32_t *list, uint32_t *count, uint32_t value)
{
    uint32_t i = 0;

    while (i < *count && list[i] != value)
        i++;
    SL_ASSERT(i < *count);
    memmove(&list[i], &list[i + 1], (*count - i - 1) * sizeof(*list));
    (*count)--;
}

static void give_pages(sl_engine *engine, sl_engine_rec *rec)
{
    SL_ASSERT(!rec->in_flight);
    sl_kvcache_end(engine->cache, rec->seq);
    engine->free_seq[engine->free_seq_count++] = rec->seq;
    rec->seq = SL_SLOT_NONE;
    list_remove(engine->running, &engine->running_count, rec->handle.index);
}

void sl_engine_start_running(sl_engine *engine, sl_engine_rec *rec)
{
    SL_ASSERT(rec->state == SL_REC_WAITING);
    SL_ASSERT(engine->free_seq_count > 0);
    for (uint32_t i = 0; engine->waiting[i] != rec->handle.index; i++)
        engine->rec[engine->waiting[i]].passed++;
    rec->passed = 0;
    list_remove(engine->waiting, &engine->waiting_count, rec->handle.index);
    rec->state = SL_REC_PREFILL;
    rec->seq = engine->free_seq[--engine->free_seq_count];
    engine->running[engine->running_count++] = rec->handle.index;
}

void sl_engine_stop_running(sl_engine *engine, sl_engine_rec *rec)
{
    give_pages(engine, rec);
    rec->state = SL_REC_WAITING;
    rec->give_way = false;
    sl_engine_probe(engine, rec);
    SL_ASSERT(engine->waiting_count < engine->waiting_max);
    memmove(&engine->waiting[1], &engine->waiting[0],
            engine->waiting_count * sizeof(*engine->waiting));
    engine->waiting[0] = rec->handle.index;
    engine->waiting_count++;
}

/* --- from submit to the last message ----------------------------------------------------- */

static sl_status check_slot(const sl_engine *engine, const sl_slot *slot)
{
    if (slot->prompt_count == 0 || slot->max_tokens == 0)
        return SL_EINVAL;
    if (slot->prompt_count > engine->options.context_max ||
        slot->max_tokens > engine->options.context_max - slot->prompt_count)
        return SL_ETOOLONG;
    /* One bad token would fail the whole batch. */
    for (uint32_t i = 0; i < slot->prompt_count; i++)
        if (slot->prompt[i] >= engine->options.vocab_used)
            return SL_EINVAL;
    return SL_OK;
}

void sl_engine_accept(sl_engine *engine, sl_slot_handle handle)
{
    sl_slot *slot = &engine->box->slot[handle.index];
    sl_engine_rec *rec = &engine->rec[handle.index];
    sl_status status;

    SL_ASSERT(rec->state == SL_REC_NONE);
    *rec = (sl_engine_rec){.slot = slot,
                           .handle = handle,
                           .state = SL_REC_WAITING,
                           .seq = SL_SLOT_NONE,
                           .order = ++engine->submit_order};
    status = check_slot(engine, slot);
    if (status == SL_OK && engine->waiting_count >= engine->options.queue_max)
        status = SL_EFULL;
    if (status == SL_OK && engine->ending)
        status = SL_EUNAVAILABLE;
    engine->waiting[engine->waiting_count++] = handle.index;
    if (status != SL_OK) {
        sl_engine_end(engine, rec, SL_FINISH_NONE, status);
        return;
    }
    rec->hit_tokens = sl_kvcache_probe(engine->cache, slot->prompt, slot->prompt_count, slot->salt);
}

sl_engine_rec *sl_engine_find(sl_engine *engine, sl_slot_handle handle)
{
    sl_engine_rec *rec;

    if (handle.index >= engine->box->slot_count)
        return NULL;
    rec = &engine->rec[handle.index];
    if (rec->state == SL_REC_NONE || rec->state == SL_REC_ENDED ||
        rec->handle.generation != handle.generation)
        return NULL;
    return rec;
}

void sl_engine_copy_history(const sl_engine_rec *rec, uint32_t first, uint32_t count, uint32_t *out)
{
    const sl_slot *slot = rec->slot;
    const uint32_t prompt_left = first < slot->prompt_count ? slot->prompt_count - first : 0;
    const uint32_t from_prompt = count < prompt_left ? count : prompt_left;

    if (from_prompt > 0)
        memcpy(out, slot->prompt + first, from_prompt * sizeof(*out));
    if (count > from_prompt)
        memcpy(out + from_prompt, slot->out_token + (first + from_prompt - slot->prompt_count),
               (count - from_prompt) * sizeof(*out));
}

void sl_engine_end(sl_engine *engine, sl_engine_rec *rec, sl_finish finish, sl_status status)
{
    if (rec->state == SL_REC_WAITING)
        list_remove(engine->waiting, &engine->waiting_count, rec->handle.index);
    else
        give_pages(engine, rec);
    rec->state = SL_REC_ENDED;
    rec->finish = finish;
    rec->status = status;
    engine->ended[engine->ended_count++] = rec->handle.index;
    if (status == SL_OK)
        sl_engine_count(&engine->stats.requests_done, 1);
    else if (status == SL_ECANCELLED)
        sl_engine_count(&engine->stats.requests_cancelled, 1);
    else
        sl_engine_count(&engine->stats.requests_failed, 1);
}

void sl_engine_preempt(sl_engine *engine, sl_engine_rec *rec)
{
    sl_engine_count(&engine->stats.preemptions, 1);
    if (rec->slot->times.preemptions >= engine->options.preemptions_max) {
        sl_engine_end(engine, rec, SL_FINISH_NONE, SL_EFULL);
        return;
    }
    rec->slot->times.preemptions++;
    rec->rested_turn = engine->turns;
    sl_engine_stop_running(engine, rec);
}

/* --- the sweep --------------------------------------------------------------------------- */

/* Why a record that is not in flight has to end now; SL_OK: it has not. */
static sl_status verdict(const sl_engine *engine, const sl_engine_rec *rec, uint64_t now_us)
{
    const sl_slot *slot = rec->slot;

    if (atomic_load_explicit(&slot->cancelled, memory_order_relaxed))
        return SL_ECANCELLED;
    if (engine->ending)
        return SL_EUNAVAILABLE;
    if (slot->deadline_us != 0 && now_us > slot->deadline_us)
        return SL_ETIMEOUT;
    return SL_OK;
}

static void sweep_waiting(sl_engine *engine, uint64_t now_us)
{
    /* At shutdown all of them; else a part of a long list, going round. */
    uint32_t looks = engine->waiting_count;

    if (!engine->ending && looks > SL_ENGINE_SWEEP_WAITING)
        looks = SL_ENGINE_SWEEP_WAITING;
    for (; looks > 0; looks--) {
        sl_engine_rec *rec;
        sl_status status;

        if (engine->waiting_look >= engine->waiting_count)
            engine->waiting_look = 0;
        rec = &engine->rec[engine->waiting[engine->waiting_look]];
        status = verdict(engine, rec, now_us);
        if (status != SL_OK)
            sl_engine_end(engine, rec, SL_FINISH_NONE, status);
        else
            engine->waiting_look++;
    }
}

void sl_engine_sweep(sl_engine *engine, uint64_t now_us)
{
    for (uint32_t i = 0; i < engine->running_count;) {
        sl_engine_rec *rec = &engine->rec[engine->running[i]];
        sl_status status;

        if (rec->in_flight) {
            i++;
            continue;
        }
        status = verdict(engine, rec, now_us);
        if (status != SL_OK)
            sl_engine_end(engine, rec, SL_FINISH_NONE, status);
        else if (rec->give_way)
            sl_engine_preempt(engine, rec);
        else
            i++;
    }
    sweep_waiting(engine, now_us);
}

/* --- messages ---------------------------------------------------------------------------- */

void sl_engine_mark_dirty(sl_engine *engine, sl_engine_rec *rec)
{
    if (rec->dirty)
        return;
    rec->dirty = true;
    engine->dirty[engine->dirty_count++] = rec->handle.index;
}

static void announce_tokens(sl_engine *engine)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < engine->dirty_count; i++) {
        sl_engine_rec *rec = &engine->rec[engine->dirty[i]];

        if (rec->state == SL_REC_ENDED || rec->state == SL_REC_NONE ||
            sl_mailbox_push_tokens(engine->box, rec->handle, rec->generated))
            rec->dirty = false; /* an end carries the tokens as well */
        else
            engine->dirty[kept++] = engine->dirty[i];
    }
    engine->dirty_count = kept;
}

void sl_engine_announce(sl_engine *engine, uint64_t now_us)
{
    const bool news = engine->dirty_count > 0 || engine->ended_count > 0;

    announce_tokens(engine);
    for (uint32_t i = 0; i < engine->ended_count; i++) {
        sl_engine_rec *rec = &engine->rec[engine->ended[i]];
        const sl_event_message message = {
            .kind = rec->status == SL_OK ? SL_EVENT_DONE : SL_EVENT_FAILED,
            .slot = rec->handle,
            .token_end = rec->generated,
            .finish = rec->finish,
            .status = rec->status,
        };

        rec->slot->times.done_us = now_us;
        rec->slot = NULL;
        rec->state = SL_REC_NONE;
        sl_mailbox_push_end(engine->box, &message);
    }
    engine->ended_count = 0;
    if (news)
        sl_mailbox_wake_loop(engine->box);
}
