/* protocol/openai_write.c - answers, chunks, errors and lists as JSON; see openai.h.
 *
 * The shapes are those of OpenAI's schema.  Every text goes through sl_buf_add_json, so that the
 * output is JSON and UTF-8 whatever the model says. */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "protocol/openai_internal.h"

static void add_text(sl_buf *out, const char *text)
{
    sl_buf_add_json(out, text, strlen(text));
}

static void add_text_or_null(sl_buf *out, const char *text)
{
    if (text != NULL)
        add_text(out, text);
    else
        sl_buf_add_str(out, "null");
}

/* As "%u" does, but quicker: answers with logprobs hold a hundred of these a token. */
static void add_uint(sl_buf *out, uint32_t x)
{
    char text[10];
    size_t at = sizeof(text);

    do {
        text[--at] = (char)('0' + x % 10);
        x /= 10;
    } while (x > 0);
    sl_buf_add(out, text + at, sizeof(text) - at);
}

static void add_ids(sl_buf *out, const uint32_t *id, size_t count)
{
    sl_buf_add_char(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            sl_buf_add_char(out, ',');
        add_uint(out, id[i]);
    }
    sl_buf_add_char(out, ']');
}

/* --- logprobs ------------------------------------------------------------------------------ */

static void add_bytes(sl_buf *out, const char *bytes, size_t n)
{
    sl_buf_add_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            sl_buf_add_char(out, ',');
        add_uint(out, (unsigned char)bytes[i]);
    }
    sl_buf_add_char(out, ']');
}

/* "token":...,"logprob":...,"bytes":[...] */
static void add_chat_logprob(sl_buf *out, const sl_api_logprob *p)
{
    sl_buf_add_str(out, "\"token\":");
    sl_buf_add_json(out, p->bytes, p->len);
    sl_buf_add_str(out, ",\"logprob\":");
    sl_json_add_float(out, p->logprob);
    sl_buf_add_str(out, ",\"bytes\":");
    add_bytes(out, p->bytes, p->len);
}

static void add_chat_logprobs(sl_buf *out, const sl_api_token *token, size_t count)
{
    sl_buf_add_str(out, "{\"content\":[");
    for (size_t i = 0; i < count; i++) {
        sl_buf_add_str(out, i > 0 ? ",{" : "{");
        add_chat_logprob(out, &token[i].chosen);
        sl_buf_add_str(out, ",\"top_logprobs\":[");
        for (size_t k = 0; k < token[i].top_count; k++) {
            sl_buf_add_str(out, k > 0 ? ",{" : "{");
            add_chat_logprob(out, &token[i].top[k]);
            sl_buf_add_char(out, '}');
        }
        sl_buf_add_str(out, "]}");
    }
    sl_buf_add_str(out, "],\"refusal\":null}");
}

/* A token of a completions answer: its text, or OpenAI's "bytes:\xe2\x80" where it is not UTF-8. */
static void add_completion_token(sl_buf *out, const sl_api_logprob *p)
{
    if (sl_utf8_valid(p->bytes, p->len)) {
        sl_buf_add_json(out, p->bytes, p->len);
        return;
    }
    sl_buf_add_str(out, "\"bytes:");
    for (size_t i = 0; i < p->len; i++)
        sl_buf_addf(out, "\\\\x%02x", (unsigned)(unsigned char)p->bytes[i]);
    sl_buf_add_char(out, '"');
}

static void add_completion_number(sl_buf *out, float logprob)
{
    if (isnan(logprob))
        sl_buf_add_str(out, "null");
    else
        sl_json_add_float(out, logprob);
}

