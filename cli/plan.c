/* cli/plan.c - see plan.h */
#include "cli/plan.h"

#include <stdio.h>
#include <string.h>

#include "quant/kvpage.h"

#define GIB ((size_t)1 << 30)

enum { SPACES = 2 }; /* activation spaces: one a lane */

const char *sl_size_text(size_t bytes, char text[32])
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;

    while (v >= 1024.0 && u < 4) {
        v /= 1024.0;
        u++;
    }
    snprintf(text, 32, u == 0 ? "%.0f %s" : "%.2f %s", v, unit[u]);
    return text;
}

/* --- what is there ------------------------------------------------------------------------- */

/* The first number of a file, or SIZE_MAX ("max", no such file). */
static size_t number_of(const char *path)
{
    unsigned long long v;
    FILE *f = fopen(path, "re");
    size_t out = SIZE_MAX;

    if (f == NULL)
        return out;
    if (fscanf(f, "%llu", &v) == 1)
        out = (size_t)v;
    fclose(f);
    return out;
}

static size_t mem_available(void)
{
    char line[160];
    unsigned long long kib;
    size_t out = SIZE_MAX;
    FILE *f = fopen("/proc/meminfo", "re");

    if (f == NULL)
        return out;
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            out = (size_t)kib * 1024;
    fclose(f);
    return out;
}

size_t sl_available_bytes(void)
{
    const size_t machine = mem_available();
    const size_t limit = number_of("/sys/fs/cgroup/memory.max");
    const size_t used = number_of("/sys/fs/cgroup/memory.current");
    size_t group;

    if (limit == SIZE_MAX || used == SIZE_MAX)
        return machine;
    group = limit > used ? limit - used : 0;
    return group < machine ? group : machine;
}

/* --- the plan ------------------------------------------------------------------------------ */

static size_t pages_of(size_t tokens)
{
    return (tokens + SL_PAGE_TOKENS - 1) / SL_PAGE_TOKENS;
}

/* Two spaces of fp32 rows and logits, about as the forward pass lays them out. */
static size_t activations(const sl_model_config *m, size_t rows, size_t logit_rows)
{
    const size_t width = 2 * (size_t)m->hidden + (size_t)m->heads * m->head_dim +
                         2 * (size_t)m->kv_heads * m->head_dim + 2 * (size_t)m->ff +
                         (m->ff > m->hidden ? m->ff : m->hidden);

    return SPACES * (rows * width + logit_rows * m->vocab) * sizeof(float);
}

/* Pages of the KV cache, if nobody said how many bytes. */
static size_t default_pages(const sl_config *c, size_t page_bytes, size_t context, size_t left)
{
    size_t pages = pages_of(context) * c->max_num_seqs;
    size_t cap = GIB / page_bytes;

    if (c->max_model_len != 0 && cap < pages_of(context))
        cap = pages_of(context);
    if (pages > cap)
        pages = cap;
    if (pages > left / 2 / page_bytes)
        pages = left / 2 / page_bytes;
    return pages > 0 ? pages : 1;
}

static sl_status check_fit(const sl_serve_plan *p, sl_err *err)
{
    const size_t sum = p->weight_bytes + p->activation_bytes + p->kv_bytes;
    char need[32], have[32], weights[32], kv[32], work[32];

    if (sum <= p->available_bytes)
        return SL_OK;
    return sl_fail(err, SL_ENOMEM,
                   "it needs %s (weights %s, KV cache %s, activations %s), but %s are available: "
                   "lower --kv-cache-bytes, --max-num-seqs or --max-num-batched-tokens, or serve "
                   "a smaller model",
                   sl_size_text(sum, need), sl_size_text(p->weight_bytes, weights),
                   sl_size_text(p->kv_bytes, kv), sl_size_text(p->activation_bytes, work),
                   sl_size_text(p->available_bytes, have));
}

sl_status sl_serve_plan_make(const sl_config *config, const sl_model_config *model,
                             const sl_model_plan *weights, size_t available_bytes,
                             sl_serve_plan *out, sl_err *err)
{
    const size_t page_bytes = weights->kv_bytes_per_page;
    const size_t page_planes = page_bytes / weights->kv_plane_bytes;
    const uint32_t wanted = config->max_model_len != 0 && config->max_model_len < model->context
                                ? config->max_model_len
                                : model->context;
    sl_serve_plan p = {.available_bytes = available_bytes, .weight_bytes = weights->weight_bytes};
    char text[32];
    size_t taken, pages;

    p.batch_rows = config->max_num_batched_tokens;
    p.activation_bytes = activations(model, p.batch_rows, config->max_num_seqs);
    taken = p.weight_bytes + p.activation_bytes;
    if (config->kv_cache_bytes != 0)
        pages = (size_t)config->kv_cache_bytes / page_bytes;
    else
        pages = default_pages(config, page_bytes, wanted,
                              available_bytes > taken ? available_bytes - taken : 0);
    if (pages > ((size_t)1 << 24) / page_planes)
        pages = ((size_t)1 << 24) / page_planes;
    if (pages == 0)
        return sl_fail(err, SL_EINVAL,
                       "--kv-cache-bytes: %llu is less than one page of %u tokens (%s)",
                       (unsigned long long)config->kv_cache_bytes, SL_PAGE_TOKENS,
                       sl_size_text(page_bytes, text));
    p.kv_pages = (uint32_t)pages;
    p.plane_count = (uint32_t)(pages * page_planes);
    p.kv_bytes = pages * page_bytes;
    p.context_max = pages * SL_PAGE_TOKENS < wanted ? (uint32_t)(pages * SL_PAGE_TOKENS) : wanted;
    if (p.context_max < wanted)
        snprintf(p.note, sizeof(p.note),
                 "the context is %u tokens, not %u: the KV cache of %s holds no more (see "
                 "--kv-cache-bytes)",
                 p.context_max, wanted, sl_size_text(p.kv_bytes, text));
    else if (config->max_model_len > wanted)
        snprintf(p.note, sizeof(p.note),
                 "the context is %u tokens, not %u: the model was made for no more", wanted,
                 config->max_model_len);
    if (check_fit(&p, err) != SL_OK)
        return SL_ENOMEM;
    *out = p;
    return SL_OK;
}
