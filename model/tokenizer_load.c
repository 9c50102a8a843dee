/* model/tokenizer_load.c - a GGUF file's tokenizer keys to tables.
 *
 * Order matters: types first, for they say what a text means; then texts; then the maps over them;
 * then merges or scores, which name tokens by text. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/rng.h"
#include "model/tokenizer_internal.h"

#define KEY_TOKENS "tokenizer.ggml.tokens"
#define KEY_TYPES "tokenizer.ggml.token_type"
#define KEY_SCORES "tokenizer.ggml.scores"
#define KEY_MERGES "tokenizer.ggml.merges"

enum { MERGES_MAX = 1 << 22 };

/* Marks of chat formats, by name: files often call them ordinary or user-defined tokens, and then
 * user text could spell a turn.  `ends`: it ends an answer. */
static const struct mark {
    const char *text;
    bool ends;
} mark[] = {
    {"<|im_end|>", true},
    {"<|eot_id|>", true},
    {"<|eom_id|>", true},
    {"<|end|>", true},
    {"<|endoftext|>", true},
    {"<|end_of_text|>", true},
    {"<|end_of_turn|>", true},
    {"<end_of_turn>", true},
    {"<|return|>", true},
    {"<|call|>", true},
    {"<|eot|>", true},
    {"<EOT>", true},
    {"<|im_start|>", false},
    {"<|begin_of_text|>", false},
    {"<|start_header_id|>", false},
    {"<|end_header_id|>", false},
    {"<start_of_turn>", false},
    {"<|system|>", false},
    {"<|user|>", false},
    {"<|assistant|>", false},
    {"<|start|>", false},
    {"<|message|>", false},
    {"<|channel|>", false},
};

