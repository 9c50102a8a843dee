/* engine/exec.h - the device, as the engine thread sees it: submit, poll, wait.
 *
 * Three implementations behind one struct of functions: cpu (lanes are teams of threads), virtual
 * (takes the time a model says and hashes the true token history into tokens), cuda (a plug-in).
 *
 * A *lane* is an in-order queue bound to a set of units; the units of the two lanes on one rung are
 * disjoint.  A submitted batch runs on its lane's units of the given rung; it may begin while a
 * batch of another rung still ends on some of them (then it waits for those units).
 *
 * Rules.
 * 1. Everything a batch points to stays as it is until its fence is done.
 * 2. Batches of one lane run in order; batches of different lanes may run at the same time, so they
 *    must not hold the same sequence.
 * 3. A batch of layers [a, b), 0 < a, goes on where the batch of [.., a) of the same rows and the
 *    same `space` ended; meanwhile no other batch may use that space.
 * 4. A failed batch leaves the KV of its rows undefined; the lane goes on with the next one.
 * 5. At most SL_EXEC_QUEUE_MAX batches of a lane are unfinished at a time, and a fence is polled to
 *    its end before SL_EXEC_QUEUE_MAX more batches of its lane are submitted.
 * 6. A batch without rows only copies planes.
 * 7. A row whose logits hold no number fails alone: its sample's token is SL_TOKEN_NONE.
 *
 * Thread: engine only, but for sl_exec_wake (any thread). */
#ifndef SL_ENGINE_EXEC_H
#define SL_ENGINE_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/sampler.h"
#include "model/model.h"
#include "scheduler/policy.h"

#define SL_TOKEN_NONE UINT32_MAX

typedef enum sl_lane { SL_LANE_PREFILL, SL_LANE_DECODE, SL_LANE_COUNT } sl_lane;

enum {
    SL_EXEC_QUEUE_MAX = 4, /* unfinished batches of a lane */
    SL_EXEC_SPACES_MAX = 8 /* activation spaces */
};

typedef struct sl_exec_caps {
    const char *name;    /* "cpu-avx2", "virtual", ... */
    uint32_t units;      /* what the gate divides */
    uint32_t rung_count; /* >= 2; from all/0 to 0/all */
    sl_rung rung[SL_RUNGS_MAX];
    uint32_t space_count;    /* spaces 0 .. n-1; the last one is meant for decode steps */
    uint32_t rows_max;       /* rows of one batch */
    uint32_t logit_rows_max; /* sampled rows of one batch */
    size_t plane_bytes;
    uint32_t plane_count;
} sl_exec_caps;

/* One submitted piece of work.  Arrays are borrowed until the fence is done. */
typedef struct sl_exec_batch {
    uint32_t space; /* which activation space it uses */
    uint32_t layer_first, layer_end;
    const uint32_t *token; /* [rows] */
    uint32_t rows;
    const sl_forward_seq *seq;
    uint32_t seq_count;
    const uint32_t *logit_row;  /* rows to sample from (only with layer_end == layers) */
    sl_sampler *const *sampler; /* [logit_row_count] */
    sl_sample *sample;          /* [logit_row_count] results, written before the fence is done */
    uint32_t logit_row_count;
    const uint32_t *copy_dst; /* planes to copy first (copy on write) */
    const uint32_t *copy_src;
    uint32_t copy_count;
} sl_exec_batch;

typedef struct sl_fence {
    sl_lane lane;
    uint64_t number; /* counts a lane's batches from 1 */
} sl_fence;

typedef struct sl_exec sl_exec;

/* The plain ladder over `units` (>= 1): all/0, (n-1)/1, ... 1/(n-1), 0/all; with more units than
 * SL_RUNGS_MAX - 1, evenly spaced ones of these.  Returns how many rungs, at least 2. */
uint32_t sl_exec_make_ladder(uint32_t units, sl_rung rung[SL_RUNGS_MAX]);

/* Units of a lane on a rung. */
static inline uint32_t sl_exec_lane_units(const sl_exec_caps *caps, sl_lane lane, uint32_t rung)
{
    return lane == SL_LANE_PREFILL ? caps->rung[rung].prefill_units : caps->rung[rung].decode_units;
}

/* What every implementation checks at submit.  `layers` of the model.  Errors: SL_EINVAL (larger
 * than the caps, no such rung, space or layers, or a lane without units). */
SL_MUST_CHECK sl_status sl_exec_check_batch(const sl_exec_caps *caps, uint32_t layers, sl_lane lane,
                                            uint32_t rung, const sl_exec_batch *batch);

/* What an implementation provides; `self` is its own state. */
typedef struct sl_exec_class {
    const sl_exec_caps *(*caps)(const sl_exec *exec);
    sl_status (*submit)(sl_exec *exec, sl_lane lane, uint32_t rung, const sl_exec_batch *batch,
                        sl_fence *fence);
    bool (*poll)(sl_exec *exec, sl_fence fence, sl_status *result, uint32_t *busy_us);
    void (*wait)(sl_exec *exec, uint64_t timeout_us);
    void (*wake)(sl_exec *exec);
    uint64_t (*now_us)(sl_exec *exec);
    void (*destroy)(sl_exec *exec);
} sl_exec_class;

struct sl_exec {
    const sl_exec_class *class; /* first member of every implementation's struct */
};

static inline const sl_exec_caps *sl_exec_get_caps(const sl_exec *exec)
{
    return exec->class->caps(exec);
}

/* Queue a batch.  Errors: SL_EINVAL (larger than the caps), SL_EFULL (rule 5). */
SL_MUST_CHECK static inline sl_status sl_exec_submit(sl_exec *exec, sl_lane lane, uint32_t rung,
                                                     const sl_exec_batch *batch, sl_fence *fence)
{
    return exec->class->submit(exec, lane, rung, batch, fence);
}

/* Has it ended?  Then *result is its status and *busy_us how long its units worked on it (waiting
 * for units not counted); all its results are visible. */
static inline bool sl_exec_poll(sl_exec *exec, sl_fence fence, sl_status *result, uint32_t *busy_us)
{
    return exec->class->poll(exec, fence, result, busy_us);
}

/* Sleep until some batch ends, sl_exec_wake is called, or the time is over.  May return early.
 * Virtual: moves the virtual clock to the next event. */
static inline void sl_exec_wait(sl_exec *exec, uint64_t timeout_us)
{
    exec->class->wait(exec, timeout_us);
}

static inline void sl_exec_wake(sl_exec *exec)
{
    exec->class->wake(exec);
}

/* The clock that goes with this device: monotonic, or virtual. */
static inline uint64_t sl_exec_now_us(sl_exec *exec)
{
    return exec->class->now_us(exec);
}

/* All batches must have ended.  NULL is allowed. */
static inline void sl_exec_destroy(sl_exec *exec)
{
    if (exec != NULL)
        exec->class->destroy(exec);
}

#endif
