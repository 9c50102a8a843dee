/* tests/kernels/test_cpu_linear.c
 *
 * Goal: packed weights hold the file's values exactly, and linear over them is what the twin
 * computes, with the same bits whatever the batch and the team.
 * Method: three references.  (1) Embedding rows against sl_dequantize_row, bit for bit.  (2) Inputs
 * that 8 bits hold exactly (integers times a power of two): linear against the twin, within the
 * rounding of fp32 sums.  (3) Inputs that they do not: within what half a step of every activation
 * can do.  Then equality of bits between batches, teams, and the instruction sets of this machine.
 */
#include "tests/kernels/support.h"

TEST_OP(cpu_linear, sl_ops_cpu(NULL), linear, sl_linear_args)
TEST_OP(avx2_linear, sl_ops_cpu_avx2(), linear, sl_linear_args)
TEST_OP(ref_linear, sl_ops_ref(), linear, sl_linear_args)
TEST_OP(cpu_prepare, sl_ops_cpu(NULL), prepare, sl_prepare_args)
TEST_OP(ref_prepare, sl_ops_ref(), prepare, sl_prepare_args)
TEST_OP(cpu_embed, sl_ops_cpu(NULL), embed, sl_embed_args)

enum { SCRATCH = 1 << 16 };

/* Blocks of 32 integers in [-127, 127] with 127 among them, times 2^e: d = 2^e exactly. */
static void fill_exact(float *x, uint32_t n, uint32_t cols, uint64_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < cols; k++) {
            const uint64_t at = (uint64_t)i * cols + k;
            const float code = k % 32 == 7 ? 127.0f : rintf(127.0f * test_draw(seed, at));

            x[at] = ldexpf(code, (int)((i + k / 32) % 9) - 12);
        }
}

/* A linear call over one weight in both tables. */
typedef struct linear_case {
    sl_weight cpu, ref;
    uint8_t *file;
    float *x;
    void *cpu_act, *ref_act;
    uint32_t n, rows, cols;
} linear_case;

static void prepare_both(const linear_case *c)
{
    sl_prepare_args args = {.act = c->cpu_act, .x = c->x, .n = c->n, .cols = c->cols};

    assert_int_equal(test_run_op(0, SCRATCH, cpu_prepare, &args), SL_OK);
    args.act = c->ref_act;
    assert_int_equal(test_run_op(0, SCRATCH, ref_prepare, &args), SL_OK);
}

static linear_case make_case(sl_dtype dtype, uint32_t n, uint32_t rows, uint32_t cols, bool exact)
{
    linear_case c = {.n = n, .rows = rows, .cols = cols};

    c.file = test_file(dtype, rows, cols, 17);
    c.cpu = test_pack(sl_ops_cpu(NULL), dtype, rows, cols, c.file);
    c.ref = test_pack(sl_ops_ref(), dtype, rows, cols, c.file);
    c.x = test_alloc((size_t)n * cols * sizeof(float));
    if (exact)
        fill_exact(c.x, n, cols, 5);
    else
        test_fill(c.x, (size_t)n * cols, 5);
    c.cpu_act = test_alloc(sl_ops_cpu(NULL)->act_bytes(cols) * n);
    c.ref_act = test_alloc(sl_ops_ref()->act_bytes(cols) * n);
    prepare_both(&c);
    return c;
}

static void free_case(linear_case *c)
{
    free(c->cpu.data);
    free(c->ref.data);
    free(c->file);
    free(c->x);
    free(c->cpu_act);
    free(c->ref_act);
}

/* What half a step of every activation (d / 2, d = absmax / 127; nothing for float weights) and
 * fp32 sums may do to output (i, j). */
static double error_bound(const linear_case *c, uint32_t i, const float *w, bool exact)
{
    const bool codes = !exact && sl_dtype_block_elems(c->cpu.dtype) > 1;
    double rounding = 0.0, step = 0.0;

    for (uint32_t k = 0; k < c->cols; k += 32) {
        const uint32_t end = k + 32 < c->cols ? k + 32 : c->cols;
        double top = 0.0, sum = 0.0;

        for (uint32_t m = k; m < end; m++) {
            const double x = fabs((double)c->x[(size_t)i * c->cols + m]);

            top = x > top ? x : top;
            sum += fabs((double)w[m]);
        }
        /* The offset of unsigned codes (the min) is summed apart and cancels: it counts here. */
        rounding += top * sum;
        step += top / 254.0 * sum;
    }
    return 4e-6 * rounding + (codes ? step : 0.0) + 1e-12;
}