static bool equals(sl_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static const struct mark *find_mark(sl_str text)
{
    for (size_t i = 0; i < sizeof(mark) / sizeof(mark[0]); i++)
        if (equals(text, mark[i].text))
            return &mark[i];
    return NULL;
}

/* --- scalars ----------------------------------------------------------------------------- */

/* An optional token id; some writers put -1 for none. */
static sl_status read_id(const sl_gguf *g, const char *key, uint32_t count, uint32_t *id,
                         sl_err *err)
{
    sl_err local;
    sl_status status = sl_gguf_get_u32(g, key, id, &local);

    if (status == SL_ENOTFOUND) {
        *id = SL_TOKEN_NONE;
        return SL_OK;
    }
    if (status != SL_OK) {
        if (err != NULL)
            *err = local;
        return status;
    }
    if (*id != SL_TOKEN_NONE && *id >= count)
        return sl_fail(err, SL_EFORMAT, "%s is %u, but there are %u tokens", key, *id, count);
    return SL_OK;
}

static sl_status read_flag(const sl_gguf *g, const char *key, bool otherwise, bool *flag,
                           sl_err *err)
{
    *flag = otherwise;
    return sl_gguf_has(g, key) ? sl_gguf_get_bool(g, key, flag, err) : SL_OK;
}

/* An array of `count` numbers; whole ones, or any. */
static sl_status check_array(const sl_gguf *g, const char *key, uint64_t count, bool whole,
                             sl_err *err)
{
    sl_gguf_type type;
    uint64_t n;
    sl_status status = sl_gguf_get_array(g, key, &type, &n, err);

    if (status != SL_OK)
        return status;
    if (type == SL_GGUF_STRING || type == SL_GGUF_BOOL || type == SL_GGUF_ARRAY ||
        (whole && (type == SL_GGUF_F32 || type == SL_GGUF_F64)))
        return sl_fail(err, SL_EFORMAT, "%s is not an array of%s numbers", key,
                       whole ? " whole" : "");
    if (n != count)
        return sl_fail(err, SL_EFORMAT, "%s has %llu items for %llu tokens", key,
                       (unsigned long long)n, (unsigned long long)count);
    return SL_OK;
}

static sl_status read_string_array(const sl_gguf *g, const char *key, uint64_t max, uint32_t *count,
                                   sl_err *err)
{
    sl_gguf_type type;
    uint64_t n;
    sl_status status = sl_gguf_get_array(g, key, &type, &n, err);

    if (status != SL_OK)
        return status;
    if (type != SL_GGUF_STRING)
        return sl_fail(err, SL_EFORMAT, "%s is not an array of strings", key);
    if (n > max)
        return sl_fail(err, SL_EFORMAT, "%s has %llu items, at most %llu", key,
                       (unsigned long long)n, (unsigned long long)max);
    *count = (uint32_t)n;
    return SL_OK;
}

/* --- types ------------------------------------------------------------------------------- */

static sl_status read_types(sl_tokenizer *t, const sl_gguf *g, sl_err *err)
{
    sl_status status;

    t->type = sl_alloc(t->count, 1);
    if (t->type == NULL)
        return sl_fail(err, SL_ENOMEM, "types of %u tokens", t->count);
    memset(t->type, SL_TOKEN_NORMAL, t->count);
    if (!sl_gguf_has(g, KEY_TYPES))
        return SL_OK;
    status = check_array(g, KEY_TYPES, t->count, true, err);
    if (status != SL_OK)
        return status;
    for (uint32_t i = 0; i < t->count; i++) {
        const int64_t type = sl_gguf_array_int(g, KEY_TYPES, i);

        if (type < 0 || type > SL_TOKEN_BYTE)
            return sl_fail(err, SL_EFORMAT, "%s[%u] is %lld, which is no token type", KEY_TYPES, i,
                           (long long)type);
        if (type != 0) /* 0: not stated */
            t->type[i] = (uint8_t)type;
    }
    return SL_OK;
}

static void add_eog(sl_tokenizer *t, uint32_t id)
{
    if (id != SL_TOKEN_NONE && !sl_tokenizer_is_eog(t, id) && t->eog_count < SL_TOKENIZER_EOG_MAX)
        t->eog[t->eog_count++] = id;
}

/* A token that the file names as special, and that looks like a mark, is one. */
static void make_control(sl_tokenizer *t, uint32_t id)
{
    const sl_str text = sl_texts_get(&t->text, id);

    if (t->type[id] == SL_TOKEN_USER || (t->type[id] == SL_TOKEN_NORMAL && text.len >= 3 &&
                                         (text.data[0] == '<' || text.data[0] == '[')))
        t->type[id] = SL_TOKEN_CONTROL;
}

static sl_status read_specials(sl_tokenizer *t, const sl_gguf *g, sl_err *err)
{
    static const char *const ends[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    sl_status status;
    uint32_t id;

    status = read_id(g, "tokenizer.ggml.bos_token_id", t->count, &t->bos, err);
    if (status == SL_OK)
        status = read_id(g, "tokenizer.ggml.eos_token_id", t->count, &t->eos, err);
    if (status == SL_OK)
        status = read_id(g, "tokenizer.ggml.unknown_token_id", t->count, &t->unknown, err);
    if (status != SL_OK)
        return status;
    if (t->bos != SL_TOKEN_NONE)
        make_control(t, t->bos);
    if (t->eos != SL_TOKEN_NONE)
        make_control(t, t->eos);
    add_eog(t, t->eos);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        status = read_id(g, ends[i], t->count, &id, err);
        if (status != SL_OK)
            return status;
        if (id != SL_TOKEN_NONE)
            make_control(t, id);
        add_eog(t, id);
    }
    for (id = 0; id < t->count; id++) {
        const struct mark *m;

        if (t->text.data[t->text.start[id]] != '<') /* the block has a byte more than the texts */
            continue;
        m = find_mark(sl_texts_get(&t->text, id));
        if (m == NULL || t->type[id] == SL_TOKEN_UNUSED)
            continue;
        make_control(t, id);
        if (m->ends)
            add_eog(t, id);
    }
    return SL_OK;
}

/* BOS and EOS: where the file does not say, the family's habit. */
static sl_status read_flags(sl_tokenizer *t, const sl_gguf *g, sl_err *err)
{
    const bool habit = t->bytes_bpe ? t->pre->add_bos : true;
    sl_status status = read_flag(g, "tokenizer.ggml.add_bos_token", habit, &t->add_bos, err);

    if (status == SL_OK)
        status = read_flag(g, "tokenizer.ggml.add_eos_token", false, &t->add_eos, err);
    if (status == SL_OK && !t->bytes_bpe)
        status = read_flag(g, "tokenizer.ggml.add_space_prefix", true, &t->add_space, err);
    t->add_bos = t->add_bos && t->bos != SL_TOKEN_NONE;
    t->add_eos = t->add_eos && t->eos != SL_TOKEN_NONE;
    return status;
}

/* --- texts ------------------------------------------------------------------------------- */

static sl_status read_texts(sl_tokenizer *t, const sl_gguf *g, sl_err *err)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < t->count; i++) {
        const sl_str s = sl_gguf_array_str(g, KEY_TOKENS, i);

        if (s.len > SL_VOCAB_TEXT_MAX)
            return sl_fail(err, SL_EFORMAT, "token %u has %zu bytes, at most %d", i, s.len,
                           SL_VOCAB_TEXT_MAX);
        bytes += s.len;
    }
    if (bytes >= UINT32_MAX)
        return sl_fail(err, SL_EFORMAT, "the tokens' texts have %zu bytes", bytes);
    t->text.count = t->count;
    t->text.start = sl_alloc((size_t)t->count + 1, sizeof(*t->text.start));
    t->text.data = sl_alloc(bytes + 1, 1);
    if (t->text.start == NULL || t->text.data == NULL)
        return sl_fail(err, SL_ENOMEM, "texts of %u tokens", t->count);
    for (uint32_t i = 0; i < t->count; i++) {
        const sl_str s = sl_gguf_array_str(g, KEY_TOKENS, i);

        if (s.len > 0)
            memcpy(t->text.data + t->text.start[i], s.data, s.len);
        t->text.start[i + 1] = t->text.start[i] + (uint32_t)s.len;
    }
    return SL_OK;
}

