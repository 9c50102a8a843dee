/* kernels/cpu/pack.c - the file's blocks into panels of 8 interleaved rows, and back.
 *
 * Plain C: packing runs once, embedding reads a row a token.  The layout is in cpu_internal.h; the
 * field positions inside the file's blocks are those of the GGUF formats (quant/dequantize.c).
 *
 * Between the two is one small form: a block of 32 codes of one row, with the bytes that make its
 * scale.  Packing takes it out of a file block and puts it into a panel; embedding goes back. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "kernels/cpu/cpu_internal.h"
#include "kernels/team.h"

static const uint8_t kind_of_dtype[SL_DTYPE_COUNT] = {
    [SL_DTYPE_F32] = SL_CPU_F32,   [SL_DTYPE_F16] = SL_CPU_F16,   [SL_DTYPE_BF16] = SL_CPU_BF16,
    [SL_DTYPE_Q4_0] = SL_CPU_Q4_0, [SL_DTYPE_Q4_1] = SL_CPU_Q4_1, [SL_DTYPE_Q5_0] = SL_CPU_Q5_0,
    [SL_DTYPE_Q5_1] = SL_CPU_Q5_1, [SL_DTYPE_Q8_0] = SL_CPU_Q8_0, [SL_DTYPE_Q4_K] = SL_CPU_Q4_K,
    [SL_DTYPE_Q5_K] = SL_CPU_Q5_K, [SL_DTYPE_Q6_K] = SL_CPU_Q6_K,
};

static size_t lines(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

size_t sl_cpu_panel_bytes(uint32_t kind, uint32_t cols)
{
    if (sl_cpu_kind_is_float(kind))
        return lines((size_t)cols * SL_CPU_ROWS * (kind == SL_CPU_F32 ? 4 : 2));
    return lines(sl_cpu_block_at(kind, sl_cpu_blocks(cols)));
}

size_t sl_cpu_act_bytes(uint32_t cols)
{
    return sl_cpu_act_floats(cols) +
           lines((size_t)sl_cpu_blocks(cols) * SL_CPU_BLOCK * sizeof(float));
}

sl_status sl_cpu_weight_plan(sl_weight *w, sl_err *err)
{
    const uint32_t kind = kind_of_dtype[w->dtype];
    size_t row, all;

    if (w->rows == 0 || w->cols == 0)
        return sl_fail(err, SL_EUNSUPPORTED, "a weight of %u x %u is empty", w->rows, w->cols);
    if (sl_dtype_row_bytes(w->dtype, w->cols, &row) != SL_OK)
        return sl_fail(err, SL_EUNSUPPORTED, "rows of %u are no whole number of %s blocks", w->cols,
                       sl_dtype_name(w->dtype));
    if (!sl_mul_size(sl_cpu_panel_bytes(kind, w->cols), sl_cpu_panels(w->rows), &all))
        return sl_fail(err, SL_EUNSUPPORTED, "a weight of %u x %u is too large", w->rows, w->cols);
    w->kind = kind;
    w->bytes = all;
    return SL_OK;
}

/* --- one block of one row ------------------------------------------------------------------ */

/* 32 codes (as they lie in the panel: unsigned, but for Q8_0) and the halves or bytes that make
 * the scale, in the panel's order. */
typedef struct row_block {
    uint8_t code[SL_CPU_BLOCK];
    uint16_t half[2]; /* d, m; or d, dmin of the superblock */
    uint8_t scale[2]; /* scale, min; or the two scales of Q6_K */
} row_block;

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static void nibbles(const uint8_t *q, uint8_t code[SL_CPU_BLOCK])
{
    for (int j = 0; j < 16; j++) {
        code[j] = q[j] & 15;
        code[j + 16] = q[j] >> 4;
    }
}

static void fifth_bits(const uint8_t *high, uint8_t code[SL_CPU_BLOCK])
{
    for (int j = 0; j < SL_CPU_BLOCK; j++)
        code[j] |= (uint8_t)((high[j / 8] >> (j % 8) & 1) << 4);
}

/* The 6-bit scale and min of sub-block j out of the 12 bytes of a K superblock. */
static void k_scale_min(const uint8_t *b, uint32_t j, uint8_t out[2])
{
    if (j < 4) {
        out[0] = b[j] & 63;
        out[1] = b[j + 4] & 63;
    } else {
        out[0] = (uint8_t)((b[j + 4] & 15) | (b[j - 4] >> 6) << 4);
        out[1] = (uint8_t)(b[j + 4] >> 4 | (b[j] >> 6) << 4);
    }
}

