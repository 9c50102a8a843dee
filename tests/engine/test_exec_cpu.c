/* tests/engine/test_exec_cpu.c
 *
 * Goal: what the engine computes on the CPU device is what the forward pass computes without
 * either: token by token, bit by bit, whoever else is in the batch and however the work is cut.
 * Method: tiny random models; the reference feeds one sequence into sl_model_forward and samples
 * by hand.  The device has up to four workers, whatever the machine has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/threads.h"
#include "engine/engine.h"
#include "engine/exec_cpu.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_gguf.h"

enum { VOCAB = SL_TINY_VOCAB, CONTEXT = 256, ANSWER_MAX = 12, REQUESTS = 16, TOP = 5 };

/* --- a model, and the reference ---------------------------------------------------------- */

typedef struct world {
    sl_buf file;
    sl_gguf *g;
    sl_rig rig; /* the reference: its own planes and space */
    sl_exec *exec;
    sl_mailbox box;
    sl_engine *engine;
    sl_wake wake;
} world;

static void open_model(world *w, const char *arch)
{
    sl_tiny_options o = sl_tiny_defaults(arch);
    sl_err err = {.text = ""};

    memset(w, 0, sizeof(*w));
    o.window = 40;
    sl_buf_init(&w->file, 64u << 20);
    sl_tiny_gguf(&o, &w->file);
    assert_int_equal(sl_gguf_open_memory(w->file.data, w->file.len, &w->g, &err), SL_OK);
    if (sl_rig_init(
            &w->rig,
            &(sl_rig_options){.file = w->g,
                              .ops = sl_ops_cpu(NULL) != NULL ? sl_ops_cpu(NULL) : sl_ops_ref(),
                              .seqs = 1,
                              .positions = CONTEXT,
                              .rows_max = CONTEXT,
                              .logit_rows_max = CONTEXT},
            &err) != SL_OK)
        fail_msg("%s", err.text);
}

static void close_model(world *w)
{
    sl_rig_done(&w->rig);
    sl_gguf_close(w->g);
    sl_buf_done(&w->file);
}

typedef struct ask {
    uint32_t prompt[CONTEXT];
    uint32_t prompt_count;
    uint32_t max_tokens;
    sl_sample_params params;
    int fork_of;
    sl_sample expected[ANSWER_MAX];
    /* What came. */
    sl_sample got[ANSWER_MAX];
    uint32_t got_count;
    sl_event_kind kind;
    sl_status status;
    bool ended;
    sl_slot *slot;
    sl_slot_handle handle;
    uint32_t cached;
} ask;

/* Greedy and drawn ones, short and long prompts, some with common beginnings. */
static void make_ask(ask *a, uint32_t index)
{
    static const uint32_t length[] = {1, 5, 64, 65, 100, 20, 33, 129};
    const uint32_t common = index % 3 == 0 ? 64 : 0;

    memset(a, 0, sizeof(*a));
    a->prompt_count = length[index % 8];
    for (uint32_t i = 0; i < a->prompt_count; i++)
        a->prompt[i] = (uint32_t)(sl_mix64_pair(i < common ? 999 : index, i) % VOCAB);
    a->max_tokens = 1 + index * 5 % ANSWER_MAX;
    a->params = (sl_sample_params){.temperature = index % 2 == 0 ? 0.0f : 0.9f,
                                   .top_p = 0.95f,
                                   .repetition_penalty = 1,
                                   .seed = index,
                                   .logprobs = true,
                                   .top_logprobs = TOP};
    a->fork_of = -1;
}

/* Prompt and answer, one sequence, one thread, one row at a time after the prompt. */
static void compute_expected(world *w, ask *a)
{
    float *logits = sl_xalloc((size_t)CONTEXT * VOCAB, sizeof(*logits));
    sl_sampler sampler = {.params = &a->params, .vocab_used = VOCAB};
    uint32_t last = a->prompt_count - 1, position = a->prompt_count;

    assert_int_equal(sl_rig_feed(&w->rig, 0, 0, a->prompt, a->prompt_count, CONTEXT, logits),
                     SL_OK);
    for (uint32_t i = 0; i < a->max_tokens; i++) {
        assert_int_equal(
            sl_sampler_sample(&sampler, logits + (size_t)last * VOCAB, VOCAB, &a->expected[i]),
            SL_OK);
        sl_sampler_accept(&sampler, a->expected[i].token);
        assert_int_equal(sl_rig_feed(&w->rig, 0, position++, &a->expected[i].token, 1, 1, logits),
                         SL_OK);
        last = 0;
    }
    sl_free(logits);
}

