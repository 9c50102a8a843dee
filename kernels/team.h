/* kernels/team.h - a CPU stream: one member of a team of threads that run the same operations.
 *
 * A team of `size` members runs one job; every member executes the whole job (the forward pass),
 * each operation does the share of its member `rank`, and the barrier at the end of every operation
 * keeps them together.  So a job has one parallel region, not one an operation.
 *
 * Barriers spin a little, then sleep in the kernel: a member that lost its core to another thread
 * must not burn the others' time, and on a small machine the loop thread must get a core at once.
 *
 * Memory order: what any member wrote before a barrier, every member sees after it.
 *
 * Thread: a stream belongs to one member's thread; a team is shared by its members. */
#ifndef SL_KERNELS_TEAM_H
#define SL_KERNELS_TEAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum { SL_TEAM_MAX = 256 };

typedef struct sl_team {
    uint32_t size;
    _Alignas(64) atomic_uint arrived;  /* members at the current barrier */
    _Alignas(64) atomic_uint phase;    /* barriers passed; members sleep on it */
    _Alignas(64) atomic_uint sleepers; /* members inside a futex wait */
    _Alignas(64) atomic_uint next;     /* the next piece of shared work (sl_stream_take) */
    uint8_t *shared;                   /* the scratch of member 0: for what members hand over */
} sl_team;

struct sl_stream {
    sl_team *team; /* NULL: a team of one */
    uint32_t rank;
    uint8_t *scratch; /* this member's own, ops->scratch_bytes, 64-byte aligned */
    size_t scratch_bytes;
    uint32_t phase; /* of the team, as this member last saw it */
    uint32_t taken; /* base of the piece counter for the current operation */
};

/* Make a team of `size` (1 .. SL_TEAM_MAX) ready; its storage is the caller's. */
void sl_team_init(sl_team *team, uint32_t size);

/* A stream for member `rank`; `scratch` is borrowed.  team NULL, rank 0: a stream on its own.
 * All streams of a team must be made before any of its members runs an operation (or while all of
 * them are idle): the scratch of member 0 is where operations hand partial results over. */
void sl_stream_init(sl_stream *stream, sl_team *team, uint32_t rank, void *scratch,
                    size_t scratch_bytes);

/* Members of the team. */
static inline uint32_t sl_stream_size(const sl_stream *stream)
{
    return stream->team == NULL ? 1 : stream->team->size;
}

/* Wait until all members are here. */
void sl_stream_barrier(sl_stream *stream);

/* Take the next of `count` pieces of the current operation: each piece goes to exactly one member;
 * UINT32_MAX when none is left (a member that was told so must not ask again).  Which member gets
 * which piece is not determined, so pieces must not depend on who computes them.  The operation
 * must end with sl_stream_barrier by all members before the next one calls this (every member must
 * have been told UINT32_MAX). */
uint32_t sl_stream_take(sl_stream *stream, uint32_t count);

/* The fixed share of this member in [0, count): *first .. *first + returned.  Boundaries are
 * multiples of `grain`. */
uint32_t sl_stream_share(const sl_stream *stream, uint32_t count, uint32_t grain, uint32_t *first);

#endif
