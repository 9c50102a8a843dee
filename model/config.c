/* model/config.c - the table of architectures, and how a file's metadata becomes a config.
 *
 * What an architecture is by definition is a row of the table; what a file may choose is read from
 * its keys, each checked against a range.  A key that would change the computation in a way that
 * the forward pass does not have is refused, never ignored.
 *
 * Norm weights of gemma are stored with their "+ 1" already added, so they need nothing here. */
#include "model/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

enum {
    HEADS_MAX = 1024,
    GROUP_MAX = 64,          /* query heads that share a KV head */
    ATTN_WIDTH_MAX = 1 << 17 /* heads * head_dim */
};

typedef struct arch_row {
    const char *name;
    sl_act_fn act_fn;
    bool rope_neox;
    bool qkv_bias;
    bool qk_norm;
    bool post_norms;
    bool embed_scaled;       /* rows of the embedding times sqrt(hidden) */
    uint32_t window_pattern; /* > 0: every n-th layer sees everything, the others a window */
    float rope_local_base;   /* of windowed layers; 0: the same as of all */
} arch_row;

static const arch_row arch_table[] = {
    {.name = "llama", .act_fn = SL_ACT_SILU},
    {.name = "qwen2", .act_fn = SL_ACT_SILU, .rope_neox = true, .qkv_bias = true},
    {.name = "qwen3", .act_fn = SL_ACT_SILU, .rope_neox = true, .qk_norm = true},
    {.name = "gemma3",
     .act_fn = SL_ACT_GELU_TANH,
     .rope_neox = true,
     .qk_norm = true,
     .post_norms = true,
     .embed_scaled = true,
     .window_pattern = 6,
     .rope_local_base = 10000.0f},
};
enum { ARCH_COUNT = sizeof(arch_table) / sizeof(arch_table[0]) };

const char *const *sl_model_arch_names(void)
{
    static const char *const names[] = {"llama", "qwen2", "qwen3", "gemma3", NULL};

    _Static_assert(sizeof(names) / sizeof(names[0]) == ARCH_COUNT + 1, "one name a row");
    return names;
}

/* Keys that would need what the forward pass does not have; a zero (or false) is harmless. */
static const char *const refused_keys[] = {
    "expert_count",    "attention.clamp_kqv", "attention.max_alibi_bias",         "logit_scale",
    "embedding_scale", "residual_scale",      "attention.relative_buckets_count",
};

/* --- reading keys: the first failure sticks, later reads give harmless values ---------------- */

typedef struct key_reader {
    const sl_gguf *g;
    const char *arch;
    sl_err *err;
    sl_status status;
    char key[160];
} key_reader;

/* The whole key for `suffix`; true if reading goes on and the file has it. */
static bool find_key(key_reader *r, const char *suffix)
{
    snprintf(r->key, sizeof(r->key), "%s.%s", r->arch, suffix);
    return r->status == SL_OK && sl_gguf_has(r->g, r->key);
}

static void fail_missing(key_reader *r)
{
    if (r->status == SL_OK)
        r->status = sl_fail(r->err, SL_EFORMAT, "the key '%s' is missing", r->key);
}

static uint32_t optional_u32(key_reader *r, const char *suffix, uint32_t fallback, uint32_t min,
                             uint32_t max)
{
    uint32_t value = fallback;

    if (!find_key(r, suffix))
        return fallback;
    r->status = sl_gguf_get_u32(r->g, r->key, &value, r->err);
    if (r->status == SL_OK && (value < min || value > max))
        r->status =
            sl_fail(r->err, SL_EFORMAT, "'%s' is %" PRIu32 ", not in %" PRIu32 " .. %" PRIu32,
                    r->key, value, min, max);
    return r->status == SL_OK ? value : fallback;
}

static uint32_t required_u32(key_reader *r, const char *suffix, uint32_t min, uint32_t max)
{
    if (!find_key(r, suffix)) {
        fail_missing(r);
        return min;
    }
    return optional_u32(r, suffix, min, min, max);
}

static float optional_f32(key_reader *r, const char *suffix, float fallback, float min, float max)
{
    float value = fallback;

    if (!find_key(r, suffix))
        return fallback;
    r->status = sl_gguf_get_f32(r->g, r->key, &value, r->err);
    if (r->status == SL_OK && !(value >= min && value <= max)) /* so written that NaN fails */
        r->status = sl_fail(r->err, SL_EFORMAT, "'%s' is %g, not in %g .. %g", r->key,
                            (double)value, (double)min, (double)max);
    return r->status == SL_OK ? value : fallback;
}

