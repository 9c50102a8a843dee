/* tests/model/tokenizer_cases.h - what the tokenizer's tests share: the texts in data/, and
 * GGUF files made in memory that hold a vocabulary and nothing else. */
#ifndef SL_TESTS_MODEL_TOKENIZER_CASES_H
#define SL_TESTS_MODEL_TOKENIZER_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "model/tokenizer.h"

/* --- texts ------------------------------------------------------------------------------- */

typedef struct case_text {
    char *data; /* owned */
    size_t len;
    bool template;
} case_text;

typedef struct case_texts {
    case_text *text;
    size_t count;
} case_texts;

static inline FILE *case_open(const char *name)
{
    const char *root = getenv("SLUICE_SOURCE_ROOT");
    char path[4096];
    FILE *f;

    snprintf(path, sizeof(path), "%s/tests/model/data/%s", root != NULL ? root : ".", name);
    f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("cannot open %s", path);
    return f;
}

static inline int case_hex(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Undo the escapes, in place; returns the length. */
static inline size_t case_unescape(char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (s[i] != '\\') {
            s[n++] = s[i];
            continue;
        }
        i++;
        assert_true(i < len);
        if (s[i] == 'x') {
            assert_true(i + 2 < len);
            s[n++] = (char)(case_hex(s[i + 1]) << 4 | case_hex(s[i + 2]));
            i += 2;
        } else {
            s[n++] = s[i] == 'n' ? '\n' : s[i] == 'r' ? '\r' : s[i] == 't' ? '\t' : s[i];
        }
    }
    return n;
}

static inline case_texts case_read_texts(void)
{
    enum { MAX = 4096 };
    FILE *f = case_open("tokenizer_texts.txt");
    case_texts all = {.text = calloc(MAX, sizeof(case_text))};
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;

    assert_non_null(all.text);
    while ((n = getline(&line, &capacity, f)) > 0) {
        char *body = strchr(line, ' ');
        size_t repeat = 1, len;
        case_text *t = &all.text[all.count++];

        assert_true(all.count < MAX && body != NULL && line[n - 1] == '\n');
        if (line[1] == '*')
            repeat = strtoul(line + 2, NULL, 10);
        body++;
        len = case_unescape(body, (size_t)(line + n - 1 - body));
        t->template = line[0] == 'T';
        t->len = len * repeat;
        t->data = malloc(t->len + 1);
        assert_non_null(t->data);
        for (size_t i = 0; i < repeat; i++)
            memcpy(t->data + i * len, body, len);
    }
    free(line);
    fclose(f);
    return all;
}

static inline void case_free_texts(case_texts *all)
{
    for (size_t i = 0; i < all->count; i++)
        free(all->text[i].data);
    free(all->text);
}

static inline void case_show_text(const case_text *x)
{
    print_message("  text:");
    for (size_t i = 0; i < x->len && i < 60; i++)
        print_message(x->data[i] > 0x20 && x->data[i] < 0x7F ? " %c" : " %02x",
                      (unsigned char)x->data[i]);
    print_message("\n");
}

/* The ids of one text; the caller frees list.id. */
static inline sl_token_list case_encode(const sl_tokenizer *t, const char *data, size_t len,
                                        bool template)
{
    const sl_text_piece piece = {data, len, template};
    sl_token_list list = {.limit = SIZE_MAX};
    sl_err err;

    if (sl_tokenizer_encode(t, &piece, 1, false, &list, &err) != SL_OK)
        fail_msg("%s", err.text);
    return list;
}

/* --- vocabulary files -------------------------------------------------------------------- */

typedef struct vocab_file {
    sl_buf kv;
    uint64_t count;
} vocab_file;

static inline void vocab_int(sl_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        sl_buf_add_char(b, (char)(v >> (8 * i)));
}

static inline void vocab_begin(vocab_file *v)
{
    sl_buf_init(&v->kv, 64 << 20);
    v->count = 0;
}

static inline void vocab_text(sl_buf *b, const char *s, size_t len)
{
    vocab_int(b, len, 8);
    sl_buf_add(b, s, len);
}

static inline void vocab_key(vocab_file *v, const char *key, uint32_t type)
{
    char full[96];

    snprintf(full, sizeof(full), "tokenizer.ggml.%s", key);
    vocab_text(&v->kv, full, strlen(full));
    vocab_int(&v->kv, type, 4);
    v->count++;
}

static inline void vocab_add_str(vocab_file *v, const char *key, const char *value)
{
    vocab_key(v, key, 8);
    vocab_text(&v->kv, value, strlen(value));
}

static inline void vocab_add_u32(vocab_file *v, const char *key, uint32_t value)
{
    vocab_key(v, key, 4);
    vocab_int(&v->kv, value, 4);
}

static inline void vocab_add_bool(vocab_file *v, const char *key, bool value)
{
    vocab_key(v, key, 7);
    sl_buf_add_char(&v->kv, value ? 1 : 0);
}

static inline void vocab_add_strs(vocab_file *v, const char *key, const sl_str *item, size_t n)
{
    vocab_key(v, key, 9);
    vocab_int(&v->kv, 8, 4);
    vocab_int(&v->kv, n, 8);
    for (size_t i = 0; i < n; i++)
        vocab_text(&v->kv, item[i].data, item[i].len);
}

static inline void vocab_add_i32s(vocab_file *v, const char *key, const int32_t *item, size_t n)
{
    vocab_key(v, key, 9);
    vocab_int(&v->kv, 5, 4);
    vocab_int(&v->kv, n, 8);
    for (size_t i = 0; i < n; i++)
        vocab_int(&v->kv, (uint32_t)item[i], 4);
}

static inline void vocab_add_f32s(vocab_file *v, const char *key, const float *item, size_t n)
{
    vocab_key(v, key, 9);
    vocab_int(&v->kv, 6, 4);
    vocab_int(&v->kv, n, 8);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &item[i], 4);
        vocab_int(&v->kv, bits, 4);
    }
}

/* Make a tokenizer of what was added, and forget it. */
static inline sl_status vocab_create(vocab_file *v, sl_tokenizer **out, sl_err *err)
{
    sl_buf file;
    sl_gguf *g;
    sl_status status;

    sl_buf_init(&file, 128 << 20);
    sl_buf_add_str(&file, "GGUF");
    vocab_int(&file, 3, 4);
    vocab_int(&file, 0, 8);
    vocab_int(&file, v->count, 8);
    sl_buf_add(&file, v->kv.data, v->kv.len);
    assert_false(file.failed || v->kv.failed);
    status = sl_gguf_open_memory(file.data, file.len, &g, err);
    if (status != SL_OK)
        fail_msg("the file made for the test: %s", err->text);
    status = sl_tokenizer_create(g, out, err);
    sl_gguf_close(g);
    sl_buf_done(&file);
    sl_buf_done(&v->kv);
    return status;
}

#endif
