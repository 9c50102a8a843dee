/* bench/engine.c - see engine.h */
#include "bench/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/rng.h"
#include "base/threads.h"
#include "engine/engine.h"
#include "engine/exec_cpu.h"

enum {
    STREAM_PROMPT = 128, /* tokens in front of a decoding stream */
    SEQS_MAX = 64,
    ROWS_MAX = 512,
    ARENA_BYTES = 64 << 20
};

typedef struct bench {
    const sl_bench_engine_options *o;
    sl_mailbox box;
    sl_exec *exec;
    sl_engine *engine;
    sl_wake wake;
    uint32_t vocab;
    uint64_t draws; /* every prompt is new: no prefix is ever found */
} bench;

static void wake_loop(void *user)
{
    sl_wake_post(user);
}

static sl_status start(bench *b, sl_err *err)
{
    const sl_model_config *c = sl_model_get_config(b->o->model);
    const uint32_t context = c->context < 4096 ? c->context : 4096;
    const uint32_t pages = (context / SL_PAGE_TOKENS + 1) * 4 + 8 * SEQS_MAX;
    const sl_exec_cpu_options exec_options = {
        .model = b->o->model,
        .units = b->o->threads,
        .plane_count = pages * c->chunk_count * SL_PAGE_PLANES_MAX,
        .rows_max = ROWS_MAX,
        .logit_rows_max = SEQS_MAX,
        .seqs_max = SEQS_MAX,
        .pin = true,
    };
    sl_engine_options engine_options = {
        .mailbox = &b->box,
        .config = c,
        .vocab_used = c->vocab,
        .seqs_max = SEQS_MAX,
        .context_max = context,
        .queue_max = SEQS_MAX,
        .policy = SL_POLICY_EXCLUSIVE, /* all prompts first, then all streams together */
        .slice_target_us = 30000,
        .chunk_tokens = 128,
        .prefix_caching = false,
        .preemptions_max = 4,
    };
    sl_status status;

    b->vocab = c->vocab;
    sl_wake_init(&b->wake);
    status = sl_mailbox_init(&b->box, SEQS_MAX * 2, ARENA_BYTES);
    if (status != SL_OK)
        return sl_fail(err, status, "mailbox");
    b->box.wake_loop = wake_loop;
    b->box.loop_user = &b->wake;
    status = sl_exec_cpu_create(&exec_options, &b->exec, err);
    if (status != SL_OK)
        return status;
    engine_options.exec = b->exec;
    status = sl_engine_create(&engine_options, &b->engine, err);
    if (status != SL_OK)
        return status;
    status = sl_engine_start(b->engine);
    return status == SL_OK ? SL_OK : sl_fail(err, status, "cannot start the engine thread");
}

static void stop(bench *b)
{
    if (b->engine != NULL) {
        sl_mailbox_shutdown(&b->box);
        sl_engine_join(b->engine);
    }
    sl_engine_destroy(b->engine);
    sl_exec_destroy(b->exec);
    sl_mailbox_done(&b->box);
}

/* A greedy request of `prompt` random tokens that answers with exactly `answer` tokens. */
static sl_slot *submit(bench *b, uint32_t prompt, uint32_t answer)
{
    sl_slot *slot = sl_mailbox_take_slot(&b->box);
    uint32_t *id;
    sl_status status;

    SL_ASSERT(slot != NULL);
    id = sl_arena_alloc(&slot->arena, prompt, sizeof(*id));
    slot->out_token = sl_arena_alloc(&slot->arena, answer, sizeof(*slot->out_token));
    slot->out_us = sl_arena_alloc(&slot->arena, answer, sizeof(*slot->out_us));
    SL_ASSERT(id != NULL && slot->out_token != NULL && slot->out_us != NULL);
    for (uint32_t i = 0; i < prompt; i++)
        id[i] = (uint32_t)(sl_rng_unit(17, b->draws++) * b->vocab);
    slot->prompt = id;
    slot->prompt_count = prompt;
    slot->max_tokens = answer;
    slot->params = (sl_sample_params){.top_p = 1.0f, .repetition_penalty = 1.0f};
    slot->ignore_eos = true;
    slot->fork_of.index = SL_SLOT_NONE;
    slot->sampler = (sl_sampler){.params = &slot->params, .vocab_used = b->vocab};
    slot->times.submitted_us = sl_exec_now_us(b->exec);
    status = sl_mailbox_submit(&b->box, slot);
    SL_ASSERT(status == SL_OK);
    return slot;
}

