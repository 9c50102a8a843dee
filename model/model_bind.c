/* model/model_bind.c - which tensors a model has, by the names that GGUF files use.
 *
 * The walk over the names happens once, before anything is allocated: it yields the list of
 * (tensor, place) that planning sums up and packing works off. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "model/model_internal.h"

typedef struct binder {
    const sl_gguf *g;
    const sl_ops *ops;
    sl_binding *out;
    sl_err *err;
    sl_status status; /* the first failure sticks */
    uint32_t layer;   /* of the names being bound */
    char name[64];
} binder;

static sl_bind_item *add_item(binder *b, const sl_gguf_tensor *tensor, size_t bytes)
{
    sl_bind_item *item = &b->out->item[b->out->count];
    const size_t offset = b->out->bytes;
    size_t end;

    if (!sl_add_size(bytes, 63, &end) || !sl_add_size(offset, end & ~(size_t)63, &end)) {
        b->status = sl_fail(b->err, SL_EFORMAT, "the tensors are larger than memory can be");
        return NULL;
    }
    *item = (sl_bind_item){.tensor = tensor, .offset = offset, .bytes = bytes};
    b->out->bytes = end;
    b->out->count++;
    return item;
}

/* "[576, 1536]", rows last, as the file has it. */
static void shape_text(const sl_gguf_tensor *t, char *text, size_t n)
{
    size_t at = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < t->dim_count && at < n; i++) {
        const int added = snprintf(text + at, n - at, "%s%" PRIu64, i == 0 ? "" : " x ", t->dim[i]);

        at += added > 0 ? (size_t)added : 0;
    }
}

/* The tensor b->name of cols x rows (rows 1: a vector), or NULL with the failure recorded. */
static const sl_gguf_tensor *find_tensor(binder *b, uint32_t cols, uint32_t rows)
{
    const sl_gguf_tensor *t;
    uint64_t dim[SL_GGUF_DIMS_MAX];
    char text[96];

    if (b->status != SL_OK)
        return NULL;
    t = sl_gguf_find_tensor(b->g, b->name);
    if (t == NULL) {
        b->status = sl_fail(b->err, SL_EFORMAT, "the tensor '%s' (%u x %u) is missing", b->name,
                            cols, rows);
        return NULL;
    }
    for (uint32_t i = 0; i < SL_GGUF_DIMS_MAX; i++)
        dim[i] = i < t->dim_count ? t->dim[i] : 1;
    if (dim[0] != cols || dim[1] != rows || dim[2] != 1 || dim[3] != 1) {
        shape_text(t, text, sizeof(text));
        b->status = sl_fail(b->err, SL_EFORMAT,
                            "the tensor '%s' is %s, but by the metadata it should be %u x %u",
                            b->name, text, cols, rows);
        return NULL;
    }
    if (!t->supported) {
        const char *type = sl_dtype_gguf_name(t->type_id);

        b->status = sl_fail(b->err, SL_EUNSUPPORTED, "the tensor '%s' is of type %s (%u): not ours",
                            b->name, type == NULL ? "unknown" : type, t->type_id);
        return NULL;
    }
    return t;
}

static void layer_name(binder *b, const char *suffix)
{
    snprintf(b->name, sizeof(b->name), "blk.%u.%s", b->layer, suffix);
}

static void bind_named_weight(binder *b, uint32_t cols, uint32_t rows, sl_weight *w)
{
    const sl_gguf_tensor *t = find_tensor(b, cols, rows);
    sl_bind_item *item;

    if (t == NULL)
        return;
    *w = (sl_weight){.dtype = t->dtype, .rows = rows, .cols = cols};
    b->status = b->ops->weight_plan(w, b->err);
    if (b->status != SL_OK)
        return;
    item = add_item(b, t, w->bytes);
    if (item != NULL)
        item->weight = w;
}

static void bind_named_vector(binder *b, uint32_t count, const float **vector)
{
    const sl_gguf_tensor *t = find_tensor(b, count, 1);
    sl_bind_item *item;

    if (t == NULL)
        return;
    if (count % sl_dtype_block_elems(t->dtype) != 0) {
        b->status =
            sl_fail(b->err, SL_EFORMAT, "the tensor '%s' is no whole number of blocks", b->name);
        return;
    }
    item = add_item(b, t, (size_t)count * sizeof(float));
    if (item == NULL)
        return;
    item->vector = vector;
    item->count = count;
}

