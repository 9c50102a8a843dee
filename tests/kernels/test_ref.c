/* tests/kernels/test_ref.c
 *
 * Goal: the twins, which everything else is tested against, compute what their formulas say.
 * Method: values worked out by hand, properties that the mathematics has (rotation keeps lengths,
 * attention of equal scores is a mean), and sums written a second time, in long double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "kernels/team.h"

static _Alignas(64) uint8_t scratch[1 << 18];

/* A stream on its own. */
static sl_stream alone(void)
{
    sl_stream stream;

    sl_stream_init(&stream, NULL, 0, scratch, sizeof(scratch));
    return stream;
}

static float draw(uint64_t seed, uint64_t n)
{
    return (float)(2.0 * sl_rng_unit(seed, n) - 1.0);
}

static void fill(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        x[i] = draw(seed, i);
}

static void assert_near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance))
        fail_msg("%.10g is not %.10g within %g", a, b, tolerance);
}

/* The i-th prepared row of the twins: fp32. */
static const float *act_row(const void *act, uint32_t cols, uint32_t i)
{
    return (const float *)(const void *)((const uint8_t *)act + sl_ops_ref()->act_bytes(cols) * i);
}

/* --- sizes and weights -------------------------------------------------------------------- */

static void prepared_rows_are_whole_lines(void **state)
{
    (void)state;
    assert_int_equal(sl_ops_ref()->act_bytes(1), 64);
    assert_int_equal(sl_ops_ref()->act_bytes(16), 64);
    assert_int_equal(sl_ops_ref()->act_bytes(17), 128);
    assert_string_equal(sl_ops_ref()->name, "ref");
}

static void a_weight_is_planned_by_its_blocks(void **state)
{
    sl_weight w = {.dtype = SL_DTYPE_Q4_1, .rows = 3, .cols = 64};
    sl_err err;
    (void)state;

    assert_int_equal(sl_ops_ref()->weight_plan(&w, &err), SL_OK);
    assert_int_equal(w.bytes, 3 * 2 * 20);
    w.cols = 65;
    w.bytes = 1;
    assert_int_equal(sl_ops_ref()->weight_plan(&w, &err), SL_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "65"));
    assert_int_equal(w.bytes, 1);
    w.cols = 0;
    assert_int_equal(sl_ops_ref()->weight_plan(&w, &err), SL_EUNSUPPORTED);
    w.cols = 64;
    w.rows = 0;
    assert_int_equal(sl_ops_ref()->weight_plan(&w, &err), SL_EUNSUPPORTED);
}

/* A packed weight of random values; values[] gets what it holds after quantisation. */
static sl_weight make_weight(sl_dtype dtype, uint32_t rows, uint32_t cols, float *values)
{
    sl_weight w = {.dtype = dtype, .rows = rows, .cols = cols};
    uint8_t *blocks;
    size_t row_bytes;
    float *x = malloc(cols * sizeof(*x));

    assert_non_null(x);
    assert_int_equal(sl_ops_ref()->weight_plan(&w, NULL), SL_OK);
    assert_int_equal(sl_dtype_row_bytes(dtype, cols, &row_bytes), SL_OK);
    blocks = malloc(row_bytes * rows);
    w.data = malloc(w.bytes);
    assert_non_null(blocks);
    assert_non_null(w.data);
    for (uint32_t j = 0; j < rows; j++) {
        fill(x, cols, 1000 + j);
        sl_quantize_row(dtype, x, cols, blocks + row_bytes * j);
        sl_dequantize_row(dtype, blocks + row_bytes * j, cols, values + (size_t)j * cols);
    }
    /* In two calls, as a loader does. */
    if (rows > 64) {
        sl_ops_ref()->weight_pack(&w, blocks + row_bytes * 64, 64, rows - 64);
        sl_ops_ref()->weight_pack(&w, blocks, 0, 64);
    } else {
        sl_ops_ref()->weight_pack(&w, blocks, 0, rows);
    }
    free(blocks);
    free(x);
    return w;
}

