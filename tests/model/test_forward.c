/* tests/model/test_forward.c
 *
 * Goal: the logits of a token depend on its own history and on nothing else: not on the batch, not
 * on how the work was cut, not on who else uses the pages, not on the number of threads.
 * Method: tiny random models of every architecture; the same tokens by two ways must give the same
 * bits.  What the numbers should be is the business of tests/vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_gguf.h"

enum { TOKENS = 150, SEQS = 4, VOCAB = SL_TINY_VOCAB };

/* One way to run all cases: an architecture, a weight format, a table. */
typedef struct setup {
    const char *arch;
    sl_dtype dtype;
    sl_dtype embed;
    bool cpu;
    uint32_t window; /* gemma3 */
} setup;

typedef struct fixture {
    const setup *how;
    sl_buf file;
    sl_gguf *g;
    sl_rig rig;
    uint32_t token[SEQS][TOKENS];
} fixture;

static const sl_ops *table_of(const setup *how)
{
    return how->cpu ? sl_ops_cpu(NULL) : sl_ops_ref();
}

/* A model for the set-up, `members` threads; skips the test if the table is not there. */
static void set_up(fixture *f, const setup *how, uint32_t members)
{
    sl_tiny_options o = sl_tiny_defaults(how->arch);
    sl_err err;

    if (table_of(how) == NULL)
        skip();
    memset(f, 0, sizeof(*f));
    f->how = how;
    o.dtype = how->dtype;
    o.embed = how->embed;
    o.hidden = 64;
    o.ff = 96;
    if (how->window > 0)
        o.window = how->window;
    sl_buf_init(&f->file, 64u << 20);
    sl_tiny_gguf(&o, &f->file);
    assert_int_equal(sl_gguf_open_memory(f->file.data, f->file.len, &f->g, &err), SL_OK);
    if (sl_rig_init(&f->rig,
                    &(sl_rig_options){.file = f->g,
                                      .ops = table_of(how),
                                      .seqs = SEQS,
                                      .positions = 256,
                                      .rows_max = SEQS * TOKENS,
                                      .logit_rows_max = SEQS * TOKENS,
                                      .members = members},
                    &err) != SL_OK)
        fail_msg("%s", err.text);
    sl_rig_fill(&f->rig, 0xFF); /* what was never written is a NaN */
    for (uint32_t s = 0; s < SEQS; s++) {
        for (uint32_t i = 0; i < TOKENS; i++)
            f->token[s][i] = (uint32_t)(sl_mix64_pair(s, i) % VOCAB);
    }
}

static void tear_down(fixture *f)
{
    sl_rig_done(&f->rig);
    sl_gguf_close(f->g);
    sl_buf_done(&f->file);
}

static float *logits_for(uint32_t rows)
{
    float *logits = calloc((size_t)rows * VOCAB, sizeof(float));

    assert_non_null(logits);
    return logits;
}

static void assert_same_rows(const float *a, const float *b, uint32_t rows)
{
    for (uint32_t i = 0; i < rows; i++) {
        for (uint32_t t = 0; t < VOCAB; t++) {
            const float x = a[(size_t)i * VOCAB + t];
            const float y = b[(size_t)i * VOCAB + t];

            if (!(x == y)) /* a NaN is equal to nothing */
                fail_msg("row %u, token %u: %.9g and %.9g", i, t, (double)x, (double)y);
        }
    }
}

/* True if some element of the rows differs. */
static bool rows_differ(const float *a, const float *b, uint32_t rows)
{
    return memcmp(a, b, (size_t)rows * VOCAB * sizeof(float)) != 0;
}

/* --- cases -------------------------------------------------------------------------------- */

