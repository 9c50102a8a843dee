/* bench/kernels.c - how fast the CPU kernels are, beside what the machine allows.
 *
 *     kernels [--threads N] [--only WORD] [--table avx2]
 *
 * First the roofs, measured here and now with the same threads: a streaming read, and loops of
 * register-only instructions (unsigned nibbles times signed bytes; signed bytes; fp32).  Then every
 * case with its rate and its share of the roof that binds it.  Weights are so many that each call
 * finds them in memory, not in a cache, as in a model; other inputs are warm.
 *
 * A case runs for a fixed time a round; the best of a few rounds counts, since other work on the
 * machine only ever slows it down.  With one thread the clock is that thread's CPU time, for the
 * same reason.  Shares are comparable between machines, rates are not. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "kernels/team.h"

enum {
    THREADS_MAX = 64,
    ROUNDS = 4,
    ROUND_US = 40000,
    WEIGHT_BYTES = 160 << 20, /* of all copies of one case's weight */
    STREAM_BYTES = 256 << 20
};

/* --- a team that runs one function again and again ---------------------------------------------
 */

typedef void (*member_fn)(void *arg, sl_stream *stream, uint32_t call);

typedef struct crew {
    uint32_t size;
    sl_team team;
    sl_stream stream[THREADS_MAX];
    member_fn fn;
    void *arg;
    uint32_t calls;
} crew;

typedef struct member {
    crew *crew;
    uint32_t rank;
} member;

static void member_main(void *p)
{
    const member *m = p;
    sl_stream *stream = &m->crew->stream[m->rank];

    sl_stream_barrier(stream);
    for (uint32_t i = 0; i < m->crew->calls; i++)
        m->crew->fn(m->crew->arg, stream, i);
    sl_stream_barrier(stream);
}

