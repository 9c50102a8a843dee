/* kernels/cpu/rope.c - head norms, rotary embedding, and the append of K and V to their pages.
 *
 *   head = norm(head) * w (if there are weights);  (x, y) = (x c - y s, x s + y c) per pair, with
 *   c, s = rope_scale * cos, sin(position * inv_freq[j])
 *
 * Types      fp32; the angle's product is exact (a head and a tail), then reduced by pi / 2 in
 *            three parts, so that position 100,000 is as exact as position 1; K and V are rounded
 *            to half once, when stored.
 * Shapes     head_dim a multiple of 8 up to 256, rope_dims even and at most head_dim.  A plane's
 *            block of 16 tokens and one KV head holds K as [D][16] and V as [16][D] halves.
 * Mapping    a piece is one row and one KV head with its query heads; members have fixed shares.
 * Bound      instructions: the 2-byte stores of K (one a dimension) and about 40 instructions for
 *            8 angles; small beside the linear layers.
 * Reference  kernels/ref/rope.c, within 1e-6 of the head's norm (sine and cosine within 2e-7).
 * Source     Cody and Waite, Software Manual for the Elementary Functions (argument reduction);
 *            sine and cosine by their series.
 * Measured   one core of Zen 4: 12 to 18 ns a head of 64, 22 of 128, 55 of 256. */
#include <math.h>

#include "kernels/cpu/vec_internal.h"
#include "kernels/team.h"

#define HALF_MAX 65504.0f /* the largest half */

enum { PLANE_TOKENS = 16 };

/* sin and cos of the angle p + tail, |p| below about 10^6, absolute error below 2e-7. */
SL_INLINE void sin_cos(__m256 p, __m256 tail, __m256 *s_out, __m256 *c_out)
{
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(p, _mm256_set1_ps(0.636619772f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i quarter = _mm256_cvtps_epi32(n);
    const __m256 one = _mm256_set1_ps(1.0f);
    __m256 r, r2, s, c, swap, s_sign, c_sign, sin_r, cos_r;

    /* pi / 2 = 1.57079637 - 4.37113883e-8 - 1.7e-15, the first two as floats. */
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(1.57079637f), p);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-4.37113883e-8f), r);
    r = _mm256_add_ps(r, tail);
    r2 = _mm256_mul_ps(r, r);
    s = _mm256_fmadd_ps(_mm256_set1_ps(2.75573192e-6f), r2, _mm256_set1_ps(-1.98412698e-4f));
    s = _mm256_fmadd_ps(s, r2, _mm256_set1_ps(8.33333333e-3f));
    s = _mm256_fmadd_ps(s, r2, _mm256_set1_ps(-1.66666667e-1f));
    sin_r = _mm256_fmadd_ps(_mm256_mul_ps(s, r2), r, r);
    c = _mm256_fmadd_ps(_mm256_set1_ps(-2.75573192e-7f), r2, _mm256_set1_ps(2.48015873e-5f));
    c = _mm256_fmadd_ps(c, r2, _mm256_set1_ps(-1.38888889e-3f));
    c = _mm256_fmadd_ps(c, r2, _mm256_set1_ps(4.16666667e-2f));
    c = _mm256_fmadd_ps(c, r2, _mm256_set1_ps(-0.5f));
    cos_r = _mm256_fmadd_ps(c, r2, one);
    /* Quarter turns: odd ones swap sine and cosine, bit 1 of n and of n + 1 are the signs. */
    swap = _mm256_castsi256_ps(_mm256_slli_epi32(quarter, 31));
    s_sign = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_srli_epi32(quarter, 1), 31));
    c_sign = _mm256_castsi256_ps(_mm256_slli_epi32(
        _mm256_srli_epi32(_mm256_add_epi32(quarter, _mm256_set1_epi32(1)), 1), 31));
    *s_out = _mm256_xor_ps(_mm256_blendv_ps(sin_r, cos_r, swap), s_sign);
    *c_out = _mm256_xor_ps(_mm256_blendv_ps(cos_r, sin_r, swap), c_sign);
}

