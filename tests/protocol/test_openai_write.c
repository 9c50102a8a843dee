/* tests/protocol/test_openai_write.c - goal: answers, chunks, errors and lists have the exact
 * shapes of the API, and are JSON and UTF-8 whatever the text is.
 *
 * Method: golden texts for the shapes; random bytes through every writer, read back by jansson and
 * compared with an independent replacement of invalid UTF-8; numbers read back by strtof. */
#include <float.h>
#include <math.h>
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

#include "base/rng.h"
#include "protocol/openai.h"

static const sl_api_answer chat = {SL_API_CHAT, "chatcmpl-1", 1769040000, "m", "fp"};
static const sl_api_answer comp = {SL_API_COMPLETION, "cmpl-1", 1769040000, "m", NULL};
static const sl_api_usage usage = {9, 12, 4};

#define CHAT_CHUNK                                                                                 \
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1769040000,"    \
    "\"model\":\"m\",\"system_fingerprint\":\"fp\",\"choices\":["
#define COMP_CHUNK                                                                                 \
    "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1769040000,"              \
    "\"model\":\"m\",\"choices\":["
#define USAGE                                                                                      \
    "{\"prompt_tokens\":9,\"completion_tokens\":12,\"total_tokens\":21,"                           \
    "\"prompt_tokens_details\":{\"cached_tokens\":4}}"

static sl_buf out;

static const char *text_of(void)
{
    const char *text = sl_buf_text(&out);

    assert_non_null(text);
    return text;
}

/* Compare and empty. */
static void must_be(const char *want)
{
    assert_string_equal(text_of(), want);
    sl_buf_reset(&out);
}

static sl_api_choice choice_of(const char *text, const char *finish)
{
    return (sl_api_choice){.index = 1,
                           .text = text,
                           .text_len = strlen(text),
                           .finish_reason = finish,
                           .stop_token = -1};
}

/* --- shapes -------------------------------------------------------------------------------- */

static void whole_answers_have_their_shape(void **state)
{
    sl_api_choice two[2] = {choice_of("Hello", "stop"), choice_of("a\"b", "length")};
    static const uint32_t ids[] = {0, 4294967295u};

    (void)state;
    two[0].index = 0;
    two[0].stop_token = 2;
    two[1].stop_string = "\n";
    two[1].token_id = ids;
    two[1].token_id_count = 2;
    sl_api_write_answer(&out, &chat, two, 2, &usage);
    must_be("{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1769040000,"
            "\"model\":\"m\",\"system_fingerprint\":\"fp\",\"choices\":["
            "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello\",\"refusal\":"
            "null},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":2},"
            "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"a\\\"b\",\"refusal\":"
            "null},\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":\"\\n\","
            "\"token_ids\":[0,4294967295]}],\"usage\":" USAGE "}");
    two[0].stop_token = -1;
    sl_api_write_answer(&out, &comp, two, 1, &usage);
    must_be("{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1769040000,\"model\":"
            "\"m\",\"choices\":[{\"index\":0,\"text\":\"Hello\",\"logprobs\":null,"
            "\"finish_reason\":\"stop\"}],\"usage\":" USAGE "}");
}

