/* tests/vectors/kl.c - sluice_kl: how far our forward pass is from a reference, in nats.
 *
 *   sluice_kl REFERENCE --model FILE [--ops ref|cpu] [--threads N] [--step N] [--chunks N]
 *             [--stride N]
 *   sluice_kl REFERENCE --peer OTHER [--chunks N]
 *   sluice_kl REFERENCE --golden N
 *
 * REFERENCE is a file as in reference.h.  The first form runs the model over the same tokens, at
 * most `step` rows at a time, and looks at every stride-th position; the second compares the file
 * of another evaluation of the same tokens by the same measure; the third prints N positions of
 * the first chunk as a golden file (README.md). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/support/rig.h"
#include "tests/vectors/reference.h"

enum { QUARTERS = 4, GOLDEN_TOP = 64 };

typedef struct options {
    const char *reference, *model, *peer, *ops;
    uint32_t threads, step, chunks, stride, golden;
} options;

typedef struct tally {
    double kl[QUARTERS];
    uint32_t count[QUARTERS];
    uint32_t same_top;
    double max;
} tally;

static void die(const char *what, const sl_err *err)
{
    fprintf(stderr, "sluice_kl: %s%s%s\n", what, err == NULL ? "" : ": ",
            err == NULL ? "" : err->text);
    exit(1);
}

static void add(tally *t, const sl_reference *r, uint32_t i, double kl, int same_top)
{
    const uint32_t quarter = i * QUARTERS / sl_reference_count(r);

    t->kl[quarter] += kl;
    t->count[quarter]++;
    t->same_top += same_top != 0;
    if (kl > t->max)
        t->max = kl;
}

static void print_tally(const tally *t)
{
    double sum = 0.0;
    uint32_t count = 0;

    for (int q = 0; q < QUARTERS; q++) {
        sum += t->kl[q];
        count += t->count[q];
    }
    if (count == 0)
        die("no positions", NULL);
    printf("positions %u  mean KL %.7f  max %.5f  same top %.2f %%  quarters", count, sum / count,
           t->max, 100.0 * t->same_top / count);
    for (int q = 0; q < QUARTERS; q++)
        printf(" %.7f", t->count[q] == 0 ? 0.0 : t->kl[q] / t->count[q]);
    printf("\n");
}

/* --- a model ------------------------------------------------------------------------------ */

/* The tokens of a chunk; a model that wants a BOS gets it in the place of the first token, as the
 * reference had it. */
static void chunk_tokens(const sl_reference *r, const sl_gguf *g, uint32_t chunk, uint32_t *token)
{
    bool add_bos = false;
    uint32_t bos;

    for (uint32_t i = 0; i < r->n_ctx; i++)
        token[i] = (uint32_t)r->token[(size_t)chunk * r->n_ctx + i];
    if (sl_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &add_bos, NULL) != SL_OK || !add_bos)
        return;
    if (sl_gguf_get_u32(g, "tokenizer.ggml.bos_token_id", &bos, NULL) == SL_OK)
        token[0] = bos;
}

/* One chunk: the first half only fills the cache; the second is fed `step` rows at a time and
 * compared. */
static void run_chunk(const sl_reference *r, const options *o, sl_rig *rig, uint32_t chunk,
                      const uint32_t *token, tally *t)
{
    const uint32_t first = sl_reference_first(r);
    const uint32_t count = sl_reference_count(r);
    float *logits = sl_xalloc((size_t)o->step * r->vocab, sizeof(float));
    float *log_p = sl_xalloc(r->vocab, sizeof(float));
    int same_top;

    if (sl_rig_feed(rig, 0, 0, token, first, o->step, NULL) != SL_OK)
        die("the forward pass failed", NULL);
    for (uint32_t done = 0; done < count;) {
        const uint32_t rows = count - done < o->step ? count - done : o->step;

        if (sl_rig_feed(rig, 0, first + done, token + first + done, rows, o->step, logits) != SL_OK)
            die("the forward pass failed", NULL);
        for (uint32_t i = 0; i < rows; i++) {
            if ((done + i) % o->stride != 0)
                continue;
            sl_reference_row(r, chunk, done + i, log_p);
            add(t, r, done + i,
                sl_reference_kl(log_p, logits + (size_t)i * r->vocab, r->vocab, &same_top),
                same_top);
        }
        done += rows;
    }
    sl_free(logits);
    sl_free(log_p);
}

static void compare_model(const sl_reference *r, const options *o)
{
    const sl_ops *ops = strcmp(o->ops, "ref") == 0 ? sl_ops_ref() : sl_ops_cpu(NULL);
    uint32_t *token = sl_xalloc(r->n_ctx, sizeof(*token));
    const uint64_t start_us = sl_clock_us();
    sl_gguf *g = NULL;
    sl_rig rig;
    sl_err err;
    tally t = {0};

    if (ops == NULL)
        die("this machine has no fast operations", NULL);
    if (sl_gguf_open(o->model, &g, &err) != SL_OK)
        die("the model", &err);
    if (sl_rig_init(&rig,
                    &(sl_rig_options){.file = g,
                                      .ops = ops,
                                      .seqs = 1,
                                      .positions = r->n_ctx,
                                      .rows_max = o->step,
                                      .logit_rows_max = o->step,
                                      .members = o->threads},
                    &err) != SL_OK)
        die("the model", &err);
    if (sl_model_get_config(rig.model)->vocab != r->vocab)
        die("the model has another vocabulary than the reference", NULL);
    for (uint32_t chunk = 0; chunk < r->chunks && chunk < o->chunks; chunk++) {
        chunk_tokens(r, g, chunk, token);
        run_chunk(r, o, &rig, chunk, token, &t);
    }
    printf("%s ops=%s step=%u n_ctx=%u %.0f s\n", sl_model_get_config(rig.model)->name, ops->name,
           o->step, r->n_ctx, (double)(sl_clock_us() - start_us) * 1e-6);
    print_tally(&t);
    sl_rig_done(&rig);
    sl_gguf_close(g);
    sl_free(token);
}

