/* tests/base/test_buf.c
 *
 * Goal: buffers grow to their limit and no further, text is escaped to valid JSON, UTF-8 is judged
 * as the standard says, readers never pass the end.
 * Method: direct calls; UTF-8 against a naive decoder over all pairs of first bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/rng.h"

static void appends_add_up_to_the_limit(void **state)
{
    sl_buf buf;
    (void)state;

    sl_buf_init(&buf, 10);
    assert_string_equal(sl_buf_text(&buf), "");
    sl_buf_add_str(&buf, "hello");
    sl_buf_add_char(&buf, ' ');
    sl_buf_addf(&buf, "%d%s", 12, "34");
    assert_string_equal(sl_buf_text(&buf), "hello 1234");
    sl_buf_add(&buf, "x", 0);
    assert_false(buf.failed);
    sl_buf_add_char(&buf, 'x');
    assert_true(buf.failed);
    assert_int_equal(buf.len, 10);
    assert_null(sl_buf_text(&buf));
    sl_buf_reset(&buf);
    sl_buf_addf(&buf, "%s", "12345678901");
    assert_true(buf.failed);
    assert_int_equal(buf.len, 0);
    sl_buf_add_str(&buf, "a"); /* after a failure nothing is added */
    assert_int_equal(buf.len, 0);
    sl_buf_done(&buf);
}

static void lack_of_memory_is_remembered(void **state)
{
    sl_buf buf;
    (void)state;

    sl_buf_init(&buf, 1 << 20);
    sl_alloc_fail_at(1);
    sl_buf_add_str(&buf, "a");
    sl_alloc_fail_at(0);
    assert_true(buf.failed);
    sl_buf_reset(&buf);
    for (int i = 0; i < 5000; i++)
        sl_buf_add_char(&buf, (char)('a' + i % 26));
    assert_int_equal(buf.len, 5000);
    sl_alloc_fail_at(1);
    sl_buf_addf(&buf, "%20000d", 1);
    sl_alloc_fail_at(0);
    assert_true(buf.failed);
    assert_int_equal(buf.len, 5000);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(buf.data[i], 'a' + i % 26);
    sl_buf_done(&buf);
    sl_buf_init(&buf, SIZE_MAX);
    sl_buf_add_str(&buf, "x");
    assert_string_equal(sl_buf_text(&buf), "x");
    sl_buf_done(&buf);
}

static void consuming_moves_the_rest_to_the_front(void **state)
{
    sl_buf buf;
    (void)state;

    sl_buf_init(&buf, 100);
    sl_buf_consume(&buf, 0);
    sl_buf_add_str(&buf, "abcdef");
    sl_buf_consume(&buf, 2);
    assert_string_equal(sl_buf_text(&buf), "cdef");
    sl_buf_consume(&buf, 0);
    sl_buf_consume(&buf, 4);
    assert_string_equal(sl_buf_text(&buf), "");
    sl_buf_done(&buf);
}

static void assert_json(const char *text, size_t n, const char *expected)
{
    sl_buf buf;

    sl_buf_init(&buf, 1 << 16);
    sl_buf_add_json(&buf, text, n);
    assert_string_equal(sl_buf_text(&buf), expected);
    sl_buf_done(&buf);
}

