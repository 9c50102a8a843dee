/* server/prepare.c - a request's body to token ids: JSON, chat template, tokenizer, ranges.
 *
 * The job of the pool.  It has one generation to itself, and reads of the server only what never
 * changes while a model is served: the model, the names, the configuration. */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "server/server_internal.h"

enum {
    TOKENIZE_MAX = 1 << 20, /* tokens that /tokenize returns */
    LENGTH_FACTOR = 4       /* prompts are counted up to this many contexts */
};

static sl_status no_memory(sl_generation *gen)
{
    return sl_fail(&gen->err, SL_ENOMEM, "out of memory while preparing a request");
}

/* --- the model ----------------------------------------------------------------------------- */

/* The name as it may be repeated in the answer: as asked, or ours. */
static sl_status check_name(sl_generation *gen, const char *asked, const char **out)
{
    const sl_server *server = gen->server;

    *out = server->name[0];
    if (asked == NULL || asked[0] == '\0')
        return SL_OK;
    *out = asked;
    if (strcmp(asked, server->model->model_name) == 0 || strcmp(asked, server->config->model) == 0)
        return SL_OK;
    for (uint32_t i = 0; i < server->name_count; i++)
        if (strcmp(asked, server->name[i]) == 0)
            return SL_OK;
    return sl_fail_param(&gen->err, SL_ENOTFOUND, "model", "model_not_found",
                         "the model '%.100s' does not exist; this server has '%.100s'", asked,
                         server->name[0]);
}

/* --- chat ---------------------------------------------------------------------------------- */

static void add_vocab_text(sl_buf *out, const sl_tokenizer *t, const char *name, uint32_t id)
{
    sl_str text;

    if (id == SL_TOKEN_NONE)
        return;
    text = sl_tokenizer_vocab_text(t, id);
    sl_buf_addf(out, "\"%s\":", name);
    sl_buf_add_json(out, text.data, text.len);
    sl_buf_add_char(out, ',');
}

/* The variables of a rendering.  What the client may set is not trusted: its strings never become
 * control tokens. */
static void add_variables(sl_generation *gen, const char *messages, size_t messages_len,
                          bool generation_prompt, sl_buf *user, sl_buf *trusted)
{
    const sl_tokenizer *t = gen->server->model->tokenizer;
    const sl_api_request *q = &gen->request;

    sl_buf_add_str(user, "{\"messages\":");
    sl_buf_add(user, messages, messages_len);
    if (q->template_kwargs_json_len > 2) { /* more than {}: its members join ours */
        sl_buf_add_char(user, ',');
        sl_buf_add(user, q->template_kwargs_json + 1, q->template_kwargs_json_len - 2);
    }
    sl_buf_add_char(user, '}');
    sl_buf_add_char(trusted, '{');
    add_vocab_text(trusted, t, "bos_token", sl_tokenizer_bos(t));
    add_vocab_text(trusted, t, "eos_token", sl_tokenizer_eos(t));
    /* Absent tools are none, not undefined: templates ask "is not none". */
    sl_buf_addf(trusted, "\"tools\":null,\"documents\":null,\"add_generation_prompt\":%s}",
                generation_prompt ? "true" : "false");
}

/* Drop what the template wrote behind the last message, so that the model goes on with it. */
static void cut_behind_user_text(sl_template_output *out)
{
    while (out->run_count > 0 && !out->run[out->run_count - 1].user)
        out->run_count--;
    if (out->run_count > 0)
        out->text.len = out->run[out->run_count - 1].end;
}

static sl_status encode_output(sl_generation *gen, const sl_template_output *text,
                               sl_token_list *list)
{
    sl_text_piece *piece = sl_alloc(text->run_count, sizeof(*piece));
    sl_status status;
    size_t at = 0;

    if (piece == NULL)
        return no_memory(gen);
    for (size_t i = 0; i < text->run_count; i++) {
        piece[i] = (sl_text_piece){.data = text->text.data + at,
                                   .len = text->run[i].end - at,
                                   .special = !text->run[i].user};
        at = text->run[i].end;
    }
    status = sl_tokenizer_encode(gen->server->model->tokenizer, piece, text->run_count, true, list,
                                 &gen->err);
    sl_free(piece);
    return status;
}

/* Messages to tokens. */
static sl_status encode_chat(sl_generation *gen, const char *messages, size_t messages_len,
                             bool generation_prompt, sl_token_list *list)
{
    const sl_template *template = gen->server->model->chat_template;
    sl_template_output text;
    sl_buf user, trusted;
    sl_status status;

    if (template == NULL)
        return sl_fail_param(&gen->err, SL_EINVAL, "messages", "no_chat_template",
                             "this model's file has no chat template: start the server with "
                             "--chat-template FILE, or use /v1/completions");
    sl_template_output_init(&text);
    sl_buf_init(&user, 2 * (size_t)SL_JSON_MEMORY_MAX);
    sl_buf_init(&trusted, 64 << 10);
    add_variables(gen, messages, messages_len, generation_prompt, &user, &trusted);
    if (user.failed || trusted.failed) {
        status = no_memory(gen);
    } else {
        const sl_template_args args = {.user_json = user.data,
                                       .user_json_len = user.len,
                                       .trusted_json = trusted.data,
                                       .trusted_json_len = trusted.len,
                                       .now_unix_s = sl_clock_unix_s()};

        status = sl_template_render(template, &args, &text, &gen->err);
    }
    if (status == SL_OK) {
        if (gen->request.continue_final_message)
            cut_behind_user_text(&text);
        status = encode_output(gen, &text, list);
    }
    sl_template_output_done(&text);
    sl_buf_done(&user);
    sl_buf_done(&trusted);
    return status;
}