/* base/clock.h has no CPU time, and nothing else wants it. */
static double now_s(const crew *c)
{
    struct timespec t;

    if (c->size > 1)
        return (double)sl_clock_us() * 1e-6;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds that `calls` calls take. */
static double run_calls(crew *c, uint32_t calls)
{
    sl_thread thread[THREADS_MAX] = {{.running = false}};
    member m[THREADS_MAX];
    double start;

    c->calls = calls;
    for (uint32_t i = 0; i < c->size; i++)
        m[i] = (member){c, i};
    start = now_s(c);
    for (uint32_t i = 1; i < c->size; i++)
        SL_ASSERT(sl_thread_start(&thread[i], "bench", sl_cpu_id(i), member_main, &m[i]) == SL_OK);
    member_main(&m[0]);
    for (uint32_t i = 1; i < c->size; i++)
        sl_thread_join(&thread[i]);
    return now_s(c) - start;
}

/* Seconds of one call: the best of ROUNDS rounds of about ROUND_US. */
static double best_call(crew *c, member_fn fn, void *arg)
{
    uint32_t calls = 1;
    double best = 1e9, seconds;

    c->fn = fn;
    c->arg = arg;
    while ((seconds = run_calls(c, calls)) < ROUND_US * 1e-6 && calls < (1u << 24))
        calls = seconds < ROUND_US * 1e-7 ? calls * 8 : calls * 2;
    for (int i = 0; i < ROUNDS; i++) {
        seconds = run_calls(c, calls) / calls;
        best = seconds < best ? seconds : best;
    }
    return best;
}

/* --- the roofs ----------------------------------------------------------------------------------
 */

typedef struct roofs {
    double read;  /* bytes a second */
    double u4;    /* operations a second: u8 x s8 with s16 sums added */
    double s8;    /* with a widening madd each */
    double flops; /* fp32 */
} roofs;

static void stream_read(void *arg, sl_stream *stream, uint32_t call)
{
    const uint64_t *p = arg;
    const size_t words = STREAM_BYTES / 8 / sl_stream_size(stream);
    const uint64_t *from = p + words * stream->rank;
    uint64_t s[8] = {0};
    volatile uint64_t sink;
    (void)call;

    for (size_t k = 0; k + 16 <= words; k += 16) {
        __builtin_prefetch(from + k + 256);
        __builtin_prefetch(from + k + 264);
        for (size_t j = 0; j < 16; j++)
            s[j % 8] ^= from[k + j];
    }
    sink = s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
    (void)sink;
    sl_stream_barrier(stream);
}

#if defined(__x86_64__)

enum { LOOP = 20000 };

#define CLOBBERS                                                                                   \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define U4(acc, tmp)                                                                               \
    "vpmaddubsw %%ymm1,%%ymm0,%%ymm" #tmp "\n\tvpaddw %%ymm" #tmp ",%%ymm" #acc ",%%ymm" #acc "\n" \
    "\t"
#define S8(acc, tmp)                                                                               \
    "vpmaddubsw %%ymm1,%%ymm0,%%ymm" #tmp "\n\tvpmaddwd %%ymm2,%%ymm" #tmp ",%%ymm" #tmp           \
    "\n\tvpaddd %%ymm" #tmp ",%%ymm" #acc ",%%ymm" #acc "\n\t"
#define F32(acc) "vfmadd231ps %%ymm1,%%ymm0,%%ymm" #acc "\n\t"
#define EIGHT(op) op(4, 12) op(5, 13) op(6, 14) op(7, 15) op(8, 12) op(9, 13) op(10, 14) op(11, 15)

static void u4_loop(void *arg, sl_stream *stream, uint32_t call)
{
    (void)arg;
    (void)stream;
    (void)call;
    for (int i = 0; i < LOOP; i++)
        __asm__ volatile(EIGHT(U4)::: CLOBBERS);
}

static void s8_loop(void *arg, sl_stream *stream, uint32_t call)
{
    (void)arg;
    (void)stream;
    (void)call;
    for (int i = 0; i < LOOP; i++)
        __asm__ volatile(EIGHT(S8)::: CLOBBERS);
}

static void f32_loop(void *arg, sl_stream *stream, uint32_t call)
{
    (void)arg;
    (void)stream;
    (void)call;
    __asm__ volatile("vpxor %%ymm0,%%ymm0,%%ymm0\n\tvpxor %%ymm1,%%ymm1,%%ymm1\n\t" ::: CLOBBERS);
    for (int i = 0; i < LOOP; i++)
        __asm__ volatile(F32(4) F32(5) F32(6) F32(7) F32(8) F32(9) F32(10) F32(11)::: CLOBBERS);
}

static void compute_roofs(crew *c, roofs *r)
{
    const double loops = (double)LOOP * c->size * 8;

    r->u4 = loops * 64 / best_call(c, u4_loop, NULL);
    r->s8 = loops * 64 / best_call(c, s8_loop, NULL);
    r->flops = loops * 16 / best_call(c, f32_loop, NULL);
}

#else

static void compute_roofs(crew *c, roofs *r)
{
    (void)c;
    r->u4 = r->s8 = r->flops = 0.0; /* unknown: shares print as infinite */
}

#endif

static roofs measure_roofs(crew *c)
{
    uint8_t *p = sl_alloc_pages(STREAM_BYTES);
    roofs r;

    SL_ASSERT(p != NULL);
    memset(p, 1, STREAM_BYTES);
    r.read = (double)STREAM_BYTES / best_call(c, stream_read, p);
    sl_free_pages(p, STREAM_BYTES);
    compute_roofs(c, &r);
    printf("%u threads: read %.1f GB/s, u4 x s8 %.0f GOP/s, s8 x s8 %.0f GOP/s, fp32 %.0f "
           "GFLOP/s\n\n",
           c->size, r.read * 1e-9, r.u4 * 1e-9, r.s8 * 1e-9, r.flops * 1e-9);
    return r;
}

/* --- inputs
 * --------------------------------------------------------------------------------------- */

static void *zeroed(size_t bytes)
{
    void *p = sl_alloc_pages(bytes);

    SL_ASSERT(p != NULL);
    memset(p, 0, bytes);
    return p;
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(2.0 * sl_rng_unit(1, i) - 1.0);
}

/* --- linear
 * --------------------------------------------------------------------------------------- */

typedef struct linear_bench {
    const sl_ops *ops;
    sl_weight w;
    size_t copies;
    uint8_t *data;
    sl_linear_args args;
} linear_bench;

static void linear_call(void *arg, sl_stream *stream, uint32_t call)
{
    const linear_bench *b = arg;
    sl_linear_args args = b->args;
    sl_weight w = b->w;

    w.data = b->data + b->w.bytes * (call % b->copies);
    args.part[0].w = &w;
    SL_ASSERT(b->ops->linear(&args, stream) == SL_OK);
}

static void pack_copies(linear_bench *b)
{
    float *row = zeroed(b->w.cols * sizeof(float));
    size_t row_bytes;
    uint8_t *file;

    SL_ASSERT(sl_dtype_row_bytes(b->w.dtype, b->w.cols, &row_bytes) == SL_OK);
    file = zeroed(row_bytes * 64);
    fill(row, b->w.cols);
    for (uint32_t i = 0; i < 64; i++)
        sl_quantize_row(b->w.dtype, row, b->w.cols, file + row_bytes * i);
    b->w.data = b->data;
    for (uint32_t i = 0; i < b->w.rows; i += 64)
        b->ops->weight_pack(&b->w, file, i, b->w.rows - i < 64 ? b->w.rows - i : 64);
    for (size_t i = 1; i < b->copies; i++)
        memcpy(b->data + b->w.bytes * i, b->data, b->w.bytes);
    sl_free_pages(row, b->w.cols * sizeof(float));
    sl_free_pages(file, row_bytes * 64);
}

static void bench_linear(crew *c, const sl_ops *ops, const roofs *r, sl_dtype dtype, uint32_t rows,
                         uint32_t cols)
{
    static const uint32_t batches[] = {1, 8, 32, 512};
    linear_bench b = {.ops = ops, .w = {.dtype = dtype, .rows = rows, .cols = cols}};
    const size_t act_bytes = ops->act_bytes(cols) * 512, y_bytes = (size_t)512 * rows * 4;
    float *x = zeroed((size_t)512 * cols * 4), *y = zeroed(y_bytes);
    void *act = zeroed(act_bytes);
    sl_stream alone;

    SL_ASSERT(ops->weight_plan(&b.w, NULL) == SL_OK);
    b.copies = WEIGHT_BYTES / b.w.bytes + 1;
    b.data = zeroed(b.w.bytes * b.copies);
    pack_copies(&b);
    fill(x, (size_t)512 * cols);
    sl_stream_init(&alone, NULL, 0, NULL, 0);
    SL_ASSERT(ops->prepare(&(sl_prepare_args){.act = act, .x = x, .n = 512, .cols = cols},
                           &alone) == SL_OK);
    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
        double seconds, gops, gbps, roof;

        b.args = (sl_linear_args){.part = {{.y = y, .y_stride = rows}},
                                  .part_count = 1,
                                  .act = act,
                                  .n = batches[i],
                                  .cols = cols};
        seconds = best_call(c, linear_call, &b);
        gops = 2.0 * rows * cols * batches[i] / seconds;
        gbps = (double)b.w.bytes / seconds;
        roof = dtype == SL_DTYPE_Q8_0 ? r->s8 : sl_dtype_block_elems(dtype) == 1 ? r->flops : r->u4;
        printf(
            "linear %-5s %5u x %-5u n %3u  %8.1f us  %6.1f GB/s %3.0f %%  %6.0f GOP/s %3.0f %%\n",
            sl_dtype_name(dtype), rows, cols, batches[i], seconds * 1e6, gbps * 1e-9,
            100.0 * gbps / r->read, gops * 1e-9, 100.0 * gops / roof);
        fflush(stdout);
    }
    sl_free_pages(b.data, b.w.bytes * b.copies);
    sl_free_pages(x, (size_t)512 * cols * 4);
    sl_free_pages(y, y_bytes);
    sl_free_pages(act, act_bytes);
}