static void expect_answer(const ask *a)
{
    assert_true(a->ended);
    assert_int_equal(a->kind, SL_EVENT_DONE);
    assert_int_equal(a->got_count, a->max_tokens);
    for (uint32_t i = 0; i < a->max_tokens; i++) {
        assert_int_equal(a->got[i].token, a->expected[i].token);
        assert_memory_equal(&a->got[i].logprob, &a->expected[i].logprob, sizeof(float));
        assert_int_equal(a->got[i].top_count, TOP);
        assert_memory_equal(a->got[i].top, a->expected[i].top, TOP * sizeof(a->got[i].top[0]));
    }
}

/* --- the engine on the device ------------------------------------------------------------ */

static void post(void *wake)
{
    sl_wake_post(wake);
}

static sl_exec_cpu_options exec_options(const world *w, uint32_t units)
{
    return (sl_exec_cpu_options){.model = w->rig.model,
                                 .units = units,
                                 .plane_count = 8 * 64 * 4,
                                 .rows_max = 96,
                                 .logit_rows_max = 16,
                                 .seqs_max = 16,
                                 .pin = units == 2};
}

static void open_engine(world *w, uint32_t units, sl_sched_policy policy, uint32_t seqs_max)
{
    const sl_exec_cpu_options options = exec_options(w, units);
    sl_err err = {.text = ""};
    sl_engine_options o = {.mailbox = &w->box,
                           .config = sl_model_get_config(w->rig.model),
                           .vocab_used = VOCAB,
                           .seqs_max = seqs_max,
                           .context_max = CONTEXT,
                           .queue_max = 64,
                           .policy = policy,
                           .slice_target_us = 200, /* cuts slices by layers */
                           .chunk_tokens = 32,
                           .prefix_caching = true,
                           .preemptions_max = 100};

    if (sl_exec_cpu_create(&options, &w->exec, &err) != SL_OK)
        fail_msg("%s", err.text);
    o.exec = w->exec;
    assert_int_equal(sl_mailbox_init(&w->box, 64, 1 << 20), SL_OK);
    sl_wake_init(&w->wake);
    w->box.wake_loop = post;
    w->box.loop_user = &w->wake;
    if (sl_engine_create(&o, &w->engine, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_int_equal(sl_engine_start(w->engine), SL_OK);
}

static uint32_t planes_held(const world *w)
{
    const sl_engine_stats *s = sl_engine_get_stats(w->engine);

    return atomic_load(&s->planes_total) - atomic_load(&s->planes_free) -
           atomic_load(&s->planes_evictable);
}

static void close_engine(world *w)
{
    sl_mailbox_shutdown(&w->box);
    sl_engine_join(w->engine);
    assert_int_equal(planes_held(w), 0);
    sl_engine_destroy(w->engine);
    sl_exec_destroy(w->exec);
    sl_mailbox_done(&w->box);
}

static void submit(world *w, ask *a, const ask *all)
{
    sl_slot *slot = sl_mailbox_take_slot(&w->box);

    assert_non_null(slot);
    slot->prompt = a->prompt;
    slot->prompt_count = a->prompt_count;
    slot->max_tokens = a->max_tokens;
    slot->params = a->params;
    slot->sampler = (sl_sampler){.params = &slot->params, .vocab_used = VOCAB};
    slot->out_token = sl_arena_alloc(&slot->arena, a->max_tokens, sizeof(*slot->out_token));
    slot->out_us = sl_arena_alloc(&slot->arena, a->max_tokens, sizeof(*slot->out_us));
    slot->out_sample = sl_arena_alloc(&slot->arena, a->max_tokens, sizeof(*slot->out_sample));
    slot->times.submitted_us = sl_clock_us();
    slot->user = a;
    if (a->fork_of >= 0)
        slot->fork_of = all[a->fork_of].handle;
    a->slot = slot;
    a->handle = sl_mailbox_handle(&w->box, slot);
    assert_int_equal(sl_mailbox_submit(&w->box, slot), SL_OK);
}

/* Take events for a while; true: something ended. */
static bool pump(world *w)
{
    sl_event_message event;
    bool ended = false;

    assert_true(sl_wake_wait(&w->wake, 30000000));
    while (sl_mailbox_next_event(&w->box, &event)) {
        sl_slot *slot = sl_mailbox_find(&w->box, event.slot);
        ask *a = slot->user;

        a->got_count = event.token_end;
        if (event.kind == SL_EVENT_TOKENS)
            continue;
        memcpy(a->got, slot->out_sample, event.token_end * sizeof(*a->got));
        a->kind = event.kind;
        a->status = event.status;
        a->cached = slot->times.cached_tokens;
        a->ended = true;
        ended = true;
        sl_mailbox_give_slot(&w->box, slot);
    }
    return ended;
}

static void wait_for(world *w, const ask *a)
{
    while (!a->ended)
        pump(w);
}

/* --- cases ------------------------------------------------------------------------------- */

static void answers_are_the_references(const char *arch, uint32_t units, sl_sched_policy policy)
{
    static ask asks[REQUESTS];
    static world w;

    open_model(&w, arch);
    open_engine(&w, units, policy, 16);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        make_ask(&asks[i], i);
        compute_expected(&w, &asks[i]);
    }
    /* One by one, then all together (now with a warm prefix cache), then together and cold. */
    for (uint32_t i = 0; i < REQUESTS; i++) {
        submit(&w, &asks[i], asks);
        wait_for(&w, &asks[i]);
        expect_answer(&asks[i]);
    }
    for (int round = 0; round < 2; round++) {
        if (round == 1) {
            close_engine(&w);
            open_engine(&w, units, policy, 16);
        }
        for (uint32_t i = 0; i < REQUESTS; i++) {
            asks[i].ended = false;
            submit(&w, &asks[i], asks);
        }
        for (uint32_t i = 0; i < REQUESTS; i++) {
            wait_for(&w, &asks[i]);
            expect_answer(&asks[i]);
        }
    }
    close_engine(&w);
    close_model(&w);
}

static void sixteen_together_are_one_by_one_on_one_unit(void **state)
{
    (void)state;
    answers_are_the_references("llama", 1, SL_POLICY_SLUICE);
}

static void sixteen_together_are_one_by_one_on_two_units(void **state)
{
    (void)state;
    answers_are_the_references("qwen3", 2, SL_POLICY_MIXED);
}

static void sixteen_together_are_one_by_one_on_four_units(void **state)
{
    (void)state;
    answers_are_the_references("qwen2", 4, SL_POLICY_SLUICE);
}

static void windows_change_nothing(void **state)
{
    (void)state;
    answers_are_the_references("gemma3", 2, SL_POLICY_SLUICE);
}

static void forks_give_what_each_would_give_alone(void **state)
{
    enum { N = 5 };
    static ask asks[N + 1];
    static world w;
    (void)state;

    open_model(&w, "llama");
    open_engine(&w, 3, SL_POLICY_SLUICE, 16);
    for (uint32_t i = 0; i <= N; i++) {
        make_ask(&asks[i], 4); /* 100 tokens: a partial page to copy */
        asks[i].max_tokens = ANSWER_MAX;
        asks[i].params.temperature = 20;
        asks[i].params.top_p = 1;
        asks[i].params.seed = i;
        asks[i].fork_of = i == 0 || i == N ? -1 : 0;
    }
    make_ask(&asks[N], 7); /* and somebody else at the same time */
    for (uint32_t i = 0; i <= N; i++)
        compute_expected(&w, &asks[i]);
    assert_memory_not_equal(asks[0].expected, asks[1].expected, sizeof(asks[0].expected));
    for (int round = 0; round < 4; round++) {
        for (uint32_t i = 0; i <= N; i++) {
            asks[i].ended = false;
            submit(&w, &asks[i], asks);
        }
        for (uint32_t i = 0; i <= N; i++) {
            wait_for(&w, &asks[i]);
            expect_answer(&asks[i]);
        }
        for (uint32_t i = 1; i < N; i++)
            assert_int_equal(asks[i].cached, 99);
    }
    close_engine(&w);
    close_model(&w);
}

static void a_cancel_frees_the_pages_within_one_step(void **state)
{
    static ask a;
    static world w;
    const sl_engine_stats *stats;
    unsigned long long batches;
    (void)state;

    open_model(&w, "llama");
    open_engine(&w, 2, SL_POLICY_SLUICE, 4);
    stats = sl_engine_get_stats(w.engine);
    for (int round = 0; round < 20; round++) {
        make_ask(&a, 1);
        a.params.temperature = 0;
        a.max_tokens = CONTEXT - a.prompt_count;
        submit(&w, &a, NULL);
        while (a.got_count < 3)
            pump(&w);
        atomic_store(&a.slot->cancelled, true);
        batches = atomic_load(&stats->progress);
        while (!a.ended) {
            sl_event_message event;

            /* Its samples are not copied: `got` is smaller than this answer may be. */
            (void)sl_wake_wait(&w.wake, 30000000);
            while (sl_mailbox_next_event(&w.box, &event))
                if (event.kind != SL_EVENT_TOKENS) {
                    assert_int_equal(event.status, SL_ECANCELLED);
                    a.ended = true;
                }
        }
        /* The step that was running, and perhaps one that was just about to be launched. */
        assert_true(atomic_load(&stats->progress) - batches <= 2);
        sl_mailbox_give_slot(&w.box, a.slot);
        /* The gauges are written right after the messages. */
        for (int i = 0; i < 1000 && planes_held(&w) > 0; i++)
            (void)sl_wake_wait(&w.wake, 1000);
        assert_int_equal(planes_held(&w), 0);
    }
    close_engine(&w);
    close_model(&w);
}

static void a_row_without_a_possible_token_fails_alone(void **state)
{
    static ask asks[3];
    static sl_logit_bias ban[VOCAB];
    static world w;
    (void)state;

    for (uint32_t i = 0; i < VOCAB; i++)
        ban[i] = (sl_logit_bias){.token = i, .bias = -100};
    open_model(&w, "llama");
    open_engine(&w, 2, SL_POLICY_MIXED, 4);
    for (uint32_t i = 0; i < 3; i++) {
        make_ask(&asks[i], 2 + i);
        compute_expected(&w, &asks[i]);
    }
    asks[1].params.bias = ban;
    asks[1].params.bias_count = VOCAB;
    for (uint32_t i = 0; i < 3; i++)
        submit(&w, &asks[i], asks);
    for (uint32_t i = 0; i < 3; i++)
        wait_for(&w, &asks[i]);
    expect_answer(&asks[0]);
    assert_int_equal(asks[1].kind, SL_EVENT_FAILED);
    assert_int_equal(asks[1].status, SL_EINTERNAL);
    expect_answer(&asks[2]);
    close_engine(&w);
    close_model(&w);
}

/* --- the device alone -------------------------------------------------------------------- */

/* A sequence with pages of its own on the device. */
typedef struct device_seq {
    sl_kv_page page[SL_KV_CHUNKS_MAX][CONTEXT / SL_PAGE_TOKENS];
    const sl_kv_page *table[SL_KV_CHUNKS_MAX];
    sl_forward_seq seq;
    uint32_t logit_row;
    sl_sampler sampler;
    sl_sampler *samplers[1];
    sl_sample sample[1];
    sl_exec_batch batch;
    sl_fence fence;
} device_seq;

static void give_pages(const world *w, device_seq *s, const ask *a, uint32_t *next)
{
    const sl_model_config *config = sl_model_get_config(w->rig.model);

    memset(s, 0, sizeof(*s));
    for (uint32_t c = 0; c < config->chunk_count; c++) {
        s->table[c] = s->page[c];
        for (uint32_t p = 0; p < CONTEXT / SL_PAGE_TOKENS; p++)
            for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++)
                s->page[c][p].plane[i] = (*next)++;
    }
    s->sampler = (sl_sampler){.params = &a->params, .vocab_used = VOCAB};
    s->samplers[0] = &s->sampler;
}