/* --- prompts ------------------------------------------------------------------------------- */

static const char *prompt_field(const sl_generation *gen)
{
    return gen->request.kind == SL_API_CHAT ? "messages" : "prompt";
}

/* Room for at least one token of an answer must be left. */
static sl_status check_length(sl_generation *gen, sl_status status, size_t count)
{
    const uint32_t context = gen->server->model->context_max;

    if (status == SL_ETOOLONG || (status == SL_OK && count >= context))
        return sl_fail_param(&gen->err, SL_ETOOLONG, prompt_field(gen), "context_length_exceeded",
                             "the prompt has %s%zu tokens, the model's maximum context length is "
                             "%u tokens, answer included",
                             status == SL_ETOOLONG ? "more than " : "", count, context);
    if (status == SL_OK && count == 0)
        return sl_fail_param(&gen->err, SL_EINVAL, prompt_field(gen), "empty_prompt",
                             "the prompt is empty");
    return status;
}

static sl_status check_ids(sl_generation *gen, const uint32_t *id, size_t count, const char *param)
{
    const uint32_t vocab = sl_tokenizer_vocab(gen->server->model->tokenizer);

    for (size_t i = 0; i < count; i++)
        if (id[i] >= vocab)
            return sl_fail_param(&gen->err, SL_EINVAL, param, "invalid_token",
                                 "'%s': token %u is outside the vocabulary of %u", param, id[i],
                                 vocab);
    return SL_OK;
}

static sl_status take_ids(sl_generation *gen, const sl_api_prompt *in, sl_prompt *out)
{
    sl_status status = check_length(gen, SL_OK, in->id_count);

    if (status == SL_OK)
        status = check_ids(gen, in->id, in->id_count, "prompt");
    if (status != SL_OK)
        return status;
    out->id = (uint32_t *)(uintptr_t)in->id;
    out->count = (uint32_t)in->id_count;
    if (gen->request.echo) {
        sl_buf text;

        sl_buf_init(&text, SL_TOKENIZER_TEXT_MAX);
        sl_tokenizer_decode_all(gen->server->model->tokenizer, in->id, in->id_count,
                                !gen->request.skip_special_tokens, &text);
        out->echo = sl_arena_strndup(&gen->arena, text.data != NULL ? text.data : "", text.len);
        out->echo_len = text.len;
        if (text.failed || out->echo == NULL)
            status = no_memory(gen);
        sl_buf_done(&text);
    }
    return status;
}

static sl_status take_text(sl_generation *gen, const sl_api_prompt *in, sl_prompt *out)
{
    const sl_text_piece piece = {.data = in->text, .len = in->text_len, .special = false};
    sl_token_list list = {.limit = (size_t)LENGTH_FACTOR * gen->server->model->context_max};
    sl_status status;

    status = sl_tokenizer_encode(gen->server->model->tokenizer, &piece, 1, true, &list, &gen->err);
    status = check_length(gen, status, list.count);
    out->id = list.id;
    out->owned = true;
    out->count = (uint32_t)list.count;
    out->echo = gen->request.echo ? in->text : NULL;
    out->echo_len = in->text_len;
    return status;
}

static sl_status take_messages(sl_generation *gen, sl_prompt *out)
{
    const sl_api_request *q = &gen->request;
    sl_token_list list = {.limit = (size_t)LENGTH_FACTOR * gen->server->model->context_max};
    sl_status status =
        encode_chat(gen, q->messages_json, q->messages_json_len, q->add_generation_prompt, &list);

    status = check_length(gen, status, list.count);
    out->id = list.id;
    out->owned = true;
    out->count = (uint32_t)list.count;
    return status;
}

/* --- the rest of a request ----------------------------------------------------------------- */

static sl_status check_parameters(sl_generation *gen)
{
    const sl_api_request *q = &gen->request;
    const uint32_t vocab = sl_tokenizer_vocab(gen->server->model->tokenizer);

    if (q->kind == SL_API_COMPLETION && q->echo && q->logprobs)
        return sl_fail_param(&gen->err, SL_EINVAL, "logprobs", "unsupported_parameter",
                             "'logprobs' together with 'echo' would need logprobs of the prompt, "
                             "which are not served yet");
    for (size_t i = 0; i < q->bias_count; i++)
        if (q->bias[i].token < 0 || q->bias[i].token >= vocab)
            return sl_fail_param(&gen->err, SL_EINVAL, "logit_bias", "invalid_token",
                                 "'logit_bias': token %lld is outside the vocabulary of %u",
                                 (long long)q->bias[i].token, vocab);
    return check_ids(gen, q->stop_id, q->stop_id_count, "stop_token_ids");
}

