/* engine/exec_virtual.c - see exec_virtual.h
 *
 * The KV of position p stands for the whole history up to p: its value is a hash chained over the
 * tokens 0 .. p.  A plane notes the values of its 16 positions and the value before the first, so
 * that a read checks one note a plane: right chunk, K or V, position, and the chain unbroken.
 *
 * A batch copies its planes when it starts and does the rest when it ends, so that pages which the
 * caller gives to someone else too early are found out. */
#include "engine/exec_virtual.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/rng.h"
#include "base/threads.h"

enum {
    PLANE_TOKENS = 16,    /* of tier F16 */
    PLANES_PER_KIND = 4,  /* K planes of a page, and V planes */
    SPACES = 3,           /* two for slices, one for steps */
    UNITS_MAX = 1 << 16,  /* a limit of this model only */
    LAYERS_MAX = 1 << 16, /* as well */
    ROWS_LIMIT = 1 << 20  /* as well */
};

static const uint64_t CHAIN_START = 0x736c75696365u;
static const double COPY_US = 0.5; /* a plane: a guess, only so that copies are not free */

typedef struct plane_note {
    uint32_t first; /* position of entry 0 */
    uint16_t chunk;
    uint8_t is_value; /* of V, else of K */
    uint8_t filled;   /* entries written */
    uint64_t before;  /* chain value before entry 0 */
    uint64_t chain[PLANE_TOKENS];
} plane_note;

typedef struct job {
    sl_exec_batch batch;
    uint64_t number; /* of its lane, from 1; 0: never used */
    uint64_t order;  /* of all lanes */
    uint32_t rung;
    double left_us; /* work left, at the speed of running alone */
    double start_us;
    bool started;
    bool done;
    bool must_fail;
    sl_status result;
    uint32_t busy_us;
} job;

typedef struct lane {
    job job[SL_EXEC_QUEUE_MAX]; /* number n lies at n modulo the size */
    uint64_t submitted;         /* batches of this lane so far */
    uint64_t finished;
} lane;

typedef struct space {
    uint32_t layer_next; /* where the next batch may go on; 0: nowhere */
    uint64_t rows_hash;
} space;

typedef struct virtual_exec {
    sl_exec exec;
    sl_exec_virtual_options options;
    sl_exec_caps caps;
    uint64_t now_us;
    uint64_t order;
    uint64_t faults;
    lane lane[SL_LANE_COUNT];
    space space[SPACES];
    plane_note *note;   /* [plane_count] */
    uint64_t *row_hash; /* [rows_max] chain value at each row of the batch at hand */
    sl_wake wake;
} virtual_exec;

/* --- the KV ------------------------------------------------------------------------------ */

static uint64_t chain_next(uint64_t chain, uint32_t token)
{
    return sl_mix64_pair(chain, token);
}

static uint32_t token_of(uint64_t chain, uint32_t vocab, uint64_t seed)
{
    const uint64_t hash = seed == 0 ? sl_mix64(chain) : sl_mix64_pair(chain, seed);

    return (uint32_t)(((unsigned __int128)hash * vocab) >> 64);
}

uint32_t sl_exec_virtual_seeded_token(const uint32_t *history, uint32_t count, uint32_t vocab,
                                      uint64_t seed)
{
    uint64_t chain = CHAIN_START;

    for (uint32_t i = 0; i < count; i++)
        chain = chain_next(chain, history[i]);
    return token_of(chain, vocab, seed);
}

uint32_t sl_exec_virtual_token(const uint32_t *history, uint32_t count, uint32_t vocab)
{
    return sl_exec_virtual_seeded_token(history, count, vocab, 0);
}

static plane_note *note_at(virtual_exec *x, const sl_kv_page *pages, uint32_t block, bool is_value)
{
    const sl_kv_page *page = &pages[block / PLANES_PER_KIND];
    const uint32_t i = block % PLANES_PER_KIND + (is_value ? PLANES_PER_KIND : 0);
    const uint32_t plane = page->plane[i];

    return page->tier == SL_KV_F16 && plane < x->caps.plane_count ? &x->note[plane] : NULL;
}

