/* tests/kvcache/test_plane_pool.c
 *
 * Goal: the pool hands every plane out once, all or nothing, and in a fixed order.
 * Method: a naive array of marks beside it, under random takes and gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "kvcache/plane_pool.h"

static void a_count_out_of_range_is_refused(void **state)
{
    sl_plane_pool *pool = NULL;
    (void)state;

    assert_int_equal(sl_plane_pool_create(0, &pool), SL_EINVAL);
    assert_int_equal(sl_plane_pool_create((1u << 24) + 1, &pool), SL_EINVAL);
    assert_null(pool);
    sl_plane_pool_destroy(NULL);
}

static void every_failed_allocation_is_reported(void **state)
{
    sl_plane_pool *pool = NULL;
    uint64_t n = 1;
    (void)state;

    for (;; n++) {
        sl_status status;

        sl_alloc_fail_at(n);
        status = sl_plane_pool_create(7, &pool);
        sl_alloc_fail_at(0);
        if (status == SL_OK)
            break;
        assert_int_equal(status, SL_ENOMEM);
        assert_null(pool);
    }
    assert_true(n > 3);
    sl_plane_pool_destroy(pool);
}

static void planes_come_in_order_and_the_last_given_comes_first(void **state)
{
    sl_plane_pool *pool = NULL;
    uint32_t id[5];
    (void)state;

    assert_int_equal(sl_plane_pool_create(5, &pool), SL_OK);
    assert_int_equal(sl_plane_pool_take(pool, 4, id), SL_OK);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(id[i], i);
    sl_plane_pool_give(pool, 2, id + 1);
    assert_int_equal(sl_plane_pool_free(pool), 3);
    assert_int_equal(sl_plane_pool_take(pool, 3, id), SL_OK);
    assert_int_equal(id[0], 1);
    assert_int_equal(id[1], 2);
    assert_int_equal(id[2], 4);
    sl_plane_pool_check(pool);
    sl_plane_pool_destroy(pool);
}

static void too_many_take_nothing(void **state)
{
    sl_plane_pool *pool = NULL;
    uint32_t id[4] = {77, 77, 77, 77};
    (void)state;

    assert_int_equal(sl_plane_pool_create(3, &pool), SL_OK);
    assert_int_equal(sl_plane_pool_take(pool, 4, id), SL_EFULL);
    assert_int_equal(id[0], 77);
    assert_int_equal(sl_plane_pool_free(pool), 3);
    assert_int_equal(sl_plane_pool_take(pool, 0, id), SL_OK);
    assert_int_equal(sl_plane_pool_take(pool, 3, id), SL_OK);
    assert_int_equal(sl_plane_pool_free(pool), 0);
    assert_int_equal(sl_plane_pool_take(pool, 1, id), SL_EFULL);
    assert_int_equal(sl_plane_pool_total(pool), 3);
    sl_plane_pool_destroy(pool);
}

static void random_takes_and_gives_agree_with_marks(void **state)
{
    enum { COUNT = 100, ROUNDS = 5000 };
    sl_rng rng = {.seed = 20260117};
    sl_plane_pool *pool = NULL;
    uint32_t held[COUNT], held_count = 0;
    bool mark[COUNT] = {false};
    (void)state;

    assert_int_equal(sl_plane_pool_create(COUNT, &pool), SL_OK);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const uint32_t n = (uint32_t)sl_rng_below(&rng, 12);

        if (sl_rng_below(&rng, 2) == 0) {
            const sl_status status = sl_plane_pool_take(pool, n, held + held_count);

            assert_int_equal(status, n <= COUNT - held_count ? SL_OK : SL_EFULL);
            for (uint32_t i = 0; status == SL_OK && i < n; i++) {
                assert_false(mark[held[held_count]]);
                mark[held[held_count++]] = true;
            }
        } else if (n <= held_count) {
            held_count -= n;
            for (uint32_t i = 0; i < n; i++)
                mark[held[held_count + i]] = false;
            sl_plane_pool_give(pool, n, held + held_count);
        }
        assert_int_equal(sl_plane_pool_free(pool), COUNT - held_count);
        for (uint32_t id = 0; id < COUNT; id++)
            assert_int_equal(sl_plane_pool_is_taken(pool, id), mark[id]);
        sl_plane_pool_check(pool);
    }
    sl_plane_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_count_out_of_range_is_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(planes_come_in_order_and_the_last_given_comes_first),
        cmocka_unit_test(too_many_take_nothing),
        cmocka_unit_test(random_takes_and_gives_agree_with_marks),
    };
    return cmocka_run_group_tests_name("kvcache/plane_pool", tests, NULL, NULL);
}