static void embedding_scales_rows_of_the_table(void **state)
{
    static float values[5 * 32], x[3 * 32];
    const uint32_t token[3] = {4, 0, 4};
    uint32_t bad[2] = {1, 5};
    sl_weight w = make_weight(SL_DTYPE_Q8_0, 5, 32, values);
    sl_stream stream = alone();
    (void)state;

    assert_int_equal(
        sl_ops_ref()->embed(
            &(sl_embed_args){.x = x, .table = &w, .token = token, .n = 3, .scale = 8.0f}, &stream),
        SL_OK);
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < 32; k++)
            assert_true(x[i * 32 + k] == 8.0f * values[token[i] * 32 + k]);
    }
    assert_int_equal(
        sl_ops_ref()->embed(
            &(sl_embed_args){.x = x, .table = &w, .token = bad, .n = 2, .scale = 1.0f}, &stream),
        SL_EINVAL);
    assert_int_equal(sl_ops_ref()->embed(&(sl_embed_args){.x = x, .table = &w}, &stream), SL_OK);
    free(w.data);
}

/* --- rows --------------------------------------------------------------------------------- */

static void norm_divides_by_the_root_mean_square(void **state)
{
    const float x[4] = {3.0f, 4.0f, -12.0f, 84.0f}; /* mean square of the first pair: 12.5 */
    const float w[2] = {2.0f, 0.5f};
    _Alignas(64) float act[32];
    float y[4];
    sl_stream stream = alone();
    sl_norm_args args = {.act = act, .y = y, .x = x, .w = w, .n = 2, .cols = 2, .eps = 0.0f};
    (void)state;

    assert_int_equal(sl_ops_ref()->norm(&args, &stream), SL_OK);
    assert_near((double)y[0], 2.0 * 3.0 / sqrt(12.5), 1e-6);
    assert_near((double)y[1], 0.5 * 4.0 / sqrt(12.5), 1e-6);
    assert_near((double)y[2], 2.0 * -12.0 / 60.0, 1e-6); /* sqrt((144 + 7056) / 2) = 60 */
    assert_near((double)y[3], 0.5 * 84.0 / 60.0, 1e-6);
    for (uint32_t i = 0; i < 2; i++)
        assert_memory_equal(act_row(act, 2, i), y + 2 * i, 2 * sizeof(float));

    args.eps = 3.5f; /* 12.5 + 3.5 = 16 */
    args.n = 1;
    assert_int_equal(sl_ops_ref()->norm(&args, &stream), SL_OK);
    assert_near((double)y[0], 1.5, 1e-6);
    assert_near((double)y[1], 0.5, 1e-6);
}

static void norm_adds_to_the_residual_when_asked(void **state)
{
    const float x[2] = {3.0f, 4.0f};
    const float w[2] = {1.0f, 1.0f};
    float y[2] = {100.0f, -100.0f};
    float in_place[2] = {3.0f, 4.0f};
    _Alignas(64) float act[16];
    sl_stream stream = alone();
    sl_norm_args args = {
        .y = y, .x = x, .w = w, .n = 1, .cols = 2, .eps = 3.5f, .accumulate = true};
    (void)state;

    assert_int_equal(sl_ops_ref()->norm(&args, &stream), SL_OK);
    assert_near((double)y[0], 100.75, 1e-5);
    assert_near((double)y[1], -99.0, 1e-5);
    args.act = act;
    assert_int_equal(sl_ops_ref()->norm(&args, &stream), SL_EINVAL);
    args = (sl_norm_args){.y = in_place, .x = in_place, .w = w, .n = 1, .cols = 2, .eps = 3.5f};
    assert_int_equal(sl_ops_ref()->norm(&args, &stream), SL_OK);
    assert_near((double)in_place[0], 0.75, 1e-6);
    assert_near((double)in_place[1], 1.0, 1e-6);
}

static void prepare_keeps_the_values(void **state)
{
    float x[3 * 17];
    _Alignas(64) uint8_t act[3 * 128];
    sl_stream stream = alone();
    (void)state;

    fill(x, 51, 1);
    assert_int_equal(
        sl_ops_ref()->prepare(&(sl_prepare_args){.act = act, .x = x, .n = 3, .cols = 17}, &stream),
        SL_OK);
    for (uint32_t i = 0; i < 3; i++)
        assert_memory_equal(act_row(act, 17, i), x + 17 * i, 17 * sizeof(float));
}

