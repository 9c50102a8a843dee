/* tests/model/test_gguf.c
 *
 * Goal: a good file reads back what was written; no other bytes crash, over-allocate or slip
 * through: truncation at every byte of the header, every single-bit flip of it, and crafted lies.
 * Method: tiny generated files, patched in memory (in exact-size heap blocks, so that a sanitizer
 * sees any read beyond the end). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "model/gguf.h"
#include "tests/support/tiny_gguf.h"

static sl_buf file; /* a tiny llama */
static size_t header_bytes;

static int setup(void **state)
{
    const sl_tiny_options options = sl_tiny_defaults("llama");
    sl_gguf *g;
    (void)state;

    sl_buf_init(&file, 64u << 20);
    sl_tiny_gguf(&options, &file);
    if (sl_gguf_open_memory(file.data, file.len, &g, NULL) != SL_OK)
        return -1;
    header_bytes = (size_t)sl_gguf_tensor_at(g, 0)->offset;
    sl_gguf_close(g);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sl_buf_done(&file);
    return 0;
}

static void a_good_file_reads_back(void **state)
{
    const sl_gguf_tensor *t;
    sl_gguf_type type;
    uint64_t count;
    sl_err err = {0};
    uint32_t u;
    sl_str s;
    sl_gguf *g;
    float f;
    bool b;
    (void)state;

    assert_int_equal(sl_gguf_open_memory(file.data, file.len, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_get_u32(g, "llama.block_count", &u, &err), SL_OK);
    assert_int_equal(u, 3);
    assert_int_equal(sl_gguf_get_f32(g, "llama.rope.freq_base", &f, &err), SL_OK);
    assert_true(f == 10000.0f);
    assert_int_equal(sl_gguf_get_f32(g, "llama.block_count", &f, &err), SL_OK);
    assert_true(f == 3.0f);
    assert_int_equal(sl_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &b, &err), SL_OK);
    assert_false(b);
    assert_int_equal(sl_gguf_get_str(g, "general.name", &s, &err), SL_OK);
    assert_int_equal(s.len, 11);
    assert_memory_equal(s.data, "Tiny random", 11);
    assert_int_equal(sl_gguf_get_array(g, "tokenizer.ggml.tokens", &type, &count, &err), SL_OK);
    assert_int_equal(type, SL_GGUF_STRING);
    assert_int_equal(count, SL_TINY_VOCAB);
    s = sl_gguf_array_str(g, "tokenizer.ggml.tokens", SL_TINY_IM_END);
    assert_int_equal(s.len, 10);
    assert_memory_equal(s.data, "<|im_end|>", 10);
    assert_int_equal(sl_gguf_array_int(g, "tokenizer.ggml.token_type", 0), 3);

    t = sl_gguf_find_tensor(g, "blk.2.ffn_down.weight");
    assert_non_null(t);
    assert_int_equal(t->dim_count, 2);
    assert_int_equal(t->dim[0], 128);
    assert_int_equal(t->dim[1], 64);
    assert_int_equal(t->bytes, 128 * 64 * 4);
    assert_ptr_equal(t->data, file.data + t->offset);
    assert_null(sl_gguf_find_tensor(g, "blk.3.ffn_down.weight"));
    sl_gguf_close(g);
}

