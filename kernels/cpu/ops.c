/* kernels/cpu/ops.c - which table of operations this CPU gets.
 *
 * Built for any CPU of the architecture: nothing here may use what it asks for. */
#include "kernels/cpu/cpu_internal.h"

#if defined(__x86_64__)

#include <cpuid.h>

/* What there is and is usable: the system must save the registers, too. */
typedef struct features {
    bool avx2; /* with FMA, F16C and BMI2 */
    bool vnni; /* AVX-512 F, BW, DQ, VL, VNNI */
} features;

static uint64_t saved_registers(void)
{
    uint32_t low, high;

    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static features find_features(void)
{
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    const uint32_t avx2 = 1u << 5, bmi2 = 1u << 8, vnni = 1u << 11;
    const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    const uint64_t ymm = 0x06, zmm = 0xe6;
    features f = {false, false};
    uint32_t a, b, c, d;
    uint64_t saved;

    if (!__get_cpuid(1, &a, &b, &c, &d))
        return f;
    if ((c & (fma | osxsave | avx | f16c)) != (fma | osxsave | avx | f16c))
        return f;
    saved = saved_registers();
    if ((saved & ymm) != ymm)
        return f;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return f;
    f.avx2 = (b & (avx2 | bmi2)) == (avx2 | bmi2);
    f.vnni = f.avx2 && (saved & zmm) == zmm && (b & avx512) == avx512 && (c & vnni) != 0;
    return f;
}

static sl_status linear_avx2(const sl_linear_args *a, sl_stream *stream)
{
    return sl_cpu_linear(a, stream, &sl_cpu_tiles_avx2);
}

static sl_status linear_vnni(const sl_linear_args *a, sl_stream *stream)
{
    return sl_cpu_linear(a, stream, &sl_cpu_tiles_vnni);
}

/* The tables differ in the tiles of linear alone, and those have the same bits. */
#define OPS(table_name, linear_fn)                                                                 \
    {                                                                                              \
        .name = (table_name), .act_bytes = sl_cpu_act_bytes, .weight_plan = sl_cpu_weight_plan,    \
        .weight_pack = sl_cpu_weight_pack, .embed = sl_cpu_embed, .norm = sl_cpu_norm,             \
        .prepare = sl_cpu_prepare, .linear = (linear_fn), .rope_append = sl_cpu_rope_append,       \
        .attention = sl_cpu_attention, .glu = sl_cpu_glu, .plane_copy = sl_cpu_plane_copy,         \
        .scratch_bytes = sl_cpu_scratch_bytes,                                                     \
    }

static const sl_ops ops_avx2 = OPS("cpu-avx2", linear_avx2);
static const sl_ops ops_vnni = OPS("cpu-avx512-vnni", linear_vnni);

const sl_ops *sl_ops_cpu(const char **features_text)
{
    const features f = find_features();
    const char *text = "this CPU lacks AVX2, FMA, F16C or BMI2: no fast table";

    if (f.vnni)
        text = "AVX2, FMA, F16C, AVX-512 VNNI";
    else if (f.avx2)
        text = "AVX2, FMA, F16C";
    if (features_text != NULL)
        *features_text = text;
    return f.vnni ? &ops_vnni : sl_ops_cpu_avx2();
}

const sl_ops *sl_ops_cpu_avx2(void)
{
    return find_features().avx2 ? &ops_avx2 : NULL;
}

#else

const sl_ops *sl_ops_cpu(const char **features_text)
{
    if (features_text != NULL)
        *features_text = "no fast table for this architecture";
    return NULL;
}

const sl_ops *sl_ops_cpu_avx2(void)
{
    return NULL;
}

#endif
