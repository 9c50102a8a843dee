/* kernels/cpu/rows.c - norm, prepare, glu: one row in, one (prepared) row out.
 *
 *   norm     y = x * rsqrt(mean(x^2) + eps) * w     glu   y = fn(gate) * up
 *
 * Types      fp32 throughout; a prepared row is then rounded to 8 bits a block of 32 (scale
 *            absmax / 127), which is the one coarse rounding of the CPU backend.
 * Shapes     any number of columns; those beyond a multiple of 32 are zero in a prepared row.
 * Mapping    norm: a row is one member's; the square sum is 4 chains of 8 lanes, always added in
 *            the same order.  prepare and glu: pieces of 256 columns of a row.
 * Bound      memory: norm reads 4 bytes an element twice (the second time from cache) and writes
 *            1.25, plus 4 unless codes_only; glu spends about 20 instructions on 8 elements.
 * Reference  kernels/ref/rows.c; floats within 1e-6 relative (order of sums, exp within 3e-7),
 *            codes within half a step of the reference's float.
 * Source     Zhang and Sennrich, arXiv 1910.07467 (norm).
 * Measured   one core of Zen 4, ns an element: norm 0.38, silu 0.92, gelu 1.14. */
#include <math.h>

#include "kernels/cpu/vec_internal.h"
#include "kernels/team.h"

enum { PIECE_BLOCKS = 8 };

/* Sum of squares of a row, in double at the end: the chains are short. */
static float square_sum(const float *x, uint32_t cols)
{
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                   _mm256_setzero_ps()};
    uint32_t k = 0;

    for (; k + 32 <= cols; k += 32)
        for (int i = 0; i < 4; i++) {
            const __m256 v = _mm256_loadu_ps(x + k + 8 * i);

            s[i] = _mm256_fmadd_ps(v, v, s[i]);
        }
    for (; k < cols; k += 8) {
        const __m256 v = _mm256_maskload_ps(x + k, sl_vec_mask(cols - k < 8 ? cols - k : 8));

        s[0] = _mm256_fmadd_ps(v, v, s[0]);
    }
    return sl_vec_sum(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

/* out[0..count) = x * scale * w, count at most 32; zeros beyond up to 32. */
SL_INLINE void norm_block(float *out, const float *x, const float *w, float scale, uint32_t count)
{
    const __m256 s = _mm256_set1_ps(scale);

    if (count >= SL_CPU_BLOCK) {
        for (int i = 0; i < 4; i++)
            _mm256_storeu_ps(out + 8 * i,
                             _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), s),
                                           _mm256_loadu_ps(w + 8 * i)));
        return;
    }
    for (uint32_t k = 0; k < SL_CPU_BLOCK; k++)
        out[k] = k < count ? x[k] * scale * w[k] : 0.0f;
}

static void store_block(float *y, const float *v, uint32_t count, bool accumulate)
{
    if (!accumulate) {
        memcpy(y, v, count * sizeof(float));
        return;
    }
    for (uint32_t k = 0; k < count; k++)
        y[k] += v[k];
}

static void norm_row(const sl_norm_args *a, uint32_t i)
{
    const float *x = a->x + (size_t)i * a->cols;
    float *y = a->y == NULL ? NULL : a->y + (size_t)i * a->cols;
    uint8_t *act = a->act == NULL ? NULL : (uint8_t *)a->act + sl_cpu_act_bytes(a->cols) * i;
    const float mean = square_sum(x, a->cols) / (float)a->cols;
    const float scale = 1.0f / sqrtf(mean + a->eps);
    float temp[SL_CPU_BLOCK];

    for (uint32_t b = 0; b < sl_cpu_blocks(a->cols); b++) {
        const uint32_t k = b * SL_CPU_BLOCK;
        const uint32_t count = a->cols - k < SL_CPU_BLOCK ? a->cols - k : SL_CPU_BLOCK;
        float *v = act == NULL ? temp : sl_vec_act_floats(act, a->cols, b, a->codes_only, temp);

        norm_block(v, x + k, a->w + k, scale, count);
        if (act != NULL)
            sl_vec_act_block(act, a->cols, b, v);
        if (y != NULL)
            store_block(y + k, v, count, a->accumulate);
    }
}

sl_status sl_cpu_norm(const sl_norm_args *a, sl_stream *stream)
{
    uint32_t first, count;

    if (a->n == 0)
        return SL_OK;
    if (a->cols == 0 || (a->accumulate && a->act != NULL))
        return SL_EINVAL;
    count = sl_stream_share(stream, a->n, 1, &first);
    for (uint32_t i = first; i < first + count; i++)
        norm_row(a, i);
    sl_stream_barrier(stream);
    return SL_OK;
}

/* This member's share of n rows, cut into pieces of PIECE_BLOCKS blocks. */
typedef struct piece_range {
    uint32_t first;
    uint32_t count;
    uint32_t per_row;
} piece_range;

