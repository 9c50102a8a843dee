/* kernels/cpu/linear.c - y[i, j] (+)= sum_k w[j, k] x[i, k] + bias[j]: who computes what, and when.
 *
 * Types      see tiles_int.c and tiles_float.c; the finished sum gets bias, then the old y (if
 *            accumulate), then the softcap, each rounded to fp32.
 * Shapes     up to three weights over one input; any n; rows of the input through `row`.
 * Mapping    A piece of work is some panels of one part x up to TOKENS_MAX tokens; members take
 *            pieces as they come.  Inside a piece a panel's stretch of K (CHUNK blocks, so that it
 *            stays in L1) meets all tokens, six at a time; then the next stretch; then the next
 *            panel.  Prepared rows of the tokens stay in L2.  Sums wait in scratch between
 *            stretches, so the chain over K is the same for every n.
 * Bound      n = 1: reading the weights; n >= 8 or so: the tiles' instructions.
 * Reference  kernels/ref/linear.c, tolerance in the tiles' files. */
#include "kernels/cpu/vec_internal.h"
#include "kernels/team.h"

enum {
    CHUNK_INT = 64,           /* blocks of K: 9 KiB of a 4-bit panel, 15 KiB of six prepared rows */
    CHUNK_FLOAT = 8,          /* 8 KiB of an fp32 panel, 6 KiB of six rows */
    ACT_L2_BYTES = 384 << 10, /* prepared rows that a panel should find in L2 */
    PREFETCH_BYTES = 4096,    /* ahead, at least */
    PIECE_BYTES = 64 << 10,   /* of weights, at least: what a member prefetches beyond is lost */
    PIECES_PER_MEMBER = 8,    /* or only 2, to keep to PIECE_BYTES */
    PANELS_MAX = 4            /* of a tile */
};

/* How one linear call is cut: a pure function of its shape and the team's size. */
typedef struct cut {
    uint32_t tokens; /* of a piece */
    uint32_t token_blocks;
    uint32_t panels;                           /* of a piece */
    uint32_t part_pieces[SL_LINEAR_PARTS_MAX]; /* pieces of panels in each part */
    uint32_t pieces_per_token_block;
} cut;

static uint32_t round_up(uint32_t x, uint32_t unit)
{
    return (x + unit - 1) / unit * unit;
}

/* Tokens that meet a panel in one go: as many as L2 holds, in about equal blocks of whole tiles. */
static uint32_t token_block(uint32_t n, uint32_t cols)
{
    const size_t row = (size_t)sl_cpu_blocks(cols) * SL_CPU_ACT_BLOCK;
    const size_t fit = ACT_L2_BYTES / row / SL_CPU_TILE * SL_CPU_TILE;
    uint32_t most = SL_CPU_TOKENS_MAX, blocks;

    if (fit < most)
        most = fit < 4 * SL_CPU_TILE ? 4 * SL_CPU_TILE : (uint32_t)fit;
    blocks = (n + most - 1) / most;
    return round_up((n + blocks - 1) / blocks, SL_CPU_TILE);
}

/* Panels of a piece, of `panels` in all parts together. */
static uint32_t piece_panels(const cut *c, uint32_t panels, size_t panel_bytes, uint32_t members)
{
    const uint32_t work = panels * c->token_blocks;
    const uint32_t fine = work / (members * PIECES_PER_MEMBER);
    const uint32_t coarse = work / (members * 2);
    const uint32_t long_enough = (uint32_t)(PIECE_BYTES / panel_bytes);

    if (members == 1)
        return panels;
    if (fine >= long_enough)
        return fine > 0 ? fine : 1;
    return coarse < long_enough ? (coarse > 0 ? coarse : 1) : long_enough;
}

static cut cut_work(const sl_linear_args *a, uint32_t members, const sl_cpu_tiles *tiles_int)
{
    const sl_weight *w = a->part[0].w;
    cut c = {.tokens = token_block(a->n, a->cols)};
    uint32_t panels = 0;
    bool floats = false;

    for (uint32_t p = 0; p < a->part_count; p++) {
        panels += sl_cpu_panels(a->part[p].w->rows);
        floats = floats || sl_cpu_kind_is_float(a->part[p].w->kind);
    }
    c.token_blocks = (a->n + c.tokens - 1) / c.tokens;
    c.panels = piece_panels(&c, panels, sl_cpu_panel_bytes(w->kind, w->cols), members);
    c.panels = round_up(c.panels, floats ? PANELS_MAX : tiles_int->panels);
    for (uint32_t p = 0; p < a->part_count; p++) {
        c.part_pieces[p] = (sl_cpu_panels(a->part[p].w->rows) + c.panels - 1) / c.panels;
        c.pieces_per_token_block += c.part_pieces[p];
    }
    return c;
}

