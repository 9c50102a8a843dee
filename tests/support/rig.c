/* tests/support/rig.c - see rig.h */
#include "tests/support/rig.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/rng.h"
#include "base/threads.h"
#include "kernels/team.h"

enum { MEMBERS_MAX = 16, FEED_ROWS_MAX = 4096 };

sl_kv_page *sl_rig_page(sl_rig *rig, uint32_t seq, uint32_t chunk, uint32_t page)
{
    const uint32_t chunks = sl_model_get_config(rig->model)->chunk_count;

    return &rig->page[((size_t)seq * chunks + chunk) * rig->pages + page];
}

const sl_kv_page *const *sl_rig_tables(const sl_rig *rig, uint32_t seq)
{
    return rig->table + (size_t)seq * sl_model_get_config(rig->model)->chunk_count;
}

/* Deal the planes out in a shuffled order. */
static void deal_planes(sl_rig *rig, uint32_t *order, uint32_t count)
{
    const uint32_t chunks = sl_model_get_config(rig->model)->chunk_count;
    sl_rng rng = {.seed = 7};

    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t k = (uint32_t)sl_rng_below(&rng, i);
        const uint32_t swap = order[i - 1];

        order[i - 1] = order[k];
        order[k] = swap;
    }
    for (uint32_t i = 0; i < count / SL_PAGE_PLANES_MAX; i++) {
        rig->page[i].tier = SL_KV_F16;
        memcpy(rig->page[i].plane, order + (size_t)i * SL_PAGE_PLANES_MAX,
               sizeof(rig->page[i].plane));
    }
    for (uint32_t i = 0; i < rig->seqs * chunks; i++)
        rig->table[i] = rig->page + (size_t)i * rig->pages;
}

static sl_status take_memory(sl_rig *rig, const sl_rig_options *o, sl_err *err)
{
    const sl_model_config *c = sl_model_get_config(rig->model);
    const sl_model_plan *plan = sl_model_get_plan(rig->model);
    uint32_t *order;
    uint32_t planes;

    rig->seqs = o->seqs;
    rig->members = o->members == 0 ? 1 : o->members;
    rig->pages = (o->positions + SL_PAGE_TOKENS - 1) / SL_PAGE_TOKENS;
    planes = rig->seqs * c->chunk_count * rig->pages * SL_PAGE_PLANES_MAX;
    rig->planes_bytes = planes * plan->kv_plane_bytes;
    rig->memory_bytes =
        sl_forward_space_bytes(rig->model, o->rows_max, o->logit_rows_max, o->seqs, rig->members);
    rig->scratch_bytes = (sl_model_scratch_bytes(rig->model) + 63) & ~(size_t)63;
    rig->kv = (sl_kv_store){.planes = sl_alloc_pages(rig->planes_bytes),
                            .plane_bytes = plan->kv_plane_bytes,
                            .chunk_layers = c->chunk_layers,
                            .kv_heads = c->kv_heads,
                            .head_dim = c->head_dim};
    rig->memory = sl_alloc_pages(rig->memory_bytes);
    rig->scratch = sl_alloc_pages(rig->scratch_bytes * rig->members);
    rig->page = sl_alloc(planes / SL_PAGE_PLANES_MAX, sizeof(*rig->page));
    rig->table = sl_alloc((size_t)rig->seqs * c->chunk_count, sizeof(*rig->table));
    order = sl_alloc(planes, sizeof(*order));
    if (rig->kv.planes == NULL || rig->memory == NULL || rig->scratch == NULL ||
        rig->page == NULL || rig->table == NULL || order == NULL) {
        sl_free(order);
        return sl_fail(err, SL_ENOMEM, "no memory for the rig");
    }
    deal_planes(rig, order, planes);
    sl_free(order);
    sl_forward_space_init(rig->model, o->rows_max, o->logit_rows_max, o->seqs, rig->members,
                          rig->memory, &rig->space);
    return SL_OK;
}

