/* kernels/cpu/tiles_int.c - acc[t][r] += sum over blocks of w[r, :] . x[t, :], integer codes.
 *
 * For a block of 32 columns, row r and token t, with codes q (weight) and c (activation):
 *
 *     acc = fma(float(sum q c), wd * d, acc)            all kinds
 *     acc = fma(wm, d * sum c, acc)                     kinds with a min (Q4_0: wm = -8 wd; ...)
 *
 * Types      q unsigned 4, 5 or 6 bits (Q8_0: signed 8), c signed 8 bits; the sum is exact; wd, wm,
 *            d and acc are fp32: two or three roundings a block, in this order, always.
 * Overflow   maddubs gives s16 sums of two products.  How many of those may be added before madd
 *            widens them: 8 of 2 * 15 * 127, 4 of 2 * 31 * 127, 2 of 2 * 63 * 127.  Q6_K's scales
 *            (a signed byte per 16 columns) take the place of madd's ones, so scaling is free; its
 *            offset of 32 is taken off by the pairs of -16 * (sum of c), with doubled scales:
 *            madd(2 scale, -16 sum) = -32 scale sum.  A block's total is below 2^26.
 *            Q8_0: 127 * 127 * 2 fits, no addition does; maddubs wants one unsigned side, so it
 *            gets |q|, and c with q's sign.  (A code of -128 becomes 128 unsigned: 128 * 127 * 2 =
 *            32512 still fits.)
 * Shapes     one panel of 8 rows; 1 to 6 tokens; any range of blocks.
 * Mapping    8 vectors of codes stay in registers; activations come by 32-bit broadcast loads.  Two
 *            tokens go side by side: one token's chain of adds alone leaves the ports idle.
 * Bound      instructions: 20 for 256 products at 4 bits.  A lone token is bound by memory.
 * Reference  kernels/ref/linear.c on the same rounded activations, within 1e-5 of sum |w x|: only
 *            the order of fp32 sums differs.
 * Source     the maddubs bounds are arithmetic; the layout is ours.
 * Measured   one core of an EPYC of the Zen 4 kind (a nibble peak of 375 GOP/s, bench/kernels.c),
 *            576 x 1536 Q4_1: 24 to 28 GB/s for one token (the core's read rate is 25), 184 GOP/s
 *            for 8 tokens (49 %), 193 for 512 (52 %).  The float steps cost a third of the peak:
 *            the same instructions on registers alone reach 250. */
#include "kernels/cpu/tiles_internal.h"

/* --- 4 and 5 bits ---------------------------------------------------------------------------- */

/* Keep the order of the two chains as it is written: left to itself the compiler finishes one
 * before it begins the other, which costs a tenth (measured, gcc 12). */
#define SIDE_BY_SIDE(s, u) __asm__ volatile("" : "+x"(s), "+x"(u))

/* sum q c of a block for `pair` (1 or 2) tokens at a0 and a1. */
SL_INLINE void dot_block(bool fifth, const __m256i q[8], const uint8_t *a0, const uint8_t *a1,
                         __m256i sum[2], int pair)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i s = _mm256_maddubs_epi16(q[0], four_codes(a0));
    __m256i u = pair == 2 ? _mm256_maddubs_epi16(q[0], four_codes(a1)) : s;
    __m256i s_wide = _mm256_setzero_si256(), u_wide = s_wide;

    SL_UNROLL
    for (int v = 1; v < 8; v++) {
        const __m256i x = _mm256_maddubs_epi16(q[v], four_codes(a0 + 4 * v));
        const __m256i y = pair == 2 ? _mm256_maddubs_epi16(q[v], four_codes(a1 + 4 * v)) : x;

        if (fifth && v == 4) {
            s_wide = _mm256_madd_epi16(s, ones);
            u_wide = _mm256_madd_epi16(u, ones);
            s = x;
            u = y;
        } else {
            s = _mm256_add_epi16(s, x);
            u = _mm256_add_epi16(u, y);
        }
        if (pair == 2)
            SIDE_BY_SIDE(s, u);
    }
    sum[0] = _mm256_madd_epi16(s, ones);
    sum[1] = _mm256_madd_epi16(u, ones);
    if (fifth) {
        sum[0] = _mm256_add_epi32(sum[0], s_wide);
        sum[1] = _mm256_add_epi32(sum[1], u_wide);
    }
}