static void check_against_twin(const linear_case *c, const float *y, const float *want, bool exact)
{
    float *w = test_alloc(c->cols * sizeof(*w));
    size_t row_bytes;

    assert_int_equal(sl_dtype_row_bytes(c->cpu.dtype, c->cols, &row_bytes), SL_OK);
    for (uint32_t j = 0; j < c->rows; j++) {
        sl_dequantize_row(c->cpu.dtype, c->file + row_bytes * j, c->cols, w);
        for (uint32_t i = 0; i < c->n; i++) {
            const size_t at = (size_t)i * c->rows + j;
            const double bound = error_bound(c, i, w, exact);

            if (!(fabs((double)y[at] - (double)want[at]) <= bound))
                fail_msg("%s %u x %u, n %u: y[%u, %u] is %.9g, not %.9g within %g",
                         sl_dtype_name(c->cpu.dtype), c->rows, c->cols, c->n, i, j, (double)y[at],
                         (double)want[at], bound);
        }
    }
    free(w);
}

static sl_linear_args plain_args(const linear_case *c, bool cpu, float *y)
{
    return (sl_linear_args){.part = {{.w = cpu ? &c->cpu : &c->ref, .y = y, .y_stride = c->rows}},
                            .part_count = 1,
                            .act = cpu ? c->cpu_act : c->ref_act,
                            .n = c->n,
                            .cols = c->cols};
}

/* Every fast table has the bits of the plainest one. */
static void check_against_avx2(sl_linear_args args, const float *y)
{
    const size_t bytes = (size_t)args.n * args.part[0].y_stride * sizeof(float);
    float *plain = test_alloc(bytes);

    args.part[0].y = plain;
    assert_int_equal(test_run_op(0, SCRATCH, avx2_linear, &args), SL_OK);
    assert_memory_equal(plain, y, bytes);
    free(plain);
}

static void one_shape(sl_dtype dtype, uint32_t n, uint32_t rows, uint32_t cols, bool exact)
{
    linear_case c = make_case(dtype, n, rows, cols, exact);
    float *y = test_alloc((size_t)n * rows * sizeof(float));
    float *want = test_alloc((size_t)n * rows * sizeof(float));
    sl_linear_args cpu = plain_args(&c, true, y), ref = plain_args(&c, false, want);

    assert_int_equal(test_run_op(0, SCRATCH, cpu_linear, &cpu), SL_OK);
    assert_int_equal(test_run_op(0, SCRATCH, ref_linear, &ref), SL_OK);
    check_against_twin(&c, y, want, exact);
    check_against_avx2(cpu, y);
    free(y);
    free(want);
    free_case(&c);
}

static uint32_t usual_cols(sl_dtype dtype)
{
    return sl_dtype_block_elems(dtype) == 256 ? 512 : 96;
}

static void packed_rows_are_the_files_values(void **state)
{
    const sl_ops *ops = test_cpu();
    (void)state;

    for (int d = 0; d < SL_DTYPE_COUNT; d++) {
        const sl_dtype dtype = (sl_dtype)d;
        const uint32_t rows = 131, cols = usual_cols(dtype);
        uint8_t *file = test_file(dtype, rows, cols, 3);
        sl_weight w = test_pack(ops, dtype, rows, cols, file);
        const uint32_t token[] = {0, 7, 8, 130, 64, 63, 7};
        float *x = test_alloc(7 * cols * sizeof(float)), *want = test_alloc(cols * sizeof(float));
        size_t row_bytes;

        assert_int_equal(sl_dtype_row_bytes(dtype, cols, &row_bytes), SL_OK);
        for (uint32_t size = 0; size < 4; size++) {
            const sl_embed_args args = {.x = x, .table = &w, .token = token, .n = 7, .scale = 1.5f};

            memset(x, 0, 7 * cols * sizeof(float));
            assert_int_equal(test_run_op(size, 64, cpu_embed, &args), SL_OK);
            for (int i = 0; i < 7; i++) {
                sl_dequantize_row(dtype, file + row_bytes * token[i], cols, want);
                for (uint32_t k = 0; k < cols; k++)
                    if (x[i * cols + k] != 1.5f * want[k])
                        fail_msg("%s: row %u, column %u", sl_dtype_name(dtype), token[i], k);
            }
        }
        free(x);
        free(want);
        free(w.data);
        free(file);
    }
}

