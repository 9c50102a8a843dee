/* bench/engine.h - `sluice bench engine`: how fast the engine is, without a network.
 *
 * The real engine thread, scheduler, cache and CPU exec serve synthetic requests of random tokens
 * through the mailbox; times are the engine's own stamps of each token.
 *   prefill    a prompt alone, from submission to its first token
 *   decode B   B streams at once, 128-token prompts; only the time when all B run counts
 *
 * Thread: the caller's; it starts the engine's threads itself and joins them. */
#ifndef SL_BENCH_ENGINE_H
#define SL_BENCH_ENGINE_H

#include <stdint.h>

#include "base/status.h"
#include "model/model.h"

enum { SL_BENCH_BATCHES_MAX = 16 };

typedef struct sl_bench_engine_options {
    const sl_model *model;
    uint32_t threads; /* 0: all cores */
    uint32_t prompt_tokens;
    uint32_t steps; /* decode steps measured */
    uint32_t repeats;
    uint32_t batch[SL_BENCH_BATCHES_MAX];
    uint32_t batch_count;
} sl_bench_engine_options;

typedef struct sl_bench_rate {
    double median, min, max; /* tokens per second over the repeats */
} sl_bench_rate;

typedef struct sl_bench_engine_result {
    sl_bench_rate prefill;
    sl_bench_rate decode[SL_BENCH_BATCHES_MAX]; /* aggregate of the batch */
    uint32_t units;
} sl_bench_engine_result;

/* Errors: SL_EINVAL (a length does not fit the model's context), SL_ENOMEM, SL_EUNAVAILABLE. */
SL_MUST_CHECK sl_status sl_bench_engine(const sl_bench_engine_options *options,
                                        sl_bench_engine_result *out, sl_err *err);

#endif
