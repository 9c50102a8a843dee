/* kernels/cpu/ops.c - which table of operations this CPU gets.
 *
 * Built for any CPU of the architecture: nothing here may use what it asks for. */
#include "kernels/cpu/cpu_internal.h"

#if defined(__x86_64__)

#include <cpuid.h>

typedef struct features {
    bool avx2; /* with FMA, F16C and BMI2, all usable (the system saves the registers) */
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
    const uint32_t avx2 = 1u << 5, bmi2 = 1u << 8;
    uint32_t a, b, c, d;
    features f = {false};

    if (!__get_cpuid(1, &a, &b, &c, &d))
        return f;
    if ((c & (fma | osxsave | avx | f16c)) != (fma | osxsave | avx | f16c))
        return f;
    if ((saved_registers() & 6) != 6) /* xmm and ymm */
        return f;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return f;
    f.avx2 = (b & (avx2 | bmi2)) == (avx2 | bmi2);
    return f;
}

static const sl_ops ops_avx2 = {
    .name = "cpu-avx2",
    .act_bytes = sl_cpu_act_bytes,
    .weight_plan = sl_cpu_weight_plan,
    .weight_pack = sl_cpu_weight_pack,
    .embed = sl_cpu_embed,
    .norm = sl_cpu_norm,
    .prepare = sl_cpu_prepare,
    .linear = sl_cpu_linear,
    .rope_append = sl_cpu_rope_append,
    .attention = sl_cpu_attention,
    .glu = sl_cpu_glu,
    .plane_copy = sl_cpu_plane_copy,
    .scratch_bytes = sl_cpu_scratch_bytes,
};

const sl_ops *sl_ops_cpu(const char **features_text)
{
    const features f = find_features();

    if (!f.avx2) {
        if (features_text != NULL)
            *features_text = "this CPU lacks AVX2, FMA, F16C or BMI2: no fast table";
        return NULL;
    }
    if (features_text != NULL)
        *features_text = "AVX2, FMA, F16C";
    return &ops_avx2;
}

#else

const sl_ops *sl_ops_cpu(const char **features_text)
{
    if (features_text != NULL)
        *features_text = "no fast table for this architecture";
    return NULL;
}

#endif
