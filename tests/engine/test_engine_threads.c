/* tests/engine/test_engine_threads.c
 *
 * Goal: the loop and the engine may do what they do at the same time.
 * Method: the engine on its own thread, on the virtual device at full speed; this thread plays the
 * loop: thousands of requests, cancels at any moment, tokens compared as soon as they are
 * announced.  Meant for ThreadSanitizer, right without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/threads.h"
#include "tests/engine/rig.h"

enum { REQUESTS = 3000, SLOTS = 24 };

typedef struct loop {
    rig r; /* only its device, mailbox and engine are used */
    sl_wake wake;
    sl_rng rng;
    uint32_t sent, ended, done, cancelled;
    sl_slot_handle parent; /* of forks */
    uint32_t prompt_count;
    uint64_t prompt_salt;
    uint64_t sum; /* of all tokens that were read */
} loop;

static void post(void *wake)
{
    sl_wake_post(wake);
}

static void send(loop *l)
{
    sl_slot *slot = sl_mailbox_take_slot(&l->r.box);
    const bool fork = l->sent > 0 && sl_rng_below(&l->rng, 5) == 0;
    uint32_t *prompt;

    assert_non_null(slot);
    if (!fork) {
        l->prompt_count = 1 + (uint32_t)sl_rng_below(&l->rng, 150);
        l->prompt_salt = sl_rng_below(&l->rng, 10);
    }
    prompt = sl_arena_alloc(&slot->arena, l->prompt_count, sizeof(*prompt));
    for (uint32_t i = 0; i < l->prompt_count; i++)
        prompt[i] = (uint32_t)(sl_mix64_pair(l->prompt_salt, i) % RIG_VOCAB);
    slot->prompt = prompt;
    slot->prompt_count = l->prompt_count;
    slot->max_tokens = 1 + (uint32_t)sl_rng_below(&l->rng, 12);
    slot->params =
        (sl_sample_params){.top_p = 1, .repetition_penalty = 1, .seed = sl_rng_below(&l->rng, 4)};
    slot->sampler = (sl_sampler){.params = &slot->params, .vocab_used = RIG_VOCAB};
    slot->out_token = sl_arena_alloc(&slot->arena, slot->max_tokens, sizeof(*slot->out_token));
    slot->out_us = sl_arena_alloc(&slot->arena, slot->max_tokens, sizeof(*slot->out_us));
    if (fork)
        slot->fork_of = l->parent; /* perhaps long gone */
    else
        l->parent = sl_mailbox_handle(&l->r.box, slot);
    slot->times.submitted_us = l->sent;
    assert_int_equal(sl_mailbox_submit(&l->r.box, slot), SL_OK);
    l->sent++;
}

static void check_tokens(loop *l, const sl_slot *slot, uint32_t token_end)
{
    uint32_t history[200];

    for (uint32_t i = 0; i < slot->prompt_count; i++)
        history[i] = slot->prompt[i];
    for (uint32_t i = 0; i < token_end; i++) {
        const uint32_t token = sl_exec_virtual_seeded_token(history, slot->prompt_count + i,
                                                            RIG_VOCAB, slot->params.seed);

        assert_int_equal(slot->out_token[i], token);
        history[slot->prompt_count + i] = token;
        l->sum += token;
    }
}

static void take(loop *l, const sl_event_message *event)
{
    sl_slot *slot = sl_mailbox_find(&l->r.box, event->slot);

    check_tokens(l, slot, event->token_end);
    if (event->kind == SL_EVENT_TOKENS) {
        if (sl_rng_below(&l->rng, 20) == 0)
            atomic_store(&slot->cancelled, true);
        return;
    }
    l->ended++;
    if (event->kind == SL_EVENT_DONE) {
        assert_int_equal(event->token_end, slot->max_tokens);
        l->done++;
    } else {
        assert_int_equal(event->status, SL_ECANCELLED);
        l->cancelled++;
    }
    sl_mailbox_give_slot(&l->r.box, slot);
}

static void the_loop_and_the_engine_share_only_the_mailbox(void **state)
{
    static loop l;
    rig_options o = rig_defaults();
    sl_event_message event;
    (void)state;

    o.slots = SLOTS;
    o.exec.plane_count = 16 * 24;
    l.rng.seed = 5;
    rig_open(&l.r, &o);
    sl_wake_init(&l.wake);
    l.r.box.wake_loop = post;
    l.r.box.loop_user = &l.wake;
    assert_int_equal(sl_engine_start(l.r.engine), SL_OK);
    while (l.ended < REQUESTS) {
        bool any = false;

        while (l.sent < REQUESTS && l.r.box.free_count > 0)
            send(&l);
        while (sl_mailbox_next_event(&l.r.box, &event)) {
            take(&l, &event);
            any = true;
        }
        (void)atomic_load(&rig_stats(&l.r)->progress); /* anyone may read them */
        if (!any)
            assert_true(sl_wake_wait(&l.wake, 20000000));
    }
    assert_true(l.done > REQUESTS / 2);
    assert_true(l.cancelled > 0);

    sl_mailbox_shutdown(&l.r.box);
    sl_engine_join(l.r.engine);
    assert_int_equal(rig_planes_held(&l.r), 0);
    assert_int_equal(atomic_load(&rig_stats(&l.r)->requests_done), l.done);
    rig_close(&l.r);
}

static void shutdown_in_the_middle_ends_every_slot(void **state)
{
    (void)state;

    for (int round = 0; round < 20; round++) {
        static loop l;
        rig_options o = rig_defaults();
        sl_event_message event;
        uint32_t ends = 0;

        l = (loop){.rng = {.seed = 100 + round}};
        o.slots = SLOTS;
        rig_open(&l.r, &o);
        assert_int_equal(sl_engine_start(l.r.engine), SL_OK);
        for (int i = 0; i < SLOTS; i++)
            send(&l);
        sl_mailbox_shutdown(&l.r.box);
        sl_engine_join(l.r.engine);
        while (sl_mailbox_next_event(&l.r.box, &event)) {
            if (event.kind == SL_EVENT_TOKENS)
                continue;
            ends++;
            sl_mailbox_give_slot(&l.r.box, sl_mailbox_find(&l.r.box, event.slot));
        }
        assert_int_equal(ends, SLOTS);
        rig_close(&l.r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_loop_and_the_engine_share_only_the_mailbox),
        cmocka_unit_test(shutdown_in_the_middle_ends_every_slot),
    };
    return cmocka_run_group_tests_name("engine/engine_threads", tests, NULL, NULL);
}