/* The alphabet of byte-level BPE: printable Latin-1 stands for itself, the other bytes, in order,
 * for U+0100 and up.  byte_of[code] is the byte, or -1. */
enum { ALPHABET = 512 };

static void make_alphabet(int16_t byte_of[ALPHABET])
{
    uint32_t next = 256;

    for (int i = 0; i < ALPHABET; i++)
        byte_of[i] = -1;
    for (int16_t b = 0; b < 256; b++) {
        if ((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174)
            byte_of[b] = b;
        else
            byte_of[next++] = b;
    }
}

/* A text of the alphabet to bytes; SIZE_MAX if it has other characters. */
static size_t alphabet_bytes(const int16_t byte_of[ALPHABET], sl_str s, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len;) {
        uint32_t code;

        i += sl_utf8_next(s.data + i, s.len - i, &code);
        if (code >= ALPHABET || byte_of[code] < 0)
            return SIZE_MAX;
        out[n++] = (char)byte_of[code];
    }
    return n;
}

static size_t piece_bytes(sl_str s, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len;) {
        if (s.len - i >= 3 && memcmp(s.data + i, SL_PIECE_SPACE, 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = s.data[i++];
        }
    }
    return n;
}

/* "<0x0A>" */
static bool byte_text(sl_str s, uint8_t *byte)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *high, *low;

    if (s.len != 6 || memcmp(s.data, "<0x", 3) != 0 || s.data[5] != '>')
        return false;
    high = memchr(digits, s.data[3], 16);
    low = memchr(digits, s.data[4], 16);
    if (high == NULL || low == NULL)
        return false;
    *byte = (uint8_t)((high - digits) << 4 | (low - digits));
    return true;
}

/* What each token stands for, and which are found by their text: t->bytes, t->map, t->byte. */
static sl_status make_bytes(sl_tokenizer *t, sl_err *err)
{
    int16_t byte_of[ALPHABET];
    char *at;

    make_alphabet(byte_of);
    for (int b = 0; b < 256; b++)
        t->byte[b] = SL_TOKEN_NONE;
    t->bytes.count = t->count;
    t->bytes.start = sl_alloc((size_t)t->count + 1, sizeof(*t->bytes.start));
    t->bytes.data = sl_alloc((size_t)t->text.start[t->count] + 1, 1); /* never longer */
    if (t->bytes.start == NULL || t->bytes.data == NULL ||
        !sl_text_map_init(&t->map, t->bytes_bpe ? &t->bytes : &t->text, t->count))
        return sl_fail(err, SL_ENOMEM, "index of %u tokens", t->count);

    for (uint32_t i = 0; i < t->count; i++) {
        const sl_str s = sl_texts_get(&t->text, i);
        const uint8_t type = t->type[i];
        bool found = type == SL_TOKEN_NORMAL || (type == SL_TOKEN_UNUSED && !t->bytes_bpe);
        size_t n = SIZE_MAX;

        at = t->bytes.data + t->bytes.start[i];
        if (type == SL_TOKEN_BYTE) {
            uint8_t byte;

            if (!byte_text(s, &byte))
                return sl_fail(err, SL_EFORMAT, "token %u, '%.*s', is not of the form <0x0A>", i,
                               (int)(s.len < 64 ? s.len : 64), s.data);
            if (t->byte[byte] == SL_TOKEN_NONE)
                t->byte[byte] = i;
            *at = (char)byte;
            n = 1;
        } else if (!t->bytes_bpe) {
            n = found || type == SL_TOKEN_USER ? piece_bytes(s, at) : SIZE_MAX;
        } else if (found) {
            n = alphabet_bytes(byte_of, s, at);
            found = n != SIZE_MAX;
        }
        if (n == SIZE_MAX) { /* its text is what it stands for */
            memcpy(at, s.data, s.len);
            n = s.len;
        }
        t->bytes.start[i + 1] = t->bytes.start[i] + (uint32_t)n;
        if (found)
            sl_text_map_put(&t->map, i);
        if (!t->bytes_bpe && type == SL_TOKEN_UNUSED)
            t->has_unused = true;
    }
    return SL_OK;
}

