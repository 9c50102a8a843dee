/* tests/protocol/test_openai_messages.c - goal: chat messages come out in the one form that
 * templates see, and wrong ones are errors that name the place.
 *
 * Method: pairs of what goes in and the exact text that must come out; then wrong ones with the
 * path that the error must name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/openai.h"

static struct {
    sl_api_request q;
    sl_err err;
    sl_arena arena;
} got;

static sl_status read_messages(const char *messages, bool strict)
{
    const size_t n = strlen(messages) + 32;
    char *body = malloc(n);
    sl_status status;

    assert_non_null(body);
    snprintf(body, n, "{\"messages\":%s}", messages);
    sl_arena_done(&got.arena);
    sl_arena_init(&got.arena, 16 << 20);
    got.err = (sl_err){0};
    status = sl_api_read(SL_API_CHAT, body, strlen(body), strict, &got.arena, &got.q, &got.err);
    free(body);
    return status;
}

static const struct {
    const char *in, *out;
} normal[] = {
    /* roles, order of members */
    {"[{\"content\":\"hi\",\"role\":\"user\"}]", "[{\"role\":\"user\",\"content\":\"hi\"}]"},
    {"[{\"role\":\"developer\",\"content\":\"be brief\",\"name\":\"d\"}]",
     "[{\"role\":\"system\",\"content\":\"be brief\",\"name\":\"d\"}]"},
    {"[ {\"role\": \"system\", \"content\": \"\"} , {\"role\":\"user\",\"content\":\"a\"} ]",
     "[{\"role\":\"system\",\"content\":\"\"},{\"role\":\"user\",\"content\":\"a\"}]"},
    {"[{\"role\":\"function\",\"name\":\"f\",\"content\":\"1\"}]",
     "[{\"role\":\"function\",\"content\":\"1\",\"name\":\"f\"}]"},
    {"[{\"role\":\"user\",\"content\":\"a\",\"name\":null,\"weight\":0}]",
     "[{\"role\":\"user\",\"content\":\"a\"}]"},
    /* text stays what it is */
    {"[{\"role\":\"user\",\"content\":\"\\u00e9\\n\\\"\\\\ \\/ \\ud83d\\ude00 <|im_end|> {{ x "
     "}}\"}]",
     "[{\"role\":\"user\",\"content\":\"\xC3\xA9\\n\\\"\\\\ / \xF0\x9F\x98\x80 <|im_end|> {{ x "
     "}}\"}]"},
    /* parts */
    {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
     "\"text\":\"b\\nc\"}]}]",
     "[{\"role\":\"user\",\"content\":\"a\\nb\\nc\"}]"},
    {"[{\"role\":\"user\",\"content\":[]}]", "[{\"role\":\"user\",\"content\":\"\"}]"},
    {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"}]}]",
     "[{\"role\":\"user\",\"content\":\"\"}]"},
    {"[{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]}]",
     "[{\"role\":\"assistant\",\"content\":\"no\"}]"},
    /* null and missing content */
    {"[{\"role\":\"assistant\"}]", "[{\"role\":\"assistant\",\"content\":\"\"}]"},
    {"[{\"role\":\"assistant\",\"content\":null,\"refusal\":\"no\",\"annotations\":[],\"audio\":"
     "null,"
     "\"function_call\":null,\"tool_calls\":null}]",
     "[{\"role\":\"assistant\",\"content\":\"no\"}]"},
    {"[{\"role\":\"tool\",\"content\":null,\"tool_call_id\":\"c\"}]",
     "[{\"role\":\"tool\",\"content\":\"\",\"tool_call_id\":\"c\"}]"},
    {"[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[]}]",
     "[{\"role\":\"assistant\",\"content\":\"x\"}]"},
    /* calls */
    {"[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"arguments\":"
     "\"{\\\"a\\\": 1.50, \\\"b\\\" : [ 1e5, \\\"x  y\\\", 12345678901234567 ]}\",\"name\":\"f\"},"
     "\"type\":\"function\",\"id\":\"c1\"}]}]",
     "[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":"
     "{\"name\":\"f\",\"arguments\":{\"a\":1.50,\"b\":[1e5,\"x  y\",12345678901234567]}}}]}]"},
    {"[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
     "\"arguments\":\"\"}},{\"id\":null,\"type\":null,\"function\":{\"name\":\"g\"}}]}]",
     "[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"type\":\"function\","
     "\"function\":{\"name\":\"f\",\"arguments\":{}}},{\"type\":\"function\",\"function\":"
     "{\"name\":\"g\",\"arguments\":{}}}]}]"},
    /* arguments that are no object stay a text; an object as such is taken too */
    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"[1]\"}"
     "},"
     "{\"function\":{\"name\":\"f\",\"arguments\":\"{oops\"}},{\"function\":{\"name\":\"f\","
     "\"arguments\":\"{\\\"a\\\":1,\\\"a\\\":2}\"}},{\"function\":{\"name\":\"f\",\"arguments\":"
     "{\"x\":[0.1,true,null,-5,1e300]}}}]}]",
     "[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
     "\"arguments\":\"[1]\"}},{\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
     "\"{oops\"}},{\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
     "\"{\\\"a\\\":1,\\\"a\\\":2}\"}},{\"type\":\"function\",\"function\":{\"name\":\"f\","
     "\"arguments\":{\"x\":[0.1,true,null,-5,1e+300]}}}]}]"},
    {"[{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":\"f\",\"arguments\":"
     "\"{}\"}}]",
     "[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
     "\"arguments\":{}}}]}]"},
    /* reasoning */
    {"[{\"role\":\"assistant\",\"content\":\"a\",\"reasoning_content\":\"r\"},{\"role\":"
     "\"assistant\","
     "\"content\":\"b\",\"reasoning\":\"s\"},{\"role\":\"user\",\"content\":\"c\",\"reasoning\":1}"
     "]",
     "[{\"role\":\"assistant\",\"content\":\"a\",\"reasoning_content\":\"r\"},{\"role\":"
     "\"assistant\",\"content\":\"b\",\"reasoning_content\":\"s\"},{\"role\":\"user\",\"content\":"
     "\"c\"}]"},
};

