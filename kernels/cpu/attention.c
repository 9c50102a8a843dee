/* kernels/cpu/attention.c - y = softmax(scale * q K^T) V over pages, causal, maybe windowed.
 *
 * Types      q fp32; K, V halves, widened on load; scores, weights and sums fp32; one chain of fma
 *            over D for a score, one over the keys for an output.
 * Shapes     head_dim a multiple of 8 up to 256; K blocks are [D][16], V blocks [16][D].
 * Mapping    A piece is (sequence, KV head, a block of query rows).  Its rows are the group's
 *            query heads of each token: all of them use the same keys, so a page of K and V is
 *            widened once for up to six rows.  Per page:
 *              1. scores: tiles of up to 6 rows x 16 or 32 keys;
 *              2. softmax of each row: scale, cap, mask, new maximum, exp, sum;
 *              3. outputs: tiles of up to 6 rows x 8 or 16 dimensions, over the keys in order.
 *            Keys are cut at multiples of SEGMENT positions.  A segment has its own softmax from
 *            scratch; finished segments are merged in order.  So the cut does not depend on who
 *            asks: a row has the same bits in a prefill, a slice, a decode step, and when (few
 *            pieces, many segments) every segment is a piece of its own and the merge comes after.
 * Bound      prefill: fp32 fma.  Decode: reading the pages (each byte meets the whole group).
 * Reference  kernels/ref/attention.c, within 2e-6 of max |v| (order of fp32 sums, exp).
 * Source     Milakov and Gimelshein, arXiv 1805.02867 (online softmax); Dao et al., FlashDecoding
 *            (split keys), with fixed cuts in place of balanced ones.
 * Measured   one core of Zen 4, share of the fma peak: prefill of 512 tokens 62 to 74 %; decode of
 *            one token after 1,000 49 to 77 %, of 32 sequences after 512 45 to 63 %. */
#include <math.h>

#include "kernels/cpu/vec_internal.h"
#include "kernels/team.h"

enum {
    PLANE_TOKENS = 16,
    SEGMENT = 1024, /* keys; a multiple of a page */
    TILE_ROWS = 6,
    ROWS_MAX = 48,      /* rows of a piece, if the group is not wider */
    ROWS_MAX_WIDE = 24, /* for heads beyond 128, to stay in L1 and L2 */
    GROUP_MAX = 256,
    SPLIT_SLOTS = 1024, /* segments that may be pieces of their own in one call */
    SPLIT_PIECES = 4    /* a member: with fewer pieces than that, segments are split */
};

/* The softmax of one row: its maximum, and the sum and output relative to it. */
typedef struct row_state {
    float max;
    float sum;
} row_state;

/* A piece's rows: row i is token i / group, query head i % group. */
typedef struct rows {
    const sl_attention_args *a;
    const sl_attn_seq *seq;
    uint32_t g;
    uint32_t token_first; /* of the sequence's rows */
    uint32_t count;       /* tokens * group */
    uint32_t group;
    row_state *state;  /* [count], of the segment */
    row_state *merged; /* [count], of all segments so far */
    float *keep;       /* [count], what the old sums are worth under the new maximum */
    float *score;      /* [count][64] */
    float *out;        /* [count][D], of the segment */
    float *out_merged; /* [count][D] */
} rows;

static uint32_t row_position(const rows *r, uint32_t i)
{
    return r->seq->position + r->token_first + i / r->group;
}

static uint32_t window_first(const sl_attention_args *a, uint32_t position)
{
    return a->window == 0 || position < a->window ? 0 : position - a->window + 1;
}

static const float *row_query(const rows *r, uint32_t i)
{
    const uint32_t batch_row = r->seq->row_first + r->token_first + i / r->group;

    return r->a->q + (size_t)batch_row * r->a->q_stride +
           (size_t)(r->g * r->group + i % r->group) * r->a->kv->head_dim;
}

static const uint16_t *plane_block(const rows *r, const sl_kv_page *page, uint32_t plane)
{
    const sl_kv_store *kv = r->a->kv;
    const size_t block = (size_t)r->a->chunk_layer * kv->kv_heads + r->g;

    return (const uint16_t *)(const void *)(kv->planes + kv->plane_bytes * page->plane[plane]) +
           block * PLANE_TOKENS * kv->head_dim;
}