/* Control and user-defined tokens go into the tree; SentencePiece's with its own space, as the
 * text that is searched. */
static sl_status make_tree(sl_tokenizer *t, sl_err *err)
{
    sl_buf text;
    bool ok = true;

    sl_buf_init(&text, SL_VOCAB_TEXT_MAX * 3);
    for (uint32_t i = 0; i < t->count && ok; i++) {
        const sl_str s = sl_texts_get(&t->text, i);

        if (t->type[i] != SL_TOKEN_CONTROL && t->type[i] != SL_TOKEN_USER)
            continue;
        if (t->bytes_bpe) {
            ok = sl_tree_put(&t->special, s, i);
            continue;
        }
        sl_buf_reset(&text);
        for (size_t k = 0; k < s.len; k++) {
            if (s.data[k] == ' ')
                sl_buf_add_str(&text, SL_PIECE_SPACE);
            else
                sl_buf_add_char(&text, s.data[k]);
        }
        ok = !text.failed && sl_tree_put(&t->special, (sl_str){text.data, text.len}, i);
    }
    sl_buf_done(&text);
    return ok ? SL_OK : sl_fail(err, SL_ENOMEM, "tree of special tokens");
}

/* --- merges ------------------------------------------------------------------------------ */

static void put_pair(sl_tokenizer *t, sl_pair pair)
{
    uint32_t i = (uint32_t)sl_mix64((uint64_t)pair.left << 32 | pair.right) & t->pair_mask;

    for (; t->pair[i].id != SL_TOKEN_NONE; i = (i + 1) & t->pair_mask)
        if (t->pair[i].left == pair.left && t->pair[i].right == pair.right)
            return; /* the first one counts */
    t->pair[i] = pair;
}

/* "ab cd": three tokens, of "ab", "cd" and "abcd". */
static bool parse_merge(const sl_tokenizer *t, const int16_t byte_of[ALPHABET], sl_str s,
                        sl_pair *pair)
{
    const char *space = s.len > 1 ? memchr(s.data + 1, ' ', s.len - 1) : NULL;
    char bytes[2 * SL_VOCAB_TEXT_MAX];
    size_t left, right;

    if (space == NULL || s.len > sizeof(bytes))
        return false;
    left = alphabet_bytes(byte_of, (sl_str){s.data, (size_t)(space - s.data)}, bytes);
    if (left == SIZE_MAX)
        return false;
    right = alphabet_bytes(byte_of, (sl_str){space + 1, s.len - (size_t)(space - s.data) - 1},
                           bytes + left);
    if (right == SIZE_MAX)
        return false;
    pair->left = sl_text_map_find(&t->map, bytes, left);
    pair->right = sl_text_map_find(&t->map, bytes + left, right);
    pair->id = sl_text_map_find(&t->map, bytes, left + right);
    return pair->left != SL_TOKEN_NONE && pair->right != SL_TOKEN_NONE && pair->id != SL_TOKEN_NONE;
}