/* Sub-block j of a Q4_K or Q5_K superblock; `high` is NULL or its 32 bytes of fifth bits. */
static void take_k(const uint8_t *b, const uint8_t *high, const uint8_t *q, uint32_t j,
                   row_block *out)
{
    out->half[0] = load_u16(b);
    out->half[1] = load_u16(b + 2);
    k_scale_min(b + 4, j, out->scale);
    for (uint32_t i = 0; i < SL_CPU_BLOCK; i++) {
        out->code[i] = q[32 * (j / 2) + i] >> (j % 2 * 4) & 15;
        if (high != NULL)
            out->code[i] |= (uint8_t)((high[i] >> j & 1) << 4);
    }
}

static void take_q6_k(const uint8_t *b, uint32_t j, row_block *out)
{
    const uint32_t part = j / 4, k = j % 4;
    const uint8_t *low = b + 64 * part + 32 * (k % 2);
    const uint8_t *high = b + 128 + 32 * part;

    out->half[0] = load_u16(b + 208);
    out->scale[0] = b[192 + 2 * j];
    out->scale[1] = b[192 + 2 * j + 1];
    for (uint32_t i = 0; i < SL_CPU_BLOCK; i++)
        out->code[i] = (uint8_t)((low[i] >> (k / 2 * 4) & 15) | (high[i] >> (2 * k) & 3) << 4);
}

/* Block `block` of a row that begins at `row`. */
static void take_block(sl_dtype dtype, const uint8_t *row, uint32_t block, row_block *out)
{
    const uint32_t per = sl_dtype_block_elems(dtype) / SL_CPU_BLOCK;
    const uint8_t *b = row + (size_t)(block / per) * sl_dtype_block_bytes(dtype);

    memset(out, 0, sizeof(*out));
    out->half[0] = load_u16(b);
    switch (dtype) {
    case SL_DTYPE_Q4_0:
        nibbles(b + 2, out->code);
        break;
    case SL_DTYPE_Q4_1:
        out->half[1] = load_u16(b + 2);
        nibbles(b + 4, out->code);
        break;
    case SL_DTYPE_Q5_0:
        nibbles(b + 6, out->code);
        fifth_bits(b + 2, out->code);
        break;
    case SL_DTYPE_Q5_1:
        out->half[1] = load_u16(b + 2);
        nibbles(b + 8, out->code);
        fifth_bits(b + 4, out->code);
        break;
    case SL_DTYPE_Q8_0:
        memcpy(out->code, b + 2, SL_CPU_BLOCK);
        break;
    case SL_DTYPE_Q4_K:
        take_k(b, NULL, b + 16, block % 8, out);
        break;
    case SL_DTYPE_Q5_K:
        take_k(b, b + 16, b + 48, block % 8, out);
        break;
    default:
        SL_ASSERT(dtype == SL_DTYPE_Q6_K);
        take_q6_k(b, block % 8, out);
        break;
    }
}

/* --- panels ---------------------------------------------------------------------------------- */

/* Where block `block` of a panel lies, and what its superblock shares. */
typedef struct block_place {
    uint8_t *code;
    uint8_t *high;
    uint8_t *scale;
    uint8_t *super;
} block_place;

static block_place place_of(uint8_t *panel, uint32_t kind, uint32_t block)
{
    const sl_cpu_layout *l = &sl_cpu_layouts[kind];
    const uint32_t first = block / SL_CPU_SUPER * SL_CPU_SUPER;
    block_place p;

    p.super = panel + sl_cpu_block_at(kind, first);
    p.code = p.super + l->super + (size_t)(block - first) * l->block;
    p.high = p.code + l->high;
    p.scale = p.code + l->scale;
    return p;
}

/* High bits of a code beyond the nibble: 0, 1 or 2 (and none for whole bytes). */
static uint32_t high_bits(uint32_t kind)
{
    return (sl_cpu_layouts[kind].scale - sl_cpu_layouts[kind].high) / 32u;
}

