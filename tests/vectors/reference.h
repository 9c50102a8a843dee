/* tests/vectors/reference.h - read a file of reference log-probabilities, and compare with it.
 *
 * The file (llama-perplexity --save-all-logits; layout found by looking at its bytes):
 *     "_logits_", i32 n_ctx, i32 vocab, i32 chunks, i32 token[chunks * n_ctx]
 *     for each chunk, for each position n_ctx / 2 .. n_ctx - 2:
 *         f32 scale, f32 min, u16 code[vocab rounded up to even]
 * where log p of token i is scale * code[i] + min.  The codes reach 16 below the largest
 * log-probability; what is smaller has code 0, which therefore says nothing. */
#ifndef SL_TESTS_VECTORS_REFERENCE_H
#define SL_TESTS_VECTORS_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct sl_reference {
    const uint8_t *map; /* the whole file */
    size_t bytes;
    uint32_t n_ctx;
    uint32_t vocab;
    uint32_t chunks;
    const int32_t *token; /* [chunks][n_ctx] */
} sl_reference;

SL_MUST_CHECK sl_status sl_reference_open(const char *path, sl_reference *out, sl_err *err);
void sl_reference_close(sl_reference *r);

/* Positions of a chunk that the file has: the first of them, and how many. */
uint32_t sl_reference_first(const sl_reference *r);
uint32_t sl_reference_count(const sl_reference *r);

/* Log-probabilities of the i-th of them, as floats; -INFINITY where the file says nothing. */
void sl_reference_row(const sl_reference *r, uint32_t chunk, uint32_t i, float *log_p);

/* KL divergence of softmax(logits) from `log_p`, in nats, both normalised over the tokens that
 * log_p knows (which makes it a true divergence: never negative).  *same_top: the token that is
 * the likeliest by `logits` has the highest log_p too. */
double sl_reference_kl(const float *log_p, const float *logits, uint32_t vocab, int *same_top);

#endif