/* Where to prefetch from: the block in the next page, or `here` if it has no plane for it yet. */
static const uint16_t *next_block(const rows *r, const sl_kv_page *page, uint32_t plane,
                                  const uint16_t *here)
{
    return page->plane[plane] == SL_PLANE_NONE ? here : plane_block(r, page, plane);
}

SL_INLINE __m256 load_halves(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* --- 1. scores ------------------------------------------------------------------------------- */

/* One dimension of score_tile.  With two blocks the queries stay in registers and keys come one by
 * one, with one block the other way round: at most 16 registers are live either way. */
SL_INLINE void score_step(const int count, const int blocks, const float *const *q,
                          const uint16_t *const *k, uint32_t j, __m256 acc[TILE_ROWS][4])
{
    const size_t at = (size_t)j * PLANE_TOKENS;
    __m256 x[TILE_ROWS];

    if (blocks == 2) {
        SL_UNROLL
        for (int i = 0; i < count; i++)
            x[i] = _mm256_broadcast_ss(q[i] + j);
        SL_UNROLL
        for (int v = 0; v < 4; v++) {
            __m256 key = load_halves(k[v / 2] + at + 8 * (v % 2));

            __asm__("" : "+x"(key)); /* here, and not earlier */
            SL_UNROLL
            for (int i = 0; i < count; i++)
                acc[i][v] = _mm256_fmadd_ps(x[i], key, acc[i][v]);
        }
        return;
    }
    {
        const __m256 low = load_halves(k[0] + at), high = load_halves(k[0] + at + 8);

        SL_UNROLL
        for (int i = 0; i < count; i++) {
            x[i] = _mm256_broadcast_ss(q[i] + j);
            acc[i][0] = _mm256_fmadd_ps(x[i], low, acc[i][0]);
            acc[i][1] = _mm256_fmadd_ps(x[i], high, acc[i][1]);
        }
    }
}

/* score[i][0 .. 16 * blocks) = q_i . k for `count` rows and 1 or 2 adjacent blocks of 16 keys; the
 * same places of the next page's blocks are prefetched.  At most 12 accumulators. */
SL_INLINE void score_tile(const int count, const int blocks, const float *const *q,
                          const uint16_t *const *k, const uint16_t *const *next, uint32_t d,
                          float *score)
{
    __m256 acc[TILE_ROWS][4];

    SL_UNROLL
    for (int i = 0; i < count; i++) {
        SL_UNROLL
        for (int v = 0; v < 2 * blocks; v++)
            acc[i][v] = _mm256_setzero_ps();
    }
    for (uint32_t j = 0; j < d; j += 2) {
        SL_UNROLL
        for (int b = 0; b < blocks; b++)
            _mm_prefetch((const char *)(next[b] + (size_t)j * PLANE_TOKENS), _MM_HINT_T1);
        SL_UNROLL
        for (uint32_t u = j; u < j + 2; u++)
            score_step(count, blocks, q, k, u, acc);
    }
    SL_UNROLL
    for (int i = 0; i < count; i++) {
        SL_UNROLL
        for (int v = 0; v < 2 * blocks; v++)
            _mm256_storeu_ps(score + (size_t)i * SL_PAGE_TOKENS + 8 * v, acc[i][v]);
    }
}

typedef struct score_args {
    const float *q[TILE_ROWS];
    const uint16_t *k[4];    /* the page's blocks */
    const uint16_t *next[4]; /* the next page's */
    float *score;
    uint32_t d;
    uint32_t blocks; /* that have keys to be seen */
} score_args;

SL_INLINE void score_rows(const int count, const score_args *s)
{
    uint32_t b = 0;

    for (; count <= 3 && b + 2 <= s->blocks; b += 2)
        score_tile(count, 2, s->q, s->k + b, s->next + b, s->d, s->score + b * PLANE_TOKENS);
    for (; b < s->blocks; b++)
        score_tile(count, 1, s->q, s->k + b, s->next + b, s->d, s->score + b * PLANE_TOKENS);
}

/* --- 2. softmax ------------------------------------------------------------------------------ */

/* Row i's 64 scores of the page at position `base` become weights exp(s - max); those outside
 * [first, last] (tokens of the page; first > last: the row sees nothing here) become zero. */
static void soften(const rows *r, uint32_t i, int first, int last)
{
    const __m256 scale = _mm256_set1_ps(r->a->scale), nothing = _mm256_set1_ps(-INFINITY);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    float *score = r->score + (size_t)i * SL_PAGE_TOKENS;
    row_state *state = &r->state[i];
    __m256 s[8], top = nothing, sum = _mm256_setzero_ps(), mask[8];
    float max;

    for (int v = 0; v < 8; v++) {
        const __m256i t = _mm256_add_epi32(lane, _mm256_set1_epi32(8 * v));
        const __m256i out = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(first), t),
                                            _mm256_cmpgt_epi32(t, _mm256_set1_epi32(last)));

        s[v] = _mm256_mul_ps(_mm256_loadu_ps(score + 8 * v), scale);
        if (r->a->softcap > 0.0f)
            s[v] = sl_vec_softcap(s[v], r->a->softcap);
        mask[v] = _mm256_castsi256_ps(out);
        s[v] = _mm256_blendv_ps(s[v], nothing, mask[v]);
        top = _mm256_max_ps(top, s[v]);
    }
    max = sl_vec_max(top);
    if (max < state->max || first > last)
        max = state->max;
    /* The first keys of a segment meet an empty state: nothing to keep, and no infinities below. */
    r->keep[i] = state->sum == 0.0f ? 0.0f : 1.0f;
    if (max != state->max && state->sum != 0.0f)
        r->keep[i] = _mm256_cvtss_f32(sl_vec_exp(_mm256_set1_ps(state->max - max)));
    for (int v = 0; v < 8; v++) {
        const __m256 p = sl_vec_exp(_mm256_sub_ps(s[v], _mm256_set1_ps(max)));

        s[v] = _mm256_andnot_ps(mask[v], p);
        _mm256_storeu_ps(score + 8 * v, s[v]);
        sum = _mm256_add_ps(sum, s[v]);
    }
    state->max = max;
    state->sum = state->sum * r->keep[i] + sl_vec_sum(sum);
}

