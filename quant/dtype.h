/* quant/dtype.h - the number formats that weight files use, and their exact values.
 *
 * A tensor row is a sequence of blocks; a block is a fixed number of elements in a fixed number of
 * bytes.  This module gives those numbers and turns blocks into fp32, exactly as the format
 * defines them: the slow version that everything faster is tested against.
 *
 * Source: notes of the GGUF v3 specification; the ids are the file format's.
 *
 * Thread: any. */
#ifndef SL_QUANT_DTYPE_H
#define SL_QUANT_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* name, GGUF id, elements a block, bytes a block */
#define SL_DTYPE_ROWS(X)                                                                           \
    X(F32, 0, 1, 4)                                                                                \
    X(F16, 1, 1, 2)                                                                                \
    X(BF16, 30, 1, 2)                                                                              \
    X(Q4_0, 2, 32, 18)                                                                             \
    X(Q4_1, 3, 32, 20)                                                                             \
    X(Q5_0, 6, 32, 22)                                                                             \
    X(Q5_1, 7, 32, 24)                                                                             \
    X(Q8_0, 8, 32, 34)                                                                             \
    X(Q4_K, 12, 256, 144)                                                                          \
    X(Q5_K, 13, 256, 176)                                                                          \
    X(Q6_K, 14, 256, 210)

typedef enum sl_dtype {
#define SL_DTYPE_ENUM(name, id, elems, bytes) SL_DTYPE_##name,
    SL_DTYPE_ROWS(SL_DTYPE_ENUM)
#undef SL_DTYPE_ENUM
        SL_DTYPE_COUNT
} sl_dtype;

/* "Q4_1"; elements and bytes of a block. */
const char *sl_dtype_name(sl_dtype dtype);
uint32_t sl_dtype_block_elems(sl_dtype dtype);
uint32_t sl_dtype_block_bytes(sl_dtype dtype);

/* The dtype of a GGUF type id; false if it is not one of ours (*out untouched). */
bool sl_dtype_from_gguf(uint32_t id, sl_dtype *out);
/* The name ggml gives to type id `id` ("IQ2_XXS"), known to us or not; NULL if unknown to all. */
const char *sl_dtype_gguf_name(uint32_t id);

/* Bytes of a row of `cols` elements.  Errors: SL_EFORMAT (cols is no multiple of the block, or
 * the size overflows). */
SL_MUST_CHECK sl_status sl_dtype_row_bytes(sl_dtype dtype, uint64_t cols, size_t *out);

/* dst[0..cols) = the values of one row.  `src` needs no alignment; cols is a multiple of the
 * block.  Exact: every product and sum in fp32 in the order the format's definition states. */
void sl_dequantize_row(sl_dtype dtype, const void *src, uint32_t cols, float *dst);

/* IEEE half and bfloat16 <-> fp32; to half and to bf16 round to nearest even. */
float sl_f16_to_f32(uint16_t h);
uint16_t sl_f32_to_f16(float f);
float sl_bf16_to_f32(uint16_t b);
uint16_t sl_f32_to_bf16(float f);

/* Quantise a row the simple way (absmax or min/max, round to nearest): valid blocks of every dtype,
 * for tests and generated models.  cols is a multiple of the block. */
void sl_quantize_row(sl_dtype dtype, const float *src, uint32_t cols, void *dst);

#ifdef __cplusplus
}
#endif

#endif