static void batched_is_alone(fixture *f)
{
    static const uint32_t count[SEQS] = {1, 7, TOKENS, 64};
    float *alone = logits_for(SEQS * TOKENS);
    uint32_t token[SEQS * TOKENS], row[SEQS * TOKENS];
    sl_forward_seq seq[SEQS];
    uint32_t rows = 0;

    for (uint32_t s = 0; s < SEQS; s++) {
        assert_int_equal(
            sl_rig_feed(&f->rig, s, 0, f->token[s], count[s], TOKENS, alone + (size_t)rows * VOCAB),
            SL_OK);
        seq[s] = (sl_forward_seq){
            .row_first = rows, .row_count = count[s], .chunk_pages = sl_rig_tables(&f->rig, s)};
        for (uint32_t i = 0; i < count[s]; i++) {
            row[rows] = rows;
            token[rows++] = f->token[s][i];
        }
    }
    sl_rig_fill(&f->rig, 0xFF);
    assert_int_equal(
        sl_rig_forward(
            &f->rig, (sl_forward_args){.token = token,
                                       .rows = rows,
                                       .seq = seq,
                                       .seq_count = SEQS,
                                       .layer_end = sl_model_get_config(f->rig.model)->layer_count,
                                       .logit_row = row,
                                       .logit_row_count = rows}),
        SL_OK);
    assert_same_rows(alone, f->rig.space.logits, rows);
    free(alone);
}

static void decoding_is_prefill(fixture *f)
{
    float *whole = logits_for(TOKENS);
    float *stepped = logits_for(TOKENS);
    static const uint32_t steps[] = {1, 13, 63, 64, 65};

    assert_int_equal(sl_rig_feed(&f->rig, 0, 0, f->token[0], TOKENS, TOKENS, whole), SL_OK);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        sl_rig_fill(&f->rig, 0xFF);
        assert_int_equal(sl_rig_feed(&f->rig, 1, 0, f->token[0], TOKENS, steps[i], stepped), SL_OK);
        assert_same_rows(whole, stepped, TOKENS);
    }
    free(whole);
    free(stepped);
}

static void layer_slices_are_the_whole(fixture *f)
{
    const uint32_t layers = sl_model_get_config(f->rig.model)->layer_count;
    float *whole = logits_for(TOKENS);
    const uint32_t last = TOKENS - 1;
    const sl_forward_seq seq = {.row_count = TOKENS, .chunk_pages = sl_rig_tables(&f->rig, 2)};

    assert_int_equal(sl_rig_feed(&f->rig, 0, 0, f->token[0], TOKENS, TOKENS, whole), SL_OK);
    for (uint32_t cut = 0; cut <= layers; cut++) {
        sl_forward_args args = {.token = f->token[0],
                                .rows = TOKENS,
                                .seq = &seq,
                                .seq_count = 1,
                                .layer_end = cut,
                                .logit_row = &last,
                                .logit_row_count = 1};

        sl_rig_fill(&f->rig, 0xFF);
        memset(f->rig.space.logits, 0xFF, VOCAB * sizeof(float));
        assert_int_equal(sl_rig_forward(&f->rig, args), SL_OK);
        args.layer_first = cut;
        args.layer_end = layers;
        if (cut < layers)
            assert_int_equal(sl_rig_forward(&f->rig, args), SL_OK);
        assert_same_rows(whole + (size_t)last * VOCAB, f->rig.space.logits, 1);
    }
    free(whole);
}

static void shared_prefix_is_cold_start(fixture *f)
{
    float *cold = logits_for(TOKENS);
    float *warm = logits_for(TOKENS);
    const uint32_t shared = 2 * SL_PAGE_TOKENS;

    assert_int_equal(sl_rig_feed(&f->rig, 0, 0, f->token[0], TOKENS, TOKENS, cold), SL_OK);
    sl_rig_share(&f->rig, 1, 0, 2);
    assert_int_equal(
        sl_rig_feed(&f->rig, 1, shared, f->token[0] + shared, TOKENS - shared, TOKENS, warm),
        SL_OK);
    assert_same_rows(cold + (size_t)shared * VOCAB, warm, TOKENS - shared);
    free(cold);
    free(warm);
}