static void wrong_kinds_and_missing_keys_are_named(void **state)
{
    sl_err err = {0};
    uint32_t u = 7;
    sl_str s;
    sl_gguf *g;
    bool b;
    (void)state;

    assert_int_equal(sl_gguf_open_memory(file.data, file.len, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_get_u32(g, "no.such.key", &u, &err), SL_ENOTFOUND);
    assert_non_null(strstr(err.text, "no.such.key"));
    assert_int_equal(sl_gguf_get_u32(g, "general.name", &u, &err), SL_EFORMAT);
    assert_int_equal(sl_gguf_get_u32(g, "llama.rope.freq_base", &u, &err), SL_EFORMAT);
    assert_int_equal(sl_gguf_get_u32(g, "tokenizer.ggml.tokens", &u, &err), SL_EFORMAT);
    assert_int_equal(sl_gguf_get_str(g, "llama.block_count", &s, &err), SL_EFORMAT);
    assert_int_equal(sl_gguf_get_bool(g, "llama.block_count", &b, &err), SL_EFORMAT);
    assert_int_equal(u, 7);
    sl_gguf_close(g);
}

/* Open a copy in a block of exactly that size; the answer must be clean either way. */
static sl_status open_copy(const char *data, size_t len, sl_err *err)
{
    char *copy = malloc(len > 0 ? len : 1);
    sl_gguf *g = NULL;
    sl_status status;

    assert_non_null(copy);
    if (len > 0)
        memcpy(copy, data, len);
    *err = (sl_err){0};
    status = sl_gguf_open_memory(copy, len, &g, err);
    if (status == SL_OK) {
        for (uint32_t i = 0; i < sl_gguf_tensor_count(g); i++) {
            const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
            volatile uint8_t touched;

            if (t->data == NULL || t->bytes == 0)
                continue;
            touched = t->data[0]; /* both ends lie inside */
            touched = t->data[t->bytes - 1];
            (void)touched;
        }
        for (uint32_t i = 0; i < sl_gguf_kv_count(g); i++) {
            char text[200];

            sl_gguf_kv_text(g, i, text, sizeof(text));
        }
        sl_gguf_close(g);
    } else {
        assert_null(g);
        assert_true(err->text[0] != '\0');
    }
    free(copy);
    return status;
}

static void truncation_at_every_byte_is_an_error(void **state)
{
    sl_err err;
    (void)state;

    for (size_t n = 0; n < header_bytes; n++)
        assert_int_equal(open_copy(file.data, n, &err), SL_EFORMAT);
    assert_int_equal(open_copy(file.data, header_bytes, &err), SL_EFORMAT);
    assert_int_equal(open_copy(file.data, file.len - 1, &err), SL_EFORMAT);
    assert_int_equal(open_copy(file.data, file.len, &err), SL_OK);
}

static void every_bit_flip_of_the_header_is_survived(void **state)
{
    char *copy = malloc(file.len);
    int refused = 0;
    (void)state;

    assert_non_null(copy);
    memcpy(copy, file.data, file.len);
    for (size_t bit = 0; bit < header_bytes * 8; bit++) {
        sl_gguf *g = NULL;

        copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
        if (sl_gguf_open_memory(copy, file.len, &g, NULL) == SL_OK)
            sl_gguf_close(g);
        else
            refused++;
        copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
    }
    assert_in_range(refused, header_bytes / 4, header_bytes * 8);
    free(copy);
}

/* A header with one string entry and one tensor, every field a parameter. */
typedef struct lie {
    uint32_t version;
    uint64_t tensors, kvs, key_len, value_len;
    uint32_t value_type, dims, type;
    uint64_t dim0, dim1, offset;
    const char *want; /* part of the sentence; NULL: must open */
} lie;

static void put(sl_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        sl_buf_add_char(b, (char)(v >> (8 * i)));
}

static void build(const lie *l, sl_buf *b)
{
    sl_buf_add_str(b, "GGUF");
    put(b, l->version, 4);
    put(b, l->tensors, 8);
    put(b, l->kvs, 8);
    put(b, l->key_len, 8);
    sl_buf_add_str(b, "key");
    put(b, l->value_type, 4);
    put(b, l->value_len, 8);
    sl_buf_add_str(b, "value");
    put(b, 1, 8);
    sl_buf_add_str(b, "t");
    put(b, l->dims, 4);
    put(b, l->dim0, 8);
    put(b, l->dim1, 8);
    put(b, l->type, 4);
    put(b, l->offset, 8);
    while (b->len % 32 != 0)
        sl_buf_add_char(b, 0);
    for (int i = 0; i < 256; i++)
        sl_buf_add_char(b, (char)i);
}

static void lies_are_named(void **state)
{
    const lie good = {3, 1, 1, 3, 5, 8, 2, 0, 8, 8, 0, NULL};
    lie cases[32];
    size_t n = 0;
    (void)state;

#define LIE(field, v, text) cases[n] = good, cases[n].field = (v), cases[n].want = (text), n++
    LIE(version, 3, NULL);
    LIE(version, 1, "version 1");
    LIE(version, 0x03000000, "version");
    LIE(tensors, UINT64_MAX, "tensors");
    LIE(tensors, 1u << 20, "tensors");
    LIE(tensors, 2, "");
    LIE(kvs, UINT64_MAX, "metadata entries");
    LIE(kvs, 2, "");
    LIE(key_len, UINT64_MAX, "claims");
    LIE(key_len, 60000, "left");
    LIE(value_len, UINT64_MAX, "claims");
    LIE(value_len, 1u << 30, "claims");
    LIE(value_type, 13, "unknown type");
    LIE(value_type, 9, "");
    LIE(dims, 0, "dimensions");
    LIE(dims, 5, "dimensions");
    LIE(dims, UINT32_MAX, "dimensions");
    LIE(dim0, 0, "impossible shape");
    LIE(dim0, UINT64_MAX, "impossible shape");
    LIE(dim0, 1ull << 62, "");
    LIE(dim1, 1ull << 61, "");
    LIE(dim1, 9, "does not lie inside");
    LIE(offset, 1, "aligned");
    LIE(offset, 32, "does not lie inside");
    LIE(offset, UINT64_MAX - 31, "does not lie inside");
    LIE(type, 2, "no multiple of a Q4_0 block");
    LIE(type, 4, NULL); /* a type we do not know: listed, not loadable */
#undef LIE
    for (size_t i = 0; i < n; i++) {
        sl_status status;
        sl_err err;
        sl_buf b;

        sl_buf_init(&b, 1 << 20);
        build(&cases[i], &b);
        status = open_copy(b.data, b.len, &err);
        if (cases[i].want == NULL)
            assert_int_equal(status, SL_OK);
        else {
            assert_int_equal(status, SL_EFORMAT);
            if (strstr(err.text, cases[i].want) == NULL)
                fail_msg("case %zu: '%s' lacks '%s'", i, err.text, cases[i].want);
        }
        sl_buf_done(&b);
    }
}

static void every_allocation_failure_is_an_error(void **state)
{
    uint64_t needed;
    sl_gguf *g;
    (void)state;

    sl_alloc_fail_at(0);
    assert_int_equal(sl_gguf_open_memory(file.data, file.len, &g, NULL), SL_OK);
    needed = sl_alloc_fail_at(0);
    sl_gguf_close(g);
    assert_in_range(needed, 5, 100);
    for (uint64_t n = 1; n <= needed; n++) {
        sl_err err = {0};

        g = NULL;
        sl_alloc_fail_at(n);
        assert_int_equal(sl_gguf_open_memory(file.data, file.len, &g, &err), SL_ENOMEM);
        assert_null(g);
    }
    sl_alloc_fail_at(0);
}

static void files_that_are_not_there_are_named(void **state)
{
    char path[] = "/tmp/sluice-gguf-XXXXXX";
    sl_gguf *g = NULL;
    sl_err err;
    int fd;
    (void)state;

    assert_int_equal(sl_gguf_open("/nonexistent/model.gguf", &g, &err), SL_EIO);
    assert_non_null(strstr(err.text, "/nonexistent/model.gguf"));
    assert_int_equal(sl_gguf_open("/tmp", &g, &err), SL_EIO);
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(sl_gguf_open(path, &g, &err), SL_EFORMAT);
    assert_int_equal(write(fd, file.data, file.len), (ssize_t)file.len);
    assert_int_equal(sl_gguf_open(path, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_file_bytes(g), file.len);
    sl_gguf_close(g);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_reads_back),
        cmocka_unit_test(wrong_kinds_and_missing_keys_are_named),
        cmocka_unit_test(truncation_at_every_byte_is_an_error),
        cmocka_unit_test(every_bit_flip_of_the_header_is_survived),
        cmocka_unit_test(lies_are_named),
        cmocka_unit_test(every_allocation_failure_is_an_error),
        cmocka_unit_test(files_that_are_not_there_are_named),
    };

    return cmocka_run_group_tests_name("model/gguf", tests, setup, teardown);
}
