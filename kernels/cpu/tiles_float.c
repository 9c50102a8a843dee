/* kernels/cpu/tiles_float.c - acc[p][t][r] += sum_k w[p][r, k] * x[t, k], float weights.
 *
 * Types      w F32, F16 or BF16 (widened on load, exactly), x and acc fp32; one fma a product, in
 *            the order of k: one rounding each.
 * Shapes     1, 2 or 4 adjacent panels of 8 rows; 1 to 6 tokens; any number of columns.
 * Mapping    panels x tokens accumulators stay in registers: 2 x 6 or 4 x 3, which is enough to
 *            hide the latency of fma; a single chain a (row, token) keeps the bits the same.
 * Bound      fp32 fma for batches; reading the weights for a lone token.
 * Reference  kernels/ref/linear.c, within 1e-5 of sum |w x|: the reference sums in double.
 * Source     the usual register tile.
 * Measured   one core of Zen 4, 576 x 1536 F16: 20 GB/s for one token (78 % of the read rate), 107
 *            GFLOP/s for 512 (98 % of the measured fma peak). */
#include "kernels/cpu/vec_internal.h"

enum { PREFETCH_BYTES = 1024 };

SL_INLINE __m256 load_column(sl_cpu_kind kind, const uint8_t *p)
{
    __m128i half;

    if (kind == SL_CPU_F32)
        return _mm256_load_ps((const float *)(const void *)p);
    half = _mm_load_si128((const __m128i *)(const void *)p);
    if (kind == SL_CPU_F16)
        return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

SL_INLINE void tile_float(sl_cpu_kind kind, const int panels, const int tokens,
                          const sl_cpu_tile *tile)
{
    const size_t column = kind == SL_CPU_F32 ? 32 : 16;
    const uint32_t first = tile->block_first * SL_CPU_BLOCK;
    const uint32_t last = tile->block_end * SL_CPU_BLOCK;
    const uint32_t end = last < tile->cols ? last : tile->cols;
    const float *x[SL_CPU_TILE];
    const uint8_t *w[4];
    __m256 acc[4][SL_CPU_TILE];

    SL_UNROLL
    for (int t = 0; t < tokens; t++)
        x[t] = (const float *)(const void *)(tile->act[t] + sl_cpu_act_floats(tile->cols));
    SL_UNROLL
    for (int p = 0; p < panels; p++) {
        w[p] = tile->panel + tile->panel_bytes * (size_t)p;
        SL_UNROLL
        for (int t = 0; t < tokens; t++)
            acc[p][t] = _mm256_loadu_ps(tile->acc + 8 * (p * tokens + t));
    }
    for (uint32_t k = first; k < end; k++) {
        __m256 column_of[4];

        SL_UNROLL
        for (int p = 0; p < panels; p++) {
            const uint8_t *at = w[p] + column * k;

            column_of[p] = load_column(kind, at);
            if (tokens == 1 && k % (64 / (uint32_t)column) == 0)
                _mm_prefetch((const char *)at + PREFETCH_BYTES, _MM_HINT_T0);
        }
        SL_UNROLL
        for (int t = 0; t < tokens; t++) {
            const __m256 xk = _mm256_broadcast_ss(x[t] + k);

            SL_UNROLL
            for (int p = 0; p < panels; p++)
                acc[p][t] = _mm256_fmadd_ps(column_of[p], xk, acc[p][t]);
        }
    }
    SL_UNROLL
    for (int p = 0; p < panels; p++) {
        SL_UNROLL
        for (int t = 0; t < tokens; t++)
            _mm256_storeu_ps(tile->acc + 8 * (p * tokens + t), acc[p][t]);
    }
}

SL_INLINE void tile_any(sl_cpu_kind kind, const int tokens, const sl_cpu_tile *tile)
{
    if (tile->panel_count == 4 && tokens <= 3)
        tile_float(kind, 4, tokens, tile);
    else if (tile->panel_count == 2)
        tile_float(kind, 2, tokens, tile);
    else
        tile_float(kind, 1, tokens, tile);
}

#define TILE(kind, tokens)                                                                         \
    static void tile_##kind##_##tokens(const sl_cpu_tile *tile)                                    \
    {                                                                                              \
        tile_any(SL_CPU_##kind, tokens, tile);                                                     \
    }
#define TILES(kind)                                                                                \
    TILE(kind, 1) TILE(kind, 2) TILE(kind, 3) TILE(kind, 4) TILE(kind, 5) TILE(kind, 6)
#define ROW(kind)                                                                                  \
    [SL_CPU_##kind - SL_CPU_INT_KINDS] = {NULL,                                                    \
                                          tile_##kind##_1,                                         \
                                          tile_##kind##_2,                                         \
                                          tile_##kind##_3,                                         \
                                          tile_##kind##_4,                                         \
                                          tile_##kind##_5,                                         \
                                          tile_##kind##_6}

TILES(F16)
TILES(BF16)
TILES(F32)

const sl_cpu_tile_row sl_cpu_tiles_float_avx2[SL_CPU_KIND_COUNT - SL_CPU_INT_KINDS] = {
    ROW(F16),
    ROW(BF16),
    ROW(F32),
};
