/* tests/engine/test_mailbox.c
 *
 * Goal: slots change hands as the states say, stale handles are found out, and no last message is
 * ever lost, however slow the loop is.
 * Method: both ends on one thread; then two threads that hand thousands of slots to and fro. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/threads.h"
#include "engine/mailbox.h"

enum { ARENA_BYTES = 1 << 16 };

static void count_wake(void *user)
{
    ++*(unsigned *)user;
}

static void slot_counts_out_of_range_are_refused(void **state)
{
    sl_mailbox box;
    (void)state;

    assert_int_equal(sl_mailbox_init(&box, 0, ARENA_BYTES), SL_EINVAL);
    assert_int_equal(sl_mailbox_init(&box, (1 << 16) + 1, ARENA_BYTES), SL_EINVAL);
    assert_int_equal(sl_mailbox_init(&box, 1 << 16, ARENA_BYTES), SL_OK);
    assert_int_equal(box.free_count, 1 << 16);
    sl_mailbox_done(&box);
}

static void every_failed_allocation_is_reported(void **state)
{
    sl_status status = SL_ENOMEM;
    uint64_t n = 0;
    (void)state;

    while (status != SL_OK) {
        sl_mailbox box;

        sl_alloc_fail_at(++n);
        status = sl_mailbox_init(&box, 3, ARENA_BYTES);
        sl_alloc_fail_at(0);
        if (status == SL_OK)
            sl_mailbox_done(&box);
        else
            assert_int_equal(status, SL_ENOMEM);
    }
    assert_true(n > 4); /* table, free list, two rings */
}

static void all_slots_can_be_taken_and_not_one_more(void **state)
{
    sl_mailbox box;
    sl_slot *slot[3];
    (void)state;

    assert_int_equal(sl_mailbox_init(&box, 3, ARENA_BYTES), SL_OK);
    for (int i = 0; i < 3; i++) {
        slot[i] = sl_mailbox_take_slot(&box);
        assert_non_null(slot[i]);
        assert_int_equal(slot[i]->state, SL_SLOT_FILLING);
        assert_int_equal(slot[i]->fork_of.index, SL_SLOT_NONE);
        assert_int_equal(slot[i]->stop_token, UINT32_MAX);
        assert_int_equal(slot[i]->prompt_count, 0);
        assert_false(atomic_load(&slot[i]->cancelled));
    }
    assert_null(sl_mailbox_take_slot(&box));
    sl_mailbox_give_slot(&box, slot[1]);
    assert_ptr_equal(sl_mailbox_take_slot(&box), slot[1]);
    sl_mailbox_done(&box);
}

static void a_given_slot_makes_its_handles_stale_and_empties_its_arena(void **state)
{
    sl_mailbox box;
    sl_slot_handle handle;
    sl_slot *slot;
    (void)state;

    assert_int_equal(sl_mailbox_init(&box, 2, ARENA_BYTES), SL_OK);
    slot = sl_mailbox_take_slot(&box);
    handle = sl_mailbox_handle(&box, slot);
    assert_ptr_equal(sl_mailbox_find(&box, handle), slot);
    assert_non_null(sl_arena_alloc(&slot->arena, 100, 1));
    assert_null(sl_arena_alloc(&slot->arena, ARENA_BYTES, 1)); /* over the limit */
    atomic_store(&slot->cancelled, true);
    sl_mailbox_give_slot(&box, slot);

    assert_null(sl_mailbox_find(&box, handle));
    assert_null(sl_mailbox_find(&box, (sl_slot_handle){.index = 2}));
    assert_null(sl_mailbox_find(&box, (sl_slot_handle){.index = SL_SLOT_NONE}));
    slot = sl_mailbox_take_slot(&box);
    assert_int_equal(slot->arena.used_bytes, 0);
    assert_false(atomic_load(&slot->cancelled));
    sl_mailbox_done(&box);
}

