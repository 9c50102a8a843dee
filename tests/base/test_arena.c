/* tests/base/test_arena.c
 *
 * Goal: memory of an arena is zeroed, aligned, distinct, limited, and reused after a reset.
 * Method: direct calls; a pattern in each allocation is found whole at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/rng.h"

static bool is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void allocations_are_zeroed_aligned_and_apart(void **state)
{
    enum { COUNT = 300 };
    sl_rng rng = {.seed = 1};
    uint8_t *p[COUNT];
    size_t bytes[COUNT];
    sl_arena arena;
    (void)state;

    sl_arena_init(&arena, 64 << 20);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++) {
            bytes[i] = (size_t)sl_rng_below(&rng, i % 50 == 0 ? 60000 : 300);
            p[i] = sl_arena_alloc(&arena, bytes[i], 1);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % 16, 0);
            assert_true(is_zero(p[i], bytes[i]));
            memset(p[i], i % 255 + 1, bytes[i]);
        }
        for (int i = 0; i < COUNT; i++)
            for (size_t k = 0; k < bytes[i]; k++)
                assert_int_equal(p[i][k], i % 255 + 1);
        sl_arena_reset(&arena);
        assert_int_equal(arena.used_bytes, 0);
    }
    sl_arena_done(&arena);
    sl_arena_done(&arena);
}

static void the_limit_holds_exactly(void **state)
{
    sl_arena arena;
    (void)state;

    sl_arena_init(&arena, 160);
    assert_non_null(sl_arena_alloc(&arena, 9, 16));
    assert_null(sl_arena_alloc(&arena, 17, 1));
    assert_non_null(sl_arena_alloc(&arena, 16, 1));
    assert_null(sl_arena_alloc(&arena, 1, 1));
    assert_int_equal(arena.used_bytes, 160);
    sl_arena_reset(&arena);
    assert_non_null(sl_arena_alloc(&arena, 160, 1));
    sl_arena_done(&arena);
}

static void overflow_and_lack_of_memory_are_null(void **state)
{
    sl_arena arena;
    (void)state;

    sl_arena_init(&arena, SIZE_MAX);
    assert_null(sl_arena_alloc(&arena, SIZE_MAX, 2));
    assert_null(sl_arena_alloc(&arena, SIZE_MAX, 1));
    assert_null(sl_arena_alloc(&arena, SIZE_MAX - 15, 1));
    assert_null(sl_arena_strndup(&arena, "x", SIZE_MAX));
    sl_alloc_fail_at(1);
    assert_null(sl_arena_alloc(&arena, 1, 1));
    sl_alloc_fail_at(0);
    assert_int_equal(arena.used_bytes, 0);
    assert_non_null(sl_arena_alloc(&arena, 1, 1));
    sl_arena_done(&arena);
}

static void text_is_copied(void **state)
{
    sl_arena arena = {.limit_bytes = 1000};
    (void)state;

    assert_string_equal(sl_arena_strndup(&arena, "hello", 4), "hell");
    assert_string_equal(sl_arena_strndup(&arena, NULL, 0), "");
    sl_arena_done(&arena);
}

/* The block that is kept is zeroed again, as far as it was used. */
static void a_reset_forgets_what_was_written(void **state)
{
    sl_arena arena;
    uint8_t *p;
    (void)state;

    sl_arena_init(&arena, 1 << 20);
    p = sl_arena_alloc(&arena, 5000, 1);
    memset(p, 0xFF, 5000);
    sl_arena_reset(&arena);
    sl_alloc_fail_at(1); /* the kept block is used: no allocation */
    p = sl_arena_alloc(&arena, 8000, 1);
    sl_alloc_fail_at(0);
    assert_non_null(p);
    assert_true(is_zero(p, 8000));
    /* A large block is not kept. */
    assert_non_null(sl_arena_alloc(&arena, 500000, 1));
    sl_arena_reset(&arena);
    assert_null(arena.block);
    sl_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_zeroed_aligned_and_apart),
        cmocka_unit_test(the_limit_holds_exactly),
        cmocka_unit_test(overflow_and_lack_of_memory_are_null),
        cmocka_unit_test(text_is_copied),
        cmocka_unit_test(a_reset_forgets_what_was_written),
    };
    return cmocka_run_group_tests_name("base/arena", tests, NULL, NULL);
}
