/* engine/exec_cpu.c - see exec_cpu.h
 *
 * The engine thread pushes a job into the ring of each worker of its lane; a worker runs the jobs
 * of its ring in order.  All rings get jobs in one order, that of submission: of two jobs that
 * share workers, the earlier one is first at each of them, so no circle of waiting can arise.
 *
 * A job's workers are a team.  Every member runs the whole forward pass (SPMD, kernels/team.h) and
 * then samples rows.  The one that leaves last publishes the end: by then no other touches the job,
 * so that the engine may reuse it at once.
 *
 * Ordering.  The engine writes the job, then pushes it (release); a worker pops (acquire).  Members
 * leave by a fetch_sub with acq_rel, so the last one has seen all that the others wrote; it stores
 * `done` with release, and the engine's poll loads it with acquire. */
#include "engine/exec_cpu.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/ring.h"
#include "base/threads.h"
#include "kernels/team.h"

enum {
    SPACES = 3,       /* two for slices, one for steps */
    SPIN_US = 30,     /* a worker waits so long before it sleeps: a guess, about one wake-up */
    SPIN_ROUNDS = 32, /* between looks at the clock */
    ROWS_LIMIT = 1 << 16
};

typedef struct job {
    sl_team team;
    sl_stream stream[SL_TEAM_MAX]; /* of each member: a copy to start from */
    sl_exec_batch batch;
    uint64_t number;  /* of its lane, from 1; 0: never used */
    uint32_t first;   /* worker of rank 0 */
    sl_status result; /* of the members: the same for all */
    uint64_t start_us;
    uint32_t busy_us;
    atomic_uint left; /* members that have gone */
    atomic_bool done;
} job;

typedef struct cpu_exec cpu_exec;

typedef struct worker {
    sl_ring ring; /* of job pointers */
    sl_wake wake;
    sl_thread thread;
    cpu_exec *exec;
    uint32_t index;
    void *scratch;
} worker;

struct cpu_exec {
    sl_exec exec;
    sl_exec_caps caps;
    const sl_model *model;
    const sl_ops *ops;
    uint32_t layers;
    uint32_t seqs_max;
    size_t scratch_bytes;
    size_t space_bytes;
    sl_kv_store kv;
    size_t kv_bytes;
    uint8_t *memory; /* spaces, then scratch */
    size_t memory_bytes;
    sl_forward_space space[SPACES];
    job job[SL_LANE_COUNT][SL_EXEC_QUEUE_MAX]; /* number n lies at n modulo the size */
    uint64_t submitted[SL_LANE_COUNT];
    worker *worker; /* [units], pages of its own */
    sl_wake engine_wake;
    atomic_bool stop;
    char name[32];
};

/* --- workers ----------------------------------------------------------------------------- */

static sl_status copy_planes(cpu_exec *x, const sl_exec_batch *batch, sl_stream *stream)
{
    const sl_plane_copy_args args = {
        .kv = &x->kv, .dst = batch->copy_dst, .src = batch->copy_src, .count = batch->copy_count};

    return batch->copy_count == 0 ? SL_OK : x->ops->plane_copy(&args, stream);
}

static sl_status forward(cpu_exec *x, const sl_exec_batch *batch, sl_stream *stream)
{
    const sl_forward_args args = {.model = x->model,
                                  .kv = &x->kv,
                                  .space = &x->space[batch->space],
                                  .token = batch->token,
                                  .rows = batch->rows,
                                  .seq = batch->seq,
                                  .seq_count = batch->seq_count,
                                  .layer_first = batch->layer_first,
                                  .layer_end = batch->layer_end,
                                  .logit_row = batch->logit_row,
                                  .logit_row_count = batch->logit_row_count};

    return batch->rows == 0 ? SL_OK : sl_model_forward(&args, stream);
}

/* Every row is sampled by one member, whichever comes first. */
static void sample_rows(cpu_exec *x, const sl_exec_batch *batch, sl_stream *stream)
{
    const uint32_t vocab = sl_model_get_config(x->model)->vocab;
    uint32_t i;

    while ((i = sl_stream_take(stream, batch->logit_row_count)) != UINT32_MAX) {
        float *logits = x->space[batch->space].logits + (size_t)i * vocab;

        if (sl_sampler_sample(batch->sampler[i], logits, vocab, &batch->sample[i]) != SL_OK)
            batch->sample[i].token = SL_TOKEN_NONE; /* rule 7 of exec.h */
    }
}