static void glu_gates_with_the_known_functions(void **state)
{
    /* Values of the two functions from their definitions, to ten digits. */
    static const struct {
        float g;
        double silu, gelu;
    } known[] = {{0.0f, 0.0, 0.0},
                 {1.0f, 0.7310585786, 0.8411919906},
                 {-1.0f, -0.2689414214, -0.1588080094},
                 {3.0f, 2.8577223804, 2.9963627400},
                 {100.0f, 100.0, 100.0},
                 {-100.0f, 0.0, 0.0}};
    enum { COUNT = sizeof(known) / sizeof(known[0]), STRIDE = COUNT + 3 };
    float gate[2 * STRIDE] = {0}, up[2 * STRIDE] = {0};
    _Alignas(64) uint8_t act[2 * 64];
    sl_stream stream = alone();
    sl_glu_args args = {
        .act = act, .gate = gate, .up = up, .stride = STRIDE, .n = 2, .cols = COUNT};
    (void)state;

    for (uint32_t k = 0; k < COUNT; k++) {
        gate[k] = gate[STRIDE + k] = known[k].g;
        up[k] = 1.0f;
        up[STRIDE + k] = -2.0f;
    }
    assert_int_equal(sl_ops_ref()->glu(&args, &stream), SL_OK);
    for (uint32_t k = 0; k < COUNT; k++) {
        assert_near((double)act_row(act, COUNT, 0)[k], known[k].silu, 1e-6);
        assert_near((double)act_row(act, COUNT, 1)[k], -2.0 * known[k].silu, 1e-6);
    }
    args.fn = SL_ACT_GELU_TANH;
    assert_int_equal(sl_ops_ref()->glu(&args, &stream), SL_OK);
    for (uint32_t k = 0; k < COUNT; k++)
        assert_near((double)act_row(act, COUNT, 0)[k], known[k].gelu, 1e-6);
}

/* --- linear ------------------------------------------------------------------------------- */

static void linear_is_a_matrix_product_in_every_format(void **state)
{
    static const sl_dtype formats[] = {SL_DTYPE_F32,  SL_DTYPE_F16,  SL_DTYPE_BF16, SL_DTYPE_Q4_0,
                                       SL_DTYPE_Q4_1, SL_DTYPE_Q5_0, SL_DTYPE_Q5_1, SL_DTYPE_Q8_0,
                                       SL_DTYPE_Q4_K, SL_DTYPE_Q5_K, SL_DTYPE_Q6_K};
    enum { N = 70, K = 256, ROWS = 9 };
    static float values[N * K], x[ROWS * K], y[ROWS * N], bias[N];
    sl_stream stream = alone();
    (void)state;

    fill(x, ROWS * K, 2);
    fill(bias, N, 3);
    for (size_t f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
        sl_weight w = make_weight(formats[f], N, K, values);

        for (uint32_t n = 0; n <= ROWS; n++) {
            const sl_linear_args args = {
                .part = {{.w = &w, .bias = bias, .y = y, .y_stride = N}},
                .part_count = 1,
                .act = x, /* 256 floats are whole lines, so x is prepared as it is */
                .n = n,
                .cols = K};

            memset(y, 0xFF, sizeof(y));
            assert_int_equal(sl_ops_ref()->linear(&args, &stream), SL_OK);
            for (uint32_t i = 0; i < n * N; i++) {
                long double sum = (long double)bias[i % N];

                for (uint32_t k = 0; k < K; k++)
                    sum += (long double)values[(i % N) * K + k] * (long double)x[i / N * K + k];
                assert_near((double)y[i], (double)sum, 5e-6);
            }
            for (uint32_t i = n * N; i < ROWS * N; i++)
                assert_true(isnan(y[i])); /* nothing beyond the rows */
        }
        free(w.data);
    }
}

