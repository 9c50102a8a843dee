/* tests/model/test_tokenizer_models.c
 *
 * Goal: on real vocabularies, ids equal to those of independent tokenizers; nothing lost on the way
 * back; linear-log time; speed printed.
 * Method: 2,400 texts and their ids in data/ (see make_tokenizer_cases.py, which wrote them); the
 * model files come from the cache, and a test whose file is absent is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "model/tokenizer.h"

enum { TEXTS_MAX = 4096, TEXT_MAX = 1 << 20, MODELS = 3 };

static const struct model {
    const char *name, *file;
    bool nfc; /* text comes back normalised */
} model[MODELS] = {
    {"smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", false},
    {"gemma3", "gemma-3-270m-q4_k_m.gguf", false},
    {"qwen2", "qwen2.5-coder-0.5b-instruct.gguf", true},
};

static sl_tokenizer *loaded[MODELS]; /* NULL: the file is absent */

static struct text {
    char *data; /* owned */
    size_t len;
    bool template;
} text[TEXTS_MAX];
static size_t text_count;

/* --- files ------------------------------------------------------------------------------- */

static sl_tokenizer *load_model(const char *file)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[4096];
    sl_tokenizer *t = NULL;
    sl_gguf *g;
    sl_err err;
    FILE *f;

    if (cache != NULL && cache[0] != '\0')
        snprintf(path, sizeof(path), "%s/sluice/models/%s", cache, file);
    else
        snprintf(path, sizeof(path), "%s/.cache/sluice/models/%s", home != NULL ? home : "", file);
    f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    fclose(f);
    if (sl_gguf_open(path, &g, &err) != SL_OK)
        fail_msg("%s: %s", path, err.text);
    {
        const uint64_t start_us = sl_clock_us();

        if (sl_tokenizer_create(g, &t, &err) != SL_OK)
            fail_msg("%s: %s", path, err.text);
        print_message("%s: %u tokens, tables made in %.0f ms\n", file, sl_tokenizer_vocab(t),
                      (double)(sl_clock_us() - start_us) / 1e3);
    }
    sl_gguf_close(g);
    return t;
}

static FILE *open_data(const char *name)
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

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Undo the escapes, in place; returns the length. */
static size_t unescape(char *s, size_t len)
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
            s[n++] = (char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
            i += 2;
        } else {
            s[n++] = s[i] == 'n' ? '\n' : s[i] == 'r' ? '\r' : s[i] == 't' ? '\t' : s[i];
        }
    }
    return n;
}

static void read_texts(void)
{
    FILE *f = open_data("tokenizer_texts.txt");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;

    while ((n = getline(&line, &capacity, f)) > 0) {
        char *body = strchr(line, ' ');
        size_t repeat = 1, len;
        struct text *t = &text[text_count++];

        assert_true(text_count < TEXTS_MAX && body != NULL && line[n - 1] == '\n');
        if (line[1] == '*')
            repeat = strtoul(line + 2, NULL, 10);
        body++;
        len = unescape(body, (size_t)(line + n - 1 - body));
        t->template = line[0] == 'T';
        t->len = len * repeat;
        t->data = malloc(t->len + 1);
        assert_non_null(t->data);
        for (size_t i = 0; i < repeat; i++)
            memcpy(t->data + i * len, body, len);
    }
    free(line);
    fclose(f);
}

/* The ids of one line into `ids`; returns their count. */
static size_t read_ids(char *line, uint32_t *ids, size_t max)
{
    size_t n = 0;

    for (char *word = strtok(line, " \n"); word != NULL; word = strtok(NULL, " \n")) {
        const size_t start = n;
        unsigned long repeat = 1;
        size_t period;
        char *p = word;

        for (;;) {
            assert_true(n < max);
            ids[n++] = (uint32_t)strtoul(p, &p, 10);
            if (*p != ',')
                break;
            p++;
        }
        if (*p == '*')
            repeat = strtoul(p + 1, NULL, 10);
        period = n - start;
        assert_true(start + period * repeat <= max);
        for (; n < start + period * repeat; n++)
            ids[n] = ids[n - period];
    }
    return n;
}

