/* tests/protocol/test_openai_fields.c - goal: every request field takes exactly the values that
 * are documented for it, and everything else is an error that names the field.
 *
 * Method: a table of expectations of this test's own, written from OpenAI's schema and vLLM's
 * documentation; for each scalar field the ends of its range, one beyond, 2^31, 2^63 - 1, -1, a
 * real, a string, true, null and a list.  The table that the reader declares (sl_api_write_policy)
 * must hold the same fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "protocol/openai.h"

enum { CHAT = 1, COMP = 2, BOTH = 3 };

static struct {
    sl_api_request q;
    sl_err err;
    sl_arena arena;
} got;

static sl_status read_text(sl_api_kind kind, bool strict, const char *body)
{
    sl_arena_done(&got.arena);
    sl_arena_init(&got.arena, 4 << 20);
    got.err = (sl_err){0};
    memset(&got.q, 0, sizeof(got.q));
    return sl_api_read(kind, body, strlen(body), strict, &got.arena, &got.q, &got.err);
}

/* A minimal request with `members` added, such as "\"n\":1". */
static sl_status read_members(sl_api_kind kind, bool strict, const char *members)
{
    char *body = malloc(strlen(members) + 200);
    sl_status status;

    assert_non_null(body);
    sprintf(body, "{%s,%s}",
            kind == SL_API_CHAT ? "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
                                : "\"prompt\":\"hi\"",
            members);
    status = read_text(kind, strict, body);
    free(body);
    return status;
}

static sl_status read_one(sl_api_kind kind, const char *name, const char *value)
{
    char members[512];

    snprintf(members, sizeof(members), "\"%s\":%s", name, value);
    return read_members(kind, false, members);
}

static void must_accept(sl_api_kind kind, const char *name, const char *value)
{
    if (read_one(kind, name, value) != SL_OK)
        fail_msg("%s %s: %s", name, value, got.err.text);
}

/* An error of the client's that names the field (or a place in it). */
static void must_refuse(sl_api_kind kind, const char *name, const char *value, const char *code)
{
    if (read_one(kind, name, value) != SL_EINVAL)
        fail_msg("%s %s: accepted", name, value);
    assert_int_equal(got.err.status, SL_EINVAL);
    assert_non_null(got.err.param);
    if (strncmp(got.err.param, name, strlen(name)) != 0)
        fail_msg("%s %s: param is %s", name, value, got.err.param);
    assert_non_null(got.err.code);
    if (code != NULL)
        assert_string_equal(got.err.code, code);
    assert_int_equal(got.q.n, 0); /* untouched */
}

/* --- scalars ------------------------------------------------------------------------------- */

typedef enum kind_of { IS_BOOL, IS_INT, IS_UINT32, IS_REAL, IS_REAL_ABOVE } kind_of;

typedef struct scalar {
    const char *name;
    int kinds;
    kind_of type;
    size_t offset;
    double low, high, preset;
} scalar;

#define AT(member) offsetof(sl_api_request, member)
static const scalar scalars[] = {
    {"add_generation_prompt", CHAT, IS_BOOL, AT(add_generation_prompt), 0, 1, 1},
    {"continue_final_message", CHAT, IS_BOOL, AT(continue_final_message), 0, 1, 0},
    {"echo", COMP, IS_BOOL, AT(echo), 0, 1, 0},
    {"stream", BOTH, IS_BOOL, AT(stream), 0, 1, 0},
    {"logprobs", CHAT, IS_BOOL, AT(logprobs), 0, 1, 0},
    {"include_stop_str_in_output", BOTH, IS_BOOL, AT(include_stop_str), 0, 1, 0},
    {"ignore_eos", BOTH, IS_BOOL, AT(ignore_eos), 0, 1, 0},
    {"skip_special_tokens", BOTH, IS_BOOL, AT(skip_special_tokens), 0, 1, 1},
    {"return_token_ids", BOTH, IS_BOOL, AT(return_token_ids), 0, 1, 0},
    {"max_tokens", CHAT, IS_INT, AT(max_tokens), 0, INT32_MAX, -1},
    {"max_completion_tokens", CHAT, IS_INT, AT(max_tokens), 0, INT32_MAX, -1},
    {"max_tokens", COMP, IS_INT, AT(max_tokens), 0, INT32_MAX, 16},
    {"min_tokens", CHAT, IS_INT, AT(min_tokens), 0, INT32_MAX, 0},
    {"n", BOTH, IS_UINT32, AT(n), 1, 8, 1},
    {"top_k", BOTH, IS_INT, AT(top_k), -1, INT32_MAX, 0},
    {"logprobs", COMP, IS_UINT32, AT(top_logprobs), 0, 5, 0},
    {"temperature", BOTH, IS_REAL, AT(temperature), 0, 2, 1},
    {"top_p", BOTH, IS_REAL_ABOVE, AT(top_p), 0, 1, 1},
    {"min_p", BOTH, IS_REAL, AT(min_p), 0, 1, 0},
    {"repetition_penalty", BOTH, IS_REAL_ABOVE, AT(repetition_penalty), 0, 10, 1},
    {"presence_penalty", BOTH, IS_REAL, AT(presence_penalty), -2, 2, 0},
    {"frequency_penalty", BOTH, IS_REAL, AT(frequency_penalty), -2, 2, 0},
};
enum { SCALARS = sizeof(scalars) / sizeof(scalars[0]) };

