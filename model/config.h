/* model/config.h - the shape of a model: one struct of values, filled from a file's metadata.
 *
 * An architecture is a row of a table (config.c): its name in files, and which of the features
 * below it has by definition; sizes come from the file.  The forward pass reads only this struct,
 * so a new dense architecture is a table entry.
 *
 * Architectures: llama (Llama 2/3.x, SmolLM2, Mistral), qwen2, qwen3, gemma3.
 *
 * Thread: any; a value. */
#ifndef SL_MODEL_CONFIG_H
#define SL_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/kernels.h"
#include "model/gguf.h"

enum {
    SL_LAYERS_MAX = 256,     /* layers of a model */
    SL_HIDDEN_MAX = 32768,   /* width of the residual stream */
    SL_FF_MAX = 131072,      /* width of the feed-forward layer */
    SL_VOCAB_MAX = 1 << 20,  /* rows of the embedding */
    SL_CONTEXT_MAX = 1 << 20 /* positions */
};

typedef enum sl_rope_scaling {
    SL_ROPE_NONE,
    SL_ROPE_LINEAR, /* angle / factor */
    SL_ROPE_YARN,
    SL_ROPE_LLAMA3 /* by rope_freqs.weight factors in the file */
} sl_rope_scaling;

typedef struct sl_layer_config {
    uint32_t window;      /* attention span in tokens; 0: everything */
    bool rope_local;      /* uses rope_local_base instead of rope_base (gemma3's local layers) */
    uint32_t chunk;       /* KV chunk of this layer */
    uint32_t chunk_layer; /* its index inside the chunk */
} sl_layer_config;

typedef struct sl_model_config {
    char arch[32];  /* "llama" */
    char name[128]; /* general.name, or the arch: what /v1/models shows if nothing else */
    uint32_t layer_count;
    uint32_t hidden;
    uint32_t ff;
    uint32_t heads;    /* query heads H */
    uint32_t kv_heads; /* G; H % G == 0 */
    uint32_t head_dim; /* D, of K and V alike */
    uint32_t vocab;    /* rows of the embedding table */
    uint32_t context;  /* positions the model was made for */

    float norm_eps;
    float embed_scale;   /* sqrt(hidden) for gemma3, else 1 */
    float attn_scale;    /* 1 / sqrt(D) unless the file says otherwise */
    float attn_softcap;  /* 0: none */
    float logit_softcap; /* 0: none */
    sl_act_fn act_fn;
    bool qkv_bias;   /* biases on Q, K, V */
    bool qk_norm;    /* RMS norm of each head of Q and K */
    bool post_norms; /* a norm after attention and after the feed-forward (gemma3) */
    bool tied_head;  /* the head is the embedding table */

    uint32_t rope_dims;
    bool rope_neox;
    float rope_base;
    float rope_local_base;
    sl_rope_scaling rope_scaling;
    float rope_factor;
    uint32_t rope_original_context;
    float rope_yarn_attn_factor, rope_yarn_ext_factor, rope_yarn_beta_fast, rope_yarn_beta_slow;

    uint32_t chunk_count;  /* KV chunks; all hold chunk_layers layers of one span */
    uint32_t chunk_layers; /* (the last chunk of a span may have unused places) */
    uint32_t chunk_window[SL_KV_CHUNKS_MAX]; /* span of each chunk; 0: everything */
    sl_layer_config layer[SL_LAYERS_MAX];
} sl_model_config;

/* Fill *out from a file.  Errors: SL_EUNSUPPORTED (an architecture that is not ours: the sentence
 * lists ours), SL_EFORMAT (a value is missing, out of range, or contradicts another: named). */
SL_MUST_CHECK sl_status sl_model_config_read(const sl_gguf *g, sl_model_config *out, sl_err *err);

/* Names of the architectures, NULL at the end. */
const char *const *sl_model_arch_names(void);

/* Rotary frequencies of a layer kind into inv_freq[rope_dims / 2], scaling applied, and the factor
 * on cos and sin into *scale.  `factors` is the file's rope_freqs.weight or NULL. */
void sl_model_rope_table(const sl_model_config *config, bool local, const float *factors,
                         float *inv_freq, float *scale);

#endif
