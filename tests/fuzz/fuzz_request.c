/* tests/fuzz/fuzz_request.c - goal: a request body gives an error of the client's, or a request
 * whose every field is in its documented range.
 *
 * Method: the first byte chooses chat, completions, tokenize or detokenize, and strictness.  What
 * is accepted is checked field by field; the JSON handed on must itself be accepted as JSON. */
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "protocol/openai.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond) ((cond) ? (void)0 : broken(#cond))

static void broken(const char *what)
{
    fprintf(stderr, "broken promise: %s\n", what);
    abort();
}

static bool within(double x, double low, double high)
{
    return x >= low && x <= high;
}

/* Compact JSON of this kind, of whole UTF-8. */
static void check_json(const char *text, size_t len, bool array)
{
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

    MUST(sl_utf8_valid(text, len));
    MUST(root != NULL);
    MUST(array ? json_is_array(root) && json_array_size(root) >= 1 : json_is_object(root));
    json_decref(root);
}

static void check_sampling(const sl_api_request *q)
{
    MUST(q->n >= 1 && q->n <= SL_API_N_MAX);
    MUST(within(q->temperature, 0, 2));
    MUST(q->top_p > 0 && q->top_p <= 1);
    MUST(within(q->min_p, 0, 1));
    MUST(q->top_k >= 0 && q->top_k <= INT32_MAX);
    MUST(q->repetition_penalty > 0 && q->repetition_penalty <= 10);
    MUST(within(q->presence_penalty, -2, 2));
    MUST(within(q->frequency_penalty, -2, 2));
    MUST(q->max_tokens >= -1 && q->max_tokens <= INT32_MAX);
    MUST(q->min_tokens >= 0 && (q->max_tokens < 0 || q->min_tokens <= q->max_tokens));
    MUST(q->top_logprobs <= SL_API_TOP_LOGPROBS_MAX);
    MUST(q->top_logprobs == 0 || q->logprobs);
    MUST(q->has_seed || q->seed == 0);
}

static void check_lists(const sl_api_request *q)
{
    MUST(q->stop_count <= SL_API_STOP_MAX && q->stop_id_count <= SL_API_STOP_IDS_MAX);
    for (size_t i = 0; i < q->stop_count; i++)
        MUST(q->stop_len[i] >= 1 && q->stop_len[i] <= SL_API_STOP_BYTES_MAX &&
             sl_utf8_valid(q->stop[i], q->stop_len[i]));
    MUST(q->bias_count <= SL_API_LOGIT_BIAS_MAX);
    for (size_t i = 0; i < q->bias_count; i++) {
        MUST(q->bias[i].token >= 0 && q->bias[i].token <= (int64_t)UINT32_MAX);
        MUST(within(q->bias[i].bias, -100, 100));
    }
    MUST(q->ignored_count <= SL_API_IGNORED_MAX);
    for (size_t i = 0; i < q->ignored_count; i++) {
        const size_t n = strlen(q->ignored[i]);

        MUST(n >= 1 && n <= 64);
        MUST(strspn(q->ignored[i], "0123456789abcdefghijklmnopqrstuvwxyz"
                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ_.-") == n);
    }
}

static void check_request(const sl_api_request *q, sl_api_kind kind)
{
    MUST(q->kind == kind && q->model != NULL);
    check_sampling(q);
    check_lists(q);
    if (kind == SL_API_CHAT) {
        check_json(q->messages_json, q->messages_json_len, true);
        if (q->template_kwargs_json != NULL)
            check_json(q->template_kwargs_json, q->template_kwargs_json_len, false);
        MUST(!(q->add_generation_prompt && q->continue_final_message));
        return;
    }
    MUST(q->prompt_count >= 1 && q->prompt_count <= SL_API_PROMPTS_MAX);
    for (size_t i = 0; i < q->prompt_count; i++) {
        MUST((q->prompt[i].text == NULL) == (q->prompt[i].id != NULL));
        MUST(q->prompt[i].text != NULL ? sl_utf8_valid(q->prompt[i].text, q->prompt[i].text_len)
                                       : q->prompt[i].id_count >= 1);
    }
}

static void check_error(const sl_err *err, sl_status status)
{
    sl_buf out;

    MUST(err->status == status && sl_status_http(status) == 400);
    MUST(err->text[0] != '\0');
    sl_buf_init(&out, 1 << 16);
    sl_api_write_error(&out, err);
    MUST(!out.failed);
    check_json(out.data, out.len, false);
    sl_buf_done(&out);
}

static void run_tokenize(const char *body, size_t n, bool detokenize, sl_arena *arena)
{
    sl_api_tokenize t = {0};
    sl_err err = {0};
    const sl_status status = sl_api_read_tokenize(body, n, detokenize, arena, &t, &err);

    if (status != SL_OK) {
        check_error(&err, status);
        return;
    }
    MUST(t.model != NULL);
    MUST(detokenize ? t.token != NULL : (t.prompt == NULL) != (t.messages_json == NULL));
    if (t.messages_json != NULL)
        check_json(t.messages_json, t.messages_json_len, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static sl_api_request q;
    const char *body = (const char *)data + 1;
    sl_arena arena;

    if (size < 1 || size > 1 << 16)
        return 0;
    sl_arena_init(&arena, 4 << 20);
    if ((data[0] & 6) == 6) {
        run_tokenize(body, size - 1, (data[0] & 1) != 0, &arena);
    } else {
        const sl_api_kind kind = (data[0] & 1) != 0 ? SL_API_CHAT : SL_API_COMPLETION;
        sl_err err = {0};
        const sl_status status =
            sl_api_read(kind, body, size - 1, (data[0] & 2) != 0, &arena, &q, &err);

        if (status == SL_OK)
            check_request(&q, kind);
        else
            check_error(&err, status);
    }
    sl_arena_done(&arena);
    return 0;
}
