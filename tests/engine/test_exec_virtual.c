/* tests/engine/test_exec_virtual.c
 *
 * Goal: the virtual device takes the time that it says, gives the tokens of the oracle, and finds
 * out every wrong page: otherwise the tests above it prove nothing.
 * Method: page tables written by hand; one right use, then each way to be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "engine/exec_virtual.h"

enum { CHUNKS = 2, PAGES = 8, VOCAB = 1000, LAYERS = 4, PLANES = 400 };

/* A sequence with page tables of its own. */
typedef struct hand_seq {
    sl_kv_page page[CHUNKS][PAGES];
    const sl_kv_page *table[CHUNKS];
    uint32_t history[PAGES * SL_PAGE_TOKENS];
    uint32_t count; /* tokens whose KV was computed */
} hand_seq;

static sl_exec_virtual_options plain_options(void)
{
    return (sl_exec_virtual_options){.units = 4,
                                     .layers = LAYERS,
                                     .vocab = VOCAB,
                                     .chunk_count = CHUNKS,
                                     .chunk_window = {0, 100},
                                     .plane_count = PLANES,
                                     .rows_max = 256,
                                     .logit_rows_max = 16,
                                     .seed = 7,
                                     .step_us = 1000,
                                     .token_us = 10,
                                     .prefill_token_us = 20,
                                     .contention = 1.5};
}

static sl_exec *make(const sl_exec_virtual_options *options)
{
    sl_exec *exec = NULL;
    sl_err err;

    assert_int_equal(sl_exec_virtual_create(options, &exec, &err), SL_OK);
    return exec;
}

/* Pages 0 .. count with planes from *next on. */
static void give_pages(hand_seq *s, uint32_t count, uint32_t *next)
{
    memset(s, 0, sizeof(*s));
    for (uint32_t c = 0; c < CHUNKS; c++) {
        s->table[c] = s->page[c];
        for (uint32_t p = 0; p < PAGES; p++)
            for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++)
                s->page[c][p].plane[i] = p < count ? (*next)++ : SL_PLANE_NONE;
    }
    assert_true(*next <= PLANES);
}

static void give_history(hand_seq *s, uint32_t count, uint32_t salt)
{
    for (uint32_t i = 0; i < count; i++)
        s->history[i] = (i * 7 + salt) % VOCAB;
}

/* Wait for a fence: virtual time makes this exact. */
static sl_status finish(sl_exec *exec, sl_fence fence, uint32_t *busy_us)
{
    sl_status status = SL_OK;
    uint32_t busy;

    while (!sl_exec_poll(exec, fence, &status, &busy))
        sl_exec_wait(exec, UINT64_MAX);
    if (busy_us != NULL)
        *busy_us = busy;
    return status;
}

typedef struct hand_batch {
    sl_exec_batch batch;
    sl_forward_seq seq;
    uint32_t logit_row;
    sl_sample sample;
} hand_batch;

/* The next `rows` tokens of a sequence, the last one sampled. */
static void fill(hand_batch *b, hand_seq *s, uint32_t rows)
{
    b->seq = (sl_forward_seq){.row_count = rows, .position = s->count, .chunk_pages = s->table};
    b->logit_row = rows - 1;
    b->batch = (sl_exec_batch){.layer_end = LAYERS,
                               .token = s->history + s->count,
                               .rows = rows,
                               .seq = &b->seq,
                               .seq_count = 1,
                               .logit_row = &b->logit_row,
                               .sample = &b->sample,
                               .logit_row_count = 1};
}

static sl_status step(sl_exec *exec, hand_seq *s, uint32_t rows, uint32_t *token)
{
    hand_batch b;
    sl_fence fence;
    sl_status status;

    fill(&b, s, rows);
    assert_int_equal(sl_exec_submit(exec, SL_LANE_PREFILL, 0, &b.batch, &fence), SL_OK);
    status = finish(exec, fence, NULL);
    if (status == SL_OK) {
        s->count += rows;
        *token = b.sample.token;
    }
    return status;
}

