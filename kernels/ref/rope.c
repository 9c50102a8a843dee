/* kernels/ref/rope.c - head norms, rotary embedding, and the append of K and V to their pages. */
#include <math.h>

#include "base/assert.h"
#include "kernels/ref/ref_internal.h"
#include "kernels/team.h"

bool sl_ref_kv_shape_ok(const sl_kv_store *kv, uint32_t chunk_layer, uint32_t heads)
{
    const size_t plane_bytes =
        (size_t)SL_PAGE_TOKENS / 2 * kv->chunk_layers * kv->kv_heads * kv->head_dim;

    return kv->head_dim > 0 && kv->head_dim <= SL_HEAD_DIM_MAX && kv->kv_heads > 0 &&
           heads % kv->kv_heads == 0 && chunk_layer < kv->chunk_layers &&
           kv->plane_bytes == plane_bytes;
}

uint16_t *sl_ref_kv_token(const sl_kv_store *kv, const sl_kv_page *page, bool value,
                          uint32_t chunk_layer, uint32_t g, uint32_t t)
{
    const uint32_t plane = page->plane[(value ? 4 : 0) + t / SL_REF_PLANE_TOKENS];
    const size_t block = (size_t)chunk_layer * kv->kv_heads + g;
    const size_t token = block * SL_REF_PLANE_TOKENS + t % SL_REF_PLANE_TOKENS;

    SL_ASSERT(page->tier == SL_KV_F16);
    SL_ASSERT(plane != SL_PLANE_NONE);
    return (uint16_t *)(void *)(kv->planes + kv->plane_bytes * plane) + token * kv->head_dim;
}

/* Beyond the range of a half: the largest one. */
static uint16_t to_half(float x)
{
    const float top = 65504.0f;

    return sl_f32_to_f16(x > top ? top : x < -top ? -top : x);
}

/* out = the RMS norm of one head, or the head itself if there are no weights. */
static void head_norm(const float *head, const float *w, uint32_t d, float eps, double *out)
{
    double sum = 0.0;
    double scale;

    for (uint32_t j = 0; j < d; j++)
        sum += (double)head[j] * (double)head[j];
    scale = 1.0 / sqrt(sum / d + (double)eps);
    for (uint32_t j = 0; j < d; j++)
        out[j] = w == NULL ? (double)head[j] : (double)head[j] * scale * (double)w[j];
}

static void rotate(const sl_rope_append_args *a, uint32_t position, double *head)
{
    const uint32_t half = a->rope_dims / 2;

    for (uint32_t j = 0; j < half; j++) {
        const double angle = (double)position * (double)a->inv_freq[j];
        const double c = cos(angle) * (double)a->rope_scale;
        const double s = sin(angle) * (double)a->rope_scale;
        double *first = &head[a->neox ? j : 2 * j];
        double *second = &head[a->neox ? j + half : 2 * j + 1];
        const double x = *first;
        const double y = *second;

        *first = x * c - y * s;
        *second = x * s + y * c;
    }
}

static void append_row(const sl_rope_append_args *a, const sl_attn_seq *seq, uint32_t i)
{
    const uint32_t d = a->kv->head_dim;
    const uint32_t position = seq->position + (i - seq->row_first);
    const sl_kv_page *page = &seq->pages[position / SL_PAGE_TOKENS];
    const uint32_t t = position % SL_PAGE_TOKENS;
    double head[SL_HEAD_DIM_MAX];

    for (uint32_t h = 0; h < a->heads; h++) {
        float *q = a->q + (size_t)i * a->q_stride + (size_t)h * d;

        head_norm(q, a->q_norm, d, a->norm_eps, head);
        rotate(a, position, head);
        for (uint32_t j = 0; j < d; j++)
            q[j] = (float)head[j];
    }
    for (uint32_t g = 0; g < a->kv->kv_heads; g++) {
        const float *k = a->k + (size_t)i * a->kv_stride + (size_t)g * d;
        const float *v = a->v + (size_t)i * a->kv_stride + (size_t)g * d;
        uint16_t *k_cache = sl_ref_kv_token(a->kv, page, false, a->chunk_layer, g, t);
        uint16_t *v_cache = sl_ref_kv_token(a->kv, page, true, a->chunk_layer, g, t);

        head_norm(k, a->k_norm, d, a->norm_eps, head);
        rotate(a, position, head);
        for (uint32_t j = 0; j < d; j++) {
            k_cache[j] = to_half((float)head[j]);
            v_cache[j] = to_half(v[j]);
        }
    }
}

sl_status sl_ref_rope_append(const sl_rope_append_args *a, sl_stream *stream)
{
    if (a->n == 0)
        return SL_OK;
    if (!sl_ref_kv_shape_ok(a->kv, a->chunk_layer, a->heads) || a->rope_dims % 2 != 0 ||
        a->rope_dims > a->kv->head_dim)
        return SL_EINVAL;
    for (uint32_t s = 0; s < a->seq_count; s++) {
        const sl_attn_seq *seq = &a->seq[s];

        for (uint32_t r = stream->rank; r < seq->row_count; r += sl_stream_size(stream))
            append_row(a, seq, seq->row_first + r);
    }
    sl_stream_barrier(stream);
    return SL_OK;
}
