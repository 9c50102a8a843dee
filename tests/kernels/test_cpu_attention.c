/* tests/kernels/test_cpu_attention.c
 *
 * Goal: rope_append and attention are the twins', for every shape of head and group, with windows
 * and caps, and a row's bits do not depend on how its tokens arrived or who computed it.
 * Method: both tables append to their own pages and attend; then whole prefill against slices
 * against token by token, alone against batched, team against one, all by equality of bits. */
#include "tests/kernels/support.h"

TEST_OP(cpu_rope, sl_ops_cpu(NULL), rope_append, sl_rope_append_args)
TEST_OP(ref_rope, sl_ops_ref(), rope_append, sl_rope_append_args)
TEST_OP(cpu_attention, sl_ops_cpu(NULL), attention, sl_attention_args)
TEST_OP(ref_attention, sl_ops_ref(), attention, sl_attention_args)

enum { CHUNK_LAYERS = 2, LAYER = 1 };

/* One sequence's cache, and the inputs of its first `tokens` positions. */
typedef struct sequence {
    uint32_t heads, kv_heads, d, tokens;
    float *q, *k, *v; /* [tokens][...], before rope */
    float *inv_freq;
    sl_kv_store kv;
    sl_kv_page *pages;
    uint32_t page_count;
    bool neox;
    float *q_norm, *k_norm; /* NULL, or [d] */
    uint32_t rope_dims;
} sequence;

static sequence make_sequence(uint32_t heads, uint32_t kv_heads, uint32_t d, uint32_t tokens,
                              uint64_t seed)
{
    sequence s = {.heads = heads, .kv_heads = kv_heads, .d = d, .tokens = tokens};

    s.q = test_alloc((size_t)tokens * heads * d * 4);
    s.k = test_alloc((size_t)tokens * kv_heads * d * 4);
    s.v = test_alloc((size_t)tokens * kv_heads * d * 4);
    test_fill(s.q, (size_t)tokens * heads * d, seed);
    test_fill(s.k, (size_t)tokens * kv_heads * d, seed + 1);
    test_fill(s.v, (size_t)tokens * kv_heads * d, seed + 2);
    s.rope_dims = d;
    s.neox = true;
    s.inv_freq = test_alloc(d / 2 * 4);
    for (uint32_t j = 0; j < d / 2; j++)
        s.inv_freq[j] = powf(10000.0f, -2.0f * (float)j / (float)d);
    s.page_count = (tokens + SL_PAGE_TOKENS - 1) / SL_PAGE_TOKENS;
    s.kv = (sl_kv_store){.plane_bytes = (size_t)SL_PAGE_TOKENS / 2 * CHUNK_LAYERS * kv_heads * d,
                         .chunk_layers = CHUNK_LAYERS,
                         .kv_heads = kv_heads,
                         .head_dim = d};
    s.kv.planes = test_alloc(s.kv.plane_bytes * 8 * s.page_count);
    /* What was never written is not a number: nobody may look at it. */
    memset(s.kv.planes, 0xff, s.kv.plane_bytes * 8 * s.page_count);
    s.pages = test_alloc(s.page_count * sizeof(*s.pages));
    for (uint32_t p = 0; p < s.page_count; p++)
        for (uint32_t i = 0; i < 8; i++)
            s.pages[p].plane[i] = (s.page_count - 1 - p) * 8 + (i * 3 + p) % 8;
    return s;
}

static void free_sequence(sequence *s)
{
    free(s->q);
    free(s->k);
    free(s->v);
    free(s->inv_freq);
    free(s->kv.planes);
    free(s->pages);
    free(s->q_norm);
    free(s->k_norm);
}

static void forget(sequence *s)
{
    memset(s->kv.planes, 0xff, s->kv.plane_bytes * 8 * s->page_count);
}

/* Append and attend the tokens [first, first + count) of one sequence. */
typedef struct options {
    bool cpu;
    uint32_t team;
    uint32_t window;
    float softcap;
    void *act;
} options;

static size_t scratch_of(const sequence *s, bool cpu)
{
    const sl_ops *ops = cpu ? sl_ops_cpu(NULL) : sl_ops_ref();

    return ops->scratch_bytes(s->heads, s->kv_heads, s->d, 0);
}