/* Wait until `count` slots have ended; false if one failed. */
static bool wait_all(bench *b, uint32_t count)
{
    bool good = true;

    while (count > 0) {
        sl_event_message m;

        sl_wake_wait(&b->wake, 1000000);
        while (sl_mailbox_next_event(&b->box, &m)) {
            count -= m.kind != SL_EVENT_TOKENS;
            good &= m.kind != SL_EVENT_FAILED;
        }
    }
    return good;
}

static bool prefill_once(bench *b, double *rate)
{
    sl_slot *slot = submit(b, b->o->prompt_tokens, 1);
    const bool good = wait_all(b, 1);

    *rate = (double)b->o->prompt_tokens * 1e6 /
            (double)(slot->times.first_token_us - slot->times.submitted_us);
    sl_mailbox_give_slot(&b->box, slot);
    return good;
}

/* Streams of one batch; the time from the last one's first token to the first one's last counts. */
static bool decode_once(bench *b, uint32_t streams, double *rate)
{
    const uint32_t answer = b->o->steps + 2 * streams + 8; /* all prompts are done before it ends */
    sl_slot *slot[SEQS_MAX];
    uint64_t begin_us = 0, end_us = UINT64_MAX, tokens = 0;
    bool good;

    for (uint32_t i = 0; i < streams; i++)
        slot[i] = submit(b, STREAM_PROMPT, answer);
    good = wait_all(b, streams);
    for (uint32_t i = 0; i < streams; i++) {
        const uint64_t first = slot[i]->out_us[0], last = slot[i]->out_us[answer - 1];

        begin_us = first > begin_us ? first : begin_us;
        end_us = last < end_us ? last : end_us;
    }
    for (uint32_t i = 0; i < streams; i++)
        for (uint32_t k = 0; k < answer; k++)
            tokens += slot[i]->out_us[k] > begin_us && slot[i]->out_us[k] <= end_us;
    *rate = end_us > begin_us ? (double)tokens * 1e6 / (double)(end_us - begin_us) : 0.0;
    for (uint32_t i = 0; i < streams; i++)
        sl_mailbox_give_slot(&b->box, slot[i]);
    return good;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static sl_bench_rate summary(double *v, uint32_t n)
{
    qsort(v, n, sizeof(*v), by_value);
    return (sl_bench_rate){.median = v[n / 2], .min = v[0], .max = v[n - 1]};
}

static sl_status check(const sl_bench_engine_options *o, sl_err *err)
{
    const uint32_t context = sl_model_get_config(o->model)->context;

    if (o->repeats == 0 || o->repeats > 100 || o->steps == 0 || o->prompt_tokens == 0)
        return sl_fail(err, SL_EINVAL, "repeats (1-100), steps and prompt must be at least 1");
    if (o->prompt_tokens >= context || o->prompt_tokens > 4095)
        return sl_fail(err, SL_EINVAL, "a prompt of %u tokens does not fit the context of %u",
                       o->prompt_tokens, context < 4096 ? context : 4096);
    for (uint32_t i = 0; i < o->batch_count; i++) {
        if (o->batch[i] == 0 || o->batch[i] > SEQS_MAX)
            return sl_fail(err, SL_EINVAL, "batch %u is not 1 to %d", o->batch[i], SEQS_MAX);
        /* The cache holds eight pages for each of the streams. */
        if (STREAM_PROMPT + o->steps + 2 * o->batch[i] + 8 > 512)
            return sl_fail(err, SL_EINVAL, "%u steps are too many, at most %u", o->steps,
                           512 - STREAM_PROMPT - 2 * o->batch[i] - 8);
    }
    return SL_OK;
}

sl_status sl_bench_engine(const sl_bench_engine_options *options, sl_bench_engine_result *out,
                          sl_err *err)
{
    sl_bench_engine_result result = {0};
    bench b = {.o = options};
    double rate[100];
    sl_status status = check(options, err);
    bool good = true;

    if (status != SL_OK)
        return status;
    status = start(&b, err);
    if (status != SL_OK)
        goto out;
    result.units = sl_exec_get_caps(b.exec)->units;
    good &= prefill_once(&b, &rate[0]); /* warm up: pages are touched, costs learned */
    for (uint32_t r = 0; r < options->repeats; r++)
        good &= prefill_once(&b, &rate[r]);
    result.prefill = summary(rate, options->repeats);
    for (uint32_t i = 0; i < options->batch_count; i++) {
        for (uint32_t r = 0; r < options->repeats; r++)
            good &= decode_once(&b, options->batch[i], &rate[r]);
        result.decode[i] = summary(rate, options->repeats);
    }
    if (!good)
        status = sl_fail(err, SL_EINTERNAL, "a request of the benchmark failed");
    else
        *out = result;
out:
    stop(&b);
    return status;
}
