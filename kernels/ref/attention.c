/* kernels/ref/attention.c - y = softmax(scale * q K^T) V over pages, causal, maybe windowed.
 *
 * A piece of work is one row and one KV head: K and V of a page become fp32 once and serve all
 * query heads of the group.  Sums and the online softmax are double. */
#include <math.h>

#include "base/assert.h"
#include "kernels/ref/ref_internal.h"
#include "kernels/team.h"

/* The running softmax of one query head. */
typedef struct head_state {
    double max;
    double sum;
    double y[SL_HEAD_DIM_MAX];
} head_state;

enum { GROUP_MAX = 64 }; /* query heads of a KV head */

/* One page as fp32: k, v [64][D]; positions first .. last of the sequence are seen. */
typedef struct page_view {
    float *k;
    float *v;
    uint32_t first; /* token of the page, 0 .. 63 */
    uint32_t last;
} page_view;

static void load_page(const sl_attention_args *a, const sl_kv_page *page, uint32_t g,
                      page_view *view)
{
    const uint32_t d = a->kv->head_dim;

    for (uint32_t t = view->first; t <= view->last; t++) {
        const uint16_t *k = sl_ref_kv_token(a->kv, page, false, a->chunk_layer, g, t);
        const uint16_t *v = sl_ref_kv_token(a->kv, page, true, a->chunk_layer, g, t);

        for (uint32_t j = 0; j < d; j++) {
            view->k[(size_t)t * d + j] = sl_f16_to_f32(k[j]);
            view->v[(size_t)t * d + j] = sl_f16_to_f32(v[j]);
        }
    }
}

static double score(const sl_attention_args *a, const float *q, const float *k)
{
    double s = 0.0;

    for (uint32_t j = 0; j < a->kv->head_dim; j++)
        s += (double)q[j] * (double)k[j];
    s *= (double)a->scale;
    if (a->softcap > 0.0f)
        s = (double)a->softcap * tanh(s / (double)a->softcap);
    return s;
}

/* Take the keys of one page into the softmax of one head. */
static void attend_page(const sl_attention_args *a, const page_view *view, const float *q,
                        head_state *state)
{
    const uint32_t d = a->kv->head_dim;
    double s[SL_PAGE_TOKENS];
    double max = state->max;
    double keep;

    for (uint32_t t = view->first; t <= view->last; t++) {
        s[t] = score(a, q, view->k + (size_t)t * d);
        if (s[t] > max)
            max = s[t];
    }
    keep = exp(state->max - max); /* 0 for the first page, where state->max is -infinity */
    state->max = max;
    state->sum *= keep;
    for (uint32_t j = 0; j < d; j++)
        state->y[j] *= keep;
    for (uint32_t t = view->first; t <= view->last; t++) {
        const double p = exp(s[t] - max);
        const float *v = view->v + (size_t)t * d;

        state->sum += p;
        for (uint32_t j = 0; j < d; j++)
            state->y[j] += p * (double)v[j];
    }
}

/* Row i and the query heads of KV head g. */
static void attend(const sl_attention_args *a, const sl_attn_seq *seq, uint32_t i, uint32_t g,
                   float *scratch)
{
    const uint32_t d = a->kv->head_dim;
    const uint32_t group = a->heads / a->kv->kv_heads;
    const uint32_t last = seq->position + (i - seq->row_first);
    const uint32_t first = a->window == 0 || last < a->window ? 0 : last - a->window + 1;
    const size_t head_first = (size_t)g * group;
    page_view view = {.k = scratch, .v = scratch + (size_t)SL_PAGE_TOKENS * d};
    head_state state[GROUP_MAX];

    for (uint32_t h = 0; h < group; h++)
        state[h] = (head_state){.max = -INFINITY};
    for (uint32_t page = first / SL_PAGE_TOKENS; page <= last / SL_PAGE_TOKENS; page++) {
        const uint32_t base = page * SL_PAGE_TOKENS;

        view.first = first > base ? first - base : 0;
        view.last = last - base < SL_PAGE_TOKENS ? last - base : SL_PAGE_TOKENS - 1;
        load_page(a, &seq->pages[page], g, &view);
        for (uint32_t h = 0; h < group; h++)
            attend_page(a, &view, a->q + (size_t)i * a->q_stride + (head_first + h) * d, &state[h]);
    }
    for (uint32_t h = 0; h < group; h++) {
        const size_t at = (head_first + h) * d;
        float *y = a->y == NULL ? NULL : a->y + (size_t)i * a->heads * d + at;
        float *act = a->act == NULL
                         ? NULL
                         : (float *)((uint8_t *)a->act + sl_ref_act_bytes(a->heads * d) * i) + at;

        for (uint32_t j = 0; j < d; j++) {
            const float out = (float)(state[h].y[j] / state[h].sum);

            if (y != NULL)
                y[j] = out;
            if (act != NULL)
                act[j] = out;
        }
    }
}

sl_status sl_ref_attention(const sl_attention_args *a, sl_stream *stream)
{
    const uint32_t kv_heads = a->kv->kv_heads;

    if (a->n == 0)
        return SL_OK;
    if (!sl_ref_kv_shape_ok(a->kv, a->chunk_layer, a->heads) || a->heads / kv_heads > GROUP_MAX)
        return SL_EINVAL;
    if (stream->scratch_bytes < (size_t)2 * SL_PAGE_TOKENS * a->kv->head_dim * sizeof(float))
        return SL_EINVAL;
    for (uint32_t s = 0; s < a->seq_count; s++) {
        const sl_attn_seq *seq = &a->seq[s];
        const size_t pieces = (size_t)seq->row_count * kv_heads;

        for (size_t p = stream->rank; p < pieces; p += sl_stream_size(stream))
            attend(a, seq, seq->row_first + (uint32_t)(p / kv_heads), (uint32_t)(p % kv_heads),
                   (float *)(void *)stream->scratch);
    }
    sl_stream_barrier(stream);
    return SL_OK;
}
