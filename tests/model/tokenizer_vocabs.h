/* tests/model/tokenizer_vocabs.h - small vocabularies made by hand, of either kind. */
#ifndef SL_TESTS_MODEL_TOKENIZER_VOCABS_H
#define SL_TESTS_MODEL_TOKENIZER_VOCABS_H

#include "tests/model/tokenizer_cases.h"
#include "tests/support/tiny_gguf.h"

#define SPACE "\xE2\x96\x81"

/* How byte-level BPE writes a byte. */
static inline size_t write_byte(int byte, char out[4])
{
    uint32_t code = 256;

    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)
        return sl_utf8_put((uint32_t)byte, out);
    for (int b = 0; b < byte; b++)
        if (!((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174))
            code++;
    return sl_utf8_put(code, out);
}

enum { WORDS_MAX = 2048, END = 0, START = 1, TOOL = 2, BYTE_FIRST = 3, MERGED_FIRST = 259 };

/* A byte-level vocabulary: <|endoftext|>, <|im_start|>, <tool_call>, 256 bytes, then what the
 * merges make. */
typedef struct byte_vocab {
    sl_str token[WORDS_MAX];
    int32_t type[WORDS_MAX];
    size_t count;
    sl_str merge[WORDS_MAX];
    size_t merge_count;
    char *pool;
    size_t pool_len;
} byte_vocab;

static inline sl_str keep(byte_vocab *v, const char *data, size_t len)
{
    const sl_str s = {v->pool + v->pool_len, len};

    memcpy(v->pool + v->pool_len, data, len);
    v->pool_len += len;
    return s;
}

static inline void add_token(byte_vocab *v, const char *data, size_t len, int32_t type)
{
    for (size_t i = 0; i < v->count; i++)
        if (v->token[i].len == len && memcmp(v->token[i].data, data, len) == 0)
            return;
    v->type[v->count] = type;
    v->token[v->count++] = keep(v, data, len);
}

static inline byte_vocab *start_bytes(void)
{
    byte_vocab *v = calloc(1, sizeof(*v));

    assert_non_null(v);
    v->pool = malloc(1 << 20);
    assert_non_null(v->pool);
    add_token(v, "<|endoftext|>", 13, 3);
    add_token(v, "<|im_start|>", 12, 3);
    add_token(v, "<tool_call>", 11, 4);
    for (int b = 0; b < 256; b++) {
        char text[4];

        add_token(v, text, write_byte(b, text), 1);
    }
    assert_int_equal(v->count, MERGED_FIRST);
    return v;
}

static inline void add_merge(byte_vocab *v, const char *line, size_t len)
{
    const char *space = memchr(line, ' ', len);
    const size_t left = (size_t)(space - line);
    char joined[256];

    memcpy(joined, line, left);
    memcpy(joined + left, space + 1, len - left - 1);
    v->merge[v->merge_count++] = keep(v, line, len);
    add_token(v, joined, len - 1, 1);
}

static inline void free_bytes(byte_vocab *v)
{
    free(v->pool);
    free(v);
}

static inline void put_bytes(const byte_vocab *v, const char *pre, vocab_file *file)
{
    vocab_begin(file);
    vocab_add_str(file, "model", "gpt2");
    if (pre != NULL)
        vocab_add_str(file, "pre", pre);
    vocab_add_strs(file, "tokens", v->token, v->count);
    vocab_add_i32s(file, "token_type", v->type, v->count);
    vocab_add_strs(file, "merges", v->merge, v->merge_count);
}

static inline sl_tokenizer *make(vocab_file *file)
{
    sl_tokenizer *t = NULL;
    sl_err err;

    if (vocab_create(file, &t, &err) != SL_OK)
        fail_msg("%s", err.text);
    return t;
}

/* Merges separated by commas. */
static inline sl_tokenizer *make_bytes(const char *pre, const char *merges)
{
    byte_vocab *v = start_bytes();
    vocab_file file;
    sl_tokenizer *t;

    while (*merges != '\0') {
        const size_t len = strcspn(merges, ",");

        add_merge(v, merges, len);
        merges += len + (merges[len] == ',');
    }
    put_bytes(v, pre, &file);
    t = make(&file);
    free_bytes(v);
    return t;
}

typedef struct piece {
    const char *text;
    int32_t type;
    float score;
} piece;

static inline void put_pieces(const piece *p, size_t n, vocab_file *file)
{
    sl_str token[WORDS_MAX];
    int32_t type[WORDS_MAX];
    float score[WORDS_MAX];

    assert_true(n <= WORDS_MAX);
    for (size_t i = 0; i < n; i++) {
        token[i] = (sl_str){p[i].text, strlen(p[i].text)};
        type[i] = p[i].type;
        score[i] = p[i].score;
    }
    vocab_begin(file);
    vocab_add_str(file, "model", "llama");
    vocab_add_strs(file, "tokens", token, n);
    vocab_add_i32s(file, "token_type", type, n);
    vocab_add_f32s(file, "scores", score, n);
}

static inline sl_tokenizer *make_tiny(const char *arch)
{
    sl_tiny_options options = sl_tiny_defaults(arch);
    sl_tokenizer *t = NULL;
    sl_buf bytes;
    sl_gguf *g;
    sl_err err;

    options.layers = 1;
    sl_buf_init(&bytes, 1 << 26);
    sl_tiny_gguf(&options, &bytes);
    if (sl_gguf_open_memory(bytes.data, bytes.len, &g, &err) != SL_OK ||
        sl_tokenizer_create(g, &t, &err) != SL_OK)
        fail_msg("%s", err.text);
    sl_gguf_close(g);
    sl_buf_done(&bytes);
    return t;
}

#endif
