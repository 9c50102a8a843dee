/* model/tokenizer.c - see tokenizer.h: joining the pieces, finding special tokens, decoding. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/tokenizer_internal.h"

uint32_t sl_tokenizer_vocab(const sl_tokenizer *t)
{
    return t->count;
}

uint32_t sl_tokenizer_bos(const sl_tokenizer *t)
{
    return t->bos;
}

uint32_t sl_tokenizer_eos(const sl_tokenizer *t)
{
    return t->eos;
}

bool sl_tokenizer_adds_bos(const sl_tokenizer *t)
{
    return t->add_bos;
}

uint32_t sl_tokenizer_eog(const sl_tokenizer *t, uint32_t ids[SL_TOKENIZER_EOG_MAX])
{
    memcpy(ids, t->eog, t->eog_count * sizeof(*ids));
    return t->eog_count;
}

bool sl_tokenizer_is_eog(const sl_tokenizer *t, uint32_t id)
{
    for (uint32_t i = 0; i < t->eog_count; i++)
        if (t->eog[i] == id)
            return true;
    return false;
}

bool sl_tokenizer_is_control(const sl_tokenizer *t, uint32_t id)
{
    SL_ASSERT(id < t->count);
    return t->type[id] == SL_TOKEN_CONTROL;
}

sl_str sl_tokenizer_vocab_text(const sl_tokenizer *t, uint32_t id)
{
    SL_ASSERT(id < t->count);
    return sl_texts_get(&t->text, id);
}

/* --- encoding ---------------------------------------------------------------------------- */

/* The pieces as one text, and where in it control tokens count. */
typedef struct joined {
    sl_str text;
    size_t *template_end; /* pairs: start and end of each stretch of template text, in order */
    size_t stretches;
} joined;

/* Copy a piece; for SentencePiece, spaces become its own.  Returns the bytes written. */
static size_t copy_piece(const sl_tokenizer *t, const sl_text_piece *piece, char *to)
{
    size_t n = 0;

    if (t->bytes_bpe) {
        if (piece->len > 0)
            memcpy(to, piece->data, piece->len);
        return piece->len;
    }
    for (size_t i = 0; i < piece->len; i++) {
        if (piece->data[i] == ' ') {
            memcpy(to + n, SL_PIECE_SPACE, 3);
            n += 3;
        } else {
            to[n++] = piece->data[i];
        }
    }
    return n;
}

static size_t joined_bytes(const sl_tokenizer *t, const sl_text_piece *piece)
{
    size_t spaces = 0;

    if (!t->bytes_bpe)
        for (size_t i = 0; i < piece->len; i++)
            spaces += piece->data[i] == ' ';
    return piece->len + 2 * spaces;
}

static sl_status join_pieces(sl_encode *e, const sl_text_piece *piece, size_t count, joined *out)
{
    size_t bytes = 0, at = 0;
    char *text;

    for (size_t i = 0; i < count; i++) {
        if (piece[i].len > SL_TOKENIZER_TEXT_MAX || bytes + piece[i].len > SL_TOKENIZER_TEXT_MAX)
            return sl_fail(e->err, SL_ETOOBIG, "more than %d bytes of text to tokenise",
                           SL_TOKENIZER_TEXT_MAX);
        bytes += piece[i].len;
    }
    bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += joined_bytes(e->t, &piece[i]);
    text = sl_arena_alloc(&e->arena, bytes, 1);
    out->template_end = sl_arena_alloc(&e->arena, 2 * count, sizeof(*out->template_end));
    if (text == NULL || out->template_end == NULL)
        return sl_fail(e->err, SL_ENOMEM, "no memory to tokenise %zu bytes", bytes);
    out->stretches = 0;
    for (size_t i = 0; i < count; i++) {
        const size_t start = at;
        size_t *last = out->template_end + 2 * out->stretches;

        at += copy_piece(e->t, &piece[i], text + at);
        if (!piece[i].special || at == start)
            continue;
        if (out->stretches > 0 && last[-1] == start) { /* goes on with the piece before */
            last[-1] = at;
            continue;
        }
        last[0] = start;
        last[1] = at;
        out->stretches++;
    }
    SL_ASSERT(at == bytes);
    out->text = (sl_str){text, bytes};
    return SL_OK;
}

/* The longest special token at text[pos]; control tokens only if they end by `control_end`.
 * Returns its length, 0 if there is none. */
static size_t match_special(const sl_tokenizer *t, sl_str text, size_t pos, size_t control_end,
                            uint32_t *id)
{
    const sl_tree_node *node = t->special.node;
    uint32_t at = t->special.root[(uint8_t)text.data[pos]];
    size_t i = pos + 1, best = 0;

    while (at != 0) {
        if (node[at].id != SL_TOKEN_NONE &&
            (t->type[node[at].id] != SL_TOKEN_CONTROL || i <= control_end)) {
            *id = node[at].id;
            best = i - pos;
        }
        if (i == text.len)
            break;
        at = node[at].child;
        while (at != 0 && node[at].byte != (uint8_t)text.data[i])
            at = node[at].next;
        i++;
    }
    return best;
}