static void rope(const sequence *s, uint32_t first, uint32_t count, const options *o, float *q)
{
    const uint32_t width = s->heads * s->d, kv_width = s->kv_heads * s->d;
    const sl_attn_seq seq = {.row_count = count, .position = first, .pages = s->pages};
    const sl_rope_append_args args = {.q = q,
                                      .k = s->k + (size_t)first * kv_width,
                                      .v = s->v + (size_t)first * kv_width,
                                      .q_stride = width,
                                      .kv_stride = kv_width,
                                      .q_norm = s->q_norm,
                                      .k_norm = s->k_norm,
                                      .norm_eps = 1e-6f,
                                      .inv_freq = s->inv_freq,
                                      .rope_dims = s->rope_dims,
                                      .rope_scale = 1.0f,
                                      .neox = s->neox,
                                      .kv = &s->kv,
                                      .chunk_layer = LAYER,
                                      .heads = s->heads,
                                      .seq = &seq,
                                      .seq_count = 1,
                                      .n = count};

    memcpy(q, s->q + (size_t)first * width, (size_t)count * width * 4);
    assert_int_equal(
        test_run_op(o->team, scratch_of(s, o->cpu), o->cpu ? cpu_rope : ref_rope, &args), SL_OK);
}

static void attend(const sequence *s, uint32_t first, uint32_t count, const options *o,
                   const float *q, float *y)
{
    const sl_attn_seq seq = {.row_count = count, .position = first, .pages = s->pages};
    const sl_attention_args args = {.y = y,
                                    .act = o->act,
                                    .q = q,
                                    .q_stride = s->heads * s->d,
                                    .kv = &s->kv,
                                    .chunk_layer = LAYER,
                                    .heads = s->heads,
                                    .scale = 4.0f / sqrtf((float)s->d),
                                    .softcap = o->softcap,
                                    .window = o->window,
                                    .seq = &seq,
                                    .seq_count = 1,
                                    .n = count};

    assert_int_equal(
        test_run_op(o->team, scratch_of(s, o->cpu), o->cpu ? cpu_attention : ref_attention, &args),
        SL_OK);
}

/* The tokens [first, first + count), both operations; y [count][heads * d]. */
static void run(const sequence *s, uint32_t first, uint32_t count, const options *o, float *y)
{
    float *q = test_alloc((size_t)count * s->heads * s->d * 4);

    rope(s, first, count, o, q);
    attend(s, first, count, o, q, y);
    free(q);
}

static void assert_all_near(const float *a, const float *b, size_t n, float tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= tolerance))
            fail_msg("element %zu: %.9g, not %.9g within %g", i, (double)a[i], (double)b[i],
                     (double)tolerance);
}

/* Both tables over a whole sequence.  K is a half in both, and the two sines may round it to two
 * neighbours: 2^-11 of a value up to 1.4, over D of them with random signs, times the scale; and
 * values v are below 1.  Outputs are means of v. */
static void check_shape(sequence *s, const options *how)
{
    const size_t all = (size_t)s->tokens * s->heads * s->d;
    float *y = test_alloc(all * 4), *want = test_alloc(all * 4);
    options o = *how;

    o.cpu = false;
    run(s, 0, s->tokens, &o, want);
    forget(s);
    o.cpu = true;
    o.team = 2;
    run(s, 0, s->tokens, &o, y);
    assert_all_near(y, want, all, 2e-4f);
    free(y);
    free(want);
}

static void attention_is_the_twins(void **state)
{
    static const struct {
        uint32_t heads, kv_heads, d, tokens;
    } shape[] = {
        {1, 1, 8, 1},     {2, 1, 16, 15},   {9, 3, 64, 16},  {9, 3, 64, 130}, {4, 1, 256, 70},
        {14, 2, 64, 65},  {12, 2, 128, 64}, {3, 3, 96, 63},  {5, 1, 80, 33},  {6, 3, 40, 100},
        {16, 1, 24, 129}, {60, 1, 8, 20},   {2, 2, 120, 17}, {7, 1, 248, 9},
    };
    (void)test_cpu();
    (void)state;

    for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
        sequence s =
            make_sequence(shape[i].heads, shape[i].kv_heads, shape[i].d, shape[i].tokens, 100 + i);

        check_shape(&s, &(options){.window = 0});
        check_shape(&s, &(options){.window = 1});
        check_shape(&s, &(options){.window = 20});
        check_shape(&s, &(options){.window = 64, .softcap = 5.0f});
        check_shape(&s, &(options){.window = 100, .softcap = 50.0f});
        free_sequence(&s);
    }
}

