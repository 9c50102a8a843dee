/* engine/mailbox.c - see mailbox.h */
#include "engine/mailbox.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

enum { SLOTS_MAX = 1 << 16 };

/* Events: room for the last message of every slot, and three times that for TOKENS. */
enum { EVENTS_PER_SLOT = 4 };

sl_status sl_mailbox_init(sl_mailbox *box, uint32_t slot_count, size_t arena_limit_bytes)
{
    sl_status status = SL_ENOMEM;

    if (slot_count == 0 || slot_count > SLOTS_MAX)
        return SL_EINVAL;
    memset(box, 0, sizeof(*box));
    box->slot = sl_alloc(slot_count, sizeof(*box->slot));
    box->free_list = sl_alloc(slot_count, sizeof(*box->free_list));
    if (box->slot == NULL || box->free_list == NULL)
        goto out;
    status = sl_ring_init(&box->submit, (size_t)slot_count + 1, sizeof(sl_submit_message));
    if (status != SL_OK)
        goto out;
    status =
        sl_ring_init(&box->events, (size_t)slot_count * EVENTS_PER_SLOT, sizeof(sl_event_message));
    if (status != SL_OK)
        goto out;

    box->slot_count = slot_count;
    box->free_count = slot_count;
    for (uint32_t i = 0; i < slot_count; i++) {
        sl_arena_init(&box->slot[i].arena, arena_limit_bytes);
        atomic_init(&box->slot[i].cancelled, false);
        box->free_list[i] = slot_count - 1 - i; /* slot 0 is the first to be taken */
    }
    return SL_OK;
out:
    sl_mailbox_done(box);
    return status;
}

void sl_mailbox_done(sl_mailbox *box)
{
    for (uint32_t i = 0; i < box->slot_count; i++)
        sl_arena_done(&box->slot[i].arena);
    sl_ring_done(&box->submit);
    sl_ring_done(&box->events);
    sl_free(box->slot);
    sl_free(box->free_list);
    memset(box, 0, sizeof(*box));
}

sl_slot *sl_mailbox_take_slot(sl_mailbox *box)
{
    sl_slot *slot;
    sl_arena arena;
    uint32_t generation;

    if (box->free_count == 0)
        return NULL;
    slot = &box->slot[box->free_list[--box->free_count]];
    SL_ASSERT(slot->state == SL_SLOT_FREE);
    arena = slot->arena;
    generation = slot->generation;
    memset(slot, 0, sizeof(*slot));
    slot->arena = arena;
    slot->generation = generation;
    slot->fork_of.index = SL_SLOT_NONE;
    slot->stop_token = UINT32_MAX;
    atomic_init(&slot->cancelled, false);
    slot->state = SL_SLOT_FILLING;
    return slot;
}

void sl_mailbox_give_slot(sl_mailbox *box, sl_slot *slot)
{
    const uint32_t index = (uint32_t)(slot - box->slot);

    SL_ASSERT(index < box->slot_count);
    SL_ASSERT(slot->state == SL_SLOT_FILLING || slot->state == SL_SLOT_DRAINING);
    SL_ASSERT(box->free_count < box->slot_count);
    sl_arena_reset(&slot->arena);
    slot->generation++;
    slot->state = SL_SLOT_FREE;
    box->free_list[box->free_count++] = index;
}

sl_slot_handle sl_mailbox_handle(const sl_mailbox *box, const sl_slot *slot)
{
    return (sl_slot_handle){.index = (uint32_t)(slot - box->slot), .generation = slot->generation};
}

sl_slot *sl_mailbox_find(const sl_mailbox *box, sl_slot_handle handle)
{
    if (handle.index >= box->slot_count || box->slot[handle.index].generation != handle.generation)
        return NULL;
    return &box->slot[handle.index];
}

sl_status sl_mailbox_submit(sl_mailbox *box, sl_slot *slot)
{
    const sl_submit_message message = {.kind = SL_SUBMIT_SLOT,
                                       .slot = sl_mailbox_handle(box, slot)};
    sl_status status;

    SL_ASSERT(slot->state == SL_SLOT_FILLING);
    if (box->ending)
        return SL_EUNAVAILABLE;
    status = sl_ring_push(&box->submit, &message);
    if (status != SL_OK)
        return status;
    slot->state = SL_SLOT_RUNNING;
    if (box->wake_engine != NULL)
        box->wake_engine(box->engine_user);
    return SL_OK;
}

void sl_mailbox_shutdown(sl_mailbox *box)
{
    const sl_submit_message message = {.kind = SL_SUBMIT_SHUTDOWN};

    if (box->ending)
        return;
    /* Every slot has one submission in the ring at most, and this message comes once. */
    SL_ASSERT(sl_ring_push(&box->submit, &message) == SL_OK);
    box->ending = true;
    if (box->wake_engine != NULL)
        box->wake_engine(box->engine_user);
}

bool sl_mailbox_next_event(sl_mailbox *box, sl_event_message *out)
{
    sl_event_message message;
    sl_slot *slot;

    if (!sl_ring_pop(&box->events, &message))
        return false;
    slot = sl_mailbox_find(box, message.slot);
    SL_ASSERT(slot != NULL);
    SL_ASSERT(slot->state == SL_SLOT_RUNNING);
    if (message.kind != SL_EVENT_TOKENS)
        slot->state = SL_SLOT_DRAINING;
    *out = message;
    return true;
}

bool sl_mailbox_next_submit(sl_mailbox *box, sl_submit_message *out)
{
    return sl_ring_pop(&box->submit, out);
}

bool sl_mailbox_push_tokens(sl_mailbox *box, sl_slot_handle slot, uint32_t token_end)
{
    const sl_event_message message = {
        .kind = SL_EVENT_TOKENS, .slot = slot, .token_end = token_end};
    sl_ring *ring = &box->events;
    /* This thread is the producer: tail is its own, head may only grow meanwhile. */
    const size_t used = atomic_load_explicit(&ring->tail, memory_order_relaxed) -
                        atomic_load_explicit(&ring->head, memory_order_relaxed);

    if (used + box->slot_count >= ring->capacity)
        return false;
    return sl_ring_push(ring, &message) == SL_OK;
}

void sl_mailbox_push_end(sl_mailbox *box, const sl_event_message *message)
{
    SL_ASSERT(message->kind != SL_EVENT_TOKENS);
    /* A slot ends once before the loop takes that message, and TOKENS left room for all ends. */
    SL_ASSERT(sl_ring_push(&box->events, message) == SL_OK);
}

void sl_mailbox_wake_loop(sl_mailbox *box)
{
    if (box->wake_loop != NULL)
        box->wake_loop(box->loop_user);
}