static piece_range share_pieces(const sl_stream *stream, uint32_t n, uint32_t cols)
{
    piece_range r;

    r.per_row = (sl_cpu_blocks(cols) + PIECE_BLOCKS - 1) / PIECE_BLOCKS;
    r.count = sl_stream_share(stream, n * r.per_row, 1, &r.first);
    return r;
}

static void prepare_block(const sl_prepare_args *a, uint32_t i, uint32_t b)
{
    uint8_t *act = (uint8_t *)a->act + sl_cpu_act_bytes(a->cols) * i;
    const uint32_t k = b * SL_CPU_BLOCK;
    const uint32_t count = a->cols - k < SL_CPU_BLOCK ? a->cols - k : SL_CPU_BLOCK;
    float temp[SL_CPU_BLOCK];
    float *v = sl_vec_act_floats(act, a->cols, b, a->codes_only, temp);

    memcpy(v, a->x + (size_t)i * a->cols + k, count * sizeof(float));
    memset(v + count, 0, (SL_CPU_BLOCK - count) * sizeof(float));
    sl_vec_act_block(act, a->cols, b, v);
}

sl_status sl_cpu_prepare(const sl_prepare_args *a, sl_stream *stream)
{
    piece_range r;

    if (a->n == 0 || a->cols == 0)
        return SL_OK;
    r = share_pieces(stream, a->n, a->cols);
    for (uint32_t p = r.first; p < r.first + r.count; p++) {
        const uint32_t begin = p % r.per_row * PIECE_BLOCKS;

        for (uint32_t b = begin; b < begin + PIECE_BLOCKS && b < sl_cpu_blocks(a->cols); b++)
            prepare_block(a, p / r.per_row, b);
    }
    sl_stream_barrier(stream);
    return SL_OK;
}

/* gelu(g) = g / (1 + e^(-2 u)), u = sqrt(2 / pi) (g + 0.044715 g^3). */
SL_INLINE __m256 activation(__m256 g, sl_act_fn fn)
{
    __m256 u;

    if (fn == SL_ACT_SILU)
        return sl_vec_times_logistic(g, g);
    u = _mm256_fmadd_ps(_mm256_mul_ps(g, g), _mm256_set1_ps(0.044715f), _mm256_set1_ps(1.0f));
    u = _mm256_mul_ps(_mm256_mul_ps(u, g), _mm256_set1_ps(2.0f * 0.79788456f));
    return sl_vec_times_logistic(g, u);
}

static void glu_block(const sl_glu_args *a, uint32_t i, uint32_t b)
{
    uint8_t *act = (uint8_t *)a->act + sl_cpu_act_bytes(a->cols) * i;
    const uint32_t k = b * SL_CPU_BLOCK;
    const float *gate = a->gate + (size_t)i * a->stride + k;
    const float *up = a->up + (size_t)i * a->stride + k;
    float temp[SL_CPU_BLOCK];
    float *v = sl_vec_act_floats(act, a->cols, b, a->codes_only, temp);

    if (k + SL_CPU_BLOCK <= a->cols) {
        SL_UNROLL
        for (uint32_t j = 0; j < SL_CPU_BLOCK; j += 8) {
            const __m256 g = activation(_mm256_loadu_ps(gate + j), a->fn);

            _mm256_storeu_ps(v + j, _mm256_mul_ps(g, _mm256_loadu_ps(up + j)));
        }
        sl_vec_act_block(act, a->cols, b, v);
        return;
    }
    for (uint32_t j = 0; j < SL_CPU_BLOCK; j += 8) {
        const uint32_t left = a->cols - k > j ? a->cols - k - j : 0;
        const __m256i mask = sl_vec_mask(left < 8 ? left : 8);
        const __m256 g = _mm256_maskload_ps(gate + j, mask);
        const __m256 u = _mm256_maskload_ps(up + j, mask);

        _mm256_storeu_ps(v + j, _mm256_mul_ps(activation(g, a->fn), u));
    }
    sl_vec_act_block(act, a->cols, b, v);
}

sl_status sl_cpu_glu(const sl_glu_args *a, sl_stream *stream)
{
    piece_range r;

    if (a->n == 0 || a->cols == 0)
        return SL_OK;
    if (a->stride < a->cols)
        return SL_EINVAL;
    r = share_pieces(stream, a->n, a->cols);
    for (uint32_t p = r.first; p < r.first + r.count; p++) {
        const uint32_t begin = p % r.per_row * PIECE_BLOCKS;

        for (uint32_t b = begin; b < begin + PIECE_BLOCKS && b < sl_cpu_blocks(a->cols); b++)
            glu_block(a, p / r.per_row, b);
    }
    sl_stream_barrier(stream);
    return SL_OK;
}