static void logits_are_of_the_rows_asked_for(fixture *f)
{
    static const uint32_t asked[] = {149, 0, 77, 77};
    float *all = logits_for(TOKENS);
    const sl_forward_seq seq = {.row_count = TOKENS, .chunk_pages = sl_rig_tables(&f->rig, 0)};
    sl_forward_args args = {.token = f->token[0],
                            .rows = TOKENS,
                            .seq = &seq,
                            .seq_count = 1,
                            .layer_end = sl_model_get_config(f->rig.model)->layer_count,
                            .logit_row = asked,
                            .logit_row_count = 4};

    assert_int_equal(sl_rig_feed(&f->rig, 0, 0, f->token[0], TOKENS, TOKENS, all), SL_OK);
    assert_int_equal(sl_rig_forward(&f->rig, args), SL_OK);
    for (uint32_t i = 0; i < 4; i++)
        assert_same_rows(all + (size_t)asked[i] * VOCAB, f->rig.space.logits + (size_t)i * VOCAB,
                         1);
    memset(f->rig.space.logits, 0x55, VOCAB * sizeof(float));
    memcpy(all, f->rig.space.logits, VOCAB * sizeof(float));
    args.logit_row_count = 0;
    args.logit_row = NULL;
    assert_int_equal(sl_rig_forward(&f->rig, args), SL_OK);
    assert_false(rows_differ(all, f->rig.space.logits, 1)); /* nothing asked, nothing written */
    free(all);
}

/* Every token of the history counts: another first token, other logits at the end (all our models
 * have layers that see everything). */
static void history_matters(fixture *f)
{
    float *one = logits_for(TOKENS);
    float *other = logits_for(TOKENS);

    assert_int_equal(sl_rig_feed(&f->rig, 0, 0, f->token[0], TOKENS, TOKENS, one), SL_OK);
    f->token[0][0] = (f->token[0][0] + 1) % VOCAB;
    assert_int_equal(sl_rig_feed(&f->rig, 0, 0, f->token[0], TOKENS, TOKENS, other), SL_OK);
    assert_true(rows_differ(one + (TOKENS - 1) * VOCAB, other + (TOKENS - 1) * VOCAB, 1));
    free(one);
    free(other);
}

static const setup setups[] = {
    {"llama", SL_DTYPE_F32, SL_DTYPE_F32, false, 0},
    {"llama", SL_DTYPE_Q4_1, SL_DTYPE_Q8_0, false, 0},
    {"qwen2", SL_DTYPE_Q5_0, SL_DTYPE_Q8_0, false, 0},
    {"qwen3", SL_DTYPE_Q8_0, SL_DTYPE_F16, false, 0},
    {"gemma3", SL_DTYPE_Q4_0, SL_DTYPE_Q8_0, false, 40},
    {"llama", SL_DTYPE_Q4_1, SL_DTYPE_Q8_0, true, 0},
    {"llama", SL_DTYPE_F32, SL_DTYPE_F32, true, 0},
    {"qwen2", SL_DTYPE_Q5_0, SL_DTYPE_Q8_0, true, 0},
    {"qwen3", SL_DTYPE_Q8_0, SL_DTYPE_F16, true, 0},
    {"gemma3", SL_DTYPE_Q4_0, SL_DTYPE_Q8_0, true, 40},
};
enum { SETUPS = sizeof(setups) / sizeof(setups[0]), REF_SETUPS = 5 };

static void run_all(uint32_t first, uint32_t end, void (*test)(fixture *f))
{
    fixture f;

    for (uint32_t i = first; i < end; i++) {
        set_up(&f, &setups[i], 1);
        test(&f);
        tear_down(&f);
    }
}

#define CASE(name)                                                                                 \
    static void name##_ref(void **state)                                                           \
    {                                                                                              \
        (void)state;                                                                               \
        run_all(0, REF_SETUPS, name);                                                              \
    }                                                                                              \
    static void name##_cpu(void **state)                                                           \
    {                                                                                              \
        (void)state;                                                                               \
        run_all(REF_SETUPS, SETUPS, name);                                                         \
    }
CASE(batched_is_alone)
CASE(decoding_is_prefill)
CASE(layer_slices_are_the_whole)
CASE(shared_prefix_is_cold_start)
CASE(logits_are_of_the_rows_asked_for)
CASE(history_matters)

/* --- teams -------------------------------------------------------------------------------- */

