/* kvcache/kvcache.c - see kvcache.h: creation, and what a sequence does. */
#include "kvcache/kvcache.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "kvcache/kvcache_internal.h"

enum { PLANES_MAX = 1 << 24, TABLE_MAX = 1 << 26, PAGE_INDEX_MAX = 1 << 28 };

static bool options_valid(const sl_kvcache_options *o)
{
    return o->plane_count >= 1 && o->plane_count <= PLANES_MAX && o->chunk_count >= 1 &&
           o->chunk_count <= SL_KV_CHUNKS_MAX && o->seq_max >= 1 && o->pages_per_seq_max >= 1 &&
           (uint64_t)o->seq_max * o->pages_per_seq_max <= TABLE_MAX && o->hash_bits <= 64;
}

/* How many pages there can be.  A page keeps the planes of its chunks without a window for all its
 * life; if every chunk has one, a page may have no planes at all, and the tables bound the number
 * that is referenced.  One more a sequence may be pinned. */
static uint64_t page_limit(const sl_kvcache_options *o)
{
    uint32_t full_chunks = 0;

    for (uint32_t chunk = 0; chunk < o->chunk_count; chunk++)
        full_chunks += o->chunk_window[chunk] == 0;
    if (full_chunks > 0)
        return o->plane_count / (SL_PAGE_PLANES_MAX * full_chunks);
    return (uint64_t)o->seq_max * o->pages_per_seq_max + o->seq_max +
           o->plane_count / (SL_PAGE_PLANES_MAX * o->chunk_count);
}

static void init_list(kvc_list *l, size_t count)
{
    l->at = sl_alloc(count, sizeof(*l->at));
    l->head = l->tail = NONE;
    l->count = 0;
}

static bool alloc_tables(sl_kvcache *cache)
{
    const sl_kvcache_options *o = &cache->options;
    const size_t cells = (size_t)cache->page_max * o->chunk_count;
    const size_t entries = (size_t)o->seq_max * o->pages_per_seq_max;
    const size_t lanes = (size_t)o->seq_max * o->chunk_count;

    cache->page = sl_alloc(cache->page_max, sizeof(*cache->page));
    cache->cell = sl_alloc(cells, sizeof(*cache->cell));
    cache->bucket = sl_alloc((size_t)cache->bucket_mask + 1, sizeof(*cache->bucket));
    init_list(&cache->lru, cache->page_max);
    init_list(&cache->behind, cells);
    cache->seq = sl_alloc(o->seq_max, sizeof(*cache->seq));
    cache->page_id = sl_alloc(entries, sizeof(*cache->page_id));
    cache->live_first = sl_alloc(lanes, sizeof(*cache->live_first));
    cache->table = sl_alloc(entries * o->chunk_count, sizeof(*cache->table));
    cache->lanes = sl_alloc(lanes, sizeof(*cache->lanes));
    cache->match = sl_alloc(o->pages_per_seq_max, sizeof(*cache->match));
    cache->check_count = sl_alloc(cache->page_max, 2 * sizeof(*cache->check_count));
    cache->check_users = sl_alloc(cells, sizeof(*cache->check_users));
    cache->check_plane = sl_alloc(o->plane_count, sizeof(*cache->check_plane));
    return cache->page != NULL && cache->cell != NULL && cache->bucket != NULL &&
           cache->lru.at != NULL && cache->behind.at != NULL && cache->seq != NULL &&
           cache->page_id != NULL && cache->live_first != NULL && cache->table != NULL &&
           cache->lanes != NULL && cache->match != NULL && cache->check_count != NULL &&
           cache->check_users != NULL && cache->check_plane != NULL;
}

sl_status sl_kvcache_create(const sl_kvcache_options *options, sl_kvcache **out)
{
    sl_kvcache *cache;
    sl_status status;
    uint64_t page_max;

    if (!options_valid(options))
        return SL_EINVAL;
    page_max = page_limit(options);
    if (page_max * options->chunk_count > PAGE_INDEX_MAX)
        return SL_EINVAL;
    cache = sl_alloc(1, sizeof(*cache));
    if (cache == NULL)
        return SL_ENOMEM;
    cache->options = *options;
    cache->hash_mask =
        options->hash_bits == 0 ? UINT64_MAX : UINT64_MAX >> (64 - options->hash_bits);
    cache->page_max = (uint32_t)page_max;
    cache->page_free = NONE;
    while (cache->bucket_mask < cache->page_max)
        cache->bucket_mask = cache->bucket_mask * 2 + 1;
    status = sl_plane_pool_create(options->plane_count, &cache->pool);
    if (status != SL_OK || !alloc_tables(cache)) {
        sl_kvcache_destroy(cache);
        return SL_ENOMEM;
    }
    for (size_t i = 0; i < (size_t)options->seq_max * options->chunk_count; i++)
        cache->lanes[i] = cache->table + i * options->pages_per_seq_max;
    for (uint32_t i = 0; i < options->seq_max; i++)
        cache->seq[i].pinned = NONE;
    *out = cache;
    return SL_OK;
}

