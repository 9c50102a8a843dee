/* quant/quantize.c - fp32 to blocks, the simple way: absmax or min/max, round to nearest.
 *
 * For tests and generated models; the K types get valid blocks (every sub-block's scale from its
 * own min and max), not good ones. */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "quant/dtype.h"

static void store_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static int clamp_round(float v, int low, int high)
{
    const long r = lrintf(v);

    return r < low ? low : r > high ? high : (int)r;
}

/* The value of largest magnitude, with its sign. */
static float extreme(const float *x, int n)
{
    float best = 0.0f;

    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(best))
            best = x[i];
    return best;
}

static void range(const float *x, int n, float *min, float *max)
{
    *min = x[0];
    *max = x[0];
    for (int i = 1; i < n; i++) {
        *min = fminf(*min, x[i]);
        *max = fmaxf(*max, x[i]);
    }
}

/* `levels` codes around an offset; 16: Q4_0, 32: Q5_0.  Codes go to code[32]. */
static void symmetric(const float *x, int levels, uint8_t *d_bytes, uint8_t *code)
{
    const int offset = levels / 2;
    const uint16_t half = sl_f32_to_f16(extreme(x, 32) / (float)-offset);
    const float d = sl_f16_to_f32(half);

    store_u16(d_bytes, half);
    for (int i = 0; i < 32; i++)
        code[i] =
            (uint8_t)(d == 0.0f ? offset : clamp_round(x[i] / d + (float)offset, 0, levels - 1));
}

static void asymmetric(const float *x, int levels, uint8_t *dm_bytes, uint8_t *code)
{
    float min, max, d, m;
    uint16_t half;

    range(x, 32, &min, &max);
    half = sl_f32_to_f16((max - min) / (float)(levels - 1));
    store_u16(dm_bytes, half);
    d = sl_f16_to_f32(half);
    half = sl_f32_to_f16(min);
    store_u16(dm_bytes + 2, half);
    m = sl_f16_to_f32(half);
    for (int i = 0; i < 32; i++)
        code[i] = (uint8_t)(d == 0.0f ? 0 : clamp_round((x[i] - m) / d, 0, levels - 1));
}

static void put_nibbles(const uint8_t *code, uint8_t *b)
{
    for (int j = 0; j < 16; j++)
        b[j] = (uint8_t)((code[j] & 15) | (code[j + 16] & 15) << 4);
}

static void put_fifth_bits(const uint8_t *code, uint8_t *b)
{
    memset(b, 0, 4);
    for (int j = 0; j < 32; j++)
        b[j / 8] = (uint8_t)(b[j / 8] | (code[j] >> 4 & 1) << (j % 8));
}

static void q8_0(const float *x, uint8_t *b)
{
    const uint16_t half = sl_f32_to_f16(fabsf(extreme(x, 32)) / 127.0f);
    const float d = sl_f16_to_f32(half);

    store_u16(b, half);
    for (int i = 0; i < 32; i++)
        b[2 + i] = (uint8_t)(int8_t)(d == 0.0f ? 0 : clamp_round(x[i] / d, -127, 127));
}

static void put_k_scale_min(uint8_t *b, int j, int scale, int min)
{
    if (j < 4) {
        b[j] = (uint8_t)(b[j] | scale);
        b[j + 4] = (uint8_t)(b[j + 4] | min);
        return;
    }
    b[j + 4] = (uint8_t)(b[j + 4] | (scale & 15) | (min & 15) << 4);
    b[j - 4] = (uint8_t)(b[j - 4] | (scale >> 4) << 6);
    b[j] = (uint8_t)(b[j] | (min >> 4) << 6);
}

