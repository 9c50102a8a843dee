/* tests/quant/test_dtype.c
 *
 * Goal: every block format gives exactly the values that an independent implementation gives, half
 * and bfloat16 conversions are right for every bit pattern, and quantising stays near the input.
 * Method: vectors made by make_blocks.py; exhaustive loops; random rows from a fixed seed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "quant/dtype.h"

static sl_dtype dtype_named(const char *name)
{
    for (int d = 0; d < SL_DTYPE_COUNT; d++)
        if (strcmp(sl_dtype_name((sl_dtype)d), name) == 0)
            return (sl_dtype)d;
    fail_msg("no dtype %s", name);
    return SL_DTYPE_COUNT;
}

static size_t unhex(const char *hex, uint8_t *out, size_t max)
{
    size_t n = 0;

    for (; hex[0] != '\0' && hex[1] != '\0' && n < max; hex += 2, n++) {
        unsigned byte;

        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        out[n] = (uint8_t)byte;
    }
    return n;
}

static void blocks_have_the_values_of_the_reference(void **state)
{
    static char line[8192], name[16], in_hex[4096], out_hex[4096];
    char path[1024];
    int seen[SL_DTYPE_COUNT] = {0};
    FILE *f;
    (void)state;

    snprintf(path, sizeof(path), "%s/tests/quant/data/blocks.txt", getenv("SLUICE_SOURCE_ROOT"));
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        uint8_t block[512];
        float want[256], got[256];
        sl_dtype dtype;
        uint32_t cols;

        assert_int_equal(sscanf(line, "%15s %4095s %4095s", name, in_hex, out_hex), 3);
        dtype = dtype_named(name);
        unhex(in_hex, block, sizeof(block));
        cols = (uint32_t)(unhex(out_hex, (uint8_t *)want, sizeof(want)) / 4);
        sl_dequantize_row(dtype, block, cols, got);
        for (uint32_t i = 0; i < cols; i++) {
            /* The reference may round d * scale before or after: within one unit in the last
             * place of the largest intermediate. */
            if (fabsf(got[i] - want[i]) > 1e-6f * fmaxf(1.0f, fabsf(want[i])))
                fail_msg("%s element %u: %.9g, want %.9g", name, i, (double)got[i],
                         (double)want[i]);
        }
        seen[dtype]++;
    }
    fclose(f);
    for (int d = 0; d < SL_DTYPE_COUNT; d++)
        if (d != SL_DTYPE_F32)
            assert_in_range(seen[d], 1, 100);
}

static void every_half_survives_the_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = sl_f16_to_f32((uint16_t)h);
        const uint32_t exponent = h >> 10 & 31, mantissa = h & 0x3FF;
        const double sign = h & 0x8000 ? -1.0 : 1.0;

        if (exponent == 31) {
            assert_true(mantissa ? isnan(f) : (isinf(f) && (f > 0) == (sign > 0)));
        } else {
            const double want = exponent == 0 ? sign * ldexp(mantissa, -24)
                                              : sign * ldexp(1024 + mantissa, (int)exponent - 25);
            assert_true((double)f == want && (signbit(f) != 0) == (signbit(want) != 0));
        }
        if (exponent != 31 || mantissa == 0)
            assert_int_equal(sl_f32_to_f16(f), h);
    }
    assert_true(isnan(sl_f16_to_f32(sl_f32_to_f16(NAN))));
}

