/* engine/exec.c - see exec.h: what the implementations share. */
#include "engine/exec.h"

#include "base/assert.h"

uint32_t sl_exec_make_ladder(uint32_t units, sl_rung rung[SL_RUNGS_MAX])
{
    const uint32_t last = units < SL_RUNGS_MAX ? units : SL_RUNGS_MAX - 1;

    SL_ASSERT(units >= 1);
    for (uint32_t i = 0; i <= last; i++) {
        const uint32_t decode = (uint32_t)((uint64_t)units * i / last);

        rung[i] = (sl_rung){.prefill_units = units - decode, .decode_units = decode};
    }
    return last + 1;
}

sl_status sl_exec_check_batch(const sl_exec_caps *caps, uint32_t layers, sl_lane lane,
                              uint32_t rung, const sl_exec_batch *batch)
{
    uint32_t rows = 0;

    if (lane >= SL_LANE_COUNT || rung >= caps->rung_count ||
        sl_exec_lane_units(caps, lane, rung) == 0 || batch->space >= caps->space_count)
        return SL_EINVAL;
    if (batch->rows > caps->rows_max || batch->logit_row_count > caps->logit_rows_max)
        return SL_EINVAL;
    if (batch->layer_first >= batch->layer_end || batch->layer_end > layers)
        return SL_EINVAL;
    if (batch->logit_row_count > 0 && batch->layer_end != layers)
        return SL_EINVAL;
    for (uint32_t i = 0; i < batch->seq_count; i++) {
        if (batch->seq[i].row_first != rows || batch->seq[i].row_count > batch->rows - rows)
            return SL_EINVAL;
        rows += batch->seq[i].row_count;
    }
    if (rows != batch->rows)
        return SL_EINVAL;
    for (uint32_t i = 0; i < batch->logit_row_count; i++)
        if (batch->logit_row[i] >= rows)
            return SL_EINVAL;
    for (uint32_t i = 0; i < batch->copy_count; i++)
        if (batch->copy_dst[i] >= caps->plane_count || batch->copy_src[i] >= caps->plane_count)
            return SL_EINVAL;
    return SL_OK;
}
