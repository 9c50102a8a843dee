/* kernels/cpu/cpu_internal.h - what the files of the fast CPU backend share: its two layouts.
 *
 * A prepared row of K elements (B = ceil(K / 32) blocks) is
 *
 *     B blocks of 40 bytes    32 signed codes; f32 d; f32 d * (sum of the codes)
 *     B pairs of s16          -16 * (sum of codes 0-15), -16 * (sum of codes 16-31): for Q6_K
 *     padding to 64 bytes
 *     32 B floats             the row itself, for weights that are floats (absent if codes_only)
 *
 * with d = absmax / 127 and code = round(x / d), to nearest even; elements beyond K are zero.
 *
 * A packed weight is panels of 8 rows, one after the other; the last is padded with zero rows.  A
 * panel is its blocks of 32 columns, one after the other, so that a walk over a weight reads memory
 * once, straight on.  In a block, in this order:
 *
 *     codes, 4 bits   128 bytes = 4 vectors of 32; byte 4 r + j of vector v is row r, columns
 *                     4 v + j (low nibble) and 16 + 4 v + j (high nibble)
 *     or 8 bits       256 bytes = 8 vectors; byte 4 r + j of vector v is column 4 v + j
 *     high, 1 bit     32 bytes: bit v of byte 4 r + j belongs to column 4 v + j
 *     or 2 bits       64 bytes: bits 2 (v % 4) of byte 4 r + j of vector v / 4, likewise
 *     scales          f16 d[8]; or f16 d[8], m[8]; or u8 scale[8], min[8] (Q4_K, Q5_K); or s8
 *                     scale[8] of columns 0-15 and scale[8] of columns 16-31 (Q6_K)
 *
 * and in front of every 8 blocks of a K kind what they share: f16 d[8], dmin[8] (Q4_K, Q5_K) or
 * f16 d[8] (Q6_K).  Floats (F32, F16, BF16): one element of each of the 8 rows, column after
 * column.
 *
 * So a vector of weights meets four activations, broadcast from one 32-bit load, and the lanes of
 * every accumulator are the panel's 8 rows.  Nothing is lost: the file's values come back exactly
 * (sl_cpu_embed reads them), and the bytes are those of the file.
 *
 * Same bits: for a (row, token) the sum over K is one chain, block after block, whatever tile, team
 * or instruction set computes it; integer sums inside a block are exact. */
#ifndef SL_KERNELS_CPU_CPU_INTERNAL_H
#define SL_KERNELS_CPU_CPU_INTERNAL_H

#include "kernels/kernels.h"

enum {
    SL_CPU_ROWS = 8,       /* rows of a panel */
    SL_CPU_BLOCK = 32,     /* columns of a block */
    SL_CPU_SUPER = 8,      /* blocks of a superblock */
    SL_CPU_ACT_BLOCK = 40, /* bytes of a block of a prepared row */
    SL_CPU_ACT_D = 32,     /* where d and d * sum are in it */
    SL_CPU_ACT_DSUM = 36,
    SL_CPU_TILE = 6,        /* tokens of a tile */
    SL_CPU_TOKENS_MAX = 192 /* tokens that a panel meets before the next panel's turn */
};

/* sl_weight.kind */
typedef enum sl_cpu_kind {
    SL_CPU_Q4_0,
    SL_CPU_Q4_1,
    SL_CPU_Q4_K,
    SL_CPU_Q5_0,
    SL_CPU_Q5_1,
    SL_CPU_Q5_K,
    SL_CPU_Q6_K,
    SL_CPU_Q8_0,
    SL_CPU_INT_KINDS,
    SL_CPU_F16 = SL_CPU_INT_KINDS,
    SL_CPU_BF16,
    SL_CPU_F32,
    SL_CPU_KIND_COUNT
} sl_cpu_kind;

/* Sizes and offsets inside a panel of an integer kind, in bytes. */
typedef struct sl_cpu_layout {
    uint16_t block; /* of a block */
    uint16_t high;  /* where its high bits are */
    uint16_t scale; /* where its scales are */
    uint16_t super; /* in front of every 8 blocks */
} sl_cpu_layout;

/* clang-format off */
static const sl_cpu_layout sl_cpu_layouts[] = {
    [SL_CPU_Q4_0] = {144, 128, 128,  0},
    [SL_CPU_Q4_1] = {160, 128, 128,  0},
    [SL_CPU_Q4_K] = {144, 128, 128, 32},
    [SL_CPU_Q5_0] = {176, 128, 160,  0},
    [SL_CPU_Q5_1] = {192, 128, 160,  0},
    [SL_CPU_Q5_K] = {176, 128, 160, 32},
    [SL_CPU_Q6_K] = {208, 128, 192, 16},
    [SL_CPU_Q8_0] = {272, 256, 256,  0},
};
/* clang-format on */

