/* kernels/team.c - see team.h
 *
 * Barrier.  Members count themselves in by `arrived`; the last one clears it, bumps `phase` and
 * wakes the sleepers.  The others wait for `phase` to leave the value they know.  `arrived` is
 * cleared before `phase` moves, and nobody counts in again before having seen the move, so one
 * counter is enough.
 *
 * No lost wake-up: a sleeper adds itself to `sleepers` and then lets the kernel compare `phase`;
 * the last member moves `phase` and then reads `sleepers`.  Both are sequentially consistent, so
 * either the sleeper is seen, or the kernel sees the new phase.
 *
 * Pieces.  `next` only ever grows.  In one operation every member is told "none left" exactly once,
 * so the counter moves by count + size an operation, and every member can keep its base by itself:
 * no reset, and no second barrier. */
#include "kernels/team.h"

#include "base/assert.h"
#include "base/threads.h"

/* About 15 to 60 us on the CPUs we know (a pause takes 15 to 60 ns): longer than the usual wait for
 * the last piece of an operation, shorter than what the loop thread would notice. */
enum { SPIN_ROUNDS = 1000 };

void sl_team_init(sl_team *team, uint32_t size)
{
    SL_ASSERT(size >= 1);
    SL_ASSERT(size <= SL_TEAM_MAX);
    team->size = size;
    atomic_init(&team->arrived, 0);
    atomic_init(&team->phase, 0);
    atomic_init(&team->sleepers, 0);
    atomic_init(&team->next, 0);
    team->shared = NULL;
}

void sl_stream_init(sl_stream *stream, sl_team *team, uint32_t rank, void *scratch,
                    size_t scratch_bytes)
{
    SL_ASSERT(rank < (team == NULL ? 1 : team->size));
    stream->team = team;
    stream->rank = rank;
    stream->scratch = scratch;
    stream->scratch_bytes = scratch_bytes;
    stream->phase = team == NULL ? 0 : atomic_load_explicit(&team->phase, memory_order_relaxed);
    stream->taken = team == NULL ? 0 : atomic_load_explicit(&team->next, memory_order_relaxed);
    if (team != NULL && rank == 0)
        team->shared = scratch;
}

static bool passed(sl_team *team, uint32_t phase)
{
    return atomic_load_explicit(&team->phase, memory_order_acquire) != phase;
}

void sl_stream_barrier(sl_stream *stream)
{
    sl_team *team = stream->team;
    const uint32_t phase = stream->phase;

    if (team == NULL || team->size == 1)
        return;
    stream->phase = phase + 1;
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == team->size) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store(&team->phase, phase + 1);
        if (atomic_load(&team->sleepers) > 0)
            sl_futex_wake(&team->phase, SL_TEAM_MAX);
        return;
    }
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (passed(team, phase))
            return;
        sl_cpu_relax();
    }
    atomic_fetch_add(&team->sleepers, 1);
    while (!passed(team, phase))
        sl_futex_wait(&team->phase, phase, UINT64_MAX);
    atomic_fetch_sub_explicit(&team->sleepers, 1, memory_order_relaxed);
}

uint32_t sl_stream_take(sl_stream *stream, uint32_t count)
{
    uint32_t piece;

    if (stream->team == NULL) {
        if (stream->taken < count)
            return stream->taken++;
        stream->taken = 0;
        return UINT32_MAX;
    }
    piece = atomic_fetch_add_explicit(&stream->team->next, 1, memory_order_relaxed) - stream->taken;
    if (piece < count)
        return piece;
    stream->taken += count + stream->team->size;
    return UINT32_MAX;
}

uint32_t sl_stream_share(const sl_stream *stream, uint32_t count, uint32_t grain, uint32_t *first)
{
    const uint64_t size = sl_stream_size(stream);
    const uint64_t grains = ((uint64_t)count + grain - 1) / grain;
    const uint64_t begin = grains * stream->rank / size * grain;
    const uint64_t end = grains * (stream->rank + 1) / size * grain;

    *first = (uint32_t)(begin < count ? begin : count);
    return (uint32_t)(end < count ? end : count) - *first;
}