/* Sines and cosines of one position, times rope_scale; up to 7 lanes beyond the last are junk. */
typedef struct turn {
    _Alignas(32) float c[SL_HEAD_DIM_MAX / 2 + 8];
    _Alignas(32) float s[SL_HEAD_DIM_MAX / 2 + 8];
} turn;

static void make_turn(const sl_rope_append_args *a, uint32_t position, turn *out)
{
    const __m256 at = _mm256_set1_ps((float)position), scale = _mm256_set1_ps(a->rope_scale);
    const uint32_t half = a->rope_dims / 2;

    for (uint32_t j = 0; j < half; j += 8) {
        const uint32_t left = half - j;
        const __m256 f = _mm256_maskload_ps(a->inv_freq + j, sl_vec_mask(left < 8 ? left : 8));
        const __m256 p = _mm256_mul_ps(at, f);
        __m256 s, c;

        sin_cos(p, _mm256_fmsub_ps(at, f, p), &s, &c);
        _mm256_store_ps(out->c + j, _mm256_mul_ps(c, scale));
        _mm256_store_ps(out->s + j, _mm256_mul_ps(s, scale));
    }
}

/* out = norm(head) * w, or head if w is NULL; d is a multiple of 8. */
static void head_norm(float *out, const float *head, const float *w, uint32_t d, float eps)
{
    __m256 sum = _mm256_setzero_ps(), scale;

    if (w == NULL) {
        if (out != head)
            memcpy(out, head, d * sizeof(float));
        return;
    }
    for (uint32_t j = 0; j < d; j += 8) {
        const __m256 v = _mm256_loadu_ps(head + j);

        sum = _mm256_fmadd_ps(v, v, sum);
    }
    scale = _mm256_set1_ps(1.0f / sqrtf(sl_vec_sum(sum) / (float)d + eps));
    for (uint32_t j = 0; j < d; j += 8)
        _mm256_storeu_ps(out + j, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(head + j), scale),
                                                _mm256_loadu_ps(w + j)));
}

static void rotate_neox(float *head, const turn *t, uint32_t half)
{
    uint32_t j = 0;

    for (; j + 8 <= half; j += 8) {
        const __m256 c = _mm256_load_ps(t->c + j), s = _mm256_load_ps(t->s + j);
        const __m256 x = _mm256_loadu_ps(head + j), y = _mm256_loadu_ps(head + half + j);

        _mm256_storeu_ps(head + j, _mm256_fmsub_ps(x, c, _mm256_mul_ps(y, s)));
        _mm256_storeu_ps(head + half + j, _mm256_fmadd_ps(x, s, _mm256_mul_ps(y, c)));
    }
    for (; j < half; j++) {
        const float x = head[j], y = head[half + j];

        head[j] = x * t->c[j] - y * t->s[j];
        head[half + j] = x * t->s[j] + y * t->c[j];
    }
}

static void rotate_pairs(float *head, const turn *t, uint32_t half)
{
    for (uint32_t j = 0; j < half; j++) {
        const float x = head[2 * j], y = head[2 * j + 1];

        head[2 * j] = x * t->c[j] - y * t->s[j];
        head[2 * j + 1] = x * t->s[j] + y * t->c[j];
    }
}

static void norm_and_rotate(const sl_rope_append_args *a, float *out, const float *head,
                            const float *w, const turn *t)
{
    head_norm(out, head, w, a->kv->head_dim, a->norm_eps);
    if (a->neox)
        rotate_neox(out, t, a->rope_dims / 2);
    else
        rotate_pairs(out, t, a->rope_dims / 2);
}

/* The block of 16 tokens, one layer and one KV head, in a plane. */
static uint16_t *block_of(const sl_rope_append_args *a, uint32_t plane, uint32_t g)
{
    const size_t block = (size_t)a->chunk_layer * a->kv->kv_heads + g;

    return (uint16_t *)(void *)(a->kv->planes + a->kv->plane_bytes * plane) +
           block * PLANE_TOKENS * a->kv->head_dim;
}

