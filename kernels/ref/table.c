/* kernels/ref/table.c - the twins' table, and the sizes it promises. */
#include "kernels/ref/ref_internal.h"

size_t sl_ref_act_bytes(uint32_t cols)
{
    return ((size_t)cols * sizeof(float) + 63) & ~(size_t)63;
}

/* linear: one dequantised row of the weight; attention: K and V of one page and head as fp32. */
size_t sl_ref_scratch_bytes(uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t cols_max)
{
    const size_t linear = sl_ref_act_bytes(cols_max);
    const size_t attention = (size_t)2 * SL_PAGE_TOKENS * head_dim * sizeof(float);

    (void)heads;
    (void)kv_heads;
    return linear > attention ? linear : attention;
}

const sl_ops *sl_ops_ref(void)
{
    static const sl_ops ops = {
        .name = "ref",
        .act_bytes = sl_ref_act_bytes,
        .weight_plan = sl_ref_weight_plan,
        .weight_pack = sl_ref_weight_pack,
        .embed = sl_ref_embed,
        .norm = sl_ref_norm,
        .prepare = sl_ref_prepare,
        .linear = sl_ref_linear,
        .rope_append = sl_ref_rope_append,
        .attention = sl_ref_attention,
        .glu = sl_ref_glu,
        .plane_copy = sl_ref_plane_copy,
        .scratch_bytes = sl_ref_scratch_bytes,
    };
    return &ops;
}