static void tokens_are_those_of_the_oracle_however_the_prompt_is_cut(void **state)
{
    const sl_exec_virtual_options options = plain_options();
    static const uint32_t cuts[][4] = {{200, 0}, {1, 199, 0}, {64, 64, 72, 0}, {63, 2, 135, 0}};
    (void)state;

    for (size_t c = 0; c < sizeof(cuts) / sizeof(cuts[0]); c++) {
        sl_exec *exec = make(&options);
        hand_seq s;
        uint32_t next = 0, token = 0;

        give_pages(&s, 4, &next);
        give_history(&s, 200, 3);
        for (int i = 0; i < 4 && cuts[c][i] > 0; i++)
            assert_int_equal(step(exec, &s, cuts[c][i], &token), SL_OK);
        assert_int_equal(s.count, 200);
        assert_int_equal(token, sl_exec_virtual_token(s.history, 200, VOCAB));
        for (int i = 0; i < 40; i++) {
            s.history[s.count] = token;
            assert_int_equal(step(exec, &s, 1, &token), SL_OK);
            assert_int_equal(token, sl_exec_virtual_token(s.history, s.count, VOCAB));
        }
        assert_int_equal(sl_exec_virtual_faults(exec), 0);
        sl_exec_destroy(exec);
    }
}

static void the_oracle_depends_on_every_token(void **state)
{
    uint32_t history[50], changed = 0;
    (void)state;

    for (uint32_t i = 0; i < 50; i++)
        history[i] = i;
    const uint32_t token = sl_exec_virtual_token(history, 50, 1u << 30);
    for (uint32_t i = 0; i < 50; i++) {
        history[i]++;
        changed += sl_exec_virtual_token(history, 50, 1u << 30) != token;
        history[i]--;
    }
    assert_int_equal(changed, 50);
    assert_int_not_equal(sl_exec_virtual_token(history, 49, 1u << 30), token);
}

/* A sequence of 200 tokens, right so far. */
static sl_exec *ready(hand_seq *s, uint32_t *next)
{
    const sl_exec_virtual_options options = plain_options();
    sl_exec *exec = make(&options);
    uint32_t token = 0;

    *next = 0;
    give_pages(s, 5, next);
    give_history(s, 300, 3);
    assert_int_equal(step(exec, s, 200, &token), SL_OK);
    return exec;
}

static void assert_found_out(sl_exec *exec, hand_seq *s)
{
    uint32_t token;

    assert_int_equal(step(exec, s, 1, &token), SL_EINTERNAL);
    assert_true(sl_exec_virtual_faults(exec) > 0);
    sl_exec_destroy(exec);
}

static void a_missing_plane_is_found_out(void **state)
{
    hand_seq s;
    uint32_t next;
    sl_exec *exec = ready(&s, &next);
    (void)state;

    s.page[0][0].plane[5] = SL_PLANE_NONE;
    assert_found_out(exec, &s);
}

static void swapped_planes_are_found_out(void **state)
{
    hand_seq s;
    uint32_t next;
    sl_exec *exec = ready(&s, &next);
    const sl_kv_page page = s.page[0][0];
    (void)state;

    s.page[0][0].plane[0] = page.plane[1];
    s.page[0][0].plane[1] = page.plane[0];
    assert_found_out(exec, &s);
    exec = ready(&s, &next);
    s.page[0][1].plane[0] = page.plane[4]; /* V for K */
    assert_found_out(exec, &s);
    exec = ready(&s, &next);
    s.page[0][2] = s.page[1][2]; /* another chunk's page */
    assert_found_out(exec, &s);
}

static void a_page_of_another_history_is_found_out(void **state)
{
    hand_seq a, b;
    uint32_t next, token;
    sl_exec *exec = ready(&a, &next);
    (void)state;

    /* b differs from a only in its first token: its second page has a's tokens, but another KV. */
    give_pages(&b, 4, &next);
    give_history(&b, 300, 3);
    b.history[0]++;
    assert_int_equal(step(exec, &b, 200, &token), SL_OK);
    a.page[0][1] = b.page[0][1];
    assert_found_out(exec, &a);
}

