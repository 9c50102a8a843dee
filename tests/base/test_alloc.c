/* tests/base/test_alloc.c
 *
 * Goal: sizes that overflow fail, the N-th allocation fails on demand, pages are aligned and
 * zeroed. Method: direct calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"

static void sums_and_products_that_overflow_are_refused(void **state)
{
    size_t out = 7;
    (void)state;

    assert_true(sl_mul_size(0, SIZE_MAX, &out));
    assert_int_equal(out, 0);
    assert_true(sl_mul_size(SIZE_MAX / 2, 2, &out));
    assert_true(out == SIZE_MAX - 1);
    assert_false(sl_mul_size(SIZE_MAX / 2 + 1, 2, &out));
    assert_true(out == SIZE_MAX - 1); /* untouched */
    assert_true(sl_add_size(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    out = 7;
    assert_false(sl_add_size(SIZE_MAX, 1, &out));
    assert_int_equal(out, 7);
}

static void memory_is_zeroed_and_zero_bytes_are_a_pointer(void **state)
{
    static const uint8_t zero[1000];
    uint8_t *p = sl_alloc(10, 100);
    void *none = sl_alloc(0, 100);
    (void)state;

    assert_non_null(p);
    assert_memory_equal(p, zero, 1000);
    assert_non_null(none);
    sl_free(p);
    sl_free(none);
    sl_free(NULL);
    assert_null(sl_alloc(SIZE_MAX / 2, 4));
    p = sl_xalloc(3, 1);
    assert_memory_equal(p, zero, 3);
    sl_free(p);
}

static void a_block_grows_and_survives_a_refusal(void **state)
{
    char *p = sl_realloc(NULL, 4, 1), *more;
    (void)state;

    assert_non_null(p);
    memcpy(p, "abc", 4);
    assert_null(sl_realloc(p, SIZE_MAX, 2));
    assert_string_equal(p, "abc");
    more = sl_realloc(p, 100000, 1);
    assert_non_null(more);
    assert_string_equal(more, "abc");
    sl_free(more);
}

static void text_is_copied_with_its_end(void **state)
{
    char *p = sl_strndup("hello", 3);
    (void)state;

    assert_string_equal(p, "hel");
    sl_free(p);
    p = sl_strndup(NULL, 0);
    assert_string_equal(p, "");
    sl_free(p);
    assert_null(sl_strndup("x", SIZE_MAX));
}

static void the_nth_allocation_fails_once(void **state)
{
    void *p[3];
    (void)state;

    sl_alloc_fail_at(2);
    for (int i = 0; i < 3; i++)
        p[i] = sl_alloc(1, 1);
    assert_int_equal(sl_alloc_fail_at(0), 3);
    assert_non_null(p[0]);
    assert_null(p[1]);
    assert_non_null(p[2]);
    sl_free(p[0]);
    sl_free(p[2]);

    sl_alloc_fail_at(1);
    assert_null(sl_realloc(NULL, 1, 1));
    sl_alloc_fail_at(1);
    assert_null(sl_strndup("a", 1));
    sl_alloc_fail_at(1);
    assert_null(sl_alloc_pages(4096));
    sl_alloc_fail_at(0);
    p[0] = sl_alloc(1, 1);
    assert_non_null(p[0]);
    sl_free(p[0]);
}

static void pages_are_aligned_zeroed_and_writable_to_the_end(void **state)
{
    static const size_t sizes[] = {1, 4096, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 5 << 20};
    (void)state;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *p = sl_alloc_pages(sizes[i]);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (2 << 20), 0);
        assert_int_equal(p[0], 0);
        assert_int_equal(p[sizes[i] - 1], 0);
        p[0] = p[sizes[i] - 1] = 1;
        sl_free_pages(p, sizes[i]);
    }
    sl_free_pages(NULL, 5);
    assert_null(sl_alloc_pages(0));
    assert_null(sl_alloc_pages(SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_and_products_that_overflow_are_refused),
        cmocka_unit_test(memory_is_zeroed_and_zero_bytes_are_a_pointer),
        cmocka_unit_test(a_block_grows_and_survives_a_refusal),
        cmocka_unit_test(text_is_copied_with_its_end),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(pages_are_aligned_zeroed_and_writable_to_the_end),
    };
    return cmocka_run_group_tests_name("base/alloc", tests, NULL, NULL);
}
