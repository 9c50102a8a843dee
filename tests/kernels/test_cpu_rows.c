/* tests/kernels/test_cpu_rows.c
 *
 * Goal: norm, prepare, glu and plane_copy do what their twins do, for any width, batch and team.
 * Method: prepared rows are read through identity matrices, as a linear layer would: an F32 one
 * shows the floats they carry, a Q8_0 one (codes 1, scale 1) shows scale times code, which must be
 * within half a step (absmax / 254 of a block of 32) of the float. */
#include "tests/kernels/support.h"

TEST_OP(cpu_norm, sl_ops_cpu(NULL), norm, sl_norm_args)
TEST_OP(ref_norm, sl_ops_ref(), norm, sl_norm_args)
TEST_OP(cpu_prepare, sl_ops_cpu(NULL), prepare, sl_prepare_args)
TEST_OP(cpu_glu, sl_ops_cpu(NULL), glu, sl_glu_args)
TEST_OP(ref_glu, sl_ops_ref(), glu, sl_glu_args)
TEST_OP(cpu_linear, sl_ops_cpu(NULL), linear, sl_linear_args)
TEST_OP(cpu_plane_copy, sl_ops_cpu(NULL), plane_copy, sl_plane_copy_args)

static const uint32_t widths[] = {32, 64, 256, 576, 1504};
static const uint32_t batches[] = {1, 6, 7, 33};

/* y = what a linear layer with an identity matrix of `dtype` sees in prepared rows. */
static void read_rows(sl_dtype dtype, const void *act, uint32_t n, uint32_t cols, float *y)
{
    float *row = test_alloc(cols * sizeof(*row));
    size_t row_bytes;
    uint8_t *file;
    sl_weight w;

    assert_int_equal(sl_dtype_row_bytes(dtype, cols, &row_bytes), SL_OK);
    file = test_alloc(row_bytes * cols);
    for (uint32_t j = 0; j < cols; j++) {
        memset(row, 0, cols * sizeof(*row));
        row[j] = 127.0f; /* Q8_0: code 127 and scale 1 */
        sl_quantize_row(dtype, row, cols, file + row_bytes * j);
    }
    w = test_pack(sl_ops_cpu(NULL), dtype, cols, cols, file);
    assert_int_equal(test_run_op(0, 64, cpu_linear,
                                 &(sl_linear_args){.part = {{.w = &w, .y = y, .y_stride = cols}},
                                                   .part_count = 1,
                                                   .act = act,
                                                   .n = n,
                                                   .cols = cols}),
                     SL_OK);
    for (size_t i = 0; i < (size_t)n * cols; i++)
        y[i] /= 127.0f;
    free(w.data);
    free(file);
    free(row);
}

/* The rows are x: floats within `relative`, codes within half a step more. */
static void check_rows(const void *act, const float *x, uint32_t n, uint32_t cols, float relative,
                       bool codes_only)
{
    float *y = test_alloc((size_t)n * cols * sizeof(*y));

    if (!codes_only) {
        read_rows(SL_DTYPE_F32, act, n, cols, y);
        for (size_t i = 0; i < (size_t)n * cols; i++)
            if (!(fabsf(y[i] - x[i]) <= (relative + 2e-7f) * fabsf(x[i])))
                fail_msg("float %zu: %.9g, not %.9g", i, (double)y[i], (double)x[i]);
    }
    if (cols % 32 != 0)
        goto out;
    read_rows(SL_DTYPE_Q8_0, act, n, cols, y);
    for (size_t b = 0; b < (size_t)n * cols; b += 32) {
        float top = 0.0f;

        for (size_t i = b; i < b + 32; i++)
            top = fmaxf(top, fabsf(x[i]));
        for (size_t i = b; i < b + 32; i++)
            if (!(fabsf(y[i] - x[i]) <= top * (1.0f / 254.0f + relative + 1e-6f)))
                fail_msg("code %zu: %.9g, not %.9g", i, (double)y[i], (double)x[i]);
    }
out:
    free(y);
}

