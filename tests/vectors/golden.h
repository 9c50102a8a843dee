/* tests/vectors/golden.h - golden files: a text's tokens, and for some positions the likeliest next
 * tokens with their log-probabilities, from an independent fp32 evaluation (README.md). */
#ifndef SL_TESTS_VECTORS_GOLDEN_H
#define SL_TESTS_VECTORS_GOLDEN_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "model/gguf.h"

enum { SL_GOLDEN_TOKENS_MAX = 512, SL_GOLDEN_POSITIONS = 16, SL_GOLDEN_TOP = 64 };

typedef struct sl_golden {
    uint32_t token_count;
    uint32_t token[SL_GOLDEN_TOKENS_MAX];
    uint32_t position[SL_GOLDEN_POSITIONS]; /* in the second half of the tokens */
    uint32_t id[SL_GOLDEN_POSITIONS][SL_GOLDEN_TOP];
    float log_p[SL_GOLDEN_POSITIONS][SL_GOLDEN_TOP];
} sl_golden;

/* How far a model may be, over the tokens that the file lists. */
typedef struct sl_golden_bounds {
    double mean_kl; /* mean over positions */
    double max_kl;  /* at any position */
    double rms;     /* of the differences of log-probabilities: it sees unlikely tokens too */
} sl_golden_bounds;

/* Run a model over the tokens of tests/vectors/<name>.golden with a team of two, and hold it to the
 * bounds: cmocka assertions. */
void sl_golden_check(const char *name, const sl_gguf *g, const sl_ops *ops,
                     sl_golden_bounds bounds);

#endif