/* --- 3. outputs ------------------------------------------------------------------------------ */

/* out[i][0 .. 8 * vecs) = keep_i * out + sum over keys first .. last of p_i[t] v[t]. */
SL_INLINE void output_tile(const int count, const int vecs, const float *score, const float *keep,
                           const uint16_t *const *v, const uint16_t *const *next, uint32_t d,
                           int first, int last, float *out)
{
    __m256 acc[TILE_ROWS][4];

    SL_UNROLL
    for (int i = 0; i < count; i++) {
        SL_UNROLL
        for (int c = 0; c < vecs; c++)
            acc[i][c] = _mm256_mul_ps(_mm256_loadu_ps(out + (size_t)i * d + 8 * c),
                                      _mm256_set1_ps(keep[i]));
    }
    for (int t = first; t <= last; t++) {
        const size_t at = (size_t)(t % PLANE_TOKENS) * d;
        const uint16_t *row = v[t / PLANE_TOKENS] + at;
        __m256 vv[4];

        _mm_prefetch((const char *)(next[t / PLANE_TOKENS] + at), _MM_HINT_T1);
        SL_UNROLL
        for (int c = 0; c < vecs; c++)
            vv[c] = load_halves(row + 8 * c);
        SL_UNROLL
        for (int i = 0; i < count; i++) {
            const __m256 p = _mm256_broadcast_ss(score + (size_t)i * SL_PAGE_TOKENS + t);

            SL_UNROLL
            for (int c = 0; c < vecs; c++)
                acc[i][c] = _mm256_fmadd_ps(p, vv[c], acc[i][c]);
        }
    }
    SL_UNROLL
    for (int i = 0; i < count; i++) {
        SL_UNROLL
        for (int c = 0; c < vecs; c++)
            _mm256_storeu_ps(out + (size_t)i * d + 8 * c, acc[i][c]);
    }
}

