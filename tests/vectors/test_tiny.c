/* tests/vectors/test_tiny.c
 *
 * Goal: every architecture computes what an independent implementation computes, on any machine.
 * Method: the tiny random models, in fp32 (so the fast table rounds nothing), over 256 tokens
 * (gemma3's window is 96), against golden files (golden.h).  And the measure itself is tested. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/tiny_gguf.h"
#include "tests/vectors/golden.h"
#include "tests/vectors/reference.h"

/* With the twins, and with the fast table if there is one. */
static void check(const char *arch, const char *name)
{
    sl_tiny_options o = sl_tiny_defaults(arch);
    sl_gguf *g = NULL;
    sl_buf file;

    o.context = 2048;
    sl_buf_init(&file, 64u << 20);
    sl_tiny_gguf(&o, &file);
    assert_int_equal(sl_gguf_open_memory(file.data, file.len, &g, NULL), SL_OK);
    sl_golden_check(name, g, sl_ops_ref(), (sl_golden_bounds){5e-6, 2e-5, 0.005});
    if (sl_ops_cpu(NULL) != NULL)
        sl_golden_check(name, g, sl_ops_cpu(NULL), (sl_golden_bounds){1e-5, 5e-5, 0.01});
    sl_gguf_close(g);
    sl_buf_done(&file);
}

static void a_llama_agrees(void **state)
{
    (void)state;
    check("llama", "tiny-llama");
}

static void a_qwen2_agrees(void **state)
{
    (void)state;
    check("qwen2", "tiny-qwen2");
}

static void a_qwen3_agrees(void **state)
{
    (void)state;
    check("qwen3", "tiny-qwen3");
}

static void a_gemma3_agrees_beyond_its_window(void **state)
{
    (void)state;
    check("gemma3", "tiny-gemma3");
}

/* Zero for equal distributions, known for a known pair, blind to a shift of the logits and to what
 * the reference does not know. */
static void the_measure_measures(void **state)
{
    const float log_p[3] = {logf(0.5f), logf(0.25f), logf(0.25f)};
    const float same[3] = {log_p[0] + 7.0f, log_p[1] + 7.0f, log_p[2] + 7.0f};
    const float other[3] = {logf(0.25f), logf(0.5f), logf(0.25f)};
    const float unknown[4] = {logf(0.5f), -INFINITY, logf(0.25f), logf(0.25f)};
    const float wide[4] = {log_p[0], 9.0f, log_p[1], log_p[2]};
    int same_top;
    (void)state;

    assert_true(fabs(sl_reference_kl(log_p, same, 3, &same_top)) < 1e-6);
    assert_int_equal(same_top, 1);
    assert_true(fabs(sl_reference_kl(log_p, other, 3, &same_top) - 0.25 * log(2.0)) < 1e-6);
    assert_int_equal(same_top, 0);
    assert_true(fabs(sl_reference_kl(unknown, wide, 4, &same_top)) < 1e-6);
    assert_int_equal(same_top, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_measure_measures),
        cmocka_unit_test(a_llama_agrees),
        cmocka_unit_test(a_qwen2_agrees),
        cmocka_unit_test(a_qwen3_agrees),
        cmocka_unit_test(a_gemma3_agrees_beyond_its_window),
    };
    return cmocka_run_group_tests_name("vectors/tiny", tests, NULL, NULL);
}