/* Q4_K (levels 16) and Q5_K (levels 32). */
static void q45_k(const float *x, int levels, uint8_t *b)
{
    uint8_t *q = b + (levels == 16 ? 16 : 48);
    float scale_max = 0.0f, min_max = 0.0f, low[8], step[8], d, dmin;
    uint16_t half;

    for (int j = 0; j < 8; j++) {
        float min, max;

        range(x + 32 * j, 32, &min, &max);
        low[j] = fmaxf(-min, 0.0f);
        step[j] = (max + low[j] > 0.0f ? max + low[j] : 0.0f) / (float)(levels - 1);
        scale_max = fmaxf(scale_max, step[j]);
        min_max = fmaxf(min_max, low[j]);
    }
    memset(b, 0, sl_dtype_block_bytes(levels == 16 ? SL_DTYPE_Q4_K : SL_DTYPE_Q5_K));
    half = sl_f32_to_f16(scale_max / 63.0f);
    store_u16(b, half);
    d = sl_f16_to_f32(half);
    half = sl_f32_to_f16(min_max / 63.0f);
    store_u16(b + 2, half);
    dmin = sl_f16_to_f32(half);

    for (int j = 0; j < 8; j++) {
        const int scale = d > 0.0f ? clamp_round(step[j] / d, 0, 63) : 0;
        const int min = dmin > 0.0f ? clamp_round(low[j] / dmin, 0, 63) : 0;
        const float s = d * (float)scale;

        put_k_scale_min(b + 4, j, scale, min);
        for (int i = 0; i < 32; i++) {
            const float v = x[32 * j + i] + dmin * (float)min;
            const int code = s > 0.0f ? clamp_round(v / s, 0, levels - 1) : 0;
            uint8_t *at = q + 32 * (j / 2) + i;

            *at = (uint8_t)(*at | (code & 15) << (j % 2 * 4));
            if (levels == 32)
                b[16 + i] = (uint8_t)(b[16 + i] | (code >> 4) << j);
        }
    }
}

static void q6_k(const float *x, uint8_t *b)
{
    float step[16], step_max = 0.0f, d;
    uint16_t half;

    memset(b, 0, sl_dtype_block_bytes(SL_DTYPE_Q6_K));
    for (int j = 0; j < 16; j++) {
        step[j] = fabsf(extreme(x + 16 * j, 16)) / 31.0f;
        step_max = fmaxf(step_max, step[j]);
    }
    half = sl_f32_to_f16(step_max / 127.0f);
    store_u16(b + 208, half);
    d = sl_f16_to_f32(half);
    for (int j = 0; j < 16; j++) {
        const int scale = d > 0.0f ? clamp_round(step[j] / d, 0, 127) : 0;

        b[192 + j] = (uint8_t)scale;
        for (int i = 0; i < 16; i++) {
            const int e = 16 * j + i; /* element of the block */
            const int half_index = e / 128, k = e % 128 / 32, col = e % 32;
            const float s = d * (float)scale;
            const int code = (s > 0.0f ? clamp_round(x[e] / s, -32, 31) : 0) + 32;
            uint8_t *low = b + 64 * half_index + 32 * (k % 2) + col;
            uint8_t *high = b + 128 + 32 * half_index + col;

            *low = (uint8_t)(*low | (code & 15) << (k / 2 * 4));
            *high = (uint8_t)(*high | (code >> 4) << (2 * k));
        }
    }
}

static void quantize_block(sl_dtype dtype, const float *x, uint8_t *b)
{
    uint8_t code[32];

    switch (dtype) {
    case SL_DTYPE_Q4_0:
        symmetric(x, 16, b, code);
        put_nibbles(code, b + 2);
        break;
    case SL_DTYPE_Q4_1:
        asymmetric(x, 16, b, code);
        put_nibbles(code, b + 4);
        break;
    case SL_DTYPE_Q5_0:
        symmetric(x, 32, b, code);
        put_fifth_bits(code, b + 2);
        put_nibbles(code, b + 6);
        break;
    case SL_DTYPE_Q5_1:
        asymmetric(x, 32, b, code);
        put_fifth_bits(code, b + 4);
        put_nibbles(code, b + 8);
        break;
    case SL_DTYPE_Q8_0:
        q8_0(x, b);
        break;
    case SL_DTYPE_Q4_K:
        q45_k(x, 16, b);
        break;
    case SL_DTYPE_Q5_K:
        q45_k(x, 32, b);
        break;
    default:
        q6_k(x, b);
    }
}

void sl_quantize_row(sl_dtype dtype, const float *src, uint32_t cols, void *dst)
{
    const uint32_t elems = sl_dtype_block_elems(dtype);
    const uint32_t bytes = sl_dtype_block_bytes(dtype);
    uint8_t *b = dst;

    SL_ASSERT(cols % elems == 0);
    if (dtype == SL_DTYPE_F32) {
        memcpy(b, src, (size_t)cols * 4);
        return;
    }
    for (uint32_t i = 0; i < cols / elems; i++, b += bytes) {
        if (dtype == SL_DTYPE_F16)
            store_u16(b, sl_f32_to_f16(src[i]));
        else if (dtype == SL_DTYPE_BF16)
            store_u16(b, sl_f32_to_bf16(src[i]));
        else
            quantize_block(dtype, src + (size_t)i * elems, b);
    }
}
