/* base/arena.h - many small allocations, one reset.
 *
 * An arena is a chain of blocks that only grows; memory is given back all at once.  A request's
 * arena lives in its slot and is reset when the last byte is sent.  A byte limit makes a hostile
 * request an error instead of a large process.
 *
 * Thread: one at a time. */
#ifndef SL_BASE_ARENA_H
#define SL_BASE_ARENA_H

#include <stddef.h>

typedef struct sl_arena_block sl_arena_block;

typedef struct sl_arena {
    sl_arena_block *block; /* newest first */
    size_t used_bytes;     /* handed out since the last reset */
    size_t limit_bytes;    /* sl_arena_alloc fails beyond this */
} sl_arena;

/* Start empty; nothing is allocated yet. */
void sl_arena_init(sl_arena *arena, size_t limit_bytes);

/* Free everything.  Also right for a zeroed arena. */
void sl_arena_done(sl_arena *arena);

/* Forget everything handed out; keeps one block for reuse. */
void sl_arena_reset(sl_arena *arena);

/* Zeroed memory for `count` items of `size` bytes, aligned to 16; NULL when over the limit, out
 * of memory, or on overflow.  Valid until reset. */
void *sl_arena_alloc(sl_arena *arena, size_t count, size_t size);

/* Copy of `bytes` bytes with a NUL added; NULL as above. */
char *sl_arena_strndup(sl_arena *arena, const char *text, size_t bytes);

#endif