SL_INLINE __m256 scale_add(__m256 acc, __m256i sum, __m256 wd, __m256 wm, const uint8_t *a)
{
    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(wd, one_float(a + SL_CPU_ACT_D)),
                          acc);
    return _mm256_fmadd_ps(wm, one_float(a + SL_CPU_ACT_DSUM), acc);
}

SL_INLINE void tile_min(sl_cpu_kind kind, const int tokens, const sl_cpu_tile *tile)
{
    walk w = walk_begin(kind, tile);
    const uint8_t *act[SL_CPU_TILE];
    __m256 acc[SL_CPU_TILE];

    SL_UNROLL
    for (int t = 0; t < tokens; t++) {
        act[t] = tile->act[t];
        acc[t] = _mm256_loadu_ps(tile->acc + 8 * t);
    }
    for (uint32_t b = tile->block_first; b < tile->block_end; b++) {
        const size_t at = (size_t)b * SL_CPU_ACT_BLOCK;
        __m256i q[8], sum[2];
        __m256 wd, wm;

        walk_enter(kind, &w, b);
        load_nibbles(w.block, q);
        if (has_fifth(kind))
            add_fifth_bits(w.block + sl_cpu_layouts[kind].high, q);
        load_scale_min(kind, w.super, w.block + sl_cpu_layouts[kind].scale, &wd, &wm);
        SL_UNROLL
        for (int t = 0; t < tokens; t += 2) {
            const int pair = t + 1 < tokens ? 2 : 1;
            const uint8_t *a0 = act[t] + at, *a1 = act[t + pair - 1] + at;

            dot_block(has_fifth(kind), q, a0, a1, sum, pair);
            acc[t] = scale_add(acc[t], sum[0], wd, wm, a0);
            if (pair == 2)
                acc[t + 1] = scale_add(acc[t + 1], sum[1], wd, wm, a1);
        }
        walk_leave(kind, &w);
    }
    SL_UNROLL
    for (int t = 0; t < tokens; t++)
        _mm256_storeu_ps(tile->acc + 8 * t, acc[t]);
}

/* --- 6 bits ---------------------------------------------------------------------------------- */

/* A Q6_K scale (s32 lanes) in both halves of each lane, for madd. */
SL_INLINE __m256i twice(__m256i scale)
{
    return _mm256_or_si256(_mm256_and_si256(scale, _mm256_set1_epi32(0xffff)),
                           _mm256_slli_epi32(scale, 16));
}

SL_INLINE void tile_q6(const int tokens, const sl_cpu_tile *tile)
{
    const uint8_t *pairs[SL_CPU_TILE], *act[SL_CPU_TILE];
    walk w = walk_begin(SL_CPU_Q6_K, tile);
    __m256 acc[SL_CPU_TILE];

    SL_UNROLL
    for (int t = 0; t < tokens; t++) {
        act[t] = tile->act[t];
        pairs[t] = act[t] + sl_cpu_act_pairs(tile->cols);
        acc[t] = _mm256_loadu_ps(tile->acc + 8 * t);
    }
    for (uint32_t b = tile->block_first; b < tile->block_end; b++) {
        __m256i q[8], half[2], both;
        const uint8_t *scale;
        __m256 wd;

        walk_enter(SL_CPU_Q6_K, &w, b);
        wd = load_halves(w.super);
        load_nibbles(w.block, q);
        add_high_pairs(w.block + sl_cpu_layouts[SL_CPU_Q6_K].high, q);
        scale = w.block + sl_cpu_layouts[SL_CPU_Q6_K].scale;
        half[0] = _mm256_cvtepi8_epi32(load_64(scale));
        half[1] = _mm256_cvtepi8_epi32(load_64(scale + 8));
        both = double_pair(half[0], half[1]);
        half[0] = twice(half[0]);
        half[1] = twice(half[1]);
        SL_UNROLL
        for (int t = 0; t < tokens; t++) {
            const uint8_t *a = act[t] + (size_t)b * SL_CPU_ACT_BLOCK;
            __m256i sum = _mm256_madd_epi16(both, four_codes(pairs[t] + (size_t)b * 4));

            SL_UNROLL
            for (int v = 0; v < 8; v += 2) {
                const __m256i x = _mm256_maddubs_epi16(q[v], four_codes(a + 4 * v));
                const __m256i y = _mm256_maddubs_epi16(q[v + 1], four_codes(a + 4 * v + 4));

                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(x, y), half[v / 4]));
            }
            acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum),
                                     _mm256_mul_ps(wd, one_float(a + SL_CPU_ACT_D)), acc[t]);
        }
        walk_leave(SL_CPU_Q6_K, &w);
    }
    SL_UNROLL
    for (int t = 0; t < tokens; t++)
        _mm256_storeu_ps(tile->acc + 8 * t, acc[t]);
}

