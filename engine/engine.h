/* engine/engine.h - the engine thread: it owns the device, the scheduler's state, the KV cache and
 * the slots that run.
 *
 * One loop: take submissions and cancels, collect finished batches (tokens out, pages advanced),
 * build the scheduler's view, decide, act on the plan (admit, preempt, submit), then sleep until a
 * batch ends or a message comes.  It plans the next step while the present one runs on the other
 * lane.  It never touches a socket, JSON or text, and allocates nothing after create.
 *
 * Thread: create, start, stop, destroy: the main (loop) thread.  stats: any. */
#ifndef SL_ENGINE_ENGINE_H
#define SL_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/exec.h"
#include "engine/mailbox.h"
#include "scheduler/policy.h"

typedef struct sl_engine sl_engine;

typedef struct sl_engine_options {
    sl_exec *exec;                 /* borrowed until destroy */
    sl_mailbox *mailbox;           /* borrowed until destroy */
    const sl_model_config *config; /* borrowed: layers, chunks, windows, vocabulary */
    uint32_t vocab_used;           /* token ids that exist; logits beyond are padding */
    uint32_t seqs_max;             /* sequences at once, 1 .. SL_SCHED_RUNNING_MAX */
    uint32_t context_max;          /* tokens of one sequence; a whole one must fit into the cache */
    uint32_t queue_max;            /* waiting requests, 1 .. SL_SCHED_WAITING_MAX */
    sl_sched_policy policy;
    uint32_t slice_target_us; /* see sl_sched_view */
    uint32_t step_target_us;
    uint32_t chunk_tokens;
    bool prefix_caching;
    uint64_t name_space;      /* hash of the model file, for the prefix index */
    uint32_t preemptions_max; /* of one request; beyond, it fails with SL_EFULL */
    /* NULL: sl_sched_decide.  Tests and replays give their own. */
    void (*decide)(const sl_sched_view *view, sl_sched_plan *plan);
} sl_engine_options;

/* Errors: SL_EINVAL (an option is out of range, or a whole context does not fit), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_engine_create(const sl_engine_options *options, sl_engine **out,
                                         sl_err *err);
/* The engine must have ended.  NULL is allowed. */
void sl_engine_destroy(sl_engine *engine);

/* Run the loop on a thread of its own / wait for its end after sl_mailbox_shutdown. */
SL_MUST_CHECK sl_status sl_engine_start(sl_engine *engine);
void sl_engine_join(sl_engine *engine);

/* Run the loop on this thread until shutdown: tests and virtual time.  sl_engine_turn does one
 * round without sleeping (false: nothing runs or waits). */
void sl_engine_run(sl_engine *engine);
bool sl_engine_turn(sl_engine *engine);

/* Counters and gauges, written by the engine, read by anyone (relaxed). */
enum { SL_HIST_BUCKETS = 24 };

/* name, text for /metrics */
#define SL_ENGINE_COUNTERS(X)                                                                      \
    X(requests_admitted, "Requests admitted to the running set.")                                  \
    X(requests_done, "Requests that ended with an answer.")                                        \
    X(requests_failed, "Requests that ended with an error.")                                       \
    X(requests_cancelled, "Requests whose client went away.")                                      \
    X(prompt_tokens, "Prompt tokens of admitted requests, cached ones included.")                  \
    X(prompt_tokens_cached, "Prompt tokens found in the prefix cache.")                            \
    X(prompt_tokens_computed, "Prompt tokens computed, recomputation included.")                   \
    X(generation_tokens, "Tokens generated.")                                                      \
    X(preemptions, "Sequences that gave their pages back to others.")                              \
    X(steps, "Decode steps, mixed ones included.")                                                 \
    X(slices, "Prefill slices, those in mixed steps included.")                                    \
    X(decide_us, "Microseconds spent in the scheduler.")                                           \
    X(decides, "Decisions of the scheduler.")                                                      \
    X(evicted_pages, "Cached pages that were evicted.")                                            \
    X(progress, "Batches that ended: grows while the engine works.")

typedef struct sl_engine_stats {
#define SL_ENGINE_COUNTER_FIELD(name, text) atomic_ullong name;
    SL_ENGINE_COUNTERS(SL_ENGINE_COUNTER_FIELD)
#undef SL_ENGINE_COUNTER_FIELD
    atomic_ullong state_us[SL_STATE_COUNT]; /* residency: time spent in each state ... */
    atomic_ullong state_mark_us; /* ... until then; since, the present state goes on */
    atomic_uint queued;                     /* gauges */
    atomic_uint prefilling;
    atomic_uint decoding;
    atomic_uint planes_total;
    atomic_uint planes_free;
    atomic_uint planes_evictable;
    atomic_uint state; /* sl_sched_state */
    atomic_uint rung;
} sl_engine_stats;

const sl_engine_stats *sl_engine_get_stats(const sl_engine *engine);

#endif