/* Eight halves; beyond their range the largest one (never an infinity: 0 * infinity of a masked key
 * would reach other rows of a tile). */
static __m128i to_halves(const float *x)
{
    const __m256 top = _mm256_set1_ps(HALF_MAX);
    const __m256 low = _mm256_max_ps(_mm256_loadu_ps(x), _mm256_sub_ps(_mm256_setzero_ps(), top));

    return _mm256_cvtps_ph(_mm256_min_ps(low, top), _MM_FROUND_TO_NEAREST_INT);
}

static void store_kv(const sl_rope_append_args *a, const sl_kv_page *page, uint32_t t, uint32_t g,
                     const float *k, const float *v)
{
    const uint32_t d = a->kv->head_dim, at = t % PLANE_TOKENS;
    uint16_t *k_block = block_of(a, page->plane[t / PLANE_TOKENS], g);
    uint16_t *v_row = block_of(a, page->plane[4 + t / PLANE_TOKENS], g) + (size_t)at * d;
    uint16_t half[8];

    for (uint32_t j = 0; j < d; j += 8) {
        _mm_storeu_si128((__m128i *)(void *)half, to_halves(k + j));
        for (uint32_t i = 0; i < 8; i++)
            k_block[(size_t)(j + i) * PLANE_TOKENS + at] = half[i];
        _mm_storeu_si128((__m128i *)(void *)(v_row + j), to_halves(v + j));
    }
}

/* KV head g of batch row i, which is at `position` of its sequence, and its query heads. */
static void append(const sl_rope_append_args *a, const sl_attn_seq *seq, uint32_t i, uint32_t g,
                   const turn *t)
{
    const uint32_t d = a->kv->head_dim, group = a->heads / a->kv->kv_heads;
    const uint32_t position = seq->position + (i - seq->row_first);
    const float *k = a->k + (size_t)i * a->kv_stride + (size_t)g * d;
    const float *v = a->v + (size_t)i * a->kv_stride + (size_t)g * d;
    float turned[SL_HEAD_DIM_MAX];

    for (uint32_t h = g * group; h < (g + 1) * group; h++) {
        float *q = a->q + (size_t)i * a->q_stride + (size_t)h * d;

        norm_and_rotate(a, q, q, a->q_norm, t);
    }
    norm_and_rotate(a, turned, k, a->k_norm, t);
    store_kv(a, &seq->pages[position / SL_PAGE_TOKENS], position % SL_PAGE_TOKENS, g, turned, v);
}

sl_status sl_cpu_rope_append(const sl_rope_append_args *a, sl_stream *stream)
{
    const uint32_t g_count = a->n == 0 ? 0 : a->kv->kv_heads;
    uint32_t first, count, passed = 0;
    turn t;

    if (a->n == 0)
        return SL_OK;
    if (!sl_cpu_kv_shape_ok(a->kv, a->chunk_layer, a->heads) || a->rope_dims % 2 != 0 ||
        a->rope_dims > a->kv->head_dim)
        return SL_EINVAL;
    for (uint32_t s = 0; s < a->seq_count; s++)
        passed += a->seq[s].row_count;
    count = sl_stream_share(stream, passed * g_count, 1, &first);

    /* Pieces count through the sequences' rows, KV head fastest. */
    passed = 0;
    for (uint32_t s = 0; s < a->seq_count; s++) {
        const sl_attn_seq *seq = &a->seq[s];
        const uint32_t begin = passed > first ? passed : first;
        const uint32_t pieces = seq->row_count * g_count;
        const uint32_t end = passed + pieces < first + count ? passed + pieces : first + count;

        for (uint32_t p = begin; p < end; p++) {
            const uint32_t r = (p - passed) / g_count, g = (p - passed) % g_count;

            if (p == begin || g == 0)
                make_turn(a, seq->position + r, &t);
            append(a, seq, seq->row_first + r, g, &t);
        }
        passed += pieces;
    }
    sl_stream_barrier(stream);
    return SL_OK;
}
