/* tests/model/test_config.c
 *
 * Goal: a file's metadata become the right config; what is missing, out of range, contradictory or
 * beyond the forward pass is refused, naming the key.
 * Method: files of a handful of keys, written here: a good base, and one change a case. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "model/config.h"

/* --- small files -------------------------------------------------------------------------- */

enum { U32 = 4, F32 = 6, BOOL = 7, STR = 8, ARR = 9, GONE = 100 }; /* GGUF's ids; GONE: leave out */

typedef struct entry {
    const char *key;
    int type;
    uint64_t u; /* U32, BOOL; ARR: the bits of a list of booleans, zeros beyond 64 */
    float f;
    const char *s;
    uint32_t count; /* ARR */
} entry;

typedef struct shape {
    const char *name;
    uint64_t cols, rows;
} shape;

enum { ENTRIES_MAX = 40, SHAPES_MAX = 4 };

typedef struct file {
    entry entry[ENTRIES_MAX];
    uint32_t entry_count;
    shape shape[SHAPES_MAX];
    uint32_t shape_count;
} file;

static void put(sl_buf *b, const void *p, size_t n)
{
    sl_buf_add(b, p, n);
}

static void put_u32(sl_buf *b, uint32_t v)
{
    put(b, &v, 4);
}

static void put_u64(sl_buf *b, uint64_t v)
{
    put(b, &v, 8);
}

static void put_str(sl_buf *b, const char *s)
{
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}

static void put_entry(sl_buf *b, const entry *e)
{
    put_str(b, e->key);
    put_u32(b, (uint32_t)e->type);
    if (e->type == U32)
        put_u32(b, (uint32_t)e->u);
    else if (e->type == F32)
        put(b, &e->f, 4);
    else if (e->type == BOOL)
        sl_buf_add_char(b, (char)e->u);
    else if (e->type == STR)
        put_str(b, e->s);
    else {
        put_u32(b, BOOL);
        put_u64(b, e->count);
        for (uint32_t i = 0; i < e->count; i++)
            sl_buf_add_char(b, (char)(i < 64 ? (e->u >> i) & 1 : 0));
    }
}

/* The bytes of a file; tensors are zeros. */
static void write_file(const file *f, sl_buf *b)
{
    uint32_t kept = 0;
    uint64_t offset = 0;

    for (uint32_t i = 0; i < f->entry_count; i++)
        kept += f->entry[i].type != GONE;
    sl_buf_add_str(b, "GGUF");
    put_u32(b, 3);
    put_u64(b, f->shape_count);
    put_u64(b, kept);
    for (uint32_t i = 0; i < f->entry_count; i++) {
        if (f->entry[i].type != GONE)
            put_entry(b, &f->entry[i]);
    }
    for (uint32_t i = 0; i < f->shape_count; i++) {
        put_str(b, f->shape[i].name);
        put_u32(b, 2);
        put_u64(b, f->shape[i].cols);
        put_u64(b, f->shape[i].rows);
        put_u32(b, 0); /* F32 */
        put_u64(b, offset);
        offset += (f->shape[i].cols * f->shape[i].rows * 4 + 31) & ~(uint64_t)31;
    }
    while (b->len % 32 != 0)
        sl_buf_add_char(b, 0);
    while (offset-- > 0)
        sl_buf_add_char(b, 0);
    assert_false(b->failed);
}

/* Replace the entry of that key, or add it. */
static void set(file *f, entry e)
{
    uint32_t i = 0;

    while (i < f->entry_count && strcmp(f->entry[i].key, e.key) != 0)
        i++;
    assert_true(i < ENTRIES_MAX);
    f->entry[i] = e;
    if (i == f->entry_count)
        f->entry_count++;
}

static void set_u32(file *f, const char *key, uint32_t v)
{
    set(f, (entry){.key = key, .type = U32, .u = v});
}

static void set_f32(file *f, const char *key, float v)
{
    set(f, (entry){.key = key, .type = F32, .f = v});
}

static void set_str(file *f, const char *key, const char *v)
{
    set(f, (entry){.key = key, .type = STR, .s = v});
}

static void drop(file *f, const char *key)
{
    set(f, (entry){.key = key, .type = GONE});
}