typedef struct output_args {
    const float *score;
    const float *keep;
    const uint16_t *v[4];    /* the page's blocks */
    const uint16_t *next[4]; /* the next page's */
    float *out;
    uint32_t d;
    int first;
    int last;
} output_args;

SL_INLINE void output_columns(const int count, const int vecs, const output_args *o, uint32_t j)
{
    const uint16_t *const v[4] = {o->v[0] + j, o->v[1] + j, o->v[2] + j, o->v[3] + j};
    const uint16_t *const next[4] = {o->next[0] + j, o->next[1] + j, o->next[2] + j,
                                     o->next[3] + j};

    output_tile(count, vecs, o->score, o->keep, v, next, o->d, o->first, o->last, o->out + j);
}

SL_INLINE void output_rows(const int count, const output_args *o)
{
    const int vecs = count <= 3 ? 4 : 2;
    uint32_t j = 0;

    for (; j + 8 * (uint32_t)vecs <= o->d; j += 8 * (uint32_t)vecs)
        output_columns(count, vecs, o, j);
    for (; j < o->d; j += 8)
        output_columns(count, 1, o, j);
}

/* Phases 1 and 3 for a number of rows that is known only now. */
#define ROWS_CASES(fn, args)                                                                       \
    switch (count) {                                                                               \
    case 1:                                                                                        \
        fn(1, args);                                                                               \
        break;                                                                                     \
    case 2:                                                                                        \
        fn(2, args);                                                                               \
        break;                                                                                     \
    case 3:                                                                                        \
        fn(3, args);                                                                               \
        break;                                                                                     \
    case 4:                                                                                        \
        fn(4, args);                                                                               \
        break;                                                                                     \
    case 5:                                                                                        \
        fn(5, args);                                                                               \
        break;                                                                                     \
    default:                                                                                       \
        fn(6, args);                                                                               \
        break;                                                                                     \
    }

static void score_any(uint32_t count, const score_args *s)
{
    ROWS_CASES(score_rows, s)
}

static void output_any(uint32_t count, const output_args *o)
{
    ROWS_CASES(output_rows, o)
}

/* --- pages and segments ---------------------------------------------------------------------- */

static int clamp(int64_t x, int low, int high)
{
    return x < low ? low : x > high ? high : (int)x;
}

/* The tokens of a page that row i sees: *first .. *last, none if *first > *last. */
static void row_span(const rows *r, uint32_t i, uint32_t base, int *first, int *last)
{
    const int64_t position = row_position(r, i);
    const int64_t from = window_first(r->a, (uint32_t)position);

    *first = clamp(from - base, 0, SL_PAGE_TOKENS);
    *last = clamp(position - base, -1, SL_PAGE_TOKENS - 1);
}

/* Rows [begin, begin + count) against page `p` of the sequence; `p_next` is prefetched. */
static void attend_tile(const rows *r, uint32_t p, uint32_t p_next, uint32_t begin, uint32_t count)
{
    const sl_kv_page *page = &r->seq->pages[p], *page_next = &r->seq->pages[p_next];
    const uint32_t d = r->a->kv->head_dim;
    score_args s = {.score = r->score + (size_t)begin * SL_PAGE_TOKENS, .d = d};
    output_args o = {.score = s.score,
                     .keep = r->keep + begin,
                     .out = r->out + (size_t)begin * d,
                     .d = d,
                     .first = SL_PAGE_TOKENS,
                     .last = -1};
    int first[TILE_ROWS], last[TILE_ROWS];

    for (uint32_t i = 0; i < count; i++) {
        row_span(r, begin + i, p * SL_PAGE_TOKENS, &first[i], &last[i]);
        s.q[i] = row_query(r, begin + i);
        if (first[i] > last[i])
            continue;
        o.first = first[i] < o.first ? first[i] : o.first;
        o.last = last[i] > o.last ? last[i] : o.last;
    }
    if (o.first > o.last)
        return;
    s.blocks = (uint32_t)o.last / PLANE_TOKENS + 1;
    for (uint32_t b = 0; b < s.blocks; b++) {
        s.k[b] = plane_block(r, page, b);
        s.next[b] = next_block(r, page_next, b, s.k[b]);
    }
    for (uint32_t b = 0; b < 4; b++) {
        /* Blocks beyond the last key may have no plane: any valid address will do. */
        o.v[b] = plane_block(r, page, 4 + (b < s.blocks ? b : 0));
        o.next[b] = next_block(r, page_next, 4 + (b < s.blocks ? b : 0), o.v[b]);
    }
    score_any(count, &s);
    for (uint32_t i = 0; i < count; i++)
        soften(r, begin + i, first[i], last[i]);
    output_any(count, &o);
}