static bool note_holds(const plane_note *note, uint32_t chunk, bool is_value, uint32_t block,
                       uint32_t filled)
{
    return note->filled >= filled && note->first == block * PLANE_TOKENS && note->chunk == chunk &&
           note->is_value == (is_value ? 1 : 0);
}

/* Read what a row at position `count` sees of one chunk: the positions below `count`, as far as the
 * window reaches.  *chain is the value of position count-1.  False: something else lies there. */
static bool read_chunk(virtual_exec *x, const sl_kv_page *pages, uint32_t chunk, uint32_t count,
                       uint64_t *chain)
{
    const uint32_t window = x->options.chunk_window[chunk];
    const uint32_t low = window == 0 || count + 1 < window ? 0 : count + 1 - window;
    const uint32_t first = low / PLANE_TOKENS;
    uint64_t value = CHAIN_START;

    for (uint32_t block = first; block * PLANE_TOKENS < count; block++) {
        const uint32_t rest = count - block * PLANE_TOKENS;
        const uint32_t filled = rest < PLANE_TOKENS ? rest : PLANE_TOKENS;
        const plane_note *k = note_at(x, pages, block, false);
        const plane_note *v = note_at(x, pages, block, true);

        if (k == NULL || v == NULL || !note_holds(k, chunk, false, block, filled) ||
            !note_holds(v, chunk, true, block, filled))
            return false;
        if ((block > first || block == 0) && k->before != value)
            return false;
        value = k->chain[filled - 1];
        if (v->before != k->before || v->chain[filled - 1] != value)
            return false;
    }
    *chain = value;
    return true;
}

/* The chain value of a sequence's first `count` tokens, as all chunks agree. */
static sl_status read_history(virtual_exec *x, const sl_forward_seq *seq, uint64_t *chain)
{
    uint64_t value = CHAIN_START;

    for (uint32_t chunk = 0; chunk < x->options.chunk_count; chunk++) {
        uint64_t here;

        if (!read_chunk(x, seq->chunk_pages[chunk], chunk, seq->position, &here) ||
            (chunk > 0 && here != value)) {
            x->faults++;
            return SL_EINTERNAL;
        }
        value = here;
    }
    *chain = value;
    return SL_OK;
}

static sl_status write_token(virtual_exec *x, const sl_forward_seq *seq, uint32_t position,
                             uint64_t before, uint64_t value)
{
    const uint32_t block = position / PLANE_TOKENS;
    const uint32_t entry = position % PLANE_TOKENS;

    for (uint32_t i = 0; i < 2 * x->options.chunk_count; i++) {
        const uint32_t chunk = i / 2;
        const bool is_value = i % 2 == 1;
        plane_note *note = note_at(x, seq->chunk_pages[chunk], block, is_value);

        if (note == NULL) {
            x->faults++;
            return SL_EINTERNAL;
        }
        if (entry == 0) {
            memset(note, 0, sizeof(*note));
            note->first = block * PLANE_TOKENS;
            note->chunk = (uint16_t)chunk;
            note->is_value = is_value ? 1 : 0;
            note->before = before;
        }
        note->chain[entry] = value;
        note->filled = (uint8_t)(entry + 1);
    }
    return SL_OK;
}

/* A failed batch: what its rows would have written is undefined. */
static void spoil(virtual_exec *x, const sl_forward_seq *seq)
{
    for (uint32_t r = 0; r < seq->row_count; r++) {
        const uint32_t position = seq->position + r;

        for (uint32_t i = 0; i < 2 * x->options.chunk_count; i++) {
            plane_note *note = note_at(x, seq->chunk_pages[i / 2], position / PLANE_TOKENS, i % 2);

            if (note != NULL && note->filled > position % PLANE_TOKENS)
                note->filled = (uint8_t)(position % PLANE_TOKENS);
        }
    }
}