/* --- tests ------------------------------------------------------------------------------- */

static sl_token_list encode(const sl_tokenizer *t, const char *data, size_t len, bool template)
{
    const sl_text_piece piece = {data, len, template};
    sl_token_list list = {.limit = SIZE_MAX};
    sl_err err;

    if (sl_tokenizer_encode(t, &piece, 1, false, &list, &err) != SL_OK)
        fail_msg("%s", err.text);
    return list;
}

static void show(const char *what, const uint32_t *id, size_t n, size_t differ)
{
    const size_t from = differ > 3 ? differ - 3 : 0;

    print_message("  %s, %zu ids, from %zu:", what, n, from);
    for (size_t i = from; i < n && i < from + 12; i++)
        print_message(" %u", id[i]);
    print_message("\n");
}

static void show_text(const struct text *x)
{
    print_message("  text:");
    for (size_t i = 0; i < x->len && i < 60; i++)
        print_message(x->data[i] > 0x20 && x->data[i] < 0x7F ? " %c" : " %02x",
                      (unsigned char)x->data[i]);
    print_message("\n");
}

static void ids_equal_the_reference(void **state)
{
    const int m = (int)(intptr_t)*state;
    char name[64], *line = NULL;
    uint32_t *want = malloc(TEXT_MAX * sizeof(*want));
    size_t capacity = 0, wrong = 0;
    FILE *f;

    if (loaded[m] == NULL)
        skip();
    assert_non_null(want);
    snprintf(name, sizeof(name), "tokenizer_ids_%s.txt", model[m].name);
    f = open_data(name);
    for (size_t i = 0; i < text_count; i++) {
        sl_token_list got = encode(loaded[m], text[i].data, text[i].len, text[i].template);
        size_t n, differ = 0;

        assert_true(getline(&line, &capacity, f) > 0);
        n = read_ids(line, want, TEXT_MAX);
        while (differ < n && differ < got.count && want[differ] == got.id[differ])
            differ++;
        if ((differ != n || differ != got.count) && wrong++ < 20) {
            print_message("text %zu differs at id %zu\n", i + 1, differ);
            show_text(&text[i]);
            show("want", want, n, differ);
            show("got ", got.id, got.count, differ);
        }
        sl_free(got.id);
    }
    assert_true(getline(&line, &capacity, f) <= 0);
    free(line);
    free(want);
    fclose(f);
    print_message("%s: %zu texts, %zu differ\n", model[m].name, text_count, wrong);
    assert_true(text_count >= 2000);
    assert_int_equal(wrong, 0);
}

static void decoding_gives_the_text_back(void **state)
{
    const int m = (int)(intptr_t)*state;
    const sl_tokenizer *t = loaded[m];
    size_t lossy = 0;

    if (t == NULL)
        skip();
    for (size_t i = 0; i < text_count; i++) {
        sl_token_list got = encode(t, text[i].data, text[i].len, text[i].template);
        sl_token_list again;
        sl_buf out;

        sl_buf_init(&out, SIZE_MAX / 2);
        sl_tokenizer_decode_all(t, got.id, got.count, true, &out);
        assert_false(out.failed);
        if (out.len != text[i].len || memcmp(out.data, text[i].data, out.len) != 0)
            lossy++;
        if (!text[i].template) {
            for (size_t k = 0; k < got.count; k++)
                assert_false(sl_tokenizer_is_control(t, got.id[k]));
        }
        /* What came back, normalised or short of a byte, is what the ids stand for. */
        again = encode(t, out.data, out.len, text[i].template);
        if (m != 0) { /* bytes that smollm2 lacks leave neighbours that then merge */
            assert_int_equal(again.count, got.count);
            assert_memory_equal(again.id, got.id, got.count * sizeof(*got.id));
        }
        sl_free(again.id);
        sl_free(got.id);
        sl_buf_done(&out);
    }
    print_message("%s: %zu of %zu texts come back changed\n", model[m].name, lossy, text_count);
    /* Expected: bytes that smollm2's vocabulary lacks; gemma3's literal U+2581; qwen2's NFC. */
    assert_true(lossy < text_count / 8);
}