/* Codes and high bits of row r (0 .. 7) into a block whose bytes were zero. */
static void put_codes(const block_place *p, uint32_t kind, uint32_t r, const uint8_t *code)
{
    const uint32_t bits = high_bits(kind);

    for (uint32_t k = 0; k < SL_CPU_BLOCK; k++) {
        const uint32_t v = k / 4, at = 4 * r + k % 4;

        if (kind == SL_CPU_Q8_0)
            p->code[32 * v + at] = code[k];
        else
            p->code[32 * (v % 4) + at] |= (uint8_t)((code[k] & 15) << (v / 4 * 4));
        if (bits == 1)
            p->high[at] |= (uint8_t)((code[k] >> 4) << v);
        else if (bits == 2)
            p->high[32 * (v / 4) + at] |= (uint8_t)((code[k] >> 4) << (2 * (v % 4)));
    }
}

static void get_codes(const block_place *p, uint32_t kind, uint32_t r, uint8_t *code)
{
    const uint32_t bits = high_bits(kind);

    for (uint32_t k = 0; k < SL_CPU_BLOCK; k++) {
        const uint32_t v = k / 4, at = 4 * r + k % 4;

        if (kind == SL_CPU_Q8_0)
            code[k] = p->code[32 * v + at];
        else
            code[k] = p->code[32 * (v % 4) + at] >> (v / 4 * 4) & 15;
        if (bits == 1)
            code[k] |= (uint8_t)((p->high[at] >> v & 1) << 4);
        else if (bits == 2)
            code[k] |= (uint8_t)((p->high[32 * (v / 4) + at] >> (2 * (v % 4)) & 3) << 4);
    }
}

/* Where the halves and bytes of a row's scale are, or NULL where the kind has none. */
typedef struct scale_place {
    uint8_t *half[2];
    uint8_t *scale[2];
} scale_place;

static scale_place scale_of(const block_place *b, uint32_t kind, uint32_t r)
{
    const sl_cpu_layout *l = &sl_cpu_layouts[kind];
    scale_place p = {{NULL, NULL}, {NULL, NULL}};

    if (l->super > 0) {
        p.scale[0] = b->scale + r;
        p.scale[1] = b->scale + 8 + r;
        p.half[0] = b->super + 2 * r;
        p.half[1] = l->super == 32 ? b->super + 16 + 2 * r : NULL;
    } else {
        p.half[0] = b->scale + 2 * r;
        p.half[1] = l->block - l->scale == 32 ? b->scale + 16 + 2 * r : NULL;
    }
    return p;
}

static void put_scale(const scale_place *p, const row_block *b)
{
    for (int i = 0; i < 2; i++) {
        if (p->half[i] != NULL)
            memcpy(p->half[i], &b->half[i], 2);
        if (p->scale[i] != NULL)
            *p->scale[i] = b->scale[i];
    }
}

static void get_scale(const scale_place *p, row_block *b)
{
    for (int i = 0; i < 2; i++) {
        if (p->half[i] != NULL)
            memcpy(&b->half[i], p->half[i], 2);
        if (p->scale[i] != NULL)
            b->scale[i] = *p->scale[i];
    }
}

static void pack_row(const sl_weight *w, uint8_t *panel, const uint8_t *src, uint32_t r)
{
    if (sl_cpu_kind_is_float(w->kind)) {
        const size_t size = w->kind == SL_CPU_F32 ? 4 : 2;

        for (uint32_t k = 0; k < w->cols; k++)
            memcpy(panel + ((size_t)k * SL_CPU_ROWS + r) * size, src + k * size, size);
        return;
    }
    for (uint32_t block = 0; block < w->cols / SL_CPU_BLOCK; block++) {
        const block_place place = place_of(panel, w->kind, block);
        const scale_place scale = scale_of(&place, w->kind, r);
        row_block b;

        take_block(w->dtype, src, block, &b);
        put_codes(&place, w->kind, r, b.code);
        put_scale(&scale, &b);
    }
}

void sl_cpu_weight_pack(const sl_weight *w, const void *src, uint32_t row_first, uint32_t row_count)
{
    const size_t panel_bytes = sl_cpu_panel_bytes(w->kind, w->cols);
    const size_t row_bytes =
        (size_t)(w->cols / sl_dtype_block_elems(w->dtype)) * sl_dtype_block_bytes(w->dtype);
    uint8_t *panels = (uint8_t *)w->data + panel_bytes * (row_first / SL_CPU_ROWS);

    SL_ASSERT(row_first % SL_CPU_ROWS == 0);
    SL_ASSERT(row_count <= w->rows - row_first);
    memset(panels, 0, panel_bytes * sl_cpu_panels(row_count));
    for (uint32_t i = 0; i < row_count; i++)
        pack_row(w, panels + panel_bytes * (i / SL_CPU_ROWS), (const uint8_t *)src + row_bytes * i,
                 i % SL_CPU_ROWS);
}