/* --- a batch ----------------------------------------------------------------------------- */

/* Rule 3 of exec.h: a batch of later layers goes on where one of the same rows ended. */
static sl_status follow_space(virtual_exec *x, const sl_exec_batch *batch)
{
    space *s = &x->space[batch->space];
    uint64_t hash = sl_mix64(batch->rows);
    const uint32_t expected = s->layer_next;

    for (uint32_t i = 0; i < batch->rows; i++)
        hash = sl_mix64_pair(hash, batch->token[i]);
    for (uint32_t i = 0; i < batch->seq_count; i++)
        hash = sl_mix64_pair(hash, batch->seq[i].position);
    if (batch->layer_first > 0 && (expected != batch->layer_first || s->rows_hash != hash)) {
        x->faults++;
        return SL_EINTERNAL;
    }
    s->rows_hash = hash;
    s->layer_next = batch->layer_end < x->options.layers ? batch->layer_end : 0;
    return SL_OK;
}

static sl_status compute_seq(virtual_exec *x, const sl_exec_batch *batch, const sl_forward_seq *seq)
{
    uint64_t chain;
    sl_status status = read_history(x, seq, &chain);

    for (uint32_t r = 0; r < seq->row_count && status == SL_OK; r++) {
        const uint64_t value = chain_next(chain, batch->token[seq->row_first + r]);

        status = write_token(x, seq, seq->position + r, chain, value);
        x->row_hash[seq->row_first + r] = value;
        chain = value;
    }
    return status;
}

static sl_status compute(virtual_exec *x, const job *j)
{
    const sl_exec_batch *batch = &j->batch;
    sl_status status = SL_OK;

    if (batch->rows == 0)
        return j->must_fail ? SL_EINTERNAL : SL_OK;
    status = follow_space(x, batch);
    if (j->must_fail) {
        for (uint32_t i = 0; i < batch->seq_count; i++)
            spoil(x, &batch->seq[i]);
        return SL_EINTERNAL;
    }
    if (batch->layer_end < x->options.layers)
        return status;
    for (uint32_t i = 0; i < batch->seq_count && status == SL_OK; i++)
        status = compute_seq(x, batch, &batch->seq[i]);
    for (uint32_t i = 0; i < batch->logit_row_count && status == SL_OK; i++) {
        const uint64_t chain = x->row_hash[batch->logit_row[i]];
        const sl_sampler *sampler = batch->sampler == NULL ? NULL : batch->sampler[i];
        sl_sample *sample = &batch->sample[i];

        memset(sample, 0, sizeof(*sample));
        sample->token =
            token_of(chain, x->options.vocab,
                     sampler == NULL || sampler->params == NULL ? 0 : sampler->params->seed);
        sample->logprob = -(float)(sl_mix64_pair(chain, 1) >> 40) * 0x1.0p-20f;
    }
    return status;
}

/* --- time -------------------------------------------------------------------------------- */

/* About normal: the sum of twelve draws. */
static double noise_factor(const virtual_exec *x, uint64_t n)
{
    double sum = -6.0;

    for (uint64_t i = 0; i < 12; i++)
        sum += sl_rng_unit(x->options.seed, n * 12 + i);
    return fmax(0.1, 1.0 + x->options.noise * sum);
}

