/* engine/sampler.h - from a row of logits to a token: a pure function of row, parameters, history.
 *
 * Order, as in vLLM: forced and banned tokens; repetition, presence and frequency penalties;
 * logit_bias; then greedy if temperature is 0, else temperature, min_p, top_k, top_p, and one draw.
 * Logprobs are of the raw logits (log softmax before any of that).  Every stage works on what the
 * one before has left; min_p is relative to the largest weight, top_p to the sum of those left.
 *
 * The draw is sl_rng_unit(seed, n) for the n-th token of the answer: independent of the batch.
 *
 * Thread: a sampler is used by one thread at a time; any number of them run at once. */
#ifndef SL_ENGINE_SAMPLER_H
#define SL_ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    SL_TOP_LOGPROBS_MAX = 20,
    SL_LOGIT_BIAS_MAX = 1024,
    SL_STOP_TOKENS_MAX = 64 /* end-of-generation tokens of the model and the request's own */
};

typedef struct sl_logit_bias {
    uint32_t token;
    float bias; /* -100 .. 100; -100 and below ban, +100 and above force nothing else */
} sl_logit_bias;

typedef struct sl_sample_params {
    float temperature;        /* >= 0; 0: greedy */
    uint32_t top_k;           /* 0: all */
    float top_p;              /* (0, 1]; 1: all */
    float min_p;              /* [0, 1]; 0: all */
    float repetition_penalty; /* > 0; 1: none; over prompt and answer */
    float presence_penalty;   /* over the answer */
    float frequency_penalty;  /* over the answer */
    uint64_t seed;
    const sl_logit_bias *bias; /* borrowed */
    uint32_t bias_count;
    uint32_t top_logprobs;      /* alternatives to report, 0 .. SL_TOP_LOGPROBS_MAX */
    bool logprobs;              /* report the chosen token's logprob (and the alternatives) */
    uint32_t min_tokens;        /* tokens of the answer before a stop token may come */
    const uint32_t *stop_token; /* banned until then; borrowed */
    uint32_t stop_token_count;
} sl_sample_params;

/* One request's sampler.  Storage and pointers are the slot's. */
typedef struct sl_sampler {
    const sl_sample_params *params;
    uint32_t vocab_used;    /* logits beyond it are padding: never sampled */
    uint32_t generated;     /* tokens of the answer so far: the n of the next draw */
    uint16_t *answer_count; /* [vocab] times each token is in the answer; NULL: no penalties */
    uint8_t *prompt_seen;   /* [vocab / 8 + 1] bit set of the prompt's tokens; NULL as well */
} sl_sampler;

typedef struct sl_token_logprob {
    uint32_t token;
    float logprob;
} sl_token_logprob;

typedef struct sl_sample {
    uint32_t token;
    float logprob; /* if params->logprobs; as in `top` if it is there, else within 1e-4 */
    uint32_t top_count;
    sl_token_logprob top[SL_TOP_LOGPROBS_MAX]; /* most probable first; ties: lower id first */
} sl_sample;

/* True if these parameters need answer_count and prompt_seen. */
bool sl_sample_params_penalize(const sl_sample_params *params);

/* Choose a token.  `logits` [vocab] is changed.  NaN counts as -infinity; if nothing is left,
 * token 0 and status SL_EINTERNAL.  Ties go to the lower id.  Does not advance the sampler. */
SL_MUST_CHECK sl_status sl_sampler_sample(const sl_sampler *sampler, float *logits, uint32_t vocab,
                                          sl_sample *out);

/* The chosen token joins the history. */
void sl_sampler_accept(sl_sampler *sampler, uint32_t token);

#endif
