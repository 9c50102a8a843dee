/* engine/sampler.c - see sampler.h
 *
 * Method.  Everything is a few passes over the row, none of them a sort, in blocks that compilers
 * turn into vector code:
 *
 *   1. bans, penalties, bias: in place, on the tokens they name only;
 *   2. the maximum; greedy ends here;
 *   3. weights w = exp((x - max) / temperature) replace the logits, min_p's cut among them; their
 *      sums by block are kept;
 *   4. top_k and top_p pick candidates: few of them, so they are gathered (blocks without any are
 *      skipped by their maximum) and ordered by a heap; if they are too many for the stack, the
 *      cut is found instead by counting the weights' leading bits, ten at a time;
 *   5. the draw walks the candidates, or the blocks and then one block.
 *
 * All sums have a fixed order that does not depend on the machine, and exp is our own: the same
 * row gives the same token everywhere. */
#include "engine/sampler.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"

enum {
    LANES = 16,       /* sums and maxima side by side, added in order at the end */
    BLOCK = 256,      /* tokens looked at, or skipped, together */
    SUMS_MAX = 1024,  /* sums kept of a row; longer rows have longer stretches */
    GATHER_MAX = 4096 /* candidates on the stack */
};

/* --- small vector loops --- */

typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

static inline f32x4 load4(const float *p)
{
    f32x4 v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static inline f32x4 all4(float x)
{
    return (f32x4){x, x, x, x};
}

/* Where mask is all ones a, else b. */
static inline f32x4 select4(i32x4 mask, f32x4 a, f32x4 b)
{
    return (f32x4)((mask & (i32x4)a) | (~mask & (i32x4)b));
}

/* exp(x) for x <= 0 to about 1 ulp; 0 below -87.3 and for NaN.  x = n ln 2 + r, |r| <= ln 2 / 2; a
 * polynomial for e^r - 1 - r (Cephes' coefficients), and n into the exponent.  Plain arithmetic:
 * the same bits on every machine. */
static inline f32x4 exp4(f32x4 x)
{
    const i32x4 in_range = x > all4(-87.3f);
    const f32x4 clamped = select4(in_range, x, all4(-87.3f));
    const i32x4 n =
        __builtin_convertvector(clamped * all4(1.44269504088896341f) - all4(0.5f), i32x4);
    const f32x4 nf = __builtin_convertvector(n, f32x4);
    const f32x4 r = (clamped - nf * all4(0.693359375f)) - nf * all4(-2.12194440e-4f);
    f32x4 p = all4(1.9875691500e-4f);

    p = p * r + all4(1.3981999507e-3f);
    p = p * r + all4(8.3334519073e-3f);
    p = p * r + all4(4.1665795894e-2f);
    p = p * r + all4(1.6666665459e-1f);
    p = p * r + all4(5.0000001201e-1f);
    p = p * r * r + r + all4(1.0f);
    p = p * (f32x4)((n + 127) << 23);
    return (f32x4)((i32x4)p & in_range);
}

/* The maximum of x[0..n); NaN counts as nothing: -infinity. */
static float max_of(const float *x, uint32_t n)
{
    f32x4 lane[LANES / 4];
    float max = -INFINITY;
    uint32_t i = 0;

    for (uint32_t k = 0; k < LANES / 4; k++)
        lane[k] = all4(-INFINITY);
    for (; i + LANES <= n; i += LANES)
        for (uint32_t k = 0; k < LANES / 4; k++) {
            const f32x4 v = load4(x + i + 4 * k);

            lane[k] = select4(v > lane[k], v, lane[k]);
        }
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (uint32_t k = 0; k < LANES; k++)
        max = lane[k / 4][k % 4] > max ? lane[k / 4][k % 4] : max;
    return max;
}

/* How logits become weights: exp((x - max) / temperature); of NaN and -infinity 0; of the maximum
 * 1, even if it is infinite; below `least` 0. */
typedef struct weighing {
    float max, temperature, least;
} weighing;

/* Weigh one whole block; returns the sum.  w may be x, or NULL. */
static inline double weigh_block(const float *x, const weighing *by, float *w)
{
    const f32x4 max = all4(by->max), scale = all4(1.0f / by->temperature), least = all4(by->least);
    f32x4 lane[LANES / 4];
    double sum = 0.0;

    for (uint32_t k = 0; k < LANES / 4; k++)
        lane[k] = all4(0.0f);
    for (uint32_t i = 0; i < BLOCK; i += LANES)
        for (uint32_t k = 0; k < LANES / 4; k++) {
            const f32x4 v = load4(x + i + 4 * k);
            const f32x4 z = select4(v == max, all4(0.0f), (v - max) * scale);
            f32x4 e = exp4(z);

            e = (f32x4)((i32x4)e & (e >= least));
            lane[k] += e;
            if (w != NULL)
                memcpy(w + i + 4 * k, &e, sizeof(e));
        }
    for (uint32_t k = 0; k < LANES; k++)
        sum += (double)lane[k / 4][k % 4];
    return sum;
}

/* Weigh x[0..n), n <= BLOCK: what a block lacks counts as -infinity. */
static double weigh_some(float *x, uint32_t n, const weighing *by, bool store)
{
    float block[BLOCK];
    double sum;

    if (n == BLOCK)
        return weigh_block(x, by, store ? x : NULL);
    for (uint32_t i = 0; i < BLOCK; i++)
        block[i] = i < n ? x[i] : -INFINITY;
    sum = weigh_block(block, by, block);
    if (store)
        memcpy(x, block, n * sizeof(*x));
    return sum;
}

/* The first i with x[i] == value; n if there is none. */
static uint32_t find_value(const float *x, uint32_t n, float value)
{
    for (uint32_t start = 0; start < n; start += BLOCK) {
        const uint32_t end = n - start < BLOCK ? n : start + BLOCK;
        uint32_t any = 0;

        for (uint32_t i = start; i < end; i++)
            any |= x[i] == value;
        if (any == 0)
            continue;
        for (uint32_t i = start; i < end; i++)
            if (x[i] == value)
                return i;
    }
    return n;
}

/* --- candidates: a heap whose root is the worst, ordered by value, then by lower id --- */

typedef struct candidate {
    float value;
    uint32_t token;
} candidate;

static inline bool is_better(const candidate *a, const candidate *b)
{
    return a->value > b->value || (a->value == b->value && a->token < b->token);
}

/* Let heap[i] sink below everything that `order` puts before it. */
static void sift_down(candidate *heap, uint32_t count, uint32_t i, bool best_first)
{
    const candidate c = heap[i];

    for (uint32_t child = 2 * i + 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count && is_better(&heap[child + 1], &heap[child]) == best_first)
            child++;
        if (is_better(&heap[child], &c) != best_first)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = c;
}

static void make_heap(candidate *heap, uint32_t count, bool best_first)
{
    for (uint32_t i = count / 2; i-- > 0;)
        sift_down(heap, count, i, best_first);
}

/* The k best of x[0..n) that are above `floor`, best first.  Returns how many there are. */
static uint32_t best_of(const float *x, uint32_t n, uint32_t k, float floor, candidate *out)
{
    uint32_t count = 0;

    for (uint32_t start = 0; start < n && k > 0; start += BLOCK) {
        const uint32_t end = n - start < BLOCK ? n : start + BLOCK;

        if (!(max_of(x + start, end - start) > (count < k ? floor : out[0].value)))
            continue;
        for (uint32_t i = start; i < end; i++) {
            /* Ids only grow: an equal value is never better than one that is kept. */
            if (!(x[i] > (count < k ? floor : out[0].value)))
                continue;
            if (count < k) {
                out[count++] = (candidate){.value = x[i], .token = i};
                if (count == k)
                    make_heap(out, count, false);
            } else {
                out[0] = (candidate){.value = x[i], .token = i};
                sift_down(out, count, 0, false);
            }
        }
    }
    if (count < k)
        make_heap(out, count, false);
    for (uint32_t end = count; end-- > 1;) { /* the worst goes to the end */
        const candidate worst = out[0];

        out[0] = out[end];
        sift_down(out, end, 0, false);
        out[end] = worst;
    }
    return count;
}

/* All of x[0..n) that are at least `least`, as they come; GATHER_MAX + 1 if they are more. */
static uint32_t gather(const float *x, uint32_t n, float least, candidate *out)
{
    uint32_t count = 0;

    for (uint32_t start = 0; start < n; start += BLOCK) {
        const uint32_t end = n - start < BLOCK ? n : start + BLOCK;

        if (max_of(x + start, end - start) < least)
            continue;
        for (uint32_t i = start; i < end; i++) {
            if (!(x[i] >= least))
                continue;
            if (count == GATHER_MAX)
                return GATHER_MAX + 1;
            out[count++] = (candidate){.value = x[i], .token = i};
        }
    }
    return count;
}

/* --- 1. bans, penalties, bias --- */

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
    const weighing by = {.max = max_of(logits, n), .temperature = 1.0f};
    double sum = 0.0;

    for (uint32_t start = 0; start < n; start += BLOCK)
        sum += weigh_some(logits + start, n - start < BLOCK ? n - start : BLOCK, &by, false);
    return (raw_norm){.max = by.max, .log_sum = log(sum)};
}