static void linear_parts_share_one_input(void **state)
{
    enum { K = 32, STRIDE = 7 };
    static float values_a[5 * K], values_b[3 * K], x[2 * K], ya[2 * STRIDE], yb[2 * 3];
    const uint32_t row[3] = {1, 1, 0};
    float picked[3 * 3];
    sl_stream stream = alone();
    sl_weight a = make_weight(SL_DTYPE_F32, 5, K, values_a);
    sl_weight b = make_weight(SL_DTYPE_F32, 3, K, values_b);
    sl_linear_args args = {.part = {{.w = &a, .y = ya, .y_stride = STRIDE},
                                    {.w = &b, .y = yb, .y_stride = 3, .accumulate = true}},
                           .part_count = 2,
                           .act = x,
                           .n = 2,
                           .cols = K};
    float before[2 * 3];
    (void)state;

    fill(x, 2 * K, 4);
    fill(yb, 6, 5);
    memcpy(before, yb, sizeof(before));
    memset(ya, 0xFF, sizeof(ya));
    assert_int_equal(sl_ops_ref()->linear(&args, &stream), SL_OK);
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t j = 0; j < 5; j++) {
            double sum = 0.0;

            for (uint32_t k = 0; k < K; k++)
                sum += (double)values_a[j * K + k] * (double)x[i * K + k];
            assert_near((double)ya[i * STRIDE + j], sum, 1e-6);
        }
        assert_true(isnan(ya[i * STRIDE + 5])); /* between the rows lies nothing of ours */
    }
    /* Rows picked from the input; minus what was there before is the plain product. */
    args = (sl_linear_args){.part = {{.w = &b, .y = picked, .y_stride = 3}},
                            .part_count = 1,
                            .act = x,
                            .row = row,
                            .n = 3,
                            .cols = K};
    assert_int_equal(sl_ops_ref()->linear(&args, &stream), SL_OK);
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t j = 0; j < 3; j++)
            assert_near((double)picked[i * 3 + j],
                        (double)yb[row[i] * 3 + j] - (double)before[row[i] * 3 + j], 1e-6);
    }
    args.softcap = 0.5f;
    assert_int_equal(sl_ops_ref()->linear(&args, &stream), SL_OK);
    assert_near((double)picked[0], 0.5 * tanh(((double)yb[3] - (double)before[3]) / 0.5), 1e-6);
    free(a.data);
    free(b.data);
}

static void linear_refuses_shapes_that_do_not_meet(void **state)
{
    enum { K = 32 };
    static float values[2 * K], x[K], y[2];
    sl_stream stream = alone();
    sl_weight w = make_weight(SL_DTYPE_F32, 2, K, values);
    const sl_linear_args good = {
        .part = {{.w = &w, .y = y, .y_stride = 2}}, .part_count = 1, .act = x, .n = 1, .cols = K};
    sl_linear_args bad = good;
    (void)state;

    assert_int_equal(sl_ops_ref()->linear(&good, &stream), SL_OK);
    bad.cols = 16;
    assert_int_equal(sl_ops_ref()->linear(&bad, &stream), SL_EINVAL);
    bad = good;
    bad.part[0].y_stride = 1;
    assert_int_equal(sl_ops_ref()->linear(&bad, &stream), SL_EINVAL);
    bad = good;
    bad.part_count = SL_LINEAR_PARTS_MAX + 1;
    assert_int_equal(sl_ops_ref()->linear(&bad, &stream), SL_EINVAL);
    stream.scratch_bytes = K * sizeof(float) - 1;
    assert_int_equal(sl_ops_ref()->linear(&good, &stream), SL_EINVAL);
    free(w.data);
}

/* --- a cache for the operations on sequences ------------------------------------------------ */

enum { D = 8, G = 2, H = 6, LAYERS = 3, PAGES = 4, PLANES = PAGES * 8 + 3 };

typedef struct cache {
    sl_kv_store kv;
    sl_kv_page page[PAGES];
} cache;

/* All planes are NaN; the pages' planes are scattered. */
static void make_cache(cache *c, uint32_t head_dim)
{
    const size_t plane_bytes = (size_t)32 * LAYERS * G * head_dim;

    memset(c, 0, sizeof(*c));
    c->kv = (sl_kv_store){.planes = malloc(plane_bytes * PLANES),
                          .plane_bytes = plane_bytes,
                          .chunk_layers = LAYERS,
                          .kv_heads = G,
                          .head_dim = head_dim};
    assert_non_null(c->kv.planes);
    memset(c->kv.planes, 0xFF, plane_bytes * PLANES);
    for (uint32_t p = 0; p < PAGES; p++) {
        for (uint32_t i = 0; i < 8; i++)
            c->page[p].plane[i] = (p * 8 + i) * 11 % PLANES; /* 35 and 11 have no common factor */
    }
}

typedef struct rope_case {
    float q[H * D], k[G * D], v[G * D];
} rope_case;

static sl_status rope_one(cache *c, rope_case *r, uint32_t position, uint32_t dims, bool neox)
{
    const float inv_freq[D / 2] = {1.0f, 0.5f, 0.25f, 0.1f};
    const sl_attn_seq seq = {.row_count = 1, .position = position, .pages = c->page};
    const sl_rope_append_args args = {.q = r->q,
                                      .k = r->k,
                                      .v = r->v,
                                      .q_stride = H * D,
                                      .kv_stride = G * D,
                                      .inv_freq = inv_freq,
                                      .rope_dims = dims,
                                      .rope_scale = 1.0f,
                                      .neox = neox,
                                      .kv = &c->kv,
                                      .chunk_layer = 1,
                                      .heads = H,
                                      .seq = &seq,
                                      .seq_count = 1,
                                      .n = 1};
    sl_stream stream = alone();

    return sl_ops_ref()->rope_append(&args, &stream);
}