static void fill(const world *w, device_seq *s, const uint32_t *token, uint32_t rows,
                 uint32_t position)
{
    s->seq = (sl_forward_seq){.row_count = rows, .position = position, .chunk_pages = s->table};
    s->logit_row = rows - 1;
    s->batch = (sl_exec_batch){.layer_end = sl_model_get_config(w->rig.model)->layer_count,
                               .token = token,
                               .rows = rows,
                               .seq = &s->seq,
                               .seq_count = 1,
                               .logit_row = &s->logit_row,
                               .sampler = s->samplers,
                               .sample = s->sample,
                               .logit_row_count = 1};
}

static sl_status finish(sl_exec *exec, sl_fence fence)
{
    sl_status status = SL_OK;
    uint32_t busy_us;

    while (!sl_exec_poll(exec, fence, &status, &busy_us))
        sl_exec_wait(exec, 1000000);
    return status;
}

/* Two lanes at once, on every rung that has both, and hopping between rungs: the batches overlap,
 * wait for each other's units, and give the reference's tokens. */
static void both_lanes_at_once_give_the_references_tokens(void **state)
{
    static ask asks[2];
    static device_seq p, d;
    static world w;
    const sl_exec_caps *caps;
    uint32_t next = 0, rung = 0;
    (void)state;

    open_model(&w, "llama");
    const sl_exec_cpu_options options = exec_options(&w, 4);
    assert_int_equal(sl_exec_cpu_create(&options, &w.exec, NULL), SL_OK);
    caps = sl_exec_get_caps(w.exec);
    assert_int_equal(caps->units, 4);
    assert_int_equal(caps->rung_count, 5);
    for (uint32_t i = 0; i < 2; i++) {
        make_ask(&asks[i], 2 + 8 * i); /* 64 tokens, greedy */
        asks[i].max_tokens = ANSWER_MAX;
        compute_expected(&w, &asks[i]);
    }
    give_pages(&w, &p, &asks[0], &next);
    give_pages(&w, &d, &asks[1], &next);
    fill(&w, &d, asks[1].prompt, asks[1].prompt_count - 10, 0);
    (void)!sl_exec_submit(w.exec, SL_LANE_DECODE, caps->rung_count - 1, &d.batch, &d.fence);
    for (uint32_t round = 0; round < 60; round++) {
        /* A prompt in two slices, each cut by layers; a step of one token; over and over. */
        const uint32_t position = round % 2 == 0 ? 0 : 32;

        assert_int_equal(finish(w.exec, d.fence), SL_OK);
        rung = (rung + 1) % caps->rung_count;
        fill(&w, &p, asks[0].prompt + position, 32, position);
        fill(&w, &d, asks[1].prompt + 54 - round % 10, 1, 54 - round % 10);
        p.batch.logit_row_count = 0;
        p.batch.layer_end = 1;
        d.batch.space = caps->space_count - 1;
        const uint32_t p_rung = rung == caps->rung_count - 1 ? 1 : rung;
        const uint32_t d_rung = rung == 0 ? 2 : rung;
        assert_int_equal(sl_exec_submit(w.exec, SL_LANE_PREFILL, p_rung, &p.batch, &p.fence),
                         SL_OK);
        assert_int_equal(sl_exec_submit(w.exec, SL_LANE_DECODE, d_rung, &d.batch, &d.fence), SL_OK);
        assert_int_equal(finish(w.exec, p.fence), SL_OK);
        p.batch.layer_first = 1;
        p.batch.layer_end = sl_model_get_config(w.rig.model)->layer_count;
        p.batch.logit_row_count = 1;
        assert_int_equal(sl_exec_submit(w.exec, SL_LANE_PREFILL, p_rung, &p.batch, &p.fence),
                         SL_OK);
        assert_int_equal(finish(w.exec, p.fence), SL_OK);
        if (position == 32)
            assert_int_equal(p.sample[0].token, asks[0].expected[0].token);
    }
    assert_int_equal(finish(w.exec, d.fence), SL_OK);
    sl_exec_destroy(w.exec);
    close_model(&w);
}

