/* kernels/cpu/tiles_vnni.c - the tiles of tiles_int.c with AVX-512 VNNI: same bits, fewer steps.
 *
 * Types      vpdpbusd adds four products of unsigned and signed bytes to an s32, so no sum can
 *            saturate and no widening is needed.  Integer sums are exact and the fp32 steps are
 *            those of tiles_int.c lane by lane, so the results are equal bit for bit (tested).
 *            Q8_0: codes get 128 added (their top bit flipped), which the pairs of -16 * (sum of
 *            c) take off again: 8 * -16 = -128.  Q6_K: two sums a block, times their scales in
 *            s32.
 * Shapes     two adjacent panels, one in each half of a register; a lone last panel is left to
 *            tiles_int.c.  1 to 6 tokens; any range of blocks.
 * Mapping    8 vectors of codes stay in registers; activations are embedded broadcasts.
 * Bound      instructions: 12 of 512 bits for 2 x 256 products.  A lone token is bound by memory.
 * Reference  tiles_int.c, no tolerance.
 * Measured   as in tiles_int.c: 22 to 25 GB/s for one token, 297 GOP/s for 8 (80 % of the nibble
 *            peak without VNNI), 307 for 512 (82 %).  256-bit vectors over one panel reached 240.
 */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/cpu_internal.h"
#include "kernels/cpu/vec_internal.h"

SL_INLINE __m512i load_2x256(const uint8_t *p, size_t apart)
{
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)p);
    const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(p + apart));

    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

SL_INLINE __m256i load_2x128(const uint8_t *p, size_t apart)
{
    const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)p);
    const __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(p + apart));

    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

SL_INLINE __m512 load_halves(const uint8_t *p, size_t apart)
{
    return _mm512_cvtph_ps(load_2x128(p, apart));
}

SL_INLINE __m128i load_2x64(const uint8_t *p, size_t apart)
{
    const __m128i low = _mm_loadl_epi64((const __m128i *)(const void *)p);

    return _mm_unpacklo_epi64(low, _mm_loadl_epi64((const __m128i *)(const void *)(p + apart)));
}

/* Four activation codes for all 16 rows; one float for all 16 rows. */
SL_INLINE __m512i four_codes(const uint8_t *a)
{
    int32_t four;

    memcpy(&four, a, 4);
    return _mm512_set1_epi32(four);
}

SL_INLINE __m512 one_float(const uint8_t *a)
{
    float x;

    memcpy(&x, a, 4);
    return _mm512_set1_ps(x);
}

SL_INLINE bool has_fifth(sl_cpu_kind kind)
{
    return kind == SL_CPU_Q5_0 || kind == SL_CPU_Q5_1 || kind == SL_CPU_Q5_K;
}