void sl_kvcache_destroy(sl_kvcache *cache)
{
    if (cache == NULL)
        return;
    sl_plane_pool_destroy(cache->pool);
    sl_free(cache->page);
    sl_free(cache->cell);
    sl_free(cache->bucket);
    sl_free(cache->lru.at);
    sl_free(cache->behind.at);
    sl_free(cache->seq);
    sl_free(cache->page_id);
    sl_free(cache->live_first);
    sl_free(cache->table);
    sl_free(cache->lanes);
    sl_free(cache->match);
    sl_free(cache->check_count);
    sl_free(cache->check_users);
    sl_free(cache->check_plane);
    sl_free(cache);
}

uint32_t sl_kvcache_planes_per_page(const sl_kvcache *cache)
{
    return SL_PAGE_PLANES_MAX * cache->options.chunk_count;
}

static kvc_seq *used_seq(const sl_kvcache *cache, uint32_t seq)
{
    SL_ASSERT(seq < cache->options.seq_max);
    SL_ASSERT(cache->seq[seq].used);
    return &cache->seq[seq];
}

static uint32_t *ids_of(const sl_kvcache *cache, uint32_t seq)
{
    return cache->page_id + (size_t)seq * cache->options.pages_per_seq_max;
}

static uint32_t *live_of(const sl_kvcache *cache, uint32_t seq)
{
    return cache->live_first + (size_t)seq * cache->options.chunk_count;
}

static sl_kv_page *entry_of(const sl_kvcache *cache, uint32_t seq, uint32_t chunk, uint32_t i)
{
    const size_t lane = (size_t)seq * cache->options.chunk_count + chunk;

    return &cache->table[lane * cache->options.pages_per_seq_max + i];
}

/* Write a table entry: the planes of the cell, or none. */
static void set_entry(sl_kv_page *entry, const kvc_cell *c)
{
    entry->tier = SL_KV_F16;
    if (c != NULL) {
        memcpy(entry->plane, c->plane, sizeof(entry->plane));
        return;
    }
    for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++)
        entry->plane[i] = SL_PLANE_NONE;
}

static uint32_t pages_of_tokens(uint32_t tokens)
{
    return tokens / SL_PAGE_TOKENS + (tokens % SL_PAGE_TOKENS != 0);
}

/* The longest usable length, at most `limit` and within the pages id[0..count): a whole number of
 * pages or `limit` itself, such that every plane that a window sees from there is present. */
static uint32_t usable_length(const sl_kvcache *cache, const uint32_t *id, uint32_t count,
                              uint32_t limit)
{
    const sl_kvcache_options *o = &cache->options;
    uint32_t run[SL_KV_CHUNKS_MAX] = {0}; /* present cells in a row, up to page i */
    uint32_t best = 0;

    for (uint32_t i = 0; i < count; i++) {
        const uint32_t page_end = (i + 1) * SL_PAGE_TOKENS;
        const uint32_t end = page_end < limit ? page_end : limit;
        bool all = true;

        for (uint32_t chunk = 0; chunk < o->chunk_count; chunk++) {
            const uint32_t first = first_seen(end, o->chunk_window[chunk]);

            run[chunk] = cell_present(cell_of(cache, id[i], chunk)) ? run[chunk] + 1 : 0;
            all = all && run[chunk] + first >= i + 1;
        }
        if (all)
            best = end;
    }
    return best;
}

/* Look the prefix up; the pages found are match[0..). */
static uint32_t find_match(const sl_kvcache *cache, const uint32_t *token, uint32_t count,
                           uint64_t salt)
{
    uint32_t limit = count > 0 ? (count - 1) / SL_PAGE_TOKENS : 0;
    uint64_t hash = sl_kvc_index_root(cache, salt);
    uint32_t parent = NONE, found = 0;

    if (!cache->options.prefix_caching)
        return 0;
    if (limit > cache->options.pages_per_seq_max)
        limit = cache->options.pages_per_seq_max;
    while (found < limit) {
        const uint32_t *page_token = token + (size_t)found * SL_PAGE_TOKENS;

        hash = sl_kvc_index_hash(cache, hash, page_token);
        parent = sl_kvc_index_find(cache, hash, parent, page_token, salt);
        if (parent == NONE)
            break;
        cache->match[found++] = parent;
    }
    return usable_length(cache, cache->match, found, found * SL_PAGE_TOKENS);
}