/* --- another file ------------------------------------------------------------------------- */

static void compare_peer(const sl_reference *r, const options *o)
{
    float *log_p = sl_xalloc(r->vocab, sizeof(float));
    float *log_q = sl_xalloc(r->vocab, sizeof(float));
    sl_reference other;
    sl_err err;
    tally t = {0};
    int same_top;

    if (sl_reference_open(o->peer, &other, &err) != SL_OK)
        die("the peer", &err);
    if (other.n_ctx != r->n_ctx || other.vocab != r->vocab || other.chunks != r->chunks ||
        memcmp(other.token, r->token, (size_t)r->chunks * r->n_ctx * 4) != 0)
        die("the two files are not of the same tokens", NULL);
    for (uint32_t chunk = 0; chunk < r->chunks && chunk < o->chunks; chunk++) {
        for (uint32_t i = 0; i < sl_reference_count(r); i += o->stride) {
            sl_reference_row(r, chunk, i, log_p);
            sl_reference_row(&other, chunk, i, log_q);
            for (uint32_t k = 0; k < r->vocab; k++) {
                if (isinf(log_q[k]))
                    log_p[k] = -INFINITY; /* compare what both files know */
            }
            add(&t, r, i, sl_reference_kl(log_p, log_q, r->vocab, &same_top), same_top);
        }
    }
    print_tally(&t);
    sl_reference_close(&other);
    sl_free(log_p);
    sl_free(log_q);
}

/* --- a golden file ------------------------------------------------------------------------ */

static void print_golden_row(float *log_p, uint32_t vocab, uint32_t position)
{
    printf("position %u\n", position);
    for (int n = 0; n < GOLDEN_TOP; n++) {
        uint32_t top = 0;

        for (uint32_t t = 1; t < vocab; t++) {
            if (log_p[t] > log_p[top])
                top = t;
        }
        printf("%u %.4f\n", top, (double)log_p[top]);
        log_p[top] = -INFINITY;
    }
}

static void print_golden(const sl_reference *r, const options *o)
{
    const uint32_t count = sl_reference_count(r);
    const uint32_t n = o->golden < count ? o->golden : count;
    float *log_p = sl_xalloc(r->vocab, sizeof(float));

    printf("tokens %u\n", r->n_ctx);
    for (uint32_t i = 0; i < r->n_ctx; i++)
        printf("%d\n", r->token[i]);
    printf("positions %u\n", n);
    for (uint32_t k = 0; k < n; k++) {
        const uint32_t i = (count - 1) * k / (n > 1 ? n - 1 : 1);

        sl_reference_row(r, 0, i, log_p);
        print_golden_row(log_p, r->vocab, sl_reference_first(r) + i);
    }
    sl_free(log_p);
}

static uint32_t number(const char *text)
{
    char *end;
    const unsigned long n = strtoul(text, &end, 10);

    if (*end != '\0' || n == 0 || n > 1u << 20)
        die("numbers are 1 .. 1048576", NULL);
    return (uint32_t)n;
}

static void set_option(options *o, const char *name, const char *value)
{
    if (strcmp(name, "--model") == 0)
        o->model = value;
    else if (strcmp(name, "--peer") == 0)
        o->peer = value;
    else if (strcmp(name, "--ops") == 0)
        o->ops = value;
    else if (strcmp(name, "--threads") == 0)
        o->threads = number(value);
    else if (strcmp(name, "--step") == 0)
        o->step = number(value);
    else if (strcmp(name, "--chunks") == 0)
        o->chunks = number(value);
    else if (strcmp(name, "--stride") == 0)
        o->stride = number(value);
    else if (strcmp(name, "--golden") == 0)
        o->golden = number(value);
    else
        die("unknown option (the top of kl.c says which there are)", NULL);
}

int main(int argc, char **argv)
{
    options o = {.ops = "cpu", .threads = 1, .step = 128, .chunks = UINT32_MAX, .stride = 1};
    sl_reference r;
    sl_err err;

    if (argc < 4 || argc % 2 != 0)
        die("usage: sluice_kl REFERENCE --model FILE | --peer FILE | --golden N [options]", NULL);
    o.reference = argv[1];
    for (int i = 2; i < argc; i += 2)
        set_option(&o, argv[i], argv[i + 1]);
    if (sl_reference_open(o.reference, &r, &err) != SL_OK)
        die("the reference", &err);
    if (o.golden > 0)
        print_golden(&r, &o);
    else if (o.peer != NULL)
        compare_peer(&r, &o);
    else if (o.model != NULL)
        compare_model(&r, &o);
    else
        die("nothing to do: --model, --peer or --golden", NULL);
    sl_reference_close(&r);
    return 0;
}
