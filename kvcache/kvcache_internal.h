/* kvcache/kvcache_internal.h - the structures of the cache, for its own files only.
 *
 *     sequence --page_id[i]--> page --cell per chunk--> planes
 *
 * A *page* is one logical page: its tokens, its place in the prefix index, its references.  A
 * *cell* is the part of a page in one chunk: the planes, and how many sequences still see them
 * through their windows.
 *
 *     page      FREE       on the free list, or never used
 *               PRIVATE    refs + pins > 0; in no index; cells nobody sees have no planes
 *               PUBLISHED  in the prefix index; on `lru` exactly if refs + pins == 0
 *     cell      absent     no planes
 *               seen       planes, users > 0
 *               idle       planes, users == 0 (its page is PUBLISHED): evictable.  On `behind`
 *                          exactly if its page has refs + pins > 0, or was so when the cell
 *                          became idle and has not been referenced since.
 *
 * Order of `lru`: a sequence ends from its last page to its first, and whoever references a page
 * references its parents, so that children always stand before their parents: the head is the
 * least recently used page, and a leaf. */
#ifndef SL_KVCACHE_KVCACHE_INTERNAL_H
#define SL_KVCACHE_KVCACHE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvcache/kvcache.h"
#include "kvcache/plane_pool.h"

#define NONE UINT32_MAX

/* A doubly linked list over indices.  An index that is on no list has linked == false. */
typedef struct kvc_link {
    uint32_t prev, next;
    bool linked;
} kvc_link;

typedef struct kvc_list {
    kvc_link *at; /* [indices], owned */
    uint32_t head, tail, count;
} kvc_list;

typedef enum kvc_page_state { PAGE_FREE, PAGE_PRIVATE, PAGE_PUBLISHED } kvc_page_state;

typedef struct kvc_page {
    kvc_page_state state;
    uint32_t refs;     /* sequences whose table names it */
    uint32_t pins;     /* copies from it that may still have to run */
    uint32_t pin_end;  /* tokens of it that such a copy needs, at most */
    uint32_t parent;   /* PUBLISHED: the page before it, or NONE */
    uint32_t children; /* PUBLISHED: published pages whose parent it is */
    uint32_t next;     /* in its hash bucket, or on the free list */
    uint64_t hash;     /* of the chain up to its end */
    uint64_t salt;
    uint32_t token[SL_PAGE_TOKENS];
} kvc_page;

typedef struct kvc_cell {
    uint32_t plane[SL_PAGE_PLANES_MAX]; /* plane[0] == SL_PLANE_NONE: absent */
    uint32_t users;                     /* sequences that see it, pins included */
} kvc_cell;

typedef struct kvc_seq {
    bool used;
    bool chained; /* its full pages are published */
    uint32_t length;
    uint32_t pages;  /* entries of its table */
    uint32_t pinned; /* page copied from since the last advance, or NONE */
    uint64_t salt;
} kvc_seq;

struct sl_kvcache {
    sl_kvcache_options options;
    uint64_t hash_mask;
    sl_plane_pool *pool;

    kvc_page *page; /* [page_max] */
    kvc_cell *cell; /* [page_max * chunk_count]: cell of (page, chunk) */
    uint32_t page_max;
    uint32_t page_fresh; /* pages from here on were never used: not even initialised */
    uint32_t page_free;  /* head of the free list */
    uint32_t page_free_count;
    uint32_t *bucket; /* [bucket_mask + 1] heads, biased by one: 0 is empty */
    uint32_t bucket_mask;

    kvc_list lru;    /* of pages: cached ones, least recently used first */
    kvc_list behind; /* of cells: idle ones behind windows, oldest first */
    uint32_t idle_planes;

    kvc_seq *seq;             /* [seq_max] */
    uint32_t *page_id;        /* [seq_max * pages_per_seq_max] */
    uint32_t *live_first;     /* [seq_max * chunk_count] first entry that the window sees */
    sl_kv_page *table;        /* [seq_max * chunk_count * pages_per_seq_max] */
    const sl_kv_page **lanes; /* [seq_max * chunk_count] into table */
    uint32_t *match;          /* [pages_per_seq_max] scratch of a lookup */
    uint32_t *check_count;    /* [page_max * 2] scratch of sl_kvcache_check */
    uint32_t *check_users;    /* [page_max * chunk_count] */
    uint8_t *check_plane;     /* [plane_count] */

    uint64_t query_tokens, hit_tokens, evicted_pages, copied_pages;
};

/* pages.c: lists */
void sl_kvc_list_append(kvc_list *l, uint32_t i);
void sl_kvc_list_remove(kvc_list *l, uint32_t i);

/* pages.c: pages and cells */
static inline kvc_cell *cell_of(const sl_kvcache *cache, uint32_t page_index, uint32_t chunk)
{
    return &cache->cell[(size_t)page_index * cache->options.chunk_count + chunk];
}

static inline bool cell_present(const kvc_cell *c)
{
    return c->plane[0] != SL_PLANE_NONE;
}

static inline bool page_held(const kvc_page *p)
{
    return p->refs + p->pins > 0;
}

/* The first page that a token at position `length` sees through `window`. */
static inline uint32_t first_seen(uint32_t length, uint32_t window)
{
    return window == 0 || length < window ? 0 : (length + 1 - window) / SL_PAGE_TOKENS;
}

/* Make `planes` planes and `pages` pages free, evicting; the caller knows that they are there. */
void sl_kvc_pages_make_room(sl_kvcache *cache, uint32_t planes, uint32_t pages);
/* A private page with one reference, its cells seen once, planes taken.  Room was made. */
uint32_t sl_kvc_page_take(sl_kvcache *cache);
/* Reference a published page: off the lru; idle cells go behind windows until used. */
void sl_kvc_page_ref(sl_kvcache *cache, uint32_t page_index);
/* Drop a reference (cells first unused by the caller where it saw them): cached or free now? */
void sl_kvc_page_settle(sl_kvcache *cache, uint32_t page_index);
void sl_kvc_cell_use(sl_kvcache *cache, uint32_t page_index, uint32_t chunk);
void sl_kvc_cell_unuse(sl_kvcache *cache, uint32_t page_index, uint32_t chunk);
/* Move the planes of a cell seen once of a private page into an absent cell of a published one. */
void sl_kvc_cell_donate(sl_kvcache *cache, uint32_t from, uint32_t to, uint32_t chunk);
/* Evict the oldest idle cell behind a window / the least recently used page. */
void sl_kvc_evict_behind(sl_kvcache *cache);
void sl_kvc_evict_page(sl_kvcache *cache);

/* prefix_index.c */
uint64_t sl_kvc_index_root(const sl_kvcache *cache, uint64_t salt);
uint64_t sl_kvc_index_hash(const sl_kvcache *cache, uint64_t parent_hash, const uint32_t *token);
/* The published page with this parent, these 64 tokens and this salt, or NONE. */
uint32_t sl_kvc_index_find(const sl_kvcache *cache, uint64_t hash, uint32_t parent,
                           const uint32_t *token, uint64_t salt);
/* Publish a private page under `parent` / take it out again. */
void sl_kvc_index_insert(sl_kvcache *cache, uint32_t page_index, uint64_t hash, uint32_t parent,
                         uint64_t salt);
void sl_kvc_index_remove(sl_kvcache *cache, uint32_t page_index);

#endif
