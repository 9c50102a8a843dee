/* tests/support/rig.h - a model that runs: weights, cache planes, page tables, a team.
 *
 * For tests and tools that want the forward pass without the engine.  Every sequence has all its
 * pages from the start; which planes they are is shuffled, so that nobody can rely on an order. */
#ifndef SL_TESTS_SUPPORT_RIG_H
#define SL_TESTS_SUPPORT_RIG_H

#include <stdint.h>

#include "model/model.h"

typedef struct sl_rig {
    sl_model *model;
    sl_kv_store kv;
    sl_forward_space space;
    uint32_t seqs;
    uint32_t pages;   /* of each sequence */
    uint32_t members; /* of the team */
    size_t planes_bytes;
    void *memory; /* of the space */
    size_t memory_bytes;
    uint8_t *scratch; /* [members] blocks of scratch_bytes */
    size_t scratch_bytes;
    sl_kv_page *page;         /* [seqs][chunks][pages] */
    const sl_kv_page **table; /* [seqs][chunks] */
} sl_rig;

typedef struct sl_rig_options {
    const sl_gguf *file;
    const sl_ops *ops;
    uint32_t seqs;
    uint32_t positions; /* of each sequence */
    uint32_t rows_max;
    uint32_t logit_rows_max;
    uint32_t members; /* 0: one */
} sl_rig_options;

SL_MUST_CHECK sl_status sl_rig_init(sl_rig *rig, const sl_rig_options *options, sl_err *err);
void sl_rig_done(sl_rig *rig);

/* The entry of page `page` of a sequence in a chunk. */
sl_kv_page *sl_rig_page(sl_rig *rig, uint32_t seq, uint32_t chunk, uint32_t page);

/* The page tables of a sequence, for sl_forward_seq. */
const sl_kv_page *const *sl_rig_tables(const sl_rig *rig, uint32_t seq);

/* Let the first `pages` pages of `seq` be those of `from`. */
void sl_rig_share(sl_rig *rig, uint32_t seq, uint32_t from, uint32_t pages);

/* Fill all planes with a byte (0xFF: every half is a NaN). */
void sl_rig_fill(sl_rig *rig, uint8_t byte);

/* Run the pass with the whole team; args->model, kv and space are set here. */
SL_MUST_CHECK sl_status sl_rig_forward(sl_rig *rig, sl_forward_args args);

/* Feed token[0..count) of sequence `seq` from `position` on, at most `step` rows at a time; all
 * logits go to logits[count][vocab] (NULL: none are computed). */
SL_MUST_CHECK sl_status sl_rig_feed(sl_rig *rig, uint32_t seq, uint32_t position,
                                    const uint32_t *token, uint32_t count, uint32_t step,
                                    float *logits);

#endif
