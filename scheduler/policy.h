/* scheduler/policy.h - what runs next: a view in, a plan out.
 *
 * Pure: no clock, no I/O, no allocation, no hidden state; a recorded view gives the same plan for
 * ever.  The engine calls sl_sched_decide at every boundary (a lane became free, or work arrived
 * while one was free), and acts on the plan.
 *
 * Words (lane, rung, slice, step, boundary, state) are DESIGN's:
 *   MIXED      one batch of decodes and prompt chunks, all units, on the decode lane
 *   SPLIT      both lanes at once, on the disjoint units of a rung
 *   EXCLUSIVE  one phase alone on all units
 *   IDLE       nothing to do
 *
 * Thread: engine (or anyone: it is a function). */
#ifndef SL_SCHEDULER_POLICY_H
#define SL_SCHEDULER_POLICY_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SL_SCHED_RUNNING_MAX = 256,  /* sequences that hold pages: prefilling and decoding */
    SL_SCHED_WAITING_MAX = 1024, /* requests that wait for admission */
    SL_SCHED_ITEMS_MAX = SL_SCHED_RUNNING_MAX,
    SL_SCHED_ADMIT_MAX = 64,   /* admissions of one plan */
    SL_SCHED_PASSED_MAX = 16,  /* later arrivals that may be admitted before a request that is next
                                  but does not fit */
    SL_SCHED_PAGE_TOKENS = 64, /* as the cache's pages */
    SL_RUNGS_MAX = 64
};

#define SL_SLOT_NONE UINT32_MAX

typedef enum sl_sched_state {
    SL_STATE_IDLE,
    SL_STATE_MIXED,
    SL_STATE_SPLIT,
    SL_STATE_EXCLUSIVE,
    SL_STATE_COUNT
} sl_sched_state;

typedef enum sl_sched_policy {
    SL_POLICY_SLUICE,    /* the product's */
    SL_POLICY_MIXED,     /* chunked prefill in every step (Sarathi-Serve, arXiv 2403.02310) */
    SL_POLICY_EXCLUSIVE, /* prompts first, alone; then decodes, alone */
    SL_POLICY_COUNT
} sl_sched_policy;

/* One division of the units; rung 0 is all/0, the last 0/all. */
typedef struct sl_rung {
    uint32_t prefill_units;
    uint32_t decode_units;
} sl_rung;

typedef struct sl_sched_seq {
    uint32_t slot;
    uint32_t context;      /* tokens whose KV it holds */
    uint32_t prompt_left;  /* prompt tokens not yet computed; 0: it decodes */
    uint32_t planes_short; /* decoding: planes it lacks for one more token.  Prefilling: for the
                              rest of its prompt and one more token.  Waiting: what of planes_free
                              would be gone with all of its prompt and one more token, cached pages
                              that its prefix would hold included (sl_kvcache_probe_planes) */
    uint64_t arrival_us;
    uint64_t last_token_us; /* decoding: when its last token came; 0: none yet */
    bool in_flight;  /* a submitted slice or step holds it, or the open slice: not to be planned */
    uint32_t passed; /* waiting: how many later arrivals were admitted before it; the caller counts
                        (a plan's admissions, for each request that stays before them) */
} sl_sched_seq;

/* Predicted times, from measurement; all in microseconds.  0: not known yet. */
typedef struct sl_sched_costs {
    uint32_t step_us[SL_RUNGS_MAX];          /* one decode step of the present batch, per rung */
    uint32_t prefill_token_ns[SL_RUNGS_MAX]; /* one prompt token, all layers, per rung */
} sl_sched_costs;

typedef struct sl_sched_item {
    uint32_t slot;
    uint32_t tokens; /* prompt tokens of a prefill; 1 for a decode */
    bool prefill;
} sl_sched_item;

typedef struct sl_sched_launch {
    uint32_t item_count; /* 0: nothing to launch on this lane */
    uint32_t layer_first, layer_end;
    sl_sched_item item[SL_SCHED_ITEMS_MAX];
} sl_sched_launch;

typedef struct sl_sched_view {
    sl_sched_policy policy;
    uint64_t now_us;
    const sl_sched_seq *waiting; /* in order of arrival */
    uint32_t waiting_count;
    const sl_sched_seq *prefilling; /* admitted, prompt not done; in order of admission */
    uint32_t prefilling_count;
    const sl_sched_seq *decoding; /* oldest first */
    uint32_t decoding_count;

    uint32_t planes_free; /* free, or evictable (cached, and behind windows) */
    uint32_t planes_total;
    uint32_t planes_per_page;
    uint32_t seqs_max; /* prefilling + decoding never exceed this */

    const sl_rung *rung;
    uint32_t rung_count;
    uint32_t layers;      /* of the model */
    bool lane_busy[2];    /* by lane: prefill, decode */
    sl_sched_state state; /* present */
    uint32_t rung_now;

    uint32_t slice_tokens_max; /* tokens one prefill slice may hold (space), > 0 */
    uint32_t step_tokens_max;  /* tokens a mixed step may hold (space), >= seqs_max */
    uint32_t slice_target_us;  /* how long a slice should take: how soon the gate can move */
    uint32_t step_target_us;   /* longest acceptable decode step in SPLIT; 0: twice the step on all
                                  units */
    uint32_t chunk_tokens;     /* > 0; prompt tokens a mixed step aims at while others decode, and
                                  of a slice before anything was measured */
    bool layer_cuts;           /* the caller can keep a slice open between layers */
    const sl_sched_launch *open_slice; /* NULL, or what is left of the slice that was launched last
                                          with layer_end < layers: its items, and layer_first where
                                          it goes on.  Nothing else is launched on the prefill lane
                                          before it is done */
    sl_sched_costs costs;
} sl_sched_view;

typedef struct sl_sched_plan {
    sl_sched_state state;
    uint32_t rung;
    sl_sched_launch prefill; /* a slice, on the prefill lane */
    sl_sched_launch decode;  /* a step, on the decode lane; MIXED holds prefill items too */
    uint32_t admit_count;
    uint32_t admit[SL_SCHED_ADMIT_MAX]; /* slots of `waiting` to admit, before launching */
    uint32_t preempt_slot; /* this sequence gives its pages back; the caller asks again */
    const char *reason;    /* a static sentence: why this plan */
} sl_sched_plan;

/* Asserts that the view is within its limits; never fails.
 *
 * 1. If preempt_slot is set, nothing is admitted or launched.  The oldest running sequence (by
 *    arrival) is never preempted.
 * 2. A launch on a busy lane is never planned, nor a sequence that is in flight, nor a lane without
 *    units.  If a lane stays busy, `rung` is that of the new launch; with no launch, state and rung
 *    are those of the view (or IDLE).
 * 3. Items may name slots that the same plan admits.  If admission finds a longer prefix than the
 *    view said, the caller computes what is left of it.
 * 4. A slice ends at a page's end where it cuts a prompt, if it can.
 * 5. If both lanes are free and something runs or fits, the plan launches or preempts.  (Whoever
 *    runs alone has all planes: a request that can never fit must be refused at the door.)
 */
void sl_sched_decide(const sl_sched_view *view, sl_sched_plan *plan);

/* "sluice", "mixed", "exclusive"; "idle", "mixed", "split", "exclusive". */
const char *sl_sched_policy_name(sl_sched_policy policy);
bool sl_sched_parse_policy(const char *text, sl_sched_policy *out);
const char *sl_sched_state_name(sl_sched_state state);

#endif
