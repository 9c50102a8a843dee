/* tests/kvcache/test_kvcache.c
 *
 * Goal: each rule of kvcache.h by itself: hits, salts, collisions, eviction order, windows, forks
 * and copies, pins, duplicates, exact capacity, limits. Method: few sequences in a small cache,
 * step by step; test_kvcache_model.c plays at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "kvcache/kvcache.h"

enum { PAGE = SL_PAGE_TOKENS, TOKENS = 64 * PAGE, PER_PAGE = SL_PAGE_PLANES_MAX };

static sl_kvcache *create(const sl_kvcache_options *changes, uint32_t pages)
{
    sl_kvcache_options options = *changes;
    sl_kvcache *cache = NULL;

    options.chunk_count = options.chunk_count > 0 ? options.chunk_count : 1;
    options.plane_count = pages * PER_PAGE * options.chunk_count;
    options.seq_max = 8;
    options.pages_per_seq_max = 64;
    assert_int_equal(sl_kvcache_create(&options, &cache), SL_OK);
    return cache;
}

static sl_kvcache *create_plain(uint32_t pages)
{
    return create(&(sl_kvcache_options){.prefix_caching = true}, pages);
}

/* Token i of stream `stream`. */
static const uint32_t *tokens_of(uint32_t stream)
{
    static uint32_t token[TOKENS];

    for (uint32_t i = 0; i < TOKENS; i++)
        token[i] = stream * 100000 + i;
    return token;
}

/* Compute `stream` up to `upto`; false: no planes. */
static bool grow(sl_kvcache *cache, uint32_t seq, uint32_t stream, uint32_t upto)
{
    const uint32_t length = sl_kvcache_length(cache, seq);
    sl_kv_copies copies = {.count = 0};

    if (sl_kvcache_reserve(cache, seq, upto, &copies) != SL_OK)
        return false;
    sl_kvcache_advance(cache, seq, tokens_of(stream) + length, upto - length);
    sl_kvcache_check(cache);
    return true;
}

static uint32_t begin(sl_kvcache *cache, uint32_t seq, uint32_t stream, uint32_t count)
{
    return sl_kvcache_begin(cache, seq, tokens_of(stream), count, 0);
}

static uint32_t probe(const sl_kvcache *cache, uint32_t stream, uint32_t count)
{
    return sl_kvcache_probe(cache, tokens_of(stream), count, 0);
}

/* Begin, compute, end: leaves the stream's full pages cached. */
static void put(sl_kvcache *cache, uint32_t stream, uint32_t count)
{
    begin(cache, 7, stream, count);
    assert_true(grow(cache, 7, stream, count));
    sl_kvcache_end(cache, 7);
    sl_kvcache_check(cache);
}

static sl_kvcache_stats stats_of(const sl_kvcache *cache)
{
    sl_kvcache_stats stats;

    sl_kvcache_get_stats(cache, &stats);
    return stats;
}

static void assert_same_stats(const sl_kvcache_stats *a, const sl_kvcache_stats *b)
{
    assert_int_equal(a->planes_total, b->planes_total);
    assert_int_equal(a->planes_free, b->planes_free);
    assert_int_equal(a->planes_evictable, b->planes_evictable);
    assert_int_equal(a->query_tokens, b->query_tokens);
    assert_int_equal(a->hit_tokens, b->hit_tokens);
    assert_int_equal(a->evicted_pages, b->evicted_pages);
    assert_int_equal(a->copied_pages, b->copied_pages);
}

static void options_out_of_range_are_refused(void **state)
{
    const sl_kvcache_options good = {
        .plane_count = 16, .chunk_count = 2, .seq_max = 1, .pages_per_seq_max = 1};
    sl_kvcache_options bad[9];
    sl_kvcache *cache = NULL;
    (void)state;

    for (uint32_t i = 0; i < 9; i++)
        bad[i] = good;
    bad[0].plane_count = 0;
    bad[1].plane_count = (1 << 24) + 1;
    bad[2].chunk_count = 0;
    bad[3].chunk_count = SL_KV_CHUNKS_MAX + 1;
    bad[4].seq_max = 0;
    bad[5].pages_per_seq_max = 0;
    bad[6].hash_bits = 65;
    bad[7].seq_max = bad[7].pages_per_seq_max = UINT32_MAX;
    bad[8].seq_max = UINT32_MAX;
    for (uint32_t i = 0; i < 9; i++)
        assert_int_equal(sl_kvcache_create(&bad[i], &cache), SL_EINVAL);
    assert_null(cache);
    sl_kvcache_destroy(NULL);
    assert_int_equal(sl_kvcache_create(&good, &cache), SL_OK);
    assert_int_equal(sl_kvcache_planes_per_page(cache), 16);
    sl_kvcache_destroy(cache);
}