static void bind_weight(binder *b, const char *suffix, uint32_t cols, uint32_t rows, sl_weight *w)
{
    layer_name(b, suffix);
    bind_named_weight(b, cols, rows, w);
}

static void bind_vector(binder *b, const char *suffix, uint32_t count, const float **vector)
{
    layer_name(b, suffix);
    bind_named_vector(b, count, vector);
}

static void bind_layer(binder *b, const sl_model_config *c, sl_layer *l)
{
    const uint32_t q_width = c->heads * c->head_dim;
    const uint32_t kv_width = c->kv_heads * c->head_dim;

    bind_vector(b, "attn_norm.weight", c->hidden, &l->attn_norm);
    bind_weight(b, "attn_q.weight", c->hidden, q_width, &l->q);
    bind_weight(b, "attn_k.weight", c->hidden, kv_width, &l->k);
    bind_weight(b, "attn_v.weight", c->hidden, kv_width, &l->v);
    if (c->qkv_bias) {
        bind_vector(b, "attn_q.bias", q_width, &l->q_bias);
        bind_vector(b, "attn_k.bias", kv_width, &l->k_bias);
        bind_vector(b, "attn_v.bias", kv_width, &l->v_bias);
    }
    if (c->qk_norm) {
        bind_vector(b, "attn_q_norm.weight", c->head_dim, &l->q_norm);
        bind_vector(b, "attn_k_norm.weight", c->head_dim, &l->k_norm);
    }
    bind_weight(b, "attn_output.weight", q_width, c->hidden, &l->out);
    if (c->post_norms)
        bind_vector(b, "post_attention_norm.weight", c->hidden, &l->post_attn);
    bind_vector(b, "ffn_norm.weight", c->hidden, &l->ffn_norm);
    bind_weight(b, "ffn_gate.weight", c->hidden, c->ff, &l->gate);
    bind_weight(b, "ffn_up.weight", c->hidden, c->ff, &l->up);
    bind_weight(b, "ffn_down.weight", c->ff, c->hidden, &l->down);
    if (c->post_norms)
        bind_vector(b, "post_ffw_norm.weight", c->hidden, &l->post_ffn);
}

/* A tensor that nothing here uses would be a part of the computation left out: refuse the file.
 * The binding is in the order of the walk, not of the file: mark by comparing pointers. */
static void check_unused(binder *b)
{
    for (uint32_t i = 0; i < sl_gguf_tensor_count(b->g) && b->status == SL_OK; i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(b->g, i);
        static const char rope[] = "rope_freqs.weight"; /* read with the config */
        bool used = t->name.len == sizeof(rope) - 1 && memcmp(t->name.data, rope, t->name.len) == 0;

        for (uint32_t k = 0; k < b->out->count && !used; k++)
            used = b->out->item[k].tensor == t;
        if (!used)
            b->status = sl_fail(b->err, SL_EUNSUPPORTED,
                                "the tensor '%.*s' has no place in this architecture",
                                (int)(t->name.len < 64 ? t->name.len : 64), t->name.data);
    }
}

/* Do all matrices that meet prepared rows consist of block codes? */
static bool all_codes(const sl_binding *binding, const sl_weight *not_linear)
{
    for (uint32_t i = 0; i < binding->count; i++) {
        const sl_weight *w = binding->item[i].weight;

        if (w != NULL && w != not_linear && sl_dtype_block_elems(w->dtype) == 1)
            return false;
    }
    return true;
}

sl_status sl_model_bind(const sl_gguf *g, sl_model *model, sl_binding *binding, sl_err *err)
{
    const sl_model_config *c = &model->config;
    binder b = {.g = g, .ops = model->ops, .out = binding, .err = err};

    binding->count = 0;
    binding->bytes = 0;
    snprintf(b.name, sizeof(b.name), "token_embd.weight");
    bind_named_weight(&b, c->hidden, c->vocab, &model->embed);
    for (b.layer = 0; b.layer < c->layer_count; b.layer++)
        bind_layer(&b, c, &model->layer[b.layer]);
    snprintf(b.name, sizeof(b.name), "output_norm.weight");
    bind_named_vector(&b, c->hidden, &model->output_norm);
    if (!c->tied_head) {
        snprintf(b.name, sizeof(b.name), "output.weight");
        bind_named_weight(&b, c->hidden, c->vocab, &model->head);
    }
    check_unused(&b);
    model->codes_only = all_codes(binding, c->tied_head ? NULL : &model->embed);
    return b.status;
}
