/* tests/support/tiny_gguf.c - see tiny_gguf.h */
#include "tests/support/tiny_gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"

enum { U32 = 4, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9, I32 = 5 };
enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, UNUSED = 5, BYTE = 6 };

static const char chat_template[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\n' }}{% endif %}";

/* Pairs in order of rank; Ġ is the space of byte-level BPE. */
static const char *const merge[] = {
    "h e",   "Ġ t",   "Ġt he",  "i n",  "e r", "a n",    "Ġ a",     "o n", "r e", "Ġa n",
    "Ġan d", "l l",   "o u",    "Ġ w",  "Ġ s", "e n",    "i t",     "o r", "Ġ o", "Ġ b",
    "e d",   "Ġ f",   "in g",   "Ġ c",  "a t", "i s",    "Ġ p",     "e s", "a l", "Ġo f",
    "Ġ in",  "he ll", "hell o", "w or", "l d", "wor ld", "Ġ world", "Ġ Ġ", "Ċ Ċ",
};

typedef struct writer {
    sl_buf *out;
    const sl_tiny_options *o;
    sl_buf infos; /* tensor entries */
    sl_buf data;
    uint32_t kv_count, tensor_count;
    uint64_t draws;
} writer;

static void put_u32(sl_buf *b, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        sl_buf_add_char(b, (char)(v >> (8 * i)));
}

static void put_u64(sl_buf *b, uint64_t v)
{
    put_u32(b, (uint32_t)v);
    put_u32(b, (uint32_t)(v >> 32));
}

static void put_str(sl_buf *b, const char *s, size_t n)
{
    put_u64(b, n);
    sl_buf_add(b, s, n);
}

static void put_f32(sl_buf *b, float f)
{
    uint32_t u;

    memcpy(&u, &f, 4);
    put_u32(b, u);
}

static void key(writer *w, const char *name, uint32_t type)
{
    put_str(w->out, name, strlen(name));
    put_u32(w->out, type);
    w->kv_count++;
}

static void arch_key(writer *w, const char *name, uint32_t type)
{
    char full[128];

    snprintf(full, sizeof(full), "%s.%s", w->o->arch, name);
    key(w, full, type);
}

static void kv_u32(writer *w, const char *name, uint32_t v)
{
    arch_key(w, name, U32);
    put_u32(w->out, v);
}

static void kv_f32(writer *w, const char *name, float v)
{
    arch_key(w, name, F32);
    put_f32(w->out, v);
}

static void kv_str(writer *w, const char *name, const char *v)
{
    key(w, name, STRING);
    put_str(w->out, v, strlen(v));
}

static void array_head(writer *w, const char *name, uint32_t type, uint64_t count)
{
    key(w, name, ARRAY);
    put_u32(w->out, type);
    put_u64(w->out, count);
}

/* Does the byte stand for itself in byte-level BPE's alphabet? */
static bool printable(int byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174);
}

static size_t byte_token(int byte, char out[4])
{
    uint32_t shift = 0;

    if (printable(byte))
        return sl_utf8_put((uint32_t)byte, out);
    for (int b = 0; b < byte; b++)
        if (!printable(b))
            shift++;
    return sl_utf8_put(256 + shift, out);
}