static void clear_rows(const rows *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        r->state[i] = (row_state){-INFINITY, 0.0f};
    memset(r->out, 0, (size_t)r->count * r->a->kv->head_dim * sizeof(float));
}

/* Add a segment's state and output of one row to the merged ones; an empty segment changes nothing,
 * and the first one is copied. */
static void merge_row(row_state *merged, float *out_merged, const row_state *state,
                      const float *out, uint32_t d)
{
    const float max = merged->max > state->max ? merged->max : state->max;
    __m256 old, new;

    if (state->sum == 0.0f)
        return;
    if (merged->sum == 0.0f) {
        *merged = *state;
        memcpy(out_merged, out, d * sizeof(float));
        return;
    }
    old = sl_vec_exp(_mm256_set1_ps(merged->max - max));
    new = sl_vec_exp(_mm256_set1_ps(state->max - max));
    for (uint32_t j = 0; j < d; j += 8)
        _mm256_storeu_ps(out_merged + j,
                         _mm256_fmadd_ps(_mm256_loadu_ps(out + j), new,
                                         _mm256_mul_ps(_mm256_loadu_ps(out_merged + j), old)));
    merged->sum = merged->sum * _mm256_cvtss_f32(old) + state->sum * _mm256_cvtss_f32(new);
    merged->max = max;
}

/* Rows of a piece over the pages [page_first, page_end), all of one segment. */
static void attend_segment(const rows *r, uint32_t page_first, uint32_t page_end)
{
    const uint32_t tiles = (r->count + TILE_ROWS - 1) / TILE_ROWS;

    clear_rows(r);
    for (uint32_t p = page_first; p < page_end; p++)
        for (uint32_t i = 0; i < tiles; i++) {
            const uint32_t begin = r->count * i / tiles;

            attend_tile(r, p, p + 1 < page_end ? p + 1 : p, begin,
                        r->count * (i + 1) / tiles - begin);
        }
}

/* y / sum for every row, stored and (where the heads of a group fill whole blocks) prepared. */
static void store_rows(const rows *r, const row_state *state, const float *out)
{
    const sl_attention_args *a = r->a;
    const uint32_t d = a->kv->head_dim, cols = a->heads * d, width = r->group * d;
    const size_t at = (size_t)r->g * width;
    float y[SL_CPU_BLOCK];

    for (uint32_t t = 0; t < r->count / r->group; t++) {
        const uint32_t batch_row = r->seq->row_first + r->token_first + t;
        uint8_t *act =
            a->act == NULL ? NULL : (uint8_t *)a->act + sl_cpu_act_bytes(cols) * batch_row;
        const bool whole = width % SL_CPU_BLOCK == 0;

        for (uint32_t j = 0; j < width; j += 8) {
            const uint32_t i = t * r->group + j / d;
            const __m256 v = _mm256_div_ps(_mm256_loadu_ps(out + (size_t)t * width + j),
                                           _mm256_set1_ps(state[i].sum));
            /* - 0 may or may not have met a masked key's zero: make it + 0. */
            const __m256 plain = _mm256_add_ps(v, _mm256_setzero_ps());

            if (a->y != NULL)
                _mm256_storeu_ps(a->y + (size_t)batch_row * cols + at + j, plain);
            if (act == NULL)
                continue;
            if (!whole || !a->codes_only)
                _mm256_storeu_ps((float *)(void *)(act + sl_cpu_act_floats(cols)) + at + j, plain);
            _mm256_storeu_ps(y + j % SL_CPU_BLOCK, plain);
            if (whole && j % SL_CPU_BLOCK == SL_CPU_BLOCK - 8)
                sl_vec_act_block(act, cols, (uint32_t)((at + j) / SL_CPU_BLOCK), y);
        }
    }
}

