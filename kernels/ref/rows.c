/* kernels/ref/rows.c - the operations that look at one row at a time, and the plane copy. */
#include <math.h>
#include <string.h>

#include "kernels/ref/ref_internal.h"
#include "kernels/team.h"

/* Row i of a block of prepared rows. */
static float *act_row(void *act, uint32_t cols, uint32_t i)
{
    return (float *)((uint8_t *)act + sl_ref_act_bytes(cols) * i);
}

static void norm_row(const sl_norm_args *a, uint32_t i)
{
    const float *x = a->x + (size_t)i * a->cols;
    float *y = a->y == NULL ? NULL : a->y + (size_t)i * a->cols;
    float *act = a->act == NULL ? NULL : act_row(a->act, a->cols, i);
    double sum = 0.0;
    double scale;

    for (uint32_t k = 0; k < a->cols; k++)
        sum += (double)x[k] * (double)x[k];
    scale = 1.0 / sqrt(sum / a->cols + (double)a->eps);
    for (uint32_t k = 0; k < a->cols; k++) {
        const double v = (double)x[k] * scale * (double)a->w[k];

        if (act != NULL)
            act[k] = (float)v;
        if (y != NULL)
            y[k] = (float)(a->accumulate ? (double)y[k] + v : v);
    }
}

sl_status sl_ref_norm(const sl_norm_args *a, sl_stream *stream)
{
    if (a->n > 0 && (a->cols == 0 || (a->accumulate && a->act != NULL)))
        return SL_EINVAL;
    for (uint32_t i = stream->rank; i < a->n; i += sl_stream_size(stream))
        norm_row(a, i);
    sl_stream_barrier(stream);
    return SL_OK;
}

sl_status sl_ref_prepare(const sl_prepare_args *a, sl_stream *stream)
{
    for (uint32_t i = stream->rank; i < a->n; i += sl_stream_size(stream))
        memcpy(act_row(a->act, a->cols, i), a->x + (size_t)i * a->cols, a->cols * sizeof(float));
    sl_stream_barrier(stream);
    return SL_OK;
}

static double silu(double g)
{
    return g / (1.0 + exp(-g));
}

static double gelu_tanh(double g)
{
    const double sqrt_2_over_pi = 0.79788456080286535588;

    return 0.5 * g * (1.0 + tanh(sqrt_2_over_pi * (g + 0.044715 * g * g * g)));
}

sl_status sl_ref_glu(const sl_glu_args *a, sl_stream *stream)
{
    if (a->n > 0 && a->stride < a->cols)
        return SL_EINVAL;
    for (uint32_t i = stream->rank; i < a->n; i += sl_stream_size(stream)) {
        const float *gate = a->gate + (size_t)i * a->stride;
        const float *up = a->up + (size_t)i * a->stride;
        float *act = act_row(a->act, a->cols, i);

        for (uint32_t k = 0; k < a->cols; k++) {
            const double g = gate[k];

            act[k] = (float)((a->fn == SL_ACT_SILU ? silu(g) : gelu_tanh(g)) * (double)up[k]);
        }
    }
    sl_stream_barrier(stream);
    return SL_OK;
}

sl_status sl_ref_plane_copy(const sl_plane_copy_args *a, sl_stream *stream)
{
    const size_t bytes = a->kv->plane_bytes;

    for (uint32_t i = stream->rank; i < a->count; i += sl_stream_size(stream))
        memcpy(a->kv->planes + bytes * a->dst[i], a->kv->planes + bytes * a->src[i], bytes);
    sl_stream_barrier(stream);
    return SL_OK;
}
