/* engine/engine_internal.h - what the files of the engine share.
 *
 *   engine.c          create, the loop, messages
 *   engine_slots.c    records of slots: waiting list, running list, how a slot ends
 *   engine_view.c     the scheduler's view, learned costs
 *   engine_act.c      a plan carried out: admit, fork, preempt, launch
 *   engine_collect.c  batches that ended: tokens out, pages advanced
 *
 * Thread: engine. */
#ifndef SL_ENGINE_ENGINE_INTERNAL_H
#define SL_ENGINE_ENGINE_INTERNAL_H

#include "base/threads.h"
#include "engine/engine.h"
#include "kvcache/kvcache.h"

/* Walk the cache's invariants when idle: in builds that look for faults. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define SL_ENGINE_CHECKS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SL_ENGINE_CHECKS 1
#endif
#endif
#ifndef SL_ENGINE_CHECKS
#define SL_ENGINE_CHECKS 0
#endif

enum {
    SL_ENGINE_VIEW_WAITING = 256, /* waiting requests the scheduler sees: the oldest */
    SL_ENGINE_SWEEP_WAITING = 64, /* waiting requests looked at for cancels at a boundary */
    SL_ENGINE_TAKE_MAX = 32,      /* messages taken at a boundary */
    SL_ENGINE_COST_BUCKETS = 9,   /* batch sizes 1, 2, 3-4, 5-8, ... 129-256 */
    SL_ENGINE_STALL_US = 1000,    /* pause when the scheduler launches nothing on idle lanes */
    SL_ENGINE_STALLS_MAX = 50     /* such pauses in a row before somebody has to give way */
};

typedef enum sl_engine_rec_state {
    SL_REC_NONE,    /* the slot is not the engine's */
    SL_REC_WAITING, /* holds no pages */
    SL_REC_PREFILL, /* has a sequence; its history is not all in the cache */
    SL_REC_DECODE,  /* has a sequence; only its newest token is not in the cache */
    SL_REC_ENDED    /* its last message is to be pushed */
} sl_engine_rec_state;

/* The engine's record of a slot.  Its *history* is the prompt, then the tokens of its answer. */
typedef struct sl_engine_rec {
    sl_slot *slot; /* the engine's until the last message is pushed */
    sl_slot_handle handle;
    sl_engine_rec_state state;
    uint32_t seq;         /* of the cache, while PREFILL or DECODE */
    uint64_t order;       /* of submission */
    uint32_t generated;   /* tokens of the answer so far */
    uint32_t hit_tokens;  /* waiting: cached tokens at the last look, */
    uint32_t need_planes; /* and planes that admission would take */
    uint32_t passed;      /* waiting: later arrivals that were admitted before it */
    uint64_t rested_turn; /* preempted in this turn: not to be admitted again before the next */
    bool in_flight;       /* a submitted batch holds it */
    bool dirty;           /* in engine.dirty: tokens to announce */
    bool give_way;        /* to be preempted once its batch has ended */
    sl_finish finish;     /* ENDED: why, */
    sl_status status;     /* or SL_OK */
} sl_engine_rec;

/* One lane's batch, with room for the largest; reused. */
typedef struct sl_engine_batch {
    bool busy;        /* submitted, not collected */
    bool partial;     /* ended, but layers are left: the open slice (prefill lane only) */
    bool copies_only; /* planes for forked sequences; the first `child_count` items are these */
    uint32_t child_count;
    uint32_t rung;
    uint32_t logits_later; /* rows to sample with the last part */
    sl_fence fence;
    sl_exec_batch exec;
    uint32_t prefill_tokens;
    uint32_t decode_count;
    uint32_t *token;     /* [rows_max] */
    sl_forward_seq *seq; /* [seqs_max] */
    uint32_t *item;      /* [2 * seqs_max] slot index of each seq (and of forks) */
    uint32_t item_count;
    uint32_t *logit_row;  /* [seqs_max] */
    uint32_t *logit_item; /* [seqs_max] which item each logit row belongs to */
    sl_sampler **sampler; /* [seqs_max] */
    sl_sample *sample;    /* [seqs_max] */
    sl_kv_copies copies;
} sl_engine_batch;

/* Learned times; 0: nothing learned. */
typedef struct sl_engine_costs {
    double step_us[SL_RUNGS_MAX][SL_ENGINE_COST_BUCKETS];
    double token_ns[SL_RUNGS_MAX];
} sl_engine_costs;

struct sl_engine {
    sl_engine_options options;
    const sl_exec_caps *caps;
    sl_mailbox *box;
    sl_exec *exec;
    uint32_t layers;
    sl_kvcache *cache;
    sl_thread thread;
    bool ending; /* shutdown was asked for */