static void rope_is_the_twins(void **state)
{
    static const uint32_t positions[] = {0, 1, 63, 1000, 8191, 131071};
    (void)test_cpu();
    (void)state;

    for (int neox = 0; neox < 2; neox++)
        for (int norm = 0; norm < 2; norm++)
            for (uint32_t dims = 2; dims <= 72; dims += 14)
                for (size_t p = 0; p < 6; p++) {
                    const uint32_t rows = 7, kv_heads = 2;
                    sequence s = make_sequence(6, kv_heads, 72, 64 * 2, dims);
                    float *q = test_alloc(rows * 6 * 72 * 4), *want = test_alloc(rows * 6 * 72 * 4);
                    const options cpu = {.cpu = true, .team = 3}, ref = {.cpu = false};
                    sl_kv_page *pages = s.pages;

                    s.neox = neox == 1;
                    s.rope_dims = dims;
                    if (norm == 1) {
                        s.q_norm = test_alloc(72 * 4);
                        s.k_norm = test_alloc(72 * 4);
                        test_fill(s.q_norm, 72, 1);
                        test_fill(s.k_norm, 72, 2);
                    }
                    /* A far position: the table is long, only the entries used are real. */
                    s.pages = test_alloc((positions[p] / 64 + 2) * sizeof(*pages));
                    s.pages[positions[p] / 64] = pages[0];
                    s.pages[positions[p] / 64 + 1] = pages[1];
                    {
                        /* rope() indexes inputs by position: shift them. */
                        sequence shifted = s;
                        shifted.q -= (size_t)positions[p] * 6 * 72;
                        shifted.k -= (size_t)positions[p] * kv_heads * 72;
                        shifted.v -= (size_t)positions[p] * kv_heads * 72;
                        rope(&shifted, positions[p], rows, &cpu, q);
                        rope(&shifted, positions[p], rows, &ref, want);
                    }
                    assert_all_near(q, want, rows * 6 * 72, 2e-6f);
                    free(pages);
                    free(q);
                    free(want);
                    free_sequence(&s);
                }
}

/* K and V come back from the pages: with one visible key, attention returns its v; with K it takes
 * scores.  (That the two tables agree on scores is attention_is_the_twins.) */
static void a_window_of_one_returns_the_value(void **state)
{
    const uint32_t tokens = 67, d = 64;
    sequence s;
    float *y;
    (void)test_cpu();
    (void)state;

    s = make_sequence(2, 1, d, tokens, 4);
    y = test_alloc(tokens * 2 * d * 4);
    run(&s, 0, tokens, &(options){.cpu = true, .team = 1, .window = 1}, y);
    for (uint32_t i = 0; i < tokens; i++)
        for (uint32_t j = 0; j < d; j++)
            assert_true(y[i * 2 * d + j] == sl_f16_to_f32(sl_f32_to_f16(s.v[i * d + j])));
    free(y);
    free_sequence(&s);
}

/* Whole prefill == slices == token by token == any team, across pages and segments. */
static void check_slicing(uint32_t heads, uint32_t kv_heads, uint32_t d, uint32_t tokens,
                          uint32_t window)
{
    sequence s = make_sequence(heads, kv_heads, d, tokens, 31);
    const size_t width = (size_t)heads * d;
    float *whole = test_alloc(tokens * width * 4), *y = test_alloc(tokens * width * 4);

    run(&s, 0, tokens, &(options){.cpu = true, .window = window}, whole);
    for (uint32_t team = 1; team <= 3; team++) {
        static const uint32_t slices[] = {512, 100, 37};
        uint32_t at = 0;

        forget(&s);
        memset(y, 0, tokens * width * 4);
        while (at < tokens) {
            const uint32_t count = tokens - at < slices[team - 1] ? tokens - at : slices[team - 1];

            run(&s, at, count, &(options){.cpu = true, .team = team, .window = window},
                y + at * width);
            at += count;
        }
        assert_memory_equal(whole, y, tokens * width * 4);
    }
    /* The last tokens one by one, the cache being full: nobody may look ahead. */
    for (uint32_t at = tokens > 20 ? tokens - 20 : 0; at < tokens; at++) {
        run(&s, at, 1, &(options){.cpu = true, .team = 1 + at % 3, .window = window}, y);
        assert_memory_equal(whole + at * width, y, width * 4);
    }
    free(whole);
    free(y);
    free_sequence(&s);
}