static void every_failed_allocation_is_reported(void **state)
{
    const sl_kvcache_options options = {
        .plane_count = 64, .chunk_count = 2, .seq_max = 3, .pages_per_seq_max = 4};
    sl_kvcache *cache = NULL;
    uint64_t n = 1;
    (void)state;

    for (;; n++) {
        sl_status status;

        sl_alloc_fail_at(n);
        status = sl_kvcache_create(&options, &cache);
        sl_alloc_fail_at(0);
        if (status == SL_OK)
            break;
        assert_int_equal(status, SL_ENOMEM);
        assert_null(cache);
    }
    assert_true(n > 15);
    sl_kvcache_destroy(cache);
}

static void nothing_is_allocated_after_create(void **state)
{
    sl_kvcache *cache = create_plain(6);
    (void)state;

    sl_alloc_fail_at(0);
    for (uint32_t i = 0; i < 10; i++)
        put(cache, i % 4, 3 * PAGE);
    sl_kvcache_flush(cache);
    assert_int_equal(sl_alloc_fail_at(0), 0);
    sl_kvcache_destroy(cache);
}

static void a_pool_smaller_than_a_page_is_full_from_the_start(void **state)
{
    const sl_kvcache_options options = {
        .plane_count = 7, .chunk_count = 1, .seq_max = 1, .pages_per_seq_max = 1};
    sl_kvcache *cache = NULL;
    (void)state;

    assert_int_equal(sl_kvcache_create(&options, &cache), SL_OK);
    assert_int_equal(begin(cache, 0, 1, 10), 0);
    assert_false(grow(cache, 0, 1, 1));
    assert_int_equal(sl_kvcache_planes_short(cache, 0, 1), 8);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

/* Lengths at, below and above each page boundary. */
static void a_hit_is_whole_pages_and_never_the_whole_prompt(void **state)
{
    sl_kvcache *cache = create_plain(8);
    (void)state;

    put(cache, 1, 3 * PAGE + 5);
    assert_int_equal(probe(cache, 1, 0), 0);
    assert_int_equal(probe(cache, 1, 1), 0);
    assert_int_equal(probe(cache, 1, PAGE - 1), 0);
    assert_int_equal(probe(cache, 1, PAGE), 0);
    assert_int_equal(probe(cache, 1, PAGE + 1), PAGE);
    assert_int_equal(probe(cache, 1, 3 * PAGE), 2 * PAGE);
    assert_int_equal(probe(cache, 1, 3 * PAGE + 1), 3 * PAGE);
    assert_int_equal(probe(cache, 1, 10 * PAGE), 3 * PAGE); /* the partial page is not found */
    assert_int_equal(begin(cache, 0, 1, 3 * PAGE), 2 * PAGE);
    assert_int_equal(sl_kvcache_length(cache, 0), 2 * PAGE);
    sl_kvcache_check(cache);
    assert_int_equal(stats_of(cache).query_tokens, 6 * PAGE + 5);
    assert_int_equal(stats_of(cache).hit_tokens, 2 * PAGE);
    sl_kvcache_destroy(cache);
}

static void the_last_token_of_a_page_counts(void **state)
{
    uint32_t token[PAGE + 1];
    sl_kvcache *cache = create(&(sl_kvcache_options){.prefix_caching = true, .hash_bits = 1}, 8);
    (void)state;

    put(cache, 1, PAGE);
    memcpy(token, tokens_of(1), sizeof(token));
    assert_int_equal(sl_kvcache_probe(cache, token, PAGE + 1, 0), PAGE);
    for (uint32_t i = 0; i < PAGE; i++) {
        token[i]++;
        assert_int_equal(sl_kvcache_probe(cache, token, PAGE + 1, 0), 0);
        token[i]--;
    }
    sl_kvcache_destroy(cache);
}

static void the_same_page_after_another_page_is_another_page(void **state)
{
    uint32_t token[2 * PAGE + 1];
    sl_kvcache *cache = create(&(sl_kvcache_options){.prefix_caching = true, .hash_bits = 1}, 8);
    (void)state;

    put(cache, 1, 2 * PAGE);
    put(cache, 2, 2 * PAGE);
    memcpy(token, tokens_of(1), sizeof(token));
    memcpy(token + PAGE, tokens_of(2) + PAGE, (PAGE + 1) * sizeof(token[0]));
    assert_int_equal(sl_kvcache_probe(cache, token, 2 * PAGE + 1, 0), PAGE);
    /* And the second page alone is no beginning. */
    assert_int_equal(sl_kvcache_probe(cache, token + PAGE, PAGE + 1, 0), 0);
    sl_kvcache_destroy(cache);
}

/* With one bit of hash, every lookup meets pages of other prefixes under its own hash. */
static void colliding_hashes_find_the_right_tokens(void **state)
{
    sl_kvcache *cache = create(&(sl_kvcache_options){.prefix_caching = true, .hash_bits = 1}, 60);
    (void)state;

    for (uint32_t stream = 0; stream < 20; stream++)
        put(cache, stream, 3 * PAGE);
    for (uint32_t stream = 0; stream < 20; stream++)
        assert_int_equal(probe(cache, stream, 4 * PAGE), 3 * PAGE);
    for (uint32_t stream = 20; stream < 60; stream++)
        assert_int_equal(probe(cache, stream, 4 * PAGE), 0);
    sl_kvcache_destroy(cache);
}

static void other_salts_never_share(void **state)
{
    sl_kvcache *cache = create(&(sl_kvcache_options){.prefix_caching = true, .hash_bits = 1}, 16);
    const uint32_t *token = tokens_of(1);
    sl_kv_copies copies = {.count = 0};
    (void)state;

    for (uint32_t seq = 0; seq < 2; seq++) {
        assert_int_equal(sl_kvcache_begin(cache, seq, token, 3 * PAGE, 7 + seq), 0);
        assert_int_equal(sl_kvcache_reserve(cache, seq, 3 * PAGE, &copies), SL_OK);
        sl_kvcache_advance(cache, seq, token, 3 * PAGE);
    }
    assert_int_equal(stats_of(cache).planes_free, (16 - 6) * PER_PAGE);
    assert_int_equal(sl_kvcache_probe(cache, token, 9 * PAGE, 7), 3 * PAGE);
    assert_int_equal(sl_kvcache_probe(cache, token, 9 * PAGE, 8), 3 * PAGE);
    assert_int_equal(sl_kvcache_probe(cache, token, 9 * PAGE, 9), 0);
    /* A fork stays with its salt. */
    assert_int_equal(sl_kvcache_fork(cache, 2, 0, 3 * PAGE), 3 * PAGE);
    assert_true(grow(cache, 2, 1, 4 * PAGE));
    assert_int_equal(sl_kvcache_probe(cache, token, 9 * PAGE, 7), 4 * PAGE);
    assert_int_equal(sl_kvcache_probe(cache, token, 9 * PAGE, 8), 3 * PAGE);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

static void a_probe_changes_nothing(void **state)
{
    sl_kvcache *cache = create_plain(6);
    sl_kvcache_stats before, after;
    (void)state;

    put(cache, 1, 2 * PAGE);
    put(cache, 2, 2 * PAGE);
    before = stats_of(cache);
    assert_int_equal(probe(cache, 1, 9 * PAGE), 2 * PAGE); /* the older one */
    assert_int_equal(sl_kvcache_probe_planes(cache, tokens_of(1), 9 * PAGE, 0, 3 * PAGE + 1),
                     4 * PER_PAGE); /* two held by the match, two new */
    after = stats_of(cache);
    assert_same_stats(&before, &after);
    begin(cache, 0, 3, 9 * PAGE);
    assert_true(grow(cache, 0, 3, 3 * PAGE)); /* takes the two free ones and one more: 1's last */
    assert_int_equal(probe(cache, 1, 9 * PAGE), PAGE);
    assert_int_equal(probe(cache, 2, 9 * PAGE), 2 * PAGE);
    sl_kvcache_destroy(cache);
}

/* Streams 1, 2, 3 of two pages each are cached in this order; 1 is then used again. */
static void the_least_recently_used_leaf_goes_first(void **state)
{
    static const uint32_t expected[6][3] = {/* pages found of 1, 2, 3 after each eviction */
                                            {2, 1, 2}, {2, 0, 2}, {2, 0, 1},
                                            {2, 0, 0}, {1, 0, 0}, {0, 0, 0}};
    sl_kvcache *cache = create_plain(6);
    (void)state;

    for (uint32_t stream = 1; stream <= 3; stream++)
        put(cache, stream, 2 * PAGE);
    begin(cache, 0, 1, 9 * PAGE);
    sl_kvcache_end(cache, 0);
    begin(cache, 1, 4, 9 * PAGE);
    for (uint32_t n = 0; n < 6; n++) {
        assert_int_equal(stats_of(cache).planes_evictable, (6 - n) * PER_PAGE);
        assert_true(grow(cache, 1, 4, (n + 1) * PAGE));
        assert_int_equal(stats_of(cache).evicted_pages, n + 1);
        for (uint32_t stream = 1; stream <= 3; stream++)
            assert_int_equal(probe(cache, stream, 9 * PAGE), expected[n][stream - 1] * PAGE);
    }
    assert_false(grow(cache, 1, 4, 6 * PAGE + 1));
    sl_kvcache_end(cache, 1);
    assert_int_equal(probe(cache, 4, 9 * PAGE), 6 * PAGE);
    sl_kvcache_destroy(cache);
}

/* Two branches over one trunk: the trunk outlives both. */
static void parents_outlive_children(void **state)
{
    sl_kvcache *cache = create_plain(4);
    uint32_t token[3 * PAGE];
    sl_kv_copies copies = {.count = 0};
    (void)state;

    put(cache, 1, 2 * PAGE); /* trunk and a first branch */
    memcpy(token, tokens_of(1), sizeof(token));
    token[PAGE]++; /* the second branch parts at the second page */
    assert_int_equal(sl_kvcache_begin(cache, 0, token, 2 * PAGE, 0), PAGE);
    assert_int_equal(sl_kvcache_reserve(cache, 0, 2 * PAGE, &copies), SL_OK);
    sl_kvcache_advance(cache, 0, token + PAGE, PAGE);
    sl_kvcache_end(cache, 0);
    assert_int_equal(stats_of(cache).planes_evictable, 3 * PER_PAGE);

    begin(cache, 1, 5, 9 * PAGE);
    assert_true(grow(cache, 1, 5, 2 * PAGE)); /* one free, one evicted: the older branch */
    assert_int_equal(probe(cache, 1, 9 * PAGE), PAGE);
    assert_int_equal(sl_kvcache_probe(cache, token, 3 * PAGE, 0), 2 * PAGE);
    assert_true(grow(cache, 1, 5, 3 * PAGE));
    assert_int_equal(sl_kvcache_probe(cache, token, 3 * PAGE, 0), PAGE);
    assert_true(grow(cache, 1, 5, 4 * PAGE));
    assert_int_equal(probe(cache, 1, 9 * PAGE), 0);
    sl_kvcache_destroy(cache);
}

static void what_a_sequence_holds_is_never_evicted(void **state)
{
    sl_kvcache *cache = create_plain(4);
    (void)state;

    put(cache, 1, 2 * PAGE);
    assert_int_equal(begin(cache, 0, 1, 9 * PAGE), 2 * PAGE);
    assert_int_equal(stats_of(cache).planes_evictable, 0);
    begin(cache, 1, 2, 9 * PAGE);
    assert_true(grow(cache, 1, 2, 2 * PAGE));
    assert_false(grow(cache, 1, 2, 2 * PAGE + 1));
    assert_int_equal(probe(cache, 1, 9 * PAGE), 2 * PAGE);
    sl_kvcache_end(cache, 0);
    assert_true(grow(cache, 1, 2, 2 * PAGE + 1));
    sl_kvcache_destroy(cache);
}

static void a_failed_reserve_changes_nothing(void **state)
{
    sl_kvcache *cache = create_plain(5);
    sl_kvcache_stats before, after;
    sl_kv_copies copies = {.count = 0};
    (void)state;

    put(cache, 1, 2 * PAGE);
    begin(cache, 0, 2, 9 * PAGE);
    assert_true(grow(cache, 0, 2, PAGE + 3));
    before = stats_of(cache);
    assert_int_equal(sl_kvcache_planes_short(cache, 0, 5 * PAGE + 1), 4 * PER_PAGE);
    assert_int_equal(sl_kvcache_reserve(cache, 0, 5 * PAGE + 1, &copies), SL_EFULL);
    after = stats_of(cache);
    assert_same_stats(&before, &after);
    assert_int_equal(probe(cache, 1, 9 * PAGE), 2 * PAGE);
    assert_int_equal(sl_kvcache_reserve(cache, 0, 5 * PAGE, &copies), SL_OK);
    assert_int_equal(stats_of(cache).planes_free, 0);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

static void a_fork_copies_the_shared_partial_page_before_it_writes(void **state)
{
    sl_kvcache *cache = create_plain(8);
    const sl_kv_page *parent, *child;
    sl_kv_copies copies = {.count = 0};
    (void)state;

    begin(cache, 0, 1, 9 * PAGE);
    assert_true(grow(cache, 0, 1, PAGE + 10));
    assert_int_equal(sl_kvcache_fork(cache, 1, 0, PAGE + 10), PAGE + 10);
    parent = sl_kvcache_pages(cache, 0)[0];
    child = sl_kvcache_pages(cache, 1)[0];
    assert_memory_equal(child, parent, 2 * sizeof(*child));
    assert_int_equal(stats_of(cache).planes_free, 6 * PER_PAGE);
    assert_int_equal(sl_kvcache_planes_short(cache, 1, PAGE + 10), 0);
    assert_int_equal(sl_kvcache_planes_short(cache, 1, PAGE + 11), PER_PAGE);
    assert_int_equal(sl_kvcache_planes_short(cache, 0, PAGE + 11), PER_PAGE);

    assert_int_equal(sl_kvcache_reserve(cache, 1, PAGE + 11, &copies), SL_OK);
    assert_int_equal(copies.count, PER_PAGE);
    for (uint32_t k = 0; k < PER_PAGE; k++) {
        assert_int_equal(copies.src[k], parent[1].plane[k]);
        assert_int_equal(copies.dst[k], child[1].plane[k]);
        assert_int_not_equal(copies.dst[k], copies.src[k]);
    }
    assert_memory_equal(&child[0], &parent[0], sizeof(*child));
    /* The parent is alone with its page now: no copy for it. */
    assert_int_equal(sl_kvcache_planes_short(cache, 0, PAGE + 11), 0);
    sl_kvcache_check(cache);
    sl_kvcache_advance(cache, 1, tokens_of(2), 1);
    assert_int_equal(stats_of(cache).copied_pages, 1);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

static void a_page_in_the_index_is_never_written_in_place(void **state)
{
    sl_kvcache *cache = create_plain(8);
    sl_kv_copies copies = {.count = 0};
    (void)state;

    begin(cache, 0, 1, 9 * PAGE);
    assert_true(grow(cache, 0, 1, 2 * PAGE));
    assert_int_equal(sl_kvcache_fork(cache, 1, 0, PAGE + 10), PAGE + 10);
    sl_kvcache_end(cache, 0); /* the fork is alone, but the page can still be found */
    assert_int_equal(sl_kvcache_reserve(cache, 1, PAGE + 11, &copies), SL_OK);
    assert_int_equal(copies.count, PER_PAGE);
    sl_kvcache_advance(cache, 1, tokens_of(2), 1);
    assert_int_equal(probe(cache, 1, 9 * PAGE), 2 * PAGE);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

/* The copy of a page has not run yet: its planes must not go to anyone else, even if the page's
 * own sequence ends; nor may the tokens to be copied be overwritten. */
static void a_page_is_pinned_until_its_copy_has_run(void **state)
{
    sl_kvcache *cache = create_plain(3);
    sl_kv_copies copies = {.count = 0};
    (void)state;

    begin(cache, 0, 1, 9 * PAGE);
    assert_true(grow(cache, 0, 1, 10));
    sl_kvcache_fork(cache, 1, 0, 10);
    assert_int_equal(sl_kvcache_reserve(cache, 1, 11, &copies), SL_OK);
    sl_kvcache_end(cache, 0);
    sl_kvcache_check(cache);
    assert_int_equal(stats_of(cache).planes_free, PER_PAGE); /* not two */
    sl_kvcache_advance(cache, 1, tokens_of(1), 1);
    assert_int_equal(stats_of(cache).planes_free, 2 * PER_PAGE);
    sl_kvcache_check(cache);

    /* 1 has 11 tokens; 2 shares 5 of them; 1 leaves by a copy that is pending: 2 would write
     * position 5 in place, which the copy needs. */
    sl_kvcache_fork(cache, 2, 1, 5);
    copies.count = 0;
    assert_int_equal(sl_kvcache_reserve(cache, 1, 12, &copies), SL_OK);
    assert_int_equal(sl_kvcache_planes_short(cache, 2, 6), PER_PAGE);
    sl_kvcache_advance(cache, 1, tokens_of(1), 1);
    assert_int_equal(sl_kvcache_planes_short(cache, 2, 6), 0);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

static void a_fork_of_a_sequence_with_a_pending_copy_shares_the_original(void **state)
{
    sl_kvcache *cache = create_plain(6);
    sl_kv_copies copies = {.count = 0};
    (void)state;

    begin(cache, 0, 1, 9 * PAGE);
    assert_true(grow(cache, 0, 1, 10));
    sl_kvcache_fork(cache, 1, 0, 10);
    assert_int_equal(sl_kvcache_reserve(cache, 1, 11, &copies), SL_OK);
    assert_int_equal(sl_kvcache_fork(cache, 2, 1, 10), 10);
    assert_memory_equal(sl_kvcache_pages(cache, 2)[0], sl_kvcache_pages(cache, 0)[0],
                        sizeof(sl_kv_page));
    assert_int_equal(sl_kvcache_planes_short(cache, 1, 12), 0); /* not shared: no second copy */
    sl_kvcache_check(cache);
    sl_kvcache_end(cache, 0);
    sl_kvcache_advance(cache, 1, tokens_of(1), 1);
    sl_kvcache_check(cache);
    assert_true(grow(cache, 2, 3, 11));
    sl_kvcache_destroy(cache);
}

static void a_full_copy_list_is_refused(void **state)
{
    sl_kvcache *cache = create_plain(8);
    sl_kv_copies copies = {.count = SL_KV_COPIES_MAX - PER_PAGE + 1};
    (void)state;

    begin(cache, 0, 1, 9 * PAGE);
    assert_true(grow(cache, 0, 1, 10));
    sl_kvcache_fork(cache, 1, 0, 10);
    assert_int_equal(sl_kvcache_reserve(cache, 1, 11, &copies), SL_EFULL);
    assert_int_equal(copies.count, SL_KV_COPIES_MAX - PER_PAGE + 1);
    sl_kvcache_check(cache);
    copies.count--;
    assert_int_equal(sl_kvcache_reserve(cache, 1, 11, &copies), SL_OK);
    assert_int_equal(copies.count, SL_KV_COPIES_MAX);
    sl_kvcache_destroy(cache);
}

static void the_second_of_two_equal_pages_joins_the_first(void **state)
{
    sl_kvcache *cache = create_plain(8);
    (void)state;

    begin(cache, 0, 1, 9 * PAGE);
    begin(cache, 1, 1, 9 * PAGE);
    assert_true(grow(cache, 0, 1, 2 * PAGE + 1));
    assert_true(grow(cache, 1, 1, PAGE + 1));
    assert_int_equal(stats_of(cache).planes_free, 4 * PER_PAGE);
    assert_memory_equal(sl_kvcache_pages(cache, 0)[0], sl_kvcache_pages(cache, 1)[0],
                        sizeof(sl_kv_page));
    assert_true(grow(cache, 1, 1, 2 * PAGE + 1));
    assert_int_equal(stats_of(cache).planes_free, 4 * PER_PAGE); /* 2 shared, 2 partial */
    sl_kvcache_end(cache, 0);
    assert_int_equal(stats_of(cache).planes_evictable, 0);
    sl_kvcache_end(cache, 1);
    assert_int_equal(stats_of(cache).planes_evictable, 2 * PER_PAGE);
    assert_int_equal(stats_of(cache).planes_free, 6 * PER_PAGE);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

static void two_sequences_fill_the_pool_exactly_and_one_goes_on_after_the_other(void **state)
{
    sl_kvcache *cache = create_plain(8);
    (void)state;

    begin(cache, 0, 1, 9 * PAGE);
    begin(cache, 1, 2, 9 * PAGE);
    assert_true(grow(cache, 0, 1, 4 * PAGE));
    assert_true(grow(cache, 1, 2, 4 * PAGE));
    assert_int_equal(stats_of(cache).planes_free, 0);
    assert_int_equal(stats_of(cache).planes_evictable, 0);
    assert_false(grow(cache, 0, 1, 4 * PAGE + 1));
    sl_kvcache_end(cache, 1); /* preempted: its pages stay cached until they are needed */
    assert_true(grow(cache, 0, 1, 4 * PAGE + 1));
    assert_int_equal(begin(cache, 1, 2, 4 * PAGE + 1), 3 * PAGE);
    assert_false(grow(cache, 1, 2, 4 * PAGE + 1));
    sl_kvcache_end(cache, 0);
    assert_true(grow(cache, 1, 2, 4 * PAGE + 1));
    sl_kvcache_destroy(cache);
}

/* One chunk sees everything, one 100 tokens back. */
static const sl_kvcache_options windowed = {
    .chunk_count = 2, .chunk_window = {0, 100}, .prefix_caching = true};

static void planes_behind_the_window_are_given_up_first_and_lost_last(void **state)
{
    sl_kvcache *cache = create(&windowed, 12);
    const sl_kv_page *const *pages;
    (void)state;

    put(cache, 9, 2 * PAGE); /* cached: older than what 1 leaves behind */
    begin(cache, 0, 1, 20 * PAGE);
    pages = sl_kvcache_pages(cache, 0);
    /* At length L the next token sees positions from L - 99 on. */
    assert_true(grow(cache, 0, 1, PAGE + 98));
    assert_int_equal(pages[1][0].plane[0] != SL_PLANE_NONE, 1);
    assert_true(grow(cache, 0, 1, PAGE + 99));
    assert_int_equal(pages[1][0].plane[0], SL_PLANE_NONE);
    assert_int_equal(pages[1][0].plane[7], SL_PLANE_NONE);
    assert_int_not_equal(pages[0][0].plane[0], SL_PLANE_NONE);
    assert_int_not_equal(pages[1][1].plane[0], SL_PLANE_NONE);
    assert_true(grow(cache, 0, 1, 8 * PAGE));
    /* Six pages are behind the window: one half of each; two pages are cached. */
    assert_int_equal(stats_of(cache).planes_evictable, 6 * PER_PAGE + 2 * 2 * PER_PAGE);
    assert_int_equal(stats_of(cache).planes_free, 2 * 2 * PER_PAGE);
    /* Five pages more: two are free, three from six half pages behind the window. */
    begin(cache, 1, 2, 20 * PAGE);
    assert_true(grow(cache, 1, 2, 2 * PAGE));
    assert_true(grow(cache, 0, 1, 8 * PAGE + 1));
    assert_int_equal(stats_of(cache).evicted_pages, 0);
    assert_int_equal(probe(cache, 9, 9 * PAGE), 2 * PAGE);
    sl_kvcache_destroy(cache);
}

static void a_match_needs_a_window_only_at_its_end(void **state)
{
    sl_kvcache *cache = create(&windowed, 20);
    (void)state;

    begin(cache, 0, 1, 20 * PAGE);
    assert_true(grow(cache, 0, 1, 10 * PAGE));
    /* Nothing was taken yet: every page can be the end of a match. */
    for (uint32_t n = 1; n <= 10; n++)
        assert_int_equal(probe(cache, 1, n * PAGE + 1), n * PAGE);
    /* Take all that lies behind the window (8 half pages) and 10 free pages: 14 pages. */
    begin(cache, 1, 2, 20 * PAGE);
    sl_kvcache_end(cache, 1);
    assert_int_equal(sl_kvcache_begin(cache, 1, tokens_of(2), 20 * PAGE, 5), 0);
    {
        sl_kv_copies copies = {.count = 0};

        assert_int_equal(sl_kvcache_reserve(cache, 1, 14 * PAGE, &copies), SL_OK);
    }
    sl_kvcache_check(cache);
    assert_int_equal(stats_of(cache).planes_free + stats_of(cache).planes_evictable, 0);
    for (uint32_t n = 1; n <= 9; n++)
        assert_int_equal(probe(cache, 1, n * PAGE + 1), 0);
    assert_int_equal(probe(cache, 1, 10 * PAGE + 1), 10 * PAGE); /* sees positions from 541 on */
    assert_int_equal(begin(cache, 2, 1, 12 * PAGE), 10 * PAGE);
    assert_int_equal(sl_kvcache_pages(cache, 2)[1][7].plane[0], SL_PLANE_NONE);
    assert_int_not_equal(sl_kvcache_pages(cache, 2)[1][8].plane[0], SL_PLANE_NONE);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

static void a_fork_back_behind_the_window_falls_back_to_what_is_there(void **state)
{
    sl_kvcache *cache = create(&windowed, 12);
    (void)state;

    begin(cache, 0, 1, 20 * PAGE);
    assert_true(grow(cache, 0, 1, 6 * PAGE));
    assert_int_equal(sl_kvcache_fork(cache, 1, 0, 2 * PAGE + 10), 2 * PAGE + 10); /* still there */
    sl_kvcache_check(cache);
    sl_kvcache_end(cache, 1);
    sl_kvcache_flush(cache);
    assert_int_equal(sl_kvcache_fork(cache, 1, 0, 2 * PAGE + 10), 0); /* gone */
    sl_kvcache_end(cache, 1);
    assert_int_equal(sl_kvcache_fork(cache, 1, 0, 6 * PAGE), 6 * PAGE);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

/* The published page has lost its planes behind the window of its sequence; a second sequence
 * computes the same page, and its planes replace them. */
static void a_second_computation_heals_a_page_behind_a_window(void **state)
{
    sl_kvcache *cache = create(&windowed, 12);
    (void)state;

    begin(cache, 0, 1, 20 * PAGE);
    assert_true(grow(cache, 0, 1, 4 * PAGE));
    sl_kvcache_flush(cache);
    assert_int_equal(probe(cache, 1, PAGE + 1), 0);
    assert_int_equal(begin(cache, 1, 1, PAGE + 1), 0);
    assert_true(grow(cache, 1, 1, PAGE + 1));
    assert_int_equal(probe(cache, 1, PAGE + 1), PAGE);
    /* One full page is shared in the chunk without a window; nothing was lost on the way. */
    assert_int_equal(sl_kvcache_pages(cache, 0)[0][0].plane[0],
                     sl_kvcache_pages(cache, 1)[0][0].plane[0]);
    assert_int_equal(sl_kvcache_pages(cache, 0)[1][0].plane[0], SL_PLANE_NONE);
    sl_kvcache_end(cache, 0);
    sl_kvcache_end(cache, 1);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

/* As above, but a fork shares the second sequence's page while it is completed: it stays private,
 * and nothing after it is published. */
static void a_shared_page_that_cannot_join_stays_private(void **state)
{
    sl_kvcache *cache = create(&windowed, 16);
    sl_kv_copies copies = {.count = 0};
    uint32_t free_before;
    (void)state;

    begin(cache, 0, 1, 20 * PAGE);
    assert_true(grow(cache, 0, 1, 4 * PAGE));
    sl_kvcache_flush(cache);
    begin(cache, 1, 1, PAGE + 1);
    assert_true(grow(cache, 1, 1, 10));
    assert_int_equal(sl_kvcache_reserve(cache, 1, 5 * PAGE, &copies), SL_OK);
    sl_kvcache_fork(cache, 2, 1, 10); /* while 1 is in flight */
    free_before = stats_of(cache).planes_free;
    sl_kvcache_advance(cache, 1, tokens_of(1) + 10, 5 * PAGE - 10);
    sl_kvcache_check(cache);
    assert_int_equal(probe(cache, 1, 9 * PAGE), 4 * PAGE); /* 0's end is still good */
    assert_int_equal(probe(cache, 1, PAGE + 1), 0);
    /* Private planes behind a window are free at once, but for the page that the fork sees. */
    assert_int_equal(stats_of(cache).planes_free, free_before + 2 * PER_PAGE);
    for (uint32_t seq = 0; seq < 3; seq++)
        sl_kvcache_end(cache, seq);
    sl_kvcache_check(cache);
    assert_int_equal(stats_of(cache).planes_free + stats_of(cache).planes_evictable,
                     stats_of(cache).planes_total);
    sl_kvcache_destroy(cache);
}

static void without_prefix_caching_planes_are_free_at_the_end(void **state)
{
    sl_kvcache *cache = create(
        &(sl_kvcache_options){.chunk_count = 2, .chunk_window = {0, 64}, .prefix_caching = false},
        8);
    (void)state;

    put(cache, 1, 6 * PAGE);
    assert_int_equal(probe(cache, 1, 9 * PAGE), 0);
    assert_int_equal(stats_of(cache).planes_free, stats_of(cache).planes_total);
    begin(cache, 0, 1, 9 * PAGE);
    assert_true(grow(cache, 0, 1, 6 * PAGE)); /* behind the window: free at once */
    assert_int_equal(stats_of(cache).planes_free, (8 - 6) * 2 * PER_PAGE + 5 * PER_PAGE);
    assert_int_equal(stats_of(cache).planes_evictable, 0);
    sl_kvcache_destroy(cache);
}

static void ending_what_is_not_in_use_does_nothing(void **state)
{
    sl_kvcache *cache = create_plain(2);
    (void)state;

    sl_kvcache_end(cache, 3);
    begin(cache, 3, 1, 5);
    sl_kvcache_end(cache, 3); /* reserved nothing, computed nothing */
    sl_kvcache_end(cache, 3);
    sl_kvcache_check(cache);
    sl_kvcache_destroy(cache);
}

static void the_same_calls_give_the_same_planes(void **state)
{
    sl_kvcache *cache[2];
    (void)state;

    for (uint32_t k = 0; k < 2; k++) {
        cache[k] = create_plain(6);
        for (uint32_t i = 0; i < 12; i++)
            put(cache[k], i * 7 % 5, (i % 4 + 1) * PAGE);
        begin(cache[k], 0, 2, 9 * PAGE);
        assert_true(grow(cache[k], 0, 2, 5 * PAGE + 1));
    }
    assert_memory_equal(sl_kvcache_pages(cache[0], 0)[0], sl_kvcache_pages(cache[1], 0)[0],
                        6 * sizeof(sl_kv_page));
    sl_kvcache_destroy(cache[0]);
    sl_kvcache_destroy(cache[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(nothing_is_allocated_after_create),
        cmocka_unit_test(a_pool_smaller_than_a_page_is_full_from_the_start),
        cmocka_unit_test(a_hit_is_whole_pages_and_never_the_whole_prompt),
        cmocka_unit_test(the_last_token_of_a_page_counts),
        cmocka_unit_test(the_same_page_after_another_page_is_another_page),
        cmocka_unit_test(colliding_hashes_find_the_right_tokens),
        cmocka_unit_test(other_salts_never_share),
        cmocka_unit_test(a_probe_changes_nothing),
        cmocka_unit_test(the_least_recently_used_leaf_goes_first),
        cmocka_unit_test(parents_outlive_children),
        cmocka_unit_test(what_a_sequence_holds_is_never_evicted),
        cmocka_unit_test(a_failed_reserve_changes_nothing),
        cmocka_unit_test(a_fork_copies_the_shared_partial_page_before_it_writes),
        cmocka_unit_test(a_page_in_the_index_is_never_written_in_place),
        cmocka_unit_test(a_page_is_pinned_until_its_copy_has_run),
        cmocka_unit_test(a_fork_of_a_sequence_with_a_pending_copy_shares_the_original),
        cmocka_unit_test(a_full_copy_list_is_refused),
        cmocka_unit_test(the_second_of_two_equal_pages_joins_the_first),
        cmocka_unit_test(two_sequences_fill_the_pool_exactly_and_one_goes_on_after_the_other),
        cmocka_unit_test(planes_behind_the_window_are_given_up_first_and_lost_last),
        cmocka_unit_test(a_match_needs_a_window_only_at_its_end),
        cmocka_unit_test(a_fork_back_behind_the_window_falls_back_to_what_is_there),
        cmocka_unit_test(a_second_computation_heals_a_page_behind_a_window),
        cmocka_unit_test(a_shared_page_that_cannot_join_stays_private),
        cmocka_unit_test(without_prefix_caching_planes_are_free_at_the_end),
        cmocka_unit_test(ending_what_is_not_in_use_does_nothing),
        cmocka_unit_test(the_same_calls_give_the_same_planes),
    };
    return cmocka_run_group_tests_name("kvcache/kvcache", tests, NULL, NULL);
}