uint32_t sl_kvcache_probe(const sl_kvcache *cache, const uint32_t *token, uint32_t count,
                          uint64_t salt)
{
    return find_match(cache, token, count, salt);
}

uint32_t sl_kvcache_probe_planes(const sl_kvcache *cache, const uint32_t *token, uint32_t count,
                                 uint64_t salt, uint32_t upto)
{
    const sl_kvcache_options *o = &cache->options;
    const uint32_t length = find_match(cache, token, count, salt);
    const uint32_t held = length / SL_PAGE_TOKENS, want = pages_of_tokens(upto);
    uint32_t planes = want > held ? (want - held) * sl_kvcache_planes_per_page(cache) : 0;

    for (uint32_t chunk = 0; chunk < o->chunk_count; chunk++)
        for (uint32_t i = first_seen(length, o->chunk_window[chunk]); i < held; i++)
            if (cell_of(cache, cache->match[i], chunk)->users == 0)
                planes += SL_PAGE_PLANES_MAX;
    return planes;
}

/* Start a sequence on the pages id[0..) that `length` tokens take; id may be another sequence's. */
static void start_seq(sl_kvcache *cache, uint32_t seq, const uint32_t *id, uint32_t length,
                      uint64_t salt)
{
    const sl_kvcache_options *o = &cache->options;
    const uint32_t full = length / SL_PAGE_TOKENS;
    uint32_t *own = ids_of(cache, seq), *live = live_of(cache, seq);
    kvc_seq *s;

    SL_ASSERT(seq < o->seq_max);
    s = &cache->seq[seq];
    SL_ASSERT(!s->used);
    *s = (kvc_seq){.used = true,
                   .length = length,
                   .pages = pages_of_tokens(length),
                   .pinned = NONE,
                   .salt = salt};
    for (uint32_t chunk = 0; chunk < o->chunk_count; chunk++)
        live[chunk] = first_seen(length, o->chunk_window[chunk]);
    for (uint32_t i = 0; i < s->pages; i++) {
        own[i] = id[i];
        sl_kvc_page_ref(cache, id[i]);
        for (uint32_t chunk = 0; chunk < o->chunk_count; chunk++) {
            const bool seen = i >= live[chunk];

            if (seen)
                sl_kvc_cell_use(cache, id[i], chunk);
            set_entry(entry_of(cache, seq, chunk, i), seen ? cell_of(cache, id[i], chunk) : NULL);
        }
    }
    s->chained =
        o->prefix_caching && (full == 0 || cache->page[own[full - 1]].state == PAGE_PUBLISHED);
}

uint32_t sl_kvcache_begin(sl_kvcache *cache, uint32_t seq, const uint32_t *token, uint32_t count,
                          uint64_t salt)
{
    const uint32_t length = find_match(cache, token, count, salt);

    start_seq(cache, seq, cache->match, length, salt);
    cache->query_tokens += count;
    cache->hit_tokens += length;
    return length;
}

uint32_t sl_kvcache_fork(sl_kvcache *cache, uint32_t seq, uint32_t from, uint32_t tokens)
{
    const kvc_seq *source = used_seq(cache, from);
    const uint32_t pages = pages_of_tokens(tokens);
    uint32_t *id = cache->match;
    uint32_t length;

    SL_ASSERT(tokens <= source->length);
    memcpy(id, ids_of(cache, from), pages * sizeof(*id));
    /* The copy that `from` asked for may not have run: share what it is copied from. */
    if (source->pinned != NONE && pages == source->length / SL_PAGE_TOKENS + 1)
        id[pages - 1] = source->pinned;
    length = usable_length(cache, id, pages, tokens);
    start_seq(cache, seq, id, length, source->salt);
    return length;
}

/* Must the page that position `length` falls into be copied before it is written?  Not if there is
 * none yet, or if nobody else has it: no sequence, no lookup, no pending copy of what lies there.
 */
static bool must_copy(const sl_kvcache *cache, uint32_t seq)
{
    const kvc_seq *s = &cache->seq[seq];
    const uint32_t filled = s->length % SL_PAGE_TOKENS;
    const kvc_page *p;

    if (filled == 0)
        return false;
    p = &cache->page[ids_of(cache, seq)[s->length / SL_PAGE_TOKENS]];
    return p->refs > 1 || p->state == PAGE_PUBLISHED || filled < p->pin_end;
}