static double work_us(const virtual_exec *x, sl_lane l, uint32_t rung, const sl_exec_batch *batch,
                      uint64_t order)
{
    const sl_exec_virtual_options *o = &x->options;
    const double part = (double)sl_exec_lane_units(&x->caps, l, rung) / o->units;
    const double prefill_rate = 1.0 - (1.0 - part) * (1.0 - part);
    const double decode_rate = 1.0 - pow(1.0 - part, 4.0);
    double prefill_us = 0, decode_us = 0, us;

    for (uint32_t i = 0; i < batch->seq_count; i++) {
        if (batch->seq[i].row_count == 1)
            decode_us += o->token_us;
        else
            prefill_us += batch->seq[i].row_count * o->prefill_token_us;
    }
    /* The weights are read once a batch: a step's fixed part, hidden by a long enough prompt. */
    if (decode_us > 0)
        us = prefill_us / prefill_rate + (o->step_us + decode_us) / decode_rate;
    else if (batch->rows > 0)
        us = fmax(prefill_us / prefill_rate, o->step_us / decode_rate);
    else
        us = 0;
    us *= (double)(batch->layer_end - batch->layer_first) / o->layers;
    us += batch->copy_count * COPY_US;
    return fmax(0.001, us * noise_factor(x, order));
}

/* Do the units of the two jobs overlap?  They are of different lanes, `p` of prefill. */
static bool overlap(const virtual_exec *x, const job *p, const job *d)
{
    return x->caps.rung[p->rung].prefill_units + x->caps.rung[d->rung].decode_units >
           x->options.units;
}

static job *head_of(lane *l)
{
    return l->finished < l->submitted ? &l->job[(l->finished + 1) % SL_EXEC_QUEUE_MAX] : NULL;
}

/* A batch starts when it is the first of its lane and no earlier one of the other lane holds, or
 * waits for, one of its units. */
static bool may_start(virtual_exec *x, sl_lane l, const job *j)
{
    lane *other = &x->lane[l == SL_LANE_PREFILL ? SL_LANE_DECODE : SL_LANE_PREFILL];

    for (uint64_t n = other->finished + 1; n <= other->submitted; n++) {
        const job *o = &other->job[n % SL_EXEC_QUEUE_MAX];
        const bool meet = l == SL_LANE_PREFILL ? overlap(x, j, o) : overlap(x, o, j);

        if (o->order < j->order && meet)
            return false;
    }
    return true;
}

static void start_heads(virtual_exec *x, double t)
{
    for (int l = 0; l < SL_LANE_COUNT; l++) {
        job *j = head_of(&x->lane[l]);

        if (j == NULL || j->started || !may_start(x, (sl_lane)l, j))
            continue;
        j->started = true;
        j->start_us = t;
        for (uint32_t i = 0; i < j->batch.copy_count; i++)
            x->note[j->batch.copy_dst[i]] = x->note[j->batch.copy_src[i]];
    }
}

/* Factor on the time of the running jobs. */
static double slowdown(virtual_exec *x)
{
    const job *p = head_of(&x->lane[SL_LANE_PREFILL]);
    const job *d = head_of(&x->lane[SL_LANE_DECODE]);

    return p != NULL && d != NULL && p->started && d->started ? x->options.contention : 1.0;
}

/* The lane whose running job ends first, and when; SL_LANE_COUNT: none runs. */
static int next_end(virtual_exec *x, double t, double *end_us)
{
    const double slow = slowdown(x);
    int first = SL_LANE_COUNT;

    for (int l = 0; l < SL_LANE_COUNT; l++) {
        const job *j = head_of(&x->lane[l]);

        if (j == NULL || !j->started)
            continue;
        if (first == SL_LANE_COUNT || t + j->left_us * slow < *end_us) {
            first = l;
            *end_us = t + j->left_us * slow;
        }
    }
    return first;
}

static void work_for(virtual_exec *x, double us)
{
    const double slow = slowdown(x);

    for (int l = 0; l < SL_LANE_COUNT; l++) {
        job *j = head_of(&x->lane[l]);

        if (j != NULL && j->started)
            j->left_us = fmax(0.0, j->left_us - us / slow);
    }
}

static void finish_head(virtual_exec *x, int l, double t)
{
    job *j = head_of(&x->lane[l]);

    j->result = compute(x, j);
    j->busy_us = (uint32_t)fmin(UINT32_MAX, fmax(1.0, t - j->start_us));
    j->done = true;
    x->lane[l].finished++;
}