    sl_engine_rec *rec; /* [slot_count], by slot index */
    uint32_t *waiting;  /* slot indices, oldest first; preempted ones in front */
    uint32_t waiting_count;
    uint32_t waiting_max;  /* queue_max and all that can be preempted */
    uint32_t waiting_look; /* where the next sweep and the next probe begin */
    uint32_t probe_look;
    uint32_t *running; /* in order of admission */
    uint32_t running_count;
    uint32_t *free_seq; /* sequences of the cache not in use */
    uint32_t free_seq_count;
    uint32_t *dirty; /* slots with tokens to announce */
    uint32_t dirty_count;
    uint32_t *ended; /* slots whose last message is to be pushed */
    uint32_t ended_count;
    uint32_t *history; /* [context_max] scratch: a preempted sequence's prompt and answer */
    uint64_t submit_order;

    sl_engine_batch batch[SL_LANE_COUNT];
    sl_engine_costs costs;
    uint32_t stalls; /* boundaries in a row at which nothing could be launched */

    sl_sched_view view;
    sl_sched_launch open_slice; /* what is left of it, for the view */
    sl_sched_seq *view_waiting; /* [VIEW_WAITING] */
    sl_sched_seq *view_prefilling;
    sl_sched_seq *view_decoding;
    sl_sched_plan plan;
    sl_sched_state state;
    uint32_t rung;
    uint64_t mark_us; /* residency is accounted up to here */
    uint64_t turns;
    sl_engine_stats stats;
};

static inline void sl_engine_count(atomic_ullong *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* --- engine_slots.c ---------------------------------------------------------------------- */

/* Tokens of a record's history; the token at a position of it. */
static inline uint32_t sl_engine_total(const sl_engine_rec *rec)
{
    return rec->slot->prompt_count + rec->generated;
}

/* Take over a submitted slot: it waits, or it has ended at once (a bad request, a full queue). */
void sl_engine_accept(sl_engine *engine, sl_slot_handle handle);
/* The record of a handle that is still the engine's, or NULL. */
sl_engine_rec *sl_engine_find(sl_engine *engine, sl_slot_handle handle);
/* Copy history [first, first + count) to `out`. */
void sl_engine_copy_history(const sl_engine_rec *rec, uint32_t first, uint32_t count,
                            uint32_t *out);
/* The record, waiting or running and not in flight, ends: its pages are free, its last message
 * will be pushed at the end of the turn. */
void sl_engine_end(sl_engine *engine, sl_engine_rec *rec, sl_finish finish, sl_status status);
/* Waiting -> running, with a sequence; the caller fills the cache's side. */
void sl_engine_start_running(sl_engine *engine, sl_engine_rec *rec);
/* Running and not in flight -> in front of the waiting ones. */
void sl_engine_stop_running(sl_engine *engine, sl_engine_rec *rec);
/* Give the pages back to others; one too many ends it. */
void sl_engine_preempt(sl_engine *engine, sl_engine_rec *rec);
/* Tokens came: announce at the end of the turn. */
void sl_engine_mark_dirty(sl_engine *engine, sl_engine_rec *rec);
/* End what was cancelled, is too late, or is left at shutdown; preempt what was asked to. */
void sl_engine_sweep(sl_engine *engine, uint64_t now_us);
/* Push tokens and ends. */
void sl_engine_announce(sl_engine *engine, uint64_t now_us);

/* --- engine_view.c ----------------------------------------------------------------------- */

void sl_engine_fill_view(sl_engine *engine, uint64_t now_us);
/* Look up what the cache holds of a waiting record's prompt. */
void sl_engine_probe(sl_engine *engine, sl_engine_rec *rec);
/* A batch took busy_us: learn from it. */
void sl_engine_learn(sl_engine *engine, const sl_engine_batch *batch, uint32_t busy_us);
/* Is this waiting record held back, for the slot that it forks is not at rest yet?  Else *parent
 * is that slot's record, or NULL: begin as any other. */
bool sl_engine_fork_held(sl_engine *engine, const sl_engine_rec *rec, sl_engine_rec **parent);

/* --- engine_act.c ------------------------------------------------------------------------ */

/* Decide and launch, for the lanes that are free. */
void sl_engine_plan(sl_engine *engine, uint64_t now_us);

/* --- engine_collect.c -------------------------------------------------------------------- */

/* Take the results of batches that have ended. */
void sl_engine_collect(sl_engine *engine, uint64_t now_us);
/* A batch failed, at submit or later: its requests end. */
void sl_engine_fail_batch(sl_engine *engine, sl_engine_batch *batch);
/* Give the open slice up, if there is one: its prompts will be computed again from where they were.
 */
void sl_engine_close_slice(sl_engine *engine);

#endif