/* One piece: panels [panel_first, panel_end) of a part x tokens [first, first + count). */
typedef struct piece {
    const sl_linear_part *part;
    uint32_t panel_first;
    uint32_t panel_end;
    uint32_t first;
    uint32_t count;
} piece;

static piece piece_at(const sl_linear_args *a, const cut *c, uint32_t index)
{
    const uint32_t block = index / c->pieces_per_token_block;
    uint32_t at = index % c->pieces_per_token_block, p = 0, panels;
    piece out;

    while (at >= c->part_pieces[p])
        at -= c->part_pieces[p++];
    panels = sl_cpu_panels(a->part[p].w->rows);
    out.part = &a->part[p];
    out.panel_first = at * c->panels;
    out.panel_end = panels - out.panel_first < c->panels ? panels : out.panel_first + c->panels;
    out.first = block * c->tokens;
    out.count = a->n - out.first < c->tokens ? a->n - out.first : c->tokens;
    return out;
}

/* Store the 8 (or fewer) finished rows of one panel for one token. */
static void finish(const sl_linear_args *a, const sl_linear_part *part, uint32_t panel, uint32_t i,
                   __m256 sum)
{
    const uint32_t j = panel * SL_CPU_ROWS;
    const uint32_t left = part->w->rows - j;
    const __m256i mask = sl_vec_mask(left < SL_CPU_ROWS ? left : SL_CPU_ROWS);
    float *y = part->y + (size_t)i * part->y_stride + j;

    if (part->bias != NULL)
        sum = _mm256_add_ps(sum, _mm256_maskload_ps(part->bias + j, mask));
    if (part->accumulate)
        sum = _mm256_add_ps(sum, _mm256_maskload_ps(y, mask));
    if (a->softcap > 0.0f)
        sum = sl_vec_softcap(sum, a->softcap);
    if (left >= SL_CPU_ROWS)
        _mm256_storeu_ps(y, sum);
    else
        _mm256_maskstore_ps(y, mask, sum);
}

/* The tokens of tile i when `count` tokens make `tiles` tiles of about equal size. */
static uint32_t tile_begin(uint32_t count, uint32_t tiles, uint32_t i)
{
    return count * i / tiles;
}

/* A weight is read straight on: while `tiles` tiles work on a stretch of blocks, tile i prefetches
 * its part of the equally many bytes that come next, behind the stretch or in the next panel(s). */
static void plan_prefetch(sl_cpu_tile *tile, uint32_t kind, uint32_t tiles, uint32_t i)
{
    const uint32_t blocks = tile->block_end - tile->block_first;
    const size_t begin = sl_cpu_block_at(kind, tile->block_first);
    const size_t end = sl_cpu_block_at(kind, tile->block_end);
    const bool last = tile->block_end == sl_cpu_blocks(tile->cols);
    const size_t next = last ? tile->panel_bytes * tile->panel_count : end;
    const size_t ahead = next - begin < PREFETCH_BYTES ? PREFETCH_BYTES : next - begin;
    const size_t lines = (end - begin + 63) / 64;
    const size_t each = (lines + (size_t)blocks * tiles - 1) / ((size_t)blocks * tiles);
    const size_t done = each * blocks * i;

    tile->prefetch = tile->panel + begin + ahead + done * 64;
    tile->prefetch_lines = done < lines ? (uint32_t)each : 0;
}