static void team_is_alone(uint32_t first, uint32_t end)
{
    static const uint32_t sizes[] = {2, 3};
    float *alone = logits_for(TOKENS);
    float *together = logits_for(TOKENS);
    fixture f;

    for (uint32_t i = first; i < end; i++) {
        set_up(&f, &setups[i], 1);
        assert_int_equal(sl_rig_feed(&f.rig, 0, 0, f.token[0], TOKENS, 70, alone), SL_OK);
        tear_down(&f);
        for (uint32_t k = 0; k < 2; k++) {
            set_up(&f, &setups[i], sizes[k]);
            assert_int_equal(sl_rig_feed(&f.rig, 0, 0, f.token[0], TOKENS, 70, together), SL_OK);
            assert_same_rows(alone, together, TOKENS);
            /* And a step of one row, where there is less work than members. */
            assert_int_equal(sl_rig_feed(&f.rig, 1, 0, f.token[0], 3, 1, together), SL_OK);
            assert_same_rows(alone, together, 3);
            tear_down(&f);
        }
    }
    free(alone);
    free(together);
}

static void team_is_alone_ref(void **state)
{
    (void)state;
    team_is_alone(0, REF_SETUPS);
}

static void team_is_alone_cpu(void **state)
{
    (void)state;
    if (sl_ops_cpu(NULL) == NULL)
        skip();
    team_is_alone(REF_SETUPS, SETUPS);
}

/* --- windows ------------------------------------------------------------------------------ */

/* With a window of 40, the local layers at position 149 see 110 .. 149: pages 0 of their chunks
 * are never looked at from position 103 on. */
static void pages_behind_the_window_are_not_touched(void **state)
{
    const setup *how = &setups[4];
    float *whole = logits_for(TOKENS);
    float *windowed = logits_for(TOKENS);
    fixture f;
    (void)state;

    set_up(&f, how, 1);
    assert_int_equal(sl_rig_feed(&f.rig, 0, 0, f.token[0], TOKENS, TOKENS, whole), SL_OK);
    sl_rig_fill(&f.rig, 0xFF);
    assert_int_equal(sl_rig_feed(&f.rig, 0, 0, f.token[0], 103, 103, windowed), SL_OK);
    for (uint32_t c = 0; c < sl_model_get_config(f.rig.model)->chunk_count; c++) {
        if (sl_model_get_config(f.rig.model)->chunk_window[c] > 0)
            memset(sl_rig_page(&f.rig, 0, c, 0)->plane, 0xFF, sizeof(uint32_t) * 8);
    }
    assert_int_equal(sl_rig_feed(&f.rig, 0, 103, f.token[0] + 103, TOKENS - 103, 20,
                                 windowed + (size_t)103 * VOCAB),
                     SL_OK);
    assert_same_rows(whole, windowed, TOKENS);
    tear_down(&f);
    free(whole);
    free(windowed);
}

/* The window does something, and only beyond its reach. */
static void a_window_changes_what_lies_beyond_it(void **state)
{
    const setup narrow = {"gemma3", SL_DTYPE_F32, SL_DTYPE_F32, false, 40};
    const setup wide = {"gemma3", SL_DTYPE_F32, SL_DTYPE_F32, false, 500};
    float *a = logits_for(TOKENS);
    float *b = logits_for(TOKENS);
    fixture f;
    (void)state;

    set_up(&f, &narrow, 1);
    assert_int_equal(sl_rig_feed(&f.rig, 0, 0, f.token[0], TOKENS, TOKENS, a), SL_OK);
    tear_down(&f);
    set_up(&f, &wide, 1);
    assert_int_equal(sl_rig_feed(&f.rig, 0, 0, f.token[0], TOKENS, TOKENS, b), SL_OK);
    tear_down(&f);
    assert_same_rows(a, b, 40);
    assert_true(rows_differ(a + 40 * VOCAB, b + 40 * VOCAB, 1));
    free(a);
    free(b);
}

/* --- the fast table against the twins ------------------------------------------------------- */

/* Weights are the same, activations of the fast table may be 8-bit: the two agree to a few
 * percent of the spread of the logits.  (How well exactly, on real models: tests/vectors.) */
