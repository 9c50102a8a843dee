/* tests/engine/rig.h - an engine on a virtual device, and requests with an oracle.
 *
 * A test fills requests; the rig submits them when their time has come, lets virtual time run from
 * event to event, and compares every token with the oracle's for that request alone.  After
 * rig_close nothing may be left: no slot, no page, no fault of the device. */
#ifndef SL_TESTS_ENGINE_RIG_H
#define SL_TESTS_ENGINE_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "engine/exec_virtual.h"

enum { RIG_LAYERS = 8, RIG_VOCAB = 5000 };

typedef struct rig_options {
    sl_exec_virtual_options exec;
    sl_engine_options engine; /* exec, mailbox and config are the rig's */
    uint32_t slots;
} rig_options;

typedef struct rig_request {
    /* What is asked. */
    uint64_t arrive_us;
    uint64_t cancel_us;   /* 0: never */
    uint64_t deadline_us; /* 0: none */
    uint32_t *prompt;
    uint32_t prompt_count;
    uint32_t max_tokens;
    uint32_t stop_token; /* UINT32_MAX: none */
    bool ignore_eos;
    bool logprobs;
    uint64_t salt;
    uint64_t seed;
    int fork_of; /* index of a request before this one, -1: none */

    /* What came. */
    bool submitted, cancelled, ended;
    sl_slot_handle handle;
    sl_slot *slot; /* until the end */
    uint32_t token_end;
    uint32_t messages; /* TOKENS */
    sl_event_kind kind;
    sl_finish finish;
    sl_status status;
    uint32_t stop_seen;
    sl_slot_times times;
} rig_request;

typedef struct rig {
    rig_options options;
    sl_model_config config;
    sl_exec *exec;
    sl_mailbox box;
    sl_engine *engine;
    rig_request *request;
    uint32_t request_count;
    uint64_t trace; /* hash of all events and their times */
    uint64_t turns;
    bool lazy; /* take no events until told */
} rig;

/* A small device: 4 units, 8 layers, two chunks (one with a window of 100), context 512. */
rig_options rig_defaults(void);
void rig_open(rig *r, const rig_options *options);
/* Requests are borrowed until close. */
void rig_set(rig *r, rig_request *request, uint32_t count);

/* A request with a prompt of its own; prompt[i] depends on i and `salt` only. */
rig_request rig_ask(uint32_t prompt_count, uint32_t max_tokens, uint32_t salt);
void rig_free(rig_request *request, uint32_t count);

/* Submit and cancel what is due, one turn, take events.  False: nothing runs or waits. */
bool rig_turn(rig *r);
void rig_drain(rig *r);
/* Move the clock to the next event.  False: there is none. */
bool rig_advance(rig *r);
/* Until all requests have ended. */
void rig_run(rig *r);
/* Shut down and check that nothing is left. */
void rig_close(rig *r);

uint64_t rig_now(rig *r);
const sl_engine_stats *rig_stats(rig *r);
/* Planes that are neither free nor evictable. */
uint32_t rig_planes_held(rig *r);

/* The oracle's answer of a request alone: how many tokens come; *stopped: by the stop token. */
uint32_t rig_oracle(const rig_request *request, uint32_t *out, bool *stopped);
void rig_expect_done(const rig_request *request);
void rig_expect_failed(const rig_request *request, sl_status status);

#endif
