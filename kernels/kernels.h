/* kernels/kernels.h - the one table of operations, and their arguments.
 *
 * A backend (ref, cpu, cuda) is one `sl_ops`: function pointers with the same meaning everywhere.
 * model/ writes the forward pass once over this table.  kernels/ref/ holds the twin of every row:
 * plain loops, fp32 storage, double sums; the tests trust it and nothing else.
 *
 * Execution.  Every operation takes an `sl_stream`.  On the CPU a stream is one member of a team
 * (kernels/team.h): all members call the same operations in the same order with the same
 * arguments; each does its share and meets the others at the barrier that ends every operation.
 * So when an operation returns, its results are visible to every member.  On CUDA a stream is a
 * queue, and an operation returns once it is launched.
 *
 * Same bits whatever the batch.  A result depends only on its own row's inputs: sums run over K
 * (or over keys, page by page) in one fixed order, whoever computes them and however many other
 * rows there are.  Tests hold this for every operation.
 *
 * Numbers.  Activations between operations are fp32 rows on the CPU.  The input of a linear layer
 * is a *prepared* row: the backend's own form (ref: fp32; cpu: 8-bit blocks with scale and sum),
 * made once per layer input by norm, glu, attention or prepare, `act_bytes(K)` bytes a row.  A
 * prepared row serves weights of every dtype.  `codes_only` is a promise that no weight of dtype
 * F32, F16 or BF16 will meet these rows: a backend that keeps floats beside its codes for them need
 * not write those (false is always right, true is a few per cent faster in prefill).
 *
 * Letters: n rows of a batch (tokens), K inputs, N outputs of a linear layer; H query heads, G KV
 * heads, D head dimension.  All matrices are row-major and dense unless a stride is given.
 *
 * Errors: operations return SL_EINVAL for shapes they cannot do (a programmer's or a model's
 * fault, found when the model is loaded); every member of a team returns the same status.  Empty
 * work is SL_OK. */
#ifndef SL_KERNELS_KERNELS_H
#define SL_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "quant/dtype.h"
#include "quant/kvpage.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sl_stream sl_stream;

enum {
    SL_LINEAR_PARTS_MAX = 3, /* weights that may share one input in one linear call */
    SL_HEAD_DIM_MAX = 256
};

/* --- weights ----------------------------------------------------------------------------- */

/* A matrix [rows = N, cols = K] in the backend's own layout.  The owner of the bytes is the
 * model.  A backend gets at its layout through `kind`, which it sets in weight_plan. */
typedef struct sl_weight {
    sl_dtype dtype; /* of the file: what the values are */
    uint32_t kind;  /* of the backend: how they lie in `data` */
    uint32_t rows;
    uint32_t cols;
    size_t bytes; /* of `data` */
    void *data;   /* 64-byte aligned; NULL: no such weight in this model */
} sl_weight;

/* --- KV pages ---------------------------------------------------------------------------- */

/* Where the planes are (quant/kvpage.h has the tiers).  Every chunk has chunk_layers layers.
 * In tier F16 a plane holds, for its 16 tokens, [chunk_layers][G] blocks of 16 * D halves; the
 * order inside a block is the backend's own (cpu: K as [D][16], V as [16][D]). */
typedef struct sl_kv_store {
    uint8_t *planes; /* plane p begins at p * plane_bytes; 64-byte aligned */
    size_t plane_bytes;
    uint32_t chunk_layers;
    uint32_t kv_heads;
    uint32_t head_dim;
} sl_kv_store;

/* One sequence's tokens in a batch, for the operations that know about sequences.  The batch's
 * rows row_first .. row_first + row_count are its tokens at positions position .. .  `pages` is
 * the page table of the chunk of the layer at hand: entry i holds positions [64 i, 64 i + 64);
 * entries wholly before the attention window may be SL_PLANE_NONE. */
typedef struct sl_attn_seq {
    uint32_t row_first;
    uint32_t row_count;
    uint32_t position;
    const sl_kv_page *pages;
} sl_attn_seq;

