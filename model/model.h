/* model/model.h - a model in memory: its weights, packed for one backend, and its forward pass.
 *
 * Load: plan (sizes, before anything is allocated) -> allocate once -> pack in parallel.
 * Forward: one function, over the table of operations; see kernels/kernels.h for how several
 * threads run it together.
 *
 * Lifetimes: the weight file may be closed after load. */
#ifndef SL_MODEL_MODEL_H
#define SL_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/gguf.h"

typedef struct sl_model sl_model;

/* What a model will take, known before it is loaded. */
typedef struct sl_model_plan {
    size_t weight_bytes;      /* packed weights, all of them */
    size_t kv_plane_bytes;    /* one plane */
    size_t kv_bytes_per_page; /* one page of 64 tokens, all chunks, tier F16 */
} sl_model_plan;

/* Errors: as sl_model_config_read; SL_EUNSUPPORTED (the backend cannot hold a tensor);
 * SL_EFORMAT (a tensor is missing or has another shape than the config says: named, with both). */
SL_MUST_CHECK sl_status sl_model_plan_read(const sl_gguf *g, const sl_ops *ops,
                                           sl_model_config *config, sl_model_plan *plan,
                                           sl_err *err);

/* Called from the loading thread now and then: bytes packed so far, of all. */
typedef void (*sl_model_progress)(size_t done_bytes, size_t all_bytes, void *user);

typedef struct sl_model_load_args {
    const sl_gguf *file;
    const sl_ops *ops;
    uint32_t threads;           /* that pack; 0: all cores */
    sl_model_progress progress; /* may be NULL */
    void *user;
} sl_model_load_args;

/* Allocate and pack.  On success *out is the caller's.  Errors: as the plan; SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_model_load(const sl_model_load_args *args, sl_model **out, sl_err *err);
void sl_model_destroy(sl_model *model);

const sl_model_config *sl_model_get_config(const sl_model *model);
const sl_model_plan *sl_model_get_plan(const sl_model *model);
const sl_ops *sl_model_get_ops(const sl_model *model);

/* --- the forward pass -------------------------------------------------------------------- */

/* One sequence's tokens in a batch. */
typedef struct sl_forward_seq {
    uint32_t row_first; /* rows of the batch that are its tokens */
    uint32_t row_count;
    uint32_t position;                    /* of its first row */
    const sl_kv_page *const *chunk_pages; /* [chunk_count] page tables, see sl_attn_seq */
} sl_forward_seq;

/* Working memory for batches of up to rows_max rows and logit_rows_max logit rows: one block, laid
 * out by sl_forward_space_init; what lives from layer to layer is in `x`. */
typedef struct sl_forward_space {
    uint32_t rows_max;
    uint32_t logit_rows_max;
    uint32_t seqs_max;
    uint32_t members;
    float *x; /* [rows_max, hidden] the residual stream: kept between layer ranges */
    float *q, *k, *v, *gate, *up;
    float *sub;            /* [rows_max, hidden] what a sub-layer gives, before its norm (gemma3) */
    void *act;             /* prepared rows of the widest layer input */
    float *logits;         /* [logit_rows_max, vocab] */
    sl_attn_seq *attn_seq; /* [members][seqs_max]: each member of the team fills its own */
} sl_forward_space;

/* Bytes for such a block; `members` of the largest team that will use it. */
size_t sl_forward_space_bytes(const sl_model *model, uint32_t rows_max, uint32_t logit_rows_max,
                              uint32_t seqs_max, uint32_t members);
/* Lay *space out over `memory` (64-byte aligned, that many bytes, borrowed). */
void sl_forward_space_init(const sl_model *model, uint32_t rows_max, uint32_t logit_rows_max,
                           uint32_t seqs_max, uint32_t members, void *memory,
                           sl_forward_space *space);

typedef struct sl_forward_args {
    const sl_model *model;
    const sl_kv_store *kv;
    sl_forward_space *space;
    const uint32_t *token; /* [rows] */
    uint32_t rows;
    const sl_forward_seq *seq;
    uint32_t seq_count;
    uint32_t layer_first;      /* layers [layer_first, layer_end): 0 embeds first; */
    uint32_t layer_end;        /* layer_count also computes the logits */
    const uint32_t *logit_row; /* rows of the batch whose logits are wanted, in this order */
    uint32_t logit_row_count;  /* 0 .. space->logit_rows_max */
} sl_forward_args;

/* Run the layers over the rows.  KV of these layers is appended to the pages; space->x holds the
 * residual stream afterwards; with layer_end == layer_count, space->logits[i] is the logits of
 * logit_row[i].  Called by every member of the stream's team with equal arguments; when it returns,
 * all results are visible to all members.
 * Errors: SL_EINVAL (batch larger than the space; a token outside the vocabulary). */
SL_MUST_CHECK sl_status sl_model_forward(const sl_forward_args *args, sl_stream *stream);

/* Scratch that one member needs for any batch of this model. */
size_t sl_model_scratch_bytes(const sl_model *model);

#endif