static sl_status read_merges(sl_tokenizer *t, const sl_gguf *g, sl_err *err)
{
    int16_t byte_of[ALPHABET];
    uint32_t count = 0, slots = 16;
    sl_status status = read_string_array(g, KEY_MERGES, MERGES_MAX, &count, err);

    if (status != SL_OK)
        return status;
    make_alphabet(byte_of);
    for (int b = 0; b < 256; b++) {
        const char byte = (char)b;

        t->byte[b] = sl_text_map_find(&t->map, &byte, 1);
    }
    while (slots / 2 < count)
        slots *= 2;
    t->pair = sl_alloc(slots, sizeof(*t->pair));
    if (t->pair == NULL)
        return sl_fail(err, SL_ENOMEM, "%u merges", count);
    t->pair_mask = slots - 1;
    for (uint32_t i = 0; i < slots; i++)
        t->pair[i].id = SL_TOKEN_NONE;
    for (uint32_t i = 0; i < count; i++) {
        const sl_str s = sl_gguf_array_str(g, KEY_MERGES, i);
        sl_pair pair = {.rank = i};

        if (!parse_merge(t, byte_of, s, &pair))
            return sl_fail(err, SL_EFORMAT, "%s[%u], '%.*s', is not two tokens that make a third",
                           KEY_MERGES, i, (int)(s.len < 64 ? s.len : 64), s.data);
        put_pair(t, pair);
    }
    return SL_OK;
}

static sl_status load_bytes_bpe(sl_tokenizer *t, const sl_gguf *g, sl_err *err)
{
    const char *names;
    sl_str pre;
    sl_status status;

    if (!sl_gguf_has(g, "tokenizer.ggml.pre"))
        return sl_fail(err, SL_EFORMAT,
                       "the file does not name its pre-tokenizer (tokenizer.ggml.pre): its text "
                       "would be cut wrongly");
    status = sl_gguf_get_str(g, "tokenizer.ggml.pre", &pre, err);
    if (status != SL_OK)
        return status;
    t->pre = sl_pre_find(pre, &names);
    if (t->pre == NULL)
        return sl_fail(err, SL_EUNSUPPORTED, "pre-tokenizer '%.*s' is not supported; these are: %s",
                       (int)(pre.len < 64 ? pre.len : 64), pre.data, names);
    status = make_bytes(t, err);
    if (status == SL_OK)
        status = read_merges(t, g, err);
    if (status == SL_OK)
        status = sl_split_create(t->pre, &t->split, err);
    return status;
}

/* --- scores ------------------------------------------------------------------------------ */