static void rope_turns_pairs_by_position_times_frequency(void **state)
{
    const double f[4] = {1.0, 0.5, 0.25, (double)0.1f};
    (void)state;

    for (uint32_t neox = 0; neox < 2; neox++) {
        for (uint32_t position = 0; position < 200; position += 67) {
            rope_case r, before;
            cache c;

            make_cache(&c, D);
            fill(r.q, H * D, 6);
            fill(r.k, G * D, 7);
            fill(r.v, G * D, 8);
            before = r;
            assert_int_equal(rope_one(&c, &r, position, D, neox != 0), SL_OK);
            for (uint32_t h = 0; h < H; h++) {
                for (uint32_t j = 0; j < 4; j++) {
                    const uint32_t a = h * D + (neox != 0 ? j : 2 * j);
                    const uint32_t b = h * D + (neox != 0 ? j + 4 : 2 * j + 1);
                    const double x = (double)before.q[a], y = (double)before.q[b];
                    const double angle = position * f[j];

                    assert_near((double)r.q[a], x * cos(angle) - y * sin(angle), 1e-6);
                    assert_near((double)r.q[b], x * sin(angle) + y * cos(angle), 1e-6);
                }
            }
            assert_memory_equal(r.k, before.k, sizeof(r.k)); /* only q changes in place */
            free(c.kv.planes);
        }
    }
}

static void rope_leaves_dimensions_beyond_its_own(void **state)
{
    rope_case r, before;
    cache c;
    (void)state;

    make_cache(&c, D);
    fill(r.q, H * D, 6);
    fill(r.k, G * D, 7);
    fill(r.v, G * D, 8);
    before = r;
    assert_int_equal(rope_one(&c, &r, 5, 4, true), SL_OK);
    for (uint32_t h = 0; h < H; h++) {
        assert_true(r.q[h * D] != before.q[h * D]);
        assert_memory_equal(r.q + h * D + 4, before.q + h * D + 4, 4 * sizeof(float));
    }
    assert_int_equal(rope_one(&c, &r, 5, 3, true), SL_EINVAL);     /* odd */
    assert_int_equal(rope_one(&c, &r, 5, D + 2, true), SL_EINVAL); /* wider than the head */
    free(c.kv.planes);
}

static void head_norms_come_before_the_rotation(void **state)
{
    /* At position 0 nothing turns, so q is its norm. */
    const float w[D] = {1, 2, 1, 1, 1, 1, 1, 3};
    const float inv_freq[D / 2] = {1.0f, 0.5f, 0.25f, 0.1f};
    float q[H * D], k[G * D], v[G * D], before[H * D];
    sl_stream stream = alone();
    sl_attn_seq seq = {.row_count = 1};
    cache c;
    sl_rope_append_args args = {.q = q,
                                .k = k,
                                .v = v,
                                .q_stride = H * D,
                                .kv_stride = G * D,
                                .q_norm = w,
                                .norm_eps = 0.5f,
                                .inv_freq = inv_freq,
                                .rope_dims = D,
                                .rope_scale = 1.0f,
                                .heads = H,
                                .seq = &seq,
                                .seq_count = 1,
                                .n = 1};
    (void)state;

    make_cache(&c, D);
    seq.pages = c.page;
    args.kv = &c.kv;
    fill(q, H * D, 9);
    fill(k, G * D, 10);
    fill(v, G * D, 11);
    memcpy(before, q, sizeof(q));
    assert_int_equal(sl_ops_ref()->rope_append(&args, &stream), SL_OK);
    for (uint32_t h = 0; h < H; h++) {
        double sum = 0.0;

        for (uint32_t j = 0; j < D; j++)
            sum += (double)before[h * D + j] * (double)before[h * D + j];
        for (uint32_t j = 0; j < D; j++)
            assert_near((double)q[h * D + j],
                        (double)before[h * D + j] / sqrt(sum / D + 0.5) * (double)w[j], 1e-6);
    }
    /* And the factor of yarn scales the result. */
    memcpy(q, before, sizeof(q));
    args.q_norm = NULL;
    args.rope_scale = 1.5f;
    assert_int_equal(sl_ops_ref()->rope_append(&args, &stream), SL_OK);
    for (uint32_t j = 0; j < H * D; j++)
        assert_near((double)q[j], 1.5 * (double)before[j], 1e-6);
    free(c.kv.planes);
}