/* Let everything happen up to `target_us`. */
static void advance(virtual_exec *x, uint64_t target_us)
{
    double t = (double)x->now_us;

    for (;;) {
        double end_us = 0;
        int l;

        start_heads(x, t);
        l = next_end(x, t, &end_us);
        if (l == SL_LANE_COUNT || end_us > (double)target_us)
            break;
        work_for(x, end_us - t);
        t = end_us;
        finish_head(x, l, t);
    }
    if (t < (double)target_us)
        work_for(x, (double)target_us - t);
    x->now_us = target_us;
}

/* --- the interface ----------------------------------------------------------------------- */

static const sl_exec_caps *virtual_caps(const sl_exec *exec)
{
    return &((const virtual_exec *)exec)->caps;
}

static sl_status virtual_submit(sl_exec *exec, sl_lane l, uint32_t rung, const sl_exec_batch *batch,
                                sl_fence *fence)
{
    virtual_exec *x = (virtual_exec *)exec;
    const sl_status status = sl_exec_check_batch(&x->caps, x->options.layers, l, rung, batch);
    lane *own;
    job *j;

    if (status != SL_OK)
        return status;
    own = &x->lane[l];
    if (own->submitted - own->finished == SL_EXEC_QUEUE_MAX)
        return SL_EFULL;
    own->submitted++;
    x->order++;
    j = &own->job[own->submitted % SL_EXEC_QUEUE_MAX];
    *j = (job){.batch = *batch,
               .number = own->submitted,
               .order = x->order,
               .rung = rung,
               .left_us = work_us(x, l, rung, batch, x->order),
               .must_fail = x->options.fail_every > 0 && x->order % x->options.fail_every == 0};
    *fence = (sl_fence){.lane = l, .number = own->submitted};
    start_heads(x, (double)x->now_us);
    return SL_OK;
}

static bool virtual_poll(sl_exec *exec, sl_fence fence, sl_status *result, uint32_t *busy_us)
{
    virtual_exec *x = (virtual_exec *)exec;
    const job *j = &x->lane[fence.lane].job[fence.number % SL_EXEC_QUEUE_MAX];

    SL_ASSERT(j->number == fence.number); /* rule 5 of exec.h */
    if (!j->done)
        return false;
    *result = j->result;
    *busy_us = j->busy_us;
    return true;
}

uint64_t sl_exec_virtual_next_us(sl_exec *exec)
{
    virtual_exec *x = (virtual_exec *)exec;
    double end_us = 0;

    start_heads(x, (double)x->now_us);
    if (next_end(x, (double)x->now_us, &end_us) == SL_LANE_COUNT)
        return UINT64_MAX;
    return (uint64_t)ceil(end_us);
}

static void virtual_wait(sl_exec *exec, uint64_t timeout_us)
{
    virtual_exec *x = (virtual_exec *)exec;
    const uint64_t next_us = sl_exec_virtual_next_us(exec);
    const uint64_t until_us =
        timeout_us < UINT64_MAX - x->now_us ? x->now_us + timeout_us : UINT64_MAX;
    const uint64_t target_us = next_us < until_us ? next_us : until_us;

    if (target_us == UINT64_MAX)
        (void)sl_wake_wait(&x->wake, UINT64_MAX);
    else
        advance(x, target_us);
}

static void virtual_wake(sl_exec *exec)
{
    sl_wake_post(&((virtual_exec *)exec)->wake);
}

static uint64_t virtual_now_us(sl_exec *exec)
{
    return ((virtual_exec *)exec)->now_us;
}

static void virtual_destroy(sl_exec *exec)
{
    virtual_exec *x = (virtual_exec *)exec;

    sl_free(x->note);
    sl_free(x->row_hash);
    sl_free(x);
}