static void a_slot_goes_round_once(void **state)
{
    sl_mailbox box;
    sl_submit_message submitted;
    sl_event_message event;
    unsigned engine_wakes = 0, loop_wakes = 0;
    sl_slot *slot;
    (void)state;

    assert_int_equal(sl_mailbox_init(&box, 1, ARENA_BYTES), SL_OK);
    box.wake_engine = count_wake;
    box.engine_user = &engine_wakes;
    box.wake_loop = count_wake;
    box.loop_user = &loop_wakes;
    slot = sl_mailbox_take_slot(&box);

    assert_false(sl_mailbox_next_submit(&box, &submitted));
    assert_int_equal(sl_mailbox_submit(&box, slot), SL_OK);
    assert_int_equal(slot->state, SL_SLOT_RUNNING);
    assert_int_equal(engine_wakes, 1);
    assert_true(sl_mailbox_next_submit(&box, &submitted));
    assert_int_equal(submitted.kind, SL_SUBMIT_SLOT);
    assert_ptr_equal(sl_mailbox_find(&box, submitted.slot), slot);

    assert_true(sl_mailbox_push_tokens(&box, submitted.slot, 3));
    sl_mailbox_push_end(&box, &(sl_event_message){.kind = SL_EVENT_DONE,
                                                  .slot = submitted.slot,
                                                  .token_end = 4,
                                                  .finish = SL_FINISH_STOP});
    sl_mailbox_wake_loop(&box);
    assert_int_equal(loop_wakes, 1);
    assert_true(sl_mailbox_next_event(&box, &event));
    assert_int_equal(event.kind, SL_EVENT_TOKENS);
    assert_int_equal(event.token_end, 3);
    assert_int_equal(slot->state, SL_SLOT_RUNNING);
    assert_true(sl_mailbox_next_event(&box, &event));
    assert_int_equal(event.kind, SL_EVENT_DONE);
    assert_int_equal(event.token_end, 4);
    assert_int_equal(event.finish, SL_FINISH_STOP);
    assert_int_equal(slot->state, SL_SLOT_DRAINING);
    assert_false(sl_mailbox_next_event(&box, &event));
    sl_mailbox_give_slot(&box, slot);
    sl_mailbox_done(&box);
}

static void all_slots_and_the_shutdown_fit_into_submit(void **state)
{
    enum { SLOTS = 64 };
    sl_mailbox box;
    sl_submit_message submitted;
    sl_slot *late;
    (void)state;

    assert_int_equal(sl_mailbox_init(&box, SLOTS, ARENA_BYTES), SL_OK);
    for (int i = 0; i < SLOTS - 1; i++)
        assert_int_equal(sl_mailbox_submit(&box, sl_mailbox_take_slot(&box)), SL_OK);
    late = sl_mailbox_take_slot(&box);
    sl_mailbox_shutdown(&box);
    sl_mailbox_shutdown(&box); /* says nothing new */
    assert_int_equal(sl_mailbox_submit(&box, late), SL_EUNAVAILABLE);
    assert_int_equal(late->state, SL_SLOT_FILLING);
    for (int i = 0; i < SLOTS - 1; i++) {
        assert_true(sl_mailbox_next_submit(&box, &submitted));
        assert_int_equal(submitted.kind, SL_SUBMIT_SLOT);
    }
    assert_true(sl_mailbox_next_submit(&box, &submitted));
    assert_int_equal(submitted.kind, SL_SUBMIT_SHUTDOWN);
    assert_false(sl_mailbox_next_submit(&box, &submitted));
    sl_mailbox_done(&box);
}

static void tokens_are_refused_while_the_loop_is_behind_but_ends_never(void **state)
{
    enum { SLOTS = 5 };
    sl_mailbox box;
    sl_event_message event;
    sl_slot_handle handle[SLOTS];
    uint32_t refused = 0, ends = 0, last_end = 0;
    (void)state;

    assert_int_equal(sl_mailbox_init(&box, SLOTS, ARENA_BYTES), SL_OK);
    for (int i = 0; i < SLOTS; i++) {
        sl_slot *slot = sl_mailbox_take_slot(&box);

        handle[i] = sl_mailbox_handle(&box, slot);
        assert_int_equal(sl_mailbox_submit(&box, slot), SL_OK);
    }
    for (uint32_t i = 0; i < 1000; i++)
        refused += !sl_mailbox_push_tokens(&box, handle[i % SLOTS], i);
    assert_true(refused > 0);
    assert_true(refused < 1000);
    for (int i = 0; i < SLOTS; i++)
        sl_mailbox_push_end(&box, &(sl_event_message){.kind = SL_EVENT_FAILED,
                                                      .slot = handle[i],
                                                      .token_end = 2000,
                                                      .status = SL_EINTERNAL});
    while (sl_mailbox_next_event(&box, &event)) {
        if (event.kind == SL_EVENT_TOKENS)
            continue;
        ends++;
        last_end = event.token_end;
        assert_int_equal(event.status, SL_EINTERNAL);
    }
    assert_int_equal(ends, SLOTS);
    assert_int_equal(last_end, 2000);
    /* There is room again. */
    assert_true(sl_mailbox_push_tokens(&box, handle[0], 1));
    sl_mailbox_done(&box);
}