static void slices_have_the_bits_of_the_whole(void **state)
{
    (void)test_cpu();
    (void)state;
    check_slicing(9, 3, 64, 200, 0);
    check_slicing(4, 1, 256, 150, 0);
    check_slicing(14, 2, 64, 130, 33);
    check_slicing(3, 1, 80, 129, 64);
}

static void segments_have_the_bits_of_the_whole(void **state)
{
    (void)test_cpu();
    (void)state;
    check_slicing(2, 1, 16, 1024, 0);
    check_slicing(2, 1, 16, 1025, 0);
    check_slicing(3, 1, 32, 2100, 0);
    check_slicing(2, 2, 16, 3100, 1500);
}

/* Far context, few heads: segments become pieces of their own, and the twin agrees. */
static void a_split_decode_is_the_twins(void **state)
{
    const uint32_t tokens = 3000;
    sequence s;
    float y[6 * 32], want[6 * 32], *q, *junk;
    (void)test_cpu();
    (void)state;

    s = make_sequence(6, 2, 32, tokens, 8);
    q = test_alloc(tokens * 6 * 32 * 4);
    junk = test_alloc(6 * 32 * 4);
    for (uint32_t window = 0; window <= 1800; window += 900) {
        forget(&s);
        rope(&s, 0, tokens, &(options){.cpu = true}, q);
        attend(&s, tokens - 1, 1, &(options){.cpu = true, .team = 2, .window = window},
               q + (tokens - 1) * 6 * 32, y);
        forget(&s);
        rope(&s, 0, tokens, &(options){.cpu = false}, q);
        attend(&s, tokens - 1, 1, &(options){.cpu = false, .window = window},
               q + (tokens - 1) * 6 * 32, want);
        assert_all_near(y, want, 6 * 32, 2e-4f);
    }
    free(junk);
    free(q);
    free_sequence(&s);
}

/* Sequences of different kinds in one call have the bits that they have alone. */
static void a_batch_has_the_bits_of_its_sequences_alone(void **state)
{
    enum { SEQS = 5, H = 6, G = 2, D = 48, WIDTH = H * D };
    static const uint32_t position[SEQS] = {0, 100, 63, 1030, 5}, count[SEQS] = {70, 1, 1, 1, 0};
    const sl_ops *ops = test_cpu();
    const uint32_t kv_width = G * D, n = 73;
    sequence s = make_sequence(H, G, D, 1100 + 128 * SEQS, 3); /* pages for all of them */
    sl_attn_seq seq[SEQS];
    float *q = test_alloc(n * WIDTH * 4), *y = test_alloc(n * WIDTH * 4),
          *alone = test_alloc(n * WIDTH * 4);
    const size_t act_bytes = ops->act_bytes(WIDTH);
    uint8_t *act = test_alloc(act_bytes * n), *act_alone = test_alloc(act_bytes * n);
    uint32_t row = 0, page = 0;
    (void)state;

    /* Fill each sequence's past through plain appends, then build the batch. */
    for (uint32_t i = 0; i < SEQS; i++) {
        seq[i] = (sl_attn_seq){.row_first = row,
                               .row_count = count[i],
                               .position = position[i],
                               .pages = s.pages + page};
        page += (position[i] + count[i]) / 64 + 1;
        row += count[i];
        assert_true(page <= s.page_count);
    }
    assert_int_equal(row, n);
    for (uint32_t i = 0; i < SEQS; i++) {
        const uint32_t all = position[i] + count[i];
        float *past = test_alloc((size_t)all * WIDTH * 4 + 4);
        sequence view = s;

        view.pages = s.pages + (seq[i].pages - s.pages);
        if (all > 0)
            rope(&view, 0, all, &(options){.cpu = true}, past);
        memcpy(q + (size_t)seq[i].row_first * WIDTH, past + (size_t)position[i] * WIDTH,
               (size_t)count[i] * WIDTH * 4);
        free(past);
    }
    (void)kv_width;
    for (uint32_t team = 0; team < 4; team++)
        for (uint32_t codes_only = 0; codes_only < 2; codes_only++) {
            sl_attention_args args = {.y = y,
                                      .act = act,
                                      .q = q,
                                      .q_stride = WIDTH,
                                      .kv = &s.kv,
                                      .chunk_layer = LAYER,
                                      .heads = H,
                                      .scale = 0.3f,
                                      .seq = seq,
                                      .seq_count = SEQS,
                                      .n = n,
                                      .codes_only = codes_only == 1};

            memset(y, 0, n * WIDTH * 4);
            memset(act, 0, act_bytes * n);
            assert_int_equal(test_run_op(team, scratch_of(&s, true), cpu_attention, &args), SL_OK);
            for (uint32_t i = 0; i < SEQS; i++) {
                sl_attn_seq one = seq[i];
                const size_t at = (size_t)seq[i].row_first * WIDTH;

                one.row_first = 0;
                args.seq = &one;
                args.seq_count = 1;
                args.n = count[i];
                args.q = q + at;
                args.y = alone;
                args.act = act_alone;
                memset(act_alone, 0, act_bytes * n);
                assert_int_equal(test_run_op(2, scratch_of(&s, true), cpu_attention, &args), SL_OK);
                assert_memory_equal(alone, y + at, (size_t)count[i] * WIDTH * 4);
                assert_memory_equal(act_alone, act + act_bytes * seq[i].row_first,
                                    act_bytes * count[i]);
            }
        }
    free(q);
    free(y);
    free(alone);
    free(act);
    free(act_alone);
    free_sequence(&s);
}

