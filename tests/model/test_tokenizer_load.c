/* tests/model/test_tokenizer_load.c
 *
 * Goal: what a file may not say is refused, and named; a failed allocation is an error, and nothing
 * leaks.
 * Method: files made in memory, each with one fault. */
#include <math.h>

#include "tests/model/tokenizer_vocabs.h"

#define S(text) ((sl_str){text, sizeof(text) - 1})

static const piece pieces[] = {{"<unk>", 2, 0}, {"a", 1, -1}};

static void refused(vocab_file *file, sl_status want, const char *part)
{
    sl_tokenizer *t = (sl_tokenizer *)(uintptr_t)1;
    sl_err err;

    assert_int_equal(vocab_create(file, &t, &err), want);
    assert_int_equal(err.status, want);
    if (strstr(err.text, part) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, part);
    assert_ptr_equal(t, (sl_tokenizer *)(uintptr_t)1);
}

static void unknown_kinds_are_named_with_the_list_of_ours(void **state)
{
    byte_vocab *v = start_bytes();
    vocab_file file;
    (void)state;

    put_bytes(v, "gpt-4o", &file);
    refused(&file, SL_EUNSUPPORTED, "'gpt-4o' is not supported; these are: gpt-2");
    put_bytes(v, NULL, &file);
    refused(&file, SL_EFORMAT, "tokenizer.ggml.pre");
    vocab_begin(&file);
    refused(&file, SL_EFORMAT, "tokenizer.ggml.model");
    vocab_begin(&file);
    vocab_add_str(&file, "model", "bert");
    refused(&file, SL_EUNSUPPORTED, "'bert' is not supported; these are: gpt2");
    put_pieces(pieces, 2, &file);
    vocab_add_bool(&file, "remove_extra_whitespaces", true);
    refused(&file, SL_EUNSUPPORTED, "remove_extra_whitespaces");
    put_pieces(pieces, 2, &file);
    vocab_add_u32(&file, "precompiled_charsmap", 1);
    refused(&file, SL_EUNSUPPORTED, "precompiled_charsmap");
    free_bytes(v);
}

static const sl_str two[2] = {S("a"), S("b")};

static void begin_bytes(vocab_file *file)
{
    vocab_begin(file);
    vocab_add_str(file, "model", "gpt2");
    vocab_add_str(file, "pre", "gpt-2");
}

static void wrong_byte_level_tables_are_named(void **state)
{
    const float score[2] = {0, 0};
    const int32_t type[3] = {1, 7, 1};
    const sl_str no_merge[1] = {S("a b")}, half[1] = {S("ab")}, odd[1] = {S("a \xE6\xBC\xA2")};
    byte_vocab *v = start_bytes();
    vocab_file file;
    (void)state;

    begin_bytes(&file);
    refused(&file, SL_EFORMAT, "tokenizer.ggml.tokens");
    begin_bytes(&file);
    vocab_add_strs(&file, "tokens", two, 0);
    refused(&file, SL_EFORMAT, "empty");
    begin_bytes(&file);
    vocab_add_i32s(&file, "tokens", type, 3);
    refused(&file, SL_EFORMAT, "not an array of strings");
    begin_bytes(&file);
    vocab_add_strs(&file, "tokens", two, 2);
    refused(&file, SL_EFORMAT, "tokenizer.ggml.merges");
    begin_bytes(&file);
    vocab_add_strs(&file, "tokens", two, 2);
    vocab_add_i32s(&file, "token_type", type, 2);
    refused(&file, SL_EFORMAT, "token_type[1] is 7");
    begin_bytes(&file);
    vocab_add_strs(&file, "tokens", two, 2);
    vocab_add_i32s(&file, "token_type", type, 3);
    refused(&file, SL_EFORMAT, "3 items for 2 tokens");
    begin_bytes(&file);
    vocab_add_strs(&file, "tokens", two, 2);
    vocab_add_f32s(&file, "token_type", score, 2);
    refused(&file, SL_EFORMAT, "whole numbers");
    begin_bytes(&file);
    vocab_add_strs(&file, "tokens", two, 2);
    vocab_add_strs(&file, "merges", no_merge, 1); /* no token "ab" */
    refused(&file, SL_EFORMAT, "merges[0], 'a b'");
    begin_bytes(&file);
    vocab_add_strs(&file, "tokens", two, 2);
    vocab_add_strs(&file, "merges", half, 1);
    refused(&file, SL_EFORMAT, "merges[0], 'ab'");
    begin_bytes(&file);
    vocab_add_strs(&file, "tokens", two, 2);
    vocab_add_strs(&file, "merges", odd, 1);
    refused(&file, SL_EFORMAT, "merges[0]");
    put_bytes(v, "gpt-2", &file);
    vocab_add_u32(&file, "eos_token_id", MERGED_FIRST);
    refused(&file, SL_EFORMAT, "eos_token_id is 259, but there are 259");
    put_bytes(v, "gpt-2", &file);
    vocab_add_str(&file, "bos_token_id", "x");
    refused(&file, SL_EFORMAT, "bos_token_id");
    put_bytes(v, "gpt-2", &file);
    vocab_add_u32(&file, "add_bos_token", 1);
    refused(&file, SL_EFORMAT, "add_bos_token");
    free_bytes(v);
}