static void an_overwritten_page_is_found_out(void **state)
{
    hand_seq a, b;
    uint32_t next, token;
    sl_exec *exec = ready(&a, &next);
    (void)state;

    give_pages(&b, 4, &next);
    give_history(&b, 300, 9);
    b.page[0][0] = a.page[0][0]; /* given out twice */
    assert_int_equal(step(exec, &b, 10, &token), SL_OK);
    assert_found_out(exec, &a);
}

static void pages_behind_the_window_may_be_gone_and_no_others(void **state)
{
    hand_seq s;
    uint32_t next, token = 0;
    sl_exec *exec = ready(&s, &next);
    (void)state;

    /* Position 200 sees 101 .. 200 through the window of 100: page 0 may go. */
    for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++)
        s.page[1][0].plane[i] = SL_PLANE_NONE;
    assert_int_equal(step(exec, &s, 1, &token), SL_OK);
    assert_int_equal(token, sl_exec_virtual_token(s.history, s.count, VOCAB));
    /* Position 201 sees 102 of page 1. */
    for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++)
        s.page[1][1].plane[i] = SL_PLANE_NONE;
    assert_found_out(exec, &s);
}

static void copies_run_first_and_carry_the_history(void **state)
{
    hand_seq a, b;
    hand_batch batch;
    uint32_t next, token = 0;
    uint32_t dst[CHUNKS * SL_PAGE_PLANES_MAX], src[CHUNKS * SL_PAGE_PLANES_MAX], n = 0;
    sl_exec *exec = ready(&a, &next);
    sl_fence fence;
    (void)state;

    /* b shares three pages of a and has a copy of the fourth, which is partial. */
    give_pages(&b, 5, &next);
    memcpy(b.history, a.history, sizeof(b.history));
    for (uint32_t c = 0; c < CHUNKS; c++) {
        for (uint32_t p = 0; p < 3; p++)
            b.page[c][p] = a.page[c][p];
        for (uint32_t i = 0; i < SL_PAGE_PLANES_MAX; i++, n++) {
            dst[n] = b.page[c][3].plane[i];
            src[n] = a.page[c][3].plane[i];
        }
    }
    b.count = 199;
    fill(&batch, &b, 1);
    batch.batch.copy_dst = dst;
    batch.batch.copy_src = src;
    batch.batch.copy_count = n;
    assert_int_equal(sl_exec_submit(exec, SL_LANE_DECODE, 4, &batch.batch, &fence), SL_OK);
    assert_int_equal(finish(exec, fence, NULL), SL_OK);
    assert_int_equal(batch.sample.token, sl_exec_virtual_token(b.history, 200, VOCAB));
    b.count = 200;
    /* They go different ways, and neither disturbs the other. */
    b.history[200] = a.history[200] + 1;
    for (int i = 0; i < 30; i++) {
        assert_int_equal(step(exec, &b, 1, &token), SL_OK);
        assert_int_equal(token, sl_exec_virtual_token(b.history, b.count, VOCAB));
        assert_int_equal(step(exec, &a, 1, &token), SL_OK);
        assert_int_equal(token, sl_exec_virtual_token(a.history, a.count, VOCAB));
    }
    sl_exec_destroy(exec);
}