static void embed_refuses_unknown_tokens(void **state)
{
    const sl_ops *ops = test_cpu();
    uint8_t *file = test_file(SL_DTYPE_Q8_0, 5, 32, 3);
    sl_weight w = test_pack(ops, SL_DTYPE_Q8_0, 5, 32, file);
    const uint32_t token[] = {4, 5};
    float x[64];
    sl_embed_args args = {.x = x, .table = &w, .token = token, .n = 2, .scale = 1.0f};
    (void)state;

    assert_int_equal(test_run_op(2, 64, cpu_embed, &args), SL_EINVAL);
    args.n = 0;
    assert_int_equal(test_run_op(2, 64, cpu_embed, &args), SL_OK);
    free(w.data);
    free(file);
}

static void weights_that_cannot_be_are_refused(void **state)
{
    const sl_ops *ops = test_cpu();
    sl_weight w = {.dtype = SL_DTYPE_Q4_K, .rows = 8, .cols = 128, .bytes = 1};
    sl_err err;
    (void)state;

    assert_int_equal(ops->weight_plan(&w, &err), SL_EUNSUPPORTED);
    assert_int_equal(w.bytes, 1);
    w = (sl_weight){.dtype = SL_DTYPE_F32, .rows = 0, .cols = 8};
    assert_int_equal(ops->weight_plan(&w, &err), SL_EUNSUPPORTED);
    w = (sl_weight){.dtype = SL_DTYPE_F32, .rows = 8, .cols = 0};
    assert_int_equal(ops->weight_plan(&w, &err), SL_EUNSUPPORTED);
}

static void packed_weights_are_as_small_as_the_file(void **state)
{
    const sl_ops *ops = test_cpu();
    (void)state;

    for (int d = 0; d < SL_DTYPE_COUNT; d++) {
        sl_weight w = {.dtype = (sl_dtype)d, .rows = 64, .cols = 4096};
        size_t row_bytes;

        assert_int_equal(ops->weight_plan(&w, NULL), SL_OK);
        assert_int_equal(sl_dtype_row_bytes(w.dtype, w.cols, &row_bytes), SL_OK);
        /* The 6-bit scales of the K types become whole bytes: 4.5 -> 4.625 bits. */
        assert_true(w.bytes <= row_bytes * 64 * 37 / 36);
    }
}

static void linear_is_the_twins_on_exact_inputs(void **state)
{
    static const uint32_t n[] = {1, 2, 3, 4, 5, 6, 7, 8, 13, 33};
    static const uint32_t rows[] = {1, 7, 8, 9, 40, 65};
    (void)test_cpu();
    (void)state;

    for (int d = 0; d < SL_DTYPE_COUNT; d++) {
        const uint32_t unit = sl_dtype_block_elems((sl_dtype)d) == 256 ? 256 : 32;

        for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++)
            one_shape((sl_dtype)d, n[i], rows[i % 6], unit * (1 + (uint32_t)i % 3), true);
        one_shape((sl_dtype)d, 3, 17, 2304, true); /* more than one stretch of K */
    }
}

static void linear_is_within_half_a_step_of_the_twin(void **state)
{
    (void)test_cpu();
    (void)state;

    for (int d = 0; d < SL_DTYPE_COUNT; d++) {
        one_shape((sl_dtype)d, 1, 24, 768, false);
        one_shape((sl_dtype)d, 7, 24, 768, false);
        one_shape((sl_dtype)d, 200, 9, 256, false); /* more than one block of tokens */
    }
}

static void float_weights_take_any_number_of_columns(void **state)
{
    static const sl_dtype dtypes[] = {SL_DTYPE_F32, SL_DTYPE_F16, SL_DTYPE_BF16};
    static const uint32_t cols[] = {1, 5, 8, 31, 33, 100};
    (void)test_cpu();
    (void)state;

    for (size_t d = 0; d < 3; d++)
        for (size_t i = 0; i < 6; i++) {
            one_shape(dtypes[d], 1, 33, cols[i], false);
            one_shape(dtypes[d], 8, 33, cols[i], false);
        }
}

/* Fill all blocks of a file with one byte, but halves with 1.0. */
static void fill_blocks(uint8_t *file, size_t bytes, sl_dtype dtype, uint8_t fill)
{
    const bool has_min = dtype == SL_DTYPE_Q4_1 || dtype == SL_DTYPE_Q5_1 ||
                         dtype == SL_DTYPE_Q4_K || dtype == SL_DTYPE_Q5_K;
    const size_t scale_at = dtype == SL_DTYPE_Q6_K ? 208 : 0;
    const uint16_t one = 0x3c00;

    memset(file, fill, bytes);
    for (size_t b = 0; b < bytes; b += sl_dtype_block_bytes(dtype)) {
        memcpy(file + b + scale_at, &one, 2);
        if (has_min)
            memcpy(file + b + 2, &one, 2);
    }
}

