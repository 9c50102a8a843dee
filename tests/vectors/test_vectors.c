/* tests/vectors/test_vectors.c
 *
 * Goal: real models compute what an independent implementation computes.
 * Method: golden files (README.md): 64 tokens of text, and for 16 positions of their second half
 * the 64 likeliest next tokens with their log-probabilities, from an fp32 evaluation of the same
 * weights.  The KL divergence of ours, over those 64, must stay below a bound: for the twins that
 * of fp32 sums and a cache of halves; for the fast table, which rounds activations to 8 bits, the
 * size that such rounding costs.  A model that is not on this machine is skipped. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/rig.h"
#include "tests/vectors/reference.h"

enum { TOKENS = 64, POSITIONS = 16, TOP = 64 };

typedef struct golden {
    uint32_t token[TOKENS];
    uint32_t position[POSITIONS];
    uint32_t id[POSITIONS][TOP];
    float log_p[POSITIONS][TOP];
} golden;

static void read_line(FILE *f, const char *format, void *a, void *b, int want)
{
    char line[64];
    int n;

    assert_non_null(fgets(line, sizeof(line), f));
    n = b == NULL ? sscanf(line, format, a) : sscanf(line, format, a, b);
    if (n != want)
        fail_msg("the golden file has '%s'", line);
}

static void read_golden(const char *name, golden *g)
{
    const char *root = getenv("SLUICE_SOURCE_ROOT");
    char path[512];
    uint32_t n;
    FILE *f;

    assert_non_null(root);
    snprintf(path, sizeof(path), "%s/tests/vectors/%s.golden", root, name);
    f = fopen(path, "r");
    assert_non_null(f);
    read_line(f, "tokens %u", &n, NULL, 1);
    assert_int_equal(n, TOKENS);
    for (uint32_t i = 0; i < TOKENS; i++)
        read_line(f, "%u", &g->token[i], NULL, 1);
    read_line(f, "positions %u", &n, NULL, 1);
    assert_int_equal(n, POSITIONS);
    for (uint32_t p = 0; p < POSITIONS; p++) {
        read_line(f, "position %u", &g->position[p], NULL, 1);
        assert_in_range(g->position[p], TOKENS / 2, TOKENS - 2);
        for (uint32_t i = 0; i < TOP; i++)
            read_line(f, "%u %f", &g->id[p][i], &g->log_p[p][i], 2);
    }
    fclose(f);
}

static sl_gguf *open_model(const char *file)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    char path[512];
    sl_gguf *g = NULL;
    sl_err err;
    FILE *f;

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
    return g;
}

/* Mean and largest divergence of our logits from the golden rows. */
static double compare(const golden *g, const float *logits, uint32_t vocab, double *max)
{
    double sum = 0.0;

    *max = 0.0;
    for (uint32_t p = 0; p < POSITIONS; p++) {
        float ours[TOP];
        double kl;
        int same_top;

        for (uint32_t i = 0; i < TOP; i++) {
            assert_true(g->id[p][i] < vocab);
            ours[i] = logits[(size_t)(g->position[p] - TOKENS / 2) * vocab + g->id[p][i]];
        }
        kl = sl_reference_kl(g->log_p[p], ours, TOP, &same_top);
        if (kl > *max)
            *max = kl;
        sum += kl;
    }
    return sum / POSITIONS;
}

static void check_model(const char *name, const char *file, const sl_ops *ops, double mean_max,
                        double max_max)
{
    static golden g;
    sl_gguf *gguf;
    uint32_t vocab;
    float *logits;
    double mean, max;
    sl_rig rig;
    sl_err err;

    if (ops == NULL)
        skip();
    gguf = open_model(file);
    read_golden(name, &g);
    if (sl_rig_init(&rig,
                    &(sl_rig_options){.file = gguf,
                                      .ops = ops,
                                      .seqs = 1,
                                      .positions = TOKENS,
                                      .rows_max = TOKENS / 2,
                                      .logit_rows_max = TOKENS / 2,
                                      .members = 2},
                    &err) != SL_OK)
        fail_msg("%s", err.text);
    vocab = sl_model_get_config(rig.model)->vocab;
    logits = malloc((size_t)TOKENS / 2 * vocab * sizeof(*logits));
    assert_non_null(logits);
    if (strcmp(sl_model_get_config(rig.model)->arch, "gemma3") == 0)
        g.token[0] = 2; /* its BOS, which the reference puts there */
    assert_int_equal(sl_rig_feed(&rig, 0, 0, g.token, TOKENS / 2, TOKENS / 2, NULL), SL_OK);
    assert_int_equal(
        sl_rig_feed(&rig, 0, TOKENS / 2, g.token + TOKENS / 2, TOKENS / 2, TOKENS / 2, logits),
        SL_OK);
    mean = compare(&g, logits, vocab, &max);
    print_message("%s, %s: mean KL %.7f, max %.7f\n", name, ops->name, mean, max);
    assert_true(mean >= 0.0 && mean <= mean_max);
    assert_true(max <= max_max);
    free(logits);
    sl_rig_done(&rig);
    sl_gguf_close(gguf);
}

/* README.md has what was measured; the bounds are a few times that. */
static const char smollm2[] = "SmolLM2-135M-Instruct.Q4_1.gguf";
static const char gemma3[] = "gemma-3-270m-q4_k_m.gguf";
static const char qwen05[] = "qwen2.5-coder-0.5b-instruct.gguf";
static const char qwen15[] = "qwen2.5-coder-1.5b-instruct.gguf";
static const double REF_MEAN = 5e-6, REF_MAX = 2e-5;

static void smollm2_ref(void **state)
{
    (void)state;
    check_model("smollm2", smollm2, sl_ops_ref(), REF_MEAN, REF_MAX);
}

static void smollm2_cpu(void **state)
{
    (void)state;
    check_model("smollm2", smollm2, sl_ops_cpu(NULL), 0.01, 0.05);
}

static void gemma3_ref(void **state)
{
    (void)state;
    check_model("gemma3", gemma3, sl_ops_ref(), REF_MEAN, REF_MAX);
}

static void gemma3_cpu(void **state)
{
    (void)state;
    check_model("gemma3", gemma3, sl_ops_cpu(NULL), 0.01, 0.05);
}

static void qwen05_ref(void **state)
{
    (void)state;
    check_model("qwen05", qwen05, sl_ops_ref(), REF_MEAN, REF_MAX);
}

static void qwen05_cpu(void **state)
{
    (void)state;
    check_model("qwen05", qwen05, sl_ops_cpu(NULL), 0.01, 0.05);
}

/* The twins would need half a minute for this one. */
static void qwen15_cpu(void **state)
{
    (void)state;
    check_model("qwen15", qwen15, sl_ops_cpu(NULL), 0.01, 0.05);
}

/* The measure itself: zero for equal distributions, known for a known pair, blind to a shift of
 * the logits, and able to see a wrong model. */
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
        cmocka_unit_test(the_measure_measures), cmocka_unit_test(smollm2_ref),
        cmocka_unit_test(smollm2_cpu),          cmocka_unit_test(gemma3_ref),
        cmocka_unit_test(gemma3_cpu),           cmocka_unit_test(qwen05_ref),
        cmocka_unit_test(qwen05_cpu),           cmocka_unit_test(qwen15_cpu),
    };
    return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