/* --- the work and its cut -------------------------------------------------------------------- */

static uint32_t piece_rows(uint32_t d, uint32_t group)
{
    const uint32_t most = d > 128 ? ROWS_MAX_WIDE : ROWS_MAX;

    return group > most ? group : most / group * group;
}

/* Scratch: rows' buffers, then (member 0's is used by all) the slots of split segments. */
static size_t rows_floats(uint32_t d, uint32_t group)
{
    const size_t n = piece_rows(d, group);

    return (n * (2 * 2 + 1 + SL_PAGE_TOKENS + 2 * d) + 15) & ~(size_t)15;
}

static size_t slot_floats(uint32_t d, uint32_t group)
{
    return ((size_t)group * (2 + d) + 15) & ~(size_t)15;
}

size_t sl_cpu_scratch_bytes(uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t cols_max)
{
    const uint32_t group = kv_heads == 0 ? 1 : heads / kv_heads;

    (void)cols_max;
    return (rows_floats(head_dim, group) + SPLIT_SLOTS * slot_floats(head_dim, group)) *
           sizeof(float);
}

static rows rows_in(const sl_attention_args *a, sl_stream *stream)
{
    const uint32_t d = a->kv->head_dim, group = a->heads / a->kv->kv_heads;
    const size_t n = piece_rows(d, group);
    float *f = (float *)(void *)stream->scratch;
    rows r = {.a = a, .group = group};

    r.out = f;
    r.out_merged = r.out + n * d;
    r.score = r.out_merged + n * d;
    r.keep = r.score + n * SL_PAGE_TOKENS;
    r.state = (row_state *)(void *)(r.keep + n);
    r.merged = r.state + n;
    return r;
}

/* Pages [first, end) that some row of the tokens [token, token + count) of a sequence sees. */
static uint32_t pages_of(const sl_attention_args *a, const sl_attn_seq *seq, uint32_t token,
                         uint32_t count, uint32_t *first)
{
    *first = window_first(a, seq->position + token) / SL_PAGE_TOKENS;
    return (seq->position + token + count - 1) / SL_PAGE_TOKENS + 1;
}

enum { SEGMENT_PAGES = SEGMENT / SL_PAGE_TOKENS };

/* The end of the segment that page `page` is in, at most `end`. */
static uint32_t segment_end(uint32_t page, uint32_t end)
{
    const uint32_t next = (page / SEGMENT_PAGES + 1) * SEGMENT_PAGES;

    return next < end ? next : end;
}

static uint32_t segments_of(uint32_t first, uint32_t end)
{
    return (end - 1) / SEGMENT_PAGES - first / SEGMENT_PAGES + 1;
}

/* A whole piece: all segments, one after the other. */
static void attend(rows *r, uint32_t tokens)
{
    const uint32_t d = r->a->kv->head_dim;
    uint32_t page;
    const uint32_t end = pages_of(r->a, r->seq, r->token_first, tokens, &page);

    r->count = tokens * r->group;
    if (segments_of(page, end) == 1) {
        attend_segment(r, page, end);
        store_rows(r, r->state, r->out);
        return;
    }
    for (uint32_t i = 0; i < r->count; i++)
        r->merged[i] = (row_state){-INFINITY, 0.0f};
    while (page < end) {
        attend_segment(r, page, segment_end(page, end));
        for (uint32_t i = 0; i < r->count; i++)
            merge_row(&r->merged[i], r->out_merged + (size_t)i * d, &r->state[i],
                      r->out + (size_t)i * d, d);
        page = segment_end(page, end);
    }
    store_rows(r, r->merged, r->out_merged);
}