/* Bytes from a panel's begin to block `block` (to its superblock's shared part, if that begins
 * there). */
static inline size_t sl_cpu_block_at(uint32_t kind, uint32_t block)
{
    const sl_cpu_layout *l = &sl_cpu_layouts[kind];

    return (size_t)block * l->block + (size_t)(block + SL_CPU_SUPER - 1) / SL_CPU_SUPER * l->super;
}

/* Bytes of a panel, a multiple of 64. */
size_t sl_cpu_panel_bytes(uint32_t kind, uint32_t cols);

/* What a tile reads: one panel (integer kinds) or `panel_count` adjacent ones (floats), and up to
 * six prepared rows.  acc is [panel][token][8] floats: the sums so far, which the tile continues
 * over the blocks [block_first, block_end), a stretch that begins at a superblock.  Meanwhile it
 * prefetches `prefetch_lines` lines a block from `prefetch` on. */
typedef struct sl_cpu_tile {
    float *acc;
    const uint8_t *panel;
    size_t panel_bytes;
    const uint8_t *const *act;
    const uint8_t *prefetch;
    uint32_t prefetch_lines;
    uint32_t cols;
    uint32_t block_first;
    uint32_t block_end;
    uint32_t panel_count;
} sl_cpu_tile;

typedef void (*sl_cpu_tile_fn)(const sl_cpu_tile *tile);

/* Tiles of the integer kinds, by kind and number of tokens ([0], no tokens, is NULL), and how many
 * adjacent panels one takes (a lone last one is always fine). */
typedef sl_cpu_tile_fn sl_cpu_tile_row[SL_CPU_TILE + 1];
typedef struct sl_cpu_tiles {
    uint32_t panels; /* 1 or 2 */
    sl_cpu_tile_row fn[SL_CPU_INT_KINDS];
} sl_cpu_tiles;

extern const sl_cpu_tiles sl_cpu_tiles_avx2;
extern const sl_cpu_tiles sl_cpu_tiles_vnni; /* AVX-512 VNNI: to be entered only if it is there */
extern const sl_cpu_tile_row sl_cpu_tiles_float_avx2[SL_CPU_KIND_COUNT - SL_CPU_INT_KINDS];

static inline uint32_t sl_cpu_blocks(uint32_t cols)
{
    return cols / SL_CPU_BLOCK + (cols % SL_CPU_BLOCK != 0);
}

static inline uint32_t sl_cpu_panels(uint32_t rows)
{
    return rows / SL_CPU_ROWS + (rows % SL_CPU_ROWS != 0);
}

static inline bool sl_cpu_kind_is_float(uint32_t kind)
{
    return kind >= SL_CPU_INT_KINDS;
}

/* Where a prepared row keeps its pairs of sums and its floats. */
static inline size_t sl_cpu_act_pairs(uint32_t cols)
{
    return (size_t)sl_cpu_blocks(cols) * SL_CPU_ACT_BLOCK;
}

static inline size_t sl_cpu_act_floats(uint32_t cols)
{
    return (sl_cpu_act_pairs(cols) + (size_t)sl_cpu_blocks(cols) * 4 + 63) & ~(size_t)63;
}

/* True if the store's shape, the number of query heads and the layer index fit each other. */
bool sl_cpu_kv_shape_ok(const sl_kv_store *kv, uint32_t chunk_layer, uint32_t heads);

size_t sl_cpu_act_bytes(uint32_t cols);
size_t sl_cpu_scratch_bytes(uint32_t heads, uint32_t kv_heads, uint32_t head_dim,
                            uint32_t cols_max);
sl_status sl_cpu_weight_plan(sl_weight *w, sl_err *err);
void sl_cpu_weight_pack(const sl_weight *w, const void *src, uint32_t row_first,
                        uint32_t row_count);

/* dst[0..cols) = the values of row `row` of a packed weight, exactly the file's. */
void sl_cpu_weight_row(const sl_weight *w, uint32_t row, float *dst);

sl_status sl_cpu_embed(const sl_embed_args *a, sl_stream *stream);
sl_status sl_cpu_plane_copy(const sl_plane_copy_args *a, sl_stream *stream);
sl_status sl_cpu_norm(const sl_norm_args *a, sl_stream *stream);
sl_status sl_cpu_prepare(const sl_prepare_args *a, sl_stream *stream);
sl_status sl_cpu_glu(const sl_glu_args *a, sl_stream *stream);
sl_status sl_cpu_rope_append(const sl_rope_append_args *a, sl_stream *stream);
sl_status sl_cpu_attention(const sl_attention_args *a, sl_stream *stream);
/* With the given tiles for the integer kinds. */
sl_status sl_cpu_linear(const sl_linear_args *a, sl_stream *stream, const sl_cpu_tiles *tiles_int);

#endif
