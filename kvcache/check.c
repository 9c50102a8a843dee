/* kvcache/check.c - walk every invariant of the cache, abort at the first that fails.
 *
 * Everything that the cache keeps incrementally is counted again from the sequences' tables. */
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "kvcache/kvcache_internal.h"

static const uint32_t *ids_of(const sl_kvcache *cache, uint32_t seq)
{
    return cache->page_id + (size_t)seq * cache->options.pages_per_seq_max;
}

static uint32_t chunks(const sl_kvcache *cache)
{
    return cache->options.chunk_count;
}

/* One sequence: its table says what its pages say; count its references. */
static void count_seq(const sl_kvcache *cache, uint32_t seq)
{
    const kvc_seq *s = &cache->seq[seq];
    const uint32_t *id = ids_of(cache, seq);
    const uint32_t *live = cache->live_first + (size_t)seq * chunks(cache);
    const sl_kv_page *const *table = sl_kvcache_pages(cache, seq);

    SL_ASSERT(s->pages <= cache->options.pages_per_seq_max);
    SL_ASSERT(s->length <= s->pages * SL_PAGE_TOKENS);
    for (uint32_t chunk = 0; chunk < chunks(cache); chunk++)
        SL_ASSERT(live[chunk] == first_seen(s->length, cache->options.chunk_window[chunk]));
    for (uint32_t i = 0; i < s->pages; i++) {
        SL_ASSERT(id[i] < cache->page_fresh);
        SL_ASSERT(cache->page[id[i]].state != PAGE_FREE);
        cache->check_count[2 * id[i]]++;
        for (uint32_t chunk = 0; chunk < chunks(cache); chunk++) {
            const kvc_cell *c = cell_of(cache, id[i], chunk);

            SL_ASSERT(table[chunk][i].tier == SL_KV_F16);
            if (i >= live[chunk]) {
                SL_ASSERT(cell_present(c));
                SL_ASSERT(memcmp(table[chunk][i].plane, c->plane, sizeof(c->plane)) == 0);
                cache->check_users[id[i] * chunks(cache) + chunk]++;
            } else {
                SL_ASSERT(table[chunk][i].plane[0] == SL_PLANE_NONE);
            }
        }
    }
}

/* Its full pages are published, each under the one before; a page that others may write in place,
 * or look up, is not the one it would write without a copy. */
static void check_chain(const sl_kvcache *cache, const kvc_seq *s, const uint32_t *id)
{
    if (!s->chained)
        return;
    for (uint32_t i = 0; i < s->length / SL_PAGE_TOKENS; i++) {
        SL_ASSERT(cache->page[id[i]].state == PAGE_PUBLISHED);
        SL_ASSERT(cache->page[id[i]].parent == (i > 0 ? id[i - 1] : NONE));
        SL_ASSERT(cache->page[id[i]].salt == s->salt);
    }
}

static void check_seqs(const sl_kvcache *cache)
{
    memset(cache->check_count, 0, (size_t)cache->page_fresh * 2 * sizeof(*cache->check_count));
    memset(cache->check_users, 0,
           (size_t)cache->page_fresh * chunks(cache) * sizeof(*cache->check_users));
    for (uint32_t seq = 0; seq < cache->options.seq_max; seq++) {
        const kvc_seq *s = &cache->seq[seq];

        if (!s->used) {
            SL_ASSERT(s->pinned == NONE);
            continue;
        }
        count_seq(cache, seq);
        check_chain(cache, s, ids_of(cache, seq));
        if (s->pinned == NONE)
            continue;
        SL_ASSERT(cache->page[s->pinned].pin_end >= s->length % SL_PAGE_TOKENS);
        cache->check_count[2 * s->pinned + 1]++;
        for (uint32_t chunk = 0; chunk < chunks(cache); chunk++)
            cache->check_users[s->pinned * chunks(cache) + chunk]++;
    }
}

/* The planes of a cell are taken, and nobody else's. */
static void mark_planes(const sl_kvcache *cache, const kvc_cell *c)
{
    for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++) {
        SL_ASSERT(c->plane[i] < cache->options.plane_count);
        SL_ASSERT(sl_plane_pool_is_taken(cache->pool, c->plane[i]));
        SL_ASSERT(cache->check_plane[c->plane[i]] == 0);
        cache->check_plane[c->plane[i]] = 1;
    }
}

/* One cell: absent, seen or idle, and on its list exactly if it must be.  Returns its planes. */
static uint32_t check_cell(const sl_kvcache *cache, uint32_t page_index, uint32_t chunk,
                           uint32_t *idle_planes)
{
    const uint32_t index = page_index * chunks(cache) + chunk;
    const kvc_page *p = &cache->page[page_index];
    const kvc_cell *c = &cache->cell[index];
    const bool linked = cache->behind.at[index].linked;

    SL_ASSERT(c->users == cache->check_users[index]);
    if (!cell_present(c)) {
        SL_ASSERT(c->users == 0 && !linked);
        return 0;
    }
    mark_planes(cache, c);
    if (c->users == 0) {
        SL_ASSERT(p->state == PAGE_PUBLISHED);
        SL_ASSERT(linked || !page_held(p));
        *idle_planes += SL_PAGE_PLANES_MAX;
    } else {
        SL_ASSERT(!linked);
    }
    return SL_PAGE_PLANES_MAX;
}