/* Pieces of a sequence: blocks of tokens x KV heads, later (longer) blocks first. */
static uint32_t token_blocks(uint32_t row_count, uint32_t tokens)
{
    return (row_count + tokens - 1) / tokens;
}

static void attend_pieces(const sl_attention_args *a, sl_stream *stream)
{
    const uint32_t g_count = a->kv->kv_heads;
    rows r = rows_in(a, stream);
    const uint32_t tokens = piece_rows(a->kv->head_dim, r.group) / r.group;
    uint32_t total = 0, index, s = 0, passed = 0;

    for (uint32_t i = 0; i < a->seq_count; i++)
        total += token_blocks(a->seq[i].row_count, tokens) * g_count;
    /* A member's pieces come in rising order, so its place in the list only moves on. */
    while ((index = sl_stream_take(stream, total)) != UINT32_MAX) {
        uint32_t blocks = token_blocks(a->seq[s].row_count, tokens), block;

        while (index - passed >= blocks * g_count) {
            passed += blocks * g_count;
            blocks = token_blocks(a->seq[++s].row_count, tokens);
        }
        block = blocks - 1 - (index - passed) / g_count;
        r.seq = &a->seq[s];
        r.g = (index - passed) % g_count;
        r.token_first = block * tokens;
        attend(&r, r.seq->row_count - r.token_first < tokens ? r.seq->row_count - r.token_first
                                                             : tokens);
    }
}

/* --- decode with every segment a piece of its own -------------------------------------------- */

/* True if that is worth it and fits: *slots gets the number of (sequence, KV head, segment). */
static bool should_split(const sl_attention_args *a, uint32_t members, uint32_t *slots)
{
    uint32_t most = 0, total = 0, seqs = 0;

    for (uint32_t i = 0; i < a->seq_count; i++) {
        uint32_t first, segments;
        const uint32_t end = pages_of(a, &a->seq[i], 0, 1, &first);

        if (a->seq[i].row_count > 1)
            return false;
        if (a->seq[i].row_count == 0)
            continue;
        segments = segments_of(first, end);
        most = segments > most ? segments : most;
        total += segments;
        seqs++;
    }
    *slots = total * a->kv->kv_heads;
    return members > 1 && most > 1 && *slots <= SPLIT_SLOTS &&
           seqs * a->kv->kv_heads < members * SPLIT_PIECES;
}

/* Slot `index` of a split call: which sequence, KV head and pages. */
static void find_slot(const sl_attention_args *a, uint32_t index, rows *r, uint32_t pages[2])
{
    for (uint32_t s = 0;; s++) {
        uint32_t first, end, segments;

        if (a->seq[s].row_count == 0)
            continue;
        end = pages_of(a, &a->seq[s], 0, 1, &first);
        segments = segments_of(first, end);
        if (index >= segments * a->kv->kv_heads) {
            index -= segments * a->kv->kv_heads;
            continue;
        }
        r->seq = &a->seq[s];
        r->g = index / segments;
        pages[0] = first / SEGMENT_PAGES * SEGMENT_PAGES + index % segments * SEGMENT_PAGES;
        pages[0] = pages[0] < first ? first : pages[0];
        pages[1] = segment_end(pages[0], end);
        return;
    }
}

static float *slot_at(const rows *r, float *slots, uint32_t index)
{
    return slots + slot_floats(r->a->kv->head_dim, r->group) * index;
}

/* Merge the segments of KV head r->g of r->seq, whose slots begin at `slot`. */
static void merge_slots(const rows *r, float *slots, uint32_t slot, uint32_t segments)
{
    const uint32_t d = r->a->kv->head_dim;

    for (uint32_t i = 0; i < r->count; i++)
        r->merged[i] = (row_state){-INFINITY, 0.0f};
    for (uint32_t k = 0; k < segments; k++) {
        const float *f = slot_at(r, slots, slot + k);
        const row_state *state = (const row_state *)(const void *)f;

        for (uint32_t i = 0; i < r->count; i++)
            merge_row(&r->merged[i], r->out_merged + (size_t)i * d, &state[i],
                      f + 2 * (size_t)r->group + (size_t)i * d, d);
    }
    store_rows(r, r->merged, r->out_merged);
}

