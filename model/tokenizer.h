/* model/tokenizer.h - text to token ids and back.
 *
 * Two engines, by tokenizer.ggml.model: `gpt2`, byte-level BPE, whose pre-tokenizer the file names
 * (tokenizer.ggml.pre: gpt-2, smollm, llama-bpe, smaug-bpe, qwen2 and names that mean the same; the
 * patterns run in PCRE2), and `llama`, SentencePiece BPE by scores with byte fallback (gemma,
 * llama-2).  Merging is linear-log in the text (a heap), never quadratic.
 *
 * The ids are those of the model's own tokenizer (its tokenizer.json or SentencePiece model):
 * - qwen2 text is put into NFC first, as its tokenizer.json says, so text that is not in NFC
 *   comes back normalised.  Other text is not touched.
 * - SentencePiece's space is U+2581: a literal U+2581 comes back as a space.
 * - Invalid UTF-8 (which those tokenizers cannot be given) is tokenised byte by byte, an invalid
 *   byte being a word of its own.
 * - A byte that a vocabulary has no token for is left out (byte-level BPE: smollm's lacks 0x04 and
 *   20 others), or becomes the unknown token (SentencePiece without byte tokens).
 * - Letters and numbers are those of PCRE2's Unicode tables: one newer than them is cut as
 *   punctuation is.
 * - A word of more than 1 MiB is cut there.
 *
 * Special tokens.  Text is a list of pieces, each template text (`special` true) or user text.
 * They are joined; special tokens are found in the joined text, the leftmost first, of those the
 * longest; what lies between them is one text, whatever pieces it came from, so marking changes
 * nothing else.
 * - Control tokens ("<|im_end|>") count only where every byte of them is template text.  User text
 *   can never become a control token, nor complete one.
 * - User-defined tokens ("<tool_call>", gemma's runs of spaces) count in any text, as added tokens
 *   that are not special do in the reference tokenizers.
 * - The file's types decide which is which, but for the marks of chat turns known by name, and the
 *   bos, eos, eot and eom tokens if they look like marks: those are control tokens.
 * - Unused tokens are never produced.
 * Files that put a space in front (llama-2) get one at the start and after every special token.
 * GGUF does not say which special tokens swallow white space beside them (lstrip, rstrip): none do.
 *
 * Thread: any number at once, read-only after create (per-call state is on the call's own heap).
 */
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

/* Errors: SL_EUNSUPPORTED (tokenizer.ggml.model or .pre that is not ours: named, with the list; a
 * SentencePiece model that normalises), SL_EFORMAT (tables that do not fit together: named; a
 * byte-level file without .pre), SL_ENOMEM.  Keeps nothing of the file: it may be closed. */
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
 * for it; a BOS that the pieces begin with already (an EOS that they end with) is not doubled.
 * Errors: SL_ETOOLONG (more than out->limit tokens; what fitted is in out), SL_ETOOBIG (more than
 * SL_TOKENIZER_TEXT_MAX bytes), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_tokenizer_encode(const sl_tokenizer *t, const sl_text_piece *piece,
                                            size_t piece_count, bool add_special,
                                            sl_token_list *out, sl_err *err);

/* The raw bytes that one token stands for, appended to `out`: any bytes, not always whole UTF-8.
 * Control tokens and the unknown token give nothing unless `special`; unused ones never do.
 * id < vocab. */
void sl_tokenizer_decode(const sl_tokenizer *t, uint32_t id, bool special, sl_buf *out);

/* All of a list, as detokenize shows it.  For SentencePiece files that add a space in front, the
 * leading space of the first token that prints is dropped. */
void sl_tokenizer_decode_all(const sl_tokenizer *t, const uint32_t *id, size_t count, bool special,
                             sl_buf *out);

#endif