static float required_f32(key_reader *r, const char *suffix, float min, float max)
{
    if (!find_key(r, suffix)) {
        fail_missing(r);
        return min;
    }
    return optional_f32(r, suffix, min, min, max);
}

static bool str_is(sl_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* --- parts of the config ------------------------------------------------------------------ */

static sl_status find_arch(const sl_gguf *g, const arch_row **out, sl_err *err)
{
    sl_status status;
    sl_str name;

    status = sl_gguf_get_str(g, "general.architecture", &name, err);
    if (status == SL_ENOTFOUND)
        return sl_fail(err, SL_EFORMAT, "the key 'general.architecture' is missing");
    if (status != SL_OK)
        return status;
    for (size_t i = 0; i < ARCH_COUNT; i++) {
        if (str_is(name, arch_table[i].name)) {
            *out = &arch_table[i];
            return SL_OK;
        }
    }
    return sl_fail(err, SL_EUNSUPPORTED,
                   "the architecture '%.*s' is not supported (llama, qwen2, qwen3, gemma3 are)",
                   (int)(name.len < 64 ? name.len : 64), name.data);
}

static void read_name(const sl_gguf *g, sl_model_config *c)
{
    sl_str name;
    size_t n;

    snprintf(c->name, sizeof(c->name), "%s", c->arch);
    if (sl_gguf_get_str(g, "general.name", &name, NULL) != SL_OK || name.len == 0 ||
        !sl_utf8_valid(name.data, name.len))
        return;
    n = name.len < sizeof(c->name) ? name.len : sizeof(c->name) - 1;
    n = sl_utf8_whole(name.data, n);
    memcpy(c->name, name.data, n);
    c->name[n] = '\0';
}

static void check_refused(key_reader *r)
{
    const size_t count = sizeof(refused_keys) / sizeof(refused_keys[0]);
    bool causal = true;
    float value;

    for (size_t i = 0; i < count; i++) {
        value = optional_f32(r, refused_keys[i], 0.0f, -INFINITY, INFINITY);
        if (value != 0.0f)
            r->status = sl_fail(r->err, SL_EUNSUPPORTED, "'%s' is %g: not supported", r->key,
                                (double)value);
    }
    if (find_key(r, "attention.causal"))
        r->status = sl_gguf_get_bool(r->g, r->key, &causal, r->err);
    if (!causal)
        r->status = sl_fail(r->err, SL_EUNSUPPORTED, "'%s' is false: not supported", r->key);
}

static void read_heads(key_reader *r, sl_model_config *c)
{
    uint32_t v_dim;

    c->heads = required_u32(r, "attention.head_count", 1, HEADS_MAX);
    c->kv_heads = optional_u32(r, "attention.head_count_kv", c->heads, 1, HEADS_MAX);
    c->head_dim = optional_u32(r, "attention.key_length", c->hidden / c->heads, 2, SL_HEAD_DIM_MAX);
    v_dim = optional_u32(r, "attention.value_length", c->head_dim, 2, SL_HEAD_DIM_MAX);
    if (r->status != SL_OK)
        return;
    if (c->heads % c->kv_heads != 0)
        r->status = sl_fail(r->err, SL_EFORMAT, "%u query heads cannot share %u KV heads evenly",
                            c->heads, c->kv_heads);
    else if (c->heads / c->kv_heads > GROUP_MAX)
        r->status = sl_fail(r->err, SL_EUNSUPPORTED, "%u query heads share a KV head, at most %d",
                            c->heads / c->kv_heads, GROUP_MAX);
    else if (!find_key(r, "attention.key_length") && c->hidden % c->heads != 0)
        r->status = sl_fail(r->err, SL_EFORMAT,
                            "the width %u is no multiple of %u heads, and '%s' is missing",
                            c->hidden, c->heads, r->key);
    else if (c->head_dim < 2 || c->head_dim > SL_HEAD_DIM_MAX || c->head_dim % 2 != 0)
        r->status = sl_fail(r->err, SL_EUNSUPPORTED, "heads of %u dimensions: even, 2 .. %d wanted",
                            c->head_dim, SL_HEAD_DIM_MAX);
    else if (v_dim != c->head_dim)
        r->status = sl_fail(r->err, SL_EUNSUPPORTED, "K heads have %u dimensions, V heads %u",
                            c->head_dim, v_dim);
    else if ((uint64_t)c->heads * c->head_dim > ATTN_WIDTH_MAX)
        r->status = sl_fail(r->err, SL_EFORMAT, "%u heads of %u are wider than %d", c->heads,
                            c->head_dim, ATTN_WIDTH_MAX);
}

/* Vocabulary and head come from the tensors; the metadata may only agree. */
static void read_vocab(key_reader *r, sl_model_config *c)
{
    const sl_gguf_tensor *table = sl_gguf_find_tensor(r->g, "token_embd.weight");
    sl_gguf_type item;
    uint64_t tokens;
    uint32_t said;

    if (r->status != SL_OK)
        return;
    if (table == NULL || table->dim_count < 2 || table->dim[1] == 0 ||
        table->dim[1] > SL_VOCAB_MAX) {
        r->status =
            sl_fail(r->err, SL_EFORMAT, "'token_embd.weight' is missing or has no rows in 1 .. %d",
                    SL_VOCAB_MAX);
        return;
    }
    c->vocab = (uint32_t)table->dim[1];
    c->tied_head = sl_gguf_find_tensor(r->g, "output.weight") == NULL;
    said = optional_u32(r, "vocab_size", c->vocab, 1, SL_VOCAB_MAX);
    if (r->status == SL_OK && said != c->vocab)
        r->status = sl_fail(r->err, SL_EFORMAT, "'%s' is %u, but the embedding has %u rows", r->key,
                            said, c->vocab);
    if (r->status == SL_OK &&
        sl_gguf_get_array(r->g, "tokenizer.ggml.tokens", &item, &tokens, NULL) == SL_OK &&
        tokens > c->vocab)
        r->status = sl_fail(r->err, SL_EFORMAT,
                            "the tokenizer has %" PRIu64 " tokens, but the embedding %u rows",
                            tokens, c->vocab);
}

static void read_rope_scaling(key_reader *r, sl_model_config *c)
{
    sl_str type = {.data = "none", .len = 4};

    c->rope_scaling = SL_ROPE_NONE;
    c->rope_factor = 1.0f;
    c->rope_original_context = c->context;
    c->rope_yarn_attn_factor = 1.0f;
    if (find_key(r, "rope.scaling.type"))
        r->status = sl_gguf_get_str(r->g, r->key, &type, r->err);
    else if (find_key(r, "rope.scale_linear")) /* how files of 2023 say it */
        type = (sl_str){.data = "old", .len = 3};
    if (r->status != SL_OK)
        return;
    if (str_is(type, "none")) {
        if (sl_gguf_find_tensor(r->g, "rope_freqs.weight") != NULL)
            c->rope_scaling = SL_ROPE_LLAMA3;
        return;
    }
    if (str_is(type, "old")) {
        c->rope_scaling = SL_ROPE_LINEAR;
        c->rope_factor = required_f32(r, "rope.scale_linear", 1e-3f, 1e4f);
        return;
    }
    if (str_is(type, "linear"))
        c->rope_scaling = SL_ROPE_LINEAR;
    else if (str_is(type, "yarn"))
        c->rope_scaling = SL_ROPE_YARN;
    else {
        r->status =
            sl_fail(r->err, SL_EUNSUPPORTED, "'%s' is '%.*s' (none, linear and yarn are supported)",
                    r->key, (int)(type.len < 64 ? type.len : 64), type.data);
        return;
    }
    c->rope_factor = required_f32(r, "rope.scaling.factor", 1e-3f, 1e4f);
    c->rope_original_context =
        optional_u32(r, "rope.scaling.original_context_length", c->context, 1, SL_CONTEXT_MAX);
    if (c->rope_scaling != SL_ROPE_YARN)
        return;
    c->rope_yarn_attn_factor = optional_f32(r, "rope.scaling.attn_factor", 1.0f, 1e-3f, 1e3f);
    c->rope_yarn_attn_factor =
        optional_f32(r, "rope.scaling.yarn_attn_factor", c->rope_yarn_attn_factor, 1e-3f, 1e3f);
    c->rope_yarn_ext_factor = optional_f32(r, "rope.scaling.yarn_ext_factor", 1.0f, 0.0f, 1.0f);
    c->rope_yarn_beta_fast = optional_f32(r, "rope.scaling.yarn_beta_fast", 32.0f, 1e-3f, 1e6f);
    c->rope_yarn_beta_slow = optional_f32(r, "rope.scaling.yarn_beta_slow", 1.0f, 1e-3f, 1e6f);
}

static void read_rope(key_reader *r, const arch_row *arch, sl_model_config *c)
{
    c->rope_neox = arch->rope_neox;
    c->rope_dims = optional_u32(r, "rope.dimension_count", c->head_dim, 2, c->head_dim);
    c->rope_base = optional_f32(r, "rope.freq_base", 10000.0f, 1.0f + 1e-3f, 1e12f);
    c->rope_local_base = c->rope_base;
    if (arch->rope_local_base > 0.0f)
        c->rope_local_base =
            optional_f32(r, "rope.freq_base_swa", arch->rope_local_base, 1.0f + 1e-3f, 1e12f);
    if (r->status == SL_OK && c->rope_dims % 2 != 0)
        r->status = sl_fail(r->err, SL_EFORMAT, "the rotary embedding turns %u dimensions: odd",
                            c->rope_dims);
    read_rope_scaling(r, c);
}

static void read_scales(key_reader *r, const arch_row *arch, sl_model_config *c)
{
    /* The one gemma3 that scales by something else than its head: the 27B model, of 62 layers. */
    const bool wide = arch->window_pattern == 6 && c->layer_count == 62;
    const uint32_t scaled_by = wide ? c->hidden / c->heads : c->head_dim;

    c->norm_eps = required_f32(r, "attention.layer_norm_rms_epsilon", 1e-12f, 1e-1f);
    c->attn_scale = optional_f32(r, "attention.scale", 0.0f, 0.0f, 1e3f);
    if (c->attn_scale == 0.0f)
        c->attn_scale = (float)(1.0 / sqrt((double)scaled_by));
    c->attn_softcap = optional_f32(r, "attn_logit_softcapping", 0.0f, 0.0f, 1e6f);
    c->logit_softcap = optional_f32(r, "final_logit_softcapping", 0.0f, 0.0f, 1e6f);
    c->embed_scale = arch->embed_scaled ? (float)sqrt((double)c->hidden) : 1.0f;
}

/* --- spans and chunks --------------------------------------------------------------------- */

/* Which layers see a window: by the file's own list, its period, or the architecture's. */
static void read_windows(key_reader *r, const arch_row *arch, sl_model_config *c)
{
    uint32_t period = arch->window_pattern;
    uint32_t window;
    uint64_t count = 0;
    sl_gguf_type item = SL_GGUF_TYPE_COUNT;

    if (arch->window_pattern > 0)
        window = required_u32(r, "attention.sliding_window", 1, SL_CONTEXT_MAX);
    else
        window = optional_u32(r, "attention.sliding_window", 0, 0, SL_CONTEXT_MAX);
    if (window == 0 || r->status != SL_OK)
        return;
    if (find_key(r, "attention.sliding_window_pattern")) {
        if (sl_gguf_get_array(r->g, r->key, &item, &count, NULL) != SL_OK)
            period = optional_u32(r, "attention.sliding_window_pattern", period, 0, SL_LAYERS_MAX);
        else if (count != c->layer_count || item == SL_GGUF_STRING || item == SL_GGUF_ARRAY ||
                 item == SL_GGUF_F32 || item == SL_GGUF_F64)
            r->status =
                sl_fail(r->err, SL_EFORMAT, "'%s' is no list of %u flags", r->key, c->layer_count);
    }
    if (r->status != SL_OK)
        return;
    for (uint32_t i = 0; i < c->layer_count; i++) {
        bool windowed = period == 0 || (i + 1) % period != 0;

        if (count > 0)
            windowed = sl_gguf_array_int(r->g, r->key, i) != 0;
        c->layer[i].window = windowed ? window : 0;
        c->layer[i].rope_local = windowed && arch->rope_local_base > 0.0f;
    }
}

/* Layers of each of the two spans that a model can have: everything, and its window. */
static uint32_t chunks_for(const uint32_t span_layers[2], uint32_t chunk_layers)
{
    return (span_layers[0] + chunk_layers - 1) / chunk_layers +
           (span_layers[1] + chunk_layers - 1) / chunk_layers;
}

/* Layers a chunk: places may be left unused where a span's layers do not fill its chunks.  The
 * fewest chunks win among the sizes that waste at most one place in 32 (a chunk costs every
 * sequence a page table); else the size that wastes least. */
static uint32_t pick_chunk_layers(const uint32_t span_layers[2], uint32_t layer_count)
{
    uint32_t best = 0;
    uint32_t best_waste = UINT32_MAX;

    for (uint32_t size = layer_count; size > 0; size--) {
        const uint32_t chunks = chunks_for(span_layers, size);
        const uint32_t waste = chunks * size - layer_count;

        if (chunks > SL_KV_CHUNKS_MAX)
            break;
        if (waste <= layer_count / 32)
            return size;
        if (waste < best_waste) {
            best = size;
            best_waste = waste;
        }
    }
    return best;
}

static void lay_chunks(sl_model_config *c)
{
    uint32_t span_layers[2] = {0, 0};
    uint32_t open[2] = {0, 0}; /* the chunk that a span fills */
    uint32_t used[2] = {0, 0}; /* its places taken; 0: none is open */

    for (uint32_t i = 0; i < c->layer_count; i++)
        span_layers[c->layer[i].window > 0]++;
    c->chunk_layers = pick_chunk_layers(span_layers, c->layer_count);
    c->chunk_count = 0;
    for (uint32_t i = 0; i < c->layer_count; i++) {
        const uint32_t span = c->layer[i].window > 0;

        if (used[span] == 0) {
            open[span] = c->chunk_count++;
            c->chunk_window[open[span]] = c->layer[i].window;
        }
        c->layer[i].chunk = open[span];
        c->layer[i].chunk_layer = used[span];
        used[span] = (used[span] + 1) % c->chunk_layers;
    }
}

sl_status sl_model_config_read(const sl_gguf *g, sl_model_config *out, sl_err *err)
{
    const arch_row *arch = NULL;
    sl_model_config c;
    key_reader r = {.g = g, .err = err};
    const sl_status status = find_arch(g, &arch, err);

    if (status != SL_OK)
        return status;
    memset(&c, 0, sizeof(c));
    r.arch = arch->name;
    snprintf(c.arch, sizeof(c.arch), "%s", arch->name);
    read_name(g, &c);
    check_refused(&r);
    c.layer_count = required_u32(&r, "block_count", 1, SL_LAYERS_MAX);
    c.hidden = required_u32(&r, "embedding_length", 1, SL_HIDDEN_MAX);
    c.ff = required_u32(&r, "feed_forward_length", 1, SL_FF_MAX);
    c.context = required_u32(&r, "context_length", 1, SL_CONTEXT_MAX);
    c.act_fn = arch->act_fn;
    c.qk_norm = arch->qk_norm;
    c.post_norms = arch->post_norms;
    c.qkv_bias = arch->qkv_bias || sl_gguf_find_tensor(g, "blk.0.attn_q.bias") != NULL;
    read_heads(&r, &c);
    read_vocab(&r, &c);
    read_rope(&r, arch, &c);
    read_scales(&r, arch, &c);
    read_windows(&r, arch, &c);
    if (r.status != SL_OK)
        return r.status;
    lay_chunks(&c);
    *out = c;
    return SL_OK;
}

/* --- rotary frequencies ------------------------------------------------------------------- */

/* YaRN (arXiv 2309.00071): the pair of dimensions that turns `beta` times over the original
 * context. */
static double yarn_dim(const sl_model_config *c, double beta)
{
    const double pi = 3.14159265358979323846;

    return c->rope_dims * log(c->rope_original_context / (beta * 2.0 * pi)) /
           (2.0 * log((double)c->rope_base));
}

/* Share of the unscaled frequency that pair j keeps: 1 for fast pairs, 0 for slow ones. */
static double yarn_keep(const sl_model_config *c, uint32_t j)
{
    const double last = c->rope_dims - 1.0;
    const double low = fmax(0.0, floor(yarn_dim(c, (double)c->rope_yarn_beta_fast)));
    const double high = fmin(last, ceil(yarn_dim(c, (double)c->rope_yarn_beta_slow)));
    const double ramp = (j - low) / fmax(0.001, high - low);

    return (1.0 - fmin(1.0, fmax(0.0, ramp))) * (double)c->rope_yarn_ext_factor;
}

void sl_model_rope_table(const sl_model_config *config, bool local, const float *factors,
                         float *inv_freq, float *scale)
{
    const sl_model_config *c = config;
    const double base = (double)(local ? c->rope_local_base : c->rope_base);
    const sl_rope_scaling scaling = local ? SL_ROPE_NONE : c->rope_scaling;
    const double factor = (double)c->rope_factor;

    *scale = 1.0f;
    if (scaling == SL_ROPE_YARN && c->rope_yarn_ext_factor > 0.0f)
        *scale = (float)((double)c->rope_yarn_attn_factor * (1.0 + 0.1 * log(factor)));
    else if (scaling == SL_ROPE_YARN)
        *scale = c->rope_yarn_attn_factor;
    for (uint32_t j = 0; j < c->rope_dims / 2; j++) {
        double f = pow(base, -2.0 * j / c->rope_dims);

        if (factors != NULL && !local)
            f /= (double)factors[j];
        if (scaling == SL_ROPE_LINEAR) {
            f /= factor;
        } else if (scaling == SL_ROPE_YARN) {
            const double keep = yarn_keep(c, j);

            f = f * keep + f / factor * (1.0 - keep);
        }
        inv_freq[j] = (float)f;
    }
}
