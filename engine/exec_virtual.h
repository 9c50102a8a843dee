/* engine/exec_virtual.h - a device that only takes time: for tests of everything above it.
 *
 * Time: a batch takes what `cost` says, with seeded noise; the clock moves only in wait.  Tokens:
 * each plane remembers which tokens were written into it, and after which; a sampled token is a
 * hash of the whole history as read back through the page table (and of the request's seed, so
 * that forks go different ways), so that any wrong page changes the output.  Two lanes run at the
 * same virtual time, slowed by `contention`.
 *
 * Speed on a part f of the units: prompts run at 1 - (1 - f)^2, decode steps at 1 - (1 - f)^4 of
 * the full rate: shapes fitted by eye to curves published for large GPUs (prompts need units,
 * decodes need bandwidth, which few units saturate).
 *
 * wait without a timeout sleeps for real if no batch is there to end, until sl_exec_wake.
 *
 * Deterministic: same seed, same calls, same results.  Thread: one (but for sl_exec_wake). */
#ifndef SL_ENGINE_EXEC_VIRTUAL_H
#define SL_ENGINE_EXEC_VIRTUAL_H

#include "engine/exec.h"

typedef struct sl_exec_virtual_options {
    uint32_t units;      /* >= 1 */
    uint32_t rung_count; /* 0: all/0, every split, 0/all */
    sl_rung rung[SL_RUNGS_MAX];
    uint32_t layers;
    uint32_t vocab; /* sampled tokens are below this */
    uint32_t chunk_count;
    uint32_t chunk_window[SL_KV_CHUNKS_MAX]; /* 0: everything; else >= 2 */
    uint32_t plane_count;
    uint32_t rows_max;
    uint32_t logit_rows_max;
    uint64_t seed;
    double step_us;          /* a decode step on all units: fixed part */
    double token_us;         /* and per sequence */
    double prefill_token_us; /* a prompt token on all units, all layers */
    double noise;            /* relative standard deviation of times */
    double contention;       /* factor on times while both lanes run, >= 1 */
    uint64_t fail_every;     /* every n-th batch fails with SL_EINTERNAL; 0: never */
} sl_exec_virtual_options;

/* Errors: SL_EINVAL, SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_exec_virtual_create(const sl_exec_virtual_options *options,
                                               sl_exec **out, sl_err *err);

/* Move the clock (arrivals between events); asserts that time does not go back. */
void sl_exec_virtual_set_now(sl_exec *exec, uint64_t now_us);
/* When the next batch ends, or UINT64_MAX. */
uint64_t sl_exec_virtual_next_us(sl_exec *exec);

/* Reads of the KV that found nothing, or something else than belongs there; and batches that went
 * on where no batch had ended.  0 unless the caller is wrong. */
uint64_t sl_exec_virtual_faults(sl_exec *exec);

/* What a sequence with this history gives next: the oracle of tests.  `seed` is that of the
 * request's sampling parameters; 0 (or no sampler): plain. */
uint32_t sl_exec_virtual_token(const uint32_t *history, uint32_t count, uint32_t vocab);
uint32_t sl_exec_virtual_seeded_token(const uint32_t *history, uint32_t count, uint32_t vocab,
                                      uint64_t seed);

#endif