static void run_job(worker *w, job *j)
{
    cpu_exec *x = w->exec;
    const uint32_t rank = w->index - j->first;
    const uint32_t size = j->team.size;
    sl_stream stream = j->stream[rank];
    sl_status status;

    /* All come first: one that missed the lane's last batch must not run ahead into its space. */
    sl_stream_barrier(&stream);
    if (rank == 0)
        j->start_us = sl_clock_us();
    status = copy_planes(x, &j->batch, &stream);
    if (status == SL_OK)
        status = forward(x, &j->batch, &stream);
    if (status == SL_OK)
        sample_rows(x, &j->batch, &stream);
    /* Nobody begins the lane's next batch, perhaps with fewer members, in a space still in use. */
    sl_stream_barrier(&stream);
    if (rank == 0)
        j->result = status;

    if (atomic_fetch_add_explicit(&j->left, 1, memory_order_acq_rel) + 1 == size) {
        j->busy_us = (uint32_t)(sl_clock_us() - j->start_us);
        atomic_store_explicit(&j->done, true, memory_order_release);
        sl_wake_post(&x->engine_wake);
    }
}

/* Spin a little for the next job: steps follow each other closely. */
static bool spin_for_work(worker *w)
{
    const uint64_t until_us = sl_clock_us() + SPIN_US;

    do {
        for (int i = 0; i < SPIN_ROUNDS; i++) {
            if (!sl_ring_empty(&w->ring))
                return true;
            sl_cpu_relax();
        }
    } while (sl_clock_us() < until_us);
    return false;
}

static void worker_main(void *arg)
{
    worker *w = arg;
    job *j;

    for (;;) {
        while (sl_ring_pop(&w->ring, &j))
            run_job(w, j);
        if (atomic_load_explicit(&w->exec->stop, memory_order_acquire))
            return;
        if (!spin_for_work(w))
            (void)sl_wake_wait(&w->wake, UINT64_MAX);
    }
}

/* --- the interface ----------------------------------------------------------------------- */

static const sl_exec_caps *cpu_caps(const sl_exec *exec)
{
    return &((const cpu_exec *)exec)->caps;
}

static sl_status cpu_submit(sl_exec *exec, sl_lane lane, uint32_t rung, const sl_exec_batch *batch,
                            sl_fence *fence)
{
    cpu_exec *x = (cpu_exec *)exec;
    const sl_status status = sl_exec_check_batch(&x->caps, x->layers, lane, rung, batch);
    uint32_t size;
    uint64_t number;
    job *j;

    if (status != SL_OK)
        return status;
    if (batch->seq_count > x->seqs_max)
        return SL_EINVAL;
    number = x->submitted[lane] + 1;
    j = &x->job[lane][number % SL_EXEC_QUEUE_MAX];
    if (j->number != 0 && !atomic_load_explicit(&j->done, memory_order_acquire))
        return SL_EFULL;

    size = sl_exec_lane_units(&x->caps, lane, rung);
    sl_team_init(&j->team, size);
    j->batch = *batch;
    j->number = number;
    j->first = lane == SL_LANE_PREFILL ? 0 : x->caps.units - size;
    atomic_store_explicit(&j->left, 0, memory_order_relaxed);
    atomic_store_explicit(&j->done, false, memory_order_relaxed);
    x->submitted[lane] = number;
    /* All streams before the first push: a member that comes late must not see counters that the
     * others have moved. */
    for (uint32_t i = 0; i < size; i++)
        sl_stream_init(&j->stream[i], &j->team, i, x->worker[j->first + i].scratch,
                       x->scratch_bytes);
    for (uint32_t i = 0; i < size; i++) {
        worker *w = &x->worker[j->first + i];

        /* The ring holds all unfinished jobs of both lanes. */
        SL_ASSERT(sl_ring_push(&w->ring, &j) == SL_OK);
        sl_wake_post(&w->wake);
    }
    *fence = (sl_fence){.lane = lane, .number = number};
    return SL_OK;
}