/* Pages that reserve(seq, upto) has to take. */
static uint32_t pages_short(const sl_kvcache *cache, uint32_t seq, uint32_t upto)
{
    const kvc_seq *s = used_seq(cache, seq);
    const uint32_t want = pages_of_tokens(upto);

    if (upto <= s->length)
        return 0;
    return (want > s->pages ? want - s->pages : 0) + must_copy(cache, seq);
}

uint32_t sl_kvcache_planes_short(const sl_kvcache *cache, uint32_t seq, uint32_t upto)
{
    return pages_short(cache, seq, upto) * sl_kvcache_planes_per_page(cache);
}

/* Replace the shared page at the sequence's end by a copy, and pin the original until then. */
static void copy_last_page(sl_kvcache *cache, uint32_t seq, sl_kv_copies *copies)
{
    kvc_seq *s = &cache->seq[seq];
    const uint32_t index = s->length / SL_PAGE_TOKENS, filled = s->length % SL_PAGE_TOKENS;
    uint32_t *id = &ids_of(cache, seq)[index];
    const uint32_t original = *id, fresh = sl_kvc_page_take(cache);
    kvc_page *p = &cache->page[original];

    memcpy(cache->page[fresh].token, p->token, filled * sizeof(p->token[0]));
    for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++) {
        const kvc_cell *src = cell_of(cache, original, chunk), *dst = cell_of(cache, fresh, chunk);

        for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++) {
            copies->src[copies->count] = src->plane[i];
            copies->dst[copies->count++] = dst->plane[i];
        }
        set_entry(entry_of(cache, seq, chunk, index), dst);
    }
    *id = fresh;
    /* The reference becomes a pin, and goes on seeing every cell. */
    SL_ASSERT(s->pinned == NONE);
    s->pinned = original;
    p->refs--;
    p->pins++;
    if (p->pin_end < filled)
        p->pin_end = filled;
    cache->copied_pages++;
}

static void unpin(sl_kvcache *cache, kvc_seq *s)
{
    const uint32_t original = s->pinned;
    kvc_page *p;

    if (original == NONE)
        return;
    p = &cache->page[original];
    s->pinned = NONE;
    if (--p->pins == 0)
        p->pin_end = 0;
    for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++)
        sl_kvc_cell_unuse(cache, original, chunk);
    sl_kvc_page_settle(cache, original);
}

sl_status sl_kvcache_reserve(sl_kvcache *cache, uint32_t seq, uint32_t upto, sl_kv_copies *copies)
{
    kvc_seq *s = used_seq(cache, seq);
    const uint32_t per_page = sl_kvcache_planes_per_page(cache);
    const uint32_t pages = pages_short(cache, seq, upto), want = pages_of_tokens(upto);
    const bool copy = upto > s->length && must_copy(cache, seq);

    SL_ASSERT(want <= cache->options.pages_per_seq_max);
    if ((uint64_t)pages * per_page > (uint64_t)sl_plane_pool_free(cache->pool) + cache->idle_planes)
        return SL_EFULL;
    if (copy && copies->count + per_page > SL_KV_COPIES_MAX)
        return SL_EFULL;
    sl_kvc_pages_make_room(cache, pages * per_page, pages);
    if (copy)
        copy_last_page(cache, seq, copies);
    for (; s->pages < want; s->pages++) {
        const uint32_t fresh = sl_kvc_page_take(cache);

        ids_of(cache, seq)[s->pages] = fresh;
        for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++)
            set_entry(entry_of(cache, seq, chunk, s->pages), cell_of(cache, fresh, chunk));
    }
    return SL_OK;
}

/* Move the sequence from its own page to the published one that is equal.  False: it cannot be,
 * since planes are missing there and a fork shares ours. */
static bool adopt(sl_kvcache *cache, uint32_t seq, uint32_t index, uint32_t published)
{
    uint32_t *id = &ids_of(cache, seq)[index];
    const uint32_t own = *id;
    kvc_page *p = &cache->page[own];
    const bool alone = p->refs + p->pins == 1;

    for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++)
        if (!alone && !cell_present(cell_of(cache, published, chunk)))
            return false;
    for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++)
        if (!cell_present(cell_of(cache, published, chunk)))
            sl_kvc_cell_donate(cache, own, published, chunk);
    sl_kvc_page_ref(cache, published);
    p->refs--;
    for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++) {
        sl_kvc_cell_use(cache, published, chunk);
        set_entry(entry_of(cache, seq, chunk, index), cell_of(cache, published, chunk));
        if (cell_present(cell_of(cache, own, chunk)))
            sl_kvc_cell_unuse(cache, own, chunk);
    }
    sl_kvc_page_settle(cache, own);
    *id = published;
    return true;
}