static file llama(void)
{
    file f = {.shape = {{"token_embd.weight", 64, 100}}, .shape_count = 1};

    set_str(&f, "general.architecture", "llama");
    set_u32(&f, "llama.block_count", 4);
    set_u32(&f, "llama.embedding_length", 64);
    set_u32(&f, "llama.feed_forward_length", 160);
    set_u32(&f, "llama.context_length", 2048);
    set_u32(&f, "llama.attention.head_count", 4);
    set_u32(&f, "llama.attention.head_count_kv", 2);
    set_f32(&f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    return f;
}

static file gemma(uint32_t layers)
{
    file f = {.shape = {{"token_embd.weight", 64, 100}}, .shape_count = 1};

    set_str(&f, "general.architecture", "gemma3");
    set_u32(&f, "gemma3.block_count", layers);
    set_u32(&f, "gemma3.embedding_length", 64);
    set_u32(&f, "gemma3.feed_forward_length", 160);
    set_u32(&f, "gemma3.context_length", 2048);
    set_u32(&f, "gemma3.attention.head_count", 4);
    set_u32(&f, "gemma3.attention.head_count_kv", 1);
    set_u32(&f, "gemma3.attention.key_length", 32);
    set_u32(&f, "gemma3.attention.value_length", 32);
    set_u32(&f, "gemma3.attention.sliding_window", 512);
    set_f32(&f, "gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
    set_f32(&f, "gemma3.rope.freq_base", 1e6f);
    return f;
}

static sl_status read_config(const file *f, sl_model_config *c, sl_err *err)
{
    sl_buf b;
    sl_gguf *g = NULL;
    sl_status status;

    sl_buf_init(&b, 1u << 20);
    write_file(f, &b);
    status = sl_gguf_open_memory(b.data, b.len, &g, err);
    if (status != SL_OK)
        fail_msg("the case itself is no file: %s", err->text);
    status = sl_model_config_read(g, c, err);
    sl_gguf_close(g);
    sl_buf_done(&b);
    return status;
}

static sl_model_config good_config(const file *f)
{
    sl_model_config c;
    sl_err err;

    if (read_config(f, &c, &err) != SL_OK)
        fail_msg("%s", err.text);
    return c;
}

/* The file is refused with this status, and the sentence has `word`; the config is untouched. */
static void assert_refused(const file *f, sl_status want, const char *word)
{
    sl_model_config c, before;
    sl_err err = {.text = ""};
    sl_status status;

    memset(&c, 0x5A, sizeof(c));
    before = c;
    status = read_config(f, &c, &err);
    if (status != want || strstr(err.text, word) == NULL)
        fail_msg("want %s with '%s', got %s: %s", sl_status_name(want), word,
                 sl_status_name(status), err.text);
    assert_memory_equal(&c, &before, sizeof(c));
}

/* --- what is read ------------------------------------------------------------------------- */

static void a_llama_has_these_values(void **state)
{
    const file f = llama();
    const sl_model_config c = good_config(&f);
    (void)state;

    assert_string_equal(c.arch, "llama");
    assert_string_equal(c.name, "llama");
    assert_int_equal(c.layer_count, 4);
    assert_int_equal(c.hidden, 64);
    assert_int_equal(c.ff, 160);
    assert_int_equal(c.heads, 4);
    assert_int_equal(c.kv_heads, 2);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.vocab, 100);
    assert_int_equal(c.context, 2048);
    assert_int_equal(c.act_fn, SL_ACT_SILU);
    assert_true(c.norm_eps == 1e-5f);
    assert_true(c.embed_scale == 1.0f);
    assert_true(c.attn_scale == 0.25f);
    assert_true(c.attn_softcap == 0.0f && c.logit_softcap == 0.0f);
    assert_false(c.qkv_bias || c.qk_norm || c.post_norms || c.rope_neox);
    assert_true(c.tied_head);
    assert_int_equal(c.rope_dims, 16);
    assert_true(c.rope_base == 10000.0f);
    assert_int_equal(c.rope_scaling, SL_ROPE_NONE);
    assert_int_equal(c.chunk_count, 1);
    assert_int_equal(c.chunk_layers, 4);
    assert_int_equal(c.chunk_window[0], 0);
    assert_int_equal(c.layer[3].chunk_layer, 3);
}

static void the_file_may_choose(void **state)
{
    file f = llama();
    sl_model_config c;
    (void)state;

    set_str(&f, "general.name", "Harbour 1B");
    set_u32(&f, "llama.attention.key_length", 32);
    set_u32(&f, "llama.attention.value_length", 32);
    set_u32(&f, "llama.rope.dimension_count", 8);
    set_f32(&f, "llama.rope.freq_base", 5e5f);
    set_f32(&f, "llama.attention.scale", 0.5f);
    set_f32(&f, "llama.attn_logit_softcapping", 50.0f);
    set_f32(&f, "llama.final_logit_softcapping", 30.0f);
    set_u32(&f, "llama.vocab_size", 100);
    set_u32(&f, "llama.expert_count", 0);
    f.shape[f.shape_count++] = (shape){"output.weight", 64, 100};
    f.shape[f.shape_count++] = (shape){"blk.0.attn_q.bias", 128, 1};
    c = good_config(&f);
    assert_string_equal(c.name, "Harbour 1B");
    assert_int_equal(c.head_dim, 32);
    assert_int_equal(c.rope_dims, 8);
    assert_true(c.rope_base == 5e5f);
    assert_true(c.attn_scale == 0.5f);
    assert_true(c.attn_softcap == 50.0f && c.logit_softcap == 30.0f);
    assert_false(c.tied_head);
    assert_true(c.qkv_bias);
}

static void a_long_name_is_cut_between_characters(void **state)
{
    static char text[200];
    file f = llama();
    sl_model_config c;
    (void)state;

    memset(text, 'x', 126);
    strcpy(text + 126, "\xC3\xA4\xC3\xA4"); /* two bytes each: the first would end at 128 */
    set_str(&f, "general.name", text);
    c = good_config(&f);
    assert_int_equal(strlen(c.name), 126);
    set_str(&f, "general.name", "bad \xFF bytes");
    c = good_config(&f);
    assert_string_equal(c.name, "llama");
}

static void architectures_differ_as_they_should(void **state)
{
    file f = llama();
    sl_model_config c;
    (void)state;

    for (uint32_t i = 0; i < f.entry_count; i++) {
        if (strncmp(f.entry[i].key, "llama.", 6) == 0) {
            static char key[ENTRIES_MAX][64];

            strcpy(key[i], "qwen2");
            strcat(key[i], f.entry[i].key + 5);
            f.entry[i].key = key[i];
        }
    }
    set_str(&f, "general.architecture", "qwen2");
    c = good_config(&f);
    assert_true(c.qkv_bias && c.rope_neox && !c.qk_norm && !c.post_norms);
    assert_int_equal(c.act_fn, SL_ACT_SILU);

    f = gemma(18);
    c = good_config(&f);
    assert_true(c.qk_norm && c.rope_neox && c.post_norms && !c.qkv_bias);
    assert_int_equal(c.act_fn, SL_ACT_GELU_TANH);
    assert_true(c.embed_scale == 8.0f); /* sqrt(64) */
    assert_true(fabsf(c.attn_scale - 1.0f / sqrtf(32.0f)) < 1e-7f);
    assert_true(c.rope_base == 1e6f && c.rope_local_base == 1e4f);
    assert_int_equal(c.head_dim, 32);
}

static void the_largest_gemma_scales_by_its_width(void **state)
{
    const file f = gemma(62);
    const sl_model_config c = good_config(&f);
    (void)state;

    assert_true(fabsf(c.attn_scale - 0.25f) < 1e-7f); /* 1 / sqrt(64 / 4) */
}

/* --- spans and chunks --------------------------------------------------------------------- */

static void every_sixth_layer_of_gemma_sees_everything(void **state)
{
    const file f = gemma(18);
    const sl_model_config c = good_config(&f);
    (void)state;

    for (uint32_t i = 0; i < 18; i++) {
        const bool global = i == 5 || i == 11 || i == 17;

        assert_int_equal(c.layer[i].window, global ? 0 : 512);
        assert_int_equal(c.layer[i].rope_local, !global);
    }
    /* 15 local and 3 global layers: chunks of 3 leave no place unused. */
    assert_int_equal(c.chunk_layers, 3);
    assert_int_equal(c.chunk_count, 6);
}

/* Each layer has a place of its own, in a chunk of its own span. */
static void assert_chunks_hold(const sl_model_config *c)
{
    static uint8_t taken[SL_KV_CHUNKS_MAX][SL_LAYERS_MAX];

    memset(taken, 0, sizeof(taken));
    assert_in_range(c->chunk_count, 1, SL_KV_CHUNKS_MAX);
    for (uint32_t i = 0; i < c->layer_count; i++) {
        const sl_layer_config *l = &c->layer[i];

        assert_true(l->chunk < c->chunk_count);
        assert_true(l->chunk_layer < c->chunk_layers);
        assert_int_equal(c->chunk_window[l->chunk], l->window);
        assert_int_equal(taken[l->chunk][l->chunk_layer]++, 0);
    }
    for (uint32_t k = 0; k < c->chunk_count; k++)
        assert_int_equal(taken[k][0], 1); /* no chunk is empty */
}

static void chunks_hold_for_every_layer_count(void **state)
{
    (void)state;
    for (uint32_t layers = 1; layers <= SL_LAYERS_MAX; layers++) {
        const file f = gemma(layers);
        const sl_model_config c = good_config(&f);
        const uint32_t places = c.chunk_count * c.chunk_layers;

        assert_chunks_hold(&c);
        if (layers <= SL_KV_CHUNKS_MAX) /* chunks of one layer are possible: waste little */
            assert_true(places - layers <= layers / 32);
    }
}

static void real_gemmas_get_few_chunks(void **state)
{
    static const uint32_t want[][3] = {/* layers, layers a chunk, chunks */
                                       {18, 3, 6},
                                       {26, 2, 13},
                                       {34, 5, 7},
                                       {48, 8, 6},
                                       {62, 2, 31}};
    (void)state;

    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        const file f = gemma(want[i][0]);
        const sl_model_config c = good_config(&f);

        assert_int_equal(c.chunk_layers, want[i][1]);
        assert_int_equal(c.chunk_count, want[i][2]);
    }
}