sl_status sl_rig_init(sl_rig *rig, const sl_rig_options *options, sl_err *err)
{
    const sl_model_load_args load = {.file = options->file, .ops = options->ops};
    sl_status status;

    memset(rig, 0, sizeof(*rig));
    status = sl_model_load(&load, &rig->model, err);
    if (status == SL_OK)
        status = take_memory(rig, options, err);
    if (status != SL_OK)
        sl_rig_done(rig);
    return status;
}

void sl_rig_done(sl_rig *rig)
{
    if (rig->kv.planes != NULL)
        sl_free_pages(rig->kv.planes, rig->planes_bytes);
    if (rig->memory != NULL)
        sl_free_pages(rig->memory, rig->memory_bytes);
    if (rig->scratch != NULL)
        sl_free_pages(rig->scratch, rig->scratch_bytes * rig->members);
    sl_free(rig->page);
    sl_free(rig->table);
    sl_model_destroy(rig->model);
    memset(rig, 0, sizeof(*rig));
}

void sl_rig_share(sl_rig *rig, uint32_t seq, uint32_t from, uint32_t pages)
{
    const uint32_t chunks = sl_model_get_config(rig->model)->chunk_count;

    for (uint32_t chunk = 0; chunk < chunks; chunk++)
        memcpy(sl_rig_page(rig, seq, chunk, 0), sl_rig_page(rig, from, chunk, 0),
               pages * sizeof(sl_kv_page));
}

void sl_rig_fill(sl_rig *rig, uint8_t byte)
{
    memset(rig->kv.planes, byte, rig->planes_bytes);
}

typedef struct member {
    const sl_forward_args *args;
    sl_stream stream;
    sl_thread thread;
    sl_status status;
} member;

static void run_member(void *user)
{
    member *m = user;

    m->status = sl_model_forward(m->args, &m->stream);
}

sl_status sl_rig_forward(sl_rig *rig, sl_forward_args args)
{
    member all[MEMBERS_MAX];
    sl_team team;
    sl_status status;

    args.model = rig->model;
    args.kv = &rig->kv;
    args.space = &rig->space;
    memset(all, 0, sizeof(all));
    sl_team_init(&team, rig->members);
    for (uint32_t i = 0; i < rig->members; i++) {
        all[i].args = &args;
        sl_stream_init(&all[i].stream, &team, i, rig->scratch + rig->scratch_bytes * i,
                       rig->scratch_bytes);
    }
    for (uint32_t i = 1; i < rig->members; i++) {
        status = sl_thread_start(&all[i].thread, "member", -1, run_member, &all[i]);
        SL_ASSERT(status == SL_OK); /* the others would wait for it for ever */
    }
    run_member(&all[0]);
    status = all[0].status;
    for (uint32_t i = 1; i < rig->members; i++) {
        sl_thread_join(&all[i].thread);
        if (all[i].status != status)
            status = SL_EINTERNAL; /* members must agree */
    }
    return status;
}

sl_status sl_rig_feed(sl_rig *rig, uint32_t seq, uint32_t position, const uint32_t *token,
                      uint32_t count, uint32_t step, float *logits)
{
    const sl_model_config *c = sl_model_get_config(rig->model);
    uint32_t row[FEED_ROWS_MAX];

    for (uint32_t i = 0; i < FEED_ROWS_MAX; i++)
        row[i] = i;
    if (step == 0 || step > FEED_ROWS_MAX)
        return SL_EINVAL;
    for (uint32_t done = 0; done < count;) {
        const uint32_t rows = count - done < step ? count - done : step;
        const sl_forward_seq one = {
            .row_count = rows, .position = position + done, .chunk_pages = sl_rig_tables(rig, seq)};
        const sl_forward_args args = {.token = token + done,
                                      .rows = rows,
                                      .seq = &one,
                                      .seq_count = 1,
                                      .layer_end = c->layer_count,
                                      .logit_row = row,
                                      .logit_row_count = logits == NULL ? 0 : rows};
        const sl_status status = sl_rig_forward(rig, args);

        if (status != SL_OK)
            return status;
        if (logits != NULL)
            memcpy(logits + (size_t)done * c->vocab, rig->space.logits,
                   (size_t)rows * c->vocab * sizeof(float));
        done += rows;
    }
    return SL_OK;
}
