/* kvcache/pages.c - the life of pages and cells: taken, referenced, cached, evicted, free.
 *
 * Every step costs O(chunks); which state follows from which is in kvcache_internal.h. */
#include <string.h>

#include "base/assert.h"
#include "kvcache/kvcache_internal.h"

void sl_kvc_list_append(kvc_list *l, uint32_t i)
{
    kvc_link *at = &l->at[i];

    SL_ASSERT(!at->linked);
    *at = (kvc_link){.prev = l->tail, .next = NONE, .linked = true};
    if (l->tail == NONE)
        l->head = i;
    else
        l->at[l->tail].next = i;
    l->tail = i;
    l->count++;
}

void sl_kvc_list_remove(kvc_list *l, uint32_t i)
{
    kvc_link *at = &l->at[i];

    SL_ASSERT(at->linked);
    if (at->prev == NONE)
        l->head = at->next;
    else
        l->at[at->prev].next = at->next;
    if (at->next == NONE)
        l->tail = at->prev;
    else
        l->at[at->next].prev = at->prev;
    at->linked = false;
    l->count--;
}

static uint32_t cell_index(const sl_kvcache *cache, uint32_t page_index, uint32_t chunk)
{
    return page_index * cache->options.chunk_count + chunk;
}

static void give_planes(sl_kvcache *cache, kvc_cell *c)
{
    sl_plane_pool_give(cache->pool, SL_PAGE_PLANES_MAX, c->plane);
    for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++)
        c->plane[i] = SL_PLANE_NONE;
}

/* An idle cell loses its planes. */
static void drop_idle(sl_kvcache *cache, uint32_t index)
{
    kvc_cell *c = &cache->cell[index];

    SL_ASSERT(cell_present(c) && c->users == 0);
    if (cache->behind.at[index].linked)
        sl_kvc_list_remove(&cache->behind, index);
    give_planes(cache, c);
    cache->idle_planes -= SL_PAGE_PLANES_MAX;
}

static void free_page(sl_kvcache *cache, uint32_t page_index)
{
    kvc_page *p = &cache->page[page_index];

    SL_ASSERT(p->state == PAGE_PRIVATE && !page_held(p));
    p->state = PAGE_FREE;
    p->next = cache->page_free;
    cache->page_free = page_index;
    cache->page_free_count++;
}

void sl_kvc_evict_behind(sl_kvcache *cache)
{
    SL_ASSERT(cache->behind.count > 0);
    drop_idle(cache, cache->behind.head);
}

void sl_kvc_evict_page(sl_kvcache *cache)
{
    const uint32_t victim = cache->lru.head;
    kvc_page *p;

    SL_ASSERT(cache->lru.count > 0);
    p = &cache->page[victim];
    SL_ASSERT(!page_held(p) && p->children == 0);
    sl_kvc_list_remove(&cache->lru, victim);
    for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++)
        if (cell_present(cell_of(cache, victim, chunk)))
            drop_idle(cache, cell_index(cache, victim, chunk));
    sl_kvc_index_remove(cache, victim);
    free_page(cache, victim);
    cache->evicted_pages++;
}

static uint32_t free_pages(const sl_kvcache *cache)
{
    return cache->page_free_count + (cache->page_max - cache->page_fresh);
}

void sl_kvc_pages_make_room(sl_kvcache *cache, uint32_t planes, uint32_t pages)
{
    while (sl_plane_pool_free(cache->pool) < planes) {
        if (cache->behind.count > 0)
            sl_kvc_evict_behind(cache);
        else
            sl_kvc_evict_page(cache);
    }
    while (free_pages(cache) < pages)
        sl_kvc_evict_page(cache);
}

uint32_t sl_kvc_page_take(sl_kvcache *cache)
{
    uint32_t page_index = cache->page_free;
    kvc_page *p;

    if (page_index != NONE) {
        cache->page_free = cache->page[page_index].next;
        cache->page_free_count--;
    } else {
        SL_ASSERT(cache->page_fresh < cache->page_max);
        page_index = cache->page_fresh++;
    }
    p = &cache->page[page_index];
    p->state = PAGE_PRIVATE;
    p->refs = 1;
    p->pins = 0;
    p->pin_end = 0;
    p->parent = NONE;
    p->children = 0;
    for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++) {
        kvc_cell *c = cell_of(cache, page_index, chunk);
        const sl_status status = sl_plane_pool_take(cache->pool, SL_PAGE_PLANES_MAX, c->plane);

        SL_ASSERT(status == SL_OK);
        c->users = 1;
    }
    return page_index;
}

void sl_kvc_page_ref(sl_kvcache *cache, uint32_t page_index)
{
    kvc_page *p = &cache->page[page_index];

    if (!page_held(p) && p->state == PAGE_PUBLISHED) {
        sl_kvc_list_remove(&cache->lru, page_index);
        for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++) {
            const uint32_t index = cell_index(cache, page_index, chunk);

            if (cell_present(&cache->cell[index]) && !cache->behind.at[index].linked)
                sl_kvc_list_append(&cache->behind, index);
        }
    }
    p->refs++;
}

void sl_kvc_page_settle(sl_kvcache *cache, uint32_t page_index)
{
    kvc_page *p = &cache->page[page_index];

    if (page_held(p))
        return;
    if (p->state == PAGE_PUBLISHED)
        sl_kvc_list_append(&cache->lru, page_index);
    else
        free_page(cache, page_index);
}

void sl_kvc_cell_use(sl_kvcache *cache, uint32_t page_index, uint32_t chunk)
{
    const uint32_t index = cell_index(cache, page_index, chunk);
    kvc_cell *c = &cache->cell[index];

    SL_ASSERT(cell_present(c));
    if (c->users == 0) {
        sl_kvc_list_remove(&cache->behind, index);
        cache->idle_planes -= SL_PAGE_PLANES_MAX;
    }
    c->users++;
}

void sl_kvc_cell_unuse(sl_kvcache *cache, uint32_t page_index, uint32_t chunk)
{
    const uint32_t index = cell_index(cache, page_index, chunk);
    const kvc_page *p = &cache->page[page_index];
    kvc_cell *c = &cache->cell[index];

    SL_ASSERT(c->users > 0);
    if (--c->users > 0)
        return;
    if (p->state != PAGE_PUBLISHED) {
        give_planes(cache, c); /* nobody else can ever want it */
        return;
    }
    cache->idle_planes += SL_PAGE_PLANES_MAX;
    if (page_held(p))
        sl_kvc_list_append(&cache->behind, index);
}

void sl_kvc_cell_donate(sl_kvcache *cache, uint32_t from, uint32_t to, uint32_t chunk)
{
    const uint32_t index = cell_index(cache, to, chunk);
    kvc_cell *source = cell_of(cache, from, chunk), *target = &cache->cell[index];

    SL_ASSERT(cache->page[from].state == PAGE_PRIVATE && source->users == 1);
    SL_ASSERT(!cell_present(target) && target->users == 0);
    memcpy(target->plane, source->plane, sizeof(target->plane));
    for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++)
        source->plane[i] = SL_PLANE_NONE;
    source->users = 0;
    cache->idle_planes += SL_PAGE_PLANES_MAX;
    if (page_held(&cache->page[to]))
        sl_kvc_list_append(&cache->behind, index);
}
