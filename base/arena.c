/* base/arena.c - see arena.h */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/alloc.h"

enum { BLOCK_BYTES = 16 << 10, ALIGN = 16 };

struct sl_arena_block {
    sl_arena_block *next;
    size_t size_bytes; /* of data */
    size_t used_bytes;
    _Alignas(ALIGN) uint8_t data[];
};

void sl_arena_init(sl_arena *arena, size_t limit_bytes)
{
    *arena = (sl_arena){.limit_bytes = limit_bytes};
}

static void free_chain(sl_arena_block *block)
{
    while (block != NULL) {
        sl_arena_block *next = block->next;

        sl_free(block);
        block = next;
    }
}

void sl_arena_done(sl_arena *arena)
{
    free_chain(arena->block);
    arena->block = NULL;
    arena->used_bytes = 0;
}

void sl_arena_reset(sl_arena *arena)
{
    sl_arena_block *keep = arena->block;

    arena->used_bytes = 0;
    if (keep == NULL)
        return;
    free_chain(keep->next);
    keep->next = NULL;
    if (keep->size_bytes > BLOCK_BYTES) { /* one big request must not pin its memory */
        sl_free(keep);
        arena->block = NULL;
        return;
    }
    memset(keep->data, 0, keep->used_bytes);
    keep->used_bytes = 0;
}

void *sl_arena_alloc(sl_arena *arena, size_t count, size_t size)
{
    sl_arena_block *block = arena->block;
    size_t bytes, total, block_bytes;
    void *p;

    if (!sl_mul_size(count, size, &bytes) || !sl_add_size(bytes, ALIGN - 1, &bytes))
        return NULL;
    bytes = bytes / ALIGN * ALIGN;
    if (!sl_add_size(arena->used_bytes, bytes, &total) || total > arena->limit_bytes)
        return NULL;
    if (block == NULL || block->size_bytes - block->used_bytes < bytes) {
        const size_t want = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;

        block = sl_add_size(sizeof(*block), want, &block_bytes) ? sl_alloc(1, block_bytes) : NULL;
        if (block == NULL)
            return NULL;
        block->size_bytes = want;
        block->next = arena->block;
        arena->block = block;
    }
    p = block->data + block->used_bytes;
    block->used_bytes += bytes;
    arena->used_bytes = total;
    return p;
}

char *sl_arena_strndup(sl_arena *arena, const char *text, size_t bytes)
{
    char *copy;

    if (bytes == SIZE_MAX)
        return NULL;
    copy = sl_arena_alloc(arena, bytes + 1, 1);
    if (copy != NULL && bytes > 0)
        memcpy(copy, text, bytes);
    return copy;
}