static void byte_vocab(writer *w)
{
    static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    const size_t merges = sizeof(merge) / sizeof(merge[0]);
    char text[64];

    array_head(w, "tokenizer.ggml.tokens", STRING, SL_TINY_VOCAB);
    for (size_t i = 0; i < SL_TINY_VOCAB; i++) {
        size_t n;

        if (i < 3) {
            n = (size_t)snprintf(text, sizeof(text), "%s", special[i]);
        } else if (i < 259) {
            n = byte_token((int)i - 3, text);
        } else if (i < 259 + merges) {
            const char *m = merge[i - 259];
            const char *space = strchr(m, ' ');

            n = (size_t)snprintf(text, sizeof(text), "%.*s%s", (int)(space - m), m, space + 1);
        } else {
            n = (size_t)snprintf(text, sizeof(text), "[unused%zu]", i);
        }
        put_str(w->out, text, n);
    }
    array_head(w, "tokenizer.ggml.token_type", I32, SL_TINY_VOCAB);
    for (size_t i = 0; i < SL_TINY_VOCAB; i++)
        put_u32(w->out, i < 3 ? CONTROL : i < 259 + merges ? NORMAL : UNUSED);
    array_head(w, "tokenizer.ggml.merges", STRING, merges);
    for (size_t i = 0; i < merges; i++)
        put_str(w->out, merge[i], strlen(merge[i]));
    kv_str(w, "tokenizer.ggml.model", "gpt2");
    kv_str(w, "tokenizer.ggml.pre", strcmp(w->o->arch, "llama") == 0 ? "smollm" : "qwen2");
    key(w, "tokenizer.ggml.bos_token_id", U32);
    put_u32(w->out, SL_TINY_IM_START);
    key(w, "tokenizer.ggml.eos_token_id", U32);
    put_u32(w->out, SL_TINY_IM_END);
    key(w, "tokenizer.ggml.add_bos_token", BOOL);
    sl_buf_add_char(w->out, 0);
}

/* SentencePiece: 4 specials, 256 bytes, single characters, a few words with scores. */
static void piece_vocab(writer *w)
{
    static const char *const special[] = {"<pad>", "<eos>", "<bos>", "<unk>"};
    static const char *const word[] = {"\xE2\x96\x81"
                                       "the",
                                       "\xE2\x96\x81t",
                                       "he",
                                       "in",
                                       "er",
                                       "an",
                                       "\xE2\x96\x81"
                                       "a",
                                       "on",
                                       "llo",
                                       "lo",
                                       "hello",
                                       "he\xE2\x96\x81"};
    const size_t words = sizeof(word) / sizeof(word[0]);
    char text[64];

    array_head(w, "tokenizer.ggml.tokens", STRING, SL_TINY_VOCAB);
    for (size_t i = 0; i < SL_TINY_VOCAB; i++) {
        size_t n;

        if (i < 4)
            n = (size_t)snprintf(text, sizeof(text), "%s", special[i]);
        else if (i < 260)
            n = (size_t)snprintf(text, sizeof(text), "<0x%02X>", (unsigned)i - 4);
        else if (i == 260)
            n = (size_t)snprintf(text, sizeof(text), "\xE2\x96\x81");
        else if (i < 355)
            n = (size_t)snprintf(text, sizeof(text), "%c", (int)(i - 261 + 33));
        else if (i < 355 + words)
            n = (size_t)snprintf(text, sizeof(text), "%s", word[i - 355]);
        else
            n = (size_t)snprintf(text, sizeof(text), "<unused%zu>", i);
        put_str(w->out, text, n);
    }
    array_head(w, "tokenizer.ggml.scores", F32, SL_TINY_VOCAB);
    for (size_t i = 0; i < SL_TINY_VOCAB; i++)
        put_f32(w->out, i < 260 ? 0.0f : i < 355 ? -1000.0f - (float)i : -(float)(i - 355) - 1.0f);
    array_head(w, "tokenizer.ggml.token_type", I32, SL_TINY_VOCAB);
    for (size_t i = 0; i < SL_TINY_VOCAB; i++)
        put_u32(w->out, i == 3            ? UNKNOWN
                        : i < 4           ? CONTROL
                        : i < 260         ? BYTE
                        : i < 355 + words ? NORMAL
                                          : UNUSED);
    kv_str(w, "tokenizer.ggml.model", "llama");
    key(w, "tokenizer.ggml.bos_token_id", U32);
    put_u32(w->out, 2);
    key(w, "tokenizer.ggml.eos_token_id", U32);
    put_u32(w->out, 1);
    key(w, "tokenizer.ggml.unknown_token_id", U32);
    put_u32(w->out, 3);
    key(w, "tokenizer.ggml.add_bos_token", BOOL);
    sl_buf_add_char(w->out, 1);
    key(w, "tokenizer.ggml.add_space_prefix", BOOL);
    sl_buf_add_char(w->out, 0);
}

