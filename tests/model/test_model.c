/* tests/model/test_model.c
 *
 * Goal: a model is what its file says: every tensor found, checked and packed without loss; the
 * plan's sizes are what loading takes; what does not fit is refused by name; failures leave
 * nothing. Method: tiny models whose bytes are changed in one place; a table of operations that
 * records what it was given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "model/model.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_gguf.h"

static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma3"};
enum { ARCHS = 4 };

static void make_file(const sl_tiny_options *o, sl_buf *file)
{
    sl_buf_init(file, 64u << 20);
    sl_tiny_gguf(o, file);
}

static sl_gguf *open_file(const sl_buf *file)
{
    sl_gguf *g = NULL;
    sl_err err;

    if (sl_gguf_open_memory(file->data, file->len, &g, &err) != SL_OK)
        fail_msg("%s", err.text);
    return g;
}

/* --- the plan ----------------------------------------------------------------------------- */

static void the_plan_is_known_before_loading(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARCHS; i++) {
        sl_tiny_options o = sl_tiny_defaults(archs[i]);
        sl_model_load_args args = {.ops = sl_ops_ref(), .threads = 1};
        sl_model_config config;
        sl_model_plan plan;
        sl_model *model = NULL;
        sl_buf file;

        make_file(&o, &file);
        args.file = open_file(&file);
        assert_int_equal(sl_model_plan_read(args.file, args.ops, &config, &plan, NULL), SL_OK);
        assert_string_equal(config.arch, archs[i]);
        assert_int_equal(plan.kv_plane_bytes,
                         64 * config.chunk_layers * config.kv_heads * config.head_dim / 2);
        assert_int_equal(plan.kv_bytes_per_page, 8 * plan.kv_plane_bytes * config.chunk_count);
        assert_int_equal(sl_model_load(&args, &model, NULL), SL_OK);
        assert_memory_equal(sl_model_get_plan(model), &plan, sizeof(plan));
        assert_memory_equal(sl_model_get_config(model), &config, sizeof(config));
        assert_ptr_equal(sl_model_get_ops(model), args.ops);
        sl_model_destroy(model);
        sl_gguf_close((sl_gguf *)(uintptr_t)args.file);
        sl_buf_done(&file);
    }
}

/* F32 weights as the twins keep them: the sum can be done by hand. */
static void weight_bytes_are_those_of_the_tensors(void **state)
{
    const sl_tiny_options o = sl_tiny_defaults("llama"); /* 3 layers, 64, 128, heads 4/2 of 16 */
    const size_t layer = 4 * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 128 * 64 + 2 * 64);
    const size_t want = 4 * 384 * 64 + 3 * layer + 4 * 64 + 2 * 64; /* and two tables of 8 */
    sl_model_config config;
    sl_model_plan plan;
    sl_buf file;
    sl_gguf *g;
    (void)state;

    make_file(&o, &file);
    g = open_file(&file);
    assert_int_equal(sl_model_plan_read(g, sl_ops_ref(), &config, &plan, NULL), SL_OK);
    assert_int_equal(plan.weight_bytes, want);
    sl_gguf_close(g);
    sl_buf_done(&file);
}

/* --- packing ------------------------------------------------------------------------------ */

/* Rows packed, all in all; pieces that do not begin at a multiple of 64. */
static atomic_uint packed_rows, bad_pieces;

static void counting_pack(const sl_weight *w, const void *src, uint32_t row_first,
                          uint32_t row_count)
{
    if (row_first % 64 != 0 || (row_count % 64 != 0 && row_first + row_count != w->rows) ||
        (uintptr_t)w->data % 64 != 0)
        atomic_fetch_add(&bad_pieces, 1);
    atomic_fetch_add(&packed_rows, row_count);
    sl_ops_ref()->weight_pack(w, src, row_first, row_count);
}

typedef struct progress_log {
    size_t last, all;
    bool fell; /* it went back */
} progress_log;

static void log_progress(size_t done_bytes, size_t all_bytes, void *user)
{
    progress_log *log = user;

    log->fell |= done_bytes < log->last || done_bytes > all_bytes;
    log->last = done_bytes;
    log->all = all_bytes;
}