static bool cpu_poll(sl_exec *exec, sl_fence fence, sl_status *result, uint32_t *busy_us)
{
    const cpu_exec *x = (const cpu_exec *)exec;
    const job *j = &x->job[fence.lane][fence.number % SL_EXEC_QUEUE_MAX];

    SL_ASSERT(j->number == fence.number); /* rule 5 of exec.h */
    if (!atomic_load_explicit(&j->done, memory_order_acquire))
        return false;
    *result = j->result;
    *busy_us = j->busy_us;
    return true;
}

static void cpu_wait(sl_exec *exec, uint64_t timeout_us)
{
    (void)sl_wake_wait(&((cpu_exec *)exec)->engine_wake, timeout_us);
}

static void cpu_wake(sl_exec *exec)
{
    sl_wake_post(&((cpu_exec *)exec)->engine_wake);
}

static uint64_t cpu_now_us(sl_exec *exec)
{
    (void)exec;
    return sl_clock_us();
}

static size_t workers_bytes(const cpu_exec *x)
{
    return x->caps.units * sizeof(*x->worker);
}

static void cpu_destroy(sl_exec *exec)
{
    cpu_exec *x = (cpu_exec *)exec;

    atomic_store_explicit(&x->stop, true, memory_order_release);
    for (uint32_t i = 0; x->worker != NULL && i < x->caps.units; i++) {
        sl_wake_post(&x->worker[i].wake);
        sl_thread_join(&x->worker[i].thread);
        sl_ring_done(&x->worker[i].ring);
    }
    sl_free_pages(x->worker, workers_bytes(x));
    sl_free_pages(x->memory, x->memory_bytes);
    sl_free_pages(x->kv.planes, x->kv_bytes);
    sl_free_pages(x, sizeof(*x));
}

/* --- create ------------------------------------------------------------------------------ */

static uint32_t units_of(const sl_exec_cpu_options *options)
{
    uint32_t units = options->units > 0 ? options->units : sl_cpu_count();

    return units < SL_TEAM_MAX ? units : SL_TEAM_MAX;
}

