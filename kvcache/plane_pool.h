/* kvcache/plane_pool.h - which planes are free.
 *
 * The pool counts; it owns no device memory.  Plane p lies at byte p * plane_bytes of the buffer
 * the engine took at start.  Planes are handed out to pages; sharing is counted per page
 * (kvcache.h), so a plane has one holder or none.
 *
 * Thread: engine only.  Nothing here blocks, allocates after create, or logs. */
#ifndef SL_KVCACHE_PLANE_POOL_H
#define SL_KVCACHE_PLANE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct sl_plane_pool sl_plane_pool;

/* Create a pool of `count` free planes (1 .. 2^24).
 * Errors: SL_EINVAL (count out of range), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_plane_pool_create(uint32_t count, sl_plane_pool **out);

/* NULL is allowed. */
void sl_plane_pool_destroy(sl_plane_pool *pool);

/* Take `n` planes into ids[0..n).  All or nothing.
 * Errors: SL_EFULL (fewer than n free; ids untouched): evict or preempt, then retry. */
SL_MUST_CHECK sl_status sl_plane_pool_take(sl_plane_pool *pool, uint32_t n, uint32_t *ids);

/* Give n taken planes back.  Asserts that each was taken. */
void sl_plane_pool_give(sl_plane_pool *pool, uint32_t n, const uint32_t *ids);

/* Is it handed out?  id < total. */
bool sl_plane_pool_is_taken(const sl_plane_pool *pool, uint32_t id);

uint32_t sl_plane_pool_free(const sl_plane_pool *pool);
uint32_t sl_plane_pool_total(const sl_plane_pool *pool);

/* Walk every invariant, O(count); abort with a message at the first that fails. */
void sl_plane_pool_check(const sl_plane_pool *pool);

#endif
