/* kvcache/prefix_index.c - find a published page by its parent and its tokens.
 *
 * A chained hash table over the pages themselves: no tombstones, nothing to rehash.  The hash of a
 * page covers everything before it, but it only chooses the bucket: a page is found if its parent
 * is the page that was found before it and its tokens are equal, so that by induction the whole
 * prefix is equal, whatever the hash. */
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "kvcache/kvcache_internal.h"

uint64_t sl_kvc_index_root(const sl_kvcache *cache, uint64_t salt)
{
    return sl_mix64_pair(cache->options.name_space, salt) & cache->hash_mask;
}

uint64_t sl_kvc_index_hash(const sl_kvcache *cache, uint64_t parent_hash, const uint32_t *token)
{
    uint64_t h = parent_hash;

    for (uint32_t i = 0; i < SL_PAGE_TOKENS; i += 2)
        h = sl_mix64(h ^ ((uint64_t)token[i] << 32 | token[i + 1]));
    return h & cache->hash_mask;
}

uint32_t sl_kvc_index_find(const sl_kvcache *cache, uint64_t hash, uint32_t parent,
                           const uint32_t *token, uint64_t salt)
{
    uint32_t i = cache->bucket[hash & cache->bucket_mask];

    while (i != 0) {
        const kvc_page *p = &cache->page[i - 1];

        /* The parent stands for everything before; at the root the salt does. */
        if (p->hash == hash && p->parent == parent && p->salt == salt &&
            memcmp(p->token, token, sizeof(p->token)) == 0)
            return i - 1;
        i = p->next;
    }
    return NONE;
}

void sl_kvc_index_insert(sl_kvcache *cache, uint32_t page_index, uint64_t hash, uint32_t parent,
                         uint64_t salt)
{
    kvc_page *p = &cache->page[page_index];
    uint32_t *head = &cache->bucket[hash & cache->bucket_mask];

    SL_ASSERT(p->state == PAGE_PRIVATE);
    p->state = PAGE_PUBLISHED;
    p->hash = hash;
    p->salt = salt;
    p->parent = parent;
    p->children = 0;
    p->next = *head;
    *head = page_index + 1;
    if (parent != NONE) {
        SL_ASSERT(cache->page[parent].state == PAGE_PUBLISHED);
        cache->page[parent].children++;
    }
}

void sl_kvc_index_remove(sl_kvcache *cache, uint32_t page_index)
{
    kvc_page *p = &cache->page[page_index];
    uint32_t *link = &cache->bucket[p->hash & cache->bucket_mask];

    SL_ASSERT(p->state == PAGE_PUBLISHED && p->children == 0);
    while (*link != page_index + 1) {
        SL_ASSERT(*link != 0);
        link = &cache->page[*link - 1].next;
    }
    *link = p->next;
    p->state = PAGE_PRIVATE;
    if (p->parent != NONE) {
        SL_ASSERT(cache->page[p->parent].children > 0);
        cache->page[p->parent].children--;
    }
}
