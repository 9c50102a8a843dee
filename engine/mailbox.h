/* engine/mailbox.h - the only crossing between the loop thread and the engine thread.
 *
 * Slots and two rings.  A *slot* is the record of one sequence (one choice of one request) from
 * accept to last byte; its owner changes by message:
 *
 *     FREE -> FILLING (loop) -> RUNNING (engine) -> DRAINING (loop) -> FREE
 *
 *   submit ring, loop -> engine:  SUBMIT slot | SHUTDOWN
 *   events ring, engine -> loop:  TOKENS slot, token_end | DONE slot, reason | FAILED slot, status
 *
 * While RUNNING the loop may read out_* entries below the token_end it was told; the engine writes
 * at and above it, so no lock is needed.  TOKENS messages coalesce: one message may announce many
 * tokens.  DONE or FAILED is the last message of a slot; after it the slot is the loop's.
 *
 * No message is ever lost.  submit has room for every slot and the shutdown.  events keeps room for
 * the last message of every slot: TOKENS is refused when only that room is left, and announced
 * again, with all that came meanwhile, at the engine's next boundary.
 *
 * One exception to ownership: `cancelled`, set by the loop at any time while RUNNING, read by the
 * engine at each boundary; a cancelled slot ends with FAILED, SL_ECANCELLED.
 *
 * Handles carry a generation: a stale one is detected.  `state`, `generation` and the free list are
 * the loop's alone; the engine keeps its own record of the slots it serves.
 *
 * Thread: as each function says. */
#ifndef SL_ENGINE_MAILBOX_H
#define SL_ENGINE_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/ring.h"
#include "base/status.h"
#include "engine/sampler.h"
#include "scheduler/policy.h" /* SL_SLOT_NONE */

typedef struct sl_slot_handle {
    uint32_t index;
    uint32_t generation;
} sl_slot_handle;

typedef enum sl_slot_state {
    SL_SLOT_FREE,
    SL_SLOT_FILLING,
    SL_SLOT_RUNNING,
    SL_SLOT_DRAINING
} sl_slot_state;

typedef enum sl_finish { SL_FINISH_NONE, SL_FINISH_STOP, SL_FINISH_LENGTH } sl_finish;

/* Times of one slot, in the exec's clock.  0: not reached. */
typedef struct sl_slot_times {
    uint64_t submitted_us; /* by the loop */
    uint64_t admitted_us;
    uint64_t first_token_us;
    uint64_t last_token_us;
    uint64_t done_us;
    uint32_t cached_tokens; /* prompt tokens found in the prefix cache at first admission */
    uint32_t preemptions;
} sl_slot_times;

typedef struct sl_slot {
    sl_slot_state state; /* as its owner sees it */
    uint32_t generation;

    /* The loop fills these while FILLING; nobody changes them while RUNNING. */
    sl_arena arena;         /* everything below points into it */
    const uint32_t *prompt; /* token ids, at least 1 */
    uint32_t prompt_count;
    uint32_t max_tokens; /* of the answer, at least 1; prompt + max <= context */
    sl_sample_params params;
    bool ignore_eos;        /* stop tokens end nothing */
    uint64_t salt;          /* separates tenants in the prefix cache */
    sl_slot_handle fork_of; /* index SL_SLOT_NONE, or a slot submitted before with the same prompt:
                               wait until its prompt is done and share its pages (n > 1) */
    uint64_t deadline_us;   /* 0: none; later, the slot ends with SL_ETIMEOUT */

    /* The engine writes these while RUNNING. */
    sl_sampler sampler;    /* pointers filled by the loop, counts by the engine */
    uint32_t *out_token;   /* [max_tokens] */
    sl_sample *out_sample; /* [max_tokens] if params.logprobs, else NULL */
    uint64_t *out_us;      /* [max_tokens] when each token came */
    sl_slot_times times;
    uint32_t stop_token; /* the stop token that ended it, or UINT32_MAX */

    atomic_bool cancelled;
    void *user; /* the loop's own */
} sl_slot;