static void prepared_rows_keep_the_values(void **state)
{
    const sl_ops *ops = test_cpu();
    (void)state;

    for (size_t w = 0; w < 5; w++)
        for (uint32_t codes_only = 0; codes_only < 2; codes_only++) {
            const uint32_t cols = widths[w], n = 7;
            float *x = test_alloc(n * cols * sizeof(*x));
            uint8_t *act = test_alloc(ops->act_bytes(cols) * n);

            test_fill(x, n * cols, w);
            memset(x, 0, 32 * sizeof(*x)); /* a block of zeros */
            x[cols] = 1e20f;               /* one value above all others */
            for (uint32_t k = 0; k < cols; k++)
                x[2 * cols + k] *= 1e-25f;
            assert_int_equal(
                test_run_op(
                    1 + (uint32_t)w % 3, 64, cpu_prepare,
                    &(sl_prepare_args){
                        .act = act, .x = x, .n = n, .cols = cols, .codes_only = codes_only == 1}),
                SL_OK);
            check_rows(act, x, n, cols, 0.0f, codes_only == 1);
            free(act);
            free(x);
        }
}

static void vanishing_and_odd_rows_are_prepared(void **state)
{
    const sl_ops *ops = test_cpu();
    float x[33], y[33];
    uint8_t *act = test_alloc(ops->act_bytes(33));
    (void)state;

    assert_int_equal(ops->act_bytes(33) % 64, 0);
    /* Far below 1 / FLT_MAX: codes are zero, floats stay. */
    for (int k = 0; k < 33; k++)
        x[k] = 1e-39f * (float)(k + 1);
    assert_int_equal(
        test_run_op(1, 64, cpu_prepare, &(sl_prepare_args){.act = act, .x = x, .n = 1, .cols = 32}),
        SL_OK);
    read_rows(SL_DTYPE_Q8_0, act, 1, 32, y);
    for (int k = 0; k < 32; k++)
        assert_true(y[k] == 0.0f);
    /* A width that is no whole number of blocks, for float weights. */
    test_fill(x, 33, 1);
    assert_int_equal(
        test_run_op(2, 64, cpu_prepare, &(sl_prepare_args){.act = act, .x = x, .n = 1, .cols = 33}),
        SL_OK);
    check_rows(act, x, 1, 33, 0.0f, false);
    free(act);
}

static void not_a_number_stays_in_its_row(void **state)
{
    const sl_ops *ops = test_cpu();
    float x[3 * 64], y[3 * 64];
    uint8_t *act = test_alloc(ops->act_bytes(64) * 3);
    (void)state;

    test_fill(x, 3 * 64, 1);
    x[64 + 5] = NAN;
    x[64 + 40] = INFINITY;
    assert_int_equal(
        test_run_op(1, 64, cpu_prepare, &(sl_prepare_args){.act = act, .x = x, .n = 3, .cols = 64}),
        SL_OK);
    read_rows(SL_DTYPE_Q8_0, act, 3, 64, y);
    for (int k = 0; k < 64; k++) {
        assert_true(fabsf(y[k] - x[k]) < 0.01f);
        assert_false(isfinite(y[64 + k]));
        assert_true(fabsf(y[128 + k] - x[128 + k]) < 0.01f);
    }
    free(act);
}