static void the_file_may_list_windowed_layers(void **state)
{
    file f = gemma(8);
    sl_model_config c;
    (void)state;

    set(&f,
        (entry){
            .key = "gemma3.attention.sliding_window_pattern", .type = ARR, .u = 0x55, .count = 8});
    c = good_config(&f);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(c.layer[i].window, i % 2 == 0 ? 512 : 0);
    assert_chunks_hold(&c);
    set_u32(&f, "gemma3.attention.sliding_window_pattern", 4);
    c = good_config(&f);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(c.layer[i].window, i % 4 == 3 ? 0 : 512);
    set(&f,
        (entry){
            .key = "gemma3.attention.sliding_window_pattern", .type = ARR, .u = 0x55, .count = 7});
    assert_refused(&f, SL_EFORMAT, "sliding_window_pattern");
}

static void a_llama_may_have_a_window_in_all_layers(void **state)
{
    file f = llama();
    sl_model_config c;
    (void)state;

    set_u32(&f, "llama.attention.sliding_window", 256);
    c = good_config(&f);
    assert_int_equal(c.layer[0].window, 256);
    assert_int_equal(c.layer[3].window, 256);
    assert_false(c.layer[0].rope_local);
    assert_int_equal(c.chunk_count, 1);
    assert_int_equal(c.chunk_window[0], 256);
}

