/* cli/inspect.c - `sluice inspect FILE`: what is in a model file, and what memory it will take. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "kernels/kernels.h"
#include "model/gguf.h"
#include "model/model.h"

static void usage(FILE *f)
{
    fprintf(
        f, "usage: sluice inspect [--metadata] [--tensors] FILE\n"
           "\n"
           "Show what a GGUF file holds: architecture, sizes, number formats, and the memory that\n"
           "serving it will take.\n"
           "\n"
           "  --metadata   every metadata entry\n"
           "  --tensors    every tensor: name, type, shape, bytes, offset\n");
}

/* "1.24 GB" and the like, for people. */
static const char *size_text(size_t bytes, char text[32])
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    int u = 0;

    while (v >= 1000.0 && u < 4) {
        v /= 1000.0;
        u++;
    }
    snprintf(text, 32, u == 0 ? "%.0f %s" : "%.2f %s", v, unit[u]);
    return text;
}

static const char *type_text(const sl_gguf_tensor *t, char text[32])
{
    const char *name = sl_dtype_gguf_name(t->type_id);

    if (name == NULL)
        snprintf(text, 32, "type %u", t->type_id);
    else
        snprintf(text, 32, "%s", name);
    return text;
}

static void print_metadata(const sl_gguf *g)
{
    printf("\nmetadata\n");
    for (uint32_t i = 0; i < sl_gguf_kv_count(g); i++) {
        const sl_gguf_kv kv = sl_gguf_kv_at(g, i);
        char text[256];

        sl_gguf_kv_text(g, i, text, sizeof(text));
        for (char *p = text; *p != '\0'; p++)
            if ((unsigned char)*p < 0x20)
                *p = ' ';
        printf("  %-46.*s %s\n", (int)kv.key.len, kv.key.data, text);
    }
}

static void print_tensors(const sl_gguf *g)
{
    printf("\ntensors\n");
    for (uint32_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
        char shape[96], type[32];
        int n = 0;

        for (uint32_t d = t->dim_count; d-- > 0;)
            n += snprintf(shape + n, sizeof(shape) - (size_t)n, "%s%" PRIu64,
                          d + 1 == t->dim_count ? "" : " x ", t->dim[d]);
        printf("  %-40.*s %-8s %-18s %12zu bytes at %" PRIu64 "\n", (int)t->name.len, t->name.data,
               type_text(t, type), shape, t->bytes, t->offset);
    }
}

/* Parameters and bytes by number format. */
static void print_types(const sl_gguf *g)
{
    printf("tensors        %u\n", sl_gguf_tensor_count(g));
    for (uint32_t id = 0; id < 64; id++) {
        uint64_t elements = 0;
        uint32_t count = 0;
        size_t bytes = 0;
        char type[32], size[32];

        for (uint32_t i = 0; i < sl_gguf_tensor_count(g); i++) {
            const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
            uint64_t n = 1;

            if (t->type_id != id)
                continue;
            for (uint32_t d = 0; d < t->dim_count; d++)
                n *= t->dim[d];
            elements += n;
            bytes += t->bytes;
            count++;
        }
        if (count > 0)
            printf("  %-12s %4u tensors %14" PRIu64 " weights %12s\n",
                   type_text(&(sl_gguf_tensor){.type_id = id}, type), count, elements,
                   size_text(bytes, size));
    }
}

static void print_config(const sl_model_config *c)
{
    uint32_t local = 0;

    for (uint32_t l = 0; l < c->layer_count; l++)
        local += c->layer[l].window != 0;
    printf("architecture   %s\n", c->arch);
    printf("name           %s\n", c->name);
    printf("layers         %u", c->layer_count);
    if (local > 0)
        printf(" (%u with a sliding window of %u tokens)", local,
               c->layer[0].window != 0 ? c->layer[0].window : 0);
    printf("\nhidden         %u, feed-forward %u\n", c->hidden, c->ff);
    printf("attention      %u query heads, %u KV heads, %u wide\n", c->heads, c->kv_heads,
           c->head_dim);
    printf("vocabulary     %u, %s head\n", c->vocab, c->tied_head ? "tied" : "separate");
    printf("context        %u tokens\n", c->context);
}

static int print_plan(const sl_gguf *g)
{
    static sl_model_config config;
    const sl_ops *ops = sl_ops_cpu(NULL);
    sl_model_plan plan;
    sl_err err = {0};
    char text[32];

    if (ops == NULL)
        ops = sl_ops_ref();
    if (sl_model_plan_read(g, ops, &config, &plan, &err) != SL_OK) {
        printf("\nsluice cannot serve this file: %s\n", err.text);
        return 1;
    }
    print_config(&config);
    printf("\nto serve it on this machine's CPU (%s)\n", ops->name);
    printf("  weights      %s\n", size_text(plan.weight_bytes, text));
    printf("  KV cache     %s a page of %u tokens (f16)", size_text(plan.kv_bytes_per_page, text),
           SL_PAGE_TOKENS);
    printf(
        ", %s for a whole context\n",
        size_text(plan.kv_bytes_per_page * ((config.context + SL_PAGE_TOKENS - 1) / SL_PAGE_TOKENS),
                  text));
    return 0;
}

int sl_cli_inspect(int argc, char **argv)
{
    static const struct option options[] = {
        {"metadata", no_argument, NULL, 'm'},
        {"tensors", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool metadata = false, tensors = false;
    sl_gguf *g = NULL;
    sl_err err = {0};
    char text[32];
    int c, rc;

    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c == 'h') {
            usage(stdout);
            return 0;
        }
        if (c == '?') {
            usage(stderr);
            return 2;
        }
        metadata |= c == 'm';
        tensors |= c == 't';
    }
    if (optind + 1 != argc) {
        fprintf(stderr, "sluice inspect: name one model file\n");
        usage(stderr);
        return 2;
    }
    if (sl_gguf_open(argv[optind], &g, &err) != SL_OK) {
        fprintf(stderr, "sluice inspect: %s\n", err.text);
        return 1;
    }
    printf("file           %s (%s)\n", argv[optind], size_text(sl_gguf_file_bytes(g), text));
    print_types(g);
    rc = print_plan(g);
    if (metadata)
        print_metadata(g);
    if (tensors)
        print_tensors(g);
    sl_gguf_close(g);
    return rc;
}