static void layer_ranges_take_their_share_and_write_at_the_end(void **state)
{
    const sl_exec_virtual_options options = plain_options();
    sl_exec *exec = make(&options);
    hand_seq s;
    hand_batch b;
    sl_fence fence;
    uint32_t next = 0, busy_us;
    (void)state;

    give_pages(&s, 4, &next);
    give_history(&s, 200, 3);
    fill(&b, &s, 200);
    b.batch.logit_row_count = 0;
    b.batch.layer_end = 1;
    assert_int_equal(sl_exec_submit(exec, SL_LANE_PREFILL, 0, &b.batch, &fence), SL_OK);
    assert_int_equal(finish(exec, fence, &busy_us), SL_OK);
    assert_int_equal(busy_us, 200 * 20 / LAYERS);
    b.batch.layer_first = 1;
    b.batch.layer_end = LAYERS;
    b.batch.logit_row_count = 1;
    assert_int_equal(sl_exec_submit(exec, SL_LANE_PREFILL, 0, &b.batch, &fence), SL_OK);
    assert_int_equal(finish(exec, fence, &busy_us), SL_OK);
    assert_int_equal(busy_us, 200 * 20 * 3 / LAYERS);
    assert_int_equal(b.sample.token, sl_exec_virtual_token(s.history, 200, VOCAB));
    assert_int_equal(sl_exec_virtual_faults(exec), 0);

    /* Going on where nothing ended, or with other rows, is found out. */
    assert_int_equal(sl_exec_submit(exec, SL_LANE_PREFILL, 0, &b.batch, &fence), SL_OK);
    assert_int_equal(finish(exec, fence, NULL), SL_EINTERNAL);
    assert_int_equal(sl_exec_virtual_faults(exec), 1);
    sl_exec_destroy(exec);
}

static void lanes_run_at_once_and_slow_each_other(void **state)
{
    const sl_exec_virtual_options options = plain_options();
    sl_exec *exec = make(&options);
    hand_seq a, b;
    hand_batch p, d;
    sl_fence pf, df;
    uint32_t next = 0, token, p_us, d_us, alone_us;
    (void)state;

    give_pages(&a, 4, &next);
    give_history(&a, 256, 1);
    give_pages(&b, 4, &next);
    give_history(&b, 256, 2);
    assert_int_equal(step(exec, &b, 10, &token), SL_OK);
    fill(&d, &b, 1);
    assert_int_equal(sl_exec_submit(exec, SL_LANE_DECODE, 2, &d.batch, &df), SL_OK);
    assert_int_equal(finish(exec, df, &alone_us), SL_OK);
    b.count++;

    /* Rung 2 is two and two units: both at once. */
    const uint64_t start_us = sl_exec_now_us(exec);
    fill(&p, &a, 200);
    fill(&d, &b, 1);
    assert_int_equal(sl_exec_submit(exec, SL_LANE_PREFILL, 2, &p.batch, &pf), SL_OK);
    assert_int_equal(sl_exec_submit(exec, SL_LANE_DECODE, 2, &d.batch, &df), SL_OK);
    assert_int_equal(finish(exec, df, &d_us), SL_OK);
    assert_int_equal(finish(exec, pf, &p_us), SL_OK);
    assert_in_range(d_us, alone_us * 1.5 - 2, alone_us * 1.5 + 2);
    /* The prompt alone takes 200 * 20 / 0.75; a third of the shared time is lost. */
    assert_in_range(p_us, 5333 + d_us / 3 - 2, 5334 + d_us / 3 + 2);
    assert_in_range(sl_exec_now_us(exec) - start_us, p_us, p_us + 2);
    sl_exec_destroy(exec);
}

static void a_batch_waits_for_units_that_an_earlier_one_holds(void **state)
{
    const sl_exec_virtual_options options = plain_options();
    sl_exec *exec = make(&options);
    hand_seq a, b;
    hand_batch p, d;
    sl_fence pf, df;
    uint32_t next = 0, token, p_us, d_us;
    (void)state;

    give_pages(&a, 4, &next);
    give_history(&a, 256, 1);
    give_pages(&b, 4, &next);
    give_history(&b, 256, 2);
    assert_int_equal(step(exec, &b, 10, &token), SL_OK);
    const uint64_t start_us = sl_exec_now_us(exec);
    fill(&p, &a, 100);
    fill(&d, &b, 1);
    /* All units for the prompt, then all for the step: one after the other, at full speed. */
    assert_int_equal(sl_exec_submit(exec, SL_LANE_PREFILL, 0, &p.batch, &pf), SL_OK);
    assert_int_equal(sl_exec_submit(exec, SL_LANE_DECODE, 4, &d.batch, &df), SL_OK);
    assert_int_equal(finish(exec, df, &d_us), SL_OK);
    assert_int_equal(finish(exec, pf, &p_us), SL_OK);
    assert_int_equal(p_us, 2000);
    assert_int_equal(d_us, 1010); /* waiting is not counted */
    assert_int_equal(sl_exec_now_us(exec) - start_us, 3010);
    sl_exec_destroy(exec);
}

