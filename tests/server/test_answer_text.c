/* Goal: what may be shown never contains a stop string or a cut character, however tokens cut the
 * text.
 * Method: every text is fed in every split into two pieces, and byte by byte, showing after each
 * piece what is ready; a naive search over the whole text is the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/rng.h"
#include "server/answer_text.h"

enum { STOPS_MAX = 4 };

typedef struct stops {
    const char *text[STOPS_MAX];
    size_t len[STOPS_MAX];
    size_t count;
    bool include;
} stops;

static stops stops_of(const char *a, const char *b, bool include)
{
    stops s = {.include = include};

    if (a != NULL) {
        s.text[s.count] = a;
        s.len[s.count++] = strlen(a);
    }
    if (b != NULL) {
        s.text[s.count] = b;
        s.len[s.count++] = strlen(b);
    }
    return s;
}

/* The reference: the first byte at which any stop string ends, the longest of those that end
 * there. */
static size_t naive(const char *text, size_t n, const stops *s, int *which)
{
    *which = -1;
    for (size_t end = 1; end <= n; end++) {
        for (size_t i = 0; i < s->count; i++)
            if (s->len[i] <= end && memcmp(text + end - s->len[i], s->text[i], s->len[i]) == 0 &&
                (*which < 0 || s->len[i] > s->len[*which]))
                *which = (int)i;
        if (*which >= 0)
            return s->include ? end : end - s->len[*which];
    }
    return n;
}

/* Feed the pieces that `cut` makes (bit i: a cut behind byte i), collect what is shown. */
static void check_cuts(const char *text, size_t n, const stops *s, uint64_t cut)
{
    sl_answer_text t;
    char shown[256];
    size_t shown_len = 0, from = 0, want;
    bool matched = false;
    int which;

    want = naive(text, n, s, &which);
    sl_answer_text_init(&t, s->text, s->len, s->count, s->include, 1 << 16);
    for (size_t i = 0; i < n && !matched; i++) {
        size_t ready;

        if (i + 1 < n && (cut >> i & 1) == 0)
            continue;
        matched = sl_answer_text_add(&t, text + from, i + 1 - from);
        from = i + 1;
        ready = sl_answer_text_ready(&t, matched);
        assert_true(shown_len + ready <= sizeof(shown));
        memcpy(shown + shown_len, t.held.data, ready);
        sl_answer_text_take(&t, ready);
        shown_len += ready;
        assert_true(shown_len <= want); /* nothing that would have to be taken back */
        if (!matched)
            assert_int_equal(sl_utf8_whole(shown, shown_len), shown_len);
    }
    assert_int_equal(matched, which >= 0);
    assert_int_equal(t.matched, which);
    if (!matched) {
        const size_t ready = sl_answer_text_ready(&t, true);

        memcpy(shown + shown_len, t.held.data, ready);
        shown_len += ready;
    }
    assert_int_equal(shown_len, want);
    assert_memory_equal(shown, text, want);
    sl_answer_text_done(&t);
}

static void check_all(const char *text, const stops *s)
{
    const size_t n = strlen(text);

    check_cuts(text, n, s, 0);
    check_cuts(text, n, s, UINT64_MAX);
    for (size_t i = 0; i + 1 < n; i++)
        check_cuts(text, n, s, 1ull << i);
    if (n <= 12)
        for (uint64_t cut = 0; cut < 1ull << n; cut++)
            check_cuts(text, n, s, cut);
}

