/* kernels/ref/linear.c - y[i, j] (+)= sum_k w[j, k] * x[i, k] + bias[j]
 *
 * A row of the weight is dequantised once and meets all rows of x.  Four rows of x are summed side
 * by side: four independent sums, each in the order of k; the last four may overlap the end, where
 * the last row is simply computed again. */
#include <math.h>

#include "kernels/ref/ref_internal.h"
#include "kernels/team.h"

enum { TILE = 4 };

static const float *input_row(const sl_linear_args *a, uint32_t i)
{
    const uint32_t row = a->row == NULL ? i : a->row[i];

    return (const float *)((const uint8_t *)a->act + sl_ref_act_bytes(a->cols) * row);
}

static void store(const sl_linear_args *a, const sl_linear_part *part, uint32_t i, uint32_t j,
                  double sum)
{
    float *y = part->y + (size_t)i * part->y_stride + j;

    if (part->bias != NULL)
        sum += (double)part->bias[j];
    if (part->accumulate)
        sum += (double)*y;
    if (a->softcap > 0.0f)
        sum = (double)a->softcap * tanh(sum / (double)a->softcap);
    *y = (float)sum;
}

/* Output column j of one part, for all rows. */
static void column(const sl_linear_args *a, const sl_linear_part *part, uint32_t j, float *w)
{
    sl_dequantize_row(part->w->dtype, sl_ref_weight_row(part->w, j), a->cols, w);
    for (uint32_t i = 0; i < a->n; i += TILE) {
        const uint32_t count = a->n - i < TILE ? a->n - i : TILE;
        const float *x[TILE];
        double sum[TILE] = {0.0};

        for (uint32_t t = 0; t < TILE; t++)
            x[t] = input_row(a, i + (t < count ? t : count - 1));
        for (uint32_t k = 0; k < a->cols; k++) {
            const double wk = w[k];

            for (uint32_t t = 0; t < TILE; t++)
                sum[t] += wk * (double)x[t][k];
        }
        for (uint32_t t = 0; t < count; t++)
            store(a, part, i + t, j, sum[t]);
    }
}

static bool shapes_ok(const sl_linear_args *a, const sl_stream *stream)
{
    if (a->part_count == 0 || a->part_count > SL_LINEAR_PARTS_MAX)
        return false;
    if (stream->scratch_bytes < (size_t)a->cols * sizeof(float))
        return false;
    for (uint32_t p = 0; p < a->part_count; p++) {
        const sl_linear_part *part = &a->part[p];

        if (part->w->cols != a->cols || part->y_stride < part->w->rows)
            return false;
    }
    return true;
}

sl_status sl_ref_linear(const sl_linear_args *a, sl_stream *stream)
{
    if (a->n == 0)
        return SL_OK;
    if (!shapes_ok(a, stream))
        return SL_EINVAL;
    for (uint32_t p = 0; p < a->part_count; p++) {
        const uint32_t rows = a->part[p].w->rows;

        for (uint32_t j = stream->rank; j < rows; j += sl_stream_size(stream))
            column(a, &a->part[p], j, (float *)(void *)stream->scratch);
    }
    sl_stream_barrier(stream);
    return SL_OK;
}
