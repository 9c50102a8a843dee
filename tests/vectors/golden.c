/* tests/vectors/golden.c - see golden.h */
#include "tests/vectors/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/rig.h"
#include "tests/vectors/reference.h"

static void read_line(FILE *f, const char *format, void *a, void *b, int want)
{
    char line[64];
    int n;

    assert_non_null(fgets(line, sizeof(line), f));
    n = b == NULL ? sscanf(line, format, a) : sscanf(line, format, a, b);
    if (n != want)
        fail_msg("the golden file has '%s'", line);
}

static void read_golden(const char *name, sl_golden *g)
{
    const char *root = getenv("SLUICE_SOURCE_ROOT");
    char path[512];
    uint32_t positions;
    FILE *f;

    assert_non_null(root);
    snprintf(path, sizeof(path), "%s/tests/vectors/%s.golden", root, name);
    f = fopen(path, "r");
    assert_non_null(f);
    read_line(f, "tokens %u", &g->token_count, NULL, 1);
    assert_in_range(g->token_count, 4, SL_GOLDEN_TOKENS_MAX);
    for (uint32_t i = 0; i < g->token_count; i++)
        read_line(f, "%u", &g->token[i], NULL, 1);
    read_line(f, "positions %u", &positions, NULL, 1);
    assert_int_equal(positions, SL_GOLDEN_POSITIONS);
    for (uint32_t p = 0; p < positions; p++) {
        read_line(f, "position %u", &g->position[p], NULL, 1);
        assert_in_range(g->position[p], g->token_count / 2, g->token_count - 2);
        for (uint32_t i = 0; i < SL_GOLDEN_TOP; i++)
            read_line(f, "%u %f", &g->id[p][i], &g->log_p[p][i], 2);
    }
    fclose(f);
}

/* A model that wants a BOS has it in the place of the first token: so had the reference. */
static void place_bos(const sl_gguf *g, uint32_t *token)
{
    bool add_bos = false;
    uint32_t bos;

    if (sl_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &add_bos, NULL) == SL_OK && add_bos &&
        sl_gguf_get_u32(g, "tokenizer.ggml.bos_token_id", &bos, NULL) == SL_OK)
        token[0] = bos;
}

/* The divergences of one position are added to *sum; rms is a sum of squares here. */
static void compare_position(const float *log_p, const float *ours, sl_golden_bounds *sum,
                             uint32_t *known)
{
    double sum_p = 0.0, sum_q = 0.0, kl;
    int same_top;

    kl = sl_reference_kl(log_p, ours, SL_GOLDEN_TOP, &same_top);
    sum->mean_kl += kl;
    if (!(kl <= sum->max_kl))
        sum->max_kl = kl;
    for (uint32_t i = 0; i < SL_GOLDEN_TOP; i++) {
        if (isinf(log_p[i]))
            continue;
        sum_p += exp((double)log_p[i]);
        sum_q += exp((double)ours[i] - (double)ours[0]);
    }
    for (uint32_t i = 0; i < SL_GOLDEN_TOP; i++) {
        const double d =
            (double)log_p[i] - log(sum_p) - ((double)ours[i] - (double)ours[0] - log(sum_q));

        if (isinf(log_p[i]))
            continue;
        sum->rms += d * d;
        ++*known;
    }
}

/* How far our logits (rows from the middle of the tokens on) are. */
static sl_golden_bounds compare(const sl_golden *g, const float *logits, uint32_t vocab)
{
    sl_golden_bounds far = {0};
    uint32_t known = 0;

    for (uint32_t p = 0; p < SL_GOLDEN_POSITIONS; p++) {
        const float *row = logits + (size_t)(g->position[p] - g->token_count / 2) * vocab;
        float ours[SL_GOLDEN_TOP];

        for (uint32_t i = 0; i < SL_GOLDEN_TOP; i++) {
            assert_true(g->id[p][i] < vocab);
            ours[i] = row[g->id[p][i]];
        }
        compare_position(g->log_p[p], ours, &far, &known);
    }
    assert_true(known > 4 * SL_GOLDEN_POSITIONS); /* else the file says too little */
    far.mean_kl /= SL_GOLDEN_POSITIONS;
    far.rms = sqrt(far.rms / known);
    return far;
}

void sl_golden_check(const char *name, const sl_gguf *g, const sl_ops *ops, sl_golden_bounds bounds)
{
    static sl_golden golden;
    uint32_t vocab, half;
    float *logits;
    sl_golden_bounds far;
    sl_rig rig;
    sl_err err;

    read_golden(name, &golden);
    half = golden.token_count / 2;
    if (sl_rig_init(&rig,
                    &(sl_rig_options){.file = g,
                                      .ops = ops,
                                      .seqs = 1,
                                      .positions = golden.token_count,
                                      .rows_max = golden.token_count,
                                      .logit_rows_max = golden.token_count,
                                      .members = 2},
                    &err) != SL_OK)
        fail_msg("%s", err.text);
    vocab = sl_model_get_config(rig.model)->vocab;
    logits = malloc((size_t)golden.token_count * vocab * sizeof(*logits));
    assert_non_null(logits);
    place_bos(g, golden.token);
    assert_int_equal(sl_rig_feed(&rig, 0, 0, golden.token, half, half, NULL), SL_OK);
    assert_int_equal(sl_rig_feed(&rig, 0, half, golden.token + half, golden.token_count - half,
                                 golden.token_count, logits),
                     SL_OK);
    far = compare(&golden, logits, vocab);
    print_message("%s, %s: mean KL %.7f, max %.7f, log p %.5f\n", name, ops->name, far.mean_kl,
                  far.max_kl, far.rms);
    assert_true(far.mean_kl > -1e-9 && far.mean_kl <= bounds.mean_kl);
    assert_true(far.max_kl <= bounds.max_kl);
    assert_true(far.rms <= bounds.rms);
    free(logits);
    sl_rig_done(&rig);
}