/* act holds what prepare would have made of y, whether or not a group fills whole blocks. */
static void outputs_are_prepared(void **state)
{
    static const struct {
        uint32_t heads, kv_heads, d;
    } shape[] = {{9, 3, 64}, {4, 1, 256}, {5, 5, 8}, {6, 2, 40}, {3, 3, 16}, {1, 1, 24}};
    const sl_ops *ops = test_cpu();
    (void)state;

    for (size_t i = 0; i < 6; i++)
        for (uint32_t team = 1; team < 4; team++) {
            const uint32_t tokens = 40, cols = shape[i].heads * shape[i].d;
            const size_t bytes = ops->act_bytes(cols) * tokens;
            sequence s = make_sequence(shape[i].heads, shape[i].kv_heads, shape[i].d, tokens, i);
            float *y = test_alloc((size_t)tokens * cols * 4);
            uint8_t *act = test_alloc(bytes), *want = test_alloc(bytes);
            const sl_prepare_args args = {.act = want, .x = y, .n = tokens, .cols = cols};
            sl_stream stream;

            run(&s, 0, tokens, &(options){.cpu = true, .team = team, .act = act}, y);
            sl_stream_init(&stream, NULL, 0, NULL, 0);
            assert_int_equal(ops->prepare(&args, &stream), SL_OK);
            assert_memory_equal(act, want, bytes);
            free(want);
            free(act);
            free(y);
            free_sequence(&s);
        }
}

static void pages_before_the_window_may_be_gone(void **state)
{
    const uint32_t tokens = 1300, window = 100;
    sequence s;
    float y[2][64], *q;
    (void)test_cpu();
    (void)state;

    s = make_sequence(2, 1, 32, tokens, 12);
    q = test_alloc(tokens * 64 * 4);
    rope(&s, 0, tokens, &(options){.cpu = true}, q);
    for (int gone = 0; gone < 2; gone++) {
        attend(&s, tokens - 1, 1, &(options){.cpu = true, .team = 2, .window = window},
               q + (tokens - 1) * 64, y[gone]);
        for (uint32_t p = 0; p < (tokens - window) / 64; p++)
            for (int i = 0; i < 8; i++)
                s.pages[p].plane[i] = SL_PLANE_NONE;
    }
    assert_memory_equal(y[0], y[1], sizeof(y[0]));
    free(q);
    free_sequence(&s);
}