static void test_stop_strings_are_found_over_every_split(void **state)
{
    static const struct {
        const char *text, *a, *b;
    } one[] = {
        {"hello STOP more", "STOP", NULL},
        {"STOP", "STOP", NULL},
        {"x", "STOP", NULL},
        {"STO", "STOP", NULL},
        {"STOSTOP!", "STOP", NULL},
        {"aabaabaaac", "aabaaac", NULL},
        {"abab", "ab", "aba"},
        {"xabcd", "bcd", "abcd"},
        {"xabcd", "abcd", "bcd"},
        {"abcabd", "abd", "cab"},
        {"one\n\ntwo", "\n\n", "\n"},
        {"aaaa", "a", NULL},
        {"caf\xC3\xA9 \xE2\x82\xAC end", "\xE2\x82\xAC", NULL},
        {"\xF0\x9F\x8C\x8D\xF0\x9F\x8C\x8E", "\xF0\x9F\x8C\x8E", NULL},
        {"no stop here", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(one) / sizeof(one[0]); i++)
        for (int include = 0; include < 2; include++) {
            const stops s = stops_of(one[i].a, one[i].b, include != 0);

            check_all(one[i].text, &s);
        }
}

static void test_characters_are_held_until_they_are_whole(void **state)
{
    static const char *const text[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x8C\x8D",
                                       "a\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7z",
                                       "\xE4\xBD\xA0\xE5\xA5\xBD"};
    const stops none = stops_of(NULL, NULL, false);

    (void)state;
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++)
        check_all(text[i], &none);
}

static void test_invalid_bytes_come_out_at_the_end(void **state)
{
    sl_answer_text t;

    (void)state;
    sl_answer_text_init(&t, NULL, NULL, 0, false, 1 << 16);
    assert_false(sl_answer_text_add(&t, "a\xE2\x82", 3));
    assert_int_equal(sl_answer_text_ready(&t, false), 1);
    assert_int_equal(sl_answer_text_ready(&t, true), 3);
    sl_answer_text_take(&t, 3);
    assert_int_equal(sl_answer_text_ready(&t, true), 0);
    assert_false(sl_answer_text_add(&t, "\xFF", 1));
    assert_int_equal(sl_answer_text_ready(&t, false), 1);
    sl_answer_text_done(&t);
}

static void test_nothing_is_added_behind_a_match(void **state)
{
    const stops s = stops_of("END", NULL, true);
    sl_answer_text t;

    (void)state;
    sl_answer_text_init(&t, s.text, s.len, s.count, true, 1 << 16);
    assert_true(sl_answer_text_add(&t, "xENDyz", 6));
    assert_int_equal(t.held.len, 4);
    assert_true(sl_answer_text_add(&t, "more", 4));
    assert_int_equal(t.held.len, 4);
    sl_answer_text_done(&t);
}

/* Random words of few letters have many near misses. */
static void test_random_texts_agree_with_the_naive_search(void **state)
{
    sl_rng rng = {.seed = 7};

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[40], a[8] = "", b[8] = "";
        const size_t n = 1 + sl_rng_below(&rng, 30);
        stops s;

        for (size_t i = 0; i < n; i++)
            text[i] = (char)('a' + sl_rng_below(&rng, 2 + (uint64_t)round % 2));
        for (size_t i = 0; i < 1 + sl_rng_below(&rng, 5); i++)
            a[i] = (char)('a' + sl_rng_below(&rng, 2));
        for (size_t i = 0; i < 1 + sl_rng_below(&rng, 5); i++)
            b[i] = (char)('a' + sl_rng_below(&rng, 3));
        s = stops_of(a, b, round % 3 == 0);
        check_cuts(text, n, &s, sl_rng_next(&rng));
    }
}

static void test_the_held_bytes_have_a_limit(void **state)
{
    sl_answer_text t;
    const stops s = stops_of("x", NULL, false);

    (void)state;
    sl_answer_text_init(&t, s.text, s.len, s.count, false, 8);
    assert_false(sl_answer_text_add(&t, "123456789", 9));
    assert_true(t.held.failed);
    sl_answer_text_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_strings_are_found_over_every_split),
        cmocka_unit_test(test_characters_are_held_until_they_are_whole),
        cmocka_unit_test(test_invalid_bytes_come_out_at_the_end),
        cmocka_unit_test(test_nothing_is_added_behind_a_match),
        cmocka_unit_test(test_random_texts_agree_with_the_naive_search),
        cmocka_unit_test(test_the_held_bytes_have_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