/* --- 8 bits ---------------------------------------------------------------------------------- */

SL_INLINE void tile_q8(const int tokens, const sl_cpu_tile *tile)
{
    const __m256i ones = _mm256_set1_epi16(1);
    walk w = walk_begin(SL_CPU_Q8_0, tile);
    const uint8_t *act[SL_CPU_TILE];
    __m256 acc[SL_CPU_TILE];

    SL_UNROLL
    for (int t = 0; t < tokens; t++) {
        act[t] = tile->act[t];
        acc[t] = _mm256_loadu_ps(tile->acc + 8 * t);
    }
    for (uint32_t b = tile->block_first; b < tile->block_end; b++) {
        const size_t at = (size_t)b * SL_CPU_ACT_BLOCK;
        const __m256 wd = load_halves(w.block + sl_cpu_layouts[SL_CPU_Q8_0].scale);
        __m256i sum[SL_CPU_TILE];

        walk_enter(SL_CPU_Q8_0, &w, b);
        SL_UNROLL
        for (int v = 0; v < 8; v++) {
            const __m256i q = load_256(w.block + 32 * v);
            const __m256i size = _mm256_abs_epi8(q);

            SL_UNROLL
            for (int t = 0; t < tokens; t++) {
                const __m256i x = _mm256_sign_epi8(four_codes(act[t] + at + 4 * v), q);
                const __m256i p = _mm256_madd_epi16(_mm256_maddubs_epi16(size, x), ones);

                sum[t] = v == 0 ? p : _mm256_add_epi32(sum[t], p);
            }
        }
        SL_UNROLL
        for (int t = 0; t < tokens; t++)
            acc[t] =
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]),
                                _mm256_mul_ps(wd, one_float(act[t] + at + SL_CPU_ACT_D)), acc[t]);
        walk_leave(SL_CPU_Q8_0, &w);
    }
    SL_UNROLL
    for (int t = 0; t < tokens; t++)
        _mm256_storeu_ps(tile->acc + 8 * t, acc[t]);
}

/* --- one function a kind and number of tokens ------------------------------------------------ */

SL_INLINE void tile_any(sl_cpu_kind kind, const int tokens, const sl_cpu_tile *tile)
{
    if (kind == SL_CPU_Q8_0)
        tile_q8(tokens, tile);
    else if (kind == SL_CPU_Q6_K)
        tile_q6(tokens, tile);
    else
        tile_min(kind, tokens, tile);
}

#define TILE(kind, tokens)                                                                         \
    static void tile_##kind##_##tokens(const sl_cpu_tile *tile)                                    \
    {                                                                                              \
        tile_any(SL_CPU_##kind, tokens, tile);                                                     \
    }
#define TILES(kind)                                                                                \
    TILE(kind, 1) TILE(kind, 2) TILE(kind, 3) TILE(kind, 4) TILE(kind, 5) TILE(kind, 6)
#define ROW(kind)                                                                                  \
    [SL_CPU_##kind] = {NULL,                                                                       \
                       tile_##kind##_1,                                                            \
                       tile_##kind##_2,                                                            \
                       tile_##kind##_3,                                                            \
                       tile_##kind##_4,                                                            \
                       tile_##kind##_5,                                                            \
                       tile_##kind##_6}

TILES(Q4_0)
TILES(Q4_1)
TILES(Q4_K)
TILES(Q5_0)
TILES(Q5_1)
TILES(Q5_K)
TILES(Q6_K)
TILES(Q8_0)

const sl_cpu_tiles sl_cpu_tiles_avx2 = {
    .panels = 1,
    .fn = {ROW(Q4_0), ROW(Q4_1), ROW(Q4_K), ROW(Q5_0), ROW(Q5_1), ROW(Q5_K), ROW(Q6_K), ROW(Q8_0)},
};
