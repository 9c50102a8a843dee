/* tests/vectors/test_vectors.c
 *
 * Goal: real models compute what an independent implementation computes.
 * Method: golden files (golden.h) of 64 tokens of text.  The bound for the twins is what fp32 sums
 * and a cache of halves cost; for the fast table, which rounds activations to 8 bits, it is what
 * such rounding costs.  A model that is not on this machine is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/vectors/golden.h"

static const char smollm2[] = "SmolLM2-135M-Instruct.Q4_1.gguf";
static const char gemma3[] = "gemma-3-270m-q4_k_m.gguf";
static const char qwen05[] = "qwen2.5-coder-0.5b-instruct.gguf";
static const char qwen15[] = "qwen2.5-coder-1.5b-instruct.gguf";

/* A few times what README.md has as measured. */
static const sl_golden_bounds ref_bounds = {5e-6, 2e-5, 0.005};
static const sl_golden_bounds cpu_bounds = {0.008, 0.03, 0.3};

static void check(const char *name, const char *file, const sl_ops *ops, sl_golden_bounds bounds)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    char path[512];
    sl_gguf *g = NULL;
    sl_err err;
    FILE *f;

    if (ops == NULL)
        skip();
    if (cache != NULL && cache[0] != '\0')
        snprintf(path, sizeof(path), "%s/sluice/models/%s", cache, file);
    else
        snprintf(path, sizeof(path), "%s/.cache/sluice/models/%s", home == NULL ? "" : home, file);
    f = fopen(path, "rb");
    if (f == NULL) {
        print_message("%s is not on this machine\n", file);
        skip();
    }
    fclose(f);
    if (sl_gguf_open(path, &g, &err) != SL_OK)
        fail_msg("%s", err.text);
    sl_golden_check(name, g, ops, bounds);
    sl_gguf_close(g);
}

static void smollm2_ref(void **state)
{
    (void)state;
    check("smollm2", smollm2, sl_ops_ref(), ref_bounds);
}

static void smollm2_cpu(void **state)
{
    (void)state;
    check("smollm2", smollm2, sl_ops_cpu(NULL), cpu_bounds);
}

static void gemma3_ref(void **state)
{
    (void)state;
    check("gemma3", gemma3, sl_ops_ref(), ref_bounds);
}

static void gemma3_cpu(void **state)
{
    (void)state;
    check("gemma3", gemma3, sl_ops_cpu(NULL), cpu_bounds);
}

static void qwen05_ref(void **state)
{
    (void)state;
    check("qwen05", qwen05, sl_ops_ref(), ref_bounds);
}

static void qwen05_cpu(void **state)
{
    (void)state;
    check("qwen05", qwen05, sl_ops_cpu(NULL), cpu_bounds);
}

/* The twins would need half a minute for this one. */
static void qwen15_cpu(void **state)
{
    (void)state;
    check("qwen15", qwen15, sl_ops_cpu(NULL), cpu_bounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smollm2_ref), cmocka_unit_test(smollm2_cpu), cmocka_unit_test(gemma3_ref),
        cmocka_unit_test(gemma3_cpu),  cmocka_unit_test(qwen05_ref),  cmocka_unit_test(qwen05_cpu),
        cmocka_unit_test(qwen15_cpu),
    };
    return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