static void wrong_shapes_are_refused(void **state)
{
    sequence s;
    sl_attn_seq seq;
    sl_attention_args args;
    sl_rope_append_args rope_args;
    float q[64] = {0};
    (void)test_cpu();
    (void)state;

    s = make_sequence(2, 1, 32, 3, 1);
    seq = (sl_attn_seq){.row_count = 1, .pages = s.pages};
    args = (sl_attention_args){.q = q,
                               .q_stride = 64,
                               .kv = &s.kv,
                               .heads = 2,
                               .scale = 1.0f,
                               .seq = &seq,
                               .seq_count = 1,
                               .n = 1};
    rope_args = (sl_rope_append_args){.q = q,
                                      .k = s.k,
                                      .v = s.v,
                                      .q_stride = 64,
                                      .kv_stride = 32,
                                      .inv_freq = s.inv_freq,
                                      .rope_dims = 33,
                                      .rope_scale = 1.0f,
                                      .kv = &s.kv,
                                      .heads = 2,
                                      .seq = &seq,
                                      .seq_count = 1,
                                      .n = 1};
    assert_int_equal(test_run_op(2, 16, cpu_attention, &args), SL_EINVAL); /* scratch */
    assert_int_equal(test_run_op(2, 16, cpu_rope, &rope_args), SL_EINVAL);
    rope_args.rope_dims = 34;
    assert_int_equal(test_run_op(2, 16, cpu_rope, &rope_args), SL_EINVAL);
    args.chunk_layer = CHUNK_LAYERS;
    assert_int_equal(test_run_op(2, scratch_of(&s, true), cpu_attention, &args), SL_EINVAL);
    args.chunk_layer = 0;
    s.kv.kv_heads = 3;
    assert_int_equal(test_run_op(2, scratch_of(&s, true), cpu_attention, &args), SL_EINVAL);
    s.kv.kv_heads = 1;
    s.kv.head_dim = 30;
    assert_int_equal(test_run_op(2, scratch_of(&s, true), cpu_attention, &args), SL_EINVAL);
    s.kv.head_dim = 264;
    assert_int_equal(test_run_op(2, scratch_of(&s, true), cpu_attention, &args), SL_EINVAL);
    args.n = 0;
    rope_args.n = 0;
    assert_int_equal(test_run_op(2, 16, cpu_attention, &args), SL_OK);
    assert_int_equal(test_run_op(2, 16, cpu_rope, &rope_args), SL_OK);
    free_sequence(&s);
}

static void a_later_token_beyond_the_halves_changes_no_earlier_row(void **state)
{
    enum { TOKENS = 70, HEADS = 4, KV_HEADS = 2, D = 32 };
    sequence s = make_sequence(HEADS, KV_HEADS, D, TOKENS, 77);
    const size_t width = HEADS * D;
    float *want = test_alloc(TOKENS * width * 4), *got = test_alloc(TOKENS * width * 4);
    const options how[] = {{.team = 1}, {.cpu = true, .team = 1}};
    (void)state;

    for (size_t h = 0; h < sizeof(how) / sizeof(how[0]); h++) {
        const float v = s.v[60 * KV_HEADS * D], k = s.k[60 * KV_HEADS * D + 3];

        forget(&s);
        run(&s, 0, TOKENS, &how[h], want);
        s.v[60 * KV_HEADS * D] = 1e9f; /* token 60: its value is no half */
        s.k[60 * KV_HEADS * D + 3] = -1e9f;
        forget(&s);
        run(&s, 0, TOKENS, &how[h], got);
        assert_memory_equal(got, want, 60 * width * 4);
        assert_true(memcmp(got + 60 * width, want + 60 * width, width * 4) != 0);
        for (size_t i = 0; i < TOKENS * width; i++)
            assert_true(isfinite(got[i]));
        s.v[60 * KV_HEADS * D] = v;
        s.k[60 * KV_HEADS * D + 3] = k;
    }
    free(want);
    free(got);
    free_sequence(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rope_is_the_twins),
        cmocka_unit_test(attention_is_the_twins),
        cmocka_unit_test(a_window_of_one_returns_the_value),
        cmocka_unit_test(slices_have_the_bits_of_the_whole),
        cmocka_unit_test(segments_have_the_bits_of_the_whole),
        cmocka_unit_test(a_split_decode_is_the_twins),
        cmocka_unit_test(a_batch_has_the_bits_of_its_sequences_alone),
        cmocka_unit_test(outputs_are_prepared),
        cmocka_unit_test(pages_before_the_window_may_be_gone),
        cmocka_unit_test(a_later_token_beyond_the_halves_changes_no_earlier_row),
        cmocka_unit_test(wrong_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