/* --- back to floats -------------------------------------------------------------------------- */

/* The products and sums of quant/dequantize.c in its order, so that the bits are the same. */
static void block_values(sl_cpu_kind kind, const row_block *b, float *dst)
{
    const float d = sl_f16_to_f32(b->half[0]);
    const float m = sl_f16_to_f32(b->half[1]);

    for (int k = 0; k < SL_CPU_BLOCK; k++) {
        const int code = b->code[k];

        switch (kind) {
        case SL_CPU_Q4_0:
            dst[k] = d * (float)(code - 8);
            break;
        case SL_CPU_Q5_0:
            dst[k] = d * (float)(code - 16);
            break;
        case SL_CPU_Q8_0:
            dst[k] = d * (float)(int8_t)b->code[k];
            break;
        case SL_CPU_Q4_1:
        case SL_CPU_Q5_1:
            dst[k] = d * (float)code + m;
            break;
        case SL_CPU_Q6_K:
            dst[k] = d * (float)(int8_t)b->scale[k / 16] * (float)(code - 32);
            break;
        default: /* Q4_K, Q5_K */
            dst[k] = d * (float)b->scale[0] * (float)code - m * (float)b->scale[1];
            break;
        }
    }
}

static void float_row(const sl_weight *w, const uint8_t *panel, uint32_t r, float *dst)
{
    for (uint32_t k = 0; k < w->cols; k++) {
        const size_t at = (size_t)k * SL_CPU_ROWS + r;
        uint16_t u;

        if (w->kind == SL_CPU_F32) {
            memcpy(&dst[k], panel + 4 * at, 4);
            continue;
        }
        memcpy(&u, panel + 2 * at, 2);
        dst[k] = w->kind == SL_CPU_F16 ? sl_f16_to_f32(u) : sl_bf16_to_f32(u);
    }
}

void sl_cpu_weight_row(const sl_weight *w, uint32_t row, float *dst)
{
    uint8_t *panel =
        (uint8_t *)w->data + sl_cpu_panel_bytes(w->kind, w->cols) * (row / SL_CPU_ROWS);
    const uint32_t r = row % SL_CPU_ROWS;

    if (sl_cpu_kind_is_float(w->kind)) {
        float_row(w, panel, r, dst);
        return;
    }
    for (uint32_t block = 0; block < w->cols / SL_CPU_BLOCK; block++) {
        const block_place place = place_of(panel, w->kind, block);
        const scale_place scale = scale_of(&place, w->kind, r);
        row_block b = {.half = {0, 0}};

        get_codes(&place, w->kind, r, b.code);
        get_scale(&scale, &b);
        block_values(w->kind, &b, dst + (size_t)block * SL_CPU_BLOCK);
    }
}

sl_status sl_cpu_embed(const sl_embed_args *a, sl_stream *stream)
{
    const uint32_t cols = a->table == NULL ? 0 : a->table->cols;
    uint32_t first, count;

    if (a->n == 0)
        return SL_OK;
    if (cols == 0 || a->table->kind >= SL_CPU_KIND_COUNT)
        return SL_EINVAL;
    for (uint32_t i = 0; i < a->n; i++)
        if (a->token[i] >= a->table->rows)
            return SL_EINVAL;
    count = sl_stream_share(stream, a->n, 1, &first);
    for (uint32_t i = first; i < first + count; i++) {
        float *x = a->x + (size_t)i * cols;

        sl_cpu_weight_row(a->table, a->token[i], x);
        for (uint32_t k = 0; k < cols; k++)
            x[k] *= a->scale;
    }
    sl_stream_barrier(stream);
    return SL_OK;
}

sl_status sl_cpu_plane_copy(const sl_plane_copy_args *a, sl_stream *stream)
{
    const size_t bytes = a->kv->plane_bytes;
    uint32_t first, count;

    if (a->count == 0)
        return SL_OK;
    count = sl_stream_share(stream, a->count, 1, &first);
    for (uint32_t i = first; i < first + count; i++)
        memcpy(a->kv->planes + bytes * a->dst[i], a->kv->planes + bytes * a->src[i], bytes);
    sl_stream_barrier(stream);
    return SL_OK;
}
