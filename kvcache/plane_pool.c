/* kvcache/plane_pool.c - see plane_pool.h
 *
 * A stack of free ids and a bit for each plane.  Last given, first taken: the order depends on the
 * calls alone, and a plane that was just used may still be in a cache of the device. */
#include "kvcache/plane_pool.h"

#include "base/alloc.h"
#include "base/assert.h"

enum { COUNT_MAX = 1 << 24 };

struct sl_plane_pool {
    uint32_t count;
    uint32_t free_count;
    uint32_t *free_id; /* [count]; the top is free_id[free_count - 1] */
    uint8_t *taken;    /* [count] 1: handed out */
};

sl_status sl_plane_pool_create(uint32_t count, sl_plane_pool **out)
{
    sl_plane_pool *pool;

    if (count == 0 || count > COUNT_MAX)
        return SL_EINVAL;
    pool = sl_alloc(1, sizeof(*pool));
    if (pool == NULL)
        return SL_ENOMEM;
    pool->free_id = sl_alloc(count, sizeof(*pool->free_id));
    pool->taken = sl_alloc(count, sizeof(*pool->taken));
    if (pool->free_id == NULL || pool->taken == NULL) {
        sl_plane_pool_destroy(pool);
        return SL_ENOMEM;
    }
    pool->count = count;
    pool->free_count = count;
    for (uint32_t i = 0; i < count; i++)
        pool->free_id[i] = count - 1 - i; /* plane 0 goes first */
    *out = pool;
    return SL_OK;
}

void sl_plane_pool_destroy(sl_plane_pool *pool)
{
    if (pool == NULL)
        return;
    sl_free(pool->free_id);
    sl_free(pool->taken);
    sl_free(pool);
}

sl_status sl_plane_pool_take(sl_plane_pool *pool, uint32_t n, uint32_t *ids)
{
    if (n > pool->free_count)
        return SL_EFULL;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t id = pool->free_id[--pool->free_count];

        pool->taken[id] = 1;
        ids[i] = id;
    }
    return SL_OK;
}

void sl_plane_pool_give(sl_plane_pool *pool, uint32_t n, const uint32_t *ids)
{
    /* From the last: taking them again gives the same order. */
    for (uint32_t i = n; i-- > 0;) {
        SL_ASSERT(ids[i] < pool->count);
        SL_ASSERT(pool->taken[ids[i]]);
        pool->taken[ids[i]] = 0;
        pool->free_id[pool->free_count++] = ids[i];
    }
}

bool sl_plane_pool_is_taken(const sl_plane_pool *pool, uint32_t id)
{
    SL_ASSERT(id < pool->count);
    return pool->taken[id] != 0;
}

uint32_t sl_plane_pool_free(const sl_plane_pool *pool)
{
    return pool->free_count;
}

uint32_t sl_plane_pool_total(const sl_plane_pool *pool)
{
    return pool->count;
}

void sl_plane_pool_check(const sl_plane_pool *pool)
{
    uint32_t taken_count = 0;

    SL_ASSERT(pool->free_count <= pool->count);
    for (uint32_t id = 0; id < pool->count; id++)
        taken_count += pool->taken[id];
    SL_ASSERT(taken_count + pool->free_count == pool->count);
    /* Mark each free id for a moment: one that is taken, or twice on the stack, is marked already.
     * With the count above, every plane is either taken or on the stack once. */
    for (uint32_t i = 0; i < pool->free_count; i++) {
        SL_ASSERT(pool->free_id[i] < pool->count);
        SL_ASSERT(pool->taken[pool->free_id[i]] == 0);
        pool->taken[pool->free_id[i]] = 2;
    }
    for (uint32_t i = 0; i < pool->free_count; i++)
        pool->taken[pool->free_id[i]] = 0;
}
