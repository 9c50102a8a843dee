/* quant/dtype.c - names, sizes and scalar conversions of the number formats; see dtype.h */
#include "quant/dtype.h"

#include <string.h>

#include "base/assert.h"

static const struct {
    const char *name;
    uint32_t gguf_id;
    uint32_t block_elems;
    uint32_t block_bytes;
} row[SL_DTYPE_COUNT] = {
#define SL_DTYPE_ROW(name, id, elems, bytes) {#name, id, elems, bytes},
    SL_DTYPE_ROWS(SL_DTYPE_ROW)
#undef SL_DTYPE_ROW
};

const char *sl_dtype_name(sl_dtype dtype)
{
    SL_ASSERT(dtype < SL_DTYPE_COUNT);
    return row[dtype].name;
}

uint32_t sl_dtype_block_elems(sl_dtype dtype)
{
    SL_ASSERT(dtype < SL_DTYPE_COUNT);
    return row[dtype].block_elems;
}

uint32_t sl_dtype_block_bytes(sl_dtype dtype)
{
    SL_ASSERT(dtype < SL_DTYPE_COUNT);
    return row[dtype].block_bytes;
}

bool sl_dtype_from_gguf(uint32_t id, sl_dtype *out)
{
    for (uint32_t i = 0; i < SL_DTYPE_COUNT; i++)
        if (row[i].gguf_id == id) {
            *out = (sl_dtype)i;
            return true;
        }
    return false;
}

const char *sl_dtype_gguf_name(uint32_t id)
{
    static const char *const name[] = {
        [0] = "F32",     [1] = "F16",      [2] = "Q4_0",   [3] = "Q4_1",    [6] = "Q5_0",
        [7] = "Q5_1",    [8] = "Q8_0",     [9] = "Q8_1",   [10] = "Q2_K",   [11] = "Q3_K",
        [12] = "Q4_K",   [13] = "Q5_K",    [14] = "Q6_K",  [15] = "Q8_K",   [16] = "IQ2_XXS",
        [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",
        [22] = "IQ2_S",  [23] = "IQ4_XS",  [24] = "I8",    [25] = "I16",    [26] = "I32",
        [27] = "I64",    [28] = "F64",     [29] = "IQ1_M", [30] = "BF16",   [34] = "TQ1_0",
        [35] = "TQ2_0",  [39] = "MXFP4",   [40] = "NVFP4",
    };

    return id < sizeof(name) / sizeof(name[0]) ? name[id] : NULL;
}

sl_status sl_dtype_row_bytes(sl_dtype dtype, uint64_t cols, size_t *out)
{
    const uint64_t elems = sl_dtype_block_elems(dtype);
    const uint64_t bytes = sl_dtype_block_bytes(dtype);
    uint64_t total;

    if (cols % elems != 0 || __builtin_mul_overflow(cols / elems, bytes, &total) ||
        total > SIZE_MAX)
        return SL_EFORMAT;
    *out = (size_t)total;
    return SL_OK;
}

static uint32_t bits_of(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return u;
}

static float of_bits(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof(f));
    return f;
}

float sl_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = h >> 10 & 0x1F;
    const uint32_t mantissa = h & 0x3FF;

    if (exponent == 0x1F)
        return of_bits(sign | 0x7F800000u | mantissa << 13);
    if (exponent != 0)
        return of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    /* Zero or subnormal: mantissa * 2^-24, exact in fp32. */
    return of_bits(sign | bits_of((float)mantissa * 0x1.0p-24f));
}

uint16_t sl_f32_to_f16(float f)
{
    const uint32_t u = bits_of(f);
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    const uint32_t magnitude = u & 0x7FFFFFFFu;

    if (magnitude > 0x7F800000u) /* NaN: keep it quiet */
        return (uint16_t)(sign | 0x7E00);
    if (magnitude >= 0x477FF000u) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7C00);
    if (magnitude < 0x38800000u) {
        /* Subnormal half: adding 0.5 leaves the value, rounded to 2^-24, in the low bits. */
        const float shifted = of_bits(magnitude) + 0.5f;

        return (uint16_t)(sign | (bits_of(shifted) - bits_of(0.5f)));
    }
    /* Round the 13 bits that go to nearest even, then rebias the exponent. */
    return (uint16_t)(sign | ((magnitude + 0xFFF + (magnitude >> 13 & 1) - (112u << 23)) >> 13));
}

float sl_bf16_to_f32(uint16_t b)
{
    return of_bits((uint32_t)b << 16);
}

uint16_t sl_f32_to_bf16(float f)
{
    const uint32_t u = bits_of(f);

    if ((u & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}