static bool same_token(const sl_api_logprob *a, const sl_api_logprob *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

/* An object by text: of tokens that spell the same, the first (most probable) one stays. */
static void add_completion_top(sl_buf *out, const sl_api_token *token)
{
    bool first = true;

    if (isnan(token->chosen.logprob)) {
        sl_buf_add_str(out, "null");
        return;
    }
    sl_buf_add_char(out, '{');
    for (size_t i = 0; i < token->top_count; i++) {
        size_t k = 0;

        while (k < i && !same_token(&token->top[k], &token->top[i]))
            k++;
        if (k < i)
            continue;
        if (!first)
            sl_buf_add_char(out, ',');
        add_completion_token(out, &token->top[i]);
        sl_buf_add_char(out, ':');
        sl_json_add_float(out, token->top[i].logprob);
        first = false;
    }
    sl_buf_add_char(out, '}');
}

static void add_completion_logprobs(sl_buf *out, const sl_api_token *token, size_t count)
{
    sl_buf_add_str(out, "{\"tokens\":[");
    for (size_t i = 0; i < count; i++) {
        sl_buf_add_str(out, i > 0 ? "," : "");
        add_completion_token(out, &token[i].chosen);
    }
    sl_buf_add_str(out, "],\"token_logprobs\":[");
    for (size_t i = 0; i < count; i++) {
        sl_buf_add_str(out, i > 0 ? "," : "");
        add_completion_number(out, token[i].chosen.logprob);
    }
    sl_buf_add_str(out, "],\"top_logprobs\":[");
    for (size_t i = 0; i < count; i++) {
        sl_buf_add_str(out, i > 0 ? "," : "");
        add_completion_top(out, &token[i]);
    }
    sl_buf_add_str(out, "],\"text_offset\":[");
    for (size_t i = 0; i < count; i++)
        sl_buf_addf(out, i > 0 ? ",%zu" : "%zu", token[i].text_offset);
    sl_buf_add_str(out, "]}");
}

static void add_logprobs(sl_buf *out, sl_api_kind kind, const sl_api_choice *choice)
{
    sl_buf_add_str(out, ",\"logprobs\":");
    if (choice->token == NULL)
        sl_buf_add_str(out, "null");
    else if (kind == SL_API_CHAT)
        add_chat_logprobs(out, choice->token, choice->token_count);
    else
        add_completion_logprobs(out, choice->token, choice->token_count);
}

/* --- answers ------------------------------------------------------------------------------- */

static void add_usage(sl_buf *out, const sl_api_usage *usage)
{
    sl_buf_addf(out,
                "{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu,"
                "\"prompt_tokens_details\":{\"cached_tokens\":%llu}}",
                (unsigned long long)usage->prompt_tokens,
                (unsigned long long)usage->completion_tokens,
                (unsigned long long)(usage->prompt_tokens + usage->completion_tokens),
                (unsigned long long)usage->cached_tokens);
}

/* {"id":...,"object":...,"created":...,"model":...,"system_fingerprint":...,"choices":[ */
static void add_begin(sl_buf *out, const sl_api_answer *answer, bool chunk)
{
    const char *object = answer->kind != SL_API_CHAT ? "text_completion"
                         : chunk                     ? "chat.completion.chunk"
                                                     : "chat.completion";

    sl_buf_add_str(out, "{\"id\":");
    add_text(out, answer->id);
    sl_buf_addf(out, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object,
                (long long)answer->created);
    add_text(out, answer->model);
    if (answer->fingerprint != NULL) {
        sl_buf_add_str(out, ",\"system_fingerprint\":");
        add_text(out, answer->fingerprint);
    }
    sl_buf_add_str(out, ",\"choices\":[");
}

/* What ends a choice: finish_reason, stop_reason, token_ids and the brace. */
static void add_choice_end(sl_buf *out, const sl_api_choice *choice, bool finished)
{
    sl_buf_add_str(out, ",\"finish_reason\":");
    add_text_or_null(out, finished ? choice->finish_reason : NULL);
    if (finished && choice->stop_string != NULL) {
        sl_buf_add_str(out, ",\"stop_reason\":");
        add_text(out, choice->stop_string);
    } else if (finished && choice->stop_token >= 0) {
        sl_buf_addf(out, ",\"stop_reason\":%lld", (long long)choice->stop_token);
    }
    if (choice->token_id != NULL) {
        sl_buf_add_str(out, ",\"token_ids\":");
        add_ids(out, choice->token_id, choice->token_id_count);
    }
    sl_buf_add_char(out, '}');
}

void sl_api_write_answer(sl_buf *out, const sl_api_answer *answer, const sl_api_choice *choice,
                         size_t choice_count, const sl_api_usage *usage)
{
    add_begin(out, answer, false);
    for (size_t i = 0; i < choice_count; i++) {
        sl_buf_addf(out, "%s{\"index\":%u", i > 0 ? "," : "", (unsigned)choice[i].index);
        if (answer->kind == SL_API_CHAT) {
            sl_buf_add_str(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
            sl_buf_add_json(out, choice[i].text, choice[i].text_len);
            sl_buf_add_str(out, ",\"refusal\":null}");
        } else {
            sl_buf_add_str(out, ",\"text\":");
            sl_buf_add_json(out, choice[i].text, choice[i].text_len);
        }
        add_logprobs(out, answer->kind, &choice[i]);
        add_choice_end(out, &choice[i], true);
    }
    sl_buf_add_str(out, "],\"usage\":");
    add_usage(out, usage);
    sl_buf_add_char(out, '}');
}

/* --- chunks -------------------------------------------------------------------------------- */

static void add_chunk_end(sl_buf *out, bool usage_null, const sl_api_usage *usage)
{
    sl_buf_add_char(out, ']');
    if (usage != NULL) {
        sl_buf_add_str(out, ",\"usage\":");
        add_usage(out, usage);
    } else if (usage_null) {
        sl_buf_add_str(out, ",\"usage\":null");
    }
    sl_buf_add_str(out, "}\n\n");
}

static void begin_chunk(sl_buf *out, const sl_api_answer *answer, uint32_t index)
{
    sl_buf_add_str(out, "data: ");
    add_begin(out, answer, true);
    sl_buf_addf(out, "{\"index\":%u", (unsigned)index);
}

void sl_api_write_role_chunk(sl_buf *out, const sl_api_answer *answer, uint32_t index,
                             bool usage_null)
{
    SL_ASSERT(answer->kind == SL_API_CHAT);
    begin_chunk(out, answer, index);
    sl_buf_add_str(out, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                        "\"finish_reason\":null}");
    add_chunk_end(out, usage_null, NULL);
}

void sl_api_write_text_chunk(sl_buf *out, const sl_api_answer *answer, const sl_api_choice *part,
                             bool usage_null, const sl_api_usage *running)
{
    const bool chat = answer->kind == SL_API_CHAT;

    begin_chunk(out, answer, part->index);
    sl_buf_add_str(out, chat ? ",\"delta\":{\"content\":" : ",\"text\":");
    sl_buf_add_json(out, part->text, part->text_len);
    if (chat)
        sl_buf_add_char(out, '}');
    add_logprobs(out, answer->kind, part);
    add_choice_end(out, part, false);
    add_chunk_end(out, usage_null, running);
}

void sl_api_write_finish_chunk(sl_buf *out, const sl_api_answer *answer, const sl_api_choice *part,
                               bool usage_null, const sl_api_usage *running)
{
    begin_chunk(out, answer, part->index);
    sl_buf_add_str(out, answer->kind == SL_API_CHAT ? ",\"delta\":{}" : ",\"text\":\"\"");
    sl_buf_add_str(out, ",\"logprobs\":null");
    add_choice_end(out, part, true);
    add_chunk_end(out, usage_null, running);
}

void sl_api_write_usage_chunk(sl_buf *out, const sl_api_answer *answer, const sl_api_usage *usage)
{
    sl_buf_add_str(out, "data: ");
    add_begin(out, answer, true);
    add_chunk_end(out, false, usage);
}

void sl_api_write_error_event(sl_buf *out, const sl_err *err)
{
    sl_buf_add_str(out, "data: ");
    sl_api_write_error(out, err);
    sl_buf_add_str(out, "\n\n");
}

void sl_api_write_done_event(sl_buf *out)
{
    sl_buf_add_str(out, "data: [DONE]\n\n");
}

void sl_api_write_ping(sl_buf *out)
{
    sl_buf_add_str(out, ": ping\n\n");
}

/* --- errors, models, tokens ---------------------------------------------------------------- */

void sl_api_write_error(sl_buf *out, const sl_err *err)
{
    /* What went wrong inside is for the log: texts of 5xx may name files or figures. */
    const bool internal = sl_status_http(err->status) >= 500;

    SL_ASSERT(err->status != SL_OK);
    sl_buf_add_str(out, "{\"error\":{\"message\":");
    add_text(out, internal ? sl_status_text(err->status) : err->text);
    sl_buf_add_str(out, ",\"type\":");
    add_text(out, sl_status_type(err->status));
    sl_buf_add_str(out, ",\"param\":");
    add_text_or_null(out, internal ? NULL : err->param);
    sl_buf_add_str(out, ",\"code\":");
    add_text_or_null(out, err->code);
    sl_buf_add_str(out, "}}");
}

void sl_api_write_model(sl_buf *out, const sl_api_model *model)
{
    sl_buf_add_str(out, "{\"id\":");
    add_text(out, model->id);
    sl_buf_addf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"sluice\",\"root\":",
                (long long)model->created);
    add_text_or_null(out, model->root);
    sl_buf_addf(out, ",\"parent\":null,\"max_model_len\":%u}", (unsigned)model->max_model_len);
}

void sl_api_write_models(sl_buf *out, const sl_api_model *model, size_t count)
{
    sl_buf_add_str(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            sl_buf_add_char(out, ',');
        sl_api_write_model(out, &model[i]);
    }
    sl_buf_add_str(out, "]}");
}

void sl_api_write_tokenize(sl_buf *out, const uint32_t *id, const sl_api_logprob *str, size_t count,
                           uint32_t max_model_len)
{
    sl_buf_addf(out, "{\"count\":%zu,\"max_model_len\":%u,\"tokens\":", count,
                (unsigned)max_model_len);
    add_ids(out, id, count);
    sl_buf_add_str(out, ",\"token_strs\":");
    if (str == NULL) {
        sl_buf_add_str(out, "null}");
        return;
    }
    sl_buf_add_char(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            sl_buf_add_char(out, ',');
        sl_buf_add_json(out, str[i].bytes, str[i].len);
    }
    sl_buf_add_str(out, "]}");
}

void sl_api_write_detokenize(sl_buf *out, const char *text, size_t len)
{
    sl_buf_add_str(out, "{\"prompt\":");
    sl_buf_add_json(out, text, len);
    sl_buf_add_char(out, '}');
}