/* --- attention ---------------------------------------------------------------------------- */

/* Put K and V of `count` positions into layer 2 of the cache, unrotated; k, v [count][G][D]. */
static void append_all(cache *c, const float *k, const float *v, uint32_t count, uint32_t head_dim)
{
    const float inv_freq = 0.0f; /* angle 0: K goes in as it is */
    const sl_attn_seq seq = {.row_count = count, .pages = c->page};
    float *q = calloc((size_t)count * H * head_dim, sizeof(float));
    const sl_rope_append_args args = {.q = q,
                                      .k = k,
                                      .v = v,
                                      .q_stride = H * head_dim,
                                      .kv_stride = G * head_dim,
                                      .inv_freq = &inv_freq,
                                      .rope_dims = 2,
                                      .rope_scale = 1.0f,
                                      .kv = &c->kv,
                                      .chunk_layer = 2,
                                      .heads = H,
                                      .seq = &seq,
                                      .seq_count = 1,
                                      .n = count};
    sl_stream stream = alone();

    assert_non_null(q);
    assert_int_equal(sl_ops_ref()->rope_append(&args, &stream), SL_OK);
    free(q);
}

/* The formula once more: all keys at once, in long double, K and V rounded to halves. */
static void plain_attention(const float *q, const float *k, const float *v, uint32_t p,
                            const sl_attention_args *a, uint32_t head_dim, double *y)
{
    const uint32_t first = a->window == 0 || p < a->window ? 0 : p - a->window + 1;

    for (uint32_t h = 0; h < H; h++) {
        const uint32_t g = h / (H / G);
        long double sum = 0.0L;

        for (uint32_t j = 0; j < head_dim; j++)
            y[h * head_dim + j] = 0.0;
        for (uint32_t t = first; t <= p; t++) {
            long double s = 0.0L, e;

            for (uint32_t j = 0; j < head_dim; j++)
                s += (long double)q[h * head_dim + j] *
                     (long double)sl_f16_to_f32(sl_f32_to_f16(k[(t * G + g) * head_dim + j]));
            s *= (long double)a->scale;
            if (a->softcap > 0.0f)
                s = (long double)a->softcap * tanhl(s / (long double)a->softcap);
            e = expl(s);
            sum += e;
            for (uint32_t j = 0; j < head_dim; j++)
                y[h * head_dim + j] += (double)(e * (long double)sl_f16_to_f32(sl_f32_to_f16(
                                                        v[(t * G + g) * head_dim + j])));
        }
        for (uint32_t j = 0; j < head_dim; j++)
            y[h * head_dim + j] /= (double)sum;
    }
}

static void attention_is_its_formula(void **state)
{
    enum { COUNT = 200, DIM = 16 };
    static const uint32_t positions[] = {0, 1, 62, 63, 64, 65, 127, 128, 199};
    static const struct {
        float scale, softcap;
        uint32_t window;
    } kinds[] = {{1.0f, 0.0f, 0},  {3.0f, 5.0f, 0},  {1.0f, 0.0f, 1},
                 {1.0f, 0.0f, 64}, {1.0f, 0.0f, 65}, {2.0f, 0.0f, 200}};
    static float k[COUNT * G * DIM], v[COUNT * G * DIM], q[H * DIM], y[H * DIM];
    static double want[H * DIM];
    _Alignas(64) uint8_t act[H * DIM * 4];
    sl_stream stream = alone();
    cache c;
    (void)state;

    make_cache(&c, DIM);
    fill(k, COUNT * G * DIM, 12);
    fill(v, COUNT * G * DIM, 13);
    fill(q, H * DIM, 14);
    append_all(&c, k, v, COUNT, DIM);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        for (size_t n = 0; n < sizeof(positions) / sizeof(positions[0]); n++) {
            const sl_attn_seq seq = {.row_count = 1, .position = positions[n], .pages = c.page};
            const sl_attention_args args = {.y = y,
                                            .act = act,
                                            .q = q,
                                            .q_stride = H * DIM,
                                            .kv = &c.kv,
                                            .chunk_layer = 2,
                                            .heads = H,
                                            .scale = kinds[i].scale,
                                            .softcap = kinds[i].softcap,
                                            .window = kinds[i].window,
                                            .seq = &seq,
                                            .seq_count = 1,
                                            .n = 1};

            assert_int_equal(sl_ops_ref()->attention(&args, &stream), SL_OK);
            plain_attention(q, k, v, positions[n], &args, DIM, want);
            for (uint32_t j = 0; j < H * DIM; j++)
                assert_near((double)y[j], want[j], 1e-6);
            assert_memory_equal(act, y, sizeof(y));
        }
    }
    free(c.kv.planes);
}

