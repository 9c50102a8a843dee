/* model/tokenizer_engine.c - a segment of text to ids, by either engine.
 *
 * Both cut the segment into words that no token can cross, so that words are independent of each
 * other: the merges of one never touch another.  Words repeat, so a call remembers where in its
 * own output the ids of a word lie, in a table of one place per hash. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/rng.h"
#include "model/tokenizer_internal.h"

enum { SEEN_WORD_MAX = 64 }; /* bytes: longer words hardly ever repeat */

sl_status sl_encode_push(sl_encode *e, uint32_t id)
{
    sl_token_list *out = e->out;

    SL_ASSERT(id < e->t->count);
    if (id == e->bos_placed && out->count == e->first + 1) {
        e->bos_placed = SL_TOKEN_NONE; /* the text begins with it itself */
        return SL_OK;
    }
    if (out->count >= out->limit)
        return sl_fail(e->err, SL_ETOOLONG, "the text has more than %zu tokens", out->limit);
    if (out->count == out->capacity) {
        const size_t capacity = out->capacity < 32 ? 64 : out->capacity * 2;
        uint32_t *grown = sl_realloc(out->id, capacity, sizeof(*grown));

        if (grown == NULL)
            return sl_fail(e->err, SL_ENOMEM, "no memory for %zu tokens", capacity);
        out->id = grown;
        out->capacity = capacity;
    }
    out->id[out->count++] = id;
    return SL_OK;
}

const sl_pair *sl_pair_get(const sl_tokenizer *t, uint32_t left, uint32_t right)
{
    uint32_t i = (uint32_t)sl_mix64((uint64_t)left << 32 | right) & t->pair_mask;

    for (; t->pair[i].id != SL_TOKEN_NONE; i = (i + 1) & t->pair_mask)
        if (t->pair[i].left == left && t->pair[i].right == right)
            return &t->pair[i];
    return NULL;
}

/* The place of a word in the table of words seen; NULL: it is not to be remembered. */
static sl_seen_word *seen_place(const sl_encode *e, sl_str word, uint64_t *hash)
{
    if (word.len > SEEN_WORD_MAX)
        return NULL;
    *hash = sl_text_hash(word.data, word.len);
    return &e->seen[*hash & e->seen_mask];
}

static bool is_seen(const sl_seen_word *place, sl_str word, uint64_t hash)
{
    return place != NULL && place->text != NULL && place->hash == hash && place->len == word.len &&
           memcmp(place->text, word.data, word.len) == 0;
}

static sl_status push_seen(sl_encode *e, const sl_seen_word *place)
{
    sl_status status = SL_OK;

    for (uint32_t i = 0; i < place->count && status == SL_OK; i++)
        status = sl_encode_push(e, e->out->id[place->first + i]);
    return status;
}

static void remember(const sl_encode *e, sl_seen_word *place, sl_str word, uint64_t hash,
                     size_t first)
{
    if (place != NULL)
        *place = (sl_seen_word){.hash = hash,
                                .text = word.data,
                                .len = (uint32_t)word.len,
                                .count = (uint32_t)(e->out->count - first),
                                .first = first};
}

/* `end`, or less: a word may not be longer than we merge.  Cuts between characters. */
static size_t bounded_end(sl_str text, size_t pos, size_t end)
{
    size_t cut = pos + SL_TOKENIZER_WORD_MAX;

    if (end <= cut)
        return end;
    for (int i = 0; i < 3 && ((uint8_t)text.data[cut] & 0xC0) == 0x80; i++)
        cut--;
    return cut;
}

static sl_status no_memory(sl_encode *e, size_t len)
{
    return sl_fail(e->err, SL_ENOMEM, "no memory to tokenise %zu bytes", len);
}

/* --- byte-level BPE ---------------------------------------------------------------------- */

static bool find_pair(const sl_tokenizer *t, const char *word, const sl_part *l, const sl_part *r,
                      uint32_t *priority, uint32_t *id)
{
    const sl_pair *pair = sl_pair_get(t, l->id, r->id);

    (void)word;
    if (pair == NULL)
        return false;
    *priority = pair->rank;
    *id = pair->id;
    return true;
}

