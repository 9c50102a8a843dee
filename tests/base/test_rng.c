/* tests/base/test_rng.c
 *
 * Goal: numbers depend on their arguments only, are uniform, and never change between versions.
 * Method: fixed vectors (SplitMix64's published sequence for seed 0), counts in buckets. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

static void mix64_is_splitmix64(void **state)
{
    (void)state;

    /* The generator adds the golden gamma at each call: its n-th output is mix64(n * gamma). */
    assert_true(sl_mix64(0) == 0xE220A8397B1DCDAFu);
    assert_true(sl_mix64(0x9E3779B97F4A7C15u) == 0x6E789E6AA1B965F4u);
    assert_true(sl_mix64(2 * 0x9E3779B97F4A7C15u) == 0x06C45D188009454Fu);
}

static void pairs_differ_in_both_arguments_and_in_order(void **state)
{
    (void)state;

    for (uint64_t a = 0; a < 60; a++)
        for (uint64_t b = 0; b < 60; b++) {
            const uint64_t h = sl_mix64_pair(a, b);

            assert_true(h == sl_mix64_pair(a, b));
            assert_true(h != sl_mix64_pair(a, b + 1));
            assert_true(h != sl_mix64_pair(a + 1, b));
            assert_true(a == b || h != sl_mix64_pair(b, a));
        }
}

static void units_are_uniform_below_one(void **state)
{
    enum { DRAWS = 100000, BUCKETS = 50 };
    uint32_t count[BUCKETS] = {0};
    double sum = 0.0;
    (void)state;

    for (uint64_t n = 0; n < DRAWS; n++) {
        const double u = sl_rng_unit(99, n);

        assert_true(u >= 0.0 && u < 1.0);
        sum += u;
        count[(uint32_t)(u * BUCKETS)]++;
    }
    assert_true(fabs(sum / DRAWS - 0.5) < 0.005);
    for (uint32_t i = 0; i < BUCKETS; i++)
        assert_in_range(count[i], DRAWS / BUCKETS - 270, DRAWS / BUCKETS + 270); /* 6 sigma */
}

static void below_stays_below_and_meets_every_value(void **state)
{
    sl_rng rng = {.seed = 5}, again = {.seed = 5};
    uint32_t count[7] = {0};
    (void)state;

    for (int i = 0; i < 7000; i++) {
        const uint64_t x = sl_rng_below(&rng, 7);

        assert_true(x < 7);
        assert_true(x == sl_rng_below(&again, 7));
        count[x]++;
    }
    for (int i = 0; i < 7; i++)
        assert_in_range(count[i], 820, 1180);
    assert_true(sl_rng_below(&rng, 1) == 0);
    assert_true(sl_rng_below(&rng, UINT64_MAX) < UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mix64_is_splitmix64),
        cmocka_unit_test(pairs_differ_in_both_arguments_and_in_order),
        cmocka_unit_test(units_are_uniform_below_one),
        cmocka_unit_test(below_stays_below_and_meets_every_value),
    };
    return cmocka_run_group_tests_name("base/rng", tests, NULL, NULL);
}