/* Rows of several sequences in one call, the second on its own pages; strides wider than rows. */
static void attention_rows_belong_to_their_sequences(void **state)
{
    enum { COUNT = 70, DIM = 16, STRIDE = H * DIM + 5 };
    static float k[2][COUNT * G * DIM], v[2][COUNT * G * DIM], q[4 * STRIDE], y[4 * H * DIM];
    static double want[H * DIM];
    static const uint32_t owner[4] = {0, 0, 0, 1}, position[4] = {67, 68, 69, 3};
    sl_stream stream = alone();
    sl_attn_seq seq[2];
    cache c[2];
    (void)state;

    for (uint32_t s = 0; s < 2; s++) {
        make_cache(&c[s], DIM);
        fill(k[s], COUNT * G * DIM, 15 + s);
        fill(v[s], COUNT * G * DIM, 17 + s);
    }
    /* The second sequence lives in the first one's store, on its last two pages. */
    append_all(&c[0], k[0], v[0], COUNT, DIM);
    free(c[1].kv.planes);
    c[1].kv.planes = c[0].kv.planes;
    memcpy(c[1].page, c[0].page + 2, 2 * sizeof(sl_kv_page));
    append_all(&c[1], k[1], v[1], COUNT, DIM);
    fill(q, 4 * STRIDE, 19);
    seq[0] = (sl_attn_seq){.row_count = 3, .position = 67, .pages = c[0].page};
    seq[1] = (sl_attn_seq){.row_first = 3, .row_count = 1, .position = 3, .pages = c[1].page};
    {
        const sl_attention_args args = {.y = y,
                                        .q = q,
                                        .q_stride = STRIDE,
                                        .kv = &c[0].kv,
                                        .chunk_layer = 2,
                                        .heads = H,
                                        .scale = 1.0f,
                                        .seq = seq,
                                        .seq_count = 2,
                                        .n = 4};

        assert_int_equal(sl_ops_ref()->attention(&args, &stream), SL_OK);
        for (uint32_t i = 0; i < 4; i++) {
            plain_attention(q + i * STRIDE, k[owner[i]], v[owner[i]], position[i], &args, DIM,
                            want);
            for (uint32_t j = 0; j < H * DIM; j++)
                assert_near((double)y[i * H * DIM + j], want[j], 1e-6);
        }
    }
    free(c[0].kv.planes);
}

static void attention_refuses_impossible_shapes(void **state)
{
    float q[H * D] = {0}, y[H * D];
    sl_stream stream = alone();
    sl_attn_seq seq = {.row_count = 1};
    cache c;
    sl_attention_args args = {.y = y,
                              .q = q,
                              .q_stride = H * D,
                              .heads = H,
                              .scale = 1.0f,
                              .seq = &seq,
                              .seq_count = 1,
                              .n = 1};
    (void)state;

    make_cache(&c, D);
    seq.pages = c.page;
    args.kv = &c.kv;
    args.chunk_layer = LAYERS;
    assert_int_equal(sl_ops_ref()->attention(&args, &stream), SL_EINVAL);
    args.chunk_layer = 0;
    args.heads = 5;
    assert_int_equal(sl_ops_ref()->attention(&args, &stream), SL_EINVAL);
    args.heads = H;
    c.kv.plane_bytes -= 64;
    assert_int_equal(sl_ops_ref()->attention(&args, &stream), SL_EINVAL);
    args.n = 0;
    assert_int_equal(sl_ops_ref()->attention(&args, &stream), SL_OK);
    free(c.kv.planes);
}

static void planes_are_copied_whole(void **state)
{
    const uint32_t dst[2] = {4, 1}, src[2] = {2, 3};
    sl_stream stream = alone();
    cache c;
    (void)state;

    make_cache(&c, D);
    for (uint32_t p = 0; p < 5; p++)
        memset(c.kv.planes + p * c.kv.plane_bytes, (int)p, c.kv.plane_bytes);
    assert_int_equal(
        sl_ops_ref()->plane_copy(
            &(sl_plane_copy_args){.kv = &c.kv, .dst = dst, .src = src, .count = 2}, &stream),
        SL_OK);
    for (uint32_t p = 0; p < 5; p++) {
        static const uint8_t want[5] = {0, 3, 2, 3, 2};

        for (size_t i = 0; i < c.kv.plane_bytes; i++)
            assert_int_equal(c.kv.planes[p * c.kv.plane_bytes + i], want[p]);
    }
    free(c.kv.planes);
}