/* About normal: the sum of four uniform draws. */
static float draw(writer *w)
{
    double sum = 0;

    for (int i = 0; i < 4; i++)
        sum += sl_rng_unit(w->o->seed, w->draws++);
    return (float)((sum - 2.0) * 1.7320508);
}

static void tensor(writer *w, const char *name, sl_dtype dtype, uint32_t rows, uint32_t cols,
                   float mean, float deviation)
{
    const size_t row_bytes =
        (size_t)cols / sl_dtype_block_elems(dtype) * sl_dtype_block_bytes(dtype);
    static const uint32_t gguf_id[SL_DTYPE_COUNT] = {
#define ID(name, id, elems, bytes) id,
        SL_DTYPE_ROWS(ID)
#undef ID
    };
    float *x = malloc(cols * sizeof(*x));
    uint8_t *block = malloc(row_bytes);

    SL_ASSERT(x != NULL && block != NULL);
    SL_ASSERT(cols % sl_dtype_block_elems(dtype) == 0);
    while (w->data.len % 32 != 0)
        sl_buf_add_char(&w->data, 0);
    put_str(&w->infos, name, strlen(name));
    put_u32(&w->infos, rows == 1 ? 1 : 2);
    put_u64(&w->infos, cols);
    if (rows != 1)
        put_u64(&w->infos, rows);
    put_u32(&w->infos, gguf_id[dtype]);
    put_u64(&w->infos, w->data.len);
    w->tensor_count++;
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < cols; c++)
            x[c] = mean + deviation * draw(w);
        sl_quantize_row(dtype, x, cols, block);
        sl_buf_add(&w->data, block, row_bytes);
    }
    free(x);
    free(block);
}

static void layer_tensor(writer *w, uint32_t layer, const char *name, sl_dtype dtype, uint32_t rows,
                         uint32_t cols)
{
    char full[64];
    const bool vector = rows == 1;

    snprintf(full, sizeof(full), "blk.%u.%s", layer, name);
    tensor(w, full, dtype, rows, cols, vector && strstr(name, "norm") != NULL ? 1.0f : 0.0f,
           vector ? 0.1f : 1.0f / sqrtf((float)cols));
}

static void layer(writer *w, uint32_t l)
{
    const sl_tiny_options *o = w->o;
    const uint32_t q = o->heads * o->head_dim, kv = o->kv_heads * o->head_dim;

    layer_tensor(w, l, "attn_norm.weight", SL_DTYPE_F32, 1, o->hidden);
    layer_tensor(w, l, "attn_q.weight", o->dtype, q, o->hidden);
    layer_tensor(w, l, "attn_k.weight", o->dtype, kv, o->hidden);
    layer_tensor(w, l, "attn_v.weight", o->dtype, kv, o->hidden);
    layer_tensor(w, l, "attn_output.weight", o->dtype, o->hidden, q);
    if (strcmp(o->arch, "qwen2") == 0) {
        layer_tensor(w, l, "attn_q.bias", SL_DTYPE_F32, 1, q);
        layer_tensor(w, l, "attn_k.bias", SL_DTYPE_F32, 1, kv);
        layer_tensor(w, l, "attn_v.bias", SL_DTYPE_F32, 1, kv);
    }
    if (strcmp(o->arch, "qwen3") == 0 || strcmp(o->arch, "gemma3") == 0) {
        layer_tensor(w, l, "attn_q_norm.weight", SL_DTYPE_F32, 1, o->head_dim);
        layer_tensor(w, l, "attn_k_norm.weight", SL_DTYPE_F32, 1, o->head_dim);
    }
    if (strcmp(o->arch, "gemma3") == 0) {
        layer_tensor(w, l, "post_attention_norm.weight", SL_DTYPE_F32, 1, o->hidden);
        layer_tensor(w, l, "post_ffw_norm.weight", SL_DTYPE_F32, 1, o->hidden);
    }
    layer_tensor(w, l, "ffn_norm.weight", SL_DTYPE_F32, 1, o->hidden);
    layer_tensor(w, l, "ffn_gate.weight", o->dtype, o->ff, o->hidden);
    layer_tensor(w, l, "ffn_up.weight", o->dtype, o->ff, o->hidden);
    layer_tensor(w, l, "ffn_down.weight", o->dtype, o->hidden, o->ff);
}