/* Page `index` of the sequence is full.  Every chunk sees it: windows move only after this. */
static void publish(sl_kvcache *cache, uint32_t seq, uint32_t index)
{
    kvc_seq *s = &cache->seq[seq];
    const uint32_t *id = ids_of(cache, seq);
    const uint32_t *token = cache->page[id[index]].token;
    const uint32_t parent = index > 0 ? id[index - 1] : NONE;
    const uint64_t before =
        index > 0 ? cache->page[parent].hash : sl_kvc_index_root(cache, s->salt);
    const uint64_t hash = sl_kvc_index_hash(cache, before, token);
    const uint32_t published = sl_kvc_index_find(cache, hash, parent, token, s->salt);

    if (published == NONE)
        sl_kvc_index_insert(cache, id[index], hash, parent, s->salt);
    else if (!adopt(cache, seq, index, published))
        s->chained = false;
}

/* Let go of the cells that every window of the sequence has left behind. */
static void leave_behind(sl_kvcache *cache, uint32_t seq)
{
    const kvc_seq *s = &cache->seq[seq];
    const uint32_t *id = ids_of(cache, seq);
    uint32_t *live = live_of(cache, seq);

    for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++) {
        const uint32_t first = first_seen(s->length, cache->options.chunk_window[chunk]);

        for (; live[chunk] < first && live[chunk] < s->pages; live[chunk]++) {
            sl_kvc_cell_unuse(cache, id[live[chunk]], chunk);
            set_entry(entry_of(cache, seq, chunk, live[chunk]), NULL);
        }
    }
}

void sl_kvcache_advance(sl_kvcache *cache, uint32_t seq, const uint32_t *token, uint32_t count)
{
    kvc_seq *s = used_seq(cache, seq);
    const uint32_t *id = ids_of(cache, seq);

    SL_ASSERT(count <= s->pages * SL_PAGE_TOKENS - s->length);
    unpin(cache, s);
    while (count > 0) {
        const uint32_t index = s->length / SL_PAGE_TOKENS, filled = s->length % SL_PAGE_TOKENS;
        const uint32_t room = SL_PAGE_TOKENS - filled, n = count < room ? count : room;

        memcpy(cache->page[id[index]].token + filled, token, n * sizeof(*token));
        token += n;
        count -= n;
        s->length += n;
        if (n == room && s->chained)
            publish(cache, seq, index);
    }
    leave_behind(cache, seq);
}

uint32_t sl_kvcache_length(const sl_kvcache *cache, uint32_t seq)
{
    return used_seq(cache, seq)->length;
}

const sl_kv_page *const *sl_kvcache_pages(const sl_kvcache *cache, uint32_t seq)
{
    SL_ASSERT(seq < cache->options.seq_max);
    return cache->lanes + (size_t)seq * cache->options.chunk_count;
}

void sl_kvcache_end(sl_kvcache *cache, uint32_t seq)
{
    const uint32_t *id = ids_of(cache, seq), *live = live_of(cache, seq);
    kvc_seq *s = &cache->seq[seq];

    SL_ASSERT(seq < cache->options.seq_max);
    if (!s->used)
        return;
    unpin(cache, s);
    /* From the last page: so children stand before their parents in the order of eviction. */
    for (uint32_t i = s->pages; i-- > 0;) {
        cache->page[id[i]].refs--;
        for (uint32_t chunk = 0; chunk < cache->options.chunk_count; chunk++)
            if (i >= live[chunk])
                sl_kvc_cell_unuse(cache, id[i], chunk);
        sl_kvc_page_settle(cache, id[i]);
    }
    *s = (kvc_seq){.pinned = NONE};
}

void sl_kvcache_flush(sl_kvcache *cache)
{
    while (cache->behind.count > 0)
        sl_kvc_evict_behind(cache);
    while (cache->lru.count > 0)
        sl_kvc_evict_page(cache);
}

void sl_kvcache_get_stats(const sl_kvcache *cache, sl_kvcache_stats *out)
{
    *out = (sl_kvcache_stats){.planes_total = sl_plane_pool_total(cache->pool),
                              .planes_free = sl_plane_pool_free(cache->pool),
                              .planes_evictable = cache->idle_planes,
                              .query_tokens = cache->query_tokens,
                              .hit_tokens = cache->hit_tokens,
                              .evicted_pages = cache->evicted_pages,
                              .copied_pages = cache->copied_pages};
}