static float logprob_of(const raw_norm *norm, float x)
{
    const double below = x == norm->max ? 0.0 : (double)x - (double)norm->max;

    return (float)(below - norm->log_sum);
}

static void report_top(const float *logits, uint32_t n, uint32_t count, const raw_norm *norm,
                       sl_sample *out)
{
    candidate best[SL_TOP_LOGPROBS_MAX];

    out->top_count = best_of(logits, n, count < SL_TOP_LOGPROBS_MAX ? count : SL_TOP_LOGPROBS_MAX,
                             -INFINITY, best);
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

/* --- 3. to 5. --- */

/* A row of weights, and the sums of its stretches. */
typedef struct weights {
    const float *w;
    uint32_t n;
    uint32_t stretch; /* tokens of a sum: a multiple of BLOCK */
    double total;
    double sum[SUMS_MAX];
} weights;

static uint32_t stretch_of(uint32_t n)
{
    const uint32_t blocks = (n + BLOCK - 1) / BLOCK;

    return (blocks + SUMS_MAX - 1) / SUMS_MAX * BLOCK;
}

/* Replace logits by weights, and sum them. */
static void weigh(float *x, uint32_t n, const weighing *by, weights *out)
{
    out->w = x;
    out->n = n;
    out->stretch = stretch_of(n);
    out->total = 0.0;
    memset(out->sum, 0, sizeof(out->sum));
    for (uint32_t start = 0; start < n; start += BLOCK) {
        const double sum = weigh_some(x + start, n - start < BLOCK ? n - start : BLOCK, by, true);

        out->sum[start / out->stretch] += sum;
        out->total += sum;
    }
}

/* Which weights are kept: those whose bits are above `bits`, and the first `ties` equal to it. */
typedef struct weight_cut {
    uint32_t bits;
    uint32_t ties;
} weight_cut;

static inline uint32_t bits_of(float w)
{
    uint32_t bits;

    memcpy(&bits, &w, sizeof(bits));
    return bits;
}

/* Keep as few of the largest kept weights as reach `target`, counted by weight or by head: the
 * bits of a positive float order as it does, so count them by their leading bits, then refine
 * within the bucket where the target is reached. */
static weight_cut select_cut(const weights *w, weight_cut kept, double target, bool by_weight)
{
    enum { RADIX = 10, BUCKETS = 1 << RADIX, SHIFT_FIRST = 20 };
    uint32_t prefix = 0, mask = 0; /* the bits found so far: weights are <= 1, below 2^30 */
    double reached = 0.0;
    double bucket[BUCKETS];

    for (uint32_t shift = SHIFT_FIRST;; shift -= RADIX) {
        uint32_t ties = kept.ties, b = BUCKETS - 1;

        memset(bucket, 0, sizeof(bucket));
        for (uint32_t i = 0; i < w->n; i++) {
            const uint32_t bits = bits_of(w->w[i]);

            if (bits < kept.bits || (bits == kept.bits && ties == 0))
                continue;
            ties -= bits == kept.bits;
            if ((bits & mask) == prefix)
                bucket[bits >> shift & (BUCKETS - 1)] += by_weight ? (double)w->w[i] : 1.0;
        }
        while (b > 0 && reached + bucket[b] < target)
            reached += bucket[b--];
        prefix |= b << shift;
        mask |= (uint32_t)(BUCKETS - 1) << shift;
        if (shift == 0)
            break;
    }
    /* Of the equal ones at the cut, as many as are missing. */
    {
        float value;
        double missing = target - reached;

        memcpy(&value, &prefix, sizeof(value));
        if (by_weight)
            missing = value > 0.0f ? ceil(missing / (double)value) : 0.0;
        missing = missing < 1.0 ? 1.0 : missing;
        kept.ties =
            prefix == kept.bits && missing > (double)kept.ties ? kept.ties : (uint32_t)missing;
        kept.bits = prefix;
    }
    return kept;
}

/* Draw in order of ids among the weights that are kept. */
static uint32_t draw_kept(const weights *w, weight_cut kept, double u)
{
    uint32_t ties = kept.ties, last = 0;
    double total = 0.0, sum = 0.0;

    for (uint32_t i = 0; i < w->n; i++) {
        const uint32_t bits = bits_of(w->w[i]);

        if (bits < kept.bits || (bits == kept.bits && ties == 0))
            continue;
        ties -= bits == kept.bits;
        total += (double)w->w[i];
    }
    ties = kept.ties;
    for (uint32_t i = 0; i < w->n; i++) {
        const uint32_t bits = bits_of(w->w[i]);

        if (bits < kept.bits || (bits == kept.bits && ties == 0))
            continue;
        ties -= bits == kept.bits;
        sum += (double)w->w[i];
        last = i;
        if (sum > u * total)
            return i;
    }
    return last;
}

/* Draw among all weights: find the stretch, then walk it. */
static uint32_t draw_any(const weights *w, double u)
{
    double left = u * w->total;
    uint32_t start = 0, last = 0;

    while (start + w->stretch < w->n && left >= w->sum[start / w->stretch]) {
        left -= w->sum[start / w->stretch];
        start += w->stretch;
    }
    for (uint32_t i = start; i < w->n; i++) {
        if (w->w[i] <= 0.0f)
            continue;
        last = i;
        left -= (double)w->w[i];
        if (left < 0.0)
            return i;
    }
    /* Rounding has carried the walk past the end: the last one that can be drawn. */
    while (last == 0 && start > 0) {
        start -= w->stretch;
        for (uint32_t i = start; i < start + w->stretch; i++)
            last = w->w[i] > 0.0f ? i : last;
    }
    return last;
}

/* Draw among candidates, best first; only as many as reach top_p of their sum. */
static uint32_t draw_candidates(const candidate *c, uint32_t count, double total, float top_p,
                                double u)
{
    const double target = (double)top_p * total;
    double sum = 0.0;
    uint32_t kept = 0;

    while (kept < count && (kept == 0 || sum < target))
        sum += (double)c[kept++].value;
    u *= sum;
    sum = 0.0;
    for (uint32_t i = 0; i + 1 < kept; i++) {
        sum += (double)c[i].value;
        if (sum > u)
            return c[i].token;
    }
    return c[kept - 1].token;
}

/* top_k > 0: the k best are few.  Returns false if they are not. */
static bool draw_top_k(const weights *w, const sl_sample_params *p, double u, uint32_t *out)
{
    candidate best[GATHER_MAX];
    double total = 0.0;
    uint32_t count;

    if (p->top_k > GATHER_MAX)
        return false;
    count = best_of(w->w, w->n, p->top_k, 0.0f, best);
    for (uint32_t i = 0; i < count; i++)
        total += (double)best[i].value;
    *out = draw_candidates(best, count, total, p->top_p, u);
    return true;
}

/* top_p alone.  All weights below t = (1 - top_p) * total / n weigh less than 1 - top_p together,
 * so that those from t on reach top_p.  Returns false if they are too many. */
static bool draw_top_p(const weights *w, const sl_sample_params *p, double u, uint32_t *out)
{
    const double t = (1.0 - (double)p->top_p) * w->total / (double)w->n;
    const double target = (double)p->top_p * w->total;
    candidate heap[GATHER_MAX];
    double sum = 0.0;
    uint32_t count, left;

    count = gather(w->w, w->n, fmaxf((float)(t * 0.999), 0x1p-126f), heap);
    if (count > GATHER_MAX)
        return false;
    /* Take the best from the heap until they reach the target; they gather behind its end. */
    make_heap(heap, count, true);
    left = count;
    while (left > 0 && (left == count || sum < target)) {
        const candidate best = heap[0];

        sum += (double)best.value;
        heap[0] = heap[--left];
        sift_down(heap, left, 0, true);
        heap[left] = best;
    }
    u *= sum;
    sum = 0.0;
    for (uint32_t i = count; i-- > left;) {
        sum += (double)heap[i].value;
        *out = heap[i].token;
        if (sum > u)
            break;
    }
    return true;
}

/* Too many candidates for the stack: cut by counting. */
static uint32_t draw_by_cut(const weights *w, const sl_sample_params *p, double u)
{
    weight_cut kept = {.bits = 1, .ties = UINT32_MAX}; /* every weight above 0 */
    double total = w->total;

    if (p->top_k > 0 && p->top_k < w->n) {
        kept = select_cut(w, kept, (double)p->top_k, false);
        total = 0.0;
        for (uint32_t i = 0, ties = kept.ties; i < w->n; i++) {
            const uint32_t bits = bits_of(w->w[i]);

            if (bits > kept.bits || (bits == kept.bits && ties > 0)) {
                ties -= bits == kept.bits;
                total += (double)w->w[i];
            }
        }
    }
    if (p->top_p < 1.0f)
        kept = select_cut(w, kept, (double)p->top_p * total, true);
    return draw_kept(w, kept, u);
}

static uint32_t draw(const sl_sampler *s, float *logits, uint32_t n, float max)
{
    const sl_sample_params *p = s->params;
    const double u = sl_rng_unit(p->seed, s->generated);
    weights w;
    uint32_t token = 0;

    weigh(logits, n, &(weighing){.max = max, .temperature = p->temperature, .least = p->min_p}, &w);
    if (p->top_k > 0 && p->top_k < n) {
        if (draw_top_k(&w, p, u, &token))
            return token;
        return draw_by_cut(&w, p, u);
    }
    if (p->top_p < 1.0f) {
        if (draw_top_p(&w, p, u, &token))
            return token;
        return draw_by_cut(&w, p, u);
    }
    return draw_any(&w, u);
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
    max = max_of(logits, n);
    if (max == -INFINITY) {
        out->top_count = 0;
        return SL_EINTERNAL;
    }
    out->token = find_value(logits, n, max);
    chosen = max;
    if (p->temperature > 0.0f) {
        out->token = draw(sampler, logits, n, max);
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