static double value_of(const scalar *s)
{
    const char *at = (const char *)&got.q + s->offset;

    switch (s->type) {
    case IS_BOOL:
        return *(const bool *)at;
    case IS_INT:
        return (double)*(const int64_t *)(const void *)at;
    case IS_UINT32:
        return *(const uint32_t *)(const void *)at;
    default:
        return *(const double *)(const void *)at;
    }
}

static void accept_value(const scalar *s, sl_api_kind kind, const char *text, double want)
{
    must_accept(kind, s->name, text);
    if (strcmp(s->name, "top_k") == 0 && want < 0)
        want = 0; /* -1 is read as 0: all */
    if (value_of(s) != want)
        fail_msg("%s %s: stored %g", s->name, text, value_of(s));
}

/* In range or not, by this test's own table. */
static void try_number(const scalar *s, sl_api_kind kind, double x)
{
    const bool fits =
        s->type == IS_REAL_ABOVE ? x > s->low && x <= s->high : x >= s->low && x <= s->high;
    const bool real = s->type >= IS_REAL;
    char text[64];

    if (x == 9223372036854775807.0)
        snprintf(text, sizeof(text), "9223372036854775807");
    else
        snprintf(text, sizeof(text), real && x != (double)(int64_t)x ? "%.17g" : "%.0f", x);
    if (fits)
        accept_value(s, kind, text, x);
    else
        must_refuse(kind, s->name, text,
                    real ? x > s->high ? "decimal_above_max_value" : "decimal_below_min_value"
                    : x > s->high ? "integer_above_max_value"
                                  : "integer_below_min_value");
}

static void try_scalar(const scalar *s, sl_api_kind kind)
{
    static const char *const never[] = {"\"1\"", "\"\"", "[]", "[1]", "{}", "\"true\""};

    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        must_refuse(kind, s->name, never[i], "invalid_type");
    accept_value(s, kind, "null", s->preset);
    assert_int_equal(read_members(kind, false, "\"model\":\"m\""), SL_OK);
    assert_true(value_of(s) == s->preset);
    if (s->type == IS_BOOL) {
        accept_value(s, kind, "true", 1);
        accept_value(s, kind, "false", 0);
        must_refuse(kind, s->name, "1", "invalid_type");
        must_refuse(kind, s->name, "0", "invalid_type");
        return;
    }
    must_refuse(kind, s->name, "true", "invalid_type");
    must_refuse(kind, s->name, "false", "invalid_type");
    try_number(s, kind, s->low);
    try_number(s, kind, s->high);
    try_number(s, kind, s->low - 1);
    try_number(s, kind, s->high + 1);
    try_number(s, kind, 2147483648.0);
    try_number(s, kind, 9223372036854775807.0);
    try_number(s, kind, -1);
    try_number(s, kind, -2147483649.0);
    if (s->type >= IS_REAL) {
        try_number(s, kind, s->low + 1e-9);
        try_number(s, kind, s->low - 1e-9);
        try_number(s, kind, s->high + 1e-9);
        must_refuse(kind, s->name, "1e308", NULL);
        must_refuse(kind, s->name, "-1e308", NULL);
    } else {
        must_refuse(kind, s->name, "1.5", "invalid_type");
        must_refuse(kind, s->name, "1.0", "invalid_type");
        must_refuse(kind, s->name, "1e2", "invalid_type");
    }
}

static void scalars_take_their_range_and_nothing_else(void **state)
{
    (void)state;
    for (int i = 0; i < SCALARS; i++) {
        if ((scalars[i].kinds & CHAT) != 0)
            try_scalar(&scalars[i], SL_API_CHAT);
        if ((scalars[i].kinds & COMP) != 0)
            try_scalar(&scalars[i], SL_API_COMPLETION);
    }
}

static void an_integer_too_large_for_json_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(read_one(SL_API_CHAT, "n", "9223372036854775808"), SL_EFORMAT);
    assert_int_equal(read_one(SL_API_CHAT, "temperature", "1e400"), SL_EFORMAT);
}

static void seeds_are_any_int64(void **state)
{
    static const char *const texts[] = {"0", "-1", "9223372036854775807", "-9223372036854775808",
                                        "-9007199254740991"};
    static const int64_t values[] = {0, -1, INT64_MAX, INT64_MIN, -9007199254740991};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        must_accept(SL_API_CHAT, "seed", texts[i]);
        assert_true(got.q.has_seed);
        assert_true(got.q.seed == (uint64_t)values[i]);
    }
    must_accept(SL_API_CHAT, "seed", "null");
    assert_false(got.q.has_seed);
    must_refuse(SL_API_CHAT, "seed", "1.5", "invalid_type");
    must_refuse(SL_API_CHAT, "seed", "\"1\"", "invalid_type");
    must_refuse(SL_API_CHAT, "seed", "true", "invalid_type");
}

/* --- fields that belong together ----------------------------------------------------------- */

