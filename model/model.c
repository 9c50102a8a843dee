/* model/model.c - plan and load a model. */
#include "model/model.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "model/model_internal.h"

/* The file's rope_freqs.weight as floats; *present says if there is one. */
static sl_status read_rope_factors(const sl_gguf *g, const sl_model_config *c, float *factors,
                                   bool *present, sl_err *err)
{
    const sl_gguf_tensor *t = sl_gguf_find_tensor(g, "rope_freqs.weight");
    const uint32_t count = c->rope_dims / 2;

    *present = t != NULL;
    if (t == NULL)
        return SL_OK;
    if (t->dim_count < 1 || t->dim[0] != count || t->data == NULL || t->dtype != SL_DTYPE_F32 ||
        t->bytes != count * sizeof(float))
        return sl_fail(err, SL_EFORMAT, "the tensor 'rope_freqs.weight' is no vector of %u F32",
                       count);
    sl_dequantize_row(SL_DTYPE_F32, t->data, count, factors);
    for (uint32_t i = 0; i < count; i++) {
        if (!(factors[i] >= 1e-6f && factors[i] <= 1e6f))
            return sl_fail(err, SL_EFORMAT, "'rope_freqs.weight' has %g at %u", (double)factors[i],
                           i);
    }
    return SL_OK;
}

static size_t round_64(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Bytes of the two tables of rotary frequencies, behind the tensors. */
static size_t rope_table_bytes(const sl_model_config *c)
{
    return round_64(c->rope_dims / 2 * sizeof(float));
}

/* Config, binding and plan of a file into *model: everything but the memory. */
static sl_status plan_model(const sl_gguf *g, const sl_ops *ops, sl_model *model,
                            sl_binding *binding, sl_err *err)
{
    sl_model_config *c = &model->config;
    float factors[SL_HEAD_DIM_MAX / 2];
    sl_status status;
    bool present;

    status = sl_model_config_read(g, c, err);
    if (status != SL_OK)
        return status;
    status = read_rope_factors(g, c, factors, &present, err);
    if (status != SL_OK)
        return status;
    model->ops = ops;
    status = sl_model_bind(g, model, binding, err);
    if (status != SL_OK)
        return status;
    model->plan.weight_bytes = binding->bytes + 2 * rope_table_bytes(c);
    model->plan.kv_plane_bytes =
        (size_t)SL_PAGE_TOKENS / 2 * c->chunk_layers * c->kv_heads * c->head_dim;
    model->plan.kv_bytes_per_page =
        model->plan.kv_plane_bytes * SL_PAGE_PLANES_MAX * c->chunk_count;
    return SL_OK;
}

/* A model and a binding, zeroed, planned.  On failure nothing is left. */
static sl_status create_planned(const sl_gguf *g, const sl_ops *ops, sl_model **model,
                                sl_binding **binding, sl_err *err)
{
    sl_model *m = sl_alloc(1, sizeof(*m));
    sl_binding *b = sl_alloc(1, sizeof(*b));
    sl_status status;

    if (m == NULL || b == NULL)
        status = sl_fail(err, SL_ENOMEM, "no memory to plan a model");
    else
        status = plan_model(g, ops, m, b, err);
    if (status != SL_OK) {
        sl_free(b);
        sl_free(m);
        return status;
    }
    *model = m;
    *binding = b;
    return SL_OK;
}

sl_status sl_model_plan_read(const sl_gguf *g, const sl_ops *ops, sl_model_config *config,
                             sl_model_plan *plan, sl_err *err)
{
    sl_model *model = NULL;
    sl_binding *binding = NULL;
    const sl_status status = create_planned(g, ops, &model, &binding, err);

    if (status != SL_OK)
        return status;
    *config = model->config;
    *plan = model->plan;
    sl_free(binding);
    sl_free(model);
    return SL_OK;
}

/* Point every weight and vector at its place in the model's memory. */
static void place_items(sl_model *model, const sl_binding *binding)
{
    for (uint32_t i = 0; i < binding->count; i++) {
        const sl_bind_item *item = &binding->item[i];
        uint8_t *at = (uint8_t *)model->memory + item->offset;

        if (item->weight != NULL)
            item->weight->data = at;
        else
            *item->vector = (const float *)(const void *)at;
    }
}

static void make_rope_tables(const sl_gguf *g, sl_model *model, size_t offset)
{
    const sl_model_config *c = &model->config;
    float *table = (float *)(void *)((uint8_t *)model->memory + offset);
    float *local = (float *)(void *)((uint8_t *)model->memory + offset + rope_table_bytes(c));
    float factors[SL_HEAD_DIM_MAX / 2];
    bool present = false;

    /* Checked when planned, so it cannot fail now; if it could, there would be no factors. */
    if (read_rope_factors(g, c, factors, &present, NULL) != SL_OK)
        present = false;
    sl_model_rope_table(c, false, present ? factors : NULL, table, &model->rope.scale);
    sl_model_rope_table(c, true, NULL, local, &model->rope_local.scale);
    model->rope.inv_freq = table;
    model->rope_local.inv_freq = local;
}

sl_status sl_model_load(const sl_model_load_args *args, sl_model **out, sl_err *err)
{
    sl_model *model = NULL;
    sl_binding *binding = NULL;
    sl_status status;

    status = create_planned(args->file, args->ops, &model, &binding, err);
    if (status != SL_OK)
        return status;
    model->memory = sl_alloc_pages(model->plan.weight_bytes);
    if (model->memory == NULL) {
        status =
            sl_fail(err, SL_ENOMEM, "no memory for %zu bytes of weights", model->plan.weight_bytes);
        sl_model_destroy(model);
    } else {
        place_items(model, binding);
        make_rope_tables(args->file, model, binding->bytes);
        sl_model_pack(args, binding);
        *out = model;
    }
    sl_free(binding);
    return status;
}

void sl_model_destroy(sl_model *model)
{
    if (model == NULL)
        return;
    if (model->memory != NULL)
        sl_free_pages(model->memory, model->plan.weight_bytes);
    sl_free(model);
}

const sl_model_config *sl_model_get_config(const sl_model *model)
{
    return &model->config;
}

const sl_model_plan *sl_model_get_plan(const sl_model *model)
{
    return &model->plan;
}

const sl_ops *sl_model_get_ops(const sl_model *model)
{
    return model->ops;
}
