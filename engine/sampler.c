/* engine/sampler.c - see sampler.h
 *
 * Bans, penalties and bias change the row in place, on the tokens that they name only; then greedy
 * is the maximum, and everything else is draw.c's. */
#include "engine/sampler.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "engine/sampler_internal.h"

bool sl_sample_params_penalize(const sl_sample_params *params)
{
    return params->repetition_penalty != 1.0f || params->presence_penalty != 0.0f ||
           params->frequency_penalty != 0.0f;
}

static float penalized(const sl_sample_params *p, float x, uint32_t count)
{
    x = x > 0.0f ? x / p->repetition_penalty : x * p->repetition_penalty;
    if (count > 0)
        x = x - p->presence_penalty - p->frequency_penalty * (float)count;
    return x;
}

/* Penalise the tokens first .. first + 63 that are in the prompt or the answer. */
static void penalize_word(const sl_sampler *s, float *logits, uint32_t first, uint64_t seen)
{
    while (seen != 0) {
        const uint32_t token = first + (uint32_t)__builtin_ctzll(seen);

        logits[token] = penalized(s->params, logits[token], s->answer_count[token]);
        seen &= seen - 1;
    }
}

/* Are any of the `count` <= 64 counts not 0?  Mostly not: so look at four at a time. */
static bool any_counted(const uint16_t *answer_count, uint32_t count)
{
    uint64_t word[64 / 4] = {0}, any = 0;

    memcpy(word, answer_count, count * sizeof(*answer_count));
    for (uint32_t i = 0; i < 64 / 4; i++)
        any |= word[i];
    return any != 0;
}

static void penalize(const sl_sampler *s, float *logits, uint32_t n)
{
    for (uint32_t first = 0; first < n; first += 64) {
        const uint32_t count = n - first < 64 ? n - first : 64;
        uint64_t seen = 0;

        memcpy(&seen, s->prompt_seen + first / 8, (count + 7) / 8);
        if (any_counted(s->answer_count + first, count))
            for (uint32_t i = 0; i < count; i++)
                seen |= (uint64_t)(s->answer_count[first + i] > 0) << i;
        if (count < 64)
            seen &= ((uint64_t)1 << count) - 1;
        penalize_word(s, logits, first, seen);
    }
}

static float bias_of(const sl_sample_params *p, uint32_t token)
{
    float bias = 0.0f;

    for (uint32_t i = 0; i < p->bias_count; i++)
        if (p->bias[i].token == token)
            bias += p->bias[i].bias;
    return bias;
}

static void adjust(const sl_sampler *s, float *logits, uint32_t n)
{
    const sl_sample_params *p = s->params;

    if (s->generated < p->min_tokens)
        for (uint32_t i = 0; i < p->stop_token_count; i++)
            if (p->stop_token[i] < n)
                logits[p->stop_token[i]] = -INFINITY;
    if (sl_sample_params_penalize(p) && s->answer_count != NULL && s->prompt_seen != NULL)
        penalize(s, logits, n);
    for (uint32_t i = 0; i < p->bias_count; i++) {
        const sl_logit_bias *b = &p->bias[i];

        if (b->token >= n)
            continue;
        if (b->bias <= -100.0f)
            logits[b->token] = -INFINITY;
        else
            logits[b->token] += b->bias;
    }
}

/* The logit of `token` before adjust, from the one after it, to a rounding or two: the row has no
 * place for both.  Only of a token that was chosen, which no ban has touched. */
static float unadjusted(const sl_sampler *s, float x, uint32_t token)
{
    const sl_sample_params *p = s->params;

    if (p->bias_count > 0)
        x -= bias_of(p, token);
    if (!sl_sample_params_penalize(p) || s->answer_count == NULL || s->prompt_seen == NULL)
        return x;
    if (s->answer_count[token] > 0)
        x = x + p->presence_penalty + p->frequency_penalty * (float)s->answer_count[token];
    else if ((s->prompt_seen[token / 8] >> (token % 8) & 1) == 0)
        return x;
    return x > 0.0f ? x * p->repetition_penalty : x / p->repetition_penalty;
}

/* --- logprobs --- */

typedef struct raw_norm {
    float max;
    double log_sum;
} raw_norm;

static raw_norm raw_norm_of(float *logits, uint32_t n)
{
    const sl_weighing by = {.max = sl_sampler_max(logits, n), .temperature = 1.0f};

    return (raw_norm){.max = by.max, .log_sum = log(sl_sampler_sum(logits, n, &by))};
}

static float logprob_of(const raw_norm *norm, float x)
{
    const double below = x == norm->max ? 0.0 : (double)x - (double)norm->max;

    return (float)(below - norm->log_sum);
}

static void report_top(const float *logits, uint32_t n, uint32_t count, const raw_norm *norm,
                       sl_sample *out)
{
    sl_candidate best[SL_TOP_LOGPROBS_MAX];

    out->top_count = sl_sampler_best(
        logits, n, count < SL_TOP_LOGPROBS_MAX ? count : SL_TOP_LOGPROBS_MAX, -INFINITY, best);
    for (uint32_t i = 0; i < out->top_count; i++)
        out->top[i] =
            (sl_token_logprob){.token = best[i].token, .logprob = logprob_of(norm, best[i].value)};
}

static void report_chosen(const sl_sampler *s, const raw_norm *norm, float adjusted, sl_sample *out)
{
    out->logprob = logprob_of(norm, unadjusted(s, adjusted, out->token));
    for (uint32_t i = 0; i < out->top_count; i++)
        if (out->top[i].token == out->token)
            out->logprob = out->top[i].logprob;
}

sl_status sl_sampler_sample(const sl_sampler *sampler, float *logits, uint32_t vocab,
                            sl_sample *out)
{
    const sl_sample_params *p = sampler->params;
    const uint32_t n = vocab < sampler->vocab_used ? vocab : sampler->vocab_used;
    raw_norm norm = {.max = 0.0f};
    float max, chosen;

    out->token = 0;
    out->logprob = 0.0f;
    out->top_count = 0;
    if (p->logprobs) {
        norm = raw_norm_of(logits, n);
        report_top(logits, n, p->top_logprobs, &norm, out);
    }
    adjust(sampler, logits, n);
    max = sl_sampler_max(logits, n);
    if (max == -INFINITY) {
        out->top_count = 0;
        return SL_EINTERNAL;
    }
    out->token = sl_sampler_find(logits, n, max);
    chosen = max;
    if (p->temperature > 0.0f) {
        out->token = sl_sampler_draw(p, logits, n, max, sl_rng_unit(p->seed, sampler->generated));
        /* The row holds weights now: back from the weight to the logit. */
        chosen = max + p->temperature * logf(logits[out->token]);
    }
    if (p->logprobs)
        report_chosen(sampler, &norm, chosen, out);
    return SL_OK;
}

void sl_sampler_accept(sl_sampler *sampler, uint32_t token)
{
    sampler->generated++;
    if (sampler->answer_count != NULL && token < sampler->vocab_used &&
        sampler->answer_count[token] < UINT16_MAX)
        sampler->answer_count[token]++;
}