static sl_status merge_bytes(sl_encode *e, sl_str word)
{
    const sl_tokenizer *t = e->t;
    sl_merge_space *space = &e->space;
    sl_status status = SL_OK;
    uint32_t parts = 0;

    if (!sl_merge_reserve(space, word.len))
        return no_memory(e, word.len);
    /* A byte that the vocabulary lacks is left out: its neighbours become neighbours. */
    for (size_t i = 0; i < word.len; i++) {
        const uint32_t id = t->byte[(uint8_t)word.data[i]];

        if (id != SL_TOKEN_NONE) {
            space->part[parts].start = (uint32_t)i;
            space->part[parts].len = 1;
            space->part[parts++].id = id;
        }
    }
    if (parts == 0)
        return SL_OK;
    space->part_count = parts;
    sl_merge(space, t, word.data, find_pair);
    for (uint32_t i = 0; i != SL_TOKEN_NONE && status == SL_OK; i = space->part[i].next)
        status = sl_encode_push(e, space->part[i].id);
    return status;
}

static sl_status encode_bytes_word(sl_encode *e, sl_str word)
{
    const size_t first = e->out->count;
    sl_seen_word *place;
    uint64_t hash = 0;
    uint32_t id;
    sl_status status;

    if (word.len == 1) {
        id = e->t->byte[(uint8_t)word.data[0]];
        return id == SL_TOKEN_NONE ? SL_OK : sl_encode_push(e, id);
    }
    place = seen_place(e, word, &hash);
    if (is_seen(place, word, hash))
        return push_seen(e, place);
    id = e->t->pre->ignore_merges ? sl_text_map_find(&e->t->map, word.data, word.len)
                                  : SL_TOKEN_NONE;
    status = id != SL_TOKEN_NONE ? sl_encode_push(e, id) : merge_bytes(e, word);
    if (status == SL_OK)
        remember(e, place, word, hash, first);
    return status;
}

/* Valid UTF-8. */
static sl_status encode_run(sl_encode *e, sl_str run)
{
    size_t pos = 0, end = 0;

    while (pos < run.len) {
        sl_status status = sl_split_next(e->t->split, e->split, run, pos, &end, e->err);

        if (status != SL_OK)
            return status;
        while (pos < end) {
            const size_t cut = bounded_end(run, pos, end);

            status = encode_bytes_word(e, (sl_str){run.data + pos, cut - pos});
            if (status != SL_OK)
                return status;
            pos = cut;
        }
    }
    return SL_OK;
}

sl_status sl_encode_bytes_segment(sl_encode *e, sl_str text)
{
    size_t pos = 0;

    if (e->t->pre->nfc && !sl_nfc(text, &e->arena, &text))
        return no_memory(e, text.len);
    while (pos < text.len) {
        size_t end = pos;
        sl_status status;

        while (end < text.len) {
            uint32_t code;
            size_t n = 1;

            if ((uint8_t)text.data[end] >= 0x80) {
                n = sl_utf8_next(text.data + end, text.len - end, &code);
                if (code == UINT32_MAX)
                    break;
            }
            end += n;
        }
        if (end > pos)
            status = encode_run(e, (sl_str){text.data + pos, end - pos});
        else /* an invalid byte is a word of its own */
            status = encode_bytes_word(e, (sl_str){text.data + end++, 1});
        if (status != SL_OK)
            return status;
        pos = end;
    }
    return SL_OK;
}

/* --- SentencePiece ----------------------------------------------------------------------- */

static bool find_piece(const sl_tokenizer *t, const char *word, const sl_part *l, const sl_part *r,
                       uint32_t *priority, uint32_t *id)
{
    *id = sl_text_map_find(&t->map, word + l->start, (size_t)l->len + r->len);
    if (*id == SL_TOKEN_NONE)
        return false;
    *priority = t->priority[*id];
    return true;
}

/* Push a text that is no token: its bytes, or one `unknown` for a whole stretch. */
static sl_status push_fallback(sl_encode *e, const char *text, size_t len, bool *unknown)
{
    const sl_token_list *out = e->out;
    sl_status status = SL_OK;

    for (size_t i = 0; i < len && status == SL_OK; i++) {
        uint32_t id = e->t->byte[(uint8_t)text[i]];

        if (id == SL_TOKEN_NONE) {
            *unknown = true;
            id = e->t->unknown;
            if (out->count > e->first && out->id[out->count - 1] == id)
                continue;
        }
        status = sl_encode_push(e, id);
    }
    return status;
}