static void json_strings_are_escaped_and_repaired(void **state)
{
    (void)state;

    assert_json("", 0, "\"\"");
    assert_json("plain", 5, "\"plain\"");
    assert_json("a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"");
    assert_json("\n\r\t\b\x01\x1F\x7F", 7, "\"\\n\\r\\t\\u0008\\u0001\\u001f\x7F\"");
    assert_json("\0", 1, "\"\\u0000\"");
    assert_json("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", 9,
                "\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    assert_json("a\xFF"
                "b",
                3,
                "\"a\xEF\xBF\xBD"
                "b\"");
    assert_json("\xC3", 1, "\"\xEF\xBF\xBD\"");                                 /* cut */
    assert_json("\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""); /* surrogate */
    assert_json("\xEF\xBF\xBD", 3, "\"\xEF\xBF\xBD\"");
}

/* One character by the book: the code, or UINT32_MAX. */
static uint32_t naive_decode(const uint8_t *p, size_t n, size_t *len)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t want = p[0] < 0x80             ? 1
                        : (p[0] & 0xE0) == 0xC0 ? 2
                        : (p[0] & 0xF0) == 0xE0 ? 3
                        : (p[0] & 0xF8) == 0xF0 ? 4
                                                : 0;
    uint32_t code;

    *len = 1;
    if (want == 0 || want > n)
        return UINT32_MAX;
    code = want == 1 ? p[0] : p[0] & (0xFFu >> (want + 1));
    for (size_t i = 1; i < want; i++) {
        if (p[i] < 0x80 || p[i] > 0xBF)
            return UINT32_MAX;
        code = code * 64 + (p[i] - 0x80u);
    }
    if (code < least[want] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        return UINT32_MAX;
    *len = want;
    return code;
}

static void assert_decodes(const uint8_t *p, size_t n)
{
    uint32_t code = 0;
    size_t len;
    const uint32_t expected = naive_decode(p, n, &len);

    assert_int_equal(sl_utf8_next((const char *)p, n, &code), len);
    assert_int_equal(code, expected);
    if (expected != UINT32_MAX) {
        char bytes[4];

        assert_int_equal(sl_utf8_put(code, bytes), len);
        assert_memory_equal(bytes, p, len);
    }
    assert_int_equal(sl_utf8_valid((const char *)p, len), expected != UINT32_MAX);
}

static void utf8_is_judged_as_by_the_book(void **state)
{
    sl_rng rng = {.seed = 1};
    (void)state;

    for (uint32_t first = 0; first < 256; first++)
        for (uint32_t second = 0; second < 256; second++) {
            uint8_t p[4] = {(uint8_t)first, (uint8_t)second, 0x80, 0x80};

            for (size_t n = 1; n <= 4; n++)
                assert_decodes(p, n);
            p[2] = 0xBF;
            p[3] = (uint8_t)sl_rng_below(&rng, 256);
            assert_decodes(p, 4);
            p[2] = (uint8_t)sl_rng_below(&rng, 256);
            assert_decodes(p, 4);
        }
}

/* Every cut of a valid text is whole up to the last character that is whole. */
static void a_cut_text_is_whole_up_to_its_last_character(void **state)
{
    const char *text = "a\xC3\xA4z\xE2\x82\xAC\xF0\x9F\x98\x80"
                       "b";
    static const size_t whole[] = {0, 1, 1, 3, 4, 4, 4, 7, 7, 7, 7, 11, 12};
    (void)state;

    for (size_t n = 0; n <= 12; n++)
        assert_int_equal(sl_utf8_whole(text, n), whole[n]);
    assert_int_equal(sl_utf8_whole("a\xFF", 2), 2);     /* never completed */
    assert_int_equal(sl_utf8_whole("a\x80\x80", 3), 3); /* as well */
    assert_int_equal(sl_utf8_whole("\xE2\x28", 2), 2);  /* as well */
    assert_int_equal(sl_utf8_whole("\xC0", 1), 1);      /* as well */
    assert_int_equal(sl_utf8_whole("\xE0\x80", 2), 2);  /* overlong */
    assert_int_equal(sl_utf8_whole("\xED\xA0", 2), 2);  /* surrogate */
    assert_int_equal(sl_utf8_whole("\xF4\x90", 2), 2);  /* beyond the last */
    assert_int_equal(sl_utf8_whole("\xF4\x8F\xBF", 3), 0);
}

static void a_reader_never_passes_the_end(void **state)
{
    static const uint8_t data[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    sl_reader r = {.data = data, .len = sizeof(data)};
    const uint8_t *bytes = NULL;
    uint8_t u8 = 0;
    uint16_t u16 = 0;
    uint32_t u32 = 0;
    uint64_t u64 = 0;
    (void)state;

    assert_true(sl_read_u8(&r, &u8));
    assert_int_equal(u8, 1);
    assert_true(sl_read_u16(&r, &u16));
    assert_int_equal(u16, 0x0302);
    assert_true(sl_read_u32(&r, &u32));
    assert_int_equal(u32, 0x07060504);
    assert_true(sl_read_u64(&r, &u64));
    assert_true(u64 == 0x0F0E0D0C0B0A0908u);
    assert_int_equal(sl_reader_left(&r), 0);
    assert_false(sl_read_u8(&r, &u8));
    assert_true(sl_read_bytes(&r, 0, &bytes));
    for (size_t left = 0; left < 8; left++) {
        r.pos = sizeof(data) - left;
        assert_false(sl_read_u64(&r, &u64));
        assert_int_equal(sl_read_u32(&r, &u32), left >= 4);
        r.pos = sizeof(data) - left;
        assert_int_equal(sl_read_u16(&r, &u16), left >= 2);
        r.pos = sizeof(data) - left;
        assert_false(sl_read_bytes(&r, left + 1, &bytes));
        assert_false(sl_read_bytes(&r, SIZE_MAX, &bytes));
        assert_int_equal(sl_reader_left(&r), left);
    }
    assert_true(u64 == 0x0F0E0D0C0B0A0908u); /* untouched */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_add_up_to_the_limit),
        cmocka_unit_test(lack_of_memory_is_remembered),
        cmocka_unit_test(consuming_moves_the_rest_to_the_front),
        cmocka_unit_test(json_strings_are_escaped_and_repaired),
        cmocka_unit_test(utf8_is_judged_as_by_the_book),
        cmocka_unit_test(a_cut_text_is_whole_up_to_its_last_character),
        cmocka_unit_test(a_reader_never_passes_the_end),
    };
    return cmocka_run_group_tests_name("base/buf", tests, NULL, NULL);
}