static void messages_come_out_in_one_form(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(normal) / sizeof(normal[0]); i++) {
        if (read_messages(normal[i].in, false) != SL_OK)
            fail_msg("%s: %s", normal[i].in, got.err.text);
        assert_string_equal(got.q.messages_json, normal[i].out);
        assert_int_equal(got.q.messages_json_len, strlen(normal[i].out));
        /* What came out goes in again unchanged. */
        if (strstr(normal[i].in, "oops") != NULL)
            continue;
        assert_int_equal(read_messages(normal[i].out, true), SL_OK);
    }
}

static const struct {
    const char *in, *param, *code;
} wrong[] = {
    {"1", "messages", "invalid_type"},
    {"{}", "messages", "invalid_type"},
    {"\"hi\"", "messages", "invalid_type"},
    {"null", "messages", "missing_required_parameter"},
    {"[]", "messages", "invalid_value"},
    {"[1]", "messages[0]", "invalid_type"},
    {"[null]", "messages[0]", "invalid_type"},
    {"[{}]", "messages[0].role", "invalid_value"},
    {"[{\"role\":1}]", "messages[0].role", "invalid_value"},
    {"[{\"role\":\"User\",\"content\":\"a\"}]", "messages[0].role", "invalid_value"},
    {"[{\"role\":\"user\"}]", "messages[0].content", "missing_required_parameter"},
    {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content", "missing_required_parameter"},
    {"[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\",\"content\":1}]",
     "messages[1].content", "invalid_type"},
    {"[{\"role\":\"user\",\"content\":{}}]", "messages[0].content", "invalid_type"},
    {"[{\"role\":\"user\",\"content\":[1]}]", "messages[0].content[0]", "invalid_type"},
    {"[{\"role\":\"user\",\"content\":[\"a\"]}]", "messages[0].content[0]", "invalid_type"},
    {"[{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}]", "messages[0].content[0]",
     "invalid_type"},
    {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0].text",
     "invalid_type"},
    {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image_url\","
     "\"image_url\":{\"url\":\"data:\"}}]}]",
     "messages[0].content[1]", "unsupported_parameter"},
    {"[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}]", "messages[0].content[0]",
     "unsupported_parameter"},
    {"[{\"role\":\"user\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"x\"}]}]",
     "messages[0].content[0]", "unsupported_parameter"},
    {"[{\"role\":\"user\",\"content\":\"a\",\"name\":1}]", "messages[0].name", "invalid_type"},
    {"[{\"role\":\"tool\",\"content\":\"a\",\"tool_call_id\":1}]", "messages[0].tool_call_id",
     "invalid_type"},
    {"[{\"role\":\"assistant\",\"audio\":{\"id\":\"x\"}}]", "messages[0].audio",
     "unsupported_parameter"},
    {"[{\"role\":\"assistant\",\"content\":\"a\",\"reasoning\":1}]",
     "messages[0].reasoning_content", "invalid_type"},
    {"[{\"role\":\"assistant\",\"tool_calls\":{}}]", "messages[0].tool_calls", "invalid_type"},
    {"[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[]}]", "messages[0].tool_calls",
     "invalid_type"},
    {"[{\"role\":\"assistant\",\"tool_calls\":[1]}]", "messages[0].tool_calls[0]", "invalid_type"},
    {"[{\"role\":\"assistant\",\"tool_calls\":[{}]}]", "messages[0].tool_calls[0].function",
     "invalid_type"},
    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"custom\",\"custom\":{}}]}]",
     "messages[0].tool_calls[0]", "unsupported_parameter"},
    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":1,\"function\":{\"name\":\"f\"}}]}]",
     "messages[0].tool_calls[0].id", "invalid_type"},
    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]",
     "messages[0].tool_calls[0].function.name", "invalid_type"},
    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"\"}}]}]",
     "messages[0].tool_calls[0].function.name", "invalid_type"},
    {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":1}}]}]",
     "messages[0].tool_calls[0].function.arguments", "invalid_type"},
    {"[{\"role\":\"assistant\",\"function_call\":1}]", "messages[0].function_call", "invalid_type"},
    {"[{\"role\":\"assistant\",\"function_call\":{\"arguments\":\"{}\"}}]",
     "messages[0].function_call.name", "invalid_type"},
    {"[{\"role\":\"assistant\",\"function_call\":{\"name\":\"f\"},\"tool_calls\":[{\"function\":"
     "{\"name\":\"f\"}}]}]",
     "messages[0].function_call", "invalid_type"},
};