/* --- arguments --------------------------------------------------------------------------- */

/* x[i, :] = scale * table[token[i], :].  table is a weight [vocab, K] as packed by weight_pack: the
 * same that serves as the head, if that is tied. */
typedef struct sl_embed_args {
    float *x; /* [n, K] */
    const sl_weight *table;
    const uint32_t *token; /* [n], each < table->rows */
    uint32_t n;
    float scale;
} sl_embed_args;

/* y = x * rsqrt(mean(x^2) + eps) * w, per row, then prepared for a linear layer into `act` and/or
 * stored as fp32 into `y`.  One of act, y may be NULL.  With `accumulate`,
 * y[i] += norm(x[i]) (gemma's norm after a sub-layer adds to the residual); then act must be NULL.
 */
typedef struct sl_norm_args {
    void *act;      /* [n] prepared rows of K, or NULL */
    float *y;       /* [n, K], or NULL; may be x */
    const float *x; /* [n, K] */
    const float *w; /* [K] */
    uint32_t n;
    uint32_t cols;
    float eps;
    bool accumulate; /* y += instead of y = */
    bool codes_only; /* see "Numbers" above */
} sl_norm_args;

/* act[i] = prepared form of x[i, :]. */
typedef struct sl_prepare_args {
    void *act;
    const float *x; /* [n, K] */
    uint32_t n;
    uint32_t cols;
    bool codes_only; /* see "Numbers" above */
} sl_prepare_args;

/* For each part p: y_p[i, j] (+)= sum_k w_p[j, k] * x[i, k] + bias_p[j].  All parts share the
 * prepared input.  `row` (may be NULL) picks rows of the input: output row i uses input row
 * row[i] (the head needs only the last token of each sequence). */
typedef struct sl_linear_part {
    const sl_weight *w;
    const float *bias; /* [N], or NULL */
    float *y;          /* [n, y_stride] */
    uint32_t y_stride; /* >= N */
    bool accumulate;   /* y += (the residual) instead of y = */
} sl_linear_part;

typedef struct sl_linear_args {
    sl_linear_part part[SL_LINEAR_PARTS_MAX];
    uint32_t part_count;
    const void *act; /* prepared rows */
    const uint32_t *row;
    uint32_t n;
    uint32_t cols;
    float softcap; /* > 0: y = softcap * tanh(y / softcap), for the head only */
} sl_linear_args;

/* Per row: optional RMS norm of each head of q and k (weights [D]), rotary embedding of both, then
 * K and V go to their place in the pages (beyond the range of a half: as the largest half).  q is
 * changed in place.
 *
 * Rotary: pairs (j, j + D/2) if neox, else (2j, 2j + 1), over the first rope_dims dimensions;
 * angle = position * inv_freq[j]; cos and sin times `rope_scale` (yarn's factor, usually 1). */
typedef struct sl_rope_append_args {
    float *q;       /* [n, q_stride], H heads of D */
    const float *k; /* [n, kv_stride], G heads of D */
    const float *v; /* [n, kv_stride] */
    uint32_t q_stride;
    uint32_t kv_stride;
    const float *q_norm; /* [D], or NULL */
    const float *k_norm; /* [D], or NULL */
    float norm_eps;
    const float *inv_freq; /* [rope_dims / 2] */
    uint32_t rope_dims;
    float rope_scale;
    bool neox;
    const sl_kv_store *kv;
    uint32_t chunk_layer; /* the layer's index inside its chunk */
    uint32_t heads;       /* H */
    const sl_attn_seq *seq;
    uint32_t seq_count;
    uint32_t n;
} sl_rope_append_args;

/* Causal attention over pages.  Row i at position p of its sequence sees the keys at positions
 * max(0, p - window + 1) .. p (window 0: all of them).
 *   s_t = scale * (q . k_t), s = softcap * tanh(s / softcap) if softcap > 0, y = softmax(s) V.
 * Keys are taken page by page, in order, with an online softmax: the order is fixed by positions
 * alone.  Output heads are stored as fp32 into y (may be NULL) and prepared into act (may be NULL),
 * a row being H * D wide. */