static void cpu_is_near_ref(void **state)
{
    float *ref, *cpu;
    fixture f;
    (void)state;

    if (sl_ops_cpu(NULL) == NULL)
        skip();
    ref = logits_for(TOKENS);
    cpu = logits_for(TOKENS);
    for (uint32_t i = 1; i < REF_SETUPS; i++) {
        setup fast = setups[i];
        double error = 0.0, spread = 0.0;

        fast.cpu = true;
        set_up(&f, &setups[i], 1);
        assert_int_equal(sl_rig_feed(&f.rig, 0, 0, f.token[0], TOKENS, TOKENS, ref), SL_OK);
        tear_down(&f);
        set_up(&f, &fast, 1);
        assert_int_equal(sl_rig_feed(&f.rig, 0, 0, f.token[0], TOKENS, TOKENS, cpu), SL_OK);
        tear_down(&f);
        for (uint32_t k = 0; k < TOKENS * VOCAB; k++) {
            const double d = (double)ref[k] - (double)cpu[k];

            error += d * d;
            spread += (double)ref[k] * (double)ref[k];
        }
        if (!(error < 0.05 * 0.05 * spread))
            fail_msg("%s: relative error squared %g", setups[i].arch, error / spread);
    }
    free(ref);
    free(cpu);
}

/* --- refusals ----------------------------------------------------------------------------- */

static void impossible_batches_are_refused(void **state)
{
    fixture f;
    uint32_t token[2] = {1, 2};
    const uint32_t row = 0;
    sl_forward_seq seq = {.row_count = 2};
    sl_forward_args good, bad;
    (void)state;

    set_up(&f, &setups[0], 1);
    seq.chunk_pages = sl_rig_tables(&f.rig, 0);
    good = (sl_forward_args){.token = token,
                             .rows = 2,
                             .seq = &seq,
                             .seq_count = 1,
                             .layer_end = 3,
                             .logit_row = &row,
                             .logit_row_count = 1};
    assert_int_equal(sl_rig_forward(&f.rig, good), SL_OK);

    bad = good;
    bad.layer_end = 4;
    assert_int_equal(sl_rig_forward(&f.rig, bad), SL_EINVAL);
    bad = good;
    bad.layer_first = 3;
    bad.layer_end = 2;
    assert_int_equal(sl_rig_forward(&f.rig, bad), SL_EINVAL);
    bad = good;
    bad.rows = SEQS * TOKENS + 1;
    assert_int_equal(sl_rig_forward(&f.rig, bad), SL_EINVAL);
    bad = good;
    bad.rows = 1; /* fewer than the sequences have */
    assert_int_equal(sl_rig_forward(&f.rig, bad), SL_EINVAL);
    bad = good;
    bad.seq_count = 0; /* rows of nobody */
    assert_int_equal(sl_rig_forward(&f.rig, bad), SL_EINVAL);
    token[1] = VOCAB;
    assert_int_equal(sl_rig_forward(&f.rig, good), SL_EINVAL);
    token[1] = VOCAB - 1;
    assert_int_equal(sl_rig_forward(&f.rig, good), SL_OK);
    bad = good;
    bad.logit_row = &(uint32_t){2};
    assert_int_equal(sl_rig_forward(&f.rig, bad), SL_EINVAL);
    bad = good;
    bad.rows = 0;
    bad.seq_count = 0;
    bad.logit_row_count = 0;
    assert_int_equal(sl_rig_forward(&f.rig, bad), SL_OK);
    f.rig.kv.head_dim = 8;
    assert_int_equal(sl_rig_forward(&f.rig, good), SL_EINVAL);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batched_is_alone_ref),
        cmocka_unit_test(batched_is_alone_cpu),
        cmocka_unit_test(decoding_is_prefill_ref),
        cmocka_unit_test(decoding_is_prefill_cpu),
        cmocka_unit_test(layer_slices_are_the_whole_ref),
        cmocka_unit_test(layer_slices_are_the_whole_cpu),
        cmocka_unit_test(shared_prefix_is_cold_start_ref),
        cmocka_unit_test(shared_prefix_is_cold_start_cpu),
        cmocka_unit_test(logits_are_of_the_rows_asked_for_ref),
        cmocka_unit_test(logits_are_of_the_rows_asked_for_cpu),
        cmocka_unit_test(history_matters_ref),
        cmocka_unit_test(history_matters_cpu),
        cmocka_unit_test(team_is_alone_ref),
        cmocka_unit_test(team_is_alone_cpu),
        cmocka_unit_test(pages_behind_the_window_are_not_touched),
        cmocka_unit_test(a_window_changes_what_lies_beyond_it),
        cmocka_unit_test(cpu_is_near_ref),
        cmocka_unit_test(impossible_batches_are_refused),
    };
    return cmocka_run_group_tests_name("model/forward", tests, NULL, NULL);
}
