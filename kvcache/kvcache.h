/* kvcache/kvcache.h - which pages hold which tokens: sequences, prefix reuse, eviction.
 *
 * Picture.  A *page* holds K and V of 64 consecutive token positions for all layers.  Layers are
 * grouped in *chunks* of one attention span; a page owns, per chunk, the planes of its tier (F16: 8
 * planes).  Planes come from one pool (plane_pool.h); all have one size, so there are no classes
 * and nothing to compact.  A *sequence* is a page table: per chunk, entry i is page i.
 *
 * Sharing.  Full pages are published in the prefix index under a hash chain over (parent page,
 * token ids, salt, namespace); a later sequence with the same beginning references them.  A hash
 * match is never enough: token ids are compared.  A page is never written while more than one
 * sequence references it: a fork's shared partial page is copied first (copy on write), by a copy
 * list that the caller executes before the next computation.
 *
 * Lifetimes.  A page is *referenced* (by sequences), *cached* (published, no references: may be
 * evicted, least recently used leaf first; parents outlive children), or free.  Of sliding-window
 * chunks, planes of pages that every referencing sequence has left behind its window are evictable
 * at once, before any cached page; a prefix match asks for such a chunk only in the last `window`
 * tokens of the match.
 *
 * Duplicates.  Two sequences that compute the same page at the same time both hold one; the first
 * that completes it publishes it.  The second is moved to the published page when it completes its
 * own (in sl_kvcache_advance), and its own planes become free; planes that the published page has
 * lost to the window rule are replaced by the newcomer's.  So a published page's parent is always
 * referenced by everyone who references the page.
 *
 * Pins.  Between a copy on write and the next advance (or end) of the sequence that asked for it,
 * the copied page is *pinned*: its planes can neither be given to others nor overwritten below the
 * copied length, since the copy may still have to run.
 *
 * What it is not: it touches no device memory and reads no clock; recency is a counter.
 *
 * Thread: engine only.  Nothing here blocks, allocates after create, or logs. */
#ifndef SL_KVCACHE_KVCACHE_H
#define SL_KVCACHE_KVCACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "quant/kvpage.h"

typedef struct sl_kvcache sl_kvcache;

typedef struct sl_kvcache_options {
    uint32_t plane_count;                    /* 1 .. 2^24 */
    uint32_t chunk_count;                    /* 1 .. SL_KV_CHUNKS_MAX */
    uint32_t chunk_window[SL_KV_CHUNKS_MAX]; /* attention span in tokens; 0: everything */
    uint32_t seq_max; /* sequences at once; their handles are 0 .. seq_max-1 */
    uint32_t pages_per_seq_max;
    uint64_t name_space; /* hash of model, rotation and code version */
    bool prefix_caching; /* false: nothing is published */
    uint32_t hash_bits;  /* 0: all 64.  Fewer force collisions, for tests: results do not change */
} sl_kvcache_options;

/* Errors: SL_EINVAL (an option is out of range), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_kvcache_create(const sl_kvcache_options *options, sl_kvcache **out);
/* NULL is allowed; sequences need not have ended. */
void sl_kvcache_destroy(sl_kvcache *cache);

/* Planes that one page takes in tier F16, all chunks. */
uint32_t sl_kvcache_planes_per_page(const sl_kvcache *cache);

/* Begin sequence `seq` (not in use): reference the longest cached prefix of token[0..count), whole
 * pages, never all of it (at least one token is left to compute).  Returns how many tokens are
 * cached: the sequence's length now.  `salt` separates tenants: other salt, no sharing. */
uint32_t sl_kvcache_begin(sl_kvcache *cache, uint32_t seq, const uint32_t *token, uint32_t count,
                          uint64_t salt);

/* As sl_kvcache_begin would find, without referencing anything or touching recency. */
uint32_t sl_kvcache_probe(const sl_kvcache *cache, const uint32_t *token, uint32_t count,
                          uint64_t salt);