/* --- two threads ------------------------------------------------------------------------- */

typedef struct echo {
    sl_mailbox box;
    sl_wake engine_wake;
    sl_wake loop_wake;
} echo;

static void post(void *wake)
{
    sl_wake_post(wake);
}

/* An engine that answers each slot at once with max_tokens copies of its first prompt token. */
static void echo_main(void *arg)
{
    echo *e = arg;
    bool ending = false;

    while (!ending) {
        sl_submit_message message;

        while (sl_mailbox_next_submit(&e->box, &message)) {
            sl_slot *slot;

            if (message.kind == SL_SUBMIT_SHUTDOWN) {
                ending = true;
                continue;
            }
            slot = sl_mailbox_find(&e->box, message.slot);
            for (uint32_t i = 0; i < slot->max_tokens; i++) {
                slot->out_token[i] = slot->prompt[0];
                (void)!sl_mailbox_push_tokens(&e->box, message.slot, i + 1);
            }
            sl_mailbox_push_end(&e->box, &(sl_event_message){.kind = SL_EVENT_DONE,
                                                             .slot = message.slot,
                                                             .token_end = slot->max_tokens});
        }
        sl_mailbox_wake_loop(&e->box);
        if (!ending)
            (void)sl_wake_wait(&e->engine_wake, UINT64_MAX);
    }
}

static void submit_echo(echo *e, uint32_t n)
{
    sl_slot *slot = sl_mailbox_take_slot(&e->box);
    uint32_t *prompt;

    assert_non_null(slot);
    prompt = sl_arena_alloc(&slot->arena, 1, sizeof(*prompt));
    *prompt = n;
    slot->prompt = prompt;
    slot->prompt_count = 1;
    slot->max_tokens = 1 + n % 7;
    slot->out_token = sl_arena_alloc(&slot->arena, slot->max_tokens, sizeof(*slot->out_token));
    assert_int_equal(sl_mailbox_submit(&e->box, slot), SL_OK);
}

static bool drain_echo(echo *e, uint32_t *ended)
{
    sl_event_message event;
    bool any = false;

    while (sl_mailbox_next_event(&e->box, &event)) {
        sl_slot *slot = sl_mailbox_find(&e->box, event.slot);

        any = true;
        for (uint32_t i = 0; i < event.token_end; i++)
            assert_int_equal(slot->out_token[i], slot->prompt[0]);
        if (event.kind != SL_EVENT_TOKENS) {
            assert_int_equal(event.token_end, slot->max_tokens);
            sl_mailbox_give_slot(&e->box, slot);
            ++*ended;
        }
    }
    return any;
}

static void two_threads_hand_thousands_of_slots_to_and_fro(void **state)
{
    enum { SLOTS = 16, REQUESTS = 20000 };
    static echo e;
    sl_thread thread = {0};
    uint32_t sent = 0, ended = 0;
    (void)state;

    assert_int_equal(sl_mailbox_init(&e.box, SLOTS, ARENA_BYTES), SL_OK);
    sl_wake_init(&e.engine_wake);
    sl_wake_init(&e.loop_wake);
    e.box.wake_engine = post;
    e.box.engine_user = &e.engine_wake;
    e.box.wake_loop = post;
    e.box.loop_user = &e.loop_wake;
    assert_int_equal(sl_thread_start(&thread, "echo", -1, echo_main, &e), SL_OK);

    while (ended < REQUESTS) {
        while (sent < REQUESTS && e.box.free_count > 0)
            submit_echo(&e, sent++);
        if (!drain_echo(&e, &ended))
            (void)sl_wake_wait(&e.loop_wake, 1000000);
    }
    sl_mailbox_shutdown(&e.box);
    sl_thread_join(&thread);
    assert_int_equal(e.box.free_count, SLOTS);
    sl_mailbox_done(&e.box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slot_counts_out_of_range_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(all_slots_can_be_taken_and_not_one_more),
        cmocka_unit_test(a_given_slot_makes_its_handles_stale_and_empties_its_arena),
        cmocka_unit_test(a_slot_goes_round_once),
        cmocka_unit_test(all_slots_and_the_shutdown_fit_into_submit),
        cmocka_unit_test(tokens_are_refused_while_the_loop_is_behind_but_ends_never),
        cmocka_unit_test(two_threads_hand_thousands_of_slots_to_and_fro),
    };
    return cmocka_run_group_tests_name("engine/mailbox", tests, NULL, NULL);
}