/* Push what a part became; an unused token is taken apart again, and its halves too if need be:
 * as deep as a token has characters at most, for a half is shorter than the whole. */
static sl_status push_part(sl_encode *e, const char *text, const sl_part *part, bool *unknown)
{
    const sl_tokenizer *t = e->t;
    const sl_join *join;
    sl_part half;
    sl_status status;

    if (part->id != SL_TOKEN_NONE && t->type[part->id] != SL_TOKEN_UNUSED)
        return sl_encode_push(e, part->id);
    if (part->join == SL_TOKEN_NONE)
        return push_fallback(e, text + part->start, part->len, unknown);
    join = &e->space.join[part->join];
    half = (sl_part){
        .start = part->start, .len = join->left_len, .id = join->left_id, .join = join->left};
    status = push_part(e, text, &half, unknown);
    if (status != SL_OK)
        return status;
    half = (sl_part){.start = part->start + join->left_len,
                     .len = part->len - join->left_len,
                     .id = join->right_id,
                     .join = join->right};
    return push_part(e, text, &half, unknown);
}

static sl_status merge_pieces(sl_encode *e, sl_str word, bool *unknown)
{
    const sl_tokenizer *t = e->t;
    sl_merge_space *space = &e->space;
    sl_status status = SL_OK;
    uint32_t parts = 0;

    if (!sl_merge_reserve(space, word.len))
        return no_memory(e, word.len);
    for (uint32_t i = 0; i < word.len;) {
        uint32_t code;
        const uint32_t n = (uint32_t)sl_utf8_next(word.data + i, word.len - i, &code);

        space->part[parts].start = i;
        space->part[parts].len = n;
        space->part[parts++].id = sl_text_map_find(&t->map, word.data + i, n);
        i += n;
    }
    space->part_count = parts;
    sl_merge(space, t, word.data, find_piece);
    for (uint32_t i = 0; i != SL_TOKEN_NONE && status == SL_OK; i = space->part[i].next)
        status = push_part(e, word.data, &space->part[i], unknown);
    return status;
}

static sl_status encode_piece_word(sl_encode *e, sl_str word)
{
    const size_t first = e->out->count;
    bool unknown = false;
    uint64_t hash = 0;
    sl_seen_word *place = seen_place(e, word, &hash);
    sl_status status;

    if (is_seen(place, word, hash))
        return push_seen(e, place);
    status = merge_pieces(e, word, &unknown);
    /* How many `unknown` a word gives depends on what is before it. */
    if (status == SL_OK && !unknown)
        remember(e, place, word, hash, first);
    return status;
}

static bool is_space_at(sl_str text, size_t i)
{
    return i + 3 <= text.len && memcmp(text.data + i, SL_PIECE_SPACE, 3) == 0;
}

/* A word ends before a space that follows something else, unless some token holds a space right
 * after such a byte. */
static size_t piece_word_end(const sl_tokenizer *t, sl_str text, size_t pos)
{
    size_t i = pos;

    for (;;) {
        const char *space = memchr(text.data + i + 1, SL_PIECE_SPACE[0], text.len - i - 1);

        if (space == NULL)
            return text.len;
        i = (size_t)(space - text.data);
        if (is_space_at(text, i) && !t->joins_space[(uint8_t)text.data[i - 1]] &&
            !(i >= pos + 3 && is_space_at(text, i - 3)))
            return i;
    }
}

sl_status sl_encode_piece_segment(sl_encode *e, sl_str text)
{
    size_t pos = 0;

    if (e->t->add_space) {
        char *copy = sl_arena_alloc(&e->arena, text.len + 3, 1);

        if (copy == NULL)
            return no_memory(e, text.len);
        memcpy(copy, SL_PIECE_SPACE, 3);
        memcpy(copy + 3, text.data, text.len);
        text = (sl_str){copy, text.len + 3};
    }
    while (pos < text.len) {
        const size_t end = piece_word_end(e->t, text, pos);

        while (pos < end) {
            const size_t cut = bounded_end(text, pos, end);
            const sl_status status = encode_piece_word(e, (sl_str){text.data + pos, cut - pos});

            if (status != SL_OK)
                return status;
            pos = cut;
        }
    }
    return SL_OK;
}