static void every_row_is_packed_once_by_any_number_of_threads(void **state)
{
    static const uint32_t threads[] = {1, 2, 5, 0};
    sl_tiny_options o = sl_tiny_defaults("qwen2");
    sl_ops ops = *sl_ops_ref();
    sl_buf file;
    sl_gguf *g;
    (void)state;

    o.hidden = 512; /* large enough for several pieces a tensor */
    o.ff = 1200;
    make_file(&o, &file);
    g = open_file(&file);
    ops.weight_pack = counting_pack;
    for (uint32_t i = 0; i < 4; i++) {
        progress_log log = {0};
        const sl_model_load_args args = {
            .file = g, .ops = &ops, .threads = threads[i], .progress = log_progress, .user = &log};
        sl_model *model = NULL;

        atomic_store(&packed_rows, 0);
        atomic_store(&bad_pieces, 0);
        assert_int_equal(sl_model_load(&args, &model, NULL), SL_OK);
        assert_int_equal(atomic_load(&packed_rows),
                         2 * 384 + 3 * (64 + 2 * 32 + 512 + 2 * 1200 + 512));
        assert_int_equal(atomic_load(&bad_pieces), 0);
        assert_false(log.fell);
        assert_int_equal(log.last, log.all);
        assert_true(log.all > 0 && log.all <= sl_model_get_plan(model)->weight_bytes);
        sl_model_destroy(model);
    }
    sl_gguf_close(g);
    sl_buf_done(&file);
}

/* The file may be closed and its bytes spoilt after loading. */
static void a_model_outlives_its_file(void **state)
{
    const sl_tiny_options o = sl_tiny_defaults("llama");
    const uint32_t token[5] = {5, 6, 7, 8, 9};
    float first[5][SL_TINY_VOCAB], then[5][SL_TINY_VOCAB];
    sl_buf file;
    sl_gguf *g;
    sl_rig rig;
    (void)state;

    make_file(&o, &file);
    g = open_file(&file);
    assert_int_equal(sl_rig_init(&rig,
                                 &(sl_rig_options){.file = g,
                                                   .ops = sl_ops_ref(),
                                                   .seqs = 1,
                                                   .positions = 64,
                                                   .rows_max = 8,
                                                   .logit_rows_max = 8},
                                 NULL),
                     SL_OK);
    assert_int_equal(sl_rig_feed(&rig, 0, 0, token, 5, 5, first[0]), SL_OK);
    sl_gguf_close(g);
    memset(file.data, 0xFF, file.len);
    sl_buf_done(&file);
    assert_int_equal(sl_rig_feed(&rig, 0, 0, token, 5, 5, then[0]), SL_OK);
    assert_memory_equal(first, then, sizeof(first));
    sl_rig_done(&rig);
}

/* --- refusals ----------------------------------------------------------------------------- */

/* Rename a tensor (or key) in the file's bytes; both names have one length. */
static void rename_in(sl_buf *file, const char *from, const char *to)
{
    char *at = memmem(file->data, file->len, from, strlen(from));

    assert_int_equal(strlen(from), strlen(to));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
}

/* The first dimension of a tensor, or its type id, in the file's directory. */
static void poke_dim(sl_buf *file, const char *name, uint32_t dim, uint64_t value)
{
    char *at = memmem(file->data, file->len, name, strlen(name));

    assert_non_null(at);
    memcpy(at + strlen(name) + 4 + 8 * (size_t)dim, &value, sizeof(value));
}

static void assert_plan_refused(const sl_buf *file, sl_status want, const char *word)
{
    sl_model_config config;
    sl_model_plan plan = {.weight_bytes = 77};
    sl_err err = {.text = ""};
    sl_gguf *g = open_file(file);
    const sl_status status = sl_model_plan_read(g, sl_ops_ref(), &config, &plan, &err);

    if (status != want || strstr(err.text, word) == NULL)
        fail_msg("want %s with '%s', got %s: %s", sl_status_name(want), word,
                 sl_status_name(status), err.text);
    assert_int_equal(plan.weight_bytes, 77);
    sl_gguf_close(g);
}