static void logprobs_go_together(void **state)
{
    (void)state;
    assert_int_equal(read_members(SL_API_CHAT, false, "\"logprobs\":true,\"top_logprobs\":20"),
                     SL_OK);
    assert_true(got.q.logprobs && got.q.top_logprobs == 20);
    assert_int_equal(read_members(SL_API_CHAT, false, "\"logprobs\":true,\"top_logprobs\":21"),
                     SL_EINVAL);
    assert_string_equal(got.err.param, "top_logprobs");
    assert_int_equal(read_members(SL_API_CHAT, false, "\"logprobs\":true,\"top_logprobs\":-1"),
                     SL_EINVAL);
    must_refuse(SL_API_CHAT, "top_logprobs", "1", "invalid_value");
    must_accept(SL_API_CHAT, "top_logprobs", "0");
    assert_false(got.q.logprobs);
    /* Completions: one integer says both. */
    must_accept(SL_API_COMPLETION, "logprobs", "0");
    assert_true(got.q.logprobs && got.q.top_logprobs == 0);
    must_accept(SL_API_COMPLETION, "logprobs", "5");
    assert_true(got.q.logprobs && got.q.top_logprobs == 5);
    must_accept(SL_API_COMPLETION, "logprobs", "null");
    assert_false(got.q.logprobs);
}

static void maximum_and_minimum_of_tokens_go_together(void **state)
{
    (void)state;
    assert_int_equal(
        read_members(SL_API_CHAT, false, "\"max_tokens\":5,\"max_completion_tokens\":7"), SL_OK);
    assert_int_equal(got.q.max_tokens, 7);
    assert_int_equal(
        read_members(SL_API_CHAT, false, "\"max_tokens\":0,\"max_completion_tokens\":0"), SL_OK);
    assert_int_equal(got.q.max_tokens, 0);
    assert_int_equal(
        read_members(SL_API_CHAT, false, "\"max_tokens\":5,\"max_completion_tokens\":null"), SL_OK);
    assert_int_equal(got.q.max_tokens, 5);
    assert_int_equal(read_members(SL_API_CHAT, false, "\"max_tokens\":5,\"min_tokens\":5"), SL_OK);
    assert_int_equal(read_members(SL_API_CHAT, false, "\"max_tokens\":5,\"min_tokens\":6"),
                     SL_EINVAL);
    assert_string_equal(got.err.param, "min_tokens");
    must_refuse(SL_API_COMPLETION, "min_tokens", "17", "invalid_value"); /* the default is 16 */
    must_accept(SL_API_COMPLETION, "min_tokens", "16");
}

static void continuing_the_last_message_excludes_a_generation_prompt(void **state)
{
    (void)state;
    must_accept(SL_API_CHAT, "continue_final_message", "true");
    assert_true(got.q.continue_final_message && !got.q.add_generation_prompt);
    assert_int_equal(read_members(SL_API_CHAT, false,
                                  "\"continue_final_message\":true,\"add_generation_prompt\":true"),
                     SL_EINVAL);
    assert_string_equal(got.err.param, "continue_final_message");
}

static void stream_options_are_read(void **state)
{
    (void)state;
    assert_int_equal(
        read_members(SL_API_CHAT, false,
                     "\"stream\":true,\"stream_options\":{\"include_usage\":true,"
                     "\"continuous_usage_stats\":true,\"include_obfuscation\":true,\"x\":1}"),
        SL_OK);
    assert_true(got.q.stream && got.q.include_usage && got.q.continuous_usage);
    assert_int_equal(got.q.ignored_count, 1);
    assert_string_equal(got.q.ignored[0], "stream_options.include_obfuscation");
    must_accept(SL_API_COMPLETION, "stream_options", "{\"include_usage\":null}");
    must_accept(SL_API_COMPLETION, "stream_options", "{}");
    must_accept(SL_API_COMPLETION, "stream_options", "null");
    assert_false(got.q.include_usage);
    must_refuse(SL_API_CHAT, "stream_options", "true", "invalid_type");
    must_refuse(SL_API_CHAT, "stream_options", "{\"include_usage\":1}", "invalid_type");
    assert_string_equal(got.err.param, "stream_options.include_usage");
    /* Without streaming: accepted, but for strict parameters. */
    assert_int_equal(read_members(SL_API_CHAT, false,
                                  "\"stream\":false,\"stream_options\":{\"include_usage\":true}"),
                     SL_OK);
    assert_int_equal(read_members(SL_API_CHAT, true,
                                  "\"stream\":false,\"stream_options\":{\"include_usage\":true}"),
                     SL_EINVAL);
    assert_int_equal(read_members(SL_API_CHAT, true,
                                  "\"stream\":true,\"stream_options\":{\"include_usage\":true}"),
                     SL_OK);
}

/* --- lists and strings --------------------------------------------------------------------- */

/* [item,item,...] */
static const char *list_of(const char *item, size_t count)
{
    static char text[20000];
    size_t n = 0;

    text[n++] = '[';
    for (size_t i = 0; i < count; i++) {
        assert_true(n + strlen(item) + 3 < sizeof(text));
        n += (size_t)sprintf(text + n, "%s%s", i > 0 ? "," : "", item);
    }
    text[n++] = ']';
    text[n] = '\0';
    return text;
}

static const char *string_of(char c, size_t bytes)
{
    static char text[5000];

    assert_true(bytes + 3 < sizeof(text));
    text[0] = '"';
    memset(text + 1, c, bytes);
    text[bytes + 1] = '"';
    text[bytes + 2] = '\0';
    return text;
}

static sl_status read_long(sl_api_kind kind, const char *name, const char *value)
{
    char *members = malloc(strlen(value) + 100);
    sl_status status;

    assert_non_null(members);
    sprintf(members, "\"%s\":%s", name, value);
    status = read_members(kind, false, members);
    free(members);
    return status;
}

