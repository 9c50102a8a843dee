/* model/model_internal.h - a model in memory, as loading and the forward pass see it. */
#ifndef SL_MODEL_MODEL_INTERNAL_H
#define SL_MODEL_MODEL_INTERNAL_H

#include "model/model.h"

/* One layer; a NULL vector (or weight data) is a part that the architecture does not have. */
typedef struct sl_layer {
    sl_weight q, k, v;      /* [H D, hidden], [G D, hidden] twice */
    sl_weight out;          /* [hidden, H D] */
    sl_weight gate, up;     /* [ff, hidden] */
    sl_weight down;         /* [hidden, ff] */
    const float *attn_norm; /* [hidden] */
    const float *ffn_norm;  /* [hidden] */
    const float *post_attn; /* [hidden] */
    const float *post_ffn;  /* [hidden] */
    const float *q_norm;    /* [D] */
    const float *k_norm;    /* [D] */
    const float *q_bias;    /* [H D] */
    const float *k_bias;    /* [G D] */
    const float *v_bias;    /* [G D] */
} sl_layer;

typedef struct sl_rope {
    const float *inv_freq; /* [rope_dims / 2] */
    float scale;
} sl_rope;

struct sl_model {
    sl_model_config config;
    sl_model_plan plan;
    const sl_ops *ops;
    void *memory;    /* everything below lies in it; plan.weight_bytes */
    sl_weight embed; /* [vocab, hidden] */
    sl_weight head;  /* [vocab, hidden]; without data if the head is tied */
    const float *output_norm;
    bool codes_only;    /* no linear layer has F32, F16 or BF16 weights: see kernels.h, Numbers */
    sl_rope rope;       /* of layers that see everything */
    sl_rope rope_local; /* of the others, if they have a base of their own */
    sl_layer layer[SL_LAYERS_MAX];
};

/* A tensor of the file and its place in the model.  Of `weight` and `vector` one is set. */
typedef struct sl_bind_item {
    const sl_gguf_tensor *tensor;
    sl_weight *weight;
    const float **vector;
    uint32_t count; /* elements of the vector */
    size_t offset;  /* in the model's memory, a multiple of 64 */
    size_t bytes;
} sl_bind_item;

enum { SL_BIND_ITEMS_MAX = SL_LAYERS_MAX * 16 + 8 };

typedef struct sl_binding {
    uint32_t count;
    size_t bytes; /* of the model's memory, without the rope tables */
    sl_bind_item item[SL_BIND_ITEMS_MAX];
} sl_binding;

/* Find every tensor of the model in the file, check its shape, plan its place.  Fills the shapes
 * of the model's weights, allocates nothing.  model->config and ->ops are set. */
SL_MUST_CHECK sl_status sl_model_bind(const sl_gguf *g, sl_model *model, sl_binding *binding,
                                      sl_err *err);

/* Copy every bound tensor to its place (pointers are set), on `threads` threads. */
void sl_model_pack(const sl_model_load_args *args, const sl_binding *binding);

#endif
