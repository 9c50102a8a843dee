/* tests/fuzz/fuzz_tokenizer.c - any text through the tiny tokenizers, and any file as a tokenizer.
 *
 * Input: byte 0 chooses (low 2 bits: smollm, qwen2, gemma3 or "the rest is a GGUF file"; bit 2:
 * add_special), byte 1 says which of up to 8 pieces are template text, byte 2 how long a piece is,
 * the rest is the text.
 *
 * Oracle: the text comes back (byte-level BPE and byte fallback lose nothing; qwen2's is
 * normalised, and then stays as it is); user text gives no control token; where no special token
 * can be, pieces and marks change nothing. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/tokenizer.h"
#include "tests/support/tiny_gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SMOLLM, QWEN2, GEMMA3, A_FILE, PIECES_MAX = 8 };

/* Made at first use, and kept. */
static sl_tokenizer *tokenizer(int kind)
{
    static const char *const arch[] = {"llama", "qwen2", "gemma3"};
    static sl_tokenizer *made[3];
    sl_tiny_options options;
    sl_buf bytes;
    sl_gguf *g;

    if (made[kind] != NULL)
        return made[kind];
    options = sl_tiny_defaults(arch[kind]);
    options.layers = 1;
    sl_buf_init(&bytes, 1 << 26);
    sl_tiny_gguf(&options, &bytes);
    if (sl_gguf_open_memory(bytes.data, bytes.len, &g, NULL) != SL_OK ||
        sl_tokenizer_create(g, &made[kind], NULL) != SL_OK)
        abort();
    sl_gguf_close(g);
    sl_buf_done(&bytes);
    return made[kind];
}

static sl_token_list encode(const sl_tokenizer *t, const sl_text_piece *piece, size_t count,
                            bool add_special)
{
    sl_token_list list = {.limit = SIZE_MAX};

    if (sl_tokenizer_encode(t, piece, count, add_special, &list, NULL) != SL_OK)
        abort();
    return list;
}

static void expect_equal(const sl_token_list *a, const sl_token_list *b)
{
    SL_ASSERT(a->count == b->count);
    SL_ASSERT(a->count == 0 || memcmp(a->id, b->id, a->count * sizeof(*a->id)) == 0);
}

/* SentencePiece cannot tell its space from a plain one. */
static size_t plain_spaces(const char *text, size_t len, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < len;) {
        const bool space = len - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0;

        out[n++] = space ? ' ' : text[i];
        i += space ? 3 : 1;
    }
    return n;
}

static void check_text(const sl_tokenizer *t, int kind, const char *text, size_t len,
                       const sl_token_list *list)
{
    char *plain = malloc(len + 1);
    sl_buf out;

    SL_ASSERT(plain != NULL);
    sl_buf_init(&out, 1 << 30);
    sl_tokenizer_decode_all(t, list->id, list->count, true, &out);
    SL_ASSERT(!out.failed);
    if (kind == QWEN2) {
        const sl_text_piece user = {text, len, false};
        sl_token_list first = encode(t, &user, 1, false), second;

        sl_buf_reset(&out);
        sl_tokenizer_decode_all(t, first.id, first.count, true, &out);
        second = encode(t, &(sl_text_piece){out.data, out.len, false}, 1, false);
        expect_equal(&first, &second);
        sl_free(first.id);
        sl_free(second.id);
    } else {
        if (kind == GEMMA3)
            len = plain_spaces(text, len, plain);
        SL_ASSERT(out.len == len);
        SL_ASSERT(len == 0 || memcmp(out.data, kind == GEMMA3 ? plain : text, len) == 0);
    }
    sl_buf_done(&out);
    free(plain);
}

static size_t cut(const char *text, size_t len, uint8_t marks, uint8_t step, sl_text_piece *piece)
{
    size_t count = 0, at = 0;

    while (count + 1 < PIECES_MAX && at < len) {
        const size_t want = step % 16 + count * (step / 16);
        const size_t n = want < len - at ? want : len - at;

        piece[count] = (sl_text_piece){text + at, n, (marks >> count & 1) != 0};
        at += n;
        count++;
    }
    piece[count] = (sl_text_piece){text + at, len - at, (marks >> count & 1) != 0};
    return count + 1;
}

static void any_text(int kind, const uint8_t *data, size_t size)
{
    const sl_tokenizer *t = tokenizer(kind);
    const char *text = (const char *)data + 3;
    const size_t len = size - 3;
    const sl_text_piece user = {text, len, false};
    sl_text_piece piece[PIECES_MAX];
    const size_t count = cut(text, len, data[1], data[2], piece);
    const bool add_special = (data[0] & 4) != 0;
    sl_token_list whole = encode(t, &user, 1, false);
    sl_token_list cuts = encode(t, piece, count, false);
    sl_token_list added = encode(t, piece, count, add_special);

    for (size_t i = 0; i < whole.count; i++)
        SL_ASSERT(!sl_tokenizer_is_control(t, whole.id[i]));
    check_text(t, kind, text, len, &whole);
    check_text(t, kind, text, len, &cuts);
    if (len == 0 || memchr(text, '<', len) == NULL)
        expect_equal(&whole, &cuts);
    SL_ASSERT(added.count >= cuts.count && added.count <= cuts.count + 2);
    sl_free(whole.id);
    sl_free(cuts.id);
    sl_free(added.id);
}

static void any_file(const uint8_t *data, size_t size)
{
    static const char text[] = "the <s> caf\xC3\xA9 12 \xFF\n  e\xCC\x81 <|im_start|>";
    const sl_text_piece p = {text, sizeof(text) - 1, true};
    sl_tokenizer *t = NULL;
    sl_err err = {0};
    sl_token_list list;
    sl_buf out;
    sl_gguf *g;

    if (sl_gguf_open_memory(data, size, &g, NULL) != SL_OK)
        return;
    if (sl_tokenizer_create(g, &t, &err) != SL_OK) {
        SL_ASSERT(err.text[0] != '\0' && t == NULL);
        sl_gguf_close(g);
        return;
    }
    sl_gguf_close(g);
    list = encode(t, &p, 1, true);
    sl_buf_init(&out, 1 << 26);
    sl_tokenizer_decode_all(t, list.id, list.count, true, &out);
    sl_buf_done(&out);
    sl_free(list.id);
    sl_tokenizer_destroy(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int kind = size > 0 ? data[0] & 3 : 0;

    if (size < 3)
        return 0;
    if (kind == A_FILE)
        any_file(data + 3, size - 3);
    else
        any_text(kind, data, size);
    return 0;
}