static void norms_are_the_twins(void **state)
{
    const sl_ops *ops = test_cpu();
    static const uint32_t cols_of[] = {1, 7, 32, 33, 576, 2048};
    (void)state;

    for (size_t c = 0; c < 6; c++)
        for (size_t b = 0; b < 4; b++) {
            const uint32_t cols = cols_of[c], n = batches[b];
            const size_t all = (size_t)n * cols;
            float *x = test_alloc(all * 4), *y = test_alloc(all * 4), *want = test_alloc(all * 4);
            float *w = test_alloc(cols * 4);
            uint8_t *act = test_alloc(ops->act_bytes(cols) * n);
            sl_norm_args args = {
                .act = act, .y = y, .x = x, .w = w, .n = n, .cols = cols, .eps = 1e-5f};
            sl_norm_args ref = {.y = want, .x = x, .w = w, .n = n, .cols = cols, .eps = 1e-5f};

            test_fill(x, all, c);
            test_fill(w, cols, 50);
            assert_int_equal(test_run_op(0, 64, ref_norm, &ref), SL_OK);
            assert_int_equal(test_run_op(1 + (uint32_t)b % 3, 64, cpu_norm, &args), SL_OK);
            for (size_t i = 0; i < all; i++)
                assert_true(fabsf(y[i] - want[i]) <= 1e-6f * fabsf(want[i]));
            if (n < 33)
                check_rows(act, want, n, cols, 1e-6f, false);
            /* In place, and added. */
            memcpy(y, x, all * 4);
            args = (sl_norm_args){.y = y, .x = y, .w = w, .n = n, .cols = cols, .eps = 1e-5f};
            assert_int_equal(test_run_op(2, 64, cpu_norm, &args), SL_OK);
            for (size_t i = 0; i < all; i++)
                assert_true(fabsf(y[i] - want[i]) <= 1e-6f * fabsf(want[i]));
            args.x = x;
            args.accumulate = true;
            assert_int_equal(test_run_op(3, 64, cpu_norm, &args), SL_OK);
            for (size_t i = 0; i < all; i++)
                assert_true(fabsf(y[i] - 2.0f * want[i]) <= 3e-6f * fabsf(want[i]));
            free(act);
            free(w);
            free(want);
            free(y);
            free(x);
        }
}

static void wrong_norms_are_refused(void **state)
{
    float x[8] = {0};
    sl_norm_args args = {.act = x, .y = x, .x = x, .w = x, .n = 1, .cols = 8, .accumulate = true};
    (void)test_cpu();
    (void)state;

    assert_int_equal(test_run_op(2, 64, cpu_norm, &args), SL_EINVAL);
    args.n = 0;
    assert_int_equal(test_run_op(2, 64, cpu_norm, &args), SL_OK);
    args = (sl_norm_args){.y = x, .x = x, .w = x, .n = 1, .cols = 0};
    assert_int_equal(test_run_op(2, 64, cpu_norm, &args), SL_EINVAL);
}

static void gated_units_are_the_twins(void **state)
{
    const sl_ops *ops = test_cpu();
    (void)state;

    for (size_t c = 0; c < 5; c++)
        for (size_t b = 0; b < 4; b++)
            for (int fn = 0; fn < 2; fn++) {
                const uint32_t cols = widths[c], n = batches[b], stride = cols + 8;
                float *gate = test_alloc((size_t)n * stride * 4);
                float *up = test_alloc((size_t)n * stride * 4);
                float *want = test_alloc(sl_ops_ref()->act_bytes(cols) * n);
                uint8_t *act = test_alloc(ops->act_bytes(cols) * n);
                sl_glu_args args = {.act = act,
                                    .gate = gate,
                                    .up = up,
                                    .stride = stride,
                                    .n = n,
                                    .cols = cols,
                                    .fn = (sl_act_fn)fn};

                test_fill(gate, (size_t)n * stride, c);
                test_fill(up, (size_t)n * stride, c + 9);
                /* From deep saturation to deep suppression. */
                for (uint32_t i = 0; i < n * stride; i++)
                    gate[i] *= i % 5 == 0 ? 100.0f : 6.0f;
                gate[0] = 0.0f;
                assert_int_equal(test_run_op(1 + (uint32_t)b % 3, 64, cpu_glu, &args), SL_OK);
                args.act = want;
                assert_int_equal(test_run_op(0, 64, ref_glu, &args), SL_OK);
                /* The argument of exp is up to 30 with two or three roundings of 6e-8; the
                 * twin's own 1 + tanh(u) has but few digits left where it nearly cancels. */
                if (n < 33) {
                    float *y = test_alloc((size_t)n * cols * 4);

                    read_rows(SL_DTYPE_F32, act, n, cols, y);
                    for (size_t i = 0; i < (size_t)n * cols; i++)
                        assert_true(fabsf(y[i] - want[i]) <= 8e-6f * fabsf(want[i]) + 1e-12f);
                    memcpy(want, y, (size_t)n * cols * 4);
                    check_rows(act, want, n, cols, 0.0f, false);
                    free(y);
                }
                free(act);
                free(want);
                free(up);
                free(gate);
            }
}

