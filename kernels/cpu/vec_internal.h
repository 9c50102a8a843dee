/* kernels/cpu/vec_internal.h - small AVX2 functions that several operations share.
 *
 * Every function is a fixed sequence of operations on each lane (or a fixed tree over the lanes),
 * so its result depends on its arguments only.  Included only by files built for AVX2 + FMA. */
#ifndef SL_KERNELS_CPU_VEC_INTERNAL_H
#define SL_KERNELS_CPU_VEC_INTERNAL_H

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/cpu_internal.h"

#define SL_INLINE static inline __attribute__((always_inline))

/* Make the compiler keep the iterations of a loop of at most 8 apart and in registers. */
#if defined(__clang__)
#define SL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SL_UNROLL _Pragma("GCC unroll 8")
#endif

/* Sum of the 8 lanes, as a fixed tree. */
SL_INLINE float sl_vec_sum(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

SL_INLINE float sl_vec_max(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    s = _mm_max_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

/* e^x, relative error below 3e-7 where the result is normal; x is clamped to [-87.3, 88.3], NaN
 * stays NaN.  x = n ln 2 + r with ln 2 in two parts, |r| <= 0.35; e^r by its series to r^6 (the
 * next term is at most 1.3e-7 of the sum). */
SL_INLINE __m256 sl_vec_exp(__m256 x)
{
    const __m256 lo = _mm256_set1_ps(-87.3f), hi = _mm256_set1_ps(88.3f);
    __m256 n, r, p;
    __m256i e;

    /* min and max return their second operand if one is NaN. */
    x = _mm256_max_ps(lo, _mm256_min_ps(hi, x));
    n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    p = _mm256_fmadd_ps(_mm256_set1_ps(1.0f / 720), r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), e));
}

/* x / (1 + e^-z): x times the logistic function of z. */
SL_INLINE __m256 sl_vec_times_logistic(__m256 x, __m256 z)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 e = sl_vec_exp(_mm256_sub_ps(_mm256_setzero_ps(), z));

    return _mm256_div_ps(x, _mm256_add_ps(one, e));
}

/* cap tanh(x / cap) = cap (1 - 2 / (1 + e^(2 x / cap))); the absolute error is a few cap * 1e-7. */
SL_INLINE __m256 sl_vec_softcap(__m256 x, float cap)
{
    const __m256 one = _mm256_set1_ps(1.0f), two = _mm256_set1_ps(2.0f);
    const __m256 e = sl_vec_exp(_mm256_mul_ps(x, _mm256_set1_ps(2.0f / cap)));
    const __m256 t = _mm256_sub_ps(one, _mm256_div_ps(two, _mm256_add_ps(one, e)));

    return _mm256_mul_ps(_mm256_set1_ps(cap), t);
}

/* Lanes [0, count) of a mask for maskload and maskstore; count 0 .. 8. */
SL_INLINE __m256i sl_vec_mask(uint32_t count)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), lane);
}

/* 32 floats -> one block of a prepared row and its pair of sums.  A block whose largest magnitude
 * is below 1e-30 counts as zero: 127 / absmax must stay finite. */
SL_INLINE void sl_vec_quantize(const float *x, uint8_t *block, uint8_t *pair)
{
    const __m256 abs_mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    const __m256i one8 = _mm256_set1_epi8(1), one16 = _mm256_set1_epi16(1);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256 v[4], m;
    __m256i q[4], codes, sums;
    __m128i low, high;
    float top, d, inverse, dsum;
    int32_t sum_low, sum_high, sum_pair;

    for (int i = 0; i < 4; i++)
        v[i] = _mm256_loadu_ps(x + 8 * i);
    m = _mm256_max_ps(_mm256_max_ps(_mm256_and_ps(v[0], abs_mask), _mm256_and_ps(v[1], abs_mask)),
                      _mm256_max_ps(_mm256_and_ps(v[2], abs_mask), _mm256_and_ps(v[3], abs_mask)));
    top = sl_vec_max(m);
    d = top < 1e-30f ? 0.0f : top / 127.0f;
    inverse = top < 1e-30f ? 0.0f : 127.0f / top;
    for (int i = 0; i < 4; i++)
        q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], _mm256_set1_ps(inverse)));
    codes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    codes = _mm256_permutevar8x32_epi32(codes, order);
    _mm256_storeu_si256((__m256i *)(void *)block, codes);

    sums = _mm256_madd_epi16(_mm256_maddubs_epi16(one8, codes), one16);
    low = _mm256_castsi256_si128(sums);
    high = _mm256_extracti128_si256(sums, 1);
    low = _mm_hadd_epi32(low, high);
    low = _mm_hadd_epi32(low, low); /* codes 0-15, codes 16-31 */
    sum_low = _mm_extract_epi32(low, 0);
    sum_high = _mm_extract_epi32(low, 1);
    dsum = d * (float)(sum_low + sum_high);
    sum_pair =
        (int32_t)((uint32_t)(uint16_t)(-16 * sum_low) | (uint32_t)(uint16_t)(-16 * sum_high) << 16);
    memcpy(block + SL_CPU_ACT_D, &d, 4);
    memcpy(block + SL_CPU_ACT_DSUM, &dsum, 4);
    memcpy(pair, &sum_pair, 4);
}

/* Where a block of 32 floats of a prepared row is to be written before sl_vec_act_block turns it
 * into codes: the row's own floats, or `temp` if they are not wanted. */
SL_INLINE float *sl_vec_act_floats(uint8_t *act, uint32_t cols, uint32_t block, bool codes_only,
                                   float temp[SL_CPU_BLOCK])
{
    if (codes_only)
        return temp;
    return (float *)(void *)(act + sl_cpu_act_floats(cols)) + (size_t)block * SL_CPU_BLOCK;
}

/* Make block `block` of a prepared row of `cols` columns out of 32 floats. */
SL_INLINE void sl_vec_act_block(uint8_t *act, uint32_t cols, uint32_t block, const float *x)
{
    sl_vec_quantize(x, act + (size_t)block * SL_CPU_ACT_BLOCK,
                    act + sl_cpu_act_pairs(cols) + (size_t)block * 4);
}

#endif