static void every_missing_tensor_is_named(void **state)
{
    static const char *const names[][2] = {
        {"llama", "token_embd.weight"},
        {"llama", "output_norm.weight"},
        {"llama", "blk.0.attn_norm.weight"},
        {"llama", "blk.1.attn_q.weight"},
        {"llama", "blk.2.attn_k.weight"},
        {"llama", "blk.0.attn_v.weight"},
        {"llama", "blk.0.attn_output.weight"},
        {"llama", "blk.0.ffn_norm.weight"},
        {"llama", "blk.0.ffn_gate.weight"},
        {"llama", "blk.0.ffn_up.weight"},
        {"llama", "blk.2.ffn_down.weight"},
        {"qwen2", "blk.0.attn_q.bias"},
        {"qwen2", "blk.1.attn_k.bias"},
        {"qwen2", "blk.2.attn_v.bias"},
        {"qwen3", "blk.0.attn_q_norm.weight"},
        {"qwen3", "blk.0.attn_k_norm.weight"},
        {"gemma3", "blk.0.post_attention_norm.weight"},
        {"gemma3", "blk.6.post_ffw_norm.weight"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const sl_tiny_options o = sl_tiny_defaults(names[i][0]);
        char other[64];
        sl_buf file;

        make_file(&o, &file);
        strcpy(other, names[i][1]);
        other[strlen(other) - 1] = '?';
        rename_in(&file, names[i][1], other);
        assert_plan_refused(&file, SL_EFORMAT, names[i][1]);
        sl_buf_done(&file);
    }
}

static void a_tensor_of_another_shape_is_named_with_both(void **state)
{
    const sl_tiny_options o = sl_tiny_defaults("llama");
    sl_buf file;
    (void)state;

    make_file(&o, &file);
    poke_dim(&file, "blk.1.ffn_gate.weight", 1, 127);
    assert_plan_refused(&file, SL_EFORMAT, "'blk.1.ffn_gate.weight' is 64 x 127");
    assert_plan_refused(&file, SL_EFORMAT, "should be 64 x 128");
    sl_buf_done(&file);

    make_file(&o, &file);
    poke_dim(&file, "blk.0.attn_norm.weight", 0, 63);
    assert_plan_refused(&file, SL_EFORMAT, "'blk.0.attn_norm.weight'");
    sl_buf_done(&file);
}

static void a_tensor_without_a_place_is_refused(void **state)
{
    const sl_tiny_options o = sl_tiny_defaults("qwen3");
    sl_buf file;
    (void)state;

    make_file(&o, &file);
    rename_in(&file, "qwen3", "llama"); /* general.architecture: but the keys stay qwen3's */
    assert_plan_refused(&file, SL_EFORMAT, "llama.block_count");
    for (char *at = file.data; (at = memmem(at, file.len - (size_t)(at - file.data), "qwen3", 5));)
        memcpy(at, "llama", 5);
    /* Now it is a llama with norms on the heads, which llamas do not have. */
    assert_plan_refused(&file, SL_EUNSUPPORTED, "attn_q_norm.weight");
    sl_buf_done(&file);
}

/* A type that GGUF knows and we do not (IQ2_XXS is 16), and a block that does not fit the row. */
static void a_weight_that_no_table_holds_is_refused(void **state)
{
    const sl_tiny_options o = sl_tiny_defaults("llama");
    const char *name = "blk.1.attn_v.weight";
    const uint32_t type = 16;
    sl_weight w = {.dtype = SL_DTYPE_Q4_K, .rows = 8, .cols = 64};
    sl_buf file;
    char *at;
    (void)state;

    make_file(&o, &file);
    at = memmem(file.data, file.len, name, strlen(name));
    assert_non_null(at);
    memcpy(at + strlen(name) + 4 + 16, &type, sizeof(type)); /* behind two dimensions */
    assert_plan_refused(&file, SL_EUNSUPPORTED, name);
    assert_int_equal(sl_ops_ref()->weight_plan(&w, NULL), SL_EUNSUPPORTED);
    sl_buf_done(&file);
}

/* A file with the factors, made by renaming a bias: first of the wrong length, then with values
 * that are none, then right, so that only the bias is missed. */
static void rope_factors_must_be_sane(void **state)
{
    const sl_tiny_options o = sl_tiny_defaults("qwen2"); /* heads of 16: 8 factors */
    sl_gguf *g;
    float *factor;
    sl_buf file;
    (void)state;

    make_file(&o, &file);
    rename_in(&file, "blk.2.attn_q.bias", "rope_freqs.weight");
    assert_plan_refused(&file, SL_EFORMAT, "no vector of 8");
    poke_dim(&file, "rope_freqs.weight", 0, 8);
    g = open_file(&file);
    factor = (float *)(uintptr_t)sl_gguf_find_tensor(g, "rope_freqs.weight")->data;
    sl_gguf_close(g); /* the bytes are the buffer's */
    for (uint32_t i = 0; i < 8; i++)
        factor[i] = 1.0f + (float)i;
    factor[3] = 0.0f;
    assert_plan_refused(&file, SL_EFORMAT, "'rope_freqs.weight' has 0 at 3");
    factor[3] = -1.0f;
    assert_plan_refused(&file, SL_EFORMAT, "'rope_freqs.weight' has -1 at 3");
    factor[3] = 2.0f;
    assert_plan_refused(&file, SL_EFORMAT, "'blk.2.attn_q.bias'");
    sl_buf_done(&file);
}

/* --- hostile files ------------------------------------------------------------------------ */

/* Whatever a damaged directory says, planning and loading end in an answer.  (The sanitizers see
 * what else they might do.) */
static void damaged_files_get_an_answer(void **state)
{
    sl_rng rng = {.seed = 11};
    uint32_t loaded = 0, refused = 0;
    (void)state;

    for (uint32_t i = 0; i < ARCHS; i++) {
        const sl_tiny_options o = sl_tiny_defaults(archs[i]);
        const char *last;
        size_t directory;
        sl_buf file;

        make_file(&o, &file);
        last = memmem(file.data, file.len, "output_norm.weight", 18);
        assert_non_null(last);
        directory = (size_t)(last - file.data) + 40;
        for (uint32_t n = 0; n < 1500; n++) {
            const size_t at = sl_rng_below(&rng, directory);
            const uint8_t bit = (uint8_t)(1u << sl_rng_below(&rng, 8));
            sl_model_load_args args = {.ops = sl_ops_ref(), .threads = 1};
            sl_model *model = NULL;
            sl_gguf *g = NULL;

            file.data[at] = (char)((uint8_t)file.data[at] ^ bit);
            if (sl_gguf_open_memory(file.data, file.len, &g, NULL) == SL_OK) {
                args.file = g;
                if (sl_model_load(&args, &model, NULL) == SL_OK)
                    loaded++;
                else
                    refused++;
            }
            sl_model_destroy(model);
            sl_gguf_close(g);
            file.data[at] = (char)((uint8_t)file.data[at] ^ bit);
        }
        sl_buf_done(&file);
    }
    assert_true(loaded > 0 && refused > 0); /* both ways were gone */
}

/* --- running out of memory ---------------------------------------------------------------- */

static void running_out_of_memory_leaves_nothing(void **state)
{
    const sl_tiny_options o = sl_tiny_defaults("gemma3");
    sl_model_load_args args = {.ops = sl_ops_ref(), .threads = 1};
    sl_model *model = NULL;
    sl_status status = SL_ENOMEM;
    sl_buf file;
    sl_gguf *g;
    uint64_t n;
    (void)state;

    make_file(&o, &file);
    g = open_file(&file);
    args.file = g;
    for (n = 1; status != SL_OK; n++) {
        sl_err err = {.text = ""};

        assert_true(n < 100);
        sl_alloc_fail_at(n);
        status = sl_model_load(&args, &model, &err);
        sl_alloc_fail_at(0);
        if (status == SL_OK)
            break;
        assert_int_equal(status, SL_ENOMEM);
        assert_null(model);
        assert_true(err.text[0] != '\0');
    }
    assert_true(n >= 3); /* the walk did reach the failures: model, binding */
    sl_model_destroy(model);
    sl_model_destroy(NULL);
    sl_gguf_close(g);
    sl_buf_done(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_is_known_before_loading),
        cmocka_unit_test(weight_bytes_are_those_of_the_tensors),
        cmocka_unit_test(every_row_is_packed_once_by_any_number_of_threads),
        cmocka_unit_test(a_model_outlives_its_file),
        cmocka_unit_test(every_missing_tensor_is_named),
        cmocka_unit_test(a_tensor_of_another_shape_is_named_with_both),
        cmocka_unit_test(a_tensor_without_a_place_is_refused),
        cmocka_unit_test(a_weight_that_no_table_holds_is_refused),
        cmocka_unit_test(rope_factors_must_be_sane),
        cmocka_unit_test(damaged_files_get_an_answer),
        cmocka_unit_test(running_out_of_memory_leaves_nothing),
    };
    return cmocka_run_group_tests_name("model/model", tests, NULL, NULL);
}
