/* tests/model/test_tokenizer_models.c
 *
 * Goal: on real vocabularies, ids equal to those of independent tokenizers; nothing lost on the way
 * back; linear-log time; speed printed.
 * Method: 2,140 texts and their ids in data/ (see make_tokenizer_cases.py, which wrote them); the
 * model files come from the cache, and a test whose file is absent is skipped. */
#include "base/clock.h"
#include "base/rng.h"
#include "tests/model/tokenizer_cases.h"

enum { TEXT_MAX = 1 << 20, MODELS = 3 };

static const struct model {
    const char *name, *file;
} model[MODELS] = {
    {"smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"},
    {"gemma3", "gemma-3-270m-q4_k_m.gguf"},
    {"qwen2", "qwen2.5-coder-0.5b-instruct.gguf"},
};

static sl_tokenizer *loaded[MODELS]; /* NULL: the file is absent */

static case_texts texts;
static bool lacks[256]; /* bytes that smollm2 has no token for */

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

static void show(const char *what, const uint32_t *id, size_t n, size_t differ)
{
    const size_t from = differ > 3 ? differ - 3 : 0;

    print_message("  %s, %zu ids, from %zu:", what, n, from);
    for (size_t i = from; i < n && i < from + 12; i++)
        print_message(" %u", id[i]);
    print_message("\n");
}

static void ids_equal_the_reference(void **state)
{
    const int m = (int)(intptr_t)*state;
    char name[64], *line = NULL;
    size_t capacity = 0, wrong = 0;
    uint32_t *want;
    FILE *f;

    if (loaded[m] == NULL)
        skip();
    want = malloc(TEXT_MAX * sizeof(*want));
    assert_non_null(want);
    snprintf(name, sizeof(name), "tokenizer_ids_%s.txt", model[m].name);
    f = case_open(name);
    for (size_t i = 0; i < texts.count; i++) {
        sl_token_list got =
            case_encode(loaded[m], texts.text[i].data, texts.text[i].len, texts.text[i].template);
        size_t n, differ = 0;

        assert_true(getline(&line, &capacity, f) > 0);
        n = read_ids(line, want, TEXT_MAX);
        while (differ < n && differ < got.count && want[differ] == got.id[differ])
            differ++;
        if ((differ != n || differ != got.count) && wrong++ < 20) {
            print_message("text %zu differs at id %zu\n", i + 1, differ);
            case_show_text(&texts.text[i]);
            show("want", want, n, differ);
            show("got ", got.id, got.count, differ);
        }
        sl_free(got.id);
    }
    assert_true(getline(&line, &capacity, f) <= 0);
    free(line);
    free(want);
    fclose(f);
    print_message("%s: %zu texts, %zu differ\n", model[m].name, texts.count, wrong);
    assert_true(texts.count >= 2000);
    assert_int_equal(wrong, 0);
}

/* What must come back: smollm2 lacks some bytes, gemma3 cannot tell U+2581 from a space. */
static size_t expected_text(int m, const case_text *x, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < x->len;) {
        const bool space = m == 1 && x->len - i >= 3 && memcmp(x->data + i, "\xE2\x96\x81", 3) == 0;

        if (m != 0 || !lacks[(uint8_t)x->data[i]])
            out[n++] = space ? ' ' : x->data[i];
        i += space ? 3 : 1;
    }
    return n;
}

static void decoding_gives_the_text_back(void **state)
{
    const int m = (int)(intptr_t)*state;
    const sl_tokenizer *t = loaded[m];
    size_t changed = 0;
    char *want;

    if (t == NULL)
        skip();
    want = malloc(TEXT_MAX);
    assert_non_null(want);
    for (size_t i = 0; i < texts.count; i++) {
        const case_text *x = &texts.text[i];
        sl_token_list got = case_encode(t, x->data, x->len, x->template);
        const size_t len = expected_text(m, x, want);
        sl_buf out;

        for (size_t k = 0; k < got.count && !x->template; k++)
            assert_false(sl_tokenizer_is_control(t, got.id[k]));
        sl_buf_init(&out, TEXT_MAX);
        sl_tokenizer_decode_all(t, got.id, got.count, true, &out);
        assert_false(out.failed);
        if (m != 2) {
            assert_int_equal(out.len, len);
            assert_true(len == 0 || memcmp(out.data, want, len) == 0);
        } else { /* normalised: then it stays as it is, and stands for the same ids */
            sl_token_list again = case_encode(t, out.data, out.len, x->template);

            assert_int_equal(again.count, got.count);
            assert_true(got.count == 0 ||
                        memcmp(again.id, got.id, got.count * sizeof(*got.id)) == 0);
            sl_free(again.id);
        }
        if (out.len != x->len || (x->len > 0 && memcmp(out.data, x->data, x->len) != 0))
            changed++;
        sl_free(got.id);
        sl_buf_done(&out);
    }
    print_message("%s: %zu of %zu texts come back changed\n", model[m].name, changed, texts.count);
    assert_true(changed < texts.count / 8);
    free(want);
}