static void bench_all_linear(crew *c, const sl_ops *ops, const roofs *r, const char *only)
{
    static const uint32_t shape[][2] = {{576, 1536}, {1536, 576}, {4096, 2048}, {1536, 8960}};

    for (int d = SL_DTYPE_COUNT - 1; d >= 0; d--) {
        const char *name = sl_dtype_name((sl_dtype)d);

        if (only != NULL && strcmp(only, name) != 0)
            continue;
        for (size_t s = 0; s < 4; s++)
            if (shape[s][1] % sl_dtype_block_elems((sl_dtype)d) == 0)
                bench_linear(c, ops, r, (sl_dtype)d, shape[s][0], shape[s][1]);
    }
}

/* --- attention
 * ------------------------------------------------------------------------------------ */

typedef struct attention_bench {
    const sl_ops *ops;
    sl_kv_store kv;
    sl_attention_args args;
    sl_rope_append_args rope;
    sl_attn_seq seq[32];
} attention_bench;

static void attention_call(void *arg, sl_stream *stream, uint32_t call)
{
    const attention_bench *b = arg;
    (void)call;

    SL_ASSERT(b->ops->attention(&b->args, stream) == SL_OK);
}

static void rope_call(void *arg, sl_stream *stream, uint32_t call)
{
    const attention_bench *b = arg;
    (void)call;

    SL_ASSERT(b->ops->rope_append(&b->rope, stream) == SL_OK);
}

typedef struct attention_shape {
    uint32_t heads, kv_heads, d;
    uint32_t seqs, rows, past; /* rows of each sequence, positions before them */
} attention_shape;