/* --- what is refused ---------------------------------------------------------------------- */

static void required_keys_are_missed_by_name(void **state)
{
    static const char *const keys[] = {
        "llama.block_count",          "llama.embedding_length",
        "llama.feed_forward_length",  "llama.context_length",
        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
        "general.architecture"};
    file f;
    (void)state;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        f = llama();
        drop(&f, keys[i]);
        assert_refused(&f, SL_EFORMAT, keys[i]);
    }
    f = gemma(6);
    drop(&f, "gemma3.attention.sliding_window");
    assert_refused(&f, SL_EFORMAT, "gemma3.attention.sliding_window");
}

static void integers_are_held_to_their_ranges(void **state)
{
    static const struct {
        const char *key;
        uint32_t value;
        bool ok;
    } cases[] = {
        {"llama.block_count", 0, false},
        {"llama.block_count", 1, true},
        {"llama.block_count", SL_LAYERS_MAX, true},
        {"llama.block_count", SL_LAYERS_MAX + 1, false},
        {"llama.embedding_length", 0, false},
        {"llama.embedding_length", SL_HIDDEN_MAX + 1, false},
        {"llama.feed_forward_length", SL_FF_MAX, true},
        {"llama.feed_forward_length", SL_FF_MAX + 1, false},
        {"llama.context_length", SL_CONTEXT_MAX, true},
        {"llama.context_length", SL_CONTEXT_MAX + 1, false},
        {"llama.attention.head_count", 0, false},
        {"llama.attention.head_count_kv", 0, false},
        {"llama.attention.head_count_kv", 4, true},
        {"llama.attention.key_length", 0, false},
        {"llama.attention.key_length", 1, false},
        {"llama.attention.key_length", SL_HEAD_DIM_MAX + 2, false},
        {"llama.rope.dimension_count", 0, false},
        {"llama.rope.dimension_count", 7, false},  /* odd */
        {"llama.rope.dimension_count", 18, false}, /* more than the head has */
        {"llama.vocab_size", UINT32_MAX, false},
        {"llama.attention.sliding_window", 1, true},
        {"llama.attention.sliding_window", SL_CONTEXT_MAX + 1, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        file f = llama();

        set_u32(&f, cases[i].key, cases[i].value);
        if (cases[i].ok)
            good_config(&f);
        else
            assert_refused(&f, SL_EFORMAT, "");
    }
}

static void reals_are_held_to_their_ranges(void **state)
{
    static const struct {
        const char *key;
        float value;
    } cases[] = {
        {"llama.attention.layer_norm_rms_epsilon", NAN},
        {"llama.attention.layer_norm_rms_epsilon", 0.0f},
        {"llama.attention.layer_norm_rms_epsilon", 1.0f},
        {"llama.rope.freq_base", INFINITY},
        {"llama.rope.freq_base", NAN},
        {"llama.rope.freq_base", 0.5f},
        {"llama.attention.scale", -1.0f},
        {"llama.attention.scale", NAN},
        {"llama.final_logit_softcapping", -30.0f},
        {"llama.attn_logit_softcapping", INFINITY},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        file f = llama();

        set_f32(&f, cases[i].key, cases[i].value);
        assert_refused(&f, SL_EFORMAT, cases[i].key);
    }
}

static void contradictions_are_named(void **state)
{
    file f = llama();
    (void)state;

    set_u32(&f, "llama.attention.head_count_kv", 3);
    assert_refused(&f, SL_EFORMAT, "4 query heads cannot share 3");
    f = llama();
    set_u32(&f, "llama.attention.head_count", 6);
    assert_refused(&f, SL_EFORMAT, "key_length");
    f = llama();
    set_u32(&f, "llama.attention.value_length", 8);
    assert_refused(&f, SL_EUNSUPPORTED, "V heads 8");
    f = llama();
    set_u32(&f, "llama.vocab_size", 99);
    assert_refused(&f, SL_EFORMAT, "100 rows");
    f = llama();
    set(&f, (entry){.key = "tokenizer.ggml.tokens", .type = ARR, .count = 101});
    assert_refused(&f, SL_EFORMAT, "101 tokens");
    f = llama();
    f.shape[0].name = "other.weight";
    assert_refused(&f, SL_EFORMAT, "token_embd.weight");
    f = llama();
    set_str(&f, "llama.block_count", "four");
    assert_refused(&f, SL_EFORMAT, "llama.block_count");
}

static void what_we_cannot_compute_is_refused(void **state)
{
    file f = llama();
    (void)state;

    set_str(&f, "general.architecture", "falcon");
    assert_refused(&f, SL_EUNSUPPORTED, "qwen3");
    f = llama();
    set_u32(&f, "llama.attention.key_length", 15);
    assert_refused(&f, SL_EUNSUPPORTED, "15 dimensions");
    f = llama();
    set_u32(&f, "llama.expert_count", 8);
    assert_refused(&f, SL_EUNSUPPORTED, "llama.expert_count");
    f = llama();
    set(&f, (entry){.key = "llama.attention.causal", .type = BOOL, .u = 0});
    assert_refused(&f, SL_EUNSUPPORTED, "llama.attention.causal");
    f = llama();
    set_str(&f, "llama.rope.scaling.type", "longrope");
    assert_refused(&f, SL_EUNSUPPORTED, "longrope");
    f = llama();
    set_str(&f, "llama.rope.scaling.type", "yarn");
    assert_refused(&f, SL_EFORMAT, "llama.rope.scaling.factor");
}

static void names_list_the_table(void **state)
{
    const char *const *names = sl_model_arch_names();
    (void)state;

    assert_string_equal(names[0], "llama");
    assert_string_equal(names[3], "gemma3");
    assert_null(names[4]);
}

/* --- rotary frequencies ------------------------------------------------------------------- */

static void plain_frequencies_are_powers_of_the_base(void **state)
{
    const file f = llama();
    const sl_model_config c = good_config(&f);
    float inv_freq[8], scale = 0.0f;
    (void)state;

    sl_model_rope_table(&c, false, NULL, inv_freq, &scale);
    assert_true(scale == 1.0f);
    assert_true(inv_freq[0] == 1.0f);
    assert_true(fabsf(inv_freq[4] - 0.01f) < 1e-9f); /* 10000^(-8/16) */
    assert_true(fabsf(inv_freq[7] - 3.1622777e-4f) < 1e-10f);
}

static void linear_scaling_divides_and_spares_local_layers(void **state)
{
    file f = gemma(6);
    float all[16], local[16], scale = 0.0f;
    sl_model_config c;
    (void)state;

    set_str(&f, "gemma3.rope.scaling.type", "linear");
    set_f32(&f, "gemma3.rope.scaling.factor", 8.0f);
    c = good_config(&f);
    sl_model_rope_table(&c, false, NULL, all, &scale);
    sl_model_rope_table(&c, true, NULL, local, &scale);
    assert_true(all[0] == 0.125f);
    assert_true(fabsf(all[8] - 0.125e-3f) < 1e-9f); /* 1e6^(-16/32) / 8 */
    assert_true(local[0] == 1.0f);
    assert_true(fabsf(local[8] - 1e-2f) < 1e-8f); /* 1e4^(-1/2) */
}

static void factors_of_the_file_divide(void **state)
{
    const file f = llama();
    const sl_model_config c = good_config(&f);
    const float factors[8] = {1, 1, 1, 1, 2, 4, 8, 8};
    float plain[8], divided[8], scale;
    (void)state;

    sl_model_rope_table(&c, false, NULL, plain, &scale);
    sl_model_rope_table(&c, false, factors, divided, &scale);
    for (uint32_t j = 0; j < 8; j++)
        assert_true(fabsf(divided[j] * factors[j] - plain[j]) <= 1e-7f * plain[j]);
}

/* Values worked out by hand for 16 dimensions, base 10000, 4096 original positions, factor 4:
 * low = floor(16 ln(4096 / 64 pi) / 2 ln 10000) = floor(2.617) = 2,
 * high = ceil(16 ln(4096 / 2 pi) / 2 ln 10000) = ceil(5.627) = 6. */
static void yarn_blends_fast_and_slow_pairs(void **state)
{
    static const double keep[8] = {1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0};
    file f = llama();
    float plain[8], scaled[8], scale;
    sl_model_config c;
    (void)state;

    c = good_config(&f);
    sl_model_rope_table(&c, false, NULL, plain, &scale);
    set_str(&f, "llama.rope.scaling.type", "yarn");
    set_f32(&f, "llama.rope.scaling.factor", 4.0f);
    set_u32(&f, "llama.rope.scaling.original_context_length", 4096);
    c = good_config(&f);
    sl_model_rope_table(&c, false, NULL, scaled, &scale);
    assert_true(fabs((double)scale - 1.1386294361) < 1e-6); /* 1 + 0.1 ln 4 */
    for (uint32_t j = 0; j < 8; j++) {
        const double want = (double)plain[j] * (keep[j] + (1.0 - keep[j]) / 4.0);

        assert_true(fabs((double)scaled[j] - want) < 1e-6 * want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_llama_has_these_values),
        cmocka_unit_test(the_file_may_choose),
        cmocka_unit_test(a_long_name_is_cut_between_characters),
        cmocka_unit_test(architectures_differ_as_they_should),
        cmocka_unit_test(the_largest_gemma_scales_by_its_width),
        cmocka_unit_test(every_sixth_layer_of_gemma_sees_everything),
        cmocka_unit_test(chunks_hold_for_every_layer_count),
        cmocka_unit_test(real_gemmas_get_few_chunks),
        cmocka_unit_test(the_file_may_list_windowed_layers),
        cmocka_unit_test(a_llama_may_have_a_window_in_all_layers),
        cmocka_unit_test(required_keys_are_missed_by_name),
        cmocka_unit_test(integers_are_held_to_their_ranges),
        cmocka_unit_test(reals_are_held_to_their_ranges),
        cmocka_unit_test(contradictions_are_named),
        cmocka_unit_test(what_we_cannot_compute_is_refused),
        cmocka_unit_test(names_list_the_table),
        cmocka_unit_test(plain_frequencies_are_powers_of_the_base),
        cmocka_unit_test(linear_scaling_divides_and_spares_local_layers),
        cmocka_unit_test(factors_of_the_file_divide),
        cmocka_unit_test(yarn_blends_fast_and_slow_pairs),
    };
    return cmocka_run_group_tests_name("model/config", tests, NULL, NULL);
}