static void check_pages(const sl_kvcache *cache)
{
    uint32_t free_count = 0, idle_planes = 0, held_planes = 0;

    memset(cache->check_plane, 0, cache->options.plane_count);
    for (uint32_t i = 0; i < cache->page_fresh; i++) {
        const kvc_page *p = &cache->page[i];

        SL_ASSERT(p->refs == cache->check_count[2 * i]);
        SL_ASSERT(p->pins == cache->check_count[2 * i + 1]);
        SL_ASSERT(p->pins > 0 || p->pin_end == 0);
        SL_ASSERT(p->state != PAGE_PRIVATE || page_held(p));
        SL_ASSERT(cache->lru.at[i].linked == (p->state == PAGE_PUBLISHED && !page_held(p)));
        free_count += p->state == PAGE_FREE;
        for (uint32_t chunk = 0; chunk < chunks(cache); chunk++) {
            const uint32_t planes = check_cell(cache, i, chunk, &idle_planes);

            SL_ASSERT(p->state != PAGE_FREE || planes == 0);
            held_planes += planes;
        }
    }
    SL_ASSERT(free_count == cache->page_free_count);
    SL_ASSERT(idle_planes == cache->idle_planes);
    SL_ASSERT(held_planes + sl_plane_pool_free(cache->pool) == cache->options.plane_count);
}

/* The hash of a page, said once more: a mistake in one of the two does not hide in the other. */
static uint64_t hash_again(const sl_kvcache *cache, uint64_t before, const kvc_page *p)
{
    for (uint32_t pair = 0; pair < SL_PAGE_TOKENS / 2; pair++) {
        const uint64_t high = p->token[2 * pair], low = p->token[2 * pair + 1];

        before = sl_mix64(before ^ (high << 32) ^ low);
    }
    return before & cache->hash_mask;
}

/* Every published page can be found, as itself; its hash is what its tokens give. */
static void check_index(const sl_kvcache *cache)
{
    uint32_t in_buckets = 0, published = 0;

    memset(cache->check_count, 0, (size_t)cache->page_fresh * sizeof(*cache->check_count));
    for (uint32_t b = 0; b <= cache->bucket_mask; b++)
        for (uint32_t i = cache->bucket[b]; i != 0; i = cache->page[i - 1].next) {
            SL_ASSERT(cache->page[i - 1].state == PAGE_PUBLISHED);
            in_buckets++;
            SL_ASSERT(in_buckets <= cache->page_max);
        }
    for (uint32_t i = 0; i < cache->page_fresh; i++) {
        const kvc_page *p = &cache->page[i];
        uint64_t before;

        if (p->state != PAGE_PUBLISHED)
            continue;
        published++;
        if (p->parent != NONE) {
            SL_ASSERT(cache->page[p->parent].state == PAGE_PUBLISHED);
            SL_ASSERT(cache->page[p->parent].salt == p->salt);
            SL_ASSERT(p->refs == 0 || cache->page[p->parent].refs > 0);
            cache->check_count[p->parent]++;
            before = cache->page[p->parent].hash;
        } else {
            before = sl_kvc_index_root(cache, p->salt);
        }
        SL_ASSERT(p->hash == hash_again(cache, before, p));
        SL_ASSERT(sl_kvc_index_find(cache, p->hash, p->parent, p->token, p->salt) == i);
    }
    SL_ASSERT(published == in_buckets);
    for (uint32_t i = 0; i < cache->page_fresh; i++)
        SL_ASSERT(cache->page[i].state != PAGE_PUBLISHED ||
                  cache->page[i].children == cache->check_count[i]);
}

/* Forward and backward links agree; as many as counted. */
static void check_list(const kvc_list *l)
{
    uint32_t count = 0, before = NONE;

    for (uint32_t i = l->head; i != NONE; i = l->at[i].next) {
        SL_ASSERT(l->at[i].linked);
        SL_ASSERT(l->at[i].prev == before);
        count++;
        SL_ASSERT(count <= l->count);
        before = i;
    }
    SL_ASSERT(l->tail == before);
    SL_ASSERT(count == l->count);
}

/* Children stand before their parents, so that the head is always a leaf. */
static void check_eviction_order(const sl_kvcache *cache)
{
    memset(cache->check_count, 0, (size_t)cache->page_fresh * sizeof(*cache->check_count));
    for (uint32_t i = cache->lru.head; i != NONE; i = cache->lru.at[i].next) {
        const kvc_page *p = &cache->page[i];

        SL_ASSERT(cache->check_count[i] == p->children);
        if (p->parent != NONE)
            cache->check_count[p->parent]++;
    }
    for (uint32_t i = cache->behind.head; i != NONE; i = cache->behind.at[i].next)
        SL_ASSERT(cell_present(&cache->cell[i]) && cache->cell[i].users == 0);
}

void sl_kvcache_check(const sl_kvcache *cache)
{
    sl_plane_pool_check(cache->pool);
    check_list(&cache->lru);
    check_list(&cache->behind);
    check_seqs(cache);
    check_pages(cache);
    check_index(cache);
    check_eviction_order(cache);
}