/* `panel_count` adjacent panels x all tokens of a piece. */
static void run_panels(const sl_linear_args *a, const piece *pc, sl_cpu_tile *tile,
                       const sl_cpu_tile_fn *fn, const uint8_t *const *act, float *acc)
{
    const uint32_t kind = pc->part->w->kind;
    const uint32_t blocks = sl_cpu_blocks(a->cols);
    const uint32_t chunk = sl_cpu_kind_is_float(kind) ? CHUNK_FLOAT : CHUNK_INT;
    const uint32_t tiles = (pc->count + SL_CPU_TILE - 1) / SL_CPU_TILE;
    const uint32_t panels = tile->panel_count;
    const uint32_t panel =
        (uint32_t)((size_t)(tile->panel - (uint8_t *)pc->part->w->data) / tile->panel_bytes);

    memset(acc, 0, (size_t)panels * pc->count * SL_CPU_ROWS * sizeof(float));
    for (uint32_t b = 0; b < blocks; b += chunk) {
        tile->block_first = b;
        tile->block_end = blocks - b < chunk ? blocks : b + chunk;
        for (uint32_t i = 0; i < tiles; i++) {
            const uint32_t t = tile_begin(pc->count, tiles, i);
            const uint32_t tokens = tile_begin(pc->count, tiles, i + 1) - t;

            if (!sl_cpu_kind_is_float(kind))
                plan_prefetch(tile, kind, tiles, i);
            tile->acc = acc + (size_t)t * panels * SL_CPU_ROWS;
            tile->act = act + t;
            fn[tokens](tile);
        }
    }
    for (uint32_t i = 0; i < tiles; i++) {
        const uint32_t t = tile_begin(pc->count, tiles, i);
        const uint32_t tokens = tile_begin(pc->count, tiles, i + 1) - t;
        const float *sums = acc + (size_t)t * panels * SL_CPU_ROWS;

        for (uint32_t p = 0; p < panels; p++)
            for (uint32_t u = 0; u < tokens; u++)
                finish(a, pc->part, panel + p, pc->first + t + u,
                       _mm256_loadu_ps(sums + (size_t)(p * tokens + u) * SL_CPU_ROWS));
    }
}

static void run_piece(const sl_linear_args *a, const piece *pc, const sl_cpu_tiles *tiles_int,
                      const uint8_t **act, float *acc)
{
    const sl_weight *w = pc->part->w;
    const size_t panel_bytes = sl_cpu_panel_bytes(w->kind, w->cols);
    const sl_cpu_tile_fn *fn = sl_cpu_kind_is_float(w->kind)
                                   ? sl_cpu_tiles_float_avx2[w->kind - SL_CPU_INT_KINDS]
                                   : tiles_int->fn[w->kind];
    const size_t act_bytes = sl_cpu_act_bytes(a->cols);
    /* Floats: as many accumulators as there are registers; the widest tile of the piece decides. */
    const uint32_t tiles = (pc->count + SL_CPU_TILE - 1) / SL_CPU_TILE;
    const uint32_t most_float = (pc->count + tiles - 1) / tiles > 3 ? 2 : PANELS_MAX;
    const uint32_t most = sl_cpu_kind_is_float(w->kind) ? most_float : tiles_int->panels;
    sl_cpu_tile tile = {.panel_bytes = panel_bytes, .cols = a->cols};
    uint32_t panel = pc->panel_first;

    for (uint32_t i = 0; i < pc->count; i++) {
        const uint32_t row = a->row == NULL ? pc->first + i : a->row[pc->first + i];

        act[i] = (const uint8_t *)a->act + act_bytes * row;
    }
    while (panel < pc->panel_end) {
        uint32_t count = most;

        while (count > pc->panel_end - panel)
            count /= 2;
        tile.panel = (const uint8_t *)w->data + panel_bytes * panel;
        tile.panel_count = count;
        run_panels(a, pc, &tile, fn, act, acc);
        panel += count;
    }
}

static bool shapes_ok(const sl_linear_args *a)
{
    if (a->part_count == 0 || a->part_count > SL_LINEAR_PARTS_MAX || a->cols == 0)
        return false;
    for (uint32_t p = 0; p < a->part_count; p++) {
        const sl_linear_part *part = &a->part[p];

        if (part->w->cols != a->cols || part->w->kind >= SL_CPU_KIND_COUNT ||
            part->y_stride < part->w->rows)
            return false;
    }
    return true;
}

sl_status sl_cpu_linear(const sl_linear_args *a, sl_stream *stream, const sl_cpu_tiles *tiles_int)
{
    const uint8_t *act[SL_CPU_TOKENS_MAX];
    float acc[PANELS_MAX * SL_CPU_TILE * SL_CPU_ROWS + 2 * SL_CPU_TOKENS_MAX * SL_CPU_ROWS];
    uint32_t index;
    cut c;

    if (a->n == 0)
        return SL_OK;
    if (!shapes_ok(a))
        return SL_EINVAL;
    c = cut_work(a, sl_stream_size(stream), tiles_int);
    while ((index = sl_stream_take(stream, c.pieces_per_token_block * c.token_blocks)) !=
           UINT32_MAX) {
        const piece pc = piece_at(a, &c, index);

        run_piece(a, &pc, tiles_int, act, acc);
    }
    sl_stream_barrier(stream);
    return SL_OK;
}