static void the_queue_is_bounded_and_in_order(void **state)
{
    const sl_exec_virtual_options options = plain_options();
    sl_exec *exec = make(&options);
    hand_seq s;
    hand_batch b[SL_EXEC_QUEUE_MAX + 1];
    sl_fence fence[SL_EXEC_QUEUE_MAX + 1];
    uint32_t next = 0;
    (void)state;

    give_pages(&s, 4, &next);
    give_history(&s, 256, 1);
    for (int i = 0; i < SL_EXEC_QUEUE_MAX; i++) {
        fill(&b[i], &s, 10);
        assert_int_equal(sl_exec_submit(exec, SL_LANE_PREFILL, 0, &b[i].batch, &fence[i]), SL_OK);
        s.count += 10;
    }
    fill(&b[4], &s, 10);
    assert_int_equal(sl_exec_submit(exec, SL_LANE_PREFILL, 0, &b[4].batch, &fence[4]), SL_EFULL);
    for (int i = 0; i < SL_EXEC_QUEUE_MAX; i++)
        assert_int_equal(finish(exec, fence[i], NULL), SL_OK);
    assert_int_equal(b[3].sample.token, sl_exec_virtual_token(s.history, 40, VOCAB));
    sl_exec_destroy(exec);
}

static void batches_beyond_the_caps_are_refused(void **state)
{
    const sl_exec_virtual_options options = plain_options();
    sl_exec *exec = make(&options);
    hand_seq s;
    hand_batch good, bad;
    sl_fence fence;
    uint32_t next = 0, plane = PLANES;
    (void)state;

    give_pages(&s, 4, &next);
    fill(&good, &s, 10);
#define REFUSE(lane, rung, change)                                                                 \
    do {                                                                                           \
        bad = good;                                                                                \
        bad.batch.seq = &bad.seq;                                                                  \
        bad.batch.logit_row = &bad.logit_row;                                                      \
        change;                                                                                    \
        assert_int_equal(sl_exec_submit(exec, lane, rung, &bad.batch, &fence), SL_EINVAL);         \
    } while (0)
    REFUSE(SL_LANE_PREFILL, 5, (void)0);                        /* no such rung */
    REFUSE(SL_LANE_PREFILL, 4, (void)0);                        /* no units there */
    REFUSE(SL_LANE_DECODE, 0, (void)0);                         /* nor there */
    REFUSE(SL_LANE_PREFILL, 0, bad.batch.space = 3);            /* no such space */
    REFUSE(SL_LANE_PREFILL, 0, bad.batch.rows = 257);           /* too many rows */
    REFUSE(SL_LANE_PREFILL, 0, bad.batch.rows = 11);            /* a row of no sequence */
    REFUSE(SL_LANE_PREFILL, 0, bad.seq.row_count = 11);         /* a sequence without rows */
    REFUSE(SL_LANE_PREFILL, 0, bad.batch.layer_end = 5);        /* no such layer */
    REFUSE(SL_LANE_PREFILL, 0, bad.batch.layer_first = 4);      /* no layers */
    REFUSE(SL_LANE_PREFILL, 0, bad.batch.layer_end = 3);        /* logits before the last layer */
    REFUSE(SL_LANE_PREFILL, 0, bad.logit_row = 10);             /* logits of no row */
    REFUSE(SL_LANE_PREFILL, 0, bad.batch.logit_row_count = 17); /* too many of them */
    REFUSE(SL_LANE_PREFILL, 0,
           (bad.batch.copy_count = 1, bad.batch.copy_dst = bad.batch.copy_src = &plane));
#undef REFUSE
    sl_exec_destroy(exec);
}