/* The 8 vectors of unsigned codes of a block. */
SL_INLINE void load_codes(sl_cpu_kind kind, const uint8_t *block, size_t apart, __m512i q[8])
{
    const __m512i nibble = _mm512_set1_epi8(15), top = _mm512_set1_epi8((char)0x80);
    const uint8_t *high = block + sl_cpu_layouts[kind].high;

    if (kind == SL_CPU_Q8_0) {
        SL_UNROLL
        for (int v = 0; v < 8; v++)
            q[v] = _mm512_xor_si512(load_2x256(block + 32 * v, apart), top);
        return;
    }
    SL_UNROLL
    for (int v = 0; v < 4; v++) {
        const __m512i both = load_2x256(block + 32 * v, apart);

        q[v] = _mm512_and_si512(both, nibble);
        q[v + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
    }
    if (has_fifth(kind)) {
        const __m512i mask = _mm512_set1_epi8(16), bits = load_2x256(high, apart);

        SL_UNROLL
        for (int v = 0; v < 8; v++) {
            const __m512i moved = v < 4 ? _mm512_slli_epi16(bits, (unsigned)(4 - v))
                                        : _mm512_srli_epi16(bits, (unsigned)(v - 4));

            q[v] = _mm512_ternarylogic_epi32(q[v], moved, mask, 0xf8); /* q | (moved & mask) */
        }
    } else if (kind == SL_CPU_Q6_K) {
        const __m512i mask = _mm512_set1_epi8(0x30);

        SL_UNROLL
        for (int v = 0; v < 8; v++) {
            const __m512i bits = load_2x256(high + 32 * (v / 4), apart);
            const int at = 2 * (v % 4);
            const __m512i moved =
                at <= 4 ? _mm512_slli_epi16(bits, (unsigned)(4 - at)) : _mm512_srli_epi16(bits, 2);

            q[v] = _mm512_ternarylogic_epi32(q[v], moved, mask, 0xf8);
        }
    }
}

/* The scales of a block's rows: wd for all; wm where there is a min or an offset taken off in fp32;
 * the two integer scales of Q6_K, and both, doubled, as pairs. */
typedef struct scales {
    __m512 wd;
    __m512 wm;
    __m512i half[2];
    __m512i both;
} scales;

SL_INLINE scales load_scales(sl_cpu_kind kind, const uint8_t *super, const uint8_t *scale,
                             size_t apart)
{
    scales s = {.wd = _mm512_setzero_ps()};

    if (kind == SL_CPU_Q4_K || kind == SL_CPU_Q5_K) {
        const __m512i sc = _mm512_cvtepu8_epi32(load_2x64(scale, apart));
        const __m512i mn = _mm512_cvtepu8_epi32(load_2x64(scale + 8, apart));

        s.wd = _mm512_mul_ps(load_halves(super, apart), _mm512_cvtepi32_ps(sc));
        s.wm = _mm512_mul_ps(load_halves(super + 16, apart), _mm512_cvtepi32_ps(mn));
        s.wm = _mm512_sub_ps(_mm512_setzero_ps(), s.wm);
    } else if (kind == SL_CPU_Q6_K) {
        const __m512i low_word = _mm512_set1_epi32(0xffff);
        __m512i pair;

        s.half[0] = _mm512_cvtepi8_epi32(load_2x64(scale, apart));
        s.half[1] = _mm512_cvtepi8_epi32(load_2x64(scale + 8, apart));
        pair = _mm512_or_si512(_mm512_and_si512(s.half[0], low_word),
                               _mm512_slli_epi32(s.half[1], 16));
        s.both = _mm512_add_epi16(pair, pair);
        s.wd = load_halves(super, apart);
    } else {
        s.wd = load_halves(scale, apart);
        if (kind == SL_CPU_Q4_1 || kind == SL_CPU_Q5_1)
            s.wm = load_halves(scale + 16, apart);
        else
            s.wm = _mm512_mul_ps(s.wd, _mm512_set1_ps(kind == SL_CPU_Q4_0 ? -8.0f : -16.0f));
    }
    return s;
}

/* The exact integer sum of a block for the token at `a`, whose pair of sums is at `pair`. */
SL_INLINE __m512i dot_block(sl_cpu_kind kind, const __m512i q[8], const scales *s, const uint8_t *a,
                            const uint8_t *pair)
{
    __m512i sum = _mm512_setzero_si512(), other = sum;

    if (kind == SL_CPU_Q8_0)
        sum = _mm512_dpwssd_epi32(sum, _mm512_set1_epi16(8), four_codes(pair));
    SL_UNROLL
    for (int v = 0; v < 4; v++) {
        sum = _mm512_dpbusd_epi32(sum, q[v], four_codes(a + 4 * v));
        other = _mm512_dpbusd_epi32(other, q[v + 4], four_codes(a + 16 + 4 * v));
    }
    if (kind != SL_CPU_Q6_K)
        return _mm512_add_epi32(sum, other);
    sum = _mm512_add_epi32(_mm512_mullo_epi32(sum, s->half[0]),
                           _mm512_mullo_epi32(other, s->half[1]));
    return _mm512_dpwssd_epi32(sum, s->both, four_codes(pair));
}

/* acc is [panel][token][8]. */
SL_INLINE __m512 load_acc(const sl_cpu_tile *tile, int tokens, int t)
{
    const __m256 low = _mm256_loadu_ps(tile->acc + 8 * t);
    const __m256 high = _mm256_loadu_ps(tile->acc + 8 * (tokens + t));

    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

SL_INLINE void store_acc(const sl_cpu_tile *tile, int tokens, int t, __m512 acc)
{
    _mm256_storeu_ps(tile->acc + 8 * t, _mm512_castps512_ps256(acc));
    _mm256_storeu_ps(tile->acc + 8 * (tokens + t), _mm512_extractf32x8_ps(acc, 1));
}

SL_INLINE void tile_pair(sl_cpu_kind kind, const int tokens, const sl_cpu_tile *tile)
{
    const sl_cpu_layout *l = &sl_cpu_layouts[kind];
    const bool pairs = kind == SL_CPU_Q6_K || kind == SL_CPU_Q8_0;
    const size_t apart = tile->panel_bytes;
    const uint8_t *block = tile->panel + sl_cpu_block_at(kind, tile->block_first);
    const uint8_t *super = block, *prefetch = tile->prefetch, *act[SL_CPU_TILE];
    __m512 acc[SL_CPU_TILE];

    SL_UNROLL
    for (int t = 0; t < tokens; t++) {
        act[t] = tile->act[t];
        acc[t] = load_acc(tile, tokens, t);
    }
    for (uint32_t b = tile->block_first; b < tile->block_end; b++) {
        const size_t at = (size_t)b * SL_CPU_ACT_BLOCK;
        const size_t pair_at = sl_cpu_act_pairs(tile->cols) + (size_t)b * 4;
        __m512i q[8];
        scales s;

        if (l->super > 0 && b % SL_CPU_SUPER == 0) {
            super = block;
            block += l->super;
        }
        for (uint32_t i = 0; i < tile->prefetch_lines; i++, prefetch += 64) {
            _mm_prefetch((const char *)prefetch, _MM_HINT_T1);
            _mm_prefetch((const char *)prefetch + apart, _MM_HINT_T1);
        }
        load_codes(kind, block, apart, q);
        s = load_scales(kind, super, block + l->scale, apart);
        SL_UNROLL
        for (int t = 0; t < tokens; t++) {
            const uint8_t *a = act[t] + at;
            const __m512i sum = dot_block(kind, q, &s, a, act[t] + pair_at);

            acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum),
                                     _mm512_mul_ps(s.wd, one_float(a + SL_CPU_ACT_D)), acc[t]);
            if (!pairs)
                acc[t] = _mm512_fmadd_ps(s.wm, one_float(a + SL_CPU_ACT_DSUM), acc[t]);
        }
        block += l->block;
    }
    SL_UNROLL
    for (int t = 0; t < tokens; t++)
        store_acc(tile, tokens, t, acc[t]);
}

#define TILE(kind, tokens)                                                                         \
    static void tile_##kind##_##tokens(const sl_cpu_tile *tile)                                    \
    {                                                                                              \
        if (tile->panel_count == 2)                                                                \
            tile_pair(SL_CPU_##kind, tokens, tile);                                                \
        else                                                                                       \
            sl_cpu_tiles_avx2.fn[SL_CPU_##kind][tokens](tile);                                     \
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

const sl_cpu_tiles sl_cpu_tiles_vnni = {
    .panels = 2,
    .fn = {ROW(Q4_0), ROW(Q4_1), ROW(Q4_K), ROW(Q5_0), ROW(Q5_1), ROW(Q5_K), ROW(Q6_K), ROW(Q8_0)},
};