void sl_exec_virtual_set_now(sl_exec *exec, uint64_t now_us)
{
    virtual_exec *x = (virtual_exec *)exec;

    SL_ASSERT(now_us >= x->now_us);
    advance(x, now_us);
}

uint64_t sl_exec_virtual_faults(sl_exec *exec)
{
    return ((virtual_exec *)exec)->faults;
}

static sl_status check_options(const sl_exec_virtual_options *o, sl_err *err)
{
    if (o->units == 0 || o->units > UNITS_MAX || o->rung_count > SL_RUNGS_MAX || o->rung_count == 1)
        return sl_fail(err, SL_EINVAL, "a virtual device needs 1 to %d units and 2 to %d rungs",
                       UNITS_MAX, SL_RUNGS_MAX);
    if (o->layers == 0 || o->layers > LAYERS_MAX || o->vocab == 0 || o->chunk_count == 0 ||
        o->chunk_count > SL_KV_CHUNKS_MAX)
        return sl_fail(err, SL_EINVAL, "a virtual device needs layers, a vocabulary and chunks");
    if (o->plane_count == 0 || o->rows_max == 0 || o->rows_max > ROWS_LIMIT ||
        o->logit_rows_max == 0)
        return sl_fail(err, SL_EINVAL, "a virtual device needs planes and rows");
    for (uint32_t i = 0; i < o->chunk_count; i++)
        if (o->chunk_window[i] == 1)
            return sl_fail(err, SL_EINVAL, "a window of one token sees no history");
    for (uint32_t i = 0; i < o->rung_count; i++)
        if (o->rung[i].prefill_units + o->rung[i].decode_units > o->units)
            return sl_fail(err, SL_EINVAL, "rung %u has more units than the device", i);
    if (!(o->step_us >= 0 && o->token_us >= 0 && o->prefill_token_us >= 0 && o->noise >= 0 &&
          o->contention >= 1))
        return sl_fail(err, SL_EINVAL, "costs must not be negative, contention at least 1");
    return SL_OK;
}

static const sl_exec_class virtual_class = {
    .caps = virtual_caps,
    .submit = virtual_submit,
    .poll = virtual_poll,
    .wait = virtual_wait,
    .wake = virtual_wake,
    .now_us = virtual_now_us,
    .destroy = virtual_destroy,
};

sl_status sl_exec_virtual_create(const sl_exec_virtual_options *options, sl_exec **out, sl_err *err)
{
    const sl_status status = check_options(options, err);
    virtual_exec *x;

    if (status != SL_OK)
        return status;
    x = sl_alloc(1, sizeof(*x));
    if (x == NULL)
        return sl_fail(err, SL_ENOMEM, "no memory for a virtual device");
    x->exec.class = &virtual_class;
    x->options = *options;
    x->note = sl_alloc(options->plane_count, sizeof(*x->note));
    x->row_hash = sl_alloc(options->rows_max, sizeof(*x->row_hash));
    if (x->note == NULL || x->row_hash == NULL) {
        virtual_destroy(&x->exec);
        return sl_fail(err, SL_ENOMEM, "no memory for the notes of %u virtual planes",
                       options->plane_count);
    }
    x->caps = (sl_exec_caps){.name = "virtual",
                             .units = options->units,
                             .rung_count = options->rung_count,
                             .space_count = SPACES,
                             .rows_max = options->rows_max,
                             .logit_rows_max = options->logit_rows_max,
                             .plane_bytes = 1,
                             .plane_count = options->plane_count};
    memcpy(x->caps.rung, options->rung, sizeof(x->caps.rung));
    if (options->rung_count == 0)
        x->caps.rung_count = sl_exec_make_ladder(options->units, x->caps.rung);
    /* The clock starts at 1: time 0 means "not reached" in a slot's times. */
    x->now_us = 1;
    sl_wake_init(&x->wake);
    *out = &x->exec;
    return SL_OK;
}
