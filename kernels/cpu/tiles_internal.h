/* kernels/cpu/tiles_internal.h - what the integer tiles of every instruction set share: how a block
 * of a panel (cpu_internal.h has the layout) becomes vectors of codes and scales. */
#ifndef SL_KERNELS_CPU_TILES_INTERNAL_H
#define SL_KERNELS_CPU_TILES_INTERNAL_H

#include "kernels/cpu/vec_internal.h"

/* Blocks are aligned to 16 bytes only: some loads cross a line, which costs less than padding. */
SL_INLINE __m256i load_256(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

SL_INLINE __m256 load_halves(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)p));
}

SL_INLINE __m128i load_64(const uint8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

/* Four activation codes for all 8 rows; one float for all 8 rows. */
SL_INLINE __m256i four_codes(const uint8_t *a)
{
    int32_t four;

    memcpy(&four, a, 4);
    return _mm256_set1_epi32(four);
}

SL_INLINE __m256 one_float(const uint8_t *a)
{
    return _mm256_broadcast_ss((const float *)(const void *)a);
}

SL_INLINE bool has_fifth(sl_cpu_kind kind)
{
    return kind == SL_CPU_Q5_0 || kind == SL_CPU_Q5_1 || kind == SL_CPU_Q5_K;
}

SL_INLINE bool has_super(sl_cpu_kind kind)
{
    return kind == SL_CPU_Q4_K || kind == SL_CPU_Q5_K;
}

SL_INLINE bool has_min(sl_cpu_kind kind)
{
    return kind == SL_CPU_Q4_1 || kind == SL_CPU_Q5_1;
}

/* The 8 vectors of 4-bit codes of a block. */
SL_INLINE void load_nibbles(const uint8_t *code, __m256i q[8])
{
    const __m256i mask = _mm256_set1_epi8(15);

    SL_UNROLL
    for (int v = 0; v < 4; v++) {
        const __m256i both = load_256(code + 32 * v);

        q[v] = _mm256_and_si256(both, mask);
        q[v + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
    }
}

/* Bit v of every byte goes to bit 4 of vector v; what shifts in from a neighbour is masked off. */
SL_INLINE void add_fifth_bits(const uint8_t *high, __m256i q[8])
{
    const __m256i mask = _mm256_set1_epi8(16), bits = load_256(high);

    SL_UNROLL
    for (int v = 0; v < 8; v++) {
        const __m256i moved =
            v < 4 ? _mm256_slli_epi16(bits, 4 - v) : _mm256_srli_epi16(bits, v - 4);

        q[v] = _mm256_or_si256(q[v], _mm256_and_si256(moved, mask));
    }
}

/* Bits 2 (v % 4) of vector v / 4 go to bits 4 and 5 of vector v. */
SL_INLINE void add_high_pairs(const uint8_t *high, __m256i q[8])
{
    const __m256i mask = _mm256_set1_epi8(0x30);

    SL_UNROLL
    for (int v = 0; v < 8; v++) {
        const __m256i bits = load_256(high + 32 * (v / 4));
        const int at = 2 * (v % 4);
        const __m256i moved =
            at <= 4 ? _mm256_slli_epi16(bits, 4 - at) : _mm256_srli_epi16(bits, 2);

        q[v] = _mm256_or_si256(q[v], _mm256_and_si256(moved, mask));
    }
}

/* Scale and (negative offsets included) min of a block's 8 rows. */
SL_INLINE void load_scale_min(sl_cpu_kind kind, const uint8_t *super, const uint8_t *scale,
                              __m256 *wd, __m256 *wm)
{
    if (has_super(kind)) {
        const __m256 sc = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_64(scale)));
        const __m256 mn = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_64(scale + 8)));

        *wd = _mm256_mul_ps(load_halves(super), sc);
        *wm = _mm256_sub_ps(_mm256_setzero_ps(), _mm256_mul_ps(load_halves(super + 16), mn));
        return;
    }
    *wd = load_halves(scale);
    if (has_min(kind))
        *wm = load_halves(scale + 16);
    else
        *wm = _mm256_mul_ps(*wd, _mm256_set1_ps(kind == SL_CPU_Q4_0 ? -8.0f : -16.0f));
}

/* A walk over the blocks of a stretch. */
typedef struct walk {
    const uint8_t *super;
    const uint8_t *block;
    const uint8_t *prefetch;
    uint32_t prefetch_lines;
} walk;

SL_INLINE walk walk_begin(sl_cpu_kind kind, const sl_cpu_tile *t)
{
    const uint8_t *at = t->panel + sl_cpu_block_at(kind, t->block_first);

    return (walk){at, at, t->prefetch, t->prefetch_lines};
}

/* At block b: step over what its superblock shares, and prefetch.  Into L2: so far ahead, L1 has
 * not enough fill buffers (prefetching into it reached half the rate). */
SL_INLINE void walk_enter(sl_cpu_kind kind, walk *w, uint32_t b)
{
    if (sl_cpu_layouts[kind].super > 0 && b % SL_CPU_SUPER == 0) {
        w->super = w->block;
        w->block += sl_cpu_layouts[kind].super;
    }
    for (uint32_t i = 0; i < w->prefetch_lines; i++, w->prefetch += 64)
        _mm_prefetch((const char *)w->prefetch, _MM_HINT_T1);
}

SL_INLINE void walk_leave(sl_cpu_kind kind, walk *w)
{
    w->block += sl_cpu_layouts[kind].block;
}

/* The scales of columns 0-15 and 16-31 of each row (s32 lanes) as one pair of s16, doubled. */
SL_INLINE __m256i double_pair(__m256i first, __m256i second)
{
    const __m256i low = _mm256_and_si256(first, _mm256_set1_epi32(0xffff));
    const __m256i pair = _mm256_or_si256(low, _mm256_slli_epi32(second, 16));

    return _mm256_add_epi16(pair, pair);
}

#endif