static void every_nth_batch_fails_and_spoils_its_rows(void **state)
{
    sl_exec_virtual_options options = plain_options();
    sl_exec *exec;
    hand_seq s;
    uint32_t next = 0, token;
    (void)state;

    options.fail_every = 3;
    exec = make(&options);
    give_pages(&s, 4, &next);
    give_history(&s, 256, 1);
    assert_int_equal(step(exec, &s, 10, &token), SL_OK);
    assert_int_equal(step(exec, &s, 10, &token), SL_OK);
    assert_int_equal(step(exec, &s, 10, &token), SL_EINTERNAL);
    assert_int_equal(sl_exec_virtual_faults(exec), 0);
    s.count += 10; /* as if it had worked */
    assert_int_equal(step(exec, &s, 10, &token), SL_EINTERNAL);
    assert_int_equal(sl_exec_virtual_faults(exec), 1);
    sl_exec_destroy(exec);
}

static void noise_is_seeded(void **state)
{
    sl_exec_virtual_options options = plain_options();
    uint64_t end_us[3];
    (void)state;

    options.noise = 0.05;
    for (int run = 0; run < 3; run++) {
        hand_seq s;
        uint32_t next = 0, token;
        sl_exec *exec;

        options.seed = run == 2 ? 8 : 7;
        exec = make(&options);
        give_pages(&s, 4, &next);
        give_history(&s, 256, 1);
        for (int i = 0; i < 20; i++)
            assert_int_equal(step(exec, &s, 10, &token), SL_OK);
        end_us[run] = sl_exec_now_us(exec);
        sl_exec_destroy(exec);
    }
    assert_int_equal(end_us[0], end_us[1]);
    assert_int_not_equal(end_us[0], end_us[2]);
    assert_in_range(end_us[0], 20 * 1000 * 0.9, 20 * 1000 * 1.1);
}

static void the_clock_moves_to_events_timeouts_and_arrivals(void **state)
{
    const sl_exec_virtual_options options = plain_options();
    sl_exec *exec = make(&options);
    const uint64_t start_us = sl_exec_now_us(exec);
    hand_seq s;
    hand_batch b;
    sl_fence fence;
    sl_status status;
    uint32_t next = 0, busy_us;
    (void)state;

    assert_int_equal(sl_exec_virtual_next_us(exec), UINT64_MAX);
    sl_exec_wait(exec, 500);
    assert_int_equal(sl_exec_now_us(exec), start_us + 500);
    give_pages(&s, 4, &next);
    give_history(&s, 256, 1);
    fill(&b, &s, 100); /* 2000 us */
    assert_int_equal(sl_exec_submit(exec, SL_LANE_PREFILL, 0, &b.batch, &fence), SL_OK);
    assert_int_equal(sl_exec_virtual_next_us(exec), start_us + 2500);
    sl_exec_wait(exec, 700);
    assert_int_equal(sl_exec_now_us(exec), start_us + 1200);
    assert_false(sl_exec_poll(exec, fence, &status, &busy_us));
    sl_exec_virtual_set_now(exec, start_us + 2499);
    assert_false(sl_exec_poll(exec, fence, &status, &busy_us));
    sl_exec_wait(exec, UINT64_MAX);
    assert_int_equal(sl_exec_now_us(exec), start_us + 2500);
    assert_true(sl_exec_poll(exec, fence, &status, &busy_us));
    assert_int_equal(busy_us, 2000);
    sl_exec_wake(exec);
    sl_exec_wait(exec, UINT64_MAX); /* nothing to end: returns because of the wake */
    sl_exec_destroy(exec);
}