/* The bytes that smollm2's vocabulary lacks: 21, unassigned control characters and bytes that no
 * text or hardly any has. */
static void find_lacking_bytes(void)
{
    size_t count = 0;

    if (loaded[0] == NULL)
        return;
    for (int b = 0; b < 256; b++) {
        const char byte = (char)b;
        sl_token_list got = case_encode(loaded[0], &byte, 1, false);

        lacks[b] = got.count == 0;
        count += lacks[b];
        sl_free(got.id);
    }
    assert_int_equal(count, 21);
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

/* A word of 256 KiB: a quadratic merge would take 10^10 steps and more, one that is n log n takes a
 * tenth of a second. */
static void one_long_word_takes_no_quadratic_time(void **state)
{
    static const char *const alphabet[] = {
        "abcdefghijklmnopqrstuvwxyz", "a", " ", "\n", "\t \n", "1", "'"};
    const int m = (int)(intptr_t)*state;
    const size_t len = 256 << 10;

    if (loaded[m] == NULL)
        skip();
    for (size_t i = 0; i < sizeof(alphabet) / sizeof(alphabet[0]); i++) {
        char *word = random_word(alphabet[i], len);
        const uint64_t start_us = sl_clock_us();
        sl_token_list got = case_encode(loaded[m], word, len, false);
        const double s = (double)(sl_clock_us() - start_us) / 1e6;

        print_message("%s: 256 KiB of '%c': %zu ids, %.2f s\n", model[m].name, alphabet[i][0],
                      got.count, s);
        assert_true(s < 8.0);
        sl_free(got.id);
        free(word);
    }
}

/* The texts are hard: half of their words occur once.  The sources are comments and code. */
static size_t gather(bool sources, char *out)
{
    static const char *const file[] = {"tokenizer.c",      "tokenizer_engine.c",
                                       "tokenizer.h",      "tokenizer_split.c",
                                       "tokenizer_load.c", "gguf.c",
                                       "config.c",         "gguf.h",
                                       "model.h"};
    const char *root = getenv("SLUICE_SOURCE_ROOT");
    size_t len = 0;

    for (size_t i = 0; !sources && i < texts.count && len + texts.text[i].len < TEXT_MAX; i++) {
        memcpy(out + len, texts.text[i].data, texts.text[i].len);
        len += texts.text[i].len;
    }
    for (size_t i = 0; sources && i < sizeof(file) / sizeof(file[0]); i++) {
        char path[4096];
        FILE *f;

        snprintf(path, sizeof(path), "%s/model/%s", root != NULL ? root : ".", file[i]);
        f = fopen(path, "rb");
        assert_non_null(f);
        len += fread(out + len, 1, TEXT_MAX - len, f);
        fclose(f);
    }
    return len;
}

static void speed_is_printed(void **state)
{
    const int m = (int)(intptr_t)*state;
    char *data;

    if (loaded[m] == NULL)
        skip();
    data = malloc(TEXT_MAX);
    assert_non_null(data);
    for (int sources = 0; sources < 2; sources++) {
        const size_t n = gather(sources, data);
        uint64_t best_us = UINT64_MAX;
        size_t count = 0;

        for (int round = 0; round < 5; round++) {
            const uint64_t start_us = sl_clock_us();
            sl_token_list got = case_encode(loaded[m], data, n, false);
            const uint64_t us = sl_clock_us() - start_us;

            best_us = us < best_us ? us : best_us;
            count = got.count;
            sl_free(got.id);
        }
        print_message("%s: %s, %zu bytes, %zu ids: %.1f MB/s\n", model[m].name,
                      sources ? "these sources" : "the texts", n, count,
                      (double)n / (double)(best_us > 0 ? best_us : 1));
        assert_true(count > n / 20);
    }
    free(data);
}

static int setup(void **state)
{
    (void)state;
    texts = case_read_texts();
    for (int m = 0; m < MODELS; m++)
        loaded[m] = load_model(model[m].file);
    find_lacking_bytes();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int m = 0; m < MODELS; m++)
        sl_tokenizer_destroy(loaded[m]);
    case_free_texts(&texts);
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