static void attend_split(const sl_attention_args *a, sl_stream *stream, uint32_t slot_count)
{
    const uint32_t d = a->kv->head_dim, g_count = a->kv->kv_heads;
    rows r = rows_in(a, stream);
    float *slots = (float *)(void *)stream->team->shared + rows_floats(d, r.group);
    uint32_t index, first, count, passed = 0, piece = 0;

    r.count = r.group;
    while ((index = sl_stream_take(stream, slot_count)) != UINT32_MAX) {
        float *f = slot_at(&r, slots, index);
        uint32_t pages[2];

        find_slot(a, index, &r, pages);
        attend_segment(&r, pages[0], pages[1]);
        memcpy(f, r.state, r.group * sizeof(*r.state));
        memcpy(f + 2 * (size_t)r.group, r.out, (size_t)r.group * d * sizeof(float));
    }
    sl_stream_barrier(stream); /* all slots are written before any is read */
    count = sl_stream_share(stream, a->seq_count * g_count, 1, &first);
    for (uint32_t s = 0; s < a->seq_count; s++) {
        uint32_t page;
        const uint32_t end = pages_of(a, &a->seq[s], 0, 1, &page);
        const uint32_t segments = segments_of(page, end);

        for (uint32_t g = 0; g < g_count; g++, piece++) {
            if (a->seq[s].row_count == 0)
                continue;
            r.seq = &a->seq[s];
            r.g = g;
            if (piece >= first && piece < first + count)
                merge_slots(&r, slots, passed, segments);
            passed += segments;
        }
    }
}

bool sl_cpu_kv_shape_ok(const sl_kv_store *kv, uint32_t chunk_layer, uint32_t heads)
{
    return kv->head_dim > 0 && kv->head_dim <= SL_HEAD_DIM_MAX && kv->head_dim % 8 == 0 &&
           kv->kv_heads > 0 && heads > 0 && heads % kv->kv_heads == 0 &&
           chunk_layer < kv->chunk_layers &&
           kv->plane_bytes ==
               (size_t)SL_PAGE_TOKENS / 2 * kv->chunk_layers * kv->kv_heads * kv->head_dim;
}

/* Second pass for groups that do not fill whole blocks: the floats of a row are there, make codes.
 */
static void prepare_rows(const sl_attention_args *a, const sl_stream *stream)
{
    const uint32_t cols = a->heads * a->kv->head_dim;
    uint32_t first;
    const uint32_t count = sl_stream_share(stream, a->n, 1, &first);

    for (uint32_t i = first; i < first + count; i++) {
        uint8_t *act = (uint8_t *)a->act + sl_cpu_act_bytes(cols) * i;
        float *x = (float *)(void *)(act + sl_cpu_act_floats(cols));

        for (uint32_t k = cols; k % SL_CPU_BLOCK != 0; k++)
            x[k] = 0.0f;
        for (uint32_t b = 0; b < sl_cpu_blocks(cols); b++)
            sl_vec_act_block(act, cols, b, x + (size_t)b * SL_CPU_BLOCK);
    }
}

sl_status sl_cpu_attention(const sl_attention_args *a, sl_stream *stream)
{
    uint32_t group, slots;

    if (a->n == 0)
        return SL_OK;
    if (!sl_cpu_kv_shape_ok(a->kv, a->chunk_layer, a->heads) ||
        a->heads / a->kv->kv_heads > GROUP_MAX)
        return SL_EINVAL;
    group = a->heads / a->kv->kv_heads;
    if (stream->scratch_bytes < sl_cpu_scratch_bytes(a->heads, a->kv->kv_heads, a->kv->head_dim, 0))
        return SL_EINVAL;
    if (should_split(a, sl_stream_size(stream), &slots))
        attend_split(a, stream, slots);
    else
        attend_pieces(a, stream);
    if (a->act != NULL && group * a->kv->head_dim % SL_CPU_BLOCK != 0) {
        sl_stream_barrier(stream); /* a row's heads come from several members */
        prepare_rows(a, stream);
    }
    sl_stream_barrier(stream);
    return SL_OK;
}
