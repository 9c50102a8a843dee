/* kernels/ref/ref_internal.h - the rows of the twins' table.
 *
 * The twins are the slow, obvious version of every operation: plain loops, fp32 storage, double
 * sums, each product and sum in the order in which the formula is read.  A prepared row is the
 * fp32 row itself; a packed weight is the file's own rows of blocks; in a KV block both K and V
 * lie as [16 tokens][D] halves.
 *
 * Work is dealt out by index: member r of a team of s does the items r, r + s, r + 2s, ... . */
#ifndef SL_KERNELS_REF_REF_INTERNAL_H
#define SL_KERNELS_REF_REF_INTERNAL_H

#include "kernels/kernels.h"

enum { SL_REF_PLANE_TOKENS = 16 }; /* tokens of K or of V that one F16 plane holds */

size_t sl_ref_act_bytes(uint32_t cols);
size_t sl_ref_scratch_bytes(uint32_t heads, uint32_t kv_heads, uint32_t head_dim,
                            uint32_t cols_max);
sl_status sl_ref_weight_plan(sl_weight *w, sl_err *err);
void sl_ref_weight_pack(const sl_weight *w, const void *src, uint32_t row_first,
                        uint32_t row_count);

/* The packed blocks of row `row` of a weight. */
const uint8_t *sl_ref_weight_row(const sl_weight *w, uint32_t row);

sl_status sl_ref_embed(const sl_embed_args *a, sl_stream *stream);
sl_status sl_ref_norm(const sl_norm_args *a, sl_stream *stream);
sl_status sl_ref_prepare(const sl_prepare_args *a, sl_stream *stream);
sl_status sl_ref_linear(const sl_linear_args *a, sl_stream *stream);
sl_status sl_ref_rope_append(const sl_rope_append_args *a, sl_stream *stream);
sl_status sl_ref_attention(const sl_attention_args *a, sl_stream *stream);
sl_status sl_ref_glu(const sl_glu_args *a, sl_stream *stream);
sl_status sl_ref_plane_copy(const sl_plane_copy_args *a, sl_stream *stream);

/* Where the D halves of K (`value` false) or V of one token lie: layer `chunk_layer` of the chunk,
 * KV head g, token t (0 .. 63) of the page. */
uint16_t *sl_ref_kv_token(const sl_kv_store *kv, const sl_kv_page *page, bool value,
                          uint32_t chunk_layer, uint32_t g, uint32_t t);

/* True if the store's shape and the layer index fit each other. */
bool sl_ref_kv_shape_ok(const sl_kv_store *kv, uint32_t chunk_layer, uint32_t heads);

#endif
