/* tests/model/test_tokenizer.c
 *
 * Goal: both engines, special tokens, BOS and EOS, decoding, limits; no download needed.
 * Method: small vocabularies.  The ones in data/ have expected ids from independent tokenizers (as
 * CRC-32; see make_tokenizer_cases.py); the hand-made ones have theirs written beside the text. */
#include <pthread.h>

#include "tests/model/tokenizer_vocabs.h"

/* --- checks ------------------------------------------------------------------------------ */

/* The ids as the texts of their tokens, with bars between: "he|llo". */
static const char *show_ids(const sl_tokenizer *t, const sl_token_list *list)
{
    static char text[4096];
    size_t n = 0;

    for (size_t i = 0; i < list->count; i++) {
        const sl_str s = sl_tokenizer_vocab_text(t, list->id[i]);

        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%.*s", i > 0 ? "|" : "", (int)s.len,
                              s.data);
        assert_true(n < sizeof(text));
    }
    text[n] = '\0';
    return text;
}

static void expect_pieces(const sl_tokenizer *t, const sl_text_piece *p, size_t n, bool add_special,
                          const char *want)
{
    sl_token_list list = {.limit = SIZE_MAX};
    sl_err err;

    if (sl_tokenizer_encode(t, p, n, add_special, &list, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_string_equal(show_ids(t, &list), want);
    sl_free(list.id);
}

static void expect(const sl_tokenizer *t, const char *text, const char *want)
{
    expect_pieces(t, &(sl_text_piece){text, strlen(text), false}, 1, false, want);
}

static void expect_template(const sl_tokenizer *t, const char *text, const char *want)
{
    expect_pieces(t, &(sl_text_piece){text, strlen(text), true}, 1, false, want);
}

static uint32_t crc32_of(const sl_token_list *list)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < list->count * 4; i++) {
        crc ^= list->id[i / 4] >> (8 * (i % 4)) & 0xFF;
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

/* --- the small vocabularies of data/ ----------------------------------------------------- */

enum { SMALL_COUNT = 8, SMALL_BYTES = 5 };

static const char *const small_name[SMALL_COUNT] = {"gpt-2",         "smollm",        "llama-bpe",
                                                    "smaug-bpe",     "qwen2",         "pieces",
                                                    "pieces-prefix", "pieces-unknown"};

static sl_tokenizer *small[SMALL_COUNT];

static void load_small_bytes(void)
{
    FILE *f = case_open("tokenizer_small_merges.txt");
    byte_vocab *v = start_bytes();
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;

    while ((n = getline(&line, &capacity, f)) > 0)
        add_merge(v, line, (size_t)n - 1);
    for (int i = 0; i < SMALL_BYTES; i++) {
        vocab_file file;

        put_bytes(v, small_name[i], &file);
        small[i] = make(&file);
    }
    free(line);
    fclose(f);
    free_bytes(v);
}

/* A user-defined token is in the file with plain spaces. */
static void plain_spaces(char *text)
{
    char *to = text;

    for (; *text != '\0'; text++) {
        if (strncmp(text, SPACE, 3) == 0) {
            *to++ = ' ';
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
}

static void load_small_pieces(void)
{
    static piece row[WORDS_MAX];
    FILE *f = case_open("tokenizer_small_pieces.txt");
    char *line = NULL;
    size_t capacity = 0, count = 0;
    ssize_t n;

    while ((n = getline(&line, &capacity, f)) > 0) {
        char *p, *text;

        assert_true(count < WORDS_MAX);
        row[count].score = strtof(line, &p);
        row[count].type = (int32_t)strtol(p, &p, 10);
        text = strndup(p + 1, (size_t)(line + n - 1 - (p + 1)));
        assert_non_null(text);
        text[case_unescape(text, strlen(text))] = '\0';
        row[count++].text = text;
    }
    for (int i = SMALL_BYTES; i < SMALL_COUNT; i++) {
        const int32_t drop = i == SMALL_BYTES ? 0 : i == SMALL_BYTES + 1 ? 4 : 6;
        piece p[WORDS_MAX];
        vocab_file file;

        for (size_t k = 0; k < count; k++) {
            p[k] = row[k];
            if (p[k].type == drop)
                p[k].type = 1;
            if (p[k].type == 4) {
                p[k].text = strdup(row[k].text);
                assert_non_null(p[k].text);
                plain_spaces((char *)(uintptr_t)p[k].text);
            }
        }
        put_pieces(p, count, &file);
        vocab_add_bool(&file, "add_space_prefix", drop == 4);
        small[i] = make(&file);
        for (size_t k = 0; k < count; k++)
            if (p[k].type == 4)
                free((char *)(uintptr_t)p[k].text);
    }
    for (size_t k = 0; k < count; k++)
        free((char *)(uintptr_t)row[k].text);
    free(line);
    fclose(f);
}

static void small_vocabularies_give_the_references_ids(void **state)
{
    case_texts texts = case_read_texts();
    size_t wrong[SMALL_COUNT] = {0}, all = 0, capacity = 0;
    FILE *f = case_open("tokenizer_small_crc.txt");
    char *line = NULL;
    (void)state;

    for (size_t i = 0; i < texts.count; i++) {
        char *p;

        assert_true(getline(&line, &capacity, f) > 0);
        p = line;
        for (int v = 0; v < SMALL_COUNT; v++) {
            const case_text *x = &texts.text[i];
            sl_token_list got = case_encode(small[v], x->data, x->len, x->template);

            if (crc32_of(&got) != strtoul(p, &p, 16) && wrong[v]++ < 5) {
                print_message("%s: text %zu differs\n", small_name[v], i + 1);
                case_show_text(x);
                if (got.count < 64)
                    print_message("  got %s\n", show_ids(small[v], &got));
            }
            sl_free(got.id);
        }
    }
    for (int v = 0; v < SMALL_COUNT; v++) {
        print_message("%s: %zu texts, %zu differ\n", small_name[v], texts.count, wrong[v]);
        all += wrong[v];
    }
    assert_true(texts.count > 2000);
    assert_int_equal(all, 0);
    free(line);
    fclose(f);
    case_free_texts(&texts);
}

static void bytes_come_back_from_any_byte_vocabulary(void **state)
{
    case_texts texts = case_read_texts();
    (void)state;

    for (size_t i = 0; i < texts.count; i++) {
        for (int v = 0; v < 4; v++) { /* not qwen2: it normalises */
            const case_text *x = &texts.text[i];
            sl_token_list got = case_encode(small[v], x->data, x->len, x->template);
            sl_buf out;

            sl_buf_init(&out, 1 << 20);
            sl_tokenizer_decode_all(small[v], got.id, got.count, true, &out);
            assert_false(out.failed);
            assert_int_equal(out.len, x->len);
            if (x->len > 0)
                assert_memory_equal(out.data, x->data, x->len);
            sl_buf_done(&out);
            sl_free(got.id);
        }
    }
    case_free_texts(&texts);
}

/* --- pre-tokenizers ---------------------------------------------------------------------- */

/* Merges that would join what a pre-tokenizer must keep apart; Ġ is the space. */
static const char digits[] = "S x,Ġ 1,1 2,12 3,123 4,Ġ1 2,' s,' S,x 's,a b,ab c,. Ċ,Ġ Ġ,ĠĠ Ġ,Ġ a";

static void numbers_are_cut_as_the_pre_tokenizer_says(void **state)
{
    static const struct {
        const char *pre, *number, *spaced;
    } row[] = {
        {"gpt-2", "1234", "Ġ12|3"},       {"default", "1234", "Ġ12|3"},
        {"smollm", "1|2|3|4", "Ġ|1|2|3"}, {"starcoder", "1|2|3|4", "Ġ|1|2|3"},
        {"llama-bpe", "123|4", "Ġ|123"},  {"llama3", "123|4", "Ġ|123"},
        {"llama-v3", "123|4", "Ġ|123"},   {"smaug-bpe", "123|4", "Ġ|123"},
        {"qwen2", "1|2|3|4", "Ġ|1|2|3"},  {"deepseek-r1-qwen", "1|2|3|4", "Ġ|1|2|3"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        sl_tokenizer *t = make_bytes(row[i].pre, digits);

        expect(t, "1234", row[i].number);
        expect(t, " 123", row[i].spaced);
        sl_tokenizer_destroy(t);
    }
}

static void contractions_and_spaces_are_cut_as_the_pre_tokenizer_says(void **state)
{
    sl_tokenizer *gpt2 = make_bytes("gpt-2", digits), *qwen2 = make_bytes("qwen2", digits);
    sl_tokenizer *smollm = make_bytes("smollm", digits);
    (void)state;

    expect(gpt2, "x's", "x|'s");
    expect(gpt2, "x'S", "x|'|S");
    expect(qwen2, "x'S", "x|'S");
    expect(qwen2, "x'Sx", "x|'S|x"); /* the contraction ends there, in either case */
    expect(gpt2, ".\n", ".|Ċ");
    expect(qwen2, ".\n", ".Ċ");
    expect(gpt2, "   a", "ĠĠ|Ġa");   /* the last space goes with the word */
    expect(gpt2, "   1", "ĠĠ|Ġ1");   /* and with a number */
    expect(smollm, "   1", "ĠĠĠ|1"); /* but not where numbers are cut off first */
    expect(smollm, "   a", "ĠĠ|Ġa");
    expect(qwen2, "   1", "ĠĠ|Ġ|1");
    expect(gpt2, "a\xC2\xA0\xC2\xA0", "a|Â|ł|Â|ł");
    sl_tokenizer_destroy(gpt2);
    sl_tokenizer_destroy(qwen2);
    sl_tokenizer_destroy(smollm);
}

/* Punctuation and white space are never one word: if the first byte of the character joined the "!"
 * before it, it was not taken for white space. */
static void white_space_is_unicodes(void **state)
{
    static const uint32_t white[] = {0x09,   0x0A,   0x0B,   0x0C,   0x0D,   0x20,   0x85,
                                     0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                     0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x2028,
                                     0x2029, 0x202F, 0x205F, 0x3000};
    static const uint32_t other[] = {0x08, 0x0E,   0x1C,   0x1F,   0x84,
                                     0xAD, 0x180E, 0x200B, 0x2060, 0xFEFF};
    static const char merges[] = "! ĉ,! Ċ,! ċ,! Č,! č,! Ġ,! Â,! á,! â,! ã,! Ĉ,! ï,! Ď,! Ĝ,! ğ";
    static const char *const pre[] = {"gpt-2", "smollm"}; /* the others take line ends along */
    (void)state;

    for (int p = 0; p < 2; p++) {
        sl_tokenizer *t = make_bytes(pre[p], merges);

        for (size_t i = 0; i < sizeof(white) / sizeof(white[0]) + sizeof(other) / sizeof(other[0]);
             i++) {
            const bool is_white = i < sizeof(white) / sizeof(white[0]);
            char text[5] = "!";
            const size_t len =
                1 + sl_utf8_put(is_white ? white[i] : other[i - sizeof(white) / sizeof(white[0])],
                                text + 1);
            sl_token_list got = case_encode(t, text, len, false);

            assert_int_equal(got.id[0] == BYTE_FIRST + '!', is_white);
            assert_int_equal(got.count, is_white ? len : len - 1);
            sl_free(got.id);
        }
        sl_tokenizer_destroy(t);
    }
}

static void a_whole_word_wins_only_where_merges_are_ignored(void **state)
{
    /* "abc" is a token that merging "abc" does not reach: "b c" goes first. */
    static const char merges[] = "b c,a b,ab c";
    sl_tokenizer *llama3 = make_bytes("llama-bpe", merges);
    sl_tokenizer *smaug = make_bytes("smaug-bpe", merges);
    (void)state;

    expect(llama3, "abc", "abc");
    expect(smaug, "abc", "a|bc");
    expect(llama3, "abcb", "a|bc|b");
    sl_tokenizer_destroy(llama3);
    sl_tokenizer_destroy(smaug);
}

static void merges_go_by_rank_then_from_the_left(void **state)
{
    sl_tokenizer *t = make_bytes("gpt-2", "b c,a a,aa aa,a b");
    (void)state;

    expect(t, "aaa", "aa|a");
    expect(t, "aaaaa", "aaaa|a");
    expect(t, "aaaaaa", "aaaa|aa");
    expect(t, "abc", "a|bc");
    expect(t, "abb", "ab|b");
    expect(t, "", "");
    expect(t, "z", "z");
    sl_tokenizer_destroy(t);
}

static void invalid_bytes_are_words_of_their_own(void **state)
{
    sl_tokenizer *t = make_bytes("gpt-2", "a b,Ġ a,ÿ ÿ,Ã ©,Ġ Ġ");
    (void)state;

    expect(t, "ab", "ab");
    expect(t,
           "a\xFF"
           "b",
           "a|ÿ|b");
    expect(t, "\xFF\xFF", "ÿ|ÿ"); /* no merge across words */
    expect(t, "\xC3\xA9", "Ã©");
    expect(t, "\xC3", "Ã");
    expect(t, "\xC3 a", "Ã|Ġa");
    expect(t, "  \xFF", "ĠĠ|ÿ"); /* the text ends there for the look-ahead */
    sl_tokenizer_destroy(t);
}

static void qwen2_text_is_normalised_and_the_others_is_not(void **state)
{
    /* e + acute is C3 A9 composed; the merge shows it. */
    sl_tokenizer *qwen2 = make_bytes("qwen2", "Ã ©"), *gpt2 = make_bytes("gpt-2", "Ã ©");
    (void)state;

    expect(qwen2, "e\xCC\x81", "Ã©");
    expect(qwen2, "\xC3\xA9", "Ã©");
    expect(gpt2, "e\xCC\x81", "e|Ì|ģ");
    expect(qwen2, "\xCC\x81", "Ì|ģ");       /* nothing before it to join */
    expect(qwen2, "\xFF\xCC\x81", "ÿ|Ì|ģ"); /* an invalid byte is nothing */
    expect(qwen2,
           "e\xCC\x81\xFF"
           "e\xCC\x81",
           "Ã©|ÿ|Ã©");
    expect(qwen2, "e\xCC\xA3\xCC\x81", "á|º|¹|Ì|ģ"); /* below first, then acute stays */
    sl_tokenizer_destroy(qwen2);
    sl_tokenizer_destroy(gpt2);
}

/* A run of marks in the worst order: sorted by swaps it would take 10^10 steps. */
static void a_long_run_of_marks_is_ordered_in_linear_time(void **state)
{
    enum { MARKS = 200000 };
    sl_tokenizer *t = make_bytes("qwen2", "Ì £");
    char *text = malloc(2 * MARKS);
    sl_token_list got;
    (void)state;

    assert_non_null(text);
    for (size_t i = 0; i < MARKS; i++)
        memcpy(text + 2 * i, i < MARKS / 2 ? "\xCC\x81" : "\xCC\xA3", 2); /* above, then below */
    got = case_encode(t, text, 2 * MARKS, false);
    assert_int_equal(got.count, MARKS / 2 + MARKS);
    assert_int_equal(got.id[0], MERGED_FIRST); /* those below come first now */
    assert_int_equal(got.id[MARKS / 2], BYTE_FIRST + 0xCC);
    sl_free(got.id);
    free(text);
    sl_tokenizer_destroy(t);
}

/* --- special tokens ---------------------------------------------------------------------- */

static void control_tokens_count_in_template_text_only(void **state)
{
    sl_tokenizer *t = make_bytes("gpt-2", "a b");
    (void)state;

    expect_template(t, "a<|im_start|>b", "a|<|im_start|>|b");
    expect(t, "<|im_start|>", "<|||i|m|_|s|t|a|r|t|||>");
    expect(t, "x<tool_call>y", "x|<tool_call>|y"); /* user-defined: in any text */
    expect_template(t, "<|im_start|><|endoftext|>", "<|im_start|>|<|endoftext|>");
    expect_template(t, "<|im_start", "<|||i|m|_|s|t|a|r|t");
    assert_true(sl_tokenizer_is_control(t, START));
    assert_false(sl_tokenizer_is_control(t, TOOL));
    sl_tokenizer_destroy(t);
}

static void pieces_are_one_text_but_for_control_tokens(void **state)
{
    sl_tokenizer *t = make_bytes("gpt-2", "a b,ab c");
    const sl_text_piece word[] = {{"a", 1, true}, {"", 0, false}, {"b", 1, false}, {"c", 1, true}};
    const sl_text_piece forged[] = {{"<|im_", 5, true}, {"start|>", 7, false}};
    const sl_text_piece forged_too[] = {{"<|im_", 5, false}, {"start|>", 7, true}};
    const sl_text_piece whole[] = {{"<|im_", 5, true}, {"", 0, false}, {"start|>", 7, true}};
    const sl_text_piece inside[] = {{"x", 1, false}, {"<|im_start|>", 12, true}, {"y", 1, false}};
    const sl_text_piece tool[] = {{"<tool", 5, true}, {"_call>", 6, false}};
    (void)state;

    expect_pieces(t, word, 4, false, "abc");
    expect_pieces(t, forged, 2, false, "<|||i|m|_|s|t|a|r|t|||>");
    expect_pieces(t, forged_too, 2, false, "<|||i|m|_|s|t|a|r|t|||>");
    expect_pieces(t, whole, 3, false, "<|im_start|>");
    expect_pieces(t, inside, 3, false, "x|<|im_start|>|y");
    expect_pieces(t, tool, 2, false, "<tool_call>");
    expect_pieces(t, NULL, 0, false, "");
    sl_tokenizer_destroy(t);
}

static void the_longest_special_token_wins(void **state)
{
    static const sl_str token[] = {{"<a>", 3}, {"<a>b", 4}, {"<a>bcd", 6}, {"a", 1},
                                   {"b", 1},   {"c", 1},    {"<", 1},      {">", 1}};
    static const int32_t type[] = {4, 3, 3, 1, 1, 1, 1, 1};
    vocab_file file;
    sl_tokenizer *t;
    (void)state;

    vocab_begin(&file);
    vocab_add_str(&file, "model", "gpt2");
    vocab_add_str(&file, "pre", "gpt-2");
    vocab_add_strs(&file, "tokens", token, 8);
    vocab_add_i32s(&file, "token_type", type, 8);
    vocab_add_strs(&file, "merges", token, 0);
    t = make(&file);
    expect_template(t, "<a>bc", "<a>b|c"); /* as far as a token goes, not as far as the tree */
    expect_template(t, "<a>bcd", "<a>bcd");
    expect_template(t, "<a>a", "<a>|a");
    expect(t, "<a>bc", "<a>|b|c"); /* in user text only the user-defined one */
    expect(t, "<a", "<|a");
    expect(t, "d", ""); /* no token for this byte */
    sl_tokenizer_destroy(t);
}

static void marks_of_turns_are_control_tokens_whatever_the_file_says(void **state)
{
    static const sl_str token[] = {{"<|im_start|>", 12}, {"<|im_end|>", 10}, {"<|eot_id|>", 10},
                                   {"<|x|>", 5},         {"[E]", 3},         {"w", 1}};
    static const int32_t type[] = {4, 4, 1, 4, 1, 1};
    uint32_t eog[SL_TOKENIZER_EOG_MAX];
    vocab_file file;
    sl_tokenizer *t;
    (void)state;

    vocab_begin(&file);
    vocab_add_str(&file, "model", "gpt2");
    vocab_add_str(&file, "pre", "gpt-2");
    vocab_add_strs(&file, "tokens", token, 6);
    vocab_add_i32s(&file, "token_type", type, 6);
    vocab_add_strs(&file, "merges", token, 0);
    vocab_add_u32(&file, "eos_token_id", 4);
    vocab_add_u32(&file, "bos_token_id", 5); /* an ordinary word stays one */
    vocab_add_u32(&file, "eot_token_id", UINT32_MAX);
    t = make(&file);
    for (uint32_t id = 0; id < 6; id++)
        assert_int_equal(sl_tokenizer_is_control(t, id), id != 3 && id != 5);
    assert_int_equal(sl_tokenizer_eog(t, eog), 3);
    assert_int_equal(eog[0], 4);
    assert_int_equal(eog[1], 1);
    assert_int_equal(eog[2], 2);
    assert_true(sl_tokenizer_is_eog(t, 2));
    assert_false(sl_tokenizer_is_eog(t, 0));
    assert_int_equal(sl_tokenizer_eos(t), 4);
    assert_int_equal(sl_tokenizer_bos(t), 5);
    expect(t, "<|im_end|>w<|x|>", "w|<|x|>"); /* the rest has no bytes here */
    sl_tokenizer_destroy(t);
}

/* --- BOS, EOS, limits -------------------------------------------------------------------- */

static void bos_and_eos_are_added_once(void **state)
{
    byte_vocab *v = start_bytes();
    const sl_text_piece with[] = {{"<|im_start|>a", 13, true}};
    const sl_text_piece twice[] = {{"<|im_start|><|im_start|>a<|endoftext|>", 38, true}};
    const sl_text_piece user[] = {{"<|im_start|>", 12, false}};
    vocab_file file;
    sl_tokenizer *t;
    (void)state;

    put_bytes(v, "gpt-2", &file);
    vocab_add_u32(&file, "bos_token_id", START);
    vocab_add_u32(&file, "eos_token_id", END);
    vocab_add_bool(&file, "add_bos_token", true);
    vocab_add_bool(&file, "add_eos_token", true);
    t = make(&file);
    assert_true(sl_tokenizer_adds_bos(t));
    expect_pieces(t, NULL, 0, true, "<|im_start|>|<|endoftext|>");
    expect_pieces(t, with, 1, true, "<|im_start|>|a|<|endoftext|>");
    expect_pieces(t, with, 1, false, "<|im_start|>|a");
    expect_pieces(t, twice, 1, true, "<|im_start|>|<|im_start|>|a|<|endoftext|>");
    expect_pieces(t, user, 1, true, "<|im_start|>|<|||i|m|_|s|t|a|r|t|||>|<|endoftext|>");
    sl_tokenizer_destroy(t);
    free_bytes(v);
}

static void without_a_word_from_the_file_the_family_decides(void **state)
{
    byte_vocab *v = start_bytes();
    static const char *const pre[] = {"gpt-2", "llama-bpe"};
    (void)state;

    for (int i = 0; i < 2; i++) {
        vocab_file file;
        sl_tokenizer *t;

        put_bytes(v, pre[i], &file);
        vocab_add_u32(&file, "bos_token_id", START);
        t = make(&file);
        assert_int_equal(sl_tokenizer_adds_bos(t), i == 1);
        assert_int_equal(sl_tokenizer_eos(t), SL_TOKEN_NONE);
        assert_int_equal(sl_tokenizer_vocab(t), MERGED_FIRST);
        sl_tokenizer_destroy(t);
    }
    free_bytes(v);
}

static void ids_are_appended_up_to_the_limit(void **state)
{
    sl_tokenizer *t = make_bytes("gpt-2", "a b");
    const sl_text_piece p = {"ab ab ab", 8, false}; /* ab, Ġ, ab, Ġ, ab */
    (void)state;

    for (size_t limit = 0; limit <= 7; limit++) {
        sl_token_list list = {.limit = limit};
        sl_err err;
        sl_status status = sl_tokenizer_encode(t, &p, 1, false, &list, &err);

        if (limit >= 5) {
            assert_int_equal(status, SL_OK);
            assert_int_equal(list.count, 5);
            status = sl_tokenizer_encode(t, &p, 1, false, &list, &err);
            assert_int_equal(list.id[5 - 1], MERGED_FIRST);
        }
        assert_int_equal(status, SL_ETOOLONG);
        assert_int_equal(list.count, limit);
        sl_free(list.id);
    }
    sl_tokenizer_destroy(t);
}

static void more_text_than_the_limit_is_refused(void **state)
{
    sl_tokenizer *t = make_bytes("gpt-2", "a b");
    const sl_text_piece p[] = {{"a", 1, false}, {"a", SL_TOKENIZER_TEXT_MAX, false}};
    const sl_text_piece huge = {"a", SIZE_MAX, false};
    sl_token_list list = {.limit = SIZE_MAX};
    sl_err err;
    (void)state;

    assert_int_equal(sl_tokenizer_encode(t, p, 2, false, &list, &err), SL_ETOOBIG);
    assert_int_equal(sl_tokenizer_encode(t, &huge, 1, false, &list, &err), SL_ETOOBIG);
    assert_null(list.id);
    sl_tokenizer_destroy(t);
}

/* A word longer than the limit on words is cut, between characters, and nothing is lost. */
static void a_word_beyond_the_limit_is_cut(void **state)
{
    sl_tokenizer *t = make_bytes("gpt-2", "Ã ©,a a");
    const size_t len = (2 << 20) + 7;
    char *text = malloc(len + 1);
    sl_token_list got;
    sl_buf out;
    (void)state;

    assert_non_null(text);
    text[0] = 'a'; /* so that the cut would fall inside a character */
    for (size_t i = 1; i < len; i += 2)
        memcpy(text + i, "\xC3\xA9", 2);
    got = case_encode(t, text, len, false);
    assert_int_equal(got.count, 1 + (len - 1) / 2);
    sl_buf_init(&out, SIZE_MAX / 2);
    sl_tokenizer_decode_all(t, got.id, got.count, false, &out);
    assert_int_equal(out.len, len);
    assert_memory_equal(out.data, text, len);
    sl_buf_done(&out);
    sl_free(got.id);
    free(text);
    sl_tokenizer_destroy(t);
}

/* --- SentencePiece ----------------------------------------------------------------------- */

static const piece pieces[] = {
    {"<unk>", 2, 0},  {"<s>", 3, 0},  {"</s>", 3, 0},     {"<0x0A>", 6, 0}, {"<0xC3>", 6, 0},
    {"<0xA9>", 6, 0}, {SPACE, 1, -9}, {"a", 1, -10},      {"b", 1, -11},    {"c", 1, -12},
    {"ab", 1, -2},    {"bc", 1, -1},  {SPACE "a", 1, -3}, {"abc", 1, -4},   {"xy", 5, -1},
    {"x", 1, -20},    {"y", 1, -21},  {"xyz", 1, -5},     {"z", 1, -22},    {"  ", 4, 0},
    {"<t>", 4, 0},    {"q", 5, -30},
};

static sl_tokenizer *make_pieces(bool prefix)
{
    vocab_file file;

    put_pieces(pieces, sizeof(pieces) / sizeof(pieces[0]), &file);
    vocab_add_bool(&file, "add_space_prefix", prefix);
    vocab_add_u32(&file, "bos_token_id", 1);
    vocab_add_u32(&file, "eos_token_id", 2);
    return make(&file);
}

static void pieces_merge_by_score(void **state)
{
    sl_tokenizer *t = make_pieces(false);
    (void)state;

    expect(t, "abc", "abc");
    expect(t, " abc", SPACE "a|bc"); /* "bc" scores best, and then the space takes the "a" */
    expect(t, "ab", "ab");
    expect(t, " a", SPACE "a");
    expect(t, " ab", SPACE "|ab");
    expect(t, SPACE "a", SPACE "a");
    expect(t, "", "");
    assert_true(sl_tokenizer_adds_bos(t)); /* the family's habit */
    sl_tokenizer_destroy(t);
}

static void unused_pieces_are_passed_through_but_never_left(void **state)
{
    sl_tokenizer *t = make_pieces(false);
    (void)state;

    expect(t, "xyz", "xyz"); /* by way of "xy" */
    expect(t, "xy", "x|y");
    expect(t, "xyxyz", "x|y|xyz");
    expect(t, "q", "<unk>");
    sl_tokenizer_destroy(t);
}

static void unknown_text_falls_back_to_bytes_or_to_one_unknown(void **state)
{
    sl_tokenizer *t = make_pieces(false);
    (void)state;

    expect(t, "\n", "<0x0A>");
    expect(t, "\xC3\xA9", "<0xC3>|<0xA9>");
    expect(t, "a\xC3", "a|<0xC3>"); /* invalid */
    expect(t, "a!!b!", "a|<unk>|b|<unk>");
    expect(t, "a! !! b", "a|<unk>|" SPACE "|<unk>|" SPACE "|b");
    expect(t, "\xFF\xFE", "<unk>");
    sl_tokenizer_destroy(t);
}

/* The same word is one `unknown`, or none after another: it may not be remembered. */
static void a_stretch_of_unknown_words_is_one_unknown(void **state)
{
    static const piece few[] = {{"<unk>", 2, 0}, {"a", 1, -1}};
    vocab_file file;
    sl_tokenizer *t;
    (void)state;

    put_pieces(few, 2, &file);
    vocab_add_bool(&file, "add_space_prefix", false);
    t = make(&file);
    expect(t, "a ! !", "a|<unk>");
    expect(t, "a ! !a ! ! !", "a|<unk>|a|<unk>");
    sl_tokenizer_destroy(t);
}

static void the_prefix_goes_in_front_of_every_segment(void **state)
{
    sl_tokenizer *t = make_pieces(true);
    const sl_text_piece split[] = {{"a", 1, false}, {"b", 1, true}};
    (void)state;

    expect(t, "a", SPACE "a");
    expect(t, "", "");
    expect_template(t, "<s>a</s>", "<s>|" SPACE "a|</s>");
    expect(t, "<t>a", "<t>|" SPACE "a");
    expect_pieces(t, split, 2, false, SPACE "|ab"); /* "ab" scores better */
    expect_pieces(t, split, 2, true, "<s>|" SPACE "|ab");
    sl_tokenizer_destroy(t);
}

static void user_defined_pieces_come_first(void **state)
{
    sl_tokenizer *t = make_pieces(false);
    (void)state;

    expect(t, "a  a", "a|  |a"); /* else the second space would go with the word */
    expect(t, "   a", "  |" SPACE "a");
    expect(t, "<t>", "<t>");
    expect(t, "<s>", "<unk>"); /* user text */
    expect_template(t, "<s>", "<s>");
    sl_tokenizer_destroy(t);
}

static void decoded(const sl_tokenizer *t, const uint32_t *id, size_t n, bool special,
                    const char *want)
{
    sl_buf out;

    sl_buf_init(&out, 1000);
    sl_tokenizer_decode_all(t, id, n, special, &out);
    assert_string_equal(sl_buf_text(&out), want);
    sl_buf_done(&out);
}

static void decoding_drops_the_prefix_and_control_tokens(void **state)
{
    sl_tokenizer *prefix = make_pieces(true), *plain = make_pieces(false);
    const uint32_t id[] = {1, 12, 12, 3, 4, 5, 19, 20, 0, 14, 2}; /* 14 is unused */
    sl_buf out;
    (void)state;

    decoded(prefix, id, 11, false, "a a\n\xC3\xA9  <t>");
    decoded(plain, id, 11, false, " a a\n\xC3\xA9  <t>");
    decoded(plain, id, 11, true, "<s> a a\n\xC3\xA9  <t><unk></s>");
    decoded(prefix, id + 6, 1, false, "  "); /* a user-defined token is what it is */
    decoded(prefix, id, 0, false, "");
    sl_buf_init(&out, 100);
    sl_tokenizer_decode(prefix, 12, false, &out); /* one by one: nothing is dropped */
    sl_tokenizer_decode(prefix, 4, false, &out);
    assert_string_equal(sl_buf_text(&out), " a\xC3");
    sl_buf_done(&out);
    sl_tokenizer_destroy(prefix);
    sl_tokenizer_destroy(plain);
}

static void byte_level_tokens_decode_to_their_bytes(void **state)
{
    sl_tokenizer *t = make_bytes("gpt-2", "Ġ a");
    const uint32_t id[] = {START, MERGED_FIRST, BYTE_FIRST + 0, BYTE_FIRST + 255, TOOL, END};
    sl_buf out;
    (void)state;

    sl_buf_init(&out, 100);
    sl_tokenizer_decode_all(t, id, 6, false, &out);
    assert_int_equal(out.len, 15);
    assert_memory_equal(out.data, " a\0\xFF<tool_call>", 15);
    sl_buf_reset(&out);
    sl_tokenizer_decode_all(t, id, 6, true, &out);
    assert_int_equal(out.len, 40);
    sl_buf_done(&out);
    sl_tokenizer_destroy(t);
}

/* A space is inside a token: then the text is not cut before a space there. */
static void words_are_not_cut_where_a_token_crosses(void **state)
{
    static const piece crossing[] = {
        {"<unk>", 2, 0},    {"a", 1, -10},          {"b", 1, -10},      {SPACE, 1, -10},
        {"a" SPACE, 1, -1}, {"a" SPACE "b", 1, -2}, {SPACE "b", 1, -3},
    };
    vocab_file file;
    sl_tokenizer *t;
    (void)state;

    put_pieces(crossing, 7, &file);
    vocab_add_bool(&file, "add_space_prefix", false);
    t = make(&file);
    expect(t, "a b", "a" SPACE "b");
    expect(t, "b b", "b|" SPACE "b");
    expect(t, "a a b b", "a" SPACE "|a" SPACE "b|" SPACE "b");
    sl_tokenizer_destroy(t);
}

/* --- the tiny models --------------------------------------------------------------------- */

static void tiny_models_have_working_tokenizers(void **state)
{
    static const char *const arch[] = {"llama", "qwen2", "qwen3", "gemma3"};
    static const char text[] = "hello world, and the other thing";
    (void)state;

    for (int i = 0; i < 4; i++) {
        sl_tokenizer *t = make_tiny(arch[i]);
        sl_token_list got = case_encode(t, text, sizeof(text) - 1, false);
        sl_buf out;

        assert_int_equal(sl_tokenizer_vocab(t), SL_TINY_VOCAB);
        assert_true(got.count < sizeof(text) - 1);
        sl_buf_init(&out, 1000);
        sl_tokenizer_decode_all(t, got.id, got.count, false, &out);
        assert_string_equal(sl_buf_text(&out), text);
        sl_buf_done(&out);
        sl_free(got.id);
        if (i < 3) {
            got = case_encode(t, "<|im_start|>user", 16, true);
            assert_int_equal(got.id[0], SL_TINY_IM_START);
            sl_free(got.id);
            assert_true(sl_tokenizer_is_eog(t, SL_TINY_IM_END));
            assert_true(sl_tokenizer_is_eog(t, SL_TINY_END_OF_TEXT));
        }
        sl_tokenizer_destroy(t);
    }
}

/* --- threads ----------------------------------------------------------------------------- */

enum { THREADS = 4, THREAD_ROUNDS = 200 };

static void *encode_many(void *user)
{
    static const char text[] = "the other thing and hello world e\xCC\x81\xFF 123";
    const sl_tokenizer *t = user;
    uintptr_t sum = 0;

    for (int i = 0; i < THREAD_ROUNDS; i++) {
        const sl_text_piece p = {text, sizeof(text) - 1, false};
        sl_token_list list = {.limit = SIZE_MAX};

        if (sl_tokenizer_encode(t, &p, 1, false, &list, NULL) != SL_OK)
            return NULL;
        for (size_t k = 0; k < list.count; k++)
            sum = sum * 31 + list.id[k];
        sl_free(list.id);
    }
    return (void *)sum;
}

static void threads_share_a_tokenizer(void **state)
{
    sl_tokenizer *t = make_tiny("qwen2");
    pthread_t thread[THREADS];
    void *alone = encode_many(t);
    (void)state;

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, encode_many, t), 0);
    for (int i = 0; i < THREADS; i++) {
        void *sum = NULL;

        pthread_join(thread[i], &sum);
        assert_ptr_equal(sum, alone);
    }
    assert_non_null(alone);
    sl_tokenizer_destroy(t);
}

static int setup(void **state)
{
    (void)state;
    load_small_bytes();
    load_small_pieces();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < SMALL_COUNT; i++)
        sl_tokenizer_destroy(small[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_vocabularies_give_the_references_ids),
        cmocka_unit_test(bytes_come_back_from_any_byte_vocabulary),
        cmocka_unit_test(numbers_are_cut_as_the_pre_tokenizer_says),
        cmocka_unit_test(contractions_and_spaces_are_cut_as_the_pre_tokenizer_says),
        cmocka_unit_test(white_space_is_unicodes),
        cmocka_unit_test(a_whole_word_wins_only_where_merges_are_ignored),
        cmocka_unit_test(merges_go_by_rank_then_from_the_left),
        cmocka_unit_test(invalid_bytes_are_words_of_their_own),
        cmocka_unit_test(qwen2_text_is_normalised_and_the_others_is_not),
        cmocka_unit_test(a_long_run_of_marks_is_ordered_in_linear_time),
        cmocka_unit_test(control_tokens_count_in_template_text_only),
        cmocka_unit_test(pieces_are_one_text_but_for_control_tokens),
        cmocka_unit_test(the_longest_special_token_wins),
        cmocka_unit_test(marks_of_turns_are_control_tokens_whatever_the_file_says),
        cmocka_unit_test(bos_and_eos_are_added_once),
        cmocka_unit_test(without_a_word_from_the_file_the_family_decides),
        cmocka_unit_test(ids_are_appended_up_to_the_limit),
        cmocka_unit_test(more_text_than_the_limit_is_refused),
        cmocka_unit_test(a_word_beyond_the_limit_is_cut),
        cmocka_unit_test(pieces_merge_by_score),
        cmocka_unit_test(unused_pieces_are_passed_through_but_never_left),
        cmocka_unit_test(unknown_text_falls_back_to_bytes_or_to_one_unknown),
        cmocka_unit_test(a_stretch_of_unknown_words_is_one_unknown),
        cmocka_unit_test(the_prefix_goes_in_front_of_every_segment),
        cmocka_unit_test(user_defined_pieces_come_first),
        cmocka_unit_test(decoding_drops_the_prefix_and_control_tokens),
        cmocka_unit_test(byte_level_tokens_decode_to_their_bytes),
        cmocka_unit_test(words_are_not_cut_where_a_token_crosses),
        cmocka_unit_test(tiny_models_have_working_tokenizers),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests_name("model/tokenizer", tests, setup, teardown);
}