/* Time both operations and print; `keys` is how many keys the rows see together. */
static void time_attention(crew *c, const roofs *r, attention_bench *b, const attention_shape *s)
{
    const uint32_t width = s->heads * s->d, n = s->seqs * s->rows;
    double seconds, keys = 0.0, bytes, flops;

    for (uint32_t i = 0; i < s->rows; i++)
        keys += s->past + i + 1;
    flops = 4.0 * width * keys * s->seqs;
    bytes = 4.0 * s->kv_heads * s->d * (s->past + s->rows) * s->seqs;
    seconds = best_call(c, attention_call, b);
    printf(
        "attention %2u/%u x %-3u  %2u x %3u rows after %5u  %8.1f us  %6.1f GB/s %3.0f %%  %6.0f "
        "GFLOP/s %3.0f %%\n",
        s->heads, s->kv_heads, s->d, s->seqs, s->rows, s->past, seconds * 1e6,
        bytes / seconds * 1e-9, 100.0 * bytes / seconds / r->read, flops / seconds * 1e-9,
        100.0 * flops / seconds / r->flops);
    seconds = best_call(c, rope_call, b);
    printf("rope      %2u/%u x %-3u  %2u x %3u rows              %8.1f us  %6.2f ns a head\n",
           s->heads, s->kv_heads, s->d, s->seqs, s->rows, seconds * 1e6,
           seconds * 1e9 / n / (s->heads + s->kv_heads));
    fflush(stdout);
}

static void bench_attention(crew *c, const sl_ops *ops, const roofs *r, const attention_shape *s)
{
    const uint32_t total = s->past + s->rows, n = s->seqs * s->rows;
    const uint32_t pages_each = (total + SL_PAGE_TOKENS - 1) / SL_PAGE_TOKENS;
    const uint32_t width = s->heads * s->d, kv_width = s->kv_heads * s->d;
    const size_t page_count = (size_t)pages_each * s->seqs;
    attention_bench b = {.ops = ops};
    sl_kv_page *pages = zeroed(page_count * sizeof(*pages));
    float *q = zeroed((size_t)n * width * 4), *k = zeroed((size_t)n * kv_width * 4);
    float inv_freq[SL_HEAD_DIM_MAX / 2];
    void *act = zeroed(ops->act_bytes(width) * n);

    b.kv = (sl_kv_store){.plane_bytes = (size_t)SL_PAGE_TOKENS / 2 * kv_width,
                         .chunk_layers = 1,
                         .kv_heads = s->kv_heads,
                         .head_dim = s->d};
    b.kv.planes = zeroed(b.kv.plane_bytes * 8 * page_count);
    for (size_t i = 0; i < b.kv.plane_bytes * 4 * page_count; i++)
        ((uint16_t *)(void *)b.kv.planes)[i] = (uint16_t)(0x2c00 + i % 1000);
    for (size_t p = 0; p < page_count; p++)
        for (uint32_t i = 0; i < 8; i++)
            pages[p].plane[i] = (uint32_t)(p * 8 + i);
    for (uint32_t i = 0; i < s->seqs; i++)
        b.seq[i] = (sl_attn_seq){i * s->rows, s->rows, s->past, pages + (size_t)i * pages_each};
    for (uint32_t j = 0; j < s->d / 2; j++)
        inv_freq[j] = 1.0f / (float)(j + 1);
    fill(q, (size_t)n * width);
    fill(k, (size_t)n * kv_width);
    b.args = (sl_attention_args){.act = act,
                                 .q = q,
                                 .q_stride = width,
                                 .kv = &b.kv,
                                 .heads = s->heads,
                                 .scale = 0.1f,
                                 .seq = b.seq,
                                 .seq_count = s->seqs,
                                 .n = n,
                                 .codes_only = true};
    b.rope = (sl_rope_append_args){.q = q,
                                   .k = k,
                                   .v = k,
                                   .q_stride = width,
                                   .kv_stride = kv_width,
                                   .inv_freq = inv_freq,
                                   .rope_dims = s->d,
                                   .rope_scale = 1.0f,
                                   .neox = true,
                                   .kv = &b.kv,
                                   .heads = s->heads,
                                   .seq = b.seq,
                                   .seq_count = s->seqs,
                                   .n = n};
    time_attention(c, r, &b, s);
    sl_free_pages(b.kv.planes, b.kv.plane_bytes * 8 * page_count);
    sl_free_pages(pages, page_count * sizeof(*pages));
    sl_free_pages(q, (size_t)n * width * 4);
    sl_free_pages(k, (size_t)n * kv_width * 4);
    sl_free_pages(act, ops->act_bytes(width) * n);
}

