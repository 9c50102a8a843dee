/* engine/draw.c - see sampler_internal.h
 *
 * Method.  A few passes over the row, none of them a sort, four logits at a time:
 *
 *   1. weights w = exp((x - max) / temperature) replace the logits, min_p's cut among them; their
 *      sums by stretches of the row are kept;
 *   2. top_k and top_p pick candidates: few of them, so they are gathered (blocks without any are
 *      skipped by their maximum) and ordered by a heap; if they are too many for the stack, the
 *      cut is found instead by counting the weights' leading bits, ten at a time;
 *   3. the draw walks the candidates, or the stretches and then one of them.
 *
 * exp is our own: vectors of it are several times as fast as the library's, and the same row gives
 * the same token on every machine.  (Where two logits differ so little that their weights are
 * equal, they count as a tie.) */
#include <math.h>
#include <string.h>

#include "engine/sampler_internal.h"

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

float sl_sampler_max(const float *x, uint32_t n)
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

/* Weigh one whole block; returns the sum.  w may be x, or NULL. */
static inline double weigh_block(const float *x, const sl_weighing *by, float *w)
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
static double weigh_some(float *x, uint32_t n, const sl_weighing *by, bool store)
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

double sl_sampler_sum(float *x, uint32_t n, const sl_weighing *by)
{
    double sum = 0.0;

    for (uint32_t start = 0; start < n; start += BLOCK)
        sum += weigh_some(x + start, n - start < BLOCK ? n - start : BLOCK, by, false);
    return sum;
}

uint32_t sl_sampler_find(const float *x, uint32_t n, float value)
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

static inline bool is_better(const sl_candidate *a, const sl_candidate *b)
{
    return a->value > b->value || (a->value == b->value && a->token < b->token);
}

/* Let heap[i] sink below everything that `order` puts before it. */
static void sift_down(sl_candidate *heap, uint32_t count, uint32_t i, bool best_first)
{
    const sl_candidate c = heap[i];

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

static void make_heap(sl_candidate *heap, uint32_t count, bool best_first)
{
    for (uint32_t i = count / 2; i-- > 0;)
        sift_down(heap, count, i, best_first);
}

uint32_t sl_sampler_best(const float *x, uint32_t n, uint32_t k, float floor, sl_candidate *out)
{
    uint32_t count = 0;

    for (uint32_t start = 0; start < n && k > 0; start += BLOCK) {
        const uint32_t end = n - start < BLOCK ? n : start + BLOCK;

        if (!(sl_sampler_max(x + start, end - start) > (count < k ? floor : out[0].value)))
            continue;
        for (uint32_t i = start; i < end; i++) {
            /* Ids only grow: an equal value is never better than one that is kept. */
            if (!(x[i] > (count < k ? floor : out[0].value)))
                continue;
            if (count < k) {
                out[count++] = (sl_candidate){.value = x[i], .token = i};
                if (count == k)
                    make_heap(out, count, false);
            } else {
                out[0] = (sl_candidate){.value = x[i], .token = i};
                sift_down(out, count, 0, false);
            }
        }
    }
    if (count < k)
        make_heap(out, count, false);
    for (uint32_t end = count; end-- > 1;) { /* the worst goes to the end */
        const sl_candidate worst = out[0];

        out[0] = out[end];
        sift_down(out, end, 0, false);
        out[end] = worst;
    }
    return count;
}

/* All of x[0..n) that are at least `least`, as they come; GATHER_MAX + 1 if they are more. */
static uint32_t gather(const float *x, uint32_t n, float least, sl_candidate *out)
{
    uint32_t count = 0;

    for (uint32_t start = 0; start < n; start += BLOCK) {
        const uint32_t end = n - start < BLOCK ? n : start + BLOCK;

        if (sl_sampler_max(x + start, end - start) < least)
            continue;
        for (uint32_t i = start; i < end; i++) {
            if (!(x[i] >= least))
                continue;
            if (count == GATHER_MAX)
                return GATHER_MAX + 1;
            out[count++] = (sl_candidate){.value = x[i], .token = i};
        }
    }
    return count;
}

/* --- weights, cuts, draws --- */

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
static void weigh(float *x, uint32_t n, const sl_weighing *by, weights *out)
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
static uint32_t draw_candidates(const sl_candidate *c, uint32_t count, double total, float top_p,
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
    sl_candidate best[GATHER_MAX];
    double total = 0.0;
    uint32_t count;

    if (p->top_k > GATHER_MAX)
        return false;
    count = sl_sampler_best(w->w, w->n, p->top_k, 0.0f, best);
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
    sl_candidate heap[GATHER_MAX];
    double sum = 0.0;
    uint32_t count, left;

    count = gather(w->w, w->n, fmaxf((float)(t * 0.999), 0x1p-126f), heap);
    if (count > GATHER_MAX)
        return false;
    /* Take the best from the heap until they reach the target; they gather behind its end. */
    make_heap(heap, count, true);
    left = count;
    while (left > 0 && (left == count || sum < target)) {
        const sl_candidate best = heap[0];

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

uint32_t sl_sampler_draw(const sl_sample_params *p, float *logits, uint32_t n, float max, double u)
{
    const sl_weighing by = {.max = max, .temperature = p->temperature, .least = p->min_p};
    const bool by_head = p->top_k > 0 && p->top_k < n;
    uint32_t token = 0;
    weights w;

    weigh(logits, n, &by, &w);
    if (!by_head && p->top_p >= 1.0f)
        return draw_any(&w, u);
    if (by_head ? draw_top_k(&w, p, u, &token) : draw_top_p(&w, p, u, &token))
        return token;
    return draw_by_cut(&w, p, u);
}
