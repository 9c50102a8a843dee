/* tests/base/test_status.c
 *
 * Goal: the table is complete and consistent; sentences are written once and cut at a character.
 * Method: direct calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/status.h"

static void every_row_has_its_columns(void **state)
{
    (void)state;

    assert_int_equal(SL_OK, 0);
    for (int i = 0; i < SL_STATUS_COUNT; i++) {
        const sl_status status = (sl_status)i;

        assert_true(strlen(sl_status_name(status)) > 0);
        assert_true(strlen(sl_status_text(status)) > 0);
        assert_int_equal(strlen(sl_status_type(status)) > 0, status != SL_OK);
        if (status != SL_OK)
            assert_in_range(sl_status_http(status), 400, 503);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(sl_status_name(status), sl_status_name((sl_status)k));
    }
    assert_string_equal(sl_status_name(SL_EFULL), "EFULL");
    assert_int_equal(sl_status_http(SL_EFULL), 429);
    assert_string_equal(sl_status_type(SL_EFULL), "rate_limit_error");
    assert_int_equal(sl_status_http(SL_OK), 200);
}

static void a_failure_is_described_once(void **state)
{
    sl_err err = {.param = "old", .code = "old"};
    (void)state;

    assert_int_equal(sl_fail(&err, SL_EINVAL, "'%s' is %d", "n", 3), SL_EINVAL);
    assert_int_equal(err.status, SL_EINVAL);
    assert_string_equal(err.text, "'n' is 3");
    assert_null(err.param);
    assert_null(err.code);
    assert_int_equal(sl_fail_param(&err, SL_EFORMAT, "top_p", "bad_value", "%s", "no"), SL_EFORMAT);
    assert_string_equal(err.param, "top_p");
    assert_string_equal(err.code, "bad_value");
    assert_string_equal(err.text, "no");
    assert_int_equal(sl_fail(NULL, SL_EIO, "x"), SL_EIO);
    assert_int_equal(sl_fail_param(NULL, SL_EIO, NULL, NULL, "x"), SL_EIO);
}

/* Texts of every length around the limit, of characters of one to four bytes. */
static void a_long_text_is_cut_at_a_character(void **state)
{
    static const char *const characters[] = {"a", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    (void)state;

    for (size_t c = 0; c < 4; c++)
        for (size_t lead = 0; lead < 5; lead++)
            for (size_t count = (SL_ERR_TEXT_MAX - 8) / (c + 1); count < 530 / (c + 1); count++) {
                char text[700] = "";
                size_t len;
                sl_err err;

                memset(text, 'x', lead);
                for (size_t i = 0; i < count; i++)
                    memcpy(text + lead + i * (c + 1), characters[c], c + 1);
                text[lead + count * (c + 1)] = '\0';
                assert_int_equal(sl_fail(&err, SL_EINVAL, "%s", text), SL_EINVAL);
                len = strlen(err.text);
                assert_true(sl_utf8_valid(err.text, len));
                assert_memory_equal(err.text, text, len);
                if (strlen(text) < SL_ERR_TEXT_MAX)
                    assert_int_equal(len, strlen(text));
                else
                    assert_true(len < SL_ERR_TEXT_MAX && len + 2 * (c + 1) >= SL_ERR_TEXT_MAX);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_its_columns),
        cmocka_unit_test(a_failure_is_described_once),
        cmocka_unit_test(a_long_text_is_cut_at_a_character),
    };
    return cmocka_run_group_tests_name("base/status", tests, NULL, NULL);
}