/* The smallest, largest and awkward codes of every format, which a quantiser might never write,
 * against activations all at one end of their range, so that sums cannot cancel. */
static void extreme_codes_do_not_overflow(void **state)
{
    static const uint8_t fills[] = {0xff, 0x00, 0x80, 0x7f};
    const uint32_t rows = 16, cols = 256, n = 6;
    (void)test_cpu();
    (void)state;

    for (size_t f = 0; f < (size_t)(SL_DTYPE_COUNT - SL_DTYPE_Q4_0) * sizeof(fills); f++) {
        const sl_dtype dtype = (sl_dtype)(SL_DTYPE_Q4_0 + f / sizeof(fills));
        linear_case c = make_case(dtype, n, rows, cols, true);
        float *y = test_alloc(n * rows * sizeof(float));
        float *want = test_alloc(n * rows * sizeof(float));
        sl_linear_args cpu = plain_args(&c, true, y), ref = plain_args(&c, false, want);
        size_t row_bytes;

        assert_int_equal(sl_dtype_row_bytes(dtype, cols, &row_bytes), SL_OK);
        fill_blocks(c.file, row_bytes * rows, dtype, fills[f % sizeof(fills)]);
        free(c.cpu.data);
        free(c.ref.data);
        c.cpu = test_pack(sl_ops_cpu(NULL), dtype, rows, cols, c.file);
        c.ref = test_pack(sl_ops_ref(), dtype, rows, cols, c.file);
        for (uint32_t k = 0; k < n * cols; k++)
            c.x[k] = k / cols % 2 == 0 ? 127.0f : -127.0f;
        prepare_both(&c);
        assert_int_equal(test_run_op(0, SCRATCH, cpu_linear, &cpu), SL_OK);
        assert_int_equal(test_run_op(0, SCRATCH, ref_linear, &ref), SL_OK);
        check_against_twin(&c, y, want, true);
        check_against_avx2(cpu, y);
        free(y);
        free(want);
        free_case(&c);
    }
}

static void a_batch_has_the_bits_of_its_rows_alone(void **state)
{
    static const uint32_t n[] = {2, 3, 4, 5, 6, 7, 33, 205};
    const uint32_t rows = 45;
    (void)test_cpu();
    (void)state;

    for (int d = 0; d < SL_DTYPE_COUNT; d++)
        for (size_t s = 0; s < sizeof(n) / sizeof(n[0]); s++) {
            /* K beyond one stretch for one of the sizes. */
            linear_case c = make_case((sl_dtype)d, n[s], rows, s == 5 ? 2304 : 256, false);
            float *y = test_alloc((size_t)n[s] * rows * sizeof(float)),
                  *alone = test_alloc(rows * sizeof(float));
            sl_linear_args args = plain_args(&c, true, y);

            assert_int_equal(test_run_op(1 + (uint32_t)s % 3, SCRATCH, cpu_linear, &args), SL_OK);
            args.part[0].y = alone;
            args.n = 1;
            for (uint32_t i = 0; i < n[s]; i++) {
                args.row = &i;
                assert_int_equal(test_run_op(0, SCRATCH, cpu_linear, &args), SL_OK);
                assert_memory_equal(alone, y + (size_t)i * rows, rows * sizeof(float));
            }
            free(y);
            free(alone);
            free_case(&c);
        }
}

static void a_team_has_the_bits_of_one(void **state)
{
    static const uint32_t n[] = {1, 6, 33, 200};
    const uint32_t rows = 129;
    (void)test_cpu();
    (void)state;

    for (int d = 0; d < SL_DTYPE_COUNT; d++)
        for (size_t s = 0; s < 4; s++) {
            linear_case c = make_case((sl_dtype)d, n[s], rows, 256, false);
            const size_t bytes = (size_t)n[s] * rows * sizeof(float);
            float *one = test_alloc(bytes), *y = test_alloc(bytes);
            sl_linear_args args = plain_args(&c, true, one);

            assert_int_equal(test_run_op(0, SCRATCH, cpu_linear, &args), SL_OK);
            args.part[0].y = y;
            for (uint32_t size = 1; size <= 3; size++) {
                memset(y, 0, bytes);
                assert_int_equal(test_run_op(size, SCRATCH, cpu_linear, &args), SL_OK);
                assert_memory_equal(one, y, bytes);
            }
            free(one);
            free(y);
            free_case(&c);
        }
}