static void bench_all_attention(crew *c, const sl_ops *ops, const roofs *r)
{
    static const attention_shape shapes[] = {
        {9, 3, 64, 1, 1, 1023},   {9, 3, 64, 1, 1, 8191},   {9, 3, 64, 32, 1, 512},
        {9, 3, 64, 1, 512, 0},    {9, 3, 64, 1, 512, 4096}, {4, 1, 256, 1, 1, 1023},
        {4, 1, 256, 32, 1, 512},  {4, 1, 256, 1, 512, 0},   {14, 2, 64, 1, 1, 1023},
        {14, 2, 64, 32, 1, 512},  {14, 2, 64, 1, 512, 0},   {12, 2, 128, 1, 1, 1023},
        {12, 2, 128, 8, 1, 2048}, {12, 2, 128, 1, 512, 0},
    };

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        bench_attention(c, ops, r, &shapes[i]);
}

/* --- rows
 * ----------------------------------------------------------------------------------------- */

typedef struct rows_bench {
    const sl_ops *ops;
    sl_norm_args norm;
    sl_glu_args glu;
} rows_bench;

static void norm_call(void *arg, sl_stream *stream, uint32_t call)
{
    const rows_bench *b = arg;
    (void)call;

    SL_ASSERT(b->ops->norm(&b->norm, stream) == SL_OK);
}

static void glu_call(void *arg, sl_stream *stream, uint32_t call)
{
    const rows_bench *b = arg;
    (void)call;

    SL_ASSERT(b->ops->glu(&b->glu, stream) == SL_OK);
}

static void bench_rows(crew *c, const sl_ops *ops, uint32_t n, uint32_t cols)
{
    rows_bench b = {.ops = ops};
    const size_t bytes = (size_t)n * cols * 4;
    float *x = zeroed(bytes), *w = zeroed(bytes);
    void *act = zeroed(ops->act_bytes(cols) * n);
    double seconds;

    fill(x, (size_t)n * cols);
    fill(w, (size_t)n * cols);
    b.norm = (sl_norm_args){
        .act = act, .x = x, .w = w, .n = n, .cols = cols, .eps = 1e-5f, .codes_only = true};
    b.glu = (sl_glu_args){
        .act = act, .gate = x, .up = w, .stride = cols, .n = n, .cols = cols, .codes_only = true};
    seconds = best_call(c, norm_call, &b);
    printf("norm  %3u x %-5u %8.2f us  %5.2f ns an element\n", n, cols, seconds * 1e6,
           seconds * 1e9 / n / cols);
    for (int fn = 0; fn < 2; fn++) {
        b.glu.fn = (sl_act_fn)fn;
        seconds = best_call(c, glu_call, &b);
        printf("%s  %3u x %-5u %8.2f us  %5.2f ns an element\n", fn == 0 ? "silu" : "gelu", n, cols,
               seconds * 1e6, seconds * 1e9 / n / cols);
    }
    sl_free_pages(x, bytes);
    sl_free_pages(w, bytes);
    sl_free_pages(act, ops->act_bytes(cols) * n);
}

static void barrier_call(void *arg, sl_stream *stream, uint32_t call)
{
    (void)arg;
    (void)call;
    sl_stream_barrier(stream);
}

int main(int argc, char **argv)
{
    static crew c;
    const size_t scratch_bytes = 64u << 20;
    const char *only = NULL, *features;
    const sl_ops *ops = sl_ops_cpu(&features);
    roofs r;

    c.size = sl_cpu_count();
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            c.size = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--only") == 0)
            only = argv[i + 1];
        else if (strcmp(argv[i], "--table") == 0 && strcmp(argv[i + 1], "avx2") == 0)
            ops = sl_ops_cpu_avx2();
    }
    if (c.size < 1 || c.size > THREADS_MAX) {
        fprintf(stderr, "--threads: 1 to %d\n", THREADS_MAX);
        return 2;
    }
    if (ops == NULL) {
        printf("skipped: %s\n", features);
        return 77;
    }
    printf("table %s (%s)\n", ops->name, features);
    sl_team_init(&c.team, c.size);
    for (uint32_t i = 0; i < c.size; i++) {
        void *scratch = sl_alloc_pages(scratch_bytes);

        SL_ASSERT(scratch != NULL);
        sl_stream_init(&c.stream[i], &c.team, i, scratch, scratch_bytes);
    }
    r = measure_roofs(&c);
    if (only == NULL || strcmp(only, "rows") == 0) {
        printf("barrier %.2f us\n", best_call(&c, barrier_call, NULL) * 1e6);
        bench_rows(&c, ops, 1, 1536);
        bench_rows(&c, ops, 512, 1536);
    }
    if (only == NULL || strcmp(only, "attention") == 0)
        bench_all_attention(&c, ops, &r);
    bench_all_linear(&c, ops, &r, only);
    return 0;
}