typedef struct scored {
    float score;
    uint32_t id;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static sl_status read_scores(sl_tokenizer *t, const sl_gguf *g, sl_err *err)
{
    scored *order = NULL;
    uint32_t priority = 0;
    sl_status status = check_array(g, KEY_SCORES, t->count, false, err);

    if (status != SL_OK)
        return status;
    t->priority = sl_alloc(t->count, sizeof(*t->priority));
    order = sl_alloc(t->count, sizeof(*order));
    if (t->priority == NULL || order == NULL) {
        status = sl_fail(err, SL_ENOMEM, "scores of %u tokens", t->count);
        goto out;
    }
    for (uint32_t i = 0; i < t->count; i++) {
        order[i] = (scored){sl_gguf_array_f32(g, KEY_SCORES, i), i};
        if (order[i].score != order[i].score) {
            status = sl_fail(err, SL_EFORMAT, "%s[%u] is not a number", KEY_SCORES, i);
            goto out;
        }
    }
    qsort(order, t->count, sizeof(*order), by_score);
    for (uint32_t i = 0; i < t->count; i++) {
        if (i > 0 && order[i].score != order[i - 1].score)
            priority++;
        t->priority[order[i].id] = priority;
    }
out:
    sl_free(order);
    return status;
}

/* Which bytes are followed by a space inside some token. */
static void find_inner_spaces(sl_tokenizer *t)
{
    for (uint32_t id = 0; id < t->count; id++) {
        const sl_str s = sl_texts_get(&t->text, id);

        if (t->type[id] != SL_TOKEN_NORMAL && t->type[id] != SL_TOKEN_UNUSED)
            continue;
        for (size_t i = 1; i + 3 <= s.len; i++) {
            if (memcmp(s.data + i, SL_PIECE_SPACE, 3) != 0)
                continue;
            if (i < 3 || memcmp(s.data + i - 3, SL_PIECE_SPACE, 3) != 0)
                t->joins_space[(uint8_t)s.data[i - 1]] = true;
        }
    }
}

/* A byte without a token becomes the unknown token: then there must be one. */
static sl_status check_fallback(sl_tokenizer *t, sl_err *err)
{
    for (uint32_t id = 0; id < t->count && t->unknown == SL_TOKEN_NONE; id++)
        if (t->type[id] == SL_TOKEN_UNKNOWN)
            t->unknown = id;
    for (int b = 0; b < 256; b++)
        if (t->byte[b] == SL_TOKEN_NONE && t->unknown == SL_TOKEN_NONE)
            return sl_fail(err, SL_EFORMAT,
                           "the vocabulary has neither a token for byte 0x%02X nor an unknown one",
                           b);
    return SL_OK;
}

/* Normalisation by tables in the file is for other engines (T5, XLM-R): not here. */
static sl_status check_normaliser(const sl_gguf *g, sl_err *err)
{
    bool remove = false;
    sl_status status = read_flag(g, "tokenizer.ggml.remove_extra_whitespaces", false, &remove, err);

    if (status == SL_OK && remove)
        status = sl_fail(err, SL_EUNSUPPORTED,
                         "a SentencePiece model that removes white space "
                         "(remove_extra_whitespaces) is not supported");
    if (status == SL_OK && sl_gguf_has(g, "tokenizer.ggml.precompiled_charsmap"))
        status = sl_fail(err, SL_EUNSUPPORTED,
                         "a SentencePiece model with normalisation tables "
                         "(precompiled_charsmap) is not supported");
    return status;
}

static sl_status load_pieces(sl_tokenizer *t, const sl_gguf *g, sl_err *err)
{
    sl_status status = check_normaliser(g, err);

    if (status == SL_OK)
        status = make_bytes(t, err);
    if (status == SL_OK)
        status = read_scores(t, g, err);
    if (status == SL_OK)
        status = check_fallback(t, err);
    if (status == SL_OK)
        find_inner_spaces(t);
    return status;
}

/* --- all of it --------------------------------------------------------------------------- */

static sl_status load(sl_tokenizer *t, const sl_gguf *g, sl_err *err)
{
    sl_str model;
    sl_status status = sl_gguf_get_str(g, "tokenizer.ggml.model", &model, err);

    if (status != SL_OK)
        return status == SL_ENOTFOUND
                   ? sl_fail(err, SL_EFORMAT, "the file has no tokenizer (tokenizer.ggml.model)")
                   : status;
    t->bytes_bpe = equals(model, "gpt2");
    if (!t->bytes_bpe && !equals(model, "llama"))
        return sl_fail(err, SL_EUNSUPPORTED,
                       "tokenizer '%.*s' is not supported; these are: gpt2 (byte-level BPE), "
                       "llama (SentencePiece BPE)",
                       (int)(model.len < 64 ? model.len : 64), model.data);
    status = read_string_array(g, KEY_TOKENS, SL_VOCAB_TOKENS_MAX, &t->count, err);
    if (status == SL_OK && t->count == 0)
        status = sl_fail(err, SL_EFORMAT, "%s is empty", KEY_TOKENS);
    if (status == SL_OK)
        status = read_types(t, g, err);
    if (status == SL_OK)
        status = read_texts(t, g, err);
    if (status == SL_OK)
        status = read_specials(t, g, err);
    if (status == SL_OK)
        status = t->bytes_bpe ? load_bytes_bpe(t, g, err) : load_pieces(t, g, err);
    if (status == SL_OK)
        status = make_tree(t, err);
    if (status == SL_OK)
        status = read_flags(t, g, err);
    return status == SL_ENOTFOUND ? SL_EFORMAT : status; /* a key that must be there */
}

sl_status sl_tokenizer_create(const sl_gguf *g, sl_tokenizer **out, sl_err *err)
{
    sl_tokenizer *t = sl_alloc(1, sizeof(*t));
    sl_status status;

    if (t == NULL)
        return sl_fail(err, SL_ENOMEM, "tokenizer handle");
    status = load(t, g, err);
    if (status != SL_OK) {
        if (err != NULL)
            err->status = status;
        sl_tokenizer_destroy(t);
        return status;
    }
    *out = t;
    return SL_OK;
}

void sl_tokenizer_destroy(sl_tokenizer *t)
{
    if (t == NULL)
        return;
    sl_free(t->type);
    sl_texts_done(&t->text);
    sl_texts_done(&t->bytes);
    sl_text_map_done(&t->map);
    sl_tree_done(&t->special);
    sl_split_destroy(t->split);
    sl_free(t->pair);
    sl_free(t->priority);
    sl_free(t);
}