static void four_batches_of_a_lane_are_queued_and_not_five(void **state)
{
    static ask a;
    static device_seq s[SL_EXEC_QUEUE_MAX];
    static world w;
    uint32_t next = 0;
    (void)state;

    open_model(&w, "llama");
    const sl_exec_cpu_options options = exec_options(&w, 2);
    assert_int_equal(sl_exec_cpu_create(&options, &w.exec, NULL), SL_OK);
    make_ask(&a, 2);
    compute_expected(&w, &a);
    for (int round = 0; round < 5; round++) {
        uint32_t queued = 0;

        next = 0;
        for (uint32_t i = 0; i < SL_EXEC_QUEUE_MAX; i++) {
            give_pages(&w, &s[i], &a, &next);
            fill(&w, &s[i], a.prompt, a.prompt_count, 0);
            assert_int_equal(
                sl_exec_submit(w.exec, SL_LANE_PREFILL, i % 2, &s[i].batch, &s[i].fence), SL_OK);
            queued++;
        }
        assert_int_equal(queued, SL_EXEC_QUEUE_MAX);
        for (uint32_t i = 0; i < SL_EXEC_QUEUE_MAX; i++) {
            assert_int_equal(finish(w.exec, s[i].fence), SL_OK);
            assert_int_equal(s[i].sample[0].token, a.expected[0].token);
        }
    }
    sl_exec_destroy(w.exec);
    close_model(&w);
}

