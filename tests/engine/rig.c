/* tests/engine/rig.c - see rig.h */
#include "tests/engine/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"

enum { TURNS_MAX = 2000000 };

rig_options rig_defaults(void)
{
    return (rig_options){.exec = {.units = 4,
                                  .layers = RIG_LAYERS,
                                  .vocab = RIG_VOCAB,
                                  .chunk_count = 2,
                                  .chunk_window = {0, 100},
                                  .plane_count = 16 * 64,
                                  .rows_max = 128,
                                  .logit_rows_max = 32,
                                  .seed = 1,
                                  .step_us = 1000,
                                  .token_us = 20,
                                  .prefill_token_us = 25,
                                  .noise = 0.03,
                                  .contention = 1.2},
                         .engine = {.vocab_used = RIG_VOCAB,
                                    .seqs_max = 16,
                                    .context_max = 512,
                                    .queue_max = 64,
                                    .policy = SL_POLICY_SLUICE,
                                    .slice_target_us = 2000,
                                    .chunk_tokens = 64,
                                    .prefix_caching = true,
                                    .name_space = 1,
                                    .preemptions_max = 100},
                         .slots = 128};
}

void rig_open(rig *r, const rig_options *options)
{
    sl_err err = {.text = ""};

    memset(r, 0, sizeof(*r));
    r->options = *options;
    r->config.layer_count = options->exec.layers;
    r->config.vocab = options->exec.vocab;
    r->config.chunk_count = options->exec.chunk_count;
    memcpy(r->config.chunk_window, options->exec.chunk_window, sizeof(r->config.chunk_window));
    assert_int_equal(sl_exec_virtual_create(&options->exec, &r->exec, &err), SL_OK);
    assert_int_equal(sl_mailbox_init(&r->box, options->slots, 1 << 20), SL_OK);
    r->options.engine.exec = r->exec;
    r->options.engine.mailbox = &r->box;
    r->options.engine.config = &r->config;
    if (sl_engine_create(&r->options.engine, &r->engine, &err) != SL_OK)
        fail_msg("%s", err.text);
}

void rig_set(rig *r, rig_request *request, uint32_t count)
{
    r->request = request;
    r->request_count = count;
}

rig_request rig_ask(uint32_t prompt_count, uint32_t max_tokens, uint32_t salt)
{
    rig_request q = {.prompt_count = prompt_count,
                     .max_tokens = max_tokens,
                     .stop_token = UINT32_MAX,
                     .fork_of = -1};

    q.prompt = sl_xalloc(prompt_count, sizeof(*q.prompt));
    for (uint32_t i = 0; i < prompt_count; i++)
        q.prompt[i] = (uint32_t)(sl_mix64_pair(salt, i) % RIG_VOCAB);
    return q;
}

void rig_free(rig_request *request, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sl_free(request[i].prompt);
}

uint64_t rig_now(rig *r)
{
    return sl_exec_now_us(r->exec);
}

const sl_engine_stats *rig_stats(rig *r)
{
    return sl_engine_get_stats(r->engine);
}

uint32_t rig_planes_held(rig *r)
{
    const sl_engine_stats *s = rig_stats(r);

    return atomic_load(&s->planes_total) - atomic_load(&s->planes_free) -
           atomic_load(&s->planes_evictable);
}

uint32_t rig_oracle(const rig_request *q, uint32_t *out, bool *stopped)
{
    uint32_t *history = sl_xalloc((size_t)q->prompt_count + q->max_tokens, sizeof(*history));
    uint32_t n = 0;

    memcpy(history, q->prompt, q->prompt_count * sizeof(*history));
    *stopped = false;
    while (n < q->max_tokens) {
        const uint32_t token =
            sl_exec_virtual_seeded_token(history, q->prompt_count + n, RIG_VOCAB, q->seed);

        if (token == q->stop_token && !q->ignore_eos) {
            *stopped = true;
            break;
        }
        history[q->prompt_count + n] = token;
        out[n++] = token;
    }
    sl_free(history);
    return n;
}

/* --- loop side --------------------------------------------------------------------------- */

static void submit(rig *r, rig_request *q)
{
    sl_slot *slot = sl_mailbox_take_slot(&r->box);
    uint32_t *stop;

    assert_non_null(slot);
    stop = sl_arena_alloc(&slot->arena, 1, sizeof(*stop));
    *stop = q->stop_token;
    slot->prompt = q->prompt;
    slot->prompt_count = q->prompt_count;
    slot->max_tokens = q->max_tokens;
    slot->params = (sl_sample_params){.top_p = 1,
                                      .repetition_penalty = 1,
                                      .seed = q->seed,
                                      .logprobs = q->logprobs,
                                      .stop_token = stop,
                                      .stop_token_count = q->stop_token == UINT32_MAX ? 0 : 1};
    slot->sampler = (sl_sampler){.params = &slot->params, .vocab_used = RIG_VOCAB};
    slot->ignore_eos = q->ignore_eos;
    slot->salt = q->salt;
    slot->deadline_us = q->deadline_us;
    slot->out_token = sl_arena_alloc(&slot->arena, q->max_tokens, sizeof(*slot->out_token));
    slot->out_us = sl_arena_alloc(&slot->arena, q->max_tokens, sizeof(*slot->out_us));
    if (q->logprobs)
        slot->out_sample = sl_arena_alloc(&slot->arena, q->max_tokens, sizeof(sl_sample));
    if (q->fork_of >= 0)
        slot->fork_of = r->request[q->fork_of].handle;
    slot->times.submitted_us = rig_now(r);
    slot->user = q;
    q->slot = slot;
    q->handle = sl_mailbox_handle(&r->box, slot);
    q->submitted = true;
    assert_int_equal(sl_mailbox_submit(&r->box, slot), SL_OK);
}