/* How many of the planes that are free or evictable now would no longer be, after beginning a
 * sequence with these tokens and reserving up to `upto`: new planes, and cached ones that the match
 * would hold.  This, not sl_kvcache_planes_short, is what admission must compare with
 * planes_free + planes_evictable. */
uint32_t sl_kvcache_probe_planes(const sl_kvcache *cache, const uint32_t *token, uint32_t count,
                                 uint64_t salt, uint32_t upto);

/* Begin sequence `seq` (not in use) as a copy of the first `tokens` (<= its length) tokens of
 * `from`, sharing all pages, the last partial one too.  Returns the length of `seq` now: `tokens`,
 * or less (whole pages) if planes that a window would see at that length are gone, because `from`
 * has left them behind.  `from` may be in flight: what it writes at or above its length is never
 * read by `seq`. */
uint32_t sl_kvcache_fork(sl_kvcache *cache, uint32_t seq, uint32_t from, uint32_t tokens);

enum { SL_KV_COPIES_MAX = 1024 }; /* planes of one copy list */

/* Planes to copy, in this order, before the next computation: filled by sl_kvcache_reserve.  The
 * batch of the sequence that reserved carries them; until it has ended, the sequence must not. */
typedef struct sl_kv_copies {
    uint32_t dst[SL_KV_COPIES_MAX];
    uint32_t src[SL_KV_COPIES_MAX];
    uint32_t count; /* the caller zeroes it after the copy was submitted */
} sl_kv_copies;

/* Make positions [length, upto) of `seq` writable: take pages, evict what must go, copy a shared
 * partial page (added to *copies).  All or nothing.
 * Errors: SL_EFULL (not enough planes, or no room in *copies: submit them first); nothing changed.
 * Asserts upto <= pages_per_seq_max * 64. */
SL_MUST_CHECK sl_status sl_kvcache_reserve(sl_kvcache *cache, uint32_t seq, uint32_t upto,
                                           sl_kv_copies *copies);

/* Planes that reserve(seq, upto) would have to take. */
uint32_t sl_kvcache_planes_short(const sl_kvcache *cache, uint32_t seq, uint32_t upto);

/* The KV of token[0..count) at the sequence's length was computed: advance, publish full pages, let
 * go of what the windows left behind.  They were reserved before. */
void sl_kvcache_advance(sl_kvcache *cache, uint32_t seq, const uint32_t *token, uint32_t count);

/* Tokens whose KV the sequence holds. */
uint32_t sl_kvcache_length(const sl_kvcache *cache, uint32_t seq);

/* Page tables of a sequence, one per chunk, each pages_per_seq_max entries: pointers are stable
 * from create to destroy; entries below reserved length are valid. */
const sl_kv_page *const *sl_kvcache_pages(const sl_kvcache *cache, uint32_t seq);

/* End a sequence: drop its references; published pages stay cached.  Not in use: no effect. */
void sl_kvcache_end(sl_kvcache *cache, uint32_t seq);

/* Forget all cached (unreferenced) pages, and all planes behind windows: planes_evictable is 0
 * afterwards. */
void sl_kvcache_flush(sl_kvcache *cache);

typedef struct sl_kvcache_stats {
    uint32_t planes_total;
    uint32_t planes_free;      /* never used, or given back */
    uint32_t planes_evictable; /* cached, or behind a window: free when needed */
    uint64_t query_tokens;     /* prompt tokens looked up */
    uint64_t hit_tokens;       /* of these, found */
    uint64_t evicted_pages;
    uint64_t copied_pages; /* copy on write */
} sl_kvcache_stats;

void sl_kvcache_get_stats(const sl_kvcache *cache, sl_kvcache_stats *out);

/* Walk every invariant (reference counts = tables, planes conserved, index consistent); abort with
 * a message at the first that fails.  O(everything): for idle moments and tests. */
void sl_kvcache_check(const sl_kvcache *cache);

#endif