typedef enum sl_submit_kind { SL_SUBMIT_SLOT, SL_SUBMIT_SHUTDOWN } sl_submit_kind;

typedef struct sl_submit_message {
    sl_submit_kind kind;
    sl_slot_handle slot;
} sl_submit_message;

typedef enum sl_event_kind { SL_EVENT_TOKENS, SL_EVENT_DONE, SL_EVENT_FAILED } sl_event_kind;

typedef struct sl_event_message {
    sl_event_kind kind;
    sl_slot_handle slot;
    uint32_t token_end; /* out_* entries below this may be read */
    sl_finish finish;   /* DONE */
    sl_status status;   /* FAILED */
} sl_event_message;

typedef struct sl_mailbox {
    sl_slot *slot; /* [slot_count] */
    uint32_t slot_count;
    uint32_t free_count;
    uint32_t *free_list; /* loop only */
    bool ending;         /* loop only: shutdown was sent */
    sl_ring submit;
    sl_ring events;
    void (*wake_engine)(void *user); /* after a push to submit; set by sl_engine_create */
    void (*wake_loop)(void *user);   /* after pushes to events; set by the loop, may be NULL */
    void *engine_user;
    void *loop_user;
} sl_mailbox;

/* `slot_count` requests in flight at most (1 .. 2^16); `arena_limit_bytes` per slot.  The rings
 * hold every message that these can cause at once.  Errors: SL_EINVAL, SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_mailbox_init(sl_mailbox *box, uint32_t slot_count,
                                        size_t arena_limit_bytes);
void sl_mailbox_done(sl_mailbox *box);

/* Loop: a free slot, now FILLING, zeroed but for arena, generation, and the two fields that mean
 * "none" (fork_of.index, stop_token); NULL: all are taken. */
sl_slot *sl_mailbox_take_slot(sl_mailbox *box);
/* Loop: give a FILLING or DRAINING slot back; its arena is reset, its handles become stale. */
void sl_mailbox_give_slot(sl_mailbox *box, sl_slot *slot);
/* Loop. */
sl_slot_handle sl_mailbox_handle(const sl_mailbox *box, const sl_slot *slot);
/* Loop: the slot of a handle, or NULL if it is stale.  (The engine may ask for slots that are
 * RUNNING: nobody writes their generation.) */
sl_slot *sl_mailbox_find(const sl_mailbox *box, sl_slot_handle handle);

/* Loop: hand a FILLING slot to the engine (RUNNING) and wake it.
 * Errors: SL_EUNAVAILABLE (after shutdown), SL_EFULL; then it is still FILLING. */
SL_MUST_CHECK sl_status sl_mailbox_submit(sl_mailbox *box, sl_slot *slot);
/* Loop: ask the engine to end: it fails what still runs with SL_EUNAVAILABLE and returns. */
void sl_mailbox_shutdown(sl_mailbox *box);
/* Loop: the next event; false: none.  DONE and FAILED make the slot DRAINING.  Drain until false.
 */
bool sl_mailbox_next_event(sl_mailbox *box, sl_event_message *out);

/* Engine: the next submission; false: none. */
bool sl_mailbox_next_submit(sl_mailbox *box, sl_submit_message *out);
/* Engine: announce the tokens of a slot below token_end.  False: not now, the loop is behind;
 * announce again later. */
SL_MUST_CHECK bool sl_mailbox_push_tokens(sl_mailbox *box, sl_slot_handle slot, uint32_t token_end);
/* Engine: the last message of a slot, DONE or FAILED.  Always has room; the slot is the loop's
 * from here on. */
void sl_mailbox_push_end(sl_mailbox *box, const sl_event_message *message);
/* Engine: tell the loop that events came.  Once after any number of pushes. */
void sl_mailbox_wake_loop(sl_mailbox *box);

#endif