static void chunks_have_their_shape(void **state)
{
    sl_api_choice part = choice_of("Hel", "stop");

    (void)state;
    sl_api_write_role_chunk(&out, &chat, 0, false);
    must_be(CHAT_CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                       "\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    sl_api_write_role_chunk(&out, &chat, 3, true);
    must_be(CHAT_CHUNK "{\"index\":3,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                       "\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n");
    sl_api_write_text_chunk(&out, &chat, &part, false, NULL);
    must_be(CHAT_CHUNK "{\"index\":1,\"delta\":{\"content\":\"Hel\"},\"logprobs\":null,"
                       "\"finish_reason\":null}]}\n\n");
    sl_api_write_text_chunk(&out, &chat, &part, true, &usage);
    must_be(CHAT_CHUNK "{\"index\":1,\"delta\":{\"content\":\"Hel\"},\"logprobs\":null,"
                       "\"finish_reason\":null}],\"usage\":" USAGE "}\n\n");
    part.stop_string = "END";
    sl_api_write_finish_chunk(&out, &chat, &part, true, NULL);
    must_be(CHAT_CHUNK "{\"index\":1,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\","
                       "\"stop_reason\":\"END\"}],\"usage\":null}\n\n");
    sl_api_write_usage_chunk(&out, &chat, &usage);
    must_be(CHAT_CHUNK "],\"usage\":" USAGE "}\n\n");
    part.stop_string = NULL;
    sl_api_write_text_chunk(&out, &comp, &part, false, NULL);
    must_be(COMP_CHUNK "{\"index\":1,\"text\":\"Hel\",\"logprobs\":null,\"finish_reason\":null}]}"
                       "\n\n");
    sl_api_write_finish_chunk(&out, &comp, &part, false, NULL);
    must_be(COMP_CHUNK "{\"index\":1,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"stop\"}]}"
                       "\n\n");
    sl_api_write_usage_chunk(&out, &comp, &usage);
    must_be(COMP_CHUNK "],\"usage\":" USAGE "}\n\n");
    sl_api_write_done_event(&out);
    sl_api_write_ping(&out);
    must_be("data: [DONE]\n\n: ping\n\n");
}

static void logprobs_have_their_shape(void **state)
{
    static const sl_api_logprob top[] = {
        {"a", 1, -0.25f, 1}, {"\xE2\x80", 2, -INFINITY, 2}, {"a", 1, -3.0f, 3}};
    static const sl_api_token tokens[] = {{{"a", 1, -0.25f, 1}, top, 3, 0},
                                          {{"\xE2\x80", 2, NAN, 2}, NULL, 0, 1}};
    sl_api_choice c = choice_of("x", "stop");

    (void)state;
    c.token = tokens;
    c.token_count = 2;
    sl_api_write_text_chunk(&out, &chat, &c, false, NULL);
    must_be(CHAT_CHUNK
            "{\"index\":1,\"delta\":{\"content\":\"x\"},\"logprobs\":{\"content\":["
            "{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97],\"top_logprobs\":["
            "{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97]},"
            "{\"token\":\"\xEF\xBF\xBD\xEF\xBF\xBD\",\"logprob\":-9999.0,\"bytes\":[226,128]},"
            "{\"token\":\"a\",\"logprob\":-3.0,\"bytes\":[97]}]},"
            "{\"token\":\"\xEF\xBF\xBD\xEF\xBF\xBD\",\"logprob\":-9999.0,\"bytes\":[226,128],"
            "\"top_logprobs\":[]}],\"refusal\":null},\"finish_reason\":null}]}\n\n");
    sl_api_write_text_chunk(&out, &comp, &c, false, NULL);
    must_be(COMP_CHUNK
            "{\"index\":1,\"text\":\"x\",\"logprobs\":{\"tokens\":[\"a\",\"bytes:\\\\xe2\\\\x80\"],"
            "\"token_logprobs\":[-0.25,null],\"top_logprobs\":[{\"a\":-0.25,"
            "\"bytes:\\\\xe2\\\\x80\":-9999.0},null],\"text_offset\":[0,1]},"
            "\"finish_reason\":null}]}\n\n");
    c.token_count = 0; /* asked for, and nothing there */
    sl_api_write_text_chunk(&out, &chat, &c, false, NULL);
    assert_non_null(strstr(text_of(), "\"logprobs\":{\"content\":[],\"refusal\":null}"));
    sl_buf_reset(&out);
    sl_api_write_text_chunk(&out, &comp, &c, false, NULL);
    assert_non_null(strstr(text_of(), "{\"tokens\":[],\"token_logprobs\":[],\"top_logprobs\":[],"
                                      "\"text_offset\":[]}"));
    sl_buf_reset(&out);
}

static void errors_have_all_four_keys(void **state)
{
    sl_err err;

    (void)state;
    (void)sl_fail_param(&err, SL_EINVAL, "n", "invalid_value", "'n' is \"%s\"", "x");
    sl_api_write_error(&out, &err);
    must_be("{\"error\":{\"message\":\"'n' is \\\"x\\\"\",\"type\":\"invalid_request_error\","
            "\"param\":\"n\",\"code\":\"invalid_value\"}}");
    (void)sl_fail(&err, SL_EFULL, "512 requests wait");
    sl_api_write_error_event(&out, &err);
    must_be("data: {\"error\":{\"message\":\"512 requests wait\",\"type\":\"rate_limit_error\","
            "\"param\":null,\"code\":null}}\n\n");
    /* What goes wrong inside is not told. */
    (void)sl_fail_param(&err, SL_EINTERNAL, "p", NULL, "/etc/secret at 0xdeadbeef01");
    sl_api_write_error(&out, &err);
    must_be("{\"error\":{\"message\":\"internal error\",\"type\":\"server_error\",\"param\":null,"
            "\"code\":null}}");
}

static void lists_have_their_shape(void **state)
{
    static const sl_api_model models[] = {{"m", 5, 4096, "m.gguf"}, {"a/b", 6, 1, NULL}};
    static const uint32_t ids[] = {5, 0};
    static const sl_api_logprob strs[] = {{"He", 2, 0, 5}, {"\xFF", 1, 0, 0}};

    (void)state;
    sl_api_write_models(&out, models, 2);
    must_be("{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"created\":5,"
            "\"owned_by\":\"sluice\",\"root\":\"m.gguf\",\"parent\":null,\"max_model_len\":4096},"
            "{\"id\":\"a/b\",\"object\":\"model\",\"created\":6,\"owned_by\":\"sluice\",\"root\":"
            "null,\"parent\":null,\"max_model_len\":1}]}");
    sl_api_write_models(&out, models, 0);
    must_be("{\"object\":\"list\",\"data\":[]}");
    sl_api_write_tokenize(&out, ids, NULL, 2, 100);
    must_be("{\"count\":2,\"max_model_len\":100,\"tokens\":[5,0],\"token_strs\":null}");
    sl_api_write_tokenize(&out, ids, strs, 2, 100);
    must_be("{\"count\":2,\"max_model_len\":100,\"tokens\":[5,0],\"token_strs\":[\"He\","
            "\"\xEF\xBF\xBD\"]}");
    sl_api_write_tokenize(&out, NULL, NULL, 0, 100);
    must_be("{\"count\":0,\"max_model_len\":100,\"tokens\":[],\"token_strs\":null}");
    sl_api_write_detokenize(&out, "a\nb", 3);
    must_be("{\"prompt\":\"a\\nb\"}");
}

/* --- any bytes ----------------------------------------------------------------------------- */

/* The well-formed UTF-8 sequences of the Unicode standard's table 3-7, written out again. */
static size_t well_formed(const uint8_t *p, size_t n)
{
    static const uint8_t rows[][4] = {/* first byte from, to; second byte from, to */
                                      {0xC2, 0xDF, 0x80, 0xBF}, {0xE0, 0xE0, 0xA0, 0xBF},
                                      {0xE1, 0xEC, 0x80, 0xBF}, {0xED, 0xED, 0x80, 0x9F},
                                      {0xEE, 0xEF, 0x80, 0xBF}, {0xF0, 0xF0, 0x90, 0xBF},
                                      {0xF1, 0xF3, 0x80, 0xBF}, {0xF4, 0xF4, 0x80, 0x8F}};

    if (p[0] < 0x80)
        return 1;
    for (size_t i = 0; i < 8; i++) {
        const size_t len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;

        if (p[0] < rows[i][0] || p[0] > rows[i][1] || len > n || p[1] < rows[i][2] ||
            p[1] > rows[i][3])
            continue;
        for (size_t k = 2; k < len; k++)
            if (p[k] < 0x80 || p[k] > 0xBF)
                return 0;
        return len;
    }
    return 0;
}

/* Each byte that is not part of a character becomes U+FFFD. */
static size_t replaced(const uint8_t *p, size_t n, char *to)
{
    size_t m = 0;

    for (size_t i = 0; i < n;) {
        const size_t len = well_formed(p + i, n - i);

        if (len == 0) {
            memcpy(to + m, "\xEF\xBF\xBD", 3);
            m += 3;
            i++;
        } else {
            memcpy(to + m, p + i, len);
            m += len;
            i += len;
        }
    }
    return m;
}

static void must_hold(const json_t *value, const uint8_t *bytes, size_t n)
{
    char want[600];
    const size_t m = replaced(bytes, n, want);

    assert_true(json_is_string(value));
    assert_int_equal(json_string_length(value), m);
    assert_memory_equal(json_string_value(value), want, m);
}

static json_t *parse_out(bool event)
{
    const char *text = text_of();
    json_t *root;

    if (event) {
        assert_memory_equal(text, "data: ", 6);
        text += 6;
        assert_string_equal(strchr(text, '\n'), "\n\n"); /* one line */
    }
    root = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    sl_buf_reset(&out);
    return root;
}

static const json_t *first_choice(const json_t *root)
{
    return json_array_get(json_object_get(root, "choices"), 0);
}

static void any_bytes_stay_json(void **state)
{
    static const uint8_t special[] = {'"',  '\\', '\n', '\r', '\t', 0,    0x7F, 0x80, 0xBF,
                                      0xC2, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0xED, 0xA0};
    sl_rng rng;

    (void)state;
    rng = (sl_rng){.seed = 20260101};
    for (int round = 0; round < 3000; round++) {
        uint8_t bytes[200];
        const size_t n = sl_rng_next(&rng) % sizeof(bytes);
        sl_api_logprob lp;
        sl_api_token token;
        sl_api_choice c;
        json_t *root;

        for (size_t i = 0; i < n; i++) { /* half of it from the bytes that matter */
            const uint64_t x = sl_rng_next(&rng);

            bytes[i] = (x & 1) != 0 ? (uint8_t)(x >> 8) : special[(x >> 8) % sizeof(special)];
        }
        lp = (sl_api_logprob){(const char *)bytes, n, -1.5f, 7};
        token = (sl_api_token){lp, &lp, 1, 0};
        c = (sl_api_choice){.text = (const char *)bytes,
                            .text_len = n,
                            .finish_reason = "stop",
                            .token = &token,
                            .token_count = 1,
                            .stop_token = -1};
        sl_api_write_answer(&out, &chat, &c, 1, &usage);
        root = parse_out(false);
        must_hold(json_object_get(json_object_get(first_choice(root), "message"), "content"), bytes,
                  n);
        json_decref(root);
        sl_api_write_text_chunk(&out, &chat, &c, true, NULL);
        root = parse_out(true);
        must_hold(json_object_get(json_object_get(first_choice(root), "delta"), "content"), bytes,
                  n);
        json_decref(root);
        sl_api_write_detokenize(&out, (const char *)bytes, n);
        root = parse_out(false);
        must_hold(json_object_get(root, "prompt"), bytes, n);
        json_decref(root);
        /* A key with a NUL is JSON, but jansson's reader takes none. */
        if (memchr(bytes, 0, n) != NULL)
            continue;
        sl_api_write_text_chunk(&out, &comp, &c, false, &usage);
        root = parse_out(true);
        must_hold(json_object_get(first_choice(root), "text"), bytes, n);
        json_decref(root);
    }
}

/* --- numbers ------------------------------------------------------------------------------- */

/* The logprob of a chunk, as text. */
static const char *number_text(float x)
{
    static char text[64];
    const sl_api_logprob lp = {"a", 1, x, 1};
    const sl_api_token token = {lp, NULL, 0, 0};
    sl_api_choice c = choice_of("", "stop");
    const char *at;

    c.token = &token;
    c.token_count = 1;
    sl_api_write_text_chunk(&out, &chat, &c, false, NULL);
    at = strstr(text_of(), "\"logprob\":") + 10;
    snprintf(text, sizeof(text), "%.*s", (int)strcspn(at, ","), at);
    sl_buf_reset(&out);
    return text;
}

static void numbers_are_short_and_read_back(void **state)
{
    static const struct {
        float x;
        const char *text;
    } cases[] = {{0.0f, "0.0"},         {-0.0f, "0.0"},           {-1.0f, "-1.0"},
                 {-0.1f, "-0.1"},       {-12.5f, "-12.5"},        {-100.0f, "-100.0"},
                 {-0.05f, "-0.05"},     {-10.01f, "-10.01"},      {-INFINITY, "-9999.0"},
                 {INFINITY, "-9999.0"}, {NAN, "-9999.0"},         {-9999.0f, "-9999.0"},
                 {-1e-7f, "-1e-07"},    {0.3333333f, "0.3333333"}};
    sl_rng rng;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(number_text(cases[i].x), cases[i].text);
    rng = (sl_rng){.seed = 7};
    for (int i = 0; i < 200000; i++) {
        const uint32_t bits = (uint32_t)sl_rng_next(&rng);
        const char *text;
        float x;

        if (i % 2 == 0) {
            memcpy(&x, &bits, sizeof(x));
            if (!isfinite(x))
                continue;
        } else { /* like logprobs */
            x = -30.0f * (float)bits / 4294967296.0f;
        }
        text = number_text(x);
        if (strtof(text, NULL) != x || strlen(text) > 16 ||
            strspn(text, "-0123456789.e+") != strlen(text))
            fail_msg("%.9g is written %s", (double)x, text);
    }
}

static void a_full_buffer_is_remembered(void **state)
{
    sl_api_choice c = choice_of("Hello", "stop");
    sl_buf small;

    (void)state;
    sl_buf_init(&small, 100);
    sl_api_write_answer(&small, &chat, &c, 1, &usage);
    assert_true(small.failed);
    assert_true(small.len <= 100);
    sl_buf_done(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_answers_have_their_shape),
        cmocka_unit_test(chunks_have_their_shape),
        cmocka_unit_test(logprobs_have_their_shape),
        cmocka_unit_test(errors_have_all_four_keys),
        cmocka_unit_test(lists_have_their_shape),
        cmocka_unit_test(any_bytes_stay_json),
        cmocka_unit_test(numbers_are_short_and_read_back),
        cmocka_unit_test(a_full_buffer_is_remembered),
    };
    int failures;

    sl_buf_init(&out, 1 << 20);
    failures = cmocka_run_group_tests(tests, NULL, NULL);
    sl_buf_done(&out);
    return failures;
}