static void stop_is_a_string_or_a_few(void **state)
{
    (void)state;
    must_accept(SL_API_CHAT, "stop", "\"\\n\\n\"");
    assert_int_equal(got.q.stop_count, 1);
    assert_int_equal(got.q.stop_len[0], 2);
    assert_string_equal(got.q.stop[0], "\n\n");
    must_accept(SL_API_CHAT, "stop", "[\"a\",\"bc\"]");
    assert_int_equal(got.q.stop_count, 2);
    assert_string_equal(got.q.stop[1], "bc");
    must_accept(SL_API_CHAT, "stop", "[]");
    must_accept(SL_API_CHAT, "stop", "null");
    assert_int_equal(got.q.stop_count, 0);
    must_accept(SL_API_CHAT, "stop", list_of("\"x\"", SL_API_STOP_MAX));
    assert_int_equal(got.q.stop_count, SL_API_STOP_MAX);
    must_refuse(SL_API_CHAT, "stop", list_of("\"x\"", SL_API_STOP_MAX + 1),
                "array_above_max_length");
    must_accept(SL_API_CHAT, "stop", string_of('s', SL_API_STOP_BYTES_MAX));
    must_refuse(SL_API_CHAT, "stop", string_of('s', SL_API_STOP_BYTES_MAX + 1),
                "string_above_max_length");
    must_refuse(SL_API_CHAT, "stop", "\"\"", "invalid_value");
    must_refuse(SL_API_CHAT, "stop", "[\"a\",\"\"]", "invalid_value");
    assert_string_equal(got.err.param, "stop[1]");
    must_refuse(SL_API_CHAT, "stop", "[null]", "invalid_type");
    must_refuse(SL_API_CHAT, "stop", "1", "invalid_type");
    must_refuse(SL_API_CHAT, "stop", "{}", "invalid_type");
}

static void stop_token_ids_are_ids(void **state)
{
    (void)state;
    must_accept(SL_API_CHAT, "stop_token_ids", "[0,4294967295]");
    assert_int_equal(got.q.stop_id_count, 2);
    assert_true(got.q.stop_id[0] == 0 && got.q.stop_id[1] == UINT32_MAX);
    must_accept(SL_API_CHAT, "stop_token_ids", "[]");
    must_accept(SL_API_CHAT, "stop_token_ids", list_of("7", SL_API_STOP_IDS_MAX));
    must_refuse(SL_API_CHAT, "stop_token_ids", list_of("7", SL_API_STOP_IDS_MAX + 1),
                "array_above_max_length");
    must_refuse(SL_API_CHAT, "stop_token_ids", "[4294967296]", "invalid_value");
    must_refuse(SL_API_CHAT, "stop_token_ids", "[-1]", "invalid_value");
    must_refuse(SL_API_CHAT, "stop_token_ids", "[1.5]", "invalid_value");
    must_refuse(SL_API_CHAT, "stop_token_ids", "[\"1\"]", "invalid_value");
    must_refuse(SL_API_CHAT, "stop_token_ids", "1", "invalid_type");
}

static void logit_bias_is_a_map_of_ids(void **state)
{
    char *many = malloc(1 << 16);
    size_t n = 0;

    (void)state;
    must_accept(SL_API_CHAT, "logit_bias", "{\"50256\":-100,\"0\":0.5,\"foo\":0,\"07\":0}");
    assert_int_equal(got.q.bias_count, 2);
    assert_int_equal(got.q.bias[0].token, 50256);
    assert_true(got.q.bias[0].bias == -100 && got.q.bias[1].bias == 0.5);
    must_accept(SL_API_CHAT, "logit_bias", "{}");
    must_accept(SL_API_CHAT, "logit_bias", "null");
    must_accept(SL_API_CHAT, "logit_bias", "{\"4294967295\":100}");
    assert_int_equal(got.q.bias[0].token, 4294967295);
    must_refuse(SL_API_CHAT, "logit_bias", "{\"4294967296\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"99999999999999999999999\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"-1\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"foo\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"07\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"1 \":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"1\":100.5}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"1\":-101}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"foo\":-101}", "invalid_value");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"1\":\"1\"}", "invalid_type");
    must_refuse(SL_API_CHAT, "logit_bias", "{\"1\":null}", "invalid_type");
    must_refuse(SL_API_CHAT, "logit_bias", "[]", "invalid_type");
    assert_non_null(many);
    for (int i = 0; i < SL_API_LOGIT_BIAS_MAX; i++)
        n += (size_t)sprintf(many + n, "%s\"%d\":1", i > 0 ? "," : "{", i);
    sprintf(many + n, "}");
    assert_int_equal(read_long(SL_API_CHAT, "logit_bias", many), SL_OK);
    assert_int_equal(got.q.bias_count, SL_API_LOGIT_BIAS_MAX);
    sprintf(many + n, ",\"99999\":1}");
    assert_int_equal(read_long(SL_API_CHAT, "logit_bias", many), SL_EINVAL);
    free(many);
}

