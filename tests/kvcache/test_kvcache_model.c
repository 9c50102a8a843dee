/* tests/kvcache/test_kvcache_model.c
 *
 * Goal: whatever happens - hits, forks, copies, windows, evictions, a full pool - a sequence finds
 * in its planes exactly what was computed for its own tokens, and the cache's figures are exact.
 * Method: a model memory holds, for each plane and token place, the hash of the whole history that
 * was written there (salt included).  Random operations from a printed seed; each computation first
 * reads everything its windows see, as a kernel would, then writes.  Computations stay in flight
 * over other operations, with their copies not yet made.  sl_kvcache_check after each operation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kvcache/kvcache.h"

enum {
    SEQS = 6,
    PAGES = 8, /* of a sequence */
    TOKENS = PAGES * SL_PAGE_TOKENS,
    PLANES_MAX = 4096,
    KNOWN_MAX = 40000, /* published prefixes the model remembers */
    MANY = 12000,      /* operations of a run */
    FEW = 600          /* so few that PLANES_MAX planes are never all taken */
};

typedef struct model_seq {
    bool used, in_flight;
    uint64_t salt;
    uint32_t token[TOKENS];
    uint32_t history[TOKENS]; /* history[i]: salt and token[0..i], hashed */
    uint32_t length;          /* computed */
    uint32_t planned;         /* in flight: length afterwards */
    sl_kv_copies copies;      /* in flight: not yet made */
} model_seq;

typedef struct world {
    sl_kvcache_options options;
    sl_kvcache *cache;
    sl_rng rng;
    uint32_t memory[PLANES_MAX][SL_PAGE_TOKENS];
    model_seq seq[SEQS];
    uint32_t known[KNOWN_MAX]; /* history at the end of each page that was ever completed */
    uint32_t known_count;
    uint64_t hits, copies, full, forks_cut; /* that the run met its cases */
} world;

static world *w; /* too big for a stack */

static uint32_t below(uint32_t bound)
{
    return (uint32_t)sl_rng_below(&w->rng, bound);
}

static uint32_t available(void)
{
    sl_kvcache_stats stats;

    sl_kvcache_get_stats(w->cache, &stats);
    assert_int_equal(stats.planes_total, w->options.plane_count);
    return stats.planes_free + stats.planes_evictable;
}

/* Tokens from few choices, so that sequences share beginnings of all lengths. */
static void invent_tokens(model_seq *s)
{
    const uint32_t family = below(3);
    const uint32_t split = below(TOKENS);
    uint32_t h;

    s->salt = below(2) * 1000;
    h = (uint32_t)sl_mix64(s->salt);
    for (uint32_t i = 0; i < TOKENS; i++) {
        s->token[i] = i < split ? family : below(3) == 0 ? below(2) : family;
        h = (uint32_t)sl_mix64_pair(h, s->token[i]);
        s->history[i] = h;
    }
}

static bool is_known(uint32_t history)
{
    for (uint32_t i = 0; i < w->known_count; i++)
        if (w->known[i] == history)
            return true;
    return false;
}

/* How long a prefix could be found if nothing were ever evicted. */
static uint32_t longest_known(const model_seq *s, uint32_t count)
{
    uint32_t length = 0;

    while (length + SL_PAGE_TOKENS < count && is_known(s->history[length + SL_PAGE_TOKENS - 1]))
        length += SL_PAGE_TOKENS;
    return length;
}

static void op_begin(uint32_t i, bool nothing_is_evicted)
{
    model_seq *s = &w->seq[i];
    const uint32_t before = available();
    uint32_t count, found, probed, planes, upto;

    invent_tokens(s);
    count = 1 + below(TOKENS);
    upto = count - below(count > 3 ? 3 : 1);
    probed = sl_kvcache_probe(w->cache, s->token, count, s->salt);
    planes = sl_kvcache_probe_planes(w->cache, s->token, count, s->salt, upto);
    found = sl_kvcache_begin(w->cache, i, s->token, count, s->salt);
    assert_int_equal(found, probed);
    assert_int_equal(found % SL_PAGE_TOKENS, 0);
    assert_true(found < count);
    assert_int_equal(found, sl_kvcache_length(w->cache, i));
    if (nothing_is_evicted)
        assert_int_equal(found, longest_known(s, count));
    else
        assert_true(found <= longest_known(s, count));
    if (upto > found)
        assert_int_equal(planes, before - available() + sl_kvcache_planes_short(w->cache, i, upto));
    s->used = true;
    s->length = found;
    w->hits += found > 0;
}