static void halves_round_to_nearest_even(void **state)
{
    sl_rng rng = {.seed = 7};
    (void)state;

    for (int i = 0; i < 300000; i++) {
        const uint32_t bits = (uint32_t)sl_rng_next(&rng);
        float f, low, high;
        uint16_t h;

        memcpy(&f, &bits, 4);
        if (isnan(f))
            continue;
        h = sl_f32_to_f16(f);
        if ((h & 0x7FFF) == 0x7C00) {
            assert_true(fabsf(f) >= 65520.0f);
            continue;
        }
        /* No neighbour is nearer; in a tie the even one was taken. */
        low = sl_f16_to_f32((uint16_t)((h & 0x7FFF) > 0 ? h - 1 : h));
        high = sl_f16_to_f32((uint16_t)(h + 1));
        const double d = fabs((double)f - (double)sl_f16_to_f32(h));
        if (isfinite(high) && (h & 0x7FFF) > 0) {
            assert_true(d <= fabs((double)f - (double)low));
            assert_true(d <= fabs((double)f - (double)high));
            if (d == fabs((double)f - (double)high) || d == fabs((double)f - (double)low))
                assert_true(d == 0.0 || (h & 1) == 0);
        }
    }
    assert_int_equal(sl_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(sl_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(sl_f32_to_f16(0x1.0p-25f), 0);      /* a tie: to even */
    assert_int_equal(sl_f32_to_f16(0x1.000002p-25f), 1); /* just above */
}

static void bfloat16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(sl_f32_to_bf16(1.0f), 0x3F80);
    assert_int_equal(sl_f32_to_bf16(1.00390625f), 0x3F80); /* a tie: to even */
    assert_int_equal(sl_f32_to_bf16(1.01171875f), 0x3F82); /* a tie: to even, upwards */
    assert_int_equal(sl_f32_to_bf16(-1.00390637f), 0xBF81);
    assert_true(isnan(sl_bf16_to_f32(sl_f32_to_bf16(NAN))));
    for (uint32_t b = 0; b < 0x10000; b++)
        if (!isnan(sl_bf16_to_f32((uint16_t)b)))
            assert_int_equal(sl_f32_to_bf16(sl_bf16_to_f32((uint16_t)b)), b);
}

static void quantising_stays_within_a_step(void **state)
{
    /* Largest error over the largest magnitude: half a step of the coarsest sub-block, with room
     * for the scale's own rounding (K types: a 6-bit scale and min). */
    static const float bound[SL_DTYPE_COUNT] = {
        [SL_DTYPE_F32] = 0.0f,   [SL_DTYPE_F16] = 0.0006f, [SL_DTYPE_BF16] = 0.005f,
        [SL_DTYPE_Q4_0] = 0.14f, [SL_DTYPE_Q4_1] = 0.08f,  [SL_DTYPE_Q5_0] = 0.07f,
        [SL_DTYPE_Q5_1] = 0.04f, [SL_DTYPE_Q8_0] = 0.005f, [SL_DTYPE_Q4_K] = 0.15f,
        [SL_DTYPE_Q5_K] = 0.10f, [SL_DTYPE_Q6_K] = 0.04f,
    };
    sl_rng rng = {.seed = 3};
    (void)state;

    for (int d = 0; d < SL_DTYPE_COUNT; d++) {
        float x[512], y[512], largest = 0.0f, worst = 0.0f;
        uint8_t block[4096];

        for (int i = 0; i < 512; i++) {
            x[i] = (float)(sl_rng_unit(rng.seed, (uint64_t)(512 * d + i)) * 2 - 1);
            largest = fmaxf(largest, fabsf(x[i]));
        }
        sl_quantize_row((sl_dtype)d, x, 512, block);
        sl_dequantize_row((sl_dtype)d, block, 512, y);
        for (int i = 0; i < 512; i++)
            worst = fmaxf(worst, fabsf(x[i] - y[i]));
        if (worst > bound[d] * largest)
            fail_msg("%s: error %.4f", sl_dtype_name((sl_dtype)d), (double)worst);

        memset(x, 0, sizeof(x));
        sl_quantize_row((sl_dtype)d, x, 512, block);
        sl_dequantize_row((sl_dtype)d, block, 512, y);
        for (int i = 0; i < 512; i++)
            assert_true(y[i] == 0.0f);
    }
}

static void row_sizes_are_checked(void **state)
{
    size_t bytes = 77;
    (void)state;

    assert_int_equal(sl_dtype_row_bytes(SL_DTYPE_Q4_1, 576, &bytes), SL_OK);
    assert_int_equal(bytes, 576 / 32 * 20);
    bytes = 77;
    assert_int_equal(sl_dtype_row_bytes(SL_DTYPE_Q4_1, 33, &bytes), SL_EFORMAT);
    assert_int_equal(sl_dtype_row_bytes(SL_DTYPE_Q4_K, 128, &bytes), SL_EFORMAT);
    assert_int_equal(sl_dtype_row_bytes(SL_DTYPE_F32, UINT64_MAX / 2, &bytes), SL_EFORMAT);
    assert_int_equal(bytes, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_have_the_values_of_the_reference),
        cmocka_unit_test(every_half_survives_the_round_trip),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(bfloat16_rounds_to_nearest_even),
        cmocka_unit_test(quantising_stays_within_a_step),
        cmocka_unit_test(row_sizes_are_checked),
    };

    return cmocka_run_group_tests_name("quant/dtype", tests, NULL, NULL);
}