static size_t round_64(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Sizes of all that is allocated; false: they overflow. */
static bool measure(const sl_exec_cpu_options *o, cpu_exec *x)
{
    const uint32_t units = units_of(o);
    const sl_model_config *config = sl_model_get_config(o->model);
    const size_t plane_bytes = sl_model_get_plan(o->model)->kv_plane_bytes;
    size_t spaces, scratch;

    x->kv = (sl_kv_store){.plane_bytes = plane_bytes,
                          .chunk_layers = config->chunk_layers,
                          .kv_heads = config->kv_heads,
                          .head_dim = config->head_dim};
    x->space_bytes = round_64(
        sl_forward_space_bytes(o->model, o->rows_max, o->logit_rows_max, o->seqs_max, units));
    x->scratch_bytes = round_64(sl_model_scratch_bytes(o->model));
    return sl_mul_size(plane_bytes, o->plane_count, &x->kv_bytes) &&
           sl_mul_size(x->space_bytes, SPACES, &spaces) &&
           sl_mul_size(x->scratch_bytes, units, &scratch) &&
           sl_add_size(spaces, scratch, &x->memory_bytes);
}

size_t sl_exec_cpu_bytes(const sl_exec_cpu_options *options)
{
    cpu_exec *x = sl_xalloc(1, sizeof(*x));
    size_t bytes = SIZE_MAX;

    if (!measure(options, x) || !sl_add_size(x->kv_bytes, x->memory_bytes, &bytes))
        bytes = SIZE_MAX;
    sl_free(x);
    return bytes;
}

static sl_status check_options(const sl_exec_cpu_options *o, sl_err *err)
{
    if (o->units > SL_TEAM_MAX)
        return sl_fail(err, SL_EINVAL, "at most %d worker threads, not %u", SL_TEAM_MAX, o->units);
    if (o->plane_count == 0)
        return sl_fail(err, SL_EINVAL, "the KV store needs planes");
    if (o->rows_max == 0 || o->rows_max > ROWS_LIMIT || o->logit_rows_max == 0 ||
        o->logit_rows_max > o->rows_max || o->seqs_max == 0 || o->seqs_max > o->rows_max)
        return sl_fail(err, SL_EINVAL, "batches of %u rows, %u sampled, %u sequences do not work",
                       o->rows_max, o->logit_rows_max, o->seqs_max);
    return SL_OK;
}

static sl_status take_memory(cpu_exec *x, const sl_exec_cpu_options *o, sl_err *err)
{
    x->memory = sl_alloc_pages(x->memory_bytes);
    if (x->memory == NULL)
        return sl_fail(err, SL_ENOMEM, "cannot take %zu MiB for activations (%u rows a batch)",
                       x->memory_bytes >> 20, o->rows_max);
    x->kv.planes = sl_alloc_pages(x->kv_bytes);
    if (x->kv.planes == NULL)
        return sl_fail(err, SL_ENOMEM, "cannot take %zu MiB for the KV cache (%u planes)",
                       x->kv_bytes >> 20, o->plane_count);
    x->worker = sl_alloc_pages(workers_bytes(x));
    if (x->worker == NULL)
        return sl_fail(err, SL_ENOMEM, "no memory for %u workers", x->caps.units);
    for (uint32_t i = 0; i < SPACES; i++)
        sl_forward_space_init(o->model, o->rows_max, o->logit_rows_max, o->seqs_max, x->caps.units,
                              x->memory + i * x->space_bytes, &x->space[i]);
    return SL_OK;
}

static sl_status start_workers(cpu_exec *x, bool pin, sl_err *err)
{
    for (uint32_t i = 0; i < x->caps.units; i++) {
        worker *w = &x->worker[i];

        w->exec = x;
        w->index = i;
        w->scratch = x->memory + SPACES * x->space_bytes + i * x->scratch_bytes;
        sl_wake_init(&w->wake);
        if (sl_ring_init(&w->ring, SL_LANE_COUNT * SL_EXEC_QUEUE_MAX, sizeof(job *)) != SL_OK)
            return sl_fail(err, SL_ENOMEM, "no memory for the queue of worker %u", i);
    }
    for (uint32_t i = 0; i < x->caps.units; i++) {
        char name[24];

        snprintf(name, sizeof(name), "worker-%u", i);
        if (sl_thread_start(&x->worker[i].thread, name, pin ? sl_cpu_id(i) : -1, worker_main,
                            &x->worker[i]) != SL_OK)
            return sl_fail(err, SL_EUNAVAILABLE, "the system refuses worker thread %u of %u", i + 1,
                           x->caps.units);
    }
    return SL_OK;
}

static const sl_exec_class cpu_class = {
    .caps = cpu_caps,
    .submit = cpu_submit,
    .poll = cpu_poll,
    .wait = cpu_wait,
    .wake = cpu_wake,
    .now_us = cpu_now_us,
    .destroy = cpu_destroy,
};

sl_status sl_exec_cpu_create(const sl_exec_cpu_options *options, sl_exec **out, sl_err *err)
{
    sl_status status = check_options(options, err);
    cpu_exec *x;

    if (status != SL_OK)
        return status;
    x = sl_alloc_pages(sizeof(*x)); /* its teams want cache lines of their own */
    if (x == NULL)
        return sl_fail(err, SL_ENOMEM, "no memory for the CPU device");
    x->exec.class = &cpu_class;
    x->model = options->model;
    x->ops = sl_model_get_ops(options->model);
    x->layers = sl_model_get_config(options->model)->layer_count;
    x->seqs_max = options->seqs_max;
    sl_wake_init(&x->engine_wake);
    snprintf(x->name, sizeof(x->name), "%s", x->ops->name);
    x->caps = (sl_exec_caps){.name = x->name,
                             .units = units_of(options),
                             .space_count = SPACES,
                             .rows_max = options->rows_max,
                             .logit_rows_max = options->logit_rows_max,
                             .plane_bytes = sl_model_get_plan(options->model)->kv_plane_bytes,
                             .plane_count = options->plane_count};
    x->caps.rung_count = sl_exec_make_ladder(x->caps.units, x->caps.rung);
    status = measure(options, x) ? SL_OK : sl_fail(err, SL_ENOMEM, "the KV cache is too large");
    if (status == SL_OK)
        status = take_memory(x, options, err);
    if (status == SL_OK)
        status = start_workers(x, options->pin, err);
    if (status != SL_OK) {
        cpu_destroy(&x->exec);
        return status;
    }
    *out = &x->exec;
    return SL_OK;
}