static void a_token_outside_the_vocabulary_fails_its_batch_only(void **state)
{
    static ask a;
    static device_seq s;
    static world w;
    uint32_t next = 0, bad = VOCAB;
    (void)state;

    open_model(&w, "llama");
    const sl_exec_cpu_options options = exec_options(&w, 2);
    assert_int_equal(sl_exec_cpu_create(&options, &w.exec, NULL), SL_OK);
    make_ask(&a, 2);
    compute_expected(&w, &a);
    give_pages(&w, &s, &a, &next);
    fill(&w, &s, &bad, 1, 0);
    assert_int_equal(sl_exec_submit(w.exec, SL_LANE_PREFILL, 0, &s.batch, &s.fence), SL_OK);
    assert_int_equal(finish(w.exec, s.fence), SL_EINVAL);
    fill(&w, &s, a.prompt, a.prompt_count, 0);
    assert_int_equal(sl_exec_submit(w.exec, SL_LANE_PREFILL, 0, &s.batch, &s.fence), SL_OK);
    assert_int_equal(finish(w.exec, s.fence), SL_OK);
    assert_int_equal(s.sample[0].token, a.expected[0].token);
    sl_exec_destroy(w.exec);
    close_model(&w);
}

static void bad_options_and_failed_allocations_are_reported(void **state)
{
    static world w;
    sl_exec_cpu_options o;
    sl_exec *exec = NULL;
    sl_status status = SL_ENOMEM;
    sl_err err;
    uint64_t n = 0;
    (void)state;

    open_model(&w, "llama");
#define REFUSE(change, expected)                                                                   \
    do {                                                                                           \
        o = exec_options(&w, 2);                                                                   \
        change;                                                                                    \
        err.text[0] = 0;                                                                           \
        assert_int_equal(sl_exec_cpu_create(&o, &exec, &err), expected);                           \
        assert_true(strlen(err.text) > 10);                                                        \
        assert_null(exec);                                                                         \
    } while (0)
    REFUSE(o.plane_count = 0, SL_EINVAL);
    REFUSE(o.rows_max = 0, SL_EINVAL);
    REFUSE(o.logit_rows_max = 0, SL_EINVAL);
    REFUSE(o.logit_rows_max = 97, SL_EINVAL);
    REFUSE(o.seqs_max = 97, SL_EINVAL);
    REFUSE(o.units = 257, SL_EINVAL);
#undef REFUSE
    while (status != SL_OK) {
        o = exec_options(&w, 3);
        sl_alloc_fail_at(++n);
        status = sl_exec_cpu_create(&o, &exec, &err);
        sl_alloc_fail_at(0);
        assert_true(status == SL_OK || status == SL_ENOMEM || status == SL_EUNAVAILABLE);
    }
    assert_true(n > 7);
    assert_true(sl_exec_cpu_bytes(&o) >
                o.plane_count * sl_model_get_plan(w.rig.model)->kv_plane_bytes);
    sl_exec_destroy(exec);
    sl_exec_destroy(NULL);

    o = exec_options(&w, 0); /* as many as there are */
    assert_int_equal(sl_exec_cpu_create(&o, &exec, &err), SL_OK);
    assert_int_equal(sl_exec_get_caps(exec)->units, sl_cpu_count());
    sl_exec_destroy(exec);
    close_model(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_together_are_one_by_one_on_one_unit),
        cmocka_unit_test(sixteen_together_are_one_by_one_on_two_units),
        cmocka_unit_test(sixteen_together_are_one_by_one_on_four_units),
        cmocka_unit_test(windows_change_nothing),
        cmocka_unit_test(forks_give_what_each_would_give_alone),
        cmocka_unit_test(a_cancel_frees_the_pages_within_one_step),
        cmocka_unit_test(a_row_without_a_possible_token_fails_alone),
        cmocka_unit_test(both_lanes_at_once_give_the_references_tokens),
        cmocka_unit_test(four_batches_of_a_lane_are_queued_and_not_five),
        cmocka_unit_test(a_token_outside_the_vocabulary_fails_its_batch_only),
        cmocka_unit_test(bad_options_and_failed_allocations_are_reported),
    };
    return cmocka_run_group_tests_name("engine/exec_cpu", tests, NULL, NULL);
}