static void ladders_go_from_all_to_nothing(void **state)
{
    sl_rung rung[SL_RUNGS_MAX];
    (void)state;

    assert_int_equal(sl_exec_make_ladder(1, rung), 2);
    assert_int_equal(rung[0].prefill_units, 1);
    assert_int_equal(rung[0].decode_units, 0);
    assert_int_equal(rung[1].prefill_units, 0);
    assert_int_equal(rung[1].decode_units, 1);
    for (uint32_t units = 1; units <= 300; units++) {
        const uint32_t n = sl_exec_make_ladder(units, rung);

        assert_int_equal(n, units < SL_RUNGS_MAX ? units + 1 : SL_RUNGS_MAX);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(rung[i].prefill_units + rung[i].decode_units, units);
        assert_int_equal(rung[0].decode_units, 0);
        assert_int_equal(rung[n - 1].prefill_units, 0);
        for (uint32_t i = 1; i < n; i++)
            assert_true(rung[i].decode_units > rung[i - 1].decode_units);
    }
}

static void bad_options_and_failed_allocations_are_reported(void **state)
{
    sl_exec_virtual_options o = plain_options();
    sl_exec *exec = NULL;
    sl_err err;
    (void)state;

#define REFUSE(change)                                                                             \
    do {                                                                                           \
        o = plain_options();                                                                       \
        change;                                                                                    \
        assert_int_equal(sl_exec_virtual_create(&o, &exec, &err), SL_EINVAL);                      \
        assert_null(exec);                                                                         \
    } while (0)
    REFUSE(o.units = 0);
    REFUSE(o.rung_count = 1);
    REFUSE((o.rung_count = 2, o.rung[0].prefill_units = 4, o.rung[0].decode_units = 1));
    REFUSE(o.layers = 0);
    REFUSE(o.vocab = 0);
    REFUSE(o.chunk_count = 0);
    REFUSE(o.chunk_count = SL_KV_CHUNKS_MAX + 1);
    REFUSE(o.chunk_window[1] = 1);
    REFUSE(o.plane_count = 0);
    REFUSE(o.rows_max = 0);
    REFUSE(o.contention = 0.5);
    REFUSE(o.noise = -1);
#undef REFUSE
    o = plain_options();
    for (uint64_t n = 1; n <= 3; n++) {
        sl_alloc_fail_at(n);
        assert_int_equal(sl_exec_virtual_create(&o, &exec, &err), SL_ENOMEM);
        sl_alloc_fail_at(0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_those_of_the_oracle_however_the_prompt_is_cut),
        cmocka_unit_test(the_oracle_depends_on_every_token),
        cmocka_unit_test(a_missing_plane_is_found_out),
        cmocka_unit_test(swapped_planes_are_found_out),
        cmocka_unit_test(a_page_of_another_history_is_found_out),
        cmocka_unit_test(an_overwritten_page_is_found_out),
        cmocka_unit_test(pages_behind_the_window_may_be_gone_and_no_others),
        cmocka_unit_test(copies_run_first_and_carry_the_history),
        cmocka_unit_test(layer_ranges_take_their_share_and_write_at_the_end),
        cmocka_unit_test(lanes_run_at_once_and_slow_each_other),
        cmocka_unit_test(a_batch_waits_for_units_that_an_earlier_one_holds),
        cmocka_unit_test(the_queue_is_bounded_and_in_order),
        cmocka_unit_test(batches_beyond_the_caps_are_refused),
        cmocka_unit_test(every_nth_batch_fails_and_spoils_its_rows),
        cmocka_unit_test(noise_is_seeded),
        cmocka_unit_test(the_clock_moves_to_events_timeouts_and_arrivals),
        cmocka_unit_test(ladders_go_from_all_to_nothing),
        cmocka_unit_test(bad_options_and_failed_allocations_are_reported),
    };
    return cmocka_run_group_tests_name("engine/exec_virtual", tests, NULL, NULL);
}