static void metadata(writer *w)
{
    const sl_tiny_options *o = w->o;
    const bool gemma = strcmp(o->arch, "gemma3") == 0;

    kv_str(w, "general.architecture", o->arch);
    kv_str(w, "general.name", "Tiny random");
    kv_u32(w, "block_count", o->layers);
    kv_u32(w, "embedding_length", o->hidden);
    kv_u32(w, "feed_forward_length", o->ff);
    kv_u32(w, "attention.head_count", o->heads);
    kv_u32(w, "attention.head_count_kv", o->kv_heads);
    kv_u32(w, "attention.key_length", o->head_dim);
    kv_u32(w, "attention.value_length", o->head_dim);
    kv_u32(w, "rope.dimension_count", o->head_dim);
    kv_u32(w, "context_length", o->context);
    kv_u32(w, "vocab_size", SL_TINY_VOCAB);
    kv_f32(w, "attention.layer_norm_rms_epsilon", 1e-5f);
    kv_f32(w, "rope.freq_base", gemma ? 1000000.0f : 10000.0f);
    if (gemma)
        kv_u32(w, "attention.sliding_window", o->window);
    if (gemma)
        piece_vocab(w);
    else
        byte_vocab(w);
    if (o->chat_template)
        kv_str(w, "tokenizer.chat_template", chat_template);
}

sl_tiny_options sl_tiny_defaults(const char *arch)
{
    const bool gemma = strcmp(arch, "gemma3") == 0;

    return (sl_tiny_options){
        .arch = arch,
        .layers = gemma ? 7 : 3, /* gemma3: every sixth layer is global */
        .hidden = 64,
        .ff = 128,
        .heads = 4,
        .kv_heads = gemma ? 1 : 2,
        .head_dim = 16,
        .context = 512,
        .window = 96,
        .dtype = SL_DTYPE_F32,
        .embed = SL_DTYPE_F32,
        .tied = strcmp(arch, "qwen2") != 0,
        .chat_template = !gemma,
        .seed = 1,
    };
}

void sl_tiny_gguf(const sl_tiny_options *options, sl_buf *out)
{
    sl_buf entries;
    writer w = {.out = &entries, .o = options};

    sl_buf_init(&entries, 16u << 20);
    sl_buf_init(&w.infos, 16u << 20);
    sl_buf_init(&w.data, 256u << 20);
    metadata(&w);
    /* Ordinary size: a model whose logits are neither flat nor one-sided. */
    tensor(&w, "token_embd.weight", options->embed, SL_TINY_VOCAB, options->hidden, 0.0f, 0.5f);
    for (uint32_t l = 0; l < options->layers; l++)
        layer(&w, l);
    tensor(&w, "output_norm.weight", SL_DTYPE_F32, 1, options->hidden, 1.0f, 0.1f);
    if (!options->tied)
        tensor(&w, "output.weight", options->embed, SL_TINY_VOCAB, options->hidden, 0.0f, 0.5f);

    sl_buf_add_str(out, "GGUF");
    put_u32(out, 3);
    put_u64(out, w.tensor_count);
    put_u64(out, w.kv_count);
    sl_buf_add(out, entries.data, entries.len);
    sl_buf_add(out, w.infos.data, w.infos.len);
    while (out->len % 32 != 0)
        sl_buf_add_char(out, 0);
    sl_buf_add(out, w.data.data, w.data.len);
    SL_ASSERT(!out->failed && !w.data.failed && !entries.failed);
    sl_buf_done(&entries);
    sl_buf_done(&w.infos);
    sl_buf_done(&w.data);
}
