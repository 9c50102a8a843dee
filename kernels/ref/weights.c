/* kernels/ref/weights.c - weights as the file has them: rows of blocks, one after the other. */
#include <string.h>

#include "base/alloc.h"
#include "kernels/ref/ref_internal.h"
#include "kernels/team.h"

/* Bytes of one row; the shape was checked by weight_plan. */
static size_t row_bytes(const sl_weight *w)
{
    return (size_t)(w->cols / sl_dtype_block_elems(w->dtype)) * sl_dtype_block_bytes(w->dtype);
}

sl_status sl_ref_weight_plan(sl_weight *w, sl_err *err)
{
    size_t row, all;

    if (w->rows == 0 || w->cols == 0)
        return sl_fail(err, SL_EUNSUPPORTED, "a weight of %u x %u is empty", w->rows, w->cols);
    if (sl_dtype_row_bytes(w->dtype, w->cols, &row) != SL_OK)
        return sl_fail(err, SL_EUNSUPPORTED, "rows of %u are no whole number of %s blocks", w->cols,
                       sl_dtype_name(w->dtype));
    if (!sl_mul_size(row, w->rows, &all))
        return sl_fail(err, SL_EUNSUPPORTED, "a weight of %u x %u is too large", w->rows, w->cols);
    w->kind = 0;
    w->bytes = all;
    return SL_OK;
}

void sl_ref_weight_pack(const sl_weight *w, const void *src, uint32_t row_first, uint32_t row_count)
{
    const size_t row = row_bytes(w);

    memcpy((uint8_t *)w->data + row * row_first, src, row * row_count);
}

const uint8_t *sl_ref_weight_row(const sl_weight *w, uint32_t row)
{
    return (const uint8_t *)w->data + row_bytes(w) * row;
}

sl_status sl_ref_embed(const sl_embed_args *a, sl_stream *stream)
{
    const uint32_t cols = a->table->cols;

    /* Every member checks every token, so that all return the same. */
    for (uint32_t i = 0; i < a->n; i++) {
        if (a->token[i] >= a->table->rows)
            return SL_EINVAL;
    }
    for (uint32_t i = stream->rank; i < a->n; i += sl_stream_size(stream)) {
        float *x = a->x + (size_t)i * cols;

        sl_dequantize_row(a->table->dtype, sl_ref_weight_row(a->table, a->token[i]), cols, x);
        for (uint32_t k = 0; k < cols; k++)
            x[k] *= a->scale;
    }
    sl_stream_barrier(stream);
    return SL_OK;
}