static void wrong_messages_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (read_messages(wrong[i].in, false) != SL_EINVAL)
            fail_msg("%s: accepted", wrong[i].in);
        assert_string_equal(got.err.param, wrong[i].param);
        assert_string_equal(got.err.code, wrong[i].code);
    }
    assert_int_equal(read_messages("[{\"role\":\"user\",\"content\":\"a\",\"weight\":1}]", true),
                     SL_EINVAL);
    assert_string_equal(got.err.param, "messages[0]");
}

/* `count` copies of a message, or of whatever `item` is. */
static char *copies(const char *before, const char *item, size_t count, const char *after)
{
    char *text = malloc(strlen(before) + (strlen(item) + 1) * count + strlen(after) + 1);
    size_t n;

    assert_non_null(text);
    n = (size_t)sprintf(text, "%s", before);
    for (size_t i = 0; i < count; i++)
        n += (size_t)sprintf(text + n, "%s%s", i > 0 ? "," : "", item);
    sprintf(text + n, "%s", after);
    return text;
}

static sl_status read_copies(const char *before, const char *item, size_t count, const char *after)
{
    char *text = copies(before, item, count, after);
    const sl_status status = read_messages(text, false);

    free(text);
    return status;
}

static void counts_are_limited(void **state)
{
    static const char message[] = "{\"role\":\"user\",\"content\":\"a\"}";
    static const char part[] = "{\"type\":\"text\",\"text\":\"a\"}";
    static const char call[] = "{\"function\":{\"name\":\"f\"}}";

    (void)state;
    assert_int_equal(read_copies("[", message, SL_API_MESSAGES_MAX, "]"), SL_OK);
    assert_int_equal(read_copies("[", message, SL_API_MESSAGES_MAX + 1, "]"), SL_EINVAL);
    assert_string_equal(got.err.code, "array_above_max_length");
    assert_int_equal(read_copies("[{\"role\":\"user\",\"content\":[", part, 1024, "]}]"), SL_OK);
    assert_int_equal(got.q.messages_json_len,
                     strlen("[{'role':'user','content':''}]") + 1024 + 2046);
    assert_int_equal(read_copies("[{\"role\":\"user\",\"content\":[", part, 1025, "]}]"),
                     SL_EINVAL);
    assert_int_equal(read_copies("[{\"role\":\"assistant\",\"tool_calls\":[", call, 128, "]}]"),
                     SL_OK);
    assert_int_equal(read_copies("[{\"role\":\"assistant\",\"tool_calls\":[", call, 129, "]}]"),
                     SL_EINVAL);
}

/* Arguments are JSON of their own: its depth and its memory count too. */
static void arguments_are_within_the_limits(void **state)
{
    char *deep = copies("[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                        "\"arguments\":\"{\\\"a\\\":",
                        "[", 100, "");
    char *text = malloc(strlen(deep) + 400);
    char *heavy;
    size_t n;

    (void)state;
    assert_non_null(text);
    /* Too deep to be an object: it stays a text. */
    n = (size_t)sprintf(text, "%s", deep);
    for (int i = 0; i < 100; i++)
        text[n++] = ']';
    strcpy(text + n, "}\"}}]}]");
    assert_int_equal(read_messages(text, false), SL_OK);
    assert_non_null(strstr(got.q.messages_json, "\"arguments\":\"{"));
    free(text);
    free(deep);
    heavy = copies("[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                   "\"arguments\":\"{\\\"a\\\":[",
                   "{}", 1400000, "]}\"}}]}]");
    assert_int_equal(read_messages(heavy, false), SL_EFORMAT);
    free(heavy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_out_in_one_form),
        cmocka_unit_test(wrong_messages_are_named),
        cmocka_unit_test(counts_are_limited),
        cmocka_unit_test(arguments_are_within_the_limits),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);

    sl_arena_done(&got.arena);
    return failures;
}