/* Three weights of different dtypes and heights over one input, with bias, residual, strides, a
 * choice of rows and a softcap. */
static void parts_share_an_input(void **state)
{
    static const sl_dtype dtypes[3] = {SL_DTYPE_Q4_1, SL_DTYPE_F16, SL_DTYPE_Q6_K};
    static const uint32_t rows[3] = {40, 9, 17}, pick[4] = {5, 0, 5, 2};
    const uint32_t cols = 256, n = 4, stride = 50;
    sl_linear_args args[2] = {0};
    linear_case c[3];
    float *y[2][3], bias[40];
    (void)test_cpu();
    (void)state;

    test_fill(bias, 40, 77);
    for (uint32_t p = 0; p < 3; p++) {
        c[p] = make_case(dtypes[p], 6, rows[p], cols, true);
        for (int t = 0; t < 2; t++) {
            y[t][p] = test_alloc(n * stride * sizeof(float));
            test_fill(y[t][p], n * stride, 9 + p);
            args[t].part[p] = (sl_linear_part){.w = t == 0 ? &c[p].cpu : &c[p].ref,
                                               .bias = p == 1 ? NULL : bias,
                                               .y = y[t][p],
                                               .y_stride = stride,
                                               .accumulate = p != 2};
        }
    }
    for (int t = 0; t < 2; t++) {
        args[t].part_count = 3;
        args[t].act = t == 0 ? c[0].cpu_act : c[0].ref_act;
        args[t].row = pick;
        args[t].n = n;
        args[t].cols = cols;
        args[t].softcap = 30.0f;
    }
    assert_int_equal(test_run_op(2, SCRATCH, cpu_linear, &args[0]), SL_OK);
    assert_int_equal(test_run_op(0, SCRATCH, ref_linear, &args[1]), SL_OK);
    for (uint32_t p = 0; p < 3; p++) {
        /* tanh is at worst 1 / (1 + ...) from exp: 30 * 1e-6; sums of up to 200: 1e-5 * 200. */
        for (uint32_t i = 0; i < n * stride; i++)
            assert_true(fabsf(y[0][p][i] - y[1][p][i]) < 1e-4f);
        for (int t = 0; t < 2; t++)
            free(y[t][p]);
        free_case(&c[p]);
    }
}

static void empty_and_wrong_calls_are_answered(void **state)
{
    linear_case c;
    float y[8];
    sl_linear_args args;
    (void)test_cpu();
    (void)state;

    c = make_case(SL_DTYPE_Q4_0, 1, 8, 64, true);
    args = plain_args(&c, true, y);
    args.n = 0;
    assert_int_equal(test_run_op(2, SCRATCH, cpu_linear, &args), SL_OK);
    args.n = 1;
    args.cols = 32;
    assert_int_equal(test_run_op(2, SCRATCH, cpu_linear, &args), SL_EINVAL);
    args.cols = 64;
    args.part[0].y_stride = 7;
    assert_int_equal(test_run_op(2, SCRATCH, cpu_linear, &args), SL_EINVAL);
    args.part[0].y_stride = 8;
    args.part_count = 0;
    assert_int_equal(test_run_op(2, SCRATCH, cpu_linear, &args), SL_EINVAL);
    args.part_count = 4;
    assert_int_equal(test_run_op(2, SCRATCH, cpu_linear, &args), SL_EINVAL);
    free_case(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_rows_are_the_files_values),
        cmocka_unit_test(embed_refuses_unknown_tokens),
        cmocka_unit_test(weights_that_cannot_be_are_refused),
        cmocka_unit_test(packed_weights_are_as_small_as_the_file),
        cmocka_unit_test(linear_is_the_twins_on_exact_inputs),
        cmocka_unit_test(linear_is_within_half_a_step_of_the_twin),
        cmocka_unit_test(float_weights_take_any_number_of_columns),
        cmocka_unit_test(extreme_codes_do_not_overflow),
        cmocka_unit_test(a_batch_has_the_bits_of_its_rows_alone),
        cmocka_unit_test(a_team_has_the_bits_of_one),
        cmocka_unit_test(parts_share_an_input),
        cmocka_unit_test(empty_and_wrong_calls_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