/* What may be read must be the oracle's, in time order. */
static void check_answer(const rig_request *q)
{
    const sl_slot *slot = q->slot;
    uint32_t *expected = sl_xalloc(q->max_tokens, sizeof(*expected));
    bool stopped;
    const uint32_t n = rig_oracle(q, expected, &stopped);

    assert_true(q->token_end <= n);
    for (uint32_t i = 0; i < q->token_end; i++) {
        assert_int_equal(slot->out_token[i], expected[i]);
        assert_true(slot->out_us[i] >= (i > 0 ? slot->out_us[i - 1] : slot->times.submitted_us));
        if (q->logprobs)
            assert_int_equal(slot->out_sample[i].token, expected[i]);
    }
    if (q->kind == SL_EVENT_DONE) {
        assert_int_equal(q->token_end, n);
        assert_int_equal(q->finish, stopped ? SL_FINISH_STOP : SL_FINISH_LENGTH);
        assert_int_equal(slot->stop_token, stopped ? q->stop_token : UINT32_MAX);
    }
    sl_free(expected);
}

static void take_event(rig *r, const sl_event_message *event)
{
    sl_slot *slot = sl_mailbox_find(&r->box, event->slot);
    rig_request *q;

    assert_non_null(slot);
    q = slot->user;
    assert_true(q >= r->request && q < r->request + r->request_count);
    assert_false(q->ended);
    assert_true(event->token_end >= q->token_end);
    r->trace = sl_mix64_pair(r->trace, (uint64_t)(q - r->request));
    r->trace = sl_mix64_pair(r->trace, (uint64_t)event->kind << 32 | event->token_end);
    r->trace = sl_mix64_pair(r->trace, rig_now(r));
    q->token_end = event->token_end;
    if (event->kind == SL_EVENT_TOKENS) {
        q->messages++;
        return;
    }
    q->ended = true;
    q->kind = event->kind;
    q->finish = event->finish;
    q->status = event->status;
    q->stop_seen = slot->stop_token;
    q->times = slot->times;
    check_answer(q);
    q->slot = NULL;
    sl_mailbox_give_slot(&r->box, slot);
}

void rig_drain(rig *r)
{
    sl_event_message event;

    while (sl_mailbox_next_event(&r->box, &event))
        take_event(r, &event);
}

static void do_what_is_due(rig *r)
{
    const uint64_t now_us = rig_now(r);

    for (uint32_t i = 0; i < r->request_count; i++) {
        rig_request *q = &r->request[i];

        if (!q->submitted && q->arrive_us <= now_us && r->box.free_count > 0)
            submit(r, q);
        if (q->submitted && !q->ended && !q->cancelled && q->cancel_us != 0 &&
            q->cancel_us <= now_us) {
            q->cancelled = true;
            atomic_store(&q->slot->cancelled, true);
        }
    }
}

bool rig_turn(rig *r)
{
    bool live;

    do_what_is_due(r);
    live = sl_engine_turn(r->engine);
    r->turns++;
    assert_true(r->turns < TURNS_MAX); /* what is admitted must end */
    if (!r->lazy)
        rig_drain(r);
    return live;
}

bool rig_advance(rig *r)
{
    const uint64_t now_us = rig_now(r);
    uint64_t next_us = sl_exec_virtual_next_us(r->exec);

    for (uint32_t i = 0; i < r->request_count; i++) {
        const rig_request *q = &r->request[i];

        if (!q->submitted && r->box.free_count > 0 && q->arrive_us < next_us)
            next_us = q->arrive_us;
        if (q->submitted && !q->ended && !q->cancelled && q->cancel_us > now_us &&
            q->cancel_us < next_us)
            next_us = q->cancel_us;
    }
    if (next_us == UINT64_MAX)
        return false;
    sl_exec_virtual_set_now(r->exec, next_us > now_us ? next_us : now_us);
    return true;
}

static bool all_ended(const rig *r)
{
    for (uint32_t i = 0; i < r->request_count; i++)
        if (!r->request[i].ended)
            return false;
    return true;
}

void rig_run(rig *r)
{
    for (;;) {
        const bool live = rig_turn(r);

        if (!live && all_ended(r))
            break;
        if (!rig_advance(r))
            sl_exec_virtual_set_now(r->exec, rig_now(r) + 1000); /* as the engine's own pause */
    }
}

void rig_close(rig *r)
{
    sl_mailbox_shutdown(&r->box);
    while (sl_engine_turn(r->engine))
        (void)rig_advance(r);
    rig_drain(r);
    for (uint32_t i = 0; i < r->request_count; i++)
        assert_true(r->request[i].ended || !r->request[i].submitted);
    assert_int_equal(r->box.free_count, r->options.slots);
    assert_int_equal(rig_planes_held(r), 0);
    assert_int_equal(sl_exec_virtual_faults(r->exec), 0);
    sl_engine_destroy(r->engine);
    sl_exec_destroy(r->exec);
    sl_mailbox_done(&r->box);
}

void rig_expect_done(const rig_request *q)
{
    assert_true(q->ended);
    assert_int_equal(q->kind, SL_EVENT_DONE); /* its tokens were compared when it ended */
    assert_int_equal(q->status, SL_OK);
}

void rig_expect_failed(const rig_request *q, sl_status status)
{
    assert_true(q->ended);
    assert_int_equal(q->kind, SL_EVENT_FAILED);
    assert_int_equal(q->status, status);
}