/* --- teams -------------------------------------------------------------------------------- */

enum { TEAM = 3, TEAM_ROWS = 5, TEAM_K = 32, TEAM_N = 10 };

typedef struct team_job {
    sl_stream stream;
    sl_thread thread;
    const float *x;
    const float *norm;
    const sl_weight *w;
    void *act;
    float *y;
    sl_status status;
} team_job;

static void run_job(void *user)
{
    team_job *j = user;
    const sl_norm_args norm = {
        .act = j->act, .x = j->x, .w = j->norm, .n = TEAM_ROWS, .cols = TEAM_K, .eps = 1e-5f};
    const sl_linear_args linear = {.part = {{.w = j->w, .y = j->y, .y_stride = TEAM_N}},
                                   .part_count = 1,
                                   .act = j->act,
                                   .n = TEAM_ROWS,
                                   .cols = TEAM_K};

    j->status = sl_ops_ref()->norm(&norm, &j->stream);
    if (j->status == SL_OK)
        j->status = sl_ops_ref()->linear(&linear, &j->stream);
}

static void a_team_computes_what_one_computes(void **state)
{
    static float x[TEAM_ROWS * TEAM_K], norm[TEAM_K], values[TEAM_N * TEAM_K];
    static float one[TEAM_ROWS * TEAM_N], many[TEAM_ROWS * TEAM_N];
    static _Alignas(64) uint8_t act[TEAM_ROWS * TEAM_K * 4], blocks[TEAM][1024];
    sl_weight w = make_weight(SL_DTYPE_Q4_0, TEAM_N, TEAM_K, values);
    team_job job[TEAM];
    sl_team team;
    (void)state;

    fill(x, TEAM_ROWS * TEAM_K, 20);
    fill(norm, TEAM_K, 21);
    job[0] = (team_job){.stream = alone(), .x = x, .norm = norm, .w = &w, .act = act, .y = one};
    run_job(&job[0]);
    assert_int_equal(job[0].status, SL_OK);
    sl_team_init(&team, TEAM);
    for (uint32_t i = 0; i < TEAM; i++) {
        job[i] = (team_job){.x = x, .norm = norm, .w = &w, .act = act, .y = many};
        sl_stream_init(&job[i].stream, &team, i, blocks[i], sizeof(blocks[i]));
    }
    for (uint32_t i = 0; i < TEAM; i++)
        assert_int_equal(sl_thread_start(&job[i].thread, "twin", -1, run_job, &job[i]), SL_OK);
    for (uint32_t i = 0; i < TEAM; i++) {
        sl_thread_join(&job[i].thread);
        assert_int_equal(job[i].status, SL_OK);
    }
    assert_memory_equal(one, many, sizeof(one));
    free(w.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prepared_rows_are_whole_lines),
        cmocka_unit_test(a_weight_is_planned_by_its_blocks),
        cmocka_unit_test(embedding_scales_rows_of_the_table),
        cmocka_unit_test(norm_divides_by_the_root_mean_square),
        cmocka_unit_test(norm_adds_to_the_residual_when_asked),
        cmocka_unit_test(prepare_keeps_the_values),
        cmocka_unit_test(glu_gates_with_the_known_functions),
        cmocka_unit_test(linear_is_a_matrix_product_in_every_format),
        cmocka_unit_test(linear_parts_share_one_input),
        cmocka_unit_test(linear_refuses_shapes_that_do_not_meet),
        cmocka_unit_test(rope_turns_pairs_by_position_times_frequency),
        cmocka_unit_test(rope_leaves_dimensions_beyond_its_own),
        cmocka_unit_test(head_norms_come_before_the_rotation),
        cmocka_unit_test(attention_is_its_formula),
        cmocka_unit_test(attention_rows_belong_to_their_sequences),
        cmocka_unit_test(attention_refuses_impossible_shapes),
        cmocka_unit_test(planes_are_copied_whole),
        cmocka_unit_test(a_team_computes_what_one_computes),
    };
    return cmocka_run_group_tests_name("kernels/ref", tests, NULL, NULL);
}
