/* model/forward.c - the forward pass, once, over the table of operations.
 *
 * Every member of a team runs this code with equal arguments; an operation ends with a barrier, so
 * each line sees the results of the lines before it.  Of the space, `x` lives from layer to layer
 * (and between layer ranges); the other arrays are rewritten by each layer. */
#include <string.h>

#include "kernels/team.h"
#include "model/model_internal.h"

/* --- the space ---------------------------------------------------------------------------- */

typedef struct layout {
    uint8_t *base; /* NULL: only measure */
    size_t used_bytes;
} layout;

/* The next `bytes` bytes, rounded up to 64; NULL while measuring. */
static void *lay(layout *l, size_t bytes)
{
    uint8_t *at = l->base == NULL ? NULL : l->base + l->used_bytes;

    l->used_bytes += (bytes + 63) & ~(size_t)63;
    return at;
}

static float *lay_rows(layout *l, uint32_t rows, uint32_t cols)
{
    return lay(l, (size_t)rows * cols * sizeof(float));
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* The widest input of a linear layer. */
static uint32_t cols_max(const sl_model_config *c)
{
    return max_u32(c->hidden, max_u32(c->ff, c->heads * c->head_dim));
}

/* Lay the space out from space->*_max and `members`; with base NULL nothing but the size is right.
 */
static size_t lay_space(const sl_model *model, uint32_t members, void *base,
                        sl_forward_space *space)
{
    const sl_model_config *c = &model->config;
    const uint32_t rows = space->rows_max;
    layout l = {.base = base};

    space->x = lay_rows(&l, rows, c->hidden);
    space->q = lay_rows(&l, rows, c->heads * c->head_dim);
    space->k = lay_rows(&l, rows, c->kv_heads * c->head_dim);
    space->v = lay_rows(&l, rows, c->kv_heads * c->head_dim);
    space->gate = lay_rows(&l, rows, c->ff);
    space->up = lay_rows(&l, rows, c->ff);
    space->sub = lay_rows(&l, c->post_norms ? rows : 0, c->hidden);
    space->act = lay(&l, model->ops->act_bytes(cols_max(c)) * rows);
    space->logits = lay_rows(&l, space->logit_rows_max, c->vocab);
    space->attn_seq = lay(&l, (size_t)members * space->seqs_max * sizeof(sl_attn_seq));
    return l.used_bytes;
}

size_t sl_forward_space_bytes(const sl_model *model, uint32_t rows_max, uint32_t logit_rows_max,
                              uint32_t seqs_max, uint32_t members)
{
    sl_forward_space space = {
        .rows_max = rows_max, .logit_rows_max = logit_rows_max, .seqs_max = seqs_max};

    return lay_space(model, members, NULL, &space);
}

void sl_forward_space_init(const sl_model *model, uint32_t rows_max, uint32_t logit_rows_max,
                           uint32_t seqs_max, uint32_t members, void *memory,
                           sl_forward_space *space)
{
    *space = (sl_forward_space){.rows_max = rows_max,
                                .logit_rows_max = logit_rows_max,
                                .seqs_max = seqs_max,
                                .members = members};
    lay_space(model, members, memory, space);
}

size_t sl_model_scratch_bytes(const sl_model *model)
{
    const sl_model_config *c = &model->config;

    return model->ops->scratch_bytes(c->heads, c->kv_heads, c->head_dim, cols_max(c));
}

/* --- the pass ----------------------------------------------------------------------------- */

/* What every part of the pass needs. */
typedef struct pass {
    const sl_forward_args *a;
    const sl_model *model;
    const sl_model_config *c;
    const sl_ops *ops;
    sl_forward_space *s;
    sl_stream *stream;
    sl_attn_seq *seq; /* this member's own */
} pass;

static sl_status check_args(const sl_forward_args *a, const sl_stream *stream)
{
    const sl_model_config *c = &a->model->config;
    const sl_forward_space *s = a->space;
    uint64_t covered = 0;

    if (a->rows > s->rows_max || a->seq_count > s->seqs_max ||
        a->logit_row_count > s->logit_rows_max || stream->rank >= s->members)
        return SL_EINVAL;
    if (a->layer_first > a->layer_end || a->layer_end > c->layer_count)
        return SL_EINVAL;
    if (a->kv->plane_bytes != a->model->plan.kv_plane_bytes ||
        a->kv->chunk_layers != c->chunk_layers || a->kv->kv_heads != c->kv_heads ||
        a->kv->head_dim != c->head_dim)
        return SL_EINVAL;
    for (uint32_t i = 0; i < a->rows && a->layer_first == 0; i++) {
        if (a->token[i] >= c->vocab)
            return SL_EINVAL;
    }
    for (uint32_t i = 0; i < a->logit_row_count; i++) {
        if (a->logit_row[i] >= a->rows)
            return SL_EINVAL;
    }
    for (uint32_t i = 0; i < a->seq_count; i++) {
        if (a->seq[i].row_first > a->rows || a->seq[i].row_count > a->rows - a->seq[i].row_first)
            return SL_EINVAL;
        covered += a->seq[i].row_count;
    }
    return covered == a->rows ? SL_OK : SL_EINVAL;
}

/* The page tables of a chunk, for the operations on sequences. */
static void take_pages(const pass *p, uint32_t chunk)
{
    for (uint32_t i = 0; i < p->a->seq_count; i++) {
        const sl_forward_seq *from = &p->a->seq[i];

        p->seq[i] = (sl_attn_seq){.row_first = from->row_first,
                                  .row_count = from->row_count,
                                  .position = from->position,
                                  .pages = from->chunk_pages[chunk]};
    }
}

static sl_status norm(const pass *p, const float *w)
{
    const sl_norm_args args = {.act = p->s->act,
                               .x = p->s->x,
                               .w = w,
                               .n = p->a->rows,
                               .cols = p->c->hidden,
                               .eps = p->c->norm_eps,
                               .codes_only = p->model->codes_only};

    return p->ops->norm(&args, p->stream);
}

/* x += w act, or (gemma) x += norm(w act). */
static sl_status add_to_residual(const pass *p, const sl_weight *w, const float *post_norm)
{
    const uint32_t hidden = p->c->hidden;
    const sl_linear_args linear = {.part = {{.w = w,
                                             .y = post_norm == NULL ? p->s->x : p->s->sub,
                                             .y_stride = hidden,
                                             .accumulate = post_norm == NULL}},
                                   .part_count = 1,
                                   .act = p->s->act,
                                   .n = p->a->rows,
                                   .cols = w->cols};
    const sl_norm_args after = {.y = p->s->x,
                                .x = p->s->sub,
                                .w = post_norm,
                                .n = p->a->rows,
                                .cols = hidden,
                                .eps = p->c->norm_eps,
                                .accumulate = true};
    const sl_status status = p->ops->linear(&linear, p->stream);

    if (status != SL_OK || post_norm == NULL)
        return status;
    return p->ops->norm(&after, p->stream);
}

static sl_status project_qkv(const pass *p, const sl_layer *l)
{
    const uint32_t q_width = p->c->heads * p->c->head_dim;
    const uint32_t kv_width = p->c->kv_heads * p->c->head_dim;
    const sl_linear_args args = {
        .part = {{.w = &l->q, .bias = l->q_bias, .y = p->s->q, .y_stride = q_width},
                 {.w = &l->k, .bias = l->k_bias, .y = p->s->k, .y_stride = kv_width},
                 {.w = &l->v, .bias = l->v_bias, .y = p->s->v, .y_stride = kv_width}},
        .part_count = 3,
        .act = p->s->act,
        .n = p->a->rows,
        .cols = p->c->hidden};

    return p->ops->linear(&args, p->stream);
}

static sl_status rope_append(const pass *p, const sl_layer *l, const sl_layer_config *lc)
{
    const sl_rope *rope = lc->rope_local ? &p->model->rope_local : &p->model->rope;
    const sl_rope_append_args args = {.q = p->s->q,
                                      .k = p->s->k,
                                      .v = p->s->v,
                                      .q_stride = p->c->heads * p->c->head_dim,
                                      .kv_stride = p->c->kv_heads * p->c->head_dim,
                                      .q_norm = l->q_norm,
                                      .k_norm = l->k_norm,
                                      .norm_eps = p->c->norm_eps,
                                      .inv_freq = rope->inv_freq,
                                      .rope_dims = p->c->rope_dims,
                                      .rope_scale = rope->scale,
                                      .neox = p->c->rope_neox,
                                      .kv = p->a->kv,
                                      .chunk_layer = lc->chunk_layer,
                                      .heads = p->c->heads,
                                      .seq = p->seq,
                                      .seq_count = p->a->seq_count,
                                      .n = p->a->rows};

    return p->ops->rope_append(&args, p->stream);
}

static sl_status attend(const pass *p, const sl_layer_config *lc)
{
    const sl_attention_args args = {.act = p->s->act,
                                    .q = p->s->q,
                                    .q_stride = p->c->heads * p->c->head_dim,
                                    .kv = p->a->kv,
                                    .chunk_layer = lc->chunk_layer,
                                    .heads = p->c->heads,
                                    .scale = p->c->attn_scale,
                                    .softcap = p->c->attn_softcap,
                                    .window = lc->window,
                                    .seq = p->seq,
                                    .seq_count = p->a->seq_count,
                                    .n = p->a->rows,
                                    .codes_only = p->model->codes_only};

    return p->ops->attention(&args, p->stream);
}

static sl_status attention_block(const pass *p, const sl_layer *l, const sl_layer_config *lc)
{
    sl_status status;

    status = norm(p, l->attn_norm);
    if (status == SL_OK)
        status = project_qkv(p, l);
    if (status == SL_OK)
        status = rope_append(p, l, lc);
    if (status == SL_OK)
        status = attend(p, lc);
    if (status == SL_OK)
        status = add_to_residual(p, &l->out, l->post_attn);
    return status;
}

static sl_status feed_forward_block(const pass *p, const sl_layer *l)
{
    const uint32_t ff = p->c->ff;
    const sl_linear_args wide = {.part = {{.w = &l->gate, .y = p->s->gate, .y_stride = ff},
                                          {.w = &l->up, .y = p->s->up, .y_stride = ff}},
                                 .part_count = 2,
                                 .act = p->s->act,
                                 .n = p->a->rows,
                                 .cols = p->c->hidden};
    const sl_glu_args glu = {.act = p->s->act,
                             .gate = p->s->gate,
                             .up = p->s->up,
                             .stride = ff,
                             .n = p->a->rows,
                             .cols = ff,
                             .fn = p->c->act_fn,
                             .codes_only = p->model->codes_only};
    sl_status status;

    status = norm(p, l->ffn_norm);
    if (status == SL_OK)
        status = p->ops->linear(&wide, p->stream);
    if (status == SL_OK)
        status = p->ops->glu(&glu, p->stream);
    if (status == SL_OK)
        status = add_to_residual(p, &l->down, l->post_ffn);
    return status;
}

static sl_status embed(const pass *p)
{
    const sl_embed_args args = {.x = p->s->x,
                                .table = &p->model->embed,
                                .token = p->a->token,
                                .n = p->a->rows,
                                .scale = p->c->embed_scale};

    return p->ops->embed(&args, p->stream);
}

static sl_status head(const pass *p)
{
    const sl_linear_args args = {
        .part = {{.w = p->c->tied_head ? &p->model->embed : &p->model->head,
                  .y = p->s->logits,
                  .y_stride = p->c->vocab}},
        .part_count = 1,
        .act = p->s->act,
        .row = p->a->logit_row,
        .n = p->a->logit_row_count,
        .cols = p->c->hidden,
        .softcap = p->c->logit_softcap};
    sl_status status;

    if (p->a->logit_row_count == 0)
        return SL_OK;
    status = norm(p, p->model->output_norm);
    if (status == SL_OK)
        status = p->ops->linear(&args, p->stream);
    return status;
}

sl_status sl_model_forward(const sl_forward_args *a, sl_stream *stream)
{
    const sl_model_config *c = &a->model->config;
    const pass p = {.a = a,
                    .model = a->model,
                    .c = c,
                    .ops = a->model->ops,
                    .s = a->space,
                    .stream = stream,
                    .seq = a->space->attn_seq + (size_t)stream->rank * a->space->seqs_max};
    uint32_t chunk = UINT32_MAX; /* whose page tables p.seq holds */
    sl_status status = check_args(a, stream);

    if (status != SL_OK || a->rows == 0)
        return status;
    if (a->layer_first == 0)
        status = embed(&p);
    for (uint32_t i = a->layer_first; i < a->layer_end && status == SL_OK; i++) {
        const sl_layer *l = &a->model->layer[i];
        const sl_layer_config *lc = &c->layer[i];

        if (lc->chunk != chunk) {
            chunk = lc->chunk;
            take_pages(&p, chunk);
        }
        status = attention_block(&p, l, lc);
        if (status == SL_OK)
            status = feed_forward_block(&p, l);
    }
    if (status == SL_OK && a->layer_end == c->layer_count)
        status = head(&p);
    return status;
}