static void strings_have_their_limits(void **state)
{
    (void)state;
    must_accept(SL_API_CHAT, "model", "\"a/b:c\"");
    assert_string_equal(got.q.model, "a/b:c");
    must_accept(SL_API_CHAT, "model", "null");
    assert_string_equal(got.q.model, "");
    must_refuse(SL_API_CHAT, "model", "1", "invalid_type");
    assert_int_equal(read_long(SL_API_CHAT, "model", string_of('m', 512)), SL_OK);
    assert_int_equal(read_long(SL_API_CHAT, "model", string_of('m', 513)), SL_EINVAL);
    must_accept(SL_API_CHAT, "cache_salt", "\"s\"");
    assert_string_equal(got.q.cache_salt, "s");
    must_accept(SL_API_CHAT, "cache_salt", "null");
    assert_null(got.q.cache_salt);
    must_refuse(SL_API_CHAT, "cache_salt", "\"\"", "invalid_value");
    assert_int_equal(read_long(SL_API_CHAT, "cache_salt", string_of('m', 257)), SL_EINVAL);
    must_accept(SL_API_CHAT, "user", "\"u\"");
    assert_string_equal(got.q.user, "u");
}

static void template_arguments_are_scalars(void **state)
{
    (void)state;
    must_accept(SL_API_CHAT, "chat_template_kwargs",
                "{\"enable_thinking\":false, \"a1\":\"x\\n\",\"b\":1,\"c\":0.10,\"d\":null}");
    assert_string_equal(got.q.template_kwargs_json,
                        "{\"enable_thinking\":false,\"a1\":\"x\\n\",\"b\":1,\"c\":0.1,\"d\":null}");
    assert_int_equal(got.q.template_kwargs_json_len, strlen(got.q.template_kwargs_json));
    must_accept(SL_API_CHAT, "chat_template_kwargs", "{}");
    must_accept(SL_API_CHAT, "chat_template_kwargs", "null");
    assert_null(got.q.template_kwargs_json);
    must_refuse(SL_API_CHAT, "chat_template_kwargs", "{\"a\":[]}", "invalid_value");
    must_refuse(SL_API_CHAT, "chat_template_kwargs", "{\"a\":{}}", "invalid_value");
    must_refuse(SL_API_CHAT, "chat_template_kwargs", "{\"messages\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "chat_template_kwargs", "{\"bos_token\":\"x\"}", "invalid_value");
    must_refuse(SL_API_CHAT, "chat_template_kwargs", "{\"a b\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "chat_template_kwargs", "{\"1a\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "chat_template_kwargs", "{\"\":1}", "invalid_value");
    must_refuse(SL_API_CHAT, "chat_template_kwargs", "[]", "invalid_type");
}

static void prompts_come_in_four_forms(void **state)
{
    (void)state;
    assert_int_equal(read_text(SL_API_COMPLETION, false, "{\"prompt\":\"abc\"}"), SL_OK);
    assert_int_equal(got.q.prompt_count, 1);
    assert_int_equal(got.q.prompt[0].text_len, 3);
    assert_int_equal(read_text(SL_API_COMPLETION, false, "{\"prompt\":\"\"}"), SL_OK);
    assert_non_null(got.q.prompt[0].text);
    assert_int_equal(read_text(SL_API_COMPLETION, false, "{\"prompt\":[\"a\",\"\",\"c\"]}"), SL_OK);
    assert_int_equal(got.q.prompt_count, 3);
    assert_string_equal(got.q.prompt[2].text, "c");
    assert_int_equal(read_text(SL_API_COMPLETION, false, "{\"prompt\":[1,0,4294967295]}"), SL_OK);
    assert_int_equal(got.q.prompt_count, 1);
    assert_null(got.q.prompt[0].text);
    assert_int_equal(got.q.prompt[0].id_count, 3);
    assert_true(got.q.prompt[0].id[2] == UINT32_MAX);
    assert_int_equal(read_text(SL_API_COMPLETION, false, "{\"prompt\":[[1],[2,3]]}"), SL_OK);
    assert_int_equal(got.q.prompt_count, 2);
    assert_int_equal(got.q.prompt[1].id[1], 3);
}

static void wrong_prompts_are_refused(void **state)
{
    static const struct {
        const char *value, *param;
    } cases[] = {{"1", "prompt"},
                 {"{}", "prompt"},
                 {"[]", "prompt"},
                 {"[[]]", "prompt[0]"},
                 {"[\"a\",1]", "prompt[1]"},
                 {"[1,\"a\"]", "prompt[1]"},
                 {"[-1]", "prompt[0]"},
                 {"[1.5]", "prompt[0]"},
                 {"[null]", "prompt[0]"},
                 {"[[1],[]]", "prompt[1]"},
                 {"[[1],2]", "prompt[1]"},
                 {"[4294967296]", "prompt[0]"},
                 {"[[1,-1]]", "prompt[0][1]"},
                 {"true", "prompt"},
                 {"null", "prompt"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[100];

        snprintf(body, sizeof(body), "{\"prompt\":%s}", cases[i].value);
        assert_int_equal(read_text(SL_API_COMPLETION, false, body), SL_EINVAL);
        assert_string_equal(got.err.param, cases[i].param);
    }
    assert_int_equal(read_text(SL_API_COMPLETION, false, "{}"), SL_EINVAL);
    assert_string_equal(got.err.code, "missing_required_parameter");
    assert_string_equal(got.err.param, "prompt");
    {
        char body[2000];

        snprintf(body, sizeof(body), "{\"prompt\":%s}", list_of("\"a\"", SL_API_PROMPTS_MAX));
        assert_int_equal(read_text(SL_API_COMPLETION, false, body), SL_OK);
        snprintf(body, sizeof(body), "{\"prompt\":%s}", list_of("\"a\"", SL_API_PROMPTS_MAX + 1));
        assert_int_equal(read_text(SL_API_COMPLETION, false, body), SL_EINVAL);
        assert_string_equal(got.err.code, "array_above_max_length");
    }
}

/* --- policies ------------------------------------------------------------------------------ */

typedef struct refusal {
    const char *name;
    int kinds;
    const char *fine[4]; /* values that ask for nothing */
    const char *wrong[4];
} refusal;

static const refusal refusals[] = {
    {"tools", CHAT, {"[]"}, {"[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"}},
    {"tool_choice", CHAT, {"\"none\"", "\"auto\""}, {"\"required\"", "{}"}},
    {"functions", CHAT, {"[]"}, {"[{\"name\":\"f\"}]"}},
    {"function_call", CHAT, {"\"none\"", "\"auto\""}, {"{\"name\":\"f\"}"}},
    {"response_format",
     BOTH,
     {"{\"type\":\"text\"}"},
     {"{\"type\":\"json_object\"}", "{\"type\":\"json_schema\"}", "{}", "{\"type\":1}"}},
    {"modalities", CHAT, {"[\"text\"]", "[]"}, {"[\"audio\"]", "[\"text\",\"audio\"]"}},
    {"audio", CHAT, {NULL}, {"{\"voice\":\"a\",\"format\":\"wav\"}"}},
    {"prediction", CHAT, {NULL}, {"{\"type\":\"content\",\"content\":\"x\"}"}},
    {"reasoning_effort", CHAT, {NULL}, {"\"low\""}},
    {"echo", CHAT, {"false"}, {"true"}},
    {"chat_template", CHAT, {NULL}, {"\"{{ x }}\"", "\"\""}},
    {"documents", CHAT, {"[]"}, {"[{}]"}},
    {"suffix", COMP, {"\"\""}, {"\"test.\""}},
    {"best_of", BOTH, {"0", "1"}, {"2", "-1", "21", "true"}},
    {"use_beam_search", BOTH, {"false"}, {"true"}},
    {"length_penalty", BOTH, {"1", "1.0"}, {"0.5"}},
    {"early_stopping", BOTH, {"false"}, {"true"}},
    {"prompt_logprobs", BOTH, {NULL}, {"0", "1", "-1"}},
    {"truncate_prompt_tokens", BOTH, {NULL}, {"1", "-1"}},
    {"priority", BOTH, {"0"}, {"1", "-1"}},
    {"add_special_tokens", CHAT, {"false"}, {"true"}},
    {"add_special_tokens", COMP, {"true"}, {"false"}},
    {"spaces_between_special_tokens", BOTH, {"true"}, {"false"}},
    {"return_tokens_as_token_ids", BOTH, {"false"}, {"true"}},
    {"allowed_token_ids", BOTH, {NULL}, {"[]", "[1]"}},
    {"bad_words", BOTH, {"[]"}, {"[\"x\"]"}},
    {"prompt_embeds", BOTH, {NULL}, {"\"x\""}},
    {"structured_outputs", BOTH, {"{}"}, {"{\"json\":{}}"}},
    {"guided_json", BOTH, {NULL}, {"{}", "\"{}\""}},
    {"guided_regex", BOTH, {NULL}, {"\"a\""}},
    {"guided_choice", BOTH, {NULL}, {"[\"a\"]"}},
    {"guided_grammar", BOTH, {NULL}, {"\"a\""}},
    {"guided_decoding_backend", BOTH, {NULL}, {"\"x\""}},
    {"guided_whitespace_pattern", BOTH, {NULL}, {"\"x\""}},
    {"json_schema", BOTH, {NULL}, {"{}"}},
    {"grammar", BOTH, {"\"\""}, {"\"root ::= x\""}},
    {"regex", BOTH, {NULL}, {"\"a\""}},
    {"ebnf", BOTH, {NULL}, {"\"a\""}},
    {"logits_processors", BOTH, {"[]"}, {"[\"x\"]"}},
    {"kv_transfer_params", BOTH, {NULL}, {"{}"}},
    {"thinking_token_budget", BOTH, {NULL}, {"5"}},
    {"vllm_xargs", BOTH, {"{}"}, {"{\"a\":1}"}},
    {"mm_processor_kwargs", CHAT, {"{}"}, {"{\"a\":1}"}},
};
enum { REFUSALS = sizeof(refusals) / sizeof(refusals[0]) };

static void try_refusal(const refusal *f, sl_api_kind kind)
{
    must_accept(kind, f->name, "null");
    assert_int_equal(got.q.ignored_count, 0);
    for (int i = 0; i < 4 && f->fine[i] != NULL; i++) {
        must_accept(kind, f->name, f->fine[i]);
        assert_int_equal(got.q.ignored_count, 0);
    }
    for (int i = 0; i < 4 && f->wrong[i] != NULL; i++)
        must_refuse(kind, f->name, f->wrong[i], NULL);
    must_refuse(kind, f->name, f->wrong[0], "unsupported_parameter");
}

static void fields_not_served_are_refused_unless_they_ask_for_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < REFUSALS; i++) {
        if ((refusals[i].kinds & CHAT) != 0)
            try_refusal(&refusals[i], SL_API_CHAT);
        if ((refusals[i].kinds & COMP) != 0)
            try_refusal(&refusals[i], SL_API_COMPLETION);
    }
}

static void tools_are_left_out_with_the_choice_none(void **state)
{
    (void)state;
    assert_int_equal(read_members(SL_API_CHAT, false, "\"tools\":[{}],\"tool_choice\":\"none\""),
                     SL_OK);
    assert_int_equal(got.q.ignored_count, 1);
    assert_string_equal(got.q.ignored[0], "tools");
    assert_int_equal(read_members(SL_API_CHAT, false, "\"tools\":[{}],\"tool_choice\":\"auto\""),
                     SL_EINVAL);
    assert_int_equal(
        read_members(SL_API_CHAT, false, "\"functions\":[{}],\"function_call\":\"none\""), SL_OK);
    assert_int_equal(
        read_members(SL_API_CHAT, false, "\"functions\":[{}],\"tool_choice\":\"none\""), SL_EINVAL);
}

static const struct {
    const char *name;
    int kinds;
    const char *value, *wrong;
} ignorables[] = {
    {"user", BOTH, "\"u\"", "1"},
    {"metadata", BOTH, "{\"a\":\"b\"}", "[]"},
    {"store", BOTH, "true", "1"},
    {"service_tier", BOTH, "\"auto\"", "1"},
    {"safety_identifier", BOTH, "\"x\"", "1"},
    {"prompt_cache_key", BOTH, "\"x\"", "1"},
    {"prompt_cache_retention", BOTH, "\"24h\"", "24"},
    {"prompt_cache_options", BOTH, "{}", "1"},
    {"request_id", BOTH, "\"x\"", "1"},
    {"verbosity", CHAT, "\"low\"", "1"},
    {"web_search_options", CHAT, "{}", "1"},
    {"moderation", CHAT, "{}", "1"},
    {"parallel_tool_calls", CHAT, "true", "1"},
    {"include_reasoning", CHAT, "true", "1"},
};
enum { IGNORABLES = sizeof(ignorables) / sizeof(ignorables[0]) };

static void harmless_fields_are_ignored_and_named(void **state)
{
    (void)state;
    for (int i = 0; i < IGNORABLES; i++) {
        const sl_api_kind kind = ignorables[i].kinds == COMP ? SL_API_COMPLETION : SL_API_CHAT;
        char members[100];

        must_accept(kind, ignorables[i].name, ignorables[i].value);
        assert_int_equal(got.q.ignored_count, 1);
        assert_string_equal(got.q.ignored[0], ignorables[i].name);
        must_accept(kind, ignorables[i].name, "null");
        assert_int_equal(got.q.ignored_count, 0);
        must_refuse(kind, ignorables[i].name, ignorables[i].wrong, "invalid_type");
        snprintf(members, sizeof(members), "\"%s\":%s", ignorables[i].name, ignorables[i].value);
        assert_int_equal(read_members(kind, true, members), SL_EINVAL);
        assert_string_equal(got.err.param, ignorables[i].name);
    }
}

static void unknown_fields_are_ignored_and_named_safely(void **state)
{
    char many[4000];
    size_t n = 0;

    (void)state;
    assert_int_equal(read_members(SL_API_CHAT, false,
                                  "\"prompt\":1,\"x\\r\\nSet-Cookie: a\":2,\"\":3,\"\xC3\xA9\":4"),
                     SL_OK);
    assert_int_equal(got.q.ignored_count, 4);
    assert_string_equal(got.q.ignored[0], "prompt");
    assert_string_equal(got.q.ignored[1], "x__Set-Cookie__a");
    assert_string_equal(got.q.ignored[2], "_");
    assert_string_equal(got.q.ignored[3], "__");
    assert_int_equal(read_members(SL_API_CHAT, true, "\"Temperature\":1"), SL_EINVAL);
    assert_string_equal(got.err.param, "Temperature");
    assert_string_equal(got.err.code, "unknown_parameter");
    for (int i = 0; i < 100; i++)
        n += (size_t)sprintf(many + n, "%s\"k%d\":1", i > 0 ? "," : "", i);
    assert_int_equal(read_members(SL_API_CHAT, false, many), SL_OK);
    assert_int_equal(got.q.ignored_count, SL_API_IGNORED_MAX);
    memset(many, 'n', 300);
    many[0] = '"';
    strcpy(many + 300, "\":1");
    assert_int_equal(read_members(SL_API_CHAT, false, many), SL_OK);
    assert_int_equal(strlen(got.q.ignored[0]), 64);
}

/* --- the declared table -------------------------------------------------------------------- */

static bool expected(const char *name, const char *policy)
{
    static const char *const others[] = {
        "model",      "messages",       "prompt",         "chat_template_kwargs",
        "cache_salt", "stop",           "stop_token_ids", "seed",
        "logit_bias", "stream_options", "top_logprobs",   "min_tokens"};

    if (strcmp(policy, "honoured") == 0) {
        for (int i = 0; i < SCALARS; i++)
            if (strcmp(scalars[i].name, name) == 0)
                return true;
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
            if (strcmp(others[i], name) == 0)
                return true;
        return false;
    }
    if (strcmp(policy, "refused") == 0) {
        for (int i = 0; i < REFUSALS; i++)
            if (strcmp(refusals[i].name, name) == 0)
                return true;
        return false;
    }
    for (int i = 0; i < IGNORABLES; i++)
        if (strcmp(ignorables[i].name, name) == 0)
            return true;
    return false;
}

static void the_declared_table_is_the_tested_one(void **state)
{
    /* Every property of OpenAI's two schemas. */
    static const char *const openai[] = {"audio",
                                         "frequency_penalty",
                                         "function_call",
                                         "functions",
                                         "logit_bias",
                                         "logprobs",
                                         "max_completion_tokens",
                                         "max_tokens",
                                         "messages",
                                         "metadata",
                                         "modalities",
                                         "model",
                                         "moderation",
                                         "n",
                                         "parallel_tool_calls",
                                         "prediction",
                                         "presence_penalty",
                                         "prompt_cache_key",
                                         "prompt_cache_options",
                                         "prompt_cache_retention",
                                         "reasoning_effort",
                                         "response_format",
                                         "safety_identifier",
                                         "seed",
                                         "service_tier",
                                         "stop",
                                         "store",
                                         "stream",
                                         "stream_options",
                                         "temperature",
                                         "tool_choice",
                                         "tools",
                                         "top_logprobs",
                                         "top_p",
                                         "user",
                                         "verbosity",
                                         "web_search_options",
                                         "best_of",
                                         "echo",
                                         "prompt",
                                         "suffix"};
    json_t *root, *data;
    const char *text;
    sl_buf out;

    (void)state;
    sl_buf_init(&out, 1 << 20);
    sl_api_write_policy(&out);
    text = sl_buf_text(&out);
    assert_non_null(text);
    root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    data = json_object_get(root, "data");
    assert_true(json_array_size(data) > 70);
    for (size_t i = 0; i < json_array_size(data); i++) {
        const json_t *row = json_array_get(data, i);
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *policy = json_string_value(json_object_get(row, "policy"));

        assert_true(json_array_size(json_object_get(row, "requests")) >= 1);
        if (!expected(name, policy))
            fail_msg("%s is %s, and not tested", name, policy);
    }
    for (size_t i = 0; i < sizeof(openai) / sizeof(openai[0]); i++) {
        size_t k = 0;

        while (k < json_array_size(data) &&
               strcmp(openai[i],
                      json_string_value(json_object_get(json_array_get(data, k), "name"))) != 0)
            k++;
        if (k == json_array_size(data))
            fail_msg("%s of OpenAI's schema has no row", openai[i]);
    }
    json_decref(root);
    sl_buf_done(&out);
}

/* --- tokenize ------------------------------------------------------------------------------ */

static void tokenize_and_detokenize_are_read(void **state)
{
    static const struct {
        const char *body;
        bool detokenize;
        const char *param; /* NULL: accepted */
    } cases[] = {
        {"{\"prompt\":\"a\"}", false, NULL},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"model\":\"m\"}", false, NULL},
        {"{\"prompt\":\"\",\"unknown\":1,\"chat_template\":null}", false, NULL},
        {"{}", false, "prompt"},
        {"{\"prompt\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", false,
         "prompt"},
        {"{\"prompt\":1}", false, "prompt"},
        {"{\"messages\":[]}", false, "messages"},
        {"{\"prompt\":\"a\",\"add_special_tokens\":1}", false, "add_special_tokens"},
        {"{\"prompt\":\"a\",\"chat_template\":\"x\"}", false, "chat_template"},
        {"{\"tokens\":[1,2]}", true, NULL},
        {"{\"tokens\":[]}", true, NULL},
        {"{\"tokens\":[-1]}", true, "tokens[0]"},
        {"{\"tokens\":[\"a\"]}", true, "tokens[0]"},
        {"{\"tokens\":1}", true, "tokens"},
        {"{}", true, "tokens"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sl_api_tokenize t = {0};
        sl_err err = {0};
        sl_status status;

        sl_arena_done(&got.arena);
        sl_arena_init(&got.arena, 1 << 20);
        status = sl_api_read_tokenize(cases[i].body, strlen(cases[i].body), cases[i].detokenize,
                                      &got.arena, &t, &err);
        if ((status == SL_OK) != (cases[i].param == NULL))
            fail_msg("%s: %s", cases[i].body, err.text);
        if (cases[i].param != NULL)
            assert_string_equal(err.param, cases[i].param);
        else if (cases[i].detokenize)
            assert_non_null(t.token);
        else
            assert_true(t.add_special_tokens && t.add_generation_prompt && !t.return_token_strs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_take_their_range_and_nothing_else),
        cmocka_unit_test(an_integer_too_large_for_json_is_an_error),
        cmocka_unit_test(seeds_are_any_int64),
        cmocka_unit_test(logprobs_go_together),
        cmocka_unit_test(maximum_and_minimum_of_tokens_go_together),
        cmocka_unit_test(continuing_the_last_message_excludes_a_generation_prompt),
        cmocka_unit_test(stream_options_are_read),
        cmocka_unit_test(stop_is_a_string_or_a_few),
        cmocka_unit_test(stop_token_ids_are_ids),
        cmocka_unit_test(logit_bias_is_a_map_of_ids),
        cmocka_unit_test(strings_have_their_limits),
        cmocka_unit_test(template_arguments_are_scalars),
        cmocka_unit_test(prompts_come_in_four_forms),
        cmocka_unit_test(wrong_prompts_are_refused),
        cmocka_unit_test(fields_not_served_are_refused_unless_they_ask_for_nothing),
        cmocka_unit_test(tools_are_left_out_with_the_choice_none),
        cmocka_unit_test(harmless_fields_are_ignored_and_named),
        cmocka_unit_test(unknown_fields_are_ignored_and_named_safely),
        cmocka_unit_test(the_declared_table_is_the_tested_one),
        cmocka_unit_test(tokenize_and_detokenize_are_read),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);

    sl_arena_done(&got.arena);
    return failures;
}
