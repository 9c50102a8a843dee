/* model/tokenizer.h - text to token ids and back.
 *
 * Two engines: byte-level BPE, whose pre-tokenizer the file names (gpt-2, smollm, llama-bpe,
 * qwen2, default; the patterns run in PCRE2), and SentencePiece BPE with byte fallback (gemma,
 * llama-2).  Merging is linear-log in the text (a heap), never quadratic.
 *
 * Marking.  Control tokens ("<|im_end|>") are found in the text only where the caller says so:
 * text is a list of pieces, each either template text (`special` true) or user text (false).
 * User text can never become a control token.  Pre-tokenisation runs over the joined text between
 * special tokens, as the reference tokenizers do, so marking changes nothing else.
 *
 * Invalid UTF-8 in user text is tokenised byte by byte: nothing is lost (byte-level BPE), or falls
 * back to byte tokens (SentencePiece).
 *
 * Thread: any number at once, read-only after open (per-call state is on the call's own heap). */
#ifndef SL_MODEL_TOKENIZER_H
#define SL_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "model/gguf.h"

typedef struct sl_tokenizer sl_tokenizer;

#define SL_TOKEN_NONE UINT32_MAX

enum {
    SL_TOKENIZER_EOG_MAX = 16,
    SL_TOKENIZER_TEXT_MAX = 32 << 20 /* bytes of text in one call */
};

/* Errors: SL_EUNSUPPORTED (tokenizer.ggml.model or .pre that is not ours: named, with the list),
 * SL_EFORMAT, SL_ENOMEM.  Keeps nothing of the file: it may be closed. */
SL_MUST_CHECK sl_status sl_tokenizer_create(const sl_gguf *g, sl_tokenizer **out, sl_err *err);
void sl_tokenizer_destroy(sl_tokenizer *t);

uint32_t sl_tokenizer_vocab(const sl_tokenizer *t);
/* SL_TOKEN_NONE where the file has none. */
uint32_t sl_tokenizer_bos(const sl_tokenizer *t);
uint32_t sl_tokenizer_eos(const sl_tokenizer *t);
bool sl_tokenizer_adds_bos(const sl_tokenizer *t);
/* Tokens that end an answer (eos, eot, and known names such as <|im_end|>, <end_of_turn>); returns
 * the count. */
uint32_t sl_tokenizer_eog(const sl_tokenizer *t, uint32_t ids[SL_TOKENIZER_EOG_MAX]);
bool sl_tokenizer_is_eog(const sl_tokenizer *t, uint32_t id);
/* Control tokens print nothing in answers. */
bool sl_tokenizer_is_control(const sl_tokenizer *t, uint32_t id);

/* The token's text as it stands in the vocabulary (for bos_token and the like in templates). */
sl_str sl_tokenizer_vocab_text(const sl_tokenizer *t, uint32_t id);

/* A growing list of token ids with a hard limit. */
typedef struct sl_token_list {
    uint32_t *id; /* owned: sl_free */
    size_t count;
    size_t capacity;
    size_t limit; /* encode stops with SL_ETOOLONG beyond this */
} sl_token_list;

typedef struct sl_text_piece {
    const char *data;
    size_t len;
    bool special; /* template text: control tokens in it count */
} sl_text_piece;

/* Append the ids of the pieces.  `add_special`: put BOS in front (and EOS behind) if the file asks
 * for it; a BOS that the pieces begin with already is not doubled.
 * Errors: SL_ETOOLONG (more than out->limit tokens; what fitted is in out), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_tokenizer_encode(const sl_tokenizer *t, const sl_text_piece *piece,
                                            size_t piece_count, bool add_special,
                                            sl_token_list *out, sl_err *err);

/* The raw bytes that one token stands for, appended to `out`: any bytes, not always whole UTF-8.
 * Control tokens give nothing unless `special`.  id < vocab. */
void sl_tokenizer_decode(const sl_tokenizer *t, uint32_t id, bool special, sl_buf *out);

/* All of a list, as detokenize shows it.  For SentencePiece files that add a space in front, the
 * leading space of the first token is dropped. */
void sl_tokenizer_decode_all(const sl_tokenizer *t, const uint32_t *id, size_t count, bool special,
                             sl_buf *out);

#endif
