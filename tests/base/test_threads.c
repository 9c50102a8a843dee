/* tests/base/test_threads.c
 *
 * Goal: threads start, run and end; a wake-up is never lost and coalesces; time-outs end.
 * Method: a ping-pong of two wakes that would stop for ever at the first lost one. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/threads.h"

typedef struct seen {
    int value;
    char name[17];
    bool term_blocked;
} seen;

static void look_around(void *arg)
{
    seen *s = arg;
    sigset_t set;

    s->value++;
    prctl(PR_GET_NAME, s->name);
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    s->term_blocked = sigismember(&set, SIGTERM) == 1;
}

static void a_thread_runs_with_its_name_and_without_signals(void **state)
{
    sl_thread thread = {.running = false};
    seen s = {.value = 0};
    (void)state;

    sl_thread_join(&thread); /* never started: fine */
    for (int cpu = -1; cpu < 1; cpu++) {
        assert_int_equal(sl_thread_start(&thread, "a name far too long", cpu, look_around, &s),
                         SL_OK);
        assert_true(thread.running);
        sl_thread_join(&thread);
        assert_false(thread.running);
        sl_thread_join(&thread);
    }
    assert_int_equal(s.value, 2);
    assert_string_equal(s.name, "a name far too ");
    assert_true(s.term_blocked);
    assert_int_equal(sl_thread_start(&thread, "x", 100000, look_around, &s), SL_OK);
    sl_thread_join(&thread); /* no such core: advice, ignored */
    assert_int_equal(s.value, 3);
    sl_alloc_fail_at(1);
    assert_int_equal(sl_thread_start(&thread, "x", -1, look_around, &s), SL_ENOMEM);
    sl_alloc_fail_at(0);
    assert_false(thread.running);
}

static void posts_coalesce_and_are_consumed_by_one_wait(void **state)
{
    sl_wake wake;
    (void)state;

    sl_wake_init(&wake);
    assert_false(sl_wake_wait(&wake, 0));
    sl_wake_post(&wake);
    sl_wake_post(&wake);
    assert_true(sl_wake_wait(&wake, 0));
    assert_false(sl_wake_wait(&wake, 0));
    sl_wake_post(&wake);
    assert_true(sl_wake_wait(&wake, UINT64_MAX));
}

static void a_wait_ends_when_its_time_is_over(void **state)
{
    sl_wake wake;
    uint64_t start_us;
    (void)state;

    sl_wake_init(&wake);
    start_us = sl_clock_us();
    assert_false(sl_wake_wait(&wake, 20000));
    assert_true(sl_clock_us() - start_us >= 20000);
    sl_wake_post(&wake);
    assert_true(sl_wake_wait(&wake, 20000));
}

enum { TURNS = 20000 };

typedef struct table {
    sl_wake ping, pong;
    uint32_t ball; /* written by turns: the wakes order it */
    uint64_t timeout_us;
} table;

static void play(void *arg)
{
    table *t = arg;

    for (uint32_t i = 0; i < TURNS; i++) {
        while (!sl_wake_wait(&t->ping, t->timeout_us))
            continue;
        t->ball++;
        sl_wake_post(&t->pong);
    }
}

static void ping_pong(uint64_t timeout_us)
{
    table t = {.timeout_us = timeout_us};
    sl_thread thread = {.running = false};

    sl_wake_init(&t.ping);
    sl_wake_init(&t.pong);
    assert_int_equal(sl_thread_start(&thread, "pong", -1, play, &t), SL_OK);
    for (uint32_t i = 0; i < TURNS; i++) {
        t.ball++;
        sl_wake_post(&t.ping);
        while (!sl_wake_wait(&t.pong, timeout_us))
            continue;
        assert_int_equal(t.ball, 2 * (i + 1));
    }
    sl_thread_join(&thread);
}

static void no_wake_up_is_lost_between_two_threads(void **state)
{
    (void)state;

    ping_pong(UINT64_MAX);
    ping_pong(50); /* posts meet time-outs */
}

static void there_are_cores(void **state)
{
    const uint32_t count = sl_cpu_count();
    (void)state;

    assert_true(count >= 1);
    assert_true(sl_cpu_id(0) >= 0);
    for (uint32_t i = 1; i < count; i++)
        assert_true(sl_cpu_id(i) > sl_cpu_id(i - 1));
    assert_int_equal(sl_cpu_id(1000000), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_runs_with_its_name_and_without_signals),
        cmocka_unit_test(posts_coalesce_and_are_consumed_by_one_wait),
        cmocka_unit_test(a_wait_ends_when_its_time_is_over),
        cmocka_unit_test(no_wake_up_is_lost_between_two_threads),
        cmocka_unit_test(there_are_cores),
    };
    return cmocka_run_group_tests_name("base/threads", tests, NULL, NULL);
}
