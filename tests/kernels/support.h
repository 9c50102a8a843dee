/* tests/kernels/support.h - what the tests of kernels share: streams, teams, weights, numbers. */
#ifndef SL_TESTS_KERNELS_SUPPORT_H
#define SL_TESTS_KERNELS_SUPPORT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "kernels/team.h"

enum { TEAM_TEST_MAX = 8 };

/* Zeroed, 64-byte aligned, exactly as long as asked for (so that a sanitizer sees the end). */
static inline void *test_alloc(size_t bytes)
{
    void *p = NULL;

    assert_int_equal(posix_memalign(&p, 64, bytes > 0 ? bytes : 1), 0);
    memset(p, 0, bytes);
    return p;
}

/* Uniform in [-1, 1). */
static inline float test_draw(uint64_t seed, uint64_t n)
{
    return (float)(2.0 * sl_rng_unit(seed, n) - 1.0);
}

static inline void test_fill(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        x[i] = test_draw(seed, i);
}

/* --- teams ------------------------------------------------------------------------------------ */

typedef void (*test_job)(void *arg, sl_stream *stream);

typedef struct test_member {
    sl_stream stream;
    test_job job;
    void *arg;
} test_member;

static inline void test_member_main(void *p)
{
    test_member *m = p;

    m->job(m->arg, &m->stream);
}

/* Run job on every member of a team of `size` (0: a stream without a team); the caller is member 0.
 */
static inline void test_run_team(uint32_t size, size_t scratch_bytes, test_job job, void *arg)
{
    test_member member[TEAM_TEST_MAX];
    sl_thread thread[TEAM_TEST_MAX] = {{.running = false}};
    void *scratch[TEAM_TEST_MAX];
    const uint32_t members = size == 0 ? 1 : size;
    sl_team team;

    sl_team_init(&team, members);
    for (uint32_t i = 0; i < members; i++) {
        scratch[i] = test_alloc(scratch_bytes);
        sl_stream_init(&member[i].stream, size == 0 ? NULL : &team, i, scratch[i], scratch_bytes);
        member[i].job = job;
        member[i].arg = arg;
    }
    for (uint32_t i = 1; i < members; i++)
        assert_int_equal(sl_thread_start(&thread[i], "member", -1, test_member_main, &member[i]),
                         SL_OK);
    test_member_main(&member[0]);
    for (uint32_t i = 1; i < members; i++)
        sl_thread_join(&thread[i]);
    for (uint32_t i = 0; i < members; i++)
        free(scratch[i]);
}

/* One operation of a table over its argument struct, on a team; all members must agree. */
typedef sl_status (*test_op)(const void *args, sl_stream *stream);

typedef struct test_call {
    test_op op;
    const void *args;
    sl_status status[TEAM_TEST_MAX];
} test_call;

static inline void test_call_job(void *arg, sl_stream *stream)
{
    test_call *c = arg;

    c->status[stream->rank] = c->op(c->args, stream);
}

static inline sl_status test_run_op(uint32_t size, size_t scratch_bytes, test_op op,
                                    const void *args)
{
    test_call c = {.op = op, .args = args};

    test_run_team(size, scratch_bytes, test_call_job, &c);
    for (uint32_t i = 1; i < size; i++)
        assert_int_equal(c.status[i], c.status[0]);
    return c.status[0];
}

/* A test_op for one row of a table: TEST_OP(cpu_norm, sl_ops_cpu(NULL), norm, sl_norm_args). */
#define TEST_OP(name, table, op, args_type)                                                        \
    static sl_status name(const void *args, sl_stream *stream)                                     \
    {                                                                                              \
        return (table)->op((const args_type *)args, stream);                                       \
    }

/* --- the table under test -------------------------------------------------------------------- */

/* The fast table, or skip the test where there is none. */
static inline const sl_ops *test_cpu(void)
{
    const char *features;
    const sl_ops *ops = sl_ops_cpu(&features);

    if (ops == NULL) {
        print_message("skipped: %s\n", features);
        skip();
    }
    return ops;
}

/* --- weights ---------------------------------------------------------------------------------- */

static inline sl_weight test_pack(const sl_ops *ops, sl_dtype dtype, uint32_t rows, uint32_t cols,
                                  const uint8_t *file)
{
    sl_weight w = {.dtype = dtype, .rows = rows, .cols = cols};
    size_t row_bytes;

    assert_int_equal(ops->weight_plan(&w, NULL), SL_OK);
    assert_int_equal(sl_dtype_row_bytes(dtype, cols, &row_bytes), SL_OK);
    w.data = test_alloc(w.bytes);
    memset(w.data, 0xa5, w.bytes);
    for (uint32_t row = 0; row < rows; row += 64)
        ops->weight_pack(&w, file + row_bytes * row, row, rows - row < 64 ? rows - row : 64);
    return w;
}

/* Rows of blocks of random values, some rows ten times as large. */
static inline uint8_t *test_file(sl_dtype dtype, uint32_t rows, uint32_t cols, uint64_t seed)
{
    float *x = test_alloc(cols * sizeof(*x));
    uint8_t *file;
    size_t row_bytes;

    assert_int_equal(sl_dtype_row_bytes(dtype, cols, &row_bytes), SL_OK);
    file = test_alloc(row_bytes * rows);
    for (uint32_t row = 0; row < rows; row++) {
        test_fill(x, cols, seed + row);
        for (uint32_t k = 0; k < cols; k++)
            x[k] *= row % 5 == 4 ? 10.0f : 1.0f;
        sl_quantize_row(dtype, x, cols, file + row_bytes * row);
    }
    free(x);
    return file;
}

#endif