static char *random_word(const char *alphabet, size_t len)
{
    sl_rng rng = {.seed = 7};
    char *word = malloc(len);

    assert_non_null(word);
    for (size_t i = 0; i < len; i++)
        word[i] = alphabet[sl_rng_below(&rng, strlen(alphabet))];
    return word;
}

/* A word of 1 MiB: a quadratic merge would take hours, one that is n log n less than a second. */
static void one_long_word_takes_no_quadratic_time(void **state)
{
    static const char *const alphabet[] = {
        "abcdefghijklmnopqrstuvwxyz", "a", " ", "\n", "\t \n", "1", "'"};
    const int m = (int)(intptr_t)*state;
    const size_t len = 1 << 20;

    if (loaded[m] == NULL)
        skip();
    for (size_t i = 0; i < sizeof(alphabet) / sizeof(alphabet[0]); i++) {
        char *word = random_word(alphabet[i], len);
        const uint64_t start_us = sl_clock_us();
        sl_token_list got = encode(loaded[m], word, len, false);
        const double s = (double)(sl_clock_us() - start_us) / 1e6;

        print_message("%s: 1 MiB of '%c': %zu ids, %.2f s\n", model[m].name, alphabet[i][0],
                      got.count, s);
        assert_true(s < 20.0);
        sl_free(got.id);
        free(word);
    }
}

static void speed_is_printed(void **state)
{
    const int m = (int)(intptr_t)*state;
    size_t english_len, len = 0;
    char *english, *mixed;
    FILE *f;

    if (loaded[m] == NULL)
        skip();
    /* Prose with code: the style of what people send. */
    f = open_data("tokenizer_prose.txt");
    english = malloc(TEXT_MAX);
    mixed = malloc(TEXT_MAX);
    assert_true(english != NULL && mixed != NULL);
    english_len = fread(english, 1, TEXT_MAX, f);
    fclose(f);
    for (size_t i = 0; i < text_count && len + text[i].len < TEXT_MAX; i++) {
        memcpy(mixed + len, text[i].data, text[i].len);
        len += text[i].len;
    }
    for (int part = 0; part < 2; part++) {
        const char *data = part == 0 ? english : mixed;
        const size_t n = part == 0 ? english_len : len;
        uint64_t best_us = UINT64_MAX;
        size_t count = 0;

        for (int round = 0; round < 5; round++) {
            const uint64_t start_us = sl_clock_us();
            sl_token_list got = encode(loaded[m], data, n, false);
            const uint64_t us = sl_clock_us() - start_us;

            best_us = us < best_us ? us : best_us;
            count = got.count;
            sl_free(got.id);
        }
        print_message("%s: %s, %zu bytes, %zu ids: %.1f MB/s\n", model[m].name,
                      part == 0 ? "prose" : "the texts", n, count,
                      (double)n / (double)(best_us > 0 ? best_us : 1));
    }
    free(english);
    free(mixed);
}

static int setup(void **state)
{
    (void)state;
    read_texts();
    for (int m = 0; m < MODELS; m++)
        loaded[m] = load_model(model[m].file);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int m = 0; m < MODELS; m++)
        sl_tokenizer_destroy(loaded[m]);
    for (size_t i = 0; i < text_count; i++)
        free(text[i].data);
    return 0;
}

#define EACH_MODEL(test)                                                                           \
    {#test " (smollm2)", test, NULL, NULL, (void *)0},                                             \
        {#test " (gemma3)", test, NULL, NULL, (void *)1},                                          \
    {                                                                                              \
#test " (qwen2)", test, NULL, NULL, (void *)2                                              \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH_MODEL(ids_equal_the_reference),
        EACH_MODEL(decoding_gives_the_text_back),
        EACH_MODEL(one_long_word_takes_no_quadratic_time),
        EACH_MODEL(speed_is_printed),
    };
    return cmocka_run_group_tests_name("model/tokenizer_models", tests, setup, teardown);
}