/* Reserve and "launch": nothing is computed yet. */
static void op_launch(uint32_t i)
{
    model_seq *s = &w->seq[i];
    const uint32_t room = TOKENS - s->length;
    const uint32_t n = 1 + below(below(4) == 0 ? room : room < 70 ? room : 70);
    const uint32_t upto = s->length + (n < room ? n : room);
    const uint32_t before = available();
    const uint32_t short_planes = sl_kvcache_planes_short(w->cache, i, upto);
    sl_status status;

    if (room == 0)
        return;
    s->copies.count = 0;
    status = sl_kvcache_reserve(w->cache, i, upto, &s->copies);
    assert_int_equal(status, short_planes <= before ? SL_OK : SL_EFULL);
    if (status != SL_OK) {
        assert_int_equal(available(), before);
        assert_int_equal(s->copies.count, 0);
        assert_int_equal(sl_kvcache_planes_short(w->cache, i, upto), short_planes);
        w->full++;
        return;
    }
    assert_int_equal(available(), before - short_planes);
    assert_int_equal(sl_kvcache_planes_short(w->cache, i, upto), 0);
    w->copies += s->copies.count;
    s->in_flight = true;
    s->planned = upto;
}

/* What the kernels of one chunk do for positions [length, planned). */
static void compute_chunk(const model_seq *s, const sl_kv_page *page, uint32_t window)
{
    const uint32_t first = window == 0 || s->length + 1 < window ? 0 : s->length + 1 - window;

    for (uint32_t p = first; p < s->planned; p++) {
        const sl_kv_page *entry = &page[p / SL_PAGE_TOKENS];

        for (uint32_t k = 0; k < SL_PAGE_PLANES_MAX; k++) {
            uint32_t *place;

            assert_true(entry->plane[k] < w->options.plane_count);
            place = &w->memory[entry->plane[k]][p % SL_PAGE_TOKENS];
            if (p < s->length)
                assert_int_equal(*place, s->history[p]);
            else
                *place = s->history[p];
        }
    }
}

static void op_finish(uint32_t i)
{
    model_seq *s = &w->seq[i];
    const sl_kv_page *const *table = sl_kvcache_pages(w->cache, i);

    for (uint32_t k = 0; k < s->copies.count; k++)
        memcpy(w->memory[s->copies.dst[k]], w->memory[s->copies.src[k]], sizeof(w->memory[0]));
    for (uint32_t chunk = 0; chunk < w->options.chunk_count; chunk++)
        compute_chunk(s, table[chunk], w->options.chunk_window[chunk]);
    sl_kvcache_advance(w->cache, i, s->token + s->length, s->planned - s->length);
    for (uint32_t end = (s->length / SL_PAGE_TOKENS + 1) * SL_PAGE_TOKENS; end <= s->planned;
         end += SL_PAGE_TOKENS) {
        if (w->known_count < KNOWN_MAX && !is_known(s->history[end - 1]))
            w->known[w->known_count++] = s->history[end - 1];
    }
    s->length = s->planned;
    s->in_flight = false;
    assert_ptr_equal(table, sl_kvcache_pages(w->cache, i));
    assert_int_equal(sl_kvcache_length(w->cache, i), s->length);
}

static void op_fork(uint32_t i, uint32_t from)
{
    const model_seq *source = &w->seq[from];
    model_seq *s = &w->seq[i];
    const uint32_t tokens = below(4) == 0 ? below(source->length + 1) : source->length;
    const uint32_t got = sl_kvcache_fork(w->cache, i, from, tokens);
    uint32_t h;

    assert_true(got == tokens || (got < tokens && got % SL_PAGE_TOKENS == 0));
    if (tokens == source->length)
        assert_int_equal(got, tokens); /* all its windows are there */
    w->forks_cut += got < tokens;
    *s = *source;
    s->in_flight = false;
    s->copies.count = 0;
    s->length = got;
    /* It goes on with other tokens. */
    h = got > 0 ? s->history[got - 1] : (uint32_t)sl_mix64(s->salt);
    for (uint32_t k = got; k < TOKENS; k++) {
        s->token[k] = below(3) == 0 ? below(3) : s->token[k];
        h = (uint32_t)sl_mix64_pair(h, s->token[k]);
        s->history[k] = h;
    }
}

static void op_end(uint32_t i)
{
    sl_kvcache_end(w->cache, i);
    w->seq[i].used = false;
}

static void one_operation(bool nothing_is_evicted)
{
    const uint32_t i = below(SEQS), kind = below(100);
    model_seq *s = &w->seq[i];

    if (kind == 0 && !nothing_is_evicted) {
        sl_kvcache_stats stats;

        sl_kvcache_flush(w->cache);
        sl_kvcache_get_stats(w->cache, &stats);
        assert_int_equal(stats.planes_evictable, 0);
    } else if (!s->used && kind < 30) {
        const uint32_t from = below(SEQS);

        if (w->seq[from].used)
            op_fork(i, from);
    } else if (!s->used) {
        op_begin(i, nothing_is_evicted);
    } else if (s->in_flight) {
        op_finish(i);
    } else if (kind < 12) {
        op_end(i);
    } else {
        op_launch(i);
    }
    sl_kvcache_check(w->cache);
}

