/* tests/support/tiny_gguf.h - tiny random models in GGUF form, for tests that need no download.
 *
 * Every architecture, any dtype, a few hundred kilobytes; deterministic per seed.  The tokenizer is
 * real but small: byte-level BPE with a few dozen merges and ChatML control tokens, or (gemma3)
 * SentencePiece BPE with byte fallback. */
#ifndef SL_TESTS_SUPPORT_TINY_GGUF_H
#define SL_TESTS_SUPPORT_TINY_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "quant/dtype.h"

typedef struct sl_tiny_options {
    const char *arch; /* "llama", "qwen2", "qwen3", "gemma3" */
    uint32_t layers, hidden, ff, heads, kv_heads, head_dim;
    uint32_t context;
    uint32_t window;    /* gemma3: span of the local layers */
    sl_dtype dtype;     /* of the matrices of the layers */
    sl_dtype embed;     /* of the embedding and the head */
    bool tied;          /* no output.weight: the head is the embedding */
    bool chat_template; /* put a ChatML template into the file */
    uint64_t seed;
} sl_tiny_options;

/* Sensible sizes for `arch`: 3 layers (gemma3: 7), hidden 64, F32 weights, context 512. */
sl_tiny_options sl_tiny_defaults(const char *arch);

/* Append the file's bytes to `out` (initialised, with a large enough limit). */
void sl_tiny_gguf(const sl_tiny_options *options, sl_buf *out);

/* Ids of the byte-level vocabulary. */
enum { SL_TINY_END_OF_TEXT = 0, SL_TINY_IM_START = 1, SL_TINY_IM_END = 2, SL_TINY_VOCAB = 384 };

#endif
