/* quant/dequantize.c - blocks to fp32, one small loop a format, as the GGUF format defines them. */
#include <string.h>

#include "base/assert.h"
#include "quant/dtype.h"

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static float load_half(const uint8_t *p)
{
    return sl_f16_to_f32(load_u16(p));
}

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* 32 elements: f16 d; 16 bytes, low nibbles are elements 0-15, high ones 16-31: d (q - 8). */
static void q4_0(const uint8_t *b, float *y)
{
    const float d = load_half(b);

    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)((b[2 + j] & 15) - 8);
        y[j + 16] = d * (float)((b[2 + j] >> 4) - 8);
    }
}

/* f16 d, m: d q + m. */
static void q4_1(const uint8_t *b, float *y)
{
    const float d = load_half(b);
    const float m = load_half(b + 2);

    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)(b[4 + j] & 15) + m;
        y[j + 16] = d * (float)(b[4 + j] >> 4) + m;
    }
}

/* The fifth bit of element j is bit j of a 32-bit word in front of the nibbles. */
static int five_bits(uint32_t high, uint8_t nibble, int j)
{
    return (int)((uint32_t)nibble | (high >> j & 1) << 4);
}

/* f16 d; u32 high bits; nibbles: d (q - 16). */
static void q5_0(const uint8_t *b, float *y)
{
    const float d = load_half(b);
    const uint32_t high = load_u32(b + 2);

    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)(five_bits(high, b[6 + j] & 15, j) - 16);
        y[j + 16] = d * (float)(five_bits(high, b[6 + j] >> 4, j + 16) - 16);
    }
}

/* f16 d, m; u32 high bits; nibbles: d q + m. */
static void q5_1(const uint8_t *b, float *y)
{
    const float d = load_half(b);
    const float m = load_half(b + 2);
    const uint32_t high = load_u32(b + 4);

    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)five_bits(high, b[8 + j] & 15, j) + m;
        y[j + 16] = d * (float)five_bits(high, b[8 + j] >> 4, j + 16) + m;
    }
}

/* f16 d; 32 signed bytes. */
static void q8_0(const uint8_t *b, float *y)
{
    const float d = load_half(b);

    for (int j = 0; j < 32; j++)
        y[j] = d * (float)(int8_t)b[2 + j];
}

/* The 6-bit scale and min of sub-block j (0-7) out of 12 packed bytes. */
static void k_scale_min(const uint8_t *b, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = b[j] & 63;
        *min = b[j + 4] & 63;
    } else {
        *scale = (b[j + 4] & 15) | (b[j - 4] >> 6) << 4;
        *min = b[j + 4] >> 4 | (b[j] >> 6) << 4;
    }
}

/* 256 elements: f16 d, dmin; 12 bytes of scales; 128 bytes: 32 bytes hold sub-blocks 2i (low
 * nibbles) and 2i + 1 (high nibbles): d scale q - dmin min. */
static void q4_k(const uint8_t *b, float *y)
{
    const float d = load_half(b);
    const float dmin = load_half(b + 2);
    const uint8_t *q = b + 16;

    for (int j = 0; j < 8; j++) {
        const int shift = j % 2 * 4;
        int scale, min;

        k_scale_min(b + 4, j, &scale, &min);
        for (int i = 0; i < 32; i++)
            y[32 * j + i] =
                d * (float)scale * (float)(q[32 * (j / 2) + i] >> shift & 15) - dmin * (float)min;
    }
}

/* As Q4_K, with 32 bytes of fifth bits in front of the nibbles: bit j of byte i is sub-block j's.
 */
static void q5_k(const uint8_t *b, float *y)
{
    const float d = load_half(b);
    const float dmin = load_half(b + 2);
    const uint8_t *high = b + 16;
    const uint8_t *q = b + 48;

    for (int j = 0; j < 8; j++) {
        const int shift = j % 2 * 4;
        int scale, min;

        k_scale_min(b + 4, j, &scale, &min);
        for (int i = 0; i < 32; i++) {
            const int code = (q[32 * (j / 2) + i] >> shift & 15) | (high[i] >> j & 1) << 4;

            y[32 * j + i] = d * (float)scale * (float)code - dmin * (float)min;
        }
    }
}

/* 256 elements: 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales, f16 d:
 * d scale (q - 32).  Per half of 128 elements, quarter k of 32: nibble of byte 32 (k % 2) + i, low
 * for k < 2, and bits 2k of byte i. */
static void q6_k(const uint8_t *b, float *y)
{
    const float d = load_half(b + 208);

    for (int half = 0; half < 2; half++) {
        const uint8_t *low = b + 64 * half;
        const uint8_t *high = b + 128 + 32 * half;
        const int8_t *scale = (const int8_t *)b + 192 + 8 * half;

        for (int k = 0; k < 4; k++)
            for (int i = 0; i < 32; i++) {
                const int nibble = low[32 * (k % 2) + i] >> (k / 2 * 4) & 15;
                const int code = (nibble | (high[i] >> (2 * k) & 3) << 4) - 32;

                y[128 * half + 32 * k + i] = d * (float)scale[2 * k + i / 16] * (float)code;
            }
    }
}

static void plain(sl_dtype dtype, const uint8_t *b, uint32_t cols, float *y)
{
    if (dtype == SL_DTYPE_F32) {
        memcpy(y, b, (size_t)cols * 4);
        return;
    }
    for (uint32_t i = 0; i < cols; i++) {
        const uint16_t u = load_u16(b + 2 * (size_t)i);

        y[i] = dtype == SL_DTYPE_F16 ? sl_f16_to_f32(u) : sl_bf16_to_f32(u);
    }
}

void sl_dequantize_row(sl_dtype dtype, const void *src, uint32_t cols, float *dst)
{
    static void (*const block[SL_DTYPE_COUNT])(const uint8_t *, float *) = {
        [SL_DTYPE_Q4_0] = q4_0, [SL_DTYPE_Q4_1] = q4_1, [SL_DTYPE_Q5_0] = q5_0,
        [SL_DTYPE_Q5_1] = q5_1, [SL_DTYPE_Q8_0] = q8_0, [SL_DTYPE_Q4_K] = q4_k,
        [SL_DTYPE_Q5_K] = q5_k, [SL_DTYPE_Q6_K] = q6_k,
    };
    const uint32_t elems = sl_dtype_block_elems(dtype);
    const uint32_t bytes = sl_dtype_block_bytes(dtype);
    const uint8_t *b = src;

    SL_ASSERT(cols % elems == 0);
    if (block[dtype] == NULL) {
        plain(dtype, b, cols, dst);
        return;
    }
    for (uint32_t i = 0; i < cols / elems; i++)
        block[dtype](b + (size_t)i * bytes, dst + (size_t)i * elems);
}