typedef struct sl_attention_args {
    float *y;       /* [n, H * D], or NULL */
    void *act;      /* [n] prepared rows of H * D, or NULL */
    const float *q; /* [n, q_stride] */
    uint32_t q_stride;
    const sl_kv_store *kv;
    uint32_t chunk_layer;
    uint32_t heads;
    float scale;
    float softcap;
    uint32_t window;
    const sl_attn_seq *seq;
    uint32_t seq_count;
    uint32_t n;
    bool codes_only; /* see "Numbers" above */
} sl_attention_args;

typedef enum sl_act_fn { SL_ACT_SILU, SL_ACT_GELU_TANH } sl_act_fn;

/* act[i] = prepared form of fn(gate[i, :]) * up[i, :]. */
typedef struct sl_glu_args {
    void *act;
    const float *gate; /* [n, stride] */
    const float *up;   /* [n, stride] */
    uint32_t stride;
    uint32_t n;
    uint32_t cols;
    sl_act_fn fn;
    bool codes_only; /* see "Numbers" above */
} sl_glu_args;

/* Copy whole planes: dst[i] = src[i], for copy on write. */
typedef struct sl_plane_copy_args {
    const sl_kv_store *kv;
    const uint32_t *dst;
    const uint32_t *src;
    uint32_t count;
} sl_plane_copy_args;

/* --- the table --------------------------------------------------------------------------- */

typedef struct sl_ops {
    const char *name; /* "ref", "cpu-avx2", ... : what logs and benches print */

    /* Bytes of a prepared row of `cols` elements, a multiple of 64. */
    size_t (*act_bytes)(uint32_t cols);

    /* Fill w->kind and w->bytes for a matrix of this dtype and shape; touches nothing else.
     * Errors: SL_EUNSUPPORTED (this backend cannot hold it; err says why). */
    sl_status (*weight_plan)(sl_weight *w, sl_err *err);
    /* Pack rows [row_first, row_first + row_count) of the file's row-major blocks (`src` is row
     * row_first) into w->data.  row_first is a multiple of 64, row_count too but for the last
     * call.  Lossless: the packed values are the file's.  Different ranges may be packed by
     * different threads at once. */
    void (*weight_pack)(const sl_weight *w, const void *src, uint32_t row_first,
                        uint32_t row_count);

    sl_status (*embed)(const sl_embed_args *a, sl_stream *stream);
    sl_status (*norm)(const sl_norm_args *a, sl_stream *stream);
    sl_status (*prepare)(const sl_prepare_args *a, sl_stream *stream);
    sl_status (*linear)(const sl_linear_args *a, sl_stream *stream);
    sl_status (*rope_append)(const sl_rope_append_args *a, sl_stream *stream);
    sl_status (*attention)(const sl_attention_args *a, sl_stream *stream);
    sl_status (*glu)(const sl_glu_args *a, sl_stream *stream);
    sl_status (*plane_copy)(const sl_plane_copy_args *a, sl_stream *stream);

    /* Bytes of scratch that one member of a team needs at most for these shapes (attention tiles,
     * partial sums); the stream's owner provides it. */
    size_t (*scratch_bytes)(uint32_t heads, uint32_t kv_heads, uint32_t head_dim,
                            uint32_t cols_max);
} sl_ops;

/* The twins: any CPU, slow, trusted. */
const sl_ops *sl_ops_ref(void);

/* The fastest CPU table for this machine's features; NULL if it has none of them (then the twins
 * are what there is).  `features` (may be NULL) gets a static sentence: what was found and picked.
 */
const sl_ops *sl_ops_cpu(const char **features);

/* The plainest of the fast CPU tables (AVX2), whatever else the machine has: for tests and
 * comparisons.  Every fast CPU table has its layouts and its bits.  NULL without AVX2. */
const sl_ops *sl_ops_cpu_avx2(void);

#ifdef __cplusplus
}
#endif

#endif