/* Another seed may be tried with SLUICE_TEST_SEED. */
static uint64_t choose_seed(uint64_t fallback)
{
    const char *text = getenv("SLUICE_TEST_SEED");

    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

/* The run has met its cases: known of the seeds that stand here, not of others. */
static void assert_met(bool met)
{
    if (getenv("SLUICE_TEST_SEED") == NULL)
        assert_true(met);
}

/* `rounds` operations; `nothing_is_evicted`: so few that the pool is never full. */
static void run(const sl_kvcache_options *options, uint64_t seed, uint32_t rounds,
                bool nothing_is_evicted)
{
    seed = choose_seed(seed);
    memset(w, 0, sizeof(*w));
    w->options = *options;
    w->options.seq_max = SEQS;
    w->options.pages_per_seq_max = PAGES;
    w->options.name_space = 42;
    w->rng.seed = seed;
    assert_int_equal(sl_kvcache_create(&w->options, &w->cache), SL_OK);
    print_message("seed %llu, %u planes, %u chunks", (unsigned long long)seed, options->plane_count,
                  options->chunk_count);
    for (uint32_t round = 0; round < rounds; round++)
        one_operation(nothing_is_evicted);
    for (uint32_t i = 0; i < SEQS; i++) {
        if (w->seq[i].in_flight)
            op_finish(i);
        op_end(i);
    }
    sl_kvcache_check(w->cache);
    assert_int_equal(available(), options->plane_count); /* nothing has leaked */
    sl_kvcache_flush(w->cache);
    sl_kvcache_check(w->cache);
    print_message(": %llu hits, %llu planes copied, %llu times full, %llu forks cut\n",
                  (unsigned long long)w->hits, (unsigned long long)w->copies,
                  (unsigned long long)w->full, (unsigned long long)w->forks_cut);
    sl_kvcache_destroy(w->cache);
}

static void with_room_for_everything_each_known_prefix_is_found(void **state)
{
    const sl_kvcache_options options = {
        .plane_count = PLANES_MAX, .chunk_count = 1, .prefix_caching = true};
    (void)state;

    run(&options, 1, FEW, true);
    assert_met(w->hits > 0 && w->copies > 0 && w->full == 0);
}

static void under_pressure_everyone_reads_his_own_tokens(void **state)
{
    sl_kvcache_options options = {.chunk_count = 1, .prefix_caching = true};
    (void)state;

    for (uint32_t pages = 4; pages <= 40; pages += 9) {
        options.plane_count = pages * 8 + pages % 8;
        run(&options, 100 + pages, MANY, false);
        assert_met(w->hits > 0 && w->copies > 0 && w->full > 0);
    }
}

static void windows_under_pressure(void **state)
{
    sl_kvcache_options options = {
        .chunk_count = 3, .chunk_window = {0, 100, 64}, .prefix_caching = true};
    (void)state;

    for (uint32_t pages = 8; pages <= 26; pages += 6) {
        options.plane_count = pages * 3 * 8;
        run(&options, 200 + pages, MANY, false);
        assert_met(w->hits > 0 && w->copies > 0 && w->full > 0);
    }
    assert_met(w->forks_cut > 0);
}

static void every_chunk_with_a_window(void **state)
{
    sl_kvcache_options options = {
        .chunk_count = 2, .chunk_window = {1, 130}, .prefix_caching = true};
    (void)state;

    for (uint32_t pages = 8; pages <= 24; pages += 8) {
        options.plane_count = pages * 2 * 8;
        run(&options, 300 + pages, MANY, false);
        assert_met(w->hits > 0 && w->copies > 0 && w->full > 0);
    }
}

static void without_prefix_caching_nothing_is_found(void **state)
{
    const sl_kvcache_options options = {
        .plane_count = 20 * 16, .chunk_count = 2, .chunk_window = {0, 70}};
    (void)state;

    run(&options, 400, MANY, false);
    assert_met(w->hits == 0 && w->copies > 0 && w->full > 0);
}

static void colliding_hashes_change_nothing(void **state)
{
    sl_kvcache_options options = {.plane_count = 24 * 16,
                                  .chunk_count = 2,
                                  .chunk_window = {0, 100},
                                  .prefix_caching = true,
                                  .hash_bits = 1};
    (void)state;

    run(&options, 500, MANY, false);
    assert_met(w->hits > 0);
    options = (sl_kvcache_options){
        .plane_count = PLANES_MAX, .chunk_count = 1, .prefix_caching = true, .hash_bits = 1};
    run(&options, 501, FEW, true);
    assert_met(w->hits > 0);
}

static int setup(void **state)
{
    (void)state;
    w = test_malloc(sizeof(*w));
    return w == NULL;
}

static int teardown(void **state)
{
    (void)state;
    test_free(w);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_room_for_everything_each_known_prefix_is_found),
        cmocka_unit_test(under_pressure_everyone_reads_his_own_tokens),
        cmocka_unit_test(windows_under_pressure),
        cmocka_unit_test(every_chunk_with_a_window),
        cmocka_unit_test(without_prefix_caching_nothing_is_found),
        cmocka_unit_test(colliding_hashes_change_nothing),
    };
    return cmocka_run_group_tests_name("kvcache/kvcache_model", tests, setup, teardown);
}