static void rows_do_not_depend_on_batch_or_team(void **state)
{
    const sl_ops *ops = test_cpu();
    const uint32_t n = 33, cols = 576;
    const size_t bytes = ops->act_bytes(cols);
    float *x = test_alloc(n * cols * 4), *up = test_alloc(n * cols * 4);
    uint8_t *all = test_alloc(bytes * n), *one = test_alloc(bytes);
    (void)state;

    test_fill(x, n * cols, 1);
    test_fill(up, n * cols, 2);
    for (uint32_t size = 0; size < 4; size++) {
        sl_norm_args norm = {.act = all, .x = x, .w = up, .n = n, .cols = cols, .eps = 1e-6f};
        sl_glu_args glu = {.act = all, .gate = x, .up = up, .stride = cols, .n = n, .cols = cols};

        assert_int_equal(test_run_op(size, 64, cpu_norm, &norm), SL_OK);
        for (uint32_t i = 0; i < n; i++) {
            sl_norm_args alone = norm;

            alone.act = one;
            alone.x = x + i * cols;
            alone.n = 1;
            assert_int_equal(test_run_op(0, 64, cpu_norm, &alone), SL_OK);
            assert_memory_equal(one, all + bytes * i, bytes);
        }
        assert_int_equal(test_run_op(size, 64, cpu_glu, &glu), SL_OK);
        for (uint32_t i = 0; i < n; i++) {
            sl_glu_args alone = glu;

            alone.act = one;
            alone.gate = x + i * cols;
            alone.up = up + i * cols;
            alone.n = 1;
            assert_int_equal(test_run_op(3, 64, cpu_glu, &alone), SL_OK);
            assert_memory_equal(one, all + bytes * i, bytes);
        }
    }
    free(one);
    free(all);
    free(up);
    free(x);
}

static void empty_rows_are_fine(void **state)
{
    (void)test_cpu();
    (void)state;
    assert_int_equal(test_run_op(2, 64, cpu_prepare, &(sl_prepare_args){.n = 0, .cols = 8}), SL_OK);
    assert_int_equal(test_run_op(2, 64, cpu_glu, &(sl_glu_args){.n = 0, .cols = 8}), SL_OK);
    assert_int_equal(test_run_op(2, 64, cpu_glu, &(sl_glu_args){.n = 1, .cols = 8, .stride = 7}),
                     SL_EINVAL);
}

static void planes_are_copied_whole(void **state)
{
    const uint32_t dst[] = {5, 0, 3}, src[] = {1, 2, 4};
    sl_kv_store kv = {.plane_bytes = 192};
    sl_plane_copy_args args = {.kv = &kv, .dst = dst, .src = src, .count = 3};
    (void)test_cpu();
    (void)state;

    for (uint32_t size = 0; size < 4; size++) {
        kv.planes = test_alloc(6 * 192);
        for (uint32_t i = 0; i < 6 * 192; i++)
            kv.planes[i] = (uint8_t)(i / 192);
        assert_int_equal(test_run_op(size, 64, cpu_plane_copy, &args), SL_OK);
        for (uint32_t i = 0; i < 192; i++) {
            assert_int_equal(kv.planes[5 * 192 + i], 1);
            assert_int_equal(kv.planes[i], 2);
            assert_int_equal(kv.planes[3 * 192 + i], 4);
            assert_int_equal(kv.planes[192 + i], 1);
        }
        free(kv.planes);
    }
    args.count = 0;
    assert_int_equal(test_run_op(2, 64, cpu_plane_copy, &args), SL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prepared_rows_keep_the_values),
        cmocka_unit_test(vanishing_and_odd_rows_are_prepared),
        cmocka_unit_test(not_a_number_stays_in_its_row),
        cmocka_unit_test(norms_are_the_twins),
        cmocka_unit_test(wrong_norms_are_refused),
        cmocka_unit_test(gated_units_are_the_twins),
        cmocka_unit_test(rows_do_not_depend_on_batch_or_team),
        cmocka_unit_test(empty_rows_are_fine),
        cmocka_unit_test(planes_are_copied_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
