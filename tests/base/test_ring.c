/* tests/base/test_ring.c
 *
 * Goal: messages come out whole, once, in order; full and empty are answers.
 * Method: alone against counts; then a producer and a consumer thread with many messages whose
 * words must agree (run it with the thread sanitizer too). */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/ring.h"
#include "base/threads.h"

static void bad_arguments_and_lack_of_memory_are_reported(void **state)
{
    sl_ring ring = {.data = NULL};
    (void)state;

    assert_int_equal(sl_ring_init(&ring, 0, 4), SL_EINVAL);
    assert_int_equal(sl_ring_init(&ring, (1 << 20) + 1, 4), SL_EINVAL);
    assert_int_equal(sl_ring_init(&ring, 4, 0), SL_EINVAL);
    sl_alloc_fail_at(1);
    assert_int_equal(sl_ring_init(&ring, 4, 4), SL_ENOMEM);
    sl_alloc_fail_at(0);
    assert_null(ring.data);
    sl_ring_done(&ring);
}

static void a_ring_of_every_small_capacity_fills_and_drains(void **state)
{
    (void)state;

    for (size_t capacity = 1; capacity < 20; capacity++) {
        uint32_t next_in = 0, next_out = 0, value = 0;
        sl_ring ring;

        assert_int_equal(sl_ring_init(&ring, capacity, sizeof(value)), SL_OK);
        assert_true(ring.capacity >= capacity && ring.capacity < 2 * capacity);
        for (int round = 0; round < 50; round++) {
            assert_true(sl_ring_empty(&ring));
            assert_false(sl_ring_pop(&ring, &value));
            for (size_t i = 0; i < ring.capacity; i++) {
                assert_int_equal(sl_ring_push(&ring, &next_in), SL_OK);
                next_in++;
            }
            assert_int_equal(sl_ring_push(&ring, &next_in), SL_EFULL);
            for (size_t i = 0; i < ring.capacity - (size_t)round % 2; i++) {
                assert_true(sl_ring_pop(&ring, &value));
                assert_int_equal(value, next_out++);
            }
            while (sl_ring_pop(&ring, &value))
                assert_int_equal(value, next_out++);
        }
        assert_int_equal(next_in, next_out);
        sl_ring_done(&ring);
    }
}

enum { MESSAGES = 300000, WORDS = 5 };

typedef struct message {
    uint64_t word[WORDS];
} message;

static void produce(void *arg)
{
    sl_ring *ring = arg;

    for (uint64_t i = 0; i < MESSAGES; i++) {
        message m;

        for (uint64_t k = 0; k < WORDS; k++)
            m.word[k] = i * WORDS + k;
        while (sl_ring_push(ring, &m) != SL_OK)
            sched_yield();
    }
}

static void two_threads_exchange_whole_messages_in_order(void **state)
{
    sl_thread thread = {.running = false};
    uint64_t wrong = 0;
    sl_ring ring;
    (void)state;

    assert_int_equal(sl_ring_init(&ring, 64, sizeof(message)), SL_OK);
    assert_int_equal(sl_thread_start(&thread, "producer", -1, produce, &ring), SL_OK);
    for (uint64_t i = 0; i < MESSAGES; i++) {
        message m;

        while (!sl_ring_pop(&ring, &m))
            sched_yield();
        for (uint64_t k = 0; k < WORDS; k++)
            wrong += m.word[k] != i * WORDS + k;
    }
    sl_thread_join(&thread);
    assert_int_equal(wrong, 0);
    assert_true(sl_ring_empty(&ring));
    sl_ring_done(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_arguments_and_lack_of_memory_are_reported),
        cmocka_unit_test(a_ring_of_every_small_capacity_fills_and_drains),
        cmocka_unit_test(two_threads_exchange_whole_messages_in_order),
    };
    return cmocka_run_group_tests_name("base/ring", tests, NULL, NULL);
}