static void begin_pieces(vocab_file *file)
{
    vocab_begin(file);
    vocab_add_str(file, "model", "llama");
    vocab_add_strs(file, "tokens", two, 2);
}

static void wrong_sentencepiece_tables_are_named(void **state)
{
    const float nan_score[2] = {0, NAN}, score[2] = {0, 0};
    const int32_t unknown[2] = {2, 1}, normal[2] = {1, 1}, byte[2] = {2, 6};
    vocab_file file;
    (void)state;

    begin_pieces(&file);
    refused(&file, SL_EFORMAT, "tokenizer.ggml.scores");
    begin_pieces(&file);
    vocab_add_f32s(&file, "scores", nan_score, 2);
    refused(&file, SL_EFORMAT, "scores[1] is not a number");
    begin_pieces(&file);
    vocab_add_f32s(&file, "scores", score, 1);
    refused(&file, SL_EFORMAT, "1 items for 2 tokens");
    begin_pieces(&file);
    vocab_add_f32s(&file, "scores", score, 2);
    vocab_add_i32s(&file, "token_type", normal, 2);
    refused(&file, SL_EFORMAT, "byte 0x00");
    begin_pieces(&file);
    vocab_add_f32s(&file, "scores", score, 2);
    vocab_add_i32s(&file, "token_type", byte, 2);
    refused(&file, SL_EFORMAT, "'b', is not of the form <0x0A>");
    begin_pieces(&file);
    vocab_add_f32s(&file, "scores", score, 2);
    vocab_add_i32s(&file, "token_type", unknown, 2);
    sl_tokenizer_destroy(make(&file)); /* this one is whole */
}

static void every_failed_allocation_is_an_error(void **state)
{
    static const char text[] = "e\xCC\x81 hello <|im_start|> world";
    const sl_text_piece p = {text, sizeof(text) - 1, true};
    static const char *const arch[] = {"qwen2", "gemma3"};
    (void)state;

    for (int a = 0; a < 2; a++) {
        sl_tiny_options options = sl_tiny_defaults(arch[a]);
        sl_tokenizer *t = NULL;
        sl_status status = SL_ENOMEM;
        sl_buf bytes;
        sl_gguf *g;
        sl_err err;
        uint64_t n;

        options.layers = 1;
        sl_buf_init(&bytes, 1 << 26);
        sl_tiny_gguf(&options, &bytes);
        assert_int_equal(sl_gguf_open_memory(bytes.data, bytes.len, &g, &err), SL_OK);
        for (n = 1; status != SL_OK; n++) {
            sl_alloc_fail_at(n);
            status = sl_tokenizer_create(g, &t, &err);
            sl_alloc_fail_at(0);
            if (status != SL_OK) {
                assert_int_equal(status, SL_ENOMEM);
                assert_null(t);
            }
            assert_true(n < 1000);
        }
        assert_true(n > 8);
        status = SL_ENOMEM;
        for (n = 1; status != SL_OK; n++) {
            sl_token_list list = {.limit = SIZE_MAX};

            sl_alloc_fail_at(n);
            status = sl_tokenizer_encode(t, &p, 1, false, &list, &err);
            sl_alloc_fail_at(0);
            if (status != SL_OK)
                assert_int_equal(status, SL_ENOMEM);
            sl_free(list.id);
            assert_true(n < 1000);
        }
        assert_true(n > 4);
        sl_tokenizer_destroy(t);
        sl_gguf_close(g);
        sl_buf_done(&bytes);
    }
    sl_tokenizer_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_kinds_are_named_with_the_list_of_ours),
        cmocka_unit_test(wrong_byte_level_tables_are_named),
        cmocka_unit_test(wrong_sentencepiece_tables_are_named),
        cmocka_unit_test(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests_name("model/tokenizer_load", tests, NULL, NULL);
}