static sl_status encode_segment(sl_encode *e, sl_str text)
{
    if (text.len == 0)
        return SL_OK;
    return e->t->bytes_bpe ? sl_encode_bytes_segment(e, text) : sl_encode_piece_segment(e, text);
}

static sl_status encode_joined(sl_encode *e, const joined *j)
{
    const sl_str text = j->text;
    size_t start = 0, stretch = 0;
    sl_status status;

    for (size_t i = 0; i < text.len;) {
        size_t control_end = 0, len;
        uint32_t id;

        if (e->t->special.root[(uint8_t)text.data[i]] == 0) {
            i++;
            continue;
        }
        while (stretch < j->stretches && j->template_end[2 * stretch + 1] <= i)
            stretch++;
        if (stretch < j->stretches && j->template_end[2 * stretch] <= i)
            control_end = j->template_end[2 * stretch + 1];
        len = match_special(e->t, text, i, control_end, &id);
        if (len == 0) {
            i++;
            continue;
        }
        status = encode_segment(e, (sl_str){text.data + start, i - start});
        if (status == SL_OK)
            status = sl_encode_push(e, id);
        if (status != SL_OK)
            return status;
        i += len;
        start = i;
    }
    return encode_segment(e, (sl_str){text.data + start, text.len - start});
}

/* What a call needs besides the text: the table of words seen, sized by the text. */
static sl_status prepare(sl_encode *e, size_t text_bytes)
{
    size_t words = 64;

    while (words < 8192 && words < text_bytes / 4)
        words *= 2;
    e->seen = sl_arena_alloc(&e->arena, words, sizeof(*e->seen));
    e->seen_mask = (uint32_t)words - 1;
    e->space.keep_joins = e->t->has_unused;
    if (e->t->bytes_bpe)
        e->split = sl_split_call_create(e->t->split);
    if (e->seen == NULL || (e->t->bytes_bpe && e->split == NULL))
        return sl_fail(e->err, SL_ENOMEM, "no memory to tokenise %zu bytes", text_bytes);
    return SL_OK;
}

sl_status sl_tokenizer_encode(const sl_tokenizer *t, const sl_text_piece *piece, size_t piece_count,
                              bool add_special, sl_token_list *out, sl_err *err)
{
    sl_encode e = {
        .t = t, .out = out, .first = out->count, .bos_placed = SL_TOKEN_NONE, .err = err};
    joined j = {0};
    sl_status status;

    sl_arena_init(&e.arena, SIZE_MAX);
    status = join_pieces(&e, piece, piece_count, &j);
    if (status != SL_OK)
        goto out;
    status = prepare(&e, j.text.len);
    if (status != SL_OK)
        goto out;
    if (add_special && t->add_bos) {
        status = sl_encode_push(&e, t->bos);
        if (status != SL_OK)
            goto out;
        e.bos_placed = t->bos;
    }
    status = encode_joined(&e, &j);
    if (status != SL_OK)
        goto out;
    e.bos_placed = SL_TOKEN_NONE;
    if (add_special && t->add_eos && (out->count == e.first || out->id[out->count - 1] != t->eos))
        status = sl_encode_push(&e, t->eos);
out:
    sl_split_call_destroy(e.split);
    sl_merge_done(&e.space);
    sl_arena_done(&e.arena);
    return status;
}

/* --- decoding ---------------------------------------------------------------------------- */

static sl_str decoded(const sl_tokenizer *t, uint32_t id, bool special)
{
    const uint8_t type = t->type[id];

    if (type == SL_TOKEN_UNUSED ||
        (!special && (type == SL_TOKEN_CONTROL || type == SL_TOKEN_UNKNOWN)))
        return (sl_str){"", 0};
    return sl_texts_get(&t->bytes, id);
}

void sl_tokenizer_decode(const sl_tokenizer *t, uint32_t id, bool special, sl_buf *out)
{
    sl_str text;

    SL_ASSERT(id < t->count);
    text = decoded(t, id, special);
    sl_buf_add(out, text.data, text.len);
}

void sl_tokenizer_decode_all(const sl_tokenizer *t, const uint32_t *id, size_t count, bool special,
                             sl_buf *out)
{
    bool first = t->add_space;

    for (size_t i = 0; i < count; i++) {
        sl_str text;

        SL_ASSERT(id[i] < t->count);
        text = decoded(t, id[i], special);
        if (first && text.len > 0) {
            first = false;
            if (text.data[0] == ' ' && t->type[id[i]] == SL_TOKEN_NORMAL)
                text = (sl_str){text.data + 1, text.len - 1};
        }
        sl_buf_add(out, text.data, text.len);
    }
}