static void set_lengths(sl_generation *gen)
{
    for (uint32_t i = 0; i < gen->prompt_count; i++) {
        const uint32_t room = gen->server->model->context_max - gen->prompt[i].count;
        const int64_t asked = gen->request.max_tokens;

        /* A maximum beyond the context is cut: "at most" still holds. */
        gen->max_tokens[i] = asked < 0 || asked > room ? room : (uint32_t)asked;
    }
}

static sl_status prepare_generation(sl_generation *gen)
{
    sl_api_request *q = &gen->request;
    sl_status status;

    status = sl_api_read(gen->route == SL_ROUTE_CHAT ? SL_API_CHAT : SL_API_COMPLETION,
                         gen->body.len > 0 ? gen->body.data : "", gen->body.len,
                         gen->server->config->strict_params, &gen->arena, q, &gen->err);
    if (status == SL_OK)
        status = check_name(gen, q->model, &gen->answer.model);
    if (status == SL_OK)
        status = check_parameters(gen);
    if (status == SL_OK && q->kind == SL_API_CHAT) {
        gen->prompt_count = 1;
        status = take_messages(gen, &gen->prompt[0]);
    }
    for (size_t i = 0; status == SL_OK && i < q->prompt_count; i++) {
        gen->prompt_count++;
        status = q->prompt[i].text != NULL ? take_text(gen, &q->prompt[i], &gen->prompt[i])
                                           : take_ids(gen, &q->prompt[i], &gen->prompt[i]);
    }
    if (status == SL_OK)
        set_lengths(gen);
    return status;
}

/* --- tokenize and detokenize --------------------------------------------------------------- */

/* The vocabulary's own texts, which the reply shows beside the ids. */
static sl_status write_tokens(sl_generation *gen, const sl_token_list *list)
{
    const sl_tokenizer *t = gen->server->model->tokenizer;
    sl_api_logprob *str = NULL;

    if (gen->tokenize.return_token_strs) {
        str = sl_alloc(list->count, sizeof(*str));
        if (str == NULL)
            return no_memory(gen);
        for (size_t i = 0; i < list->count; i++) {
            const sl_str text = sl_tokenizer_vocab_text(t, list->id[i]);

            str[i] = (sl_api_logprob){.bytes = text.data, .len = text.len, .token = list->id[i]};
        }
    }
    sl_api_write_tokenize(&gen->reply, list->id, str, list->count, gen->server->model->context_max);
    sl_free(str);
    return SL_OK;
}

static sl_status tokenize(sl_generation *gen)
{
    const sl_api_tokenize *q = &gen->tokenize;
    const sl_text_piece piece = {.data = q->prompt, .len = q->prompt_len, .special = false};
    sl_token_list list = {.limit = TOKENIZE_MAX};
    sl_status status;

    if (q->prompt != NULL)
        status = sl_tokenizer_encode(gen->server->model->tokenizer, &piece, 1,
                                     q->add_special_tokens, &list, &gen->err);
    else
        status = encode_chat(gen, q->messages_json, q->messages_json_len, q->add_generation_prompt,
                             &list);
    if (status == SL_OK)
        status = write_tokens(gen, &list);
    sl_free(list.id);
    return status;
}

static sl_status detokenize(sl_generation *gen)
{
    const sl_api_tokenize *q = &gen->tokenize;
    sl_status status = check_ids(gen, q->token, q->token_count, "tokens");
    sl_buf text;

    if (status != SL_OK)
        return status;
    sl_buf_init(&text, 2 * (size_t)SL_TOKENIZER_TEXT_MAX);
    sl_tokenizer_decode_all(gen->server->model->tokenizer, q->token, q->token_count, true, &text);
    if (text.failed)
        status = no_memory(gen);
    else
        sl_api_write_detokenize(&gen->reply, text.data != NULL ? text.data : "", text.len);
    sl_buf_done(&text);
    return status;
}

static sl_status prepare_tokens(sl_generation *gen)
{
    const bool backwards = gen->route == SL_ROUTE_DETOKENIZE;
    sl_status status;

    status = sl_api_read_tokenize(gen->body.len > 0 ? gen->body.data : "", gen->body.len, backwards,
                                  &gen->arena, &gen->tokenize, &gen->err);
    if (status == SL_OK)
        status = check_name(gen, gen->tokenize.model, &gen->answer.model);
    if (status == SL_OK)
        status = backwards ? detokenize(gen) : tokenize(gen);
    if (status == SL_OK && gen->reply.failed)
        status = no_memory(gen);
    return status;
}

void sl_prepare(sl_generation *gen)
{
    if (gen->route == SL_ROUTE_CHAT || gen->route == SL_ROUTE_COMPLETIONS)
        gen->status = prepare_generation(gen);
    else
        gen->status = prepare_tokens(gen);
    sl_buf_done(&gen->body);
}
